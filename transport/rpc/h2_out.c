/* SPDX-License-Identifier: Apache-2.0
 *
 * What an HTTP/2 session sends. Bulk data is not copied by nghttp2: the data source answers NO_COPY and on_send_data emits
 * straight from the call's messages. gRPC's shape: request HEADERS, DATA..., END_STREAM; response HEADERS, DATA..., HEADERS with
 * grpc-status and END_STREAM (submitted from inside the data source, at the end of the data), or that last block alone.
 */
#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/rpc/h2_private.h"

#define FRAME_BYTES_DEFAULT 16384u

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
    const struct rpc_call *call = h2_call_of(session, stream_id);
    size_t n = call == NULL || call->queued < FRAME_BYTES_DEFAULT ? FRAME_BYTES_DEFAULT : call->queued;
    n = n < H2_FRAME_BYTES_MAX ? n : H2_FRAME_BYTES_MAX;
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
        h2_check(h2, nghttp2_session_consume_stream(h2->session, call->stream_id, n));
}

void h2_hold(struct h2 *h2, size_t n)
{
    h2->held += n;
}

void h2_let_go(struct h2 *h2, size_t n)
{
    h2->held -= n;
    h2_repay(h2, 0);
}

void h2_repay(struct h2 *h2, size_t n)
{
    h2->owed += n;
    if (h2->owed == 0 || h2->held > h2->limits.connection_window)
        return;
    n = h2->owed;
    h2->owed = 0;
    h2_check(h2, nghttp2_session_consume_connection(h2->session, n));
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
    h2_link(h2, call);
    return 0;
}

void h2_set_out_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, on_frame_length);
}
