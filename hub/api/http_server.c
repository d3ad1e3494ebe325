/* SPDX-License-Identifier: Apache-2.0
 *
 * One exchange is one request with its answer. Happy path: libmicrohttpd calls `handle` when the head of a request is there
 * (begin), again for pieces of its body (receive), and once more at its end (dispatch): the connection is suspended and
 * the exchange goes to the handler pool. A handler thread resumes the connection, `handle` is called again and queues the
 * reply. An event stream is a reply whose reader suspends the connection when there is nothing to send.
 *
 * Bounds: connections (in all and per address), time (client_watch), body of one request and of all requests together,
 * requests that are queued. Over a bound the client gets 413 or 503 or is disconnected; nothing is allocated for it.
 * TLS 1.2 or later by GnuTLS inside libmicrohttpd. Source: libmicrohttpd 0.9.75 manual, "suspend and resume".
 */
#include "hub/api/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "hub/api/api_metrics.h"
#include "hub/api/client_watch.h"
#include "hub/api/console.h"
#include "hub/api/event_feed.h"
#include "hub/api/handler_pool.h"
#include "hub/api/http_gzip.h"
#include "hub/api/http_route.h"
#include "hub/api/json_schema.h"
#include "hub/api/tls_identity.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

#define NETWORK_THREADS 2u
#define CONNECTIONS_MAX 2048u /* a suspended connection costs about 60 KiB with TLS: 120 MiB at worst */
#define CONNECTIONS_PER_ADDRESS 512u
#define CONNECTION_MEMORY (32u * 1024u) /* head of a request and of its answer */
#define QUEUE_MAX 512u
#define BODIES_MAX (64u * 1024u * 1024u) /* of all requests that are being received */
/* What is read and forgotten of a body that is too large, so that its client can take the answer instead of a reset. */
#define FORGOTTEN_MAX (8u * 1024u * 1024u)
#define ARGUMENTS_MAX 64u
#define STREAM_BLOCK 4096u
#define LAST_ANSWERS_SEC 5u /* for clients to take what was answered before everything is closed */

#define TLS_PRIORITIES "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"

struct http_server {
    const struct api_services *services;
    struct MHD_Daemon *daemon;
    struct handler_pool *pool;
    struct client_watch *watch;
    int listen_fd;
    unsigned port;
    atomic_size_t body_bytes;
    atomic_bool stopping;
    pthread_mutex_t lock; /* `unsent` */
    pthread_cond_t sent;  /* the last of them is out */
    size_t unsent;        /* requests that a handler took and whose answer is not out */
};

enum exchange_state { RECEIVING, WORKING, ANSWERED };

struct exchange {
    struct handler_item item;
    struct http_server *server;
    struct MHD_Connection *connection;
    struct client *client;
    struct request request;
    atomic_int state;     /* WORKING: a handler thread owns the request */
    size_t counted_bytes; /* of body_bytes */
    size_t forgotten_bytes;
    bool too_large, overloaded;
    bool unsent; /* counted in the server's */
};

/* ---- reading the head ---- */

static int collect_argument(struct request *r, const char *key, const char *value)
{
    json_t *text = json_string(value ? value : "");
    json_t *before = json_object_get(r->arguments, key);

    if (!text || json_object_size(r->arguments) >= ARGUMENTS_MAX) {
        json_decref(text);
        json_schema_fault(
            r->errors, "query", "encoding", "the query must be UTF-8 and have at most %u parameters", ARGUMENTS_MAX);
        return -1;
    }
    if (before) { /* refused later, by name */
        json_decref(text);
        text = json_array();
    }
    if (json_object_set_new(r->arguments, key, text) < 0)
        json_schema_fault(r->errors, "query", "encoding", "the names of parameters must be UTF-8");
    return 0;
}

static enum MHD_Result on_argument(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    return collect_argument(cls, key, value) == 0 ? MHD_YES : MHD_NO;
}

static char *header(struct MHD_Connection *connection, const char *name)
{
    const char *value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);

    return value ? mem_strndup(value, 4096) : NULL;
}

static char *cookie(struct MHD_Connection *connection, const char *name)
{
    const char *value = MHD_lookup_connection_value(connection, MHD_COOKIE_KIND, name);

    return value ? mem_strndup(value, 256) : NULL;
}

