/* SPDX-License-Identifier: Apache-2.0
 *
 * failover: ask the target, write the failover down, fence the source, open a branch of the point, start the replica, and wait for the verdict of its boot
 * check. A test leaves the source alone. Whatever fails or is cancelled on the way is ended by a failover_end job, which the failure itself submits: so a
 * half-started replica is taken away with the same care as a whole one, and survives a crash of the hub as every job does.
 *
 * failover_change_point: the replica is stopped, its branch discarded, and another point taken; before the commit.
 * failover_commit: the replica is the machine from now on. failover_end: cleanup of a test, rollback of a failover, or what a failure leaves behind.
 */
#include "hub/jobs/failover_steps.h"

#include <stdio.h>
#include <string.h>

#include "hub/db/branch_store.h"
#include "hub/db/failover_store.h"
#include "hub/db/journal.h"
#include "hub/db/protection_store.h"
#include "hub/jobs/branch_steps.h"
#include "hub/jobs/job.h"
#include "hub/jobs/point_steps.h"
#include "hub/jobs/replica_mapping.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define NOTES_MAX 4096
/* How long a planned failover waits for the agent to take up what was just changed. */
#define SETTLED_USEC (60 * USEC_PER_SEC)

/* ---- what the jobs share ---- */

const char *failover_id(const struct job_run *run)
{
    const char *made = job_state_text(run, "failover_id");

    return made ? made : job_param_text(run->params, "failover_id");
}

int failover_read(struct job_run *run, struct db_set *ret_set, const struct failover_row **ret_row, struct err *err)
{
    if (db_need(run->conn, &db_failovers, failover_id(run), ret_set, err) < 0)
        return -1;
    *ret_row = db_at(ret_set, struct failover_row, 0);
    return 0;
}

int failover_tell(
    struct job_run *run, const char *code, const char *severity, const struct text_value *values, struct err *err)
{
    const struct event_spec event = {.severity = severity,
        .code = code,
        .values = values,
        .machine_id = run->job->machine_id,
        .job_id = run->job->id,
        .actor = run->job->requested_by};

    return event_append(run->conn, &event, err);
}

static int open_branch(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;
    struct branch_opening opening = {.name = "", .socket = "", .writable = true};
    uint64_t sequence;
    bool held;
    char name[64];
    int rc;

    if (failover_read(run, &set, &f, err) < 0 || job_param_u64(run->params, "sequence", &sequence, err) < 0)
        return -1;
    /* A change of point has a branch of its own. */
    snprintf(name, sizeof(name), "%s-%.8s-%.8s", f->kind, f->id, run->job->id);
    opening.name = name;
    opening.sequence = sequence ? sequence : f->sequence;
    /* Of a planned one the last, which its job has made. */
    held = strcmp(f->kind, failover_kind_name(FAILOVER_PLANNED)) == 0 && strcmp(run->job->kind, "failover") == 0;
    if (held) {
        rc = point_steps_until_listed(run, err);
        if (rc != JOB_DONE || job_param_u64(run->result, "sequence", &opening.sequence, err) < 0)
            return rc != JOB_DONE ? rc : -1;
    }
    rc = branch_steps_open(run, &opening, err);
    if (rc < 0 ||
        failover_note_branch(run->conn, f->id, job_state_text(run, "export_id"), opening.sequence, held, err) < 0)
        return -1;
    return rc;
}

int failover_start_replica(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const json_t *disks = json_object_get(run->result, "disks");
    const struct failover_row *f;
    json_t *replica = NULL;
    int rc;

    if (failover_read(run, &set, &f, err) < 0)
        return -1;
    rc = replica_ask(run, f, FABRIC_START, disks, false, &replica, err);
    if (rc != JOB_DONE)
        return rc;
    AUTO_FREE char *text = json_dumps(replica, JSON_COMPACT);
    const char *verdict = job_param_text(replica, "verdict"), *why = job_param_text(replica, "verdict_text");

    if (strcmp(verdict, "passed") != 0 && strcmp(verdict, "failed") != 0)
        verdict = "unknown";
    snprintf(run->detail, sizeof(run->detail), "%s%s%.200s", verdict, why[0] ? ": " : "", why);
    rc = text ? failover_note_replica(run->conn, f->id, text, verdict, why, err)
              : err_set(err, ERR_NOMEM, "no memory for a replica");
    if (rc == 0 && (json_object_set_new(run->result, "verdict", json_string(verdict)) < 0 ||
                       json_object_set_new(run->result, "verdict_text", json_string(why)) < 0))
        rc = err_set(err, ERR_NOMEM, "no memory for a replica");
    json_decref(replica);
    return rc < 0 ? -1 : JOB_DONE;
}

