/* SPDX-License-Identifier: Apache-2.0
 *
 * The certificate is made by openssl(1); the tokens by the store that the server reads.
 */
#include "tests/unit/hub/api/api_fixture.h"

#include <curl/curl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "hub/api/json_schema.h"
#include "hub/db/token_store.h"
#include "hub/db/user_store.h"
#include "transport/base/buf.h"

static size_t ready(void *arg, struct api_check checks[API_CHECKS_MAX])
{
    const struct api_fixture *f = arg;

    checks[0] = (struct api_check){.name = "test", .ok = !f->not_ready, .text = "as the test says"};
    return 1;
}

static void make_certificate(struct api_fixture *f, const char *folder)
{
    char command[600];

    (void)snprintf(f->cert, sizeof(f->cert), "%s/api.pem", folder);
    (void)snprintf(f->key, sizeof(f->key), "%s/api.key", folder);
    (void)snprintf(command, sizeof(command),
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
        "-addext subjectAltName=IP:127.0.0.1 -keyout %s -out %s >%s/openssl.log 2>&1",
        f->key, f->cert, folder);
    assert_int_equal(system(command), 0);
}

static void make_token(struct api_fixture *f, const char *role, char out[64])
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    const struct api_token_spec spec = {.name = role, .role = role, .created_by = "test"};
    char id[IDENT_TEXT_SIZE], text[API_TOKEN_TEXT_SIZE];
    struct err err = ERR_INIT;

    assert_ok(api_token_create(conn, &spec, id, text, &err), &err);
    (void)snprintf(out, 64, "%s", text);
}

int api_fixture_up(void **state)
{
    struct api_fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    const struct postgres_fixture *pg;

    if (!f || curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || postgres_fixture_up(&f->postgres) != 0)
        return -1;
    pg = f->postgres;
    make_certificate(f, pg->folder);
    make_token(f, "admin", f->admin);
    make_token(f, "viewer", f->viewer);
    make_token(f, "operator", f->operator);
    assert_ok(live_status_new(&f->live, &err), &err);
    f->conf = (struct api_conf){
        .listen = "127.0.0.1:0",
        .cert_path = f->cert,
        .key_path = f->key,
        .db = pg->db,
        .live = f->live,
        .hub_id = "7f3c9f0e-5a64-4d5e-8d0a-111111111111",
        .ca_fingerprint = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        .requests_per_second = 100000, /* what is tested here is something else */
        .failures_per_second = 100000,
        .ready = ready,
        .arg = f,
    };
    assert_ok(openapi_load(&f->doc, &err), &err);
    assert_ok(api_start(&f->conf, &f->api, &err), &err);
    (void)snprintf(f->url, sizeof(f->url), "https://127.0.0.1:%u", api_port(f->api));
    *state = f;
    return 0;
}

int api_fixture_down(void **state)
{
    struct api_fixture *f = *state;
    int rc;

    api_stop(f->api);
    live_status_free(f->live);
    openapi_free(f->doc);
    rc = postgres_fixture_down(&f->postgres);
    curl_global_cleanup();
    free(f);
    return rc;
}

void heard_done(struct heard *heard)
{
    json_decref(heard->json);
    free(heard->text);
    *heard = (struct heard){0};
}

static size_t on_body(char *data, size_t size, size_t count, void *cls)
{
    return buf_append(cls, data, size * count, NULL) < 0 ? 0 : size * count;
}

static size_t on_header(char *data, size_t size, size_t count, void *cls)
{
    struct heard *heard = cls;
    size_t used = strlen(heard->headers);

    (void)snprintf(heard->headers + used, sizeof(heard->headers) - used, "%.*s", (int)(size * count), data);
    return size * count;
}

const char *heard_header(const struct heard *heard, const char *name)
{
    static char value[512];

    value[0] = 0;
    for (const char *at = heard->headers; *at; at += strcspn(at, "\n") + (at[strcspn(at, "\n")] == '\n'))
        if (strncasecmp(at, name, strlen(name)) == 0 && at[strlen(name)] == ':')
            (void)snprintf(
                value, sizeof(value), "%.*s", (int)strcspn(at + strlen(name) + 2, "\r\n"), at + strlen(name) + 2);
    return value;
}

const char *member_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "";
}

static void hold_to_document(const struct api_fixture *f, const struct openapi_operation *op, const struct exchange *x,
    const struct heard *heard)
{
    const json_t *schema;
    bool documented;
    json_t *errors = json_array();

    schema = openapi_response_schema(f->doc, op, (int)heard->status, &documented);
    if (!documented)
        fail_msg(
            "%s %s answered %ld, which the document does not have: %s", op->id, x->path, heard->status, heard->text);
    if (schema && heard->json && !json_schema_valid(openapi_root(f->doc), schema, heard->json, "", errors)) {
        char *text = json_dumps(errors, JSON_INDENT(1));

        fail_msg("%s %s %ld is not of the document: %s\n%s", op->id, x->path, heard->status, text, heard->text);
    }
    if (schema && !heard->json && strcmp(op->id, "getMetrics") != 0)
        fail_msg("%s %s %ld has no JSON body: %s", op->id, x->path, heard->status, heard->text);
    json_decref(errors);
}

