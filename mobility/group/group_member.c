/* SPDX-License-Identifier: Apache-2.0
 *
 * There is one seat, for whoever gives orders now; others are told that it is taken. Happy path of a call: PREPARE takes the
 * seat, each move of the capture thread is answered, each order is passed on; the call ends after DONE or FAILED. Failure modes:
 * a stranger is refused at the door, an order out of turn or a message that is none ends the call, and a call that ends early for
 * any reason aborts the part, which lets the capture thread thaw and go on at once.
 */
#include "mobility/group/group_member.h"

#include <string.h>

#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/rpc/rpc.h"

#define CONNECTIONS_MAX 160u /* twice a full group, and some strangers */
#define STREAMS_MAX 4u
#define HANDSHAKE_USEC 5000000u

/* One call of another machine. */
struct call_seat {
    struct group_member *m;
    struct call_seat *next;
    struct rpc_call *call;
    struct ident peer;
};

struct group_member {
    struct group_member_conf conf;
    struct tls_context *tls;
    struct rpc_server *server;
    struct call_seat *calls;
    /* The seat: one of calls, or this machine's own coordinator. */
    bool taken;
    struct call_seat *remote;
    void (*local)(void *arg, const struct group_answer *answer);
    void *local_arg;
    enum group_part_state told; /* what was last answered */
};

/* ---- answers ---- */

static void answer_call(struct call_seat *seat, const struct group_answer *answer)
{
    struct buf b AUTO_BUF = BUF_INIT(GROUP_MESSAGE_MAX);
    struct err err = ERR_INIT;

    if (group_wire_put_answer(answer, &b, &err) < 0 || rpc_call_send(seat->call, &b, &err) < 0)
        rpc_call_cancel(seat->call);
}

static void answer(struct group_member *m, const struct group_answer *a)
{
    if (m->local)
        m->local(m->local_arg, a);
    else if (m->remote)
        answer_call(m->remote, a);
}

static void leave_seat(struct group_member *m)
{
    if (m->remote)
        rpc_call_finish(m->remote->call, RPC_OK, NULL);
    m->taken = false;
    m->remote = NULL;
    m->local = NULL;
    group_part_collect(m->conf.part);
}

/* The answer that a state of the capture thread is. NONE: it has nothing to say there. */
static enum group_answer_kind answer_of(enum group_part_state state)
{
    switch (state) {
    case GROUP_PART_PREPARED:
        return GROUP_ANSWER_PREPARED;
    case GROUP_PART_FROZEN:
        return GROUP_ANSWER_FROZEN;
    case GROUP_PART_HELD:
        return GROUP_ANSWER_HELD;
    case GROUP_PART_CAPTURED:
        return GROUP_ANSWER_CAPTURED;
    case GROUP_PART_DONE:
        return GROUP_ANSWER_DONE;
    case GROUP_PART_FAILED:
        return GROUP_ANSWER_FAILED;
    default:
        return GROUP_ANSWER_NONE;
    }
}

void group_member_look(struct group_member *m)
{
    struct group_part_view view;
    struct group_answer a = {0};
    enum group_part_state state;

    state = group_part_look(m->conf.part, &view);
    if (!m->taken) {
        if (state == GROUP_PART_DONE || state == GROUP_PART_FAILED)
            group_part_collect(m->conf.part); /* whoever asked is gone */
        return;
    }
    a.kind = state == m->told ? GROUP_ANSWER_NONE : answer_of(state);
    m->told = state;
    if (a.kind == GROUP_ANSWER_NONE)
        return;
    a.freeze_usec = view.freeze_usec;
    a.sequence = view.sequence;
    a.why = view.why;
    answer(m, &a);
    if (m->taken && (state == GROUP_PART_DONE || state == GROUP_PART_FAILED))
        leave_seat(m);
}

/* ---- orders ---- */

static int begin(struct group_member *m, const struct ident *from, const struct group_order *o, struct err *err)
{
    const struct group_part_ask ask = {.point = o->point, .budget_usec = o->budget_usec};

    if (m->conf.may_prepare(m->conf.arg, from, o, err) < 0)
        return -1;
    if (m->taken)
        return err_set(err, ERR_CONFLICT, "another group point is under way");
    if (group_part_begin(m->conf.part, &ask, err) < 0)
        return -1;
    m->taken = true;
    m->told = GROUP_PART_ASKED;
    return 0;
}

static int pass_on(struct group_member *m, const struct group_order *o, struct err *err)
{
    static const enum group_part_state states[GROUP_ORDERS] = {[GROUP_ORDER_FREEZE] = GROUP_PART_FREEZING,
        [GROUP_ORDER_READ] = GROUP_PART_READING,
        [GROUP_ORDER_RELEASE] = GROUP_PART_RELEASED,
        [GROUP_ORDER_COMMIT] = GROUP_PART_COMMITTING};

    if (o->kind == GROUP_ORDER_ABORT) {
        group_part_abort(m->conf.part, o->text[0] ? o->text : "the coordinator gave it up");
        return 0;
    }
    if (states[o->kind] == GROUP_PART_IDLE)
        return err_set(err, ERR_INVALID, "a second order to prepare");
    return group_part_order(m->conf.part, states[o->kind], err);
}

int group_member_order(struct group_member *m, const struct group_order *o,
    void (*local)(void *arg, const struct group_answer *answer), void *arg, struct err *err)
{
    if (o->kind != GROUP_ORDER_PREPARE)
        return m->local == local ? pass_on(m, o, err) : err_set(err, ERR_INVALID, "nothing was prepared");
    if (begin(m, NULL, o, err) < 0)
        return -1;
    m->local = local;
    m->local_arg = arg;
    return 0;
}

