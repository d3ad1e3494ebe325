/* SPDX-License-Identifier: Apache-2.0
 *
 * The switch is one number in a file of sysfs (Documentation/ABI, kernel/ksysfs.c): each write is one system call, each read begins at 0.
 */
#include "mobility/capture/expedite.h"

#include <fcntl.h>
#include <unistd.h>

static bool is_off(int fd)
{
    char value = 0;

    return pread(fd, &value, 1, 0) == 1 && value == '0';
}

static bool set(int fd, const char *value)
{
    return pwrite(fd, value, 1, 0) == 1;
}

void expedite_open(struct expedite *e, const char *path)
{
    e->on = false;
    e->fd = open(path, O_RDWR | O_CLOEXEC);
}

void expedite_begin(struct expedite *e)
{
    if (e->fd >= 0 && is_off(e->fd))
        e->on = set(e->fd, "1");
}

void expedite_end(struct expedite *e)
{
    if (!e->on)
        return;
    (void)set(e->fd, "0");
    e->on = false;
}

void expedite_close(struct expedite *e)
{
    expedite_end(e);
    if (e->fd >= 0)
        (void)close(e->fd);
    e->fd = -1;
}
