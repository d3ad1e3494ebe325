/* SPDX-License-Identifier: Apache-2.0
 *
 * protect, unprotect and resync: change what the machine's agent, node and vault shall converge to, then watch them do it.
 */
#include "hub/jobs/protect_steps.h"

#include <stdio.h>
#include <string.h>

#include "hub/core/machine_state.h"
#include "hub/db/journal.h"
#include "hub/db/protection_store.h"
#include "hub/jobs/seed_steps.h"
#include "transport/base/clock.h"

/* A vault needs at least this much room for a new machine. */
#define VAULT_NEED_BYTES (64ULL << 20)
/* An agent that was told to resynchronize says so within one status; then the job looks at the state alone. */
#define RESYNC_SEEN_USEC (15 * USEC_PER_SEC)
#define PLACE_AGAIN_USEC (2 * USEC_PER_SEC)

/* ---- checks ---- */

static int check_uuid(const json_t *params, const char *key, struct err *err)
{
    const json_t *v = json_object_get(params, key);
    struct ident id;

    if (!v || json_is_null(v) || (json_is_string(v) && ident_from_text(json_string_value(v), &id) == 0))
        return 0;
    err_set(err, ERR_INVALID, "%s: not an id", key);
    return err_hint(err, "Give the UUID as the API lists it.");
}

static int check_disks(const json_t *disks, struct err *err)
{
    size_t i;
    json_t *key;

    if (!disks || (json_is_string(disks) && strcmp(json_string_value(disks), "all-eligible") == 0))
        return 0;
    if (!json_is_array(disks) || json_array_size(disks) == 0 || json_array_size(disks) > 256) {
        err_set(err, ERR_INVALID, "disks: neither \"all-eligible\" nor an array of disk keys");
        return err_hint(err, "Name the disks by `key` as the machine lists them.");
    }
    json_array_foreach(disks, i, key) if (!json_is_string(key)) return err_set(
        err, ERR_INVALID, "disks/%zu: not a text", i);
    return 0;
}

static int check_move(const struct machine_row *machine, enum machine_move move, struct err *err)
{
    enum machine_state to;
    int from = machine_state_from_name(machine->state);

    if (from < 0)
        return err_set(err, ERR_INTERNAL, "machine %s has an unknown state", machine->name);
    return machine_move((enum machine_state)from, move, &to, err) < 0 ? err_wrap(err, "machine %s", machine->name) : 0;
}

static int check_exists(
    struct db_conn *conn, const struct db_entity *entity, const json_t *params, const char *key, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const char *id = job_param_text(params, key);

    return id[0] ? db_need(conn, entity, id, &set, err) : 0;
}

static int protect_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"disks", "policy_id", "vault_id", "seeds", NULL};

    if (job_params_known(params, known, err) < 0 || seed_steps_check(machine, params, err) < 0 ||
        check_disks(json_object_get(params, "disks"), err) < 0 || check_uuid(params, "policy_id", err) < 0 ||
        check_uuid(params, "vault_id", err) < 0 || check_move(machine, MOVE_PROTECT, err) < 0 ||
        check_exists(conn, &db_policies, params, "policy_id", err) < 0 ||
        check_exists(conn, &db_vaults, params, "vault_id", err) < 0)
        return -1;
    snprintf(ret_vault_id, IDENT_TEXT_SIZE, "%s", job_param_text(params, "vault_id"));
    if (machine->rescue) {
        err_set(err, ERR_REFUSED, "%s runs the rescue system: its disks are there to be written", machine->name);
        return err_hint(err, "Start it from its own disks, with an agent there.");
    }
    if (machine->disk_count == 0) {
        err_set(err, ERR_REFUSED, "the agent of %s has not reported any disk yet", machine->name);
        return err_hint(err, "Wait until its agent has connected: leeward machine show %s", machine->name);
    }
    return 0;
}

static int unprotect_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {NULL};

    (void)conn;
    (void)ret_vault_id;
    return job_params_known(params, known, err) < 0 ? -1 : check_move(machine, MOVE_UNPROTECT, err);
}

static int resync_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {NULL};

    (void)conn;
    (void)ret_vault_id;
    return job_params_known(params, known, err) < 0 ? -1 : check_move(machine, MOVE_RESYNC, err);
}

/* ---- placement ---- */

