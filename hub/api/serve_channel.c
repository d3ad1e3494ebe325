/* SPDX-License-Identifier: Apache-2.0
 *
 * Where alerts go: webhooks and mail servers, trying one, and what became of its deliveries. `secret` goes in and never out.
 */
#include "hub/api/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/api/row_json.h"
#include "hub/db/channel_store.h"
#include "hub/fabric/http_probe.h"
#include "transport/base/clock.h"

#define PORT_TLS 465u
#define PORT_SUBMISSION 587u

#define C(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct channel_row, member)                                                    \
    }
static const struct row_json_member channel_members[] = {
    C("id", ROW_TEXT, id),
    C("name", ROW_TEXT, name),
    C("kind", ROW_TEXT, kind),
    C("enabled", ROW_BOOL, enabled),
    C("min_severity", ROW_TEXT, min_severity),
    C("send_resolved", ROW_BOOL, send_resolved),
    C("weekly_report", ROW_BOOL, weekly_report),
    C("group_seconds", ROW_SECONDS, group_usec),
    C("url", ROW_TEXT, url),
    C("server", ROW_TEXT, server),
    C("port", ROW_NUMBER, port),
    C("security", ROW_TEXT, security),
    C("username", ROW_TEXT, username),
    C("from", ROW_TEXT, from_address),
    C("to", ROW_ARRAY, to_json),
    C("ca_certificate", ROW_TEXT, ca_certificate),
    C("has_secret", ROW_BOOL, has_secret),
    C("last_delivered_at", ROW_TIME, last_delivered_at),
    C("last_failed_at", ROW_TIME, last_failed_at),
    C("last_error", ROW_TEXT, last_error),
    C("etag", ROW_ETAG, version),
    C("created_at", ROW_TIME, created_at),
    C("updated_at", ROW_TIME, updated_at),
};
#undef C

static json_t *channel_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, channel_members, ARRAY_LEN(channel_members));
}

#define D(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct delivery_row, member)                                                   \
    }
static const struct row_json_member delivery_members[] = {
    D("id", ROW_TEXT, id),
    D("channel_id", ROW_TEXT, channel_id),
    D("kind", ROW_TEXT, kind),
    D("state", ROW_TEXT, state),
    D("change_count", ROW_NUMBER, change_count),
    D("attempts", ROW_NUMBER, attempts),
    D("last_error", ROW_TEXT, last_error),
    D("next_at", ROW_TIME, next_at),
    D("created_at", ROW_TIME, created_at),
    D("finished_at", ROW_TIME, finished_at),
};
#undef D

static json_t *delivery_json(const struct request *r, const void *row)
{
    (void)r;
    return row_json(row, delivery_members, ARRAY_LEN(delivery_members));
}

static const struct row_filter channel_filters[] = {
    {"name", "name", DB_LIKE}, {"kind", "kind", DB_EQ}, {"enabled", "enabled", DB_EQ}};

int serve_channel_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_alert_channels,
        .filters = channel_filters,
        .filter_count = ARRAY_LEN(channel_filters),
        .item = channel_json,
    };

    return row_list_serve(r, &list, err);
}

static int reply_channel(struct request *r, const char *id, bool created, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    char location[192];

    if (db_need(r->conn, &db_alert_channels, id, &set, err) < 0)
        return -1;
    (void)snprintf(location, sizeof(location), "/api/v1/alert-channels/%s", id);
    return created ? reply_created(r, channel_json(r, set.items), location, err)
                   : reply_json(r, 200, channel_json(r, set.items), err);
}

int serve_channel_get(struct request *r, struct err *err)
{
    return reply_channel(r, r->params[0], false, err);
}

/* ---- changes ---- */

static const char *text_or(const struct request *r, const char *name, const char *fallback)
{
    return request_str(r, name) ? request_str(r, name) : fallback;
}

/* *ret_to keeps the text of the receivers alive. */
static int take(struct request *r, struct channel_row *row, char **ret_to, struct err *err)
{
    const json_t *to = json_object_get(r->body, "to");

    row->name = text_or(r, "name", row->name);
    row->kind = text_or(r, "kind", row->kind);
    row->enabled = request_bool(r, "enabled", row->enabled);
    row->min_severity = text_or(r, "min_severity", row->min_severity);
    row->send_resolved = request_bool(r, "send_resolved", row->send_resolved);
    row->weekly_report = request_bool(r, "weekly_report", row->weekly_report);
    row->group_usec = request_usec(r, "group_seconds", row->group_usec);
    row->url = text_or(r, "url", row->url);
    row->server = text_or(r, "server", row->server);
    row->security = text_or(r, "security", row->security);
    row->username = text_or(r, "username", row->username);
    row->from_address = text_or(r, "from", row->from_address);
    row->ca_certificate = text_or(r, "ca_certificate", row->ca_certificate);
    row->port = (uint64_t)request_int(r, "port", (int64_t)row->port);
    if (row->port == 0 && strcmp(row->kind, "smtp") == 0)
        row->port = strcmp(row->security, "tls") == 0 ? PORT_TLS : PORT_SUBMISSION;
    if (!to)
        return 0;
    *ret_to = json_dumps(to, JSON_COMPACT);
    row->to_json = *ret_to;
    return *ret_to ? 0 : err_set(err, ERR_NOMEM, "no memory for the receivers");
}

