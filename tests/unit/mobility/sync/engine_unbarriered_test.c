/* SPDX-License-Identifier: Apache-2.0
 *
 * Points of a file system that issues no barriers (nobarrier), by the engine on a loop disk. Something is written before each drain outside
 * a freeze, without a barrier: to whoever trusts the count of barriers the first round is a moment that a power failure could have left.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/capture/freeze.h"
#include "mobility/track/tracker.h"
#include "tests/unit/mobility/sync/syncrig.h"
#include "transport/base/clock.h"

#define MIB (1u << 20)
#define BLOCK 4096u

static atomic_int file = -1; /* written to before each drain; -1: not yet */
static bool is_frozen;       /* of the capture thread */

int __real_freeze_begin(struct freeze *f, uint64_t budget_usec, struct err *err);
int __wrap_freeze_begin(struct freeze *f, uint64_t budget_usec, struct err *err);
int __wrap_freeze_begin(struct freeze *f, uint64_t budget_usec, struct err *err)
{
    int r = __real_freeze_begin(f, budget_usec, err);

    is_frozen = r == 0;
    return r;
}

int __real_freeze_end(struct freeze *f, struct freeze_result *ret_result, struct err *err);
int __wrap_freeze_end(struct freeze *f, struct freeze_result *ret_result, struct err *err);
int __wrap_freeze_end(struct freeze *f, struct freeze_result *ret_result, struct err *err)
{
    is_frozen = false;
    return __real_freeze_end(f, ret_result, err);
}

int __real_tracker_drain(struct tracker *t, struct tracker_disk *disk, struct dirty *round, struct dirty *pending,
    uint64_t *ret_granules, struct err *err);
int __wrap_tracker_drain(struct tracker *t, struct tracker_disk *disk, struct dirty *round, struct dirty *pending,
    uint64_t *ret_granules, struct err *err);
int __wrap_tracker_drain(struct tracker *t, struct tracker_disk *disk, struct dirty *round, struct dirty *pending,
    uint64_t *ret_granules, struct err *err)
{
    static unsigned char block[BLOCK] __attribute__((aligned(BLOCK)));
    int fd = atomic_load(&file);

    block[0]++;
    if (fd >= 0 && !is_frozen)
        assert_int_equal(pwrite(fd, block, BLOCK, 0), BLOCK);
    return __real_tracker_drain(t, disk, round, pending, ret_granules, err);
}

/* A file of one block, written past the cache. */
static int open_file(const struct syncrig *rig)
{
    char path[sizeof(rig->dir) + 16];
    int fd;

    must_run("head -c %u /dev/urandom > %s/mnt0/file && sync -f %s/mnt0/file", BLOCK, rig->dir, rig->dir);
    (void)snprintf(path, sizeof(path), "%s/mnt0/file", rig->dir);
    fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* Of those after the next two: what was under way may have begun before. */
static struct mark point_from_now(struct syncrig *rig)
{
    struct fakenode_facts facts;

    fakenode_get(rig->node, &facts);
    assert_true(fakenode_wait_points(rig->node, facts.points + 3));
    fakenode_get(rig->node, &facts);
    return facts.last;
}

static void without_barriers_points_under_load_are_made_with_a_freeze(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 64 * MIB, 512);
    syncrig_mount(&rig, 0);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    atomic_store(&file, open_file(&rig));
    assert_int_equal(point_from_now(&rig).flags & MARK_FROZEN, 0);
    assert_int_equal(syncrig_events(&rig, "barriers_not_counted"), 0);
    must_run("mount -o remount,nobarrier %s/mnt0", rig.dir);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(point_from_now(&rig).flags & MARK_FROZEN, MARK_FROZEN);
    assert_int_equal(syncrig_events(&rig, "barriers_not_counted"), 1);
    must_run("mount -o remount,barrier %s/mnt0", rig.dir);
    assert_int_equal(point_from_now(&rig).flags & MARK_FROZEN, 0);
    (void)close(atomic_exchange(&file, -1));
    syncrig_unmount(&rig, 0);
    syncrig_done(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_barriers_points_under_load_are_made_with_a_freeze),
    };

    if (!loopdisk_is_possible())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
