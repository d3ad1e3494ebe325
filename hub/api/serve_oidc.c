/* SPDX-License-Identifier: Apache-2.0
 *
 * Signing in with an OpenID provider: the way there and the way back. Both are plain navigation of a browser, so they are
 * GETs; what they change is bound to a cookie that only this browser has, and to a state that counts once.
 */
#include "hub/api/serve.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "hub/api/api_metrics.h"
#include "hub/api/http_route.h"
#include "hub/api/login_gate.h"
#include "hub/api/oidc.h"
#include "hub/db/db.h"
#include "hub/db/oidc_store.h"
#include "hub/db/user_store.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

int serve_sign_in_methods(struct request *r, struct err *err)
{
    const struct oidc_conf *c = r->services->conf->oidc;
    json_t *oidc =
        c ? json_pack("{s:s, s:s}", "name", c->name && *c->name ? c->name : c->issuer, "url", "/api/v1/session/oidc")
          : json_null();

    return reply_json(r, 200, json_pack("{s:b, s:o}", "password", true, "oidc", oidc), err);
}

static int need_provider(const struct request *r, struct err *err)
{
    if (r->services->oidc)
        return 0;
    (void)err_set(err, ERR_NOT_FOUND, "this hub has no OpenID provider");
    return err_hint(err, "Start the hub with --oidc-issuer and what belongs to it, or sign in with a password.");
}

static int redirect(struct request *r, const char *to)
{
    reply_clear(r);
    r->reply.status = 303;
    (void)snprintf(r->reply.location, sizeof(r->reply.location), "%s", to);
    return 0;
}

/* Only a path of this host: not "//elsewhere", not "/\elsewhere". */
static const char *safe_return(const char *wanted)
{
    size_t n = wanted ? strlen(wanted) : 0;

    if (n == 0 || n >= OIDC_RETURN_SIZE || wanted[0] != '/' || wanted[1] == '/' || strchr(wanted, '\\'))
        return "/";
    for (size_t i = 0; i < n; i++)
        if (!isgraph((unsigned char)wanted[i]))
            return "/";
    return wanted;
}

/* Waiting for the provider must not take all handler threads. */
static int enter(struct request *r, struct err *err)
{
    if (login_gate_enter(r->services->outbound))
        return 0;
    (void)err_set(err, ERR_UNAVAILABLE, "many people sign in with the OpenID provider at this moment");
    return err_hint(err, "Try again.");
}

int serve_oidc_begin(struct request *r, struct err *err)
{
    char state[OIDC_SECRET_SIZE], browser[OIDC_SECRET_SIZE];
    struct oidc_login login = {0};
    AUTO_FREE char *url = NULL;
    int rc;

    if (need_provider(r, err) < 0 || enter(r, err) < 0)
        return -1;
    oidc_draw(state);
    oidc_draw(browser);
    oidc_draw(login.nonce);
    oidc_draw(login.verifier);
    (void)snprintf(login.return_to, sizeof(login.return_to), "%s", safe_return(request_query(r, "return_to")));
    rc = oidc_begin(r->services->oidc, state, login.nonce, login.verifier, &url, err);
    login_gate_leave(r->services->outbound);
    if (rc < 0 || oidc_login_begin(r->conn, state, browser, &login, err) < 0)
        return -1;
    if (strlen(url) >= sizeof(r->reply.location))
        return err_set(err, ERR_TOO_LARGE, "the address of the OpenID provider is too long");
    (void)redirect(r, url);
    (void)snprintf(r->reply.cookie, sizeof(r->reply.cookie),
        "%s=%s; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600", REQUEST_OIDC_COOKIE, browser);
    return 0;
}

/* ---- the way back ---- */

static int refused(struct request *r, const struct err *why, struct err *err)
{
    api_metrics_count_refused(r->services->metrics);
    log_event(LOG_WARN, "oidc_login_refused", LOG_S("actor", r->principal.name), LOG_S("peer", r->peer),
        LOG_S("request_id", r->id), LOG_E(why));
    if (http_route_audit(r, "denied", err) < 0)
        return -1;
    err_copy(err, why);
    return -1;
}

static int fail(struct request *r, struct err *err, enum err_code code, const char *text, const char *hint)
{
    struct err why = ERR_INIT;

    (void)err_set(&why, code, "%s", text);
    (void)err_hint(&why, "%s", hint);
    return refused(r, &why, err);
}

