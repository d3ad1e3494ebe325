/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the HTTP/2 session share: h2.c (life), h2_in.c (what comes in), h2_out.c (what goes out).
 */
#ifndef TRANSPORT_RPC_H2_PRIVATE_H
#define TRANSPORT_RPC_H2_PRIVATE_H

#include <nghttp2/nghttp2.h>

#include "transport/rpc/h2.h"

#define H2_HEADER_BYTES_MAX 16384u /* per block, as HTTP/2 counts: name + value + 32 each */
#define H2_FRAME_BYTES_MAX 262144u /* larger DATA frames than 16 KiB save a TLS record per frame header */
/* The connection's window is shared by all streams. If it waited until messages are consumed, a few streams that have received a part of a
 * message each could use it up, and none of them could ever be completed. So what comes in is given back at once, while no more than a window of
 * complete messages waits for owners. Parts are bounded by the streams' own windows and the largest message: to wait for them here would be to wait
 * for ever, for only more bytes make them whole. */
#define H2_NOISE_BURST 200u /* frames without content before they are counted against time */

struct h2 {
    nghttp2_session *session;
    nghttp2_mem memory; /* of the session, with this as its argument */
    void *frame_pages;  /* where nghttp2 builds frames, see h2.c; NULL: on the heap */
    size_t frame_pages_bytes;
    bool is_server;
    struct rpc_limits limits;
    struct dispatch *dispatch;
    struct h2_hooks hooks;
    void *arg;
    struct rpc_call *first;
    size_t calls;
    size_t held; /* complete messages that were not consumed */
    size_t owed; /* received and not yet given back to the connection's window */
    unsigned noise_left;
    uint64_t noise_usec; /* when noise_left was last refilled */
    bool up, draining, drain_final, failed;
};

/* The call of a stream; NULL when it has none (any more). */
struct rpc_call *h2_call_of(nghttp2_session *session, int32_t stream_id);
/* Into and out of the session's list, with a reference. */
void h2_link(struct h2 *h2, struct rpc_call *call);
void h2_unlink(struct h2 *h2, struct rpc_call *call);
/* Looks at what nghttp2 answered (a failure of memory ends the connection at the next h2_send) and asks for h2_send. */
void h2_check(struct h2 *h2, int rc);
/* n bytes more have come in, or h2_let_go made room: opens the connection's window. */
void h2_repay(struct h2 *h2, size_t n);
void h2_set_in_callbacks(nghttp2_session_callbacks *callbacks);
void h2_set_out_callbacks(nghttp2_session_callbacks *callbacks);

#endif
