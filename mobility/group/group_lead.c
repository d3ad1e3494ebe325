/* SPDX-License-Identifier: Apache-2.0
 *
 * Happy path: PREPARE goes to all members, their answers to the round, and each time that moves on its order goes to all. When it
 * is over the calls are closed. Failure modes: whoever cannot be reached, answers wrongly or late has missed the group point;
 * then everybody else gets ABORT, thaws if it was frozen, and keeps a point of its own.
 */
#include "mobility/group/group_lead.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"
#include "transport/rpc/rpc.h"

/* A member that was away takes part again as soon as it is back: all group points wait for it. A new attempt sends its own SYN,
 * where the old one would be waiting for the next of its retransmissions. */
#define CONNECT_USEC (4 * USEC_PER_SEC)
#define BACKOFF_MAX_USEC (1 * USEC_PER_SEC)
/* One that is silent is asked whether it is there, and after twice this the connection is made anew: over the old one a network that comes back would be
 * tried at the pauses of its retransmissions, which have grown meanwhile. */
#define IDLE_USEC (4 * USEC_PER_SEC)

struct seat {
    struct group_lead *lead;
    struct group_peer peer;
    bool is_self;
    struct rpc_channel *channel;
    struct rpc_call *call;
    struct err unreachable; /* why it has no channel */
    bool done;              /* it has nothing more to say, and may end the call */
};

struct group_lead {
    struct group_lead_conf conf;
    struct seat *seats[GROUP_MEMBERS_MAX];
    unsigned count;
    struct group_round round;
    struct group_order order; /* the PREPARE of the round */
    bool self_in;             /* this machine has been asked, and has not ended */
    struct loop_timer *timer;
};

static void settle(struct group_lead *l, bool moved);

/* ---- answers ---- */

static unsigned index_of(const struct group_lead *l, const struct seat *s)
{
    unsigned i = 0;

    while (i < l->count && l->seats[i] != s)
        i++;
    return i;
}

static void take(struct seat *s, const struct group_answer *a)
{
    struct group_lead *l = s->lead;

    s->done = a->kind == GROUP_ANSWER_DONE;
    settle(l, group_round_answer(&l->round, index_of(l, s), a, clock_mono_usec()));
}

static void take_own(void *arg, const struct group_answer *a)
{
    struct seat *s = arg;

    if (a->kind == GROUP_ANSWER_DONE || a->kind == GROUP_ANSWER_FAILED)
        s->lead->self_in = false;
    take(s, a);
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct seat *s = arg;
    struct group_answer a;
    struct err err = ERR_INIT;

    if (call != s->call)
        return;
    if (group_wire_get_answer(message, &a, &err) < 0) {
        a = (struct group_answer){.kind = GROUP_ANSWER_FAILED};
        err_copy(&a.why, &err);
    }
    take(s, &a);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct seat *s = arg;
    struct group_answer lost = {.kind = GROUP_ANSWER_FAILED};

    if (call != s->call)
        return;
    s->call = NULL;
    if (s->done)
        return;
    err_set(&lost.why, status == RPC_OK ? ERR_UNAVAILABLE : err_from_grpc_status((int)status), "%s",
        text[0] ? text : "it ended the call");
    take(s, &lost);
}

static const struct rpc_call_ops call_ops = {.on_message = on_message, .on_end = on_end, .auto_consume = true};

/* ---- orders ---- */

static int send_order(struct seat *s, const struct group_order *o, struct err *err)
{
    struct buf b AUTO_BUF = BUF_INIT(GROUP_MESSAGE_MAX);
    struct err why = ERR_INIT;

    if (s->is_self)
        return group_member_order(s->lead->conf.member, o, take_own, s, err);
    if (!s->channel) {
        err_copy(err, &s->unreachable);
        return -1;
    }
    if (!s->call)
        return err_set(err, ERR_UNAVAILABLE, "it cannot be reached");
    if (group_wire_put_order(o, &b, err) < 0)
        return -1;
    if (rpc_call_send(s->call, &b, &why) >= 0 || why.code == ERR_CANCELLED)
        return 0; /* what has ended is about to say why (on_end) */
    err_copy(err, &why);
    return -1;
}

