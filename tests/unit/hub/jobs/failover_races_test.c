/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs about one failover that meet: who ends it while another job is at work on it, or is ending it already, what cannot be undone, and runs of plans whose
 * steps have gone further than the run knows. The target hands over disks; the vault's part is to answer its commands.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/db/config_store.h"
#include "hub/db/copy_store.h"
#include "hub/db/failover_store.h"
#include "hub/jobs/job.h"
#include "hub/jobs/job_runner.h"
#include "hub/jobs/plan_run.h"
#include "tests/unit/hub/jobs/replicas.h"
#include "tests/unit/hub/postgres_fixture.h"

#define MACHINE "11111111-0000-4000-8000-000000000001"
#define NODE "22222222-0000-4000-8000-000000000001"
#define VAULT "33333333-0000-4000-8000-000000000001"
#define OTHER_VAULT "33333333-0000-4000-8000-000000000002"
#define HUB "aaaaaaaa-0000-4000-8000-000000000001"
#define BRANCH "55555555-0000-4000-8000-000000000001"
#define FAILOVER "66666666-0000-4000-8000-000000000001"
#define LOOKS_MAX 1000
#define OPEN_JOB "SELECT 1 FROM jobs WHERE status IN ('queued', 'running', 'waiting_for_input')"

/* A protected machine with a point. */
static void build(struct db_conn *conn)
{
    fixture_script(conn, "DROP TRIGGER IF EXISTS moment ON jobs; DELETE FROM plan_runs; DELETE FROM copies;"
                         "DELETE FROM failovers; DELETE FROM jobs; DELETE FROM exports; DELETE FROM recovery_points;"
                         "DELETE FROM machines; DELETE FROM nodes; DELETE FROM vaults");
    fixture_machine(conn, MACHINE, "web1");
    fixture_node(conn, NODE, "n");
    fixture_vault(conn, VAULT, "v");
    fixture_script(conn,
        "INSERT INTO disks (machine_id, key, number, is_protected) VALUES ('" MACHINE "', 'sda', 0, true);"
        "INSERT INTO protections (machine_id, policy_id, node_id, vault_id) SELECT '" MACHINE "', id, '" NODE
        "', '" VAULT "' FROM policies WHERE is_default; UPDATE machines SET state = 'protected';"
        "INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, generation, committed_at)"
        " VALUES ('" MACHINE "', 1, '" VAULT "', now(), 'crash', 1, now())");
}

/* Looks at jobs, and answers for the vault, until the query has rows. */
static void work_until(struct db_conn *conn, const char *query)
{
    struct err err = ERR_INIT;
    uint64_t wait;

    for (int i = 0; i < LOOKS_MAX && rows_of(conn, query) == 0; i++) {
        (void)job_run_one(conn, HUB, &wait, &err); /* what fails is in the job, or it is tried again */
        fixture_script(conn,
            "UPDATE commands SET done = true, result = '{\"uri\":\"nbd+unix:///0?socket=/s\",\"sequence\":"
            "\"1\",\"disks\":[{\"number\":0,\"uri\":\"nbd+unix:///0?socket=/s\"}]}' WHERE NOT done;"
            "UPDATE jobs SET run_after = now(), lease_until = NULL WHERE status = 'running' AND NOT rests;"
            "UPDATE jobs SET run_after = now() WHERE status = 'running'");
        (void)poll(NULL, 0, 1); /* the target is at work meanwhile */
    }
    if (rows_of(conn, query) == 0)
        fail_msg("never seen: %s", query);
}

static void work(struct db_conn *conn)
{
    work_until(conn, "SELECT 1 WHERE NOT EXISTS (" OPEN_JOB ")");
}

static int submit(struct db_conn *conn, const char *kind, const char *params, struct err *err)
{
    const struct job_spec spec = {
        .kind = kind, .machine_id = MACHINE, .params_json = params, .requested_by = "token:test"};
    char job[IDENT_TEXT_SIZE];

    return job_submit(conn, &spec, false, job, err);
}

