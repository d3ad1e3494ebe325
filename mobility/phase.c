/* SPDX-License-Identifier: Apache-2.0
 *
 * The table. A machine that is protected goes back to initial replication only when a disk was added or the vault has lost
 * everything; from error every state can follow, for the cause may go away in any.
 */
#include "mobility/phase.h"

#include "transport/base/log.h"

static const char *const names[PHASE_COUNT] = {
    [PHASE_IDLE] = "idle",
    [PHASE_INITIAL_REPLICATION] = "initial_replication",
    [PHASE_PROTECTED] = "protected",
    [PHASE_RESYNCHRONIZING] = "resynchronizing",
    [PHASE_ERROR] = "error",
};

#define TO(x) (1u << PHASE_##x)
static const unsigned moves[PHASE_COUNT] = {
    [PHASE_IDLE] = TO(INITIAL_REPLICATION) | TO(PROTECTED) | TO(RESYNCHRONIZING) | TO(ERROR),
    [PHASE_INITIAL_REPLICATION] = TO(IDLE) | TO(PROTECTED) | TO(RESYNCHRONIZING) | TO(ERROR),
    [PHASE_PROTECTED] = TO(IDLE) | TO(INITIAL_REPLICATION) | TO(RESYNCHRONIZING) | TO(ERROR),
    [PHASE_RESYNCHRONIZING] = TO(IDLE) | TO(INITIAL_REPLICATION) | TO(PROTECTED) | TO(ERROR),
    [PHASE_ERROR] = TO(IDLE) | TO(INITIAL_REPLICATION) | TO(PROTECTED) | TO(RESYNCHRONIZING),
};

const char *phase_name(enum phase phase)
{
    return phase < PHASE_COUNT ? names[phase] : "unknown";
}

bool phase_may_move(enum phase from, enum phase to)
{
    return from < PHASE_COUNT && to < PHASE_COUNT && (from == to || (moves[from] >> to & 1u) != 0);
}

int phase_move(enum phase *phase, enum phase to, const char *why, struct err *err)
{
    if (!phase_may_move(*phase, to))
        return err_set(err, ERR_INTERNAL, "no move from %s to %s", phase_name(*phase), phase_name(to));
    if (*phase == to)
        return 0;
    log_event(LOG_INFO, "phase", LOG_S("from", phase_name(*phase)), LOG_S("to", phase_name(to)), LOG_S("why", why));
    *phase = to;
    return 0;
}
