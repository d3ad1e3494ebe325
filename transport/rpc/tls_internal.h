/* SPDX-License-Identifier: Apache-2.0
 *
 * What tls.c and secure.c share: the context behind struct tls_context.
 */
#ifndef TRANSPORT_RPC_TLS_INTERNAL_H
#define TRANSPORT_RPC_TLS_INTERNAL_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "transport/rpc/tls.h"

#define TLS_FINGERPRINT_SIZE 32

/* The app data of an SSL is an X509 **: where a certificate that was refused is kept. */
struct tls_context {
    unsigned refs;
    SSL_CTX *ssl;
    bool is_server;
    bool allow_anonymous;              /* server: a client without a certificate may connect */
    bool pinned;                       /* client: trust comes from `pin` alone */
    uint8_t pin[TLS_FINGERPRINT_SIZE]; /* SHA-256 of the CA certificate's DER */
    char *certificate, *key, *ca;      /* paths, for tls_reload */
    char (*revoked)[64];               /* sorted */
    unsigned revoked_count;
};

struct tls_context *tls_context_ref(struct tls_context *tls);
bool tls_is_revoked(const struct tls_context *tls, const char *serial);
/* Reads role, id and serial of a certificate of ours; ERR_UNAUTHENTICATED when it has no such identity. */
int tls_peer_read(X509 *certificate, struct tls_peer *ret_peer, struct err *err);
/* Sets err from what OpenSSL has queued ("...: reason") and empties the queue. */
int tls_error(struct err *err, enum err_code code, const char *what);

#endif
