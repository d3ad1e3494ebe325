/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes to configuration, each one statement that checks the version it was based on. When none of the rows matched, a
 * second look tells whether the row is gone or was changed by somebody else.
 */
#include "hub/db/config_store.h"

#include <string.h>

#include "hub/db/copy_store.h"
#include "hub/db/news.h"
#include "hub/db/protection_store.h"

#define BUMP ", version = version + 1, updated_at = now()"
#define AT_VERSION(n) "(version = $" #n "::bigint OR $" #n "::bigint = 0)"

/* After a change that touched no row: absent, or another version. */
static int nothing_changed(struct db_conn *conn, const struct db_entity *entity, const char *id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, entity, id, &set, err) < 0)
        return -1;
    err_set(err, ERR_CONFLICT, "%s %s was changed by somebody else", entity->name, id);
    return err_hint(err, "Read it again, look at what changed, and repeat the change with its new version.");
}

static int changed(struct db_conn *conn, int touched, const struct db_entity *entity, const char *id, struct err *err)
{
    if (touched < 0 && err && err->code == ERR_EXISTS)
        return err_hint(err, "Choose another name; names are unique.");
    if (touched < 0)
        return -1;
    return touched == 0 ? nothing_changed(conn, entity, id, err) : 0;
}

static void take_id(const PGresult *r, char ret_id[IDENT_TEXT_SIZE])
{
    strncpy(ret_id, db_text(r, 0, 0), IDENT_TEXT_SIZE - 1);
    ret_id[IDENT_TEXT_SIZE - 1] = '\0';
}

static int created(
    int touched, const PGresult *r, const char *what, const char *name, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    if (touched < 0 && err && err->code == ERR_EXISTS) {
        err_set(err, ERR_EXISTS, "a %s named %s exists", what, name);
        return err_hint(err, "Choose another name, or change the one that is there.");
    }
    if (touched < 0)
        return -1;
    take_id(r, ret_id);
    return 0;
}

/* ---- sites ---- */

int site_create(struct db_conn *conn, const struct site_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err, "INSERT INTO sites (name, description) VALUES ($1, $2) RETURNING id",
        DB_S(row->name), DB_S(row->description ? row->description : ""));

    return created(n, r, "site", row->name, ret_id, err);
}

int site_update(struct db_conn *conn, const struct site_row *row, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE sites SET name = $2, description = $3" BUMP " WHERE id = $1 AND " AT_VERSION(4), DB_S(row->id),
        DB_S(row->name), DB_S(row->description ? row->description : ""), DB_U(if_version));

    return changed(conn, n, &db_sites, row->id, err);
}

static int in_use(int touched, const char *what, const char *users, struct err *err)
{
    if (touched < 0 && err && err->code == ERR_REFUSED) {
        err_set(err, ERR_REFUSED, "the %s is in use", what);
        return err_hint(err, "Give its %s another %s first.", users, what);
    }
    return touched;
}

int site_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err, "DELETE FROM sites WHERE id = $1 AND " AT_VERSION(2), DB_S(id), DB_U(if_version));

    return changed(conn, in_use(n, "site", "machines, nodes and vaults", err), &db_sites, id, err);
}

/* ---- policies ---- */

/* The unique index allows one default: take it from the one that has it. */
static int give_up_default(struct db_conn *conn, const struct policy_row *row, struct err *err)
{
    if (!row->is_default)
        return 0;
    return db_exec(conn, NULL, err,
               "UPDATE policies SET is_default = false" BUMP " WHERE is_default AND id IS DISTINCT FROM $1::uuid",
               DB_ID(row->id)) < 0
               ? -1
               : 0;
}

static const char *zone_of(const char *given)
{
    return given && given[0] ? given : "UTC";
}

