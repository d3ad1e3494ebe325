/* SPDX-License-Identifier: Apache-2.0
 *
 * See secondcopy.h. The whole segment is fetched, not the record's bytes alone: its place in a segment that was rewritten is known only from
 * the table at its end, the hash of a piece is over all of it, and damage is rarely one record's.
 */
#include "transport/vault/secondcopy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/log/segment.h"
#include "transport/vault/object/object.h"
#include "transport/vault/rebuild.h"

struct secondcopy {
    const struct bucketconf *conf;
    const atomic_bool *stop;
    char *machine_dir;
    struct ident machine;
    struct object_store *objects;  /* NULL: not opened yet */
    uint64_t segment;              /* looked for last; 0: none */
    struct segment_reader *reader; /* NULL: the bucket does not have it */
    bool failed;
    struct err why;
};

int secondcopy_new(const struct bucketconf *conf, const atomic_bool *stop, const char *machine_dir,
    const struct ident *machine, struct secondcopy **ret_copy, struct err *err)
{
    struct secondcopy *c AUTO_OF(secondcopy) = mem_new(struct secondcopy);

    if (c == NULL || (c->machine_dir = mem_strdup(machine_dir)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a second copy");
    c->conf = conf;
    c->stop = stop;
    c->machine = *machine;
    *ret_copy = TAKE_PTR(c);
    return 0;
}

void secondcopy_free(struct secondcopy *c)
{
    if (c == NULL)
        return;
    segment_reader_close(c->reader);
    object_close(c->objects);
    free(c->machine_dir);
    free(c);
}

const struct err *secondcopy_failure(const struct secondcopy *c)
{
    return c->failed ? &c->why : NULL;
}

static char *folder_of(const char *machine_dir)
{
    return mem_printf("%s/second", machine_dir);
}

int secondcopy_sweep(const char *machine_dir, struct err *err)
{
    AUTO_FREE char *folder = folder_of(machine_dir);

    return folder == NULL ? err_set(err, ERR_NOMEM, "no memory for a second copy") : file_remove_tree(folder, err);
}

static int open_bucket(struct secondcopy *c, struct err *err)
{
    return c->objects == NULL ? bucketconf_open(c->conf, c->stop, &c->objects, err) : 0;
}

static int fetch_into(struct secondcopy *c, const char *folder, uint64_t segment, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/main", folder);
    uint64_t fetched_bytes = 0;

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a second copy");
    if (open_bucket(c, err) < 0 || file_make_dirs(path, 0700, err) < 0)
        return -1;
    int found = rebuild_segment(folder, &c->machine, c->objects, segment, &fetched_bytes, err);
    if (found <= 0)
        return found;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "opening %s", path);
    log_event(LOG_INFO, "second_copy_fetched", LOG_U("segment", segment), LOG_U("bytes", fetched_bytes));
    return segment_open(fd, segment, &c->reader, err);
}

/* Its segment is c->reader, or NULL when there is none. */
static int fetch(struct secondcopy *c, uint64_t segment, struct err *err)
{
    AUTO_FREE char *folder = folder_of(c->machine_dir);

    if (c->segment == segment)
        return 0;
    segment_reader_close(TAKE_PTR(c->reader));
    c->segment = segment;
    if (folder == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a second copy");
    if (secondcopy_sweep(c->machine_dir, err) < 0)
        return -1;
    int result = fetch_into(c, folder, segment, err);
    return secondcopy_sweep(c->machine_dir, result < 0 ? NULL : err) < 0 || result < 0 ? -1 : 0;
}

int secondcopy_read(
    void *copy, uint64_t segment, uint64_t offset, struct record *ret_record, uint8_t *payload, struct err *err)
{
    struct secondcopy *c = copy;

    if (!c->failed && fetch(c, segment, &c->why) < 0)
        c->failed = true;
    if (c->failed) {
        err_copy(err, &c->why);
        return -1;
    }
    return c->reader != NULL && segment_pread(c->reader, offset, ret_record, payload, RECORD_STORED_MAX, NULL) == 0;
}

/* 1: the file is there. */
static int segment_is_there(const struct secondcopy *c, uint64_t segment, struct err *err)
{
    char name[SEGMENT_NAME_SIZE];

    segment_name(segment, name);
    AUTO_FREE char *path = mem_printf("%s/main/%s", c->machine_dir, name);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a second copy");
    if (access(path, F_OK) == 0)
        return 1;
    return errno == ENOENT ? 0 : err_sys(err, errno, "looking for %s", path);
}

/* How many, from the first on. */
static int restore_missing(struct secondcopy *c, uint64_t segment, uint64_t *ret_count, struct err *err)
{
    uint64_t fetched_bytes = 0;

    for (;; segment++, ++*ret_count) {
        int there = segment_is_there(c, segment, err);
        if (there != 0)
            return there < 0 ? -1 : 0;
        if (open_bucket(c, err) < 0)
            return -1;
        int found = rebuild_segment(c->machine_dir, &c->machine, c->objects, segment, &fetched_bytes, err);
        if (found <= 0)
            return found;
        log_event(LOG_INFO, "segment_restored", LOG_U("segment", segment), LOG_U("fetched_bytes", fetched_bytes));
    }
}

int secondcopy_restore(void *copy, uint64_t segment, struct err *err)
{
    struct secondcopy *c = copy;
    uint64_t count = 0;

    if (!c->failed && restore_missing(c, segment, &count, &c->why) < 0)
        c->failed = true;
    if (count > 0)
        return 1;
    if (c->failed)
        err_copy(err, &c->why);
    return c->failed ? -1 : 0;
}
