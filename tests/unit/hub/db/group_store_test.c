/* SPDX-License-Identifier: Apache-2.0
 *
 * Consistency groups in the database: who belongs where, the numbers of lists, who hears of it, and that a group point is there
 * when, and only when, each machine on the list that its id names has its point.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/db/config_store.h"
#include "hub/db/group_store.h"
#include "hub/db/health_store.h"
#include "hub/db/peer_store.h"
#include "hub/db/simulation_store.h"
#include "tests/unit/hub/postgres_fixture.h"
#include "transport/base/clock.h"

static void new_id(char out[IDENT_TEXT_SIZE])
{
    struct ident id;

    assert_int_equal(ident_random(&id), 0);
    ident_to_text(&id, out);
}

struct fleet {
    char group[IDENT_TEXT_SIZE], vault[IDENT_TEXT_SIZE], machines[3][IDENT_TEXT_SIZE];
    uint64_t number;
};

static uint64_t number_of(struct db_conn *conn, const char *sql, const char *id)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(db_exec(conn, &r, &err, sql, DB_S(id)), 1);
    return db_u64(r, 0, 0);
}

static uint64_t membership(struct db_conn *conn, const struct fleet *f)
{
    return number_of(conn, "SELECT membership FROM consistency_groups WHERE id = $1", f->group);
}

static uint64_t desired(struct db_conn *conn, const char *machine)
{
    return number_of(conn, "SELECT desired_version FROM machines WHERE id = $1", machine);
}

/* Three machines with a vault, two of them in a group. */
static void fleet_up(struct db_conn *conn, const char *name, struct fleet *f)
{
    const struct group_row row = {.name = name, .description = "", .interval_usec = 60000000};
    AUTO_PGRESULT PGresult *policy = NULL;
    struct err err = ERR_INIT;

    new_id(f->vault);
    AUTO_FREE char *vault_name = mem_printf("%s-vault", name);
    fixture_vault(conn, f->vault, vault_name);
    assert_int_equal(db_exec(conn, &policy, &err, "SELECT id FROM policies WHERE is_default"), 1);
    assert_ok(group_create(conn, &row, f->group, &err), &err);
    for (int i = 0; i < 3; i++) {
        AUTO_FREE char *machine_name = mem_printf("%s-m%d", name, i);

        new_id(f->machines[i]);
        fixture_machine(conn, f->machines[i], machine_name);
        assert_ok(
            db_exec(conn, NULL, &err, "INSERT INTO protections (machine_id, policy_id, vault_id) VALUES ($1, $2, $3)",
                DB_S(f->machines[i]), DB_S(db_text(policy, 0, 0)), DB_S(f->vault)),
            &err);
        if (i < 2)
            assert_ok(group_join(conn, f->group, f->machines[i], 0, &err), &err);
    }
    f->number = number_of(conn, "SELECT number FROM consistency_groups WHERE id = $1", f->group);
}

/* The id that the agents would give: mobility/group/group_point.h. */
static void point_id(char out[IDENT_TEXT_SIZE], uint64_t number, uint64_t list, unsigned which)
{
    snprintf(out, IDENT_TEXT_SIZE, "%08x-%04x-8000-8000-%012x", (unsigned)number, (unsigned)list, which);
}

static void put_point(
    struct db_conn *conn, const struct fleet *f, int machine, uint64_t sequence, const char *group_point)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *json =
        mem_printf("[{\"machine_id\":\"%s\",\"sequence\":%llu,\"time_usec\":1790000000000000,\"kind\":\"filesystem\","
                   "\"tag\":\"\",\"group_point_id\":\"%s\",\"generation\":1,\"changed_bytes\":9,\"frozen\":true,"
                   "\"unreadable_blocks\":0,\"committed_usec\":1790000000000001}]",
            f->machines[machine], (unsigned long long)sequence, group_point);

    assert_ok(point_put(conn, f->vault, json, "[]", &err), &err);
}

