/* SPDX-License-Identifier: Apache-2.0
 *
 * See secondcopy.h. The whole segment is fetched, not the record's bytes alone: its place in a segment that was rewritten is known only from
 * the table at its end, the hash of a piece is over all of it, and damage is rarely one record's.
 *
 * The marks are read once, and again when an object that they name has gone: the uploader, which goes on beside this, takes away what it has replaced.
 */
#include "transport/vault/secondcopy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/log/segment.h"
#include "transport/vault/bucketbelong.h"
#include "transport/vault/rebuild.h"
#include "transport/vault/secondcheck.h"
#include "transport/vault/storemeta.h"

enum { RELOADS = 3 };

struct segments {
    uint64_t *numbers;
    unsigned count;
};

struct secondcopy {
    struct secondcopy_spec spec;
    char *folder;                 /* MACHINE/second */
    struct object_store *objects; /* NULL: not opened yet */
    struct bucketstate state;
    struct store_meta meta;
    bool loaded, is_ours;          /* state and meta are there; bucketbelong_check said 1 */
    uint64_t segment;              /* looked for last; 0: none */
    struct segment_reader *reader; /* NULL: the bucket does not have it, or it is no good */
    uint64_t reader_end;           /* its records up to there are the vault's */
    struct segments bad;           /* that are no good there */
    struct err why_bad;            /* the first of them */
    struct segments restored;
    bool failed;
    struct err why;
    uint64_t fetched_bytes;
};

