/* SPDX-License-Identifier: Apache-2.0
 *
 * compute_targets and failovers. A failover's row is locked by whoever moves it, so that a rollback and a commit follow one another.
 */
#include "hub/db/failover_store.h"

#include <string.h>

#include "hub/db/point_age.h"

#define BUMP ", version = version + 1, updated_at = now()"

static int ok(int rows)
{
    return rows < 0 ? -1 : 0;
}

/* ---- targets ---- */

static int name_taken(const char *name, struct err *err)
{
    if (err && err->code == ERR_EXISTS) {
        err_set(err, ERR_EXISTS, "a target named %s exists", name);
        return err_hint(err, "Choose another name, or change the one that is there.");
    }
    return -1;
}

/* After a change that touched no row: absent, or another version. */
static int untouched(struct db_conn *conn, const char *id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, &db_targets, id, &set, err) < 0)
        return -1;
    err_set(err, ERR_CONFLICT, "target %s was changed by somebody else", id);
    return err_hint(err, "Read it again, look at what changed, and repeat the change with its new version.");
}

int target_create(struct db_conn *conn, const struct target_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err,
            "INSERT INTO compute_targets (name, description, adapter, config) VALUES ($1, $2, $3, $4::jsonb) RETURNING "
            "id",
            DB_S(row->name), DB_S(row->description), DB_S(row->adapter), DB_S(row->config_json)) < 0)
        return name_taken(row->name, err);
    strncpy(ret_id, db_text(r, 0, 0), IDENT_TEXT_SIZE - 1);
    ret_id[IDENT_TEXT_SIZE - 1] = '\0';
    return 0;
}

int target_update(struct db_conn *conn, const struct target_row *row, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE compute_targets SET name = $2, description = $3, config = $4::jsonb" BUMP
        " WHERE id = $1 AND (version = $5::bigint OR $5::bigint = 0)",
        DB_S(row->id), DB_S(row->name), DB_S(row->description), DB_S(row->config_json), DB_U(if_version));

    if (n < 0)
        return name_taken(row->name, err);
    return n == 0 ? untouched(conn, row->id, err) : 0;
}

int target_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "DELETE FROM compute_targets WHERE id = $1 AND (version = $2::bigint OR $2::bigint = 0)", DB_S(id),
        DB_U(if_version));

    if (n < 0 && err && err->code == ERR_REFUSED && strstr(err->text, "drill_schedules")) {
        err_set(err, ERR_REFUSED, "a drill on a schedule starts its replicas at the target");
        return err_hint(err, "Give that drill another target, or delete it: leeward drill list");
    }
    if (n < 0 && err && err->code == ERR_REFUSED) {
        err_set(err, ERR_REFUSED, "failovers were made to the target");
        return err_hint(err, "It stays with their history; give it another name if it is not to be used any more.");
    }
    if (n < 0)
        return -1;
    return n == 0 ? untouched(conn, id, err) : 0;
}

/* ---- failovers ---- */

/* 0: no point. */
#define LOSS "coalesce(greatest(0, " POINT_LOSS("m", "f.requested_at", "p.time") "), 0)::bigint"

int failover_insert(struct db_conn *conn, const struct failover_put *put, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "INSERT INTO failovers (id, machine_id, vault_id, target_id, kind, sequence, options, job_id, requested_by,"
        " requested_at, point_time, loss_usec)"
        " SELECT $1::uuid, m.id, $3::uuid, $4::uuid, $5, $6, $7::jsonb, f.id, $9, f.requested_at, p.time, " LOSS
        " FROM (SELECT id, created_at AS requested_at FROM jobs WHERE id = $8::uuid) f JOIN machines m ON m.id = "
        "$2::uuid"
        " LEFT JOIN recovery_points p ON p.machine_id = m.id AND p.sequence = $6::bigint",
        DB_S(put->id), DB_S(put->machine_id), DB_S(put->vault_id), DB_S(put->target_id),
        DB_S(failover_kind_name(put->kind)), DB_U(put->sequence), DB_S(put->options_json), DB_S(put->job_id),
        DB_S(put->requested_by));

    if (n < 0 && err && err->code == ERR_EXISTS) {
        err_set(err, ERR_REFUSED, "the machine has a failover that is not over");
        return err_hint(err, "Commit it or roll it back first: leeward failover list");
    }
    return n > 0 ? 0 : n < 0 ? -1 : err_set(err, ERR_INTERNAL, "the failover's job is gone");
}

