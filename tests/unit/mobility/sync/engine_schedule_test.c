/* SPDX-License-Identifier: Apache-2.0
 *
 * Points of the stronger kinds on schedules of their own, by the engine on loop disks with mounted file systems.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/mobility/sync/syncrig.h"
#include "transport/base/clock.h"

#define MIB (1u << 20)
#define MSEC 1000ull

/* Until the node has committed that many marks of the kind. */
static void wait_kind(struct syncrig *rig, enum mark_kind kind, uint64_t count)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    uint64_t end = clock_mono_usec() + 90 * USEC_PER_SEC;
    struct fakenode_facts facts;

    for (fakenode_get(rig->node, &facts); facts.kinds[kind] < count; fakenode_get(rig->node, &facts)) {
        assert_string_equal(facts.fault, "");
        assert_true(clock_mono_usec() < end);
        nanosleep(&pause, NULL);
    }
}

/* Until the node has taken a mark of the kind without committing it. */
static void wait_held(struct syncrig *rig, enum mark_kind kind)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    uint64_t end = clock_mono_usec() + 90 * USEC_PER_SEC;
    struct fakenode_facts facts;

    for (fakenode_get(rig->node, &facts); !(facts.held_kinds >> kind & 1u); fakenode_get(rig->node, &facts)) {
        assert_true(clock_mono_usec() < end);
        nanosleep(&pause, NULL);
    }
}

static void every_kind_has_a_rhythm_of_its_own(void **state)
{
    struct fakenode_facts facts;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 2, 64 * MIB, 512);
    syncrig_mount(&rig, 0);
    syncrig_mount(&rig, 1);
    must_run("printf '#!/bin/sh\\necho $1 >> %s/hook.log\\n' > %s/10-hook && chmod 755 %s/10-hook", rig.dir, rig.dir,
        rig.dir);
    rig.wish.filesystem_interval_usec = 300 * MSEC;
    rig.wish.application_interval_usec = 1500 * MSEC;
    syncrig_start(&rig);
    wait_kind(&rig, MARK_APPLICATION, 3);
    wait_kind(&rig, MARK_FILESYSTEM, 4);
    fakenode_get(rig.node, &facts);
    assert_true(facts.kinds[MARK_CRASH] > facts.kinds[MARK_APPLICATION]);
    assert_true(facts.kinds[MARK_FILESYSTEM] >= facts.kinds[MARK_APPLICATION]);
    assert_int_equal(syncrig_events(&rig, "application_point_missed"), 0);
    /* hooks ran for the app-consistent ones only */
    syncrig_stop(&rig);
    fakenode_get(rig.node, &facts);
    must_run("n=$(grep -c freeze %s/hook.log); test $n -ge %u && test $n -le %u", rig.dir,
        (unsigned)facts.kinds[MARK_APPLICATION], (unsigned)facts.kinds[MARK_APPLICATION] + 1);
    syncrig_unmount(&rig, 0);
    syncrig_unmount(&rig, 1);
    syncrig_done(&rig);
}

static void a_schedule_that_is_off_makes_none(void **state)
{
    struct fakenode_facts facts;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 32 * MIB, 512);
    syncrig_mount(&rig, 0);
    rig.wish.filesystem_interval_usec = 200 * MSEC;
    syncrig_start(&rig);
    wait_kind(&rig, MARK_FILESYSTEM, 2);
    rig.wish.version++;
    rig.wish.filesystem_interval_usec = 0;
    engine_set_wish(syncrig_engine(&rig), &rig.wish);
    fakenode_get(rig.node, &facts);
    wait_kind(&rig, MARK_CRASH, facts.kinds[MARK_CRASH] + 5); /* the new wish has come in */
    fakenode_get(rig.node, &facts);
    uint64_t before = facts.kinds[MARK_FILESYSTEM];
    wait_kind(&rig, MARK_CRASH, facts.kinds[MARK_CRASH] + 10);
    fakenode_get(rig.node, &facts);
    assert_int_equal(facts.kinds[MARK_FILESYSTEM], before);
    assert_int_equal(facts.kinds[MARK_APPLICATION], 0);
    syncrig_unmount(&rig, 0);
    syncrig_done(&rig);
}

static void a_failing_hook_is_a_missed_point_and_no_more(void **state)
{
    struct fakenode_facts facts;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 32 * MIB, 512);
    syncrig_mount(&rig, 0);
    must_run("printf '#!/bin/sh\\n[ $1 = thaw ]\\n' > %s/10-bad && chmod 755 %s/10-bad", rig.dir, rig.dir);
    rig.wish.application_interval_usec = 300 * MSEC;
    syncrig_start(&rig);
    assert_true(syncrig_wait_event(&rig, "application_point_missed"));
    fakenode_get(rig.node, &facts);
    assert_int_equal(facts.kinds[MARK_APPLICATION], 0);
    assert_true(fakenode_wait_points(rig.node, facts.points + 3)); /* crash-consistent ones go on */
    must_run("printf '#!/bin/sh\\n:\\n' > %s/10-bad", rig.dir);
    wait_kind(&rig, MARK_APPLICATION, 1);
    syncrig_unmount(&rig, 0);
    syncrig_done(&rig);
}

