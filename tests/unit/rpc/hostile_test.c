/* SPDX-License-Identifier: Apache-2.0
 *
 * A server against peers that do not play by the rules (P8): raw bytes, and an nghttp2 client of the test's own that sends
 * what our client never would. After each of them the server must serve an honest client.
 */
#include "tests/unit/rpc/fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

/* ---- a raw peer ---- */

struct raw {
    int fd;
    nghttp2_session *session;
    bool closed; /* by the server */
    unsigned http_status;
    int grpc_status;
    char message[256];
    bool end_stream, reset, goaway;
    uint32_t reset_code, goaway_code;
    const uint8_t *body;
    size_t body_len, body_at;
    bool endless; /* empty DATA frames for ever */
};

static int raw_connect(struct fixture *f)
{
    int fd;
    if (f->server_tls == NULL) {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        snprintf(un.sun_path, sizeof(un.sun_path), "%s/s.sock", f->dir);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    } else {
        struct sockaddr_in in = {.sin_family = AF_INET,
            .sin_port = htons((uint16_t)rpc_server_port(f->server)),
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    }
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static bool raw_is_closed(int fd)
{
    char bytes[65536];
    ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static int raw_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
    const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
    struct raw *r = arg;
    (void)session;
    (void)frame;
    (void)name_len;
    (void)flags;
    if (strcmp((const char *)name, ":status") == 0)
        r->http_status = (unsigned)atoi((const char *)value);
    else if (strcmp((const char *)name, "grpc-status") == 0)
        r->grpc_status = atoi((const char *)value);
    else if (strcmp((const char *)name, "grpc-message") == 0)
        snprintf(r->message, sizeof(r->message), "%.*s", (int)value_len, value);
    return 0;
}

static int raw_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct raw *r = arg;
    (void)session;
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        r->reset = true;
        r->reset_code = frame->rst_stream.error_code;
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        r->goaway = true;
        r->goaway_code = frame->goaway.error_code;
    } else if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 && frame->hd.stream_id != 0) {
        r->end_stream = true;
    }
    return 0;
}

static void raw_open(struct fixture *f, struct raw *r)
{
    nghttp2_session_callbacks *callbacks = NULL;
    memset(r, 0, sizeof(*r));
    r->grpc_status = -1;
    r->fd = raw_connect(f);
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, raw_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, raw_frame);
    assert_int_equal(nghttp2_session_client_new(&r->session, callbacks, r), 0);
    nghttp2_session_callbacks_del(callbacks);
    assert_int_equal(nghttp2_submit_settings(r->session, 0, NULL, 0), 0);
}

static void raw_done(struct raw *r)
{
    nghttp2_session_del(r->session);
    close(r->fd);
}

/* One exchange in each direction, and a turn of the server's loop. */
static void raw_pump(struct fixture *f, struct raw *r)
{
    const uint8_t *data;
    uint8_t in[65536];
    ssize_t n;
    for (unsigned i = 0; i < 64 && (n = nghttp2_session_mem_send(r->session, &data)) > 0; i++)
        for (ssize_t at = 0; at < n;) {
            ssize_t sent = send(r->fd, data + at, (size_t)(n - at), MSG_NOSIGNAL);
            if (sent < 0 && errno == EAGAIN) {
                assert_true(sd_event_run(f->loop, 1000) >= 0);
                continue;
            }
            if (sent < 0) {
                r->closed = true;
                break;
            }
            at += sent;
        }
    assert_true(sd_event_run(f->loop, 1000) >= 0);
    n = recv(r->fd, in, sizeof(in), 0);
    if (n > 0)
        (void)nghttp2_session_mem_recv(r->session, in, (size_t)n);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        r->closed = true;
}

#define PUMP_UNTIL(f, r, condition)                                                                                    \
    do {                                                                                                               \
        uint64_t limit_ = clock_mono_usec() + 90 * USEC_PER_SEC;                                                       \
        while (!(condition)) {                                                                                         \
            assert_true(clock_mono_usec() < limit_);                                                                   \
            raw_pump(f, r);                                                                                            \
        }                                                                                                              \
    } while (0)

