/* SPDX-License-Identifier: Apache-2.0
 *
 * What writer, reader and recovery of segments share: the file header, the payload of the seal record, and
 * the running account of records that the seal states. Private to this folder.
 */
#ifndef TRANSPORT_LOG_SEGMENT_FORMAT_H
#define TRANSPORT_LOG_SEGMENT_FORMAT_H

#include "transport/log/segment.h"

#define SEGMENT_SEAL_PAYLOAD 32u
#define SEGMENT_SEAL_SIZE (RECORD_HEADER_SIZE + SEGMENT_SEAL_PAYLOAD)

/* out holds SEGMENT_HEADER_SIZE bytes. Only what both versions have. */
void segment_format_header(const struct segment_info *info, uint8_t *out);
/* ERR_CORRUPT; ERR_UNSUPPORTED for another version. */
int segment_format_parse(const uint8_t *in, struct segment_info *ret_info, struct err *err);

struct segment_seal {
    uint64_t records;
    uint64_t file_bytes;
    struct hash128 headers;
};

/* out holds SEGMENT_SEAL_SIZE bytes: header and payload of the seal record. */
void segment_format_seal(const struct segment_seal *seal, uint8_t *out);
/* Checks the payload's hash. ERR_CORRUPT. */
int segment_format_parse_seal(
    const struct record *r, const uint8_t *payload, struct segment_seal *ret_seal, struct err *err);

/* ---- rewritten segments (segment_sparse.c) ---- */

/* A piece of the file that stands where it stood: bytes from `at` on, up to the next chunk or the seal, were at `place`. */
struct segment_chunk {
    uint32_t place;
    uint32_t at;
};

struct segment_sparse {
    uint64_t end;     /* where the records ended when the segment was written */
    uint64_t seal_at; /* of this file */
    uint32_t chunk_count, lost_count;
    struct segment_chunk *chunks; /* ascending in both */
    struct segment_lost *lost;    /* ascending */
};

/* Turns the header of version 1 in `header` into that of a rewritten segment. table: as of segment_sparse_table. */
void segment_sparse_header(const struct segment_info *info, const struct segment_sparse *s, const uint8_t *table,
    size_t table_bytes, uint8_t *header);
/* Reads the second part of the header; the first one was checked. ERR_CORRUPT. */
int segment_sparse_parse(const uint8_t *header, struct segment_info *info, struct err *err);
/* The table that stands behind the seal, allocated. NULL: no memory. */
uint8_t *segment_sparse_table(const struct segment_sparse *s, size_t *ret_bytes);
/* Reads and checks the table. ERR_CORRUPT. */
int segment_sparse_load(int fd, struct segment_sparse *ret_sparse, struct err *err);
void segment_sparse_done(struct segment_sparse *s);
/* The first place at or behind `place` where a record's bytes are, and where it lies in the file; s->end when there is none. */
uint64_t segment_sparse_find(const struct segment_sparse *s, uint64_t place, uint64_t *ret_at);
/* The other way round: the place of what lies in the file at `at`. */
uint64_t segment_sparse_place(const struct segment_sparse *s, uint64_t at);

/* NULL for a segment that was not rewritten. */
const struct segment_sparse *segment_reader_sparse(const struct segment_reader *r);

/* Opens the file of a segment and checks header and number. ERR_NOT_FOUND when it has no room for a header.
 */
int segment_format_open(
    int dirfd, uint64_t number, int flags, int *ret_fd, struct segment_info *ret_info, struct err *err);

#endif
