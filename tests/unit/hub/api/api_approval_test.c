/* SPDX-License-Identifier: Apache-2.0
 *
 * Four eyes: what is held back, who may let it pass, and that nothing happens before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/db/user_store.h"
#include "tests/unit/hub/api/api_fixture.h"

#define PASSWORD "correct horse battery"
#define DAY 86400

static int64_t count(struct api_fixture *f, const char *text)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    AUTO_PGRESULT PGresult *r = NULL;
    struct err err = ERR_INIT;

    assert_ok(db_exec_values(conn, &r, &err, text, NULL, 0, DB_PREPARE_NEVER), &err);
    return db_i64(r, 0, 0);
}

/* ---- the world ---- */

static struct person anna, bert, vera;

static int up(void **state)
{
    if (api_fixture_up(state) != 0)
        return -1;
    api_make_user(*state, "anna", "admin", PASSWORD);
    api_make_user(*state, "bert", "admin", PASSWORD);
    api_make_user(*state, "vera", "viewer", PASSWORD);
    anna = api_sign_in(*state, "anna", PASSWORD);
    bert = api_sign_in(*state, "bert", PASSWORD);
    vera = api_sign_in(*state, "vera", PASSWORD);
    return 0;
}

/* Each test begins without four eyes, with a policy that keeps a day. */
static void begin(struct api_fixture *f, const char *four_eyes)
{
    api_sql(f,
        "DELETE FROM approvals; DELETE FROM settings WHERE key = 'four_eyes'; DELETE FROM policies WHERE name = 'p';"
        " UPDATE users SET disabled = false");
    json_decref(
        api_as(f, &anna, "createPolicy", "/api/v1/policies", "{\"name\":\"p\",\"keep_all_seconds\":86400}", 201));
    if (four_eyes)
        json_decref(api_as(f, &anna, "updateSettings", "/api/v1/settings", four_eyes, 200));
}

#define RETENTION "{\"four_eyes\":[\"retention\"]}"
#define SHORTER "{\"keep_all_seconds\":3600,\"keep_minute_seconds\":7200}"

static int64_t kept_seconds(struct api_fixture *f)
{
    return count(f, "SELECT keep_all_usec / 1000000 FROM policies WHERE name = 'p'");
}

/* Asks for what is held back; the approval's id. */
static void ask(struct api_fixture *f, const struct person *p, char ret_id[40])
{
    json_t *problem = api_as(f, p, "updatePolicy", "/api/v1/policies/p", SHORTER, 403);

    assert_string_equal(member_text(problem, "code"), "approval_required");
    assert_true(strlen(member_text(problem, "correction")) > 0);
    (void)snprintf(ret_id, 40, "%s", member_text(problem, "approval_id"));
    assert_int_equal(strlen(ret_id), 36);
    json_decref(problem);
}

static json_t *decide(struct api_fixture *f, const struct person *p, const char *id, bool yes, long status)
{
    AUTO_FREE char *path = mem_printf("/api/v1/approvals/%s/%s", id, yes ? "approve" : "reject");
    const struct exchange x = {.operation = yes ? "approveApproval" : "rejectApproval",
        .path = path,
        .body = "{\"note\":\"seen\"}",
        .headers = {p->cookie, p->csrf}};
    AUTO_HEARD struct heard heard = {0};

    api_exchange(f, &x, status, &heard);
    return json_incref(heard.json);
}

static void decide_is(
    struct api_fixture *f, const struct person *p, const char *id, bool yes, long status, const char *code_or_state)
{
    json_t *answer = decide(f, p, id, yes, status);

    assert_string_equal(member_text(answer, status == 200 ? "state" : "code"), code_or_state);
    json_decref(answer);
}

/* ---- tests ---- */

static void without_the_setting_nothing_is_held_back(void **state)
{
    struct api_fixture *f = *state;

    begin(f, NULL);
    json_decref(api_as(f, &anna, "updatePolicy", "/api/v1/policies/p", SHORTER, 200));
    assert_int_equal(kept_seconds(f), 3600);
}