static int lock_row(
    struct db_conn *conn, const char *id, enum failover_kind *ret_kind, enum failover_state *ret_state, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    AUTO_DB_SET struct db_set set = {0};
    int kind, state, n = db_exec(conn, &r, err, "SELECT kind, state FROM failovers WHERE id = $1 FOR UPDATE", DB_S(id));

    if (n <= 0)
        return n == 0 && db_need(conn, &db_failovers, id, &set, err) == 0
                   ? err_set(err, ERR_CONFLICT, "failover %s appeared just now", id)
                   : -1;
    kind = failover_kind_from_name(db_text(r, 0, 0));
    state = failover_state_from_name(db_text(r, 0, 1));
    if (kind < 0 || state < 0)
        return err_set(err, ERR_INTERNAL, "failover %s has an unknown kind or state", id);
    *ret_kind = (enum failover_kind)kind;
    *ret_state = (enum failover_state)state;
    return 0;
}

int failover_hold(struct db_conn *conn, const char *id, struct err *err)
{
    enum failover_kind kind;
    enum failover_state state;

    return lock_row(conn, id, &kind, &state, err);
}

int failover_store_move(
    struct db_conn *conn, const char *id, enum failover_move move, const char *job_id, struct err *err)
{
    enum failover_kind kind = FAILOVER_TEST;
    enum failover_state from = FAILOVER_FAILED, to;

    if (lock_row(conn, id, &kind, &from, err) < 0 || failover_move(kind, from, move, &to, err) < 0)
        return -1;
    return ok(db_exec(conn, NULL, err,
        "UPDATE failovers SET state = $2, job_id = $3, running_at = CASE WHEN $2 = 'running' THEN coalesce(running_at, "
        "now()) ELSE running_at END,"
        " ended_at = CASE WHEN $4 THEN now() ELSE ended_at END" BUMP " WHERE id = $1",
        DB_S(id), DB_S(failover_state_name(to)), DB_S(job_id),
        DB_B(failover_state_is_final(to) || to == FAILOVER_COMMITTED)));
}

int failover_note_branch(struct db_conn *conn, const char *id, const char *export_id, uint64_t sequence,
    bool of_held_source, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "UPDATE failovers f SET export_id = $2, sequence = coalesce(nullif($3::bigint, 0), f.sequence),"
        " point_time = coalesce(p.time, f.point_time),"
        " loss_usec = CASE WHEN $4 THEN 0 WHEN p.time IS NULL THEN f.loss_usec ELSE " LOSS " END,"
        " version = f.version + 1, updated_at = now()"
        " FROM machines m LEFT JOIN recovery_points p ON p.machine_id = m.id AND p.sequence = $3::bigint"
        " WHERE f.id = $1::uuid AND m.id = f.machine_id",
        DB_S(id), DB_S(export_id), DB_U(sequence), DB_B(of_held_source)));
}

int failover_note_replica(struct db_conn *conn, const char *id, const char *replica_json, const char *verdict,
    const char *verdict_text, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "UPDATE failovers SET replica = $2::jsonb, verdict = $3, verdict_text = $4" BUMP " WHERE id = $1", DB_S(id),
        DB_S(replica_json), DB_S(verdict), DB_S(verdict_text)));
}