static size_t listed(struct db_conn *conn, const struct fleet *f)
{
    const struct db_filter filter = {"group_id", DB_EQ, f->group};
    const struct db_page page = {.filters = &filter, .filter_count = 1};
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;

    assert_ok(db_list(conn, &db_group_points, &page, &set, &err), &err);
    return set.count;
}

static void test_a_group_point_is_there_when_all_have_it(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;
    struct fleet f;
    char id[IDENT_TEXT_SIZE];

    fleet_up(conn, "whole", &f);
    point_id(id, f.number, membership(conn, &f), 1);
    put_point(conn, &f, 0, 1, id);
    assert_int_equal(listed(conn, &f), 0);
    AUTO_FREE char *key = mem_printf("%s:1", f.machines[0]);
    assert_int_equal(db_get(conn, &db_points, key, &set, &err), 1);
    assert_string_equal(db_at(&set, struct point_row, 0)->group_point_id, ""); /* half-made is none */
    put_point(conn, &f, 2, 1, id);                                             /* not on the list: does not count */
    assert_int_equal(listed(conn, &f), 0);
    put_point(conn, &f, 1, 7, id);
    assert_int_equal(listed(conn, &f), 1);
    AUTO_DB_SET struct db_set after = {0};
    assert_int_equal(db_get(conn, &db_points, key, &after, &err), 1);
    assert_string_equal(db_at(&after, struct point_row, 0)->group_point_id, id);

    /* Retention drops one part: the group point goes with it. */
    AUTO_FREE char *drop = mem_printf("[{\"machine_id\":\"%s\",\"sequence\":7}]", f.machines[1]);
    assert_ok(point_put(conn, f.vault, "[]", drop, &err), &err);
    assert_int_equal(listed(conn, &f), 0);
}

static void test_an_id_counts_for_its_own_list_only(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    struct fleet f;
    char old[IDENT_TEXT_SIZE], new[IDENT_TEXT_SIZE], foreign[IDENT_TEXT_SIZE];

    fleet_up(conn, "lists", &f);
    point_id(old, f.number, membership(conn, &f), 1);
    assert_ok(group_join(conn, f.group, f.machines[2], 0, &err), &err);
    point_id(new, f.number, membership(conn, &f), 2);
    point_id(foreign, f.number + 1000, membership(conn, &f), 3);
    for (int i = 0; i < 2; i++) {
        put_point(conn, &f, i, 1, old);
        put_point(conn, &f, i, 2, new);
        put_point(conn, &f, i, 3, foreign);
    }
    assert_int_equal(listed(conn, &f), 1); /* the old list had two machines */
    put_point(conn, &f, 2, 2, new);
    put_point(conn, &f, 2, 3, foreign);
    assert_int_equal(listed(conn, &f), 2);

    /* One that names no list, as a random id does. */
    put_point(conn, &f, 0, 9, f.machines[0]);
    put_point(conn, &f, 1, 9, f.machines[0]);
    assert_int_equal(listed(conn, &f), 2);
}

static void test_every_member_hears_of_a_change(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *rows = NULL;
    struct err err = ERR_INIT;
    struct fleet f;
    uint64_t before[3], list;

    fleet_up(conn, "hear", &f);
    list = membership(conn, &f);
    for (int i = 0; i < 3; i++)
        before[i] = desired(conn, f.machines[i]);
    assert_ok(group_join(conn, f.group, f.machines[2], 0, &err), &err);
    assert_int_equal(membership(conn, &f), list + 1);
    for (int i = 0; i < 3; i++)
        assert_true(desired(conn, f.machines[i]) > before[i]);
    assert_int_equal(desired_group(conn, f.machines[1], &rows, &err), 3);
    assert_string_equal(db_text(rows, 0, 6), f.machines[0]); /* the first one coordinates */

    /* Who leaves hears of it, too, and is in no group then; an address that changed reaches the others. */
    for (int i = 0; i < 3; i++)
        before[i] = desired(conn, f.machines[i]);
    assert_ok(group_leave(conn, f.group, f.machines[0], 0, &err), &err);
    for (int i = 0; i < 3; i++)
        assert_true(desired(conn, f.machines[i]) > before[i]);
    AUTO_PGRESULT PGresult *none = NULL;
    assert_int_equal(desired_group(conn, f.machines[0], &none, &err), 0);
    before[2] = desired(conn, f.machines[2]);
    const struct peer_hello hello = {
        .role = "agent", .id = f.machines[1], .software = "s", .host = "h", .endpoint = "10.0.0.9:20004"};
    assert_int_equal(peer_hello(conn, &hello, &err), 1);
    assert_true(desired(conn, f.machines[2]) > before[2]);
    before[2] = desired(conn, f.machines[2]);
    assert_int_equal(peer_hello(conn, &hello, &err), 1);
    assert_int_equal(desired(conn, f.machines[2]), before[2]); /* the same again is no news */
}

