/* SPDX-License-Identifier: Apache-2.0
 *
 * Each step walks pieces of the view: data is read (verified on the way) and written, zeros are left out in a new file, punched into
 * one that was begun before, and zeroed on a device. When all is written it is synced, the cache is told to forget it, and a second
 * walk reads the target: a whole record is held to its hash, which costs no decoding, a part of one to the plaintext.
 */
#include "transport/vault/diskcopy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/file.h"
#include "transport/base/hash.h"

#define CHUNK_BYTES (1u << 20)
#define HOLE_BYTES 4096u        /* zeros of this size are worth a hole */
#define ZERO_BYTES (256u << 20) /* zeroed or skipped at once: a device may be slow at it */

struct diskcopy {
    struct diskcopy_spec spec;
    uint64_t size, at, durable, written_bytes;
    bool verifying;
    uint8_t *source, *target; /* CHUNK_BYTES each */
};

int diskcopy_new(const struct diskcopy_spec *spec, struct diskcopy **ret_copy, struct err *err)
{
    const struct mark_disk *d = view_disk(spec->view, spec->disk);
    if (d == NULL)
        return err_set(err, ERR_NOT_FOUND, "the machine had no disk %u at that point", spec->disk);
    struct diskcopy *c AUTO_OF(diskcopy) = mem_new(struct diskcopy);
    if (c == NULL)
        return err_set(err, ERR_NOMEM, "no memory to copy a disk");
    c->spec = *spec;
    c->size = d->size_bytes;
    c->durable = c->at = spec->from < c->size ? spec->from / RECORD_SECTOR * RECORD_SECTOR : c->size;
    c->source = mem_alloc(1, CHUNK_BYTES);
    c->target = mem_alloc(1, CHUNK_BYTES);
    if (c->source == NULL || c->target == NULL)
        return err_set(err, ERR_NOMEM, "no memory to copy a disk");
    if (!spec->is_device && ftruncate(spec->fd, (off_t)c->size) < 0)
        return err_sys(err, errno, "making the file as long as the disk");
    *ret_copy = TAKE_PTR(c);
    return 0;
}

void diskcopy_free(struct diskcopy *c)
{
    if (c == NULL)
        return;
    free(c->source);
    free(c->target);
    free(c);
}

void diskcopy_progress(const struct diskcopy *c, struct diskcopy_progress *ret_progress)
{
    *ret_progress = (struct diskcopy_progress){.size_bytes = c->size,
        .durable = c->durable,
        .verifying = c->verifying,
        .at = c->at,
        .written_bytes = c->written_bytes};
}

/* ---- writing ---- */

static int write_zeros_plain(struct diskcopy *c, uint64_t start, uint64_t n, struct err *err)
{
    memset(c->source, 0, CHUNK_BYTES);
    while (n > 0) {
        size_t part = n < CHUNK_BYTES ? (size_t)n : CHUNK_BYTES;
        if (file_pwrite_all(c->spec.fd, c->source, part, start, "the target", err) < 0)
            return -1;
        start += part;
        n -= part;
    }
    return 0;
}

static int write_zeros(struct diskcopy *c, uint64_t start, uint64_t n, struct err *err)
{
    uint64_t range[2] = {start, n};
    if (!c->spec.is_device && !c->spec.again)
        return 0; /* a new file has holes everywhere */
    int done = c->spec.is_device
                   ? ioctl(c->spec.fd, BLKZEROOUT, range)
                   : fallocate(c->spec.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start, (off_t)n);
    return done == 0 ? 0 : write_zeros_plain(c, start, n, err);
}

static bool is_zero(const uint8_t *data, size_t n)
{
    return n == 0 || (data[0] == 0 && memcmp(data, data + 1, n - 1) == 0);
}

/* Into a file that was just made: zeros among the data stay holes. */
static int write_sparse(struct diskcopy *c, uint64_t start, size_t n, struct err *err)
{
    size_t from = 0; /* what is to be written begins here */
    for (size_t at = 0; at < n; at += HOLE_BYTES) {
        size_t part = n - at < HOLE_BYTES ? n - at : HOLE_BYTES;
        if (!is_zero(c->source + at, part))
            continue;
        c->written_bytes += at - from;
        if (file_pwrite_all(c->spec.fd, c->source + from, at - from, start + from, "the target", err) < 0)
            return -1;
        from = at + part;
    }
    c->written_bytes += n - from;
    return file_pwrite_all(c->spec.fd, c->source + from, n - from, start + from, "the target", err);
}

static int write_data(struct diskcopy *c, uint64_t start, size_t n, struct err *err)
{
    if (view_read(c->spec.view, c->spec.disk, start, n, c->source, err) < 0)
        return -1;
    if (c->spec.again) {
        if (file_pread_all(c->spec.fd, c->target, n, start, "the target", err) < 0)
            return -1;
        if (memcmp(c->source, c->target, n) == 0)
            return 0;
    }
    if (!c->spec.again && !c->spec.is_device)
        return write_sparse(c, start, n, err);
    c->written_bytes += n;
    return file_pwrite_all(c->spec.fd, c->source, n, start, "the target", err);
}

