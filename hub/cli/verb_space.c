/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward vault stat: load and space of the vaults, and of one what its machines take; leeward vault gc: give back what nothing needs.
 */
#include "hub/cli/verbs.h"

#include <stdio.h>

#include "hub/cli/jobwait.h"
#include "transport/base/mem.h"

static const struct column machine_columns[] = {
    {"MACHINE", "name", COLUMN_TEXT, false},
    {"LIVE", "live_bytes", COLUMN_BYTES, false},
    {"HISTORY", "history_bytes", COLUMN_BYTES, false},
    {"GARBAGE", "garbage_bytes", COLUMN_BYTES, false},
    {"INDEX", "index_bytes", COLUMN_BYTES, false},
    {"IN BUCKET", "bucket_point_at", COLUMN_TIME, false},
    {"NOT YET", "bucket_behind_bytes", COLUMN_BYTES, false},
};

int verb_vault_space(struct command_line *line, const char *vault, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/vaults/%s/space", vault);
    AUTO_ANSWER struct client_answer answer = {0};

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory");
    if (client_get(line->client, path, &answer, err) < 0)
        return -1;
    return output_item_and_list(line, answer.json, "machines", machine_columns, ARRAY_LEN(machine_columns), stdout);
}

int verb_vault_gc(struct command_line *line, struct err *err)
{
    const char *machine = command_option(line, "machine");
    json_t *body = json_object(), *job = NULL;
    AUTO_FREE char *path = NULL;
    char vault[40];
    int rc = verb_choose_vault(line, vault, err);

    if (machine)
        json_object_set_new(body, "machine", json_string(machine));
    if (rc == 0 && (path = client_path("/api/v1/vaults/%s/gc", vault)))
        rc = jobwait_run(line, "POST", path, body, &job, err);
    jobwait_print(line, job, rc == 0);
    json_decref(job);
    json_decref(body);
    return rc;
}
