/* SPDX-License-Identifier: Apache-2.0
 *
 * Freezing file systems without ever hurting them (P4). The work is done by a helper: a small process forked early, locked
 * into memory, with real-time priority where that is allowed, out of the OOM killer's reach, that talks through a socket pair.
 * It thaws when its budget is over, when it is asked to, and when its parent is killed; a parent that is stopped or starved
 * cannot stop it. If the helper is killed, the parent thaws; if both are, the next freeze_open does (it finds the list of
 * frozen mount points in the state file).
 *
 * Freezing is per superblock: file systems are flushed first (syncfs), then frozen in reverse order of mounting. A file system
 * that needs longer to flush than the budget makes the freeze fail before anything was frozen. One that cannot be frozen at all
 * (vfat) is only flushed. Mount points are held open only during a freeze, so they can be unmounted at any other time.
 *
 * One thread at a time per helper; calls block, freeze_begin for at most the flush plus the budget, and 11 s where the flush does not end: the helper
 * is left behind then, and no freeze begins (ERR_TIMEOUT) until the kernel lets it go.
 */
#ifndef MOBILITY_CAPTURE_FREEZE_H
#define MOBILITY_CAPTURE_FREEZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"

#define FREEZE_BUDGET_USEC 200000u
#define FREEZE_MOUNTS_MAX 128u
#define FREEZE_PATH_MAX 512u

struct freeze;

struct freeze_config {
    const char *state_path; /* which mount points are frozen now; NULL: none is kept */
    bool allow_root;        /* `/` may be frozen */
};

/* Forks the helper. Call it early: while the process is small and has one thread. Thaws what state_path lists
 * as left frozen. */
int freeze_open(const struct freeze_config *config, struct freeze **ret_freeze, struct err *err);
/* Ends the helper, thawing first. NULL is allowed. */
void freeze_close(struct freeze *f);
DEFINE_AUTO(freeze, freeze_close)
pid_t freeze_helper_pid(const struct freeze *f);

/* Names the file systems of the coming freezes, in the order of mounting; they are opened now. Replaces the
 * list before. ERR_REFUSED: `/` is among them and not allowed. ERR_INVALID: a path is too long or there are
 * too many. ERR_TIMEOUT: a helper that was left behind is still there, so no freeze could begin. */
int freeze_set_mounts(struct freeze *f, const char *const *paths, size_t count, struct err *err);
/* Flushes and freezes all of them, and starts the budget at the first freeze. 0: all frozen. -1: nothing is
 * frozen (any more). ERR_TIMEOUT: the flush or the freeze took more than the budget. ERR_UNSUPPORTED: a file
 * system cannot be frozen. */
int freeze_begin(struct freeze *f, uint64_t budget_usec, struct err *err);
struct freeze_result {
    uint64_t frozen_usec; /* from the first FIFREEZE to the last FITHAW, as the helper measured it */
    bool gave_up;         /* the budget ended it, or something else thawed: what was read after that is not frozen
                     content */
};
/* Thaws (if the helper has not done it) and tells how it went. */
int freeze_end(struct freeze *f, struct freeze_result *ret_result, struct err *err);

/* The mount points, in the order of mounting, of all file systems that lie on one of these whole disks
 * (through partitions, LVM, md, dm); each superblock once, read-only ones left out. Strings and
 * list belong to the caller: freeze_mounts_free. */
struct freeze_mounts {
    char **paths;
    size_t count;
    /* The mount point of one that no path leads to: another file system is mounted over it, or above it. NULL: there is none. */
    char *hidden;
};
int freeze_find_mounts(const dev_t *disks, size_t disk_count, struct freeze_mounts *ret_mounts, struct err *err);
void freeze_mounts_free(struct freeze_mounts *mounts);
/* The mount point of a file system on one of these disks, as above, that issues no barriers, for it was told so (nobarrier, barrier=0). *ret_path:
 * NULL: there is none; else the caller's to free. */
int freeze_find_without_barriers(const dev_t *disks, size_t disk_count, char **ret_path, struct err *err);

#endif