static ssize_t raw_body(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t length, uint32_t *flags,
    nghttp2_data_source *source, void *arg)
{
    struct raw *r = arg;
    (void)session;
    (void)stream_id;
    (void)source;
    if (r->endless)
        return 0;
    size_t n = r->body_len - r->body_at < length ? r->body_len - r->body_at : length;
    if (n > 0)
        memcpy(out, r->body + r->body_at, n);
    r->body_at += n;
    if (r->body_at == r->body_len)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

#define HEADER(n, v)                                                                                                   \
    {                                                                                                                  \
        (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), strlen(v), 0                                  \
    }

static int32_t raw_request(struct raw *r, const char *method, const char *path, const char *type,
    const char *extra_name, const char *extra_value)
{
    nghttp2_nv nv[] = {HEADER(":method", method), HEADER(":scheme", "https"), HEADER(":path", path),
        HEADER(":authority", "x"), HEADER("te", "trailers"), HEADER("content-type", type),
        HEADER(extra_name != NULL ? extra_name : "x-nothing", extra_name != NULL ? extra_value : "")};
    nghttp2_data_provider source = {.read_callback = raw_body};
    int32_t id = nghttp2_submit_request(r->session, NULL, nv, ARRAY_LEN(nv), &source, NULL);
    assert_true(id > 0);
    return id;
}

static void still_serves(struct fixture *f)
{
    struct probe p = {0};
    assert_int_equal(probe_echo(f, PATH_ECHO, &p), RPC_OK);
    probe_done(&p);
}

/* ---- bytes ---- */

static void garbage_on_the_tls_port(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[5000];
    fixture_serve(f, true);
    srand(1);
    for (unsigned round = 0; round < 20; round++) {
        int fd = raw_connect(f);
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)rand();
        if (round % 2 == 0) { /* looks like a record of TLS 1.x with a hello in it */
            bytes[0] = 22;
            bytes[1] = 3;
            bytes[2] = 1;
        }
        assert_true(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0);
        (void)shutdown(fd, SHUT_WR);
        RUN_UNTIL(f, raw_is_closed(fd));
        close(fd);
    }
    still_serves(f);
}

static void plain_http2_on_the_tls_port(void **state)
{
    struct fixture *f = *state;
    fixture_serve(f, true);
    int fd = raw_connect(f);
    assert_true(send(fd, NGHTTP2_CLIENT_MAGIC, 24, 0) == 24);
    RUN_UNTIL(f, raw_is_closed(fd));
    close(fd);
    still_serves(f);
}

static void garbage_instead_of_http2(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[5000];
    fixture_serve(f, false);
    srand(2);
    for (unsigned round = 0; round < 50; round++) {
        int fd = raw_connect(f);
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)rand();
        if (round % 2 == 0)
            memcpy(bytes, NGHTTP2_CLIENT_MAGIC, 24);
        (void)send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
        (void)shutdown(fd, SHUT_WR);
        RUN_UNTIL(f, raw_is_closed(fd));
        close(fd);
    }
    still_serves(f);
}

static void a_half_open_hand_shake_is_ended(void **state)
{
    struct fixture *f = *state;
    f->server_limits.handshake_usec = 1 * USEC_PER_SEC; /* those who are served need some of it, too */
    fixture_serve(f, true);
    int silent = raw_connect(f), partial = raw_connect(f);
    assert_true(send(partial, "\x16\x03\x01\x02\x00\x01", 6, 0) == 6);
    uint64_t begun = clock_mono_usec();
    RUN_UNTIL(f, raw_is_closed(silent));
    RUN_UNTIL(f, raw_is_closed(partial));
    assert_true(clock_mono_usec() - begun >= 100 * USEC_PER_MSEC);
    close(silent);
    close(partial);
    still_serves(f);
}

static void a_peer_that_never_speaks_http2_is_ended(void **state)
{
    struct fixture *f = *state;
    f->server_limits.handshake_usec = 500 * USEC_PER_MSEC;
    fixture_serve(f, false);
    int fd = raw_connect(f);
    RUN_UNTIL(f, raw_is_closed(fd));
    close(fd);
    still_serves(f);
}

static void a_peer_that_goes_silent_is_ended(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    f->server_limits.idle_usec = 400 * USEC_PER_MSEC;
    fixture_serve(f, false);
    raw_open(f, &r);
    raw_request(&r, "POST", PATH_HANG, "application/grpc", NULL, NULL);
    PUMP_UNTIL(f, &r, f->accepted == 1);
    RUN_UNTIL(f, f->ended == 1); /* nobody answers the PING any more */
    assert_int_equal(f->last_end, RPC_UNAVAILABLE);
    raw_done(&r);
    still_serves(f);
}

