/* SPDX-License-Identifier: Apache-2.0
 *
 * Hex, zero test and constant-time comparison. The zero test reads four words a step, which the compiler
 * turns into vector loads; it stops at the first step that holds a set bit.
 */
#include "transport/base/bytes.h"

static uint64_t word_at(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

bool bytes_are_zero(const void *data, size_t n)
{
    const uint8_t *p = data;

    for (; n >= 32; p += 32, n -= 32)
        if (word_at(p) | word_at(p + 8) | word_at(p + 16) | word_at(p + 24))
            return false;
    for (; n > 0; p++, n--)
        if (*p)
            return false;
    return true;
}

void bytes_to_hex(const uint8_t *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int bytes_from_hex(const char *s, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int high = hex_value(s[2 * i]);
        int low = high < 0 ? -1 : hex_value(s[2 * i + 1]);
        if (low < 0)
            return -1;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return s[2 * n] == '\0' ? 0 : -1;
}

bool bytes_equal_ct(const void *a, const void *b, size_t n)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t differs = 0;

    for (size_t i = 0; i < n; i++)
        differs = (uint8_t)(differs | (x[i] ^ y[i]));
    return differs == 0;
}