static int settle_running(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;

    if (failover_store_move(run->conn, failover_id(run), FAILOVER_RUN, run->job->id, err) < 0 ||
        failover_read(run, &set, &f, err) < 0)
        return -1;
    char rto[32];

    (void)snprintf(rto, sizeof(rto), "%.1f", (double)f->rto_usec / (double)USEC_PER_SEC);
    if (json_object_set_new(run->result, "failover_id", json_string(f->id)) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a failover");
    return failover_tell(run, "failover_running", strcmp(f->verdict, "failed") == 0 ? "warning" : "info",
               TEXT_VALUES(VALUE_TEXT("failover", f->kind), VALUE_TEXT("machine", f->machine_name),
                   VALUE_NUMBER("sequence", (int64_t)f->sequence), VALUE_TEXT("target", f->target_name),
                   VALUE_TEXT("rto_seconds", rto), VALUE_TEXT("boot_check", f->verdict)),
               err) < 0
               ? -1
               : JOB_DONE;
}

/* ---- failover: begin ---- */

static int choose_target(struct db_conn *conn, const json_t *params, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    return db_need(conn, &db_targets, job_param_text(params, "target_id"), &set, err);
}

int failover_check_machine(const struct machine_row *machine, enum machine_move move, struct err *err)
{
    int state = machine_state_from_name(machine->state);
    enum machine_state to;

    if (state < 0)
        return err_set(err, ERR_INTERNAL, "machine %s has an unknown state", machine->name);
    return machine_move((enum machine_state)state, move, &to, err);
}

static int failover_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"failover", "target_id", "sequence", "options", NULL};
    int kind = failover_kind_from_name(job_param_text(params, "failover"));
    uint64_t sequence;

    if (job_params_known(params, known, err) < 0)
        return -1;
    if (kind < 0) {
        err_set(err, ERR_INVALID, "failover: unknown kind");
        return err_hint(err, "test, planned or unplanned.");
    }
    if (kind == FAILOVER_PLANNED && !machine->online) {
        err_set(err, ERR_REFUSED, "the agent of %s is not connected: its source cannot be stopped", machine->name);
        return err_hint(
            err, "Start its agent; or, where the source is lost: leeward failover unplanned %s", machine->name);
    }
    /* After a rollback or a failback it compares its disks first. */
    if (kind == FAILOVER_PLANNED && strcmp(machine->agent_state, "protected") != 0) {
        err_set(err, ERR_REFUSED, "the agent of %s makes no points yet: it is %s", machine->name, machine->agent_state);
        return err_hint(err, "Wait until it does: leeward machine show %s", machine->name);
    }
    if (job_param_u64(params, "sequence", &sequence, err) < 0 ||
        replica_options_check(json_object_get(params, "options"), err) < 0 || choose_target(conn, params, err) < 0 ||
        failover_check_machine(machine, failover_machine_move((enum failover_kind)kind), err) < 0 ||
        point_steps_sequence(conn, machine, params, err) < 0 ||
        replica_mapping_resolve(conn, machine->id, kind == FAILOVER_TEST, params, err) < 0)
        return -1;
    if (sequence == 0) {
        err_set(err, ERR_REFUSED, "the machine %s has no recovery point", machine->name);
        return err_hint(err, "Wait for its first one: leeward point list %s", machine->name);
    }
    return point_steps_vault(conn, machine->id, ret_vault_id, err);
}

/* What the failover will be, before there is a row of it. */
static int ask_target(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *options = json_dumps(json_object_get(run->params, "options"), JSON_COMPACT);
    uint64_t sequence;

    if (db_need(run->conn, &db_targets, job_param_text(run->params, "target_id"), &set, err) < 0 ||
        job_param_u64(run->params, "sequence", &sequence, err) < 0)
        return -1;
    const struct target_row *t = db_at(&set, struct target_row, 0);
    const struct failover_row f = {.id = run->job->id,
        .machine_id = run->job->machine_id,
        .kind = job_param_text(run->params, "failover"),
        .target_name = t->name,
        .adapter = t->adapter,
        .target_config_json = t->config_json,
        .options_json = options ? options : "{}",
        .replica_json = "{}",
        .sequence = sequence};

    return replica_ask(run, &f, FABRIC_CHECK, NULL, false, NULL, err);
}