static const char *claim(const json_t *claims, const char *name)
{
    const char *text = json_string_value(json_object_get(claims, name));

    return text && *text ? text : NULL;
}

/* A name as users have them: letters, digits and ._@-, beginning with a letter or digit. */
static void user_name_of(const json_t *claims, char out[121])
{
    const char *from = claim(claims, "preferred_username");
    size_t n = 0;

    from = from ? from : claim(claims, "email");
    from = from ? from : claim(claims, "sub");
    for (; from && *from && n < 120; from++)
        if (isalnum((unsigned char)*from) || (n > 0 && strchr("._@-", *from)))
            out[n++] = *from;
    out[n] = '\0';
    if (n == 0)
        (void)snprintf(out, 121, "user");
}

static int admit(struct request *r, const json_t *claims, const char *return_to, struct err *err)
{
    const struct oidc_conf *c = r->services->conf->oidc;
    char name[121], id[IDENT_TEXT_SIZE], cookie[sizeof(r->reply.cookie)];
    const struct user_spec spec = {.name = name,
        .display_name = claim(claims, "name"),
        .role = oidc_role(c, claims),
        .oidc_issuer = c->issuer,
        .oidc_subject = claim(claims, "sub")};
    json_t *session = NULL;
    int known;

    user_name_of(claims, name);
    (void)snprintf(r->principal.name, sizeof(r->principal.name), "user:%s", name);
    if (!spec.role)
        return fail(r, err, ERR_DENIED, "the OpenID provider gives this user no role here",
            "Ask an administrator: the option oidc-role-map names the groups that have a role.");
    if (db_begin(r->conn, err) < 0 || (known = user_from_oidc(r->conn, &spec, id, err)) < 0)
        return -1;
    if (known == 0) {
        db_rollback(r->conn);
        return fail(r, err, ERR_DENIED, "this user is disabled", "Ask an administrator.");
    }
    if (session_begin(r, id, "oidc", &session, err) < 0)
        return -1;
    (void)snprintf(r->principal.name, sizeof(r->principal.name), "user:%s",
        json_string_value(json_object_get(json_object_get(session, "user"), "name")));
    json_decref(session);
    if (http_route_audit(r, "done", err) < 0 || db_commit(r->conn, err) < 0)
        return -1;
    memcpy(cookie, r->reply.cookie, sizeof(cookie));
    (void)redirect(r, return_to);
    memcpy(r->reply.cookie, cookie, sizeof(cookie));
    return 0;
}

static int redeem(struct request *r, const struct oidc_login *login, struct err *err)
{
    struct err why = ERR_INIT;
    json_t *claims = NULL;
    int rc;

    if (enter(r, err) < 0)
        return -1;
    rc = oidc_redeem(r->services->oidc, request_query(r, "code"), login->nonce, login->verifier, &claims, &why);
    login_gate_leave(r->services->outbound);
    if (rc < 0)
        return refused(r, &why, err);
    rc = admit(r, claims, login->return_to, err);
    json_decref(claims);
    return rc;
}

static int provider_said_no(struct request *r, struct err *err)
{
    char text[160];

    (void)snprintf(text, sizeof(text), "the OpenID provider did not let you in: %.40s %.80s", request_query(r, "error"),
        request_query(r, "error_description") ? request_query(r, "error_description") : "");
    return fail(r, err, ERR_UNAUTHENTICATED, text, "Sign in again, or ask who runs the provider.");
}

int serve_oidc_callback(struct request *r, struct err *err)
{
    const char *iss = request_query(r, "iss");
    struct oidc_login login;
    int found;

    (void)snprintf(r->principal.name, sizeof(r->principal.name), "user:?");
    if (need_provider(r, err) < 0)
        return -1;
    found = r->headers.oidc ? oidc_login_take(r->conn, request_query(r, "state"), r->headers.oidc, &login, err) : 0;
    if (found < 0)
        return -1;
    if (found == 0)
        return fail(r, err, ERR_UNAUTHENTICATED,
            "this sign-in was not begun in this browser, is over, or took too long",
            "Begin again at the sign-in page.");
    if (iss && strcmp(iss, r->services->conf->oidc->issuer) != 0)
        return fail(r, err, ERR_UNAUTHENTICATED, "the answer is of another OpenID provider", "Begin again.");
    if (request_query(r, "error"))
        return provider_said_no(r, err);
    if (!request_query(r, "code"))
        return request_fault(r, err, "code", "missing", "the OpenID provider sent no code");
    return redeem(r, &login, err);
}
