/* SPDX-License-Identifier: Apache-2.0
 *
 * A patch is pieces of offset (8), length (4) and bytes. A mark keeps its size when its numbers change, so nothing moves; the seal states
 * the hash of all headers, and those of marks change with them.
 */
#include "transport/log/segment_relabel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/log/mark.h"
#include "transport/log/segment_format.h"

#define PIECE_HEAD 12u

struct plan {
    const struct segment_relabel *spec;
    struct segment_reader *reader;
    struct hash_stream *headers;
    struct buf *out;
    uint64_t records, sequence;
    bool sealed;
};

static int add_piece(struct buf *out, uint64_t offset, const uint8_t *data, size_t n, struct err *err)
{
    uint8_t head[PIECE_HEAD];
    put_le64(head, offset);
    put_le32(head + 8, (uint32_t)n);
    return buf_append(out, head, sizeof(head), err) < 0 ? -1 : buf_append(out, data, n, err);
}

/* `is_last` makes a point of it. */
static int encode_mark(
    struct plan *p, const struct record *r, const uint8_t *payload, bool is_last, struct buf *out, struct err *err)
{
    struct mark *m AUTO_FREE = mem_new(struct mark);
    size_t before = out->len;
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark");
    if (mark_decode(r, payload, m, err) < 0)
        return -1;
    m->sequence = p->sequence;
    m->generation = p->spec->generation;
    m->epoch = p->spec->epoch;
    if (is_last) {
        m->kind = MARK_CRASH;
        m->time_utc_usec = p->spec->point_utc_usec;
    }
    if (mark_append(m, out, err) < 0)
        return -1;
    if (out->len - before != RECORD_HEADER_SIZE + r->stored)
        return err_set(err, ERR_INTERNAL, "a mark changed its size");
    return 0;
}

/* Is the record behind this mark the seal? */
static bool is_last_mark(struct plan *p, uint64_t next)
{
    struct record r;
    return segment_pread(p->reader, next, &r, NULL, 0, NULL) == 0 && r.kind == RECORD_SEAL;
}

static int take_mark(
    struct plan *p, const struct record *r, const uint8_t *payload, uint64_t at, uint64_t next, struct err *err)
{
    struct buf mark AUTO_BUF = BUF_INIT(MARK_PAYLOAD_MAX + RECORD_HEADER_SIZE);
    bool point = p->spec->point_utc_usec != 0 && is_last_mark(p, next);
    if (encode_mark(p, r, payload, point, &mark, err) < 0 || add_piece(p->out, at, mark.data, mark.len, err) < 0)
        return -1;
    hash_stream_add(p->headers, mark.data, RECORD_HEADER_SIZE);
    p->sequence++;
    return 0;
}

static int take_seal(struct plan *p, uint64_t at, struct err *err)
{
    uint8_t seal[SEGMENT_SEAL_SIZE];
    struct segment_seal s = {.records = p->records, .file_bytes = at};
    hash_stream_get(p->headers, &s.headers);
    segment_format_seal(&s, seal);
    p->sealed = true;
    return add_piece(p->out, at, seal, sizeof(seal), err);
}

static int walk(struct plan *p, struct err *err)
{
    uint64_t offset = SEGMENT_HEADER_SIZE;
    for (;;) {
        struct record r;
        const uint8_t *payload;
        uint8_t header[RECORD_HEADER_SIZE];
        uint64_t at = offset;
        int got = segment_read_next(p->reader, &offset, &r, &payload, err);
        if (got <= 0)
            return got;
        if (r.kind == RECORD_SEAL)
            return take_seal(p, at, err);
        if (r.kind == RECORD_MARK) {
            if (take_mark(p, &r, payload, at, offset, err) < 0)
                return -1;
        } else {
            record_encode_header(&r, header);
            hash_stream_add(p->headers, header, sizeof(header));
        }
        p->records++;
    }
}

static int add_header(struct plan *p, struct err *err)
{
    uint8_t *header AUTO_FREE = mem_alloc(1, SEGMENT_HEADER_SIZE);
    struct segment_info info = *segment_reader_info(p->reader);
    if (header == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a segment");
    info.log = p->spec->log;
    info.number = p->spec->number;
    info.first_sequence = p->spec->first_sequence;
    segment_format_header(&info, header);
    return add_piece(p->out, 0, header, SEGMENT_HEADER_SIZE, err);
}

int segment_relabel_plan(int dirfd, uint64_t number, const struct segment_relabel *spec, struct buf *out,
    uint64_t *ret_next_sequence, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    struct plan p = {.spec = spec, .out = out, .sequence = spec->first_sequence};
    if (segment_open(dirfd, number, &reader, err) < 0)
        return -1;
    p.reader = reader;
    p.headers = hash_stream_new();
    int result = p.headers == NULL ? err_set(err, ERR_NOMEM, "no memory for a segment") : 0;
    if (result == 0)
        result = walk(&p, err);
    if (result == 0 && !p.sealed)
        result = err_set(err, ERR_CORRUPT, "segment %llu has no seal", (unsigned long long)number);
    if (result == 0)
        result = add_header(&p, err);
    hash_stream_free(p.headers);
    *ret_next_sequence = p.sequence;
    return result < 0 ? -1 : 0;
}

int segment_relabel_apply(int dirfd, uint64_t number, const uint8_t *patch, size_t n, struct err *err)
{
    char name[SEGMENT_NAME_SIZE];
    struct stat st;
    segment_name(number, name);
    int fd AUTO_CLOSE = openat(dirfd, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "opening segment %llu", (unsigned long long)number);
    for (size_t at = 0; at < n;) {
        uint32_t length = n - at < PIECE_HEAD ? 0 : get_le32(patch + at + 8);
        uint64_t offset = n - at < PIECE_HEAD ? 0 : get_le64(patch + at);
        if (length == 0 || length > n - at - PIECE_HEAD || offset > (uint64_t)st.st_size ||
            length > (uint64_t)st.st_size - offset)
            return err_set(
                err, ERR_CORRUPT, "what is to be written into segment %llu makes no sense", (unsigned long long)number);
        if (file_pwrite_all(fd, patch + at + PIECE_HEAD, length, offset, "segment", err) < 0)
            return -1;
        at += PIECE_HEAD + length;
    }
    return fdatasync(fd) < 0 ? err_sys(err, errno, "syncing segment %llu", (unsigned long long)number) : 0;
}
