/* SPDX-License-Identifier: Apache-2.0
 *
 * SQL of protection. Desired versions grow with each change that a peer must hear of; the control plane compares them with
 * what it has sent.
 */
#include "hub/db/protection_store.h"

#include <stdio.h>
#include <string.h>

#include "hub/db/disk_store.h"
#include "hub/db/job_store.h"
#include "hub/db/journal.h"
#include "hub/db/news.h"

#define CANDIDATES_LIMIT "256"

int placement_nodes_read(
    struct db_conn *conn, const char *machine_id, struct node_candidates *ret_nodes, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT n.id, n.online AND n.endpoint <> '', n.drain,"
        " n.site_id IS NOT DISTINCT FROM (SELECT site_id FROM machines WHERE id = $1),"
        " (SELECT count(*) FROM protections p WHERE p.node_id = n.id AND p.active),"
        " CASE WHEN n.spool_limit_bytes > 0 THEN n.spool_bytes * 1000 / n.spool_limit_bytes ELSE 0 END, n.cpu_permille"
        " FROM nodes n WHERE n.simulated = (SELECT simulated FROM machines WHERE id = $1) ORDER BY n.name"
        " LIMIT " CANDIDATES_LIMIT,
        DB_S(machine_id));

    if (n < 0)
        return -1;
    ret_nodes->count = (size_t)n;
    for (int i = 0; i < n; i++) {
        memcpy(ret_nodes->ids[i], db_text(r, i, 0), IDENT_TEXT_SIZE);
        ret_nodes->nodes[i] = (struct placement_node){.online = db_bool(r, i, 1),
            .drain = db_bool(r, i, 2),
            .same_site = db_bool(r, i, 3),
            .machines = db_u64(r, i, 4),
            .spool_permille = db_u64(r, i, 5),
            .cpu_permille = db_u64(r, i, 6)};
    }
    return 0;
}

int placement_vaults_read(
    struct db_conn *conn, const char *machine_id, struct vault_candidates *ret_vaults, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT v.id, v.online AND v.endpoint <> '', v.accepting,"
        " v.site_id IS DISTINCT FROM (SELECT site_id FROM machines WHERE id = $1),"
        " (SELECT count(*) FROM protections p WHERE p.vault_id = v.id AND p.active), v.free_bytes"
        " FROM vaults v WHERE v.simulated = (SELECT simulated FROM machines WHERE id = $1) ORDER BY v.name"
        " LIMIT " CANDIDATES_LIMIT,
        DB_S(machine_id));

    if (n < 0)
        return -1;
    ret_vaults->count = (size_t)n;
    for (int i = 0; i < n; i++) {
        memcpy(ret_vaults->ids[i], db_text(r, i, 0), IDENT_TEXT_SIZE);
        ret_vaults->vaults[i] = (struct placement_vault){.online = db_bool(r, i, 1),
            .accepting = db_bool(r, i, 2),
            .other_site = db_bool(r, i, 3),
            .machines = db_u64(r, i, 4),
            .free_bytes = db_u64(r, i, 5)};
    }
    return 0;
}

/* ---- desired versions ---- */

/* The machine, its node and its vault have something new to hear. */
static int spread(struct db_conn *conn, const char *machine_id, uint64_t *ret_version, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "UPDATE machines SET desired_version = desired_version + 1, version = version + 1, updated_at = now()"
        " WHERE id = $1 RETURNING desired_version",
        DB_S(machine_id));

    if (n < 0)
        return -1;
    if (n == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no machine %s", machine_id);
    if (ret_version)
        *ret_version = db_u64(r, 0, 0);
    if (db_exec(conn, NULL, err,
            "UPDATE nodes SET desired_version = desired_version + 1 WHERE id ="
            " (SELECT node_id FROM protections WHERE machine_id = $1)",
            DB_S(machine_id)) < 0 ||
        db_exec(conn, NULL, err,
            "UPDATE vaults SET desired_version = desired_version + 1 WHERE id IN"
            " (SELECT vault_id FROM protections WHERE machine_id = $1"
            " UNION SELECT vault_id FROM copies WHERE machine_id = $1)",
            DB_S(machine_id)) < 0)
        return -1;
    return news_tell(conn, NEWS_DESIRED, err);
}

/* ---- protections ---- */

