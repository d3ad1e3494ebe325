/* SPDX-License-Identifier: Apache-2.0
 *
 * The control session, client side: one bidirectional call that is started again whenever it ends. Down -> (call started, Hello
 * queued) -> up when Welcome comes. What the hub must not miss (ends of commands, events) waits in a bounded list while the session
 * is down; everything else is repeated by its owner. Both stay there when they were sent, too, for the hub may have died, or not have stored
 * them: a command that has no end there it gives again in its next session, and is answered from the list; of events it says which it has, and
 * the others are sent again, under the same ids, also by a process after this one (keptfile.h). The desired state is on disk before it is acted
 * upon, so that a restart without the hub goes on with what was last asked for.
 */
#include "transport/proto/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/backoff.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"
#include "transport/proto/kept.h"
#include "transport/proto/keptfile.h"
#include "transport/proto/renewal.h"
#include "transport/proto/wire.h"
#include "transport/rpc/rpc.h"

#define SESSION_PATH "/leeward.control.v1.Control/Session"
#define DIRECTIVE_MAX (16u << 20)  /* a hub with ten thousand machines on one vault */
#define BACKED_UP_BYTES (4u << 20) /* statuses are dropped above this */
#define STATUS_USEC (5 * USEC_PER_SEC)
#define STATUS_MIN_MSEC 100u
#define RETRY_MIN_USEC (250 * USEC_PER_MSEC)
#define RETRY_MAX_USEC (5 * USEC_PER_SEC)
#define WELCOME_USEC (20 * USEC_PER_SEC) /* a hub that took the call answers within this */
#define STORE_AGAIN_USEC (2 * USEC_PER_SEC)
#define TELL_AGAIN_USEC (10 * USEC_PER_SEC) /* events that the hub does not say it has; doubles, */
#define TELL_AGAIN_MAX_USEC (300 * USEC_PER_SEC)

typedef Leeward__Control__V1__Directive Directive;
typedef Leeward__Control__V1__Report Report;

struct session {
    sd_event *loop;
    struct session_ops ops;
    void *arg;
    char *data_dir, *software, *endpoint, *desired_path;
    const struct enrol_identity *identity;
    struct tls_context *tls;
    struct rpc_channel *channel;
    struct rpc_call *call; /* NULL: none now */
    struct renewal *renewal;
    struct loop_timer *retry;    /* starts the call again; at first also delivers the cached state */
    struct loop_timer *patience; /* for Welcome */
    uint64_t retry_usec;
    bool up, begun, closing;
    bool hears_of_stored;          /* the hub says which events it has */
    struct loop_timer *tell_again; /* those of which it did not */
    bool tells_again;              /* that is set */
    uint64_t tell_again_usec;      /* to this, the next time */
    uint64_t status_usec;
    int64_t skew_usec;
    uint64_t desired_version;
    struct buf desired;         /* the directive as cached */
    struct buf unstored;        /* a newer one that could not be; empty: none */
    struct loop_timer *storing; /* tries it again */
    struct kept kept;
    struct keptfile *keptfile;
    char last_text[200]; /* of the error that was logged last */
};

/* ---- desired state ---- */

static uint64_t version_of(const Directive *d)
{
    switch (d->kind_case) {
    case LEEWARD__CONTROL__V1__DIRECTIVE__KIND_AGENT:
        return d->agent->version;
    case LEEWARD__CONTROL__V1__DIRECTIVE__KIND_NODE:
        return d->node->version;
    case LEEWARD__CONTROL__V1__DIRECTIVE__KIND_VAULT:
        return d->vault->version;
    default:
        return 0;
    }
}

static bool fits_role(const struct session *s, const Directive *d)
{
    const char *role = s->identity->role;
    switch (d->kind_case) {
    case LEEWARD__CONTROL__V1__DIRECTIVE__KIND_AGENT:
        return strcmp(role, "agent") == 0;
    case LEEWARD__CONTROL__V1__DIRECTIVE__KIND_NODE:
        return strcmp(role, "node") == 0;
    case LEEWARD__CONTROL__V1__DIRECTIVE__KIND_VAULT:
        return strcmp(role, "vault") == 0;
    default:
        return false;
    }
}

