/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward alert ..., leeward channel ..., leeward report ...: what is wrong, who is told, the week on paper.
 */
#include "hub/cli/verbs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/cli/profile.h"
#include "transport/base/buf.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

static const struct column alert_columns[] = {
    {"SEVERITY", "severity", COLUMN_TEXT, false},
    {"STATE", "state", COLUMN_TEXT, false},
    {"WHAT", "title", COLUMN_TEXT, false},
    {"WHERE", "subject_name", COLUMN_TEXT, false},
    {"SINCE", "since", COLUMN_TIME, false},
    {"CAUSE", "cause", COLUMN_TEXT, false},
    {"REMEDY", "remedy", COLUMN_TEXT, true},
    {"BY", "acknowledged_by", COLUMN_TEXT, true},
    {"ID", "id", COLUMN_TEXT, false},
};

static const struct column channel_columns[] = {
    {"NAME", "name", COLUMN_TEXT, false},
    {"KIND", "kind", COLUMN_TEXT, false},
    {"ENABLED", "enabled", COLUMN_YES_NO, false},
    {"FROM SEVERITY", "min_severity", COLUMN_TEXT, false},
    {"REPORT", "weekly_report", COLUMN_YES_NO, false},
    {"LAST DELIVERED", "last_delivered_at", COLUMN_TIME, false},
    {"LAST ERROR", "last_error", COLUMN_TEXT, false},
    {"WHERE TO", "url", COLUMN_TEXT, true},
    {"SERVER", "server", COLUMN_TEXT, true},
    {"TO", "to", COLUMN_LIST, true},
    {"RESOLVED", "send_resolved", COLUMN_YES_NO, true},
    {"ID", "id", COLUMN_TEXT, true},
};

static const struct column delivery_columns[] = {
    {"CREATED", "created_at", COLUMN_TIME, false},
    {"KIND", "kind", COLUMN_TEXT, false},
    {"STATE", "state", COLUMN_TEXT, false},
    {"CHANGES", "change_count", COLUMN_NUMBER, false},
    {"ATTEMPTS", "attempts", COLUMN_NUMBER, false},
    {"LAST ERROR", "last_error", COLUMN_TEXT, false},
    {"ID", "id", COLUMN_TEXT, false},
};

/* ---- alerts ---- */

int verb_alert_list(struct command_line *line, struct err *err)
{
    const char *code = command_option(line, "code"), *severity = command_option(line, "severity");
    const char *states = command_option(line, "all") ? "firing,acknowledged,resolved" : "firing,acknowledged";
    AUTO_FREE char *first = client_path("/api/v1/alerts?state=%s", states);
    AUTO_FREE char *second = code ? client_path("&code=%s", code) : mem_strdup("");
    AUTO_FREE char *third = severity ? client_path("&severity=%s", severity) : mem_strdup("");
    AUTO_FREE char *path = first && second && third ? mem_printf("%s%s%s", first, second, third) : NULL;

    return verb_print_list(line, path, alert_columns, ARRAY_LEN(alert_columns), 0, err);
}

int verb_alert_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/alerts/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

/* POST with a body, and the item that comes back. */
static int post(struct command_line *line, const char *path, const json_t *body, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_call(line->client, "POST", path, body, NULL, &answer, err) < 0)
        return -1;
    return output_item(line, answer.json, stdout);
}

/* All of them, whatever becomes of one; *first is why the first that was refused was. Returns how many were. */
static size_t acknowledge_each(const struct command_line *line, const json_t *body, json_t *taken, struct err *first)
{
    size_t missed = 0;

    for (size_t i = 0; i < line->argument_count; i++) {
        AUTO_FREE char *path = client_path("/api/v1/alerts/%s/acknowledge", line->arguments[i]);
        AUTO_ANSWER struct client_answer answer = {0};
        struct err why = ERR_INIT;

        if (!path)
            (void)err_set(&why, ERR_NOMEM, "no memory for a request");
        else if (client_call(line->client, "POST", path, body, NULL, &answer, &why) == 0)
            json_array_append(taken, answer.json);
        if (why.code != ERR_NONE && missed++ == 0) {
            err_copy(first, &why);
            (void)err_wrap(first, "%s", line->arguments[i]);
        }
    }
    return missed;
}

static int acknowledge_many(const struct command_line *line, const json_t *body, struct err *err)
{
    json_t *taken = json_array();
    struct err first = ERR_INIT;
    size_t missed = acknowledge_each(line, body, taken, &first);
    int rc = output_items(line, taken, alert_columns, ARRAY_LEN(alert_columns), stdout);

    json_decref(taken);
    if (rc < 0 || missed == 0)
        return rc;
    err_copy(err, &first);
    return err_wrap(err, "%zu of %u alerts not acknowledged", missed, line->argument_count);
}

int verb_alert_ack(struct command_line *line, struct err *err)
{
    const char *note = command_option(line, "note");
    AUTO_FREE char *path = client_path("/api/v1/alerts/%s/acknowledge", line->arguments[0]);
    json_t *body = json_pack("{s:s}", "note", note ? note : "");
    int rc;

    if (!body)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    rc = line->argument_count > 1 ? acknowledge_many(line, body, err) : post(line, path, body, err);
    json_decref(body);
    return rc;
}

/* ---- channels ---- */

static int add_texts(const struct command_line *line, json_t *body)
{
    static const struct {
        const char *option, *member;
    } texts[] = {{"min-severity", "min_severity"}, {"hook", "url"}, {"server", "server"}, {"security", "security"},
        {"username", "username"}, {"from", "from"}};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (command_option(line, texts[i].option) &&
            json_object_set_new(body, texts[i].member, json_string(command_option(line, texts[i].option))) < 0)
            return -1;
    return 0;
}

