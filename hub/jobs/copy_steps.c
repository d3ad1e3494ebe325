/* SPDX-License-Identifier: Apache-2.0
 *
 * copy: another vault takes over a machine's points from the one that it is replicated to, and goes on with each new one. Both vaults do that by
 * their desired state, whether the hub is there or not; the job is done when the newest point of the moment when it began, or a later one, is whole there.
 * Cancelled before that, it is taken back by a copy_remove.
 *
 * copy_use: the machine's own vault is lost, and the one that has a copy takes its place: its points are the machine's from then on, under a new
 * generation. A source that is there compares its disks and goes on to it; a replica that ran in the lost vault is lost, and can be started from a point of the copy.
 *
 * copy_remove: neither vault goes on with it, and what the other one holds is erased, its key first. Asked for twice it does no harm.
 */
#include <stdio.h>
#include <string.h>

#include "hub/core/machine_state.h"
#include "hub/db/branch_store.h"
#include "hub/db/copy_store.h"
#include "hub/db/failover_store.h"
#include "hub/db/journal.h"
#include "hub/db/protection_store.h"
#include "hub/jobs/copy_steps.h"
#include "hub/jobs/failover_steps.h"
#include "hub/jobs/job.h"
#include "hub/jobs/point_steps.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define LOOK_USEC (500 * USEC_PER_MSEC)
#define VAULT_USEC (60 * USEC_PER_SEC) /* until a vault that is connected has heard of it */

static int find(
    struct db_conn *conn, const char *machine_id, const char *vault_id, struct db_set *ret_set, struct err *err)
{
    AUTO_FREE char *key = mem_printf("%s:%s", machine_id, vault_id);

    return key ? db_get(conn, &db_copies, key, ret_set, err) : err_set(err, ERR_NOMEM, "no memory for a copy");
}

int copy_steps_need(
    struct db_conn *conn, const struct machine_row *machine, const char *vault, struct db_set *ret_set, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int found;

    if (db_need(conn, &db_vaults, vault, &set, err) < 0)
        return -1;
    found = find(conn, machine->id, db_at(&set, struct vault_row, 0)->id, ret_set, err);
    if (found != 0)
        return found < 0 ? -1 : 0;
    err_set(err, ERR_NOT_FOUND, "the vault %s has no copy of the points of %s", db_at(&set, struct vault_row, 0)->name,
        machine->name);
    return err_hint(err, "leeward copy list %s shows which ones have.", machine->name);
}

int copy_steps_point(struct db_conn *conn, const struct machine_row *machine, const json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_DB_SET struct db_set copy = {0};
    AUTO_DB_SET struct db_set point = {0};
    uint64_t sequence;

    if (copy_steps_need(conn, machine, job_param_text(params, "vault"), &copy, err) < 0 ||
        job_param_u64(params, "sequence", &sequence, err) < 0)
        return -1;
    const struct copy_row *c = db_at(&copy, struct copy_row, 0);
    AUTO_FREE char *key = mem_printf("%s:%llu", c->key, (unsigned long long)(sequence > 0 ? sequence : c->sequence));
    int found = key ? db_get(conn, &db_copy_points, key, &point, err) : err_set(err, ERR_NOMEM, "no memory");

    if (found < 0)
        return -1;
    if (found == 0) {
        err_set(err, ERR_NOT_FOUND, "the copy that %s has of %s has no such point", c->vault_name, machine->name);
        return err_hint(err, "List its points: leeward copy points %s %s", machine->name, c->vault_name);
    }
    memcpy(ret_vault_id, c->vault_id, IDENT_TEXT_SIZE);
    return 0;
}

/* ---- copy ---- */

