/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls between our own client and server: messages, statuses, deadlines, cancellation, flow control, limits.
 */
#include "tests/unit/rpc/fixture.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

static void echo_over_tls(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    assert_int_equal(p.messages, 1);
    assert_memory_equal(p.last.data, "hello", 5);
    assert_string_equal(f->last_peer.role, "agent");
    assert_true(ident_equal(&f->last_peer.id, &f->client_files.id));
    assert_string_equal(f->last_peer.serial, f->client_files.serial);
    RUN_UNTIL(f, f->ended == 1);
    assert_int_equal(f->last_end, RPC_OK);
    probe_done(&p);
}

static void echo_over_a_unix_socket(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, false);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    assert_int_equal(p.messages, 1);
    assert_false(f->last_peer.authenticated);
    probe_done(&p);
}

struct beginner {
    unsigned begun, answers, ends;
};

static void beginner_begin(struct rpc_call *call, void *arg)
{
    struct buf b = BUF_INIT(16);
    ((struct beginner *)arg)->begun++;
    assert_int_equal(buf_append_str(&b, "now", NULL), 0);
    assert_true(rpc_call_send(call, &b, NULL) >= 0);
    rpc_call_half_close(call);
}

static void beginner_message(struct rpc_call *call, void *arg, struct buf *message)
{
    (void)call;
    assert_int_equal(message->len, 3);
    ((struct beginner *)arg)->answers++;
}

static void beginner_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    (void)call;
    (void)status;
    (void)text;
    ((struct beginner *)arg)->ends++;
}

static const struct rpc_call_ops beginner_ops = {
    .on_begin = beginner_begin, .on_message = beginner_message, .on_end = beginner_end, .auto_consume = true};

static void begin_comes_once_and_with_a_connection(void **state)
{
    struct fixture *f = *state;
    struct beginner first = {0}, second = {0}, never = {0};
    struct rpc_call *call;
    fixture_serve(f, true);
    assert_int_equal(rpc_call_start(f->channel, PATH_ECHO, 0, false, &beginner_ops, &first, &call, NULL), 0);
    assert_int_equal(first.begun, 0); /* not even connecting has begun */
    RUN_UNTIL(f, first.ends == 1);
    assert_int_equal(first.begun, 1);
    assert_int_equal(first.answers, 1);
    assert_int_equal(rpc_call_start(f->channel, PATH_ECHO, 0, false, &beginner_ops, &second, &call, NULL), 0);
    assert_int_equal(second.begun, 0); /* nor inside the call that starts it */
    RUN_UNTIL(f, second.ends == 1);
    assert_int_equal(second.begun, 1);
    assert_int_equal(second.answers, 1);
    rpc_server_free(TAKE_PTR(f->server));
    settle(f);
    assert_int_equal(rpc_call_start(f->channel, PATH_ECHO, 0, true, &beginner_ops, &never, &call, NULL), 0);
    RUN_UNTIL(f, never.ends == 1);
    assert_int_equal(never.begun, 0);
}

static struct {
    unsigned calls;
    enum rpc_status status;
    char text[512];
    size_t bytes;
} unary;

static void unary_done(void *arg, enum rpc_status status, const char *text, struct buf *reply)
{
    (void)arg;
    unary.calls++;
    unary.status = status;
    unary.bytes = reply->len;
    snprintf(unary.text, sizeof(unary.text), "%s", text);
}

static void unary_ask(struct fixture *f, const char *path)
{
    struct buf b = BUF_INIT(64);
    memset(&unary, 0, sizeof(unary));
    assert_int_equal(buf_append_str(&b, "question", NULL), 0);
    assert_int_equal(rpc_unary(f->channel, path, clock_mono_usec() + 10 * USEC_PER_SEC, &b, unary_done, NULL, NULL), 0);
    buf_done(&b);
    RUN_UNTIL(f, unary.calls == 1);
}

