/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward plan ...: recovery plans as files, and their runs. A plan is exported with its members in one fixed order, so that a file in version control changes
 * only where the plan did.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hub/cli/jobwait.h"
#include "hub/cli/verbs.h"
#include "hub/cli/yaml_json.h"
#include "transport/base/buf.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

#define FILE_MAX (1024u * 1024u)

static const struct column plan_columns[] = {
    {"NAME", "name", COLUMN_TEXT, false},
    {"DESCRIPTION", "description", COLUMN_TEXT, false},
    {"LAST RUN", "last_run_at", COLUMN_TIME, false},
    {"ITS STATE", "last_run_state", COLUMN_TEXT, false},
    {"ID", "id", COLUMN_TEXT, true},
};

static const struct column run_columns[] = {
    {"ID", "id", COLUMN_TEXT, false},
    {"PLAN", "plan_name", COLUMN_TEXT, false},
    {"KIND", "kind", COLUMN_TEXT, false},
    {"STATE", "state", COLUMN_TEXT, false},
    {"VERDICT", "verdict", COLUMN_TEXT, false},
    {"RTO", "rto_seconds", COLUMN_SECONDS, false},
    {"PREDICTED", "predicted_rto_seconds", COLUMN_SECONDS, false},
    {"REPLICAS", "replica_count", COLUMN_NUMBER, false},
    {"ASKED FOR", "requested_at", COLUMN_TIME, false},
    {"BY", "requested_by", COLUMN_TEXT, true},
    {"WHY", "verdict_text", COLUMN_TEXT, true},
};

static const struct column forecast_columns[] = {
    {"GROUP", "group", COLUMN_TEXT, false},
    {"STEP", "name", COLUMN_TEXT, false},
    {"TYPE", "type", COLUMN_TEXT, false},
    {"BEGINS", "begins_seconds", COLUMN_SECONDS, false},
    {"TAKES", "takes_seconds", COLUMN_SECONDS, false},
    {"KNOWN", "known", COLUMN_YES_NO, false},
    {"CRITICAL", "critical", COLUMN_YES_NO, false},
    {"MACHINE", "machine", COLUMN_TEXT, false},
    {"TARGET", "target", COLUMN_TEXT, false},
    {"POINT", "sequence", COLUMN_NUMBER, false},
    {"LOSS", "data_loss_seconds", COLUMN_SECONDS, false},
};

/* Of a plan that does not run: what there is to do. */
static const struct column plan_step_columns[] = {
    {"GROUP", "group", COLUMN_TEXT, false},
    {"STEP", "name", COLUMN_TEXT, false},
    {"TYPE", "type", COLUMN_TEXT, false},
    {"WHAT", "what", COLUMN_TEXT, false},
    {"AFTER", "after", COLUMN_LIST, false},
    {"ONLY", "only", COLUMN_LIST, true},
    {"ON FAILURE", "on_failure", COLUMN_TEXT, true},
};

static const struct column step_columns[] = {
    {"GROUP", "group", COLUMN_TEXT, false},
    {"STEP", "name", COLUMN_TEXT, false},
    {"TYPE", "type", COLUMN_TEXT, false},
    {"STATE", "state", COLUMN_TEXT, false},
    {"TOOK", "took_seconds", COLUMN_SECONDS, false},
    {"TRIES", "attempts", COLUMN_NUMBER, false},
    {"DETAIL", "detail", COLUMN_TEXT, false},
    {"JOB", "job_id", COLUMN_TEXT, true},
};

static const struct column machine_columns[] = {
    {"MACHINE", "machine", COLUMN_TEXT, false},
    {"STATE", "state", COLUMN_TEXT, false},
    {"POINT", "sequence", COLUMN_NUMBER, false},
    {"RPO", "rpo_seconds", COLUMN_SECONDS, false},
    {"RTO", "rto_seconds", COLUMN_SECONDS, false},
    {"BOOT CHECK", "verdict", COLUMN_TEXT, false},
    {"REPLICA", "failover_state", COLUMN_TEXT, false},
    {"FAILOVER", "failover_id", COLUMN_TEXT, true},
};

