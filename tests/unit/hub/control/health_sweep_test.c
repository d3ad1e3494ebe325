/* SPDX-License-Identifier: Apache-2.0
 *
 * The sweep of a running hub while its look at the groups takes long, which locks of this test make it: what must not wait for it, and what goes on meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "hub/control/control.h"
#include "hub/db/health_store.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

#define WAIT_USEC (60 * USEC_PER_SEC)
#define INSTANCE "2a1d8a52-6a51-4c0e-9d7e-1f5b0c9f3e77"
#define NODE_GONE "aaaaaaaa-0000-4000-8000-000000000001"
#define NODE_THERE "bbbbbbbb-0000-4000-8000-000000000002"
#define VAULT "dddddddd-0000-4000-8000-000000000004"
#define MACHINE "eeeeeeee-0000-4000-8000-000000000005"

static struct control *control;
static struct live_status *live;
static struct ca *ca;

static int up(void **state)
{
    static struct ident hub_id;
    static char data[96];
    struct err err = ERR_INIT;

    if (postgres_fixture_up(state) < 0)
        return -1;
    struct postgres_fixture *f = *state;
    struct control_conf conf = {.loop = f->loop,
        .instance = INSTANCE,
        .db = f->db,
        .data_dir = data,
        .listen = "127.0.0.1:0",
        .hub_id = &hub_id,
        .status_interval_msec = 100};

    (void)snprintf(data, sizeof(data), "%s/hub", f->folder);
    if (ident_random(&hub_id) < 0 || file_make_dirs(data, 0711, &err) < 0 || ca_open(data, &ca, &err) < 0 ||
        live_status_new(&live, &err) < 0)
        return -1;
    conf.ca = ca;
    conf.live = live;
    if (control_start(&conf, &control, &err) < 0) {
        fprintf(stderr, "set-up: %s\n", err.text);
        return -1;
    }
    return 0;
}

static int down(void **state)
{
    control_stop(control);
    live_status_free(live);
    ca_close(ca);
    return postgres_fixture_down(state);
}

static bool is_so(struct db_conn *conn, const char *sql)
{
    struct err err = ERR_INIT;
    int n = db_exec(conn, NULL, &err, sql);

    assert_ok(n, &err);
    return n > 0;
}

/* Turns the loop until there is a row. */
static void turn_until(void **state, struct db_conn *conn, const char *sql)
{
    struct postgres_fixture *f = *state;
    uint64_t until = clock_mono_usec() + WAIT_USEC;

    while (!is_so(conn, sql)) {
        if (clock_mono_usec() > until)
            fail_msg("waited too long for: %s", sql);
        (void)sd_event_run(f->loop, 20 * USEC_PER_MSEC);
    }
}

/* No sweep is under way, and none begins until let_sweep(). */
static void hold_sweep(void **state, struct db_conn *conn)
{
    turn_until(state, conn, "SELECT WHERE pg_try_advisory_lock(5333276)");
}

static void let_sweep(struct db_conn *conn)
{
    fixture_script(conn, "SELECT pg_advisory_unlock(5333276)");
}

/* Held before and after; a whole sweep in between. */
static void sweep_once(void **state, struct db_conn *conn)
{
    fixture_script(conn, "UPDATE placement_watch SET seen_at = now() - interval '10 seconds', since = now();"
                         "DROP TABLE IF EXISTS begun; CREATE TABLE begun AS SELECT now() AS time");
    let_sweep(conn);
    turn_until(state, conn, "SELECT FROM placement_watch, begun WHERE seen_at >= time");
    hold_sweep(state, conn);
}

