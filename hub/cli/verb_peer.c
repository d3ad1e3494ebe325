/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward site ..., leeward node ..., leeward vault ...
 */
#include "hub/cli/verbs.h"

#include "hub/cli/jobwait.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

static const struct column site_columns[] = {
    {"NAME", "name", COLUMN_TEXT, false},
    {"DESCRIPTION", "description", COLUMN_TEXT, false},
    {"ID", "id", COLUMN_TEXT, true},
    {"CREATED", "created_at", COLUMN_TIME, true},
};

static const struct column node_columns[] = {
    {"NAME", "name", COLUMN_TEXT, false},
    {"ENDPOINT", "endpoint", COLUMN_TEXT, false},
    {"ONLINE", "online", COLUMN_YES_NO, false},
    {"HEALTH", "health", COLUMN_TEXT, false},
    {"MACHINES", "machine_count", COLUMN_NUMBER, false},
    {"STREAMS", "streams", COLUMN_NUMBER, false},
    {"SPOOL", "spool_bytes", COLUMN_BYTES, false},
    {"LIMIT", "spool_limit_bytes", COLUMN_BYTES, false},
    {"IN/S", "received_bytes_per_second", COLUMN_RATE, false},
    {"OUT/S", "forwarded_bytes_per_second", COLUMN_RATE, false},
    {"ID", "id", COLUMN_TEXT, true},
    {"SITE", "site_name", COLUMN_TEXT, true},
    {"SOFTWARE", "software", COLUMN_TEXT, true},
    {"THROTTLE/S", "throttle_bytes_per_second", COLUMN_BYTES, true},
    {"OF EACH/S", "machine_throttle_bytes_per_second", COLUMN_BYTES, true},
    {"WORK HOURS", "work_hours", COLUMN_TEXT, true},
    {"AND THEN/S", "work_hours_throttle_bytes_per_second", COLUMN_BYTES, true},
    {"CAUSE", "cause", COLUMN_TEXT, true},
};

static const struct column vault_columns[] = {
    {"NAME", "name", COLUMN_TEXT, false},
    {"ENDPOINT", "endpoint", COLUMN_TEXT, false},
    {"ONLINE", "online", COLUMN_YES_NO, false},
    {"HEALTH", "health", COLUMN_TEXT, false},
    {"ACCEPTING", "accepting", COLUMN_YES_NO, false},
    {"MACHINES", "machine_count", COLUMN_NUMBER, false},
    {"USED", "used_bytes", COLUMN_BYTES, false},
    {"FREE", "free_bytes", COLUMN_BYTES, false},
    {"ID", "id", COLUMN_TEXT, true},
    {"SITE", "site_name", COLUMN_TEXT, true},
    {"SOFTWARE", "software", COLUMN_TEXT, true},
    {"COPIES/S", "throttle_bytes_per_second", COLUMN_BYTES, true},
    {"OF EACH/S", "machine_throttle_bytes_per_second", COLUMN_BYTES, true},
    {"WORK HOURS", "work_hours", COLUMN_TEXT, true},
    {"AND THEN/S", "work_hours_throttle_bytes_per_second", COLUMN_BYTES, true},
    {"CAUSE", "cause", COLUMN_TEXT, true},
};

int verb_site_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/sites", site_columns, ARRAY_LEN(site_columns), 0, err);
}

int verb_site_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/sites/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

int verb_site_create(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    const char *description = command_option(line, "description");
    json_t *body = json_pack("{s:s, s:s}", "name", line->arguments[0], "description", description ? description : "");
    int rc = client_call(line->client, "POST", "/api/v1/sites", body, NULL, &answer, err);

    json_decref(body);
    return rc < 0 ? -1 : output_item(line, answer.json, stdout);
}

int verb_site_delete(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/sites/%s", line->arguments[0]);

    return verb_change_item(line, "DELETE", path, NULL, err);
}

int verb_node_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/nodes", node_columns, ARRAY_LEN(node_columns), 0, err);
}