/* With nobody to tell the application it is as consistent as the file systems, and not called more. */
static void without_a_hook_no_point_is_app_consistent(void **state)
{
    struct fakenode_facts facts;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 32 * MIB, 512);
    syncrig_mount(&rig, 0);
    rig.wish.application_interval_usec = 300 * MSEC;
    syncrig_start(&rig);
    assert_true(syncrig_wait_event(&rig, "application_point_missed"));
    fakenode_get(rig.node, &facts);
    assert_true(fakenode_wait_points(rig.node, facts.points + 3));
    fakenode_get(rig.node, &facts);
    assert_int_equal(facts.kinds[MARK_APPLICATION], 0);
    must_run("printf '#!/bin/sh\\n:\\n' > %s/10-good && chmod 755 %s/10-good", rig.dir, rig.dir);
    wait_kind(&rig, MARK_APPLICATION, 1);
    syncrig_unmount(&rig, 0);
    syncrig_done(&rig);
}

static void a_point_lost_on_the_way_is_made_again(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 32 * MIB, 512);
    syncrig_mount(&rig, 0);
    syncrig_start(&rig);
    wait_kind(&rig, MARK_CRASH, 2);
    fakenode_set_holding(rig.node, true);
    rig.wish.version++;
    rig.wish.filesystem_interval_usec = 3600 * USEC_PER_SEC; /* one, now */
    engine_set_wish(syncrig_engine(&rig), &rig.wish);
    wait_held(&rig, MARK_FILESYSTEM);
    fakenode_drop(rig.node);
    fakenode_set_holding(rig.node, false);
    wait_kind(&rig, MARK_FILESYSTEM, 1);
    syncrig_unmount(&rig, 0);
    syncrig_done(&rig);
}

static void times_that_pass_without_a_stream_are_told(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 32 * MIB, 512);
    syncrig_mount(&rig, 0);
    rig.wish.filesystem_interval_usec = 300 * MSEC;
    syncrig_start(&rig);
    wait_kind(&rig, MARK_FILESYSTEM, 1);
    assert_int_equal(syncrig_events(&rig, "filesystem_point_missed"), 0);
    fakenode_set_refusing(rig.node, true);
    fakenode_drop(rig.node);
    assert_true(syncrig_wait_event(&rig, "filesystem_point_missed"));
    fakenode_set_refusing(rig.node, false);
    wait_kind(&rig, MARK_FILESYSTEM, 2);
    syncrig_unmount(&rig, 0);
    syncrig_done(&rig);
}

/* For days, where it is large and the line is slow. */
static void points_of_the_others_go_on_while_a_disk_is_added(void **state)
{
    uint8_t *data = random_bytes(128 * MIB);
    struct fakenode_facts facts;
    struct engine_status status;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 2, 128 * MIB, 512);
    loopdisk_write(&rig.disks[1], 0, data, 128 * MIB);
    free(data);
    syncrig_mount(&rig, 0);
    rig.wish.disk_count = 1;
    rig.wish.filesystem_interval_usec = 8 * USEC_PER_SEC; /* a step of the copy takes less */
    syncrig_start(&rig);
    wait_kind(&rig, MARK_FILESYSTEM, 1);
    rig.wish.version++;
    rig.wish.disk_count = 2;
    rig.wish.pace.rate_bytes_per_sec = 2u << 20; /* longer than this test waits */
    engine_set_wish(syncrig_engine(&rig), &rig.wish);
    do
        engine_get_status(syncrig_engine(&rig), &status);
    while (status.phase != PHASE_INITIAL_REPLICATION || status.version != rig.wish.version);
    fakenode_get(rig.node, &facts);
    wait_kind(&rig, MARK_FILESYSTEM, facts.kinds[MARK_FILESYSTEM] + 2);
    engine_get_status(syncrig_engine(&rig), &status);
    assert_int_equal(status.phase, PHASE_INITIAL_REPLICATION);
    syncrig_unmount(&rig, 0);
    syncrig_done(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_of_the_others_go_on_while_a_disk_is_added),
        cmocka_unit_test(every_kind_has_a_rhythm_of_its_own),
        cmocka_unit_test(a_schedule_that_is_off_makes_none),
        cmocka_unit_test(a_failing_hook_is_a_missed_point_and_no_more),
        cmocka_unit_test(without_a_hook_no_point_is_app_consistent),
        cmocka_unit_test(a_point_lost_on_the_way_is_made_again),
        cmocka_unit_test(times_that_pass_without_a_stream_are_told),
    };

    if (!loopdisk_is_possible())
        return 77;
    if (getenv("LEEWARD_TEST"))
        cmocka_set_test_filter(getenv("LEEWARD_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
