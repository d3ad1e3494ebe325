/* SPDX-License-Identifier: Apache-2.0
 *
 * The parent's side of the freeze helper. Happy path of one freeze: open the mount points, hand the descriptors to the helper,
 * write the state file, BEGIN; the caller reads; END. The descriptors stay open here until then, so that this side can thaw if
 * the helper is killed in between.
 */
#include "mobility/capture/freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mobility/capture/freeze_helper.h"
#include "transport/base/buf.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"

/* A helper that does not answer in time is ended, and this side thaws. It flushes for 2 s at most unless one syncfs is longer, and applications may be
 * held still meanwhile; thawing may not take long. */
#define BEGIN_MSEC 10000
#define END_MSEC 250
/* How long a helper is waited for that was told to end, or killed: none can be in the midst of a syncfs or FIFREEZE. */
#define CLOSE_MSEC 10000
#define LOST_MSEC 1000

#define STATE_MAX_BYTES (FREEZE_MOUNTS_MAX * (FREEZE_PATH_MAX + 1))

struct freeze {
    pid_t pid; /* 0: no helper */
    int fd;
    pid_t lost; /* one that was killed and has not ended yet; 0: none */
    bool told_priority;
    char *state_path;
    bool allow_root;
    char *paths[FREEZE_MOUNTS_MAX];
    int mounts[FREEZE_MOUNTS_MAX]; /* open during a freeze */
    size_t count, open_count;
    uint64_t began_usec;
};

/* --- the helper -------------------------------------------------------------------------------------------------------- */

static int start_helper(struct freeze *f, struct err *err)
{
    pid_t parent = getpid(), pid;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(err, errno, "making a socket pair");
    pid = fork();
    if (pid == 0)
        freeze_helper_main(pair[1], parent, f->state_path);
    (void)close(pair[1]);
    if (pid < 0) {
        (void)close(pair[0]);
        return err_sys(err, errno, "starting the freeze helper");
    }
    f->pid = pid;
    f->fd = pair[0];
    return 0;
}

static bool has_ended(pid_t child)
{
    return child <= 0 || waitpid(child, NULL, WNOHANG) != 0;
}

static bool ends_within(pid_t child, int msec)
{
    struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN};

    if (p.fd >= 0) {
        (void)poll(&p, 1, msec);
        (void)close(p.fd);
    }
    return has_ended(child);
}

/* The end of our socket makes it thaw and exit. One that cannot is left to itself: it ends when the kernel lets it, its guard thaws what it may have
 * frozen, and no other is started before. */
static void end_helper(struct freeze *f, int wait_msec)
{
    if (f->fd >= 0)
        (void)close(f->fd);
    f->fd = -1;
    if (f->pid > 0 && !ends_within(f->pid, wait_msec))
        f->lost = f->pid;
    f->pid = 0;
}

static int have_a_helper(struct freeze *f, struct err *err)
{
    if (!has_ended(f->lost))
        return err_set(err, ERR_TIMEOUT, "a file system still keeps the freeze helper of an earlier point waiting");
    f->lost = 0;
    return f->pid == 0 ? start_helper(f, err) : 0;
}

static int receive(struct freeze *f, int wait_msec, struct freeze_reply *ret_reply)
{
    struct pollfd p = {.fd = f->fd, .events = POLLIN};
    uint64_t deadline = clock_mono_usec() + (uint64_t)wait_msec * USEC_PER_MSEC, now;
    int ready;

    do {
        now = clock_mono_usec();
        ready = poll(&p, 1, now < deadline ? (int)((deadline - now + 999) / USEC_PER_MSEC) : 0);
    } while (ready < 0 && errno == EINTR);
    return ready > 0 && recv(f->fd, ret_reply, sizeof(*ret_reply), 0) == (ssize_t)sizeof(*ret_reply) ? 0 : -1;
}

static int ask(struct freeze *f, enum freeze_op op, uint64_t value, int pass_fd, struct freeze_reply *ret_reply)
{
    struct freeze_request request = {.op = op, .value = value};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {.iov_base = &request, .iov_len = sizeof(request)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (pass_fd >= 0) {
        struct cmsghdr *c;
        m.msg_control = control;
        m.msg_controllen = sizeof(control);
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass_fd, sizeof(int));
    }
    if (sendmsg(f->fd, &m, MSG_NOSIGNAL) < 0)
        return -1;
    return receive(f, op == FREEZE_OP_BEGIN ? BEGIN_MSEC : END_MSEC, ret_reply);
}

