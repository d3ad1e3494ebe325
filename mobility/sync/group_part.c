/* SPDX-License-Identifier: Apache-2.0
 *
 * A mutex, a condition and one table of moves. Happy path: each side makes its own moves and waits for the other's. Failure
 * modes: an abort (the coordinator or the connection to it is gone) is a flag that the capture thread finds at its next wait; a
 * capture thread that waited long enough fails by itself, and an order that comes after that is refused.
 */
#include "mobility/sync/group_part.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

struct group_part {
    struct group_part_conf conf;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t cond;
    enum group_part_state state;
    bool aborted;
    struct group_part_ask ask;
    struct group_part_view view;
};

#define MAY(s) (1u << GROUP_PART_##s)
static const unsigned moves[GROUP_PART_STATES] = {
    [GROUP_PART_IDLE] = MAY(ASKED),
    [GROUP_PART_ASKED] = MAY(PREPARING) | MAY(FAILED),
    [GROUP_PART_PREPARING] = MAY(PREPARED) | MAY(FAILED),
    [GROUP_PART_PREPARED] = MAY(FREEZING) | MAY(FAILED),
    [GROUP_PART_FREEZING] = MAY(FROZEN) | MAY(FAILED),
    [GROUP_PART_FROZEN] = MAY(READING) | MAY(FAILED),
    [GROUP_PART_READING] = MAY(HELD) | MAY(FAILED),
    [GROUP_PART_HELD] = MAY(RELEASED) | MAY(FAILED),
    [GROUP_PART_RELEASED] = MAY(CAPTURED) | MAY(FAILED),
    [GROUP_PART_CAPTURED] = MAY(COMMITTING) | MAY(FAILED),
    [GROUP_PART_COMMITTING] = MAY(DONE) | MAY(FAILED),
    [GROUP_PART_DONE] = MAY(IDLE),
    [GROUP_PART_FAILED] = MAY(IDLE),
};

/* States that the loop orders. */
#define ORDERS (MAY(FREEZING) | MAY(READING) | MAY(RELEASED) | MAY(COMMITTING))

static const char *const names[GROUP_PART_STATES] = {"idle", "asked", "preparing", "prepared", "freezing", "frozen",
    "reading", "held", "released", "captured", "committing", "done", "failed"};

/* With the lock held. False: not from here. */
static bool move(struct group_part *p, enum group_part_state to)
{
    if (!(moves[p->state] & (1u << to)))
        return false;
    log_event(LOG_DEBUG, "group_part", LOG_S("from", names[p->state]), LOG_S("to", names[to]));
    p->state = to;
    pthread_cond_signal(&p->cond);
    return true;
}

static bool is_under_way(const struct group_part *p)
{
    return p->state != GROUP_PART_IDLE && p->state != GROUP_PART_DONE && p->state != GROUP_PART_FAILED;
}

/* ---- life ---- */

int group_part_new(const struct group_part_conf *conf, struct group_part **ret_part, struct err *err)
{
    struct group_part *p = mem_new(struct group_part);
    pthread_condattr_t attr;

    if (!p)
        return err_set(err, ERR_NOMEM, "no memory for group points");
    p->conf = *conf;
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->cond, &attr);
    pthread_condattr_destroy(&attr);
    *ret_part = p;
    return 0;
}

