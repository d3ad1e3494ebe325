/* SPDX-License-Identifier: Apache-2.0
 *
 * A small certificate authority for tests: makes a CA and leaf certificates of any role, id and validity as PEM files.
 */
#ifndef TESTS_UNIT_RPC_TESTCA_H
#define TESTS_UNIT_RPC_TESTCA_H

#include <stdbool.h>

#include "transport/base/ident.h"
#include "transport/rpc/tls.h"

struct testca;

/* Writes DIR/NAME.pem. */
struct testca *testca_new(const char *dir, const char *name);
void testca_free(struct testca *ca);
const char *testca_path(const struct testca *ca);
/* SHA-256 of the CA certificate's DER, hex. */
const char *testca_fingerprint(const struct testca *ca);

struct testca_leaf {
    const char *role;      /* NULL: no identity */
    const char *id_text;   /* NULL: random */
    long from_sec, to_sec; /* validity relative to now; both 0: an hour around now */
    bool with_ca;          /* append the CA to the file, as the hub does */
};

/* Paths and identity of a leaf; the strings live in the struct. */
struct testca_files {
    char certificate[256], key[256], ca[256];
    char id_text[IDENT_TEXT_SIZE];
    struct ident id;
    char serial[64];
    struct tls_files files;
};
void testca_issue(struct testca *ca, const char *name, const struct testca_leaf *leaf, struct testca_files *ret_files);
/* Signs the public key of a PKCS#10 request; returns PEM (free it). */
char *testca_sign_csr(
    struct testca *ca, const unsigned char *der, long der_len, const char *role, const char *id_text, long to_sec);
char *testca_pem(const struct testca *ca);

#endif
