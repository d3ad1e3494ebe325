/* SPDX-License-Identifier: Apache-2.0
 *
 * A channel: calls to one server over one connection at a time. It connects on first use: look up the name, try the addresses
 * one after the other, shake hands, check who the server is. Calls wait meanwhile, or fail with the attempt (fail_fast). After a
 * failed attempt it waits, twice as long each time, with jitter, so that ten thousand agents do not come back in step. A
 * connection that the server drains (GOAWAY) keeps its calls; new ones go to a new connection.
 */
#include <stdio.h>
#include <string.h>

#include "transport/base/backoff.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/rpc/conn.h"
#include "transport/rpc/limits.h"
#include "transport/rpc/rpc.h"
#include "transport/rpc/tls_internal.h"

#define BACKOFF_MIN_USEC (100 * USEC_PER_MSEC)
#define BACKOFF_ACCURACY_USEC (10 * USEC_PER_MSEC)

enum channel_state { CHANNEL_IDLE, CHANNEL_CONNECTING, CHANNEL_READY, CHANNEL_BACKOFF };

struct channel_conn {
    struct channel_conn *next, *prev;
    struct rpc_channel *channel;
    struct conn *conn;
    bool was_up;
};

struct rpc_channel {
    enum channel_state state;
    sd_event *loop;
    struct dispatch *dispatch;
    struct tls_context *tls;
    struct rpc_limits limits;
    struct address address;
    char *text; /* as given; the authority of calls */
    char role[16];
    bool has_id;
    struct ident id;
    struct address_lookup *lookup;
    struct address_socket results[ADDRESS_RESULTS_MAX];
    unsigned result_count, result_next;
    struct channel_conn *first;   /* all connections, the draining ones too */
    struct channel_conn *current; /* the one that connects or is ready */
    struct rpc_call *waiting, *waiting_last;
    uint64_t backoff_usec;
    sd_event_source *timer;
    struct err last; /* why the last attempt failed */
};

static void connect_begin(struct rpc_channel *ch);
static void connect_next(struct rpc_channel *ch);

/* ---- calls that wait ---- */

static void wait_push(struct rpc_channel *ch, struct rpc_call *call)
{
    call->wait_next = NULL;
    (void)call_ref(call);
    if (ch->waiting_last != NULL)
        ch->waiting_last->wait_next = call;
    else
        ch->waiting = call;
    ch->waiting_last = call;
}

static struct rpc_call *wait_pop(struct rpc_channel *ch)
{
    struct rpc_call *call = ch->waiting;
    if (call != NULL) {
        ch->waiting = call->wait_next;
        if (ch->waiting == NULL)
            ch->waiting_last = NULL;
    }
    return call;
}

static enum rpc_status status_of(const struct err *why)
{
    return why->code == ERR_UNAUTHENTICATED ? RPC_UNAUTHENTICATED : RPC_UNAVAILABLE;
}

static void call_fail_with(struct rpc_call *call, const struct err *why)
{
    char text[sizeof(why->text) + sizeof(why->correction) + 4];
    (void)snprintf(text, sizeof(text), "%s%s%s", why->text, why->correction[0] != '\0' ? "; " : "", why->correction);
    call_end(call, status_of(why), text);
}

/* Drops those that ended meanwhile (deadline, cancelled) and, with `why`, those that do not want to wait. */
static void wait_sift(struct rpc_channel *ch, const struct err *why)
{
    struct rpc_call *call = ch->waiting;
    ch->waiting = ch->waiting_last = NULL;
    for (struct rpc_call *next; call != NULL; call = next) {
        next = call->wait_next;
        if (why != NULL && call->fail_fast && !call->ended)
            call_fail_with(call, why);
        if (!call->ended)
            wait_push(ch, call);
        call_unref(call);
    }
}

static void tell_begin(void *owner, struct rpc_call *call)
{
    (void)owner;
    if (call->ops != NULL)
        call->ops->on_begin(call, call->arg);
}

static void call_begin(struct rpc_channel *ch, struct rpc_call *call)
{
    struct err err = ERR_INIT;
    call->peer = *conn_peer(ch->current->conn);
    memcpy(call->address, conn_address(ch->current->conn), sizeof(call->address));
    if (h2_start(conn_h2(ch->current->conn), call, ch->address.is_unix ? "localhost" : ch->text, &err) < 0)
        call_fail_with(call, &err);
    if (call->ended || call->ops->on_begin == NULL)
        return;
    call->on_begin = tell_begin;
    call->begin_pending = true;
    call_wake(call);
}

/* ---- connections ---- */

static void backoff_start(struct rpc_channel *ch)
{
    ch->state = CHANNEL_BACKOFF;
    uint64_t longest = ch->limits.backoff_max_usec;
    ch->backoff_usec =
        backoff_longer(ch->backoff_usec, longest < BACKOFF_MIN_USEC ? longest : BACKOFF_MIN_USEC, longest);
    uint64_t wait = backoff_spread(ch->backoff_usec, clock_jitter_usec(UINT64_MAX));
    (void)sd_event_source_set_time_relative(ch->timer, wait);
    (void)sd_event_source_set_enabled(ch->timer, SD_EVENT_ONESHOT);
}

