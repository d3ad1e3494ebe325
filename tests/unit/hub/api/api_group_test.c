/* SPDX-License-Identifier: Apache-2.0
 *
 * Consistency groups over the API: made, changed on the version that was read, members in and out, group points that are
 * complete, and the job that makes one. Every answer is held to the OpenAPI document.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>

#include "hub/db/peer_store.h"
#include "tests/unit/hub/api/api_fixture.h"

#define ONE "11111111-1111-4111-8111-111111111111"
#define TWO "22222222-2222-4222-8222-222222222222"
#define VAULT_OF_BOTH "33333333-3333-4333-8333-333333333333"
#define POINT(machine, group_point)                                                                                    \
    "{\"machine_id\":\"" machine                                                                                       \
    "\",\"sequence\":5,\"time_usec\":1790000000000000,\"kind\":\"filesystem\",\"tag\":\"\","                           \
    "\"group_point_id\":\"%s\",\"generation\":1,\"changed_bytes\":9,\"frozen\":true,\"unreadable_blocks\":0,"          \
    "\"committed_usec\":1790000000000001}"

/* Machines "one" and "two" with a vault. */
static void make_machines(void **state)
{
    struct api_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    struct err err = ERR_INIT;

    fixture_machine(conn, ONE, "one");
    fixture_machine(conn, TWO, "two");
    fixture_vault(conn, VAULT_OF_BOTH, "vault-of-both");
    assert_ok(
        db_exec(conn, NULL, &err,
            "INSERT INTO protections (machine_id, policy_id, vault_id) SELECT m.id, p.id, $1::uuid FROM machines m,"
            " policies p WHERE p.is_default AND m.name IN ('one', 'two')",
            DB_S(VAULT_OF_BOTH)),
        &err);
}

static void change(struct api_fixture *f, const char *operation, const char *path, const char *etag, const char *body,
    long status, struct heard *ret_heard)
{
    char header[96];
    struct exchange x = {.operation = operation, .path = path, .token = f->admin, .body = body};

    snprintf(header, sizeof(header), "If-Match: \"%s\"", etag ? etag : "");
    x.headers[0] = etag ? header : NULL;
    api_exchange(f, &x, status, ret_heard);
}

static void members_come_and_go_on_the_version_that_was_read(void **state)
{
    struct api_fixture *f = *state;

    make_machines(state);
    json_t *group = api_ask(f, "createGroup", "/api/v1/groups", "{\"name\":\"shop\",\"machines\":[\"one\"]}", 201);
    AUTO_HEARD struct heard added = {0}, stale = {0}, unversioned = {0}, again = {0}, removed = {0}, unknown = {0};

    assert_int_equal(json_integer_value(json_object_get(group, "member_count")), 1);
    assert_string_equal(member_text(group, "coordinator_name"), "one");
    assert_int_equal(json_integer_value(json_object_get(group, "interval_seconds")), 60);
    change(f, "addGroupMember", "/api/v1/groups/shop/members", NULL, "{\"machine\":\"two\"}", 428, &unversioned);
    change(f, "addGroupMember", "/api/v1/groups/shop/members", member_text(group, "etag"), "{\"machine\":\"two\"}", 200,
        &added);
    assert_int_equal(json_array_size(json_object_get(added.json, "members")), 2);
    change(f, "addGroupMember", "/api/v1/groups/shop/members", member_text(group, "etag"), "{\"machine\":\"two\"}", 412,
        &stale);
    change(f, "addGroupMember", "/api/v1/groups/shop/members", member_text(added.json, "etag"), "{\"machine\":\"two\"}",
        409, &again);
    change(f, "removeGroupMember", "/api/v1/groups/shop/members/nobody", member_text(added.json, "etag"), NULL, 404,
        &unknown);
    change(f, "removeGroupMember", "/api/v1/groups/shop/members/one", member_text(added.json, "etag"), NULL, 200,
        &removed);
    assert_string_equal(member_text(removed.json, "coordinator_name"), "two");
    json_decref(group);
}

/* ---- two who lock the same machines in another order ---- */

struct rival {
    struct db_conn *conn; /* in a transaction that holds machine two */
    struct db_conn *watch;
    bool won; /* PostgreSQL gave up the request's transaction and not this one */
};

/* Once the request waits for machine two it holds machine one, which is then asked for here. */
static void *ask_for_the_other(void *arg)
{
    struct rival *rival = arg;
    int waiting = 0;

    for (unsigned i = 0; waiting == 0 && i < 6000; i++) {
        AUTO_PGRESULT PGresult *r = NULL;
        (void)poll(NULL, 0, 10);
        waiting = db_exec(rival->watch, &r, NULL,
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()");
    }
    rival->won = waiting > 0 &&
                 db_exec(rival->conn, NULL, NULL, "UPDATE machines SET online = online WHERE id = $1", DB_S(ONE)) >= 0;
    db_rollback(rival->conn);
    return NULL;
}

/* Makes a group of both while somebody holds one of them and comes for the other. */
static bool make_beside_rival(struct api_fixture *f)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    struct db_conn *watch AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    struct rival rival = {.conn = conn, .watch = watch};
    struct err err = ERR_INIT;
    pthread_t thread;

    assert_ok(db_begin(conn, &err), &err);
    assert_ok(db_exec(conn, NULL, &err, "UPDATE machines SET online = online WHERE id = $1", DB_S(TWO)), &err);
    assert_int_equal(pthread_create(&thread, NULL, ask_for_the_other, &rival), 0);
    json_t *group =
        api_ask(f, "createGroup", "/api/v1/groups", "{\"name\":\"rivals\",\"machines\":[\"one\",\"two\"]}", 201);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(json_array_size(json_object_get(group, "members")), 2);
    AUTO_HEARD struct heard gone = {0};
    change(f, "deleteGroup", "/api/v1/groups/rivals", member_text(group, "etag"), NULL, 204, &gone);
    json_decref(group);
    return rival.won;
}

