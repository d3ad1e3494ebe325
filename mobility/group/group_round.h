/* SPDX-License-Identifier: Apache-2.0
 *
 * One group point as its coordinator sees it: who has said what, and what is said next. No sockets, no clock: the caller hands
 * in what the members answered and what time it is (monotonic), and sends the order that the phase asks for to all members.
 *
 *   PREPARE --all prepared--> FREEZE --all frozen--> READ --all held--> RELEASE --all captured--> COMMIT --all done--> DONE
 *      `------------------------------------ a member failed, was lost or was late ------------------------------> MISSED
 */
#ifndef MOBILITY_GROUP_GROUP_ROUND_H
#define MOBILITY_GROUP_GROUP_ROUND_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"

#define GROUP_MEMBERS_MIN 2u
#define GROUP_MEMBERS_MAX 64u

enum group_phase {
    GROUP_PHASE_NONE,
    GROUP_PHASE_PREPARE,
    GROUP_PHASE_FREEZE,
    GROUP_PHASE_READ,
    GROUP_PHASE_RELEASE,
    GROUP_PHASE_COMMIT,
    GROUP_PHASE_DONE,
    GROUP_PHASE_MISSED
};

/* In the order in which a member says them. */
enum group_answer_kind {
    GROUP_ANSWER_NONE,
    GROUP_ANSWER_PREPARED,
    GROUP_ANSWER_FROZEN,
    GROUP_ANSWER_HELD,
    GROUP_ANSWER_CAPTURED,
    GROUP_ANSWER_DONE,
    GROUP_ANSWER_FAILED
};

struct group_answer {
    enum group_answer_kind kind;
    uint64_t freeze_usec, sequence;
    struct err why; /* FAILED */
};

struct group_round {
    enum group_phase phase;
    unsigned count;
    uint64_t heard; /* one bit per member: it has answered in this phase */
    uint64_t budget_usec;
    uint64_t deadline_usec;   /* monotonic: the phase ends here at the latest */
    uint64_t freeze_max_usec; /* the longest freeze of a member */
    /* MISSED */
    unsigned culprit; /* a member */
    bool closing;     /* in COMMIT: the marks of all may have the id */
    struct err why;
};

/* count: GROUP_MEMBERS_MIN to GROUP_MEMBERS_MAX. The first phase is PREPARE. */
/* budget_usec 0: each member goes by its own. */
void group_round_begin(struct group_round *round, unsigned count, uint64_t budget_usec, uint64_t now_usec);
bool group_round_is_under_way(const struct group_round *round);
/* What member said, or that it was lost (FAILED). True: the phase is another one now, send its order to all. */
bool group_round_answer(
    struct group_round *round, unsigned member, const struct group_answer *answer, uint64_t now_usec);
/* As above, for the time that has passed. */
bool group_round_tick(struct group_round *round, uint64_t now_usec);

#endif
