/* SPDX-License-Identifier: Apache-2.0
 *
 * When and whose change sets are joined (spool_join.h): while a vault cannot be reached and the spools of all machines together have
 * come near their limit. One machine at a time, the one whose spool has grown most since it was last joined, one segment after the other
 * in its lane, so that its batches go in between. It ends when the vault is back: then the spool is sent as it is at that moment.
 *
 * A read for the vault that comes behind a step in the lane begins at a sequence, not at a place that the step has moved: the stream to the
 * vault was not open when the step was given to the lane.
 */
#include "transport/base/log.h"
#include "transport/node/machine.h"
#include "transport/node/spool_join.h"

#define NEAR_LIMIT(bytes) ((bytes) / 4 * 3)
#define GROWTH_MIN (256u << 10)

struct joining {
    struct worker_job job;
    struct machine *machine;
    struct spool_join *join; /* NULL: the first step makes it */
    struct spool_state after;
    int result;
    struct err err;
};

static void run(struct worker_job *job)
{
    struct joining *j = (struct joining *)job;
    struct spool *spool = j->machine->spool;
    j->result = j->join == NULL ? spool_join_new(spool, &j->join, &j->err) : spool_join_step(j->join, spool, &j->err);
    j->after = spool_state(spool);
}

static void end(struct machine *m, struct joining *j)
{
    struct node *node = m->node;
    struct spool_joined done = {0};
    node->joining = NULL;
    m->joined_bytes = m->spooled.bytes;
    if (j->join != NULL)
        done = spool_join_result(j->join);
    node->joined_bytes += done.bytes;
    node->joined_points += done.points;
    if (j->result < 0) {
        log_event(LOG_WARN, "sets_not_joined", LOG_S("machine", m->text), LOG_E(&j->err));
        spooldisk_copy_failed(node, &j->err);
    } else if (done.bytes > 0) {
        log_event(LOG_INFO, "sets_joined", LOG_S("machine", m->text), LOG_U("freed_bytes", done.bytes),
            LOG_U("points_given_up", done.points), LOG_U("spool_bytes", m->spooled.bytes));
    }
    spool_join_free(j->join);
    free(j);
}

/* Only while the vault is away: what is being sent must stay where it is. */
static bool may_join(const struct machine *m)
{
    return m->ready && m->link.state != LINK_OPEN && m->starts == 0 && m->spooled.epoch != 0;
}

static void done(struct worker_job *job)
{
    struct joining *j = (struct joining *)job;
    struct machine *m = j->machine;
    struct node *node = m->node;
    bool was_run = worker_job_was_run(job) && !node->stopping;
    m->jobs--;
    if (was_run)
        machine_take_state(m, &j->after);
    j->job = (struct worker_job){.run = run, .done = done};
    if (!was_run || j->result <= 0 || !may_join(m) || machine_submit(m, &j->job) < 0)
        end(m, j);
    if (was_run)
        pipeline_kick_all(node);
    machine_free(m);
}

static uint64_t growth(const struct machine *m)
{
    uint64_t bytes = m->spooled.bytes;
    uint64_t grown = bytes > m->joined_bytes ? bytes - m->joined_bytes : 0;
    return may_join(m) && grown >= GROWTH_MIN && grown >= m->joined_bytes / 4 ? grown : 0;
}

void joining_look(struct node *node)
{
    struct machine *most = NULL;
    if (node->joining != NULL || node->stopping ||
        node->spool_bytes + node->admitted_bytes < NEAR_LIMIT(node->conf.spool_bytes))
        return;
    for (struct machine *m = node->machines; m != NULL; m = m->next) {
        if (growth(m) > (most != NULL ? growth(most) : 0))
            most = m;
    }
    struct joining *j = most != NULL ? mem_new(struct joining) : NULL;
    if (j == NULL)
        return;
    *j = (struct joining){.job = {.run = run, .done = done}, .machine = most};
    if (machine_submit(most, &j->job) < 0) {
        free(j);
        return;
    }
    node->joining = j;
}
