/* SPDX-License-Identifier: Apache-2.0
 *
 * Happy path: the kind is not held back. Else the request is stored under its fingerprint, told of in an event, and answered with a
 * problem; http_route.c commits that. A dry run does nothing and so needs nobody; a request that was approved is not asked about again.
 */
#include "hub/api/four_eyes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hub/api/http_route.h"
#include "hub/db/approval_store.h"
#include "hub/db/config_store.h"
#include "hub/db/journal.h"
#include "transport/base/mem.h"

static bool has(const json_t *kinds, const char *kind)
{
    const json_t *one;
    size_t i;

    json_array_foreach(kinds, i, one)
    {
        if (json_is_string(one) && strcmp(json_string_value(one), kind) == 0)
            return true;
    }
    return false;
}

bool four_eyes_weakened(const json_t *before, const json_t *after)
{
    const json_t *one;
    size_t i;

    json_array_foreach(before, i, one)
    {
        if (json_is_string(one) && !has(after, json_string_value(one)))
            return true;
    }
    return false;
}

/* The setting itself is held back as soon as anything is. 1, 0 or -1. */
static int is_held_back(struct request *r, const char *kind, struct err *err)
{
    AUTO_FREE char *text = NULL;
    int found = setting_get(r->conn, "four_eyes", &text, err);
    json_t *kinds;
    bool held;

    if (found <= 0)
        return found;
    kinds = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    held = has(kinds, kind) || (strcmp(kind, "four_eyes") == 0 && json_array_size(kinds) > 0);
    json_decref(kinds);
    return held;
}

static int tell(struct request *r, const char *machine_id, const char *summary, const char *id, struct err *err)
{
    const struct event_spec event = {.severity = "warning",
        .code = "approval_requested",
        .values = TEXT_VALUES(
            VALUE_TEXT("person", r->principal.name), VALUE_TEXT("summary", summary), VALUE_TEXT("approval", id)),
        .machine_id = machine_id,
        .actor = r->principal.name};

    return event_append(r->conn, &event, err);
}

static int ask(struct request *r, const char *kind, const char *machine_id, const char *summary,
    char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_FREE char *query = json_dumps(r->query, JSON_COMPACT);
    AUTO_FREE char *body = r->body ? json_dumps(r->body, JSON_COMPACT) : NULL;
    char print[REQUEST_FINGERPRINT_SIZE];
    int made;

    if (!query || (r->body && !body))
        return err_set(err, ERR_NOMEM, "no memory for an approval");
    if (http_route_fingerprint(r, print, err) < 0)
        return -1;
    const struct approval_spec spec = {.kind = kind,
        .summary = summary,
        .machine_id = machine_id,
        .method = r->method,
        .path = r->path,
        .query_json = query,
        .body_json = body,
        .if_version = r->if_version,
        .fingerprint = print,
        .requested_by = r->principal.name,
        .user_id = r->principal.user_id,
        .token_id = r->principal.token_id};

    if ((made = approval_ask(r->conn, &spec, ret_id, err)) < 0)
        return -1;
    return made ? tell(r, machine_id, summary, ret_id, err) : 0;
}

int four_eyes_hold(struct request *r, const char *kind, const char *machine_id, struct err *err, const char *fmt, ...)
{
    char summary[400], id[IDENT_TEXT_SIZE], detail[600], correction[200];
    va_list ap;
    int held;

    if (r->approved || request_query_bool(r, "dry_run"))
        return 0;
    if ((held = is_held_back(r, kind, err)) <= 0)
        return held;
    va_start(ap, fmt);
    (void)vsnprintf(summary, sizeof(summary), fmt, ap);
    va_end(ap);
    if (ask(r, kind, machine_id, summary, id, err) < 0)
        return -1;
    (void)snprintf(detail, sizeof(detail), "a second person must approve to %s", summary);
    (void)snprintf(correction, sizeof(correction),
        "Nothing was done yet. Let another person look at it: leeward approval show %s", id);
    reply_problem_status(r, 403, "approval_required", detail, correction);
    if (json_object_set_new(r->reply.json, "approval_id", json_string(id)) < 0)
        return err_set(err, ERR_NOMEM, "no memory for the answer");
    (void)snprintf(r->reply.location, sizeof(r->reply.location), "/api/v1/approvals/%s", id);
    r->held_back = true;
    return 1;
}
