/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward up: hub, node, vault and the agent of this machine in the foreground, as children.
 *
 * Happy path: the hub is started; a worker waits until it is ready; each other daemon that has no identity yet gets a
 * one-time token; then they are started, and when all are online a summary is printed. A daemon that ends is started
 * again. SIGTERM or Ctrl-C ends them in the order in which data flows: agent, node, vault, hub. Should this process be
 * killed, each child gets SIGTERM from the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hub/cli/firststart.h"
#include "hub/cli/profile.h"
#include "hub/cli/supervise.h"
#include "hub/cli/verbs.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"
#include "transport/loop/worker.h"

#define HUB_READY_USEC (120 * USEC_PER_SEC) /* initdb of the private PostgreSQL on a slow disk */
#define ALL_READY_USEC (60 * USEC_PER_SEC)
#define PORT_BASE 8443u
#define FAILURES_MAX 5u /* with the growing delay: about three seconds */

enum role { HUB, VAULT, NODE, AGENT, FLEET, ROLE_COUNT };
static const char *const role_names[ROLE_COUNT] = {"hub", "vault", "node", "agent", "fleet"};
static const char *const programs[ROLE_COUNT] = {
    "leeward-hub", "leeward-vault", "leeward-node", "leeward-agent", "leeward" /* simulate */};
static const enum role stop_order[ROLE_COUNT] = {FLEET, AGENT, NODE, VAULT, HUB};

struct up;

struct member {
    struct up *up;
    enum role role;
    bool wanted;
    bool token_pending; /* a worker fetches one */
    unsigned failures;  /* ends by itself before all were online for the first time */
    struct supervised_spec spec;
    struct supervised *child;
    char data[PATH_MAX], listen[280], advertise[280], token_file[PATH_MAX];
};

struct up {
    sd_event *loop;
    struct worker_pool *pool;
    struct member members[ROLE_COUNT];
    char data[PATH_MAX], url[300], control[64], api_listen[256];
    const char *database, *hostnames, *instance, *log_level, *simulate;
    char admin_token[PATH_MAX], ca[PATH_MAX];
    struct firststart firststart;
    atomic_bool cancel;
    bool hub_ready, all_online, failed, stopping;
    unsigned stop_at; /* index in stop_order */
    struct err failure;
};

/* One question to the hub, on the worker. */
struct question {
    struct worker_job job;
    struct up *up;
    enum { WAIT_HUB, MAKE_TOKEN, WAIT_ALL } kind;
    enum role role;
    int rc;
    struct err err;
};

static void stop_next(struct up *up);

static void fail(struct up *up, const struct err *err)
{
    if (!up->failed && !up->stopping)
        err_copy(&up->failure, err);
    up->failed = true;
    if (!up->stopping) {
        up->stopping = true;
        atomic_store(&up->cancel, true);
        stop_next(up);
    }
}

/* ---- questions ---- */

static void question_run(struct worker_job *job)
{
    struct question *q = (struct question *)job;
    struct up *up = q->up;

    switch (q->kind) {
    case WAIT_HUB:
        q->rc = firststart_wait_hub(&up->firststart, HUB_READY_USEC, &q->err);
        if (q->rc == 0)
            q->rc = firststart_write_env(&up->firststart, &q->err);
        break;
    case MAKE_TOKEN:
        q->rc = firststart_wait_hub(&up->firststart, HUB_READY_USEC, &q->err);
        if (q->rc == 0)
            q->rc = firststart_make_token(&up->firststart, role_names[q->role], &q->err);
        break;
    case WAIT_ALL:
        q->rc = firststart_wait_all(&up->firststart, !up->members[AGENT].wanted, ALL_READY_USEC, &q->err);
        break;
    }
}

static void ask(struct up *up, int kind, enum role role);

/* Only while the password of the first start stands: the hub removes the file when it is changed. */
static void print_first_password(const struct up *up)
{
    AUTO_FREE char *path = mem_printf("%s/hub/admin-password", up->data);
    AUTO_FREE char *password = NULL;
    struct err none = ERR_INIT;

    if (path && access(path, R_OK) == 0 && profile_read_secret(path, &password, &none) == 0)
        (void)printf("  sign in      admin, %s (kept in %s until it is changed)\n", password, path);
}

