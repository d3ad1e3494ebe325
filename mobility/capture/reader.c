/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernel AIO (io_submit(2)) on O_DIRECT descriptors: truly asynchronous for block devices, one system call for a batch, in
 * every kernel, and allowed where io_uring is switched off by policy. Happy path: slots are filled from the source, submitted
 * together, and delivered one by one as they complete, while the others are in flight. A slot whose read failed or came
 * short is read again step by step, synchronously. Where no AIO context is to be had (fs.aio-max-nr is used up), the same
 * slots are read with pread.
 */
#include "mobility/capture/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "transport/base/mem.h"

#define DEPTH_DEFAULT 32u
#define DISKS_MAX 1024u
#define RETRY_BYTES 4096u /* between a whole piece and one sector */

struct reader_disk {
    unsigned number;
    int fd;
    uint32_t sector_bytes;
};

struct slot {
    struct iocb cb;
    struct reader_piece piece;
    int fd;
    uint32_t sector_bytes;
    uint8_t *buffer;
};

struct reader {
    unsigned depth; /* slots */
    unsigned limit; /* of them in flight: 1..depth */
    aio_context_t context;
    bool has_context;
    uint8_t *memory;
    struct slot *slots;
    unsigned *free_slots, free_count; /* indices of slots that are neither filled nor in flight */
    struct reader_disk *disks;
    size_t disk_count;
};

/* --- life ---------------------------------------------------------------------------------------------------------- */

static int allocate(struct reader *r)
{
    r->memory = mem_pages_new((size_t)r->depth * READER_PIECE_BYTES);
    r->slots = mem_alloc(r->depth, sizeof(*r->slots));
    r->free_slots = mem_alloc(r->depth, sizeof(*r->free_slots));
    if (!r->memory || !r->slots || !r->free_slots)
        return -1;
    for (unsigned i = 0; i < r->depth; i++) {
        r->slots[i].buffer = r->memory + (size_t)i * READER_PIECE_BYTES;
        r->free_slots[r->free_count++] = i;
    }
    return 0;
}

int reader_new(unsigned depth, struct reader **ret_reader, struct err *err)
{
    struct reader *r AUTO_OF(reader) = mem_new(struct reader);

    if (!r)
        return err_set(err, ERR_NOMEM, "reader");
    r->depth = depth ? depth : DEPTH_DEFAULT;
    r->limit = r->depth;
    if (r->depth > READER_DEPTH_MAX)
        return err_set(err, ERR_INVALID, "a reader of depth %u", depth);
    if (allocate(r) < 0)
        return err_set(err, ERR_NOMEM, "reader of depth %u", r->depth);
    r->has_context = syscall(SYS_io_setup, r->depth, &r->context) == 0;
    *ret_reader = TAKE_PTR(r);
    return 0;
}

void reader_set_depth(struct reader *r, unsigned depth)
{
    r->limit = depth == 0 || depth > r->depth ? r->depth : depth;
}

void reader_free(struct reader *r)
{
    if (!r)
        return;
    if (r->has_context)
        (void)syscall(SYS_io_destroy, r->context);
    for (size_t i = 0; i < r->disk_count; i++)
        (void)close(r->disks[i].fd);
    mem_pages_free(r->memory, (size_t)r->depth * READER_PIECE_BYTES);
    free(r->slots);
    free(r->free_slots);
    free(r->disks);
    free(r);
}

static struct reader_disk *find_disk(const struct reader *r, unsigned number)
{
    for (size_t i = 0; i < r->disk_count; i++)
        if (r->disks[i].number == number)
            return &r->disks[i];
    return NULL;
}

static uint32_t sector_of(int fd)
{
    int bytes = 0;

    return ioctl(fd, BLKSSZGET, &bytes) == 0 && bytes >= 512 && bytes <= 4096 ? (uint32_t)bytes : 512;
}

