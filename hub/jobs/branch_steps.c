/* SPDX-License-Identifier: Apache-2.0
 *
 * Open points and branches: open a point as disks, open a branch again, close, discard, promote.
 */
#include <stdio.h>
#include <string.h>

#include "hub/core/machine_state.h"
#include "hub/db/branch_store.h"
#include "hub/db/failover_store.h"
#include "hub/jobs/branch_steps.h"
#include "hub/jobs/copy_steps.h"
#include "hub/jobs/point_steps.h"
#include "transport/base/mem.h"

#define NAME_MAX_BYTES 128

/* ---- point_open ---- */

/* A machine's branches have different names, if any. */
static int name_is_free(struct db_conn *conn, const struct machine_row *machine, const char *name, struct err *err)
{
    const struct db_filter filters[] = {{"machine_id", DB_EQ, machine->id}, {"name", DB_EQ, name}};
    const struct db_page page = {.filters = filters, .filter_count = ARRAY_LEN(filters)};
    uint64_t count;

    if (name[0] == '\0')
        return 0;
    if (strlen(name) > NAME_MAX_BYTES || strpbrk(name, "@/,") != NULL) {
        err_set(err, ERR_INVALID, "name: not fit for a branch");
        return err_hint(err, "Give at most %d bytes without '@', '/' and ','.", NAME_MAX_BYTES);
    }
    if (db_count(conn, &db_branches, &page, &count, err) < 0)
        return -1;
    if (count == 0)
        return 0;
    err_set(err, ERR_CONFLICT, "the machine %s has a branch %s", machine->name, name);
    return err_hint(err, "Choose another name, or open that one again: leeward branch open %s", name);
}

/* Of a copy: to be read, for writing belongs to where the machine's own line is. */
static int open_copy_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    if (!json_is_true(json_object_get(params, "write")))
        return copy_steps_point(conn, machine, params, ret_vault_id, err);
    err_set(err, ERR_REFUSED, "a point of a copy is opened to be read only");
    return err_hint(err, "Leave --write out, or open a point of the vault that the machine is replicated to.");
}

static int open_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"sequence", "write", "socket", "name", "vault", NULL};

    if (job_params_known(params, known, err) < 0)
        return -1;
    if (job_param_text(params, "vault")[0])
        return open_copy_check(conn, machine, params, ret_vault_id, err);
    if (point_steps_sequence(conn, machine, params, err) < 0 ||
        name_is_free(conn, machine, job_param_text(params, "name"), err) < 0)
        return -1;
    return point_steps_vault(conn, machine->id, ret_vault_id, err);
}

/* The id goes into the job's state with the row, so that every look names the same export. */
static int begin_export(struct job_run *run, const struct branch_opening *opening, struct err *err)
{
    struct ident random;
    char id[IDENT_TEXT_SIZE];

    if (job_state_text(run, "export_id"))
        return 0;
    if (ident_random(&random) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
    ident_to_text(&random, id);
    const struct export_put put = {.id = id,
        .machine_id = run->job->machine_id,
        .vault_id = run->job->vault_id,
        .job_id = run->job->id,
        .created_by = run->job->requested_by,
        .name = opening->name,
        .sequence = opening->sequence,
        .writable = opening->writable};

    if (export_create(run->conn, &put, err) < 0)
        return -1;
    return job_state_put(run, "export_id", json_string(id), err);
}

static int note_opened(struct job_run *run, const char *export_id, json_t *answer, struct err *err)
{
    const json_t *list = json_object_get(answer, "disks");
    AUTO_FREE char *disks = json_is_array(list) ? json_dumps(list, JSON_COMPACT) : NULL;
    uint64_t sequence;

    if (job_param_u64(answer, "sequence", &sequence, err) < 0 ||
        export_set(run->conn, export_id, "open", sequence, job_param_text(answer, "uri"), disks, err) < 0)
        return -1;
    if (json_object_update(run->result, answer) < 0 ||
        json_object_set_new(run->result, "export_id", json_string(export_id)) < 0)
        return err_set(err, ERR_NOMEM, "no memory");
    return JOB_DONE;
}

int branch_steps_open(struct job_run *run, const struct branch_opening *opening, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__OpenPoint open = LEEWARD__CONTROL__V1__OPEN_POINT__INIT;
    json_t *answer = NULL;
    int rc;

    if (begin_export(run, opening, err) < 0)
        return -1;
    open.sequence = opening->sequence;
    open.write = opening->writable;
    open.export_id = (char *)job_state_text(run, "export_id");
    open.machine_id = (char *)run->job->machine_id;
    open.socket = (char *)opening->socket;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_OPEN_POINT;
    command.open_point = &open;
    rc = job_command(run, "vault", run->job->vault_id, "the vault", &command, &answer, err);
    if (rc != JOB_DONE)
        return rc;
    rc = note_opened(run, open.export_id, answer, err);
    json_decref(answer);
    return rc;
}

static int open_point(struct job_run *run, struct err *err)
{
    struct branch_opening opening = {.name = job_param_text(run->params, "name"),
        .socket = job_param_text(run->params, "socket"),
        .writable = json_is_true(json_object_get(run->params, "write"))};

    if (job_param_u64(run->params, "sequence", &opening.sequence, err) < 0)
        return -1;
    return branch_steps_open(run, &opening, err);
}

/* Cancelled or failed: the row says so, and the vault closes it, whether it had come to opening it or not. */
int branch_steps_undo_open(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__ClosePoint close = LEEWARD__CONTROL__V1__CLOSE_POINT__INIT;
    const char *id = job_state_text(run, "export_id");

    if (!id)
        return 0;
    if (export_set(run->conn, id, "failed", 0, NULL, NULL, err) < 0)
        return -1;
    close.export_id = (char *)id;
    close.discard = true;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_CLOSE_POINT;
    command.close_point = &close;
    return job_command_undo(run, "vault", run->job->vault_id, &command, err);
}

/* ---- branch_open ---- */

static int reopen_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"export_id", "socket", NULL};
    AUTO_DB_SET struct db_set set = {0};

    (void)machine;
    if (job_params_known(params, known, err) < 0 ||
        db_need(conn, &db_branches, job_param_text(params, "export_id"), &set, err) < 0)
        return -1;
    const struct branch_row *branch = db_at(&set, struct branch_row, 0);

    memcpy(ret_vault_id, branch->vault_id, IDENT_TEXT_SIZE);
    if (strcmp(branch->state, "kept") == 0)
        return 0;
    err_set(err, ERR_REFUSED, "the branch is %s", branch->state);
    return err_hint(err, "Its URI: leeward branch show %s", branch->id);
}

