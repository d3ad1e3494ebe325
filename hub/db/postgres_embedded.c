/* SPDX-License-Identifier: Apache-2.0
 *
 * The private PostgreSQL. Happy path at first start: make DATA/postgres.new for the unprivileged user, initdb into it, rename
 * it to DATA/postgres, start the server as a child, wait until it answers, make the database. Later starts begin at the
 * server.
 *
 * Failure modes. initdb interrupted: postgres.new is thrown away. A server left behind by a killed hub: recognised by its
 * postmaster.pid, its executable and its working folder, told to stop, waited for. The server dies: started again after
 * a growing pause. The user cannot reach the folder: a clear error, because PostgreSQL's own is not.
 * Sources: PostgreSQL 15, initdb and "Server Start-up Failures"; unix(7) for the length of socket paths.
 */
#include "hub/db/postgres_embedded.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "transport/base/buf.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

#define VERSIONS "/usr/lib/postgresql" /* Debian keeps one folder per version */
#define SOCKET_NAME "/.s.PGSQL.5432"
#define START_USEC (60 * USEC_PER_SEC)
#define STOP_USEC (60 * USEC_PER_SEC)
#define POLL_USEC (50 * USEC_PER_MSEC)
#define RESTART_FIRST_USEC (200 * USEC_PER_MSEC)
#define RESTART_MAX_USEC (5 * USEC_PER_SEC)
#define SUPERUSER "leeward"
#define DATABASE "leeward"
#define NEVER_USEC (1ULL << 60) /* a timer that is armed later */

struct postgres_embedded {
    sd_event *loop;
    char *data; /* DATA/postgres, absolute */
    char *socket_dir;
    char *bin_dir;
    char *dsn;
    char *log_path;
    uid_t uid; /* 0: as we are */
    gid_t gid;
    struct loop_child *child;
    struct loop_timer *restart;
    uint64_t restart_usec;
    uint64_t started_mono_usec;
    bool stopping;
};

/* ---- where and who ---- */

/* The version that made the cluster: no other can open it. 0: there is no cluster yet. */
static long cluster_version(const struct postgres_embedded *pg)
{
    AUTO_FREE char *path = mem_printf("%s/PG_VERSION", pg->data);
    AUTO_BUF struct buf text = BUF_INIT(64);

    if (!path || file_read(path, &text, NULL) < 0 || !buf_str(&text, NULL))
        return 0;
    return strtol((const char *)text.data, NULL, 10);
}

static bool has_version(long version)
{
    AUTO_FREE char *initdb = mem_printf(VERSIONS "/%ld/bin/initdb", version);

    return initdb && access(initdb, X_OK) == 0;
}

/* The cluster's own version, or the newest of the distribution for a new one. */
static long choose_version(long cluster)
{
    DIR *d = cluster ? NULL : opendir(VERSIONS);
    long best = cluster && has_version(cluster) ? cluster : 0;

    for (struct dirent *e; d && (e = readdir(d));) {
        long version = strtol(e->d_name, NULL, 10);

        if (version > best && has_version(version))
            best = version;
    }
    if (d)
        (void)closedir(d);
    return best;
}

static int find_bin_dir(struct postgres_embedded *pg, struct err *err)
{
    long cluster = cluster_version(pg), version = choose_version(cluster);

    if (version == 0 && cluster) {
        err_set(err, ERR_NOT_FOUND, "PostgreSQL %ld, which made %s, is not installed", cluster, pg->data);
        return err_hint(err, "Install postgresql-%ld, or move the data with pg_upgrade.", cluster);
    }
    if (version == 0) {
        err_set(err, ERR_NOT_FOUND, "PostgreSQL is not installed under " VERSIONS);
        return err_hint(err, "Install it (Debian: apt install postgresql), or give a server with --database.");
    }
    pg->bin_dir = mem_printf(VERSIONS "/%ld/bin", version);
    return pg->bin_dir ? 0 : err_set(err, ERR_NOMEM, "no memory");
}

