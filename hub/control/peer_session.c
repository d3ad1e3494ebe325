/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions. Happy path: accept, Hello, its row marked online, Welcome, the desired state, open commands; then reports in, directives
 * out, until the call ends and the row is marked offline. A newer session of the same peer replaces the older. A peer that
 * the hub does not have (deleted), or that says something before Hello, is refused.
 */
#include <string.h>

#include "hub/control/control_plane.h"
#include "hub/db/peer_store.h"
#include "transport/base/clock.h"
#include "transport/base/hash.h"
#include "transport/base/log.h"
#include "transport/proto/wire.h"

#define DIRECTIVE_MAX (16U << 20)
/* Few sessions may say how they are every second; many every five. */
#define STATUS_OFTEN_MSEC 1000
#define STATUS_SELDOM_MSEC 5000
#define SESSIONS_FEW 200
#define SOFTWARE_MAX 128

/* ---- the table ---- */

static struct peer_session **place_of(struct control *control, const char *id)
{
    return &control->buckets[hash_64(id, strlen(id)) & (SESSION_BUCKETS - 1)];
}

struct peer_session *peer_session_find(struct control *control, const char *id)
{
    struct peer_session *s = *place_of(control, id);

    while (s && strcmp(s->id, id) != 0)
        s = s->next_in_bucket;
    return s;
}

static void table_add(struct peer_session *s)
{
    struct peer_session **at = place_of(s->control, s->id);

    s->next_in_bucket = *at;
    *at = s;
    s->control->session_count++;
}

static void table_remove(struct peer_session *s)
{
    for (struct peer_session **at = place_of(s->control, s->id); *at; at = &(*at)->next_in_bucket) {
        if (*at == s) {
            *at = s->next_in_bucket;
            s->control->session_count--;
            return;
        }
    }
}

struct peer_session *peer_session_ref(struct peer_session *session)
{
    session->refs++;
    return session;
}

void peer_session_unref(struct peer_session *session)
{
    if (!session || --session->refs > 0)
        return;
    worker_lane_free(session->lane);
    json_decref(session->points_added);
    json_decref(session->points_dropped);
    loop_timer_free(session->points_timer);
    free(session->commands);
    free(session);
}

/* ---- sending ---- */

int peer_session_send(struct peer_session *session, const Leeward__Control__V1__Directive *directive)
{
    AUTO_BUF struct buf bytes = BUF_INIT(DIRECTIVE_MAX);
    struct err err = ERR_INIT;

    if (!session->call)
        return -1;
    if (wire_pack(&directive->base, &bytes, &err) < 0 || rpc_call_send(session->call, &bytes, &err) < 0) {
        log_event(LOG_WARN, "directive_lost", LOG_S("peer", session->id), LOG_E(&err));
        return -1;
    }
    return 0;
}

void peer_session_reset(struct peer_session *session, const char *why)
{
    if (!session->call)
        return;
    log_event(LOG_WARN, "session_reset", LOG_S("role", session->role), LOG_S("peer", session->id), LOG_S("why", why));
    rpc_call_finish(session->call, RPC_UNAVAILABLE, why);
}

static void send_welcome(struct peer_session *s)
{
    Leeward__Control__V1__Directive directive = LEEWARD__CONTROL__V1__DIRECTIVE__INIT;
    Leeward__Control__V1__Welcome welcome = LEEWARD__CONTROL__V1__WELCOME__INIT;
    char hub_id[IDENT_TEXT_SIZE];

    ident_to_text(s->control->conf.hub_id, hub_id);
    welcome.hub_id = hub_id;
    welcome.clock_utc_usec = clock_utc_usec();
    welcome.tells_what_is_stored = true;
    welcome.status_interval_msec = s->control->conf.status_interval_msec      ? s->control->conf.status_interval_msec
                                   : s->control->session_count < SESSIONS_FEW ? STATUS_OFTEN_MSEC
                                                                              : STATUS_SELDOM_MSEC;
    directive.kind_case = LEEWARD__CONTROL__V1__DIRECTIVE__KIND_WELCOME;
    directive.welcome = &welcome;
    (void)peer_session_send(s, &directive);
}

/* ---- hello ---- */

struct hello_task {
    struct control_task task;
    char software[SOFTWARE_MAX], host[256], endpoint[300];
    int64_t skew_usec;
    bool simulated;
};

static int hello_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    struct hello_task *t = (struct hello_task *)task;
    const struct peer_hello hello = {.role = task->session->role,
        .id = task->session->id,
        .software = t->software,
        .host = t->host,
        .endpoint = t->endpoint,
        .clock_skew_usec = t->skew_usec,
        .simulated = t->simulated,
        .hub_process = task->control->conf.instance};

    return peer_hello(conn, &hello, err);
}

