/* SPDX-License-Identifier: Apache-2.0
 *
 * Comparisons with the vault: that one ends, however little differs, and that what somebody else has written to the copy makes one.
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

/* A disk whose first copy the vault has. */
static void protected_disk(struct syncrig *rig)
{
    syncrig_init(rig, 1, 8 * MIB, 512);
    fakenode_set_hashes(rig->node, true);
    syncrig_start(rig);
    assert_true(syncrig_wait_phase(rig, PHASE_PROTECTED));
}

/* Another comparison with the vault, up to its first points. */
static void compare(struct syncrig *rig, struct fakenode_facts *ret_before, struct fakenode_facts *ret_after)
{
    fakenode_get(rig->node, ret_before);
    rig->wish.version++;
    rig->wish.resync_request = 1;
    engine_set_wish(syncrig_engine(rig), &rig->wish);
    assert_true(syncrig_wait_event(rig, "copy_complete"));
    assert_true(syncrig_wait_phase(rig, PHASE_RESYNCHRONIZING));
    assert_true(fakenode_wait_points(rig->node, ret_before->points + 3));
    fakenode_get(rig->node, ret_after);
    assert_int_equal(ret_after->first_points, 2);
}

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
    compare(&rig, &before, &after);
    must_run("umount %s/mnt", rig.dir);
    syncrig_done(&rig);
}

/* The vault is asked about what is in use: of a disk of terabytes that is nearly empty that is little, and the hashes of all of it would take an hour. */
static void what_is_not_in_use_is_not_compared(void **state)
{
    struct fakenode_facts before, after;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 1024 * GIB, 512);
    fakenode_set_hashes(rig.node, true);
    must_run(
        "mkfs.xfs -q %s && mkdir %s/mnt && mount %s %s/mnt && head -c 8M /dev/urandom >%s/mnt/file && sync -f %s/mnt",
        rig.disks[0].path, rig.dir, rig.disks[0].path, rig.dir, rig.dir, rig.dir);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    compare(&rig, &before, &after);
    assert_in_range(after.hash_calls - before.hash_calls, 2, 40); /* of 4096 parts */
    must_run("umount %s/mnt", rig.dir);
    syncrig_done(&rig);
}

static void spoil_copy(const struct syncrig *rig)
{
    must_run("dd if=/dev/urandom of=%s/0.img bs=4096 count=3 seek=400 conv=notrunc status=none", rig->dir);
}

/* It counts what it asks for, and has forgotten what it counted after its backup was made. Nobody asks for anything with that. */
static void a_hub_that_was_restored_is_obeyed_and_asks_for_nothing_by_it(void **state)
{
    struct fakenode_facts before, after;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 8 * MIB, 512);
    fakenode_set_hashes(rig.node, true);
    rig.wish.resync_request = 7; /* nothing is copied yet */
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    fakenode_get(rig.node, &before);
    rig.wish.version++;
    rig.wish.resync_request = 0;
    engine_set_wish(syncrig_engine(&rig), &rig.wish);
    assert_true(fakenode_wait_points(rig.node, before.points + 3));
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    spoil_copy(&rig);
    compare(&rig, &before, &after);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

/* It is zeros on the disk, and may be anything there. */
static void a_block_that_the_vault_cannot_read_is_sent(void **state)
{
    struct fakenode_facts before, after;
    struct syncrig rig;

    (void)state;
    protected_disk(&rig);
    syncrig_assert_equal(&rig);
    spoil_copy(&rig);
    fakenode_set_damaged(rig.node, 400 * 4096);
    compare(&rig, &before, &after);
    assert_in_range(after.record_bytes - before.record_bytes, 65536, 3 * 65536);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

/* Only what changed would be sent over what that one wrote, and be called a point. */
static void what_somebody_else_wrote_is_compared(void **state)
{
    struct syncrig rig;

    (void)state;
    protected_disk(&rig);
    syncrig_assert_equal(&rig);
    spoil_copy(&rig);
    fakenode_raise_epoch(rig.node, 1);
    assert_true(syncrig_wait_event(&rig, "resync_started"));
    syncrig_assert_equal(&rig);
    syncrig_stop(&rig);
    spoil_copy(&rig);
    fakenode_raise_epoch(rig.node, 1); /* while no agent runs */
    syncrig_start(&rig);
    assert_true(syncrig_wait_event(&rig, "resync_started"));
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 1);
    syncrig_done(&rig);
}

