/* SPDX-License-Identifier: Apache-2.0
 *
 * SQL of jobs. A claim takes one row with SKIP LOCKED, so that any number of threads and hubs share the work without waiting
 * for each other.
 */
#include "hub/db/job_store.h"

#include <string.h>

#include "hub/db/news.h"

#define STEP_OPEN "('queued', 'running', 'waiting_for_input')"
/* Nobody who asks how long to wait is told more than this: clocks differ, notifications may be lost. */
#define WAIT_MAX "5000000"
/* A job that is due and cannot be had now: its lease is over, but somebody holds its row. */
#define DUE_AND_HELD_USEC 20000

/* Hubs look after their peers (placement_store.c): while none does, because all of them or the database were away or its clock has jumped, nobody's silence
 * counts; and not what lies before they began to look again. */
#define LOOKED_AFTER "(w.seen_at BETWEEN now() - interval '20 seconds' AND now() + interval '20 seconds')"

static int none_or_error(int rc)
{
    return rc < 0 ? -1 : 0;
}

/* Of jobs that exclude each other (jobs_exclusive, jobs_receiver) one is there already; any other error stays as it is. */
static int not_beside(struct err *err)
{
    if (!err || err->code != ERR_EXISTS)
        return -1;
    if (strstr(err->text, "jobs_receiver"))
        err_set(err, ERR_REFUSED, "the disks of that machine are being written by another job");
    else
        err_set(err, ERR_REFUSED, "the machine's protection is being changed, or it is moved, by another job");
    return err_hint(err, "Wait for that job or cancel it: leeward job list");
}

int job_store_insert(struct db_conn *conn, const struct job_insert *job, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    struct ident id;

    if (ident_random(&id) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
    ident_to_text(&id, ret_id);
    if (db_exec(conn, NULL, err,
            "INSERT INTO jobs (id, kind, machine_id, vault_id, params, requested_by, may_cancel)"
            " VALUES ($1, $2, $3, $4, coalesce($5, '{}')::jsonb, $6, $7)",
            DB_S(ret_id), DB_S(job->kind), DB_ID(job->machine_id), DB_ID(job->vault_id), DB_S(job->params_json),
            DB_S(job->requested_by ? job->requested_by : ""), DB_B(job->may_cancel)) < 0)
        return not_beside(err);
    for (size_t i = 0; i < job->step_count; i++)
        if (db_exec(conn, NULL, err, "INSERT INTO job_steps (job_id, ordinal, name, title) VALUES ($1, $2, $3, $4)",
                DB_S(ret_id), DB_U(i), DB_S(job->steps[i].name), DB_S(job->steps[i].title)) < 0)
            return -1;
    return news_tell(conn, NEWS_JOBS, err);
}

/* ---- claiming ---- */

void job_claim_done(struct job_claim *claim)
{
    PQclear(claim->result);
    PQclear(claim->step);
    *claim = (struct job_claim){0};
}

static int claim_step(struct db_conn *conn, struct job_claim *c, struct err *err)
{
    int n = db_exec(conn, &c->step, err,
        "UPDATE job_steps SET status = 'running', started_at = coalesce(started_at, now())"
        " WHERE job_id = $1 AND ordinal ="
        " (SELECT min(ordinal) FROM job_steps WHERE job_id = $1 AND status IN " STEP_OPEN ")"
        /* A clock that was set back: a step that begins in the future is not old. */
        " RETURNING ordinal, attempts + 1, greatest((extract(epoch from now() - started_at) * 1000000)::bigint, 0), "
        "name",
        DB_S(c->id));

    if (n < 0)
        return -1;
    c->ordinal = n ? db_u64(c->step, 0, 0) : c->step_count;
    c->attempts = n ? db_u64(c->step, 0, 1) : 0;
    c->step_age_usec = n ? db_u64(c->step, 0, 2) : 0;
    c->step_name = n ? db_text(c->step, 0, 3) : "";
    return 0;
}

/* The lease of a job that rests here is no hindrance. */
static int next_runnable(struct db_conn *conn, const char *hub_id, uint64_t *ret_wait_usec, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err,
            "SELECT coalesce(least(greatest(extract(epoch from least((SELECT greatest(run_after, lease_until) FROM jobs"
            " WHERE status IN ('queued', 'running') ORDER BY greatest(run_after, lease_until) LIMIT 1),"
            " (SELECT min(run_after) FROM jobs WHERE rests AND claimed_by = $1 AND status = 'running')) - now())"
            " * 1000000, 0), " WAIT_MAX ")::bigint, " WAIT_MAX ")",
            DB_S(hub_id)) < 0)
        return -1;
    *ret_wait_usec = db_u64(r, 0, 0) ? db_u64(r, 0, 0) + 1000 : DUE_AND_HELD_USEC;
    return 0;
}

