/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward copy ...: copies of a machine's points in other vaults than the one that it is replicated to. Their points have numbers of their own.
 */
#include <stdlib.h>
#include <string.h>

#include "hub/cli/jobwait.h"
#include "hub/cli/verbs.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define NEWEST 20

/* How far one is, whoever asks for it. */
#define STANDING_COLUMNS                                                                                               \
    {"BEHIND", "behind_seconds", COLUMN_SECONDS, false}, {"POINTS", "point_count", COLUMN_NUMBER, false},              \
        {"TAKEN", "taken_bytes", COLUMN_BYTES, false}, {"TRAFFIC", "traffic_bytes", COLUMN_BYTES, true},               \
        {"CAUSE", "cause", COLUMN_TEXT, false},                                                                        \
    {                                                                                                                  \
        "REMEDY", "remedy", COLUMN_TEXT, true                                                                          \
    }

static const struct column copy_columns[] = {
    {"VAULT", "vault_name", COLUMN_TEXT, false},
    {"FROM", "source_vault_name", COLUMN_TEXT, false},
    {"STATE", "state", COLUMN_TEXT, false},
    {"POINT", "source_sequence", COLUMN_NUMBER, false},
    {"TIME", "point_time", COLUMN_TIME, false},
    STANDING_COLUMNS,
    {"BY", "created_by", COLUMN_TEXT, true},
};

static const struct column point_columns[] = {
    {"POINT", "sequence", COLUMN_NUMBER, false},
    {"TIME", "time", COLUMN_TEXT, false},
    {"KIND", "kind", COLUMN_TEXT, false},
    {"CHANGED", "changed_bytes", COLUMN_BYTES, false},
    {"TAG", "tag", COLUMN_TEXT, false},
    {"COMMITTED", "committed_at", COLUMN_TIME, true},
    {"GENERATION", "generation", COLUMN_NUMBER, true},
};

int verb_copy_list(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/copies", line->arguments[0]);

    return verb_print_list(line, path, copy_columns, ARRAY_LEN(copy_columns), 0, err);
}

static const struct column kept_columns[] = {
    {"MACHINE", "machine_name", COLUMN_TEXT, false},
    {"FROM", "source_vault_name", COLUMN_TEXT, false},
    {"STATE", "state", COLUMN_TEXT, false},
    {"TIME", "point_time", COLUMN_TIME, false},
    STANDING_COLUMNS,
};

int verb_vault_copies(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/vaults/%s/copies?sort=machine_name", line->arguments[0]);

    return verb_print_list(line, path, kept_columns, ARRAY_LEN(kept_columns), 0, err);
}

int verb_copy_create(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/copies", line->arguments[0]);
    json_t *body = json_pack("{s:s}", "vault", line->arguments[1]);
    int rc = path && body ? jobwait_and_print(line, "POST", path, body, err)
                          : err_set(err, ERR_NOMEM, "no memory for a request");

    json_decref(body);
    return rc;
}

int verb_copy_points(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path =
        client_path("/api/v1/machines/%s/copies/%s/points?sort=-sequence", line->arguments[0], line->arguments[1]);
    size_t most = command_option(line, "all") ? 0 : line->output == OUTPUT_JSON ? 500 : NEWEST;

    return verb_print_list(line, path, point_columns, ARRAY_LEN(point_columns), most, err);
}

int verb_copy_remove(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path(
        command_option(line, "forget") ? "/api/v1/machines/%s/copies/%s?forget=true" : "/api/v1/machines/%s/copies/%s",
        line->arguments[0], line->arguments[1]);

    return path ? jobwait_and_print(line, "DELETE", path, NULL, err)
                : err_set(err, ERR_NOMEM, "no memory for a request");
}

int verb_copy_use(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/copies/%s/use", line->arguments[0], line->arguments[1]);
    const char *confirm = command_option(line, "confirm");
    json_t *body;
    int rc;

    if (!confirm) {
        err_set(err, ERR_INVALID, "--confirm: missing");
        return err_hint(
            err, "What the machine has in the lost vault is given up; type its name: --confirm %s", line->arguments[0]);
    }
    body = json_pack("{s:s}", "confirm", confirm);
    rc = path && body ? jobwait_and_print(line, "POST", path, body, err)
                      : err_set(err, ERR_NOMEM, "no memory for a request");
    json_decref(body);
    return rc;
}

int verb_copy_point(const struct command_line *line, const char *machine, const char *vault, const char *point,
    uint64_t *ret_sequence, struct err *err)
{
    char before[CLOCK_RFC3339_SIZE];
    uint64_t utc_usec;
    json_t *items;
    AUTO_FREE char *path = NULL;

    if (*point && strlen(point) < 19 && strspn(point, "0123456789") == strlen(point)) {
        *ret_sequence = strtoull(point, NULL, 10);
        return 0;
    }
    if (strcmp(point, "latest") == 0) {
        path = client_path("/api/v1/machines/%s/copies/%s/points?sort=-sequence", machine, vault);
    } else if (clock_parse_rfc3339(point, &utc_usec, NULL) == 0) {
        clock_rfc3339(utc_usec + 1, before);
        path = client_path("/api/v1/machines/%s/copies/%s/points?sort=-time&before=%s", machine, vault, before);
    } else {
        path = client_path("/api/v1/machines/%s/copies/%s/points?sort=-sequence&tag=%s", machine, vault, point);
    }
    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (verb_read_list(line, path, 1, &items, err) < 0)
        return -1;
    *ret_sequence = (uint64_t)json_integer_value(json_object_get(json_array_get(items, 0), "sequence"));
    json_decref(items);
    if (*ret_sequence > 0)
        return 0;
    (void)err_set(err, ERR_NOT_FOUND, "the copy that %s has of %s has no recovery point \"%s\"", vault, machine, point);
    return err_hint(err, "`leeward copy points %s %s` shows what there is.", machine, vault);
}
