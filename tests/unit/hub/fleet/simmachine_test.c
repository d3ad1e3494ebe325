/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/fleet/simmachine.h"

#define SEC 1000000ULL
#define MINUTE (60 * SEC)
#define HOUR (3600 * SEC)
#define BEGIN (1800000000ULL * SEC) /* a moment in 2027 */
#define VAULT "11111111-2222-4333-8444-555555555555"

static struct simmachine machine_of(enum simmachine_temper temper)
{
    struct simmachine m;
    unsigned number = 1;

    for (simmachine_init(&m, number); m.temper != temper; simmachine_init(&m, ++number))
        assert_true(number < 1000);
    return m;
}

/* Protects all its disks, by the keys of its own inventory. */
static void protect(struct simmachine *m, uint64_t interval, bool vault_is_simulated, uint64_t now)
{
    struct simmachine_inventory inventory;
    Leeward__Control__V1__AgentDesired desired = LEEWARD__CONTROL__V1__AGENT_DESIRED__INIT;
    Leeward__Control__V1__DesiredDisk disks[SIMMACHINE_DISKS_MAX], *list[SIMMACHINE_DISKS_MAX];

    simmachine_inventory(m, &inventory);
    assert_int_equal(inventory.message.n_disks, m->disk_count);
    for (size_t i = 0; i < inventory.message.n_disks; i++) {
        disks[i] = (Leeward__Control__V1__DesiredDisk)LEEWARD__CONTROL__V1__DESIRED_DISK__INIT;
        disks[i].number = (uint32_t)i + 10;
        disks[i].key = inventory.message.disks[i]->key;
        list[i] = &disks[i];
    }
    desired.version = m->version + 1;
    desired.protect = true;
    desired.generation = 1;
    desired.interval_usec = interval;
    desired.vault_id = (char *)VAULT;
    desired.disks = list;
    desired.n_disks = inventory.message.n_disks;
    simmachine_desire(m, &desired, vault_is_simulated, now);
}

static const char *state_of(const struct simmachine *m, uint64_t now)
{
    Leeward__Control__V1__AgentStatus s;

    simmachine_status(m, now, &s);
    return s.state;
}

/* Steps of five seconds; returns the time after them. */
static uint64_t let_pass(struct simmachine *m, uint64_t now, uint64_t usec)
{
    struct simmachine_point points[SIMMACHINE_POINTS_MAX];

    for (uint64_t end = now + usec; now < end; now += 5 * SEC)
        (void)simmachine_step(m, now, points);
    return now;
}

static void test_a_machine_that_is_well_copies_and_then_makes_a_point_every_interval(void **state)
{
    struct simmachine m = machine_of(TEMPER_WELL);
    struct simmachine_point points[SIMMACHINE_POINTS_MAX];
    uint64_t now = BEGIN, last = 0, made = 0, sequence = 0;

    (void)state;
    assert_string_equal(state_of(&m, now), "idle");
    protect(&m, 5 * SEC, true, now);
    assert_string_equal(state_of(&m, now), "initial_replication");
    now = let_pass(&m, now, 2 * MINUTE);
    assert_string_equal(state_of(&m, now), "protected");
    assert_int_equal(m.done_bytes, m.total_bytes);
    sequence = m.sequence;
    for (uint64_t end = now + HOUR; now < end; now += 5 * SEC) {
        unsigned count = simmachine_step(&m, now, points);

        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(points[i].sequence, ++sequence);
            assert_true(points[i].time_utc_usec > last && points[i].time_utc_usec <= now);
            last = points[i].time_utc_usec;
        }
        made += count;
    }
    assert_int_equal(made, HOUR / (5 * SEC));
    assert_true(now - last <= 10 * SEC);
}

static void test_more_is_written_at_the_hour_of_the_peak_than_twelve_hours_off(void **state)
{
    struct simmachine m = machine_of(TEMPER_WELL);
    uint64_t day = BEGIN / (24 * HOUR) * (24 * HOUR) + 24 * HOUR, by_hour[24], most = 0, least = UINT64_MAX;

    (void)state;
    protect(&m, MINUTE, true, day - HOUR);
    (void)let_pass(&m, day - HOUR, HOUR);
    for (unsigned h = 0; h < 24; h++) {
        uint64_t before = m.changed_bytes;

        (void)let_pass(&m, day + h * HOUR, HOUR);
        by_hour[h] = m.changed_bytes - before;
        most = by_hour[h] > most ? by_hour[h] : most;
        least = by_hour[h] < least ? by_hour[h] : least;
    }
    assert_true(least > 0);
    assert_true(most > 2 * least);
}

