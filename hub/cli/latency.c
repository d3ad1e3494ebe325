/* SPDX-License-Identifier: Apache-2.0
 *
 * The choice is reservoir sampling (Vitter's algorithm R): the n-th sample replaces a kept one with the chance that each had.
 */
#include "hub/cli/latency.h"

#include <stdlib.h>

#include "transport/base/mem.h"

/* splitmix64: spread evenly, and the same for the same samples. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void latency_add(struct latency *l, uint64_t usec)
{
    uint64_t place = l->count++;

    if (usec > l->slowest_usec)
        l->slowest_usec = usec;
    if (!l->usec && !(l->usec = mem_alloc(LATENCY_SAMPLES_MAX, sizeof(*l->usec))))
        return;
    if (l->kept < LATENCY_SAMPLES_MAX)
        l->usec[l->kept++] = usec;
    else if ((place = next_random(&l->random) % l->count) < LATENCY_SAMPLES_MAX)
        l->usec[place] = usec;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

uint64_t latency_percentile(struct latency *l, double share)
{
    size_t rank;

    if (l->kept == 0)
        return 0;
    qsort(l->usec, l->kept, sizeof(*l->usec), compare);
    rank = (size_t)(share * (double)l->kept + 0.999999);
    return l->usec[rank == 0 ? 0 : rank > l->kept ? l->kept - 1 : rank - 1];
}

void latency_to_json(struct latency *l, json_t *object)
{
    (void)json_object_set_new(object, "count", json_integer((json_int_t)l->count));
    (void)json_object_set_new(object, "p50_seconds", json_real((double)latency_percentile(l, 0.5) / 1e6));
    (void)json_object_set_new(object, "p99_seconds", json_real((double)latency_percentile(l, 0.99) / 1e6));
    (void)json_object_set_new(object, "slowest_seconds", json_real((double)l->slowest_usec / 1e6));
}

void latency_done(struct latency *l)
{
    free(l->usec);
    *l = (struct latency){0};
}
