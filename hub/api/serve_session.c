/* SPDX-License-Identifier: Apache-2.0
 *
 * Signing in and out with a password, and the sessions that are open. A wrong name, a wrong password and a user who may not
 * sign in get the same answer after the same work. What failed is counted and written down although the request as a whole
 * fails, so this handler commits by itself.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hub/api/api_metrics.h"
#include "hub/api/http_route.h"
#include "hub/api/login_gate.h"
#include "hub/api/row_json.h"
#include "hub/db/config_store.h"
#include "hub/db/db.h"
#include "hub/db/session_store.h"
#include "hub/db/user_store.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"

#define SESSION_IDLE_SEC (2 * 3600u)
#define SESSION_MAX_SEC (24 * 3600u)

#define S(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct session_row, member)                                                    \
    }
static const struct row_json_member session_members[] = {
    S("id", ROW_TEXT, id),
    S("user_id", ROW_TEXT, user_id),
    S("user_name", ROW_TEXT, user_name),
    S("method", ROW_TEXT, method),
    S("address", ROW_TEXT, address),
    S("user_agent", ROW_TEXT, user_agent),
    S("last_seen_at", ROW_TIME, last_seen_at),
    S("expires_at", ROW_TIME, ends_at),
    S("revoked_at", ROW_TIME, revoked_at),
    S("created_at", ROW_TIME, created_at),
};
#undef S

/* ---- what a session is told about itself ---- */

static json_t *own_session_json(const struct session_row *row, const char *text, struct err *err)
{
    struct principal p = {0};
    char csrf[SESSION_CSRF_SIZE];
    json_t *json = NULL;

    session_csrf(text, csrf);
    if (principal_from_session(row, &p, err) == 0)
        json = json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:b}, s:O, s:s, s:s, s:o, s:o}", "id", row->id, "user", "id",
            row->user_id, "name", row->user_name, "display_name", row->user_display_name, "role", row->role,
            "must_change_password", row->must_change_password, "scopes", p.scopes, "method", row->method, "csrf_token",
            csrf, "expires_at", row_json_time(row->ends_at), "ends_at", row_json_time(row->expires_at));
    principal_done(&p);
    return json;
}

static void set_cookie(struct request *r, const char *text, uint64_t max_usec)
{
    (void)snprintf(r->reply.cookie, sizeof(r->reply.cookie),
        "%s=%s; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=%llu", REQUEST_COOKIE, text,
        (unsigned long long)(max_usec / USEC_PER_SEC));
}

static uint64_t setting_usec(struct request *r, const char *key, unsigned fallback_sec)
{
    AUTO_FREE char *text = NULL;
    struct err ignored = ERR_INIT;
    unsigned long seconds = setting_get(r->conn, key, &text, &ignored) == 1 ? strtoul(text, NULL, 10) : 0;

    return (seconds ? seconds : fallback_sec) * USEC_PER_SEC;
}

int session_begin(struct request *r, const char *user_id, const char *method, json_t **ret_json, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    char id[IDENT_TEXT_SIZE], text[SESSION_TEXT_SIZE];
    const struct session_spec spec = {.user_id = user_id,
        .method = method,
        .address = r->peer,
        .user_agent = r->headers.user_agent,
        .idle_usec = setting_usec(r, "session_idle_seconds", SESSION_IDLE_SEC),
        .max_usec = setting_usec(r, "session_max_seconds", SESSION_MAX_SEC)};

    if (session_create(r->conn, &spec, id, text, err) < 0 || db_need(r->conn, &db_sessions, id, &set, err) < 0)
        return -1;
    *ret_json = own_session_json(db_at(&set, struct session_row, 0), text, err);
    set_cookie(r, text, spec.max_usec);
    return *ret_json ? 0 : err_set(err, ERR_NOMEM, "no memory for a session");
}

/* ---- signing in ---- */

