/* SPDX-License-Identifier: Apache-2.0
 *
 * The desired state of one peer: read on a worker, packed there, sent on the loop. A push that is asked for while one runs
 * follows it. When something changed somewhere, desired_look reads all versions in one statement and pushes to the sessions
 * that are behind.
 */
#include <string.h>

#include "hub/control/control_plane.h"
#include "hub/control/desired_hours.h"
#include "hub/core/machine_state.h"
#include "hub/db/copy_store.h"
#include "hub/db/group_store.h"
#include "hub/db/peer_store.h"
#include "transport/base/log.h"
#include "transport/proto/wire.h"

#define DIRECTIVE_MAX (16U << 20)
#define DISKS_MAX 4096
/* Looking for a newer point costs both vaults a little each time. */
#define COPY_USEC_MIN 2000000u

typedef Leeward__Control__V1__Directive Directive;

struct desired_task {
    struct control_task task;
    struct buf bytes; /* packed Directive; empty: the peer is gone */
    uint64_t version;
    struct resend_list resend;  /* of an agent */
    struct desired_hours hours; /* of an agent or a node */
};

static int pack(struct desired_task *t, const Directive *directive, struct err *err)
{
    return wire_pack(&directive->base, &t->bytes, err);
}

static char *text(const PGresult *r, int row, int col)
{
    return (char *)(uintptr_t)db_text(r, row, col);
}

/* ---- agents ---- */

static int agent_disks(Leeward__Control__V1__AgentDesired *agent, const PGresult *r, int n, struct err *err)
{
    Leeward__Control__V1__DesiredDisk *disks = mem_alloc((size_t)n + 1, sizeof(*disks));

    agent->disks = mem_alloc((size_t)n + 1, sizeof(*agent->disks));
    if (!disks || !agent->disks) {
        free(disks);
        return err_set(err, ERR_NOMEM, "no memory for a list of disks");
    }
    for (int i = 0; i < n; i++) {
        disks[i] = (Leeward__Control__V1__DesiredDisk)LEEWARD__CONTROL__V1__DESIRED_DISK__INIT;
        disks[i].number = (uint32_t)db_u64(r, i, 0);
        disks[i].key = text(r, i, 1);
        agent->disks[i] = &disks[i];
    }
    agent->n_disks = (size_t)n;
    if (n == 0)
        free(disks);
    return 0;
}

static void agent_disks_done(Leeward__Control__V1__AgentDesired *agent)
{
    if (agent->n_disks > 0)
        free(agent->disks[0]); /* the whole array */
    free(agent->disks);
}

/* A group with the list of its members, in one block of memory; *ret_group NULL without rows. */
struct agent_group {
    Leeward__Control__V1__DesiredGroup group;
    Leeward__Control__V1__GroupMember members[GROUP_MACHINES_MAX], *list[GROUP_MACHINES_MAX];
};

static int agent_group(const PGresult *r, int n, struct agent_group **ret_group, struct err *err)
{
    struct agent_group *g;

    if (n == 0)
        return 0;
    g = mem_new(struct agent_group);
    if (!g)
        return err_set(err, ERR_NOMEM, "no memory for a group");
    g->group = (Leeward__Control__V1__DesiredGroup)LEEWARD__CONTROL__V1__DESIRED_GROUP__INIT;
    g->group.group_id = text(r, 0, 0);
    g->group.name = text(r, 0, 1);
    g->group.number = (uint32_t)db_u64(r, 0, 2);
    g->group.membership = db_u64(r, 0, 3);
    g->group.interval_usec = db_u64(r, 0, 4);
    g->group.freeze_budget_usec = db_u64(r, 0, 5);
    g->group.coordinator_id = text(r, 0, 6);
    for (int i = 0; i < n && i < (int)GROUP_MACHINES_MAX; i++) {
        g->members[i] = (Leeward__Control__V1__GroupMember)LEEWARD__CONTROL__V1__GROUP_MEMBER__INIT;
        g->members[i].machine_id = text(r, i, 6);
        g->members[i].name = text(r, i, 7);
        g->members[i].address = text(r, i, 8);
        g->list[i] = &g->members[i];
        g->group.n_members++;
    }
    g->group.members = g->list;
    *ret_group = g;
    return 0;
}

