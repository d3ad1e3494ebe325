/* SPDX-License-Identifier: Apache-2.0
 *
 * The two ways to sign a request, as pure functions of the request and the time.
 *   SigV4      AWS General Reference, "Signature Version 4 signing process"; S3: the path is encoded once
 *   SharedKey  Azure Storage REST, "Authorize with Shared Key", versions 2015-02-21 and later
 * Each gives the value of the Authorization header. The texts that are signed can be had, for tests against published ones.
 */
#ifndef TRANSPORT_VAULT_OBJECT_OBJECTSIGN_H
#define TRANSPORT_VAULT_OBJECT_OBJECTSIGN_H

#include <stddef.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"

enum { OBJECTSIGN_PAIRS_MAX = 24, OBJECTSIGN_TEXT_MAX = 64 << 10, OBJECTSIGN_SHA256_HEX = 65 };

struct sign_pair {
    const char *name;  /* header: lower case */
    const char *value; /* as it is meant: not encoded */
};

struct sign_request {
    const char *method;
    const char *path; /* as it goes out: encoded, begins with a slash */
    struct sign_pair query[OBJECTSIGN_PAIRS_MAX];
    size_t query_count;
    struct sign_pair headers[OBJECTSIGN_PAIRS_MAX]; /* all that are to be signed; SigV4: host among them */
    size_t headers_count;
};

struct sign_v4_key {
    const char *id;
    const char *secret;
    const char *region;
    const char *service;
};

/* "20150830T123600Z" needs 17 bytes; "Fri, 26 Jun 2015 23:39:12 GMT" 30. */
void objectsign_v4_time(uint64_t utc_usec, char out[17]);
void objectsign_http_time(uint64_t utc_usec, char out[30]);
int objectsign_sha256(const void *data, size_t n, char out[OBJECTSIGN_SHA256_HEX], struct err *err);
/* Appends text with all but A-Z a-z 0-9 - . _ ~ as %XX. */
int objectsign_encode(struct buf *b, const char *text, struct err *err);
/* Appends "a=b&c=d", encoded, sorted as SigV4 wants it; nothing without parameters. */
int objectsign_query(struct buf *b, const struct sign_request *r, struct err *err);

/* time: as objectsign_v4_time makes it. body_hash: hex SHA-256 of the body. */
int objectsign_v4_canonical(const struct sign_request *r, const char *body_hash, struct buf *out, struct err *err);
int objectsign_v4(const struct sign_request *r, const struct sign_v4_key *key, const char *time, const char *body_hash,
    struct buf *authorization, struct err *err);

/* ERR_INVALID: the key is not base64. */
int objectsign_azure_text(const struct sign_request *r, const char *account, struct buf *out, struct err *err);
int objectsign_azure(const struct sign_request *r, const char *account, const char *key_base64,
    struct buf *authorization, struct err *err);

#endif
