/* SPDX-License-Identifier: Apache-2.0
 *
 * One call at a time. Happy path: Open -> Opened -> the engine lets the link run -> batches until the call's send queue is
 * full -> on_writable -> more. A stream that the engine wants again (another epoch) is cancelled and opened anew when its end
 * has come back, so that the node sees the two in order.
 */
#include "mobility/sync/outbox.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/backoff.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/loop/loop.h"
#include "transport/proto/replication.pb-c.h"
#include "transport/proto/wire.h"

#define REPLICATE_PATH "/leeward.replication.v1.Replication/Replicate"
#define RETRY_MIN_USEC (200 * USEC_PER_MSEC)
#define REOPEN_USEC (5 * USEC_PER_MSEC)
#define RETRY_MAX_USEC (10 * USEC_PER_SEC)

struct outbox {
    struct outbox_conf conf;
    struct uplink *link;
    struct rpc_channel *channel;
    char endpoint[300];
    struct ident node;
    struct rpc_call *call;
    struct loop_timer *timer;
    struct { /* to another node */
        bool active;
        char endpoint[300];
        struct ident node;
        struct loop_timer *timer; /* the limit, or the end of the call */
        uint64_t since_usec;
    } move;
    bool opened, blocked, waiting, again;
    uint64_t retry_usec;
    uint64_t sent_bytes;
    struct err trouble;
    bool explained; /* trouble says why the present call is going to end */
};

static void on_message(struct rpc_call *call, void *arg, struct buf *message);
static void on_writable(struct rpc_call *call, void *arg);
static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text);

static const struct rpc_call_ops call_ops = {
    .on_message = on_message, .on_writable = on_writable, .on_end = on_end, .auto_consume = true};

static void on_timer(void *arg)
{
    struct outbox *o = arg;

    o->waiting = false;
    outbox_kick(o);
}

static void on_move_timer(void *arg);

int outbox_new(const struct outbox_conf *conf, struct uplink *link, struct outbox **ret_outbox, struct err *err)
{
    struct outbox *o = mem_new(struct outbox);

    if (!o)
        return err_set(err, ERR_NOMEM, "no memory for the stream to the node");
    o->conf = *conf;
    o->link = link;
    o->retry_usec = RETRY_MIN_USEC;
    if (loop_timer_new(conf->loop, RETRY_MAX_USEC, 0, on_timer, o, &o->timer, err) < 0 ||
        loop_timer_new(conf->loop, OUTBOX_MOVE_USEC, 0, on_move_timer, o, &o->move.timer, err) < 0) {
        loop_timer_free(o->timer);
        free(o);
        return -1;
    }
    *ret_outbox = o;
    return 0;
}

void outbox_free(struct outbox *o)
{
    if (!o)
        return;
    rpc_channel_free(o->channel);
    loop_timer_free(o->timer);
    loop_timer_free(o->move.timer);
    free(o);
}

static void retry_later(struct outbox *o)
{
    o->waiting = true;
    loop_timer_set(o->timer, backoff_spread(o->retry_usec, clock_jitter_usec(UINT64_MAX)));
    o->retry_usec = backoff_longer(o->retry_usec, RETRY_MIN_USEC, RETRY_MAX_USEC);
}

/* ---- which node ---- */

static int switch_to(struct outbox *o, const char *endpoint, const struct ident *node, struct err *err)
{
    static const struct ident any;
    /* Calls that find the channel pausing fail, and then it is the outbox that pauses: two long pauses would add up, and a machine be without
     * points for half a minute after its node is back. */
    const struct rpc_limits limits = {.backoff_max_usec = RETRY_MIN_USEC};

    o->move.active = false;
    uplink_leave(o->link, false);
    rpc_channel_free(TAKE_PTR(o->channel)); /* ends the call: on_end */
    err_clear(&o->trouble);
    snprintf(o->endpoint, sizeof(o->endpoint), "%s", endpoint);
    o->node = *node;
    o->retry_usec = RETRY_MIN_USEC;
    if (endpoint[0] && rpc_channel_new(o->conf.loop, endpoint, o->conf.tls, "node",
                           ident_equal(node, &any) ? NULL : node, &limits, &o->channel, err) < 0) {
        o->endpoint[0] = '\0';
        return -1;
    }
    o->waiting = false;
    outbox_kick(o);
    return 0;
}