int reader_add_disk(struct reader *r, unsigned disk, const char *path, struct err *err)
{
    AUTO_CLOSE int fd = -1;
    struct reader_disk *grown;

    if (find_disk(r, disk))
        return err_set(err, ERR_EXISTS, "disk %u is being read already", disk);
    if (r->disk_count == DISKS_MAX)
        return err_set(err, ERR_NOMEM, "more than %u disks", DISKS_MAX);
    fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "opening %s", path);
    grown = mem_resize(r->disks, r->disk_count + 1, sizeof(*grown));
    if (!grown)
        return err_set(err, ERR_NOMEM, "reader");
    r->disks = grown;
    grown[r->disk_count].number = disk;
    grown[r->disk_count].sector_bytes = sector_of(fd);
    grown[r->disk_count++].fd = TAKE_FD(fd);
    return 0;
}

void reader_remove_disk(struct reader *r, unsigned disk)
{
    struct reader_disk *d = find_disk(r, disk);

    if (!d)
        return;
    (void)close(d->fd);
    *d = r->disks[--r->disk_count];
}

static uint64_t size_of(int fd)
{
    struct stat st;
    uint64_t bytes = 0;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return (uint64_t)st.st_size;
    return ioctl(fd, BLKGETSIZE64, &bytes) == 0 ? bytes : 0;
}

uint64_t reader_disk_size_bytes(const struct reader *r, unsigned disk)
{
    const struct reader_disk *d = find_disk(r, disk);

    return d ? size_of(d->fd) : 0;
}

uint32_t reader_disk_sector_bytes(const struct reader *r, unsigned disk)
{
    const struct reader_disk *d = find_disk(r, disk);

    return d ? d->sector_bytes : 0;
}

/* --- cutting ------------------------------------------------------------------------------------------------------- */

/* The rest of the range that the source gave last, and the disk it lies on. */
struct cutter {
    struct reader *r;
    reader_source source;
    void *source_arg;
    const struct reader_disk *disk;
    uint64_t start, end;
};

static uint64_t round_down(uint64_t n, uint64_t to)
{
    return n - n % to;
}

/* Takes the next range: grown to whole sectors, cut at the end of the disk. 1, 0 at the end, -1. Whoever gave a range that lies behind the end knew of
 * a larger disk; a controller that looks for a lost one says of it that it has no size. */
static int next_range(struct cutter *c, struct err *err)
{
    uint64_t start, length, size;
    unsigned number;

    if (!c->source(c->source_arg, &number, &start, &length))
        return 0;
    c->disk = find_disk(c->r, number);
    if (!c->disk)
        return err_set(err, ERR_NOT_FOUND, "disk %u is not being read", number);
    size = size_of(c->disk->fd);
    if (start >= size)
        return err_set(err, ERR_UNAVAILABLE, "the disk has %llu bytes, and was to be read at %llu",
            (unsigned long long)size, (unsigned long long)start);
    c->start = round_down(start, c->disk->sector_bytes);
    c->end = length > size || start > size - length ? size : start + length;
    c->end = round_down(c->end + c->disk->sector_bytes - 1, c->disk->sector_bytes);
    return 1;
}

/* Fills one slot. 1, 0 at the end, -1. */
static int next_piece(struct cutter *c, struct slot *s, struct err *err)
{
    uint64_t border;
    int more;

    while (c->start >= c->end) {
        more = next_range(c, err);
        if (more <= 0)
            return more;
    }
    border = round_down(c->start, READER_PIECE_BYTES) + READER_PIECE_BYTES;
    s->fd = c->disk->fd;
    s->sector_bytes = c->disk->sector_bytes;
    s->piece = (struct reader_piece){.disk = c->disk->number,
        .start = c->start,
        .length = (uint32_t)((border < c->end ? border : c->end) - c->start),
        .data = s->buffer};
    c->start += s->piece.length;
    return 1;
}

/* --- reading again what failed --------------------------------------------------------------------------------------- */

static int pread_errno(int fd, void *data, size_t n, uint64_t offset)
{
    ssize_t got;

    do {
        got = pread(fd, data, n, (off_t)offset);
    } while (got < 0 && errno == EINTR);
    if (got == (ssize_t)n)
        return 0;
    return got < 0 ? errno : EIO;
}

