/* SPDX-License-Identifier: Apache-2.0
 *
 * Little-endian getters and setters for formats on disk and on the wire. Formats are decoded with these, never by
 * casting. A pointer needs no alignment.
 */
#ifndef TRANSPORT_BASE_BYTES_H
#define TRANSPORT_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <endian.h>

#define BYTES_GETSET(bits)                                                                                             \
    static inline uint##bits##_t get_le##bits(const uint8_t *p)                                                        \
    {                                                                                                                  \
        uint##bits##_t v;                                                                                              \
        memcpy(&v, p, sizeof(v));                                                                                      \
        return le##bits##toh(v);                                                                                       \
    }                                                                                                                  \
    static inline void put_le##bits(uint8_t *p, uint##bits##_t v)                                                      \
    {                                                                                                                  \
        v = htole##bits(v);                                                                                            \
        memcpy(p, &v, sizeof(v));                                                                                      \
    }
BYTES_GETSET(16)
BYTES_GETSET(32)
BYTES_GETSET(64)
#undef BYTES_GETSET

/* True when all n bytes are zero. Runs at memory speed. */
bool bytes_are_zero(const void *p, size_t n);
/* Writes 2*n lower-case hex digits and a NUL into out. */
void bytes_to_hex(const uint8_t *p, size_t n, char *out);
/* Reads exactly 2*n hex digits; 0, or -1 when s is shorter, longer or not hex. */
int bytes_from_hex(const char *s, uint8_t *out, size_t n);
/* Compares without an early exit, for secrets. */
bool bytes_equal_ct(const void *a, const void *b, size_t n);

#endif
