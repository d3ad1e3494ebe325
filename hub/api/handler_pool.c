/* SPDX-License-Identifier: Apache-2.0
 *
 * One mutex guards the queue and the list of items that wait. Threads sleep until an item is queued or the earliest
 * waiting one is due; whoever wakes moves what is due to the queue.
 */
#include "hub/api/handler_pool.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define THREADS_MAX 32u
#define LOOK_EVERY_USEC USEC_PER_SEC /* when no news came: a notification may be lost with its connection */
/* Between two looks for one client: short jobs are answered at once, long ones cost few queries on a busy hub. */
#define SPACING_MIN_USEC (10 * USEC_PER_MSEC)
#define SPACING_MAX_USEC (200 * USEC_PER_MSEC)

struct handler_pool {
    pthread_t threads[THREADS_MAX];
    unsigned thread_count;
    void (*run)(struct handler_item *item);
    size_t queue_max;
    pthread_mutex_t lock; /* everything below */
    pthread_cond_t work;
    struct handler_item *first, **last;
    size_t busy; /* queued or running */
    struct handler_item *waiting;
    uint64_t news_count;
    bool stopping;
};

/* All with the lock held. */
static void enqueue(struct handler_pool *pool, struct handler_item *item)
{
    item->next = NULL;
    *pool->last = item;
    pool->last = &item->next;
    pool->busy++;
    pthread_cond_signal(&pool->work);
}

/* Moves what is due to the queue; returns when the next one is, 0 when none waits. */
static uint64_t collect_due(struct handler_pool *pool)
{
    uint64_t now = clock_mono_usec();
    uint64_t earliest = 0;

    for (struct handler_item **at = &pool->waiting; *at;) {
        struct handler_item *item = *at;

        if (item->due_usec <= now || pool->stopping) {
            *at = item->next;
            enqueue(pool, item);
        } else {
            if (earliest == 0 || item->due_usec < earliest)
                earliest = item->due_usec;
            at = &item->next;
        }
    }
    return earliest;
}

static struct handler_item *dequeue(struct handler_pool *pool)
{
    struct handler_item *item = pool->first;

    if (item) {
        pool->first = item->next;
        if (!pool->first)
            pool->last = &pool->first;
        item->news_seen = pool->news_count;
    }
    return item;
}

static void sleep_until(struct handler_pool *pool, uint64_t usec)
{
    const struct timespec until = {(time_t)(usec / USEC_PER_SEC), (long)(usec % USEC_PER_SEC) * 1000};

    if (usec)
        (void)pthread_cond_timedwait(&pool->work, &pool->lock, &until);
    else
        (void)pthread_cond_wait(&pool->work, &pool->lock);
}

static void *pool_main(void *arg)
{
    struct handler_pool *pool = arg;

    (void)pthread_setname_np(pthread_self(), "api-handler");
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        uint64_t next_due = collect_due(pool);
        struct handler_item *item = dequeue(pool);

        if (item) {
            pthread_mutex_unlock(&pool->lock);
            pool->run(item);
            pthread_mutex_lock(&pool->lock);
            pool->busy--;
        } else if (pool->stopping && pool->busy == 0) {
            break;
        } else {
            sleep_until(pool, pool->stopping ? clock_mono_usec() + 10 * USEC_PER_MSEC : next_due);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int handler_pool_start(unsigned threads, size_t queue_max, void (*run)(struct handler_item *item),
    struct handler_pool **ret_pool, struct err *err)
{
    struct handler_pool *pool = mem_new(struct handler_pool);
    pthread_condattr_t attr;

    if (!pool)
        return err_set(err, ERR_NOMEM, "no memory for the API's handlers");
    pool->run = run;
    pool->queue_max = queue_max;
    pool->last = &pool->first;
    (void)pthread_mutex_init(&pool->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&pool->work, &attr);
    (void)pthread_condattr_destroy(&attr);
    for (; pool->thread_count < threads && pool->thread_count < THREADS_MAX; pool->thread_count++)
        if (pthread_create(&pool->threads[pool->thread_count], NULL, pool_main, pool) != 0) {
            handler_pool_free(pool);
            return err_set(err, ERR_NOMEM, "cannot start the API's handler threads");
        }
    *ret_pool = pool;
    return 0;
}

int handler_pool_submit(struct handler_pool *pool, struct handler_item *item)
{
    int rc = -1;

    pthread_mutex_lock(&pool->lock);
    if (!pool->stopping && pool->busy < pool->queue_max) {
        enqueue(pool, item);
        rc = 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

int handler_pool_wait(struct handler_pool *pool, struct handler_item *item, uint64_t until_usec)
{
    int rc = -1;

    pthread_mutex_lock(&pool->lock);
    if (!pool->stopping) {
        item->spacing_usec = !item->waited                               ? SPACING_MIN_USEC
                             : item->spacing_usec * 2 < SPACING_MAX_USEC ? item->spacing_usec * 2
                                                                         : SPACING_MAX_USEC;
        item->waited = true;
        item->looked_usec = clock_mono_usec();
        /* News that came while it looked may be of what it did not see yet. */
        uint64_t pause = item->news_seen == pool->news_count ? LOOK_EVERY_USEC : item->spacing_usec;
        item->due_usec = item->looked_usec + pause < until_usec ? item->looked_usec + pause : until_usec;
        item->next = pool->waiting;
        pool->waiting = item;
        pthread_cond_signal(&pool->work);
        rc = 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

void handler_pool_news(struct handler_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->news_count++;
    for (struct handler_item *item = pool->waiting; item; item = item->next)
        if (item->due_usec > item->looked_usec + item->spacing_usec)
            item->due_usec = item->looked_usec + item->spacing_usec;
    if (pool->waiting)
        pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

void handler_pool_stop(struct handler_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (; pool->thread_count > 0; pool->thread_count--)
        (void)pthread_join(pool->threads[pool->thread_count - 1], NULL);
}

void handler_pool_free(struct handler_pool *pool)
{
    if (!pool)
        return;
    handler_pool_stop(pool);
    (void)pthread_cond_destroy(&pool->work);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}