static int check_vault(struct db_conn *conn, const struct machine_row *machine, const struct vault_row *vault,
    const char *source_id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_PGRESULT PGresult *room = NULL;
    int rc;

    if (strcmp(vault->id, source_id) == 0) {
        err_set(err, ERR_REFUSED, "%s has the machine's points: it is replicated there", vault->name);
        return err_hint(err, "Name another vault: leeward vault list");
    }
    rc = find(conn, machine->id, vault->id, &set, err);
    if (rc > 0) {
        err_set(
            err, ERR_CONFLICT, "%s has a copy of the points of %s, or is giving one up", vault->name, machine->name);
        return err_hint(err, "leeward copy list %s shows how far it is.", machine->name);
    }
    if (rc < 0)
        return -1;
    if (vault->simulated || !vault->online) {
        err_set(err, ERR_REFUSED, "the vault %s is not connected", vault->name);
        return err_hint(err, "Start it, or check that it reaches the hub's control port.");
    }
    rc = vault->accepting ? copy_fits(conn, machine->id, vault->id, &room, err) : 0;
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    if (room && PQntuples(room) > 0)
        err_set(err, ERR_NOSPACE, "the vault %s has %llu bytes free, and the machine takes %llu", vault->name,
            (unsigned long long)db_u64(room, 0, 1), (unsigned long long)db_u64(room, 0, 0));
    else
        err_set(err, ERR_NOSPACE, "the disk of the vault %s is full", vault->name);
    return err_hint(err, "Make its disk larger, or choose another vault.");
}

int copy_steps_check(struct db_conn *conn, const struct machine_row *machine, const char *vault,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    char source[IDENT_TEXT_SIZE];

    if (point_steps_vault(conn, machine->id, source, err) < 0 || db_need(conn, &db_vaults, vault, &set, err) < 0)
        return -1;
    const struct vault_row *v = db_at(&set, struct vault_row, 0);

    if (check_vault(conn, machine, v, source, err) < 0 || copy_may_be_more(conn, machine->id, err) < 0)
        return -1;
    memcpy(ret_vault_id, v->id, IDENT_TEXT_SIZE);
    return 0;
}

int copy_steps_choose(struct db_conn *conn, const struct machine_row *machine, json_t *params, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set copy = {0};
    char id[IDENT_TEXT_SIZE];
    int there;

    if (db_need(conn, &db_vaults, job_param_text(params, "vault"), &set, err) < 0)
        return -1;
    memcpy(id, db_at(&set, struct vault_row, 0)->id, IDENT_TEXT_SIZE);
    there = find(conn, machine->id, id, &copy, err);
    if (there < 0)
        return -1;
    if ((there == 0 || strcmp(db_at(&copy, struct copy_row, 0)->state, "ending") == 0) &&
        copy_steps_check(conn, machine, id, id, err) < 0)
        return -1;
    return json_object_set_new(params, "vault", json_string(id)) < 0 ? err_set(err, ERR_NOMEM, "no memory") : 0;
}

static int copy_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"vault", NULL};

    if (job_params_known(params, known, err) < 0)
        return -1;
    if (!job_param_text(params, "vault")[0])
        return err_set(err, ERR_INVALID, "vault: missing");
    return copy_steps_check(conn, machine, job_param_text(params, "vault"), ret_vault_id, err);
}

int copy_steps_begin(struct job_run *run, const char *vault_id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    char source[IDENT_TEXT_SIZE];
    uint64_t newest;
    int there = find(run->conn, run->job->machine_id, vault_id, &set, err);

    if (there < 0 || failover_latest_point(run->conn, run->job->machine_id, &newest, err) < 0 ||
        point_steps_vault(run->conn, run->job->machine_id, source, err) < 0)
        return -1;
    const struct copy_put put = {.machine_id = run->job->machine_id,
        .vault_id = vault_id,
        .source_vault_id = source,
        .created_by = run->job->requested_by};

    if ((there == 0 && copy_put(run->conn, &put, err) < 0) ||
        job_state_put(run, "copy_begun", json_boolean(there == 0), err) < 0 ||
        job_state_put(run, "copy_from", json_integer((json_int_t)newest), err) < 0)
        return -1;
    return JOB_DONE;
}

