/* SPDX-License-Identifier: Apache-2.0
 *
 * From rows to the spec of a replica: what the failover asks for, else what the machine's own inventory has.
 */
#include <stdio.h>
#include <string.h>

#include "hub/db/protection_store.h"
#include "hub/fixup/fixup_spec.h"
#include "hub/jobs/failover_steps.h"
#include "hub/jobs/replica_mapping.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define MEMORY_UNKNOWN_BYTES (1LL << 30)
#define LOOK_USEC (200 * USEC_PER_MSEC)
#define ANOTHER_USEC (60 * 60 * USEC_PER_SEC) /* twice the longest time that fix-ups may take */

static int bad(struct err *err, const char *member, const char *how)
{
    return err_set(err, ERR_INVALID, "options.%s: %s", member, how);
}

static bool within(const json_t *options, const char *key, long long min, long long max)
{
    const json_t *v = json_object_get(options, key);

    return !v || (json_is_integer(v) && json_integer_value(v) >= min && json_integer_value(v) <= max);
}

int replica_options_check(const json_t *options, struct err *err)
{
    static const char *const known[] = {"cpus", "memory_bytes", "network", "boot_check", "fixups", "mapping", NULL};
    const json_t *network = json_object_get(options, "network"), *mapping = json_object_get(options, "mapping");

    if (job_params_known(options, known, err) < 0)
        return err_wrap(err, "options");
    if (!within(options, "cpus", 1, REPLICA_CPUS_MAX))
        return bad(err, "cpus", "not between 1 and 512");
    if (!within(options, "memory_bytes", REPLICA_MEMORY_MIN_BYTES, REPLICA_MEMORY_MAX_BYTES))
        return bad(err, "memory_bytes", "less than 64 MiB, or too much");
    if (network && !json_is_string(network))
        return bad(err, "network", "not a text");
    if (mapping && !json_is_boolean(mapping))
        return bad(err, "mapping", "neither true nor false");
    return fixup_spec_check(json_object_get(options, "fixups"), err) < 0 ? err_wrap(err, "options") : 0;
}

static json_t *number_or(const json_t *options, const char *key, long long fallback)
{
    const json_t *v = json_object_get(options, key);

    return json_integer(json_is_integer(v) ? json_integer_value(v) : (json_int_t)fallback);
}

/* The machine's protected disks, each with the URI that the vault gave it. */
static json_t *spec_disks(struct db_conn *conn, const char *machine_id, const json_t *opened, struct err *err)
{
    const struct db_filter filters[] = {{"machine_id", DB_EQ, machine_id}};
    const struct db_page page = {.filters = filters, .filter_count = ARRAY_LEN(filters), .limit = 500};
    AUTO_DB_SET struct db_set set = {0};
    json_t *list = json_array();
    const json_t *one;
    size_t at;

    if (!list || db_list(conn, &db_disks, &page, &set, err) < 0) {
        json_decref(list);
        return NULL;
    }
    for (size_t i = 0; i < set.count; i++) {
        const struct disk_row *d = db_at(&set, struct disk_row, i);
        const char *uri = NULL;

        json_array_foreach(opened, at,
            one) if (json_integer_value(json_object_get(one, "number")) == (json_int_t)d->number && d->number >= 0)
            uri = json_string_value(json_object_get(one, "uri"));
        if (opened ? uri != NULL : d->is_protected)
            json_array_append_new(
                list, json_pack("{s:I, s:s, s:s*, s:I, s:b}", "number", (json_int_t)d->number, "device", d->device,
                          "uri", uri, "size_bytes", (json_int_t)d->size_bytes, "is_root", (int)d->is_root));
    }
    return list;
}

int receive_list_read(struct db_conn *conn, const char *machine_id, const char *numbers_json,
    struct receive_list *ret_list, struct err *err)
{
    struct receive_list *l = ret_list;
    int n = numbers_json ? protection_disks_numbered(conn, machine_id, numbers_json, &l->rows, err)
                         : protection_disks(conn, machine_id, &l->rows, err);

    if (n < 0)
        return -1;
    l->items = mem_alloc((size_t)n + 1, sizeof(*l->items));
    l->disks = mem_alloc((size_t)n + 1, sizeof(*l->disks));
    if (!l->items || !l->disks)
        return err_set(err, ERR_NOMEM, "no memory for a list of disks");
    for (int i = 0; i < n; i++) {
        l->items[i] = (Leeward__Control__V1__DesiredDisk)LEEWARD__CONTROL__V1__DESIRED_DISK__INIT;
        l->items[i].number = (uint32_t)db_u64(l->rows, i, 0);
        l->items[i].key = (char *)(uintptr_t)db_text(l->rows, i, 4);
        l->disks[l->count++] = &l->items[i];
    }
    return 0;
}

void receive_list_done(struct receive_list *list)
{
    free(list->items);
    free(list->disks);
    PQclear(list->rows);
}

