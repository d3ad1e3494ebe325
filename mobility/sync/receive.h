/* SPDX-License-Identifier: Apache-2.0
 *
 * Receiving: the machine's own disks are written so that they hold a recovery point, on the way back from a replica. A thread of its own does it,
 * as commands of the hub say (ReceiveDisks in control.proto).
 *
 * Points of another machine are received the same way, where the command names it: on a machine in a rescue system, or any other that takes its place.
 *
 * The disks are opened exclusively, so nothing that uses them (mounts, swap, LVM, md) can be there, nor come while they are held; the disk with the
 * running system's root is never taken. They are held from the first pass to the last. The first pass of a process looks through all of a disk and compares
 * it by hashes; later ones look only at what the vault says has changed since. What is written is read back and compared.
 */
#ifndef MOBILITY_SYNC_RECEIVE_H
#define MOBILITY_SYNC_RECEIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/proto/control.pb-c.h"
#include "transport/proto/vaultask.h"

struct receive;

struct receive_conf {
    struct ident machine;
    struct vaultask *ask; /* of this thread alone */
    void (*to_loop)(void *arg);
    void *arg;
};

struct receive_output {
    char command_id[IDENT_TEXT_SIZE];
    bool done;
    unsigned permille; /* not done: how far */
    char text[160];
    struct err error; /* done: what went wrong; code ERR_NONE: nothing */
    char json[256];   /* done: the result */
};

int receive_new(const struct receive_conf *conf, struct receive **ret_receive, struct err *err);
void receive_free(struct receive *r); /* ends what is under way, gives the disks back. NULL allowed */

/* Loop thread, all of these. The same command again, while it is under way, is no error and answered once. ERR_CONFLICT: another one is under way. */
int receive_command(
    struct receive *r, const char *command_id, const Leeward__Control__V1__ReceiveDisks *command, struct err *err);
/* Ends the command, if it is that one; 1 when it was. The disks are given back. */
int receive_cancel(struct receive *r, const char *command_id);
/* The machine is to be protected: the disks are given back as soon as nothing is under way. */
void receive_release(struct receive *r);
/* The next output, false: none. */
bool receive_take(struct receive *r, struct receive_output *ret_output);

#endif
