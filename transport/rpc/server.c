/* SPDX-License-Identifier: Apache-2.0
 *
 * A server: a listening socket, its connections, and the table of methods. A call is routed when its headers are whole;
 * whatever is wrong with it (method, content type, path, certificate) is answered, never met with silence. Health is built in.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/rpc/admission.h"
#include "transport/rpc/conn.h"
#include "transport/rpc/serving.h"
#include "transport/rpc/limits.h"
#include "transport/rpc/rpc.h"
#include "transport/rpc/tls_internal.h"

#define BACKLOG_MAX 1024u
#define BACKLOG_MIN 16u
#define BACKLOG_SEC 4u /* of what is let in: who waits longer than that may have given up, and still be counted */
#define ACCEPTS_PER_TURN 64
#define FAILURES_LOGGED 20u /* per ten seconds: an attacker must not fill the log */
#define FAILURES_USEC (10 * USEC_PER_SEC)
#define ACCEPT_PAUSE_USEC (100 * USEC_PER_MSEC)
#define PAUSE_ACCURACY_USEC USEC_PER_MSEC

struct server_conn {
    struct server_conn *next, *prev;
    struct rpc_server *server;
    struct conn *conn;
};

struct rpc_server {
    sd_event *loop;
    struct dispatch *dispatch;
    struct tls_context *tls;
    const struct rpc_method *methods;
    size_t method_count;
    void *arg;
    struct rpc_limits limits;
    int fd;
    unsigned port;
    char *unix_path;
    sd_event_source *io, *pause;
    struct server_conn *first;
    size_t connections, calls;
    struct admission admission;
    struct serving *health;
    bool draining;
    void (*drained)(void *arg);
    void *drained_arg;
    uint64_t failures_since;
    unsigned failures;
};

/* ---- calls ---- */

static void drain_check(struct rpc_server *s)
{
    if (!s->draining || s->calls > 0 || s->drained == NULL)
        return;
    void (*drained)(void *arg) = s->drained;
    s->drained = NULL;
    drained(s->drained_arg);
}

static void on_call_gone(void *owner, struct rpc_call *call)
{
    struct rpc_server *s = owner;
    (void)call;
    s->calls--;
    drain_check(s);
}

static const struct rpc_method *method_find(const struct rpc_server *s, const char *path)
{
    for (size_t i = 0; i < s->method_count; i++)
        if (strcmp(s->methods[i].path, path) == 0)
            return &s->methods[i];
    return serving_method(path);
}

static void call_route(struct rpc_server *s, struct rpc_call *call)
{
    struct err err = ERR_INIT;
    const struct rpc_method *method = call->path_too_long ? NULL : method_find(s, call->path);
    if (!call->is_post || !call->content_type_ok) {
        h2_respond_http(call->h2, call, call->is_post ? 415 : 405);
        return;
    }
    if (s->draining) {
        rpc_call_finish(call, RPC_UNAVAILABLE, "the server is shutting down; try again");
        return;
    }
    if (method == NULL) {
        rpc_call_finish(call, RPC_UNIMPLEMENTED, "no such method here");
        return;
    }
    if (s->tls != NULL && !call->peer.authenticated && !method->allow_anonymous) {
        rpc_call_finish(call, RPC_UNAUTHENTICATED, "this method needs a client certificate; enrol first");
        return;
    }
    const struct rpc_call_ops *ops = NULL;
    void *arg = NULL;
    bool is_health = serving_method(call->path) == method;
    if (method->accept(call, is_health ? (void *)s->health : s->arg, &ops, &arg, &err) < 0) {
        rpc_call_fail(call, &err);
        return;
    }
    call->ops = ops;
    call->arg = arg;
    if (call_arm_deadline(call, s->loop, &err) < 0)
        rpc_call_fail(call, &err);
}

static void on_begin(void *owner, struct rpc_call *call)
{
    if (call->h2 != NULL)
        call_route(owner, call);
}

/* ---- connections ---- */

