/* SPDX-License-Identifier: Apache-2.0
 *
 * Objects as files below one folder. A put writes a file of its own in the folder itself, whose name no object can have
 * (".put-" and random), syncs it, and gives it its name: by link(2), which refuses a name that is taken, or by rename(2).
 * What a crash leaves behind is such a file, which no list shows.
 */
#include "transport/vault/object/object_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/file.h"

enum { DEPTH_MAX = 32 };

struct objectdir {
    char *root;
};

static void dir_close(void *d)
{
    struct objectdir *dir = d;

    free(dir->root);
    free(dir);
}

int objectdir_open(const char *path, void **ret_driver, struct err *err)
{
    struct objectdir *dir = mem_new(struct objectdir);

    if (dir == NULL || (dir->root = mem_strdup(path)) == NULL) {
        free(dir);
        return err_set(err, ERR_NOMEM, "out of memory for an object store");
    }
    if (file_make_dirs(path, 0700, err) < 0) {
        dir_close(dir);
        return -1;
    }
    *ret_driver = dir;
    return 0;
}

static char *path_of(const struct objectdir *dir, const char *name, struct err *err)
{
    char *path = mem_printf("%s/%s", dir->root, name);

    if (path == NULL)
        err_set(err, ERR_NOMEM, "out of memory for a path");
    return path;
}

/* The folder of an object: made when it is not there. */
static char *folder_of(const char *path, struct err *err)
{
    AUTO_FREE char *folder = mem_strndup(path, (size_t)(strrchr(path, '/') - path));

    if (folder == NULL) {
        err_set(err, ERR_NOMEM, "out of memory for a path");
        return NULL;
    }
    return file_make_dirs(folder, 0700, err) < 0 ? NULL : TAKE_PTR(folder);
}

static int sync_file(int fd, const char *path, struct err *err)
{
    return fsync(fd) < 0 ? err_sys(err, errno, "syncing %s", path) : 0;
}

/* What a put writes: bytes, or pieces of a file. */
struct content {
    const void *data;
    size_t n;
    struct object_pieces *pieces; /* NULL: data */
};

static int write_content(int fd, const struct content *c, const char *path, struct err *err)
{
    if (c->pieces == NULL)
        return file_write_all(fd, c->data, c->n, path, err);
    for (unsigned i = 0; i < c->pieces->count; i++)
        if (objectpieces_read(c->pieces, i, err) < 0 ||
            file_write_all(fd, c->pieces->data.data, c->pieces->data.len, path, err) < 0)
            return -1;
    return 0;
}

static int write_unnamed(char *path, const struct content *c, struct err *err)
{
    AUTO_CLOSE int fd = mkostemp(path, O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "making %s", path);
    if (write_content(fd, c, path, err) == 0 && sync_file(fd, path, err) == 0)
        return 0;
    (void)unlink(path);
    return -1;
}

static int give_name(const char *temp, const char *path, bool if_absent, struct err *err)
{
    if (!if_absent) {
        if (rename(temp, path) == 0)
            return 1;
        (void)unlink(temp);
        return err_sys(err, errno, "writing %s", path);
    }
    int failed = link(temp, path) == 0 ? 0 : errno;
    (void)unlink(temp);
    if (failed == EEXIST)
        return 0;
    return failed ? err_sys(err, failed, "writing %s", path) : 1;
}

static int put_content(void *d, const char *name, const struct content *c, bool if_absent, struct err *err)
{
    AUTO_FREE char *path = path_of(d, name, err);
    AUTO_FREE char *folder = path ? folder_of(path, err) : NULL;
    AUTO_FREE char *temp = folder ? path_of(d, ".put-XXXXXX", err) : NULL;

    if (temp == NULL || write_unnamed(temp, c, err) < 0)
        return -1;
    int written = give_name(temp, path, if_absent, err);
    if (written == 1 && file_sync_dir(folder, err) < 0)
        return -1;
    return written;
}

static int dir_put(void *d, const char *name, const void *data, size_t n, bool if_absent, struct err *err)
{
    return put_content(d, name, &(struct content){.data = data, .n = n}, if_absent, err);
}

static int dir_put_pieces(void *d, const char *name, struct object_pieces *pieces, bool if_absent, struct err *err)
{
    return put_content(d, name, &(struct content){.pieces = pieces}, if_absent, err);
}

/* 1 and an open file; 0: none. */
static int open_object(struct objectdir *dir, const char *name, int *ret_fd, struct stat *st, struct err *err)
{
    AUTO_FREE char *path = path_of(dir, name, err);
    AUTO_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;

    if (path == NULL)
        return -1;
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(err, errno, "opening %s", path);
    if (fstat(fd, st) < 0)
        return err_sys(err, errno, "reading %s", path);
    if (!S_ISREG(st->st_mode))
        return 0;
    *ret_fd = TAKE_FD(fd);
    return 1;
}

