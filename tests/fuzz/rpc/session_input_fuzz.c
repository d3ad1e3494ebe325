/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes from a client into the HTTP/2 session core of a server whose calls echo; what comes out is thrown away.
 */
#include <string.h>

#include "transport/rpc/h2.h"
#include "transport/rpc/limits.h"

static void echo_message(struct rpc_call *call, void *arg, struct buf *message)
{
    (void)arg;
    (void)rpc_call_send(call, message, NULL);
}

static void echo_half(struct rpc_call *call, void *arg)
{
    (void)arg;
    rpc_call_finish(call, RPC_OK, "100 %");
}

static const struct rpc_call_ops echo_ops = {.on_message = echo_message, .on_half = echo_half, .auto_consume = true};

static int emit(void *arg, const void *data, size_t n)
{
    (void)arg;
    (void)data;
    (void)n;
    return 0;
}

static bool full(void *arg)
{
    (void)arg;
    return false;
}

static void nothing(void *arg)
{
    (void)arg;
}

static int request(void *arg, struct rpc_call *call)
{
    (void)arg;
    call->ops = &echo_ops;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct h2_hooks hooks = {emit, full, nothing, nothing, nothing, request};
    struct rpc_limits limits;
    struct dispatch *dispatch = NULL;
    struct h2 *h2 = NULL;
    limits_resolve(&(struct rpc_limits){.message_max = 65536}, &limits);
    if (dispatch_new(NULL, &dispatch, NULL) < 0 || h2_new(true, &limits, dispatch, &hooks, NULL, &h2, NULL) < 0)
        return 0;
    size_t half = size / 2;
    if (h2_receive(h2, data, half, NULL) == 0) {
        dispatch_run(dispatch);
        (void)h2_send(h2, NULL);
        (void)h2_receive(h2, data + half, size - half, NULL);
        dispatch_run(dispatch);
        (void)h2_send(h2, NULL);
    }
    h2_free(h2);
    dispatch_close(dispatch);
    dispatch_unref(dispatch);
    return 0;
}