static void fail_over(struct db_conn *conn)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(db_exec(conn, &r, &err, "SELECT id FROM compute_targets WHERE name = 'disks'"), 1);
    AUTO_FREE char *params =
        mem_printf("{\"failover\":\"unplanned\",\"target_id\":\"%s\",\"sequence\":\"1\"}", db_text(r, 0, 0));

    build(conn);
    assert_ok(submit(conn, "failover", params, &err), &err);
}

static int end(struct db_conn *conn, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    assert_int_equal(db_exec(conn, &r, err, "SELECT id FROM failovers"), 1);
    AUTO_FREE char *params = mem_printf("{\"failover_id\":\"%s\"}", db_text(r, 0, 0));

    return submit(conn, "failover_end", params, err);
}

/* It would be rolled back beside a job that starts its replica: then the machine would be there twice. */
static void test_a_failover_is_not_ended_while_its_job_starts_it(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    fail_over(conn);
    work_until(conn, "SELECT 1 FROM jobs j JOIN failovers f ON f.job_id = j.id WHERE f.state = 'starting'");
    assert_int_equal(end(conn, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.correction, "leeward job cancel"));
    assert_int_equal(db_exec(conn, &r, &err, "SELECT id FROM jobs"), 1);
    assert_ok(job_cancel(conn, db_text(r, 0, 0), &err), &err);
    work(conn);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM failovers f, machines m WHERE f.state = 'failed' AND m.state = 'protected'"), 1);
}

/* Asked for twice at the same moment it is ended once, and the other job says which one did. */
static void test_a_failover_is_ended_once(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    fail_over(conn);
    work(conn);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'running'"), 1);
    assert_ok(end(conn, &err), &err);
    assert_ok(end(conn, &err), &err);
    work(conn);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM failovers f, machines m WHERE f.state = 'rolled_back' AND m.state = 'protected'"),
        1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE kind = 'failover_end' AND status = 'succeeded'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE kind = 'failover_end' AND status = 'failed'"
                                   " AND problem_text LIKE 'a job is at work on the failover%'"),
        1);
}

/* Somebody has changed the rows by hand, or an error of ours has: the job does not keep the machine for ever. */
static void test_a_job_ends_whose_work_cannot_be_undone(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    fail_over(conn);
    work_until(conn, "SELECT 1 FROM failovers WHERE state = 'starting'");
    fixture_script(conn, "UPDATE failovers SET state = 'rolled_back'");
    work(conn);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE kind = 'failover' AND status = 'failed' AND problem_text"
                                   " LIKE 'run is not possible%cannot be undone: end is not possible%'"
                                   " AND problem_correction <> ''"),
        1);
}

/* ---- the way back ---- */

/* A committed failover whose replica is protected, stopped by a failback that came to nothing, at a target that cannot be reached now. */
static void resume(struct db_conn *conn)
{
    struct err err = ERR_INIT;

    build(conn);
    fixture_script(conn,
        "DELETE FROM compute_targets WHERE name = 'rack'; INSERT INTO compute_targets (name, adapter, config)"
        " VALUES ('rack', 'command', '{\"program\":\"/nonexistent/program\"}');"
        "UPDATE machines SET state = 'reverse_protected';"
        "INSERT INTO exports (id, machine_id, vault_id, writable, state) VALUES ('" BRANCH "', '" MACHINE "', '" VAULT
        "', true, 'kept');"
        "INSERT INTO failovers (id, machine_id, vault_id, target_id, kind, state, sequence, export_id)"
        " SELECT '" FAILOVER "', '" MACHINE "', '" VAULT "', id, 'unplanned', 'reprotected', 1, '" BRANCH
        "' FROM compute_targets WHERE name = 'rack'");
    assert_ok(submit(conn, "failover_resume", "{\"failover_id\":\"" FAILOVER "\"}", &err), &err);
    work_until(conn, "SELECT 1 FROM job_steps WHERE name = 'start' AND (detail LIKE 'waits: %' OR status = 'failed')");
}

/* The replica is the machine, and no other job would start it. */
static void test_a_replica_comes_back_when_its_target_does(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    resume(conn);
    assert_int_equal(rows_of(conn, OPEN_JOB), 1);
    fixture_script(conn, "UPDATE compute_targets SET config = '{\"program\":\"/bin/true\"}' WHERE name = 'rack'");
    work(conn);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE kind = 'failover_resume' AND status = 'succeeded'"), 1);
}

