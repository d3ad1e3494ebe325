/* SPDX-License-Identifier: Apache-2.0
 *
 * One statement stores a batch in all three grains: a batch counts in all of them or in none.
 */
#include "hub/db/history_store.h"

#include "transport/base/mem.h"

static const struct grain {
    uint32_t step_sec;
    uint32_t kept_days;
} grains[] = {{HISTORY_MINUTE_SEC, 3}, {HISTORY_HOUR_SEC, 60}, {HISTORY_DAY_SEC, 1826}};

uint64_t history_kept_sec(uint32_t step_sec)
{
    for (size_t i = 0; i < ARRAY_LEN(grains); i++)
        if (grains[i].step_sec == step_sec)
            return grains[i].kept_days * 86400ULL;
    return 0;
}

#define SUMS(t)                                                                                                        \
    " rpo_max_usec = greatest(" t ".rpo_max_usec, excluded.rpo_max_usec),"                                             \
    " rpo_sum_usec = " t ".rpo_sum_usec + excluded.rpo_sum_usec, rpo_count = " t ".rpo_count + excluded.rpo_count,"    \
    " changed_bytes = " t ".changed_bytes + excluded.changed_bytes,"                                                   \
    " sent_bytes = " t ".sent_bytes + excluded.sent_bytes, points = " t ".points + excluded.points,"                   \
    " frozen_points = " t ".frozen_points + excluded.frozen_points,"                                                   \
    " backlog_bytes = greatest(" t ".backlog_bytes, excluded.backlog_bytes)"

#define COLUMNS "rpo_max_usec, rpo_sum_usec, rpo_count, changed_bytes, sent_bytes, points, frozen_points, backlog_bytes"

#define AGGREGATES                                                                                                     \
    "max(s.rpo_max_usec), sum(s.rpo_sum_usec), sum(s.rpo_count), sum(s.changed_bytes), sum(s.sent_bytes), "            \
    "sum(s.points),"                                                                                                   \
    " sum(s.frozen_points), max(s.backlog_bytes)"

/* Sorted, so that two hubs that write at the same moment lock the rows in the same order. */
int history_put(struct db_conn *conn, const char *json, struct err *err)
{
    static const char sql[] =
        "WITH s AS (SELECT r.*, timestamptz 'epoch' + r.minute_usec * interval '1 microsecond' AS minute"
        " FROM jsonb_to_recordset($1::jsonb) AS r(id uuid, minute_usec bigint, rpo_max_usec bigint,"
        " rpo_sum_usec numeric, rpo_count bigint, changed_bytes bigint, sent_bytes bigint, points bigint,"
        " frozen_points bigint, backlog_bytes bigint) JOIN machines m ON m.id = r.id),"
        " fine AS (INSERT INTO samples (machine_id, minute, " COLUMNS ") SELECT s.id, s.minute, " AGGREGATES
        " FROM s GROUP BY 1, 2 ORDER BY 1, 2 ON CONFLICT (machine_id, minute) DO UPDATE SET" SUMS(
            "samples") ")"
                       " INSERT INTO sample_rollups (machine_id, step_sec, start, " COLUMNS ") SELECT s.id, t.step,"
                       " to_timestamp(floor(extract(epoch FROM s.minute) / t.step) * t.step), " AGGREGATES
                       " FROM s, (VALUES (3600), (86400)) AS t(step) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
                       " ON CONFLICT (machine_id, step_sec, start) DO UPDATE SET" SUMS("sample_rollups");

    return db_exec(conn, NULL, err, sql, DB_S(json)) < 0 ? -1 : 0;
}

#define READ(start)                                                                                                    \
    "SELECT extract(epoch FROM " start ")::bigint, rpo_max_usec, (rpo_sum_usec / greatest(rpo_count, 1))::bigint,"     \
    " changed_bytes, sent_bytes, backlog_bytes, points, frozen_points"

int history_read(struct db_conn *conn, const struct history_range *q, PGresult **ret_rows, struct err *err)
{
    if (q->step_sec == HISTORY_MINUTE_SEC)
        return db_exec(conn, ret_rows, err,
            READ("minute") " FROM samples WHERE machine_id = $1 AND minute >= $2 AND minute < $3 ORDER BY minute",
            DB_S(q->machine_id), DB_T(q->from_utc_usec), DB_T(q->to_utc_usec));
    return db_exec(conn, ret_rows, err,
        READ("start") " FROM sample_rollups WHERE machine_id = $1 AND step_sec = $4::integer AND start >= $2"
                      " AND start < $3 ORDER BY start",
        DB_S(q->machine_id), DB_T(q->from_utc_usec), DB_T(q->to_utc_usec), DB_U(q->step_sec));
}
