/* SPDX-License-Identifier: Apache-2.0
 *
 * Preparing a promotion. In this order, each step durable before the next: the generation (from here on a source of the old one is
 * refused), the branch's log sealed, the main line taken back to the branch's point by change sets that are no points, the main line's
 * last segment sealed, the note. A crash before the note leaves the branch as it was and a main line whose points are as they were;
 * preparing again goes on. Behind the note promote_finish does the rest.
 */
#include "transport/vault/promote.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/crashpoint.h"
#include "transport/log/segment.h"
#include "transport/vault/branchlist.h"
#include "transport/vault/promote_private.h"

struct preparation {
    struct store *s;
    const char *name;
    char *dir; /* of the branch */
    int dirfd; /* holds its lock */
    struct branch_info info;
    struct store_opened opened;
    struct view *base;
    struct promotion note;
};

static int lock_branch(struct preparation *p, struct err *err)
{
    p->dirfd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->dirfd < 0)
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "the vault has no branch %s", p->name)
                               : err_sys(err, errno, "opening the branch %s", p->name);
    if (flock(p->dirfd, LOCK_EX | LOCK_NB) < 0) {
        (void)err_set(err, ERR_CONFLICT, "the branch %s is open", p->name);
        return err_hint(err, "close it first: leeward branch close %s", p->name);
    }
    return branch_load_info(p->dir, &p->info, err);
}

static int check_generation(const struct store *s, uint64_t generation, struct err *err)
{
    const struct mark *last = store_last_mark(s);
    bool taken =
        last != NULL && (last->generation > generation || (last->generation == generation && mark_is_point(last)));
    if (generation >= store_generation(s) && !taken)
        return 0;
    return err_set(err, ERR_REFUSED, "a promotion needs a new generation; the machine has points of generation %llu",
        (unsigned long long)(last == NULL ? store_generation(s) : last->generation));
}

static int open_base(struct preparation *p, struct err *err)
{
    struct keyring keys;
    uint64_t check;
    store_keys(p->s, &keys);
    int result = store_flush(p->s, err);
    if (result == 0)
        result = view_open(store_dir(p->s), p->info.base_sequence, &keys, 0, &p->base, err);
    keyring_cleanse(&keys);
    if (result < 0 || branch_base_check(view_mark(p->base), &check, err) < 0)
        return -1;
    if (check == p->info.base_check)
        return 0;
    return err_set(err, ERR_CORRUPT,
        "the point %llu that the branch stands on is lost with the end of the machine's log",
        (unsigned long long)p->info.base_sequence);
}

/* ---- the branch's log ---- */

static uint64_t count_segments(int dirfd)
{
    char name[SEGMENT_NAME_SIZE];
    uint64_t count = 0;
    do
        segment_name(++count, name);
    while (faccessat(dirfd, name, F_OK, 0) == 0);
    return count - 1;
}

static int seal_segment(int dirfd, uint64_t number, uint64_t end, struct err *err)
{
    struct segment_writer *w AUTO_OF(segment_writer) = NULL;
    return segment_reopen(dirfd, number, end, &w, err) < 0 ? -1 : segment_seal(w, err);
}

/* Cuts what was never flushed, and seals. A last segment without a mark goes. */
static int seal_branch(struct preparation *p, struct err *err)
{
    struct err why = ERR_INIT;
    char name[SEGMENT_NAME_SIZE];
    uint64_t end = 0;
    bool sealed = false;
    p->note.segments = count_segments(p->dirfd);
    if (p->note.segments == 0)
        return 0;
    int got = segment_recover(p->dirfd, p->note.segments, NULL, NULL, &end, &sealed, &why);
    if (got < 0 && why.code != ERR_NOT_FOUND) {
        err_copy(err, &why);
        return -1;
    }
    if (got == 0 && end > SEGMENT_HEADER_SIZE)
        return sealed ? 0 : seal_segment(p->dirfd, p->note.segments, end, err);
    segment_name(p->note.segments--, name);
    return unlinkat(p->dirfd, name, 0) < 0 ? err_sys(err, errno, "removing an empty segment") : 0;
}

/* Every header and mark is read before anything is noted: what cannot be numbered anew must be known by now. */
static int check_branch(const struct preparation *p, struct err *err)
{
    for (uint64_t n = 1; n <= p->note.segments; n++) {
        uint64_t end;
        bool sealed;
        if (segment_recover(p->dirfd, n, NULL, NULL, &end, &sealed, err) < 0)
            return err_wrap(err, "the branch's segment %llu", (unsigned long long)n);
        if (!sealed)
            return err_set(err, ERR_CORRUPT, "the branch's segment %llu has no seal", (unsigned long long)n);
    }
    return 0;
}

/* ---- the steps ---- */

static int revert(struct preparation *p, uint64_t generation, struct err *err)
{
    uint64_t epoch = store_epoch(p->s) + 1;
    if (store_begin(p->s, generation, epoch, &p->opened, err) < 0)
        return -1;
    struct revert_spec spec = {.base = p->base,
        .opened = &p->opened,
        .generation = generation,
        .epoch = epoch,
        .as_point = p->note.segments == 0};
    p->note.generation = generation;
    p->note.epoch = epoch;
    int result = promote_revert(p->s, &spec, err);
    explicit_bzero(&p->opened, sizeof(p->opened));
    return result;
}

static int note(struct preparation *p, struct err *err)
{
    if (store_seal_segment(p->s, &p->note.after_segment, err) < 0)
        return -1;
    crashpoint_pass("promote.sealed");
    p->note.branch = p->info.id;
    p->note.machine = p->info.machine;
    p->note.first_sequence = store_committed(p->s) + 1;
    p->note.point_utc_usec = clock_utc_usec();
    if (promote_note(p->dir, &p->note, err) < 0)
        return -1;
    crashpoint_pass("promote.noted");
    return 0;
}

/* Nothing was ever written to it: its point is the newest one already. */
static int forget_empty(const struct preparation *p, struct err *err)
{
    crashpoint_pass("promote.empty");
    return branchlist_discard(store_dir(p->s), p->name, err);
}

static int prepare(struct preparation *p, uint64_t generation, struct err *err)
{
    const struct mark *last = store_last_mark(p->s);
    if (lock_branch(p, err) < 0)
        return -1;
    bool done = last != NULL && last->generation == generation && mark_is_point(last);
    if (done && count_segments(p->dirfd) == 0)
        return forget_empty(p, err); /* it was made, and the branch not removed */
    if (check_generation(p->s, generation, err) < 0 || open_base(p, err) < 0 || seal_branch(p, err) < 0 ||
        check_branch(p, err) < 0 || store_set_generation(p->s, generation, err) < 0)
        return -1;
    crashpoint_pass("promote.generation");
    if (revert(p, generation, err) < 0)
        return -1;
    crashpoint_pass("promote.reverted");
    return p->note.segments == 0 ? forget_empty(p, err) : note(p, err);
}

int promote_prepare(struct store *s, const char *branch, uint64_t generation, struct err *err)
{
    struct preparation p = {.s = s, .name = branch, .dirfd = -1};
    p.dir = mem_printf("%s/branches/%s", store_dir(s), branch);
    int result =
        p.dir == NULL ? err_set(err, ERR_NOMEM, "no memory to promote a branch") : prepare(&p, generation, err);
    view_close(p.base);
    if (p.dirfd >= 0)
        (void)close(p.dirfd);
    free(p.dir);
    return result;
}