/* ---- files ---- */

static int read_file(const char *path, json_t **ret_plan, struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(FILE_MAX);
    bool in = strcmp(path, "-") == 0;
    const char *data;
    int rc;

    if (file_read(in ? "/dev/stdin" : path, &text, err) < 0)
        return -1;
    if (!(data = buf_str(&text, err)))
        return -1;
    rc = yaml_json_parse(data, strlen(data), ret_plan, err);
    if (rc < 0)
        return err_wrap(err, "%s", in ? "standard input" : path);
    if (json_is_object(*ret_plan) && json_is_string(json_object_get(*ret_plan, "name")))
        return 0;
    json_decref(TAKE_PTR(*ret_plan));
    err_set(err, ERR_INVALID, "%s is not a plan: it has no name", path);
    return err_hint(err, "docs/recovery-plans.md shows what a plan looks like.");
}

/* A copy with members in the order in which people read them; others follow as they came. */
static json_t *arrange(const json_t *v)
{
    static const char *const order[] = {"name", "description", "target", "max_parallel", "type", "machine", "script",
        "arguments", "url", "body", "question", "check", "options", "after", "only", "timeout_seconds", "retries",
        "retry_pause_seconds", "on_failure", "groups", "steps"};
    json_t *copy, *value;
    const char *key;
    size_t i;

    if (json_is_array(v)) {
        copy = json_array();
        json_array_foreach(v, i, value) json_array_append_new(copy, arrange(value));
        return copy;
    }
    if (!json_is_object(v))
        return json_deep_copy(v);
    copy = json_object();
    for (i = 0; i < ARRAY_LEN(order); i++)
        if ((value = json_object_get(v, order[i])))
            json_object_set_new(copy, order[i], arrange(value));
    json_object_foreach((json_t *)v, key, value) if (!json_object_get(copy, key))
        json_object_set_new(copy, key, arrange(value));
    return copy;
}

/* What of an item is the plan, and not the hub's. */
static json_t *plan_of(const json_t *item)
{
    static const char *const own[] = {"name", "description", "target", "max_parallel", "groups"};
    json_t *plan = json_object(), *arranged;

    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        json_t *value = json_object_get(item, own[i]);

        if (value && !(json_is_string(value) && !*json_string_value(value)))
            json_object_set(plan, own[i], value);
    }
    arranged = arrange(plan);
    json_decref(plan);
    return arranged;
}

/* The hub's plan of that name: 1, or 0: there is none. */
static int find_plan(struct command_line *line, const char *name, struct client_answer *ret, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/plans/%s", name);

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_get(line->client, path, ret, err) == 0)
        return 1;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err);
    return 0;
}

/* What is not in the file is not in the plan. */
static void complete(json_t *plan)
{
    if (!json_object_get(plan, "description"))
        json_object_set_new(plan, "description", json_string(""));
    if (!json_object_get(plan, "target"))
        json_object_set_new(plan, "target", json_null());
    if (!json_object_get(plan, "max_parallel"))
        json_object_set_new(plan, "max_parallel", json_null());
}

static int put_plan(struct command_line *line, json_t *plan, bool dry_run, const char **ret_what,
    struct client_answer *ret, struct err *err)
{
    AUTO_ANSWER struct client_answer before = {0};
    int found = find_plan(line, json_string_value(json_object_get(plan, "name")), &before, err);
    const char *id = json_string_value(json_object_get(before.json, "id"));
    AUTO_FREE char *path =
        mem_printf("/api/v1/plans%s%s%s", id ? "/" : "", id ? id : "", dry_run ? "?dry_run=true" : "");
    json_t *old;
    bool same;

