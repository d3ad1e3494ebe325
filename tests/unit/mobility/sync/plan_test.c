/* SPDX-License-Identifier: Apache-2.0
 *
 * Plans on real file systems: what is in use is read, what is free is not, and what nobody vouches for is read in full.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/fiemap.h>
#include <linux/fs.h>

#include <cmocka.h>

#include "mobility/sync/plan.h"
#include "tests/unit/mobility/track/loopdisk.h"
#include "transport/base/clock.h"

#define MIB (1u << 20)
#define EXTENTS_MAX 256u

static void the_complement_of_free_is_used(void **state)
{
    const struct plan_extent free_ranges[] = {
        {40960, 8192}, {4096, 4096}, {20480, 6144}, {43000, 100}, {98304, 100000}};
    struct plan *p;
    uint64_t start, length;

    (void)state;
    assert_int_equal(plan_from_free(102400, free_ranges, 5, 4096, &p, NULL), 0);
    assert_int_equal(p->count, 4);
    assert_int_equal(p->used_bytes, 102400 - 4096 - 8192 - 4096 - 4096);
    assert_int_equal(plan_next(p, 0, 1 << 20, &start, &length), 1);
    assert_int_equal(start, 0);
    assert_int_equal(length, 4096);
    assert_int_equal(plan_next(p, 4096, 4096, &start, &length), 1);
    assert_int_equal(start, 8192);
    assert_int_equal(length, 4096);
    assert_int_equal(plan_next(p, 98304, 4096, &start, &length), 0);
    assert_int_equal(plan_bytes_before(p, 12288), 8192);
    assert_int_equal(plan_bytes_before(p, 1 << 20), p->used_bytes);
    plan_free(p);
}

static void a_disk_without_free_ranges_is_all_used(void **state)
{
    struct plan *p;

    (void)state;
    assert_int_equal(plan_from_free(12800, NULL, 0, 4096, &p, NULL), 0);
    assert_int_equal(p->count, 1);
    assert_int_equal(p->used_bytes, 12800);
    plan_free(p);
}

static const struct inventory_disk *find_disk(const struct inventory *inv, const char *device)
{
    for (size_t i = 0; i < inv->disk_count; i++)
        if (strcmp(inv->disks[i].device, device) == 0)
            return &inv->disks[i];
    fail_msg("%s is not in the inventory", device);
    return NULL;
}

static bool covers(const struct plan *p, uint64_t from, uint64_t length)
{
    uint64_t start, got;

    return plan_next(p, from, length, &start, &got) == 1 && start == from && got == length;
}

/* Every block of the file is in the plan. */
static void assert_file_is_planned(const struct plan *p, const char *path)
{
    struct fiemap *map = calloc(1, sizeof(*map) + EXTENTS_MAX * sizeof(struct fiemap_extent));
    int fd = open(path, O_RDONLY);

    assert_true(fd >= 0);
    map->fm_length = UINT64_MAX;
    map->fm_flags = FIEMAP_FLAG_SYNC;
    map->fm_extent_count = EXTENTS_MAX;
    assert_int_equal(ioctl(fd, FS_IOC_FIEMAP, map), 0);
    assert_true(map->fm_mapped_extents > 0);
    for (uint32_t i = 0; i < map->fm_mapped_extents; i++)
        assert_true(covers(p, map->fm_extents[i].fe_physical, map->fm_extents[i].fe_length));
    free(map);
    close(fd);
}

static void plan_of(const char *mkfs, uint64_t size, bool free_is_left_out)
{
    struct inventory *inv;
    struct loopdisk disk;
    struct plan *p;
    char dir[64], file[100];

    temp_init(dir);
    loopdisk_init(&disk, size, 512, -1);
    must_run("%s %s >/dev/null 2>&1 && mkdir %s/mnt && mount %s %s/mnt", mkfs, disk.path, dir, disk.path, dir);
    must_run("head -c 6000000 /dev/urandom > %s/mnt/file && sync -f %s/mnt/file", dir, dir);
    snprintf(file, sizeof(file), "%s/mnt/file", dir);
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    assert_int_equal(plan_make(find_disk(inv, disk.path), &p, NULL), 0);
    if (free_is_left_out) {
        assert_int_equal(p->file_systems, 1);
        assert_true(p->used_bytes < size / 2);
        assert_file_is_planned(p, file);
        assert_true(covers(p, 0, 4096));
    } else {
        assert_int_equal(p->file_systems, 0);
        assert_int_equal(p->used_bytes, size);
    }
    plan_free(p);
    inventory_free(inv);
    must_run("umount %s/mnt", dir);
    loopdisk_done(&disk);
    temp_done(dir);
}

