/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes that are durable when they are done (FUA), without a flush behind them: each is a barrier. No loop disk takes them, so this runs in a
 * machine that has such a disk (tests/e2e/vm/test_vm_windows.py). The block device itself flushes after each synchronous write; ext4
 * does not where it writes over a block of a file whose metadata is on the disk (fs/iomap/direct-io.c, IOMAP_DIO_WRITE_FUA).
 *
 *     LEEWARD_FUA_DISK=/dev/nvme0n1    whose queue/fua is 1; it is overwritten
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/mobility/track/trackrig.h"

#define BLOCKS 64u

struct fua {
    struct trackrig rig;
    char mount[96];
    int file; /* of BLOCKS blocks, all of them on the disk */
};

static int setup(void **state)
{
    struct fua *f = calloc(1, sizeof(*f));
    struct loopdisk disk = {.file_fd = -1};
    char path[128];

    (void)snprintf(disk.path, sizeof(disk.path), "%s", getenv("LEEWARD_FUA_DISK"));
    disk.fd = open(disk.path, O_RDWR | O_CLOEXEC);
    assert_true(disk.fd >= 0);
    assert_int_equal(ioctl(disk.fd, BLKGETSIZE64, &disk.size_bytes), 0);
    trackrig_init(&f->rig, &disk);
    (void)snprintf(f->mount, sizeof(f->mount), "%s/mnt", f->rig.dir);
    (void)snprintf(path, sizeof(path), "%s/file", f->mount);
    must_run("mkfs.ext4 -q -F -b %u -O ^has_journal -E lazy_itable_init=0 %s", GRANULE, disk.path);
    assert_int_equal(mkdir(f->mount, 0700), 0);
    assert_int_equal(mount(disk.path, f->mount, "ext4", MS_NOATIME, NULL), 0);
    must_run(
        "dd if=/dev/urandom of=%s bs=%u count=%u conv=fsync status=none && sync -f %s", path, GRANULE, BLOCKS, path);
    f->file = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    assert_true(f->file >= 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fua *f = *state;

    (void)close(f->file);
    must_unmount(f->mount);
    (void)rmdir(f->mount);
    trackrig_done(&f->rig);
    free(f);
    return 0;
}

/* Flushes that the disk was given since it is there (Documentation/admin-guide/iostats.rst, field 16). */
static unsigned long long flushes_of(const struct fua *f)
{
    unsigned long long flushes = 0;
    char path[96];
    FILE *file;

    (void)snprintf(path, sizeof(path), "/sys/block/%s/stat", strrchr(f->rig.disk.path, '/') + 1);
    file = fopen(path, "re");
    assert_non_null(file);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(fscanf(file, "%llu", &flushes), 1);
    (void)fclose(file);
    return flushes;
}

static void write_each_block(const struct fua *f, int flags)
{
    uint8_t *data = random_bytes(BLOCKS * GRANULE);

    for (unsigned i = 0; i < BLOCKS; i++) {
        struct iovec iov = {.iov_base = data + (size_t)i * GRANULE, .iov_len = GRANULE};
        assert_int_equal(pwritev2(f->file, &iov, 1, (off_t)i * GRANULE, flags), GRANULE);
    }
    free(data);
}

/* The file system writes the time of the change last: before the disk itself is read, which would have it written then. */
static void expect_barriers(struct fua *f, int flags, unsigned barriers)
{
    unsigned long long flushes;
    uint64_t before;

    (void)trackrig_drain(&f->rig);
    trackrig_remember(&f->rig);
    flushes = flushes_of(f);
    before = tracker_barriers(f->rig.tracker);
    write_each_block(f, flags);
    assert_int_equal(tracker_barriers(f->rig.tracker) - before, barriers);
    assert_int_equal(flushes_of(f), flushes); /* else it is those that were counted */
    must_run("sync -f %s", f->mount);
    assert_true(trackrig_drain(&f->rig) >= BLOCKS);
    assert_true(trackrig_expect_superset(&f->rig) >= BLOCKS);
}

static void test_each_fua_write_is_one_barrier_and_is_marked(void **state)
{
    expect_barriers(*state, RWF_DSYNC, BLOCKS);
}

static void test_a_write_without_fua_is_none(void **state)
{
    expect_barriers(*state, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_fua_write_is_one_barrier_and_is_marked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_write_without_fua_is_none, setup, teardown),
    };

    if (!getenv("LEEWARD_FUA_DISK") || !loopdisk_is_possible()) {
        print_message("needs root, loop devices and LEEWARD_FUA_DISK: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
