/* SPDX-License-Identifier: Apache-2.0
 *
 * The last sweep is in the past, or the clock was set back. A lease that is made shorter is lost to who holds it, as one that runs out; who looks at a peer that is
 * gone begins to count anew.
 */
#include "hub/db/clock_store.h"

#include "hub/db/news.h"
#include "transport/base/mem.h"

static int bring_up(struct db_conn *conn, struct err *err)
{
    static const char *const sql[] = {
        "UPDATE placement_watch SET seen_at = '-infinity', since = now()",
        /* before machines, as whoever changes a group has them */
        "UPDATE consistency_groups SET news_at = least(news_at, now()), interval_since = least(interval_since, now())"
        " WHERE greatest(news_at, interval_since) > now()",
        "UPDATE consistency_group_lists SET since = now() WHERE since > now()",
        /* that is a span in its past: as long as it was at the last look */
        "UPDATE consistency_groups SET late_since = now() - (finding_values->>'age_seconds')::float8 * interval '1 s'"
        " WHERE late_since IS NOT NULL",
        "UPDATE hub_processes SET seen_at = now() WHERE seen_at > now()",
        "UPDATE machines SET last_seen_at = now() WHERE last_seen_at > now()",
        "UPDATE nodes SET last_seen_at = now() WHERE last_seen_at > now()",
        "UPDATE vaults SET last_seen_at = now() WHERE last_seen_at > now()",
        "UPDATE jobs SET run_after = least(run_after, now()), lease_until = least(lease_until, now() + interval '6 s')"
        " WHERE status IN ('queued', 'running') AND (run_after > now() OR lease_until > now() + interval '6 s')",
        "UPDATE plan_run_steps SET attempt_at = now() WHERE state IN ('running', 'waiting_for_input')"
        " AND attempt_at > now()",
        "UPDATE drill_schedules SET next_try_at = least(next_try_at, now()), last_started_at = least(last_started_at, "
        "now()) WHERE next_try_at > now() OR last_started_at > now()",
        "UPDATE alert_deliveries SET next_at = least(next_at, now()), lease_until = least(lease_until, now() + "
        "interval '2 minutes') WHERE state = 'queued'",
    };

    for (size_t i = 0; i < ARRAY_LEN(sql); i++)
        if (db_exec(conn, NULL, err, sql[i]) < 0)
            return -1;
    return news_tell(conn, NEWS_JOBS, err) < 0 ? -1 : news_tell(conn, NEWS_ALERTS, err);
}

int clock_set_back(struct db_conn *conn, struct err *err)
{
    int n = db_exec(conn, NULL, err, "SELECT 1 FROM placement_watch WHERE seen_at > now() + interval '2 seconds'");

    if (n <= 0)
        return n;
    if (db_begin(conn, err) < 0)
        return -1;
    if (bring_up(conn, err) < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err) < 0 ? -1 : 1;
}