static void thaw_here(const struct freeze *f)
{
    for (size_t i = 0; i < f->open_count; i++)
        (void)ioctl(f->mounts[i], FITHAW, 0);
    if (f->state_path)
        (void)unlink(f->state_path);
}

static void close_mounts(struct freeze *f)
{
    for (size_t i = 0; i < f->open_count; i++)
        (void)close(f->mounts[i]);
    f->open_count = 0;
}

/* The helper was killed, or does not speak: nothing may stay frozen on its account. It has to be gone before this side thaws: it could otherwise finish a
 * freeze after that, and a thaw waits for a syncfs. What one that cannot go has frozen, its guard thaws. */
static int helper_is_lost(struct freeze *f, struct err *err)
{
    if (f->pid > 0)
        (void)kill(f->pid, SIGKILL);
    end_helper(f, LOST_MSEC);
    if (!f->lost)
        thaw_here(f);
    close_mounts(f);
    return f->lost ? err_set(err, ERR_TIMEOUT, "a file system does not answer the freeze helper")
                   : err_set(err, ERR_UNAVAILABLE, "the freeze helper died");
}

/* --- what was left frozen ------------------------------------------------------------------------------------------------ */

/* The file has one path per line, in the order of mounting. */
static void thaw_left_over(const char *state_path)
{
    AUTO_BUF struct buf b = BUF_INIT(STATE_MAX_BYTES + 1);
    char *line, *rest;

    if (file_read(state_path, &b, NULL) < 0 || !buf_str(&b, NULL))
        return;
    for (line = strtok_r((char *)b.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        AUTO_CLOSE int fd = open(line, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
            (void)ioctl(fd, FITHAW, 0);
    }
    (void)unlink(state_path);
}

static int write_state(const struct freeze *f, struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(STATE_MAX_BYTES);
    AUTO_CLOSE int fd = -1;

    if (!f->state_path)
        return 0;
    for (size_t i = 0; i < f->count; i++)
        if (buf_printf(&b, err, "%s\n", f->paths[i]) < 0)
            return -1;
    /* Not synced: it lies in /run, and is for the next process, not the next boot. */
    fd = open(f->state_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_sys(err, errno, "opening %s", f->state_path);
    if (file_write_all(fd, b.data, b.len, f->state_path, err) == 0)
        return 0;
    (void)unlink(f->state_path);
    return err_hint(
        err, "free space in the file system of %s: nothing is frozen that is not noted there", f->state_path);
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */

int freeze_open(const struct freeze_config *config, struct freeze **ret_freeze, struct err *err)
{
    struct freeze *f AUTO_OF(freeze) = mem_new(struct freeze);

    if (!f)
        return err_set(err, ERR_NOMEM, "freeze helper");
    f->fd = -1;
    f->allow_root = config->allow_root;
    if (config->state_path) {
        f->state_path = mem_strdup(config->state_path);
        if (!f->state_path)
            return err_set(err, ERR_NOMEM, "freeze helper");
        thaw_left_over(f->state_path);
    }
    if (start_helper(f, err) < 0)
        return -1;
    *ret_freeze = TAKE_PTR(f);
    return 0;
}

static void drop_paths(struct freeze *f)
{
    for (size_t i = 0; i < f->count; i++)
        free(f->paths[i]);
    f->count = 0;
}

void freeze_close(struct freeze *f)
{
    if (!f)
        return;
    end_helper(f, CLOSE_MSEC);
    close_mounts(f);
    drop_paths(f);
    free(f->state_path);
    free(f);
}

pid_t freeze_helper_pid(const struct freeze *f)
{
    return f->pid;
}

static int check_root(const struct freeze *f, const char *path, struct err *err)
{
    struct stat here, root;

    if (f->allow_root || stat(path, &here) < 0 || stat("/", &root) < 0 || here.st_dev != root.st_dev)
        return 0;
    (void)err_set(err, ERR_REFUSED, "%s is the root file system, which is not to be frozen", path);
    return err_hint(err, "allow it with freeze-root, or take crash-consistent points only");
}

int freeze_set_mounts(struct freeze *f, const char *const *paths, size_t count, struct err *err)
{
    if (count > FREEZE_MOUNTS_MAX)
        return err_set(err, ERR_INVALID, "more than %u file systems", FREEZE_MOUNTS_MAX);
    if (have_a_helper(f, err) < 0)
        return -1;
    drop_paths(f);
    for (size_t i = 0; i < count; i++) {
        if (strlen(paths[i]) >= FREEZE_PATH_MAX || strchr(paths[i], '\n'))
            return err_set(err, ERR_INVALID, "the path of a mount point is too long, or of two lines");
        if (check_root(f, paths[i], err) < 0)
            return -1;
        f->paths[i] = mem_strdup(paths[i]);
        if (!f->paths[i])
            return err_set(err, ERR_NOMEM, "mount points");
        f->count = i + 1;
    }
    return 0;
}

/* --- one freeze ------------------------------------------------------------------------------------------------------------ */

static int hand_over_mounts(struct freeze *f, struct err *err)
{
    struct freeze_reply reply;

    for (size_t i = 0; i < f->count; i++) {
        int fd = open(f->paths[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return err_sys(err, errno, "opening %s", f->paths[i]);
        f->mounts[f->open_count++] = fd;
        if (check_root(f, f->paths[i], err) < 0)
            return -1;
        if (ask(f, FREEZE_OP_ADD, 0, fd, &reply) < 0 || reply.answer != FREEZE_DONE)
            return helper_is_lost(f, err);
    }
    return 0;
}

/* Empties the helper's list after a failure between ADD and BEGIN. */
static void take_back_mounts(struct freeze *f)
{
    struct freeze_reply reply;

    close_mounts(f);
    if (f->pid > 0 && ask(f, FREEZE_OP_END, 0, -1, &reply) < 0)
        (void)helper_is_lost(f, NULL);
}

static int explain(struct freeze *f, const struct freeze_reply *reply, struct err *err)
{
    const char *path = reply->value < f->count ? f->paths[reply->value] : "a file system";

    if (reply->answer == FREEZE_SLOW_FLUSH)
        return err_set(err, ERR_TIMEOUT, "the file systems take too long to flush");
    if (reply->answer == FREEZE_SLOW)
        return err_set(err, ERR_TIMEOUT, "freezing took longer than the budget");
    if (reply->sys_errno == EBUSY) {
        (void)err_set(err, ERR_CONFLICT, "%s is frozen already, by somebody else", path);
        return err_hint(err, "see who froze it; fsfreeze --unfreeze %s ends it", path);
    }
    return err_sys(err, (int)reply->sys_errno, "freezing %s", path);
}

/* The helper has no log, so this side tells what was refused to it. It has answered, so it has asked for it. */
static void tell_of_priority(struct freeze *f)
{
    int policy = sched_getscheduler(f->pid);

    if (f->told_priority || policy < 0 || (policy & ~SCHED_RESET_ON_FORK) == SCHED_RR)
        return;
    f->told_priority = true;
    log_event(LOG_WARN, "freeze_without_priority",
        LOG_S("hint", "a busy machine may thaw late: give the agent CAP_SYS_NICE, and no RestrictRealtime=yes"));
}

int freeze_begin(struct freeze *f, uint64_t budget_usec, struct err *err)
{
    struct freeze_reply reply;

    if (f->open_count > 0)
        return err_set(err, ERR_REFUSED, "a freeze is under way");
    if (have_a_helper(f, err) < 0)
        return -1;
    if (hand_over_mounts(f, err) < 0 || write_state(f, err) < 0) {
        take_back_mounts(f);
        return -1;
    }
    tell_of_priority(f);
    f->began_usec = clock_mono_usec();
    if (ask(f, FREEZE_OP_BEGIN, budget_usec, -1, &reply) < 0)
        return helper_is_lost(f, err);
    if (reply.answer == FREEZE_DONE)
        return 0;
    close_mounts(f);
    if (f->state_path)
        (void)unlink(f->state_path);
    return explain(f, &reply, err);
}

int freeze_end(struct freeze *f, struct freeze_result *ret_result, struct err *err)
{
    struct freeze_reply reply;

    *ret_result = (struct freeze_result){.gave_up = true};
    if (f->pid == 0 || ask(f, FREEZE_OP_END, 0, -1, &reply) < 0) {
        ret_result->frozen_usec = clock_mono_usec() - f->began_usec;
        return helper_is_lost(f, err);
    }
    close_mounts(f);
    ret_result->frozen_usec = reply.value;
    ret_result->gave_up = reply.answer != FREEZE_DONE;
    return 0;
}
