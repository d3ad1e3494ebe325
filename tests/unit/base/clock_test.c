/* SPDX-License-Identifier: Apache-2.0
 *
 * RFC 3339 moments and durations, good and bad.
 */
#include "tests/unit/base/unit.h"

#include "transport/base/clock.h"
#include "transport/base/mem.h"

static void moments_read_and_write(void **state)
{
    static const struct {
        const char *text;
        uint64_t usec;
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-21T05:00:34.123456Z", 1795237234123456},
        {"2026-11-21T05:00:34.123456789Z", 1795237234123456},
        {"2026-11-21t06:30:34.5+01:30", 1795237234500000},
        {"2026-11-20 23:00:34-06:00", 1795237234000000},
        {"2024-02-29T00:00:00Z", 1709164800000000},
        {"2000-02-29T23:59:60Z", 951868800000000},
    };
    uint64_t usec;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(clock_parse_rfc3339(rows[i].text, &usec, NULL), 0);
        assert_true(usec == rows[i].usec);
    }
    char text[CLOCK_RFC3339_SIZE];
    clock_rfc3339(1795237234123456, text);
    assert_string_equal(text, "2026-11-21T05:00:34.123456Z");
    clock_rfc3339(UINT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
}

static void wrong_moments_are_refused(void **state)
{
    static const char *const wrong[] = {
        "",
        "now",
        "2026-11-21",
        "2026-11-21T05:00:34",
        "2026-11-21T05:00Z",
        "2026-13-21T05:00:34Z",
        "2026-00-21T05:00:34Z",
        "2025-02-29T05:00:34Z",
        "2026-11-21T24:00:34Z",
        "2026-11-21T05:60:34Z",
        "2026-11-21T05:00:61Z",
        "2026-11-21T05:00:34.Z",
        "2026-11-21T05:00:34.1234567890Z",
        "2026-11-21T05:00:34+24:00",
        "2026-11-21T05:00:34+0130",
        "2026-11-21T05:00:34Zz",
        "1969-12-31T23:59:59Z",
        "2026-1-21T05:00:34Z",
    };
    uint64_t usec;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(clock_parse_rfc3339(wrong[i], &usec, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void durations_have_units(void **state)
{
    static const struct {
        const char *text;
        uint64_t usec;
    } rows[] = {
        {"0", 0},
        {"90", 90000000},
        {"90s", 90000000},
        {"500ms", 500000},
        {"7us", 7},
        {"15m", 900000000},
        {"2h", 7200000000},
        {"7d", 604800000000},
    };
    static const char *const wrong[] = {
        "", "s", "-1s", "1.5s", "5 s", "5w", "99999999999999999999", "999999999999999d"};
    uint64_t usec;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(clock_parse_duration(rows[i].text, &usec, NULL), 0);
        assert_true(usec == rows[i].usec);
    }
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(clock_parse_duration(wrong[i], &usec, NULL), -1);
}

static void clocks_go_forward(void **state)
{
    (void)state;
    uint64_t mono = clock_mono_usec();
    assert_true(clock_mono_usec() >= mono);
    assert_true(clock_utc_usec() > 1700000000ULL * USEC_PER_SEC);
}

static void jitter_differs_and_stays_below(void **state)
{
    (void)state;
    uint64_t first = clock_jitter_usec(UINT64_MAX), differing = 0;

    for (int i = 0; i < 100; i++) {
        differing += clock_jitter_usec(UINT64_MAX) != first;
        assert_true(clock_jitter_usec(10) < 10);
    }
    assert_true(differing > 0);
    assert_true(clock_jitter_usec(0) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_read_and_write),
        cmocka_unit_test(wrong_moments_are_refused),
        cmocka_unit_test(durations_have_units),
        cmocka_unit_test(clocks_go_forward),
        cmocka_unit_test(jitter_differs_and_stays_below),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
