/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes and vaults: the peers that carry and keep the data. As with machines, what a peer said last is laid over its row.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <string.h>

#include "hub/api/row_json.h"
#include "hub/control/live_status.h"
#include "hub/db/config_store.h"
#include "hub/db/rows.h"

#define PEER(row)                                                                                                      \
    {"id", ROW_TEXT, offsetof(struct row, id)}, {"name", ROW_TEXT, offsetof(struct row, name)},                        \
        {"site_id", ROW_TEXT_OR_NULL, offsetof(struct row, site_id)},                                                  \
        {"site_name", ROW_TEXT_OR_NULL, offsetof(struct row, site_name)},                                              \
        {"endpoint", ROW_TEXT, offsetof(struct row, endpoint)},                                                        \
        {"software", ROW_TEXT, offsetof(struct row, software)}, {"host", ROW_TEXT, offsetof(struct row, host)},        \
        {"online", ROW_BOOL, offsetof(struct row, online)}, {"simulated", ROW_BOOL, offsetof(struct row, simulated)},  \
        {"health", ROW_TEXT, offsetof(struct row, health)},                                                            \
        {"cause_code", ROW_TEXT, offsetof(struct row, cause_code)}, {"cause", ROW_TEXT, offsetof(struct row, cause)},  \
        {"remedy", ROW_TEXT, offsetof(struct row, remedy)},                                                            \
        {"cause_values", ROW_OBJECT, offsetof(struct row, cause_values_json)},                                         \
        {"last_seen_at", ROW_TIME, offsetof(struct row, last_seen_at)},                                                \
        {"streams", ROW_NUMBER, offsetof(struct row, streams)},                                                        \
        {"machine_count", ROW_NUMBER, offsetof(struct row, machine_count)},                                            \
        {"etag", ROW_ETAG, offsetof(struct row, version)}, {"created_at", ROW_TIME, offsetof(struct row, created_at)}, \
    {                                                                                                                  \
        "updated_at", ROW_TIME, offsetof(struct row, updated_at)                                                       \
    }

#define THROTTLE(row)                                                                                                  \
    {"throttle_bytes_per_second", ROW_NUMBER, offsetof(struct row, throttle_bytes_per_sec)},                           \
        {"machine_throttle_bytes_per_second", ROW_NUMBER, offsetof(struct row, machine_throttle_bytes_per_sec)},       \
        {"work_hours", ROW_TEXT, offsetof(struct row, work_hours)},                                                    \
        {"work_hours_time_zone", ROW_TEXT, offsetof(struct row, work_hours_time_zone)},                                \
    {                                                                                                                  \
        "work_hours_throttle_bytes_per_second", ROW_NUMBER, offsetof(struct row, work_hours_throttle_bytes_per_sec)    \
    }

static const struct row_json_member node_members[] = {
    PEER(node_row),
    {"drain", ROW_BOOL, offsetof(struct node_row, drain)},
    {"spool_bytes", ROW_NUMBER, offsetof(struct node_row, spool_bytes)},
    {"spool_limit_bytes", ROW_NUMBER, offsetof(struct node_row, spool_limit_bytes)},
    {"received_bytes", ROW_DIGITS, offsetof(struct node_row, received_bytes)},
    {"forwarded_bytes", ROW_DIGITS, offsetof(struct node_row, forwarded_bytes)},
    {"cpu_percent", ROW_PERCENT, offsetof(struct node_row, cpu_permille)},
    THROTTLE(node_row),
};

static const struct row_json_member live_node_members[] = {
    {"spool_bytes", ROW_NUMBER, offsetof(struct live_node, spool_bytes)},
    {"spool_limit_bytes", ROW_NUMBER, offsetof(struct live_node, spool_limit_bytes)},
    {"received_bytes", ROW_DIGITS, offsetof(struct live_node, received_bytes)},
    {"forwarded_bytes", ROW_DIGITS, offsetof(struct live_node, forwarded_bytes)},
};

static const struct row_json_member vault_members[] = {
    PEER(vault_row),
    {"accepting", ROW_BOOL, offsetof(struct vault_row, accepting)},
    {"used_bytes", ROW_NUMBER, offsetof(struct vault_row, used_bytes)},
    {"free_bytes", ROW_NUMBER, offsetof(struct vault_row, free_bytes)},
    {"capacity_bytes", ROW_NUMBER, offsetof(struct vault_row, capacity_bytes)},
    THROTTLE(vault_row),
};

