/* SPDX-License-Identifier: Apache-2.0
 *
 * The growable buffer. Capacity doubles from 256 bytes so that appending is linear over all, and never passes
 * the maximum that was stated at init. A failed call leaves content and length as they were.
 */
#include "transport/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/mem.h"

enum { BUF_FIRST_BYTES = 256 };

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = BUF_INIT(max_bytes);
}

void buf_done(struct buf *b)
{
    free(b->data);
    *b = BUF_INIT(b->max);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
}

static size_t grown_cap(const struct buf *b, size_t need)
{
    size_t cap = b->cap;

    if (cap == 0) /* who knows from the beginning how long it will be gets that, and not up to twice as much */
        return need > BUF_FIRST_BYTES ? need : b->max < BUF_FIRST_BYTES ? b->max : BUF_FIRST_BYTES;
    while (cap < need && cap <= SIZE_MAX / 2)
        cap *= 2;
    return cap < need || cap > b->max ? b->max : cap;
}

int buf_reserve(struct buf *b, size_t n, struct err *err)
{
    if (n > b->max || b->len > b->max - n)
        return err_set(err, ERR_TOO_LARGE, "%zu bytes are over the limit of %zu bytes", b->len + n, b->max);
    if (b->data && b->len + n <= b->cap)
        return 0;
    size_t cap = grown_cap(b, b->len + n);
    uint8_t *data = mem_resize(b->data, cap, 1);
    if (!data)
        return err_set(err, ERR_NOMEM, "out of memory for a buffer of %zu bytes", cap);
    b->data = data;
    b->cap = cap;
    return 0;
}

int buf_append(struct buf *b, const void *data, size_t n, struct err *err)
{
    if (buf_reserve(b, n, err) < 0)
        return -1;
    if (n > 0)
        memcpy(b->data + b->len, data, n);
    b->len += n;
    return 0;
}

int buf_append_str(struct buf *b, const char *s, struct err *err)
{
    return buf_append(b, s, strlen(s), err);
}

int buf_printf(struct buf *b, struct err *err, const char *fmt, ...)
{
    char small[512];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    va_end(ap);
    if (n < 0)
        return err_set(err, ERR_INTERNAL, "a format failed");
    if ((size_t)n < sizeof(small))
        return buf_append(b, small, (size_t)n, err);

    AUTO_FREE char *large = mem_alloc((size_t)n + 1, 1);
    if (!large)
        return err_set(err, ERR_NOMEM, "out of memory for a text of %d bytes", n);
    va_start(ap, fmt);
    (void)vsnprintf(large, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return buf_append(b, large, (size_t)n, err);
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

void buf_move(struct buf *to, struct buf *from)
{
    if (to == from)
        return;
    free(to->data);
    *to = *from;
    *from = BUF_INIT(from->max);
}

/* By a copy: a block that is cut leaves a hole behind it that is too small for the next long one. */
void buf_fit(struct buf *b)
{
    if (b->cap - b->len <= b->cap / 4)
        return;
    uint8_t *data = b->len > 0 ? mem_resize(NULL, b->len, 1) : NULL;
    if (b->len > 0 && data == NULL)
        return;
    if (b->len > 0)
        memcpy(data, b->data, b->len);
    free(b->data);
    b->data = data;
    b->cap = b->len;
}

const char *buf_str(struct buf *b, struct err *err)
{
    /* The NUL is ours, so it may stand one byte over the maximum of the content. */
    if (!b->data || b->len == b->cap) {
        uint8_t *data = mem_resize(b->data, b->len + 1, 1);
        if (!data) {
            (void)err_set(err, ERR_NOMEM, "out of memory for a text of %zu bytes", b->len);
            return NULL;
        }
        b->data = data;
        b->cap = b->len + 1;
    }
    b->data[b->len] = '\0';
    return (const char *)b->data;
}
