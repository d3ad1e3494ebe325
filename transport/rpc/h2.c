/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP/2 session of one connection over nghttp2 1.52: its life, its settings and limits, and the end of it. Its callbacks
 * (h2_in.c, h2_out.c) only note what happened in the call and queue it for dispatch; they never run owners' code and never
 * send or receive (nghttp2 forbids it). Windows grow back only when the owner consumed a message (no_auto_window_update).
 *
 * Limits against a hostile peer: streams, header bytes, message bytes (call.c), resets (nghttp2's rate limit, then GOAWAY),
 * answers that it does not read, and one allowance for frames that cost us work and carry nothing (PING, SETTINGS, PRIORITY, empty DATA).
 */
#include "transport/rpc/h2.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/rpc/h2_private.h"

#define RESET_BURST 400u
#define RESET_PER_SEC 50u
#define ACKS_MAX 200u
/* Frames that wait to be sent. Those of calls are a few for each; the rest is for streams that are refused, each a frame, for which nghttp2 has no limit:
 * a stock client may have begun some thousands before it knew ours. */
#define ANSWERS_PER_STREAM 8u
#define ANSWERS_MAX 10000u

/* ---- memory ----
 *
 * Each session has a buffer of 16 KiB in which nghttp2 builds frames. Ours are small there (what calls send is not copied into it), so
 * all but its first page would never be touched; on the heap it lies where something else was before and takes all of its memory. It gets
 * pages of its own instead: 12 KiB less for each of ten thousand agents.
 */
#define FRAME_BUFFER_MIN 16384u

static void *frame_pages_map(struct h2 *h2, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (n + page - 1) / page * page;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) /* so many mappings are not allowed: the heap will do */
        return NULL;
    h2->frame_pages = p;
    h2->frame_pages_bytes = bytes;
    return p;
}

/* nghttp2 asks for its buffers with malloc, or with realloc of nothing. */
static void *allocate(struct h2 *h2, size_t n)
{
    void *p = n >= FRAME_BUFFER_MIN && h2->frame_pages == NULL ? frame_pages_map(h2, n) : NULL;

    return p != NULL ? p : mem_resize(NULL, 1, n);
}

static void *h2_malloc(size_t n, void *arg)
{
    return allocate(arg, n);
}

static void h2_free_memory(void *p, void *arg)
{
    struct h2 *h2 = arg;

    if (p == NULL || p != h2->frame_pages) {
        free(p);
        return;
    }
    (void)munmap(p, h2->frame_pages_bytes);
    h2->frame_pages = NULL;
}

static void *h2_calloc(size_t count, size_t size, void *arg)
{
    (void)arg;
    return mem_alloc(count, size);
}

static void *h2_realloc(void *p, size_t n, void *arg)
{
    struct h2 *h2 = arg;

    if (p == NULL)
        return allocate(h2, n);
    if (p != h2->frame_pages)
        return mem_resize(p, 1, n);
    void *moved = mem_resize(NULL, 1, n);

    if (moved != NULL) {
        memcpy(moved, p, n < h2->frame_pages_bytes ? n : h2->frame_pages_bytes);
        h2_free_memory(p, h2);
    }
    return moved;
}

/* ---- calls of the session ---- */

void h2_link(struct h2 *h2, struct rpc_call *call)
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

void h2_unlink(struct h2 *h2, struct rpc_call *call)
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

struct rpc_call *h2_call_of(nghttp2_session *session, int32_t stream_id)
{
    return stream_id == 0 ? NULL : nghttp2_session_get_stream_user_data(session, stream_id);
}

void h2_check(struct h2 *h2, int rc)
{
    if (rc < 0 && nghttp2_is_fatal(rc))
        h2->failed = true;
    h2->hooks.wake(h2->arg);
}

/* ---- session ---- */

static int session_new(struct h2 *h2)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int rc = NGHTTP2_ERR_NOMEM;
    if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0) {
        h2_set_in_callbacks(callbacks);
        h2_set_out_callbacks(callbacks);
        nghttp2_option_set_no_auto_window_update(option, 1);
        nghttp2_option_set_no_closed_streams(option, 1);
        nghttp2_option_set_max_outbound_ack(option, ACKS_MAX);
        nghttp2_option_set_stream_reset_rate_limit(option, RESET_BURST, RESET_PER_SEC);
        h2->memory = (nghttp2_mem){h2, h2_malloc, h2_free_memory, h2_calloc, h2_realloc};
        rc = h2->is_server ? nghttp2_session_server_new3(&h2->session, callbacks, h2, option, &h2->memory)
                           : nghttp2_session_client_new3(&h2->session, callbacks, h2, option, &h2->memory);
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
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, H2_FRAME_BYTES_MAX},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_HEADER_BYTES_MAX},
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
        .noise_left = H2_NOISE_BURST,
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

void h2_set_windows(struct h2 *h2, uint32_t stream, uint32_t connection)
{
    nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, stream};
    if (stream != h2->limits.stream_window) {
        h2->limits.stream_window = stream;
        h2_check(h2, nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, &entry, 1));
    }
    if (connection > h2->limits.connection_window) {
        h2->limits.connection_window = connection;
        h2_check(h2, nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0, (int32_t)connection));
        h2_repay(h2, 0);
    }
}

void h2_set_send_queue(struct h2 *h2, size_t bytes)
{
    for (struct rpc_call *call = h2->first; call != NULL; call = call->h2_next)
        call->queue_max = bytes;
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

bool h2_is_swamped(const struct h2 *h2)
{
    return h2->is_server && nghttp2_session_get_outbound_queue_size(h2->session) >
                                ANSWERS_MAX + (size_t)ANSWERS_PER_STREAM * h2->limits.streams_max;
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
        h2_unlink(h2, call);
    }
}