static void move_on(struct outbox *o)
{
    struct ident node = o->move.node;
    struct err err = ERR_INIT;
    char endpoint[sizeof(o->move.endpoint)];

    snprintf(endpoint, sizeof(endpoint), "%s", o->move.endpoint);
    log_event(LOG_INFO, "node_changed", LOG_S("from", o->endpoint), LOG_S("to", endpoint),
        LOG_B("handed_over", uplink_has_left(o->link)),
        LOG_U("ms", (clock_mono_usec() - o->move.since_usec) / USEC_PER_MSEC));
    if (switch_to(o, endpoint, &node, &err) < 0)
        log_event(LOG_ERROR, "bad_node", LOG_E(&err));
}

static void on_move_timer(void *arg)
{
    struct outbox *o = arg;

    if (o->move.active)
        move_on(o);
}

static void begin_move(struct outbox *o, const char *endpoint, const struct ident *node)
{
    if (!o->move.active) {
        o->move.active = true;
        o->move.since_usec = clock_mono_usec();
        loop_timer_set(o->move.timer, OUTBOX_MOVE_USEC);
        uplink_leave(o->link, true);
    }
    snprintf(o->move.endpoint, sizeof(o->move.endpoint), "%s", endpoint);
    o->move.node = *node;
}

int outbox_set_target(struct outbox *o, const char *endpoint, const struct ident *node, struct err *err)
{
    struct ident wanted = node ? *node : (struct ident){0};

    if (strlen(endpoint) >= sizeof(o->endpoint))
        return err_set(err, ERR_INVALID, "the address of the node is too long");
    if (strcmp(o->endpoint, endpoint) == 0 && ident_equal(&o->node, &wanted)) {
        if (o->move.active) {
            o->move.active = false;
            uplink_leave(o->link, false);
        }
        return 0;
    }
    if (o->call && o->opened && endpoint[0]) {
        begin_move(o, endpoint, &wanted);
        return 0;
    }
    return switch_to(o, endpoint, &wanted, err);
}

static int send_open(struct outbox *o, const struct uplink_opening *opening, struct err *err)
{
    Leeward__Replication__V1__Open open = LEEWARD__REPLICATION__V1__OPEN__INIT;
    Leeward__Replication__V1__ReplicateRequest request = LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__INIT;
    struct buf b AUTO_BUF = BUF_INIT(4096);

    open.machine_id.data = o->conf.machine.bytes;
    open.machine_id.len = IDENT_SIZE;
    open.generation = opening->generation;
    open.epoch = opening->epoch;
    open.next_sequence = opening->next_sequence;
    open.software = (char *)o->conf.software;
    request.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__KIND_OPEN;
    request.open = &open;
    if (wire_pack(&request.base, &b, err) < 0)
        return -1;
    return rpc_call_send(o->call, &b, err) < 0 ? -1 : 0;
}

static void start(struct outbox *o, const struct uplink_opening *opening)
{
    struct err err = ERR_INIT;

    o->opened = o->blocked = o->explained = false;
    if (rpc_call_start(o->channel, REPLICATE_PATH, 0, true, &call_ops, o, &o->call, &err) < 0) {
        o->call = NULL;
        err_copy(&o->trouble, &err);
        retry_later(o);
        return;
    }
    if (send_open(o, opening, &err) < 0)
        rpc_call_cancel(o->call);
}

static void pump(struct outbox *o)
{
    uint8_t head_bytes[WIRE_BATCH_HEAD_MAX];
    struct err err = ERR_INIT;
    uint64_t closes;

    while (o->call && o->opened && !o->blocked) {
        struct buf batch AUTO_BUF = BUF_INIT(0);
        struct buf head AUTO_BUF = BUF_INIT(WIRE_BATCH_HEAD_MAX);
        int r;

        if (uplink_pop(o->link, &batch, &closes) == 0)
            return;
        o->sent_bytes += batch.len;
        r = buf_append(&head, head_bytes, wire_batch_head(batch.len, head_bytes), &err);
        if (r == 0)
            r = rpc_call_send2(o->call, &head, &batch, &err);
        if (r < 0) {
            rpc_call_cancel(o->call);
            return;
        }
        o->blocked = r == 0;
    }
}

