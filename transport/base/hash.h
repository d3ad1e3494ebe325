/* SPDX-License-Identifier: Apache-2.0
 *
 * The two hashes of the product, both XXH3 (xxHash 0.8, seed 0): 128 bits over the plaintext of each block, made on
 * the source and carried to the end (P5), and 32 bits (the low half of XXH3-64) for headers. Neither is a defence
 * against an attacker who can write the store: that is AES-GCM's part.
 */
#ifndef TRANSPORT_BASE_HASH_H
#define TRANSPORT_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HASH_SIZE 16

struct hash128 {
    uint8_t bytes[HASH_SIZE]; /* canonical big-endian form of XXH128_hash_t */
};

void hash_128(const void *data, size_t n, struct hash128 *ret_hash);
uint32_t hash_32(const void *data, size_t n);
uint64_t hash_64(const void *data, size_t n);

static inline bool hash_equal(const struct hash128 *a, const struct hash128 *b)
{
    return memcmp(a->bytes, b->bytes, HASH_SIZE) == 0;
}

/* Small files end with the hash of all that stands before it. Puts that of n bytes behind them, where there must be room for it. */
void hash_seal(uint8_t *data, size_t n);
/* Are these n bytes, the hash at their end among them, as they were sealed? Fewer than HASH_SIZE never are. */
bool hash_is_sealed(const uint8_t *data, size_t n);

/* Streaming form of hash_128. hash_stream_free accepts NULL. */
struct hash_stream;
struct hash_stream *hash_stream_new(void); /* NULL: no memory */
void hash_stream_free(struct hash_stream *s);
void hash_stream_reset(struct hash_stream *s);
void hash_stream_add(struct hash_stream *s, const void *data, size_t n);
void hash_stream_get(const struct hash_stream *s, struct hash128 *ret_hash); /* may go on adding afterwards */

#endif
