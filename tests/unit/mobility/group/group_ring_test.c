/* SPDX-License-Identifier: Apache-2.0
 *
 * Group points of many members are of one moment (groupring.h). Members fail, thaw too early, are too slow, are killed and
 * leave and join meanwhile. As a control one member is left out: it does not freeze, and its point is what it read in its live rounds; the judge
 * must notice.
 *
 * LEEWARD_GROUP_POINTS (300) makes it longer.
 */
#include "tests/unit/mobility/group/groupring.h"

#include <stdlib.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static unsigned points_wanted(void)
{
    const char *n = getenv("LEEWARD_GROUP_POINTS");

    return n ? (unsigned)strtoul(n, NULL, 10) : 300;
}

/* ---- tests ---- */

static void test_every_group_point_is_of_one_moment(void **state)
{
    static const unsigned sizes[] = {2, 5};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct ring *g = ring_new(sizes[i]);
        g->trouble = true;
        ring_run_until(g, points_wanted() / 2);
        assert_int_equal(ring_count_wrong(g), 0);
        print_message("%u members: %u group points, %u of them whole\n", sizes[i], g->point_count, g->complete);
        ring_free(g);
    }
}

static void test_sixty_four_members(void **state)
{
    struct ring *g = ring_new(64);

    (void)state;
    ring_run_until(g, 3);
    assert_int_equal(ring_count_wrong(g), 0);
    ring_free(g);
}

/* A point of it is right where the ledger did not come to write meanwhile, which on a busy machine may be the most of them. */
static void test_a_member_that_is_left_out_is_noticed_by_the_judge(void **state)
{
    struct ring *g = ring_new(3);
    unsigned wrong = 0;

    (void)state;
    g->left_out = 1;
    for (unsigned points = 40; wrong == 0 && points <= 1000; points += 40) {
        ring_run_until(g, points);
        pthread_mutex_lock(&g->lock);
        wrong = ring_count_wrong(g);
        pthread_mutex_unlock(&g->lock);
    }
    assert_true(wrong > 0);
    ring_free(g);
}

/* Kills a member, the coordinator as often as not, or changes the list. */
static void disturb(struct ring *g)
{
    unsigned victim = ring_draw(g, 2) ? 0 : ring_draw(g, g->count);
    uint64_t members = ring_everybody(g);

    if (ring_draw(g, 3) == 0) {
        ring_tell(g, members & ~(UINT64_C(1) << ring_draw(g, g->count)));
        return;
    }
    ring_end(&g->places[victim]);
    ring_begin(&g->places[victim]);
    ring_tell(g, members);
    ring_run_until_ports(g);
    ring_tell(g, members);
}

static void test_killed_members_and_changing_lists(void **state)
{
    struct ring *g = ring_new(4);
    unsigned made = 0, disturbances = 0;

    (void)state;
    g->trouble = true;
    /* Each list begins a second after it was told: so many as there is time for. */
    while (disturbances < 4) {
        ring_run_until(g, made + 8);
        for (unsigned turns = ring_draw(g, 8); turns > 0; turns--)
            assert_true(sd_event_run(g->loop, 1000) >= 0); /* any moment */
        disturb(g);
        disturbances++;
        made = ring_complete(g);
    }
    ring_tell(g, ring_everybody(g));
    ring_run_until(g, made + 8);
    assert_int_equal(ring_count_wrong(g), 0);
    print_message("%u disturbances, %u group points, %u of them whole\n", disturbances, g->point_count, g->complete);
    ring_free(g);
}

/* Not a day later. */
static void test_a_group_point_that_is_missed_is_made_up_for(void **state)
{
    struct ring *g = ring_new(3);

    (void)state;
    g->wish->interval_usec = 24 * 3600 * USEC_PER_SEC;
    pthread_mutex_lock(&g->lock);
    g->failures = 1;
    pthread_mutex_unlock(&g->lock);
    ring_tell(g, ring_everybody(g));
    ring_run_until(g, ring_complete(g) + 1);
    assert_int_equal(g->failures, 0);
    assert_int_equal(ring_count_wrong(g), 0);
    ring_free(g);
}

/* Nobody was to be heard of before, so nobody is overdue. */
static void test_a_new_interval_makes_nobody_a_successor(void **state)
{
    struct ring *g = ring_new(3);
    unsigned points;

    (void)state;
    g->wish->interval_usec = 0;
    ring_tell(g, ring_everybody(g));
    ring_run_for(g, 14 * USEC_PER_SEC); /* more than the second successor waits beyond intervals */
    points = ring_complete(g);
    g->wish->interval_usec = RING_INTERVAL_USEC;
    for (unsigned i = 0; i < g->count; i++)
        group_set(g->places[i].group, g->wish);
    ring_run_until(g, points + 20);
    for (unsigned i = 0; i < g->count; i++)
        assert_int_equal(g->places[i].took_over, 0);
    ring_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_group_point_is_of_one_moment),
        cmocka_unit_test(test_sixty_four_members),
        cmocka_unit_test(test_a_member_that_is_left_out_is_noticed_by_the_judge),
        cmocka_unit_test(test_killed_members_and_changing_lists),
        cmocka_unit_test(test_a_group_point_that_is_missed_is_made_up_for),
        cmocka_unit_test(test_a_new_interval_makes_nobody_a_successor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
