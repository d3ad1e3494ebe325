/* SPDX-License-Identifier: Apache-2.0
 *
 * Machines and their disks. A row has what was true at the last batch; where the agent's session is open, what it said last
 * is laid over it, so that RPO and progress are fresh to the message.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <string.h>

#include "hub/api/four_eyes.h"
#include "hub/api/row_json.h"
#include "hub/api/row_text.h"
#include "hub/control/live_status.h"
#include "hub/core/skew.h"
#include "hub/db/config_store.h"
#include "hub/db/rows.h"
#include "transport/base/clock.h"

#define M(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct machine_row, member)                                                    \
    }
static const struct row_json_member machine_members[] = {
    M("id", ROW_TEXT, id),
    M("name", ROW_TEXT, name),
    M("hostname", ROW_TEXT, hostname),
    M("machine_uid", ROW_TEXT, machine_uid),
    M("site_id", ROW_TEXT_OR_NULL, site_id),
    M("site_name", ROW_TEXT_OR_NULL, site_name),
    M("state", ROW_TEXT, state),
    M("health", ROW_TEXT, health),
    M("cause_code", ROW_TEXT, cause_code),
    M("cause", ROW_TEXT, cause),
    M("remedy", ROW_TEXT, remedy),
    M("cause_values", ROW_OBJECT, cause_values_json),
    M("online", ROW_BOOL, online),
    M("simulated", ROW_BOOL, simulated),
    M("rescue", ROW_BOOL, rescue),
    M("agent_state", ROW_TEXT, agent_state),
    M("agent_software", ROW_TEXT, software),
    M("os_name", ROW_TEXT, os_name),
    M("kernel", ROW_TEXT, kernel),
    M("boot_id", ROW_TEXT, boot_id),
    M("firmware", ROW_TEXT, firmware),
    M("addresses", ROW_ARRAY, addresses_json),
    M("cpus", ROW_NUMBER, cpus),
    M("memory_bytes", ROW_NUMBER, memory_bytes),
    M("policy_id", ROW_TEXT_OR_NULL, policy_id),
    M("policy_name", ROW_TEXT_OR_NULL, policy_name),
    M("node_id", ROW_TEXT_OR_NULL, node_id),
    M("node_name", ROW_TEXT_OR_NULL, node_name),
    M("pinned_node_id", ROW_TEXT_OR_NULL, pinned_node_id),
    M("vault_id", ROW_TEXT_OR_NULL, vault_id),
    M("vault_name", ROW_TEXT_OR_NULL, vault_name),
    M("copies", ROW_ARRAY, copies_json),
    M("generation", ROW_NUMBER, generation),
    M("last_seen_at", ROW_TIME, last_seen_at),
    M("inventory_at", ROW_TIME, inventory_at),
    M("clock_skew_seconds", ROW_SIGNED_SECONDS, clock_skew_usec),
    M("disk_count", ROW_NUMBER, disk_count),
    M("protected_disk_count", ROW_NUMBER, protected_disk_count),
    M("etag", ROW_ETAG, version),
    M("created_at", ROW_TIME, created_at),
    M("updated_at", ROW_TIME, updated_at),
};
#undef M

#define L(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct live_machine, member)                                                   \
    }
static const struct row_json_member live_members[] = {
    L("backlog_bytes", ROW_NUMBER, backlog_bytes),
    L("initial_total_bytes", ROW_NUMBER, initial_total_bytes),
    L("initial_done_bytes", ROW_NUMBER, initial_done_bytes),
    L("sent_bytes_per_second", ROW_NUMBER, sent_bytes_per_sec),
    L("changed_bytes_per_second", ROW_NUMBER, changed_bytes_per_sec),
    L("throughput_bytes_per_second", ROW_NUMBER, throughput_bytes_per_sec),
    L("remaining_seconds", ROW_SECONDS, remaining_usec),
    L("points_made", ROW_DIGITS, points_made),
    L("points_frozen", ROW_DIGITS, points_frozen),
    L("window_seconds", ROW_SECONDS, window_usec),
    L("freeze_seconds", ROW_SECONDS, freeze_usec),
};
#undef L

/* Where no point was ever made, or none is made any more, there is no RPO to speak of. */
static void add_point(struct row_text *t, const struct machine_row *m, uint64_t sequence, uint64_t at_utc_usec)
{
    static const char *const none = NULL;
    bool counts = sequence > 0 && strcmp(m->state, "unprotected") != 0;
    uint64_t age = skew_age_usec(clock_utc_usec(), at_utc_usec, m->point_skew_usec);

    if (sequence > 0)
        row_text_member(t, "last_point_sequence", ROW_NUMBER, &sequence);
    else
        row_text_member(t, "last_point_sequence", ROW_TEXT_OR_NULL, &none);
    row_text_member(t, "last_point_at", ROW_TIME, &at_utc_usec);
    if (counts)
        row_text_member(t, "rpo_seconds", ROW_SECONDS, &age);
    else
        row_text_member(t, "rpo_seconds", ROW_TEXT_OR_NULL, &none);
}

