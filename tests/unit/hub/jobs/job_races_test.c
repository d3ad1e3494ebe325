/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs between two moments: a hub whose lease runs out while it waits, a question that is answered when PostgreSQL gives the look up, a job that is
 * asked to stop while somebody has it in hand, a peer that is gone for a moment. PostgreSQL's own triggers and locks hold the moment still.
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/db/clock_store.h"
#include "hub/db/job_store.h"
#include "hub/jobs/job.h"
#include "hub/jobs/job_runner.h"
#include "tests/unit/hub/postgres_fixture.h"

#define HUB_A "aaaaaaaa-0000-4000-8000-000000000001"
#define HUB_B "bbbbbbbb-0000-4000-8000-000000000002"
#define VAULT "33333333-0000-4000-8000-000000000001"
#define LOOKS 2000

static void submit(struct db_conn *conn, const char *kind, const char *params, char id[IDENT_TEXT_SIZE])
{
    const struct job_spec spec = {.kind = kind, .params_json = params, .requested_by = "token:test"};
    struct err err = ERR_INIT;

    fixture_script(
        conn, "DROP TRIGGER IF EXISTS moment ON jobs; DROP TRIGGER IF EXISTS moment ON job_steps; DELETE FROM jobs");
    assert_ok(job_submit(conn, &spec, false, id, &err), &err);
}

/* One look by that hub; what the look itself comes to is in the job. */
static void look(struct db_conn *conn, const char *hub)
{
    struct err err = ERR_INIT;
    uint64_t wait;

    fixture_script(conn, "UPDATE jobs SET run_after = now() WHERE status = 'running'");
    assert_int_equal(job_run_one(conn, hub, &wait, &err), 1);
}

static void assert_job(struct db_conn *conn, const char *id, const char *status)
{
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;

    assert_ok(db_need(conn, &db_jobs, id, &set, &err), &err);
    if (strcmp(db_at(&set, struct job_row, 0)->status, status) != 0)
        fail_msg(
            "the job is %s: %s", db_at(&set, struct job_row, 0)->status, db_at(&set, struct job_row, 0)->problem_text);
}

/* A trigger of that name, when and where. */
static void hold_moment(struct db_conn *conn, const char *when, const char *body)
{
    AUTO_FREE char *sql = mem_printf(
        "CREATE OR REPLACE FUNCTION moment() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s RETURN NEW; END $$;"
        " CREATE TRIGGER moment %s EXECUTE FUNCTION moment()",
        body, when);

    assert_non_null(sql);
    fixture_script(conn, sql);
}

/* ---- a hub that is slow ---- */

struct side {
    struct db_conn *conn;
    const char *sql; /* NULL: a look by hub A */
    pthread_t thread;
};

static void *side_main(void *arg)
{
    struct side *s = arg;
    struct err err = ERR_INIT;
    uint64_t wait;

    if (s->sql)
        assert_ok(db_script(s->conn, s->sql, &err), &err);
    else
        (void)job_run_one(s->conn, HUB_A, &wait, &err);
    return NULL;
}

static void begin(struct side *s)
{
    assert_int_equal(pthread_create(&s->thread, NULL, side_main, s), 0);
}

static void wait_for(struct db_conn *conn, const char *query)
{
    struct err err = ERR_INIT;
    int n = 0;

    for (int i = 0; i < LOOKS && n == 0; i++) {
        n = db_exec(conn, NULL, &err, query);
        assert_ok(n, &err);
        (void)poll(NULL, 0, 5);
    }
    assert_true(n > 0);
}

/* PostgreSQL gives up the look of hub A, whose lease is over by then: before A has written that down, B takes the job and ends it. What A writes is of
 * yesterday then; or A has locked the job once more, and B comes after it. */