static uint32_t step_at(const struct slot *s, uint32_t offset, uint32_t step)
{
    uint32_t rest = s->piece.length - offset, to_border = step - (uint32_t)((s->piece.start + offset) % step);

    return rest < to_border ? rest : to_border;
}

/* Reads [offset, offset + length) in steps of `step`, notes the errno of each sector. Where a step fails, smaller ones. */
static void read_in_steps(struct slot *s, uint32_t offset, uint32_t length, uint32_t step, uint8_t *sector_errno)
{
    uint32_t end = offset + length;

    while (offset < end) {
        uint32_t n = step_at(s, offset, step), first = offset / s->sector_bytes;
        int bad;
        if (n > end - offset)
            n = end - offset;
        bad = pread_errno(s->fd, s->buffer + offset, n, s->piece.start + offset);
        if (bad && step > s->sector_bytes)
            read_in_steps(s, offset, n, s->sector_bytes, sector_errno);
        else
            memset(sector_errno + first, bad > 255 ? EIO : bad, n / s->sector_bytes);
        offset += n;
    }
}

static struct reader_piece part_of(const struct slot *s, uint32_t first_sector, uint32_t end_sector, int bad)
{
    uint32_t offset = first_sector * s->sector_bytes;

    return (struct reader_piece){.disk = s->piece.disk,
        .start = s->piece.start + offset,
        .length = end_sector * s->sector_bytes - offset,
        .data = bad ? NULL : s->buffer + offset,
        .sys_errno = bad};
}

/* Delivers runs of sectors that have the same fate. */
static int deliver_again(struct slot *s, reader_sink sink, void *arg, struct err *err)
{
    uint8_t sector_errno[READER_PIECE_BYTES / 512] = {0};
    uint32_t sectors = s->piece.length / s->sector_bytes, from = 0;

    read_in_steps(s, 0, s->piece.length, s->sector_bytes > RETRY_BYTES ? s->sector_bytes : RETRY_BYTES, sector_errno);
    for (uint32_t i = 1; i <= sectors; i++) {
        struct reader_piece part;
        if (i < sectors && sector_errno[i] == sector_errno[from])
            continue;
        part = part_of(s, from, i, sector_errno[from]);
        if (sink(arg, &part, err) < 0)
            return -1;
        from = i;
    }
    return 0;
}

static int deliver(struct slot *s, int64_t result, reader_sink sink, void *arg, struct err *err)
{
    return result == (int64_t)s->piece.length ? sink(arg, &s->piece, err) : deliver_again(s, sink, arg, err);
}

/* --- running ------------------------------------------------------------------------------------------------------- */

struct run {
    struct reader *r;
    struct cutter cutter;
    reader_sink sink;
    void *sink_arg;
    unsigned in_flight;
    bool ended; /* the source has no more, or the run failed */
};

static void prepare(struct slot *s, unsigned index)
{
    memset(&s->cb, 0, sizeof(s->cb));
    s->cb.aio_data = index;
    s->cb.aio_lio_opcode = IOCB_CMD_PREAD;
    s->cb.aio_fildes = (uint32_t)s->fd;
    s->cb.aio_buf = (uint64_t)(uintptr_t)s->buffer;
    s->cb.aio_nbytes = s->piece.length;
    s->cb.aio_offset = (int64_t)s->piece.start;
}

/* Reads and delivers one filled slot here and now. */
static int read_now(struct run *x, struct slot *s, struct err *err)
{
    int bad = pread_errno(s->fd, s->buffer, s->piece.length, s->piece.start);

    return deliver(s, bad ? -bad : (int64_t)s->piece.length, x->sink, x->sink_arg, err);
}