/* One more mount point may lead there. */
static void assert_silence_is_passed_by(const struct inventory_disk *d, const char *silent, bool is_reached)
{
    uint64_t began = clock_mono_usec();
    struct plan *p;
    int fd = silent_mount(silent);

    assert_int_equal(plan_make(d, &p, NULL), 0);
    assert_in_range(clock_mono_usec() - began, 0, 10 * USEC_PER_SEC);
    assert_int_equal(p->file_systems, is_reached);
    assert_true(is_reached ? p->used_bytes < d->size_bytes : p->used_bytes == d->size_bytes);
    plan_free(p);
    silent_unmount(fd, silent);
}

/* Over the mount point, and over a folder on the way to it. */
static void a_mount_point_behind_a_silent_one_is_not_waited_for(void **state)
{
    struct inventory *inv;
    struct loopdisk disk;
    char dir[64], way[80], mnt[90], other[80];

    (void)state;
    temp_init(dir);
    snprintf(way, sizeof(way), "%s/way", dir);
    snprintf(mnt, sizeof(mnt), "%s/mnt", way);
    snprintf(other, sizeof(other), "%s/other", dir);
    loopdisk_init(&disk, 128 * MIB, 512, -1);
    must_run("mkfs.ext4 -q %s && mkdir -p %s %s && mount %s %s", disk.path, mnt, other, disk.path, mnt);
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    assert_silence_is_passed_by(find_disk(inv, disk.path), mnt, false);
    assert_silence_is_passed_by(find_disk(inv, disk.path), way, false);
    inventory_free(inv);
    must_run("mount --bind %s %s", mnt, other);
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    assert_silence_is_passed_by(find_disk(inv, disk.path), mnt, true);
    inventory_free(inv);
    must_run("umount %s %s", other, mnt);
    loopdisk_done(&disk);
    temp_done(dir);
}

static void free_space_of_ext4_is_left_out(void **state)
{
    (void)state;
    plan_of("mkfs.ext4 -q", 128 * MIB, true);
    plan_of("mkfs.ext4 -q -b 1024", 128 * MIB, true);
}

static void free_space_of_xfs_is_left_out(void **state)
{
    (void)state;
    plan_of("mkfs.xfs -q", 320 * MIB, true);
}

static void btrfs_is_read_in_full(void **state)
{
    (void)state;
    plan_of("mkfs.btrfs -q", 128 * MIB, false);
}

static void partitions_keep_their_places_and_gaps_are_read(void **state)
{
    const uint64_t size = 200 * MIB, second = 101 * MIB;
    struct inventory *inv;
    struct loopdisk disk;
    struct plan *p;
    char dir[64], table[96];
    int fd;

    (void)state;
    temp_init(dir);
    snprintf(table, sizeof(table), "%s/disk", dir);
    must_run("truncate -s %llu %s && printf 'label: gpt\\nsize=100M\\nsize=90M\\n' | sfdisk -q %s",
        (unsigned long long)size, table, table);
    fd = open(table, O_RDWR);
    loopdisk_init(&disk, size, 512, fd);
    must_run("partx -d %s 2>/dev/null; partx -a %s", disk.path, disk.path);
    must_run("mkfs.ext4 -q %sp2 && mkdir %s/mnt && mount %sp2 %s/mnt", disk.path, dir, disk.path, dir);
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    assert_int_equal(plan_make(find_disk(inv, disk.path), &p, NULL), 0);
    assert_int_equal(p->file_systems, 1);
    assert_true(covers(p, 0, second)); /* table, gap and the partition without a file system */
    assert_true(covers(p, 191 * MIB, size - 191 * MIB));
    assert_true(p->used_bytes < size - 60 * MIB);
    plan_free(p);
    inventory_free(inv);
    must_run("umount %s/mnt", dir);
    loopdisk_forget_partitions(&disk);
    loopdisk_done(&disk);
    temp_done(dir);
}