static int default_policy(struct job_run *run, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct db_filter is_default = {"is_default", DB_EQ, "true"};
    const struct db_page page = {.filters = &is_default, .filter_count = 1};

    if (db_list(run->conn, &db_policies, &page, &set, err) < 0)
        return -1;
    if (set.count == 0) {
        err_set(err, ERR_REFUSED, "there is no default policy");
        return err_hint(err, "Name a policy, or make one the default.");
    }
    memcpy(ret_id, db_at(&set, struct policy_row, 0)->id, IDENT_TEXT_SIZE);
    return 0;
}

static int choose_policy(
    struct job_run *run, const struct machine_row *m, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    const char *asked = job_param_text(run->params, "policy_id");

    if (!asked[0])
        asked = m->policy_id;
    if (!asked[0])
        return default_policy(run, ret_id, err);
    snprintf(ret_id, IDENT_TEXT_SIZE, "%s", asked);
    return 0;
}

/* The node it has, or the best one. 1; 0: none now, err says why. */
static int choose_node(struct job_run *run, const struct machine_row *m, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_FREE struct node_candidates *all = mem_new(struct node_candidates);
    size_t best;

    if (m->node_id[0]) {
        snprintf(ret_id, IDENT_TEXT_SIZE, "%s", m->node_id);
        return 1;
    }
    if (!all)
        return err_set(err, ERR_NOMEM, "no memory");
    if (placement_nodes_read(run->conn, m->id, all, err) < 0)
        return -1;
    if (!placement_node(all->nodes, all->count, &best, err))
        return 0;
    memcpy(ret_id, all->ids[best], IDENT_TEXT_SIZE);
    return 1;
}

/* The vault that was asked for, the one that has its points already, or the best one. 1; 0: none now, err says why. */
static int choose_vault(struct job_run *run, const struct machine_row *m, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_FREE struct vault_candidates *all = mem_new(struct vault_candidates);
    const char *asked = job_param_text(run->params, "vault_id");
    size_t best;
    int kept;

    if (asked[0]) {
        snprintf(ret_id, IDENT_TEXT_SIZE, "%s", asked);
        return 1;
    }
    if (!all)
        return err_set(err, ERR_NOMEM, "no memory");
    kept = protection_vault(run->conn, m->id, ret_id, err);
    if (kept != 0)
        return kept;
    if (placement_vaults_read(run->conn, m->id, all, err) < 0)
        return -1;
    if (!placement_vault(all->vaults, all->count, VAULT_NEED_BYTES, &best, err))
        return 0;
    memcpy(ret_id, all->ids[best], IDENT_TEXT_SIZE);
    return 1;
}

static char *disks_param(const json_t *params)
{
    const json_t *disks = json_object_get(params, "disks");

    return json_is_array(disks) ? json_dumps(disks, JSON_COMPACT) : NULL;
}

/* Nobody to place it with right now is no failure: the job waits for a node or a vault. */
static int wait_for_place(struct job_run *run, const struct err *why)
{
    snprintf(run->detail, sizeof(run->detail), "%.250s", why->text);
    run->again_usec = PLACE_AGAIN_USEC;
    return JOB_AGAIN;
}

/* Which disks are protected already: undoing the job leaves those alone. Not for a machine that is not protected. */
static int note_protected(struct job_run *run, const struct machine_row *m, struct err *err)
{
    AUTO_PGRESULT PGresult *rows = NULL;
    json_t *keys;
    int n;

    if (strcmp(m->state, "unprotected") == 0)
        return 0;
    n = protection_disks(run->conn, m->id, &rows, err);
    if (n < 0)
        return -1;
    keys = json_array();
    for (int i = 0; keys && i < n; i++)
        json_array_append_new(keys, json_string(db_text(rows, i, 4)));
    return keys ? job_state_put(run, "protected_before", keys, err) : err_set(err, ERR_NOMEM, "no memory");
}

