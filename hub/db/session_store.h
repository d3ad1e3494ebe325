/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions of people (`lws_` + 43 characters base64url of 32 random bytes, in a cookie; the database has the SHA-256) and
 * the brake on guessing passwords.
 */
#ifndef HUB_DB_SESSION_STORE_H
#define HUB_DB_SESSION_STORE_H

#include "hub/db/rows.h"
#include "transport/base/ident.h"

#define SESSION_TEXT_SIZE 48 /* with the NUL */
#define SESSION_CSRF_SIZE 44 /* with the NUL */

struct session_spec {
    const char *user_id, *method; /* "password", "oidc" */
    const char *address, *user_agent;
    uint64_t idle_usec, max_usec;
};
/* Notes the login at the user too. */
int session_create(struct db_conn *conn, const struct session_spec *spec, char ret_id[IDENT_TEXT_SIZE],
    char ret_text[SESSION_TEXT_SIZE], struct err *err);
/* Shape alone, no database. */
bool session_text_is_well_formed(const char *text);
/* 1 and the row (as by db_get) of a session that is alive and whose user is not disabled; 0 for any other. Notes the use,
 * at most once a minute. */
int session_check(struct db_conn *conn, const char *text, struct db_set *ret_set, struct err *err);
/* Revoked before is success; ERR_NOT_FOUND for a session that never was. */
int session_revoke(struct db_conn *conn, const char *id, struct err *err);
/* What a page must send as X-CSRF-Token: a keyed hash of the cookie's text, so that nothing has to be stored. */
void session_csrf(const char *text, char ret_csrf[SESSION_CSRF_SIZE]);

/* The brake. A name at one address may fail 5 times, an address 20 times, a name from anywhere 100 times; then every
 * further failure doubles the wait, from 1 s to 15 minutes. A quarter of an hour without a failure forgets them.
 * Returns how many seconds to wait now (0: go on), or -1. */
int login_brake_look(
    struct db_conn *conn, const char *name, const char *address, unsigned *ret_wait_sec, struct err *err);
int login_brake_failed(struct db_conn *conn, const char *name, const char *address, struct err *err);
/* A right password forgets what this name failed at this address. */
int login_brake_passed(struct db_conn *conn, const char *name, const char *address, struct err *err);

#endif
