/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward machine erase, leeward machine rotate-key, and leeward machine integrity: how far the vault has verified a machine's history, and which points are hit by what is damaged.
 */
#include "hub/cli/verbs.h"

#include <stdio.h>

#include "hub/cli/jobwait.h"

static const struct column damage_columns[] = {
    {"STATE", "state", COLUMN_TEXT, false},
    {"FIRST POINT", "first_point", COLUMN_NUMBER, false},
    {"LAST POINT", "last_point", COLUMN_NUMBER, false},
    {"POINTS", "points", COLUMN_NUMBER, false},
    {"DISK", "disk", COLUMN_NUMBER, false},
    {"START", "start", COLUMN_NUMBER, false},
    {"LENGTH", "length_bytes", COLUMN_BYTES, false},
    {"SEGMENT", "segment", COLUMN_NUMBER, false},
    {"OFFSET", "offset", COLUMN_NUMBER, false},
    {"FOUND", "found_at", COLUMN_TIME, false},
    {"KIND", "kind", COLUMN_TEXT, true},
    {"TEXT", "text", COLUMN_TEXT, true},
};

int verb_machine_integrity(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/integrity", line->arguments[0]);
    AUTO_ANSWER struct client_answer answer = {0};

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory");
    if (client_get(line->client, path, &answer, err) < 0)
        return -1;
    return output_item_and_list(line, answer.json, "damages", damage_columns, ARRAY_LEN(damage_columns), stdout);
}

/* Submits a job of the machine that takes no parameters, waits for it and shows it. */
static int run_job(struct command_line *line, char *path, struct err *err)
{
    json_t *job = NULL;
    int rc = path ? jobwait_run(line, "POST", path, NULL, &job, err) : err_set(err, ERR_NOMEM, "no memory");

    jobwait_print(line, job, rc == 0);
    json_decref(job);
    return rc;
}

int verb_machine_erase(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/erase", line->arguments[0]);

    return run_job(line, path, err);
}

int verb_machine_rotate_key(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/rotate-key", line->arguments[0]);

    return run_job(line, path, err);
}
