/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery plans and their runs. A plan's document stands flat in the item, beside its name, so that what was read can be written again. What a run does is a
 * job; its gates are answered as any job that waits (serve_job.c).
 */
#include <stdio.h>
#include <string.h>

#include "hub/api/four_eyes.h"
#include "hub/api/row_json.h"
#include "hub/api/serve.h"
#include "hub/jobs/plan_run.h"

/* ---- plans ---- */

#define P(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct plan_row, member)                                                       \
    }
static const struct row_json_member plan_members[] = {
    P("id", ROW_TEXT, id),
    P("name", ROW_TEXT, name),
    P("description", ROW_TEXT, description),
    P("last_run_id", ROW_TEXT_OR_NULL, last_run_id),
    P("last_run_state", ROW_TEXT_OR_NULL, last_run_state),
    P("last_run_at", ROW_TIME, last_run_at),
    P("etag", ROW_ETAG, version),
    P("created_at", ROW_TIME, created_at),
    P("updated_at", ROW_TIME, updated_at),
};
#undef P

static const char *const document_members[] = {"target", "max_parallel", "groups"};

static json_t *plan_json(const struct request *r, const void *row)
{
    json_t *item = row_json(row, plan_members, ARRAY_LEN(plan_members));
    json_t *document = json_loads(((const struct plan_row *)row)->document_json, JSON_REJECT_DUPLICATES, NULL);

    (void)r;
    if (item && document && json_object_update(item, document) < 0) {
        json_decref(item);
        item = NULL;
    }
    json_decref(document);
    return item;
}

static const struct row_filter plan_filters[] = {{"name", "name", DB_LIKE}};

int serve_plan_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_plans, .filters = plan_filters, .filter_count = ARRAY_LEN(plan_filters), .item = plan_json};

    return row_list_serve(r, &list, err);
}

int serve_plan_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_plans, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, plan_json(r, set.items), err);
}

/* What the body says over what was there, checked as a whole. The text is the caller's. */
static int take_document(struct request *r, const char *before, char **ret_text, struct err *err)
{
    json_t *document = json_loads(before, JSON_REJECT_DUPLICATES, NULL);
    AUTO_PLAN struct plan *plan = NULL;
    int rc = document ? 0 : err_set(err, ERR_INTERNAL, "a plan that is not JSON");

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(document_members); i++) {
        json_t *value = json_object_get(r->body, document_members[i]);

        if (json_is_null(value))
            json_object_del(document, document_members[i]);
        else if (value && json_object_set(document, document_members[i], value) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for a plan");
    }
    if (rc == 0)
        rc = plan_read(document, &plan, err) < 0 ? -1 : plan_check_names(r->conn, plan, err);
    if (rc == 0 && !(*ret_text = json_dumps(document, JSON_COMPACT)))
        rc = err_set(err, ERR_NOMEM, "no memory for a plan");
    json_decref(document);
    return rc;
}

int serve_plan_create(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *document = NULL;
    char id[IDENT_TEXT_SIZE], location[96];
    struct plan_row row = {.name = request_str(r, "name"),
        .description = request_str(r, "description") ? request_str(r, "description") : ""};

    if (take_document(r, "{}", &document, err) < 0)
        return -1;
    row.document_json = document;
    if (plan_create(r->conn, &row, id, err) < 0 || db_need(r->conn, &db_plans, id, &set, err) < 0)
        return -1;
    (void)snprintf(location, sizeof(location), "/api/v1/plans/%s", id);
    return reply_created(r, plan_json(r, set.items), location, err);
}

int serve_plan_update(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set after = {0};
    AUTO_FREE char *document = NULL;
    struct plan_row row;

    if (db_need(r->conn, &db_plans, r->params[0], &set, err) < 0)
        return -1;
    row = *db_at(&set, struct plan_row, 0);
    row.name = request_str(r, "name") ? request_str(r, "name") : row.name;
    row.description = request_str(r, "description") ? request_str(r, "description") : row.description;
    if (take_document(r, row.document_json, &document, err) < 0)
        return -1;
    row.document_json = document;
    if (plan_update(r->conn, &row, r->if_version ? r->if_version : row.version, err) < 0 ||
        db_need(r->conn, &db_plans, row.id, &after, err) < 0)
        return -1;
    return reply_json(r, 200, plan_json(r, after.items), err);
}

int serve_plan_delete(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_plans, r->params[0], &set, err) < 0 ||
        plan_delete(r->conn, db_at(&set, struct plan_row, 0)->id, r->if_version, err) < 0)
        return -1;
    return reply_empty(r);
}

/* ---- beginning a run ---- */

static struct plan_run_spec spec_of(const struct request *r)
{
    return (struct plan_run_spec){.plan = r->params[0],
        .kind = request_str(r, "kind"),
        .point = request_str(r, "point") ? request_str(r, "point") : "latest",
        .target = request_str(r, "target"),
        .options = json_object_get(r->body, "options"),
        .cleanup = request_bool(r, "cleanup", false),
        .requested_by = r->principal.name};
}

