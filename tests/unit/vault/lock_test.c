/* SPDX-License-Identifier: Apache-2.0
 *
 * The retention lock: nobody shortens it before it runs out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/clock.h"
#include "transport/vault/storelock.h"

#define HOUR (3600 * USEC_PER_SEC)
#define NOW (20000 * 24 * HOUR)

static uint64_t until(const struct storelock *l, uint64_t sequence)
{
    const struct point p = {.sequence = sequence, .committed_utc_usec = NOW + sequence};
    return storelock_until(l, &p);
}

static void a_longer_lock_is_for_all_points_a_shorter_one_for_those_to_come(void **state)
{
    struct storelock l = {0};
    (void)state;
    assert_int_equal(until(&l, 5), 0);
    assert_true(storelock_apply(&l, HOUR, 10));
    assert_int_equal(until(&l, 5), NOW + 5 + HOUR); /* those that were there are locked too */
    assert_int_equal(until(&l, 10), NOW + 10 + HOUR);
    assert_false(storelock_apply(&l, HOUR, 20)); /* nothing new */
    assert_true(storelock_apply(&l, 0, 30));
    assert_int_equal(until(&l, 29), NOW + 29 + HOUR);
    assert_int_equal(until(&l, 30), 0);
    assert_true(storelock_apply(&l, 5 * HOUR, 40));
    for (uint64_t s = 1; s < 60; s++)
        assert_int_equal(until(&l, s), NOW + s + 5 * HOUR);
    assert_true(storelock_apply(&l, 2 * HOUR, 60));
    assert_int_equal(until(&l, 59), NOW + 59 + 5 * HOUR);
    assert_int_equal(until(&l, 60), NOW + 60 + 2 * HOUR);
    assert_int_equal(storelock_current(&l), 2 * HOUR);
}

static void any_number_of_changes_never_shortens_a_lock(void **state)
{
    struct storelock l = {0};
    uint64_t before[400] = {0}, random = 88172645463325252ULL;
    (void)state;
    for (uint64_t next = 1; next < 400; next++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (void)storelock_apply(&l, random % 9 * HOUR, next);
        for (uint64_t s = 1; s <= next; s++) {
            uint64_t now = until(&l, s);
            assert_true(now >= before[s]);
            before[s] = now;
        }
        assert_int_equal(until(&l, next), random % 9 == 0 ? 0 : NOW + next + random % 9 * HOUR);
    }
    assert_true(l.count <= STORELOCK_SPANS_MAX);
}

static void a_locked_point_stays_whoever_asks(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    uint64_t drop[] = {1, 2, 3, 4};
    size_t dropped = 0;
    (void)state;
    model_init(&m, 61);
    model_open(&m);
    for (int i = 0; i < 5; i++) {
        model_random_write(&m);
        model_commit(&m, MARK_CRASH);
    }
    assert_int_equal(store_set_lock(m.store, HOUR, &err), 0);
    assert_int_equal(store_set_lock(m.store, 0, &err), 0); /* the hub takes it back: for points to come alone */
    assert_int_equal(store_drop_points(m.store, drop, 4, &dropped, &err), 0);
    assert_int_equal(dropped, 0);
    assert_true(store_locked_until(m.store) > clock_utc_usec() + HOUR / 2);
    model_close(&m);
    model_open(&m); /* and after a restart */
    assert_int_equal(store_drop_points(m.store, drop, 4, &dropped, &err), 0);
    assert_int_equal(dropped, 0);
    model_random_write(&m);
    model_commit(&m, MARK_CRASH); /* 6 and 7 were never locked */
    model_random_write(&m);
    model_commit(&m, MARK_CRASH);
    drop[3] = 6;
    assert_int_equal(store_drop_points(m.store, drop, 4, &dropped, &err), 0);
    assert_int_equal(dropped, 1);
    model_forget(&m, 6);
    model_check_all(&m);
    model_done(&m);
}

