/* SPDX-License-Identifier: Apache-2.0
 *
 * Tells when disks or mounts have changed, so that the inventory is fresh within a second and not only at its next turn: the
 * kernel's uevents of the block subsystem (NETLINK_KOBJECT_UEVENT) and changes of /proc/self/mountinfo. Bursts are joined:
 * `changed` runs once they have been quiet for a moment, and at the latest a second after the first. A hint alone: whoever
 * relies on it looks again from time to time anyway, since a uevent can be lost and a container may get none.
 */
#ifndef MOBILITY_DEVWATCH_H
#define MOBILITY_DEVWATCH_H

#include <systemd/sd-event.h>

#include "transport/base/err.h"

struct devwatch;

/* `changed` runs on the loop thread. ERR_IO, ERR_DENIED when the kernel gives neither source. */
int devwatch_new(sd_event *loop, void (*changed)(void *arg), void *arg, struct devwatch **ret_watch, struct err *err);
void devwatch_free(struct devwatch *w); /* NULL is allowed */

#endif
