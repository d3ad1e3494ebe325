/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk of the machine that hangs, and is none of those that are protected: their points do not wait for it, not even those of an
 * agent that starts beside it, and somebody is told.
 */
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/mobility/powerfail/fusedisk.h"
#include "tests/unit/mobility/sync/syncrig.h"

#define MIB (1u << 20)

struct world {
    char dir[64];
    struct fusedisk *fuse;
    struct loopdisk sick;
    struct syncrig rig;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    temp_init(w->dir);
    w->fuse = fusedisk_start(w->dir, 1, 8 * MIB, 1);
    loopdisk_init(&w->sick, 8 * MIB, 512, fusedisk_open(w->fuse, 0));
    syncrig_init(&w->rig, 1, 8 * MIB, 512);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    fusedisk_hold(w->fuse, false);
    syncrig_done(&w->rig);
    loopdisk_done(&w->sick);
    fusedisk_stop(w->fuse);
    temp_done(w->dir);
    free(w);
    return 0;
}

/* From now on, and nothing of it is in memory. */
static void hang(struct world *w)
{
    fusedisk_hold(w->fuse, true);
    assert_int_equal(ioctl(w->sick.fd, BLKFLSBUF, 0), 0);
}

static void points_do_not_wait_for_a_disk_that_hangs(void **state)
{
    struct world *w = *state;
    struct fakenode_facts facts;

    syncrig_start(&w->rig);
    assert_true(syncrig_wait_phase(&w->rig, PHASE_PROTECTED));
    hang(w);
    engine_rescan(syncrig_engine(&w->rig));
    fakenode_get(w->rig.node, &facts);
    assert_true(fakenode_wait_points(w->rig.node, facts.points + 4));
    assert_int_equal(syncrig_events(&w->rig, "does_not_answer"), 0); /* it is still being waited for */
    assert_true(syncrig_wait_event(&w->rig, "does_not_answer"));
    engine_rescan(syncrig_engine(&w->rig));
    syncrig_assert_equal(&w->rig);
    assert_int_equal(syncrig_events(&w->rig, "does_not_answer"), 1);
}

static void an_agent_that_starts_beside_it_makes_points(void **state)
{
    struct world *w = *state;

    hang(w);
    syncrig_start(&w->rig);
    assert_true(syncrig_wait_phase(&w->rig, PHASE_PROTECTED));
    assert_int_equal(syncrig_events(&w->rig, "does_not_answer"), 1);
    assert_int_equal(syncrig_events(&w->rig, "error"), 0);
    syncrig_assert_equal(&w->rig);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(points_do_not_wait_for_a_disk_that_hangs),
        TEST(an_agent_that_starts_beside_it_makes_points),
    };

    if (!loopdisk_is_possible() || access("/dev/fuse", R_OK | W_OK) < 0) {
        print_message("needs root, loop devices and FUSE: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
