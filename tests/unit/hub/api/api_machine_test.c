/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes of machines over the API, one of many after the other: who is told of each, and what is refused as a whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/hub/api/api_fixture.h"
#include "transport/base/mem.h"

#define CHANGED "11111111-1111-4111-8111-111111111111"
#define BESIDE "22222222-2222-4222-8222-222222222222"
#define BARE "33333333-3333-4333-8333-333333333333"
#define OWN "44444444-4444-4444-8444-444444444441"
#define COPY "44444444-4444-4444-8444-444444444442"
#define FAR "44444444-4444-4444-8444-444444444443"
#define GOLD "55555555-5555-4555-8555-555555555555"
#define PORT "66666666-6666-4666-8666-666666666666"

/* One machine of the default policy with a copy in another vault, one of the policy gold in a third vault, one that is not protected. */
static void make_fleet(struct api_fixture *f)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);

    fixture_machine(conn, CHANGED, "changed");
    fixture_machine(conn, BESIDE, "beside");
    fixture_machine(conn, BARE, "bare");
    fixture_vault(conn, OWN, "own");
    fixture_vault(conn, COPY, "copy");
    fixture_vault(conn, FAR, "far");
    api_sql(f,
        "INSERT INTO sites (id, name) VALUES ('" PORT "', 'port');"
        "INSERT INTO policies (id, name, interval_usec, app_interval_usec, rpo_target_usec, keep_all_usec, "
        "keep_minute_usec, keep_hour_usec,"
        " keep_day_usec, freeze_budget_usec, max_rounds, may_freeze, compress_at_agent, compress_level, "
        "throttle_bytes_per_sec)"
        " SELECT '" GOLD
        "', 'gold', interval_usec, app_interval_usec, rpo_target_usec, keep_all_usec, keep_minute_usec, keep_hour_usec,"
        " keep_day_usec, freeze_budget_usec, max_rounds, may_freeze, compress_at_agent, compress_level, "
        "throttle_bytes_per_sec"
        " FROM policies WHERE is_default;"
        "INSERT INTO protections (machine_id, policy_id, vault_id) SELECT '" CHANGED "', id, '" OWN
        "' FROM policies WHERE is_default;"
        "INSERT INTO protections (machine_id, policy_id, vault_id) VALUES ('" BESIDE "', '" GOLD "', '" FAR "');"
        "INSERT INTO copies (machine_id, vault_id, source_vault_id, created_by) VALUES ('" CHANGED "', '" COPY
        "', '" OWN "', 'test')");
}

static uint64_t desired(struct api_fixture *f, const char *table, const char *name)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_ok(db_exec(conn, &r, &err,
                  "SELECT desired_version FROM (SELECT 'machines' AS of, name, desired_version FROM machines UNION ALL"
                  " SELECT 'vaults', name, desired_version FROM vaults) x WHERE of = $1 AND name = $2",
                  DB_S(table), DB_S(name)),
        &err);
    return db_u64(r, 0, 0);
}

static json_t *change(struct api_fixture *f, const char *path, const char *body, long status)
{
    const struct exchange x = {
        .operation = "updateMachine", .path = path, .token = f->operator, .body = body, .headers = {"If-Match: *"}};
    struct heard heard = {0};
    json_t *json;

    api_exchange(f, &x, status, &heard);
    json = json_incref(heard.json);
    heard_done(&heard);
    return json;
}

static void another_policy_is_told_to_that_machine_and_its_vaults_alone(void **state)
{
    static const struct {
        const char *table, *name;
        bool told;
    } all[] = {{"machines", "changed", true}, {"vaults", "own", true}, {"vaults", "copy", true},
        {"machines", "beside", false}, {"vaults", "far", false}, {"machines", "bare", false}};
    struct api_fixture *f = *state;
    uint64_t before[ARRAY_LEN(all)];
    json_t *machine;

    make_fleet(f);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        before[i] = desired(f, all[i].table, all[i].name);
    machine = change(f, "/api/v1/machines/changed", "{\"policy_id\":\"" GOLD "\",\"site_id\":\"" PORT "\"}", 200);
    assert_string_equal(member_text(machine, "policy_name"), "gold");
    assert_string_equal(member_text(machine, "site_name"), "port");
    json_decref(machine);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        assert_int_equal(desired(f, all[i].table, all[i].name), before[i] + all[i].told);
}