static int pack_agent(struct desired_task *t, const PGresult *r, const PGresult *disks, int disk_count,
    Leeward__Control__V1__DesiredGroup *group, struct err *err)
{
    Directive directive = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    Leeward__Control__V1__AgentDesired a = LEEWARD__CONTROL__V1__AGENT_DESIRED__INIT;
    int state = machine_state_from_name(db_text(r, 0, 1)), rc;

    t->version = a.version = db_u64(r, 0, 0);
    a.protect = db_bool(r, 0, 13) && state >= 0 && machine_state_replicates((enum machine_state)state);
    a.generation = db_u64(r, 0, 2);
    a.interval_usec = db_u64(r, 0, 3);
    a.node_id = text(r, 0, 4);
    a.node_endpoint = text(r, 0, 5);
    a.vault_id = text(r, 0, 6);
    a.freeze_budget_usec = db_u64(r, 0, 7);
    a.max_rounds = (uint32_t)db_u64(r, 0, 8);
    a.may_freeze = db_bool(r, 0, 9);
    /* Where the node compresses nothing, the agent must always. */
    a.compress_at_agent = !db_bool(r, 0, 10) ? 0 : db_u64(r, 0, 19) == 0 ? 2 : 1;
    a.throttle_bytes_per_sec = db_u64(r, 0, 11);
    a.resync_request = db_u64(r, 0, 12);
    a.filesystem_interval_usec = db_u64(r, 0, 14);
    a.application_interval_usec = db_u64(r, 0, 15);
    a.work_throttle_bytes_per_sec = db_u64(r, 0, 16);
    a.cpu_limit_percent = (uint32_t)db_u64(r, 0, 17);
    a.yield_to_workload = db_bool(r, 0, 18);
    desired_hours_lay(&t->hours, &a);
    a.resend_request = t->resend.request;
    a.n_resend = t->resend.count;
    a.resend = t->resend.list;
    directive.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_AGENT;
    a.group = group;
    directive.agent = &a;
    rc = a.protect ? agent_disks(&a, disks, disk_count, err) : 0;
    if (rc == 0)
        rc = pack(t, &directive, err);
    agent_disks_done(&a);
    return rc;
}

static int work_agent(struct control_task *task, struct db_conn *conn, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    AUTO_PGRESULT PGresult *disks = NULL;
    AUTO_PGRESULT PGresult *members = NULL;
    AUTO_FREE struct agent_group *group = NULL;
    int n = desired_agent(conn, task->session->id, &r, err), member_count;

    if (n <= 0)
        return n;
    member_count = desired_group(conn, task->session->id, &members, err);
    if (member_count < 0 || agent_group(members, member_count, &group, err) < 0)
        return -1;
    n = desired_disks(conn, task->session->id, &disks, err);
    if (n < 0 || resend_list_read(conn, task->session->id, &((struct desired_task *)task)->resend, err) < 0)
        return -1;
    if (desired_hours_load(conn, task->session->id, &((struct desired_task *)task)->hours, err) < 0)
        return -1;
    return pack_agent(
        (struct desired_task *)task, r, disks, n > DISKS_MAX ? DISKS_MAX : n, group ? &group->group : NULL, err);
}

/* ---- nodes and vaults ---- */

