/* SPDX-License-Identifier: Apache-2.0
 *
 * The threads that run handlers, and the clients that wait for a job without holding one. An item runs on one thread;
 * afterwards it may be put aside until there is news (looked at again, at most five times a second), a second has
 * passed, or its time is over.
 */
#ifndef HUB_API_HANDLER_POOL_H
#define HUB_API_HANDLER_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"

struct handler_pool;

/* Embed as the first member. All but `waited` are the pool's own. */
struct handler_item {
    struct handler_item *next;
    uint64_t looked_usec, due_usec, spacing_usec, news_seen;
    bool waited; /* run is called again after handler_pool_wait */
};

/* queue_max bounds the items that run or wait for a thread. */
int handler_pool_start(unsigned threads, size_t queue_max, void (*run)(struct handler_item *item),
    struct handler_pool **ret_pool, struct err *err);
/* What is queued runs, what waits is run at once, then the threads end. handler_pool_free afterwards; NULL allowed. */
void handler_pool_stop(struct handler_pool *pool);
void handler_pool_free(struct handler_pool *pool);
/* -1: the queue is full or the pool stops; the caller keeps the item. */
int handler_pool_submit(struct handler_pool *pool, struct handler_item *item);
/* Inside run: puts the item aside until news or until_usec (monotonic). -1: the pool stops, answer now. */
int handler_pool_wait(struct handler_pool *pool, struct handler_item *item, uint64_t until_usec);
void handler_pool_news(struct handler_pool *pool);

#endif
