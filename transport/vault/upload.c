/* SPDX-License-Identifier: Apache-2.0
 *
 * A turn: first what the bucket has (its marks, once), then the difference to the folder, oldest segment first, then the mark.
 *
 * The folder goes on living meanwhile. Its list of segments counts only while the manifest is still the one that came with the source: then the
 * files are those that this index speaks of. A file that was replaced or taken away before it could be read ends the turn, and the next one
 * begins with the folder as it is then; what was sent stays sent.
 *
 * Failure modes: the bucket holds a machine that is not this one, or a log that ours does not continue (the vault lost change sets that
 * the bucket has, or was restored from an old copy): ERR_CONFLICT, and nothing is touched.
 */
#include "transport/vault/upload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/file.h"
#include "transport/log/segment.h"
#include "transport/vault/upload_private.h"

enum {
    TURN_BYTES = 256 << 20, /* then another machine has its turn */
    PIECES_MAX = 256,       /* of a file that grows, before it becomes one object again */
    MANIFEST_BYTES_MAX = 8 << 20,
    META_CREATED = 40, /* offset in meta */
    POINTS_ROW = 64,
};

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
}

static int read_meta(struct upload_source *src, struct err *err)
{
    AUTO_BUF struct buf meta = BUF_INIT(BUCKETMARK_META_SIZE);
    AUTO_FREE char *path = mem_printf("%s/meta", src->dir);

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to read meta");
    if (file_read(path, &meta, err) < 0)
        return -1;
    if (meta.len != BUCKETMARK_META_SIZE)
        return err_set(err, ERR_CORRUPT, "the file %s has a strange length", path);
    memcpy(src->meta, meta.data, meta.len);
    return 0;
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
    if (read_meta(src, err) < 0 || read_manifest(src->dir, &src->manifest_bytes, err) < 0)
        return -1;
    if (src->manifest_bytes.len == 0)
        return 0;
    return manifest_decode(src->manifest_bytes.data, src->manifest_bytes.len, machine, &src->manifest, err);
}

/* ---- the folder ---- */

struct segment_file {
    uint64_t number, bytes;
    ino_t inode;
};

struct folder {
    int main_fd;
    struct segment_file *segments; /* by number */
    size_t count;
};

static void folder_done(struct folder *f)
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

static int folder_moved_on(struct upload_turn *t, struct err *err)
{
    t->moved_on = true;
    return err_set(err, ERR_CONFLICT, "the machine's index was written anew while it was looked at");
}

static int folder_open(struct folder *f, struct upload_turn *t, struct err *err)
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
        return folder_moved_on(t, err);
    return 0;
}

/* ---- what went ---- */

static bool folder_has(const struct folder *f, uint64_t number)
{
    const struct segment_file wanted = {.number = number};

    return f->count > 0 && bsearch(&wanted, f->segments, f->count, sizeof(wanted), compare_segments) != NULL;
}

static bool manifest_has(const struct manifest *m, uint64_t run)
{
    for (size_t i = 0; i < m->run_count; i++)
        if (m->runs[i].id == run)
            return true;
    return false;
}

static bool is_gone(const struct upload_turn *t, const struct folder *folder, const struct bucket_file *f)
{
    switch (f->kind) {
    case BUCKET_SEGMENT:
        return !folder_has(folder, f->number);
    case BUCKET_RUN:
        return !manifest_has(&t->src->manifest, f->number);
    case BUCKET_POINTS:
        return f->number != t->src->manifest.points_id || t->src->manifest.point_count == 0;
    }
    return false;
}

static int drop_gone(struct upload_turn *t, const struct folder *folder, struct err *err)
{
    struct bucketstate *st = &t->u->state;

    for (size_t i = st->count; i > 0; i--) /* from behind: each one that goes moves those behind it */
        if (is_gone(t, folder, &st->files[i - 1]) &&
            upload_send_gone(t, st->files[i - 1].kind, st->files[i - 1].number, err) < 0)
            return -1;
    return 0;
}

/* ---- what came ---- */

static uint64_t bytes_there(const struct upload_turn *t, enum bucket_kind kind, uint64_t number)
{
    const struct bucket_file *f = bucketstate_find(&t->u->state, kind, number);

    return f == NULL ? 0 : f->bytes;
}