/* What stands in its way is shown, and may go away; nobody but a person gives it up. */
static int look(struct job_run *run, const struct copy_row *c, struct err *err)
{
    run->again_usec = LOOK_USEC;
    if (c->source_sequence == 0 || c->source_sequence < job_state_u64(run, "copy_from")) {
        run->progress_permille = (unsigned)c->progress_permille;
        if (c->cause[0])
            snprintf(run->detail, sizeof(run->detail), "waits: %.200s", c->cause);
        else
            snprintf(run->detail, sizeof(run->detail), "%s compares and takes what differs", c->vault_name);
        return JOB_AGAIN;
    }
    snprintf(
        run->detail, sizeof(run->detail), "%s has point %llu", c->vault_name, (unsigned long long)c->source_sequence);
    json_t *answer = json_pack("{s:I, s:I, s:I, s:I}", "source_sequence", (json_int_t)c->source_sequence,
        "copy_sequence", (json_int_t)c->sequence, "taken_bytes", (json_int_t)c->taken_bytes, "traffic_bytes",
        (json_int_t)c->traffic_bytes);
    int rc = answer && json_object_update(run->result, answer) == 0 ? JOB_DONE : err_set(err, ERR_NOMEM, "no memory");

    json_decref(answer);
    return rc;
}

int copy_steps_first(struct job_run *run, const char *vault_id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int found = find(run->conn, run->job->machine_id, vault_id, &set, err);

    if (found < 0)
        return -1;
    if (found == 0 || strcmp(db_at(&set, struct copy_row, 0)->state, "ending") == 0) {
        run->final = true;
        return err_set(err, ERR_CANCELLED, "the copy was removed meanwhile");
    }
    return look(run, db_at(&set, struct copy_row, 0), err);
}

int copy_steps_undo(struct job_run *run, const char *vault_id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *params = mem_printf("{\"vault\":\"%s\"}", vault_id);
    const struct job_spec spec = {.kind = "copy_remove",
        .machine_id = run->job->machine_id,
        .params_json = params,
        .requested_by = run->job->requested_by};
    char id[IDENT_TEXT_SIZE];
    int found =
        params ? find(run->conn, run->job->machine_id, vault_id, &set, err) : err_set(err, ERR_NOMEM, "no memory");

    if (found <= 0 || !json_is_true(json_object_get(run->state, "copy_begun")) ||
        strcmp(db_at(&set, struct copy_row, 0)->state, "ending") == 0)
        return found < 0 ? -1 : 0;
    return job_submit(run->conn, &spec, false, id, err);
}

static int begin(struct job_run *run, struct err *err)
{
    return copy_steps_begin(run, run->job->vault_id, err);
}

static int first(struct job_run *run, struct err *err)
{
    return copy_steps_first(run, run->job->vault_id, err);
}

static int undo(struct job_run *run, struct err *err)
{
    int begun = job_step_done(run, "begin", err);

    return begun <= 0 ? begun : copy_steps_undo(run, run->job->vault_id, err);
}

const struct job_kind job_kind_copy = {.name = "copy",
    .needs_machine = true,
    .may_cancel = true,
    .check = copy_check,
    .cancel = undo,
    .steps = {
        {"begin", "Write the copy down", begin, NULL}, {"first", "Take the machine's newest point over", first, NULL}}};

/* ---- copy_remove ---- */

/* A vault that is lost for good erases nothing: it is only forgotten what it has. */
static bool remove_erases(const json_t *params)
{
    return !json_is_true(json_object_get(params, "forget"));
}

static int remove_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"vault", "forget", NULL};
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set vault = {0};

    if (job_params_known(params, known, err) < 0 ||
        copy_steps_need(conn, machine, job_param_text(params, "vault"), &set, err) < 0)
        return -1;
    memcpy(ret_vault_id, db_at(&set, struct copy_row, 0)->vault_id, IDENT_TEXT_SIZE);
    if (remove_erases(params))
        return 0;
    if (db_need(conn, &db_vaults, ret_vault_id, &vault, err) < 0)
        return -1;
    if (!db_at(&vault, struct vault_row, 0)->online)
        return 0;
    err_set(err, ERR_REFUSED, "the vault %s is connected: it can erase what it has",
        db_at(&vault, struct vault_row, 0)->name);
    return err_hint(err, "Leave --forget out.");
}

