/* SPDX-License-Identifier: Apache-2.0
 *
 * The scan driver on a real loop disk: what differs from what was read last is handed out, across kills and resizes.
 */
#include "mobility/capture/reader.h"
#include "mobility/track/tracker.h"

#include <fcntl.h>
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
    struct reader *reader;
    uint8_t *data;
};

static void open_tracker(struct rig *r)
{
    struct err err = ERR_INIT;

    if (tracker_open(&r->config, &r->tracker, &err) < 0 || tracker_add(r->tracker, r->disk.path, &r->tracked, &err) < 0)
        fail_msg("%s", err.text);
}

static int note(void *arg, const struct reader_piece *p, struct err *err)
{
    struct rig *r = arg;

    (void)err;
    tracker_note_read(r->tracker, r->tracked, p->start, p->length, p->data);
    return 0;
}

/* Reads what is in the round, as the agent does. */
static void read_round(struct rig *r)
{
    struct err err = ERR_INIT;

    if (reader_run_dirty(r->reader, 0, r->round, note, r, &err) < 0)
        fail_msg("%s", err.text);
}

static void copy(struct rig *r)
{
    assert_int_equal(dirty_set_all(r->round, NULL), 0);
    read_round(r);
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
    assert_int_equal(reader_new(0, &r->reader, NULL), 0);
    assert_int_equal(reader_add_disk(r->reader, 0, r->disk.path, NULL), 0);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;

    tracker_close(r->tracker);
    reader_free(r->reader);
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
    copy(r);
    assert_int_equal(drain(r), 0);
    loopdisk_write(&r->disk, 3 * BLOCK + 4096, r->data, 512);
    loopdisk_write(&r->disk, 16 * MIB + 1024, r->data, 512);
    assert_int_equal(drain(r), 16 + 1);
    assert_true(dirty_test(r->round, 3 * BLOCK));
    assert_true(dirty_test(r->round, 16 * MIB));
    assert_int_equal(drain(r), 16 + 1); /* until it is read */
    read_round(r);
    assert_int_equal(drain(r), 0);
}

static void test_all_of_a_fresh_disk_is_handed_out_until_it_is_read(void **state)
{
    struct rig *r = *state;

    assert_int_equal(drain(r), DISK_BYTES / 4096 + 1);
    dirty_clear(r->round, 7 * BLOCK, BLOCK);
    read_round(r);
    assert_int_equal(drain(r), 16);
    assert_true(dirty_test(r->round, 7 * BLOCK));
}

/* Read between the two changes: as long as the table had what the last drain saw, nobody ever read it again. */
static void test_what_was_read_counts_and_not_what_a_drain_saw(void **state)
{
    struct rig *r = *state;
    uint8_t *other = random_bytes(BLOCK);

    copy(r);
    loopdisk_write(&r->disk, 3 * BLOCK, r->data, BLOCK);
    assert_int_equal(drain(r), 16);
    loopdisk_write(&r->disk, 3 * BLOCK, other, BLOCK);
    read_round(r);
    loopdisk_write(&r->disk, 3 * BLOCK, r->data, BLOCK);
    assert_int_equal(drain(r), 16);
    assert_true(dirty_test(r->round, 3 * BLOCK));
    read_round(r);
    assert_int_equal(drain(r), 0);
    free(other);
}

static void test_a_first_copy_that_read_what_is_gone_again_is_found(void **state)
{
    struct rig *r = *state;
    uint8_t *other = random_bytes(BLOCK);

    assert_int_equal(tracker_remove(r->tracker, r->tracked, NULL), 0);
    loopdisk_write(&r->disk, 3 * BLOCK, r->data, BLOCK);
    assert_int_equal(tracker_add(r->tracker, r->disk.path, &r->tracked, NULL), 0);
    loopdisk_write(&r->disk, 3 * BLOCK, other, BLOCK);
    copy(r);
    loopdisk_write(&r->disk, 3 * BLOCK, r->data, BLOCK);
    assert_int_equal(drain(r), 16);
    assert_true(dirty_test(r->round, 3 * BLOCK));
    free(other);
}

