/* SPDX-License-Identifier: Apache-2.0
 *
 * The API as clients see it: over TLS, with every answer held to the OpenAPI document.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/api/http_route.h"
#include "hub/api/json_schema.h"
#include "hub/db/journal.h"
#include "hub/jobs/job.h"
#include "tests/unit/hub/api/api_fixture.h"
#include "transport/base/clock.h"

#define MACHINE "11111111-1111-4111-8111-111111111111"
#define NODE "22222222-2222-4222-8222-222222222222"
#define VAULT "33333333-3333-4333-8333-333333333333"

/* ---- document and server ---- */

static void table_and_document_say_the_same(void **state)
{
    struct api_fixture *f = *state;
    struct err err = ERR_INIT;

    assert_ok(http_routes_check(f->doc, &err), &err);
    assert_true(http_route_count == openapi_count(f->doc));
}

static void every_keyword_of_the_document_is_checked(void **state)
{
    struct api_fixture *f = *state;
    const json_t *schemas = json_object_get(json_object_get(openapi_root(f->doc), "components"), "schemas");
    const char *name;
    json_t *schema;

    json_object_foreach((json_t *)schemas, name, schema)
    {
        const char *unknown = json_schema_unknown_keyword(schema);

        if (unknown)
            fail_msg("schema %s has the keyword %s, which nobody checks", name, unknown);
    }
}

static void every_list_answers_in_its_form(void **state)
{
    static const char *const lists[][2] = {{"listMachines", "/api/v1/machines"}, {"listNodes", "/api/v1/nodes"},
        {"listVaults", "/api/v1/vaults"}, {"listPolicies", "/api/v1/policies"}, {"listSites", "/api/v1/sites"},
        {"listJobs", "/api/v1/jobs"}, {"listEvents", "/api/v1/events"}, {"listTokens", "/api/v1/tokens"},
        {"listEnrolmentTokens", "/api/v1/enrolment-tokens"}, {"listExports", "/api/v1/exports"},
        {"listAudit", "/api/v1/audit"}, {"listDisks", "/api/v1/machines/source/disks"},
        {"listPoints", "/api/v1/machines/source/points"}, {"getStatus", "/api/v1/status"},
        {"getSettings", "/api/v1/settings"}, {"getMachine", "/api/v1/machines/source"},
        {"getMachine", "/api/v1/machines/" MACHINE}, {"getNode", "/api/v1/nodes/gate"},
        {"getVault", "/api/v1/vaults/" VAULT}, {"getVersion", "/api/v1/version"}, {"getLiveness", "/healthz"},
        {"getReadiness", "/readyz?verbose"}, {"getMetrics", "/metrics"}, {"getOpenapi", "/api/v1/openapi.json"}};
    struct api_fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        json_decref(api_ask(f, lists[i][0], lists[i][1], NULL, 200));
}

/* ---- who may ---- */

/* Any path that fits the template of an operation. */
static void sample_path(const char *template, char out[256])
{
    size_t n = 0;

    for (; *template && n < 200; template ++) {
        if (*template != '{') {
            out[n++] = *template;
            continue;
        }
        n += (size_t)snprintf(out + n, 256 - n, "%s", strstr(template, "{sequence}") == template ? "1" : MACHINE);
        template += strcspn(template, "}");
    }
    out[n] = 0;
}

static void nobody_gets_in_without_a_token(void **state)
{
    struct api_fixture *f = *state;

    for (size_t i = 0; i < http_route_count; i++) {
        struct exchange x = {.operation = http_routes[i].operation};
        char path[256];
        AUTO_HEARD struct heard heard = {0};

        if (!http_routes[i].scope)
            continue;
        sample_path(http_routes[i].path, path);
        x.path = path;
        api_exchange(f, &x, 401, &heard);
        assert_string_equal(member_text(heard.json, "code"), "unauthenticated");
        assert_true(strlen(member_text(heard.json, "correction")) > 0);
        assert_true(strncmp(heard_header(&heard, "WWW-Authenticate"), "Bearer", 6) == 0);
    }
}

