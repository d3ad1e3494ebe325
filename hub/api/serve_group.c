/* SPDX-License-Identifier: Apache-2.0
 *
 * Consistency groups: machines whose points are made of one moment, who belongs to them, and the group points that are complete.
 */
#include "hub/api/serve.h"

#include <stdio.h>

#include "hub/api/row_json.h"
#include "hub/db/group_store.h"
#include "transport/base/clock.h"

#define INTERVAL_DEFAULT_USEC (60 * USEC_PER_SEC)

#define G(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct group_row, member)                                                      \
    }
static const struct row_json_member group_members[] = {
    G("id", ROW_TEXT, id),
    G("name", ROW_TEXT, name),
    G("description", ROW_TEXT, description),
    G("interval_seconds", ROW_SECONDS, interval_usec),
    G("freeze_budget_seconds", ROW_SECONDS, freeze_budget_usec),
    G("members", ROW_ARRAY, members_json),
    G("member_count", ROW_NUMBER, member_count),
    G("membership", ROW_NUMBER, membership),
    G("coordinator_id", ROW_TEXT_OR_NULL, coordinator_id),
    G("coordinator_name", ROW_TEXT_OR_NULL, coordinator_name),
    G("coordinated_by", ROW_TEXT_OR_NULL, coordinated_by),
    G("coordinated_by_name", ROW_TEXT_OR_NULL, coordinated_by_name),
    G("health", ROW_TEXT, health),
    G("cause_code", ROW_TEXT, cause_code),
    G("cause", ROW_TEXT, cause),
    G("remedy", ROW_TEXT, remedy),
    G("cause_values", ROW_OBJECT, cause_values_json),
    G("culprit_id", ROW_TEXT_OR_NULL, culprit_id),
    G("culprit_name", ROW_TEXT_OR_NULL, culprit_name),
    G("made", ROW_NUMBER, made),
    G("missed", ROW_NUMBER, missed),
    G("last_point_id", ROW_TEXT_OR_NULL, last_point_id),
    G("last_point_at", ROW_TIME, last_point_at),
    G("last_freeze_seconds", ROW_SECONDS, last_freeze_usec),
    G("etag", ROW_ETAG, version),
    G("created_at", ROW_TIME, created_at),
    G("updated_at", ROW_TIME, updated_at),
};
#undef G

#define P(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct group_point_row, member)                                                \
    }
static const struct row_json_member point_members[] = {
    P("id", ROW_TEXT, id),
    P("group_id", ROW_TEXT, group_id),
    P("time", ROW_TIME, time),
    P("membership", ROW_NUMBER, membership),
    P("machine_count", ROW_NUMBER, machine_count),
    P("points", ROW_ARRAY, points_json),
};
#undef P

static json_t *group_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, group_members, ARRAY_LEN(group_members));
}

static json_t *group_point_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, point_members, ARRAY_LEN(point_members));
}

static const struct row_filter group_filters[] = {{"name", "name", DB_LIKE}};

int serve_group_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_groups,
        .filters = group_filters,
        .filter_count = ARRAY_LEN(group_filters),
        .item = group_json,
    };

    return row_list_serve(r, &list, err);
}

static int reply_group(struct request *r, const char *id, bool created, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    char location[192];

    if (db_need(r->conn, &db_groups, id, &set, err) < 0)
        return -1;
    (void)snprintf(location, sizeof(location), "/api/v1/groups/%s", id);
    return created ? reply_created(r, group_json(r, set.items), location, err)
                   : reply_json(r, 200, group_json(r, set.items), err);
}

int serve_group_get(struct request *r, struct err *err)
{
    return reply_group(r, r->params[0], false, err);
}

/* ---- changes ---- */