static void note_data(struct rig *r, uint64_t start, uint32_t length, bool readable)
{
    static const uint8_t zeros[BLOCK];

    tracker_note_read(r->tracker, r->tracked, start, length, readable ? zeros : NULL);
}

static void test_a_block_counts_as_read_when_all_of_it_was_in_order(void **state)
{
    struct rig *r = *state;

    copy(r);
    note_data(r, 2 * BLOCK + 4096, 4096, true);
    assert_int_equal(drain(r), 16);
    note_data(r, 2 * BLOCK, 4096, true);
    note_data(r, 2 * BLOCK + 4096, BLOCK - 4096, true);
    assert_int_equal(drain(r), 0);
    note_data(r, 2 * BLOCK, 8192, true);
    note_data(r, 2 * BLOCK + 4096, 4096, true); /* of the first part only the half is what was read last */
    note_data(r, 2 * BLOCK + 8192, BLOCK - 8192, true);
    assert_int_equal(drain(r), 16);
    copy(r);
    note_data(r, 2 * BLOCK, 4096, true);
    note_data(r, 2 * BLOCK, BLOCK, true);
    assert_int_equal(drain(r), 0);
    note_data(r, 2 * BLOCK + 4096, BLOCK - 4096, true); /* the whole of it came in between */
    assert_int_equal(drain(r), 16);
}

static void test_what_was_not_read_leaves_what_was(void **state)
{
    struct rig *r = *state;

    copy(r);
    note_data(r, 2 * BLOCK + 4096, 4096, false);
    note_data(r, 4 * BLOCK, 4096, false);
    assert_int_equal(drain(r), 0);
    note_data(r, 2 * BLOCK, BLOCK, false); /* all of it was tried, and can be read now */
    assert_int_equal(drain(r), 16);
}

static void test_notes_behind_the_end_are_cut(void **state)
{
    struct rig *r = *state;

    copy(r);
    note_data(r, 16 * MIB, BLOCK, true); /* the disk has grown, and is not followed yet */
    note_data(r, 20 * MIB, BLOCK, true);
    assert_int_equal(drain(r), 0);
}

static void test_the_same_content_is_no_change(void **state)
{
    struct rig *r = *state;

    copy(r);
    memset(r->data, 0, 4096);
    loopdisk_write(&r->disk, 0, r->data, 4096);
    assert_int_equal(drain(r), 0);
}

static void test_a_killed_process_loses_nothing(void **state)
{
    struct rig *r = *state;
    struct dirty_tag before, after;
    pid_t pid;

    copy(r);
    loopdisk_write(&r->disk, 9 * BLOCK, r->data, BLOCK);
    tracker_disk_tag(r->tracked, &before);
    tracker_close(r->tracker);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        open_tracker(r);
        tracker_note_read(r->tracker, r->tracked, 9 * BLOCK, BLOCK, r->data);
        note_data(r, 12 * BLOCK, 4096, true);
        (void)kill(getpid(), SIGKILL);
    }
    (void)waitpid(pid, NULL, 0);
    loopdisk_write(&r->disk, 5 * BLOCK, r->data, BLOCK);
    open_tracker(r);
    tracker_disk_tag(r->tracked, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(drain(r), 2 * 16);
    assert_true(dirty_test(r->round, 5 * BLOCK));
    assert_true(dirty_test(r->round, 12 * BLOCK)); /* the rest of it may never have been read */
}

/* Its hashes are of what drains saw. */
static void test_the_table_of_an_earlier_agent_is_not_taken_over(void **state)
{
    struct rig *r = *state;
    struct dirty_tag before, after;
    char path[160];
    int fd;

    copy(r);
    tracker_disk_tag(r->tracked, &before);
    tracker_close(r->tracker);
    (void)snprintf(path, sizeof(path), "%s/test.%s.scan", r->tables, r->disk.path + strlen("/dev/"));
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "LWSCAN1", 8, 0), 8);
    (void)close(fd);
    open_tracker(r);
    tracker_disk_tag(r->tracked, &after);
    assert_true(before.incarnation != after.incarnation);
    assert_int_equal(drain(r), DISK_BYTES / 4096 + 1);
}