/* PostgreSQL gives up either of the two, mostly the one that waited first, which is the request. */
static void a_change_that_loses_a_deadlock_is_made_again(void **state)
{
    struct api_fixture *f = *state;
    bool lost = false;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    struct err err = ERR_INIT;

    assert_ok(db_exec(conn, NULL, &err, "DELETE FROM consistency_groups"), &err);
    for (unsigned i = 0; i < 50 && !lost; i++)
        lost = make_beside_rival(f);
    assert_true(lost);
}

static void settings_have_bounds(void **state)
{
    struct api_fixture *f = *state;
    AUTO_HEARD struct heard short_interval = {0}, changed = {0}, budget = {0};
    json_t *group = api_ask(f, "getGroup", "/api/v1/groups/shop", NULL, 200);
    json_t *taken = api_ask(f, "createGroup", "/api/v1/groups", "{\"name\":\"shop\"}", 409);

    change(f, "updateGroup", "/api/v1/groups/shop", member_text(group, "etag"), "{\"interval_seconds\":0.5}", 400,
        &short_interval);
    change(f, "updateGroup", "/api/v1/groups/shop", member_text(group, "etag"), "{\"freeze_budget_seconds\":0.001}",
        400, &budget);
    change(f, "updateGroup", "/api/v1/groups/shop", member_text(group, "etag"),
        "{\"interval_seconds\":0,\"description\":\"d\"}", 200, &changed);
    assert_int_equal(json_integer_value(json_object_get(changed.json, "interval_seconds")), 0);
    json_decref(group);
    json_decref(taken);
}

static void only_complete_group_points_are_listed(void **state)
{
    struct api_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    AUTO_HEARD struct heard added = {0};
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE], points[800], path[120];
    json_t *group = api_ask(f, "getGroup", "/api/v1/groups/shop", NULL, 200), *list;
    AUTO_PGRESULT PGresult *number = NULL;

    change(f, "addGroupMember", "/api/v1/groups/shop/members", member_text(group, "etag"), "{\"machine\":\"one\"}", 200,
        &added);
    assert_int_equal(
        db_exec(conn, &number, &err, "SELECT number, membership FROM consistency_groups WHERE name = 'shop'"), 1);
    snprintf(id, sizeof(id), "%08x-%04x-8000-8000-000000000001", (unsigned)db_u64(number, 0, 0),
        (unsigned)db_u64(number, 0, 1));
    snprintf(points, sizeof(points), "[" POINT(ONE, "") "]", id);
    assert_ok(point_put(conn, VAULT_OF_BOTH, points, "[]", &err), &err);
    list = api_ask(f, "listGroupPoints", "/api/v1/groups/shop/points", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(list, "items")), 0);
    json_decref(list);
    snprintf(points, sizeof(points), "[" POINT(TWO, "") "]", id);
    assert_ok(point_put(conn, VAULT_OF_BOTH, points, "[]", &err), &err);
    list = api_ask(f, "listGroupPoints", "/api/v1/groups/shop/points?sort=-time&after=2020-01-01T00:00:00Z", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(list, "items")), 1);
    assert_int_equal(json_array_size(json_object_get(json_array_get(json_object_get(list, "items"), 0), "points")), 2);
    json_decref(list);
    snprintf(path, sizeof(path), "/api/v1/machines/one/points?group_point_id=%s", id);
    list = api_ask(f, "listPoints", path, NULL, 200);
    assert_int_equal(
        json_integer_value(json_object_get(json_array_get(json_object_get(list, "items"), 0), "sequence")), 5);
    json_decref(list);
    json_decref(group);
}

static void a_group_point_is_a_job(void **state)
{
    struct api_fixture *f = *state;
    AUTO_HEARD struct heard job = {0}, refused = {0}, gone = {0};
    const struct exchange ask = {.operation = "createGroupPoint",
        .path = "/api/v1/groups/shop/points",
        .token = f->operator,
        .headers = {"Idempotency-Key: group-1"} };
    struct exchange lonely = ask;
    json_t *alone = api_ask(f, "createGroup", "/api/v1/groups", "{\"name\":\"alone\"}", 201);

    api_exchange(f, &ask, 202, &job);
    assert_string_equal(member_text(job.json, "kind"), "group_point");
    lonely.path = "/api/v1/groups/alone/points";
    lonely.headers[0] = "Idempotency-Key: group-2";
    api_exchange(f, &lonely, 409, &refused);
    change(f, "deleteGroup", "/api/v1/groups/alone", member_text(alone, "etag"), NULL, 204, &gone);
    json_decref(api_ask(f, "getGroup", "/api/v1/groups/alone", NULL, 404));
    json_decref(api_ask(f, "listGroups", "/api/v1/groups?name=SHO", NULL, 200));
    json_decref(alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_and_go_on_the_version_that_was_read),
        cmocka_unit_test(settings_have_bounds),
        cmocka_unit_test(only_complete_group_points_are_listed),
        cmocka_unit_test(a_group_point_is_a_job),
        cmocka_unit_test(a_change_that_loses_a_deadlock_is_made_again),
    };

    return cmocka_run_group_tests_name("api_groups", tests, api_fixture_up, api_fixture_down);
}
