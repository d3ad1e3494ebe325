/* SPDX-License-Identifier: Apache-2.0
 *
 * Fix-ups of a replica's disks, done by leeward-fixup in the rescue image: a small virtual machine without a network, which gets the branch's disks and what is
 * wanted, says what it changes, and ends. A guest's file systems are read by that kernel and by no other (P8). The process on the host is qemu alone,
 * without a way to gain rights or to start programs.
 */
#ifndef HUB_FABRIC_FIXUP_VM_H
#define HUB_FABRIC_FIXUP_VM_H

#include <jansson.h>
#include <stdbool.h>

#include "hub/fabric/compute.h"
#include "hub/fabric/fixup_machine.h"

/* The folder of the rescue image (vmlinuz, initrd); without_kvm: never use the host's; machines: as many at once, the others wait. Once, before any thread. */
void fixup_vm_configure(const char *folder, bool without_kvm, unsigned machines);
unsigned fixup_vm_machines(void);
/* Tries what the fix-ups of call->spec need of this host, before anything begins: the rescue image, memory, and that the machine starts as it will be started.
 * ERR_REFUSED with the cause and what to do. The disks are tried by a preview. Nothing to try, without spec.fixups, is right. */
int fixup_vm_check(const struct compute_call *call, struct err *err);
/* On spec.disks: spec.fixups listed (nothing reaches the disks), made, or what was made for the same failover taken back. *ret_report: {"changes": [...],
 * "warnings": [...], "applied": bool, "seconds": n, "unbootable"?: text}, a new reference. ERR_CONFLICT: another machine is at work on the branch. */
int fixup_vm_run(const struct compute_call *call, enum fixup_work work, json_t **ret_report, struct err *err);

#endif