static int dir_get(void *d, const char *name, uint64_t offset, uint64_t n, struct buf *out, struct err *err)
{
    AUTO_CLOSE int fd = -1;
    struct stat st;
    int found = open_object(d, name, &fd, &st, err);

    if (found <= 0)
        return found;
    uint64_t size = (uint64_t)st.st_size;
    uint64_t take = offset >= size ? 0 : size - offset < n ? size - offset : n;
    if (buf_reserve(out, take, err) < 0)
        return -1;
    if (take > 0 && file_pread_all(fd, out->data + out->len, take, offset, name, err) < 0)
        return -1;
    out->len += take;
    return 1;
}

static int dir_size(void *d, const char *name, uint64_t *ret_bytes, struct err *err)
{
    AUTO_CLOSE int fd = -1;
    struct stat st;
    int found = open_object(d, name, &fd, &st, err);

    if (found == 1)
        *ret_bytes = (uint64_t)st.st_size;
    return found;
}

static int dir_remove(void *d, const char *name, struct err *err)
{
    AUTO_FREE char *path = path_of(d, name, err);

    if (path == NULL)
        return -1;
    if (unlink(path) < 0 && errno != ENOENT && errno != ENOTDIR)
        return err_sys(err, errno, "removing %s", path);
    return 0;
}

/* ---- lists ---- */

struct walk {
    const char *root, *prefix, *after;
    struct object_page *all;
};

/* Can a folder hold names with this prefix? */
static bool worth_entering(const char *folder, const char *prefix)
{
    size_t n = strlen(folder), m = strlen(prefix);

    return strncmp(folder, prefix, n < m ? n : m) == 0;
}

static int walk_folder(struct walk *w, const char *folder, int depth, struct err *err);

static int walk_one(struct walk *w, const char *folder, const char *entry, int depth, struct err *err)
{
    AUTO_FREE char *name = mem_printf("%s%s%s", folder, *folder ? "/" : "", entry);
    AUTO_FREE char *path = name ? mem_printf("%s/%s", w->root, name) : NULL;
    struct stat st;

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "out of memory for a path");
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "reading %s", path);
    if (S_ISDIR(st.st_mode))
        return depth < DEPTH_MAX && worth_entering(name, w->prefix) ? walk_folder(w, name, depth + 1, err) : 0;
    if (!S_ISREG(st.st_mode) || strncmp(name, w->prefix, strlen(w->prefix)) != 0 ||
        (w->after != NULL && strcmp(name, w->after) <= 0))
        return 0;
    return object_page_add(w->all, name, (uint64_t)st.st_size, err);
}

static int walk_folder(struct walk *w, const char *folder, int depth, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s", w->root, folder);
    DIR *stream = path ? opendir(path) : NULL;
    int rc = 0;

    if (stream == NULL)
        return path == NULL      ? err_set(err, ERR_NOMEM, "out of memory for a path")
               : errno == ENOENT ? 0
                                 : err_sys(err, errno, "reading %s", path);
    for (const struct dirent *e; rc == 0 && (e = readdir(stream)) != NULL;) {
        if (e->d_name[0] != '.')
            rc = walk_one(w, folder, e->d_name, depth, err);
    }
    (void)closedir(stream);
    return rc;
}

/* The marker of a page is the last name of the one before. */
static int dir_list(
    void *d, const char *prefix, const char *after, unsigned limit, struct object_page *page, struct err *err)
{
    struct objectdir *dir = d;
    struct walk w = {.root = dir->root, .prefix = prefix, .after = after, .all = page};

    if (walk_folder(&w, "", 0, err) < 0)
        return -1;
    object_page_sort(page);
    if (page->count <= limit)
        return 0;
    page->next = mem_strdup(page->entries[limit - 1].name);
    if (page->next == NULL)
        return err_set(err, ERR_NOMEM, "out of memory for a list of objects");
    while (page->count > limit)
        free(page->entries[--page->count].name);
    return 0;
}

const struct object_driver objectdir_driver = {
    .features =
        OBJECT_PUT_IF_ABSENT | OBJECT_CONDITION_HONOURED | OBJECT_LIST_PAGES | OBJECT_RANGED_GET | OBJECT_DELETE,
    .close = dir_close,
    .put = dir_put,
    .put_pieces = dir_put_pieces,
    .get = dir_get,
    .size = dir_size,
    .remove = dir_remove,
    .list = dir_list,
};
