/* SPDX-License-Identifier: Apache-2.0
 *
 * Character by character; what comes out is never longer than what goes in.
 */
#include "hub/core/plain_text.h"

#include <string.h>

/* How many bytes the character has that s begins; 0 where none does. */
static size_t width_of(unsigned char s)
{
    return s < 0x80 ? 1 : s >= 0xc2 && s < 0xe0 ? 2 : (s & 0xf0) == 0xe0 ? 3 : s >= 0xf0 && s < 0xf5 ? 4 : 0;
}

/* Length of the UTF-8 character at s, 0 when it is none. RFC 3629. */
static size_t utf8_length(const unsigned char *s)
{
    size_t n = width_of(s[0]);

    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if (n == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)))
        return 0;
    if (n == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)))
        return 0;
    return n;
}

/* out may be where s is. */
static void copy(char *out, size_t size, const unsigned char *s)
{
    size_t used = 0;

    while (*s) {
        size_t n = utf8_length(s);

        if (used + (n ? n : 1) >= size)
            break;
        if (n == 0 || (n == 1 && (*s < 0x20 || *s == 0x7f))) {
            out[used++] = n ? ' ' : '?';
            s++;
            continue;
        }
        memmove(out + used, s, n);
        used += n;
        s += n;
    }
    out[used] = '\0';
}

void plain_text_copy(char *out, size_t size, const char *in)
{
    copy(out, size, (const unsigned char *)(in ? in : ""));
}

void plain_text_tidy(char *text)
{
    size_t len = strlen(text), tail = 0;

    while (tail < len && tail < 3 && ((unsigned char)text[len - 1 - tail] & 0xc0) == 0x80)
        tail++;
    if (tail < len && width_of((unsigned char)text[len - 1 - tail]) > tail + 1)
        text[len - 1 - tail] = '\0'; /* a character that was begun */
    copy(text, len + 1, (const unsigned char *)text);
}
