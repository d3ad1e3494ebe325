/* SPDX-License-Identifier: Apache-2.0
 *
 * Much to do at once: what is a backlog is known as one and sent as one, and nothing that is to be done waits for ever for what is done more often.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/track/tracker.h"
#include "tests/unit/mobility/sync/syncrig.h"
#include "transport/base/clock.h"

#define MIB (1u << 20)
#define DAY_USEC (24 * 3600 * USEC_PER_SEC)

static void fill(struct loopdisk *l, uint64_t from, uint64_t to)
{
    uint8_t *data = random_bytes(MIB);

    for (uint64_t at = from; at < to; at += MIB) {
        memcpy(data, &at, sizeof(at));
        loopdisk_write(l, at, data, MIB);
    }
    free(data);
}

/* What a disk has there when it grows into it: nobody has seen it written. */
static void fill_behind_end(const struct loopdisk *l, uint64_t from, uint64_t to)
{
    uint8_t *data = random_bytes(MIB);

    for (uint64_t at = from; at < to; at += MIB) {
        memcpy(data, &at, sizeof(at));
        assert_int_equal(pwrite(l->file_fd, data, MIB, (off_t)at), MIB);
    }
    free(data);
}

static void wish_for(struct syncrig *rig, unsigned disks)
{
    rig->wish.version++;
    rig->wish.disk_count = disks;
    engine_set_wish(syncrig_engine(rig), &rig->wish);
}

static void wait_attached(struct syncrig *rig, unsigned disks)
{
    must_run(
        "for i in $(seq 300); do test $(ls %s/*/ 2>/dev/null | grep -c ^disk-) = %u && exit 0; sleep 0.1; done; exit 1",
        rig->bpf, disks);
}

static void wait_points_of(struct syncrig *rig, unsigned disks)
{
    uint64_t end = clock_mono_usec() + 90 * USEC_PER_SEC;
    struct fakenode_facts facts;

    do {
        assert_true(clock_mono_usec() < end);
        fakenode_get(rig->node, &facts);
        assert_true(fakenode_wait_points(rig->node, facts.points + 1));
        fakenode_get(rig->node, &facts);
    } while (facts.last.disk_count != disks);
}

static void what_a_disk_grew_by_is_a_backlog(void **state)
{
    struct engine_status status = {0};
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    rig.wish.pace.rate_bytes_per_sec = 4 * MIB; /* a minute of it */
    wish_for(&rig, 1);
    fill_behind_end(&rig.disks[0], 16 * MIB, 300 * MIB);
    loopdisk_resize(&rig.disks[0], 300 * MIB);
    assert_true(syncrig_wait_event(&rig, "disk_resized"));
    for (uint64_t end = clock_mono_usec() + 30 * USEC_PER_SEC; status.backlog_bytes < 200 * MIB;) {
        assert_true(clock_mono_usec() < end);
        engine_get_status(syncrig_engine(&rig), &status);
        (void)usleep(10000);
    }
    rig.wish.pace.rate_bytes_per_sec = 0;
    wish_for(&rig, 1);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

/* As with a kernel whose writes cannot be traced: each point reads all of the disks that have a copy. */
static void cycles_that_are_always_due_leave_time_for_the_other_copies(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 2, 16 * MIB, 512);
    fill(&rig.disks[1], 0, 16 * MIB);
    rig.driver = "scan"; /* which reads a disk to its end for each point */
    rig.wish.interval_usec = 1000;
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

static void progress_counts_the_disks_that_are_still_to_come(void **state)
{
    struct engine_status now = {0};
    uint64_t before = 0, permille;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 2, 16 * MIB, 512);
    fill(&rig.disks[0], 0, 16 * MIB);
    fill(&rig.disks[1], 0, 16 * MIB);
    rig.wish.pace.rate_bytes_per_sec = 6 * MIB;
    syncrig_start(&rig);
    while (now.phase != PHASE_PROTECTED) {
        engine_get_status(syncrig_engine(&rig), &now);
        if (now.total_bytes > 0) {
            assert_int_equal(now.total_bytes, 32 * MIB);
            permille = now.done_bytes * 1000 / now.total_bytes;
            assert_true(permille >= before);
            before = permille;
        }
        (void)usleep(1000);
    }
    assert_int_equal(before, 1000);
    syncrig_done(&rig);
}

