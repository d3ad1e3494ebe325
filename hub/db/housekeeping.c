/* SPDX-License-Identifier: Apache-2.0
 *
 * Each piece is found by an index where its table is large, and takes some hundredths of a second. What refers to a job is found by an index as well
 * (0340): a deleted job looks for it in nine tables.
 */
#include "hub/db/housekeeping.h"

#include "hub/db/history_store.h"
#include "transport/base/mem.h"

#define PIECE_ROWS 5000
#define PIECE_JOBS 200 /* with their steps, logs and commands */
#define TEXT_OF_(number) #number
#define TEXT_OF(number) TEXT_OF_(number)

#define OLD_OF(table, where, rows)                                                                                     \
    "DELETE FROM " table " WHERE ctid = ANY (ARRAY(SELECT ctid FROM " table " WHERE " where " LIMIT " TEXT_OF(rows) "))"
#define OLD(table, where)                                                                                              \
    {                                                                                                                  \
        OLD_OF(table, where, PIECE_ROWS), PIECE_ROWS, 0                                                                \
    }
#define OLD_HISTORY(table, where, grain)                                                                               \
    {                                                                                                                  \
        OLD_OF(table, where, PIECE_ROWS), PIECE_ROWS, grain                                                            \
    }
#define KEPT "now() - make_interval(secs => $1::double precision)"

#define EVENTS_SINCE                                                                                                   \
    "now() - make_interval(days => coalesce((SELECT (value #>> '{}')::integer FROM settings"                           \
    " WHERE key = 'event_keep_days'), 90))"

static const struct old_rows {
    const char *sql;
    int most;
    uint32_t grain; /* of history; 0: none */
} old_rows[] = {
    OLD("idempotency_keys", "created_at < now() - interval '24 hours'"),
    OLD("hub_processes", "seen_at < now() - interval '1 day'"),
    {OLD_OF("jobs", "finished_at < now() - interval '90 days'", PIECE_JOBS), PIECE_JOBS, 0},
    OLD("events",
        "at < " EVENTS_SINCE " AND coalesce(stored_at, at) < " EVENTS_SINCE), /* some come long after they were said */
    OLD("disk_minutes", "minute < now() - interval '30 days'"),
    OLD("sessions", "expires_at < now() - interval '7 days'"),
    OLD("login_failures", "last_at < now() - interval '1 day'"),
    OLD("oidc_logins", "created_at < now() - interval '1 hour'"),
    OLD("alerts", "resolved_at < now() - interval '90 days'"),
    OLD("approvals", "created_at < now() - interval '90 days'"),
    OLD("alert_deliveries", "finished_at < now() - interval '30 days'"),
    OLD("enrolment_tokens", "expires_at < now() - interval '30 days'"),
    OLD_HISTORY("samples", "minute < " KEPT, HISTORY_MINUTE_SEC),
    OLD_HISTORY("sample_rollups", "step_sec = 3600 AND start < " KEPT, HISTORY_HOUR_SEC),
    OLD_HISTORY("sample_rollups", "step_sec = 86400 AND start < " KEPT, HISTORY_DAY_SEC),
};

int housekeeping(struct db_conn *conn, size_t *at, struct err *err)
{
    const struct old_rows *old = &old_rows[*at];
    int n = old->grain ? db_exec(conn, NULL, err, old->sql, DB_U(history_kept_sec(old->grain)))
                       : db_exec(conn, NULL, err, old->sql);

    if (n < old->most)
        *at = (*at + 1) % ARRAY_LEN(old_rows);
    return n < 0 ? -1 : *at > 0 || n == old->most;
}
