/* SPDX-License-Identifier: Apache-2.0
 *
 * Application hooks, in the convention of qemu-guest-agent: every executable file of a folder is run with the argument
 * "freeze" in the order of their names, and with "thaw" in the reverse order. Each has a time limit, at which it is killed.
 *
 * Two things are more than the convention. "prepare" is run some time before, when nothing is held yet: what has much to write
 * does it there, and a hook that does not know the word may fail without harm. And "thaw" may fail to say that the application
 * did not hold still until then: the point is not app-consistent then.
 *
 * What a hook's freeze leaves running (a session that holds a lock) lives until its thaw has ended. A marker in run_dir says
 * that hooks are frozen; whoever finds it after a crash thaws them (hooks_recover).
 */
#ifndef MOBILITY_HOOKS_H
#define MOBILITY_HOOKS_H

#include <stdint.h>

#include "transport/base/err.h"

#define HOOKS_MAX 64u

struct hooks;

struct hooks_conf {
    const char *dir;     /* of the hooks; absence: none are there */
    const char *run_dir; /* for the marker, and for the hooks' own state (LEEWARD_RUN) */
    uint64_t limit_usec; /* for one run of one hook */
};

/* Lists the folder, and ends what a process before this one left running of it; where that waits in the kernel and does not end, freezing and
 * stopping fail with ERR_UNAVAILABLE, and thawing and starting are done all the same. Files that are not executable are left out; so are, with a
 * word in the log, those that others than the user of this process may write. The texts of conf must live as long as the result. */
int hooks_load(const struct hooks_conf *conf, struct hooks **ret_hooks, struct err *err);
void hooks_free(struct hooks *h); /* NULL allowed; nothing may be frozen */
unsigned hooks_count(const struct hooks *h);
/* Runs "prepare" for all; failures are in the log only. Blocks. */
void hooks_prepare(struct hooks *h);
/* Runs "freeze"; on failure those that ran are thawed again and -1 is returned with what the hook had to say. Blocks. ERR_NOT_FOUND where there is none,
 * ERR_REFUSED where one is not run because others may write it: nothing was run then. */
int hooks_freeze(struct hooks *h, struct err *err);
/* Runs "thaw" for all whose freeze was run; goes on over failures and returns the first. */
int hooks_thaw(struct hooks *h, struct err *err);
/* Runs "stop" for all, in order; the first failure ends it. "start" for all, in reverse order, goes on over failures and returns the first. For
 * executables of another folder than those that freeze. Both block. */
int hooks_stop(struct hooks *h, struct err *err);
int hooks_start(struct hooks *h, struct err *err);
/* Thaws what a process that died has left frozen. 1: it did; 0: there was nothing. */
int hooks_recover(const struct hooks_conf *conf, struct err *err);

#endif
