/* SPDX-License-Identifier: Apache-2.0
 *
 * The waiting that rates cause, and how copies judge what others feel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/sync/pace.h"
#include "mobility/sync/yield.h"
#include "transport/base/clock.h"

static bool always(void *arg)
{
    (void)arg;
    return true;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static void bytes_are_paid_for_by_time(void **state)
{
    const struct pace_rules r = {.rate_bytes_per_sec = 10 << 20};
    struct pace p = {0};
    uint64_t began = clock_mono_usec();

    (void)state;
    pace_set_rules(&p, &r);
    assert_string_equal(pace_slowed_by(&p), "");
    for (int i = 0; i < 10; i++)
        pace_pay(&p, 1 << 20, always, NULL);
    assert_true(clock_mono_usec() - began >= 700 * USEC_PER_MSEC); /* a second, less the burst */
    assert_string_equal(pace_slowed_by(&p), "throttle");
    pace_pay(&p, 1000ull << 20, never, NULL); /* a lost stream waits for nothing */
}

static void let_it_go(void *arg)
{
    static const struct pace_rules none;
    struct pace *p = arg;

    if (p->rules.rate_bytes_per_sec > 0 && p->waited_bytes_usec > 0)
        pace_set_rules(p, &none);
}

/* At this rate the batch that is being paid for takes an hour. */
static void a_rate_that_is_raised_ends_the_waiting(void **state)
{
    const struct pace_rules r = {.rate_bytes_per_sec = 1 << 20};
    struct pace p = {.heed = let_it_go, .heed_arg = &p};
    uint64_t began = clock_mono_usec();

    (void)state;
    pace_set_rules(&p, &r);
    pace_pay(&p, 3600ull << 20, always, NULL);
    assert_true(clock_mono_usec() - began < 60 * USEC_PER_SEC);
    assert_int_equal(p.rules.rate_bytes_per_sec, 0);
}

