/* SPDX-License-Identifier: Apache-2.0
 *
 * The hub's API from the side of a client: one connection with libcurl, JSON with jansson. A problem (RFC 9457) becomes an
 * error with its code and correction.
 */
#ifndef HUB_CLI_CLIENT_H
#define HUB_CLI_CLIENT_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/base/mem.h"

struct client;

struct client_settings {
    const char *url;   /* "https://127.0.0.1:8443" */
    const char *token; /* may be NULL: only what is open to everybody */
    const char *ca;    /* PEM file; NULL: the system's certificates */
};

/* The texts are copied. Does not connect yet. */
int client_new(const struct client_settings *settings, struct client **ret_client, struct err *err);
void client_free(struct client *client);
const char *client_url(const struct client *client); /* without a slash at its end */
DEFINE_AUTO(client, client_free)

struct client_answer {
    long status;
    json_t *json;  /* NULL when the body is empty or no JSON */
    char etag[80]; /* with its quotes; "" = none */
    char location[256];
};
void client_answer_done(struct client_answer *answer);
#define AUTO_ANSWER __attribute__((cleanup(client_answer_done)))

/* path: from "/api/v1/..." with its query, already escaped. body: borrowed, NULL = none. if_match: NULL or an etag as it came.
 * Answers above 399 are -1: the problem's code and text, and the hub's correction. While the hub says that it was asked too much (429) the
 * call waits as it is told and asks again, for a minute at most; then it is ERR_UNAVAILABLE. */
int client_call(struct client *client, const char *method, const char *path, const json_t *body, const char *if_match,
    struct client_answer *ret_answer, struct err *err);
/* From now on the first call that would change something is asked as a dry run and ends the command: it is -1 with ERR_CANCELLED when the hub
 * would do it, ERR_UNSUPPORTED when that has no dry run. What asks for several says this before each: what was answered before is forgotten. */
void client_set_dry_run(struct client *client, bool dry_run);
/* Whether the hub said that it would. */
bool client_would_succeed(const struct client *client);
/* While *stop is not 0 (a signal handler sets it) what only reads ends with ERR_CANCELLED; what changes something comes to its end, for
 * its answer says what was done. NULL: nothing stops it. */
void client_set_stop(struct client *client, const volatile sig_atomic_t *stop);
/* No call waits for its turn any more: what asks for something that may as well stay away does not hold up who waits for it. */
void client_set_impatient(struct client *client);
/* client_call("GET"). */
int client_get(struct client *client, const char *path, struct client_answer *ret_answer, struct err *err);
/* A path from a printf form in which every %s is escaped for a URL; caller frees; NULL: no memory. */
char *client_path(const char *fmt, ...);
/* Reads Server-Sent Events from path and calls take for each (its id, the word of `event:` or "", its data) until that
 * answers other than 0 (0 comes back) or the connection ends (-1). *ret_connected: the stream had begun. */
int client_events(struct client *client, const char *path, const char *last_id,
    int (*take)(void *arg, const char *id, const char *word, const char *data), void *arg, bool *ret_connected,
    struct err *err);
/* The whole body as it came, at most max bytes of it, at the end of *body. */
int client_bytes(struct client *client, const char *path, struct buf *body, struct err *err);
/* The same as text, for /metrics and the document. */
int client_text(struct client *client, const char *path, char **ret_text, struct err *err);

#endif
