/* SPDX-License-Identifier: Apache-2.0
 *
 * Status: into memory at once (live_status.h), into the database in batches, in pieces with rests in between (piecework.h). A status that changes what a
 * machine is (its state, its first point, the version it reached) makes the next batch come soon, goes first in it and moves the machine's state.
 * A batch that fails is not repeated: the statuses that come meanwhile replace it. Minutes, of machines and of disks, are kept until they are
 * stored, as many as memory allows (SAMPLES_MAX): they add up, so those of which nobody can tell whether they were stored are not tried again.
 */
#include <stdio.h>
#include <string.h>

#include "hub/control/control_plane.h"
#include "hub/control/piecework.h"
#include "hub/db/branch_store.h"
#include "hub/db/churn_store.h"
#include "hub/db/history_store.h"
#include "hub/db/job_store.h"
#include "hub/db/peer_store.h"
#include "hub/db/protection_store.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

#define SOON_USEC (20 * USEC_PER_MSEC)
#define FLUSH_USEC USEC_PER_SEC
#define MINUTE_USEC (60 * USEC_PER_SEC)
#define SAMPLES_MAX 100000

/* ---- samples ---- */

static void sample_finish(struct peer_session *s)
{
    const struct minute_sample *m = &s->sample;

    if (m->minute_usec && m->rpo_count && json_array_size(s->control->samples) < SAMPLES_MAX)
        (void)json_array_append_new(s->control->samples,
            json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id", s->id, "minute_usec",
                peer_report_json_u64(m->minute_usec), "rpo_max_usec", peer_report_json_u64(m->rpo_max_usec),
                "rpo_sum_usec", peer_report_json_u64(m->rpo_sum_usec), "rpo_count", peer_report_json_u64(m->rpo_count),
                "changed_bytes", peer_report_json_u64(m->changed_bytes), "sent_bytes",
                peer_report_json_u64(m->sent_bytes), "points", peer_report_json_u64(m->points), "frozen_points",
                peer_report_json_u64(m->frozen_points), "backlog_bytes", peer_report_json_u64(m->backlog_bytes)));
    s->sample = (struct minute_sample){0};
}

void status_session_over(struct peer_session *s)
{
    sample_finish(s);
}

/* Growth of a counter that begins anew with its agent. */
static uint64_t growth(uint64_t before, uint64_t now)
{
    return now >= before ? now - before : now;
}

static void sample_add(struct peer_session *s, const struct live_machine *before, const struct live_machine *now)
{
    uint64_t minute = clock_utc_usec() / MINUTE_USEC * MINUTE_USEC;
    struct minute_sample *m = &s->sample;
    bool first = before->heard_utc_usec == 0;

    if (now->last_point_sequence == 0)
        return;
    if (m->minute_usec != minute) {
        sample_finish(s);
        m->minute_usec = minute;
    }
    m->rpo_max_usec = now->rpo_usec > m->rpo_max_usec ? now->rpo_usec : m->rpo_max_usec;
    m->rpo_sum_usec += now->rpo_usec;
    m->rpo_count++;
    m->backlog_bytes = now->backlog_bytes > m->backlog_bytes ? now->backlog_bytes : m->backlog_bytes;
    m->changed_bytes += first ? 0 : growth(before->changed_bytes, now->changed_bytes);
    m->sent_bytes += first ? 0 : growth(before->sent_bytes, now->sent_bytes);
    m->points += first ? 0 : growth(before->points_made, now->points_made);
    m->frozen_points += first ? 0 : growth(before->points_frozen, now->points_frozen);
}

/* ---- taking ---- */

static void flush_soon(struct control *control)
{
    loop_timer_set(control->flush_timer, SOON_USEC);
}

static bool changes_the_machine(const struct live_machine *before, const struct live_machine *now)
{
    return strcmp(before->agent_state, now->agent_state) != 0 || before->desired_version != now->desired_version ||
           (before->last_point_sequence == 0) != (now->last_point_sequence == 0);
}

