/* SPDX-License-Identifier: Apache-2.0
 *
 * A call from the inside: what h2.c, the server and the channel see of it. References: one for the owner's handle until
 * on_end returned, one while it is in an h2 session's list, one while it is queued for dispatch.
 */
#ifndef TRANSPORT_RPC_CALL_H
#define TRANSPORT_RPC_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/rpc/dispatch.h"
#include "transport/rpc/grpc.h"
#include "transport/rpc/rpc.h"

struct h2;

#define CALL_PATH_MAX 256
#define CALL_ADDRESS_SIZE 128

/* One message in a queue. Sending: prefix, head, body, one behind the other; receiving: body. */
struct call_message {
    struct call_message *next;
    uint8_t prefix[GRPC_PREFIX_SIZE];
    struct buf head, body;
    size_t sent; /* of prefix, head and body together */
};

struct call_queue {
    struct call_message *first, *last;
};

struct rpc_call {
    unsigned refs;
    bool is_server;
    struct dispatch *dispatch;
    struct rpc_call *dispatch_next;
    bool dispatch_queued;

    const struct rpc_call_ops *ops; /* NULL before accept and after on_end */
    void *arg;
    /* on_begin: server: routes the call when its headers are there; client: tells the owner that it goes out. on_gone: it has ended. */
    void (*on_begin)(void *owner, struct rpc_call *call);
    void (*on_gone)(void *owner, struct rpc_call *call);
    void *owner;
    bool begin_pending;

    struct h2 *h2; /* NULL: not on a connection (yet, or any more) */
    struct rpc_call *h2_next, *h2_prev;
    int32_t stream_id;
    struct rpc_call *wait_next; /* in the channel's list of calls that wait for a connection */
    bool fail_fast;
    struct tls_peer peer;
    char address[CALL_ADDRESS_SIZE];

    char path[CALL_PATH_MAX];
    bool is_post, has_path, content_type_ok, path_too_long;
    unsigned http_status; /* client: of the response */
    size_t header_bytes;
    uint64_t deadline_usec; /* monotonic; 0 = none */
    sd_event_source *timer;

    struct grpc_parser parser;
    struct call_queue inbox;
    size_t unconsumed; /* received body bytes that still count against the stream's window */
    size_t whole;      /* of them: in messages that are complete, and are the owner's to consume */
    bool discard;      /* what still comes in is dropped */
    bool remote_half, half_delivered;

    struct call_queue outbox;
    size_t queued; /* bytes in outbox not yet sent */
    size_t queue_max;
    bool over_mark, writable_pending;
    bool headers_sent; /* server: response headers submitted */
    bool local_half;   /* client half_close, server finish: nothing more will be queued */
    bool deferred;     /* the data source said "nothing now" */
    bool trailers_submitted;

    bool have_status; /* status and text below are final */
    bool ended;       /* on_end may be delivered */
    bool end_delivered;
    enum rpc_status status;
    char *text;
    /* grpc-status and grpc-message: on a server what goes out, on a client what came in. */
    bool have_finish;
    enum rpc_status finish_status;
    char *finish_text;
};

struct rpc_call *call_new(struct dispatch *dispatch, bool is_server, const struct rpc_limits *limits);
struct rpc_call *call_ref(struct rpc_call *call);
void call_unref(struct rpc_call *call);

/* Sets the final status, the one that on_end gives, unless there is one already. text may be NULL. */
void call_set_status(struct rpc_call *call, enum rpc_status status, const char *text);
/* It is over on this side: status (unless there is one), on_end through dispatch. */
void call_end(struct rpc_call *call, enum rpc_status status, const char *text);
void call_wake(struct rpc_call *call); /* queue for dispatch */
/* Runs the owner's callbacks for what is pending. Called by dispatch_run. */
void call_deliver(struct rpc_call *call);
/* Arms the timer for deadline_usec. */
int call_arm_deadline(struct rpc_call *call, sd_event *loop, struct err *err);

/* Received bytes of the stream; 0, or -1 with err when the call cannot go on. */
int call_receive(struct rpc_call *call, const uint8_t *data, size_t n, struct err *err);
/* Next contiguous piece of the outbox; returns its length (0: empty). */
size_t call_peek_out(const struct rpc_call *call, const uint8_t **ret_data);
void call_advance_out(struct rpc_call *call, size_t n);

#endif
