/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery points: runs the consistency engine (capture/cycle.h) over the disks whose copy is complete, and closes its change
 * set with a mark. Everything drained goes through the open slot of the retained changes first. When anything fails, what was
 * drained stays there and is read again with the next cycle.
 *
 * Under a freeze nothing here waits for the network: the cycle holds the last set in memory and delivers it after the thaw.
 */
#include "mobility/sync/engine_internal.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mobility/question.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

#define INTERVAL_USEC (1 * USEC_PER_SEC)
#define AGAIN_USEC (5 * USEC_PER_SEC)
#define AGAIN_MAX_USEC (600 * USEC_PER_SEC)
#define FLUSH_STEP_USEC 100000
#define TELL_USEC (60 * USEC_PER_SEC)

static const char changed[] = "a disk changed its size, or changes of it were lost, while it was read";

/* ---- parts of the cycle ---- */

int engine_drain_failed(const struct engine *e, struct err *err)
{
    err_wrap(err, "keeping what changed under %s", e->conf.run_dir);
    if (err->code == ERR_NOSPACE)
        err_hint(
            err, "free space there (it is a tmpfs), or give the agent another --run-dir; changes go on being tracked");
    return -1;
}

static int part_drain(void *arg, unsigned disk, struct dirty *round, uint64_t *ret_granules, struct err *err)
{
    struct engine *e = arg;
    struct engine_disk *d = &e->disks[disk];
    struct dirty *open = retained_open_set(e->retained, disk);
    struct tracker_stats stats;
    uint64_t again = 0, drained = 0;

    if (d->resend) {
        again = dirty_count(open);
        if (again > 0 && dirty_or(round, open, err) < 0)
            return -1;
        d->resend = false;
    }
    tracker_disk_stats(d->tracked, &stats);
    if (tracker_drain(e->tracker, d->tracked, round, open, &drained, err) < 0)
        return engine_drain_failed(e, err);
    d->drained_bytes = stats.bytes;
    *ret_granules = again + drained;
    return 0;
}

static uint64_t part_barriers(void *arg)
{
    return tracker_barriers(((struct engine *)arg)->tracker);
}

static bool part_drains_are_long(void *arg)
{
    return tracker_compares(((struct engine *)arg)->tracker);
}

struct noting {
    struct engine *e;
    reader_sink sink;
    void *sink_arg;
};

/* When it is read and not when it is delivered: what is held is compared by the next drain. */
static int note_piece(void *arg, const struct reader_piece *p, struct err *err)
{
    struct noting *n = arg;

    tracker_note_read(n->e->tracker, n->e->disks[p->disk].tracked, p->start, p->length, p->data);
    return n->sink(n->sink_arg, p, err);
}

static int part_read(
    void *arg, unsigned disk, const struct dirty *set, reader_sink sink, void *sink_arg, struct err *err)
{
    struct noting n = {.e = arg, .sink = sink, .sink_arg = sink_arg};

    return reader_run_dirty(n.e->reader, disk, set, note_piece, &n, err);
}

static size_t list_devices(const struct engine *e, dev_t ret_devices[MARK_DISKS_MAX])
{
    size_t count = 0;

    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (e->disks[i].attached)
            ret_devices[count++] = tracker_disk_dev(e->disks[i].tracked);
    return count;
}

/* What the file systems do not issue, nobody can count. */
static bool file_systems_issue_barriers(const struct engine *e, struct err *why)
{
    dev_t devices[MARK_DISKS_MAX];
    char *path AUTO_FREE = NULL;

    if (freeze_find_without_barriers(devices, list_devices(e, devices), &path, why) < 0)
        return false;
    if (!path)
        return true;
    (void)err_set(why, ERR_UNSUPPORTED, "the file system on %s is mounted with nobarrier", path);
    (void)err_hint(why, "mount it with barriers, or allow freezing in the policy");
    return false;
}

static bool part_barriers_are_countable(void *arg)
{
    struct engine *e = arg;
    struct err why = ERR_INIT;
    bool countable = tracker_barriers_are_countable(e->tracker, &why) && file_systems_issue_barriers(e, &why);

    if (!countable && !e->told_uncounted && why.code != ERR_NONE)
        engine_event(e, "warning", "barriers_not_counted", why.correction,
            "points need a moment without writes, or a freeze: %s", why.text);
    e->told_uncounted = !countable;
    return countable;
}