static int begin(struct job_run *run, struct err *err)
{
    AUTO_FREE char *options = json_dumps(json_object_get(run->params, "options"), JSON_COMPACT);
    struct failover_put put = {.machine_id = run->job->machine_id,
        .vault_id = run->job->vault_id,
        .target_id = job_param_text(run->params, "target_id"),
        .job_id = run->job->id,
        .requested_by = run->job->requested_by,
        .kind = (enum failover_kind)failover_kind_from_name(job_param_text(run->params, "failover")),
        .options_json = options ? options : "{}"};
    char id[IDENT_TEXT_SIZE];
    struct ident random;

    if (job_param_u64(run->params, "sequence", &put.sequence, err) < 0)
        return -1;
    if (ident_random(&random) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
    ident_to_text(&random, id);
    put.id = id;
    if (failover_insert(run->conn, &put, err) < 0)
        return -1;
    return job_state_put(run, "failover_id", json_string(id), err) < 0 ? -1 : JOB_DONE;
}

static bool is_planned(const struct job_run *run)
{
    return strcmp(job_param_text(run->params, "failover"), failover_kind_name(FAILOVER_PLANNED)) == 0;
}

/* What the agent answers, the last point, becomes part of the job's result. */
static int hold_command(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__HoldSource hold = LEEWARD__CONTROL__V1__HOLD_SOURCE__INIT;
    struct receive_list list = {0};
    int rc = receive_list_read(run->conn, run->job->machine_id, NULL, &list, err);

    hold.hold_id = (char *)run->job->id;
    hold.n_disks = list.count;
    hold.disks = list.disks;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_HOLD_SOURCE;
    command.hold_source = &hold;
    if (rc == 0)
        rc = job_command_result(run, "agent", run->job->machine_id, "the agent", &command, err);
    receive_list_done(&list);
    return rc;
}

/* The running system of the source, which whatever stops there is stopped in. */
static int note_boot(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (job_machine(run, &set, err) < 0)
        return -1;
    return job_state_put(run, "held_boot", json_string(db_at(&set, struct machine_row, 0)->boot_id), err);
}

/* A job of an older hub, or an agent that does not tell it, has none. */
static int check_boot(struct job_run *run, struct err *err)
{
    const char *held = job_state_text(run, "held_boot");
    AUTO_DB_SET struct db_set set = {0};

    if (!held || !held[0])
        return 0;
    if (job_machine(run, &set, err) < 0)
        return -1;
    const struct machine_row *m = db_at(&set, struct machine_row, 0);

    if (strcmp(m->boot_id, held) == 0)
        return 0;
    err_set(err, ERR_REFUSED, "the source was restarted after its last point");
    return err_hint(
        err, "What it wrote since then would be lost. Start the failover again: leeward failover planned %s", m->name);
}

/* A disk that was added a moment ago is in no point before its copy is complete: the source would be stopped without it. */
static int has_all_disks(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    uint64_t reached;
    bool online;

    if (job_state_text(run, "has_all_disks"))
        return JOB_DONE;
    if (job_machine(run, &set, err) < 0 ||
        machine_convergence(run->conn, run->job->machine_id, &reached, &online, err) < 0)
        return -1;
    const struct machine_row *m = db_at(&set, struct machine_row, 0);

    if (reached >= m->desired_version && strcmp(m->agent_state, "protected") == 0)
        return job_state_put(run, "has_all_disks", json_string("yes"), err) < 0 ? -1 : JOB_DONE;
    if (run->job->step_age_usec < SETTLED_USEC) {
        snprintf(run->detail, sizeof(run->detail), "waiting for the agent to have all disks in its points");
        return JOB_AGAIN;
    }
    err_set(
        err, ERR_REFUSED, "the agent of %s does not have all disks in its points: it is %s", m->name, m->agent_state);
    return err_hint(err, "Wait until the machine is protected: leeward machine show %s", m->name);
}

/* A planned failover loses nothing: the source is stopped, and its last point is the one that the replica runs. */
static int hold_source(struct job_run *run, struct err *err)
{
    int rc;

    if (!is_planned(run)) {
        snprintf(run->detail, sizeof(run->detail), "the source is left alone");
        return JOB_DONE;
    }
    rc = has_all_disks(run, err);
    if (rc == JOB_DONE)
        rc = hold_command(run, err);
    if (rc == JOB_DONE && note_boot(run, err) < 0)
        return -1;
    return rc;
}

/* Between the last point and the fence the hub may have been away for long, and what it knows of the agent is as old. Meanwhile the source may have been restarted, or its
 * agent killed and unable to take the disks again: what was stopped runs, and commits what no replica would have. So the agent is asked once more, as a command of this step.
 * Where it holds the disks it only makes another point, where it does not it stops what runs; in both cases the newer point is the one that the replica runs. */
static int hold_still(struct job_run *run, struct err *err)
{
    int rc = hold_command(run, err);

    if (rc < 0)
        return -1;
    run->final = false; /* the agent has spoken; what fails from here on may pass */
    return check_boot(run, err) < 0 ? -1 : rc;
}

static int release_source(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__HoldSource release = LEEWARD__CONTROL__V1__HOLD_SOURCE__INIT;

    release.hold_id = (char *)run->job->id;
    release.release = true;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_HOLD_SOURCE;
    command.hold_source = &release;
    return job_command_undo(run, "agent", run->job->machine_id, &command, err);
}

/* The move of the machine, and with it the new generation: from here on nothing that the old source sends is taken (P7). In one transaction. */
static int fence(struct job_run *run, struct err *err)
{
    enum failover_kind kind = (enum failover_kind)failover_kind_from_name(job_param_text(run->params, "failover"));
    uint64_t generation;
    int rc = kind == FAILOVER_PLANNED ? hold_still(run, err) : JOB_DONE;

    if (rc != JOB_DONE)
        return rc;
    if (machine_state_move(
            run->conn, run->job->machine_id, failover_machine_move(kind), run->job->requested_by, NULL, err) < 0)
        return -1;
    if (kind == FAILOVER_TEST) {
        snprintf(run->detail, sizeof(run->detail), "a test leaves the source alone");
        return JOB_DONE;
    }
    if (machine_generation_raise(run->conn, run->job->machine_id, &generation, err) < 0)
        return -1;
    snprintf(run->detail, sizeof(run->detail), "generation %llu", (unsigned long long)generation);
    return JOB_DONE;
}

/* The job that takes away what was begun. */
static int undo_failover(struct job_run *run, struct err *err)
{
    const char *id = job_state_text(run, "failover_id");
    char end[IDENT_TEXT_SIZE];

    fabric_task_cancel(run->job->id);
    if (!id) /* at most a rehearsal was begun: the source is not held, and a job has one command for its undoing */
        return branch_steps_undo_open(run, err);
    if (is_planned(run) && release_source(run, err) < 0)
        return -1;
    AUTO_FREE char *params = mem_printf("{\"failover_id\":\"%s\",\"failed\":true}", id);
    const struct job_spec spec = {.kind = "failover_end",
        .machine_id = run->job->machine_id,
        .params_json = params,
        .requested_by = run->job->requested_by};

    return params ? job_submit(run->conn, &spec, false, end, err) : err_set(err, ERR_NOMEM, "no memory");
}

/* ---- failover_end ---- */

static int end_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"failover_id", "failed", "outcome", "notes", NULL};
    const char *outcome = job_param_text(params, "outcome");
    AUTO_DB_SET struct db_set set = {0};
    enum failover_state to;

    if (job_params_known(params, known, err) < 0 ||
        db_need(conn, &db_failovers, job_param_text(params, "failover_id"), &set, err) < 0)
        return -1;
    const struct failover_row *f = db_at(&set, struct failover_row, 0);

    memcpy(ret_vault_id, f->vault_id, IDENT_TEXT_SIZE);
    if (strcmp(f->machine_id, machine->id) != 0)
        return err_set(err, ERR_INVALID, "failover_id: of another machine");
    if (outcome[0] && strcmp(outcome, "passed") != 0 && strcmp(outcome, "failed") != 0) {
        err_set(err, ERR_INVALID, "outcome: unknown word");
        return err_hint(err, "passed or failed.");
    }
    if (strlen(job_param_text(params, "notes")) > NOTES_MAX)
        return err_set(err, ERR_INVALID, "notes: at most %d bytes are allowed", NOTES_MAX);
    /* A failure submits it itself, before its own job is over. */
    if (!json_is_true(json_object_get(params, "failed")) && failover_is_free(conn, f->id, "", err) < 0)
        return -1;
    return failover_move((enum failover_kind)failover_kind_from_name(f->kind),
        (enum failover_state)failover_state_from_name(f->state), FAILOVER_END, &to, err);
}

