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

int verb_overview(struct command_line *line, struct err *err)
{
    return verb_print_item(line, "/api/v1/overview", err);
}

static const struct column history_columns[] = {
    {"FROM", "from", COLUMN_TIME, false},
    {"RPO WORST", "rpo_max_seconds", COLUMN_SECONDS, false},
    {"RPO AVERAGE", "rpo_average_seconds", COLUMN_SECONDS, false},
    {"CHURN/S", "changed_bytes_per_second", COLUMN_BYTES, false},
    {"SENT/S", "sent_bytes_per_second", COLUMN_BYTES, false},
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
