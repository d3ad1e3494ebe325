/* SPDX-License-Identifier: Apache-2.0
 *
 * The clock of the database's host, by which everything here is timed. Set forward it ends leases and pauses early, which harms nobody. Set back, as by a
 * standby that takes over or by whoever mends a wrong one, it leaves what was to be at a time in a future that may be hours away.
 */
#ifndef HUB_DB_CLOCK_STORE_H
#define HUB_DB_CLOCK_STORE_H

#include "hub/db/db.h"

/* To be asked by whoever has the duty of the sweep. 1: it was set back since the last sweep, and what waits for a time has been brought up to now: jobs, what
 * is tried again, when peers and hubs were heard last; 0: it was not; -1. */
int clock_set_back(struct db_conn *conn, struct err *err);

#endif
