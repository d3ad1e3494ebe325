/* SPDX-License-Identifier: Apache-2.0
 *
 * Waiting for a condition on a loop of the test's own.
 */
#ifndef TESTS_UNIT_RPC_RUNUNTIL_H
#define TESTS_UNIT_RPC_RUNUNTIL_H

#include <systemd/sd-event.h>

#include "transport/base/clock.h"

/* Runs f->loop until the condition holds; fails the running test after 90 s. */
#define RUN_UNTIL(f, condition)                                                                                        \
    do {                                                                                                               \
        uint64_t limit_ = clock_mono_usec() + 90 * USEC_PER_SEC;                                                       \
        while (!(condition)) {                                                                                         \
            assert_true(clock_mono_usec() < limit_);                                                                   \
            assert_true(sd_event_run((f)->loop, 100000) >= 0);                                                         \
        }                                                                                                              \
    } while (0)

#endif