static void attempt_failed(struct rpc_channel *ch, const struct err *why)
{
    ch->last = *why;
    err_wrap(&ch->last, "%s", ch->text);
    backoff_start(ch);
    wait_sift(ch, &ch->last);
}

static int on_backoff_over(sd_event_source *source, uint64_t usec, void *arg)
{
    struct rpc_channel *ch = arg;
    (void)source;
    (void)usec;
    ch->state = CHANNEL_IDLE;
    wait_sift(ch, NULL);
    if (ch->waiting != NULL)
        connect_begin(ch);
    return 0;
}

static int on_conn_verify(struct conn *conn, void *owner, struct err *err)
{
    const struct rpc_channel *ch = ((struct channel_conn *)owner)->channel;
    const struct tls_peer *peer = conn_peer(conn);
    char is[IDENT_TEXT_SIZE], wanted[IDENT_TEXT_SIZE];
    if (strcmp(peer->role, ch->role) != 0) {
        err_set(err, ERR_UNAUTHENTICATED, "the server is a %s, not a %s", peer->role, ch->role);
        return err_hint(err, "check the address");
    }
    if (ch->has_id && !ident_equal(&peer->id, &ch->id)) {
        ident_to_text(&peer->id, is);
        ident_to_text(&ch->id, wanted);
        err_set(err, ERR_UNAUTHENTICATED, "the server is %s %s, not %s", peer->role, is, wanted);
        return err_hint(err, "check the address");
    }
    return 0;
}

static void on_conn_up(struct conn *conn, void *owner)
{
    struct channel_conn *cc = owner;
    struct rpc_channel *ch = cc->channel;
    (void)conn;
    cc->was_up = true;
    if (ch->current != cc)
        return;
    ch->state = CHANNEL_READY;
    ch->backoff_usec = 0;
    for (struct rpc_call *call; (call = wait_pop(ch)) != NULL;) {
        if (!call->ended)
            call_begin(ch, call);
        call_unref(call);
    }
}

static void on_conn_goaway(struct conn *conn, void *owner)
{
    struct channel_conn *cc = owner;
    struct rpc_channel *ch = cc->channel;
    (void)conn;
    if (ch->current != cc || ch->state != CHANNEL_READY)
        return;
    ch->current = NULL;
    ch->state = CHANNEL_IDLE;
    if (ch->waiting != NULL)
        connect_begin(ch);
}

static void channel_conn_free(struct channel_conn *cc)
{
    struct rpc_channel *ch = cc->channel;
    if (cc->prev != NULL)
        cc->prev->next = cc->next;
    else
        ch->first = cc->next;
    if (cc->next != NULL)
        cc->next->prev = cc->prev;
    conn_unref(cc->conn);
    free(cc);
}

static void on_conn_down(struct conn *conn, void *owner, const struct err *why)
{
    struct channel_conn *cc = owner;
    struct rpc_channel *ch = cc->channel;
    bool was_current = ch->current == cc;
    bool was_up = cc->was_up;
    struct err reason = *why;
    (void)conn;
    channel_conn_free(cc);
    if (!was_current)
        return;
    ch->current = NULL;
    if (!was_up && ch->result_next < ch->result_count && reason.code != ERR_UNAUTHENTICATED) {
        connect_next(ch);
    } else if (!was_up) {
        attempt_failed(ch, &reason);
    } else {
        ch->state = CHANNEL_IDLE;
        if (ch->waiting != NULL)
            connect_begin(ch);
    }
}

static const struct conn_ops channel_conn_ops = {
    .verify = on_conn_verify,
    .up = on_conn_up,
    .goaway = on_conn_goaway,
    .down = on_conn_down,
};

