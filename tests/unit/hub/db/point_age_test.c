/* SPDX-License-Identifier: Apache-2.0
 *
 * How old points are, whoever dated them: what health, lists, overview and plans make of the rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "hub/db/health_store.h"
#include "hub/db/journal.h"
#include "hub/db/overview_store.h"
#include "hub/db/plan_store.h"
#include "hub/db/protection_store.h"
#include "hub/db/rows.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define MACHINE "11111111-0000-4000-8000-000000000001"
#define VAULT "33333333-0000-4000-8000-000000000001"
#define HOUR_USEC (3600 * USEC_PER_SEC)
#define SLACK_USEC (60 * USEC_PER_SEC)

/* A protected machine with a point of a second ago by its own clock, which is right, as the vault's is. */
static void make(struct db_conn *conn)
{
    fixture_script(conn, "TRUNCATE machines, vaults, jobs CASCADE");
    fixture_machine(conn, MACHINE, "m");
    fixture_vault(conn, VAULT, "v");
    fixture_script(conn,
        "INSERT INTO protections (machine_id, policy_id, vault_id, enabled_at) SELECT '" MACHINE "', id, '" VAULT
        "', now() - interval '1 day' FROM policies WHERE is_default;"
        "UPDATE policies SET app_interval_usec = 600000000 WHERE is_default;"
        "UPDATE machines SET state = 'protected', last_point_at = now() - interval '1 second',"
        " last_point_sequence = 2;"
        "INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, generation, committed_at)"
        " VALUES ('" MACHINE "', 2, '" VAULT "', now() - interval '1 second', 'application', 1, now())");
}

static uint64_t found(struct db_conn *conn, enum health_machine_column column)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(health_machines(conn, "00000000-0000-0000-0000-000000000000", &r, &err), 1);
    return db_u64(r, 0, column);
}

static int64_t counted(struct db_conn *conn, const char *name)
{
    AUTO_FREE char *text = NULL;
    struct err err = ERR_INIT;

    assert_ok(overview_get(conn, &text, &err), &err);
    json_t *o = json_loads(text, 0, NULL);
    int64_t n = json_integer_value(json_object_get(json_object_get(o, "rpo"), name));

    json_decref(o);
    return n;
}

static bool has_rpo(struct db_conn *conn)
{
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;

    assert_ok(db_need(conn, &db_machines, MACHINE, &set, &err), &err);
    return db_at(&set, struct machine_row, 0)->has_rpo;
}

static int64_t point_skew(struct db_conn *conn)
{
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;

    assert_ok(db_need(conn, &db_machines, MACHINE, &set, &err), &err);
    return db_at(&set, struct machine_row, 0)->point_skew_usec;
}

/* The source's clock is an hour slow: its points look old, those of each kind as well. */
static void the_age_of_each_kind_is_by_the_hubs_clock(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    make(conn);
    fixture_script(conn,
        "UPDATE machines SET clock_skew_usec = -3600000000, last_point_at = last_point_at - interval '1 hour';"
        "UPDATE recovery_points SET time = time - interval '1 hour'");
    assert_true(found(conn, HM_RPO) < SLACK_USEC);
    assert_true(found(conn, HM_APP_AGE) < SLACK_USEC);
    /* An hour fast: what was not made for an hour is not hidden. */
    fixture_script(conn, "UPDATE machines SET clock_skew_usec = 3600000000, last_point_at = now();"
                         "UPDATE recovery_points SET time = now()");
    assert_in_range(found(conn, HM_RPO), HOUR_USEC - SLACK_USEC, HOUR_USEC + SLACK_USEC);
    assert_in_range(found(conn, HM_APP_AGE), HOUR_USEC - SLACK_USEC, HOUR_USEC + SLACK_USEC);
}

/* A clock that was years fast for a moment and is right again: the point of that moment is not the last one until its time has come. */
static void a_point_dated_ahead_does_not_hide_that_none_follows(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    make(conn);
    fixture_script(conn,
        "UPDATE recovery_points SET time = now() - interval '5 hours';"
        "INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, generation, committed_at)"
        " VALUES ('" MACHINE "', 3, '" VAULT "', now() + interval '2 years', 'application', 1, now())");
    assert_in_range(found(conn, HM_APP_AGE), 5 * HOUR_USEC - SLACK_USEC, 5 * HOUR_USEC + SLACK_USEC);
    /* While it is fast, such points are what there is. */
    fixture_script(conn, "UPDATE machines SET clock_skew_usec = 3600000000;"
                         "UPDATE recovery_points SET time = now() + interval '1 hour' WHERE sequence = 3");
    assert_true(found(conn, HM_APP_AGE) < SLACK_USEC);
}

/* The replica's points are made in the vault, and what was off with the source's clock is of no matter any more. */
static void points_of_a_replica_are_dated_by_its_vault(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    uint64_t sequence, age;
    struct err err = ERR_INIT;

    make(conn);
    fixture_script(conn, "UPDATE machines SET state = 'reverse_protected', clock_skew_usec = -3600000000;"
                         "UPDATE vaults SET clock_skew_usec = 7200000000;"
                         "UPDATE recovery_points SET time = time + interval '2 hours'");
    assert_int_equal(point_skew(conn), 7200000000);
    assert_ok(plan_point(conn, MACHINE, "latest", &sequence, &age, &err), &err);
    assert_int_equal(sequence, 2);
    assert_true(age > 0 && age < SLACK_USEC);
    fixture_script(conn, "UPDATE machines SET state = 'protected'");
    assert_int_equal(point_skew(conn), -3600000000);
}

