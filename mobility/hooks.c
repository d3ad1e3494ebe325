/* SPDX-License-Identifier: Apache-2.0
 *
 * Each hook is a child in a process group of its own (so that what it starts can be killed with it), with /dev/null as input;
 * its output goes to the log of the agent. Waiting is by pidfd and poll: no signal handler, callable from any thread.
 */
#include "mobility/hooks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

struct hooks {
    uint64_t limit_usec;
    unsigned count;
    unsigned frozen; /* the first so many were asked to freeze */
    char paths[HOOKS_MAX][512];
};

extern char **environ;

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* A hook runs as root: only root may have written it. */
static bool is_hook(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IXUSR) && st.st_uid == geteuid() &&
           (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

int hooks_load(const char *dir, uint64_t limit_usec, struct hooks **ret_hooks, struct err *err)
{
    struct hooks *h = mem_new(struct hooks);
    DIR *d;

    if (!h)
        return err_set(err, ERR_NOMEM, "no memory for hooks");
    h->limit_usec = limit_usec;
    d = opendir(dir);
    for (struct dirent *e; d && h->count < HOOKS_MAX && (e = readdir(d));) {
        if (e->d_name[0] == '.' ||
            (size_t)snprintf(h->paths[h->count], sizeof(h->paths[0]), "%s/%s", dir, e->d_name) >= sizeof(h->paths[0]))
            continue;
        if (is_hook(h->paths[h->count]))
            h->count++;
    }
    if (d)
        closedir(d);
    qsort(h->paths, h->count, sizeof(h->paths[0]), by_name);
    *ret_hooks = h;
    return 0;
}

void hooks_free(struct hooks *h)
{
    free(h);
}

unsigned hooks_count(const struct hooks *h)
{
    return h->count;
}

static int spawn(const char *path, const char *verb, pid_t *ret_pid, struct err *err)
{
    char *const argv[] = {(char *)path, (char *)verb, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int r;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, 2, 1);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    r = posix_spawn(ret_pid, path, &actions, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return r == 0 ? 0 : err_sys(err, r, "starting the hook %s", path);
}

/* 0: it ended by itself. -1: it had to be killed. */
static int wait_for(pid_t pid, uint64_t limit_usec, int *ret_status)
{
    int fd AUTO_CLOSE = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t end = clock_mono_usec() + limit_usec;
    int ready = 0;

    while (fd >= 0 && ready == 0) {
        uint64_t now = clock_mono_usec();

        if (now >= end)
            break;
        ready = poll(&p, 1, (int)((end - now) / USEC_PER_MSEC) + 1);
        if (ready < 0 && errno == EINTR)
            ready = 0;
    }
    if (ready <= 0)
        kill(-pid, SIGKILL);
    while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
        ;
    return ready > 0 ? 0 : -1;
}

static int run(const struct hooks *h, unsigned index, const char *verb, struct err *err)
{
    const char *path = h->paths[index];
    int status = 0;
    pid_t pid;

    if (spawn(path, verb, &pid, err) < 0)
        return -1;
    if (wait_for(pid, h->limit_usec, &status) < 0) {
        err_set(err, ERR_TIMEOUT, "the hook %s %s took more than %llu ms and was killed", path, verb,
            (unsigned long long)(h->limit_usec / USEC_PER_MSEC));
        return err_hint(err, "make it faster or raise hook-timeout");
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    err_set(err, ERR_IO, "the hook %s %s failed with %s %d", path, verb, WIFEXITED(status) ? "status" : "signal",
        WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    return err_hint(err, "its output is in the log of the agent");
}

int hooks_freeze(struct hooks *h, struct err *err)
{
    while (h->frozen < h->count) {
        if (run(h, h->frozen++, "freeze", err) < 0) {
            (void)hooks_thaw(h, NULL);
            return -1;
        }
    }
    return 0;
}

int hooks_thaw(struct hooks *h, struct err *err)
{
    int r = 0;

    while (h->frozen > 0) {
        struct err one = ERR_INIT;

        if (run(h, --h->frozen, "thaw", &one) == 0)
            continue;
        log_event(LOG_ERROR, "hook_thaw_failed", LOG_E(&one));
        if (r == 0) {
            err_copy(err, &one);
            r = -1;
        }
    }
    return r;
}
