/* SPDX-License-Identifier: Apache-2.0
 *
 * Secrets that the hub must be able to read again (passwords of mail servers, keys of webhooks) lie in the database sealed: whoever gets
 * the database or a backup of it has none of them. Sealed is "lws1:KEYID:BASE64": XChaCha20-Poly1305 under the pool's key, nonce before
 * the ciphertext, with the place where it lies as authenticated context, so that one row's secret is no good in another row. The key is
 * derived from the CA's, which all hubs of a database have in common (ca_derive_key).
 */
#ifndef HUB_DB_SECRET_BOX_H
#define HUB_DB_SECRET_BOX_H

#include "hub/db/db.h"

/* *ret_sealed for storing; "" stays "". ERR_INTERNAL: the pool has no key. */
int secret_seal(struct db_conn *conn, const char *place, const char *secret, char **ret_sealed, struct err *err);
/* Of a key: any thread, no connection needed. ERR_CORRUPT with a correction: sealed under another key, or altered. */
int secret_open(const struct db *db, const char *place, const char *sealed, char **ret_secret, struct err *err);
/* Seals what an older version left in the clear. In one transaction of its own. */
int secret_seal_old(struct db_conn *conn, struct err *err);

#endif
