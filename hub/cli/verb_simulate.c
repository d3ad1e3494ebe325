/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward simulate N: a fleet to try the console with, and for load tests. Tokens are made, leeward-fleet is started with them, its
 * machines are protected as they come, and all of it is removed when this ends, by Ctrl-C or SIGTERM. What a killed one left behind is removed
 * at the next start, or by `leeward simulate remove`.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hub/cli/simulation.h"
#include "hub/cli/supervise.h"
#include "hub/cli/verbs.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

#define MACHINES_MAX 20000u
#define MACHINES_PER_NODE 250u
#define MACHINES_PER_VAULT 500u
#define BUSY_TRIES 60u
#define END_TRIES 5u /* the hub may be going too */
#define CONTROL_PORT "9442"

struct fleet {
    sigset_t signals, before;
    bool stopped; /* a signal to end came */
    pid_t child;  /* 0: none */
    char data[PATH_MAX];
    bool own_data;
    char control[300];
};

/* Looks whether somebody wants an end, without waiting. */
static bool is_stopped(void *arg)
{
    struct fleet *f = arg;
    siginfo_t info;

    while (!f->stopped && sigtimedwait(&f->signals, &info, &(struct timespec){0, 0}) > 0)
        f->stopped = info.si_signo != SIGCHLD;
    return f->stopped;
}

/* ---- the program ---- */

static int choose_control(const struct command_line *line, struct fleet *f, struct err *err)
{
    const char *given = command_option(line, "control"), *url = client_url(line->client);
    const char *host = url + strlen("https://"), *colon = strrchr(host, ':');
    size_t n = colon && colon > host && !strchr(colon, ']') ? (size_t)(colon - host) : strcspn(host, "/");

    if (given)
        (void)snprintf(f->control, sizeof(f->control), "%s", given);
    else if ((size_t)snprintf(f->control, sizeof(f->control), "%.*s:" CONTROL_PORT, (int)n, host) >= sizeof(f->control))
        return err_set(err, ERR_INVALID, "the address of the hub is too long");
    return 0;
}

static int choose_data(const struct command_line *line, struct fleet *f, struct err *err)
{
    const char *given = command_option(line, "data"), *tmp = getenv("TMPDIR");

    f->own_data = !given;
    if (given) {
        (void)snprintf(f->data, sizeof(f->data), "%s", given);
        return file_make_dirs(given, 0700, err);
    }
    (void)snprintf(f->data, sizeof(f->data), "%.4000s/leeward-simulate-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(f->data) ? 0 : err_sys(err, errno, "a folder in %s", tmp ? tmp : "/tmp");
}

static void run_child(const struct fleet *f, const char *program, const char *tokens, bool with_past, pid_t parent)
{
    const char *argv[] = {program, "--data", f->data, "--hub", f->control, "--tokens", tokens,
        with_past ? "--past=true" : "--past=false", "--log-level", "info", NULL};

    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) /* it died in between */
        _exit(1);
    (void)sigprocmask(SIG_SETMASK, &f->before, NULL);
    (void)dup2(STDERR_FILENO, STDOUT_FILENO);
    execvp(program, (char *const *)(uintptr_t)argv);
    _exit(127);
}

static int start_child(struct fleet *f, const char *tokens, bool with_past, struct err *err)
{
    char program[PATH_MAX];
    pid_t parent = getpid();

    supervise_find_program("leeward-fleet", program);
    f->child = fork();
    if (f->child < 0) {
        f->child = 0;
        return err_sys(err, errno, "starting %s", program);
    }
    if (f->child == 0)
        run_child(f, program, tokens, with_past, parent);
    return 0;
}

