/* SPDX-License-Identifier: Apache-2.0
 *
 * The helper's side. One loop: wait for a request, or for the budget to end, or for the parent to go. Whatever ends the wait,
 * nothing that this process froze stays frozen when it is over.
 *
 * A FIFREEZE in progress cannot be interrupted, so what could make it long is done before: syncfs until a pass is short. If the
 * passes stay long, nothing is frozen.
 *
 * The kernel ties a freeze to no process and no descriptor, so the helper has a guard: a second process with the same table of
 * descriptors and the helper's state in shared memory. It does nothing but wait for the helper to die or to overrun its budget by far
 * (stopped together with the agent), and then thaws in its place. The helper starts another one when its guard is gone.
 */
#include "mobility/capture/freeze_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mobility/capture/expedite.h"
#include "mobility/capture/freeze.h"

#define SOCKET_FD 3
#define FLUSH_PASSES 4
#define FLUSH_USEC 2000000u /* for all of them: applications may be held still meanwhile */
/* What the guard leaves to the helper after the end of the budget. */
#define GUARD_GRACE_USEC 50000u

/* Shared with the guard, which writes to it only when the helper is dead or stopped. */
struct helper {
    pid_t parent;
    pid_t guard; /* 0: none */
    int bell[2]; /* a byte for each freeze that begins, from the helper to its guard */
    struct expedite expedite;
    const char *state_path;
    int mounts[FREEZE_MOUNTS_MAX];
    volatile bool is_frozen[FREEZE_MOUNTS_MAX];
    volatile unsigned freezing; /* 1 + the number of the one that FIFREEZE is at work on; 0: none */
    unsigned count;
    volatile bool frozen;
    volatile bool gave_up;
    volatile uint64_t began_usec, ended_usec, budget_usec;
};

static volatile sig_atomic_t asked_to_stop;

static void on_stop(int signal)
{
    (void)signal;
    asked_to_stop = 1;
}

