/* SPDX-License-Identifier: Apache-2.0
 *
 * The way of a request. Whatever changes something runs in one transaction with its audit record and the answer kept for
 * its Idempotency-Key: either all of it happened, or nothing. A failed step answers with a problem and rolls back.
 * A client that waits for a job (?wait=) holds no connection of the pool in between.
 */
#include "hub/api/http_route.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "hub/api/api_metrics.h"
#include "hub/api/http_input.h"
#include "hub/api/openapi.h"
#include "hub/api/serve.h"
#include "hub/db/db.h"
#include "hub/db/journal.h"
#include "hub/db/session_store.h"
#include "hub/db/token_store.h"
#include "hub/jobs/job.h"
#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/hash.h"
#include "transport/base/log.h"

/* Of a change whose transaction PostgreSQL gives up for another one's sake: once is rare, and who comes again comes later than the other one. */
#define CHANGE_TRIES 4u

static bool changes_something(const struct request *r)
{
    return strcmp(r->route->method, "GET") != 0;
}

/* ---- who ---- */

static int unauthenticated(struct request *r, struct err *err, const char *text)
{
    api_metrics_count_refused(r->services->metrics);
    (void)rate_limit_take(r->services->failures, r->peer, 1, clock_mono_usec());
    log_event(LOG_WARN, "api_unauthenticated", LOG_S("peer", r->peer), LOG_S("operation", r->route->operation),
        LOG_S("request_id", r->id));
    (void)err_set(err, ERR_UNAUTHENTICATED, "%s", text);
    if (strcmp(r->route->scope, OPENAPI_SCOPE_SESSION) == 0 || r->headers.session)
        return err_hint(err, "Sign in: POST /api/v1/session.");
    return err_hint(err, "Send `Authorization: Bearer lwt_...` with a token that is neither revoked nor expired; "
                         "`leeward token create` makes one.");
}

int http_route_audit(struct request *r, const char *outcome, struct err *err)
{
    const struct audit_spec spec = {
        .actor = r->principal.name,
        .action = r->route->operation,
        .object_kind = r->operation->path,
        .object_id = r->job_id[0] && !r->params[0][0] ? r->job_id : r->params[0],
        .outcome = outcome,
        .detail_json = r->audit_detail,
        .address = r->peer,
        .request_id = r->id,
    };

    return audit_append(r->conn, &spec, err);
}

static void note_denied(struct request *r, const char *event)
{
    struct err ignored = ERR_INIT;

    log_event(LOG_WARN, event, LOG_S("actor", r->principal.name), LOG_S("operation", r->route->operation),
        LOG_S("peer", r->peer), LOG_S("request_id", r->id));
    (void)http_route_audit(r, "denied", &ignored);
}

static int denied(struct request *r, struct err *err)
{
    const char *name = strchr(r->principal.name, ':') + 1;

    note_denied(r, "api_denied");
    if (r->principal.session_id[0]) {
        (void)err_set(err, ERR_DENIED, "the role of \"%s\" does not have the scope %s", name, r->route->scope);
        return err_hint(err, "Ask an administrator for a role that has it.");
    }
    (void)err_set(err, ERR_DENIED, "the token \"%s\" does not have the scope %s", name, r->route->scope);
    return err_hint(err, "Use a token with that scope, or a role that has it.");
}

/* A page of somebody else can make a browser send the cookie, but neither read the token that belongs to it nor set a
 * header. */
static int check_csrf(struct request *r)
{
    char csrf[SESSION_CSRF_SIZE];

    if (!changes_something(r))
        return 0;
    session_csrf(r->headers.session, csrf);
    if (r->headers.csrf && strlen(r->headers.csrf) == strlen(csrf) &&
        sodium_memcmp(r->headers.csrf, csrf, strlen(csrf)) == 0)
        return 0;
    note_denied(r, "api_csrf_refused");
    reply_problem_status(r, 403, "csrf", "a change with a session needs its CSRF token",
        "Send `csrf_token` of GET /api/v1/session as the header X-CSRF-Token.");
    return 1;
}

