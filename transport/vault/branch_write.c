/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing to a branch. The data is hashed, compressed and encrypted outside of any lock, into records that never cross a 64
 * KiB block; then, under the write lock, appended to the log and noted in the block map. A flush appends a mark and syncs.
 * Edges that do not fall on a sector are filled up from what is there, all under the write lock.
 *
 * Failure modes: a full disk fails the write or the flush and nothing else (the reserve is kept for replication; a torn append is cut off);
 * both work again when there is room. After a failed sync, or where cutting fails, nobody knows what the file holds: the branch takes no more
 * writes (every later write and flush fails, which the guest sees as a failed disk); reading goes on.
 */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "transport/base/clock.h"
#include "transport/vault/branch_private.h"

/* One call's worth of records: the largest NBD request is 32 MiB, written in parts. */
#define PART_BYTES (1u << 20)
#define BENCH_BYTES_MAX (4u << 20)
#define LEVEL 1 /* of zstd: a running machine waits for this */

/* ---- benches ---- */

static void bench_free(struct branch_bench *w)
{
    if (w == NULL)
        return;
    seal_work_free(w->work);
    buf_done(&w->plain);
    buf_done(&w->sealed);
    free(w->sector);
    free(w);
}

void branch_benches_free(struct branch *b)
{
    while (b->benches != NULL) {
        struct branch_bench *w = b->benches;
        b->benches = w->next;
        bench_free(w);
    }
}

static struct branch_bench *bench_take(struct branch *b, struct err *err)
{
    (void)pthread_mutex_lock(&b->write_lock);
    struct branch_bench *w = b->benches;
    if (w != NULL)
        b->benches = w->next;
    (void)pthread_mutex_unlock(&b->write_lock);
    if (w != NULL)
        return w;
    w = mem_new(struct branch_bench);
    if (w != NULL) {
        buf_init(&w->plain, BENCH_BYTES_MAX);
        buf_init(&w->sealed, BENCH_BYTES_MAX);
        w->work = seal_work_new();
        w->sector = mem_alloc(1, RECORD_BLOCK_SIZE);
    }
    if (w != NULL && w->work != NULL && w->sector != NULL)
        return w;
    bench_free(w);
    (void)err_set(err, ERR_NOMEM, "no memory to write to a branch");
    return NULL;
}

static void bench_give(struct branch *b, struct branch_bench *w)
{
    (void)pthread_mutex_lock(&b->write_lock);
    w->next = b->benches;
    b->benches = w;
    (void)pthread_mutex_unlock(&b->write_lock);
}

/* ---- appending; write_lock is held ---- */

int branch_note(struct branch *b, const struct record *r, uint64_t segment, uint64_t offset, struct err *err)
{
    struct record rest = *r;
    int result = 0;
    (void)pthread_rwlock_wrlock(&b->map_lock);
    while (result == 0 && rest.length > 0) {
        struct extent e = extent_from_record(&rest, 1, (uint32_t)segment, (uint32_t)offset);
        result = extmap_insert(b->map, &e, NULL, NULL, err);
        rest.start += (uint64_t)e.sectors * RECORD_SECTOR;
        rest.length -= (uint64_t)e.sectors * RECORD_SECTOR;
    }
    (void)pthread_rwlock_unlock(&b->map_lock);
    return result;
}

static int make_mark(struct branch *b, struct buf *out, struct err *err)
{
    struct mark *m AUTO_FREE = mem_new(struct mark);
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark");
    *m = *view_mark(b->base); /* the disks, and whose they are */
    m->kind = MARK_PROGRESS;
    m->flags = 0;
    m->sequence = b->sequence + 1;
    m->time_utc_usec = clock_utc_usec();
    m->group_point = (struct ident){0};
    m->tag[0] = '\0';
    m->unreadable_blocks = m->range_count = 0;
    m->record_count = b->pending_records;
    m->changed_bytes = b->pending_bytes;
    record_digest_get(b->digest, &m->digest);
    return mark_append(m, out, err);
}

/* Appends, or leaves the log as it was. */
static int append_bytes(struct branch *b, const struct buf *bytes, uint64_t *ret_offset, struct err *err)
{
    struct iovec iov = {bytes->data, bytes->len};
    uint64_t before = segment_end(b->writer);
    if (segment_append(b->writer, &iov, 1, ret_offset, err) == 0)
        return 0;
    if (segment_rewind(b->writer, before, NULL) < 0)
        b->broken = true;
    return -1;
}

