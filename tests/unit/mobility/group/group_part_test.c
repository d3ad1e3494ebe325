/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of one machine in a group point, between two threads: a capture thread that goes its way and the orders of a loop. The
 * other side's silence, haste and absence.
 */
#include "mobility/sync/group_part.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "transport/base/clock.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#define LONG_USEC (60 * USEC_PER_SEC)

struct rig {
    struct group_part *part;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    unsigned rung; /* guarded by lock */
    _Atomic int held, captured;
    uint64_t hold_usec;
};

static void to_loop(void *arg)
{
    struct rig *g = arg;

    pthread_mutex_lock(&g->lock);
    g->rung++;
    pthread_cond_signal(&g->cond);
    pthread_mutex_unlock(&g->lock);
}

static void to_capture(void *arg)
{
    (void)arg;
}

/* Waits as a loop would: for the bell, then looks. */
static enum group_part_state until(struct rig *g, enum group_part_state state)
{
    struct group_part_view view;
    enum group_part_state now;

    pthread_mutex_lock(&g->lock);
    while ((now = group_part_look(g->part, &view)) != state && now != GROUP_PART_FAILED)
        pthread_cond_wait(&g->cond, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return now;
}

static void *capture(void *arg)
{
    struct rig *g = arg;
    struct group_part_ask ask;
    struct err why = ERR_INIT;
    int go;

    err_set(&why, ERR_TIMEOUT, "not in time");
    if (group_part_take(g->part, &ask) == 0)
        return NULL;
    do
        go = group_part_prepared(g->part, 1000);
    while (go == 0);
    go = go > 0 && group_part_frozen(g->part, clock_mono_usec() + g->hold_usec) == 0;
    g->held = go > 0 ? group_part_held(g->part, clock_mono_usec() + g->hold_usec) : -1;
    g->captured = g->held == 0 ? group_part_captured(g->part, 1234, clock_mono_usec() + LONG_USEC) : -1;
    group_part_end(g->part, 77, g->captured == 0 ? NULL : &why);
    return NULL;
}

static void begin(struct rig *g)
{
    const struct group_part_ask ask = {.budget_usec = 5};

    assert_int_equal(group_part_begin(g->part, &ask, NULL), 0);
    assert_int_equal(pthread_create(&g->thread, NULL, capture, g), 0);
}

static int setup(void **state)
{
    struct rig *g = calloc(1, sizeof(*g));
    const struct group_part_conf conf = {.to_capture = to_capture, .to_loop = to_loop, .arg = g};

    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->cond, NULL);
    g->hold_usec = LONG_USEC;
    *state = g;
    return group_part_new(&conf, &g->part, NULL);
}

static int teardown(void **state)
{
    struct rig *g = *state;

    group_part_free(g->part);
    pthread_cond_destroy(&g->cond);
    pthread_mutex_destroy(&g->lock);
    free(g);
    return 0;
}

static void test_step_by_step_to_the_end(void **state)
{
    struct rig *g = *state;
    struct group_part_view view;

    begin(g);
    assert_int_equal(until(g, GROUP_PART_PREPARED), GROUP_PART_PREPARED);
    assert_int_equal(group_part_order(g->part, GROUP_PART_FREEZING, NULL), 0);
    assert_int_equal(until(g, GROUP_PART_FROZEN), GROUP_PART_FROZEN);
    assert_int_equal(group_part_order(g->part, GROUP_PART_READING, NULL), 0);
    assert_int_equal(until(g, GROUP_PART_HELD), GROUP_PART_HELD);
    assert_int_equal(group_part_order(g->part, GROUP_PART_RELEASED, NULL), 0);
    assert_int_equal(until(g, GROUP_PART_CAPTURED), GROUP_PART_CAPTURED);
    assert_int_equal(group_part_order(g->part, GROUP_PART_COMMITTING, NULL), 0);
    assert_int_equal(until(g, GROUP_PART_DONE), GROUP_PART_DONE);
    pthread_join(g->thread, NULL);
    (void)group_part_look(g->part, &view);
    assert_int_equal(view.freeze_usec, 1234);
    assert_int_equal(view.sequence, 77);
    group_part_collect(g->part);
    assert_int_equal(group_part_look(g->part, &view), GROUP_PART_IDLE);
}

