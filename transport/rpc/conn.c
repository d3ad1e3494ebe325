/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection's life: connecting -> hand-shake -> open -> closed; a server whose hand-shake failed lingers for a second
 * with its writing side shut, so that the peer reads the alert that says why instead of a reset. Output is collected
 * (ciphertext, or plain bytes on a unix socket) and written with few system calls; while it is over a mark, HTTP/2 frames
 * wait in their session. Small pieces (frame headers, small messages) are joined into one TLS record; large ones are
 * encrypted from where they lie.
 *
 * One timer: until the connection is up it limits the hand-shake (a peer that connects and says nothing); later it sends
 * PING into silence and closes when the silence goes on.
 */
#include "transport/rpc/conn.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define OUT_FULL_BYTES 262144u   /* frames wait above this */
#define OUT_MAX_BYTES (2u << 20) /* one frame and its records fit beside it many times */
#define RECORD_BYTES 16384u      /* a TLS record */
#define JOIN_BYTES 4096u         /* smaller pieces are joined */
#define READ_BYTES 65536u
#define TURN_BYTES (1u << 20) /* then other connections get their turn */
#define LINGER_USEC (1 * USEC_PER_SEC)
#define LINGER_BYTES 65536u
/* Less is given back at once: connections that send little hold nothing between two messages. */
#define OUT_KEPT_BYTES 16384u
#define TIMER_ACCURACY_USEC (50 * USEC_PER_MSEC)

enum conn_state { CONN_CONNECTING, CONN_HANDSHAKE, CONN_OPEN, CONN_LINGER, CONN_CLOSED };

struct conn {
    unsigned refs;
    enum conn_state state;
    sd_event *loop;
    struct rpc_limits limits;
    struct conn_ops ops;
    void *owner;
    bool is_server, is_up, has_tls;
    int fd;
    uint32_t events;
    sd_event_source *io, *work, *timer;
    struct secure *secure;
    struct h2 *h2;
    struct buf out;
    size_t out_sent;
    bool write_blocked; /* the socket is full: EPOLLOUT will tell */
    bool read_again;    /* bytes are left inside TLS that epoll does not know of */
    size_t lingered;
    struct err *why; /* of lingering; NULL: not yet, or no memory */
    uint64_t heard_usec;
    struct tls_peer peer;
    char address[ADDRESS_TEXT_SIZE];
};

/* Scratch of the loop thread; never in use across a callback. */
static _Thread_local uint8_t scratch[READ_BYTES];
static _Thread_local uint8_t joined[RECORD_BYTES];
static _Thread_local size_t joined_len;

static void conn_pump(struct conn *c);

/* ---- output ---- */

static int put(struct conn *c, const void *data, size_t n)
{
    return c->secure != NULL ? secure_write(c->secure, data, n, NULL) : buf_append(&c->out, data, n, NULL);
}

static int put_joined(struct conn *c)
{
    size_t n = joined_len;
    joined_len = 0;
    return n == 0 ? 0 : put(c, joined, n);
}

static int on_emit(void *arg, const void *data, size_t n)
{
    struct conn *c = arg;
    if (n > sizeof(joined) - joined_len && put_joined(c) < 0)
        return -1;
    if (n > JOIN_BYTES)
        return joined_len > 0 && put_joined(c) < 0 ? -1 : put(c, data, n);
    memcpy(joined + joined_len, data, n);
    joined_len += n;
    return 0;
}

static bool on_full(void *arg)
{
    const struct conn *c = arg;
    return c->out.len - c->out_sent + joined_len >= OUT_FULL_BYTES;
}

/* sd-event asks epoll anew before each event that it dispatches, and a level-triggered epoll counts every ready socket each time: with
 * thousands of sockets ready that is all it does. So each readiness is told once, and asked for again after it was dealt with. */
static void want_events(struct conn *c, uint32_t events)
{
    if (c->io != NULL && c->events != events && sd_event_source_set_io_events(c->io, events | EPOLLET) >= 0)
        c->events = events;
}

