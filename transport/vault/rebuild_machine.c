/* SPDX-License-Identifier: Apache-2.0
 *
 * One machine: its marks, then the key (before anything is fetched in vain), then its files, then the index as the mark has it, then
 * the proof: it is opened as a store and must end where the mark says.
 *
 * What the lost vault handed out behind the newest mark is not known here. A nonce stream must never be handed out again and an epoch not be
 * taken for a newer one, so both go on far above what the mark has. The source then compares its disks with what is left.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/log/segment.h"
#include "transport/vault/bucketstate.h"
#include "transport/vault/rebuild.h"
#include "transport/vault/store.h"
#include "transport/vault/storemeta.h"

#define NONCE_STREAMS_SKIPPED (1u << 24) /* a stream each 100 ms for 19 days */
#define EPOCHS_SKIPPED (1ULL << 32)

enum {
    FETCH_BYTES = 4 << 20,
    FOLDERS_DEEP = 2, /* branches/<id>/ */
    RELOADS = 3,      /* of the marks, when a vault that still runs takes objects away meanwhile */
};

struct rebuild {
    const struct vault_key *key;
    struct ident machine;
    char id[IDENT_TEXT_SIZE];
    struct object_store *objects;
    char *dir; /* DATA/rebuild/<id> */
    struct bucketstate state;
    uint64_t *fetched_bytes;
    bool vanished; /* an object that a mark names was not there */
};

/* ---- meta and key ---- */

static int put_file(const struct rebuild *r, const char *name, const void *data, size_t n, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s", r->dir, name);

    return path == NULL ? err_set(err, ERR_NOMEM, "no memory to rebuild a machine")
                        : file_replace(path, data, n, 0600, err);
}

static int check_key(const struct rebuild *r, const struct store_meta *meta, struct err *err)
{
    struct seal_key data_key;

    if (!ident_equal(&meta->machine, &r->machine))
        return err_set(err, ERR_CORRUPT, "the newest mark has another machine's meta");
    int rc = vaultkeys_unwrap(r->key, &r->machine, meta->wrapped_key, &data_key, err);
    explicit_bzero(&data_key, sizeof(data_key));
    if (rc < 0 && err != NULL && err->code == ERR_DENIED)
        (void)err_hint(err, "put the vault.key of the vault that wrote this bucket into the data folder");
    return rc;
}

static int make_meta(const struct rebuild *r, struct err *err)
{
    struct store_meta meta;

    if (put_file(r, "meta", r->state.last.meta, BUCKETMARK_META_SIZE, err) < 0 ||
        storemeta_load(r->dir, &meta, err) < 0 || check_key(r, &meta, err) < 0)
        return -1;
    bool enough = meta.next_nonce_stream != 0 && meta.next_nonce_stream < UINT32_MAX - NONCE_STREAMS_SKIPPED;
    meta.next_nonce_stream = enough ? meta.next_nonce_stream + NONCE_STREAMS_SKIPPED : 0;
    meta.epoch += EPOCHS_SKIPPED;
    return storemeta_store(r->dir, &meta, err);
}

/* ---- files ---- */

static struct bucket_entry entry_of(const struct bucket_file *f)
{
    return (struct bucket_entry){.kind = f->kind, .owner = f->owner, .number = f->number};
}

