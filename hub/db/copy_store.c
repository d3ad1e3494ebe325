/* SPDX-License-Identifier: Apache-2.0
 *
 * See the header. A vault is believed about copies that it is to have, and no others.
 */
#include "hub/db/copy_store.h"

#include "hub/db/protection_store.h"

int copy_may_be_more(struct db_conn *conn, const char *machine_id, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT m.name, (SELECT count(*) FROM copies c WHERE c.machine_id = m.id AND NOT c.ending) FROM machines m"
        " WHERE m.id = $1",
        DB_S(machine_id));

    if (n <= 0 || db_u64(r, 0, 1) < COPIES_MAX)
        return n < 0 ? -1 : 0;
    err_set(err, ERR_REFUSED, "%d vaults have a copy of the points of %s, and there can be no more", COPIES_MAX,
        db_text(r, 0, 0));
    return err_hint(err, "End one of them first: leeward copy list %s, leeward copy remove %s VAULT", db_text(r, 0, 0),
        db_text(r, 0, 0));
}

/* Of two that are begun at the same time the second one counts the first. */
int copy_put(struct db_conn *conn, const struct copy_put *put, struct err *err)
{
    if (db_exec(conn, NULL, err, "SELECT 1 FROM protections WHERE machine_id = $1 FOR UPDATE", DB_S(put->machine_id)) <
            0 ||
        copy_may_be_more(conn, put->machine_id, err) < 0)
        return -1;
    int n = db_exec(conn, NULL, err,
        "INSERT INTO copies (machine_id, vault_id, source_vault_id, created_by) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT DO NOTHING",
        DB_S(put->machine_id), DB_S(put->vault_id), DB_S(put->source_vault_id), DB_S(put->created_by));

    if (n < 0)
        return -1;
    if (n == 0)
        return err_set(err, ERR_CONFLICT, "that vault has a copy of the machine's points");
    return machine_converge_anew(conn, put->machine_id, err);
}

int copy_end(struct db_conn *conn, const char *machine_id, const char *vault_id, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "UPDATE copies SET ending = true, updated_at = now() WHERE machine_id = $1 AND vault_id = $2",
            DB_S(machine_id), DB_S(vault_id)) < 0)
        return -1;
    return machine_converge_anew(conn, machine_id, err);
}

int copy_forget(struct db_conn *conn, const char *machine_id, const char *vault_id, struct err *err)
{
    return db_exec(conn, NULL, err, "DELETE FROM copies WHERE machine_id = $1 AND vault_id = $2", DB_S(machine_id),
               DB_S(vault_id)) < 0
               ? -1
               : 0;
}

int copy_vault_knows(struct db_conn *conn, const char *vault_id, struct err *err)
{
    return db_exec(
        conn, NULL, err, "SELECT 1 FROM vaults WHERE id = $1 AND converged_version >= desired_version", DB_S(vault_id));
}

int copy_any(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT v.name FROM copies c JOIN vaults v ON v.id = c.vault_id WHERE c.machine_id = $1 LIMIT 1",
        DB_S(machine_id));
}

/* What a vault says of its space is some minutes old, and what it never said is not known: then there is room until there is none. */
int copy_fits(struct db_conn *conn, const char *machine_id, const char *vault_id, PGresult **ret_rows, struct err *err)
{
    int n = db_exec(conn, ret_rows, err,
        "SELECT s.needed, v.free_bytes FROM vaults v, (SELECT coalesce(max((m->>'live_bytes')::bigint), 0) AS needed"
        " FROM protections p JOIN vault_space a ON a.vault_id = p.vault_id,"
        " jsonb_array_elements(CASE jsonb_typeof(a.report->'machines') WHEN 'array' THEN a.report->'machines'"
        " ELSE '[]'::jsonb END) m WHERE p.machine_id = $1::uuid AND (m->>'machine_id')::uuid = $1::uuid) s"
        " WHERE v.id = $2::uuid AND s.needed > v.free_bytes",
        DB_S(machine_id), DB_S(vault_id));

    return n < 0 ? -1 : n == 0;
}

int copy_status_put(struct db_conn *conn, const char *vault_id, const struct copy_status *s, struct err *err)
{
    return db_exec(conn, NULL, err,
               "UPDATE copies SET source_sequence = $4::bigint, sequence = $5::bigint,"
               " point_time = CASE WHEN $6::bigint > 0 THEN timestamptz 'epoch' + $6::bigint * interval '1 "
               "microsecond' END,"
               " taken_bytes = $7::bigint, traffic_bytes = $8::bigint, progress_permille = $9::integer, cause = $10, "
               "remedy = $11,"
               " updated_at = now() WHERE machine_id = $1 AND vault_id = $2 AND source_vault_id = $3 AND NOT ending",
               DB_S(s->machine_id), DB_S(vault_id), DB_S(s->source_vault_id), DB_U(s->source_sequence),
               DB_U(s->sequence), DB_U(s->point_utc_usec), DB_U(s->taken_bytes), DB_U(s->traffic_bytes),
               DB_U(s->progress_permille), DB_S(s->cause), DB_S(s->remedy)) < 0
               ? -1
               : 0;
}

