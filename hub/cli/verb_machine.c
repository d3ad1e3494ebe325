/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward machine ...
 */
#include "hub/cli/verbs.h"

#include <string.h>

#include "hub/cli/jobwait.h"
#include "transport/base/mem.h"

static const struct column machine_columns[] = {
    {"NAME", "name", COLUMN_TEXT, false},
    {"STATE", "state", COLUMN_TEXT, false},
    {"HEALTH", "health", COLUMN_TEXT, false},
    {"RPO", "rpo_seconds", COLUMN_SECONDS, false},
    {"LAST POINT", "last_point_at", COLUMN_TIME, false},
    {"BACKLOG", "backlog_bytes", COLUMN_BYTES, false},
    {"LEFT", "remaining_seconds", COLUMN_SECONDS, false},
    {"POLICY", "policy_name", COLUMN_TEXT, false},
    {"ONLINE", "online", COLUMN_YES_NO, false},
    {"ID", "id", COLUMN_TEXT, true},
    {"NODE", "node_name", COLUMN_TEXT, true},
    {"VAULT", "vault_name", COLUMN_TEXT, true},
    {"RESCUE", "rescue", COLUMN_YES_NO, true},
    {"OS", "os_name", COLUMN_TEXT, true},
    {"SPEED", "throughput_bytes_per_second", COLUMN_RATE, true},
    {"SLOWED BY", "slowed_by", COLUMN_TEXT, true},
    {"CAUSE", "cause", COLUMN_TEXT, true},
};

int verb_machine_list(struct command_line *line, struct err *err)
{
    const char *state = command_option(line, "state");
    AUTO_FREE char *path = state ? client_path("/api/v1/machines?state=%s", state) : mem_strdup("/api/v1/machines");

    return verb_print_list(line, path, machine_columns, ARRAY_LEN(machine_columns), 0, err);
}

int verb_machine_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

static int chosen_disks(const struct command_line *line, json_t **ret_disks, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/disks", line->arguments[0]);
    json_t *disks = NULL, *keys = json_array();
    const char *name;
    int rc = 0;

    if (line->argument_count == 1 && !command_option(line, "disk")) {
        json_decref(keys);
        *ret_disks = json_string("all-eligible");
        return 0;
    }
    if (!path || verb_read_list(line, path, 0, &disks, err) < 0)
        rc = -1;
    for (unsigned i = 1; rc == 0 && i < line->argument_count; i++)
        rc = verb_disk_key(disks, line->arguments[i], keys, err);
    for (unsigned i = 0; rc == 0 && (name = command_option_nth(line, "disk", i)); i++)
        rc = verb_disk_key(disks, name, keys, err);
    json_decref(disks);
    if (rc < 0)
        json_decref(keys);
    else
        *ret_disks = keys;
    return rc;
}

static int add_seed(const json_t *disks, const char *text, json_t *seeds, struct err *err)
{
    const char *equals = strstr(text, "=/");
    AUTO_FREE char *name = equals ? mem_strdup(text) : NULL;
    json_t *keys = json_array();
    int rc = -1;

    if (!equals || equals == text) {
        (void)err_set(err, ERR_INVALID, "--seed %s: not DISK=FILE", text);
        (void)err_hint(err, "FILE is a path on the vault's host and begins with /.");
    } else if (!name) {
        (void)err_set(err, ERR_NOMEM, "no memory for a request");
    } else {
        name[equals - text] = '\0';
        rc = verb_disk_key(disks, name, keys, err);
    }
    if (rc == 0)
        json_array_append_new(seeds, json_pack("{s:O, s:s}", "disk", json_array_get(keys, 0), "path", equals + 1));
    json_decref(keys);
    return rc;
}

static int add_seeds(const struct command_line *line, json_t *body, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/disks", line->arguments[0]);
    json_t *disks = NULL, *seeds;
    const char *text;
    int rc = 0;

    if (!command_option(line, "seed"))
        return 0;
    if (!path || verb_read_list(line, path, 0, &disks, err) < 0)
        return -1;
    seeds = json_array();
    for (unsigned i = 0; rc == 0 && (text = command_option_nth(line, "seed", i)); i++)
        rc = add_seed(disks, text, seeds, err);
    json_decref(disks);
    json_object_set_new(body, "seeds", seeds);
    return rc;
}

static int machine_job(const struct command_line *line, const char *verb, const json_t *body, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/%s", line->arguments[0], verb);

    return path ? jobwait_and_print(line, "POST", path, body, err) : err_set(err, ERR_NOMEM, "no memory");
}

int verb_machine_protect(struct command_line *line, struct err *err)
{
    json_t *disks, *body;
    int rc;

    if (chosen_disks(line, &disks, err) < 0)
        return -1;
    body = json_pack("{s:o}", "disks", disks);
    rc = verb_add_id(line, "policy", "policies", "policy_id", body, err);
    if (rc == 0)
        rc = verb_add_id(line, "vault", "vaults", "vault_id", body, err);
    if (rc == 0)
        rc = add_seeds(line, body, err);
    if (rc == 0)
        rc = machine_job(line, "protect", body, err);
    json_decref(body);
    return rc;
}

int verb_machine_unprotect(struct command_line *line, struct err *err)
{
    return machine_job(line, "unprotect", NULL, err);
}

int verb_machine_resync(struct command_line *line, struct err *err)
{
    return machine_job(line, "resync", NULL, err);
}

int verb_machine_move(struct command_line *line, struct err *err)
{
    json_t *body = json_object();
    int rc = verb_add_id(line, "node", "nodes", "node_id", body, err);

    if (command_option(line, "pin"))
        json_object_set_new(body, "pin", json_true());
    if (rc == 0)
        rc = machine_job(line, "move", body, err);
    json_decref(body);
    return rc;
}

int verb_machine_delete(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s", line->arguments[0]);

    return verb_change_item(line, "DELETE", path, NULL, err);
}
