/* SPDX-License-Identifier: Apache-2.0
 *
 * API tokens and enrolment tokens. Their text is in the answer that makes them and nowhere else; such an answer is
 * therefore never kept for an Idempotency-Key.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <string.h>

#include "hub/api/row_json.h"
#include "hub/db/rows.h"
#include "hub/db/token_store.h"
#include "transport/base/clock.h"

#define T(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct api_token_row, member)                                                  \
    }
static const struct row_json_member token_members[] = {
    T("id", ROW_TEXT, id),
    T("name", ROW_TEXT, name),
    T("role", ROW_TEXT, role),
    T("created_by", ROW_TEXT, created_by),
    T("user_id", ROW_TEXT_OR_NULL, user_id),
    T("user_name", ROW_TEXT_OR_NULL, user_name),
    T("expires_at", ROW_TIME, expires_at),
    T("last_used_at", ROW_TIME, last_used_at),
    T("revoked_at", ROW_TIME, revoked_at),
    T("created_at", ROW_TIME, created_at),
};
#undef T

#define E(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct enrolment_token_row, member)                                            \
    }
static const struct row_json_member enrolment_members[] = {
    E("id", ROW_TEXT, id),
    E("role", ROW_TEXT, role),
    E("name", ROW_TEXT, name),
    E("site_id", ROW_TEXT_OR_NULL, site_id),
    E("created_by", ROW_TEXT, created_by),
    E("expires_at", ROW_TIME, expires_at),
    E("used_at", ROW_TIME, used_at),
    E("used_by", ROW_TEXT_OR_NULL, used_by),
    E("revoked_at", ROW_TIME, revoked_at),
    E("created_at", ROW_TIME, created_at),
};
#undef E

static json_t *token_json(const struct request *r, const void *row)
{
    json_t *item = row_json(row, token_members, ARRAY_LEN(token_members));
    struct principal p = {0};

    (void)r; /* its own scopes, whatever its owner may at the moment */
    if (item && principal_from_token(row, &p, NULL) == 0)
        json_object_set(item, "scopes", p.scopes);
    principal_done(&p);
    return item;
}

static json_t *enrolment_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, enrolment_members, ARRAY_LEN(enrolment_members));
}

/* 0: when the body does not say. */
static uint64_t expiry(const struct request *r)
{
    int64_t seconds = request_int(r, "expires_in_seconds", 0);

    return seconds > 0 ? clock_utc_usec() + (uint64_t)seconds * USEC_PER_SEC : 0;
}

static const struct row_filter token_filters[] = {
    {"name", "name", DB_LIKE},
    {"role", "role", DB_EQ},
    {"user_id", "user_id", DB_EQ},
};

/* Whoever administers users sees all tokens; another person only their own. */
static bool only_own(const struct request *r)
{
    return r->principal.session_id[0] && !principal_may(&r->principal, "users:write");
}

int serve_token_list(struct request *r, struct err *err)
{
    struct row_list list = {.entity = &db_api_tokens,
        .filters = token_filters,
        .filter_count = ARRAY_LEN(token_filters),
        .item = token_json};

    if (only_own(r))
        list.fixed = (struct db_filter){"user_id", DB_EQ, r->principal.user_id};
    return row_list_serve(r, &list, err);
}

static int refuse_wider(const struct request *r, json_t *own_scopes, struct err *err)
{
    json_t *wanted = own_scopes ? json_incref(own_scopes) : role_scopes(request_str(r, "role"));
    bool covered = principal_covers(&r->principal, wanted);

    json_decref(wanted);
    if (covered)
        return 0;
    (void)err_set(err, ERR_DENIED, "the new token would have more rights than the one that asks for it");
    return err_hint(err, "Name fewer scopes or a lower role, or ask with a token of an administrator.");
}

/* A token may be narrower than its role, never wider. */
static int refuse_beyond_role(struct request *r, json_t *own_scopes, struct err *err)
{
    struct principal role = {.scopes = role_scopes(request_str(r, "role"))};
    bool covered = !own_scopes || principal_covers(&role, own_scopes);

    principal_done(&role);
    return covered ? 0
                   : request_fault(r, err, "/scopes", "beyond_role", "the role %s does not have all of these scopes",
                         request_str(r, "role"));
}

int serve_token_create(struct request *r, struct err *err)
{
    json_t *own_scopes = json_object_get(r->body, "scopes");
    AUTO_FREE char *scopes_text = NULL;
    char id[IDENT_TEXT_SIZE], text[API_TOKEN_TEXT_SIZE], location[96];
    struct api_token_spec spec = {
        .name = request_str(r, "name"),
        .role = request_str(r, "role"),
        .created_by = r->principal.name,
        .user_id = r->principal.user_id,
        .expires_at = expiry(r),
    };

    if (json_array_size(own_scopes) == 0)
        own_scopes = NULL;
    if (refuse_beyond_role(r, own_scopes, err) < 0 || refuse_wider(r, own_scopes, err) < 0)
        return -1;
    if (own_scopes && !(scopes_text = json_dumps(own_scopes, JSON_COMPACT)))
        return err_set(err, ERR_NOMEM, "no memory for the scopes of a token");
    spec.scopes_json = scopes_text;
    if (api_token_create(r->conn, &spec, id, text, err) < 0)
        return -1;
    (void)snprintf(location, sizeof(location), "/api/v1/tokens/%s", id);
    return reply_created(r, json_pack("{s:s, s:s, s:s}", "id", id, "name", spec.name, "token", text), location, err);
}

int serve_token_revoke(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_api_tokens, r->params[0], &set, err) < 0)
        return -1;
    if (only_own(r) && strcmp(db_at(&set, struct api_token_row, 0)->user_id, r->principal.user_id) != 0) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no token %s of yours", r->params[0]);
        return err_hint(err, "List your tokens; only an administrator revokes those of others.");
    }
    if (api_token_revoke(r->conn, r->params[0], err) < 0)
        return -1;
    return reply_empty(r);
}

static const struct row_filter enrolment_filters[] = {{"role", "role", DB_EQ}, {"name", "name", DB_LIKE}};

int serve_enrolment_token_list(struct request *r, struct err *err)
{
    const struct row_list list = {.entity = &db_enrolment_tokens,
        .filters = enrolment_filters,
        .filter_count = ARRAY_LEN(enrolment_filters),
        .item = enrolment_json};

    return row_list_serve(r, &list, err);
}

int serve_enrolment_token_create(struct request *r, struct err *err)
{
    const struct enrolment_token_spec spec = {
        .role = request_str(r, "role"),
        .name = request_str(r, "name") ? request_str(r, "name") : "",
        .site_id = request_str(r, "site_id") ? request_str(r, "site_id") : "",
        .created_by = r->principal.name,
        .expires_at = expiry(r),
    };
    char id[IDENT_TEXT_SIZE], text[ENROLMENT_TOKEN_TEXT_SIZE], location[96];

    if (enrolment_token_create(r->conn, &spec, r->services->conf->ca_fingerprint, id, text, err) < 0)
        return -1;
    (void)snprintf(location, sizeof(location), "/api/v1/enrolment-tokens/%s", id);
    return reply_created(r, json_pack("{s:s, s:s, s:s}", "id", id, "role", spec.role, "token", text), location, err);
}

int serve_enrolment_token_revoke(struct request *r, struct err *err)
{
    if (enrolment_token_revoke(r->conn, r->params[0], err) < 0)
        return -1;
    return reply_empty(r);
}
