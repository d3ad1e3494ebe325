/* SPDX-License-Identifier: Apache-2.0
 *
 * journald lets go of its files on disk (journalctl --relinquish-var) and writes to memory meanwhile; everybody else is the scripts' to stop.
 * Sources: fsconfig(2), proc(5), journalctl(1).
 */
#include "mobility/sync/readonly.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "mobility/hookrun.h"
#include "mobility/question.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define JOURNALCTL "/usr/bin/journalctl"
#define JOURNAL "/var/log/journal"
#define JOURNAL_USEC (60 * USEC_PER_SEC)
#define USER_USEC (5 * USEC_PER_SEC)
#define USER_SIZE 200 /* what is said of who has it */

/* ---- who has it ---- */

struct user {
    dev_t fs;
    char said[USER_SIZE]; /* "": nobody was found */
    bool writes;
};

static void note_user(struct user *u, const char *pid, const char *file, bool writes)
{
    char path[64], name[32] = "";
    FILE *f;

    if (u->said[0] && (u->writes || !writes))
        return;
    snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
    f = fopen(path, "re");
    if (f && fgets(name, sizeof(name), f))
        name[strcspn(name, "\n")] = '\0';
    if (f)
        (void)fclose(f);
    u->writes = writes;
    snprintf(u->said, sizeof(u->said), "%s (process %.20s) %s %.100s", name, pid,
        writes ? "has open for writing" : "uses the deleted file", file);
}

static bool is_open_for_writing(const char *pid, const char *fd)
{
    char path[96], line[64];
    unsigned flags = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%.20s/fdinfo/%.20s", pid, fd);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "flags: %o", &flags) == 1)
            break;
    if (f)
        (void)fclose(f);
    return (flags & O_ACCMODE) != O_RDONLY;
}

static void look_at_files(struct user *u, const char *pid)
{
    char dir[64], path[96], file[256];
    struct dirent *entry;
    struct stat st;
    DIR *d;

    snprintf(dir, sizeof(dir), "/proc/%.20s/fd", pid);
    d = opendir(dir);
    while (d && (entry = readdir(d)) != NULL) {
        ssize_t n;

        snprintf(path, sizeof(path), "%s/%.20s", dir, entry->d_name);
        if (!isdigit((unsigned char)entry->d_name[0]) || stat(path, &st) < 0 || st.st_dev != u->fs ||
            S_ISDIR(st.st_mode) || (n = readlink(path, file, sizeof(file) - 1)) < 0)
            continue;
        file[n] = '\0';
        if (is_open_for_writing(pid, entry->d_name))
            note_user(u, pid, file, true);
        else if (st.st_nlink == 0)
            note_user(u, pid, file, false);
    }
    if (d)
        (void)closedir(d);
}

/* Programs and libraries that were replaced while they ran, and files that are mapped to be written. */
static void look_at_memory(struct user *u, const char *pid)
{
    char path[64], perms[5], *line = NULL, *file;
    unsigned ma, mi;
    size_t room = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%.20s/maps", pid);
    f = fopen(path, "re");
    while (f && getline(&line, &room, f) > 0)
        if (sscanf(line, "%*s %4s %*s %x:%x", perms, &ma, &mi) == 3 && makedev(ma, mi) == u->fs &&
            (file = strchr(line, '/')) != NULL) {
            bool writes = perms[1] == 'w' && perms[3] == 's';

            file[strcspn(file, "\n")] = '\0';
            if (writes || strstr(file, " (deleted)"))
                note_user(u, pid, file, writes);
        }
    free(line);
    if (f)
        (void)fclose(f);
}

static void find_user(const char *mount_point, struct user *u)
{
    DIR *d = opendir("/proc");
    struct dirent *entry;
    struct stat st;

    if (d && stat(mount_point, &st) == 0) {
        u->fs = st.st_dev;
        while (!u->writes && (entry = readdir(d)) != NULL)
            if (isdigit((unsigned char)entry->d_name[0])) {
                look_at_files(u, entry->d_name);
                look_at_memory(u, entry->d_name);
            }
    }
    if (d)
        (void)closedir(d);
}

struct user_question {
    struct question q; /* first */
    char mount_point[PATH_MAX];
    struct user u;
};

static void look_for_user(struct question *q)
{
    struct user_question *a = (struct user_question *)q;

    find_user(a->mount_point, &a->u);
}

/* Somebody may have a file open of a server that is gone: to look at that one takes for ever. */
static void ask_for_user(const char *mount_point, struct user *u)
{
    struct user_question *a = mem_new(struct user_question);

    if (!a)
        return;
    a->q.ask = look_for_user;
    snprintf(a->mount_point, sizeof(a->mount_point), "%s", mount_point);
    if (!question_put(&a->q, "/proc", USER_USEC))
        return;
    *u = a->u;
    free(a);
}