/* What a hub does for a plan's step is not done twice at the same time because PostgreSQL was away for longer than a lease lasts: as long as the hub may be there
 * (it says so every five seconds, placement_store.c), and for ten seconds after hubs began to look again, a step that rests at it is its own. All else that rests
 * may be begun anew beside it. */
#define IS_ANOTHERS_ACT                                                                                                \
    "(rests AND kind = 'plan_action' AND claimed_by <> $1 AND (EXISTS (SELECT 1 FROM hub_processes h"                  \
    " WHERE h.process_id = claimed_by AND h.seen_at > now() - interval '25 seconds') OR NOT EXISTS (SELECT 1"          \
    " FROM placement_watch w WHERE " LOOKED_AFTER " AND w.since < now() - interval '10 seconds')))"

int job_store_claim(struct db_conn *conn, const char *hub_id, uint64_t lease_usec, struct job_claim *ret_claim,
    uint64_t *ret_wait_usec, struct err *err)
{
    struct job_claim c = {0};
    int n = db_exec(conn, &c.result, err,
        "UPDATE jobs SET claimed_by = $1, lease_until = now() + $2::bigint * interval '1 microsecond', rests = false,"
        " status = 'running', started_at = coalesce(started_at, now()), updated_at = now()"
        " WHERE id = (SELECT id FROM jobs WHERE status IN ('queued', 'running') AND run_after <= now()"
        " AND (lease_until IS NULL OR (lease_until < now() AND NOT " IS_ANOTHERS_ACT ") OR (rests AND claimed_by = $1))"
        " ORDER BY run_after LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)"
        " RETURNING id, kind, machine_id, vault_id, params::text, state::text, requested_by, answer, cancel_requested,"
        " (SELECT count(*) FROM job_steps s WHERE s.job_id = jobs.id), lease_until::text",
        DB_S(hub_id), DB_U(lease_usec));

    if (n < 0)
        return -1;
    if (n == 0) {
        PQclear(c.result);
        return none_or_error(next_runnable(conn, hub_id, ret_wait_usec, err));
    }
    c.id = db_text(c.result, 0, 0);
    c.kind = db_text(c.result, 0, 1);
    c.machine_id = db_text(c.result, 0, 2);
    c.vault_id = db_text(c.result, 0, 3);
    c.params_json = db_text(c.result, 0, 4);
    c.state_json = db_text(c.result, 0, 5);
    c.requested_by = db_text(c.result, 0, 6);
    c.answer = db_text(c.result, 0, 7);
    c.cancel_requested = db_bool(c.result, 0, 8);
    c.step_count = db_u64(c.result, 0, 9);
    c.lease = db_text(c.result, 0, 10);
    if (claim_step(conn, &c, err) < 0) {
        job_claim_done(&c);
        return -1;
    }
    *ret_claim = c;
    return 1;
}

