/* SPDX-License-Identifier: Apache-2.0
 *
 * The way back of a machine whose replica was committed.
 *
 * failover_reprotect: the vault follows the replica's branch from now on, whether the hub is there or not, so that what the replica writes
 * becomes recovery points of the machine. The original stays fenced. Where another vault is named, at the old site as a rule, that one keeps a copy of them.
 *
 * failover_failback: while the replica runs, the agent of the original machine writes its disks until little is missing; then the replica is shut
 * down, the last of it becomes a point, the disks get the rest, and only then does the machine's generation move: there is one primary at any
 * time (P7). The disks may be another machine's (receiver_steps.h), which takes the place of the original then. What fails or is cancelled before that lets the replica run again, by a job of its own (failover_resume),
 * which waits for a vault and a target that cannot be reached.
 */
#include <stdio.h>
#include <string.h>

#include "hub/db/branch_store.h"
#include "hub/db/failover_store.h"
#include "hub/db/protection_store.h"
#include "hub/jobs/branch_steps.h"
#include "hub/jobs/copy_steps.h"
#include "hub/jobs/failover_steps.h"
#include "hub/jobs/job.h"
#include "hub/jobs/point_steps.h"
#include "hub/jobs/protect_steps.h"
#include "hub/jobs/receiver_steps.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define RESUME_AGAIN_USEC (5 * USEC_PER_SEC)

/* ---- what the jobs share ---- */

static int move_both(struct job_run *run, enum machine_move machine, enum failover_move failover, struct err *err)
{
    if (machine_state_move(run->conn, run->job->machine_id, machine, run->job->requested_by, NULL, err) < 0)
        return -1;
    return failover_store_move(run->conn, failover_id(run), failover, run->job->id, err);
}

/* What the branch holds becomes a point; its sequence is in the result. */
static int take_point(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__FollowBranch follow = LEEWARD__CONTROL__V1__FOLLOW_BRANCH__INIT;
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set machine = {0};
    const struct failover_row *f;
    json_t *answer = NULL;
    int rc;

    if (failover_read(run, &set, &f, err) < 0 || job_machine(run, &machine, err) < 0)
        return -1;
    follow.machine_id = (char *)f->machine_id;
    follow.branch_id = (char *)f->export_id;
    follow.generation = db_at(&machine, struct machine_row, 0)->generation;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_FOLLOW_BRANCH;
    command.follow_branch = &follow;
    rc = job_command(run, "vault", run->job->vault_id, "the vault", &command, &answer, err);
    if (rc == JOB_DONE && json_object_update(run->result, answer) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory");
    json_decref(answer);
    return rc;
}

/* ---- failover_reprotect ---- */

/* Another vault, at the old site as a rule, is to keep a copy of the machine's points, those of the replica included. */
static bool reprotect_copies(const json_t *params)
{
    return job_param_text(params, "vault")[0] != '\0';
}

static int copy_begin(struct job_run *run, struct err *err)
{
    return copy_steps_begin(run, job_param_text(run->params, "vault"), err);
}

static int copy_first(struct job_run *run, struct err *err)
{
    return copy_steps_first(run, job_param_text(run->params, "vault"), err);
}

static int reprotect_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"failover_id", "vault", NULL};

    if (job_params_known(params, known, err) < 0 ||
        failover_named_check(conn, machine, params, FAILOVER_REPROTECT, ret_vault_id, err) < 0 ||
        failover_check_machine(machine, MOVE_REPROTECT, err) < 0)
        return -1;
    return reprotect_copies(params) ? copy_steps_choose(conn, machine, params, err) : 0;
}

static int reprotect_begin(struct job_run *run, struct err *err)
{
    if (move_both(run, MOVE_REPROTECT, FAILOVER_REPROTECT, err) < 0)
        return -1;
    return machine_converge_anew(run->conn, run->job->machine_id, err) < 0 ? -1 : JOB_DONE;
}

