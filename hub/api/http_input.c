/* SPDX-License-Identifier: Apache-2.0
 *
 * A parameter is text on the wire; its schema says what it is meant to be. It is turned into that JSON type and then held
 * to the schema like any value. Unknown parameters and unknown fields are faults (CONVENTIONS.md, API 1): a misspelt
 * filter that is ignored would list everything.
 */
#include "hub/api/http_input.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "hub/api/http_route.h"
#include "hub/api/json_schema.h"
#include "hub/api/openapi.h"

static json_t *text_as(const json_t *schema, const char *text)
{
    const char *type = json_string_value(json_object_get(schema, "type"));

    if (type && strcmp(type, "integer") == 0) {
        char *end;
        long long n;

        errno = 0;
        n = strtoll(text, &end, 10);
        if (*text && !*end && errno == 0 && *text != ' ' && *text != '+')
            return json_integer(n);
    } else if (type && strcmp(type, "boolean") == 0) {
        if (strcmp(text, "true") == 0 || strcmp(text, "1") == 0 || !*text)
            return json_true();
        if (strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
            return json_false();
    }
    return json_string(text); /* the schema refuses it, if it is not to be text */
}

static const json_t *find_parameter(const struct request *r, const char *in, const char *name)
{
    const json_t *root = openapi_root(r->services->doc);
    const json_t *one;
    size_t i;

    json_array_foreach(r->operation->parameters, i, one)
    {
        const json_t *p = json_schema_resolve(root, one);
        const char *p_in = json_string_value(json_object_get(p, "in"));
        const char *p_name = json_string_value(json_object_get(p, "name"));

        if (p_in && p_name && strcmp(p_in, in) == 0 && strcmp(p_name, name) == 0)
            return p;
    }
    return NULL;
}

static void check_text(struct request *r, const json_t *parameter, const char *name, const char *text, bool keep)
{
    const json_t *root = openapi_root(r->services->doc);
    const json_t *schema = json_schema_resolve(root, json_object_get(parameter, "schema"));
    json_t *value = text_as(schema, text);

    if (!value)
        json_schema_fault(r->errors, name, "encoding", "must be UTF-8");
    else if (json_schema_valid(root, schema, value, name, r->errors) && keep)
        json_object_set(r->query, name, value);
    json_decref(value);
}

static bool is_paging(const char *name)
{
    return strcmp(name, "cursor") == 0 || strcmp(name, "limit") == 0 || strcmp(name, "sort") == 0;
}

/* The names that a query may have here; those by which a list is filtered before those that every list has. */
static void list_parameters(const struct request *r, char *out, size_t size)
{
    const json_t *root = openapi_root(r->services->doc);
    const json_t *one;
    size_t i, used = 0;

    *out = '\0';
    for (int paging = 0; paging < 2; paging++)
        json_array_foreach(r->operation->parameters, i, one)
        {
            const json_t *p = json_schema_resolve(root, one);
            const char *name = json_string_value(json_object_get(p, "name"));

            if (name && used < size && strcmp(json_string_value(json_object_get(p, "in")), "query") == 0 &&
                is_paging(name) == (paging == 1))
                used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", name);
        }
}

static void refuse_parameter(struct request *r, const char *name)
{
    char known[200];

    list_parameters(r, known, sizeof(known));
    json_schema_fault(r->errors, name, "unknown_parameter", "this parameter is not known here; known %s%s",
        known[0] ? "are " : "is none", known);
}

static void check_query(struct request *r)
{
    const char *name;
    json_t *value;

    json_object_foreach(r->arguments, name, value)
    {
        const json_t *parameter = find_parameter(r, "query", name);

        if (!parameter && (r->route->flags & ROUTE_ANY_QUERY))
            continue;
        if (!parameter)
            refuse_parameter(r, name);
        else if (json_is_array(value))
            json_schema_fault(r->errors, name, "repeated", "this parameter may be given once");
        else
            check_text(r, parameter, name, json_string_value(value), true);
    }
}

static void check_required(struct request *r)
{
    const json_t *root = openapi_root(r->services->doc);
    const json_t *one;
    size_t i;

    json_array_foreach(r->operation->parameters, i, one)
    {
        const json_t *p = json_schema_resolve(root, one);
        const char *in = json_string_value(json_object_get(p, "in"));
        const char *name = json_string_value(json_object_get(p, "name"));

        if (in && name && strcmp(in, "query") == 0 && json_is_true(json_object_get(p, "required")) &&
            !json_object_get(r->arguments, name))
            json_schema_fault(r->errors, name, "required", "this parameter is needed");
    }
}

/* Path parameters stand in the template in the order of r->params. */
static void check_path(struct request *r)
{
    const char *at = r->operation->path;

    for (size_t i = 0; i < REQUEST_PARAMS_MAX && (at = strchr(at, '{')); i++) {
        const char *end = strchr(at, '}');
        const json_t *parameter;
        char name[64];

        if (!end || (size_t)(end - at) > sizeof(name))
            return;
        (void)snprintf(name, sizeof(name), "%.*s", (int)(end - at - 1), at + 1);
        if ((parameter = find_parameter(r, "path", name)))
            check_text(r, parameter, name, r->params[i], false);
        at = end;
    }
}

/* "\"12\"" -> 12. */
static int parse_etag(const char *text, uint64_t *ret_version)
{
    char *end;

    if (text[0] != '"' || text[1] < '0' || text[1] > '9')
        return -1;
    errno = 0;
    *ret_version = strtoull(text + 1, &end, 10);
    return errno == 0 && end[0] == '"' && !end[1] && *ret_version > 0 ? 0 : -1;
}

static int check_if_match(struct request *r)
{
    if (!r->operation->if_match)
        return 0;
    if (!r->headers.if_match) {
        reply_problem_status(r, 428, "if_match_missing", "this change needs the header If-Match",
            "Read the item first and send its etag in double quotes as If-Match; \"*\" without quotes accepts any "
            "version.");
        return -1;
    }
    if (strcmp(r->headers.if_match, "*") == 0 || parse_etag(r->headers.if_match, &r->if_version) == 0)
        return 0;
    reply_problem_status(r, 412, "conflict", "If-Match is not an etag that this hub has given out",
        "Read the item again and send its etag in double quotes.");
    return -1;
}

static int refuse_faults(struct request *r, const char *detail)
{
    if (json_array_size(r->errors) == 0)
        return 0;
    reply_problem_status(r, 400, "invalid", detail, "Correct what `errors` lists; /api/v1/openapi.json has the forms.");
    return -1;
}

int http_input_parameters(struct request *r)
{
    const struct request_headers *h = &r->headers;

    if (!r->errors)
        r->errors = json_array();
    r->query = json_object();
    check_path(r);
    check_query(r);
    check_required(r);
    if (h->idempotency_key && r->operation->idempotency_key)
        check_text(r, find_parameter(r, "header", "Idempotency-Key"), "Idempotency-Key", h->idempotency_key, false);
    if (h->last_event_id && find_parameter(r, "header", "Last-Event-ID"))
        check_text(r, find_parameter(r, "header", "Last-Event-ID"), "Last-Event-ID", h->last_event_id, false);
    if (refuse_faults(r, "the parameters of the request are wrong") < 0)
        return -1;
    return check_if_match(r);
}

/* "application/json; charset=utf-8" and the merge-patch form of it. */
static bool is_json_type(const char *content_type)
{
    static const char *const types[] = {"application/json", "application/merge-patch+json"};

    for (size_t i = 0; content_type && i < ARRAY_LEN(types); i++) {
        size_t n = strlen(types[i]);

        if (strncasecmp(content_type, types[i], n) == 0 &&
            (!content_type[n] || content_type[n] == ';' || content_type[n] == ' '))
            return true;
    }
    return false;
}

static int refuse_unexpected_body(struct request *r)
{
    if (r->raw_body.len == 0)
        return 0;
    reply_problem_status(r, 400, "invalid", "this request takes no body", NULL);
    return -1;
}

int http_input_body(struct request *r)
{
    const json_t *root = openapi_root(r->services->doc);
    json_error_t why;

    if (!r->operation->body)
        return refuse_unexpected_body(r);
    if (r->raw_body.len == 0 && !r->operation->body_required) {
        r->body = json_object();
        return 0;
    }
    if (r->raw_body.len > 0 && !is_json_type(r->headers.content_type)) {
        reply_problem_status(r, 415, "media_type", "the body must be sent as application/json",
            "Send the header Content-Type: application/json.");
        return -1;
    }
    r->body = json_loadb((const char *)r->raw_body.data, r->raw_body.len, JSON_REJECT_DUPLICATES, &why);
    if (!r->body) {
        char detail[240];

        (void)snprintf(detail, sizeof(detail), "the body is not JSON: line %d column %d: %.120s", why.line, why.column,
            r->raw_body.len ? why.text : "it is empty");
        reply_problem_status(r, 400, "not_json", detail, NULL);
        return -1;
    }
    buf_done(&r->raw_body);
    (void)json_schema_valid(root, r->operation->body, r->body, "", r->errors);
    return refuse_faults(r, "the body of the request is wrong");
}
