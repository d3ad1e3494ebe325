/* SPDX-License-Identifier: Apache-2.0
 *
 * What the engine says of itself: the phase that follows from wish, copies and troubles, and the numbers beside it.
 */
#include "mobility/sync/engine_internal.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"

/* So long without a consistent moment is worth telling. */
#define NO_POINT_USEC (10 * USEC_PER_SEC)
#define NEXT_TRY_USEC (5 * USEC_PER_SEC)

static bool any_copy(const struct engine *e, enum copy_state copy)
{
    for (uint32_t i = 0; i < e->state.disk_count; i++)
        if (e->state.disks[i].copy == copy)
            return true;
    return false;
}

static enum phase present_phase(const struct engine *e)
{
    if (!e->has_wish || !e->wish.protect)
        return e->trouble.code ? PHASE_ERROR : PHASE_IDLE;
    if (e->trouble.code)
        return PHASE_ERROR;
    if (any_copy(e, COPY_RESYNC))
        return PHASE_RESYNCHRONIZING;
    if (any_copy(e, COPY_INITIAL) || e->state.disk_count == 0)
        return PHASE_INITIAL_REPLICATION;
    if (e->state.first_point_due) /* swept, but its first point is not committed: stay where it came from */
        return e->status.phase == PHASE_RESYNCHRONIZING ? PHASE_RESYNCHRONIZING : PHASE_INITIAL_REPLICATION;
    return PHASE_PROTECTED;
}

static const char *phase_why(const struct engine *e)
{
    return e->trouble.code ? e->trouble.text : e->wish.protect ? "as wished" : "nothing to protect";
}

/* Of a disk whose plan is still to be made it is not known what of it is used, but it is to be copied all the same. */
static void measure_copy(const struct engine_disk *d, uint64_t size, struct engine_status *s)
{
    uint64_t total = d->plan ? d->plan->used_bytes : size;

    s->total_bytes += total;
    s->done_bytes += d->swept ? total : d->plan ? plan_bytes_before(d->plan, d->at) : 0;
}

/* Sums over the disks; the tracker counts what was written, which bounds what is dirty. */
static void measure(struct engine *e, struct engine_status *s)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        struct engine_disk *d = &e->disks[i];
        struct tracker_stats stats;
        uint64_t size, dirty;

        if (!d->attached)
            continue;
        tracker_disk_stats(d->tracked, &stats);
        size = tracker_disk_size_bytes(d->tracked);
        e->changed_bytes += stats.bytes - d->counted_bytes;
        d->counted_bytes = stats.bytes;
        dirty = stats.bytes - d->drained_bytes;
        s->backlog_bytes += dirty < size ? dirty : size;
        measure_copy(d, size, s);
    }
    if (e->retained)
        s->backlog_bytes += retained_bytes(e->retained);
    s->changed_bytes = e->changed_bytes;
}

/* Replication goes on, but no moment was found at which the image would be consistent. */
static void explain_missing_points(const struct engine *e, struct engine_status *s)
{
    if (s->cause[0] || !e->no_point_reason || clock_mono_usec() < e->no_point_since_usec + NO_POINT_USEC)
        return;
    snprintf(s->cause, sizeof(s->cause), "no recovery point can be made: %s", e->no_point_reason);
    snprintf(s->remedy, sizeof(s->remedy), "allow freezing in the policy, or give the policy a longer interval");
}

/* From one failure to the next. */
static uint64_t until_next_try_usec(const struct engine *e)
{
    return 2 * (e->again_usec ? e->again_usec : e->wish.interval_usec) + NEXT_TRY_USEC;
}

void engine_held_up(struct engine *e, const struct err *why)
{
    struct engine_holdup *h = &e->holdup;
    uint64_t now = clock_mono_usec();

    if (h->why.code == ERR_NONE || h->points_made != e->points_made || now > h->last_usec + until_next_try_usec(e))
        h->since_usec = now;
    err_copy(&h->why, why);
    h->last_usec = now;
    h->points_made = e->points_made;
}

const struct err *engine_standing_holdup(const struct engine *e)
{
    const struct engine_holdup *h = &e->holdup;

    return h->why.code == ERR_NONE || h->points_made != e->points_made ||
                   h->last_usec < h->since_usec + NO_POINT_USEC ||
                   clock_mono_usec() > h->last_usec + until_next_try_usec(e)
               ? NULL
               : &h->why;
}

static void explain_holdup(const struct engine *e, struct engine_status *s)
{
    const struct err *why = engine_standing_holdup(e);

    if (s->cause[0] || !why)
        return;
    snprintf(s->cause, sizeof(s->cause), "%s", why->text);
    snprintf(s->remedy, sizeof(s->remedy),
        "see whether all disks of the machine are connected and answer; it goes on by itself when they do");
}

void engine_publish(struct engine *e)
{
    struct engine_status s = {.version = e->converged_version,
        .points_made = e->points_made,
        .points_frozen = e->points_frozen,
        .rounds = e->rounds,
        .window_usec = e->window_usec,
        .freeze_usec = e->freeze_usec,
        .phase = e->status.phase};
    enum phase before = e->status.phase;
    struct err bug = ERR_INIT;

    if (phase_move(&s.phase, present_phase(e), phase_why(e), &bug) < 0)
        log_event(LOG_ERROR, "phase_refused", LOG_E(&bug));
    if (e->trouble.code) {
        snprintf(s.cause, sizeof(s.cause), "%s", e->trouble.text);
        snprintf(s.remedy, sizeof(s.remedy), "%s", e->trouble.correction);
    }
    explain_holdup(e, &s);
    explain_missing_points(e, &s);
    engine_insight_explain(e, &s);
    measure(e, &s);
    engine_pace_progress(e, &s);
    pthread_mutex_lock(&e->lock);
    e->status = s;
    pthread_mutex_unlock(&e->lock);
    if (before != s.phase)
        engine_event(e, s.phase == PHASE_ERROR ? "error" : "info", phase_name(s.phase), s.remedy, "agent is now %s%s%s",
            phase_name(s.phase), s.cause[0] ? ": " : "", s.cause);
}