/* Asked on a thread: a file system can take minutes to write what it has, and the rounds go on meanwhile. */
struct flush_question {
    struct question q; /* first */
    dev_t devices[MARK_DISKS_MAX];
    size_t count;
};

static void flush_all(struct question *q)
{
    struct flush_question *f = (struct flush_question *)q;
    struct freeze_mounts mounts = {0};

    if (freeze_find_mounts(f->devices, f->count, &mounts, NULL) < 0)
        return;
    for (size_t i = 0; i < mounts.count; i++) {
        int fd AUTO_CLOSE = open(mounts.paths[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0)
            (void)syncfs(fd);
    }
    freeze_mounts_free(&mounts);
}

/* One that goes on longer is left to its thread, and asked for again when it has ended. */
static int part_flush(void *arg)
{
    const struct timespec pause = {.tv_nsec = FLUSH_STEP_USEC * 1000};
    struct engine *e = arg;
    struct flush_question *f = mem_new(struct flush_question);

    if (!f || (e->group.active && group_part_is_aborted(e->conf.part))) {
        free(f);
        return 1;
    }
    f->q.ask = flush_all;
    f->count = list_devices(e, f->devices);
    if (question_put(&f->q, "flush", FLUSH_STEP_USEC)) {
        free(f);
        return 1;
    }
    (void)nanosleep(&pause, NULL);
    return 0;
}

/* 1: there are none, and a group point does without (its window reaches as far as a freeze would). */
static int set_mounts(struct engine *e, struct err *err)
{
    struct freeze_mounts mounts = {0};
    dev_t devices[MARK_DISKS_MAX];
    int r;

    if (freeze_find_mounts(devices, list_devices(e, devices), &mounts, err) < 0)
        return -1;
    e->froze_all = !mounts.hidden;
    if (mounts.hidden && (e->wants_filesystem || (mounts.count == 0 && !e->group.active))) {
        err_set(err, ERR_REFUSED,
            "the file system on %s cannot be frozen: another one is mounted over it, or above it and does not answer",
            mounts.hidden);
        r = err_hint(err, "unmount the other one, or mount this one a second time somewhere else, or ask for a "
                          "crash-consistent point");
    } else if (mounts.count == 0 && e->group.active) {
        r = 1;
    } else if (mounts.count == 0) {
        err_set(
            err, ERR_UNSUPPORTED, "no file system is mounted on the protected disks, so there is nothing to freeze");
        r = err_hint(err, "ask for a crash-consistent point");
    } else {
        r = freeze_set_mounts(e->conf.freeze, (const char *const *)mounts.paths, mounts.count, err);
    }
    freeze_mounts_free(&mounts);
    return r;
}

static int part_freeze(void *arg, struct err *err)
{
    struct engine *e = arg;
    uint64_t budget =
        engine_group_budget(e, e->wish.freeze_budget_usec ? e->wish.freeze_budget_usec : FREEZE_BUDGET_USEC);
    int mounts = set_mounts(e, err);

    if (mounts < 0 || (e->hooks && hooks_freeze(e->hooks, err) < 0))
        return -1;
    if (mounts > 0 || freeze_begin(e->conf.freeze, budget, err) == 0) {
        engine_group_froze(e, budget);
        return mounts;
    }
    if (e->hooks)
        (void)hooks_thaw(e->hooks, NULL);
    return -1;
}

/* A hook that says no to its thaw did not hold its application still until then. */
static void thaw_applications(struct engine *e)
{
    if (e->hooks && hooks_thaw(e->hooks, &e->hooks_error) < 0)
        err_wrap(&e->hooks_error, "the application was not still all the time");
}

static int part_thaw(void *arg, uint64_t *ret_usec, bool *ret_gave_up, struct err *err)
{
    struct engine *e = arg;
    struct freeze_result result = {0};
    int r = freeze_end(e->conf.freeze, &result, err);

    thaw_applications(e);
    *ret_usec = result.frozen_usec;
    *ret_gave_up = result.gave_up;
    return r;
}

int engine_cycle_parts(struct engine *e, struct err *err)
{
    struct cycle_parts parts = {.arg = e,
        .disk_count = MARK_DISKS_MAX,
        .drain = part_drain,
        .barriers = part_barriers,
        .barriers_are_countable = part_barriers_are_countable,
        .drains_are_long = part_drains_are_long,
        .read = part_read,
        .flush = e->conf.freeze ? part_flush : NULL,
        .freeze = e->conf.freeze ? part_freeze : NULL,
        .thaw = e->conf.freeze ? part_thaw : NULL};

    return cycle_new(&parts, &e->cycle, err);
}

/* ---- a point ---- */

static bool lost_or_stopped(void *arg)
{
    struct engine *e = arg;

    return uplink_state(e->conf.link, NULL) != UPLINK_RUNNING || engine_is_stopping(e);
}

static int take_piece(void *arg, const struct reader_piece *p, struct err *err)
{
    struct engine *e = arg;
    struct engine_disk *d = &e->disks[p->disk];

    if (!p->data)
        return engine_unreadable(e, d, p, err);
    engine_readable(e, d, p);
    engine_insight_piece(e, d, p, false);
    return changeset_add(e->set, d->number, p->start, p->data, p->length, err);
}

int engine_take_change(void *arg, const struct reader_piece *p, struct err *err)
{
    struct engine *e = arg;

    tracker_note_read(e->tracker, e->disks[p->disk].tracked, p->start, p->length, p->data);
    return take_piece(e, p, err);
}

/* No points while a disk is compared: its image is neither the old state nor the new one. */
bool engine_cycle_possible(const struct engine *e)
{
    bool any = false;

    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        any = any || e->disks[i].swept;
    for (uint32_t i = 0; i < e->state.disk_count; i++)
        for (unsigned j = 0; j < MARK_DISKS_MAX; j++)
            if (e->disks[j].attached && e->disks[j].number == e->state.disks[i].number && !e->disks[j].swept &&
                e->state.disks[i].copy == COPY_RESYNC)
                return false;
    return any;
}

bool engine_all_swept(const struct engine *e)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (e->disks[i].attached && !e->disks[i].swept)
            return false;
    return true;
}

