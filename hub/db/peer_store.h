/* SPDX-License-Identifier: Apache-2.0
 *
 * What the control plane stores about agents, nodes and vaults, and what it reads to tell them. Many rows travel as one JSON array,
 * so that ten thousand statuses are one statement.
 */
#ifndef HUB_DB_PEER_STORE_H
#define HUB_DB_PEER_STORE_H

#include "hub/db/rows.h"
#include "transport/base/ident.h"

struct peer_enrolment {
    const char *role, *id, *name, *machine_uid, *site_id;
};
/* A new machine, node or vault. A name that is taken gets "-2", "-3", ... behind it. */
int peer_insert(struct db_conn *conn, const struct peer_enrolment *peer, struct err *err);

struct certificate_put {
    const char *serial, *role, *subject_id, *subject_name, *fingerprint_sha256;
    uint64_t not_before, not_after;
};
int certificate_put(struct db_conn *conn, const struct certificate_put *certificate, struct err *err);
int certificate_revoke(struct db_conn *conn, const char *serial, const char *reason, struct err *err);
/* Column 0: serials that are revoked and not expired. */
int certificate_revoked_list(struct db_conn *conn, PGresult **ret_rows, struct err *err);

struct peer_hello {
    const char *role, *id, *software, *host, *endpoint;
    int64_t clock_skew_usec;
    bool simulated;
    const char *hub_process; /* UUID text of the hub that it said hello to; NULL: it does not matter */
};
/* 1: noted, online; 0: the hub has no such peer (deleted). A new endpoint reaches those who need it at once. */
int peer_hello(struct db_conn *conn, const struct peer_hello *hello, struct err *err);
int peer_offline(struct db_conn *conn, const char *role, const char *id, struct err *err);
/* Marks those offline that nobody heard of for a minute (their hub was killed). */
int peer_expire(struct db_conn *conn, struct err *err);

/* inventory_json: {"hostname", "os_name", "kernel", "boot_id", "cpus", "memory_bytes", "firmware", "machine_uid",
 * "addresses": [...], "disks": [{"key", "device", ..., "volumes": [...]}]}. Disks that are not in it become absent. */
int machine_inventory(struct db_conn *conn, const char *machine_id, const char *inventory_json, struct err *err);

/* Arrays of statuses: members as the columns are called, plus id; "last_point_usec". All three also mean "heard of now". */
int machine_status_put(struct db_conn *conn, const char *json, struct err *err);
int node_status_put(struct db_conn *conn, const char *json, struct err *err);
int vault_status_put(struct db_conn *conn, const char *json, struct err *err);

/* Points that a vault reports for machines that are its own; others are left out. `added`: array of {"machine_id", "sequence",
 * "time_usec", "kind", "tag", "group_point_id", "generation", "changed_bytes", "frozen", "unreadable_blocks",
 * "committed_usec", "unreadable_ranges"}, the last null or an array of {"disk", "start_bytes", "length_bytes"}; `dropped`: array of {"machine_id", "sequence"}. */
int point_put(struct db_conn *conn, const char *vault_id, const char *added, const char *dropped, struct err *err);
/* Which bytes the source could not read for a point, ascending. Columns: 0 number of the disk, 1 its key and 2 its device (NULL when the machine has no
 * such disk any more), 3 start, 4 length. No rows: none, or not known. */
int point_unreadable(
    struct db_conn *conn, const char *machine_id, uint64_t sequence, PGresult **ret_rows, struct err *err);
/* Forgets all points of a machine before a full list arrives. */
int point_forget(struct db_conn *conn, const char *vault_id, const char *machine_id, struct err *err);
/* True when the machine's points are in this vault (role "vault") or it is placed on this node ("node"). */
int peer_has_machine(struct db_conn *conn, const char *role, const char *id, const char *machine_id, struct err *err);

/* Columns role, id, desired_version of those who have not said that they reached it. */
int desired_versions(struct db_conn *conn, PGresult **ret_rows, struct err *err);
/* Columns: 0 version, 1 state, 2 generation, 3 interval_usec, 4 node_id, 5 node_endpoint, 6 vault_id,
 * 7 freeze_budget_usec, 8 max_rounds, 9 may_freeze, 10 compress_at_agent, 11 throttle, 12 resync_request, 13 protected. */
int desired_agent(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err);
/* Columns: number, key. */
/* Microseconds since 1970, offset of the zone in seconds from then on, work_hours; no row without working hours. */
int desired_offsets(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err);
int desired_node_offsets(struct db_conn *conn, const char *node_id, PGresult **ret_rows, struct err *err);
int desired_vault_offsets(struct db_conn *conn, const char *vault_id, PGresult **ret_rows, struct err *err);
int desired_disks(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err);
/* Columns: 0 version, 1 drain, 2 machine_id (NULL: none), 3 generation, 4 vault_id, 5 vault_endpoint, 6 compress_level,
 * 7 may_receive, 8 throttle, 9 throttle of each machine, 10 throttle in working hours, 11 receiver_id. */
int desired_node(struct db_conn *conn, const char *node_id, PGresult **ret_rows, struct err *err);
/* Columns: 0 version, 1 machine_id (NULL: none), 2 name, 3 generation, 4 known_sequence, 5..8 keep_all, minute, hour, day, 9 keep_tagged, 10 lock,
 * 11 follow_branch_id, 12 interval, 13 readers, 14 copy_vault_id, 15 copy_vault_endpoint, 16 throttle, 17 throttle of each machine, 18 throttle in
 * working hours. */
int desired_vault(struct db_conn *conn, const char *vault_id, PGresult **ret_rows, struct err *err);

#endif
