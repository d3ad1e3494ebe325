/* SPDX-License-Identifier: Apache-2.0
 *
 * One statement per role reads everything of nodes and vaults; machines are read in pages, each through indexes alone. What is made of whole tables
 * (drills) is read once for all pages.
 */
#include "hub/db/health_store.h"

#include <string.h>

#include "hub/db/alert_store.h"
#include "hub/db/placement_store.h"
#include "hub/db/point_age.h"
#include "hub/db/text_values.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define GOES_ON_USEC (3 * USEC_PER_SEC) /* others wait for 15 s, and a page of groups takes some of it */

#define TEXT_OF_(number) #number
#define TEXT_OF(number) TEXT_OF_(number)

#define USEC(interval) "(extract(epoch from " interval ") * 1000000)::bigint"

#define SILENT(t)                                                                                                      \
    "CASE WHEN " t ".online THEN 0 WHEN " t                                                                            \
    ".last_seen_at IS NULL THEN -1 ELSE " USEC("now() - " t ".last_seen_at") " END"

/* The first columns, the same for all; a certificate that was renewed counts by its newest. */
#define HEAD(t)                                                                                                        \
    "SELECT " t ".id, " t ".name, " t ".health, " t ".cause, " t                                                       \
    ".cause_values = '{}', coalesce(" USEC("x.not_after - now()") ", 0), " SILENT(t)

#define CERTIFICATE(t)                                                                                                 \
    " LEFT JOIN LATERAL (SELECT max(c.not_after) AS not_after FROM certificates c WHERE c.revoked_at IS NULL"          \
    " AND c.subject_id = " t ".id) x ON true"

/* The interval, and how long ago the last point of these kinds was, or protection began; 0, 0 where there is no interval. A point dated later than the machine's
 * clock may say now, by what it was ahead when it was last heard and a minute, was made while that clock was wrong: it would be the last one for years. */
#define SINCE(interval, kinds)                                                                                         \
    "coalesce(c." interval ", 0), CASE WHEN coalesce(c." interval ", 0) = 0 THEN 0 ELSE greatest(" USEC(               \
        "now() - greatest((SELECT max(r.time) - m.clock_skew_usec * interval '1 microsecond' FROM recovery_points r"   \
        " WHERE r.machine_id = m.id AND r.kind <> 'crash' AND r.kind IN (" kinds ")"                                   \
        " AND r.time <= now() + greatest(m.clock_skew_usec, 0) * interval '1 microsecond' + interval '1 minute'), "    \
        "p.enabled_at)") ", 0) END"

/* Where it is not foreseen, 0: greatest() would pass over the NULL. */
#define FULL_IN                                                                                                        \
    "CASE WHEN s.report->>'full_at' IS NULL THEN 0 ELSE greatest(" USEC(                                               \
        "(s.report->>'full_at')::timestamptz - now()") ", 1) END"

/* 0 where it is not held to anything. */
#define NO_POINT_FOR                                                                                                   \
    "CASE WHEN " RPO_COUNTS " THEN greatest(" POINT_LOSS("m", "now()", "m.last_point_at") ", 0)::bigint ELSE 0 END"
#define FILESYSTEM_POINT SINCE("filesystem_interval_usec", "'filesystem', 'application'")
#define APP_POINT SINCE("app_interval_usec", "'application'")

/* The columns that are no times. */
#define MACHINE_STATE                                                                                                  \
    "m.agent_state, m.agent_cause, m.agent_remedy, coalesce(n.online, false), coalesce(v.online, false),"              \
    " coalesce(v.accepting, true), m.last_point_sequence > 0, coalesce((i.report->>'damage_count')::bigint, 0),"       \
    " coalesce((i.report->>'damaged_points')::bigint, 0), EXISTS (SELECT 1 FROM events e WHERE e.machine_id = m.id"    \
    " AND e.code = 'looks_encrypted' AND coalesce(e.stored_at, e.at) > now() - interval '1 hour')"

#define MACHINE_TABLES                                                                                                 \
    " FROM (SELECT * FROM machines WHERE id > $1 ORDER BY id LIMIT " TEXT_OF(                                          \
        HEALTH_PAGE) ") m"                                                                                             \
                     " LEFT JOIN protections p ON p.machine_id = m.id AND p.active LEFT JOIN policies c ON c.id = "    \
                     "p.policy_id"                                                                                     \
                     " LEFT JOIN nodes n ON n.id = p.node_id LEFT JOIN vaults v ON v.id = p.vault_id"                  \
                     " LEFT JOIN integrity i ON i.machine_id = m.id AND i.vault_id = p.vault_id"

int health_machines(struct db_conn *conn, const char *after_id, PGresult **ret_rows, struct err *err)
{
    static const char sql[] =
        HEAD("m") ", m.state, " NO_POINT_FOR ", coalesce(c.rpo_target_usec, 0), m.clock_skew_usec, " MACHINE_STATE
                  ", " FILESYSTEM_POINT ", " APP_POINT MACHINE_TABLES CERTIFICATE("m") " ORDER BY m.id";

    return db_exec(conn, ret_rows, err, sql, DB_S(after_id));
}

