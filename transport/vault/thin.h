/* SPDX-License-Identifier: Apache-2.0
 *
 * Retention: which recovery points a policy lets go. Every point is kept for a while, then the last of each minute, hour and
 * day for as long as their tiers last. Group points are thinned among themselves as well: the last one of each minute, hour and day
 * stays, on every member of the group, so that they stay complete. Minute, hour and day of a group point are those of the time in its id, which all members
 * share, whatever their clocks say; where that is more than a day from a member's own time (pointlist.h) they are those of the own time, and the member may
 * keep another one. Pure: no clock, no disk.
 */
#ifndef TRANSPORT_VAULT_THIN_H
#define TRANSPORT_VAULT_THIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/vault/pointlist.h"

struct thin_tiers {
    uint64_t all_usec;                         /* every point for this long; 0: for ever */
    uint64_t minute_usec, hour_usec, day_usec; /* then one of each for these, counted from now; 0: tier off */
    uint64_t tagged_usec;                      /* tagged points for this long; 0: for ever */
};

/* The places in the list, ascending and at most `max` of them, of group points whose time is needed for that and not known yet: the file does not have it, so
 * the caller reads it (store_learn_group). thin_plan takes the own time instead. */
size_t thin_unknown(const struct pointlist *points, const struct thin_tiers *tiers, uint64_t now_utc_usec,
    size_t *ret_places, size_t max);

/* The sequences to drop, ascending (free them). Never dropped: the newest point, tagged points within theirs, and those in `pinned`
 * (ascending). */
int thin_plan(const struct pointlist *points, const struct thin_tiers *tiers, uint64_t now_utc_usec,
    const uint64_t *pinned, size_t pinned_count, uint64_t **ret_drop, size_t *ret_count, struct err *err);

/* Dropping writes the list of points anew, and sends it to the bucket. Is that worth it for `drop` of `count` points, the first of which has waited for so long?
 * A long list gives its points up in lots, an hour late at most. */
bool thin_is_worth_it(size_t count, size_t drop, uint64_t waited_usec);

#endif
