/* SPDX-License-Identifier: Apache-2.0
 *
 * Merged discards: one request of an NVMe disk whose ranges do not touch. No loop disk takes them, so this runs in a machine that has such a
 * disk (tests/e2e/vm/test_vm_windows.py). A device-mapper table of many pieces makes many discards of one; they come to the disk in one batch,
 * where the kernel merges them.
 *
 *     LEEWARD_DISCARD_DISK=/dev/nvme0n1    takes merged discards of 256 ranges, and reads as zeros where it was discarded
 *     LEEWARD_PLAIN_DISK=/dev/vdb          takes no merged discards
 *
 * Both are overwritten. With the variant `untold` of the tracking program (tests/unit/mobility/powerfail/tracker_variant.py) the completion of a
 * request at sector 16 n + 5 is not told, which are merged discards here and nothing else.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/mobility/track/trackrig.h"

#define RANGES 200u
#define SECTOR 512u
#define NAME "leeward-pieces"
#define ARRAY_BYTES (BT_FIRST_LINE_PAGE * (uint64_t)BT_PAGE_BYTES)

static bool is_told(void)
{
    return strcmp(TRACKER_VARIANT, "untold") != 0;
}

/* --- the rig ---------------------------------------------------------------------------------------------------------- */

struct discards {
    struct trackrig rig;
    uint8_t *array; /* what the program and the agent share, up to the bits */
};