static void unary_gives_the_reply_once(void **state)
{
    struct fixture *f = *state;
    fixture_serve(f, true);
    unary_ask(f, PATH_ECHO);
    assert_int_equal(unary.status, RPC_OK);
    assert_int_equal(unary.bytes, 8);
}

static void unary_refuses_two_replies(void **state)
{
    struct fixture *f = *state;
    f->flood_count = 2;
    f->flood_bytes = 10;
    fixture_serve(f, true);
    unary_ask(f, PATH_FLOOD);
    assert_int_equal(unary.status, RPC_INTERNAL);
    assert_int_equal(unary.bytes, 0);
}

static void many_messages_keep_their_order_and_size(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    const size_t sizes[] = {0, 1, 4, 5, 100, 4095, 4096, 16379, 16384, 65536, 262144, 1048576, 4194304};
    size_t total = 0;
    fixture_serve(f, true);
    probe_start(f, &p, PATH_ECHO, 0, false);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        probe_send_bytes(&p, sizes[i], (uint8_t)(i + 1));
        total += sizes[i];
        RUN_UNTIL(f, p.messages == i + 1);
        assert_int_equal(p.last.len, sizes[i]);
        for (size_t b = 0; b < sizes[i]; b += 997)
            assert_int_equal(p.last.data[b], i + 1);
    }
    assert_int_equal(p.bytes, total);
    rpc_call_half_close(p.call);
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_OK);
    probe_done(&p);
}

static void head_and_body_arrive_as_one_message(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    struct buf head = BUF_INIT(16), body = BUF_INIT(100000);
    fixture_serve(f, true);
    probe_start(f, &p, PATH_ECHO, 0, false);
    assert_int_equal(buf_append_str(&head, "head:", NULL), 0);
    assert_int_equal(buf_reserve(&body, 70000, NULL), 0);
    memset(body.data, 'b', 70000);
    body.len = 70000;
    assert_int_equal(rpc_call_send2(p.call, &head, &body, NULL), 1);
    assert_null(head.data);
    assert_null(body.data);
    RUN_UNTIL(f, p.messages == 1);
    assert_int_equal(p.last.len, 70005);
    assert_memory_equal(p.last.data, "head:bb", 7);
    rpc_call_cancel(p.call);
    RUN_UNTIL(f, p.ends == 1);
    probe_done(&p);
}

static void unknown_path_is_unimplemented(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    assert_int_equal(probe_echo(f, "/test.T/Nothing", &p), RPC_UNIMPLEMENTED);
    assert_int_equal(f->accepted, 0);
    probe_done(&p);
}

static void refusal_carries_its_correction(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    assert_int_equal(probe_echo(f, PATH_FAIL, &p), err_grpc_status(ERR_REFUSED));
    assert_string_equal(p.text, "stale generation 3; open again with generation 4");
    probe_done(&p);
}

static void early_status_reaches_a_client_that_still_sends(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    probe_start(f, &p, PATH_EARLY, 0, false);
    for (unsigned i = 0; i < 20; i++)
        probe_send_bytes(&p, 1 << 20, 1);
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_NOT_FOUND);
    assert_string_equal(p.text, "100% nicht gef\xc3\xbcndig?"); /* control characters are not let through */
    RUN_UNTIL(f, f->ended == 1);
    assert_int_equal(f->last_end, RPC_OK);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK); /* the windows were given back */
    probe_done(&p);
}

static void deadline_ends_both_sides(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK); /* no hand-shake any more that could take as long */
    uint64_t begun = clock_mono_usec();
    probe_start(f, &p, PATH_HANG, 600 * USEC_PER_MSEC, false);
    probe_send(&p, "x");
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_DEADLINE_EXCEEDED);
    assert_true(clock_mono_usec() - begun >= 550 * USEC_PER_MSEC);
    RUN_UNTIL(f, f->ended == 2);
    assert_true(f->last_end == RPC_DEADLINE_EXCEEDED || f->last_end == RPC_CANCELLED);
    /* The server's begins when the request comes to it, which is before the client's is over. */
    assert_true(f->last_deadline > begun && f->last_deadline < clock_mono_usec() + USEC_PER_SEC);
    probe_done(&p);
}

