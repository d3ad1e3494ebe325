/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward-agent. The freeze helper is forked first, while there is one small thread; then identity, session, engine, loop.
 *
 * The agent leaves its own oom_score_adj alone: on a source short of memory it should rather go than the source's services,
 * and its death loses nothing (tracking goes on in the kernel, what was drained lies under /run, the helper thaws).
 */
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <errno.h>
#include <fcntl.h>

#include "mobility/agent.h"
#include "mobility/measure.h"
#include "transport/base/clock.h"
#include "transport/base/conf.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

/* There in a replica that was prepared for its role (hub/fixup): it has the source's identity, and must not speak as the source. */
#define REPLICA_MARKER "/etc/leeward/replica"
#define LOCK_USEC (5 * USEC_PER_SEC)
#define SUMMARY "tracks the changes of this machine's disks and streams them to a process node"

struct config {
    char *data, *hub, *token, *name, *log_level, *instance, *run_dir, *pin_root, *hooks_dir, *failover_dir,
        *group_listen, *group_advertise;
    char *measure; /* a device; NULL or "": this is no measurement */
    uint64_t measure_usec;
    bool log_json, freeze_root, uninstall, rescue;
    uint64_t hook_usec;
};

#define AT(member) CONF_OFFSET(struct config, member)
static const struct conf_row rows[] = {
    {.key = "data",
        .type = CONF_STRING,
        .offset = AT(data),
        .fallback = "/var/lib/leeward/agent",
        .help = "folder of the agent's identity and state"},
    {.key = "hub", .type = CONF_STRING, .offset = AT(hub), .help = "HOST:PORT of the hub's control plane (port 9442)"},
    {.key = "token",
        .type = CONF_STRING,
        .offset = AT(token),
        .secret = true,
        .help = "one-time enrolment token (lwe_...), for the first start only"},
    {.key = "name",
        .type = CONF_STRING,
        .offset = AT(name),
        .help = "name of this machine for people (default: host name)"},
    {.key = "instance",
        .type = CONF_STRING,
        .offset = AT(instance),
        .fallback = "default",
        .max = 32,
        .help = "several agents on one machine have different names here ([a-z0-9-])"},
    {.key = "run-dir",
        .type = CONF_STRING,
        .offset = AT(run_dir),
        .fallback = "/run/leeward",
        .help = "folder in memory (tmpfs) for what was drained and is not yet committed"},
    {.key = "pin-root",
        .type = CONF_STRING,
        .offset = AT(pin_root),
        .help = "folder on bpffs for the tracker (default: /sys/fs/bpf/leeward)"},
    {.key = "hooks-dir",
        .type = CONF_STRING,
        .offset = AT(hooks_dir),
        .fallback = "/etc/leeward/hooks.d",
        .help = "folder of the application hooks, run with freeze and thaw"},
    {.key = "failover-dir",
        .type = CONF_STRING,
        .offset = AT(failover_dir),
        .fallback = "/etc/leeward/failover.d",
        .help = "folder of the scripts for a planned failover, run with stop and start"},
    {.key = "hook-timeout",
        .type = CONF_USEC,
        .offset = AT(hook_usec),
        .fallback = "10s",
        .min = 100000,
        .help = "time limit of one hook"},
    {.key = "group-listen",
        .type = CONF_STRING,
        .offset = AT(group_listen),
        .fallback = "0.0.0.0:20004",
        .help = "address on which the other machines of a consistency group are answered; open only while in a group"},
    {.key = "group-advertise",
        .type = CONF_STRING,
        .offset = AT(group_advertise),
        .help = "HOST:PORT under which they reach this machine (default: host name and the port of group-listen)"},
    {.key = "freeze-root",
        .type = CONF_BOOL,
        .offset = AT(freeze_root),
        .fallback = "true",
        .help = "allow freezing the root file system, where the root disk is protected"},
    {.key = "log-level",
        .type = CONF_STRING,
        .offset = AT(log_level),
        .fallback = "info",
        .help = "debug, info, warn or error"},
    {.key = "log-json", .type = CONF_BOOL, .offset = AT(log_json), .help = "log JSON objects"},
    {.key = "rescue",
        .type = CONF_BOOL,
        .offset = AT(rescue),
        .help = "this is a rescue system: its disks are there to be written with the points of another machine"},
    {.key = "uninstall",
        .type = CONF_BOOL,
        .offset = AT(uninstall),
        .help = "remove tracking, state and identity of this instance, and exit"},
    {.key = "measure",
        .type = CONF_STRING,
        .offset = AT(measure),
        .help = "watch what changes on this device without protecting it, print it as JSON, and exit"},
    {.key = "measure-time",
        .type = CONF_USEC,
        .offset = AT(measure_usec),
        .fallback = "10m",
        .min = 1000000,
        .help = "how long to measure"},
};

