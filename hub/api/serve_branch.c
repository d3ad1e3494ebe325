/* SPDX-License-Identifier: Apache-2.0
 *
 * Branches: writable lines over recovery points that stay until they are discarded or promoted, open or not. Everything that changes one is a
 * job, since its vault does it.
 */
#include <stdio.h>

#include "hub/api/row_json.h"
#include "hub/api/serve.h"
#include "hub/db/rows.h"

#define B(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct branch_row, member)                                                     \
    }
static const struct row_json_member branch_members[] = {
    B("id", ROW_TEXT, id),
    B("name", ROW_TEXT, name),
    B("machine_id", ROW_TEXT, machine_id),
    B("machine_name", ROW_TEXT, machine_name),
    B("vault_id", ROW_TEXT_OR_NULL, vault_id),
    B("sequence", ROW_NUMBER, sequence),
    B("point_time", ROW_TIME, point_time),
    B("state", ROW_TEXT, state),
    B("uri", ROW_TEXT_OR_NULL, uri),
    B("disks", ROW_ARRAY, disks_json),
    B("stored_bytes", ROW_NUMBER, stored_bytes),
    B("job_id", ROW_TEXT_OR_NULL, job_id),
    B("created_by", ROW_TEXT, created_by),
    B("etag", ROW_ETAG, version),
    B("created_at", ROW_TIME, created_at),
    B("updated_at", ROW_TIME, updated_at),
};
#undef B

static json_t *branch_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, branch_members, ARRAY_LEN(branch_members));
}

static const struct row_filter branch_filters[] = {
    {"machine_id", "machine_id", DB_EQ},
    {"name", "name", DB_EQ},
    {"state", "state", DB_EQ},
};

int serve_branch_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_branches,
        .filters = branch_filters,
        .filter_count = ARRAY_LEN(branch_filters),
        .item = branch_json,
    };

    return row_list_serve(r, &list, err);
}

int serve_branch_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_branches, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, branch_json(r, set.items), err);
}

int serve_branch_create(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    char text[24];
    json_t *params;

    if (db_need(r->conn, &db_machines, request_str(r, "machine"), &set, err) < 0)
        return -1;
    (void)snprintf(text, sizeof(text), "%lld", (long long)request_int(r, "sequence", 0));
    params = json_pack("{s:b, s:s}", "write", 1, "sequence", text);
    for (size_t i = 0; params && i < 2; i++) {
        const char *member = i == 0 ? "name" : "socket";

        if (request_str(r, member))
            json_object_set_new(params, member, json_string(request_str(r, member)));
    }
    return serve_job_submit(r, "point_open", db_at(&set, struct machine_row, 0)->id, params, err);
}

int serve_branch_open(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    json_t *params;

    if (db_need(r->conn, &db_branches, r->params[0], &set, err) < 0)
        return -1;
    params = json_pack("{s:s}", "export_id", db_at(&set, struct branch_row, 0)->id);
    if (params && request_str(r, "socket"))
        json_object_set_new(params, "socket", json_string(request_str(r, "socket")));
    return serve_job_submit(r, "branch_open", db_at(&set, struct branch_row, 0)->machine_id, params, err);
}

static int submit_close(struct request *r, bool discard, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_branches, r->params[0], &set, err) < 0)
        return -1;
    return serve_job_submit(r, "point_close", NULL,
        json_pack("{s:s, s:b}", "export_id", db_at(&set, struct branch_row, 0)->id, "discard", (int)discard), err);
}

int serve_branch_close(struct request *r, struct err *err)
{
    return submit_close(r, false, err);
}

int serve_branch_discard(struct request *r, struct err *err)
{
    return submit_close(r, true, err);
}

int serve_branch_promote(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_branches, r->params[0], &set, err) < 0)
        return -1;
    return serve_job_submit(r, "branch_promote", db_at(&set, struct branch_row, 0)->machine_id,
        json_pack("{s:s}", "export_id", db_at(&set, struct branch_row, 0)->id), err);
}
