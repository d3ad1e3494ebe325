/* SPDX-License-Identifier: Apache-2.0
 *
 * What waits for a second person. Who asked may not decide, nor may anybody whose account is younger than the question: that would be a second
 * person made for the purpose.
 */
#ifndef HUB_DB_APPROVAL_STORE_H
#define HUB_DB_APPROVAL_STORE_H

#include "hub/db/rows.h"
#include "transport/base/ident.h"

struct approval_spec {
    const char *kind, *summary;
    const char *machine_id;                             /* "": none */
    const char *method, *path, *query_json, *body_json; /* body NULL: none */
    uint64_t if_version;
    const char *fingerprint;
    const char *requested_by, *user_id, *token_id; /* ids "": none */
};
/* Stores it, or finds the same of the same asker that waits already. 1: new; 0: was there. In the caller's transaction. */
int approval_ask(struct db_conn *conn, const struct approval_spec *spec, char ret_id[IDENT_TEXT_SIZE], struct err *err);

/* Locks one that waits, for the caller's transaction. ERR_NOT_FOUND; ERR_REFUSED when it is decided or too old. */
int approval_hold(struct db_conn *conn, const char *id, struct err *err);
/* Whether user_id may decide: 1; 0: with the reason in err. */
int approval_may_decide(struct db_conn *conn, const char *id, const char *user_id, struct err *err);
/* What who asked may do at the moment. *ret_role is static, NULL: nothing any more (err says why). */
int approval_asker_role(
    struct db_conn *conn, const char *id, const char **ret_role, char **ret_scopes_json, struct err *err);
/* state "approved" (job_id may be ""), "rejected" or "withdrawn". */
int approval_decide(struct db_conn *conn, const char *id, const char *state, const char *by, const char *note,
    const char *job_id, struct err *err);

#endif
