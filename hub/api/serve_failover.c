/* SPDX-License-Identifier: Apache-2.0
 *
 * Failovers, and the targets that their replicas run on. What changes a failover is a job; the point is pinned when it is asked for, so that "the
 * latest" means what the caller saw.
 */
#include <stdio.h>
#include <string.h>

#include "hub/api/row_json.h"
#include "hub/api/serve.h"
#include "hub/db/failback_store.h"
#include "hub/db/failover_store.h"
#include "hub/fabric/compute.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

/* ---- targets ---- */

#define T(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct target_row, member)                                                     \
    }
static const struct row_json_member target_members[] = {
    T("id", ROW_TEXT, id),
    T("name", ROW_TEXT, name),
    T("description", ROW_TEXT, description),
    T("adapter", ROW_TEXT, adapter),
    T("config", ROW_OBJECT, config_json),
    T("etag", ROW_ETAG, version),
    T("created_at", ROW_TIME, created_at),
    T("updated_at", ROW_TIME, updated_at),
};
#undef T

static json_t *target_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, target_members, ARRAY_LEN(target_members));
}

static const struct row_filter target_filters[] = {
    {"name", "name", DB_EQ},
    {"adapter", "adapter", DB_EQ},
};

int serve_target_list(struct request *r, struct err *err)
{
    const struct row_list list = {.entity = &db_targets,
        .filters = target_filters,
        .filter_count = ARRAY_LEN(target_filters),
        .item = target_json};

    return row_list_serve(r, &list, err);
}

int serve_target_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_targets, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, target_json(r, set.items), err);
}

/* The adapter's own word on the config, on an empty one where a new target has none. The text is the caller's. The body stays as it came: the
 * request may be served anew. */
static int config_of(const struct request *r, const char *adapter, bool is_new, char **ret_text, struct err *err)
{
    const json_t *given = json_object_get(r->body, "config");
    json_t *none = !given && is_new ? json_object() : NULL;
    const json_t *config = given ? given : none;
    int rc = is_new && !config ? err_set(err, ERR_NOMEM, "no memory for a target") : 0;

    *ret_text = given ? json_dumps(given, JSON_COMPACT) : mem_strdup("{}");
    if (rc == 0 && !*ret_text)
        rc = err_set(err, ERR_NOMEM, "no memory for a target");
    if (rc == 0 && config)
        rc = compute_configure(adapter, config, err);
    json_decref(none);
    return rc;
}

int serve_target_create(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *config = NULL;
    char id[IDENT_TEXT_SIZE], location[96];
    struct target_row row = {.name = request_str(r, "name"),
        .description = request_str(r, "description") ? request_str(r, "description") : "",
        .adapter = request_str(r, "adapter")};

    if (config_of(r, row.adapter, true, &config, err) < 0)
        return -1;
    row.config_json = config;
    if (target_create(r->conn, &row, id, err) < 0 || db_need(r->conn, &db_targets, id, &set, err) < 0)
        return -1;
    (void)snprintf(location, sizeof(location), "/api/v1/targets/%s", id);
    return reply_created(r, target_json(r, set.items), location, err);
}

int serve_target_update(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_DB_SET struct db_set after = {0};
    AUTO_FREE char *config = NULL;
    struct target_row row;

    if (db_need(r->conn, &db_targets, r->params[0], &set, err) < 0)
        return -1;
    row = *db_at(&set, struct target_row, 0);
    row.name = request_str(r, "name") ? request_str(r, "name") : row.name;
    row.description = request_str(r, "description") ? request_str(r, "description") : row.description;
    if (config_of(r, row.adapter, false, &config, err) < 0)
        return -1;
    row.config_json = json_object_get(r->body, "config") ? config : row.config_json;
    if (target_update(r->conn, &row, r->if_version ? r->if_version : row.version, err) < 0 ||
        db_need(r->conn, &db_targets, row.id, &after, err) < 0)
        return -1;
    return reply_json(r, 200, target_json(r, after.items), err);
}

int serve_target_delete(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_targets, r->params[0], &set, err) < 0 ||
        target_delete(r->conn, db_at(&set, struct target_row, 0)->id, r->if_version, err) < 0)
        return -1;
    return reply_empty(r);
}

/* ---- failovers ---- */

#define F(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct failover_row, member)                                                   \
    }
