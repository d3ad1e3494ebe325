/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP/2 session of one connection over nghttp2 1.52. Its callbacks only note what happened in the call and queue it for
 * dispatch; they never run owners' code and never send or receive (nghttp2 forbids it). Bulk data is not copied by
 * nghttp2: the data source answers NO_COPY and on_send_data emits straight from the call's messages.
 *
 * gRPC on HTTP/2: request HEADERS, DATA..., END_STREAM; response HEADERS, DATA..., HEADERS with grpc-status and END_STREAM, or
 * that last block alone. A server that is done before its client sends RST_STREAM(NO_ERROR) after its trailers went out (not
 * before: it would cancel them). Windows grow back only when the owner consumed a message (no_auto_window_update).
 *
 * Limits against a hostile peer: streams, header bytes, message bytes (call.c), resets (nghttp2's rate limit, then GOAWAY), and one
 * allowance for frames that cost us work and carry nothing (PING, SETTINGS, PRIORITY, empty DATA).
 */
#include "transport/rpc/h2.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define HEADER_BYTES_MAX 16384u /* per block, as HTTP/2 counts: name + value + 32 each */
#define FRAME_BYTES_MAX 262144u /* larger DATA frames than 16 KiB save a TLS record per frame header */
#define FRAME_BYTES_DEFAULT 16384u
#define NOISE_BURST 200u  /* frames without content before they are counted against time, */
#define NOISE_PER_SEC 20u /* refilled at this rate, and in full whenever we send content */
#define RESET_BURST 400u
#define RESET_PER_SEC 50u
#define ACKS_MAX 200u

struct h2 {
    nghttp2_session *session;
    bool is_server;
    struct rpc_limits limits;
    struct dispatch *dispatch;
    struct h2_hooks hooks;
    void *arg;
    struct rpc_call *first;
    size_t calls;
    unsigned noise_left;
    uint64_t noise_usec; /* when noise_left was last refilled */
    bool up, draining, drain_final, failed;
};

/* ---- memory ---- */

static void *h2_malloc(size_t n, void *arg)
{
    (void)arg;
    return mem_resize(NULL, 1, n);
}

static void h2_free_memory(void *p, void *arg)
{
    (void)arg;
    free(p);
}

static void *h2_calloc(size_t count, size_t size, void *arg)
{
    (void)arg;
    return mem_alloc(count, size);
}

static void *h2_realloc(void *p, size_t n, void *arg)
{
    (void)arg;
    return mem_resize(p, 1, n);
}

static nghttp2_mem h2_memory = {NULL, h2_malloc, h2_free_memory, h2_calloc, h2_realloc};

/* ---- calls of the session ---- */

static void call_link(struct h2 *h2, struct rpc_call *call)
{
    call->h2 = h2;
    call->h2_prev = NULL;
    call->h2_next = h2->first;
    if (h2->first != NULL)
        h2->first->h2_prev = call;
    h2->first = call;
    h2->calls++;
    (void)call_ref(call);
}

/* Drops the session's reference. */
static void call_unlink(struct h2 *h2, struct rpc_call *call)
{
    if (call->h2_prev != NULL)
        call->h2_prev->h2_next = call->h2_next;
    else
        h2->first = call->h2_next;
    if (call->h2_next != NULL)
        call->h2_next->h2_prev = call->h2_prev;
    call->h2_next = call->h2_prev = NULL;
    call->h2 = NULL;
    h2->calls--;
    call_unref(call);
}

static struct rpc_call *call_of(nghttp2_session *session, int32_t stream_id)
{
    return stream_id == 0 ? NULL : nghttp2_session_get_stream_user_data(session, stream_id);
}

/* Any failure of nghttp2 that is ours (memory) ends the connection at the next h2_send. */
static void h2_check(struct h2 *h2, int rc)
{
    if (rc < 0 && nghttp2_is_fatal(rc))
        h2->failed = true;
    h2->hooks.wake(h2->arg);
}

/* ---- what goes out ---- */

#define NV(name_, value_, value_len)                                                                                   \
    ((nghttp2_nv){(uint8_t *)(uintptr_t)(name_), (uint8_t *)(uintptr_t)(value_), strlen(name_), (value_len),           \
        NGHTTP2_NV_FLAG_NO_COPY_NAME})

/* grpc-status and, with a text, grpc-message; returns how many. `text` keeps the encoded bytes. */
static size_t status_headers(const struct rpc_call *call, char number[4], struct buf *text, nghttp2_nv nv[2])
{
    int len = snprintf(number, 4, "%u", (unsigned)call->finish_status % 100);
    nv[0] = NV("grpc-status", number, (size_t)len);
    if (call->finish_text == NULL || grpc_text_encode(call->finish_text, text, NULL) < 0)
        return 1;
    nv[1] = NV("grpc-message", (char *)text->data, text->len);
    return 2;
}

static int submit_trailers(struct rpc_call *call)
{
    char number[4];
    nghttp2_nv nv[2];
    AUTO_BUF struct buf text = BUF_INIT(3 * GRPC_TEXT_MAX);
    size_t n = status_headers(call, number, &text, nv);
    call->trailers_submitted = true;
    return nghttp2_submit_trailer(call->h2->session, call->stream_id, nv, n);
}

/* A data source: says how much there is; on_send_data takes it. */
static ssize_t source_read(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t length, uint32_t *flags,
    nghttp2_data_source *source, void *arg)
{
    struct rpc_call *call = source->ptr;
    (void)session;
    (void)stream_id;
    (void)out;
    (void)arg;
    size_t n = call->queued < length ? call->queued : length;
    if (n == 0 && !call->local_half) {
        call->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > 0)
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n == call->queued && call->local_half) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (call->is_server) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            int rc = submit_trailers(call);
            if (rc != 0)
                return nghttp2_is_fatal(rc) ? NGHTTP2_ERR_CALLBACK_FAILURE : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    return (ssize_t)n;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header, size_t length,
    nghttp2_data_source *source, void *arg)
{
    struct h2 *h2 = arg;
    struct rpc_call *call = source->ptr;
    (void)session;
    (void)frame;
    if (h2->hooks.full(h2->arg))
        return NGHTTP2_ERR_WOULDBLOCK;
    if (h2->hooks.emit(h2->arg, header, 9) < 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    while (length > 0) {
        const uint8_t *data = NULL;
        size_t n = call_peek_out(call, &data);
        n = n < length ? n : length;
        if (n > 0 && h2->hooks.emit(h2->arg, data, n) < 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        call_advance_out(call, n);
        length -= n;
    }
    return 0;
}

static ssize_t on_frame_length(nghttp2_session *session, uint8_t type, int32_t stream_id, int32_t session_window,
    int32_t stream_window, uint32_t frame_max, void *arg)
{
    (void)type;
    (void)arg;
    const struct rpc_call *call = call_of(session, stream_id);
    size_t n = call == NULL || call->queued < FRAME_BYTES_DEFAULT ? FRAME_BYTES_DEFAULT : call->queued;
    n = n < FRAME_BYTES_MAX ? n : FRAME_BYTES_MAX;
    n = n < frame_max ? n : frame_max;
    n = session_window > 0 && n > (size_t)session_window ? (size_t)session_window : n;
    n = stream_window > 0 && n > (size_t)stream_window ? (size_t)stream_window : n;
    return (ssize_t)n;
}

static void submit_response(struct h2 *h2, struct rpc_call *call)
{
    char number[4];
    AUTO_BUF struct buf text = BUF_INIT(3 * GRPC_TEXT_MAX);
    nghttp2_nv nv[4] = {NV(":status", "200", 3), NV("content-type", "application/grpc", 16)};
    nghttp2_data_provider source = {.source.ptr = call, .read_callback = source_read};
    size_t n = 2;
    bool alone = call->queued == 0 && call->local_half;
    if (alone) {
        n += status_headers(call, number, &text, nv + 2);
        call->trailers_submitted = true;
    }
    call->headers_sent = true;
    h2_check(h2, nghttp2_submit_response(h2->session, call->stream_id, nv, n, alone ? NULL : &source));
}

void h2_respond_http(struct h2 *h2, struct rpc_call *call, unsigned http_status)
{
    char number[4];
    (void)snprintf(number, sizeof(number), "%03u", http_status % 1000);
    nghttp2_nv nv = NV(":status", number, 3);
    call->headers_sent = call->local_half = call->discard = true;
    call->trailers_submitted = true;
    h2_check(h2, nghttp2_submit_response(h2->session, call->stream_id, &nv, 1, NULL));
}

void h2_resume(struct h2 *h2, struct rpc_call *call)
{
    if (call->is_server && !call->headers_sent) {
        submit_response(h2, call);
    } else if (call->deferred) {
        call->deferred = false;
        h2_check(h2, nghttp2_session_resume_data(h2->session, call->stream_id));
    } else {
        h2->hooks.wake(h2->arg);
    }
}

void h2_reset(struct h2 *h2, struct rpc_call *call, uint32_t h2_error)
{
    h2_check(h2, nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, call->stream_id, h2_error));
}

void h2_consume(struct h2 *h2, struct rpc_call *call, size_t n)
{
    if (n > 0)
        h2_check(h2, nghttp2_session_consume(h2->session, call->stream_id, n));
}

int h2_start(struct h2 *h2, struct rpc_call *call, const char *authority, struct err *err)
{
    char timeout[GRPC_TIMEOUT_SIZE];
    nghttp2_nv nv[8] = {NV(":method", "POST", 4), NV(":scheme", "https", 5),
        NV(":path", call->path, strlen(call->path)), NV(":authority", authority, strlen(authority)),
        NV("te", "trailers", 8), NV("content-type", "application/grpc", 16),
        NV("user-agent", "leeward/" LEEWARD_VERSION, sizeof("leeward/" LEEWARD_VERSION) - 1)};
    size_t n = 7;
    if (call->deadline_usec != 0) {
        uint64_t now = clock_mono_usec();
        grpc_timeout_format(call->deadline_usec > now ? call->deadline_usec - now : 0, timeout);
        nv[n++] = NV("grpc-timeout", timeout, strlen(timeout));
    }
    nghttp2_data_provider source = {.source.ptr = call, .read_callback = source_read};
    int32_t id = nghttp2_submit_request(h2->session, NULL, nv, n, &source, call);
    h2_check(h2, id);
    if (id < 0)
        return err_set(
            err, id == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_UNAVAILABLE, "starting a call: %s", nghttp2_strerror(id));
    call->stream_id = id;
    call_link(h2, call);
    return 0;
}

int h2_ping(struct h2 *h2)
{
    int rc = nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, NULL);
    h2_check(h2, rc);
    return rc;
}