int serve_plan_forecast(struct request *r, struct err *err)
{
    const struct plan_run_spec spec = spec_of(r);
    char run_id[IDENT_TEXT_SIZE], job_id[IDENT_TEXT_SIZE];
    json_t *forecast = NULL;

    if (plan_run_start(r->conn, &spec, true, run_id, job_id, &forecast, err) < 0)
        return -1;
    return reply_json(r, 200, forecast, err);
}

int serve_plan_run(struct request *r, struct err *err)
{
    const struct plan_run_spec spec = spec_of(r);
    bool dry_run = request_query_bool(r, "dry_run");
    char run_id[IDENT_TEXT_SIZE];

    if (plan_run_start(r->conn, &spec, dry_run, run_id, r->job_id, NULL, err) < 0)
        return -1;
    return dry_run ? reply_empty(r) : serve_job_look(r, 202, err);
}

/* ---- runs ---- */

#define R(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct plan_run_row, member)                                                   \
    }
static const struct row_json_member run_members[] = {
    R("id", ROW_TEXT, id),
    R("plan_id", ROW_TEXT_OR_NULL, plan_id),
    R("plan_name", ROW_TEXT, plan_name),
    R("drill_id", ROW_TEXT_OR_NULL, drill_id),
    R("kind", ROW_TEXT, kind),
    R("state", ROW_TEXT, state),
    R("point", ROW_TEXT, point),
    R("cleanup", ROW_BOOL, cleanup),
    R("verdict", ROW_TEXT, verdict),
    R("verdict_text", ROW_TEXT, verdict_text),
    R("job_id", ROW_TEXT_OR_NULL, job_id),
    R("requested_by", ROW_TEXT, requested_by),
    R("requested_at", ROW_TIME, requested_at),
    R("ended_at", ROW_TIME, ended_at),
    R("rto_seconds", ROW_SECONDS, rto_usec),
    R("predicted_rto_seconds", ROW_SECONDS, predicted_usec),
    R("step_count", ROW_NUMBER, step_count),
    R("done_count", ROW_NUMBER, done_count),
    R("waiting_count", ROW_NUMBER, waiting_count),
    R("replica_count", ROW_NUMBER, replica_count),
    R("etag", ROW_ETAG, version),
};
#undef R

static json_t *run_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, run_members, ARRAY_LEN(run_members));
}

static const struct row_filter run_filters[] = {
    {"plan_id", "plan_id", DB_EQ},
    {"drill_id", "drill_id", DB_EQ},
    {"plan_name", "plan_name", DB_LIKE},
    {"kind", "kind", DB_EQ},
    {"state", "state", DB_EQ},
    {"verdict", "verdict", DB_EQ},
};

int serve_plan_run_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_plan_runs, .filters = run_filters, .filter_count = ARRAY_LEN(run_filters), .item = run_json};

    return row_list_serve(r, &list, err);
}

int serve_plan_run_get(struct request *r, struct err *err)
{
    json_t *report = NULL;

    if (plan_report_json(r->conn, r->params[0], &report, err) < 0)
        return -1;
    return reply_json(r, 200, report, err);
}

int serve_plan_run_report(struct request *r, struct err *err)
{
    json_t *report = NULL;
    char *html = NULL;
    int rc;

    if (plan_report_json(r->conn, r->params[0], &report, err) < 0)
        return -1;
    rc = plan_report_html(report, &html, err);
    json_decref(report);
    return rc < 0 ? -1 : reply_text(r, 200, "text/html; charset=utf-8", html, strlen(html));
}

static int end_run(struct request *r, const char *action, struct err *err)
{
    return serve_job_submit(r, "plan_end", NULL,
        json_pack("{s:s, s:s, s:s*, s:s*}", "run_id", r->params[0], "action", action, "outcome",
            request_str(r, "outcome"), "notes", request_str(r, "notes")),
        err);
}

int serve_plan_run_cleanup(struct request *r, struct err *err)
{
    return end_run(r, "cleanup", err);
}

int serve_plan_run_rollback(struct request *r, struct err *err)
{
    return end_run(r, "rollback", err);
}

/* As the commit of one failover, it may need a second person. */
int serve_plan_run_commit(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int held;

    if (db_need(r->conn, &db_plan_runs, r->params[0], &set, err) < 0)
        return -1;
    const struct plan_run_row *run = db_at(&set, struct plan_run_row, 0);

    held = request_query_bool(r, "dry_run") || run->replica_count == 0 || strcmp(run->state, "running") == 0
               ? 0
               : four_eyes_hold(
                     r, "failover_commit", "", err, "commit the %s failover of plan %s", run->kind, run->plan_name);
    if (held != 0)
        return held < 0 ? -1 : 0;
    return end_run(r, "commit", err);
}
