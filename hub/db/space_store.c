/* SPDX-License-Identifier: Apache-2.0
 *
 * The table `vault_space`. Machines that are gone from the hub are left out when it is read.
 */
#include "hub/db/space_store.h"

#include "transport/base/mem.h"

int space_put(struct db_conn *conn, const char *vault_id, const char *report, struct err *err)
{
    int rc = db_exec(conn, NULL, err,
        "INSERT INTO vault_space (vault_id, report) SELECT v.id, $2::jsonb FROM vaults v WHERE v.id = $1::uuid"
        " ON CONFLICT (vault_id) DO UPDATE SET report = excluded.report, updated_at = now()",
        DB_S(vault_id), DB_S(report));

    return rc < 0 ? -1 : 0;
}

int space_get(struct db_conn *conn, const char *vault_id, char **ret_report, struct err *err)
{
    AUTO_PGRESULT PGresult *rows = NULL;
    int rc = db_exec(conn, &rows, err,
        "SELECT (s.report || jsonb_build_object('machines', coalesce((SELECT"
        " jsonb_agg(e || jsonb_build_object('name', m.name) ORDER BY m.name)"
        " FROM jsonb_array_elements(s.report->'machines') e JOIN machines m ON m.id = (e->>'machine_id')::uuid), "
        "'[]')))"
        "::text FROM vault_space s WHERE s.vault_id = $1::uuid",
        DB_S(vault_id));

    if (rc <= 0)
        return rc;
    *ret_report = mem_strdup(db_text(rows, 0, 0));
    return *ret_report ? 1 : err_set(err, ERR_NOMEM, "no memory for a report");
}