int branch_steps_reopen(struct job_run *run, const char *export_id, const char *socket, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__OpenPoint open = LEEWARD__CONTROL__V1__OPEN_POINT__INIT;
    json_t *answer = NULL;
    int rc;

    open.export_id = (char *)export_id;
    open.machine_id = (char *)run->job->machine_id;
    open.write = true;
    open.reopen = true;
    open.socket = (char *)socket;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_OPEN_POINT;
    command.open_point = &open;
    rc = job_command(run, "vault", run->job->vault_id, "the vault", &command, &answer, err);
    if (rc == JOB_AGAIN && !job_state_text(run, "noted")) {
        if (export_set(run->conn, open.export_id, "opening", 0, "", "[]", err) < 0 ||
            job_state_put(run, "noted", json_string("opening"), err) < 0)
            return -1;
    }
    if (rc != JOB_DONE)
        return rc;
    rc = note_opened(run, open.export_id, answer, err);
    json_decref(answer);
    return rc;
}

static int reopen(struct job_run *run, struct err *err)
{
    return branch_steps_reopen(
        run, job_param_text(run->params, "export_id"), job_param_text(run->params, "socket"), err);
}

/* The branch stays. */
static int undo_reopen(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__ClosePoint close = LEEWARD__CONTROL__V1__CLOSE_POINT__INIT;

    close.export_id = (char *)job_param_text(run->params, "export_id");
    if (!job_state_text(run, "noted"))
        return 0;
    if (export_set(run->conn, close.export_id, "kept", 0, "", "[]", err) < 0)
        return -1;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_CLOSE_POINT;
    command.close_point = &close;
    return job_command_undo(run, "vault", run->job->vault_id, &command, err);
}

/* ---- point_close ---- */

static int close_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"export_id", "discard", NULL};
    AUTO_DB_SET struct db_set set = {0};

    (void)machine;
    if (job_params_known(params, known, err) < 0 ||
        db_need(conn, &db_exports, job_param_text(params, "export_id"), &set, err) < 0)
        return -1;
    memcpy(ret_vault_id, db_at(&set, struct export_row, 0)->vault_id, IDENT_TEXT_SIZE);
    return failover_spares_branch(conn, db_at(&set, struct export_row, 0)->id, err);
}

/* Writes down that it is closed, or, for a branch that stays, kept. */
static int note_closed(struct job_run *run, const char *export_id, bool discard, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int found = db_get(run->conn, &db_exports, export_id, &set, err);

    if (found <= 0)
        return found;
    bool kept = !discard && db_at(&set, struct export_row, 0)->writable;

    return export_set(run->conn, export_id, kept ? "kept" : "closed", 0, "", "[]", err);
}