static void test_only_one_at_a_time(void **state)
{
    struct rig *g = *state;
    const struct group_part_ask ask = {.budget_usec = 5};
    struct err err = ERR_INIT;

    begin(g);
    assert_int_equal(group_part_begin(g->part, &ask, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    group_part_abort(g->part, "enough");
    assert_int_equal(until(g, GROUP_PART_FAILED), GROUP_PART_FAILED);
    pthread_join(g->thread, NULL);
}

static void test_an_abort_ends_every_wait_at_once(void **state)
{
    static const enum group_part_state at[] = {
        GROUP_PART_PREPARED, GROUP_PART_FROZEN, GROUP_PART_HELD, GROUP_PART_CAPTURED};
    static const enum group_part_state orders[] = {GROUP_PART_FREEZING, GROUP_PART_READING, GROUP_PART_RELEASED};
    struct rig *g = *state;

    for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        struct group_part_view view;
        begin(g);
        for (unsigned k = 0; k < i; k++) {
            assert_int_equal(until(g, at[k]), at[k]);
            assert_int_equal(group_part_order(g->part, orders[k], NULL), 0);
        }
        assert_int_equal(until(g, at[i]), at[i]);
        group_part_abort(g->part, "the coordinator was lost");
        assert_int_equal(until(g, GROUP_PART_FAILED), GROUP_PART_FAILED);
        pthread_join(g->thread, NULL);
        assert_true(g->captured != 0);
        (void)group_part_look(g->part, &view);
        assert_string_equal(view.why.text, "the coordinator was lost");
        group_part_collect(g->part);
    }
}

static void test_a_hold_ends_by_itself(void **state)
{
    struct rig *g = *state;

    g->hold_usec = 20000;
    begin(g);
    assert_int_equal(until(g, GROUP_PART_PREPARED), GROUP_PART_PREPARED);
    assert_int_equal(group_part_order(g->part, GROUP_PART_FREEZING, NULL), 0);
    assert_int_equal(until(g, GROUP_PART_FAILED), GROUP_PART_FAILED);
    pthread_join(g->thread, NULL);
    assert_int_equal(g->held, -1);
    /* And an order that comes after that is refused. */
    assert_int_equal(group_part_order(g->part, GROUP_PART_RELEASED, NULL), -1);
}

static void test_orders_out_of_turn_are_refused(void **state)
{
    static const enum group_part_state wrong[] = {GROUP_PART_READING, GROUP_PART_RELEASED, GROUP_PART_COMMITTING,
        GROUP_PART_DONE, GROUP_PART_IDLE, GROUP_PART_HELD};
    struct rig *g = *state;

    assert_int_equal(group_part_order(g->part, GROUP_PART_FREEZING, NULL), -1);
    begin(g);
    assert_int_equal(until(g, GROUP_PART_PREPARED), GROUP_PART_PREPARED);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(group_part_order(g->part, wrong[i], NULL), -1);
    assert_int_equal(group_part_order(g->part, GROUP_PART_FREEZING, NULL), 0);
    group_part_abort(g->part, "enough");
    pthread_join(g->thread, NULL);
}

static void test_an_abort_before_it_was_seen_ends_it(void **state)
{
    struct rig *g = *state;
    const struct group_part_ask ask = {.budget_usec = 5};
    struct group_part_ask taken;
    struct group_part_view view;

    assert_int_equal(group_part_begin(g->part, &ask, NULL), 0);
    group_part_abort(g->part, "late");
    assert_int_equal(g->rung, 1); /* nobody else says that it is over */
    assert_int_equal(group_part_take(g->part, &taken), 0);
    assert_int_equal(group_part_look(g->part, &view), GROUP_PART_FAILED);
    group_part_collect(g->part);
    assert_int_equal(group_part_begin(g->part, &ask, NULL), 0);
    assert_int_equal(group_part_take(g->part, &taken), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_step_by_step_to_the_end),
        TEST(test_only_one_at_a_time),
        TEST(test_an_abort_ends_every_wait_at_once),
        TEST(test_a_hold_ends_by_itself),
        TEST(test_orders_out_of_turn_are_refused),
        TEST(test_an_abort_before_it_was_seen_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
