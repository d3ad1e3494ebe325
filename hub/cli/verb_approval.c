/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward approval ...: what waits for a second person, and the word of that person.
 */
#include "hub/cli/verbs.h"

#include <stdio.h>

#include "transport/base/mem.h"

static const struct column columns[] = {
    {"WHAT", "summary", COLUMN_TEXT, false},
    {"ASKED BY", "requested_by", COLUMN_TEXT, false},
    {"STATE", "state", COLUMN_TEXT, false},
    {"ASKED", "created_at", COLUMN_TIME, false},
    {"UNTIL", "expires_at", COLUMN_TIME, true},
    {"DECIDED BY", "decided_by", COLUMN_TEXT, true},
    {"NOTE", "note", COLUMN_TEXT, true},
    {"ID", "id", COLUMN_TEXT, false},
};

int verb_approval_list(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path =
        mem_strdup(command_option(line, "all") ? "/api/v1/approvals?limit=500" : "/api/v1/approvals?state=pending");

    return verb_print_list(line, path, columns, ARRAY_LEN(columns), 0, err);
}

int verb_approval_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/approvals/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

static int decide(struct command_line *line, const char *path, struct err *err)
{
    const char *note = command_option(line, "note");
    json_t *body = json_pack("{s:s}", "note", note ? note : "");
    AUTO_ANSWER struct client_answer answer = {0};
    int rc = path && body ? client_call(line->client, "POST", path, body, NULL, &answer, err)
                          : err_set(err, ERR_NOMEM, "no memory for a request");

    json_decref(body);
    return rc < 0 ? -1 : output_item(line, answer.json, stdout);
}

int verb_approval_approve(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/approvals/%s/approve", line->arguments[0]);

    return decide(line, path, err);
}

int verb_approval_reject(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/approvals/%s/reject", line->arguments[0]);

    return decide(line, path, err);
}