static int setup_on(void **state, const char *path)
{
    struct discards *d = calloc(1, sizeof(*d));
    struct loopdisk disk = {.file_fd = -1};
    int fd;

    (void)snprintf(disk.path, sizeof(disk.path), "%s", path);
    disk.fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(disk.fd >= 0);
    assert_int_equal(ioctl(disk.fd, BLKGETSIZE64, &disk.size_bytes), 0);
    trackrig_init(&d->rig, &disk);
    fd = trackrig_array(&d->rig, &disk);
    d->array = mmap(NULL, ARRAY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(d->array != MAP_FAILED);
    (void)close(fd);
    *state = d;
    return 0;
}

static int setup(void **state)
{
    return setup_on(state, getenv("LEEWARD_DISCARD_DISK"));
}

static int setup_plain(void **state)
{
    return setup_on(state, getenv("LEEWARD_PLAIN_DISK"));
}

static int teardown(void **state)
{
    struct discards *d = *state;

    (void)munmap(d->array, ARRAY_BYTES);
    trackrig_done(&d->rig);
    free(d);
    return 0;
}

static struct bt_sheet *sheet(struct discards *d, unsigned i)
{
    return (struct bt_sheet *)(d->array + (BT_FIRST_SHEET_PAGE + i) * (uint64_t)BT_PAGE_BYTES);
}

static unsigned sheets_taken(struct discards *d)
{
    unsigned taken = 0;

    for (unsigned i = 0; i < BT_SHEETS; i++)
        taken += sheet(d, i)->request != 0;
    return taken;
}

static struct tracker_stats stats_of(struct discards *d)
{
    struct tracker_stats s;

    tracker_disk_stats(d->rig.tracked, &s);
    return s;
}

/* --- discards ----------------------------------------------------------------------------------------------------------- */

/* The pieces go up and down over the disk, never two side by side; the first one begins at a sector that the untold program looks for. */
static uint64_t range_start(unsigned i)
{
    return ((i * 73u % RANGES) * 8u + 2u) * GRANULE + (i == 0 ? 5 * SECTOR : 0);
}

static uint64_t range_bytes(unsigned i)
{
    return (1 + i % 3) * GRANULE;
}

static uint64_t granules_of_ranges(void)
{
    uint64_t granules = 0;

    for (unsigned i = 0; i < RANGES; i++)
        granules += (range_start(i) + range_bytes(i) - 1) / GRANULE - range_start(i) / GRANULE + 1;
    return granules;
}

/* Discards of a device that has these pieces of the disk. It is made and removed without udev, which would look at it for seconds. */
static void discard_pieces(
    struct discards *d, unsigned count, uint64_t (*start)(unsigned i), uint64_t (*bytes)(unsigned i), unsigned times)
{
    uint64_t whole[2] = {0, 0};
    FILE *table = popen("dmsetup create --noudevsync --noudevrules " NAME, "we");
    int fd;

    assert_non_null(table);
    for (unsigned i = 0; i < count; i++) {
        assert_true(
            fprintf(table, "%llu %llu linear %s %llu\n", (unsigned long long)whole[1] / SECTOR,
                (unsigned long long)bytes(i) / SECTOR, d->rig.disk.path, (unsigned long long)start(i) / SECTOR) > 0);
        whole[1] += bytes(i);
    }
    assert_int_equal(pclose(table), 0);
    must_run("mknod /dev/" NAME " b $(dmsetup info -c --noheadings --separator ' ' -o major,minor " NAME ")");
    fd = open("/dev/" NAME, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (unsigned i = 0; i < times; i++)
        assert_int_equal(ioctl(fd, BLKDISCARD, whole), 0);
    (void)close(fd);
    must_run("rm /dev/" NAME "; dmsetup remove --noudevsync --noudevrules --retry " NAME);
}

static void discard_ranges(struct discards *d)
{
    discard_pieces(d, RANGES, range_start, range_bytes, 1);
}

static void expect_ranges_marked(struct discards *d)
{
    for (unsigned i = 0; i < RANGES; i++)
        for (uint64_t at = range_start(i); at < range_start(i) + range_bytes(i); at += SECTOR)
            if (!dirty_test(d->rig.round, at))
                fail_msg("range %u of the merged discard is not marked at %llu", i, (unsigned long long)at);
    assert_true(trackrig_expect_superset(&d->rig) >= RANGES);
}

static void test_each_range_of_a_merged_discard_is_marked(void **state)
{
    struct discards *d = *state;
    struct tracker_stats before = stats_of(d), after;

    discard_ranges(d);
    after = stats_of(d);
    assert_int_equal(after.discards - before.discards, is_told() ? 1 : 0); /* it was one request */
    assert_int_equal(sheets_taken(d), is_told() ? 0 : 1);
    assert_int_equal(trackrig_drain(&d->rig), granules_of_ranges());
    expect_ranges_marked(d);
    assert_int_equal(after.unlisted, before.unlisted);
    assert_false(tracker_disk_is_unknown(d->rig.tracked));
}

/* What is in flight when an agent is killed, the next one finds. */
static void test_the_next_agent_finds_each_range(void **state)
{
    struct discards *d = *state;

    tracker_close(d->rig.tracker);
    d->rig.tracker = NULL;
    discard_ranges(d);
    trackrig_open(&d->rig);
    assert_int_equal(trackrig_drain(&d->rig), granules_of_ranges());
    expect_ranges_marked(d);
}

/* The kernel uses a request's memory again: for each write that comes alone, the one that was let go last. */
static void test_a_request_that_is_used_again_has_all_its_ranges_marked(void **state)
{
    struct discards *d = *state;
    uint8_t *data = random_bytes(GRANULE);

    discard_ranges(d);
    for (unsigned i = 0; i < 4096 && sheets_taken(d) > 0; i++)
        loopdisk_write(&d->rig.disk, 0, data, GRANULE);
    assert_int_equal(sheets_taken(d), 0);
    assert_int_equal(stats_of(d).overtaken, is_told() ? 0 : 1);
    assert_int_equal(trackrig_drain(&d->rig), granules_of_ranges() + !is_told());
    expect_ranges_marked(d);
    free(data);
}

/* All between the ranges is read, too, as long as it is not known that the request has completed. */
static void test_without_a_sheet_nothing_is_lost(void **state)
{
    struct discards *d = *state;
    uint64_t granules;

    for (unsigned i = 0; i < BT_SHEETS; i++)
        sheet(d, i)->request = 1;
    discard_ranges(d);
    granules = trackrig_drain(&d->rig);
    if (is_told())
        assert_int_equal(granules, granules_of_ranges());
    else
        assert_in_range(granules, granules_of_ranges() + 1, RANGES * 8);
    expect_ranges_marked(d);
    assert_false(tracker_disk_is_unknown(d->rig.tracked));
}

static void test_sheets_are_used_again(void **state)
{
    struct discards *d = *state;

    discard_pieces(d, 3, range_start, range_bytes, BT_SHEETS + 4);
    assert_int_equal(sheets_taken(d), 0);
    assert_int_equal(stats_of(d).discards, BT_SHEETS + 4);
}

/* --- discards that touch ---------------------------------------------------------------------------------------------------- */

#define TOUCHING (BT_DISCARD_RANGES + 50u)

static uint64_t touching_start(unsigned i)
{
    return (9 + i) * (uint64_t)GRANULE;
}

static uint64_t one_granule(unsigned i)
{
    (void)i;
    return GRANULE;
}

/* They are one range to a disk that takes no more than one, however many there are. */
static void test_many_discards_that_touch_are_one_range(void **state)
{
    struct discards *d = *state;

    discard_pieces(d, TOUCHING, touching_start, one_granule, 1);
    assert_int_equal(stats_of(d).discards, 1);
    assert_int_equal(sheets_taken(d), 0);
    assert_false(tracker_disk_is_unknown(d->rig.tracked));
    assert_int_equal(trackrig_drain(&d->rig), TOUCHING);
    trackrig_expect_marked(&d->rig, touching_start(0), TOUCHING * (uint64_t)GRANULE);
    assert_true(trackrig_expect_superset(&d->rig) >= TOUCHING);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest merged[] = {
        TEST(test_each_range_of_a_merged_discard_is_marked),
        TEST(test_the_next_agent_finds_each_range),
        TEST(test_a_request_that_is_used_again_has_all_its_ranges_marked),
        TEST(test_without_a_sheet_nothing_is_lost),
    };
    const struct CMUnitTest told[] = {
        TEST(test_sheets_are_used_again),
        cmocka_unit_test_setup_teardown(test_many_discards_that_touch_are_one_range, setup_plain, teardown),
    };
    int failed;

    if (!getenv("LEEWARD_DISCARD_DISK") || !getenv("LEEWARD_PLAIN_DISK") || !loopdisk_is_possible()) {
        print_message("needs root, loop devices, LEEWARD_DISCARD_DISK and LEEWARD_PLAIN_DISK: not run\n");
        return 77;
    }
    failed = cmocka_run_group_tests(merged, NULL, NULL);
    return is_told() ? failed + cmocka_run_group_tests(told, NULL, NULL) : failed;
}
