/* SPDX-License-Identifier: Apache-2.0
 *
 * Pauses between attempts: doubling from a shortest to a longest one, each drawn at random around its length, so that what a fleet lost at one
 * moment does not come back at one. Pure; chance is passed in.
 */
#ifndef TRANSPORT_BASE_BACKOFF_H
#define TRANSPORT_BASE_BACKOFF_H

#include <stdint.h>

/* The length of the next pause behind one of usec; 0: none so far. 0 < min_usec <= max_usec. */
uint64_t backoff_longer(uint64_t usec, uint64_t min_usec, uint64_t max_usec);
/* How long to wait for a pause of that length: from one half to less than one and a half of it, evenly. random: 64 bits of it. */
uint64_t backoff_spread(uint64_t usec, uint64_t random);

#endif
