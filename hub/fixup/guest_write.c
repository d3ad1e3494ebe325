/* SPDX-License-Identifier: Apache-2.0
 *
 * Changing the files of a guest. A file is replaced by a rename in its folder, so that a helper that is killed leaves the old one or the new one.
 *
 * The rescue image's kernel enforces no labels, so it gives none either: what is made anew would be unlabeled in a guest with SELinux, which might not let its
 * programs read it. It gets what the guest's own kernel would give in most places: the label of its folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "hub/fixup/guest_tree.h"
#include "hub/fixup/guest_tree_private.h"
#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/mem.h"

#define TEMPORARY ".leeward-new"
#define LABEL "security.selinux"
#define ATTRIBUTES_MAX (64U << 10) /* XATTR_LIST_MAX, XATTR_SIZE_MAX */
#define COPY_BYTES (256U << 10)
#define ROOM_BYTES (32ULL << 20) /* stays free for the guest */

/* ---- attributes ---- */

static int set_attribute(int fd, const char *name, const void *value, size_t n, const char *path, struct err *err)
{
    if (fsetxattr(fd, name, value, n, 0) == 0 || errno == ENOTSUP)
        return 0;
    return err_sys(err, errno, "the attribute %s of the guest's %s", name, path);
}

/* Where there are labels at all. */
static int inherit_label(int folder, int fd, const char *path, struct err *err)
{
    char value[1024];
    ssize_t n = fgetxattr(folder, LABEL, value, sizeof(value));

    return n > 0 ? set_attribute(fd, LABEL, value, (size_t)n, path, err) : 0;
}

/* A seal of the content does not hold for another content. */
static bool is_seal(const char *name)
{
    return strcmp(name, "security.ima") == 0 || strcmp(name, "security.evm") == 0;
}

