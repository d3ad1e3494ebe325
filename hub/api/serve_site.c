/* SPDX-License-Identifier: Apache-2.0
 *
 * Sites: where machines, nodes and vaults are.
 */
#include "hub/api/serve.h"

#include <stdio.h>

#include "hub/api/row_json.h"
#include "hub/db/config_store.h"
#include "hub/db/rows.h"

#define S(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct site_row, member)                                                       \
    }
static const struct row_json_member site_members[] = {
    S("id", ROW_TEXT, id),
    S("name", ROW_TEXT, name),
    S("description", ROW_TEXT, description),
    S("etag", ROW_ETAG, version),
    S("created_at", ROW_TIME, created_at),
    S("updated_at", ROW_TIME, updated_at),
};
#undef S

static json_t *site_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, site_members, ARRAY_LEN(site_members));
}

static const struct row_filter site_filters[] = {{"name", "name", DB_LIKE}};

int serve_site_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_sites, .filters = site_filters, .filter_count = ARRAY_LEN(site_filters), .item = site_json};

    return row_list_serve(r, &list, err);
}

int serve_site_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_sites, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, site_json(r, set.items), err);
}

int serve_site_create(struct request *r, struct err *err)
{
    const struct site_row row = {
        .name = request_str(r, "name"),
        .description = request_str(r, "description") ? request_str(r, "description") : "",
    };
    AUTO_DB_SET struct db_set set = {0};
    char id[IDENT_TEXT_SIZE], location[96];

    if (site_create(r->conn, &row, id, err) < 0 || db_need(r->conn, &db_sites, id, &set, err) < 0)
        return -1;
    (void)snprintf(location, sizeof(location), "/api/v1/sites/%s", id);
    return reply_created(r, site_json(r, set.items), location, err);
}

int serve_site_update(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set after = {0};
    struct site_row row;

    if (db_need(r->conn, &db_sites, r->params[0], &set, err) < 0)
        return -1;
    row = *db_at(&set, struct site_row, 0);
    row.name = request_str(r, "name") ? request_str(r, "name") : row.name;
    row.description = request_str(r, "description") ? request_str(r, "description") : row.description;
    if (site_update(r->conn, &row, r->if_version ? r->if_version : row.version, err) < 0 ||
        db_need(r->conn, &db_sites, row.id, &after, err) < 0)
        return -1;
    return reply_json(r, 200, site_json(r, after.items), err);
}

int serve_site_delete(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_sites, r->params[0], &set, err) < 0 ||
        site_delete(r->conn, db_at(&set, struct site_row, 0)->id, r->if_version, err) < 0)
        return -1;
    return reply_empty(r);
}
