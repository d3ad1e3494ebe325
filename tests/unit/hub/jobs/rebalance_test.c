/* SPDX-License-Identifier: Apache-2.0
 *
 * Placement as several hubs on one database do it: who looks, when a node counts as gone, and that each machine gets one move whoever looks
 * at the same moment, and none any more when it is where it belongs.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/db/health_store.h"
#include "hub/jobs/job.h"
#include "hub/jobs/job_runner.h"
#include "hub/jobs/rebalance.h"
#include "tests/unit/hub/postgres_fixture.h"

#define NODE_A "aaaaaaaa-0000-4000-8000-000000000001"
#define NODE_B "bbbbbbbb-0000-4000-8000-000000000002"
#define NODE_C "cccccccc-0000-4000-8000-000000000003"
#define VAULT "dddddddd-0000-4000-8000-000000000004"
#define MACHINES 24
#define ON_EACH (MACHINES / 3)
#define HUBS 4

static long number(struct db_conn *conn, const char *sql)
{
    struct err err = ERR_INIT;
    AUTO_PGRESULT PGresult *r = NULL;

    assert_ok(db_exec(conn, &r, &err, sql), &err);
    return (long)db_i64(r, 0, 0);
}

/* Three nodes with as many machines each; hubs have been looking for long. */
static void build(struct db_conn *conn)
{
    struct err err = ERR_INIT;
    static const char *const nodes[] = {NODE_A, NODE_B, NODE_C};
    char id[37], name[16];

    fixture_script(conn, "DELETE FROM jobs; DELETE FROM machines; DELETE FROM nodes; DELETE FROM vaults;"
                         "UPDATE placement_watch SET since = now() - interval '1 hour', seen_at = now()");
    fixture_node(conn, NODE_A, "a");
    fixture_node(conn, NODE_B, "b");
    fixture_node(conn, NODE_C, "c");
    fixture_vault(conn, VAULT, "v");
    fixture_script(conn, "UPDATE nodes SET online_since = now() - interval '1 hour'");
    for (int i = 0; i < MACHINES; i++) {
        (void)snprintf(id, sizeof(id), "eeeeeeee-0000-4000-8000-%012d", i);
        (void)snprintf(name, sizeof(name), "m%d", i);
        fixture_machine(conn, id, name);
        assert_ok(db_exec(conn, NULL, &err,
                      "INSERT INTO protections (machine_id, policy_id, node_id, vault_id, node_since)"
                      " SELECT $1, id, $2, '" VAULT "', now() - interval '1 hour' FROM policies ORDER BY id LIMIT 1",
                      DB_S(id), DB_S(nodes[i % 3])),
            &err);
    }
    fixture_script(conn, "UPDATE machines SET state = 'protected'");
}

static void node_is(struct db_conn *conn, const char *id, const char *online, const char *heard_ago)
{
    AUTO_FREE char *sql = mem_printf(
        "UPDATE nodes SET online = %s, last_seen_at = now() - interval '%s' WHERE id = '%s'", online, heard_ago, id);

    assert_non_null(sql);
    fixture_script(conn, sql);
}

static int look(struct db_conn *conn)
{
    struct placement_churn churn = {0};
    struct err err = ERR_INIT;
    int n = rebalance(conn, &churn, &err);

    placement_churn_done(&churn);
    assert_ok(n, &err);
    return n;
}

/* What the jobs do, without the agents that they wait for. */
static void carry_out(struct db_conn *conn)
{
    fixture_script(conn,
        "UPDATE protections p SET node_id = (j.params->>'node_id')::uuid, node_since = now(),"
        " node_reason = j.params->>'reason' FROM jobs j WHERE j.machine_id = p.machine_id AND j.status = 'queued';"
        "UPDATE jobs SET status = 'succeeded', finished_at = now() WHERE status = 'queued'");
}

struct churn_seen {
    uint64_t first, third;
};

static struct churn_seen see_churn(struct db_conn *conn, struct placement_churn *churn)
{
    AUTO_PLACEMENT_PICTURE struct placement_picture picture = {0};
    struct err err = ERR_INIT;