static int write_mark(struct branch *b, struct err *err)
{
    struct buf out AUTO_BUF = BUF_INIT(MARK_PAYLOAD_MAX + RECORD_HEADER_SIZE);
    uint64_t offset;
    if (make_mark(b, &out, err) < 0 || append_bytes(b, &out, &offset, err) < 0)
        return -1;
    b->sequence++;
    b->pending_records = b->pending_bytes = 0;
    record_digest_reset(b->digest);
    return 0;
}

static int sync_log(struct branch *b, struct err *err)
{
    if (segment_sync(b->writer, err) == 0)
        return 0;
    b->broken = true; /* of what was written since the last flush nobody knows what is there */
    return -1;
}

/* All that stands before the seal is durable already: where there is no room for the seal it is cut off and tried again later. */
static int seal_segment(struct branch *b, struct err *err)
{
    if ((b->pending_records > 0 && write_mark(b, err) < 0) || sync_log(b, err) < 0)
        return -1;
    branch_snapshot_take(b, false);
    uint64_t end = segment_end(b->writer);
    if (segment_seal(b->writer, err) < 0) {
        b->broken = segment_rewind(b->writer, end, NULL) < 0;
        return -1;
    }
    segment_writer_close(TAKE_PTR(b->writer));
    return 0;
}

static int next_segment(struct branch *b, struct err *err)
{
    if (b->writer != NULL && seal_segment(b, err) < 0)
        return -1;
    struct segment_info info = {.machine = b->info.machine,
        .log = b->info.id,
        .number = b->segment + 1,
        .first_sequence = b->sequence + 1,
        .created_utc_usec = clock_utc_usec()};
    if (segment_create(b->dirfd, &info, &b->writer, err) < 0)
        return -1;
    b->segment++;
    return 0;
}

static int note_all(struct branch *b, const struct buf *sealed, uint64_t base, struct err *err)
{
    size_t offset = 0;
    for (;;) {
        struct record r;
        const uint8_t *payload;
        size_t at = offset;
        int got = record_next(sealed->data, sealed->len, &offset, &r, &payload, err);
        if (got <= 0)
            return got;
        record_digest_add(b->digest, &r);
        b->pending_records++;
        b->pending_bytes += r.length;
        b->noted++;
        if (branch_note(b, &r, b->segment, base + at, err) < 0)
            return -1;
    }
}

int branch_check_room(const struct branch *b, size_t n, struct err *err)
{
    struct statvfs vfs;
    if (fstatvfs(b->dirfd, &vfs) < 0)
        return err_sys(err, errno, "looking at the free space of the vault");
    if ((uint64_t)vfs.f_bavail * vfs.f_frsize >= b->reserve_bytes + n)
        return 0;
    return err_set(err, ERR_NOSPACE, "the vault's disk is full: the branch cannot grow");
}

static int append_locked(struct branch *b, const struct buf *sealed, struct err *err)
{
    uint64_t base;
    if (b->broken)
        return err_set(err, ERR_IO, "the branch failed before; open it again");
    if (branch_check_room(b, sealed->len, err) < 0)
        return -1;
    bool full = b->writer != NULL && segment_end(b->writer) >= SEGMENT_TARGET_BYTES;
    if ((b->writer == NULL || full) && next_segment(b, err) < 0)
        return -1;
    if (append_bytes(b, sealed, &base, err) < 0)
        return -1;
    if (note_all(b, sealed, base, err) == 0)
        return 0;
    b->broken = true;
    return -1;
}

static int append(struct branch *b, const struct buf *sealed, struct err *err)
{
    (void)pthread_mutex_lock(&b->write_lock);
    int result = append_locked(b, sealed, err);
    (void)pthread_mutex_unlock(&b->write_lock);
    return result;
}

/* ---- sealing; no lock is held but for edges ---- */

static int seal_block(struct branch *b, struct branch_bench *w, uint32_t disk, uint64_t start, const uint8_t *data,
    uint32_t n, struct err *err)
{
    struct record r, sealed;
    buf_clear(&w->plain);
    if (seal_append_data(w->work, disk, start, data, n, 0, &w->plain, &r, err) < 0)
        return -1;
    uint64_t counter = r.kind == RECORD_DATA ? atomic_fetch_add(&b->nonce_counter, 1) + 1 : 0;
    return seal_reseal(w->work, &r, w->plain.data + RECORD_HEADER_SIZE, LEVEL, &b->key, b->nonce_stream, counter,
        &w->sealed, &sealed, err);
}