int failover_note_failback(
    struct db_conn *conn, const char *id, const char *failback_json, const char *job_id, struct err *err)
{
    return ok(db_exec(conn, NULL, err, "UPDATE failovers SET failback = $2::jsonb, job_id = $3" BUMP " WHERE id = $1",
        DB_S(id), DB_S(failback_json), DB_S(job_id)));
}

int failover_note_fixups(struct db_conn *conn, const char *id, const char *fixups_json, struct err *err)
{
    return ok(db_exec(
        conn, NULL, err, "UPDATE failovers SET fixups = $2::jsonb" BUMP " WHERE id = $1", DB_S(id), DB_S(fixups_json)));
}

int failover_note_outcome(struct db_conn *conn, const char *id, const char *outcome, const char *notes, struct err *err)
{
    return ok(db_exec(conn, NULL, err, "UPDATE failovers SET outcome = $2, notes = $3" BUMP " WHERE id = $1", DB_S(id),
        DB_S(outcome), DB_S(notes)));
}

/* One that was committed stands on it until the machine has failed back, or has been given up (unprotected). */
int failover_spares_branch(struct db_conn *conn, const char *export_id, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT f.id, f.kind, f.state FROM failovers f JOIN machines m ON m.id = f.machine_id WHERE f.export_id = $1"
        " AND (f.state IN ('starting', 'running', 'ending') OR (f.state IN ('committed', 'reprotected')"
        " AND m.state IN ('committed', 'reverse_replicating', 'reverse_protected')))",
        DB_S(export_id));

    if (n <= 0)
        return n;
    err_set(err, ERR_REFUSED, "a replica runs on the branch: %s failover %s", db_text(r, 0, 1), db_text(r, 0, 0));
    if (strcmp(db_text(r, 0, 2), "committed") == 0 || strcmp(db_text(r, 0, 2), "reprotected") == 0)
        return err_hint(err, "Fail back first, or give the replica up: leeward machine unprotect");
    return err_hint(err, "End that first: leeward failover %s %s",
        strcmp(db_text(r, 0, 1), "test") == 0 ? "cleanup" : "rollback", db_text(r, 0, 0));
}

int failover_is_free(struct db_conn *conn, const char *id, const char *job_id, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT j.id, j.kind, j.may_cancel FROM failovers f JOIN jobs j ON j.id = f.job_id WHERE f.id = $1"
        " AND j.id IS DISTINCT FROM $2::uuid AND j.status IN ('queued', 'running', 'waiting_for_input')",
        DB_S(id), DB_ID(job_id));

    if (n <= 0)
        return n;
    err_set(err, ERR_REFUSED, "a job is at work on the failover: %s", db_text(r, 0, 1));
    if (db_bool(r, 0, 2))
        return err_hint(
            err, "Wait for it, or stop it, which takes away what it began: leeward job cancel %s", db_text(r, 0, 0));
    return err_hint(err, "Wait for it: leeward job show %s", db_text(r, 0, 0));
}

int failover_is_live(struct db_conn *conn, const char *machine_id, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "SELECT 1 FROM failovers WHERE machine_id = $1 AND kind <> 'test' AND state IN ('starting', 'running', "
        "'ending')",
        DB_S(machine_id));

    return n < 0 ? -1 : n > 0;
}

int failover_is_resuming(struct db_conn *conn, const char *machine_id, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "SELECT 1 FROM jobs WHERE machine_id = $1 AND kind = 'failover_resume'"
        " AND status IN ('queued', 'running', 'waiting_for_input')",
        DB_S(machine_id));

    return n < 0 ? -1 : n > 0;
}

int failover_latest_point(struct db_conn *conn, const char *machine_id, uint64_t *ret_sequence, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;

    if (db_exec(conn, &r, err, "SELECT coalesce(max(sequence), 0) FROM recovery_points WHERE machine_id = $1",
            DB_S(machine_id)) < 0)
        return -1;
    *ret_sequence = db_u64(r, 0, 0);
    return 0;
}