static int end_begin(struct job_run *run, struct err *err)
{
    const char *id = failover_id(run);

    if (failover_hold(run->conn, id, err) < 0 || failover_is_free(run->conn, id, run->job->id, err) < 0 ||
        failover_store_move(run->conn, id, FAILOVER_END, run->job->id, err) < 0 ||
        failover_note_outcome(
            run->conn, id, job_param_text(run->params, "outcome"), job_param_text(run->params, "notes"), err) < 0)
        return -1;
    return JOB_DONE;
}

static int stop_replica(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;

    if (failover_read(run, &set, &f, err) < 0)
        return -1;
    return replica_ask(run, f, FABRIC_STOP, NULL, false, NULL, err);
}

int failover_discard_branch(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;
    int rc;

    if (failover_read(run, &set, &f, err) < 0)
        return -1;
    if (!f->export_id[0])
        return JOB_DONE;
    rc = branch_steps_close(run, f->export_id, true, err);
    if (rc == JOB_DONE && failover_note_branch(run->conn, f->id, NULL, 0, false, err) < 0)
        return -1;
    return rc;
}

/* Rolled back, the source is the machine again; what it held meanwhile is compared and sent as after any pause. A failover that failed before
 * the source was fenced has nothing to roll back. */
static int roll_back_machine(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (job_machine(run, &set, err) < 0)
        return -1;
    if (strcmp(db_at(&set, struct machine_row, 0)->state, "failed_over") != 0)
        return 0;
    if (machine_state_move(run->conn, run->job->machine_id, MOVE_ROLLBACK, run->job->requested_by, NULL, err) < 0)
        return -1;
    return machine_converge_anew(run->conn, run->job->machine_id, err);
}

