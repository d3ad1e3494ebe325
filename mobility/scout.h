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

/* Asks for a look that begins from now on; returns its number, which is never 0. */
uint64_t scout_ask(struct scout *s);
/* Waits at most that long for the look of that number, or a later one. 1: *ret_inventory is the caller's. 0: not yet. -1: it failed. Each
 * look is handed out once. */
int scout_take(struct scout *s, uint64_t number, uint64_t wait_usec, struct inventory **ret_inventory, struct err *err);

#endif
