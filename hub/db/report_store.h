/* SPDX-License-Identifier: Apache-2.0
 *
 * What a report is made of, over any time of which there are hours of history, and when the next weekly one is due.
 */
#ifndef HUB_DB_REPORT_STORE_H
#define HUB_DB_REPORT_STORE_H

#include "hub/db/db.h"
#include "transport/base/ident.h"

struct report_period {
    uint64_t from_utc_usec, to_utc_usec;
};

/* One row per machine, by name. Hours count as measured when there was a sample in them, as met when no sample in them was above the
 * target. */
enum report_machine_column {
    RM_NAME,
    RM_STATE,
    RM_HEALTH,
    RM_POLICY,
    RM_RPO_TARGET,
    RM_HOURS,
    RM_HOURS_MET,
    RM_RPO_MAX,
    RM_RPO_AVERAGE,
    RM_CHANGED,
    RM_SENT,
    RM_POINTS,
    RM_ALERTS,
    RM_LAST_GOOD_DRILL, /* RFC 3339, "" */
};
int report_machines(struct db_conn *conn, const struct report_period *period, PGresult **ret_rows, struct err *err);

/* One row. */
enum report_total_column { RT_CRITICAL, RT_WARNING, RT_JOBS_DONE, RT_JOBS_FAILED, RT_DRILLS_GOOD, RT_DRILLS_BAD, RT_DRILLS_OVERDUE };
int report_totals(struct db_conn *conn, const struct report_period *period, PGresult **ret_rows, struct err *err);

/* One row per vault, by name; RV_FULL_AT is RFC 3339 or "". */
enum report_vault_column { RV_NAME, RV_USED, RV_FREE, RV_CAPACITY, RV_FULL_AT };
int report_vaults(struct db_conn *conn, PGresult **ret_rows, struct err *err);

/* 1: a weekly report is due for the caller to make, in the caller's transaction, for the week before *ret_due; 0: not. By the settings
 * report_weekday (1 is Monday) and report_hour (UTC). */
int report_is_due(struct db_conn *conn, uint64_t *ret_due_utc_usec, struct err *err);
/* Queues a report to each channel that wants it. Returns how many. */
int report_queue(struct db_conn *conn, const char *body, struct err *err);

#endif