static int reprotect_settle(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;

    if (machine_state_move(
            run->conn, run->job->machine_id, MOVE_REVERSE_FIRST_POINT, run->job->requested_by, NULL, err) < 0 ||
        failover_read(run, &set, &f, err) < 0)
        return -1;
    /* The node is told that the original may be written back from now on. */
    if (machine_converge_anew(run->conn, run->job->machine_id, err) < 0)
        return -1;
    return failover_tell(run, "replica_protected", "info",
               TEXT_VALUES(VALUE_TEXT("machine", f->machine_name),
                   VALUE_TEXT("sequence", job_param_text(run->result, "sequence"))),
               err) < 0
               ? -1
               : JOB_DONE;
}

/* The replica runs on, without protection, as before; once it is protected it stays so, and only a copy that was begun is taken back. */
static int undo_reprotect(struct job_run *run, struct err *err)
{
    int settled = job_step_done(run, "settle", err), copying = job_step_done(run, "copy", err);

    if (settled < 0 || copying < 0)
        return -1;
    if (settled > 0)
        return copying > 0 ? copy_steps_undo(run, job_param_text(run->params, "vault"), err) : 0;
    if (run->job->ordinal == 0)
        return 0;
    if (move_both(run, MOVE_REPROTECT_UNDO, FAILOVER_UNPROTECT, err) < 0)
        return -1;
    return machine_converge_anew(run->conn, run->job->machine_id, err);
}

const struct job_kind job_kind_failover_reprotect = {.name = "failover_reprotect",
    .needs_machine = true,
    .may_cancel = true,
    .check = reprotect_check,
    .cancel = undo_reprotect,
    .undo_on_failure = true,
    .steps = {{"begin", "Write the protection of the replica down", reprotect_begin, NULL},
        {"point", "Make a point of what the replica has written", take_point, NULL},
        {"list", "See it in the list", point_steps_until_listed, NULL},
        {"settle", "The replica is protected", reprotect_settle, NULL},
        {"copy", "Write the copy in the other vault down", copy_begin, reprotect_copies},
        {"copy_first", "Take the replica's point over there", copy_first, reprotect_copies}}};

/* ---- failover_failback ---- */

static int check_own(const struct machine_row *machine, const json_t *params, struct err *err)
{
    if (strcmp(job_param_text(params, "confirm"), machine->name) != 0) {
        err_set(err, ERR_INVALID, "confirm: not the name of the machine, whose disks are overwritten");
        return err_hint(err, "Type it: %s", machine->name);
    }
    if (json_object_get(params, "disks"))
        return err_set(err, ERR_INVALID, "disks: only where another machine is named in \"to\"");
    if (machine->online)
        return 0;
    err_set(err, ERR_REFUSED, "the agent of %s is not connected", machine->name);
    return err_hint(err, "Start the original machine, with nothing that uses the disks to be written, and its agent.");
}

/* What is written is what the replica has. */
static int check_other(struct db_conn *conn, const struct machine_row *machine, json_t *params, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_PGRESULT PGresult *rows = NULL;

    if (db_need(conn, &db_failovers, job_param_text(params, "failover_id"), &set, err) < 0 ||
        export_disk_numbers(conn, db_at(&set, struct failover_row, 0)->export_id, &rows, err) < 0)
        return -1;
    return receiver_check(conn, machine, params, db_text(rows, 0, 0)[0] ? db_text(rows, 0, 0) : NULL, err);
}

static int refuse_beside_resume(struct db_conn *conn, const char *machine_id, struct err *err)
{
    int resuming = failover_is_resuming(conn, machine_id, err);

    if (resuming <= 0)
        return resuming;
    err_set(err, ERR_REFUSED, "the replica is being started again, after a failback that was given up");
    return err_hint(err, "Wait until it runs, or stop that job: leeward job list");
}

