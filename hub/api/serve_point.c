/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery points of a machine, and exports: points that are open as NBD disks on a vault. Making, opening, closing and
 * writing out are jobs, since an agent or a vault does them.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/api/row_json.h"
#include "hub/db/peer_store.h"
#include "hub/db/rows.h"

#define UNREADABLE_BLOCK 4096u /* in which they are counted */

#define P(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct point_row, member)                                                      \
    }
static const struct row_json_member point_members[] = {
    P("machine_id", ROW_TEXT, machine_id),
    P("sequence", ROW_NUMBER, sequence),
    P("time", ROW_TIME, time),
    P("kind", ROW_TEXT, kind),
    P("tag", ROW_TEXT_OR_NULL, tag),
    P("group_point_id", ROW_TEXT_OR_NULL, group_point_id),
    P("vault_id", ROW_TEXT_OR_NULL, vault_id),
    P("generation", ROW_NUMBER, generation),
    P("changed_bytes", ROW_NUMBER, changed_bytes),
    P("frozen", ROW_BOOL, frozen),
    P("unreadable_blocks", ROW_NUMBER, unreadable_blocks),
    P("committed_at", ROW_TIME, committed_at),
};
#undef P

#define E(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct export_row, member)                                                     \
    }
static const struct row_json_member export_members[] = {
    E("id", ROW_TEXT, id),
    E("machine_id", ROW_TEXT, machine_id),
    E("machine_name", ROW_TEXT, machine_name),
    E("vault_id", ROW_TEXT_OR_NULL, vault_id),
    E("sequence", ROW_NUMBER, sequence),
    E("point_time", ROW_TIME, point_time),
    E("writable", ROW_BOOL, writable),
    E("state", ROW_TEXT, state),
    E("uri", ROW_TEXT_OR_NULL, uri),
    E("disks", ROW_ARRAY, disks_json),
    E("job_id", ROW_TEXT_OR_NULL, job_id),
    E("created_by", ROW_TEXT, created_by),
    E("etag", ROW_ETAG, version),
    E("created_at", ROW_TIME, created_at),
    E("updated_at", ROW_TIME, updated_at),
};
#undef E

static json_t *point_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, point_members, ARRAY_LEN(point_members));
}

static json_t *export_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, export_members, ARRAY_LEN(export_members));
}

static int find_machine(struct request *r, const char *id_or_name, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    return db_need_key(r->conn, &db_machines, id_or_name, ret_id, IDENT_TEXT_SIZE, err);
}

/* The row of the point in the path: machine (id or name), sequence. */
static int find_point(struct request *r, char ret_machine[IDENT_TEXT_SIZE], struct db_set *ret_set, struct err *err)
{
    char key[IDENT_TEXT_SIZE + 24];

    if (find_machine(r, r->params[0], ret_machine, err) < 0)
        return -1;
    (void)snprintf(key, sizeof(key), "%s:%llu", ret_machine, strtoull(r->params[1], NULL, 10));
    if (db_need(r->conn, &db_points, key, ret_set, err) == 0)
        return 0;
    if (err->code == ERR_NOT_FOUND) {
        (void)err_set(err, ERR_NOT_FOUND, "the machine %s has no recovery point %s", r->params[0], r->params[1]);
        return err_hint(
            err, "It may have been dropped by retention; `leeward point list %s` shows what there is.", r->params[0]);
    }
    return -1;
}

static const struct row_filter point_filters[] = {
    {"after", "time", DB_GE},
    {"before", "time", DB_LT},
    {"kind", "kind", DB_EQ},
    {"tag", "tag", DB_EQ},
    {"group_point_id", "group_point_id", DB_EQ},
};

int serve_point_list(struct request *r, struct err *err)
{
    char machine[IDENT_TEXT_SIZE];
    const struct row_list list = {
        .entity = &db_points,
        .filters = point_filters,
        .filter_count = ARRAY_LEN(point_filters),
        .fixed = {"machine_id", DB_EQ, machine},
        .item = point_json,
    };

    if (find_machine(r, r->params[0], machine, err) < 0)
        return -1;
    return row_list_serve(r, &list, err);
}

static json_t *range_json(const PGresult *rows, int i)
{
    return json_pack("{s:I, s:s?, s:s?, s:I, s:I}", "disk", (json_int_t)db_u64(rows, i, 0), "disk_key",
        PQgetisnull(rows, i, 1) ? NULL : db_text(rows, i, 1), "device",
        PQgetisnull(rows, i, 2) ? NULL : db_text(rows, i, 2), "start_bytes", (json_int_t)db_u64(rows, i, 3),
        "length_bytes", (json_int_t)db_u64(rows, i, 4));
}

