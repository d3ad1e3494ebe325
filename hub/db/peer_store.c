/* SPDX-License-Identifier: Apache-2.0
 *
 * SQL of the control plane. Tables are named by role in one place; everything that comes from a peer is a parameter.
 */
#include "hub/db/peer_store.h"

#include <string.h>

#include "hub/core/plain_text.h"
#include "hub/db/group_store.h"
#include "hub/db/job_store.h"
#include "hub/db/news.h"

#define NAME_TRIES 1000

/* Statements by role: a table's name cannot be a parameter. */
enum role { ROLE_AGENT, ROLE_NODE, ROLE_VAULT, ROLE_COUNT };

static int role_of(const char *role)
{
    static const char *const names[ROLE_COUNT] = {"agent", "node", "vault"};

    for (int i = 0; i < ROLE_COUNT; i++)
        if (strcmp(names[i], role) == 0)
            return i;
    return -1;
}

static int unknown_role(const char *role, struct err *err)
{
    return err_set(err, ERR_INVALID, "there is no role %.20s", role);
}

static int ok(int rc)
{
    return rc < 0 ? -1 : 0;
}

/* ---- enrolment ---- */

static int insert_named(
    struct db_conn *conn, int role, const struct peer_enrolment *p, const char *name, struct err *err)
{
    static const char *const sql[ROLE_COUNT] = {
        "INSERT INTO machines (id, name, site_id, machine_uid, hostname) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (name) DO NOTHING",
        "INSERT INTO nodes (id, name, site_id, host) SELECT $1::uuid, $2, $3::uuid, $5 WHERE $4::text IS NOT NULL"
        " ON CONFLICT (name) DO NOTHING",
        "INSERT INTO vaults (id, name, site_id, host) SELECT $1::uuid, $2, $3::uuid, $5 WHERE $4::text IS NOT NULL"
        " ON CONFLICT (name) DO NOTHING",
    };

    return db_exec(conn, NULL, err, sql[role], DB_S(p->id), DB_S(name), DB_ID(p->site_id),
        DB_S(p->machine_uid ? p->machine_uid : ""), DB_S(p->name));
}

int peer_insert(struct db_conn *conn, const struct peer_enrolment *p, struct err *err)
{
    int role = role_of(p->role), n;

    if (role < 0)
        return unknown_role(p->role, err);
    for (int i = 1; i <= NAME_TRIES; i++) {
        AUTO_FREE char *name = i == 1 ? mem_strdup(p->name) : mem_printf("%.240s-%d", p->name, i);

        if (!name)
            return err_set(err, ERR_NOMEM, "no memory");
        plain_text_tidy(name);
        n = insert_named(conn, role, p, name, err);
        if (n != 0)
            return n < 0 ? -1 : 0;
    }
    return err_set(err, ERR_EXISTS, "too many %ss are named %.60s", p->role, p->name);
}

int certificate_put(struct db_conn *conn, const struct certificate_put *c, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "INSERT INTO certificates (serial, role, subject_id, subject_name, fingerprint_sha256, not_before, not_after)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        DB_S(c->serial), DB_S(c->role), DB_S(c->subject_id), DB_S(c->subject_name ? c->subject_name : ""),
        DB_S(c->fingerprint_sha256), DB_T(c->not_before), DB_T(c->not_after)));
}

