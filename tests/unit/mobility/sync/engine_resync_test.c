/* SPDX-License-Identifier: Apache-2.0
 *
 * Comparisons with the vault: that one ends, however little differs.
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

#include "tests/unit/mobility/sync/syncrig.h"

#define MIB (1u << 20)
#define GIB ((uint64_t)1 << 30)

/* A comparison goes through a disk in parts of 256 MiB at most, each of which waits for the vault only if something was sent. */
static void a_large_disk_that_is_the_same_is_compared_to_its_end(void **state)
{
    struct fakenode_facts before, after;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 20 * GIB, 512);
    fakenode_set_hashes(rig.node, true);
    must_run("mkfs.ext4 -q -O ^has_journal,^resize_inode -i 16777216 %s && mkdir %s/mnt && mount %s %s/mnt",
        rig.disks[0].path, rig.dir, rig.disks[0].path, rig.dir);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    fakenode_get(rig.node, &before);
    rig.wish.version++;
    rig.wish.resync_request = 1;
    engine_set_wish(syncrig_engine(&rig), &rig.wish);
    assert_true(syncrig_wait_event(&rig, "copy_complete"));
    assert_true(syncrig_wait_phase(&rig, PHASE_RESYNCHRONIZING));
    assert_true(fakenode_wait_points(rig.node, before.points + 3));
    fakenode_get(rig.node, &after);
    assert_int_equal(after.first_points, 2);
    must_run("umount %s/mnt", rig.dir);
    syncrig_done(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_disk_that_is_the_same_is_compared_to_its_end),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
