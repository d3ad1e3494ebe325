/* SPDX-License-Identifier: Apache-2.0
 *
 * A control group of the test's own whose processes can be made to run out of memory, while the machine has plenty. Version 2 where its
 * memory controller is at hand, else version 1.
 */
#ifndef TESTS_UNIT_MOBILITY_CAPTURE_CGROUP_H
#define TESTS_UNIT_MOBILITY_CAPTURE_CGROUP_H

#include <stdbool.h>

struct cgroup {
    char path[128];
    bool unified; /* version 2 */
};

bool cgroup_init(struct cgroup *g); /* false: there is none to be had here */
void cgroup_done(struct cgroup *g); /* waits until its processes have ended */
/* In the process that is to live in it, as will those that it forks. Ends the process on failure. */
void cgroup_join(const struct cgroup *g);
/* Gives the group a limit a little above what it uses, and then takes memory until the kernel ends this process. */
_Noreturn void cgroup_exhaust(const struct cgroup *g);
unsigned cgroup_kills(const struct cgroup *g); /* processes that were ended in it for want of memory */

#endif