/* Its other disks go on having points, or should. */
static void a_machine_whose_added_disk_is_copied_is_held_to_its_rpo(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    make(conn);
    fixture_script(
        conn, "UPDATE machines SET state = 'initial_replication', last_point_at = now() - interval '1 hour'");
    assert_true(has_rpo(conn));
    assert_true(found(conn, HM_RPO) > HOUR_USEC - SLACK_USEC);
    assert_int_equal(counted(conn, "not_met"), 1);
    fixture_script(conn, "UPDATE machines SET last_point_at = now()");
    assert_int_equal(counted(conn, "met"), 1);
    /* The first copy of all: there is no point, or none of this protection, whose beginning is told by our clock and the point by its own. */
    fixture_script(conn, "UPDATE machines SET last_point_at = NULL");
    assert_false(has_rpo(conn));
    assert_int_equal(counted(conn, "unknown"), 1);
    fixture_script(conn, "UPDATE machines SET last_point_at = now() - interval '2 days'");
    assert_false(has_rpo(conn));
    assert_int_equal(found(conn, HM_RPO), 0);
    assert_int_equal(counted(conn, "unknown"), 1);
    fixture_script(conn, "UPDATE machines SET clock_skew_usec = - 36 * 3600000000");
    assert_true(has_rpo(conn));
}

/* What was before it is not missed. */
static void a_machine_that_is_protected_again_begins_anew(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);

    make(conn);
    fixture_script(conn, "UPDATE recovery_points SET time = now() - interval '20 hours'");
    assert_true(found(conn, HM_APP_AGE) > 19 * HOUR_USEC);
    fixture_script(conn, "UPDATE protections SET active = false");
    AUTO_DB_SET struct db_set policy = {0};
    const struct db_filter filters[] = {{"is_default", DB_EQ, "true"}};
    const struct db_page page = {.filters = filters, .filter_count = ARRAY_LEN(filters), .limit = 1};
    struct err err = ERR_INIT;
    uint64_t version;

    assert_ok(db_list(conn, &db_policies, &page, &policy, &err), &err);
    const struct protection put = {
        .machine_id = MACHINE, .policy_id = db_at(&policy, struct policy_row, 0)->id, .vault_id = VAULT};

    fixture_script(conn, "INSERT INTO disks (machine_id, key, device, size_bytes, trackable) VALUES ('" MACHINE
                         "', 'k', '/dev/sda', 4096, true)");
    assert_ok(protection_put(conn, &put, &version, &err), &err);
    assert_true(found(conn, HM_APP_AGE) < SLACK_USEC);
    /* Other disks are no new beginning. */
    fixture_script(conn, "UPDATE protections SET enabled_at = now() - interval '3 hours'");
    assert_ok(protection_put(conn, &put, &version, &err), &err);
    assert_true(found(conn, HM_APP_AGE) > 2 * HOUR_USEC);
}

static bool looks_encrypted(struct db_conn *conn)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(health_machines(conn, "00000000-0000-0000-0000-000000000000", &r, &err), 1);
    return db_bool(r, 0, HM_ENCRYPTED);
}

/* The hub was away for two hours when it was raised: nobody has been told yet. */
static void an_alarm_that_comes_late_is_raised_all_the_same(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct event_spec alarm = {.severity = "error",
        .code = "looks_encrypted",
        .text = "t",
        .machine_id = MACHINE,
        .at_utc_usec = clock_utc_usec() - 2 * HOUR_USEC};
    struct err err = ERR_INIT;

    make(conn);
    assert_false(looks_encrypted(conn));
    assert_ok(event_append(conn, &alarm, &err), &err);
    assert_true(looks_encrypted(conn));
    fixture_script(conn, "UPDATE events SET stored_at = now() - interval '61 minutes'");
    assert_false(looks_encrypted(conn));
    fixture_script(
        conn, "UPDATE events SET stored_at = NULL"); /* of a hub of an earlier version: by what the agent said */
    assert_false(looks_encrypted(conn));
    fixture_script(conn, "UPDATE events SET at = now() - interval '59 minutes'");
    assert_true(looks_encrypted(conn));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_age_of_each_kind_is_by_the_hubs_clock),
        cmocka_unit_test(a_point_dated_ahead_does_not_hide_that_none_follows),
        cmocka_unit_test(points_of_a_replica_are_dated_by_its_vault),
        cmocka_unit_test(a_machine_whose_added_disk_is_copied_is_held_to_its_rpo),
        cmocka_unit_test(a_machine_that_is_protected_again_begins_anew),
        cmocka_unit_test(an_alarm_that_comes_late_is_raised_all_the_same),
    };

    return cmocka_run_group_tests(tests, postgres_fixture_up, postgres_fixture_down);
}
