/* SPDX-License-Identifier: Apache-2.0
 *
 * Protecting machines, as rows: the candidates for placement, the protection with its numbered disks, the moves of the
 * machine's state, and open points. Everything in the caller's transaction.
 */
#ifndef HUB_DB_PROTECTION_STORE_H
#define HUB_DB_PROTECTION_STORE_H

#include "hub/core/machine_state.h"
#include "hub/core/placement.h"
#include "hub/db/rows.h"
#include "transport/base/ident.h"

#define CANDIDATES_MAX 256

struct node_candidates {
    char ids[CANDIDATES_MAX][IDENT_TEXT_SIZE];
    struct placement_node nodes[CANDIDATES_MAX];
    size_t count;
};
struct vault_candidates {
    char ids[CANDIDATES_MAX][IDENT_TEXT_SIZE];
    struct placement_vault vaults[CANDIDATES_MAX];
    size_t count;
};
int placement_nodes_read(
    struct db_conn *conn, const char *machine_id, struct node_candidates *ret_nodes, struct err *err);
int placement_vaults_read(
    struct db_conn *conn, const char *machine_id, struct vault_candidates *ret_vaults, struct err *err);

struct protection {
    const char *machine_id, *policy_id, *node_id, *vault_id;
    const char *disks_json; /* array of keys; NULL: all eligible ones (present, trackable) */
    bool seeding;           /* the agent is not told before protection_seeded */
};
/* Stores the protection, numbers the disks (a disk keeps its number for ever), and lets machine, node and vault converge
 * anew. Returns the number of disks; ERR_INVALID names a disk that is unknown or not trackable; ERR_REFUSED when none is
 * left, or when the machine's data is in another vault. ret_version: the machine's new desired version. */
int protection_put(struct db_conn *conn, const struct protection *protection, uint64_t *ret_version, struct err *err);
/* Disks of a protected machine beside those it has, or left out from now on; agent, node and vault are told. What was replicated stays.
 * Returns how many are protected then; errors as of disk_store_check_add and disk_store_check_exclude. */
int protection_disks_add(
    struct db_conn *conn, const char *machine_id, const char *disks_json, uint64_t *ret_version, struct err *err);
int protection_disks_exclude(
    struct db_conn *conn, const char *machine_id, const char *disks_json, uint64_t *ret_version, struct err *err);
/* The protected disks in the order of their numbers: number, size_bytes, logical_sector_bytes, device, key. Returns how many. */
int protection_disks(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err);
/* The same columns for the disks with the numbers of a JSON array, protected now or not. */
int protection_disks_numbered(
    struct db_conn *conn, const char *machine_id, const char *numbers_json, PGresult **ret_rows, struct err *err);
/* The vault has taken the seed: the agent may begin. */
int protection_seeded(struct db_conn *conn, const char *machine_id, uint64_t *ret_version, struct err *err);
/* Has the machine's vault heard of it? 1 or 0. */
int protection_vault_knows(struct db_conn *conn, const char *machine_id, struct err *err);
/* Has the machine's node heard of all that it is to do? 1 or 0. */
int protection_node_knows(struct db_conn *conn, const char *machine_id, struct err *err);
/* Of the points that are kept of a machine, the one nearest to a number; and what is promised of them. */
struct kept_point {
    uint64_t newest, nearest;
    char time[32]; /* of the nearest: 2026-11-29 10:51:36 UTC */
    char lock[64]; /* the retention lock, as "7 days" or "1 day 12:00:00"; "": there is none */
};
/* 1, or 0: none is kept. */
int protection_kept_point(
    struct db_conn *conn, const char *machine_id, uint64_t sequence, struct kept_point *ret_kept, struct err *err);
/* The vault that holds the machine's points. 1, or 0: none does yet. */
int protection_vault(struct db_conn *conn, const char *machine_id, char ret_vault_id[IDENT_TEXT_SIZE], struct err *err);
/* The desired version that the agent has reached, and whether it is connected. */
int machine_convergence(
    struct db_conn *conn, const char *machine_id, uint64_t *ret_reached, bool *ret_online, struct err *err);
/* The machine is told to stop; points stay. */
int protection_end(struct db_conn *conn, const char *machine_id, uint64_t *ret_version, struct err *err);
/* Its vault holds nothing of the machine any more: no points, no protection, as if it had never been protected. */
int protection_forget(struct db_conn *conn, const char *machine_id, struct err *err);
/* Machine, node and vault are told again what is wanted of them. */
int machine_converge_anew(struct db_conn *conn, const char *machine_id, struct err *err);
int protection_resync(struct db_conn *conn, const char *machine_id, uint64_t *ret_version, struct err *err);

/* Checks the move against hub/core's table, stores the new state with an event, wakes the jobs that wait for it. ret_to may
 * be NULL. The row stays locked until the transaction ends. */
int machine_state_move(struct db_conn *conn, const char *machine_id, enum machine_move move, const char *actor,
    enum machine_state *ret_to, struct err *err);
/* What the agent reports, applied to the state. 1: it moved; 0: nothing to do. */
int machine_state_follow(
    struct db_conn *conn, const char *machine_id, const char *agent_state, bool has_point, struct err *err);

#endif
