/* SPDX-License-Identifier: Apache-2.0
 *
 * Life of a request object, typed reading of what was validated, and building of answers. Source: RFC 9110 (HTTP), RFC
 * 9457 (problems).
 */
#include "hub/api/http_request.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hub/api/event_feed.h"
#include "hub/api/json_schema.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

void request_init(struct request *r, const struct api_services *services)
{
    *r = (struct request){.services = services};
    buf_init(&r->raw_body, REQUEST_BODY_MAX);
    r->begun_usec = clock_mono_usec();
}

void reply_clear(struct request *r)
{
    json_decref(r->reply.json);
    free(r->reply.text);
    event_stream_close(r->reply.stream);
    r->reply = (struct reply){0};
}

void request_done(struct request *r)
{
    struct request_headers *h = &r->headers;
    char *const texts[] = {h->authorization, h->if_match, h->if_none_match, h->idempotency_key, h->content_type,
        h->last_event_id, h->session, h->csrf, h->oidc, h->user_agent, h->accept_encoding};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        free(texts[i]);
    reply_clear(r);
    json_decref(r->arguments);
    json_decref(r->query);
    json_decref(r->body);
    json_decref(r->errors);
    buf_done(&r->raw_body);
    principal_done(&r->principal);
}

const char *request_query(const struct request *r, const char *name)
{
    return json_string_value(json_object_get(r->query, name));
}

int64_t request_query_int(const struct request *r, const char *name, int64_t fallback)
{
    const json_t *v = json_object_get(r->query, name);

    return json_is_integer(v) ? json_integer_value(v) : fallback;
}

bool request_query_bool(const struct request *r, const char *name)
{
    return json_is_true(json_object_get(r->query, name));
}

const char *request_str(const struct request *r, const char *name)
{
    return json_string_value(json_object_get(r->body, name));
}

int64_t request_int(const struct request *r, const char *name, int64_t fallback)
{
    const json_t *v = json_object_get(r->body, name);

    return json_is_integer(v) ? json_integer_value(v) : fallback;
}

bool request_bool(const struct request *r, const char *name, bool fallback)
{
    const json_t *v = json_object_get(r->body, name);

    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

uint64_t request_usec(const struct request *r, const char *name, uint64_t fallback_usec)
{
    const json_t *v = json_object_get(r->body, name);

    return json_is_number(v) ? (uint64_t)(json_number_value(v) * 1e6 + 0.5) : fallback_usec;
}

int request_fault(struct request *r, struct err *err, const char *pointer, const char *code, const char *fmt, ...)
{
    char detail[200];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(detail, sizeof(detail), fmt, ap);
    va_end(ap);
    if (!r->errors)
        r->errors = json_array();
    json_schema_fault(r->errors, pointer, code, "%s", detail);
    return err_set(err, ERR_INVALID, "%s: %s", pointer, detail);
}

int reply_json(struct request *r, int status, json_t *json, struct err *err)
{
    const char *etag = json_string_value(json_object_get(json, "etag"));

    if (!json)
        return err_set(err, ERR_NOMEM, "no memory for the answer");
    reply_clear(r);
    r->reply.status = status;
    r->reply.json = json;
    if (etag)
        (void)snprintf(r->reply.etag, sizeof(r->reply.etag), "%s", etag);
    return 0;
}

int reply_created(struct request *r, json_t *item, const char *location, struct err *err)
{
    if (reply_json(r, 201, item, err) < 0)
        return -1;
    (void)snprintf(r->reply.location, sizeof(r->reply.location), "%s", location);
    return 0;
}

int reply_empty(struct request *r)
{
    reply_clear(r);
    r->reply.status = 204;
    return 0;
}

int reply_text(struct request *r, int status, const char *content_type, char *text, size_t len)
{
    reply_clear(r);
    r->reply = (struct reply){.status = status, .content_type = content_type, .text = text, .text_len = len};
    return 0;
}

static const char *status_title(int status)
{
    static const struct {
        int status;
        const char *title;
    } titles[] = {{400, "The request is wrong"}, {401, "No valid token or session"}, {403, "This is not allowed"},
        {404, "There is no such thing"}, {405, "This method is not served here"},
        {409, "Not in this state, or the name is taken"}, {412, "Somebody changed it first"},
        {413, "The body is too large"}, {415, "The body must be JSON"},
        {422, "The Idempotency-Key was used for another request"}, {428, "If-Match is missing"},
        {429, "Too many requests"}, {503, "Not now; try again"}};

    for (size_t i = 0; i < ARRAY_LEN(titles); i++)
        if (titles[i].status == status)
            return titles[i].title;
    return "Fault of the hub";
}

void reply_problem_status(struct request *r, int status, const char *code, const char *detail, const char *correction)
{
    json_t *problem = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s}", "type", "about:blank", "title", status_title(status),
        "status", status, "code", code, "detail", detail, "request_id", r->id);

    if (!problem) /* detail was no UTF-8, or no memory */
        problem = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s}", "type", "about:blank", "title", status_title(status),
            "status", status, "code", code, "detail", "no further detail", "request_id", r->id);
    if (problem && correction && *correction)
        json_object_set_new(problem, "correction", json_string(correction));
    if (problem && json_array_size(r->errors) > 0)
        json_object_set(problem, "errors", r->errors);
    reply_clear(r);
    r->reply.status = status;
    r->reply.json = problem;
    if (status == 503 || status == 429)
        r->reply.retry_after_sec = 1;
}

/* HTTP says more than our codes in few places: a version that is stale is 412 only where the client named one; codes that
 * belong to storage or peers are 500 or 503 to a client of the API. */
static int problem_status(const struct request *r, const struct err *e)
{
    int status = err_http_status(e->code);

    if (e->code == ERR_CONFLICT && !r->headers.if_match)
        return 409;
    if (status == 504 || status == 507 || status == 499)
        return 503;
    if (status == 501)
        return 409;
    return status < 400 ? 500 : status;
}

void reply_problem(struct request *r, const struct err *e)
{
    reply_problem_status(r, problem_status(r, e), err_code_name(e->code), e->text, e->correction);
}
