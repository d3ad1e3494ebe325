/* SPDX-License-Identifier: Apache-2.0
 *
 * The link between the threads: what one side asks for reaches the other, in whatever order they come to look.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/mobility/sync/runninglink.h"

#define LINK_BYTES (1u << 20)

/* The hub moves a machine on before the loop has ended the stream of the move before: it would be left open, and nobody would use it. */
static void a_stream_that_is_wanted_anew_twice_is_ended_once(void **state)
{
    const struct uplink_opening second = {.generation = 2, .next_sequence = 1},
                                third = {.generation = 3, .next_sequence = 1};
    struct uplink *l = runninglink_new(LINK_BYTES);
    struct uplink_opening wanted;

    (void)state;
    uplink_reopen(l, &second);
    uplink_reopen(l, &third);
    assert_true(uplink_take_reopen(l));
    assert_false(uplink_take_reopen(l));
    uplink_lost(l);
    assert_true(uplink_wants_stream(l, &wanted));
    assert_int_equal(wanted.generation, 3);
    uplink_reopen(l, &second); /* there is none */
    assert_false(uplink_take_reopen(l));
    uplink_free(l);
}

/* Where it is not known what comes next, nothing is known to be committed. */
static void what_a_stream_has_committed_is_forgotten_with_it(void **state)
{
    struct uplink_opening opening = {.generation = 1, .epoch = 2, .next_sequence = 5};
    struct uplink *l = runninglink_new(LINK_BYTES);

    (void)state;
    uplink_committed(l, 9);
    assert_int_equal(uplink_committed_sequence(l), 9);
    uplink_reopen(l, &opening);
    assert_int_equal(uplink_committed_sequence(l), 4);
    opening.epoch = opening.next_sequence = 0;
    uplink_reopen(l, &opening);
    assert_int_equal(uplink_committed_sequence(l), 0);
    uplink_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_stream_that_is_wanted_anew_twice_is_ended_once),
        cmocka_unit_test(what_a_stream_has_committed_is_forgotten_with_it)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
