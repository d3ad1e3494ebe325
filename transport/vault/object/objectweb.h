/* SPDX-License-Identifier: Apache-2.0
 *
 * One request to a storage service over HTTP, tried again while that can help, and its answer as a result of ours.
 * A driver says what to ask and how to sign; signing happens for each try, since it is of its moment.
 */
#ifndef TRANSPORT_VAULT_OBJECT_OBJECTWEB_H
#define TRANSPORT_VAULT_OBJECT_OBJECTWEB_H

#include "transport/vault/object/object.h"
#include "transport/vault/object/objectsign.h"

struct objectweb;

/* A request and its answer. Pointers are the caller's. */
struct web_exchange {
    struct sign_request ask; /* headers without host: this side adds it */
    const void *body;        /* NULL: none */
    size_t body_bytes;
    struct buf *out; /* where the body of a good answer goes; its maximum bounds it. NULL: what comes is dropped */
    bool partial;    /* a range is asked for: 206 is the good answer */
    /* the answer */
    long status;
    uint64_t content_bytes; /* of Content-Length; UINT64_MAX: none was sent */
    char code[64];          /* of the service's error */
    char etag[80];          /* as it was sent; empty: none, or too long */
};

/* Adds what the service wants to see (time, version, Authorization) to the headers of one try. What it adds must stay good until the
 * next call; `host` is among the headers already. */
typedef int (*web_sign_fn)(void *driver, struct web_exchange *x, uint64_t now_utc_usec, struct err *err);

/* Takes "http(s)://host[:port][/path]". */
int objectweb_open(const char *endpoint, const struct object_conf *conf, web_sign_fn sign, void *driver,
    struct objectweb **ret_web, struct err *err);
void objectweb_close(struct objectweb *web); /* NULL is allowed */
/* The path of the endpoint, without a slash at its end: "" or "/devstoreaccount1". */
const char *objectweb_base(const struct objectweb *web);
/* Whether bytes to the endpoint can be read on their way: plain HTTP to another machine. */
bool objectweb_is_exposed(const struct objectweb *web);

void objectweb_header(struct web_exchange *x, const char *name, const char *value);
void objectweb_query(struct web_exchange *x, const char *name, const char *value);

/* 1: the service did it. 0: what was asked for is not there (404), or what should not be there is (409 or 412 with if-none-match), or
 * the range is behind the end (416): status tells. -1: ERR_UNAUTHENTICATED, ERR_DENIED, ERR_NOT_FOUND (no such container),
 * ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_TOO_LARGE, ERR_REFUSED, with a correction. */
int objectweb_run(struct objectweb *web, struct web_exchange *x, struct err *err);

#endif