void status_take_agent(struct peer_session *s, const Leeward__Control__V1__AgentStatus *a)
{
    struct live_machine now = {.heard_utc_usec = clock_utc_usec(),
        .last_point_sequence = a->last_point_sequence,
        .last_point_utc_usec = a->last_point_utc_usec,
        .rpo_usec = a->rpo_usec,
        .backlog_bytes = a->backlog_bytes,
        .initial_total_bytes = a->initial_total_bytes,
        .initial_done_bytes = a->initial_done_bytes,
        .sent_bytes = a->sent_bytes,
        .changed_bytes = a->changed_bytes,
        .points_made = a->points_made,
        .points_frozen = a->points_frozen,
        .window_usec = a->window_usec,
        .freeze_usec = a->freeze_usec,
        .rounds = a->rounds,
        .throughput_bytes_per_sec = a->throughput_bytes_per_sec,
        .remaining_usec = a->remaining_usec,
        .desired_version = a->desired_version};

    peer_report_text(now.agent_state, sizeof(now.agent_state), a->state);
    peer_report_text(now.cause, sizeof(now.cause), a->cause);
    peer_report_text(now.remedy, sizeof(now.remedy), a->remedy);
    peer_report_text(now.node_id, sizeof(now.node_id), a->node_id);
    peer_report_text(now.slowed_by, sizeof(now.slowed_by), a->slowed_by);
    sample_add(s, &s->last.machine, &now);
    s->status_dirty = true;
    if (changes_the_machine(&s->last.machine, &now)) {
        s->follow = true;
        flush_soon(s->control);
    }
    s->last.machine = now;
    (void)live_status_put_machine(s->control->conf.live, s->id, &now, NULL);
}

void status_take_node(struct peer_session *s, const Leeward__Control__V1__NodeStatus *n)
{
    struct live_node now = {.draining = n->draining,
        .spool_bytes = n->spool_bytes,
        .spool_limit_bytes = n->spool_limit_bytes,
        .received_bytes = n->received_bytes,
        .forwarded_bytes = n->forwarded_bytes,
        .streams = n->streams,
        .cpu_permille = n->cpu_permille,
        .desired_version = n->desired_version};

    peer_report_text(now.cause, sizeof(now.cause), n->cause);
    peer_report_text(now.remedy, sizeof(now.remedy), n->remedy);
    s->status_dirty = true;
    s->last.node = now;
    (void)live_status_put_node(s->control->conf.live, s->id, &now, NULL);
}

/* Texts of JSON arrays. */
struct exports_task {
    struct control_task task;
    char *open, *opening, *machines, *branches;
};

static int exports_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    const struct exports_task *t = (struct exports_task *)task;
    const struct export_report report = {
        .open = t->open, .opening = t->opening, .machines = t->machines, .branches = t->branches};

    return export_reconcile(conn, task->session->id, &report, err);
}

static void exports_drop(struct control_task *task)
{
    struct exports_task *t = (struct exports_task *)task;

    free(t->open);
    free(t->opening);
    free(t->machines);
    free(t->branches);
}

static char *dump_array(json_t *array)
{
    char *text = json_dumps(array, JSON_COMPACT);

    json_decref(array);
    return text;
}

static char *list_exports(const Leeward__Control__V1__VaultStatus *v, bool opening)
{
    json_t *ids = json_array();

    for (size_t i = 0; i < v->n_exports; i++)
        if (!v->exports[i]->opening == !opening)
            (void)json_array_append_new(ids, peer_report_json_text(v->exports[i]->export_id));
    return dump_array(ids);
}

static char *list_machines(const Leeward__Control__V1__VaultStatus *v)
{
    json_t *ids = json_array();

    for (size_t i = 0; i < v->n_branches; i++)
        (void)json_array_append_new(ids, peer_report_json_text(v->branches[i]->machine_id));
    return dump_array(ids);
}

/* Ids that are none would fail the whole statement: they are left out. */
static char *list_branches(const Leeward__Control__V1__VaultStatus *v)
{
    json_t *list = json_array();
    struct ident id;

    for (size_t i = 0; i < v->n_branches; i++)
        for (size_t k = 0; k < v->branches[i]->n_branches; k++) {
            const Leeward__Control__V1__Branch *b = v->branches[i]->branches[k];

            if (ident_from_text(v->branches[i]->machine_id, &id) < 0 || ident_from_text(b->branch_id, &id) < 0)
                continue;
            (void)json_array_append_new(
                list, json_pack("{s:s, s:s, s:o, s:o, s:o}", "machine_id", v->branches[i]->machine_id, "id",
                          b->branch_id, "base", peer_report_json_u64(b->base_sequence), "created_usec",
                          peer_report_json_u64(b->created_utc_usec), "bytes", peer_report_json_u64(b->stored_bytes)));
        }
    return dump_array(list);
}