    assert_ok(placement_picture_read(conn, churn, &picture, &err), &err);
    assert_int_equal(picture.fleet.machine_count, MACHINES);
    assert_int_equal(picture.machines[1].churn_bytes_per_sec, 0);
    return (struct churn_seen){picture.machines[0].churn_bytes_per_sec, picture.machines[2].churn_bytes_per_sec};
}

static void test_churn_is_of_the_last_minutes_and_summed_up_once_a_minute(void **state)
{
    struct db_conn *conn = fixture_conn(state);
    struct placement_churn churn = {0};
    struct churn_seen seen;
    int64_t minute;

    build(conn);
    fixture_script(conn,
        "INSERT INTO samples (machine_id, minute, changed_bytes)"
        " SELECT m.id::uuid, now() - g * interval '1 minute', m.bytes FROM generate_series(1, 12) g,"
        " (VALUES ('eeeeeeee-0000-4000-8000-000000000000', 60000), ('eeeeeeee-0000-4000-8000-000000000002', 120))"
        " AS m (id, bytes)");
    seen = see_churn(conn, &churn);
    assert_int_equal(seen.first, 900); /* nine of them are within the ten minutes */
    assert_int_equal(seen.third, 1);
    fixture_script(conn, "DELETE FROM samples");
    minute = churn.minute;
    seen = see_churn(conn, &churn);
    assert_int_equal(seen.first, churn.minute == minute ? 900 : 0);
    churn.minute--;
    seen = see_churn(conn, &churn);
    assert_int_equal(seen.first, 0);
    placement_churn_done(&churn);
    db_release(conn);
}

static void test_one_hub_looks_at_a_time(void **state)
{
    struct db_conn *first = fixture_conn(state), *second = fixture_conn(state);
    struct err err = ERR_INIT;
    AUTO_PGRESULT PGresult *r = NULL;

    assert_int_equal(sweep_begin(first, &err), 1);
    assert_int_equal(sweep_begin(second, &err), 0);
    sweep_end(first);
    assert_int_equal(sweep_begin(second, &err), 1);
    assert_int_equal(sweep_begin(first, &err), 0);
    /* The hub that looks is killed: its connection ends, and with it the duty. */
    assert_ok(db_exec(second, &r, &err, "SELECT pg_backend_pid()"), &err);
    AUTO_FREE char *kill = mem_printf("SELECT pg_terminate_backend(%s, 10000)", db_text(r, 0, 0));
    fixture_script(first, kill);
    assert_int_equal(sweep_begin(first, &err), 1);
    sweep_end(first);
    assert_int_equal(sweep_begin(second, &err), 1); /* by a connection that it makes then */
    sweep_end(second);
    db_release(first);
    db_release(second);
}

/* Ten seconds after its session ended, twenty after its last word in one that seems to be there: with a look every five seconds, a move that
 * begins at once, and a hub that notices the end of a session, this is within half a minute. */
static void test_a_node_is_left_when_it_is_gone_and_not_before(void **state)
{
    struct db_conn *conn = fixture_conn(state);

    build(conn);
    assert_int_equal(look(conn), 0);
    node_is(conn, NODE_A, "false", "8 seconds");
    assert_int_equal(look(conn), 0); /* it may come back */
    node_is(conn, NODE_A, "true", "18 seconds");
    assert_int_equal(look(conn), 0);
    node_is(conn, NODE_A, "true", "21 seconds");
    assert_int_equal(look(conn), ON_EACH);
    fixture_script(conn, "DELETE FROM jobs");
    node_is(conn, NODE_A, "false", "11 seconds");
    assert_int_equal(look(conn), ON_EACH);
    assert_int_equal(
        number(conn, "SELECT count(*) FROM jobs WHERE kind = 'machine_move' AND params->>'reason' = 'node_gone'"),
        ON_EACH);
    assert_int_equal(number(conn, "SELECT count(*) FROM jobs WHERE params->>'node_id' = '" NODE_A "'"), 0);
    db_release(conn);
}

