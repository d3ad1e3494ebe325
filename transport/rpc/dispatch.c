/* SPDX-License-Identifier: Apache-2.0
 *
 * The queue of calls in which something happened. A defer source of the event loop empties it when nobody did before.
 */
#include "transport/rpc/dispatch.h"

#include <string.h>

#include "transport/base/mem.h"
#include "transport/rpc/call.h"

static int on_defer(sd_event_source *source, void *arg)
{
    (void)source;
    dispatch_run(arg);
    return 0;
}

int dispatch_new(sd_event *loop, struct dispatch **ret_dispatch, struct err *err)
{
    struct dispatch *d = mem_new(struct dispatch);
    if (d == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a queue of calls");
    d->refs = 1;
    d->loop = loop;
    int rc = loop == NULL ? 0 : sd_event_add_defer(loop, &d->defer, on_defer, d);
    if (rc >= 0 && loop != NULL)
        rc = sd_event_source_set_enabled(d->defer, SD_EVENT_OFF);
    if (rc < 0) {
        dispatch_unref(d);
        return err_sys(err, -rc, "adding a queue of calls to the event loop");
    }
    *ret_dispatch = d;
    return 0;
}

struct dispatch *dispatch_ref(struct dispatch *d)
{
    d->refs++;
    return d;
}

void dispatch_unref(struct dispatch *d)
{
    if (d == NULL || --d->refs > 0)
        return;
    sd_event_source_disable_unref(d->defer);
    free(d);
}

void dispatch_add(struct dispatch *d, struct rpc_call *call)
{
    if (call->dispatch_queued)
        return;
    call->dispatch_queued = true;
    call->dispatch_next = NULL;
    (void)call_ref(call);
    if (d->last != NULL)
        d->last->dispatch_next = call;
    else
        d->first = call;
    d->last = call;
    if (d->defer != NULL && !d->running)
        (void)sd_event_source_set_enabled(d->defer, SD_EVENT_ONESHOT);
}

static void run_queue(struct dispatch *d)
{
    while (d->first != NULL) {
        struct rpc_call *call = d->first;
        d->first = call->dispatch_next;
        if (d->first == NULL)
            d->last = NULL;
        call->dispatch_queued = false;
        call_deliver(call);
        call_unref(call);
    }
}

void dispatch_run(struct dispatch *d)
{
    if (d->running)
        return;
    (void)dispatch_ref(d);
    d->running = true;
    run_queue(d);
    d->running = false;
    dispatch_unref(d);
}

void dispatch_close(struct dispatch *d)
{
    bool was_running = d->running;
    (void)dispatch_ref(d);
    d->running = d->closing = true;
    run_queue(d);
    d->running = was_running;
    d->defer = sd_event_source_disable_unref(d->defer);
    dispatch_unref(d);
}
