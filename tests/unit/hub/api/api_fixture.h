/* SPDX-License-Identifier: Apache-2.0
 *
 * A real API server over TLS on a free port of the loopback, on a real PostgreSQL, and a client that holds every answer to
 * the OpenAPI document: a status or a form that the document does not have fails the test.
 */
#ifndef TESTS_UNIT_HUB_API_API_FIXTURE_H
#define TESTS_UNIT_HUB_API_API_FIXTURE_H

#include <jansson.h>

#include "hub/api/api.h"
#include "hub/api/openapi.h"
#include "hub/control/live_status.h"
#include "tests/unit/hub/postgres_fixture.h"

struct api_fixture {
    void *postgres; /* struct postgres_fixture * */
    struct live_status *live;
    struct api *api;
    struct openapi *doc;
    struct api_conf conf;
    char cert[96], key[96], url[64];
    char admin[64], viewer[64], operator[64]; /* tokens */
    bool not_ready;
};

int api_fixture_up(void **state);
int api_fixture_down(void **state);

struct exchange {
    const char *operation; /* operationId: its method is used; NULL: not held to the document */
    const char *method;    /* where operation is NULL */
    const char *path;
    const char *token; /* NULL: none */
    const char *body;  /* text as it goes out; NULL: none */
    const char *headers[4];
    bool keep_content_type; /* do not send Content-Type: application/json */
};

struct heard {
    long status;
    json_t *json;
    char *text;
    char headers[4096];
};
void heard_done(struct heard *heard);
#define AUTO_HEARD __attribute__((cleanup(heard_done)))

/* Fails the test unless the answer is of the document, and of `status` (0: any). */
void api_exchange(struct api_fixture *f, const struct exchange *exchange, long status, struct heard *ret_heard);
/* The usual cases of it, with the administrator's token. */
json_t *api_ask(struct api_fixture *f, const char *operation, const char *path, const char *body, long status);
/* A header of the answer, "" when it is not there. Static memory. */
const char *heard_header(const struct heard *heard, const char *name);
const char *member_text(const json_t *object, const char *name);

/* ---- people ---- */

/* Somebody with a session: the headers that a browser would send, and what the API calls them. */
struct person {
    char cookie[160], csrf[80], id[64], session_id[64];
};
void api_make_user(struct api_fixture *f, const char *name, const char *role, const char *password);
/* The status of the answer. */
long api_try_password(struct api_fixture *f, const char *name, const char *password, struct heard *ret_heard);
struct person api_sign_in(struct api_fixture *f, const char *name, const char *password);
/* A new reference to what was answered. */
json_t *api_as(struct api_fixture *f, const struct person *p, const char *operation, const char *path, const char *body,
    long status);
void api_sql(struct api_fixture *f, const char *text);

#endif
