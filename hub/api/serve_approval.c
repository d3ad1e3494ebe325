/* SPDX-License-Identifier: Apache-2.0
 *
 * What waits for a second person: list, approve, reject. Approving carries the stored request out in the transaction of the approval: it is
 * done and approved, or neither, and a request that can no longer be done stays pending with the reason as the answer.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <string.h>

#include "hub/api/http_route.h"
#include "hub/api/openapi.h"
#include "hub/api/row_json.h"
#include "hub/db/approval_store.h"
#include "hub/db/journal.h"

#define A(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct approval_row, member)                                                   \
    }
static const struct row_json_member approval_members[] = {
    A("id", ROW_TEXT, id),
    A("kind", ROW_TEXT, kind),
    A("summary", ROW_TEXT, summary),
    A("machine_id", ROW_TEXT_OR_NULL, machine_id),
    A("machine_name", ROW_TEXT_OR_NULL, machine_name),
    A("method", ROW_TEXT, method),
    A("path", ROW_TEXT, path),
    A("body", ROW_OBJECT_OR_NULL, body_json),
    A("requested_by", ROW_TEXT, requested_by),
    A("state", ROW_TEXT, state),
    A("decided_by", ROW_TEXT, decided_by),
    A("note", ROW_TEXT, note),
    A("job_id", ROW_TEXT_OR_NULL, job_id),
    A("created_at", ROW_TIME, created_at),
    A("expires_at", ROW_TIME, expires_at),
    A("decided_at", ROW_TIME, decided_at),
    A("etag", ROW_ETAG, version),
};
#undef A

/* `mine`: whoever looks asked for it, and cannot decide. */
static json_t *approval_json(const struct request *r, const void *row)
{
    const struct approval_row *a = row;
    json_t *item = row_json(row, approval_members, ARRAY_LEN(approval_members));
    bool mine =
        a->user_id[0] ? strcmp(a->user_id, r->principal.user_id) == 0 : strcmp(a->requested_by, r->principal.name) == 0;

    if (item)
        json_object_set_new(item, "mine", json_boolean(mine));
    return item;
}

static const struct row_filter approval_filters[] = {
    {"state", "state", DB_EQ}, {"kind", "kind", DB_EQ}, {"machine_id", "machine_id", DB_EQ}};

int serve_approval_list(struct request *r, struct err *err)
{
    const struct row_list list = {.entity = &db_approvals,
        .filters = approval_filters,
        .filter_count = ARRAY_LEN(approval_filters),
        .item = approval_json};

    return row_list_serve(r, &list, err);
}

int serve_approval_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_approvals, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, approval_json(r, set.items), err);
}

/* ---- carrying out ---- */

static void inner_done(struct request *inner)
{
    inner->conn = NULL; /* the outer request's */
    request_done(inner);
}
#define AUTO_INNER __attribute__((cleanup(inner_done)))

static int prepare(struct request *inner, const struct request *r, const struct approval_row *a, struct err *err)
{
    (void)snprintf(inner->method, sizeof(inner->method), "%s", a->method);
    (void)snprintf(inner->path, sizeof(inner->path), "%s", a->path);
    (void)snprintf(inner->id, sizeof(inner->id), "%s", r->id);
    (void)snprintf(inner->peer, sizeof(inner->peer), "%s", r->peer);
    (void)snprintf(inner->principal.name, sizeof(inner->principal.name), "%s", a->requested_by);
    inner->conn = r->conn;
    inner->if_version = a->if_version;
    inner->approved = true;
    inner->query = json_loads(a->query_json, JSON_REJECT_DUPLICATES, NULL);
    inner->body = a->body_json[0] ? json_loads(a->body_json, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!json_is_object(inner->query) || (a->body_json[0] && !inner->body) || http_route_find(inner) < 0 ||
        (inner->route->flags & (ROUTE_INLINE | ROUTE_NO_DATABASE | ROUTE_OWN_TRANSACTION)))
        return err_set(err, ERR_INTERNAL, "approval %s holds no request that can be carried out", a->id);
    inner->operation = openapi_find(r->services->doc, inner->route->operation);
    return 0;
}

