/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward job ..., leeward event ...
 */
#include "hub/cli/verbs.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hub/cli/jobwait.h"
#include "transport/base/mem.h"

static const struct column job_columns[] = {
    {"ID", "id", COLUMN_TEXT, false},
    {"KIND", "kind", COLUMN_TEXT, false},
    {"STATUS", "status", COLUMN_TEXT, false},
    {"DONE", "progress_percent", COLUMN_PERCENT, false},
    {"MACHINE", "machine_name", COLUMN_TEXT, false},
    {"CREATED", "created_at", COLUMN_TIME, false},
    {"FINISHED", "finished_at", COLUMN_TIME, false},
    {"BY", "requested_by", COLUMN_TEXT, true},
    {"WAITING FOR", "waiting_for", COLUMN_TEXT, true},
};

static const struct column event_columns[] = {
    {"SEQ", "seq", COLUMN_NUMBER, true},
    {"TIME", "at", COLUMN_TIME, false},
    {"SEVERITY", "severity", COLUMN_TEXT, false},
    {"CODE", "code", COLUMN_TEXT, false},
    {"MACHINE", "machine_name", COLUMN_TEXT, false},
    {"TEXT", "text", COLUMN_TEXT, false},
    {"REMEDY", "remedy", COLUMN_TEXT, true},
    {"BY", "actor", COLUMN_TEXT, true},
};

int verb_job_list(struct command_line *line, struct err *err)
{
    const char *status = command_option(line, "status");
    AUTO_FREE char *path = status ? client_path("/api/v1/jobs?status=%s", status) : mem_strdup("/api/v1/jobs");
    uint64_t most = 50;

    if (command_option_number(line, "limit", 1, 1000000, &most, err) < 0)
        return -1;
    return verb_print_list(
        line, path, job_columns, ARRAY_LEN(job_columns), command_option(line, "all") ? 0 : (size_t)most, err);
}

int verb_job_show(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/jobs/%s", line->arguments[0]);

    return verb_print_item(line, path, err);
}

int verb_job_wait(struct command_line *line, struct err *err)
{
    uint64_t timeout = 0;
    json_t *job = NULL;
    int rc;

    if (command_option_usec(line, "timeout", &timeout, err) < 0)
        return -1;
    rc = jobwait_for(line, line->arguments[0], timeout, &job, err);
    if (job && (rc == 0 || line->output == OUTPUT_JSON))
        (void)output_item(line, job, stdout);
    json_decref(job);
    return rc;
}

int verb_job_cancel(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/jobs/%s/cancel", line->arguments[0]);
    AUTO_ANSWER struct client_answer answer = {0};

    if (!path || client_call(line->client, "POST", path, NULL, NULL, &answer, err) < 0)
        return -1;
    return output_item(line, answer.json, stdout);
}

int verb_job_answer(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/jobs/%s/answer", line->arguments[0]);
    AUTO_ANSWER struct client_answer answer = {0};
    json_t *body = json_pack("{s:s}", "answer", line->arguments[1]);
    int rc = path ? client_call(line->client, "POST", path, body, NULL, &answer, err) : -1;

    json_decref(body);
    return rc < 0 ? -1 : output_item(line, answer.json, stdout);
}

/* A machine by name becomes the filter that the API takes. */
static char *event_path(const struct command_line *line, const char *base, struct err *err)
{
    const char *machine = command_option(line, "machine"), *severity = command_option(line, "severity");
    AUTO_FREE char *escaped = severity ? client_path("%s", severity) : NULL;
    char id[40] = "";

    if (machine && verb_machine_id(line, machine, id, err) < 0)
        return NULL;
    return mem_printf("%s%s%s%s%s%s", base, machine || severity ? "?" : "", machine ? "machine_id=" : "", id,
        severity ? (machine ? "&severity=" : "severity=") : "", escaped ? escaped : "");
}

int verb_event_list(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = event_path(line, "/api/v1/events", err);
    uint64_t most = 50;

    if (!path || command_option_number(line, "limit", 1, 1000000, &most, err) < 0)
        return -1;
    return verb_print_list(line, path, event_columns, ARRAY_LEN(event_columns), (size_t)most, err);
}

struct tail {
    const struct command_line *line;
    char last_id[24];
    uint64_t left; /* 0: for ever */
};

static const char *text_of(const json_t *event, const char *member)
{
    const char *text = json_string_value(json_object_get(event, member));

    return text ? text : "";
}

static int print_event(void *arg, const char *id, const char *word, const char *data)
{
    struct tail *tail = arg;
    json_t *event;

    (void)snprintf(tail->last_id, sizeof(tail->last_id), "%s", id);
    if (strcmp(word, "resync") == 0) {
        (void)fputs("leeward: some events were missed; `leeward event list` has them\n", stderr);
        return 0;
    }
    if (tail->line->output == OUTPUT_JSON) {
        (void)puts(data);
    } else if ((event = json_loads(data, JSON_REJECT_DUPLICATES, NULL))) {
        (void)printf("%.19sZ  %-8s %-24s ", text_of(event, "at"), text_of(event, "severity"), text_of(event, "code"));
        if (*text_of(event, "machine_name")) {
            output_text(text_of(event, "machine_name"), stdout);
            (void)fputs(": ", stdout);
        }
        output_text(text_of(event, "text"), stdout);
        (void)putchar('\n');
        json_decref(event);
    }
    (void)fflush(stdout);
    return tail->left > 0 && --tail->left == 0;
}

/* Goes on after the last event when the hub was away; the first connection must succeed. */
static int follow(struct command_line *line, const char *path, struct tail *tail, struct err *err)
{
    bool connected_once = false;

    for (;;) {
        struct err why = ERR_INIT;
        bool connected = false;

        if (client_events(line->client, path, tail->last_id, print_event, tail, &connected, &why) == 0)
            return 0;
        connected_once = connected_once || connected;
        if (!connected_once || !err_is_retryable(why.code)) {
            err_copy(err, &why);
            return -1;
        }
        (void)nanosleep(&(struct timespec){1, 0}, NULL); /* between two attempts to connect */
    }
}

int verb_event_tail(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = event_path(line, "/api/v1/events/stream", err);
    struct tail tail = {.line = line};
    const char *from = command_option(line, "from");

    if (!path || command_option_number(line, "count", 1, 1000000, &tail.left, err) < 0)
        return -1;
    (void)snprintf(tail.last_id, sizeof(tail.last_id), "%s", from ? from : "");
    return follow(line, path, &tail, err);
}