/* PostgreSQL is who will be asked for the offsets of the zone. */
static int check_zone(struct db_conn *conn, const char *zone, struct err *err)
{
    int n;

    if (strcmp(zone_of(zone), "UTC") == 0)
        return 0;
    n = db_exec(conn, NULL, err, "SELECT 1 FROM pg_timezone_names WHERE name = $1", DB_S(zone));
    if (n != 0)
        return n < 0 ? -1 : 0;
    err_set(err, ERR_INVALID, "work_hours_time_zone: there is no time zone \"%.64s\"", zone);
    return err_hint(err, "Name it as in Europe/Stockholm or Asia/Shanghai.");
}

#define POLICY_VALUES(row)                                                                                             \
    DB_S((row)->name), DB_S((row)->description ? (row)->description : ""), DB_B((row)->is_default),                    \
        DB_U((row)->interval_usec), DB_U((row)->app_interval_usec), DB_U((row)->rpo_target_usec),                      \
        DB_U((row)->keep_all_usec), DB_U((row)->keep_minute_usec), DB_U((row)->keep_hour_usec),                        \
        DB_U((row)->keep_day_usec), DB_U((row)->freeze_budget_usec), DB_U((row)->max_rounds), DB_B((row)->may_freeze), \
        DB_B((row)->compress_at_agent), DB_U((row)->compress_level), DB_U((row)->throttle_bytes_per_sec),              \
        DB_U((row)->filesystem_interval_usec), DB_S((row)->work_hours ? (row)->work_hours : ""),                       \
        DB_S(zone_of((row)->work_hours_time_zone)), DB_U((row)->work_hours_throttle_bytes_per_sec),                    \
        DB_U((row)->cpu_limit_percent), DB_B((row)->yield_to_workload), DB_U((row)->keep_tagged_usec),                 \
        DB_U((row)->lock_usec)

static int policy_insert(
    struct db_conn *conn, const struct policy_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    struct policy_row fresh = *row;

    fresh.id = "";
    if (check_zone(conn, row->work_hours_time_zone, err) < 0 || give_up_default(conn, &fresh, err) < 0)
        return -1;
    int n = db_exec(conn, &r, err,
        "INSERT INTO policies (name, description, is_default, interval_usec, app_interval_usec, rpo_target_usec,"
        " keep_all_usec, keep_minute_usec, keep_hour_usec, keep_day_usec, freeze_budget_usec, max_rounds,"
        " may_freeze, compress_at_agent, compress_level, throttle_bytes_per_sec, filesystem_interval_usec,"
        " work_hours, work_hours_time_zone, work_hours_throttle_bytes_per_sec, cpu_limit_percent, yield_to_workload,"
        " keep_tagged_usec, lock_usec)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,"
        " $23, $24)"
        " RETURNING id",
        POLICY_VALUES(row));

    return created(n, r, "policy", row->name, ret_id, err);
}

/* What follows from a policy: machines that use it, and the vaults that keep their points, converge anew. */
static int policy_spread(struct db_conn *conn, const char *id, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "UPDATE machines SET desired_version = desired_version + 1 WHERE id IN"
            " (SELECT machine_id FROM protections WHERE policy_id = $1 AND active)",
            DB_S(id)) < 0 ||
        db_exec(conn, NULL, err,
            "UPDATE vaults SET desired_version = desired_version + 1 WHERE id IN"
            " (SELECT vault_id FROM protections WHERE policy_id = $1"
            " UNION SELECT c.vault_id FROM copies c JOIN protections p ON p.machine_id = c.machine_id WHERE "
            "p.policy_id = $1)",
            DB_S(id)) < 0 ||
        db_exec(conn, NULL, err,
            "UPDATE nodes SET desired_version = desired_version + 1 WHERE id IN"
            " (SELECT node_id FROM protections WHERE policy_id = $1 AND active)",
            DB_S(id)) < 0)
        return -1;
    return news_tell(conn, NEWS_DESIRED, err);
}

