/* SPDX-License-Identifier: Apache-2.0
 *
 * Where alerts go, and what is on its way there. Secrets go in and are read by the sender alone.
 */
#ifndef HUB_DB_CHANNEL_STORE_H
#define HUB_DB_CHANNEL_STORE_H

#include "hub/db/rows.h"
#include "transport/base/ident.h"

/* secret NULL: it stays as it is ("" with a new one). A new channel hears of what changes from now on. ERR_EXISTS: the name. */
int channel_create(struct db_conn *conn, const struct channel_row *row, const char *secret,
    char ret_id[IDENT_TEXT_SIZE], struct err *err);
int channel_update(
    struct db_conn *conn, const struct channel_row *row, const char *secret, uint64_t if_version, struct err *err);
int channel_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err);

/* Queues a message of kind "test" or "report"; body is JSON. */
int delivery_queue(struct db_conn *conn, const char *channel_id, const char *kind, const char *body,
    char ret_id[IDENT_TEXT_SIZE], struct err *err);

/* Makes deliveries of the changes that channels have not been told of, where the time of grouping is over. *ret_wait_usec: when the next
 * one is due (at most 60 s). In a transaction of its own. Returns how many were made. */
int delivery_form(struct db_conn *conn, uint64_t *ret_wait_usec, struct err *err);

/* A delivery to send, with everything about its channel. Texts live as long as `result`. */
struct delivery_claim {
    const char *id, *kind, *body;
    uint64_t attempts, created_at; /* attempts: this one included */
    const char *channel_id, *channel_name, *channel_kind;
    const char *url, *server, *security, *username, *from_address, *to_json, *ca_certificate;
    const char *secret; /* sealed as it lies there: secret_open(db, channel_id, ...) */
    uint64_t port;
    PGresult *result;
};
/* 1: claimed for lease_usec; 0: none is due, *ret_wait_usec says when one will be (at most 60 s). */
int delivery_claim(struct db_conn *conn, uint64_t lease_usec, struct delivery_claim *ret_claim, uint64_t *ret_wait_usec,
    struct err *err);
void delivery_claim_done(struct delivery_claim *claim);
/* The receiver has taken it. */
int delivery_done(struct db_conn *conn, const char *id, struct err *err);
/* It did not: again after retry_usec, or, with 0, never. */
int delivery_failed(struct db_conn *conn, const char *id, const char *why, uint64_t retry_usec, struct err *err);

#endif
