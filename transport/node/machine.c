/* SPDX-License-Identifier: Apache-2.0
 *
 * A machine's life on the node, and the jobs of its lane that are not about a batch: scanning the spool, beginning or
 * rewinding it, deleting what is committed. After each the lane reports the spool's state, which is all that the loop
 * thread knows about it.
 */
#include "transport/node/machine.h"

#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/log/segment.h"

enum lane_task { LANE_SCAN, LANE_START, LANE_TRIM };

struct lane_job {
    struct worker_job job;
    struct machine *machine;
    enum lane_task task;
    bool begin; /* LANE_START: drop everything */
    bool idle;  /* LANE_TRIM */
    uint64_t generation, epoch, sequence;
    struct spool_state after;
    int result;
    struct err err;
};

/* ---- life ---- */

static uint64_t segment_bytes(const struct node *node)
{
    uint64_t share = node->conf.spool_bytes / 16;
    return share < SEGMENT_TARGET_BYTES ? share : SEGMENT_TARGET_BYTES;
}

static int run_scan(struct lane_job *j)
{
    struct machine *m = j->machine;
    AUTO_FREE char *path = mem_printf("%s/%s", m->node->spool_dir, m->text);
    if (path == NULL)
        return err_set(&j->err, ERR_NOMEM, "no memory for the path of a spool");
    if (m->check.digest == NULL && setcheck_init(&m->check, &j->err) < 0)
        return -1;
    return spool_open(path, &m->id, segment_bytes(m->node), &m->spool, &j->err);
}

/* A rewind that fails leaves a tail that nobody can account for: everything goes, the agent sends it again. */
static int run_start(struct lane_job *j)
{
    struct machine *m = j->machine;
    int result = j->begin ? spool_begin(m->spool, j->generation, j->epoch, j->sequence, &j->err)
                          : spool_rewind(m->spool, &j->err);
    if (result < 0 && !j->begin) {
        struct spool_state now = spool_state(m->spool);
        result = spool_begin(m->spool, now.generation, now.epoch, now.next_sequence, &j->err);
    }
    struct spool_state state = spool_state(m->spool);
    m->sets_failed = result < 0;
    setcheck_start(&m->check, &m->id, state.generation, state.epoch, state.next_sequence);
    return result;
}

static void lane_run(struct worker_job *job)
{
    struct lane_job *j = (struct lane_job *)job;
    switch (j->task) {
    case LANE_SCAN:
        j->result = run_scan(j);
        break;
    case LANE_START:
        j->result = run_start(j);
        break;
    case LANE_TRIM:
        j->result = spool_trim(j->machine->spool, j->sequence, j->idle, &j->err);
        break;
    }
    if (j->machine->spool != NULL)
        j->after = spool_state(j->machine->spool);
}

void machine_take_state(struct machine *m, const struct spool_state *state)
{
    m->node->spool_bytes += state->bytes - m->spooled.bytes;
    m->spooled = *state;
    if (m->joined_bytes > state->bytes)
        m->joined_bytes = state->bytes; /* what was joined has gone since: the next outage begins anew */
}

bool machine_has_sets(const struct machine *m)
{
    uint64_t first = m->spooled.first_sequence > m->committed ? m->spooled.first_sequence : m->committed + 1;
    return first < m->spooled.next_sequence;
}

static void after_scan(struct machine *m)
{
    m->ready = true;
    if (machine_has_sets(m))
        log_event(LOG_INFO, "spool_found", LOG_S("machine", m->text),
            LOG_U("first_sequence", m->spooled.first_sequence), LOG_U("next_sequence", m->spooled.next_sequence),
            LOG_U("bytes", m->spooled.bytes));
    /* An Open that came during the scan began no sets: this does, and what waits is answered when it is done. */
    machine_start_sets(m, false, 0, 0, 0);
}

static void after_trim(struct machine *m)
{
    m->trimming = false;
    if (m->trim_again) {
        m->trim_again = false;
        machine_trim(m, false);
    }
    pipeline_kick_all(m->node);
}

static void lane_failed(struct lane_job *j)
{
    struct machine *m = j->machine;
    spooldisk_failed(m->node, &j->err);
    spooldisk_hint(&j->err);
    if (j->task == LANE_START) /* else what the vault expects would be looked for in it at once, and again */
        link_pause(m, &j->err);
    else
        log_event(LOG_ERROR, "spool_failed", LOG_S("machine", m->text), LOG_E(&j->err));
    intake_fail(m, &j->err, false);
}

