/* SPDX-License-Identifier: Apache-2.0
 *
 * The record of the change log: a fixed header of 64 bytes and a payload. One format on the wire, in the node's spool
 * and in the vault (FORMAT.md has every byte with its reason).
 *
 *   off size
 *     0   4  magic "LWR1"
 *     4   1  kind       enum record_kind
 *     5   1  codec      enum record_codec, of the payload before encryption
 *     6   1  cipher     enum record_cipher
 *     7   1  flags      0; others are refused
 *     8   4  disk       number of the disk within the machine's log; 0 for marks and seals
 *    12   4  stored     payload bytes that follow (after codec and cipher, the 16-byte tag included); 0 for zero records
 *    16   8  start      byte offset on the disk, a multiple of 512
 *    24   8  length     bytes on the disk, a multiple of 512; data: 512..65536 and within one 64 KiB block of the disk;
 *                       zero: any length > 0
 *    32  16  hash       XXH3-128 of the plaintext; zero records: all zero
 *    48   4  nonce_stream   0 when not encrypted
 *    52   8  nonce_counter  0 when not encrypted
 *    60   4  check      low 32 bits of XXH3-64 of bytes 0..59
 *
 * Nothing here allocates or blocks; all functions may be called from any thread.
 */
#ifndef TRANSPORT_LOG_RECORD_H
#define TRANSPORT_LOG_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/hash.h"

#define RECORD_HEADER_SIZE 64
#define RECORD_BLOCK_SIZE 65536u /* a data record never crosses a multiple of this on its disk */
#define RECORD_SECTOR 512u
#define RECORD_TAG_SIZE 16u                                     /* AES-GCM */
#define RECORD_STORED_MAX (RECORD_BLOCK_SIZE + RECORD_TAG_SIZE) /* a codec that does not shrink is not used */
#define RECORD_DISK_MAX 1023u

enum record_kind { RECORD_DATA = 1, RECORD_ZERO = 2, RECORD_MARK = 3, RECORD_SEAL = 4 };
enum record_codec { RECORD_RAW = 0, RECORD_ZSTD = 1 };
enum record_cipher { RECORD_PLAIN = 0, RECORD_AES256GCM = 1 };

struct record {
    enum record_kind kind;
    enum record_codec codec;
    enum record_cipher cipher;
    uint32_t disk;
    uint32_t stored;
    uint64_t start;
    uint64_t length;
    struct hash128 hash;
    uint32_t nonce_stream;
    uint64_t nonce_counter;
};

void record_encode_header(const struct record *r, uint8_t out[RECORD_HEADER_SIZE]);
/* Checks everything that can be checked without the payload: magic, checksum, known kinds, limits, alignment.
 * ERR_CORRUPT, or ERR_UNSUPPORTED for a magic of another version. size < RECORD_HEADER_SIZE is ERR_CORRUPT. */
int record_decode_header(const uint8_t *in, size_t size, struct record *ret_record, struct err *err);

/* Walks a batch or a mapped segment: decodes the record at *offset, points *ret_payload into `in` and moves *offset behind
 * it. Returns 1; 0 when *offset == size; -1 ERR_CORRUPT for a bad or cut-off record (*offset stays). */
int record_next(const uint8_t *in, size_t size, size_t *offset, struct record *ret_record, const uint8_t **ret_payload,
    struct err *err);

/* The digest of a change set: XXH3-128 over (disk, start, length, hash) of its data and zero records, in order. Kind,
 * codec and cipher are left out, so a node may compress, encrypt or turn a block of zeros into a zero record (which then
 * keeps the hash that it had). */
struct record_digest; /* allocated; free accepts NULL */
struct record_digest *record_digest_new(void);
void record_digest_free(struct record_digest *d);
void record_digest_reset(struct record_digest *d);
void record_digest_add(struct record_digest *d, const struct record *r);
void record_digest_get(const struct record_digest *d, struct hash128 *ret_hash);

#endif