/* What the bitmaps on the disk call free belongs to a file when the journal is replayed, as whoever mounts the copy does. */
static void what_the_journal_alone_knows_of_is_read(void **state)
{
    struct loopdisk disk, copy;
    struct inventory *inv;
    struct plan *p;
    char dir[64], file[100];
    int fd;

    (void)state;
    temp_init(dir);
    loopdisk_init(&disk, 128 * MIB, 512, -1);
    must_run("mkfs.ext4 -q %s && mkdir %s/mnt %s/copy && mount %s %s/mnt", disk.path, dir, dir, disk.path, dir);
    must_run("dd if=/dev/urandom of=%s/mnt/file bs=1M count=6 conv=fsync status=none", dir);
    must_run("cat /proc/%d/fd/%d >%s/image", getpid(), disk.file_fd, dir); /* as after a crash */
    snprintf(file, sizeof(file), "%s/image", dir);
    fd = open(file, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    loopdisk_init(&copy, 128 * MIB, 512, fd);
    must_run("mount -o ro,noload %s %s/copy", copy.path, dir);
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    assert_int_equal(plan_make(find_disk(inv, copy.path), &p, NULL), 0);
    snprintf(file, sizeof(file), "%s/mnt/file", dir);
    assert_file_is_planned(p, file);
    assert_int_equal(p->file_systems, 0);
    plan_free(p);
    inventory_free(inv);
    must_run("umount %s/copy %s/mnt", dir, dir);
    loopdisk_done(&copy);
    loopdisk_done(&disk);
    temp_done(dir);
}

/* The kernel goes by the bitmaps that it read once, whatever fsck, which may run over a file system that is read-only, writes to the disk; and the
 * superblock says that all is well. */
static void what_fsck_mends_below_a_read_only_mount_is_read(void **state)
{
    struct loopdisk disk;
    struct inventory *inv;
    struct plan *p;
    char dir[64], file[100];

    (void)state;
    temp_init(dir);
    snprintf(file, sizeof(file), "%s/mnt/file", dir);
    loopdisk_init(&disk, 128 * MIB, 512, -1);
    must_run("mkfs.ext4 -q -O ^metadata_csum %s && mkdir %s/mnt && mount %s %s/mnt", disk.path, dir, disk.path, dir);
    must_run("dd if=/dev/urandom of=%s bs=1M count=6 conv=fsync status=none && umount %s/mnt", file, dir);
    must_run(
        "debugfs -w -R \"freeb $(debugfs -R 'bmap file 0' %s 2>/dev/null) 1536\" %s 2>/dev/null", disk.path, disk.path);
    must_run("mount -o ro %s %s/mnt", disk.path, dir);
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    assert_int_equal(plan_make(find_disk(inv, disk.path), &p, NULL), 0); /* the kernel knows them from now on */
    plan_free(p);
    must_run("e2fsck -fy %s >/dev/null 2>&1; [ $? -le 3 ]", disk.path);
    must_run("! dumpe2fs -h %s 2>/dev/null | grep -q needs_recovery", disk.path);
    assert_int_equal(plan_make(find_disk(inv, disk.path), &p, NULL), 0);
    assert_file_is_planned(p, file);
    plan_free(p);
    inventory_free(inv);
    must_run("umount %s/mnt", dir);
    loopdisk_done(&disk);
    temp_done(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_complement_of_free_is_used),
        cmocka_unit_test(a_disk_without_free_ranges_is_all_used),
        cmocka_unit_test(free_space_of_ext4_is_left_out),
        cmocka_unit_test(free_space_of_xfs_is_left_out),
        cmocka_unit_test(btrfs_is_read_in_full),
        cmocka_unit_test(a_mount_point_behind_a_silent_one_is_not_waited_for),
        cmocka_unit_test(partitions_keep_their_places_and_gaps_are_read),
        cmocka_unit_test(what_the_journal_alone_knows_of_is_read),
        cmocka_unit_test(what_fsck_mends_below_a_read_only_mount_is_read),
    };

    if (!loopdisk_is_possible())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
