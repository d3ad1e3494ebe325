/* SPDX-License-Identifier: Apache-2.0
 *
 * Protection policies: how often a point is made, how long points are kept, what a freeze may cost. The rules that bind
 * several fields are hub/core/policy.h.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <string.h>

#include "hub/api/four_eyes.h"
#include "hub/api/row_json.h"
#include "hub/core/policy.h"
#include "hub/db/config_store.h"
#include "hub/db/rows.h"

#define P(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct policy_row, member)                                                     \
    }
static const struct row_json_member policy_members[] = {
    P("id", ROW_TEXT, id),
    P("name", ROW_TEXT, name),
    P("description", ROW_TEXT, description),
    P("is_default", ROW_BOOL, is_default),
    P("interval_seconds", ROW_SECONDS, interval_usec),
    P("filesystem_interval_seconds", ROW_SECONDS, filesystem_interval_usec),
    P("app_interval_seconds", ROW_SECONDS, app_interval_usec),
    P("rpo_target_seconds", ROW_SECONDS, rpo_target_usec),
    P("keep_all_seconds", ROW_SECONDS, keep_all_usec),
    P("keep_minute_seconds", ROW_SECONDS, keep_minute_usec),
    P("keep_hour_seconds", ROW_SECONDS, keep_hour_usec),
    P("keep_day_seconds", ROW_SECONDS, keep_day_usec),
    P("keep_tagged_seconds", ROW_SECONDS, keep_tagged_usec),
    P("lock_seconds", ROW_SECONDS, lock_usec),
    P("freeze_budget_seconds", ROW_SECONDS, freeze_budget_usec),
    P("max_rounds", ROW_NUMBER, max_rounds),
    P("may_freeze", ROW_BOOL, may_freeze),
    P("compress_at_agent", ROW_BOOL, compress_at_agent),
    P("compress_level", ROW_NUMBER, compress_level),
    P("throttle_bytes_per_second", ROW_NUMBER, throttle_bytes_per_sec),
    P("work_hours", ROW_TEXT, work_hours),
    P("work_hours_time_zone", ROW_TEXT, work_hours_time_zone),
    P("work_hours_throttle_bytes_per_second", ROW_NUMBER, work_hours_throttle_bytes_per_sec),
    P("cpu_limit_percent", ROW_NUMBER, cpu_limit_percent),
    P("yield_to_workload", ROW_BOOL, yield_to_workload),
    P("machine_count", ROW_NUMBER, machine_count),
    P("etag", ROW_ETAG, version),
    P("created_at", ROW_TIME, created_at),
    P("updated_at", ROW_TIME, updated_at),
};
#undef P

static json_t *policy_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, policy_members, ARRAY_LEN(policy_members));
}

static const struct row_filter policy_filters[] = {{"name", "name", DB_LIKE}};

int serve_policy_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_policies,
        .filters = policy_filters,
        .filter_count = ARRAY_LEN(policy_filters),
        .item = policy_json,
    };

    return row_list_serve(r, &list, err);
}

int serve_policy_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_policies, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, policy_json(r, set.items), err);
}

/* Lays what the body says over *row; texts are borrowed from the body. */
static void apply(const struct request *r, struct policy_row *row)
{
    static const struct {
        const char *name;
        size_t offset;
    } seconds[] = {
        {"interval_seconds", offsetof(struct policy_row, interval_usec)},
        {"filesystem_interval_seconds", offsetof(struct policy_row, filesystem_interval_usec)},
        {"app_interval_seconds", offsetof(struct policy_row, app_interval_usec)},
        {"rpo_target_seconds", offsetof(struct policy_row, rpo_target_usec)},
        {"keep_all_seconds", offsetof(struct policy_row, keep_all_usec)},
        {"keep_minute_seconds", offsetof(struct policy_row, keep_minute_usec)},
        {"keep_hour_seconds", offsetof(struct policy_row, keep_hour_usec)},
        {"keep_day_seconds", offsetof(struct policy_row, keep_day_usec)},
        {"keep_tagged_seconds", offsetof(struct policy_row, keep_tagged_usec)},
        {"lock_seconds", offsetof(struct policy_row, lock_usec)},
        {"freeze_budget_seconds", offsetof(struct policy_row, freeze_budget_usec)},
    };

    for (size_t i = 0; i < ARRAY_LEN(seconds); i++) {
        uint64_t *member = (uint64_t *)((char *)row + seconds[i].offset);

        *member = request_usec(r, seconds[i].name, *member);
    }
    row->name = request_str(r, "name") ? request_str(r, "name") : row->name;
    row->description = request_str(r, "description") ? request_str(r, "description") : row->description;
    row->is_default = request_bool(r, "is_default", row->is_default);
    row->max_rounds = (uint64_t)request_int(r, "max_rounds", (int64_t)row->max_rounds);
    row->may_freeze = request_bool(r, "may_freeze", row->may_freeze);
    row->compress_at_agent = request_bool(r, "compress_at_agent", row->compress_at_agent);
    row->compress_level = (uint64_t)request_int(r, "compress_level", (int64_t)row->compress_level);
    row->throttle_bytes_per_sec =
        (uint64_t)request_int(r, "throttle_bytes_per_second", (int64_t)row->throttle_bytes_per_sec);
    row->work_hours = request_str(r, "work_hours") ? request_str(r, "work_hours") : row->work_hours;
    row->work_hours_time_zone =
        request_str(r, "work_hours_time_zone") ? request_str(r, "work_hours_time_zone") : row->work_hours_time_zone;
    row->work_hours_throttle_bytes_per_sec = (uint64_t)request_int(
        r, "work_hours_throttle_bytes_per_second", (int64_t)row->work_hours_throttle_bytes_per_sec);
    row->cpu_limit_percent = (uint64_t)request_int(r, "cpu_limit_percent", (int64_t)row->cpu_limit_percent);
    row->yield_to_workload = request_bool(r, "yield_to_workload", row->yield_to_workload);
}

