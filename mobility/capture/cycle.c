/* SPDX-License-Identifier: Apache-2.0
 *
 * The cycle. Every round is (a, b): the barrier count is read and the clock looked at (a), all disks are drained, everything
 * drained is read, the barrier count is read again (b). If both counts are the same, the image after this round is one that a
 * power failure could have left. If a drain finds nothing, the image before it is the present content; where a drain takes long, only
 * if the counts say so too.
 *
 * Happy path: one round, no barrier in it, or two to four small ones. Failure modes: rounds that do not get small (the disks are
 * written faster than they are read), windows spoiled by barriers each time, file systems that do not freeze in time. Each is
 * bounded, by live_usec, tries and the helper's budget, and ends in CYCLE_NO_POINT: what was delivered is right but fuzzy.
 */
#include "mobility/capture/cycle.h"

#include <string.h>

#include "mobility/capture/held.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define TRIES_DEFAULT 12u
#define SMALL_DEFAULT (4u << 20)
#define LIVE_DEFAULT (10 * USEC_PER_SEC)
#define HOLD_DEFAULT (8u << 20)
/* Live rounds around the flush before a freeze that is the way out. */
#define SETTLE_USEC (2 * USEC_PER_SEC)
/* How often the flush is asked for once the live rounds are over; each ask waits a little. */
#define LAST_FLUSH_ASKS 10u

static const char outside[] = "something outside the frozen file systems writes to the disks";
static const char too_much[] = "too much changed for a freeze";
static const char slow_flush[] = "the file systems take too long to flush";
static const char barriers[] = "no round without a barrier was found";
static const char never_quiet[] = "the disks were never quiet";

struct cycle {
    struct cycle_parts parts;
    struct dirty *rounds[CYCLE_DISKS_MAX]; /* NULL: not taking part */
    struct held held;
};

/* One call of cycle_run. */
struct run {
    struct cycle *c;
    struct cycle_options o;
    struct cycle_result *result;
    reader_sink sink;
    void *sink_arg;
    bool countable, long_drains;
    uint64_t began_mono;
    /* The present round. */
    uint64_t a_mono, a_utc, a_barriers;
    uint64_t bytes;
    bool holding;
    bool flushed;
    bool froze;  /* there were file systems to freeze */
    bool missed; /* there will be no group point */
};

bool cycle_reason_is_outside(const char *reason)
{
    return reason == outside;
}

bool cycle_reason_is_load(const char *reason)
{
    return reason == too_much || reason == barriers || reason == never_quiet;
}

/* --- life ---------------------------------------------------------------------------------------------------------- */

static uint64_t mono(const struct cycle *c)
{
    return c->parts.mono_usec ? c->parts.mono_usec(c->parts.arg) : clock_mono_usec();
}

static uint64_t utc(const struct cycle *c)
{
    return c->parts.utc_usec ? c->parts.utc_usec(c->parts.arg) : clock_utc_usec();
}

int cycle_new(const struct cycle_parts *parts, struct cycle **ret_cycle, struct err *err)
{
    struct cycle *c;

    if (parts->disk_count > CYCLE_DISKS_MAX)
        return err_set(err, ERR_INVALID, "more than %u disks", CYCLE_DISKS_MAX);
    c = mem_new(struct cycle);
    if (!c)
        return err_set(err, ERR_NOMEM, "cycle");
    c->parts = *parts;
    *ret_cycle = c;
    return 0;
}

void cycle_free(struct cycle *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i < CYCLE_DISKS_MAX; i++)
        dirty_close(c->rounds[i]);
    held_done(&c->held);
    free(c);
}

void cycle_clear_disk(struct cycle *c, unsigned disk)
{
    if (disk >= CYCLE_DISKS_MAX)
        return;
    dirty_close(c->rounds[disk]);
    c->rounds[disk] = NULL;
}

