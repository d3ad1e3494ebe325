/* SPDX-License-Identifier: Apache-2.0
 *
 * A receiver is another machine whose disks are written with what a machine's points hold: one that runs the rescue system, or any that is not
 * protected. Rows about that, in the caller's transaction.
 */
#ifndef HUB_DB_RECEIVER_STORE_H
#define HUB_DB_RECEIVER_STORE_H

#include "hub/db/db.h"

/* The receiver's agent may read the machine's points from now on, once the node has heard of it; NULL: nobody's may. */
int receiver_put(struct db_conn *conn, const char *machine_id, const char *receiver_id, struct err *err);
/* The name of the machine that is being written to this one's disks, in *ret_rows. 1, or 0: none is. */
int receiver_busy(struct db_conn *conn, const char *receiver_id, PGresult **ret_rows, struct err *err);
/* Its disks that are there: key, device, size_bytes, is_root, the first place where something of it is mounted or "". How many. */
int receiver_disks(struct db_conn *conn, const char *receiver_id, PGresult **ret_rows, struct err *err);
/* Where the machine's node is asked: endpoint, id. 1, or 0: it has none. */
int receiver_node(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err);
/* From now on the machine's disks are those of the receiver. disks_json: array of {"number", "key"}. How many of them are. */
int receiver_take_place(
    struct db_conn *conn, const char *machine_id, const char *receiver_id, const char *disks_json, struct err *err);

#endif