static int on_conn_request(struct conn *conn, void *owner, struct rpc_call *call)
{
    struct server_conn *sc = owner;
    (void)conn;
    call->owner = sc->server;
    call->on_begin = on_begin;
    call->on_gone = on_call_gone;
    sc->server->calls++;
    return 0;
}

static void on_conn_up(struct conn *conn, void *owner)
{
    (void)conn;
    (void)owner;
}

static void failure_log(struct rpc_server *s, const struct conn *conn, const struct err *why)
{
    uint64_t now = clock_mono_usec();
    if (now - s->failures_since > FAILURES_USEC) {
        s->failures_since = now;
        s->failures = 0;
    }
    if (s->failures++ < FAILURES_LOGGED)
        log_event(LOG_WARN, "connection_refused", LOG_S("peer", conn_address(conn)), LOG_E(why),
            LOG_S("correction", why->correction));
}

static void server_conn_free(struct server_conn *sc)
{
    struct rpc_server *s = sc->server;
    if (sc->prev != NULL)
        sc->prev->next = sc->next;
    else
        s->first = sc->next;
    if (sc->next != NULL)
        sc->next->prev = sc->prev;
    s->connections--;
    conn_unref(sc->conn);
    free(sc);
}

static void on_conn_down(struct conn *conn, void *owner, const struct err *why)
{
    struct server_conn *sc = owner;
    if (why->code != ERR_UNAVAILABLE)
        failure_log(sc->server, conn, why);
    else
        log_event(LOG_DEBUG, "connection_closed", LOG_S("peer", conn_address(conn)), LOG_S("why", why->text));
    server_conn_free(sc);
}

static const struct conn_ops server_conn_ops = {
    .up = on_conn_up,
    .request = on_conn_request,
    .down = on_conn_down,
};

static int accept_one(struct rpc_server *s, int fd, const struct address_socket *peer, struct err *err)
{
    struct server_conn *sc = mem_new(struct server_conn);
    if (sc == NULL) {
        (void)close(fd);
        return err_set(err, ERR_NOMEM, "no memory for a connection");
    }
    struct conn_conf conf = {.loop = s->loop,
        .is_server = true,
        .tls = s->tls,
        .limits = &s->limits,
        .dispatch = s->dispatch,
        .ops = &server_conn_ops,
        .owner = sc};
    if (conn_accept(&conf, fd, peer, &sc->conn, err) < 0) {
        free(sc);
        return -1;
    }
    sc->server = s;
    sc->next = s->first;
    if (s->first != NULL)
        s->first->prev = sc;
    s->first = sc;
    s->connections++;
    return 0;
}

static int on_pause_over(sd_event_source *source, uint64_t usec, void *arg)
{
    struct rpc_server *s = arg;
    (void)source;
    (void)usec;
    (void)sd_event_source_set_enabled(s->io, SD_EVENT_ON);
    return 0;
}

static void accept_pause(struct rpc_server *s, uint64_t usec)
{
    (void)sd_event_source_set_enabled(s->io, SD_EVENT_OFF);
    if (s->pause == NULL) {
        if (sd_event_add_time_relative(
                s->loop, &s->pause, CLOCK_MONOTONIC, usec, PAUSE_ACCURACY_USEC, on_pause_over, s) < 0)
            (void)sd_event_source_set_enabled(s->io, SD_EVENT_ON); /* rather too many than none any more */
        return;
    }
    (void)sd_event_source_set_time_relative(s->pause, usec);
    (void)sd_event_source_set_enabled(s->pause, SD_EVENT_ONESHOT);
}

/* Out of descriptors or memory: accepting again at once would only spin. */
static void accept_failed(struct rpc_server *s, int error)
{
    struct err err = ERR_INIT;
    (void)err_sys(&err, error, "accepting a connection");
    log_event(LOG_ERROR, "accept_paused", LOG_E(&err));
    accept_pause(s, ACCEPT_PAUSE_USEC);
}