/* A hub that was just started, or that had no database, has not heard the nodes yet. */
/* Its order names the node through which its points are read. */
/* All nodes of a hub that is killed fall silent at once; they are alive, and come back when the others let them in. */
static void test_nodes_of_a_killed_hub_have_time_to_come_to_another(void **state)
{
    static const char hub[] = "99999999-0000-4000-8000-000000000009";
    struct db_conn *conn = fixture_conn(state);
    struct err err = ERR_INIT;

    build(conn);
    assert_ok(hub_is_here(conn, hub, &err), &err);
    fixture_script(conn, "UPDATE nodes SET session_hub = (SELECT process_id FROM hub_processes)");
    node_is(conn, NODE_A, "true", "21 seconds");
    assert_int_equal(look(conn), ON_EACH); /* the hub is there and hears nothing: the node is gone */
    fixture_script(conn, "DELETE FROM jobs; UPDATE hub_processes SET seen_at = now() - interval '16 seconds';"
                         "UPDATE nodes SET last_seen_at = now() - interval '25 seconds'");
    assert_int_equal(look(conn), 0);
    fixture_script(conn, "UPDATE nodes SET last_seen_at = now() WHERE id <> '" NODE_A "'");
    node_is(conn, NODE_A, "true", "46 seconds");
    assert_int_equal(look(conn), ON_EACH); /* the others came back and this one did not */
    fixture_script(conn, "DELETE FROM jobs; DELETE FROM hub_processes");
    db_release(conn);
}