/* Puts the directive on disk unless it is what is there already. */
static int desired_keep(struct session *s, const struct buf *bytes, struct err *err)
{
    if (s->desired.len == bytes->len && bytes->len > 0 && memcmp(s->desired.data, bytes->data, bytes->len) == 0)
        return 0;
    if (file_replace(s->desired_path, bytes->data, bytes->len, 0600, err) < 0)
        return -1;
    buf_clear(&s->desired);
    return buf_append(&s->desired, bytes->data, bytes->len, err);
}

static void on_storing(void *arg)
{
    struct session *s = arg;

    if (s->unstored.len > 0 && desired_keep(s, &s->unstored, NULL) == 0)
        buf_clear(&s->unstored);
    if (s->unstored.len > 0)
        loop_timer_set(s->storing, STORE_AGAIN_USEC);
}

/* A state that cannot be stored is acted upon all the same, and stored as soon as that can be: a disk may be full, or held still. */
static void desired_store(struct session *s, const struct buf *bytes)
{
    struct err err = ERR_INIT;

    buf_clear(&s->unstored);
    if (desired_keep(s, bytes, &err) == 0)
        return;
    log_event(err.sys_errno == EROFS ? LOG_INFO : LOG_ERROR, "desired_not_stored", LOG_E(&err));
    if (buf_append(&s->unstored, bytes->data, bytes->len, &err) < 0 ||
        (!s->storing && loop_timer_new(s->loop, STORE_AGAIN_USEC, 0, on_storing, s, &s->storing, &err) < 0))
        log_event(LOG_ERROR, "desired_not_kept", LOG_E(&err));
    else
        loop_timer_set(s->storing, STORE_AGAIN_USEC);
}

static int directive_unpack(const struct buf *bytes, Directive **ret, struct err *err)
{
    ProtobufCMessage *m = NULL;
    if (wire_unpack(&leeward__control__v1__directive__descriptor, bytes->data, bytes->len, &m, err) < 0)
        return -1;
    *ret = (Directive *)m;
    return 0;
}

static void cached_deliver(struct session *s)
{
    Directive *d = NULL;
    struct err err = ERR_INIT;
    if (file_read(s->desired_path, &s->desired, &err) < 0) {
        if (err.code != ERR_NOT_FOUND)
            log_event(LOG_WARN, "desired_unreadable", LOG_E(&err));
        return;
    }
    if (directive_unpack(&s->desired, &d, &err) < 0) {
        log_event(LOG_WARN, "desired_unreadable", LOG_S("path", s->desired_path), LOG_E(&err));
        buf_clear(&s->desired);
        return;
    }
    if (fits_role(s, d)) {
        s->desired_version = version_of(d);
        s->ops.on_directive(s->arg, d);
    }
    wire_free(&d->base);
}

/* ---- reports ---- */

static int report_send(struct session *s, const Report *report, struct err *err)
{
    AUTO_BUF struct buf bytes = BUF_INIT(KEPT_REPORT_MAX);
    Report timed = *report;
    /* The time tells the hub what our clock says; behind others that wait it would be late. */
    timed.clock_utc_usec = rpc_call_queued(s->call) == 0 ? clock_utc_usec() : 0;
    if (wire_pack(&timed.base, &bytes, err) < 0)
        return -1;
    return rpc_call_send(s->call, &bytes, err) < 0 ? -1 : 1;
}

int session_report(struct session *s, const Report *report, struct err *err)
{
    if (!s->up || s->call == NULL || rpc_call_queued(s->call) > BACKED_UP_BYTES)
        return 0;
    return report_send(s, report, err);
}

/* ---- what the hub must not miss ---- */

static int send_bytes(void *arg, const struct buf *bytes)
{
    struct session *s = arg;
    AUTO_BUF struct buf copy = BUF_INIT(KEPT_REPORT_MAX);
    if (!s->up || s->call == NULL || buf_append(&copy, bytes->data, bytes->len, NULL) < 0)
        return -1;
    return rpc_call_send(s->call, &copy, NULL) < 0 ? -1 : 0;
}

/* While the hub is away nothing is told, and then all of it. */
static void tell_again_later(struct session *s)
{
    if (s->tells_again || !s->up || !kept_waits(&s->kept))
        return;
    s->tells_again = true;
    loop_timer_set(s->tell_again, s->tell_again_usec);
}

/* The hub is there again, or has room again. */
static void tell_again_soon(struct session *s)
{
    s->tells_again = false;
    s->tell_again_usec = TELL_AGAIN_USEC;
    tell_again_later(s);
}

static void flush_kept(struct session *s)
{
    kept_flush(&s->kept, s->hears_of_stored, send_bytes, s);
    keptfile_changed(s->keptfile);
    tell_again_later(s);
}

