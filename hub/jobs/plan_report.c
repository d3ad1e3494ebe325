/* SPDX-License-Identifier: Apache-2.0
 *
 * A run as it is or was: from its rows, so that the report of a run that goes on is its live view. RTO and RPO count from the moment at which the run was
 * asked for. The page stands alone, with no script and nothing fetched; names are escaped.
 */
#include <stdio.h>
#include <string.h>

#include "hub/jobs/plan_run.h"
#include "transport/base/buf.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define REPORT_MAX (4u * 1024u * 1024u)

/* ---- JSON ---- */

static json_t *when(uint64_t utc_usec)
{
    char text[CLOCK_RFC3339_SIZE];

    if (utc_usec == 0)
        return json_null();
    clock_rfc3339(utc_usec, text);
    return json_string(text);
}

static json_t *span(uint64_t usec, bool is_known)
{
    return is_known ? json_real((double)usec / (double)USEC_PER_SEC) : json_null();
}

static json_t *text_or_null(const char *s)
{
    return s[0] ? json_string(s) : json_null();
}

static json_t *step_json(const struct plan_run_step_row *s, const struct plan *plan)
{
    size_t at = (size_t)s->ordinal;
    json_t *after = json_array();
    bool over = s->finished_at != 0;

    for (size_t p = 0; plan && at < plan->graph.count && p < plan->graph.count; p++)
        if (plan_graph_waits(&plan->graph, at, p))
            json_array_append_new(after, json_string(plan->graph.names[p]));
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:o, s:I, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "name", s->name,
        "group", s->group_name, "type", s->type, "state", s->state, "after", after, "detail", s->detail, "question",
        text_or_null(strcmp(s->state, "waiting_for_input") == 0 ? s->question : ""), "attempts",
        (json_int_t)s->attempts, "timed_out", (int)s->timed_out, "job_id", text_or_null(s->job_id), "started_at",
        when(s->started_at), "finished_at", when(s->finished_at), "took_seconds",
        span(s->finished_at - s->started_at, over && s->started_at), "predicted_seconds",
        span(s->predicted_usec, s->predicted_known), "machine", text_or_null(s->machine_name));
}

static json_t *machine_json(const struct plan_run_step_row *s)
{
    return json_pack("{s:s, s:o, s:s, s:o, s:s, s:I, s:o, s:o, s:o, s:o, s:s, s:s, s:o, s:o}", "machine",
        s->machine_name, "machine_id", text_or_null(s->machine_id), "step", s->name, "target",
        text_or_null(s->target_name), "state", s->state, "sequence", (json_int_t)s->point_sequence, "point_time",
        when(s->point_time), "running_at", when(s->running_at), "rto_seconds", span(s->rto_usec, s->running_at != 0),
        "rpo_seconds", span(s->loss_usec, s->point_time != 0), "verdict", s->verdict[0] ? s->verdict : "unknown",
        "verdict_text", s->verdict_text, "failover_id", text_or_null(s->failover_id), "failover_state",
        text_or_null(s->failover_state));
}

static int take_steps(struct db_conn *conn, const struct plan_run_row *run, json_t *steps, json_t *machines,
    uint64_t *ret_loss, struct err *err)
{
    const struct db_filter filters[] = {{"run_id", DB_EQ, run->id}};
    const struct db_page page = {.filters = filters, .filter_count = ARRAY_LEN(filters), .limit = PLAN_STEPS_MAX};
    AUTO_DB_SET struct db_set set = {0};
    AUTO_PLAN struct plan *plan = NULL;

    *ret_loss = 0;
    if (plan_read_text(run->document_json, &plan, err) < 0 || db_list(conn, &db_plan_run_steps, &page, &set, err) < 0)
        return -1;
    for (size_t i = 0; i < set.count; i++) {
        const struct plan_run_step_row *s = db_at(&set, struct plan_run_step_row, i);

        if (json_array_append_new(steps, step_json(s, plan)) < 0)
            return err_set(err, ERR_NOMEM, "no memory for a report");
        if (strcmp(s->type, "machine") != 0 || strcmp(s->state, "skipped") == 0)
            continue;
        if (json_array_append_new(machines, machine_json(s)) < 0)
            return err_set(err, ERR_NOMEM, "no memory for a report");
        *ret_loss = s->loss_usec > *ret_loss ? s->loss_usec : *ret_loss;
    }
    return 0;
}

static json_t *run_json(const struct plan_run_row *run, uint64_t loss, json_t *steps, json_t *machines)
{
    bool has_loss = json_array_size(machines) > 0;

    return json_pack(
        "{s:s, s:o, s:s, s:o, s:s, s:s, s:s, s:b, s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o}",
        "run_id", run->id, "plan_id", text_or_null(run->plan_id), "plan_name", run->plan_name, "drill_id",
        text_or_null(run->drill_id), "kind", run->kind, "state", run->state, "point", run->point, "cleanup",
        (int)run->cleanup, "verdict", run->verdict, "verdict_text", run->verdict_text, "job_id",
        text_or_null(run->job_id), "requested_by", run->requested_by, "requested_at", when(run->requested_at),
        "ended_at", when(run->ended_at), "rto_seconds", span(run->rto_usec, run->recovered_at != 0),
        "predicted_rto_seconds", span(run->predicted_usec, true), "rpo_seconds", span(loss, has_loss),
        "replicas_running", (json_int_t)run->replica_count, "machines", machines, "steps", steps);
}