static int braked(struct request *r, const char *name, unsigned seconds)
{
    log_event(LOG_WARN, "login_throttled", LOG_S("user", name), LOG_S("peer", r->peer), LOG_U("wait_seconds", seconds),
        LOG_S("request_id", r->id));
    reply_problem_status(r, 429, "login_throttled", "too many failed attempts to sign in",
        "Wait as long as the header Retry-After says, then try again with the right password.");
    r->reply.retry_after_sec = seconds;
    return 0;
}

static int busy(struct request *r)
{
    reply_problem_status(r, 429, "login_busy", "many people sign in at this moment", "Try again in a second.");
    return 0;
}

static int failed(struct request *r, const char *name, struct err *err)
{
    api_metrics_count_refused(r->services->metrics);
    log_event(LOG_WARN, "login_failed", LOG_S("user", name), LOG_S("peer", r->peer), LOG_S("request_id", r->id));
    if (login_brake_failed(r->conn, name, r->peer, err) < 0 || http_route_audit(r, "denied", err) < 0)
        return -1;
    reply_problem_status(r, 401, "login_failed", "the name or the password is wrong, or the user may not sign in",
        "Check both; an administrator can give you a new password.");
    return 0;
}

/* 1 right, 0 wrong, -1; *ret_busy: no place to compute. */
static int check_password(
    struct request *r, const char *name, char id[IDENT_TEXT_SIZE], bool *ret_busy, struct err *err)
{
    char hash[USER_HASH_SIZE];
    const char *password = request_str(r, "password");
    int found = user_find_password(r->conn, name, id, hash, err);
    bool fits;

    *ret_busy = found >= 0 && !login_gate_enter(r->services->logins);
    if (found < 0 || *ret_busy)
        return -1;
    fits = user_password_fits(hash, password);
    login_gate_leave(r->services->logins);
    return found && fits;
}

static int signed_in(struct request *r, const char *name, const char *user_id, struct err *err)
{
    json_t *json;

    if (db_begin(r->conn, err) < 0 || login_brake_passed(r->conn, name, r->peer, err) < 0 ||
        session_begin(r, user_id, "password", &json, err) < 0)
        return -1;
    if (http_route_audit(r, "done", err) < 0 || db_commit(r->conn, err) < 0) {
        json_decref(json);
        return -1;
    }
    return session_answer(r, json, err);
}

int session_answer(struct request *r, json_t *json, struct err *err)
{
    char cookie[sizeof(r->reply.cookie)];

    memcpy(cookie, r->reply.cookie, sizeof(cookie));
    if (reply_created(r, json, "/api/v1/session", err) < 0)
        return -1;
    memcpy(r->reply.cookie, cookie, sizeof(cookie));
    return 0;
}

int serve_session_create(struct request *r, struct err *err)
{
    const char *name = request_str(r, "username");
    char id[IDENT_TEXT_SIZE];
    unsigned wait;
    bool no_place;
    int right;

    (void)snprintf(r->principal.name, sizeof(r->principal.name), "user:%s", name);
    if (login_brake_look(r->conn, name, r->peer, &wait, err) < 0)
        return -1;
    if (wait)
        return braked(r, name, wait);
    right = check_password(r, name, id, &no_place, err);
    if (right < 0)
        return no_place ? busy(r) : -1;
    return right ? signed_in(r, name, id, err) : failed(r, name, err);
}

/* ---- the own session ---- */

int serve_session_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_sessions, r->principal.session_id, &set, err) < 0)
        return -1;
    return reply_json(r, 200, own_session_json(db_at(&set, struct session_row, 0), r->headers.session, err), err);
}

int serve_session_end(struct request *r, struct err *err)
{
    if (session_revoke(r->conn, r->principal.session_id, err) < 0)
        return -1;
    (void)reply_empty(r);
    set_cookie(r, "", 0);
    return 0;
}