static uint64_t now_usec(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* --- thawing and freezing --------------------------------------------------------------------------------------------- */

/* In the order of mounting, which is the reverse of that of freezing. False: one was not frozen any more. */
static bool thaw_all(struct helper *h)
{
    bool intact = true;

    for (unsigned i = 0; i < h->count; i++) {
        int result;
        if (!h->is_frozen[i])
            continue;
        do {
            result = ioctl(h->mounts[i], FITHAW, 0);
        } while (result < 0 && errno == EINTR);
        intact = intact && result == 0;
        h->is_frozen[i] = false;
    }
    h->ended_usec = now_usec();
    h->frozen = false;
    if (h->state_path)
        (void)unlink(h->state_path);
    return intact;
}

static void drop_mounts(struct helper *h)
{
    for (unsigned i = 0; i < h->count; i++)
        (void)close(h->mounts[i]);
    h->count = 0;
}

/* One syncfs cannot be ended, but none begins when the time is over. */
static bool flush_within(const struct helper *h, uint64_t limit_usec)
{
    uint64_t first = now_usec();

    for (int pass = 0; pass < FLUSH_PASSES; pass++) {
        uint64_t began = now_usec();
        for (unsigned i = 0; i < h->count; i++) {
            if (now_usec() - first > FLUSH_USEC)
                return false;
            (void)syncfs(h->mounts[i]);
        }
        if (now_usec() - began <= limit_usec)
            return true;
    }
    return false;
}

static int freeze_one(struct helper *h, unsigned i)
{
    int result;

    h->freezing = i + 1;
    do {
        result = ioctl(h->mounts[i], FIFREEZE, 0);
    } while (result < 0 && errno == EINTR);
    if (result == 0)
        h->is_frozen[i] = true;
    h->freezing = 0;
    return result < 0 && errno != EOPNOTSUPP ? errno : 0;
}

static void ring_guard(const struct helper *h)
{
    if (h->guard && write(h->bell[1], "", 1) < 0) { /* full: it has been rung already */
    }
}

static struct freeze_reply freeze_all(struct helper *h)
{
    struct freeze_reply reply = {.answer = FREEZE_DONE};

    h->began_usec = now_usec();
    h->gave_up = false;
    h->frozen = true;
    ring_guard(h);
    expedite_begin(&h->expedite);
    for (unsigned i = h->count; i-- > 0 && reply.answer == FREEZE_DONE;) {
        int bad = freeze_one(h, i);
        if (bad)
            reply = (struct freeze_reply){.answer = FREEZE_FAILED, .sys_errno = (uint32_t)bad, .value = i};
        else if (now_usec() - h->began_usec > h->budget_usec)
            reply.answer = FREEZE_SLOW;
    }
    expedite_end(&h->expedite);
    if (reply.answer != FREEZE_DONE)
        (void)thaw_all(h);
    return reply;
}

/* --- the guard -------------------------------------------------------------------------------------------------------- */

/* Milliseconds until the budget of the present freeze is overrun by far; -1: nothing is frozen. */
static int guard_msec(const struct helper *h)
{
    uint64_t used = now_usec() - h->began_usec, limit = h->budget_usec + GUARD_GRACE_USEC;

    if (!h->frozen)
        return -1;
    return used >= limit ? 0 : (int)((limit - used) / 1000u) + 1;
}

/* True when it is over: the helper is dead. */
static bool guard_wait(struct helper *h, int helper_fd)
{
    struct pollfd p[2] = {{.fd = helper_fd, .events = POLLIN}, {.fd = h->bell[0], .events = POLLIN}};
    char bytes[64];
    int ready = poll(p, 2, guard_msec(h));

    if (ready == 0 && guard_msec(h) == 0) { /* the helper is stopped, as is its parent */
        h->gave_up = true; /* first: a helper that goes on in between must not take its freeze for whole */
        (void)thaw_all(h);
        expedite_end(&h->expedite);
    }
    if (ready > 0 && p[1].revents && read(h->bell[0], bytes, sizeof(bytes)) < 0) { /* only a bell */
    }
    return ready > 0 && p[0].revents;
}

/* The whole life of the guard. Signals that end the helper are not for it: it goes when the helper has gone. */
static _Noreturn void guard_main(struct helper *h, pid_t helper)
{
    struct sched_param priority = {.sched_priority = 11};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    int helper_fd = (int)syscall(SYS_pidfd_open, helper, 0);

    (void)sigaction(SIGTERM, &ignore, NULL);
    (void)sigaction(SIGHUP, &ignore, NULL);
    (void)prctl(PR_SET_NAME, "leeward-thaw");
    (void)sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &priority);
    (void)mlockall(MCL_CURRENT | MCL_FUTURE);
    while (helper_fd >= 0 && getppid() == helper && !guard_wait(h, helper_fd)) {
    }
    if (h->freezing) /* killed in the midst of it: FIFREEZE goes to its end all the same */
        h->is_frozen[h->freezing - 1] = true;
    if (h->frozen || h->freezing)
        (void)thaw_all(h);
    expedite_end(&h->expedite);
    _exit(0);
}

/* A child that shares the table of descriptors: it has the mount points that come later too. */
static void have_a_guard(struct helper *h)
{
    pid_t self = getpid(), pid;

    if (h->guard && waitpid(h->guard, NULL, WNOHANG) == 0)
        return;
    pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        guard_main(h, self);
    h->guard = pid > 0 ? pid : 0; /* without one the helper is as good as it was */
}

/* --- requests --------------------------------------------------------------------------------------------------------- */

static void send_reply(const struct freeze_reply *reply)
{
    (void)send(SOCKET_FD, reply, sizeof(*reply), MSG_NOSIGNAL);
}

static void do_begin(struct helper *h, uint64_t budget_usec)
{
    struct freeze_reply reply = {.answer = FREEZE_SLOW_FLUSH};

    h->budget_usec = budget_usec;
    have_a_guard(h);
    if (flush_within(h, budget_usec / 2))
        reply = freeze_all(h);
    if (reply.answer != FREEZE_DONE)
        drop_mounts(h);
    send_reply(&reply);
}

static void do_end(struct helper *h)
{
    struct freeze_reply reply = {.answer = FREEZE_DONE};

    if (h->frozen && !thaw_all(h))
        h->gave_up = true;
    if (h->gave_up)
        reply.answer = FREEZE_GAVE_UP;
    reply.value = h->ended_usec - h->began_usec;
    drop_mounts(h);
    send_reply(&reply);
}

