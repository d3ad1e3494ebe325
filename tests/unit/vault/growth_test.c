/* SPDX-License-Identifier: Apache-2.0
 *
 * The forecast of the day on which a vault's disk is full.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"
#include "transport/vault/growth.h"

#define HOUR (3600 * USEC_PER_SEC)
#define DAY (24 * HOUR)
#define GIB (1ULL << 30)
#define BEGIN (20000 * DAY)

static void a_disk_that_fills_evenly_is_full_when_it_must_be(void **state)
{
    struct growth g = {0};
    struct growth_forecast f;
    (void)state;
    for (unsigned hour = 0; hour < 48; hour++)
        assert_true(growth_note(&g, BEGIN + hour * HOUR, hour * GIB));
    assert_false(growth_note(&g, BEGIN + 47 * HOUR + HOUR / 2, 48 * GIB)); /* less than an hour later */
    growth_forecast(&g, BEGIN + 48 * HOUR, 240 * GIB, &f);
    assert_true(f.known);
    assert_true(llabs(f.bytes_per_day - (long long)(24 * GIB)) < 1000000);
    assert_true(f.full_utc_usec > BEGIN + 48 * HOUR + 10 * DAY - HOUR);
    assert_true(f.full_utc_usec < BEGIN + 48 * HOUR + 10 * DAY + HOUR);
}

static void a_disk_that_shrinks_or_rests_is_never_full(void **state)
{
    struct growth shrinks = {0}, rests = {0};
    struct growth_forecast f;
    (void)state;
    for (unsigned hour = 0; hour < 400; hour++) { /* more than are kept */
        (void)growth_note(&shrinks, BEGIN + hour * HOUR, (1000 - hour) * GIB);
        (void)growth_note(&rests, BEGIN + hour * HOUR, 7 * GIB);
    }
    growth_forecast(&shrinks, BEGIN + 400 * HOUR, GIB, &f);
    assert_true(f.known && f.bytes_per_day < 0 && f.full_utc_usec == 0);
    growth_forecast(&rests, BEGIN + 400 * HOUR, GIB, &f);
    assert_true(f.known && f.full_utc_usec == 0);
}

static void nothing_is_foretold_from_little(void **state)
{
    struct growth g = {0};
    struct growth_forecast f;
    (void)state;
    for (unsigned hour = 0; hour < 5; hour++)
        (void)growth_note(&g, BEGIN + hour * HOUR, hour * GIB);
    growth_forecast(&g, BEGIN + 5 * HOUR, GIB, &f);
    assert_false(f.known);
    (void)growth_note(&g, BEGIN + 5 * HOUR, 5 * GIB);
    growth_forecast(&g, BEGIN + 6 * HOUR, GIB, &f);
    assert_true(f.known);
    assert_true(growth_note(&g, BEGIN, GIB)); /* the clock went back: what was noted says nothing any more */
    growth_forecast(&g, BEGIN, GIB, &f);
    assert_false(f.known);
}

static void samples_survive_a_restart_and_damage_is_no_history(void **state)
{
    char dir[] = "/tmp/leeward-growth-XXXXXX";
    struct err err = ERR_INIT;
    struct growth g = {0}, again;
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(growth_load(dir, &again, &err), 0);
    assert_int_equal(again.count, 0);
    for (unsigned hour = 0; hour < 200; hour++)
        (void)growth_note(&g, BEGIN + hour * HOUR, hour * GIB);
    assert_int_equal(growth_store(dir, &g, &err), 0);
    assert_int_equal(growth_load(dir, &again, &err), 0);
    assert_int_equal(again.count, GROWTH_SAMPLES);
    assert_memory_equal(again.samples, g.samples, sizeof(g.samples));
    char *path AUTO_FREE = mem_printf("%s/growth", dir);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, 100, SEEK_SET), 0);
    assert_int_equal(fputc(0xA5, f), 0xA5);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(growth_load(dir, &again, &err), 0);
    assert_int_equal(again.count, 0);
    assert_int_equal(file_remove_tree(dir, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_that_fills_evenly_is_full_when_it_must_be),
        cmocka_unit_test(a_disk_that_shrinks_or_rests_is_never_full),
        cmocka_unit_test(nothing_is_foretold_from_little),
        cmocka_unit_test(samples_survive_a_restart_and_damage_is_no_history),
    };
    return cmocka_run_group_tests_name("growth", tests, NULL, NULL);
}