static int on_listen(sd_event_source *source, int listen_fd, uint32_t events, void *arg)
{
    struct rpc_server *s = arg;
    struct err err = ERR_INIT;
    (void)source;
    (void)events;
    for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
        uint64_t now = clock_mono_usec(), wait = admission_wait(&s->admission, now);
        if (wait > 0) {
            accept_pause(s, wait);
            return 0;
        }
        struct address_socket peer = {.len = sizeof(peer.sa)};
        int fd = accept4(listen_fd, &peer.sa.any, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
            accept_failed(s, errno);
            return 0;
        }
        if (fd < 0)
            continue;
        admission_note(&s->admission, now);
        if (s->connections >= s->limits.connections_max) {
            (void)close(fd);
            err_set(&err, ERR_NOMEM, "the limit of %u connections is reached", s->limits.connections_max);
            if (s->failures++ < FAILURES_LOGGED)
                log_event(LOG_WARN, "connection_refused", LOG_E(&err));
            continue;
        }
        if (accept_one(s, fd, &peer, &err) < 0)
            log_event(LOG_ERROR, "connection_refused", LOG_E(&err));
    }
    return 0;
}

/* ---- listening ---- */

static int listen_unix(struct rpc_server *s, const struct address_socket *at, struct err *err)
{
    struct stat st;
    /* A socket file that a killed process left; anything else at that path stays and makes bind fail. */
    if (lstat(at->sa.un.sun_path, &st) == 0 && S_ISSOCK(st.st_mode))
        (void)unlink(at->sa.un.sun_path);
    mode_t old = umask(0077);
    int rc = bind(s->fd, &at->sa.any, at->len);
    int error = errno;
    (void)umask(old);
    if (rc < 0)
        return err_sys(err, error, "listening on unix:%s", at->sa.un.sun_path);
    s->unix_path = mem_strdup(at->sa.un.sun_path);
    return s->unix_path == NULL ? err_set(err, ERR_NOMEM, "no memory for a server") : 0;
}

static int listen_tcp(struct rpc_server *s, const struct address_socket *at, const char *text, struct err *err)
{
    int one = 1;
    struct address_socket bound = {.len = sizeof(bound.sa)};
    (void)setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(s->fd, &at->sa.any, at->len) < 0) {
        err_sys(err, errno, "listening on %s", text);
        return err_hint(err, "another process may hold the port; choose another address");
    }
    if (getsockname(s->fd, &bound.sa.any, &bound.len) < 0)
        return err_sys(err, errno, "listening on %s", text);
    s->port = ntohs(bound.sa.any.sa_family == AF_INET6 ? bound.sa.in6.sin6_port : bound.sa.in.sin_port);
    return 0;
}

/* Where new connections are limited, as many wait as will be let in soon; the kernel has others try again. */
static int backlog_of(const struct rpc_limits *limits)
{
    uint64_t n = (uint64_t)limits->accepts_per_sec * BACKLOG_SEC;
    if (limits->accepts_per_sec == 0 || n > BACKLOG_MAX)
        return (int)BACKLOG_MAX;
    return (int)(n < BACKLOG_MIN ? BACKLOG_MIN : n);
}