int plan_report_json(struct db_conn *conn, const char *run_id, json_t **ret_report, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    json_t *steps, *machines;
    uint64_t loss;

    if (db_need(conn, &db_plan_runs, run_id, &set, err) < 0)
        return -1;
    steps = json_array();
    machines = json_array();
    const struct plan_run_row *run = db_at(&set, struct plan_run_row, 0);

    if (!steps || !machines || take_steps(conn, run, steps, machines, &loss, err) < 0) {
        json_decref(steps);
        json_decref(machines);
        return steps && machines ? -1 : err_set(err, ERR_NOMEM, "no memory for a report");
    }
    *ret_report = run_json(run, loss, steps, machines);
    return *ret_report ? 0 : err_set(err, ERR_NOMEM, "no memory for a report");
}

/* ---- HTML ---- */

static int escape(struct buf *out, const char *text, struct err *err)
{
    for (; *text; text++) {
        const char *as = *text == '<'   ? "&lt;"
                         : *text == '>' ? "&gt;"
                         : *text == '&' ? "&amp;"
                         : *text == '"' ? "&quot;"
                                        : NULL;

        if (as ? buf_append_str(out, as, err) < 0 : buf_append(out, text, 1, err) < 0)
            return -1;
    }
    return 0;
}

/* One cell: a text, a time to the second, a number with its unit, or a dash. */
static int cell(struct buf *out, const json_t *object, const char *key, struct err *err)
{
    const json_t *v = json_object_get(object, key);
    const char *s = json_string_value(v);
    size_t n = strlen(key);

    if (json_is_number(v) && n > 8 && strcmp(key + n - 8, "_seconds") == 0)
        return buf_printf(out, err, "<td class=\"n\">%.1f s</td>", json_number_value(v));
    if (json_is_integer(v))
        return buf_printf(out, err, "<td class=\"n\">%lld</td>", (long long)json_integer_value(v));
    if (s && n > 3 && strcmp(key + n - 3, "_at") == 0)
        return buf_printf(out, err, "<td>%.10s %.8s</td>", s, strlen(s) > 18 ? s + 11 : "");
    if (buf_append_str(out, "<td>", err) < 0 || escape(out, s ? s : "-", err) < 0)
        return -1;
    return buf_append_str(out, "</td>", err);
}

static int table(struct buf *out, const char *title, const json_t *rows, const char *const *columns, struct err *err)
{
    const json_t *row;
    size_t i;

    if (buf_printf(out, err, "<h2>%s</h2>\n<table><thead><tr>", title) < 0)
        return -1;
    for (size_t c = 0; columns[c]; c += 2)
        if (buf_printf(out, err, "<th scope=\"col\">%s</th>", columns[c]) < 0)
            return -1;
    if (buf_append_str(out, "</tr></thead>\n<tbody>\n", err) < 0)
        return -1;
    json_array_foreach(rows, i, row)
    {
        if (buf_append_str(out, "<tr>", err) < 0)
            return -1;
        for (size_t c = 0; columns[c]; c += 2)
            if (cell(out, row, columns[c + 1], err) < 0)
                return -1;
        if (buf_append_str(out, "</tr>\n", err) < 0)
            return -1;
    }
    return buf_append_str(out, "</tbody></table>\n", err);
}

static int head(struct buf *out, const json_t *report, struct err *err)
{
    const char *name = json_string_value(json_object_get(report, "plan_name"));

    if (buf_append_str(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>", err) < 0 ||
        escape(out, name, err) < 0)
        return -1;
    if (buf_append_str(out,
            ": recovery plan report</title>\n<style>body{font:14px sans-serif;margin:2em;color:#151515;background:#fff}"
            "table{border-collapse:collapse;margin-bottom:1.5em}th,td{border:1px solid #a3a3a3;padding:.3em .6em;"
            "text-align:left}.n{text-align:right}</style></head>\n<body>\n<h1>",
            err) < 0 ||
        escape(out, name, err) < 0)
        return -1;
    return buf_append_str(out, "</h1>\n", err);
}

int plan_report_html(const json_t *report, char **ret_html, struct err *err)
{
    static const char *const summary[] = {"Kind", "kind", "State", "state", "Verdict", "verdict", "RTO", "rto_seconds",
        "RTO predicted", "predicted_rto_seconds", "RPO", "rpo_seconds", "Asked for (UTC)", "requested_at", "By",
        "requested_by", "Ended (UTC)", "ended_at", "Why", "verdict_text", NULL};
    static const char *const machines[] = {"Machine", "machine", "Target", "target", "State", "state", "Point",
        "sequence", "RPO", "rpo_seconds", "RTO", "rto_seconds", "Boot check", "verdict", "It said", "verdict_text",
        "Replica", "failover_state", NULL};
    static const char *const steps[] = {"Group", "group", "Step", "name", "Type", "type", "State", "state",
        "Began (UTC)", "started_at", "Took", "took_seconds", "Predicted", "predicted_seconds", "Tries", "attempts",
        "Detail", "detail", NULL};
    AUTO_BUF struct buf out = BUF_INIT(REPORT_MAX);
    json_t *one = json_pack("[O]", report);
    int rc = one ? head(&out, report, err) : err_set(err, ERR_NOMEM, "no memory for a report");

    if (rc == 0 && (table(&out, "Run", one, summary, err) < 0 ||
                       table(&out, "Machines", json_object_get(report, "machines"), machines, err) < 0 ||
                       table(&out, "Steps", json_object_get(report, "steps"), steps, err) < 0 ||
                       buf_append_str(&out, "</body></html>\n", err) < 0))
        rc = -1;
    json_decref(one);
    if (rc < 0)
        return -1;
    *ret_html = mem_strndup((const char *)out.data, out.len);
    return *ret_html ? 0 : err_set(err, ERR_NOMEM, "no memory for a report");
}
