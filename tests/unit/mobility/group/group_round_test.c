/* SPDX-License-Identifier: Apache-2.0
 *
 * Rounds of group points, driven by hand: the order of the words, what each failure does, and that nothing but all members can
 * move a round on. Ids of group points: what they say of themselves.
 */
#include "mobility/group/group_round.h"

#include <string.h>

#include "mobility/group/group_point.h"
#include "transport/base/clock.h"
#include "transport/log/mark.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#define BUDGET 200000u
#define NOW 1000000u

static bool say(struct group_round *r, unsigned member, enum group_answer_kind kind)
{
    const struct group_answer a = {.kind = kind, .freeze_usec = kind == GROUP_ANSWER_CAPTURED ? 1000 + member : 0};

    return group_round_answer(r, member, &a, NOW);
}

/* True when the last one moved it. */
static bool all_say(struct group_round *r, enum group_answer_kind kind)
{
    bool moved = false;

    for (unsigned i = 0; i < r->count; i++) {
        assert_false(moved);
        moved = say(r, i, kind);
    }
    return moved;
}

static void test_all_members_move_it_to_the_end(void **state)
{
    static const unsigned sizes[] = {2, 3, 63, 64};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct group_round r;
        group_round_begin(&r, sizes[i], BUDGET, NOW);
        assert_int_equal(r.phase, GROUP_PHASE_PREPARE);
        assert_true(all_say(&r, GROUP_ANSWER_PREPARED));
        assert_int_equal(r.phase, GROUP_PHASE_FREEZE);
        assert_true(all_say(&r, GROUP_ANSWER_FROZEN));
        assert_int_equal(r.phase, GROUP_PHASE_READ);
        assert_true(all_say(&r, GROUP_ANSWER_HELD));
        assert_int_equal(r.phase, GROUP_PHASE_RELEASE);
        assert_true(all_say(&r, GROUP_ANSWER_CAPTURED));
        assert_int_equal(r.phase, GROUP_PHASE_COMMIT);
        assert_true(all_say(&r, GROUP_ANSWER_DONE));
        assert_int_equal(r.phase, GROUP_PHASE_DONE);
        assert_false(group_round_is_under_way(&r));
        assert_int_equal(r.freeze_max_usec, 1000 + sizes[i] - 1);
    }
}

static const enum group_answer_kind words[] = {
    GROUP_ANSWER_PREPARED, GROUP_ANSWER_FROZEN, GROUP_ANSWER_HELD, GROUP_ANSWER_CAPTURED, GROUP_ANSWER_DONE};

#define PHASES (sizeof(words) / sizeof(words[0]))

static void bring_to(struct group_round *r, unsigned phase)
{
    group_round_begin(r, 4, BUDGET, NOW);
    for (unsigned i = 0; i < phase; i++)
        assert_true(all_say(r, words[i]));
}

static void test_one_failure_in_any_phase_misses_it(void **state)
{
    (void)state;
    for (unsigned phase = 0; phase < PHASES; phase++) {
        struct group_answer failed = {.kind = GROUP_ANSWER_FAILED};
        struct group_round r;
        bring_to(&r, phase);
        (void)say(&r, 0, words[phase]);
        err_set(&failed.why, ERR_TIMEOUT, "the freeze was over");
        assert_true(group_round_answer(&r, 2, &failed, NOW));
        assert_int_equal(r.phase, GROUP_PHASE_MISSED);
        assert_int_equal(r.culprit, 2);
        assert_string_equal(r.why.text, "the freeze was over");
        /* Nothing that comes after that changes it. */
        assert_false(say(&r, 1, words[phase]));
        assert_false(group_round_tick(&r, UINT64_MAX));
        assert_int_equal(r.phase, GROUP_PHASE_MISSED);
    }
}

static void test_a_word_out_of_turn_misses_it(void **state)
{
    (void)state;
    for (unsigned phase = 0; phase < PHASES; phase++)
        for (unsigned word = 0; word < PHASES; word++) {
            struct group_round r;
            if (word == phase)
                continue;
            bring_to(&r, phase);
            assert_true(say(&r, 1, words[word]));
            assert_int_equal(r.phase, GROUP_PHASE_MISSED);
            assert_int_equal(r.why.code, ERR_INVALID);
        }
}

static void test_saying_it_twice_does_not_count_for_another(void **state)
{
    struct group_round r;

    (void)state;
    bring_to(&r, 1);
    assert_false(say(&r, 0, GROUP_ANSWER_FROZEN));
    assert_true(say(&r, 0, GROUP_ANSWER_FROZEN));
    assert_int_equal(r.phase, GROUP_PHASE_MISSED);
    assert_int_equal(r.culprit, 0);
}

static void test_a_member_that_is_none_is_not_heard(void **state)
{
    struct group_round r;

    (void)state;
    bring_to(&r, 0);
    assert_false(say(&r, 4, GROUP_ANSWER_PREPARED));
    assert_false(say(&r, 1000, GROUP_ANSWER_FAILED));
    assert_int_equal(r.phase, GROUP_PHASE_PREPARE);
    assert_int_equal(r.heard, 0);
}

