/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows that are kept for a time only: idempotency keys for a day, events as the setting event_keep_days says (90), jobs for 90 days, history as
 * history_store.h says. They go in pieces: what gathered while no hub was there, or is too old since a setting was changed, may be tens of millions of
 * rows, and a statement over all of them would be given up at its time limit, this time and ever after.
 */
#ifndef HUB_DB_HOUSEKEEPING_H
#define HUB_DB_HOUSEKEEPING_H

#include "hub/db/db.h"

/* Deletes one piece. *at: which rows are next; 0 at first. 1: there may be more; 0: nothing is too old, *at is 0 again; -1: what was next could not be
 * deleted, and *at is behind it: it keeps nothing else from going. */
int housekeeping(struct db_conn *conn, size_t *at, struct err *err);

#endif
