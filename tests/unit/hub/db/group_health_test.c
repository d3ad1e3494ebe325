/* SPDX-License-Identifier: Apache-2.0
 *
 * What the health of groups is computed from where there are many points, many groups, clocks that are wrong, and lists of members that change.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "hub/db/clock_store.h"
#include "hub/db/group_store.h"
#include "hub/db/health_store.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/clock.h"

#define VAULT "dddddddd-0000-4000-8000-000000000001"
#define MACHINE(n) "eeeeeeee-0000-4000-8000-00000000000" n
#define MEMBERS 3
#define HOUR_SEC 3600

static void script_of(struct db_conn *conn, char *sql)
{
    assert_non_null(sql);
    fixture_script(conn, sql);
    free(sql);
}

static uint64_t number(struct db_conn *conn, const char *sql)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(db_exec(conn, &r, &err, sql), 1);
    return db_u64(r, 0, 0);
}

/* One group of three machines, which have been protected and connected for long, on its list for a thousand seconds. */
static void make(struct db_conn *conn, char group[IDENT_TEXT_SIZE])
{
    static const char *const machines[MEMBERS] = {MACHINE("1"), MACHINE("2"), MACHINE("3")};
    const struct group_row row = {.name = "shop", .description = "", .interval_usec = 60000000};
    struct err err = ERR_INIT;

    fixture_script(conn, "TRUNCATE consistency_groups, machines, vaults CASCADE");
    fixture_vault(conn, VAULT, "v");
    assert_ok(group_create(conn, &row, group, &err), &err);
    for (int i = 0; i < MEMBERS; i++) {
        fixture_machine(conn, machines[i], machines[i]);
        assert_ok(group_join(conn, group, machines[i], 0, &err), &err);
    }
    fixture_script(conn,
        "UPDATE machines SET state = 'protected';"
        "INSERT INTO protections (machine_id, policy_id, vault_id, enabled_at) SELECT m.id, p.id, '" VAULT
        "', now() - interval '1 day' FROM machines m, policies p WHERE p.is_default;"
        "UPDATE consistency_group_lists SET since = now() - interval '1000 seconds'");
}

static uint64_t looks(struct db_conn *conn, const char *group, enum health_group_column column)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(health_groups(conn, HEALTH_FIRST, &r, &err), 1);
    assert_string_equal(db_text(r, 0, HG_ID), group);
    return db_u64(r, 0, column);
}

/* To the second, with a few for a slow machine. */
static void assert_age(struct db_conn *conn, const char *group, enum health_group_column column, uint64_t sec)
{
    uint64_t age = looks(conn, group, column) / USEC_PER_SEC;

    if (age < sec || age > sec + 20)
        fail_msg("%llu s instead of %llu", (unsigned long long)age, (unsigned long long)sec);
}

/* The id of a group point of the present list that was begun so long ago, by mobility/group/group_point.h; "ago" may be less than 0. */
static void point_id(struct db_conn *conn, char out[IDENT_TEXT_SIZE], int64_t ago_sec)
{
    uint64_t group = number(conn, "SELECT number FROM consistency_groups");
    uint64_t list = number(conn, "SELECT membership FROM consistency_groups");
    uint64_t units = (clock_utc_usec() - (uint64_t)(ago_sec * (int64_t)USEC_PER_SEC)) / 4000; /* of 4 ms, 42 bits */

    (void)snprintf(out, IDENT_TEXT_SIZE, "%08x-%04x-8%03x-%04x-%04x%08x", (unsigned)group, (unsigned)list,
        (unsigned)(units >> 30 & 0xfff), (unsigned)(0x8000 | (units >> 16 & 0x3fff)), (unsigned)(units & 0xffff),
        0x12345678u);
}

/* A point of that machine, dated so long ago by its own clock. group_point "": one of its own. */
static void put_point(struct db_conn *conn, const char *machine, const char *group_point, int64_t ago_sec)
{
    static uint64_t sequence;
    struct err err = ERR_INIT;

    assert_ok(db_exec(conn, NULL, &err,
                  "INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, group_point_id, generation,"
                  " committed_at) VALUES ($1, $2, '" VAULT "', now() - $3::bigint * interval '1 second', 'filesystem',"
                  " $4::uuid, 1, now())",
                  DB_S(machine), DB_U(++sequence), DB_I(ago_sec), DB_ID(group_point)),
        &err);
}

