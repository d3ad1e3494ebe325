/* SPDX-License-Identifier: Apache-2.0
 *
 * What takes time: jobs that a client waits for, events that come one by one, clients that are slow. No job runner is
 * started, so that a job stands where the test puts it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <curl/curl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "hub/api/event_feed.h"
#include "hub/api/handler_pool.h"
#include "hub/db/journal.h"
#include "hub/jobs/job.h"
#include "hub/db/user_store.h"
#include "tests/unit/hub/api/api_fixture.h"
#include "transport/base/clock.h"

#define MACHINE "11111111-1111-4111-8111-111111111111"
#define NODE "22222222-2222-4222-8222-222222222222"
#define PATIENCE_SEC 50 /* below what a client waits for at most */
#define VAULT "33333333-3333-4333-8333-333333333333"

static json_t *submit_verify(struct api_fixture *f, const char *query, long status)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "/api/v1/vaults/store/verify%s", query);
    return api_ask(f, "verifyVault", path, NULL, status);
}

static void a_job_is_answered_with_202_and_its_place(void **state)
{
    struct api_fixture *f = *state;
    const struct exchange x = {.operation = "verifyVault", .path = "/api/v1/vaults/store/verify", .token = f->operator};
    AUTO_HEARD struct heard heard = {0};
    char place[128];

    api_exchange(f, &x, 202, &heard);
    (void)snprintf(place, sizeof(place), "/api/v1/jobs/%s", member_text(heard.json, "id"));
    assert_string_equal(heard_header(&heard, "Location"), place);
    assert_string_equal(member_text(heard.json, "status"), "queued");
    assert_string_equal(member_text(heard.json, "requested_by"), "token:operator");
    json_decref(api_ask(f, "getJob", place, NULL, 200));
}

static void a_dry_run_leaves_no_job(void **state)
{
    struct api_fixture *f = *state;
    json_t *before = api_ask(f, "listJobs", "/api/v1/jobs?limit=500", NULL, 200), *after;

    json_decref(submit_verify(f, "?dry_run=true", 204));
    after = api_ask(f, "listJobs", "/api/v1/jobs?limit=500", NULL, 200);
    assert_int_equal(
        json_array_size(json_object_get(before, "items")), json_array_size(json_object_get(after, "items")));
    json_decref(before);
    json_decref(after);
}

static void a_repeated_key_finds_the_same_job(void **state)
{
    struct api_fixture *f = *state;
    const struct exchange x = {.operation = "verifyVault",
        .path = "/api/v1/vaults/store/verify",
        .token = f->admin,
        .headers = {"Idempotency-Key: verify-1"}};
    AUTO_HEARD struct heard first = {0};
    AUTO_HEARD struct heard again = {0};

    api_exchange(f, &x, 202, &first);
    api_exchange(f, &x, 202, &again);
    assert_string_equal(member_text(first.json, "id"), member_text(again.json, "id"));
    assert_string_equal(heard_header(&first, "Location"), heard_header(&again, "Location"));
}

static void protecting_needs_disks_that_are_there(void **state)
{
    struct api_fixture *f = *state;

    json_decref(api_ask(f, "protectMachine", "/api/v1/machines/source/protect", "{\"disks\":[]}", 400));
    json_decref(api_ask(f, "protectMachine", "/api/v1/machines/source/protect", "{\"disks\":\"some\"}", 400));
    json_decref(api_ask(f, "protectMachine", "/api/v1/machines/nobody/protect", "{\"disks\":[\"a\"]}", 404));
    json_decref(api_ask(f, "openPoint", "/api/v1/exports", "{\"machine\":\"nobody\"}", 404));
    json_decref(api_ask(f, "openPoint", "/api/v1/exports", "{\"machine\":\"source\",\"socket\":\"relative\"}", 400));
}

/* ---- waiting ---- */

struct later {
    struct api_fixture *f;
    char job[64];
};

static void end_job(struct api_fixture *f, const char *id)
{
    struct db_conn *conn AUTO_OF(db_conn) = NULL;

    if (db_acquire(f->conf.db, &conn, NULL) == 0)
        (void)db_exec(conn, NULL, NULL, "UPDATE jobs SET status = 'cancelled', finished_at = now() WHERE id = $1::uuid",
            DB_ID(id));
    api_news(f->api);
}

