/* SPDX-License-Identifier: Apache-2.0
 *
 * drill_schedules. Whoever starts a drill holds its row meanwhile, and skips those that somebody else holds.
 */
#include "hub/db/drill_store.h"

#include <string.h>

#define BUMP ", version = version + 1, updated_at = now()"
#define IS_DUE                                                                                                         \
    "enabled AND (next_try_at IS NULL OR next_try_at <= now())"                                                        \
    " AND (last_started_at IS NULL OR last_started_at + interval_usec * interval '1 microsecond' <= now())"

static int ok(int rows)
{
    return rows < 0 ? -1 : 0;
}

static int explain(const char *name, struct err *err)
{
    if (err && err->code == ERR_EXISTS) {
        err_set(err, ERR_EXISTS, "a drill named %s exists", name);
        return err_hint(err, "Choose another name, or change the one that is there.");
    }
    if (err && err->code == ERR_INVALID) {
        err_set(err, ERR_INVALID, "overdue_after_seconds: shorter than the interval");
        return err_hint(err, "It is overdue when its time came and went: choose more than the interval.");
    }
    return -1;
}

static int untouched(struct db_conn *conn, const char *id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, &db_drills, id, &set, err) < 0)
        return -1;
    err_set(err, ERR_CONFLICT, "drill %s was changed by somebody else", id);
    return err_hint(err, "Read it again, look at what changed, and repeat the change with its new version.");
}

static int check_zone(struct db_conn *conn, const char *zone, struct err *err)
{
    int n = db_exec(conn, NULL, err, "SELECT 1 FROM pg_timezone_names WHERE name = $1", DB_S(zone));

    if (n != 0)
        return ok(n);
    err_set(err, ERR_INVALID, "time_zone: there is no time zone %.60s", zone);
    return err_hint(err, "A name such as Europe/Stockholm, or UTC.");
}

int drill_create(struct db_conn *conn, const struct drill_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (check_zone(conn, row->time_zone, err) < 0)
        return -1;
    if (db_exec(conn, &r, err,
            "INSERT INTO drill_schedules (name, enabled, plan_id, policy_id, interval_usec, overdue_after_usec, "
            "window_hours,"
            " time_zone, target_id, options) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb) RETURNING id",
            DB_S(row->name), DB_B(row->enabled), DB_ID(row->plan_id), DB_ID(row->policy_id), DB_U(row->interval_usec),
            DB_U(row->overdue_after_usec), DB_S(row->window), DB_S(row->time_zone), DB_ID(row->target_id),
            DB_S(row->options_json)) < 0)
        return explain(row->name, err);
    strncpy(ret_id, db_text(r, 0, 0), IDENT_TEXT_SIZE - 1);
    ret_id[IDENT_TEXT_SIZE - 1] = '\0';
    return 0;
}

int drill_update(struct db_conn *conn, const struct drill_row *row, uint64_t if_version, struct err *err)
{
    int n;

    if (check_zone(conn, row->time_zone, err) < 0)
        return -1;
    n = db_exec(conn, NULL, err,
        "UPDATE drill_schedules SET name = $2, enabled = $3, interval_usec = $4, overdue_after_usec = $5, window_hours "
        "= $6,"
        " time_zone = $7, target_id = $8, options = $9::jsonb, next_try_at = NULL" BUMP
        " WHERE id = $1 AND (version = $10::bigint OR $10::bigint = 0)",
        DB_S(row->id), DB_S(row->name), DB_B(row->enabled), DB_U(row->interval_usec), DB_U(row->overdue_after_usec),
        DB_S(row->window), DB_S(row->time_zone), DB_ID(row->target_id), DB_S(row->options_json), DB_U(if_version));
    if (n < 0)
        return explain(row->name, err);
    return n == 0 ? untouched(conn, row->id, err) : 0;
}

int drill_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "DELETE FROM drill_schedules WHERE id = $1 AND (version = $2::bigint OR $2::bigint = 0)", DB_S(id),
        DB_U(if_version));

    return n < 0 ? -1 : n == 0 ? untouched(conn, id, err) : 0;
}

int drill_due(struct db_conn *conn, PGresult **ret_rows, struct err *err)
{
    return db_exec(
        conn, ret_rows, err, "SELECT id FROM drill_schedules WHERE " IS_DUE " ORDER BY last_started_at NULLS FIRST");
}

int drill_take(struct db_conn *conn, const char *id, struct drill_moment *ret_moment, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT (extract(isodow FROM now() AT TIME ZONE time_zone) - 1)::bigint,"
        " (extract(hour FROM now() AT TIME ZONE time_zone) * 60 + extract(minute FROM now() AT TIME ZONE "
        "time_zone))::bigint,"
        " interval_usec, coalesce(extract(epoch FROM last_started_at) * 1000000, 0)::bigint,"
        " (extract(epoch FROM now()) * 1000000)::bigint FROM drill_schedules WHERE id = $1 AND " IS_DUE
        " FOR UPDATE SKIP LOCKED",
        DB_S(id));

    if (n <= 0)
        return n;
    *ret_moment = (struct drill_moment){.day = (unsigned)db_u64(r, 0, 0),
        .minute = (unsigned)db_u64(r, 0, 1),
        .interval_usec = db_u64(r, 0, 2),
        .last_start_usec = db_u64(r, 0, 3),
        .now_usec = db_u64(r, 0, 4)};
    return 1;
}

int drill_note_start(struct db_conn *conn, const char *id, const char *run_id, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "UPDATE drill_schedules SET last_started_at = now(), last_run_id = $2, last_problem = '', next_try_at = NULL"
        " WHERE id = $1",
        DB_S(id), DB_S(run_id)));
}

int drill_note_problem(struct db_conn *conn, const char *id, const char *problem, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "WITH old AS (SELECT last_problem FROM drill_schedules WHERE id = $1)"
        " UPDATE drill_schedules SET last_problem = $2, next_try_at = now() + least(interval_usec / 4, 300000000)"
        " * interval '1 microsecond' WHERE id = $1 RETURNING (SELECT last_problem FROM old) <> $2",
        DB_S(id), DB_S(problem));

    return n <= 0 ? n : db_bool(r, 0, 0);
}

int drill_policy_machines(struct db_conn *conn, const char *policy_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT m.name FROM protections p JOIN machines m ON m.id = p.machine_id"
        " LEFT JOIN drill_machines d ON d.machine_id = m.id WHERE p.policy_id = $1 AND p.active AND m.state = "
        "'protected'"
        " AND NOT m.simulated AND EXISTS (SELECT 1 FROM recovery_points r WHERE r.machine_id = m.id)"
        " AND NOT EXISTS (SELECT 1 FROM plan_run_steps s WHERE s.machine_id = m.id AND s.live)"
        " ORDER BY d.last_good_at NULLS FIRST, m.name LIMIT 256",
        DB_S(policy_id));
}
