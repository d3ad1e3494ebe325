/* SPDX-License-Identifier: Apache-2.0
 *
 * The mappings of machines and sites (hub/jobs/replica_mapping.h), which are there from the start, empty. A change takes the version that the caller saw (0:
 * whatever it is now): stale ERR_CONFLICT, absent ERR_NOT_FOUND. In the caller's transaction, if there is one.
 */
#ifndef HUB_DB_MAPPING_STORE_H
#define HUB_DB_MAPPING_STORE_H

#include "hub/db/rows.h"

int machine_mapping_put(
    struct db_conn *conn, const char *machine_id, const char *mapping_json, uint64_t if_version, struct err *err);
int site_mapping_put(
    struct db_conn *conn, const char *site_id, const char *mapping_json, uint64_t if_version, struct err *err);

#endif
