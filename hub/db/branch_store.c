/* SPDX-License-Identifier: Apache-2.0
 *
 * Open points and branches. The vault is the truth: its status is laid over the rows, so that a branch is found whatever crashed
 * between making and noting it, and nothing is called open that is not.
 */
#include "hub/db/branch_store.h"

#include "hub/db/news.h"

#define SETTLED "updated_at < now() - interval '30 seconds'" /* a job may be at work on a younger one */

static int ok(int rows)
{
    return rows < 0 ? -1 : 0;
}

int export_create(struct db_conn *conn, const struct export_put *put, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "INSERT INTO exports (id, machine_id, vault_id, sequence, writable, job_id, created_by, name, point_time)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8,"
        " (SELECT time FROM recovery_points WHERE machine_id = $2 AND sequence = $4))"
        " ON CONFLICT (id) DO NOTHING",
        DB_S(put->id), DB_S(put->machine_id), DB_S(put->vault_id), DB_U(put->sequence), DB_B(put->writable),
        DB_S(put->job_id), DB_S(put->created_by ? put->created_by : ""), DB_S(put->name ? put->name : "")));
}

int export_set(struct db_conn *conn, const char *id, const char *state, uint64_t sequence, const char *uri,
    const char *disks_json, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "UPDATE exports SET state = $2, sequence = CASE WHEN $3::bigint > 0 THEN $3::bigint ELSE sequence END,"
        " uri = coalesce($4, uri), disks = coalesce($5::jsonb, disks), version = version + 1, updated_at = now(),"
        " point_time = coalesce((SELECT p.time FROM recovery_points p WHERE p.machine_id = exports.machine_id"
        "  AND p.sequence = CASE WHEN $3::bigint > 0 THEN $3::bigint ELSE exports.sequence END), point_time)"
        " WHERE id = $1",
        DB_S(id), DB_S(state), DB_U(sequence), DB_S(uri), DB_S(disks_json)));
}

int export_disk_numbers(struct db_conn *conn, const char *id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT jsonb_agg(d->'number') FROM exports e, jsonb_array_elements(e.disks) d WHERE e.id = $1", DB_S(id));
}

int export_protected_devices(struct db_conn *conn, const char *vault_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT d.device FROM disks d JOIN machines m ON m.id = d.machine_id JOIN vaults v ON v.host = m.hostname"
        " WHERE v.id = $1 AND v.host <> '' AND d.is_protected AND d.device <> ''",
        DB_S(vault_id));
}

int machine_generation_raise(struct db_conn *conn, const char *machine_id, uint64_t *ret_generation, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "UPDATE machines SET generation = generation + 1, desired_version = desired_version + 1, version = version + 1,"
        " updated_at = now() WHERE id = $1 RETURNING generation",
        DB_S(machine_id));

    if (n <= 0)
        return n < 0 ? -1 : err_set(err, ERR_NOT_FOUND, "there is no machine %s", machine_id);
    *ret_generation = db_u64(r, 0, 0);
    if (db_exec(conn, NULL, err,
            "UPDATE nodes SET desired_version = desired_version + 1 WHERE id ="
            " (SELECT node_id FROM protections WHERE machine_id = $1)",
            DB_S(machine_id)) < 0 ||
        db_exec(conn, NULL, err,
            "UPDATE vaults SET desired_version = desired_version + 1 WHERE id IN"
            " (SELECT vault_id FROM protections WHERE machine_id = $1"
            " UNION SELECT vault_id FROM copies WHERE machine_id = $1)",
            DB_S(machine_id)) < 0)
        return -1;
    return news_tell(conn, NEWS_DESIRED, err);
}

/* Rows that are open (or were, before the vault began to open them again) and that the vault does not serve. */
static int close_missing(
    struct db_conn *conn, const char *vault_id, const struct export_report *report, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "UPDATE exports SET state = CASE WHEN writable THEN 'kept' ELSE 'closed' END, uri = '', disks = '[]',"
        " version = version + 1, updated_at = now()"
        " WHERE vault_id = $1 AND (state = 'open' OR (state = 'opening' AND disks <> '[]')) AND " SETTLED
        " AND NOT ($2::jsonb ? id::text) AND NOT ($3::jsonb ? id::text)",
        DB_S(vault_id), DB_S(report->open), DB_S(report->opening)));
}

static int follow_opening(
    struct db_conn *conn, const char *vault_id, const struct export_report *report, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "UPDATE exports SET state = CASE WHEN $2::jsonb ? id::text THEN 'open' ELSE 'opening' END,"
        " version = version + 1, updated_at = now() WHERE vault_id = $1 AND disks <> '[]'"
        " AND ((state = 'opening' AND $2::jsonb ? id::text) OR (state = 'open' AND $3::jsonb ? id::text))",
        DB_S(vault_id), DB_S(report->open), DB_S(report->opening)));
}

/* Branches that are gone with their vault's disk or by hand; of machines that were looked through. */
static int close_gone(struct db_conn *conn, const char *vault_id, const struct export_report *report, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "UPDATE exports SET state = 'closed', version = version + 1, updated_at = now()"
        " WHERE vault_id = $1 AND writable AND state = 'kept' AND " SETTLED " AND $2::jsonb ? machine_id::text"
        " AND NOT EXISTS (SELECT FROM jsonb_to_recordset($3::jsonb) AS b(id uuid) WHERE b.id = exports.id)",
        DB_S(vault_id), DB_S(report->machines), DB_S(report->branches)));
}

/* Branches that are there: how large they are; those that nobody knows, or that a failed job believes to be gone, are kept. */
static int keep_found(struct db_conn *conn, const char *vault_id, const struct export_report *report, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "INSERT INTO exports (id, machine_id, vault_id, sequence, writable, state, stored_bytes, created_at, "
        "point_time)"
        " SELECT DISTINCT ON (b.id) b.id, b.machine_id, $1::uuid, b.base, true, 'kept', b.bytes,"
        "  timestamptz 'epoch' + b.created_usec * interval '1 microsecond',"
        "  (SELECT time FROM recovery_points p WHERE p.machine_id = b.machine_id AND p.sequence = b.base)"
        " FROM jsonb_to_recordset($2::jsonb) AS b(machine_id uuid, id uuid, base bigint, created_usec bigint, bytes "
        "bigint)"
        " JOIN protections p ON p.machine_id = b.machine_id AND p.vault_id = $1::uuid"
        " ON CONFLICT (id) DO UPDATE SET stored_bytes = excluded.stored_bytes,"
        "  state = CASE WHEN exports.state IN ('closed', 'failed') AND exports." SETTLED
        " THEN 'kept' ELSE exports.state END,"
        "  updated_at = CASE WHEN exports.state IN ('closed', 'failed') THEN now() ELSE exports.updated_at END"
        " WHERE exports.vault_id = $1::uuid AND exports.machine_id = excluded.machine_id"
        "  AND (exports.stored_bytes <> excluded.stored_bytes OR (exports.state IN ('closed', 'failed') AND "
        "exports." SETTLED "))",
        DB_S(vault_id), DB_S(report->branches)));
}

int export_reconcile(struct db_conn *conn, const char *vault_id, const struct export_report *report, struct err *err)
{
    if (close_missing(conn, vault_id, report, err) < 0 || follow_opening(conn, vault_id, report, err) < 0)
        return -1;
    return close_gone(conn, vault_id, report, err) < 0 ? -1 : keep_found(conn, vault_id, report, err);
}