/* Whoever was given a password by somebody else chooses their own before anything else. */
static int check_must_change(struct request *r)
{
    if (!r->principal.must_change_password || strcmp(r->route->scope, OPENAPI_SCOPE_SESSION) == 0)
        return 0;
    reply_problem_status(r, 403, "password_change_required", "this password was given by somebody else",
        "Choose your own first: POST /api/v1/session/password.");
    return 1;
}

/* What can be said without the database: a stranger's requests must not take its connections. */
static int check_credential_form(struct request *r, struct err *err)
{
    const char *token = api_auth_bearer(r->headers.authorization);

    if (!r->headers.authorization && r->headers.session)
        return session_text_is_well_formed(r->headers.session)
                   ? 0
                   : unauthenticated(r, err, "the session's cookie is not one of this product");
    if (strcmp(r->route->scope, OPENAPI_SCOPE_SESSION) == 0)
        return unauthenticated(r, err, "nobody is signed in");
    if (!token)
        return unauthenticated(r, err, "the request carries no token");
    if (!api_token_is_well_formed(token))
        return unauthenticated(r, err, "the token is not one of this product, or was cut or mistyped");
    return 0;
}

static int authenticate_session(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int found = session_check(r->conn, r->headers.session, &set, err);
    int rc;

    if (found < 0)
        return -1;
    if (found == 0)
        return unauthenticated(r, err, "the session is over");
    if (principal_from_session(db_at(&set, struct session_row, 0), &r->principal, err) < 0)
        return -1;
    if ((rc = check_csrf(r)) != 0 || (rc = check_must_change(r)) != 0)
        return rc;
    return strcmp(r->route->scope, OPENAPI_SCOPE_SESSION) == 0 || principal_may(&r->principal, r->route->scope)
               ? 0
               : denied(r, err);
}

static int authenticate_token(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    int found = api_token_check(r->conn, api_auth_bearer(r->headers.authorization), &set, err);

    if (found < 0)
        return -1;
    if (found == 0)
        return unauthenticated(r, err, "the token is not known, revoked or expired");
    if (principal_from_token(db_at(&set, struct api_token_row, 0), &r->principal, err) < 0)
        return -1;
    return principal_may(&r->principal, r->route->scope) ? 0 : denied(r, err);
}

/* 0: go on; 1: the reply is a problem already; -1. */
static int authenticate(struct request *r, struct err *err)
{
    return r->headers.authorization ? authenticate_token(r, err) : authenticate_session(r, err);
}

/* ---- how much ---- */

static int flooded(struct request *r, const struct rate_state *state, const char *what)
{
    static atomic_ullong last_sec;
    unsigned long long now = clock_mono_usec() / USEC_PER_SEC;

    if (atomic_exchange(&last_sec, now) != now)
        log_event(LOG_WARN, "api_rate_limited", LOG_S("actor", r->principal.name), LOG_S("peer", r->peer),
            LOG_S("what", what), LOG_S("request_id", r->id));
    reply_problem_status(
        r, 429, "rate_limited", what, "Wait as long as the header Retry-After says; ask for more at once.");
    r->reply.retry_after_sec = state->wait_sec;
    return 1;
}

/* Before anything that costs: an address that only guesses is not listened to. */
static int check_failures(struct request *r)
{
    struct rate_state state = rate_limit_take(r->services->failures, r->peer, 0, clock_mono_usec());

    return state.allowed ? 0 : flooded(r, &state, "too many requests with wrong credentials come from this address");
}

/* By token, session, or, where nobody is named, address. */
static int check_rate(struct request *r)
{
    const struct principal *p = &r->principal;

    r->rate = rate_limit_take(r->services->rates,
        p->token_id[0]     ? p->token_id
        : p->session_id[0] ? p->session_id
                           : r->peer,
        1, clock_mono_usec());
    return r->rate.allowed ? 0 : flooded(r, &r->rate, "too many requests");
}

/* ---- Idempotency-Key ---- */

