/* SPDX-License-Identifier: Apache-2.0
 *
 * How much one client may ask: a token bucket for each key (a token, a session, an address), in a table of fixed size. Any
 * thread. A key that was not seen for long gives its place to another, with a full bucket: whoever asks little loses
 * nothing by that.
 */
#ifndef HUB_API_RATE_LIMIT_H
#define HUB_API_RATE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct rate_limit;

/* per_second tokens come in, at most burst lie in a bucket. NULL without memory. */
struct rate_limit *rate_limit_new(unsigned per_second, unsigned burst);
void rate_limit_free(struct rate_limit *limit);

struct rate_state {
    bool allowed;
    unsigned limit;     /* burst */
    unsigned remaining; /* whole tokens that are left */
    unsigned wait_sec;  /* until one is there again, at least 1; 0 when allowed */
};
/* Takes `cost` (0 only looks). now_usec is monotonic. */
struct rate_state rate_limit_take(struct rate_limit *limit, const char *key, unsigned cost, uint64_t now_usec);

#endif
