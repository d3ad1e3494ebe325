/* SPDX-License-Identifier: Apache-2.0
 *
 * One machine's part in one group point, between the event loop (which talks to the group's coordinator) and the capture thread
 * (which freezes and reads). Two hands on one state:
 *
 *   loop      begin -> ............ freeze -> ...... read -> .... release -> ........ commit -> ............ collect
 *   capture   ...... take, prepared -> ...... frozen -> ... held -> ........ captured -> ....... end ->
 *
 * Each word of one side is heard by the other: the capture thread is woken by a condition, the loop by `to_loop`. The capture
 * thread never waits for longer than it says itself, whatever the other machines do. Functions of one side are for one thread.
 */
#ifndef MOBILITY_SYNC_GROUP_PART_H
#define MOBILITY_SYNC_GROUP_PART_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"

enum group_part_state {
    GROUP_PART_IDLE,      /* no group point is under way */
    GROUP_PART_ASKED,     /* the capture thread has not seen it yet */
    GROUP_PART_PREPARING, /* live rounds */
    GROUP_PART_PREPARED,  /* small; stays small until it may freeze */
    GROUP_PART_FREEZING,  /* it may freeze */
    GROUP_PART_FROZEN,    /* it has, or has nothing to freeze */
    GROUP_PART_READING,   /* all the others have too: it may read */
    GROUP_PART_HELD,      /* everything is read, and still frozen */
    GROUP_PART_RELEASED,  /* all the others have read too */
    GROUP_PART_CAPTURED,  /* thawed; the freeze lasted until it was released */
    GROUP_PART_COMMITTING,
    GROUP_PART_DONE,   /* the mark with the group point's id is on its way */
    GROUP_PART_FAILED, /* not here; the reason is told */
    GROUP_PART_STATES
};

struct group_part_ask {
    struct ident point;
    uint64_t budget_usec; /* of the freeze; the machine's own bound holds if it is lower. 0: the machine's own */
};

struct group_part_conf {
    void (*to_capture)(void *arg); /* something was asked for; any thread */
    void (*to_loop)(void *arg);    /* the capture thread got further; any thread */
    void *arg;
};

struct group_part;

int group_part_new(const struct group_part_conf *conf, struct group_part **ret_part, struct err *err);
/* After the capture thread has ended. NULL allowed. */
void group_part_free(struct group_part *part);

/* ---- event loop ---- */

/* ERR_CONFLICT: another group point is under way here. */
int group_part_begin(struct group_part *part, const struct group_part_ask *ask, struct err *err);
/* The next state that the coordinator orders: FREEZING, READING, RELEASED or COMMITTING. ERR_INVALID: it is not its turn. */
int group_part_order(struct group_part *part, enum group_part_state to, struct err *err);
/* There will be no group point. The capture thread goes on by itself and ends as soon as it hears of it. */
void group_part_abort(struct group_part *part, const char *why);
/* *ret_why is filled in FAILED, *ret_freeze_usec from CAPTURED on, *ret_sequence in DONE. */
struct group_part_view {
    uint64_t freeze_usec, sequence;
    struct err why;
};
enum group_part_state group_part_look(struct group_part *part, struct group_part_view *ret_view);
/* DONE or FAILED was seen: back to IDLE. */
void group_part_collect(struct group_part *part);

/* ---- capture thread ---- */

/* 1: a group point was asked for, and begins. */
int group_part_take(struct group_part *part, struct group_part_ask *ret_ask);
bool group_part_is_asked(struct group_part *part);
/* The group point that was asked for will not be; until the next is asked for. */
bool group_part_is_aborted(struct group_part *part);
/* A small round is behind us: waits for at most wait_usec. 1: freeze now; 0: not yet; -1: it was aborted. */
int group_part_prepared(struct group_part *part, uint64_t wait_usec);
/* Frozen. 0: all the others are too; -1: aborted, or not by then (monotonic). */
int group_part_frozen(struct group_part *part, uint64_t until_usec);
/* Everything is read. 0: all the others have read too; -1: aborted, or not by then (monotonic). */
int group_part_held(struct group_part *part, uint64_t until_usec);
/* Thawed. 0: it is to be committed with the group point's id; -1: without it. */
int group_part_captured(struct group_part *part, uint64_t freeze_usec, uint64_t until_usec);
/* The mark with the id was closed (why NULL), or why there is none. Does nothing when it has ended already. */
void group_part_end(struct group_part *part, uint64_t sequence, const struct err *why);

#endif
