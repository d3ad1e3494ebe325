/* SPDX-License-Identifier: Apache-2.0
 *
 * Thousands of random steps: calls begin, send, stop consuming, half-close, are cancelled, run into deadlines; server and channel
 * go away and come back. Whatever happens, each call ends exactly once, nothing comes after its end, and echoed messages come in
 * order and whole. The seed is printed; RPC_CHAOS_SEED repeats a run.
 */
#include "tests/unit/rpc/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define CALLS 40u
#define STEPS 6000u

struct chaos_call {
    struct rpc_call *call;
    bool begun, half;
    uint32_t sent, received;
    size_t owed; /* consumed later */
    unsigned ends;
};

static struct chaos_call calls[CALLS];
static unsigned total_ends, total_begun, total_messages;

static unsigned pick(unsigned n)
{
    return (unsigned)rand() % n;
}

/* Message k of a call: its number, then as many bytes as the number says, all the same. */
static size_t size_of(uint32_t number)
{
    static const size_t sizes[] = {0, 1, 100, 5000, 16384, 70000, 300000};
    return sizes[number * 2654435761u % ARRAY_LEN(sizes)];
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct chaos_call *c = arg;
    uint32_t number;
    assert_ptr_equal(call, c->call);
    assert_true(message->len >= sizeof(number));
    memcpy(&number, message->data, sizeof(number));
    assert_int_equal(number, c->received);
    assert_int_equal(message->len, sizeof(number) + size_of(number));
    for (size_t i = sizeof(number); i < message->len; i += 511)
        assert_int_equal(message->data[i], (uint8_t)number);
    c->received++;
    total_messages++;
    c->owed += message->len;
    if (pick(8) != 0) {
        rpc_call_consume(call, c->owed);
        c->owed = 0;
    }
    if (pick(50) == 0)
        rpc_call_cancel(call);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct chaos_call *c = arg;
    assert_ptr_equal(call, c->call);
    assert_int_equal(++c->ends, 1);
    assert_non_null(text);
    if (status == RPC_OK)
        assert_int_equal(c->received, c->sent);
    memset(c, 0, sizeof(*c));
    total_ends++;
}

static const struct rpc_call_ops ops = {.on_message = on_message, .on_end = on_end};

static void begin(struct fixture *f, struct chaos_call *c)
{
    static const char *const paths[] = {PATH_ECHO, PATH_ECHO, PATH_ECHO, PATH_ECHO, PATH_HANG, "/test.T/Nothing"};
    uint64_t deadline = pick(4) == 0 ? clock_mono_usec() + pick(200) * USEC_PER_MSEC : 0;
    assert_int_equal(
        rpc_call_start(f->channel, paths[pick(ARRAY_LEN(paths))], deadline, pick(2) == 0, &ops, c, &c->call, NULL), 0);
    c->begun = true;
    total_begun++;
}

static void send_one(struct chaos_call *c)
{
    size_t n = size_of(c->sent);
    struct buf head = BUF_INIT(8), body = BUF_INIT(n + 1);
    assert_int_equal(buf_append(&head, &c->sent, sizeof(c->sent), NULL), 0);
    assert_int_equal(buf_reserve(&body, n + 1, NULL), 0);
    memset(body.data, (int)(uint8_t)c->sent, n);
    body.len = n;
    if (rpc_call_send2(c->call, &head, &body, NULL) >= 0)
        c->sent++;
    buf_done(&head);
    buf_done(&body);
}

static void step_call(struct fixture *f, struct chaos_call *c)
{
    if (!c->begun) {
        begin(f, c);
        return;
    }
    switch (pick(12)) {
    case 0:
        rpc_call_cancel(c->call);
        break;
    case 1:
        rpc_call_half_close(c->call);
        c->half = true;
        break;
    case 2:
    case 3:
        rpc_call_consume(c->call, c->owed);
        c->owed = 0;
        break;
    default:
        if (!c->half && rpc_call_queued(c->call) < (4u << 20))
            send_one(c);
        break;
    }
}

static void restart_server(struct fixture *f, bool tls)
{
    struct rpc_channel *channel = f->channel;
    struct tls_context *client_tls = f->client_tls;
    rpc_server_free(f->server);
    tls_context_free(f->server_tls);
    f->server_tls = NULL;
    f->channel = NULL;
    f->client_tls = NULL;
    fixture_serve(f, tls);
    rpc_channel_free(f->channel);
    tls_context_free(f->client_tls);
    f->channel = channel;
    f->client_tls = client_tls;
}

static bool starve; /* now and then an allocation inside the loop fails */

static void turn(struct fixture *f)
{
    if (starve && pick(20) == 0)
        mem_fail_at(1 + pick(30));
    int rc = sd_event_run(f->loop, pick(10) == 0 ? 1000 : 0);
    mem_fail_at(0);
    assert_true(rc >= 0);
}

static void step(struct fixture *f, bool tls)
{
    unsigned what = pick(300);
    if (what == 0 && !tls) {
        restart_server(f, tls); /* the same address, so that the channel finds it again */
    } else if (what == 1) {
        fixture_channel(f, tls ? &f->client_files : NULL, "node", NULL);
    } else if (what == 2) {
        rpc_server_set_serving(f->server, "x", pick(2) == 0);
    } else if (what < 150) {
        step_call(f, &calls[pick(CALLS)]);
    } else {
        turn(f);
    }
}

static void run(struct fixture *f, bool tls)
{
    const char *given = getenv("RPC_CHAOS_SEED");
    unsigned seed = given != NULL ? (unsigned)atol(given) : (unsigned)clock_utc_usec();
    print_message("seed %u\n", seed);
    srand(seed);
    total_ends = total_begun = total_messages = 0;
    f->server_limits = f->client_limits = (struct rpc_limits){
        .message_max = 400000, .stream_window = 500000, .connection_window = 2000000, .streams_max = 20};
    fixture_serve(f, tls);
    for (unsigned i = 0; i < STEPS; i++)
        step(f, tls);
    rpc_channel_free(f->channel);
    f->channel = NULL;
    assert_int_equal(total_ends, total_begun);
    assert_true(total_begun > 50 && total_messages > 50);
    RUN_UNTIL(f, f->ended == f->accepted);
}

static void random_steps_over_tls(void **state)
{
    run(*state, true);
}

static void random_steps_without_memory(void **state)
{
    log_set_level(LOG_ERROR + 1);
    starve = true;
    run(*state, true);
    starve = false;
}

static void random_steps_over_a_unix_socket_with_restarts(void **state)
{
    run(*state, false);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(random_steps_over_tls),
        TEST(random_steps_over_a_unix_socket_with_restarts),
        TEST(random_steps_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