static void print_summary(const struct up *up)
{
    (void)printf("\nLeeward is up.\n"
                 "  API          %s\n"
                 "  credentials  %s/hub/admin.token (API token), %s/hub/ca/ca.pem (CA)\n",
        up->url, up->data, up->data);
    print_first_password(up);
    (void)printf("  this shell   . %s/cli.env && leeward machine list\n"
                 "Ctrl-C ends it.\n",
        up->data);
    (void)fflush(stdout);
    loop_notify_ready();
}

/* Those that were used are worthless, the others are not needed any more. */
static void forget_tokens(const struct up *up)
{
    for (enum role role = VAULT; role < FLEET; role++)
        if (up->members[role].wanted)
            (void)unlink(up->members[role].token_file);
}

static void start_member(struct up *up, enum role role)
{
    struct err err = ERR_INIT;

    if (up->members[role].wanted && supervise_start(up->members[role].child, &err) < 0)
        fail(up, &err);
}

static void question_done(struct worker_job *job)
{
    struct question *q = (struct question *)job;
    struct up *up = q->up;

    if (q->kind == MAKE_TOKEN)
        up->members[q->role].token_pending = false;
    if (up->stopping) {
        free(q);
        return;
    }
    if (q->rc < 0 && q->kind == WAIT_ALL) {
        log_event(LOG_WARN, "not_all_online", LOG_E(&q->err)); /* they go on trying; so do we */
        ask(up, WAIT_ALL, HUB);
    } else if (q->rc < 0)
        fail(up, &q->err);
    else if (q->kind == WAIT_HUB) {
        up->hub_ready = true;
        for (enum role role = VAULT; role < FLEET; role++)
            start_member(up, role);
        ask(up, WAIT_ALL, HUB);
    } else if (q->kind == MAKE_TOKEN)
        start_member(up, q->role);
    if (q->kind == WAIT_ALL && q->rc == 0) {
        up->all_online = true;
        forget_tokens(up);
        print_summary(up);
        start_member(up, FLEET);
    }
    free(q);
}

static void ask(struct up *up, int kind, enum role role)
{
    struct question *q = mem_new(struct question);
    struct err err = ERR_INIT;

    if (q) {
        *q = (struct question){.job = {.run = question_run, .done = question_done}, .up = up, .role = role};
        q->kind = kind;
    }
    if (!q || worker_submit(up->pool, &q->job, &err) < 0) {
        free(q);
        (void)err_set(&err, ERR_NOMEM, "no memory to ask the hub");
        fail(up, &err);
    }
}

/* ---- the daemons ---- */

static bool has_identity(const struct member *m)
{
    AUTO_FREE char *path = mem_printf("%s/identity/cert.pem", m->data);

    return path && access(path, R_OK) == 0;
}

static void add(const char *argv[], size_t *n, const char *key, const char *value)
{
    argv[(*n)++] = key;
    argv[(*n)++] = value;
}

static void hub_arguments(const struct member *m, const char *argv[], size_t *n)
{
    add(argv, n, "--api-listen", m->up->api_listen);
    add(argv, n, "--listen", m->up->control);
    if (m->up->database)
        add(argv, n, "--database", m->up->database);
    if (m->up->hostnames)
        add(argv, n, "--hostnames", m->up->hostnames);
    if (m->up->simulate)
        add(argv, n, "--enrolments-per-second", "1000"); /* all of them from this address */
}

static void fleet_arguments(const struct member *m, const char *argv[], size_t *n)
{
    add(argv, n, "simulate", m->up->simulate);
    add(argv, n, "--url", m->up->url);
    add(argv, n, "--token-file", m->up->admin_token);
    add(argv, n, "--ca", m->up->ca);
    add(argv, n, "--control", m->up->control);
    add(argv, n, "--data", m->data);
}

static void peer_arguments(const struct member *m, const char *argv[], size_t *n)
{
    add(argv, n, "--hub", m->up->control);
    if (!has_identity(m))
        add(argv, n, "--token-file", m->token_file);
    if (m->role == AGENT) {
        if (m->up->instance)
            add(argv, n, "--instance", m->up->instance);
        return;
    }
    add(argv, n, "--listen", m->listen);
    add(argv, n, "--advertise", m->advertise);
}