static void test_new_settings_reach_every_member(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_PGRESULT PGresult *rows = NULL;
    struct group_row row = {
        .name = "renamed", .description = "", .interval_usec = 5000000, .freeze_budget_usec = 150000};
    struct err err = ERR_INIT;
    struct fleet f;
    uint64_t before[3], list;

    fleet_up(conn, "settings", &f);
    list = membership(conn, &f);
    for (int i = 0; i < 3; i++)
        before[i] = desired(conn, f.machines[i]);
    row.id = f.group;
    assert_ok(group_update(conn, &row, 0, &err), &err);
    assert_true(desired(conn, f.machines[0]) > before[0]);
    assert_true(desired(conn, f.machines[1]) > before[1]);
    assert_int_equal(desired(conn, f.machines[2]), before[2]); /* it is no member */
    assert_int_equal(membership(conn, &f), list);              /* the list is the same one */
    assert_int_equal(desired_group(conn, f.machines[1], &rows, &err), 2);
    assert_string_equal(db_text(rows, 0, 1), "renamed");
    assert_int_equal(db_u64(rows, 0, 4), 5000000);
    assert_int_equal(db_u64(rows, 0, 5), 150000);
}

static void test_members_that_cannot_be(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct group_row other = {.name = "others", .description = "", .interval_usec = 0};
    struct err err = ERR_INIT;
    struct fleet f;
    char second[IDENT_TEXT_SIZE];

    fleet_up(conn, "cannot", &f);
    assert_ok(group_create(conn, &other, second, &err), &err);
    assert_int_equal(group_join(conn, f.group, f.machines[0], 0, &err), -1);
    assert_int_equal(err.code, ERR_EXISTS);
    assert_int_equal(group_join(conn, second, f.machines[0], 0, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_int_equal(group_leave(conn, f.group, f.machines[2], 0, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(group_join(conn, f.group, f.machines[2], 4711, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(group_create(conn, &other, second, &err), -1);
    assert_int_equal(err.code, ERR_EXISTS);
    assert_ok(db_exec(conn, NULL, &err, "DELETE FROM protections WHERE machine_id = $1", DB_S(f.machines[0])), &err);
    assert_int_equal(machine_delete(conn, f.machines[0], 0, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.correction, "leeward group remove"));
    assert_ok(group_delete(conn, f.group, 0, &err), &err);
    assert_ok(machine_delete(conn, f.machines[0], 0, &err), &err);
}

/* Those that stay would go on under the number of a list with a machine that is gone, and no group point of theirs be complete. */
static void test_a_simulated_machine_leaves_its_group_like_any_other(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct simulation_removed gone;
    struct err err = ERR_INIT;
    struct fleet f;
    char id[IDENT_TEXT_SIZE];
    uint64_t list, before[2];

    fleet_up(conn, "mixed", &f);
    assert_ok(group_join(conn, f.group, f.machines[2], 0, &err), &err);
    assert_ok(
        db_exec(conn, NULL, &err, "UPDATE machines SET simulated = true WHERE id = $1", DB_S(f.machines[2])), &err);
    list = membership(conn, &f);
    for (int i = 0; i < 2; i++)
        before[i] = desired(conn, f.machines[i]);
    assert_ok(db_begin(conn, &err), &err);
    assert_ok(simulation_remove(conn, 10, &gone, &err), &err);
    assert_ok(db_commit(conn, &err), &err);
    assert_int_equal(gone.machines, 1);
    assert_int_equal(membership(conn, &f), list + 1);
    point_id(id, f.number, list + 1, 1);
    for (int i = 0; i < 2; i++) {
        assert_true(desired(conn, f.machines[i]) > before[i]);
        put_point(conn, &f, i, 1, id);
    }
    assert_int_equal(listed(conn, &f), 1);
}

static void test_sixty_four_machines_and_no_more(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    const struct group_row row = {.name = "large", .description = "", .interval_usec = 60000000};
    struct err err = ERR_INIT;
    char group[IDENT_TEXT_SIZE];

    assert_ok(group_create(conn, &row, group, &err), &err);
    for (unsigned i = 0; i <= GROUP_MACHINES_MAX; i++) {
        AUTO_FREE char *name = mem_printf("large-%u", i);
        char machine[IDENT_TEXT_SIZE];

        new_id(machine);
        fixture_machine(conn, machine, name);
        assert_int_equal(group_join(conn, group, machine, 0, &err), i < GROUP_MACHINES_MAX ? 0 : -1);
    }
    assert_int_equal(err.code, ERR_REFUSED);
}

static void test_only_a_member_has_news_of_its_group(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_DB_SET struct db_set before = {0};
    AUTO_DB_SET struct db_set after = {0};
    struct err err = ERR_INIT;
    struct fleet f;

    fleet_up(conn, "news", &f);
    struct group_news_put news = {.machine_id = f.machines[2],
        .group_id = f.group,
        .point_id = "",
        .culprit_id = f.machines[2],
        .cause = "it is not protected",
        .remedy = "",
        .missed = 3,
        .last_missed = true};

    assert_ok(group_news_put(conn, &news, &err), &err);
    assert_ok(db_need(conn, &db_groups, f.group, &before, &err), &err);
    assert_string_equal(db_at(&before, struct group_row, 0)->health, "unknown");
    news.machine_id = f.machines[0];
    assert_ok(group_news_put(conn, &news, &err), &err);
    assert_ok(db_need(conn, &db_groups, "news", &after, &err), &err);
    assert_string_equal(db_at(&after, struct group_row, 0)->health, "warning");
    assert_string_equal(db_at(&after, struct group_row, 0)->cause, "it is not protected");
    assert_string_equal(db_at(&after, struct group_row, 0)->culprit_id, ""); /* it is not in the group */
    assert_string_equal(db_at(&after, struct group_row, 0)->coordinated_by, f.machines[0]);
    assert_int_equal(db_at(&after, struct group_row, 0)->member_count, 2);
}

static const struct group_row *row_of(struct db_conn *conn, const char *group, struct db_set *set)
{
    struct err err = ERR_INIT;

    db_set_done(set);
    assert_ok(db_need(conn, &db_groups, group, set, &err), &err);
    return db_at(set, struct group_row, 0);
}

static void assert_ago(uint64_t utc_usec, unsigned seconds)
{
    uint64_t ago = clock_utc_usec() - utc_usec;

    if (ago < seconds * USEC_PER_SEC || ago > (seconds + 60) * USEC_PER_SEC)
        fail_msg("%" PRIu64 " us ago and not %u s", ago, seconds);
}

/* Each session begins with what became of the last group point, and another machine may have coordinated since. */
static void test_news_that_are_told_again_are_not_new(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_DB_SET struct db_set set = {0};
    struct err err = ERR_INIT;
    struct fleet f;
    char points[2][IDENT_TEXT_SIZE];

    fleet_up(conn, "again", &f);
    new_id(points[0]);
    new_id(points[1]);
    struct group_news_put first = {.machine_id = f.machines[0],
        .group_id = f.group,
        .point_id = points[0],
        .culprit_id = f.machines[1],
        .cause = "it was not ready in time",
        .remedy = "",
        .made = 5,
        .missed = 1,
        .age_usec = 600 * USEC_PER_SEC,
        .point_age_usec = 900 * USEC_PER_SEC,
        .last_missed = true};
    struct group_news_put second = first;

    assert_ok(group_news_put(conn, &first, &err), &err);
    const struct group_row *row = row_of(conn, f.group, &set);
    assert_string_equal(row->coordinated_by, f.machines[0]);
    assert_string_equal(row->last_point_id, points[0]);
    assert_ago(row->last_point_at, 900);
    assert_ago(row->news_at, 600);

    second.machine_id = f.machines[1];
    second.point_id = points[1];
    second.last_missed = false;
    second.age_usec = second.point_age_usec = 300 * USEC_PER_SEC;
    assert_ok(group_news_put(conn, &second, &err), &err);
    assert_ok(group_news_put(conn, &first, &err), &err);
    row = row_of(conn, f.group, &set);
    assert_string_equal(row->coordinated_by, f.machines[1]);
    assert_string_equal(row->last_point_id, points[1]);
    assert_ago(row->last_point_at, 300);
    assert_ago(row->news_at, 300);

    first.age_usec = 0;
    assert_ok(group_news_put(conn, &first, &err), &err);
    row = row_of(conn, f.group, &set);
    assert_string_equal(row->coordinated_by, f.machines[0]);
    assert_ago(row->news_at, 0);
}

/* ---- what health is computed from ---- */

static void run_for(struct db_conn *conn, const char *text, const char *id)
{
    struct err err = ERR_INIT;

    assert_ok(db_exec(conn, NULL, &err, text, DB_S(id)), &err);
}

/* The row of the group; the caller clears it. */
static PGresult *looked_at(struct db_conn *conn, const struct fleet *f, int *ret_row)
{
    struct err err = ERR_INIT;
    PGresult *r = NULL;
    int n = health_groups(conn, HEALTH_FIRST, &r, &err);

    assert_ok(n, &err);
    for (*ret_row = 0; *ret_row < n; ++*ret_row)
        if (strcmp(db_text(r, *ret_row, HG_ID), f->group) == 0)
            return r;
    fail_msg("the group is not among %d", n);
    return r;
}

static uint64_t looks(struct db_conn *conn, const struct fleet *f, enum health_group_column column)
{
    int row;
    AUTO_PGRESULT PGresult *r = looked_at(conn, f, &row);

    return column == HG_FIRST_COPY || column == HG_MISSED ? db_bool(r, row, column) : db_u64(r, row, column);
}

/* To the second, with a few for a slow machine. */
static void assert_age(struct db_conn *conn, const struct fleet *f, enum health_group_column column, uint64_t sec)
{
    uint64_t age = looks(conn, f, column) / 1000000;

    if (age < sec || age > sec + 20)
        fail_msg("%llu s instead of %llu", (unsigned long long)age, (unsigned long long)sec);
}

static void assert_looks(struct db_conn *conn, const struct fleet *f, enum health_group_column column, const char *text)
{
    int row;
    AUTO_PGRESULT PGresult *r = looked_at(conn, f, &row);

    assert_string_equal(db_text(r, row, column), text);
}

/* group_point "": one of its own. */
static void put_aged(
    struct db_conn *conn, const struct fleet *f, int machine, uint64_t sequence, int age_sec, const char *group_point)
{
    struct err err = ERR_INIT;

    assert_ok(
        db_exec(conn, NULL, &err,
            "INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, group_point_id, generation,"
            " committed_at) VALUES ($1, $2, $3, now() - make_interval(secs => $4::double precision), 'filesystem',"
            " $5::uuid, 1, now())",
            DB_S(f->machines[machine]), DB_U(sequence), DB_S(f->vault), DB_U((uint64_t)age_sec), DB_ID(group_point)),
        &err);
}

/* A group of two that have been protected and connected for long. */
static void quiet_fleet(struct db_conn *conn, const char *name, struct fleet *f)
{
    fixture_script(conn, "DELETE FROM consistency_groups");
    fleet_up(conn, name, f);
    fixture_script(conn, "UPDATE machines SET state = 'protected', online = true;"
                         " UPDATE protections SET enabled_at = now() - interval '1 day';"
                         " UPDATE consistency_group_lists SET since = now() - interval '1000 seconds'");
}

static void test_a_group_is_as_old_as_the_last_point_that_all_have(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    struct fleet f;
    char id[6][IDENT_TEXT_SIZE];
    uint64_t list;

    quiet_fleet(conn, "age", &f);
    list = membership(conn, &f);
    for (unsigned i = 0; i < 6; i++)
        point_id(id[i], f.number, list, i);
    assert_int_equal(looks(conn, &f, HG_MEMBERS), 2);
    assert_age(conn, &f, HG_AGE, 1000);
    put_aged(conn, &f, 0, 1, 500, id[1]);
    assert_age(conn, &f, HG_AGE, 1000); /* half-made is none */
    put_aged(conn, &f, 1, 1, 500, id[1]);
    assert_age(conn, &f, HG_AGE, 500);
    for (unsigned i = 2; i < 6; i++) /* the points of the other one do not come */
        put_aged(conn, &f, 0, i, 500 - 100 * (int)(i - 1), id[i]);
    assert_age(conn, &f, HG_AGE, 500);
    put_aged(conn, &f, 1, 3, 300, id[3]);
    assert_age(conn, &f, HG_AGE, 300);
    put_aged(conn, &f, 1, 2, 400, id[2]); /* an older one that came late changes nothing */
    assert_age(conn, &f, HG_AGE, 300);
    run_for(conn, "UPDATE machines SET clock_skew_usec = 60000000 WHERE id = $1", f.machines[0]);
    assert_age(conn, &f, HG_AGE, 360); /* whose clock dated it is fast */
    run_for(conn, "DELETE FROM recovery_points WHERE sequence = 3 AND machine_id = $1", f.machines[0]);
    assert_age(conn, &f, HG_AGE, 460);
    assert_ok(group_join(conn, f.group, f.machines[2], 0, &err), &err); /* another list has its own points */
    assert_age(conn, &f, HG_AGE, 0);
    run_for(conn, "UPDATE consistency_groups SET interval_usec = 0 WHERE id = $1", f.group);
    fixture_script(conn, "UPDATE consistency_group_lists SET since = now() - interval '1000 seconds'");
    assert_int_equal(looks(conn, &f, HG_AGE), 0);
}

/* The number of a list is as large as it can be: the bounds of its ids have to hold all the same. */
static void test_the_last_list_of_all_has_points_too(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    struct fleet f;
    char id[IDENT_TEXT_SIZE];

    quiet_fleet(conn, "last", &f);
    run_for(conn, "UPDATE consistency_groups SET membership = 65534 WHERE id = $1", f.group);
    assert_ok(group_join(conn, f.group, f.machines[2], 0, &err), &err);
    fixture_script(conn, "UPDATE consistency_group_lists SET since = now() - interval '1000 seconds'");
    point_id(id, f.number, 65535, 1);
    for (int i = 0; i < 3; i++)
        put_aged(conn, &f, i, 1, 40, id);
    assert_age(conn, &f, HG_AGE, 40);
}

static void test_a_first_copy_is_one_without_points_of_this_protection(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct fleet f;

    quiet_fleet(conn, "first", &f);
    assert_false(looks(conn, &f, HG_FIRST_COPY));
    run_for(conn, "UPDATE machines SET state = 'enabling' WHERE id = $1", f.machines[1]);
    assert_true(looks(conn, &f, HG_FIRST_COPY));
    run_for(conn, "UPDATE machines SET state = 'initial_replication' WHERE id = $1", f.machines[1]);
    assert_true(looks(conn, &f, HG_FIRST_COPY));
    run_for(conn, "UPDATE machines SET last_point_at = now() - interval '2 days' WHERE id = $1", f.machines[1]);
    assert_true(looks(conn, &f, HG_FIRST_COPY)); /* of the protection before */
    run_for(conn, "UPDATE machines SET last_point_at = now() WHERE id = $1", f.machines[1]);
    assert_false(looks(conn, &f, HG_FIRST_COPY)); /* a disk was added */
    run_for(
        conn, "UPDATE machines SET state = 'initial_replication', last_point_at = NULL WHERE id = $1", f.machines[2]);
    assert_false(looks(conn, &f, HG_FIRST_COPY)); /* which is no member */
}

static void test_who_takes_part_in_none_and_what_was_said_last(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct err err = ERR_INIT;
    struct fleet f;

    quiet_fleet(conn, "absent", &f);
    assert_looks(conn, &f, HG_ABSENT, "");
    assert_looks(conn, &f, HG_NEWS, "-1");
    run_for(conn, "UPDATE machines SET online = false WHERE id = $1", f.machines[0]);
    assert_looks(conn, &f, HG_ABSENT, "absent-m0");
    assert_looks(conn, &f, HG_ABSENT_STATE, "protected");
    run_for(conn, "UPDATE machines SET state = 'unprotected' WHERE id = $1", f.machines[1]);
    assert_looks(conn, &f, HG_ABSENT, "absent-m1"); /* goes before one that is only not connected */
    assert_looks(conn, &f, HG_ABSENT_STATE, "unprotected");

    const struct group_news_put news = {.machine_id = f.machines[0],
        .group_id = f.group,
        .point_id = "",
        .culprit_id = f.machines[1],
        .cause = "it is not protected",
        .remedy = "protect it",
        .missed = 1,
        .last_missed = true};

    assert_ok(group_news_put(conn, &news, &err), &err);
    run_for(conn, "UPDATE consistency_groups SET news_at = now() - interval '100 seconds' WHERE id = $1", f.group);
    assert_age(conn, &f, HG_NEWS, 100);
    assert_true(looks(conn, &f, HG_MISSED));
    assert_looks(conn, &f, HG_CULPRIT, "absent-m1");
    assert_looks(conn, &f, HG_NEWS_CAUSE, "it is not protected");
    assert_looks(conn, &f, HG_NEWS_REMEDY, "protect it");
}

/* kind and subject of the alert; that of another code, or one that waits for its time, tells nothing. */
static void put_alert(struct db_conn *conn, const char *code, const char *kind, const char *subject, const char *phase)
{
    struct err err = ERR_INIT;

    fixture_script(conn, "DELETE FROM alerts");
    assert_ok(
        db_exec(conn, NULL, &err,
            "INSERT INTO alerts (id, code, subject_kind, subject_id, machine_id, vault_id, severity, state, since)"
            " VALUES (gen_random_uuid(), $1, $2, $3, CASE $2 WHEN 'machine' THEN $3::uuid END,"
            " CASE $2 WHEN 'vault' THEN $3::uuid END, 'critical', $4, now())",
            DB_S(code), DB_S(kind), DB_S(subject), DB_S(phase)),
        &err);
}

static void test_a_member_whose_points_do_not_come_may_be_told_already(void **state)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    struct fleet f;

    quiet_fleet(conn, "told", &f);
    put_aged(conn, &f, 0, 1, 30, "");
    put_aged(conn, &f, 1, 1, 400, "");
    put_aged(conn, &f, 1, 2, 200, "");
    assert_int_equal(looks(conn, &f, HG_TOLD_AGE), 0);
    put_alert(conn, "agent_silent", "machine", f.machines[0], "firing");
    assert_age(conn, &f, HG_TOLD_AGE, 30); /* of whom there is an alert, whatever the others lack */
    put_alert(conn, "agent_silent", "machine", f.machines[1], "acknowledged");
    assert_age(conn, &f, HG_TOLD_AGE, 200);
    put_alert(conn, "vault_silent", "vault", f.vault, "firing");
    assert_age(conn, &f, HG_TOLD_AGE, 200); /* the vault of both */
    put_alert(conn, "agent_silent", "machine", f.machines[1], "pending");
    assert_int_equal(looks(conn, &f, HG_TOLD_AGE), 0);
    put_alert(conn, "clock_skew", "machine", f.machines[1], "firing");
    assert_int_equal(looks(conn, &f, HG_TOLD_AGE), 0);
    put_alert(conn, "agent_silent", "machine", f.machines[2], "firing");
    assert_int_equal(looks(conn, &f, HG_TOLD_AGE), 0);
}

static void test_a_finding_is_shown_before_what_was_missed_last(void **state)
{
    static const struct text_value values[] = {VALUE_TEXT("form", "unheard"), VALUE_NUMBER("age_seconds", 300), {0}};
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(state);
    AUTO_DB_SET struct db_set late = {0};
    AUTO_DB_SET struct db_set good = {0};
    struct err err = ERR_INIT;
    struct fleet f;

    quiet_fleet(conn, "shown", &f);
    const struct group_news_put news = {
        .machine_id = f.machines[0], .group_id = f.group, .point_id = "", .culprit_id = "", .cause = "", .remedy = ""};
    struct health_put put = {"group", f.group, "warning", "no_group_point", "No group point", "Look.", values};

    assert_ok(group_news_put(conn, &news, &err), &err);
    assert_ok(health_put(conn, &put, &err), &err);
    assert_ok(db_need(conn, &db_groups, f.group, &late, &err), &err);
    const struct group_row *row = db_at(&late, struct group_row, 0);

    assert_string_equal(row->health, "warning");
    assert_string_equal(row->cause_code, "no_group_point");
    assert_string_equal(row->cause, "No group point");
    assert_string_equal(row->remedy, "Look.");
    assert_non_null(strstr(row->cause_values_json, "\"age_seconds\": 300"));
    assert_looks(conn, &f, HG_CODE, "no_group_point");
    assert_looks(conn, &f, HG_CAUSE, "No group point");
    put = (struct health_put){"group", f.group, "healthy", "", "", "", NULL};
    assert_ok(health_put(conn, &put, &err), &err);
    assert_ok(db_need(conn, &db_groups, f.group, &good, &err), &err);
    assert_string_equal(db_at(&good, struct group_row, 0)->health, "healthy");
    assert_string_equal(db_at(&good, struct group_row, 0)->cause, "");
    assert_int_equal(
        db_at(&good, struct group_row, 0)->version, row->version); /* who changes it by hand loses nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_group_point_is_there_when_all_have_it),
        cmocka_unit_test(test_an_id_counts_for_its_own_list_only),
        cmocka_unit_test(test_every_member_hears_of_a_change),
        cmocka_unit_test(test_new_settings_reach_every_member),
        cmocka_unit_test(test_members_that_cannot_be),
        cmocka_unit_test(test_a_simulated_machine_leaves_its_group_like_any_other),
        cmocka_unit_test(test_sixty_four_machines_and_no_more),
        cmocka_unit_test(test_only_a_member_has_news_of_its_group),
        cmocka_unit_test(test_news_that_are_told_again_are_not_new),
        cmocka_unit_test(test_a_group_is_as_old_as_the_last_point_that_all_have),
        cmocka_unit_test(test_the_last_list_of_all_has_points_too),
        cmocka_unit_test(test_a_first_copy_is_one_without_points_of_this_protection),
        cmocka_unit_test(test_who_takes_part_in_none_and_what_was_said_last),
        cmocka_unit_test(test_a_member_whose_points_do_not_come_may_be_told_already),
        cmocka_unit_test(test_a_finding_is_shown_before_what_was_missed_last),
    };

    return cmocka_run_group_tests_name("group_store", tests, postgres_fixture_up, postgres_fixture_down);
}
