/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of a machine's points in other vaults than the one that it is replicated to. Beginning and removing one are jobs, since vaults do it.
 */
#include <stdio.h>

#include "hub/api/row_json.h"
#include "hub/api/serve.h"
#include "hub/db/rows.h"
#include "hub/jobs/copy_steps.h"
#include "transport/base/ident.h"

#define C(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct copy_row, member)                                                       \
    }
static const struct row_json_member copy_members[] = {
    C("machine_id", ROW_TEXT, machine_id),
    C("machine_name", ROW_TEXT, machine_name),
    C("vault_id", ROW_TEXT, vault_id),
    C("vault_name", ROW_TEXT, vault_name),
    C("source_vault_id", ROW_TEXT, source_vault_id),
    C("source_vault_name", ROW_TEXT, source_vault_name),
    C("state", ROW_TEXT, state),
    C("source_sequence", ROW_NUMBER, source_sequence),
    C("sequence", ROW_NUMBER, sequence),
    C("point_time", ROW_TIME, point_time),
    C("point_count", ROW_NUMBER, point_count),
    C("behind_seconds", ROW_SECONDS, behind_usec),
    C("taken_bytes", ROW_NUMBER, taken_bytes),
    C("traffic_bytes", ROW_NUMBER, traffic_bytes),
    C("cause", ROW_TEXT, cause),
    C("remedy", ROW_TEXT, remedy),
    C("created_by", ROW_TEXT, created_by),
    C("created_at", ROW_TIME, created_at),
    C("updated_at", ROW_TIME, updated_at),
};
#undef C

#define P(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct copy_point_row, member)                                                 \
    }
static const struct row_json_member point_members[] = {
    P("machine_id", ROW_TEXT, machine_id),
    P("vault_id", ROW_TEXT, vault_id),
    P("sequence", ROW_NUMBER, sequence),
    P("time", ROW_TIME, time),
    P("kind", ROW_TEXT, kind),
    P("tag", ROW_TEXT_OR_NULL, tag),
    P("generation", ROW_NUMBER, generation),
    P("changed_bytes", ROW_NUMBER, changed_bytes),
    P("committed_at", ROW_TIME, committed_at),
};
#undef P

static json_t *copy_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, copy_members, ARRAY_LEN(copy_members));
}

static json_t *point_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, point_members, ARRAY_LEN(point_members));
}

static const struct row_filter copy_filters[] = {
    {"state", "state", DB_EQ},
};

/* Those whose column is this id. */
static int serve_copies_of(struct request *r, const char *column, const char *id, struct err *err)
{
    const struct row_list list = {
        .entity = &db_copies,
        .filters = copy_filters,
        .filter_count = ARRAY_LEN(copy_filters),
        .fixed = {column, DB_EQ, id},
        .item = copy_json,
    };

    return row_list_serve(r, &list, err);
}

int serve_copy_list(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set machine = {0};

    if (db_need(r->conn, &db_machines, r->params[0], &machine, err) < 0)
        return -1;
    return serve_copies_of(r, "machine_id", db_at(&machine, struct machine_row, 0)->id, err);
}

int serve_vault_copies(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set vault = {0};

    if (db_need(r->conn, &db_vaults, r->params[0], &vault, err) < 0)
        return -1;
    return serve_copies_of(r, "vault_id", db_at(&vault, struct vault_row, 0)->id, err);
}

int serve_copy_create(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set machine = {0};

    if (db_need(r->conn, &db_machines, r->params[0], &machine, err) < 0)
        return -1;
    return serve_job_submit(r, "copy", db_at(&machine, struct machine_row, 0)->id,
        json_pack("{s:s}", "vault", request_str(r, "vault")), err);
}

int serve_copy_remove(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set machine = {0};

    if (db_need(r->conn, &db_machines, r->params[0], &machine, err) < 0)
        return -1;
    return serve_job_submit(r, "copy_remove", db_at(&machine, struct machine_row, 0)->id,
        json_pack("{s:s, s:b}", "vault", r->params[1], "forget", (int)request_query_bool(r, "forget")), err);
}

int serve_copy_use(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set machine = {0};

    if (db_need(r->conn, &db_machines, r->params[0], &machine, err) < 0)
        return -1;
    return serve_job_submit(r, "copy_use", db_at(&machine, struct machine_row, 0)->id,
        json_pack("{s:s, s:s}", "vault", r->params[1], "confirm", request_str(r, "confirm")), err);
}

static const struct row_filter point_filters[] = {
    {"after", "time", DB_GE},
    {"before", "time", DB_LT},
    {"kind", "kind", DB_EQ},
    {"tag", "tag", DB_EQ},
};

int serve_copy_points(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set machine = {0};
    AUTO_DB_SET struct db_set copy = {0};

    if (db_need(r->conn, &db_machines, r->params[0], &machine, err) < 0 ||
        copy_steps_need(r->conn, db_at(&machine, struct machine_row, 0), r->params[1], &copy, err) < 0)
        return -1;
    const struct row_list list = {
        .entity = &db_copy_points,
        .filters = point_filters,
        .filter_count = ARRAY_LEN(point_filters),
        .fixed = {"copy_key", DB_EQ, db_at(&copy, struct copy_row, 0)->key},
        .item = point_json,
    };

    return row_list_serve(r, &list, err);
}
