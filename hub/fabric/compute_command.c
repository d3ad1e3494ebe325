/* SPDX-License-Identifier: Apache-2.0
 *
 * A program of the user's: PROGRAM check|start|stop, with {"config", "spec", "replica", "graceful"} as JSON on standard input. start answers with
 * the replica as a JSON object on standard output (nothing: {}); exit status 0 is success; the last line of standard error is the reason for any
 * other. It runs in a process group of its own, which is ended when the time is over or the hub stops; it must take being started again.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hub/fabric/boot_check.h"
#include "hub/fabric/compute.h"
#include "transport/base/buf.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define OUTPUT_MAX (64 * 1024)
#define TIMEOUT_DEFAULT_S 600
#define TIMEOUT_MAX_S 86400
#define LOOK_MSEC 200

static int command_configure(const json_t *config, struct err *err)
{
    static const char *const known[] = {"program", "timeout_seconds", NULL};
    const char *program = compute_text(config, "program", "");
    const json_t *seconds = json_object_get(config, "timeout_seconds");

    if (compute_known(config, known, err) < 0)
        return -1;
    if (program[0] != '/') {
        err_set(err, ERR_INVALID, "config.program: not an absolute path");
        return err_hint(err, "Name the program on the hub's host, beginning with /.");
    }
    if (seconds &&
        (!json_is_integer(seconds) || json_integer_value(seconds) < 1 || json_integer_value(seconds) > TIMEOUT_MAX_S))
        return err_set(err, ERR_INVALID, "config.timeout_seconds: not between 1 and %d", TIMEOUT_MAX_S);
    return 0;
}

/* The program while it runs. */
struct child {
    pid_t pid;
    int out, errors; /* our ends; -1: closed */
    struct buf output;
    char last[200]; /* line on standard error that is being read, or was read last */
    size_t last_len;
    bool line_over;
};