static unsigned long in_flight(struct api_fixture *f)
{
    static const char name[] = "\nleeward_api_requests_in_flight ";
    const struct exchange x = {.operation = "getMetrics", .path = "/metrics", .token = f->admin};
    AUTO_HEARD struct heard heard = {0};
    const char *at;

    api_exchange(f, &x, 200, &heard);
    at = strstr(heard.text, name);
    assert_non_null(at);
    return strtoul(at + strlen(name), NULL, 10);
}

/* Until so many clients wait for an answer; one more is the question itself. */
static void wait_for_waiters(struct api_fixture *f, unsigned long count)
{
    uint64_t until = clock_mono_usec() + PATIENCE_SEC * USEC_PER_SEC;

    while (in_flight(f) <= count)
        if (clock_mono_usec() > until)
            fail_msg("not %lu requests wait after %d s, but %lu", count, PATIENCE_SEC, in_flight(f));
}

/* Ends the job when the client waits for it: the wait must end then, not at its time. */
static void *end_later(void *arg)
{
    const struct later *later = arg;

    wait_for_waiters(later->f, 1);
    end_job(later->f, later->job);
    return NULL;
}

static void a_wait_ends_with_the_job(void **state)
{
    struct api_fixture *f = *state;
    struct later later = {.f = f};
    json_t *job = submit_verify(f, "", 202), *ended;
    pthread_t thread;
    char path[128];

    (void)snprintf(later.job, sizeof(later.job), "%s", member_text(job, "id"));
    (void)snprintf(path, sizeof(path), "/api/v1/jobs/%s?wait=60", later.job);
    assert_int_equal(pthread_create(&thread, NULL, end_later, &later), 0);
    ended = api_ask(f, "getJob", path, NULL, 200);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(member_text(ended, "status"), "cancelled"); /* at its time it would still be queued */
    json_decref(ended);
    json_decref(job);
}

static void a_wait_that_is_over_answers_with_the_job_as_it_is(void **state)
{
    struct api_fixture *f = *state;
    uint64_t begun = clock_mono_usec();
    json_t *job = submit_verify(f, "?wait=1", 202);

    assert_string_equal(member_text(job, "status"), "queued");
    assert_true(clock_mono_usec() - begun >= USEC_PER_SEC);
    json_decref(job);
}

static void *wait_for_job(void *arg)
{
    const struct later *later = arg;
    char path[128];
    json_t *job;

    (void)snprintf(path, sizeof(path), "/api/v1/jobs/%s?wait=60", later->job);
    job = api_ask(later->f, "getJob", path, NULL, 200);
    assert_string_equal(member_text(job, "status"), "cancelled");
    json_decref(job);
    return NULL;
}

/* Four handler threads, sixteen that wait: others are served meanwhile. With their threads taken the answers would come after the waits,
 * which would find the job as it was. */
static void waiting_holds_no_thread(void **state)
{
    struct api_fixture *f = *state;
    struct later later = {.f = f};
    json_t *job = submit_verify(f, "", 202);
    pthread_t threads[16];

    (void)snprintf(later.job, sizeof(later.job), "%s", member_text(job, "id"));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_job, &later), 0);
    wait_for_waiters(f, ARRAY_LEN(threads));
    for (int i = 0; i < 10; i++)
        json_decref(api_ask(f, "getStatus", "/api/v1/status", NULL, 200));
    end_job(f, later.job);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    json_decref(job);
}

/* ---- events ---- */

static void append_event(struct api_fixture *f, const char *severity, const char *text)
{
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    const struct event_spec spec = {.severity = severity, .code = "test", .text = text};
    struct err err = ERR_INIT;

    assert_ok(event_append(conn, &spec, &err), &err);
    api_news(f->api);
}

struct listening {
    char text[65536];
    size_t len;
    const char *until; /* ends the transfer */
    atomic_bool open;  /* the server's greeting came: what happens from now on comes down the stream */
};