static int end_settle(struct job_run *run, struct err *err)
{
    bool failed = json_is_true(json_object_get(run->params, "failed"));
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;

    if (failover_read(run, &set, &f, err) < 0)
        return -1;
    bool test = strcmp(f->kind, "test") == 0;
    enum failover_move move = failed ? FAILOVER_GIVE_UP : test ? FAILOVER_CLEAN : FAILOVER_ROLL_BACK;
    bool noted = f->outcome[0];
    const char *form = failed  ? (noted ? "given_up_noted" : "given_up")
                       : test  ? (noted ? "cleaned_noted" : "cleaned")
                       : noted ? "rolled_back_noted"
                               : "rolled_back";

    if (failover_store_move(run->conn, f->id, move, run->job->id, err) < 0 ||
        (!test && roll_back_machine(run, err) < 0) ||
        failover_tell(run, "failover_ended", failed ? "warning" : "info",
            TEXT_VALUES(VALUE_TEXT("form", form), VALUE_TEXT("failover", f->kind),
                VALUE_TEXT("machine", f->machine_name), VALUE_TEXT("outcome", f->outcome)),
            err) < 0)
        return -1;
    return JOB_DONE;
}

/* ---- failover_change_point, failover_commit ---- */

int failover_named_check(struct db_conn *conn, const struct machine_row *machine, const json_t *params,
    enum failover_move move, char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    enum failover_state to;

    if (db_need(conn, &db_failovers, job_param_text(params, "failover_id"), &set, err) < 0)
        return -1;
    const struct failover_row *f = db_at(&set, struct failover_row, 0);

    memcpy(ret_vault_id, f->vault_id, IDENT_TEXT_SIZE);
    if (strcmp(f->machine_id, machine->id) != 0)
        return err_set(err, ERR_INVALID, "failover_id: of another machine");
    return failover_move((enum failover_kind)failover_kind_from_name(f->kind),
        (enum failover_state)failover_state_from_name(f->state), move, &to, err);
}

/* Once it is committed the replica is the machine: another point is for one that was lost with its vault (copy_use). */
static int check_lost(struct db_conn *conn, const json_t *params, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, &db_failovers, job_param_text(params, "failover_id"), &set, err) < 0)
        return -1;
    const struct failover_row *f = db_at(&set, struct failover_row, 0);

    if (strcmp(f->state, failover_state_name(FAILOVER_COMMITTED)) != 0 || !f->export_id[0])
        return 0;
    err_set(err, ERR_REFUSED, "change of point is not possible: the %s failover is committed", f->kind);
    return err_hint(err, "It is over; the replica is the machine. Possible now: reprotect.");
}