static bool is_measuring(const struct config *c)
{
    return c->measure && c->measure[0];
}

static int check(const struct config *c, struct err *err)
{
    int level = log_level_from_name(c->log_level);

    if (level < 0)
        return err_set(err, ERR_INVALID, "log-level is debug, info, warn or error, not \"%s\"", c->log_level);
    if (strspn(c->instance, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(c->instance) || !c->instance[0])
        return err_set(err, ERR_INVALID, "instance \"%s\" has other characters than a-z, 0-9 and -", c->instance);
    if (!c->uninstall && !is_measuring(c) && (!c->hub || !c->hub[0])) {
        err_set(err, ERR_INVALID, "the address of the hub is missing");
        return err_hint(err, "give --hub HOST:9442");
    }
    log_set_level((enum log_level)level);
    log_set_json(c->log_json);
    if (!c->uninstall && !is_measuring(c) && access(REPLICA_MARKER, F_OK) == 0) {
        err_set(
            err, ERR_REFUSED, "this system is a replica (" REPLICA_MARKER "): its source is the one that replicates");
        return err_hint(
            err, "once it is a machine of its own: remove that file and the agent's state, then enrol it anew");
    }
    return 0;
}

/* A killed agent's lock lives until its freeze helper has thawed and gone: an agent that follows at once waits for that. */
static bool lock_within(int fd, uint64_t limit_usec)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    uint64_t end = clock_mono_usec() + limit_usec;

    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK || clock_mono_usec() >= end)
            return false;
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

/* One agent per instance: held until the process ends. */
static int lock_instance(const char *run_dir, int *ret_fd, struct err *err)
{
    char path[512];
    int fd;

    if (file_make_dirs(run_dir, 0700, err) < 0)
        return -1;
    snprintf(path, sizeof(path), "%s/lock", run_dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, errno, "opening %s", path);
    if (!lock_within(fd, LOCK_USEC)) {
        close(fd);
        err_set(err, ERR_CONFLICT, "another agent of this instance is running (%s)", path);
        return err_hint(err, "stop it, or give this one another --instance");
    }
    *ret_fd = fd;
    return 0;
}

static int serve(const struct config *c, struct agent_conf *conf, struct err *err)
{
    struct enrol_conf ec = {.data_dir = c->data,
        .hub = c->hub,
        .token = c->token,
        .role = "agent",
        .name = c->name && c->name[0] ? c->name : NULL};
    struct enrol_identity identity = {0};
    struct agent *agent = NULL;
    sd_event *loop = NULL;
    int r = -1;

    if (loop_new(NULL, NULL, &loop, err) == 0 && enrol_ensure(&ec, &identity, err) == 0) {
        conf->identity = &identity;
        r = agent_new(loop, conf, &agent, err);
    }
    if (r == 0) {
        log_event(LOG_INFO, "ready", LOG_S("machine", identity.id_text), LOG_S("hub", c->hub),
            LOG_S("instance", c->instance));
        loop_notify_ready();
        r = loop_run(loop, err);
        loop_notify_stopping();
    }
    agent_free(agent);
    enrol_identity_done(&identity);
    loop_free(loop);
    return r;
}