int health_drills(struct db_conn *conn, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT machine_id, coalesce(greatest(" USEC("now() - overdue_at") ", 0), 0) FROM drill_machines"
                                                                           " ORDER BY machine_id::text COLLATE \"C\"");
}

int health_nodes(struct db_conn *conn, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        HEAD("t") ", t.spool_bytes, t.spool_limit_bytes, t.peer_cause, t.peer_remedy, t.clock_skew_usec FROM nodes "
                  "t" CERTIFICATE("t"));
}

int health_vaults(struct db_conn *conn, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        HEAD("t") ", t.accepting, t.free_bytes, t.capacity_bytes, " FULL_IN
                  ", t.peer_cause, t.peer_remedy, t.clock_skew_usec FROM vaults t"
                  " LEFT JOIN vault_space s ON s.vault_id = t.id" CERTIFICATE("t"));
}

#define MEMBERS "FROM consistency_group_members x JOIN machines m ON m.id = x.machine_id"

#define GROUP_PAGE "(SELECT * FROM consistency_groups WHERE id > $1 ORDER BY id LIMIT " TEXT_OF(HEALTH_GROUP_PAGE) ")"
/* Of the present list of members: what was said by another one tells nothing of this. */
#define HAS_NEWS "g.news_at >= l.since"
#define NEWS_AGE "CASE WHEN " HAS_NEWS " THEN " USEC("now() - g.news_at") " ELSE -1 END"

/* By the clock that dated it. */
#define LAST_GROUP_POINT                                                                                               \
    "(SELECT " POINT_LOSS("m", "now()", "r.time") " FROM machines m JOIN recovery_points r ON r.machine_id = m.id"     \
                                                  " AND r.group_point_id = group_last_point(g.number, g.membership, "  \
                                                  "l.machine_ids) WHERE m.id = l.machine_ids[1])"

/* Since the last one of the present list; without any, since the group that was late by another list lacks one, or since the list is there. Not asked for where none
 * is due. */
#define GROUP_POINT_AGE                                                                                                \
    "CASE WHEN g.interval_usec > 0 AND cardinality(l.machine_ids) > 1 THEN greatest(coalesce(" LAST_GROUP_POINT        \
    ", extract(epoch FROM now() - coalesce(CASE WHEN g.finding_code <> '' THEN g.late_since END, l.since)) * 1000000)" \
    ", 0)::bigint ELSE 0 END"
#define LIST_AGE "greatest(coalesce(" USEC("now() - greatest(l.since, g.interval_since)") ", 0), 0)"

/* A member that has no points of this protection yet (RPO_COUNTS). */
#define IN_FIRST_COPY                                                                                                  \
    "EXISTS (SELECT " MEMBERS " JOIN protections p ON p.machine_id = m.id AND p.active WHERE x.group_id = g.id"        \
    " AND (m.state = 'enabling' OR (m.state = 'initial_replication' AND NOT " RPO_COUNTS ")))"

/* Alerts that tell why points of a member do not come, and of which somebody was told. */
#define IS_TOLD                                                                                                        \
    "EXISTS (SELECT FROM alerts a WHERE a.state IN ('firing', 'acknowledged') AND ((a.subject_id = m.id AND a.code"    \
    " IN ('agent_silent', 'agent_error', 'rpo_not_met', 'source_fenced')) OR (a.subject_id = p.vault_id AND a.code"    \
    " IN ('vault_silent', 'vault_full')) OR (a.subject_id = p.node_id AND a.code = 'node_silent')))"

/* Not one of a clock that was wrong and is right again, as group_clock() has it. */
#define LAST_POINT                                                                                                     \
    "(SELECT max(r.time) FROM recovery_points r WHERE r.machine_id = m.id AND r.time <= now() + interval '1 minute'"   \
    " + greatest(" POINT_SKEW("m") ", 0) * interval '1 microsecond')"
/* A member that is not protected lacks points for no reason that an alert of its node or vault would give. */
#define TOLD_AGE                                                                                                       \
    "greatest((SELECT max(" POINT_LOSS("m", "now()",                                                                   \
        LAST_POINT) ") " MEMBERS " JOIN protections p"                                                                 \
                    " ON p.machine_id = m.id AND p.active WHERE x.group_id = g.id AND " IS_TOLD "), 0)::bigint"

/* One that cannot at all goes before one that is only not connected. */
#define ABSENT                                                                                                         \
    "(SELECT m.name, m.state " MEMBERS " WHERE x.group_id = g.id AND (m.state <> 'protected' OR NOT m.online)"         \
    " ORDER BY m.state = 'protected', x.position LIMIT 1)"

