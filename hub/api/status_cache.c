/* SPDX-License-Identifier: Apache-2.0
 *
 * The mutex guards what was counted, and is held while somebody counts.
 */
#include "hub/api/status_cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define AGE_PER_COST 20u
#define AGE_MAX_USEC USEC_PER_SEC /* a database that stands still must not make old numbers last */

struct status_cache {
    pthread_mutex_t lock;
    struct status_counts counts;
    uint64_t until_usec; /* monotonic; 0: never counted */
};

struct status_cache *status_cache_new(void)
{
    struct status_cache *cache = mem_new(struct status_cache);

    if (cache)
        pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

void status_cache_free(struct status_cache *cache)
{
    if (!cache)
        return;
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

static int count(struct status_cache *cache, struct db_conn *conn, struct err *err)
{
    uint64_t begun = clock_mono_usec(), age;

    if (status_counts_read(conn, &cache->counts, err) < 0)
        return -1;
    age = (clock_mono_usec() - begun) * AGE_PER_COST;
    cache->until_usec = begun + (age < AGE_MAX_USEC ? age : AGE_MAX_USEC);
    return 0;
}

int status_cache_read(
    struct status_cache *cache, struct db_conn *conn, struct status_counts *ret_counts, struct err *err)
{
    int rc = 0;

    pthread_mutex_lock(&cache->lock);
    if (clock_mono_usec() >= cache->until_usec)
        rc = count(cache, conn, err);
    *ret_counts = cache->counts;
    pthread_mutex_unlock(&cache->lock);
    return rc;
}
