/* SPDX-License-Identifier: Apache-2.0
 *
 * What the hub says about itself: alive, ready, its version and document, the numbers of the overview; settings.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <string.h>

#include "hub/api/four_eyes.h"
#include "hub/api/http_gzip.h"
#include "hub/api/openapi.h"
#include "hub/api/row_json.h"
#include "hub/api/status_cache.h"
#include "hub/db/config_store.h"
#include "hub/db/rows.h"
#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/hash.h"

int serve_liveness(struct request *r, struct err *err)
{
    return reply_json(r, 200, json_pack("{s:b}", "alive", true), err);
}

/* The checks as JSON; *ret_ready is whether all are good. */
static json_t *checks_json(const struct request *r, bool *ret_ready)
{
    const struct api_conf *conf = r->services->conf;
    struct api_check checks[API_CHECKS_MAX] = {0};
    size_t n = conf->ready ? conf->ready(conf->arg, checks) : 0;
    json_t *list = json_array();

    *ret_ready = !atomic_load(r->services->draining);
    for (size_t i = 0; i < n && i < API_CHECKS_MAX; i++) {
        *ret_ready = *ret_ready && checks[i].ok;
        json_array_append_new(list, json_pack("{s:s, s:b, s:s}", "name", checks[i].name, "ok", checks[i].ok, "text",
                                        checks[i].ok ? "" : checks[i].text));
    }
    if (atomic_load(r->services->draining))
        json_array_append_new(
            list, json_pack("{s:s, s:b, s:s}", "name", "draining", "ok", false, "text", "the hub is going down"));
    return list;
}

int serve_readiness(struct request *r, struct err *err)
{
    const char *verbose = request_query(r, "verbose");
    bool ready;
    json_t *checks = checks_json(r, &ready);
    json_t *body = json_pack("{s:b}", "ready", ready);

    if (body && verbose && strcmp(verbose, "0") != 0 && strcmp(verbose, "false") != 0)
        json_object_set(body, "checks", checks);
    json_decref(checks);
    return reply_json(r, ready ? 200 : 503, body, err);
}

int serve_version(struct request *r, struct err *err)
{
    return reply_json(
        r, 200, json_pack("{s:s, s:s, s:s}", "product", "leeward", "version", LEEWARD_VERSION, "api", "v1"), err);
}

/* Revalidated by the hash of its bytes. */
int serve_openapi(struct request *r, struct err *err)
{
    size_t len;
    const char *bytes = openapi_text(&len);
    size_t gzip_len;
    const char *gzip = openapi_gzip(r->services->doc, &gzip_len);
    bool packed = gzip && http_gzip_accepted(r->headers.accept_encoding);
    char etag[2 * HASH_SIZE + 4], quoted[sizeof(etag) + 2];
    struct hash128 hash;
    char *text;

    hash_128(bytes, len, &hash);
    bytes_to_hex(hash.bytes, HASH_SIZE, etag);
    if (packed) /* another form has another tag */
        memcpy(etag + 2 * HASH_SIZE, "-gz", 4);
    (void)snprintf(quoted, sizeof(quoted), "\"%s\"", etag);
    if (r->headers.if_none_match && strstr(r->headers.if_none_match, quoted)) {
        (void)reply_empty(r);
        r->reply.status = 304;
    } else {
        if (!(text = mem_alloc(packed ? gzip_len : len, 1)))
            return err_set(err, ERR_NOMEM, "no memory for the API's description");
        memcpy(text, packed ? gzip : bytes, packed ? gzip_len : len);
        (void)reply_text(r, 200, "application/json", text, packed ? gzip_len : len);
        r->reply.gzip = packed;
    }
    (void)snprintf(r->reply.etag, sizeof(r->reply.etag), "%s", etag);
    return 0;
}

/* ---- status ---- */