static void shorter_retention_waits_for_another_person(void **state)
{
    struct api_fixture *f = *state;
    char id[40], again[40];
    json_t *shown;

    begin(f, RETENTION);
    ask(f, &anna, id);
    assert_int_equal(kept_seconds(f), DAY);
    ask(f, &anna, again); /* asking twice is asking once */
    assert_string_equal(id, again);
    AUTO_FREE char *path = mem_printf("/api/v1/approvals/%s", id);

    shown = api_as(f, &vera, "getApproval", path, NULL, 200);
    assert_string_equal(member_text(shown, "state"), "pending");
    assert_string_equal(member_text(shown, "requested_by"), "user:anna");
    assert_true(json_is_false(json_object_get(shown, "mine")));
    json_decref(shown);
    decide_is(f, &anna, id, true, 403, "denied"); /* not the one who asked */
    decide_is(f, &vera, id, true, 403, "denied"); /* nor one who may not do it */
    assert_int_equal(kept_seconds(f), DAY);
    decide_is(f, &bert, id, true, 200, "approved");
    assert_int_equal(kept_seconds(f), 3600);
    decide_is(f, &bert, id, true, 409, "refused"); /* once */
    assert_int_equal(count(f, "SELECT count(*) FROM audit_log WHERE actor = 'user:anna' AND action = 'updatePolicy' AND"
                              " outcome = 'done' AND detail LIKE '%approved_by%'"),
        1);
    assert_int_equal(count(f, "SELECT count(*) FROM audit_log WHERE actor = 'user:anna' AND outcome = "
                              "'approval_required'"),
        2);
    assert_int_equal(count(f, "SELECT count(*) FROM audit_log WHERE actor = 'user:bert' AND action = 'approveApproval'"
                              " AND outcome = 'done'"),
        1);
}

static void what_keeps_more_passes(void **state)
{
    struct api_fixture *f = *state;

    begin(f, RETENTION);
    json_decref(api_as(f, &anna, "updatePolicy", "/api/v1/policies/p", "{\"keep_day_seconds\":31536000}", 200));
    json_decref(api_as(f, &anna, "updatePolicy", "/api/v1/policies/p", "{\"lock_seconds\":3600}", 200));
    json_decref(api_as(f, &anna, "updatePolicy", "/api/v1/policies/p", "{\"lock_seconds\":0}", 403));
    json_decref(api_as(f, &anna, "updatePolicy", "/api/v1/policies/p", "{\"keep_tagged_seconds\":3600}", 403));
}

static void a_dry_run_needs_nobody(void **state)
{
    struct api_fixture *f = *state;

    begin(f, RETENTION);
    json_decref(api_as(f, &anna, "updatePolicy", "/api/v1/policies/p?dry_run=true", SHORTER, 200));
    assert_int_equal(kept_seconds(f), DAY);
    assert_int_equal(count(f, "SELECT count(*) FROM approvals"), 0);
}

static void what_is_wrong_is_refused_before_anybody_is_asked(void **state)
{
    struct api_fixture *f = *state;

    begin(f, RETENTION);
    json_decref(api_as(f, &anna, "updatePolicy", "/api/v1/policies/p", "{\"keep_all_seconds\":1}", 400));
    assert_int_equal(count(f, "SELECT count(*) FROM approvals"), 0);
}

/* A second person made for the purpose is none. */
static void a_younger_account_decides_nothing(void **state)
{
    struct api_fixture *f = *state;
    struct person carl;
    char id[40];

    begin(f, RETENTION);
    ask(f, &anna, id);
    api_make_user(f, "carl", "admin", PASSWORD);
    carl = api_sign_in(f, "carl", PASSWORD);
    decide_is(f, &carl, id, true, 403, "denied");
    assert_int_equal(kept_seconds(f), DAY);
}

static void a_token_of_nobody_approves_nothing_and_a_token_is_its_owner(void **state)
{
    struct api_fixture *f = *state;
    char id[40];
    AUTO_HEARD struct heard heard = {0};
    json_t *made;

    begin(f, RETENTION);
    made = api_as(f, &anna, "createToken", "/api/v1/tokens", "{\"name\":\"anna automation\",\"role\":\"admin\"}", 201);
    ask(f, &anna, id);
    AUTO_FREE char *path = mem_printf("/api/v1/approvals/%s/approve", id);
    struct exchange x = {.operation = "approveApproval", .path = path, .token = f->admin};

    api_exchange(f, &x, 403, &heard);
    heard_done(&heard);
    x.token = member_text(made, "token");
    api_exchange(f, &x, 403, &heard);
    json_decref(made);
    assert_int_equal(kept_seconds(f), DAY);
}