int certificate_revoke(struct db_conn *conn, const char *serial, const char *reason, struct err *err)
{
    int n = db_exec(conn, NULL, err,
        "UPDATE certificates SET revoked_at = coalesce(revoked_at, now()), revoke_reason = $2 WHERE serial = $1",
        DB_S(serial), DB_S(reason));

    if (n < 0)
        return -1;
    if (n == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no certificate %.64s", serial);
    return news_tell(conn, NEWS_CERTIFICATES, err);
}

int certificate_revoked_list(struct db_conn *conn, PGresult **ret_rows, struct err *err)
{
    return db_exec(
        conn, ret_rows, err, "SELECT serial FROM certificates WHERE revoked_at IS NOT NULL AND not_after > now()");
}

/* ---- sessions ---- */

/* Who must hear of a new address: a node's machines; for a vault, the nodes that send to it and the vaults that copy from it; for an agent, its
 * group. */
static int endpoint_changed(struct db_conn *conn, int role, const char *id, struct err *err)
{
    static const char *const sql[ROLE_COUNT] = {NULL,
        "UPDATE machines SET desired_version = desired_version + 1 WHERE id IN"
        " (SELECT machine_id FROM protections WHERE node_id = $1 AND active)",
        "UPDATE nodes SET desired_version = desired_version + 1 WHERE id IN"
        " (SELECT node_id FROM protections WHERE vault_id = $1 AND active)"};

    if (!sql[role])
        return group_members_changed(conn, id, err);
    if (db_exec(conn, NULL, err, sql[role], DB_S(id)) < 0 ||
        db_exec(conn, NULL, err,
            "UPDATE vaults SET desired_version = desired_version + 1 WHERE id IN"
            " (SELECT vault_id FROM copies WHERE source_vault_id = $1)",
            DB_S(id)) < 0)
        return -1;
    return news_tell(conn, NEWS_DESIRED, err);
}

int peer_hello(struct db_conn *conn, const struct peer_hello *h, struct err *err)
{
    static const char *const sql[ROLE_COUNT] = {
        "UPDATE machines t SET online = true, last_seen_at = now(), software = $2, clock_skew_usec = $5, simulated = "
        "$6,"
        " group_endpoint = $4, hostname = CASE WHEN $3 = '' THEN hostname ELSE $3 END FROM"
        " (SELECT id, group_endpoint FROM machines WHERE id = $1 FOR NO KEY UPDATE) old"
        " WHERE t.id = old.id RETURNING old.group_endpoint <> $4",
        "UPDATE nodes t SET online = true, online_since = now(), last_seen_at = now(), software = $2, host = $3,"
        " endpoint = $4, clock_skew_usec = $5, simulated = $6 FROM"
        " (SELECT id, endpoint FROM nodes WHERE id = $1 FOR NO KEY UPDATE) old"
        " WHERE t.id = old.id RETURNING old.endpoint <> $4",
        "UPDATE vaults t SET online = true, last_seen_at = now(), software = $2, host = $3, endpoint = $4,"
        " clock_skew_usec = $5, simulated = $6 FROM"
        " (SELECT id, endpoint FROM vaults WHERE id = $1 FOR NO KEY UPDATE) old"
        " WHERE t.id = old.id RETURNING old.endpoint <> $4",
    };
    AUTO_PGRESULT PGresult *r = NULL;
    int role = role_of(h->role), n;

    if (role < 0)
        return unknown_role(h->role, err);
    n = db_exec(conn, &r, err, sql[role], DB_S(h->id), DB_S(h->software), DB_S(h->host), DB_S(h->endpoint),
        DB_I(h->clock_skew_usec), DB_B(h->simulated));
    if (n <= 0)
        return n;
    if (db_bool(r, 0, 0) && endpoint_changed(conn, role, h->id, err) < 0)
        return -1;
    if (role == ROLE_NODE && db_exec(conn, NULL, err, "UPDATE nodes SET session_hub = $2 WHERE id = $1", DB_S(h->id),
                                 DB_ID(h->hub_process)) < 0)
        return -1;
    if (role == ROLE_AGENT && job_store_wake_machine(conn, h->id, err) < 0)
        return -1;
    return 1;
}

int peer_offline(struct db_conn *conn, const char *role_name, const char *id, struct err *err)
{
    static const char *const sql[ROLE_COUNT] = {"UPDATE machines SET online = false WHERE id = $1",
        "UPDATE nodes SET online = false WHERE id = $1", "UPDATE vaults SET online = false WHERE id = $1"};
    int role = role_of(role_name);

    return role < 0 ? unknown_role(role_name, err) : ok(db_exec(conn, NULL, err, sql[role], DB_S(id)));
}

int peer_expire(struct db_conn *conn, struct err *err)
{
    static const char *const sql[ROLE_COUNT] = {
        "UPDATE machines SET online = false WHERE online AND last_seen_at < now() - interval '60 seconds'",
        "UPDATE nodes SET online = false WHERE online AND last_seen_at < now() - interval '60 seconds'",
        "UPDATE vaults SET online = false WHERE online AND last_seen_at < now() - interval '60 seconds'",
    };

    for (int i = 0; i < ROLE_COUNT; i++)
        if (db_exec(conn, NULL, err, sql[i]) < 0)
            return -1;
    return 0;
}

int peer_has_machine(struct db_conn *conn, const char *role, const char *id, const char *machine_id, struct err *err)
{
    if (strcmp(role, "agent") == 0)
        return strcmp(id, machine_id) == 0;
    return db_exec(conn, NULL, err,
        "SELECT 1 FROM protections WHERE machine_id = $3 AND (($1 = 'vault' AND vault_id = $2::uuid)"
        " OR ($1 = 'node' AND node_id = $2::uuid))"
        " UNION ALL SELECT 1 FROM copies WHERE $1 = 'vault' AND machine_id = $3 AND vault_id = $2::uuid LIMIT 1",
        DB_S(role), DB_S(id), DB_S(machine_id));
}

/* ---- inventory and status ---- */

#define DISK_COLUMNS                                                                                                   \
    "key text, device text, model text, partition_table text, size_bytes bigint, logical_sector_bytes bigint,"         \
    " physical_sector_bytes bigint, trackable boolean, not_trackable_reason text, volatile_cache boolean,"             \
    " is_root boolean, volumes jsonb"

static int inventory_disks(struct db_conn *conn, const char *machine_id, const char *json, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "INSERT INTO disks (machine_id, key, device, model, partition_table, size_bytes, logical_sector_bytes,"
            " physical_sector_bytes, trackable, not_trackable_reason, volatile_cache, is_root, volumes)"
            " SELECT DISTINCT ON (key) $1::uuid, key, device, model, partition_table, size_bytes, logical_sector_bytes,"
            " physical_sector_bytes, trackable, not_trackable_reason, volatile_cache, is_root, volumes"
            " FROM jsonb_to_recordset(($2::jsonb)->'disks') AS d(" DISK_COLUMNS ")"
            " ON CONFLICT (machine_id, key) DO UPDATE SET device = excluded.device, model = excluded.model,"
            " partition_table = excluded.partition_table, size_bytes = excluded.size_bytes,"
            " previous_size_bytes = CASE WHEN excluded.size_bytes <> disks.size_bytes THEN disks.size_bytes"
            " ELSE disks.previous_size_bytes END,"
            " resized_at = CASE WHEN excluded.size_bytes <> disks.size_bytes THEN now() ELSE disks.resized_at END,"
            " logical_sector_bytes = excluded.logical_sector_bytes,"
            " physical_sector_bytes = excluded.physical_sector_bytes, trackable = excluded.trackable,"
            " not_trackable_reason = excluded.not_trackable_reason, volatile_cache = excluded.volatile_cache,"
            " is_root = excluded.is_root, volumes = excluded.volumes, present = true, updated_at = now()",
            DB_S(machine_id), DB_S(json)) < 0)
        return -1;
    return ok(db_exec(conn, NULL, err,
        "UPDATE disks SET present = false, updated_at = now() WHERE machine_id = $1 AND present AND NOT EXISTS"
        " (SELECT 1 FROM jsonb_array_elements(($2::jsonb)->'disks') d WHERE d->>'key' = disks.key)",
        DB_S(machine_id), DB_S(json)));
}