/* Addresses of webhooks are secrets themselves, as a rule, and what is sent names machines and their troubles. */
static int check_url(struct request *r, const struct channel_row *row, struct err *err)
{
    if (http_url_check(row->url, NULL) < 0)
        return request_fault(r, err, "/url", "malformed", "not an address that begins with https:// or http://");
    if (!http_url_is_in_the_clear(row->url) || strcmp(row->security, "none") == 0)
        return 0;
    return request_fault(r, err, "/url", "insecure",
        "everybody on the way reads what is sent to http://: take https://, or, where the way is trusted, security "
        "\"none\" (--security none)");
}

/* What a kind needs; a password in the clear is nobody's intention. */
static int check(struct request *r, const struct channel_row *row, struct err *err)
{
    bool webhook = strcmp(row->kind, "webhook") == 0;

    if (webhook && !row->url[0])
        return request_fault(r, err, "/url", "missing", "a webhook needs the URL to post to");
    /* A channel from before that was asked for can be renamed and switched off. */
    if (webhook && (request_str(r, "url") || request_str(r, "security")))
        return check_url(r, row, err);
    if (!webhook && !row->server[0])
        return request_fault(r, err, "/server", "missing", "mail needs the name of a server");
    if (!webhook && !row->from_address[0])
        return request_fault(r, err, "/from", "missing", "mail needs the address that it comes from");
    if (!webhook && strcmp(row->to_json, "[]") == 0)
        return request_fault(r, err, "/to", "missing", "mail needs somebody to go to");
    if (!webhook && row->username[0] && strcmp(row->security, "none") == 0)
        return request_fault(
            r, err, "/security", "insecure", "a password is sent over TLS alone: take \"starttls\" or \"tls\"");
    return 0;
}

int serve_channel_create(struct request *r, struct err *err)
{
    struct channel_row row = {.enabled = true,
        .min_severity = "warning",
        .send_resolved = true,
        .group_usec = 30 * USEC_PER_SEC,
        .url = "",
        .server = "",
        .security = "starttls",
        .username = "",
        .from_address = "",
        .to_json = "[]",
        .ca_certificate = ""};
    AUTO_FREE char *to = NULL;
    char id[IDENT_TEXT_SIZE];

    if (take(r, &row, &to, err) < 0 || check(r, &row, err) < 0 ||
        channel_create(r->conn, &row, text_or(r, "secret", ""), id, err) < 0)
        return -1;
    return reply_channel(r, id, true, err);
}

int serve_channel_update(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    AUTO_FREE char *to = NULL;
    struct channel_row row;

    if (db_need(r->conn, &db_alert_channels, r->params[0], &set, err) < 0)
        return -1;
    row = *db_at(&set, struct channel_row, 0);
    if (take(r, &row, &to, err) < 0 || check(r, &row, err) < 0 ||
        channel_update(r->conn, &row, request_str(r, "secret"), r->if_version ? r->if_version : row.version, err) < 0)
        return -1;
    return reply_channel(r, row.id, false, err);
}

static int channel_id(struct request *r, char ret_id[IDENT_TEXT_SIZE], struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_alert_channels, r->params[0], &set, err) < 0)
        return -1;
    (void)snprintf(ret_id, IDENT_TEXT_SIZE, "%s", db_at(&set, struct channel_row, 0)->id);
    return 0;
}

int serve_channel_delete(struct request *r, struct err *err)
{
    char id[IDENT_TEXT_SIZE];

    if (channel_id(r, id, err) < 0 || channel_delete(r->conn, id, r->if_version, err) < 0)
        return -1;
    return reply_empty(r);
}

/* ---- deliveries ---- */

int serve_channel_test(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};
    char id[IDENT_TEXT_SIZE], delivery[IDENT_TEXT_SIZE];
    json_t *body = json_pack("{s:s, s:s}", "subject", "a test", "text",
        "This is a test of a channel for alerts. Who reads it would be told of alerts.");
    AUTO_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;

    json_decref(body);
    if (!text)
        return err_set(err, ERR_NOMEM, "no memory for a test");
    if (channel_id(r, id, err) < 0 || delivery_queue(r->conn, id, "test", text, delivery, err) < 0 ||
        db_need(r->conn, &db_alert_deliveries, delivery, &set, err) < 0)
        return -1;
    (void)snprintf(r->reply.location, sizeof(r->reply.location), "/api/v1/alert-deliveries/%s", delivery);
    return reply_json(r, 202, delivery_json(r, set.items), err);
}

static const struct row_filter delivery_filters[] = {
    {"channel_id", "channel_id", DB_EQ}, {"state", "state", DB_EQ}, {"kind", "kind", DB_EQ}};

int serve_delivery_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_alert_deliveries,
        .filters = delivery_filters,
        .filter_count = ARRAY_LEN(delivery_filters),
        .item = delivery_json,
    };

    return row_list_serve(r, &list, err);
}

int serve_delivery_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_alert_deliveries, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, delivery_json(r, set.items), err);
}
