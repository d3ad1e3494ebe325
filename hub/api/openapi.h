/* SPDX-License-Identifier: Apache-2.0
 *
 * The OpenAPI 3.1 document (hub/api/openapi.json), which is linked into the program: what may be asked, by whom and in
 * which form. The server reads the forms of parameters and bodies from here, so that they cannot differ from it.
 */
#ifndef HUB_API_OPENAPI_H
#define HUB_API_OPENAPI_H

#include <jansson.h>
#include <stddef.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"

struct openapi;

/* What an operation has as scope that only a person's session may use, whatever its role. */
#define OPENAPI_SCOPE_SESSION "session"

struct openapi_operation {
    const char *id;           /* operationId */
    const char *method;       /* "GET", "POST", ... */
    const char *path;         /* "/api/v1/machines/{machine_id}" */
    const char *scope;        /* of bearerAuth, OPENAPI_SCOPE_SESSION, or NULL: open to everybody */
    const json_t *parameters; /* array of parameter objects, with $ref to be resolved */
    const json_t *body;       /* schema of the JSON body, NULL: none */
    const json_t *responses;  /* object: status -> response */
    bool body_required;
    bool idempotency_key; /* takes the header Idempotency-Key */
    bool if_match;        /* needs the header If-Match */
};

/* Parses the document that is linked in. Everything returned below lives as long as it. */
int openapi_load(struct openapi **ret_doc, struct err *err);
void openapi_free(struct openapi *doc);
DEFINE_AUTO(openapi, openapi_free)

/* The document's bytes as served, not NUL-terminated. */
const char *openapi_text(size_t *ret_len);
/* The same in gzip form, NULL when there was no memory for it. */
const char *openapi_gzip(const struct openapi *doc, size_t *ret_len);
const json_t *openapi_root(const struct openapi *doc);
/* The operation with that operationId, or NULL. */
const struct openapi_operation *openapi_find(const struct openapi *doc, const char *id);
size_t openapi_count(const struct openapi *doc);
const struct openapi_operation *openapi_at(const struct openapi *doc, size_t i);
/* The schema of the body that op answers with under status, NULL when that status has none; *ret_documented says
 * whether the status is there at all. */
const json_t *openapi_response_schema(
    const struct openapi *doc, const struct openapi_operation *op, int status, bool *ret_documented);

#endif
