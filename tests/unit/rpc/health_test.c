/* SPDX-License-Identifier: Apache-2.0
 *
 * grpc.health.v1 on every server: Check and Watch, unknown services, draining, malformed requests.
 */
#include "tests/unit/rpc/fixture.h"

#include <string.h>

#include "transport/base/clock.h"

#define CHECK "/grpc.health.v1.Health/Check"
#define WATCH "/grpc.health.v1.Health/Watch"

static void ask(struct fixture *f, struct probe *p, const char *path, const char *request, size_t n)
{
    struct buf b = BUF_INIT(256);
    probe_start(f, p, path, 10 * USEC_PER_SEC, true);
    assert_int_equal(buf_append(&b, request, n, NULL), 0);
    assert_true(rpc_call_send(p->call, &b, NULL) >= 0);
    rpc_call_half_close(p->call);
}

static void expect_serving(const struct probe *p, int status)
{
    assert_int_equal(p->last.len, 2);
    assert_int_equal(p->last.data[0], 8);
    assert_int_equal(p->last.data[1], status);
}

static void check_tells_the_state(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    ask(f, &p, CHECK, "", 0);
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_OK);
    expect_serving(&p, 1);
    rpc_server_set_serving(f->server, "", false);
    rpc_server_set_serving(f->server, "a.B", true);
    ask(f, &p, CHECK, "", 0);
    RUN_UNTIL(f, p.ends == 1);
    expect_serving(&p, 2);
    ask(f, &p, CHECK,
        "\x0a\x03"
        "a.B",
        5);
    RUN_UNTIL(f, p.ends == 1);
    expect_serving(&p, 1);
    ask(f, &p, CHECK,
        "\x0a\x03"
        "a.C",
        5);
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_NOT_FOUND);
    probe_done(&p);
}

static void watch_tells_each_change(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0}, q = {0};
    fixture_serve(f, true);
    ask(f, &p, WATCH, "", 0);
    ask(f, &q, WATCH, "\x0a\x01x", 3);
    RUN_UNTIL(f, p.messages == 1 && q.messages == 1);
    expect_serving(&p, 1);
    expect_serving(&q, 3); /* unknown: told, not ended */
    rpc_server_set_serving(f->server, "x", true);
    RUN_UNTIL(f, q.messages == 2);
    expect_serving(&q, 1);
    rpc_server_set_serving(f->server, "", true); /* no change: nothing is sent */
    rpc_server_set_serving(f->server, "", false);
    RUN_UNTIL(f, p.messages == 2);
    expect_serving(&p, 2);
    assert_int_equal(p.ends, 0);
    rpc_server_drain(f->server, NULL, NULL);
    RUN_UNTIL(f, p.ends == 1 && q.ends == 1);
    assert_int_equal(q.messages, 3);
    expect_serving(&q, 2);
    assert_int_equal(p.status, RPC_UNAVAILABLE);
    probe_done(&p);
    probe_done(&q);
}

static void malformed_requests_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {{"\x0a", 1}, {"\x0a\x05x", 3}, {"\x0a\xff\xff\xff\xff\xff\xff", 7}, {"\x0b\x01", 2},
        {"\x0a\x02"
         "a\0",
            4},
        {"\x80\x01", 2}};
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ask(f, &p, CHECK, bad[i].bytes, bad[i].n);
        RUN_UNTIL(f, p.ends == 1);
        assert_int_equal(p.status, RPC_INVALID_ARGUMENT);
    }
    probe_start(f, &p, CHECK, 10 * USEC_PER_SEC, true); /* none at all */
    rpc_call_half_close(p.call);
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_INVALID_ARGUMENT);
    ask(f, &p, CHECK, "\x10\x07\x0a\x00", 4); /* an unknown field is skipped */
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_OK);
    probe_done(&p);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(check_tells_the_state),
        TEST(watch_tells_each_change),
        TEST(malformed_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