static void test_who_waits_for_a_replica_can_give_it_up(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    resume(conn);
    assert_int_equal(db_exec(conn, &r, &err, "SELECT id FROM jobs"), 1);
    assert_ok(job_cancel(conn, db_text(r, 0, 0), &err), &err);
    work(conn);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE status = 'cancelled'"), 1);
    resume(conn);
    fixture_script(conn, "UPDATE failovers SET state = 'committed'");
    work(conn);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM jobs WHERE status = 'failed' AND problem_code = 'cancelled'"), 1);
}

/* The vault of a replica is lost for good while its failover is being ended, or a test runs: nobody waits for that vault to discard what it had. */
static void test_what_is_being_ended_does_not_need_a_vault_that_is_lost(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    fail_over(conn);
    work(conn);
    fixture_vault(conn, OTHER_VAULT, "w");
    fixture_script(conn,
        "UPDATE failovers SET state = 'ending'; INSERT INTO copies (machine_id, vault_id, source_vault_id, "
        "created_by) VALUES ('" MACHINE "', '" OTHER_VAULT "', '" VAULT "', 'test');"
        "INSERT INTO failovers (id, machine_id, vault_id, target_id, kind, state, export_id) SELECT '" FAILOVER
        "', machine_id, vault_id, target_id, 'test', 'running', export_id FROM failovers");
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE export_id IS NOT NULL"), 2);
    assert_ok(copy_use(conn, MACHINE, OTHER_VAULT, &err), &err);
    assert_int_equal(
        rows_of(conn, "SELECT 1 FROM failovers WHERE export_id IS NULL AND vault_id = '" OTHER_VAULT "'"), 2);
}

/* ---- what is deleted ---- */

static void test_a_machine_with_a_replica_is_not_forgotten(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;

    fail_over(conn);
    work(conn);
    fixture_script(conn, "UPDATE failovers SET kind = 'test'; UPDATE machines SET state = 'unprotected'");
    assert_int_equal(machine_delete(conn, MACHINE, 0, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.correction, "leeward failover cleanup"));
    fixture_script(conn, "UPDATE failovers SET state = 'cleaned'");
    err = (struct err)ERR_INIT;
    assert_ok(machine_delete(conn, MACHINE, 0, &err), &err);
}

static void test_who_deletes_a_target_is_told_what_needs_it(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    build(conn);
    fixture_script(conn,
        "DELETE FROM compute_targets WHERE name = 'rack'; INSERT INTO compute_targets (name, adapter)"
        " VALUES ('rack', 'disk'); INSERT INTO drill_schedules (name, policy_id, interval_usec, "
        "overdue_after_usec, target_id) SELECT 'weekly', p.id, 1, 1, t.id FROM policies p, compute_targets t"
        " WHERE p.is_default AND t.name = 'rack'");
    assert_int_equal(db_exec(conn, &r, &err, "SELECT id FROM compute_targets WHERE name = 'rack'"), 1);
    assert_int_equal(target_delete(conn, db_text(r, 0, 0), 0, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "a drill"));
    fixture_script(conn, "DELETE FROM drill_schedules");
    err = (struct err)ERR_INIT;
    assert_ok(target_delete(conn, db_text(r, 0, 0), 0, &err), &err);
}

/* ---- runs of plans ---- */

static const char plan[] = "{\"groups\":[{\"name\":\"all\",\"steps\":["
                           "{\"name\":\"look\",\"type\":\"gate\",\"question\":\"Now?\"},"
                           "{\"name\":\"web\",\"type\":\"machine\",\"machine\":\"web1\",\"after\":[\"look\"]}]}]}";

static void run_plan(struct db_conn *conn, char job_id[IDENT_TEXT_SIZE])
{
    const struct plan_run_spec spec = {.plan_name = "shop",
        .document_json = plan,
        .kind = "test",
        .point = "latest",
        .requested_by = "token:test",
        .cleanup = true};
    struct err err = ERR_INIT;
    char run_id[IDENT_TEXT_SIZE];

    build(conn);
    assert_ok(plan_run_start(conn, &spec, false, run_id, job_id, NULL, &err), &err);
}

