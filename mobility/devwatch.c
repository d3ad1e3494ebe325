/* SPDX-License-Identifier: Apache-2.0
 *
 * Two sources, one timer. A uevent is taken from the kernel alone (port 0): any process may send to a netlink port. The
 * socket's buffer may overflow in a burst; that too is news. mountinfo reports a change as EPOLLPRI.
 */
#include "mobility/devwatch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"

#define UEVENT_MAX 8192u                        /* the kernel's own bound is 2 KiB of environment */
#define QUIET_USEC (200 * USEC_PER_MSEC)        /* udev and mount work in bursts of tens of milliseconds */
#define LATEST_USEC (USEC_PER_SEC - QUIET_USEC) /* after the first change of a burst that does not end */
#define UEVENTS_A_TURN 64

struct devwatch {
    void (*changed)(void *arg);
    void *arg;
    int uevent_fd, mountinfo_fd;
    sd_event_source *uevents, *mounts;
    struct loop_timer *timer;
    uint64_t first_usec; /* of the burst; 0: none goes on */
};

static void on_quiet(void *arg)
{
    struct devwatch *w = arg;

    if (w->first_usec == 0)
        return;
    w->first_usec = 0;
    w->changed(w->arg);
}

static void note(struct devwatch *w)
{
    uint64_t now = clock_mono_usec();

    if (w->first_usec == 0)
        w->first_usec = now;
    if (now - w->first_usec < LATEST_USEC)
        loop_timer_set(w->timer, QUIET_USEC);
}

/* The message is a header and then KEY=VALUE strings, each with its NUL. */
static bool is_block_event(const char *text, size_t n)
{
    static const char wanted[] = "SUBSYSTEM=block";

    for (const char *at = text, *end = text + n; at < end;) {
        size_t length = strnlen(at, (size_t)(end - at));

        if (length == sizeof(wanted) - 1 && memcmp(at, wanted, length) == 0)
            return true;
        at += length + 1;
    }
    return false;
}

static int on_uevent(sd_event_source *source, int fd, uint32_t events, void *arg)
{
    struct devwatch *w = arg;
    char text[UEVENT_MAX];

    (void)source;
    (void)events;
    for (unsigned i = 0; i < UEVENTS_A_TURN; i++) {
        struct sockaddr_nl from = {0};
        socklen_t from_size = sizeof(from);
        ssize_t n = recvfrom(fd, text, sizeof(text), MSG_DONTWAIT, (struct sockaddr *)&from, &from_size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno == ENOBUFS)
                note(w);
            break;
        }
        if (from.nl_pid == 0 && is_block_event(text, (size_t)n))
            note(w);
    }
    return 0;
}

static int on_mounts(sd_event_source *source, int fd, uint32_t events, void *arg)
{
    (void)source;
    (void)fd;
    (void)events;
    note(arg);
    return 0;
}

static void watch_uevents(sd_event *loop, struct devwatch *w)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
    int fd AUTO_CLOSE = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        sd_event_add_io(loop, &w->uevents, fd, EPOLLIN, on_uevent, w) < 0)
        return;
    w->uevent_fd = TAKE_FD(fd);
}

static void watch_mounts(sd_event *loop, struct devwatch *w)
{
    int fd AUTO_CLOSE = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);

    if (fd < 0 || sd_event_add_io(loop, &w->mounts, fd, EPOLLPRI, on_mounts, w) < 0)
        return;
    w->mountinfo_fd = TAKE_FD(fd);
}

int devwatch_new(sd_event *loop, void (*changed)(void *arg), void *arg, struct devwatch **ret_watch, struct err *err)
{
    struct devwatch *w = mem_new(struct devwatch);

    if (!w)
        return err_set(err, ERR_NOMEM, "no memory to watch for disks");
    w->changed = changed;
    w->arg = arg;
    w->uevent_fd = w->mountinfo_fd = -1;
    if (loop_timer_new(loop, QUIET_USEC, 0, on_quiet, w, &w->timer, err) < 0) {
        devwatch_free(w);
        return -1;
    }
    watch_uevents(loop, w);
    watch_mounts(loop, w);
    if (w->uevent_fd < 0 && w->mountinfo_fd < 0) {
        devwatch_free(w);
        return err_set(err, ERR_DENIED, "the kernel tells neither of disks nor of mounts");
    }
    *ret_watch = w;
    return 0;
}

void devwatch_free(struct devwatch *w)
{
    if (!w)
        return;
    sd_event_source_disable_unref(w->uevents);
    sd_event_source_disable_unref(w->mounts);
    if (w->uevent_fd >= 0)
        (void)close(w->uevent_fd);
    if (w->mountinfo_fd >= 0)
        (void)close(w->mountinfo_fd);
    loop_timer_free(w->timer);
    free(w);
}
