/* SPDX-License-Identifier: Apache-2.0
 *
 * What an HTTP/2 session receives: headers into the call, data into its messages, the end of a stream into its status. A server
 * that is done before its client sends RST_STREAM(NO_ERROR) after its trailers went out (not before: it would cancel them).
 */
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/rpc/h2_private.h"

#define NOISE_PER_SEC 20u /* frames without content: refilled at this rate, and in full whenever we send content */

/* False when the peer has used up its allowance of frames without content: GOAWAY(ENHANCE_YOUR_CALM) is on its way. */
static bool noise_allowed(struct h2 *h2)
{
    uint64_t now = clock_mono_usec();
    uint64_t gained = (now - h2->noise_usec) * NOISE_PER_SEC / USEC_PER_SEC;
    if (gained > 0) {
        h2->noise_left = gained + h2->noise_left > H2_NOISE_BURST ? H2_NOISE_BURST : h2->noise_left + (unsigned)gained;
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
    struct rpc_call *call = h2_call_of(session, frame->hd.stream_id);
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
    h2_link(h2, call);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
    const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
    struct h2 *h2 = arg;
    (void)flags;
    struct rpc_call *call = h2_call_of(session, frame->hd.stream_id);
    if (call == NULL)
        return 0;
    call->header_bytes += name_len + value_len + 32;
    if (call->header_bytes > H2_HEADER_BYTES_MAX)
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
    struct rpc_call *call = h2_call_of(session, stream_id);
    if (call == NULL || call->ended) {
        h2_check(h2, nghttp2_session_consume_stream(session, stream_id, n));
    } else if (call_receive(call, data, n, &err) < 0) {
        h2_consume(h2, call, n);
        receive_failed(h2, call, &err);
    }
    h2_repay(h2, n);
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
    struct rpc_call *call = h2_call_of(session, frame->hd.stream_id);
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
    h2->noise_left =
        H2_NOISE_BURST; /* PINGs that answer content (bandwidth probes of other gRPC stacks) are no flood */
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
                h2_unlink(h2, call);
            break;
        }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t h2_error, void *arg)
{
    struct h2 *h2 = arg;
    struct rpc_call *call = h2_call_of(session, stream_id);
    if (call == NULL)
        return 0;
    (void)nghttp2_session_set_stream_user_data(session, stream_id, NULL);
    h2_let_go(h2, call->whole);
    call->unconsumed = call->whole = 0;
    if (!h2->is_server)
        call_end(call, h2_error == NGHTTP2_NO_ERROR ? RPC_INTERNAL : grpc_status_from_reset(h2_error),
            "the server broke off the call");
    else if (call->trailers_submitted)
        call_end(call, RPC_OK, NULL);
    else
        call_end(call, RPC_CANCELLED, "the client broke off the call");
    h2_unlink(h2, call);
    return 0;
}

void h2_set_in_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}
