/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward bench [MACHINE]: how fast this installation is, measured through the API and NBD as its users have it: a request, a recovery
 * point, opening one, reading it. Happy path: requests; points that are asked for and committed; the newest point opened, its first block
 * read and closed, a few times; the last one stays open, is read, and is closed.
 *
 * What it makes are ordinary points without a tag, which retention thins as those of every second. What it opened it closes again, whatever
 * happens: an error, and Ctrl-C, too. A first signal sets a flag that all waits look at (a request that changes something is let come to
 * its end, for its answer says what there is to close); a second one ends the process at once.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hub/cli/jobwait.h"
#include "hub/cli/latency.h"
#include "hub/cli/nbd_reader.h"
#include "hub/cli/verbs.h"
#include "transport/base/clock.h"

#define REQUESTS 200u /* one after the other: far below what the hub lets one token ask in a second */
#define ROUNDS 5u
#define ROUNDS_MAX 1000u
#define READ_USEC (5 * USEC_PER_SEC)
#define READ_USEC_MAX (3600 * USEC_PER_SEC)
#define CLOSE_USEC (60 * USEC_PER_SEC)
#define MACHINES_PATH "/api/v1/machines?limit=50"

static volatile sig_atomic_t interrupted;

struct bench {
    struct command_line *line;
    const char *machine; /* NULL: the API alone */
    uint64_t rounds, read_usec;
    json_t *result;
    char job[40];    /* that opens a point, once it was asked for */
    char export[40]; /* what is open */
    char uri[600];   /* of its disk */
};

/* ---- signals ---- */

static void on_signal(int number)
{
    static const char said[] = "\nclosing what was opened; once more ends at once\n";

    interrupted = 1;
    (void)signal(number, SIG_DFL);
    (void)!write(STDERR_FILENO, said, sizeof(said) - 1);
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        struct sigaction action = {.sa_handler = on_signal};

        (void)sigaction(numbers[i], &action, NULL); /* waits are interrupted, not taken up again */
    }
}

static int stop_here(struct err *err)
{
    return interrupted ? err_set(err, ERR_CANCELLED, "interrupted") : 0;
}

/* ---- what is told ---- */

static void progress(const struct bench *b, const char *what, uint64_t done, uint64_t of)
{
    if (b->line->output == OUTPUT_JSON || !isatty(STDERR_FILENO))
        return;
    (void)fputs("\r\033[K", stderr);
    if (of > 1)
        (void)fprintf(stderr, "%s (%llu of %llu)", what, (unsigned long long)done + 1, (unsigned long long)of);
    else if (what)
        (void)fputs(what, stderr);
    (void)fflush(stderr);
}

/* A member of the result that holds a latency; what follows may add to it. */
static json_t *note_latency(struct bench *b, const char *name, struct latency *latency)
{
    json_t *one = json_object();

    latency_to_json(latency, one);
    (void)json_object_set_new(b->result, name, one);
    return one;
}

static const struct column bench_columns[] = {
    {"MEASURED", "measured", COLUMN_TEXT, false},
    {"MEDIAN", "median", COLUMN_NUMBER, false},
    {"99 %", "p99", COLUMN_NUMBER, false},
    {"SLOWEST", "slowest", COLUMN_NUMBER, false},
    {"RATE", "rate", COLUMN_NUMBER, false},
    {"WHAT IT IS", "what", COLUMN_TEXT, false},
};

static json_t *duration(const json_t *one, const char *member)
{
    const json_t *value = json_object_get(one, member);
    double ms = json_number_value(value) * 1000;

    if (!value)
        return json_null();
    return ms < 1000 ? json_sprintf(ms < 10 ? "%.2f ms" : "%.0f ms", ms) : json_sprintf("%.2f s", ms / 1000);
}

static json_t *rate(const json_t *one)
{
    const json_t *reads = json_object_get(one, "reads_per_second"), *bytes = json_object_get(one, "bytes_per_second");
    char text[32];

    if (bytes) {
        output_value(bytes, COLUMN_BYTES, text, sizeof(text));
        return json_sprintf("%s/s", text);
    }
    return reads ? json_sprintf("%.0f/s", json_number_value(reads)) : json_null();
}

