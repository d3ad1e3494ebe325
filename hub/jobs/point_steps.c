/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery points: make one now, open one as a disk, close it, write a disk of one into a file.
 */
#include <stdio.h>
#include <string.h>

#include "hub/db/journal.h"
#include "hub/db/protection_store.h"
#include "hub/jobs/job_kind.h"
#include "transport/base/clock.h"

/* How long a committed point may take from the vault into the hub's list before the job ends without it. */
#define LISTED_USEC (30 * USEC_PER_SEC)
#define TAG_MAX 128
#define PATH_LENGTH_MAX 4000

static int check_words(const char *member, const char *value, const char *const *words, struct err *err)
{
    char list[128] = "";
    size_t n = 0;

    for (size_t i = 0; words[i]; i++) {
        if (strcmp(words[i], value) == 0)
            return 0;
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", words[i]);
    }
    err_set(err, ERR_INVALID, "%s: unknown word", member);
    return err_hint(err, "One of: %s.", list);
}

static int check_replicates(const struct machine_row *m, struct err *err)
{
    int state = machine_state_from_name(m->state);

    if (state >= 0 && machine_state_replicates((enum machine_state)state))
        return 0;
    err_set(err, ERR_REFUSED, "machine %s is not protected", m->name);
    return err_hint(err, "Protect it first: leeward machine protect %s", m->name);
}

/* The vault that has the machine's points. */
static int need_vault(struct db_conn *conn, const char *machine_id, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    int rc = protection_vault(conn, machine_id, ret_id, err);

    if (rc != 0)
        return rc < 0 ? -1 : 0;
    err_set(err, ERR_REFUSED, "the machine has no recovery points");
    return err_hint(err, "Protect it first: leeward machine protect");
}

/* A sequence that was named must be a point that the hub knows; 0 needs any point at all. */
static int check_sequence(struct db_conn *conn, const struct machine_row *m, const json_t *params, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    uint64_t sequence;

    if (job_param_u64(params, "sequence", &sequence, err) < 0)
        return -1;
    if (sequence == 0)
        return 0;
    AUTO_FREE char *key = mem_printf("%s:%llu", m->id, (unsigned long long)sequence);
    int found = key ? db_get(conn, &db_points, key, &set, err) : err_set(err, ERR_NOMEM, "no memory");

    if (found != 0)
        return found < 0 ? -1 : 0;
    err_set(err, ERR_NOT_FOUND, "machine %s has no point %llu", m->name, (unsigned long long)sequence);
    return err_hint(err, "List its points: leeward point list %s", m->name);
}

/* ---- point_create ---- */

static int create_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"kind", "tag", NULL};
    static const char *const kinds[] = {"crash", "filesystem", "application", NULL};

    if (job_params_known(params, known, err) < 0 ||
        check_words("kind", json_object_get(params, "kind") ? job_param_text(params, "kind") : "crash", kinds, err) <
            0 ||
        check_replicates(machine, err) < 0)
        return -1;
    if (strlen(job_param_text(params, "tag")) > TAG_MAX)
        return err_set(err, ERR_INVALID, "tag: at most %d bytes are allowed", TAG_MAX);
    return need_vault(conn, machine->id, ret_vault_id, err);
}

static int create_point(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__CreatePoint create = LEEWARD__CONTROL__V1__CREATE_POINT__INIT;
    const char *kind = job_param_text(run->params, "kind");
    json_t *answer = NULL;
    int rc;

    create.kind = (char *)(kind[0] ? kind : "crash");
    create.tag = (char *)job_param_text(run->params, "tag");
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_CREATE_POINT;
    command.create_point = &create;
    rc = job_command(run, "agent", run->job->machine_id, "the agent", &command, &answer, err);
    if (rc != JOB_DONE)
        return rc;
    if (json_object_update(run->result, answer) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory");
    json_decref(answer);
    return rc;
}

static int until_listed(struct job_run *run, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *key = mem_printf("%s:%s", run->job->machine_id, job_param_text(run->result, "sequence"));
    int found = key ? db_get(run->conn, &db_points, key, &set, err) : err_set(err, ERR_NOMEM, "no memory");

    run->again_usec = 200 * USEC_PER_MSEC;
    if (found != 0)
        return found;
    return run->job->step_age_usec > LISTED_USEC ? JOB_DONE : JOB_AGAIN;
}

/* ---- point_open ---- */

static int open_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"sequence", "write", "socket", NULL};

    if (job_params_known(params, known, err) < 0 || check_sequence(conn, machine, params, err) < 0)
        return -1;
    return need_vault(conn, machine->id, ret_vault_id, err);
}

/* The id goes into the job's state with the row, so that every look names the same export. */
static int begin_export(struct job_run *run, uint64_t sequence, bool writable, struct err *err)
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
        .sequence = sequence,
        .writable = writable};

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