/* The rules speak of microseconds, the API of seconds: "rpo_target_usec: 500000 is out of range", "Choose 1000000 to
 * 2592000000000." Anything else is passed on as it is. */
static int explain(struct request *r, struct err *err)
{
    char field[64], pointer[80];
    unsigned long long low, high;
    size_t n;

    if (sscanf(err->text, "%63[a-z_]: ", field) != 1 || (n = strlen(field)) < 6 || strcmp(field + n - 5, "_usec") != 0)
        return -1;
    (void)snprintf(pointer, sizeof(pointer), "/%.*s_seconds", (int)(n - 5), field);
    if (sscanf(err->correction, "Choose %llu to %llu", &low, &high) != 2)
        return request_fault(r, err, pointer, "refused", "%s", err->text + n + 2);
    return request_fault(
        r, err, pointer, "out_of_range", "must be from %.10g to %.10g here", (double)low / 1e6, (double)high / 1e6);
}

static struct policy policy_of(const struct policy_row *row)
{
    return (struct policy){
        .interval_usec = row->interval_usec,
        .filesystem_interval_usec = row->filesystem_interval_usec,
        .app_interval_usec = row->app_interval_usec,
        .rpo_target_usec = row->rpo_target_usec,
        .keep_all_usec = row->keep_all_usec,
        .keep_minute_usec = row->keep_minute_usec,
        .keep_hour_usec = row->keep_hour_usec,
        .keep_day_usec = row->keep_day_usec,
        .keep_tagged_usec = row->keep_tagged_usec,
        .lock_usec = row->lock_usec,
        .freeze_budget_usec = row->freeze_budget_usec,
        .max_rounds = (uint32_t)row->max_rounds,
        .may_freeze = row->may_freeze,
        .compress_level = (uint32_t)row->compress_level,
        .compress_at_agent = row->compress_at_agent,
        .throttle_bytes_per_sec = row->throttle_bytes_per_sec,
        .work_hours = row->work_hours,
        .work_hours_throttle_bytes_per_sec = row->work_hours_throttle_bytes_per_sec,
        .cpu_limit_percent = row->cpu_limit_percent,
        .yield_to_workload = row->yield_to_workload,
    };
}

