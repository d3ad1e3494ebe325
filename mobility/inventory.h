/* SPDX-License-Identifier: Apache-2.0
 *
 * What disks this machine has, what lies on them and where it is mounted, from sysfs, libblkid and libmount.
 *
 * A disk here is a whole disk at the bottom of the block layer: what request events exist for, and so what is
 * tracked. Partitions are volumes of their disk with a place; LVM, md and dm devices are volumes without one
 * (start and length 0) of every disk that they lie on, however deep the stack.
 *
 * A scan reads superblocks: call it on a thread that may block. It waits for a disk or a mounted file system that does not answer
 * a few seconds once, and not at all while it is still being waited for (question.h); it says what did not answer. The result is plain data.
 */
#ifndef MOBILITY_INVENTORY_H
#define MOBILITY_INVENTORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mobility/question.h"
#include "transport/base/err.h"
#include "transport/base/mem.h"

#define INVENTORY_DISKS_MAX 256u   /* more are left out, and `truncated` says so */
#define INVENTORY_VOLUMES_MAX 256u /* per disk */
#define INVENTORY_MOUNTS_MAX 1024u

/* A set of disks by their index in struct inventory. */
struct inventory_set {
    uint64_t bits[INVENTORY_DISKS_MAX / 64];
};

struct inventory_volume {
    char device[128]; /* "/dev/vda1", "/dev/mapper/vg-root"; the disk itself where it holds a file system
                         directly */
    dev_t devno;
    uint64_t start_bytes; /* within the disk; 0 with length 0 where it is stacked */
    uint64_t length_bytes;
    char fs_type[32]; /* as libblkid names it: "ext4", "xfs", "btrfs", "swap", "LVM2_member"; "" unknown */
    char fs_uuid[64];
    char label[128];
    char **mount_points; /* in mount order */
    size_t mount_count;
    uint64_t used_bytes; /* as statvfs says; 0 where not mounted */
};

struct inventory_disk {
    char key[256];    /* stable over reboots: "wwid:...", "serial:...", "loop:/path", "dev:vda" */
    char name[64];    /* "vda" */
    char device[128]; /* "/dev/vda" */
    dev_t devno;
    uint64_t size_bytes;
    uint32_t logical_sector_bytes;
    uint32_t physical_sector_bytes;
    char model[128];
    char table[16]; /* "gpt", "dos", "" */
    bool trackable;
    char reason[160];    /* why not; "" */
    bool volatile_cache; /* completed writes may be lost by a power failure until a flush */
    uint64_t sequence;   /* the kernel's number of what is behind the name (diskseq); 0: a kernel without it */
    bool is_root;        /* the root file system lies on it */
    bool is_loop;
    char backing_file[256]; /* of a loop disk */
    struct inventory_volume *volumes;
    size_t volume_count;
};

/* One mounted file system that lies on at least one disk of the inventory, under its first mount point. */
struct inventory_mount {
    char *path;
    dev_t devno; /* of the file system (st_dev), anonymous for btrfs */
    char fs_type[32];
    bool read_only;
    struct inventory_set disks;
};

struct inventory {
    struct inventory_disk *disks; /* by name */
    size_t disk_count;
    struct inventory_mount *mounts; /* in mount order, each file system once */
    size_t mount_count;
    bool truncated;
    char unanswered[QUESTION_WHOM_MAX]; /* the first device or mount point that did not answer; "": all did */
    uint64_t waited_usec;               /* for those that did not */
    atomic_uint references;
};

/* Where to look; NULL members stand for the real places. Tests give a tree of their own. */
struct inventory_source {
    const char *sys;       /* "/sys" */
    const char *dev;       /* "/dev" */
    const char *mountinfo; /* "/proc/self/mountinfo" */
};

int inventory_scan(const struct inventory_source *source, struct inventory **ret_inventory, struct err *err);
/* Behind the name of this disk is still what was there when it was looked at. */
bool inventory_disk_is_current(const struct inventory_disk *d);
/* Another owner of the same inventory, which nobody changes any more; each frees it. Any thread. */
struct inventory *inventory_ref(struct inventory *inventory);
void inventory_free(struct inventory *inventory); /* NULL allowed */
DEFINE_AUTO(inventory, inventory_free)

/* NULL when there is no such disk now. */
const struct inventory_disk *inventory_find(const struct inventory *inventory, const char *key);
/* Which disks the file or folder at path lies on (empty: none of these, as for tmpfs and network file
 * systems). */
void inventory_disks_of_path(const struct inventory *inventory, const struct inventory_source *source, const char *path,
    struct inventory_set *ret_set);
/* Which disks the backing file of a loop disk lies on; empty for other disks. */
void inventory_disks_below(const struct inventory *inventory, const struct inventory_source *source,
    const struct inventory_disk *disk, struct inventory_set *ret_set);

bool inventory_set_has(const struct inventory_set *set, size_t disk_index);
void inventory_set_add(struct inventory_set *set, size_t disk_index);
bool inventory_set_overlaps(const struct inventory_set *a, const struct inventory_set *b);
/* True when two inventories tell the same story (used bytes apart): whether the hub needs a new one. */
bool inventory_equal(const struct inventory *a, const struct inventory *b);

#endif
