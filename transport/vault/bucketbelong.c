/* SPDX-License-Identifier: Apache-2.0
 *
 * See bucketbelong.h. The mark stands at the end of what the bucket has of its last segment (or before the seal), so a few kilobytes are fetched to find it.
 */
#include "transport/vault/bucketbelong.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/bytes.h"
#include "transport/base/log.h"
#include "transport/log/mark.h"
#include "transport/log/segment.h"
#include "transport/vault/upload_private.h"

enum {
    TAIL_BYTES = RECORD_HEADER_SIZE + MARK_PAYLOAD_MAX + 4096, /* the mark, and a seal behind it */
    META_CREATED = 40,                                         /* offset in meta */
};

static int is_another(struct err *err, const char *what)
{
    (void)err_set(err, ERR_CONFLICT, "%s", what);
    return err_hint(err,
        "rebuild a vault from the bucket if it has what you need; then give this vault another prefix in its "
        "bucket URL, or delete the machine's objects");
}

/* ---- the mark in the bucket ---- */

/* Bytes [from, f->bytes) of a file; none when an object of it is missing or cut off, which is damage and not another history. */
static int read_tail(
    const struct bucketbelong *b, const struct bucket_file *f, uint64_t from, struct buf *out, struct err *err)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct bucket_piece *p = &f->pieces[i];
        const struct bucket_entry e = bucketstate_entry(f, p);
        char name[BUCKETMARK_NAME_SIZE];
        uint64_t at = from > p->offset ? from - p->offset : 0;
        if (at >= p->bytes)
            continue;
        bucketmark_piece_name(&b->state->machine, &e, name);
        size_t before = out->len;
        int found = object_get(b->objects, name, at, p->bytes - at, out, err);
        if (found < 0)
            return -1;
        if (found == 0 || out->len - before != p->bytes - at) {
            log_event(LOG_ERROR, "bucket_object_damaged", LOG_S("object", name));
            buf_clear(out);
            return 0;
        }
    }
    return 0;
}

static bool is_mark_at(const uint8_t *p, size_t n, uint64_t sequence, struct mark *m)
{
    struct record r;

    return n >= RECORD_HEADER_SIZE && record_decode_header(p, RECORD_HEADER_SIZE, &r, NULL) == 0 &&
           r.kind == RECORD_MARK && r.stored <= n - RECORD_HEADER_SIZE &&
           mark_decode(&r, p + RECORD_HEADER_SIZE, m, NULL) == 0 && m->sequence == sequence;
}

/* The record of the newest mark: 1 and where it begins in `tail`; 0: it is not there. */
static int find_mark(const struct buf *tail, uint64_t sequence, size_t *ret_at, struct err *err)
{
    AUTO_FREE struct mark *m = mem_new(struct mark);

    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark");
    for (size_t at = tail->len; at-- > 0;) {
        if (!is_mark_at(tail->data + at, tail->len - at, sequence, m))
            continue;
        *ret_at = at;
        return 1;
    }
    return 0;
}

/* ---- and in the vault's log ---- */

/* 1: it is this record, whose header has the hash of all that it says; 0: there is no header; -1: it is another one. */
static int compare_mark(const struct segment_reader *ours, uint64_t place, const uint8_t *theirs)
{
    uint8_t header[RECORD_HEADER_SIZE];
    struct record r;

    if (segment_pread(ours, place, &r, NULL, 0, NULL) < 0)
        return 0;
    record_encode_header(&r, header);
    return memcmp(header, theirs, sizeof(header)) == 0 ? 1 : -1;
}

/* Is the last of the pieces what our file has there? Nothing grows together again that once went apart. */
static int compare_last_piece(
    const struct bucketbelong *b, const struct bucket_file *f, uint64_t number, struct err *err)
{
    const struct bucket_piece *p = &f->pieces[f->count - 1];
    struct hash128 hash;
    struct stat st;
    char name[SEGMENT_NAME_SIZE];

    segment_name(number, name);
    AUTO_CLOSE int fd = openat(b->main_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "opening segment %s", name);
    if ((uint64_t)st.st_size < p->offset + p->bytes)
        return is_another(err, "the bucket holds a longer log of this machine than the vault");
    if (upload_hash(fd, p->offset, p->bytes, &hash, err) < 0)
        return -1;
    return hash_equal(&hash, &p->hash) ? 1
                                       : is_another(err, "the bucket holds another log of this machine than the vault");
}

static int compare_tail(
    const struct bucketbelong *b, const struct bucket_file *f, const struct segment_reader *ours, struct err *err)
{
    AUTO_BUF struct buf tail = BUF_INIT(TAIL_BYTES);
    uint64_t from = f->bytes > TAIL_BYTES ? f->bytes - TAIL_BYTES : 0;
    size_t at = 0;
    bool is_rewritten = segment_reader_info(ours)->revision > 0;

    if (read_tail(b, f, from, &tail, err) < 0)
        return -1;
    int found = find_mark(&tail, b->state->last.committed.sequence, &at, err);
    if (found < 0)
        return -1;
    int same = found == 0 ? 0 : compare_mark(ours, from + at, tail.data + at);
    if (same < 0)
        return is_another(err, "the bucket holds another log of this machine than the vault");
    if (same > 0 || is_rewritten)
        return same;
    same = compare_last_piece(b, f, f->number, err);
    if (same < 0 &&
        segment_reader_is_stale(ours)) { /* compaction goes on beside this: it was another file that was compared */
        err_clear(err);
        return 0;
    }
    return same;
}

/* Has the vault had this change set, as far as that segment of it tells? */
static bool has_had(const struct segment_reader *ours, uint64_t sequence)
{
    const struct segment_info *info = segment_reader_info(ours);

    return info->revision > 0 && info->last_sequence >= sequence;
}

static int is_lost(struct err *err)
{
    return is_another(err, "the bucket holds change sets of this machine that the vault has lost");
}

int bucketbelong_check(const struct bucketbelong *b, struct err *err)
{
    const struct bucketmark *last = &b->state->last;
    const struct bucket_file *tail = bucketstate_find(b->state, BUCKET_SEGMENT, last->committed.segment);
    struct segment_reader *ours AUTO_OF(segment_reader) = NULL;
    struct err why = ERR_INIT;

    if (get_le64(last->meta + META_CREATED) != b->created_utc_usec)
        return is_another(err, "the bucket holds another life of this machine, made with another key");
    bool is_newer = last->committed.sequence > b->committed; /* sent since `committed` was read, or lost here */
    if (tail == NULL || segment_open(b->main_fd, tail->number, &ours, NULL) < 0)
        return is_newer ? is_lost(err) : 0; /* gone, or nothing of it can be read */
    int same = compare_tail(b, tail, ours, &why);
    bool is_unproved = same == 0 || (same < 0 && why.code == ERR_CONFLICT);
    if (is_newer && is_unproved && !has_had(ours, last->committed.sequence))
        return is_lost(err);
    if (same < 0)
        err_copy(err, &why);
    return same;
}
