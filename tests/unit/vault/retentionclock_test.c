/* SPDX-License-Identifier: Apache-2.0
 *
 * The retention clock: nobody hurries it.
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
#include "transport/vault/retentionclock.h"

#define HOUR (3600 * USEC_PER_SEC)
#define DAY (24 * HOUR)
#define NOW (20000 * DAY)

static char dir[64];

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "%s", "/tmp/retentionclock.XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(dir, NULL);
}

static struct retentionclock_machine machine(uint8_t boot, uint64_t up_usec, uint64_t utc_usec)
{
    struct retentionclock_machine m = {.up_usec = up_usec, .utc_usec = utc_usec};
    memset(m.boot, boot, sizeof(m.boot));
    return m;
}

static uint64_t at(struct retentionclock *c, uint8_t boot, uint64_t up_usec, uint64_t utc_usec)
{
    struct retentionclock_machine m = machine(boot, up_usec, utc_usec);
    return retentionclock_at(c, &m);
}

static void begin(struct retentionclock *c, uint8_t boot, uint64_t up_usec, uint64_t utc_usec)
{
    struct retentionclock_machine m = machine(boot, up_usec, utc_usec);
    assert_int_equal(retentionclock_open(c, dir, &m, NULL), 0);
}

static void it_is_the_machines_clock_while_that_is_right(void **state)
{
    struct retentionclock c;
    (void)state;
    begin(&c, 1, HOUR, NOW);
    for (uint64_t passed = 0; passed < 3 * DAY; passed += HOUR)
        assert_int_equal(at(&c, 1, HOUR + passed, NOW + passed), NOW + passed);
    retentionclock_close(&c);
}

static void a_clock_set_forward_hurries_it_by_a_fiftieth(void **state)
{
    struct retentionclock c;
    uint64_t last = 0;
    (void)state;
    begin(&c, 1, 0, NOW);
    /* Looked at often or seldom: the same. */
    for (uint64_t passed = 0; passed <= 30 * DAY; passed += HOUR)
        last = at(&c, 1, passed, NOW + passed + 365 * DAY);
    assert_int_equal(last, NOW + 30 * DAY + 30 * DAY / 50);
    retentionclock_close(&c);
    begin(&c, 1, 0, NOW);
    assert_int_equal(at(&c, 1, 30 * DAY, NOW + 400 * DAY), NOW + 30 * DAY + 30 * DAY / 50);
    /* Never ahead of it. */
    assert_int_equal(at(&c, 1, 31 * DAY, NOW + 31 * DAY + HOUR), NOW + 31 * DAY + HOUR);
    retentionclock_close(&c);
}

static void it_follows_a_clock_that_is_behind_at_once(void **state)
{
    struct retentionclock c;
    (void)state;
    begin(&c, 1, 0, NOW + 3650 * DAY); /* a machine that starts without the time, and gets it */
    assert_int_equal(at(&c, 1, HOUR, NOW), NOW);
    assert_int_equal(at(&c, 1, 2 * HOUR, NOW + HOUR), NOW + HOUR);
    retentionclock_close(&c);
}

static void it_goes_on_after_a_restart_and_stands_still_while_the_machine_is_off(void **state)
{
    struct retentionclock c;
    (void)state;
    begin(&c, 1, HOUR, NOW);
    assert_int_equal(at(&c, 1, 2 * HOUR, NOW + HOUR), NOW + HOUR);
    assert_int_equal(retentionclock_save(&c, dir, NULL), 0);
    retentionclock_close(&c);
    /* The daemon alone was started again; meanwhile somebody set the clock forward. */
    begin(&c, 1, 5 * HOUR, NOW + 4 * HOUR + 365 * DAY);
    assert_int_equal(at(&c, 1, 5 * HOUR, NOW + 4 * HOUR + 365 * DAY), NOW + 4 * HOUR + 3 * HOUR / 50);
    assert_int_equal(retentionclock_save(&c, dir, NULL), 0);
    retentionclock_close(&c);
    /* The machine was started again, with a longer time since its start than the last one had. */
    uint64_t saved = NOW + 4 * HOUR + 3 * HOUR / 50;
    begin(&c, 2, 9 * HOUR, NOW + 365 * DAY);
    assert_int_equal(at(&c, 2, 9 * HOUR, NOW + 365 * DAY), saved);
    assert_int_equal(at(&c, 2, 10 * HOUR, NOW + 365 * DAY), saved + HOUR + HOUR / 50);
    retentionclock_close(&c);
}

static void with_a_damaged_file_nothing_grows_old(void **state)
{
    struct retentionclock c;
    struct err err = ERR_INIT;
    char path[100];
    (void)state;
    begin(&c, 1, HOUR, NOW);
    assert_int_equal(retentionclock_save(&c, dir, NULL), 0);
    retentionclock_close(&c);
    (void)snprintf(path, sizeof(path), "%s/retention.clock", dir);
    for (off_t n = 0; n < 56; n += 11) {
        assert_int_equal(truncate(path, n), 0);
        begin(&c, 1, 2 * HOUR, NOW + HOUR);
        assert_true(c.damaged);
        assert_int_equal(at(&c, 1, 2 * HOUR, NOW + HOUR), 0);
        assert_int_equal(retentionclock_save(&c, dir, &err), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
        retentionclock_close(&c);
    }
    assert_int_equal(unlink(path), 0);
    begin(&c, 1, 2 * HOUR, NOW + HOUR);
    assert_int_equal(at(&c, 1, 2 * HOUR, NOW + HOUR), NOW + HOUR);
    retentionclock_close(&c);
}

static void the_machine_tells_its_time(void **state)
{
    struct retentionclock_machine a, b;
    static const uint8_t none[RETENTIONCLOCK_BOOT_SIZE];
    (void)state;
    retentionclock_machine(&a);
    retentionclock_machine(&b);
    assert_memory_not_equal(a.boot, none, sizeof(none));
    assert_memory_equal(a.boot, b.boot, sizeof(a.boot));
    assert_true(b.up_usec >= a.up_usec && a.up_usec > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_the_machines_clock_while_that_is_right),
        cmocka_unit_test(a_clock_set_forward_hurries_it_by_a_fiftieth),
        cmocka_unit_test(it_follows_a_clock_that_is_behind_at_once),
        cmocka_unit_test_setup_teardown(
            it_goes_on_after_a_restart_and_stands_still_while_the_machine_is_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(with_a_damaged_file_nothing_grows_old, set_up, tear_down),
        cmocka_unit_test(the_machine_tells_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