static int failback_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"failover_id", "confirm", "to", "disks", "keep_fixups", NULL};

    if (job_params_known(params, known, err) < 0 ||
        failover_named_check(conn, machine, params, FAILOVER_FAIL_BACK, ret_vault_id, err) < 0 ||
        failover_check_machine(machine, MOVE_FAILBACK, err) < 0)
        return -1;
    if (receiver_is_another(params)) {
        if (check_other(conn, machine, params, err) < 0)
            return -1;
    } else if (check_own(machine, params, err) < 0) {
        return -1;
    }
    return refuse_beside_resume(conn, machine->id, err);
}

/* The node lets a machine be written back once it has heard of that: a failback may be asked for right after the reprotection. A node that is away
 * for long is the agent's to complain about. */
static int node_knows(struct job_run *run, struct err *err)
{
    int knows = job_state_text(run, "node_knows") ? JOB_DONE : receiver_node_knows(run, err);

    if (knows != JOB_DONE)
        return knows;
    return job_state_put(run, "node_knows", json_string("yes"), err) < 0 ? -1 : JOB_DONE;
}

/* What is written back is what the replica has, whatever is protected by now; closing the branch forgets its disks. */
static int note_disks(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_PGRESULT PGresult *rows = NULL;
    const struct failover_row *f;

    if (job_state_text(run, "disks"))
        return 0;
    if (failover_read(run, &set, &f, err) < 0 || export_disk_numbers(run->conn, f->export_id, &rows, err) < 0)
        return -1;
    return db_text(rows, 0, 0)[0] ? job_state_put(run, "disks", json_string(db_text(rows, 0, 0)), err) : 0;
}

static int ask_agent(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__ReceiveDisks r = LEEWARD__CONTROL__V1__RECEIVE_DISKS__INIT;
    json_t *answer = NULL;
    /* One that was given up in the moment in which this one was asked for. */
    int rc = refuse_beside_resume(run->conn, run->job->machine_id, err) < 0 ? -1 : receiver_admit(run, err);

    if (rc == JOB_DONE)
        rc = node_knows(run, err);
    if (rc != JOB_DONE)
        return rc;
    if (note_disks(run, err) < 0)
        return -1;
    r.check_only = true;
    rc = receiver_ask(run, job_state_text(run, "disks"), &r, &answer, err);
    json_decref(answer);
    return rc;
}

/* Numbers that come as text, added up over the passes. */
static int add_up(json_t *sum, const json_t *answer, const char *key, struct err *err)
{
    uint64_t a, b;

    if (job_param_u64(sum, key, &a, err) < 0 || job_param_u64(answer, key, &b, err) < 0)
        return -1;
    return json_object_set_new(sum, key, json_integer((json_int_t)(a + b))) < 0 ? err_set(err, ERR_NOMEM, "no memory")
                                                                                : 0;
}