int protection_put(struct db_conn *conn, const struct protection *p, uint64_t *ret_version, struct err *err)
{
    int disks = disk_store_choose(conn, p->machine_id, p->disks_json, err), n;

    if (disks < 0)
        return -1;
    if (disks == 0) {
        err_set(err, ERR_REFUSED, "the machine has no disk that can be protected");
        return err_hint(err, "List its disks with the reasons: leeward machine show");
    }
    n = db_exec(conn, NULL, err,
        "INSERT INTO protections (machine_id, policy_id, node_id, vault_id, seeding) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (machine_id) DO UPDATE SET policy_id = $2, node_id = $3, active = true, seeding = $5,"
        " enabled_at = CASE WHEN protections.active THEN protections.enabled_at ELSE now() END, updated_at = now() "
        "WHERE protections.vault_id = $4",
        DB_S(p->machine_id), DB_S(p->policy_id), DB_S(p->node_id), DB_S(p->vault_id), DB_B(p->seeding));
    if (n < 0)
        return -1;
    if (n == 0) {
        err_set(err, ERR_REFUSED, "the machine's points are in another vault");
        return err_hint(err, "Leave the vault out: it goes on in the one it has.");
    }
    return spread(conn, p->machine_id, ret_version, err) < 0 ? -1 : disks;
}

#define SELECT_DISKS "SELECT number, size_bytes, logical_sector_bytes, device, key FROM disks WHERE machine_id = $1"

int protection_disks(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err, SELECT_DISKS " AND is_protected ORDER BY number", DB_S(machine_id));
}

int protection_disks_numbered(
    struct db_conn *conn, const char *machine_id, const char *numbers_json, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        SELECT_DISKS " AND to_jsonb(number) IN (SELECT jsonb_array_elements($2::jsonb)) ORDER BY number",
        DB_S(machine_id), DB_S(numbers_json));
}

int protection_seeded(struct db_conn *conn, const char *machine_id, uint64_t *ret_version, struct err *err)
{
    return db_exec(conn, NULL, err, "UPDATE protections SET seeding = false, updated_at = now() WHERE machine_id = $1",
               DB_S(machine_id)) < 0
               ? -1
               : spread(conn, machine_id, ret_version, err);
}

int protection_vault_knows(struct db_conn *conn, const char *machine_id, struct err *err)
{
    return db_exec(conn, NULL, err,
        "SELECT 1 FROM vaults v JOIN protections p ON p.vault_id = v.id"
        " WHERE p.machine_id = $1 AND v.online AND v.converged_version >= v.desired_version",
        DB_S(machine_id));
}

int protection_node_knows(struct db_conn *conn, const char *machine_id, struct err *err)
{
    return db_exec(conn, NULL, err,
        "SELECT 1 FROM nodes n JOIN protections p ON p.node_id = n.id"
        " WHERE p.machine_id = $1 AND n.online AND n.converged_version >= n.desired_version",
        DB_S(machine_id));
}

int protection_kept_point(
    struct db_conn *conn, const char *machine_id, uint64_t sequence, struct kept_point *ret_kept, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err,
        "SELECT (SELECT max(sequence) FROM recovery_points WHERE machine_id = $1), k.sequence,"
        " to_char(k.time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"'),"
        " coalesce((SELECT justify_hours(make_interval(secs => c.lock_usec / 1000000))::text FROM protections p"
        " JOIN policies c ON c.id = p.policy_id WHERE p.machine_id = $1 AND p.active AND c.lock_usec > 0), '')"
        " FROM recovery_points k WHERE k.machine_id = $1 ORDER BY abs(k.sequence - $2::bigint), k.sequence DESC"
        " LIMIT 1",
        DB_S(machine_id), DB_U(sequence));

    if (n <= 0)
        return n;
    *ret_kept = (struct kept_point){.newest = db_u64(r, 0, 0), .nearest = db_u64(r, 0, 1)};
    (void)snprintf(ret_kept->time, sizeof(ret_kept->time), "%s", db_text(r, 0, 2));
    (void)snprintf(ret_kept->lock, sizeof(ret_kept->lock), "%s", db_text(r, 0, 3));
    return 1;
}

int protection_vault(struct db_conn *conn, const char *machine_id, char ret_vault_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err, "SELECT vault_id FROM protections WHERE machine_id = $1", DB_S(machine_id));

    if (n > 0)
        memcpy(ret_vault_id, db_text(r, 0, 0), IDENT_TEXT_SIZE);
    return n;
}

int machine_convergence(
    struct db_conn *conn, const char *machine_id, uint64_t *ret_reached, bool *ret_online, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int n = db_exec(conn, &r, err, "SELECT converged_version, online FROM machines WHERE id = $1", DB_S(machine_id));

    if (n < 0)
        return -1;
    if (n == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no machine %s", machine_id);
    *ret_reached = db_u64(r, 0, 0);
    *ret_online = db_bool(r, 0, 1);
    return 0;
}

int protection_end(struct db_conn *conn, const char *machine_id, uint64_t *ret_version, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "UPDATE protections SET active = false, seeding = false, updated_at = now() WHERE machine_id = $1",
            DB_S(machine_id)) < 0 ||
        db_exec(conn, NULL, err,
            "UPDATE disks SET is_protected = false, version = version + 1 WHERE machine_id = $1 AND is_protected",
            DB_S(machine_id)) < 0)
        return -1;
    return spread(conn, machine_id, ret_version, err);
}