/* Submits n filled slots; those that the kernel does not take are read here. */
static int submit(struct run *x, const unsigned *indices, unsigned n, struct err *err)
{
    struct iocb *list[READER_DEPTH_MAX];
    long taken = 0;
    int result = 0;

    for (unsigned i = 0; i < n; i++) {
        prepare(&x->r->slots[indices[i]], indices[i]);
        list[i] = &x->r->slots[indices[i]].cb;
    }
    if (x->r->has_context)
        taken = syscall(SYS_io_submit, x->r->context, (long)n, list);
    if (taken < 0)
        taken = 0;
    x->in_flight += (unsigned)taken;
    for (unsigned i = (unsigned)taken; i < n; i++) {
        if (result == 0)
            result = read_now(x, &x->r->slots[indices[i]], err);
        x->r->free_slots[x->r->free_count++] = indices[i];
    }
    return result;
}

/* Fills free slots from the source and submits them. */
static int refill(struct run *x, struct err *err)
{
    unsigned filled[READER_DEPTH_MAX], n = 0;
    int more = 1;

    while (!x->ended && x->r->free_count > 0 && x->in_flight + n < x->r->limit) {
        unsigned index = x->r->free_slots[x->r->free_count - 1];
        more = next_piece(&x->cutter, &x->r->slots[index], err);
        if (more <= 0) {
            x->ended = true;
            break;
        }
        x->r->free_count--;
        filled[n++] = index;
    }
    if (n > 0 && submit(x, filled, n, err) < 0)
        return -1;
    return more < 0 ? -1 : 0;
}

/* io_destroy waits for all that is in flight; after it the buffers are ours again, and reading goes on without AIO. */
static int give_up_context(struct run *x, int why, struct err *err)
{
    (void)syscall(SYS_io_destroy, x->r->context);
    x->r->has_context = false;
    x->r->free_count = 0;
    for (unsigned i = 0; i < x->r->depth; i++)
        x->r->free_slots[x->r->free_count++] = i;
    x->in_flight = 0;
    return err_sys(err, why, "waiting for reads");
}

/* Waits for at least one completion and delivers a quarter of the depth at most (after a failure: only takes them back), so that the
 * disk has something to read meanwhile: delivering compresses, which takes longer than reading. */
static int collect(struct run *x, bool failed, struct err *err)
{
    struct io_event events[READER_DEPTH_MAX];
    long at_once = x->r->depth >= 4 ? x->r->depth / 4 : 1;
    long n = syscall(SYS_io_getevents, x->r->context, 1L, at_once, events, NULL);
    int result = 0;

    if (n < 0 && errno == EINTR)
        return 0;
    if (n < 0)
        return give_up_context(x, errno, err);
    for (long i = 0; i < n; i++) {
        unsigned index = (unsigned)events[i].data;
        if (!failed && result == 0)
            result = deliver(&x->r->slots[index], events[i].res, x->sink, x->sink_arg, err);
        x->r->free_slots[x->r->free_count++] = index;
        x->in_flight--;
    }
    return result;
}

int reader_run(
    struct reader *r, reader_source source, void *source_arg, reader_sink sink, void *sink_arg, struct err *err)
{
    struct run x = {
        .r = r, .cutter = {.r = r, .source = source, .source_arg = source_arg}, .sink = sink, .sink_arg = sink_arg};
    bool failed = false;

    while (!x.ended || x.in_flight > 0) {
        if (!x.ended && !failed && refill(&x, err) < 0)
            failed = true;
        if (failed)
            x.ended = true;
        if (x.in_flight > 0 && collect(&x, failed, failed ? NULL : err) < 0)
            failed = true;
    }
    return failed ? -1 : 0;
}

struct dirty_source {
    const struct dirty *set;
    unsigned disk;
    uint64_t cursor;
};

static int next_dirty_range(void *arg, unsigned *ret_disk, uint64_t *ret_start, uint64_t *ret_length)
{
    struct dirty_source *s = arg;

    *ret_disk = s->disk;
    return dirty_next(s->set, &s->cursor, 0, ret_start, ret_length);
}

int reader_run_dirty(
    struct reader *r, unsigned disk, const struct dirty *set, reader_sink sink, void *sink_arg, struct err *err)
{
    struct dirty_source s = {.set = set, .disk = disk};

    return reader_run(r, next_dirty_range, &s, sink, sink_arg, err);
}
