/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole reads and writes, atomic replacement and folder trees. Interrupted calls are repeated and short ones
 * continued.
 *
 * Replacement: write path.tmp, fsync it, rename, fsync the folder. A crash before the rename leaves the old
 * content and at most a stale path.tmp, which the next replacement overwrites; a crash after it leaves the
 * new content.
 */
#include "transport/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/mem.h"

int file_pread_all(int fd, void *data, size_t n, uint64_t offset, const char *what, struct err *err)
{
    size_t got = 0;

    while (got < n) {
        ssize_t r = pread(fd, (char *)data + got, n - got, (off_t)(offset + got));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_sys(err, errno, "reading %zu bytes at %llu of %s", n, (unsigned long long)offset, what);
        if (r == 0)
            return err_set(err, ERR_CORRUPT, "%s ends at byte %llu, inside %zu bytes that begin at %llu", what,
                (unsigned long long)(offset + got), n, (unsigned long long)offset);
        got += (size_t)r;
    }
    return 0;
}

int file_pwrite_all(int fd, const void *data, size_t n, uint64_t offset, const char *what, struct err *err)
{
    size_t put = 0;

    while (put < n) {
        ssize_t r = pwrite(fd, (const char *)data + put, n - put, (off_t)(offset + put));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_sys(err, errno, "writing %zu bytes at %llu of %s", n, (unsigned long long)offset, what);
        put += (size_t)r;
    }
    return 0;
}

int file_write_all(int fd, const void *data, size_t n, const char *what, struct err *err)
{
    size_t put = 0;

    while (put < n) {
        ssize_t r = write(fd, (const char *)data + put, n - put);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_sys(err, errno, "writing %zu bytes to %s", n, what);
        put += (size_t)r;
    }
    return 0;
}

/* Reads until the end in pieces, so that files without a size (/proc) work too. */
static int read_to_end(int fd, const char *path, struct buf *b, struct err *err)
{
    uint8_t piece[16384];

    for (;;) {
        ssize_t r = read(fd, piece, sizeof(piece));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_sys(err, errno, "reading %s", path);
        if (r == 0)
            return 0;
        if (buf_append(b, piece, (size_t)r, err) < 0)
            return err_wrap(err, "reading %s", path);
    }
}

int file_read(const char *path, struct buf *b, struct err *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t old_len = b->len;

    if (fd < 0)
        return err_sys(err, errno, "opening %s", path);
    if (read_to_end(fd, path, b, err) < 0) {
        b->len = old_len;
        return -1;
    }
    return 0;
}

static int write_new(const char *path, const void *data, size_t n, mode_t mode, struct err *err)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);

    if (fd < 0)
        return err_sys(err, errno, "creating %s", path);
    /* A stale file keeps its old mode over O_CREAT, and the umask may have taken bits away. */
    if (fchmod(fd, mode) < 0)
        return err_sys(err, errno, "setting the mode of %s", path);
    if (file_write_all(fd, data, n, path, err) < 0)
        return -1;
    if (fsync(fd) < 0)
        return err_sys(err, errno, "syncing %s", path);
    return 0;
}

/* The folder that holds path, allocated; NULL when out of memory. */
static char *dir_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return mem_strdup(".");
    return slash == path ? mem_strdup("/") : mem_strndup(path, (size_t)(slash - path));
}

int file_replace_told(const char *path, const void *data, size_t n, mode_t mode, bool *ret_renamed, struct err *err)
{
    AUTO_FREE char *temp = mem_printf("%s.tmp", path);
    AUTO_FREE char *dir = dir_of(path);

    *ret_renamed = false;
    if (!temp || !dir)
        return err_set(err, ERR_NOMEM, "out of memory for replacing %s", path);
    if (write_new(temp, data, n, mode, err) < 0) {
        (void)unlink(temp);
        return -1;
    }
    if (rename(temp, path) < 0) {
        (void)err_sys(err, errno, "renaming %s", temp);
        (void)unlink(temp);
        return -1;
    }
    *ret_renamed = true;
    return file_sync_dir(dir, err);
}

int file_replace(const char *path, const void *data, size_t n, mode_t mode, struct err *err)
{
    bool renamed;

    return file_replace_told(path, data, n, mode, &renamed, err);
}

int file_sync_dir(const char *dir, struct err *err)
{
    AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "opening %s", dir);
    if (fsync(fd) < 0)
        return err_sys(err, errno, "syncing %s", dir);
    return 0;
}

/* A new folder is there after a power failure only when the one above it was synced. Where that cannot be done (no right to read it, a file
 * system in memory alone that knows no sync) nothing would come of it either. */
static int sync_above(const char *path, struct err *err)
{
    AUTO_FREE char *dir = dir_of(path);
    AUTO_CLOSE int fd = dir == NULL ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir == NULL)
        return err_set(err, ERR_NOMEM, "out of memory for the path %s", path);
    if (fd >= 0 && fsync(fd) < 0 && errno != EINVAL && errno != EOPNOTSUPP)
        return err_sys(err, errno, "syncing %s", dir);
    return 0;
}

static int make_dir(const char *path, mode_t mode, struct err *err)
{
    struct stat st;

    if (mkdir(path, mode) == 0)
        return sync_above(path, err);
    int cause = errno;
    if (cause == EEXIST && stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return 0;
        cause = ENOTDIR;
    }
    return err_sys(err, cause, "creating the folder %s", path);
}

int file_make_dirs(const char *path, mode_t mode, struct err *err)
{
    AUTO_FREE char *part = mem_strdup(path);

    if (!part)
        return err_set(err, ERR_NOMEM, "out of memory for the path %s", path);
    for (char *p = part + 1; part[0] && *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        /* Folders above the last are for everybody to pass through, whatever the last one's mode is. */
        if (make_dir(part, mode | 0711, err) < 0)
            return -1;
        *p = '/';
    }
    return make_dir(path, mode, err);
}

static int remove_at(int dir_fd, const char *name, dev_t device, const char *path, unsigned depth, struct err *err);

static int remove_entries(int fd, dev_t device, const char *path, unsigned depth, struct err *err)
{
    DIR *dir = fdopendir(fd);
    int result = 0;

    if (!dir) {
        (void)err_sys(err, errno, "listing %s", path);
        (void)close(fd);
        return -1;
    }
    for (struct dirent *e; result == 0 && (errno = 0, e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            result = remove_at(dirfd(dir), e->d_name, device, path, depth + 1, err);
    (void)closedir(dir);
    return result;
}

/* device is that of the tree's root: an entry on another one is a mount, which is left alone with an error.
 */
static int remove_at(int dir_fd, const char *name, dev_t device, const char *path, unsigned depth, struct err *err)
{
    enum { MAX_DEPTH = 200 }; /* one descriptor each; no tree of ours is deeper than ten */
    struct stat st;

    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "looking at %s in %s", name, path);
    if (S_ISDIR(st.st_mode)) {
        if (st.st_dev != device)
            return err_set(err, ERR_REFUSED, "%s in %s is a mount point", name, path);
        if (depth > MAX_DEPTH)
            return err_set(err, ERR_TOO_LARGE, "%s has more than %d levels", path, MAX_DEPTH);
        int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return err_sys(err, errno, "opening %s in %s", name, path);
        if (remove_entries(fd, device, path, depth, err) < 0)
            return -1;
    }
    if (unlinkat(dir_fd, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
        return err_sys(err, errno, "removing %s in %s", name, path);
    return 0;
}

int file_remove_tree(const char *path, struct err *err)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "looking at %s", path);
    return remove_at(AT_FDCWD, path, st.st_dev, path, 0, err);
}
