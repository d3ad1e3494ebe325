/* SPDX-License-Identifier: Apache-2.0
 *
 * What lies beside a machine's log and is not made again from it: the retention lock, the older data keys, the list of damage, the mended records. They are
 * small, replaced as a whole, and go to the bucket first: while a large log is still on its way, its lock is there already.
 *
 * A retention lock never goes from the bucket, and a damaged one does not take the place of a good one: the vault holds everything locked
 * then, and a vault that is rebuilt has the lock as it was.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/vault/keyring.h"
#include "transport/vault/storelock.h"
#include "transport/vault/upload_private.h"

/* ---- one file ---- */

static bool is_same(const struct bucket_file *there, uint64_t bytes, const struct hash128 *hash)
{
    return there != NULL && there->count == 1 && there->bytes == bytes && hash_equal(&there->pieces[0].hash, hash);
}

static int send_open_file(struct upload_turn *t, const struct bucket_entry *file, int fd, struct err *err)
{
    struct hash128 hash;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "looking at a file of the vault");
    if (st.st_size == 0)
        return 0;
    if (upload_hash(fd, 0, (uint64_t)st.st_size, &hash, err) < 0)
        return -1;
    if (is_same(bucketstate_file(&t->u->state, file), (uint64_t)st.st_size, &hash))
        return 0;
    return upload_send_file(t, file, fd, 0, (uint64_t)st.st_size, true, err);
}

int upload_send_small(struct upload_turn *t, const struct bucket_entry *file, struct err *err)
{
    char name[BUCKETMARK_PATH_SIZE];

    bucketmark_path(file, name);
    AUTO_FREE char *path = mem_printf("%s/%s", t->src->dir, name);
    AUTO_CLOSE int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0)
        return send_open_file(t, file, fd, err) < 0 ? -1 : 1;
    if (path == NULL || errno != ENOENT)
        return err_sys(err, path == NULL ? ENOMEM : errno, "opening %s", name);
    return 0;
}

static int send_lock(struct upload_turn *t, struct err *err)
{
    const struct bucket_entry file = {.kind = BUCKET_LOCKS, .number = 1};
    struct storelock lock;

    if (storelock_load(t->src->dir, &t->u->machine, &lock, err) < 0)
        return -1;
    if (lock.damaged && bucketstate_file(&t->u->state, &file) != NULL)
        return 0;
    return upload_send_small(t, &file, err);
}

/* Before the first mark whose meta needs it: it is on disk before that meta is. One that is damaged does not take the place of a good one, which is
 * what it can be put back from. */
static int send_keys(struct upload_turn *t, struct err *err)
{
    const struct bucket_entry file = {.kind = BUCKET_KEYS, .number = 1};
    struct err why = ERR_INIT;

    if (keyring_check(t->src->dir, &t->u->machine, &why) < 0 && why.code == ERR_CORRUPT) {
        log_event(LOG_ERROR, "keys_damaged", LOG_E(&why));
        return 0;
    }
    return upload_send_small(t, &file, err) < 0 ? -1 : 0;
}

static int send_quarantine(struct upload_turn *t, struct err *err)
{
    const struct bucket_entry file = {.kind = BUCKET_QUARANTINE, .number = 1};
    int there = upload_send_small(t, &file, err);

    if (there != 0 || bucketstate_file(&t->u->state, &file) == NULL)
        return there < 0 ? -1 : 0;
    return upload_send_gone(t, &file, err);
}

/* ---- mended records ---- */

static bool is_mend_name(const char *name, struct bucket_entry *ret_file)
{
    char path[BUCKETMARK_PATH_SIZE];

    return strlen(name) < sizeof(path) - 8 && snprintf(path, sizeof(path), "mend/%s", name) > 0 &&
           bucketmark_parse_path(path, ret_file) == 0;
}

static int send_listed_mends(struct upload_turn *t, DIR *dir, struct err *err)
{
    struct bucket_entry file;

    for (const struct dirent *e; (e = readdir(dir)) != NULL;)
        if (is_mend_name(e->d_name, &file) && upload_send_small(t, &file, err) < 0)
            return -1;
    return 0;
}

static int drop_gone_mends(struct upload_turn *t, struct err *err)
{
    const struct bucketstate *st = &t->u->state;
    char name[BUCKETMARK_PATH_SIZE];

    for (size_t i = st->count; i > 0; i--) {
        const struct bucket_entry file = {.kind = st->files[i - 1].kind, .number = st->files[i - 1].number};
        if (file.kind != BUCKET_MEND)
            continue;
        bucketmark_path(&file, name);
        AUTO_FREE char *path = mem_printf("%s/%s", t->src->dir, name);
        if (path == NULL)
            return err_set(err, ERR_NOMEM, "no memory for a path");
        if (access(path, F_OK) < 0 && errno == ENOENT && upload_send_gone(t, &file, err) < 0)
            return -1;
    }
    return 0;
}

/* A record is mended once; what comes and goes changes the folder's time. One that changed just now may change again within its grain. */
static bool is_known(const struct upload *u, const struct stat *st)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return u->mends_known && st->st_mtim.tv_sec == u->mends_time.tv_sec &&
           st->st_mtim.tv_nsec == u->mends_time.tv_nsec && now.tv_sec > st->st_mtim.tv_sec + 1;
}

static int send_mends(struct upload_turn *t, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/mend", t->src->dir);
    struct stat st = {0};
    DIR *dir = path == NULL ? NULL : opendir(path);

    if (dir == NULL && (path == NULL || errno != ENOENT))
        return err_sys(err, path == NULL ? ENOMEM : errno, "listing the mended records");
    if (dir != NULL && fstat(dirfd(dir), &st) == 0 && is_known(t->u, &st)) {
        (void)closedir(dir);
        return 0;
    }
    int rc = dir == NULL ? 0 : send_listed_mends(t, dir, err);
    if (dir != NULL)
        (void)closedir(dir);
    if (rc < 0 || drop_gone_mends(t, err) < 0)
        return -1;
    t->u->mends_time = st.st_mtim;
    t->u->mends_known = dir != NULL;
    return 0;
}

int upload_side(struct upload_turn *t, struct err *err)
{
    return send_lock(t, err) < 0 || send_keys(t, err) < 0 || send_quarantine(t, err) < 0 || send_mends(t, err) < 0 ? -1
                                                                                                                   : 0;
}