/* The client's own id, if it is harmless; ours otherwise. */
static void choose_request_id(struct request *r, const char *wanted)
{
    struct ident id;
    size_t n = wanted ? strspn(wanted, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") : 0;

    if (n > 0 && n < sizeof(r->id) && !wanted[n])
        (void)snprintf(r->id, sizeof(r->id), "%s", wanted);
    else if (ident_random(&id) == 0)
        ident_to_text(&id, r->id);
}

static void note_peer(struct request *r, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

    if (!info || !info->client_addr)
        return;
    (void)getnameinfo(info->client_addr,
        info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in), r->peer,
        sizeof(r->peer), NULL, 0, NI_NUMERICHOST);
}

static void read_head(struct exchange *x, const char *url, const char *method)
{
    struct request *r = &x->request;

    (void)snprintf(r->method, sizeof(r->method), "%s", method);
    if (strlen(url) < sizeof(r->path))
        memcpy(r->path, url, strlen(url) + 1);
    r->arguments = json_object();
    r->errors = json_array();
    MHD_get_connection_values(x->connection, MHD_GET_ARGUMENT_KIND, on_argument, r);
    r->headers = (struct request_headers){
        .authorization = header(x->connection, "Authorization"),
        .if_match = header(x->connection, "If-Match"),
        .if_none_match = header(x->connection, "If-None-Match"),
        .idempotency_key = header(x->connection, "Idempotency-Key"),
        .content_type = header(x->connection, "Content-Type"),
        .last_event_id = header(x->connection, "Last-Event-ID"),
        .session = cookie(x->connection, REQUEST_COOKIE),
        .oidc = cookie(x->connection, REQUEST_OIDC_COOKIE),
        .csrf = header(x->connection, "X-CSRF-Token"),
        .user_agent = header(x->connection, "User-Agent"),
        .accept_encoding = header(x->connection, "Accept-Encoding"),
    };
    choose_request_id(r, MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "X-Request-Id"));
    note_peer(r, x->connection);
}

/* ---- answering ---- */

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    if (value && *value)
        (void)MHD_add_response_header(response, name, value);
}

static void add_common_headers(struct MHD_Response *response, const struct request *r)
{
    add_header(response, "X-Request-Id", r->id);
    add_header(response, "X-Content-Type-Options", "nosniff");
    add_header(response, "X-Frame-Options", "DENY");
    add_header(response, "Referrer-Policy", "no-referrer");
    add_header(response, "Strict-Transport-Security", "max-age=31536000");
}

/* draft-ietf-httpapi-ratelimit-headers: what may be asked at once, and what is left of it. */
static void add_rate(struct MHD_Response *response, const struct request *r)
{
    char text[80];

    if (r->rate.limit == 0)
        return;
    (void)snprintf(text, sizeof(text), "\"requests\";q=%u", r->rate.limit);
    add_header(response, "RateLimit-Policy", text);
    (void)snprintf(text, sizeof(text), "\"requests\";r=%u;t=%u", r->rate.remaining, r->rate.wait_sec);
    add_header(response, "RateLimit", text);
}

static void add_headers(struct MHD_Response *response, const struct request *r)
{
    const struct reply *reply = &r->reply;
    char text[REQUEST_ETAG_SIZE + 4];

    add_common_headers(response, r);
    add_header(response, "Cache-Control", "no-store");
    add_header(response, "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
    if (reply->status != 204 && reply->status != 304)
        add_header(response, "Content-Type",
            reply->content_type                                             ? reply->content_type
            : reply->status >= 400 && json_object_get(reply->json, "title") ? "application/problem+json"
                                                                            : "application/json");
    add_header(response, "Location", reply->location);
    add_header(response, "Allow", reply->allow);
    add_header(response, "Set-Cookie", reply->cookie);
    add_header(response, "Link", reply->link);
    add_header(response, "Vary", "Accept-Encoding");
    if (reply->gzip)
        add_header(response, "Content-Encoding", "gzip");
    add_rate(response, r);
    if (reply->status == 401)
        add_header(response, "WWW-Authenticate", "Bearer realm=\"leeward\"");
    if (reply->etag[0]) {
        (void)snprintf(text, sizeof(text), "\"%s\"", reply->etag);
        add_header(response, "ETag", text);
    }
    if (reply->retry_after_sec) {
        (void)snprintf(text, sizeof(text), "%u", reply->retry_after_sec);
        add_header(response, "Retry-After", text);
    }
}

static ssize_t on_stream_read(void *cls, uint64_t pos, char *out, size_t max)
{
    ssize_t n = event_stream_read(cls, out, max);

    (void)pos;
    return n < 0 ? MHD_CONTENT_READER_END_OF_STREAM : n;
}

static void stream_sleep(void *arg)
{
    MHD_suspend_connection(arg);
}

static void stream_wake(void *arg)
{
    MHD_resume_connection(arg);
}

static struct MHD_Response *make_response(struct exchange *x)
{
    struct reply *reply = &x->request.reply;
    struct MHD_Response *response;

    if (reply->stream) {
        event_stream_bind(reply->stream, stream_sleep, stream_wake, x->connection);
        return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_stream_read, reply->stream, NULL);
    }
    response = MHD_create_response_from_buffer(reply->text ? reply->text_len : 0, reply->text, MHD_RESPMEM_MUST_FREE);
    if (response)
        reply->text = NULL;
    return response;
}