/* True: somebody could not be told, and the round is over. */
static bool order_all(struct group_lead *l, enum group_order_kind kind)
{
    struct group_order o = l->order;

    o.kind = kind;
    for (unsigned i = 0; i < l->count; i++) {
        struct group_answer lost = {.kind = GROUP_ANSWER_FAILED};

        if (send_order(l->seats[i], &o, &lost.why) == 0)
            continue;
        if (l->seats[i]->is_self)
            l->self_in = false;
        if (group_round_answer(&l->round, i, &lost, clock_mono_usec()))
            return true;
    }
    return false;
}

static void give_up(struct group_lead *l)
{
    struct group_order o = {.kind = GROUP_ORDER_ABORT};

    snprintf(o.text, sizeof(o.text), "%.60s: %.120s",
        l->round.phase == GROUP_PHASE_MISSED ? l->seats[l->round.culprit]->peer.name : "the coordinator",
        l->round.phase == GROUP_PHASE_MISSED ? l->round.why.text : "the list of members has changed");
    for (unsigned i = 0; i < l->count; i++)
        if (!l->seats[i]->is_self || l->self_in)
            (void)send_order(l->seats[i], &o, NULL);
}

/* The members end their calls; one that hangs may never do. */
static void close_calls(struct group_lead *l)
{
    for (unsigned i = 0; i < l->count; i++) {
        struct rpc_call *call = TAKE_PTR(l->seats[i]->call);

        if (call && l->round.phase == GROUP_PHASE_MISSED && i == l->round.culprit)
            rpc_call_cancel(call);
        else if (call)
            rpc_call_half_close(call);
    }
}

static void finish(struct group_lead *l)
{
    struct group_round round = l->round;
    struct ident point = l->order.point;

    if (round.phase == GROUP_PHASE_MISSED)
        give_up(l);
    close_calls(l);
    l->round.phase = GROUP_PHASE_NONE;
    l->conf.over(l->conf.arg, &point, &round);
}

/* Says what the phase asks for, until nothing moves any more. */
static void settle(struct group_lead *l, bool moved)
{
    static const enum group_order_kind orders[] = {[GROUP_PHASE_FREEZE] = GROUP_ORDER_FREEZE,
        [GROUP_PHASE_READ] = GROUP_ORDER_READ,
        [GROUP_PHASE_RELEASE] = GROUP_ORDER_RELEASE,
        [GROUP_PHASE_COMMIT] = GROUP_ORDER_COMMIT};

    if (!moved)
        return;
    if (group_round_is_under_way(&l->round))
        (void)order_all(l, orders[l->round.phase]);
    if (!group_round_is_under_way(&l->round))
        finish(l);
    else
        loop_timer_set(l->timer, l->round.deadline_usec - clock_mono_usec());
}

static void on_timer(void *arg)
{
    struct group_lead *l = arg;

    settle(l, group_round_tick(&l->round, clock_mono_usec()));
}

/* ---- a group point ---- */

bool group_lead_is_busy(const struct group_lead *l)
{
    return group_round_is_under_way(&l->round);
}

static void call_member(struct group_lead *l, unsigned i)
{
    struct seat *s = l->seats[i];
    struct err err = ERR_INIT;

    s->done = false;
    if (s->is_self || !s->channel)
        return;
    if (rpc_call_start(s->channel, GROUP_POINT_PATH, 0, true, &call_ops, s, &s->call, &err) < 0) {
        s->call = NULL;
        log_event(LOG_WARN, "group_call_failed", LOG_S("member", s->peer.name), LOG_E(&err));
    }
}

int group_lead_begin(struct group_lead *l, const struct group_order *order, struct err *err)
{
    if (group_lead_is_busy(l))
        return err_set(err, ERR_CONFLICT, "a group point is under way");
    if (l->count < GROUP_MEMBERS_MIN)
        return err_set(err, ERR_REFUSED, "a group point needs at least %u machines", GROUP_MEMBERS_MIN);
    l->order = *order;
    group_round_begin(&l->round, l->count, order->budget_usec, clock_mono_usec());
    for (unsigned i = 0; i < l->count; i++)
        call_member(l, i);
    l->self_in = true;
    if (order_all(l, GROUP_ORDER_PREPARE))
        finish(l);
    else
        loop_timer_set(l->timer, l->round.deadline_usec - clock_mono_usec());
    return 0;
}