static void test_what_a_disk_grew_by_is_dirty(void **state)
{
    struct rig *r = *state;

    copy(r);
    loopdisk_resize(&r->disk, 20 * MIB);
    assert_int_equal(tracker_resize(r->tracker, r->tracked, NULL), 0);
    assert_int_equal(dirty_resize(r->round, 20 * MIB, NULL), 0);
    assert_int_equal(drain(r), 4 * MIB / 4096);
    read_round(r);
    assert_int_equal(drain(r), 0);
}

static void test_an_unreadable_block_is_handed_out_once(void **state)
{
    struct rig *r = *state;

    copy(r);
    assert_int_equal(ftruncate(r->disk.file_fd, 8 * MIB), 0); /* the loop driver answers EIO behind it */
    assert_int_equal(drain(r), (8 * MIB + 4095 + 1536) / 4096);
    read_round(r);
    assert_int_equal(drain(r), 0);
}

/* One bad sector makes the block unreadable as a whole; as long as that was all that was known of it, what was written beside the sector was never found. */
static void test_changes_beside_a_bad_sector_are_found(void **state)
{
    struct rig *r = *state;

    copy(r);
    assert_int_equal(
        ftruncate(r->disk.file_fd, 8 * MIB + 12 * 4096 + 1024), 0); /* sector 2 of that step is the first bad one */
    assert_int_equal(drain(r), (8 * MIB + 4095 + 1536) / 4096);
    read_round(r);
    assert_int_equal(drain(r), 0);
    loopdisk_write(&r->disk, 8 * MIB + 4096, r->data, 4096);
    assert_int_equal(drain(r), 16);
    assert_true(dirty_test(r->round, 8 * MIB + 4096));
    read_round(r);
    assert_int_equal(drain(r), 0);
}

static void test_every_write_counts_where_barriers_are_asked_for(void **state)
{
    struct rig *r = *state;
    uint64_t before, after;
    bool countable;

    assert_true(tracker_compares(r->tracker));
    assert_true(tracker_barriers_are_countable(r->tracker, NULL));
    before = tracker_barriers(r->tracker);
    copy(r);
    (void)drain(r);
    assert_int_equal(tracker_barriers(r->tracker), before); /* reading is none */
    loopdisk_write(&r->disk, 0, r->data, 512);
    assert_true(tracker_barriers(r->tracker) != before);
    must_run("echo 0 > /sys/block/%s/queue/iostats", r->disk.path + strlen("/dev/"));
    countable = tracker_barriers_are_countable(r->tracker, NULL);
    before = tracker_barriers(r->tracker);
    after = tracker_barriers(r->tracker);
    must_run(
        "echo 1 > /sys/block/%s/queue/iostats", r->disk.path + strlen("/dev/")); /* it would stay with the device */
    assert_false(countable);
    assert_true(after != before); /* nobody knows */
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
        TEST(test_all_of_a_fresh_disk_is_handed_out_until_it_is_read),
        TEST(test_what_was_read_counts_and_not_what_a_drain_saw),
        TEST(test_a_first_copy_that_read_what_is_gone_again_is_found),
        TEST(test_a_block_counts_as_read_when_all_of_it_was_in_order),
        TEST(test_what_was_not_read_leaves_what_was),
        TEST(test_notes_behind_the_end_are_cut),
        TEST(test_the_same_content_is_no_change),
        TEST(test_a_killed_process_loses_nothing),
        TEST(test_the_table_of_an_earlier_agent_is_not_taken_over),
        TEST(test_what_a_disk_grew_by_is_dirty),
        TEST(test_an_unreadable_block_is_handed_out_once),
        TEST(test_changes_beside_a_bad_sector_are_found),
        TEST(test_every_write_counts_where_barriers_are_asked_for),
        TEST(test_one_process_per_disk),
        TEST(test_destroy_and_remove_leave_no_table),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
