/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking in a batch: each record is checked (header, limits, encryption, and the hash of its plaintext, P5), written as it
 * came, and remembered as pending. A mark that fits what is pending is written behind it; one fdatasync later the change set
 * exists, and only then do index and points learn of it.
 *
 * Whatever goes wrong, the segment is cut back to the last mark and what is pending is forgotten: what is committed is never
 * touched. If even that fails the store is broken and must be opened again.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>

#include "transport/base/clock.h"
#include "transport/base/crashpoint.h"
#include "transport/vault/store_private.h"

/* Offsets in the index have 32 bits; one change set must not make a segment longer than that. */
#define SEGMENT_BYTES_MAX 0xE0000000ULL

/* Extents of one change set: 160 MB of memory, and far more than a sender lets it grow to. */
#define PENDING_MAX (4u << 20)

int store_pending_add(struct store *s, const struct record *r, uint64_t segment, uint64_t offset, struct err *err)
{
    struct store_pending *p = &s->pending;
    struct record rest = *r;
    do {
        if (p->count >= PENDING_MAX) {
            (void)err_set(err, ERR_TOO_LARGE, "a change set has more than %u records", PENDING_MAX);
            return err_hint(err, "the sender must commit it in parts, by progress marks");
        }
        if (p->count == p->cap) {
            size_t cap = p->cap == 0 ? 1024 : p->cap * 2;
            struct extent *items = mem_resize(p->items, cap, sizeof(*items));
            if (items == NULL)
                return err_set(err, ERR_NOMEM, "no memory for a change set of %zu records", cap);
            p->items = items;
            p->cap = cap;
        }
        struct extent e = extent_from_record(&rest, 0, (uint32_t)segment, (uint32_t)offset);
        p->items[p->count++] = e;
        rest.start += (uint64_t)e.sectors * RECORD_SECTOR;
        rest.length -= (uint64_t)e.sectors * RECORD_SECTOR;
    } while (rest.length > 0);
    p->records++;
    p->bytes += r->length;
    record_digest_add(p->digest, r);
    return 0;
}

void store_pending_clear(struct store *s)
{
    s->pending.count = 0;
    s->pending.records = 0;
    s->pending.bytes = 0;
    record_digest_reset(s->pending.digest);
}

int store_pending_check(struct store *s, const struct mark *m, struct err *err)
{
    struct hash128 digest;
    record_digest_get(s->pending.digest, &digest);
    if (!ident_equal(&m->machine, &s->machine))
        return err_set(
            err, ERR_CORRUPT, "the mark of change set %llu is another machine's", (unsigned long long)m->sequence);
    if (m->record_count != s->pending.records || m->changed_bytes != s->pending.bytes ||
        !hash_equal(&m->digest, &digest))
        return err_set(err, ERR_CORRUPT, "change set %llu is not what its mark says (%llu records, %llu in the mark)",
            (unsigned long long)m->sequence, (unsigned long long)s->pending.records,
            (unsigned long long)m->record_count);
    return 0;
}

/* Was the point dropped, and what it needs taken out of the log? */
static bool is_lost(const struct store *s, uint64_t sequence)
{
    size_t low = 0;
    size_t high = s->lost_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->lost[mid].before <= sequence)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->lost_count && s->lost[low].from <= sequence;
}

static int apply_pending(struct store *s, uint64_t sequence, struct err *err)
{
    for (size_t i = 0; i < s->pending.count; i++) {
        s->pending.items[i].sequence = sequence;
        if (memtable_insert(&s->memtable, &s->pending.items[i], &s->points, err) < 0)
            return -1;
    }
    return 0;
}

int store_apply_end(struct store *s, uint64_t sequence, uint64_t segment, uint64_t end, struct err *err)
{
    if (apply_pending(s, sequence, err) < 0)
        return -1;
    s->committed = (struct log_position){sequence, segment, end};
    store_pending_clear(s);
    return 0;
}

static int apply_point(struct store *s, const struct mark *m, uint64_t segment, uint64_t mark_offset,
    uint64_t committed_utc_usec, struct err *err)
{
    struct point p;
    if ((m->flags & MARK_FIRST) != 0)
        s->had_first = true;
    if (!mark_is_point(m) || !s->had_first || is_lost(s, m->sequence))
        return 0;
    pointlist_from_mark(m, (uint32_t)segment, (uint32_t)mark_offset, committed_utc_usec, &p);
    return pointlist_add(&s->points, &p, err);
}

int store_apply(struct store *s, const struct mark *m, uint64_t segment, uint64_t mark_offset, uint64_t end,
    uint64_t committed_utc_usec, struct err *err)
{
    if (apply_pending(s, m->sequence, err) < 0)
        return -1;
    if (apply_point(s, m, segment, mark_offset, committed_utc_usec, err) < 0)
        return -1;
    s->last_mark = *m;
    s->committed = (struct log_position){m->sequence, segment, end};
    store_pending_clear(s);
    return 0;
}

