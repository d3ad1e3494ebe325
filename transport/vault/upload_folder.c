/* SPDX-License-Identifier: Apache-2.0
 *
 * A machine's folder as the uploader sees it: what its lane said of it (the source), and its files.
 *
 * The folder goes on living meanwhile. Its list of segments counts only while the manifest is still the one that came with the source: then the
 * files are those that this index speaks of. A file that was replaced or taken away before it could be read ends the turn, and the next one
 * begins with the folder as it is then; what was sent stays sent.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/file.h"
#include "transport/vault/storemeta.h"
#include "transport/vault/upload_private.h"

enum { MANIFEST_BYTES_MAX = 8 << 20 };

/* ---- the source ---- */

void upload_source_init(struct upload_source *src)
{
    *src = (struct upload_source){.manifest_bytes = BUF_INIT(MANIFEST_BYTES_MAX)};
}

void upload_source_done(struct upload_source *src)
{
    free(src->dir);
    src->dir = NULL;
    buf_done(&src->manifest_bytes);
    manifest_done(&src->manifest);
    branchlist_done(&src->branches);
    keyring_cleanse(&src->keys);
}

static_assert(BUCKETMARK_META_SIZE == STOREMETA_SIZE, "a mark has the file meta");

/* From the store, not from the file: what has become of that since must not take the place of what the bucket has. */
static void take_meta(const struct store *s, struct upload_source *src)
{
    struct store_meta meta;

    store_get_meta(s, &meta);
    storemeta_encode(&meta, src->meta);
}

/* Empty when there is none. */
static int read_manifest(const char *dir, struct buf *out, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/manifest", dir);
    struct err why = ERR_INIT;

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the manifest");
    if (file_read(path, out, &why) == 0 || why.code == ERR_NOT_FOUND)
        return 0;
    err_copy(err, &why);
    return -1;
}

int upload_source_take(const struct store *s, const struct ident *machine, struct upload_source *src, struct err *err)
{
    const struct pointlist *points = store_points(s);

    src->machine = *machine;
    src->dir = mem_strdup(store_dir(s));
    if (src->dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an upload");
    store_position(s, &src->committed);
    if (points->count > 0) {
        src->point = points->items[points->count - 1].sequence;
        src->point_time_utc_usec = points->items[points->count - 1].time_utc_usec;
    }
    take_meta(s, src);
    store_keys(s, &src->keys);
    if (read_manifest(src->dir, &src->manifest_bytes, err) < 0 || branchlist_load(src->dir, &src->branches, err) < 0)
        return -1;
    if (src->manifest_bytes.len == 0)
        return 0;
    return manifest_decode(src->manifest_bytes.data, src->manifest_bytes.len, machine, &src->manifest, err);
}

/* ---- the folder ---- */

void upload_folder_done(struct folder *f)
{
    free(f->segments);
    if (f->main_fd >= 0)
        (void)close(f->main_fd);
}

static int folder_add(struct folder *f, const char *name, uint64_t last, struct err *err)
{
    struct stat st;
    uint64_t number;

    if (segment_number_from_name(name, &number) < 0 || number > last)
        return 0;
    if (fstatat(f->main_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "looking at segment %s", name);
    if ((f->count & (f->count - 1)) == 0) {
        struct segment_file *segments = mem_resize(f->segments, f->count == 0 ? 1 : f->count * 2, sizeof(*segments));
        if (segments == NULL)
            return err_set(err, ERR_NOMEM, "no memory for the list of segments");
        f->segments = segments;
    }
    f->segments[f->count++] = (struct segment_file){number, (uint64_t)st.st_size, st.st_ino};
    return 0;
}

static int compare_segments(const void *left, const void *right)
{
    const struct segment_file *a = left, *b = right;

    return a->number < b->number ? -1 : a->number > b->number;
}

static int folder_list(struct folder *f, uint64_t last, struct err *err)
{
    int copy = fcntl(f->main_fd, F_DUPFD_CLOEXEC, 0);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    int rc = 0;

    if (dir == NULL) {
        int failed = errno;
        if (copy >= 0)
            (void)close(copy);
        return err_sys(err, failed, "listing the segments of the log");
    }
    for (const struct dirent *e; rc == 0 && (e = readdir(dir)) != NULL;)
        rc = folder_add(f, e->d_name, last, err);
    (void)closedir(dir);
    if (f->count > 0)
        qsort(f->segments, f->count, sizeof(f->segments[0]), compare_segments);
    return rc;
}

int upload_moved_on(struct upload_turn *t, struct err *err)
{
    t->moved_on = true;
    return err_set(err, ERR_CONFLICT, "the machine's files were replaced while they were looked at");
}

int upload_folder_open(struct folder *f, struct upload_turn *t, struct err *err)
{
    const struct upload_source *src = t->src;
    AUTO_BUF struct buf now = BUF_INIT(MANIFEST_BYTES_MAX);
    AUTO_FREE char *path = mem_printf("%s/main", src->dir);

    f->main_fd = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->main_fd < 0)
        return err_sys(err, errno, "opening the log of a machine");
    if (folder_list(f, src->committed.segment, err) < 0 || read_manifest(src->dir, &now, err) < 0)
        return -1;
    if (now.len != src->manifest_bytes.len || (now.len > 0 && memcmp(now.data, src->manifest_bytes.data, now.len) != 0))
        return upload_moved_on(t, err);
    return 0;
}

const struct segment_file *upload_folder_find(const struct folder *f, uint64_t number)
{
    const struct segment_file wanted = {.number = number};

    return f->count == 0 ? NULL : bsearch(&wanted, f->segments, f->count, sizeof(wanted), compare_segments);
}

int upload_open_segment(struct upload_turn *t, const struct folder *f, const struct segment_file *seg, struct err *err)
{
    char name[SEGMENT_NAME_SIZE];
    struct stat st;

    segment_name(seg->number, name);
    int fd = openat(f->main_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? upload_moved_on(t, err) : err_sys(err, errno, "opening segment %s", name);
    if (fstat(fd, &st) == 0 && st.st_ino == seg->inode)
        return fd;
    (void)close(fd);
    return upload_moved_on(t, err);
}

int upload_open_file(struct upload_turn *t, const char *name, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s", t->src->dir, name);
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return path != NULL && errno == ENOENT ? upload_moved_on(t, err) : err_sys(err, errno, "opening %s", name);
    return fd;
}
