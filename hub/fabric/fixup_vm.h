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

/* The folder of the rescue image (vmlinuz, initrd); without_kvm: never use the host's. Once, before any thread. */
void fixup_vm_configure(const char *folder, bool without_kvm);
/* ERR_REFUSED with what to do when there is no rescue image or no qemu. */
int fixup_vm_check(const struct compute_call *call, struct err *err);
/* spec.fixups and spec.disks; with apply false nothing reaches the disks: the changes are made in a copy that is thrown away. *ret_report: {"changes": [...],
 * "warnings": [...], "applied": bool, "seconds": n}, a new reference. */
int fixup_vm_run(const struct compute_call *call, bool apply, json_t **ret_report, struct err *err);

#endif
