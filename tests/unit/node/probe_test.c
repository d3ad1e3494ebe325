/* SPDX-License-Identifier: Apache-2.0
 *
 * The probes, asked over a real socket from a thread, as a kubelet would.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/loop/loop.h"
#include "transport/node/probe.h"

#define REPLY_SIZE 16384

struct scene {
    sd_event *loop;
    struct probe *probe;
    bool ready;
    unsigned metrics_asked;
};

struct question {
    unsigned port;
    const char *request;
    char reply[REPLY_SIZE];
    atomic_bool over;
};

static bool is_ready(void *arg, char reason[PROBE_REASON_SIZE])
{
    struct scene *s = arg;
    (void)snprintf(reason, PROBE_REASON_SIZE, "draining");
    return s->ready;
}

static int write_metrics(void *arg, struct buf *out, struct err *err)
{
    struct scene *s = arg;
    s->metrics_asked++;
    return s->ready ? buf_printf(out, err, "x 1\n") : err_set(err, ERR_NOMEM, "no memory for metrics");
}

static const struct probe_ops ops = {.is_ready = is_ready, .write_metrics = write_metrics};

static void *ask_thread(void *arg)
{
    struct question *q = arg;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)q->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t n = 0;
    ssize_t got = 1;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0 &&
        write(fd, q->request, strlen(q->request)) == (ssize_t)strlen(q->request))
        while (got > 0 && n < sizeof(q->reply) - 1 && (got = read(fd, q->reply + n, sizeof(q->reply) - 1 - n)) > 0)
            n += (size_t)got;
    q->reply[n] = '\0';
    (void)close(fd);
    atomic_store(&q->over, true);
    return NULL;
}

/* The whole reply; good until the next call. */
static const char *ask_raw(struct scene *s, const char *request)
{
    static struct question q;
    pthread_t thread;
    q.port = probe_port(s->probe);
    q.request = request;
    atomic_store(&q.over, false);
    assert_int_equal(pthread_create(&thread, NULL, ask_thread, &q), 0);
    while (!atomic_load(&q.over))
        (void)sd_event_run(s->loop, 20000);
    (void)pthread_join(thread, NULL);
    return q.reply;
}

static const char *ask(struct scene *s, const char *method, const char *path)
{
    static char request[256];
    (void)snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method, path);
    return ask_raw(s, request);
}

static int set_up(void **state)
{
    static struct scene scene;
    struct err err = ERR_INIT;
    scene = (struct scene){.ready = true};
    assert_int_equal(loop_new(NULL, NULL, &scene.loop, &err), 0);
    assert_int_equal(probe_new(scene.loop, "127.0.0.1:0", &ops, &scene, &scene.probe, &err), 0);
    assert_true(probe_port(scene.probe) > 0);
    *state = &scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *s = *state;
    probe_free(s->probe);
    loop_free(s->loop);
    return 0;
}

static void test_alive_and_ready(void **state)
{
    assert_non_null(strstr(ask(*state, "GET", "/healthz"), "HTTP/1.1 200"));
    assert_non_null(strstr(ask(*state, "GET", "/readyz"), "HTTP/1.1 200"));
    assert_non_null(strstr(ask(*state, "HEAD", "/readyz?verbose"), "HTTP/1.1 200"));
}

static void test_not_ready_says_why_and_is_alive(void **state)
{
    struct scene *s = *state;
    const char *reply;
    s->ready = false;
    reply = ask(s, "GET", "/readyz");
    assert_non_null(strstr(reply, "HTTP/1.1 503"));
    assert_non_null(strstr(reply, "draining"));
    assert_non_null(strstr(ask(s, "GET", "/healthz"), "HTTP/1.1 200"));
}

static void test_metrics(void **state)
{
    struct scene *s = *state;
    const char *reply = ask(s, "GET", "/metrics");
    assert_non_null(strstr(reply, "text/plain; version=0.0.4"));
    assert_non_null(strstr(reply, "\r\n\r\nx 1\n"));
    s->ready = false;
    assert_non_null(strstr(ask(s, "GET", "/metrics"), "HTTP/1.1 500"));
    assert_int_equal(s->metrics_asked, 2);
}

static void test_everything_else_is_refused(void **state)
{
    struct scene *s = *state;
    char request[4096];
    assert_non_null(strstr(ask(s, "GET", "/"), "HTTP/1.1 404"));
    assert_non_null(strstr(ask(s, "GET", "/metrics/../healthz"), "HTTP/1.1 404"));
    assert_non_null(strstr(ask(s, "DELETE", "/healthz"), "HTTP/1.1 405"));
    (void)snprintf(request, sizeof(request),
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n"
        "Connection: close\r\n\r\n%03000d",
        0);
    assert_non_null(strstr(ask_raw(s, request), "HTTP/1.1 405"));
    assert_int_equal(s->metrics_asked, 0);
    (void)ask_raw(s, "\x16\x03\x01 this is no HTTP\r\n\r\n");
    assert_non_null(strstr(ask(s, "GET", "/healthz"), "HTTP/1.1 200"));
}

static void test_addresses_that_cannot_be(void **state)
{
    struct scene *s = *state;
    struct probe *other = NULL;
    struct err err = ERR_INIT;
    char taken[40];
    assert_int_equal(probe_new(s->loop, "example.com:80", &ops, s, &other, &err), -1);
    assert_non_null(strstr(err.correction, "numeric"));
    (void)snprintf(taken, sizeof(taken), "127.0.0.1:%u", probe_port(s->probe));
    assert_int_equal(probe_new(s->loop, taken, &ops, s, &other, &err), -1);
    assert_non_null(strstr(err.correction, "--probe-listen"));
    assert_null(other);
}

int main(void)
{
#define PROBE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        PROBE_TEST(test_alive_and_ready),
        PROBE_TEST(test_not_ready_says_why_and_is_alive),
        PROBE_TEST(test_metrics),
        PROBE_TEST(test_everything_else_is_refused),
        PROBE_TEST(test_addresses_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
