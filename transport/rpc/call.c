/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls: the two queues of messages, what the owner may do, and the delivery of events to the owner. Nothing here does
 * I/O: sending asks the h2 session to take from the outbox, receiving is fed by it. A call ends once: the first final status
 * wins, on_end follows through dispatch, and after it the owner's pointers are never used again; the h2 session may keep
 * the call a little longer, until the stream is closed on the wire.
 */
#include "transport/rpc/call.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/rpc/h2.h"

#define DEADLINE_ACCURACY_USEC 1000

/* ---- queues ---- */

static void message_free(struct call_message *m)
{
    if (m == NULL)
        return;
    buf_done(&m->head);
    buf_done(&m->body);
    free(m);
}

static void queue_push(struct call_queue *q, struct call_message *m)
{
    m->next = NULL;
    if (q->last != NULL)
        q->last->next = m;
    else
        q->first = m;
    q->last = m;
}

static struct call_message *queue_pop(struct call_queue *q)
{
    struct call_message *m = q->first;
    if (m != NULL) {
        q->first = m->next;
        if (q->first == NULL)
            q->last = NULL;
    }
    return m;
}

static void queue_clear(struct call_queue *q)
{
    for (struct call_message *m; (m = queue_pop(q)) != NULL;)
        message_free(m);
}

/* ---- life ---- */

struct rpc_call *call_new(struct dispatch *dispatch, bool is_server, const struct rpc_limits *limits)
{
    struct rpc_call *call = mem_new(struct rpc_call);
    if (call == NULL)
        return NULL;
    call->refs = 1;
    call->is_server = is_server;
    call->dispatch = dispatch_ref(dispatch);
    call->parser.message_max = limits->message_max;
    call->queue_max = limits->send_queue_max;
    return call;
}

struct rpc_call *call_ref(struct rpc_call *call)
{
    call->refs++;
    return call;
}

void call_unref(struct rpc_call *call)
{
    if (call == NULL || --call->refs > 0)
        return;
    sd_event_source_disable_unref(call->timer);
    queue_clear(&call->inbox);
    queue_clear(&call->outbox);
    grpc_parser_done(&call->parser);
    dispatch_unref(call->dispatch);
    free(call->text);
    free(call->finish_text);
    free(call);
}

void call_wake(struct rpc_call *call)
{
    dispatch_add(call->dispatch, call);
}

void call_set_status(struct rpc_call *call, enum rpc_status status, const char *text)
{
    if (call->have_status)
        return;
    call->have_status = true;
    call->status = status;
    /* Without memory the text is lost, the status is not. */
    call->text = text != NULL && text[0] != '\0' ? mem_strndup(text, GRPC_TEXT_MAX) : NULL;
}

void call_end(struct rpc_call *call, enum rpc_status status, const char *text)
{
    call_set_status(call, status, text);
    call->ended = true;
    call_wake(call);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *arg)
{
    struct rpc_call *call = arg;
    (void)source;
    (void)usec;
    if (call->ended)
        return 0;
    call_set_status(call, RPC_DEADLINE_EXCEEDED, "deadline exceeded");
    if (call->is_server && call->queued == 0 && !call->local_half)
        rpc_call_finish(call, RPC_DEADLINE_EXCEEDED, "deadline exceeded");
    else if (call->h2 != NULL)
        h2_reset(call->h2, call, NGHTTP2_CANCEL);
    queue_clear(&call->inbox);
    call_end(call, RPC_DEADLINE_EXCEEDED, NULL);
    return 0;
}

int call_arm_deadline(struct rpc_call *call, sd_event *loop, struct err *err)
{
    if (call->deadline_usec == 0 || loop == NULL)
        return 0;
    int rc = sd_event_add_time(
        loop, &call->timer, CLOCK_MONOTONIC, call->deadline_usec, DEADLINE_ACCURACY_USEC, on_deadline, call);
    return rc < 0 ? err_sys(err, -rc, "setting the deadline of a call") : 0;
}

/* ---- delivery ---- */

