/* SPDX-License-Identifier: Apache-2.0
 *
 * See the header. The replica's points are those after the one that it began with, under the machine's generation; what has an older generation was written by
 * the source after that point, and is not part of the machine's future. Disks are those of the replica while it is open, else those that are protected.
 */
#include "hub/db/failback_store.h"

#include "transport/base/mem.h"

#define UTC " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
#define OWN "FILTER (WHERE p.generation >= m.generation)"
#define LOST "FILTER (WHERE p.generation < m.generation)"

static const char preview_sql[] =
    "SELECT jsonb_build_object('failover_id', f.id, 'machine_id', m.id, 'machine_name', m.name, 'state', f.state,"
    " 'sequence', f.sequence, 'point_time', to_char(f.point_time" UTC ", 'since', to_char(f.running_at" UTC ","
    " 'point_count', w.points, 'last_sequence', w.newest, 'last_point_time', to_char(w.newest_time" UTC ","
    " 'changed_bytes', w.bytes, 'compared_bytes', d.bytes, 'lost_point_count', w.lost, 'lost_bytes', w.lost_bytes,"
    " 'fixup_count', CASE WHEN f.fixups->>'applied' = 'true' THEN jsonb_array_length(f.fixups->'changes') ELSE 0 END,"
    " 'source_online', m.online AND m.last_seen_at > now() - interval '60 seconds', 'disks', d.list)::text"
    " FROM failovers f JOIN machines m ON m.id = f.machine_id LEFT JOIN exports e ON e.id = f.export_id"
    " CROSS JOIN LATERAL (SELECT count(*) " OWN " AS points, coalesce(sum(p.changed_bytes) " OWN ", 0) AS bytes,"
    " max(p.sequence) " OWN " AS newest, max(p.time) " OWN " AS newest_time, count(*) " LOST " AS lost,"
    " coalesce(sum(p.changed_bytes) " LOST ", 0) AS lost_bytes"
    " FROM recovery_points p WHERE p.machine_id = f.machine_id AND p.sequence > f.sequence) w"
    " CROSS JOIN LATERAL (SELECT coalesce(sum(x.size_bytes), 0) AS bytes, coalesce(jsonb_agg(jsonb_build_object("
    "'number', x.number, 'device', x.device, 'key', x.key, 'size_bytes', x.size_bytes) ORDER BY x.number), '[]')"
    " AS list FROM disks x WHERE x.machine_id = f.machine_id AND x.number IS NOT NULL"
    " AND CASE WHEN jsonb_array_length(e.disks) > 0"
    " THEN EXISTS (SELECT 1 FROM jsonb_array_elements(e.disks) o WHERE (o->>'number')::int = x.number)"
    " ELSE x.is_protected END) d WHERE f.id = $1::uuid";

int failback_preview(struct db_conn *conn, const char *failover_id, char **ret_json, struct err *err)
{
    AUTO_PGRESULT PGresult *rows = NULL;
    int rc = db_exec(conn, &rows, err, preview_sql, DB_S(failover_id));

    if (rc <= 0)
        return rc;
    *ret_json = mem_strdup(db_text(rows, 0, 0));
    return *ret_json ? 1 : err_set(err, ERR_NOMEM, "no memory for a preview");
}
