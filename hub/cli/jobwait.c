/* SPDX-License-Identifier: Apache-2.0
 *
 * Long polling: each question waits in the hub for up to two seconds on a terminal (so that progress moves) and thirty
 * otherwise. A hub that is away for a moment (P9: it takes up its jobs again) is asked again until it is back.
 */
#include "hub/cli/jobwait.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "hub/cli/output.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define BAR_CELLS 20 /* of the progress bar */
#define HUB_AWAY_USEC (60 * USEC_PER_SEC)

static bool shows_progress(const struct command_line *line)
{
    return line->output != OUTPUT_JSON && isatty(STDERR_FILENO);
}

static const char *member(const json_t *job, const char *name)
{
    const char *text = json_string_value(json_object_get(job, name));

    return text ? text : "";
}

static bool is_over(const json_t *job)
{
    static const char *const open[] = {"queued", "running"};

    for (size_t i = 0; i < ARRAY_LEN(open); i++)
        if (strcmp(member(job, "status"), open[i]) == 0)
            return false;
    return true;
}

/* The step that runs now, or the last one. */
static const json_t *current_step(const json_t *job)
{
    const json_t *steps = json_object_get(job, "steps"), *step, *found = NULL;
    size_t i;

    json_array_foreach(steps, i, step)
    {
        found = step;
        if (strcmp(member(step, "status"), "running") == 0)
            break;
    }
    return found;
}

/* Columns of the terminal; one that does not know is as wide as they used to be. */
static size_t terminal_width(void)
{
    struct winsize size;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* One line: what is longer than the terminal is wide would go on in the next one, which nothing takes away again. */
static void show_progress(const json_t *job)
{
    const json_t *step = current_step(job);
    double percent = json_number_value(json_object_get(job, "progress_percent"));
    char bar[BAR_CELLS + 1];
    size_t full = percent <= 0 ? 0 : percent >= 100 ? BAR_CELLS : (size_t)(percent / 100 * BAR_CELLS);
    AUTO_FREE char *text = NULL;

    memset(bar, ' ', BAR_CELLS);
    memset(bar, '#', full);
    bar[BAR_CELLS] = '\0';
    text = mem_printf("%s [%s] %3.0f %%  %s%s%s", member(job, "kind"), bar, percent,
        strcmp(member(job, "status"), "queued") == 0 ? "queued" : member(step, "title"),
        *member(step, "detail") ? ": " : "", member(step, "detail"));
    if (!text)
        return;
    output_cut(text, terminal_width() - 1);
    (void)fputs("\r\033[K", stderr);
    output_text(text, stderr);
    (void)fflush(stderr);
}

static int job_error(const json_t *job, struct err *err)
{
    const json_t *problem = json_object_get(job, "problem");
    const char *status = member(job, "status");
    const char *correction = member(problem, "correction");

    if (strcmp(status, "succeeded") == 0)
        return 0;
    if (strcmp(status, "cancelled") == 0)
        return err_set(err, ERR_CANCELLED, "the job %s was cancelled", member(job, "id"));
    if (strcmp(status, "waiting_for_input") == 0) {
        (void)err_set(
            err, ERR_REFUSED, "the job %s waits for an answer: %s", member(job, "id"), member(job, "waiting_for"));
        return err_hint(err, "`leeward job answer %s continue` or `abort`.", member(job, "id"));
    }
    (void)err_set(err, err_code_from_name(member(problem, "code")), "%s", member(problem, "detail"));
    return *correction ? err_hint(err, "%s", correction) : -1;
}

/* One look; a hub that does not answer is ignored for a while. */
static int look(const struct command_line *line, const char *id, unsigned wait_sec, uint64_t *away_since,
    json_t **ret_job, struct err *err)
{
    AUTO_FREE char *path = mem_printf("/api/v1/jobs/%s?wait=%u", id, wait_sec);
    AUTO_ANSWER struct client_answer answer = {0};
    struct err why = ERR_INIT;

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_get(line->client, path, &answer, &why) == 0) {
        *away_since = 0;
        *ret_job = json_incref(answer.json);
        return answer.json ? 0 : err_set(err, ERR_CORRUPT, "the hub's answer is not JSON");
    }
    if (*away_since == 0)
        *away_since = clock_mono_usec();
    if (!err_is_retryable(why.code) || clock_mono_usec() - *away_since > HUB_AWAY_USEC) {
        err_copy(err, &why);
        return -1;
    }
    (void)nanosleep(&(struct timespec){0, 300 * 1000 * 1000}, NULL); /* between two attempts to connect */
    return 0;
}