static void answer_gate(struct db_conn *conn)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    work_until(conn, "SELECT 1 FROM jobs WHERE status = 'waiting_for_input'");
    assert_int_equal(db_exec(conn, &r, &err, "SELECT id FROM jobs WHERE status = 'waiting_for_input'"), 1);
    assert_ok(job_answer(conn, db_text(r, 0, 0), "continue", "token:test", &err), &err);
}

/* The replica came up after the run's last look: it is of the run all the same, and goes with it. */
static void test_a_cancelled_drill_takes_the_replica_away_that_just_came_up(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char job[IDENT_TEXT_SIZE];

    run_plan(conn, job);
    answer_gate(conn);
    work_until(conn, "SELECT 1 FROM jobs WHERE kind = 'failover'");
    fixture_script(
        conn, "UPDATE jobs SET status = 'waiting_for_input' WHERE kind = 'plan_run'"); /* nobody looks at it */
    work_until(conn, "SELECT 1 FROM jobs WHERE kind = 'failover' AND status = 'succeeded'");
    assert_ok(job_cancel(conn, job, &err), &err);
    work(conn);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs WHERE state = 'cancelled'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM failovers WHERE state = 'cleaned'"), 1);
}

/* What PostgreSQL gives up for another transaction's sake is no refusal: the step has not had its try. */
static void test_a_step_that_loses_a_deadlock_begins_again(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char job[IDENT_TEXT_SIZE];

    run_plan(conn, job);
    fixture_script(conn,
        "CREATE OR REPLACE FUNCTION moment() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF (SELECT attempts FROM job_steps s JOIN jobs j ON j.id = s.job_id WHERE j.kind = 'plan_run'"
        " AND s.name = 'run') = 0 THEN RAISE EXCEPTION 'given up' USING ERRCODE = '40P01'; END IF;"
        " RETURN NEW; END $$; CREATE TRIGGER moment BEFORE INSERT ON jobs FOR EACH ROW"
        " WHEN (NEW.kind = 'failover') EXECUTE FUNCTION moment()");
    answer_gate(conn);
    work(conn);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_runs WHERE state = 'succeeded'"), 1);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_run_steps WHERE name = 'web' AND attempts = 1"), 1);
}

/* Its step has failed, with the reason; the run has no other fault. */
static void test_a_failback_of_a_machine_that_is_gone_fails_its_step(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char job[IDENT_TEXT_SIZE];

    run_plan(conn, job);
    work_until(conn, "SELECT 1 FROM jobs WHERE status = 'waiting_for_input'");
    fixture_script(conn, "UPDATE plan_runs SET kind = 'failback', cleanup = false; DELETE FROM machines");
    answer_gate(conn);
    work(conn);
    assert_int_equal(rows_of(conn, "SELECT 1 FROM plan_run_steps WHERE name = 'web' AND state = 'failed'"
                                   " AND detail LIKE 'there is no machine%'"),
        1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failover_is_not_ended_while_its_job_starts_it),
        cmocka_unit_test(test_a_failover_is_ended_once),
        cmocka_unit_test(test_a_job_ends_whose_work_cannot_be_undone),
        cmocka_unit_test(test_a_replica_comes_back_when_its_target_does),
        cmocka_unit_test(test_who_waits_for_a_replica_can_give_it_up),
        cmocka_unit_test(test_what_is_being_ended_does_not_need_a_vault_that_is_lost),
        cmocka_unit_test(test_a_machine_with_a_replica_is_not_forgotten),
        cmocka_unit_test(test_who_deletes_a_target_is_told_what_needs_it),
        cmocka_unit_test(test_a_cancelled_drill_takes_the_replica_away_that_just_came_up),
        cmocka_unit_test(test_a_step_that_loses_a_deadlock_begins_again),
        cmocka_unit_test(test_a_failback_of_a_machine_that_is_gone_fails_its_step),
    };

    return cmocka_run_group_tests_name("hub_failover_races", tests, postgres_fixture_up, postgres_fixture_down);
}