static void a_machine_that_is_not_protected_gets_neither_policy_nor_site(void **state)
{
    struct api_fixture *f = *state;
    json_t *problem = change(f, "/api/v1/machines/bare", "{\"policy_id\":\"" GOLD "\",\"site_id\":\"" PORT "\"}", 409);
    json_t *machine = api_ask(f, "getMachine", "/api/v1/machines/bare", NULL, 200);

    assert_string_equal(member_text(problem, "detail"), "the machine is not protected, so it has no policy");
    assert_true(json_is_null(json_object_get(machine, "site_id")));
    json_decref(problem);
    json_decref(machine);
}

/* The copy in the vault of that name, as its machine says it. */
static const json_t *copy_of(const json_t *machine, const char *vault)
{
    const json_t *copy;
    size_t i;

    json_array_foreach(json_object_get(machine, "copies"), i,
        copy) if (strcmp(member_text(copy, "vault_name"), vault) == 0) return copy;
    fail_msg("no copy in %s", vault);
    return NULL;
}

static void a_machine_says_which_copies_it_has_and_how_far_behind_they_are(void **state)
{
    struct api_fixture *f = *state;
    json_t *machine = api_ask(f, "getMachine", "/api/v1/machines/changed", NULL, 200);
    json_t *bare = api_ask(f, "getMachine", "/api/v1/machines/bare", NULL, 200);
    json_t *copies;

    assert_string_equal(member_text(copy_of(machine, "copy"), "state"), "initial");
    assert_true(json_is_null(json_object_get(copy_of(machine, "copy"), "behind_seconds")));
    assert_int_equal(json_array_size(json_object_get(bare, "copies")), 0);
    json_decref(machine);
    api_sql(f,
        "INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, generation, committed_at) VALUES"
        " ('" CHANGED "', 7, '" OWN "', '2026-01-01 00:00:12.5Z', 'crash', 1, now());"
        "UPDATE copies SET source_sequence = 6, sequence = 2, point_time = '2026-01-01 00:00:00Z'");
    machine = api_ask(f, "getMachine", "/api/v1/machines/changed", NULL, 200);
    copies = api_ask(f, "listCopies", "/api/v1/machines/changed/copies", NULL, 200);
    assert_string_equal(member_text(copy_of(machine, "copy"), "state"), "following");
    assert_string_equal(member_text(copy_of(machine, "copy"), "vault_id"), COPY);
    assert_float_equal(json_number_value(json_object_get(copy_of(machine, "copy"), "behind_seconds")), 12.5, 0);
    assert_float_equal(
        json_number_value(json_object_get(json_array_get(json_object_get(copies, "items"), 0), "behind_seconds")), 12.5,
        0);
    json_decref(copies);
    json_decref(bare);
    json_decref(machine);
}

/* A page is written item by item, and numbers as somebody would write them. */
static void a_list_is_whole_json_with_numbers_as_they_are(void **state)
{
    struct api_fixture *f = *state;
    AUTO_HEARD struct heard first = {0};
    AUTO_HEARD struct heard second = {0};
    AUTO_HEARD struct heard none = {0};
    struct exchange ask = {
        .operation = "listMachines", .path = "/api/v1/machines?limit=1&sort=name", .token = f->admin};
    AUTO_FREE char *path = NULL;

    api_sql(f, "UPDATE machines SET clock_skew_usec = -45599");
    api_exchange(f, &ask, 200, &first);
    assert_int_equal(json_array_size(json_object_get(first.json, "items")), 1);
    assert_non_null(strstr(first.text, "\"clock_skew_seconds\":-0.045599,"));
    path = mem_printf("%s&cursor=%s", ask.path, member_text(first.json, "next"));
    ask.path = path;
    api_exchange(f, &ask, 200, &second);
    assert_string_not_equal(member_text(json_array_get(json_object_get(first.json, "items"), 0), "id"),
        member_text(json_array_get(json_object_get(second.json, "items"), 0), "id"));
    ask.path = "/api/v1/machines?name=nobody";
    api_exchange(f, &ask, 200, &none);
    assert_string_equal(none.text, "{\"items\":[]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_policy_is_told_to_that_machine_and_its_vaults_alone),
        cmocka_unit_test(a_machine_that_is_not_protected_gets_neither_policy_nor_site),
        cmocka_unit_test(a_machine_says_which_copies_it_has_and_how_far_behind_they_are),
        cmocka_unit_test(a_list_is_whole_json_with_numbers_as_they_are),
    };

    return cmocka_run_group_tests_name("hub_api_machines", tests, api_fixture_up, api_fixture_down);
}