int health_groups(struct db_conn *conn, const char *after_id, PGresult **ret_rows, struct err *err)
{
    static const char sql[] =
        "SELECT g.id, g.name, g.finding_code, g.finding_cause, g.interval_usec,"
        " coalesce(cardinality(l.machine_ids), 0), " IN_FIRST_COPY ", " GROUP_POINT_AGE ", " LIST_AGE ", " TOLD_AGE
        ", coalesce(absent.name, ''), coalesce(absent.state, ''), " NEWS_AGE ", coalesce(g.last_missed AND " HAS_NEWS
        ", false), coalesce(c.name, ''), g.cause, g.remedy FROM " GROUP_PAGE
        " g LEFT JOIN consistency_group_lists l ON l.group_number = g.number AND l.membership = g.membership"
        " LEFT JOIN machines c ON c.id = g.culprit_id LEFT JOIN LATERAL " ABSENT " absent ON true ORDER BY g.id";

    return db_exec(conn, ret_rows, err, sql, DB_S(after_id));
}

int health_clocks(struct db_conn *conn, uint64_t *ret_peers, int64_t *ret_middle_usec, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err,
            /* BETWEEN: a clock that was set back leaves processes in the future that are gone */
            "SELECT CASE WHEN (SELECT count(*) FROM hub_processes WHERE seen_at BETWEEN "
            "now() - interval '15 seconds' AND now() + interval '15 seconds') = 1 "
            "THEN count(*) ELSE 0 END, coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY clock_skew_usec), 0) FROM ("
            "SELECT clock_skew_usec FROM machines WHERE online AND NOT simulated"
            " UNION ALL SELECT clock_skew_usec FROM nodes WHERE online AND NOT simulated"
            " UNION ALL SELECT clock_skew_usec FROM vaults WHERE online AND NOT simulated) peers") < 0)
        return -1;
    *ret_peers = db_u64(r, 0, 0);
    *ret_middle_usec = db_i64(r, 0, 1);
    return 0;
}

#define PUT(table)                                                                                                     \
    "UPDATE " table " SET health = $2, cause_code = $3, cause = $4, remedy = $5, cause_values = $6::jsonb,"            \
    " updated_at = now() WHERE id = $1"

/* Its level is made of the finding and of what the coordinator said (rows.c). The age in it is cut to seconds, and put a moment after it was found: what was stored for
 * this finding before is better, unless there has been a point since. */
static int put_group(struct db_conn *conn, const struct health_put *h, const char *values, struct err *err)
{
    return db_exec(conn, NULL, err,
               "UPDATE consistency_groups SET finding_code = $2, finding_cause = $3, finding_remedy = $4,"
               " finding_values = $5::jsonb, late_since = CASE WHEN $2 = '' THEN NULL"
               " WHEN late_since > n.at - interval '10 seconds' THEN late_since ELSE n.at END FROM (SELECT now()"
               " - (($5::jsonb->>'age_seconds')::float8 + 1) * interval '1 second' AS at) n WHERE id = $1",
               DB_S(h->id), DB_S(h->code), DB_S(h->cause), DB_S(h->remedy), DB_S(values)) < 0
               ? -1
               : 0;
}

int health_put(struct db_conn *conn, const struct health_put *h, struct err *err)
{
    static const struct {
        const char *role, *sql;
    } rows[] = {{"agent", PUT("machines")}, {"node", PUT("nodes")}, {"vault", PUT("vaults")}};
    AUTO_FREE char *values = text_values_dump(h->values);

    if (!values)
        return err_set(err, ERR_NOMEM, "no memory for a finding");
    if (strcmp(h->role, "group") == 0)
        return put_group(conn, h, values, err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].role, h->role) == 0)
            return db_exec(conn, NULL, err, rows[i].sql, DB_S(h->id), DB_S(h->level), DB_S(h->code), DB_S(h->cause),
                       DB_S(h->remedy), DB_S(values)) < 0
                       ? -1
                       : 0;
    return err_set(err, ERR_INVALID, "there is no role %.20s", h->role);
}

int hub_is_here(struct db_conn *conn, const char *instance, struct err *err)
{
    return db_exec(conn, NULL, err,
               "INSERT INTO hub_processes (process_id) VALUES ($1)"
               " ON CONFLICT (process_id) DO UPDATE SET seen_at = now()",
               DB_S(instance)) < 0
               ? -1
               : 0;
}

int sweep_goes_on(struct db_conn *conn, const char *instance, uint64_t *at_usec, uint64_t now_usec, struct err *err)
{
    if (now_usec - *at_usec < GOES_ON_USEC)
        return 0;
    *at_usec = now_usec;
    if (hub_is_here(conn, instance, err) < 0)
        return -1;
    return placement_watching(conn, err) < 0 ? -1 : alert_sweep_goes_on(conn, err);
}

int sweep_begin(struct db_conn *conn, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err, "SELECT pg_try_advisory_lock(5333276)") < 0)
        return -1;
    return db_bool(r, 0, 0);
}

void sweep_end(struct db_conn *conn)
{
    (void)db_exec(conn, NULL, NULL, "SELECT pg_advisory_unlock(5333276)");
}