static int policy_change(struct db_conn *conn, const struct policy_row *row, uint64_t if_version, struct err *err)
{
    if (check_zone(conn, row->work_hours_time_zone, err) < 0 || give_up_default(conn, row, err) < 0)
        return -1;
    int n = db_exec(conn, NULL, err,
        "UPDATE policies SET name = $1, description = $2, is_default = is_default OR $3, interval_usec = $4,"
        " app_interval_usec = $5, rpo_target_usec = $6, keep_all_usec = $7, keep_minute_usec = $8,"
        " keep_hour_usec = $9, keep_day_usec = $10, freeze_budget_usec = $11, max_rounds = $12, may_freeze = $13,"
        " compress_at_agent = $14, compress_level = $15, throttle_bytes_per_sec = $16, filesystem_interval_usec = "
        "$17, work_hours = $18, work_hours_time_zone = $19, work_hours_throttle_bytes_per_sec = $20,"
        " cpu_limit_percent = $21, yield_to_workload = $22, keep_tagged_usec = $23, lock_usec = $24" BUMP
        " WHERE id = $25 AND " AT_VERSION(26),
        POLICY_VALUES(row), DB_S(row->id), DB_U(if_version));

    return changed(conn, n, &db_policies, row->id, err) < 0 ? -1 : policy_spread(conn, row->id, err);
}

/* Runs one change as a transaction of its own unless the caller has one open. */
static int in_transaction(struct db_conn *conn, bool own, int rc, struct err *err)
{
    if (!own)
        return rc;
    if (rc < 0) {
        db_rollback(conn);
        return -1;
    }
    return db_commit(conn, err);
}

static int begin_own(struct db_conn *conn, bool *ret_own, struct err *err)
{
    *ret_own = !db_in_transaction(conn);
    return *ret_own ? db_begin(conn, err) : 0;
}

int policy_create(struct db_conn *conn, const struct policy_row *row, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    bool own;

    if (begin_own(conn, &own, err) < 0)
        return -1;
    return in_transaction(conn, own, policy_insert(conn, row, ret_id, err), err);
}

int policy_update(struct db_conn *conn, const struct policy_row *row, uint64_t if_version, struct err *err)
{
    bool own;

    if (begin_own(conn, &own, err) < 0)
        return -1;
    return in_transaction(conn, own, policy_change(conn, row, if_version, err), err);
}

int policy_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, &db_policies, id, &set, err) < 0)
        return -1;
    if (db_at(&set, struct policy_row, 0)->is_default) {
        err_set(err, ERR_REFUSED, "the default policy cannot be deleted");
        return err_hint(err, "Make another policy the default first.");
    }
    int n = db_exec(conn, NULL, err, "DELETE FROM policies WHERE id = $1 AND NOT is_default AND " AT_VERSION(2),
        DB_S(id), DB_U(if_version));

    return changed(conn, in_use(n, "policy", "machines", err), &db_policies, id, err);
}

/* ---- machines ---- */

static int machine_set_policy(struct db_conn *conn, const char *id, const char *policy_id, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE protections SET policy_id = $2, updated_at = now() WHERE machine_id = $1 AND active", DB_S(id),
        DB_S(policy_id));

    if (n < 0)
        return -1;
    if (n == 0) {
        err_set(err, ERR_REFUSED, "the machine is not protected, so it has no policy");
        return err_hint(err, "Name the policy when you protect it.");
    }
    return machine_converge_anew(conn, id, err); /* the policy's other machines know it */
}

static int machine_change_row(
    struct db_conn *conn, const char *id, const struct machine_change *change, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE machines SET name = coalesce($2, name),"
        " site_id = CASE WHEN $3::text IS NULL THEN site_id ELSE nullif($3::text, '')::uuid END" BUMP
        " WHERE id = $1 AND " AT_VERSION(4),
        DB_S(id), DB_S(change->name), DB_S(change->site_id), DB_U(if_version));

    if (changed(conn, n, &db_machines, id, err) < 0)
        return -1;
    return change->policy_id ? machine_set_policy(conn, id, change->policy_id, err) : 0;
}

