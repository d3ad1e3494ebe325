/* SPDX-License-Identifier: Apache-2.0
 *
 * Roles are rows of a table; everything else is comparing words. Reading is `*:read` for everybody who has a token at all, but for who the
 * users are and what they did, which viewers do not see: "!" before a scope takes it away again, wherever in the list it stands. An operator
 * runs the daily work; only an administrator makes policies, tokens and settings.
 */
#include "hub/api/api_auth.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "transport/base/mem.h"

static const struct role_row {
    const char *role;
    const char *scopes[16];
} roles[] = {
    {"viewer", {"*:read", "!audit:read", "!users:read"}},
    {"operator", {"*:read", "machines:protect", "machines:write", "points:write", "exports:write", "branches:promote",
                     "jobs:write", "vaults:verify", "groups:write", "failovers:execute", "failovers:commit",
                     "alerts:write", "approvals:write"}},
    {"admin", {"*"}},
};

json_t *role_scopes(const char *role)
{
    json_t *scopes = json_array();

    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        for (size_t k = 0; strcmp(roles[i].role, role) == 0 && roles[i].scopes[k]; k++)
            json_array_append_new(scopes, json_string(roles[i].scopes[k]));
    return scopes;
}

void principal_done(struct principal *p)
{
    json_decref(p->scopes);
    json_decref(p->bound);
    *p = (struct principal){0};
}

int principal_from_token(const struct api_token_row *row, struct principal *p, struct err *err)
{
    json_t *own = json_loads(row->scopes_json, JSON_REJECT_DUPLICATES, NULL);

    if (json_array_size(own) == 0) {
        json_decref(own);
        own = role_scopes(row->role);
    }
    if (!own)
        return err_set(err, ERR_NOMEM, "no memory for the scopes of a token");
    (void)snprintf(p->token_id, sizeof(p->token_id), "%s", row->id);
    (void)snprintf(p->user_id, sizeof(p->user_id), "%s", row->user_id ? row->user_id : "");
    (void)snprintf(p->name, sizeof(p->name), "token:%s", row->name);
    json_decref(p->scopes);
    json_decref(p->bound);
    p->scopes = own;
    p->bound = p->user_id[0] ? role_scopes(row->user_role) : NULL;
    return 0;
}

/* A person may always end their own sessions and make tokens of their own; serve_token.c and serve_session.c hold them to
 * their own. */
int principal_from_session(const struct session_row *row, struct principal *p, struct err *err)
{
    json_t *scopes = role_scopes(row->role);

    if (!scopes || json_array_append_new(scopes, json_string("sessions:write")) < 0 ||
        json_array_append_new(scopes, json_string("tokens:write")) < 0) {
        json_decref(scopes);
        return err_set(err, ERR_NOMEM, "no memory for the scopes of a session");
    }
    (void)snprintf(p->session_id, sizeof(p->session_id), "%s", row->id);
    (void)snprintf(p->user_id, sizeof(p->user_id), "%s", row->user_id);
    (void)snprintf(p->name, sizeof(p->name), "user:%s", row->user_name);
    p->must_change_password = row->must_change_password;
    json_decref(p->scopes);
    p->scopes = scopes;
    return 0;
}

/* "machines" against "machines" or "*", n characters of each. */
static bool part_within(const char *have, size_t have_len, const char *want, size_t want_len)
{
    return (have_len == 1 && have[0] == '*') || (have_len == want_len && memcmp(have, want, want_len) == 0);
}

static bool scope_within(const char *have, const char *want)
{
    const char *have_colon = strchr(have, ':');
    const char *want_colon = strchr(want, ':');

    if (strcmp(have, "*") == 0)
        return true;
    if (!have_colon || !want_colon)
        return false;
    return part_within(have, (size_t)(have_colon - have), want, (size_t)(want_colon - want)) &&
           part_within(have_colon + 1, strlen(have_colon + 1), want_colon + 1, strlen(want_colon + 1));
}

static bool list_has(const json_t *scopes, const char *scope)
{
    bool found = false;
    const json_t *have;
    size_t i;

    json_array_foreach(scopes, i, have)
    {
        const char *text = json_is_string(have) ? json_string_value(have) : "";

        if (text[0] == '!' && scope_within(text + 1, scope))
            return false;
        found |= scope_within(text, scope);
    }
    return found;
}

bool principal_may(const struct principal *p, const char *scope)
{
    return !scope || (list_has(p->scopes, scope) && (!p->bound || list_has(p->bound, scope)));
}

bool principal_covers(const struct principal *p, const json_t *wanted)
{
    const json_t *one;
    size_t i;

    json_array_foreach(
        wanted, i, one) if (!json_is_string(one) || !principal_may(p, json_string_value(one))) return false;
    return true;
}

const char *api_auth_bearer(const char *authorization)
{
    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
        return NULL;
    authorization += 7;
    while (*authorization == ' ')
        authorization++;
    return *authorization ? authorization : NULL;
}
