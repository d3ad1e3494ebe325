/* SPDX-License-Identifier: Apache-2.0
 *
 * Alerts as rows. The unique index over open ones holds two sweeps that overlap (a hub that lost its lock without noticing) to one row.
 */
#include "hub/db/alert_store.h"

#include "hub/db/news.h"
#include "transport/base/clock.h"

#define USEC(time) "coalesce((extract(epoch FROM " time ") * 1000000)::bigint, 0)"
#define AT(usec) "timestamptz 'epoch' + nullif(" usec ", 0) * interval '1 microsecond'"

int alert_open_list(struct db_conn *conn, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT id, subject_id, code, detail, state, severity, " USEC("since") ", " USEC("lacks_since") ", " USEC(
            "eased_since") ", cause, " USEC("now() - updated_at") ", subject_kind, text_values = '{}' FROM alerts "
                                                                  "WHERE state <> 'resolved'"
                                                                  " ORDER BY subject_id::text COLLATE \"C\", code"
                                                                  " COLLATE \"C\", detail COLLATE \"C\"");
}

int alert_sweep_stamp(struct db_conn *conn, uint64_t *ret_before_utc_usec, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err,
            "UPDATE alert_sweep s SET checked_at = now() FROM alert_sweep o RETURNING " USEC("o.checked_at")) < 0)
        return -1;
    *ret_before_utc_usec = db_u64(r, 0, 0);
    return 0;
}

int alert_sweep_goes_on(struct db_conn *conn, struct err *err)
{
    return db_exec(conn, NULL, err, "UPDATE alert_sweep SET checked_at = now()") < 0 ? -1 : 0;
}

static int put_changed(struct db_conn *conn, const char *changed, struct err *err)
{
    return db_exec(conn, NULL, err,
        "WITH s AS (SELECT * FROM jsonb_to_recordset($1::jsonb) AS x(id uuid, code text, subject_kind text,"
        " subject_id uuid, detail text, severity text, state text, cause text, remedy text, since_usec bigint,"
        " lacks_usec bigint, eased_usec bigint, change text, text_values jsonb)),"
        " put AS (INSERT INTO alerts AS a (id, code, subject_kind, subject_id, detail, machine_id, node_id, vault_id,"
        " group_id, severity, state, cause, remedy, text_values, since, lacks_since, eased_since, raised_at)"
        " SELECT s.id, s.code, s.subject_kind, s.subject_id, s.detail, m.id, n.id, v.id, g.id, s.severity, s.state, "
        "s.cause,"
        " s.remedy, coalesce(s.text_values, '{}'), " AT("s.since_usec") ", " AT("s.lacks_usec") ", " AT(
            "s.eased_usec") ","
                            " CASE WHEN s.change = 'raised' THEN now() END FROM s"
                            " LEFT JOIN machines m ON s.subject_kind = 'machine' AND m.id = s.subject_id"
                            " LEFT JOIN nodes n ON s.subject_kind = 'node' AND n.id = s.subject_id"
                            " LEFT JOIN vaults v ON s.subject_kind = 'vault' AND v.id = s.subject_id"
                            " LEFT JOIN consistency_groups g ON s.subject_kind = 'group' AND g.id = s.subject_id"
                            " WHERE s.subject_kind = 'hub' OR num_nonnulls(m.id, n.id, v.id, g.id) = 1"
                            " ON CONFLICT (id) DO UPDATE SET severity = excluded.severity, cause = excluded.cause,"
                            " remedy = coalesce(nullif(excluded.remedy, ''), a.remedy),"
                            " text_values = coalesce(nullif(excluded.text_values, '{}'), a.text_values),"
                            " since = excluded.since, "
                            "lacks_since = excluded.lacks_since,"
                            " eased_since = excluded.eased_since, updated_at = now(), raised_at = "
                            "coalesce(a.raised_at, excluded.raised_at),"
                            " version = a.version + 1,"
                            " state = CASE WHEN a.state = 'acknowledged' AND excluded.state = 'firing' AND "
                            "excluded.severity = a.severity"
                            " THEN a.state ELSE excluded.state END,"
                            " resolved_at = CASE WHEN excluded.state = 'resolved' THEN now() END"
                            " RETURNING a.id)"
                            " INSERT INTO alert_changes (alert_id, change, severity, cause) SELECT s.id, s.change, "
                            "s.severity, s.cause"
                            " FROM s JOIN put USING (id) WHERE s.change <> ''",
        DB_S(changed));
}