static int server_listen(struct rpc_server *s, const char *text, struct err *err)
{
    struct address address;
    struct address_socket at;
    if (address_parse(text, &address, err) < 0)
        return -1;
    if (s->tls == NULL && !address.is_unix)
        return err_set(err, ERR_INVALID, "a server without TLS listens on unix sockets only, not on %s", text);
    int found = address_numeric(&address, &at, err);
    if (found < 0)
        return -1;
    if (found == 0) {
        err_set(err, ERR_INVALID, "cannot listen on %s: not a numeric address", text);
        return err_hint(err, "write 0.0.0.0:PORT, [::]:PORT or an address of this machine");
    }
    s->fd = socket(at.sa.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return err_sys(err, errno, "making a socket");
    if ((address.is_unix ? listen_unix(s, &at, err) : listen_tcp(s, &at, text, err)) < 0)
        return -1;
    if (listen(s->fd, backlog_of(&s->limits)) < 0)
        return err_sys(err, errno, "listening on %s", text);
    int rc = sd_event_add_io(s->loop, &s->io, s->fd, EPOLLIN, on_listen, s);
    return rc < 0 ? err_sys(err, -rc, "adding a server to the event loop") : 0;
}

static void listen_stop(struct rpc_server *s)
{
    s->io = sd_event_source_disable_unref(s->io);
    s->pause = sd_event_source_disable_unref(s->pause);
    if (s->fd >= 0)
        (void)close(s->fd);
    s->fd = -1;
    if (s->unix_path != NULL)
        (void)unlink(s->unix_path);
    free(TAKE_PTR(s->unix_path));
}

/* ---- public ---- */

/* Each connection is a descriptor, and the usual soft limit of 1024 is there for the sake of select(2), which nobody here
 * calls. */
static void descriptors_allow(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

int rpc_server_new(sd_event *loop, const char *address, struct tls_context *tls, const struct rpc_method *methods,
    size_t method_count, void *server_arg, const struct rpc_limits *limits, struct rpc_server **ret_server,
    struct err *err)
{
    struct rpc_server *s = mem_new(struct rpc_server);
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a server");
    s->loop = sd_event_ref(loop);
    s->tls = tls_context_ref(tls);
    s->methods = methods;
    s->method_count = method_count;
    s->arg = server_arg;
    s->fd = -1;
    descriptors_allow();
    limits_resolve(limits, &s->limits);
    s->admission.per_sec = s->limits.accepts_per_sec;
    if (dispatch_new(loop, &s->dispatch, err) < 0 || serving_new(&s->health, err) < 0 ||
        server_listen(s, address, err) < 0) {
        rpc_server_free(s);
        return -1;
    }
    *ret_server = s;
    return 0;
}

unsigned rpc_server_port(const struct rpc_server *s)
{
    return s->port;
}

void rpc_server_set_stream_window(struct rpc_server *s, uint32_t bytes)
{
    struct rpc_limits changed = s->limits;
    changed.stream_window = bytes;
    changed.connection_window = 0;
    limits_resolve(&changed, &s->limits);
    for (struct server_conn *sc = s->first; sc != NULL; sc = sc->next)
        if (conn_h2(sc->conn) != NULL)
            h2_set_windows(conn_h2(sc->conn), s->limits.stream_window, s->limits.connection_window);
}

void rpc_server_set_serving(struct rpc_server *s, const char *service, bool serving)
{
    serving_set(s->health, service, serving);
}

void rpc_server_drain(struct rpc_server *s, void (*drained)(void *arg), void *arg)
{
    s->draining = true;
    s->drained = drained;
    s->drained_arg = arg;
    serving_shut(s->health);
    listen_stop(s);
    for (struct server_conn *sc = s->first; sc != NULL; sc = sc->next)
        if (conn_h2(sc->conn) != NULL)
            h2_drain(conn_h2(sc->conn));
    drain_check(s);
}

void rpc_server_drop_revoked(struct rpc_server *s)
{
    struct err why = ERR_INIT;
    err_set(&why, ERR_UNAUTHENTICATED, "the peer's certificate is revoked");
    for (struct server_conn *sc = s->first, *next; sc != NULL; sc = next) {
        next = sc->next;
        if (conn_is_revoked(sc->conn))
            conn_close(sc->conn, &why);
    }
}

void rpc_server_free(struct rpc_server *s)
{
    if (s == NULL)
        return;
    s->drained = NULL;
    listen_stop(s);
    while (s->first != NULL) {
        conn_shut(s->first->conn, RPC_UNAVAILABLE, "the server was shut down");
        server_conn_free(s->first);
    }
    if (s->dispatch != NULL)
        dispatch_close(s->dispatch);
    dispatch_unref(s->dispatch);
    serving_free(s->health);
    tls_context_free(s->tls);
    sd_event_unref(s->loop);
    free(s);
}