static const struct row_json_member failover_members[] = {
    F("id", ROW_TEXT, id),
    F("kind", ROW_TEXT, kind),
    F("state", ROW_TEXT, state),
    F("machine_id", ROW_TEXT, machine_id),
    F("machine_name", ROW_TEXT, machine_name),
    F("vault_id", ROW_TEXT, vault_id),
    F("target_id", ROW_TEXT, target_id),
    F("target_name", ROW_TEXT, target_name),
    F("adapter", ROW_TEXT, adapter),
    F("sequence", ROW_NUMBER, sequence),
    F("point_time", ROW_TIME, point_time),
    F("branch_id", ROW_TEXT_OR_NULL, export_id),
    F("options", ROW_OBJECT, options_json),
    F("fixups", ROW_OBJECT, fixups_json),
    F("replica", ROW_OBJECT, replica_json),
    F("failback", ROW_OBJECT, failback_json),
    F("verdict", ROW_TEXT, verdict),
    F("verdict_text", ROW_TEXT, verdict_text),
    F("outcome", ROW_TEXT_OR_NULL, outcome),
    F("notes", ROW_TEXT, notes),
    F("job_id", ROW_TEXT_OR_NULL, job_id),
    F("requested_by", ROW_TEXT, requested_by),
    F("requested_at", ROW_TIME, requested_at),
    F("running_at", ROW_TIME, running_at),
    F("ended_at", ROW_TIME, ended_at),
    F("rto_seconds", ROW_SECONDS, rto_usec),
    F("data_loss_seconds", ROW_SECONDS, loss_usec),
    F("etag", ROW_ETAG, version),
    F("created_at", ROW_TIME, created_at),
    F("updated_at", ROW_TIME, updated_at),
};
#undef F

static json_t *failover_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, failover_members, ARRAY_LEN(failover_members));
}

static const struct row_filter failover_filters[] = {
    {"machine_id", "machine_id", DB_EQ},
    {"kind", "kind", DB_EQ},
    {"state", "state", DB_EQ},
    {"verdict", "verdict", DB_EQ},
};

int serve_failover_list(struct request *r, struct err *err)
{
    const struct row_list list = {.entity = &db_failovers,
        .filters = failover_filters,
        .filter_count = ARRAY_LEN(failover_filters),
        .item = failover_json};

    return row_list_serve(r, &list, err);
}

int serve_failover_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_failovers, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, failover_json(r, set.items), err);
}

/* ---- the screen of a replica ---- */

#define SCREEN_WAIT_USEC (15 * USEC_PER_SEC)
#define SCREEN_PNG_MAX (64u << 20)

/* A host that is slow to answer must not take the threads of everybody else's requests: two of four, one of fewer. */
static unsigned screens_at_once(const struct request *r)
{
    unsigned threads = r->services->conf->handler_threads;

    return threads == 0 || threads >= 4 ? 2 : 1;
}

static int screenshot(struct request *r, const struct failover_row *f, struct err *err)
{
    const struct compute_screen_limits limits = {.wait_usec = SCREEN_WAIT_USEC, .at_once = screens_at_once(r)};
    AUTO_BUF struct buf png = BUF_INIT(SCREEN_PNG_MAX);
    json_t *config = json_loads(f->target_config_json, JSON_REJECT_DUPLICATES, NULL);
    int rc = config ? compute_screenshot(f->adapter, config, f->id, &limits, &png, err)
                    : err_set(err, ERR_NOMEM, "no memory for a screenshot");

    json_decref(config);
    if (rc < 0)
        return -1;
    char *data = (char *)TAKE_PTR(png.data);

    return reply_text(r, 200, "image/png", data, png.len);
}

/* All that is asked of the database is known before the host is: its connection is not held while that one thinks. */
int serve_failover_screenshot(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_failovers, r->params[0], &set, err) < 0)
        return -1;
    db_release(TAKE_PTR(r->conn));
    return screenshot(r, db_at(&set, struct failover_row, 0), err);
}

/* Digits, as jobs take sequences. */
static json_t *sequence_text(uint64_t sequence)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)sequence);
    return json_string(text);
}

/* What runs where and from which point: the members of the request that a failover and its preview have in common. */
static int submit_start(struct request *r, const char *job_kind, struct err *err)
{
    const char *target = request_str(r, "target") ? request_str(r, "target") : "disks";
    json_t *options = json_object_get(r->body, "options");
    AUTO_DB_SET struct db_set machine = {0};
    AUTO_DB_SET struct db_set place = {0};
    uint64_t sequence = (uint64_t)request_int(r, "sequence", 0);

    if (db_need(r->conn, &db_machines, request_str(r, "machine"), &machine, err) < 0 ||
        db_need(r->conn, &db_targets, target, &place, err) < 0)
        return -1;
    const char *id = db_at(&machine, struct machine_row, 0)->id;

    if (sequence == 0 && failover_latest_point(r->conn, id, &sequence, err) < 0)
        return -1;
    return serve_job_submit(r, job_kind, id,
        json_pack("{s:s*, s:s, s:o, s:O*}", "failover", request_str(r, "kind"), "target_id",
            db_at(&place, struct target_row, 0)->id, "sequence", sequence_text(sequence), "options", options),
        err);
}

int serve_failover_create(struct request *r, struct err *err)
{
    return submit_start(r, "failover", err);
}

int serve_failover_preview(struct request *r, struct err *err)
{
    return submit_start(r, "failover_preview", err);
}