/* What is left over, or came meanwhile, is told again. */
static void arm_again(struct conn *c)
{
    if (c->io != NULL)
        (void)sd_event_source_set_io_events(c->io, c->events | EPOLLET);
}

/* 1: all written; 0: the socket is full; -1 with err. */
static int out_write(struct conn *c, struct err *err)
{
    while (c->out_sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            c->write_blocked = true;
            want_events(c, EPOLLIN | EPOLLOUT);
            return 0;
        }
        if (n < 0) {
            err_sys(err, errno, "writing to %s", c->address);
            if (err != NULL)
                err->code = ERR_UNAVAILABLE;
            return -1;
        }
        c->out_sent += (size_t)n;
    }
    if (c->out.cap > OUT_KEPT_BYTES)
        buf_clear(&c->out);
    else
        buf_done(&c->out);
    c->out_sent = 0;
    c->write_blocked = false;
    want_events(c, EPOLLIN);
    return 1;
}

static void work_soon(struct conn *c)
{
    if (c->work != NULL)
        (void)sd_event_source_set_enabled(c->work, SD_EVENT_ONESHOT);
}

/* ---- closing ---- */

static void sources_drop(struct conn *c)
{
    c->io = sd_event_source_disable_unref(c->io);
    c->work = sd_event_source_disable_unref(c->work);
    c->timer = sd_event_source_disable_unref(c->timer);
}

static void socket_close(struct conn *c)
{
    sources_drop(c);
    secure_free(TAKE_PTR(c->secure));
    buf_done(&c->out);
    if (c->fd >= 0)
        (void)close(c->fd);
    c->fd = -1;
}

/* Says good-bye as far as that does not block, then ends the calls: nghttp2 must not run once they are gone. */
static void finish(struct conn *c, enum rpc_status status, const char *text)
{
    if (c->state == CONN_OPEN && !c->write_blocked) {
        h2_terminate(c->h2);
        joined_len = 0;
        (void)h2_send(c->h2, NULL);
        (void)put_joined(c);
        if (c->secure != NULL)
            secure_close(c->secure);
        (void)out_write(c, NULL);
    }
    c->state = CONN_CLOSED;
    if (c->h2 != NULL)
        h2_abort(c->h2, status, text);
    h2_free(TAKE_PTR(c->h2));
    socket_close(c);
}

void conn_close(struct conn *c, const struct err *why)
{
    if (c->state == CONN_CLOSED || c->state == CONN_LINGER)
        return;
    c->refs++;
    finish(c, RPC_UNAVAILABLE, why->text);
    c->ops.down(c, c->owner, why);
    conn_unref(c);
}

void conn_shut(struct conn *c, enum rpc_status status, const char *text)
{
    if (c->state != CONN_CLOSED)
        finish(c, status, text);
}

void conn_unref(struct conn *c)
{
    if (c == NULL || --c->refs > 0)
        return;
    h2_free(c->h2);
    socket_close(c);
    free(c->why);
    free(c);
}

/* The socket stays a moment so that the peer reads the alert; the owner is told when it is gone. */
static void linger(struct conn *c, const struct err *why)
{
    c->why = mem_new(struct err);
    if (c->why != NULL)
        *c->why = *why;
    (void)out_write(c, NULL);
    (void)shutdown(c->fd, SHUT_WR);
    c->state = CONN_LINGER;
    want_events(c, EPOLLIN);
    (void)sd_event_source_set_time(c->timer, clock_mono_usec() + LINGER_USEC);
    (void)sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

static void linger_end(struct conn *c)
{
    struct err why = ERR_INIT;
    if (c->why != NULL)
        why = *c->why;
    else
        err_set(&why, ERR_UNAUTHENTICATED, "the hand-shake failed");
    c->state = CONN_HANDSHAKE;
    conn_close(c, &why);
}

static void linger_read(struct conn *c)
{
    ssize_t n = recv(c->fd, scratch, sizeof(scratch), 0);
    c->lingered += n > 0 ? (size_t)n : 0;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || c->lingered > LINGER_BYTES)
        linger_end(c);
}