static void deadline_ends_a_call_that_never_connected(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    snprintf(f->address, sizeof(f->address), "127.0.0.1:1");
    fixture_channel(f, &f->client_files, "node", NULL);
    probe_start(f, &p, PATH_ECHO, 300 * USEC_PER_MSEC, false);
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_DEADLINE_EXCEEDED);
}

static void cancel_reaches_the_server(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    probe_start(f, &p, PATH_HANG, 0, false);
    probe_send(&p, "x");
    RUN_UNTIL(f, f->accepted == 1);
    rpc_call_cancel(p.call);
    assert_int_equal(p.ends, 0); /* on_end comes later, never from inside */
    RUN_UNTIL(f, p.ends == 1 && f->ended == 1);
    assert_int_equal(p.status, RPC_CANCELLED);
    assert_int_equal(f->last_end, RPC_CANCELLED);
}

static void cancel_before_the_connection_is_up(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    probe_start(f, &p, PATH_ECHO, 0, false);
    rpc_call_cancel(p.call);
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_CANCELLED);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    assert_int_equal(f->accepted, 1);
    probe_done(&p);
}

static void nobody_there_fails_fast_with_a_correction(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    snprintf(f->address, sizeof(f->address), "127.0.0.1:1");
    fixture_channel(f, &f->client_files, "node", NULL);
    probe_start(f, &p, PATH_ECHO, 0, true);
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_UNAVAILABLE);
    assert_non_null(strstr(p.text, "127.0.0.1:1"));
    assert_non_null(strstr(p.text, "check that the address is right"));
    probe_start(f, &p, PATH_ECHO, 0, true); /* in the back-off: at once, without waiting for anything */
    for (int turn = 0; turn < 5 && p.ends == 0; turn++)
        assert_true(sd_event_run(f->loop, 0) >= 0);
    assert_int_equal(p.ends, 1);
    assert_int_equal(p.status, RPC_UNAVAILABLE);
}

static int count_and_close(sd_event_source *source, int fd, uint32_t events, void *arg)
{
    (void)source;
    (void)events;
    close(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
    ++*(unsigned *)arg;
    return 0;
}

/* Doubling from 100 ms on, the twentieth attempt would come years later. */
static void pauses_between_attempts_stay_below_their_limit(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    unsigned attempts = 0;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sd_event_source *source = NULL;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &length), 0);
    assert_true(sd_event_add_io(f->loop, &source, fd, EPOLLIN, count_and_close, &attempts) >= 0);
    snprintf(f->address, sizeof(f->address), "127.0.0.1:%u", ntohs(at.sin_port));
    f->client_limits.backoff_max_usec = 10 * USEC_PER_MSEC;
    fixture_channel(f, &f->client_files, "node", NULL);
    probe_start(f, &p, PATH_ECHO, 0, false);
    RUN_UNTIL(f, attempts >= 20);
    assert_int_equal(p.ends, 0);
    rpc_call_cancel(p.call);
    RUN_UNTIL(f, p.ends == 1);
    sd_event_source_disable_unref(source);
    close(fd);
}

static void a_name_is_looked_up(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    snprintf(f->address, sizeof(f->address), "localhost:%u", rpc_server_port(f->server));
    fixture_channel(f, &f->client_files, "node", NULL);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    probe_done(&p);
    snprintf(f->address, sizeof(f->address), "no-such-host.invalid:1");
    fixture_channel(f, &f->client_files, "node", NULL);
    probe_start(f, &p, PATH_ECHO, 0, true);
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_UNAVAILABLE);
    assert_non_null(strstr(p.text, "no-such-host.invalid"));
}

static void freeing_a_channel_during_a_look_up(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    snprintf(f->address, sizeof(f->address), "no-such-host.invalid:1");
    fixture_channel(f, &f->client_files, "node", NULL);
    probe_start(f, &p, PATH_ECHO, 0, false);
    rpc_channel_free(f->channel);
    f->channel = NULL;
    assert_int_equal(p.ends, 1);
    assert_int_equal(p.status, RPC_CANCELLED);
}

