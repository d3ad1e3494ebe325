/* SPDX-License-Identifier: Apache-2.0
 *
 * Sign-ins that are at the OpenID provider. Each comes back once, within ten minutes, in the browser that began it, at any
 * hub on the database.
 */
#ifndef HUB_DB_OIDC_STORE_H
#define HUB_DB_OIDC_STORE_H

#include "hub/db/db.h"

#define OIDC_NONCE_SIZE 48
#define OIDC_RETURN_SIZE 256

struct oidc_login {
    char nonce[OIDC_NONCE_SIZE], verifier[OIDC_NONCE_SIZE];
    char return_to[OIDC_RETURN_SIZE]; /* a path of the console */
};
/* state and browser: texts whose hashes are stored. ERR_UNAVAILABLE while too many are under way. */
int oidc_login_begin(
    struct db_conn *conn, const char *state, const char *browser, const struct oidc_login *login, struct err *err);
/* 1: it was under way and is no more; 0: unknown, too old, or begun in another browser. */
int oidc_login_take(
    struct db_conn *conn, const char *state, const char *browser, struct oidc_login *ret_login, struct err *err);

#endif