static int write_disks(struct job_run *run, Leeward__Control__V1__ReceiveDisks *r, struct err *err)
{
    static const char *const figures[] = {"passes", "compared_bytes", "written_bytes", "traffic_bytes"};
    json_t *answer = NULL, *sum = json_object_get(run->result, "failback");
    int rc = receiver_ask(run, job_state_text(run, "disks"), r, &answer, err);

    if (rc != JOB_DONE)
        return rc;
    if (!sum && json_object_set_new(run->result, "failback", sum = json_object()) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory");
    for (size_t i = 0; i < ARRAY_LEN(figures) && rc == JOB_DONE; i++)
        if (add_up(sum, answer, figures[i], err) < 0)
            rc = -1;
    snprintf(run->detail, sizeof(run->detail), "%s bytes were different", job_param_text(answer, "written_bytes"));
    json_decref(answer);
    if (rc < 0)
        return -1;
    AUTO_FREE char *text = json_dumps(sum, JSON_COMPACT);

    if (!text)
        return err_set(err, ERR_NOMEM, "no memory");
    return failover_note_failback(run->conn, failover_id(run), text, run->job->id, err) < 0 ? -1 : JOB_DONE;
}

/* While the replica runs. */
static int pass(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__ReceiveDisks r = LEEWARD__CONTROL__V1__RECEIVE_DISKS__INIT;

    return write_disks(run, &r, err);
}

static int stop_replica(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;

    if (failover_read(run, &set, &f, err) < 0)
        return -1;
    return replica_ask(run, f, FABRIC_STOP, NULL, true, NULL, err);
}

/* What was written and not flushed yet is flushed by that. */
static int close_branch(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;

    if (failover_read(run, &set, &f, err) < 0)
        return -1;
    return branch_steps_close(run, f->export_id, false, err);
}

static int last_pass(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__ReceiveDisks r = LEEWARD__CONTROL__V1__RECEIVE_DISKS__INIT;

    if (job_param_u64(run->result, "sequence", &r.sequence, err) < 0)
        return -1;
    r.last = true;
    return write_disks(run, &r, err);
}

/* From here on the original is the machine: the branch's generation is over, and its agent is told the new one. In one transaction. */
static int failback_settle(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;
    uint64_t generation;

    if (failover_read(run, &set, &f, err) < 0 || move_both(run, MOVE_FAILBACK, FAILOVER_FAIL_BACK, err) < 0 ||
        receiver_settle(run, err) < 0 ||
        machine_generation_raise(run->conn, run->job->machine_id, &generation, err) < 0 ||
        machine_converge_anew(run->conn, run->job->machine_id, err) < 0)
        return -1;
    snprintf(run->detail, sizeof(run->detail), "generation %llu", (unsigned long long)generation);
    return failover_tell(run, "failed_back", "info",
               TEXT_VALUES(VALUE_TEXT("form", receiver_is_another(run->params) ? "new" : "original"),
                   VALUE_TEXT("machine", f->machine_name),
                   VALUE_TEXT("sequence", job_param_text(run->result, "sequence"))),
               err) < 0
               ? -1
               : JOB_DONE;
}

/* A new machine is started by its owner, unless it runs the rescue system: nobody waits until it is protected, which it is when its agent is there. */
static bool is_to_the_original(const json_t *params)
{
    return !receiver_is_another(params);
}

/* Before the generation has moved the replica is the machine, and runs again. */
static int undo_failback(struct job_run *run, struct err *err)
{
    int taking = job_step_begun(run, "take_back", err);
    AUTO_FREE char *params =
        mem_printf("{\"failover_id\":\"%s\"%s}", failover_id(run), taking > 0 ? ",\"fixups\":true" : "");
    const struct job_spec spec = {.kind = "failover_resume",
        .machine_id = run->job->machine_id,
        .params_json = params,
        .requested_by = run->job->requested_by};
    char id[IDENT_TEXT_SIZE];
    int settled = job_step_done(run, "settle", err), stopping = job_step_begun(run, "stop", err);

    fabric_task_cancel(run->job->id);
    if (taking < 0 || settled < 0 || stopping < 0)
        return -1;
    if (settled > 0)
        return 0;
    if (receiver_undo(run, err) < 0)
        return -1;
    if (stopping == 0)
        return 0;
    return params ? job_submit(run->conn, &spec, false, id, err) : err_set(err, ERR_NOMEM, "no memory");
}

const struct job_kind job_kind_failover_failback = {.name = "failover_failback",
    .needs_machine = true,
    .may_cancel = true,
    .check = failback_check,
    .cancel = undo_failback,
    .undo_on_failure = true,
    .steps = {{"check", "Ask the agent whether its disks can be written", ask_agent, NULL},
        {"try", "Try what taking its fix-ups back needs", fixup_steps_try_host, NULL},
        {"pass", "Write what differs, while the replica runs", pass, NULL},
        {"stop", "Shut the replica down", stop_replica, NULL},
        {"take_back", "Take the fix-ups back", fixup_steps_take_back, NULL},
        {"close", "Close its disks", close_branch, NULL}, {"take", "Make its last point", take_point, NULL},
        {"last", "Write the rest", last_pass, NULL}, {"settle", "The original is the machine", failback_settle, NULL},
        {"restart", "Start a new machine from its disks", receiver_restart, receiver_is_another},
        {"protect", "Compare it with its points and protect it again", protect_steps_until_protected,
            is_to_the_original},
        {"discard", "Discard the branch", failover_discard_branch, NULL}}}; /* all of it is in the machine's own line */

/* ---- failover_resume ---- */

/* What the failback had taken back, or begun to, is made anew. */
static bool resume_with_fixups(const json_t *params)
{
    return json_is_true(json_object_get(params, "fixups"));
}

static int resume_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"failover_id", "fixups", NULL};

    if (job_params_known(params, known, err) < 0)
        return -1;
    return failover_named_check(conn, machine, params, FAILOVER_FAIL_BACK, ret_vault_id, err);
}