static size_t route_index(const struct http_route *route)
{
    return route ? (size_t)(route - http_routes) : SIZE_MAX;
}

static void note_answer(const struct exchange *x)
{
    const struct request *r = &x->request;
    uint64_t usec = clock_mono_usec() - r->begun_usec;

    api_metrics_count(r->services->metrics, route_index(r->route), r->reply.status, r->wait_until_usec ? 0 : usec);
    /* What was refused is told even of reading; a flood is told once a second where it is stopped. */
    log_event(
        (strcmp(r->method, "GET") != 0 || r->reply.status >= 400) && r->reply.status != 429 ? LOG_INFO : LOG_DEBUG,
        "api_request", LOG_S("method", r->method), LOG_S("path", r->path), LOG_I("status", r->reply.status),
        LOG_U("usec", usec), LOG_S("actor", r->principal.name), LOG_S("peer", r->peer), LOG_S("request_id", r->id));
}

/* The body as text; done on the handler thread where there is one. */
static void render(struct request *r)
{
    if (r->reply.json && !r->reply.text) {
        r->reply.text = json_dumps(r->reply.json, REPLY_JSON_FLAGS);
        r->reply.text_len = r->reply.text ? strlen(r->reply.text) : 0;
        if (!r->reply.text)
            r->reply.status = 500;
    }
    /* An ETag names one form of an item: those stay as they are, and are small. The network threads do not compress. */
    if (!r->reply.rendered && r->reply.text && !r->reply.etag[0] && r->route && !(r->route->flags & ROUTE_INLINE) &&
        http_gzip_accepted(r->headers.accept_encoding))
        r->reply.gzip = http_gzip(&r->reply.text, &r->reply.text_len);
    r->reply.rendered = true;
}

static enum MHD_Result answer(struct exchange *x)
{
    struct request *r = &x->request;
    struct MHD_Response *response;
    enum MHD_Result rc;

    render(r);
    note_answer(x);
    if (!(response = make_response(x)))
        return MHD_NO;
    add_headers(response, r);
    client_allow(x->server->watch, x->client, r->reply.stream ? 0 : CLIENT_ANSWER_SEC);
    rc = MHD_queue_response(x->connection, (unsigned)r->reply.status, response);
    MHD_destroy_response(response);
    return rc;
}

/* A file of the console; its bytes are sent from where they lie. false: the request is none of the console's. */
static bool answer_console(struct exchange *x, enum MHD_Result *ret_rc)
{
    struct request *r = &x->request;
    const struct console_request request = {
        .method = r->method,
        .path = r->path,
        .accept = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "Accept"),
        .accept_encoding = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "Accept-Encoding"),
        .if_none_match = r->headers.if_none_match,
    };
    struct console_answer found;
    struct MHD_Response *response;

    if (!console_find(console_files, console_file_count, console_blob, &request, &found))
        return false;
    atomic_store(&x->state, ANSWERED);
    r->reply.status = found.status;
    note_answer(x);
    *ret_rc = MHD_NO;
    response = MHD_create_response_from_buffer(found.body_len, (void *)(uintptr_t)found.body, MHD_RESPMEM_PERSISTENT);
    if (!response)
        return true;
    add_common_headers(response, r);
    for (size_t i = 0; found.headers[i].name; i++)
        add_header(response, found.headers[i].name, found.headers[i].value);
    client_allow(x->server->watch, x->client, CLIENT_ANSWER_SEC);
    *ret_rc = MHD_queue_response(x->connection, (unsigned)found.status, response);
    MHD_destroy_response(response);
    return true;
}