int cycle_set_disk(struct cycle *c, unsigned disk, uint64_t size_bytes, unsigned granule_shift, struct err *err)
{
    if (disk >= c->parts.disk_count)
        return err_set(err, ERR_INVALID, "disk %u of %u", disk, c->parts.disk_count);
    if (c->rounds[disk] && dirty_granule_shift(c->rounds[disk]) == granule_shift)
        return dirty_resize(c->rounds[disk], size_bytes, err);
    cycle_clear_disk(c, disk);
    return dirty_new(size_bytes, granule_shift, &c->rounds[disk], err);
}

/* --- one round ------------------------------------------------------------------------------------------------------ */

static int fail_if_cancelled(const struct run *x, struct err *err)
{
    if (x->o.cancelled && x->o.cancelled(x->o.cancelled_arg))
        return err_set(err, ERR_CANCELLED, "the cycle was cancelled");
    return 0;
}

static int pass_on(void *arg, const struct reader_piece *piece, struct err *err)
{
    struct run *x = arg;

    if (fail_if_cancelled(x, err) < 0)
        return -1;
    if (piece->data)
        x->result->bytes_delivered += piece->length;
    return x->sink(x->sink_arg, piece, err);
}

static int take_piece(void *arg, const struct reader_piece *piece, struct err *err)
{
    struct run *x = arg;

    *(piece->data ? &x->result->bytes_read : &x->result->unreadable_bytes) += piece->length;
    return x->holding ? held_add(&x->c->held, piece, err) : pass_on(x, piece, err);
}

/* Point a of the round, then the drain. The order matters: what completes before the drain but after a may be in the image
 * or not, so its barrier has to count. */
static int drain_all(struct run *x, struct err *err)
{
    struct cycle *c = x->c;

    x->a_mono = mono(c);
    x->a_utc = utc(c);
    x->a_barriers = c->parts.barriers(c->parts.arg);
    x->bytes = 0;
    for (unsigned i = 0; i < c->parts.disk_count; i++) {
        uint64_t granules = 0;
        if (!c->rounds[i])
            continue;
        dirty_clear_all(c->rounds[i]);
        if (c->parts.drain(c->parts.arg, i, c->rounds[i], &granules, err) < 0)
            return -1;
        if (granules)
            x->bytes += dirty_bytes(c->rounds[i]);
    }
    return 0;
}

static int deliver_held(struct run *x, struct err *err)
{
    return held_deliver(&x->c->held, pass_on, x, err);
}

/* Decides whether this round is held, and makes room: what an earlier round read and this one reads again is not wanted. */
static int prepare_hold(struct run *x, struct err *err)
{
    struct cycle *c = x->c;

    for (unsigned i = 0; i < c->parts.disk_count; i++)
        if (c->rounds[i])
            held_supersede(&c->held, i, c->rounds[i]);
    x->holding = x->bytes <= c->held.room;
    if (x->bytes > held_free_bytes(&c->held))
        return deliver_held(x, err);
    return 0;
}

static int read_all(struct run *x, struct err *err)
{
    struct cycle *c = x->c;

    x->result->rounds++;
    for (unsigned i = 0; i < c->parts.disk_count; i++) {
        if (!c->rounds[i] || dirty_is_empty(c->rounds[i]))
            continue;
        if (c->parts.read(c->parts.arg, i, c->rounds[i], take_piece, x, err) < 0)
            return -1;
    }
    return 0;
}

static bool no_barrier_since_a(const struct run *x)
{
    return x->countable && x->c->parts.barriers(x->c->parts.arg) == x->a_barriers;
}

/* The drain found nothing, and was over in a moment. After a long one it takes the look at the barriers to know. */
static bool is_present_content(const struct run *x)
{
    return x->bytes == 0 && !x->long_drains;
}

static void note_point(struct run *x, uint64_t a_mono, uint64_t a_utc, bool frozen)
{
    x->result->outcome = CYCLE_POINT;
    x->result->frozen = frozen;
    x->result->held_utc_usec = a_utc;
    x->result->window_usec = mono(x->c) - a_mono;
}

/* --- live rounds and the window -------------------------------------------------------------------------------------- */

static bool out_of_time(const struct run *x)
{
    return mono(x->c) - x->began_mono > x->o.live_usec;
}

