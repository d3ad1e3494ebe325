/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward user ..., and changes of nodes, vaults and sites.
 */
#include "hub/cli/verbs.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/mem.h"

static const struct column user_columns[] = {
    {"NAME", "name", COLUMN_TEXT, false},
    {"ROLE", "role", COLUMN_TEXT, false},
    {"DISPLAY NAME", "display_name", COLUMN_TEXT, false},
    {"DISABLED", "disabled", COLUMN_YES_NO, false},
    {"LAST SIGN-IN", "last_login_at", COLUMN_TIME, false},
    {"SESSIONS", "session_count", COLUMN_NUMBER, true},
    {"MUST CHANGE", "must_change_password", COLUMN_YES_NO, true},
    {"PROVIDER", "oidc_issuer", COLUMN_TEXT, true},
    {"ID", "id", COLUMN_TEXT, true},
    {"CREATED", "created_at", COLUMN_TIME, true},
};

int verb_user_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/users", user_columns, ARRAY_LEN(user_columns), 0, err);
}

int verb_user_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/users/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

/* A user as it comes back from a change; a password that was drawn alone on standard output, so that a script can take it. */
static int print_user(const struct command_line *line, const json_t *user)
{
    const char *password = json_string_value(json_object_get(user, "password"));

    if (line->output == OUTPUT_JSON || !password)
        return output_item(line, user, stdout);
    (void)fprintf(stderr, "The first password of %s, shown this once; it must be changed at the first sign-in:\n",
        line->arguments[0]);
    (void)puts(password);
    return 0;
}

int verb_user_create(struct command_line *line, struct err *err)
{
    const char *role = command_option(line, "role"), *display_name = command_option(line, "display-name");
    json_t *body = json_pack("{s:s, s:s}", "name", line->arguments[0], "role", role ? role : "viewer");
    AUTO_ANSWER struct client_answer answer = {0};
    int rc;

    if (display_name)
        json_object_set_new(body, "display_name", json_string(display_name));
    rc = client_call(line->client, "POST", "/api/v1/users", body, NULL, &answer, err);
    json_decref(body);
    return rc < 0 ? -1 : print_user(line, answer.json);
}

/* What of the user is to be another; NULL with err. */
static json_t *changes_of_user(const struct command_line *line, struct err *err)
{
    const char *role = command_option(line, "role"), *display_name = command_option(line, "display-name");
    const char *disabled = command_option(line, "disabled");
    json_t *body = json_object();

    if (role)
        json_object_set_new(body, "role", json_string(role));
    if (display_name)
        json_object_set_new(body, "display_name", json_string(display_name));
    if (disabled)
        json_object_set_new(body, "disabled", json_boolean(strcmp(disabled, "yes") == 0));
    if (command_option(line, "reset-password"))
        json_object_set_new(body, "reset_password", json_true());
    if (disabled && strcmp(disabled, "yes") != 0 && strcmp(disabled, "no") != 0)
        (void)err_set(err, ERR_INVALID, "--disabled must be yes or no, not \"%s\"", disabled);
    else if (json_object_size(body) == 0)
        (void)err_set(err, ERR_INVALID, "nothing to change was given");
    else
        return body;
    json_decref(body);
    return NULL;
}

int verb_user_set(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/users/%s", line->arguments[0]);
    AUTO_ANSWER struct client_answer before = {0};
    AUTO_ANSWER struct client_answer after = {0};
    json_t *body = changes_of_user(line, err);
    int rc;

    if (!body)
        return -1;
    rc = !path ? err_set(err, ERR_NOMEM, "no memory for a request")
         : client_get(line->client, path, &before, err) < 0
             ? -1
             : client_call(line->client, "PATCH", path, body, before.etag, &after, err);
    json_decref(body);
    return rc < 0 ? -1 : print_user(line, after.json);
}

int verb_user_delete(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/users/%s", line->arguments[0]);

    return verb_change_item(line, "DELETE", path, NULL, err);
}

/* ---- nodes, vaults, sites ---- */

static int change(const struct command_line *line, const char *fmt, json_t *body, struct err *err)
{
    AUTO_FREE char *path = client_path(fmt, line->arguments[0]);
    int rc = json_object_size(body) == 0 ? err_set(err, ERR_INVALID, "nothing to change was given")
                                         : verb_change_item(line, "PATCH", path, body, err);

    json_decref(body);
    return rc;
}

/* --name and --site; the latter takes a name and the API an id. */
static int names(const struct command_line *line, json_t *body, struct err *err)
{
    const char *name = command_option(line, "name"), *site = command_option(line, "site");
    AUTO_FREE char *path = site ? client_path("/api/v1/sites/%s", site) : NULL;
    AUTO_ANSWER struct client_answer answer = {0};

    if (name)
        json_object_set_new(body, "name", json_string(name));
    if (site && (!path || client_get(line->client, path, &answer, err) < 0))
        return -1;
    if (site)
        json_object_set(body, "site_id", json_object_get(answer.json, "id"));
    return 0;
}

/* What a node may send to vaults, and a vault may take from others. */
static int throttles(const struct command_line *line, json_t *body, struct err *err)
{
    static const struct {
        const char *option, *member;
    } numbers[] = {{"throttle", "throttle_bytes_per_second"}, {"machine-throttle", "machine_throttle_bytes_per_second"},
        {"work-throttle", "work_hours_throttle_bytes_per_second"}},
      texts[] = {{"work-hours", "work_hours"}, {"time-zone", "work_hours_time_zone"}};

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        uint64_t n;
        int given = command_option_bytes(line, numbers[i].option, 1ULL << 53, &n, err);

        if (given < 0)
            return -1;
        if (given)
            json_object_set_new(body, numbers[i].member, json_integer((json_int_t)n));
    }
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (command_option(line, texts[i].option))
            json_object_set_new(body, texts[i].member, json_string(command_option(line, texts[i].option)));
    return 0;
}

static int set_peer(const struct command_line *line, const char *fmt, struct err *err)
{
    json_t *body = json_object();

    if (names(line, body, err) < 0 || throttles(line, body, err) < 0) {
        json_decref(body);
        return -1;
    }
    return change(line, fmt, body, err);
}

int verb_node_set(struct command_line *line, struct err *err)
{
    return set_peer(line, "/api/v1/nodes/%s", err);
}

int verb_vault_set(struct command_line *line, struct err *err)
{
    return set_peer(line, "/api/v1/vaults/%s", err);
}

int verb_node_drain(struct command_line *line, struct err *err)
{
    return change(line, "/api/v1/nodes/%s", json_pack("{s:b}", "drain", 1), err);
}

int verb_node_undrain(struct command_line *line, struct err *err)
{
    return change(line, "/api/v1/nodes/%s", json_pack("{s:b}", "drain", 0), err);
}

int verb_site_set(struct command_line *line, struct err *err)
{
    const char *name = command_option(line, "name"), *description = command_option(line, "description");
    json_t *body = json_object();

    if (name)
        json_object_set_new(body, "name", json_string(name));
    if (description)
        json_object_set_new(body, "description", json_string(description));
    return change(line, "/api/v1/sites/%s", body, err);
}
