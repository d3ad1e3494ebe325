/* SPDX-License-Identifier: Apache-2.0
 *
 * The states of an agent as a table of allowed moves. phase_move checks, logs and counts; nobody sets a phase otherwise.
 */
#ifndef MOBILITY_PHASE_H
#define MOBILITY_PHASE_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"

enum phase {
    PHASE_IDLE,                /* nothing is protected */
    PHASE_INITIAL_REPLICATION, /* a first copy is on its way, no point yet */
    PHASE_PROTECTED,           /* points are made */
    PHASE_RESYNCHRONIZING,     /* an older copy is being compared, no new point */
    PHASE_ERROR,               /* protection stands still; cause and remedy say why */
    PHASE_COUNT
};

const char *phase_name(enum phase phase); /* as AgentStatus.state has it */
bool phase_may_move(enum phase from, enum phase to);
/* Moves *phase; the same phase is no move and success. ERR_INTERNAL for a move that is not in the table (*phase stays). */
int phase_move(enum phase *phase, enum phase to, const char *why, struct err *err);

#endif
