/* SPDX-License-Identifier: Apache-2.0
 *
 * One TLS connection on a non-blocking socket. Reading goes straight from the socket, ahead of what was asked for; what is written comes out as
 * ciphertext in the caller's buffer, so that many records go into one system call.
 */
#ifndef TRANSPORT_RPC_SECURE_H
#define TRANSPORT_RPC_SECURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/rpc/tls.h"

struct secure;

/* out receives ciphertext and must live as long as the connection; fd stays the caller's. Takes a reference of tls. read_ahead: bytes
 * that one system call may bring; less than a record (16 KiB and some) takes several calls for one. */
int secure_new(
    struct tls_context *tls, int fd, size_t read_ahead, struct buf *out, struct secure **ret_secure, struct err *err);
void secure_free(struct secure *s);
/* 1: done, the peer is in *ret_peer and ALPN h2 is agreed. 0: wants to read. -1: failed (flush `out` still: the alert). */
int secure_handshake(struct secure *s, struct tls_peer *ret_peer, struct err *err);
/* > 0: bytes. 0: nothing now. -1: failed; *ret_closed tells an orderly end from an error. */
ssize_t secure_read(struct secure *s, void *data, size_t n, bool *ret_closed, struct err *err);
/* Encrypts all of it into `out`. */
int secure_write(struct secure *s, const void *data, size_t n, struct err *err);
/* close_notify into `out`. */
void secure_close(struct secure *s);
bool secure_peer_is_revoked(const struct secure *s, const struct tls_peer *peer);

#endif
