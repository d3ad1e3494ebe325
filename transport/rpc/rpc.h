/* SPDX-License-Identifier: Apache-2.0
 *
 * gRPC over HTTP/2 (nghttp2) and TLS 1.3: servers, channels and calls. Messages here are opaque bytes; protobuf is packed
 * and unpacked by the caller (transport/proto). Everything runs on the thread of the event loop given at creation.
 *
 * A call has the same handle on both sides. The owner gives callbacks; each gets the call and the owner's `arg`:
 *   on_begin    client: the call has a connection; what is sent from here on does not wait for one
 *   on_message  one whole message; the callee takes the bytes by buf_move or copies them before it returns. The bytes count
 *               against the flow-control window until rpc_call_consume(call, n) gives them back: a receiver that is behind
 *               simply does not, and the sender stops (back-pressure). With auto_consume set this is done on return.
 *   on_half     the other side will send no more messages (server: the request stream ended)
 *   on_writable the send queue fell below the low mark after rpc_call_send had returned 0
 *   on_end      exactly once, last: the final gRPC status (client) or how the call went away (server: RPC_OK when we finished
 *               it, else cancelled, deadline exceeded, connection lost). The handle is dead when it returns.
 * Callbacks may call any rpc_call_ function, and free the channel or the server: nothing is sent or received inside nghttp2's
 * callbacks, and none of ours runs inside one of the functions below except those that free. text is never NULL.
 */
#ifndef TRANSPORT_RPC_RPC_H
#define TRANSPORT_RPC_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/rpc/tls.h"

/* gRPC status codes, as the protocol numbers them. */
enum rpc_status {
    RPC_OK = 0,
    RPC_CANCELLED = 1,
    RPC_UNKNOWN = 2,
    RPC_INVALID_ARGUMENT = 3,
    RPC_DEADLINE_EXCEEDED = 4,
    RPC_NOT_FOUND = 5,
    RPC_ALREADY_EXISTS = 6,
    RPC_PERMISSION_DENIED = 7,
    RPC_RESOURCE_EXHAUSTED = 8,
    RPC_FAILED_PRECONDITION = 9,
    RPC_ABORTED = 10,
    RPC_OUT_OF_RANGE = 11,
    RPC_UNIMPLEMENTED = 12,
    RPC_INTERNAL = 13,
    RPC_UNAVAILABLE = 14,
    RPC_DATA_LOSS = 15,
    RPC_UNAUTHENTICATED = 16
};

struct rpc_call;
struct rpc_server;
struct rpc_channel;

struct rpc_call_ops {
    void (*on_begin)(struct rpc_call *call, void *arg);
    void (*on_message)(struct rpc_call *call, void *arg, struct buf *message);
    void (*on_half)(struct rpc_call *call, void *arg);
    void (*on_writable)(struct rpc_call *call, void *arg);
    void (*on_end)(struct rpc_call *call, void *arg, enum rpc_status status, const char *text);
    bool auto_consume;
};

struct rpc_limits {
    size_t message_max;         /* bytes of one received message; 0 = 4 MiB + 64 KiB */
    uint32_t stream_window;     /* 0 = 12.5 MB: 100 ms x 1 Gbit/s */
    uint32_t connection_window; /* 0 = twice the stream window */
    uint32_t streams_max;       /* per connection; 0 = 128 */
    uint32_t connections_max;   /* per server; 0 = 16384 */
    uint32_t accepts_per_sec;   /* new connections of a server, after a burst of as many; others wait; 0 = no limit */
    uint64_t handshake_usec;    /* of an attempt to connect too; 0 = 10 s */
    uint64_t backoff_max_usec;  /* longest pause between two attempts to connect, +- half; 0 = 10 s */
    uint64_t idle_usec;         /* PING after this long without a frame, closed after twice; 0 = 20 s */
    size_t send_queue_max;      /* bytes queued on one call before rpc_call_send says 0; 0 = 4 MiB */
    size_t read_ahead; /* bytes that TLS reads with one system call; 0 = 128 KiB. Less where messages are small */
};

/* ---- server ---- */
struct rpc_method {
    const char *path; /* "/leeward.replication.v1.Replication/Replicate" */
    /* Called when a call arrives, its peer known. Sets *ret_ops and *ret_arg; or returns -1 with err: the call is ended with
     * that error. */
    int (*accept)(
        struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err);
    bool allow_anonymous; /* enrolment and health only */
};

