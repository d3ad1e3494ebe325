/* SPDX-License-Identifier: Apache-2.0
 *
 * As transport/proto/session.c, for thousands in one process: nothing is kept on disk, and there is no timer per peer; the fleet
 * decides when to try again. Hello says that the peer is simulated.
 */
#include "hub/fleet/simpeer.h"

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/proto/wire.h"

#define SESSION_PATH "/leeward.control.v1.Control/Session"
#define SOFTWARE "leeward-fleet " LEEWARD_VERSION
#define DIRECTIVE_MAX (16u << 20)
#define REPORT_MAX (4u << 20)
#define BACKED_UP_BYTES (1u << 20)
#define STATUS_USEC (5 * USEC_PER_SEC)

typedef Leeward__Control__V1__Directive Directive;
typedef Leeward__Control__V1__Report Report;

static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static int send_report(struct simpeer *p, const Report *report, struct err *err)
{
    AUTO_BUF struct buf bytes = BUF_INIT(REPORT_MAX);

    if (wire_pack(&report->base, &bytes, err) < 0)
        return -1;
    return rpc_call_send(p->call, &bytes, err) < 0 ? -1 : 0;
}

void simpeer_report(struct simpeer *p, const Report *report)
{
    struct err err = ERR_INIT;

    if (!p->up || !p->call || rpc_call_queued(p->call) > BACKED_UP_BYTES)
        return;
    if (send_report(p, report, &err) < 0)
        log_event(LOG_WARN, "report_lost", LOG_S("peer", p->name), LOG_E(&err));
}

void simpeer_command_done(struct simpeer *p, const char *command_id, const struct err *error, const char *result_json)
{
    Leeward__Control__V1__CommandResult result = LEEWARD__CONTROL__V1__COMMAND_RESULT__INIT;
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;

    result.command_id = text(command_id);
    result.done = true;
    result.progress_permille = error ? 0 : 1000;
    result.code = text(error ? err_code_name(error->code) : "");
    result.text = text(error ? error->text : "");
    result.correction = text(error ? error->correction : "");
    result.result_json = text(result_json ? result_json : "");
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_COMMAND_RESULT;
    report.command_result = &result;
    simpeer_report(p, &report);
}

/* ---- the session ---- */

static int send_hello(struct simpeer *p, struct err *err)
{
    Leeward__Control__V1__Hello hello = LEEWARD__CONTROL__V1__HELLO__INIT;
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    /* A name under a domain that never resolves (RFC 6761): nobody shall try to reach it. */
    AUTO_FREE char *endpoint = mem_printf("%s.invalid:%s", p->name, p->role[0] == 'v' ? "9444" : "9443");

    if (!endpoint)
        return err_set(err, ERR_NOMEM, "no memory for a session");
    hello.role = text(p->role);
    hello.software = text(SOFTWARE);
    hello.host = p->name;
    hello.endpoint = p->role[0] == 'a' ? text("") : endpoint;
    hello.clock_utc_usec = clock_utc_usec();
    hello.simulated = true;
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_HELLO;
    report.hello = &hello;
    return send_report(p, &report, err);
}

static void welcome(struct simpeer *p, const Leeward__Control__V1__Welcome *w)
{
    p->status_usec = w->status_interval_msec ? w->status_interval_msec * USEC_PER_MSEC : STATUS_USEC;
    if (p->up)
        return;
    p->up = true;
    p->ops->on_up(p);
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct simpeer *p = arg;
    struct err err = ERR_INIT;
    ProtobufCMessage *m = NULL;

    if (wire_unpack(&leeward__control__v1__directive__descriptor, message->data, message->len, &m, &err) < 0) {
        log_event(LOG_ERROR, "directive_unreadable", LOG_S("peer", p->name), LOG_E(&err));
        rpc_call_cancel(call);
        return;
    }
    const Directive *d = (const Directive *)m;

    if (d->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_WELCOME)
        welcome(p, d->welcome);
    else
        p->ops->on_directive(p, d);
    wire_free(m);
}

static void down(struct simpeer *p, enum rpc_status status, const char *why)
{
    log_event(LOG_DEBUG, "session_down", LOG_S("peer", p->name), LOG_I("status", status), LOG_S("text", why));
    p->call = NULL;
    p->up = false;
    p->ops->on_down(p);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *why)
{
    (void)call;
    down(arg, status, why);
}

static void on_begin(struct rpc_call *call, void *arg)
{
    struct err err = ERR_INIT;

    if (send_hello(arg, &err) < 0)
        rpc_call_cancel(call);
}

static const struct rpc_call_ops call_ops = {
    .on_begin = on_begin, .on_message = on_message, .on_end = on_end, .auto_consume = true};

void simpeer_connect(struct simpeer *p)
{
    struct err err = ERR_INIT;

    if (p->call)
        return;
    if (rpc_call_start(p->channel, SESSION_PATH, 0, true, &call_ops, p, &p->call, &err) < 0) {
        p->call = NULL;
        down(p, RPC_RESOURCE_EXHAUSTED, err.text);
    }
}

void simpeer_disconnect(struct simpeer *p)
{
    if (p->call)
        rpc_call_cancel(p->call);
}

int simpeer_open(sd_event *loop, const char *hub, const struct tls_files *files, struct simpeer *p, struct err *err)
{
    /* Windows as small as a session needs, and patience of a minute: ten thousand of these share two processors. The pause before the next
     * attempt is the fleet's; the channel's own would add up with it. */
    struct rpc_limits limits = {.message_max = DIRECTIVE_MAX,
        .backoff_max_usec = 100 * USEC_PER_MSEC,
        .stream_window = 1u << 16,
        .connection_window = 1u << 17,
        .handshake_usec = 60 * USEC_PER_SEC,
        .idle_usec = 60 * USEC_PER_SEC};

    p->status_usec = STATUS_USEC;
    if (tls_client_new(files, NULL, &p->tls, err) < 0 ||
        rpc_channel_new(loop, hub, p->tls, "hub", NULL, &limits, &p->channel, err) < 0)
        return -1;
    return 0;
}

void simpeer_close(struct simpeer *p)
{
    rpc_channel_free(TAKE_PTR(p->channel));
    tls_context_free(TAKE_PTR(p->tls));
}
