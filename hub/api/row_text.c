/* SPDX-License-Identifier: Apache-2.0
 *
 * Text that is printable ASCII goes out as it is; all other is written by jansson. Seconds are written from microseconds digit by digit, so they
 * are exact.
 */
#include "hub/api/row_text.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"

static void add(struct row_text *t, const char *text, size_t n)
{
    if (!t->failed && buf_append(t->out, text, n, NULL) < 0)
        t->failed = true;
}

static void add_str(struct row_text *t, const char *text)
{
    add(t, text, strlen(text));
}

static int take_piece(const char *text, size_t n, void *arg)
{
    add(arg, text, n);
    return 0;
}

/* Length of the text, or -1 where a character is to be escaped or looked at. */
static ssize_t plain_length(const char *text)
{
    size_t n = 0;

    for (; text[n]; n++)
        if ((unsigned char)text[n] < 0x20 || (unsigned char)text[n] > 0x7e || text[n] == '"' || text[n] == '\\')
            return -1;
    return (ssize_t)n;
}

static void add_text(struct row_text *t, const char *text)
{
    ssize_t n = plain_length(text);
    json_t *value;

    if (n >= 0) {
        add(t, "\"", 1);
        add(t, text, (size_t)n);
        add(t, "\"", 1);
        return;
    }
    value = json_string(text);
    if (!value) /* no UTF-8 (an agent may say anything) */
        add_str(t, "\"?\"");
    else if (json_dump_callback(value, take_piece, t, JSON_ENCODE_ANY) < 0)
        t->failed = true;
    json_decref(value);
}

static void add_number(struct row_text *t, uint64_t n)
{
    char digits[24];
    size_t at = sizeof(digits);

    do
        digits[--at] = (char)('0' + n % 10);
    while ((n /= 10));
    add(t, digits + at, sizeof(digits) - at);
}

static void add_digits(struct row_text *t, uint64_t n)
{
    add(t, "\"", 1);
    add_number(t, n);
    add(t, "\"", 1);
}

/* n / 10^places, without superfluous digits. */
static void add_decimal(struct row_text *t, uint64_t n, unsigned places)
{
    char digits[8];
    uint64_t whole = n;

    for (unsigned i = places; i > 0; i--, whole /= 10)
        digits[i - 1] = (char)('0' + whole % 10);
    add_number(t, whole);
    while (places > 0 && digits[places - 1] == '0')
        places--;
    if (places > 0) {
        add(t, ".", 1);
        add(t, digits, places);
    }
}

static void add_signed(struct row_text *t, int64_t n, unsigned places)
{
    if (n < 0)
        add(t, "-", 1);
    add_decimal(t, n < 0 ? -(uint64_t)n : (uint64_t)n, places);
}

static void add_time(struct row_text *t, uint64_t utc_usec)
{
    char text[CLOCK_RFC3339_SIZE];

    if (utc_usec == 0) {
        add(t, "null", 4);
        return;
    }
    clock_rfc3339(utc_usec, text);
    add_text(t, text);
}

static void add_json(struct row_text *t, const char *text, char first, const char *instead)
{
    add_str(t, text && text[0] == first ? text : instead);
}

static void add_value(struct row_text *t, const char *at, enum row_json_form form)
{
    const char *text = NULL;
    uint64_t u = 0;
    int64_t i;

    if (form == ROW_TEXT || form == ROW_TEXT_OR_NULL || form >= ROW_ARRAY)
        memcpy(&text, at, sizeof(text));
    else if (form != ROW_BOOL)
        memcpy(&u, at, sizeof(u));
    memcpy(&i, &u, sizeof(i));
    switch (form) {
    case ROW_TEXT:
        add_text(t, text ? text : "");
        return;
    case ROW_TEXT_OR_NULL:
        if (text && *text)
            add_text(t, text);
        else
            add(t, "null", 4);
        return;
    case ROW_NUMBER:
        add_number(t, u > INT64_MAX ? INT64_MAX : u);
        return;
    case ROW_SIGNED_OR_NULL:
        if (i < 0)
            add(t, "null", 4);
        else
            add_number(t, u);
        return;
    case ROW_DIGITS:
    case ROW_ETAG:
        add_digits(t, u);
        return;
    case ROW_BOOL:
        add_str(t, *(const bool *)at ? "true" : "false");
        return;
    case ROW_TIME:
        add_time(t, u);
        return;
    case ROW_SECONDS:
        add_decimal(t, u > INT64_MAX ? INT64_MAX : u, 6);
        return;
    case ROW_SIGNED_SECONDS:
        add_signed(t, i, 6);
        return;
    case ROW_PERCENT:
        add_decimal(t, u, 1);
        return;
    case ROW_ARRAY:
        add_json(t, text, '[', "[]");
        return;
    case ROW_OBJECT:
        add_json(t, text, '{', "{}");
        return;
    case ROW_OBJECT_OR_NULL:
        add_json(t, text, '{', "null");
        return;
    }
}

struct row_text row_text_begin(struct buf *out)
{
    struct row_text t = {.out = out};

    add(&t, "{", 1);
    return t;
}

void row_text_member(struct row_text *t, const char *name, enum row_json_form form, const void *value)
{
    if (t->some)
        add(t, ",", 1);
    t->some = true;
    add(t, "\"", 1);
    add_str(t, name);
    add(t, "\":", 2);
    add_value(t, value, form);
}

void row_text_members(struct row_text *t, const void *row, const struct row_json_member *members, size_t count)
{
    for (size_t i = 0; i < count; i++)
        row_text_member(t, members[i].name, members[i].form, (const char *)row + members[i].offset);
}

int row_text_end(struct row_text *t)
{
    add(t, "}", 1);
    return t->failed ? -1 : 0;
}