int job_store_hold(struct db_conn *conn, const char *hub_id, struct job_claim *claim, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT cancel_requested FROM jobs WHERE id = $1 AND claimed_by = $2 AND lease_until = $3::timestamptz"
        " AND NOT rests AND status = 'running' FOR NO KEY UPDATE",
        DB_S(claim->id), DB_S(hub_id), DB_S(claim->lease));

    if (n > 0)
        claim->cancel_requested = db_bool(r, 0, 0);
    return n;
}

int job_store_let_go(struct db_conn *conn, const char *hub_id, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE jobs SET lease_until = NULL, rests = false, run_after = now() WHERE rests AND claimed_by = $1",
        DB_S(hub_id));

    return n <= 0 ? n : news_tell(conn, NEWS_JOBS, err);
}

int job_store_let_go_of_dead(struct db_conn *conn, const char *hub_id, struct err *err)
{
    int n;

    if (db_exec(conn, NULL, err, "DELETE FROM hub_processes WHERE process_id = $1", DB_S(hub_id)) < 0)
        return -1;
    n = db_exec(conn, NULL, err,
        "UPDATE jobs SET lease_until = NULL WHERE id IN (SELECT id FROM jobs WHERE claimed_by = $1 AND NOT rests"
        " AND status = 'running' AND lease_until IS NOT NULL FOR NO KEY UPDATE SKIP LOCKED)",
        DB_S(hub_id));

    return n <= 0 ? n : news_tell(conn, NEWS_JOBS, err);
}

/* ---- steps ---- */

static int job_progress(struct db_conn *conn, const struct job_progress *p, uint64_t done_steps, unsigned step_permille,
    const char *status, struct err *err)
{
    uint64_t permille = p->step_count ? (done_steps * 1000 + step_permille) / p->step_count : 0;

    return db_exec(conn, NULL, err,
               "UPDATE jobs SET state = $2::jsonb, progress_permille = $3, status = $4, waiting_for = $5,"
               " run_after = now() + $6::bigint * interval '1 microsecond', rests = $7::bigint > 0,"
               " answer = CASE WHEN $8 THEN answer ELSE '' END," /* a look that failed has not taken it up */
               " lease_until = CASE WHEN $7::bigint > 0 THEN now() + $7::bigint * interval '1 microsecond' END,"
               " updated_at = now() WHERE id = $1",
               DB_S(p->job_id), DB_S(p->state_json), DB_U(permille > 1000 ? 1000 : permille), DB_S(status),
               DB_S(p->question ? p->question : ""), DB_U(p->again_usec), DB_U(p->keep_usec), DB_B(p->failed)) < 0
               ? -1
               : 0;
}

static int step_set(
    struct db_conn *conn, const struct job_progress *p, const char *status, unsigned permille, struct err *err)
{
    return db_exec(conn, NULL, err,
               "UPDATE job_steps SET status = $3, detail = $4, progress_permille = $5,"
               " attempts = CASE WHEN $6 THEN attempts + 1 ELSE 0 END,"
               " finished_at = CASE WHEN $3 = 'succeeded' THEN now() END WHERE job_id = $1 AND ordinal = $2",
               DB_S(p->job_id), DB_U(p->ordinal), DB_S(status), DB_S(p->detail ? p->detail : ""), DB_U(permille),
               DB_B(p->failed)) < 0
               ? -1
               : 0;
}

int job_store_step_begun(struct db_conn *conn, const char *job_id, const char *name, struct err *err)
{
    return db_exec(conn, NULL, err,
        "SELECT 1 FROM job_steps WHERE job_id = $1 AND name = $2 AND started_at IS NOT NULL", DB_S(job_id), DB_S(name));
}

int job_store_step_succeeded(struct db_conn *conn, const char *job_id, const char *name, struct err *err)
{
    return db_exec(conn, NULL, err, "SELECT 1 FROM job_steps WHERE job_id = $1 AND name = $2 AND status = 'succeeded'",
        DB_S(job_id), DB_S(name));
}

