/* SPDX-License-Identifier: Apache-2.0
 *
 * Clients that mean harm: bytes that are no HTTP, heads without end, old TLS, connections that say nothing. After each, the
 * hub answers others as before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <poll.h>
#include <unistd.h>

#include <cmocka.h>
#include <curl/curl.h>

#include "hub/api/client_watch.h"
#include "hub/api/handler_pool.h"
#include "hub/api/tls_identity.h"
#include "tests/unit/hub/api/api_fixture.h"
#include "transport/base/clock.h"

static void still_serves(struct api_fixture *f)
{
    json_decref(api_ask(f, "getLiveness", "/healthz", NULL, 200));
    json_decref(api_ask(f, "getStatus", "/api/v1/status", NULL, 200));
}

static int connect_plain(struct api_fixture *f)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)api_port(f->api))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void one_that_speaks_no_tls_is_shown_the_door(void **state)
{
    static const char hello[] = "GET / HTTP/1.1\r\nHost: hub\r\n\r\n";
    struct api_fixture *f = *state;
    char answer[256];
    int fd = connect_plain(f);
    struct pollfd p = {.fd = fd, .events = POLLIN};

    assert_int_equal(send(fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL), (ssize_t)sizeof(hello) - 1);
    while (poll(&p, 1, 10000) == 1 && recv(fd, answer, sizeof(answer), 0) > 0)
        ;
    (void)close(fd);
    still_serves(f);
}

static void old_tls_is_refused(void **state)
{
    struct api_fixture *f = *state;
    CURL *curl = curl_easy_init();
    char url[128];

    (void)snprintf(url, sizeof(url), "%s/healthz", f->url);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CAINFO, f->cert);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)(CURL_SSLVERSION_TLSv1_1 | CURL_SSLVERSION_MAX_TLSv1_1));
    curl_easy_setopt(curl, CURLOPT_SSL_CIPHER_LIST, "ALL:@SECLEVEL=0");
    assert_int_equal(curl_easy_perform(curl), CURLE_SSL_CONNECT_ERROR);
    curl_easy_cleanup(curl);
    still_serves(f);
}

/* Sends raw bytes over TLS and reads until the server closes or is silent for two seconds; returns the status or 0. */
static int send_raw(struct api_fixture *f, const char *bytes, size_t n)
{
    CURL *curl = curl_easy_init();
    char answer[8192] = "";
    size_t sent = 0, got, have = 0;
    curl_socket_t fd = CURL_SOCKET_BAD;
    int status = 0;

    curl_easy_setopt(curl, CURLOPT_URL, f->url);
    curl_easy_setopt(curl, CURLOPT_CAINFO, f->cert);
    curl_easy_setopt(curl, CURLOPT_CONNECT_ONLY, 1L);
    assert_int_equal(curl_easy_perform(curl), CURLE_OK);
    curl_easy_getinfo(curl, CURLINFO_ACTIVESOCKET, &fd);
    for (int tries = 0; sent < n && tries < 200; tries++) {
        CURLcode rc = curl_easy_send(curl, bytes + sent, n - sent, &got);

        if (rc == CURLE_OK)
            sent += got;
        else if (rc != CURLE_AGAIN)
            break;
        else
            (void)poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 100);
    }
    for (int tries = 0; tries < 20 && have < sizeof(answer) - 1; tries++) {
        CURLcode rc = curl_easy_recv(curl, answer + have, sizeof(answer) - 1 - have, &got);

        if (rc == CURLE_OK && got > 0) {
            have += got;
            break;
        }
        if (rc != CURLE_AGAIN)
            break;
        (void)poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 100);
    }
    answer[have] = 0;
    (void)sscanf(answer, "HTTP/1.%*d %d", &status);
    curl_easy_cleanup(curl);
    return status;
}

static void bytes_that_are_no_http_hurt_nobody(void **state)
{
    static const char *const heads[] = {
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET /healthz\r\n\r\n",
        "GET /healthz HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff\r\n\r\n",
        "POST /api/v1/sites HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n{}",
        "POST /api/v1/sites HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
        "POST /api/v1/sites HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}",
        "POST /api/v1/sites HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n{}\r\n",
        "POST /api/v1/sites HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        "GET /api/v1/machines?%zz=%00&a%00b=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /api/v1/machines/%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /api/v1/machines/%ff%fe HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /api/v1/version HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\x01\x02\r\n\r\n",
        "VERYLONGMETHODNAME /api/v1/version HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    };
    struct api_fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        int status = send_raw(f, heads[i], strlen(heads[i]));

        if (status >= 500 && status != 505)
            fail_msg("%s is answered with %d", heads[i], status);
    }
    still_serves(f);
}