int jobwait_for(
    const struct command_line *line, const char *id, uint64_t timeout_usec, json_t **ret_job, struct err *err)
{
    uint64_t until = timeout_usec ? clock_mono_usec() + timeout_usec : UINT64_MAX;
    uint64_t away_since = 0;
    bool progress = shows_progress(line);
    json_t *job = NULL;

    for (;;) {
        uint64_t now = clock_mono_usec();
        uint64_t left = until > now ? until - now : 0;
        unsigned wait_sec = progress ? 2 : 30;
        json_t *fresh = NULL;

        if (left / USEC_PER_SEC < wait_sec)
            wait_sec = (unsigned)(left / USEC_PER_SEC) + 1;
        if (look(line, id, wait_sec, &away_since, &fresh, err) < 0)
            break;
        if (fresh) {
            json_decref(job);
            job = fresh;
            if (progress)
                show_progress(job);
            if (is_over(job)) {
                if (progress)
                    (void)fputs("\r\033[K", stderr);
                *ret_job = job;
                return job_error(job, err);
            }
        }
        if (clock_mono_usec() >= until) {
            (void)err_set(err, ERR_TIMEOUT, "the job %s is not over yet", id);
            (void)err_hint(err, "It goes on; `leeward job wait %s` waits again.", id);
            break;
        }
    }
    *ret_job = job;
    return -1;
}

int jobwait_run(const struct command_line *line, const char *method, const char *path, const json_t *body,
    json_t **ret_job, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    uint64_t timeout = 0;
    const char *id;

    *ret_job = NULL;
    if (command_option_usec(line, "timeout", &timeout, err) < 0 ||
        client_call(line->client, method, path, body, NULL, &answer, err) < 0)
        return -1;
    id = json_string_value(json_object_get(answer.json, "id"));
    if (!id)
        return err_set(err, ERR_CORRUPT, "the hub's answer is not a job");
    if (command_option(line, "no-wait")) {
        *ret_job = json_incref(answer.json);
        return 0;
    }
    return jobwait_for(line, id, timeout, ret_job, err);
}

static void print_result(const json_t *job)
{
    const json_t *result = json_object_get(job, "result");
    const char *name;
    json_t *value;
    char cell[512];

    (void)printf("%s %s", member(job, "kind"), member(job, "status"));
    json_object_foreach((json_t *)result, name, value)
    {
        if (json_is_object(value) || json_is_array(value))
            continue;
        output_value(value, COLUMN_TEXT, cell, sizeof(cell));
        (void)printf("  %s=%s", name, cell);
    }
    if (strcmp(member(job, "status"), "succeeded") != 0)
        (void)printf("  job=%s", member(job, "id"));
    (void)putchar('\n');
}

void jobwait_print(const struct command_line *line, const json_t *job, bool succeeded)
{
    if (job && line->output == OUTPUT_JSON)
        output_json(job, stdout);
    else if (job && succeeded)
        print_result(job);
}

int jobwait_and_print(
    const struct command_line *line, const char *method, const char *path, const json_t *body, struct err *err)
{
    json_t *job = NULL;
    int rc = jobwait_run(line, method, path, body, &job, err);

    jobwait_print(line, job, rc == 0);
    json_decref(job);
    return rc;
}