static int open_point(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__OpenPoint open = LEEWARD__CONTROL__V1__OPEN_POINT__INIT;
    json_t *answer = NULL;
    int rc;

    if (job_param_u64(run->params, "sequence", &open.sequence, err) < 0)
        return -1;
    open.write = json_is_true(json_object_get(run->params, "write"));
    if (begin_export(run, open.sequence, open.write, err) < 0)
        return -1;
    open.export_id = (char *)job_state_text(run, "export_id");
    open.machine_id = (char *)run->job->machine_id;
    open.socket = (char *)job_param_text(run->params, "socket");
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_OPEN_POINT;
    command.open_point = &open;
    rc = job_command(run, "vault", run->job->vault_id, "the vault", &command, &answer, err);
    if (rc != JOB_DONE)
        return rc;
    rc = note_opened(run, open.export_id, answer, err);
    json_decref(answer);
    return rc;
}

/* Cancelled or failed: the row says so, and the vault closes it, whether it had come to opening it or not. */
static int undo_open(struct job_run *run, struct err *err)
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
    return 0;
}

static int close_point(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__ClosePoint close = LEEWARD__CONTROL__V1__CLOSE_POINT__INIT;
    json_t *answer = NULL;
    int rc;

    close.export_id = (char *)job_param_text(run->params, "export_id");
    /* A branch that nobody asked to keep would take room for ever. */
    close.discard = !json_is_false(json_object_get(run->params, "discard"));
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
    if (rc == JOB_DONE && export_set(run->conn, close.export_id, "closed", 0, "", "[]", err) < 0)
        return -1;
    return rc;
}

/* ---- export ---- */

static int export_check(struct db_conn *conn, const struct machine_row *machine, json_t *params,
    char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    static const char *const known[] = {"sequence", "disk", "path", "format", NULL};
    static const char *const formats[] = {"raw", "qcow2", "vpc", "vmdk", NULL};
    const char *path = job_param_text(params, "path");
    uint64_t disk;

    if (job_params_known(params, known, err) < 0 || check_sequence(conn, machine, params, err) < 0 ||
        job_param_u64(params, "disk", &disk, err) < 0 ||
        check_words(
            "format", json_object_get(params, "format") ? job_param_text(params, "format") : "raw", formats, err) < 0)
        return -1;
    if (path[0] != '/' || strlen(path) > PATH_LENGTH_MAX || disk > UINT32_MAX) {
        err_set(err, ERR_INVALID, "path: not an absolute path");
        return err_hint(err, "Name a file or block device on the vault's host, beginning with /.");
    }
    return need_vault(conn, machine->id, ret_vault_id, err);
}

static int export_disk(struct job_run *run, struct err *err)
{
    Leeward__Control__V1__Command command = LEEWARD__CONTROL__V1__COMMAND__INIT;
    Leeward__Control__V1__ExportDisk export = LEEWARD__CONTROL__V1__EXPORT_DISK__INIT;
    const char *format = job_param_text(run->params, "format");
    json_t *answer = NULL;
    uint64_t disk;
    int rc;

    if (job_param_u64(run->params, "sequence", &export.sequence, err) < 0 ||
        job_param_u64(run->params, "disk", &disk, err) < 0)
        return -1;
    export.machine_id = (char *)run->job->machine_id;
    export.disk = (uint32_t)disk;
    export.path = (char *)job_param_text(run->params, "path");
    export.format = (char *)(format[0] ? format : "raw");
    command.kind_case = LEEWARD__CONTROL__V1__COMMAND__KIND_EXPORT_DISK;
    command.export_disk = &export;
    rc = job_command(run, "vault", run->job->vault_id, "the vault", &command, &answer, err);
    if (rc == JOB_DONE && json_object_update(run->result, answer) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory");
    json_decref(answer);
    return rc;
}

static int undo_export(struct job_run *run, struct err *err)
{
    return job_command_cancel(run, "vault", run->job->vault_id, err);
}

const struct job_kind job_kind_point_create = {.name = "point_create",
    .needs_machine = true,
    .check = create_check,
    .steps = {{"create", "Make the point and commit it", create_point}, {"list", "See it in the list", until_listed}}};

const struct job_kind job_kind_point_open = {.name = "point_open",
    .needs_machine = true,
    .may_cancel = true,
    .check = open_check,
    .cancel = undo_open,
    .undo_on_failure = true,
    .steps = {{"open", "Open the point as disks", open_point}}};

const struct job_kind job_kind_point_close = {
    .name = "point_close", .check = close_check, .steps = {{"close", "Close the disks", close_point}}};

const struct job_kind job_kind_export = {.name = "export",
    .needs_machine = true,
    .may_cancel = true,
    .check = export_check,
    .cancel = undo_export,
    .steps = {{"write", "Write the disk", export_disk}}};