static void tell_given_up(struct engine *e, const struct cycle_result *r)
{
    uint64_t now = clock_mono_usec();

    if (e->told_freeze_usec != 0 && now < e->told_freeze_usec + TELL_USEC)
        return;
    e->told_freeze_usec = now;
    engine_event(e, "warning", "freeze_given_up",
        "raise the freeze budget of the policy, or write less while the point is made",
        "a freeze was given up after %llu us: %s", (unsigned long long)r->freeze_usec, r->reason ? r->reason : "");
}

static void note_result(struct engine *e, const struct cycle_result *r)
{
    bool made = r->outcome == CYCLE_POINT;

    e->points_made += made;
    e->points_frozen += made && r->frozen;
    e->rounds = r->rounds;
    e->window_usec = r->window_usec;
    if (r->freeze_usec)
        e->freeze_usec = r->freeze_usec;
    if (r->freeze_gave_up)
        tell_given_up(e, r);
    if (!made && !e->no_point_reason)
        e->no_point_since_usec = clock_mono_usec();
    e->no_point_reason = made ? NULL : r->reason ? r->reason : "the disks are too busy";
}

static unsigned mark_flags(
    struct engine *e, const struct engine_command *c, const struct cycle_result *r, bool *ret_first)
{
    *ret_first = e->state.first_point_due && e->first_point == 0 && engine_all_swept(e);
    return (r->frozen ? MARK_FROZEN : 0) | (*ret_first ? MARK_FIRST : 0) |
           (c && !engine_command_is_scheduled(c) ? MARK_ASKED : 0);
}

/* A disk whose sweep was set back keeps what was drained of it before. */
int engine_close_slot(struct engine *e, uint64_t sequence, struct err *err)
{
    bool in[MARK_DISKS_MAX];

    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        in[i] = e->disks[i].attached && e->disks[i].swept;
    return retained_close(e->retained, sequence, in, err) < 0 ? -1 : engine_unreadable_keep(e, err);
}

static int close_point(struct engine *e, const struct engine_command *c, const struct cycle_result *r, struct err *err)
{
    enum mark_kind kind = c ? c->kind : e->group.active && r->frozen && e->froze_all ? MARK_FILESYSTEM : MARK_CRASH;
    uint64_t sequence;
    bool first;
    unsigned flags = mark_flags(e, c, r, &first);

    engine_unreadable_say(e);
    e->group.sealed = engine_group_is_whole(e, r);
    if (e->group.sealed)
        changeset_set_group_point(e->set, &e->group.ask.point);
    if (changeset_close(e->set, kind, flags, r->held_utc_usec, c ? c->tag : NULL, &sequence, err) < 0 ||
        engine_close_slot(e, sequence, err) < 0)
        return -1;
    e->group.sequence = sequence;
    if (first)
        e->first_point = sequence;
    engine_schedule_made(e, kind, sequence);
    engine_insight_made_point(e, sequence, r->held_utc_usec);
    if (c && !engine_command_is_scheduled(c))
        engine_command_sent(e, c->id, sequence, r->held_utc_usec);
    return 0;
}