static const struct row_json_member live_vault_members[] = {
    {"accepting", ROW_BOOL, offsetof(struct live_vault, accepting)},
    {"used_bytes", ROW_NUMBER, offsetof(struct live_vault, used_bytes)},
    {"free_bytes", ROW_NUMBER, offsetof(struct live_vault, free_bytes)},
    {"capacity_bytes", ROW_NUMBER, offsetof(struct live_vault, capacity_bytes)},
};

static json_t *node_json(const struct request *r, const void *row)
{
    const struct node_row *n = row;
    json_t *item = row_json(row, node_members, ARRAY_LEN(node_members));
    struct live_node live = {0};

    if (!item)
        return NULL;
    if (live_status_node(r->services->conf->live, n->id, &live) && live.online) {
        (void)row_json_add(item, &live, live_node_members, ARRAY_LEN(live_node_members));
        json_object_set_new(item, "streams", json_integer(live.streams));
    }
    json_object_set_new(item, "received_bytes_per_second", json_integer((json_int_t)live.received_bytes_per_sec));
    json_object_set_new(item, "forwarded_bytes_per_second", json_integer((json_int_t)live.forwarded_bytes_per_sec));
    return item;
}

static json_t *vault_json(const struct request *r, const void *row)
{
    const struct vault_row *v = row;
    json_t *item = row_json(row, vault_members, ARRAY_LEN(vault_members));
    struct live_vault live = {0};

    if (item && live_status_vault(r->services->conf->live, v->id, &live) && live.online) {
        (void)row_json_add(item, &live, live_vault_members, ARRAY_LEN(live_vault_members));
        json_object_set_new(item, "streams", json_integer(live.streams));
    }
    return item;
}

static const struct row_filter peer_filters[] = {
    {"name", "name", DB_LIKE},
    {"health", "health", DB_EQ},
    {"online", "online", DB_EQ},
    {"simulated", "simulated", DB_EQ},
};

/* What differs between the two kinds. */
struct peer_kind {
    const struct db_entity *entity;
    json_t *(*item)(const struct request *r, const void *row);
    int (*update)(
        struct db_conn *conn, const char *id, const struct peer_change *change, uint64_t if_version, struct err *err);
    int (*delete)(struct db_conn *conn, const char *id, uint64_t if_version, struct err *err);
};
static const struct peer_kind nodes = {&db_nodes, node_json, node_update, node_delete};
static const struct peer_kind vaults = {&db_vaults, vault_json, vault_update, vault_delete};

static int peer_list(struct request *r, const struct peer_kind *kind, struct err *err)
{
    const struct row_list list = {
        .entity = kind->entity,
        .filters = peer_filters,
        .filter_count = ARRAY_LEN(peer_filters),
        .item = kind->item,
    };

    return row_list_serve(r, &list, err);
}

static int peer_get(struct request *r, const struct peer_kind *kind, const char *id, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, kind->entity, id, &set, err) < 0)
        return -1;
    return reply_json(r, 200, kind->item(r, set.items), err);
}

/* The path may hold a name. Both row structs begin with their id. */
static int peer_id(struct request *r, const struct peer_kind *kind, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    _Static_assert(offsetof(struct node_row, id) == 0 && offsetof(struct vault_row, id) == 0, "the id comes first");
    if (db_need(r->conn, kind->entity, r->params[0], &set, err) < 0)
        return -1;
    (void)snprintf(ret_id, IDENT_TEXT_SIZE, "%s", *(const char *const *)set.items);
    return 0;
}

/* What is not given stays as it is. *t: as it is, then as it shall be. */
static int throttle_change(struct request *r, struct node_throttle *t, struct err *err)
{
    t->throttle_bytes_per_sec =
        (uint64_t)request_int(r, "throttle_bytes_per_second", (int64_t)t->throttle_bytes_per_sec);
    t->machine_throttle_bytes_per_sec =
        (uint64_t)request_int(r, "machine_throttle_bytes_per_second", (int64_t)t->machine_throttle_bytes_per_sec);
    t->work_hours = request_str(r, "work_hours") ? request_str(r, "work_hours") : t->work_hours;
    t->work_hours_time_zone =
        request_str(r, "work_hours_time_zone") ? request_str(r, "work_hours_time_zone") : t->work_hours_time_zone;
    t->work_hours_throttle_bytes_per_sec =
        (uint64_t)request_int(r, "work_hours_throttle_bytes_per_second", (int64_t)t->work_hours_throttle_bytes_per_sec);
    return node_throttle_check(t, err);
}

#define THROTTLE_OF(row)                                                                                               \
    {                                                                                                                  \
        .throttle_bytes_per_sec = (row)->throttle_bytes_per_sec,                                                       \
        .machine_throttle_bytes_per_sec = (row)->machine_throttle_bytes_per_sec, .work_hours = (row)->work_hours,      \
        .work_hours_time_zone = (row)->work_hours_time_zone,                                                           \
        .work_hours_throttle_bytes_per_sec = (row)->work_hours_throttle_bytes_per_sec                                  \
    }

