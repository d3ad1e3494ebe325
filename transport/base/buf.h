/* SPDX-License-Identifier: Apache-2.0
 *
 * A growable byte buffer with a maximum. Every one that grows from outside input states its maximum at init; going
 * over it is ERR_TOO_LARGE, running out of memory ERR_NOMEM, and in both cases the content stays as it was.
 */
#ifndef TRANSPORT_BASE_BUF_H
#define TRANSPORT_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"

struct buf {
    uint8_t *data; /* NULL while nothing was ever reserved */
    size_t len;
    size_t cap;
    size_t max;
};

#define BUF_INIT(max_bytes) ((struct buf){.max = (max_bytes)})

void buf_init(struct buf *b, size_t max_bytes);
void buf_done(struct buf *b);  /* frees; the buffer may be used again (same maximum) */
void buf_clear(struct buf *b); /* length 0, memory kept */
/* Makes room for n more bytes behind len; returns 0, or -1 with err set. */
int buf_reserve(struct buf *b, size_t n, struct err *err);
int buf_append(struct buf *b, const void *data, size_t n, struct err *err);
int buf_append_str(struct buf *b, const char *s, struct err *err);
int buf_printf(struct buf *b, struct err *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Gives back what is not in use, if that is more than a quarter: for content that will be kept for a while. Pointers into it end. */
void buf_fit(struct buf *b);
/* Removes n bytes (<= len) from the front by moving the rest down. */
void buf_consume(struct buf *b, size_t n);
/* Moves content and memory; *from is empty afterwards. *to must be empty or initialised (its old memory is freed). */
void buf_move(struct buf *to, struct buf *from);
/* NUL-terminates (the NUL is not counted in len) and returns the text; NULL with err set when there is no room.
 * The pointer is good until the buffer is next changed. */
const char *buf_str(struct buf *b, struct err *err);

static inline void buf_done_indirect(struct buf *b)
{
    buf_done(b);
}
#define AUTO_BUF __attribute__((cleanup(buf_done_indirect)))

#endif