void group_member_let_go(struct group_member *m, const void *arg)
{
    if (!m->local || m->local_arg != arg)
        return;
    m->local = NULL;
    m->taken = false;
    group_part_abort(m->conf.part, "the list of members has changed");
    group_member_look(m);
}

/* ---- calls of other machines ---- */

static void take_order(struct call_seat *seat, const struct group_order *o)
{
    struct group_member *m = seat->m;
    struct group_answer no = {.kind = GROUP_ANSWER_FAILED};
    int r;

    if (o->kind == GROUP_ORDER_PREPARE && m->remote != seat) {
        r = begin(m, &seat->peer, o, &no.why);
        if (r == 0)
            m->remote = seat;
    } else if (m->remote == seat) {
        r = pass_on(m, o, &no.why);
    } else {
        r = err_set(&no.why, ERR_INVALID, "nothing was prepared");
    }
    if (r == 0)
        return;
    log_event(LOG_INFO, "group_order_refused", LOG_S("peer", rpc_call_address(seat->call)), LOG_E(&no.why));
    if (m->remote == seat)
        group_part_abort(m->conf.part, no.why.text);
    else
        answer_call(seat, &no);
    if (m->remote != seat)
        rpc_call_finish(seat->call, RPC_OK, NULL);
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct call_seat *seat = arg;
    struct group_order o;
    struct err err = ERR_INIT;

    if (group_wire_get_order(message, &o, &err) == 0) {
        take_order(seat, &o);
        return;
    }
    log_event(LOG_WARN, "group_message_refused", LOG_S("peer", rpc_call_address(call)), LOG_E(&err));
    rpc_call_fail(call, &err);
}

static void on_half(struct rpc_call *call, void *arg)
{
    struct call_seat *seat = arg;

    /* Whoever has nothing more to order has given it up. */
    if (seat->m->remote == seat)
        group_part_abort(seat->m->conf.part, "the coordinator ended the call");
    else
        rpc_call_finish(call, RPC_OK, NULL);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct call_seat *seat = arg;
    struct group_member *m = seat->m;
    struct call_seat **at = &m->calls;

    (void)call;
    (void)status;
    (void)text;
    while (*at != seat)
        at = &(*at)->next;
    *at = seat->next;
    if (m->remote == seat) {
        m->remote = NULL;
        m->taken = false;
        group_part_abort(m->conf.part, "the coordinator was lost");
        group_member_look(m);
    }
    free(seat);
}

static const struct rpc_call_ops seat_ops = {
    .on_message = on_message, .on_half = on_half, .on_end = on_end, .auto_consume = true};

static int accept_call(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    struct group_member *m = server_arg;
    const struct tls_peer *peer = rpc_call_peer(call);
    struct call_seat *seat;

    if (strcmp(peer->role, "agent") != 0 || !m->conf.is_member(m->conf.arg, &peer->id)) {
        log_event(LOG_WARN, "group_stranger", LOG_S("peer", rpc_call_address(call)), LOG_S("role", peer->role));
        return err_set(err, ERR_DENIED, "this machine is in no group with the caller");
    }
    seat = mem_new(struct call_seat);
    if (!seat)
        return err_set(err, ERR_NOMEM, "no memory for a call");
    *seat = (struct call_seat){.m = m, .next = m->calls, .call = call, .peer = peer->id};
    m->calls = seat;
    *ret_ops = &seat_ops;
    *ret_arg = seat;
    return 0;
}

static const struct rpc_method methods[] = {{.path = GROUP_POINT_PATH, .accept = accept_call}};

void group_member_recheck(struct group_member *m)
{
    for (struct call_seat *s = m->calls; s; s = s->next)
        if (!m->conf.is_member(m->conf.arg, &s->peer))
            rpc_call_cancel(s->call);
}

/* ---- life ---- */

int group_member_new(const struct group_member_conf *conf, struct group_member **ret_member, struct err *err)
{
    struct group_member *m = mem_new(struct group_member);

    if (!m)
        return err_set(err, ERR_NOMEM, "no memory for group points");
    m->conf = *conf;
    if (tls_server_new(conf->files, false, &m->tls, err) < 0) {
        free(m);
        return -1;
    }
    *ret_member = m;
    return 0;
}

int group_member_listen(struct group_member *m, bool wanted, struct err *err)
{
    const struct rpc_limits limits = {.message_max = GROUP_MESSAGE_MAX,
        .stream_window = 64u << 10,
        .streams_max = STREAMS_MAX,
        .connections_max = CONNECTIONS_MAX,
        .handshake_usec = HANDSHAKE_USEC,
        .send_queue_max = 64u << 10};

    if (!wanted)
        rpc_server_free(TAKE_PTR(m->server)); /* ends the calls: on_end */
    if (!wanted || m->server)
        return 0;
    if (rpc_server_new(m->conf.loop, m->conf.listen, m->tls, methods, ARRAY_LEN(methods), m, &limits, &m->server, err) <
        0) {
        err_wrap(err, "the port of the consistency group");
        return err_hint(err, "give the agent another --group-listen address");
    }
    log_event(LOG_INFO, "group_listening", LOG_S("address", m->conf.listen), LOG_U("port", rpc_server_port(m->server)));
    return 0;
}

unsigned group_member_port(const struct group_member *m)
{
    return m->server ? rpc_server_port(m->server) : 0;
}

int group_member_reload(struct group_member *m, struct err *err)
{
    return tls_reload(m->tls, err);
}

void group_member_free(struct group_member *m)
{
    if (!m)
        return;
    rpc_server_free(TAKE_PTR(m->server));
    tls_context_free(m->tls);
    free(m);
}