void outbox_kick(struct outbox *o)
{
    struct uplink_opening opening;

    if (o->move.active && uplink_has_left(o->link)) {
        move_on(o);
        return;
    }
    if (o->call && uplink_take_reopen(o->link)) {
        o->again = true;
        rpc_call_cancel(o->call);
        return;
    }
    if (o->call)
        pump(o);
    else if (o->channel && !o->waiting && uplink_wants_stream(o->link, &opening))
        start(o, &opening);
}

static void take_opened(struct outbox *o, const Leeward__Replication__V1__Opened *m)
{
    struct uplink_answer answer = {.expected_sequence = m->expected_sequence,
        .committed_sequence = m->committed_sequence,
        .epoch = m->epoch,
        .generation = m->generation,
        .has_point = m->has_point};

    o->opened = true;
    o->retry_usec = RETRY_MIN_USEC;
    err_clear(&o->trouble);
    log_event(LOG_INFO, "stream_opened", LOG_S("node", o->endpoint), LOG_U("expected", m->expected_sequence),
        LOG_U("committed", m->committed_sequence), LOG_U("epoch", m->epoch));
    uplink_opened(o->link, &answer);
}

static void take_refused(struct outbox *o, const Leeward__Replication__V1__Refused *m)
{
    enum err_code code = err_code_from_name(m->code ? m->code : "");

    err_set(&o->trouble, code, "the node refused: %s", m->text ? m->text : "");
    if (m->correction && m->correction[0])
        err_hint(&o->trouble, "%s", m->correction);
    o->explained = true;
    log_event(LOG_WARN, "stream_refused", LOG_S("node", o->endpoint), LOG_E(&o->trouble),
        LOG_U("expected", m->expected_sequence), LOG_U("generation", m->generation), LOG_U("epoch", m->epoch));
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct outbox *o = arg;
    struct err err = ERR_INIT;
    ProtobufCMessage *m;
    const Leeward__Replication__V1__ReplicateReply *reply;

    if (wire_unpack(&leeward__replication__v1__replicate_reply__descriptor, message->data, message->len, &m, &err) <
        0) {
        err_copy(&o->trouble, &err);
        o->explained = true;
        rpc_call_cancel(call);
        return;
    }
    reply = (const Leeward__Replication__V1__ReplicateReply *)m;
    switch (reply->kind_case) {
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_OPENED:
        take_opened(o, reply->opened);
        break;
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_COMMITTED:
        uplink_committed(o->link, reply->committed->sequence);
        break;
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_REFUSED:
        take_refused(o, reply->refused);
        break;
    default: /* Spooled: flow control is HTTP/2's */
        break;
    }
    wire_free(m);
}

static void on_writable(struct rpc_call *call, void *arg)
{
    struct outbox *o = arg;

    (void)call;
    o->blocked = false;
    pump(o);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct outbox *o = arg;

    (void)call;
    o->call = NULL;
    o->opened = false;
    if (!o->again && !o->explained) {
        err_set(&o->trouble, err_from_grpc_status((int)status), "the stream to the node ended: %s",
            text && text[0] ? text : "no reason given");
        if (o->trouble.code == ERR_NONE)
            o->trouble.code = ERR_UNAVAILABLE;
    }
    if (!o->again)
        log_event(LOG_INFO, "stream_ended", LOG_S("node", o->endpoint), LOG_U("status", status),
            LOG_S("text", text ? text : ""));
    uplink_lost(o->link);
    if (o->move.active) {
        loop_timer_set(o->move.timer, 0); /* the channel cannot be freed in here */
    } else if (o->again) {
        o->again = false;
        o->waiting = true;
        loop_timer_set(o->timer, REOPEN_USEC);
    } else {
        retry_later(o);
    }
}

struct rpc_channel *outbox_channel(const struct outbox *o)
{
    return o->channel;
}

bool outbox_is_connected(const struct outbox *o)
{
    return o->opened;
}

const struct err *outbox_trouble(const struct outbox *o)
{
    return &o->trouble;
}

uint64_t outbox_sent_bytes(const struct outbox *o)
{
    return o->sent_bytes;
}
