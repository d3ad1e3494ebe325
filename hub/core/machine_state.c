/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of allowed moves and its lookups.
 */
#include "hub/core/machine_state.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/mem.h"

static const char *const state_names[MACHINE_STATE_COUNT] = {
    [MACHINE_UNPROTECTED] = "unprotected",
    [MACHINE_ENABLING] = "enabling",
    [MACHINE_INITIAL_REPLICATION] = "initial_replication",
    [MACHINE_PROTECTED] = "protected",
    [MACHINE_RESYNCHRONIZING] = "resynchronizing",
    [MACHINE_FAILED_OVER] = "failed_over",
    [MACHINE_COMMITTED] = "committed",
    [MACHINE_REVERSE_REPLICATING] = "reverse_replicating",
    [MACHINE_REVERSE_PROTECTED] = "reverse_protected",
};

static const char *const move_names[MOVE_COUNT] = {
    [MOVE_PROTECT] = "protect",
    [MOVE_UNPROTECT] = "unprotect",
    [MOVE_CHANGE_DISKS] = "change_disks",
    [MOVE_INITIAL_BEGUN] = "initial_begun",
    [MOVE_FIRST_POINT] = "first_point",
    [MOVE_RESYNC] = "resync",
    [MOVE_RESYNC_DONE] = "resync_done",
    [MOVE_TEST_FAILOVER] = "test_failover",
    [MOVE_PLANNED_FAILOVER] = "planned_failover",
    [MOVE_UNPLANNED_FAILOVER] = "unplanned_failover",
    [MOVE_CHANGE_POINT] = "change_point",
    [MOVE_ROLLBACK] = "rollback",
    [MOVE_COMMIT] = "commit",
    [MOVE_REPROTECT] = "reprotect",
    [MOVE_REPROTECT_UNDO] = "reprotect_undo",
    [MOVE_REVERSE_FIRST_POINT] = "reverse_first_point",
    [MOVE_FAILBACK] = "failback",
};

const struct machine_move_row machine_moves[] = {
    {MACHINE_UNPROTECTED, MOVE_PROTECT, MACHINE_ENABLING},
    {MACHINE_ENABLING, MOVE_INITIAL_BEGUN, MACHINE_INITIAL_REPLICATION},
    {MACHINE_ENABLING, MOVE_FIRST_POINT, MACHINE_PROTECTED},  /* small, or its data was still in the vault */
    {MACHINE_ENABLING, MOVE_RESYNC, MACHINE_RESYNCHRONIZING}, /* its data was still in the vault */
    {MACHINE_ENABLING, MOVE_UNPROTECT, MACHINE_UNPROTECTED},
    {MACHINE_ENABLING, MOVE_CHANGE_DISKS, MACHINE_ENABLING},
    {MACHINE_INITIAL_REPLICATION, MOVE_FIRST_POINT, MACHINE_PROTECTED},
    {MACHINE_INITIAL_REPLICATION, MOVE_RESYNC, MACHINE_RESYNCHRONIZING},
    {MACHINE_INITIAL_REPLICATION, MOVE_UNPROTECT, MACHINE_UNPROTECTED},
    {MACHINE_INITIAL_REPLICATION, MOVE_CHANGE_DISKS, MACHINE_INITIAL_REPLICATION},
    /* Of a disk that was added, or after a rollback: earlier points stay good. */
    {MACHINE_INITIAL_REPLICATION, MOVE_TEST_FAILOVER, MACHINE_INITIAL_REPLICATION},
    {MACHINE_INITIAL_REPLICATION, MOVE_UNPLANNED_FAILOVER, MACHINE_FAILED_OVER},
    {MACHINE_PROTECTED, MOVE_PROTECT, MACHINE_PROTECTED}, /* another set of disks */
    {MACHINE_PROTECTED, MOVE_CHANGE_DISKS, MACHINE_PROTECTED},
    {MACHINE_PROTECTED, MOVE_INITIAL_BEGUN, MACHINE_INITIAL_REPLICATION}, /* of a disk that was added */
    {MACHINE_PROTECTED, MOVE_RESYNC, MACHINE_RESYNCHRONIZING},
    {MACHINE_PROTECTED, MOVE_UNPROTECT, MACHINE_UNPROTECTED},
    {MACHINE_PROTECTED, MOVE_TEST_FAILOVER, MACHINE_PROTECTED},
    {MACHINE_PROTECTED, MOVE_PLANNED_FAILOVER, MACHINE_FAILED_OVER},
    {MACHINE_PROTECTED, MOVE_UNPLANNED_FAILOVER, MACHINE_FAILED_OVER},
    {MACHINE_RESYNCHRONIZING, MOVE_RESYNC_DONE, MACHINE_PROTECTED},
    {MACHINE_RESYNCHRONIZING, MOVE_INITIAL_BEGUN, MACHINE_INITIAL_REPLICATION},
    {MACHINE_RESYNCHRONIZING, MOVE_UNPROTECT, MACHINE_UNPROTECTED},
    {MACHINE_RESYNCHRONIZING, MOVE_CHANGE_DISKS, MACHINE_RESYNCHRONIZING},
    {MACHINE_RESYNCHRONIZING, MOVE_TEST_FAILOVER, MACHINE_RESYNCHRONIZING}, /* earlier points stay good */
    {MACHINE_RESYNCHRONIZING, MOVE_UNPLANNED_FAILOVER, MACHINE_FAILED_OVER},
    {MACHINE_FAILED_OVER, MOVE_CHANGE_POINT, MACHINE_FAILED_OVER},
    {MACHINE_FAILED_OVER, MOVE_ROLLBACK, MACHINE_PROTECTED},
    {MACHINE_FAILED_OVER, MOVE_COMMIT, MACHINE_COMMITTED},
    {MACHINE_COMMITTED, MOVE_CHANGE_POINT, MACHINE_FAILED_OVER}, /* of a replica that is lost */
    {MACHINE_COMMITTED, MOVE_REPROTECT, MACHINE_REVERSE_REPLICATING},
    {MACHINE_COMMITTED, MOVE_UNPROTECT, MACHINE_UNPROTECTED},
    {MACHINE_REVERSE_REPLICATING, MOVE_REVERSE_FIRST_POINT, MACHINE_REVERSE_PROTECTED},
    {MACHINE_REVERSE_REPLICATING, MOVE_REPROTECT_UNDO, MACHINE_COMMITTED},
    {MACHINE_REVERSE_REPLICATING, MOVE_UNPROTECT, MACHINE_UNPROTECTED},
    {MACHINE_REVERSE_PROTECTED, MOVE_RESYNC, MACHINE_REVERSE_REPLICATING},
    {MACHINE_REVERSE_PROTECTED, MOVE_TEST_FAILOVER, MACHINE_REVERSE_PROTECTED},
    {MACHINE_REVERSE_PROTECTED, MOVE_FAILBACK, MACHINE_PROTECTED},
    {MACHINE_REVERSE_PROTECTED, MOVE_REPROTECT_UNDO, MACHINE_COMMITTED}, /* its replica is lost */
    {MACHINE_REVERSE_PROTECTED, MOVE_UNPROTECT, MACHINE_UNPROTECTED},
};
const size_t machine_move_count = ARRAY_LEN(machine_moves);

