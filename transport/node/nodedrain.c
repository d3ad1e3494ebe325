/* SPDX-License-Identifier: Apache-2.0
 *
 * Draining: a node that is to go lets its agents go first, each behind a whole change set, so that nothing is sent twice, and
 * then empties its spool into the vaults. New streams are refused from the first moment (GOAWAY, UNAVAILABLE), so agents that
 * have another node to go to go there.
 *
 * Failure modes: an agent in the middle of a set that does not end is cut off at half of the time, and sends that set again
 * elsewhere; a vault that does not take what is spooled costs the wait, and the spool stays on disk for the next start.
 */
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/node/machine.h"

#define LOOK_USEC (20 * USEC_PER_MSEC)

static bool is_between_sets(const struct machine *m)
{
    return m->batches == 0 && m->queue_head == NULL && !m->cut_through &&
           m->spooled.tail.offset == m->spooled.set_start;
}

bool nodedrain_let_go(struct machine *m, bool at_once, const char *why)
{
    struct err err = ERR_INIT;
    if (m->intake == NULL)
        return true;
    if (!at_once && m->intake->state == INTAKE_OPEN && !is_between_sets(m))
        return false;
    (void)err_set(&err, ERR_UNAVAILABLE, "%s", why);
    intake_fail(m, &err, false);
    return m->intake == NULL;
}

static void look(void *arg)
{
    struct node *node = arg;
    uint64_t now = clock_mono_usec();
    uint64_t half = node->drain.since_usec + (node->drain.until_usec - node->drain.since_usec) / 2;
    bool done = true;
    for (struct machine *m = node->machines, *next; m != NULL; m = next) {
        next = m->next;
        if (!nodedrain_let_go(m, now >= half, "this node is being drained") || machine_has_sets(m))
            done = false;
        else
            continue;
        pipeline_sync(m, true);
        link_resume(m);
    }
    if (!done && now < node->drain.until_usec)
        return;
    loop_timer_free(node->drain.timer);
    node->drain.timer = NULL;
    log_event(LOG_INFO, "drained", LOG_B("all", done), LOG_U("spool_bytes", node->spool_bytes),
        LOG_U("ms", (now - node->drain.since_usec) / USEC_PER_MSEC));
    node->drain.done(node->drain.arg, done);
}

int node_drain(struct node *node, uint64_t limit_usec, void (*drained)(void *arg, bool all), void *arg, struct err *err)
{
    uint64_t now = clock_mono_usec();
    if (node->drain.timer != NULL)
        return 0;
    node->drain.since_usec = now;
    node->drain.until_usec = now + limit_usec;
    node->drain.done = drained;
    node->drain.arg = arg;
    if (loop_timer_new(node->loop, 0, LOOK_USEC, look, node, &node->drain.timer, err) < 0)
        return -1;
    rpc_server_drain(node->server, NULL, NULL);
    return 0;
}

bool node_is_ready(const struct node *node, const char **ret_reason)
{
    *ret_reason = node->drain.since_usec != 0 || node->draining ? "draining: machines are served by other nodes"
                  : !node->applied ? "no desired state yet: the hub was never reached, and none is cached"
                                   : NULL;
    return *ret_reason == NULL;
}
