/* SPDX-License-Identifier: Apache-2.0
 *
 * Crash recovery of the last segment of a log. Records are walked from the front; the end of the log is
 * behind the last valid mark. What stands behind that is a change set that never was.
 *
 * A bad record may be a torn tail, which is normal, or damage, which is not. What tells them apart: behind
 * damage there is a later mark of the same machine whose checksum and hash fit and whose sequence is higher
 * than the last good one. The search for it goes byte by byte, because behind a bad header nothing tells
 * where the next record begins. What the medium does not give back is neither: it may be read the next time, and the caller decides for how long to ask.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "transport/log/mark.h"
#include "transport/log/segment_format.h"

struct recovery {
    struct segment_reader *reader;
    uint64_t last_sequence;
    uint64_t records;
    uint64_t end;
    bool sealed;
    struct hash_stream *headers;
};

typedef void mark_fn(void *arg, const struct record *r, const uint8_t *payload, uint64_t end_bytes);

/* Is this record a mark that comes later, or the seal of this very file? `offset` is the record's place in the file. */
static bool proves_damage(const struct recovery *v, const struct record *r, const uint8_t *payload, uint64_t offset)
{
    struct mark m;
    struct segment_seal seal;
    if (r->kind == RECORD_MARK)
        return mark_decode(r, payload, &m, NULL) == 0 &&
               ident_equal(&m.machine, &segment_reader_info(v->reader)->machine) && m.sequence > v->last_sequence;
    if (r->kind == RECORD_SEAL)
        return segment_format_parse_seal(r, payload, &seal, NULL) == 0 && seal.file_bytes == offset;
    return false;
}

static bool proof_in(const struct recovery *v, const uint8_t *data, size_t n, uint64_t offset)
{
    const uint8_t *at = data;
    while ((at = memchr(at, 'L', n - (size_t)(at - data))) != NULL) {
        struct record r;
        size_t left = n - (size_t)(at - data);
        if (left < RECORD_HEADER_SIZE)
            return false;
        if (memcmp(at, "LWR", 3) == 0 && record_decode_header(at, left, &r, NULL) == 0 &&
            r.stored <= left - RECORD_HEADER_SIZE &&
            proves_damage(v, &r, at + RECORD_HEADER_SIZE, offset + (uint64_t)(at - data)))
            return true;
        at++;
    }
    return false;
}

#define SEARCH_WINDOW (1u << 20)
#define SEARCH_OVERLAP                                                                                                 \
    (RECORD_HEADER_SIZE + MARK_PAYLOAD_MAX) /* the longest mark, seen whole in one window or the next */

/* Searches the file from `offset` on. 1: a later mark or the seal is there; 0: neither; -1. */
static int proof_behind(const struct recovery *v, int fd, uint64_t offset, struct err *err)
{
    uint8_t *window AUTO_FREE = mem_alloc(1, SEARCH_WINDOW);
    if (window == NULL)
        return err_set(err, ERR_NOMEM, "no memory to search a segment");
    for (;;) {
        ssize_t n = pread(fd, window, SEARCH_WINDOW, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "reading a segment");
        if (proof_in(v, window, (size_t)n, offset))
            return 1;
        if ((size_t)n <= SEARCH_OVERLAP)
            return 0;
        offset += (uint64_t)n - SEARCH_OVERLAP;
    }
}

static int take_mark(struct recovery *v, const struct record *r, const uint8_t *payload, uint64_t offset,
    mark_fn *on_mark, void *arg, struct err *err)
{
    struct mark m;
    if (mark_decode(r, payload, &m, err) < 0)
        return -1;
    v->last_sequence = m.sequence;
    v->end = offset;
    if (on_mark != NULL)
        on_mark(arg, r, payload, offset);
    return 0;
}

static int take_seal(
    struct recovery *v, const struct record *r, const uint8_t *payload, uint64_t offset, struct err *err)
{
    struct segment_seal seal;
    struct hash128 headers;
    if (segment_format_parse_seal(r, payload, &seal, err) < 0)
        return -1;
    hash_stream_get(v->headers, &headers);
    const struct segment_sparse *sparse = segment_reader_sparse(v->reader);
    uint64_t before = sparse != NULL ? sparse->seal_at : offset - SEGMENT_SEAL_SIZE;
    if (seal.records != v->records || seal.file_bytes != before || !hash_equal(&seal.headers, &headers))
        return err_set(err, ERR_CORRUPT, "seal does not fit what stands before it");
    v->sealed = true;
    if (sparse != NULL)
        v->end = sparse->end;
    return 0;
}

/* Walks to the end (0) or to the first record that is not good (-1; *offset stays before it). */
static int walk(struct recovery *v, uint64_t *offset, mark_fn *on_mark, void *arg, struct err *err)
{
    for (;;) {
        struct record r;
        const uint8_t *payload;
        uint64_t next = *offset;
        int got = segment_read_next(v->reader, &next, &r, &payload, err);
        if (got <= 0)
            return got;
        if (r.kind == RECORD_SEAL)
            return take_seal(v, &r, payload, next, err);
        uint8_t header[RECORD_HEADER_SIZE];
        record_encode_header(&r, header);
        if (r.kind == RECORD_MARK && take_mark(v, &r, payload, next, on_mark, arg, err) < 0)
            return -1;
        hash_stream_add(v->headers, header, sizeof(header));
        v->records++;
        *offset = next;
    }
}

static int recover(struct recovery *v, int fd, mark_fn *on_mark, void *arg, struct err *err)
{
    uint64_t offset = SEGMENT_HEADER_SIZE;
    struct err cause = ERR_INIT;
    if (walk(v, &offset, on_mark, arg, &cause) == 0)
        return 0;
    if (cause.code != ERR_CORRUPT ||
        segment_reader_sparse(v->reader) != NULL) { /* a rewritten one is whole or damaged */
        err_copy(err, &cause);
        return -1;
    }
    int later = proof_behind(v, fd, offset + 1, err);
    if (later <= 0)
        return later;
    err_copy(err, &cause);
    (void)err_wrap(err, "damaged before a later mark or the seal");
    return err_hint(err, "Restore this part of the log from the source by a resynchronization.");
}

int segment_recover(
    int dirfd, uint64_t number, mark_fn *on_mark, void *arg, uint64_t *ret_end, bool *ret_sealed, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    AUTO_CLOSE int fd = -1;
    struct segment_info info;
    if (segment_open(dirfd, number, &reader, err) < 0 ||
        segment_format_open(dirfd, number, O_RDONLY, &fd, &info, err) < 0)
        return -1;
    struct recovery v = {.reader = reader, .end = SEGMENT_HEADER_SIZE, .headers = hash_stream_new()};
    if (v.headers == NULL)
        return err_set(err, ERR_NOMEM, "no memory to recover a segment");
    int result = recover(&v, fd, on_mark, arg, err);
    hash_stream_free(v.headers);
    *ret_end = v.end;
    *ret_sealed = v.sealed;
    return result;
}
