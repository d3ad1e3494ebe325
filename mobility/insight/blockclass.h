/* SPDX-License-Identifier: Apache-2.0
 *
 * What a piece of a disk looks like from its bytes alone: how much entropy they have, and whether they could be told from random ones.
 * Ciphertext cannot; what deflate or zstd made can nearly always; what xz made cannot.
 */
#ifndef MOBILITY_INSIGHT_BLOCKCLASS_H
#define MOBILITY_INSIGHT_BLOCKCLASS_H

#include <stddef.h>
#include <stdint.h>

enum blockclass {
    BLOCK_UNKNOWN, /* too short to say, or nothing but zeros */
    BLOCK_LOW,     /* compressible */
    BLOCK_HIGH,    /* hardly compressible, and with a structure */
    BLOCK_UNIFORM, /* like random bytes: encrypted, or compressed very well */
};

/* Pieces from here on can be told uniform. In shorter ones deflate leaves too few traces. */
#define BLOCKCLASS_MIN_BYTES 32768u

/* Shannon entropy of single bytes, in thousandths of a bit per byte: 0..8000. Looks at one 4 KiB sample of longer pieces. */
unsigned blockclass_entropy(const void *data, size_t n);
/* n >= 512. Reads all of it only when a sample looks random. *ret_entropy (may be NULL) as above. */
enum blockclass blockclass_of(const void *data, size_t n, unsigned *ret_entropy);
/* The same from a sample alone, a fraction of the cost where much is hardly compressible: never BLOCK_UNIFORM but BLOCK_HIGH. */
enum blockclass blockclass_sampled(const void *data, size_t n);

#endif
