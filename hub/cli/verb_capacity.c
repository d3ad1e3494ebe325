/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward capacity: line, vault and recovery-point age that a disk would take, from a measurement. The measurement is made by the
 * agent's program beside this one (no hub, no protection), or read from a file, so that it can be made elsewhere.
 */
#include "hub/cli/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hub/core/capacity.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

/* A day of seconds is 400 KiB of JSON. */
#define MEASUREMENT_SECONDS_MAX CAPACITY_SECONDS_MAX

static int agent_path(char path[PATH_MAX], struct err *err)
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 32);
    char *slash;

    if (n <= 0)
        return err_sys(err, errno, "looking for leeward-agent");
    path[n] = '\0';
    slash = strrchr(path, '/');
    memcpy(slash ? slash + 1 : path, "leeward-agent", sizeof("leeward-agent"));
    return 0;
}

/* The agent's program is interrupted by itself, and prints what it has measured until then; whoever reads it waits for that. */
static int spawn_measuring(const char *path, char *const argv[], int out, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t interrupt;
    int r;

    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &interrupt);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    (void)signal(SIGINT, SIG_IGN);
    r = posix_spawn(ret_pid, path, &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return r;
}

/* Runs the agent's program and reads what it prints. */
static int run_agent(const char *device, const char *time, json_t **ret_measured, struct err *err)
{
    char path[PATH_MAX];
    char *argv[] = {path, "--measure", (char *)device, "--measure-time", (char *)time, NULL};
    int ends[2], status = 0, r;
    json_error_t bad;
    pid_t pid;

    if (agent_path(path, err) < 0)
        return -1;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "measuring %s for %s; Ctrl-C ends it earlier, with what there is\n", device, time);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(err, errno, "a pipe");
    r = spawn_measuring(path, argv, ends[1], &pid);
    close(ends[1]);
    *ret_measured = r == 0 ? json_loadfd(ends[0], 0, &bad) : NULL;
    close(ends[0]);
    while (r == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    (void)signal(SIGINT, SIG_DFL);
    if (r != 0)
        return err_sys(err, r, "starting %s", path);
    if (*ret_measured && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    json_decref(TAKE_PTR(*ret_measured));
    err_set(err, ERR_IO, "measuring %s failed", device);
    return err_hint(err, "Its reason stands above. It needs root and a whole disk.");
}

static int load(const struct command_line *line, json_t **ret_measured, struct err *err)
{
    const char *device = command_option(line, "device"), *time = command_option(line, "time");
    const char *file = line->argument_count ? line->arguments[0] : NULL;
    json_error_t bad;
    struct stat st;

    if ((device != NULL) == (file != NULL)) {
        err_set(err, ERR_INVALID, "a measurement or a device is needed, and not both");
        return err_hint(err, "leeward capacity /dev/sda --time 10m, or leeward capacity FILE.");
    }
    if (file && stat(file, &st) == 0 && S_ISBLK(st.st_mode))
        device = file;
    if (device)
        return run_agent(device, time ? time : "10m", ret_measured, err);
    *ret_measured = strcmp(file, "-") == 0 ? json_loadf(stdin, 0, &bad) : json_load_file(file, 0, &bad);
    if (*ret_measured)
        return 0;
    err_set(err, ERR_INVALID, "%s: %s", file, bad.text);
    return err_hint(err, "Make one: leeward-agent --measure DEVICE --measure-time 10m > FILE");
}

static uint64_t number(const json_t *object, const char *name)
{
    json_int_t n = json_integer_value(json_object_get(object, name));

    return n < 0 ? 0 : (uint64_t)n;
}

/* *ret_seconds is the caller's. */
static int take_measured(const json_t *m, struct capacity_input *in, uint64_t **ret_seconds, struct err *err)
{
    const json_t *seconds = json_object_get(m, "changed_per_second"),
                 *minutes = json_object_get(m, "changed_per_minute");
    const json_t *item;
    size_t i, n = json_array_size(seconds);
    uint64_t sum = 0;

    if (n == 0 || n > MEASUREMENT_SECONDS_MAX)
        return err_set(err, ERR_INVALID, "the measurement has no seconds, or too many");
    *ret_seconds = mem_alloc(n, sizeof(**ret_seconds));
    if (!*ret_seconds)
        return err_set(err, ERR_NOMEM, "no memory for a measurement");
    json_array_foreach(seconds, i, item)(*ret_seconds)[i] =
        json_integer_value(item) > 0 ? (uint64_t)json_integer_value(item) : 0;
    json_array_foreach(minutes, i, item) sum += json_integer_value(item) > 0 ? (uint64_t)json_integer_value(item) : 0;
    in->per_second = *ret_seconds;
    in->seconds = n;
    in->per_minute_bytes = json_array_size(minutes) ? sum / json_array_size(minutes) : 0;
    in->size_bytes = number(m, "size_bytes");
    in->used_bytes = number(m, "used_bytes");
    in->changed_bytes = number(m, "changed_bytes");
    in->compressed_permille = number(m, "compressed_permille");
    return 0;
}

static int take_policy(const struct command_line *line, struct policy *policy, struct err *err)
{
    const struct {
        const char *option;
        uint64_t *usec;
    } rows[] = {{"interval", &policy->interval_usec}, {"rpo-target", &policy->rpo_target_usec},
        {"keep-all", &policy->keep_all_usec}, {"keep-minutely", &policy->keep_minute_usec},
        {"keep-hourly", &policy->keep_hour_usec}, {"keep-daily", &policy->keep_day_usec}};

    policy_default(policy);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (command_option_usec(line, rows[i].option, rows[i].usec, err) < 0)
            return -1;
    return policy_check(policy, err);
}

static json_t *result_json(const json_t *measured, const struct capacity_input *in, const struct capacity *c)
{
    return json_pack("{s:O?, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I}", "device",
        json_object_get(measured, "device"), "measured_seconds", (json_int_t)in->seconds, "used_bytes",
        (json_int_t)in->used_bytes, "changed_per_day_bytes", (json_int_t)c->changed_per_day_bytes, "compressed_to",
        (double)in->compressed_permille / 1000, "average_bytes_per_second", (json_int_t)c->average_per_sec,
        "p95_bytes_per_second", (json_int_t)c->p95_per_sec, "peak_bytes_per_second", (json_int_t)c->peak_per_sec,
        "link_bytes_per_second", (json_int_t)c->link_bytes_per_sec, "rpo_p50_seconds", c->rpo_p50_sec,
        "rpo_p99_seconds", c->rpo_p99_sec, "rpo_max_seconds", c->rpo_max_sec, "first_copy_seconds", c->first_copy_sec,
        "first_copy_sends_bytes", (json_int_t)c->first_copy_bytes, "all_points_bytes", (json_int_t)c->all_points_bytes,
        "thinned_points_bytes", (json_int_t)c->thinned_bytes, "vault_bytes", (json_int_t)c->vault_bytes);
}

static int link_is_possible(const struct command_line *line, uint64_t bytes_per_sec, struct err *err)
{
    if (!command_option(line, "link") || bytes_per_sec > 0)
        return 0;
    err_set(err, ERR_INVALID, "a line of no bytes per second takes nothing");
    return err_hint(err, "Leave --link out to learn which line is needed.");
}

static int predict(const struct command_line *line, const json_t *measured, struct err *err)
{
    struct policy policy;
    struct capacity_input in = {.policy = &policy};
    AUTO_FREE uint64_t *seconds = NULL;
    struct capacity c;
    json_t *result;
    int r;

    if (take_policy(line, &policy, err) < 0 || take_measured(measured, &in, &seconds, err) < 0 ||
        command_option_bytes(line, "link", 1ULL << 53, &in.link_bytes_per_sec, err) < 0 ||
        link_is_possible(line, in.link_bytes_per_sec, err) < 0 || capacity_predict(&in, &c, err) < 0)
        return -1;
    result = result_json(measured, &in, &c);
    json_object_set_new(result, "link_is_given", json_boolean(in.link_bytes_per_sec > 0));
    r = output_item(line, result, stdout);
    json_decref(result);
    return r;
}

int verb_capacity(struct command_line *line, struct err *err)
{
    json_t *measured = NULL;
    int r;

    if (load(line, &measured, err) < 0)
        return -1;
    r = predict(line, measured, err);
    json_decref(measured);
    return r;
}
