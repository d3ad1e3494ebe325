/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs: everything that takes longer than an answer. Submitting happens in the transaction of the request, so that a
 * repeated Idempotency-Key finds the same job.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <string.h>

#include "hub/api/four_eyes.h"
#include "hub/api/row_json.h"
#include "hub/db/rows.h"
#include "hub/jobs/job.h"

#define J(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct job_row, member)                                                        \
    }
static const struct row_json_member job_members[] = {
    J("id", ROW_TEXT, id),
    J("kind", ROW_TEXT, kind),
    J("status", ROW_TEXT, status),
    J("machine_id", ROW_TEXT_OR_NULL, machine_id),
    J("machine_name", ROW_TEXT_OR_NULL, machine_name),
    J("vault_id", ROW_TEXT_OR_NULL, vault_id),
    J("params", ROW_OBJECT, params_json),
    J("result", ROW_OBJECT_OR_NULL, result_json),
    J("waiting_for", ROW_TEXT_OR_NULL, waiting_for),
    J("requested_by", ROW_TEXT, requested_by),
    J("progress_percent", ROW_PERCENT, progress_permille),
    J("may_cancel", ROW_BOOL, may_cancel),
    J("cancel_requested", ROW_BOOL, cancel_requested),
    J("created_at", ROW_TIME, created_at),
    J("started_at", ROW_TIME, started_at),
    J("finished_at", ROW_TIME, finished_at),
    J("updated_at", ROW_TIME, updated_at),
    J("etag", ROW_ETAG, version),
};
#undef J

#define S(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct job_step_row, member)                                                   \
    }
static const struct row_json_member step_members[] = {
    S("name", ROW_TEXT, name),
    S("title", ROW_TEXT, title),
    S("status", ROW_TEXT, status),
    S("detail", ROW_TEXT, detail),
    S("problem", ROW_TEXT_OR_NULL, problem_text),
    S("progress_percent", ROW_PERCENT, progress_permille),
    S("attempts", ROW_NUMBER, attempts),
    S("started_at", ROW_TIME, started_at),
    S("finished_at", ROW_TIME, finished_at),
};
#undef S

static json_t *job_json(const struct request *r, const void *row)
{
    const struct job_row *j = row;
    json_t *item = row_json(row, job_members, ARRAY_LEN(job_members));
    json_t *problem = json_null();

    (void)r;
    if (j->problem_code[0])
        problem = json_pack(
            "{s:s, s:s, s:s}", "code", j->problem_code, "detail", j->problem_text, "correction", j->problem_correction);
    if (item)
        json_object_set_new(item, "problem", problem);
    else
        json_decref(problem);
    return item;
}

/* One job with its steps. */
static json_t *whole_job(struct request *r, const char *id, struct err *err)
{
    const struct db_filter of_job = {"job_id", DB_EQ, id};
    const struct db_page page = {.filters = &of_job, .filter_count = 1, .sort = "ordinal", .limit = 500};
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set steps = {0};
    json_t *item, *list;

    if (db_need(r->conn, &db_jobs, id, &set, err) < 0 || db_list(r->conn, &db_job_steps, &page, &steps, err) < 0)
        return NULL;
    item = job_json(r, set.items);
    list = json_array();
    for (size_t i = 0; i < steps.count; i++)
        json_array_append_new(
            list, row_json(db_at(&steps, struct job_step_row, i), step_members, ARRAY_LEN(step_members)));
    if (!item || json_object_set_new(item, "steps", list) < 0) {
        json_decref(item);
        (void)err_set(err, ERR_NOMEM, "no memory for a job");
        return NULL;
    }
    return item;
}

static int reply_job(struct request *r, int status, struct err *err)
{
    json_t *item = whole_job(r, r->job_id, err);

    if (!item)
        return -1;
    if (reply_json(r, status, item, err) < 0)
        return -1;
    if (status == 202)
        (void)snprintf(r->reply.location, sizeof(r->reply.location), "/api/v1/jobs/%s", r->job_id);
    if (!serve_job_reply_is_final(r))
        r->reply.retry_after_sec = 1;
    return 0;
}

