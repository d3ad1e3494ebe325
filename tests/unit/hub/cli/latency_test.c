/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hub/cli/latency.h"

static void test_percentiles_are_those_of_the_nearest_rank(void **state)
{
    AUTO_LATENCY struct latency l = {0};

    (void)state;
    assert_int_equal(latency_percentile(&l, 0.5), 0);
    for (uint64_t i = 100; i > 0; i--)
        latency_add(&l, i);
    assert_int_equal(latency_percentile(&l, 0.5), 50);
    assert_int_equal(latency_percentile(&l, 0.99), 99);
    assert_int_equal(latency_percentile(&l, 1.0), 100);
    assert_int_equal(latency_percentile(&l, 0.0), 1);
    latency_add(&l, 1000);
    assert_int_equal(latency_percentile(&l, 0.5), 51);
    assert_int_equal(l.slowest_usec, 1000);
}

static void test_one_sample_is_every_percentile(void **state)
{
    AUTO_LATENCY struct latency l = {0};

    (void)state;
    latency_add(&l, 7);
    assert_int_equal(latency_percentile(&l, 0.0), 7);
    assert_int_equal(latency_percentile(&l, 0.5), 7);
    assert_int_equal(latency_percentile(&l, 0.99), 7);
}

static void test_more_than_are_kept_still_count_and_percentiles_stay_right(void **state)
{
    AUTO_LATENCY struct latency l = {0};
    const uint64_t count = 20u * LATENCY_SAMPLES_MAX;

    (void)state;
    /* In order, so that keeping the first or the last ones would show. */
    for (uint64_t i = 1; i <= count; i++)
        latency_add(&l, i);
    assert_int_equal(l.count, count);
    assert_int_equal(l.kept, LATENCY_SAMPLES_MAX);
    assert_int_equal(l.slowest_usec, count);
    assert_in_range(latency_percentile(&l, 0.5), count * 48 / 100, count * 52 / 100);
    assert_in_range(latency_percentile(&l, 0.99), count * 985 / 1000, count * 995 / 1000);
}

static void test_json_has_seconds(void **state)
{
    AUTO_LATENCY struct latency l = {0};
    json_t *object = json_object();

    (void)state;
    latency_add(&l, 250000);
    latency_add(&l, 1500000);
    latency_to_json(&l, object);
    assert_int_equal(json_integer_value(json_object_get(object, "count")), 2);
    assert_float_equal(json_real_value(json_object_get(object, "p50_seconds")), 0.25, 1e-9);
    assert_float_equal(json_real_value(json_object_get(object, "slowest_seconds")), 1.5, 1e-9);
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles_are_those_of_the_nearest_rank),
        cmocka_unit_test(test_one_sample_is_every_percentile),
        cmocka_unit_test(test_more_than_are_kept_still_count_and_percentiles_stay_right),
        cmocka_unit_test(test_json_has_seconds),
    };

    return cmocka_run_group_tests_name("latency", tests, NULL, NULL);
}
