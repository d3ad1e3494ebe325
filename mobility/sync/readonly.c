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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "mobility/hookrun.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define JOURNALCTL "/usr/bin/journalctl"
#define JOURNAL "/var/log/journal"
#define JOURNAL_USEC (60 * USEC_PER_SEC)
#define BUSY_USEC (5 * USEC_PER_SEC) /* somebody may be writing a file just now, the agent itself for example */
#define USER_SIZE 200                /* what is said of who has it */

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

/* What is mapped for writing, whether it is still open or not, and programs and libraries that were replaced while they ran. */
static void look_at_memory(struct user *u, const char *pid)
{
    char path[64], may[8], *line = NULL, *file;
    unsigned ma, mi;
    size_t room = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%.20s/maps", pid);
    f = fopen(path, "re");
    while (f && getline(&line, &room, f) > 0)
        if (sscanf(line, "%*s %7s %*s %x:%x", may, &ma, &mi) == 3 && makedev(ma, mi) == u->fs &&
            (file = strchr(line, '/')) != NULL) {
            bool writes = may[1] == 'w' && may[3] == 's';

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

static int busy(const char *mount_point, struct err *err)
{
    struct user u = {.said = ""};

    find_user(mount_point, &u);
    err_set(err, ERR_REFUSED, "the file system on %.60s is in use: %s", mount_point,
        u.said[0] ? u.said : "a file of it is open for writing, or was deleted and is still used");
    return err_hint(err, "%s",
        u.said[0] && !u.writes
            ? "Restart what uses it, as after an upgrade, or stop it in a script of /etc/leeward/failover.d."
            : "Stop what writes to it in a script of /etc/leeward/failover.d.");
}

/* ---- one file system ---- */

/* 0, or why not. */
static int set_flag(const char *mount_point, const char *flag)
{
    int fs AUTO_CLOSE = fspick(AT_FDCWD, mount_point, FSPICK_CLOEXEC);

    return fs >= 0 && fsconfig(fs, FSCONFIG_SET_FLAG, flag, NULL, 0) == 0 &&
                   fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) == 0
               ? 0
               : errno;
}

static int reconfigure(const char *mount_point, const char *flag, struct err *err)
{
    const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
    uint64_t until = clock_mono_usec() + BUSY_USEC;
    int code;

    while ((code = set_flag(mount_point, flag)) == EBUSY && clock_mono_usec() < until)
        (void)nanosleep(&pause, NULL);
    if (code == 0)
        return 0;
    if (code == EBUSY)
        return busy(mount_point, err);
    err_sys(
        err, code, "making the file system on %s %s", mount_point, strcmp(flag, "ro") == 0 ? "read-only" : "writable");
    if (code == ENOSYS)
        return err_hint(err, "Linux 5.2 is needed for it.");
    return code == EPERM || code == EACCES
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

static void clear_from(const struct freeze_mounts *mounts, size_t first, const char *run_dir)
{
    struct err err = ERR_INIT;

    for (size_t i = first; i < mounts->count; i++)
        if (reconfigure(mounts->paths[i], "rw", &err) < 0)
            log_event(LOG_ERROR, "still_read_only", LOG_S("mount", mounts->paths[i]), LOG_E(&err));
    tell_journal(mounts, "--flush", run_dir);
}

int readonly_set(const struct freeze_mounts *mounts, const char *run_dir, struct err *err)
{
    if (mounts->count == 0)
        return 0;
    tell_journal(mounts, "--relinquish-var", run_dir);
    for (size_t i = mounts->count; i > 0; i--)
        if (reconfigure(mounts->paths[i - 1], "ro", err) < 0) {
            clear_from(mounts, i, run_dir);
            return -1;
        }
    return 0;
}

void readonly_clear(const struct freeze_mounts *mounts, const char *run_dir)
{
    if (mounts->count > 0)
        clear_from(mounts, 0, run_dir);
}