static void put_group_point(struct db_conn *conn, int64_t ago_sec)
{
    char id[IDENT_TEXT_SIZE];

    point_id(conn, id, ago_sec);
    put_point(conn, MACHINE("1"), id, ago_sec);
    put_point(conn, MACHINE("2"), id, ago_sec);
    put_point(conn, MACHINE("3"), id, ago_sec);
}

/* ---- many points ---- */

/* So many points of each member, a second apart: of all of them, but for the third where it is behind by all after the first ten, or none of them shared. */
static void put_many(struct db_conn *conn, unsigned points, bool is_behind, bool is_shared)
{
    fixture_script(conn, "TRUNCATE recovery_points");
    script_of(conn,
        mem_printf(
            "INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, group_point_id, generation,"
            " committed_at) SELECT w.id, s, '" VAULT "', now(), 'filesystem', overlay(group_point_until(g.number,"
            " g.membership, now() - (%u - s) * interval '1 second')::text PLACING %s FROM 29)::uuid, 1, now()"
            " FROM consistency_groups g, generate_series(1, %u) s, unnest(ARRAY['" MACHINE("1") "', '" MACHINE(
                "2") "', '" MACHINE("3") "']::uuid[]) WITH ORDINALITY w(id, n) WHERE w.n < 3 OR s <= 10 OR NOT %s",
            points, is_shared ? "'00000000'" : "'0000000' || w.n", points, is_behind ? "true" : "false"));
    fixture_script(conn, "ANALYZE recovery_points");
}

/* Pages of PostgreSQL that are read to find the last complete point. */
static uint64_t pages_read(struct db_conn *conn)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;
    uint64_t pages;

    (void)number(conn, "SELECT count(group_last_point(1, 1, '{}'))"); /* what is read once by a connection */
    assert_int_equal(db_exec(conn, &r, &err,
                         "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT group_last_point(g.number, g.membership,"
                         " l.machine_ids) FROM consistency_groups g JOIN consistency_group_lists l"
                         " ON l.group_number = g.number AND l.membership = g.membership"),
        1);
    json_t *plan = json_loads(db_text(r, 0, 0), 0, NULL);
    const json_t *top = json_object_get(json_array_get(plan, 0), "Plan");

    assert_non_null(top);
    pages = (uint64_t)json_integer_value(json_object_get(top, "Shared Hit Blocks")) +
            (uint64_t)json_integer_value(json_object_get(top, "Shared Read Blocks"));
    json_decref(plan);
    return pages;
}

/* While the points of one member do not come to their vault, the others have thousands that none of it has. */
static void test_the_last_point_costs_no_more_where_there_are_many(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char group[IDENT_TEXT_SIZE];
    uint64_t few, many;

    make(conn, group);
    put_many(conn, 200, true, true);
    few = pages_read(conn);
    put_many(conn, 20000, true, true);
    many = pages_read(conn);
    assert_int_equal(
        number(conn, "SELECT count(*) FROM consistency_groups g JOIN consistency_group_lists l ON l.group_number ="
                     " g.number AND l.membership = g.membership WHERE group_last_point(g.number, g.membership,"
                     " l.machine_ids) = (SELECT max(group_point_id::text)::uuid FROM recovery_points WHERE"
                     " machine_id = '" MACHINE("3") "')"),
        1);
    if (many > few + 40) /* an index is a level deeper */
        fail_msg("%llu pages of %llu", (unsigned long long)many, (unsigned long long)few);
    put_many(conn, 20000, false, true);
    assert_true(pages_read(conn) <= many);
}

/* It ends, late as the group is, before all has been looked at. */
static void test_members_that_share_no_point_cost_no_more_where_there_are_many(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char group[IDENT_TEXT_SIZE];
    uint64_t few, many;

    make(conn, group);
    put_many(conn, 2000, false, false);
    few = pages_read(conn);
    put_many(conn, 20000, false, false);
    many = pages_read(conn);
    if (many > 2 * few) /* an index is a level deeper */
        fail_msg("%llu pages of %llu", (unsigned long long)many, (unsigned long long)few);
    fixture_script(conn, "UPDATE consistency_group_lists SET since = now() - interval '1000 seconds'");
    assert_age(conn, group, HG_AGE, 1000);
    /* Nor does a group of 63, here of the same three again and again, by so much as it has members. */
    fixture_script(conn,
        "UPDATE consistency_group_lists SET machine_ids = (SELECT array_agg(id) FROM unnest(machine_ids) id,"
        " generate_series(1, 21)) WHERE cardinality(machine_ids) = 3");
    assert_true(pages_read(conn) <= 2 * many);
}

/* ---- many groups ---- */