static int child_status(struct fleet *f, int flags)
{
    int status;

    if (f->child == 0 || waitpid(f->child, &status, flags) != f->child)
        return -1;
    f->child = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int check_child(struct fleet *f, struct err *err)
{
    int status = child_status(f, WNOHANG);

    if (status < 0)
        return 0;
    (void)err_set(err, ERR_UNAVAILABLE, "leeward-fleet ended with exit status %d", status);
    return err_hint(
        err, "Its last line above says why; --control names the hub's control port if it is not " CONTROL_PORT ".");
}

static void stop_child(struct fleet *f)
{
    if (f->child == 0)
        return;
    (void)kill(f->child, SIGTERM);
    (void)child_status(f, 0);
}

/* ---- the course of it ---- */

static int make_tokens(struct simulation *s, const char *path, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    int rc;

    if (!out)
        return err_sys(err, errno, "%s", path);
    rc = simulation_write_tokens(s, out, err);
    if (fclose(out) != 0 && rc == 0)
        rc = err_sys(err, errno, "%s", path);
    return rc;
}

/* Waits for a signal, at most `seconds`. */
static void pause_for(struct fleet *f, time_t seconds)
{
    siginfo_t info;

    if (!f->stopped && sigtimedwait(&f->signals, &info, &(struct timespec){seconds, 0}) > 0)
        f->stopped = info.si_signo != SIGCHLD;
}

static int protect_all(struct fleet *f, struct simulation *s, struct err *err)
{
    json_t *known = json_object();
    unsigned asked = 0;
    int rc = 0;

    while (rc == 0 && asked < simulation_protected_goal(s) && !f->stopped) {
        rc = simulation_protect_some(s, known, &asked, err);
        if (rc == 0 && (rc = check_child(f, err)) == 0 && asked < simulation_protected_goal(s))
            pause_for(f, 1);
    }
    json_decref(known);
    return rc;
}

static int run_fleet(const struct command_line *line, struct fleet *f, struct simulation *s, struct err *err)
{
    AUTO_FREE char *tokens = mem_printf("%s/tokens", f->data);

    if (!tokens)
        return err_set(err, ERR_NOMEM, "no memory for a simulation");
    (void)fprintf(stderr, "making %u tokens ...\n", s->machines + s->nodes + s->vaults);
    if (simulation_remove_all(s, NULL, err) < 0 || simulation_prepare(s, err) < 0 || make_tokens(s, tokens, err) < 0 ||
        start_child(f, tokens, !command_option(line, "no-past"), err) < 0)
        return -1;
    if (!command_option(line, "no-protect") && protect_all(f, s, err) < 0)
        return -1;
    if (!f->stopped)
        (void)printf(
            "%u simulated machines, %u nodes and %u vaults; Ctrl-C removes them.\n", s->machines, s->nodes, s->vaults);
    (void)fflush(stdout);
    while (!f->stopped) {
        pause_for(f, 3600);
        if (check_child(f, err) < 0)
            return -1;
    }
    return 0;
}

/* Also after a failure: what was made goes. */
static int end_fleet(struct fleet *f, struct simulation *s, struct err *err)
{
    struct err why = ERR_INIT;
    unsigned long long gone = 0;
    int rc;

    stop_child(f);
    s->stop = NULL;
    s->tries = END_TRIES;
    rc = simulation_remove_all(s, &gone, &why);
    if (rc == 0)
        (void)printf("%llu simulated machines were removed\n", gone);
    else if (err->code == ERR_NONE) {
        err_copy(err, &why);
        (void)err_hint(err, "When the hub is there again: leeward simulate remove");
    }
    if (f->own_data)
        (void)file_remove_tree(f->data, NULL);
    return rc;
}

int verb_simulate_count(const char *text, unsigned *ret_machines, struct err *err)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*end || n < 1 || n > MACHINES_MAX)
        return err_set(err, ERR_INVALID, "%.40s is no number of machines from 1 to %u", text, MACHINES_MAX);
    *ret_machines = (unsigned)n;
    return 0;
}

int verb_simulate(struct command_line *line, struct err *err)
{
    struct fleet fleet = {0};
    struct simulation s = {.client = line->client, .tries = BUSY_TRIES, .stop = is_stopped, .stop_arg = &fleet};
    int rc;

    if (verb_simulate_count(line->arguments[0], &s.machines, err) < 0)
        return -1;
    s.nodes = s.machines / MACHINES_PER_NODE + 2;
    s.vaults = s.machines / MACHINES_PER_VAULT + 2;
    (void)sigemptyset(&fleet.signals);
    (void)sigaddset(&fleet.signals, SIGINT);
    (void)sigaddset(&fleet.signals, SIGTERM);
    (void)sigaddset(&fleet.signals, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &fleet.signals, &fleet.before);
    if (choose_control(line, &fleet, err) < 0 || choose_data(line, &fleet, err) < 0)
        return -1;
    rc = run_fleet(line, &fleet, &s, err);
    if (rc < 0 && err->code == ERR_CANCELLED) {
        err_clear(err);
        rc = 0;
    }
    return end_fleet(&fleet, &s, err) < 0 ? -1 : rc;
}

int verb_simulate_remove(struct command_line *line, struct err *err)
{
    struct simulation s = {.client = line->client, .tries = END_TRIES};
    unsigned long long gone = 0;

    if (simulation_remove_all(&s, &gone, err) < 0)
        return -1;
    if (line->output == OUTPUT_JSON)
        (void)printf("{\"machines\": %llu}\n", gone);
    else
        (void)printf("%llu simulated machines were removed\n", gone);
    return 0;
}
