/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of a failover's moves: every row is walked, everything else is refused with a way out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/core/failover_state.h"

static const struct failover_move_row *row_of(enum failover_state from, enum failover_move move)
{
    for (size_t i = 0; i < failover_move_count; i++)
        if (failover_moves[i].from == from && failover_moves[i].move == move)
            return &failover_moves[i];
    return NULL;
}

static void every_move_is_allowed_or_refused_by_the_table(void **state)
{
    (void)state;
    for (int kind = 0; kind < FAILOVER_KIND_COUNT; kind++)
        for (int from = 0; from < FAILOVER_STATE_COUNT; from++)
            for (int move = 0; move < FAILOVER_MOVE_COUNT; move++) {
                const struct failover_move_row *row = row_of((enum failover_state)from, (enum failover_move)move);
                bool allowed = row && (kind == FAILOVER_TEST ? row->test_may : row->real_may);
                enum failover_state to = FAILOVER_STATE_COUNT;
                struct err err = ERR_INIT;
                int rc = failover_move(
                    (enum failover_kind)kind, (enum failover_state)from, (enum failover_move)move, &to, &err);

                assert_int_equal(rc, allowed ? 0 : -1);
                if (allowed) {
                    assert_int_equal(to, row->to);
                } else {
                    assert_int_equal(err.code, ERR_REFUSED);
                    assert_true(err.correction[0] != '\0');
                }
            }
}

static void a_test_is_cleaned_and_never_committed(void **state)
{
    enum failover_state to;

    (void)state;
    assert_int_equal(failover_move(FAILOVER_TEST, FAILOVER_RUNNING, FAILOVER_COMMIT, &to, NULL), -1);
    assert_int_equal(failover_move(FAILOVER_TEST, FAILOVER_ENDING, FAILOVER_ROLL_BACK, &to, NULL), -1);
    assert_int_equal(failover_move(FAILOVER_UNPLANNED, FAILOVER_ENDING, FAILOVER_CLEAN, &to, NULL), -1);
    assert_int_equal(failover_move(FAILOVER_UNPLANNED, FAILOVER_COMMITTED, FAILOVER_END, &to, NULL), -1);
    assert_int_equal(failover_move(FAILOVER_UNPLANNED, FAILOVER_COMMITTED, FAILOVER_FAIL_BACK, &to, NULL), -1);
}

static void final_states_allow_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < failover_move_count; i++)
        assert_false(failover_state_is_final(failover_moves[i].from));
}

static void names_go_both_ways(void **state)
{
    (void)state;
    for (int i = 0; i < FAILOVER_STATE_COUNT; i++)
        assert_int_equal(failover_state_from_name(failover_state_name((enum failover_state)i)), i);
    for (int i = 0; i < FAILOVER_KIND_COUNT; i++)
        assert_int_equal(failover_kind_from_name(failover_kind_name((enum failover_kind)i)), i);
    assert_int_equal(failover_state_from_name("sleeping"), -1);
    assert_int_equal(failover_kind_from_name(""), -1);
}

/* Whatever a kind asks of the machine is possible while it is protected. */
static void a_protected_machine_can_fail_over_in_every_way(void **state)
{
    enum machine_state to;

    (void)state;
    for (int kind = 0; kind < FAILOVER_KIND_COUNT; kind++) {
        assert_int_equal(
            machine_move(MACHINE_PROTECTED, failover_machine_move((enum failover_kind)kind), &to, NULL), 0);
        assert_int_equal(to, kind == FAILOVER_TEST ? MACHINE_PROTECTED : MACHINE_FAILED_OVER);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_move_is_allowed_or_refused_by_the_table),
        cmocka_unit_test(a_test_is_cleaned_and_never_committed),
        cmocka_unit_test(final_states_allow_nothing),
        cmocka_unit_test(names_go_both_ways),
        cmocka_unit_test(a_protected_machine_can_fail_over_in_every_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
