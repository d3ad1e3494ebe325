/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a protected machine: its states and the moves that are allowed, as one table (ARCHITECTURE.md
 * section 9). The diagram in docs/ is generated from it. Pure.
 */
#ifndef HUB_CORE_MACHINE_STATE_H
#define HUB_CORE_MACHINE_STATE_H

#include <stdbool.h>
#include <stddef.h>

#include "transport/base/err.h"

enum machine_state {
    MACHINE_UNPROTECTED,
    MACHINE_ENABLING, /* desired state is out, the agent has not begun */
    MACHINE_INITIAL_REPLICATION,
    MACHINE_PROTECTED,
    MACHINE_RESYNCHRONIZING,
    MACHINE_FAILED_OVER, /* the replica runs; the point may still be changed or rolled back */
    MACHINE_COMMITTED,
    MACHINE_REVERSE_REPLICATING,
    MACHINE_REVERSE_PROTECTED,
    MACHINE_STATE_COUNT
};

enum machine_move {
    MOVE_PROTECT, /* a person asked */
    MOVE_UNPROTECT,
    MOVE_CHANGE_DISKS,  /* one more or one less */
    MOVE_INITIAL_BEGUN, /* the agent says so */
    MOVE_FIRST_POINT,
    MOVE_RESYNC, /* asked for, or the agent had to */
    MOVE_RESYNC_DONE,
    MOVE_TEST_FAILOVER, /* stays where it is */
    MOVE_PLANNED_FAILOVER,
    MOVE_UNPLANNED_FAILOVER,
    MOVE_CHANGE_POINT,
    MOVE_ROLLBACK,
    MOVE_COMMIT,
    MOVE_REPROTECT,
    MOVE_REPROTECT_UNDO, /* it did not come to its first point */
    MOVE_REVERSE_FIRST_POINT,
    MOVE_FAILBACK,
    MOVE_COUNT
};

struct machine_move_row {
    enum machine_state from;
    enum machine_move move;
    enum machine_state to;
};
extern const struct machine_move_row machine_moves[];
extern const size_t machine_move_count;

const char *machine_state_name(enum machine_state state); /* "initial_replication" */
int machine_state_from_name(const char *name);            /* -1: none of them */
const char *machine_move_name(enum machine_move move);    /* "planned_failover" */
/* The state after the move; ERR_REFUSED, with the moves that are allowed as correction, where there is none.
 */
int machine_move(enum machine_state from, enum machine_move move, enum machine_state *ret_to, struct err *err);
bool machine_state_replicates(enum machine_state state); /* the agent is told to protect */
bool machine_state_has_rpo(
    enum machine_state state); /* where it has points, it is to have a new one within its RPO target */

/* The move that the agent's reported state ("initial_replication", "protected", ...) asks for; false: none. Only a machine
 * that has a committed point may be called protected. */
bool machine_move_from_agent(
    enum machine_state state, const char *agent_state, bool has_point, enum machine_move *ret_move);

#endif