static int check(struct request *r, const struct policy_row *row, struct err *err)
{
    const struct policy policy = policy_of(row);

    return policy_check(&policy, err) < 0 ? explain(r, err) : 0;
}

bool serve_policy_shortens(const struct policy_row *before, const struct policy_row *after)
{
    const struct policy was = policy_of(before), is = policy_of(after);

    return policy_shortens(&was, &is);
}

/* 0, 1 (held back, the reply is set) or -1. */
static int hold(struct request *r, const struct policy_row *before, const struct policy_row *after, struct err *err)
{
    if (!serve_policy_shortens(before, after))
        return 0;
    return four_eyes_hold(r, "retention", "", err, "keep the points of %llu machines with policy %s for less long",
        (unsigned long long)before->machine_count, before->name);
}

static int reply_policy(struct request *r, const char *id, bool created, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    char location[96];

    if (db_need(r->conn, &db_policies, id, &set, err) < 0)
        return -1;
    (void)snprintf(location, sizeof(location), "/api/v1/policies/%s", id);
    return created ? reply_created(r, policy_json(r, set.items), location, err)
                   : reply_json(r, 200, policy_json(r, set.items), err);
}

static void from_default(struct policy_row *row)
{
    struct policy policy;

    policy_default(&policy);
    *row = (struct policy_row){
        .description = "",
        .interval_usec = policy.interval_usec,
        .filesystem_interval_usec = policy.filesystem_interval_usec,
        .app_interval_usec = policy.app_interval_usec,
        .rpo_target_usec = policy.rpo_target_usec,
        .keep_all_usec = policy.keep_all_usec,
        .keep_minute_usec = policy.keep_minute_usec,
        .keep_hour_usec = policy.keep_hour_usec,
        .keep_day_usec = policy.keep_day_usec,
        .keep_tagged_usec = policy.keep_tagged_usec,
        .lock_usec = policy.lock_usec,
        .freeze_budget_usec = policy.freeze_budget_usec,
        .max_rounds = policy.max_rounds,
        .may_freeze = policy.may_freeze,
        .compress_at_agent = policy.compress_at_agent,
        .compress_level = policy.compress_level,
        .throttle_bytes_per_sec = policy.throttle_bytes_per_sec,
        .work_hours = "",
        .work_hours_time_zone = "UTC",
        .yield_to_workload = policy.yield_to_workload,
    };
}

int serve_policy_create(struct request *r, struct err *err)
{
    struct policy_row row;
    char id[IDENT_TEXT_SIZE];

    from_default(&row);
    apply(r, &row);
    if (check(r, &row, err) < 0 || policy_create(r->conn, &row, id, err) < 0)
        return -1;
    return reply_policy(r, id, true, err);
}

int serve_policy_update(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    struct policy_row row;
    int held;

    if (db_need(r->conn, &db_policies, r->params[0], &set, err) < 0)
        return -1;
    row = *db_at(&set, struct policy_row, 0);
    apply(r, &row);
    /* Without a version in If-Match the row that was just read is the base of the change. */
    if (check(r, &row, err) < 0 || (held = hold(r, db_at(&set, struct policy_row, 0), &row, err)) < 0)
        return -1;
    if (held)
        return 0;
    if (policy_update(r->conn, &row, r->if_version ? r->if_version : row.version, err) < 0)
        return -1;
    return reply_policy(r, row.id, false, err);
}

int serve_policy_delete(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_policies, r->params[0], &set, err) < 0 ||
        policy_delete(r->conn, db_at(&set, struct policy_row, 0)->id, r->if_version, err) < 0)
        return -1;
    return reply_empty(r);
}
