/* SPDX-License-Identifier: Apache-2.0
 *
 * Users. Whatever could leave nobody in charge takes an advisory lock first and counts afterwards, so that two
 * administrators who remove each other at once cannot both succeed.
 */
#include "hub/db/user_store.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "hub/core/plain_text.h"
#include "transport/base/mem.h"

#define USERS_LOCK "5333320"
#define NAME_TRIES 100

/* ---- passwords ---- */

const char *user_password_fault(const char *name, const char *password)
{
    size_t n = strlen(password);

    if (n < USER_PASSWORD_MIN)
        return "must have at least 12 characters";
    if (n > USER_PASSWORD_MAX)
        return "must have at most 256 bytes";
    if (strspn(password, (const char[]){password[0], 0}) == n)
        return "must not be one character repeated";
    if (*name && strncasecmp(password, name, strlen(name)) == 0 && n < strlen(name) + 8)
        return "must not be made of the user's name";
    return NULL;
}

void user_password_draw(char ret_password[USER_PASSWORD_TEXT_SIZE])
{
    static const char alphabet[] = "abcdefghijkmnpqrstuvwxyz23456789"; /* 32: no l, o, 0, 1 */
    unsigned char random[USER_PASSWORD_TEXT_SIZE - 1];

    randombytes_buf(random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        ret_password[i] = i % 5 == 4 ? '-' : alphabet[random[i] & 31];
    ret_password[sizeof(random)] = '\0';
    sodium_memzero(random, sizeof(random));
}

int user_password_hash(const char *password, char ret_hash[USER_HASH_SIZE], struct err *err)
{
    _Static_assert(USER_HASH_SIZE >= crypto_pwhash_STRBYTES, "room for a hash");
    if (crypto_pwhash_str(ret_hash, password, strlen(password), crypto_pwhash_OPSLIMIT_INTERACTIVE,
            crypto_pwhash_MEMLIMIT_INTERACTIVE) == 0)
        return 0;
    return err_set(err, ERR_NOMEM, "no memory to hash a password");
}

bool user_password_fits(const char *hash, const char *password)
{
    unsigned char out[32];
    static const unsigned char salt[crypto_pwhash_SALTBYTES];

    if (*hash)
        return crypto_pwhash_str_verify(hash, password, strlen(password)) == 0;
    if (crypto_pwhash(out, sizeof(out), password, strlen(password), salt, crypto_pwhash_OPSLIMIT_INTERACTIVE,
            crypto_pwhash_MEMLIMIT_INTERACTIVE, crypto_pwhash_ALG_ARGON2ID13) == 0)
        sodium_memzero(out, sizeof(out));
    return false;
}

/* ---- what must stay ---- */

static int lock(struct db_conn *conn, struct err *err)
{
    return db_exec(conn, NULL, err, "SELECT pg_advisory_xact_lock(" USERS_LOCK ")") < 0 ? -1 : 0;
}

static int keep_an_administrator(struct db_conn *conn, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "SELECT 1 FROM users WHERE role = 'admin' AND NOT disabled AND (password_hash <> '' OR oidc_subject <> '')"
        " LIMIT 1");

    if (n != 0)
        return n < 0 ? -1 : 0;
    err_set(err, ERR_REFUSED, "nobody would be left who can administer this hub");
    return err_hint(err, "Make another user an administrator first.");
}

static int nothing_changed(struct db_conn *conn, const char *id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, &db_users, id, &set, err) < 0)
        return -1;
    err_set(err, ERR_CONFLICT, "user %s was changed by somebody else", db_at(&set, struct user_row, 0)->name);
    return err_hint(err, "Read it again, look at what changed, and repeat the change with its new version.");
}

/* ---- changes ---- */

int user_create(struct db_conn *conn, const struct user_spec *spec, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "INSERT INTO users (name, display_name, role, password_hash, must_change_password, has_first_password,"
        " oidc_issuer, oidc_subject, password_changed_at) VALUES ($1, coalesce($2, ''), $3, coalesce($4, ''), $5, $6,"
        " coalesce($7, ''), coalesce($8, ''), CASE WHEN coalesce($4, '') <> '' THEN now() END) RETURNING id",
        DB_S(spec->name), DB_S(spec->display_name), DB_S(spec->role), DB_S(spec->hash), DB_B(spec->must_change),
        DB_B(spec->is_first), DB_S(spec->oidc_issuer), DB_S(spec->oidc_subject));

    if (n < 0 && err && err->code == ERR_EXISTS) {
        err_set(err, ERR_EXISTS, "a user named %s exists", spec->name);
        return err_hint(err, "Choose another name, or change the user who is there.");
    }
    if (n < 0)
        return -1;
    (void)snprintf(ret_id, IDENT_TEXT_SIZE, "%s", db_text(r, 0, 0));
    return 0;
}

static int end_sessions(struct db_conn *conn, const char *id, const char *keep_session_id, struct err *err)
{
    return db_exec(conn, NULL, err,
               "UPDATE sessions SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL"
               " AND ($2::uuid IS NULL OR id <> $2::uuid)",
               DB_S(id), DB_ID(keep_session_id)) < 0
               ? -1
               : 0;
}

static const char *bool_text(const bool *b)
{
    return !b ? NULL : *b ? "true" : "false";
}