/* Delivered but not consistent: durable as progress, if anything was sent. */
static int close_progress(struct engine *e, struct err *err)
{
    uint64_t sequence = changeset_next_sequence(e->set) - 1;

    engine_unreadable_say(e);
    if (!changeset_is_empty(e->set) &&
        changeset_close(e->set, MARK_PROGRESS, 0, clock_utc_usec(), NULL, &sequence, err) < 0)
        return -1;
    return engine_close_slot(e, sequence, err);
}

/* Where a freeze was asked for and failed, the point is crash-consistent: it is kept as such, but is not what was asked for. */
static bool is_as_asked(const struct engine *e, const struct engine_command *c, const struct cycle_result *r)
{
    if (r->outcome != CYCLE_POINT || !c || c->kind == MARK_CRASH)
        return r->outcome == CYCLE_POINT;
    return r->frozen && (c->kind != MARK_APPLICATION || e->hooks_error.code == ERR_NONE);
}

/* What it is instead: NULL for crash-consistent. */
static const struct engine_command *as_it_is(const struct engine_command *c, const struct cycle_result *r)
{
    static const struct engine_command filesystem = {.kind = MARK_FILESYSTEM};

    return c && c->kind == MARK_APPLICATION && r->frozen ? &filesystem : NULL;
}

static void end_with(struct engine *e, const struct engine_command *c, const struct err *why)
{
    if (engine_command_is_scheduled(c))
        engine_schedule_missed(e, c->kind, why);
    else
        engine_command_end(e, c->id, why);
}

static void refuse_command(struct engine *e, const struct engine_command *c, const struct cycle_result *r)
{
    struct err why = ERR_INIT;

    if (r->freeze_error.code != ERR_NONE)
        err_copy(&why, &r->freeze_error);
    else if (e->hooks_error.code != ERR_NONE)
        err_copy(&why, &e->hooks_error);
    else {
        err_set(
            &why, ERR_TIMEOUT, "no consistent moment was found: %s", r->reason ? r->reason : "the disks are too busy");
        err_hint(&why, "allow freezing in the policy, or ask again when less is written");
    }
    end_with(e, c, &why);
}

/* What has much to write does it now, before the live rounds; nothing is held yet. */
static int prepare_applications(struct engine *e, struct err *err)
{
    const struct hooks_conf conf = {
        .dir = e->conf.hooks_dir, .run_dir = e->conf.run_dir, .limit_usec = e->conf.hook_usec};

    if (hooks_load(&conf, &e->hooks, err) < 0)
        return -1;
    hooks_prepare(e->hooks);
    return 0;
}

static int run(struct engine *e, const struct engine_command *c, struct cycle_result *ret_result, struct err *err)
{
    struct cycle_options options = {.want = c && c->kind != MARK_CRASH ? CYCLE_FILESYSTEM : CYCLE_CRASH,
        .may_freeze = e->wish.may_freeze && e->conf.freeze,
        .tries = e->wish.max_rounds,
        .hold_bytes = ENGINE_HOLD_BYTES,
        .cancelled = lost_or_stopped,
        .cancelled_arg = e};
    int r;

    if (options.want == CYCLE_FILESYSTEM && !e->conf.freeze)
        return err_set(err, ERR_UNSUPPORTED, "this agent cannot freeze file systems");
    err_clear(&e->hooks_error);
    if (c && c->kind == MARK_APPLICATION && prepare_applications(e, err) < 0)
        return -1;
    engine_group_options(e, &options);
    e->wants_filesystem = options.want == CYCLE_FILESYSTEM;
    r = cycle_run(e->cycle, &options, take_piece, e, ret_result, err);
    hooks_free(TAKE_PTR(e->hooks));
    return r;
}

/* Whatever the cycle drained and did not deliver is still in the open slot. What it did deliver is right, if fuzzy. */
static void after_failure(struct engine *e)
{
    struct err ignored = ERR_INIT;

    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        e->disks[i].resend = true;
    if (uplink_state(e->conf.link, NULL) == UPLINK_RUNNING && !changeset_is_empty(e->set))
        (void)changeset_close(e->set, MARK_PROGRESS, 0, clock_utc_usec(), NULL, NULL, &ignored);
}

