/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward token ..., leeward enrol-token ...
 */
#include "hub/cli/verbs.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

static const struct column token_columns[] = {
    {"NAME", "name", COLUMN_TEXT, false},
    {"ROLE", "role", COLUMN_TEXT, false},
    {"SCOPES", "scopes", COLUMN_LIST, false},
    {"EXPIRES", "expires_at", COLUMN_TIME, false},
    {"LAST USED", "last_used_at", COLUMN_TIME, false},
    {"REVOKED", "revoked_at", COLUMN_TIME, false},
    {"ID", "id", COLUMN_TEXT, false},
    {"BY", "created_by", COLUMN_TEXT, true},
    {"CREATED", "created_at", COLUMN_TIME, true},
};

static const struct column enrol_columns[] = {
    {"ID", "id", COLUMN_TEXT, false},
    {"ROLE", "role", COLUMN_TEXT, false},
    {"NAME", "name", COLUMN_TEXT, false},
    {"EXPIRES", "expires_at", COLUMN_TIME, false},
    {"USED", "used_at", COLUMN_TIME, false},
    {"REVOKED", "revoked_at", COLUMN_TIME, false},
    {"USED BY", "used_by", COLUMN_TEXT, true},
    {"CREATED", "created_at", COLUMN_TIME, true},
    {"BY", "created_by", COLUMN_TEXT, true},
};

static int add_expiry(const struct command_line *line, json_t *body, struct err *err)
{
    uint64_t usec;
    int given = command_option_usec(line, "expires", &usec, err);

    if (given > 0)
        json_object_set_new(body, "expires_in_seconds", json_integer((json_int_t)(usec / USEC_PER_SEC)));
    return given < 0 ? -1 : 0;
}

/* The token alone on standard output, so that a script can take it. */
static int print_secret(const struct command_line *line, const char *path, const json_t *body, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    const char *text;

    if (client_call(line->client, "POST", path, body, NULL, &answer, err) < 0)
        return -1;
    if (line->output == OUTPUT_JSON)
        return output_item(line, answer.json, stdout);
    text = json_string_value(json_object_get(answer.json, "token"));
    if (!text)
        return err_set(err, ERR_CORRUPT, "the hub's answer has no token");
    (void)puts(text);
    return 0;
}

int verb_token_create(struct command_line *line, struct err *err)
{
    const char *role = command_option(line, "role"), *scopes = command_option(line, "scopes");
    json_t *body = json_pack("{s:s, s:s}", "name", line->arguments[0], "role", role ? role : "operator");
    AUTO_FREE char *copy = scopes ? mem_strdup(scopes) : NULL;
    char *save = NULL;
    int rc = add_expiry(line, body, err);

    if (copy) {
        json_t *list = json_array();

        for (char *one = strtok_r(copy, ",", &save); one; one = strtok_r(NULL, ",", &save))
            json_array_append_new(list, json_string(one));
        json_object_set_new(body, "scopes", list);
    }
    if (rc == 0)
        rc = print_secret(line, "/api/v1/tokens", body, err);
    json_decref(body);
    return rc;
}

int verb_token_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/tokens", token_columns, ARRAY_LEN(token_columns), 0, err);
}

/* A token that is named, not given by id: the one that is not revoked. */
static int token_id(const struct command_line *line, const char *name, char ret_id[40], struct err *err)
{
    const json_t *one;
    json_t *items;
    size_t i;

    (void)snprintf(ret_id, 40, "%s", name);
    if (strlen(name) == 36 && name[8] == '-')
        return 0;
    if (verb_read_list(line, "/api/v1/tokens", 0, &items, err) < 0)
        return -1;
    ret_id[0] = 0;
    json_array_foreach(items, i, one)
    {
        const char *have = json_string_value(json_object_get(one, "name"));

        if (have && strcmp(have, name) == 0 && json_is_null(json_object_get(one, "revoked_at")))
            (void)snprintf(ret_id, 40, "%s", json_string_value(json_object_get(one, "id")) ?: "");
    }
    json_decref(items);
    return ret_id[0] ? 0 : err_set(err, ERR_NOT_FOUND, "there is no token \"%s\"", name);
}

int verb_token_revoke(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    AUTO_FREE char *path = NULL;
    char id[40];

    if (token_id(line, line->arguments[0], id, err) < 0 || !(path = client_path("/api/v1/tokens/%s", id)))
        return -1;
    return client_call(line->client, "DELETE", path, NULL, NULL, &answer, err);
}

int verb_enrol_token_create(struct command_line *line, struct err *err)
{
    const char *name = command_option(line, "name"), *role = command_option(line, "role");
    json_t *body;
    int rc;

    if (line->argument_count > 0)
        role = line->arguments[0];
    if (!role)
        return err_set(err, ERR_INVALID, "say for which role the token is: agent, node or vault");
    body = json_pack("{s:s}", "role", role);
    rc = add_expiry(line, body, err);

    if (name)
        json_object_set_new(body, "name", json_string(name));
    if (rc == 0)
        rc = print_secret(line, "/api/v1/enrolment-tokens", body, err);
    json_decref(body);
    return rc;
}

int verb_enrol_token_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/enrolment-tokens", enrol_columns, ARRAY_LEN(enrol_columns), 0, err);
}

int verb_enrol_token_revoke(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/enrolment-tokens/%s", line->arguments[0]);
    AUTO_ANSWER struct client_answer answer = {0};

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    return client_call(line->client, "DELETE", path, NULL, NULL, &answer, err);
}
