/* SPDX-License-Identifier: Apache-2.0
 *
 * Open points and branches as rows: what jobs note of them, and what a vault says that it has.
 */
#ifndef HUB_DB_BRANCH_STORE_H
#define HUB_DB_BRANCH_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "hub/db/db.h"

struct export_put {
    const char *id, *machine_id, *vault_id, *job_id, *created_by;
    const char *name;  /* of a branch; NULL: none */
    uint64_t sequence; /* 0: the latest */
    bool writable;
};
int export_create(struct db_conn *conn, const struct export_put *put, struct err *err);
/* state "open" with what the vault answered, or "opening", "closing", "kept", "closed", "failed", "promoted". */
int export_set(struct db_conn *conn, const char *id, const char *state, uint64_t sequence, const char *uri,
    const char *disks_json, struct err *err);

/* One row: a JSON array of the numbers of its disks, or NULL while it is not open. */
int export_disk_numbers(struct db_conn *conn, const char *id, PGresult **ret_rows, struct err *err);

/* Columns: devices of protected disks of machines that are the vault's own host. */
int export_protected_devices(struct db_conn *conn, const char *vault_id, PGresult **ret_rows, struct err *err);

/* A new generation of the machine: its agent, node and vault hear of it, and data of older ones is refused. */
int machine_generation_raise(struct db_conn *conn, const char *machine_id, uint64_t *ret_generation, struct err *err);

/* What a vault says. JSON, the ids as texts. */
struct export_report {
    const char *open;     /* [id]: served */
    const char *opening;  /* [id]: not yet, or again */
    const char *machines; /* [machine id]: those whose branches are all in the next list */
    const char *branches; /* [{"machine_id", "id", "base", "created_usec", "bytes"}] */
};
/* Points that the vault does not list are closed, branches kept; a branch that it lists and nobody knows gets a row, one that it does not
 * have any more is closed. What changed in the last 30 s is left to the job that does it. */
int export_reconcile(struct db_conn *conn, const char *vault_id, const struct export_report *report, struct err *err);

#endif
