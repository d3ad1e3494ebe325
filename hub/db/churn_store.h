/* SPDX-License-Identifier: Apache-2.0
 *
 * What was written to protected disks, by the minute.
 */
#ifndef HUB_DB_CHURN_STORE_H
#define HUB_DB_CHURN_STORE_H

#include "hub/db/rows.h"

/* Adds to what there is of that minute: an agent that was started anew sends the rest of it by itself. Only disk, minute and the
 * numbers of the row are taken. ERR_INVALID: numbers that cannot be. */
int churn_put(struct db_conn *conn, const char *machine_id, const struct disk_minute_row *row, struct err *err);

#endif
