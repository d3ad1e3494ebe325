/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward-node: configuration, identity, the session with the hub, and the node itself.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/conf.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"
#include "transport/node/node.h"
#include "transport/node/probe.h"
#include "transport/proto/enrol.h"
#include "transport/proto/session.h"

#define KEEP_FREED_BYTES (64u << 20) /* some dozen batches in flight */
#define SOFTWARE "leeward-node " LEEWARD_VERSION

struct settings {
    char *data, *hub, *token, *name, *listen, *advertise, *probe_listen, *log_level;
    uint64_t spool_bytes, threads, compress_level, drain_usec;
    bool log_json;
};

#define AT(member) offsetof(struct settings, member)
static const struct conf_row rows[] = {
    {.key = "data",
        .type = CONF_STRING,
        .offset = AT(data),
        .fallback = "/var/lib/leeward/node",
        .help = "folder of identity, cached desired state and spool"},
    {.key = "hub",
        .type = CONF_STRING,
        .offset = AT(hub),
        .required = true,
        .help = "HOST:PORT of the hub's control plane"},
    {.key = "token",
        .type = CONF_STRING,
        .offset = AT(token),
        .secret = true,
        .help = "enrolment token, for the first start only"},
    {.key = "name", .type = CONF_STRING, .offset = AT(name), .help = "name shown to people (default: the host name)"},
    {.key = "listen",
        .type = CONF_STRING,
        .offset = AT(listen),
        .fallback = "0.0.0.0:9443",
        .help = "ADDRESS:PORT for agents"},
    {.key = "advertise",
        .type = CONF_STRING,
        .offset = AT(advertise),
        .help = "HOST:PORT under which agents reach this node (default: host name and port)"},
    {.key = "spool-bytes",
        .type = CONF_BYTES,
        .offset = AT(spool_bytes),
        .fallback = "10G",
        .min = NODE_SPOOL_MIN,
        .help = "most bytes of the spool, all machines together"},
    {.key = "threads",
        .type = CONF_UINT,
        .offset = AT(threads),
        .fallback = "0",
        .max = 256,
        .help = "worker threads (0: one per processor)"},
    {.key = "compress-level",
        .type = CONF_UINT,
        .offset = AT(compress_level),
        .fallback = "3",
        .max = 19,
        .help = "highest zstd level spent on what arrives raw (0: none); policies may ask for less"},
    {.key = "probe-listen",
        .type = CONF_STRING,
        .offset = AT(probe_listen),
        .help =
            "ADDRESS:PORT of /healthz, /readyz and /metrics, plain HTTP without any check of who asks (default: none)"},
    {.key = "drain-time",
        .type = CONF_USEC,
        .offset = AT(drain_usec),
        .fallback = "0s",
        .max = 3600 * USEC_PER_SEC,
        .help = "how long a stop may take to let agents go behind whole change sets and to forward what is spooled "
                "(0s: none)"},
    {.key = "log-level",
        .type = CONF_STRING,
        .offset = AT(log_level),
        .fallback = "info",
        .help = "debug, info, warn or error"},
    {.key = "log-json", .type = CONF_BOOL, .offset = AT(log_json), .help = "one JSON object per line"},
};

struct daemon {
    struct settings settings;
    sd_event *loop;
    struct enrol_identity identity;
    struct tls_context *server_tls, *client_tls;
    struct node *node;
    struct session *session;
    struct probe *probe; /* NULL: nobody asks */
    struct loop_timer *status_timer;
    char *endpoint;
};

/* ---- session ---- */

static void report_status(void *arg)
{
    struct daemon *d = arg;
    Leeward__Control__V1__NodeStatus status = LEEWARD__CONTROL__V1__NODE_STATUS__INIT;
    Leeward__Control__V1__Report report = LEEWARD__CONTROL__V1__REPORT__INIT;
    struct err err = ERR_INIT;
    node_status(d->node, &status);
    report.kind_case = LEEWARD__CONTROL__V1__REPORT__KIND_NODE_STATUS;
    report.node_status = &status;
    if (session_report(d->session, &report, &err) < 0)
        log_event(LOG_WARN, "status_not_sent", LOG_E(&err));
    loop_timer_set(d->status_timer, session_status_interval_usec(d->session));
}

static void on_directive(void *arg, const Leeward__Control__V1__Directive *directive)
{
    struct daemon *d = arg;
    struct err err = ERR_INIT;
    if (directive->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_NODE) {
        node_apply(d->node, directive->node);
        loop_timer_set(d->status_timer, 0);
    } else if (directive->kind_case == LEEWARD__CONTROL__V1__DIRECTIVE__KIND_COMMAND) {
        (void)err_set(&err, ERR_UNSUPPORTED, "a node takes no commands");
        session_command_done(d->session, directive->command->command_id, &err, NULL);
    }
}

static void on_up(void *arg)
{
    report_status(arg);
}

static void on_renewed(void *arg)
{
    struct daemon *d = arg;
    struct err err = ERR_INIT;
    if (tls_reload(d->server_tls, &err) < 0 || tls_reload(d->client_tls, &err) < 0)
        log_event(LOG_ERROR, "certificate_not_loaded", LOG_E(&err));
}

static const struct session_ops session_ops = {.on_directive = on_directive, .on_up = on_up, .on_renewed = on_renewed};

/* ---- probes ---- */

static bool is_ready(void *arg, char reason[PROBE_REASON_SIZE])
{
    struct daemon *d = arg;
    const char *why;
    bool ready = node_is_ready(d->node, &why);
    if (!ready)
        (void)snprintf(reason, PROBE_REASON_SIZE, "%s", why);
    return ready;
}

