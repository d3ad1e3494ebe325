/* SPDX-License-Identifier: Apache-2.0
 *
 * Drills on a schedule: a thread that looks every few seconds which are due, and starts them as runs of kind `test` that clean up after themselves. Of several hubs
 * on one database each may run it; a drill is started once.
 */
#ifndef HUB_JOBS_DRILL_CLOCK_H
#define HUB_JOBS_DRILL_CLOCK_H

#include "hub/db/drill_store.h"

/* Starts the drill now, in the caller's transaction. ERR_REFUSED and the like as of plan_run_start. */
int drill_start(struct db_conn *conn, const char *id, const char *requested_by, char ret_run_id[IDENT_TEXT_SIZE],
    char ret_job_id[IDENT_TEXT_SIZE], struct err *err);
/* Starts those that are due, each in a transaction of its own. Returns how many. */
int drill_look(struct db_conn *conn, struct err *err);

struct drill_clock;
int drill_clock_start(struct db *db, struct drill_clock **ret_clock, struct err *err);
void drill_clock_stop(struct drill_clock *clock); /* NULL is allowed */

#endif
