/* SPDX-License-Identifier: Apache-2.0
 *
 * The first restart comes after 100 ms, so that a daemon that was killed is missed for a moment only; each further one
 * doubles the delay up to 10 s, until the daemon has run for half a minute.
 *
 * The daemons get this program's environment without LEEWARD_*: those variables are meant for the command (a
 * LEEWARD_TOKEN of the API would be taken for an enrolment token).
 */
#include "hub/cli/supervise.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

#define DELAY_FIRST_USEC (100 * USEC_PER_MSEC)
#define DELAY_MAX_USEC (10 * USEC_PER_SEC)
#define GOOD_RUN_USEC (30 * USEC_PER_SEC)
#define GRACE_USEC (20 * USEC_PER_SEC) /* the hub stops its PostgreSQL in that time */

struct supervised {
    sd_event *loop;
    const struct supervised_spec *spec;
    struct loop_child *child;
    struct loop_timer *timer; /* restart, or the end of patience */
    uint64_t started_usec, delay_usec;
    bool stopping, stopped;
};

void supervise_find_program(const char *name, char *out)
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    char *slash;

    if (n > 0) {
        out[n] = 0;
        slash = strrchr(out, '/');
        if (slash && (size_t)(slash - out) + strlen(name) + 2 < PATH_MAX) {
            (void)snprintf(slash + 1, PATH_MAX - (size_t)(slash + 1 - out), "%s", name);
            if (access(out, X_OK) == 0)
                return;
        }
    }
    (void)snprintf(out, PATH_MAX, "%s", name);
}

/* environ without LEEWARD_*; free the array, not the texts. */
static const char **clean_environment(void)
{
    size_t n = 0, kept = 0;
    const char **env;

    while (environ[n])
        n++;
    env = mem_alloc(n + 1, sizeof(*env));
    for (size_t i = 0; env && i < n; i++)
        if (strncmp(environ[i], "LEEWARD_", 8) != 0)
            env[kept++] = environ[i];
    return env;
}

static void start_logged(struct supervised *s)
{
    struct err err = ERR_INIT;

    if (supervise_start(s, &err) < 0)
        log_event(LOG_ERROR, "daemon_not_started", LOG_S("program", s->spec->program), LOG_E(&err));
}

static void on_timer(void *arg)
{
    struct supervised *s = arg;

    if (!s->stopping) {
        start_logged(s);
    } else if (s->child) {
        log_event(LOG_WARN, "daemon_killed", LOG_S("program", s->spec->program));
        loop_child_kill(s->child, SIGKILL);
    }
}

static void tell_stopped(struct supervised *s)
{
    if (s->stopped)
        return;
    s->stopped = true;
    s->spec->on_stopped(s->spec->arg);
}

static void on_exit_of_child(void *arg, int wait_status)
{
    struct supervised *s = arg;
    uint64_t ran = clock_mono_usec() - s->started_usec;

    loop_child_free(s->child);
    s->child = NULL;
    if (s->stopping) {
        tell_stopped(s);
        return;
    }
    log_event(LOG_WARN, "daemon_ended", LOG_S("program", s->spec->program),
        LOG_I("exit_status", WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1),
        LOG_I("signal", WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0), LOG_U("ran_ms", ran / USEC_PER_MSEC));
    if (!s->spec->on_exit(s->spec->arg, wait_status))
        return;
    s->delay_usec = ran > GOOD_RUN_USEC || s->delay_usec == 0 ? DELAY_FIRST_USEC : s->delay_usec * 2;
    if (s->delay_usec > DELAY_MAX_USEC)
        s->delay_usec = DELAY_MAX_USEC;
    loop_timer_set(s->timer, s->delay_usec);
}

int supervise_new(sd_event *loop, const struct supervised_spec *spec, struct supervised **ret_child, struct err *err)
{
    struct supervised *s = mem_new(struct supervised);

    if (!s)
        return err_set(err, ERR_NOMEM, "no memory to watch %s", spec->program);
    s->loop = loop;
    s->spec = spec;
    if (loop_timer_new(loop, UINT64_MAX / 4, 0, on_timer, s, &s->timer, err) < 0) {
        free(s);
        return -1;
    }
    *ret_child = s;
    return 0;
}

void supervise_free(struct supervised *s)
{
    if (!s)
        return;
    loop_timer_free(s->timer);
    if (s->child)
        loop_child_kill(s->child, SIGKILL);
    loop_child_free(s->child);
    free(s);
}

int supervise_start(struct supervised *s, struct err *err)
{
    const char *argv[SUPERVISE_ARGUMENTS_MAX + 1] = {0};
    char program[PATH_MAX];
    AUTO_FREE const char **env = NULL;
    struct loop_child_spec spec = {
        .argv = argv, .stdout_fd = -1, .stderr_fd = -1, .pass_fd = -1, .on_exit = on_exit_of_child, .arg = s};
    int rc;

    if (s->child || s->stopping)
        return 0;
    if ((rc = s->spec->prepare(s->spec->arg, argv)) <= 0)
        return rc;
    supervise_find_program(s->spec->program, program);
    argv[0] = program;
    if (!(env = clean_environment()))
        return err_set(err, ERR_NOMEM, "no memory to start %s", s->spec->program);
    spec.env = env;
    s->started_usec = clock_mono_usec();
    return loop_child_start(s->loop, &spec, &s->child, err);
}

void supervise_stop(struct supervised *s)
{
    s->stopping = true;
    if (!s->child) {
        tell_stopped(s);
        return;
    }
    loop_child_kill(s->child, SIGTERM);
    loop_timer_set(s->timer, GRACE_USEC);
}

bool supervise_is_running(const struct supervised *s)
{
    return s->child != NULL;
}
