/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward drill ...: tests on a schedule, and how fresh they are.
 */
#include <string.h>

#include "hub/cli/jobwait.h"
#include "hub/cli/verbs.h"
#include "transport/base/mem.h"

static const struct column drill_columns[] = {
    {"NAME", "name", COLUMN_TEXT, false},
    {"ON", "enabled", COLUMN_YES_NO, false},
    {"PLAN", "plan_name", COLUMN_TEXT, false},
    {"POLICY", "policy_name", COLUMN_TEXT, false},
    {"EVERY", "interval_seconds", COLUMN_SECONDS, false},
    {"WINDOW", "window", COLUMN_TEXT, false},
    {"MACHINES", "machine_count", COLUMN_NUMBER, false},
    {"OVERDUE", "overdue_count", COLUMN_NUMBER, false},
    {"LAST", "last_started_at", COLUMN_TIME, false},
    {"VERDICT", "last_run_verdict", COLUMN_TEXT, false},
    {"PROBLEM", "last_problem", COLUMN_TEXT, false},
    {"TARGET", "target_name", COLUMN_TEXT, true},
    {"LAST RUN", "last_run_id", COLUMN_TEXT, true},
};

static const struct column machine_columns[] = {
    {"MACHINE", "machine_name", COLUMN_TEXT, false},
    {"LAST GOOD", "last_good_at", COLUMN_TIME, false},
    {"OVERDUE", "overdue", COLUMN_YES_NO, false},
    {"OVERDUE AT", "overdue_at", COLUMN_TIME, false},
    {"LAST", "last_at", COLUMN_TIME, false},
    {"BOOT CHECK", "last_verdict", COLUMN_TEXT, false},
    {"FAILOVER", "last_failover_id", COLUMN_TEXT, true},
};

int verb_drill_list(struct command_line *line, struct err *err)
{
    return verb_print_list(line, "/api/v1/drills", drill_columns, ARRAY_LEN(drill_columns), 0, err);
}

int verb_drill_machines(struct command_line *line, struct err *err)
{
    return verb_print_list(line,
        command_option(line, "overdue") ? "/api/v1/drill-machines?overdue=true" : "/api/v1/drill-machines",
        machine_columns, ARRAY_LEN(machine_columns), 0, err);
}

int verb_drill_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/drills/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

static int add_times(const struct command_line *line, json_t *body, struct err *err)
{
    static const char *const rows[][2] = {{"interval", "interval_seconds"}, {"overdue-after", "overdue_after_seconds"}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t usec;
        int given = command_option_usec(line, rows[i][0], &usec, err);

        if (given < 0)
            return -1;
        if (given)
            json_object_set_new(body, rows[i][1], json_real((double)usec / 1e6));
    }
    return 0;
}

static int add_options(const struct command_line *line, json_t *body, struct err *err)
{
    const char *network = command_option(line, "network"), *port = command_option(line, "boot-port");
    const char *serial = command_option(line, "boot-serial");
    json_t *options, *check = NULL;
    uint64_t number = 0;
    int given = command_option_number(line, "boot-port", 1, 65535, &number, err);

    if (given < 0)
        return -1;
    if (port && serial)
        return err_set(err, ERR_INVALID, "--boot-port and --boot-serial: one of them");
    if (!network && !port && !serial)
        return 0;
    if (port)
        check = json_pack("{s:s, s:I}", "type", "tcp", "port", (json_int_t)number);
    else if (serial)
        check = json_pack("{s:s, s:s}", "type", "serial", "pattern", serial);
    options = json_pack("{s:s*, s:o*}", "network", network, "boot_check", check);
    return json_object_set_new(body, "options", options) < 0 ? err_set(err, ERR_NOMEM, "no memory for a request") : 0;
}

static int add_settings(const struct command_line *line, json_t *body, struct err *err)
{
    static const char *const texts[][2] = {
        {"window", "window"}, {"time-zone", "time_zone"}, {"target", "target"}, {"name", "name"}};
    const char *enabled = command_option(line, "enabled");

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (command_option(line, texts[i][0]))
            json_object_set_new(body, texts[i][1], json_string(command_option(line, texts[i][0])));
    if (enabled && strcmp(enabled, "yes") != 0 && strcmp(enabled, "no") != 0) {
        err_set(err, ERR_INVALID, "--enabled: %s is neither yes nor no", enabled);
        return err_hint(err, "yes or no.");
    }
    if (enabled)
        json_object_set_new(body, "enabled", json_boolean(strcmp(enabled, "yes") == 0));
    return add_times(line, body, err) < 0 ? -1 : add_options(line, body, err);
}

/* What a drill cannot be without, in the words of the command. */
static int check_create(const struct command_line *line, struct err *err)
{
    if (!command_option(line, "plan") == !command_option(line, "policy")) {
        err_set(
            err, ERR_INVALID, "--plan or --policy: %s", command_option(line, "plan") ? "only one of them" : "missing");
        return err_hint(err, "A drill tests a recovery plan (leeward plan list) or all machines of a policy.");
    }
    if (command_option(line, "interval"))
        return 0;
    err_set(err, ERR_INVALID, "--interval: missing");
    return err_hint(err, "How often it is tested, as in --interval 7d");
}

int verb_drill_create(struct command_line *line, struct err *err)
{
    if (check_create(line, err) < 0)
        return -1;
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *body = json_pack("{s:s, s:s*, s:s*}", "name", line->arguments[0], "plan", command_option(line, "plan"),
        "policy", command_option(line, "policy"));
    int rc = body ? add_settings(line, body, err) : err_set(err, ERR_NOMEM, "no memory for a request");

    if (rc == 0)
        rc = client_call(line->client, "POST", "/api/v1/drills", body, NULL, &answer, err);
    json_decref(body);
    return rc < 0 ? -1 : output_item(line, answer.json, stdout);
}

int verb_drill_set(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/drills/%s", line->arguments[0]);
    json_t *body = json_object();
    int rc = add_settings(line, body, err);

    if (rc == 0)
        rc = json_object_size(body) ? verb_change_item(line, "PATCH", path, body, err)
                                    : err_set(err, ERR_INVALID, "nothing to change was given");
    json_decref(body);
    return rc;
}

int verb_drill_delete(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/drills/%s", line->arguments[0]);

    return verb_change_item(line, "DELETE", path, NULL, err);
}

int verb_drill_run(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/drills/%s/runs", line->arguments[0]);

    return path ? jobwait_and_print(line, "POST", path, NULL, err) : err_set(err, ERR_NOMEM, "no memory for a request");
}