static void test_the_failure_of_a_hub_whose_lease_ran_out_changes_nothing(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct db_conn *conn_a AUTO_OF(db_conn) = fixture_conn(state);
    struct db_conn *conn_b AUTO_OF(db_conn) = fixture_conn(state);
    struct side a = {.conn = conn_a};
    struct side b = {
        .conn = conn_b, .sql = "UPDATE jobs SET claimed_by = '" HUB_B "', status = 'succeeded', lease_until = NULL"};
    char id[IDENT_TEXT_SIZE];

    submit(conn, "plan_gate", "{\"question\":\"on?\"}", id);
    hold_moment(conn, "BEFORE UPDATE ON job_steps FOR EACH ROW WHEN (NEW.detail <> '' OR NEW.status <> 'running')",
        "IF NEW.detail = '' THEN RAISE EXCEPTION 'given up' USING ERRCODE = '40001'; END IF;"
        " PERFORM pg_advisory_xact_lock_shared(1);");
    fixture_script(conn, "SELECT pg_advisory_lock(1)");
    begin(&a);
    wait_for(conn, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
    begin(&b);
    wait_for(conn, "SELECT 1 FROM jobs WHERE status = 'succeeded' UNION ALL"
                   " SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted");
    fixture_script(conn, "SELECT pg_advisory_unlock(1)");
    pthread_join(a.thread, NULL);
    pthread_join(b.thread, NULL);
    assert_job(conn, id, "succeeded");
}

/* ---- answers and cancelling ---- */

static void answer(struct db_conn *conn, const char *id, const char *text)
{
    struct err err = ERR_INIT;

    assert_ok(job_answer(conn, id, text, "token:test", &err), &err);
}

/* The look that would have taken the answer up is given up for another transaction's sake. */
static void answer_and_fail_once(struct db_conn *conn, const char *text, char id[IDENT_TEXT_SIZE])
{
    submit(conn, "plan_gate", "{\"question\":\"on?\"}", id);
    look(conn, HUB_A);
    assert_job(conn, id, "waiting_for_input");
    answer(conn, id, text);
    hold_moment(conn, "BEFORE UPDATE ON job_steps FOR EACH ROW WHEN (NEW.status IN ('succeeded', 'cancelled'))",
        "RAISE EXCEPTION 'given up' USING ERRCODE = '40P01';");
    look(conn, HUB_A);
    assert_job(conn, id, "running");
    fixture_script(conn, "DROP TRIGGER moment ON job_steps");
    look(conn, HUB_A);
}

static void test_an_answer_outlives_a_look_that_is_given_up(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char id[IDENT_TEXT_SIZE];

    answer_and_fail_once(conn, "continue", id);
    assert_job(conn, id, "succeeded");
    answer_and_fail_once(conn, "abort", id);
    assert_job(conn, id, "cancelled");
}

static void test_a_question_is_answered_once(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];

    submit(conn, "plan_gate", "{\"question\":\"on?\"}", id);
    look(conn, HUB_A);
    answer(conn, id, "continue");
    assert_int_equal(job_answer(conn, id, "abort", "token:other", &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    look(conn, HUB_A);
    assert_job(conn, id, "succeeded");
}

/* Asked to stop after a thread has taken the job in hand, and before it locks it. */
static void test_a_job_that_is_asked_to_stop_in_time_does_not_succeed(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char id[IDENT_TEXT_SIZE];

    submit(conn, "plan_gate", "{\"question\":\"on?\"}", id);
    look(conn, HUB_A);
    answer(conn, id, "continue");
    hold_moment(conn,
        "AFTER UPDATE ON jobs FOR EACH ROW WHEN (NEW.lease_until IS NOT NULL AND NOT NEW.cancel_requested)",
        "UPDATE jobs SET cancel_requested = true WHERE id = NEW.id;");
    look(conn, HUB_A);
    assert_job(conn, id, "cancelled");
}

/* A script of a plan runs at hub A while PostgreSQL is away, which is for longer than a lease lasts. Nobody begins it beside A as long as A may be there. */
static void test_a_step_of_a_plan_is_left_to_the_hub_that_may_be_at_work_for_it(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct job_claim claim = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    uint64_t wait = 0;

    submit(conn, "plan_gate", "{\"question\":\"on?\"}", id);
    fixture_script(conn,
        "UPDATE jobs SET kind = 'plan_action', status = 'running', rests = true, claimed_by = '" HUB_A
        "', lease_until = now() - interval '1 second'; DELETE FROM hub_processes;"
        "UPDATE placement_watch SET seen_at = now() - interval '1 minute', since = now() - interval '1 day'");
    assert_int_equal(job_store_claim(conn, HUB_B, 60000000, &claim, &wait, &err), 0); /* no hub has looked yet */
    assert_true(wait >= 20000 && wait < 60000);
    fixture_script(conn, "UPDATE placement_watch SET seen_at = now(), since = now() - interval '5 seconds'");
    assert_int_equal(job_store_claim(conn, HUB_B, 60000000, &claim, &wait, &err), 0);
    fixture_script(conn, "UPDATE placement_watch SET since = now() - interval '11 seconds';"
                         "INSERT INTO hub_processes VALUES ('" HUB_A "', now() - interval '20 seconds')");
    assert_int_equal(job_store_claim(conn, HUB_B, 60000000, &claim, &wait, &err), 0); /* A was there a moment ago */
    assert_ok(job_store_let_go_of_dead(conn, HUB_A, &err), &err);
    assert_int_equal(job_store_claim(conn, HUB_B, 60000000, &claim, &wait, &err), 1); /* it is known to be dead */
    job_claim_done(&claim);
}

/* Begun in what is the future since the clock was set back: no limit of its time is over. */
static void test_a_step_is_not_old_because_the_clock_was_set_back(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct job_claim claim = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    uint64_t wait = 0;

    submit(conn, "plan_gate", "{\"question\":\"on?\"}", id);
    fixture_script(conn, "UPDATE job_steps SET started_at = now() + interval '1 second'");
    assert_int_equal(job_store_claim(conn, HUB_A, 60000000, &claim, &wait, &err), 1);
    assert_int_equal(claim.step_age_usec, 0);
    job_claim_done(&claim);
}

/* What was to be in a second is to be in an hour and a second. */
static void test_what_waits_does_not_wait_for_the_hour_that_the_clock_was_set_back(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    uint64_t wait = 0;

    submit(conn, "plan_gate", "{\"question\":\"on?\"}", id);
    fixture_script(
        conn, "UPDATE placement_watch SET seen_at = now() - interval '3 seconds', since = now() - interval '1 day'");
    assert_int_equal(clock_set_back(conn, &err), 0);
    fixture_script(conn,
        "UPDATE placement_watch SET seen_at = seen_at + interval '1 hour';"
        "UPDATE jobs SET status = 'running', run_after = now() + interval '1 hour', claimed_by = '" HUB_A
        "', rests = true, lease_until = now() + interval '1 hour';"
        "DELETE FROM vaults");
    fixture_vault(conn, VAULT, "v");
    fixture_script(conn, "UPDATE vaults SET last_seen_at = now() + interval '1 hour'");
    assert_int_equal(job_run_one(conn, HUB_A, &wait, &err), 0);
    assert_int_equal(clock_set_back(conn, &err), 1);
    assert_int_equal(clock_set_back(conn, &err), 0);
    assert_int_equal(job_run_one(conn, HUB_A, &wait, &err), 1);
    assert_job(conn, id, "waiting_for_input");
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM vaults WHERE last_seen_at <= now()"), 1);
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM placement_watch WHERE since <= now()"), 1);
}

/* ---- peers ---- */

/* A hub has looked after its peers for so long; the vault was heard of last so long ago. */
static void vault_is_silent(struct db_conn *conn, const char *looked, const char *last_look, const char *heard)
{
    AUTO_FREE char *sql = mem_printf("UPDATE placement_watch SET since = now() - interval '%s', seen_at = now() - "
                                     "interval '%s'; UPDATE vaults SET online = false, last_seen_at = now() - interval "
                                     "'%s'; UPDATE commands SET created_at = now() - interval '3 hours'",
        looked, last_look, heard);

    assert_non_null(sql);
    fixture_script(conn, sql);
}

/* A verification of hours outlives a session that broke off a moment ago, and the minutes in which no hub could have heard of the vault. */
static void test_a_long_command_outlives_a_peer_that_is_gone_for_a_moment(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char id[IDENT_TEXT_SIZE];

    fixture_script(conn, "DELETE FROM vaults");
    fixture_vault(conn, VAULT, "v");
    submit(conn, "vault_verify", "{}", id);
    look(conn, HUB_A);
    vault_is_silent(conn, "1 day", "2 seconds", "5 seconds");
    look(conn, HUB_A);
    assert_job(conn, id, "running");
    vault_is_silent(conn, "10 seconds", "2 seconds", "10 minutes"); /* hubs look again, since ten seconds */
    look(conn, HUB_A);
    assert_job(conn, id, "running");
    vault_is_silent(conn, "1 day", "10 minutes", "10 minutes"); /* none has yet, or the clock has jumped */
    look(conn, HUB_A);
    assert_job(conn, id, "running");
    vault_is_silent(conn, "1 day", "2 seconds", "61 seconds");
    look(conn, HUB_A);
    assert_job(conn, id, "failed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_failure_of_a_hub_whose_lease_ran_out_changes_nothing),
        cmocka_unit_test(test_an_answer_outlives_a_look_that_is_given_up),
        cmocka_unit_test(test_a_question_is_answered_once),
        cmocka_unit_test(test_a_job_that_is_asked_to_stop_in_time_does_not_succeed),
        cmocka_unit_test(test_a_step_of_a_plan_is_left_to_the_hub_that_may_be_at_work_for_it),
        cmocka_unit_test(test_a_step_is_not_old_because_the_clock_was_set_back),
        cmocka_unit_test(test_what_waits_does_not_wait_for_the_hour_that_the_clock_was_set_back),
        cmocka_unit_test(test_a_long_command_outlives_a_peer_that_is_gone_for_a_moment),
    };

    return cmocka_run_group_tests_name("hub_job_races", tests, postgres_fixture_up, postgres_fixture_down);
}
