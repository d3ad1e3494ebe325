/* SPDX-License-Identifier: Apache-2.0
 *
 * The mean of a spread pause is its length, so spreading costs no time on the whole. With the longest pause at 5 s a fleet that lost its hub
 * for a while is back over some seven seconds, and no second has much more than a fifth of it.
 */
#include "transport/base/backoff.h"

uint64_t backoff_longer(uint64_t usec, uint64_t min_usec, uint64_t max_usec)
{
    if (usec == 0)
        return min_usec;
    return usec < max_usec / 2 ? usec * 2 : max_usec;
}

uint64_t backoff_spread(uint64_t usec, uint64_t random)
{
    return usec / 2 + (usec > 0 ? random % usec : 0);
}
