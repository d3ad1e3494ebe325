/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of everything that the API serves, and the way of a request through it: find the route, authenticate, hold
 * parameters and body to the OpenAPI document, open a transaction, call the handler, keep the answer for its
 * Idempotency-Key, write the audit record, commit. A route without its operation in the document, or the other way
 * round, keeps the server from starting.
 */
#ifndef HUB_API_HTTP_ROUTE_H
#define HUB_API_HTTP_ROUTE_H

#include "hub/api/http_request.h"

enum http_route_flags {
    ROUTE_INLINE = 1, /* answers at once without database or waiting: runs on the network thread */
    ROUTE_NO_DATABASE = 2,
    ROUTE_ANY_QUERY = 8,       /* parameters that the document does not name are passed over: others choose them */
    ROUTE_OWN_TRANSACTION = 4, /* the handler begins, audits and commits by itself: something of a failure stays */
};

struct http_route {
    const char *method;    /* "GET", "POST", "PATCH", "DELETE" */
    const char *path;      /* "/api/v1/machines/{machine_id}" */
    const char *operation; /* operationId in the document */
    const char *scope;     /* NULL: open to everybody */
    unsigned flags;
    int (*serve)(struct request *r, struct err *err);
};

extern const struct http_route http_routes[];
extern const size_t http_route_count;

/* 0 when table and document say the same (paths, methods, scopes, both ways), else ERR_INTERNAL with the difference. */
int http_routes_check(const struct openapi *doc, struct err *err);
/* Finds r->route by r->method and r->path and fills r->params. Otherwise the reply is a 404 or 405 problem and -1 comes
 * back. HEAD is served as GET. */
int http_route_find(struct request *r);
/* The whole way; the reply is set afterwards whatever happens. true: done. false: the client waits for r->job_id; call
 * http_route_look when there is news or r->wait_until_usec is over. May block on SQL; any thread. */
bool http_route_run(struct request *r);
bool http_route_look(struct request *r);
/* Writes the audit record of r (in the transaction that is open, or on its own): "done", "denied", "failed". */
int http_route_audit(struct request *r, const char *outcome, struct err *err);
/* Method, path, query and body as one hash, whatever the order of their members. */
int http_route_fingerprint(const struct request *r, char out[REQUEST_FINGERPRINT_SIZE], struct err *err);

#endif