/* Every operation, every parameter place, texts that break out of something somewhere. */
static void texts_that_break_out_elsewhere_stay_texts(void **state)
{
    static const char *const texts[] = {"%27%20OR%201%3D1--", "%22%3E%3Cscript%3E", "..%2f..%2fetc%2fpasswd",
        "%24%7Bjndi%3Aldap%3A%2F%2Fx%7D", "%0d%0aSet-Cookie%3A%20a%3Db", "a%5Cb", "%E2%80%AE", "NaN", "-1",
        "9223372036854775808"};
    static const char *const operations[][2] = {{"getMachine", "/api/v1/machines/%s"},
        {"getPolicy", "/api/v1/policies/%s"}, {"getJob", "/api/v1/jobs/%s"}, {"getExport", "/api/v1/exports/%s"},
        {"listMachines", "/api/v1/machines?name=%s"}, {"listMachines", "/api/v1/machines?sort=%s"},
        {"listMachines", "/api/v1/machines?cursor=%s"}, {"listMachines", "/api/v1/machines?limit=%s"},
        {"listEvents", "/api/v1/events?after=%s"}, {"listJobs", "/api/v1/jobs?status=%s"},
        {"getPoint", "/api/v1/machines/a/points/%s"}};
    struct api_fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(operations); i++)
        for (size_t k = 0; k < ARRAY_LEN(texts); k++) {
            char path[256];
            size_t n = strcspn(operations[i][1], "%");
            struct exchange x = {.path = path, .token = f->admin, .method = "GET"};
            AUTO_HEARD struct heard heard = {0};

            (void)snprintf(path, sizeof(path), "%.*s%s", (int)n, operations[i][1], texts[k]);
            api_exchange(f, &x, 0, &heard);
            if (heard.status != 400 && heard.status != 404 && heard.status != 200)
                fail_msg("%s is answered with %ld: %s", path, heard.status, heard.text);
            assert_true(strlen(heard_header(&heard, "Set-Cookie")) == 0);
        }
    still_serves(f);
}

static void a_head_without_end_is_cut(void **state)
{
    struct api_fixture *f = *state;
    size_t n = 4 << 20;
    char *bytes = malloc(n + 1);
    int status;

    memset(bytes, 'a', n);
    memcpy(bytes, "GET /healthz HTTP/1.1\r\nX: ", 26);
    bytes[n] = 0;
    status = send_raw(f, bytes, n);
    assert_true(status == 0 || status == 431 || status == 413 || status == 414);
    free(bytes);
    still_serves(f);
}

/* The server learns only by and by that all those connections were closed. */
static void serves_again(struct api_fixture *f)
{
    uint64_t until = clock_mono_usec() + 60 * USEC_PER_SEC;
    CURLcode rc;

    do {
        CURL *curl = curl_easy_init();
        char url[128];

        (void)snprintf(url, sizeof(url), "%s/healthz", f->url);
        curl_easy_setopt(curl, CURLOPT_URL, url);
        curl_easy_setopt(curl, CURLOPT_CAINFO, f->cert);
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, 10L);
        rc = curl_easy_perform(curl);
        curl_easy_cleanup(curl);
    } while (rc != CURLE_OK && clock_mono_usec() < until);
    still_serves(f);
}

/* More connections from one address than it may have: the rest is turned away, and those that go make room. */
static void connections_of_one_address_are_bounded(void **state)
{
    struct api_fixture *f = *state;
    int fds[600];
    size_t refused = 0;
    uint64_t until;

    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fds[i] = connect_plain(f);
    until = clock_mono_usec() + 30 * USEC_PER_SEC;
    while (refused == 0 && clock_mono_usec() < until)
        for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
            struct pollfd p = {.fd = fds[i], .events = POLLIN};
            char byte;

            refused += poll(&p, 1, 1) == 1 && recv(fds[i], &byte, 1, MSG_DONTWAIT) <= 0;
        }
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        (void)close(fds[i]);
    assert_true(refused > 0);
    serves_again(f);
}

/* The serial number of the certificate that the server shows now. */
static void shown_serial(struct api_fixture *f, char out[64])
{
    CURL *curl = curl_easy_init();
    struct curl_certinfo *info = NULL;
    char url[128];

    out[0] = 0;
    (void)snprintf(url, sizeof(url), "%s/healthz", f->url);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_CERTINFO, 1L);
    curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    assert_int_equal(curl_easy_perform(curl), CURLE_OK);
    curl_easy_getinfo(curl, CURLINFO_CERTINFO, &info);
    for (struct curl_slist *line = info->certinfo[0]; line; line = line->next)
        if (strncmp(line->data, "Serial Number:", 14) == 0)
            (void)snprintf(out, 64, "%s", line->data + 14);
    curl_easy_cleanup(curl);
}