static int machine_text(const struct request *r, const void *row, struct buf *out)
{
    const struct machine_row *m = row;
    struct row_text t = row_text_begin(out);
    struct live_machine live = {0};
    const char *slowed_by = live.slowed_by;
    bool heard = live_status_machine(r->services->conf->live, m->id, &live);
    uint64_t rounds;

    if (!heard) { /* the row is all there is; speeds and counters are those of a silent agent */
        live.backlog_bytes = m->backlog_bytes;
        live.initial_total_bytes = m->initial_total_bytes;
        live.initial_done_bytes = m->initial_done_bytes;
    }
    rounds = live.rounds;
    row_text_members(&t, row, machine_members, ARRAY_LEN(machine_members));
    row_text_members(&t, &live, live_members, ARRAY_LEN(live_members));
    row_text_member(&t, "rounds", ROW_NUMBER, &rounds);
    row_text_member(&t, "slowed_by", ROW_TEXT, &slowed_by);
    if (heard && live.last_point_sequence >= m->last_point_sequence && live.last_point_sequence > 0)
        add_point(&t, m, live.last_point_sequence, live.last_point_utc_usec);
    else
        add_point(&t, m, m->last_point_sequence, m->last_point_at);
    return row_text_end(&t);
}

static const struct row_filter machine_filters[] = {
    {"name", "name", DB_LIKE},
    {"state", "state", DB_EQ},
    {"health", "health", DB_EQ},
    {"cause_code", "cause_code", DB_EQ},
    {"policy_id", "policy_id", DB_EQ},
    {"node_id", "node_id", DB_EQ},
    {"vault_id", "vault_id", DB_EQ},
    {"site_id", "site_id", DB_EQ},
    {"online", "online", DB_EQ},
    {"simulated", "simulated", DB_EQ},
    {"rescue", "rescue", DB_EQ},
};

int serve_machine_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_machines,
        .filters = machine_filters,
        .filter_count = ARRAY_LEN(machine_filters),
        .text = machine_text,
    };

    return row_list_serve(r, &list, err);
}

static int reply_machine(struct request *r, const char *id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_machines, id, &set, err) < 0)
        return -1;
    return row_text_reply(r, machine_text, set.items, err);
}

int serve_machine_get(struct request *r, struct err *err)
{
    return reply_machine(r, r->params[0], err);
}

/* The path may hold a name; the stores take ids. */
static int machine_id(struct request *r, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    return db_need_key(r->conn, &db_machines, r->params[0], ret_id, IDENT_TEXT_SIZE, err);
}

/* Another policy may keep its points for less long. 0, 1 (held back, the reply is set) or -1. */
static int hold_policy(struct request *r, const char *id, const char *policy_id, struct err *err)
{
    AUTO_DB_SET struct db_set machine = {0};
    AUTO_DB_SET struct db_set before = {0};
    AUTO_DB_SET struct db_set after = {0};

    if (!policy_id)
        return 0;
    if (db_need(r->conn, &db_machines, id, &machine, err) < 0)
        return -1;
    const struct machine_row *m = db_at(&machine, struct machine_row, 0);

    if (!m->policy_id[0])
        return 0;
    if (db_need(r->conn, &db_policies, m->policy_id, &before, err) < 0 ||
        db_need(r->conn, &db_policies, policy_id, &after, err) < 0)
        return -1;
    if (!serve_policy_shortens(db_at(&before, struct policy_row, 0), db_at(&after, struct policy_row, 0)))
        return 0;
    return four_eyes_hold(r, "retention", id, err,
        "give machine %s the policy %s, which keeps points for less long than %s", m->name,
        db_at(&after, struct policy_row, 0)->name, m->policy_name);
}

int serve_machine_update(struct request *r, struct err *err)
{
    const struct machine_change change = {
        .name = request_str(r, "name"),
        .policy_id = request_str(r, "policy_id"),
        .site_id = json_is_null(json_object_get(r->body, "site_id")) ? "" : request_str(r, "site_id"),
    };
    char id[IDENT_TEXT_SIZE];
    int held;

    if (machine_id(r, id, err) < 0 || (held = hold_policy(r, id, change.policy_id, err)) < 0)
        return -1;
    if (held)
        return 0;
    if (machine_update(r->conn, id, &change, r->if_version, err) < 0)
        return -1;
    return reply_machine(r, id, err);
}

int serve_machine_delete(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    if (machine_id(r, id, err) < 0 || machine_delete(r->conn, id, r->if_version, err) < 0)
        return -1;
    return reply_empty(r);
}

