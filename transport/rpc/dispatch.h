/* SPDX-License-Identifier: Apache-2.0
 *
 * Hands events of calls to their owners, outside of nghttp2's callbacks: a call in which something happened is queued once,
 * and its owner's callbacks run from dispatch_run (after input was taken in, or from the next turn of the loop). One
 * dispatch per server or channel.
 */
#ifndef TRANSPORT_RPC_DISPATCH_H
#define TRANSPORT_RPC_DISPATCH_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "transport/base/err.h"

struct rpc_call;

struct dispatch {
    unsigned refs;
    struct rpc_call *first, *last;
    sd_event *loop; /* NULL: dispatch_run is called by hand */
    sd_event_source *defer;
    bool running;
    bool closing; /* only ends are delivered */
};

int dispatch_new(sd_event *loop, struct dispatch **ret_dispatch, struct err *err);
struct dispatch *dispatch_ref(struct dispatch *d);
void dispatch_unref(struct dispatch *d); /* NULL allowed */
void dispatch_add(struct dispatch *d, struct rpc_call *call);
/* Runs callbacks until the queue is empty. Does nothing when it is running further up the stack. */
void dispatch_run(struct dispatch *d);
/* Delivers the ends of calls, also from inside a callback, and nothing else from then on: its server or channel goes away. */
void dispatch_close(struct dispatch *d);

#endif