static void freeing_the_channel_cancels_its_calls(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    probe_start(f, &p, PATH_HANG, 0, false);
    RUN_UNTIL(f, f->accepted == 1);
    rpc_channel_free(f->channel);
    f->channel = NULL;
    assert_int_equal(p.ends, 1);
    assert_int_equal(p.status, RPC_CANCELLED);
    RUN_UNTIL(f, f->ended == 1);
    assert_int_not_equal(f->last_end, RPC_OK);
}

static void freeing_the_server_ends_everything(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    probe_start(f, &p, PATH_HANG, 0, false);
    RUN_UNTIL(f, f->accepted == 1);
    rpc_server_free(f->server);
    f->server = NULL;
    assert_int_equal(f->ended, 1);
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_UNAVAILABLE);
}

static struct fixture *freed_fixture;
static void free_in_message(struct rpc_call *call, void *arg, struct buf *message)
{
    (void)call;
    (void)message;
    ((struct probe *)arg)->messages++;
    rpc_channel_free(freed_fixture->channel);
    freed_fixture->channel = NULL;
}
static void free_in_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    (void)call;
    (void)text;
    ((struct probe *)arg)->ends++;
    ((struct probe *)arg)->status = status;
}

static void a_channel_may_be_freed_inside_a_callback(void **state)
{
    static const struct rpc_call_ops ops = {.on_message = free_in_message, .on_end = free_in_end};
    struct fixture *f = freed_fixture = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    assert_int_equal(rpc_call_start(f->channel, PATH_ECHO, 0, false, &ops, &p, &p.call, NULL), 0);
    probe_send(&p, "one");
    probe_send(&p, "two");
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.messages, 1);
    assert_int_equal(p.status, RPC_CANCELLED);
    RUN_UNTIL(f, f->ended == 1);
}

static void a_lost_connection_ends_calls_and_comes_back(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0}, q = {0};
    fixture_serve(f, false);
    probe_start(f, &p, PATH_HANG, 0, false);
    RUN_UNTIL(f, f->accepted == 1);
    rpc_server_free(f->server);
    f->server = NULL;
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_UNAVAILABLE);
    probe_start(f, &q, PATH_ECHO, 0, false); /* waits for the server to come back */
    settle(f);
    assert_int_equal(q.ends, 0);
    struct rpc_channel *channel = f->channel;
    f->channel = NULL;
    fixture_serve(f, false);
    rpc_channel_free(f->channel);
    f->channel = channel;
    probe_send(&q, "again");
    rpc_call_half_close(q.call);
    RUN_UNTIL(f, q.ends == 1);
    assert_int_equal(q.status, RPC_OK);
    assert_int_equal(q.messages, 1);
    probe_done(&q);
}

static void a_receiver_that_is_behind_stops_the_sender(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    f->server_limits = (struct rpc_limits){.message_max = 100000, .stream_window = 300000, .connection_window = 600000};
    f->client_limits = (struct rpc_limits){.send_queue_max = 200000};
    fixture_serve(f, true);
    probe_start(f, &p, PATH_STALL, 0, false);
    for (unsigned i = 0; i < 20; i++)
        probe_send_bytes(&p, 100000, 1);
    RUN_UNTIL(f, f->stalled_messages == 2);
    settle(f);
    assert_int_equal(f->stalled_messages, 2); /* the third does not fit with its prefix */
    assert_true(rpc_call_queued(p.call) > 1600000);
    assert_int_equal(p.writables, 0);
    while (f->stalled_messages < 20) {
        unsigned before = (unsigned)f->stalled_messages;
        fixture_release(f);
        RUN_UNTIL(f, f->stalled_messages > before);
    }
    RUN_UNTIL(f, p.writables == 1);
    assert_int_equal(rpc_call_queued(p.call), 0);
    rpc_call_cancel(p.call);
    RUN_UNTIL(f, p.ends == 1);
}