static void test_who_is_written_to_other_disks_stays(void **state)
{
    static const char *const machine = "eeeeeeee-0000-4000-8000-000000000000";
    struct db_conn *conn = fixture_conn(state);
    const struct job_spec move = {.kind = "machine_move",
        .machine_id = machine,
        .params_json = "{\"node_id\":\"" NODE_B "\"}",
        .requested_by = "test"};
    char id[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;

    build(conn);
    fixture_script(conn, "UPDATE protections SET receiver_id = 'eeeeeeee-0000-4000-8000-000000000001'"
                         " WHERE machine_id = 'eeeeeeee-0000-4000-8000-000000000000'");
    assert_int_equal(job_submit(conn, &move, false, id, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "is being written to another machine's disks"));
    node_is(conn, NODE_A, "false", "1 minute");
    assert_int_equal(look(conn), ON_EACH - 1);
    fixture_script(conn, "UPDATE protections SET receiver_id = NULL");
    assert_int_equal(look(conn), 1);
    db_release(conn);
}

static void test_nobody_is_gone_before_nodes_had_the_time_to_report(void **state)
{
    struct db_conn *conn = fixture_conn(state);

    build(conn);
    node_is(conn, NODE_A, "false", "1 hour");
    fixture_script(conn, "UPDATE placement_watch SET seen_at = now() - interval '10 minutes'");
    assert_int_equal(look(conn), 0);
    assert_int_equal(look(conn), 0);
    fixture_script(conn, "UPDATE placement_watch SET since = now() - interval '31 seconds'");
    assert_int_equal(look(conn), ON_EACH);
    db_release(conn);
}

/* Begins the watch anew as a look does, or does not: for how long nobody looked decides. */
static bool begins_anew(struct db_conn *conn, const char *seen_ago, bool by_look)
{
    static const char hub[] = "99999999-0000-4000-8000-000000000011";
    AUTO_FREE char *sql = mem_printf("UPDATE placement_watch SET since = now() - interval '1 hour', seen_at = now() - "
                                     "interval '%s'",
        seen_ago);
    struct err err = ERR_INIT;
    uint64_t at = 0;

    assert_non_null(sql);
    fixture_script(conn, sql);
    if (by_look)
        (void)look(conn);
    else
        assert_ok(sweep_goes_on(conn, hub, &at, 3000000, &err), &err);
    assert_int_equal(number(conn, "SELECT count(*) FROM placement_watch WHERE seen_at > now() - interval '14 s'"), 1);
    return number(conn, "SELECT count(*) FROM placement_watch WHERE since > now() - interval '15 minutes'") == 1;
}

static void test_a_long_sweep_looks_after_the_nodes_as_each_look_does(void **state)
{
    struct db_conn *conn = fixture_conn(state);

    build(conn);
    for (int by_look = 0; by_look < 2; by_look++) {
        assert_false(begins_anew(conn, "15 seconds", by_look));
        assert_true(begins_anew(conn, "21 seconds", by_look));
    }
    fixture_script(conn, "DELETE FROM hub_processes");
    db_release(conn);
}

/* Every three seconds, and of this hub. What clock_store.h goes by when the clock was set back in the middle of a sweep is left. */
static void test_a_long_sweep_says_every_three_seconds_that_its_hub_is_there(void **state)
{
    static const char hub
        [] = "99999999-0000-4000-8000-000000000011",
     seen[] =
         "SELECT count(*) FROM placement_watch, hub_processes h WHERE placement_watch.seen_at > now() - interval '9 s'"
         " AND h.seen_at > now() - interval '9 s' AND h.process_id = '99999999-0000-4000-8000-000000000011'";
    struct db_conn *conn = fixture_conn(state);
    struct err err = ERR_INIT;
    uint64_t at = 50000000;

    build(conn);
    assert_ok(hub_is_here(conn, hub, &err), &err);
    fixture_script(conn, "UPDATE hub_processes SET seen_at = now() - interval '10 seconds';"
                         "UPDATE placement_watch SET seen_at = now() - interval '10 seconds'");
    assert_ok(sweep_goes_on(conn, hub, &at, 52999999, &err), &err);
    assert_int_equal(number(conn, seen), 0);
    assert_ok(sweep_goes_on(conn, hub, &at, 53000000, &err), &err);
    assert_int_equal(number(conn, seen), 1);
    assert_true(at == 53000000);
    fixture_script(conn, "UPDATE placement_watch SET seen_at = now() + interval '1 hour'");
    assert_ok(sweep_goes_on(conn, hub, &at, 56000000, &err), &err);
    assert_int_equal(
        number(conn, "SELECT count(*) FROM placement_watch WHERE seen_at > now() + interval '59 minutes'"), 1);
    fixture_script(conn, "DELETE FROM hub_processes; UPDATE placement_watch SET seen_at = now()");
    db_release(conn);
}

struct hub {
    pthread_t thread;
    struct db_conn *conn;
    pthread_barrier_t *start;
    struct err err;
    int submitted;
};

static void *hub_looks(void *arg)
{
    struct hub *h = arg;

    struct placement_churn churn = {0};

    (void)pthread_barrier_wait(h->start);
    h->submitted = rebalance(h->conn, &churn, &h->err);
    placement_churn_done(&churn);
    return NULL;
}

static long moves_that(struct db_conn *conn, const char *status)
{
    static const char hub[] = "99999999-0000-4000-8000-000000000007";
    AUTO_FREE char *sql = mem_printf("SELECT count(*) FROM jobs WHERE kind = 'machine_move' AND status = '%s'", status);
    struct err err = ERR_INIT;
    uint64_t wait;
    int rc = 1;

    fixture_script(conn, "UPDATE jobs SET run_after = now() WHERE status = 'running'");
    for (int looks = 0; rc > 0 && looks < 8; looks++) {
        rc = job_run_one(conn, hub, &wait, &err);
        assert_ok(rc, &err);
    }
    return number(conn, sql);
}

/* A move is under way when its hub is killed: started again, the hub has heard of nobody, and of the time that the job took it was away. */
static void test_a_move_waits_for_its_node_until_silence_means_something(void **state)
{
    const struct job_spec move = {.kind = "machine_move",
        .machine_id = "eeeeeeee-0000-4000-8000-000000000000",
        .params_json = "{\"node_id\":\"" NODE_B "\"}",
        .requested_by = "test"};
    struct db_conn *conn = fixture_conn(state);
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];

    build(conn);
    assert_ok(job_submit(conn, &move, false, id, &err), &err);
    assert_int_equal(moves_that(conn, "running"), 1);
    node_is(conn, NODE_B, "true", "1 minute");
    fixture_script(conn, "UPDATE placement_watch SET seen_at = now() - interval '1 minute';"
                         "UPDATE job_steps SET started_at = started_at - interval '1 minute'");
    assert_int_equal(moves_that(conn, "running"), 1); /* nobody has looked yet */
    assert_int_equal(look(conn), 0);
    assert_int_equal(moves_that(conn, "running"), 1); /* one look is not long */
    node_is(conn, NODE_B, "true", "0 seconds");
    assert_int_equal(moves_that(conn, "running"), 1); /* it is there again, and has to hear of the machine */
    node_is(conn, NODE_B, "true", "1 minute");
    fixture_script(conn, "UPDATE placement_watch SET since = now() - interval '31 seconds', seen_at = now()");
    assert_int_equal(moves_that(conn, "failed"), 1);
    db_release(conn);
}