/* So often the tracker cannot end to track a disk. */
static _Atomic unsigned stuck;

int __real_tracker_remove(struct tracker *t, struct tracker_disk *disk, struct err *err);
int __wrap_tracker_remove(struct tracker *t, struct tracker_disk *disk, struct err *err);

int __wrap_tracker_remove(struct tracker *t, struct tracker_disk *disk, struct err *err)
{
    if (stuck == 0)
        return __real_tracker_remove(t, disk, err);
    stuck--;
    return err_set(err, ERR_IO, "the test keeps it");
}

static void a_disk_whose_tracking_ended_late_can_come_back(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 2, 16 * MIB, 512);
    syncrig_start(&rig);
    wait_points_of(&rig, 2);
    stuck = 1;
    wish_for(&rig, 1);
    wait_points_of(&rig, 1);
    assert_int_equal(stuck, 0);
    wait_attached(&rig, 1);
    wish_for(&rig, 2);
    wait_points_of(&rig, 2);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

static void a_disk_that_was_excluded_while_no_agent_ran_leaves_nothing(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 2, 16 * MIB, 512);
    syncrig_start(&rig);
    wait_points_of(&rig, 2);
    syncrig_stop(&rig);
    wait_attached(&rig, 2);
    rig.wish.disk_count = 1;
    syncrig_start(&rig);
    wait_points_of(&rig, 1);
    wait_attached(&rig, 1);
    syncrig_done(&rig);
}

/* As behind a path that was away: all of it at once, and with a point that has it, whenever the next one would be due. */
static void much_that_could_not_be_read_is_healed_soon(void **state)
{
    const uint64_t size = 96ull * MIB, from = 32ull * MIB;
    struct fakenode_facts before, after;
    struct syncrig rig;
    struct engine_output o;
    struct err err = ERR_INIT;
    uint64_t began;

    (void)state;
    syncrig_init(&rig, 1, size, 512);
    rig.wish.interval_usec = DAY_USEC;
    fill(&rig.disks[0], from, size); /* the copy has it; what can be read in the end is zeros */
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    fill(&rig.disks[0], from, size);
    assert_int_equal(ftruncate(rig.disks[0].file_fd, (off_t)from), 0); /* read with EIO from there */
    assert_int_equal(engine_create_point(syncrig_engine(&rig), "c1", "crash", "", &err), 0);
    assert_true(syncrig_result(&rig, "c1", &o));
    fakenode_get(rig.node, &before);
    assert_int_equal(before.last.unreadable_blocks, (size - from) / 4096);
    assert_int_equal(ftruncate(rig.disks[0].file_fd, (off_t)size), 0);
    began = clock_mono_usec();
    assert_true(syncrig_wait_event(&rig, "readable_again"));
    assert_in_range(clock_mono_usec() - began, 0, 30 * USEC_PER_SEC);
    assert_true(fakenode_wait_points(rig.node, before.points + 1));
    fakenode_get(rig.node, &after);
    assert_int_equal(after.last.unreadable_blocks, 0);
    rig.wish.interval_usec = 100 * USEC_PER_MSEC;
    wish_for(&rig, 1);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_disk_grew_by_is_a_backlog),
        cmocka_unit_test(cycles_that_are_always_due_leave_time_for_the_other_copies),
        cmocka_unit_test(progress_counts_the_disks_that_are_still_to_come),
        cmocka_unit_test(a_disk_whose_tracking_ended_late_can_come_back),
        cmocka_unit_test(a_disk_that_was_excluded_while_no_agent_ran_leaves_nothing),
        cmocka_unit_test(much_that_could_not_be_read_is_healed_soon),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    if (getenv("LEEWARD_TEST"))
        cmocka_set_test_filter(getenv("LEEWARD_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
