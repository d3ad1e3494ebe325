/* SPDX-License-Identifier: Apache-2.0
 *
 * A note is an empty file: RUN/hook-FOLDER-PID-START, where START is when the leader began (proc(5), field 22), so that a process that got the number later
 * is not taken for it. A leader that has ended leaves its number to nobody while its group is there.
 */
#include "mobility/hooknote.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"

#define END_USEC (1 * USEC_PER_SEC)
#define PAUSE_NSEC 5000000
/* Of /proc/PID/stat, counted from 1. */
#define STATE_FIELD 3u
#define START_FIELD 22u

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* When it began, in ticks since the boot; 0: there is no such process, or nothing of it but its number. */
static uint64_t start_of(pid_t pid)
{
    char path[40], line[1024] = "", state, *field, *rest;
    const char *after;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    f = fopen(path, "re");
    if (!f)
        return 0;
    after = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
    (void)fclose(f);
    field = after ? strtok_r(line + (after + 1 - line), " ", &rest) : NULL;
    state = field ? field[0] : 'X';
    for (unsigned i = STATE_FIELD; field && i < START_FIELD; i++)
        field = strtok_r(NULL, " ", &rest);
    return field && state != 'Z' && state != 'X' ? strtoull(field, NULL, 10) : 0;
}

void hooknote_put(const char *run_dir, const char *hooks_dir, pid_t group, char ret_note[PATH_MAX])
{
    int fd;

    snprintf(ret_note, PATH_MAX, "%s/hook-%s-%d-%" PRIu64, run_dir, last_part(hooks_dir), (int)group, start_of(group));
    fd = open(ret_note, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        (void)close(fd);
    else
        log_event(LOG_WARN, "hook_not_noted", LOG_S("path", ret_note), LOG_I("errno", errno));
}

/* What was killed runs no instruction of its own any more, even while it waits in the kernel. Its leader is reaped, where it is a child of this process. */
static bool end_group(pid_t group, uint64_t start)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NSEC};
    uint64_t until = clock_mono_usec() + END_USEC, now = start_of(group);

    if (now != 0 && now != start)
        return true; /* another process has the number by now */
    (void)kill(-group, SIGKILL);
    for (; start != 0 && start_of(group) == start; (void)nanosleep(&pause, NULL))
        if (clock_mono_usec() > until)
            return false;
    (void)waitpid(group, NULL, WNOHANG);
    return true;
}

static int end_noted(const char *run_dir, const char *name, const char *numbers, struct err *err)
{
    char path[PATH_MAX];
    uint64_t start;
    int group;

    if (sscanf(numbers, "%d-%" SCNu64, &group, &start) != 2 || group <= 1)
        return 0;
    if (!end_group(group, start)) {
        err_set(err, ERR_UNAVAILABLE,
            "the hook of an earlier time (process %d) waits in the kernel and cannot be ended", group);
        return err_hint(err,
            "see what it waits for: cat /proc/%d/stack; a disk or a file system that does not answer, or one that is "
            "frozen",
            group);
    }
    snprintf(path, sizeof(path), "%s/%s", run_dir, name);
    (void)unlink(path);
    return 0;
}

int hooknote_end_all(const char *run_dir, const char *hooks_dir, struct err *err)
{
    char prefix[300];
    int r = 0, n = snprintf(prefix, sizeof(prefix), "hook-%s-", last_part(hooks_dir));
    DIR *d = opendir(run_dir);

    if (!d)
        return 0;
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, prefix, (size_t)n) == 0 && end_noted(run_dir, e->d_name, e->d_name + n, err) < 0)
            r = -1;
    (void)closedir(d);
    return r;
}