int protection_forget(struct db_conn *conn, const char *machine_id, struct err *err)
{
    if (spread(conn, machine_id, NULL, err) < 0 ||
        db_exec(conn, NULL, err, "DELETE FROM recovery_points WHERE machine_id = $1", DB_S(machine_id)) < 0 ||
        db_exec(conn, NULL, err, "DELETE FROM integrity WHERE machine_id = $1", DB_S(machine_id)) < 0)
        return -1;
    return db_exec(conn, NULL, err, "DELETE FROM protections WHERE machine_id = $1", DB_S(machine_id)) < 0 ? -1 : 0;
}

int protection_disks_add(
    struct db_conn *conn, const char *machine_id, const char *disks_json, uint64_t *ret_version, struct err *err)
{
    int disks = disk_store_add(conn, machine_id, disks_json, err);

    return disks < 0 || spread(conn, machine_id, ret_version, err) < 0 ? -1 : disks;
}

int protection_disks_exclude(
    struct db_conn *conn, const char *machine_id, const char *disks_json, uint64_t *ret_version, struct err *err)
{
    int disks = disk_store_exclude(conn, machine_id, disks_json, err);

    return disks < 0 || spread(conn, machine_id, ret_version, err) < 0 ? -1 : disks;
}

int machine_converge_anew(struct db_conn *conn, const char *machine_id, struct err *err)
{
    return spread(conn, machine_id, NULL, err);
}

int protection_resync(struct db_conn *conn, const char *machine_id, uint64_t *ret_version, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE protections SET resync_request = resync_request + 1 WHERE machine_id = $1 AND active",
        DB_S(machine_id));

    if (n < 0)
        return -1;
    if (n == 0) {
        err_set(err, ERR_REFUSED, "machine %s is not protected", machine_id);
        return err_hint(err, "Protect it first: leeward machine protect");
    }
    return spread(conn, machine_id, ret_version, err);
}

/* ---- states ---- */

/* The agent has reached what was last asked of it, so its words are about that. */
static int is_converged(struct db_conn *conn, const char *machine_id, struct err *err)
{
    return db_exec(conn, NULL, err, "SELECT 1 FROM machines WHERE id = $1 AND converged_version >= desired_version",
        DB_S(machine_id));
}

static int state_read(struct db_conn *conn, const char *machine_id, enum machine_state *ret_state, struct err *err)
{
    AUTO_PGRESULT PGresult *r = NULL;
    int state,
        n = db_exec(conn, &r, err, "SELECT state FROM machines WHERE id = $1 FOR NO KEY UPDATE", DB_S(machine_id));

    if (n < 0)
        return -1;
    if (n == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no machine %s", machine_id);
    state = machine_state_from_name(db_text(r, 0, 0));
    if (state < 0)
        return err_set(err, ERR_INTERNAL, "machine %s has an unknown state", machine_id);
    *ret_state = (enum machine_state)state;
    return 0;
}

static int state_write(struct db_conn *conn, const char *machine_id, enum machine_state from, enum machine_state to,
    enum machine_move move, const char *actor, struct err *err)
{
    const struct event_spec event = {.severity = "info",
        .code = "machine_state",
        .values = TEXT_VALUES(VALUE_TEXT("move", machine_move_name(move)), VALUE_TEXT("from", machine_state_name(from)),
            VALUE_TEXT("to", machine_state_name(to))),
        .machine_id = machine_id,
        .actor = actor};

    if (db_exec(conn, NULL, err,
            "UPDATE machines SET state = $2, version = version + 1, updated_at = now() WHERE id = $1", DB_S(machine_id),
            DB_S(machine_state_name(to))) < 0 ||
        job_store_wake_machine(conn, machine_id, err) < 0)
        return -1;
    return event_append(conn, &event, err);
}

int machine_state_move(struct db_conn *conn, const char *machine_id, enum machine_move move, const char *actor,
    enum machine_state *ret_to, struct err *err)
{
    enum machine_state from, to;

    if (state_read(conn, machine_id, &from, err) < 0 || machine_move(from, move, &to, err) < 0)
        return -1;
    if (ret_to)
        *ret_to = to;
    return to == from ? 0 : state_write(conn, machine_id, from, to, move, actor, err);
}

int machine_state_follow(
    struct db_conn *conn, const char *machine_id, const char *agent_state, bool has_point, struct err *err)
{
    enum machine_state from, to;
    enum machine_move move;
    int converged;

    if (state_read(conn, machine_id, &from, err) < 0)
        return -1;
    if (!machine_move_from_agent(from, agent_state, has_point, &move) || machine_move(from, move, &to, NULL) < 0)
        return 0;
    if ((converged = is_converged(conn, machine_id, err)) <= 0)
        return converged;
    return state_write(conn, machine_id, from, to, move, "agent", err) < 0 ? -1 : 1;
}
