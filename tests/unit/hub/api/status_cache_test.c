/* SPDX-License-Identifier: Apache-2.0
 *
 * Readers of the status's numbers while somebody counts: the table of machines is locked by the test, so that a count takes as long as the test wants.
 */
#include "hub/api/status_cache.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/mem.h"

#define ONE "11111111-1111-4111-8111-111111111111"
#define LONG_USEC (3600 * USEC_PER_SEC)
#define SHORT_USEC (300 * USEC_PER_MSEC)
#define PATIENCE_S 60

/* A thread that asks until it is told of `wanted` machines or fails. */
struct reader {
    struct status_cache *cache;
    struct db_conn *conn;
    uint64_t wanted;
    uint64_t deadline_usec; /* who asked later than this and was told the old numbers was told too much; 0: no matter */
    pthread_t thread;
    atomic_int tid; /* while it asks */
    unsigned told_late;
    uint64_t machines;
    int rc;
    struct err err;
};

static void *read_until(void *arg)
{
    struct reader *r = arg;
    struct status_counts counts = {0};

    do {
        uint64_t asked = clock_mono_usec();

        atomic_store(&r->tid, gettid());
        r->rc = status_cache_read(r->cache, r->conn, &counts, &r->err);
        r->told_late += r->rc == 0 && counts.machines != r->wanted && r->deadline_usec && asked > r->deadline_usec;
        r->machines = counts.machines;
    } while (r->rc == 0 && counts.machines != r->wanted);
    return NULL;
}

static void begin(struct reader *r, void **state, struct status_cache *cache, uint64_t wanted)
{
    r->cache = cache;
    r->conn = fixture_conn(state);
    r->wanted = wanted;
    assert_int_equal(pthread_create(&r->thread, NULL, read_until, r), 0);
}

/* false: it still waits for something. */
static bool end_within(struct reader *r, time_t seconds)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    if (pthread_timedjoin_np(r->thread, NULL, &until) != 0)
        return false;
    db_release(r->conn);
    return true;
}

static void a_moment(void)
{
    (void)usleep(2000);
}

/* How many statements wait for the table that is locked. */
static int stuck(struct db_conn *conn)
{
    struct err err = ERR_INIT;
    int n = db_exec(conn, NULL, &err, "SELECT 1 FROM pg_locks WHERE NOT granted");

    assert_ok(n, &err);
    return n;
}

static void wait_until_stuck(struct db_conn *conn)
{
    uint64_t until = clock_mono_usec() + PATIENCE_S * USEC_PER_SEC;

    while (stuck(conn) == 0) {
        assert_true(clock_mono_usec() < until);
        a_moment();
    }
}

/* A thread that is inside a call and neither runs nor is ready to has gone to wait. */
static void wait_until_asleep(struct reader *r)
{
    uint64_t until = clock_mono_usec() + PATIENCE_S * USEC_PER_SEC;
    char run_state = 0;

    while (run_state != 'S') {
        int tid = atomic_load(&r->tid);
        AUTO_FREE char *path = mem_printf("/proc/self/task/%d/stat", tid);
        FILE *stat = tid ? fopen(path, "r") : NULL;

        assert_true(clock_mono_usec() < until);
        if (stat && fscanf(stat, "%*d (%*[^)]) %c", &run_state) != 1)
            run_state = 0;
        if (stat)
            (void)fclose(stat);
        a_moment();
    }
}

static uint64_t machines_of(struct status_cache *cache, struct db_conn *conn)
{
    struct status_counts counts = {0};
    struct err err = ERR_INIT;

    assert_ok(status_cache_read(cache, conn, &counts, &err), &err);
    return counts.machines;
}

/* There is one machine more as soon as anybody can count again. */
static struct db_conn *lock_machines(void **state)
{
    struct db_conn *conn = fixture_conn(state);
    struct err err = ERR_INIT;

    assert_ok(db_begin(conn, &err), &err);
    fixture_script(conn, "LOCK TABLE machines IN ACCESS EXCLUSIVE MODE");
    fixture_machine(conn, ONE, "one");
    return conn;
}

static void let_go(struct db_conn *locker)
{
    struct err err = ERR_INIT;

    assert_ok(db_commit(locker, &err), &err);
}

static void done(struct status_cache *cache, struct db_conn *locker)
{
    fixture_script(locker, "DELETE FROM machines");
    db_release(locker);
    status_cache_free(cache);
}

static void who_comes_while_somebody_counts_is_told_the_last_numbers_at_once(void **state)
{
    struct status_cache *cache = status_cache_new(LONG_USEC);
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct reader counter = {0}, others[3] = {0};
    struct db_conn *locker;
    bool at_once = true;

    assert_int_equal(machines_of(cache, conn), 0);
    locker = lock_machines(state);
    begin(&counter, state, cache, 1);
    wait_until_stuck(conn);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        begin(&others[i], state, cache, 0);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        at_once = at_once && end_within(&others[i], PATIENCE_S) && others[i].rc == 0;
    assert_true(at_once);
    assert_int_equal(stuck(conn), 1); /* one counts, and it still does */
    let_go(locker);
    assert_true(end_within(&counter, PATIENCE_S));
    assert_int_equal(counter.machines, 1);
    assert_int_equal(machines_of(cache, conn), 1);
    done(cache, locker);
}

static void nobody_is_told_numbers_that_are_too_old(void **state)
{
    struct status_cache *cache = status_cache_new(SHORT_USEC);
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct reader readers[2] = {0};
    struct db_conn *locker;
    uint64_t counted;

    assert_int_equal(machines_of(cache, conn), 0);
    counted = clock_mono_usec();
    locker = lock_machines(state);
    for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
        readers[i].deadline_usec = counted + SHORT_USEC;
        begin(&readers[i], state, cache, 1);
    }
    while (clock_mono_usec() < counted + 3 * SHORT_USEC)
        a_moment();
    let_go(locker);
    for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
        assert_true(end_within(&readers[i], PATIENCE_S));
        assert_int_equal(readers[i].rc, 0);
        assert_int_equal(readers[i].told_late, 0);
    }
    done(cache, locker);
}

static void who_waits_for_a_count_shares_its_failure_and_the_next_one_counts(void **state)
{
    struct status_cache *cache = status_cache_new(LONG_USEC);
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct db_conn *locker = lock_machines(state);
    struct reader counter = {0}, waiter = {0};
    struct err err = ERR_INIT;

    begin(&counter, state, cache, 1);
    wait_until_stuck(conn);
    begin(&waiter, state, cache, 1);
    wait_until_asleep(&waiter);
    assert_int_equal(stuck(conn), 1);
    assert_ok(db_exec(conn, NULL, &err, "SELECT pg_cancel_backend(pid) FROM pg_locks WHERE NOT granted"), &err);
    assert_true(end_within(&counter, PATIENCE_S) && end_within(&waiter, PATIENCE_S));
    assert_int_equal(counter.rc, -1);
    assert_int_equal(waiter.rc, -1);
    assert_int_equal(waiter.err.code, counter.err.code);
    assert_string_equal(waiter.err.text, counter.err.text);
    let_go(locker);
    assert_int_equal(machines_of(cache, conn), 1);
    done(cache, locker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_comes_while_somebody_counts_is_told_the_last_numbers_at_once),
        cmocka_unit_test(nobody_is_told_numbers_that_are_too_old),
        cmocka_unit_test(who_waits_for_a_count_shares_its_failure_and_the_next_one_counts),
    };

    return cmocka_run_group_tests_name("hub_status_cache", tests, postgres_fixture_up, postgres_fixture_down);
}
