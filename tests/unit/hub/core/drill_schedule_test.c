/* SPDX-License-Identifier: Apache-2.0
 *
 * When drills are due.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hub/core/drill_schedule.h"

#define HOUR 60u

static bool open_at(const char *text, unsigned day, unsigned minute)
{
    struct work_window w[WORK_HOURS_MAX];
    struct err err = ERR_INIT;
    size_t n = 0;

    assert_int_equal(work_hours_parse(text, w, &n, &err), 0);
    return drill_window_is_open(w, n, day, minute);
}

static void a_window_has_its_days_and_hours(void **state)
{
    (void)state;
    assert_true(open_at("", 3, 7 * HOUR));
    assert_true(open_at("sat 02:00-04:00", 5, 2 * HOUR));
    assert_false(open_at("sat 02:00-04:00", 5, 4 * HOUR));
    assert_false(open_at("sat 02:00-04:00", 6, 3 * HOUR));
    assert_true(open_at("mon-fri 20:00-22:00, sun 01:00-05:00", 6, 4 * HOUR));
}

static void a_window_over_midnight_belongs_to_the_day_it_begins(void **state)
{
    (void)state;
    assert_true(open_at("sun 22:00-04:00", 6, 23 * HOUR));
    assert_true(open_at("sun 22:00-04:00", 0, 3 * HOUR));
    assert_false(open_at("sun 22:00-04:00", 6, 3 * HOUR));
    assert_false(open_at("sun 22:00-04:00", 0, 23 * HOUR));
}

static void a_drill_comes_when_its_time_is_over_and_its_window_open(void **state)
{
    const struct work_window night = {.days = 127, .from_minute = 60, .to_minute = 120};
    struct drill_moment m = {.interval_usec = 1000, .now_usec = 5000, .day = 2, .minute = 90};

    (void)state;
    assert_true(drill_is_due(&m, &night, 1));
    m.last_start_usec = 4001;
    assert_false(drill_is_due(&m, &night, 1));
    m.last_start_usec = 4000;
    assert_true(drill_is_due(&m, &night, 1));
    m.minute = 120;
    assert_false(drill_is_due(&m, &night, 1));
    assert_true(drill_is_due(&m, NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_has_its_days_and_hours),
        cmocka_unit_test(a_window_over_midnight_belongs_to_the_day_it_begins),
        cmocka_unit_test(a_drill_comes_when_its_time_is_over_and_its_window_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