static void a_viewer_reads_and_changes_nothing(void **state)
{
    struct api_fixture *f = *state;

    for (size_t i = 0; i < http_route_count; i++) {
        struct exchange x = {.operation = http_routes[i].operation, .token = f->viewer};
        char path[256];
        AUTO_HEARD struct heard heard = {0};

        if (!http_routes[i].scope || strstr(http_routes[i].scope, ":read") ||
            strcmp(http_routes[i].scope, OPENAPI_SCOPE_SESSION) == 0)
            continue;
        sample_path(http_routes[i].path, path);
        x.path = path;
        api_exchange(f, &x, 403, &heard);
        assert_string_equal(member_text(heard.json, "code"), "denied");
    }
}

static void a_viewer_sees_neither_users_nor_what_they_did(void **state)
{
    static const struct {
        const char *operation, *path;
        long viewer, operator;
    } rows[] = {
        {"listUsers", "/api/v1/users", 403, 200},
        {"getUser", "/api/v1/users/admin", 403, 404},
        {"listAudit", "/api/v1/audit", 403, 200},
        {"verifyAudit", "/api/v1/audit/verify", 403, 200},
        {"exportAudit", "/api/v1/audit/export", 403, 200},
        {"listMachines", "/api/v1/machines", 200, 200},
    };
    struct api_fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct exchange x = {.operation = rows[i].operation, .path = rows[i].path, .token = f->viewer};
        AUTO_HEARD struct heard by_viewer = {0};
        AUTO_HEARD struct heard by_operator = {0};

        api_exchange(f, &x, rows[i].viewer, &by_viewer);
        x.token = f->operator;
        api_exchange(f, &x, rows[i].operator, & by_operator);
    }
}

static void tokens_that_are_wrong_are_refused(void **state)
{
    static const char *const tokens[] = {"", "x", "lwt_", "lwt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000",
        "lwt_' OR 1=1 --", "lwe_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    struct api_fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
        const struct exchange x = {.operation = "listMachines", .path = "/api/v1/machines", .token = tokens[i]};
        AUTO_HEARD struct heard heard = {0};

        api_exchange(f, &x, 401, &heard);
    }
}

static void a_revoked_token_is_refused_at_once(void **state)
{
    struct api_fixture *f = *state;
    json_t *made = api_ask(f, "createToken", "/api/v1/tokens", "{\"name\":\"soon gone\",\"role\":\"viewer\"}", 201);
    struct exchange x = {.operation = "listMachines", .path = "/api/v1/machines", .token = member_text(made, "token")};
    AUTO_HEARD struct heard before = {0};
    AUTO_HEARD struct heard after = {0};
    char path[128];

    api_exchange(f, &x, 200, &before);
    (void)snprintf(path, sizeof(path), "/api/v1/tokens/%s", member_text(made, "id"));
    json_decref(api_ask(f, "revokeToken", path, NULL, 204));
    api_exchange(f, &x, 401, &after);
    json_decref(made);
}

static void nobody_gives_more_than_they_have(void **state)
{
    struct api_fixture *f = *state;
    json_t *made = api_ask(f, "createToken", "/api/v1/tokens",
        "{\"name\":\"token maker\",\"role\":\"admin\",\"scopes\":[\"tokens:write\",\"machines:read\"]}", 201);
    struct exchange x = {.operation = "createToken", .path = "/api/v1/tokens", .token = member_text(made, "token")};
    AUTO_HEARD struct heard wider = {0};
    AUTO_HEARD struct heard narrower = {0};

    x.body = "{\"name\":\"wide\",\"role\":\"admin\"}";
    api_exchange(f, &x, 403, &wider);
    x.body = "{\"name\":\"narrow\",\"role\":\"viewer\",\"scopes\":[\"machines:read\"]}";
    api_exchange(f, &x, 201, &narrower);
    json_decref(made);
    json_decref(api_ask(f, "createToken", "/api/v1/tokens",
        "{\"name\":\"beyond\",\"role\":\"viewer\",\"scopes\":[\"policies:write\"]}", 400));
}

/* ---- what may be sent ---- */

