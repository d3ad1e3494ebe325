/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward api: any request, for what has no command of its own. And leeward audit, leeward settings.
 */
#include "hub/cli/verbs.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

#define BODY_MAX (1u << 20)

/* --data TEXT, @FILE or - (standard input); *ret_body NULL without it. */
static int read_body(const struct command_line *line, json_t **ret_body, struct err *err)
{
    const char *data = command_option(line, "data");
    AUTO_BUF struct buf bytes = BUF_INIT(BODY_MAX);
    json_error_t why;

    if (!data)
        return 0;
    if (data[0] == '@' || strcmp(data, "-") == 0) {
        if (file_read(data[0] == '@' ? data + 1 : "/dev/stdin", &bytes, err) < 0 || !(data = buf_str(&bytes, err)))
            return -1;
    }
    *ret_body = json_loads(data, JSON_REJECT_DUPLICATES, &why);
    return *ret_body ? 0 : err_set(err, ERR_INVALID, "--data is no JSON: %s", why.text);
}

static bool is_method(const char *word)
{
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};

    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (strcmp(methods[i], word) == 0)
            return true;
    return false;
}

int verb_api(struct command_line *line, struct err *err)
{
    const char *method = line->arguments[0], *path = line->arguments[1], *etag = command_option(line, "if-match");
    AUTO_FREE char *full =
        mem_printf("%s%s%s", strncmp(path, "/api/", 5) == 0 ? "" : "/api/v1", *path == '/' ? "" : "/", path);
    AUTO_FREE char *quoted = etag ? mem_printf(strcmp(etag, "*") == 0 ? "%s" : "\"%s\"", etag) : NULL;
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *body = NULL;
    int rc;

    if (!is_method(method))
        return err_set(err, ERR_INVALID, "%s is not one of GET, POST, PUT, PATCH and DELETE", method);
    if (!full || (etag && !quoted))
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (read_body(line, &body, err) < 0)
        return -1;
    rc = client_call(line->client, method, full, body, quoted, &answer, err);
    json_decref(body);
    if (rc == 0 && answer.json)
        output_json(answer.json, stdout);
    return rc;
}

int verb_audit_list(struct command_line *line, struct err *err)
{
    static const struct column columns[] = {
        {"SEQ", "seq", COLUMN_NUMBER, false},
        {"AT", "at", COLUMN_TIME, false},
        {"ACTOR", "actor", COLUMN_TEXT, false},
        {"ACTION", "action", COLUMN_TEXT, false},
        {"KIND", "object_kind", COLUMN_TEXT, false},
        {"OBJECT", "object_id", COLUMN_TEXT, false},
        {"OUTCOME", "outcome", COLUMN_TEXT, false},
        {"ADDRESS", "address", COLUMN_TEXT, true},
        {"DETAIL", "detail", COLUMN_TEXT, true},
    };
    uint64_t most = 50;

    if (command_option_number(line, "limit", 1, 1000000, &most, err) < 0)
        return -1;
    return verb_print_list(line, "/api/v1/audit?sort=-seq", columns, ARRAY_LEN(columns), (size_t)most, err);
}

/* What the hub's own description has of a setting; NULL for one that it does not name. */
static const json_t *setting_schema(const json_t *document, const char *name)
{
    const json_t *schemas = json_object_get(json_object_get(document, "components"), "schemas");

    return json_object_get(json_object_get(json_object_get(schemas, "Settings"), "properties"), name);
}

static bool is_of_type(const json_t *schema, const char *type)
{
    const char *is = json_string_value(json_object_get(schema, "type"));

    return is && strcmp(is, type) == 0;
}

/* "1 to 3650", "text", "list of erase, retention". */
static void what_it_may_be(const json_t *schema, char *out, size_t size)
{
    const json_t *choices = json_object_get(json_object_get(schema, "items"), "enum"), *choice;
    size_t used, i;

    if (is_of_type(schema, "integer"))
        (void)snprintf(out, size, "%lld to %lld", (long long)json_integer_value(json_object_get(schema, "minimum")),
            (long long)json_integer_value(json_object_get(schema, "maximum")));
    else
        (void)snprintf(out, size, "%s", choices ? "list of " : "text");
    json_array_foreach(choices, i, choice)
    {
        used = strlen(out);
        (void)snprintf(out + used, size - used, "%s%s", i ? ", " : "", json_string_value(choice));
    }
}

