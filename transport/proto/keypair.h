/* SPDX-License-Identifier: Apache-2.0
 *
 * The key of an identity and what is made of it: a certificate request, and the check that a certificate belongs to it.
 */
#ifndef TRANSPORT_PROTO_KEYPAIR_H
#define TRANSPORT_PROTO_KEYPAIR_H

#include "transport/base/buf.h"
#include "transport/base/err.h"

/* Makes an EC P-256 key at path (0600) unless there is one. */
int keypair_ensure(const char *path, struct err *err);
/* Appends a PKCS#10 request (DER) with `name` as its common name, signed by the key at path. */
int keypair_request(const char *path, const char *name, struct buf *out, struct err *err);
/* 0 when the PEM certificate is for the key at path; ERR_CORRUPT otherwise. */
int keypair_match(const char *path, const char *pem, size_t n, struct err *err);
/* SHA-256 of the first certificate's DER, 64 hex digits and a NUL. */
int keypair_fingerprint(const char *pem, size_t n, char out[65], struct err *err);

#endif