static void a_body_that_is_wrong_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *body, *pointer, *code;
    } rows[] = {
        {"{\"name\":\"a\",\"colour\":\"red\"}", "/colour", "unknown_field"},
        {"{}", "/name", "required"},
        {"{\"name\":7}", "/name", "type"},
        {"{\"name\":\"a\",\"interval_seconds\":0}", "/interval_seconds", "too_small"},
        {"{\"name\":\"a\",\"max_rounds\":1.5}", "/max_rounds", "type"},
        {"{\"name\":\"\"}", "/name", "too_short"},
        {"{\"name\":\"<script>\"}", "/name", "pattern"},
        {"{\"name\":\"a\",\"throttle_bytes_per_second\":99999999999999999}", "/throttle_bytes_per_second", "too_large"},
        {"[]", "", "type"},
    };
    struct api_fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *problem = api_ask(f, "createPolicy", "/api/v1/policies", rows[i].body, 400);
        const json_t *fault = json_array_get(json_object_get(problem, "errors"), 0);

        assert_string_equal(member_text(fault, "pointer"), rows[i].pointer);
        assert_string_equal(member_text(fault, "code"), rows[i].code);
        json_decref(problem);
    }
}

static void what_is_not_json_is_refused(void **state)
{
    static const char *const bodies[] = {"{", "nonsense", "{\"name\":\"a\",\"name\":\"b\"}", "{\"name\":\"\\u0000\"}",
        "{\"name\":\"\xff\"}", "{\"name\":\"a\"} trailing", "{\"max_rounds\":1e999}", "\x01\x02"};
    struct api_fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        json_decref(api_ask(f, "createPolicy", "/api/v1/policies", bodies[i], 400));
}

static void another_media_type_is_refused(void **state)
{
    struct api_fixture *f = *state;
    const struct exchange x = {.operation = "createPolicy",
        .path = "/api/v1/policies",
        .token = f->admin,
        .body = "name=a",
        .headers = {"Content-Type: application/x-www-form-urlencoded"},
        .keep_content_type = true};
    AUTO_HEARD struct heard heard = {0};

    api_exchange(f, &x, 415, &heard);
}

static void a_body_over_the_bound_is_refused(void **state)
{
    struct api_fixture *f = *state;
    size_t n = REQUEST_BODY_MAX + 4096;
    char *body = malloc(n + 1);
    struct exchange x = {.operation = "createPolicy", .path = "/api/v1/policies", .token = f->admin, .body = body};
    AUTO_HEARD struct heard declared = {0};
    AUTO_HEARD struct heard chunked = {0};

    memset(body, ' ', n);
    body[n] = 0;
    api_exchange(f, &x, 413, &declared);
    x.headers[0] = "Transfer-Encoding: chunked";
    api_exchange(f, &x, 413, &chunked);
    free(body);
}

static void deep_json_does_not_exhaust_the_stack(void **state)
{
    struct api_fixture *f = *state;
    size_t n = 500000;
    char *body = malloc(n + 1);

    memset(body, '[', n);
    body[n] = 0;
    json_decref(api_ask(f, "createPolicy", "/api/v1/policies", body, 400));
    free(body);
}

static void parameters_that_are_wrong_are_refused(void **state)
{
    static const char *const paths[] = {"/api/v1/machines?limit=0", "/api/v1/machines?limit=501",
        "/api/v1/machines?limit=abc", "/api/v1/machines?limit=", "/api/v1/machines?nonsense=1",
        "/api/v1/machines?limit=1&limit=2", "/api/v1/machines?cursor=garbage", "/api/v1/machines?sort=nothing",
        "/api/v1/machines?sort=id%3BDROP%20TABLE%20machines", "/api/v1/machines?policy_id=x",
        "/api/v1/machines?online=maybe", "/api/v1/machines?name=%ff%fe", "/api/v1/jobs?wait=1"};
    struct api_fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        json_decref(api_ask(f, strstr(paths[i], "jobs") ? "listJobs" : "listMachines", paths[i], NULL, 400));
}

static void paths_that_are_not_served_are_404(void **state)
{
    static const char *const paths[] = {"/api", "/api/v1", "/api/v1/", "/api/v1/machines/", "/api/v2/machines",
        "/api/v1/machines/a/b/c", "/../etc/passwd", "/api/v1/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//",
        "/api/v1/machines/source%2Fdisks/x", "/metrics/"};
    struct api_fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        const struct exchange x = {.method = "GET", .path = paths[i], .token = f->admin};
        AUTO_HEARD struct heard heard = {0};

        api_exchange(f, &x, 0, &heard);
        if (strncmp(paths[i], "/api", 4) != 0 && heard.status == 200) { /* a page of the console, and nothing else */
            assert_int_equal(strncmp(heard_header(&heard, "Content-Type"), "text/html", 9), 0);
            continue;
        }
        assert_int_equal(heard.status, 404);
        assert_string_equal(heard_header(&heard, "Content-Type"), "application/problem+json");
    }
}