/* Even without the duty that one of them has: nothing but the database keeps them apart here. */
static void test_hubs_that_look_at_the_same_moment_move_each_machine_once(void **state)
{
    struct db_conn *conn = fixture_conn(state);

    for (int round = 0; round < 5; round++) {
        struct hub hubs[HUBS] = {0};
        pthread_barrier_t start;
        int submitted = 0;

        build(conn);
        node_is(conn, NODE_A, "false", "11 seconds");
        assert_int_equal(pthread_barrier_init(&start, NULL, HUBS), 0);
        for (int i = 0; i < HUBS; i++) {
            hubs[i] = (struct hub){.conn = fixture_conn(state), .start = &start};
            assert_int_equal(pthread_create(&hubs[i].thread, NULL, hub_looks, &hubs[i]), 0);
        }
        for (int i = 0; i < HUBS; i++) {
            assert_int_equal(pthread_join(hubs[i].thread, NULL), 0);
            assert_ok(hubs[i].submitted, &hubs[i].err);
            submitted += hubs[i].submitted;
            db_release(hubs[i].conn);
        }
        assert_int_equal(pthread_barrier_destroy(&start), 0);
        assert_int_equal(submitted, ON_EACH);
        assert_int_equal(
            number(conn, "SELECT count(DISTINCT machine_id) FROM jobs WHERE kind = 'machine_move'"), ON_EACH);
        assert_int_equal(number(conn, "SELECT count(*) FROM jobs WHERE kind = 'machine_move'"), ON_EACH);
        carry_out(conn);
        assert_int_equal(number(conn, "SELECT count(*) FROM protections WHERE node_id = '" NODE_A "'"), 0);
    }
    db_release(conn);
}

/* Two hubs look in turn, again and again, while the node comes and goes. */
static void test_nothing_flaps(void **state)
{
    struct db_conn *hubs[2] = {fixture_conn(state), fixture_conn(state)};
    struct db_conn *conn = fixture_conn(state);

    build(conn);
    node_is(conn, NODE_A, "false", "11 seconds");
    assert_int_equal(look(hubs[0]), ON_EACH);
    assert_int_equal(look(hubs[1]), 0); /* they are on their way */
    carry_out(conn);
    for (int i = 0; i < 20; i++)
        assert_int_equal(look(hubs[i % 2]), 0);
    /* It is back for a moment, gone, and back again: what has just come elsewhere stays there. */
    for (int i = 0; i < 20; i++) {
        node_is(conn, NODE_A, i % 2 == 0 ? "true" : "false", i % 2 == 0 ? "0 seconds" : "11 seconds");
        fixture_script(conn, "UPDATE nodes SET online_since = now() WHERE id = '" NODE_A "'");
        assert_int_equal(look(hubs[i % 2]), 0);
    }
    for (int i = 0; i < 2; i++)
        db_release(hubs[i]);
    db_release(conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_churn_is_of_the_last_minutes_and_summed_up_once_a_minute),
        cmocka_unit_test(test_one_hub_looks_at_a_time),
        cmocka_unit_test(test_a_node_is_left_when_it_is_gone_and_not_before),
        cmocka_unit_test(test_nodes_of_a_killed_hub_have_time_to_come_to_another),
        cmocka_unit_test(test_who_is_written_to_other_disks_stays),
        cmocka_unit_test(test_nobody_is_gone_before_nodes_had_the_time_to_report),
        cmocka_unit_test(test_a_move_waits_for_its_node_until_silence_means_something),
        cmocka_unit_test(test_a_long_sweep_looks_after_the_nodes_as_each_look_does),
        cmocka_unit_test(test_a_long_sweep_says_every_three_seconds_that_its_hub_is_there),
        cmocka_unit_test(test_hubs_that_look_at_the_same_moment_move_each_machine_once),
        cmocka_unit_test(test_nothing_flaps),
    };

    return cmocka_run_group_tests_name("hub/jobs/rebalance", tests, postgres_fixture_up, postgres_fixture_down);
}