int copy_points_put(struct db_conn *conn, const char *vault_id, const char *added, const char *dropped, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "INSERT INTO copy_points (machine_id, vault_id, sequence, time, kind, tag, generation, changed_bytes, "
            "committed_at)"
            " SELECT DISTINCT ON (s.machine_id, s.sequence) s.machine_id, $1::uuid, s.sequence,"
            " timestamptz 'epoch' + s.time_usec * interval '1 microsecond', s.kind, s.tag, s.generation, "
            "s.changed_bytes,"
            " timestamptz 'epoch' + s.committed_usec * interval '1 microsecond'"
            " FROM jsonb_to_recordset($2::jsonb) AS s(machine_id uuid, sequence bigint, time_usec bigint, kind text,"
            " tag text, generation bigint, changed_bytes bigint, committed_usec bigint)"
            " JOIN copies c ON c.machine_id = s.machine_id AND c.vault_id = $1::uuid AND NOT c.ending"
            " ON CONFLICT (machine_id, vault_id, sequence) DO NOTHING",
            DB_S(vault_id), DB_S(added)) < 0)
        return -1;
    return db_exec(conn, NULL, err,
               "DELETE FROM copy_points r USING jsonb_to_recordset($2::jsonb) AS s(machine_id uuid, sequence bigint)"
               " WHERE r.machine_id = s.machine_id AND r.sequence = s.sequence AND r.vault_id = $1::uuid",
               DB_S(vault_id), DB_S(dropped)) < 0
               ? -1
               : 0;
}

int copy_points_forget(struct db_conn *conn, const char *vault_id, const char *machine_id, struct err *err)
{
    return db_exec(conn, NULL, err, "DELETE FROM copy_points WHERE machine_id = $2 AND vault_id = $1", DB_S(vault_id),
               DB_S(machine_id)) < 0
               ? -1
               : 0;
}

int copy_use(struct db_conn *conn, const char *machine_id, const char *vault_id, struct err *err)
{
    static const char *const sql[] = {
        "WITH before AS (SELECT machine_id, vault_id FROM protections WHERE machine_id = $1::uuid),"
        " gone AS (DELETE FROM copies WHERE machine_id = $1::uuid AND vault_id = $2::uuid RETURNING created_by)"
        " INSERT INTO copies (machine_id, vault_id, source_vault_id, ending, created_by)"
        " SELECT b.machine_id, b.vault_id, $2::uuid, true, g.created_by FROM before b, gone g",
        "UPDATE copies SET source_vault_id = $2::uuid, updated_at = now()"
        " WHERE machine_id = $1::uuid AND vault_id <> $2::uuid AND NOT ending",
        "UPDATE exports SET state = 'failed', uri = '', disks = '[]', version = version + 1, updated_at = now()"
        " WHERE machine_id = $1::uuid AND vault_id <> $2::uuid AND state IN ('opening', 'open', 'closing', 'kept')",
        "UPDATE failovers SET vault_id = $2::uuid, export_id = NULL, replica = '{}', verdict = 'failed',"
        " verdict_text = 'its replica was lost with the vault that it ran in; choose a point: change-point',"
        " version = version + 1, updated_at = now() WHERE machine_id = $1::uuid AND kind <> 'test'"
        " AND state IN ('running', 'committed')",
        /* What is being ended, and tests: their branches are lost, so that nothing of them is left to discard. */
        "UPDATE failovers SET vault_id = $2::uuid, export_id = NULL, version = version + 1, updated_at = now()"
        " WHERE machine_id = $1::uuid AND vault_id <> $2::uuid AND (state = 'ending' OR (kind = 'test' AND state = "
        "'running'))",
        "UPDATE protections SET vault_id = $2::uuid, updated_at = now() WHERE machine_id = $1::uuid",
        "DELETE FROM recovery_points WHERE machine_id = $1::uuid AND vault_id <> $2::uuid",
        "DELETE FROM integrity WHERE machine_id = $1::uuid AND vault_id <> $2::uuid"};

    for (size_t i = 0; i < ARRAY_LEN(sql); i++)
        if (db_exec(conn, NULL, err, sql[i], DB_S(machine_id), DB_S(vault_id)) < 0)
            return -1;
    return 0;
}