/* And its folder is there. */
static int file_path(const struct rebuild *r, const struct bucket_file *f, char **ret_path, struct err *err)
{
    const struct bucket_entry e = entry_of(f);
    char name[BUCKETMARK_PATH_SIZE];

    bucketmark_path(&e, name);
    AUTO_FREE char *path = mem_printf("%s/%s", r->dir, name);
    AUTO_FREE char *folder = path == NULL ? NULL : mem_strdup(path);
    if (folder == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rebuild a machine");
    *strrchr(folder, '/') = '\0';
    if (file_make_dirs(folder, 0700, err) < 0)
        return -1;
    *ret_path = TAKE_PTR(path);
    return 0;
}

static int piece_hash(int fd, const struct bucket_piece *p, struct buf *data, struct hash128 *ret_hash, struct err *err)
{
    struct hash_stream *stream = hash_stream_new();
    int rc = stream == NULL ? err_set(err, ERR_NOMEM, "no memory to rebuild a machine") : 0;

    for (uint64_t at = 0; rc == 0 && at < p->bytes;) {
        size_t n = p->bytes - at < FETCH_BYTES ? (size_t)(p->bytes - at) : (size_t)FETCH_BYTES;
        rc = file_pread_all(fd, data->data, n, p->offset + at, "a rebuilt file", err);
        if (rc == 0)
            hash_stream_add(stream, data->data, n);
        at += n;
    }
    if (rc == 0)
        hash_stream_get(stream, ret_hash);
    hash_stream_free(stream);
    return rc;
}

/* From an earlier try: is it just what the marks say? */
static bool is_there_already(const char *path, const struct bucket_file *f, struct buf *data)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size != f->bytes)
        return false;
    for (size_t i = 0; i < f->count; i++) {
        struct hash128 hash;
        if (piece_hash(fd, &f->pieces[i], data, &hash, NULL) < 0 || !hash_equal(&hash, &f->pieces[i].hash))
            return false;
    }
    return true;
}

static int fetch_range(struct rebuild *r, const char *name, uint64_t at, size_t n, struct buf *data, struct err *err)
{
    buf_clear(data);
    int found = object_get(r->objects, name, at, n, data, err);
    if (found < 0)
        return -1;
    if (found == 0) {
        r->vanished = true;
        return err_set(err, ERR_CORRUPT, "%s is missing in the bucket", name);
    }
    if (data->len != n)
        return err_set(err, ERR_CORRUPT, "%s is shorter than its mark says", name);
    *r->fetched_bytes += n;
    return 0;
}

static int fetch_piece(struct rebuild *r, const struct bucket_file *f, const struct bucket_piece *p, int fd,
    struct buf *data, struct err *err)
{
    const struct bucket_entry e = bucketstate_entry(f, p);
    char name[BUCKETMARK_NAME_SIZE];
    struct hash128 hash;

    bucketmark_piece_name(&r->machine, &e, name);
    for (uint64_t at = 0; at < p->bytes;) {
        size_t n = p->bytes - at < FETCH_BYTES ? (size_t)(p->bytes - at) : (size_t)FETCH_BYTES;
        if (fetch_range(r, name, at, n, data, err) < 0 ||
            file_pwrite_all(fd, data->data, n, p->offset + at, name, err) < 0)
            return -1;
        at += n;
    }
    if (piece_hash(fd, p, data, &hash, err) < 0)
        return -1;
    if (hash_equal(&hash, &p->hash))
        return 0;
    (void)err_set(err, ERR_CORRUPT, "%s is not what its mark says", name);
    return err_hint(err, "it was changed or damaged in the bucket; an older version of the object may be right");
}

static int fetch_to(struct rebuild *r, const struct bucket_file *f, const char *temp, struct buf *data, struct err *err)
{
    AUTO_CLOSE int fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_sys(err, errno, "making %s", temp);
    for (size_t i = 0; i < f->count; i++)
        if (fetch_piece(r, f, &f->pieces[i], fd, data, err) < 0)
            return -1;
    return fsync(fd) < 0 ? err_sys(err, errno, "syncing %s", temp) : 0;
}

