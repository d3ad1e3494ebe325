/* SPDX-License-Identifier: Apache-2.0
 *
 * Finishing a promotion that was noted, segment by segment: its patch (segment_relabel.h) is made and made durable beside it, written into
 * it, and the segment renamed into the main line. Whatever crashes in between, doing it again comes to the same end: a segment that
 * is not in the branch's folder any more has been moved; a patch that is there belongs to the first one that is. Then the folder goes.
 * Until the last segment is there the log ends with a mark that is no point, so nobody sees half a branch.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/bytes.h"
#include "transport/base/crashpoint.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/log/mark.h"
#include "transport/log/segment_relabel.h"
#include "transport/vault/branchlist.h"
#include "transport/vault/promote_private.h"

#define NOTE_MAGIC "LWPRO\0\0\1"
#define NOTE_SIZE 104u
#define PATCH_MAGIC "LWPAT\0\0\1"
#define PATCH_HEAD 32u         /* magic, segment, hash of the rest */
#define PATCH_MAX (256u << 20) /* a mark takes at least 200 bytes of a segment, and little more of a patch */

struct finish {
    const char *machine_dir;
    char *dir; /* of the branch */
    int dirfd, mainfd;
    struct promotion note;
};

/* ---- the note ---- */

int promote_note(const char *branch_dir, const struct promotion *p, struct err *err)
{
    uint8_t out[NOTE_SIZE] = {0};
    char *path AUTO_FREE = mem_printf("%s/promotion", branch_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to promote a branch");
    const uint64_t numbers[] = {
        p->after_segment, p->first_sequence, p->generation, p->epoch, p->point_utc_usec, p->segments};
    memcpy(out, NOTE_MAGIC, 8);
    memcpy(out + 8, p->branch.bytes, IDENT_SIZE);
    memcpy(out + 24, p->machine.bytes, IDENT_SIZE);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        put_le64(out + 40 + 8 * i, numbers[i]);
    hash_seal(out, NOTE_SIZE - HASH_SIZE);
    return file_replace(path, out, sizeof(out), 0600, err);
}

static int note_decode(const uint8_t *in, size_t n, struct promotion *p, struct err *err)
{
    if (n != NOTE_SIZE || memcmp(in, NOTE_MAGIC, 7) != 0)
        return err_set(err, ERR_CORRUPT, "the note of a promotion is none");
    if (in[7] != (uint8_t)NOTE_MAGIC[7])
        return err_set(err, ERR_UNSUPPORTED, "the note of a promotion has the unknown version %u", in[7]);
    if (!hash_is_sealed(in, NOTE_SIZE))
        return err_set(err, ERR_CORRUPT, "the note of a promotion is damaged");
    memcpy(p->branch.bytes, in + 8, IDENT_SIZE);
    memcpy(p->machine.bytes, in + 24, IDENT_SIZE);
    uint64_t *const numbers[] = {
        &p->after_segment, &p->first_sequence, &p->generation, &p->epoch, &p->point_utc_usec, &p->segments};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        *numbers[i] = get_le64(in + 40 + 8 * i);
    return 0;
}

/* 1; 0: the branch is not being promoted. */
static int note_load(const char *branch_dir, struct promotion *p, struct err *err)
{
    struct buf content AUTO_BUF = BUF_INIT(4096);
    struct err why = ERR_INIT;
    char *path AUTO_FREE = mem_printf("%s/promotion", branch_dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to promote a branch");
    if (file_read(path, &content, &why) < 0) {
        err_copy(err, &why);
        return why.code == ERR_NOT_FOUND ? 0 : -1;
    }
    return note_decode(content.data, content.len, p, err) < 0 ? -1 : 1;
}

/* ---- one segment ---- */

static bool patch_is_for(const struct buf *patch, uint64_t number)
{
    struct hash128 hash;
    if (patch->len < PATCH_HEAD || memcmp(patch->data, PATCH_MAGIC, 8) != 0 || get_le64(patch->data + 8) != number)
        return false;
    hash_128(patch->data + PATCH_HEAD, patch->len - PATCH_HEAD, &hash);
    return memcmp(patch->data + 16, hash.bytes, HASH_SIZE) == 0;
}

static int patch_make(
    struct finish *f, uint64_t n, uint64_t first, const char *path, struct buf *patch, struct err *err)
{
    uint8_t head[PATCH_HEAD] = PATCH_MAGIC;
    struct hash128 hash;
    uint64_t next;
    struct segment_relabel spec = {.number = f->note.after_segment + n,
        .first_sequence = first,
        .generation = f->note.generation,
        .epoch = f->note.epoch,
        .point_utc_usec = n == f->note.segments ? f->note.point_utc_usec : 0};
    buf_clear(patch);
    put_le64(head + 8, n);
    if (buf_append(patch, head, sizeof(head), err) < 0 ||
        segment_relabel_plan(f->dirfd, n, &spec, patch, &next, err) < 0)
        return -1;
    hash_128(patch->data + PATCH_HEAD, patch->len - PATCH_HEAD, &hash);
    memcpy(patch->data + 16, hash.bytes, HASH_SIZE);
    return file_replace(path, patch->data, patch->len, 0600, err);
}

static int patch_ready(struct finish *f, uint64_t n, uint64_t first, struct buf *patch, struct err *err)
{
    struct err why = ERR_INIT;
    char *path AUTO_FREE = mem_printf("%s/patch", f->dir);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to promote a branch");
    if (file_read(path, patch, &why) == 0 && patch_is_for(patch, n))
        return 0;
    return patch_make(f, n, first, path, patch, err);
}

static int move_segment(struct finish *f, uint64_t n, struct err *err)
{
    char from[SEGMENT_NAME_SIZE], to[SEGMENT_NAME_SIZE];
    segment_name(n, from);
    segment_name(f->note.after_segment + n, to);
    if (faccessat(f->mainfd, to, F_OK, 0) == 0)
        return err_set(err, ERR_CONFLICT, "the main line has a segment %s already", to);
    if (renameat(f->dirfd, from, f->mainfd, to) < 0)
        return err_sys(err, errno, "moving segment %s into the main line", from);
    if (fsync(f->mainfd) < 0 || fsync(f->dirfd) < 0)
        return err_sys(err, errno, "syncing the main line");
    return 0;
}

static int adopt(struct finish *f, uint64_t n, uint64_t first, struct err *err)
{
    struct buf patch AUTO_BUF = BUF_INIT(PATCH_MAX);
    if (patch_ready(f, n, first, &patch, err) < 0)
        return -1;
    crashpoint_pass("promote.patch");
    if (segment_relabel_apply(f->dirfd, n, patch.data + PATCH_HEAD, patch.len - PATCH_HEAD, err) < 0)
        return -1;
    crashpoint_pass("promote.patched");
    if (move_segment(f, n, err) < 0)
        return -1;
    crashpoint_pass("promote.moved");
    return 0;
}

static void on_mark(void *arg, const struct record *r, const uint8_t *payload, uint64_t end_bytes)
{
    uint64_t *next = arg;
    struct mark *m AUTO_FREE = mem_new(struct mark);
    (void)end_bytes;
    if (m != NULL && mark_decode(r, payload, m, NULL) == 0)
        *next = m->sequence + 1;
}

/* The sequence that follows segment n, which is in the main line. */
static int sequence_behind(struct finish *f, uint64_t n, uint64_t *ret_next, struct err *err)
{
    uint64_t end;
    bool sealed;
    return segment_recover(f->mainfd, f->note.after_segment + n, on_mark, ret_next, &end, &sealed, err);
}

/* ---- all of them ---- */

static int adopt_all(struct finish *f, struct err *err)
{
    uint64_t next = f->note.first_sequence;
    for (uint64_t n = 1; n <= f->note.segments; n++) {
        char name[SEGMENT_NAME_SIZE];
        segment_name(n, name);
        if (faccessat(f->dirfd, name, F_OK, 0) == 0 && adopt(f, n, next, err) < 0)
            return -1;
        if (sequence_behind(f, n, &next, err) < 0)
            return -1;
    }
    return 0;
}

static int finish_branch(struct finish *f, const char *name, struct err *err)
{
    char *main_dir AUTO_FREE = mem_printf("%s/main", f->machine_dir);
    if (main_dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory to promote a branch");
    f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    f->mainfd = open(main_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = f->dirfd < 0 || f->mainfd < 0 ? err_sys(err, errno, "opening the branch %s", name) : adopt_all(f, err);
    if (f->dirfd >= 0)
        (void)close(f->dirfd);
    if (f->mainfd >= 0)
        (void)close(f->mainfd);
    if (result < 0)
        return err_wrap(err, "promoting the branch %s", name);
    crashpoint_pass("promote.all");
    log_event(LOG_INFO, "branch_promoted", LOG_S("branch", name), LOG_U("generation", f->note.generation));
    return branchlist_discard(f->machine_dir, name, err);
}

int promote_finish(const char *machine_dir, const struct ident *machine, struct err *err)
{
    struct branch_list list AUTO_BRANCH_LIST = {0};
    if (branchlist_load(machine_dir, &list, err) < 0)
        return -1;
    for (size_t i = 0; i < list.count; i++) {
        struct finish f = {.machine_dir = machine_dir};
        char *dir AUTO_FREE = mem_printf("%s/branches/%s", machine_dir, list.items[i].name);
        int noted =
            dir == NULL ? err_set(err, ERR_NOMEM, "no memory to promote a branch") : note_load(dir, &f.note, err);
        if (noted > 0 && !ident_equal(&f.note.machine, machine))
            noted =
                err_set(err, ERR_CORRUPT, "the branch %s is being promoted for another machine", list.items[i].name);
        f.dir = dir;
        if (noted < 0 || (noted > 0 && finish_branch(&f, list.items[i].name, err) < 0))
            return -1;
    }
    return 0;
}