int alert_apply(struct db_conn *conn, const char *changed, const char *forgotten, struct err *err)
{
    int told = put_changed(conn, changed, err);

    if (told < 0 || db_exec(conn, NULL, err,
                        "DELETE FROM alerts a USING jsonb_array_elements_text($1::jsonb) AS f(id)"
                        " WHERE a.id = f.id::uuid AND a.state = 'pending'",
                        DB_S(forgotten)) < 0)
        return -1;
    return told > 0 ? news_tell(conn, NEWS_ALERTS, err) : 0;
}

int alert_failed_jobs(struct db_conn *conn, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT DISTINCT ON (coalesce(j.machine_id, j.vault_id), j.kind) j.kind,"
        " CASE WHEN j.machine_id IS NULL THEN 'vault' ELSE 'machine' END, coalesce(j.machine_id, j.vault_id),"
        " j.problem_text, j.problem_correction, coalesce(m.name, v.name) FROM jobs j"
        " LEFT JOIN machines m ON m.id = j.machine_id LEFT JOIN vaults v ON v.id = j.vault_id AND j.machine_id IS NULL"
        " WHERE j.status = 'failed' AND j.finished_at > now() - interval '24 hours'"
        " AND coalesce(j.machine_id, j.vault_id) IS NOT NULL"
        /* By the machine's index, and by the vault's: hundreds of thousands of jobs are there, and this is asked every few seconds. */
        " AND NOT EXISTS (SELECT 1 FROM jobs s WHERE s.kind = j.kind AND s.status = 'succeeded'"
        " AND s.machine_id = j.machine_id AND s.vault_id IS NOT DISTINCT FROM j.vault_id"
        " AND s.finished_at > j.finished_at)"
        " AND NOT EXISTS (SELECT 1 FROM jobs s WHERE s.kind = j.kind AND s.status = 'succeeded' AND j.machine_id IS "
        "NULL"
        " AND s.machine_id IS NULL AND s.vault_id = j.vault_id AND s.finished_at > j.finished_at)"
        " ORDER BY coalesce(j.machine_id, j.vault_id), j.kind, j.finished_at DESC");
}

int alert_note_certificate(struct db_conn *conn, const struct certificate_put *c, struct err *err)
{
    return db_exec(conn, NULL, err,
               "INSERT INTO certificates (serial, role, subject_id, subject_name, fingerprint_sha256, not_before,"
               " not_after) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (serial) DO UPDATE SET created_at = now()",
               DB_S(c->serial), DB_S(c->role), DB_S(c->subject_id), DB_S(c->subject_name), DB_S(c->fingerprint_sha256),
               DB_T(c->not_before), DB_T(c->not_after)) < 0
               ? -1
               : 0;
}

int alert_hub_certificates(struct db_conn *conn, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT subject_id, " USEC(
            "max(not_after) - now()") " FROM certificates WHERE role = 'hub'"
                                      " AND revoked_at IS NULL AND created_at > now() - "
                                      "interval '2 days' GROUP BY subject_id ORDER BY subject_id");
}

int alert_acknowledge(struct db_conn *conn, const char *id, const char *actor, const char *note, struct err *err)
{
    return db_exec(conn, NULL, err,
        "UPDATE alerts SET state = 'acknowledged', acknowledged_at = now(), acknowledged_by = $2, note = $3,"
        " version = version + 1 WHERE id = $1 AND state = 'firing'",
        DB_S(id), DB_S(actor), DB_S(note));
}

int alert_settings(struct db_conn *conn, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err, "SELECT key, value::text FROM settings WHERE key LIKE 'alert\\_%'");
}