static int prepare(void *arg, const char *argv[SUPERVISE_ARGUMENTS_MAX])
{
    struct member *m = arg;
    size_t n = 1;

    if (m->role == FLEET) {
        fleet_arguments(m, argv, &n);
        return 1;
    }
    if (m->role != HUB && !has_identity(m) && access(m->token_file, R_OK) != 0) {
        if (!m->token_pending) {
            m->token_pending = true;
            ask(m->up, MAKE_TOKEN, m->role);
        }
        return 0; /* question_done starts it */
    }
    add(argv, &n, "--data", m->data);
    if (m->role == HUB)
        hub_arguments(m, argv, &n);
    else
        peer_arguments(m, argv, &n);
    if (m->up->log_level)
        add(argv, &n, "--log-level", m->up->log_level);
    return 1;
}

/* What ends by itself while all are being started has a reason that a restart does not cure: a port that is taken, a
 * missing capability. The others get a few attempts, since they may just have met the hub at a bad moment. */
static bool is_hopeless(struct member *m, int wait_status)
{
    bool by_itself = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) != 0;

    if (m->role == HUB)
        return by_itself && !m->up->hub_ready;
    return by_itself && !m->up->all_online && ++m->failures == FAILURES_MAX;
}

static bool on_exit_of_member(void *arg, int wait_status)
{
    struct member *m = arg;
    struct err err = ERR_INIT;

    (void)unlink(m->token_file); /* it may be used up; another one is made if there is no identity yet */
    if (!is_hopeless(m, wait_status))
        return true;
    (void)err_set(&err, ERR_REFUSED, "%s does not start (exit status %d)", programs[m->role], WEXITSTATUS(wait_status));
    (void)err_hint(&err, "Its last line above says why.");
    fail(m->up, &err);
    return false;
}

static void on_stopped(void *arg)
{
    struct member *m = arg;

    (void)unlink(m->token_file);
    stop_next(m->up);
}

static void stop_next(struct up *up)
{
    while (up->stop_at < ROLE_COUNT) {
        struct member *m = &up->members[stop_order[up->stop_at++]];

        if (m->child) {
            supervise_stop(m->child);
            return; /* on_stopped goes on */
        }
    }
    (void)sd_event_exit(up->loop, up->failed ? EXIT_FAILED : EXIT_DONE);
}

static void on_stop_signal(void *arg)
{
    struct up *up = arg;

    if (up->stopping)
        return;
    up->stopping = true;
    atomic_store(&up->cancel, true);
    loop_notify_stopping();
    stop_next(up);
}

/* ---- settings ---- */

static int choose_data(const struct command_line *line, struct up *up, struct err *err)
{
    const char *given = command_option(line, "data"), *home = getenv("HOME");
    AUTO_FREE char *wanted = given            ? mem_strdup(given)
                             : geteuid() == 0 ? mem_strdup("/var/lib/leeward")
                                              : mem_printf("%s/.local/share/leeward", home ? home : "/tmp");

    /* Others may pass through (the private PostgreSQL is another user), not look around. */
    if (!wanted || file_make_dirs(wanted, 0711, err) < 0)
        return -1;
    if (!realpath(wanted, up->data))
        return err_sys(err, errno, "the folder %s", wanted);
    if (strlen(up->data) > PATH_MAX - 64 || strchr(up->data, '\''))
        return err_set(err, ERR_INVALID, "the path of the folder %s cannot be used", wanted);
    return 0;
}

/* The address under which this machine reaches an API that listens there. */
static void url_of(const char *listen, char *out, size_t size)
{
    const char *colon = strrchr(listen, ':');
    size_t n = colon ? (size_t)(colon - listen) : 0;
    bool everywhere =
        n == 0 || (n == 7 && strncmp(listen, "0.0.0.0", 7) == 0) || (n == 4 && strncmp(listen, "[::]", 4) == 0);

    (void)snprintf(
        out, size, "https://%.*s%s", everywhere ? 9 : (int)n, everywhere ? "127.0.0.1" : listen, colon ? colon : "");
}

static int choose_ports(const struct command_line *line, struct up *up, struct err *err)
{
    const char *api_listen = command_option(line, "api-listen");
    uint64_t base = PORT_BASE;
    unsigned control, node, vault;
    int given = command_option_number(line, "port-base", 1, 65532, &base, err);

    if (given < 0)
        return -1;
    control = given ? (unsigned)base + 1 : 9442;
    node = given ? (unsigned)base + 2 : 9443;
    vault = given ? (unsigned)base + 3 : 9444;
    if (api_listen)
        (void)snprintf(up->api_listen, sizeof(up->api_listen), "%s", api_listen);
    else
        (void)snprintf(up->api_listen, sizeof(up->api_listen), "127.0.0.1:%u", (unsigned)base);
    url_of(up->api_listen, up->url, sizeof(up->url));
    (void)snprintf(up->control, sizeof(up->control), "127.0.0.1:%u", control);
    (void)snprintf(up->members[NODE].listen, sizeof(up->members[NODE].listen), "127.0.0.1:%u", node);
    (void)snprintf(up->members[VAULT].listen, sizeof(up->members[VAULT].listen), "127.0.0.1:%u", vault);
    return 0;
}

