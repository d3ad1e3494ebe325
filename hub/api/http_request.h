/* SPDX-License-Identifier: Apache-2.0
 *
 * One request of a client and its answer, as the handlers (serve_*.c) see it: already authenticated, its parameters and
 * body held to the OpenAPI document, a database connection at hand (with a transaction open when the method changes
 * something). No libmicrohttpd here, so that a test can drive the whole pipeline without a socket.
 */
#ifndef HUB_API_HTTP_REQUEST_H
#define HUB_API_HTTP_REQUEST_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/api/api.h"
#include "hub/api/api_auth.h"
#include "hub/api/rate_limit.h"
#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/base/ident.h"

struct api_metrics;
struct login_gate;
struct oidc;
struct db_conn;
struct event_feed;
struct event_stream;
struct http_route;
struct openapi;
struct openapi_operation;

#define REQUEST_PARAMS_MAX 2u
#define REQUEST_PARAM_SIZE 129u
#define REQUEST_BODY_MAX (1024u * 1024u) /* the largest body of ours, a protect with 64 keys, is 33 KiB */
#define REQUEST_PATH_MAX 2048u
#define REQUEST_ID_SIZE 65u
#define REQUEST_ETAG_SIZE 72u
#define REQUEST_OIDC_COOKIE "__Host-leeward-oidc"
#define REQUEST_COOKIE "__Host-leeward" /* browsers take it only with Secure, Path=/ and without Domain */

/* What all handlers share; filled once by api_start and never changed. */
#define REQUEST_FINGERPRINT_SIZE 33

struct api_services {
    const struct api_conf *conf;
    struct openapi *doc;
    struct event_feed *feed;
    struct api_metrics *metrics;
    struct login_gate *logins, *outbound; /* password hashes; questions to the OpenID provider */
    struct oidc *oidc;                    /* NULL: none */
    struct rate_limit *rates;             /* of requests, by token, session or address */
    struct rate_limit *failures;          /* of wrong credentials, by address */
    struct status_cache *status;          /* numbers that are counted once for many who ask */
    const atomic_bool *draining;
};

/* How answers are written. 15 digits hold microseconds for thirty years, and print what was meant: 0.1 is 0.10000000000000001 with 17. */
#define REPLY_JSON_FLAGS (JSON_COMPACT | JSON_REAL_PRECISION(15))

struct reply {
    int status;
    json_t *json; /* the body, or NULL */
    char *text;   /* a body that is not built as JSON here (metrics, the document, a kept answer), or NULL */
    size_t text_len;
    const char *content_type;     /* NULL: application/json, or problem+json above 399 */
    char etag[REQUEST_ETAG_SIZE]; /* without quotes; "" = none */
    char location[2048];          /* an OpenID provider's address may be long */
    unsigned retry_after_sec;     /* 0: no header */
    const char *allow;            /* of a 405 */
    char link[160];               /* Link; "" = none */
    bool rendered, gzip;          /* text is the body; and it is compressed */
    char cookie[256];             /* Set-Cookie; "" = none */
    struct event_stream *stream;  /* the body is an event stream */
};

/* Headers that matter, each NULL when absent. Owned. */
struct request_headers {
    char *authorization, *if_match, *if_none_match, *idempotency_key, *content_type, *last_event_id;
    char *session; /* the cookie __Host-leeward */
    char *csrf;    /* X-CSRF-Token */
    char *oidc;    /* the cookie of a sign-in at the OpenID provider */
    char *user_agent, *accept_encoding;
};

struct request {
    const struct api_services *services;
    const struct http_route *route; /* NULL: no such path */
    const struct openapi_operation *operation;
    char method[8];
    char path[REQUEST_PATH_MAX];
    char params[REQUEST_PARAMS_MAX][REQUEST_PARAM_SIZE]; /* values of the {...} parts, in order */
    json_t *arguments; /* query as it came: name -> text, or array of texts when it came more than once */
    json_t *query;     /* the validated query parameters in their types */
    struct request_headers headers;
    struct buf raw_body;
    json_t *body;        /* the validated body or NULL */
    uint64_t if_version; /* of If-Match; 0: any */
    struct principal principal;
    struct rate_state rate;   /* limit 0: was not counted */
    char id[REQUEST_ID_SIZE]; /* X-Request-Id, ours or the client's */
    char peer[64];            /* numeric address of the client */
    struct db_conn *conn;     /* during a handler */

    json_t *errors; /* faults found so far, become `errors` of the problem */
    struct reply reply;

    char job_id[IDENT_TEXT_SIZE]; /* set by a handler: ?wait= waits for this job */
    uint64_t wait_until_usec;     /* monotonic; 0: not waiting */
    bool wait_is_over;            /* the server stops: answer now */
    bool approved;                /* a second person said yes: four_eyes_hold lets it pass */
    bool held_back;               /* the reply is a problem, but what was stored for it is to stay */
    const char *audit_detail;     /* JSON object for the audit record; NULL: {} */
    uint64_t begun_usec;
};

void request_init(struct request *r, const struct api_services *services);
void request_done(struct request *r);

/* ---- reading ---- */

/* Text of a query parameter or NULL; number and bool with what holds when it is absent. */
const char *request_query(const struct request *r, const char *name);
int64_t request_query_int(const struct request *r, const char *name, int64_t fallback);
bool request_query_bool(const struct request *r, const char *name);
/* A member of the body; the same. */
const char *request_str(const struct request *r, const char *name);
int64_t request_int(const struct request *r, const char *name, int64_t fallback);
bool request_bool(const struct request *r, const char *name, bool fallback);
/* Seconds of the body (a JSON number) in microseconds. */
uint64_t request_usec(const struct request *r, const char *name, uint64_t fallback_usec);
/* A fault at a place of the body or the query; returns -1 with ERR_INVALID, so that a handler can return it. */
int request_fault(struct request *r, struct err *err, const char *pointer, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* ---- answering; each takes over the JSON value; NULL (no memory) becomes an error; all return 0 or -1 ---- */

/* A member "etag" of the value becomes the header ETag. */
int reply_json(struct request *r, int status, json_t *json, struct err *err);
int reply_created(struct request *r, json_t *item, const char *location, struct err *err);
int reply_empty(struct request *r); /* 204 */
/* text is taken over and freed with free(). */
int reply_text(struct request *r, int status, const char *content_type, char *text, size_t len);
/* Replaces whatever is in the reply by the RFC 9457 problem for e and r->errors. */
void reply_problem(struct request *r, const struct err *e);
/* The same where the status says more than an error code can: 405, 412, 415, 422, 428, 429. */
void reply_problem_status(struct request *r, int status, const char *code, const char *detail, const char *correction);
void reply_clear(struct request *r);

#endif
