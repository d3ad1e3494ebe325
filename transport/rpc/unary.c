/* SPDX-License-Identifier: Apache-2.0
 *
 * One request, one reply.
 */
#include "transport/base/mem.h"
#include "transport/rpc/rpc.h"

struct unary {
    void (*done)(void *arg, enum rpc_status status, const char *text, struct buf *reply);
    void *arg;
    struct buf reply;
    unsigned replies;
};

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct unary *u = arg;
    (void)call;
    if (u->replies++ == 0)
        buf_move(&u->reply, message);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct unary *u = arg;
    (void)call;
    if (status == RPC_OK && u->replies != 1) {
        status = RPC_INTERNAL;
        text = "the server did not send exactly one reply";
    }
    if (status != RPC_OK)
        buf_done(&u->reply);
    u->done(u->arg, status, text, &u->reply);
    buf_done(&u->reply);
    free(u);
}

static const struct rpc_call_ops unary_ops = {
    .on_message = on_message,
    .on_end = on_end,
    .auto_consume = true,
};

int rpc_unary(struct rpc_channel *channel, const char *path, uint64_t deadline_usec, struct buf *request,
    void (*done)(void *arg, enum rpc_status status, const char *text, struct buf *reply), void *arg, struct err *err)
{
    struct rpc_call *call = NULL;
    struct unary *u = mem_new(struct unary);
    if (u == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a call");
    u->done = done;
    u->arg = arg;
    if (rpc_call_start(channel, path, deadline_usec, true, &unary_ops, u, &call, err) < 0) {
        free(u);
        return -1;
    }
    /* From here on the outcome comes through on_end alone: a send that fails ends the call. */
    if (rpc_call_send(call, request, NULL) < 0)
        rpc_call_cancel(call);
    rpc_call_half_close(call);
    return 0;
}