    if (found < 0)
        return -1;
    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (found == 0) {
        *ret_what = "created";
        return client_call(line->client, "POST", path, plan, NULL, ret, err);
    }
    old = plan_of(before.json);
    same = json_equal(old, plan);
    json_decref(old);
    *ret_what = same ? "unchanged" : "changed";
    if (same && !dry_run) {
        *ret = before;
        before = (struct client_answer){0};
        return 0;
    }
    complete(plan);
    return client_call(line->client, "PATCH", path, plan, before.etag, ret, err);
}

static int apply(struct command_line *line, bool dry_run, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    const char *what = "";
    json_t *plan = NULL;
    int rc = read_file(line->arguments[0], &plan, err);

    if (rc == 0)
        rc = put_plan(line, plan, dry_run, &what, &answer, err);
    json_decref(plan);
    if (rc < 0)
        return -1;
    if (line->output == OUTPUT_JSON)
        return output_item(line, answer.json, stdout);
    printf("%s: %s\n", json_string_value(json_object_get(answer.json, "name")), dry_run ? "is right" : what);
    return 0;
}

int verb_plan_apply(struct command_line *line, struct err *err)
{
    return apply(line, false, err);
}

int verb_plan_validate(struct command_line *line, struct err *err)
{
    return apply(line, true, err);
}

int verb_plan_export(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/plans/%s", line->arguments[0]);
    const char *format = command_option(line, "format");
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *plan;
    int rc = 0;

    if (format && strcmp(format, "yaml") != 0 && strcmp(format, "json") != 0) {
        err_set(err, ERR_INVALID, "--format: %s is neither yaml nor json", format);
        return err_hint(err, "yaml, or json.");
    }
    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_get(line->client, path, &answer, err) < 0)
        return -1;
    plan = plan_of(answer.json);
    if (line->output == OUTPUT_JSON || (format && strcmp(format, "json") == 0))
        output_json(plan, stdout);
    else
        rc = yaml_json_write(plan, stdout, err);
    json_decref(plan);
    return rc;
}

/* ---- plans ---- */

int verb_plan_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/plans", plan_columns, ARRAY_LEN(plan_columns), 0, err);
}

/* The steps of all groups in one list; groups that have a target or a bound of their own stay with the plan. */
static json_t *steps_of(const json_t *plan)
{
    static const char *const whats[] = {"machine", "script", "url", "question"};
    json_t *steps = json_array(), *group, *step;
    size_t i, k;

    json_array_foreach(json_object_get(plan, "groups"), i, group)
    {
        json_array_foreach(json_object_get(group, "steps"), k, step)
        {
            json_t *row = json_copy(step);

            json_object_set(row, "group", json_object_get(group, "name"));
            for (size_t w = 0; w < ARRAY_LEN(whats); w++)
                if (json_object_get(step, whats[w]))
                    json_object_set(row, "what", json_object_get(step, whats[w]));
            json_array_append_new(steps, row);
        }
        json_object_del(group, "steps");
        if (json_object_size(group) == 1) /* its name */
            json_array_remove(json_object_get(plan, "groups"), i--);
    }
    if (json_array_size(json_object_get(plan, "groups")) == 0)
        json_object_del((json_t *)plan, "groups");
    return steps;
}

int verb_plan_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/plans/%s", line->arguments[0]);
    AUTO_ANSWER struct client_answer answer = {0};

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_get(line->client, path, &answer, err) < 0)
        return -1;
    if (line->output == OUTPUT_JSON)
        return output_item(line, answer.json, stdout);
    json_object_set_new(answer.json, "steps", steps_of(answer.json));
    return output_item_and_list(line, answer.json, "steps", plan_step_columns, ARRAY_LEN(plan_step_columns), stdout);
}

int verb_plan_delete(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/plans/%s", line->arguments[0]);

    return verb_change_item(line, "DELETE", path, NULL, err);
}

/* ---- runs ---- */

static json_t *run_body(const struct command_line *line)
{
    const char *kind = command_option(line, "kind"), *network = command_option(line, "network");
    json_t *body = json_pack("{s:s, s:s*, s:s*}", "kind", kind ? kind : "test", "point", command_option(line, "point"),
        "target", command_option(line, "target"));

    if (command_option(line, "cleanup"))
        json_object_set_new(body, "cleanup", json_true());
    if (network)
        json_object_set_new(body, "options", json_pack("{s:s}", "network", network));
    return body;
}

