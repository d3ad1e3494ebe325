/* SPDX-License-Identifier: Apache-2.0
 *
 * One run of one hook: a child in a process group of its own, bounded in time and in what it may say. Whatever it leaves behind
 * is killed with its group; what leaves the group (setsid) is not waited for.
 */
#ifndef MOBILITY_HOOKRUN_H
#define MOBILITY_HOOKRUN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "transport/base/err.h"

struct hookrun {
    const char *path, *verb;
    uint64_t limit_usec;
    const char *run_dir;   /* given to the hook as LEEWARD_RUN */
    const char *noted_for; /* the folder of hooks under which it is noted while it runs (hooknote.h); NULL: it is not */
    pid_t *keep_group;     /* NULL: its group ends with it; else, on success, the group lives until hookrun_end_group */
};

/* Blocks until it has ended, at most limit_usec and a second. ERR_TIMEOUT: it was killed, or waits in the kernel where nothing ends it (then its note
 * stays); ERR_IO: it failed; both with the last line that it said, printable characters only. Everything it says goes to the log of the agent. */
int hookrun(const struct hookrun *run, struct err *err);
/* Kills what is left of the group of a run that was kept. False: its leader has not ended within a second. */
bool hookrun_end_group(pid_t group);

#endif