/* Whole sectors. */
static int write_aligned(struct branch *b, struct branch_bench *w, uint32_t disk, uint64_t start, size_t n,
    const uint8_t *data, struct err *err)
{
    while (n > 0) {
        size_t part = n < PART_BYTES ? n : PART_BYTES;
        buf_clear(&w->sealed);
        for (size_t done = 0; done < part;) {
            uint64_t at = start + done;
            size_t room = RECORD_BLOCK_SIZE - (size_t)(at % RECORD_BLOCK_SIZE);
            size_t block = part - done < room ? part - done : room;
            if (seal_block(b, w, disk, at, data + done, (uint32_t)block, err) < 0)
                return -1;
            done += block;
        }
        if (append(b, &w->sealed, err) < 0)
            return -1;
        start += part;
        data += part;
        n -= part;
    }
    return 0;
}

/* At most a sector's part: reads the sector, changes it, writes it back. All writes wait meanwhile: one that another connection makes to the rest of the
 * sector would be written over with what stood there before. */
static int write_edge(struct branch *b, struct branch_bench *w, uint32_t disk, uint64_t start, size_t n,
    const uint8_t *data, struct err *err)
{
    uint64_t sector = start / RECORD_SECTOR * RECORD_SECTOR;
    buf_clear(&w->sealed);
    (void)pthread_mutex_lock(&b->write_lock);
    int result = branch_read(b, disk, sector, RECORD_SECTOR, w->sector, err);
    if (result == 0) {
        memcpy(w->sector + (start - sector), data, n);
        result = seal_block(b, w, disk, sector, w->sector, RECORD_SECTOR, err);
    }
    if (result == 0)
        result = append_locked(b, &w->sealed, err);
    (void)pthread_mutex_unlock(&b->write_lock);
    return result;
}

static int write_any(struct branch *b, struct branch_bench *w, uint32_t disk, uint64_t start, size_t n,
    const uint8_t *data, struct err *err)
{
    size_t head = (size_t)((RECORD_SECTOR - start % RECORD_SECTOR) % RECORD_SECTOR);
    head = head < n ? head : n;
    if (head > 0 && write_edge(b, w, disk, start, head, data, err) < 0)
        return -1;
    size_t body = (n - head) / RECORD_SECTOR * RECORD_SECTOR;
    if (body > 0 && write_aligned(b, w, disk, start + head, body, data + head, err) < 0)
        return -1;
    size_t tail = n - head - body;
    return tail > 0 ? write_edge(b, w, disk, start + head + body, tail, data + head + body, err) : 0;
}

int branch_write(struct branch *b, uint32_t disk, uint64_t start, size_t n, const uint8_t *data, struct err *err)
{
    if (branch_check_range(b, disk, start, n, err) < 0)
        return -1;
    struct branch_bench *w = bench_take(b, err);
    if (w == NULL)
        return -1;
    int result = write_any(b, w, disk, start, n, data, err);
    bench_give(b, w);
    return result;
}

static int zero_any(
    struct branch *b, struct branch_bench *w, uint32_t disk, uint64_t start, uint64_t n, struct err *err)
{
    static const uint8_t zeros[RECORD_SECTOR];
    struct record r;
    uint64_t head = (RECORD_SECTOR - start % RECORD_SECTOR) % RECORD_SECTOR;
    head = head < n ? head : n;
    if (head > 0 && write_edge(b, w, disk, start, (size_t)head, zeros, err) < 0)
        return -1;
    uint64_t body = (n - head) / RECORD_SECTOR * RECORD_SECTOR;
    buf_clear(&w->sealed);
    if (body > 0 &&
        (seal_append_zero(disk, start + head, body, &w->sealed, &r, err) < 0 || append(b, &w->sealed, err) < 0))
        return -1;
    uint64_t tail = n - head - body;
    return tail > 0 ? write_edge(b, w, disk, start + head + body, (size_t)tail, zeros, err) : 0;
}

int branch_zero(struct branch *b, uint32_t disk, uint64_t start, uint64_t n, struct err *err)
{
    if (branch_check_range(b, disk, start, n, err) < 0)
        return -1;
    struct branch_bench *w = bench_take(b, err);
    if (w == NULL)
        return -1;
    int result = n == 0 ? 0 : zero_any(b, w, disk, start, n, err);
    bench_give(b, w);
    return result;
}

static int flush_locked(struct branch *b, struct err *err)
{
    if (b->broken)
        return err_set(err, ERR_IO, "the branch failed before; open it again");
    if (b->writer == NULL || b->pending_records == 0)
        return 0; /* a segment is synced when it is sealed, so nothing waits in an older one */
    return write_mark(b, err) < 0 ? -1 : sync_log(b, err);
}

int branch_flush(struct branch *b, struct err *err)
{
    (void)pthread_mutex_lock(&b->write_lock);
    int result = flush_locked(b, err);
    (void)pthread_mutex_unlock(&b->write_lock);
    return result;
}
