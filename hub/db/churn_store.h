/* SPDX-License-Identifier: Apache-2.0
 *
 * What was written to protected disks, by the minute.
 */
#ifndef HUB_DB_CHURN_STORE_H
#define HUB_DB_CHURN_STORE_H

#include "hub/db/rows.h"

/* Whether the numbers of the row (disk and minute's numbers) are such as there can be. */
bool churn_is_possible(const struct disk_minute_row *row);

/* Array of {"id" (of the machine), "disk", "minute_usec", "changed_bytes", "incompressible_bytes", "turned_bytes", "entropy_millibits"}, each of
 * them possible; adds to what there is of those minutes: an agent that was started anew sends the rest of one by itself. Machines that are gone are left out. */
int churn_put(struct db_conn *conn, const char *json, struct err *err);

#endif
