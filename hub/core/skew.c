/* SPDX-License-Identifier: Apache-2.0
 *
 * The largest of the last samples, in a ring.
 */
#include "hub/core/skew.h"

#define USEC 1000000LL
#define SKEW_MAX (1000LL * 365 * 86400 * USEC) /* a thousand years, so that sums of a few fit everywhere */

static int64_t difference(uint64_t a, uint64_t b)
{
    uint64_t far = a > b ? a - b : b - a;
    int64_t usec = far > (uint64_t)SKEW_MAX ? SKEW_MAX : (int64_t)far;

    return a >= b ? usec : -usec;
}

void skew_add(struct skew_watch *w, uint64_t theirs_usec, uint64_t ours_usec)
{
    w->samples[w->at] = difference(theirs_usec, ours_usec);
    w->at = (w->at + 1) % SKEW_SAMPLES;
    if (w->count < SKEW_SAMPLES)
        w->count++;
}

int64_t skew_usec(const struct skew_watch *w)
{
    int64_t most = w->count > 0 ? w->samples[0] : 0;

    for (unsigned i = 1; i < w->count; i++)
        if (w->samples[i] > most)
            most = w->samples[i];
    return most;
}

uint64_t skew_age_usec(uint64_t now_usec, uint64_t theirs_usec, int64_t skew)
{
    int64_t age = difference(now_usec, theirs_usec) + skew;

    return age > 0 ? (uint64_t)age : 0;
}

int64_t skew_of_hub(int64_t middle_usec, uint64_t peers, uint64_t limit_usec)
{
    uint64_t far = middle_usec < 0 ? 0 - (uint64_t)middle_usec : (uint64_t)middle_usec;

    return peers >= SKEW_JURY && far > limit_usec ? middle_usec : 0;
}
