/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing a segment. A file gets its name only when its header is durable, so there are no half-made
 * segments. Records go in by one pwritev per append; while they pass, their headers are folded into the
 * account that the seal states. After a reopen or a rewind that account is stale and is made again from the
 * file when the seal needs it, which is rare.
 *
 * Failure mode: a write that fails leaves the file's tail unknown. The writer then refuses everything until
 * segment_rewind has cut the tail off.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/log/direct_tail.h"
#include "transport/log/segment_format.h"

#define IOV_BATCH 64u

enum writer_state { WRITER_OPEN, WRITER_POISONED, WRITER_SEALED };

struct segment_writer {
    int fd;
    enum writer_state state;
    uint64_t number;
    uint64_t end;
    uint64_t synced;          /* up to here it is durable */
    bool at_mark;             /* the last record is a mark, or there is none */
    bool account_stale;       /* records and headers do not cover the file */
    bool cached;              /* the file system does not write past the page cache */
    struct direct_tail *tail; /* through which the end is written now; NULL: through the page cache */
    uint64_t records;
    struct hash_stream *headers;
};

static int writer_new(int *fd, uint64_t number, uint64_t end, struct segment_writer **ret_writer, struct err *err)
{
    struct segment_writer *w AUTO_OF(segment_writer) = mem_new(struct segment_writer);
    if (w == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a segment writer");
    w->fd = -1;
    w->headers = hash_stream_new();
    if (w->headers == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a segment writer");
    w->fd = TAKE_FD(*fd);
    w->number = number;
    w->end = w->synced = end;
    w->at_mark = true;
    w->account_stale = end > SEGMENT_HEADER_SIZE;
    *ret_writer = TAKE_PTR(w);
    return 0;
}

void segment_writer_close(struct segment_writer *w)
{
    if (w == NULL)
        return;
    direct_tail_free(w->tail);
    if (w->fd >= 0)
        (void)close(w->fd);
    hash_stream_free(w->headers);
    free(w);
}

/* ---- creating and reopening ---- */

static int write_new_file(
    int dirfd, const char *temporary, const struct segment_info *info, int *ret_fd, struct err *err)
{
    uint8_t header[SEGMENT_HEADER_SIZE];
    segment_format_header(info, header);
    AUTO_CLOSE int fd = openat(dirfd, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_sys(err, errno, "creating segment %s", temporary);
    if (file_pwrite_all(fd, header, sizeof(header), 0, temporary, err) < 0)
        return -1;
    if (fsync(fd) < 0)
        return err_sys(err, errno, "syncing segment %s", temporary);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* link() fails when the name is taken, which rename() would not; the temporary name goes away either way. */
static int give_name(int dirfd, const char *temporary, const char *name, struct err *err)
{
    int failed = linkat(dirfd, temporary, dirfd, name, 0) < 0 ? errno : 0;
    (void)unlinkat(dirfd, temporary, 0);
    if (failed != 0)
        return err_sys(err, failed, "naming segment %s", name);
    if (fsync(dirfd) == 0)
        return 0;
    failed = errno;
    (void)unlinkat(dirfd, name, 0); /* else the next try would find its name taken */
    return err_sys(err, failed, "syncing the folder of segment %s", name);
}

int segment_create(int dirfd, const struct segment_info *info, struct segment_writer **ret_writer, struct err *err)
{
    char name[SEGMENT_NAME_SIZE], temporary[SEGMENT_NAME_SIZE + 4];
    segment_name(info->number, name);
    (void)snprintf(temporary, sizeof(temporary), "%s.new", name);
    if (info->number == 0)
        return err_set(err, ERR_INVALID, "segment numbers begin at 1");
    AUTO_CLOSE int fd = -1;
    if (write_new_file(dirfd, temporary, info, &fd, err) < 0) {
        (void)unlinkat(dirfd, temporary, 0);
        return -1;
    }
    if (give_name(dirfd, temporary, name, err) < 0)
        return -1;
    return writer_new(&fd, info->number, SEGMENT_HEADER_SIZE, ret_writer, err);
}

static bool ends_in_seal(int fd, uint64_t size)
{
    uint8_t tail[SEGMENT_SEAL_SIZE];
    struct record r;
    struct segment_seal seal;
    if (size < SEGMENT_HEADER_SIZE + SEGMENT_SEAL_SIZE)
        return false;
    if (file_pread_all(fd, tail, sizeof(tail), size - sizeof(tail), "segment", NULL) < 0)
        return false;
    return record_decode_header(tail, sizeof(tail), &r, NULL) == 0 && r.kind == RECORD_SEAL &&
           segment_format_parse_seal(&r, tail + RECORD_HEADER_SIZE, &seal, NULL) == 0 &&
           seal.file_bytes == size - sizeof(tail);
}

static int cut(int fd, uint64_t end_bytes, uint64_t number, struct err *err)
{
    if (ftruncate(fd, (off_t)end_bytes) < 0 || fdatasync(fd) < 0)
        return err_sys(
            err, errno, "cutting segment %llu at byte %llu", (unsigned long long)number, (unsigned long long)end_bytes);
    return 0;
}

int segment_reopen(int dirfd, uint64_t number, uint64_t end_bytes, struct segment_writer **ret_writer, struct err *err)
{
    AUTO_CLOSE int fd = -1;
    struct segment_info info;
    struct stat st;
    if (segment_format_open(dirfd, number, O_RDWR, &fd, &info, err) < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "segment %llu", (unsigned long long)number);
    if (end_bytes < SEGMENT_HEADER_SIZE || (uint64_t)st.st_size < end_bytes)
        return err_set(err, ERR_CORRUPT, "segment %llu ends at byte %llu, before byte %llu", (unsigned long long)number,
            (unsigned long long)st.st_size, (unsigned long long)end_bytes);
    if (info.revision > 0 || ends_in_seal(fd, (uint64_t)st.st_size))
        return err_set(err, ERR_REFUSED, "segment %llu is sealed and never changes again", (unsigned long long)number);
    if (cut(fd, end_bytes, number, err) < 0)
        return -1;
    return writer_new(&fd, number, end_bytes, ret_writer, err);
}

/* ---- appending ---- */

/* A cursor over the bytes of an iovec, which records may straddle. */
struct iov_cursor {
    const struct iovec *iov;
    unsigned count;
    unsigned index;
    size_t within;
};

/* Copies n bytes (skips them when out is NULL). False when fewer are left. */
static bool cursor_take(struct iov_cursor *c, uint8_t *out, size_t n)
{
    while (n > 0) {
        if (c->index == c->count)
            return false;
        const struct iovec *v = &c->iov[c->index];
        size_t part = v->iov_len - c->within;
        if (part > n)
            part = n;
        if (out != NULL && part > 0) {
            memcpy(out, (const uint8_t *)v->iov_base + c->within, part);
            out += part;
        }
        c->within += part;
        n -= part;
        if (c->within == v->iov_len) {
            c->index++;
            c->within = 0;
        }
    }
    return true;
}

struct append_account {
    uint64_t bytes;
    uint64_t records;
    enum record_kind last;
};

/* One pass over the headers. Called twice: first to check (headers NULL), then to fold them in. */
static int walk_headers(const struct iovec *iov, unsigned count, struct hash_stream *headers,
    struct append_account *ret_account, struct err *err)
{
    struct iov_cursor c = {.iov = iov, .count = count};
    struct append_account a = {0};
    uint8_t header[RECORD_HEADER_SIZE];
    for (;;) {
        while (c.index < count && c.within == iov[c.index].iov_len) {
            c.index++;
            c.within = 0;
        }
        if (c.index == count)
            break;
        struct record r;
        if (!cursor_take(&c, header, sizeof(header)))
            return err_set(err, ERR_INVALID, "appending a record that is cut off");
        if (record_decode_header(header, sizeof(header), &r, err) < 0)
            return err_wrap(err, "appending to a segment");
        if (r.kind == RECORD_SEAL || !cursor_take(&c, NULL, r.stored))
            return err_set(err, ERR_INVALID, "appending a seal, or a record that is cut off");
        if (headers != NULL)
            hash_stream_add(headers, header, sizeof(header));
        a.bytes += RECORD_HEADER_SIZE + r.stored;
        a.records++;
        a.last = r.kind;
    }
    *ret_account = a;
    return 0;
}

static int check_open(const struct segment_writer *w, struct err *err)
{
    if (w->state == WRITER_SEALED)
        return err_set(err, ERR_REFUSED, "segment %llu is sealed", (unsigned long long)w->number);
    if (w->state == WRITER_POISONED)
        return err_set(
            err, ERR_IO, "segment %llu has an unknown tail after a failed write", (unsigned long long)w->number);
    return 0;
}

/* Writes all of iov at *offset, whatever the kernel takes at a time. */
static int write_all(int fd, const struct iovec *iov, unsigned count, uint64_t offset, struct err *err)
{
    unsigned index = 0;
    size_t within = 0;
    for (;;) {
        while (index < count && within == iov[index].iov_len) {
            index++;
            within = 0;
        }
        if (index == count)
            return 0;
        struct iovec part[IOV_BATCH];
        unsigned n = count - index < IOV_BATCH ? count - index : IOV_BATCH;
        memcpy(part, iov + index, n * sizeof(*part));
        part[0].iov_base = (uint8_t *)part[0].iov_base + within;
        part[0].iov_len -= within;
        ssize_t wrote = pwritev(fd, part, (int)n, (off_t)offset);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return err_sys(err, wrote < 0 ? errno : EIO, "appending to a segment");
        offset += (uint64_t)wrote;
        within += (size_t)wrote;
        while (index < count && within >= iov[index].iov_len) {
            within -= iov[index].iov_len;
            index++;
        }
    }
}

int segment_append(
    struct segment_writer *w, const struct iovec *iov, unsigned iov_count, uint64_t *ret_offset, struct err *err)
{
    struct append_account a;
    if (check_open(w, err) < 0 || walk_headers(iov, iov_count, NULL, &a, err) < 0)
        return -1;
    if (w->tail != NULL ? direct_tail_append(w->tail, iov, iov_count, err) < 0
                        : write_all(w->fd, iov, iov_count, w->end, err) < 0) {
        w->state = WRITER_POISONED;
        return -1;
    }
    if (!w->account_stale) {
        (void)walk_headers(iov, iov_count, w->headers, &a, NULL);
        w->records += a.records;
    }
    if (a.records > 0)
        w->at_mark = a.last == RECORD_MARK;
    *ret_offset = w->end;
    w->end += a.bytes;
    return 0;
}

/* The whole file can be read and synced afterwards. */
static int flush_tail(struct segment_writer *w, struct err *err)
{
    if (w->tail == NULL)
        return 0;
    int rc = direct_tail_flush(w->tail, err);
    direct_tail_free(TAKE_PTR(w->tail));
    if (rc < 0)
        w->state = WRITER_POISONED;
    return rc;
}

int segment_sync(struct segment_writer *w, struct err *err)
{
    if (check_open(w, err) < 0 || flush_tail(w, err) < 0)
        return -1;
    if (fdatasync(w->fd) < 0) {
        int saved = errno;
        w->state = WRITER_POISONED; /* the kernel may have dropped the pages: a second fsync would lie */
        return err_sys(err, saved, "syncing segment %llu", (unsigned long long)w->number);
    }
    w->synced = w->end;
    return 0;
}

void segment_expect_more(struct segment_writer *w, bool much)
{
    if (w->state != WRITER_OPEN || w->cached || w->tail != NULL)
        return;
    if (!much && w->end < w->synced + SEGMENT_MUCH_BYTES)
        return;
    if (direct_tail_new(w->fd, w->end, &w->tail, NULL) <= 0)
        w->cached = true;
}

int segment_rewind(struct segment_writer *w, uint64_t end_bytes, struct err *err)
{
    if (w->state == WRITER_SEALED)
        return err_set(err, ERR_REFUSED, "segment %llu is sealed", (unsigned long long)w->number);
    if (end_bytes < SEGMENT_HEADER_SIZE || end_bytes > w->end)
        return err_set(err, ERR_INTERNAL, "rewinding segment %llu to byte %llu of %llu", (unsigned long long)w->number,
            (unsigned long long)end_bytes, (unsigned long long)w->end);
    if (end_bytes > w->synced && flush_tail(w, err) < 0)
        return -1;
    direct_tail_free(TAKE_PTR(w->tail)); /* what it still holds is cut off */
    if (cut(w->fd, end_bytes, w->number, err) < 0) {
        w->state = WRITER_POISONED;
        return -1;
    }
    if (end_bytes != w->end)
        w->account_stale = true;
    w->end = w->synced = end_bytes;
    w->at_mark = true;
    w->state = WRITER_OPEN;
    return 0;
}

/* ---- sealing ---- */

static int recount(struct segment_writer *w, struct err *err)
{
    uint64_t offset = SEGMENT_HEADER_SIZE;
    hash_stream_reset(w->headers);
    w->records = 0;
    while (offset < w->end) {
        uint8_t header[RECORD_HEADER_SIZE];
        struct record r;
        if (file_pread_all(w->fd, header, sizeof(header), offset, "segment", err) < 0 ||
            record_decode_header(header, sizeof(header), &r, err) < 0)
            return err_wrap(
                err, "sealing segment %llu, byte %llu", (unsigned long long)w->number, (unsigned long long)offset);
        hash_stream_add(w->headers, header, sizeof(header));
        w->records++;
        offset += RECORD_HEADER_SIZE + r.stored;
    }
    w->account_stale = false;
    return 0;
}

int segment_seal(struct segment_writer *w, struct err *err)
{
    if (check_open(w, err) < 0)
        return -1;
    if (!w->at_mark)
        return err_set(err, ERR_REFUSED, "segment %llu does not end in a mark", (unsigned long long)w->number);
    if (flush_tail(w, err) < 0 || (w->account_stale && recount(w, err) < 0))
        return -1;
    uint8_t record[SEGMENT_SEAL_SIZE];
    struct segment_seal seal = {.records = w->records, .file_bytes = w->end};
    hash_stream_get(w->headers, &seal.headers);
    segment_format_seal(&seal, record);
    if (file_pwrite_all(w->fd, record, sizeof(record), w->end, "segment", err) < 0) {
        w->state = WRITER_POISONED;
        return -1;
    }
    if (fsync(w->fd) < 0) {
        w->state = WRITER_POISONED;
        return err_sys(err, errno, "syncing segment %llu", (unsigned long long)w->number);
    }
    w->end += sizeof(record);
    w->state = WRITER_SEALED;
    return 0;
}

uint64_t segment_end(const struct segment_writer *w)
{
    return w->end;
}

int segment_writer_fd(const struct segment_writer *w)
{
    return w->fd;
}
