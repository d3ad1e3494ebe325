/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hub/control/piecework.h"
#include "transport/base/clock.h"

static void test_a_rest_is_three_times_the_piece_and_bounded(void **state)
{
    (void)state;
    assert_int_equal(piecework_rest_usec(0), 0);
    assert_int_equal(piecework_rest_usec(4000), 12000);
    assert_int_equal(piecework_rest_usec(9999), 29997);
    assert_int_equal(piecework_rest_usec(20 * USEC_PER_SEC), 30000);
}

static void test_pieces_and_rests_take_turns(void **state)
{
    uint64_t begun = clock_mono_usec(), worked = 0;
    struct piecework work;

    (void)state;
    piecework_begin(&work);
    for (int i = 0; i < 3; i++) {
        uint64_t piece = clock_mono_usec();

        while (clock_mono_usec() - piece < 2000) {
        }
        worked += clock_mono_usec() - piece;
        piecework_rest(&work);
    }
    assert_true(
        clock_mono_usec() - begun >= worked + 3 * 3 * 2000UL); /* no rest is counted as work of the next piece */
    assert_true(clock_mono_usec() - work.begun_usec < USEC_PER_SEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_rest_is_three_times_the_piece_and_bounded),
        cmocka_unit_test(test_pieces_and_rests_take_turns),
    };

    return cmocka_run_group_tests_name("hub_piecework", tests, NULL, NULL);
}