/* A job about the failover in the path; params are taken over and get its id. */
static int submit(struct request *r, const char *kind, json_t *params, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_failovers, r->params[0], &set, err) < 0) {
        json_decref(params);
        return -1;
    }
    const struct failover_row *f = db_at(&set, struct failover_row, 0);

    if (!params || json_object_set_new(params, "failover_id", json_string(f->id)) < 0) {
        json_decref(params);
        return err_set(err, ERR_NOMEM, "no memory for a job");
    }
    return serve_job_submit(r, kind, f->machine_id, params, err);
}

int serve_failover_change_point(struct request *r, struct err *err)
{
    return submit(r, "failover_change_point",
        json_pack("{s:o}", "sequence", sequence_text((uint64_t)request_int(r, "sequence", 0))), err);
}

int serve_failover_commit(struct request *r, struct err *err)
{
    return submit(r, "failover_commit", json_object(), err);
}

int serve_failover_reprotect(struct request *r, struct err *err)
{
    return submit(r, "failover_reprotect", json_pack("{s:s*}", "vault", request_str(r, "vault")), err);
}

/* What the jobs that write disks have in common; "to" is the id of the machine that the request names. */
static json_t *receiver_params(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set to = {0};
    const char *name = request_str(r, "to");
    json_t *params;

    if (name && db_need(r->conn, &db_machines, name, &to, err) < 0)
        return NULL;
    params = json_pack("{s:s, s:s*, s:O*}", "confirm", request_str(r, "confirm"), "to",
        name ? db_at(&to, struct machine_row, 0)->id : NULL, "disks", json_object_get(r->body, "disks"));
    if (!params)
        err_set(err, ERR_NOMEM, "no memory for a job");
    return params;
}

int serve_failover_failback(struct request *r, struct err *err)
{
    json_t *params = receiver_params(r, err);

    if (params && json_object_set_new(params, "keep_fixups", json_boolean(request_bool(r, "keep_fixups", false))) < 0) {
        json_decref(params);
        return err_set(err, ERR_NOMEM, "no memory for a job");
    }
    return params ? submit(r, "failover_failback", params, err) : -1;
}

/* For those whose replica is the machine, or becomes it; of a test nothing goes back. */
static int check_goes_back(const struct failover_row *f, struct err *err)
{
    static const char *const states[] = {"running", "committed", "reprotected"};

    for (size_t i = 0; i < ARRAY_LEN(states) && strcmp(f->kind, "test") != 0; i++)
        if (strcmp(f->state, states[i]) == 0)
            return 0;
    err_set(err, ERR_REFUSED, "nothing of this failover is to be taken back: it is %s%s",
        strcmp(f->kind, "test") == 0 ? "a test, " : "", f->state);
    return err_hint(err, "leeward failover list shows which ones are committed.");
}

int serve_failover_failback_preview(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *text = NULL;
    int found;

    if (db_need(r->conn, &db_failovers, r->params[0], &set, err) < 0 ||
        check_goes_back(db_at(&set, struct failover_row, 0), err) < 0)
        return -1;
    found = failback_preview(r->conn, db_at(&set, struct failover_row, 0)->id, &text, err);
    if (found < 0)
        return -1;
    if (found == 0)
        return err_set(err, ERR_NOT_FOUND, "the failover is gone");
    json_t *preview = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

    return preview ? reply_json(r, 200, preview, err) : err_set(err, ERR_INTERNAL, "a preview is not JSON");
}

/* The newest point is pinned when it is asked for, as of a failover. */
int serve_machine_restore(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set machine = {0};
    uint64_t sequence = (uint64_t)request_int(r, "sequence", 0);
    json_t *params;

    if (db_need(r->conn, &db_machines, r->params[0], &machine, err) < 0)
        return -1;
    const char *id = db_at(&machine, struct machine_row, 0)->id;

    if ((sequence == 0 && failover_latest_point(r->conn, id, &sequence, err) < 0) ||
        !(params = receiver_params(r, err)))
        return -1;
    if (json_object_set_new(params, "sequence", sequence_text(sequence)) < 0) {
        json_decref(params);
        return err_set(err, ERR_NOMEM, "no memory for a job");
    }
    return serve_job_submit(r, "machine_restore", id, params, err);
}

/* A test is cleaned up, anything else rolled back: a caller who means the one must not get the other. */
static int end_as(struct request *r, bool test, json_t *params, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_failovers, r->params[0], &set, err) == 0) {
        bool is_test = strcmp(db_at(&set, struct failover_row, 0)->kind, "test") == 0;

        if (is_test == test)
            return submit(r, "failover_end", params, err);
        err_set(err, ERR_REFUSED, is_test ? "it is a test" : "it is not a test");
        err_hint(err, is_test ? "A test is ended by its cleanup." : "Roll it back, or commit it.");
    }
    json_decref(params);
    return -1;
}

int serve_failover_rollback(struct request *r, struct err *err)
{
    return end_as(r, false, json_object(), err);
}

int serve_failover_cleanup(struct request *r, struct err *err)
{
    return end_as(r, true,
        json_pack("{s:s*, s:s*}", "outcome", request_str(r, "outcome"), "notes", request_str(r, "notes")), err);
}