int machine_inventory(struct db_conn *conn, const char *machine_id, const char *json, struct err *err)
{
    if (db_exec(conn, NULL, err,
            "UPDATE machines m SET hostname = i.hostname, os_name = i.os_name, kernel = i.kernel, boot_id = i.boot_id,"
            " cpus = i.cpus, memory_bytes = i.memory_bytes, firmware = i.firmware, machine_uid = i.machine_uid,"
            " addresses = i.addresses, nics = coalesce(i.nics, '[]'), rescue = coalesce(i.rescue, false), inventory_at "
            "= now(), updated_at = now()"
            " FROM jsonb_to_record($2::jsonb) AS i(hostname text, os_name text, kernel text, boot_id text, cpus bigint,"
            " memory_bytes bigint, firmware text, machine_uid text, addresses jsonb, rescue boolean, nics jsonb) WHERE "
            "m.id = $1",
            DB_S(machine_id), DB_S(json)) < 0)
        return -1;
    return inventory_disks(conn, machine_id, json, err);
}

int machine_status_put(struct db_conn *conn, const char *json, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "UPDATE machines m SET online = true, last_seen_at = now(), agent_state = s.agent_state,"
        " agent_cause = s.agent_cause, agent_remedy = s.agent_remedy, initial_total_bytes = s.initial_total_bytes,"
        " initial_done_bytes = s.initial_done_bytes, backlog_bytes = s.backlog_bytes,"
        " last_point_sequence = s.last_point_sequence, last_point_at = CASE WHEN s.last_point_usec > 0 THEN"
        " timestamptz 'epoch' + s.last_point_usec * interval '1 microsecond' END, rpo_usec = s.rpo_usec,"
        " converged_version = s.converged_version, clock_skew_usec = coalesce(s.clock_skew_usec, m.clock_skew_usec)"
        " FROM jsonb_to_recordset($1::jsonb) AS s(id uuid, agent_state text, agent_cause text, agent_remedy text,"
        " initial_total_bytes bigint, initial_done_bytes bigint, backlog_bytes bigint, last_point_sequence bigint,"
        " last_point_usec bigint, rpo_usec bigint, converged_version bigint, clock_skew_usec bigint) WHERE m.id = s.id",
        DB_S(json)));
}

