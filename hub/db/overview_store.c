/* SPDX-License-Identifier: Apache-2.0
 *
 * One statement that counts. The RPO counts for machines that have points (point_age.h); before the first copy is complete, and where no point was
 * ever made, nothing is promised and it is unknown. A target that is not met is known even of a machine that is silent: its last point
 * only grows older.
 */
#include "hub/db/overview_store.h"

#include "hub/db/point_age.h"
#include "transport/base/mem.h"

/* Of the open alerts; one of a node or a vault hits the machines that are placed there, one of a group its members. The worst severity and its remedy count. */
#define PROBLEMS                                                                                                       \
    "SELECT q.code, max(q.severity) FILTER (WHERE q.rank = 1) AS severity, max(q.remedy) FILTER (WHERE q.rank = 1)"    \
    " AS remedy, (array_agg(q.text_values) FILTER (WHERE q.rank = 1))[1] AS \"values\", count(*) AS alerts, (SELECT "  \
    "count(DISTINCT p.machine_id) FROM ("                                                                              \
    "SELECT unnest(array_agg(q.machine_id)) AS machine_id UNION SELECT p.machine_id FROM protections p"                \
    " WHERE p.active AND (p.node_id = ANY (array_agg(q.node_id)) OR p.vault_id = ANY (array_agg(q.vault_id)))"         \
    " UNION SELECT x.machine_id FROM consistency_group_members x WHERE x.group_id = ANY (array_agg(q.group_id))) p)"   \
    " AS machines FROM (SELECT a.*, row_number() OVER (PARTITION BY a.code ORDER BY a.severity, a.since, a.id)"        \
    " AS rank FROM alerts a WHERE a.state IN ('firing', 'acknowledged')) q GROUP BY 1"                                 \
    " ORDER BY severity, machines DESC, code LIMIT 50"

int overview_get(struct db_conn *conn, char **ret_json, struct err *err)
{
    AUTO_PGRESULT PGresult *rows = NULL;
    static const char sql[] =
        "WITH m AS (SELECT m.health, m.state, CASE WHEN " RPO_COUNTS
        " THEN " POINT_LOSS("m", "now()", "m.last_point_at") " <= c.rpo_target_usec END AS met"
        " FROM machines m LEFT JOIN protections p ON p.machine_id = m.id AND p.active"
        " LEFT JOIN policies c ON c.id = p.policy_id),"
        " v AS (SELECT v.id AS vault_id, v.name, v.used_bytes::text AS used_bytes, v.capacity_bytes::text AS "
        "total_bytes,"
        " v.free_bytes::text AS free_bytes, s.report->'full_at' AS full_at FROM vaults v"
        " LEFT JOIN vault_space s ON s.vault_id = v.id ORDER BY v.name LIMIT 500),"
        " p AS (" PROBLEMS "),"
        " h AS (SELECT count(*) FILTER (WHERE health = 'healthy') AS healthy,"
        " count(*) FILTER (WHERE health = 'warning') AS warning, count(*) FILTER (WHERE health = 'critical') AS "
        "critical,"
        " count(*) FILTER (WHERE health = 'unknown') AS unknown FROM m),"
        " r AS (SELECT count(*) FILTER (WHERE met) AS met, count(*) FILTER (WHERE NOT met) AS not_met,"
        " count(*) FILTER (WHERE met IS NULL AND state <> 'unprotected') AS unknown FROM m),"
        " n AS (SELECT count(*) AS total, count(*) FILTER (WHERE state = 'protected') AS protected,"
        " count(*) FILTER (WHERE state = 'unprotected') AS unprotected FROM m),"
        " a AS (SELECT count(*) FILTER (WHERE state = 'firing') AS firing,"
        " count(*) FILTER (WHERE state = 'acknowledged') AS acknowledged FROM alerts WHERE state <> 'resolved'),"
        " j AS (SELECT count(*) FILTER (WHERE status IN ('queued', 'running')) AS running,"
        " count(*) FILTER (WHERE status = 'waiting_for_input') AS waiting_for_input,"
        " count(*) FILTER (WHERE status = 'failed' AND finished_at > now() - interval '24 hours') AS failed_24h"
        " FROM jobs WHERE finished_at IS NULL OR finished_at > now() - interval '24 hours')"
        ", d AS (SELECT count(*) FILTER (WHERE overdue_at >= now() AND last_good_at IS NOT NULL) AS fresh,"
        " count(*) FILTER (WHERE overdue_at < now()) AS overdue,"
        " count(*) FILTER (WHERE overdue_at >= now() AND last_good_at IS NULL) AS pending,"
        " (SELECT count(*) FROM machines m WHERE m.state = 'protected' AND NOT EXISTS (SELECT 1 FROM drill_coverage c"
        " WHERE c.machine_id = m.id)) AS uncovered,"
        " (SELECT count(*) FROM plan_runs r WHERE r.state = 'running' AND r.drill_id IS NOT NULL) AS running"
        " FROM drill_machines)"
        " SELECT jsonb_build_object('drills', (SELECT to_jsonb(d) FROM d), 'health', (SELECT to_jsonb(h) FROM h), "
        "'rpo', (SELECT to_jsonb(r) FROM r),"
        " 'machines', (SELECT to_jsonb(n) FROM n), 'jobs', (SELECT to_jsonb(j) FROM j), 'alerts', (SELECT to_jsonb(a) "
        "FROM a),"
        " 'capacity', (SELECT coalesce(jsonb_agg(jsonb_set(to_jsonb(v), '{full_at}', coalesce(v.full_at, 'null'))"
        " ORDER BY v.name), '[]') FROM v),"
        " 'problems', (SELECT coalesce(jsonb_agg(to_jsonb(p) ORDER BY p.severity, p.machines DESC,"
        " p.code), '[]') FROM p))::text";

    if (db_exec(conn, &rows, err, sql) < 0)
        return -1;
    *ret_json = mem_strdup(db_text(rows, 0, 0));
    return *ret_json ? 0 : err_set(err, ERR_NOMEM, "no memory for the overview");
}

