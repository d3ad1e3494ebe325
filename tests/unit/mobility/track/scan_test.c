/* SPDX-License-Identifier: Apache-2.0
 *
 * The scan driver on a real loop disk: what differs from the last look is handed out, across kills and resizes.
 */
#include "mobility/track/tracker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/mobility/track/loopdisk.h"

#define MIB (1u << 20)
#define DISK_BYTES (16u * MIB + 1536u)
#define BLOCK 65536u

struct rig {
    char dir[64], tables[96];
    struct loopdisk disk;
    struct tracker_config config;
    struct tracker *tracker;
    struct tracker_disk *tracked;
    struct dirty *round;
    uint8_t *data;
};

static void open_tracker(struct rig *r)
{
    struct err err = ERR_INIT;

    if (tracker_open(&r->config, &r->tracker, &err) < 0 || tracker_add(r->tracker, r->disk.path, &r->tracked, &err) < 0)
        fail_msg("%s", err.text);
}

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));

    temp_init(r->dir);
    (void)snprintf(r->tables, sizeof(r->tables), "%s/tables", r->dir);
    loopdisk_init(&r->disk, DISK_BYTES, 512, -1);
    r->config = (struct tracker_config){.driver = "scan", .instance = "test", .state_dir = r->tables};
    r->data = random_bytes(BLOCK);
    open_tracker(r);
    assert_int_equal(dirty_new(DISK_BYTES, 12, &r->round, NULL), 0);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;

    tracker_close(r->tracker);
    dirty_close(r->round);
    loopdisk_done(&r->disk);
    temp_done(r->dir);
    free(r->data);
    free(r);
    return 0;
}

static uint64_t drain(struct rig *r)
{
    struct err err = ERR_INIT;
    uint64_t granules = 0;

    dirty_clear_all(r->round);
    if (tracker_drain(r->tracker, r->tracked, r->round, NULL, &granules, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(granules, dirty_count(r->round));
    return granules;
}

static void test_what_differs_is_handed_out(void **state)
{
    struct rig *r = *state;

    assert_string_equal(tracker_driver_name(r->tracker), "scan");
    assert_int_equal(drain(r), 0); /* the first hashes were taken when it was added */
    loopdisk_write(&r->disk, 3 * BLOCK + 4096, r->data, 512);
    loopdisk_write(&r->disk, 16 * MIB + 1024, r->data, 512);
    assert_int_equal(drain(r), 16 + 1);
    assert_true(dirty_test(r->round, 3 * BLOCK));
    assert_true(dirty_test(r->round, 16 * MIB));
    assert_int_equal(drain(r), 0);
}

static void test_the_same_content_is_no_change(void **state)
{
    struct rig *r = *state;

    memset(r->data, 0, 4096);
    loopdisk_write(&r->disk, 0, r->data, 4096);
    assert_int_equal(drain(r), 0);
}

static void test_a_killed_process_loses_nothing(void **state)
{
    struct rig *r = *state;
    struct dirty_tag before, after;
    pid_t pid;

    tracker_disk_tag(r->tracked, &before);
    tracker_close(r->tracker);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        open_tracker(r);
        (void)kill(getpid(), SIGKILL);
    }
    (void)waitpid(pid, NULL, 0);
    loopdisk_write(&r->disk, 5 * BLOCK, r->data, BLOCK);
    open_tracker(r);
    tracker_disk_tag(r->tracked, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(drain(r), 16);
}

static void test_what_a_disk_grew_by_is_dirty(void **state)
{
    struct rig *r = *state;

    loopdisk_resize(&r->disk, 20 * MIB);
    assert_int_equal(tracker_resize(r->tracker, r->tracked, NULL), 0);
    assert_int_equal(dirty_resize(r->round, 20 * MIB, NULL), 0);
    assert_int_equal(drain(r), 4 * MIB / 4096);
    assert_int_equal(drain(r), 0);
}

static void test_an_unreadable_block_is_handed_out_once(void **state)
{
    struct rig *r = *state;

    assert_int_equal(ftruncate(r->disk.file_fd, 8 * MIB), 0); /* the loop driver answers EIO behind it */
    assert_int_equal(drain(r), (8 * MIB + 4095 + 1536) / 4096);
    assert_int_equal(drain(r), 0);
}

static void test_points_need_a_quiet_disk(void **state)
{
    struct rig *r = *state;

    assert_false(tracker_barriers_are_countable(r->tracker));
    assert_int_equal(tracker_barriers(r->tracker), 0);
}

static void test_one_process_per_disk(void **state)
{
    struct rig *r = *state;
    struct tracker *again = NULL;
    struct tracker_disk *disk;
    struct err err = ERR_INIT;

    assert_int_equal(tracker_open(&r->config, &again, &err), 0);
    assert_int_equal(tracker_add(again, r->disk.path, &disk, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    tracker_close(again);
}

static void test_destroy_and_remove_leave_no_table(void **state)
{
    struct rig *r = *state;
    struct dirty_tag before, after;

    tracker_disk_tag(r->tracked, &before);
    assert_int_equal(tracker_remove(r->tracker, r->tracked, NULL), 0);
    must_run("test -z \"$(ls %s)\"", r->tables);
    assert_int_equal(tracker_add(r->tracker, r->disk.path, &r->tracked, NULL), 0);
    tracker_disk_tag(r->tracked, &after);
    assert_true(before.incarnation != after.incarnation);
    tracker_close(r->tracker);
    assert_int_equal(tracker_destroy(&r->config, NULL), 0);
    must_run("test -z \"$(ls %s)\"", r->tables);
    open_tracker(r);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_differs_is_handed_out),
        TEST(test_the_same_content_is_no_change),
        TEST(test_a_killed_process_loses_nothing),
        TEST(test_what_a_disk_grew_by_is_dirty),
        TEST(test_an_unreadable_block_is_handed_out_once),
        TEST(test_points_need_a_quiet_disk),
        TEST(test_one_process_per_disk),
        TEST(test_destroy_and_remove_leave_no_table),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