/* *ret_throttle points into *set. */
static int node_throttle(struct request *r, struct db_set *set, struct node_throttle *ret_throttle, struct err *err)
{
    if (db_need(r->conn, &db_nodes, r->params[0], set, err) < 0)
        return -1;
    *ret_throttle = (struct node_throttle)THROTTLE_OF(db_at(set, struct node_row, 0));
    return throttle_change(r, ret_throttle, err);
}

static int vault_throttle(struct request *r, struct db_set *set, struct node_throttle *ret_throttle, struct err *err)
{
    if (db_need(r->conn, &db_vaults, r->params[0], set, err) < 0)
        return -1;
    *ret_throttle = (struct node_throttle)THROTTLE_OF(db_at(set, struct vault_row, 0));
    return throttle_change(r, ret_throttle, err);
}

static bool has_throttle(const struct request *r)
{
    return json_object_get(r->body, "throttle_bytes_per_second") ||
           json_object_get(r->body, "machine_throttle_bytes_per_second") || json_object_get(r->body, "work_hours") ||
           json_object_get(r->body, "work_hours_time_zone") ||
           json_object_get(r->body, "work_hours_throttle_bytes_per_second");
}

static int peer_update(
    struct request *r, const struct peer_kind *kind, const struct node_throttle *throttle, struct err *err)
{
    bool drain = request_bool(r, "drain", false);
    const struct peer_change change = {
        .name = request_str(r, "name"),
        .site_id = json_is_null(json_object_get(r->body, "site_id")) ? "" : request_str(r, "site_id"),
        .drain = json_object_get(r->body, "drain") ? &drain : NULL,
        .throttle = throttle,
    };
    char id[IDENT_TEXT_SIZE];

    if (peer_id(r, kind, id, err) < 0 || kind->update(r->conn, id, &change, r->if_version, err) < 0)
        return -1;
    return peer_get(r, kind, id, err);
}

static int peer_delete(struct request *r, const struct peer_kind *kind, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    if (peer_id(r, kind, id, err) < 0 || kind->delete (r->conn, id, r->if_version, err) < 0)
        return -1;
    return reply_empty(r);
}

int serve_node_list(struct request *r, struct err *err)
{
    return peer_list(r, &nodes, err);
}

int serve_node_get(struct request *r, struct err *err)
{
    return peer_get(r, &nodes, r->params[0], err);
}

int serve_node_update(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    struct node_throttle throttle;
    bool given = has_throttle(r);

    if (given && node_throttle(r, &set, &throttle, err) < 0)
        return -1;
    return peer_update(r, &nodes, given ? &throttle : NULL, err);
}

int serve_node_delete(struct request *r, struct err *err)
{
    return peer_delete(r, &nodes, err);
}

int serve_vault_list(struct request *r, struct err *err)
{
    return peer_list(r, &vaults, err);
}

int serve_vault_get(struct request *r, struct err *err)
{
    return peer_get(r, &vaults, r->params[0], err);
}

int serve_vault_update(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    struct node_throttle throttle;
    bool given = has_throttle(r);

    if (given && vault_throttle(r, &set, &throttle, err) < 0)
        return -1;
    return peer_update(r, &vaults, given ? &throttle : NULL, err);
}

int serve_vault_delete(struct request *r, struct err *err)
{
    return peer_delete(r, &vaults, err);
}

int serve_vault_rotate_key(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    if (peer_id(r, &vaults, id, err) < 0)
        return -1;
    return serve_job_submit(r, "vault_rotate_key", NULL, json_pack("{s:s}", "vault_id", id), err);
}

int serve_vault_verify(struct request *r, struct err *err)
{
    const char *machine = request_str(r, "machine");
    AUTO_DB_SET struct db_set set = {0};
    char id[IDENT_TEXT_SIZE];
    json_t *params;

    if (peer_id(r, &vaults, id, err) < 0)
        return -1;
    if (machine && db_need(r->conn, &db_machines, machine, &set, err) < 0)
        return -1;
    params = json_pack("{s:s}", "vault_id", id);
    if (params && machine)
        json_object_set_new(params, "machine_id", json_string(db_at(&set, struct machine_row, 0)->id));
    if (params && request_bool(r, "incremental", false))
        json_object_set_new(params, "incremental", json_true());
    if (params && request_str(r, "not_since"))
        json_object_set_new(params, "not_since", json_string(request_str(r, "not_since")));
    return serve_job_submit(r, "vault_verify", NULL, params, err);
}