static int check_space(struct store *s, size_t n, struct err *err)
{
    struct statvfs vfs;
    if (fstatvfs(s->main_fd, &vfs) < 0)
        return err_sys(err, errno, "looking at the free space of the vault");
    uint64_t free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    if (free_bytes >= s->reserve_bytes + n)
        return 0;
    (void)err_set(err, ERR_NOSPACE, "the vault's disk is full: %llu MiB free, %llu MiB are kept in reserve",
        (unsigned long long)(free_bytes >> 20), (unsigned long long)(s->reserve_bytes >> 20));
    return err_hint(err, "make the vault's disk larger or shorten the retention; replication goes on by itself then");
}

static int check_record(struct store *s, const struct record *r, const uint8_t *payload, struct err *err)
{
    if (r->start > EXTENT_DISK_BYTES_MAX || r->length > EXTENT_DISK_BYTES_MAX - r->start)
        return err_set(err, ERR_INVALID, "a record lies behind the largest possible disk");
    if (r->kind == RECORD_ZERO)
        return 0;
    if (r->cipher != RECORD_AES256GCM)
        return err_set(err, ERR_INVALID, "a record came to the vault without encryption");
    if (r->nonce_stream == 0 || (s->meta.next_nonce_stream != 0 && r->nonce_stream >= s->meta.next_nonce_stream))
        return err_set(err, ERR_INVALID, "a record uses nonce stream %u, which was never handed out", r->nonce_stream);
    if (seal_open(s->work, r, payload, keyring_key(&s->keys, r->nonce_stream), s->scratch, err) == 0)
        return 0;
    return err != NULL && err->code == ERR_DENIED
               ? err_set(err, ERR_CORRUPT, "a record came damaged or under another key: its tag does not fit")
               : -1;
}

static int check_mark(struct store *s, const struct record *r, const uint8_t *payload, struct mark *m, struct err *err)
{
    if (mark_decode(r, payload, m, err) < 0)
        return -1;
    if (m->sequence != s->committed.sequence + 1)
        return err_set(err, ERR_REFUSED, "change set %llu came where %llu is expected", (unsigned long long)m->sequence,
            (unsigned long long)s->committed.sequence + 1);
    if (m->generation != s->meta.generation)
        return err_set(err, ERR_REFUSED, "change set of generation %llu, the machine has generation %llu",
            (unsigned long long)m->generation, (unsigned long long)s->meta.generation);
    if (m->epoch != s->stream_epoch)
        return err_set(err, ERR_REFUSED, "change set of epoch %llu on a stream of epoch %llu",
            (unsigned long long)m->epoch, (unsigned long long)s->stream_epoch);
    return store_pending_check(s, m, err);
}

static int writer_create(struct store *s, struct err *err)
{
    struct segment_info info = {.machine = s->machine,
        .number = s->writer_number + 1,
        .first_sequence = s->committed.sequence + 1,
        .created_utc_usec = clock_utc_usec()};
    if (segment_create(s->main_fd, &info, &s->writer, err) < 0)
        return -1;
    s->writer_number++;
    s->committed.segment = s->writer_number;
    s->committed.offset = SEGMENT_HEADER_SIZE;
    return 0;
}

static int write_bytes(struct store *s, const uint8_t *data, size_t n, uint64_t *ret_offset, struct err *err)
{
    struct iovec iov = {(void *)(uintptr_t)data, n};
    if (s->writer == NULL && writer_create(s, err) < 0)
        return -1;
    if (segment_end(s->writer) + n > SEGMENT_BYTES_MAX) {
        (void)err_set(err, ERR_TOO_LARGE, "a change set is larger than a segment can be");
        return err_hint(err, "the sender must commit it in parts, by progress marks");
    }
    segment_expect_more(s->writer, s->much);
    return segment_append(s->writer, &iov, 1, ret_offset, err);
}

/* Where points are locked their commit times never go back, so that a clock that was wrong for a while frees none early. */
static uint64_t commit_time(const struct store *s)
{
    uint64_t now = clock_utc_usec();
    uint64_t last = s->points.count == 0 ? 0 : s->points.items[s->points.count - 1].committed_utc_usec;
    return storelock_current(&s->lock) != 0 && last > now ? last : now;
}