/* ---- HTTP/2 ---- */

static void another_content_type_is_415(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    fixture_serve(f, false);
    raw_open(f, &r);
    raw_request(&r, "POST", PATH_ECHO, "application/json", NULL, NULL);
    PUMP_UNTIL(f, &r, r.end_stream);
    assert_int_equal(r.http_status, 415);
    assert_int_equal(f->accepted, 0);
    raw_done(&r);
}

static void another_method_is_405(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    fixture_serve(f, false);
    raw_open(f, &r);
    raw_request(&r, "PUT", PATH_ECHO, "application/grpc", NULL, NULL);
    PUMP_UNTIL(f, &r, r.end_stream);
    assert_int_equal(r.http_status, 405);
    raw_done(&r);
}

static void content_type_with_a_suffix_is_grpc(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    fixture_serve(f, false);
    raw_open(f, &r);
    raw_request(&r, "POST", PATH_ECHO, "application/grpc+proto", NULL, NULL);
    PUMP_UNTIL(f, &r, r.end_stream);
    assert_int_equal(r.http_status, 200);
    assert_int_equal(r.grpc_status, RPC_OK);
    raw_done(&r);
}

static void a_long_path_is_unimplemented(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    char path[2000];
    fixture_serve(f, false);
    memset(path, 'a', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    raw_open(f, &r);
    raw_request(&r, "POST", path, "application/grpc", NULL, NULL);
    PUMP_UNTIL(f, &r, r.end_stream);
    assert_int_equal(r.grpc_status, RPC_UNIMPLEMENTED);
    raw_done(&r);
}

static void too_many_header_bytes_end_the_call(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    static char value[17000];
    fixture_serve(f, false);
    memset(value, 'v', sizeof(value) - 1);
    raw_open(f, &r);
    raw_request(&r, "POST", PATH_ECHO, "application/grpc", "x-long", value);
    PUMP_UNTIL(f, &r, r.reset || r.closed || r.goaway);
    assert_int_equal(f->accepted, 0);
    raw_done(&r);
    still_serves(f);
}

static void send_body(struct fixture *f, const void *body, size_t n, struct raw *r)
{
    raw_open(f, r);
    r->body = body;
    r->body_len = n;
    raw_request(r, "POST", PATH_ECHO, "application/grpc", NULL, NULL);
    PUMP_UNTIL(f, r, r->end_stream || r->closed);
}

static void a_cut_off_message_is_refused(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    fixture_serve(f, false);
    send_body(f, "\0\0\0\0\x09half", 9, &r);
    assert_int_equal(r.grpc_status, RPC_INVALID_ARGUMENT);
    assert_non_null(strstr(r.message, "cut off"));
    raw_done(&r);
    send_body(f, "\0\0", 2, &r);
    assert_int_equal(r.grpc_status, RPC_INVALID_ARGUMENT);
    raw_done(&r);
}

static void a_compressed_message_is_unimplemented(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    fixture_serve(f, false);
    send_body(f, "\1\0\0\0\x01z", 6, &r);
    assert_int_equal(r.grpc_status, RPC_UNIMPLEMENTED);
    raw_done(&r);
}

static void unknown_message_flags_are_refused(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    fixture_serve(f, false);
    send_body(f, "\x80\0\0\0\x01z", 6, &r);
    assert_int_equal(r.grpc_status, RPC_INVALID_ARGUMENT);
    raw_done(&r);
}

static void a_huge_announced_length_allocates_nothing(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    fixture_serve(f, false);
    send_body(f, "\0\xff\xff\xff\xffz", 6, &r);
    assert_int_equal(r.grpc_status, RPC_RESOURCE_EXHAUSTED);
    raw_done(&r);
}

static void thousands_of_empty_messages_are_only_messages(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    static uint8_t zeros[5 * 20000];
    fixture_serve(f, false);
    raw_open(f, &r);
    r.body = zeros;
    r.body_len = sizeof(zeros);
    raw_request(&r, "POST", PATH_HANG, "application/grpc", NULL, NULL);
    PUMP_UNTIL(f, &r, r.body_at == r.body_len);
    for (unsigned i = 0; i < 10; i++)
        raw_pump(f, &r);
    raw_done(&r);
    RUN_UNTIL(f, f->ended == 1);
    still_serves(f);
}

/* ---- floods ---- */

static void a_flood_of_pings_is_ended(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    fixture_serve(f, false);
    raw_open(f, &r);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(nghttp2_submit_ping(r.session, 0, NULL), 0);
    PUMP_UNTIL(f, &r, r.closed);
    assert_true(r.goaway);
    assert_int_equal(r.goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
    raw_done(&r);
    still_serves(f);
}

static void a_flood_of_settings_is_ended(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[24 + 9 * 2000];
    size_t n = 24;
    fixture_serve(f, false);
    memcpy(bytes, NGHTTP2_CLIENT_MAGIC, 24);
    for (unsigned i = 0; i < 2000; i++, n += 9) {
        memset(bytes + n, 0, 9);
        bytes[n + 3] = NGHTTP2_SETTINGS;
    }
    int fd = raw_connect(f);
    (void)send(fd, bytes, n, MSG_NOSIGNAL);
    RUN_UNTIL(f, raw_is_closed(fd));
    close(fd);
    still_serves(f);
}

static void a_flood_of_empty_data_is_ended(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    uint8_t frame[9] = {0, 0, 0, NGHTTP2_DATA, 0, 0, 0, 0, 1};
    fixture_serve(f, false);
    raw_open(f, &r);
    r.body = (const uint8_t *)"\0\0\0\1\0";
    r.body_len = 5;
    nghttp2_nv nv[] = {HEADER(":method", "POST"), HEADER(":scheme", "https"), HEADER(":path", PATH_HANG),
        HEADER(":authority", "x"), HEADER("content-type", "application/grpc"), HEADER("te", "trailers")};
    assert_int_equal(nghttp2_submit_headers(r.session, 0, -1, NULL, nv, ARRAY_LEN(nv), NULL), 1);
    PUMP_UNTIL(f, &r, f->accepted == 1);
    for (unsigned i = 0; i < 2000; i++)
        (void)send(r.fd, frame, sizeof(frame), MSG_NOSIGNAL);
    PUMP_UNTIL(f, &r, r.closed);
    RUN_UNTIL(f, f->ended == 1);
    raw_done(&r);
    still_serves(f);
}

static void rapid_resets_are_ended(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    unsigned started = 0;
    fixture_serve(f, false);
    raw_open(f, &r);
    uint64_t limit = clock_mono_usec() + 90 * USEC_PER_SEC;
    while (!r.closed) {
        assert_true(clock_mono_usec() < limit);
        for (unsigned i = 0; i < 50 && nghttp2_session_check_request_allowed(r.session); i++, started++) {
            int32_t id = raw_request(&r, "POST", PATH_HANG, "application/grpc", NULL, NULL);
            r.endless = false;
            r.body_len = 0;
            raw_pump(f, &r);
            (void)nghttp2_submit_rst_stream(r.session, 0, id, NGHTTP2_CANCEL);
        }
        raw_pump(f, &r);
    }
    assert_true(started >= 300 && started < 2000);
    RUN_UNTIL(f, f->ended == f->accepted);
    raw_done(&r);
    still_serves(f);
}

static void streams_over_the_limit_are_refused(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    uint8_t block[512];
    nghttp2_hd_deflater *deflater = NULL;
    nghttp2_nv nv[] = {HEADER(":method", "POST"), HEADER(":scheme", "https"), HEADER(":path", PATH_HANG),
        HEADER(":authority", "x"), HEADER("content-type", "application/grpc"), HEADER("te", "trailers")};
    f->server_limits.streams_max = 4;
    fixture_serve(f, false);
    raw_open(f, &r);
    PUMP_UNTIL(f, &r, nghttp2_session_get_remote_settings(r.session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS) == 4);
    assert_int_equal(nghttp2_hd_deflate_new(&deflater, 0), 0);
    for (uint8_t i = 0; i < 20; i++) { /* by hand: a well-behaved session would hold them back */
        ssize_t n = nghttp2_hd_deflate_hd(deflater, block + 9, sizeof(block) - 9, nv, ARRAY_LEN(nv));
        assert_true(n > 0);
        const uint8_t header[9] = {
            0, 0, (uint8_t)n, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 0, 0, 0, (uint8_t)(2 * i + 1)};
        memcpy(block, header, 9);
        assert_true(send(r.fd, block, (size_t)n + 9, MSG_NOSIGNAL) > 0);
    }
    nghttp2_hd_deflate_del(deflater);
    RUN_UNTIL(f, f->accepted == 4);
    settle(f);
    assert_int_equal(f->accepted, 4);
    raw_done(&r);
    RUN_UNTIL(f, f->ended == 4);
    still_serves(f);
}

/* Each refusal is a frame for it, and it never looks at one. */
static void streams_whose_refusals_nobody_reads_are_ended(void **state)
{
    struct fixture *f = *state;
    nghttp2_hd_deflater *deflater = NULL;
    nghttp2_nv nv[] = {HEADER(":method", "POST"), HEADER(":scheme", "https"), HEADER(":path", PATH_HANG),
        HEADER(":authority", "x"), HEADER("content-type", "application/grpc"), HEADER("te", "trailers")};
    uint8_t bytes[512] = NGHTTP2_CLIENT_MAGIC;
    size_t n = 24 + 9;
    bool closed = false;
    f->server_limits.streams_max = 4;
    fixture_serve(f, false);
    int fd = raw_connect(f);
    bytes[24 + 3] = NGHTTP2_SETTINGS;
    assert_int_equal(nghttp2_hd_deflate_new(&deflater, 4096), 0);
    for (uint32_t id = 1; id < 400000 && !closed; id += 2) {
        for (size_t at = 0; at < n && !closed;) {
            ssize_t sent = send(fd, bytes + at, n - at, MSG_NOSIGNAL);
            closed = sent < 0 && errno != EAGAIN;
            at += sent > 0 ? (size_t)sent : 0;
            if (sent < 0)
                assert_true(sd_event_run(f->loop, 1000) >= 0);
        }
        ssize_t block = nghttp2_hd_deflate_hd(deflater, bytes + 9, sizeof(bytes) - 9, nv, ARRAY_LEN(nv));
        assert_true(block > 0);
        const uint8_t header[9] = {0, 0, (uint8_t)block, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, (uint8_t)(id >> 24),
            (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
        memcpy(bytes, header, sizeof(header));
        n = (size_t)block + sizeof(header);
    }
    nghttp2_hd_deflate_del(deflater);
    assert_true(closed);
    assert_int_equal(f->accepted, 4);
    close(fd);
    RUN_UNTIL(f, f->ended == 4);
    still_serves(f);
}

static void a_peer_that_reads_nothing_holds_no_more_than_its_windows(void **state)
{
    struct fixture *f = *state;
    struct raw r;
    f->flood_count = 64;
    f->flood_bytes = 1 << 20;
    fixture_serve(f, false);
    raw_open(f, &r);
    r.body = (const uint8_t *)"\0\0\0\0\1x";
    r.body_len = 6;
    raw_request(&r, "POST", PATH_FLOOD, "application/grpc", NULL, NULL);
    const uint8_t *data;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(r.session, &data)) > 0)
        assert_int_equal(send(r.fd, data, (size_t)n, MSG_NOSIGNAL), n);
    RUN_UNTIL(f, f->accepted == 1);
    settle(f);
    raw_done(&r);
    RUN_UNTIL(f, f->ended == 1);
    assert_int_not_equal(f->last_end, RPC_OK);
    still_serves(f);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(garbage_on_the_tls_port),
        TEST(plain_http2_on_the_tls_port),
        TEST(garbage_instead_of_http2),
        TEST(a_half_open_hand_shake_is_ended),
        TEST(a_peer_that_never_speaks_http2_is_ended),
        TEST(a_peer_that_goes_silent_is_ended),
        TEST(another_content_type_is_415),
        TEST(another_method_is_405),
        TEST(content_type_with_a_suffix_is_grpc),
        TEST(a_long_path_is_unimplemented),
        TEST(too_many_header_bytes_end_the_call),
        TEST(a_cut_off_message_is_refused),
        TEST(a_compressed_message_is_unimplemented),
        TEST(unknown_message_flags_are_refused),
        TEST(a_huge_announced_length_allocates_nothing),
        TEST(thousands_of_empty_messages_are_only_messages),
        TEST(a_flood_of_pings_is_ended),
        TEST(a_flood_of_settings_is_ended),
        TEST(a_flood_of_empty_data_is_ended),
        TEST(rapid_resets_are_ended),
        TEST(streams_over_the_limit_are_refused),
        TEST(streams_whose_refusals_nobody_reads_are_ended),
        TEST(a_peer_that_reads_nothing_holds_no_more_than_its_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