/* What who asked may do now is what counts, not what they could when they asked. */
static int check_asker(struct request *r, const struct approval_row *a, const struct request *inner, struct err *err)
{
    AUTO_FREE char *scopes = NULL;
    const char *role;
    struct principal asker = {0};
    bool may;

    if (approval_asker_role(r->conn, a->id, &role, &scopes, err) < 0)
        return -1;
    asker.scopes = json_loads(scopes, 0, NULL);
    asker.bound = role ? role_scopes(role) : NULL;
    if (json_array_size(asker.scopes) == 0) { /* all that the role has */
        json_decref(asker.scopes);
        asker.scopes = json_incref(asker.bound);
    }
    may = role && principal_may(&asker, inner->route->scope);
    principal_done(&asker);
    if (may)
        return 0;
    (void)err_set(err, ERR_REFUSED, "%s may not do this any more", a->requested_by);
    return err_hint(err, "Reject it; whoever may still do it asks anew.");
}

static int check_approver(struct request *r, const struct approval_row *a, const struct request *inner, struct err *err)
{
    int may = approval_may_decide(r->conn, a->id, r->principal.user_id, err);

    if (may <= 0)
        return -1;
    if (principal_may(&r->principal, inner->route->scope))
        return 0;
    (void)err_set(err, ERR_DENIED, "approving this needs the scope %s, as doing it does", inner->route->scope);
    return err_hint(err, "Ask somebody whose role has it.");
}

static int carry_out(struct request *r, const struct approval_row *a, char ret_job[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_INNER struct request inner;
    AUTO_FREE char *detail = NULL;

    request_init(&inner, r->services);
    if (prepare(&inner, r, a, err) < 0 || check_approver(r, a, &inner, err) < 0 || check_asker(r, a, &inner, err) < 0)
        return -1;
    if (inner.route->serve(&inner, err) < 0)
        return -1;
    detail = mem_printf("{\"approval\": \"%s\", \"approved_by\": \"%s\"}", a->id, r->principal.user_id);
    if (!detail)
        return err_set(err, ERR_NOMEM, "no memory for the audit log");
    inner.audit_detail = detail;
    (void)snprintf(ret_job, IDENT_TEXT_SIZE, "%s", inner.job_id);
    return http_route_audit(&inner, "done", err);
}

static int tell(struct request *r, const struct approval_row *a, const char *state, struct err *err)
{
    AUTO_FREE char *code = mem_printf("approval_%s", state);
    const struct event_spec event = {.severity = "info",
        .code = code,
        .values = TEXT_VALUES(VALUE_TEXT("person", r->principal.name), VALUE_TEXT("summary", a->summary)),
        .machine_id = a->machine_id,
        .actor = r->principal.name};

    return code ? event_append(r->conn, &event, err) : err_set(err, ERR_NOMEM, "no memory for an event");
}

static int decide(struct request *r, const struct approval_row *a, const char *state, const char *job, struct err *err)
{
    const char *note = request_str(r, "note") ? request_str(r, "note") : "";

    if (approval_decide(r->conn, a->id, state, r->principal.name, note, job, err) < 0 || tell(r, a, state, err) < 0)
        return -1;
    return serve_approval_get(r, err);
}

int serve_approval_approve(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    char job[IDENT_TEXT_SIZE] = "";

    if (approval_hold(r->conn, r->params[0], err) < 0 || db_need(r->conn, &db_approvals, r->params[0], &set, err) < 0)
        return -1;
    const struct approval_row *a = db_at(&set, struct approval_row, 0);

    return carry_out(r, a, job, err) < 0 ? -1 : decide(r, a, "approved", job, err);
}

/* Who asked takes it back; anybody else turns it down. */
int serve_approval_reject(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (approval_hold(r->conn, r->params[0], err) < 0 || db_need(r->conn, &db_approvals, r->params[0], &set, err) < 0)
        return -1;
    const struct approval_row *a = db_at(&set, struct approval_row, 0);
    bool own =
        a->user_id[0] ? strcmp(a->user_id, r->principal.user_id) == 0 : strcmp(a->requested_by, r->principal.name) == 0;

    return decide(r, a, own ? "withdrawn" : "rejected", "", err);
}
