/* SPDX-License-Identifier: Apache-2.0
 *
 * The hub's certificate authority: an EC P-256 root in DATA/ca (ca.pem, ca.key 0600), made at first start and
 * valid for 20 years. It signs the hub's own control certificate and the API's, renewed by themselves, and
 * those of agents, nodes and vaults at enrolment (90 days; they renew at two thirds). Of a request only the
 * public key is used: names and role come from the hub. RFC 5280, RFC 2986.
 */
#ifndef HUB_CONTROL_CA_H
#define HUB_CONTROL_CA_H

#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"

struct ca; /* immutable after ca_open; any thread */

#define CA_FINGERPRINT_SIZE 65
#define CA_SERIAL_SIZE 64

/* Opens DATA/ca, making it when it is not there. */
int ca_open(const char *data_dir, struct ca **ret_ca, struct err *err);
void ca_close(struct ca *ca);
DEFINE_AUTO(ca, ca_close)
/* A key of 32 bytes that whoever has the CA's key can make again, and nobody else: one for each purpose. */
int ca_derive_key(const struct ca *ca, const char *purpose, uint8_t ret_key[32], struct err *err);
/* SHA-256 of the DER, 64 hex digits; lives as long as the CA. */
const char *ca_fingerprint(const struct ca *ca);
const char *ca_pem(const struct ca *ca);  /* the root's PEM text; same lifetime */
const char *ca_path(const struct ca *ca); /* DATA/ca/ca.pem */

struct ca_certificate {
    char serial[CA_SERIAL_SIZE]; /* lower-case hex */
    char fingerprint_sha256[CA_FINGERPRINT_SIZE];
    uint64_t not_before_utc_usec, not_after_utc_usec;
    char *pem; /* owned */
};
void ca_certificate_done(struct ca_certificate *certificate);

/* Signs for role ("agent", "node", "vault") and id. A request that is malformed, not self-signed, or whose
 * key is not EC P-256/P-384 or RSA >= 2048 is ERR_INVALID. */
int ca_issue(const struct ca *ca, const uint8_t *csr_der, size_t csr_len, const char *role, const struct ident *id,
    struct ca_certificate *ret_certificate, struct err *err);

/* What a PEM file holds. 1: read; 0: there is no such file. */
int ca_read_certificate(const char *path, struct ca_certificate *ret_certificate, struct err *err);

/* SHA-256 of the public key (SubjectPublicKeyInfo) in a request that passes the same checks. */
int ca_request_key_sha256(const uint8_t *csr_der, size_t csr_len, uint8_t ret_sha256[32], struct err *err);

/* The hub's own certificates: DATA/hub.pem, hub.key for control (names hub.leeward.internal), DATA/api.pem,
 * api.key for the API (names: localhost, 127.0.0.1, ::1, the host's name and `names`). Made when absent, when
 * a third of their life is left, or when the names changed. 1: new files were written; 0: all good. */
int ca_ensure_hub(const struct ca *ca, const char *data_dir, const struct ident *hub_id, struct err *err);
int ca_ensure_api(
    const struct ca *ca, const char *data_dir, const char *const *names, size_t name_count, struct err *err);

#endif
