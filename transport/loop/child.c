/* SPDX-License-Identifier: Apache-2.0
 *
 * Child processes. Between fork and exec only async-signal-safe calls are made, since other threads may hold
 * locks. The child reports a failed step through a close-on-exec pipe as {step, errno}: an end of file
 * without a report means that exec worked, so that "no such program" is an error of the start and not a
 * mysterious exit status 127. The exit is watched through a pidfd (sd_event_add_child), without races on the
 * process id.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/base/mem.h"
#include "transport/loop/loop.h"

struct loop_child {
    sd_event_source *source;
    pid_t pid;
    bool exited;
    void (*on_exit)(void *arg, int wait_status);
    void *arg;
};

enum step { STEP_FDS, STEP_USER, STEP_CWD, STEP_EXEC, STEP_COUNT };

static const char *const step_words[STEP_COUNT] = {
    [STEP_FDS] = "passing the files",
    [STEP_USER] = "changing the user",
    [STEP_CWD] = "changing the folder",
    [STEP_EXEC] = "starting the program",
};

struct report {
    int step;
    int errnum;
};

/* Descriptors as they will stand in the child: 0, 1, 2 and, when one is passed, 3. */
static int set_fds(const struct loop_child_spec *spec)
{
    int wanted[4] = {
        open("/dev/null", O_RDONLY | O_CLOEXEC), spec->stdout_fd, spec->stderr_fd, spec->pass_fd};
    unsigned first_other = wanted[3] >= 0 ? 4 : 3;

    if (wanted[0] < 0)
        return -1;
    /* Out of the way first: one of the given descriptors may stand where another must go. */
    for (int i = 0; i < 4; i++)
        if (wanted[i] >= 0 && (wanted[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, 10)) < 0)
            return -1;
    for (int i = 0; i < 4; i++)
        if (wanted[i] >= 0 && dup2(wanted[i], i) < 0)
            return -1;
    return close_range(first_other, ~0U, CLOSE_RANGE_CLOEXEC);
}

static int set_user(const struct loop_child_spec *spec)
{
    if (spec->gid != 0 && (setgroups(1, &spec->gid) < 0 || setgid(spec->gid) < 0))
        return -1;
    return spec->uid != 0 ? setuid(spec->uid) : 0;
}

static void reset_signals(void)
{
    sigset_t none;

    (void)sigemptyset(&none);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void die(int report_fd, enum step step)
{
    struct report r = {.step = (int)step, .errnum = errno};

    if (write(report_fd, &r, sizeof(r)) < 0)
        _exit(126);
    _exit(127);
}

/* In the child. Does not return. */
static void become(const struct loop_child_spec *spec, int pipe_fd, pid_t parent)
{
    /* Away from the low numbers that set_fds fills. */
    int report_fd = fcntl(pipe_fd, F_DUPFD_CLOEXEC, 20);

    if (report_fd < 0)
        die(pipe_fd, STEP_FDS);
    if (set_fds(spec) < 0)
        die(report_fd, STEP_FDS);
    if (set_user(spec) < 0)
        die(report_fd, STEP_USER);
    if (spec->cwd && chdir(spec->cwd) < 0)
        die(report_fd, STEP_CWD);
    reset_signals();
    /* After the change of user, which clears it; and the parent may be gone already. */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(0);
    (void)execvpe(spec->argv[0], (char *const *)spec->argv, spec->env ? (char *const *)spec->env : environ);
    die(report_fd, STEP_EXEC);
}

/* 0 when exec worked, -1 with err set when the child reported a failed step. Waits for exec, which is short.
 */
static int read_report(int fd, const char *program, struct err *err)
{
    struct report r;
    ssize_t n;

    do
        n = read(fd, &r, sizeof(r));
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return 0;
    if (n != (ssize_t)sizeof(r) || r.step < 0 || r.step >= STEP_COUNT)
        return err_set(err, ERR_INTERNAL, "starting %s: no answer from the child", program);
    return err_sys(err, r.errnum, "starting %s: %s", program, step_words[r.step]);
}

static int spawn(const struct loop_child_spec *spec, pid_t *ret_pid, struct err *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, errno, "starting %s", spec->argv[0]);
    AUTO_CLOSE int read_fd = fds[0];
    AUTO_CLOSE int write_fd = fds[1];
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return err_sys(err, errno, "starting %s", spec->argv[0]);
    if (pid == 0)
        become(spec, write_fd, parent);
    (void)close(TAKE_FD(write_fd));
    if (read_report(read_fd, spec->argv[0], err) < 0) {
        (void)waitpid(pid, NULL, 0);
        return -1;
    }
    *ret_pid = pid;
    return 0;
}

static int wait_status_of(const siginfo_t *info)
{
    if (info->si_code == CLD_EXITED)
        return W_EXITCODE(info->si_status, 0);
    return W_EXITCODE(0, info->si_status) | (info->si_code == CLD_DUMPED ? WCOREFLAG : 0);
}

static int on_child(sd_event_source *source, const siginfo_t *info, void *userdata)
{
    struct loop_child *child = userdata;

    (void)source;
    child->exited = true;
    /* The callback may free the child. */
    if (child->on_exit)
        child->on_exit(child->arg, wait_status_of(info));
    return 0;
}

int loop_child_start(
    sd_event *loop, const struct loop_child_spec *spec, struct loop_child **ret_child, struct err *err)
{
    struct loop_child *child = mem_new(struct loop_child);

    if (!child)
        return err_set(err, ERR_NOMEM, "out of memory for starting %s", spec->argv[0]);
    *child = (struct loop_child){.on_exit = spec->on_exit, .arg = spec->arg};
    if (spawn(spec, &child->pid, err) < 0) {
        free(child);
        return -1;
    }
    int rc = sd_event_add_child(loop, &child->source, child->pid, WEXITED, on_child, child);
    if (rc < 0) {
        (void)kill(child->pid, SIGKILL);
        (void)waitpid(child->pid, NULL, 0);
        free(child);
        return err_sys(err, -rc, "watching %s", spec->argv[0]);
    }
    *ret_child = child;
    return 0;
}

pid_t loop_child_pid(const struct loop_child *child)
{
    return child->pid;
}

void loop_child_kill(struct loop_child *child, int signal_number)
{
    /* Until on_exit ran the process is at most a zombie, so its id is still its own. */
    if (!child->exited)
        (void)kill(child->pid, signal_number);
}

void loop_child_free(struct loop_child *child)
{
    if (!child)
        return;
    (void)sd_event_source_disable_unref(child->source);
    free(child);
}
