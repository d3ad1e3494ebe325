/* SPDX-License-Identifier: Apache-2.0
 *
 * One table says what each phase waits for, for how long, and what comes next. Whoever says anything else, or the right thing
 * twice, has lost the group point: there is no state to which one could go back.
 */
#include "mobility/group/group_round.h"

#include "transport/base/clock.h"

/* Live rounds, until the slowest member has little left. Those that wait make no points meanwhile. */
#define PREPARE_USEC (5 * USEC_PER_SEC)
/* What is not part of the freeze's budget: the last flush before it (capture/freeze.h), and the network. */
#define AROUND_FREEZE_USEC (2 * USEC_PER_SEC)
/* Of a policy: what each machine goes by where the group has no budget of its own. */
#define BUDGET_MAX_USEC (10 * USEC_PER_SEC)
/* After the thaw: what was read goes into the link's queue, which may be full. */
#define DELIVER_USEC (5 * USEC_PER_SEC)

static const struct {
    enum group_answer_kind expects;
    enum group_phase next;
    uint64_t usec;
    const char *late;
} phases[] = {
    [GROUP_PHASE_PREPARE] = {GROUP_ANSWER_PREPARED, GROUP_PHASE_FREEZE, PREPARE_USEC, "was not ready in time"},
    [GROUP_PHASE_FREEZE] = {GROUP_ANSWER_FROZEN, GROUP_PHASE_READ, AROUND_FREEZE_USEC, "did not freeze in time"},
    [GROUP_PHASE_READ] = {GROUP_ANSWER_HELD, GROUP_PHASE_RELEASE, AROUND_FREEZE_USEC, "did not read in time"},
    [GROUP_PHASE_RELEASE] = {GROUP_ANSWER_CAPTURED, GROUP_PHASE_COMMIT, DELIVER_USEC, "did not deliver in time"},
    [GROUP_PHASE_COMMIT] = {GROUP_ANSWER_DONE, GROUP_PHASE_DONE, DELIVER_USEC, "did not close its point in time"},
};

bool group_round_is_under_way(const struct group_round *r)
{
    return r->phase >= GROUP_PHASE_PREPARE && r->phase <= GROUP_PHASE_COMMIT;
}

static void enter(struct group_round *r, enum group_phase phase, uint64_t now_usec)
{
    r->phase = phase;
    r->heard = 0;
    if (group_round_is_under_way(r))
        r->deadline_usec = now_usec + phases[phase].usec +
                           (phase == GROUP_PHASE_FREEZE || phase == GROUP_PHASE_READ ? 3 * r->budget_usec : 0);
}

void group_round_begin(struct group_round *r, unsigned count, uint64_t budget_usec, uint64_t now_usec)
{
    *r = (struct group_round){.count = count, .budget_usec = budget_usec ? budget_usec : BUDGET_MAX_USEC};
    enter(r, GROUP_PHASE_PREPARE, now_usec);
}

static bool miss(struct group_round *r, unsigned member, const struct err *why)
{
    r->closing = r->phase == GROUP_PHASE_COMMIT;
    r->phase = GROUP_PHASE_MISSED;
    r->culprit = member;
    err_copy(&r->why, why);
    return true;
}

static uint64_t bit_of(unsigned member)
{
    return UINT64_C(1) << member;
}

static bool all_heard(const struct group_round *r)
{
    return r->heard == (r->count == 64 ? UINT64_MAX : bit_of(r->count) - 1);
}

bool group_round_answer(struct group_round *r, unsigned member, const struct group_answer *answer, uint64_t now_usec)
{
    struct err why = ERR_INIT;

    if (!group_round_is_under_way(r) || member >= r->count)
        return false;
    if (answer->kind == GROUP_ANSWER_FAILED)
        return miss(r, member, &answer->why);
    if (answer->kind != phases[r->phase].expects || (r->heard & bit_of(member))) {
        err_set(&why, ERR_INVALID, "it answered out of turn");
        return miss(r, member, &why);
    }
    if (answer->freeze_usec > r->freeze_max_usec)
        r->freeze_max_usec = answer->freeze_usec;
    r->heard |= bit_of(member);
    if (!all_heard(r))
        return false;
    enter(r, phases[r->phase].next, now_usec);
    return true;
}

bool group_round_tick(struct group_round *r, uint64_t now_usec)
{
    struct err why = ERR_INIT;
    unsigned silent = 0;

    if (!group_round_is_under_way(r) || now_usec < r->deadline_usec)
        return false;
    while (silent < r->count && (r->heard & bit_of(silent)))
        silent++;
    err_set(&why, ERR_TIMEOUT, "it %s", phases[r->phase].late);
    return miss(r, silent, &why);
}