static void test_machines_of_a_node_that_is_gone_wait_for_no_group(void **state)
{
    struct db_conn *conn = fixture_conn(state), *other = fixture_conn(state);

    hold_sweep(state, conn);
    fixture_node(conn, NODE_GONE, "gone");
    fixture_node(conn, NODE_THERE, "there");
    fixture_vault(conn, VAULT, "v");
    fixture_machine(conn, MACHINE, "m");
    fixture_script(conn,
        "UPDATE nodes SET online_since = now() - interval '1 hour', last_seen_at = now() + interval '1 hour';"
        "UPDATE nodes SET online = false, last_seen_at = now() - interval '1 hour' WHERE id = '" NODE_GONE "';"
        "INSERT INTO protections (machine_id, policy_id, node_id, vault_id, node_since) SELECT '" MACHINE
        "', id, '" NODE_GONE "', '" VAULT "', now() - interval '1 hour' FROM policies WHERE is_default;"
        "UPDATE machines SET state = 'protected';"
        "UPDATE placement_watch SET since = now() - interval '1 hour', seen_at = now()");
    fixture_script(other, "BEGIN; LOCK TABLE consistency_groups IN ACCESS EXCLUSIVE MODE");
    let_sweep(conn);
    turn_until(state, conn, "SELECT FROM pg_locks WHERE NOT granted AND relation = 'consistency_groups'::regclass");
    assert_true(is_so(conn, "SELECT FROM jobs WHERE kind = 'machine_move' AND machine_id = '" MACHINE "'"));
    fixture_script(other, "ROLLBACK");
    db_release(other);
    hold_sweep(state, conn);
    fixture_script(
        conn, "DELETE FROM jobs; DELETE FROM protections; DELETE FROM machines; DELETE FROM nodes; DELETE FROM vaults");
    let_sweep(conn);
    db_release(conn);
}

/* Two pages of groups, of which each has one that a lock of this test holds up. */
static void slow_groups(struct db_conn *conn)
{
    fixture_script(conn, "DELETE FROM consistency_groups");
    AUTO_FREE char *sql = mem_printf(
        "INSERT INTO consistency_groups (id, name) SELECT lpad(n::text, 32, '0')::uuid, 'g' || n FROM"
        " generate_series(1, %d) n; INSERT INTO consistency_group_lists (group_number, membership, machine_ids)"
        " SELECT number, membership, ARRAY['" MACHINE "'::uuid, gen_random_uuid()] FROM consistency_groups"
        " WHERE name IN ('g1', 'g%d')",
        HEALTH_GROUP_PAGE + 1, HEALTH_GROUP_PAGE + 1);

    assert_non_null(sql);
    fixture_script(conn,
        "CREATE OR REPLACE FUNCTION group_last_point(number bigint, membership bigint, machine_ids uuid[])"
        " RETURNS uuid LANGUAGE plpgsql STABLE STRICT AS $$ DECLARE slow bigint := 1 + (SELECT name <> 'g1'"
        " FROM consistency_groups g WHERE g.number = group_last_point.number)::int; BEGIN"
        " PERFORM pg_advisory_lock_shared(slow), pg_advisory_unlock_shared(slow); RETURN NULL; END $$");
    fixture_script(conn, sql);
}

#define WAITS_FOR(lock)                                                                                                \
    "SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND classid = 0 AND objid = " lock

static void test_a_hub_is_there_while_it_looks_at_groups(void **state)
{
    struct postgres_fixture *f = *state;
    struct db_conn *conn = fixture_conn(state);

    hold_sweep(state, conn);
    slow_groups(conn);
    fixture_script(conn, "SELECT pg_advisory_lock(1), pg_advisory_lock(2)");
    let_sweep(conn);
    turn_until(state, conn, WAITS_FOR("1"));
    for (uint64_t until = clock_mono_usec() + 3 * USEC_PER_SEC + 1; clock_mono_usec() < until;)
        (void)sd_event_run(f->loop, 20 * USEC_PER_MSEC);
    fixture_script(conn,
        "CREATE TABLE mark AS SELECT now() AS time;"
        "UPDATE placement_watch SET seen_at = now() - interval '10 seconds', since = now() - interval '1 hour';"
        "UPDATE hub_processes SET seen_at = now() - interval '10 seconds' WHERE process_id = '" INSTANCE "';"
        "UPDATE alert_sweep SET checked_at = now() - interval '10 seconds';"
        "SELECT pg_advisory_unlock(1)");
    turn_until(state, conn, WAITS_FOR("2"));
    assert_true(is_so(
        conn, "SELECT FROM placement_watch, mark WHERE seen_at >= time AND since < time - interval '59 minutes'"));
    assert_true(is_so(conn, "SELECT FROM hub_processes, mark WHERE seen_at >= time AND process_id = '" INSTANCE "'"));
    assert_true(is_so(conn, "SELECT FROM alert_sweep, mark WHERE checked_at >= time"));
    fixture_script(conn, "SELECT pg_advisory_unlock(2)");
    hold_sweep(state, conn);
    let_sweep(conn);
    db_release(conn);
}

