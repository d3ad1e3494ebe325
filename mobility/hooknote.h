/* SPDX-License-Identifier: Apache-2.0
 *
 * Which hooks run just now, as files in the run folder, so that what a dead process left running is ended before anything is undone: a freeze that
 * goes on beside its own thaw would hold the application for good.
 */
#ifndef MOBILITY_HOOKNOTE_H
#define MOBILITY_HOOKNOTE_H

#include <limits.h>
#include <sys/types.h>

#include "transport/base/err.h"

/* Notes that the leader of a process group runs a hook of that folder, until the caller unlinks the note. Best effort: without room for it the hook runs
 * all the same. */
void hooknote_put(const char *run_dir, const char *hooks_dir, pid_t group, char ret_note[PATH_MAX]);
/* Kills every group of that folder that is noted and still there, a second for each, and forgets them; also what hookrun could not end.
 * ERR_UNAVAILABLE: one does not end (it waits in the kernel), and stays noted. One thread at a time for each folder. */
int hooknote_end_all(const char *run_dir, const char *hooks_dir, struct err *err);

#endif