int machine_update(
    struct db_conn *conn, const char *id, const struct machine_change *change, uint64_t if_version, struct err *err)
{
    bool own;

    if (begin_own(conn, &own, err) < 0)
        return -1;
    return in_transaction(conn, own, machine_change_row(conn, id, change, if_version, err), err);
}

static int revoke_all(struct db_conn *conn, const char *id, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "UPDATE certificates SET revoked_at = now(), revoke_reason = 'deleted'"
            " WHERE subject_id = $1 AND revoked_at IS NULL",
            DB_S(id)) < 0)
        return -1;
    return news_tell(conn, NEWS_CERTIFICATES, err);
}

/* Its agent would lose its certificate while it writes its disks: 0 when it does not. The job's row is there before anything is written. */
static int is_receiver(struct db_conn *conn, const char *id, const char *name, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT m.name, j.id FROM jobs j JOIN machines m ON m.id = j.machine_id WHERE j.kind IN ('machine_restore', "
        "'failover_failback')"
        " AND j.status IN ('queued', 'running', 'waiting_for_input') AND lower(j.params->>'to') = $1::text LIMIT 1",
        DB_S(id));

    if (n <= 0)
        return n;
    err_set(err, ERR_REFUSED, "the disks of %s are being written with what %s holds", name, db_text(r, 0, 0));
    return err_hint(err, "Wait for that, or cancel it: leeward job cancel %s", db_text(r, 0, 1));
}

static int has_job(struct db_conn *conn, const char *id, const char *name, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT kind, id FROM jobs WHERE machine_id = $1 AND status IN ('queued', 'running', 'waiting_for_input') "
        "LIMIT 1",
        DB_S(id));

    if (n <= 0)
        return n;
    err_set(err, ERR_REFUSED, "a job of machine %s is under way: %s", name, db_text(r, 0, 0));
    return err_hint(err, "Wait for it, or cancel it: leeward job cancel %s", db_text(r, 0, 1));
}

static int has_copy(struct db_conn *conn, const char *id, const char *name, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = copy_any(conn, id, &r, err);

    if (n <= 0)
        return n;
    err_set(err, ERR_REFUSED, "the vault %s has a copy of the points of %s", db_text(r, 0, 0), name);
    return err_hint(err, "Remove it first: leeward copy remove %s %s", name, db_text(r, 0, 0));
}

/* Nobody would know of its replica any more, which would run on. */
static int has_failover(struct db_conn *conn, const char *id, const char *name, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT id, kind FROM failovers WHERE machine_id = $1 AND state IN ('starting', 'running') LIMIT 1", DB_S(id));

    if (n <= 0)
        return n;
    err_set(
        err, ERR_REFUSED, "a %s failover of machine %s is not over: its replica would run on", db_text(r, 0, 1), name);
    return err_hint(err, "End it first: leeward failover %s %s",
        strcmp(db_text(r, 0, 1), "test") == 0 ? "cleanup" : "rollback", db_text(r, 0, 0));
}

static int machine_remove(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(conn, &db_machines, id, &set, err) < 0)
        return -1;
    if (strcmp(db_at(&set, struct machine_row, 0)->state, "unprotected") != 0) {
        err_set(err, ERR_REFUSED, "machine %s is protected", db_at(&set, struct machine_row, 0)->name);
        return err_hint(err, "Unprotect it first: leeward machine unprotect %s", id);
    }
    if (has_copy(conn, id, db_at(&set, struct machine_row, 0)->name, err) < 0 ||
        is_receiver(conn, id, db_at(&set, struct machine_row, 0)->name, err) < 0 ||
        has_job(conn, id, db_at(&set, struct machine_row, 0)->name, err) < 0 ||
        has_failover(conn, id, db_at(&set, struct machine_row, 0)->name, err) < 0)
        return -1;
    int n = db_exec(conn, NULL, err, "DELETE FROM machines WHERE id = $1 AND state = 'unprotected' AND " AT_VERSION(2),
        DB_S(id), DB_U(if_version));

    if (n < 0 && err && err->code == ERR_REFUSED) {
        err_set(err, ERR_REFUSED, "the machine is in a consistency group");
        return err_hint(err, "Take it out first: leeward group remove GROUP MACHINE");
    }
    return changed(conn, n, &db_machines, id, err) < 0 ? -1 : revoke_all(conn, id, err);
}