void h2_terminate(struct h2 *h2)
{
    (void)nghttp2_session_terminate_session(h2->session, NGHTTP2_NO_ERROR);
}

struct dispatch *h2_dispatch(struct h2 *h2)
{
    return h2->dispatch;
}

void h2_drain(struct h2 *h2)
{
    if (h2->draining)
        return;
    h2->draining = true;
    h2_check(h2, nghttp2_submit_shutdown_notice(h2->session));
    (void)h2_ping(h2);
}

/* ---- what comes in ---- */

/* False when the peer has used up its allowance of frames without content: GOAWAY(ENHANCE_YOUR_CALM) is on its way. */
static bool noise_allowed(struct h2 *h2)
{
    uint64_t now = clock_mono_usec();
    uint64_t gained = (now - h2->noise_usec) * NOISE_PER_SEC / USEC_PER_SEC;
    if (gained > 0) {
        h2->noise_left = gained + h2->noise_left > NOISE_BURST ? NOISE_BURST : h2->noise_left + (unsigned)gained;
        h2->noise_usec = now;
    }
    if (h2->noise_left > 0) {
        h2->noise_left--;
        return true;
    }
    h2_check(h2, nghttp2_session_terminate_session(h2->session, NGHTTP2_ENHANCE_YOUR_CALM));
    return false;
}

