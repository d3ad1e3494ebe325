/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of a machine's points in other vaults than the one that it is replicated to, as rows. Everything in the caller's transaction.
 */
#ifndef HUB_DB_COPY_STORE_H
#define HUB_DB_COPY_STORE_H

#include "hub/db/db.h"

/* Copies of a machine that go on: so many readers does a vault keep in mind (READERS_MAX in vaultd_private.h). */
#define COPIES_MAX 16

struct copy_put {
    const char *machine_id, *vault_id, *source_vault_id, *created_by;
};
/* Both vaults are told. ERR_CONFLICT: that vault has one, or is giving one up; ERR_REFUSED: there are COPIES_MAX. */
int copy_put(struct db_conn *conn, const struct copy_put *put, struct err *err);
/* May the machine have one more copy? 0, or ERR_REFUSED. */
int copy_may_be_more(struct db_conn *conn, const char *machine_id, struct err *err);
/* Neither vault goes on with it; both are told. */
int copy_end(struct db_conn *conn, const char *machine_id, const char *vault_id, struct err *err);
/* There is none any more, nor points of it. */
int copy_forget(struct db_conn *conn, const char *machine_id, const char *vault_id, struct err *err);
/* Has the vault heard of all that is wanted of it? 1 or 0. */
int copy_vault_knows(struct db_conn *conn, const char *vault_id, struct err *err);
/* Any vault that has a copy of the machine's points: its name, in *ret_rows. 1, or 0: none has. */
int copy_any(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err);
/* Is there room for what the machine's newest content takes in its own vault? 1, or 0 with both figures: needed, free. */
int copy_fits(struct db_conn *conn, const char *machine_id, const char *vault_id, PGresult **ret_rows, struct err *err);

/* The vault's copy is the machine's own line from now on: its vault is that one, which tells its points anew, and what is open or runs in the vault before is
 * lost. That one, should it ever be there again, has what is to be removed, as an ending copy; other copies come from the new one. */
int copy_use(struct db_conn *conn, const char *machine_id, const char *vault_id, struct err *err);
/* What the vault says of its copy. */
struct copy_status {
    const char *machine_id, *source_vault_id;
    uint64_t source_sequence, sequence, point_utc_usec, taken_bytes, traffic_bytes, progress_permille;
    const char *cause, *remedy;
};
int copy_status_put(struct db_conn *conn, const char *vault_id, const struct copy_status *status, struct err *err);
/* As point_put and point_forget (peer_store.h), of a copy. */
int copy_points_put(
    struct db_conn *conn, const char *vault_id, const char *added, const char *dropped, struct err *err);
int copy_points_forget(struct db_conn *conn, const char *vault_id, const char *machine_id, struct err *err);

#endif
