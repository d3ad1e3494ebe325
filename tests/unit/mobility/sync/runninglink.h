/* SPDX-License-Identifier: Apache-2.0
 *
 * A link between the agent's threads without either of them: its stream runs, and the test takes what is pushed.
 */
#ifndef TESTS_UNIT_MOBILITY_SYNC_RUNNINGLINK_H
#define TESTS_UNIT_MOBILITY_SYNC_RUNNINGLINK_H

#include <stdint.h>

#include "mobility/sync/uplink.h"

/* Generation 1, epoch 1, nothing committed. Fails the running test when it cannot be had. */
struct uplink *runninglink_new(uint64_t queue_max_bytes);

#endif