/* An address that was bound to says itself how it is reached, unless it is all of them. */
static void group_endpoint(const struct config *c, char *out, size_t size)
{
    const char *port = strrchr(c->group_listen, ':');
    char host[256] = "localhost";

    if (c->group_advertise && c->group_advertise[0]) {
        snprintf(out, size, "%s", c->group_advertise);
    } else if (strncmp(c->group_listen, "[::]", 4) != 0 && strncmp(c->group_listen, "0.0.0.0", 7) != 0) {
        snprintf(out, size, "%s", c->group_listen);
    } else {
        (void)gethostname(host, sizeof(host) - 1);
        snprintf(out, size, "%s%s", host, port ? port : ":20004");
    }
}

static int run(const struct config *c, struct err *err)
{
    char run_dir[400], frozen_path[512], endpoint[512];
    struct freeze_config fc = {.state_path = frozen_path, .allow_root = c->freeze_root};
    struct agent_conf conf = {.data_dir = c->data,
        .run_dir = run_dir,
        .instance = c->instance,
        .pin_root = c->pin_root && c->pin_root[0] ? c->pin_root : NULL,
        .hooks_dir = c->hooks_dir,
        .hook_usec = c->hook_usec,
        .failover_dir = c->failover_dir,
        .group_listen = c->group_listen,
        .group_endpoint = endpoint,
        .hub = c->hub,
        .rescue = c->rescue};
    struct err no_freeze = ERR_INIT;
    int lock AUTO_CLOSE = -1;
    int r;

    group_endpoint(c, endpoint, sizeof(endpoint));
    snprintf(run_dir, sizeof(run_dir), "%s/%s", c->run_dir, c->instance);
    snprintf(frozen_path, sizeof(frozen_path), "%s/frozen", run_dir);
    if (lock_instance(run_dir, &lock, err) < 0)
        return -1;
    if (c->uninstall)
        return agent_uninstall(&conf, err);
    if (file_make_dirs(c->data, 0700, err) < 0)
        return -1;
    if (freeze_open(&fc, &conf.freeze, &no_freeze) < 0)
        log_event(LOG_WARN, "no_freeze", LOG_E(&no_freeze), LOG_S("remedy", no_freeze.correction));
    r = serve(c, &conf, err);
    freeze_close(conf.freeze);
    return r;
}

static int measure(const struct config *c, struct err *err)
{
    const struct measure_conf conf = {
        .device = c->measure, .pin_root = c->pin_root && c->pin_root[0] ? c->pin_root : NULL, .usec = c->measure_usec};

    return measure_run(&conf, stdout, err);
}

/* Batches of a megabyte come and go all the time. They are recycled on the heap: a mapping for each would cost 256 page faults,
 * and what is free at the top of the heap goes back to the system beyond a few batches. Two threads need two heaps. */
static void keep_memory_small(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 4 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 6 << 20);
    (void)mallopt(M_ARENA_MAX, 2);
}

/* Whoever starts the agent by hand, or in a container without rights, is told what it needs. */
static void explain_denial(struct err *err)
{
    if (err->code == ERR_DENIED && !err->correction[0] && geteuid() != 0)
        (void)err_hint(err, "run the agent as root: it reads whole disks and tracks their changes in the kernel");
}

int main(int argc, char **argv)
{
    struct config c = {0};
    struct err err = ERR_INIT;
    int r;

    keep_memory_small();
    log_set_daemon("leeward-agent");
    r = conf_load(rows, ARRAY_LEN(rows), "leeward-agent", SUMMARY, argc, argv, &c, &err);
    if (r == 1) {
        conf_done(rows, ARRAY_LEN(rows), &c);
        return 0;
    }
    if (r < 0 || check(&c, &err) < 0) {
        explain_denial(&err);
        fprintf(stderr, "leeward-agent: %s%s%s\n", err.text, err.correction[0] ? "; " : "", err.correction);
        conf_done(rows, ARRAY_LEN(rows), &c);
        return 2;
    }
    r = is_measuring(&c) ? measure(&c, &err) : run(&c, &err); /* AGENT_RESTART: init does it */
    explain_denial(&err);
    if (r < 0)
        log_event(LOG_ERROR, "failed", LOG_E(&err), LOG_S("remedy", err.correction));
    conf_done(rows, ARRAY_LEN(rows), &c);
    return r < 0 ? 1 : r;
}
