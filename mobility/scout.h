/* SPDX-License-Identifier: Apache-2.0
 *
 * Looks for disks (inventory.h) on a thread of its own, so that who works with disks never waits for one that it has nothing to do with.
 * There is one asker, which may be any thread, but the same one always.
 */
#ifndef MOBILITY_SCOUT_H
#define MOBILITY_SCOUT_H

#include <stdint.h>

#include "mobility/inventory.h"
#include "transport/base/err.h"

struct scout;

/* `found` is called on the scout's thread when a look has ended, well or badly, and must not wait. */
int scout_new(void (*found)(void *arg), void *arg, struct scout **ret_scout, struct err *err);
/* `found` is not called any more. Does not wait for a look that is under way. NULL allowed. */
void scout_free(struct scout *s);

/* Asks for a look that begins from now on. */
void scout_ask(struct scout *s);
/* Waits at most that long until a look has ended that began at since_usec (monotonic) or later. 1: *ret_inventory is the caller's, of the
 * newest look that was not handed out yet, which began at *ret_began_usec (where the time was over, maybe before since_usec). 0: there is none. -1: that look
 * failed, which is told once. */
int scout_take(struct scout *s, uint64_t since_usec, uint64_t wait_usec, struct inventory **ret_inventory,
    uint64_t *ret_began_usec, struct err *err);

#endif
