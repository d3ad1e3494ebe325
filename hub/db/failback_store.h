/* SPDX-License-Identifier: Apache-2.0
 *
 * What a failback would have to do, from what the hub knows: nobody is asked, and nothing is changed.
 */
#ifndef HUB_DB_FAILBACK_STORE_H
#define HUB_DB_FAILBACK_STORE_H

#include "hub/db/db.h"

/* 1: *ret_json is the object that the API shows (caller frees); 0: there is no such failover. */
int failback_preview(struct db_conn *conn, const char *failover_id, char **ret_json, struct err *err);

#endif