_Static_assert(REQUEST_FINGERPRINT_SIZE == 2 * HASH_SIZE + 1, "a hash in hex");

/* Keyed, where there is a key: bodies hold secrets, and nobody who reads the database is to guess them by this. */
int http_route_fingerprint(const struct request *r, char out[REQUEST_FINGERPRINT_SIZE], struct err *err)
{
    AUTO_FREE char *body = json_dumps(r->body, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    AUTO_FREE char *query = json_dumps(r->query, JSON_COMPACT | JSON_SORT_KEYS);
    AUTO_FREE char *whole = mem_printf("%s %s %s %s", r->method, r->path, query ? query : "", body ? body : "");
    const uint8_t *key = db_secret_key(db_of(r->conn));
    uint8_t hash[HASH_SIZE];

    if (!whole)
        return err_set(err, ERR_NOMEM, "no memory for the fingerprint of a request");
    (void)crypto_generichash(
        hash, sizeof(hash), (const uint8_t *)whole, strlen(whole), key, key ? DB_SECRET_KEY_SIZE : 0);
    bytes_to_hex(hash, HASH_SIZE, out);
    return 0;
}

/* 1: the answer was kept and is the reply now; 0: do the work; -1. */
static int kept_answer(struct request *r, struct err *err)
{
    char print[REQUEST_FINGERPRINT_SIZE];
    AUTO_FREE char *body = NULL;
    AUTO_FREE char *location = NULL;
    unsigned status = 0;
    int fresh;

    if (http_route_fingerprint(r, print, err) < 0)
        return -1;
    fresh = idempotency_begin(
        r->conn, r->principal.name, r->headers.idempotency_key, print, &status, &body, &location, err);
    if (fresh != 0)
        return fresh < 0 ? -1 : 0;
    (void)reply_text(r, (int)status, "application/json", NULL, 0);
    r->reply.text_len = body ? strlen(body) : 0;
    r->reply.text = TAKE_PTR(body);
    (void)snprintf(r->reply.location, sizeof(r->reply.location), "%s", location ? location : "");
    return 1;
}

static int keep_answer(struct request *r, struct err *err)
{
    AUTO_FREE char *body = r->reply.json ? json_dumps(r->reply.json, REPLY_JSON_FLAGS) : mem_strdup("");

    if (!body)
        return err_set(err, ERR_NOMEM, "no memory for the answer");
    return idempotency_finish(r->conn, r->principal.name, r->headers.idempotency_key, (unsigned)r->reply.status, body,
        r->reply.location, err);
}

/* ---- the work ---- */

static int serve_change_once(struct request *r, struct err *err)
{
    bool dry_run = request_query_bool(r, "dry_run");
    bool keyed = r->headers.idempotency_key && r->operation->idempotency_key && !dry_run;
    int rc;

    if (r->route->flags & ROUTE_OWN_TRANSACTION)
        return r->route->serve(r, err);
    if (db_begin(r->conn, err) < 0)
        return -1;
    if (keyed && (rc = kept_answer(r, err)) != 0)
        return rc < 0 ? -1 : 0;
    if (r->route->serve(r, err) < 0)
        return -1;
    if (keyed && keep_answer(r, err) < 0)
        return -1;
    if (dry_run) { /* all was checked, up to the database's own constraints; nothing stays */
        db_rollback(r->conn);
        return 0;
    }
    if (http_route_audit(r, r->held_back ? "approval_required" : "done", err) < 0)
        return -1;
    return db_commit(r->conn, err);
}

/* Nothing of a transaction that was given up for another one's sake is there, so it may begin anew: agents' reports lock the machines of a request in an
 * order of their own. */
static int serve_change(struct request *r, struct err *err)
{
    int rc = serve_change_once(r, err);

    for (unsigned n = 1; rc < 0 && n < CHANGE_TRIES; n++) {
        if ((r->route->flags & ROUTE_OWN_TRANSACTION) || !db_was_sacrificed(r->conn))
            break;
        log_event(LOG_INFO, "api_change_again", LOG_S("operation", r->route->operation), LOG_S("request_id", r->id),
            LOG_E(err));
        db_rollback(r->conn);
        reply_clear(r);
        r->job_id[0] = '\0';
        r->held_back = false;
        err_clear(err);
        rc = serve_change_once(r, err);
    }
    return rc;
}

/* After input was checked; with r->conn unless the route needs none. */
static int serve(struct request *r, struct err *err)
{
    return changes_something(r) ? serve_change(r, err) : r->route->serve(r, err);
}

/* The codes of idempotency_begin have a status of their own. */
static void answer_error(struct request *r, const struct err *e)
{
    if (r->headers.idempotency_key && r->operation->idempotency_key && strstr(e->text, "Idempotency-Key")) {
        reply_problem_status(r, e->code == ERR_INVALID ? 422 : 409,
            e->code == ERR_INVALID ? "idempotency_key_reused" : "idempotency_key_in_flight", e->text, e->correction);
        return;
    }
    if (e->code == ERR_INTERNAL || e->code == ERR_CORRUPT || e->code == ERR_IO)
        log_event(
            LOG_ERROR, "api_failed", LOG_S("operation", r->route->operation), LOG_S("request_id", r->id), LOG_E(e));
    reply_problem(r, e);
}

static void check_documented(struct request *r)
{
    bool documented;

    (void)openapi_response_schema(r->services->doc, r->operation, r->reply.status, &documented);
    if (!documented)
        log_event(LOG_ERROR, "api_undocumented_status", LOG_S("operation", r->route->operation),
            LOG_I("status", r->reply.status),
            LOG_S("code", json_string_value(json_object_get(r->reply.json, "code")) ?: ""), LOG_S("request_id", r->id));
}

static int acquire(struct request *r, struct err *err)
{
    if (r->route->flags & (ROUTE_INLINE | ROUTE_NO_DATABASE))
        return 0;
    return db_acquire(r->services->conf->db, &r->conn, err);
}

static void release(struct request *r)
{
    db_release(r->conn);
    r->conn = NULL;
}

/* Authentication comes first: a stranger learns nothing about parameters. */
static int run(struct request *r, struct err *err)
{
    int rc = 0;

    if (!(r->route->flags & (ROUTE_INLINE | ROUTE_NO_DATABASE)) && check_failures(r))
        return 0;
    if ((r->route->scope && check_credential_form(r, err) < 0) || acquire(r, err) < 0)
        return -1;
    if (r->route->scope && (rc = authenticate(r, err)) != 0)
        return rc < 0 ? -1 : 0;
    if (!(r->route->flags & (ROUTE_INLINE | ROUTE_NO_DATABASE)) && check_rate(r))
        return 0;
    if (http_input_parameters(r) < 0 || http_input_body(r) < 0)
        return 0; /* the reply is a problem already */
    return serve(r, err);
}

static bool must_wait(struct request *r)
{
    int64_t seconds = request_query_int(r, "wait", 0);

    if (!r->job_id[0] || seconds <= 0 || r->reply.status >= 300 || r->wait_is_over)
        return false;
    if (r->wait_until_usec == 0)
        r->wait_until_usec = clock_mono_usec() + (uint64_t)seconds * USEC_PER_SEC;
    return clock_mono_usec() < r->wait_until_usec && !serve_job_reply_is_final(r);
}

bool http_route_run(struct request *r)
{
    struct err err = ERR_INIT;

    r->operation = openapi_find(r->services->doc, r->route->operation);
    if (run(r, &err) < 0)
        answer_error(r, &err);
    release(r);
    check_documented(r);
    return !must_wait(r);
}

bool http_route_look(struct request *r)
{
    struct err err = ERR_INIT;
    int status = r->reply.status;

    if (acquire(r, &err) == 0 && serve_job_look(r, status, &err) < 0)
        log_event(LOG_WARN, "api_wait_look_failed", LOG_S("job", r->job_id), LOG_E(&err));
    release(r);
    return !must_wait(r);
}
