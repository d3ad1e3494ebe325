/* SPDX-License-Identifier: Apache-2.0
 *
 * History of each machine: RPO, churn, throughput, backlog. Three grains, each kept for its time: minutes for three days, hours for
 * sixty days, days for five years. Each minute is added to its hour and its day as it is stored, so that all grains are always current
 * and bounded: at most 4,320 + 1,440 + 1,826 rows per machine.
 */
#ifndef HUB_DB_HISTORY_STORE_H
#define HUB_DB_HISTORY_STORE_H

#include "hub/db/db.h"

#define HISTORY_MINUTE_SEC 60u
#define HISTORY_HOUR_SEC 3600u
#define HISTORY_DAY_SEC 86400u
/* How long a grain is kept (housekeeping.h), in seconds; 0 for one that there is not. */
uint64_t history_kept_sec(uint32_t step_sec);

/* Array of {"id", "minute_usec", "rpo_max_usec", "rpo_sum_usec", "rpo_count", "changed_bytes", "sent_bytes", "points",
 * "frozen_points", "backlog_bytes"}; adds to what the minute, its hour and its day have. Machines that are gone are left out. */
int history_put(struct db_conn *conn, const char *json, struct err *err);

/* Rows of one machine from `from` (included) to `to` (not), in order; what was not measured has none. Columns: 0 start (seconds since
 * 1970), 1 rpo_max_usec, 2 rpo_avg_usec, 3 changed_bytes, 4 sent_bytes, 5 backlog_bytes, 6 points, 7 frozen_points. */
struct history_range {
    const char *machine_id;
    uint32_t step_sec; /* one of the three */
    uint64_t from_utc_usec, to_utc_usec;
};
int history_read(struct db_conn *conn, const struct history_range *range, PGresult **ret_rows, struct err *err);

#endif