static void lane_done(struct worker_job *job)
{
    struct lane_job *j = (struct lane_job *)job;
    struct machine *m = j->machine;
    enum lane_task task = j->task;
    m->jobs--;
    if (task == LANE_START)
        m->starts--;
    if (task == LANE_SCAN)
        m->scanning = false;
    if (worker_job_was_run(job) && !m->node->stopping) {
        machine_take_state(m, &j->after);
        if (j->result < 0)
            lane_failed(j);
        else if (task == LANE_SCAN)
            after_scan(m);
        else if (task == LANE_START)
            m->link.start_failures = 0;
        if (task == LANE_TRIM)
            after_trim(m);
        if (task == LANE_START) {
            link_resume(m);
            intake_advance(m);
            link_pump(m);
            pipeline_kick_all(m->node);
        }
    }
    free(j);
    machine_free(m);
}

int machine_submit(struct machine *m, struct worker_job *job)
{
    struct err err = ERR_INIT;
    if (worker_lane_submit(m->lane, job, &err) < 0) {
        log_event(LOG_ERROR, "lane_full", LOG_S("machine", m->text), LOG_E(&err));
        return -1;
    }
    m->jobs++;
    return 0;
}

static int submit_task(struct machine *m, const struct lane_job *order)
{
    struct lane_job *j = mem_new(struct lane_job);
    if (j == NULL) {
        log_event(LOG_ERROR, "no_memory", LOG_S("machine", m->text));
        return -1;
    }
    *j = *order;
    j->job = (struct worker_job){.run = lane_run, .done = lane_done};
    j->machine = m;
    if (machine_submit(m, &j->job) < 0) {
        free(j);
        return -1;
    }
    return 0;
}

void machine_start_sets(struct machine *m, bool begin, uint64_t generation, uint64_t epoch, uint64_t next_sequence)
{
    struct lane_job order = {
        .task = LANE_START, .begin = begin, .generation = generation, .epoch = epoch, .sequence = next_sequence};
    if (!m->ready)
        return;
    if (submit_task(m, &order) == 0) {
        m->starts++;
        return;
    }
    struct err err = ERR_INIT;
    (void)err_set(&err, ERR_NOMEM, "the node is short of memory");
    intake_fail(m, &err, false);
}

void machine_trim(struct machine *m, bool idle)
{
    struct lane_job order = {.task = LANE_TRIM, .idle = idle, .sequence = m->committed};
    if (!m->ready)
        return;
    if (m->trimming) {
        m->trim_again = m->trim_again || !idle;
        return;
    }
    m->trimming = submit_task(m, &order) == 0;
}

int machine_new(struct node *node, const struct ident *id, struct machine **ret_machine, struct err *err)
{
    struct machine *m = mem_new(struct machine);
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a machine");
    m->node = node;
    m->id = *id;
    m->sync_fd = -1;
    m->wanted = true;
    m->served_usec = clock_mono_usec();
    ident_to_text(id, m->text);
    m->lane = worker_lane_new(node->pool);
    struct lane_job order = {.task = LANE_SCAN};
    if (m->lane == NULL || submit_task(m, &order) < 0) {
        worker_lane_free(m->lane);
        free(m);
        return err_set(err, ERR_NOMEM, "no memory for a machine");
    }
    m->scanning = true;
    *ret_machine = m;
    return 0;
}

void machine_scan_again(struct machine *m)
{
    struct lane_job order = {.task = LANE_SCAN};
    if (!m->ready && !m->scanning)
        m->scanning = submit_task(m, &order) == 0;
}

static void unlink_from_node(struct machine *m)
{
    for (struct machine **at = &m->node->machines; *at != NULL; at = &(*at)->next) {
        if (*at == m) {
            *at = m->next;
            m->node->machine_count--;
            if (m->node->turn == m)
                m->node->turn = m->next;
            return;
        }
    }
}

/* Gone are those that the hub took away, once nothing of theirs is left to forward. */
void machine_free(struct machine *m)
{
    bool left = m->node->stopping || (!m->wanted && m->ready && !machine_has_sets(m));
    if (!left || m->jobs > 0 || m->intake != NULL)
        return;
    if (!m->node->stopping && !m->leaving && m->spooled.bytes > 0) {
        m->leaving = true;
        machine_trim(m, true);
        return;
    }
    unlink_from_node(m);
    linkshape_leave(m);
    link_done(m);
    if (m->peer != NULL)
        peer_put(m->node, m->peer);
    m->node->spool_bytes -= m->spooled.bytes;
    spool_close(m->spool);
    setcheck_done(&m->check);
    worker_lane_free(m->lane);
    if (m->sync_fd >= 0)
        (void)close(m->sync_fd);
    explicit_bzero(&m->key, sizeof(m->key));
    free(m);
}

struct machine *machine_find(struct node *node, const struct ident *id)
{
    for (struct machine *m = node->machines; m != NULL; m = m->next) {
        if (ident_equal(&m->id, id))
            return m;
    }
    return NULL;
}
