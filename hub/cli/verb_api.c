/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward api: any request, for what has no command of its own. And leeward audit, leeward settings.
 */
#include "hub/cli/verbs.h"

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

int verb_settings_show(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};

    if (client_get(line->client, "/api/v1/settings", &answer, err) < 0)
        return -1;
    if (json_object_size(answer.json) == 0 && line->output != OUTPUT_JSON)
        (void)fputs("No setting was changed: all are as docs/operator-guide.md says.\n", stderr);
    return output_item(line, answer.json, stdout);
}

int verb_settings_set(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *body = json_object(), *value = json_loads(line->arguments[1], JSON_DECODE_ANY, NULL);
    int rc;

    if (!value) /* a word that is no JSON is a text */
        value = json_string(line->arguments[1]);
    rc = json_object_set_new(body, line->arguments[0], value);
    rc = rc < 0 ? err_set(err, ERR_NOMEM, "no memory for a request")
                : client_call(line->client, "PATCH", "/api/v1/settings", body, NULL, &answer, err);
    json_decref(body);
    return rc < 0 ? -1 : output_item(line, answer.json, stdout);
}