/* What the vault does not list is not open, and a branch that it lists is there. */
static void reconcile_exports(struct peer_session *s, const Leeward__Control__V1__VaultStatus *v)
{
    struct exports_task *t = (struct exports_task *)control_task_new(sizeof(*t), s->control, s);

    if (!t)
        return;
    t->task.work = exports_work;
    t->task.drop = exports_drop;
    t->open = list_exports(v, false);
    t->opening = list_exports(v, true);
    t->machines = list_machines(v);
    t->branches = list_branches(v);
    if (t->open && t->opening && t->machines && t->branches)
        (void)control_task_submit(&t->task, s->lane);
    else
        control_task_free(&t->task);
}

void status_take_vault(struct peer_session *s, const Leeward__Control__V1__VaultStatus *v)
{
    struct live_vault now = {.accepting = v->accepting,
        .used_bytes = v->used_bytes,
        .free_bytes = v->free_bytes,
        .capacity_bytes = v->capacity_bytes,
        .streams = v->streams,
        .desired_version = v->desired_version};

    peer_report_text(now.cause, sizeof(now.cause), v->cause);
    peer_report_text(now.remedy, sizeof(now.remedy), v->remedy);
    if (!s->status_dirty && s->last.vault.capacity_bytes == 0)
        flush_soon(s->control); /* the first one: placement needs its free space */
    s->status_dirty = true;
    s->last.vault = now;
    (void)live_status_put_vault(s->control->conf.live, s->id, &now, NULL);
    reconcile_exports(s, v);
}

/* ---- the batch ---- */

struct follow {
    char id[IDENT_TEXT_SIZE];
    char agent_state[32];
    bool has_point;
};

struct flush_task {
    struct control_task task;
    json_t *moved; /* machines whose state is to be followed at once */
    json_t *machines, *nodes, *vaults, *samples, *disk_minutes;
    struct follow *follows; /* of `moved`, in its order */
    size_t follow_count;
    size_t samples_done, disk_minutes_done; /* the first ones, which are stored or given up */
};

static void flush_drop(struct control_task *task)
{
    struct flush_task *t = (struct flush_task *)task;

    json_decref(t->moved);
    json_decref(t->machines);
    json_decref(t->nodes);
    json_decref(t->vaults);
    json_decref(t->samples);
    json_decref(t->disk_minutes);
    free(t->follows);
}

/* Waiting jobs look again when their machine's agent has moved, even if the state stays. What is lost the sweep finds again. */
static int follow_one(struct db_conn *conn, const struct follow *f, struct err *err)
{
    if (db_begin_relaxed(conn, err) < 0)
        return -1;
    if (machine_state_follow(conn, f->id, f->agent_state, f->has_point, err) < 0 ||
        job_store_wake_machine(conn, f->id, err) < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err);
}

/* How many rows are one piece: some milliseconds of PostgreSQL's time. A sample is three rows. */
#define STATUS_PIECE 250u
#define SAMPLE_PIECE 80u

struct pieces {
    const json_t *rows;
    size_t size;
    int (*put)(struct db_conn *conn, const char *json, struct err *err);
    size_t *done; /* may be NULL */
};

static int put_piece(struct db_conn *conn, const struct pieces *p, size_t from, struct err *err)
{
    json_t *piece = json_array();
    char *text;
    int rc;

    for (size_t i = from; piece && i < from + p->size && i < json_array_size(p->rows); i++)
        (void)json_array_append(piece, json_array_get(p->rows, i));
    text = piece ? json_dumps(piece, JSON_COMPACT) : NULL;
    json_decref(piece);
    rc = text ? p->put(conn, text, err) : err_set(err, ERR_NOMEM, "no memory for a batch");
    free(text);
    return rc;
}

