/* SPDX-License-Identifier: Apache-2.0
 *
 * What makes a source's system one that boots and behaves as a virtual machine. Each fixer reads the guest through a list of changes and adds its own;
 * none of them changes anything. A guest that a fixer does not understand gets a warning, not an error: it may well boot as it is.
 */
#ifndef HUB_FIXUP_FIXERS_H
#define HUB_FIXUP_FIXERS_H

#include <jansson.h>

#include "hub/fixup/change_list.h"

struct fixup_call {
    struct change_list *list;
    const json_t *fixups; /* fixup_spec.h, checked */
    /* Of the replica: {"failover_id", "machine_id", "machine_name", "mac", "cards": how many it has} */
    const json_t *context;
    /* File systems and swap by the names that the source had for them: [{"device": "/dev/sda1", "uuid": "...", "is_root"?: true}, ...] */
    const json_t *filesystems;
    /* Prints what a program of the guest's says; NULL where none can be run. 0 and *ret_text (freed by the caller), or -1. */
    int (*ask)(const struct guest_tree *tree, const char *const *argv, char **ret_text, struct err *err);
};

/* Names of disks that the replica will not have (/dev/sda1, by-path, by-id) become UUIDs, in fstab, crypttab and the boot loader's files. */
int fix_storage(const struct fixup_call *call, struct err *err);
/* The kernel's console also on the serial line, and a login there. */
int fix_serial_console(const struct fixup_call *call, struct err *err);
/* virtio in each initramfs: by the guest's own initramfs-tools or dracut, where it is not in already. */
int fix_drivers(const struct fixup_call *call, struct err *err);
/* One network card with another address: systemd-networkd, ifupdown, netplan, NetworkManager, ifcfg files. */
int fix_network(const struct fixup_call *call, struct err *err);
/* The agent does not replicate from a replica. */
int fix_role(const struct fixup_call *call, struct err *err);
/* All that `fixups` wants. */
int fix_all(const struct fixup_call *call, struct err *err);

#endif
