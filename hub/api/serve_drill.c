/* SPDX-License-Identifier: Apache-2.0
 *
 * Drills on a schedule, and how fresh the last good drill of each machine is.
 */
#include <stdio.h>
#include <string.h>

#include "hub/api/row_json.h"
#include "hub/api/serve.h"
#include "hub/jobs/drill_clock.h"

#define D(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct drill_row, member)                                                      \
    }
static const struct row_json_member drill_members[] = {
    D("id", ROW_TEXT, id),
    D("name", ROW_TEXT, name),
    D("enabled", ROW_BOOL, enabled),
    D("plan_id", ROW_TEXT_OR_NULL, plan_id),
    D("plan_name", ROW_TEXT_OR_NULL, plan_name),
    D("policy_id", ROW_TEXT_OR_NULL, policy_id),
    D("policy_name", ROW_TEXT_OR_NULL, policy_name),
    D("interval_seconds", ROW_SECONDS, interval_usec),
    D("overdue_after_seconds", ROW_SECONDS, overdue_after_usec),
    D("window", ROW_TEXT, window),
    D("time_zone", ROW_TEXT, time_zone),
    D("target_id", ROW_TEXT_OR_NULL, target_id),
    D("target_name", ROW_TEXT_OR_NULL, target_name),
    D("options", ROW_OBJECT, options_json),
    D("machine_count", ROW_NUMBER, machine_count),
    D("overdue_count", ROW_NUMBER, overdue_count),
    D("last_started_at", ROW_TIME, last_started_at),
    D("last_run_id", ROW_TEXT_OR_NULL, last_run_id),
    D("last_run_state", ROW_TEXT_OR_NULL, last_run_state),
    D("last_run_verdict", ROW_TEXT_OR_NULL, last_run_verdict),
    D("last_problem", ROW_TEXT, last_problem),
    D("etag", ROW_ETAG, version),
    D("created_at", ROW_TIME, created_at),
    D("updated_at", ROW_TIME, updated_at),
};
#undef D

static json_t *drill_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, drill_members, ARRAY_LEN(drill_members));
}

static const struct row_filter drill_filters[] = {
    {"name", "name", DB_LIKE}, {"plan_id", "plan_id", DB_EQ}, {"policy_id", "policy_id", DB_EQ}};

int serve_drill_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_drills, .filters = drill_filters, .filter_count = ARRAY_LEN(drill_filters), .item = drill_json};

    return row_list_serve(r, &list, err);
}

int serve_drill_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_drills, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, drill_json(r, set.items), err);
}

/* ---- changes ---- */

/* What texts of the row point into. */
struct names {
    struct db_set plan, policy, target;
    char *options;
};

static void names_done(struct names *n)
{
    db_set_done(&n->plan);
    db_set_done(&n->policy);
    db_set_done(&n->target);
    free(n->options);
}
#define AUTO_NAMES __attribute__((cleanup(names_done)))

static int take_options(struct request *r, struct drill_row *row, struct names *n, struct err *err)
{
    const json_t *options = json_object_get(r->body, "options");

    if (!options)
        return 0;
    n->options = json_is_null(options) ? mem_strdup("{}") : json_dumps(options, JSON_COMPACT);
    row->options_json = n->options;
    return n->options ? 0 : err_set(err, ERR_NOMEM, "no memory for a drill");
}

static int take_target(struct request *r, struct drill_row *row, struct names *n, struct err *err)
{
    const json_t *target = json_object_get(r->body, "target");

    if (json_is_null(target))
        row->target_id = "";
    if (!json_is_string(target))
        return 0;
    if (db_need(r->conn, &db_targets, json_string_value(target), &n->target, err) < 0)
        return -1;
    row->target_id = db_at(&n->target, struct target_row, 0)->id;
    return 0;
}

static int take_settings(struct request *r, struct drill_row *row, struct names *n, struct err *err)
{
    struct work_window windows[WORK_HOURS_MAX];
    uint64_t interval = row->interval_usec;
    size_t count;

    row->name = request_str(r, "name") ? request_str(r, "name") : row->name;
    row->enabled = request_bool(r, "enabled", row->enabled);
    row->interval_usec = request_usec(r, "interval_seconds", row->interval_usec);
    row->overdue_after_usec = request_usec(r, "overdue_after_seconds",
        row->interval_usec == interval ? row->overdue_after_usec : row->interval_usec / 2 * 3);
    row->window = request_str(r, "window") ? request_str(r, "window") : row->window;
    row->time_zone = request_str(r, "time_zone") ? request_str(r, "time_zone") : row->time_zone;
    if (work_hours_parse(row->window, windows, &count, err) < 0)
        return request_fault(r, err, "/window", "format", "is not like \"sat 02:00-04:00\"");
    if (take_options(r, row, n, err) < 0 || take_target(r, row, n, err) < 0)
        return -1;
    if (row->plan_id[0] || row->target_id[0])
        return 0;
    err_set(err, ERR_INVALID, "target: missing");
    return err_hint(err, "A drill of a policy needs a target where its machines are started.");
}

