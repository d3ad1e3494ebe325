/* SPDX-License-Identifier: Apache-2.0
 *
 * recovery_plans, plan_runs and plan_run_steps. A run's rows are changed by its job alone, which holds its own row meanwhile.
 */
#include "hub/db/plan_store.h"

#include <string.h>

#include "hub/db/news.h"
#include "hub/db/point_age.h"

#define BUMP ", version = version + 1, updated_at = now()"

static int ok(int rows)
{
    return rows < 0 ? -1 : 0;
}

static int name_taken(const char *name, struct err *err)
{
    if (err && err->code == ERR_EXISTS) {
        err_set(err, ERR_EXISTS, "a plan named %s exists", name);
        return err_hint(err, "Choose another name, or change the one that is there.");
    }
    return -1;
}

static int untouched(struct db_conn *conn, const char *id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, &db_plans, id, &set, err) < 0)
        return -1;
    err_set(err, ERR_CONFLICT, "plan %s was changed by somebody else", id);
    return err_hint(err, "Read it again, look at what changed, and repeat the change with its new version.");
}

int plan_create(struct db_conn *conn, const struct plan_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err,
            "INSERT INTO recovery_plans (name, description, document) VALUES ($1, $2, $3::jsonb) RETURNING id",
            DB_S(row->name), DB_S(row->description), DB_S(row->document_json)) < 0)
        return name_taken(row->name, err);
    strncpy(ret_id, db_text(r, 0, 0), IDENT_TEXT_SIZE - 1);
    ret_id[IDENT_TEXT_SIZE - 1] = '\0';
    return 0;
}

int plan_update(struct db_conn *conn, const struct plan_row *row, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE recovery_plans SET name = $2, description = $3, document = $4::jsonb" BUMP
        " WHERE id = $1 AND (version = $5::bigint OR $5::bigint = 0)",
        DB_S(row->id), DB_S(row->name), DB_S(row->description), DB_S(row->document_json), DB_U(if_version));

    if (n < 0)
        return name_taken(row->name, err);
    return n == 0 ? untouched(conn, row->id, err) : 0;
}

int plan_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err, "SELECT id FROM plan_runs WHERE plan_id = $1 AND state = 'running'", DB_S(id));

    if (n < 0)
        return -1;
    if (n > 0) {
        err_set(err, ERR_REFUSED, "a run of the plan goes on");
        return err_hint(err, "Wait for it or cancel it: leeward plan runs");
    }
    n = db_exec(conn, NULL, err,
        "DELETE FROM recovery_plans WHERE id = $1 AND (version = $2::bigint OR $2::bigint = 0)", DB_S(id),
        DB_U(if_version));
    return n < 0 ? -1 : n == 0 ? untouched(conn, id, err) : 0;
}

/* ---- runs ---- */

int plan_run_insert(struct db_conn *conn, const struct plan_run_put *put, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "INSERT INTO plan_runs (id, plan_id, plan_name, drill_id, kind, document, point, cleanup, options,"
        " predicted_usec, requested_by) VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9::jsonb, $10, $11)",
        DB_S(put->id), DB_ID(put->plan_id), DB_S(put->plan_name), DB_ID(put->drill_id), DB_S(put->kind),
        DB_S(put->document_json), DB_S(put->point), DB_B(put->cleanup), DB_S(put->options_json),
        DB_U(put->predicted_usec), DB_S(put->requested_by)));
}

int plan_run_step_insert(struct db_conn *conn, const char *run_id, const struct plan_run_step_put *put, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "INSERT INTO plan_run_steps (run_id, ordinal, name, group_name, type, state, machine_id, machine_name, "
        "target_id,"
        " sequence, predicted_usec, predicted_known, live) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
        " $13)",
        DB_S(run_id), DB_U(put->ordinal), DB_S(put->name), DB_S(put->group), DB_S(put->type),
        DB_S(plan_step_state_name(put->state)), DB_ID(put->machine_id), DB_S(put->machine_name), DB_ID(put->target_id),
        DB_U(put->sequence), DB_U(put->predicted_usec), DB_B(put->predicted_known),
        DB_B(put->machine_id && put->machine_id[0] && put->state == PLAN_STEP_PENDING));

    if (n < 0 && err && err->code == ERR_EXISTS) {
        err_set(err, ERR_REFUSED, "step %.60s: the machine %.60s is in another run that goes on", put->name,
            put->machine_name);
        return err_hint(err, "Wait for that run or cancel it: leeward plan runs");
    }
    return ok(n);
}