const char *machine_state_name(enum machine_state state)
{
    return (unsigned)state < MACHINE_STATE_COUNT ? state_names[state] : "unknown";
}

int machine_state_from_name(const char *name)
{
    for (int i = 0; i < MACHINE_STATE_COUNT; i++)
        if (strcmp(state_names[i], name) == 0)
            return i;
    return -1;
}

const char *machine_move_name(enum machine_move move)
{
    return (unsigned)move < MOVE_COUNT ? move_names[move] : "unknown";
}

static int refuse(enum machine_state from, enum machine_move move, struct err *err)
{
    char list[200] = "";
    size_t n = 0;

    for (size_t i = 0; i < machine_move_count && n < sizeof(list); i++)
        if (machine_moves[i].from == from)
            n += (size_t)snprintf(
                list + n, sizeof(list) - n, "%s%s", n ? ", " : "", machine_move_name(machine_moves[i].move));
    err_set(err, ERR_REFUSED, "%s is not possible while the machine is %s", machine_move_name(move),
        machine_state_name(from));
    return err_hint(err, "Possible now: %s.", list);
}

int machine_move(enum machine_state from, enum machine_move move, enum machine_state *ret_to, struct err *err)
{
    for (size_t i = 0; i < machine_move_count; i++) {
        if (machine_moves[i].from == from && machine_moves[i].move == move) {
            *ret_to = machine_moves[i].to;
            return 0;
        }
    }
    return refuse(from, move, err);
}

/* While its disks are compared no point is made, and what it would lose grows all the same. While a disk that was added is copied, the others have points. */
bool machine_state_has_rpo(enum machine_state state)
{
    return state == MACHINE_PROTECTED || state == MACHINE_RESYNCHRONIZING || state == MACHINE_INITIAL_REPLICATION;
}

bool machine_state_replicates(enum machine_state state)
{
    return state == MACHINE_ENABLING || state == MACHINE_INITIAL_REPLICATION || state == MACHINE_PROTECTED ||
           state == MACHINE_RESYNCHRONIZING;
}

/* What an agent's word means while the hub has the machine in a state that replicates. */
bool machine_move_from_agent(
    enum machine_state state, const char *agent_state, bool has_point, enum machine_move *ret_move)
{
    if (!machine_state_replicates(state))
        return false;
    if (strcmp(agent_state, "initial_replication") == 0) {
        *ret_move = MOVE_INITIAL_BEGUN;
        return state != MACHINE_INITIAL_REPLICATION;
    }
    if (strcmp(agent_state, "resynchronizing") == 0) {
        *ret_move = MOVE_RESYNC;
        return state != MACHINE_RESYNCHRONIZING;
    }
    if (strcmp(agent_state, "protected") == 0 && has_point) {
        *ret_move = state == MACHINE_RESYNCHRONIZING ? MOVE_RESYNC_DONE : MOVE_FIRST_POINT;
        return state != MACHINE_PROTECTED;
    }
    return false;
}