static int copy_attributes(int from, int to, bool same_content, const char *path, struct err *err)
{
    AUTO_FREE char *names = mem_alloc(ATTRIBUTES_MAX, 1);
    AUTO_FREE char *value = mem_alloc(ATTRIBUTES_MAX, 1);
    ssize_t all = names && value ? flistxattr(from, names, ATTRIBUTES_MAX) : 0;

    if (!names || !value)
        return err_set(err, ERR_NOMEM, "no memory for the guest's %s", path);
    if (all < 0)
        return errno == ENOTSUP ? 0 : err_sys(err, errno, "the attributes of the guest's %s", path);
    for (const char *name = names; name < names + all; name += strlen(name) + 1) {
        ssize_t n = same_content || !is_seal(name) ? fgetxattr(from, name, value, ATTRIBUTES_MAX) : -1;

        if (n >= 0 && set_attribute(to, name, value, (size_t)n, path, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- names ---- */

static int make_folder(const struct guest_tree *t, const char *folder, const char *path, struct err *err)
{
    const char *last = strrchr(folder, '/');
    AUTO_FREE char *parent = mem_printf("%.*s/", (int)(last - folder), folder);
    int above AUTO_CLOSE = parent ? guest_tree_open_in(t, parent, O_RDONLY | O_DIRECTORY) : -1;
    int made AUTO_CLOSE = -1;

    if (above < 0)
        return err_sys(err, errno, "making the guest's folder for %s", path);
    if (mkdirat(above, last + 1, 0755) < 0)
        return errno == EEXIST ? 0 : err_sys(err, errno, "making the guest's folder for %s", path);
    made = openat(above, last + 1, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return made < 0 ? err_sys(err, errno, "making the guest's folder for %s", path)
                    : inherit_label(above, made, path, err);
}

/* The folder that `path` is in, made where it is missing; the name after it. */
static int open_parent(const struct guest_tree *t, const char *path, bool make, const char **ret_name, struct err *err)
{
    char folder[PATH_MAX];
    const char *name = strrchr(path, '/');
    int at;

    if (path[0] != '/' || strlen(path) >= sizeof(folder) || name[1] == '\0')
        return err_set(err, ERR_INTERNAL, "not a guest's path: %.100s", path);
    *ret_name = name + 1;
    for (size_t n = 1; make && n <= (size_t)(name - path); n++) {
        if (path[n] != '/')
            continue;
        memcpy(folder, path, n);
        folder[n] = '\0';
        if (make_folder(t, folder, path, err) < 0)
            return -1;
    }
    memcpy(folder, path, (size_t)(name - path));
    folder[name - path] = '\0';
    at = guest_tree_open_in(t, folder[0] ? folder : "/", O_RDONLY | O_DIRECTORY);
    return at < 0 && make ? err_sys(err, errno, "opening the guest's folder of %s", path) : at;
}

static enum guest_kind kind_at(int folder, const char *name, struct stat *st)
{
    if (folder < 0 || fstatat(folder, name, st, AT_SYMLINK_NOFOLLOW) < 0)
        return GUEST_ABSENT;
    return S_ISREG(st->st_mode) ? GUEST_FILE : S_ISLNK(st->st_mode) ? GUEST_LINK : GUEST_OTHER;
}

enum guest_kind guest_tree_kind(const struct guest_tree *t, const char *path)
{
    const char *name = "";
    int folder AUTO_CLOSE = open_parent(t, path, false, &name, NULL);
    struct stat st;

    return kind_at(folder, name, &st);
}

/* A file without following a link to it; -1 with errno. */
static int open_file(int folder, const char *name)
{
    return openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* A file beside `name` that takes its place by put_in_place. */
static int open_new(int folder, const char *name, char **ret_temporary, const char *path, struct err *err)
{
    int fd;

    *ret_temporary = mem_printf("%s" TEMPORARY, name);
    if (!*ret_temporary)
        return err_set(err, ERR_NOMEM, "no memory for the guest's %s", path);
    (void)unlinkat(folder, *ret_temporary, 0);
    fd = openat(folder, *ret_temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? err_sys(err, errno, "writing the guest's %s", path) : fd;
}

/* Before the attributes: a change of owner takes a file's capabilities away, as writing to it does. */
static int give_owner(int fd, const struct stat *st, const char *path, struct err *err)
{
    if (fchown(fd, st->st_uid, st->st_gid) < 0 || fchmod(fd, st->st_mode & 07777) < 0)
        return err_sys(err, errno, "writing the guest's %s", path);
    return 0;
}

static int put_in_place(int folder, int fd, const char *temporary, const char *name, const char *path, struct err *err)
{
    if (fsync(fd) < 0 || renameat(folder, temporary, folder, name) < 0 || fsync(folder) < 0)
        return err_sys(err, errno, "writing the guest's %s", path);
    return 0;
}

/* ---- writing ---- */

int guest_tree_write(const struct guest_tree *t, const char *path, const char *text, mode_t mode, struct err *err)
{
    const char *name;
    int folder AUTO_CLOSE = open_parent(t, path, true, &name, err);
    int old AUTO_CLOSE = -1, fd AUTO_CLOSE = -1;
    AUTO_FREE char *temporary = NULL;
    struct stat st = {.st_mode = mode};

    if (folder < 0)
        return -1;
    if (kind_at(folder, name, &st) != GUEST_FILE)
        st = (struct stat){.st_mode = mode};
    else if ((old = open_file(folder, name)) < 0)
        return err_sys(err, errno, "reading the guest's %s", path);
    fd = open_new(folder, name, &temporary, path, err);
    if (fd < 0 || file_write_all(fd, text, strlen(text), path, err) < 0 || give_owner(fd, &st, path, err) < 0 ||
        (old >= 0 ? copy_attributes(old, fd, false, path, err) : inherit_label(folder, fd, path, err)) < 0 ||
        put_in_place(folder, fd, temporary, name, path, err) < 0) {
        if (temporary)
            (void)unlinkat(folder, temporary, 0);
        return -1;
    }
    return 0;
}

static int copy_link(int from, const char *name, int to, const char *target, const char *path, struct err *err)
{
    AUTO_FREE char *temporary = mem_printf("%s" TEMPORARY, target);
    char text[PATH_MAX];
    ssize_t n = readlinkat(from, name, text, sizeof(text) - 1);

    if (!temporary)
        return err_set(err, ERR_NOMEM, "no memory for the guest's %s", path);
    if (n < 0)
        return err_sys(err, errno, "reading the guest's %s", path);
    text[n] = '\0';
    (void)unlinkat(to, temporary, 0);
    if (symlinkat(text, to, temporary) < 0 || renameat(to, temporary, to, target) < 0 || fsync(to) < 0)
        return err_sys(err, errno, "writing a link of the guest's for %s", path);
    return 0;
}

static int copy_content(int from, int to, const char *path, struct err *err)
{
    AUTO_FREE char *data = mem_alloc(COPY_BYTES, 1);

    if (!data)
        return err_set(err, ERR_NOMEM, "no memory for the guest's %s", path);
    for (;;) {
        ssize_t n = read(from, data, COPY_BYTES);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "reading the guest's %s", path);
        if (n == 0)
            return 0;
        if (file_write_all(to, data, (size_t)n, path, err) < 0)
            return -1;
    }
}

static int has_room(int folder, const struct stat *st, const char *path, struct err *err)
{
    struct statvfs fs;

    if (fstatvfs(folder, &fs) < 0 ||
        (unsigned long long)fs.f_bavail * fs.f_frsize >= (unsigned long long)st->st_size + ROOM_BYTES ||
        st->st_size <= (off_t)GUEST_TEXT_MAX)
        return 0;
    return err_set(err, ERR_NOSPACE, "the guest has no room for a copy of %s", path);
}

static int copy_file(
    int from, const char *name, int to, const char *target, const struct stat *st, const char *path, struct err *err)
{
    const struct timespec times[] = {st->st_atim, st->st_mtim};
    int in AUTO_CLOSE = open_file(from, name), out AUTO_CLOSE = -1;
    AUTO_FREE char *temporary = NULL;

    if (in < 0)
        return err_sys(err, errno, "reading the guest's %s", path);
    if (has_room(to, st, path, err) < 0)
        return -1;
    out = open_new(to, target, &temporary, path, err);
    if (out < 0 || copy_content(in, out, path, err) < 0 || give_owner(out, st, path, err) < 0 ||
        copy_attributes(in, out, true, path, err) < 0 ||
        (futimens(out, times) < 0 ? err_sys(err, errno, "writing the guest's %s", path) : 0) < 0 ||
        put_in_place(to, out, temporary, target, path, err) < 0) {
        if (temporary)
            (void)unlinkat(to, temporary, 0);
        return -1;
    }
    return 0;
}

int guest_tree_copy(const struct guest_tree *t, const char *from, const char *to, struct err *err)
{
    const char *name = "", *target = "";
    int source AUTO_CLOSE = open_parent(t, from, false, &name, err);
    int folder AUTO_CLOSE = open_parent(t, to, true, &target, err);
    struct stat st;

    if (folder < 0)
        return -1;
    switch (kind_at(source, name, &st)) {
    case GUEST_FILE:
        return copy_file(source, name, folder, target, &st, from, err);
    case GUEST_LINK:
        return copy_link(source, name, folder, target, from, err);
    case GUEST_ABSENT:
        return err_set(err, ERR_NOT_FOUND, "the guest has no %s", from);
    default:
        return err_set(err, ERR_REFUSED, "the guest's %s is neither a file nor a link", from);
    }
}

int guest_tree_hash(const struct guest_tree *t, const char *path, char ret_hex[GUEST_HASH_SIZE], struct err *err)
{
    const char *name = "";
    int folder AUTO_CLOSE = open_parent(t, path, false, &name, err);
    struct hash_stream *stream = NULL;
    AUTO_FREE char *data = NULL;
    struct hash128 hash;
    struct stat st;
    ssize_t n = 0;

    if (kind_at(folder, name, &st) != GUEST_FILE)
        return 0;
    int fd AUTO_CLOSE = open_file(folder, name);

    if (fd < 0)
        return err_sys(err, errno, "reading the guest's %s", path);
    data = mem_alloc(COPY_BYTES, 1);
    stream = hash_stream_new();
    while (data && stream && ((n = read(fd, data, COPY_BYTES)) > 0 || (n < 0 && errno == EINTR)))
        if (n > 0)
            hash_stream_add(stream, data, (size_t)n);
    if (!data || !stream) {
        hash_stream_free(stream);
        return err_set(err, ERR_NOMEM, "no memory for the guest's %s", path);
    }
    hash_stream_get(stream, &hash);
    hash_stream_free(stream);
    if (n < 0)
        return err_sys(err, errno, "reading the guest's %s", path);
    bytes_to_hex(hash.bytes, HASH_SIZE, ret_hex);
    return 1;
}

int guest_tree_remove(const struct guest_tree *t, const char *path, struct err *err)
{
    const char *name;
    int folder AUTO_CLOSE = open_parent(t, path, false, &name, err);

    if (folder < 0)
        return 0;
    if (unlinkat(folder, name, 0) < 0 && errno != ENOENT)
        return err_sys(err, errno, "removing the guest's %s", path);
    return fsync(folder) < 0 ? err_sys(err, errno, "removing the guest's %s", path) : 0;
}

int guest_tree_remove_all(const struct guest_tree *t, const char *path, struct err *err)
{
    const char *name;
    int folder AUTO_CLOSE = open_parent(t, path, false, &name, err);
    AUTO_FREE char *place = NULL;

    if (folder < 0)
        return 0;
    place = mem_printf("/proc/self/fd/%d/%s", folder, name);
    return place ? file_remove_tree(place, err) : err_set(err, ERR_NOMEM, "no memory for the guest's %s", path);
}