int plan_run_note_job(struct db_conn *conn, const char *run_id, const char *job_id, struct err *err)
{
    return ok(
        db_exec(conn, NULL, err, "UPDATE plan_runs SET job_id = $2" BUMP " WHERE id = $1", DB_S(run_id), DB_S(job_id)));
}

int plan_run_recovered(struct db_conn *conn, const char *run_id, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "UPDATE plan_runs SET recovered_at = coalesce(recovered_at, (SELECT max(finished_at) FROM plan_run_steps"
        " WHERE run_id = $1), now())" BUMP " WHERE id = $1",
        DB_S(run_id)));
}

int plan_run_end(struct db_conn *conn, const char *run_id, const char *state, const char *verdict,
    const char *verdict_text, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "UPDATE plan_runs SET state = $2, verdict = $3, verdict_text = $4, ended_at = now()" BUMP
            " WHERE id = $1 AND state = 'running'",
            DB_S(run_id), DB_S(state), DB_S(verdict), DB_S(verdict_text)) < 0)
        return -1;
    return ok(db_exec(conn, NULL, err,
        "UPDATE plan_run_steps SET live = false, state = CASE WHEN state IN ('pending', 'running', 'waiting_for_input')"
        " THEN 'cancelled' ELSE state END, finished_at = CASE WHEN state IN ('running', 'waiting_for_input') THEN now()"
        " ELSE finished_at END WHERE run_id = $1",
        DB_S(run_id)));
}

int plan_run_judge(
    struct db_conn *conn, const char *run_id, const char *verdict, const char *verdict_text, struct err *err)
{
    return ok(db_exec(conn, NULL, err, "UPDATE plan_runs SET verdict = $2, verdict_text = $3" BUMP " WHERE id = $1",
        DB_S(run_id), DB_S(verdict), DB_S(verdict_text)));
}

int plan_step_note(struct db_conn *conn, const struct plan_step_note *n, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "UPDATE plan_run_steps SET state = $3, detail = coalesce($4, detail),"
        " job_id = CASE WHEN $5::text IS NULL THEN job_id ELSE nullif($5, '')::uuid END,"
        " failover_id = CASE WHEN $6::text IS NULL THEN failover_id ELSE nullif($6, '')::uuid END,"
        " attempts = attempts + CASE WHEN $7 THEN 1 ELSE 0 END, timed_out = $8,"
        " started_at = CASE WHEN $7 THEN coalesce(started_at, now()) ELSE started_at END,"
        " attempt_at = CASE WHEN $7 THEN now() WHEN $9::bigint > 0 THEN now() + $9::bigint * interval '1 microsecond'"
        " ELSE attempt_at END,"
        " finished_at = CASE WHEN $10 THEN coalesce(finished_at, now()) ELSE finished_at END"
        " WHERE run_id = $1 AND ordinal = $2",
        DB_S(n->run_id), DB_U(n->ordinal), DB_S(plan_step_state_name(n->state)), DB_S(n->detail), DB_S(n->job_id),
        DB_S(n->failover_id), DB_B(n->new_attempt), DB_B(n->timed_out), DB_U(n->next_after_usec),
        DB_B(plan_step_state_is_over(n->state))));
}

