/* SPDX-License-Identifier: Apache-2.0
 *
 * Source disks with blocks that cannot be read: replication goes on, each point says which blocks of its image are old, an
 * agent that takes over knows it too, and it heals when the disk does.
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

#include "tests/unit/mobility/powerfail/fusedisk.h"
#include "tests/unit/mobility/sync/syncrig.h"

#define DISK_BYTES (8u << 20)
#define BAD_AT (1u << 20)

struct world {
    char dir[64];
    struct fusedisk *fuse;
    struct syncrig rig;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    uint8_t *data = random_bytes(1u << 20);
    int file;

    temp_init(w->dir);
    w->fuse = fusedisk_start(w->dir, 1, DISK_BYTES, 1);
    file = fusedisk_open(w->fuse, 0);
    syncrig_init_on(&w->rig, 1, DISK_BYTES, 512, &file);
    for (unsigned at = 0; at < DISK_BYTES; at += 1u << 20)
        loopdisk_write(&w->rig.disks[0], at, data, 1u << 20);
    free(data);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    syncrig_done(&w->rig);
    fusedisk_stop(w->fuse);
    temp_done(w->dir);
    free(w);
    return 0;
}

/* The next points, all of which must have that many unreadable blocks. */
static void expect_unreadable(struct world *w, unsigned points, uint64_t blocks)
{
    struct fakenode_facts facts;

    fakenode_get(w->rig.node, &facts);
    assert_true(fakenode_wait_points(w->rig.node, facts.points + 1)); /* may have been under way */
    for (unsigned i = 0; i < points; i++) {
        fakenode_get(w->rig.node, &facts);
        assert_true(fakenode_wait_points(w->rig.node, facts.points + 1));
        fakenode_get(w->rig.node, &facts);
        assert_string_equal(facts.fault, "");
        assert_int_equal(facts.last.unreadable_blocks, blocks);
        assert_int_equal(mark_unlisted_blocks(&facts.last), 0);
    }
}

/* The newest point lists exactly this range as its i-th. */
static void assert_range(struct world *w, uint32_t i, uint64_t start, uint64_t length)
{
    struct fakenode_facts facts;

    fakenode_get(w->rig.node, &facts);
    assert_in_range(i, 0, facts.last.range_count - 1);
    assert_int_equal(facts.last.ranges[i].disk, facts.last.disks[0].number);
    assert_int_equal(facts.last.ranges[i].start, start);
    assert_int_equal(facts.last.ranges[i].length, length);
}

static void write_at(struct world *w, uint64_t at)
{
    uint8_t *data = random_bytes(4096);

    loopdisk_write(&w->rig.disks[0], at, data, 4096);
    free(data);
}

static void each_point_says_what_could_not_be_read_until_it_can_be(void **state)
{
    struct world *w = *state;

    syncrig_start(&w->rig);
    assert_true(syncrig_wait_phase(&w->rig, PHASE_PROTECTED));
    expect_unreadable(w, 1, 0);
    fusedisk_set_bad(w->fuse, 0, 0, BAD_AT + 4096 + 512, 4096);
    for (unsigned i = 0; i < 4; i++)
        write_at(w, BAD_AT + i * 4096);
    assert_true(syncrig_wait_event(&w->rig, "unreadable_blocks"));
    expect_unreadable(w, 3, 2);
    write_at(w, 4u << 20); /* replication goes on */
    expect_unreadable(w, 3, 2);
    assert_range(w, 0, BAD_AT + 4096, 8192);
    assert_int_equal(syncrig_events(&w->rig, "unreadable_blocks"), 1);
    fusedisk_set_bad(w->fuse, 0, 0, 0, 0);
    assert_true(syncrig_wait_event(&w->rig, "readable_again"));
    expect_unreadable(w, 2, 0);
    syncrig_assert_equal(&w->rig);
}

static void an_agent_that_takes_over_knows_what_could_not_be_read(void **state)
{
    struct world *w = *state;

    syncrig_start(&w->rig);
    assert_true(syncrig_wait_phase(&w->rig, PHASE_PROTECTED));
    fusedisk_set_bad(w->fuse, 0, 0, BAD_AT, 512);
    write_at(w, BAD_AT);
    assert_true(syncrig_wait_event(&w->rig, "unreadable_blocks"));
    expect_unreadable(w, 3, 1);
    syncrig_stop(&w->rig);
    syncrig_start(&w->rig);
    assert_true(syncrig_wait_event(&w->rig, "unreadable_blocks"));
    expect_unreadable(w, 2, 1);
    assert_range(w, 0, BAD_AT, 4096);
    fusedisk_set_bad(w->fuse, 0, 0, 0, 0);
    assert_true(syncrig_wait_event(&w->rig, "readable_again"));
    expect_unreadable(w, 2, 0);
    syncrig_assert_equal(&w->rig);
}

static void a_block_that_is_written_anew_is_read_anew(void **state)
{
    struct world *w = *state;

    syncrig_start(&w->rig);
    assert_true(syncrig_wait_phase(&w->rig, PHASE_PROTECTED));
    fusedisk_set_bad(w->fuse, 0, 0, BAD_AT, 4096);
    write_at(w, BAD_AT);
    expect_unreadable(w, 2, 1);
    fusedisk_set_bad(w->fuse, 0, 0, 0, 0);
    write_at(w, BAD_AT); /* as a disk gives a block that is written another place */
    expect_unreadable(w, 2, 0);
    syncrig_assert_equal(&w->rig);
}

static void a_first_copy_passes_over_what_cannot_be_read(void **state)
{
    struct world *w = *state;

    fusedisk_set_bad(w->fuse, 0, 0, BAD_AT, 3 * 4096);
    fusedisk_set_bad(w->fuse, 1, 0, DISK_BYTES - 512, 512);
    syncrig_start(&w->rig);
    assert_true(syncrig_wait_phase(&w->rig, PHASE_PROTECTED));
    expect_unreadable(w, 2, 4);
    assert_range(w, 0, BAD_AT, 3 * 4096);
    assert_range(w, 1, DISK_BYTES - 4096, 4096);
    fusedisk_set_bad(w->fuse, 0, 0, 0, 0);
    fusedisk_set_bad(w->fuse, 1, 0, 0, 0);
    assert_true(syncrig_wait_event(&w->rig, "readable_again"));
    expect_unreadable(w, 2, 0);
    syncrig_assert_equal(&w->rig);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(each_point_says_what_could_not_be_read_until_it_can_be),
        TEST(an_agent_that_takes_over_knows_what_could_not_be_read),
        TEST(a_block_that_is_written_anew_is_read_anew),
        TEST(a_first_copy_passes_over_what_cannot_be_read),
    };

    if (!loopdisk_is_possible() || access("/dev/fuse", R_OK | W_OK) < 0) {
        print_message("needs root, loop devices and FUSE: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
