/* SPDX-License-Identifier: Apache-2.0
 *
 * This machine's part in a group point, on the capture thread: a cycle that freezes when the group does (capture/cycle.h), told
 * to the loop and back through group_part.h. Happy path: small, frozen, read, held until all have read, thawed, closed with the
 * group point's id. Failure modes: whatever goes wrong, here or elsewhere, leaves a point of this machine's own, closed without
 * the id; waiting is bounded here, whatever the coordinator does.
 */
#include "mobility/sync/engine_internal.h"

#include "transport/base/clock.h"

/* A machine that is ready waits this long for the slowest one; longer than the coordinator lets any of them be late. */
#define READY_USEC (6 * USEC_PER_SEC)
/* While it waits it reads again what has changed meanwhile, this often. */
#define STAY_SMALL_USEC (50 * USEC_PER_MSEC)
/* After the thaw, for the word that all the others were held as well. Nothing is frozen, but no other point is made. */
#define COMMIT_USEC (6 * USEC_PER_SEC)

/* ---- what the cycle asks ---- */

static int may_freeze(void *arg)
{
    struct engine *e = arg;

    if (e->group.ready_usec == 0)
        e->group.ready_usec = clock_mono_usec();
    if (clock_mono_usec() > e->group.ready_usec + READY_USEC)
        return -1;
    return group_part_prepared(e->conf.part, STAY_SMALL_USEC);
}

static int frozen(void *arg)
{
    struct engine *e = arg;

    return group_part_frozen(e->conf.part, e->group.until_usec);
}

static int hold(void *arg)
{
    struct engine *e = arg;

    return group_part_held(e->conf.part, e->group.until_usec);
}

static const struct cycle_group hooks = {.may_freeze = may_freeze, .frozen = frozen, .hold = hold};

void engine_group_options(struct engine *e, struct cycle_options *options)
{
    if (!e->group.active)
        return;
    e->group.hooks = hooks;
    e->group.hooks.arg = e;
    options->want = CYCLE_GROUP;
    options->group = &e->group.hooks;
}

uint64_t engine_group_budget(const struct engine *e, uint64_t own_usec)
{
    uint64_t asked = e->group.ask.budget_usec;

    return e->group.active && asked && asked < own_usec ? asked : own_usec;
}

void engine_group_froze(struct engine *e, uint64_t budget_usec)
{
    e->group.until_usec = clock_mono_usec() + budget_usec;
}

/* ---- the end ---- */

bool engine_group_is_whole(struct engine *e, const struct cycle_result *r)
{
    if (!e->group.active || r->outcome != CYCLE_POINT || !r->held)
        return false;
    return group_part_captured(e->conf.part, r->freeze_usec, clock_mono_usec() + COMMIT_USEC) == 0;
}

static const char *remedy_of(const char *reason)
{
    if (cycle_reason_is_outside(reason))
        return "put what writes there on a file system, or take it out of the group";
    if (cycle_reason_is_load(reason))
        return "have less written while the points of the group are made, or take it out of the group";
    return "nothing is to be done: the next point of the group is made without regard to this one";
}

static void explain(const struct cycle_result *r, struct err *why)
{
    if (r->freeze_error.code != ERR_NONE) {
        err_copy(why, &r->freeze_error);
    } else if (r->freeze_gave_up) {
        err_set(why, ERR_TIMEOUT, "its freeze was over before all machines had read");
        err_hint(why, "raise the freeze budget of its policy and of the group");
    } else if (!r->held && r->reason) {
        err_set(why, ERR_TIMEOUT, "%s", r->reason);
        err_hint(why, "%s", remedy_of(r->reason));
    } else {
        err_set(why, ERR_CANCELLED, "the group point was given up");
    }
}

static void finish(struct engine *e, const struct cycle_result *r, int result, const struct err *err)
{
    struct err why = ERR_INIT;

    if (result == 0 && e->group.sealed) {
        group_part_end(e->conf.part, e->group.sequence, NULL);
        return;
    }
    if (result < 0)
        err_copy(&why, err);
    else
        explain(r, &why);
    group_part_end(e->conf.part, 0, &why);
}

int engine_group_run(struct engine *e, struct err *err)
{
    int r;

    if (!e->conf.part || engine_uncommitted(e) >= ENGINE_UNCOMMITTED_MAX || !engine_cycle_possible(e) ||
        !engine_all_swept(e) || !engine_group_is_asked(e))
        return 0;
    r = engine_catchup_begin(e, err); /* what takes longer than the others wait; it is refused, and asked again soon */
    if (r != 0)
        return r;
    if (group_part_take(e->conf.part, &e->group.ask) == 0)
        return 0;
    e->caught_up = false;
    e->group.active = true;
    e->group.sealed = false;
    e->group.ready_usec = e->group.until_usec = e->group.sequence = 0;
    e->group.result = (struct cycle_result){0};
    r = engine_cycle(e, NULL, err);
    e->group.active = false;
    finish(e, &e->group.result, r, err);
    return r < 0 ? -1 : 1;
}

bool engine_group_is_asked(struct engine *e)
{
    return e->conf.part && group_part_is_asked(e->conf.part);
}

void engine_group_refuse(struct engine *e)
{
    struct err why = ERR_INIT;
    struct group_part_ask ask;

    if (group_part_take(e->conf.part, &ask) == 0)
        return;
    if (!e->wish.protect)
        err_set(&why, ERR_REFUSED, "it is not protected");
    else if (e->trouble.code != ERR_NONE)
        err_set(&why, ERR_REFUSED, "%s", e->trouble.text);
    else if (!e->agreed)
        err_set(&why, ERR_UNAVAILABLE, "it has no stream to the process node");
    else if (!engine_cycle_possible(e) || !engine_all_swept(e))
        err_set(&why, ERR_REFUSED, "its disks are being copied or compared");
    else
        err_set(&why, ERR_REFUSED, "it is catching up with a backlog");
    err_hint(&why, "it makes group points as soon as it is protected and connected: leeward machine show");
    group_part_end(e->conf.part, 0, &why);
}