static void test_groups_come_in_pages_each_once(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char group[IDENT_TEXT_SIZE], after[IDENT_TEXT_SIZE] = HEALTH_FIRST;
    const int all = 2 * HEALTH_GROUP_PAGE + 3;
    int pages = 0, seen = 0, n;

    make(conn, group);
    script_of(
        conn, mem_printf("INSERT INTO consistency_groups (name) SELECT 'g' || n FROM generate_series(2, %d) n", all));
    do {
        AUTO_PGRESULT PGresult *r = NULL;
        struct err err = ERR_INIT;

        n = health_groups(conn, after, &r, &err);
        assert_ok(n, &err);
        assert_int_equal(n, pages < 2 ? HEALTH_GROUP_PAGE : 3);
        for (int i = 0; i < n; i++) {
            assert_true(strcmp(db_text(r, i, HG_ID), after) > 0); /* so none comes twice */
            (void)snprintf(after, sizeof(after), "%s", db_text(r, i, HG_ID));
        }
        seen += n;
        pages++;
    } while (n == HEALTH_GROUP_PAGE);
    assert_int_equal(pages, 3);
    assert_int_equal(seen, all);
}

/* ---- clocks ---- */

/* The clock of a member was an hour fast, made points, and is right again. */
static void test_points_of_a_future_are_not_the_last_ones(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char group[IDENT_TEXT_SIZE];

    make(conn, group);
    put_group_point(conn, 600);
    put_group_point(conn, -HOUR_SEC);
    assert_age(conn, group, HG_AGE, 600);
    fixture_script(
        conn, "UPDATE machines SET clock_skew_usec = 1800000000"); /* and so much ahead, none made it either */
    assert_age(conn, group, HG_AGE, 600 + 1800);
    fixture_script(conn,
        "UPDATE machines SET clock_skew_usec = 0; UPDATE machines SET clock_skew_usec = 3700000000 WHERE id = "
        "'" MACHINE("2") "'"); /* who has it now, by whose clock it may be */
    assert_age(conn, group, HG_AGE, 0);
    fixture_script(conn, "UPDATE machines SET clock_skew_usec = -3700000000 WHERE id = '" MACHINE("2") "'");
    assert_age(conn, group, HG_AGE, 600); /* a slow one lets the others have theirs */
    put_group_point(conn, -30);           /* as far as any clock may be, whatever was measured */
    assert_age(conn, group, HG_AGE, 0);
    fixture_script(conn, "UPDATE machines SET clock_skew_usec = -1000000000; DELETE FROM recovery_points");
    put_group_point(conn, 5000);
    put_group_point(conn, 20);
    assert_age(conn, group, HG_AGE, 0); /* those that were slow may be right by now */
}

static void put_alert(struct db_conn *conn, const char *code, const char *kind, const char *subject)
{
    script_of(conn,
        mem_printf("DELETE FROM alerts; INSERT INTO alerts (id, code, subject_kind, subject_id, %s_id, severity,"
                   " state, since) VALUES (gen_random_uuid(), '%s', '%s', '%s', '%s', 'critical', 'firing', now())",
            kind, code, kind, subject, subject));
}

static void test_what_explains_a_group_is_not_hidden_by_points_of_a_future(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char group[IDENT_TEXT_SIZE];

    make(conn, group);
    put_point(conn, MACHINE("2"), "", 300);
    put_point(conn, MACHINE("2"), "", -HOUR_SEC);
    put_alert(conn, "agent_silent", "machine", MACHINE("2"));
    assert_age(conn, group, HG_TOLD_AGE, 300);
    fixture_script(conn, "UPDATE machines SET clock_skew_usec = 3600000000 WHERE id = '" MACHINE("2") "'");
    assert_age(conn, group, HG_TOLD_AGE, 0); /* it is by that clock, and of now */
    fixture_script(conn, "UPDATE machines SET clock_skew_usec = 0; DELETE FROM recovery_points WHERE time > now()");
    put_point(conn, MACHINE("2"), "", -30);
    assert_age(conn, group, HG_TOLD_AGE, 0); /* as far as any clock may be, whatever was measured */
    fixture_script(conn, "UPDATE machines SET clock_skew_usec = -1000000000; DELETE FROM recovery_points");
    put_point(conn, MACHINE("2"), "", 5000);
    put_point(conn, MACHINE("2"), "", 20);
    assert_age(conn, group, HG_TOLD_AGE, 0); /* one that was slow may be right by now */
}

