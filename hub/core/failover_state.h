/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of one failover, from its start to its cleanup, rollback or commit, as a table of allowed moves; and what each kind means for
 * the machine (hub/core/machine_state.h). Pure.
 *
 *   starting --run--> running --end--> ending --cleaned--> cleaned         (a test)
 *                             --end--> ending --rolled_back--> rolled_back (before the commit)
 *                             --commit--> committed --reprotect--> reprotected --fail_back--> failed_back
 *   starting --end--> ending --give_up--> failed                           (what a failed start left behind)
 */
#ifndef HUB_CORE_FAILOVER_STATE_H
#define HUB_CORE_FAILOVER_STATE_H

#include <stdbool.h>
#include <stddef.h>

#include "hub/core/machine_state.h"

enum failover_kind { FAILOVER_TEST, FAILOVER_PLANNED, FAILOVER_UNPLANNED, FAILOVER_KIND_COUNT };

enum failover_state {
    FAILOVER_STARTING,
    FAILOVER_RUNNING,
    FAILOVER_ENDING, /* the replica is stopped and its branch discarded */
    FAILOVER_CLEANED,
    FAILOVER_COMMITTED,
    FAILOVER_ROLLED_BACK,
    FAILOVER_FAILED,
    FAILOVER_REPROTECTED, /* the replica is protected */
    FAILOVER_FAILED_BACK,
    FAILOVER_STATE_COUNT
};

enum failover_move {
    FAILOVER_RUN,
    FAILOVER_RESTART, /* another point */
    FAILOVER_END,
    FAILOVER_CLEAN,
    FAILOVER_ROLL_BACK,
    FAILOVER_COMMIT,
    FAILOVER_GIVE_UP,
    FAILOVER_REPROTECT,
    FAILOVER_UNPROTECT, /* the protection of the replica did not come to be */
    FAILOVER_FAIL_BACK,
    FAILOVER_MOVE_COUNT
};

struct failover_move_row {
    enum failover_state from;
    enum failover_move move;
    enum failover_state to;
    bool test_may, real_may; /* of which kinds */
};
extern const struct failover_move_row failover_moves[];
extern const size_t failover_move_count;

const char *failover_kind_name(enum failover_kind kind);
int failover_kind_from_name(const char *name); /* -1: none of them */
const char *failover_state_name(enum failover_state state);
int failover_state_from_name(const char *name); /* -1: none of them */
const char *failover_move_name(enum failover_move move);
bool failover_state_is_final(enum failover_state state);

/* The state after the move; ERR_REFUSED with what is possible as correction. */
int failover_move(enum failover_kind kind, enum failover_state from, enum failover_move move,
    enum failover_state *ret_to, struct err *err);
/* What the start of such a failover asks of the machine's own table. */
enum machine_move failover_machine_move(enum failover_kind kind);

#endif
