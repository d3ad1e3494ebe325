/* SPDX-License-Identifier: Apache-2.0
 *
 * XXH3 behind our own types, so that its inlined header is compiled once and its version shows nowhere else.
 * The algorithms are frozen since xxHash 0.8.0; golden values in the test hold them.
 */
#include "transport/base/hash.h"

#include <assert.h>
#include <xxhash.h>

#include "transport/base/hash_wide.h"

static void store(XXH128_hash_t h, struct hash128 *ret_hash)
{
    XXH128_canonical_t canonical;

    static_assert(sizeof(canonical) == HASH_SIZE, "XXH128 has 16 bytes");
    XXH128_canonicalFromHash(&canonical, h);
    memcpy(ret_hash->bytes, &canonical, HASH_SIZE);
}

void hash_128(const void *data, size_t n, struct hash128 *ret_hash)
{
#ifdef __x86_64__
    if (n >= HASH_WIDE_MIN && __builtin_cpu_supports("avx2")) {
        hash_wide_128(data, n, ret_hash);
        return;
    }
#endif
    store(XXH3_128bits(data, n), ret_hash);
}

uint32_t hash_32(const void *data, size_t n)
{
    return (uint32_t)XXH3_64bits(data, n);
}

uint64_t hash_64(const void *data, size_t n)
{
    return XXH3_64bits(data, n);
}

struct hash_stream *hash_stream_new(void)
{
    XXH3_state_t *state = XXH3_createState();

    if (state)
        (void)XXH3_128bits_reset(state);
    return (struct hash_stream *)state;
}

void hash_stream_free(struct hash_stream *s)
{
    (void)XXH3_freeState((XXH3_state_t *)s);
}

void hash_stream_reset(struct hash_stream *s)
{
    (void)XXH3_128bits_reset((XXH3_state_t *)s);
}

void hash_stream_add(struct hash_stream *s, const void *data, size_t n)
{
    if (n > 0)
        (void)XXH3_128bits_update((XXH3_state_t *)s, data, n);
}

void hash_stream_get(const struct hash_stream *s, struct hash128 *ret_hash)
{
    store(XXH3_128bits_digest((const XXH3_state_t *)s), ret_hash);
}

/* ---- sealed files ---- */

void hash_seal(uint8_t *data, size_t n)
{
    struct hash128 hash;

    hash_128(data, n, &hash);
    memcpy(data + n, hash.bytes, HASH_SIZE);
}

bool hash_is_sealed(const uint8_t *data, size_t n)
{
    struct hash128 hash;

    if (n < HASH_SIZE)
        return false;
    hash_128(data, n - HASH_SIZE, &hash);
    return memcmp(hash.bytes, data + n - HASH_SIZE, HASH_SIZE) == 0;
}