static void an_index_made_again_frees_nothing_early(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    uint64_t drop[] = {1, 2};
    size_t dropped = 0;
    char path[300];
    (void)state;
    model_init(&m, 62);
    model_open(&m);
    assert_int_equal(store_set_lock(m.store, HOUR, &err), 0);
    for (int i = 0; i < 4; i++) {
        model_random_write(&m);
        model_commit(&m, MARK_CRASH); /* the source's clock says 1970 */
    }
    model_close(&m);
    (void)snprintf(path, sizeof(path), "%s/manifest", m.machine_dir);
    assert_int_equal(unlink(path), 0);
    model_open(&m);
    assert_int_equal(store_drop_points(m.store, drop, 2, &dropped, &err), 0);
    assert_int_equal(dropped, 0);
    model_check_all(&m);
    model_close(&m);
    (void)snprintf(path, sizeof(path), "%s/locks", m.machine_dir);
    assert_int_equal(truncate(path, 20), 0); /* damage locks everything */
    model_open(&m);
    assert_int_equal(store_drop_points(m.store, drop, 2, &dropped, &err), 0);
    assert_int_equal(dropped, 0);
    assert_int_equal(store_set_lock(m.store, 0, &err), 0);
    assert_int_equal(access(path, F_OK), 0);
    model_done(&m);
}

static void a_clock_that_goes_back_unlocks_nothing(void **state)
{
    struct storelock l = {0};
    const struct point p = {.sequence = 3, .committed_utc_usec = NOW};
    (void)state;
    assert_true(storelock_apply(&l, HOUR, 1));
    assert_true(storelock_until(&l, &p) == NOW + HOUR); /* compared with a clock of NOW - 1 year: still locked */
    assert_true(storelock_recount(&l, NOW + 5 * HOUR));
    assert_true(storelock_until(&l, &p) == NOW + 6 * HOUR);
    assert_false(storelock_recount(&l, NOW)); /* an earlier clock takes nothing back */
    assert_true(storelock_until(&l, &p) == NOW + 6 * HOUR);
}

/* The machine's clock says that the lock has run out; the vault's own, that it has not. */
static void the_retention_clock_decides(void **state)
{
    static struct model m;
    static struct retentionclock clock;
    struct err err = ERR_INIT;
    const struct retentionclock_machine year_ago = {.utc_usec = clock_utc_usec() - 365 * 24 * HOUR};
    uint64_t drop[] = {1, 2};
    size_t dropped = 0;
    (void)state;
    model_init(&m, 63);
    assert_int_equal(retentionclock_open(&clock, m.machine_dir, &year_ago, &err), 0);
    m.conf.clock = &clock;
    model_open(&m);
    for (int i = 0; i < 4; i++) {
        model_random_write(&m);
        model_commit(&m, MARK_CRASH);
    }
    assert_int_equal(store_set_lock(m.store, 1, &err), 0);
    assert_true(store_lock_now(m.store) < clock_utc_usec() - 364 * 24 * HOUR);
    assert_int_equal(store_drop_points(m.store, drop, 2, &dropped, &err), 0);
    assert_int_equal(dropped, 0);
    model_close(&m);
    m.conf.clock = NULL;
    model_open(&m);
    assert_int_equal(store_drop_points(m.store, drop, 2, &dropped, &err), 0);
    assert_int_equal(dropped, 2);
    model_done(&m);
    retentionclock_close(&clock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_longer_lock_is_for_all_points_a_shorter_one_for_those_to_come),
        cmocka_unit_test(any_number_of_changes_never_shortens_a_lock),
        cmocka_unit_test(a_locked_point_stays_whoever_asks),
        cmocka_unit_test(an_index_made_again_frees_nothing_early),
        cmocka_unit_test(a_clock_that_goes_back_unlocks_nothing),
        cmocka_unit_test(the_retention_clock_decides),
    };
    return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