/* The cards as the mapping has them, else the one in the network that was asked for. */
static json_t *spec_nics(const json_t *options)
{
    json_t *mapped = json_object_get(options, "nics");
    const char *network = json_string_value(json_object_get(options, "network"));

    if (json_is_array(mapped))
        return json_incref(mapped);
    return network && network[0] ? json_pack("[{s:s, s:s, s:b}]", "source", "", "network", network, "isolated", 0)
                                 : json_array();
}

static json_t *pack(const struct failover_row *f, const struct machine_row *m, const json_t *options, json_t *disks)
{
    long long cpus = m->cpus ? (long long)m->cpus : 1;
    long long memory = m->memory_bytes ? (long long)m->memory_bytes : MEMORY_UNKNOWN_BYTES;
    json_t *nics = spec_nics(options);
    const char *network = json_string_value(json_object_get(json_array_get(nics, 0), "network"));

    return json_pack("{s:s, s:s, s:b, s:{s:s, s:s, s:s}, s:I, s:o, s:o, s:s, s:s, s:O*, s:O*, s:o, s:o}", "failover_id",
        f->id, "kind", f->kind, "isolated", strcmp(f->kind, "test") == 0, "machine", "id", m->id, "name", m->name,
        "hostname", m->hostname, "sequence", (json_int_t)f->sequence, "cpus", number_or(options, "cpus", cpus),
        "memory_bytes", number_or(options, "memory_bytes", memory), "firmware", m->firmware[0] ? m->firmware : "bios",
        "network", network ? network : "", "boot_check", json_object_get(options, "boot_check"), "fixups",
        json_object_get(options, "fixups"), "disks", disks, "nics", nics);
}

json_t *replica_spec(struct db_conn *conn, const struct failover_row *failover, const json_t *disks, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    json_t *options = json_loads(failover->options_json, JSON_REJECT_DUPLICATES, NULL), *list, *spec;

    if (db_need(conn, &db_machines, failover->machine_id, &set, err) < 0 ||
        !(list = spec_disks(conn, failover->machine_id, disks, err))) {
        json_decref(options);
        return NULL;
    }
    spec = pack(failover, db_at(&set, struct machine_row, 0), options, list);
    json_decref(options);
    if (!spec)
        err_set(err, ERR_NOMEM, "no memory for a replica's spec");
    return spec;
}

/* A machine of fix-ups that outlived its hub is at work on the same branch: it ends, and then the task is begun anew. */
static bool wait_for_another(struct job_run *run, struct err *err)
{
    if (err->code != ERR_CONFLICT || run->job->step_age_usec > ANOTHER_USEC)
        return false;
    snprintf(run->detail, sizeof(run->detail), "waiting: %.200s", err->text);
    run->again_usec = USEC_PER_SEC;
    err_clear(err);
    return true;
}

int replica_ask(struct job_run *run, const struct failover_row *failover, enum fabric_verb verb, const json_t *disks,
    bool graceful, json_t **ret_answer, struct err *err)
{
    static const char *const doing[] = {[FABRIC_CHECK] = "is asked whether it can take the replica",
        [FABRIC_START] = "starts the replica",
        [FABRIC_STOP] = "stops the replica",
        [FABRIC_ACT] = "works",
        [FABRIC_FIXUP] = "waits while the replica's disks are prepared",
        [FABRIC_PREVIEW] = "waits while changes of the replica's disks are listed",
        [FABRIC_TAKE_BACK] = "waits while the fix-ups are taken back",
        [FABRIC_TRY] = "waits while the hub's host is asked"};
    json_t *config = json_loads(failover->target_config_json, JSON_REJECT_DUPLICATES, NULL);
    json_t *replica = json_loads(failover->replica_json, JSON_REJECT_DUPLICATES, NULL);
    json_t *spec = replica_spec(run->conn, failover, disks, err), *answer = NULL;
    char key[64];
    int rc = -1;

    snprintf(key, sizeof(key), "%s/%u", run->job->id, (unsigned)run->job->ordinal);
    const struct fabric_ask ask = {.key = key,
        .verb = verb,
        .adapter = failover->adapter,
        .config = config,
        .spec = spec,
        .replica = replica,
        .graceful = graceful};

    if (spec)
        rc = config && replica ? fabric_task(&ask, &answer, err) : err_set(err, ERR_NOMEM, "no memory for a target");
    unsigned others = rc == 0 ? fabric_task_others(&ask) : 0;

    json_decref(config);
    json_decref(replica);
    json_decref(spec);
    snprintf(run->detail, sizeof(run->detail), "target %.60s %s", failover->target_name, doing[verb]);
    if (others)
        snprintf(
            run->detail, sizeof(run->detail), "waiting for the fix-ups of %u other%s", others, others > 1 ? "s" : "");
    run->again_usec = LOOK_USEC;
    run->keep = true;
    if (rc < 0 && wait_for_another(run, err))
        rc = 0;
    /* The target's own word: a step that begins it again would go on for ever. */
    run->final = rc < 0;
    if (rc <= 0)
        return rc < 0 ? -1 : JOB_AGAIN;
    if (ret_answer)
        *ret_answer = answer;
    else
        json_decref(answer);
    return JOB_DONE;
}
