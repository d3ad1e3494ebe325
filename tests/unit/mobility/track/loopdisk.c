/* SPDX-License-Identifier: Apache-2.0
 *
 * Loop disks by ioctl (loop(4)): LOOP_CTL_GET_FREE and LOOP_CONFIGURE race with others who take the same number, so both are
 * tried again.
 */
#include "tests/unit/mobility/track/loopdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

bool loopdisk_is_possible(void)
{
    return geteuid() == 0 && access("/dev/loop-control", R_OK | W_OK) == 0 && unshare(CLONE_NEWNS) == 0 &&
           mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0;
}

static int nameless_file(uint64_t size_bytes)
{
    const char *dir = getenv("TMPDIR");
    int fd = open(dir ? dir : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size_bytes), 0);
    return fd;
}

static int attach(int control, struct loop_config *config, char path[32])
{
    int number = ioctl(control, LOOP_CTL_GET_FREE), fd;

    assert_true(number >= 0);
    (void)snprintf(path, 32, "/dev/loop%d", number);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, config) == 0)
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

void loopdisk_init(struct loopdisk *l, uint64_t size_bytes, unsigned sector_bytes, int file_fd)
{
    struct loop_config config = {.block_size = sector_bytes};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    assert_true(control >= 0);
    l->size_bytes = size_bytes;
    l->file_fd = file_fd >= 0 ? file_fd : nameless_file(size_bytes);
    config.fd = (uint32_t)l->file_fd;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO | LO_FLAGS_PARTSCAN;
    config.info.lo_sizelimit = size_bytes;
    l->fd = -1;
    for (int i = 0; i < 100 && l->fd < 0; i++)
        l->fd = attach(control, &config, l->path);
    assert_true(l->fd >= 0);
    (void)close(control);
}

void loopdisk_done(struct loopdisk *l)
{
    if (l->fd >= 0)
        (void)close(l->fd);
    if (l->file_fd >= 0)
        (void)close(l->file_fd);
    l->fd = l->file_fd = -1;
}

void loopdisk_resize(struct loopdisk *l, uint64_t size_bytes)
{
    struct loop_info64 info;

    assert_int_equal(ftruncate(l->file_fd, (off_t)size_bytes), 0);
    assert_int_equal(ioctl(l->fd, LOOP_GET_STATUS64, &info), 0);
    info.lo_sizelimit = size_bytes;
    assert_int_equal(ioctl(l->fd, LOOP_SET_STATUS64, &info), 0);
    assert_int_equal(ioctl(l->fd, LOOP_SET_CAPACITY, 0), 0);
    l->size_bytes = size_bytes;
}

static int open_direct(const struct loopdisk *l)
{
    int fd = open(l->path, O_RDWR | O_DIRECT | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

void loopdisk_write(struct loopdisk *l, uint64_t offset, const void *data, uint32_t n)
{
    int fd = open_direct(l);

    assert_int_equal(pwrite(fd, data, n, (off_t)offset), n);
    (void)close(fd);
}

void loopdisk_read(struct loopdisk *l, uint64_t offset, void *data, uint32_t n)
{
    int fd = open_direct(l);

    assert_int_equal(pread(fd, data, n, (off_t)offset), n);
    (void)close(fd);
}

#define TEMP_DIR_MAX 40 /* sockets and mounts below it have room in their paths, too */

void temp_init(char path[64])
{
    const char *dir = getenv("TMPDIR");

    (void)snprintf(path, 64, "%s/leeward-test-XXXXXX", dir && strlen(dir) <= TEMP_DIR_MAX ? dir : "/tmp");
    assert_non_null(mkdtemp(path));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st, (void)type, (void)walk;
    return remove(path);
}

void temp_done(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

void bpffs_mount(const char *dir, char path[96])
{
    (void)snprintf(path, 96, "%s/bpf", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mount("bpf", path, "bpf", 0, NULL), 0);
}

void bpffs_unmount(const char *path)
{
    (void)umount2(path, MNT_DETACH);
}

void must_run(const char *format, ...)
{
    char command[1024];
    va_list ap;

    va_start(ap, format);
    (void)vsnprintf(command, sizeof(command), format, ap);
    va_end(ap);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

void must_unmount(const char *path)
{
    must_run("for i in $(seq 100); do umount %s && exit; sleep 0.1; done; exit 1", path);
}

int silent_mount(const char *path)
{
    char options[96];
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        print_message("there is no /dev/fuse\n");
        skip();
    }
    (void)snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
    assert_int_equal(mount("silent", path, "fuse", 0, options), 0);
    return fd;
}

void silent_unmount(int silent, const char *path)
{
    close(silent);
    assert_int_equal(umount2(path, MNT_DETACH), 0);
}

void loopdisk_forget_partitions(const struct loopdisk *l)
{
    must_run("for i in $(seq 100); do partx -d %s && exit; sleep 0.1; done; exit 1", l->path);
}

uint8_t *random_bytes(uint32_t n)
{
    uint8_t *data = aligned_alloc(4096, (n + 4095u) / 4096u * 4096u);

    assert_non_null(data);
    for (uint32_t at = 0; at < n; at += 256)
        assert_true(getrandom(data + at, n - at < 256 ? n - at : 256, 0) > 0);
    return data;
}
