/* SPDX-License-Identifier: Apache-2.0
 *
 * XXH3-128 compiled for wider vectors; private to hash.c.
 */
#ifndef TRANSPORT_BASE_HASH_WIDE_H
#define TRANSPORT_BASE_HASH_WIDE_H

#include "transport/base/hash.h"

#define HASH_WIDE_MIN 512u /* shorter inputs do not use vectors */

/* As hash_128. Only where the processor has AVX2. */
void hash_wide_128(const void *data, size_t n, struct hash128 *ret_hash);

#endif
