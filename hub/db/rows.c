/* SPDX-License-Identifier: Apache-2.0
 *
 * The entities: which expression fills which member, and what may be filtered and sorted. Tables only.
 */
#include "hub/db/rows.h"

#include "hub/db/point_age.h"

#define F DB_FILTER
#define S DB_SORT
#define N DB_NOT_NULL

#define COL_(row, member, field_, sql_, type_, flags_, cast_)                                                          \
    {                                                                                                                  \
        .field = (field_), .sql = (sql_), .type = (type_), .flags = (flags_), .offset = offsetof(struct row, member),  \
        .param_cast = (cast_)                                                                                          \
    }
#define ID(row, member, sql, flags) COL_(row, member, #member, sql, DB_COL_TEXT, flags, "uuid")
#define TEXT(row, member, sql, flags) COL_(row, member, #member, sql, DB_COL_TEXT, flags, "text")
#define JSON(row, member, sql) COL_(row, member, #member, sql, DB_COL_TEXT, 0, "text")
#define U64(row, member, sql, flags) COL_(row, member, #member, sql, DB_COL_U64, flags, NULL)
#define I64(row, member, sql, flags) COL_(row, member, #member, sql, DB_COL_I64, flags, NULL)
#define BOOL(row, member, sql, flags) COL_(row, member, #member, sql, DB_COL_BOOL, flags, NULL)
#define TIME(row, member, sql, flags) COL_(row, member, #member, sql, DB_COL_TIME, flags, NULL)

#define ENTITY(name_, row_, columns_, from_, key_, cast_, by_name_, sort_)                                             \
    {                                                                                                                  \
        .name = (name_), .from = (from_), .columns = (columns_), .column_count = ARRAY_LEN(columns_),                  \
        .row_size = sizeof(struct row_), .key_sql = (key_), .key_cast = (cast_), .name_sql = (by_name_),               \
        .default_sort = (sort_)                                                                                        \
    }

/* A peer that has not been heard for this long is offline, whatever the column says: the hub may have been down. */
#define ONLINE(t) "(" t ".online AND " t ".last_seen_at > now() - interval '60 seconds')"

