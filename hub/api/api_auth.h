/* SPDX-License-Identifier: Apache-2.0
 *
 * Who asks, and what they may do. A role is a list of scopes (`resource:verb`); a token may be narrowed to fewer, and one
 * that belongs to a user is bounded by what that user's role allows at the moment. A person's session has the scopes of the
 * role, and may look after its own sessions and tokens. Tokens are checked by hub/db/token_store.h, sessions by
 * hub/db/session_store.h.
 */
#ifndef HUB_API_API_AUTH_H
#define HUB_API_API_AUTH_H

#include <jansson.h>
#include <stdbool.h>

#include "hub/db/rows.h"
#include "transport/base/err.h"
#include "transport/base/ident.h"

struct principal {
    char token_id[IDENT_TEXT_SIZE];   /* "" = nobody yet, or a session */
    char session_id[IDENT_TEXT_SIZE]; /* "" = not a session */
    char user_id[IDENT_TEXT_SIZE];    /* of the session, or of the token's owner; "" none */
    char name[160];                   /* "token:NAME" or "user:NAME", as jobs, events and the audit log have it */
    json_t *scopes;                   /* "*" is everything; "machines:*" and "*:read" are understood; NULL: nothing */
    json_t *bound;                    /* and never more than these; NULL: no bound */
    bool must_change_password;        /* and do nothing else before */
};

void principal_done(struct principal *p);
/* Fills *p from a token's row: its own scopes, or all of its role. */
int principal_from_token(const struct api_token_row *row, struct principal *p, struct err *err);
int principal_from_session(const struct session_row *row, struct principal *p, struct err *err);
/* scope NULL: open to everybody, always true. */
bool principal_may(const struct principal *p, const char *scope);
/* Whether every scope in `wanted` is within those of p: nobody can make a token that may do more than its maker. */
bool principal_covers(const struct principal *p, const json_t *wanted);
/* New reference to the scopes of "viewer", "operator" or "admin"; an empty array for any other word. */
json_t *role_scopes(const char *role);
/* The token in "Bearer lwt_..." (the scheme's case does not matter); NULL when the header has another form. */
const char *api_auth_bearer(const char *authorization);

#endif
