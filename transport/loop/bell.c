/* SPDX-License-Identifier: Apache-2.0
 *
 * The bell: an eventfd that any thread may ring and the loop answers. The counter is read, and so cleared,
 * before the callback runs: what is posted during the callback rings again.
 */
#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "transport/base/mem.h"
#include "transport/loop/loop.h"

struct loop_bell {
    sd_event_source *source;
    int fd;
    void (*wake)(void *arg);
    void *arg;
};

static int on_ring(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct loop_bell *bell = userdata;
    uint64_t count;

    (void)source;
    (void)revents;
    if (read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
        bell->wake(bell->arg);
    return 0;
}

int loop_bell_new(
    sd_event *loop, void (*wake)(void *arg), void *arg, struct loop_bell **ret_bell, struct err *err)
{
    struct loop_bell *bell = mem_new(struct loop_bell);

    if (!bell)
        return err_set(err, ERR_NOMEM, "out of memory for a bell");
    *bell = (struct loop_bell){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .wake = wake, .arg = arg};
    int rc = bell->fd < 0 ? -errno : sd_event_add_io(loop, &bell->source, bell->fd, EPOLLIN, on_ring, bell);
    if (rc < 0) {
        loop_bell_free(bell);
        return err_sys(err, -rc, "making a bell");
    }
    *ret_bell = bell;
    return 0;
}

void loop_bell_post(struct loop_bell *bell)
{
    const uint64_t one = 1;

    /* EAGAIN means that 2^64 - 2 rings wait already: it will wake. */
    while (write(bell->fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

void loop_bell_free(struct loop_bell *bell)
{
    if (!bell)
        return;
    (void)sd_event_source_disable_unref(bell->source);
    if (bell->fd >= 0)
        (void)close(bell->fd);
    free(bell);
}