static int find_user(struct postgres_embedded *pg, struct err *err)
{
    const struct passwd *user;

    if (geteuid() != 0)
        return 0;
    user = getpwnam("postgres");
    if (!user)
        user = getpwnam("nobody");
    if (!user || user->pw_uid == 0) {
        err_set(err, ERR_NOT_FOUND, "neither user postgres nor nobody exists, and PostgreSQL refuses to run as root");
        return err_hint(err, "Create the user postgres, start the hub as another user, or give --database.");
    }
    pg->uid = user->pw_uid;
    pg->gid = user->pw_gid;
    return 0;
}

/* A folder of our own in which the socket's path fits. It is named by the data folder, so that a restarted hub finds its
 * left-over. */
static int find_socket_dir(struct postgres_embedded *pg, const char *data_dir, struct err *err)
{
    const char *base = geteuid() == 0 ? "/run" : "/tmp";

    pg->socket_dir = mem_printf("%s/pg", data_dir);
    if (pg->socket_dir && strlen(pg->socket_dir) + sizeof(SOCKET_NAME) > sizeof(((struct sockaddr_un *)0)->sun_path)) {
        free(pg->socket_dir);
        pg->socket_dir = mem_printf("%s/leeward-pg-%016" PRIx64, base, hash_64(data_dir, strlen(data_dir)));
    }
    return pg->socket_dir ? 0 : err_set(err, ERR_NOMEM, "no memory");
}

/* mkdir that may find the folder there; then it must be a folder of the user's (or ours, to hand over). */
static int own_dir(const struct postgres_embedded *pg, const char *path, struct err *err)
{
    struct stat st;

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "making %s", path);
    if (lstat(path, &st) < 0)
        return err_sys(err, errno, "looking at %s", path);
    if (!S_ISDIR(st.st_mode) || (st.st_uid != geteuid() && st.st_uid != pg->uid)) {
        err_set(err, ERR_DENIED, "%s is not a folder of this hub", path);
        return err_hint(err, "Remove it, or choose another --data folder.");
    }
    if (chmod(path, 0700) < 0 || (pg->uid && chown(path, pg->uid, pg->gid) < 0))
        return err_sys(err, errno, "handing %s to the database's user", path);
    return 0;
}

/* Every folder above must let the user pass: PostgreSQL opens its data by its absolute path. */
static int check_reachable(const struct postgres_embedded *pg, struct err *err)
{
    AUTO_FREE char *path = mem_strdup(pg->data);
    struct stat st;

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory");
    for (char *slash; pg->uid && (slash = strrchr(path, '/')) && slash != path;) {
        *slash = '\0';
        if (stat(path, &st) < 0)
            return err_sys(err, errno, "looking at %s", path);
        if (!(st.st_mode & S_IXOTH) && st.st_uid != pg->uid && !(st.st_gid == pg->gid && (st.st_mode & S_IXGRP))) {
            err_set(err, ERR_DENIED, "PostgreSQL's user cannot pass through %s", path);
            return err_hint(err, "chmod o+x %s, choose a --data folder elsewhere, or give --database.", path);
        }
    }
    return 0;
}

/* ---- running programs ---- */

struct wait_exit {
    bool over;
    int status;
};

static void note_exit(void *arg, int status)
{
    struct wait_exit *w = arg;

    w->over = true;
    w->status = status;
}