int node_status_put(struct db_conn *conn, const char *json, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "UPDATE nodes n SET online = true, last_seen_at = now(), spool_bytes = s.spool_bytes,"
        " spool_limit_bytes = s.spool_limit_bytes, streams = s.streams, received_bytes = s.received_bytes,"
        " forwarded_bytes = s.forwarded_bytes, cpu_permille = s.cpu_permille, peer_cause = s.peer_cause,"
        " peer_remedy = s.peer_remedy, converged_version = s.converged_version, clock_skew_usec = "
        "coalesce(s.clock_skew_usec, n.clock_skew_usec)"
        " FROM jsonb_to_recordset($1::jsonb) AS s(id uuid, spool_bytes bigint, spool_limit_bytes bigint, streams "
        "bigint,"
        " received_bytes bigint, forwarded_bytes bigint, cpu_permille bigint, peer_cause text, peer_remedy text,"
        " converged_version bigint, clock_skew_usec bigint) WHERE n.id = s.id",
        DB_S(json)));
}

int vault_status_put(struct db_conn *conn, const char *json, struct err *err)
{
    return ok(db_exec(conn, NULL, err,
        "UPDATE vaults v SET online = true, last_seen_at = now(), used_bytes = s.used_bytes, free_bytes = s.free_bytes,"
        " capacity_bytes = s.capacity_bytes, streams = s.streams, accepting = s.accepting, peer_cause = s.peer_cause,"
        " peer_remedy = s.peer_remedy, converged_version = s.converged_version, clock_skew_usec = "
        "coalesce(s.clock_skew_usec, v.clock_skew_usec)"
        " FROM jsonb_to_recordset($1::jsonb) AS s(id uuid, used_bytes bigint, free_bytes bigint, capacity_bytes bigint,"
        " streams bigint, accepting boolean, peer_cause text, peer_remedy text, converged_version bigint, "
        "clock_skew_usec bigint)"
        " WHERE v.id = s.id",
        DB_S(json)));
}

/* ---- points and exports ---- */

/* Which machines are the vault's is looked up one by one: a join would read all protections for a handful of points, dozens of times a
 * second. */
