/* SPDX-License-Identifier: Apache-2.0
 *
 * Retention: which points stay.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
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

static void group_mark(struct mark *m, uint64_t sequence, uint64_t own_usec, uint64_t group_usec)
{
    *m = (struct mark){.kind = MARK_CRASH, .sequence = sequence, .time_utc_usec = own_usec};
    model_group_id(group_usec, &m->group_point);
}

#define GROUP_STEP (60 * USEC_PER_SEC)
#define GROUP_POINTS (72u * 60u)

/* When group point i was made, by the coordinator's clock: a second and a half before the end of a minute. */
static uint64_t group_time(unsigned i)
{
    return NOW - (uint64_t)(GROUP_POINTS - i) * GROUP_STEP + GROUP_STEP - 1500000;
}

/* A member's list, its clock that far off: the group points, each behind one of its own. */
static void fill_member(struct pointlist *l, int64_t off_usec)
{
    static struct mark m;
    struct err err = ERR_INIT;
    for (unsigned i = 0; i < GROUP_POINTS; i++) {
        uint64_t own = group_time(i) + (uint64_t)off_usec;
        struct point p = {.sequence = 2 * i + 1, .time_utc_usec = own - USEC_PER_SEC / 2};
        assert_int_equal(pointlist_add(l, &p, &err), 0);
        group_mark(&m, 2 * i + 2, own, group_time(i));
        pointlist_from_mark(&m, 1, 0, own, &p);
        assert_int_equal(pointlist_add(l, &p, &err), 0);
    }
}

/* Group point i has a bit of those that stayed on all of the members so far. */
static void leave_what_stays(const struct pointlist *l, const struct thin_tiers *t, bool *stayed)
{
    uint64_t *drop;
    size_t count = plan(l, t, NULL, 0, &drop);
    for (size_t at = 0; at < count; at++)
        if (drop[at] % 2 == 0)
            stayed[drop[at] / 2 - 1] = false;
    free(drop);
}

/* One that the clocks put into different hours or days is the last one of its bucket on all members or on none. */
static void the_last_group_point_of_an_hour_stays_on_members_whose_clocks_differ(void **state)
{
    static const int64_t off_sec[] = {0, 3, -7, 40, 2 * 3600 + 5, -5 * 3600, 9 * 3600 + 30 * 60};
    static bool stayed[GROUP_POINTS];
    struct thin_tiers t = {.all_usec = 10 * MINUTE, .hour_usec = 60 * HOUR, .day_usec = 1000 * HOUR};
    (void)state;
    memset(stayed, true, sizeof(stayed));
    for (size_t k = 0; k < sizeof(off_sec) / sizeof(off_sec[0]); k++) {
        struct pointlist l = {0};
        fill_member(&l, off_sec[k] * (int64_t)USEC_PER_SEC);
        leave_what_stays(&l, &t, stayed);
        pointlist_done(&l);
    }
    size_t hours = 0, days = 0;
    for (unsigned i = 0; i < GROUP_POINTS; i++) {
        uint64_t bucket = group_time(i) / HOUR;
        if (!stayed[i] || group_time(i) / HOUR == group_time(i + 1) / HOUR)
            continue;
        hours += NOW / HOUR - bucket <= 50;
        days += group_time(i) / (24 * HOUR) != group_time(i + 1) / (24 * HOUR);
    }
    assert_int_equal(hours, 50);
    assert_int_equal(days, 3);
}

static uint64_t learnt(uint64_t own_usec, uint64_t group_usec)
{
    static struct mark m;
    struct point p;
    group_mark(&m, 1, own_usec, group_usec);
    pointlist_from_mark(&m, 1, 0, own_usec, &p);
    return point_group_time(&p);
}

static void a_group_time_more_than_a_day_away_does_not_count(void **state)
{
    static struct mark m;
    struct point p;
    (void)state;
    assert_int_equal(learnt(NOW, NOW + 24 * HOUR), NOW + 24 * HOUR);
    assert_int_equal(learnt(NOW, NOW - 24 * HOUR), NOW - 24 * HOUR);
    assert_int_equal(learnt(NOW + 1234567, NOW + 4000), NOW + 4000); /* not by what a millisecond is cut off of */
    assert_int_equal(learnt(NOW, NOW + 24 * HOUR + 4000), NOW);
    assert_int_equal(learnt(NOW, 0), NOW);
    assert_int_equal(learnt(NOW, UINT64_C(1) << 53), NOW);
    group_mark(&m, 1, NOW, NOW + HOUR);
    m.group_point.bytes[6] ^= 0xc0; /* of version 4 */
    pointlist_from_mark(&m, 1, 0, NOW, &p);
    assert_int_equal(point_group_time(&p), NOW);
}

static void only_group_times_that_decide_are_asked_for(void **state)
{
    struct pointlist l = {0};
    struct thin_tiers t = {.all_usec = 4 * HOUR + 1};
    size_t places[10];
    (void)state;
    fill(&l, HOUR, 10);
    assert_int_equal(thin_unknown(&l, &t, NOW, places, 10), 0);
    for (size_t i = 0; i < l.count; i++)
        l.items[i].more = i % 2 == 0 ? 0 : POINT_GROUPED;
    l.items[3].more |= POINT_GROUP_TIME;
    assert_int_equal(thin_unknown(&l, &t, NOW, places, 10), 2);
    assert_int_equal(places[0], 1);
    assert_int_equal(places[1], 5); /* four hours old: it stays, and may take the place of the one before it */
    assert_int_equal(thin_unknown(&l, &t, NOW, places, 1), 1);
    pointlist_done(&l);
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
        cmocka_unit_test(the_last_group_point_of_an_hour_stays_on_members_whose_clocks_differ),
        cmocka_unit_test(a_group_time_more_than_a_day_away_does_not_count),
        cmocka_unit_test(only_group_times_that_decide_are_asked_for),
        cmocka_unit_test(a_long_list_is_thinned_in_lots),
    };
    return cmocka_run_group_tests_name("thin", tests, NULL, NULL);
}