static enum MHD_Result refuse(struct exchange *x, int status, const char *code, const char *text, const char *hint)
{
    reply_problem_status(&x->request, status, code, text, hint);
    atomic_store(&x->state, ANSWERED);
    return answer(x);
}

static enum MHD_Result refuse_too_large(struct exchange *x)
{
    return refuse(x, 413, "too_large", "the body is larger than 1 MiB", "Send less at once.");
}

/* ---- what is not answered yet ---- */

static void owe_answer(struct exchange *x)
{
    pthread_mutex_lock(&x->server->lock);
    x->unsent = true;
    x->server->unsent++;
    pthread_mutex_unlock(&x->server->lock);
    api_metrics_in_flight(x->server->services->metrics, 1);
}

static void answer_is_out(struct exchange *x)
{
    if (!x->unsent)
        return;
    api_metrics_in_flight(x->server->services->metrics, -1);
    pthread_mutex_lock(&x->server->lock);
    if (--x->server->unsent == 0)
        pthread_cond_broadcast(&x->server->sent);
    pthread_mutex_unlock(&x->server->lock);
}

/* MHD_stop_daemon() closes connections whose answer is queued and not sent. */
static void wait_for_last_answers(struct http_server *server)
{
    struct timespec until;
    size_t lost;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LAST_ANSWERS_SEC;
    pthread_mutex_lock(&server->lock);
    while (server->unsent > 0 && pthread_cond_timedwait(&server->sent, &server->lock, &until) == 0)
        ;
    lost = server->unsent;
    pthread_mutex_unlock(&server->lock);
    if (lost > 0)
        log_event(LOG_WARN, "api_answers_not_taken", LOG_U("count", lost));
}

/* ---- handler threads ---- */

static void run_exchange(struct handler_item *item)
{
    struct exchange *x = (struct exchange *)item;
    struct request *r = &x->request;
    bool done;

    r->wait_is_over = atomic_load(&x->server->stopping);
    done = item->waited ? http_route_look(r) : http_route_run(r);
    if (!done && handler_pool_wait(x->server->pool, item, r->wait_until_usec) == 0)
        return;
    render(r);
    atomic_store(&x->state, ANSWERED);
    MHD_resume_connection(x->connection); /* from here on the exchange belongs to the network thread */
}

/* ---- the life of an exchange ---- */

struct framing {
    unsigned lengths, encodings;
};

static enum MHD_Result on_framing(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct framing *f = cls;

    (void)kind;
    (void)value;
    f->lengths += strcasecmp(key, "Content-Length") == 0;
    f->encodings += strcasecmp(key, "Transfer-Encoding") == 0;
    return MHD_YES;
}

/* Two ends of one body: a proxy before us may believe the other one, and what is behind it would be a request that nobody
 * sent (RFC 9112 section 11.2). */
static bool framing_is_clear(struct MHD_Connection *connection)
{
    struct framing f = {0};

    (void)MHD_get_connection_values(connection, MHD_HEADER_KIND, on_framing, &f);
    return f.lengths + f.encodings <= 1;
}

static enum MHD_Result begin(
    struct http_server *server, struct MHD_Connection *connection, const char *url, const char *method, void **con_cls)
{
    struct exchange *x = mem_new(struct exchange);
    const union MHD_ConnectionInfo *info;
    const char *length;

    if (!x)
        return MHD_NO;
    *con_cls = x;
    x->server = server;
    x->connection = connection;
    request_init(&x->request, server->services);
    info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    x->client = info ? info->socket_context : NULL;
    client_allow(server->watch, x->client, CLIENT_REQUEST_SEC);
    read_head(x, url, method);
    if (!framing_is_clear(connection))
        return refuse(x, 400, "invalid", "the request says more than once where its body ends",
            "Send Content-Length or Transfer-Encoding, once.");
    length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
    x->too_large = length && (strlen(length) > 9 || strtoul(length, NULL, 10) > REQUEST_BODY_MAX);
    if (x->too_large && (strlen(length) > 9 || strtoul(length, NULL, 10) > FORGOTTEN_MAX))
        return refuse_too_large(x);
    return MHD_YES;
}

/* MHD_NO: the client goes on and on; the connection is closed. */
static enum MHD_Result receive(struct exchange *x, const char *data, size_t n)
{
    struct err err = ERR_INIT;

