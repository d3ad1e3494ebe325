/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading a segment: record by record through a window of a mebibyte, or one record at a known place. Nothing
 * is believed: a header is checked before its length is used, and lengths are bounded by the format.
 *
 * In a rewritten segment the offsets that callers know are those of the segment as it was written; file_offset finds where the
 * bytes are now.
 *
 * A reader may run beside the writer; the end of the file is asked for again whenever the window runs out.
 *
 * A page that the medium does not give back (EIO, asked for READ_TRIES times) ends a window: records before it are read, one that reaches into it
 * is ERR_IO with that errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/log/segment_format.h"

#define WINDOW_SIZE (1u << 20)
#define READ_TRIES 3u

struct segment_reader {
    int fd;
    struct segment_info info;
    struct segment_sparse sparse; /* of a rewritten segment */
    uint64_t place;               /* of the record that was read last */
    uint64_t sealed_at;           /* offset behind the seal that was read; 0: none so far */
    uint64_t window_at;           /* file offset of window[0] */
    size_t window_len;
    bool window_broken; /* what follows on the window cannot be read */
    uint8_t *window;
};

int segment_open(int dirfd, uint64_t number, struct segment_reader **ret_reader, struct err *err)
{
    struct segment_reader *r AUTO_OF(segment_reader) = mem_new(struct segment_reader);
    if (r == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a segment reader");
    r->fd = -1;
    if (segment_format_open(dirfd, number, O_RDONLY, &r->fd, &r->info, err) < 0)
        return -1;
    if (r->info.revision > 0 && segment_sparse_load(r->fd, &r->sparse, err) < 0)
        return err_wrap(err, "segment %llu", (unsigned long long)number);
    *ret_reader = TAKE_PTR(r);
    return 0;
}

const struct segment_info *segment_reader_info(const struct segment_reader *r)
{
    return &r->info;
}

const struct segment_sparse *segment_reader_sparse(const struct segment_reader *r)
{
    return r->info.revision > 0 ? &r->sparse : NULL;
}

size_t segment_reader_lost(const struct segment_reader *r, const struct segment_lost **ret_lost)
{
    *ret_lost = r->sparse.lost;
    return r->sparse.lost_count;
}

uint64_t segment_reader_place_at(const struct segment_reader *r, uint64_t file_offset)
{
    return r->info.revision > 0 ? segment_sparse_place(&r->sparse, file_offset) : file_offset;
}

uint64_t segment_reader_place(const struct segment_reader *r)
{
    return r->place;
}

bool segment_reader_is_stale(const struct segment_reader *r)
{
    struct stat st;
    return fstat(r->fd, &st) == 0 && st.st_nlink == 0;
}

void segment_reader_close(struct segment_reader *r)
{
    if (r == NULL)
        return;
    segment_sparse_done(&r->sparse);
    if (r->fd >= 0)
        (void)close(r->fd);
    free(r->window);
    free(r);
}

/* Fills the window from `offset` on. */
static int fill(struct segment_reader *r, uint64_t offset, struct err *err)
{
    if (r->window == NULL) {
        r->window = mem_alloc(1, WINDOW_SIZE);
        if (r->window == NULL)
            return err_set(err, ERR_NOMEM, "no memory for a segment reader");
    }
    r->window_at = offset;
    r->window_len = 0;
    r->window_broken = false;
    for (unsigned tries = 1; r->window_len < WINDOW_SIZE;) {
        ssize_t n =
            pread(r->fd, r->window + r->window_len, WINDOW_SIZE - r->window_len, (off_t)(offset + r->window_len));
        if (n < 0 && (errno == EINTR || (errno == EIO && tries++ < READ_TRIES)))
            continue;
        if (n < 0 && errno != EIO)
            return err_sys(err, errno, "reading segment %llu", (unsigned long long)r->info.number);
        r->window_broken = n < 0;
        if (n <= 0)
            break;
        r->window_len += (size_t)n;
    }
    return 0;
}

/* Returns how many bytes from offset on are in the window: at least `want`, or fewer at the end of the file.
 */
static int look(
    struct segment_reader *r, uint64_t offset, size_t want, const uint8_t **ret_data, size_t *ret_have, struct err *err)
{
    bool inside = r->window_len > 0 && offset >= r->window_at && offset - r->window_at <= r->window_len &&
                  r->window_len - (offset - r->window_at) >= want;
    if (!inside && fill(r, offset, err) < 0)
        return -1;
    size_t skip = (size_t)(offset - r->window_at);
    *ret_data = r->window + skip;
    *ret_have = r->window_len - skip;
    if (*ret_have < want && r->window_broken)
        return err_sys(err, EIO, "reading segment %llu behind byte %llu", (unsigned long long)r->info.number,
            (unsigned long long)(r->window_at + r->window_len));
    return 0;
}

/* Where in the file the record at *place is; *place moves to the next one that was not taken out. */
static uint64_t file_offset(const struct segment_reader *r, uint64_t *place)
{
    uint64_t at = *place;
    if (r->info.revision == 0)
        return at;
    if (*place >= r->sparse.end)
        return r->sparse.seal_at + (*place - r->sparse.end);
    *place = segment_sparse_find(&r->sparse, *place, &at);
    return at;
}

int segment_read_next(
    struct segment_reader *r, uint64_t *offset, struct record *ret_record, const uint8_t **ret_payload, struct err *err)
{
    const uint8_t *data;
    size_t have;
    struct record record;
    if (*offset < SEGMENT_HEADER_SIZE)
        return err_set(err, ERR_INVALID, "records of a segment begin at byte %u", SEGMENT_HEADER_SIZE);
    if (r->sealed_at != 0 && *offset == r->sealed_at)
        return 0;
    uint64_t at = file_offset(r, offset);
    if (look(r, at, RECORD_HEADER_SIZE, &data, &have, err) < 0)
        return -1;
    if (have == 0)
        return 0;
    if (record_decode_header(data, have, &record, err) < 0)
        return err_wrap(
            err, "segment %llu, byte %llu", (unsigned long long)r->info.number, (unsigned long long)*offset);
    size_t size = RECORD_HEADER_SIZE + record.stored;
    if (have < size && look(r, at, size, &data, &have, err) < 0)
        return -1;
    if (have < size)
        return err_set(err, ERR_CORRUPT, "segment %llu, byte %llu: record is cut off",
            (unsigned long long)r->info.number, (unsigned long long)*offset);
    *ret_record = record;
    *ret_payload = data + RECORD_HEADER_SIZE;
    r->place = *offset;
    *offset += size;
    if (record.kind == RECORD_SEAL)
        r->sealed_at = *offset;
    return 1;
}

static int pread_record(const struct segment_reader *r, uint64_t offset, uint8_t *header, uint8_t *payload,
    size_t payload_max, size_t *ret_got, struct err *err)
{
    struct iovec iov[2] = {{header, RECORD_HEADER_SIZE}, {payload, payload_max}};
    ssize_t n;
    do {
        n = preadv(r->fd, iov, payload_max > 0 ? 2 : 1, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_sys(err, errno, "reading segment %llu", (unsigned long long)r->info.number);
    *ret_got = (size_t)n;
    return 0;
}

int segment_pread(const struct segment_reader *r, uint64_t offset, struct record *ret_record, uint8_t *payload,
    size_t payload_max, struct err *err)
{
    uint8_t header[RECORD_HEADER_SIZE];
    struct record record;
    size_t got = 0;
    uint64_t asked = offset;
    uint64_t place = offset;
    offset = file_offset(r, &place);
    if (r->info.revision > 0 && place != asked)
        return err_set(err, ERR_CORRUPT, "segment %llu, byte %llu: the record was taken out, no point needed it",
            (unsigned long long)r->info.number, (unsigned long long)asked);
    if (payload_max > RECORD_STORED_MAX)
        payload_max = RECORD_STORED_MAX;
    if (pread_record(r, offset, header, payload, payload_max, &got, err) < 0)
        return -1;
    if (record_decode_header(header, got < sizeof(header) ? got : sizeof(header), &record, err) < 0)
        return err_wrap(err, "segment %llu, byte %llu", (unsigned long long)r->info.number, (unsigned long long)offset);
    if (payload != NULL && record.stored > payload_max)
        return err_set(
            err, ERR_TOO_LARGE, "record has a payload of %u bytes, room for %zu", record.stored, payload_max);
    size_t have = got - sizeof(header);
    if (payload != NULL && have < record.stored &&
        file_pread_all(r->fd, payload + have, record.stored - have, offset + got, "segment", err) < 0)
        return err_wrap(err, "segment %llu, byte %llu", (unsigned long long)r->info.number, (unsigned long long)offset);
    if (ret_record != NULL)
        *ret_record = record;
    return 0;
}
