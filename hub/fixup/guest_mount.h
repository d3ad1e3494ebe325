/* SPDX-License-Identifier: Apache-2.0
 *
 * The disks of a guest, found and mounted as the guest would have them. Meant for the inside of the rescue image, where the kernel that reads what a
 * stranger's disk says is one that nobody else uses.
 */
#ifndef HUB_FIXUP_GUEST_MOUNT_H
#define HUB_FIXUP_GUEST_MOUNT_H

#include <jansson.h>

#include "hub/fixup/guest_disk.h"
#include "transport/base/err.h"

/* What every block device holds: [{"name": "vda1", "type", "uuid", "label", "partuuid", "device"?: the name that the source had for it}]. disks:
 * [{"number": n, "device": "/dev/sda"}]. A new reference; NULL with err. */
json_t *guest_mount_probe(const json_t *disks, struct err *err);
/* Mounts the guest's root file system at `folder` with what its fstab puts below it, and the kernel's own file systems for programs that run there.
 * The root gets "is_root": true in `found`. warnings: an array of texts. ERR_NOT_FOUND when no file system looks like a root. */
int guest_mount_all(const char *folder, json_t *found, json_t *warnings, struct err *err);
/* All written and let go. */
int guest_mount_end(const char *folder, struct err *err);

#endif
