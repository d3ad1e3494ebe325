/* SPDX-License-Identifier: Apache-2.0
 *
 * A turn: first what the bucket has (its marks, once), then the difference to the folder, oldest segment first, then the mark.
 *
 * Failure modes: the bucket holds a machine that is not this one, or a log that ours does not continue (the vault lost change sets that
 * the bucket has, or was restored from an old copy): ERR_CONFLICT, and nothing is touched.
 */
#include "transport/vault/upload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/bytes.h"
#include "transport/vault/bucketbelong.h"
#include "transport/vault/upload_private.h"

enum {
    TURN_BYTES = 256 << 20, /* then another machine has its turn */
    META_CREATED = 40,      /* offset in meta */
    POINTS_ROW = 64,
};

/* ---- what went ---- */

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
    case BUCKET_SEGMENT: /* the vault itself removes none: what is missing within the log is damage, which the bucket heals */
        return f->number > t->src->committed.segment && upload_folder_find(folder, f->number) == NULL;
    case BUCKET_RUN:
        return !manifest_has(&t->src->manifest, f->number);
    case BUCKET_POINTS:
        return f->number != t->src->manifest.points_id || t->src->manifest.point_count == 0;
    default: /* what is beside the log: upload_side.c, upload_branch.c */
        return false;
    }
}

static int drop_gone(struct upload_turn *t, const struct folder *folder, struct err *err)
{
    struct bucketstate *st = &t->u->state;

    for (size_t i = st->count; i > 0; i--) /* from behind: each one that goes moves those behind it */
        if (is_gone(t, folder, &st->files[i - 1])) {
            const struct bucket_entry gone = {.kind = st->files[i - 1].kind, .number = st->files[i - 1].number};
            if (upload_send_gone(t, &gone, err) < 0)
                return -1;
        }
    return 0;
}

/* ---- what came ---- */

static uint64_t bytes_there(const struct upload_turn *t, enum bucket_kind kind, uint64_t number)
{
    const struct bucket_file *f = bucketstate_find(&t->u->state, kind, number);

    return f == NULL ? 0 : f->bytes;
}

/* 1: all are there; 0: the turn's share is used up, and *ret_sent of them are there. */
static int send_segments(struct upload_turn *t, const struct folder *folder, size_t *ret_sent, struct err *err)
{
    for (size_t i = 0; i < folder->count; i++) {
        *ret_sent = i;
        if (t->result->sent_bytes >= t->u->turn_bytes)
            return 0;
        if (upload_segment(t, folder, &folder->segments[i], err) < 0)
            return -1;
    }
    return 1;
}

/* Is this the last segment that the bucket has? Then those up to it are a log. */
static bool is_last_there(const struct upload_turn *t, uint64_t number)
{
    const struct bucketstate *st = &t->u->state;
    uint64_t last = 0;

    for (size_t i = 0; i < st->count && st->files[i].kind == BUCKET_SEGMENT; i++)
        last = st->files[i].number;
    return last == number;
}

/* A mark over the first `sent` segments, which end where the next one begins. The index is of no use for it: it is made again from the log. */
static int mark_so_far(struct upload_turn *t, const struct folder *folder, size_t sent, struct err *err)
{
    struct segment_reader *next AUTO_OF(segment_reader) = NULL;
    const struct bucketmark *last = &t->u->state.last;
    struct upload_source so_far = *t->src;

    keyring_cleanse(&so_far.keys); /* a mark needs none */
    if (sent == 0 || !is_last_there(t, folder->segments[sent - 1].number))
        return 0;
    if (segment_open(folder->main_fd, folder->segments[sent].number, &next, err) < 0)
        return -1;
    so_far.committed = (struct log_position){.sequence = segment_reader_info(next)->first_sequence - 1,
        .segment = folder->segments[sent - 1].number,
        .offset = folder->segments[sent - 1].bytes};
    if (so_far.committed.sequence <= last->committed.sequence)
        return 0;
    so_far.point = last->point; /* newer ones are there, and which only the log tells */
    so_far.point_time_utc_usec = last->point_time_utc_usec;
    so_far.manifest_bytes.len = 0;
    struct upload_turn over_it = *t;
    over_it.src = &so_far;
    return upload_send_mark(&over_it, err);
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
        AUTO_CLOSE int fd = upload_open_file(t, name, err);
        if (fd < 0)
            return -1;
        if (fstat(fd, &st) < 0)
            return err_sys(err, errno, "looking at %s", name);
        const struct bucket_entry file = {.kind = BUCKET_RUN, .number = id};
        if (upload_send_file(t, &file, fd, 0, (uint64_t)st.st_size, true, err) < 0)
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
    AUTO_CLOSE int fd = name == NULL ? err_set(err, ERR_NOMEM, "no memory for a path") : upload_open_file(t, name, err);
    if (fd < 0)
        return -1;
    if (from > to || (there != NULL && there->count >= UPLOAD_PIECES_MAX))
        from = 0;
    const struct bucket_entry file = {.kind = BUCKET_POINTS, .number = m->points_id};
    return upload_send_file(t, &file, fd, from, to, from == 0, err);
}

/* ---- does it belong together? ---- */

static int check_belongs(struct upload_turn *t, const struct folder *folder, struct err *err)
{
    const struct bucketbelong b = {.state = &t->u->state,
        .objects = t->objects,
        .main_fd = folder->main_fd,
        .created_utc_usec = get_le64(t->src->meta + META_CREATED),
        .committed = t->src->committed.sequence};

    return bucketbelong_check(&b, err) < 0 ? -1 : 0;
}

static void forget(struct upload *u)
{
    bucketstate_done(&u->state);
    bucketstate_init(&u->state, &u->machine);
    free(u->changes.items);
    free(u->doomed.items);
    free(u->held);
    u->held = NULL;
    u->held_count = 0;
    u->changes = u->doomed = (struct entry_list){0};
    u->swept = u->branches_checked = u->mends_known = false;
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
        uint64_t wanted = upload_bytes_wanted(t, &folder->segments[i]);
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
    size_t sent = 0;

    if (upload_folder_open(folder, t, err) < 0 || (!t->u->loaded && load(t, folder, err) < 0))
        return -1;
    if (drop_gone(t, folder, err) < 0 || upload_side(t, err) < 0)
        return -1;
    int all = send_segments(t, folder, &sent, err);
    t->result->more = all == 0;
    if (all <= 0)
        return all < 0 ? -1 : mark_so_far(t, folder, sent, err);
    if (send_runs(t, err) < 0 || send_points(t, err) < 0)
        return -1;
    all = upload_branches(t, err);
    if (all < 0)
        return -1;
    t->result->more = all == 0;
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
    upload_folder_done(&folder);
    if (rc == 0 || !t.moved_on)
        return rc;
    ret_result->more = true;
    err_clear(err);
    return 0;
}

int upload_new(const struct ident *machine, uint64_t turn_bytes, struct upload **ret_upload, struct err *err)
{
    struct upload *u = mem_new(struct upload);

    if (u == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an upload");
    u->machine = *machine;
    u->turn_bytes = turn_bytes == 0 ? TURN_BYTES : turn_bytes;
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