/* address: "127.0.0.1:9443", "[::]:9443", "0.0.0.0:0" (0: any free port) or "unix:/path". methods must outlive the server.
 * The health service (grpc.health.v1) is built in. tls NULL is allowed only on unix sockets (a plain one, for tests and
 * local helpers). */
int rpc_server_new(sd_event *loop, const char *address, struct tls_context *tls, const struct rpc_method *methods,
    size_t method_count, void *server_arg, const struct rpc_limits *limits, struct rpc_server **ret_server,
    struct err *err);
unsigned rpc_server_port(const struct rpc_server *server);
/* limits.stream_window, and twice that for a connection, of those that are there, too. A smaller one takes nothing back: a stream that has sent more
 * than it allows sends nothing until so much was consumed. */
void rpc_server_set_stream_window(struct rpc_server *server, uint32_t bytes);
/* Health of one service name ("" = the whole server). */
void rpc_server_set_serving(struct rpc_server *server, const char *service, bool serving);
/* Sends GOAWAY, refuses new calls; `drained` runs when the last call ended. */
void rpc_server_drain(struct rpc_server *server, void (*drained)(void *arg), void *arg);
void rpc_server_free(struct rpc_server *server); /* closes everything; on_end runs for each call */
/* Closes connections whose certificate is revoked now (after tls_set_revoked). */
void rpc_server_drop_revoked(struct rpc_server *server);

/* ---- client ---- */
/* Connects on first use and again after loss, with back-off (100 ms .. backoff_max_usec, jitter); a name is looked up each time, on a thread
 * of its own, and its addresses are tried in turn. The server must show a certificate with the role and, if expect_id is not
 * NULL, the id. A connection on which nothing is heard for twice idle_usec is given up. */
int rpc_channel_new(sd_event *loop, const char *address, struct tls_context *tls, const char *expect_role,
    const struct ident *expect_id, const struct rpc_limits *limits, struct rpc_channel **ret_channel, struct err *err);
/* limits.send_queue_max, of calls that are under way, too. */
void rpc_channel_set_send_queue(struct rpc_channel *channel, size_t bytes);
void rpc_channel_free(struct rpc_channel *channel); /* ends its calls with RPC_CANCELLED */
/* Starts a call. deadline_usec is a moment on the monotonic clock (clock_mono_usec() + ...), 0 = none.
 * While not connected the call waits (fail_fast false), or ends at once or when the present attempt to connect fails (true):
 * with RPC_UNAVAILABLE, or with RPC_UNAUTHENTICATED when one side refused the other's certificate; the text says why and what
 * to do. Never ends before it returned. */
int rpc_call_start(struct rpc_channel *channel, const char *path, uint64_t deadline_usec, bool fail_fast,
    const struct rpc_call_ops *ops, void *arg, struct rpc_call **ret_call, struct err *err);
/* One request, one reply, then `done(arg, status, text, reply)`; reply is empty unless status is RPC_OK. */
int rpc_unary(struct rpc_channel *channel, const char *path, uint64_t deadline_usec, struct buf *request,
    void (*done)(void *arg, enum rpc_status status, const char *text, struct buf *reply), void *arg, struct err *err);

/* ---- calls, both sides ---- */
/* Queues one message, taking its memory. Returns 1; 0 = queued too, but the queue is over its mark: wait for on_writable;
 * -1 when the call is over or memory is short. */
int rpc_call_send(struct rpc_call *call, struct buf *message, struct err *err);
/* As rpc_call_send for head and body as one message without copying either (bulk batches). */
int rpc_call_send2(struct rpc_call *call, struct buf *head, struct buf *body, struct err *err);
void rpc_call_consume(struct rpc_call *call, size_t message_bytes);
size_t rpc_call_queued(const struct rpc_call *call);
/* Client: no more messages from us. */
void rpc_call_half_close(struct rpc_call *call);
/* Server: ends the call after what is queued. text may be NULL. */
void rpc_call_finish(struct rpc_call *call, enum rpc_status status, const char *text);
/* Server: ends it with the status that the error's code maps to; the text is "text; correction". */
void rpc_call_fail(struct rpc_call *call, const struct err *err);
/* Either side: RST_STREAM(CANCEL); on_end follows. */
void rpc_call_cancel(struct rpc_call *call);
const struct tls_peer *rpc_call_peer(const struct rpc_call *call);
const char *rpc_call_address(const struct rpc_call *call); /* "10.0.0.7:51234", for logs */
uint64_t rpc_call_deadline(const struct rpc_call *call);   /* monotonic microseconds; 0 = none */

#endif