static void a_window_and_a_queue_can_be_made_smaller_for_what_comes(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    f->server_limits = (struct rpc_limits){.message_max = 100000};
    fixture_serve(f, true);
    rpc_server_set_stream_window(f->server, 300000);
    rpc_channel_set_send_queue(f->channel, 150000);
    probe_start(f, &p, PATH_STALL, 0, false);
    probe_send_bytes(&p, 100000, 1);
    struct buf b = BUF_INIT(100000);
    assert_int_equal(buf_reserve(&b, 100000, NULL), 0);
    memset(b.data, 1, 100000);
    b.len = 100000;
    assert_int_equal(rpc_call_send(p.call, &b, NULL), 0); /* over the queue's mark already */
    for (unsigned i = 0; i < 18; i++)
        probe_send_bytes(&p, 100000, 1);
    RUN_UNTIL(f, f->stalled_messages == 2);
    settle(f);
    assert_int_equal(f->stalled_messages, 2);
    rpc_call_cancel(p.call);
    RUN_UNTIL(f, p.ends == 1);
}

/* Consumes one of the messages of 100,000 bytes that Stall holds. */
static void release_one(struct fixture *f, unsigned *released)
{
    RUN_UNTIL(f, f->stalled_messages > *released);
    rpc_call_consume(f->stalled, 100000);
    (*released)++;
    settle(f);
}

/* What a stream may have sent is what its window is now, whatever it was when the stream began; nothing of it is lost on the way. */
static void the_window_of_an_open_stream_follows(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    unsigned released = 0;
    f->server_limits = (struct rpc_limits){.message_max = 100000, .stream_window = 1000000};
    fixture_serve(f, true);
    probe_start(f, &p, PATH_STALL, 0, false);
    for (unsigned i = 0; i < 60; i++)
        probe_send_bytes(&p, 100000, 1);
    RUN_UNTIL(f, f->stalled_messages == 9); /* and a part of the tenth, for each has a prefix */
    rpc_server_set_stream_window(f->server, 300000);
    while (released < 7)
        release_one(f, &released);
    while (released < 20) {
        assert_in_range(f->stalled_messages - released, 1, 3);
        release_one(f, &released);
    }
    rpc_server_set_stream_window(f->server, 2000000);
    RUN_UNTIL(f, f->stalled_messages >= released + 19);
    settle(f);
    assert_in_range(f->stalled_messages - released, 19, 20);
    rpc_server_set_stream_window(f->server, 300000);
    while (released < 60)
        release_one(f, &released);
    rpc_call_cancel(p.call);
    RUN_UNTIL(f, p.ends == 1);
}

static void the_mark_of_a_queue_follows(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0}, waits = {0};
    struct buf b;
    f->server_limits = (struct rpc_limits){.message_max = 100000, .stream_window = 100000};
    f->client_limits = (struct rpc_limits){.send_queue_max = 100000000};
    fixture_serve(f, true);
    probe_start(f, &p, PATH_STALL, 0, false);
    for (unsigned i = 0; i < 5; i++)
        probe_send_bytes(&p, 100000, 1);
    RUN_UNTIL(f, f->stalled_messages == 1);
    probe_start(f, &waits, PATH_HANG, 0, false);
    rpc_channel_set_send_queue(f->channel, 150000);
    for (unsigned i = 0; i < 2; i++) {
        b = BUF_INIT(160000);
        assert_int_equal(buf_reserve(&b, 160000, NULL), 0);
        memset(b.data, 1, 160000);
        b.len = 160000;
        assert_int_equal(rpc_call_send(i == 0 ? p.call : waits.call, &b, NULL), 0);
    }
    rpc_call_cancel(p.call);
    rpc_call_cancel(waits.call);
    RUN_UNTIL(f, p.ends == 1 && waits.ends == 1);
}

