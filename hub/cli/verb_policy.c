/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward policy ...
 */
#include "hub/cli/verbs.h"

#include <string.h>

#include "transport/base/mem.h"

static const struct column policy_columns[] = {
    {"NAME", "name", COLUMN_TEXT, false},
    {"DEFAULT", "is_default", COLUMN_YES_NO, false},
    {"INTERVAL", "interval_seconds", COLUMN_SECONDS, false},
    {"RPO TARGET", "rpo_target_seconds", COLUMN_SECONDS, false},
    {"KEEP ALL", "keep_all_seconds", COLUMN_SECONDS, false},
    {"MINUTELY", "keep_minute_seconds", COLUMN_SECONDS, false},
    {"HOURLY", "keep_hour_seconds", COLUMN_SECONDS, false},
    {"DAILY", "keep_day_seconds", COLUMN_SECONDS, false},
    {"LOCK", "lock_seconds", COLUMN_SECONDS, false},
    {"TAGGED", "keep_tagged_seconds", COLUMN_SECONDS, true},
    {"MACHINES", "machine_count", COLUMN_NUMBER, false},
    {"ID", "id", COLUMN_TEXT, true},
    {"FREEZE", "freeze_budget_seconds", COLUMN_SECONDS, true},
    {"MAY FREEZE", "may_freeze", COLUMN_YES_NO, true},
    {"FS INTERVAL", "filesystem_interval_seconds", COLUMN_SECONDS, true},
    {"APP INTERVAL", "app_interval_seconds", COLUMN_SECONDS, true},
    {"THROTTLE", "throttle_bytes_per_second", COLUMN_RATE, true},
    {"WORK HOURS", "work_hours", COLUMN_TEXT, true},
    {"ZONE", "work_hours_time_zone", COLUMN_TEXT, true},
    {"WORK THROTTLE", "work_hours_throttle_bytes_per_second", COLUMN_RATE, true},
    {"CPU %", "cpu_limit_percent", COLUMN_NUMBER, true},
};

/* Options of create and set that are durations, with the member they become. */
static const struct {
    const char *option, *member;
} durations[] = {
    {"interval", "interval_seconds"},
    {"fs-interval", "filesystem_interval_seconds"},
    {"app-interval", "app_interval_seconds"},
    {"rpo-target", "rpo_target_seconds"},
    {"keep-all", "keep_all_seconds"},
    {"keep-minutely", "keep_minute_seconds"},
    {"keep-hourly", "keep_hour_seconds"},
    {"keep-daily", "keep_day_seconds"},
    {"keep-tagged", "keep_tagged_seconds"},
    {"lock", "lock_seconds"},
    {"freeze-budget", "freeze_budget_seconds"},
};

static int add_durations(const struct command_line *line, json_t *body, struct err *err)
{
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

static int add_numbers(const struct command_line *line, json_t *body, struct err *err)
{
    static const struct {
        const char *option, *member;
        uint64_t max;
        bool is_bytes;
    } numbers[] = {
        {"max-rounds", "max_rounds", 64, false},
        {"compress-level", "compress_level", 19, false},
        {"throttle", "throttle_bytes_per_second", 1ULL << 53, true},
        {"work-throttle", "work_hours_throttle_bytes_per_second", 1ULL << 53, true},
        {"cpu-limit", "cpu_limit_percent", 10000, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        uint64_t n;
        int given = numbers[i].is_bytes ? command_option_bytes(line, numbers[i].option, numbers[i].max, &n, err)
                                        : command_option_number(line, numbers[i].option, 0, numbers[i].max, &n, err);

        if (given < 0)
            return -1;
        if (given)
            json_object_set_new(body, numbers[i].member, json_integer((json_int_t)n));
    }
    return 0;
}

static int add_switches(const struct command_line *line, json_t *body, struct err *err)
{
    static const struct {
        const char *option, *member;
    } switches[] = {{"default", "is_default"}, {"may-freeze", "may_freeze"}, {"compress-at-agent", "compress_at_agent"},
        {"yield", "yield_to_workload"}};

    for (size_t i = 0; i < ARRAY_LEN(switches); i++) {
        const char *value = command_option(line, switches[i].option);

        if (!value)
            continue;
        if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
            return err_set(err, ERR_INVALID, "--%s must be yes or no, not \"%s\"", switches[i].option, value);
        json_object_set_new(body, switches[i].member, json_boolean(strcmp(value, "yes") == 0));
    }
    return 0;
}

static int make_body(const struct command_line *line, const char *name, json_t **ret_body, struct err *err)
{
    const char *description = command_option(line, "description");
    json_t *body = json_object();

    if (name)
        json_object_set_new(body, "name", json_string(name));
    if (description)
        json_object_set_new(body, "description", json_string(description));
    if (command_option(line, "work-hours"))
        json_object_set_new(body, "work_hours", json_string(command_option(line, "work-hours")));
    if (command_option(line, "time-zone"))
        json_object_set_new(body, "work_hours_time_zone", json_string(command_option(line, "time-zone")));
    if (add_durations(line, body, err) < 0 || add_numbers(line, body, err) < 0 || add_switches(line, body, err) < 0) {
        json_decref(body);
        return -1;
    }
    *ret_body = body;
    return 0;
}

int verb_policy_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/policies", policy_columns, ARRAY_LEN(policy_columns), 0, err);
}

int verb_policy_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/policies/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

int verb_policy_create(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *body;
    int rc;

    if (make_body(line, line->arguments[0], &body, err) < 0)
        return -1;
    rc = client_call(line->client, "POST", "/api/v1/policies", body, NULL, &answer, err);
    json_decref(body);
    return rc < 0 ? -1 : output_item(line, answer.json, stdout);
}

int verb_policy_set(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/policies/%s", line->arguments[0]);
    json_t *body;
    int rc;

    if (make_body(line, command_option(line, "name"), &body, err) < 0)
        return -1;
    rc = json_object_size(body) ? verb_change_item(line, "PATCH", path, body, err)
                                : err_set(err, ERR_INVALID, "nothing to change was given");
    json_decref(body);
    return rc;
}

int verb_policy_delete(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/policies/%s", line->arguments[0]);

    return verb_change_item(line, "DELETE", path, NULL, err);
}
