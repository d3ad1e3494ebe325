/* SPDX-License-Identifier: Apache-2.0
 *
 * What the hub looks after, in numbers.
 */
#ifndef HUB_DB_STATUS_STORE_H
#define HUB_DB_STATUS_STORE_H

#include "hub/db/db.h"

struct status_counts {
    uint64_t machines, protected_machines, replicating, attention, unprotected;
    uint64_t nodes, nodes_online, vaults, vaults_online;
    uint64_t jobs_running, jobs_waiting; /* running: queued, too */
};
/* One statement, however many there are. */
int status_counts_read(struct db_conn *conn, struct status_counts *ret_counts, struct err *err);

#endif