int machine_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    bool own;

    if (begin_own(conn, &own, err) < 0)
        return -1;
    return in_transaction(conn, own, machine_remove(conn, id, if_version, err), err);
}

/* ---- nodes and vaults ---- */

int node_update(
    struct db_conn *conn, const char *id, const struct peer_change *change, uint64_t if_version, struct err *err)
{
    static const struct node_throttle none;
    const struct node_throttle *t = change->throttle ? change->throttle : &none;
    bool drain = change->drain && *change->drain;
    int n;

    if (check_zone(conn, t->work_hours_time_zone, err) < 0)
        return -1;
    n = db_exec(conn, NULL, err,
        "UPDATE nodes SET name = coalesce($2, name),"
        " site_id = CASE WHEN $3::text IS NULL THEN site_id ELSE nullif($3::text, '')::uuid END,"
        " drain = CASE WHEN $4::boolean THEN $5::boolean ELSE drain END,"
        " throttle_bytes_per_sec = CASE WHEN $6::boolean THEN $7::bigint ELSE throttle_bytes_per_sec END,"
        " machine_throttle_bytes_per_sec = CASE WHEN $6::boolean THEN $8::bigint ELSE machine_throttle_bytes_per_sec "
        "END,"
        " work_hours = CASE WHEN $6::boolean THEN $9 ELSE work_hours END,"
        " work_hours_time_zone = CASE WHEN $6::boolean THEN $10 ELSE work_hours_time_zone END,"
        " work_hours_throttle_bytes_per_sec = CASE WHEN $6::boolean THEN $11::bigint"
        " ELSE work_hours_throttle_bytes_per_sec END,"
        " desired_version = desired_version + 1" BUMP " WHERE id = $1 AND " AT_VERSION(12),
        DB_S(id), DB_S(change->name), DB_S(change->site_id), DB_B(change->drain != NULL), DB_B(drain),
        DB_B(change->throttle != NULL), DB_U(t->throttle_bytes_per_sec), DB_U(t->machine_throttle_bytes_per_sec),
        DB_S(t->work_hours ? t->work_hours : ""), DB_S(zone_of(t->work_hours_time_zone)),
        DB_U(t->work_hours_throttle_bytes_per_sec), DB_U(if_version));
    return changed(conn, n, &db_nodes, id, err) < 0 ? -1 : news_tell(conn, NEWS_DESIRED, err);
}

int vault_update(
    struct db_conn *conn, const char *id, const struct peer_change *change, uint64_t if_version, struct err *err)
{
    static const struct node_throttle none;
    const struct node_throttle *t = change->throttle ? change->throttle : &none;
    int n;

    if (check_zone(conn, t->work_hours_time_zone, err) < 0)
        return -1;
    n = db_exec(conn, NULL, err,
        "UPDATE vaults SET name = coalesce($2, name),"
        " site_id = CASE WHEN $3::text IS NULL THEN site_id ELSE nullif($3::text, '')::uuid END,"
        " throttle_bytes_per_sec = CASE WHEN $4::boolean THEN $5::bigint ELSE throttle_bytes_per_sec END,"
        " machine_throttle_bytes_per_sec = CASE WHEN $4::boolean THEN $6::bigint ELSE machine_throttle_bytes_per_sec "
        "END,"
        " work_hours = CASE WHEN $4::boolean THEN $7 ELSE work_hours END,"
        " work_hours_time_zone = CASE WHEN $4::boolean THEN $8 ELSE work_hours_time_zone END,"
        " work_hours_throttle_bytes_per_sec = CASE WHEN $4::boolean THEN $9::bigint"
        " ELSE work_hours_throttle_bytes_per_sec END,"
        " desired_version = desired_version + $4::boolean::int" BUMP " WHERE id = $1 AND " AT_VERSION(10),
        DB_S(id), DB_S(change->name), DB_S(change->site_id), DB_B(change->throttle != NULL),
        DB_U(t->throttle_bytes_per_sec), DB_U(t->machine_throttle_bytes_per_sec),
        DB_S(t->work_hours ? t->work_hours : ""), DB_S(zone_of(t->work_hours_time_zone)),
        DB_U(t->work_hours_throttle_bytes_per_sec), DB_U(if_version));
    return changed(conn, n, &db_vaults, id, err) < 0 ? -1 : news_tell(conn, NEWS_DESIRED, err);
}

