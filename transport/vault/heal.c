/* SPDX-License-Identifier: Apache-2.0
 *
 * See heal.h. A header is 60 bytes under a checksum of 32 bits: of the 512 headers with one bit flipped and the 130,816 with two, at
 * most one is expected to fit by chance in 30,000 damaged headers, and the AES-GCM tag, which covers the header, refuses that one.
 */
#include "transport/vault/heal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/mem.h"
#include "transport/log/segment.h"
#include "transport/vault/view.h"

#define HEADER_BITS (RECORD_HEADER_SIZE * 8)
#define CHECK_AT 60

/* What one attempt needs. */
struct attempt {
    const struct damagehit *h;
    struct quarantine_item *item;
    struct seal_work *work;
    uint8_t *payload, *plain;
};

static int attempt_init(struct attempt *a, struct err *err)
{
    a->work = seal_work_new();
    a->payload = mem_alloc(1, RECORD_STORED_MAX);
    a->plain = mem_alloc(1, RECORD_BLOCK_SIZE);
    return a->work == NULL || a->payload == NULL || a->plain == NULL ? err_set(err, ERR_NOMEM, "no memory to heal") : 0;
}

static void attempt_done(struct attempt *a)
{
    seal_work_free(a->work);
    free(a->payload);
    free(a->plain);
}

/* ---- its own header ---- */

static void flip(uint8_t *header, unsigned bit)
{
    header[bit / 8] = (uint8_t)(header[bit / 8] ^ (1u << (bit % 8)));
}

static bool header_fits(const uint8_t *header, struct record *ret_record)
{
    return get_le32(header + CHECK_AT) == hash_32(header, CHECK_AT) &&
           record_decode_header(header, RECORD_HEADER_SIZE, ret_record, NULL) == 0;
}

/* One bit, or two. */
static bool header_repair(uint8_t *header, struct record *ret_record)
{
    for (unsigned i = 0; i < HEADER_BITS; i++) {
        flip(header, i);
        if (header_fits(header, ret_record))
            return true;
        for (unsigned j = i + 1; j < HEADER_BITS; j++) {
            flip(header, j);
            if (header_fits(header, ret_record))
                return true;
            flip(header, j);
        }
        flip(header, i);
    }
    return false;
}

/* Of a segment that was not rewritten; in another one no header fits there. */
static ssize_t read_segment(const struct attempt *a, uint64_t offset, uint8_t *out, size_t n)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(a->item->segment, name);
    char *path AUTO_FREE = mem_printf("%s/main/%s", a->h->machine_dir, name);
    int fd AUTO_CLOSE = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -1 : pread(fd, out, n, (off_t)offset);
}

static bool covers(const struct record *r, const struct quarantine_item *i)
{
    return r->kind == RECORD_DATA && r->disk == i->disk && r->start <= i->start &&
           r->start + r->length >= i->start + i->length;
}

static int by_header(struct attempt *a, struct mend_nonce *nonce, struct err *err)
{
    uint8_t header[RECORD_HEADER_SIZE];
    struct record r;
    struct quarantine_item *i = a->item;
    if (read_segment(a, i->offset, header, sizeof(header)) != sizeof(header) || !header_repair(header, &r) ||
        !covers(&r, i) || read_segment(a, i->offset + sizeof(header), a->payload, r.stored) != (ssize_t)r.stored ||
        seal_open(a->work, &r, a->payload, keyring_key(&a->h->keys, r.nonce_stream), a->plain, NULL) < 0)
        return 0;
    return mend_store(a->h->machine_dir, i->segment, i->offset, r.disk, r.start, a->plain, (uint32_t)r.length,
               &a->h->keys, nonce, err) < 0
               ? -1
               : 1;
}

/* ---- the newest content ---- */