static void deliver_messages(struct rpc_call *call)
{
    while (call->ops != NULL && !call->discard && !call->dispatch->closing) {
        struct call_message *m = queue_pop(&call->inbox);
        if (m == NULL)
            return;
        size_t size = m->body.len;
        const struct rpc_call_ops *ops = call->ops;
        if (ops->on_message != NULL)
            ops->on_message(call, call->arg, &m->body);
        message_free(m);
        if (ops->auto_consume)
            rpc_call_consume(call, size);
    }
}

static void deliver_end(struct rpc_call *call)
{
    const struct rpc_call_ops *ops = call->ops;
    call->end_delivered = true;
    call->ops = NULL;
    call->timer = sd_event_source_disable_unref(call->timer);
    queue_clear(&call->inbox);
    if (ops != NULL && ops->on_end != NULL)
        ops->on_end(call, call->arg, call->status, call->text != NULL ? call->text : "");
    if (call->on_gone != NULL)
        call->on_gone(call->owner, call);
    call_unref(call); /* the owner's handle */
}

static void deliver_half(struct rpc_call *call)
{
    if (!call->remote_half || call->half_delivered || call->discard || call->ops == NULL)
        return;
    call->half_delivered = true;
    if (call->ops->on_half != NULL)
        call->ops->on_half(call, call->arg);
}

static void deliver_writable(struct rpc_call *call)
{
    if (!call->writable_pending || call->ops == NULL || call->ended)
        return;
    call->writable_pending = false;
    if (call->ops->on_writable != NULL)
        call->ops->on_writable(call, call->arg);
}

void call_deliver(struct rpc_call *call)
{
    if (call->end_delivered)
        return;
    if (!call->dispatch->closing) {
        if (call->begin_pending && !call->ended) {
            call->begin_pending = false;
            if (call->on_begin != NULL)
                call->on_begin(call->owner, call);
        }
        deliver_messages(call);
        deliver_half(call);
        deliver_writable(call);
    }
    if (call->ended && !call->end_delivered)
        deliver_end(call);
}

/* ---- receiving ---- */

int call_receive(struct rpc_call *call, const uint8_t *data, size_t n, struct err *err)
{
    size_t body_total = 0, whole = 0;
    for (size_t at = 0; at < n && !call->discard;) {
        bool complete = false;
        size_t before = call->parser.prefix_len == GRPC_PREFIX_SIZE ? call->parser.message.len : 0;
        ssize_t used = grpc_parse(&call->parser, data + at, n - at, &complete, err);
        if (used < 0)
            return -1;
        at += (size_t)used;
        if (complete || call->parser.prefix_len == GRPC_PREFIX_SIZE)
            body_total += call->parser.message.len - before;
        if (!complete)
            continue;
        struct call_message *m = mem_new(struct call_message);
        if (m == NULL)
            return err_set(err, ERR_NOMEM, "no memory for a message");
        buf_move(&m->body, &call->parser.message);
        whole += m->body.len;
        queue_push(&call->inbox, m);
        call_wake(call);
    }
    /* Prefixes, and everything that nobody will see, do not wait for the owner. */
    if (call->discard)
        body_total = whole = 0;
    call->unconsumed += body_total;
    call->whole += whole;
    h2_hold(call->h2, whole);
    h2_consume(call->h2, call, n - body_total);
    return 0;
}

void rpc_call_consume(struct rpc_call *call, size_t message_bytes)
{
    if (message_bytes > call->unconsumed)
        message_bytes = call->unconsumed;
    size_t whole = message_bytes < call->whole ? message_bytes : call->whole;
    call->unconsumed -= message_bytes;
    call->whole -= whole;
    if (call->h2 == NULL || message_bytes == 0)
        return;
    h2_let_go(call->h2, whole);
    h2_consume(call->h2, call, message_bytes);
}

/* Nothing more is wanted from the peer: gives back the windows. */
static void stop_receiving(struct rpc_call *call)
{
    call->discard = true;
    queue_clear(&call->inbox);
    grpc_parser_done(&call->parser);
    rpc_call_consume(call, call->unconsumed);
}

