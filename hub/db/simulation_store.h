/* SPDX-License-Identifier: Apache-2.0
 *
 * Removal of what `leeward simulate` added: machines, nodes and vaults that say of themselves that nothing is behind them.
 */
#ifndef HUB_DB_SIMULATION_STORE_H
#define HUB_DB_SIMULATION_STORE_H

#include "hub/db/db.h"

struct simulation_removed {
    uint64_t machines, nodes, vaults; /* that are gone now */
    uint64_t remaining;               /* simulated peers that are still there: call again */
};
/* Removes at most `most` simulated machines with all that the database has of them, in whatever state they are; nodes and vaults
 * when no machine is left. Their certificates are revoked. In the caller's transaction. */
int simulation_remove(struct db_conn *conn, uint64_t most, struct simulation_removed *ret_removed, struct err *err);

#endif