static uint64_t cpu_usec(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

/* One percent is less than any machine leaves to this test, however loaded. */
static void the_cpu_is_paid_for_by_time(void **state)
{
    const struct pace_rules r = {.cpu_percent = 1};
    struct pace p = {0};
    uint64_t began, used;

    (void)state;
    pace_set_rules(&p, &r);
    began = clock_mono_usec();
    used = cpu_usec();
    while (clock_mono_usec() < began + (pace_cpu_is_short(&p) ? 1 : 60) * USEC_PER_SEC)
        pace_pay(&p, 0, always, NULL);
    used = cpu_usec() - used;
    assert_true(pace_cpu_is_short(&p));
    assert_string_equal(pace_slowed_by(&p), "CPU share");
    /* What the time and the burst allow, and what one pass may use before it pays. */
    assert_true(used < (clock_mono_usec() - began + USEC_PER_SEC / 4) / 100 + 30 * USEC_PER_MSEC);
}

/* Nothing was sent meanwhile, and half the share was used. */
static void a_share_that_was_kept_to_is_no_debt(void **state)
{
    const struct pace_rules r = {.cpu_percent = 5};
    struct pace p = {0};
    uint64_t began = clock_mono_usec(), used = cpu_usec();

    (void)state;
    pace_set_rules(&p, &r);
    while (cpu_usec() < used + 50 * USEC_PER_MSEC)
        ;
    while (clock_mono_usec() < began + 2 * USEC_PER_SEC)
        usleep(100000);
    pace_pay(&p, 0, never, NULL);
    assert_true(p.cpu_ready_usec <= clock_mono_usec());
    assert_false(pace_cpu_is_short(&p));
}

static const struct yield_stretch quiet = {.usec = 100000};

static void an_idle_disk_is_copied_at_full_speed(void **state)
{
    struct yield_state y;

    (void)state;
    yield_init(&y);
    for (int i = 0; i < 50; i++)
        yield_judge(&y, &quiet, &quiet);
    assert_true(y.share >= 1);
    assert_false(y.foreground);
}

static void copies_slow_down_when_writes_take_longer_and_come_back(void **state)
{
    const struct yield_stretch hurt = {.usec = 100000, .writes = 100, .write_usec = 100 * 3000},
                               fine = {.usec = 100000, .writes = 100, .write_usec = 100 * 1000};
    struct yield_state y;

    (void)state;
    yield_init(&y);
    for (int i = 0; i < 20; i++)
        yield_judge(&y, &hurt, &fine);
    assert_true(y.share <= YIELD_SHARE_MIN * 1.01 && y.share > 0);
    for (int i = 0; i < 40; i++)
        yield_judge(&y, &fine, &fine);
    assert_true(y.share >= 1);
    for (int i = 0; i < 20; i++)
        yield_judge(&y, &hurt, &fine);
    for (int i = 0; i < 10; i++) /* the others have gone */
        yield_judge(&y, &quiet, &quiet);
    assert_true(y.share >= 1);
}

/* Two writes in a hundred milliseconds, and most rests see none of them: no turn tells anything by itself. */
static void who_writes_a_little_is_felt_too(void **state)
{
    const struct yield_stretch hurt = {.usec = 100000, .writes = 2, .write_usec = 2 * 30000},
                               fine = {.usec = 100000, .writes = 2, .write_usec = 2 * 2000},
                               short_rest = {.usec = 20000}, seen = {.usec = 20000, .writes = 1, .write_usec = 2000};
    struct yield_state y;

    (void)state;
    yield_init(&y);
    for (int i = 0; i < 60; i++)
        yield_judge(&y, &hurt, i % 3 ? &short_rest : &seen);
    assert_true(y.share <= YIELD_SHARE_MIN * 1.01);
    assert_true(y.foreground);
    for (int i = 0; i < 90; i++)
        yield_judge(&y, &fine, i % 3 ? &short_rest : &seen);
    assert_true(y.share >= 1);
}

static void a_disk_that_is_slow_by_itself_hurts_nobody(void **state)
{
    const struct yield_stretch slow = {.usec = 100000, .writes = 10, .write_usec = 10 * 90000};
    struct yield_state y;

    (void)state;
    yield_init(&y);
    for (int i = 0; i < 20; i++)
        yield_judge(&y, &slow, &slow);
    assert_true(y.share >= 1);
}

static void copies_slow_down_when_others_read_less_beside_them(void **state)
{
    const struct yield_stretch work = {.usec = 100000, .read_bytes = 1 << 20},
                               rest = {.usec = 100000, .read_bytes = 4 << 20};
    struct yield_state y;

    (void)state;
    yield_init(&y);
    for (int i = 0; i < 20; i++)
        yield_judge(&y, &work, &rest);
    assert_true(y.share <= YIELD_SHARE_MIN * 1.01);
    for (int i = 0; i < 40; i++)
        yield_judge(&y, &rest, &rest);
    assert_true(y.share >= 1);
}

/* What is in flight is what others wait for: it falls with the share, and is whole again when nobody is there. */
static void who_hurts_others_has_one_read_in_flight_at_last(void **state)
{
    const struct yield_stretch hurt = {.usec = 100000, .writes = 100, .write_usec = 100 * 3000},
                               fine = {.usec = 100000, .writes = 100, .write_usec = 100 * 1000};
    unsigned before = 32, depth;
    struct yield_state y;

    (void)state;
    yield_init(&y);
    assert_int_equal(yield_depth(&y, before), before);
    for (int i = 0; i < 5; i++, before = depth) {
        yield_judge(&y, &hurt, &fine);
        depth = yield_depth(&y, 32);
        assert_true(depth <= before && depth < 32);
    }
    assert_int_equal(before, 1);
    for (int i = 0; i < 10; i++)
        yield_judge(&y, &quiet, &quiet);
    assert_int_equal(yield_depth(&y, 32), 32);
}

/* Half a megabyte in a look of 20 ms, and nothing in the rests after it: nobody is being starved. */
static void a_single_burst_of_reads_is_soon_forgotten(void **state)
{
    const struct yield_stretch burst = {.usec = 20000, .read_bytes = 512 << 10}, rest = {.usec = 400000};
    struct yield_state y;

    (void)state;
    yield_init(&y);
    yield_judge(&y, &quiet, &quiet);
    yield_judge(&y, &quiet, &burst);
    for (int i = 0; i < 8; i++)
        yield_judge(&y, &quiet, &rest);
    assert_true(y.share >= 1);
    assert_false(y.foreground);
}

#define STEPS_MAX 400u

static bool count_a_step(void *arg)
{
    unsigned *steps = arg;

    return ++*steps < STEPS_MAX;
}

/* A copy that has waited for the line since the machine started, and had hurt others before that: at the least share it would rest nineteen times
 * as long. */
static void a_rest_is_bounded_however_long_the_copy_was_at_work(void **state)
{
    static const char statistics[] = "1 0 8 1 1 0 8 1 0 1 1";
    struct yield y = {.fd = memfd_create("stat", MFD_CLOEXEC), .working = true};
    unsigned steps = 0;

    (void)state;
    assert_true(y.fd > 0);
    assert_int_equal(write(y.fd, statistics, sizeof(statistics)), sizeof(statistics));
    yield_init(&y.state);
    y.state.share = YIELD_SHARE_MIN;
    y.state.foreground = true;
    y.state.quiet_usec = 0;
    y.began_usec = 1;
    assert_false(yield_is_slow(&y));
    yield_step(&y, 1 << 20, count_a_step, &steps);
    assert_true(steps > 1);
    assert_true(steps < STEPS_MAX);
    assert_true(yield_is_slow(&y));
    yield_close(&y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_paid_for_by_time),
        cmocka_unit_test(the_cpu_is_paid_for_by_time),
        cmocka_unit_test(a_rate_that_is_raised_ends_the_waiting),
        cmocka_unit_test(a_share_that_was_kept_to_is_no_debt),
        cmocka_unit_test(an_idle_disk_is_copied_at_full_speed),
        cmocka_unit_test(copies_slow_down_when_writes_take_longer_and_come_back),
        cmocka_unit_test(who_writes_a_little_is_felt_too),
        cmocka_unit_test(who_hurts_others_has_one_read_in_flight_at_last),
        cmocka_unit_test(a_disk_that_is_slow_by_itself_hurts_nobody),
        cmocka_unit_test(copies_slow_down_when_others_read_less_beside_them),
        cmocka_unit_test(a_single_burst_of_reads_is_soon_forgotten),
        cmocka_unit_test(a_rest_is_bounded_however_long_the_copy_was_at_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