static int connect_to(struct rpc_channel *ch, const struct address_socket *at, struct err *err)
{
    struct channel_conn *cc = mem_new(struct channel_conn);
    if (cc == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a connection");
    struct conn_conf conf = {.loop = ch->loop,
        .tls = ch->tls,
        .limits = &ch->limits,
        .dispatch = ch->dispatch,
        .ops = &channel_conn_ops,
        .owner = cc};
    if (conn_connect(&conf, at, &cc->conn, err) < 0) {
        free(cc);
        return -1;
    }
    cc->channel = ch;
    cc->next = ch->first;
    if (ch->first != NULL)
        ch->first->prev = cc;
    ch->first = ch->current = cc;
    return 0;
}

/* Tries the addresses that are left. */
static void connect_next(struct rpc_channel *ch)
{
    struct err err = ERR_INIT;
    while (ch->result_next < ch->result_count)
        if (connect_to(ch, &ch->results[ch->result_next++], &err) == 0)
            return;
    attempt_failed(ch, &err);
}

static void on_lookup(void *arg, const struct address_socket *results, unsigned count, const struct err *why)
{
    struct rpc_channel *ch = arg;
    ch->lookup = NULL;
    if (count == 0) {
        attempt_failed(ch, why);
        return;
    }
    memcpy(ch->results, results, count * sizeof(*results));
    ch->result_count = count;
    ch->result_next = 0;
    connect_next(ch);
}

static void connect_begin(struct rpc_channel *ch)
{
    struct err err = ERR_INIT;
    ch->state = CHANNEL_CONNECTING;
    ch->result_next = 0;
    int found = address_numeric(&ch->address, &ch->results[0], &err);
    ch->result_count = found > 0 ? 1 : 0;
    if (found > 0)
        connect_next(ch);
    else if (found < 0 || address_lookup_start(ch->loop, &ch->address, on_lookup, ch, &ch->lookup, &err) < 0)
        attempt_failed(ch, &err);
}

/* ---- public ---- */

int rpc_channel_new(sd_event *loop, const char *address, struct tls_context *tls, const char *expect_role,
    const struct ident *expect_id, const struct rpc_limits *limits, struct rpc_channel **ret_channel, struct err *err)
{
    struct rpc_channel *ch = mem_new(struct rpc_channel);
    if (ch == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a channel");
    ch->loop = sd_event_ref(loop);
    ch->tls = tls_context_ref(tls);
    limits_resolve(limits, &ch->limits);
    (void)snprintf(ch->role, sizeof(ch->role), "%s", expect_role != NULL ? expect_role : "");
    ch->has_id = expect_id != NULL;
    if (expect_id != NULL)
        ch->id = *expect_id;
    ch->text = mem_strdup(address);
    int rc = ch->text == NULL ? err_set(err, ERR_NOMEM, "no memory for a channel")
                              : address_parse(address, &ch->address, err);
    if (rc == 0 && tls == NULL && !ch->address.is_unix)
        rc = err_set(err, ERR_INVALID, "a channel without TLS goes to unix sockets only, not to %s", address);
    if (rc == 0)
        rc = dispatch_new(loop, &ch->dispatch, err);
    if (rc == 0) {
        int added = sd_event_add_time_relative(
            loop, &ch->timer, CLOCK_MONOTONIC, ch->limits.backoff_max_usec, BACKOFF_ACCURACY_USEC, on_backoff_over, ch);
        if (added >= 0)
            added = sd_event_source_set_enabled(ch->timer, SD_EVENT_OFF);
        rc = added < 0 ? err_sys(err, -added, "adding a channel to the event loop") : 0;
    }
    if (rc < 0) {
        rpc_channel_free(ch);
        return -1;
    }
    *ret_channel = ch;
    return 0;
}

void rpc_channel_set_send_queue(struct rpc_channel *ch, size_t bytes)
{
    ch->limits.send_queue_max = bytes;
    for (struct rpc_call *call = ch->waiting; call != NULL; call = call->wait_next)
        call->queue_max = bytes;
    for (struct channel_conn *cc = ch->first; cc != NULL; cc = cc->next)
        if (conn_h2(cc->conn) != NULL)
            h2_set_send_queue(conn_h2(cc->conn), bytes);
}

void rpc_channel_free(struct rpc_channel *ch)
{
    if (ch == NULL)
        return;
    address_lookup_cancel(ch->lookup);
    ch->timer = sd_event_source_disable_unref(ch->timer);
    for (struct rpc_call *call; (call = wait_pop(ch)) != NULL; call_unref(call))
        call_end(call, RPC_CANCELLED, "the channel was closed");
    while (ch->first != NULL) {
        conn_shut(ch->first->conn, RPC_CANCELLED, "the channel was closed");
        channel_conn_free(ch->first);
    }
    if (ch->dispatch != NULL)
        dispatch_close(ch->dispatch);
    dispatch_unref(ch->dispatch);
    tls_context_free(ch->tls);
    sd_event_unref(ch->loop);
    free(ch->text);
    free(ch);
}

int rpc_call_start(struct rpc_channel *ch, const char *path, uint64_t deadline_usec, bool fail_fast,
    const struct rpc_call_ops *ops, void *arg, struct rpc_call **ret_call, struct err *err)
{
    if (strlen(path) >= CALL_PATH_MAX)
        return err_set(err, ERR_INVALID, "the path of a call is too long");
    struct rpc_call *call = call_new(ch->dispatch, false, &ch->limits);
    if (call == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a call");
    memcpy(call->path, path, strlen(path) + 1);
    call->ops = ops;
    call->arg = arg;
    call->fail_fast = fail_fast;
    call->deadline_usec = deadline_usec;
    if (call_arm_deadline(call, ch->loop, err) < 0) {
        call_unref(call);
        return -1;
    }
    if (ch->state == CHANNEL_READY) {
        call_begin(ch, call);
    } else if (ch->state == CHANNEL_BACKOFF && fail_fast) {
        call_fail_with(call, &ch->last);
    } else {
        wait_sift(ch, NULL);
        wait_push(ch, call);
        if (ch->state == CHANNEL_IDLE)
            connect_begin(ch);
    }
    *ret_call = call;
    return 0;
}