static void make_certificate(const char *cert, const char *key, const char *folder)
{
    char command[512];

    (void)snprintf(command, sizeof(command),
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
        "-addext subjectAltName=IP:127.0.0.1 -keyout %s -out %s >%s/openssl.log 2>&1",
        key, cert, folder);
    assert_int_equal(system(command), 0);
}

/* A certificate that is renewed is shown to new connections; one that is half written is not. */
static void a_renewed_certificate_is_used_without_a_restart(void **state)
{
    struct api_fixture *f = *state;
    const struct postgres_fixture *pg = f->postgres;
    char before[64], between[64], after[64], other[128];
    struct err err = ERR_INIT;

    shown_serial(f, before);
    (void)snprintf(other, sizeof(other), "%s/other.key", pg->folder);
    make_certificate(f->cert, other, pg->folder); /* half done: the key is still the old one */
    assert_int_equal(tls_identity_refresh(&err), -1);
    assert_true(strstr(err.text, "do not belong together") != NULL);
    shown_serial(f, between);
    assert_string_equal(before, between);
    assert_int_equal(rename(other, f->key), 0);
    assert_int_equal(tls_identity_refresh(&err), 1);
    assert_int_equal(tls_identity_refresh(&err), 0);
    shown_serial(f, after);
    assert_string_not_equal(before, after);
    still_serves(f);
}

/* ---- parts by themselves ---- */

static void a_client_that_is_late_is_shut_down_and_others_are_not(void **state)
{
    struct client_watch *watch;
    struct client *late, *patient;
    struct err err = ERR_INIT;
    struct pollfd p = {.events = POLLIN};
    int a[2], b[2];
    char byte;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
    assert_int_equal(client_watch_start(&watch, &err), 0);
    late = client_enter(watch, a[0]);
    patient = client_enter(watch, b[0]);
    client_allow(watch, late, 1);
    client_allow(watch, patient, 0);
    p.fd = a[1];
    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_int_equal(recv(a[1], &byte, 1, 0), 0);
    assert_int_equal(recv(b[1], &byte, 1, MSG_DONTWAIT), -1);
    client_leave(watch, late);
    client_leave(watch, patient);
    client_watch_stop(watch);
    for (int i = 0; i < 2; i++) {
        (void)close(a[i]);
        (void)close(b[i]);
    }
}

struct counted {
    struct handler_item item;
    struct handler_pool **pool;
    int runs, runs_wanted;
    int refused; /* asked to wait when the pool was stopping: the item answers at once instead of running again */
};

static void run_counted(struct handler_item *item)
{
    struct counted *c = (struct counted *)item;

    if (__atomic_add_fetch(&c->runs, 1, __ATOMIC_SEQ_CST) < c->runs_wanted) {
        if (handler_pool_wait(*c->pool, item, clock_mono_usec() + 60 * USEC_PER_SEC) < 0)
            __atomic_add_fetch(&c->refused, 1, __ATOMIC_SEQ_CST);
    }
}

static void what_waits_runs_again_at_news_and_at_the_end(void **state)
{
    static struct handler_pool *pool;
    struct counted c = {.pool = &pool, .runs_wanted = 3};
    uint64_t until = clock_mono_usec() + 60 * USEC_PER_SEC;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(handler_pool_start(2, 4, run_counted, &pool, &err), 0);
    assert_int_equal(handler_pool_submit(pool, &c.item), 0);
    while (__atomic_load_n(&c.runs, __ATOMIC_SEQ_CST) < 2 && clock_mono_usec() < until)
        handler_pool_news(pool);
    handler_pool_stop(pool);
    assert_int_equal(c.runs + c.refused, 3);
    assert_int_equal(handler_pool_submit(pool, &c.item), -1);
    handler_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_speaks_no_tls_is_shown_the_door),
        cmocka_unit_test(old_tls_is_refused),
        cmocka_unit_test(bytes_that_are_no_http_hurt_nobody),
        cmocka_unit_test(texts_that_break_out_elsewhere_stay_texts),
        cmocka_unit_test(a_head_without_end_is_cut),
        cmocka_unit_test(connections_of_one_address_are_bounded),
        cmocka_unit_test(a_renewed_certificate_is_used_without_a_restart),
        cmocka_unit_test(a_client_that_is_late_is_shut_down_and_others_are_not),
        cmocka_unit_test(what_waits_runs_again_at_news_and_at_the_end),
    };

    return cmocka_run_group_tests_name("hub_api_hostile", tests, api_fixture_up, api_fixture_down);
}