    if (x->too_large || x->overloaded) {
        x->forgotten_bytes += n;
        return x->forgotten_bytes <= FORGOTTEN_MAX ? MHD_YES : MHD_NO;
    }
    if (atomic_fetch_add(&x->server->body_bytes, n) + n > BODIES_MAX)
        x->overloaded = true;
    x->counted_bytes += n;
    if (!x->overloaded && buf_append(&x->request.raw_body, data, n, &err) < 0)
        x->too_large = true;
    return MHD_YES;
}

static enum MHD_Result dispatch(struct exchange *x)
{
    struct request *r = &x->request;
    enum MHD_Result rc;

    if (x->too_large)
        return refuse_too_large(x);
    if (x->overloaded || atomic_load(&x->server->stopping))
        return refuse(x, 503, "unavailable", "the hub has too much to do, or is going down", "Try again.");
    if (answer_console(x, &rc))
        return rc;
    if (http_route_find(r) < 0) {
        atomic_store(&x->state, ANSWERED);
        return answer(x);
    }
    if (r->route->flags & ROUTE_INLINE) {
        (void)http_route_run(r);
        atomic_store(&x->state, ANSWERED);
        return answer(x);
    }
    client_allow(x->server->watch, x->client, 0);
    owe_answer(x);
    atomic_store(&x->state, WORKING);
    MHD_suspend_connection(x->connection);
    if (handler_pool_submit(x->server->pool, &x->item) == 0)
        return MHD_YES;
    reply_problem_status(r, 503, "unavailable", "the hub has too much to do", "Try again.");
    atomic_store(&x->state, ANSWERED);
    MHD_resume_connection(x->connection);
    return MHD_YES;
}

static enum MHD_Result handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
    const char *version, const char *data, size_t *data_len, void **con_cls)
{
    struct exchange *x = *con_cls;

    (void)version;
    if (!x)
        return begin(cls, connection, url, method, con_cls);
    if (*data_len > 0) {
        size_t n = *data_len;

        *data_len = 0;
        return receive(x, data, n);
    }
    if (atomic_load(&x->state) == ANSWERED)
        return answer(x);
    return atomic_load(&x->state) == RECEIVING ? dispatch(x) : MHD_YES;
}

static void on_completed(
    void *cls, struct MHD_Connection *connection, void **con_cls, enum MHD_RequestTerminationCode code)
{
    struct http_server *server = cls;
    struct exchange *x = *con_cls;

    (void)connection;
    (void)code;
    if (!x)
        return;
    atomic_fetch_sub(&server->body_bytes, x->counted_bytes);
    client_allow(server->watch, x->client, CLIENT_IDLE_SEC);
    answer_is_out(x);
    request_done(&x->request);
    free(x);
    *con_cls = NULL;
}

static void on_connection(
    void *cls, struct MHD_Connection *connection, void **socket_context, enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = cls;
    const union MHD_ConnectionInfo *info;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        api_metrics_connection(server->services->metrics, -1);
        client_leave(server->watch, *socket_context);
        *socket_context = NULL;
        return;
    }
    api_metrics_connection(server->services->metrics, 1);
    info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    *socket_context = info ? client_enter(server->watch, info->connect_fd) : NULL;
}

/* libmicrohttpd tells of every connection that it turns away; one line a second says enough. */
static void log_once_a_second(enum log_level level, const char *event, const char *text)
{
    static atomic_ullong last_sec;
    unsigned long long now = clock_mono_usec() / USEC_PER_SEC;

    if (atomic_exchange(&last_sec, now) != now)
        log_event(level, event, LOG_S("text", text));
}

static void on_log(void *cls, const char *fmt, va_list ap)
{
    char text[300];

    (void)cls;
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    text[strcspn(text, "\r\n")] = 0;
    if (strstr(text, "connection limit"))
        log_once_a_second(LOG_WARN, "api_connections_full", text);
    log_event(LOG_DEBUG, "api_http", LOG_S("text", text));
}

/* ---- listening ---- */

/* "127.0.0.1:8443", "[::1]:8443" -> host and port. */
static int split_listen(const char *listen_text, char host[256], char port[8], struct err *err)
{
    const char *colon = strrchr(listen_text, ':');
    size_t n = colon ? (size_t)(colon - listen_text) : 0;

    if (!colon || n == 0 || n >= 256 || strlen(colon + 1) == 0 || strlen(colon + 1) > 5) {
        (void)err_set(err, ERR_INVALID, "the API cannot listen on \"%s\"", listen_text);
        return err_hint(err, "Give ADDRESS:PORT, such as 127.0.0.1:8443 or [::]:8443.");
    }
    if (listen_text[0] == '[' && colon[-1] == ']') {
        listen_text++;
        n -= 2;
    }
    (void)snprintf(host, 256, "%.*s", (int)n, listen_text);
    (void)snprintf(port, 8, "%s", colon + 1);
    return 0;
}