/* ---- sending ---- */

size_t call_peek_out(const struct rpc_call *call, const uint8_t **ret_data)
{
    const struct call_message *m = call->outbox.first;
    if (m == NULL)
        return 0;
    size_t at = m->sent;
    if (at < GRPC_PREFIX_SIZE) {
        *ret_data = m->prefix + at;
        return GRPC_PREFIX_SIZE - at;
    }
    at -= GRPC_PREFIX_SIZE;
    if (at < m->head.len) {
        *ret_data = m->head.data + at;
        return m->head.len - at;
    }
    at -= m->head.len;
    *ret_data = m->body.data + at;
    return m->body.len - at;
}

void call_advance_out(struct rpc_call *call, size_t n)
{
    struct call_message *m = call->outbox.first;
    m->sent += n;
    call->queued -= n;
    if (m->sent == GRPC_PREFIX_SIZE + m->head.len + m->body.len)
        message_free(queue_pop(&call->outbox));
    if (call->over_mark && call->queued <= call->queue_max / 2) {
        call->over_mark = false;
        call->writable_pending = true;
        call_wake(call);
    }
}

int rpc_call_send2(struct rpc_call *call, struct buf *head, struct buf *body, struct err *err)
{
    size_t size = (head != NULL ? head->len : 0) + body->len;
    if (call->ended || call->local_half)
        return err_set(err, ERR_CANCELLED, "the call is over");
    if (size > UINT32_MAX)
        return err_set(err, ERR_TOO_LARGE, "a message of %zu bytes cannot be sent", size);
    struct call_message *m = mem_new(struct call_message);
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a message");
    grpc_prefix(size, m->prefix);
    if (head != NULL)
        buf_move(&m->head, head);
    buf_move(&m->body, body);
    queue_push(&call->outbox, m);
    call->queued += GRPC_PREFIX_SIZE + size;
    if (call->h2 != NULL)
        h2_resume(call->h2, call);
    if (call->queued <= call->queue_max)
        return 1;
    call->over_mark = true;
    return 0;
}

int rpc_call_send(struct rpc_call *call, struct buf *message, struct err *err)
{
    return rpc_call_send2(call, NULL, message, err);
}

size_t rpc_call_queued(const struct rpc_call *call)
{
    return call->queued;
}

void rpc_call_half_close(struct rpc_call *call)
{
    if (call->is_server || call->local_half || call->ended)
        return;
    call->local_half = true;
    if (call->h2 != NULL)
        h2_resume(call->h2, call);
}

void rpc_call_finish(struct rpc_call *call, enum rpc_status status, const char *text)
{
    if (!call->is_server || call->local_half || call->ended)
        return;
    call->local_half = true;
    call->have_finish = true;
    call->finish_status = status;
    call->finish_text = text != NULL && text[0] != '\0' ? mem_strndup(text, GRPC_TEXT_MAX) : NULL;
    stop_receiving(call);
    if (call->h2 != NULL)
        h2_resume(call->h2, call);
}

void rpc_call_fail(struct rpc_call *call, const struct err *err)
{
    char text[sizeof(err->text) + sizeof(err->correction) + 4];
    (void)snprintf(text, sizeof(text), "%s%s%s", err->text, err->correction[0] != '\0' ? "; " : "", err->correction);
    rpc_call_finish(call, (enum rpc_status)err_grpc_status(err->code), text);
}

void rpc_call_cancel(struct rpc_call *call)
{
    if (call->ended)
        return;
    if (call->h2 != NULL)
        h2_reset(call->h2, call, NGHTTP2_CANCEL);
    stop_receiving(call);
    call_end(call, RPC_CANCELLED, "cancelled on this side");
}

/* ---- what the owner may ask ---- */

const struct tls_peer *rpc_call_peer(const struct rpc_call *call)
{
    return &call->peer;
}

const char *rpc_call_address(const struct rpc_call *call)
{
    return call->address;
}

uint64_t rpc_call_deadline(const struct rpc_call *call)
{
    return call->deadline_usec;
}