int secondcopy_new(const struct secondcopy_spec *spec, struct secondcopy **ret_copy, struct err *err)
{
    struct secondcopy *c AUTO_OF(secondcopy) = mem_new(struct secondcopy);

    if (c == NULL || (c->folder = mem_printf("%s/second", spec->machine_dir)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a second copy");
    c->spec = *spec;
    bucketstate_init(&c->state, &spec->machine);
    *ret_copy = TAKE_PTR(c);
    return 0;
}

void secondcopy_free(struct secondcopy *c)
{
    if (c == NULL)
        return;
    segment_reader_close(c->reader);
    bucketstate_done(&c->state);
    if (c->objects != c->spec.objects)
        object_close(c->objects);
    free(c->bad.numbers);
    free(c->restored.numbers);
    free(c->folder);
    free(c);
}

const struct err *secondcopy_failure(const struct secondcopy *c)
{
    return c->failed ? &c->why : NULL;
}

unsigned secondcopy_bad(const struct secondcopy *c, const struct err **ret_why)
{
    *ret_why = &c->why_bad;
    return c->bad.count;
}

uint64_t secondcopy_fetched_bytes(const struct secondcopy *c)
{
    return c->fetched_bytes;
}

int secondcopy_sweep(const char *machine_dir, struct err *err)
{
    AUTO_FREE char *folder = mem_printf("%s/second", machine_dir);

    return folder == NULL ? err_set(err, ERR_NOMEM, "no memory for a second copy") : file_remove_tree(folder, err);
}

/* ---- the bucket ---- */

static int open_bucket(struct secondcopy *c, struct err *err)
{
    if (c->objects == NULL)
        c->objects = c->spec.objects;
    return c->objects == NULL ? bucketconf_open(c->spec.bucket, c->spec.stop, &c->objects, err) : 0;
}

static int open_main(const char *dir, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/main", dir);
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? err_sys(err, path == NULL ? ENOMEM : errno, "opening the log in %s", dir) : fd;
}

static int check_belongs(struct secondcopy *c, struct err *err)
{
    AUTO_CLOSE int main_fd = open_main(c->spec.machine_dir, err);
    const struct bucketbelong b = {.state = &c->state,
        .objects = c->objects,
        .main_fd = main_fd,
        .created_utc_usec = c->meta.created_utc_usec,
        .committed = c->spec.committed};
    int same = main_fd < 0 ? -1 : bucketbelong_check(&b, err);

    c->is_ours = same > 0;
    return same < 0 ? -1 : 0;
}

/* The bucket may hold nothing of the machine: then there are no files in the state. The vault's own is read after it: uploads go on beside
 * this, and whatever the bucket has by then, the vault had before. */
static int load(struct secondcopy *c, struct err *err)
{
    bucketstate_done(&c->state);
    bucketstate_init(&c->state, &c->spec.machine);
    c->loaded = false;
    int found = open_bucket(c, err) < 0 ? -1 : bucketstate_load(&c->state, c->objects, err);
    if (found < 0 || storemeta_load(c->spec.machine_dir, &c->meta, err) < 0 || (found > 0 && check_belongs(c, err) < 0))
        return -1;
    c->loaded = true;
    return 0;
}

/* ---- what is no good ---- */

static bool is_among(const struct segments *s, uint64_t segment)
{
    for (unsigned i = 0; i < s->count; i++)
        if (s->numbers[i] == segment)
            return true;
    return false;
}

static int add_segment(struct segments *s, uint64_t segment, struct err *err)
{
    uint64_t *numbers = mem_resize(s->numbers, s->count + 1, sizeof(*numbers));

    if (numbers == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a second copy");
    s->numbers = numbers;
    s->numbers[s->count++] = segment;
    return 0;
}

static bool is_bad(const struct secondcopy *c, uint64_t segment)
{
    return is_among(&c->bad, segment);
}

/* Does it concern this segment alone? Then the others are still asked for. */
static bool is_ones_own(const struct err *why)
{
    return why->code == ERR_CORRUPT || why->code == ERR_UNSUPPORTED || why->code == ERR_CONFLICT;
}

static int note_bad(struct secondcopy *c, uint64_t segment, const struct err *why, struct err *err)
{
    if (add_segment(&c->bad, segment, err) < 0)
        return -1;
    if (c->bad.count == 1)
        err_copy(&c->why_bad, why);
    log_event(LOG_WARN, "second_copy_bad", LOG_U("segment", segment), LOG_E(why));
    return 0;
}

/* ---- one segment ---- */

/* Into c->folder. 1; 0: the bucket does not have it. */
static int fetch(struct secondcopy *c, uint64_t segment, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/main", c->folder);
    uint64_t before = c->fetched_bytes;
    int got = 0;

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a second copy");
    if (file_remove_tree(c->folder, err) < 0 || file_make_dirs(path, 0700, err) < 0)
        return -1;
    for (int attempt = 0; got == 0 && attempt < RELOADS; attempt++) {
        if ((attempt > 0 || !c->loaded) && load(c, err) < 0)
            return -1;
        const struct bucket_file *f = bucketstate_find(&c->state, BUCKET_SEGMENT, segment);
        if (f == NULL)
            return 0;
        got = rebuild_fetch(c->folder, &c->spec.machine, f, c->objects, &c->fetched_bytes, err);
    }
    if (got == 0)
        return err_set(
            err, ERR_CORRUPT, "an object of segment %llu is missing in the bucket", (unsigned long long)segment);
    if (got > 0)
        log_event(
            LOG_INFO, "second_copy_fetched", LOG_U("segment", segment), LOG_U("bytes", c->fetched_bytes - before));
    return got;
}

static struct secondcheck check_of(const struct secondcopy *c)
{
    return (struct secondcheck){.machine_dir = c->spec.machine_dir,
        .copy_dir = c->folder,
        .meta = &c->meta,
        .keys = c->spec.keys,
        .points = c->spec.points,
        .is_ours = c->is_ours};
}

/* Its segment is c->reader then, or NULL. */
static int open_records(struct secondcopy *c, uint64_t segment, struct err *err)
{
    int got = fetch(c, segment, err);
    if (got <= 0)
        return got;
    const struct secondcheck check = check_of(c);
    AUTO_CLOSE int fd = open_main(c->folder, err);

    if (fd < 0 || secondcheck_records(&check, segment, &c->reader_end, err) < 0)
        return -1;
    return segment_open(fd, segment, &c->reader, err);
}

/* What went wrong is the segment's own (0, noted), or ends it for the whole copy (-1). */
static int take_failure(struct secondcopy *c, uint64_t segment, const struct err *why)
{
    /* While the state is not there yet, it is not about one segment. */
    if (c->loaded && is_ones_own(why) && note_bad(c, segment, why, &c->why) == 0)
        return 0;
    if (!c->loaded || !is_ones_own(why))
        err_copy(&c->why, why);
    c->failed = true;
    return -1;
}

static int refuse(const struct secondcopy *c, struct err *err)
{
    err_copy(err, c->failed ? &c->why : &c->why_bad);
    return -1;
}

int secondcopy_read(
    void *copy, uint64_t segment, uint64_t offset, struct record *ret_record, uint8_t *payload, struct err *err)
{
    struct secondcopy *c = copy;
    struct err why = ERR_INIT;

    if (!c->failed && c->segment != segment && !is_bad(c, segment)) {
        segment_reader_close(TAKE_PTR(c->reader));
        c->segment = segment;
        if (open_records(c, segment, &why) < 0)
            (void)take_failure(c, segment, &why);
        (void)file_remove_tree(c->folder, NULL); /* it stays open; what is left is swept the next time */
    }
    if (c->failed || is_bad(c, segment))
        return refuse(c, err);
    return c->reader != NULL && c->segment == segment && offset < c->reader_end &&
           segment_pread(c->reader, offset, ret_record, payload, RECORD_STORED_MAX, NULL) == 0;
}

/* ---- putting one back ---- */

/* 1: something of the file can be read; 0: it is missing, or not even its header is right. */
static int is_readable(int main_fd, uint64_t segment, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    struct err why = ERR_INIT;

    if (segment_open(main_fd, segment, &reader, &why) == 0)
        return 1;
    if (why.code == ERR_NOT_FOUND || why.code == ERR_CORRUPT || why.code == ERR_IO)
        return 0;
    err_copy(err, &why);
    return -1;
}

static int move_in(const struct secondcopy *c, uint64_t segment, int main_fd, struct err *err)
{
    char name[SEGMENT_NAME_SIZE];
    AUTO_CLOSE int from_fd = open_main(c->folder, err);

    segment_name(segment, name);
    if (from_fd < 0)
        return -1;
    if (renameat(from_fd, name, main_fd, name) < 0)
        return err_sys(err, errno, "putting segment %s back", name);
    return fsync(main_fd) < 0 ? err_sys(err, errno, "syncing the log") : 0;
}

/* 1: it is there now, and good; 0: it needs none, or the bucket does not have it. */
static int restore_one(struct secondcopy *c, uint64_t segment, bool is_damaged, int main_fd, struct err *err)
{
    bool is_sealed = segment < c->spec.writes_from;
    int there = !is_sealed ? 1 : is_damaged ? 0 : is_readable(main_fd, segment, err);
    int got = there != 0 ? 0 : fetch(c, segment, err);

    if (there < 0 || got <= 0)
        return there < 0 ? -1 : got;
    const struct secondcheck check = check_of(c);
    if (secondcheck_whole(&check, segment, err) < 0 || move_in(c, segment, main_fd, err) < 0)
        return -1;
    log_event(LOG_INFO, "segment_restored", LOG_U("segment", segment));
    return add_segment(&c->restored, segment, err) < 0 ? -1 : 1;
}

int secondcopy_restore(void *copy, uint64_t segment, bool is_damaged, struct err *err)
{
    struct secondcopy *c = copy;
    struct err why = ERR_INIT;
    uint64_t next = segment;
    AUTO_CLOSE int main_fd = c->failed || is_bad(c, segment) ? -1 : open_main(c->spec.machine_dir, &why);
    int got = main_fd < 0 ? -1 : 1;

    if (is_among(&c->restored, segment))
        return 1;
    if (main_fd < 0 && why.code == ERR_NONE)
        return refuse(c, err);
    while (got > 0 && (got = restore_one(c, next, is_damaged && next == segment, main_fd, &why)) > 0)
        next++;
    (void)file_remove_tree(c->folder, NULL);
    if (got < 0)
        (void)take_failure(c, next, &why);
    if (next > segment)
        return 1;
    return got < 0 ? refuse(c, err) : 0;
}