/* *full: what was written before was a whole piece; a fleet of less never rests. */
static int put_pieces(struct db_conn *conn, const struct pieces *p, struct piecework *work, bool *full, struct err *err)
{
    for (size_t i = 0; i < json_array_size(p->rows); i += p->size) {
        if (*full)
            piecework_rest(work);
        *full = json_array_size(p->rows) - i >= p->size;
        int rc = put_piece(conn, p, i, err);

        if (p->done) /* what was given up for another transaction's sake is not there */
            *p->done = rc < 0 && err->code == ERR_CONFLICT ? i : i + p->size;
        if (rc < 0)
            return -1;
    }
    return 0;
}

static int flush_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    struct flush_task *t = (struct flush_task *)task;
    const struct pieces first = {t->moved, STATUS_PIECE, machine_status_put, NULL};
    const struct pieces rest[] = {{t->nodes, STATUS_PIECE, node_status_put, NULL},
        {t->vaults, STATUS_PIECE, vault_status_put, NULL}, {t->machines, STATUS_PIECE, machine_status_put, NULL},
        {t->samples, SAMPLE_PIECE, history_put, &t->samples_done},
        {t->disk_minutes, SAMPLE_PIECE, churn_put, &t->disk_minutes_done}};
    struct piecework work;
    bool full = false;

    piecework_begin(&work);
    if (put_pieces(conn, &first, &work, &full, err) < 0)
        return -1;
    /* One that fails (deleted meanwhile, conflict) is left to the sweep. */
    for (size_t i = 0; i < t->follow_count; i++)
        (void)follow_one(conn, &t->follows[i], NULL);
    for (size_t i = 0; i < ARRAY_LEN(rest); i++)
        if (put_pieces(conn, &rest[i], &work, &full, err) < 0)
            return -1;
    return 0;
}

/* For a later batch. */
static void give_back(json_t *waiting, const json_t *rows, size_t done)
{
    for (size_t i = done; i < json_array_size(rows) && json_array_size(waiting) < SAMPLES_MAX; i++)
        (void)json_array_append(waiting, json_array_get(rows, i));
}

static void flush_then(struct control_task *task)
{
    const struct flush_task *t = (const struct flush_task *)task;

    task->control->flush_busy = false;
    if (task->rc < 0) {
        give_back(task->control->samples, t->samples, t->samples_done);
        give_back(task->control->disk_minutes, t->disk_minutes, t->disk_minutes_done);
    }
    if (task->rc < 0 && task->err.code != ERR_UNAVAILABLE)
        log_event(LOG_WARN, "status_batch_failed", LOG_E(&task->err));
}

static json_t *machine_json(const struct peer_session *s)
{
    const struct live_machine *m = &s->last.machine;

    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "id", s->id, "agent_state",
        m->agent_state, "agent_cause", m->cause, "agent_remedy", m->remedy, "initial_total_bytes",
        peer_report_json_u64(m->initial_total_bytes), "initial_done_bytes", peer_report_json_u64(m->initial_done_bytes),
        "backlog_bytes", peer_report_json_u64(m->backlog_bytes), "last_point_sequence",
        peer_report_json_u64(m->last_point_sequence), "last_point_usec", peer_report_json_u64(m->last_point_utc_usec),
        "rpo_usec", peer_report_json_u64(m->rpo_usec), "converged_version", peer_report_json_u64(m->desired_version),
        "clock_skew_usec", (json_int_t)skew_usec(&s->skew));
}

static json_t *node_json(const struct peer_session *s)
{
    const struct live_node *n = &s->last.node;

    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:o, s:I}", "id", s->id, "spool_bytes",
        peer_report_json_u64(n->spool_bytes), "spool_limit_bytes", peer_report_json_u64(n->spool_limit_bytes),
        "streams", peer_report_json_u64(n->streams), "received_bytes", peer_report_json_u64(n->received_bytes),
        "forwarded_bytes", peer_report_json_u64(n->forwarded_bytes), "cpu_permille",
        peer_report_json_u64(n->cpu_permille), "peer_cause", n->cause, "peer_remedy", n->remedy, "converged_version",
        peer_report_json_u64(n->desired_version), "clock_skew_usec", (json_int_t)skew_usec(&s->skew));
}