static int configure(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    char policy[IDENT_TEXT_SIZE], node[IDENT_TEXT_SIZE], vault[IDENT_TEXT_SIZE];
    AUTO_FREE char *disks = disks_param(run->params);
    uint64_t version;
    int n;

    if (job_machine(run, &set, err) < 0)
        return -1;
    const struct machine_row *m = db_at(&set, struct machine_row, 0);

    if (choose_policy(run, m, policy, err) < 0)
        return -1;
    if ((n = choose_node(run, m, node, err)) <= 0 || (n = choose_vault(run, m, vault, err)) <= 0)
        return n < 0 ? -1 : wait_for_place(run, err);
    const struct protection p = {.machine_id = m->id,
        .policy_id = policy,
        .node_id = node,
        .vault_id = vault,
        .disks_json = disks,
        .seeding = seed_steps_wanted(run->params)};

    if (note_protected(run, m, err) < 0 || (n = protection_put(run->conn, &p, &version, err)) < 0 ||
        machine_state_move(run->conn, m->id, MOVE_PROTECT, run->job->requested_by, NULL, err) < 0)
        return -1;
    snprintf(run->detail, sizeof(run->detail), "%d disk%s", n, n == 1 ? "" : "s");
    if (json_object_set_new(run->result, "disks", json_integer(n)) < 0)
        return err_set(err, ERR_NOMEM, "no memory");
    return job_state_put(run, "version", json_integer((json_int_t)version), err) < 0 ? -1 : JOB_DONE;
}

/* ---- watching ---- */

/* The agent has taken up the desired version that this job made. */
int protect_steps_converged(struct job_run *run, struct err *err)
{
    uint64_t reached;
    bool online;

    if (machine_convergence(run->conn, run->job->machine_id, &reached, &online, err) < 0)
        return -1;
    if (reached >= job_state_u64(run, "version"))
        return JOB_DONE;
    snprintf(run->detail, sizeof(run->detail), "%s",
        online ? "waiting for the agent to take it up" : "the agent is not connected; it will be told when it is");
    return JOB_AGAIN;
}

static void show_initial(struct job_run *run, const struct machine_row *m)
{
    if (m->initial_total_bytes > 0)
        run->progress_permille = (unsigned)((double)m->initial_done_bytes / (double)m->initial_total_bytes * 1000.0);
    if (run->progress_permille > 1000)
        run->progress_permille = 1000;
    snprintf(run->detail, sizeof(run->detail), "%s: %llu of %llu MB%s%.120s", m->state,
        (unsigned long long)(m->initial_done_bytes / 1000000), (unsigned long long)(m->initial_total_bytes / 1000000),
        m->cause[0] ? "; " : "", m->cause);
}

/* A change of state wakes the job; between these only its progress moves, and thousands may wait for hours. */
static uint64_t look_again(const struct job_run *run)
{
    return run->job->step_age_usec < 10 * USEC_PER_SEC    ? USEC_PER_SEC
           : run->job->step_age_usec < 60 * USEC_PER_SEC  ? 5 * USEC_PER_SEC
           : run->job->step_age_usec < 600 * USEC_PER_SEC ? 10 * USEC_PER_SEC
                                                          : 30 * USEC_PER_SEC;
}

/* The machine, once hub and agent both call it protected. The agent's own word counts too: a disk that was just added changes it
 * before it changes the state. */
static int until_copied(struct job_run *run, struct db_set *set, struct err *err)
{
    if (job_machine(run, set, err) < 0)
        return -1;
    const struct machine_row *m = db_at(set, struct machine_row, 0);

    if (strcmp(m->state, "unprotected") == 0)
        return err_set(err, ERR_CANCELLED, "the machine was unprotected meanwhile");
    show_initial(run, m);
    run->again_usec = look_again(run);
    return strcmp(m->state, "protected") == 0 && strcmp(m->agent_state, "protected") == 0 ? JOB_DONE : JOB_AGAIN;
}

int protect_steps_while_copying(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int rc = until_copied(run, &set, err);

    if (rc == JOB_DONE)
        run->detail[0] = '\0';
    return rc;
}

int protect_steps_until_protected(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int rc = until_copied(run, &set, err);

    if (rc != JOB_DONE)
        return rc;
    const struct machine_row *m = db_at(&set, struct machine_row, 0);

    snprintf(run->detail, sizeof(run->detail), "point %llu is committed", (unsigned long long)m->last_point_sequence);
    AUTO_FREE char *point = mem_printf("%llu", (unsigned long long)m->last_point_sequence);

    if (!point || json_object_set_new(run->result, "first_point", json_string(point)) < 0)
        return err_set(err, ERR_NOMEM, "no memory");
    return JOB_DONE;
}

/* ---- unprotect ---- */

static int stop_protection(struct job_run *run, struct err *err)
{
    uint64_t version;

    if (protection_end(run->conn, run->job->machine_id, &version, err) < 0 ||
        machine_state_move(run->conn, run->job->machine_id, MOVE_UNPROTECT, run->job->requested_by, NULL, err) < 0)
        return -1;
    return job_state_put(run, "version", json_integer((json_int_t)version), err) < 0 ? -1 : JOB_DONE;
}

