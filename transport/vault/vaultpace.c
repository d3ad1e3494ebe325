/* SPDX-License-Identifier: Apache-2.0
 *
 * Each piece takes its place in one queue of time: whoever comes sets the moment at which the next one is due.
 */
#include "transport/vault/vaultpace.h"

#include <time.h>

#include "transport/base/clock.h"

#define INGEST_RECENT_USEC (200 * USEC_PER_MSEC)
#define INGEST_SHARE 4                /* the rate is divided by this while data comes in */
#define NAP_USEC (50 * USEC_PER_MSEC) /* how late a cancellation may be noticed */

static void nap(uint64_t usec)
{
    struct timespec t = {(time_t)(usec / USEC_PER_SEC), (long)(usec % USEC_PER_SEC) * 1000};
    (void)nanosleep(&t, NULL);
}

static uint64_t rate_now(const struct vaultpace *p, const _Atomic uint64_t *ingest_usec)
{
    uint64_t last = atomic_load_explicit(ingest_usec, memory_order_relaxed);
    bool busy = last != 0 && clock_mono_usec() < last + INGEST_RECENT_USEC;

    return busy ? p->rate / INGEST_SHARE + 1 : p->rate;
}

void vaultpace_wait(
    struct vaultpace *p, const _Atomic uint64_t *ingest_usec, uint64_t bytes, const _Atomic bool *cancelled)
{
    if (p->rate == 0)
        return;
    uint64_t now = clock_mono_usec();
    uint64_t cost = bytes * USEC_PER_SEC / rate_now(p, ingest_usec);
    uint64_t due = atomic_load(&p->due_usec);
    uint64_t mine;
    do {
        mine = (due > now ? due : now) + cost;
    } while (!atomic_compare_exchange_weak(&p->due_usec, &due, mine));
    while (!atomic_load(cancelled) && (now = clock_mono_usec()) < mine)
        nap(mine - now < NAP_USEC ? mine - now : NAP_USEC);
}