static size_t on_stream(char *data, size_t size, size_t count, void *cls)
{
    struct listening *l = cls;
    size_t n = size * count;

    if (l->len + n >= sizeof(l->text))
        return 0;
    memcpy(l->text + l->len, data, n);
    l->len += n;
    l->text[l->len] = 0;
    if (strstr(l->text, "events follow"))
        atomic_store(&l->open, true);
    return strstr(l->text, l->until) ? 0 : n;
}

/* Reads the stream until the text came. */
static void listen_as(
    struct api_fixture *f, const char *credential, const char *path, const char *last_id, struct listening *l)
{
    struct curl_slist *headers = curl_slist_append(NULL, credential);
    char line[256], url[512];
    CURL *curl = curl_easy_init();
    CURLcode rc;

    if (last_id) {
        (void)snprintf(line, sizeof(line), "Last-Event-ID: %s", last_id);
        headers = curl_slist_append(headers, line);
    }
    (void)snprintf(url, sizeof(url), "%s%s", f->url, path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CAINFO, f->cert);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)PATIENCE_SEC);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_stream);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, l);
    rc = curl_easy_perform(curl);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    if (rc != CURLE_WRITE_ERROR)
        fail_msg("the stream did not bring \"%s\": %s\n%s", l->until, curl_easy_strerror(rc), l->text);
}

static void listen_until(struct api_fixture *f, const char *path, const char *last_id, struct listening *l)
{
    char line[256];

    (void)snprintf(line, sizeof(line), "Authorization: Bearer %s", f->viewer);
    listen_as(f, line, path, last_id, l);
}

struct teller {
    struct api_fixture *f;
    struct listening *listening;
    const char *text;
};

static void *tell_later(void *arg)
{
    const struct teller *t = arg;

    for (int i = 0; i < PATIENCE_SEC * 200 && !atomic_load(&t->listening->open); i++)
        (void)poll(NULL, 0, 5);
    append_event(t->f, "info", "not asked for");
    append_event(t->f, "error", t->text);
    return NULL;
}

static void an_event_comes_down_the_stream(void **state)
{
    struct api_fixture *f = *state;
    struct listening l = {.until = "the roof is on fire"};
    struct teller teller = {f, &l, "the roof is on fire"};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, tell_later, &teller), 0);
    listen_until(f, "/api/v1/events/stream?severity=warning,error", NULL, &l);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(strstr(l.text, "id: ") != NULL);
    assert_true(strstr(l.text, "not asked for") == NULL);
}

static void a_stream_goes_on_after_the_last_event_that_was_seen(void **state)
{
    struct api_fixture *f = *state;
    struct listening l = {.until = "third"};
    json_t *list;
    char id[24];

    append_event(f, "info", "first");
    list = api_ask(f, "listEvents", "/api/v1/events?limit=1", NULL, 200);
    (void)snprintf(id, sizeof(id), "%lld",
        (long long)json_integer_value(json_object_get(json_array_get(json_object_get(list, "items"), 0), "seq")));
    json_decref(list);
    append_event(f, "info", "second");
    append_event(f, "info", "third");
    listen_until(f, "/api/v1/events/stream", id, &l);
    assert_true(strstr(l.text, "second") != NULL);
    if (strstr(l.text, "\"first\""))
        fail_msg("the stream after %s brings what was seen: %s", id, l.text);
}

