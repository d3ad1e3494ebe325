/* SPDX-License-Identifier: Apache-2.0
 *
 * The identity of an agent, a node or a vault: loaded from DATA/identity, or obtained from the hub with a
 * one-time token at the first start. The folder (mode 0700) holds key.pem    EC P-256 key, 0600; written
 * first, before anything is sent ca.pem     the hub's CA, checked against the fingerprint in the token before
 * anything is sent cert.pem   the certificate; written last: an identity is complete when it exists A crash
 * anywhere in between leaves the key behind; the next start enrols with the same key and token, and the hub
 * answers the same key with the same identity again (for a token that this key has used), so a used token is
 * never lost half-way.
 */
#ifndef TRANSPORT_PROTO_ENROL_H
#define TRANSPORT_PROTO_ENROL_H

#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/rpc/tls.h"

struct enrol_conf {
    const char *data_dir; /* DATA */
    const char *hub;      /* "HOST:9442" */
    const char *token;    /* "lwe_...", or NULL or "" where an identity is expected to be there */
    const char *role;     /* "agent", "node", "vault" */
    const char *name;     /* for people; NULL: the host name */
    uint64_t wait_usec;   /* how long to go on trying while the hub cannot be reached; 0: 60 s */
};

struct enrol_identity {
    struct ident id;
    char id_text[IDENT_TEXT_SIZE];
    char role[16];
    struct tls_files files; /* absolute or DATA-relative paths as given; owned by this struct */
};

/* Blocking; call it before the loop runs (it starts no threads). Fills *ret_identity (enrol_identity_done
 * frees it). Every failure carries a correction: ERR_INVALID          no token where one is needed, or a
 * token that is cut off or mistyped ERR_DENIED           the hub refuses the token: used, expired, for
 * another role (its words are passed on) ERR_UNAUTHENTICATED  the server at that address is not the hub that
 * made the token (CA fingerprint) ERR_UNAVAILABLE      no hub within wait_usec ERR_REFUSED DATA/identity
 * belongs to another role ERR_IO, ERR_CORRUPT  files */
int enrol_ensure(const struct enrol_conf *conf, struct enrol_identity *ret_identity, struct err *err);
/* Loads only; ERR_NOT_FOUND when there is none. */
int enrol_load(const char *data_dir, struct enrol_identity *ret_identity, struct err *err);
void enrol_identity_done(struct enrol_identity *identity);

#define ENROL_TOKEN_PREFIX "lwe_"
#define ENROL_FINGERPRINT_SIZE 65 /* 64 hex digits and a NUL */
/* Checks the form of a token and copies the CA fingerprint; ERR_INVALID with a correction otherwise. */
int enrol_token_fingerprint(const char *token, char ret_fingerprint[ENROL_FINGERPRINT_SIZE], struct err *err);

#endif
