/* SPDX-License-Identifier: Apache-2.0
 *
 * People: signing in and out, what a session may, and what keeps others out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/db/session_store.h"
#include "hub/db/user_store.h"
#include "tests/unit/hub/api/api_fixture.h"

#define PASSWORD "correct horse battery"

static void expect(struct api_fixture *f, const struct person *p, const char *operation, const char *path,
    const char *body, long status, const char *code)
{
    json_t *json = api_as(f, p, operation, path, body, status);

    if (code)
        assert_string_equal(member_text(json, "code"), code);
    json_decref(json);
}

static int64_t audit_count(struct api_fixture *f, const char *action, const char *outcome)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(db_exec(conn, &r, &err, "SELECT count(*) FROM audit_log WHERE action = $1 AND outcome = $2",
                         DB_S(action), DB_S(outcome)),
        1);
    return db_i64(r, 0, 0);
}

static void the_cookie_is_out_of_reach_of_scripts_and_other_hosts(void **state)
{
    struct api_fixture *f = *state;
    AUTO_HEARD struct heard heard = {0};
    const char *cookie;

    api_make_user(f, "ada", "operator", PASSWORD);
    assert_int_equal(api_try_password(f, "ada", PASSWORD, &heard), 201);
    cookie = heard_header(&heard, "Set-Cookie");
    assert_int_equal(strncmp(cookie, "__Host-leeward=lws_", 19), 0);
    assert_non_null(strstr(cookie, "; Path=/;"));
    assert_non_null(strstr(cookie, "Secure"));
    assert_non_null(strstr(cookie, "HttpOnly"));
    assert_non_null(strstr(cookie, "SameSite=Lax"));
    assert_null(strstr(cookie, "Domain"));
    assert_null(strstr(heard.text, "lws_"));
    assert_string_equal(member_text(json_object_get(heard.json, "user"), "role"), "operator");
}

static void a_session_reads_and_changes_with_its_csrf_token_only(void **state)
{
    struct api_fixture *f = *state;
    struct person p = api_sign_in(f, "ada", PASSWORD), forged = p, other = api_sign_in(f, "ada", PASSWORD);
    int64_t denied = audit_count(f, "updateSettings", "denied");
    json_t *own;

    own = api_as(f, &p, "getSession", "/api/v1/session", NULL, 200);
    assert_string_equal(member_text(json_object_get(own, "user"), "name"), "ada");
    json_decref(own);
    api_make_user(f, "root", "admin", PASSWORD);
    p = api_sign_in(f, "root", PASSWORD);
    forged = p;
    (void)snprintf(forged.csrf, sizeof(forged.csrf), "X-CSRF-Token:");
    expect(f, &forged, "updateSettings", "/api/v1/settings", "{\"site_name\":\"x\"}", 403, "csrf");
    (void)snprintf(forged.csrf, sizeof(forged.csrf), "%s", other.csrf);
    expect(f, &forged, "updateSettings", "/api/v1/settings", "{\"site_name\":\"x\"}", 403, "csrf");
    assert_int_equal(audit_count(f, "updateSettings", "denied"), denied + 2);
    expect(f, &p, "updateSettings", "/api/v1/settings", "{\"site_name\":\"x\"}", 200, NULL);
}

static void a_role_bounds_a_session(void **state)
{
    struct api_fixture *f = *state;
    struct person p;

    api_make_user(f, "vera", "viewer", PASSWORD);
    p = api_sign_in(f, "vera", PASSWORD);
    expect(f, &p, "listMachines", "/api/v1/machines", NULL, 200, NULL);
    expect(f, &p, "updateSettings", "/api/v1/settings", "{\"site_name\":\"x\"}", 403, "denied");
    expect(f, &p, "listUsers", "/api/v1/users", NULL, 403, "denied");
    expect(f, &p, "createUser", "/api/v1/users", "{\"name\":\"mallory\",\"role\":\"admin\"}", 403, "denied");
}

static void who_signed_out_is_out(void **state)
{
    struct api_fixture *f = *state;
    struct person p = api_sign_in(f, "ada", PASSWORD);
    const struct exchange out = {.operation = "endSession", .path = "/api/v1/session", .headers = {p.cookie, p.csrf}};
    AUTO_HEARD struct heard heard = {0};

    api_exchange(f, &out, 204, &heard);
    assert_non_null(strstr(heard_header(&heard, "Set-Cookie"), "Max-Age=0"));
    expect(f, &p, "getSession", "/api/v1/session", NULL, 401, "unauthenticated");
    expect(f, &p, "listMachines", "/api/v1/machines", NULL, 401, "unauthenticated");
}

static void a_session_ends_by_idleness_and_by_age(void **state)
{
    struct api_fixture *f = *state;
    struct person p = api_sign_in(f, "ada", PASSWORD);

    api_sql(f, "UPDATE sessions SET last_seen_at = now() - interval '119 minutes'");
    expect(f, &p, "getSession", "/api/v1/session", NULL, 200, NULL);
    api_sql(f, "UPDATE sessions SET last_seen_at = now() - interval '121 minutes'");
    expect(f, &p, "getSession", "/api/v1/session", NULL, 401, "unauthenticated");
    p = api_sign_in(f, "ada", PASSWORD);
    api_sql(f, "UPDATE sessions SET expires_at = now() - interval '1 second'");
    expect(f, &p, "getSession", "/api/v1/session", NULL, 401, "unauthenticated");
}

static void guessing_is_slowed_down_and_written_down(void **state)
{
    struct api_fixture *f = *state;
    int64_t before = audit_count(f, "createSession", "denied");
    AUTO_HEARD struct heard last = {0};

    api_make_user(f, "gus", "viewer", PASSWORD);
    for (int i = 0; i < 5; i++) {
        AUTO_HEARD struct heard heard = {0};

        assert_int_equal(api_try_password(f, "gus", "wrong wrong wrong", &heard), 401);
        assert_string_equal(member_text(heard.json, "code"), "login_failed");
    }
    api_sql(f, "UPDATE login_failures SET failures = 12 WHERE key LIKE 'pair:gus@%'");
    assert_int_equal(api_try_password(f, "gus", PASSWORD, &last), 429);
    assert_string_equal(member_text(last.json, "code"), "login_throttled");
    assert_true(atoi(heard_header(&last, "Retry-After")) > 30);
    assert_int_equal(audit_count(f, "createSession", "denied"), before + 5);
    api_sql(f, "UPDATE login_failures SET last_at = last_at - interval '16 minutes'");
    (void)api_sign_in(f, "gus", PASSWORD);
    api_sql(f, "DELETE FROM login_failures");
}

static void nobody_learns_which_names_exist(void **state)
{
    struct api_fixture *f = *state;
    AUTO_HEARD struct heard known = {0};
    AUTO_HEARD struct heard unknown = {0};

    assert_int_equal(api_try_password(f, "ada", "wrong wrong wrong", &known), 401);
    assert_int_equal(api_try_password(f, "nobody at all", "wrong wrong wrong", &unknown), 401);
    assert_string_equal(member_text(known.json, "detail"), member_text(unknown.json, "detail"));
    assert_string_equal(member_text(known.json, "code"), member_text(unknown.json, "code"));
    api_sql(f, "DELETE FROM login_failures");
}

static void a_session_of_another_is_for_administrators_to_end(void **state)
{
    struct api_fixture *f = *state;
    struct person ada = api_sign_in(f, "ada", PASSWORD), vera = api_sign_in(f, "vera", PASSWORD),
                  root = api_sign_in(f, "root", PASSWORD);
    char path[128];
    json_t *list;

    (void)snprintf(path, sizeof(path), "/api/v1/sessions/%s", ada.session_id);
    expect(f, &vera, "revokeSession", path, NULL, 404, "not_found");
    list = api_as(f, &vera, "listSessions", "/api/v1/sessions?limit=500", NULL, 200);
    for (size_t i = 0; i < json_array_size(json_object_get(list, "items")); i++)
        assert_string_equal(member_text(json_array_get(json_object_get(list, "items"), i), "user_name"), "vera");
    json_decref(list);
    expect(f, &ada, "getSession", "/api/v1/session", NULL, 200, NULL);
    expect(f, &root, "revokeSession", path, NULL, 204, NULL);
    expect(f, &ada, "getSession", "/api/v1/session", NULL, 401, NULL);
    (void)snprintf(path, sizeof(path), "/api/v1/sessions/%s", vera.session_id);
    expect(f, &vera, "revokeSession", path, NULL, 204, NULL);
    expect(f, &vera, "getSession", "/api/v1/session", NULL, 401, NULL);
}

static void a_new_password_ends_the_other_sessions(void **state)
{
    struct api_fixture *f = *state;
    struct person here, there;

    api_make_user(f, "petra", "viewer", PASSWORD);
    here = api_sign_in(f, "petra", PASSWORD);
    there = api_sign_in(f, "petra", PASSWORD);
    expect(f, &here, "changePassword", "/api/v1/session/password",
        "{\"current_password\":\"not the one\",\"new_password\":\"another good one\"}", 403, "wrong_password");
    expect(f, &here, "changePassword", "/api/v1/session/password",
        "{\"current_password\":\"" PASSWORD "\",\"new_password\":\"aaaaaaaaaaaaaaaa\"}", 400, "invalid");
    expect(f, &here, "changePassword", "/api/v1/session/password",
        "{\"current_password\":\"" PASSWORD "\",\"new_password\":\"another good one\"}", 204, NULL);
    expect(f, &here, "getSession", "/api/v1/session", NULL, 200, NULL);
    expect(f, &there, "getSession", "/api/v1/session", NULL, 401, NULL);
    (void)api_sign_in(f, "petra", "another good one");
}

static void a_drawn_password_is_shown_once_and_must_be_changed(void **state)
{
    struct api_fixture *f = *state;
    struct person root = api_sign_in(f, "root", PASSWORD), new;
    json_t *made = api_as(f, &root, "createUser", "/api/v1/users", "{\"name\":\"nils\",\"role\":\"operator\"}", 201),
           *again;
    char body[256], password[64];

    (void)snprintf(password, sizeof(password), "%s", member_text(made, "password"));
    assert_int_equal(strlen(password), USER_PASSWORD_TEXT_SIZE - 1);
    again = api_as(f, &root, "getUser", "/api/v1/users/nils", NULL, 200);
    assert_null(json_object_get(again, "password"));
    json_decref(made);
    json_decref(again);
    new = api_sign_in(f, "nils", password);
    expect(f, &new, "listMachines", "/api/v1/machines", NULL, 403, "password_change_required");
    (void)snprintf(
        body, sizeof(body), "{\"current_password\":\"%s\",\"new_password\":\"nils has a long one\"}", password);
    expect(f, &new, "changePassword", "/api/v1/session/password", body, 204, NULL);
    expect(f, &new, "listMachines", "/api/v1/machines", NULL, 200, NULL);
}

static void disabling_and_resetting_end_sessions_at_once(void **state)
{
    struct api_fixture *f = *state;
    struct person root = api_sign_in(f, "root", PASSWORD), d;
    json_t *reset;

    api_make_user(f, "dora", "viewer", PASSWORD);
    d = api_sign_in(f, "dora", PASSWORD);
    expect(f, &root, "updateUser", "/api/v1/users/dora", "{\"disabled\":true}", 200, NULL);
    expect(f, &d, "getSession", "/api/v1/session", NULL, 401, NULL);
    AUTO_HEARD struct heard heard = {0};
    assert_int_equal(api_try_password(f, "dora", PASSWORD, &heard), 401);
    expect(f, &root, "updateUser", "/api/v1/users/dora", "{\"disabled\":false}", 200, NULL);
    d = api_sign_in(f, "dora", PASSWORD);
    reset = api_as(f, &root, "updateUser", "/api/v1/users/dora", "{\"reset_password\":true}", 200);
    expect(f, &d, "getSession", "/api/v1/session", NULL, 401, NULL);
    (void)api_sign_in(f, "dora", member_text(reset, "password"));
    json_decref(reset);
    api_sql(f, "DELETE FROM login_failures");
}

static void the_last_administrator_stays(void **state)
{
    struct api_fixture *f = *state;
    struct person root = api_sign_in(f, "root", PASSWORD);

    expect(f, &root, "updateUser", "/api/v1/users/root", "{\"role\":\"operator\"}", 409, "refused");
    expect(f, &root, "updateUser", "/api/v1/users/root", "{\"disabled\":true}", 409, "refused");
    expect(f, &root, "deleteUser", "/api/v1/users/root", NULL, 409, "refused");
    expect(f, &root, "getSession", "/api/v1/session", NULL, 200, NULL);
    api_make_user(f, "root2", "admin", PASSWORD);
    expect(f, &root, "deleteUser", "/api/v1/users/root2", NULL, 204, NULL);
    expect(f, &root, "getUser", "/api/v1/users/root2", NULL, 404, "not_found");
}

static void a_token_does_no_more_than_its_owner_may(void **state)
{
    struct api_fixture *f = *state;
    struct person root = api_sign_in(f, "root", PASSWORD), o, v;
    struct exchange x = {.operation = "createSite", .path = "/api/v1/sites", .body = "{\"name\":\"owned\"}"};
    AUTO_HEARD struct heard heard = {0};
    AUTO_HEARD struct heard after = {0};
    AUTO_HEARD struct heard gone = {0};
    json_t *made, *list;
    char path[128], id[64];

    api_make_user(f, "otto", "admin", PASSWORD);
    o = api_sign_in(f, "otto", PASSWORD);
    made = api_as(f, &o, "createToken", "/api/v1/tokens", "{\"name\":\"ottos\",\"role\":\"admin\"}", 201);
    x.token = member_text(made, "token");
    api_exchange(f, &x, 201, &heard);
    expect(f, &root, "updateUser", "/api/v1/users/otto", "{\"role\":\"viewer\"}", 200, NULL);
    x.body = "{\"name\":\"owned2\"}";
    api_exchange(f, &x, 403, &after);
    (void)snprintf(id, sizeof(id), "%s", member_text(made, "id"));
    (void)snprintf(path, sizeof(path), "/api/v1/tokens/%s", id);
    v = api_sign_in(f, "vera", PASSWORD);
    expect(f, &v, "revokeToken", path, NULL, 404, "not_found");
    expect(f, &v, "createToken", "/api/v1/tokens", "{\"name\":\"mine\",\"role\":\"operator\"}", 403, "denied");
    expect(f, &v, "createToken", "/api/v1/tokens", "{\"name\":\"mine\",\"role\":\"viewer\"}", 201, NULL);
    list = api_as(f, &v, "listTokens", "/api/v1/tokens", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(list, "items")), 1);
    json_decref(list);
    expect(f, &root, "updateUser", "/api/v1/users/otto", "{\"disabled\":true}", 200, NULL);
    x = (struct exchange){.operation = "listSites", .path = "/api/v1/sites", .token = member_text(made, "token")};
    api_exchange(f, &x, 401, &gone);
    json_decref(made);
}

static void forged_cookies_are_refused(void **state)
{
    struct api_fixture *f = *state;
    static const char *const cookies[] = {"Cookie: __Host-leeward=", "Cookie: __Host-leeward=lws_short",
        "Cookie: __Host-leeward=lws_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "Cookie: __Host-leeward=' OR 1=1 --",
        "Cookie: leeward=lws_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};

    for (size_t i = 0; i < sizeof(cookies) / sizeof(cookies[0]); i++) {
        const struct exchange x = {.operation = "getSession", .path = "/api/v1/session", .headers = {cookies[i]}};
        AUTO_HEARD struct heard heard = {0};

        api_exchange(f, &x, 401, &heard);
    }
}

static void passwords_are_nowhere_in_the_database(void **state)
{
    struct api_fixture *f = *state;
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    struct person p = api_sign_in(f, "ada", PASSWORD);
    struct err err = ERR_INIT;

    assert_int_equal(
        db_exec(conn, NULL, &err, "SELECT 1 FROM users WHERE users::text LIKE '%' || $1 || '%'", DB_S(PASSWORD)), 0);
    assert_int_equal(db_exec(conn, NULL, &err, "SELECT 1 FROM sessions WHERE position($1::bytea in hash) > 0",
                         DB_X(p.cookie + 23, 32)),
        0);
    assert_true(db_exec(conn, NULL, &err, "SELECT 1 FROM users WHERE password_hash LIKE '$argon2id$%'") > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cookie_is_out_of_reach_of_scripts_and_other_hosts),
        cmocka_unit_test(a_session_reads_and_changes_with_its_csrf_token_only),
        cmocka_unit_test(a_role_bounds_a_session),
        cmocka_unit_test(who_signed_out_is_out),
        cmocka_unit_test(a_session_ends_by_idleness_and_by_age),
        cmocka_unit_test(guessing_is_slowed_down_and_written_down),
        cmocka_unit_test(nobody_learns_which_names_exist),
        cmocka_unit_test(a_session_of_another_is_for_administrators_to_end),
        cmocka_unit_test(a_new_password_ends_the_other_sessions),
        cmocka_unit_test(a_drawn_password_is_shown_once_and_must_be_changed),
        cmocka_unit_test(disabling_and_resetting_end_sessions_at_once),
        cmocka_unit_test(the_last_administrator_stays),
        cmocka_unit_test(a_token_does_no_more_than_its_owner_may),
        cmocka_unit_test(forged_cookies_are_refused),
        cmocka_unit_test(passwords_are_nowhere_in_the_database),
    };

    return cmocka_run_group_tests_name("hub_api_session", tests, api_fixture_up, api_fixture_down);
}