/* ---- input ---- */

static void handshake(struct conn *c)
{
    struct err err = ERR_INIT;
    int rc = secure_handshake(c->secure, &c->peer, &err);
    if (rc > 0 && c->ops.verify != NULL && c->ops.verify(c, c->owner, &err) < 0)
        rc = -1;
    if (rc < 0) {
        if (c->is_server && err.code == ERR_UNAUTHENTICATED) {
            linger(c, &err);
            return;
        }
        (void)out_write(c, NULL);
        conn_close(c, &err);
        return;
    }
    if (rc > 0) {
        c->state = CONN_OPEN;
        c->read_again = true; /* the first frames may have come with the last flight */
        work_soon(c);
    } else if (out_write(c, &err) < 0) {
        conn_close(c, &err);
    }
}

/* > 0: bytes in scratch; 0: nothing now; -1: closed or failed. */
static ssize_t input(struct conn *c, struct err *err)
{
    bool closed = false;
    if (c->secure != NULL)
        return secure_read(c->secure, scratch, sizeof(scratch), &closed, err);
    ssize_t n = recv(c->fd, scratch, sizeof(scratch), 0);
    if (n > 0)
        return n;
    if (n == 0)
        return err_set(err, ERR_UNAVAILABLE, "the peer closed the connection");
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    err_sys(err, errno, "reading from %s", c->address);
    err->code = ERR_UNAVAILABLE;
    return -1;
}

static void close_swamped(struct conn *c)
{
    struct err err = ERR_INIT;
    err_set(&err, ERR_TOO_LARGE, "the peer asks for more and more and does not read what it is answered");
    err_hint(&err, "find out what runs at that address; keep it away from this port if it is none of ours");
    conn_close(c, &err);
}

/* Reads until nothing is left or the turn is over; owners' callbacks run in between. */
static void conn_read(struct conn *c)
{
    struct err err = ERR_INIT;
    struct dispatch *dispatch = h2_dispatch(c->h2);
    size_t total = 0;
    c->read_again = false;
    while (c->state == CONN_OPEN) {
        ssize_t n = input(c, &err);
        if (n == 0)
            return;
        if (n < 0 || h2_receive(c->h2, scratch, (size_t)n, &err) < 0) {
            conn_pump(c); /* GOAWAY, where nghttp2 made one */
            conn_close(c, &err);
            return;
        }
        c->heard_usec = clock_mono_usec();
        dispatch_run(dispatch);
        if (c->state == CONN_OPEN && h2_is_swamped(c->h2)) {
            close_swamped(c);
            return;
        }
        total += (size_t)n;
        if (total >= TURN_BYTES && c->state == CONN_OPEN) {
            c->read_again = true;
            work_soon(c);
            return;
        }
    }
}

static void check_over(struct conn *c)
{
    struct err why = ERR_INIT;
    if (c->state != CONN_OPEN || c->out.len > 0 || !h2_is_over(c->h2))
        return;
    err_set(&why, ERR_UNAVAILABLE, "the connection was shut down in order");
    conn_close(c, &why);
}

/* Sends as much as the socket takes, at most a turn. */
static void conn_pump(struct conn *c)
{
    struct err err = ERR_INIT;
    size_t total = 0;
    while (c->state == CONN_OPEN && !c->write_blocked) {
        joined_len = 0;
        int rc = h2_send(c->h2, &err);
        if (rc < 0 || put_joined(c) < 0) {
            conn_close(c, &err);
            return;
        }
        size_t made = c->out.len;
        if (made == 0)
            break;
        if (out_write(c, &err) < 0) {
            /* The peer may have said why before it closed. */
            c->write_blocked = true;
            if (c->state == CONN_OPEN)
                conn_read(c);
            conn_close(c, &err);
            return;
        }
        total += made;
        if (total >= TURN_BYTES && h2_wants_write(c->h2)) {
            work_soon(c);
            return;
        }
    }
    check_over(c);
}