int branch_steps_close(struct job_run *run, const char *export_id, bool discard, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__ClosePoint close = LEEWARD__CONTROL__V1__CLOSE_POINT__INIT;
    json_t *answer = NULL;
    int rc;

    close.export_id = (char *)export_id;
    close.discard = discard;
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_CLOSE_POINT;
    command.close_point = &close;
    rc = job_command(run, "vault", run->job->vault_id, "the vault", &command, &answer, err);
    if (rc == JOB_AGAIN && export_set(run->conn, close.export_id, "closing", 0, NULL, NULL, err) < 0)
        return -1;
    /* A vault that does not know it has nothing open: that is what was asked for. */
    if (rc < 0 && err->code == ERR_NOT_FOUND) {
        err_clear(err);
        rc = JOB_DONE;
    }
    json_decref(answer);
    if (rc == JOB_DONE && note_closed(run, close.export_id, close.discard, err) < 0)
        return -1;
    return rc;
}

/* A branch that nobody asked to keep would take room for ever. */
static int close_point(struct job_run *run, struct err *err)
{
    return branch_steps_close(
        run, job_param_text(run->params, "export_id"), !json_is_false(json_object_get(run->params, "discard")), err);
}

/* ---- branch_promote ---- */

static int promote_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"export_id", NULL};
    AUTO_DB_SET struct db_set set = {0};
    int state = machine_state_from_name(machine->state);

    if (job_params_known(params, known, err) < 0 ||
        db_need(conn, &db_branches, job_param_text(params, "export_id"), &set, err) < 0 ||
        failover_spares_branch(conn, db_at(&set, struct branch_row, 0)->id, err) < 0)
        return -1;
    memcpy(ret_vault_id, db_at(&set, struct branch_row, 0)->vault_id, IDENT_TEXT_SIZE);
    if (state < 0 || !machine_state_replicates((enum machine_state)state))
        return 0;
    err_set(err, ERR_REFUSED, "the machine %s replicates: its source would go on over the branch", machine->name);
    return err_hint(err,
        "Stop that first: leeward machine unprotect %s. Protecting it again compares its disks with the branch.",
        machine->name);
}

/* An open branch is closed, and kept. */
static int promote_close(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__ClosePoint close = LEEWARD__CONTROL__V1__CLOSE_POINT__INIT;
    json_t *answer = NULL;
    int rc;

    close.export_id = (char *)job_param_text(run->params, "export_id");
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_CLOSE_POINT;
    command.close_point = &close;
    rc = job_command(run, "vault", run->job->vault_id, "the vault", &command, &answer, err);
    json_decref(answer);
    if (rc == JOB_DONE && note_closed(run, close.export_id, false, err) < 0)
        return -1;
    return rc;
}

/* In the transaction that notes the step as done: once. */
static int promote_raise(struct job_run *run, struct err *err)
{
    uint64_t generation;

    if (machine_generation_raise(run->conn, run->job->machine_id, &generation, err) < 0 ||
        job_state_put(run, "generation", json_integer((json_int_t)generation), err) < 0)
        return -1;
    return JOB_DONE;
}

static int promote(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__PromoteBranch promote = LEEWARD__CONTROL__V1__PROMOTE_BRANCH__INIT;
    json_t *answer = NULL;
    int rc;

    promote.branch_id = (char *)job_param_text(run->params, "export_id");
    promote.machine_id = (char *)run->job->machine_id;
    promote.generation = job_state_u64(run, "generation");
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_PROMOTE_BRANCH;
    command.promote_branch = &promote;
    rc = job_command(run, "vault", run->job->vault_id, "the vault", &command, &answer, err);
    if (rc == JOB_DONE && (json_object_update(run->result, answer) < 0 ||
                              export_set(run->conn, promote.branch_id, "promoted", 0, "", "[]", err) < 0))
        rc = err->code ? -1 : err_set(err, ERR_NOMEM, "no memory");
    json_decref(answer);
    return rc;
}

const struct job_kind job_kind_branch_promote = {.name = "branch_promote",
    .needs_machine = true,
    .check = promote_check,
    .steps = {{"close", "Close the branch", promote_close, NULL},
        {"raise", "Raise the generation: the old line is over", promote_raise, NULL},
        {"promote", "Make the branch the main line", promote, NULL},
        {"list", "See its point in the list", point_steps_until_listed, NULL}}};

const struct job_kind job_kind_point_open = {.name = "point_open",
    .needs_machine = true,
    .may_cancel = true,
    .check = open_check,
    .cancel = branch_steps_undo_open,
    .undo_on_failure = true,
    .steps = {{"open", "Open the point as disks", open_point, NULL}}};

const struct job_kind job_kind_branch_open = {.name = "branch_open",
    .needs_machine = true,
    .may_cancel = true,
    .check = reopen_check,
    .cancel = undo_reopen,
    .undo_on_failure = true,
    .steps = {{"open", "Open the branch as disks", reopen, NULL}}};

const struct job_kind job_kind_point_close = {
    .name = "point_close", .check = close_check, .steps = {{"close", "Close the disks", close_point, NULL}}};
