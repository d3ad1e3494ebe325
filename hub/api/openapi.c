/* SPDX-License-Identifier: Apache-2.0
 *
 * The document is linked in with .incbin and parsed once at start. Operations are flattened into an array; there are
 * some fifty, so that looking one up by name walks them.
 */
#include "hub/api/openapi.h"

#include <stdio.h>
#include <string.h>

#include "hub/api/http_gzip.h"
#include "hub/api/json_schema.h"

#define OPERATIONS_MAX 256u

/* OPENAPI_JSON_PATH comes from the build. */
__asm__(".section .rodata\n"
        ".global openapi_json_begin\n"
        "openapi_json_begin:\n"
        ".incbin \"" OPENAPI_JSON_PATH "\"\n"
        ".global openapi_json_end\n"
        "openapi_json_end:\n"
        ".byte 0\n"
        ".previous\n");
extern const char openapi_json_begin[], openapi_json_end[];

struct openapi {
    json_t *root;
    struct openapi_operation operations[OPERATIONS_MAX];
    size_t count;
    char *gzip; /* NULL: none */
    size_t gzip_len;
};

const char *openapi_text(size_t *ret_len)
{
    *ret_len = (size_t)(openapi_json_end - openapi_json_begin);
    return openapi_json_begin;
}

const char *openapi_gzip(const struct openapi *doc, size_t *ret_len)
{
    *ret_len = doc->gzip_len;
    return doc->gzip;
}

static void compress_text(struct openapi *doc)
{
    const char *text = openapi_text(&doc->gzip_len);

    doc->gzip = mem_strndup(text, doc->gzip_len);
    if (doc->gzip && !http_gzip(&doc->gzip, &doc->gzip_len)) {
        free(doc->gzip);
        doc->gzip = NULL;
    }
}

const json_t *openapi_root(const struct openapi *doc)
{
    return doc->root;
}

size_t openapi_count(const struct openapi *doc)
{
    return doc->count;
}

const struct openapi_operation *openapi_at(const struct openapi *doc, size_t i)
{
    return &doc->operations[i];
}

const struct openapi_operation *openapi_find(const struct openapi *doc, const char *id)
{
    for (size_t i = 0; i < doc->count; i++)
        if (strcmp(doc->operations[i].id, id) == 0)
            return &doc->operations[i];
    return NULL;
}

static const char *method_name(const char *key)
{
    static const char *const names[][2] = {
        {"get", "GET"}, {"post", "POST"}, {"put", "PUT"}, {"patch", "PATCH"}, {"delete", "DELETE"}};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i][0], key) == 0)
            return names[i][1];
    return NULL;
}

/* "security": [{"bearerAuth": ["machines:read"]}, {"cookieAuth": ["machines:read"]}], or a cookie alone. */
static const char *scope_of(const json_t *operation)
{
    const json_t *first = json_array_get(json_object_get(operation, "security"), 0);

    if (json_object_get(first, "cookieAuth"))
        return OPENAPI_SCOPE_SESSION;
    return json_string_value(json_array_get(json_object_get(first, "bearerAuth"), 0));
}

static bool takes_header(const json_t *root, const json_t *parameters, const char *name)
{
    const json_t *one;
    size_t i;

    json_array_foreach(parameters, i, one)
    {
        const json_t *p = json_schema_resolve(root, one);
        const char *in = json_string_value(json_object_get(p, "in"));
        const char *have = json_string_value(json_object_get(p, "name"));

        if (in && have && strcmp(in, "header") == 0 && strcmp(have, name) == 0)
            return true;
    }
    return false;
}

static const json_t *json_content(const json_t *holder)
{
    const json_t *content = json_object_get(holder, "content");
    const json_t *media = json_object_get(content, "application/json");

    if (!media)
        media = json_object_get(content, "application/merge-patch+json");
    if (!media)
        media = json_object_get(content, "application/problem+json");
    return json_object_get(media, "schema");
}

static int add_operation(struct openapi *doc, const char *path, const char *method, const json_t *node, struct err *err)
{
    struct openapi_operation *op = &doc->operations[doc->count];
    const json_t *body = json_schema_resolve(doc->root, json_object_get(node, "requestBody"));

    if (doc->count == OPERATIONS_MAX)
        return err_set(err, ERR_INTERNAL, "openapi.json has more than %u operations", OPERATIONS_MAX);
    *op = (struct openapi_operation){
        .id = json_string_value(json_object_get(node, "operationId")),
        .method = method,
        .path = path,
        .scope = scope_of(node),
        .parameters = json_object_get(node, "parameters"),
        .responses = json_object_get(node, "responses"),
        .body = json_content(body),
        .body_required = json_is_true(json_object_get(body, "required")),
    };
    if (!op->id || !op->responses)
        return err_set(err, ERR_INTERNAL, "openapi.json: %s %s lacks operationId or responses", method, path);
    op->idempotency_key = takes_header(doc->root, op->parameters, "Idempotency-Key");
    op->if_match = takes_header(doc->root, op->parameters, "If-Match");
    doc->count++;
    return 0;
}

static int add_operations(struct openapi *doc, struct err *err)
{
    json_t *item, *node;
    const char *path, *key;

    json_object_foreach(json_object_get(doc->root, "paths"), path, item)
    {
        json_object_foreach(item, key, node)
        {
            const char *method = method_name(key);

            if (method && add_operation(doc, path, method, node, err) < 0)
                return -1;
        }
    }
    if (doc->count == 0)
        return err_set(err, ERR_INTERNAL, "openapi.json has no operation");
    return 0;
}

int openapi_load(struct openapi **ret_doc, struct err *err)
{
    struct openapi *doc AUTO_OF(openapi) = mem_new(struct openapi);
    size_t len;
    const char *text = openapi_text(&len);
    json_error_t why;

    if (!doc)
        return err_set(err, ERR_NOMEM, "no memory for the API's description");
    doc->root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!doc->root)
        return err_set(err, ERR_INTERNAL, "openapi.json line %d: %s", why.line, why.text);
    if (add_operations(doc, err) < 0)
        return -1;
    compress_text(doc);
    *ret_doc = TAKE_PTR(doc);
    return 0;
}

void openapi_free(struct openapi *doc)
{
    if (!doc)
        return;
    json_decref(doc->root);
    free(doc->gzip);
    free(doc);
}

const json_t *openapi_response_schema(
    const struct openapi *doc, const struct openapi_operation *op, int status, bool *ret_documented)
{
    char key[8];
    const json_t *response;

    (void)snprintf(key, sizeof(key), "%d", status);
    response = json_object_get(op->responses, key);
    *ret_documented = response != NULL;
    return json_content(json_schema_resolve(doc->root, response));
}