/* ---- members ---- */

static void free_seat(struct seat *s)
{
    if (!s)
        return;
    if (s->is_self)
        group_member_let_go(s->lead->conf.member, s);
    s->call = NULL;
    rpc_channel_free(s->channel);
    free(s);
}

static bool is_same(const struct seat *s, const struct group_peer *p)
{
    return ident_equal(&s->peer.id, &p->id) && strcmp(s->peer.address, p->address) == 0;
}

/* The seat that the machine has already, with its connection, or a new one. */
static struct seat *seat_for(struct group_lead *l, const struct group_peer *p, struct err *err)
{
    struct seat *s;

    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++)
        if (l->seats[i] && is_same(l->seats[i], p)) {
            s = TAKE_PTR(l->seats[i]);
            s->peer = *p;
            return s;
        }
    s = mem_new(struct seat);
    if (!s) {
        err_set(err, ERR_NOMEM, "no memory for a member");
        return NULL;
    }
    s->lead = l;
    s->peer = *p;
    s->is_self = ident_equal(&p->id, &l->conf.self);
    return s;
}

static void connect_seat(struct seat *s)
{
    const struct rpc_limits limits = {.message_max = GROUP_MESSAGE_MAX,
        .stream_window = 64u << 10,
        .send_queue_max = 64u << 10,
        .handshake_usec = CONNECT_USEC,
        .backoff_max_usec = BACKOFF_MAX_USEC,
        .idle_usec = IDLE_USEC};
    struct group_lead *l = s->lead;

    if (s->is_self || s->channel)
        return;
    if (!s->peer.address[0]) {
        err_set(&s->unreachable, ERR_UNAVAILABLE, "the hub knows no address of it");
        err_hint(&s->unreachable, "see that its agent is connected to the hub");
    } else if (rpc_channel_new(l->conf.loop, s->peer.address, l->conf.tls, "agent", &s->peer.id, &limits, &s->channel,
                   &s->unreachable) < 0) {
        if (s->unreachable.code == ERR_INVALID) {
            err_wrap(&s->unreachable, "the address that its agent gave");
            err_hint(&s->unreachable, "give its agent HOST:PORT as --group-advertise");
            s->unreachable.code = ERR_UNAVAILABLE; /* it is no fault of what was asked for */
        }
        log_event(LOG_WARN, "group_member_address", LOG_S("member", s->peer.name), LOG_E(&s->unreachable));
    }
}

static void abort_round(struct group_lead *l)
{
    if (!group_lead_is_busy(l))
        return;
    l->round.phase = GROUP_PHASE_NONE;
    give_up(l);
    close_calls(l);
}

int group_lead_set_peers(struct group_lead *l, const struct group_peer *peers, unsigned count, struct err *err)
{
    struct seat *seats[GROUP_MEMBERS_MAX] = {0};
    int r = 0;

    abort_round(l);
    for (unsigned i = 0; i < count && r == 0; i++) {
        seats[i] = seat_for(l, &peers[i], err);
        if (seats[i])
            connect_seat(seats[i]);
        else
            r = -1;
    }
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++)
        free_seat(l->seats[i]);
    memcpy(l->seats, seats, sizeof(seats));
    l->count = r == 0 ? count : 0;
    return r;
}

/* ---- life ---- */

int group_lead_new(const struct group_lead_conf *conf, struct group_lead **ret_lead, struct err *err)
{
    struct group_lead *l = mem_new(struct group_lead);

    if (!l)
        return err_set(err, ERR_NOMEM, "no memory for group points");
    l->conf = *conf;
    if (loop_timer_new(conf->loop, USEC_PER_SEC, 0, on_timer, l, &l->timer, err) < 0) {
        free(l);
        return -1;
    }
    *ret_lead = l;
    return 0;
}

void group_lead_free(struct group_lead *l)
{
    if (!l)
        return;
    abort_round(l);
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++)
        free_seat(l->seats[i]);
    loop_timer_free(l->timer);
    free(l);
}