static int pack_node(struct desired_task *t, const PGresult *r, int n, struct err *err)
{
    Directive directive = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    Leeward__Control__V1__NodeDesired desired = LEEWARD__CONTROL__V1__NODE_DESIRED__INIT;
    AUTO_FREE Leeward__Control__V1__NodeMachine *machines = mem_alloc((size_t)n, sizeof(*machines));
    AUTO_FREE Leeward__Control__V1__NodeMachine **list = mem_alloc((size_t)n, sizeof(*list));

    if (!machines || !list)
        return err_set(err, ERR_NOMEM, "no memory for a node's machines");
    for (int i = 0; i < n; i++) {
        if (PQgetisnull(r, i, 2))
            continue;
        Leeward__Control__V1__NodeMachine *m = &machines[desired.n_machines];

        *m = (Leeward__Control__V1__NodeMachine)LEEWARD__CONTROL__V1__NODE_MACHINE__INIT;
        m->machine_id = text(r, i, 2);
        m->generation = db_u64(r, i, 3);
        m->vault_id = text(r, i, 4);
        m->vault_endpoint = text(r, i, 5);
        m->compress_level = (int32_t)db_i64(r, i, 6);
        m->may_receive = db_bool(r, i, 7);
        m->receiver_id = text(r, i, 11);
        list[desired.n_machines++] = m;
    }
    t->version = desired.version = db_u64(r, 0, 0);
    desired.drain = db_bool(r, 0, 1);
    desired.throttle_bytes_per_sec = db_u64(r, 0, 8);
    desired.machine_throttle_bytes_per_sec = db_u64(r, 0, 9);
    desired.work_throttle_bytes_per_sec = db_u64(r, 0, 10);
    desired_hours_lay_node(&t->hours, &desired);
    desired.machines = list;
    directive.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_NODE;
    directive.node = &desired;
    return pack(t, &directive, err);
}

/* Ends the words of a list at their commas. */
static size_t split(char *words, char **ret_words)
{
    size_t count = 0;

    for (char *save = NULL, *word = strtok_r(words, ",", &save); word && count < COPIES_MAX;
         word = strtok_r(NULL, ",", &save))
        ret_words[count++] = word;
    return count;
}

static int pack_vault(struct desired_task *t, const PGresult *r, int n, struct err *err)
{
    Directive directive = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    Leeward__Control__V1__VaultDesired desired = LEEWARD__CONTROL__V1__VAULT_DESIRED__INIT;
    AUTO_FREE Leeward__Control__V1__VaultMachine *machines = mem_alloc((size_t)n, sizeof(*machines));
    AUTO_FREE Leeward__Control__V1__VaultMachine **list = mem_alloc((size_t)n, sizeof(*list));
    AUTO_FREE char **readers = mem_alloc((size_t)n * COPIES_MAX, sizeof(*readers));

    if (!machines || !list || !readers)
        return err_set(err, ERR_NOMEM, "no memory for a vault's machines");
    for (int i = 0; i < n; i++) {
        if (PQgetisnull(r, i, 1))
            continue;
        Leeward__Control__V1__VaultMachine *m = &machines[desired.n_machines];

        *m = (Leeward__Control__V1__VaultMachine)LEEWARD__CONTROL__V1__VAULT_MACHINE__INIT;
        m->machine_id = text(r, i, 1);
        m->name = text(r, i, 2);
        m->generation = db_u64(r, i, 3);
        m->known_sequence = db_u64(r, i, 4);
        m->keep_all_usec = db_u64(r, i, 5);
        m->keep_minute_usec = db_u64(r, i, 6);
        m->keep_hour_usec = db_u64(r, i, 7);
        m->keep_day_usec = db_u64(r, i, 8);
        m->keep_tagged_usec = db_u64(r, i, 9);
        m->lock_usec = db_u64(r, i, 10);
        m->follow_branch_id = text(r, i, 11);
        m->follow_interval_usec = db_u64(r, i, 12);
        m->n_reader_vault_ids = split(text(r, i, 13), &readers[(size_t)i * COPIES_MAX]);
        m->reader_vault_ids = &readers[(size_t)i * COPIES_MAX];
        m->copy_vault_id = text(r, i, 14);
        m->copy_vault_endpoint = text(r, i, 15);
        m->copy_interval_usec = m->follow_interval_usec > COPY_USEC_MIN ? m->follow_interval_usec : COPY_USEC_MIN;
        list[desired.n_machines++] = m;
    }
    t->version = desired.version = db_u64(r, 0, 0);
    desired.throttle_bytes_per_sec = db_u64(r, 0, 16);
    desired.machine_throttle_bytes_per_sec = db_u64(r, 0, 17);
    desired.work_throttle_bytes_per_sec = db_u64(r, 0, 18);
    desired_hours_lay_vault(&t->hours, &desired);
    desired.machines = list;
    directive.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_VAULT;
    directive.vault = &desired;
    return pack(t, &directive, err);
}