int point_put(struct db_conn *conn, const char *vault_id, const char *added, const char *dropped, struct err *err)
{
    if (strcmp(added, "[]") != 0 &&
        db_exec(conn, NULL, err,
            "INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, tag, group_point_id, generation,"
            " changed_bytes, frozen, unreadable_blocks, unreadable_ranges, committed_at)"
            " SELECT DISTINCT ON (s.machine_id, s.sequence) s.machine_id, s.sequence, $1::uuid,"
            " timestamptz 'epoch' + s.time_usec * interval '1 microsecond', s.kind, s.tag,"
            " nullif(s.group_point_id, '')::uuid, s.generation, s.changed_bytes, s.frozen, s.unreadable_blocks,"
            " s.unreadable_ranges,"
            " timestamptz 'epoch' + s.committed_usec * interval '1 microsecond'"
            " FROM jsonb_to_recordset($2::jsonb) AS s(machine_id uuid, sequence bigint, time_usec bigint, kind text,"
            " tag text, group_point_id text, generation bigint, changed_bytes bigint, frozen boolean,"
            " unreadable_blocks bigint, committed_usec bigint, unreadable_ranges jsonb)"
            " WHERE (SELECT p.vault_id FROM protections p WHERE p.machine_id = s.machine_id) = $1::uuid"
            " ON CONFLICT (machine_id, sequence) DO NOTHING",
            DB_S(vault_id), DB_S(added)) < 0)
        return -1;
    if (strcmp(dropped, "[]") == 0)
        return 0;
    return ok(db_exec(conn, NULL, err,
        "DELETE FROM recovery_points r USING jsonb_to_recordset($2::jsonb) AS s(machine_id uuid, sequence bigint)"
        " WHERE r.machine_id = s.machine_id AND r.sequence = s.sequence AND r.vault_id = $1::uuid",
        DB_S(vault_id), DB_S(dropped)));
}

int point_unreadable(
    struct db_conn *conn, const char *machine_id, uint64_t sequence, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT u.r ->> 'disk', d.key, d.device, u.r ->> 'start_bytes', u.r ->> 'length_bytes' FROM recovery_points t"
        " CROSS JOIN LATERAL jsonb_array_elements(t.unreadable_ranges) WITH ORDINALITY u (r, n)"
        " LEFT JOIN disks d ON d.machine_id = t.machine_id AND d.number = (u.r ->> 'disk')::integer"
        " WHERE t.machine_id = $1 AND t.sequence = $2 ORDER BY u.n",
        DB_S(machine_id), DB_U(sequence));
}

int point_forget(struct db_conn *conn, const char *vault_id, const char *machine_id, struct err *err)
{
    return ok(db_exec(conn, NULL, err, "DELETE FROM recovery_points WHERE machine_id = $2 AND vault_id = $1",
        DB_S(vault_id), DB_S(machine_id)));
}

/* ---- desired state ---- */

int desired_versions(struct db_conn *conn, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT 'agent', id, desired_version FROM machines WHERE desired_version <> converged_version UNION ALL"
        " SELECT 'node', id, desired_version FROM nodes WHERE desired_version <> converged_version UNION ALL"
        " SELECT 'vault', id, desired_version FROM vaults WHERE desired_version <> converged_version");
}

int desired_agent(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT m.desired_version, m.state, m.generation, coalesce(c.interval_usec, 1000000), p.node_id,"
        " n.endpoint, p.vault_id, coalesce(c.freeze_budget_usec, 200000),"
        " coalesce(c.max_rounds, 12), coalesce(c.may_freeze, true), coalesce(c.compress_at_agent, true),"
        " coalesce(c.throttle_bytes_per_sec, 0), coalesce(p.resync_request, 0), coalesce(p.active AND NOT p.seeding, "
        "false),"
        " coalesce(c.filesystem_interval_usec, 0), coalesce(c.app_interval_usec, 0),"
        " coalesce(c.work_hours_throttle_bytes_per_sec, 0), coalesce(c.cpu_limit_percent, 0),"
        " coalesce(c.yield_to_workload, true), coalesce(c.compress_level, 1)"
        " FROM machines m LEFT JOIN protections p ON p.machine_id = m.id LEFT JOIN policies c ON c.id = p.policy_id"
        " LEFT JOIN nodes n ON n.id = p.node_id WHERE m.id = $1",
        DB_S(machine_id));
}

/* Of the row c: the offsets of its zone where they change. */
#define OFFSETS(from, condition)                                                                                       \
    "SELECT (extract(epoch FROM t) * 1000000)::bigint, seconds, work_hours FROM"                                       \
    " (SELECT h.t, h.seconds, h.work_hours, lag(h.seconds) OVER (ORDER BY h.t) AS before FROM"                         \
    " (SELECT t, c.work_hours, extract(epoch FROM (t AT TIME ZONE c.work_hours_time_zone)"                             \
    " - (t AT TIME ZONE 'UTC'))::int AS seconds FROM " from ","                                                        \
    " generate_series(date_trunc('hour', now()), now() + interval '400 days', interval '1 hour') t"                    \
    " WHERE " condition " AND c.work_hours <> '') h) changes"                                                          \
    " WHERE before IS NULL OR seconds <> before ORDER BY t"

