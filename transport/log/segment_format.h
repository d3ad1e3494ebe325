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

/* out holds SEGMENT_HEADER_SIZE bytes. */
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

/* Opens the file of a segment and checks header and number. ERR_NOT_FOUND when it has no room for a header.
 */
int segment_format_open(
    int dirfd, uint64_t number, int flags, int *ret_fd, struct segment_info *ret_info, struct err *err);

#endif
