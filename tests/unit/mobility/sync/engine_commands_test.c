/* SPDX-License-Identifier: Apache-2.0
 *
 * Points that are asked for: each order is answered once and makes one point, however often it comes, and whatever becomes of the machine.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/mobility/sync/syncrig.h"
#include "transport/base/clock.h"

#define MIB (1u << 20)

static void count_asked(void *arg, const struct mark *mark)
{
    if (mark->flags & MARK_ASKED)
        ++*(_Atomic unsigned *)arg;
}

/* As the hub does whose session was lost before it heard of the end. */
static void an_order_that_comes_again_makes_no_other_point(void **state)
{
    struct fakenode_facts facts;
    _Atomic unsigned asked = 0;
    struct syncrig rig;
    struct engine_output o;
    struct err err = ERR_INIT;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    rig.wish.interval_usec = 30 * USEC_PER_SEC; /* what comes in between was asked for */
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    fakenode_set_look(rig.node, count_asked, &asked);
    fakenode_set_holding(rig.node, true);
    fakenode_get(rig.node, &facts);
    for (uint64_t held = facts.held; facts.held == held; fakenode_get(rig.node, &facts))
        assert_int_equal(engine_create_point(syncrig_engine(&rig), "c1", "crash", "", &err), 0);
    for (int i = 0; i < 100; i++) /* it is sent, and not committed */
        assert_int_equal(engine_create_point(syncrig_engine(&rig), "c1", "crash", "", &err), 0);
    assert_int_equal(engine_create_point(syncrig_engine(&rig), "c2", "crash", "", &err), 0);
    fakenode_set_holding(rig.node, false);
    assert_true(syncrig_result(&rig, "c1", &o));
    assert_true(syncrig_result(&rig, "c2", &o));
    assert_int_equal(engine_create_point(syncrig_engine(&rig), "c1", "crash", "", &err), 0);
    assert_int_equal(engine_create_point(syncrig_engine(&rig), "c3", "crash", "", &err), 0);
    assert_true(syncrig_result(&rig, "c3", &o));
    assert_int_equal(asked, 3);
    fakenode_set_look(rig.node, NULL, NULL);
    syncrig_done(&rig);
}

/* The vault's commit of its mark will never be heard of. */
static void an_order_of_a_machine_that_is_protected_no_more_is_answered(void **state)
{
    struct fakenode_facts facts;
    struct syncrig rig;
    struct engine_output o;
    struct err err = ERR_INIT;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    rig.wish.interval_usec = 30 * USEC_PER_SEC;
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    fakenode_set_holding(rig.node, true);
    fakenode_get(rig.node, &facts);
    assert_int_equal(engine_create_point(syncrig_engine(&rig), "c1", "crash", "", &err), 0);
    for (uint64_t held = facts.held; facts.held == held; fakenode_get(rig.node, &facts))
        (void)usleep(1000);
    rig.wish.version++;
    rig.wish.protect = false;
    engine_set_wish(syncrig_engine(&rig), &rig.wish);
    assert_true(syncrig_result(&rig, "c1", &o));
    assert_int_equal(o.error.code, ERR_REFUSED);
    syncrig_done(&rig);
}

/* More than can be sent while somebody is patient with a point that does not get on: what was written while the node was away. */
static void leave_backlog(struct syncrig *rig)
{
    uint8_t *data = random_bytes(MIB);

    syncrig_init(rig, 1, 160 * MIB, 512);
    rig->patience_usec = 2 * USEC_PER_SEC;
    rig->wish.interval_usec = 3600 * USEC_PER_SEC;
    rig->wish.pace.rate_bytes_per_sec = 16 * MIB;
    syncrig_start(rig);
    assert_true(syncrig_wait_phase(rig, PHASE_PROTECTED)); /* what is zero costs nothing */
    fakenode_set_refusing(rig->node, true);
    fakenode_drop(rig->node);
    for (uint64_t at = 0; at < 144 * MIB; at += MIB) {
        memcpy(data, &at, sizeof(at));
        loopdisk_write(&rig->disks[0], at, data, MIB);
    }
    free(data);
}

/* The last point of a planned failover, for one: the services have been stopped by then. */
static void an_order_is_not_given_up_while_the_backlog_before_it_is_sent(void **state)
{
    struct syncrig rig;
    struct engine_output o;
    struct err err = ERR_INIT;
    uint64_t began;

    (void)state;
    leave_backlog(&rig);
    began = clock_mono_usec();
    fakenode_set_refusing(rig.node, false);
    assert_int_equal(engine_create_point(syncrig_engine(&rig), "last", "crash", "", &err), 0);
    assert_true(syncrig_result(&rig, "last", &o));
    assert_int_equal(o.error.code, ERR_NONE);
    assert_true(clock_mono_usec() - began > 2 * rig.patience_usec);
    rig.wish.version++;
    rig.wish.interval_usec = 100 * USEC_PER_MSEC;
    engine_set_wish(syncrig_engine(&rig), &rig.wish);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

static void an_order_without_a_node_is_given_up(void **state)
{
    struct syncrig rig;
    struct engine_output o;
    struct err err = ERR_INIT;

    (void)state;
    leave_backlog(&rig);
    assert_int_equal(engine_create_point(syncrig_engine(&rig), "last", "crash", "", &err), 0);
    assert_true(syncrig_result(&rig, "last", &o));
    assert_int_equal(o.error.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(o.error.text, "cannot be reached"));
    syncrig_done(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_is_not_given_up_while_the_backlog_before_it_is_sent),
        cmocka_unit_test(an_order_without_a_node_is_given_up),
        cmocka_unit_test(an_order_that_comes_again_makes_no_other_point),
        cmocka_unit_test(an_order_of_a_machine_that_is_protected_no_more_is_answered),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    if (getenv("LEEWARD_TEST"))
        cmocka_set_test_filter(getenv("LEEWARD_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