/* The replica is the machine, and nothing else brings it back: what stands in the way is shown, and may go away. Nobody but a person gives it up. */
static int wait_for_it(struct job_run *run, struct err *err)
{
    bool ours = err->code == ERR_CANCELLED || err->code == ERR_NOMEM || err->code == ERR_INTERNAL;

    if (ours || PQtransactionStatus(db_raw(run->conn)) != PQTRANS_INTRANS) /* or the database's word */
        return -1;
    snprintf(run->detail, sizeof(run->detail), "waits: %.240s", err->text);
    err_clear(err);
    run->final = false;
    run->again_usec = RESUME_AGAIN_USEC;
    return JOB_AGAIN;
}

/* 1: it is the machine still. */
static int is_still_protected(
    struct job_run *run, struct db_set *set, const struct failover_row **ret_row, struct err *err)
{
    if (failover_read(run, set, ret_row, err) < 0)
        return -1;
    if (strcmp((*ret_row)->state, failover_state_name(FAILOVER_REPROTECTED)) == 0)
        return 1;
    run->final = true;
    return err_set(err, ERR_CANCELLED, "the replica is not the machine any more");
}

static int resume_open(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;
    int rc;

    if (is_still_protected(run, &set, &f, err) < 0)
        return -1;
    rc = branch_steps_reopen(run, f->export_id, "", err);
    /* The vault's own word is asked for once; one that is away gets the command when it is back. */
    return rc < 0 && err->code == ERR_UNAVAILABLE ? wait_for_it(run, err) : rc;
}

static int resume_start(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;
    int rc;

    if (is_still_protected(run, &set, &f, err) < 0)
        return -1;
    rc = failover_start_replica(run, err);
    return rc < 0 ? wait_for_it(run, err) : rc;
}

static int undo_resume(struct job_run *run, struct err *err)
{
    (void)err;
    fabric_task_cancel(run->job->id);
    return 0;
}

static int resume_settle(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct failover_row *f;

    if (failover_read(run, &set, &f, err) < 0)
        return -1;
    return failover_tell(run, "failback_given_up", "warning",
               TEXT_VALUES(VALUE_TEXT("machine", f->machine_name), VALUE_TEXT("boot_check", f->verdict)), err) < 0
               ? -1
               : JOB_DONE;
}

const struct job_kind job_kind_failover_resume = {.name = "failover_resume",
    .needs_machine = true,
    .may_cancel = true,
    .check = resume_check,
    .cancel = undo_resume,
    .steps = {{"open", "Open the replica's disks", resume_open, NULL},
        {"fixup", "Prepare its disks for the replica once more", fixup_steps_apply, resume_with_fixups},
        {"start", "Start the replica and wait for its boot check", resume_start, NULL},
        {"settle", "The replica runs", resume_settle, NULL}}};