static void forget_first_password(struct request *r)
{
    const char *path = r->services->conf->first_password_path;
    struct err ignored = ERR_INIT;
    bool stands;

    if (path && user_first_password_stands(r->conn, &stands, &ignored) == 0 && !stands && unlink(path) == 0)
        log_event(LOG_INFO, "first_password_removed", LOG_S("path", path));
}

static int refuse_wrong_current(struct request *r, struct err *err)
{
    const char *name = r->principal.name + strlen("user:");

    if (login_brake_failed(r->conn, name, r->peer, err) < 0 || http_route_audit(r, "denied", err) < 0)
        return -1;
    reply_problem_status(
        r, 403, "wrong_password", "the current password is wrong", "Type the password that you signed in with.");
    return 0;
}

static int store_password(struct request *r, const char *password, struct err *err)
{
    char hash[USER_HASH_SIZE];
    int rc;

    if (!login_gate_enter(r->services->logins))
        return busy(r);
    rc = user_password_hash(password, hash, err);
    login_gate_leave(r->services->logins);
    if (rc < 0 || db_begin(r->conn, err) < 0 ||
        user_password_set(r->conn, r->principal.user_id, hash, r->principal.session_id, err) < 0 ||
        http_route_audit(r, "done", err) < 0 || db_commit(r->conn, err) < 0)
        return -1;
    forget_first_password(r);
    return reply_empty(r);
}

int serve_session_password(struct request *r, struct err *err)
{
    const char *name = r->principal.name + strlen("user:");
    const char *wanted = request_str(r, "new_password");
    const char *fault = user_password_fault(name, wanted);
    char id[IDENT_TEXT_SIZE], hash[USER_HASH_SIZE];
    unsigned wait;
    bool fits;

    if (fault)
        return request_fault(r, err, "/new_password", "weak", "%s", fault);
    if (strcmp(wanted, request_str(r, "current_password")) == 0)
        return request_fault(r, err, "/new_password", "unchanged", "must differ from the current one");
    if (login_brake_look(r->conn, name, r->peer, &wait, err) < 0)
        return -1;
    if (wait)
        return braked(r, name, wait);
    if (user_find_password(r->conn, name, id, hash, err) < 0)
        return -1;
    if (!login_gate_enter(r->services->logins))
        return busy(r);
    fits = user_password_fits(hash, request_str(r, "current_password"));
    login_gate_leave(r->services->logins);
    return fits ? store_password(r, wanted, err) : refuse_wrong_current(r, err);
}

/* ---- all sessions ---- */

static bool sees_all(const struct request *r)
{
    return principal_may(&r->principal, "users:write");
}

static json_t *session_json(const struct request *r, const void *row)
{
    const struct session_row *session = row;
    json_t *json = row_json(row, session_members, ARRAY_LEN(session_members));

    if (json)
        json_object_set_new(json, "current", json_boolean(strcmp(session->id, r->principal.session_id) == 0));
    return json;
}

static const struct row_filter session_filters[] = {
    {"user_id", "user_id", DB_EQ},
    {"user_name", "user_name", DB_EQ},
    {"address", "address", DB_EQ},
};

/* An administrator sees everybody's, others their own. */
int serve_session_list(struct request *r, struct err *err)
{
    struct row_list list = {.entity = &db_sessions,
        .filters = session_filters,
        .filter_count = ARRAY_LEN(session_filters),
        .item = session_json};

    if (!sees_all(r))
        list.fixed = (struct db_filter){"user_id", DB_EQ, r->principal.user_id};
    return row_list_serve(r, &list, err);
}

int serve_session_revoke(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_sessions, r->params[0], &set, err) < 0)
        return -1;
    if (!sees_all(r) && strcmp(db_at(&set, struct session_row, 0)->user_id, r->principal.user_id) != 0) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no session %s of yours", r->params[0]);
        return err_hint(err, "List your sessions; only an administrator ends those of others.");
    }
    return session_revoke(r->conn, r->params[0], err) < 0 ? -1 : reply_empty(r);
}
