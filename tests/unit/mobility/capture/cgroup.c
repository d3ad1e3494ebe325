/* SPDX-License-Identifier: Apache-2.0
 *
 * What is taken is locked, so that it cannot be swapped out instead (Documentation/admin-guide/cgroup-v2.rst, "Memory";
 * cgroup-v1/memory.rst).
 */
#include "tests/unit/mobility/capture/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROOM_BYTES (4ull << 20)
#define PIECE_BYTES (1u << 20)

static void path_of(const struct cgroup *g, const char *file, char path[192])
{
    (void)snprintf(path, 192, "%s/%s", g->path, file);
}

static int put(const struct cgroup *g, const char *file, const char *text)
{
    char path[192];
    int fd, r;

    path_of(g, file, path);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    r = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
    if (fd >= 0)
        (void)close(fd);
    return r;
}

/* The number behind a word at the beginning of a line; without a word the first one. */
static unsigned long long number_in(const struct cgroup *g, const char *file, const char *word)
{
    unsigned long long number = 0;
    char path[192], line[128];
    FILE *f;

    path_of(g, file, path);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, word, strlen(word)) == 0) {
            number = strtoull(line + strlen(word), NULL, 10);
            break;
        }
    if (f)
        (void)fclose(f);
    return number;
}

static bool make_below(struct cgroup *g, const char *root, const char *limit)
{
    char path[192];

    (void)snprintf(g->path, sizeof(g->path), "%s/leeward-test-%d", root, getpid());
    if (mkdir(g->path, 0700) < 0 && errno != EEXIST)
        return false;
    path_of(g, limit, path);
    if (access(path, W_OK) == 0)
        return true;
    (void)rmdir(g->path);
    return false;
}

bool cgroup_init(struct cgroup *g)
{
    g->unified = true;
    if (make_below(g, "/sys/fs/cgroup", "memory.max"))
        return true;
    g->unified = false;
    return make_below(g, "/sys/fs/cgroup/memory", "memory.limit_in_bytes");
}

void cgroup_done(struct cgroup *g)
{
    const struct timespec pause = {.tv_nsec = 10000000};

    for (int i = 0; i < 3000 && rmdir(g->path) < 0 && errno == EBUSY; i++)
        (void)nanosleep(&pause, NULL);
}

void cgroup_join(const struct cgroup *g)
{
    if (put(g, g->unified ? "memory.max" : "memory.limit_in_bytes", g->unified ? "max" : "-1") < 0 ||
        put(g, "cgroup.procs", "0") < 0)
        _exit(2);
}

_Noreturn void cgroup_exhaust(const struct cgroup *g)
{
    char limit[32];

    (void)snprintf(limit, sizeof(limit), "%llu",
        number_in(g, g->unified ? "memory.current" : "memory.usage_in_bytes", "") + ROOM_BYTES);
    if (put(g, g->unified ? "memory.max" : "memory.limit_in_bytes", limit) < 0)
        _exit(3);
    for (unsigned i = 0; i < 256 * ROOM_BYTES / PIECE_BYTES; i++) {
        void *piece = mmap(NULL, PIECE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece == MAP_FAILED)
            _exit(4);
        if (mlock(piece, PIECE_BYTES) < 0) { /* there is swap, and this may use it: it takes longer */
        }
        memset(piece, 1, PIECE_BYTES);
    }
    _exit(5);
}

unsigned cgroup_kills(const struct cgroup *g)
{
    return (unsigned)number_in(g, g->unified ? "memory.events" : "memory.oom_control", "oom_kill ");
}