void group_part_free(struct group_part *p)
{
    if (!p)
        return;
    pthread_cond_destroy(&p->cond);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---- event loop ---- */

int group_part_begin(struct group_part *p, const struct group_part_ask *ask, struct err *err)
{
    bool began;

    pthread_mutex_lock(&p->lock);
    began = move(p, GROUP_PART_ASKED);
    if (began) {
        p->ask = *ask;
        p->aborted = false;
        p->view = (struct group_part_view){0};
    }
    pthread_mutex_unlock(&p->lock);
    if (!began)
        return err_set(err, ERR_CONFLICT, "another group point is under way");
    p->conf.to_capture(p->conf.arg);
    return 0;
}

int group_part_order(struct group_part *p, enum group_part_state to, struct err *err)
{
    bool ordered = false;
    enum group_part_state from;

    pthread_mutex_lock(&p->lock);
    from = p->state;
    if (!p->aborted && (ORDERS & (1u << to)))
        ordered = move(p, to);
    pthread_mutex_unlock(&p->lock);
    return ordered ? 0 : err_set(err, ERR_INVALID, "an order to be %s came while %s", names[to], names[from]);
}

void group_part_abort(struct group_part *p, const char *why)
{
    bool ended = false;

    pthread_mutex_lock(&p->lock);
    if (is_under_way(p) && !p->aborted) {
        p->aborted = true;
        err_set(&p->view.why, ERR_CANCELLED, "%s", why);
        if (p->state == GROUP_PART_ASKED)
            ended = move(p, GROUP_PART_FAILED);
        pthread_cond_signal(&p->cond);
    }
    pthread_mutex_unlock(&p->lock);
    if (ended) /* the capture thread never saw it, and will not say that it is over */
        p->conf.to_loop(p->conf.arg);
}

enum group_part_state group_part_look(struct group_part *p, struct group_part_view *ret_view)
{
    enum group_part_state state;

    pthread_mutex_lock(&p->lock);
    state = p->state;
    *ret_view = p->view;
    pthread_mutex_unlock(&p->lock);
    return state;
}

void group_part_collect(struct group_part *p)
{
    pthread_mutex_lock(&p->lock);
    (void)move(p, GROUP_PART_IDLE);
    pthread_mutex_unlock(&p->lock);
}

/* ---- capture thread ---- */

bool group_part_is_aborted(struct group_part *p)
{
    bool aborted;

    pthread_mutex_lock(&p->lock);
    aborted = p->aborted;
    pthread_mutex_unlock(&p->lock);
    return aborted;
}

bool group_part_is_asked(struct group_part *p)
{
    bool asked;

    pthread_mutex_lock(&p->lock);
    asked = p->state == GROUP_PART_ASKED;
    pthread_mutex_unlock(&p->lock);
    return asked;
}

int group_part_take(struct group_part *p, struct group_part_ask *ret_ask)
{
    bool taken = false;

    pthread_mutex_lock(&p->lock);
    if (p->state == GROUP_PART_ASKED) {
        taken = move(p, GROUP_PART_PREPARING);
        *ret_ask = p->ask;
    }
    pthread_mutex_unlock(&p->lock);
    return taken;
}

/* Says `here` (once), then waits until the loop has ordered `next`. 1: ordered; 0: not by then; -1: aborted or out of step. */
static int wait_for(struct group_part *p, enum group_part_state here, enum group_part_state next, uint64_t until_usec)
{
    const struct timespec until = {
        .tv_sec = (time_t)(until_usec / USEC_PER_SEC), .tv_nsec = (long)(until_usec % USEC_PER_SEC * 1000)};
    bool said;
    int r;

    pthread_mutex_lock(&p->lock);
    said = p->state != here && !p->aborted && move(p, here);
    pthread_mutex_unlock(&p->lock);
    if (said)
        p->conf.to_loop(p->conf.arg);
    pthread_mutex_lock(&p->lock);
    while (p->state == here && !p->aborted)
        if (pthread_cond_timedwait(&p->cond, &p->lock, &until) == ETIMEDOUT)
            break;
    r = p->aborted ? -1 : p->state == next ? 1 : p->state == here ? 0 : -1;
    pthread_mutex_unlock(&p->lock);
    return r;
}

int group_part_prepared(struct group_part *p, uint64_t wait_usec)
{
    return wait_for(p, GROUP_PART_PREPARED, GROUP_PART_FREEZING, clock_mono_usec() + wait_usec);
}

int group_part_frozen(struct group_part *p, uint64_t until_usec)
{
    return wait_for(p, GROUP_PART_FROZEN, GROUP_PART_READING, until_usec) == 1 ? 0 : -1;
}

int group_part_held(struct group_part *p, uint64_t until_usec)
{
    return wait_for(p, GROUP_PART_HELD, GROUP_PART_RELEASED, until_usec) == 1 ? 0 : -1;
}

int group_part_captured(struct group_part *p, uint64_t freeze_usec, uint64_t until_usec)
{
    pthread_mutex_lock(&p->lock);
    p->view.freeze_usec = freeze_usec;
    pthread_mutex_unlock(&p->lock);
    return wait_for(p, GROUP_PART_CAPTURED, GROUP_PART_COMMITTING, until_usec) == 1 ? 0 : -1;
}

void group_part_end(struct group_part *p, uint64_t sequence, const struct err *why)
{
    bool ended = false;

    pthread_mutex_lock(&p->lock);
    if (is_under_way(p)) {
        ended = move(p, why ? GROUP_PART_FAILED : GROUP_PART_DONE);
        p->view.sequence = sequence;
        if (why && !p->aborted)
            err_copy(&p->view.why, why);
    }
    pthread_mutex_unlock(&p->lock);
    if (ended)
        p->conf.to_loop(p->conf.arg);
}