static int make_member(struct up *up, enum role role, struct err *err)
{
    struct member *m = &up->members[role];
    AUTO_FREE char *data = mem_strdup(up->data); /* gcc cannot see that two members of *up do not overlap */

    if (!data)
        return err_set(err, ERR_NOMEM, "no memory for a daemon");
    m->up = up;
    m->role = role;
    m->wanted = true;
    (void)snprintf(m->data, sizeof(m->data), "%.4000s/%s", data, role_names[role]);
    (void)snprintf(m->token_file, sizeof(m->token_file), "%.4000s/%s.token", data, role_names[role]);
    (void)snprintf(m->advertise, sizeof(m->advertise), "%s", m->listen);
    m->spec = (struct supervised_spec){.program = programs[role],
        .prepare = prepare,
        .on_exit = on_exit_of_member,
        .on_stopped = on_stopped,
        .arg = m};
    return supervise_new(up->loop, &m->spec, &m->child, err);
}

/* Two of them in one folder would fight over everything. */
static int take_folder(const struct up *up, struct err *err)
{
    AUTO_FREE char *lock = mem_printf("%s/up.lock", up->data);
    AUTO_FREE char *env = mem_printf("%s/cli.env", up->data);
    int fd = lock ? open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;

    if (fd < 0)
        return err_sys(err, errno, "the folder %s", up->data);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        (void)close(fd);
        (void)err_set(err, ERR_REFUSED, "`leeward up` runs already in %s", up->data);
        return err_hint(err, "End it first, or choose another folder with --data and other ports with --port-base.");
    }
    if (env)
        (void)unlink(env); /* it comes back when the hub is ready */
    return fd;             /* held until the process ends */
}

static int set_up(const struct command_line *line, struct up *up, struct err *err)
{
    unsigned machines;

    up->simulate = command_option(line, "simulate");
    if (up->simulate && verb_simulate_count(up->simulate, &machines, err) < 0)
        return -1;
    if (choose_data(line, up, err) < 0 || choose_ports(line, up, err) < 0 || take_folder(up, err) < 0)
        return -1;
    up->database = command_option(line, "database");
    up->hostnames = command_option(line, "hostnames");
    up->instance = command_option(line, "agent-instance");
    up->log_level = command_option(line, "log-level");
    (void)snprintf(up->admin_token, sizeof(up->admin_token), "%.4000s/hub/admin.token", up->data);
    (void)snprintf(up->ca, sizeof(up->ca), "%.4000s/hub/ca/ca.pem", up->data);
    up->firststart = (struct firststart){.url = up->url, .data = up->data, .cancel = &up->cancel};
    if (loop_new(on_stop_signal, up, &up->loop, err) < 0 ||
        worker_pool_new(up->loop, "up-hub", 1, 16, &up->pool, err) < 0)
        return -1;
    for (enum role role = HUB; role < ROLE_COUNT; role++)
        if ((role != AGENT || !command_option(line, "no-agent")) && (role != FLEET || up->simulate) &&
            make_member(up, role, err) < 0)
            return -1;
    return 0;
}

static void tear_down(struct up *up)
{
    atomic_store(&up->cancel, true);
    worker_pool_free(up->pool);
    for (enum role role = HUB; role < ROLE_COUNT; role++)
        supervise_free(up->members[role].child);
    loop_free(up->loop);
}

int verb_up(struct command_line *line, struct err *err)
{
    struct up *up = mem_new(struct up);
    int rc = -1;

    if (!up)
        return err_set(err, ERR_NOMEM, "no memory");
    log_set_daemon("leeward-up");
    if (set_up(line, up, err) == 0) {
        start_member(up, HUB);
        ask(up, WAIT_HUB, HUB);
        rc = loop_run(up->loop, err);
    }
    if (rc > 0) {
        err_copy(err, &up->failure);
        rc = -1;
    }
    tear_down(up);
    free(up);
    return rc;
}
