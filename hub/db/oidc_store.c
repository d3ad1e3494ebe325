/* SPDX-License-Identifier: Apache-2.0
 *
 * One statement each.
 */
#include "hub/db/oidc_store.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define UNDER_WAY_MAX 10000 /* some 3 MiB; whoever begins so many is not signing in */
#define LIFE "interval '10 minutes'"

static void sha256(const char *text, uint8_t out[crypto_hash_sha256_BYTES])
{
    crypto_hash_sha256(out, (const unsigned char *)text, strlen(text));
}

int oidc_login_begin(
    struct db_conn *conn, const char *state, const char *browser, const struct oidc_login *login, struct err *err)
{
    uint8_t state_hash[crypto_hash_sha256_BYTES], browser_hash[crypto_hash_sha256_BYTES];
    int n;

    sha256(state, state_hash);
    sha256(browser, browser_hash);
    if (db_exec(conn, NULL, err, "DELETE FROM oidc_logins WHERE created_at < now() - " LIFE) < 0)
        return -1;
    n = db_exec(conn, NULL, err,
        "INSERT INTO oidc_logins (state_hash, browser_hash, nonce, verifier, return_to) SELECT $1, $2, $3, $4, $5"
        " WHERE (SELECT count(*) FROM oidc_logins) < $6::bigint",
        DB_X(state_hash, sizeof(state_hash)), DB_X(browser_hash, sizeof(browser_hash)), DB_S(login->nonce),
        DB_S(login->verifier), DB_S(login->return_to), DB_U(UNDER_WAY_MAX));
    if (n != 0)
        return n < 0 ? -1 : 0;
    (void)err_set(err, ERR_UNAVAILABLE, "too many people are signing in with the OpenID provider");
    return err_hint(err, "Try again in ten minutes.");
}

int oidc_login_take(
    struct db_conn *conn, const char *state, const char *browser, struct oidc_login *ret_login, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    uint8_t state_hash[crypto_hash_sha256_BYTES], browser_hash[crypto_hash_sha256_BYTES];
    int n;

    sha256(state, state_hash);
    sha256(browser, browser_hash);
    n = db_exec(conn, &r, err,
        "DELETE FROM oidc_logins WHERE state_hash = $1 AND browser_hash = $2 AND created_at > now() - " LIFE
        " RETURNING nonce, verifier, return_to",
        DB_X(state_hash, sizeof(state_hash)), DB_X(browser_hash, sizeof(browser_hash)));
    if (n <= 0)
        return n;
    (void)snprintf(ret_login->nonce, sizeof(ret_login->nonce), "%s", db_text(r, 0, 0));
    (void)snprintf(ret_login->verifier, sizeof(ret_login->verifier), "%s", db_text(r, 0, 1));
    (void)snprintf(ret_login->return_to, sizeof(ret_login->return_to), "%s", db_text(r, 0, 2));
    return 1;
}
