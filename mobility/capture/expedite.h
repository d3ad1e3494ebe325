/* SPDX-License-Identifier: Apache-2.0
 *
 * Shorter freezes. FIFREEZE waits for three grace periods of RCU, two of them while writers wait already (freeze_super() takes
 * percpu_down_write() three times). The kernel takes its time for them, 10 to 30 ms each; with /sys/kernel/rcu_expedited set they are over in well
 * below one, at the price of an interrupt to each processor. It is set only while freezing, and only if nobody else has set it.
 *
 * Where it cannot be set (no sysfs, read-only) freezes are as long as they are. Uses no heap and no stdio.
 */
#ifndef MOBILITY_CAPTURE_EXPEDITE_H
#define MOBILITY_CAPTURE_EXPEDITE_H

#include <stdbool.h>

#define EXPEDITE_PATH "/sys/kernel/rcu_expedited"

struct expedite {
    int fd;           /* -1: not to be had */
    volatile bool on; /* set by us; another process that shares this memory may end it */
};

void expedite_open(struct expedite *e, const char *path);
void expedite_begin(struct expedite *e);
void expedite_end(struct expedite *e); /* without a begin: nothing */
void expedite_close(struct expedite *e);

#endif
