/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward group ...: machines whose points are made of one moment.
 */
#include "hub/cli/verbs.h"

#include "hub/cli/jobwait.h"
#include "transport/base/mem.h"

static const struct column group_columns[] = {
    {"NAME", "name", COLUMN_TEXT, false},
    {"MACHINES", "member_count", COLUMN_NUMBER, false},
    {"INTERVAL", "interval_seconds", COLUMN_SECONDS, false},
    {"HEALTH", "health", COLUMN_TEXT, false},
    {"LAST POINT", "last_point_at", COLUMN_TIME, false},
    {"FREEZE", "last_freeze_seconds", COLUMN_SECONDS, false},
    {"MISSED BY", "culprit_name", COLUMN_TEXT, false},
    {"CAUSE", "cause", COLUMN_TEXT, false},
    {"COORDINATOR", "coordinator_name", COLUMN_TEXT, true},
    {"COORDINATED BY", "coordinated_by_name", COLUMN_TEXT, true},
    {"MADE", "made", COLUMN_NUMBER, true},
    {"MISSED", "missed", COLUMN_NUMBER, true},
    {"ID", "id", COLUMN_TEXT, true},
};

static const struct column point_columns[] = {
    {"GROUP POINT", "id", COLUMN_TEXT, false},
    {"TIME", "time", COLUMN_TEXT, false},
    {"MACHINES", "machine_count", COLUMN_NUMBER, false},
    {"MEMBERSHIP", "membership", COLUMN_NUMBER, true},
};

static int add_settings(const struct command_line *line, json_t *body, struct err *err)
{
    static const struct {
        const char *option, *member;
    } durations[] = {{"interval", "interval_seconds"}, {"freeze-budget", "freeze_budget_seconds"}};
    const char *description = command_option(line, "description");

    if (description)
        json_object_set_new(body, "description", json_string(description));
    for (size_t i = 0; i < ARRAY_LEN(durations); i++) {
        uint64_t usec;
        int given = command_option_usec(line, durations[i].option, &usec, err);

        if (given < 0)
            return -1;
        if (given)
            json_object_set_new(body, durations[i].member, json_real((double)usec / 1e6));
    }
    return 0;
}

int verb_group_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/groups", group_columns, ARRAY_LEN(group_columns), 0, err);
}

int verb_group_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/groups/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

int verb_group_create(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *body = json_pack("{s:s, s:[]}", "name", line->arguments[0], "machines");
    const char *machine;
    int rc;

    for (unsigned i = 0; (machine = command_option_nth(line, "machine", i)); i++)
        json_array_append_new(json_object_get(body, "machines"), json_string(machine));
    rc = add_settings(line, body, err);
    if (rc == 0)
        rc = client_call(line->client, "POST", "/api/v1/groups", body, NULL, &answer, err);
    json_decref(body);
    return rc < 0 ? -1 : output_item(line, answer.json, stdout);
}

int verb_group_set(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/groups/%s", line->arguments[0]);
    json_t *body = json_object();
    int rc;

    if (command_option(line, "name"))
        json_object_set_new(body, "name", json_string(command_option(line, "name")));
    rc = add_settings(line, body, err);
    if (rc == 0)
        rc = json_object_size(body) ? verb_change_item(line, "PATCH", path, body, err)
                                    : err_set(err, ERR_INVALID, "nothing to change was given");
    json_decref(body);
    return rc;
}

int verb_group_delete(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/groups/%s", line->arguments[0]);

    return verb_change_item(line, "DELETE", path, NULL, err);
}

/* One change of the list, on the version that was read just before; *ret_json is the group after it. */
static int change_members(const struct command_line *line, const char *method, const char *path, const json_t *body,
    struct client_answer *ret_answer, struct err *err)
{
    AUTO_FREE char *group = client_path("/api/v1/groups/%s", line->arguments[0]);
    AUTO_ANSWER struct client_answer before = {0};

    if (!group || !path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_get(line->client, group, &before, err) < 0)
        return -1;
    return client_call(line->client, method, path, body, before.etag, ret_answer, err);
}

static int add_one(const struct command_line *line, const char *machine, struct client_answer *answer, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/groups/%s/members", line->arguments[0]);
    json_t *body = json_pack("{s:s}", "machine", machine);
    int rc = change_members(line, "POST", path, body, answer, err);

    json_decref(body);
    return rc;
}

static int remove_one(
    const struct command_line *line, const char *machine, struct client_answer *answer, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/groups/%s/members/%s", line->arguments[0], machine);

    return change_members(line, "DELETE", path, NULL, answer, err);
}

static int change_each(struct command_line *line,
    int (*one)(const struct command_line *, const char *, struct client_answer *, struct err *), struct err *err)
{
    for (unsigned i = 1; i < line->argument_count; i++) {
        AUTO_ANSWER struct client_answer answer = {0};

        if (one(line, line->arguments[i], &answer, err) < 0)
            return -1;
        if (i + 1 == line->argument_count)
            return output_item(line, answer.json, stdout);
    }
    return 0;
}

int verb_group_add(struct command_line *line, struct err *err)
{
    return change_each(line, add_one, err);
}

int verb_group_remove(struct command_line *line, struct err *err)
{
    return change_each(line, remove_one, err);
}

int verb_group_point(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/groups/%s/points", line->arguments[0]);

    return path ? jobwait_and_print(line, "POST", path, NULL, err) : err_set(err, ERR_NOMEM, "no memory");
}

int verb_group_points(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/groups/%s/points", line->arguments[0]);
    uint64_t most = line->output == OUTPUT_JSON ? 500 : 20;

    if (command_option_number(line, "limit", 1, 1000000, &most, err) < 0)
        return -1;
    return verb_print_list(line, path, point_columns, ARRAY_LEN(point_columns), (size_t)most, err);
}