static int add_counts(struct request *r, json_t *status, struct err *err)
{
    struct status_counts c;
    json_t *counts;
    int rc;

    if (status_cache_read(r->services->status, r->conn, &c, err) < 0)
        return -1;
    counts = json_pack("{s:{s:I, s:I, s:I, s:I, s:I}, s:{s:I, s:I}, s:{s:I, s:I}, s:{s:I, s:I}}", "machines", "total",
        (json_int_t)c.machines, "protected", (json_int_t)c.protected_machines, "replicating", (json_int_t)c.replicating,
        "attention", (json_int_t)c.attention, "unprotected", (json_int_t)c.unprotected, "nodes", "total",
        (json_int_t)c.nodes, "online", (json_int_t)c.nodes_online, "vaults", "total", (json_int_t)c.vaults, "online",
        (json_int_t)c.vaults_online, "jobs", "running", (json_int_t)c.jobs_running, "waiting_for_input",
        (json_int_t)c.jobs_waiting);
    rc = counts ? json_object_update(status, counts) : -1;
    json_decref(counts);
    return rc < 0 ? err_set(err, ERR_NOMEM, "no memory for the status") : 0;
}

int serve_status(struct request *r, struct err *err)
{
    bool ready;
    json_t *checks = checks_json(r, &ready);
    json_t *status = json_pack("{s:s, s:i, s:s, s:o, s:b, s:o}", "hub_id", r->services->conf->hub_id, "control_port",
        (int)r->services->conf->control_port, "version", LEEWARD_VERSION, "time", row_json_time(clock_utc_usec()),
        "ready", ready, "checks", checks);

    if (!status)
        return err_set(err, ERR_NOMEM, "no memory for the status");
    if (add_counts(r, status, err) < 0) {
        json_decref(status);
        return -1;
    }
    return reply_json(r, 200, status, err);
}

/* ---- settings ---- */

static const char *const setting_keys[] = {"site_name", "event_keep_days", "session_idle_seconds",
    "session_max_seconds", "alert_raise_after_seconds", "alert_clear_after_seconds", "alert_silent_seconds",
    "alert_clock_skew_seconds", "alert_full_warning_percent", "alert_full_critical_percent", "alert_full_forecast_days",
    "alert_certificate_days", "report_weekday", "report_hour", "four_eyes"};

static bool is_shown(const char *key)
{
    for (size_t i = 0; i < ARRAY_LEN(setting_keys); i++)
        if (strcmp(setting_keys[i], key) == 0)
            return true;
    return false; /* the hub's own: hub_id */
}

int serve_settings_get(struct request *r, struct err *err)
{
    AUTO_PGRESULT PGresult *rows = NULL;
    uint64_t version = 0;
    int n = setting_list(r->conn, &rows, &version, err);
    json_t *settings = n < 0 ? NULL : json_pack("{s:o}", "etag", json_sprintf("%llu", (unsigned long long)version));

    if (n < 0)
        return -1;
    if (!settings)
        return err_set(err, ERR_NOMEM, "no memory for the settings");
    for (int i = 0; i < n; i++)
        if (is_shown(db_text(rows, i, 0)))
            json_object_set_new(settings, db_text(rows, i, 0), json_loads(db_text(rows, i, 1), JSON_DECODE_ANY, NULL));
    return reply_json(r, 200, settings, err);
}

/* Four eyes are opened by one person, and closed by two. 0, 1 (held back, the reply is set) or -1. */
static int hold_weaker(struct request *r, struct err *err)
{
    const json_t *after = json_object_get(r->body, "four_eyes");
    AUTO_FREE char *text = NULL;
    int found = after ? setting_get(r->conn, "four_eyes", &text, err) : 0;
    json_t *before;
    bool weaker;

    if (found <= 0)
        return found;
    before = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    weaker = four_eyes_weakened(before, after);
    json_decref(before);
    return weaker ? four_eyes_hold(r, "four_eyes", "", err, "ask a second person about less than before") : 0;
}

static int change_setting(struct request *r, const char *key, const json_t *value, struct err *err)
{
    AUTO_FREE char *text = json_is_null(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    if (json_is_null(value))
        return setting_clear(r->conn, key, err);
    return text ? setting_put(r->conn, key, text, err) : err_set(err, ERR_NOMEM, "no memory for a setting");
}

/* What is held back raises no version: the change is made, with the version that was seen, when it is approved. */
int serve_settings_update(struct request *r, struct err *err)
{
    const char *key;
    json_t *value;
    int held = hold_weaker(r, err);

    if (held != 0)
        return held < 0 ? -1 : 0;
    if (settings_changed(r->conn, r->if_version, err) < 0)
        return -1;
    json_object_foreach(r->body, key, value)
    {
        if (change_setting(r, key, value, err) < 0)
            return -1;
    }
    return serve_settings_get(r, err);
}
