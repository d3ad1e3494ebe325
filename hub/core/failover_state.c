/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of a failover's moves and its lookups.
 */
#include "hub/core/failover_state.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/mem.h"

static const char *const kind_names[FAILOVER_KIND_COUNT] = {
    [FAILOVER_TEST] = "test",
    [FAILOVER_PLANNED] = "planned",
    [FAILOVER_UNPLANNED] = "unplanned",
};

static const char *const state_names[FAILOVER_STATE_COUNT] = {
    [FAILOVER_STARTING] = "starting",
    [FAILOVER_RUNNING] = "running",
    [FAILOVER_ENDING] = "ending",
    [FAILOVER_CLEANED] = "cleaned",
    [FAILOVER_COMMITTED] = "committed",
    [FAILOVER_ROLLED_BACK] = "rolled_back",
    [FAILOVER_FAILED] = "failed",
    [FAILOVER_REPROTECTED] = "reprotected",
    [FAILOVER_FAILED_BACK] = "failed_back",
};

static const char *const move_names[FAILOVER_MOVE_COUNT] = {
    [FAILOVER_RUN] = "run",
    [FAILOVER_RESTART] = "change of point",
    [FAILOVER_END] = "end",
    [FAILOVER_CLEAN] = "cleanup",
    [FAILOVER_ROLL_BACK] = "rollback",
    [FAILOVER_COMMIT] = "commit",
    [FAILOVER_GIVE_UP] = "giving up",
    [FAILOVER_REPROTECT] = "reprotection",
    [FAILOVER_UNPROTECT] = "the end of a reprotection",
    [FAILOVER_FAIL_BACK] = "failback",
};

const struct failover_move_row failover_moves[] = {
    {FAILOVER_STARTING, FAILOVER_RUN, FAILOVER_RUNNING, true, true},
    {FAILOVER_STARTING, FAILOVER_END, FAILOVER_ENDING, true, true}, /* it failed, or was cancelled */
    {FAILOVER_RUNNING, FAILOVER_RESTART, FAILOVER_STARTING, false, true},
    {FAILOVER_RUNNING, FAILOVER_END, FAILOVER_ENDING, true, true},
    {FAILOVER_RUNNING, FAILOVER_COMMIT, FAILOVER_COMMITTED, false, true},
    {FAILOVER_ENDING, FAILOVER_END, FAILOVER_ENDING, true, true}, /* again, after one that did not come to its end */
    {FAILOVER_ENDING, FAILOVER_CLEAN, FAILOVER_CLEANED, true, false},
    {FAILOVER_ENDING, FAILOVER_ROLL_BACK, FAILOVER_ROLLED_BACK, false, true},
    {FAILOVER_ENDING, FAILOVER_GIVE_UP, FAILOVER_FAILED, true, true},
    {FAILOVER_COMMITTED, FAILOVER_RESTART, FAILOVER_STARTING, false, true}, /* its replica is lost */
    {FAILOVER_COMMITTED, FAILOVER_REPROTECT, FAILOVER_REPROTECTED, false, true},
    {FAILOVER_REPROTECTED, FAILOVER_UNPROTECT, FAILOVER_COMMITTED, false, true},
    {FAILOVER_REPROTECTED, FAILOVER_FAIL_BACK, FAILOVER_FAILED_BACK, false, true},
};
const size_t failover_move_count = ARRAY_LEN(failover_moves);

static int find(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

const char *failover_kind_name(enum failover_kind kind)
{
    return (unsigned)kind < FAILOVER_KIND_COUNT ? kind_names[kind] : "unknown";
}

int failover_kind_from_name(const char *name)
{
    return find(kind_names, FAILOVER_KIND_COUNT, name);
}

const char *failover_state_name(enum failover_state state)
{
    return (unsigned)state < FAILOVER_STATE_COUNT ? state_names[state] : "unknown";
}

int failover_state_from_name(const char *name)
{
    return find(state_names, FAILOVER_STATE_COUNT, name);
}

const char *failover_move_name(enum failover_move move)
{
    return (unsigned)move < FAILOVER_MOVE_COUNT ? move_names[move] : "unknown";
}

bool failover_state_is_final(enum failover_state state)
{
    return state == FAILOVER_CLEANED || state == FAILOVER_ROLLED_BACK || state == FAILOVER_FAILED ||
           state == FAILOVER_FAILED_BACK;
}

static bool is_for(const struct failover_move_row *row, enum failover_kind kind)
{
    return kind == FAILOVER_TEST ? row->test_may : row->real_may;
}

static int refuse(enum failover_kind kind, enum failover_state from, enum failover_move move, struct err *err)
{
    err_set(err, ERR_REFUSED, "%s is not possible: the %s failover is %s", failover_move_name(move),
        failover_kind_name(kind), failover_state_name(from));
    if (failover_state_is_final(from))
        return err_hint(err, "It is over; start another one: leeward failover %s MACHINE", failover_kind_name(kind));
    if (from == FAILOVER_COMMITTED)
        return err_hint(err, "It is over; the replica is the machine. Possible now: reprotect.");
    if (from == FAILOVER_REPROTECTED)
        return err_hint(err, "It is over; the replica is the machine, and protected. Possible now: failback.");
    if (from != FAILOVER_RUNNING)
        return err_hint(err, "Wait until it runs: leeward failover list");
    return err_hint(err, kind == FAILOVER_TEST ? "A test is ended by leeward failover cleanup."
                                               : "Possible now: commit, rollback, change-point.");
}

int failover_move(enum failover_kind kind, enum failover_state from, enum failover_move move,
    enum failover_state *ret_to, struct err *err)
{
    for (size_t i = 0; i < failover_move_count; i++) {
        const struct failover_move_row *row = &failover_moves[i];

        if (row->from == from && row->move == move && is_for(row, kind)) {
            *ret_to = row->to;
            return 0;
        }
    }
    return refuse(kind, from, move, err);
}

enum machine_move failover_machine_move(enum failover_kind kind)
{
    return kind == FAILOVER_TEST      ? MOVE_TEST_FAILOVER
           : kind == FAILOVER_PLANNED ? MOVE_PLANNED_FAILOVER
                                      : MOVE_UNPLANNED_FAILOVER;
}