static void an_item_that_is_not_there_is_404_with_a_correction(void **state)
{
    struct api_fixture *f = *state;
    json_t *problem = api_ask(f, "getMachine", "/api/v1/machines/nobody", NULL, 404);

    assert_string_equal(member_text(problem, "code"), "not_found");
    assert_true(strlen(member_text(problem, "correction")) > 0);
    json_decref(problem);
    json_decref(api_ask(f, "getPoint", "/api/v1/machines/source/points/99", NULL, 404));
    json_decref(api_ask(f, "getJob", "/api/v1/jobs/" MACHINE, NULL, 404));
    json_decref(api_ask(f, "getJob", "/api/v1/jobs/not-a-uuid", NULL, 400));
}

static void another_method_is_405_and_says_what_is_allowed(void **state)
{
    struct api_fixture *f = *state;
    const struct exchange x = {.method = "PUT", .path = "/api/v1/policies", .token = f->admin, .body = "{}"};
    AUTO_HEARD struct heard heard = {0};

    api_exchange(f, &x, 405, &heard);
    assert_string_equal(heard_header(&heard, "Allow"), "GET, HEAD, POST");
}

static void every_answer_carries_its_safety_headers(void **state)
{
    struct api_fixture *f = *state;
    const struct exchange x = {
        .operation = "getVersion", .path = "/api/v1/version", .headers = {"X-Request-Id: my.request-7"}};
    const struct exchange odd = {
        .operation = "getVersion", .path = "/api/v1/version", .headers = {"X-Request-Id: <b>{}"}};
    AUTO_HEARD struct heard heard = {0};
    AUTO_HEARD struct heard other = {0};

    api_exchange(f, &x, 200, &heard);
    assert_string_equal(heard_header(&heard, "X-Request-Id"), "my.request-7");
    assert_string_equal(heard_header(&heard, "Cache-Control"), "no-store");
    assert_string_equal(heard_header(&heard, "X-Content-Type-Options"), "nosniff");
    assert_true(strstr(heard_header(&heard, "Content-Security-Policy"), "default-src 'none'") != NULL);
    api_exchange(f, &odd, 200, &other);
    assert_true(strlen(heard_header(&other, "X-Request-Id")) == 36);
}

/* ---- items ---- */

static void a_policy_lives_its_life_under_its_etag(void **state)
{
    struct api_fixture *f = *state;
    json_t *made = api_ask(f, "createPolicy", "/api/v1/policies",
        "{\"name\":\"gold\",\"interval_seconds\":0.5,\"keep_all_seconds\":3600}", 201);
    char path[128], match[64];
    struct exchange x = {.operation = "updatePolicy", .path = path, .token = f->admin};
    AUTO_HEARD struct heard missing = {0};
    AUTO_HEARD struct heard changed = {0};
    AUTO_HEARD struct heard stale = {0};
    AUTO_HEARD struct heard gone = {0};

    assert_true(json_number_value(json_object_get(made, "interval_seconds")) == 0.5);
    (void)snprintf(path, sizeof(path), "/api/v1/policies/%s", member_text(made, "id"));
    (void)snprintf(match, sizeof(match), "If-Match: \"%s\"", member_text(made, "etag"));
    x.body = "{\"description\":\"for what matters\"}";
    api_exchange(f, &x, 428, &missing);
    x.headers[0] = match;
    api_exchange(f, &x, 200, &changed);
    assert_string_equal(member_text(changed.json, "description"), "for what matters");
    assert_string_not_equal(member_text(changed.json, "etag"), member_text(made, "etag"));
    api_exchange(f, &x, 412, &stale);
    x.operation = "deletePolicy";
    x.body = NULL;
    x.headers[0] = "If-Match: *";
    api_exchange(f, &x, 204, &gone);
    json_decref(api_ask(f, "getPolicy", path, NULL, 404));
    json_decref(made);
}