int verb_node_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/nodes/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

int verb_node_delete(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/nodes/%s", line->arguments[0]);

    return verb_change_item(line, "DELETE", path, NULL, err);
}

int verb_vault_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/vaults", vault_columns, ARRAY_LEN(vault_columns), 0, err);
}

int verb_vault_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/vaults/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

int verb_vault_delete(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/vaults/%s", line->arguments[0]);

    return verb_change_item(line, "DELETE", path, NULL, err);
}

int verb_vault_stat(struct command_line *line, struct err *err)
{
    return line->argument_count ? verb_vault_space(line, line->arguments[0], err) : verb_vault_list(line, err);
}

int verb_choose_vault(const struct command_line *line, char ret_id[40], struct err *err)
{
    json_t *items;
    const char *id;
    size_t n;

    if (line->argument_count > 0) {
        (void)snprintf(ret_id, 40, "%s", line->arguments[0]);
        return 0;
    }
    if (verb_read_list(line, "/api/v1/vaults", 2, &items, err) < 0)
        return -1;
    n = json_array_size(items);
    id = json_string_value(json_object_get(json_array_get(items, 0), "id"));
    (void)snprintf(ret_id, 40, "%s", id ? id : "");
    json_decref(items);
    if (n == 1)
        return 0;
    (void)err_set(err, n ? ERR_INVALID : ERR_NOT_FOUND, n ? "there are several vaults" : "there is no vault");
    return err_hint(err, "Name one of `leeward vault list`.");
}

int verb_vault_rotate_key(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = NULL;
    json_t *job = NULL;
    char vault[40];
    int rc = verb_choose_vault(line, vault, err);

    if (rc == 0 && (path = client_path("/api/v1/vaults/%s/rotate-key", vault)))
        rc = jobwait_run(line, "POST", path, NULL, &job, err);
    jobwait_print(line, job, rc == 0);
    json_decref(job);
    return rc;
}

/* A verification that ran to its end and found damage is a failure of the vault: scripts must see it. */
static int check_damage(const json_t *job, struct err *err)
{
    size_t n = json_array_size(json_object_get(json_object_get(job, "result"), "damaged"));

    if (n == 0)
        return 0;
    (void)err_set(err, ERR_CORRUPT, "%zu place%s damaged", n, n == 1 ? " is" : "s are");
    return err_hint(err, "Check the vault's disk and memory. `-o json` names segments and points; "
                         "`leeward machine resync` makes later points whole.");
}

static int not_since(const struct command_line *line, json_t *body, struct err *err)
{
    const char *older = command_option(line, "older-than");
    char text[CLOCK_RFC3339_SIZE];
    uint64_t usec;

    if (!older)
        return 0;
    if (clock_parse_duration(older, &usec, err) < 0)
        return -1;
    if (usec >= clock_utc_usec())
        return err_set(err, ERR_INVALID, "--older-than %s: that is before all time", older);
    clock_rfc3339(clock_utc_usec() - usec, text);
    return json_object_set_new(body, "not_since", json_string(text));
}

int verb_vault_verify(struct command_line *line, struct err *err)
{
    const char *machine = command_option(line, "machine");
    json_t *body = json_object(), *job = NULL;
    AUTO_FREE char *path = NULL;
    char vault[40];
    int rc = verb_choose_vault(line, vault, err);

    if (machine)
        json_object_set_new(body, "machine", json_string(machine));
    if (command_option(line, "incremental"))
        json_object_set_new(body, "incremental", json_true());
    if (rc == 0)
        rc = not_since(line, body, err);

    if (rc == 0 && (path = client_path("/api/v1/vaults/%s/verify", vault)))
        rc = jobwait_run(line, "POST", path, body, &job, err);
    jobwait_print(line, job, rc == 0);
    if (rc == 0)
        rc = check_damage(job, err);
    json_decref(job);
    json_decref(body);
    return rc;
}
