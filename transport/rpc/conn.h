/* SPDX-License-Identifier: Apache-2.0
 *
 * One connection: a socket, TLS where it is not a unix socket, and the HTTP/2 session on it. Watches the hand-shake
 * and silence. One reference belongs to its owner (server or channel), others to what is on the stack.
 */
#ifndef TRANSPORT_RPC_CONN_H
#define TRANSPORT_RPC_CONN_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "transport/rpc/address.h"
#include "transport/rpc/h2.h"
#include "transport/rpc/secure.h"

struct conn;

struct conn_ops {
    /* Client, NULL allowed: the hand-shake is done; -1 if this is not the wanted server. */
    int (*verify)(struct conn *conn, void *owner, struct err *err);
    void (*up)(struct conn *conn, void *owner);     /* hand-shake done and the peer's SETTINGS are here */
    void (*goaway)(struct conn *conn, void *owner); /* client: start new calls elsewhere */
    int (*request)(struct conn *conn, void *owner, struct rpc_call *call);
    /* It is closed; its calls were ended. The owner drops its reference here. */
    void (*down)(struct conn *conn, void *owner, const struct err *why);
};

struct conn_conf {
    sd_event *loop;
    bool is_server;
    struct tls_context *tls; /* NULL: plain */
    const struct rpc_limits *limits;
    struct dispatch *dispatch;
    const struct conn_ops *ops;
    void *owner;
};

/* Takes the accepted socket. */
int conn_accept(const struct conn_conf *conf, int fd, const struct address_socket *peer, struct conn **ret_conn,
    struct err *err);
/* Begins to connect. */
int conn_connect(const struct conn_conf *conf, const struct address_socket *peer, struct conn **ret_conn,
    struct err *err);
void conn_unref(struct conn *conn);
/* Closes now: ends the calls with UNAVAILABLE, then down(). Says GOAWAY and close_notify if that does not block. */
void conn_close(struct conn *conn, const struct err *why);
/* The same without down(): for the owner that goes away itself. Its calls end with `status`. */
void conn_shut(struct conn *conn, enum rpc_status status, const char *text);
struct h2 *conn_h2(struct conn *conn);
const struct tls_peer *conn_peer(const struct conn *conn);
const char *conn_address(const struct conn *conn);
bool conn_is_revoked(const struct conn *conn);

#endif