static void a_name_that_is_taken_is_409(void **state)
{
    struct api_fixture *f = *state;

    json_decref(api_ask(f, "createSite", "/api/v1/sites", "{\"name\":\"Oslo\"}", 201));
    json_decref(api_ask(f, "createSite", "/api/v1/sites", "{\"name\":\"Oslo\"}", 409));
}

static void pages_follow_one_another_without_gap_or_repeat(void **state)
{
    struct api_fixture *f = *state;
    char path[512] = "/api/v1/sites?limit=2&sort=-name", body[64];
    size_t seen = 0, pages = 0;
    char last[64] = "~";

    for (int i = 0; i < 5; i++) {
        (void)snprintf(body, sizeof(body), "{\"name\":\"page %d\"}", i);
        json_decref(api_ask(f, "createSite", "/api/v1/sites", body, 201));
    }
    for (;; pages++) {
        json_t *list = api_ask(f, "listSites", path, NULL, 200);
        const json_t *items = json_object_get(list, "items"), *item;
        size_t i;

        json_array_foreach(items, i, item)
        {
            assert_true(strcmp(member_text(item, "name"), last) < 0);
            (void)snprintf(last, sizeof(last), "%s", member_text(item, "name"));
            seen++;
        }
        (void)snprintf(path, sizeof(path), "/api/v1/sites?limit=2&sort=-name&cursor=%s", member_text(list, "next"));
        i = strlen(member_text(list, "next"));
        json_decref(list);
        if (i == 0)
            break;
    }
    assert_true(seen >= 5 && pages >= 2);
}

static void the_same_idempotency_key_does_it_once(void **state)
{
    struct api_fixture *f = *state;
    struct exchange x = {.operation = "createSite",
        .path = "/api/v1/sites",
        .token = f->admin,
        .body = "{\"name\":\"once\",\"description\":\"x\"}",
        .headers = {"Idempotency-Key: k1"}};
    AUTO_HEARD struct heard first = {0};
    AUTO_HEARD struct heard again = {0};
    AUTO_HEARD struct heard other = {0};

    api_exchange(f, &x, 201, &first);
    x.body = "{\"description\":\"x\",\"name\":\"once\"}"; /* the same, in another order */
    api_exchange(f, &x, 201, &again);
    assert_string_equal(member_text(first.json, "id"), member_text(again.json, "id"));
    assert_true(strlen(heard_header(&again, "Location")) > 0);
    x.body = "{\"name\":\"another\"}";
    api_exchange(f, &x, 422, &other);
}

static void what_is_done_is_in_the_audit_log(void **state)
{
    struct api_fixture *f = *state;
    const json_t *record;
    json_t *list;

    json_decref(api_ask(f, "createSite", "/api/v1/sites", "{\"name\":\"audited\"}", 201));
    list = api_ask(f, "listAudit", "/api/v1/audit?limit=1", NULL, 200);
    record = json_array_get(json_object_get(list, "items"), 0);
    assert_string_equal(member_text(record, "action"), "createSite");
    assert_string_equal(member_text(record, "actor"), "token:admin");
    assert_string_equal(member_text(record, "outcome"), "done");
    json_decref(list);
}

/* PATCH of the settings with that etag (NULL: without If-Match); the settings that there are then. */
static json_t *change_settings(struct api_fixture *f, const char *etag, const char *body, long status)
{
    AUTO_FREE char *match = etag ? mem_printf("If-Match: \"%s\"", etag) : NULL;
    const struct exchange x = {
        .operation = "updateSettings", .path = "/api/v1/settings", .token = f->admin, .body = body, .headers = {match}};
    AUTO_HEARD struct heard heard = {0};

    api_exchange(f, &x, status, &heard);
    return api_ask(f, "getSettings", "/api/v1/settings", NULL, 200);
}

