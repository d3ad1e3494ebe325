/* SPDX-License-Identifier: Apache-2.0
 *
 * Retention: which points stay.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "transport/base/clock.h"
#include "transport/vault/thin.h"

#define MINUTE (60 * USEC_PER_SEC)
#define HOUR (60 * MINUTE)
#define NOW (1000 * 24 * HOUR)

/* A point every `step` back from NOW, count of them. */
static void fill(struct pointlist *l, uint64_t step, unsigned count)
{
    struct err err = ERR_INIT;
    for (unsigned i = 0; i < count; i++) {
        struct point p = {.sequence = i + 1, .time_utc_usec = NOW - (count - 1 - i) * step};
        assert_int_equal(pointlist_add(l, &p, &err), 0);
    }
}

static size_t plan(
    const struct pointlist *l, const struct thin_tiers *t, const uint64_t *pinned, size_t n, uint64_t **drop)
{
    struct err err = ERR_INIT;
    size_t count = 0;
    assert_int_equal(thin_plan(l, t, NOW, pinned, n, drop, &count, &err), 0);
    return count;
}

static void everything_stays_without_a_first_tier(void **state)
{
    struct pointlist l = {0};
    struct thin_tiers t = {0};
    uint64_t *drop;
    (void)state;
    fill(&l, HOUR, 100);
    assert_int_equal(plan(&l, &t, NULL, 0, &drop), 0);
    free(drop);
    pointlist_done(&l);
}

static void one_a_minute_stays_behind_the_first_tier(void **state)
{
    struct pointlist l = {0};
    struct thin_tiers t = {.all_usec = 10 * MINUTE, .minute_usec = HOUR};
    uint64_t *drop;
    (void)state;
    fill(&l, USEC_PER_SEC, 2 * 3600);
    size_t count = plan(&l, &t, NULL, 0, &drop);
    size_t left = l.count - count;
    assert_true(left >= 601 + 50 && left <= 601 + 52);
    for (size_t i = 1; i < count; i++)
        assert_true(drop[i] > drop[i - 1]);
    free(drop);
    pointlist_done(&l);
}

static void thinning_twice_drops_nothing_more(void **state)
{
    struct pointlist l = {0}, kept = {0};
    struct thin_tiers t = {.all_usec = MINUTE, .minute_usec = HOUR, .hour_usec = 48 * HOUR};
    uint64_t *drop;
    struct err err = ERR_INIT;
    (void)state;
    fill(&l, 7 * USEC_PER_SEC, 10000);
    size_t count = plan(&l, &t, NULL, 0, &drop);
    for (size_t i = 0, at = 0; i < l.count; i++) {
        if (at < count && drop[at] == l.items[i].sequence)
            at++;
        else
            assert_int_equal(pointlist_add(&kept, &l.items[i], &err), 0);
    }
    free(drop);
    assert_int_equal(plan(&kept, &t, NULL, 0, &drop), 0);
    free(drop);
    pointlist_done(&l);
    pointlist_done(&kept);
}

static void the_newest_tagged_and_pinned_stay(void **state)
{
    struct pointlist l = {0};
    struct thin_tiers t = {.all_usec = 1};
    const uint64_t pinned[] = {3, 7};
    uint64_t *drop;
    (void)state;
    fill(&l, HOUR, 10);
    l.items[4].more = POINT_TAGGED;
    for (size_t i = 0; i < l.count; i++)
        l.items[i].time_utc_usec -= 100 * HOUR;
    size_t count = plan(&l, &t, pinned, 2, &drop);
    assert_int_equal(count, 6);
    for (size_t i = 0; i < count; i++)
        assert_true(drop[i] != 3 && drop[i] != 7 && drop[i] != 5 && drop[i] != 10);
    free(drop);
    pointlist_done(&l);
}