static bool header_is(const uint8_t *name, size_t len, const char *expected)
{
    return len == strlen(expected) && memcmp(name, expected, len) == 0;
}

static void request_header(struct rpc_call *call, const uint8_t *name, size_t name_len, const char *value, size_t len)
{
    uint64_t timeout_usec;
    if (header_is(name, name_len, ":path")) {
        call->path_too_long = len >= sizeof(call->path);
        if (!call->path_too_long)
            memcpy(call->path, value, len);
    } else if (header_is(name, name_len, ":method")) {
        call->is_post = len == 4 && memcmp(value, "POST", 4) == 0;
    } else if (header_is(name, name_len, "content-type")) {
        call->content_type_ok = grpc_content_type_is_ours(value, len);
    } else if (header_is(name, name_len, "grpc-timeout") && grpc_timeout_parse(value, len, &timeout_usec) == 0) {
        call->deadline_usec = clock_mono_usec() + timeout_usec;
    }
}

static void response_header(struct rpc_call *call, const uint8_t *name, size_t name_len, const char *value, size_t len)
{
    if (header_is(name, name_len, ":status")) {
        call->http_status = 0;
        for (size_t i = 0; i < len && i < 3; i++)
            call->http_status = call->http_status * 10 + (unsigned)(value[i] - '0');
    } else if (header_is(name, name_len, "content-type")) {
        call->content_type_ok = grpc_content_type_is_ours(value, len);
    } else if (header_is(name, name_len, "grpc-status")) {
        call->have_finish = true;
        call->finish_status = grpc_status_parse(value, len);
    } else if (header_is(name, name_len, "grpc-message") && call->finish_text == NULL) {
        call->finish_text = mem_alloc(1, GRPC_TEXT_MAX + 1);
        if (call->finish_text != NULL)
            grpc_text_decode(value, len, call->finish_text, GRPC_TEXT_MAX + 1);
    }
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *h2 = arg;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    struct rpc_call *call = call_of(session, frame->hd.stream_id);
    if (call != NULL)
        call->header_bytes = 0;
    if (!h2->is_server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    call = call_new(h2->dispatch, true, &h2->limits);
    if (call == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    call->stream_id = frame->hd.stream_id;
    if (h2->hooks.request(h2->arg, call) < 0 ||
        nghttp2_session_set_stream_user_data(session, call->stream_id, call) != 0) {
        call_unref(call);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    call_link(h2, call);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
    const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
    struct h2 *h2 = arg;
    (void)flags;
    struct rpc_call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL)
        return 0;
    call->header_bytes += name_len + value_len + 32;
    if (call->header_bytes > HEADER_BYTES_MAX)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (!h2->is_server)
        response_header(call, name, name_len, (const char *)value, value_len);
    else if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        request_header(call, name, name_len, (const char *)value, value_len);
    return 0;
}

/* A message that cannot be taken ends the call, not the connection. */
static void receive_failed(struct h2 *h2, struct rpc_call *call, const struct err *err)
{
    /* Other gRPC stacks call an oversized message RESOURCE_EXHAUSTED. */
    enum rpc_status status =
        err->code == ERR_TOO_LARGE ? RPC_RESOURCE_EXHAUSTED : (enum rpc_status)err_grpc_status(err->code);
    call_set_status(call, status, err->text);
    if (call->is_server) {
        rpc_call_finish(call, status, err->text);
    } else {
        h2_reset(h2, call, NGHTTP2_CANCEL);
        call->discard = true;
        call_end(call, status, err->text);
    }
}

static int on_data_chunk(
    nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t n, void *arg)
{
    struct h2 *h2 = arg;
    struct err err = ERR_INIT;
    (void)flags;
    struct rpc_call *call = call_of(session, stream_id);
    if (call == NULL || call->ended) {
        h2_check(h2, nghttp2_session_consume(session, stream_id, n));
        return 0;
    }
    if (call_receive(call, data, n, &err) < 0) {
        h2_consume(h2, call, n);
        receive_failed(h2, call, &err);
    }
    return 0;
}

static void client_finished(struct h2 *h2, struct rpc_call *call)
{
    enum rpc_status status = call->finish_status;
    const char *text = call->finish_text;
    if (call->http_status != 200) {
        status = grpc_status_from_http(call->http_status);
        text = "the server answered with an HTTP error, not with gRPC";
    } else if (!call->have_finish) {
        status = RPC_INTERNAL;
        text = "the server ended the call without a status";
    } else if (status == RPC_OK && !grpc_parser_is_between(&call->parser)) {
        status = RPC_INTERNAL;
        text = "the last message was cut off";
    }
    call_end(call, status, text);
    if (!nghttp2_session_get_stream_local_close(h2->session, call->stream_id))
        h2_reset(h2, call, NGHTTP2_NO_ERROR);
}

static void remote_ended(struct h2 *h2, struct rpc_call *call)
{
    call->remote_half = true;
    if (!h2->is_server) {
        client_finished(h2, call);
    } else if (!grpc_parser_is_between(&call->parser) && !call->discard) {
        struct err err = ERR_INIT;
        err_set(&err, ERR_INVALID, "the last message was cut off");
        receive_failed(h2, call, &err);
    }
    call_wake(call);
}

static void headers_received(struct h2 *h2, const nghttp2_frame *frame, struct rpc_call *call)
{
    if (h2->is_server && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        call->begin_pending = true;
        call_wake(call);
    } else if (!h2->is_server && !call->content_type_ok && call->http_status == 200 && !call->ended) {
        h2_reset(h2, call, NGHTTP2_CANCEL);
        call_end(call, RPC_UNKNOWN, "the server's answer is not gRPC (content-type)");
    }
}

static void settings_received(struct h2 *h2, const nghttp2_frame *frame)
{
    if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 || !noise_allowed(h2) || h2->up)
        return;
    h2->up = true;
    h2->hooks.up(h2->arg);
}

static void ping_received(struct h2 *h2, const nghttp2_frame *frame)
{
    if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
        (void)noise_allowed(h2);
    } else if (h2->draining && !h2->drain_final) {
        h2->drain_final = true;
        h2_check(h2, nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
                         nghttp2_session_get_last_proc_stream_id(h2->session), NGHTTP2_NO_ERROR, NULL, 0));
    }
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *h2 = arg;
    struct rpc_call *call = call_of(session, frame->hd.stream_id);
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (call != NULL)
            headers_received(h2, frame, call);
        break;
    case NGHTTP2_DATA:
        if (frame->hd.length == 0 && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
            (void)noise_allowed(h2);
        break;
    case NGHTTP2_SETTINGS:
        settings_received(h2, frame);
        break;
    case NGHTTP2_PING:
        ping_received(h2, frame);
        break;
    case NGHTTP2_PRIORITY:
        (void)noise_allowed(h2);
        break;
    case NGHTTP2_GOAWAY:
        h2->hooks.goaway(h2->arg);
        break;
    default:
        break;
    }
    if (call != NULL && (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
        remote_ended(h2, call);
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *h2 = arg;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    h2->noise_left = NOISE_BURST; /* PINGs that answer content (bandwidth probes of other gRPC stacks) are no flood */
    if (h2->is_server && frame->hd.type == NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
        nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
        h2_check(h2, nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR));
    return 0;
}

/* A request that never went out: cancelled before, or the server is going away. nghttp2 has no stream for it. */
static int on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
    struct h2 *h2 = arg;
    (void)session;
    (void)error;
    if (h2->is_server || frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    for (struct rpc_call *call = h2->first; call != NULL; call = call->h2_next)
        if (call->stream_id == frame->hd.stream_id) {
            call_end(call, RPC_UNAVAILABLE, "the server takes no new calls on this connection");
            if (nghttp2_session_get_stream_user_data(h2->session, call->stream_id) == NULL)
                call_unlink(h2, call);
            break;
        }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t h2_error, void *arg)
{
    struct h2 *h2 = arg;
    struct rpc_call *call = call_of(session, stream_id);
    if (call == NULL)
        return 0;
    (void)nghttp2_session_set_stream_user_data(session, stream_id, NULL);
    if (call->unconsumed > 0)
        h2_check(h2, nghttp2_session_consume_connection(session, call->unconsumed));
    call->unconsumed = 0;
    if (!h2->is_server)
        call_end(call, h2_error == NGHTTP2_NO_ERROR ? RPC_INTERNAL : grpc_status_from_reset(h2_error),
            "the server broke off the call");
    else if (call->trailers_submitted)
        call_end(call, RPC_OK, NULL);
    else
        call_end(call, RPC_CANCELLED, "the client broke off the call");
    call_unlink(h2, call);
    return 0;
}

/* ---- session ---- */

static int session_new(struct h2 *h2)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int rc = NGHTTP2_ERR_NOMEM;
    if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0) {
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
        nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_sent);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
        nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
        nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, on_frame_length);
        nghttp2_option_set_no_auto_window_update(option, 1);
        nghttp2_option_set_no_closed_streams(option, 1);
        nghttp2_option_set_max_outbound_ack(option, ACKS_MAX);
        nghttp2_option_set_stream_reset_rate_limit(option, RESET_BURST, RESET_PER_SEC);
        rc = h2->is_server ? nghttp2_session_server_new3(&h2->session, callbacks, h2, option, &h2_memory)
                           : nghttp2_session_client_new3(&h2->session, callbacks, h2, option, &h2_memory);
    }
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    return rc;
}