static void add_row(const struct bench *b, json_t *rows, const char *member, const char *measured, const char *what)
{
    const json_t *one = json_object_get(b->result, member);

    if (one)
        (void)json_array_append_new(
            rows, json_pack("{s:s, s:o, s:o, s:o, s:o, s:s}", "measured", measured, "median",
                      duration(one, "p50_seconds"), "p99", duration(one, "p99_seconds"), "slowest",
                      duration(one, "slowest_seconds"), "rate", rate(one), "what", what));
}

static void print_about(const struct bench *b)
{
    const json_t *point = json_object_get(b->result, "opened_sequence"),
                 *data = json_object_get(b->result, "data_bytes");
    char size[32], used[32];

    if (!point || !data)
        return;
    output_value(json_object_get(b->result, "disk_bytes"), COLUMN_BYTES, size, sizeof(size));
    output_value(data, COLUMN_BYTES, used, sizeof(used));
    output_text(b->machine, stdout);
    (void)printf("@%s: a disk of %s, of which %s hold data\n\n", json_string_value(point), size, used);
}

static void print_result(const struct bench *b)
{
    json_t *rows = json_array();

    progress(b, "", 0, 0);
    if (b->line->output == OUTPUT_JSON) {
        output_json(b->result, stdout);
    } else {
        print_about(b);
        add_row(b, rows, "api", "API request", "GET " MACHINES_PATH ", one after the other");
        add_row(b, rows, "point", "recovery point", "from the request until it is committed in the vault and listed");
        add_row(b, rows, "open", "opening a point", "from the request until its first block was read");
        add_row(b, rows, "random_read", "random reads", "4 KiB of data of the open point over NBD, 8 at once");
        add_row(
            b, rows, "sequential_read", "sequential read", "data of the open point over NBD, from its beginning on");
        (void)output_items(b->line, rows, bench_columns, ARRAY_LEN(bench_columns), stdout);
    }
    json_decref(rows);
}

/* ---- the API ---- */

static int ask_once(struct bench *b, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};

    return client_get(b->line->client, MACHINES_PATH, &answer, err);
}

static int measure_api(struct bench *b, struct err *err)
{
    AUTO_LATENCY struct latency latency = {0};

    progress(b, "API requests", 0, 1);
    if (ask_once(b, err) < 0) /* it connects */
        return -1;
    for (unsigned i = 0; i < REQUESTS; i++) {
        uint64_t begun = clock_mono_usec();

        if (ask_once(b, err) < 0 || stop_here(err) < 0)
            return -1;
        latency_add(&latency, clock_mono_usec() - begun);
    }
    (void)note_latency(b, "api", &latency);
    return 0;
}

/* ---- jobs ---- */

/* Asks for a job and waits for its end. ret_id: its id, as soon as there is one. */
static int do_job(struct bench *b, const char *method, const char *path, const json_t *body, char ret_id[40],
    json_t **ret_job, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};
    const char *id;

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_call(b->line->client, method, path, body, NULL, &answer, err) < 0)
        return -1;
    id = json_string_value(json_object_get(answer.json, "id"));
    if (!id)
        return err_set(err, ERR_CORRUPT, "the hub's answer is not a job");
    (void)snprintf(ret_id, 40, "%s", id);
    return jobwait_for(b->line, ret_id, 0, ret_job, err);
}

/* ---- points ---- */

/* 1: points can be asked for; 0: not in the machine's state. */
static int makes_points(struct bench *b, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s", b->machine);
    AUTO_ANSWER struct client_answer answer = {0};
    const char *state;

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_get(b->line->client, path, &answer, err) < 0)
        return -1;
    state = json_string_value(json_object_get(answer.json, "state"));
    (void)json_object_set_new(
        b->result, "machine", json_incref(json_object_get(answer.json, "name")) ?: json_string(b->machine));
    if (state && strcmp(state, "protected") == 0)
        return 1;
    (void)fprintf(stderr, "leeward: the machine is %s: how long a recovery point takes is not measured\n",
        state ? state : "unknown");
    return 0;
}