static int print_forecast(struct command_line *line, const json_t *body, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/plans/%s/forecast", line->arguments[0]);
    AUTO_ANSWER struct client_answer answer = {0};

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    client_set_dry_run(line->client, false); /* a forecast changes nothing, and says more */
    if (client_call(line->client, "POST", path, body, NULL, &answer, err) < 0)
        return -1;
    return output_item_and_list(line, answer.json, "steps", forecast_columns, ARRAY_LEN(forecast_columns), stdout);
}

static int print_report(struct command_line *line, const char *id, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/plan-runs/%s", id);
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *steps;
    int rc;

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_get(line->client, path, &answer, err) < 0)
        return -1;
    if (line->output == OUTPUT_JSON)
        return output_item(line, answer.json, stdout);
    steps = json_incref(json_object_get(answer.json, "steps"));
    json_object_del(answer.json, "steps");
    rc = output_item_and_list(line, answer.json, "machines", machine_columns, ARRAY_LEN(machine_columns), stdout);
    if (rc == 0) {
        printf("\n");
        rc = output_items(line, steps, step_columns, ARRAY_LEN(step_columns), stdout);
    }
    json_decref(steps);
    return rc;
}

int verb_plan_run(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/plans/%s/runs", line->arguments[0]);
    json_t *body = run_body(line), *job = NULL;
    const char *id;
    int rc;

    if (!path || !body)
        rc = err_set(err, ERR_NOMEM, "no memory for a request");
    else if (command_option(line, "dry-run"))
        rc = print_forecast(line, body, err);
    else
        rc = jobwait_run(line, "POST", path, body, &job, err);
    json_decref(body);
    id = json_string_value(json_object_get(json_object_get(job, "params"), "run_id"));
    if (rc == 0 && job && id && !command_option(line, "no-wait"))
        rc = print_report(line, id, err);
    else if (rc == 0 && job && id && line->output != OUTPUT_JSON)
        printf("run %s has begun: leeward plan report %s\n", id, id);
    else if (rc == 0 && job)
        output_json(job, stdout);
    json_decref(job);
    return rc;
}

int verb_plan_runs(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = line->argument_count ? client_path("/api/v1/plan-runs?plan_name=%s", line->arguments[0])
                                                : mem_strdup("/api/v1/plan-runs");

    return verb_print_list(line, path, run_columns, ARRAY_LEN(run_columns), command_option(line, "all") ? 0 : 50, err);
}

int verb_plan_report(struct command_line *line, struct err *err)
{
    const char *file = command_option(line, "html");
    AUTO_FREE char *path = client_path("/api/v1/plan-runs/%s/report", line->arguments[0]);
    AUTO_FREE char *html = NULL;

    if (!file)
        return print_report(line, line->arguments[0], err);
    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_text(line->client, path, &html, err) < 0)
        return -1;
    return file_replace(file, html, strlen(html), 0644, err);
}

static int end_run(struct command_line *line, const char *action, json_t *body, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/plan-runs/%s", line->arguments[0]);
    AUTO_FREE char *full = path ? mem_printf("%s/%s", path, action) : NULL;
    int rc =
        full ? jobwait_and_print(line, "POST", full, body, err) : err_set(err, ERR_NOMEM, "no memory for a request");

    json_decref(body);
    return rc;
}

int verb_plan_cleanup(struct command_line *line, struct err *err)
{
    return end_run(line, "cleanup",
        json_pack("{s:s*, s:s*}", "outcome", command_option(line, "outcome"), "notes", command_option(line, "notes")),
        err);
}

int verb_plan_rollback(struct command_line *line, struct err *err)
{
    return end_run(line, "rollback", NULL, err);
}

int verb_plan_commit(struct command_line *line, struct err *err)
{
    return end_run(line, "commit", NULL, err);
}