static int has_machines(const char *what, struct err *err)
{
    err_set(err, ERR_REFUSED, "the %s still has machines", what);
    return err_hint(
        err, "Move its machines elsewhere or unprotect and delete them first, and remove copies of their points.");
}

static int node_remove(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err, "DELETE FROM nodes WHERE id = $1 AND " AT_VERSION(2), DB_S(id), DB_U(if_version));

    if (n < 0 && err && err->code == ERR_REFUSED)
        return has_machines("node", err);
    return changed(conn, n, &db_nodes, id, err) < 0 ? -1 : revoke_all(conn, id, err);
}

static int vault_remove(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err, "DELETE FROM vaults WHERE id = $1 AND " AT_VERSION(2), DB_S(id), DB_U(if_version));

    if (n < 0 && err && err->code == ERR_REFUSED)
        return has_machines("vault", err);
    return changed(conn, n, &db_vaults, id, err) < 0 ? -1 : revoke_all(conn, id, err);
}

int node_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    bool own;

    if (begin_own(conn, &own, err) < 0)
        return -1;
    return in_transaction(conn, own, node_remove(conn, id, if_version, err), err);
}

int vault_delete(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err)
{
    bool own;

    if (begin_own(conn, &own, err) < 0)
        return -1;
    return in_transaction(conn, own, vault_remove(conn, id, if_version, err), err);
}

/* ---- settings ---- */

int setting_get(struct db_conn *conn, const char *key, char **ret_json, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err, "SELECT value::text FROM settings WHERE key = $1", DB_S(key));

    if (n <= 0)
        return n;
    *ret_json = mem_strdup(db_text(r, 0, 0));
    return *ret_json ? 1 : err_set(err, ERR_NOMEM, "no memory for setting %s", key);
}

int setting_put(struct db_conn *conn, const char *key, const char *json, struct err *err)
{
    return db_exec(conn, NULL, err,
               "INSERT INTO settings (key, value) VALUES ($1, $2::jsonb) ON CONFLICT (key)"
               " DO UPDATE SET value = excluded.value, updated_at = now()",
               DB_S(key), DB_S(json)) < 0
               ? -1
               : 0;
}

int setting_clear(struct db_conn *conn, const char *key, struct err *err)
{
    return db_exec(conn, NULL, err, "DELETE FROM settings WHERE key = $1", DB_S(key)) < 0 ? -1 : 0;
}

int setting_list(struct db_conn *conn, PGresult **ret_rows, uint64_t *ret_version, struct err *err)
{
    int n = db_exec(conn, ret_rows, err,
        "SELECT s.key, s.value::text, v.version FROM settings_version v LEFT JOIN settings s ON true ORDER BY s.key");

    if (n > 0)
        *ret_version = db_u64(*ret_rows, 0, 2);
    return n;
}

int settings_changed(struct db_conn *conn, uint64_t if_version, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE settings_version SET version = version + 1 WHERE $1::bigint = 0 OR version = $1::bigint",
        DB_U(if_version));

    return n > 0 ? 0 : n < 0 ? -1 : err_set(err, ERR_CONFLICT, "the settings were changed meanwhile");
}
