/* SPDX-License-Identifier: Apache-2.0
 *
 * How far a peer's clock is ahead of ours, from the times that it writes into what it sends. What it sends arrives late, never early, so of
 * some samples the largest is the nearest to the truth (the clock filter of NTP, RFC 5905 section 10, with the delay of one way).
 */
#ifndef HUB_CORE_SKEW_H
#define HUB_CORE_SKEW_H

#include <stdint.h>

/* So many statuses must be late before a good clock looks slow; and so many pass until a clock that is set back looks it. */
#define SKEW_SAMPLES 8u

struct skew_watch {
    int64_t samples[SKEW_SAMPLES];
    unsigned count, at;
};

/* theirs: as the peer wrote; ours: when it was read. Both in microseconds since 1970. Times that no clock shows count as the end of the range. */
void skew_add(struct skew_watch *watch, uint64_t theirs_usec, uint64_t ours_usec);
int64_t skew_usec(const struct skew_watch *watch); /* > 0: the peer's clock is ahead. 0 before the first sample */

/* How old a thing is that the peer dated, its clock set right by the skew. Microseconds; 0 also where it would be of the future. */
uint64_t skew_age_usec(uint64_t now_usec, uint64_t theirs_usec, int64_t skew_usec);

/* Whose clock it is. With at least this many peers their middle one tells what time it is; with fewer the hub's clock is believed. */
#define SKEW_JURY 3u

/* How far the hub's own clock is behind, given that of the middle peer: 0 where that is within the limit, or there are too few. What it
 * returns is to be taken off each peer's skew before that is judged. */
int64_t skew_of_hub(int64_t middle_usec, uint64_t peers, uint64_t limit_usec);

#endif
