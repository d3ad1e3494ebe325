/* SPDX-License-Identifier: Apache-2.0
 *
 * The numbers of the overview, in one statement and so of one moment.
 */
#ifndef HUB_DB_OVERVIEW_STORE_H
#define HUB_DB_OVERVIEW_STORE_H

#include "hub/db/db.h"

/* Numbers for Prometheus that belong to no machine, node or vault alone; ordered. Columns: name of the metric, labels in braces, value. */
int overview_metrics(struct db_conn *conn, PGresult **ret_rows, struct err *err);

/* *ret_json: the object of the API without its problems' titles and links; the caller's to free. */
int overview_get(struct db_conn *conn, char **ret_json, struct err *err);

#endif
