/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine that does fix-ups, as a process of the host: qemu with the rescue image, and as little else as can be. It gets no network, no way to start
 * programs or to gain rights, limits of memory and of what it may write, and the disks as descriptors that are connected already, so that it
 * needs no rights to the vault's sockets; where the hub is root, it is nobody. It ends with the thread that runs it.
 *
 * One machine at a time changes a branch, whichever hub asks for it: what is locked is the vault's own file beside the socket, and the lock is the machine's
 * for as long as it lives, also when its hub was killed.
 */
#ifndef HUB_FABRIC_FIXUP_MACHINE_H
#define HUB_FABRIC_FIXUP_MACHINE_H

#include "hub/fabric/compute.h"
#include "transport/base/buf.h"

#define FIXUP_MEMORY_MIB 768

enum fixup_work {
    FIXUP_TRY,       /* qemu is started as it would be, without disks, and ends before the guest's first instruction */
    FIXUP_LIST,      /* nothing reaches the disks: what is written goes to a copy with a bound, which is thrown away */
    FIXUP_CHANGE,    /* the branch is changed */
    FIXUP_TAKE_BACK, /* it is changed back: what an earlier FIXUP_CHANGE for the same failover did is taken back */
};

struct fixup_machine {
    const struct compute_call *call; /* spec.disks, config.emulator, cancelled */
    const char *kernel, *initrd;
    const char *input; /* what the guest reads of its spec disk: whole sectors */
    enum fixup_work work;
    bool kvm;
};

/* Until it has switched itself off; what it reports is appended to *said. ERR_CONFLICT: another machine is at work on the branch. ERR_REFUSED with what to do
 * where it cannot be started, or the disks cannot be reached. */
int fixup_machine_run(const struct fixup_machine *m, struct buf *said, struct err *err);
/* ERR_CONFLICT when a machine is at work on the branch that these disks are of. */
int fixup_machine_check_idle(const json_t *disks, struct err *err);

#endif