/* A point says how large its disks are, and was read of what the tracker handed out. Where a disk has another size by now, or the tracker has lost something of
 * it, that may not be the machine of any moment: a file system that has grown into a disk that has not, or a write that is not in it. The next turn follows. */
static void distrust_if_changed(const struct engine *e, struct cycle_result *r)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        const struct engine_disk *d = &e->disks[i];

        if (!d->attached || !d->swept || r->outcome != CYCLE_POINT ||
            (tracker_disk_actual_bytes(d->tracked) == tracker_disk_size_bytes(d->tracked) &&
                !tracker_disk_is_unknown(d->tracked)))
            continue;
        r->outcome = CYCLE_NO_POINT;
        r->frozen = r->held = false;
        r->reason = changed;
    }
}

static uint64_t interval_usec(const struct engine *e)
{
    return e->wish.interval_usec ? e->wish.interval_usec : INTERVAL_USEC;
}

static void plan_next_turn(struct engine *e)
{
    uint64_t now = clock_mono_usec(),
             from = e->next_cycle_usec < now ? e->next_cycle_usec : now; /* a group's points come early */

    e->next_cycle_usec = from + interval_usec(e) > now ? from + interval_usec(e) : now + interval_usec(e);
}

void engine_point_now(struct engine *e)
{
    e->next_cycle_usec = e->again_usec = 0;
}

void engine_heed_interval(struct engine *e)
{
    uint64_t latest = clock_mono_usec() + interval_usec(e);

    if (e->again_usec > 0) /* what stood in the way may be allowed now */
        engine_point_now(e);
    else if (e->next_cycle_usec > latest)
        e->next_cycle_usec = latest;
}

/* A day's interval is no reason to be without a point for two. The pause doubles: what is sent in vain is sent again by each turn. */
static void try_again(struct engine *e)
{
    uint64_t now = clock_mono_usec();
    uint64_t most = interval_usec(e) < AGAIN_MAX_USEC ? interval_usec(e) : AGAIN_MAX_USEC;

    e->again_usec = e->again_usec ? 2 * e->again_usec : AGAIN_USEC;
    if (e->again_usec > most)
        e->again_usec = most;
    if (e->next_cycle_usec > now + e->again_usec)
        e->next_cycle_usec = now + e->again_usec;
}

/* Where a cycle takes longer than the interval the next one is always due: as long as it took belongs to the copies, or the machine would never be
 * protected. Points that were asked for or are scheduled are not held up. */
static void leave_time_for_sweeps(struct engine *e, uint64_t began_usec)
{
    uint64_t now = clock_mono_usec(), until = now + (now - began_usec);

    if (engine_sweeps_remain(e) && e->next_cycle_usec < until)
        e->next_cycle_usec = until;
}

int engine_cycle(struct engine *e, const struct engine_command *c, struct err *err)
{
    struct cycle_result result = {0};
    uint64_t began = clock_mono_usec();
    bool is_turn = !c || e->next_cycle_usec == 0; /* else it comes beside the one that is due */
    bool got;
    int r;

    if (is_turn)
        plan_next_turn(e);
    engine_frame(e, true);
    changeset_set_level(e->set, engine_pace_level(e));
    if (!engine_sweeps_remain(e) && changeset_is_empty(e->set))
        changeset_set_threads(e->set, 0, 0);
    r = engine_obey_resend(e, err);
    if (r == 0)
        r = run(e, c, &result, err);
    distrust_if_changed(e, &result);
    e->group.result = result;
    if (r == 0) {
        note_result(e, &result);
        got = is_as_asked(e, c, &result);
        r = result.outcome == CYCLE_POINT ? close_point(e, got ? c : as_it_is(c, &result), &result, err)
                                          : close_progress(e, err);
        if (r == 0 && c && !got && result.reason != changed) /* else the next cycle has it */
            refuse_command(e, c, &result);
    }
    if (r == 0 && result.outcome == CYCLE_POINT)
        e->again_usec = 0;
    else if (is_turn)
        try_again(e);
    if (is_turn)
        leave_time_for_sweeps(e, began);
    if (r < 0) {
        after_failure(e);
        if (c && err->code != ERR_UNAVAILABLE && err->code != ERR_CANCELLED)
            end_with(e, c, err);
    }
    return r;
}