static void settings_are_changed_by_who_saw_them_and_go_back_to_their_defaults(void **state)
{
    struct api_fixture *f = *state;
    json_t *before = api_ask(f, "getSettings", "/api/v1/settings", NULL, 200), *after, *stale, *back;

    json_decref(change_settings(f, NULL, "{\"event_keep_days\":30}", 428));
    after = change_settings(f, member_text(before, "etag"), "{\"event_keep_days\":30,\"report_hour\":0}", 200);
    assert_int_equal(json_integer_value(json_object_get(after, "event_keep_days")), 30);
    stale = change_settings(f, member_text(before, "etag"), "{\"event_keep_days\":31}", 412);
    assert_true(json_equal(stale, after));
    back = change_settings(f, member_text(after, "etag"), "{\"event_keep_days\":null}", 200);
    assert_null(json_object_get(back, "event_keep_days"));
    assert_non_null(json_object_get(back, "report_hour"));
    assert_string_not_equal(member_text(back, "etag"), member_text(after, "etag"));
    json_decref(before);
    json_decref(after);
    json_decref(stale);
    json_decref(back);
}

#define OLD_JOBS 1203 /* more than a console or a script may stop at */

static void jobs_of_a_filter_are_listed_to_the_oldest(void **state)
{
    struct api_fixture *f = *state;
    char last[80] = "", path[400] = "/api/v1/jobs?status=cancelled&limit=500";
    size_t seen = 0;

    api_sql(f, "INSERT INTO jobs (id, kind, status, created_at, finished_at) SELECT gen_random_uuid(), 'vault_verify',"
               " CASE WHEN i % 2 = 0 THEN 'cancelled' ELSE 'succeeded' END, now() - i * interval '1 second', now()"
               " FROM generate_series(1, 2 * 1203) i");
    while (*path) {
        json_t *page = api_ask(f, "listJobs", path, NULL, 200), *one;
        const char *next = member_text(page, "next");
        size_t i;

        json_array_foreach(json_object_get(page, "items"), i, one)
        {
            const char *at = member_text(one, "created_at");

            assert_true(!*last || strcmp(at, last) < 0); /* each once, the latest first */
            (void)snprintf(last, sizeof(last), "%s", at);
            seen++;
        }
        (void)snprintf(path, sizeof(path), *next ? "/api/v1/jobs?status=cancelled&limit=500&cursor=%s" : "%s", next);
        json_decref(page);
    }
    assert_int_equal(seen, OLD_JOBS);
    api_sql(f, "DELETE FROM jobs WHERE status = 'cancelled' OR kind = 'vault_verify'");
}

static void an_unknown_filter_is_answered_with_those_that_there_are(void **state)
{
    struct api_fixture *f = *state;
    json_t *problem = api_ask(f, "listMachines", "/api/v1/machines?colour=red", NULL, 400);
    const char *detail = member_text(json_array_get(json_object_get(problem, "errors"), 0), "detail");

    assert_non_null(strstr(detail, "cause_code"));
    assert_non_null(strstr(detail, "cursor"));
    assert_true(strstr(detail, "rescue") &&
                strstr(detail, "rescue") < strstr(detail, "cursor")); /* what filters first, and all of it */
    json_decref(problem);
}

static void an_enrolment_token_is_shown_once(void **state)
{
    struct api_fixture *f = *state;
    json_t *made = api_ask(f, "createEnrolmentToken", "/api/v1/enrolment-tokens", "{\"role\":\"agent\"}", 201);
    json_t *list = api_ask(f, "listEnrolmentTokens", "/api/v1/enrolment-tokens", NULL, 200);
    char *text = json_dumps(list, 0);

    assert_true(strncmp(member_text(made, "token"), "lwe_", 4) == 0);
    assert_true(strstr(member_text(made, "token"), f->conf.ca_fingerprint) != NULL);
    assert_true(strstr(text, "lwe_") == NULL);
    free(text);
    json_decref(list);
    json_decref(made);
}

/* ---- live ---- */

static void what_an_agent_said_last_lies_over_its_row(void **state)
{
    struct api_fixture *f = *state;
    const struct live_machine said = {.agent_state = "protected",
        .last_point_sequence = 42,
        .last_point_utc_usec = 1700000000000000,
        .rpo_usec = 700000,
        .backlog_bytes = 4096,
        .points_made = 40,
        .rounds = 3};
    struct err err = ERR_INIT;
    json_t *machine;

    assert_ok(live_status_put_machine(f->live, MACHINE, &said, &err), &err);
    machine = api_ask(f, "getMachine", "/api/v1/machines/source", NULL, 200);
    assert_int_equal(json_integer_value(json_object_get(machine, "last_point_sequence")), 42);
    assert_int_equal(json_integer_value(json_object_get(machine, "backlog_bytes")), 4096);
    assert_string_equal(member_text(machine, "points_made"), "40");
    assert_string_equal(member_text(machine, "last_point_at"), "2023-11-14T22:13:20.000000Z");
    json_decref(machine);
}

