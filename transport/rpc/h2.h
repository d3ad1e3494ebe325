/* SPDX-License-Identifier: Apache-2.0
 *
 * One HTTP/2 session, client or server, without any I/O: bytes in through h2_receive, bytes out through the emit hook
 * from h2_send. Streams are calls (call.h). Owners' callbacks never run from here: calls are queued for dispatch.
 */
#ifndef TRANSPORT_RPC_H2_H
#define TRANSPORT_RPC_H2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/rpc/call.h"
#include "transport/rpc/rpc.h"

struct h2;

struct h2_hooks {
    /* Output. `full` true: the next frame waits (h2_send returns); emit always takes all. -1: out of memory. */
    int (*emit)(void *arg, const void *data, size_t n);
    bool (*full)(void *arg);
    /* Something is to be sent: call h2_send soon. */
    void (*wake)(void *arg);
    /* The peer's first SETTINGS arrived. */
    void (*up)(void *arg);
    /* The peer will take no new calls. */
    void (*goaway)(void *arg);
    /* Server: a new call; set its on_begin, on_gone, owner, peer and address. -1: refuse. */
    int (*request)(void *arg, struct rpc_call *call);
};

int h2_new(bool is_server, const struct rpc_limits *limits, struct dispatch *dispatch, const struct h2_hooks *hooks,
    void *arg, struct h2 **ret_h2, struct err *err);
/* All calls must have been ended (h2_abort). */
void h2_free(struct h2 *h2);
int h2_receive(struct h2 *h2, const void *data, size_t n, struct err *err);
int h2_send(struct h2 *h2, struct err *err);
bool h2_wants_write(const struct h2 *h2);
/* Neither wants to read nor to write: close the connection. */
bool h2_is_over(const struct h2 *h2);
/* Server: more answers wait than any peer that reads them could cause. */
bool h2_is_swamped(const struct h2 *h2);
size_t h2_call_count(const struct h2 *h2);
/* Ends every call; it is not sent to the peer. Nothing but h2_free may follow. */
void h2_abort(struct h2 *h2, enum rpc_status status, const char *text);
int h2_ping(struct h2 *h2);
/* GOAWAY and nothing more: the connection is about to be closed. */
void h2_terminate(struct h2 *h2);
struct dispatch *h2_dispatch(struct h2 *h2);
/* Windows of this side, of open streams and of those to come. A smaller one takes nothing back: a stream that has sent more than it allows sends
 * nothing until so much was consumed. The connection's only grows. */
void h2_set_windows(struct h2 *h2, uint32_t stream, uint32_t connection);
/* rpc_limits.send_queue_max of calls that are under way. */
void h2_set_send_queue(struct h2 *h2, size_t bytes);
/* No new calls: GOAWAY now, and again with the last stream when a PING came back. */
void h2_drain(struct h2 *h2);

/* Starts a client call on this session. */
int h2_start(struct h2 *h2, struct rpc_call *call, const char *authority, struct err *err);
/* From call.c: there is something to send, or the end of it. */
void h2_resume(struct h2 *h2, struct rpc_call *call);
/* Gives n bytes back to the stream's window. The connection's opens by itself (h2_private.h). */
void h2_consume(struct h2 *h2, struct rpc_call *call, size_t n);
/* Calls of this session hold so many bytes more, or less, in complete messages that were not consumed. */
void h2_hold(struct h2 *h2, size_t n);
void h2_let_go(struct h2 *h2, size_t n);
void h2_reset(struct h2 *h2, struct rpc_call *call, uint32_t h2_error);
/* Server: a plain HTTP status without a body (415). */
void h2_respond_http(struct h2 *h2, struct rpc_call *call, unsigned http_status);

#endif
