/* SPDX-License-Identifier: Apache-2.0
 *
 * Hours of history, summed. The row of the schedule is updated by whoever makes the report: of several hubs one.
 */
#include "hub/db/report_store.h"

#include "hub/db/news.h"

int report_machines(struct db_conn *conn, const struct report_period *p, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT m.name, m.state, m.health, coalesce(c.name, ''), coalesce(c.rpo_target_usec, 0), count(h.start),"
        " count(h.start) FILTER (WHERE h.rpo_max_usec <= c.rpo_target_usec), coalesce(max(h.rpo_max_usec), 0),"
        " coalesce((sum(h.rpo_sum_usec) / greatest(sum(h.rpo_count), 1))::bigint, 0),"
        " coalesce(sum(h.changed_bytes), 0)::bigint, coalesce(sum(h.sent_bytes), 0)::bigint,"
        " coalesce(sum(h.points), 0)::bigint, (SELECT count(*) FROM alerts a WHERE a.machine_id = m.id"
        " AND a.raised_at >= $1 AND a.raised_at < $2),"
        " coalesce((SELECT to_char(max(f.ended_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM failovers f"
        " WHERE f.machine_id = m.id AND f.kind = 'test' AND f.state = 'cleaned' AND f.ended_at < $2"
        " AND (f.outcome = 'passed' OR (f.outcome = '' AND f.verdict = 'passed'))), '')"
        " FROM machines m LEFT JOIN protections p ON p.machine_id = m.id AND p.active"
        " LEFT JOIN policies c ON c.id = p.policy_id LEFT JOIN sample_rollups h ON h.machine_id = m.id"
        " AND h.step_sec = 3600 AND h.start >= $1 AND h.start < $2"
        " GROUP BY m.id, c.name, c.rpo_target_usec ORDER BY m.name",
        DB_T(p->from_utc_usec), DB_T(p->to_utc_usec));
}

int report_totals(struct db_conn *conn, const struct report_period *p, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT (SELECT count(*) FROM alerts WHERE severity = 'critical' AND raised_at >= $1 AND raised_at < $2),"
        " (SELECT count(*) FROM alerts WHERE severity = 'warning' AND raised_at >= $1 AND raised_at < $2),"
        " (SELECT count(*) FROM jobs WHERE status = 'succeeded' AND finished_at >= $1 AND finished_at < $2),"
        " (SELECT count(*) FROM jobs WHERE status = 'failed' AND finished_at >= $1 AND finished_at < $2),"
        " (SELECT count(*) FROM plan_runs WHERE kind = 'test' AND verdict = 'passed' AND ended_at >= $1 AND ended_at < $2),"
        " (SELECT count(*) FROM plan_runs WHERE kind = 'test' AND verdict <> 'passed' AND ended_at >= $1 AND ended_at < $2),"
        " (SELECT count(*) FROM drill_machines WHERE overdue_at < now())",
        DB_T(p->from_utc_usec), DB_T(p->to_utc_usec));
}

int report_vaults(struct db_conn *conn, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT v.name, v.used_bytes, v.free_bytes, v.capacity_bytes, coalesce(s.report->>'full_at', '') FROM vaults v"
        " LEFT JOIN vault_space s ON s.vault_id = v.id ORDER BY v.name");
}

int report_is_due(struct db_conn *conn, uint64_t *ret_due_utc_usec, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "WITH s AS (SELECT coalesce((SELECT (value #>> '{}')::integer FROM settings WHERE key = 'report_weekday'), 1) "
        "AS day,"
        " coalesce((SELECT (value #>> '{}')::integer FROM settings WHERE key = 'report_hour'), 6) AS hour),"
        " w AS (SELECT (date_trunc('week', now() AT TIME ZONE 'UTC') + make_interval(days => s.day - 1, hours => "
        "s.hour))"
        " AT TIME ZONE 'UTC' AS at FROM s),"
        " d AS (SELECT CASE WHEN w.at <= now() THEN w.at ELSE w.at - interval '7 days' END AS at FROM w)"
        " UPDATE report_schedule r SET last_at = d.at FROM d WHERE r.last_at < d.at"
        " RETURNING (extract(epoch FROM d.at) * 1000000)::bigint");

    if (n > 0)
        *ret_due_utc_usec = db_u64(r, 0, 0);
    return n;
}

int report_queue(struct db_conn *conn, const char *body, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "INSERT INTO alert_deliveries (channel_id, kind, body) SELECT id, 'report', $1::jsonb FROM alert_channels"
        " WHERE enabled AND weekly_report",
        DB_S(body));

    return n > 0 && news_tell(conn, NEWS_ALERTS, err) < 0 ? -1 : n;
}
