/* SPDX-License-Identifier: Apache-2.0
 *
 * What the two threads would do to let a stream run, one after the other.
 */
#include "tests/unit/mobility/sync/runninglink.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void nothing(void *arg)
{
    (void)arg;
}

struct uplink *runninglink_new(uint64_t queue_max_bytes)
{
    const struct uplink_ops ops = {.to_loop = nothing, .to_capture = nothing};
    const struct uplink_opening opening = {.generation = 1, .epoch = 1, .next_sequence = 1};
    struct uplink_answer answer = {.expected_sequence = 1, .epoch = 1};
    struct uplink_opening wanted;
    struct uplink *l;

    assert_int_equal(uplink_new(&ops, queue_max_bytes, &l, NULL), 0);
    uplink_prepare(l, &opening);
    assert_true(uplink_wants_stream(l, &wanted));
    uplink_opened(l, &answer);
    assert_int_equal(uplink_state(l, &answer), UPLINK_OPENED);
    uplink_go(l, &answer);
    assert_int_equal(uplink_state(l, NULL), UPLINK_RUNNING);
    return l;
}
