/* SPDX-License-Identifier: Apache-2.0
 *
 * Random UUIDs (RFC 9562, version 4, variant 10) and their text form.
 */
#include "transport/base/ident.h"

#include <errno.h>
#include <sys/random.h>

#include "transport/base/bytes.h"
#include "transport/base/mem.h"

/* Hex digits of each group, and where its bytes begin. */
static const struct {
    uint8_t first_byte, bytes;
} groups[] = {{0, 4}, {4, 2}, {6, 2}, {8, 2}, {10, 6}};

int ident_random(struct ident *ret_id)
{
    size_t got = 0;

    while (got < IDENT_SIZE) {
        ssize_t n = getrandom(ret_id->bytes + got, IDENT_SIZE - got, 0);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0)
            got += (size_t)n;
    }
    ret_id->bytes[6] = (uint8_t)((ret_id->bytes[6] & 0x0f) | 0x40);
    ret_id->bytes[8] = (uint8_t)((ret_id->bytes[8] & 0x3f) | 0x80);
    return 0;
}

void ident_to_text(const struct ident *id, char out[IDENT_TEXT_SIZE])
{
    char *p = out;

    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        if (i > 0)
            *p++ = '-';
        bytes_to_hex(id->bytes + groups[i].first_byte, groups[i].bytes, p);
        p += 2 * groups[i].bytes;
    }
}

int ident_from_text(const char *s, struct ident *ret_id)
{
    struct ident id;

    if (strnlen(s, IDENT_TEXT_SIZE) != IDENT_TEXT_SIZE - 1)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        char hex[13] = {0};
        size_t digits = 2U * groups[i].bytes;
        if (i > 0 && *s++ != '-')
            return -1;
        memcpy(hex, s, digits);
        if (bytes_from_hex(hex, id.bytes + groups[i].first_byte, groups[i].bytes) < 0)
            return -1;
        s += digits;
    }
    *ret_id = id;
    return 0;
}

bool ident_is_zero(const struct ident *id)
{
    return bytes_are_zero(id->bytes, IDENT_SIZE);
}