static void what_changed_meanwhile_is_not_overwritten(void **state)
{
    struct api_fixture *f = *state;
    AUTO_HEARD struct heard heard = {0};
    json_t *policy;
    char id[40];

    begin(f, RETENTION);
    policy = api_as(f, &anna, "getPolicy", "/api/v1/policies/p", NULL, 200);
    AUTO_FREE char *if_match = mem_printf("If-Match: \"%s\"", member_text(policy, "etag"));
    const struct exchange x = {.operation = "updatePolicy",
        .path = "/api/v1/policies/p",
        .body = SHORTER,
        .headers = {anna.cookie, anna.csrf, if_match}};

    api_exchange(f, &x, 403, &heard);
    (void)snprintf(id, sizeof(id), "%s", member_text(heard.json, "approval_id"));
    json_decref(policy);
    json_decref(api_as(f, &bert, "updatePolicy", "/api/v1/policies/p", "{\"description\":\"new\"}", 200));
    decide_is(f, &bert, id, true, 409, "conflict");
    assert_int_equal(kept_seconds(f), DAY);
    assert_int_equal(count(f, "SELECT count(*) FROM approvals WHERE state = 'pending'"), 1);
}

static void who_may_it_no_more_gets_it_no_more(void **state)
{
    struct api_fixture *f = *state;
    char id[40];

    begin(f, RETENTION);
    ask(f, &anna, id);
    api_sql(f, "UPDATE users SET disabled = true WHERE name = 'anna'");
    decide_is(f, &bert, id, true, 409, "refused");
    api_sql(f, "UPDATE users SET disabled = false, role = 'viewer' WHERE name = 'anna'");
    decide_is(f, &bert, id, true, 409, "refused");
    api_sql(f, "UPDATE users SET role = 'admin' WHERE name = 'anna'");
    assert_int_equal(kept_seconds(f), DAY);
    decide_is(f, &bert, id, true, 200, "approved");
}

static void it_is_turned_down_or_taken_back(void **state)
{
    struct api_fixture *f = *state;
    char id[40];

    begin(f, RETENTION);
    ask(f, &anna, id);
    decide_is(f, &bert, id, false, 200, "rejected");
    decide_is(f, &bert, id, true, 409, "refused");
    ask(f, &anna, id);
    decide_is(f, &anna, id, false, 200, "withdrawn");
    assert_int_equal(kept_seconds(f), DAY);
}

static void what_waited_for_too_long_is_over(void **state)
{
    struct api_fixture *f = *state;
    char id[40], fresh[40];
    json_t *list;

    begin(f, RETENTION);
    ask(f, &anna, id);
    api_sql(f, "UPDATE approvals SET expires_at = now() - interval '1 second'");
    decide_is(f, &bert, id, true, 409, "refused");
    list = api_as(f, &bert, "listApprovals", "/api/v1/approvals?state=expired", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(list, "items")), 1);
    json_decref(list);
    ask(f, &anna, fresh);
    assert_string_not_equal(id, fresh);
}

/* One person opens it, two close it. */
static void four_eyes_are_not_closed_by_one(void **state)
{
    struct api_fixture *f = *state;
    json_t *problem;

    begin(f, RETENTION);
    json_decref(
        api_as(f, &anna, "updateSettings", "/api/v1/settings", "{\"four_eyes\":[\"erase\",\"retention\"]}", 200));
    problem = api_as(f, &anna, "updateSettings", "/api/v1/settings", "{\"four_eyes\":[],\"site_name\":\"x\"}", 403);
    assert_string_equal(member_text(problem, "code"), "approval_required");
    assert_int_equal(count(f, "SELECT count(*) FROM settings WHERE key = 'site_name' AND value = '\"x\"'"), 0);
    decide_is(f, &bert, member_text(problem, "approval_id"), true, 200, "approved");
    json_decref(problem);
    json_decref(api_as(f, &anna, "updatePolicy", "/api/v1/policies/p", SHORTER, 200));
}

/* Nobody is asked any more by default: the way back to it is a weaker one. */
static void four_eyes_do_not_go_back_to_the_default_by_one(void **state)
{
    struct api_fixture *f = *state;
    json_t *problem;

    begin(f, RETENTION);
    problem = api_as(f, &anna, "updateSettings", "/api/v1/settings", "{\"four_eyes\":null}", 403);
    assert_string_equal(member_text(problem, "code"), "approval_required");
    assert_int_equal(count(f, "SELECT count(*) FROM settings WHERE key = 'four_eyes'"), 1);
    decide_is(f, &bert, member_text(problem, "approval_id"), true, 200, "approved");
    assert_int_equal(count(f, "SELECT count(*) FROM settings WHERE key = 'four_eyes'"), 0);
    json_decref(problem);
}

#define MACHINE "aaaaaaaa-0000-4000-8000-0000000000ee"
#define VAULT "bbbbbbbb-0000-4000-8000-0000000000ee"