/* How much data follows without a gap, up to a chunk. */
static int data_run(struct diskcopy *c, uint64_t start, struct piece *ret_first, uint64_t *ret_bytes, struct err *err)
{
    uint64_t end = extent_key(c->spec.disk, c->size + RECORD_SECTOR - 1);
    uint64_t bytes = 0;
    if (view_piece(c->spec.view, extent_key(c->spec.disk, start), end, ret_first, err) < 0)
        return -1;
    struct piece p = *ret_first;
    while (p.kind == PIECE_DATA && bytes < CHUNK_BYTES) {
        bytes += p.sectors * RECORD_SECTOR;
        if (start + bytes >= c->size)
            break;
        if (view_piece(c->spec.view, extent_key(c->spec.disk, start + bytes), end, &p, err) < 0)
            return -1;
    }
    *ret_bytes = bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES;
    return 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static int write_piece(struct diskcopy *c, struct err *err)
{
    struct piece p;
    uint64_t n;
    if (data_run(c, c->at, &p, &n, err) < 0)
        return -1;
    if (p.kind != PIECE_DATA)
        n = least(p.sectors * RECORD_SECTOR, ZERO_BYTES);
    n = least(n, c->size - c->at);
    int result = p.kind == PIECE_DATA ? write_data(c, c->at, (size_t)n, err) : write_zeros(c, c->at, n, err);
    c->at += n;
    return result;
}

/* ---- reading back ---- */

static int differs(const struct diskcopy *c, struct err *err)
{
    (void)err_set(err, ERR_CORRUPT, "the target gives back something else than was written, at byte %llu",
        (unsigned long long)c->at);
    return err_hint(err, "Do not use it, and look for the fault of its disk.");
}

/* Bytes from start on that the file system knows to be a hole. */
static uint64_t hole_bytes(const struct diskcopy *c, uint64_t start, uint64_t n)
{
    if (c->spec.is_device)
        return 0;
    off_t data = lseek(c->spec.fd, (off_t)start, SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? n : 0;
    return (uint64_t)data > start ? least((uint64_t)data - start, n) : 0;
}

static int check_zeros(struct diskcopy *c, uint64_t n, uint64_t *ret_bytes, struct err *err)
{
    *ret_bytes = hole_bytes(c, c->at, n);
    if (*ret_bytes > 0)
        return 0;
    *ret_bytes = least(n, CHUNK_BYTES);
    if (file_pread_all(c->spec.fd, c->target, (size_t)*ret_bytes, c->at, "the target", err) < 0)
        return -1;
    return is_zero(c->target, (size_t)*ret_bytes) ? 0 : differs(c, err);
}

static int check_data(struct diskcopy *c, const struct piece *p, size_t n, struct err *err)
{
    struct record r;
    struct hash128 hash;
    if (file_pread_all(c->spec.fd, c->target, n, c->at, "the target", err) < 0 ||
        view_record(c->spec.view, p, &r, err) < 0)
        return -1;
    if (r.start == c->at && r.length == n) {
        hash_128(c->target, n, &hash);
        return hash_equal(&hash, &r.hash) ? 0 : differs(c, err);
    }
    if (view_read(c->spec.view, c->spec.disk, c->at, n, c->source, err) < 0)
        return -1;
    return memcmp(c->source, c->target, n) == 0 ? 0 : differs(c, err);
}

static int check_piece(struct diskcopy *c, struct err *err)
{
    struct piece p;
    uint64_t end = extent_key(c->spec.disk, c->size + RECORD_SECTOR - 1);
    if (view_piece(c->spec.view, extent_key(c->spec.disk, c->at), end, &p, err) < 0)
        return -1;
    uint64_t n = least(p.sectors * RECORD_SECTOR, c->size - c->at);
    int result = p.kind == PIECE_DATA ? check_data(c, &p, (size_t)n, err) : check_zeros(c, n, &n, err);
    c->at += n;
    return result;
}

/* ---- steps ---- */

static int sync_target(struct diskcopy *c, struct err *err)
{
    if (fdatasync(c->spec.fd) < 0)
        return err_sys(err, errno, "syncing the target");
    c->durable = c->at;
    return 0;
}

static int begin_verifying(struct diskcopy *c, struct err *err)
{
    if (fsync(c->spec.fd) < 0)
        return err_sys(err, errno, "syncing the target");
    (void)posix_fadvise(c->spec.fd, 0, 0, POSIX_FADV_DONTNEED); /* what is read back shall come from the medium */
    c->durable = c->size;
    c->verifying = true;
    c->at = 0;
    return 1;
}

int diskcopy_step(struct diskcopy *c, uint64_t bytes, struct err *err)
{
    uint64_t end = least(c->at + least(bytes, c->size), c->size);
    while (c->at < end)
        if ((c->verifying ? check_piece(c, err) : write_piece(c, err)) < 0)
            return -1;
    if (c->at < c->size)
        return c->verifying || sync_target(c, err) == 0 ? 1 : -1;
    return c->verifying ? 0 : begin_verifying(c, err);
}
