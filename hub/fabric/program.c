/* SPDX-License-Identifier: Apache-2.0
 *
 * posix_spawn with pipes for what it says and a file in memory for what it is told; a pidfd tells its end. What it leaves running may keep the pipes
 * open: its own end is what counts.
 */
#include "hub/fabric/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define LOOK_MSEC 200
#define PIPE_BYTES 65536                              /* pipe(7) */
#define ASIDE_FD (PROGRAM_FIRST_FD + PROGRAM_FDS_MAX) /* where ours are kept until each has the program's number */

/* The program while it runs. */
struct child {
    pid_t pid;
    int out, errors; /* our ends; -1: closed */
    struct buf *output;
    const char *who;
    char last[200]; /* line on standard error that is being read, or was read last */
    size_t last_len;
    bool line_over;
};

static void close_all(int *fds)
{
    for (size_t i = 0; i < PROGRAM_FDS_MAX; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
}

/* Copies of the caller's descriptors whose numbers are not among those that the program gets. */
static int put_aside(const struct program_run *run, int *aside, struct err *err)
{
    for (size_t i = 0; i < run->fd_count; i++)
        if ((aside[i] = fcntl(run->fds[i], F_DUPFD_CLOEXEC, ASIDE_FD)) < 0)
            return err_sys(err, errno, "a descriptor for %s", run->who);
    return 0;
}

static int spawn(struct child *c, const struct program_run *run, int in, int out, int errors, struct err *err)
{
    char *const *argv = (char *const *)(uintptr_t)run->argv;
    char *const *envp = run->envp ? (char *const *)(uintptr_t)run->envp : environ;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int aside[PROGRAM_FDS_MAX], r;
    sigset_t none, all;

    for (size_t i = 0; i < PROGRAM_FDS_MAX; i++)
        aside[i] = -1;
    if (run->fd_count > PROGRAM_FDS_MAX)
        return err_set(err, ERR_INTERNAL, "more than %d descriptors for %s", PROGRAM_FDS_MAX, run->who);
    if (put_aside(run, aside, err) < 0) {
        close_all(aside);
        return -1;
    }
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_adddup2(&actions, errors, 2);
    if (run->fd_count)
        posix_spawn_file_actions_adddup2(&actions, 2, PROGRAM_FIRST_FD - 1);
    for (size_t i = 0; i < run->fd_count; i++)
        posix_spawn_file_actions_adddup2(&actions, aside[i], PROGRAM_FIRST_FD + (int)i);
    posix_spawn_file_actions_addclosefrom_np(&actions, run->fd_count ? PROGRAM_FIRST_FD + (int)run->fd_count : 3);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    r = posix_spawn(&c->pid, argv[0], &actions, &attr, argv, envp);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    close_all(aside);
    if (r == 0)
        return 0;
    err_sys(err, r, "starting %s", argv[0]);
    return err_hint(err, "The program must be there and executable on the hub's host.");
}

/* Ours does not block, that of the program does. */
static int make_pipe(int *ret_ours, int *ret_theirs, struct err *err)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(err, errno, "a pipe for a program");
    *ret_ours = ends[0];
    *ret_theirs = ends[1];
    return fcntl(*ret_ours, F_SETFL, O_NONBLOCK) < 0 ? err_sys(err, errno, "a pipe for a program") : 0;
}

/* Its standard input: a file in memory, so that nobody need mind whether and when it reads. */
static int make_input(const char *text, int *ret_fd, struct err *err)
{
    size_t n = strlen(text);
    int fd AUTO_CLOSE = memfd_create("leeward-input", MFD_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "the input of a program");
    for (size_t done = 0; done < n;) {
        ssize_t wrote = write(fd, text + done, n - done);

        if (wrote < 0)
            return err_sys(err, errno, "the input of a program");
        done += (size_t)wrote;
    }
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(err, errno, "the input of a program");
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static int launch(struct child *c, const struct program_run *run, struct err *err)
{
    int in = -1, out = -1, errors = -1;
    int rc = make_input(run->input, &in, err) < 0 || make_pipe(&c->out, &out, err) < 0 ||
                     make_pipe(&c->errors, &errors, err) < 0
                 ? -1
                 : spawn(c, run, in, out, errors, err);

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
    return n > 0 ? buf_append(c->output, data, (size_t)n, err) : 0;
}

/* False: nothing is there now. */
static bool take_errors(struct child *c)
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
    return n > 0;
}

/* Until the program has ended and its output is read. */
static int converse(struct child *c, uint64_t limit_usec, const atomic_bool *cancelled, struct err *err)
{
    int ended AUTO_CLOSE = (int)syscall(SYS_pidfd_open, c->pid, 0);
    uint64_t end = clock_mono_usec() + limit_usec;
    bool over = false;

    if (ended < 0)
        return err_sys(err, errno, "watching %s", c->who);
    while (!over || c->out >= 0) {
        struct pollfd p[] = {{c->out, POLLIN, 0}, {c->errors, POLLIN, 0}, {over ? -1 : ended, POLLIN, 0}};

        if (atomic_load(cancelled))
            return err_set(err, ERR_CANCELLED, "%s was stopped", c->who);
        if (clock_mono_usec() > end)
            return err_set(err, ERR_TIMEOUT, "%s took more than %llu s and was ended", c->who,
                (unsigned long long)(limit_usec / USEC_PER_SEC));
        if (poll(p, ARRAY_LEN(p), LOOK_MSEC) < 0 && errno != EINTR)
            return err_sys(err, errno, "waiting for %s", c->who);
        if (p[0].revents && take_output(c, err) < 0)
            return err_wrap(err, "what %s prints", c->who);
        if (p[1].revents)
            (void)take_errors(c);
        /* What it left running may hold the pipe for ever: one more look at it, and that is all. */
        if (over && p[0].revents == 0)
            break;
        over = over || p[2].revents != 0;
    }
    return 0;
}

static int judge(struct child *c, struct err *err)
{
    siginfo_t info = {0};

    if (waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOWAIT) < 0)
        return err_sys(err, errno, "the end of %s", c->who);
    /* All that the pipe held when it ended: its last line says why. What it left running may go on to write. */
    for (int i = 0; i < PIPE_BYTES / 1024 && c->errors >= 0 && take_errors(c); i++)
        ;
    if (info.si_code == CLD_EXITED && info.si_status == 0)
        return 0;
    if (info.si_code != CLD_EXITED && info.si_status == SIGXFSZ)
        return err_set(err, ERR_TOO_LARGE, "%s wrote a larger file than it may", c->who);
    err_set(err, ERR_REFUSED, "%s failed with %s %d%s%s", c->who, info.si_code == CLD_EXITED ? "status" : "signal",
        info.si_status, c->last[0] ? ": " : "", c->last);
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
}

int program_run(const struct program_run *run, struct err *err)
{
    struct child c = {.out = -1, .errors = -1, .output = run->output, .who = run->who};
    int rc = launch(&c, run, err);

    if (rc == 0)
        rc = converse(&c, run->limit_usec, run->cancelled, err) < 0 ? -1 : judge(&c, err);
    child_done(&c);
    return rc;
}