/* Opens a file of the folder; one that is another file than the list had means that the folder moved on. */
static int open_segment(struct upload_turn *t, const struct folder *f, const struct segment_file *seg, struct err *err)
{
    char name[SEGMENT_NAME_SIZE];
    struct stat st;

    segment_name(seg->number, name);
    int fd = openat(f->main_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? folder_moved_on(t, err) : err_sys(err, errno, "opening segment %s", name);
    if (fstat(fd, &st) == 0 && st.st_ino == seg->inode)
        return fd;
    (void)close(fd);
    return folder_moved_on(t, err);
}

/* Bytes of a segment that count: of the last one those up to the last mark. */
static uint64_t bytes_wanted(const struct upload_turn *t, const struct segment_file *seg)
{
    return seg->number == t->src->committed.segment ? t->src->committed.offset : seg->bytes;
}

static int send_segment(
    struct upload_turn *t, const struct folder *folder, const struct segment_file *seg, struct err *err)
{
    uint64_t to = bytes_wanted(t, seg);
    const struct bucket_file *there = bucketstate_find(&t->u->state, BUCKET_SEGMENT, seg->number);
    bool is_open = seg->number == t->src->committed.segment;
    bool is_split = there != NULL && there->count > 1;

    if (there != NULL && there->bytes == to && (is_open || !is_split))
        return 0;
    AUTO_CLOSE int fd = open_segment(t, folder, seg, err);
    if (fd < 0)
        return -1;
    if (is_open && there != NULL && there->bytes < to && there->count < PIECES_MAX)
        return upload_send_file(t, BUCKET_SEGMENT, seg->number, fd, there->bytes, to, false, err);
    return upload_send_file(t, BUCKET_SEGMENT, seg->number, fd, 0, to, !is_open || is_split, err);
}

/* 1: all are there; 0: the turn's share is used up. */
static int send_segments(struct upload_turn *t, const struct folder *folder, struct err *err)
{
    for (size_t i = 0; i < folder->count; i++) {
        if (t->result->sent_bytes >= TURN_BYTES)
            return 0;
        if (send_segment(t, folder, &folder->segments[i], err) < 0)
            return -1;
    }
    return 1;
}

static int open_at(struct upload_turn *t, const char *name, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s", t->src->dir, name);
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return path != NULL && errno == ENOENT ? folder_moved_on(t, err) : err_sys(err, errno, "opening %s", name);
    return fd;
}

static int send_runs(struct upload_turn *t, struct err *err)
{
    char name[RUN_NAME_SIZE + 8] = "runs/";
    struct stat st;

    for (size_t i = 0; i < t->src->manifest.run_count; i++) {
        uint64_t id = t->src->manifest.runs[i].id;
        if (bytes_there(t, BUCKET_RUN, id) > 0)
            continue;
        run_name(id, name + strlen("runs/"));
        AUTO_CLOSE int fd = open_at(t, name, err);
        if (fd < 0)
            return -1;
        if (fstat(fd, &st) < 0)
            return err_sys(err, errno, "looking at %s", name);
        if (upload_send_file(t, BUCKET_RUN, id, fd, 0, (uint64_t)st.st_size, true, err) < 0)
            return -1;
    }
    return 0;
}

static int send_points(struct upload_turn *t, struct err *err)
{
    const struct manifest *m = &t->src->manifest;
    const struct bucket_file *there = bucketstate_find(&t->u->state, BUCKET_POINTS, m->points_id);
    uint64_t to = (m->point_count + 1) * POINTS_ROW, from = there == NULL ? 0 : there->bytes;
    AUTO_FREE char *name = mem_printf("points-%016llx", (unsigned long long)m->points_id);

    if (m->point_count == 0 || from == to)
        return 0;
    AUTO_CLOSE int fd = name == NULL ? err_set(err, ERR_NOMEM, "no memory for a path") : open_at(t, name, err);
    if (fd < 0)
        return -1;
    if (from > to || (there != NULL && there->count >= PIECES_MAX))
        from = 0;
    return upload_send_file(t, BUCKET_POINTS, m->points_id, fd, from, to, from == 0, err);
}

/* ---- does it belong together? ---- */

static int is_another(struct err *err, const char *what)
{
    (void)err_set(err, ERR_CONFLICT, "%s", what);
    return err_hint(err,
        "rebuild a vault from the bucket if it has what you need; then give this vault another prefix in its "
        "bucket URL, or delete the machine's objects");
}

/* The pieces of the segment that was open: our file must begin with just these bytes. */
static int check_pieces(
    struct upload_turn *t, const struct folder *folder, const struct bucket_file *f, struct err *err)
{
    const struct segment_file wanted = {.number = f->number};
    const struct segment_file *seg =
        folder->count == 0 ? NULL : bsearch(&wanted, folder->segments, folder->count, sizeof(wanted), compare_segments);
    AUTO_CLOSE int fd = seg == NULL ? -1 : open_segment(t, folder, seg, err);

    if (seg == NULL)
        return 0;
    if (fd < 0)
        return -1;
    for (size_t i = 0; i < f->count; i++) {
        struct hash128 hash;
        if (f->pieces[i].offset + f->pieces[i].bytes > bytes_wanted(t, seg))
            return is_another(err, "the bucket holds a longer log of this machine than the vault");
        if (upload_hash(fd, f->pieces[i].offset, f->pieces[i].bytes, &hash, err) < 0)
            return -1;
        if (!hash_equal(&hash, &f->pieces[i].hash))
            return is_another(err, "the bucket holds another log of this machine than the vault");
    }
    return 0;
}

static int check_belongs(struct upload_turn *t, const struct folder *folder, struct err *err)
{
    const struct bucketmark *last = &t->u->state.last;
    const struct bucket_file *tail = bucketstate_find(&t->u->state, BUCKET_SEGMENT, last->committed.segment);

    if (memcmp(last->meta + META_CREATED, t->src->meta + META_CREATED, 8) != 0)
        return is_another(err, "the bucket holds another life of this machine, made with another key");
    if (last->committed.sequence > t->src->committed.sequence)
        return is_another(err, "the bucket holds change sets of this machine that the vault has lost");
    return tail == NULL ? 0 : check_pieces(t, folder, tail, err);
}

static void forget(struct upload *u)
{
    bucketstate_done(&u->state);
    bucketstate_init(&u->state, &u->machine);
    free(u->changes.items);
    free(u->doomed.items);
    u->changes = u->doomed = (struct entry_list){0};
    u->swept = false;
}

static int load(struct upload_turn *t, const struct folder *folder, struct err *err)
{
    struct upload *u = t->u;

    forget(u);
    int found = bucketstate_load(&u->state, t->objects, err);
    if (found < 0 || (found == 1 && check_belongs(t, folder, err) < 0))
        return -1;
    u->loaded = true;
    return 0;
}

/* ---- the turn ---- */

static uint64_t bytes_behind(const struct upload_turn *t, const struct folder *folder)
{
    uint64_t behind = 0;

    for (size_t i = 0; i < folder->count; i++) {
        uint64_t wanted = bytes_wanted(t, &folder->segments[i]);
        uint64_t there = bytes_there(t, BUCKET_SEGMENT, folder->segments[i].number);
        behind += wanted > there ? wanted - there : 0;
    }
    return behind;
}

static bool has_news(const struct upload_turn *t)
{
    const struct bucketmark *last = &t->u->state.last;
    const struct buf *manifest = &t->src->manifest_bytes;

    return t->u->changes.count > 0 || last->serial == 0 || last->committed.sequence != t->src->committed.sequence ||
           memcmp(last->meta, t->src->meta, sizeof(last->meta)) != 0 || last->manifest.len != manifest->len ||
           (manifest->len > 0 && memcmp(last->manifest.data, manifest->data, manifest->len) != 0);
}

static int turn(struct upload_turn *t, struct folder *folder, struct err *err)
{
    if (folder_open(folder, t, err) < 0 || (!t->u->loaded && load(t, folder, err) < 0))
        return -1;
    if (drop_gone(t, folder, err) < 0)
        return -1;
    int all = send_segments(t, folder, err);
    t->result->more = all == 0;
    if (all <= 0)
        return all;
    if (send_runs(t, err) < 0 || send_points(t, err) < 0)
        return -1;
    return has_news(t) ? upload_send_mark(t, err) : 0;
}

int upload_turn(struct upload *u, struct object_store *objects, const struct upload_source *src,
    struct upload_result *ret_result, struct err *err)
{
    struct upload_turn t = {.u = u, .objects = objects, .src = src, .result = ret_result};
    struct folder folder = {.main_fd = -1};
    int rc = 0;

    *ret_result = (struct upload_result){0};
    if (src->committed.sequence > 0)
        rc = turn(&t, &folder, err);
    ret_result->sequence = u->state.last.committed.sequence;
    ret_result->point = u->state.last.point;
    ret_result->point_time_utc_usec = u->state.last.point_time_utc_usec;
    ret_result->behind_bytes = bytes_behind(&t, &folder);
    folder_done(&folder);
    if (rc == 0 || !t.moved_on)
        return rc;
    ret_result->more = true;
    err_clear(err);
    return 0;
}

int upload_new(const struct ident *machine, struct upload **ret_upload, struct err *err)
{
    struct upload *u = mem_new(struct upload);

    if (u == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an upload");
    u->machine = *machine;
    bucketstate_init(&u->state, machine);
    *ret_upload = u;
    return 0;
}

void upload_free(struct upload *u)
{
    if (u == NULL)
        return;
    forget(u);
    bucketstate_done(&u->state);
    free(u);
}
