/* SPDX-License-Identifier: Apache-2.0
 *
 * The inventory's eyes in sysfs: attributes of block devices, and which whole disks a device lies on in the
 * end. Private to the inventory's own files.
 */
#ifndef MOBILITY_INVENTORY_SYS_H
#define MOBILITY_INVENTORY_SYS_H

#include <dirent.h>

#include "mobility/inventory.h"

#define SYS_NAME_MAX 64

/* The source with its defaults filled in. */
struct inventory_source inventory_source_full(const struct inventory_source *source);

/* Reads sys/class/block/NAME/ATTR, trimmed of white space at both ends; "" when there is none. */
void sys_attr(const struct inventory_source *src, const char *name, const char *attr, char *out, size_t out_size);
/* The same of a file anywhere. */
void sys_read(const char *path, char *out, size_t out_size);
/* An attribute as a number; 0 when there is none or it is not one. */
uint64_t sys_attr_u64(const struct inventory_source *src, const char *name, const char *attr);
bool sys_attr_exists(const struct inventory_source *src, const char *name, const char *attr);
dev_t sys_devno(const struct inventory_source *src, const char *name);
/* Kernel name of a block device by number; -1 when there is none. */
int sys_name_of_devno(const struct inventory_source *src, dev_t devno, char out[SYS_NAME_MAX]);
/* Name of the disk that a partition belongs to; the name itself for anything else. */
void sys_parent(const struct inventory_source *src, const char *name, char out[SYS_NAME_MAX]);
bool sys_is_stacked(const struct inventory_source *src, const char *name); /* it has slaves */
/* It is one path of a multipath device (whose uuid device-mapper begins with mpath-), whose name that is. */
bool sys_is_path(const struct inventory_source *src, const char *name, char ret_map[SYS_NAME_MAX]);
/* Adds every whole disk of the inventory that the device lies on. */
void sys_bottom_disks(
    const struct inventory_source *src, const struct inventory *inventory, const char *name, struct inventory_set *set);
/* "/dev/vda1", "/dev/mapper/vg-root". */
void sys_device_path(const struct inventory_source *src, const char *name, char *out, size_t out_size);

/* ---- inventory.c ---- */
/* question_put, with a limit that depends on how long was waited already. */
bool inventory_ask(struct inventory *inventory, struct question *q, const char *whom);

/* ---- inventory_volumes.c ---- */
/* Fills volumes and mounts of an inventory whose disks are known. */
int inventory_add_volumes(const struct inventory_source *src, struct inventory *inventory, struct err *err);

#endif