int plan_look(struct db_conn *conn, const char *run_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT s.state, s.machine_id, s.target_id, s.sequence, s.job_id, s.failover_id, s.attempts, s.timed_out,"
        " coalesce(extract(epoch FROM now() - s.attempt_at) * 1000000, 0)::bigint, coalesce(j.status, ''),"
        " coalesce(nullif(j.problem_text, ''), j.waiting_for, ''), coalesce(j.result::text, '{}'),"
        " coalesce((SELECT t.title || CASE WHEN t.detail <> '' THEN ': ' || t.detail ELSE '' END FROM job_steps t"
        " WHERE t.job_id = j.id AND t.status IN ('running', 'waiting_for_input') ORDER BY t.ordinal LIMIT 1), ''),"
        " s.name FROM plan_run_steps s LEFT JOIN jobs j ON j.id = s.job_id WHERE s.run_id = $1 ORDER BY s.ordinal",
        DB_S(run_id));
}

int plan_point(struct db_conn *conn, const char *machine_id, const char *point, uint64_t *ret_sequence,
    uint64_t *ret_age_usec, struct err *err)
{
    bool latest = strcmp(point, "latest") == 0, app = strcmp(point, "latest_application") == 0;
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT p.sequence, greatest(" POINT_LOSS("m", "now()", "p.time") ", 0)::bigint"
        " FROM recovery_points p JOIN machines m ON m.id = p.machine_id WHERE p.machine_id = $1"
        " AND (NOT $2 OR p.kind = 'application') AND p.time <= coalesce($3::timestamptz, 'infinity')"
        " ORDER BY p.sequence DESC LIMIT 1",
        DB_S(machine_id), DB_B(app), DB_S(latest || app ? NULL : point));

    *ret_sequence = n > 0 ? db_u64(r, 0, 0) : 0;
    *ret_age_usec = n > 0 ? db_u64(r, 0, 1) : 0;
    return ok(n);
}

int plan_past(struct db_conn *conn, const char *plan_id, const char *step, const char *machine_id, const char *kind,
    uint64_t *ret_usec, size_t max, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT (extract(epoch FROM s.finished_at - s.started_at) * 1000000)::bigint FROM plan_run_steps s"
        " JOIN plan_runs r ON r.id = s.run_id WHERE r.plan_id = $1::uuid AND s.name = $2 AND s.state = 'succeeded'"
        " AND s.started_at IS NOT NULL ORDER BY (r.kind = $3) DESC, s.finished_at DESC LIMIT $4",
        DB_ID(plan_id), DB_S(step), DB_S(kind), DB_U(max));

    if (n == 0 && machine_id && machine_id[0]) {
        PQclear(r);
        r = NULL;
        n = db_exec(conn, &r, err,
            "SELECT (extract(epoch FROM running_at - requested_at) * 1000000)::bigint FROM failovers"
            " WHERE machine_id = $1 AND running_at IS NOT NULL ORDER BY (kind = $2) DESC, running_at DESC LIMIT $3",
            DB_S(machine_id), DB_S(kind), DB_U(max));
    }
    for (int i = 0; i < n; i++)
        ret_usec[i] = db_u64(r, i, 0);
    return n;
}

int plan_run_replicas(struct db_conn *conn, const char *run_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT f.id, f.machine_id, f.verdict FROM plan_run_steps s JOIN failovers f ON f.id = s.failover_id"
        " WHERE s.run_id = $1 AND f.state = 'running' ORDER BY f.running_at DESC, s.ordinal DESC",
        DB_S(run_id));
}

int plan_reprotected(struct db_conn *conn, const char *machine_id, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT id FROM failovers WHERE machine_id = $1 AND state = 'reprotected' ORDER BY created_at DESC LIMIT 1",
        DB_S(machine_id));

    strncpy(ret_id, n > 0 ? db_text(r, 0, 0) : "", IDENT_TEXT_SIZE - 1);
    ret_id[IDENT_TEXT_SIZE - 1] = '\0';
    return n;
}

int plan_savepoint(struct db_conn *conn, struct err *err)
{
    return ok(db_exec(conn, NULL, err, "SAVEPOINT plan"));
}

int plan_savepoint_undo(struct db_conn *conn, struct err *err)
{
    return ok(db_exec(conn, NULL, err, "ROLLBACK TO SAVEPOINT plan"));
}