static void hello_then(struct control_task *task)
{
    struct peer_session *s = task->session;

    if (!s->call)
        return;
    if (task->rc < 0) {
        peer_session_reset(s, "the hub's database cannot be reached; it goes on by itself");
        return;
    }
    if (task->rc == 0) {
        log_event(LOG_WARN, "session_unknown_peer", LOG_S("role", s->role), LOG_S("peer", s->id));
        rpc_call_finish(s->call, RPC_PERMISSION_DENIED,
            "the hub does not know this id any more; it was deleted. Enrol again with a new token");
        return;
    }
    s->greeted = true;
    live_status_online(s->control->conf.live, s->role, s->id, true);
    log_event(LOG_INFO, "session_up", LOG_S("role", s->role), LOG_S("peer", s->id),
        LOG_S("address", rpc_call_address(s->call)));
    send_welcome(s);
    desired_push(s);
    commands_push(s->control, s);
}

static void take_hello(struct peer_session *s, const Leeward__Control__V1__Hello *hello)
{
    struct hello_task *t = (struct hello_task *)control_task_new(sizeof(*t), s->control, s);

    if (!t) {
        peer_session_reset(s, "the hub is short of memory");
        return;
    }
    t->task.work = hello_work;
    t->task.then = hello_then;
    peer_report_text(t->software, sizeof(t->software), hello->software);
    peer_report_text(t->host, sizeof(t->host), hello->host);
    peer_report_text(t->endpoint, sizeof(t->endpoint), hello->endpoint);
    s->skew = (struct skew_watch){0};
    skew_add(&s->skew, hello->clock_utc_usec, clock_utc_usec());
    t->skew_usec = skew_usec(&s->skew);
    t->simulated = hello->simulated;
    if (control_task_submit(&t->task, s->lane) < 0)
        peer_session_reset(s, "the hub is overloaded");
}

/* ---- the call ---- */

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct peer_session *s = arg;
    ProtobufCMessage *m = NULL;
    struct err err = ERR_INIT;

    if (wire_unpack(&leeward__control__v1__report__descriptor, message->data, message->len, &m, &err) < 0) {
        rpc_call_fail(call, &err);
        return;
    }
    const Leeward__Control__V1__Report *report = (const Leeward__Control__V1__Report *)m;

    if (report->kind_case == LEEWARD__CONTROL__V1__REPORT__KIND_HELLO) {
        take_hello(s, report->hello);
    } else if (s->greeted) {
        if (report->clock_utc_usec != 0)
            skew_add(&s->skew, report->clock_utc_usec, clock_utc_usec());
        peer_report_take(s, report);
    }
    wire_free(m);
}

static void on_half(struct rpc_call *call, void *arg)
{
    (void)arg;
    rpc_call_finish(call, RPC_OK, NULL);
}

static int offline_work(struct control_task *task, struct db_conn *conn, struct err *err)
{
    return peer_offline(conn, task->session->role, task->session->id, err);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct peer_session *s = arg;
    struct control_task *t;

    (void)call;
    s->call = NULL;
    table_remove(s);
    status_session_over(s);
    log_event(LOG_INFO, "session_down", LOG_S("role", s->role), LOG_S("peer", s->id), LOG_I("status", status),
        LOG_S("text", text ? text : ""));
    /* Not when a newer session of the same peer is there, nor when all of them end with this hub. */
    if (!peer_session_find(s->control, s->id)) {
        live_status_online(s->control->conf.live, s->role, s->id, false);
        t = s->control->stopping ? NULL : control_task_new(sizeof(*t), s->control, s);
        if (t) {
            t->work = offline_work;
            (void)control_task_submit(t, s->lane);
        }
    }
    peer_session_unref(s);
}

const struct rpc_call_ops peer_session_ops = {
    .on_message = on_message, .on_half = on_half, .on_end = on_end, .auto_consume = true};

static bool role_has_sessions(const char *role)
{
    return strcmp(role, "agent") == 0 || strcmp(role, "node") == 0 || strcmp(role, "vault") == 0;
}

int peer_session_accept(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    struct control *control = server_arg;
    const struct tls_peer *peer = rpc_call_peer(call);
    struct peer_session *s, *older;

    if (!peer->authenticated || !role_has_sessions(peer->role))
        return err_set(err, ERR_DENIED, "only agents, nodes and vaults have sessions");
    s = mem_new(struct peer_session);
    if (!s || !(s->lane = worker_lane_new(control->pool))) {
        free(s);
        return err_set(err, ERR_NOMEM, "no memory for a session");
    }
    s->refs = 1;
    s->control = control;
    s->call = call;
    memcpy(s->role, peer->role, sizeof(s->role));
    ident_to_text(&peer->id, s->id);
    older = peer_session_find(control, s->id);
    table_add(s);
    if (older)
        peer_session_reset(older, "another session of this peer began");
    *ret_ops = &peer_session_ops;
    *ret_arg = s;
    return 0;
}