static int spawn(struct child *c, const char *program, const char *verb, int in, int out, int errors, struct err *err)
{
    char *const argv[] = {(char *)program, (char *)verb, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int r;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_adddup2(&actions, errors, 2);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    r = posix_spawn(&c->pid, program, &actions, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    if (r == 0)
        return 0;
    err_sys(err, r, "starting %s", program);
    return err_hint(err, "The target's program must be there and executable on the hub's host.");
}

/* Ours does not block, that of the program does. */
static int make_pipe(int *ret_ours, int *ret_theirs, struct err *err)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(err, errno, "a pipe for a target's program");
    *ret_ours = ends[0];
    *ret_theirs = ends[1];
    return fcntl(*ret_ours, F_SETFL, O_NONBLOCK) < 0 ? err_sys(err, errno, "a pipe for a target's program") : 0;
}

/* Its standard input: a file in memory, so that nobody need mind whether and when it reads. */
static int make_input(const char *text, int *ret_fd, struct err *err)
{
    size_t n = strlen(text);
    int fd AUTO_CLOSE = memfd_create("leeward-target", MFD_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "the input of a target's program");
    for (size_t done = 0; done < n;) {
        ssize_t wrote = write(fd, text + done, n - done);

        if (wrote < 0)
            return err_sys(err, errno, "the input of a target's program");
        done += (size_t)wrote;
    }
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(err, errno, "the input of a target's program");
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static int launch(struct child *c, const char *program, const char *verb, const char *input, struct err *err)
{
    int in = -1, out = -1, errors = -1;
    int rc =
        make_input(input, &in, err) < 0 || make_pipe(&c->out, &out, err) < 0 || make_pipe(&c->errors, &errors, err) < 0
            ? -1
            : spawn(c, program, verb, in, out, errors, err);

    close_end(&in);
    close_end(&out);
    close_end(&errors);
    return rc;
}

static int take_output(struct child *c, struct err *err)
{
    char data[4096];
    ssize_t n = read(c->out, data, sizeof(data));

    if (n == 0)
        close_end(&c->out);
    return n > 0 ? buf_append(&c->output, data, (size_t)n, err) : 0;
}

static void take_errors(struct child *c)
{
    char data[1024];
    ssize_t n = read(c->errors, data, sizeof(data));

    if (n == 0)
        close_end(&c->errors);
    for (ssize_t i = 0; i < n; i++) {
        if (data[i] == '\n') {
            c->line_over = true;
            continue;
        }
        if (c->line_over)
            c->last_len = 0;
        c->line_over = false;
        if (c->last_len + 1 < sizeof(c->last))
            c->last[c->last_len++] = data[i] >= 0x20 && data[i] < 0x7f ? data[i] : '?';
    }
    c->last[c->last_len] = '\0';
}

/* Until the program has ended and its output is read. */
static int converse(struct child *c, uint64_t limit_usec, const atomic_bool *cancelled, struct err *err)
{
    int ended AUTO_CLOSE = (int)syscall(SYS_pidfd_open, c->pid, 0);
    uint64_t end = clock_mono_usec() + limit_usec;
    bool over = false;

    if (ended < 0)
        return err_sys(err, errno, "watching a target's program");
    while (!over || c->out >= 0) {
        struct pollfd p[] = {{c->out, POLLIN, 0}, {c->errors, POLLIN, 0}, {over ? -1 : ended, POLLIN, 0}};

        if (atomic_load(cancelled))
            return err_set(err, ERR_CANCELLED, "the target's program was stopped");
        if (clock_mono_usec() > end)
            return err_set(err, ERR_TIMEOUT, "the target's program took more than %llu s and was ended",
                (unsigned long long)(limit_usec / USEC_PER_SEC));
        if (poll(p, ARRAY_LEN(p), LOOK_MSEC) < 0 && errno != EINTR)
            return err_sys(err, errno, "waiting for a target's program");
        if (p[0].revents && take_output(c, err) < 0)
            return err_wrap(err, "what the target's program prints");
        if (p[1].revents)
            take_errors(c);
        /* What it left running may hold the pipe for ever: one more look at it, and that is all. */
        if (over && p[0].revents == 0)
            break;
        over = over || p[2].revents != 0;
    }
    return 0;
}

static int judge(struct child *c, const char *verb, struct err *err)
{
    siginfo_t info = {0};

    if (waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOWAIT) < 0)
        return err_sys(err, errno, "the end of a target's program");
    if (c->errors >= 0)
        take_errors(c);
    if (info.si_code == CLD_EXITED && info.si_status == 0)
        return 0;
    err_set(err, ERR_REFUSED, "the target's program failed at %s with %s %d%s%s", verb,
        info.si_code == CLD_EXITED ? "status" : "signal", info.si_status, c->last[0] ? ": " : "", c->last);
    return err_hint(err, "Mend what it says, then try again.");
}

static void child_done(struct child *c)
{
    close_end(&c->out);
    close_end(&c->errors);
    if (c->pid > 0) {
        (void)kill(-c->pid, SIGKILL);
        while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    buf_done(&c->output);
}

static int run(const struct compute_call *call, const char *verb, json_t **ret_answer, struct err *err)
{
    const json_t *seconds = json_object_get(call->config, "timeout_seconds");
    uint64_t limit_s = json_is_integer(seconds) ? (uint64_t)json_integer_value(seconds) : TIMEOUT_DEFAULT_S;
    json_t *input = json_pack("{s:O, s:O, s:O?, s:b}", "config", call->config, "spec", call->spec, "replica",
        call->replica, "graceful", (int)call->graceful);
    AUTO_FREE char *text = input ? json_dumps(input, JSON_COMPACT) : NULL;
    struct child c = {.out = -1, .errors = -1, .output = BUF_INIT(OUTPUT_MAX)};
    int rc;

    json_decref(input);
    if (!text)
        return err_set(err, ERR_NOMEM, "no memory for a target's program");
    rc = launch(&c, compute_text(call->config, "program", ""), verb, text, err);
    if (rc == 0)
        rc = converse(&c, limit_s * USEC_PER_SEC, call->cancelled, err) < 0 ? -1 : judge(&c, verb, err);
    if (rc == 0 && ret_answer) {
        *ret_answer = c.output.len ? json_loadb((char *)c.output.data, c.output.len, JSON_REJECT_DUPLICATES, NULL)
                                   : json_object();
        if (!json_is_object(*ret_answer)) {
            json_decref(TAKE_PTR(*ret_answer));
            rc = err_set(err, ERR_INVALID, "the target's program did not answer with a JSON object at %s", verb);
        }
    }
    child_done(&c);
    return rc;
}

static int command_check(const struct compute_call *call, struct err *err)
{
    if (boot_check_validate(json_object_get(call->spec, "boot_check"), false, err) < 0)
        return -1;
    return run(call, "check", NULL, err);
}

/* The program may give a verdict of its own; else a boot check by TCP, at the address that it gave, does. */
static int command_start(const struct compute_call *call, json_t **ret_replica, struct err *err)
{
    json_t *replica = NULL;

    if (run(call, "start", &replica, err) < 0)
        return -1;
    if (!json_object_get(replica, "verdict") &&
        boot_check_by_tcp(json_object_get(call->spec, "boot_check"), compute_text(replica, "address", NULL),
            call->cancelled, replica, err) < 0) {
        json_decref(replica);
        return -1;
    }
    *ret_replica = replica;
    return 0;
}

static int command_stop(const struct compute_call *call, struct err *err)
{
    return run(call, "stop", NULL, err);
}

const struct compute_adapter compute_command = {
    .name = "command",
    .configure = command_configure,
    .check = command_check,
    .start = command_start,
    .stop = command_stop,
};