static struct curl_slist *make_headers(const struct exchange *x)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    char line[512];

    if (x->token) {
        (void)snprintf(line, sizeof(line), "Authorization: Bearer %s", x->token);
        headers = curl_slist_append(headers, line);
    }
    if (x->body && !x->keep_content_type)
        headers = curl_slist_append(headers, "Content-Type: application/json");
    for (size_t i = 0; i < 4 && x->headers[i]; i++)
        headers = curl_slist_append(headers, x->headers[i]);
    return headers;
}

void api_exchange(struct api_fixture *f, const struct exchange *x, long status, struct heard *ret_heard)
{
    const struct openapi_operation *op = x->operation ? openapi_find(f->doc, x->operation) : NULL;
    struct curl_slist *headers = make_headers(x);
    struct buf body = BUF_INIT(64 << 20);
    CURL *curl = curl_easy_init();
    char url[4096], why[CURL_ERROR_SIZE] = "";
    CURLcode rc;

    *ret_heard = (struct heard){0};
    (void)snprintf(url, sizeof(url), "%s%s", f->url, x->path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_CAINFO, f->cert);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 120L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, op ? op->method : x->method);
    if (x->body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, x->body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(x->body));
    }
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, ret_heard);
    rc = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &ret_heard->status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    if (rc != CURLE_OK)
        fail_msg("%s: %s", x->path, why);
    ret_heard->text = strndup(body.data ? (const char *)body.data : "", body.len);
    ret_heard->json = json_loadb(ret_heard->text, body.len, JSON_REJECT_DUPLICATES, NULL);
    buf_done(&body);
    if (op)
        hold_to_document(f, op, x, ret_heard);
    if (status && ret_heard->status != status)
        fail_msg("%s %s answered %ld instead of %ld: %s", x->operation ? x->operation : x->method, x->path,
            ret_heard->status, status, ret_heard->text);
}

json_t *api_ask(struct api_fixture *f, const char *operation, const char *path, const char *body, long status)
{
    const struct exchange x = {.operation = operation, .path = path, .token = f->admin, .body = body};
    AUTO_HEARD struct heard heard = {0};

    api_exchange(f, &x, status, &heard);
    return json_incref(heard.json);
}

/* ---- people ---- */

void api_sql(struct api_fixture *f, const char *text)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    struct err err = ERR_INIT;

    assert_ok(db_script(conn, text, &err), &err);
}

void api_make_user(struct api_fixture *f, const char *name, const char *role, const char *password)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    struct err err = ERR_INIT;
    char hash[USER_HASH_SIZE], id[IDENT_TEXT_SIZE];
    const struct user_spec spec = {.name = name, .role = role, .hash = hash};

    assert_ok(user_password_hash(password, hash, &err), &err);
    assert_ok(user_create(conn, &spec, id, &err), &err);
}

long api_try_password(struct api_fixture *f, const char *name, const char *password, struct heard *ret_heard)
{
    char body[512];
    const struct exchange x = {.operation = "createSession", .path = "/api/v1/session", .body = body};

    (void)snprintf(body, sizeof(body), "{\"username\":\"%s\",\"password\":\"%s\"}", name, password);
    api_exchange(f, &x, 0, ret_heard);
    return ret_heard->status;
}

struct person api_sign_in(struct api_fixture *f, const char *name, const char *password)
{
    struct person p = {0};
    AUTO_HEARD struct heard heard = {0};
    const char *cookie;

    assert_int_equal(api_try_password(f, name, password, &heard), 201);
    cookie = heard_header(&heard, "Set-Cookie");
    (void)snprintf(p.cookie, sizeof(p.cookie), "Cookie: %.*s", (int)strcspn(cookie, ";"), cookie);
    (void)snprintf(p.csrf, sizeof(p.csrf), "X-CSRF-Token: %s", member_text(heard.json, "csrf_token"));
    (void)snprintf(p.id, sizeof(p.id), "%s", member_text(json_object_get(heard.json, "user"), "id"));
    (void)snprintf(p.session_id, sizeof(p.session_id), "%s", member_text(heard.json, "id"));
    return p;
}

json_t *api_as(struct api_fixture *f, const struct person *p, const char *operation, const char *path, const char *body,
    long status)
{
    const struct exchange x = {
        .operation = operation, .path = path, .body = body, .headers = {p->cookie, p->csrf, "If-Match: *"}};
    AUTO_HEARD struct heard heard = {0};

    api_exchange(f, &x, status, &heard);
    return json_incref(heard.json);
}
