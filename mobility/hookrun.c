/* SPDX-License-Identifier: Apache-2.0
 *
 * The child's output comes through a pipe that is read until the child itself has ended, not until the pipe is closed: a
 * background process that holds it open delays nothing. The child is looked at with WNOWAIT and reaped last, for as long as it
 * is not, nobody else can get the number of its process group, and killing that group hits nobody else.
 *
 * Waiting is by pidfd and poll: no signal handler, callable from any thread.
 */
#include "mobility/hookrun.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mobility/hooknote.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* Enough for what a person wants to know; a hook that says more has its first lines logged and its last one kept. */
#define LINE_MAX_BYTES 160u
#define LINES_MAX 20u
/* What a pipe may still hold when the child has ended, in reads. */
#define PIPE_READS 32u
/* For what was killed to end; what waits in the kernel does not, and must not keep the other applications held. */
#define END_USEC (1 * USEC_PER_SEC)
#define PAUSE_NSEC 2000000

struct output {
    const struct hookrun *run;
    char line[LINE_MAX_BYTES + 1], last[LINE_MAX_BYTES + 1];
    size_t length;
    unsigned lines;
};

static void end_line(struct output *o)
{
    if (o->length == 0)
        return;
    o->line[o->length] = '\0';
    if (o->lines++ < LINES_MAX)
        log_event(
            LOG_INFO, "hook_said", LOG_S("hook", o->run->path), LOG_S("verb", o->run->verb), LOG_S("text", o->line));
    snprintf(o->last, sizeof(o->last), "%s", o->line);
    o->length = 0;
}

static void take_output(struct output *o, const char *data, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (data[i] == '\n')
            end_line(o);
        else if (o->length < LINE_MAX_BYTES)
            o->line[o->length++] = data[i] >= 0x20 && data[i] < 0x7f ? data[i] : '?';
    }
}

/* A bounded part of what is there. 1: read some; 0: there is none now; -1: nothing more can come. */
static int read_some(int fd, struct output *o)
{
    char data[4096];
    ssize_t n = read(fd, data, sizeof(data));

    if (n > 0)
        take_output(o, data, (size_t)n);
    return n > 0 ? 1 : n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

/* The environment of the agent and what the hook must know. Freed by the caller, with its first entry's text. */
static char **make_environment(const char *run_dir, char entry[600])
{
    size_t n = 0;
    char **env;

    while (environ[n])
        n++;
    env = mem_alloc(n + 2, sizeof(*env));
    if (!env)
        return NULL;
    snprintf(entry, 600, "LEEWARD_RUN=%s", run_dir ? run_dir : "/run/leeward");
    env[0] = entry;
    memcpy(env + 1, environ, n * sizeof(*env));
    return env;
}

static int spawn(const struct hookrun *run, int out, pid_t *ret_pid, struct err *err)
{
    char *const argv[] = {(char *)run->path, (char *)run->verb, NULL};
    char entry[600];
    char **env AUTO_FREE = make_environment(run->run_dir, entry);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int r;

    if (!env)
        return err_set(err, ERR_NOMEM, "no memory for a hook");
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_adddup2(&actions, out, 2);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    r = posix_spawn(ret_pid, run->path, &actions, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return r == 0 ? 0 : err_sys(err, r, "starting the hook %s", run->path);
}

/* Until the child has ended (0) or the limit is over (-1). */
static int watch(pid_t pid, int out, uint64_t limit_usec, struct output *o)
{
    int fd AUTO_CLOSE = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = out, .events = POLLIN}};
    uint64_t end = clock_mono_usec() + limit_usec, now = clock_mono_usec();

    for (; fd >= 0 && now < end; now = clock_mono_usec()) {
        if (poll(p, 2, (int)((end - now) / USEC_PER_MSEC) + 1) < 0)
            continue;
        if (p[1].revents && read_some(out, o) < 0)
            p[1].fd = -1;
        if (p[0].revents)
            return 0;
    }
    return -1;
}

bool hookrun_end_group(pid_t group)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NSEC};
    uint64_t until = clock_mono_usec() + END_USEC;

    if (group <= 0)
        return true;
    (void)kill(-group, SIGKILL);
    while (waitpid(group, NULL, WNOHANG) == 0) {
        if (clock_mono_usec() > until)
            return false;
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

static int judge(const struct output *o, const siginfo_t *info, struct err *err)
{
    if (info->si_code == CLD_EXITED && info->si_status == 0)
        return 0;
    err_set(err, ERR_IO, "the hook %s %s failed with %s %d%s%s", o->run->path, o->run->verb,
        info->si_code == CLD_EXITED ? "status" : "signal", info->si_status, o->last[0] ? ": " : "", o->last);
    return err_hint(err, "its output is in the log of the agent");
}

static int endless(const struct output *o, pid_t pid, struct err *err)
{
    err_set(err, ERR_TIMEOUT, "the hook %s %s took more than %llu ms and cannot be killed", o->run->path, o->run->verb,
        (unsigned long long)(o->run->limit_usec / USEC_PER_MSEC));
    return err_hint(err, "see what it waits for in the kernel: cat /proc/%d/stack", (int)pid);
}

static int late(const struct output *o, struct err *err)
{
    err_set(err, ERR_TIMEOUT, "the hook %s %s took more than %llu ms and was killed%s%s", o->run->path, o->run->verb,
        (unsigned long long)(o->run->limit_usec / USEC_PER_MSEC), o->last[0] ? ": " : "", o->last);
    return err_hint(err, "make it faster or raise hook-timeout");
}

int hookrun(const struct hookrun *run, struct err *err)
{
    struct output o = {.run = run};
    char note[PATH_MAX] = "";
    siginfo_t info = {0};
    int ends[2], r;
    pid_t pid;

    if (run->keep_group)
        *run->keep_group = 0;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_sys(err, errno, "a pipe for a hook");
    int in AUTO_CLOSE = ends[0], out AUTO_CLOSE = ends[1];
    /* The hook's end must block: what it runs does not expect otherwise. */
    if (fcntl(out, F_SETFL, 0) < 0 || spawn(run, out, &pid, err) < 0)
        return -1;
    if (run->noted_for)
        hooknote_put(run->run_dir, run->noted_for, pid, note);
    r = watch(pid, in, run->limit_usec, &o);
    for (unsigned i = 0; r == 0 && i < PIPE_READS && read_some(in, &o) == 1; i++)
        ;
    end_line(&o);
    if (r < 0)
        r = late(&o, err);
    else if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0)
        r = err_sys(err, errno, "the end of the hook %s", run->path);
    else
        r = judge(&o, &info, err);
    if (r == 0 && run->keep_group)
        *run->keep_group = pid;
    else if (!hookrun_end_group(pid))
        return endless(&o, pid, err);
    if (note[0])
        (void)unlink(note);
    return r;
}