/* An agent that is away hears of it when it returns; nobody has to wait for that. */
int protect_steps_converged_or_away(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int rc = protect_steps_converged(run, err);

    if (rc != JOB_AGAIN)
        return rc;
    if (job_machine(run, &set, err) < 0)
        return -1;
    return db_at(&set, struct machine_row, 0)->online ? JOB_AGAIN : JOB_DONE;
}

static bool is_among(const json_t *keys, const char *key)
{
    const json_t *one;
    size_t at;

    json_array_foreach((json_t *)keys, at, one) if (strcmp(json_string_value(one), key) == 0) return true;
    return false;
}

/* The disks that came with this job are left out again, where others stay; the machine stays protected. */
static int leave_new_disks_out(struct job_run *run, const json_t *before, struct err *err)
{
    AUTO_PGRESULT PGresult *rows = NULL;
    json_t *keys = json_array();
    char *text = NULL;
    uint64_t version;
    int n = keys ? protection_disks(run->conn, run->job->machine_id, &rows, err) : err_set(err, ERR_NOMEM, "no memory");

    for (int i = 0; i < n; i++)
        if (!is_among(before, db_text(rows, i, 4)))
            json_array_append_new(keys, json_string(db_text(rows, i, 4)));
    if (n > (int)json_array_size(keys) && json_array_size(keys) > 0 && !(text = json_dumps(keys, JSON_COMPACT)))
        n = err_set(err, ERR_NOMEM, "no memory");
    if (text)
        n = protection_disks_exclude(run->conn, run->job->machine_id, text, &version, err);
    free(text);
    json_decref(keys);
    return n < 0 ? -1 : 0;
}

/* A protect job that is cancelled, or fails, before the machine is protected leaves it unprotected; one that was to protect more of it
 * leaves it as it was. */
static int undo_protect(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const json_t *before = json_object_get(run->state, "protected_before");
    int from;

    if (run->job->ordinal == 0)
        return 0;
    if (job_machine(run, &set, err) < 0)
        return -1;
    const char *state = db_at(&set, struct machine_row, 0)->state;

    from = machine_state_from_name(state);
    if (before)
        return from >= 0 && machine_state_replicates((enum machine_state)from) ? leave_new_disks_out(run, before, err)
                                                                               : 0;
    if (strcmp(state, "enabling") != 0 && strcmp(state, "initial_replication") != 0)
        return 0;
    if (seed_steps_undo(run, err) < 0)
        return -1;
    return stop_protection(run, err) < 0 ? -1 : 0;
}

/* ---- resync ---- */

static int request_resync(struct job_run *run, struct err *err)
{
    uint64_t version;

    if (protection_resync(run->conn, run->job->machine_id, &version, err) < 0)
        return -1;
    return job_state_put(run, "version", json_integer((json_int_t)version), err) < 0 ? -1 : JOB_DONE;
}

static int until_resync_seen(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int rc = protect_steps_converged(run, err);

    if (rc != JOB_DONE)
        return rc;
    if (job_machine(run, &set, err) < 0)
        return -1;
    if (strcmp(db_at(&set, struct machine_row, 0)->state, "resynchronizing") == 0 ||
        run->job->step_age_usec > RESYNC_SEEN_USEC)
        return JOB_DONE;
    return JOB_AGAIN;
}

const struct job_kind job_kind_protect = {.name = "protect",
    .needs_machine = true,
    .may_cancel = true,
    .check = protect_check,
    .cancel = undo_protect,
    .undo_on_failure = true,
    .steps = {{"configure", "Choose node and vault, number the disks", configure, NULL},
        {"seed", "Take older copies as a base", seed_steps_take, NULL},
        {"agent", "Tell the agent", protect_steps_converged, NULL},
        {"initial", "Copy what is in use", protect_steps_until_protected, NULL}}};

const struct job_kind job_kind_unprotect = {.name = "unprotect",
    .needs_machine = true,
    .check = unprotect_check,
    .steps = {{"configure", "End the protection", stop_protection, NULL},
        {"agent", "Tell the agent", protect_steps_converged_or_away, NULL}}};

const struct job_kind job_kind_resync = {.name = "resync",
    .needs_machine = true,
    .may_cancel = true,
    .check = resync_check,
    .steps = {{"request", "Ask for a resynchronization", request_resync, NULL},
        {"agent", "Tell the agent", until_resync_seen, NULL},
        {"compare", "Compare and send what differs", protect_steps_until_protected, NULL}}};
