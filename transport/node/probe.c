/* SPDX-License-Identifier: Apache-2.0
 *
 * Probes. libmicrohttpd keeps its sockets in an epoll set of its own; that set's descriptor is one source of the loop, and a
 * timer lets it end connections that say nothing. Each answer is made in the access handler, which therefore must not block.
 *
 * Failure modes: an answer that cannot be made is a 500; a client that is slow, or one too many, loses its connection.
 * Sources: libmicrohttpd, MHD_start_daemon (external polling with MHD_USE_EPOLL); Kubernetes, "Liveness, Readiness and Startup
 * Probes" (anything from 200 to 399 is yes).
 */
#include "transport/node/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"
#include "transport/rpc/address.h"

#define CONNECTIONS_MAX 32u /* a kubelet, a scraper or two, and people with curl */
#define SILENCE_S 10u
#define TICK_USEC USEC_PER_SEC
#define BACKLOG 32
#define TURNS_MAX 64u
#define METRICS_MAX (8u << 20) /* a node has some hundred machines, each with a few lines of 150 bytes */

struct probe {
    const struct probe_ops *ops;
    void *arg;
    struct MHD_Daemon *http;
    sd_event_source *sockets;
    struct loop_timer *tick;
    int listen_fd;
};

/* ---- answers ---- */

/* Takes body's memory. */
static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type, struct buf *body)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(body->len, body->data, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result sent = MHD_NO;

    if (r && MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type) == MHD_YES &&
        MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") == MHD_YES)
        sent = MHD_queue_response(c, status, r);
    if (r)
        MHD_destroy_response(r);
    return sent;
}

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned status, const char *text)
{
    AUTO_BUF struct buf body = BUF_INIT(1024);

    if (buf_printf(&body, NULL, "%s\n", text) < 0)
        return MHD_NO;
    return answer(c, status, "text/plain; charset=utf-8", &body);
}

static enum MHD_Result answer_ready(struct probe *probe, struct MHD_Connection *c)
{
    char reason[PROBE_REASON_SIZE] = "";

    if (probe->ops->is_ready(probe->arg, reason))
        return answer_text(c, MHD_HTTP_OK, "ready");
    return answer_text(c, MHD_HTTP_SERVICE_UNAVAILABLE, reason);
}

static enum MHD_Result answer_metrics(struct probe *probe, struct MHD_Connection *c)
{
    AUTO_BUF struct buf body = BUF_INIT(METRICS_MAX);
    struct err err = ERR_INIT;

    if (probe->ops->write_metrics(probe->arg, &body, &err) < 0)
        return answer_text(c, MHD_HTTP_INTERNAL_SERVER_ERROR, err.text);
    return answer(c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
    const char *version, const char *body, size_t *body_size, void **seen)
{
    static char marker;
    struct probe *probe = arg;

    (void)version;
    (void)body;
    if (!*seen) { /* the head is there; what follows it is thrown away */
        *seen = &marker;
        return MHD_YES;
    }
    if (*body_size != 0) {
        *body_size = 0;
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET");
    if (strcmp(url, "/healthz") == 0)
        return answer_text(c, MHD_HTTP_OK, "alive");
    if (strcmp(url, "/readyz") == 0)
        return answer_ready(probe, c);
    if (strcmp(url, "/metrics") == 0)
        return answer_metrics(probe, c);
    return answer_text(c, MHD_HTTP_NOT_FOUND, "there are /healthz, /readyz and /metrics");
}

/* ---- on the loop ---- */

/* What the library has read already its epoll set does not report again. */
static void serve_what_is_there(struct probe *probe)
{
    MHD_UNSIGNED_LONG_LONG wait_ms = 0;

    for (unsigned turn = 0; turn < TURNS_MAX; turn++) {
        (void)MHD_run(probe->http);
        if (MHD_get_timeout(probe->http, &wait_ms) != MHD_YES || wait_ms > 0)
            return;
    }
}

static int on_sockets(sd_event_source *source, int fd, uint32_t events, void *arg)
{
    struct probe *probe = arg;

    (void)source;
    (void)fd;
    (void)events;
    serve_what_is_there(probe);
    return 0;
}

static void on_tick(void *arg)
{
    serve_what_is_there(arg);
}

/* ---- listening ---- */

static int open_listener(struct probe *probe, const char *listen_text, struct err *err)
{
    struct address address;
    struct address_socket at;
    int one = 1;

    if (address_parse(listen_text, &address, err) < 0)
        return -1;
    if (address.is_unix || address_numeric(&address, &at, err) != 1) {
        (void)err_set(err, ERR_INVALID, "probes cannot be answered on \"%.100s\"", listen_text);
        return err_hint(err, "Give a numeric address and a port: 0.0.0.0:9080.");
    }
    probe->listen_fd = socket(at.sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe->listen_fd < 0)
        return err_sys(err, errno, "making a socket for probes");
    (void)setsockopt(probe->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(probe->listen_fd, &at.sa.any, at.len) < 0 || listen(probe->listen_fd, BACKLOG) < 0) {
        (void)err_sys(err, errno, "answering probes on %s", listen_text);
        return err_hint(err, "Stop what uses that port (`ss -ltnp`), or choose another with --probe-listen.");
    }
    return 0;
}

static int start(struct probe *probe, sd_event *loop, struct err *err)
{
    const union MHD_DaemonInfo *info;
    int rc;

    probe->http =
        MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, probe, MHD_OPTION_LISTEN_SOCKET, probe->listen_fd,
            MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, SILENCE_S, MHD_OPTION_END);
    if (!probe->http)
        return err_set(err, ERR_IO, "the server for probes does not start");
    probe->listen_fd = -1; /* it is the server's */
    info = MHD_get_daemon_info(probe->http, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info)
        return err_set(err, ERR_INTERNAL, "the server for probes has no epoll set");
    rc = sd_event_add_io(loop, &probe->sockets, info->epoll_fd, EPOLLIN, on_sockets, probe);
    if (rc < 0)
        return err_sys(err, -rc, "watching the server for probes");
    return loop_timer_new(loop, TICK_USEC, TICK_USEC, on_tick, probe, &probe->tick, err);
}

int probe_new(sd_event *loop, const char *listen, const struct probe_ops *ops, void *arg, struct probe **ret_probe,
    struct err *err)
{
    struct probe *probe = mem_new(struct probe);

    if (!probe)
        return err_set(err, ERR_NOMEM, "no memory for answering probes");
    probe->ops = ops;
    probe->arg = arg;
    probe->listen_fd = -1;
    if (open_listener(probe, listen, err) < 0 || start(probe, loop, err) < 0) {
        probe_free(probe);
        return -1;
    }
    *ret_probe = probe;
    return 0;
}

unsigned probe_port(const struct probe *probe)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(probe->http, MHD_DAEMON_INFO_BIND_PORT);

    return info ? info->port : 0;
}

void probe_free(struct probe *probe)
{
    if (!probe)
        return;
    loop_timer_free(probe->tick);
    (void)sd_event_source_disable_unref(probe->sockets);
    if (probe->http)
        MHD_stop_daemon(probe->http);
    if (probe->listen_fd >= 0)
        (void)close(probe->listen_fd);
    free(probe);
}