static void readiness_tells_why_not(void **state)
{
    struct api_fixture *f = *state;
    json_t *body;

    f->not_ready = true;
    body = api_ask(f, "getReadiness", "/readyz?verbose=1", NULL, 503);
    assert_string_equal(member_text(json_array_get(json_object_get(body, "checks"), 0), "text"), "as the test says");
    f->not_ready = false;
    json_decref(body);
}

static void the_document_is_revalidated_by_its_etag(void **state)
{
    struct api_fixture *f = *state;
    struct exchange x = {.operation = "getOpenapi", .path = "/api/v1/openapi.json"};
    AUTO_HEARD struct heard first = {0};
    AUTO_HEARD struct heard again = {0};
    char line[128];

    api_exchange(f, &x, 200, &first);
    (void)snprintf(line, sizeof(line), "If-None-Match: %s", heard_header(&first, "ETag"));
    x.headers[0] = line;
    api_exchange(f, &x, 304, &again);
}

/* ---- start ---- */

static int up_with_rows(void **state)
{
    struct api_fixture *f;
    struct db_conn *conn AUTO_OF(db_conn) = NULL;

    if (api_fixture_up(state) != 0)
        return -1;
    f = *state;
    conn = fixture_conn(&f->postgres);
    fixture_machine(conn, MACHINE, "source");
    fixture_node(conn, NODE, "gate");
    fixture_vault(conn, VAULT, "store");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_and_document_say_the_same),
        cmocka_unit_test(every_keyword_of_the_document_is_checked),
        cmocka_unit_test(every_list_answers_in_its_form),
        cmocka_unit_test(nobody_gets_in_without_a_token),
        cmocka_unit_test(a_viewer_reads_and_changes_nothing),
        cmocka_unit_test(a_viewer_sees_neither_users_nor_what_they_did),
        cmocka_unit_test(tokens_that_are_wrong_are_refused),
        cmocka_unit_test(a_revoked_token_is_refused_at_once),
        cmocka_unit_test(nobody_gives_more_than_they_have),
        cmocka_unit_test(a_body_that_is_wrong_is_refused_with_its_place),
        cmocka_unit_test(what_is_not_json_is_refused),
        cmocka_unit_test(another_media_type_is_refused),
        cmocka_unit_test(a_body_over_the_bound_is_refused),
        cmocka_unit_test(deep_json_does_not_exhaust_the_stack),
        cmocka_unit_test(parameters_that_are_wrong_are_refused),
        cmocka_unit_test(paths_that_are_not_served_are_404),
        cmocka_unit_test(an_item_that_is_not_there_is_404_with_a_correction),
        cmocka_unit_test(another_method_is_405_and_says_what_is_allowed),
        cmocka_unit_test(every_answer_carries_its_safety_headers),
        cmocka_unit_test(a_policy_lives_its_life_under_its_etag),
        cmocka_unit_test(a_name_that_is_taken_is_409),
        cmocka_unit_test(pages_follow_one_another_without_gap_or_repeat),
        cmocka_unit_test(the_same_idempotency_key_does_it_once),
        cmocka_unit_test(what_is_done_is_in_the_audit_log),
        cmocka_unit_test(settings_are_changed_by_who_saw_them_and_go_back_to_their_defaults),
        cmocka_unit_test(jobs_of_a_filter_are_listed_to_the_oldest),
        cmocka_unit_test(an_unknown_filter_is_answered_with_those_that_there_are),
        cmocka_unit_test(an_enrolment_token_is_shown_once),
        cmocka_unit_test(what_an_agent_said_last_lies_over_its_row),
        cmocka_unit_test(readiness_tells_why_not),
        cmocka_unit_test(the_document_is_revalidated_by_its_etag),
    };

    return cmocka_run_group_tests_name("hub_api", tests, up_with_rows, api_fixture_down);
}