static json_t *vault_json(const struct peer_session *s)
{
    const struct live_vault *v = &s->last.vault;

    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:b, s:s, s:s, s:o, s:I}", "id", s->id, "used_bytes",
        peer_report_json_u64(v->used_bytes), "free_bytes", peer_report_json_u64(v->free_bytes), "capacity_bytes",
        peer_report_json_u64(v->capacity_bytes), "streams", peer_report_json_u64(v->streams), "accepting",
        v->accepting ? 1 : 0, "peer_cause", v->cause, "peer_remedy", v->remedy, "converged_version",
        peer_report_json_u64(v->desired_version), "clock_skew_usec", (json_int_t)skew_usec(&s->skew));
}

/* Adds one session to the arrays. */
static void gather(struct flush_task *t, struct peer_session *s)
{
    if (!s->status_dirty || !s->greeted)
        return;
    s->status_dirty = false;
    if (strcmp(s->role, "agent") != 0) {
        bool node = strcmp(s->role, "node") == 0;

        (void)json_array_append_new(node ? t->nodes : t->vaults, node ? node_json(s) : vault_json(s));
        return;
    }
    (void)json_array_append_new(s->follow && t->follows ? t->moved : t->machines, machine_json(s));
    if (!s->follow || !t->follows)
        return;
    s->follow = false;
    struct follow *f = &t->follows[t->follow_count++];

    memcpy(f->id, s->id, sizeof(f->id));
    memcpy(f->agent_state, s->last.machine.agent_state, sizeof(f->agent_state));
    f->has_point = s->last.machine.last_point_sequence > 0;
}

/* What was gathered goes to the task, and gathering begins anew; without memory for that it goes with a later batch. */
static json_t *take_rows(json_t **rows)
{
    json_t *taken = *rows, *fresh = json_array();

    if (!fresh)
        return NULL;
    *rows = fresh;
    return taken;
}

/* Few machines are written every second, so that people see them move; many every five, a fifth of them each second, so that no
 * statement is so large that others wait for it. */
static size_t slice_count(const struct control *control)
{
    return control->session_count < 500 ? 1 : 5;
}

static void gather_all(struct flush_task *t, struct control *control)
{
    size_t slices = slice_count(control), slice = control->flush_slice++ % slices;

    t->moved = json_array();
    t->machines = json_array();
    t->nodes = json_array();
    t->vaults = json_array();
    t->follows = mem_alloc(control->session_count + 1, sizeof(*t->follows));
    for (size_t i = 0; i < SESSION_BUCKETS; i++)
        for (struct peer_session *s = control->buckets[i]; s; s = s->next_in_bucket)
            if (s->follow || s->role[0] != 'a' || i % slices == slice) /* nodes and vaults are few */
                gather(t, s);
    t->samples = take_rows(&control->samples);
    t->disk_minutes = take_rows(&control->disk_minutes);
}

static bool is_empty(const struct flush_task *t)
{
    return json_array_size(t->moved) + json_array_size(t->machines) + json_array_size(t->nodes) +
               json_array_size(t->vaults) + json_array_size(t->samples) + json_array_size(t->disk_minutes) ==
           0;
}

/* What the last sessions said of their minute, when all of them are over. */
void status_flush_last(struct control *control)
{
    struct flush_task *t = (struct flush_task *)control_task_new(sizeof(*t), control, NULL);

    if (!t)
        return;
    t->task.work = flush_work;
    t->task.drop = flush_drop;
    t->samples = take_rows(&control->samples);
    t->disk_minutes = take_rows(&control->disk_minutes);
    if (!is_empty(t))
        (void)control_task_submit(&t->task, control->batch_lane);
    else
        control_task_free(&t->task);
}

void status_flush(void *arg)
{
    struct control *control = arg;
    struct flush_task *t;

    loop_timer_set(control->flush_timer, control->flush_busy ? SOON_USEC : FLUSH_USEC);
    if (control->flush_busy)
        return;
    t = (struct flush_task *)control_task_new(sizeof(*t), control, NULL);
    if (!t)
        return;
    t->task.work = flush_work;
    t->task.then = flush_then;
    t->task.drop = flush_drop;
    gather_all(t, control);
    if (is_empty(t)) {
        control_task_free(&t->task);
        return;
    }
    control->flush_busy = true;
    if (control_task_submit(&t->task, control->batch_lane) < 0)
        control->flush_busy = false;
}