static int session_settings(struct h2 *h2)
{
    nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, h2->is_server ? h2->limits.streams_max : 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h2->limits.stream_window},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, FRAME_BYTES_MAX},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_BYTES_MAX},
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };
    size_t n = ARRAY_LEN(entries) - (h2->is_server ? 1 : 0);
    int rc = nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, entries, n);
    if (rc == 0)
        rc = nghttp2_session_set_local_window_size(
            h2->session, NGHTTP2_FLAG_NONE, 0, (int32_t)h2->limits.connection_window);
    return rc;
}

int h2_new(bool is_server, const struct rpc_limits *limits, struct dispatch *dispatch, const struct h2_hooks *hooks,
    void *arg, struct h2 **ret_h2, struct err *err)
{
    struct h2 *h2 = mem_new(struct h2);
    if (h2 == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an HTTP/2 session");
    *h2 = (struct h2){.is_server = is_server,
        .limits = *limits,
        .hooks = *hooks,
        .arg = arg,
        .dispatch = dispatch_ref(dispatch),
        .noise_left = NOISE_BURST,
        .noise_usec = clock_mono_usec()};
    int rc = session_new(h2);
    if (rc == 0)
        rc = session_settings(h2);
    if (rc != 0) {
        h2_free(h2);
        return err_set(err, rc == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_INTERNAL, "making an HTTP/2 session: %s",
            nghttp2_strerror(rc));
    }
    *ret_h2 = h2;
    return 0;
}

void h2_free(struct h2 *h2)
{
    if (h2 == NULL)
        return;
    h2_abort(h2, RPC_UNAVAILABLE, "the connection was closed");
    nghttp2_session_del(h2->session);
    dispatch_unref(h2->dispatch);
    free(h2);
}

int h2_receive(struct h2 *h2, const void *data, size_t n, struct err *err)
{
    ssize_t used = nghttp2_session_mem_recv(h2->session, data, n);
    if (used < 0)
        return err_set(err, used == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_INVALID, "bad HTTP/2 from the peer: %s",
            nghttp2_strerror((int)used));
    return 0;
}

int h2_send(struct h2 *h2, struct err *err)
{
    while (!h2->failed && !h2->hooks.full(h2->arg)) {
        const uint8_t *data = NULL;
        ssize_t n = nghttp2_session_mem_send(h2->session, &data);
        if (n == 0)
            return 0;
        if (n < 0 || h2->hooks.emit(h2->arg, data, (size_t)n) < 0)
            h2->failed = true;
    }
    return h2->failed ? err_set(err, ERR_NOMEM, "no memory to send on the connection") : 0;
}

bool h2_wants_write(const struct h2 *h2)
{
    return h2->failed || nghttp2_session_want_write(h2->session) != 0;
}

bool h2_is_over(const struct h2 *h2)
{
    return nghttp2_session_want_read(h2->session) == 0 && nghttp2_session_want_write(h2->session) == 0;
}

size_t h2_call_count(const struct h2 *h2)
{
    return h2->calls;
}

void h2_abort(struct h2 *h2, enum rpc_status status, const char *text)
{
    while (h2->first != NULL) {
        struct rpc_call *call = h2->first;
        call_end(call, status, text);
        call_unlink(h2, call);
    }
}