static int take_subject(struct request *r, struct drill_row *row, struct names *n, struct err *err)
{
    const char *plan = request_str(r, "plan"), *policy = request_str(r, "policy");

    if (!plan == !policy) {
        err_set(err, ERR_INVALID, "plan, policy: one of them is needed");
        return err_hint(err, "A drill is of a recovery plan, or of all machines of a policy.");
    }
    if (plan ? db_need(r->conn, &db_plans, plan, &n->plan, err) < 0
             : db_need(r->conn, &db_policies, policy, &n->policy, err) < 0)
        return -1;
    if (plan)
        row->plan_id = db_at(&n->plan, struct plan_row, 0)->id;
    else
        row->policy_id = db_at(&n->policy, struct policy_row, 0)->id;
    return 0;
}

int serve_drill_create(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_NAMES struct names names = {0};
    char id[IDENT_TEXT_SIZE], location[96];
    struct drill_row row = {.plan_id = "",
        .policy_id = "",
        .target_id = "",
        .window = "",
        .time_zone = "UTC",
        .options_json = "{}",
        .enabled = true};

    if (take_subject(r, &row, &names, err) < 0 || take_settings(r, &row, &names, err) < 0 ||
        drill_create(r->conn, &row, id, err) < 0 || db_need(r->conn, &db_drills, id, &set, err) < 0)
        return -1;
    (void)snprintf(location, sizeof(location), "/api/v1/drills/%s", id);
    return reply_created(r, drill_json(r, set.items), location, err);
}

int serve_drill_update(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set after = {0};
    AUTO_NAMES struct names names = {0};
    struct drill_row row;

    if (db_need(r->conn, &db_drills, r->params[0], &set, err) < 0)
        return -1;
    row = *db_at(&set, struct drill_row, 0);
    if (take_settings(r, &row, &names, err) < 0 ||
        drill_update(r->conn, &row, r->if_version ? r->if_version : row.version, err) < 0 ||
        db_need(r->conn, &db_drills, row.id, &after, err) < 0)
        return -1;
    return reply_json(r, 200, drill_json(r, after.items), err);
}

int serve_drill_delete(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_drills, r->params[0], &set, err) < 0 ||
        drill_delete(r->conn, db_at(&set, struct drill_row, 0)->id, r->if_version, err) < 0)
        return -1;
    return reply_empty(r);
}

int serve_drill_run(struct request *r, struct err *err)
{
    char run_id[IDENT_TEXT_SIZE];

    if (drill_start(r->conn, r->params[0], r->principal.name, run_id, r->job_id, err) < 0)
        return -1;
    return request_query_bool(r, "dry_run") ? reply_empty(r) : serve_job_look(r, 202, err);
}

/* ---- freshness ---- */

#define M(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct drill_machine_row, member)                                              \
    }
static const struct row_json_member machine_members[] = {
    M("machine_id", ROW_TEXT, machine_id),
    M("machine_name", ROW_TEXT, machine_name),
    M("overdue", ROW_BOOL, overdue),
    M("last_good_at", ROW_TIME, last_good_at),
    M("overdue_at", ROW_TIME, overdue_at),
    M("last_at", ROW_TIME, last_at),
    M("last_verdict", ROW_TEXT_OR_NULL, last_verdict),
    M("last_failover_id", ROW_TEXT_OR_NULL, last_failover_id),
};
#undef M

static json_t *machine_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, machine_members, ARRAY_LEN(machine_members));
}

static const struct row_filter machine_filters[] = {{"overdue", "overdue", DB_EQ}, {"machine_id", "machine_id", DB_EQ}};

int serve_drill_machine_list(struct request *r, struct err *err)
{
    const struct row_list list = {.entity = &db_drill_machines,
        .filters = machine_filters,
        .filter_count = ARRAY_LEN(machine_filters),
        .item = machine_json};

    return row_list_serve(r, &list, err);
}
