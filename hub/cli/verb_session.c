/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward session ...: who is signed in, and the end of that.
 */
#include "hub/cli/verbs.h"

#include "transport/base/mem.h"

static const struct column columns[] = {
    {"USER", "user_name", COLUMN_TEXT, false},
    {"BY", "method", COLUMN_TEXT, false},
    {"ADDRESS", "address", COLUMN_TEXT, false},
    {"LAST SEEN", "last_seen_at", COLUMN_TIME, false},
    {"UNTIL", "expires_at", COLUMN_TIME, false},
    {"REVOKED", "revoked_at", COLUMN_TIME, true},
    {"PROGRAM", "user_agent", COLUMN_TEXT, true},
    {"ID", "id", COLUMN_TEXT, false},
};

int verb_session_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/sessions", columns, ARRAY_LEN(columns), 0, err);
}

int verb_session_revoke(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/sessions/%s", line->arguments[0]);
    AUTO_ANSWER struct client_answer answer = {0};

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    return client_call(line->client, "DELETE", path, NULL, NULL, &answer, err);
}