#define D(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct disk_row, member)                                                       \
    }
static const struct row_json_member disk_members[] = {
    D("id", ROW_TEXT, id),
    D("machine_id", ROW_TEXT, machine_id),
    D("key", ROW_TEXT, key),
    D("device", ROW_TEXT, device),
    D("model", ROW_TEXT, model),
    D("partition_table", ROW_TEXT, partition_table),
    D("number", ROW_SIGNED_OR_NULL, number),
    D("size_bytes", ROW_NUMBER, size_bytes),
    D("previous_size_bytes", ROW_SIGNED_OR_NULL, previous_size_bytes),
    D("resized_at", ROW_TIME, resized_at),
    D("logical_sector_bytes", ROW_NUMBER, logical_sector_bytes),
    D("physical_sector_bytes", ROW_NUMBER, physical_sector_bytes),
    D("trackable", ROW_BOOL, trackable),
    D("not_trackable_reason", ROW_TEXT, not_trackable_reason),
    D("volatile_cache", ROW_BOOL, volatile_cache),
    D("is_root", ROW_BOOL, is_root),
    D("present", ROW_BOOL, present),
    D("protected", ROW_BOOL, is_protected),
    D("volumes", ROW_ARRAY, volumes_json),
};
#undef D

static json_t *disk_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, disk_members, ARRAY_LEN(disk_members));
}

static const struct row_filter disk_filters[] = {
    {"present", "present", DB_EQ},
    {"protected", "is_protected", DB_EQ},
    {"trackable", "trackable", DB_EQ},
};

int serve_disk_list(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];
    const struct row_list list = {
        .entity = &db_disks,
        .filters = disk_filters,
        .filter_count = ARRAY_LEN(disk_filters),
        .fixed = {"machine_id", DB_EQ, id},
        .item = disk_json,
    };

    if (machine_id(r, id, err) < 0)
        return -1;
    return row_list_serve(r, &list, err);
}

static int submit_disks(struct request *r, const char *kind, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    if (machine_id(r, id, err) < 0)
        return -1;
    return serve_job_submit(r, kind, id, json_deep_copy(r->body), err);
}

int serve_disk_add(struct request *r, struct err *err)
{
    return submit_disks(r, "disk_add", err);
}

int serve_disk_exclude(struct request *r, struct err *err)
{
    return submit_disks(r, "disk_exclude", err);
}

int serve_disk_resize(struct request *r, struct err *err)
{
    return submit_disks(r, "disk_resize", err);
}

static json_t *churn_json(const struct request *r, const void *row)
{
    const struct disk_minute_row *m = row;

    (void)r;
    return json_pack("{s:o, s:I, s:I, s:I, s:I, s:f}", "minute", row_json_time(m->minute), "disk", (json_int_t)m->disk,
        "changed_bytes", (json_int_t)m->changed_bytes, "incompressible_bytes", (json_int_t)m->incompressible_bytes,
        "turned_bytes", (json_int_t)m->turned_bytes, "entropy_bits", (double)m->entropy_millibits / 1000);
}

static const struct row_filter churn_filters[] = {
    {"after", "minute", DB_GE},
    {"before", "minute", DB_LT},
    {"disk", "disk", DB_EQ},
};

int serve_churn_list(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];
    const struct row_list list = {
        .entity = &db_disk_minutes,
        .filters = churn_filters,
        .filter_count = ARRAY_LEN(churn_filters),
        .fixed = {"machine_id", DB_EQ, id},
        .item = churn_json,
    };

    if (machine_id(r, id, err) < 0)
        return -1;
    return row_list_serve(r, &list, err);
}

int serve_machine_protect(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];
    int held;

    if (machine_id(r, id, err) < 0 || (held = hold_policy(r, id, request_str(r, "policy_id"), err)) < 0)
        return -1;
    if (held)
        return 0;
    return serve_job_submit(r, "protect", id, json_deep_copy(r->body), err);
}

int serve_machine_erase(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    if (machine_id(r, id, err) < 0)
        return -1;
    return serve_job_submit(r, "erase", id, json_object(), err);
}

int serve_machine_rotate_key(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    if (machine_id(r, id, err) < 0)
        return -1;
    return serve_job_submit(r, "machine_rotate_key", id, json_object(), err);
}

int serve_machine_unprotect(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    if (machine_id(r, id, err) < 0)
        return -1;
    return serve_job_submit(r, "unprotect", id, json_object(), err);
}

int serve_machine_resync(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    if (machine_id(r, id, err) < 0)
        return -1;
    return serve_job_submit(r, "resync", id, json_object(), err);
}

int serve_machine_move(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    if (machine_id(r, id, err) < 0)
        return -1;
    return serve_job_submit(r, "machine_move", id, r->body ? json_deep_copy(r->body) : json_object(), err);
}