static int measure_points(struct bench *b, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/points", b->machine);
    AUTO_LATENCY struct latency latency = {0};
    json_t *body = json_pack("{s:s}", "kind", "crash");
    int rc = 0;

    for (uint64_t i = 0; i < b->rounds && rc == 0; i++) {
        uint64_t begun = clock_mono_usec();
        json_t *job = NULL;
        char id[40];

        progress(b, "recovery points", i, b->rounds);
        rc = do_job(b, "POST", path, body, id, &job, err);
        if (rc == 0) {
            latency_add(&latency, clock_mono_usec() - begun);
            rc = stop_here(err);
        }
        json_decref(job);
    }
    json_decref(body);
    if (latency.count > 0)
        (void)note_latency(b, "point", &latency);
    return rc;
}

/* ---- opening ---- */

/* A job that was asked for and not waited for may still open something: it is let come to its end. One that failed has opened nothing. */
static int find_opened(struct bench *b, struct err *err)
{
    json_t *job = NULL;
    int rc = jobwait_for(b->line, b->job, CLOSE_USEC, &job, err);

    if (rc == 0)
        (void)snprintf(b->export, sizeof(b->export), "%s",
            json_string_value(json_object_get(json_object_get(job, "result"), "export_id")) ?: "");
    json_decref(job);
    if (rc == 0 || (err->code != ERR_TIMEOUT && err->code != ERR_UNAVAILABLE)) {
        err_clear(err);
        return 0;
    }
    (void)err_wrap(err, "the job %s may still open a point", b->job);
    return err_hint(err, "See it with: leeward point opened; and close it: leeward point close ID");
}

/* Also when interrupted: nothing stops it. */
static int close_opened(struct bench *b, struct err *err)
{
    AUTO_FREE char *path = NULL;
    json_t *job = NULL;
    char id[40];
    int rc = 0;

    client_set_stop(b->line->client, NULL);
    if (b->job[0] && !b->export[0])
        rc = find_opened(b, err);
    if (b->export[0]) {
        path = client_path("/api/v1/exports/%s", b->export);
        rc = do_job(b, "DELETE", path, NULL, id, &job, err);
        json_decref(job);
        if (rc < 0)
            (void)err_hint(err, "Close it by hand: leeward point close %s", b->export);
    }
    b->job[0] = b->export[0] = 0;
    client_set_stop(b->line->client, &interrupted);
    return rc;
}

static const char *first_uri(const json_t *result)
{
    const json_t *disk = json_array_get(json_object_get(result, "disks"), 0);
    const char *uri = json_string_value(json_object_get(disk, "uri"));

    return uri ? uri : json_string_value(json_object_get(result, "uri"));
}

static int open_once(struct bench *b, uint64_t sequence, struct err *err)
{
    json_t *body = json_pack("{s:s, s:I}", "machine", b->machine, "sequence", (json_int_t)sequence), *job = NULL;
    const json_t *result;
    const char *id, *uri;
    int rc = do_job(b, "POST", "/api/v1/exports", body, b->job, &job, err);

    result = json_object_get(job, "result");
    id = json_string_value(json_object_get(result, "export_id"));
    uri = first_uri(result);
    if (rc == 0 && (!id || !uri))
        rc = err_set(err, ERR_CORRUPT, "the hub does not say where the point is open");
    if (rc == 0) {
        (void)snprintf(b->export, sizeof(b->export), "%s", id);
        (void)snprintf(b->uri, sizeof(b->uri), "%s", uri);
    }
    json_decref(body);
    json_decref(job);
    return rc;
}

/* Opens it `rounds` times; the last one stays open and *ret_reader is connected to it. */
static int measure_open(struct bench *b, uint64_t sequence, struct nbd_reader **ret_reader, struct err *err)
{
    AUTO_LATENCY struct latency latency = {0};
    int rc = 0;

    for (uint64_t i = 0; i < b->rounds && rc == 0; i++) {
        uint64_t begun = clock_mono_usec();

        progress(b, "opening the point", i, b->rounds);
        nbd_reader_close(TAKE_PTR(*ret_reader));
        if (close_opened(b, err) < 0 || open_once(b, sequence, err) < 0 ||
            nbd_reader_open(b->uri, ret_reader, err) < 0) {
            rc = -1;
            break;
        }
        latency_add(&latency, clock_mono_usec() - begun);
        rc = stop_here(err);
    }
    if (latency.count > 0)
        (void)note_latency(b, "open", &latency);
    return rc;
}

/* ---- reading ---- */