static int write_metrics(void *arg, struct buf *out, struct err *err)
{
    struct daemon *d = arg;
    if (node_metrics(d->node, out, err) < 0)
        return -1;
    return buf_printf(out, err,
        "# HELP leeward_node_hub_connected 1 while the session with the hub is open.\n"
        "# TYPE leeward_node_hub_connected gauge\nleeward_node_hub_connected %d\n",
        session_is_up(d->session));
}

static const struct probe_ops probe_ops = {.is_ready = is_ready, .write_metrics = write_metrics};

/* ---- start and stop ---- */

static void on_drained(void *arg, bool all)
{
    struct daemon *d = arg;
    (void)all;
    (void)sd_event_exit(d->loop, 0);
}

/* SIGTERM: at once, or after the agents have been let go. The hub is told, so that it can give them another node. */
static void on_stop(void *arg)
{
    struct daemon *d = arg;
    struct err err = ERR_INIT;
    if (d->node != NULL && d->settings.drain_usec > 0) {
        if (node_drain(d->node, d->settings.drain_usec, on_drained, d, &err) == 0) {
            if (session_is_up(d->session))
                report_status(d);
            return;
        }
        log_event(LOG_WARN, "not_drained", LOG_E(&err));
    }
    (void)sd_event_exit(d->loop, 0);
}

static char *default_endpoint(const struct settings *s)
{
    char host[256] = "localhost";
    const char *port = strrchr(s->listen, ':');
    (void)gethostname(host, sizeof(host) - 1);
    return mem_printf("%s%s", host, port != NULL ? port : ":9443");
}

static int prepare(struct daemon *d, struct err *err)
{
    const struct settings *s = &d->settings;
    int level = log_level_from_name(s->log_level);
    if (level < 0)
        return err_set(err, ERR_INVALID, "log-level is debug, info, warn or error, not \"%s\"", s->log_level);
    log_set_daemon("leeward-node");
    log_set_level((enum log_level)level);
    log_set_json(s->log_json);
    d->endpoint = s->advertise[0] != '\0' ? mem_strdup(s->advertise) : default_endpoint(s);
    if (d->endpoint == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    struct enrol_conf enrol = {.data_dir = s->data,
        .hub = s->hub,
        .token = s->token,
        .role = "node",
        .name = s->name[0] != '\0' ? s->name : NULL};
    if (file_make_dirs(s->data, 0700, err) < 0 || loop_new(on_stop, d, &d->loop, err) < 0)
        return -1;
    return enrol_ensure(&enrol, &d->identity, err);
}

static int start(struct daemon *d, struct err *err)
{
    const struct settings *s = &d->settings;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (tls_server_new(&d->identity.files, false, &d->server_tls, err) < 0 ||
        tls_client_new(&d->identity.files, NULL, &d->client_tls, err) < 0)
        return -1;
    struct node_conf conf = {.data_dir = s->data,
        .listen = s->listen,
        .spool_bytes = s->spool_bytes,
        .threads = s->threads > 0   ? (unsigned)s->threads
                   : processors > 0 ? (unsigned)processors
                                    : 1,
        .compress_level_max = (int)s->compress_level,
        .server_tls = d->server_tls,
        .client_tls = d->client_tls};
    struct session_conf session = {
        .identity = &d->identity, .data_dir = s->data, .hub = s->hub, .software = SOFTWARE, .endpoint = d->endpoint};
    if (node_new(d->loop, &conf, &d->node, err) < 0 ||
        session_new(d->loop, &session, &session_ops, d, &d->session, err) < 0)
        return -1;
    if (s->probe_listen[0] != '\0' && probe_new(d->loop, s->probe_listen, &probe_ops, d, &d->probe, err) < 0)
        return -1;
    return loop_timer_new(
        d->loop, session_status_interval_usec(d->session), 0, report_status, d, &d->status_timer, err);
}

static void stop(struct daemon *d)
{
    loop_notify_stopping();
    probe_free(d->probe);
    loop_timer_free(d->status_timer);
    session_free(d->session);
    node_free(d->node);
    tls_context_free(d->server_tls);
    tls_context_free(d->client_tls);
    enrol_identity_done(&d->identity);
    loop_free(d->loop);
    free(d->endpoint);
}

static int serve(struct daemon *d, struct err *err)
{
    if (prepare(d, err) < 0 || start(d, err) < 0)
        return -1;
    log_event(LOG_INFO, "ready", LOG_S("id", d->identity.id_text), LOG_S("listen", d->settings.listen),
        LOG_U("port", node_port(d->node)), LOG_S("endpoint", d->endpoint));
    loop_notify_ready();
    return loop_run(d->loop, err);
}

int main(int argc, char **argv)
{
    struct daemon d = {0};
    struct err err = ERR_INIT;
    mem_keep_freed(KEEP_FREED_BYTES);
    int loaded = conf_load(
        rows, ARRAY_LEN(rows), "leeward-node", "replication gateway of a site", argc, argv, &d.settings, &err);
    int result = loaded == 0 ? serve(&d, &err) : loaded;
    if (result < 0) {
        (void)fprintf(stderr, "leeward-node: %s\n", err.text);
        if (err.correction[0] != '\0')
            (void)fprintf(stderr, "  %s\n", err.correction);
    }
    stop(&d);
    conf_done(rows, ARRAY_LEN(rows), &d.settings);
    return result < 0 ? (loaded < 0 ? 2 : 1) : 0;
}
