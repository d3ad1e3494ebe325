/* SPDX-License-Identifier: Apache-2.0
 *
 * Working hours: which of two rates holds at given moments, and what is taken from a message.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/proto/workhours.h"

/* 2026-11-23 is a Monday. */
static uint64_t at(const char *text)
{
    uint64_t usec = 0;

    assert_int_equal(clock_parse_rfc3339(text, &usec, NULL), 0);
    return usec;
}

static void a_rate_holds_in_the_hours_of_the_zone(void **state)
{
    uint64_t work = 100;
    struct workhours r = {.window_count = 1, .windows = {{.days = 31, .from_minute = 480, .to_minute = 1080}}};

    (void)state;
    assert_int_equal(workhours_rate_at(&r, 900, work, at("2026-11-23T07:59:59Z")), 900);
    assert_int_equal(workhours_rate_at(&r, 900, work, at("2026-11-23T08:00:00Z")), 100);
    assert_int_equal(workhours_rate_at(&r, 900, work, at("2026-11-27T17:59:59Z")), 100);
    assert_int_equal(workhours_rate_at(&r, 900, work, at("2026-11-27T18:00:00Z")), 900);
    assert_int_equal(workhours_rate_at(&r, 900, work, at("2026-11-28T12:00:00Z")), 900); /* Saturday */
    r.offset_count = 1;
    r.offsets[0].seconds = 8 * 3600; /* Shanghai: Monday begins on Sunday in UTC */
    assert_int_equal(workhours_rate_at(&r, 900, work, at("2026-11-23T00:00:00Z")), 100);
    assert_int_equal(workhours_rate_at(&r, 900, work, at("2026-11-22T23:59:00Z")), 900);
    assert_int_equal(workhours_rate_at(&r, 900, work, at("2026-11-23T10:00:00Z")), 900);
    work = 2000; /* the lower of both */
    assert_int_equal(workhours_rate_at(&r, 900, work, at("2026-11-23T00:00:00Z")), 900);
    work = 0;
    assert_int_equal(workhours_rate_at(&r, 900, work, at("2026-11-23T00:00:00Z")), 900);
}

static void a_change_of_the_clocks_is_followed(void **state)
{
    struct workhours r = {.window_count = 1,
        .windows = {{.days = 127, .from_minute = 480, .to_minute = 540}},
        .offset_count = 2,
        .offsets = {{.seconds = 7200}, {.seconds = 3600}}};

    (void)state;
    r.offsets[1].from_utc_usec = at("2026-10-25T01:00:00Z"); /* Stockholm's winter */
    assert_true(workhours_contain(&r, at("2026-10-24T06:30:00Z")));
    assert_false(workhours_contain(&r, at("2026-10-24T07:30:00Z")));
    assert_false(workhours_contain(&r, at("2026-10-26T06:30:00Z")));
    assert_true(workhours_contain(&r, at("2026-10-26T07:30:00Z")));
}

static void a_window_may_go_over_midnight(void **state)
{
    const struct workhours r = {
        .window_count = 1, .windows = {{.days = 1 << 4, .from_minute = 1320, .to_minute = 360}}}; /* Friday night */

    (void)state;
    assert_false(workhours_contain(&r, at("2026-11-27T21:59:00Z")));
    assert_true(workhours_contain(&r, at("2026-11-27T22:00:00Z")));
    assert_true(workhours_contain(&r, at("2026-11-28T05:59:00Z")));
    assert_false(workhours_contain(&r, at("2026-11-28T06:00:00Z")));
    assert_false(workhours_contain(&r, at("2026-11-27T03:00:00Z")));
}

/* From a hub of another version, or a damaged cache: nothing of it may lead outside of the day or of our memory. */
static void what_cannot_be_is_left_out(void **state)
{
    Leeward__Control__V1__WorkWindow w[20], *windows[20];
    Leeward__Control__V1__UtcOffset o[10], *offsets[10];
    struct workhours h;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(w); i++) {
        w[i] = (Leeward__Control__V1__WorkWindow)LEEWARD__CONTROL__V1__WORK_WINDOW__INIT;
        w[i].days = 0xffffffff;
        w[i].from_minute = i == 0 ? 1441 : 60;
        w[i].to_minute = i == 1 ? 4000000000u : 120;
        windows[i] = &w[i];
    }
    for (size_t i = 0; i < ARRAY_LEN(o); i++) {
        o[i] = (Leeward__Control__V1__UtcOffset)LEEWARD__CONTROL__V1__UTC_OFFSET__INIT;
        o[i].from_utc_usec = i;
        o[i].seconds = i == 0 ? 86401 : i == 1 ? INT32_MIN : 3600;
        offsets[i] = &o[i];
    }
    workhours_take(&h, windows, 3, offsets, 3);
    assert_int_equal(h.window_count, 1);
    assert_int_equal(h.windows[0].days, 127);
    assert_int_equal(h.offset_count, 1);
    workhours_take(&h, windows, ARRAY_LEN(w), offsets, ARRAY_LEN(o));
    assert_int_equal(h.window_count, WORKHOURS_WINDOWS_MAX);
    assert_int_equal(h.offset_count, WORKHOURS_OFFSETS_MAX);
    workhours_take(&h, NULL, 0, NULL, 0);
    assert_int_equal(workhours_rate_at(&h, 900, 100, at("2026-11-23T08:00:00Z")), 900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rate_holds_in_the_hours_of_the_zone),
        cmocka_unit_test(a_change_of_the_clocks_is_followed),
        cmocka_unit_test(a_window_may_go_over_midnight),
        cmocka_unit_test(what_cannot_be_is_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
