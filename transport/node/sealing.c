/* SPDX-License-Identifier: Apache-2.0
 *
 * Sealing a batch. The batch is walked twice: the first time only its headers, to refuse a bad frame before any work is
 * done and to find the last mark, behind which the output is cut so that the spool can change segments there.
 */
#include "transport/node/sealing.h"

#include <pthread.h>

#include "transport/base/mem.h"

#define WORKS_MAX 64u

struct sealing_pool {
    pthread_mutex_t lock; /* guards works and count */
    struct seal_work *works[WORKS_MAX];
    unsigned count;
};

struct sealing_pool *sealing_pool_new(void)
{
    struct sealing_pool *p = mem_new(struct sealing_pool);
    if (p != NULL)
        (void)pthread_mutex_init(&p->lock, NULL);
    return p;
}

void sealing_pool_free(struct sealing_pool *p)
{
    if (p == NULL)
        return;
    for (unsigned i = 0; i < p->count; i++)
        seal_work_free(p->works[i]);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

static struct seal_work *work_take(struct sealing_pool *p)
{
    struct seal_work *w = NULL;
    (void)pthread_mutex_lock(&p->lock);
    if (p->count > 0)
        w = p->works[--p->count];
    (void)pthread_mutex_unlock(&p->lock);
    return w != NULL ? w : seal_work_new();
}

static void work_give(struct sealing_pool *p, struct seal_work *w)
{
    (void)pthread_mutex_lock(&p->lock);
    if (p->count < WORKS_MAX) {
        p->works[p->count++] = w;
        w = NULL;
    }
    (void)pthread_mutex_unlock(&p->lock);
    seal_work_free(w);
}

uint64_t sealing_nonces(size_t n)
{
    return n / RECORD_HEADER_SIZE + 1;
}

/* Checks the frame; *ret_last_mark is the offset behind the last mark, 0 if there is none. */
static int find_last_mark(const uint8_t *batch, size_t n, size_t *ret_last_mark, struct err *err)
{
    size_t offset = 0;
    struct record r;
    const uint8_t *payload;
    int got;
    *ret_last_mark = 0;
    while ((got = record_next(batch, n, &offset, &r, &payload, err)) == 1) {
        if (r.kind == RECORD_SEAL)
            return err_set(err, ERR_CORRUPT, "a seal has no place in a stream");
        if (r.kind == RECORD_MARK)
            *ret_last_mark = offset;
    }
    return got;
}

static struct buf *next_chunk(struct sealing_out *out, size_t left, struct err *err)
{
    if (out->chunk_count == SEALING_CHUNKS_MAX) {
        (void)err_set(err, ERR_TOO_LARGE, "batch grows too much when it is sealed");
        return NULL;
    }
    struct buf *chunk = &out->chunks[out->chunk_count++];
    buf_init(chunk, SEALING_CHUNK_MAX);
    size_t want = left + left / 16 < SEALING_CHUNK_MAX ? left + left / 16 : SEALING_CHUNK_MAX;
    return buf_reserve(chunk, want, err) < 0 ? NULL : chunk;
}

static int seal_all(struct seal_work *w, const struct sealing_order *order, const uint8_t *batch, size_t n,
    size_t last_mark, struct sealing_out *out, struct err *err)
{
    size_t offset = 0;
    uint64_t counter = order->nonce_counter;
    struct buf *chunk = NULL;
    struct record r, sealed;
    const uint8_t *payload;
    while (record_next(batch, n, &offset, &r, &payload, err) == 1) {
        if (chunk == NULL && (chunk = next_chunk(out, n - offset + RECORD_HEADER_SIZE + r.stored, err)) == NULL)
            return -1;
        if (seal_reseal(
                w, &r, payload, order->level, &order->key, order->nonce_stream, counter++, chunk, &sealed, err) < 0)
            return -1;
        if (offset == last_mark)
            out->through_mark = out->chunk_count;
        if (chunk->len >= SEALING_CHUNK_BYTES || offset == last_mark)
            chunk = NULL;
    }
    /* They may wait long for the vault, and what waits is counted by its length. */
    for (unsigned i = 0; i < out->chunk_count; i++)
        buf_fit(&out->chunks[i]);
    return 0;
}

int sealing_run(struct sealing_pool *p, const struct sealing_order *order, const uint8_t *batch, size_t n,
    struct sealing_out *out, struct err *err)
{
    size_t last_mark;
    *out = (struct sealing_out){0};
    if (n > SEALING_BATCH_MAX)
        return err_set(err, ERR_TOO_LARGE, "batch of %zu bytes, at most %u are allowed", n, SEALING_BATCH_MAX);
    if (find_last_mark(batch, n, &last_mark, err) < 0)
        return -1;
    struct seal_work *w = work_take(p);
    if (w == NULL)
        return err_set(err, ERR_NOMEM, "no memory to seal a batch");
    int result = seal_all(w, order, batch, n, last_mark, out, err);
    work_give(p, w);
    if (result < 0)
        sealing_out_done(out);
    return result;
}

void sealing_out_done(struct sealing_out *out)
{
    for (unsigned i = 0; i < out->chunk_count; i++)
        buf_done(&out->chunks[i]);
    *out = (struct sealing_out){0};
}