/* Which of its blocks hold old content: what no range has, a mark had no room for, or came from an agent that did not list them. */
static int add_unreadable(struct request *r, const struct point_row *point, json_t *json, struct err *err)
{
    AUTO_PGRESULT PGresult *rows = NULL;
    uint64_t listed = 0;
    json_t *ranges;

    if (point->unreadable_blocks > 0 && point_unreadable(r->conn, point->machine_id, point->sequence, &rows, err) < 0)
        return -1;
    ranges = json_array();
    for (int i = 0; rows && i < PQntuples(rows); i++) {
        listed += (db_u64(rows, i, 4) + UNREADABLE_BLOCK - 1) / UNREADABLE_BLOCK;
        (void)json_array_append_new(ranges, range_json(rows, i));
    }
    (void)json_object_set_new(json, "unreadable_ranges", ranges);
    (void)json_object_set_new(json, "unreadable_unlisted_blocks",
        json_integer(point->unreadable_blocks > listed ? (json_int_t)(point->unreadable_blocks - listed) : 0));
    return 0;
}

int serve_point_get(struct request *r, struct err *err)
{
    char machine[IDENT_TEXT_SIZE];
    json_t *json;
    AUTO_DB_SET struct db_set set = {0};

    if (find_point(r, machine, &set, err) < 0)
        return -1;
    json = point_json(r, set.items);
    if (json && add_unreadable(r, set.items, json, err) < 0) {
        json_decref(json);
        return -1;
    }
    return reply_json(r, 200, json, err);
}

int serve_point_create(struct request *r, struct err *err)
{
    char machine[IDENT_TEXT_SIZE];
    json_t *params;

    if (find_machine(r, r->params[0], machine, err) < 0)
        return -1;
    params = json_deep_copy(r->body);
    if (params && !json_object_get(params, "kind"))
        json_object_set_new(params, "kind", json_string("crash"));
    return serve_job_submit(r, "point_create", machine, params, err);
}

static json_t *sequence_text(uint64_t sequence)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)sequence);
    return json_string(text);
}

int serve_disk_export(struct request *r, struct err *err)
{
    char machine[IDENT_TEXT_SIZE];
    AUTO_DB_SET struct db_set set = {0};
    json_t *params;

    if (request_str(r, "vault") ? find_machine(r, r->params[0], machine, err) : find_point(r, machine, &set, err))
        return -1;
    params = json_deep_copy(r->body);
    if (params)
        json_object_set_new(params, "sequence", sequence_text(strtoull(r->params[1], NULL, 10)));
    if (params && !json_object_get(params, "format"))
        json_object_set_new(params, "format", json_string("raw"));
    return serve_job_submit(r, "export", machine, params, err);
}

static const struct row_filter export_filters[] = {
    {"machine_id", "machine_id", DB_EQ},
    {"state", "state", DB_EQ},
};

int serve_export_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_exports,
        .filters = export_filters,
        .filter_count = ARRAY_LEN(export_filters),
        .item = export_json,
    };

    return row_list_serve(r, &list, err);
}

int serve_export_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_exports, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, export_json(r, set.items), err);
}

int serve_export_open(struct request *r, struct err *err)
{
    char machine[IDENT_TEXT_SIZE];
    const char *socket = request_str(r, "socket");
    int64_t sequence = request_int(r, "sequence", 0);
    json_t *params;

    if (find_machine(r, request_str(r, "machine"), machine, err) < 0)
        return -1;
    params = json_pack("{s:b}", "write", request_bool(r, "write", false));
    if (params && sequence > 0)
        json_object_set_new(params, "sequence", sequence_text((uint64_t)sequence));
    if (params && socket)
        json_object_set_new(params, "socket", json_string(socket));
    if (params && request_str(r, "vault"))
        json_object_set_new(params, "vault", json_string(request_str(r, "vault")));
    return serve_job_submit(r, "point_open", machine, params, err);
}

int serve_export_close(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_exports, r->params[0], &set, err) < 0)
        return -1;
    return serve_job_submit(
        r, "point_close", NULL, json_pack("{s:s}", "export_id", db_at(&set, struct export_row, 0)->id), err);
}
