/* SPDX-License-Identifier: Apache-2.0
 *
 * The mutex guards all members and is held for a copy of them, never while somebody counts. `counting` is the right to count: one thread has it.
 */
#include "hub/api/status_cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "transport/base/mem.h"

#define AGE_PER_COST 20u
#define COSTS_TO_SPARE 2u /* so much slower than the last time may a count be before anybody has to wait for it */

struct status_cache {
    uint64_t max_age_usec;
    pthread_mutex_t lock;
    pthread_cond_t counted;
    struct status_counts counts;
    uint64_t renew_usec,
        until_usec; /* monotonic: who comes from here on counts; nobody is told this from here on. 0: never counted */
    bool counting;
    uint64_t rounds;    /* counts that came to their end, good or bad */
    struct err failure; /* of the last of them; ERR_NONE: it was good */
};

struct status_cache *status_cache_new(uint64_t max_age_usec)
{
    struct status_cache *cache = mem_new(struct status_cache);

    if (!cache)
        return NULL;
    cache->max_age_usec = max_age_usec;
    pthread_mutex_init(&cache->lock, NULL);
    pthread_cond_init(&cache->counted, NULL);
    return cache;
}

void status_cache_free(struct status_cache *cache)
{
    if (!cache)
        return;
    pthread_cond_destroy(&cache->counted);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

static void keep(struct status_cache *cache, const struct status_counts *counts, uint64_t begun, uint64_t cost)
{
    uint64_t spared = COSTS_TO_SPARE * cost, max = cache->max_age_usec;
    uint64_t latest = max > spared ? max - spared : 0;

    cache->counts = *counts;
    cache->renew_usec = begun + (AGE_PER_COST * cost < latest ? AGE_PER_COST * cost : latest);
    cache->until_usec = begun + max;
}

/* With the lock, which is open while this thread counts. */
static int count(struct status_cache *cache, struct db_conn *conn, struct err *err)
{
    struct status_counts counts = {0};
    struct err failure = ERR_INIT;
    uint64_t begun = clock_mono_usec();
    int rc;

    cache->counting = true;
    pthread_mutex_unlock(&cache->lock);
    rc = status_counts_read(conn, &counts, &failure);
    pthread_mutex_lock(&cache->lock);
    if (rc == 0)
        keep(cache, &counts, begun, clock_mono_usec() - begun);
    else
        err_copy(err, &failure);
    cache->failure = failure;
    cache->counting = false;
    cache->rounds++;
    pthread_cond_broadcast(&cache->counted);
    return rc;
}

/* With the lock. What the count under way finds is young enough for who waited for it, however long it took. */
static int wait_for_count(struct status_cache *cache, struct err *err)
{
    uint64_t round = cache->rounds;

    while (cache->rounds == round)
        pthread_cond_wait(&cache->counted, &cache->lock);
    if (cache->failure.code == ERR_NONE || clock_mono_usec() < cache->until_usec)
        return 0;
    err_copy(err, &cache->failure);
    return -1;
}

int status_cache_read(
    struct status_cache *cache, struct db_conn *conn, struct status_counts *ret_counts, struct err *err)
{
    uint64_t now;
    int rc = 0;

    pthread_mutex_lock(&cache->lock);
    now = clock_mono_usec();
    if (!cache->counting && now >= cache->renew_usec)
        rc = count(cache, conn, err);
    else if (now >= cache->until_usec)
        rc = wait_for_count(cache, err);
    *ret_counts = cache->counts;
    pthread_mutex_unlock(&cache->lock);
    return rc;
}
