/* SPDX-License-Identifier: Apache-2.0
 *
 * The branches of a machine on their way into the bucket. Which there are, the source says (taken on the lane, where they come and go); their
 * logs grow meanwhile, written by another process. Each goes up to its last mark, which is a flush of the disk: what is
 * rebuilt is the branch as at that flush. It is synced here before it is sent, so that no power failure takes from the vault what the bucket has.
 *
 * Failure modes: a branch that is discarded or promoted under our hands ends the turn without a mark (moved_on): the next source has the
 * main line with it, or has it no more. A damaged one stays in the bucket as it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/log.h"
#include "transport/vault/upload_private.h"

/* ---- one segment ---- */

/* What the file holds and the bucket does not, of a log that is not written to by us. */
struct growth_of {
    struct bucket_entry file;
    const struct bucket_file *there; /* NULL: nothing */
    int dirfd, fd;
    uint64_t size;
};

/* Where the last mark, or the seal, behind `from` ends; `from` when there is none. Damage ends the log here: opening the branch tells. */
static int find_end(int dirfd, uint64_t number, uint64_t from, uint64_t *ret_end, struct err *err)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    uint64_t offset = from == 0 ? SEGMENT_HEADER_SIZE : from;
    struct err why = ERR_INIT;
    int got = segment_open(dirfd, number, &reader, &why);

    *ret_end = from;
    if (got == 0)
        got = 1;
    while (got > 0) {
        struct record r;
        const uint8_t *payload;
        got = segment_read_next(reader, &offset, &r, &payload, &why);
        if (got > 0 && (r.kind == RECORD_MARK || r.kind == RECORD_SEAL))
            *ret_end = offset;
    }
    if (got == 0 || why.code == ERR_CORRUPT || why.code == ERR_NOT_FOUND)
        return 0;
    err_copy(err, &why);
    return -1;
}

static bool is_same_so_far(const struct growth_of *g, struct err *err)
{
    for (size_t i = 0; i < g->there->count; i++) {
        const struct bucket_piece *p = &g->there->pieces[i];
        struct hash128 hash;
        if (p->offset + p->bytes > g->size || upload_hash(g->fd, p->offset, p->bytes, &hash, err) < 0 ||
            !hash_equal(&hash, &p->hash))
            return false;
    }
    return true;
}

/* The last one: from where the bucket has it up to its last mark. */
static int send_growing(struct upload_turn *t, const struct growth_of *g, struct err *err)
{
    uint64_t from = g->there == NULL ? 0 : g->there->bytes, end;

    if (g->there != NULL && !t->u->branches_checked && !is_same_so_far(g, err)) {
        err_clear(err);
        from = 0;
    }
    if (from == g->size)
        return 0;
    if (find_end(g->dirfd, g->file.number, from, &end, err) < 0)
        return -1;
    if (end == from)
        return 0;
    if (fdatasync(g->fd) < 0)
        return err_sys(err, errno, "syncing a branch");
    if (g->there != NULL && g->there->count >= UPLOAD_PIECES_MAX)
        from = 0;
    return upload_send_file(t, &g->file, g->fd, from, end, false, err);
}

static int send_segment(struct upload_turn *t, struct growth_of *g, bool is_last, struct err *err)
{
    char name[SEGMENT_NAME_SIZE];
    struct stat st;

    segment_name(g->file.number, name);
    AUTO_CLOSE int fd = openat(g->dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? upload_moved_on(t, err) : err_sys(err, errno, "opening segment %s of a branch", name);
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "looking at segment %s of a branch", name);
    g->fd = fd;
    g->size = (uint64_t)st.st_size;
    g->there = bucketstate_file(&t->u->state, &g->file);
    if (is_last)
        return send_growing(t, g, err);
    if (g->there != NULL && g->there->count == 1 && g->there->bytes == g->size)
        return 0;
    return upload_send_file(t, &g->file, fd, 0, g->size, true, err);
}

/* ---- one branch ---- */

static uint64_t last_segment(int dirfd)
{
    char name[SEGMENT_NAME_SIZE];

    for (uint64_t number = 1;; number++) {
        segment_name(number, name);
        if (faccessat(dirfd, name, F_OK, 0) < 0)
            return number - 1;
    }
}