int job_store_step_done(struct db_conn *conn, const struct job_progress *p, struct err *err)
{
    if (step_set(conn, p, "succeeded", 1000, err) < 0 || job_progress(conn, p, p->ordinal + 1, 0, "running", err) < 0)
        return -1;
    return news_tell(conn, NEWS_JOBS, err);
}

int job_store_again(struct db_conn *conn, const struct job_progress *p, struct err *err)
{
    if (step_set(conn, p, "running", p->progress_permille, err) < 0)
        return -1;
    return job_progress(conn, p, p->ordinal, p->progress_permille, "running", err);
}

int job_store_ask(struct db_conn *conn, const struct job_progress *p, struct err *err)
{
    if (step_set(conn, p, "waiting_for_input", p->progress_permille, err) < 0 ||
        job_progress(conn, p, p->ordinal, p->progress_permille, "waiting_for_input", err) < 0)
        return -1;
    return news_tell(conn, NEWS_JOBS, err);
}

int job_store_finish(struct db_conn *conn, const char *job_id, const char *status, const char *result_json,
    const struct err *why, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "UPDATE jobs SET status = $2, result = $3::jsonb, problem_code = $4, problem_text = $5,"
            " problem_correction = $6, progress_permille = CASE WHEN $2 = 'succeeded' THEN 1000 ELSE progress_permille"
            " END, may_cancel = false, lease_until = NULL, rests = false, waiting_for = '', finished_at = now(), "
            "updated_at = now(),"
            " version = version + 1 WHERE id = $1",
            DB_S(job_id), DB_S(status), DB_S(result_json), DB_S(why ? err_code_name(why->code) : ""),
            DB_S(why ? why->text : ""), DB_S(why ? why->correction : "")) < 0 ||
        db_exec(conn, NULL, err,
            "UPDATE job_steps SET finished_at = now(), problem_text = CASE WHEN status = 'queued' THEN '' ELSE $3 END,"
            " status = CASE WHEN $2 = 'succeeded' THEN 'skipped' WHEN $2 = 'failed' AND status <> 'queued' THEN "
            "'failed'"
            " ELSE 'cancelled' END WHERE job_id = $1 AND status IN " STEP_OPEN,
            DB_S(job_id), DB_S(status), DB_S(why ? why->text : "")) < 0)
        return -1;
    return news_tell(conn, NEWS_JOBS, err);
}

int job_store_log(struct db_conn *conn, const char *job_id, const char *level, const char *text, struct err *err)
{
    return none_or_error(db_exec(conn, NULL, err, "INSERT INTO job_log (job_id, level, text) VALUES ($1, $2, $3)",
        DB_S(job_id), DB_S(level), DB_S(text)));
}

int job_store_cancel(struct db_conn *conn, const char *id, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE jobs SET cancel_requested = true, run_after = now(), updated_at = now(), version = version + 1,"
        " status = CASE WHEN status = 'waiting_for_input' THEN 'running' ELSE status END"
        " WHERE id = $1 AND may_cancel AND status IN ('queued', 'running', 'waiting_for_input')",
        DB_S(id));

    return n <= 0 ? n : news_tell(conn, NEWS_JOBS, err) < 0 ? -1 : 1;
}

int job_store_answer(struct db_conn *conn, const char *id, const char *answer, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE jobs SET answer = $2, status = 'running', waiting_for = '', run_after = now(), updated_at = now(),"
        " version = version + 1 WHERE id = $1 AND status = 'waiting_for_input'",
        DB_S(id), DB_S(answer));

    return n <= 0 ? n : news_tell(conn, NEWS_JOBS, err) < 0 ? -1 : 1;
}

int job_store_wake_machine(struct db_conn *conn, const char *machine_id, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE jobs SET run_after = now() WHERE machine_id = $1 AND status = 'running' AND (lease_until IS NULL OR "
        "rests)",
        DB_S(machine_id));

    return n <= 0 ? n : news_tell(conn, NEWS_JOBS, err);
}