int desired_offsets(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        OFFSETS("protections p JOIN policies c ON c.id = p.policy_id", "p.machine_id = $1"), DB_S(machine_id));
}

int desired_node_offsets(struct db_conn *conn, const char *node_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err, OFFSETS("nodes c", "c.id = $1"), DB_S(node_id));
}

int desired_vault_offsets(struct db_conn *conn, const char *vault_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err, OFFSETS("vaults c", "c.id = $1"), DB_S(vault_id));
}

int desired_disks(struct db_conn *conn, const char *machine_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT number, key FROM disks WHERE machine_id = $1 AND is_protected ORDER BY number", DB_S(machine_id));
}

int desired_node(struct db_conn *conn, const char *node_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT n.desired_version, n.drain, p.machine_id, m.generation, p.vault_id, v.endpoint, c.compress_level,"
        " coalesce(m.state = 'reverse_protected', false), n.throttle_bytes_per_sec, n.machine_throttle_bytes_per_sec,"
        " n.work_hours_throttle_bytes_per_sec, p.receiver_id"
        " FROM nodes n LEFT JOIN protections p ON (p.node_id = n.id OR p.next_node_id = n.id) AND p.active"
        " LEFT JOIN machines m ON m.id = p.machine_id LEFT JOIN vaults v ON v.id = p.vault_id"
        " LEFT JOIN policies c ON c.id = p.policy_id WHERE n.id = $1",
        DB_S(node_id));
}

/* Those that are replicated to a vault, with the vaults that copy from it, and those of which it has a copy. */
#define VAULT_MACHINES                                                                                                 \
    "SELECT p.machine_id, p.vault_id, p.policy_id,"                                                                    \
    " (SELECT coalesce(max(r.sequence), 0) FROM recovery_points r WHERE r.machine_id = p.machine_id) AS known,"        \
    " (SELECT string_agg(k.vault_id::text, ',' ORDER BY k.created_at) FROM copies k WHERE k.machine_id = p.machine_id" \
    " AND NOT k.ending"                                                                                                \
    " AND k.source_vault_id = p.vault_id) AS readers,"                                                                 \
    " NULL::uuid AS source_vault_id, NULL::text AS source_endpoint FROM protections p"                                 \
    " UNION ALL SELECT k.machine_id, k.vault_id, p.policy_id,"                                                         \
    " (SELECT coalesce(max(r.sequence), 0) FROM copy_points r WHERE r.machine_id = k.machine_id"                       \
    " AND r.vault_id = k.vault_id), NULL, k.source_vault_id, s.endpoint FROM copies k"                                 \
    " JOIN protections p ON p.machine_id = k.machine_id JOIN vaults s ON s.id = k.source_vault_id WHERE NOT k.ending"

int desired_vault(struct db_conn *conn, const char *vault_id, PGresult **ret_rows, struct err *err)
{
    return db_exec(conn, ret_rows, err,
        "SELECT v.desired_version, p.machine_id, m.name, m.generation, p.known,"
        " c.keep_all_usec, c.keep_minute_usec, c.keep_hour_usec, c.keep_day_usec, c.keep_tagged_usec, c.lock_usec,"
        " f.export_id, c.interval_usec, p.readers, p.source_vault_id, p.source_endpoint,"
        " v.throttle_bytes_per_sec, v.machine_throttle_bytes_per_sec, v.work_hours_throttle_bytes_per_sec"
        " FROM vaults v LEFT JOIN (" VAULT_MACHINES
        ") p ON p.vault_id = v.id LEFT JOIN machines m ON m.id = p.machine_id"
        " LEFT JOIN policies c ON c.id = p.policy_id"
        " LEFT JOIN failovers f ON f.machine_id = p.machine_id AND f.state = 'reprotected' AND p.source_vault_id IS "
        "NULL"
        " AND m.state IN ('reverse_replicating', 'reverse_protected') WHERE v.id = $1",
        DB_S(vault_id));
}
