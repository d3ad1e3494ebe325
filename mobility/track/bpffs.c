/* SPDX-License-Identifier: Apache-2.0
 *
 * Pins. The lock is flock() on the folder itself (bpffs files cannot be opened). Replacing pins a second name and renames it
 * over the first, which bpffs does as one step.
 */
#include "mobility/track/bpffs.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "transport/base/mem.h"

#define MOUNT_POINT "/sys/fs/bpf"

static bool is_bpffs(const char *path)
{
    struct statfs s;

    return statfs(path, &s) == 0 && (unsigned long)s.f_type == BPF_FS_MAGIC;
}

static int fail_at(const char *doing, const char *path, struct err *err)
{
    int code = errno;

    (void)err_sys(err, code, "%s %s", doing, path);
    if (code == EPERM || code == EACCES)
        (void)err_hint(err, "run the agent as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN");
    else if (code == ENOENT || code == ENODEV)
        (void)err_hint(
            err, "run a kernel with CONFIG_BPF_SYSCALL and /sys mounted, or name a folder on bpffs with --pin-root");
    return -1;
}

static int ensure_default_root(struct err *err)
{
    if (!is_bpffs(MOUNT_POINT) && mount("bpf", MOUNT_POINT, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
        return fail_at("mounting bpffs at", MOUNT_POINT, err);
    if (mkdir(BPFFS_ROOT, 0700) < 0 && errno != EEXIST)
        return fail_at("making", BPFFS_ROOT, err);
    return 0;
}

static int join_path(char path[BPFFS_PATH_MAX], const char *root, const char *instance, struct err *err)
{
    if (snprintf(path, BPFFS_PATH_MAX, "%s/%s", root ? root : BPFFS_ROOT, instance) >= BPFFS_PATH_MAX - 64)
        return err_set(err, ERR_INVALID, "the path of the pins is too long");
    return 0;
}

static int lock_folder(const char *path, struct err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return fail_at("opening", path, err);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return err_sys(err, errno, "locking %s", path);
        (void)err_set(err, ERR_CONFLICT, "another process tracks with %s", path);
        return err_hint(err, "stop the other agent, or give this one another instance name");
    }
    return TAKE_FD(fd);
}

int bpffs_open(const char *root, const char *instance, struct bpffs *ret_folder, struct err *err)
{
    struct bpffs f = {.lock_fd = -1};

    if (!root && ensure_default_root(err) < 0)
        return -1;
    if (root && !is_bpffs(root)) {
        (void)err_set(err, ERR_INVALID, "%s is not on bpffs", root);
        return err_hint(err, "mount -t bpf bpf %s", root);
    }
    if (join_path(f.path, root, instance, err) < 0)
        return -1;
    if (mkdir(f.path, 0700) < 0 && errno != EEXIST)
        return fail_at("making", f.path, err);
    f.lock_fd = lock_folder(f.path, err);
    if (f.lock_fd < 0)
        return -1;
    *ret_folder = f;
    return 0;
}

void bpffs_close(struct bpffs *f)
{
    if (f->lock_fd >= 0)
        (void)close(f->lock_fd);
    f->lock_fd = -1;
}

int bpffs_destroy(const char *root, const char *instance, struct err *err)
{
    struct bpffs f;

    if (join_path(f.path, root, instance, err) < 0)
        return -1;
    if (access(f.path, F_OK) < 0 || !is_bpffs(f.path))
        return 0;
    f.lock_fd = lock_folder(f.path, err);
    if (f.lock_fd < 0)
        return -1;
    bpffs_drop_all(&f);
    bpffs_close(&f);
    if (rmdir(f.path) < 0 && errno != ENOENT)
        return err_sys(err, errno, "removing %s", f.path);
    if (!root)
        (void)rmdir(BPFFS_ROOT); /* stays while other instances are in it */
    return 0;
}

static void pin_path(const struct bpffs *f, const char *name, char path[BPFFS_PATH_MAX + 64])
{
    (void)snprintf(path, BPFFS_PATH_MAX + 64, "%s/%.60s", f->path, name);
}

int bpffs_get(const struct bpffs *f, const char *name)
{
    char path[BPFFS_PATH_MAX + 64];

    pin_path(f, name, path);
    return bpf_obj_get(path);
}

int bpffs_rename(const struct bpffs *f, const char *from, const char *to, struct err *err)
{
    char old_path[BPFFS_PATH_MAX + 64], new_path[BPFFS_PATH_MAX + 64];

    pin_path(f, from, old_path);
    pin_path(f, to, new_path);
    if (rename(old_path, new_path) < 0)
        return err_sys(err, errno, "renaming the pin %s", old_path);
    return 0;
}

int bpffs_put(const struct bpffs *f, const char *name, int fd, struct err *err)
{
    char path[BPFFS_PATH_MAX + 64], next[48];

    (void)snprintf(next, sizeof(next), "%.40s_next", name);
    bpffs_drop(f, next);
    pin_path(f, next, path);
    if (bpf_obj_pin(fd, path) < 0)
        return err_sys(err, errno, "pinning %s", path);
    return bpffs_rename(f, next, name, err);
}

void bpffs_drop(const struct bpffs *f, const char *name)
{
    char path[BPFFS_PATH_MAX + 64];

    pin_path(f, name, path);
    (void)unlink(path);
}

int bpffs_each(const struct bpffs *f, void (*each)(void *arg, const char *name), void *arg, struct err *err)
{
    DIR *dir = opendir(f->path);
    struct dirent *entry;

    if (!dir)
        return err_sys(err, errno, "listing %s", f->path);
    while ((entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.')
            each(arg, entry->d_name);
    (void)closedir(dir);
    return 0;
}

static void drop_one(void *arg, const char *name)
{
    bpffs_drop(arg, name);
}

void bpffs_drop_all(const struct bpffs *f)
{
    (void)bpffs_each(f, drop_one, (void *)f, NULL);
}