static void tagged_points_go_when_their_time_is_over(void **state)
{
    struct pointlist l = {0};
    struct thin_tiers t = {.all_usec = 1, .tagged_usec = 5 * HOUR};
    uint64_t *drop;
    (void)state;
    fill(&l, HOUR, 10);
    for (size_t i = 0; i < l.count; i++)
        l.items[i].more = POINT_TAGGED;
    size_t count = plan(&l, &t, NULL, 0, &drop);
    assert_int_equal(count, 4); /* those of 6 to 9 hours ago */
    assert_int_equal(drop[3], 4);
    free(drop);
    pointlist_done(&l);
}

/* A point each second, every tenth of them a group point, on a machine that is a little late. */
static void fill_grouped(struct pointlist *l, uint64_t late_usec, unsigned more_own)
{
    struct err err = ERR_INIT;
    uint64_t sequence = 1;
    for (unsigned i = 0; i < 4 * 3600; i++) {
        struct point p = {.time_utc_usec = NOW - 4 * HOUR + i * USEC_PER_SEC + 500000 + late_usec};
        p.more = i % 10 == 0 ? POINT_GROUPED : 0;
        for (unsigned k = 0; k <= (p.more ? 0 : more_own); k++) {
            p.sequence = sequence++;
            p.time_utc_usec += k * 1000;
            assert_int_equal(pointlist_add(l, &p, &err), 0);
        }
    }
}

/* The seconds of the group points that stay. */
static size_t grouped_that_stay(const struct pointlist *l, const struct thin_tiers *t, uint64_t *seconds)
{
    uint64_t *drop;
    size_t count = plan(l, t, NULL, 0, &drop), at = 0, n = 0;
    for (size_t i = 0; i < l->count; i++) {
        if (at < count && drop[at] == l->items[i].sequence)
            at++;
        else if (l->items[i].more & POINT_GROUPED)
            seconds[n++] = l->items[i].time_utc_usec / USEC_PER_SEC;
    }
    free(drop);
    return n;
}

static void the_same_group_points_stay_on_all_members(void **state)
{
    static uint64_t first[1500], second[1500];
    struct pointlist a = {0}, b = {0};
    struct thin_tiers t = {.all_usec = 10 * MINUTE, .minute_usec = 2 * HOUR, .hour_usec = 48 * HOUR};
    (void)state;
    fill_grouped(&a, 0, 0);
    fill_grouped(&b, 40000, 2);
    size_t n = grouped_that_stay(&a, &t, first);
    assert_int_equal(grouped_that_stay(&b, &t, second), n);
    assert_memory_equal(first, second, n * sizeof(first[0]));
    assert_true(n >= 60 + 110 + 2 && n <= 60 + 112 + 4); /* ten minutes of all, then one a minute, then one an hour */
    pointlist_done(&a);
    pointlist_done(&b);
}

static void a_long_list_is_thinned_in_lots(void **state)
{
    const uint64_t hour = 3600 * USEC_PER_SEC;
    (void)state;
    assert_false(thin_is_worth_it(100, 0, 2 * hour));
    assert_true(thin_is_worth_it(4096, 1, 0));
    assert_false(thin_is_worth_it(600000, 60, 0));
    assert_false(thin_is_worth_it(600000, 9000, hour - 1));
    assert_true(thin_is_worth_it(600000, 9375, 0));
    assert_true(thin_is_worth_it(600000, 1, hour)); /* none waits for longer */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_stays_without_a_first_tier),
        cmocka_unit_test(one_a_minute_stays_behind_the_first_tier),
        cmocka_unit_test(thinning_twice_drops_nothing_more),
        cmocka_unit_test(the_newest_tagged_and_pinned_stay),
        cmocka_unit_test(tagged_points_go_when_their_time_is_over),
        cmocka_unit_test(the_same_group_points_stay_on_all_members),
        cmocka_unit_test(a_long_list_is_thinned_in_lots),
    };
    return cmocka_run_group_tests_name("thin", tests, NULL, NULL);
}