/* A small round is behind us. 1: into the freeze; 0: another one, for what was flushed is not read yet, or the group is not there. */
static int may_freeze(struct run *x)
{
    int go = 1;

    if (!x->flushed && x->c->parts.flush) {
        x->flushed = x->c->parts.flush(x->c->parts.arg) != 0;
        return 0;
    }
    if (x->o.group)
        go = x->o.group->may_freeze(x->o.group->arg);
    x->missed = go < 0;
    return go != 0;
}

/* Rounds until one is a window (1), or until the bounds are reached (0). With until_small: until one was small enough to go
 * into a freeze after it (0), and the group is as far, without looking for a window. */
static int live_rounds(struct run *x, bool until_small, struct err *err)
{
    unsigned tries = 0;

    for (;;) {
        bool small;
        if (fail_if_cancelled(x, err) < 0 || drain_all(x, err) < 0)
            return -1;
        if (is_present_content(x) && !until_small) {
            note_point(x, x->a_mono, x->a_utc, false);
            return 1;
        }
        small = x->bytes <= x->o.small_bytes;
        if (prepare_hold(x, err) < 0 || read_all(x, err) < 0)
            return -1;
        if (!until_small && no_barrier_since_a(x)) {
            note_point(x, x->a_mono, x->a_utc, false);
            return 1;
        }
        if (until_small && small && may_freeze(x))
            return 0;
        tries += small && !until_small;
        x->result->tries += small && !until_small;
        if (tries >= x->o.tries || out_of_time(x)) {
            x->missed = x->missed || (until_small && x->o.group); /* nobody said that it may freeze */
            return 0;
        }
    }
}

/* --- the freeze ------------------------------------------------------------------------------------------------------ */

/* Inside the freeze: the last set into memory. 1: the image is closed; 0: it is not; -1. */
static int capture_frozen(struct run *x, struct err *err)
{
    struct cycle *c = x->c;
    uint64_t a_mono, a_utc;
    bool together = x->o.group && x->o.group->frozen(x->o.group->arg) == 0;

    if (drain_all(x, err) < 0)
        return -1;
    if (x->bytes > x->o.freeze_bytes || x->bytes > held_free_bytes(&c->held)) {
        x->result->reason = too_much;
        return 0;
    }
    x->holding = true;
    if (read_all(x, err) < 0)
        return -1;
    /* What is looked at below must still be so after all the others have read: see DESIGN.md. */
    if (together)
        x->result->held = x->o.group->hold(x->o.group->arg) == 0;
    if (no_barrier_since_a(x)) {
        note_point(x, x->a_mono, x->a_utc, x->froze);
        return 1;
    }
    /* Something outside the frozen file systems writes to the disks. If it did not while they were read, all is well. */
    a_mono = x->a_mono;
    a_utc = x->a_utc;
    if (drain_all(x, err) < 0)
        return -1;
    if (is_present_content(x)) {
        note_point(x, a_mono, a_utc, x->froze);
        return 1;
    }
    x->result->reason = outside;
    return 0;
}

static int thaw(struct run *x)
{
    bool gave_up = false;
    uint64_t usec = 0;
    int result = x->c->parts.thaw(x->c->parts.arg, &usec, &gave_up, &x->result->freeze_error);

    x->result->freeze_usec = usec;
    x->result->freeze_gave_up = gave_up || result < 0;
    if (!x->result->freeze_gave_up)
        return 0;
    x->result->reason = "the freeze took longer than its budget";
    x->result->frozen = x->result->held = false;
    return -1;
}

/* A set that was drained in a freeze but not read there. */
static int read_left_over(struct run *x, struct err *err)
{
    if (x->bytes == 0)
        return 0;
    return prepare_hold(x, err) < 0 || read_all(x, err) < 0 ? -1 : 0;
}

/* The live rounds may have ended before the flush did, or before one was small enough to ask for it. What it wrote by now is read here.
 * 1: it has ended; 0: not yet; -1. */