static int stop(struct job_run *run, struct err *err)
{
    return copy_end(run->conn, run->job->machine_id, run->job->vault_id, err) < 0 ? -1 : JOB_DONE;
}

/* Whoever has not heard yet might write on what was erased. One that is away hears when it is back, before the command. */
static int settle(struct job_run *run, struct err *err)
{
    int knows = copy_vault_knows(run->conn, run->job->vault_id, err);

    if (knows < 0)
        return -1;
    if (knows > 0 || run->job->step_age_usec >= VAULT_USEC)
        return JOB_DONE;
    snprintf(run->detail, sizeof(run->detail), "waiting for the vault to leave off");
    run->again_usec = LOOK_USEC;
    return JOB_AGAIN;
}

static int erase(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__EraseMachine request = LEEWARD__CONTROL__V1__ERASE_MACHINE__INIT;
    json_t *answer = NULL;
    int rc;

    request.machine_id = (char *)(uintptr_t)run->job->machine_id;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_ERASE_MACHINE;
    command.erase_machine = &request;
    rc = job_command(run, "vault", run->job->vault_id, "the vault", &command, &answer, err);
    json_decref(answer);
    return rc;
}

static int forget(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (job_machine(run, &set, err) < 0 || copy_forget(run->conn, run->job->machine_id, run->job->vault_id, err) < 0)
        return -1;
    const struct event_spec event = {.severity = "info",
        .code = "copy_removed",
        .values = TEXT_VALUES(VALUE_TEXT("machine", db_at(&set, struct machine_row, 0)->name)),
        .machine_id = run->job->machine_id,
        .vault_id = run->job->vault_id,
        .job_id = run->job->id,
        .actor = run->job->requested_by};

    return event_append(run->conn, &event, err) < 0 ? -1 : JOB_DONE;
}

const struct job_kind job_kind_copy_remove = {.name = "copy_remove",
    .needs_machine = true,
    .check = remove_check,
    .steps = {{"stop", "End the copying", stop, NULL},
        {"settle", "Wait until the vault has left off", settle, remove_erases},
        {"erase", "Destroy the key of its data", erase, remove_erases}, {"forget", "Forget its points", forget, NULL}}};

/* ---- copy_use ---- */

/* Whoever is connected may have a replica that runs, and points that are newer. */
static int check_lost_vault(
    struct db_conn *conn, const struct machine_row *machine, const struct copy_row *c, struct err *err)
{
    AUTO_DB_SET struct db_set old = {0};
    AUTO_DB_SET struct db_set new = {0};

    if (db_need(conn, &db_vaults, c->source_vault_id, &old, err) < 0 ||
        db_need(conn, &db_vaults, c->vault_id, &new, err) < 0)
        return -1;
    const struct vault_row *lost = db_at(&old, struct vault_row, 0), *v = db_at(&new, struct vault_row, 0);

    if (lost->online) {
        err_set(
            err, ERR_REFUSED, "the vault %s is connected: what %s has there is not lost", lost->name, machine->name);
        return err_hint(
            err, "Fail back or roll back from there; or, where it is to be given up, stop it for good first.");
    }
    if (c->source_sequence == 0 || strcmp(c->state, "ending") == 0) {
        err_set(err, ERR_REFUSED, "the copy that %s has of the points of %s has no point to go on from", v->name,
            machine->name);
        return err_hint(err, "leeward copy list %s shows how far each copy is.", machine->name);
    }
    if (v->online)
        return 0;
    err_set(err, ERR_REFUSED, "the vault %s is not connected", v->name);
    return err_hint(err, "Start it, or check that it reaches the hub's control port.");
}

static int check_state(struct db_conn *conn, const struct machine_row *machine, struct err *err)
{
    int state = machine_state_from_name(machine->state), live;

    if (state == MACHINE_FAILED_OVER || state == MACHINE_COMMITTED || state == MACHINE_REVERSE_REPLICATING ||
        state == MACHINE_REVERSE_PROTECTED)
        return 0;
    if ((live = failover_is_live(conn, machine->id, err)) <= 0)
        return live;
    err_set(err, ERR_REFUSED, "a failover of the machine is under way");
    return err_hint(err, "End it first: leeward failover list");
}

