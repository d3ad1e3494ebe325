/* SPDX-License-Identifier: Apache-2.0
 *
 * Catching up with a large backlog (a node that was away, a slow line, the writes during a first copy) before the next cycle.
 * A cycle that fails begins anew with all that it drained; a backlog of gigabytes would then never get through a line that
 * breaks now and then. So it is drained into the open slot once and sent from there in chunks, in the order of the disk, each
 * closed by a progress mark. Nothing else is drained meanwhile, so when a chunk is committed its part of the open slot can be
 * forgotten, and what a lost stream leaves is only the rest.
 *
 * It makes no point; the cycle that follows does, over what changed while this went on.
 */
#include "mobility/sync/engine_internal.h"

#include "transport/base/clock.h"
#include "transport/base/log.h"

/* More than a second of a fast disk: below it, a cycle is quicker and makes a point as well. */
#define BACKLOG_BYTES ((uint64_t)128 << 20)

struct catchup {
    struct engine *e;
    struct engine_disk *d;
    uint64_t at;
    uint64_t budget;
};

static bool takes_part(const struct engine_disk *d)
{
    return d->attached && d->swept;
}

static uint64_t backlog_bytes(struct engine *e)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        struct engine_disk *d = &e->disks[i];
        struct tracker_stats stats;
        uint64_t written;

        if (!takes_part(d))
            continue;
        tracker_disk_stats(d->tracked, &stats);
        written = stats.bytes - d->drained_bytes;
        sum += written < tracker_disk_size_bytes(d->tracked) ? written : tracker_disk_size_bytes(d->tracked);
        if (d->resend)
            sum += dirty_bytes(retained_open_set(e->retained, i));
    }
    return sum;
}

static int drain(struct engine *e, struct engine_disk *d, struct err *err)
{
    struct tracker_stats stats;

    tracker_disk_stats(d->tracked, &stats);
    if (tracker_drain(e->tracker, d->tracked, NULL, retained_open_set(e->retained, engine_index(e, d)), NULL, err) < 0)
        return engine_drain_failed(e, err);
    d->drained_bytes = stats.bytes;
    d->resend = true; /* until all of it is sent */
    d->unmeasured = false;
    return 0;
}

/* What the tracker holds and has not counted is known only when it is drained: it would be taken for nothing, and one cycle read all of it. */
static int drain_unmeasured(struct engine *e, struct err *err)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (takes_part(&e->disks[i]) && e->disks[i].unmeasured && drain(e, &e->disks[i], err) < 0)
            return -1;
    return 0;
}

int engine_catchup_begin(struct engine *e, struct err *err)
{
    uint64_t bytes;

    if (e->caught_up)
        return 0;
    if (drain_unmeasured(e, err) < 0)
        return -1;
    bytes = backlog_bytes(e);
    if (bytes < BACKLOG_BYTES)
        return 0;
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        struct engine_disk *d = &e->disks[i];

        if (!takes_part(d))
            continue;
        if (drain(e, d, err) < 0)
            return -1;
        d->catch_at = 0;
        yield_pause(&d->yield); /* what happened since the last time is not what this does to others */
    }
    e->catching = true;
    log_event(LOG_INFO, "catching_up", LOG_U("backlog_bytes", bytes));
    return 1;
}

static int next_range(void *arg, unsigned *ret_disk, uint64_t *ret_start, uint64_t *ret_length)
{
    struct catchup *c = arg;
    unsigned disk = engine_index(c->e, c->d);

    if (c->budget == 0 || dirty_next(retained_open_set(c->e->retained, disk), &c->at,
                              engine_pace_range(c->e, c->d, c->at), ret_start, ret_length) == 0)
        return 0;
    engine_pace_yield(c->e, c->d, *ret_length);
    *ret_disk = disk;
    c->budget -= *ret_length < c->budget ? *ret_length : c->budget;
    return 1;
}

static int send_chunk(struct catchup *c, struct err *err)
{
    struct engine *e = c->e;
    uint64_t start = c->d->catch_at;
    int r;

    engine_frame(e, true);
    changeset_set_level(e->set, engine_pace_level(e));
    r = reader_run(e->reader, next_range, c, engine_take_change, e, err);
    engine_pace_copied(e);
    if (r < 0)
        return -1;
    engine_unreadable_say(e);
    if (!changeset_is_empty(e->set) && changeset_close(e->set, MARK_PROGRESS, 0, clock_utc_usec(), NULL, NULL, err) < 0)
        return -1;
    if (c->budget > 0)
        c->at = tracker_disk_size_bytes(c->d->tracked);
    e->chunks[e->chunk_count++] = (struct engine_chunk){.catch_up = true,
        .sequence = changeset_next_sequence(e->set) - 1,
        .disk = engine_index(e, c->d),
        .start = start,
        .cursor = c->at};
    c->d->catch_at = c->at;
    return 0;
}

/* All is sent: what is not committed yet goes with the slot, whose next drain begins now. */
static int finish(struct engine *e, struct err *err)
{
    engine_catchup_end(e);
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (takes_part(&e->disks[i]))
            e->disks[i].resend = false;
    e->caught_up = true;
    return engine_close_slot(e, changeset_next_sequence(e->set) - 1, err);
}

int engine_catchup(struct engine *e, struct err *err)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        struct engine_disk *d = &e->disks[i];
        struct catchup c = {.e = e, .d = d, .at = d->catch_at, .budget = CHANGESET_PROGRESS_BYTES};
        int r;

        if (!takes_part(d) || d->catch_at >= tracker_disk_size_bytes(d->tracked))
            continue;
        r = send_chunk(&c, err);
        if (r < 0)
            engine_catchup_end(e);
        return r;
    }
    return finish(e, err);
}

void engine_catchup_end(struct engine *e)
{
    unsigned kept = 0;

    e->catching = false;
    for (unsigned i = 0; i < e->chunk_count; i++)
        if (!e->chunks[i].catch_up)
            e->chunks[kept++] = e->chunks[i];
    e->chunk_count = kept;
}