/* All settings that the hub's own description names, set or not. */
static json_t *settings_rows(const json_t *document, const json_t *settings)
{
    const json_t *schemas = json_object_get(json_object_get(document, "components"), "schemas");
    json_t *known = json_object_get(json_object_get(schemas, "Settings"), "properties"), *schema, *rows = json_array();
    char may_be[160];
    const char *name;

    json_object_foreach(known, name, schema)
    {
        if (json_is_true(json_object_get(schema, "readOnly"))) /* the etag */
            continue;
        const json_t *value = json_object_get(settings, name), *about = json_object_get(schema, "description");
        AUTO_FREE char *text =
            value && !json_is_string(value) ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

        what_it_may_be(schema, may_be, sizeof(may_be));
        (void)json_array_append_new(
            rows, json_pack("{s:s, s:s, s:s, s:s}", "name", name, "value",
                      text    ? text
                      : value ? json_string_value(value)
                              : "(default)",
                      "may_be", may_be, "about", json_is_string(about) ? json_string_value(about) : ""));
    }
    return rows;
}

static int print_settings(const struct command_line *line, const json_t *settings, struct err *err)
{
    static const struct column columns[] = {
        {"SETTING", "name", COLUMN_TEXT, false},
        {"VALUE", "value", COLUMN_TEXT, false},
        {"MAY BE", "may_be", COLUMN_TEXT, false},
        {"WHAT IT IS (DEFAULT)", "about", COLUMN_TEXT, false},
    };
    AUTO_ANSWER struct client_answer document = {0};
    json_t *rows;
    int rc;

    if (line->output == OUTPUT_JSON)
        return output_item(line, settings, stdout);
    if (client_get(line->client, "/api/v1/openapi.json", &document, err) < 0)
        return -1;
    rows = settings_rows(document.json, settings);
    rc = output_items(line, rows, columns, ARRAY_LEN(columns), stdout);
    json_decref(rows);
    return rc;
}

int verb_settings_show(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};

    return client_get(line->client, "/api/v1/settings", &answer, err) < 0 ? -1 : print_settings(line, answer.json, err);
}

int verb_audit_verify(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};

    if (client_get(line->client, "/api/v1/audit/verify", &answer, err) < 0 ||
        output_item(line, answer.json, stdout) < 0)
        return -1;
    if (json_is_true(json_object_get(answer.json, "whole")))
        return 0;
    (void)err_set(err, ERR_CORRUPT, "the chain of the audit log is broken");
    return err_hint(err, "Compare with your exports from that entry on: somebody wrote to the hub's database.");
}

/* On the settings as they are now: a change of somebody else meanwhile is refused, not overwritten. */
static int change_settings(struct command_line *line, const json_t *changes, struct err *err)
{
    AUTO_ANSWER struct client_answer before = {0};
    AUTO_ANSWER struct client_answer after = {0};

    if (client_get(line->client, "/api/v1/settings", &before, err) < 0)
        return -1;
    if (client_call(line->client, "PATCH", "/api/v1/settings", changes, before.etag, &after, err) < 0)
        return err->code == ERR_INVALID
                   ? err_hint(err, "`leeward settings show` lists the settings, and what each may be.")
                   : -1;
    /* It is changed: that the table needs more of the hub, which may not come, is no failure of that. */
    return print_settings(line, after.json, NULL) < 0 ? output_item(line, after.json, stdout) : 0;
}

/* A text may look like a number; everything else is JSON, or a word that is refused with what it must be. */
static json_t *setting_value(struct command_line *line, const char *name, const char *text)
{
    AUTO_ANSWER struct client_answer document = {0};
    json_t *value = NULL;

    if (client_get(line->client, "/api/v1/openapi.json", &document, NULL) < 0 ||
        !is_of_type(setting_schema(document.json, name), "string"))
        value = json_loads(text, JSON_DECODE_ANY, NULL);
    return value ? value : json_string(text);
}

int verb_settings_set(struct command_line *line, struct err *err)
{
    json_t *body = json_object();
    int rc = json_object_set_new(body, line->arguments[0], setting_value(line, line->arguments[0], line->arguments[1]));

    rc = rc < 0 ? err_set(err, ERR_NOMEM, "no memory for a request") : change_settings(line, body, err);
    json_decref(body);
    return rc;
}

int verb_settings_reset(struct command_line *line, struct err *err)
{
    json_t *body = json_object();
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < line->argument_count; i++)
        rc = json_object_set_new(body, line->arguments[i], json_null());
    rc = rc < 0 ? err_set(err, ERR_NOMEM, "no memory for a request") : change_settings(line, body, err);
    json_decref(body);
    return rc;
}
