/* SPDX-License-Identifier: Apache-2.0
 *
 * What replicas of a machine, or of the machines of a site, get at a target: read with what it comes to for the machine as it is, and changed member by member.
 */
#include <string.h>

#include "hub/api/row_json.h"
#include "hub/api/serve.h"
#include "hub/db/mapping_store.h"
#include "hub/jobs/replica_mapping.h"
#include "transport/base/mem.h"

static json_t *parse(const char *text, json_type type)
{
    json_t *value = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

    if (value && json_typeof(value) == type)
        return value;
    json_decref(value);
    return type == JSON_ARRAY ? json_array() : json_object();
}

/* The members of a mapping that is stored, each there: null and [] where it says nothing. */
static json_t *members_of(const char *mapping_json)
{
    json_t *mapping = parse(mapping_json, JSON_OBJECT), *item = json_object();
    static const char *const numbers[] = {"cpus", "memory_bytes"};
    json_t *nics = json_object_get(mapping, "nics");

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        json_t *value = json_object_get(mapping, numbers[i]);

        json_object_set_new(item, numbers[i], value ? json_incref(value) : json_null());
    }
    json_object_set_new(item, "nics", nics ? json_incref(nics) : json_array());
    json_decref(mapping);
    return item;
}

static void add_version(json_t *item, uint64_t version, uint64_t updated_at)
{
    json_object_set_new(item, "etag", json_sprintf("%llu", (unsigned long long)version));
    json_object_set_new(item, "updated_at", row_json_time(updated_at));
}

/* ---- what it comes to ---- */

/* The options that a failover without any of its own would have, or why it would be refused. */
static json_t *outcome(const struct replica_mapping_question *q)
{
    json_t *options = json_object(), *fixups;
    struct err err = ERR_INIT;

    if (replica_mapping_apply(q, options, &err) < 0) {
        json_decref(options);
        return json_pack("{s:s, s:s}", "problem", err.text, "correction", err.correction);
    }
    fixups = json_object_get(options, "fixups");
    if (fixups)
        json_object_set(options, "network", json_object_get(fixups, "network"));
    json_object_del(options, "fixups");
    return options;
}

static json_t *machine_mapping_json(const struct machine_mapping_row *m)
{
    json_t *item = members_of(m->mapping_json);
    json_t *machine = parse(m->mapping_json, JSON_OBJECT), *site = parse(m->site_mapping_json, JSON_OBJECT);
    json_t *nics = parse(m->nics_json, JSON_ARRAY), *addresses = parse(m->addresses_json, JSON_ARRAY);
    struct replica_mapping_question q = {.machine = machine, .site = site, .nics = nics, .addresses = addresses};

    json_object_set_new(item, "machine_id", json_string(m->machine_id));
    json_object_set_new(item, "machine_name", json_string(m->machine_name));
    json_object_set_new(item, "site_id", m->site_id[0] ? json_string(m->site_id) : json_null());
    json_object_set_new(item, "site_name", m->site_name[0] ? json_string(m->site_name) : json_null());
    json_object_set_new(item, "failover", outcome(&q));
    q.test = true;
    json_object_set_new(item, "test", outcome(&q));
    json_object_set_new(item, "machine_nics", nics);
    add_version(item, m->version, m->updated_at);
    json_decref(machine);
    json_decref(site);
    json_decref(addresses);
    return item;
}

static json_t *site_mapping_json(const struct site_mapping_row *s)
{
    json_t *item = members_of(s->mapping_json);

    json_object_set_new(item, "site_id", json_string(s->site_id));
    json_object_set_new(item, "site_name", json_string(s->site_name));
    add_version(item, s->version, s->updated_at);
    return item;
}

/* ---- changing ---- */

/* A merge patch (RFC 7396) of the members; *ret_json is the caller's. */
static int patched(const struct request *r, const char *mapping_json, bool of_site, char **ret_json, struct err *err)
{
    json_t *mapping = parse(mapping_json, JSON_OBJECT), *value;
    const char *key;
    int rc;

    json_object_foreach(r->body, key, value)
    {
        if (json_is_null(value))
            json_object_del(mapping, key);
        else
            json_object_set(mapping, key, value);
    }
    rc = replica_mapping_check(mapping, of_site, err);
    if (rc == 0 && !(*ret_json = json_dumps(mapping, JSON_COMPACT)))
        rc = err_set(err, ERR_NOMEM, "no memory for a mapping");
    json_decref(mapping);
    return rc;
}

int serve_machine_mapping_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_machine_mappings, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, machine_mapping_json(db_at(&set, struct machine_mapping_row, 0)), err);
}

int serve_machine_mapping_update(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *mapping = NULL;

    if (db_need(r->conn, &db_machine_mappings, r->params[0], &set, err) < 0)
        return -1;
    const struct machine_mapping_row *m = db_at(&set, struct machine_mapping_row, 0);

    if (patched(r, m->mapping_json, false, &mapping, err) < 0 ||
        machine_mapping_put(r->conn, m->machine_id, mapping, r->if_version ? r->if_version : m->version, err) < 0)
        return -1;
    return serve_machine_mapping_get(r, err);
}

int serve_site_mapping_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_site_mappings, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, site_mapping_json(db_at(&set, struct site_mapping_row, 0)), err);
}

int serve_site_mapping_update(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *mapping = NULL;

    if (db_need(r->conn, &db_site_mappings, r->params[0], &set, err) < 0)
        return -1;
    const struct site_mapping_row *s = db_at(&set, struct site_mapping_row, 0);

    if (patched(r, s->mapping_json, true, &mapping, err) < 0 ||
        site_mapping_put(r->conn, s->site_id, mapping, r->if_version ? r->if_version : s->version, err) < 0)
        return -1;
    return serve_site_mapping_get(r, err);
}