static int busy(const char *mount_point, struct err *err)
{
    struct user u = {.said = ""};

    ask_for_user(mount_point, &u);
    err_set(err, ERR_REFUSED, "the file system on %.60s is in use: %s", mount_point,
        u.said[0] ? u.said : "a file of it is open for writing, or was deleted and is still used");
    return err_hint(err, "%s",
        u.said[0] && !u.writes
            ? "Restart what uses it, as after an upgrade, or stop it in a script of /etc/leeward/failover.d."
            : "Stop what writes to it in a script of /etc/leeward/failover.d.");
}

/* ---- one file system ---- */

/* 0, or errno. Not by glibc's functions: 2.36 has them, older ones do not, and the agent is to run beside those. */
static int reconfigure_once(const char *mount_point, const char *flag)
{
    int fs AUTO_CLOSE = (int)syscall(SYS_fspick, AT_FDCWD, mount_point, FSPICK_CLOEXEC);

    return fs >= 0 && syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, flag, NULL, 0) == 0 &&
                   syscall(SYS_fsconfig, fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) == 0
               ? 0
               : errno;
}

/* Most of those who write do so for a moment: a service that is just ending, a daemon that notes the time. */
static int reconfigure(const char *mount_point, const char *flag, uint64_t patience_usec, struct err *err)
{
    const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
    uint64_t end = clock_mono_usec() + patience_usec;
    int errnum;

    while ((errnum = reconfigure_once(mount_point, flag)) == EBUSY && clock_mono_usec() < end)
        (void)nanosleep(&pause, NULL);
    if (errnum == 0)
        return 0;
    if (errnum == EBUSY)
        return busy(mount_point, err);
    err_sys(err, errnum, "making the file system on %s %s", mount_point,
        strcmp(flag, "ro") == 0 ? "read-only" : "writable");
    if (errnum == ENOSYS)
        return err_hint(err, "Linux 5.2 is needed for it.");
    return errnum == EPERM || errnum == EACCES
               ? err_hint(err, "The agent's unit must allow fspick and fsconfig: SystemCallFilter=fspick fsconfig.")
               : -1;
}

/* The root's may lie on any of its subvolumes. */
static bool has_journal(const struct freeze_mounts *mounts)
{
    struct stat journal, fs;
    bool there = stat(JOURNAL, &journal) == 0;

    for (size_t i = 0; i < mounts->count; i++)
        if (strcmp(mounts->paths[i], "/") == 0 ||
            (there && stat(mounts->paths[i], &fs) == 0 && fs.st_dev == journal.st_dev))
            return access(JOURNALCTL, X_OK) == 0;
    return false;
}

static void tell_journal(const struct freeze_mounts *mounts, const char *verb, const char *run_dir)
{
    const struct hookrun run = {.path = JOURNALCTL, .verb = verb, .limit_usec = JOURNAL_USEC, .run_dir = run_dir};
    struct err err = ERR_INIT;

    if (has_journal(mounts) && hookrun(&run, &err) < 0)
        log_event(LOG_WARN, "journal_not_told", LOG_S("verb", verb), LOG_E(&err));
}

/* ---- all of them ---- */

/* Goes on after one that fails; the first failure counts. */
static int clear_from(const struct freeze_mounts *mounts, size_t first, const char *run_dir, struct err *err)
{
    int r = 0;

    for (size_t i = first; i < mounts->count; i++) {
        struct err why = ERR_INIT;

        if (reconfigure(mounts->paths[i], "rw", 0, &why) == 0)
            continue;
        log_event(LOG_ERROR, "still_read_only", LOG_S("mount", mounts->paths[i]), LOG_E(&why));
        if (r == 0 && err)
            err_copy(err, &why);
        r = -1;
    }
    tell_journal(mounts, "--flush", run_dir);
    return r;
}

int readonly_set(const struct freeze_mounts *mounts, uint64_t patience_usec, const char *run_dir, struct err *err)
{
    if (mounts->count == 0)
        return 0;
    tell_journal(mounts, "--relinquish-var", run_dir);
    for (size_t i = mounts->count; i > 0; i--)
        if (reconfigure(mounts->paths[i - 1], "ro", patience_usec, err) < 0) {
            (void)clear_from(mounts, i, run_dir, NULL);
            return -1;
        }
    return 0;
}

int readonly_clear(const struct freeze_mounts *mounts, const char *run_dir, struct err *err)
{
    return mounts->count > 0 ? clear_from(mounts, 0, run_dir, err) : 0;
}