/* Sends a report now if that can be, and keeps it; command_id NULL: an event. */
static void report_keep(struct session *s, const Report *report, const char *command_id)
{
    struct err err = ERR_INIT;
    bool sent = s->up && s->call != NULL && report_send(s, report, &err) > 0;
    if (sent && command_id == NULL && !(s->hears_of_stored && report->event->id.len == IDENT_SIZE))
        return;
    if (kept_add(&s->kept, report, command_id, sent, &err) < 0)
        log_event(LOG_ERROR, sent ? "report_not_kept" : "report_lost", LOG_E(&err));
    keptfile_changed(s->keptfile);
    tell_again_later(s);
}

/* A hub that is overloaded gets them less and less often; what has not even gone out is not queued a second time behind it. */
static void on_tell_again(void *arg)
{
    struct session *s = arg;
    s->tells_again = false;
    if (!kept_waits(&s->kept))
        return;
    s->tell_again_usec = s->tell_again_usec < TELL_AGAIN_MAX_USEC / 2 ? 2 * s->tell_again_usec : TELL_AGAIN_MAX_USEC;
    if (s->call == NULL || rpc_call_queued(s->call) == 0)
        kept_untold(&s->kept);
    flush_kept(s);
}

static void events_stored(struct session *s, const Leeward__Control__V1__EventsStored *stored)
{
    bool is_news = false;
    for (size_t i = 0; i < stored->n_ids && i < KEPT_EVENTS_MAX; i++)
        is_news = kept_stored(&s->kept, &stored->ids[i]) || is_news;
    if (is_news)
        tell_again_soon(s);
    keptfile_changed(s->keptfile);
}

/* True: the command has ended already. The hub is told again; of two answers it takes the first. */
static bool answer_again(struct session *s, const char *command_id)
{
    if (!kept_answer(&s->kept, command_id, send_bytes, s))
        return false;
    log_event(LOG_INFO, "command_answered_again", LOG_S("command", command_id));
    return true;
}

void session_command_done(struct session *s, const char *command_id, const struct err *error, const char *result_json)
{
    Leeward__Control__V1__CommandResult result = LEEWARD__CONTROL__V1__COMMAND_RESULT__INIT;
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    bool failed = error != NULL && error->code != ERR_NONE;
    result.command_id = (char *)(uintptr_t)command_id;
    result.done = true;
    result.progress_permille = failed ? 0 : 1000;
    result.code = (char *)(uintptr_t)(failed ? err_code_name(error->code) : "");
    result.text = (char *)(uintptr_t)(failed ? error->text : "");
    result.correction = (char *)(uintptr_t)(failed ? error->correction : "");
    result.result_json = (char *)(uintptr_t)(result_json != NULL ? result_json : "");
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_COMMAND_RESULT;
    report.command_result = &result;
    report_keep(s, &report, command_id);
}

void session_command_progress(struct session *s, const char *command_id, unsigned permille, const char *text)
{
    Leeward__Control__V1__CommandResult result = LEEWARD__CONTROL__V1__COMMAND_RESULT__INIT;
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    result.command_id = (char *)(uintptr_t)command_id;
    result.progress_permille = permille;
    result.text = (char *)(uintptr_t)(text != NULL ? text : "");
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_COMMAND_RESULT;
    report.command_result = &result;
    (void)session_report(s, &report, NULL);
}

void session_event(struct session *s, const char *severity, const char *code, const char *machine_id,
    const char *remedy, const char *text)
{
    Leeward__Control__V1__Event event = LEEWARD__CONTROL__V1__EVENT__INIT;
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    struct ident id = {0};
    if (ident_random(&id) == 0) /* without one it is told once, and may be lost */
        event.id = (ProtobufCBinaryData){.len = IDENT_SIZE, .data = id.bytes};
    event.severity = (char *)(uintptr_t)severity;
    event.code = (char *)(uintptr_t)code;
    event.machine_id = (char *)(uintptr_t)(machine_id != NULL ? machine_id : "");
    event.remedy = (char *)(uintptr_t)(remedy != NULL ? remedy : "");
    event.text = (char *)(uintptr_t)text;
    event.time_utc_usec = clock_utc_usec();
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_EVENT;
    report.event = &event;
    report_keep(s, &report, NULL);
}

/* ---- the call ---- */