static int change_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"failover_id", "sequence", NULL};
    uint64_t sequence;

    if (job_params_known(params, known, err) < 0 ||
        failover_named_check(conn, machine, params, FAILOVER_RESTART, ret_vault_id, err) < 0 ||
        check_lost(conn, params, err) < 0 || job_param_u64(params, "sequence", &sequence, err) < 0)
        return -1;
    if (sequence == 0) {
        err_set(err, ERR_INVALID, "sequence: missing");
        return err_hint(err, "Name the point: leeward point list %s", machine->name);
    }
    return point_steps_sequence(conn, machine, params, err);
}

static int change_begin(struct job_run *run, struct err *err)
{
    if (check_lost(run->conn, run->params, err) < 0 ||
        machine_state_move(run->conn, run->job->machine_id, MOVE_CHANGE_POINT, run->job->requested_by, NULL, err) < 0 ||
        failover_store_move(run->conn, failover_id(run), FAILOVER_RESTART, run->job->id, err) < 0)
        return -1;
    return JOB_DONE;
}

/* A change that fails does not end the failover: it runs nothing, says so, and another point can be chosen. */
static int undo_change(struct job_run *run, struct err *err)
{
    fabric_task_cancel(run->job->id);
    if (run->job->ordinal == 0)
        return 0;
    if (failover_store_move(run->conn, failover_id(run), FAILOVER_RUN, run->job->id, err) < 0)
        return -1;
    return failover_note_replica(run->conn, failover_id(run), "{}", "failed",
        "the change of the point did not succeed; choose one again, or roll back", err);
}

static int commit_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"failover_id", NULL};

    if (job_params_known(params, known, err) < 0)
        return -1;
    return failover_named_check(conn, machine, params, FAILOVER_COMMIT, ret_vault_id, err);
}

static int commit(struct job_run *run, struct err *err)
{
    if (machine_state_move(run->conn, run->job->machine_id, MOVE_COMMIT, run->job->requested_by, NULL, err) < 0 ||
        failover_store_move(run->conn, failover_id(run), FAILOVER_COMMIT, run->job->id, err) < 0)
        return -1;
    return JOB_DONE;
}

const struct job_kind job_kind_failover = {.name = "failover",
    .needs_machine = true,
    .may_cancel = true,
    .check = failover_check,
    .cancel = undo_failover,
    .undo_on_failure = true,
    .steps = {{"check", "Ask the target whether it can take the replica", ask_target, NULL},
        {"rehearse_open", "Open the newest point to rehearse the fix-ups", fixup_steps_rehearse_open,
            fixup_steps_rehearsal_wanted},
        {"rehearse", "Rehearse the fix-ups", fixup_steps_rehearse, fixup_steps_rehearsal_wanted},
        {"rehearse_close", "Close the point", fixup_steps_rehearse_close, fixup_steps_rehearsal_wanted},
        {"begin", "Write the failover down", begin, NULL},
        {"hold", "Stop the source and make its last point", hold_source, NULL},
        {"fence", "Fence the source", fence, NULL}, {"open", "Open a branch of the point", open_branch, NULL},
        {"fixup", "Prepare its disks for the replica", fixup_steps_apply, NULL},
        {"start", "Start the replica and wait for its boot check", failover_start_replica, NULL},
        {"settle", "The replica runs", settle_running, NULL}}};

const struct job_kind job_kind_failover_change_point = {.name = "failover_change_point",
    .needs_machine = true,
    .check = change_check,
    .cancel = undo_change,
    .undo_on_failure = true,
    .steps = {{"begin", "Write the change down", change_begin, NULL}, {"stop", "Stop the replica", stop_replica, NULL},
        {"discard", "Discard its branch", failover_discard_branch, NULL},
        {"open", "Open a branch of the other point", open_branch, NULL},
        {"fixup", "Prepare its disks for the replica", fixup_steps_apply, NULL},
        {"start", "Start the replica and wait for its boot check", failover_start_replica, NULL},
        {"settle", "The replica runs", settle_running, NULL}}};

const struct job_kind job_kind_failover_commit = {.name = "failover_commit",
    .needs_machine = true,
    .check = commit_check,
    .steps = {{"commit", "Commit the failover", commit, NULL}}};

const struct job_kind job_kind_failover_end = {.name = "failover_end",
    .needs_machine = true,
    .check = end_check,
    .steps = {{"begin", "Write the end down", end_begin, NULL}, {"stop", "Stop the replica", stop_replica, NULL},
        {"discard", "Discard its branch", failover_discard_branch, NULL},
        {"settle", "The failover is over", end_settle, NULL}}};
