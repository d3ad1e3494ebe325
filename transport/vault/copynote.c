/* SPDX-License-Identifier: Apache-2.0
 *
 * The file `copied` (FORMAT.md).
 */
#include <stdio.h>
#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/vault/copypass_private.h"

#define NOTE_MAGIC "LWCOP\0\0\1"
#define NOTE_SIZE 112u
#define NOTE_HASH (NOTE_SIZE - HASH_SIZE)
#define COUNT_BYTES (64u << 10) /* of messages: looks at a vault that is away are not worth a write each */

static char *path_of(const struct store *s)
{
    return mem_printf("%s/copied", store_dir(s));
}

int copy_note_store(const struct store *s, const struct copy_held *h, struct err *err)
{
    uint8_t out[NOTE_SIZE] = {0};
    char *path AUTO_FREE = path_of(s);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a copy");
    memcpy(out, NOTE_MAGIC, 8);
    memcpy(out + 8, h->source.bytes, IDENT_SIZE);
    put_le64(out + 24, h->source_sequence);
    put_le64(out + 32, h->time_utc_usec);
    put_le64(out + 40, h->source_generation);
    put_le64(out + 48, h->changed_bytes);
    put_le64(out + 56, h->sequence);
    put_le64(out + 64, h->epoch);
    put_le64(out + 72, h->counts.taken_bytes);
    put_le64(out + 80, h->counts.traffic_bytes);
    hash_seal(out, NOTE_HASH);
    return file_replace(path, out, sizeof(out), 0600, err);
}

static bool note_load(const struct store *s, struct copy_held *h)
{
    struct buf content AUTO_BUF = BUF_INIT(4096);
    char *path AUTO_FREE = path_of(s);
    if (path == NULL || file_read(path, &content, NULL) < 0 || content.len != NOTE_SIZE ||
        memcmp(content.data, NOTE_MAGIC, 8) != 0)
        return false;
    if (!hash_is_sealed(content.data, NOTE_SIZE))
        return false;
    *h = (struct copy_held){.source_sequence = get_le64(content.data + 24),
        .time_utc_usec = get_le64(content.data + 32),
        .source_generation = get_le64(content.data + 40),
        .changed_bytes = get_le64(content.data + 48),
        .sequence = get_le64(content.data + 56),
        .epoch = get_le64(content.data + 64),
        .counts = {.taken_bytes = get_le64(content.data + 72), .traffic_bytes = get_le64(content.data + 80)}};
    memcpy(h->source.bytes, content.data + 8, IDENT_SIZE);
    return true;
}

void copy_tag(const struct copy_held *base, char tag[MARK_TAG_MAX + 1])
{
    (void)snprintf(tag, MARK_TAG_MAX + 1, "copy %llu %llu", base->known ? (unsigned long long)base->sequence : 0,
        base->known ? (unsigned long long)base->epoch : 0);
}

/* Does the log end with that point, or with passes behind it that did not come to their own? An epoch is never used twice, so sequence and epoch name
 * one mark. */
static bool log_has(const struct store *s, const struct copy_held *h)
{
    const struct mark *last = store_last_mark(s);
    char tag[MARK_TAG_MAX + 1];
    struct copy_held known = *h;
    if (last == NULL || last->sequence < h->sequence)
        return false;
    if (mark_is_point(last))
        return last->sequence == h->sequence && last->epoch == h->epoch;
    known.known = true;
    copy_tag(&known, tag);
    return strcmp(last->tag, tag) == 0;
}

void copy_held_load(const struct store *s, const struct ident *source, struct copy_held *ret_held)
{
    *ret_held = (struct copy_held){0};
    if (note_load(s, ret_held))
        ret_held->known = ident_equal(&ret_held->source, source) && log_has(s, ret_held);
}

int copy_held_count(const struct store *s, struct copy_held *held, struct copy_counts *unnoted, struct err *err)
{
    struct copy_held more = *held;
    if (unnoted->taken_bytes == 0 && unnoted->traffic_bytes < COUNT_BYTES)
        return 0;
    more.counts.taken_bytes += unnoted->taken_bytes;
    more.counts.traffic_bytes += unnoted->traffic_bytes;
    if (copy_note_store(s, &more, err) < 0)
        return -1;
    *held = more;
    *unnoted = (struct copy_counts){0};
    return 0;
}