static void welcome(struct session *s, const Leeward__Control__V1__Welcome *w)
{
    uint32_t msec = w->status_interval_msec;
    s->status_usec = msec == 0 ? STATUS_USEC : (msec < STATUS_MIN_MSEC ? STATUS_MIN_MSEC : msec) * USEC_PER_MSEC;
    s->skew_usec = (int64_t)(w->clock_utc_usec - clock_utc_usec());
    s->retry_usec = 0;
    s->last_text[0] = '\0';
    if (s->up)
        return;
    s->up = true;
    s->hears_of_stored = w->tells_what_is_stored;
    loop_timer_free(TAKE_PTR(s->patience));
    log_event(LOG_INFO, "session_up", LOG_S("hub", w->hub_id), LOG_I("skew_ms", s->skew_usec / 1000));
    flush_kept(s);
    tell_again_soon(s);
    if (s->ops.on_up != NULL)
        s->ops.on_up(s->arg);
}

static void directive_take(struct session *s, const Directive *d, const struct buf *bytes)
{
    if (d->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_WELCOME) {
        welcome(s, d->welcome);
    } else if (d->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_COMMAND) {
        if (!answer_again(s, d->command->command_id))
            s->ops.on_directive(s->arg, d);
    } else if (d->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_EVENTS_STORED) {
        events_stored(s, d->events_stored);
    } else if (fits_role(s, d)) {
        desired_store(s, bytes);
        s->desired_version = version_of(d);
        s->ops.on_directive(s->arg, d);
    } else {
        log_event(LOG_WARN, "directive_not_for_us", LOG_I("kind", d->kind_case));
    }
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct session *s = arg;
    struct err err = ERR_INIT;
    Directive *d = NULL;
    if (directive_unpack(message, &d, &err) < 0) {
        log_event(LOG_ERROR, "directive_unreadable", LOG_E(&err));
        rpc_call_cancel(call);
        return;
    }
    directive_take(s, d, message);
    wire_free(&d->base);
}

static void down(struct session *s, enum rpc_status status, const char *text)
{
    struct err why = ERR_INIT;
    bool was_up = s->up;
    s->up = false;
    s->call = NULL;
    kept_untold(&s->kept);
    loop_timer_free(TAKE_PTR(s->patience));
    if (s->closing)
        return;
    err_set(&why, err_from_grpc_status((int)status), "%s", status == RPC_OK ? "the hub ended the session" : text);
    if (was_up || strncmp(s->last_text, why.text, sizeof(s->last_text) - 1) != 0) {
        log_event(LOG_WARN, "session_down", LOG_E(&why));
        (void)snprintf(s->last_text, sizeof(s->last_text), "%.*s", (int)sizeof(s->last_text) - 1, why.text);
    }
    s->retry_usec = backoff_longer(s->retry_usec, RETRY_MIN_USEC, RETRY_MAX_USEC);
    loop_timer_set(s->retry, backoff_spread(s->retry_usec, clock_jitter_usec(UINT64_MAX)));
    if (s->ops.on_down != NULL)
        s->ops.on_down(s->arg, &why);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    (void)call;
    down(arg, status, text);
}

static void on_begin(struct rpc_call *call, void *arg);

static const struct rpc_call_ops call_ops = {
    .on_begin = on_begin, .on_message = on_message, .on_end = on_end, .auto_consume = true};

static void on_patience(void *arg)
{
    struct session *s = arg;
    if (s->call != NULL && !s->up)
        rpc_call_cancel(s->call);
}

static int hello_send(struct session *s, struct err *err)
{
    char host[256] = "";
    Leeward__Control__V1__Hello hello = LEEWARD__CONTROL__V1__HELLO__INIT;
    Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    (void)gethostname(host, sizeof(host) - 1);
    hello.role = (char *)(uintptr_t)s->identity->role;
    hello.software = s->software;
    hello.host = host;
    hello.endpoint = s->endpoint;
    hello.desired_version = s->desired_version;
    hello.clock_utc_usec = clock_utc_usec();
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_HELLO;
    report.hello = &hello;
    return report_send(s, &report, err);
}

/* Not before there is a connection: Hello tells what the clock says. */
static void on_begin(struct rpc_call *call, void *arg)
{
    struct err err = ERR_INIT;
    if (hello_send(arg, &err) < 0)
        rpc_call_cancel(call);
}

