/* SPDX-License-Identifier: Apache-2.0
 *
 * Submission, cancelling and answering of jobs. What can be refused is refused here, while somebody listens; what can only be
 * known later is a step's matter.
 */
#include "hub/jobs/job.h"

#include <string.h>

#include "hub/jobs/job_kind.h"

#define PARAMS_MAX 65536

static json_t *load_params(const char *text, struct err *err)
{
    json_error_t e;
    json_t *params = NULL;

    if (text && strlen(text) > PARAMS_MAX) {
        err_set(err, ERR_TOO_LARGE, "params: longer than %d bytes", PARAMS_MAX);
        return NULL;
    }
    params = json_loads(text && text[0] ? text : "{}", JSON_REJECT_DUPLICATES, &e);
    if (json_is_object(params))
        return params;
    json_decref(params);
    err_set(err, ERR_INVALID, "params: not a JSON object");
    return NULL;
}

static const struct job_kind *need_kind(const char *name, struct err *err)
{
    const struct job_kind *kind = job_kind_find(name);

    if (!kind) {
        err_set(err, ERR_INVALID, "kind: there are no jobs of kind %.40s", name);
        err_hint(err, "Use the same version of both: this hub has no such jobs.");
    }
    return kind;
}

static int check(struct db_conn *conn, const struct job_kind *kind, const struct job_spec *spec, json_t *params,
    char ret_machine_id[IDENT_TEXT_SIZE], char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    const struct machine_row *machine = NULL;

    if (kind->needs_machine) {
        if (!spec->machine_id || !spec->machine_id[0])
            return err_set(err, ERR_INVALID, "machine_id: missing");
        if (db_need(conn, &db_machines, spec->machine_id, &set, err) < 0)
            return -1;
        machine = db_at(&set, struct machine_row, 0);
        memcpy(ret_machine_id, machine->id, IDENT_TEXT_SIZE);
    }
    return kind->check(conn, machine, params, ret_vault_id, err);
}

static int insert(struct db_conn *conn, const struct job_kind *kind, const struct job_spec *spec, const json_t *params,
    const char *machine_id, const char *vault_id, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    struct job_step_title titles[JOB_STEPS_MAX];
    AUTO_FREE char *text = json_dumps(params, JSON_COMPACT); /* as the kind's check has completed them */
    struct job_insert job = {.kind = kind->name,
        .machine_id = machine_id,
        .vault_id = vault_id,
        .params_json = text,
        .requested_by = spec->requested_by,
        .may_cancel = kind->may_cancel,
        .steps = titles};

    if (!text)
        return err_set(err, ERR_NOMEM, "no memory for a job");
    for (const struct job_step *step = kind->steps; step->name; step++)
        if (!step->wanted || step->wanted(params))
            titles[job.step_count++] = (struct job_step_title){step->name, step->title};
    return job_store_insert(conn, &job, ret_id, err);
}

static int submit(struct db_conn *conn, const struct job_kind *kind, const struct job_spec *spec, json_t *params,
    bool dry_run, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    char machine_id[IDENT_TEXT_SIZE] = "", vault_id[IDENT_TEXT_SIZE] = "";
    bool own = !db_in_transaction(conn);
    int rc = check(conn, kind, spec, params, machine_id, vault_id, err);

    if (rc < 0 || dry_run)
        return rc;
    if (own && db_begin(conn, err) < 0)
        return -1;
    rc = insert(conn, kind, spec, params, machine_id, vault_id, ret_id, err);
    if (!own)
        return rc;
    if (rc == 0)
        return db_commit(conn, err);
    db_rollback(conn);
    return -1;
}

int job_submit(
    struct db_conn *conn, const struct job_spec *spec, bool dry_run, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    const struct job_kind *kind = need_kind(spec->kind, err);
    json_t *params = kind ? load_params(spec->params_json, err) : NULL;
    int rc;

    ret_id[0] = '\0';
    if (!params)
        return -1;
    rc = submit(conn, kind, spec, params, dry_run, ret_id, err);
    json_decref(params);
    return rc;
}

int job_cancel(struct db_conn *conn, const char *id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int rc = job_store_cancel(conn, id, err);

    if (rc != 0)
        return rc < 0 ? -1 : 0;
    if (db_need(conn, &db_jobs, id, &set, err) < 0)
        return -1;
    const struct job_row *job = db_at(&set, struct job_row, 0);

    err_set(err, ERR_REFUSED, "job %s cannot be cancelled: it is %s", id,
        job_status_is_final(job->status) ? job->status : "of a kind that runs to its end");
    return err_hint(err, "Look at it: leeward job show %s", id);
}

int job_answer(struct db_conn *conn, const char *id, const char *answer, const char *by, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *line = mem_printf("%s answered: %s", by, answer);
    int rc;

    if (strcmp(answer, "continue") != 0 && strcmp(answer, "abort") != 0) {
        err_set(err, ERR_INVALID, "answer: neither continue nor abort");
        return err_hint(err, "Answer \"continue\" or \"abort\".");
    }
    if (!line)
        return err_set(err, ERR_NOMEM, "no memory");
    rc = job_store_answer(conn, id, answer, err);
    if (rc > 0)
        return job_store_log(conn, id, "info", line, err);
    if (rc < 0 || db_need(conn, &db_jobs, id, &set, err) < 0)
        return -1;
    err_set(err, ERR_REFUSED, "job %s does not wait for an answer", id);
    return err_hint(err, "Look at it: leeward job show %s", id);
}

bool job_status_is_final(const char *status)
{
    return strcmp(status, "succeeded") == 0 || strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0;
}
