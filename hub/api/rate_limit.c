/* SPDX-License-Identifier: Apache-2.0
 *
 * Buckets are counted in millionths of a token, so that microseconds times tokens per second need no division. Each key may
 * lie in one of a few neighbouring places; the one that was idle longest goes when all are taken.
 */
#include "hub/api/rate_limit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"

#define PLACES 8192u /* 256 KiB; a power of two */
#define NEIGHBOURS 8u
#define TOKEN USEC_PER_SEC

struct bucket {
    uint64_t key; /* hash; 0: empty */
    uint64_t at_usec;
    uint64_t millionths;
};

struct rate_limit {
    pthread_mutex_t lock; /* buckets */
    uint64_t per_second, burst;
    struct bucket buckets[PLACES];
};

struct rate_limit *rate_limit_new(unsigned per_second, unsigned burst)
{
    struct rate_limit *limit = mem_new(struct rate_limit);

    if (!limit)
        return NULL;
    (void)pthread_mutex_init(&limit->lock, NULL);
    limit->per_second = per_second;
    limit->burst = burst;
    return limit;
}

void rate_limit_free(struct rate_limit *limit)
{
    if (!limit)
        return;
    (void)pthread_mutex_destroy(&limit->lock);
    free(limit);
}

static struct bucket *find(struct rate_limit *limit, uint64_t key, uint64_t now)
{
    struct bucket *oldest = NULL;

    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        struct bucket *b = &limit->buckets[(key + i) % PLACES];

        if (b->key == key)
            return b;
        if (!oldest || b->key == 0 || (oldest->key && b->at_usec < oldest->at_usec))
            oldest = b;
        if (b->key == 0)
            break;
    }
    *oldest = (struct bucket){.key = key, .at_usec = now, .millionths = limit->burst * TOKEN};
    return oldest;
}

static void refill(const struct rate_limit *limit, struct bucket *b, uint64_t now)
{
    uint64_t full = limit->burst * TOKEN, passed = now > b->at_usec ? now - b->at_usec : 0;

    b->millionths = passed > full / limit->per_second ? full : b->millionths + passed * limit->per_second;
    b->millionths = b->millionths > full ? full : b->millionths;
    b->at_usec = now;
}

struct rate_state rate_limit_take(struct rate_limit *limit, const char *key, unsigned cost, uint64_t now_usec)
{
    uint64_t want = (cost ? cost : 1) * TOKEN, hash = hash_64(key, strlen(key));
    struct rate_state state = {.limit = (unsigned)limit->burst};
    struct bucket *b;

    pthread_mutex_lock(&limit->lock);
    b = find(limit, hash ? hash : 1, now_usec);
    refill(limit, b, now_usec);
    state.allowed = b->millionths >= want;
    if (state.allowed)
        b->millionths -= cost * TOKEN;
    else
        state.wait_sec = (unsigned)((want - b->millionths) / (limit->per_second * TOKEN)) + 1;
    state.remaining = (unsigned)(b->millionths / TOKEN);
    pthread_mutex_unlock(&limit->lock);
    return state;
}
