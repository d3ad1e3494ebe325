/* SPDX-License-Identifier: Apache-2.0
 *
 * Alerts: what is wrong for long enough that somebody should know, and who has taken it on.
 */
#include "hub/api/serve.h"

#include <string.h>

#include "hub/api/row_json.h"
#include "hub/core/alert.h"
#include "hub/db/alert_store.h"
#include "hub/db/journal.h"

#define A(member_name, row_form, member)                                                                               \
    {                                                                                                                  \
        member_name, row_form, offsetof(struct alert_row, member)                                                      \
    }
static const struct row_json_member alert_members[] = {
    A("id", ROW_TEXT, id),
    A("code", ROW_TEXT, code),
    A("severity", ROW_TEXT, severity),
    A("state", ROW_TEXT, state),
    A("subject_kind", ROW_TEXT, subject_kind),
    A("subject_id", ROW_TEXT, subject_id),
    A("subject_name", ROW_TEXT, subject_name),
    A("detail", ROW_TEXT, detail),
    A("machine_id", ROW_TEXT_OR_NULL, machine_id),
    A("node_id", ROW_TEXT_OR_NULL, node_id),
    A("vault_id", ROW_TEXT_OR_NULL, vault_id),
    A("group_id", ROW_TEXT_OR_NULL, group_id),
    A("cause", ROW_TEXT, cause),
    A("remedy", ROW_TEXT, remedy),
    A("values", ROW_OBJECT, values_json),
    A("since", ROW_TIME, since),
    A("raised_at", ROW_TIME, raised_at),
    A("acknowledged_at", ROW_TIME, acknowledged_at),
    A("acknowledged_by", ROW_TEXT, acknowledged_by),
    A("note", ROW_TEXT, note),
    A("resolved_at", ROW_TIME, resolved_at),
    A("etag", ROW_ETAG, version),
    A("updated_at", ROW_TIME, updated_at),
};
#undef A

static json_t *alert_json(const struct request *r, const void *row)
{
    json_t *item = row_json(row, alert_members, ARRAY_LEN(alert_members));

    (void)r;
    if (item)
        json_object_set_new(item, "title", json_string(alert_title(((const struct alert_row *)row)->code)));
    return item;
}

static const struct row_filter alert_filters[] = {
    {"state", "state", DB_EQ},
    {"severity", "severity", DB_EQ},
    {"code", "code", DB_EQ},
    {"subject_kind", "subject_kind", DB_EQ},
    {"subject_name", "subject_name", DB_LIKE},
    {"machine_id", "machine_id", DB_EQ},
    {"node_id", "node_id", DB_EQ},
    {"vault_id", "vault_id", DB_EQ},
    {"group_id", "group_id", DB_EQ},
    {"after", "raised_at", DB_GE},
    {"before", "raised_at", DB_LT},
};

int serve_alert_list(struct request *r, struct err *err)
{
    const struct row_list list = {
        .entity = &db_alerts,
        .filters = alert_filters,
        .filter_count = ARRAY_LEN(alert_filters),
        .item = alert_json,
    };

    return row_list_serve(r, &list, err);
}

int serve_alert_get(struct request *r, struct err *err)
{
    AUTO_DB_SET struct db_set set = {0};

    if (db_need(r->conn, &db_alerts, r->params[0], &set, err) < 0)
        return -1;
    return reply_json(r, 200, alert_json(r, set.items), err);
}

/* Who acknowledges again what is acknowledged changes nothing. */
static int tell(struct request *r, const struct alert_row *a, struct err *err)
{
    const struct event_spec event = {.severity = "info",
        .code = "alert_acknowledged",
        .values = TEXT_VALUES(VALUE_TEXT("name", a->subject_name), VALUE_TEXT("alert", a->code),
            VALUE_TEXT("title", alert_title(a->code))),
        .machine_id = a->machine_id,
        .node_id = a->node_id,
        .vault_id = a->vault_id,
        .actor = r->principal.name};

    return event_append(r->conn, &event, err);
}

int serve_alert_acknowledge(struct request *r, struct err *err)
{
    const char *note = request_str(r, "note") ? request_str(r, "note") : "";
    AUTO_DB_SET struct db_set set = {0};
    int n = alert_acknowledge(r->conn, r->params[0], r->principal.name, note, err);

    if (n < 0 || db_need(r->conn, &db_alerts, r->params[0], &set, err) < 0)
        return -1;
    if (n > 0 && tell(r, db_at(&set, struct alert_row, 0), err) < 0)
        return -1;
    return reply_json(r, 200, alert_json(r, set.items), err);
}
