/* SPDX-License-Identifier: Apache-2.0
 *
 * Every path is resolved by openat2 from the root's descriptor: an absolute link in a guest means the guest's own root.
 */
#include "hub/fixup/guest_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "hub/fixup/guest_tree_private.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

int guest_tree_open_in(const struct guest_tree *t, const char *path, int flags)
{
    struct open_how how = {.flags = (unsigned)(flags | O_CLOEXEC), .resolve = RESOLVE_IN_ROOT};

    return (int)syscall(SYS_openat2, t->fd, path, &how, sizeof(how));
}

int guest_tree_open(const char *folder, struct guest_tree *ret_tree, struct err *err)
{
    ret_tree->fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return ret_tree->fd < 0 ? err_sys(err, errno, "the root of the guest, %s", folder) : 0;
}

void guest_tree_close(struct guest_tree *t)
{
    if (t->fd >= 0)
        (void)close(t->fd);
    t->fd = -1;
}

bool guest_tree_has(const struct guest_tree *t, const char *path)
{
    int fd AUTO_CLOSE = guest_tree_open_in(t, path, O_PATH);

    return fd >= 0;
}

int guest_tree_mode(const struct guest_tree *t, const char *path)
{
    int fd AUTO_CLOSE = guest_tree_open_in(t, path, O_PATH);
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 ? (int)(st.st_mode & 0777) : -1;
}

int guest_tree_read_long(const struct guest_tree *t, const char *path, size_t max, char **ret_text, struct err *err)
{
    int fd AUTO_CLOSE = guest_tree_open_in(t, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    AUTO_FREE char *text = NULL;
    struct stat st;

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == ENXIO
                   ? 0
                   : err_sys(err, errno, "reading the guest's %s", path);
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "reading the guest's %s", path);
    if (!S_ISREG(st.st_mode) || (size_t)st.st_size > max)
        return 0;
    text = mem_alloc((size_t)st.st_size + 1, 1);
    if (!text)
        return err_set(err, ERR_NOMEM, "no memory for the guest's %s", path);
    if (file_pread_all(fd, text, (size_t)st.st_size, 0, path, err) < 0)
        return -1;
    if (strlen(text) != (size_t)st.st_size)
        return 0;
    *ret_text = TAKE_PTR(text);
    return 1;
}

int guest_tree_read(const struct guest_tree *t, const char *path, char **ret_text, struct err *err)
{
    return guest_tree_read_long(t, path, GUEST_TEXT_MAX, ret_text, err);
}

static int ends_with(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix);

    return n >= m && strcmp(name + n - m, suffix) == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names that the folder has, sorted; at most max. */
static size_t names_of(DIR *dir, const char *suffix, char **names, size_t max)
{
    size_t count = 0;

    for (struct dirent *one; count < max && (one = readdir(dir)) != NULL;) {
        if (one->d_name[0] == '.' || !ends_with(one->d_name, suffix))
            continue;
        names[count] = mem_strdup(one->d_name);
        count += names[count] != NULL;
    }
    qsort(names, count, sizeof(names[0]), by_name);
    return count;
}

int guest_tree_list(const struct guest_tree *t, const char *folder, const char *suffix, json_t *paths, struct err *err)
{
    char *names[512]; /* a folder of configuration has a handful */
    int fd = guest_tree_open_in(t, folder, O_RDONLY | O_DIRECTORY);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int rc = 0;

    if (!dir) {
        if (fd >= 0)
            (void)close(fd);
        return 0;
    }
    size_t count = names_of(dir, suffix, names, ARRAY_LEN(names));

    (void)closedir(dir);
    for (size_t i = 0; i < count; i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", folder, names[i]);
        json_t *text = path ? json_string(path) : NULL;

        if (!path || (text && json_array_append_new(paths, text) < 0))
            rc = err_set(err, ERR_NOMEM, "no memory for the guest's %s", folder);
        free(names[i]);
    }
    return rc;
}

int guest_tree_folder(const struct guest_tree *t, const char *path)
{
    return guest_tree_open_in(t, path, O_PATH | O_DIRECTORY);
}