static int bind_one(const struct addrinfo *at, int *ret_errno)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, 512) < 0) {
        *ret_errno = errno;
        if (fd >= 0)
            (void)close(fd);
        return -1;
    }
    return fd;
}

static int open_listener(struct http_server *server, struct err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    const char *text = server->services->conf->listen;
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    struct addrinfo *list = NULL;
    char host[256], port[8];
    int errnum = 0;

    if (split_listen(text, host, port, err) < 0)
        return -1;
    if (getaddrinfo(host, port, &hints, &list) != 0)
        return err_set(err, ERR_INVALID, "the API cannot listen on \"%s\": no such address", text);
    server->listen_fd = bind_one(list, &errnum);
    freeaddrinfo(list);
    if (server->listen_fd < 0) {
        (void)err_sys(err, errnum, "the API cannot listen on %s", text);
        return err_hint(err, "Stop what uses that port (`ss -ltnp`), or choose another with --api-listen.");
    }
    if (getsockname(server->listen_fd, (struct sockaddr *)&bound, &len) == 0)
        server->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                         : ((struct sockaddr_in *)&bound)->sin_port);
    return 0;
}

static int start_daemon(struct http_server *server, struct err *err)
{
    const struct MHD_OptionItem options[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_log, server},
        {MHD_OPTION_LISTEN_SOCKET, server->listen_fd, NULL},
        {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, tls_identity_choose},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, TLS_PRIORITIES},
        {MHD_OPTION_THREAD_POOL_SIZE, NETWORK_THREADS, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, NULL},
        {MHD_OPTION_PER_IP_CONNECTION_LIMIT, CONNECTIONS_PER_ADDRESS, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, CLIENT_IDLE_SEC, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, server},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, server},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    const unsigned flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_TLS | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG;

    server->daemon = MHD_start_daemon(flags, 0, NULL, NULL, handle, server, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    return server->daemon ? 0 : err_set(err, ERR_INTERNAL, "the HTTPS server does not start");
}

static void init_lock(struct http_server *server)
{
    pthread_condattr_t attr;

    (void)pthread_mutex_init(&server->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&server->sent, &attr);
    (void)pthread_condattr_destroy(&attr);
}

int http_server_start(const struct api_services *services, struct http_server **ret_server, struct err *err)
{
    struct http_server *server = mem_new(struct http_server);
    unsigned threads = services->conf->handler_threads ? services->conf->handler_threads : 4;

    if (!server)
        return err_set(err, ERR_NOMEM, "no memory for the API's server");
    server->services = services;
    server->listen_fd = -1;
    init_lock(server);
    if (tls_identity_open(services->conf->cert_path, services->conf->key_path, err) < 0 ||
        open_listener(server, err) < 0 || client_watch_start(&server->watch, err) < 0 ||
        handler_pool_start(threads, QUEUE_MAX, run_exchange, &server->pool, err) < 0 || start_daemon(server, err) < 0) {
        http_server_stop(server);
        return -1;
    }
    *ret_server = server;
    return 0;
}

void http_server_quiesce(struct http_server *server)
{
    if (!server)
        return;
    atomic_store(&server->stopping, true);
    if (server->daemon)
        (void)MHD_quiesce_daemon(server->daemon);
    handler_pool_stop(server->pool);
}

void http_server_stop(struct http_server *server)
{
    if (!server)
        return;
    if (server->daemon) {
        wait_for_last_answers(server);
        MHD_stop_daemon(server->daemon);
    }
    handler_pool_free(server->pool);
    client_watch_stop(server->watch);
    if (server->listen_fd >= 0)
        (void)close(server->listen_fd);
    tls_identity_close();
    (void)pthread_cond_destroy(&server->sent);
    (void)pthread_mutex_destroy(&server->lock);
    free(server);
}

unsigned http_server_port(const struct http_server *server)
{
    return server->port;
}

void http_server_news(struct http_server *server)
{
    handler_pool_news(server->pool);
}
