/* SPDX-License-Identifier: Apache-2.0
 *
 * SQL of approvals. The unique index on what waits makes asking twice harmless; the row's lock makes deciding twice impossible.
 */
#include "hub/db/approval_store.h"

#include <string.h>

#include "transport/base/mem.h"

int approval_ask(struct db_conn *conn, const struct approval_spec *s, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct ident id;
    char text[IDENT_TEXT_SIZE];

    if (ident_random(&id) < 0)
        return err_set(err, ERR_INTERNAL, "the kernel gives no randomness");
    ident_to_text(&id, text);
    /* One that is too old gives its place to a new one. */
    if (db_exec(conn, NULL, err,
            "UPDATE approvals SET state = 'withdrawn', decided_at = now(), note = 'too old' WHERE requested_by = $1"
            " AND fingerprint = $2 AND state = 'pending' AND expires_at <= now()",
            DB_S(s->requested_by), DB_S(s->fingerprint)) < 0)
        return -1;
    if (db_exec(conn, &r, err,
            "INSERT INTO approvals (id, kind, summary, machine_id, method, path, query, body, if_version, fingerprint,"
            " requested_by, requester_user_id, requester_token_id, by_person) VALUES ($1, $2, $3, $4, $5, $6, "
            "$7::jsonb,"
            " $8::jsonb, $9, $10, $11, $12, $13, $14) ON CONFLICT (requested_by, fingerprint) WHERE state = 'pending'"
            " DO UPDATE SET summary = excluded.summary RETURNING id",
            DB_S(text), DB_S(s->kind), DB_S(s->summary), DB_ID(s->machine_id), DB_S(s->method), DB_S(s->path),
            DB_S(s->query_json), DB_S(s->body_json), DB_U(s->if_version), DB_S(s->fingerprint), DB_S(s->requested_by),
            DB_ID(s->user_id), DB_ID(s->token_id), DB_B(s->user_id[0] != 0)) < 0)
        return -1;
    memcpy(ret_id, db_text(r, 0, 0), IDENT_TEXT_SIZE);
    return strcmp(ret_id, text) == 0;
}

int approval_hold(struct db_conn *conn, const char *id, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, &db_approvals, id, &set, err) < 0 ||
        db_exec(conn, &r, err, "SELECT state, expires_at > now() FROM approvals WHERE id = $1 FOR UPDATE", DB_S(id)) <
            0)
        return -1;
    if (strcmp(db_text(r, 0, 0), "pending") != 0) {
        (void)err_set(err, ERR_REFUSED, "it is %s already", db_text(r, 0, 0));
        return err_hint(err, "Look at it: leeward approval show %s", id);
    }
    if (db_bool(r, 0, 1))
        return 0;
    (void)err_set(err, ERR_REFUSED, "it has waited for longer than a day");
    return err_hint(err, "Ask for it anew.");
}

int approval_may_decide(struct db_conn *conn, const char *id, const char *user_id, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (!user_id[0]) {
        (void)err_set(err, ERR_DENIED, "only a person may approve: this token belongs to nobody");
        (void)err_hint(err, "Sign in, or use a token that a user made.");
        return 0;
    }
    if (db_exec(conn, &r, err,
            "SELECT a.requester_user_id = u.id, u.created_at >= a.created_at FROM approvals a, users u"
            " WHERE a.id = $1 AND u.id = $2",
            DB_S(id), DB_S(user_id)) < 0)
        return -1;
    if (PQntuples(r) == 0) {
        (void)err_set(err, ERR_DENIED, "this user is gone");
        return 0;
    }
    if (db_bool(r, 0, 0)) {
        (void)err_set(err, ERR_DENIED, "nobody approves what they asked for themselves");
        (void)err_hint(err, "Ask another person to look at it.");
        return 0;
    }
    if (db_bool(r, 0, 1)) {
        (void)err_set(err, ERR_DENIED, "this user is younger than what is to be approved");
        (void)err_hint(err, "Ask somebody whose account was there before.");
        return 0;
    }
    return 1;
}

static const char *role_of(const char *text)
{
    static const char *const roles[] = {"viewer", "operator", "admin"};

    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (strcmp(roles[i], text) == 0)
            return roles[i];
    return NULL;
}

int approval_asker_role(
    struct db_conn *conn, const char *id, const char **ret_role, char **ret_scopes_json, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err,
            "SELECT CASE WHEN a.by_person THEN CASE WHEN NOT u.disabled THEN u.role END ELSE t.role END,"
            " coalesce(t.scopes::text, '[]'), a.requested_by LIKE 'token:%' AND (t.id IS NULL OR t.revoked_at IS NOT "
            "NULL"
            " OR t.expires_at <= now()) FROM approvals a LEFT JOIN users u ON u.id = a.requester_user_id"
            " LEFT JOIN api_tokens t ON t.id = a.requester_token_id WHERE a.id = $1",
            DB_S(id)) < 0)
        return -1;
    *ret_role = PQntuples(r) == 0 || db_bool(r, 0, 2) ? NULL : role_of(db_text(r, 0, 0));
    *ret_scopes_json = mem_strdup(PQntuples(r) ? db_text(r, 0, 1) : "[]");
    return *ret_scopes_json ? 0 : err_set(err, ERR_NOMEM, "no memory for scopes");
}

int approval_decide(struct db_conn *conn, const char *id, const char *state, const char *by, const char *note,
    const char *job_id, struct err *err)
{
    return db_exec(conn, NULL, err,
               "UPDATE approvals SET state = $2, decided_by = $3, decided_at = now(), note = $4, job_id = $5,"
               " version = version + 1 WHERE id = $1",
               DB_S(id), DB_S(state), DB_S(by), DB_S(note), DB_ID(job_id)) < 0
               ? -1
               : 0;
}