static int take_settings(struct request *r, struct group_row *row, struct err *err)
{
    row->name = request_str(r, "name") ? request_str(r, "name") : row->name;
    row->description = request_str(r, "description") ? request_str(r, "description") : row->description;
    row->interval_usec = request_usec(r, "interval_seconds", row->interval_usec);
    row->freeze_budget_usec = request_usec(r, "freeze_budget_seconds", row->freeze_budget_usec);
    if (row->interval_usec > 0 && row->interval_usec < USEC_PER_SEC)
        return request_fault(r, err, "/interval_seconds", "out_of_range", "must be 0 or from 1 to 86400 here");
    if (row->freeze_budget_usec > 0 && row->freeze_budget_usec < 10 * USEC_PER_MSEC)
        return request_fault(r, err, "/freeze_budget_seconds", "out_of_range", "must be 0 or from 0.01 to 10 here");
    return 0;
}

static int machine_id(struct request *r, const char *id_or_name, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    return db_need_key(r->conn, &db_machines, id_or_name, ret_id, IDENT_TEXT_SIZE, err);
}

static int join_all(struct request *r, const char *id, struct err *err)
{
    const json_t *machines = json_object_get(r->body, "machines");
    char machine[IDENT_TEXT_SIZE];

    for (size_t i = 0; i < json_array_size(machines); i++)
        if (machine_id(r, json_string_value(json_array_get(machines, i)), machine, err) < 0 ||
            group_join(r->conn, id, machine, 0, err) < 0)
            return -1;
    return 0;
}

int serve_group_create(struct request *r, struct err *err)
{
    struct group_row row = {.description = "", .interval_usec = INTERVAL_DEFAULT_USEC};
    char id[IDENT_TEXT_SIZE];

    if (take_settings(r, &row, err) < 0 || group_create(r->conn, &row, id, err) < 0 || join_all(r, id, err) < 0)
        return -1;
    return reply_group(r, id, true, err);
}

int serve_group_update(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    struct group_row row;

    if (db_need(r->conn, &db_groups, r->params[0], &set, err) < 0)
        return -1;
    row = *db_at(&set, struct group_row, 0);
    if (take_settings(r, &row, err) < 0 ||
        group_update(r->conn, &row, r->if_version ? r->if_version : row.version, err) < 0)
        return -1;
    return reply_group(r, row.id, false, err);
}

/* The group's id, whether the path has that or the name. */
static int group_id(struct request *r, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_groups, r->params[0], &set, err) < 0)
        return -1;
    (void)snprintf(ret_id, IDENT_TEXT_SIZE, "%s", db_at(&set, struct group_row, 0)->id);
    return 0;
}

int serve_group_delete(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    if (group_id(r, id, err) < 0 || group_delete(r->conn, id, r->if_version, err) < 0)
        return -1;
    return reply_empty(r);
}

int serve_group_join(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE], machine[IDENT_TEXT_SIZE];

    if (group_id(r, id, err) < 0 || machine_id(r, request_str(r, "machine"), machine, err) < 0 ||
        group_join(r->conn, id, machine, r->if_version, err) < 0)
        return -1;
    return reply_group(r, id, false, err);
}

int serve_group_leave(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE], machine[IDENT_TEXT_SIZE];

    if (group_id(r, id, err) < 0 || machine_id(r, r->params[1], machine, err) < 0 ||
        group_leave(r->conn, id, machine, r->if_version, err) < 0)
        return -1;
    return reply_group(r, id, false, err);
}

/* ---- group points ---- */

static const struct row_filter point_filters[] = {{"after", "time", DB_GE}, {"before", "time", DB_LT}};

int serve_group_points(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];
    const struct row_list list = {
        .entity = &db_group_points,
        .filters = point_filters,
        .filter_count = ARRAY_LEN(point_filters),
        .fixed = {"group_id", DB_EQ, id},
        .item = group_point_json,
    };

    if (group_id(r, id, err) < 0)
        return -1;
    return row_list_serve(r, &list, err);
}

int serve_group_point(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    if (group_id(r, id, err) < 0)
        return -1;
    return serve_job_submit(r, "group_point", NULL, json_pack("{s:s}", "group_id", id), err);
}
