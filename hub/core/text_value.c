/* SPDX-License-Identifier: Apache-2.0
 *
 * Values into their places.
 */
#include "hub/core/text_value.h"

#include <stdio.h>
#include <string.h>

#define NAME_MAX 32

/* What stands between the braces at p ("{name}"); NULL: it is no place. */
static const char *name_at(const char *p, char ret_name[NAME_MAX])
{
    size_t n = *p == '{' ? strcspn(p + 1, "{}") : 0;

    if (n == 0 || n >= NAME_MAX || p[n + 1] != '}')
        return NULL;
    memcpy(ret_name, p + 1, n);
    ret_name[n] = '\0';
    return p + n + 2;
}

static const char *value_of(const struct text_value *values, const char *name, char number[24])
{
    for (; values->name; values++)
        if (strcmp(values->name, name) == 0) {
            (void)snprintf(number, 24, "%lld", (long long)values->number);
            return values->text ? values->text : number;
        }
    return "";
}

/* What was cut off within a character loses the rest of it, too. */
static void end_whole(char *text)
{
    size_t len = strlen(text), n = len;
    unsigned char lead;

    while (n > 0 && ((unsigned char)text[n - 1] & 0xc0) == 0x80)
        n--;
    if (n == 0)
        return;
    lead = (unsigned char)text[n - 1];
    if (len - n + 1 < (lead >= 0xf0 ? 4u : lead >= 0xe0 ? 3u : lead >= 0xc0 ? 2u : 1u))
        text[n - 1] = '\0';
}

const char *text_value_form(const struct text_value *values)
{
    for (; values->name; values++)
        if (strcmp(values->name, "form") == 0 && values->text)
            return values->text;
    return "";
}

void text_value_fill(const char *text, const struct text_value *values, char *ret_text, size_t size)
{
    char name[NAME_MAX], number[24];
    size_t used = 0;

    while (*text && used + 1 < size) {
        const char *after = name_at(text, name), *piece = after ? value_of(values, name, number) : text;
        size_t len = after ? strlen(piece) : 1 + strcspn(text + 1, "{");

        text = after ? after : text + len;
        len = len < size - 1 - used ? len : size - 1 - used;
        memcpy(ret_text + used, piece, len);
        used += len;
    }
    ret_text[used] = '\0';
    end_whole(ret_text);
}