/* The hub's clock was an hour fast. */
static void test_a_clock_that_is_set_back_leaves_no_group_in_a_future(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char group[IDENT_TEXT_SIZE];

    make(conn, group);
    fixture_script(conn,
        "UPDATE consistency_groups SET news_at = now() + interval '1 hour', finding_code = 'no_group_point',"
        " finding_values = '{\"age_seconds\": 700}', late_since = now() + interval '48 minutes';"
        "UPDATE consistency_group_lists SET since = now() + interval '1 hour';"
        "INSERT INTO consistency_groups (name, news_at) VALUES ('other', now() - interval '100 seconds');"
        "UPDATE placement_watch SET seen_at = now() + interval '1 hour'");
    assert_int_equal(clock_set_back(conn, &err), 1);
    assert_int_equal(
        number(conn, "SELECT count(*) FROM consistency_groups WHERE news_at <= now() - interval '99 s'"), 1);
    fixture_script(conn, "DELETE FROM consistency_groups WHERE name = 'other'");
    assert_age(conn, group, HG_NEWS, 0);
    assert_age(conn, group, HG_LIST_AGE, 0);
    assert_age(conn, group, HG_AGE, 700); /* which it had when it was looked at last */
    fixture_script(conn,
        "UPDATE consistency_groups SET late_since = NULL, news_at = NULL, interval_since = now() + interval '1 hour';"
        "UPDATE consistency_group_lists SET since = now() + interval '1 hour';"
        "UPDATE placement_watch SET seen_at = now() + interval '1 hour'");
    assert_int_equal(clock_set_back(conn, &err), 1);
    fixture_script(conn, "UPDATE consistency_group_lists SET since = since - interval '40 seconds'");
    assert_age(conn, group, HG_LIST_AGE, 0);
    assert_int_equal(number(conn, "SELECT count(*) FROM consistency_groups WHERE interval_since > now()"), 0);
    assert_age(conn, group, HG_AGE, 40);
    assert_int_equal(number(conn, "SELECT count(*) FROM consistency_groups WHERE late_since IS NULL"), 1);
}

/* ---- what was found before ---- */

static void put_finding(struct db_conn *conn, const char *group, bool is_late, uint64_t age_usec)
{
    const struct text_value values[] = {
        VALUE_TEXT("form", "unheard"), VALUE_NUMBER("age_seconds", (int64_t)(age_usec / USEC_PER_SEC)), {0}};
    const struct health_put late = {"group", group, "warning", "no_group_point", "No group point", "Look.", values};
    const struct health_put good = {"group", group, "healthy", "", "", "", NULL};
    struct err err = ERR_INIT;

    assert_ok(health_put(conn, is_late ? &late : &good, &err), &err);
}

static void test_a_group_that_is_late_stays_as_late_by_a_new_list(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char group[IDENT_TEXT_SIZE];

    make(conn, group);
    put_group_point(conn, 700);
    put_finding(conn, group, true, looks(conn, group, HG_AGE));
    assert_age(conn, group, HG_AGE, 700);
    assert_age(conn, group, HG_LIST_AGE, 1000);
    assert_ok(group_leave(conn, group, MACHINE("3"), 0, &err), &err);
    assert_age(conn, group, HG_AGE, 700);
    assert_age(conn, group, HG_LIST_AGE, 0);
    put_group_point(conn, 10);
    assert_age(conn, group, HG_AGE, 10);
    put_finding(conn, group, false, 0);
    assert_ok(group_join(conn, group, MACHINE("3"), 0, &err), &err);
    assert_age(conn, group, HG_AGE, 0); /* none is late by a new list that was not by the one before */
}

/* Each look stores how old the last point is, cut to seconds, and goes by it when the list is another one: that must not add up. */
static void test_looks_make_a_group_neither_younger_nor_older(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char group[IDENT_TEXT_SIZE];

    make(conn, group);
    put_finding(conn, group, true, 300 * USEC_PER_SEC);
    assert_ok(group_leave(conn, group, MACHINE("3"), 0, &err), &err);
    for (int i = 0; i < 100; i++) { /* a look every 4.5 seconds */
        fixture_script(conn, "UPDATE consistency_groups SET late_since = late_since - interval '4.5 seconds'");
        put_finding(conn, group, true, looks(conn, group, HG_AGE));
    }
    assert_age(conn, group, HG_AGE, 750);
    for (int i = 0; i < 100; i++) /* nor does what a slow look adds */
        put_finding(conn, group, true, looks(conn, group, HG_AGE) - 5 * USEC_PER_SEC);
    assert_age(conn, group, HG_AGE, 750);
    put_finding(conn, group, true, 100 * USEC_PER_SEC); /* a point came, and the next one has been missed since */
    assert_age(conn, group, HG_AGE, 100);
}