static void test_a_machine_that_is_behind_has_an_old_newest_point_and_says_why(void **state)
{
    struct simmachine m = machine_of(TEMPER_BEHIND);
    Leeward__Control__V1__AgentStatus s;
    uint64_t now = BEGIN, worst = 0;

    (void)state;
    protect(&m, 5 * SEC, true, now);
    now = let_pass(&m, now, 10 * MINUTE);
    for (unsigned i = 0; i < 30; i++) {
        now = let_pass(&m, now, MINUTE);
        simmachine_status(&m, now, &s);
        assert_string_equal(s.state, "protected");
        assert_true(s.cause[0] && s.remedy[0] && s.backlog_bytes > 0);
        worst = s.rpo_usec > worst ? s.rpo_usec : worst;
    }
    assert_true(worst > 10 * MINUTE && worst < HOUR);
}

static void test_a_silent_machine_is_away_some_of_the_time_and_the_others_never(void **state)
{
    struct simmachine silent = machine_of(TEMPER_SILENT), well = machine_of(TEMPER_WELL);
    unsigned away = 0;

    (void)state;
    protect(&silent, 5 * SEC, true, BEGIN);
    protect(&well, 5 * SEC, true, BEGIN);
    (void)let_pass(&silent, BEGIN, 5 * MINUTE);
    (void)let_pass(&well, BEGIN, 5 * MINUTE);
    for (uint64_t now = BEGIN + 5 * MINUTE; now < BEGIN + 5 * HOUR; now += MINUTE) {
        away += simmachine_is_away(&silent, now);
        assert_false(simmachine_is_away(&well, now));
    }
    assert_true(away > 60 && away < 295);
}

static void test_a_broken_machine_and_one_with_a_real_vault_make_no_point(void **state)
{
    struct simmachine broken = machine_of(TEMPER_BROKEN), misplaced = machine_of(TEMPER_WELL);
    struct simmachine_point point;

    (void)state;
    protect(&broken, 5 * SEC, true, BEGIN);
    protect(&misplaced, 5 * SEC, false, BEGIN);
    (void)let_pass(&broken, BEGIN, HOUR);
    (void)let_pass(&misplaced, BEGIN, HOUR);
    assert_string_equal(state_of(&broken, BEGIN + HOUR), "error");
    assert_string_equal(state_of(&misplaced, BEGIN + HOUR), "error");
    assert_true(broken.remedy[0] && misplaced.remedy[0]);
    assert_int_equal(broken.points_made + misplaced.points_made, 0);
    assert_false(simmachine_make_point(&misplaced, "crash", "x", BEGIN + HOUR, &point));
}

static void test_the_past_is_in_order_and_ends_before_the_present(void **state)
{
    struct simmachine m = machine_of(TEMPER_WELL);
    struct simmachine_point p;
    uint64_t last = 0;
    unsigned n = 0;

    (void)state;
    for (; simmachine_past_point(&m, n, BEGIN, &p); n++) {
        assert_int_equal(p.sequence, n + 1);
        assert_true(p.time_utc_usec > last && p.time_utc_usec < BEGIN);
        last = p.time_utc_usec;
    }
    assert_int_equal(n, simmachine_past_count(&m));
    protect(&m, 5 * SEC, true, BEGIN);
    (void)let_pass(&m, BEGIN, 3 * MINUTE);
    assert_true(m.sequence > n);
}

static void test_a_minute_is_told_once_per_protected_disk(void **state)
{
    struct simmachine m = machine_of(TEMPER_WELL);
    Leeward__Control__V1__DiskMinute minute;
    uint64_t now = BEGIN / MINUTE * MINUTE, sum = 0, before;

    (void)state;
    protect(&m, 5 * SEC, true, now);
    simmachine_minute_done(&m, now);
    now = let_pass(&m, now, MINUTE);
    before = m.changed_bytes;
    for (unsigned i = 0; i < m.disk_count; i++) {
        assert_true(simmachine_minute(&m, i, now, &minute));
        assert_int_equal(minute.disk, 10 + i);
        assert_false(simmachine_minute(&m, i, now, &minute));
        sum += minute.changed_bytes;
    }
    assert_true(sum <= before && sum + 100 * m.disk_count > before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_machine_that_is_well_copies_and_then_makes_a_point_every_interval),
        cmocka_unit_test(test_more_is_written_at_the_hour_of_the_peak_than_twelve_hours_off),
        cmocka_unit_test(test_a_machine_that_is_behind_has_an_old_newest_point_and_says_why),
        cmocka_unit_test(test_a_silent_machine_is_away_some_of_the_time_and_the_others_never),
        cmocka_unit_test(test_a_broken_machine_and_one_with_a_real_vault_make_no_point),
        cmocka_unit_test(test_the_past_is_in_order_and_ends_before_the_present),
        cmocka_unit_test(test_a_minute_is_told_once_per_protected_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