static void a_stalled_call_does_not_stop_others(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0}, q = {0};
    f->server_limits = (struct rpc_limits){.message_max = 100000, .stream_window = 300000, .connection_window = 600000};
    fixture_serve(f, true);
    probe_start(f, &p, PATH_STALL, 0, false);
    for (unsigned i = 0; i < 10; i++)
        probe_send_bytes(&p, 100000, 1);
    RUN_UNTIL(f, f->stalled_messages == 2);
    assert_int_equal(probe_echo(f, PATH_ECHO, &q), RPC_OK);
    rpc_call_cancel(p.call); /* gives back what it held of the connection's window */
    RUN_UNTIL(f, p.ends == 1 && f->ended == 2);
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(probe_echo(f, PATH_ECHO, &q), RPC_OK);
    probe_done(&q);
}

/* Each receives a part of its message; together the parts are larger than the connection's window. */
static void messages_that_come_side_by_side_are_all_completed(void **state)
{
    struct fixture *f = *state;
    static struct probe p[40];
    f->server_limits =
        (struct rpc_limits){.message_max = 1u << 20, .stream_window = 1u << 20, .connection_window = 1u << 20};
    f->client_limits = f->server_limits;
    fixture_serve(f, true);
    memset(p, 0, sizeof(p));
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        probe_start(f, &p[i], PATH_ECHO, 0, false);
        probe_send_bytes(&p[i], 1u << 20, (uint8_t)i);
    }
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        RUN_UNTIL(f, p[i].messages == 1);
        assert_int_equal(p[i].last.len, 1u << 20);
        rpc_call_half_close(p[i].call);
        RUN_UNTIL(f, p[i].ends == 1);
        assert_int_equal(p[i].status, RPC_OK);
        probe_done(&p[i]);
    }
}

/* What is complete and not consumed is bounded for all calls of a connection together, not only for each. */
static void receivers_that_are_behind_stop_a_connection(void **state)
{
    struct fixture *f = *state;
    static struct probe p[40];
    size_t queued = 0;
    f->server_limits = (struct rpc_limits){.message_max = 100000, .stream_window = 300000, .connection_window = 600000};
    fixture_serve(f, true);
    memset(p, 0, sizeof(p));
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        probe_start(f, &p[i], PATH_STALL, 0, false);
        probe_send_bytes(&p[i], 100000, 1);
    }
    RUN_UNTIL(f, f->stalled_messages >= 7);
    settle(f);
    assert_true(f->stalled_messages <= 14); /* a window of complete ones, and a window that was open already */
    for (size_t i = 0; i < ARRAY_LEN(p); i++)
        queued += rpc_call_queued(p[i].call);
    assert_true(queued > 20 * 100000u);
    for (size_t i = 0; i < ARRAY_LEN(p); i++)
        rpc_call_cancel(p[i].call); /* gives back what they held */
    RUN_UNTIL(f, f->ended == f->accepted);
    struct probe q = {0};
    assert_int_equal(probe_echo(f, PATH_ECHO, &q), RPC_OK);
    probe_done(&q);
}

static void the_client_can_be_behind_too(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    f->flood_count = 30;
    f->flood_bytes = 100000;
    f->client_limits = (struct rpc_limits){.message_max = 100000, .stream_window = 250000, .connection_window = 250000};
    fixture_serve(f, true);
    probe_start(f, &p, PATH_FLOOD, 0, false);
    p.hold = true;
    probe_send(&p, "go");
    rpc_call_half_close(p.call);
    RUN_UNTIL(f, p.messages == 2);
    settle(f);
    assert_int_equal(p.messages, 2);
    p.hold = false;
    rpc_call_consume(p.call, 200000);
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.messages, 30);
    assert_int_equal(p.status, RPC_OK);
    probe_done(&p);
}

static void an_oversized_message_is_refused_before_it_is_stored(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    f->server_limits.message_max = 1000;
    fixture_serve(f, true);
    probe_start(f, &p, PATH_ECHO, 0, false);
    probe_send_bytes(&p, 1001, 1);
    RUN_UNTIL(f, p.ends == 1);
    assert_int_equal(p.status, RPC_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(p.text, "1001 bytes is over the limit of 1000"));
    RUN_UNTIL(f, f->ended == 1);
    assert_int_equal(f->last_end, RPC_RESOURCE_EXHAUSTED);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK); /* the connection lives */
    probe_done(&p);
}