static void an_erasure_is_a_job_of_who_asked(void **state)
{
    struct api_fixture *f = *state;
    json_t *problem, *done;

    begin(f, "{\"four_eyes\":[\"erase\"]}");
    api_sql(f, "INSERT INTO machines (id, name) VALUES ('" MACHINE "', 'old-01') ON CONFLICT DO NOTHING;"
               " INSERT INTO vaults (id, name) VALUES ('" VAULT "', 'v-01') ON CONFLICT DO NOTHING;"
               " INSERT INTO protections (machine_id, policy_id, vault_id, active) SELECT '" MACHINE "', id, '" VAULT
               "', false FROM policies WHERE is_default ON CONFLICT DO NOTHING");
    problem = api_as(f, &anna, "eraseMachine", "/api/v1/machines/old-01/erase", NULL, 403);
    assert_int_equal(count(f, "SELECT count(*) FROM jobs WHERE kind = 'erase'"), 0);
    done = decide(f, &bert, member_text(problem, "approval_id"), true, 200);
    assert_string_equal(member_text(done, "machine_name"), "old-01");
    assert_int_equal(strlen(member_text(done, "job_id")), 36);
    assert_int_equal(count(f, "SELECT count(*) FROM jobs WHERE kind = 'erase' AND requested_by = 'user:anna'"), 1);
    json_decref(problem);
    json_decref(done);
}

/* A policy that keeps less is no way around. */
static void another_policy_is_held_back_too(void **state)
{
    struct api_fixture *f = *state;

    begin(f, RETENTION);
    api_sql(f, "INSERT INTO machines (id, name) VALUES ('" MACHINE "', 'old-01') ON CONFLICT DO NOTHING;"
               " INSERT INTO vaults (id, name) VALUES ('" VAULT "', 'v-01') ON CONFLICT DO NOTHING;"
               " DELETE FROM protections WHERE machine_id = '" MACHINE "';"
               " INSERT INTO protections (machine_id, policy_id, vault_id) SELECT '" MACHINE "', id, '" VAULT
               "' FROM policies WHERE is_default");
    json_t *policy = api_as(f, &anna, "getPolicy", "/api/v1/policies/p", NULL, 200);

    json_decref(api_as(f, &bert, "createPolicy", "/api/v1/policies",
        "{\"name\":\"short\",\"keep_all_seconds\":60,\"keep_minute_seconds\":0,\"keep_hour_seconds\":0,"
        "\"keep_day_seconds\":0}",
        201));
    json_t *less = api_as(f, &anna, "getPolicy", "/api/v1/policies/short", NULL, 200);
    AUTO_FREE char *same = mem_printf("{\"policy_id\":\"%s\"}", member_text(policy, "id"));
    AUTO_FREE char *shorter = mem_printf("{\"policy_id\":\"%s\"}", member_text(less, "id"));
    AUTO_FREE char *protect = mem_printf("{\"disks\":\"all-eligible\",\"policy_id\":\"%s\"}", member_text(less, "id"));

    json_decref(api_as(f, &anna, "updateMachine", "/api/v1/machines/old-01", same, 200));
    json_decref(api_as(f, &anna, "updateMachine", "/api/v1/machines/old-01", shorter, 403));
    json_decref(api_as(f, &anna, "protectMachine", "/api/v1/machines/old-01/protect", protect, 403)); /* nor this way */
    assert_int_equal(count(f, "SELECT count(*) FROM jobs WHERE kind = 'protect'"), 0);
    json_decref(policy);
    json_decref(less);
    api_sql(f, "DELETE FROM protections; DELETE FROM policies WHERE name = 'short'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_the_setting_nothing_is_held_back),
        cmocka_unit_test(shorter_retention_waits_for_another_person),
        cmocka_unit_test(what_keeps_more_passes),
        cmocka_unit_test(a_dry_run_needs_nobody),
        cmocka_unit_test(what_is_wrong_is_refused_before_anybody_is_asked),
        cmocka_unit_test(a_younger_account_decides_nothing),
        cmocka_unit_test(a_token_of_nobody_approves_nothing_and_a_token_is_its_owner),
        cmocka_unit_test(what_changed_meanwhile_is_not_overwritten),
        cmocka_unit_test(who_may_it_no_more_gets_it_no_more),
        cmocka_unit_test(it_is_turned_down_or_taken_back),
        cmocka_unit_test(what_waited_for_too_long_is_over),
        cmocka_unit_test(four_eyes_do_not_go_back_to_the_default_by_one),
        cmocka_unit_test(four_eyes_are_not_closed_by_one),
        cmocka_unit_test(an_erasure_is_a_job_of_who_asked),
        cmocka_unit_test(another_policy_is_held_back_too),
    };

    return cmocka_run_group_tests_name("hub_api_approvals", tests, up, api_fixture_down);
}