static int by_newest(struct attempt *a, struct mend_nonce *nonce, struct err *err)
{
    struct view *v AUTO_OF(view) = NULL;
    struct mark *mark AUTO_FREE = mem_new(struct mark);
    struct quarantine_item *i = a->item;
    struct hash128 hash;
    if (mark == NULL)
        return err_set(err, ERR_NOMEM, "no memory to heal");
    *mark = (struct mark){.sequence = a->h->newest, .disk_count = 1};
    mark->disks[0] = (struct mark_disk){.number = i->disk, .size_bytes = i->start + i->length};
    if (view_open_mark(a->h->machine_dir, mark, &a->h->keys, RECORD_BLOCK_SIZE, &v, err) < 0)
        return -1;
    if (view_read(v, i->disk, i->start, i->length, a->plain, NULL) < 0)
        return 0; /* damaged too */
    hash_128(a->plain, i->length, &hash);
    if (!hash_equal(&hash, &i->hash))
        return 0; /* the source has overwritten it since */
    return mend_store(a->h->machine_dir, i->segment, i->offset, i->disk, i->start, a->plain, (uint32_t)i->length,
               &a->h->keys, nonce, err) < 0
               ? -1
               : 1;
}

/* ---- the second copy ---- */

static int by_copy(struct attempt *a, const struct heal_copy *copy, struct mend_nonce *nonce, struct err *err)
{
    struct record r;
    const struct quarantine_item *i = a->item;
    if (copy == NULL || copy->read(copy->arg, i->segment, i->offset, &r, a->payload, NULL) <= 0 || !covers(&r, i) ||
        r.cipher == RECORD_PLAIN || (i->has_hash && !hash_equal(&r.hash, &i->hash)) ||
        seal_open(a->work, &r, a->payload, keyring_key(&a->h->keys, r.nonce_stream), a->plain, NULL) < 0)
        return 0;
    return mend_store(a->h->machine_dir, i->segment, i->offset, r.disk, r.start, a->plain, (uint32_t)r.length,
               &a->h->keys, nonce, err) < 0
               ? -1
               : 1;
}

/* Nothing stands for a mark or a seal but itself: the segment is put back. */
static int whole_segment(struct quarantine_item *item, const struct heal_copy *copy)
{
    if (copy == NULL || copy->restore(copy->arg, item->segment, item->end != 0, NULL) <= 0)
        return 0;
    item->state = QUARANTINE_HEALED;
    item->restored = true;
    item->now = false;
    return 1;
}

int heal_item(const struct damagehit *h, struct quarantine_item *item, const struct heal_copy *copy,
    struct mend_nonce *nonce, struct err *err)
{
    struct attempt a = {.h = h, .item = item};
    int result = 0;
    if ((item->kind == VERIFY_LOG || item->kind == VERIFY_MARK) && item->state != QUARANTINE_HEALED)
        return whole_segment(item, copy);
    if (item->state == QUARANTINE_HEALED || item->length == 0 || item->length > RECORD_BLOCK_SIZE)
        return 0;
    result = attempt_init(&a, err);
    if (result == 0 && item->kind == VERIFY_HEADERS)
        result = by_header(&a, nonce, err);
    if (result == 0 && item->has_hash && !item->now)
        result = by_newest(&a, nonce, err);
    if (result == 0)
        result = by_copy(&a, copy, nonce, err);
    attempt_done(&a);
    if (result > 0) {
        item->state = QUARANTINE_HEALED;
        item->now = false;
    }
    return result;
}

bool heal_may_be_given(const struct quarantine_item *item)
{
    return item->state == QUARANTINE_DAMAGED && item->has_hash && item->length > 0 && item->length <= RECORD_BLOCK_SIZE;
}

int heal_with(const struct damagehit *h, struct quarantine_item *item, const uint8_t *plain, size_t length,
    struct mend_nonce *nonce, struct err *err)
{
    struct hash128 hash;
    if (!heal_may_be_given(item) || item->length != length)
        return 0;
    hash_128(plain, length, &hash);
    if (!hash_equal(&hash, &item->hash))
        return 0;
    if (mend_store(h->machine_dir, item->segment, item->offset, item->disk, item->start, plain, (uint32_t)length,
            &h->keys, nonce, err) < 0)
        return -1;
    item->state = QUARANTINE_HEALED;
    item->now = false;
    return 1;
}