int job_store_try_undo(struct db_conn *conn, struct err *err)
{
    return none_or_error(db_exec(conn, NULL, err, "SAVEPOINT undo"));
}

int job_store_undo_refused(struct db_conn *conn, struct err *err)
{
    return none_or_error(db_exec(conn, NULL, err, "ROLLBACK TO SAVEPOINT undo"));
}

/* ---- commands ---- */

int command_look(
    struct db_conn *conn, const char *job_id, uint64_t ordinal, struct command_state *ret_state, struct err *err)
{
    PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT done, progress_permille, code, text, correction, coalesce(result::text, '{}'),"
        " coalesce(p.online, false), CASE WHEN p.online OR NOT " LOOKED_AFTER " THEN 0 ELSE"
        " greatest(extract(epoch from now() - greatest(c.created_at, p.last_seen_at, w.since)) * 1000000, 0) "
        "END::bigint"
        " FROM commands c CROSS JOIN placement_watch w LEFT JOIN LATERAL ("
        "SELECT online, last_seen_at FROM machines WHERE id = c.target_id UNION ALL"
        " SELECT online, last_seen_at FROM nodes WHERE id = c.target_id UNION ALL"
        " SELECT online, last_seen_at FROM vaults WHERE id = c.target_id) p ON true"
        " WHERE c.job_id = $1 AND c.ordinal = $2",
        DB_S(job_id), DB_U(ordinal));

    if (n <= 0) {
        PQclear(r);
        return n;
    }
    *ret_state = (struct command_state){.done = db_bool(r, 0, 0),
        .progress_permille = (unsigned)db_u64(r, 0, 1),
        .code = db_text(r, 0, 2),
        .text = db_text(r, 0, 3),
        .correction = db_text(r, 0, 4),
        .result_json = db_text(r, 0, 5),
        .target_online = db_bool(r, 0, 6),
        .gone_usec = db_u64(r, 0, 7),
        .result = r};
    return 1;
}

int command_queue(struct db_conn *conn, const struct command_put *c, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "INSERT INTO commands (id, job_id, ordinal, target_role, target_id, payload)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (job_id, ordinal) DO NOTHING",
            DB_S(c->id), DB_S(c->job_id), DB_U(c->ordinal), DB_S(c->target_role), DB_S(c->target_id),
            DB_X(c->payload, c->payload_len)) < 0)
        return -1;
    return news_tell(conn, NEWS_COMMANDS, err);
}

int command_open_list(struct db_conn *conn, const char *target_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT c.id, c.target_role, c.target_id, c.payload FROM commands c JOIN jobs j ON j.id = c.job_id"
        " WHERE NOT c.done AND ($1::uuid IS NULL OR c.target_id = $1::uuid)"
        " AND (j.status IN ('queued', 'running', 'waiting_for_input')"
        " OR (c.ordinal >= $2::bigint AND c.created_at > now() - interval '1 day')) ORDER BY c.created_at",
        DB_ID(target_id), DB_U(COMMAND_UNDO_ORDINAL));
}

int command_note(struct db_conn *conn, const struct command_outcome *o, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "UPDATE commands SET done = $3, progress_permille = least($4::bigint, 1000), code = $5, text = $6,"
        " correction = $7, result = nullif($8, '')::jsonb, updated_at = now()"
        " WHERE id = $1 AND target_id = $2 AND NOT done RETURNING job_id",
        DB_S(o->id), DB_S(o->target_id), DB_B(o->done), DB_U(o->progress_permille), DB_S(o->code), DB_S(o->text),
        DB_S(o->correction), DB_S(o->result_json));

    if (n <= 0)
        return n;
    if (db_exec(conn, NULL, err, "UPDATE jobs SET run_after = now() WHERE id = $1", DB_S(db_text(r, 0, 0))) < 0 ||
        news_tell(conn, NEWS_JOBS, err) < 0)
        return -1;
    return 1;
}