static int use_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"vault", "confirm", NULL};
    AUTO_DB_SET struct db_set set = {0};

    if (job_params_known(params, known, err) < 0 ||
        copy_steps_need(conn, machine, job_param_text(params, "vault"), &set, err) < 0 ||
        check_lost_vault(conn, machine, db_at(&set, struct copy_row, 0), err) < 0 ||
        check_state(conn, machine, err) < 0)
        return -1;
    if (strcmp(job_param_text(params, "confirm"), machine->name) != 0) {
        err_set(err, ERR_INVALID, "confirm: not the name of the machine, whose points in the lost vault are given up");
        return err_hint(err, "Type it: %s", machine->name);
    }
    memcpy(ret_vault_id, db_at(&set, struct copy_row, 0)->vault_id, IDENT_TEXT_SIZE);
    return 0;
}

/* A replica that was the machine is lost with its vault: nothing protects it any more, and it runs nowhere. */
static int leave_replica(struct job_run *run, const struct machine_row *machine, struct err *err)
{
    int state = machine_state_from_name(machine->state);
    AUTO_PGRESULT PGresult *r = NULL;
    int n;

    if (state != MACHINE_REVERSE_REPLICATING && state != MACHINE_REVERSE_PROTECTED)
        return 0;
    n = db_exec(run->conn, &r, err, "SELECT id FROM failovers WHERE machine_id = $1 AND state = 'reprotected'",
        DB_S(machine->id));
    if (n < 0 || machine_state_move(run->conn, machine->id, MOVE_REPROTECT_UNDO, run->job->requested_by, NULL, err) < 0)
        return -1;
    return n == 0 ? 0 : failover_store_move(run->conn, db_text(r, 0, 0), FAILOVER_UNPROTECT, run->job->id, err);
}

/* All in one transaction; from here on nothing that comes of the old generation is taken (P7). */
static int use(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set copy = {0};
    uint64_t generation;

    if (job_machine(run, &set, err) < 0)
        return -1;
    const struct machine_row *m = db_at(&set, struct machine_row, 0);

    if (copy_steps_need(run->conn, m, run->job->vault_id, &copy, err) < 0)
        return -1;
    const struct copy_row *c = db_at(&copy, struct copy_row, 0);

    if (check_lost_vault(run->conn, m, c, err) < 0 || check_state(run->conn, m, err) < 0) {
        run->final = true;
        return -1;
    }
    if (leave_replica(run, m, err) < 0 || copy_use(run->conn, m->id, run->job->vault_id, err) < 0 ||
        machine_generation_raise(run->conn, m->id, &generation, err) < 0 ||
        machine_converge_anew(run->conn, m->id, err) < 0)
        return -1;
    snprintf(run->detail, sizeof(run->detail), "generation %llu", (unsigned long long)generation);
    return failover_tell(run, "copy_used", "warning",
               TEXT_VALUES(VALUE_TEXT("machine", m->name), VALUE_TEXT("vault", c->vault_name),
                   VALUE_TEXT("lost_vault", c->source_vault_name)),
               err) < 0
               ? -1
               : JOB_DONE;
}

/* The vault tells its points anew. */
static int until_listed(struct job_run *run, struct err *err)
{
    uint64_t newest;

    if (failover_latest_point(run->conn, run->job->machine_id, &newest, err) < 0)
        return -1;
    if (newest > 0)
        return json_object_set_new(run->result, "sequence", json_integer((json_int_t)newest)) < 0
                   ? err_set(err, ERR_NOMEM, "no memory")
                   : JOB_DONE;
    snprintf(run->detail, sizeof(run->detail), "waiting for the vault to tell its points");
    run->again_usec = LOOK_USEC;
    return JOB_AGAIN;
}

const struct job_kind job_kind_copy_use = {.name = "copy_use",
    .needs_machine = true,
    .check = use_check,
    .steps = {{"use", "Make the copy the machine's own line", use, NULL},
        {"list", "See its points in the list", until_listed, NULL}}};
