/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel lets a block device be opened with O_EXCL only when no file system, swap, device mapper or RAID holds it or a partition of
 * it, and keeps them away as long as it is open. A protected disk is not held by anybody: the hub names those of this host.
 */
#include "transport/vault/disktarget.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "transport/base/mem.h"

/* The folder of a device in sysfs: that of a partition lies in that of its disk. NULL: no such device. */
static char *sysfs_folder(const char *device)
{
    struct stat st;
    if (stat(device, &st) < 0 || !S_ISBLK(st.st_mode))
        return NULL;
    char *link AUTO_FREE = mem_printf("/sys/dev/block/%u:%u", major(st.st_rdev), minor(st.st_rdev));
    return link == NULL ? NULL : realpath(link, NULL);
}

static bool contains(const char *folder, const char *other)
{
    size_t n = strlen(folder);
    return strncmp(folder, other, n) == 0 && (other[n] == '\0' || other[n] == '/');
}

static int check_protected(const char *path, char *const *protected, size_t count, struct err *err)
{
    char *own AUTO_FREE = sysfs_folder(path);
    for (size_t i = 0; own != NULL && i < count; i++) {
        char *theirs AUTO_FREE = sysfs_folder(protected[i]);
        if (theirs == NULL || (!contains(own, theirs) && !contains(theirs, own)))
            continue;
        (void)err_set(err, ERR_REFUSED, "%s belongs to a protected disk of this host (%s)", path, protected[i]);
        return err_hint(err, "name another device; its machine would lose what is on it");
    }
    return 0;
}

int disktarget_check(const char *path, char *const *protected, size_t count, bool *ret_is_device, struct err *err)
{
    struct stat st;
    *ret_is_device = false;
    if (path[0] != '/')
        return err_set(err, ERR_INVALID, "the path of an export must be absolute");
    if (stat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "looking at %s", path);
    *ret_is_device = S_ISBLK(st.st_mode);
    if (*ret_is_device)
        return check_protected(path, protected, count, err);
    (void)err_set(err, ERR_EXISTS, "%s is there already", path);
    return err_hint(err, "remove it, or name another file");
}

int disktarget_open_device(const char *path, uint64_t disk_bytes, int *ret_fd, struct err *err)
{
    uint64_t size;
    int fd AUTO_CLOSE = open(path, O_RDWR | O_EXCL | O_CLOEXEC);
    if (fd < 0 && errno == EBUSY) {
        (void)err_set(
            err, ERR_CONFLICT, "%s is in use: it or a part of it is mounted, or belongs to something that is", path);
        return err_hint(err, "unmount it first, or name another device");
    }
    if (fd < 0)
        return err_sys(err, errno, "opening %s", path);
    if (ioctl(fd, BLKGETSIZE64, &size) < 0)
        return err_sys(err, errno, "asking for the size of %s", path);
    if (size < disk_bytes)
        return err_set(err, ERR_TOO_LARGE, "the disk has %llu bytes, %s only %llu", (unsigned long long)disk_bytes,
            path, (unsigned long long)size);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int disktarget_open_file(const char *part, bool again, int *ret_fd, struct err *err)
{
    int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (again ? 0 : O_EXCL);
    *ret_fd = open(part, flags, 0600);
    if (*ret_fd >= 0)
        return 0;
    if (errno != EEXIST)
        return err_sys(err, errno, "making %s", part);
    (void)err_set(err, ERR_EXISTS, "%s is there already", part);
    return err_hint(err, "another export may be writing it; remove it if none does");
}
