/* SPDX-License-Identifier: Apache-2.0
 *
 * Consistency groups in the database: who belongs where, the numbers of lists, who hears of it, and that a group point is there
 * when, and only when, each machine on the list that its id names has its point.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/db/config_store.h"
#include "hub/db/group_store.h"
#include "hub/db/peer_store.h"
#include "hub/db/simulation_store.h"
#include "tests/unit/hub/postgres_fixture.h"

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
    };

    return cmocka_run_group_tests_name("group_store", tests, postgres_fixture_up, postgres_fixture_down);
}
