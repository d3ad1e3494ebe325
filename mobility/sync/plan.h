/* SPDX-License-Identifier: Apache-2.0
 *
 * What of a disk has to be read for a full copy: everything except what a mounted ext4 or xfs calls free in its answer to
 * FS_IOC_GETFSMAP. Whatever is not known to be free is used: partition tables and gaps, btrfs, swap, raw disks, file systems
 * that are not mounted or read-only, everything below LVM, md and dm.
 *
 * Why leaving the free blocks out is right. The caller tracks writes since before plan_make began. A block that is free in
 * the answer and written afterwards is dirty, so it is sent then. A block that is free and never written again belongs to
 * nothing, with one exception: it was freed by a transaction that is not yet on the disk, so that a crash would give it back to
 * its file. Therefore each file system is synced after its answer: from then on the disk itself says that the block is free,
 * and every recovery point comes later than that. One that is read-only is never synced, and its disk may say otherwise for good: its journal was
 * not looked at (norecovery), or was given up after an error. It is read in full, also where ext4's superblock says that no recovery is needed: that speaks for
 * the disk, and the answer comes from bitmaps in memory that the kernel read before fsck mended those on the disk, which it may do below a read-only mount.
 *
 * Sources: linux/fsmap.h, ioctl_getfsmap(2).
 */
#ifndef MOBILITY_SYNC_PLAN_H
#define MOBILITY_SYNC_PLAN_H

#include <stdint.h>

#include "mobility/inventory.h"
#include "transport/base/err.h"
#include "transport/base/mem.h"

#define PLAN_EXTENTS_MAX (512u * 1024) /* of free space that is remembered; the rest is read */

struct plan_extent {
    uint64_t start;
    uint64_t length;
};

struct plan {
    struct plan_extent *extents; /* used, ascending, apart from each other, within the disk */
    size_t count;
    uint64_t size_bytes;   /* of the disk */
    uint64_t used_bytes;   /* sum of the lengths */
    unsigned file_systems; /* whose free space was left out */
};

/* May block for as long as a sync of the mounted file systems takes. A file system that gives no answer is read in full.
 * Fails only without memory. */
int plan_make(const struct inventory_disk *disk, struct plan **ret_plan, struct err *err);
/* A plan from free ranges in any order (they may overlap); they are rounded inwards to `align` bytes. */
int plan_from_free(uint64_t size_bytes, const struct plan_extent *free_ranges, size_t count, uint64_t align,
    struct plan **ret_plan, struct err *err);
void plan_free(struct plan *plan); /* NULL allowed */
DEFINE_AUTO(plan, plan_free)

/* The first used range at or behind `offset`, at most max_length bytes of it; 0 when there is none, else 1. Binary search. */
int plan_next(const struct plan *plan, uint64_t offset, uint64_t max_length, uint64_t *ret_start, uint64_t *ret_length);
/* Used bytes before `offset`. */
uint64_t plan_bytes_before(const struct plan *plan, uint64_t offset);

#endif
