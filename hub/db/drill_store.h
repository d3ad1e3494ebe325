/* SPDX-License-Identifier: Apache-2.0
 *
 * Drills on a schedule, as rows; read them with db_drills and db_drill_machines. A change takes the version that the caller saw (0: whatever it is now): stale
 * ERR_CONFLICT, absent ERR_NOT_FOUND, name in use ERR_EXISTS. All take part in the caller's transaction, if there is one.
 */
#ifndef HUB_DB_DRILL_STORE_H
#define HUB_DB_DRILL_STORE_H

#include "hub/core/drill_schedule.h"
#include "hub/db/rows.h"
#include "transport/base/ident.h"

/* name, plan_id or policy_id (never changed), target_id, window, time_zone, options_json, enabled and times of the row. ERR_INVALID: an unknown
 * time zone. */
int drill_create(struct db_conn *conn, const struct drill_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err);
int drill_update(struct db_conn *conn, const struct drill_row *row, uint64_t if_version, struct err *err);
int drill_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err);

/* Those whose interval is over: id. */
int drill_due(struct db_conn *conn, PGresult **ret_rows, struct err *err);
/* Takes one of those for the transaction: of all hubs that look, one gets it, once. 1: *ret_moment is now at its place; 0: somebody else has it. */
int drill_take(struct db_conn *conn, const char *id, struct drill_moment *ret_moment, struct err *err);
int drill_note_start(struct db_conn *conn, const char *id, const char *run_id, struct err *err);
/* It could not begin, and is tried again after a while. 1: the problem is a new one. */
int drill_note_problem(struct db_conn *conn, const char *id, const char *problem, struct err *err);
/* The policy's machines that a drill can begin with, those first that had no good one for longest: name. */
int drill_policy_machines(struct db_conn *conn, const char *policy_id, PGresult **ret_rows, struct err *err);

#endif