/* The console's way: a cookie, and neither a token nor a CSRF token. */
static void a_stream_opens_with_a_session_and_not_after_it(void **state)
{
    struct api_fixture *f = *state;
    struct listening l = {.until = "seen by a person"};
    struct teller teller = {f, &l, "seen by a person"};
    AUTO_HEARD struct heard in = {0};
    AUTO_HEARD struct heard out = {0};
    AUTO_HEARD struct heard after = {0};
    char cookie[200], csrf[120], hash[USER_HASH_SIZE], id[IDENT_TEXT_SIZE];
    const struct user_spec spec = {.name = "sse", .role = "viewer", .hash = hash};
    struct db_conn *conn AUTO_OF(db_conn) = fixture_conn(&f->postgres);
    struct err err = ERR_INIT;
    pthread_t thread;

    assert_ok(user_password_hash("correct horse battery", hash, &err), &err);
    assert_ok(user_create(conn, &spec, id, &err), &err);
    api_exchange(f,
        &(struct exchange){.operation = "createSession",
            .path = "/api/v1/session",
            .body = "{\"username\":\"sse\",\"password\":\"correct horse battery\"}"},
        201, &in);
    const char *set = heard_header(&in, "Set-Cookie");

    (void)snprintf(cookie, sizeof(cookie), "Cookie: %.*s", (int)strcspn(set, ";"), set);
    (void)snprintf(csrf, sizeof(csrf), "X-CSRF-Token: %s", member_text(in.json, "csrf_token"));
    assert_int_equal(pthread_create(&thread, NULL, tell_later, &teller), 0);
    listen_as(f, cookie, "/api/v1/events/stream?severity=error", NULL, &l);
    assert_int_equal(pthread_join(thread, NULL), 0);
    api_exchange(f, &(struct exchange){.operation = "endSession", .path = "/api/v1/session", .headers = {cookie, csrf}},
        204, &out);
    api_exchange(f,
        &(struct exchange){.operation = "streamEvents", .path = "/api/v1/events/stream", .headers = {cookie}}, 401,
        &after);
}

static void *drop_stream(void *arg)
{
    struct listening l = {.until = "retry"};

    listen_until(arg, "/api/v1/events/stream", NULL, &l);
    return NULL;
}

/* Streams cost no thread either, and one that its client left is found out. */
static void many_streams_leave_room_for_requests(void **state)
{
    struct api_fixture *f = *state;
    pthread_t threads[24];

    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, drop_stream, f), 0);
    json_decref(api_ask(f, "getStatus", "/api/v1/status", NULL, 200));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    append_event(f, "info", "anybody there?");
    json_decref(api_ask(f, "getStatus", "/api/v1/status", NULL, 200));
}

/* ---- stopping ---- */

static void *wait_long(void *arg)
{
    const struct later *later = arg;
    const struct exchange x = {.operation = "getJob", .path = later->job, .token = later->f->admin};
    AUTO_HEARD struct heard heard = {0};

    api_exchange(later->f, &x, 200, &heard);
    return NULL;
}

static void start_again(struct api_fixture *f)
{
    struct err err = ERR_INIT;

    api_stop(f->api);
    f->api = NULL;
    assert_ok(api_start(&f->conf, &f->api, &err), &err);
    (void)snprintf(f->url, sizeof(f->url), "https://127.0.0.1:%u", api_port(f->api));
}

/* More of them than the network threads send in one turn; each has its answer, although everything is closed after it. */
static void stopping_answers_those_who_wait(void **state)
{
    struct api_fixture *f = *state;
    struct later later = {.f = f};
    uint64_t begun = clock_mono_usec();
    pthread_t threads[24];
    json_t *job;

    start_again(f); /* without what earlier tests left open */
    job = submit_verify(f, "", 202);
    (void)snprintf(later.job, sizeof(later.job), "/api/v1/jobs/%s?wait=60", member_text(job, "id"));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_long, &later), 0);
    wait_for_waiters(f, ARRAY_LEN(threads));
    start_again(f);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(clock_mono_usec() - begun < 55 * USEC_PER_SEC);
    json_decref(job);
}

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
        cmocka_unit_test(a_job_is_answered_with_202_and_its_place),
        cmocka_unit_test(a_dry_run_leaves_no_job),
        cmocka_unit_test(a_repeated_key_finds_the_same_job),
        cmocka_unit_test(protecting_needs_disks_that_are_there),
        cmocka_unit_test(a_wait_ends_with_the_job),
        cmocka_unit_test(a_wait_that_is_over_answers_with_the_job_as_it_is),
        cmocka_unit_test(waiting_holds_no_thread),
        cmocka_unit_test(an_event_comes_down_the_stream),
        cmocka_unit_test(a_stream_goes_on_after_the_last_event_that_was_seen),
        cmocka_unit_test(a_stream_opens_with_a_session_and_not_after_it),
        cmocka_unit_test(many_streams_leave_room_for_requests),
        cmocka_unit_test(stopping_answers_those_who_wait),
    };

    return cmocka_run_group_tests_name("hub_api_wait", tests, up_with_rows, api_fixture_down);
}
