/* SPDX-License-Identifier: Apache-2.0
 *
 * Failovers and the targets that their replicas run on, as rows. hub/jobs decides, this stores. All take part in the caller's transaction, if there
 * is one. A change of a target takes the version that the caller saw (0: whatever it is now): stale ERR_CONFLICT, absent ERR_NOT_FOUND, name in use
 * ERR_EXISTS, still in use ERR_REFUSED.
 */
#ifndef HUB_DB_FAILOVER_STORE_H
#define HUB_DB_FAILOVER_STORE_H

#include "hub/core/failover_state.h"
#include "hub/db/rows.h"
#include "transport/base/ident.h"

/* name, description, adapter (never changed) and config_json of the row. */
int target_create(struct db_conn *conn, const struct target_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err);
int target_update(struct db_conn *conn, const struct target_row *row, uint64_t if_version, struct err *err);
int target_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err);

struct failover_put {
    const char *id, *machine_id, *vault_id, *target_id, *job_id, *requested_by;
    enum failover_kind kind;
    uint64_t sequence;
    const char *options_json;
};
/* In state `starting`; asked for when its job was. ERR_REFUSED when the machine has another one that is not a test and not over. */
int failover_insert(struct db_conn *conn, const struct failover_put *put, struct err *err);
/* Checks the move against hub/core's table, stores the new state and the job that did it; the row stays locked until the transaction ends. */
int failover_store_move(
    struct db_conn *conn, const char *id, enum failover_move move, const char *job_id, struct err *err);
/* The branch that the replica stands on, NULL: none; and its point. `of_held_source`: the point was made of a source that had been stopped for it, so
 * that nothing is lost, whatever its clock said. */
int failover_note_branch(struct db_conn *conn, const char *id, const char *export_id, uint64_t sequence,
    bool of_held_source, struct err *err);
/* What the adapter said; verdict "unknown", "passed" or "failed". */
int failover_note_replica(struct db_conn *conn, const char *id, const char *replica_json, const char *verdict,
    const char *verdict_text, struct err *err);
/* What the failback has moved so far, and the job that does it. */
int failover_note_failback(
    struct db_conn *conn, const char *id, const char *failback_json, const char *job_id, struct err *err);
/* What was changed on the replica's disks. */
int failover_note_fixups(struct db_conn *conn, const char *id, const char *fixups_json, struct err *err);
/* A person's word about a test. */
int failover_note_outcome(
    struct db_conn *conn, const char *id, const char *outcome, const char *notes, struct err *err);
/* Whether a failover that is not over, or was committed and is still what the machine runs as, stands on the branch: ERR_REFUSED. */
int failover_spares_branch(struct db_conn *conn, const char *export_id, struct err *err);
/* Locks its row for the caller's transaction: whoever moves it comes before or after. */
int failover_hold(struct db_conn *conn, const char *id, struct err *err);
/* Whether another job than that one ("": any) is at work on the failover: ERR_REFUSED. */
int failover_is_free(struct db_conn *conn, const char *id, const char *job_id, struct err *err);
/* Is a failover that is no test under way, or what the machine runs as? 1 or 0. */
int failover_is_live(struct db_conn *conn, const char *machine_id, struct err *err);
/* Is the replica being started again after a failback that came to nothing? 1 or 0. */
int failover_is_resuming(struct db_conn *conn, const char *machine_id, struct err *err);
/* The newest listed point of the machine; 0: it has none. */
int failover_latest_point(struct db_conn *conn, const char *machine_id, uint64_t *ret_sequence, struct err *err);

#endif