int serve_job_look(struct request *r, int status, struct err *err)
{
    return reply_job(r, status, err);
}

bool serve_job_reply_is_final(const struct request *r)
{
    const char *status = json_string_value(json_object_get(r->reply.json, "status"));

    return !status || job_status_is_final(status) || strcmp(status, "waiting_for_input") == 0;
}

/* Jobs that one person alone may not be allowed to start. */
static int hold(struct request *r, const char *kind, const char *machine_id, struct err *err)
{
    static const struct {
        const char *kind, *does;
    } rows[] = {{"erase", "erase everything that is kept of"}, {"failover_commit", "commit the failover of"},
        {"branch_promote", "make a branch the main line of"}};
    AUTO_DB_SET struct db_set set = {0};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i].kind, kind) != 0)
            continue;
        if (db_need(r->conn, &db_machines, machine_id, &set, err) < 0)
            return -1;
        return four_eyes_hold(
            r, kind, machine_id, err, "%s machine %s", rows[i].does, db_at(&set, struct machine_row, 0)->name);
    }
    return 0;
}

int serve_job_submit(struct request *r, const char *kind, const char *machine_id, json_t *params, struct err *err)
{
    bool dry_run = request_query_bool(r, "dry_run");
    AUTO_FREE char *text = json_dumps(params, JSON_COMPACT);
    const struct job_spec spec = {
        .kind = kind, .machine_id = machine_id, .params_json = text, .requested_by = r->principal.name};
    char id[IDENT_TEXT_SIZE] = "";
    int held;

    json_decref(params);
    if (!text)
        return err_set(err, ERR_NOMEM, "no memory for a job");
    if (job_submit(r->conn, &spec, true, id, err) < 0 || (held = hold(r, kind, machine_id, err)) < 0)
        return -1;
    if (held)
        return 0;
    if (dry_run)
        return reply_empty(r);
    if (job_submit(r->conn, &spec, false, id, err) < 0)
        return -1;
    (void)snprintf(r->job_id, sizeof(r->job_id), "%s", id);
    return reply_job(r, 202, err);
}

static const struct row_filter job_filters[] = {
    {"status", "status", DB_EQ},
    {"kind", "kind", DB_EQ},
    {"machine_id", "machine_id", DB_EQ},
};

int serve_job_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_jobs,
        .filters = job_filters,
        .filter_count = ARRAY_LEN(job_filters),
        .item = job_json,
    };

    return row_list_serve(r, &list, err);
}

static void name_job(struct request *r)
{
    (void)snprintf(r->job_id, sizeof(r->job_id), "%.36s", r->params[0]);
}

int serve_job_get(struct request *r, struct err *err)
{
    name_job(r);
    return reply_job(r, 200, err);
}

#define L(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct job_log_row, member)                                                    \
    }
static const struct row_json_member log_members[] = {
    L("seq", ROW_NUMBER, seq),
    L("at", ROW_TIME, at),
    L("level", ROW_TEXT, level),
    L("text", ROW_TEXT, text),
};
#undef L

static json_t *log_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, log_members, ARRAY_LEN(log_members));
}

int serve_job_log(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_job_log,
        .fixed = {"job_id", DB_EQ, r->params[0]},
        .item = log_json,
    };
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_jobs, r->params[0], &set, err) < 0)
        return -1;
    return row_list_serve(r, &list, err);
}

/* A dry run is taken back at once: there is nothing to wait for. */
static int reply_changed_job(struct request *r, struct err *err)
{
    return request_query_bool(r, "dry_run") ? reply_empty(r) : reply_job(r, 202, err);
}

int serve_job_cancel(struct request *r, struct err *err)
{
    name_job(r);
    if (job_cancel(r->conn, r->job_id, err) < 0)
        return -1;
    return reply_changed_job(r, err);
}

int serve_job_answer(struct request *r, struct err *err)
{
    name_job(r);
    if (job_answer(r->conn, r->job_id, request_str(r, "answer"), r->principal.name, err) < 0)
        return -1;
    return reply_changed_job(r, err);
}