static void an_oversized_reply_ends_the_call_alone(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    f->flood_count = 1;
    f->flood_bytes = 5000;
    f->client_limits.message_max = 1000;
    fixture_serve(f, true);
    assert_int_equal(probe_echo(f, PATH_FLOOD, &p), RPC_RESOURCE_EXHAUSTED);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    probe_done(&p);
}

static void streams_over_the_limit_wait(void **state)
{
    struct fixture *f = *state;
    struct probe p[6] = {0};
    f->server_limits.streams_max = 3;
    fixture_serve(f, true);
    for (unsigned i = 0; i < 6; i++) {
        probe_start(f, &p[i], PATH_HANG, 0, false);
        probe_send(&p[i], "x");
    }
    RUN_UNTIL(f, f->accepted == 3);
    settle(f);
    assert_int_equal(f->accepted, 3);
    rpc_call_cancel(p[5].call); /* one that never went out */
    rpc_call_cancel(p[0].call);
    RUN_UNTIL(f, p[0].ends == 1 && p[5].ends == 1 && f->accepted == 4);
    for (unsigned i = 1; i < 5; i++)
        rpc_call_cancel(p[i].call);
    RUN_UNTIL(f, p[1].ends + p[2].ends + p[3].ends + p[4].ends == 4);
}

static void connections_over_the_limit_are_closed(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0}, q = {0};
    struct rpc_channel *second = NULL;
    f->server_limits.connections_max = 1;
    fixture_serve(f, true);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    assert_int_equal(rpc_channel_new(f->loop, f->address, f->client_tls, "node", NULL, NULL, &second, NULL), 0);
    assert_int_equal(rpc_call_start(second, PATH_ECHO, 0, true, &probe_ops, &q, &q.call, NULL), 0);
    RUN_UNTIL(f, q.ends == 1);
    assert_int_equal(q.status, RPC_UNAVAILABLE);
    rpc_channel_free(second);
    probe_done(&p);
}

static bool drained;
static void on_drained(void *arg)
{
    (void)arg;
    drained = true;
}

static void drain_lets_calls_finish_and_takes_no_new_ones(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0}, q = {0};
    drained = false;
    fixture_serve(f, true);
    probe_start(f, &p, PATH_ECHO, 0, false);
    probe_send(&p, "one");
    RUN_UNTIL(f, p.messages == 1);
    rpc_server_drain(f->server, on_drained, NULL);
    settle(f);
    assert_false(drained);
    probe_start(f, &q, PATH_ECHO, 0, true); /* goes to a new connection, and nobody listens */
    RUN_UNTIL(f, q.ends == 1);
    assert_int_equal(q.status, RPC_UNAVAILABLE);
    probe_send(&p, "two");
    rpc_call_half_close(p.call);
    RUN_UNTIL(f, p.ends == 1 && drained);
    assert_int_equal(p.status, RPC_OK);
    assert_int_equal(p.messages, 2);
    probe_done(&p);
}

static void silence_is_noticed_by_ping(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    f->server_limits.idle_usec = f->client_limits.idle_usec = 400 * USEC_PER_MSEC;
    fixture_serve(f, true);
    probe_start(f, &p, PATH_HANG, 0, false);
    probe_send(&p, "x");
    uint64_t until = clock_mono_usec() + 1300 * USEC_PER_MSEC;
    while (clock_mono_usec() < until)
        assert_true(sd_event_run(f->loop, 50000) >= 0);
    assert_int_equal(p.ends, 0); /* a live peer answers */
    rpc_call_cancel(p.call);
    RUN_UNTIL(f, p.ends == 1);
}

