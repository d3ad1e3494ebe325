/* SPDX-License-Identifier: Apache-2.0
 *
 * The table `integrity`. Reports come every few seconds while a vault verifies; only a change of the ranges touches the machine.
 */
#include "hub/db/integrity_store.h"

#include "hub/db/news.h"
#include "transport/base/mem.h"

int integrity_put(struct db_conn *conn, const char *vault_id, const char *machine_id, const char *report,
    const char *resend, struct err *err)
{
    int rc = db_exec(conn, NULL, err,
        "WITH put AS (INSERT INTO integrity AS i (machine_id, vault_id, report, resend, resend_request)"
        " SELECT p.machine_id, p.vault_id, $3::jsonb, $4::jsonb, ($4::jsonb <> '[]')::int FROM protections p"
        " WHERE p.vault_id = $1::uuid AND p.machine_id = $2::uuid"
        " ON CONFLICT (machine_id) DO UPDATE SET vault_id = excluded.vault_id, report = excluded.report,"
        " resend = excluded.resend, updated_at = now(),"
        " resend_request = i.resend_request + (i.resend IS DISTINCT FROM excluded.resend)::int"
        " RETURNING machine_id, resend_request)"
        " UPDATE machines m SET desired_version = m.desired_version + 1 FROM put"
        " LEFT JOIN integrity old ON old.machine_id = put.machine_id"
        " WHERE m.id = put.machine_id AND put.resend_request <> coalesce(old.resend_request, 0)",
        DB_S(vault_id), DB_S(machine_id), DB_S(report), DB_S(resend));

    return rc <= 0 ? rc : news_tell(conn, NEWS_DESIRED, err);
}

int integrity_get(struct db_conn *conn, const char *machine_id, char **ret_report, struct err *err)
{
    AUTO_PGRESULT PGresult *rows = NULL;
    int rc =
        db_exec(conn, &rows, err, "SELECT report::text FROM integrity WHERE machine_id = $1::uuid", DB_S(machine_id));

    if (rc <= 0)
        return rc;
    *ret_report = mem_strdup(db_text(rows, 0, 0));
    return *ret_report ? 1 : err_set(err, ERR_NOMEM, "no memory for a report");
}

int integrity_resend(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT i.resend_request, x.disk, x.start, x.length FROM integrity i"
        " JOIN protections p ON p.machine_id = i.machine_id AND p.vault_id = i.vault_id,"
        " jsonb_to_recordset(i.resend) AS x(disk bigint, start bigint, length bigint)"
        " WHERE i.machine_id = $1::uuid ORDER BY 2, 3",
        DB_S(machine_id));
}