/* What the sweep knows of the group besides its age: the settings, how long it has its list, and that it was late before. */
static void test_a_group_is_judged_by_settings_and_by_the_last_look(void **state)
{
    struct db_conn *conn = fixture_conn(state);

    hold_sweep(state, conn);
    fixture_script(conn, "DELETE FROM consistency_groups; DELETE FROM machines");
    fixture_machine(conn, MACHINE, "m");
    fixture_vault(conn, VAULT, "v");
    /* Late by a limit of 30 s and not by 600, on a list that is new. */
    fixture_script(conn,
        "INSERT INTO settings (key, value) VALUES ('alert_silent_seconds', '600');"
        "INSERT INTO protections (machine_id, policy_id, vault_id) SELECT '" MACHINE "', id, '" VAULT
        "' FROM policies WHERE is_default; UPDATE machines SET state = 'protected';"
        "INSERT INTO consistency_groups (name, finding_code, late_since)"
        " VALUES ('shop', 'no_group_point', now() - interval '300 seconds');"
        "INSERT INTO consistency_group_members (machine_id, group_id) SELECT '" MACHINE "', id FROM consistency_groups;"
        "INSERT INTO consistency_group_lists (group_number, membership, machine_ids) SELECT number, membership,"
        " ARRAY['" MACHINE "'::uuid, gen_random_uuid()] FROM consistency_groups");
    sweep_once(state, conn);
    assert_false(is_so(conn, "SELECT FROM consistency_groups WHERE finding_code <> ''"));
    fixture_script(conn,
        "UPDATE consistency_groups SET finding_code = 'no_group_point', late_since = now() - interval '730 seconds'");
    let_sweep(conn);
    turn_until(state, conn, "SELECT FROM consistency_groups WHERE finding_values->>'age_seconds' >= '730'");
    hold_sweep(state, conn);
    assert_false(is_so(conn, "SELECT FROM alerts WHERE code = 'no_group_point'"));
    fixture_script(conn, "UPDATE consistency_group_lists SET since = now() - interval '1 day'");
    let_sweep(conn);
    turn_until(state, conn, "SELECT FROM alerts WHERE code = 'no_group_point'");
    hold_sweep(state, conn);
    fixture_script(conn, "UPDATE machines SET state = 'enabling', last_point_at = NULL");
    let_sweep(conn);
    turn_until(state, conn, "SELECT FROM consistency_groups WHERE finding_values->>'form' = 'copying'");
    db_release(conn);
}

/* Machines that cannot be moved are no reason to keep from people what is wrong with a group, nor the other way round to say that all is well. */
static void test_groups_are_looked_at_when_machines_cannot_be_moved(void **state)
{
    struct db_conn *conn = fixture_conn(state);

    hold_sweep(state, conn);
    fixture_script(conn,
        "DELETE FROM alerts; DELETE FROM consistency_groups; UPDATE machines SET state = 'protected';"
        "DELETE FROM settings WHERE key = 'alert_silent_seconds';"
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON placement_watch EXECUTE FUNCTION refuse();"
        "INSERT INTO consistency_groups (name) VALUES ('shop');"
        "INSERT INTO consistency_group_lists (group_number, membership, machine_ids, since) SELECT number,"
        " membership, ARRAY['" MACHINE "'::uuid, gen_random_uuid()], now() - interval '1 day'"
        " FROM consistency_groups");
    let_sweep(conn);
    turn_until(state, conn, "SELECT FROM alerts WHERE code = 'no_group_point'");
    hold_sweep(state, conn);
    fixture_script(conn, "DROP TRIGGER refuse ON placement_watch; DROP FUNCTION refuse");
    let_sweep(conn);
    db_release(conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machines_of_a_node_that_is_gone_wait_for_no_group),
        cmocka_unit_test(test_a_group_is_judged_by_settings_and_by_the_last_look),
        cmocka_unit_test(test_groups_are_looked_at_when_machines_cannot_be_moved),
        cmocka_unit_test(test_a_hub_is_there_while_it_looks_at_groups),
    };

    return cmocka_run_group_tests_name("health_sweep", tests, up, down);
}
