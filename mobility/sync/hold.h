/* SPDX-License-Identifier: Apache-2.0
 *
 * Holding the source still for a planned failover, so that its last point has all that was ever written. The executables of a folder (failover.d) are run
 * with "stop": they end what uses the protected disks and unmount these. Then the disks are opened exclusively, which nobody who has them in use lets
 * happen, and what the kernel still had of them is flushed. They are kept so until they are given back; then the executables are run with "start", in
 * reverse order.
 *
 * A disk with the running system cannot be opened so: its file systems are made read-only (readonly.h), to be writable again when it is given back.
 *
 * That the source was stopped is noted in DATA/held, so that a new process holds the disks again and knows that there is something to start. Where the
 * running system's disk is among them it is noted in RUN/held: a restart of the machine ends that, and the note is not on the disk that becomes the replica's.
 */
#ifndef MOBILITY_SYNC_HOLD_H
#define MOBILITY_SYNC_HOLD_H

#include <stdbool.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/proto/control.pb-c.h"

struct hold;

struct hold_conf {
    const char *dir;     /* of the executables; need not exist */
    const char *run_dir; /* in memory; given to them as LEEWARD_RUN */
    const char *data_dir;
    void (*to_loop)(void *arg);
    void *arg;
};

struct hold_output {
    char command_id[IDENT_TEXT_SIZE];
    bool held;        /* the disks stand still: the last point can begin (hold_begin_point); else it is over */
    struct err error; /* over: why; code ERR_NONE: it was taken back, as asked */
};

int hold_new(const struct hold_conf *conf, struct hold **ret_hold, struct err *err);
void hold_free(struct hold *h); /* waits for what runs; the note stays. NULL allowed */

/* Loop thread, all of these. The same command again is no error. ERR_CONFLICT: another one is under way. */
int hold_command(
    struct hold *h, const char *command_id, const Leeward__Control__V1__HoldSource *command, struct err *err);
/* The hub's word: while the machine is not protected its disks are somebody else's business (a failback writes them); when it is again, under another
 * desired state than the one in which it was held, it is started. */
void hold_desired(struct hold *h, bool protect, uint64_t generation);
bool hold_take(struct hold *h, struct hold_output *ret_output);
/* The last point of a command whose output said `held` is made now, and answers it. False: the disks stand still for it no more, because another order came or
 * the source was given back; its end has come, or comes, by hold_take. */
bool hold_begin_point(struct hold *h, const char *command_id);
/* Nobody has written to the disks since everything was stopped. That they are opened exclusively keeps mounts away, and nobody who writes to the device as it is. Where the
 * kernel does not count writes, and for the running system's disk, it cannot be told. ERR_REFUSED: somebody has; what the last point was made of is not all. */
int hold_stood_still(struct hold *h, struct err *err);

#endif