int overview_metrics(struct db_conn *conn, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT 'leeward_alerts' AS name, format('{code=\"%s\",severity=\"%s\",state=\"%s\"}', code, severity, state) "
        "AS labels,"
        " count(*)::double precision AS value FROM alerts WHERE state IN ('firing', 'acknowledged')"
        " GROUP BY code, severity, state"
        " UNION ALL SELECT 'leeward_jobs', format('{status=\"%s\"}', s.status), (SELECT count(*) FROM jobs j"
        " WHERE j.status = s.status AND j.finished_at IS NULL)"
        " FROM (VALUES ('queued'), ('running'), ('waiting_for_input')) AS s(status)"
        " UNION ALL SELECT 'leeward_jobs_failed_last_day', '', count(*) FROM jobs WHERE status = 'failed'"
        " AND finished_at > now() - interval '24 hours'"
        " UNION ALL SELECT 'leeward_alert_deliveries', format('{state=\"%s\"}', s.state), (SELECT count(*)"
        " FROM alert_deliveries d WHERE d.state = s.state) FROM (VALUES ('queued'), ('delivered'), ('failed')) AS "
        "s(state)"
        " UNION ALL SELECT 'leeward_certificate_expiry_timestamp_seconds', format('{role=\"%s\"}', c.role),"
        " extract(epoch FROM min(c.not_after)) FROM (SELECT role, subject_id, max(not_after) AS not_after"
        " FROM certificates WHERE revoked_at IS NULL GROUP BY 1, 2) c GROUP BY c.role"
        " UNION ALL SELECT 'leeward_vault_full_timestamp_seconds', format('{vault=\"%s\",name=\"%s\"}', v.id,"
        " replace(replace(replace(v.name, '\\', '\\\\'), '\"', '\\\"'), E'\\n', ' ')),"
        " extract(epoch FROM (s.report->>'full_at')::timestamptz) FROM vaults v JOIN vault_space s ON s.vault_id = v.id"
        " WHERE s.report->>'full_at' IS NOT NULL"
        " UNION ALL SELECT 'leeward_machine_last_good_drill_timestamp_seconds', format('{machine=\"%s\",name=\"%s\"}', "
        "m.id,"
        " replace(replace(replace(m.name, '\\', '\\\\'), '\"', '\\\"'), E'\\n', ' ')),"
        " extract(epoch FROM d.last_good_at) FROM drill_machines d JOIN machines m ON m.id = d.machine_id"
        " WHERE d.last_good_at IS NOT NULL"
        " UNION ALL SELECT 'leeward_copy_behind_seconds', format('{machine=\"%s\",name=\"%s\",vault=\"%s\"}', m.id,"
        " replace(replace(replace(m.name, '\\', '\\\\'), '\"', '\\\"'), E'\\n', ' '), c.vault_id),"
        " CASE WHEN c.point_time IS NULL THEN extract(epoch FROM now() - c.created_at) ELSE coalesce((SELECT "
        "extract(epoch"
        " FROM greatest(r.time - c.point_time, interval '0')) FROM recovery_points r WHERE r.machine_id = c.machine_id"
        " ORDER BY r.sequence DESC LIMIT 1), 0) END FROM copies c JOIN machines m ON m.id = c.machine_id WHERE NOT "
        "c.ending"
        " UNION ALL SELECT 'leeward_drill_machines', format('{state=\"%s\"}', s.state), (SELECT count(*) FROM "
        "drill_machines d"
        " WHERE CASE WHEN d.overdue_at < now() THEN 'overdue' WHEN d.last_good_at IS NULL THEN 'pending' ELSE 'fresh' "
        "END"
        " = s.state) FROM (VALUES ('fresh'), ('pending'), ('overdue')) AS s(state)"
        " ORDER BY 1, 2");
}
