/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward branch ...: writable lines over recovery points. A branch is named by its id or by the name that it was given.
 */
#include <stdio.h>
#include <string.h>

#include "hub/cli/jobwait.h"
#include "hub/cli/verbs.h"
#include "transport/base/mem.h"

static const struct column branch_columns[] = {
    {"ID", "id", COLUMN_TEXT, false},
    {"NAME", "name", COLUMN_TEXT, false},
    {"MACHINE", "machine_name", COLUMN_TEXT, false},
    {"POINT", "sequence", COLUMN_NUMBER, false},
    {"STATE", "state", COLUMN_TEXT, false},
    {"STORED", "stored_bytes", COLUMN_BYTES, false},
    {"URI", "uri", COLUMN_TEXT, false},
    {"CREATED", "created_at", COLUMN_TIME, true},
    {"BY", "created_by", COLUMN_TEXT, true},
};

int verb_branch_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/branches", branch_columns, ARRAY_LEN(branch_columns), 0, err);
}

int verb_branch_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/branches/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

/* The branch itself, or its URI alone for pipes. */
static int print_opened(const struct command_line *line, const json_t *job, struct err *err)
{
    const char *id = json_string_value(json_object_get(json_object_get(job, "result"), "export_id"));
    const char *uri = json_string_value(json_object_get(json_object_get(job, "result"), "uri"));
    AUTO_FREE char *path = id ? client_path("/api/v1/branches/%s", id) : NULL;

    if (command_option(line, "no-wait") || !id) {
        output_json(job, stdout);
        return 0;
    }
    if (line->output == OUTPUT_JSON)
        return verb_print_item(line, path, err);
    (void)puts(uri ? uri : "");
    (void)fprintf(
        stderr, "branch %s is open; `leeward branch close %s` closes it, `branch discard` removes it\n", id, id);
    return 0;
}

static int run_open(struct command_line *line, const char *path, json_t *body, struct err *err)
{
    json_t *job = NULL;
    const char *socket = command_option(line, "socket");
    int rc;

    if (socket)
        json_object_set_new(body, "socket", json_string(socket));
    rc = path && body ? jobwait_run(line, "POST", path, body, &job, err)
                      : err_set(err, ERR_NOMEM, "no memory for a request");
    if (rc == 0)
        rc = print_opened(line, job, err);
    json_decref(job);
    return rc;
}

int verb_branch_create(struct command_line *line, struct err *err)
{
    char machine[129];
    const char *point, *name = command_option(line, "name");
    uint64_t sequence;
    json_t *body;
    int rc;

    if (verb_split_point(line->arguments[0], machine, &point, err) < 0 ||
        verb_resolve_point(line, machine, point, &sequence, err) < 0)
        return -1;
    body = json_pack("{s:s, s:I}", "machine", machine, "sequence", (json_int_t)sequence);
    if (name)
        json_object_set_new(body, "name", json_string(name));
    rc = run_open(line, "/api/v1/branches", body, err);
    json_decref(body);
    return rc;
}

int verb_branch_open(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/branches/%s/open", line->arguments[0]);
    json_t *body = json_object();
    int rc = run_open(line, path, body, err);

    json_decref(body);
    return rc;
}

/* One job for each branch that is named. */
static int each(struct command_line *line, const char *method, const char *format, struct err *err)
{
    for (unsigned i = 0; i < line->argument_count; i++) {
        AUTO_FREE char *path = client_path(format, line->arguments[i]);

        if (!path)
            return err_set(err, ERR_NOMEM, "no memory for a request");
        if (jobwait_and_print(line, method, path, NULL, err) < 0)
            return -1;
    }
    return 0;
}

int verb_branch_close(struct command_line *line, struct err *err)
{
    return each(line, "POST", "/api/v1/branches/%s/close", err);
}

int verb_branch_discard(struct command_line *line, struct err *err)
{
    return each(line, "DELETE", "/api/v1/branches/%s", err);
}

int verb_branch_promote(struct command_line *line, struct err *err)
{
    return each(line, "POST", "/api/v1/branches/%s/promote", err);
}