int user_update(struct db_conn *conn, const char *id, const struct user_change *c, uint64_t if_version, struct err *err)
{
    int n;

    if (lock(conn, err) < 0)
        return -1;
    n = db_exec(conn, NULL, err,
        "UPDATE users SET display_name = coalesce($2, display_name), role = coalesce($3, role),"
        " password_hash = coalesce($4, password_hash), disabled = coalesce($5::boolean, disabled),"
        " must_change_password = coalesce($6::boolean, must_change_password),"
        " has_first_password = has_first_password AND $4::text IS NULL,"
        " password_changed_at = CASE WHEN $4::text IS NULL THEN password_changed_at ELSE now() END,"
        " version = version + 1, updated_at = now() WHERE id = $1 AND ($7::bigint = 0 OR version = $7::bigint)",
        DB_S(id), DB_S(c->display_name), DB_S(c->role), DB_S(c->hash), DB_S(bool_text(c->disabled)),
        DB_S(bool_text(c->must_change)), DB_U(if_version));
    if (n <= 0)
        return n < 0 ? -1 : nothing_changed(conn, id, err);
    if ((c->hash || (c->disabled && *c->disabled)) && end_sessions(conn, id, NULL, err) < 0)
        return -1;
    return keep_an_administrator(conn, err);
}

int user_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    int n;

    if (lock(conn, err) < 0)
        return -1;
    n = db_exec(conn, NULL, err, "DELETE FROM users WHERE id = $1 AND ($2::bigint = 0 OR version = $2::bigint)",
        DB_S(id), DB_U(if_version));
    if (n <= 0)
        return n < 0 ? -1 : nothing_changed(conn, id, err);
    return keep_an_administrator(conn, err);
}

int user_find_password(struct db_conn *conn, const char *name, char ret_id[IDENT_TEXT_SIZE],
    char ret_hash[USER_HASH_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT id, password_hash FROM users WHERE name = $1 AND NOT disabled AND password_hash <> ''", DB_S(name));

    ret_id[0] = ret_hash[0] = '\0';
    if (n <= 0)
        return n;
    (void)snprintf(ret_id, IDENT_TEXT_SIZE, "%s", db_text(r, 0, 0));
    (void)snprintf(ret_hash, USER_HASH_SIZE, "%s", db_text(r, 0, 1));
    return 1;
}

int user_password_set(
    struct db_conn *conn, const char *id, const char *hash, const char *keep_session_id, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "UPDATE users SET password_hash = $2, must_change_password = false, has_first_password = false,"
            " password_changed_at = now(), version = version + 1, updated_at = now() WHERE id = $1",
            DB_S(id), DB_S(hash)) < 0)
        return -1;
    return end_sessions(conn, id, keep_session_id, err);
}

/* ---- OpenID ---- */

static int make_from_oidc(
    struct db_conn *conn, const struct user_spec *spec, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    struct user_spec own = *spec;
    char name[140];

    for (int i = 1; i <= NAME_TRIES; i++) {
        int taken;

        (void)snprintf(name, sizeof(name), i == 1 ? "%.120s" : "%.120s-%d", spec->name, i);
        plain_text_tidy(name);
        own.name = name;
        taken = db_exec(conn, NULL, err, "SELECT 1 FROM users WHERE name = $1", DB_S(name));
        if (taken < 0)
            return -1;
        if (!taken)
            return user_create(conn, &own, ret_id, err) < 0 ? -1 : 1;
    }
    return err_set(err, ERR_EXISTS, "too many users are named like %.120s", spec->name);
}

int user_from_oidc(struct db_conn *conn, const struct user_spec *spec, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n;

    if (lock(conn, err) < 0)
        return -1;
    n = db_exec(conn, &r, err,
        "UPDATE users SET role = coalesce($3, role), version = version + (role <> coalesce($3, role))::int,"
        " display_name = coalesce($4, display_name) WHERE oidc_issuer = $1 AND oidc_subject = $2"
        " RETURNING id, disabled",
        DB_S(spec->oidc_issuer), DB_S(spec->oidc_subject), DB_S(spec->role), DB_S(spec->display_name));
    if (n < 0)
        return -1;
    if (n == 0)
        return make_from_oidc(conn, spec, ret_id, err);
    (void)snprintf(ret_id, IDENT_TEXT_SIZE, "%s", db_text(r, 0, 0));
    return db_bool(r, 0, 1) ? 0 : 1;
}

/* ---- the first one ---- */

int user_ensure_first(struct db_conn *conn, const char *name, const char *hash, struct err *err)
{
    const struct user_spec spec = {
        .name = name, .display_name = "First administrator", .role = "admin", .hash = hash, .is_first = true};
    char id[IDENT_TEXT_SIZE];
    int n;

    if (lock(conn, err) < 0 || (n = db_exec(conn, NULL, err, "SELECT 1 FROM users LIMIT 1")) < 0)
        return -1;
    return n > 0 ? 0 : user_create(conn, &spec, id, err) < 0 ? -1 : 1;
}

int user_first_password_stands(struct db_conn *conn, bool *ret_stands, struct err *err)
{
    int n = db_exec(conn, NULL, err, "SELECT 1 FROM users WHERE has_first_password LIMIT 1");

    *ret_stands = n > 0;
    return n < 0 ? -1 : 0;
}
