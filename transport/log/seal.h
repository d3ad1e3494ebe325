/* SPDX-License-Identifier: Apache-2.0
 *
 * Payloads of data records: sealing (hash, compress, encrypt) and unsealing (decrypt, decompress, verify the hash). The
 * order is fixed: hash over the plaintext, then zstd, then AES-256-GCM with the first 60 header bytes as additional data
 * (so the header, nonce included, is authenticated). The nonce is nonce_stream (4 bytes LE) then nonce_counter (8 bytes
 * LE); the caller never gives the same pair twice under one key: streams are handed out by the vault, durably, once, and
 * the counter starts at 1 in each stream.
 *
 * A struct seal_work holds the zstd and OpenSSL contexts and scratch memory of one thread.
 */
#ifndef TRANSPORT_LOG_SEAL_H
#define TRANSPORT_LOG_SEAL_H

#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/log/record.h"

#define SEAL_KEY_SIZE 32

struct seal_key {
    uint8_t bytes[SEAL_KEY_SIZE];
};

struct seal_work;
struct seal_work *seal_work_new(void); /* NULL: no memory */
void seal_work_free(struct seal_work *w);

/* Appends one data record for `length` bytes of plaintext at disk/start; a block of zeros becomes a zero record with hash 0.
 * level 0 = store raw; else zstd at that level, stored raw when it would not save at least 1/16. No encryption. *ret_record
 * is what was appended. ERR_NOMEM, ERR_TOO_LARGE (buffer's maximum). */
int seal_append_data(struct seal_work *w, uint32_t disk, uint64_t start, const void *data, uint32_t length, int level,
    struct buf *out, struct record *ret_record, struct err *err);
/* Appends a zero record of any length. */
int seal_append_zero(
    uint32_t disk, uint64_t start, uint64_t length, struct buf *out, struct record *ret_record, struct err *err);

/* Re-seals a received record: what came raw has its hash verified, becomes a zero record if it is all zeros, and is compressed
 * at `level` if level > 0; what came compressed is passed on as it came (whoever decompresses it next verifies it, the vault
 * before it commits). Encrypts under key with the given nonce if key is not NULL. Marks and zero records are appended
 * unchanged. */
int seal_reseal(struct seal_work *w, const struct record *in, const uint8_t *payload, int level,
    const struct seal_key *key, uint32_t nonce_stream, uint64_t nonce_counter, struct buf *out,
    struct record *ret_record, struct err *err);

/* Writes the `r->length` plaintext bytes of a data record to out. key is needed when it is encrypted (ERR_DENIED
 * "wrong key" when the tag does not fit, ERR_CORRUPT when decompression or the hash fails). */
int seal_open(struct seal_work *w, const struct record *r, const uint8_t *payload, const struct seal_key *key,
    uint8_t *out, struct err *err);

#endif
