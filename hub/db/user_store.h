/* SPDX-License-Identifier: Apache-2.0
 *
 * Users and their passwords (Argon2id by libsodium, 64 MiB and two passes each). Hashing is the caller's to bound: it takes
 * some 100 ms of one core. The last administrator who can sign in stays one: what would take that away is ERR_REFUSED.
 */
#ifndef HUB_DB_USER_STORE_H
#define HUB_DB_USER_STORE_H

#include "hub/db/rows.h"
#include "transport/base/ident.h"

#define USER_PASSWORD_MIN 12u
#define USER_PASSWORD_MAX 256u
#define USER_PASSWORD_TEXT_SIZE 25 /* of a drawn one, with the NUL: 24 characters, 120 random bits */
#define USER_HASH_SIZE 128

/* Why a password is not taken, for people; NULL when it is. */
const char *user_password_fault(const char *name, const char *password);
/* Letters and digits that cannot be mistaken for one another, in groups of four. */
void user_password_draw(char ret_password[USER_PASSWORD_TEXT_SIZE]);
/* ERR_NOMEM when 64 MiB are not to be had. */
int user_password_hash(const char *password, char ret_hash[USER_HASH_SIZE], struct err *err);
/* False too for the empty hash, after as much work as any other: who asks learns nothing from the time it takes. */
bool user_password_fits(const char *hash, const char *password);

struct user_spec {
    const char *name, *display_name, *role;
    const char *hash; /* NULL or "": no password */
    bool must_change, is_first;
    const char *oidc_issuer, *oidc_subject; /* NULL: none */
};
int user_create(struct db_conn *conn, const struct user_spec *spec, char ret_id[IDENT_TEXT_SIZE], struct err *err);

/* NULL members stay as they are. A new hash, and `disabled`, end all sessions of the user. */
struct user_change {
    const char *display_name, *role, *hash;
    const bool *disabled, *must_change;
};
int user_update(
    struct db_conn *conn, const char *id, const struct user_change *change, uint64_t if_version, struct err *err);
int user_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err);

/* The stored hash of a user who may sign in with a password: 1 and the id, 0 nobody of that name, disabled or without
 * a password; *ret_hash is "" then. */
int user_find_password(struct db_conn *conn, const char *name, char ret_id[IDENT_TEXT_SIZE],
    char ret_hash[USER_HASH_SIZE], struct err *err);
/* Sets the password of somebody who knows the old one; ends all sessions but keep_session_id. */
int user_password_set(
    struct db_conn *conn, const char *id, const char *hash, const char *keep_session_id, struct err *err);

/* Whoever the provider names: found by issuer and subject, or made. role NULL keeps what there is. 1: the id; 0: disabled.
 * A name that another user has gets a number. */
int user_from_oidc(struct db_conn *conn, const struct user_spec *spec, char ret_id[IDENT_TEXT_SIZE], struct err *err);

/* The first administrator, when there is no user at all: 1 made, 0 there are users. */
int user_ensure_first(struct db_conn *conn, const char *name, const char *hash, struct err *err);
/* Whether somebody still has the password of the first start. */
int user_first_password_stands(struct db_conn *conn, bool *ret_stands, struct err *err);

#endif