static int fetch_file(struct rebuild *r, const struct bucket_file *f, struct buf *data, struct err *err)
{
    AUTO_FREE char *path = NULL;

    if (file_path(r, f, &path, err) < 0)
        return -1;
    AUTO_FREE char *temp = mem_printf("%s.part", path);
    if (temp == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rebuild a machine");
    if (is_there_already(path, f, data))
        return 0;
    if (fetch_to(r, f, temp, data, err) < 0)
        return -1;
    return rename(temp, path) < 0 ? err_sys(err, errno, "naming %s", path) : 0;
}

/* ---- the folder ---- */

static int check_room(const struct rebuild *r, struct err *err)
{
    struct statvfs vfs;
    uint64_t wanted = 0;

    for (size_t i = 0; i < r->state.count; i++) {
        if (r->state.files[i].bytes > UINT64_MAX - wanted)
            return err_set(err, ERR_CORRUPT, "the files in the bucket are larger than any disk");
        wanted += r->state.files[i].bytes;
    }
    if (statvfs(r->dir, &vfs) < 0)
        return err_sys(err, errno, "looking at the free space of %s", r->dir);
    if (wanted <= (uint64_t)vfs.f_bavail * vfs.f_frsize)
        return 0;
    (void)err_set(err, ERR_NOSPACE, "the machine needs %llu MiB, and %llu MiB are free",
        (unsigned long long)(wanted >> 20), (unsigned long long)((uint64_t)vfs.f_bavail * vfs.f_frsize >> 20));
    return err_hint(err, "rebuild into a folder on a larger disk");
}

static bool is_ours(const struct rebuild *r, const char *path)
{
    struct bucket_entry e;

    return bucketmark_parse_path(path, &e) == 0 && bucketstate_file(&r->state, &e) != NULL;
}

static int remove_others(const struct rebuild *r, const char *folder, unsigned depth, struct err *err);

/* `path` in the machine's folder, which is `folder` and a name in it. */
static int keep_or_remove(const struct rebuild *r, const char *path, unsigned depth, struct err *err)
{
    AUTO_FREE char *full = mem_printf("%s/%s", r->dir, path);
    struct stat st;

    if (full == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rebuild a machine");
    if (lstat(full, &st) < 0)
        return err_sys(err, errno, "looking at %s", path);
    if (S_ISDIR(st.st_mode) && depth > 0)
        return remove_others(r, path, depth - 1, err);
    return is_ours(r, path) || strcmp(path, "meta") == 0 ? 0 : file_remove_tree(full, err);
}

/* What an earlier try fetched by marks that are not the newest ones any more. folder: "" is the machine's own. */
static int remove_others(const struct rebuild *r, const char *folder, unsigned depth, struct err *err)
{
    const char *between = folder[0] == '\0' ? "" : "/";
    AUTO_FREE char *full = mem_printf("%s/%s", r->dir, folder);
    DIR *dir = full == NULL ? NULL : opendir(full);
    int rc = 0;

    if (dir == NULL)
        return err_sys(err, full == NULL ? ENOMEM : errno, "listing %s", folder);
    for (const struct dirent *e; rc == 0 && (e = readdir(dir)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        AUTO_FREE char *path = mem_printf("%s%s%s", folder, between, e->d_name);
        rc = path == NULL ? err_set(err, ERR_NOMEM, "no memory to rebuild a machine")
                          : keep_or_remove(r, path, depth, err);
    }
    (void)closedir(dir);
    return rc < 0 ? -1 : file_sync_dir(full, err);
}

static int make_folders(const struct rebuild *r, struct err *err)
{
    AUTO_FREE char *main_dir = mem_printf("%s/main", r->dir);
    AUTO_FREE char *runs_dir = mem_printf("%s/runs", r->dir);

    if (main_dir == NULL || runs_dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rebuild a machine");
    return file_make_dirs(main_dir, 0700, err) < 0 ? -1 : file_make_dirs(runs_dir, 0700, err);
}

static int fetch_all(struct rebuild *r, struct err *err)
{
    AUTO_BUF struct buf data = BUF_INIT(FETCH_BYTES);

    if (buf_reserve(&data, FETCH_BYTES, err) < 0)
        return -1;
    for (size_t i = 0; i < r->state.count; i++)
        if (fetch_file(r, &r->state.files[i], &data, err) < 0)
            return -1;
    if (remove_others(r, "", FOLDERS_DEEP, err) < 0)
        return -1;
    const struct buf *manifest = &r->state.last.manifest;
    return manifest->len == 0 ? 0 : put_file(r, "manifest", manifest->data, manifest->len, err);
}

static int open_once(const struct rebuild *r, struct err *err)
{
    struct store_conf conf = {.dir = r->dir, .machine = r->machine, .vault_key = *r->key};
    struct store *s AUTO_OF(store) = NULL;
    int opened = store_open(&conf, &s, err);

    explicit_bzero(&conf, sizeof(conf));
    if (opened < 0)
        return -1;
    const struct pointlist *points = store_points(s);
    uint64_t point = points->count == 0 ? 0 : points->items[points->count - 1].sequence;
    if (store_committed(s) != r->state.last.committed.sequence || point < r->state.last.point)
        return err_set(err, ERR_CORRUPT,
            "the rebuilt log ends with change set %llu and point %llu, the mark says %llu and %llu",
            (unsigned long long)store_committed(s), (unsigned long long)point,
            (unsigned long long)r->state.last.committed.sequence, (unsigned long long)r->state.last.point);
    log_event(LOG_INFO, "machine_rebuilt", LOG_S("machine", r->id), LOG_U("points", points->count),
        LOG_U("point", point), LOG_U("sequence", store_committed(s)));
    return 0;
}

static int move_in(const struct rebuild *r, const char *data_dir, struct err *err)
{
    AUTO_FREE char *machines = mem_printf("%s/machines", data_dir);
    AUTO_FREE char *path = machines == NULL ? NULL : mem_printf("%s/%s", machines, r->id);

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rebuild a machine");
    if (file_sync_dir(r->dir, err) < 0)
        return -1;
    if (rename(r->dir, path) < 0)
        return err_sys(err, errno, "moving %s to its place", r->id);
    return file_sync_dir(machines, err);
}

static int try_once(struct rebuild *r, struct err *err)
{
    int found = bucketstate_load(&r->state, r->objects, err);

    if (found <= 0)
        return found < 0 ? -1 : err_set(err, ERR_NOT_FOUND, "its marks are not in the bucket any more");
    if (bucketstate_check(&r->state, err) < 0 || make_folders(r, err) < 0 || make_meta(r, err) < 0)
        return -1;
    return check_room(r, err) < 0 ? -1 : fetch_all(r, err);
}

int rebuild_machine(const char *data_dir, const struct vault_key *key, const struct ident *machine,
    struct object_store *objects, uint64_t *fetched_bytes, struct err *err)
{
    struct rebuild r = {.key = key, .machine = *machine, .objects = objects, .fetched_bytes = fetched_bytes};
    int rc = -1;

    ident_to_text(machine, r.id);
    r.dir = mem_printf("%s/rebuild/%s", data_dir, r.id);
    if (r.dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory to rebuild a machine");
    for (int attempt = 0; attempt < RELOADS && (attempt == 0 || r.vanished); attempt++) {
        bucketstate_init(&r.state, machine);
        r.vanished = false;
        rc = try_once(&r, err);
        if (rc == 0 && (rc = open_once(&r, err)) == 0)
            rc = move_in(&r, data_dir, err);
        bucketstate_done(&r.state);
    }
    free(r.dir);
    return rc;
}

/* ---- one file alone ---- */

int rebuild_fetch(const char *dir, const struct ident *machine, const struct bucket_file *f,
    struct object_store *objects, uint64_t *fetched_bytes, struct err *err)
{
    struct rebuild r = {.machine = *machine, .objects = objects, .fetched_bytes = fetched_bytes};
    AUTO_BUF struct buf data = BUF_INIT(FETCH_BYTES);
    struct err why = ERR_INIT;

    r.dir = mem_strdup(dir);
    if (r.dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory to fetch a file");
    int rc = buf_reserve(&data, FETCH_BYTES, &why) < 0 || fetch_file(&r, f, &data, &why) < 0 ? -1 : 1;
    free(r.dir);
    if (rc > 0 || r.vanished)
        return rc > 0 ? 1 : 0;
    err_copy(err, &why);
    return -1;
}