static int work_node(struct control_task *task, struct db_conn *conn, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = desired_node(conn, task->session->id, &r, err);

    if (n > 0 && desired_hours_load_node(conn, task->session->id, &((struct desired_task *)task)->hours, err) < 0)
        return -1;
    return n <= 0 ? n : pack_node((struct desired_task *)task, r, n, err);
}

static int work_vault(struct control_task *task, struct db_conn *conn, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = desired_vault(conn, task->session->id, &r, err);

    if (n > 0 && desired_hours_load_vault(conn, task->session->id, &((struct desired_task *)task)->hours, err) < 0)
        return -1;
    return n <= 0 ? n : pack_vault((struct desired_task *)task, r, n, err);
}

/* ---- pushing ---- */

static void desired_then(struct control_task *task)
{
    struct desired_task *t = (struct desired_task *)task;
    struct peer_session *s = task->session;
    struct err err = ERR_INIT;

    s->desired_busy = false;
    if (!s->call)
        return;
    if (task->rc < 0) {
        log_event(LOG_WARN, "desired_failed", LOG_S("peer", s->id), LOG_E(&task->err));
        peer_session_reset(s, "the hub could not read the desired state");
        return;
    }
    if (t->bytes.len > 0 && rpc_call_send(s->call, &t->bytes, &err) >= 0) {
        s->sent_version = t->version;
        log_event(LOG_INFO, "desired_sent", LOG_S("role", s->role), LOG_S("peer", s->id), LOG_U("version", t->version));
    }
    if (s->desired_again) {
        s->desired_again = false;
        desired_push(s);
    }
}

static void desired_drop(struct control_task *task)
{
    buf_done(&((struct desired_task *)task)->bytes);
}

void desired_push(struct peer_session *s)
{
    struct desired_task *t;

    if (s->desired_busy) {
        s->desired_again = true;
        return;
    }
    t = (struct desired_task *)control_task_new(sizeof(*t), s->control, s);
    if (!t)
        return;
    buf_init(&t->bytes, DIRECTIVE_MAX);
    t->task.work = strcmp(s->role, "agent") == 0 ? work_agent : strcmp(s->role, "node") == 0 ? work_node : work_vault;
    t->task.then = desired_then;
    t->task.drop = desired_drop;
    s->desired_busy = true;
    if (control_task_submit(&t->task, s->lane) < 0)
        s->desired_busy = false;
}

/* ---- who is behind ---- */

struct versions_task {
    struct control_task task;
    PGresult *rows;
};

static int versions_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    return desired_versions(conn, &((struct versions_task *)task)->rows, err);
}

static void versions_then(struct control_task *task)
{
    struct control *control = task->control;
    const PGresult *r = ((struct versions_task *)task)->rows;

    control->versions_busy = false;
    for (int i = 0; i < task->rc; i++) {
        struct peer_session *s = peer_session_find(control, db_text(r, i, 1));

        if (s && s->greeted && s->sent_version != db_u64(r, i, 2))
            desired_push(s);
    }
    if (control->versions_again) {
        control->versions_again = false;
        desired_look(control);
    }
}

static void versions_drop(struct control_task *task)
{
    PQclear(((struct versions_task *)task)->rows);
}

void desired_look(struct control *control)
{
    struct versions_task *t;

    if (control->versions_busy) {
        control->versions_again = true;
        return;
    }
    t = (struct versions_task *)control_task_new(sizeof(*t), control, NULL);
    if (!t)
        return;
    t->task.work = versions_work;
    t->task.then = versions_then;
    t->task.drop = versions_drop;
    control->versions_busy = true;
    if (control_task_submit(&t->task, NULL) < 0)
        control->versions_busy = false;
}