static void test_who_is_late_is_named(void **state)
{
    (void)state;
    for (unsigned phase = 0; phase < PHASES; phase++) {
        struct group_round r;
        bring_to(&r, phase);
        (void)say(&r, 0, words[phase]);
        (void)say(&r, 1, words[phase]);
        (void)say(&r, 3, words[phase]);
        assert_false(group_round_tick(&r, r.deadline_usec - 1));
        assert_true(group_round_tick(&r, r.deadline_usec));
        assert_int_equal(r.phase, GROUP_PHASE_MISSED);
        assert_int_equal(r.culprit, 2);
        assert_int_equal(r.why.code, ERR_TIMEOUT);
    }
}

static void test_an_id_belongs_to_one_list_of_members(void **state)
{
    struct ident id, random;

    (void)state;
    assert_int_equal(group_point_new(7, 300, 1795249759682360, &id, NULL), 0);
    assert_true(group_point_is_of(&id, 7, 300));
    assert_false(group_point_is_of(&id, 8, 300));
    assert_false(group_point_is_of(&id, 7, 301));
    assert_int_equal(ident_random(&random), 0);
    assert_false(group_point_is_of(&random, 7, 300)); /* of version 4 */
}

/* As vaults read it. */
static void test_an_id_tells_its_time(void **state)
{
    static struct mark m;
    uint64_t usec = 0;

    (void)state;
    assert_int_equal(group_point_new(7, 300, 1795249759682360, &m.group_point, NULL), 0);
    assert_true(mark_group_time(&m, &usec));
    assert_int_equal(usec, 1795249759680000); /* in steps of 4 ms */
    assert_int_equal(group_point_new(7, 300, (UINT64_C(1) << 44) * 1000 - 1, &m.group_point, NULL), 0);
    assert_true(mark_group_time(&m, &usec));
    assert_int_equal(usec, ((UINT64_C(1) << 44) - 4) * 1000);
    m.group_point = (struct ident){0};
    assert_false(mark_group_time(&m, &usec));
}

static void test_ids_of_a_group_sort_by_membership_and_age(void **state)
{
    struct ident last = {0};

    (void)state;
    for (uint64_t membership = 1; membership < 600; membership += 113)
        for (uint64_t t = 1; t < UINT64_C(1) << 52; t = t * 3 + 4000) {
            struct ident id;
            assert_int_equal(group_point_new(7, membership, t, &id, NULL), 0);
            if (t >= 8000) /* below that two lie within the 4 ms that the time is told in */
                assert_true(memcmp(last.bytes, id.bytes, IDENT_SIZE) < 0);
            last = id;
        }
}

/* The marks may all be there: the hub is told the id, and looks. */
static void test_only_a_miss_while_closing_may_be_a_group_point(void **state)
{
    (void)state;
    for (size_t said = 0; said < sizeof(words) / sizeof(words[0]); said++) {
        struct group_round r;
        group_round_begin(&r, 2, BUDGET, NOW);
        for (size_t i = 0; i < said; i++)
            assert_true(all_say(&r, words[i]));
        assert_true(say(&r, 1, GROUP_ANSWER_FAILED));
        assert_int_equal(r.phase, GROUP_PHASE_MISSED);
        assert_int_equal(r.closing, words[said] == GROUP_ANSWER_DONE);
    }
}

/* That of a policy may be ten seconds. */
static void test_without_a_budget_of_the_group_that_of_the_members_has_room(void **state)
{
    struct group_round r;

    (void)state;
    group_round_begin(&r, 2, 0, NOW);
    assert_true(all_say(&r, GROUP_ANSWER_PREPARED));
    assert_false(group_round_tick(&r, NOW + 10 * USEC_PER_SEC));
    assert_true(all_say(&r, GROUP_ANSWER_FROZEN));
    assert_false(group_round_tick(&r, NOW + 10 * USEC_PER_SEC));
    assert_true(all_say(&r, GROUP_ANSWER_HELD));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_members_move_it_to_the_end),
        cmocka_unit_test(test_only_a_miss_while_closing_may_be_a_group_point),
        cmocka_unit_test(test_without_a_budget_of_the_group_that_of_the_members_has_room),
        cmocka_unit_test(test_one_failure_in_any_phase_misses_it),
        cmocka_unit_test(test_a_word_out_of_turn_misses_it),
        cmocka_unit_test(test_saying_it_twice_does_not_count_for_another),
        cmocka_unit_test(test_a_member_that_is_none_is_not_heard),
        cmocka_unit_test(test_who_is_late_is_named),
        cmocka_unit_test(test_an_id_belongs_to_one_list_of_members),
        cmocka_unit_test(test_an_id_tells_its_time),
        cmocka_unit_test(test_ids_of_a_group_sort_by_membership_and_age),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