static void call_begin(struct session *s)
{
    struct err err = ERR_INIT;
    /* The wait for Welcome begins with the attempt: it covers connecting, the hand-shake and the hub's answer. */
    if (loop_timer_new(s->loop, WELCOME_USEC, 0, on_patience, s, &s->patience, &err) < 0 ||
        rpc_call_start(s->channel, SESSION_PATH, 0, true, &call_ops, s, &s->call, &err) < 0)
        down(s, RPC_RESOURCE_EXHAUSTED, err.text);
}

static void on_retry(void *arg)
{
    struct session *s = arg;
    if (!s->begun) {
        s->begun = true;
        cached_deliver(s);
    }
    if (s->call == NULL)
        call_begin(s);
}

static void on_renewed(void *arg)
{
    struct session *s = arg;
    struct err err = ERR_INIT;
    if (tls_reload(s->tls, &err) < 0)
        log_event(LOG_ERROR, "certificate_not_loaded", LOG_E(&err));
    if (s->ops.on_renewed != NULL)
        s->ops.on_renewed(s->arg);
}

/* ---- public ---- */

static int events_open(struct session *s, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/events.pb", s->data_dir);

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a session");
    return keptfile_new(s->loop, path, s->identity->id_text, &s->kept, &s->keptfile, err);
}

static int strings_copy(struct session *s, const struct session_conf *conf)
{
    s->data_dir = mem_strdup(conf->data_dir);
    s->software = mem_strdup(conf->software);
    s->endpoint = mem_strdup(conf->endpoint != NULL ? conf->endpoint : "");
    s->desired_path = mem_printf("%s/desired.pb", conf->data_dir);
    return s->data_dir != NULL && s->software != NULL && s->endpoint != NULL && s->desired_path != NULL ? 0 : -1;
}

int session_new(sd_event *loop, const struct session_conf *conf, const struct session_ops *ops, void *arg,
    struct session **ret_session, struct err *err)
{
    /* Calls that find the channel pausing fail, and then it is the session that pauses: two long pauses would add up, and a fleet be back half
     * a minute after its hub. */
    struct rpc_limits limits = {.message_max = DIRECTIVE_MAX, .backoff_max_usec = RETRY_MIN_USEC};
    struct session *s = mem_new(struct session);
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a session");
    s->loop = loop;
    s->ops = *ops;
    s->arg = arg;
    s->identity = conf->identity;
    s->status_usec = STATUS_USEC;
    kept_init(&s->kept);
    s->tell_again_usec = TELL_AGAIN_USEC;
    s->desired = BUF_INIT(DIRECTIVE_MAX);
    s->unstored = BUF_INIT(DIRECTIVE_MAX);
    int rc = strings_copy(s, conf) < 0 ? err_set(err, ERR_NOMEM, "no memory for a session") : 0;
    if (rc == 0)
        rc = tls_client_new(&conf->identity->files, NULL, &s->tls, err);
    if (rc == 0)
        rc = rpc_channel_new(loop, conf->hub, s->tls, "hub", NULL, &limits, &s->channel, err);
    if (rc == 0)
        rc = renewal_new(loop, s->channel, conf->identity, on_renewed, s, &s->renewal, err);
    if (rc == 0)
        rc = loop_timer_new(loop, 0, 0, on_retry, s, &s->retry, err);
    if (rc == 0)
        rc = loop_timer_new(loop, TELL_AGAIN_USEC, 0, on_tell_again, s, &s->tell_again, err);
    if (rc == 0)
        rc = events_open(s, err);
    if (rc < 0) {
        session_free(s);
        return -1;
    }
    *ret_session = s;
    return 0;
}

void session_free(struct session *s)
{
    if (s == NULL)
        return;
    s->closing = true;
    renewal_free(s->renewal);
    rpc_channel_free(s->channel);
    tls_context_free(s->tls);
    loop_timer_free(s->retry);
    loop_timer_free(s->patience);
    loop_timer_free(s->storing);
    loop_timer_free(s->tell_again);
    keptfile_free(s->keptfile);
    kept_done(&s->kept);
    buf_done(&s->desired);
    buf_done(&s->unstored);
    free(s->data_dir);
    free(s->software);
    free(s->endpoint);
    free(s->desired_path);
    free(s);
}

bool session_is_up(const struct session *s)
{
    return s->up;
}

uint64_t session_status_interval_usec(const struct session *s)
{
    return s->status_usec;
}

int64_t session_clock_skew_usec(const struct session *s)
{
    return s->skew_usec;
}