static void connected(struct conn *c)
{
    int error = 0;
    socklen_t len = sizeof(error);
    struct err err = ERR_INIT;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error != 0) {
        err_sys(&err, error, "connecting to %s", c->address);
        err.code = ERR_UNAVAILABLE;
        err_hint(&err, "check that the address is right, the service runs and the port is open");
        conn_close(c, &err);
        return;
    }
    want_events(c, EPOLLIN);
    c->state = c->secure != NULL ? CONN_HANDSHAKE : CONN_OPEN;
    if (c->secure != NULL)
        handshake(c);
    else
        work_soon(c);
}

/* ---- events ---- */

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
    struct conn *c = arg;
    (void)source;
    (void)fd;
    c->refs++;
    if ((revents & EPOLLOUT) != 0)
        c->write_blocked = false;
    switch (c->state) {
    case CONN_CONNECTING:
        connected(c);
        break;
    case CONN_HANDSHAKE:
        handshake(c);
        break;
    case CONN_OPEN:
        if ((revents & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0)
            conn_read(c);
        if (c->state == CONN_OPEN && (revents & EPOLLOUT) != 0) {
            struct err err = ERR_INIT;
            if (out_write(c, &err) < 0)
                conn_close(c, &err);
        }
        conn_pump(c);
        break;
    case CONN_LINGER:
        linger_read(c);
        break;
    case CONN_CLOSED:
        break;
    }
    arm_again(c);
    conn_unref(c);
    return 0;
}

static int on_work(sd_event_source *source, void *arg)
{
    struct conn *c = arg;
    (void)source;
    c->refs++;
    if (c->state == CONN_OPEN && c->read_again)
        conn_read(c);
    conn_pump(c);
    conn_unref(c);
    return 0;
}