static int measure_random(struct bench *b, struct nbd_reader *reader, struct err *err)
{
    AUTO_LATENCY struct latency latency = {0};
    double per_second;
    json_t *one;

    progress(b, "reading at random", 0, 1);
    if (nbd_reader_random(reader, b->read_usec, &latency, &per_second, err) < 0)
        return -1;
    one = note_latency(b, "random_read", &latency);
    (void)json_object_set_new(one, "reads_per_second", json_real(per_second));
    (void)json_object_set_new(one, "block_bytes", json_integer(NBD_READER_BLOCK_BYTES));
    (void)json_object_set_new(one, "depth", json_integer(NBD_READER_DEPTH));
    return 0;
}

static int measure_sequential(struct bench *b, struct nbd_reader *reader, struct err *err)
{
    uint64_t bytes;
    double per_second;

    progress(b, "reading from the beginning on", 0, 1);
    if (nbd_reader_sequential(reader, b->read_usec, &bytes, &per_second, err) < 0)
        return -1;
    (void)json_object_set_new(b->result, "sequential_read",
        json_pack("{s:I, s:f}", "bytes", (json_int_t)bytes, "bytes_per_second", per_second));
    return 0;
}

static int measure_reads(struct bench *b, struct nbd_reader *reader, struct err *err)
{
    uint64_t data, looked;

    progress(b, "looking where data is", 0, 1);
    nbd_reader_set_stop(reader, &interrupted);
    if (nbd_reader_map(reader, &data, &looked, err) < 0)
        return -1;
    (void)json_object_set_new(b->result, "disk_bytes", json_integer((json_int_t)nbd_reader_size_bytes(reader)));
    (void)json_object_set_new(b->result, "data_bytes", json_integer((json_int_t)data));
    if (data < NBD_READER_BLOCK_BYTES) {
        (void)err_set(err, ERR_NOT_FOUND, "the disk of the point holds no data that could be read");
        return err_hint(err, "Write something to the machine's first disk, or measure another machine.");
    }
    return measure_random(b, reader, err) < 0 ? -1 : measure_sequential(b, reader, err);
}

/* ---- all of it ---- */

static int measure_opened(struct bench *b, struct err *err)
{
    struct nbd_reader *reader = NULL;
    struct err left_open = ERR_INIT;
    uint64_t sequence;
    int rc;

    if (verb_resolve_point(b->line, b->machine, "latest", &sequence, err) < 0)
        return -1;
    (void)json_object_set_new(b->result, "opened_sequence", json_sprintf("%llu", (unsigned long long)sequence));
    rc = measure_open(b, sequence, &reader, err);
    if (rc == 0)
        rc = measure_reads(b, reader, err);
    nbd_reader_close(reader);
    if (close_opened(b, &left_open) < 0) {
        if (rc < 0) /* both are told */
            (void)fprintf(stderr, "leeward: a point is still open: %s %s\n", left_open.text, left_open.correction);
        else
            err_copy(err, &left_open);
        rc = -1;
    }
    return rc;
}

static int measure(struct bench *b, struct err *err)
{
    int can_make;

    if (measure_api(b, err) < 0)
        return -1;
    if (!b->machine)
        return 0;
    can_make = makes_points(b, err);
    if (can_make < 0 || (can_make && measure_points(b, err) < 0))
        return -1;
    return measure_opened(b, err);
}

int verb_bench(struct command_line *line, struct err *err)
{
    struct bench b = {.line = line,
        .machine = line->argument_count ? line->arguments[0] : NULL,
        .rounds = ROUNDS,
        .read_usec = READ_USEC};
    int rc;

    if (command_option_number(line, "rounds", 1, ROUNDS_MAX, &b.rounds, err) < 0 ||
        command_option_usec(line, "read-time", &b.read_usec, err) < 0)
        return -1;
    if (b.read_usec == 0 || b.read_usec > READ_USEC_MAX)
        return err_set(err, ERR_INVALID, "--read-time: more than nothing and at most an hour");
    b.result = json_pack("{s:s}", "hub", client_url(line->client));
    if (!b.result)
        return err_set(err, ERR_NOMEM, "no memory for what is measured");
    catch_signals();
    client_set_stop(line->client, &interrupted);
    rc = measure(&b, err);
    if (json_object_get(b.result, "api") && !client_would_succeed(line->client))
        print_result(&b);
    json_decref(b.result);
    return rc;
}
