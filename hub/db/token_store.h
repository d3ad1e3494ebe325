/* SPDX-License-Identifier: Apache-2.0
 *
 * API tokens (`lwt_` + 43 characters base64url of 32 random bytes + 6 characters checksum) and enrolment
 * tokens (`lwe_` + 43 characters + `.` + SHA-256 of the CA certificate in hex). Both are shown once; the
 * database has only their SHA-256. 256 random bits need no slow hash.
 */
#ifndef HUB_DB_TOKEN_STORE_H
#define HUB_DB_TOKEN_STORE_H

#include "hub/db/rows.h"
#include "transport/base/ident.h"

#define API_TOKEN_TEXT_SIZE 54        /* with the NUL */
#define ENROLMENT_TOKEN_TEXT_SIZE 113 /* with the NUL */

struct api_token_spec {
    const char *name;
    const char *role;        /* "viewer", "operator", "admin" */
    const char *scopes_json; /* array of "resource:verb"; NULL: all that the role allows */
    const char *created_by;
    const char *user_id; /* whose it is: it may never do more than they may; NULL or "": nobody's */
    uint64_t expires_at; /* UTC microseconds; 0: never */
};
int api_token_create(struct db_conn *conn, const struct api_token_spec *spec, char ret_id[IDENT_TEXT_SIZE],
    char ret_text[API_TOKEN_TEXT_SIZE], struct err *err);
int api_token_revoke(struct db_conn *conn, const char *id, struct err *err);
/* Shape and checksum alone, no database: false for what cannot be one of ours. */
bool api_token_is_well_formed(const char *text);
/* 1 and the row (as by db_get) for a token that is known, neither revoked nor expired, and whose owner is not disabled; 0 for any other
 * (nothing tells the cases apart). Notes the use, at most once a minute. */
int api_token_check(struct db_conn *conn, const char *text, struct db_set *ret_set, struct err *err);

struct enrolment_token_spec {
    const char *role;    /* "agent", "node", "vault" */
    const char *name;    /* for people, may be "" */
    const char *site_id; /* "" none */
    const char *created_by;
    uint64_t expires_at; /* 0: in 24 hours */
};
/* ca_sha256_hex: 64 characters (ca_fingerprint of hub/control/ca.h). */
int enrolment_token_create(struct db_conn *conn, const struct enrolment_token_spec *spec, const char *ca_sha256_hex,
    char ret_id[IDENT_TEXT_SIZE], char ret_text[ENROLMENT_TOKEN_TEXT_SIZE], struct err *err);
int enrolment_token_revoke(struct db_conn *conn, const char *id, struct err *err);
/* Uses the token up for subject_id in one statement: 1 done; 0 unknown, used, expired, revoked or of another
 * role (nothing tells the cases apart). key_sha256 is of the public key in the request: a token that this
 * very key has used answers 1 again, with the subject of the first time, so that an enrolment that broke off
 * half-way can be repeated. */
struct enrolment_use {
    char subject_id[IDENT_TEXT_SIZE]; /* in: the id to give; out: the id that counts */
    char site_id[IDENT_TEXT_SIZE];    /* out: "" or UUID text */
    bool again;                       /* out: this key had used it before */
};
int enrolment_token_use(struct db_conn *conn, const char *text, const char *role, const uint8_t key_sha256[32],
    struct enrolment_use *use, struct err *err);

#endif