static int open_log(const struct postgres_embedded *pg, struct err *err)
{
    int fd = open(pg->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd < 0 ? err_sys(err, errno, "opening %s", pg->log_path) : fd;
}

/* Runs argv as the user to its end, its output going to the server's log. */
static int run_program(const struct postgres_embedded *pg, const char *const *argv, struct err *err)
{
    AUTO_CLOSE int log = open_log(pg, err);
    struct wait_exit w = {0};
    struct loop_child *child = NULL;
    struct loop_child_spec spec = {.argv = argv,
        .stdout_fd = log,
        .stderr_fd = log,
        .pass_fd = -1,
        .uid = pg->uid,
        .gid = pg->gid,
        .cwd = "/",
        .on_exit = note_exit,
        .arg = &w};

    if (log < 0 || loop_child_start(pg->loop, &spec, &child, err) < 0)
        return -1;
    while (!w.over) {
        if (sd_event_run(pg->loop, UINT64_MAX) < 0) {
            loop_child_kill(child, SIGKILL);
            break;
        }
    }
    loop_child_free(child);
    if (!w.over || !WIFEXITED(w.status) || WEXITSTATUS(w.status) != 0) {
        err_set(err, ERR_IO, "%s failed", argv[0]);
        return err_hint(err, "Its words are in %s.", pg->log_path);
    }
    return 0;
}

static int init_cluster(struct postgres_embedded *pg, struct err *err)
{
    AUTO_FREE char *fresh = mem_printf("%s.new", pg->data);
    AUTO_FREE char *initdb = mem_printf("%s/initdb", pg->bin_dir);

    if (!fresh || !initdb)
        return err_set(err, ERR_NOMEM, "no memory");
    const char *argv[] = {initdb, "-D", fresh, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C",
        "--data-checksums", "--no-instructions", NULL};

    if (file_remove_tree(fresh, err) < 0 || own_dir(pg, fresh, err) < 0 || run_program(pg, argv, err) < 0)
        return err_wrap(err, "making the private database");
    if (rename(fresh, pg->data) < 0)
        return err_sys(err, errno, "renaming %s", fresh);
    log_event(LOG_INFO, "postgres_initialised", LOG_S("folder", pg->data));
    return 0;
}

/* ---- a server that an earlier hub left behind ---- */

/* The process that postmaster.pid names, if it really is a postgres with this data folder; 0 otherwise. */
static pid_t left_over_pid(const struct postgres_embedded *pg)
{
    AUTO_FREE char *pid_path = mem_printf("%s/postmaster.pid", pg->data);
    AUTO_BUF struct buf text = BUF_INIT(4096);
    char link[64], target[PATH_MAX];
    long pid;
    ssize_t n;

    if (!pid_path || file_read(pid_path, &text, NULL) < 0 || !buf_str(&text, NULL))
        return 0;
    pid = strtol((const char *)text.data, NULL, 10);
    if (pid <= 1)
        return 0;
    snprintf(link, sizeof(link), "/proc/%ld/cwd", pid);
    n = readlink(link, target, sizeof(target) - 1);
    if (n <= 0)
        return 0;
    target[n] = '\0';
    return strcmp(target, pg->data) == 0 ? (pid_t)pid : 0;
}

static int stop_left_over(struct postgres_embedded *pg, struct err *err)
{
    pid_t pid = left_over_pid(pg);
    AUTO_CLOSE int fd = pid ? pidfd_open(pid, 0) : -1;
    struct pollfd p = {.fd = fd, .events = POLLIN};

    /* Looked at again behind the pidfd: the number cannot be given to another process any more. */
    if (fd < 0 || left_over_pid(pg) != pid)
        return 0;
    log_event(LOG_WARN, "postgres_left_over", LOG_I("pid", pid));
    if (pidfd_send_signal(fd, SIGINT, NULL, 0) < 0 && errno != ESRCH)
        return err_sys(err, errno, "stopping the PostgreSQL that was left behind (pid %d)", (int)pid);
    if (poll(&p, 1, (int)(STOP_USEC / USEC_PER_MSEC)) <= 0) {
        err_set(err, ERR_TIMEOUT, "the PostgreSQL that was left behind (pid %d) does not stop", (int)pid);
        return err_hint(err, "Stop it by hand and start the hub again.");
    }
    return 0;
}

/* ---- the server ---- */

static int start_server(struct postgres_embedded *pg, struct err *err);

static void restart_later(struct postgres_embedded *pg)
{
    loop_timer_set(pg->restart, pg->restart_usec);
    pg->restart_usec = pg->restart_usec * 2 > RESTART_MAX_USEC ? RESTART_MAX_USEC : pg->restart_usec * 2;
}

static void on_restart(void *arg)
{
    struct postgres_embedded *pg = arg;
    struct err err = ERR_INIT;

    if (pg->stopping || pg->child)
        return;
    if (start_server(pg, &err) < 0) {
        log_event(LOG_ERROR, "postgres_start_failed", LOG_E(&err));
        restart_later(pg);
    }
}

static void on_server_exit(void *arg, int status)
{
    struct postgres_embedded *pg = arg;

    loop_child_free(TAKE_PTR(pg->child));
    if (pg->stopping)
        return;
    if (clock_mono_usec() - pg->started_mono_usec > START_USEC)
        pg->restart_usec = RESTART_FIRST_USEC;
    log_event(LOG_ERROR, "postgres_died", LOG_I("wait_status", status), LOG_S("log", pg->log_path));
    restart_later(pg);
}

static int start_server(struct postgres_embedded *pg, struct err *err)
{
    AUTO_CLOSE int log = open_log(pg, err);
    AUTO_FREE char *postgres = mem_printf("%s/postgres", pg->bin_dir);
    AUTO_FREE char *sockets = mem_printf("unix_socket_directories=%s", pg->socket_dir);

    if (log < 0 || !postgres || !sockets)
        return log < 0 ? -1 : err_set(err, ERR_NOMEM, "no memory");
    const char *argv[] = {postgres, "-D", pg->data, "-p", "5432", "-c", "listen_addresses=", "-c", sockets, "-c",
        "unix_socket_permissions=0700", "-c", "fsync=on", "-c", "full_page_writes=on", "-c", "max_connections=100",
        "-c", "shared_buffers=64MB", "-c",
        "jit=off", /* may be forbidden (MemoryDenyWriteExecute), and gains nothing here */
        "-c", "log_min_messages=warning", "-c", "max_wal_size=256MB", NULL};
    struct loop_child_spec spec = {.argv = argv,
        .stdout_fd = log,
        .stderr_fd = log,
        .pass_fd = -1,
        .uid = pg->uid,
        .gid = pg->gid,
        .cwd = "/",
        .on_exit = on_server_exit,
        .arg = pg};

    if (stop_left_over(pg, err) < 0)
        return -1;
    pg->started_mono_usec = clock_mono_usec();
    return loop_child_start(pg->loop, &spec, &pg->child, err);
}

/* Turns the loop until the server answers. */
static int wait_ready(struct postgres_embedded *pg, struct err *err)
{
    uint64_t deadline = clock_mono_usec() + START_USEC;
    AUTO_FREE char *dsn = mem_printf("host=%s port=5432 user=%s dbname=postgres", pg->socket_dir, SUPERUSER);

    if (!dsn)
        return err_set(err, ERR_NOMEM, "no memory");
    while (PQping(dsn) != PQPING_OK) {
        if (clock_mono_usec() > deadline) {
            err_set(err, ERR_TIMEOUT, "the private PostgreSQL does not answer");
            return err_hint(err, "Its words are in %s.", pg->log_path);
        }
        if (sd_event_get_state(pg->loop) == SD_EVENT_FINISHED || sd_event_run(pg->loop, POLL_USEC) < 0)
            return err_set(err, ERR_CANCELLED, "stopped while PostgreSQL was starting");
    }
    return 0;
}

static int make_database(struct postgres_embedded *pg, struct err *err)
{
    AUTO_FREE char *dsn = mem_printf("host=%s port=5432 user=%s dbname=postgres", pg->socket_dir, SUPERUSER);
    PGconn *conn = PQconnectdb(dsn ? dsn : "");
    PGresult *r = PQexec(conn, "CREATE DATABASE " DATABASE);
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    int rc = 0;

    if (PQresultStatus(r) != PGRES_COMMAND_OK && !(state && strcmp(state, "42P04") == 0)) /* duplicate_database */
        rc = err_set(err, ERR_IO, "making the database: %.200s", PQerrorMessage(conn));
    PQclear(r);
    PQfinish(conn);
    return rc;
}

static int prepare(struct postgres_embedded *pg, const char *data_dir, struct err *err)
{
    AUTO_FREE char *absolute = realpath(data_dir, NULL);

    if (!absolute)
        return err_sys(err, errno, "looking at %s", data_dir);
    pg->data = mem_printf("%s/postgres", absolute);
    pg->log_path = mem_printf("%s/postgres.log", absolute);
    if (!pg->data || !pg->log_path)
        return err_set(err, ERR_NOMEM, "no memory");
    if (find_user(pg, err) < 0 || find_bin_dir(pg, err) < 0 || find_socket_dir(pg, absolute, err) < 0 ||
        check_reachable(pg, err) < 0)
        return -1;
    pg->dsn = mem_printf("host=%s port=5432 user=%s dbname=%s", pg->socket_dir, SUPERUSER, DATABASE);
    if (!pg->dsn)
        return err_set(err, ERR_NOMEM, "no memory");
    pg->restart_usec = RESTART_FIRST_USEC;
    return loop_timer_new(pg->loop, NEVER_USEC, 0, on_restart, pg, &pg->restart, err);
}

int postgres_embedded_start(sd_event *loop, const char *data_dir, struct postgres_embedded **ret_pg, struct err *err)
{
    struct postgres_embedded *pg = mem_new(struct postgres_embedded);
    struct stat st;

    if (!pg)
        return err_set(err, ERR_NOMEM, "no memory");
    pg->loop = loop;
    if (prepare(pg, data_dir, err) < 0 || (stat(pg->data, &st) < 0 && init_cluster(pg, err) < 0) ||
        own_dir(pg, pg->socket_dir, err) < 0 || start_server(pg, err) < 0 || wait_ready(pg, err) < 0 ||
        make_database(pg, err) < 0) {
        postgres_embedded_stop(pg);
        return err_wrap(err, "private PostgreSQL");
    }
    *ret_pg = pg;
    return 0;
}

const char *postgres_embedded_dsn(const struct postgres_embedded *pg)
{
    return pg->dsn;
}

pid_t postgres_embedded_pid(const struct postgres_embedded *pg)
{
    return pg->child ? loop_child_pid(pg->child) : 0;
}

/* SIGINT is PostgreSQL's fast shutdown: clients are cut off, data is safe. The loop may have ended already, so the child
 * is waited for by its pidfd. */
static void stop_server(struct postgres_embedded *pg)
{
    pid_t pid = pg->child ? loop_child_pid(pg->child) : 0;
    AUTO_CLOSE int fd = pid ? pidfd_open(pid, 0) : -1;
    struct pollfd p = {.fd = fd, .events = POLLIN};

    if (fd < 0)
        return;
    (void)pidfd_send_signal(fd, SIGINT, NULL, 0);
    if (poll(&p, 1, (int)(STOP_USEC / USEC_PER_MSEC)) == 0)
        (void)pidfd_send_signal(fd, SIGQUIT, NULL, 0);
    loop_child_free(TAKE_PTR(pg->child));
    (void)waitid(P_PIDFD, (id_t)fd, &(siginfo_t){0}, WEXITED);
}

void postgres_embedded_stop(struct postgres_embedded *pg)
{
    if (!pg)
        return;
    pg->stopping = true;
    stop_server(pg);
    loop_child_free(pg->child);
    loop_timer_free(pg->restart);
    free(pg->data);
    free(pg->socket_dir);
    free(pg->bin_dir);
    free(pg->dsn);
    free(pg->log_path);
    free(pg);
}