static const struct db_column site_columns[] = {
    ID(site_row, id, "t.id", F),
    TEXT(site_row, name, "t.name", F | S | N),
    TEXT(site_row, description, "t.description", 0),
    U64(site_row, version, "t.version", 0),
    TIME(site_row, created_at, "t.created_at", F | S | N),
    TIME(site_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_sites = ENTITY("site", site_row, site_columns, "sites t", "t.id", "uuid", "t.name", "name");

static const struct db_column policy_columns[] = {
    ID(policy_row, id, "t.id", F),
    TEXT(policy_row, name, "t.name", F | S | N),
    TEXT(policy_row, description, "t.description", 0),
    BOOL(policy_row, is_default, "t.is_default", F | S | N),
    U64(policy_row, interval_usec, "t.interval_usec", F | S | N),
    U64(policy_row, filesystem_interval_usec, "t.filesystem_interval_usec", 0),
    U64(policy_row, app_interval_usec, "t.app_interval_usec", 0),
    U64(policy_row, rpo_target_usec, "t.rpo_target_usec", F | S | N),
    U64(policy_row, keep_all_usec, "t.keep_all_usec", F | S | N),
    U64(policy_row, keep_minute_usec, "t.keep_minute_usec", 0),
    U64(policy_row, keep_hour_usec, "t.keep_hour_usec", 0),
    U64(policy_row, keep_day_usec, "t.keep_day_usec", 0),
    U64(policy_row, keep_tagged_usec, "t.keep_tagged_usec", 0),
    U64(policy_row, lock_usec, "t.lock_usec", 0),
    U64(policy_row, freeze_budget_usec, "t.freeze_budget_usec", 0),
    U64(policy_row, max_rounds, "t.max_rounds", 0),
    BOOL(policy_row, may_freeze, "t.may_freeze", F),
    BOOL(policy_row, compress_at_agent, "t.compress_at_agent", F),
    U64(policy_row, compress_level, "t.compress_level", 0),
    U64(policy_row, throttle_bytes_per_sec, "t.throttle_bytes_per_sec", 0),
    TEXT(policy_row, work_hours, "t.work_hours", 0),
    TEXT(policy_row, work_hours_time_zone, "t.work_hours_time_zone", 0),
    U64(policy_row, work_hours_throttle_bytes_per_sec, "t.work_hours_throttle_bytes_per_sec", 0),
    U64(policy_row, cpu_limit_percent, "t.cpu_limit_percent", 0),
    BOOL(policy_row, yield_to_workload, "t.yield_to_workload", F),
    U64(policy_row, machine_count, "(SELECT count(*) FROM protections p WHERE p.policy_id = t.id AND p.active)", S | N),
    U64(policy_row, version, "t.version", 0),
    TIME(policy_row, created_at, "t.created_at", F | S | N),
    TIME(policy_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_policies =
    ENTITY("policy", policy_row, policy_columns, "policies t", "t.id", "uuid", "t.name", "name");

/* Of a copy t. */
#define COPY_STATE                                                                                                     \
    "CASE WHEN t.ending THEN 'ending' WHEN t.cause <> '' THEN 'failing' WHEN t.source_sequence = 0 THEN 'initial'"     \
    " ELSE 'following' END"
#define COPY_BEHIND_USEC                                                                                               \
    "coalesce((SELECT (extract(epoch FROM greatest(r.time - t.point_time, interval '0')) * 1000000)::bigint"           \
    " FROM recovery_points r WHERE r.machine_id = t.machine_id ORDER BY r.sequence DESC LIMIT 1), 0)"
/* Of a machine m: each as a MachineCopy of the API. */
#define MACHINE_COPIES                                                                                                 \
    "(SELECT coalesce(json_agg(json_build_object('vault_id', t.vault_id, 'vault_name', x.name, 'state', " COPY_STATE   \
    ", 'behind_seconds', CASE WHEN t.source_sequence > 0 THEN " COPY_BEHIND_USEC " / 1000000::float8 END)"             \
    " ORDER BY x.name), '[]')::text FROM copies t JOIN vaults x ON x.id = t.vault_id WHERE t.machine_id = m.id)"

static const struct db_column machine_columns[] = {
    ID(machine_row, id, "m.id", F),
    TEXT(machine_row, name, "m.name", F | S | N),
    TEXT(machine_row, machine_uid, "m.machine_uid", F),
    ID(machine_row, site_id, "m.site_id", F),
    TEXT(machine_row, site_name, "s.name", F | S),
    TEXT(machine_row, state, "m.state", F | S | N),
    TEXT(machine_row, cause_code, "m.cause_code", F | S | N),
    TEXT(machine_row, cause, "m.cause", F),
    TEXT(machine_row, remedy, "m.remedy", 0),
    JSON(machine_row, cause_values_json, "m.cause_values::text"),
    TEXT(machine_row, health, "m.health", F | S | N),
    ID(machine_row, policy_id, "p.policy_id", F),
    TEXT(machine_row, policy_name, "pol.name", F | S),
    ID(machine_row, node_id, "p.node_id", F),
    TEXT(machine_row, node_name, "n.name", F | S),
    ID(machine_row, pinned_node_id, "p.pinned_node_id", F),
    ID(machine_row, vault_id, "p.vault_id", F),
    TEXT(machine_row, vault_name, "v.name", F | S),
    JSON(machine_row, copies_json, MACHINE_COPIES),
    TEXT(machine_row, os_name, "m.os_name", F | S | N),
    TEXT(machine_row, kernel, "m.kernel", F | S | N),
    TEXT(machine_row, boot_id, "m.boot_id", 0),
    TEXT(machine_row, firmware, "m.firmware", F),
    TEXT(machine_row, software, "m.software", F | S | N),
    TEXT(machine_row, hostname, "m.hostname", F | S | N),
    JSON(machine_row, addresses_json, "m.addresses::text"),
    U64(machine_row, cpus, "m.cpus", F | S | N),
    U64(machine_row, memory_bytes, "m.memory_bytes", F | S | N),
    BOOL(machine_row, online, ONLINE("m"), F | S),
    BOOL(machine_row, simulated, "m.simulated", F | S | N),
    BOOL(machine_row, rescue, "m.rescue", F | S | N),
    TIME(machine_row, last_seen_at, "m.last_seen_at", F | S),
    TIME(machine_row, inventory_at, "m.inventory_at", F | S),
    I64(machine_row, clock_skew_usec, "m.clock_skew_usec", F | S | N),
    I64(machine_row, point_skew_usec, POINT_SKEW("m"), 0),
    BOOL(machine_row, has_rpo, RPO_COUNTS, 0),
    U64(machine_row, generation, "m.generation", F),
    U64(machine_row, desired_version, "m.desired_version", 0),
    TEXT(machine_row, agent_state, "m.agent_state", F | S | N),
    U64(machine_row, rpo_target_usec, "coalesce(pol.rpo_target_usec, 0)", F | S | N),
    U64(machine_row, damage_count,
        "coalesce((SELECT (i.report->>'damage_count')::bigint FROM integrity i WHERE i.machine_id = m.id), 0)", S | N),
    U64(machine_row, initial_total_bytes, "m.initial_total_bytes", S | N),
    U64(machine_row, initial_done_bytes, "m.initial_done_bytes", S | N),
    U64(machine_row, backlog_bytes, "m.backlog_bytes", F | S | N),
    U64(machine_row, last_point_sequence, "m.last_point_sequence", F | S | N),
    TIME(machine_row, last_point_at, "m.last_point_at", F | S),
    U64(machine_row, rpo_usec, "m.rpo_usec", F | S | N),
    U64(machine_row, disk_count, "(SELECT count(*) FROM disks d WHERE d.machine_id = m.id AND d.present)", 0),
    U64(machine_row, protected_disk_count,
        "(SELECT count(*) FROM disks d WHERE d.machine_id = m.id AND d.is_protected)", 0),
    U64(machine_row, version, "m.version", 0),
    TIME(machine_row, created_at, "m.created_at", F | S | N),
    TIME(machine_row, updated_at, "m.updated_at", F | S | N),
};
const struct db_entity db_machines = ENTITY("machine", machine_row, machine_columns,
    "machines m LEFT JOIN sites s ON s.id = m.site_id"
    " LEFT JOIN protections p ON p.machine_id = m.id AND p.active"
    " LEFT JOIN policies pol ON pol.id = p.policy_id"
    " LEFT JOIN nodes n ON n.id = p.node_id LEFT JOIN vaults v ON v.id = p.vault_id",
    "m.id", "uuid", "m.name", "name");

static const struct db_column machine_mapping_columns[] = {
    ID(machine_mapping_row, machine_id, "m.id", F),
    TEXT(machine_mapping_row, machine_name, "m.name", F | S | N),
    JSON(machine_mapping_row, mapping_json, "m.mapping::text"),
    ID(machine_mapping_row, site_id, "m.site_id", F),
    TEXT(machine_mapping_row, site_name, "s.name", F | S),
    JSON(machine_mapping_row, site_mapping_json, "coalesce(s.mapping, '{}')::text"),
    JSON(machine_mapping_row, nics_json, "m.nics::text"),
    JSON(machine_mapping_row, addresses_json, "m.addresses::text"),
    U64(machine_mapping_row, version, "m.mapping_version", 0),
    TIME(machine_mapping_row, updated_at, "m.mapping_updated_at", 0),
};
const struct db_entity db_machine_mappings = ENTITY("machine", machine_mapping_row, machine_mapping_columns,
    "machines m LEFT JOIN sites s ON s.id = m.site_id", "m.id", "uuid", "m.name", "machine_name");

static const struct db_column site_mapping_columns[] = {
    ID(site_mapping_row, site_id, "t.id", F),
    TEXT(site_mapping_row, site_name, "t.name", F | S | N),
    JSON(site_mapping_row, mapping_json, "t.mapping::text"),
    U64(site_mapping_row, version, "t.mapping_version", 0),
    TIME(site_mapping_row, updated_at, "t.mapping_updated_at", 0),
};
const struct db_entity db_site_mappings =
    ENTITY("site", site_mapping_row, site_mapping_columns, "sites t", "t.id", "uuid", "t.name", "site_name");

static const struct db_column disk_columns[] = {
    ID(disk_row, id, "t.id", F),
    ID(disk_row, machine_id, "t.machine_id", F),
    TEXT(disk_row, key, "t.key", F | S | N),
    TEXT(disk_row, device, "t.device", F | S | N),
    TEXT(disk_row, model, "t.model", F | S | N),
    TEXT(disk_row, partition_table, "t.partition_table", F),
    I64(disk_row, number, "coalesce(t.number, -1)", F | S | N),
    U64(disk_row, size_bytes, "t.size_bytes", F | S | N),
    I64(disk_row, previous_size_bytes, "coalesce(t.previous_size_bytes, -1)", 0),
    TIME(disk_row, resized_at, "t.resized_at", F | S),
    U64(disk_row, logical_sector_bytes, "t.logical_sector_bytes", F),
    U64(disk_row, physical_sector_bytes, "t.physical_sector_bytes", F),
    BOOL(disk_row, trackable, "t.trackable", F | S | N),
    TEXT(disk_row, not_trackable_reason, "t.not_trackable_reason", 0),
    BOOL(disk_row, volatile_cache, "t.volatile_cache", F),
    BOOL(disk_row, is_root, "t.is_root", F),
    BOOL(disk_row, present, "t.present", F),
    BOOL(disk_row, is_protected, "t.is_protected", F | S | N),
    JSON(disk_row, volumes_json, "t.volumes::text"),
    U64(disk_row, version, "t.version", 0),
    TIME(disk_row, created_at, "t.created_at", F | S | N),
    TIME(disk_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_disks = ENTITY("disk", disk_row, disk_columns, "disks t", "t.id", "uuid", "t.key", "device");

static const struct db_column node_columns[] = {
    ID(node_row, id, "t.id", F),
    TEXT(node_row, name, "t.name", F | S | N),
    ID(node_row, site_id, "t.site_id", F),
    TEXT(node_row, site_name, "s.name", F | S),
    TEXT(node_row, endpoint, "t.endpoint", F | S | N),
    TEXT(node_row, software, "t.software", F | S | N),
    TEXT(node_row, host, "t.host", F | S | N),
    BOOL(node_row, online, ONLINE("t"), F | S),
    BOOL(node_row, simulated, "t.simulated", F | S | N),
    BOOL(node_row, drain, "t.drain", F | S | N),
    TEXT(node_row, health, "t.health", F | S | N),
    TEXT(node_row, cause_code, "t.cause_code", F | S | N),
    TEXT(node_row, cause, "t.cause", F),
    TEXT(node_row, remedy, "t.remedy", 0),
    JSON(node_row, cause_values_json, "t.cause_values::text"),
    TIME(node_row, last_seen_at, "t.last_seen_at", F | S),
    U64(node_row, spool_bytes, "t.spool_bytes", F | S | N),
    U64(node_row, spool_limit_bytes, "t.spool_limit_bytes", S | N),
    U64(node_row, streams, "t.streams", F | S | N),
    U64(node_row, received_bytes, "t.received_bytes", S | N),
    U64(node_row, forwarded_bytes, "t.forwarded_bytes", S | N),
    U64(node_row, cpu_permille, "t.cpu_permille", F | S | N),
    U64(node_row, throttle_bytes_per_sec, "t.throttle_bytes_per_sec", 0),
    U64(node_row, machine_throttle_bytes_per_sec, "t.machine_throttle_bytes_per_sec", 0),
    TEXT(node_row, work_hours, "t.work_hours", 0),
    TEXT(node_row, work_hours_time_zone, "t.work_hours_time_zone", 0),
    U64(node_row, work_hours_throttle_bytes_per_sec, "t.work_hours_throttle_bytes_per_sec", 0),
    U64(node_row, machine_count, "(SELECT count(*) FROM protections p WHERE p.node_id = t.id AND p.active)", S | N),
    I64(node_row, clock_skew_usec, "t.clock_skew_usec", N),
    U64(node_row, desired_version, "t.desired_version", 0),
    U64(node_row, version, "t.version", 0),
    TIME(node_row, created_at, "t.created_at", F | S | N),
    TIME(node_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_nodes = ENTITY(
    "node", node_row, node_columns, "nodes t LEFT JOIN sites s ON s.id = t.site_id", "t.id", "uuid", "t.name", "name");

static const struct db_column vault_columns[] = {
    ID(vault_row, id, "t.id", F),
    TEXT(vault_row, name, "t.name", F | S | N),
    ID(vault_row, site_id, "t.site_id", F),
    TEXT(vault_row, site_name, "s.name", F | S),
    TEXT(vault_row, endpoint, "t.endpoint", F | S | N),
    TEXT(vault_row, software, "t.software", F | S | N),
    TEXT(vault_row, host, "t.host", F | S | N),
    BOOL(vault_row, online, ONLINE("t"), F | S),
    BOOL(vault_row, simulated, "t.simulated", F | S | N),
    BOOL(vault_row, accepting, "t.accepting", F | S | N),
    TEXT(vault_row, health, "t.health", F | S | N),
    TEXT(vault_row, cause_code, "t.cause_code", F | S | N),
    TEXT(vault_row, cause, "t.cause", F),
    TEXT(vault_row, remedy, "t.remedy", 0),
    JSON(vault_row, cause_values_json, "t.cause_values::text"),
    TIME(vault_row, last_seen_at, "t.last_seen_at", F | S),
    U64(vault_row, used_bytes, "t.used_bytes", F | S | N),
    U64(vault_row, free_bytes, "t.free_bytes", F | S | N),
    U64(vault_row, capacity_bytes, "t.capacity_bytes", F | S | N),
    U64(vault_row, streams, "t.streams", F | S | N),
    U64(vault_row, throttle_bytes_per_sec, "t.throttle_bytes_per_sec", 0),
    U64(vault_row, machine_throttle_bytes_per_sec, "t.machine_throttle_bytes_per_sec", 0),
    TEXT(vault_row, work_hours, "t.work_hours", 0),
    TEXT(vault_row, work_hours_time_zone, "t.work_hours_time_zone", 0),
    U64(vault_row, work_hours_throttle_bytes_per_sec, "t.work_hours_throttle_bytes_per_sec", 0),
    U64(vault_row, machine_count, "(SELECT count(*) FROM protections p WHERE p.vault_id = t.id AND p.active)", S | N),
    I64(vault_row, clock_skew_usec, "t.clock_skew_usec", N),
    U64(vault_row, desired_version, "t.desired_version", 0),
    U64(vault_row, version, "t.version", 0),
    TIME(vault_row, created_at, "t.created_at", F | S | N),
    TIME(vault_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_vaults = ENTITY("vault", vault_row, vault_columns,
    "vaults t LEFT JOIN sites s ON s.id = t.site_id", "t.id", "uuid", "t.name", "name");

static const struct db_column point_columns[] = {
    TEXT(point_row, key, "t.machine_id::text || ':' || t.sequence", 0),
    ID(point_row, machine_id, "t.machine_id", F),
    TEXT(point_row, kind, "t.kind", F | S | N),
    TEXT(point_row, tag, "t.tag", F | S | N),
    /* A group point that is not complete is none. */
    ID(point_row, group_point_id, "CASE WHEN group_point_is_complete(t.group_point_id) THEN t.group_point_id END", F),
    ID(point_row, vault_id, "t.vault_id", F),
    U64(point_row, sequence, "t.sequence", F | S | N),
    TIME(point_row, time, "t.time", F | S | N),
    U64(point_row, generation, "t.generation", F | S | N),
    U64(point_row, changed_bytes, "t.changed_bytes", F | S | N),
    U64(point_row, unreadable_blocks, "t.unreadable_blocks", F),
    TIME(point_row, committed_at, "t.committed_at", F | S | N),
    BOOL(point_row, frozen, "t.frozen", F),
};
const struct db_entity db_points = ENTITY("point", point_row, point_columns, "recovery_points t",
    "(t.machine_id::text || ':' || t.sequence)", "text", NULL, "-sequence");

static const struct db_column copy_columns[] = {
    TEXT(copy_row, key, "t.machine_id::text || ':' || t.vault_id", 0),
    ID(copy_row, machine_id, "t.machine_id", F),
    TEXT(copy_row, machine_name, "m.name", F | S | N),
    ID(copy_row, vault_id, "t.vault_id", F),
    TEXT(copy_row, vault_name, "v.name", F | S | N),
    ID(copy_row, source_vault_id, "t.source_vault_id", F),
    TEXT(copy_row, source_vault_name, "(SELECT s.name FROM vaults s WHERE s.id = t.source_vault_id)", 0),
    TEXT(copy_row, state, COPY_STATE, F | S | N),
    TEXT(copy_row, cause, "t.cause", 0),
    TEXT(copy_row, remedy, "t.remedy", 0),
    TEXT(copy_row, created_by, "t.created_by", F),
    U64(copy_row, source_sequence, "t.source_sequence", S | N),
    U64(copy_row, sequence, "t.sequence", S | N),
    TIME(copy_row, point_time, "t.point_time", F | S),
    U64(copy_row, point_count,
        "(SELECT count(*) FROM copy_points p WHERE p.machine_id = t.machine_id AND p.vault_id = t.vault_id)", S | N),
    U64(copy_row, behind_usec, COPY_BEHIND_USEC, S | N),
    U64(copy_row, taken_bytes, "t.taken_bytes", S | N),
    U64(copy_row, traffic_bytes, "t.traffic_bytes", S | N),
    U64(copy_row, progress_permille, "t.progress_permille", 0),
    TIME(copy_row, created_at, "t.created_at", F | S | N),
    TIME(copy_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_copies = ENTITY("copy", copy_row, copy_columns,
    "copies t JOIN machines m ON m.id = t.machine_id JOIN vaults v ON v.id = t.vault_id",
    "(t.machine_id::text || ':' || t.vault_id)", "text", NULL, "vault_name");

static const struct db_column copy_point_columns[] = {
    TEXT(copy_point_row, key, "t.machine_id::text || ':' || t.vault_id || ':' || t.sequence", 0),
    TEXT(copy_point_row, copy_key, "t.machine_id::text || ':' || t.vault_id", F),
    ID(copy_point_row, machine_id, "t.machine_id", F),
    ID(copy_point_row, vault_id, "t.vault_id", F),
    TEXT(copy_point_row, kind, "t.kind", F | S | N),
    TEXT(copy_point_row, tag, "t.tag", F | S | N),
    U64(copy_point_row, sequence, "t.sequence", F | S | N),
    TIME(copy_point_row, time, "t.time", F | S | N),
    U64(copy_point_row, generation, "t.generation", F | S | N),
    U64(copy_point_row, changed_bytes, "t.changed_bytes", F | S | N),
    TIME(copy_point_row, committed_at, "t.committed_at", F | S | N),
};
const struct db_entity db_copy_points = ENTITY("point", copy_point_row, copy_point_columns, "copy_points t",
    "(t.machine_id::text || ':' || t.vault_id || ':' || t.sequence)", "text", NULL, "-sequence");

/* The name of a machine that may be gone. */
#define NAME_OF(id) "(SELECT n.name FROM machines n WHERE n.id = " id ")"
#define COORDINATOR                                                                                                    \
    "(SELECT c.machine_id FROM consistency_group_members c WHERE c.group_id = t.id ORDER BY c.position LIMIT 1)"

static const struct db_column group_columns[] = {
    ID(group_row, id, "t.id", F),
    TEXT(group_row, name, "t.name", F | S | N),
    TEXT(group_row, description, "t.description", 0),
    JSON(group_row, members_json,
        "(SELECT coalesce(json_agg(json_build_object('machine_id', x.machine_id, 'machine_name', m.name, 'online',"
        " coalesce(" ONLINE(
            "m") ", false), 'state', m.state, 'address', m.group_endpoint) ORDER BY x.position), '[]')::text"
                 " FROM consistency_group_members x JOIN machines m ON m.id = x.machine_id WHERE x.group_id = t.id)"),
    ID(group_row, coordinator_id, COORDINATOR, 0),
    TEXT(group_row, coordinator_name, NAME_OF(COORDINATOR), 0),
    ID(group_row, coordinated_by, "t.coordinated_by", 0),
    TEXT(group_row, coordinated_by_name, NAME_OF("t.coordinated_by"), 0),
    TEXT(group_row, health,
        "CASE WHEN t.finding_code <> '' THEN 'warning' WHEN t.news_at IS NULL OR t.interval_usec > 0 AND t.news_at < "
        "now() - interval '30 seconds'"
        " - 3 * t.interval_usec * interval '1 microsecond' THEN 'unknown' WHEN t.last_missed THEN 'warning'"
        " ELSE 'healthy' END",
        F | S),
    TEXT(group_row, cause_code, "t.finding_code", F),
    TEXT(group_row, cause, "CASE WHEN t.finding_code <> '' THEN t.finding_cause ELSE t.cause END", 0),
    TEXT(group_row, remedy, "CASE WHEN t.finding_code <> '' THEN t.finding_remedy ELSE t.remedy END", 0),
    JSON(group_row, cause_values_json, "t.finding_values::text"),
    ID(group_row, culprit_id, "t.culprit_id", 0),
    TEXT(group_row, culprit_name, NAME_OF("t.culprit_id"), 0),
    ID(group_row, last_point_id, "t.last_point_id", 0),
    U64(group_row, number, "t.number", F | S | N),
    U64(group_row, membership, "t.membership", 0),
    U64(group_row, interval_usec, "t.interval_usec", S | N),
    U64(group_row, freeze_budget_usec, "t.freeze_budget_usec", 0),
    U64(group_row, member_count, "(SELECT count(*) FROM consistency_group_members x WHERE x.group_id = t.id)", S | N),
    U64(group_row, made, "t.made", 0),
    U64(group_row, missed, "t.missed", 0),
    TIME(group_row, news_at, "t.news_at", 0),
    TIME(group_row, last_point_at, "t.last_point_at", S),
    U64(group_row, last_freeze_usec, "t.last_freeze_usec", 0),
    U64(group_row, version, "t.version", 0),
    TIME(group_row, created_at, "t.created_at", F | S | N),
    TIME(group_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_groups =
    ENTITY("group", group_row, group_columns, "consistency_groups t", "t.id", "uuid", "t.name", "name");

/* Each one is found by the point of the first machine on its list. */
static const struct db_column group_point_columns[] = {
    ID(group_point_row, id, "t.id", F),
    ID(group_point_row, group_id, "t.group_id", F),
    JSON(group_point_row, points_json,
        "(SELECT json_agg(json_build_object('machine_id', p.machine_id, 'machine_name', m.name, 'sequence', p.sequence,"
        " 'time', to_char(p.time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), 'kind', p.kind,"
        " 'frozen', p.frozen) ORDER BY m.name)::text FROM recovery_points p JOIN machines m ON m.id = p.machine_id"
        " WHERE p.group_point_id = t.id)"),
    TIME(group_point_row, time, "t.time", F | S | N),
    U64(group_point_row, membership, "t.membership", F),
    U64(group_point_row, machine_count, "t.machine_count", 0),
};
const struct db_entity db_group_points = ENTITY("group point", group_point_row, group_point_columns,
    "(SELECT r.group_point_id AS id, g.id AS group_id, r.time, l.membership, cardinality(l.machine_ids) AS "
    "machine_count"
    " FROM consistency_groups g JOIN consistency_group_lists l ON l.group_number = g.number"
    " JOIN recovery_points r ON r.machine_id = l.machine_ids[1] AND group_point_group(r.group_point_id) = g.number"
    " AND group_point_membership(r.group_point_id) = l.membership"
    " WHERE group_point_is_complete(r.group_point_id)) t",
    "t.id", "uuid", NULL, "-time");

static const struct db_column disk_minute_columns[] = {
    TEXT(disk_minute_row, key, "t.machine_id::text || ':' || t.disk || ':' || t.minute", 0),
    ID(disk_minute_row, machine_id, "t.machine_id", F),
    U64(disk_minute_row, disk, "t.disk", F | S | N),
    TIME(disk_minute_row, minute, "t.minute", F | S | N),
    U64(disk_minute_row, changed_bytes, "t.changed_bytes", F | S | N),
    U64(disk_minute_row, incompressible_bytes, "t.incompressible_bytes", F | S | N),
    U64(disk_minute_row, turned_bytes, "t.turned_bytes", F | S | N),
    U64(disk_minute_row, entropy_millibits, "t.entropy_millibits", F | S | N),
};
const struct db_entity db_disk_minutes = ENTITY("minute of a disk", disk_minute_row, disk_minute_columns,
    "disk_minutes t", "(t.machine_id::text || ':' || t.disk || ':' || t.minute)", "text", NULL, "-minute");

static const struct db_column export_columns[] = {
    ID(export_row, id, "t.id", F),
    ID(export_row, machine_id, "t.machine_id", F),
    TEXT(export_row, machine_name, "m.name", F | S | N),
    ID(export_row, vault_id, "t.vault_id", F),
    U64(export_row, sequence, "t.sequence", F | S | N),
    TIME(export_row, point_time, "t.point_time", F | S),
    BOOL(export_row, writable, "t.writable", F | S | N),
    TEXT(export_row, state, "t.state", F | S | N),
    TEXT(export_row, uri, "t.uri", 0),
    JSON(export_row, disks_json, "t.disks::text"),
    ID(export_row, job_id, "t.job_id", F),
    TEXT(export_row, created_by, "t.created_by", F),
    U64(export_row, version, "t.version", 0),
    TIME(export_row, created_at, "t.created_at", F | S | N),
    TIME(export_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_exports = ENTITY("export", export_row, export_columns,
    "exports t JOIN machines m ON m.id = t.machine_id", "t.id", "uuid", NULL, "-created_at");

static const struct db_column branch_columns[] = {
    ID(branch_row, id, "t.id", F),
    TEXT(branch_row, name, "t.name", F | S | N),
    ID(branch_row, machine_id, "t.machine_id", F),
    TEXT(branch_row, machine_name, "m.name", F | S | N),
    ID(branch_row, vault_id, "t.vault_id", F),
    U64(branch_row, sequence, "t.sequence", F | S | N),
    TIME(branch_row, point_time, "t.point_time", F | S),
    TEXT(branch_row, state, "t.state", F | S | N),
    TEXT(branch_row, uri, "t.uri", 0),
    JSON(branch_row, disks_json, "t.disks::text"),
    U64(branch_row, stored_bytes, "t.stored_bytes", S | N),
    ID(branch_row, job_id, "t.job_id", F),
    TEXT(branch_row, created_by, "t.created_by", F),
    U64(branch_row, version, "t.version", 0),
    TIME(branch_row, created_at, "t.created_at", F | S | N),
    TIME(branch_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_branches = ENTITY("branch", branch_row, branch_columns,
    "(SELECT * FROM exports WHERE writable AND state IN ('opening', 'open', 'closing', 'kept')) t"
    " JOIN machines m ON m.id = t.machine_id",
    "t.id", "uuid", "t.name", "-created_at");

static const struct db_column target_columns[] = {
    ID(target_row, id, "t.id", F),
    TEXT(target_row, name, "t.name", F | S | N),
    TEXT(target_row, description, "t.description", 0),
    TEXT(target_row, adapter, "t.adapter", F | S | N),
    JSON(target_row, config_json, "t.config::text"),
    U64(target_row, version, "t.version", 0),
    TIME(target_row, created_at, "t.created_at", F | S | N),
    TIME(target_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_targets =
    ENTITY("target", target_row, target_columns, "compute_targets t", "t.id", "uuid", "t.name", "name");

static const struct db_column failover_columns[] = {
    ID(failover_row, id, "t.id", F),
    ID(failover_row, machine_id, "t.machine_id", F),
    TEXT(failover_row, machine_name, "m.name", F | S | N),
    ID(failover_row, vault_id, "t.vault_id", F),
    ID(failover_row, target_id, "t.target_id", F),
    TEXT(failover_row, target_name, "c.name", F | S | N),
    TEXT(failover_row, adapter, "c.adapter", F | S | N),
    JSON(failover_row, target_config_json, "c.config::text"),
    TEXT(failover_row, kind, "t.kind", F | S | N),
    TEXT(failover_row, state, "t.state", F | S | N),
    ID(failover_row, export_id, "t.export_id", F),
    JSON(failover_row, options_json, "t.options::text"),
    JSON(failover_row, fixups_json, "t.fixups::text"),
    JSON(failover_row, replica_json, "t.replica::text"),
    JSON(failover_row, failback_json, "t.failback::text"),
    TEXT(failover_row, verdict, "t.verdict", F | S | N),
    TEXT(failover_row, verdict_text, "t.verdict_text", 0),
    TEXT(failover_row, outcome, "t.outcome", F | S | N),
    TEXT(failover_row, notes, "t.notes", 0),
    ID(failover_row, job_id, "t.job_id", F),
    TEXT(failover_row, requested_by, "t.requested_by", F | S | N),
    U64(failover_row, sequence, "t.sequence", F | S | N),
    TIME(failover_row, point_time, "t.point_time", F | S),
    TIME(failover_row, requested_at, "t.requested_at", F | S | N),
    TIME(failover_row, running_at, "t.running_at", F | S),
    TIME(failover_row, ended_at, "t.ended_at", F | S),
    U64(failover_row, rto_usec, "coalesce(extract(epoch FROM t.running_at - t.requested_at) * 1000000, 0)::bigint",
        S | N),
    U64(failover_row, loss_usec, "t.loss_usec", S | N),
    U64(failover_row, version, "t.version", 0),
    TIME(failover_row, created_at, "t.created_at", F | S | N),
    TIME(failover_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_failovers = ENTITY("failover", failover_row, failover_columns,
    "failovers t JOIN machines m ON m.id = t.machine_id JOIN compute_targets c ON c.id = t.target_id", "t.id", "uuid",
    NULL, "-created_at");

static const struct db_column plan_columns[] = {
    ID(plan_row, id, "t.id", F),
    TEXT(plan_row, name, "t.name", F | S | N),
    TEXT(plan_row, description, "t.description", 0),
    JSON(plan_row, document_json, "t.document::text"),
    ID(plan_row, last_run_id, "l.id", F),
    TEXT(plan_row, last_run_state, "l.state", F),
    TIME(plan_row, last_run_at, "l.requested_at", F | S),
    U64(plan_row, version, "t.version", 0),
    TIME(plan_row, created_at, "t.created_at", F | S | N),
    TIME(plan_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_plans = ENTITY("plan", plan_row, plan_columns,
    "recovery_plans t LEFT JOIN LATERAL (SELECT id, state, requested_at FROM plan_runs r WHERE r.plan_id = t.id"
    " ORDER BY requested_at DESC LIMIT 1) l ON true",
    "t.id", "uuid", "t.name", "name");

#define RUN_STEPS(condition) "(SELECT count(*) FROM plan_run_steps s WHERE s.run_id = t.id AND " condition ")"

static const struct db_column plan_run_columns[] = {
    ID(plan_run_row, id, "t.id", F),
    ID(plan_run_row, plan_id, "t.plan_id", F),
    TEXT(plan_run_row, plan_name, "t.plan_name", F | S | N),
    ID(plan_run_row, drill_id, "t.drill_id", F),
    TEXT(plan_run_row, kind, "t.kind", F | S | N),
    TEXT(plan_run_row, state, "t.state", F | S | N),
    JSON(plan_run_row, document_json, "t.document::text"),
    TEXT(plan_run_row, point, "t.point", 0),
    BOOL(plan_run_row, cleanup, "t.cleanup", F),
    JSON(plan_run_row, options_json, "t.options::text"),
    TEXT(plan_run_row, verdict, "t.verdict", F | S | N),
    TEXT(plan_run_row, verdict_text, "t.verdict_text", 0),
    U64(plan_run_row, predicted_usec, "t.predicted_usec", 0),
    ID(plan_run_row, job_id, "t.job_id", F),
    TEXT(plan_run_row, requested_by, "t.requested_by", F | S | N),
    U64(plan_run_row, step_count, RUN_STEPS("true"), 0),
    U64(plan_run_row, done_count, RUN_STEPS("s.state NOT IN ('pending', 'running', 'waiting_for_input')"), 0),
    U64(plan_run_row, waiting_count, RUN_STEPS("s.state = 'waiting_for_input'"), 0),
    U64(plan_run_row, replica_count,
        "(SELECT count(*) FROM plan_run_steps s JOIN failovers f ON f.id = s.failover_id WHERE s.run_id = t.id"
        " AND f.state IN ('starting', 'running', 'ending'))",
        0),
    U64(plan_run_row, rto_usec, "coalesce(extract(epoch FROM t.recovered_at - t.requested_at) * 1000000, 0)::bigint",
        S | N),
    TIME(plan_run_row, requested_at, "t.requested_at", F | S | N),
    TIME(plan_run_row, recovered_at, "t.recovered_at", F | S),
    TIME(plan_run_row, ended_at, "t.ended_at", F | S),
    U64(plan_run_row, version, "t.version", 0),
    TIME(plan_run_row, created_at, "t.created_at", F | S | N),
    TIME(plan_run_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_plan_runs =
    ENTITY("plan run", plan_run_row, plan_run_columns, "plan_runs t", "t.id", "uuid", NULL, "-requested_at");

static const struct db_column plan_run_step_columns[] = {
    TEXT(plan_run_step_row, key, "t.run_id::text || ':' || t.ordinal", 0),
    ID(plan_run_step_row, run_id, "t.run_id", F),
    U64(plan_run_step_row, ordinal, "t.ordinal", F | S | N),
    TEXT(plan_run_step_row, name, "t.name", F | S | N),
    TEXT(plan_run_step_row, group_name, "t.group_name", F),
    TEXT(plan_run_step_row, type, "t.type", F),
    TEXT(plan_run_step_row, state, "t.state", F),
    ID(plan_run_step_row, machine_id, "t.machine_id", F),
    TEXT(plan_run_step_row, machine_name, "t.machine_name", F),
    ID(plan_run_step_row, target_id, "t.target_id", F),
    TEXT(plan_run_step_row, target_name, "c.name", 0),
    U64(plan_run_step_row, sequence, "t.sequence", 0),
    BOOL(plan_run_step_row, live, "t.live", F),
    ID(plan_run_step_row, job_id, "t.job_id", F),
    ID(plan_run_step_row, failover_id, "t.failover_id", F),
    U64(plan_run_step_row, attempts, "t.attempts", 0),
    BOOL(plan_run_step_row, timed_out, "t.timed_out", 0),
    TEXT(plan_run_step_row, detail, "t.detail", 0),
    U64(plan_run_step_row, predicted_usec, "t.predicted_usec", 0),
    BOOL(plan_run_step_row, predicted_known, "t.predicted_known", 0),
    TIME(plan_run_step_row, started_at, "t.started_at", 0),
    TIME(plan_run_step_row, attempt_at, "t.attempt_at", 0),
    TIME(plan_run_step_row, finished_at, "t.finished_at", 0),
    TEXT(plan_run_step_row, failover_state, "f.state", 0),
    TEXT(plan_run_step_row, verdict, "f.verdict", 0),
    TEXT(plan_run_step_row, verdict_text, "f.verdict_text", 0),
    TEXT(plan_run_step_row, question, "j.waiting_for", 0),
    U64(plan_run_step_row, point_sequence, "coalesce(f.sequence, t.sequence)", 0),
    TIME(plan_run_step_row, point_time, "coalesce(f.point_time, p.time)", 0),
    TIME(plan_run_step_row, running_at, "f.running_at", 0),
    U64(plan_run_step_row, rto_usec,
        "coalesce(greatest(extract(epoch FROM f.running_at - r.requested_at) * 1000000, 0), 0)::bigint", 0),
    U64(plan_run_step_row, loss_usec,
        "CASE r.kind WHEN 'failback' THEN 0 ELSE coalesce(greatest(0, coalesce("
        "f.loss_usec - extract(epoch FROM f.requested_at - r.requested_at) * 1000000," POINT_LOSS(
            "pm", "r.requested_at", "p.time") ")), 0)::bigint END",
        0),
};
const struct db_entity db_plan_run_steps = ENTITY("step of a plan run", plan_run_step_row, plan_run_step_columns,
    "plan_run_steps t JOIN plan_runs r ON r.id = t.run_id LEFT JOIN failovers f ON f.id = t.failover_id"
    " LEFT JOIN compute_targets c ON c.id = t.target_id LEFT JOIN jobs j ON j.id = t.job_id"
    " LEFT JOIN recovery_points p ON p.machine_id = t.machine_id AND p.sequence = t.sequence"
    " LEFT JOIN machines pm ON pm.id = p.machine_id",
    "(t.run_id::text || ':' || t.ordinal)", "text", NULL, "ordinal");

static const struct db_column drill_columns[] = {
    ID(drill_row, id, "t.id", F),
    TEXT(drill_row, name, "t.name", F | S | N),
    ID(drill_row, plan_id, "t.plan_id", F),
    TEXT(drill_row, plan_name, "p.name", F | S),
    ID(drill_row, policy_id, "t.policy_id", F),
    TEXT(drill_row, policy_name, "c.name", F | S),
    ID(drill_row, target_id, "t.target_id", F),
    TEXT(drill_row, target_name, "g.name", F),
    BOOL(drill_row, enabled, "t.enabled", F | S | N),
    U64(drill_row, interval_usec, "t.interval_usec", S | N),
    U64(drill_row, overdue_after_usec, "t.overdue_after_usec", S | N),
    TEXT(drill_row, window, "t.window_hours", 0),
    TEXT(drill_row, time_zone, "t.time_zone", 0),
    JSON(drill_row, options_json, "t.options::text"),
    U64(drill_row, machine_count, "(SELECT count(*) FROM drill_coverage v WHERE v.drill_id = t.id)", 0),
    U64(drill_row, overdue_count,
        "(SELECT count(*) FROM drill_coverage v JOIN drill_machines o ON o.machine_id = v.machine_id"
        " WHERE v.drill_id = t.id AND o.overdue_at < now())",
        0),
    TIME(drill_row, last_started_at, "t.last_started_at", F | S),
    ID(drill_row, last_run_id, "t.last_run_id", F),
    TEXT(drill_row, last_run_state, "r.state", 0),
    TEXT(drill_row, last_run_verdict, "r.verdict", 0),
    TEXT(drill_row, last_problem, "t.last_problem", 0),
    U64(drill_row, version, "t.version", 0),
    TIME(drill_row, created_at, "t.created_at", F | S | N),
    TIME(drill_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_drills = ENTITY("drill", drill_row, drill_columns,
    "drill_schedules t LEFT JOIN recovery_plans p ON p.id = t.plan_id LEFT JOIN policies c ON c.id = t.policy_id"
    " LEFT JOIN compute_targets g ON g.id = t.target_id LEFT JOIN plan_runs r ON r.id = t.last_run_id",
    "t.id", "uuid", "t.name", "name");

static const struct db_column drill_machine_columns[] = {
    ID(drill_machine_row, machine_id, "t.machine_id", F),
    TEXT(drill_machine_row, machine_name, "m.name", F | S | N),
    BOOL(drill_machine_row, overdue, "t.overdue_at < now()", F),
    TIME(drill_machine_row, last_good_at, "t.last_good_at", F | S),
    TIME(drill_machine_row, overdue_at, "t.overdue_at", F | S),
    TIME(drill_machine_row, last_at, "t.last_at", F | S),
    TEXT(drill_machine_row, last_verdict, "t.last_verdict", F),
    ID(drill_machine_row, last_failover_id, "t.last_failover_id", F),
};
const struct db_entity db_drill_machines = ENTITY("drilled machine", drill_machine_row, drill_machine_columns,
    "drill_machines t JOIN machines m ON m.id = t.machine_id", "t.machine_id", "uuid", "m.name", "overdue_at");

static const struct db_column job_columns[] = {
    ID(job_row, id, "t.id", F),
    TEXT(job_row, kind, "t.kind", F | S | N),
    TEXT(job_row, status, "t.status", F | S | N),
    ID(job_row, machine_id, "t.machine_id", F),
    TEXT(job_row, machine_name, "m.name", F | S),
    ID(job_row, vault_id, "t.vault_id", F),
    JSON(job_row, params_json, "t.params::text"),
    JSON(job_row, result_json, "t.result::text"),
    TEXT(job_row, problem_code, "t.problem_code", F),
    TEXT(job_row, problem_text, "t.problem_text", 0),
    TEXT(job_row, problem_correction, "t.problem_correction", 0),
    TEXT(job_row, waiting_for, "t.waiting_for", 0),
    TEXT(job_row, requested_by, "t.requested_by", F | S | N),
    U64(job_row, progress_permille, "t.progress_permille", S | N),
    BOOL(job_row, may_cancel, "t.may_cancel", 0),
    BOOL(job_row, cancel_requested, "t.cancel_requested", F),
    U64(job_row, version, "t.version", 0),
    TIME(job_row, created_at, "t.created_at", F | S | N),
    TIME(job_row, started_at, "t.started_at", F | S),
    TIME(job_row, finished_at, "t.finished_at", F | S),
    TIME(job_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_jobs = ENTITY("job", job_row, job_columns,
    "jobs t LEFT JOIN machines m ON m.id = t.machine_id", "t.id", "uuid", NULL, "-created_at");

static const struct db_column job_step_columns[] = {
    TEXT(job_step_row, key, "t.job_id::text || ':' || t.ordinal", 0),
    ID(job_step_row, job_id, "t.job_id", F),
    TEXT(job_step_row, name, "t.name", F),
    TEXT(job_step_row, title, "t.title", 0),
    TEXT(job_step_row, status, "t.status", F),
    TEXT(job_step_row, detail, "t.detail", 0),
    TEXT(job_step_row, problem_text, "t.problem_text", 0),
    U64(job_step_row, ordinal, "t.ordinal", F | S | N),
    U64(job_step_row, progress_permille, "t.progress_permille", 0),
    U64(job_step_row, attempts, "t.attempts", 0),
    TIME(job_step_row, started_at, "t.started_at", 0),
    TIME(job_step_row, finished_at, "t.finished_at", 0),
};
const struct db_entity db_job_steps = ENTITY("job step", job_step_row, job_step_columns, "job_steps t",
    "(t.job_id::text || ':' || t.ordinal)", "text", NULL, "ordinal");

static const struct db_column job_log_columns[] = {
    U64(job_log_row, seq, "t.seq", F | S | N),
    ID(job_log_row, job_id, "t.job_id", F),
    TEXT(job_log_row, level, "t.level", F),
    TEXT(job_log_row, text, "t.text", F),
    TIME(job_log_row, at, "t.at", F),
};
const struct db_entity db_job_log =
    ENTITY("job log line", job_log_row, job_log_columns, "job_log t", "t.seq", "bigint", NULL, "seq");

static const struct db_column event_columns[] = {
    U64(event_row, seq, "t.seq", F | S | N),
    TIME(event_row, at, "t.at", F | S | N),
    TEXT(event_row, severity, "t.severity", F | S | N),
    TEXT(event_row, code, "t.code", F | S | N),
    TEXT(event_row, text, "t.text", F),
    TEXT(event_row, remedy, "t.remedy", 0),
    JSON(event_row, values_json, "t.text_values::text"),
    ID(event_row, machine_id, "t.machine_id", F),
    TEXT(event_row, machine_name, "m.name", F | S),
    ID(event_row, node_id, "t.node_id", F),
    ID(event_row, vault_id, "t.vault_id", F),
    ID(event_row, job_id, "t.job_id", F),
    TEXT(event_row, actor, "t.actor", F),
};
const struct db_entity db_events = ENTITY("event", event_row, event_columns,
    "events t LEFT JOIN machines m ON m.id = t.machine_id", "t.seq", "bigint", NULL, "-seq");

static const struct db_column alert_columns[] = {
    ID(alert_row, id, "t.id", F),
    TEXT(alert_row, code, "t.code", F | S | N),
    TEXT(alert_row, severity, "t.severity", F | S | N),
    TEXT(alert_row, state, "t.state", F | S | N),
    TEXT(alert_row, subject_kind, "t.subject_kind", F | S | N),
    ID(alert_row, subject_id, "t.subject_id", F),
    TEXT(alert_row, subject_name, "coalesce(m.name, n.name, v.name, g.name, 'hub')", F | S | N),
    TEXT(alert_row, detail, "t.detail", F),
    ID(alert_row, machine_id, "t.machine_id", F),
    ID(alert_row, node_id, "t.node_id", F),
    ID(alert_row, vault_id, "t.vault_id", F),
    ID(alert_row, group_id, "t.group_id", F),
    TEXT(alert_row, cause, "t.cause", F),
    TEXT(alert_row, remedy, "t.remedy", 0),
    JSON(alert_row, values_json, "t.text_values::text"),
    TEXT(alert_row, acknowledged_by, "t.acknowledged_by", F | S | N),
    TEXT(alert_row, note, "t.note", 0),
    TIME(alert_row, since, "t.since", F | S | N),
    TIME(alert_row, raised_at, "t.raised_at", F | S),
    TIME(alert_row, acknowledged_at, "t.acknowledged_at", F | S),
    TIME(alert_row, resolved_at, "t.resolved_at", F | S),
    U64(alert_row, version, "t.version", 0),
    TIME(alert_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_alerts = ENTITY("alert", alert_row, alert_columns,
    "(SELECT * FROM alerts WHERE state <> 'pending') t LEFT JOIN machines m ON m.id = t.machine_id"
    " LEFT JOIN nodes n ON n.id = t.node_id LEFT JOIN vaults v ON v.id = t.vault_id"
    " LEFT JOIN consistency_groups g ON g.id = t.group_id",
    "t.id", "uuid", NULL, "-raised_at");

static const struct db_column approval_columns[] = {
    ID(approval_row, id, "t.id", F),
    TEXT(approval_row, kind, "t.kind", F | S | N),
    TEXT(approval_row, summary, "t.summary", F | S | N),
    ID(approval_row, machine_id, "t.machine_id", F),
    TEXT(approval_row, machine_name, "m.name", F | S),
    TEXT(approval_row, method, "t.method", 0),
    TEXT(approval_row, path, "t.path", 0),
    JSON(approval_row, query_json, "t.query::text"),
    JSON(approval_row, body_json, "t.body::text"),
    TEXT(approval_row, requested_by, "t.requested_by", F | S | N),
    ID(approval_row, user_id, "t.requester_user_id", F),
    TEXT(approval_row, state, "CASE WHEN t.state = 'pending' AND t.expires_at <= now() THEN 'expired' ELSE t.state END",
        F | S | N),
    TEXT(approval_row, decided_by, "t.decided_by", F | S | N),
    TEXT(approval_row, note, "t.note", 0),
    ID(approval_row, job_id, "t.job_id", F),
    U64(approval_row, if_version, "t.if_version", 0),
    TIME(approval_row, created_at, "t.created_at", F | S | N),
    TIME(approval_row, expires_at, "t.expires_at", F | S | N),
    TIME(approval_row, decided_at, "t.decided_at", F | S),
    U64(approval_row, version, "t.version", 0),
};
const struct db_entity db_approvals = ENTITY("approval", approval_row, approval_columns,
    "approvals t LEFT JOIN machines m ON m.id = t.machine_id", "t.id", "uuid", NULL, "-created_at");

static const struct db_column channel_columns[] = {
    ID(channel_row, id, "t.id", F),
    TEXT(channel_row, name, "t.name", F | S | N),
    TEXT(channel_row, kind, "t.kind", F | S | N),
    BOOL(channel_row, enabled, "t.enabled", F | S | N),
    TEXT(channel_row, min_severity, "t.min_severity", F | S | N),
    BOOL(channel_row, send_resolved, "t.send_resolved", F),
    BOOL(channel_row, weekly_report, "t.weekly_report", F),
    U64(channel_row, group_usec, "t.group_usec", 0),
    TEXT(channel_row, url, "t.url", 0),
    TEXT(channel_row, server, "t.server", 0),
    U64(channel_row, port, "t.port", 0),
    TEXT(channel_row, security, "t.security", 0),
    TEXT(channel_row, username, "t.username", 0),
    TEXT(channel_row, from_address, "t.from_address", 0),
    JSON(channel_row, to_json, "t.to_addresses::text"),
    TEXT(channel_row, ca_certificate, "t.ca_certificate", 0),
    BOOL(channel_row, has_secret, "(t.secret <> '')", 0),
    TEXT(channel_row, last_error, "t.last_error", 0),
    TIME(channel_row, last_delivered_at, "t.last_delivered_at", F | S),
    TIME(channel_row, last_failed_at, "t.last_failed_at", F | S),
    U64(channel_row, version, "t.version", 0),
    TIME(channel_row, created_at, "t.created_at", F | S | N),
    TIME(channel_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_alert_channels =
    ENTITY("channel", channel_row, channel_columns, "alert_channels t", "t.id", "uuid", "t.name", "name");

static const struct db_column delivery_columns[] = {
    ID(delivery_row, id, "t.id", F),
    ID(delivery_row, channel_id, "t.channel_id", F),
    TEXT(delivery_row, kind, "t.kind", F | S | N),
    TEXT(delivery_row, state, "t.state", F | S | N),
    U64(delivery_row, change_count, "t.change_count", S | N),
    U64(delivery_row, attempts, "t.attempts", S | N),
    TEXT(delivery_row, last_error, "t.last_error", 0),
    TIME(delivery_row, next_at, "t.next_at", S | N),
    TIME(delivery_row, created_at, "t.created_at", F | S | N),
    TIME(delivery_row, finished_at, "t.finished_at", F | S),
};
const struct db_entity db_alert_deliveries =
    ENTITY("delivery", delivery_row, delivery_columns, "alert_deliveries t", "t.id", "uuid", NULL, "-created_at");

static const struct db_column sample_columns[] = {
    TEXT(sample_row, key, "t.machine_id::text || ':' || t.minute", 0),
    ID(sample_row, machine_id, "t.machine_id", F),
    TIME(sample_row, minute, "t.minute", F | S | N),
    U64(sample_row, rpo_max_usec, "t.rpo_max_usec", F | S | N),
    U64(sample_row, rpo_avg_usec, "CASE WHEN t.rpo_count > 0 THEN (t.rpo_sum_usec / t.rpo_count)::bigint ELSE 0 END",
        S | N),
    U64(sample_row, changed_bytes, "t.changed_bytes", F | S | N),
    U64(sample_row, sent_bytes, "t.sent_bytes", F | S | N),
    U64(sample_row, points, "t.points", F | S | N),
    U64(sample_row, frozen_points, "t.frozen_points", F | S | N),
    U64(sample_row, backlog_bytes, "t.backlog_bytes", F | S | N),
};
const struct db_entity db_samples = ENTITY("sample", sample_row, sample_columns, "samples t",
    "(t.machine_id::text || ':' || t.minute)", "text", NULL, "minute");

static const struct db_column user_columns[] = {
    ID(user_row, id, "t.id", F),
    TEXT(user_row, name, "t.name", F | S | N),
    TEXT(user_row, display_name, "t.display_name", F | S | N),
    TEXT(user_row, role, "t.role", F | S | N),
    TEXT(user_row, oidc_issuer, "t.oidc_issuer", F),
    TEXT(user_row, oidc_subject, "t.oidc_subject", F),
    BOOL(user_row, disabled, "t.disabled", F | S | N),
    BOOL(user_row, must_change_password, "t.must_change_password", F),
    BOOL(user_row, has_password, "(t.password_hash <> '')", F),
    TIME(user_row, last_login_at, "t.last_login_at", F | S),
    TIME(user_row, password_changed_at, "t.password_changed_at", S),
    U64(user_row, session_count,
        "(SELECT count(*) FROM sessions s WHERE s.user_id = t.id AND s.revoked_at IS NULL AND s.expires_at > now()"
        " AND s.last_seen_at > now() - s.idle_usec * interval '1 microsecond')",
        0),
    U64(user_row, version, "t.version", 0),
    TIME(user_row, created_at, "t.created_at", F | S | N),
    TIME(user_row, updated_at, "t.updated_at", F | S | N),
};
const struct db_entity db_users = ENTITY("user", user_row, user_columns, "users t", "t.id", "uuid", "t.name", "name");

#define SESSION_ENDS "least(t.expires_at, t.last_seen_at + t.idle_usec * interval '1 microsecond')"
static const struct db_column session_columns[] = {
    ID(session_row, id, "t.id", F),
    ID(session_row, user_id, "t.user_id", F),
    TEXT(session_row, user_name, "u.name", F | S | N),
    TEXT(session_row, user_display_name, "u.display_name", 0),
    TEXT(session_row, role, "u.role", F),
    TEXT(session_row, method, "t.method", F | S | N),
    TEXT(session_row, address, "t.address", F | S | N),
    TEXT(session_row, user_agent, "t.user_agent", 0),
    BOOL(session_row, must_change_password, "u.must_change_password", 0),
    TIME(session_row, last_seen_at, "t.last_seen_at", F | S | N),
    TIME(session_row, expires_at, "t.expires_at", F | S | N),
    TIME(session_row, ends_at, SESSION_ENDS, F | S | N),
    TIME(session_row, revoked_at, "t.revoked_at", F | S),
    TIME(session_row, created_at, "t.created_at", F | S | N),
};
const struct db_entity db_sessions = ENTITY("session", session_row, session_columns,
    "sessions t JOIN users u ON u.id = t.user_id", "t.id", "uuid", NULL, "-last_seen_at");

static const struct db_column api_token_columns[] = {
    ID(api_token_row, id, "t.id", F),
    TEXT(api_token_row, name, "t.name", F | S | N),
    JSON(api_token_row, scopes_json, "t.scopes::text"),
    TEXT(api_token_row, role, "t.role", F | S | N),
    TEXT(api_token_row, created_by, "t.created_by", F | S | N),
    ID(api_token_row, user_id, "t.user_id", F),
    TEXT(api_token_row, user_name, "u.name", F),
    TEXT(api_token_row, user_role, "u.role", 0),
    TIME(api_token_row, expires_at, "t.expires_at", F | S),
    TIME(api_token_row, last_used_at, "t.last_used_at", F | S),
    TIME(api_token_row, revoked_at, "t.revoked_at", F | S),
    U64(api_token_row, version, "t.version", 0),
    TIME(api_token_row, created_at, "t.created_at", F | S | N),
};
const struct db_entity db_api_tokens = ENTITY("token", api_token_row, api_token_columns,
    "api_tokens t LEFT JOIN users u ON u.id = t.user_id", "t.id", "uuid", "t.name", "-created_at");

static const struct db_column enrolment_token_columns[] = {
    ID(enrolment_token_row, id, "t.id", F),
    TEXT(enrolment_token_row, role, "t.role", F | S | N),
    TEXT(enrolment_token_row, name, "t.name", F | S | N),
    ID(enrolment_token_row, site_id, "t.site_id", F),
    TEXT(enrolment_token_row, created_by, "t.created_by", F | S | N),
    ID(enrolment_token_row, used_by, "t.used_by", F),
    TIME(enrolment_token_row, expires_at, "t.expires_at", F | S | N),
    TIME(enrolment_token_row, used_at, "t.used_at", F | S),
    TIME(enrolment_token_row, revoked_at, "t.revoked_at", F | S),
    U64(enrolment_token_row, version, "t.version", 0),
    TIME(enrolment_token_row, created_at, "t.created_at", F | S | N),
};
const struct db_entity db_enrolment_tokens = ENTITY("enrolment token", enrolment_token_row, enrolment_token_columns,
    "enrolment_tokens t", "t.id", "uuid", NULL, "-created_at");

static const struct db_column certificate_columns[] = {
    TEXT(certificate_row, serial, "t.serial", F | S | N),
    TEXT(certificate_row, role, "t.role", F | S | N),
    ID(certificate_row, subject_id, "t.subject_id", F),
    TEXT(certificate_row, subject_name, "t.subject_name", F | S | N),
    TEXT(certificate_row, fingerprint_sha256, "t.fingerprint_sha256", F),
    TEXT(certificate_row, revoke_reason, "t.revoke_reason", 0),
    TIME(certificate_row, not_before, "t.not_before", F | S | N),
    TIME(certificate_row, not_after, "t.not_after", F | S | N),
    TIME(certificate_row, revoked_at, "t.revoked_at", F | S),
    TIME(certificate_row, created_at, "t.created_at", F | S | N),
};
const struct db_entity db_certificates = ENTITY(
    "certificate", certificate_row, certificate_columns, "certificates t", "t.serial", "text", NULL, "-created_at");

static const struct db_column audit_columns[] = {
    U64(audit_row, seq, "t.seq", F | S | N),
    TIME(audit_row, at, "t.at", F | S | N),
    TEXT(audit_row, actor, "t.actor", F | S | N),
    TEXT(audit_row, action, "t.action", F | S | N),
    TEXT(audit_row, object_kind, "t.object_kind", F),
    TEXT(audit_row, object_id, "t.object_id", F),
    TEXT(audit_row, outcome, "t.outcome", F | S | N),
    JSON(audit_row, detail_json, "t.detail"),
    TEXT(audit_row, address, "t.address", F),
    TEXT(audit_row, request_id, "t.request_id", F),
    TEXT(audit_row, hash, "t.hash", 0),
};
const struct db_entity db_audit_log =
    ENTITY("audit entry", audit_row, audit_columns, "audit_log t", "t.seq", "bigint", NULL, "-seq");
