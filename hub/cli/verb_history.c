/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward overview, leeward machine history: what the console's first page and its graphs show, as numbers.
 */
#include "hub/cli/verbs.h"

#include <string.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define SPAN_DEFAULT_USEC (24 * 3600 * USEC_PER_SEC)

static const struct column capacity_columns[] = {
    {"VAULT", "name", COLUMN_TEXT, false},
    {"USED", "used_bytes", COLUMN_BYTES, false},
    {"FREE", "free_bytes", COLUMN_BYTES, false},
    {"SIZE", "total_bytes", COLUMN_BYTES, false},
    {"FULL", "full_at", COLUMN_TIME, false},
    {"ID", "vault_id", COLUMN_TEXT, true},
};

static const struct column problem_columns[] = {
    {"SEVERITY", "severity", COLUMN_TEXT, false},
    {"PROBLEM", "title", COLUMN_TEXT, false},
    {"ALERTS", "alerts", COLUMN_NUMBER, false},
    {"MACHINES", "machines", COLUMN_NUMBER, false},
    {"WHAT TO DO", "remedy", COLUMN_TEXT, false},
    {"CODE", "code", COLUMN_TEXT, true},
};

/* The numbers of one subject in a line, in the order in which they are read. */
static void print_numbers(const json_t *overview, const char *subject, const char *title, const char *order)
{
    const json_t *numbers = json_object_get(overview, subject);
    bool first = true;

    (void)printf("%-10s ", title);
    for (const char *at = order; *at; at += strcspn(at, " "), at += *at == ' ') {
        AUTO_FREE char *name = mem_strndup(at, strcspn(at, " "));
        const json_t *n = name ? json_object_get(numbers, name) : NULL;

        if (!json_is_integer(n))
            continue;
        for (char *c = name; *c; c++)
            *c = *c == '_' ? ' ' : *c;
        (void)printf("%s%s %lld", first ? "" : ", ", name, (long long)json_integer_value(n));
        first = false;
    }
    (void)putchar('\n');
}

int verb_overview(struct command_line *line, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    const json_t *problems;

    if (client_get(line->client, "/api/v1/overview", &answer, err) < 0)
        return -1;
    if (line->output == OUTPUT_JSON)
        return output_item(line, answer.json, stdout);
    print_numbers(answer.json, "machines", "machines", "total protected unprotected");
    print_numbers(answer.json, "health", "health", "healthy warning critical unknown");
    print_numbers(answer.json, "rpo", "RPO", "met not_met unknown");
    print_numbers(answer.json, "drills", "drills", "fresh overdue pending running uncovered");
    print_numbers(answer.json, "jobs", "jobs", "running waiting_for_input failed_24h");
    print_numbers(answer.json, "alerts", "alerts", "firing acknowledged");
    (void)putchar('\n');
    (void)output_items(
        line, json_object_get(answer.json, "capacity"), capacity_columns, ARRAY_LEN(capacity_columns), stdout);
    problems = json_object_get(answer.json, "problems");
    if (json_array_size(problems) == 0)
        return 0;
    (void)putchar('\n');
    return output_items(line, problems, problem_columns, ARRAY_LEN(problem_columns), stdout);
}

static const struct column history_columns[] = {
    {"FROM", "from", COLUMN_TIME, false},
    {"RPO WORST", "rpo_max_seconds", COLUMN_SECONDS, false},
    {"RPO AVERAGE", "rpo_average_seconds", COLUMN_SECONDS, false},
    {"CHURN/S", "changed_bytes_per_second", COLUMN_RATE, false},
    {"SENT/S", "sent_bytes_per_second", COLUMN_RATE, false},
    {"BACKLOG", "backlog_bytes", COLUMN_BYTES, false},
    {"POINTS", "points", COLUMN_NUMBER, false},
    {"FROZEN", "frozen_points", COLUMN_NUMBER, true},
};

/* Columns of equal length become rows; steps in which nothing was measured are left out. */
static json_t *rows_of(const json_t *history)
{
    json_t *rows = json_array();
    const json_int_t count = json_integer_value(json_object_get(history, "count"));
    const json_int_t step = json_integer_value(json_object_get(history, "step_seconds"));
    const char *from = json_string_value(json_object_get(history, "from"));
    uint64_t begin = 0;

    if (!from || clock_parse_rfc3339(from, &begin, NULL) < 0)
        return rows;
    for (json_int_t i = 0; i < count; i++) {
        char at[CLOCK_RFC3339_SIZE];
        json_t *row = json_object();

        clock_rfc3339(begin + (uint64_t)(i * step) * USEC_PER_SEC, at);
        json_object_set_new(row, "from", json_string(at));
        for (size_t c = 1; c < ARRAY_LEN(history_columns); c++)
            json_object_set(row, history_columns[c].member,
                json_array_get(json_object_get(history, history_columns[c].member), (size_t)i));
        if (json_is_null(json_object_get(row, "points")))
            json_decref(row);
        else
            json_array_append_new(rows, row);
    }
    return rows;
}

int verb_machine_history(struct command_line *line, struct err *err)
{
    uint64_t span = SPAN_DEFAULT_USEC;
    const char *step = command_option(line, "step");
    char from[CLOCK_RFC3339_SIZE];
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *rows;

    if (command_option_usec(line, "since", &span, err) < 0)
        return -1;
    clock_rfc3339(clock_utc_usec() - span, from);
    AUTO_FREE char *first = client_path("/api/v1/machines/%s/history?from=%s", line->arguments[0], from);
    AUTO_FREE char *second = step ? client_path("&step=%s", step) : mem_strdup("");
    AUTO_FREE char *path = first && second ? mem_printf("%s%s", first, second) : NULL;

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_get(line->client, path, &answer, err) < 0)
        return -1;
    if (line->output == OUTPUT_JSON) {
        output_json(answer.json, stdout);
        return 0;
    }
    rows = rows_of(answer.json);
    (void)output_items(line, rows, history_columns, ARRAY_LEN(history_columns), stdout);
    json_decref(rows);
    return 0;
}
