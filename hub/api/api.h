/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTPS API of the hub: JSON under /api/v1 as hub/api/openapi.json says, /healthz, /readyz and /metrics.
 * The only folder that knows libmicrohttpd.
 *
 * Two threads move bytes and never block; a request with a handler is suspended, runs on one of a few handler
 * threads (which may wait for SQL) and is resumed with its answer. Long waits (`?wait=`, Server-Sent Events)
 * hold a connection but no thread: they are looked at again when api_news() says that something happened, and
 * once a second in any case.
 */
#ifndef HUB_API_API_H
#define HUB_API_API_H

#include <stdbool.h>
#include <stddef.h>

#include "transport/base/err.h"

struct api;
struct db;          /* hub/db/db.h */
struct live_status; /* hub/control/live_status.h */

struct api_check {
    const char *name; /* "database", "migrations", "control" */
    bool ok;
    char text[160]; /* why not, and what to do */
};
#define API_CHECKS_MAX 8

/* An OpenID provider for signing in. */
struct oidc_conf {
    const char *issuer; /* "https://login.example.org/realms/ops", exactly as the provider has it */
    const char *client_id;
    const char *client_secret; /* NULL or "": a public client */
    const char *public_url;    /* of this hub as browsers see it, without a '/' at the end */
    const char *redirect_uri;  /* public_url/api/v1/session/oidc/callback, as the provider has it on record */
    const char *ca_path;       /* PEM of who signed the provider's certificate; NULL or "": those of the system */
    const char *scopes;        /* NULL or "": "openid profile email" */
    const char *role_claim;    /* "groups", "realm_access.roles"; NULL or "": "groups" */
    const char *role_map;      /* "admins=admin,ops=operator,*=viewer" */
    const char *name;          /* for the button; NULL or "": the issuer */
};

/* All pointers and texts are borrowed and outlive the server. The callbacks are called from any thread of the
 * API. */
struct api_conf {
    const char *listen;    /* "127.0.0.1:8443", "[::]:8443"; port 0 takes a free one (see api_port) */
    const char *cert_path; /* PEM, server certificate and its chain */
    const char *key_path;  /* PEM */
    struct db *db;
    struct live_status *live;
    unsigned control_port;      /* where agents, nodes and vaults find the hub */
    const char *hub_id;         /* UUID text */
    const char *ca_fingerprint; /* ca_fingerprint(): goes into enrolment tokens */
    /* Fills up to API_CHECKS_MAX checks and returns how many; the hub is ready when all are ok. Must answer
     * within a second even when PostgreSQL is gone. */
    size_t (*ready)(void *arg, struct api_check checks[API_CHECKS_MAX]);
    void *arg;
    const struct oidc_conf *oidc;    /* NULL: passwords only */
    const char *first_password_path; /* removed once nobody has the password of the first start; NULL: none */
    unsigned requests_per_second;    /* of one token, session or unnamed address, twice as many at once; 0: 1000 */
    unsigned failures_per_second;    /* wrong credentials of one address, ten times as many at once; 0: 20 */
    unsigned handler_threads;        /* 0: 4. Each may hold one database connection. */
};

/* Starts listening and serving; 0, or -1 with err (an address in use carries a correction). */
int api_start(const struct api_conf *conf, struct api **ret_api, struct err *err);
/* Stops listening, lets running handlers finish, ends waits and event streams, frees. NULL is allowed. */
void api_stop(struct api *api);
/* The TCP port that is served. */
unsigned api_port(const struct api *api);
/* Something was written that a waiting client may want: a job moved, an event was recorded. From any thread,
 * cheap, many calls may be answered by one look. Call it for the news of other hubs too (LISTEN). */
void api_news(struct api *api);
/* From now on /readyz says no and event streams end, so that load balancers turn away; serving goes on. */
void api_drain(struct api *api);

#endif