/* 1: all of it; 0: the turn's share is used up. */
static int send_log(struct upload_turn *t, const struct ident *owner, int dirfd, struct err *err)
{
    uint64_t last = last_segment(dirfd);

    for (uint64_t number = 1; number <= last; number++) {
        struct growth_of g = {
            .file = {.kind = BUCKET_BRANCH_SEGMENT, .owner = *owner, .number = number}, .dirfd = dirfd};
        if (t->result->sent_bytes >= t->u->turn_bytes)
            return 0;
        if (send_segment(t, &g, number == last, err) < 0)
            return -1;
    }
    return 1;
}

static bool is_promoted(int dirfd)
{
    return faccessat(dirfd, "promotion", F_OK, 0) == 0;
}

/* The file `branch`: as upload_send_small. Another one than there was is another branch, of the same id: nothing that the bucket has belongs to
 * it. */
static int send_info(struct upload_turn *t, const struct bucket_entry *info, struct err *err)
{
    const struct bucketstate *st = &t->u->state;
    bool was_there = bucketstate_file(st, info) != NULL;
    size_t before = t->u->changes.count;
    int rc = upload_send_small(t, info, err);

    if (rc <= 0 || !was_there || t->u->changes.count == before)
        return rc;
    for (size_t i = st->count; i > 0; i--) {
        const struct bucket_entry file = {
            .kind = st->files[i - 1].kind, .owner = st->files[i - 1].owner, .number = st->files[i - 1].number};
        if (file.kind == BUCKET_BRANCH_SEGMENT && ident_equal(&file.owner, &info->owner) &&
            upload_send_gone(t, &file, err) < 0)
            return -1;
    }
    return rc;
}

/* As send_log. The note of a promotion is durable before anything of the branch is changed: what was read while it was not there is right. */
static int send_branch(struct upload_turn *t, const struct branch_entry *b, struct err *err)
{
    const struct bucket_entry info = {.kind = BUCKET_BRANCH, .owner = b->info.id, .number = 1};
    AUTO_FREE char *path = mem_printf("%s/branches/%s", t->src->dir, b->name);
    AUTO_CLOSE int dirfd = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dirfd < 0)
        return path != NULL && errno == ENOENT ? upload_moved_on(t, err) : err_sys(err, errno, "opening a branch");
    if (is_promoted(dirfd)) /* and it was when the source was taken: it waits for something */
        return 1;
    int rc = send_info(t, &info, err);
    if (rc == 0)
        return upload_moved_on(t, err);
    if (rc > 0)
        rc = send_log(t, &b->info.id, dirfd, err);
    return rc >= 0 && is_promoted(dirfd) ? upload_moved_on(t, err) : rc;
}

/* Can it be opened over what the bucket has of the main line? */
static bool is_sendable(const struct upload_turn *t, const struct branch_entry *b)
{
    struct ident id;

    return !b->damaged && b->info.base_sequence <= t->src->committed.sequence && ident_from_text(b->name, &id) == 0 &&
           ident_equal(&id, &b->info.id);
}

/* ---- all ---- */

static bool is_listed(const struct branch_list *list, const struct ident *owner)
{
    for (size_t i = 0; i < list->count; i++)
        if (ident_equal(&list->items[i].info.id, owner))
            return true;
    return false;
}

static int drop_gone(struct upload_turn *t, struct err *err)
{
    const struct bucketstate *st = &t->u->state;

    for (size_t i = st->count; i > 0; i--) {
        const struct bucket_entry file = {
            .kind = st->files[i - 1].kind, .owner = st->files[i - 1].owner, .number = st->files[i - 1].number};
        if (!ident_is_zero(&file.owner) && !is_listed(&t->src->branches, &file.owner) &&
            upload_send_gone(t, &file, err) < 0)
            return -1;
    }
    return 0;
}

int upload_branches(struct upload_turn *t, struct err *err)
{
    const struct branch_list *list = &t->src->branches;

    for (size_t i = 0; i < list->count; i++) {
        int sent = is_sendable(t, &list->items[i]) ? send_branch(t, &list->items[i], err) : 1;
        if (sent <= 0)
            return sent;
    }
    t->u->branches_checked = true;
    return drop_gone(t, err) < 0 ? -1 : 1;
}
