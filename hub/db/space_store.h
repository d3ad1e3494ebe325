/* SPDX-License-Identifier: Apache-2.0
 *
 * What vaults say about the space that their machines take, and when their disks will be full: the latest report of each.
 */
#ifndef HUB_DB_SPACE_STORE_H
#define HUB_DB_SPACE_STORE_H

#include "hub/db/db.h"

/* report: the object that the API shows, without the names of the machines. */
int space_put(struct db_conn *conn, const char *vault_id, const char *report, struct err *err);
/* 1: *ret_report is the text (caller frees), the machines with their names; 0: the vault has said nothing yet. */
int space_get(struct db_conn *conn, const char *vault_id, char **ret_report, struct err *err);

#endif