/* By the version before, which knows nothing of it. */
static void test_a_finding_that_another_hub_ended_is_over(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char group[IDENT_TEXT_SIZE];

    make(conn, group);
    put_finding(conn, group, true, 5000 * USEC_PER_SEC);
    assert_age(conn, group, HG_AGE, 5000);
    fixture_script(conn, "UPDATE consistency_groups SET finding_code = '', finding_values = '{}'");
    assert_age(conn, group, HG_AGE, 1000);
    put_finding(conn, group, true, 1000 * USEC_PER_SEC);
    assert_age(conn, group, HG_AGE, 1000);
}

/* Another interval has its time like another list; another name is none of its business. */
static void test_another_interval_begins_anew(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct group_row row = {.name = "other", .description = "", .interval_usec = 60 * USEC_PER_SEC};
    struct err err = ERR_INIT;
    char group[IDENT_TEXT_SIZE];

    make(conn, group);
    row.id = group;
    fixture_script(conn, "UPDATE consistency_groups SET interval_usec = 60000000");
    assert_ok(group_update(conn, &row, 0, &err), &err);
    assert_age(conn, group, HG_LIST_AGE, 1000);
    row.interval_usec = USEC_PER_SEC;
    assert_ok(group_update(conn, &row, 0, &err), &err);
    assert_age(conn, group, HG_LIST_AGE, 0);
    fixture_script(conn, "UPDATE consistency_groups SET interval_since = now() - interval '200 seconds'");
    assert_age(conn, group, HG_LIST_AGE, 200);
    assert_age(conn, group, HG_AGE, 1000);
}

static void test_a_machine_that_was_removed_is_no_reason(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    char group[IDENT_TEXT_SIZE];

    make(conn, group);
    const struct group_news_put news = {.machine_id = MACHINE("1"),
        .group_id = group,
        .point_id = "",
        .culprit_id = MACHINE("3"),
        .cause = "it cannot be reached",
        .remedy = "",
        .missed = 1,
        .last_missed = true};

    assert_ok(group_news_put(conn, &news, &err), &err);
    assert_int_equal(looks(conn, group, HG_NEWS) / (60 * USEC_PER_SEC), 0);
    assert_ok(group_leave(conn, group, MACHINE("3"), 0, &err), &err);
    AUTO_PGRESULT PGresult *r = NULL;
    assert_int_equal(health_groups(conn, HEALTH_FIRST, &r, &err), 1);
    assert_string_equal(db_text(r, 0, HG_NEWS), "-1");
    assert_false(db_bool(r, 0, HG_MISSED));
}

static void test_a_member_that_is_not_protected_is_not_explained(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    char group[IDENT_TEXT_SIZE];

    make(conn, group);
    put_point(conn, MACHINE("2"), "", 300);
    put_alert(conn, "vault_silent", "vault", VAULT);
    assert_age(conn, group, HG_TOLD_AGE, 300);
    fixture_script(conn, "UPDATE protections SET active = false WHERE machine_id = '" MACHINE("2") "'");
    assert_int_equal(looks(conn, group, HG_TOLD_AGE), 0);
    fixture_script(conn, "UPDATE protections SET active = true");
    assert_age(conn, group, HG_TOLD_AGE, 300);
    fixture_script(conn, "DELETE FROM protections WHERE machine_id = '" MACHINE("2") "'");
    assert_int_equal(looks(conn, group, HG_TOLD_AGE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_last_point_costs_no_more_where_there_are_many),
        cmocka_unit_test(test_members_that_share_no_point_cost_no_more_where_there_are_many),
        cmocka_unit_test(test_groups_come_in_pages_each_once),
        cmocka_unit_test(test_points_of_a_future_are_not_the_last_ones),
        cmocka_unit_test(test_what_explains_a_group_is_not_hidden_by_points_of_a_future),
        cmocka_unit_test(test_a_clock_that_is_set_back_leaves_no_group_in_a_future),
        cmocka_unit_test(test_a_group_that_is_late_stays_as_late_by_a_new_list),
        cmocka_unit_test(test_looks_make_a_group_neither_younger_nor_older),
        cmocka_unit_test(test_a_finding_that_another_hub_ended_is_over),
        cmocka_unit_test(test_another_interval_begins_anew),
        cmocka_unit_test(test_a_machine_that_was_removed_is_no_reason),
        cmocka_unit_test(test_a_member_that_is_not_protected_is_not_explained),
    };

    return cmocka_run_group_tests_name("group_health", tests, postgres_fixture_up, postgres_fixture_down);
}
