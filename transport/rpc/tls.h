/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS 1.3 for every connection of the product, and the identity that a certificate gives. A certificate of ours has exactly
 * one URI subject alternative name, `urn:leeward:ROLE:ID` (ROLE: hub, agent, node, vault; ID: UUID text), and the DNS names
 * `ROLE.leeward.internal` and `ID.ROLE.leeward.internal` for stock clients. Peers check chain, validity and identity; host
 * names are not looked at.
 */
#ifndef TRANSPORT_RPC_TLS_H
#define TRANSPORT_RPC_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"

struct tls_context;

struct tls_peer {
    bool authenticated; /* false: no certificate was shown (allowed for enrolment only) */
    char role[16];
    struct ident id;
    char serial[64]; /* certificate serial, hex */
};

struct tls_files {
    const char *certificate; /* PEM path, chain allowed */
    const char *key;         /* PEM path, mode 0600 */
    const char *ca;          /* PEM path; several certificates allowed during a change of CA */
};

/* A context may be used by any number of connections of one thread. */
int tls_server_new(const struct tls_files *files, bool allow_anonymous, struct tls_context **ret_tls, struct err *err);
/* files->certificate NULL: an anonymous client. ca_sha256_hex not NULL: trust is not taken from files->ca but the server's
 * chain must contain a self-signed certificate with this fingerprint (enrolment). */
int tls_client_new(
    const struct tls_files *files, const char *ca_sha256_hex, struct tls_context **ret_tls, struct err *err);
/* Serials (hex) that are refused from now on, in handshakes and for open connections; replaces the earlier list. */
int tls_set_revoked(struct tls_context *tls, const char *const *serials, unsigned count, struct err *err);
/* Loads renewed files; connections that are open keep theirs. */
int tls_reload(struct tls_context *tls, struct err *err);
/* Identity and validity (microseconds UTC) of a PEM certificate; the first one in the text counts. It is read, not verified.
 * ERR_CORRUPT: not a certificate; ERR_UNAUTHENTICATED: no identity of ours in it. */
int tls_certificate_read(const char *pem, size_t n, struct tls_peer *ret_peer, uint64_t *ret_from_utc_usec,
    uint64_t *ret_to_utc_usec, struct err *err);
void tls_context_free(struct tls_context *tls); /* NULL allowed; connections hold a reference of their own */

#endif