static int add_switches(const struct command_line *line, json_t *body, struct err *err)
{
    static const struct {
        const char *option, *member;
    } switches[] = {{"enabled", "enabled"}, {"send-resolved", "send_resolved"}, {"weekly-report", "weekly_report"}};

    for (size_t i = 0; i < ARRAY_LEN(switches); i++) {
        const char *value = command_option(line, switches[i].option);

        if (!value)
            continue;
        if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
            return err_set(err, ERR_INVALID, "--%s must be yes or no, not \"%s\"", switches[i].option, value);
        json_object_set_new(body, switches[i].member, json_boolean(strcmp(value, "yes") == 0));
    }
    return 0;
}

static int add_receivers(const struct command_line *line, json_t *body)
{
    json_t *to = json_array();

    for (unsigned i = 0; command_option_nth(line, "to", i); i++)
        json_array_append_new(to, json_string(command_option_nth(line, "to", i)));
    if (json_array_size(to) > 0)
        return json_object_set_new(body, "to", to);
    json_decref(to);
    return 0;
}

/* Secrets come from a file, its first line: command lines are seen by everybody on the machine. */
static int add_secret(const struct command_line *line, json_t *body, struct err *err)
{
    AUTO_FREE char *text = NULL;

    if (!command_option(line, "secret-file"))
        return 0;
    if (profile_read_secret(command_option(line, "secret-file"), &text, err) < 0)
        return -1;
    return json_object_set_new(body, "secret", json_string(text)) < 0
               ? err_set(err, ERR_INVALID, "the secret is no text")
               : 0;
}

static int add_authority(const struct command_line *line, json_t *body, struct err *err)
{
    AUTO_BUF struct buf pem = BUF_INIT(64u * 1024u);

    if (!command_option(line, "ca-file"))
        return 0;
    if (file_read(command_option(line, "ca-file"), &pem, err) < 0)
        return -1;
    return json_object_set_new(body, "ca_certificate", json_stringn((const char *)pem.data, pem.len)) < 0
               ? err_set(err, ERR_INVALID, "%s is no PEM", command_option(line, "ca-file"))
               : 0;
}

static int channel_body(const struct command_line *line, json_t *body, struct err *err)
{
    uint64_t number;
    int given = command_option_number(line, "port", 1, 65535, &number, err);

    if (given < 0 || (given > 0 && json_object_set_new(body, "port", json_integer((json_int_t)number)) < 0))
        return -1;
    given = command_option_usec(line, "group", &number, err);
    if (given < 0 || (given > 0 && json_object_set_new(body, "group_seconds", json_real((double)number / 1e6)) < 0))
        return -1;
    if (add_texts(line, body) < 0 || add_receivers(line, body) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    return add_switches(line, body, err) < 0 || add_secret(line, body, err) < 0 || add_authority(line, body, err) < 0
               ? -1
               : 0;
}

int verb_channel_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/alert-channels", channel_columns, ARRAY_LEN(channel_columns), 0, err);
}

int verb_channel_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/alert-channels/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

/* With a hook it is a webhook, else mail. */
int verb_channel_create(struct command_line *line, struct err *err)
{
    const char *kind = command_option(line, "hook") ? "webhook" : "smtp";
    json_t *body = json_pack("{s:s, s:s}", "name", line->arguments[0], "kind", kind);
    int rc = body ? channel_body(line, body, err) : err_set(err, ERR_NOMEM, "no memory for a request");

    rc = rc < 0 ? -1 : post(line, "/api/v1/alert-channels", body, err);
    json_decref(body);
    return rc;
}

int verb_channel_set(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/alert-channels/%s", line->arguments[0]);
    json_t *body = json_object();
    int rc = channel_body(line, body, err);

    if (rc == 0)
        rc = json_object_size(body) ? verb_change_item(line, "PATCH", path, body, err)
                                    : err_set(err, ERR_INVALID, "nothing to change was given");
    json_decref(body);
    return rc;
}

int verb_channel_delete(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/alert-channels/%s", line->arguments[0]);

    return verb_change_item(line, "DELETE", path, NULL, err);
}

int verb_channel_test(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/alert-channels/%s/test", line->arguments[0]);

    return post(line, path, NULL, err);
}

int verb_channel_deliveries(struct command_line *line, struct err *err)
{
    AUTO_FREE char *channel = client_path("/api/v1/alert-channels/%s", line->arguments[0]);
    AUTO_ANSWER struct client_answer answer = {0};

    if (!channel || client_get(line->client, channel, &answer, err) < 0)
        return channel ? -1 : err_set(err, ERR_NOMEM, "no memory for a request");
    AUTO_FREE char *path =
        client_path("/api/v1/alert-deliveries?channel_id=%s", json_string_value(json_object_get(answer.json, "id")));

    return verb_print_list(line, path, delivery_columns, ARRAY_LEN(delivery_columns), 50, err);
}

/* ---- reports ---- */

int verb_report_weekly(struct command_line *line, struct err *err)
{
    const char *format = command_option(line, "format"), *until = command_option(line, "until");
    AUTO_FREE char *end = until ? client_path("&until=%s", until) : mem_strdup("");
    AUTO_FREE char *begin = client_path("/api/v1/reports/weekly?format=%s", format ? format : "csv");
    AUTO_FREE char *path = begin && end ? mem_printf("%s%s", begin, end) : NULL;
    AUTO_FREE char *text = NULL;

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_text(line->client, path, &text, err) < 0)
        return -1;
    (void)fputs(text, stdout);
    return 0;
}

int verb_report_send(struct command_line *line, struct err *err)
{
    return post(line, "/api/v1/reports/weekly/send", NULL, err);
}
