/* SPDX-License-Identifier: Apache-2.0
 *
 * Moves of machines that nobody asked for: away from nodes that are gone or drained, to where they are pinned, home to their site,
 * and from busy nodes to others (hub/core/placement.h).
 */
#ifndef HUB_JOBS_REBALANCE_H
#define HUB_JOBS_REBALANCE_H

#include "hub/db/placement_store.h"

/* Submits a job for each machine that is to move now. For the one hub that has the duty of the sweep, which keeps `churn` from one call to
 * the next. Returns how many, or -1. */
int rebalance(struct db_conn *conn, struct placement_churn *churn, struct err *err);

#endif