static void a_hundred_calls_at_once(void **state)
{
    struct fixture *f = *state;
    static struct probe p[100];
    fixture_serve(f, true);
    for (unsigned i = 0; i < 100; i++) {
        memset(&p[i], 0, sizeof(p[i]));
        probe_start(f, &p[i], PATH_ECHO, 0, false);
        probe_send_bytes(&p[i], 1000 * i, (uint8_t)i);
        rpc_call_half_close(p[i].call);
    }
    for (unsigned i = 0; i < 100; i++) {
        RUN_UNTIL(f, p[i].ends == 1);
        assert_int_equal(p[i].status, RPC_OK);
        assert_int_equal(p[i].bytes, 1000 * i);
        probe_done(&p[i]);
    }
}

static void memory_that_runs_out_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct probe p = {0};
    fixture_serve(f, true);
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    for (long n = 1; n < 120; n++) {
        struct buf b = BUF_INIT(64);
        assert_int_equal(buf_append_str(&b, "hello", NULL), 0);
        probe_done(&p);
        memset(&p, 0, sizeof(p));
        mem_fail_at(n);
        int rc = rpc_call_start(f->channel, PATH_ECHO, 0, true, &probe_ops, &p, &p.call, NULL);
        if (rc == 0) {
            if (rpc_call_send(p.call, &b, NULL) < 0)
                rpc_call_cancel(p.call);
            else
                rpc_call_half_close(p.call);
            RUN_UNTIL(f, p.ends == 1);
        }
        mem_fail_at(0);
        buf_done(&b);
        /* The connection may have been given up; the next call must work on a new one. */
        do {
            probe_start(f, &p, PATH_ECHO, 10 * USEC_PER_SEC, false);
            probe_send(&p, "hello");
            rpc_call_half_close(p.call);
            RUN_UNTIL(f, p.ends == 1);
        } while (p.status == RPC_UNAVAILABLE);
        assert_int_equal(p.status, RPC_OK);
    }
    probe_done(&p);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(echo_over_tls),
        TEST(echo_over_a_unix_socket),
        TEST(begin_comes_once_and_with_a_connection),
        TEST(unary_gives_the_reply_once),
        TEST(unary_refuses_two_replies),
        TEST(many_messages_keep_their_order_and_size),
        TEST(head_and_body_arrive_as_one_message),
        TEST(unknown_path_is_unimplemented),
        TEST(refusal_carries_its_correction),
        TEST(early_status_reaches_a_client_that_still_sends),
        TEST(deadline_ends_both_sides),
        TEST(deadline_ends_a_call_that_never_connected),
        TEST(cancel_reaches_the_server),
        TEST(cancel_before_the_connection_is_up),
        TEST(nobody_there_fails_fast_with_a_correction),
        TEST(pauses_between_attempts_stay_below_their_limit),
        TEST(a_name_is_looked_up),
        TEST(freeing_a_channel_during_a_look_up),
        TEST(freeing_the_channel_cancels_its_calls),
        TEST(freeing_the_server_ends_everything),
        TEST(a_channel_may_be_freed_inside_a_callback),
        TEST(a_lost_connection_ends_calls_and_comes_back),
        TEST(a_receiver_that_is_behind_stops_the_sender),
        TEST(a_window_and_a_queue_can_be_made_smaller_for_what_comes),
        TEST(the_window_of_an_open_stream_follows),
        TEST(the_mark_of_a_queue_follows),
        TEST(a_stalled_call_does_not_stop_others),
        TEST(messages_that_come_side_by_side_are_all_completed),
        TEST(receivers_that_are_behind_stop_a_connection),
        TEST(the_client_can_be_behind_too),
        TEST(an_oversized_message_is_refused_before_it_is_stored),
        TEST(an_oversized_reply_ends_the_call_alone),
        TEST(streams_over_the_limit_wait),
        TEST(connections_over_the_limit_are_closed),
        TEST(drain_lets_calls_finish_and_takes_no_new_ones),
        TEST(silence_is_noticed_by_ping),
        TEST(a_hundred_calls_at_once),
        TEST(memory_that_runs_out_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