/* The mark is written: makes the change set durable and known. */
static int commit(struct store *s, const struct mark *m, uint64_t mark_offset, struct err *err)
{
    crashpoint_pass("commit.written");
    if (segment_sync(s->writer, err) < 0)
        return -1;
    crashpoint_pass("commit.synced");
    uint64_t end = segment_end(s->writer);
    s->much = end - s->committed.offset >= SEGMENT_MUCH_BYTES;
    if (store_apply(s, m, s->writer_number, mark_offset, end, commit_time(s), err) < 0) {
        s->broken = true; /* it is committed, but we do not know it: the log tells when it is opened again */
        return -1;
    }
    if (end < s->segment_bytes)
        return 0;
    if (segment_seal(s->writer, err) < 0) {
        s->broken = true;
        return -1;
    }
    crashpoint_pass("commit.sealed");
    segment_writer_close(TAKE_PTR(s->writer));
    return 0;
}

int store_seal_segment(struct store *s, uint64_t *ret_number, struct err *err)
{
    *ret_number = s->writer_number;
    store_drop_open(s);
    if (s->broken)
        return err_set(err, ERR_IO, "the store failed before and must be opened again");
    if (s->writer == NULL)
        return 0;
    if (segment_seal(s->writer, err) < 0) {
        s->broken = true;
        return -1;
    }
    segment_writer_close(TAKE_PTR(s->writer));
    return 0;
}

int store_seal_quietly(struct store *s, struct err *err)
{
    if (s->broken || s->writer == NULL || s->pending.count > 0 || segment_end(s->writer) != s->committed.offset ||
        s->committed.offset == SEGMENT_HEADER_SIZE)
        return 0;
    if (segment_seal(s->writer, err) < 0) {
        s->broken =
            segment_rewind(s->writer, s->committed.offset, NULL) < 0; /* all before it was synced at its commit */
        return -1;
    }
    segment_writer_close(TAKE_PTR(s->writer));
    return 0;
}

struct batch_part {
    const uint8_t *data;
    size_t from; /* what is not written yet begins here */
    size_t at;   /* the next record */
};

/* Writes part->from..part->at and turns the offsets of the pending records that wait for it into places in the file. */
static int part_write(struct store *s, struct batch_part *part, size_t first_pending, struct err *err)
{
    uint64_t base;
    if (part->at == part->from)
        return 0;
    if (write_bytes(s, part->data + part->from, part->at - part->from, &base, err) < 0)
        return -1;
    for (size_t i = first_pending; i < s->pending.count; i++) {
        s->pending.items[i].segment = (uint32_t)s->writer_number;
        s->pending.items[i].offset = (uint32_t)(base + s->pending.items[i].offset - part->from);
    }
    part->from = part->at;
    return 0;
}

static int take_mark(struct store *s, struct batch_part *part, size_t record_at, size_t first_pending,
    const struct record *r, const uint8_t *payload, struct err *err)
{
    struct mark *m AUTO_FREE = mem_new(struct mark);
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark");
    size_t before = part->at - record_at;
    if (check_mark(s, r, payload, m, err) < 0 || part_write(s, part, first_pending, err) < 0)
        return -1;
    return commit(s, m, segment_end(s->writer) - before, err);
}

static int take_batch(struct store *s, struct batch_part *part, size_t n, struct err *err)
{
    struct record r;
    const uint8_t *payload;
    size_t first_pending = s->pending.count;
    for (;;) {
        size_t record_at = part->at;
        int got = record_next(part->data, n, &part->at, &r, &payload, err);
        if (got < 0)
            return -1;
        if (got == 0)
            return part_write(s, part, first_pending, err);
        if (r.kind == RECORD_SEAL)
            return err_set(err, ERR_INVALID, "a seal came in a batch");
        if (r.kind == RECORD_MARK) {
            if (take_mark(s, part, record_at, first_pending, &r, payload, err) < 0)
                return -1;
            first_pending = 0;
        } else if (check_record(s, &r, payload, err) < 0 || store_pending_add(s, &r, 0, record_at, err) < 0) {
            return -1;
        }
    }
}

void store_drop_open(struct store *s)
{
    struct err err = ERR_INIT;
    store_pending_clear(s);
    if (s->writer == NULL || s->broken)
        return;
    if (segment_rewind(s->writer, s->committed.offset, &err) < 0)
        s->broken = true;
}

int store_append(struct store *s, const uint8_t *batch, size_t n, uint64_t *ret_committed, struct err *err)
{
    struct batch_part part = {.data = batch};
    *ret_committed = s->committed.sequence;
    if (s->broken)
        return err_set(err, ERR_IO, "the store failed before and must be opened again");
    if (s->stream_epoch == 0)
        return err_set(err, ERR_REFUSED, "records came on a stream that was opened without an epoch");
    int result = check_space(s, n, err);
    if (result == 0)
        result = take_batch(s, &part, n, err);
    *ret_committed = s->committed.sequence;
    if (result < 0) {
        store_drop_open(s);
        s->stream_epoch = 0;
    }
    return result;
}
