/* SPDX-License-Identifier: Apache-2.0
 *
 * A mapping is a column of what it is the mapping of, with a version of its own.
 */
#include "hub/db/mapping_store.h"

#define PUT(table)                                                                                                     \
    "UPDATE " table " SET mapping = $2::jsonb, mapping_version = mapping_version + 1, mapping_updated_at = now()"      \
    " WHERE id = $1 AND (mapping_version = $3::bigint OR $3::bigint = 0)"

static int put(struct db_conn *conn, int touched, const struct db_entity *entity, const char *id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (touched != 0)
        return touched < 0 ? -1 : 0;
    if (db_need(conn, entity, id, &set, err) < 0)
        return -1;
    err_set(err, ERR_CONFLICT, "the mapping was changed by somebody else");
    return err_hint(err, "Read it again, look at what changed, and repeat the change with its new version.");
}

int machine_mapping_put(
    struct db_conn *conn, const char *machine_id, const char *mapping_json, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err, PUT("machines"), DB_S(machine_id), DB_S(mapping_json), DB_U(if_version));

    return put(conn, n, &db_machine_mappings, machine_id, err);
}

int site_mapping_put(
    struct db_conn *conn, const char *site_id, const char *mapping_json, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err, PUT("sites"), DB_S(site_id), DB_S(mapping_json), DB_U(if_version));

    return put(conn, n, &db_site_mappings, site_id, err);
}