static void timer_next(struct conn *c, uint64_t usec)
{
    (void)sd_event_source_set_time(c->timer, usec);
    (void)sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

/* A timer that comes this late tells of this process (a machine that was asleep, no processor to be had): the answer may lie in the
 * socket, or the peer's in ours. It is asked once more. */
static bool stood_still(uint64_t limit_usec, uint64_t due_usec, uint64_t now_usec)
{
    return now_usec - due_usec > limit_usec / 8 + 2 * TIMER_ACCURACY_USEC;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
    struct conn *c = arg;
    struct err err = ERR_INIT;
    (void)source;
    uint64_t now = clock_mono_usec();
    if (c->state == CONN_LINGER) {
        linger_end(c);
        return 0;
    }
    if (!c->is_up && stood_still(c->limits.handshake_usec, usec, now)) {
        timer_next(c, now + c->limits.handshake_usec);
        return 0;
    }
    if (!c->is_up) {
        err_set(&err, ERR_TIMEOUT, "%s said nothing for %llu s in the hand-shake", c->address,
            (unsigned long long)(c->limits.handshake_usec / USEC_PER_SEC));
        conn_close(c, &err);
        return 0;
    }
    if (now - c->heard_usec >= 2 * c->limits.idle_usec && !stood_still(c->limits.idle_usec, usec, now)) {
        err_set(&err, ERR_UNAVAILABLE, "%s does not answer any more", c->address);
        conn_close(c, &err);
        return 0;
    }
    if (now - c->heard_usec >= c->limits.idle_usec) {
        (void)h2_ping(c->h2);
        timer_next(c, now + c->limits.idle_usec);
        if (c->out.len == 0)
            buf_done(&c->out); /* quiet connections hold no memory */
    } else {
        timer_next(c, c->heard_usec + c->limits.idle_usec);
    }
    return 0;
}

/* ---- hooks of the session ---- */

static void on_wake(void *arg)
{
    work_soon(arg);
}

static void on_up(void *arg)
{
    struct conn *c = arg;
    c->is_up = true;
    c->heard_usec = clock_mono_usec();
    timer_next(c, c->heard_usec + c->limits.idle_usec);
    c->ops.up(c, c->owner);
}

static void on_goaway(void *arg)
{
    struct conn *c = arg;
    if (c->ops.goaway != NULL)
        c->ops.goaway(c, c->owner);
}

static int on_request(void *arg, struct rpc_call *call)
{
    struct conn *c = arg;
    call->peer = c->peer;
    memcpy(call->address, c->address, sizeof(call->address));
    return c->ops.request(c, c->owner, call);
}

static const struct h2_hooks hooks = {
    .emit = on_emit,
    .full = on_full,
    .wake = on_wake,
    .up = on_up,
    .goaway = on_goaway,
    .request = on_request,
};

/* ---- making one ---- */

static int sources_add(struct conn *c, uint32_t events, struct err *err)
{
    int rc = sd_event_add_io(c->loop, &c->io, c->fd, events | EPOLLET, on_io, c);
    c->events = events;
    if (rc >= 0)
        rc = sd_event_add_defer(c->loop, &c->work, on_work, c);
    if (rc >= 0)
        rc = sd_event_source_set_enabled(c->work, SD_EVENT_OFF);
    if (rc >= 0)
        rc = sd_event_add_time_relative(
            c->loop, &c->timer, CLOCK_MONOTONIC, c->limits.handshake_usec, TIMER_ACCURACY_USEC, on_timer, c);
    return rc < 0 ? err_sys(err, -rc, "adding a connection to the event loop") : 0;
}

/* fd is taken, also on failure. */
static int conn_new(
    const struct conn_conf *conf, int fd, const struct address_socket *peer, struct conn **ret_conn, struct err *err)
{
    struct conn *c = mem_new(struct conn);
    if (c == NULL) {
        (void)close(fd);
        return err_set(err, ERR_NOMEM, "no memory for a connection");
    }
    *c = (struct conn){.refs = 1,
        .loop = conf->loop,
        .limits = *conf->limits,
        .ops = *conf->ops,
        .owner = conf->owner,
        .is_server = conf->is_server,
        .fd = fd,
        .out = BUF_INIT(OUT_MAX_BYTES),
        .heard_usec = clock_mono_usec()};
    address_format(peer, c->address);
    int one = 1;
    if (peer->sa.any.sa_family != AF_UNIX)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (h2_new(conf->is_server, conf->limits, conf->dispatch, &hooks, c, &c->h2, err) < 0 ||
        (conf->tls != NULL && secure_new(conf->tls, fd, conf->limits->read_ahead, &c->out, &c->secure, err) < 0) ||
        sources_add(c, conf->is_server ? EPOLLIN : EPOLLOUT, err) < 0) {
        conn_unref(c);
        return -1;
    }
    *ret_conn = c;
    return 0;
}

int conn_accept(
    const struct conn_conf *conf, int fd, const struct address_socket *peer, struct conn **ret_conn, struct err *err)
{
    struct conn *c = NULL;
    if (conn_new(conf, fd, peer, &c, err) < 0)
        return -1;
    c->state = c->secure != NULL ? CONN_HANDSHAKE : CONN_OPEN;
    if (c->secure == NULL)
        work_soon(c);
    *ret_conn = c;
    return 0;
}

int conn_connect(
    const struct conn_conf *conf, const struct address_socket *peer, struct conn **ret_conn, struct err *err)
{
    char text[ADDRESS_TEXT_SIZE];
    int fd = socket(peer->sa.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(err, errno, "making a socket");
    if (connect(fd, &peer->sa.any, peer->len) < 0 && errno != EINPROGRESS) {
        int error = errno;
        (void)close(fd);
        address_format(peer, text);
        err_sys(err, error, "connecting to %s", text);
        if (err != NULL)
            err->code = ERR_UNAVAILABLE;
        return err_hint(err, "check that the address is right, the service runs and the port is open");
    }
    return conn_new(conf, fd, peer, ret_conn, err);
}

struct h2 *conn_h2(struct conn *c)
{
    return c->h2;
}

const struct tls_peer *conn_peer(const struct conn *c)
{
    return &c->peer;
}

const char *conn_address(const struct conn *c)
{
    return c->address;
}

bool conn_is_revoked(const struct conn *c)
{
    return c->secure != NULL && secure_peer_is_revoked(c->secure, &c->peer);
}
