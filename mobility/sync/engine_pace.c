/* SPDX-License-Identifier: Apache-2.0
 *
 * How hard the engine works: rates and CPU share by the wish, yielding to the workload in copies, where changes are compressed, and
 * what is left to do.
 *
 * Changes are compressed here only while the line is the bottleneck, which shows as waiting to get rid of batches; else the node
 * does it, whose CPU is not that of somebody's database. Sweeps are another matter: see engine_sweep.c.
 */
#include "mobility/sync/engine_internal.h"

#include <string.h>

#include "transport/base/clock.h"

#define RANGE_BYTES (1u << 20)
#define LOOK_USEC (1 * USEC_PER_SEC)
/* Begins to compress when it waited for this part of a second, and ends when what changes would fit into this part of what the line
 * took then, for so long. */
#define WAITED_PERMILLE 200u
#define FITS_PERMILLE 700u
#define CALM_USEC (10 * USEC_PER_SEC)
#define PROGRESS_NEW_PERMILLE 200u

static bool goes_on(void *arg)
{
    struct engine *e = arg;

    return uplink_state(e->conf.link, NULL) == UPLINK_RUNNING && !engine_is_stopping(e);
}

/* A step of work can be minutes long at a low rate: who raises it does not wait for that. */
static void heed(void *arg)
{
    struct engine *e = arg;
    struct pace_rules rules;
    bool fresh;

    pthread_mutex_lock(&e->lock);
    fresh = e->wish_is_new;
    if (fresh)
        memcpy(&rules, &e->new_wish.pace, sizeof(rules)); /* all of it, for it is compared so */
    pthread_mutex_unlock(&e->lock);
    if (fresh && memcmp(&e->pace.rules, &rules, sizeof(rules)) != 0)
        pace_set_rules(&e->pace, &rules);
}

void engine_pace_follow(struct engine *e)
{
    e->pace.heed = heed;
    e->pace.heed_arg = e;
    changeset_set_pace(e->set, &e->pace);
    if (memcmp(&e->pace.rules, &e->wish.pace, sizeof(e->wish.pace)) != 0)
        pace_set_rules(&e->pace, &e->wish.pace);
}

static unsigned copy_depth(const struct engine *e, const struct engine_disk *d)
{
    return e->wish.yield_to_workload ? yield_depth(&d->yield.state, READER_DEPTH_MAX) : READER_DEPTH_MAX;
}

uint64_t engine_pace_range(const struct engine *e, const struct engine_disk *d, uint64_t at)
{
    return copy_depth(e, d) < RANGE_BYTES / READER_PIECE_BYTES ? READER_PIECE_BYTES - at % READER_PIECE_BYTES
                                                               : RANGE_BYTES;
}

/* A comparison of what is alike sends nothing for a long time: it pays for its CPU here. */
void engine_pace_yield(struct engine *e, struct engine_disk *d, uint64_t bytes)
{
    if (e->pace.rules.cpu_percent > 0)
        pace_pay(&e->pace, 0, goes_on, e);
    if (!e->wish.yield_to_workload)
        return;
    if (d->yield.fd == 0)
        yield_open(&d->yield, tracker_disk_dev(d->tracked));
    yield_step(&d->yield, bytes, goes_on, e);
    reader_set_depth(e->reader, copy_depth(e, d));
}

void engine_pace_copied(struct engine *e)
{
    reader_set_depth(e->reader, 0);
}

static bool line_is_narrow(struct engine *e)
{
    struct engine_line *l = &e->line;
    uint64_t now = clock_mono_usec(), passed = now - l->looked_usec;
    uint64_t waited = changeset_waited_usec(e->set), sent = changeset_sent_bytes(e->set),
             changed = changeset_changed_bytes(e->set);

    if (passed < LOOK_USEC)
        return l->narrow;
    if (l->looked_usec > 0 && (waited - l->waited_usec) * 1000 > passed * WAITED_PERMILLE) {
        l->narrow = true;
        l->takes_per_sec = (sent - l->sent_bytes) * USEC_PER_SEC / passed;
        l->calm_since_usec = now;
    } else if ((changed - l->changed_bytes) * USEC_PER_SEC / passed * 1000 > l->takes_per_sec * FITS_PERMILLE) {
        l->calm_since_usec = now;
    } else if (l->narrow && now > l->calm_since_usec + CALM_USEC) {
        l->narrow = false;
    }
    l->looked_usec = now;
    l->waited_usec = waited;
    l->sent_bytes = sent;
    l->changed_bytes = changed;
    return l->narrow;
}

int engine_pace_level(struct engine *e)
{
    bool narrow = line_is_narrow(e);

    if (!e->wish.level_where_narrow)
        return e->wish.level;
    return narrow && !pace_cpu_is_short(&e->pace) ? e->wish.level : 0;
}

const char *engine_pace_slowed_by(const struct engine *e)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (e->disks[i].attached && !e->disks[i].swept && yield_is_slow(&e->disks[i].yield))
            return "workload";
    return pace_slowed_by(&e->pace);
}

/* Of a copy, what was read of it; else what is left of the backlog, by what is sent. */
void engine_pace_progress(struct engine *e, struct engine_status *s)
{
    struct engine_progress *p = &e->progress;
    bool copying = s->done_bytes < s->total_bytes;
    uint64_t now = clock_mono_usec(), passed = now - p->looked_usec;
    uint64_t done = copying ? s->done_bytes : changeset_changed_bytes(e->set);
    uint64_t left = copying ? s->total_bytes - s->done_bytes : s->backlog_bytes;

    if (p->looked_usec == 0 || p->copying != copying || done < p->done_bytes) {
        *p = (struct engine_progress){.looked_usec = now, .copying = copying, .done_bytes = done};
    } else if (passed >= LOOK_USEC) {
        uint64_t rate = (done - p->done_bytes) * USEC_PER_SEC / passed;

        p->per_sec = p->per_sec == 0
                         ? rate
                         : (p->per_sec * (1000 - PROGRESS_NEW_PERMILLE) + rate * PROGRESS_NEW_PERMILLE) / 1000;
        p->looked_usec = now;
        p->done_bytes = done;
    }
    s->throughput_bytes_per_sec = p->per_sec;
    s->remaining_usec = left > 0 && p->per_sec > 0 ? (uint64_t)((double)left / (double)p->per_sec * USEC_PER_SEC) : 0;
    s->slowed_by = engine_pace_slowed_by(e);
}