static void do_add(struct helper *h, int fd)
{
    struct freeze_reply reply = {.answer = FREEZE_DONE};

    if (fd < 0 || h->count == FREEZE_MOUNTS_MAX || h->frozen) {
        reply.answer = FREEZE_FAILED;
        reply.sys_errno = EINVAL;
        if (fd >= 0)
            (void)close(fd);
    } else {
        h->mounts[h->count++] = fd;
    }
    send_reply(&reply);
}

static int descriptor_in(struct msghdr *m)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    int fd = -1;

    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    return fd;
}

/* False: the parent is gone. */
static bool serve_one(struct helper *h)
{
    struct freeze_request request;
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {.iov_base = &request, .iov_len = sizeof(request)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(SOCKET_FD, &m, MSG_CMSG_CLOEXEC);

    if (n < 0)
        return errno == EINTR;
    if (n != (ssize_t)sizeof(request))
        return false;
    if (request.op == FREEZE_OP_ADD)
        do_add(h, descriptor_in(&m));
    else if (request.op == FREEZE_OP_BEGIN)
        do_begin(h, request.value);
    else if (request.op == FREEZE_OP_END)
        do_end(h);
    return true;
}

/* Milliseconds that may still pass before the budget ends, rounded down so that it is never exceeded; -1: no freeze. */
static int wait_msec(const struct helper *h)
{
    uint64_t used = now_usec() - h->began_usec;

    if (!h->frozen)
        return -1;
    return used >= h->budget_usec ? 0 : (int)((h->budget_usec - used) / 1000u);
}

static bool parent_is_gone(const struct helper *h)
{
    return getppid() != h->parent;
}

static void live(struct helper *h)
{
    while (!asked_to_stop && !parent_is_gone(h)) {
        struct pollfd p = {.fd = SOCKET_FD, .events = POLLIN};
        int ready = poll(&p, 1, wait_msec(h));
        if (ready > 0 && !serve_one(h))
            return;
        if (ready == 0 && h->frozen) {
            h->gave_up = true;
            (void)thaw_all(h);
        }
    }
}

/* --- becoming the helper ----------------------------------------------------------------------------------------------- */

static void leave_the_oom_killer(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, "-1000", 5) < 0) { /* without CAP_SYS_RESOURCE it stays as it is */
    }
    (void)close(fd);
}

static void set_signals(void)
{
    struct sigaction stop = {.sa_handler = on_stop}, ignore = {.sa_handler = SIG_IGN};
    sigset_t none;

    (void)sigaction(SIGTERM, &stop, NULL);
    (void)sigaction(SIGHUP, &stop, NULL); /* also the parent's death */
    (void)sigaction(SIGINT, &ignore, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)prctl(PR_SET_PDEATHSIG, SIGHUP);
}

static void keep_only_the_socket(int fd)
{
    int null = open("/dev/null", O_RDWR);

    for (int i = 0; i < 3 && null >= 0; i++)
        (void)dup2(null, i);
    if (fd != SOCKET_FD)
        (void)dup2(fd, SOCKET_FD);
    (void)syscall(SYS_close_range, SOCKET_FD + 1, ~0u, 0);
    if (chdir("/") < 0)
        _exit(1);
}

_Noreturn void freeze_helper_main(int fd, pid_t parent, const char *state_path)
{
    struct helper *h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct sched_param priority = {.sched_priority = 10};

    if (h == MAP_FAILED)
        _exit(1);
    set_signals();
    h->parent = parent;
    h->state_path = state_path;
    keep_only_the_socket(fd);
    expedite_open(&h->expedite, EXPEDITE_PATH);
    (void)prctl(PR_SET_NAME, "leeward-freeze");
    leave_the_oom_killer();
    (void)sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &priority);
    (void)mlockall(MCL_CURRENT | MCL_FUTURE);
    if (pipe2(h->bell, O_CLOEXEC | O_NONBLOCK) < 0)
        _exit(1);
    have_a_guard(h);
    live(h);
    if (h->frozen)
        (void)thaw_all(h);
    _exit(0);
}