static int end_flush(struct run *x, struct err *err)
{
    if (x->flushed || !x->c->parts.flush)
        return 1;
    for (unsigned asks = 0; asks < LAST_FLUSH_ASKS && !x->flushed; asks++) {
        if (fail_if_cancelled(x, err) < 0)
            return -1;
        x->flushed = x->c->parts.flush(x->c->parts.arg) != 0;
    }
    if (!x->flushed)
        return 0;
    return drain_all(x, err) < 0 || prepare_hold(x, err) < 0 || read_all(x, err) < 0 ? -1 : 1;
}

/* 1: a point; 0: none (or it was given up); -1. */
static int frozen_round(struct run *x, struct err *err)
{
    struct cycle *c = x->c;
    int closed;

    if (!c->parts.freeze || !c->parts.thaw) {
        x->result->reason = "nothing is there to freeze with";
        return 0;
    }
    /* A freeze would stop the applications first and then wait for the flush. */
    closed = end_flush(x, err);
    if (closed == 0)
        x->result->reason = slow_flush;
    if (closed <= 0)
        return closed;
    if (deliver_held(x, err) < 0)
        return -1;
    closed = c->parts.freeze(c->parts.arg, &x->result->freeze_error);
    if (closed < 0) {
        x->result->reason = "the file systems could not be frozen in time";
        return 0;
    }
    x->froze = closed == 0;
    closed = capture_frozen(x, err);
    if (x->froze)
        (void)thaw(x);
    x->result->held = x->result->held && closed == 1;
    if (closed != 0)
        return closed;
    return read_left_over(x, err);
}

/* --- the cycle ------------------------------------------------------------------------------------------------------- */

static void fill_in(struct cycle_options *o)
{
    if (!o->tries)
        o->tries = TRIES_DEFAULT;
    if (!o->small_bytes)
        o->small_bytes = SMALL_DEFAULT;
    if (!o->live_usec)
        o->live_usec = LIVE_DEFAULT;
    if (!o->hold_bytes)
        o->hold_bytes = HOLD_DEFAULT;
    if (!o->freeze_bytes || o->freeze_bytes > o->hold_bytes)
        o->freeze_bytes = o->hold_bytes;
}

static int find_point(struct run *x, struct err *err)
{
    int closed = 0;

    if (x->o.want != CYCLE_CRASH) {
        if (live_rounds(x, true, err) < 0)
            return -1;
        closed = x->missed ? 0 : frozen_round(x, err);
        if (closed != 0)
            return closed;
        x->began_mono = mono(x->c);
    }
    closed = live_rounds(x, false, err);
    if (closed != 0)
        return closed;
    if (!x->result->reason)
        x->result->reason = x->countable ? barriers : never_quiet;
    if (x->o.want != CYCLE_CRASH || !x->o.may_freeze)
        return 0;
    x->began_mono = mono(x->c);
    if (x->o.live_usec > SETTLE_USEC)
        x->o.live_usec = SETTLE_USEC;
    if (x->c->parts.flush && live_rounds(x, true, err) < 0)
        return -1;
    return frozen_round(x, err);
}

int cycle_run(struct cycle *c, const struct cycle_options *options, reader_sink sink, void *sink_arg,
    struct cycle_result *ret_result, struct err *err)
{
    struct run x = {.c = c, .o = *options, .result = ret_result, .sink = sink, .sink_arg = sink_arg};
    int closed;

    memset(ret_result, 0, sizeof(*ret_result));
    ret_result->outcome = CYCLE_NO_POINT;
    fill_in(&x.o);
    if (held_set_room(&c->held, (size_t)x.o.hold_bytes, err) < 0)
        return -1;
    held_clear(&c->held);
    x.countable = c->parts.barriers_are_countable(c->parts.arg);
    x.long_drains = c->parts.drains_are_long && c->parts.drains_are_long(c->parts.arg);
    x.began_mono = mono(c);
    closed = find_point(&x, err);
    if (closed > 0 && x.o.want == CYCLE_CRASH)
        ret_result->reason = NULL;
    if (closed < 0 || deliver_held(&x, err) < 0) {
        held_clear(&c->held);
        return -1;
    }
    return 0;
}