/* Whoever encrypts a disk while no agent looks, and then has the machine started again, is found by what the comparison sends. */
static void what_was_encrypted_while_nobody_looked_is_an_alarm(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 64 * MIB, 512);
    must_run("yes 'the quick brown fox jumps over the lazy dog' | dd of=%s bs=1M count=64 iflag=fullblock status=none",
        rig.disks[0].path);
    fakenode_set_hashes(rig.node, true);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_stop(&rig);
    must_run("dd if=/dev/urandom of=%s bs=1M count=60 oflag=direct status=none", rig.disks[0].path);
    fakenode_raise_epoch(rig.node, 1);
    rig.wish.pace.rate_bytes_per_sec = 8 * MIB; /* an attack is told from a moment's work */
    syncrig_start(&rig);
    assert_true(syncrig_wait_event(&rig, "looks_encrypted"));
    syncrig_done(&rig);
}

/* As one is that was set back to a snapshot with its memory: process, tracker and disks know nothing of what was sent since, in the same epoch. */
static void a_machine_that_was_set_back_with_its_memory_is_compared(void **state)
{
    struct fakenode_facts before, now;
    struct syncrig rig;

    (void)state;
    protected_disk(&rig);
    syncrig_assert_equal(&rig);
    fakenode_set_refusing(rig.node, true);
    fakenode_get(rig.node, &before);
    fakenode_drop(rig.node);
    do /* the stream has ended, for another one was refused */
        fakenode_get(rig.node, &now);
    while (now.opens == before.opens && usleep(1000) == 0);
    spoil_copy(&rig);
    fakenode_fall_back(rig.node, now.committed + 1000);
    fakenode_set_refusing(rig.node, false);
    assert_true(syncrig_wait_event(&rig, "resync_started"));
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 1);
    fakenode_drop(rig.node); /* no more than that it goes on */
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 1);
    syncrig_done(&rig);
}

/* The vault gives no hashes of a range that reaches out of a disk. */
static void a_disk_that_ends_within_a_block_is_compared_to_its_end(void **state)
{
    struct fakenode_facts before, after;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 8 * MIB + 4096, 512);
    fakenode_set_hashes(rig.node, true);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_assert_equal(&rig);
    must_run("dd if=/dev/urandom of=%s/0.img bs=4096 count=1 seek=2048 conv=notrunc status=none", rig.dir);
    compare(&rig, &before, &after);
    assert_int_equal(after.record_bytes - before.record_bytes, 4096);
    assert_int_equal(syncrig_events(&rig, "no_hashes"), 0);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

/* A node that was broken into must not leave a state that no agent can load. */
static void a_number_that_cannot_be_is_not_kept(void **state)
{
    const uint64_t far = (uint64_t)1 << 63;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 8 * MIB, 512);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    fakenode_raise_epoch(rig.node, far);
    assert_true(syncrig_wait_phase(&rig, PHASE_ERROR));
    syncrig_stop(&rig);
    fakenode_raise_epoch(rig.node, -far);
    syncrig_start(&rig);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

/* As one does whose memory is broken, and says that it has what it has lost. What the vault has is right again once the truth is told. */
static void whatever_a_node_says_it_is_right_in_the_end(void **state)
{
    uint8_t *data = random_bytes(65536);
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 2, 8 * MIB, 512);
    fakenode_set_hashes(rig.node, true);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    for (unsigned i = 0; i < 12; i++) {
        fakenode_set_lying(rig.node, 100 + i);
        for (unsigned j = 0; j < 4; j++) {
            loopdisk_write(&rig.disks[j % 2], (uint64_t)((i * 4 + j) * 37 % 128) * 65536, data, 65536);
            fakenode_drop(rig.node);
            (void)usleep(100000);
        }
        fakenode_set_lying(rig.node, 0);
        fakenode_drop(rig.node);
        if (i % 4 == 3) {
            syncrig_stop(&rig);
            syncrig_start(&rig);
        }
        syncrig_assert_equal(&rig);
    }
    syncrig_done(&rig);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_disk_that_is_the_same_is_compared_to_its_end),
        cmocka_unit_test(a_hub_that_was_restored_is_obeyed_and_asks_for_nothing_by_it),
        cmocka_unit_test(a_block_that_the_vault_cannot_read_is_sent),
        cmocka_unit_test(what_somebody_else_wrote_is_compared),
        cmocka_unit_test(what_was_encrypted_while_nobody_looked_is_an_alarm),
        cmocka_unit_test(a_machine_that_was_set_back_with_its_memory_is_compared),
        cmocka_unit_test(a_disk_that_ends_within_a_block_is_compared_to_its_end),
        cmocka_unit_test(a_number_that_cannot_be_is_not_kept),
        cmocka_unit_test(whatever_a_node_says_it_is_right_in_the_end),
        cmocka_unit_test(what_is_not_in_use_is_not_compared),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    if (getenv("LEEWARD_TEST"))
        cmocka_set_test_filter(getenv("LEEWARD_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
