/* SPDX-License-Identifier: Apache-2.0
 *
 * What sysfs says about the disk with a device number. Nothing is kept between calls: a disk may vanish at any time.
 */
#ifndef MOBILITY_TRACK_WHOLEDISK_H
#define MOBILITY_TRACK_WHOLEDISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "transport/base/err.h"

#define WHOLEDISK_NAME_MAX 64

/* The whole disk of a disk's or partition's device number. ERR_NOT_FOUND. */
int wholedisk_of(dev_t dev, dev_t *ret_disk, struct err *err);
/* Kernel name of a disk, "sda", "nvme0n1". */
int wholedisk_name(dev_t disk, char name[WHOLEDISK_NAME_MAX], struct err *err);
uint64_t wholedisk_size_bytes(dev_t disk); /* 0: gone, or empty */
uint64_t wholedisk_sequence(dev_t disk);   /* the kernel's diskseq; 0: gone, or a kernel without it */
/* The block layer sends this disk flushes (it has a volatile write cache, or says so). */
bool wholedisk_has_write_cache(dev_t disk);
/* Something is put together over the disk or a partition of it (LVM, LUKS, a thin pool), through any number of levels, that takes writes and says of itself
 * that it has no write cache: the block layer ends flushes there, and nothing of them comes down. Its name in `name`. What cannot be told counts as such. */
bool wholedisk_is_below_write_through(dev_t disk, char name[WHOLEDISK_NAME_MAX]);
/* Writes and discards that the driver has and has not completed. -1: the kernel does not count them (queue/iostats), or the disk is gone. */
int wholedisk_writes_in_flight(dev_t disk);
/* Writes and discards that were completed since the disk came, of all its partitions. -1: as above. */
int wholedisk_writes_completed(dev_t disk, uint64_t *ret_count);
int wholedisk_bytes_written(dev_t disk, uint64_t *ret_bytes);
/* As tracker_is_trackable. */
int wholedisk_is_trackable(dev_t disk, struct err *err);
/* /proc/sys/kernel/random/boot_id as 16 bytes. */
int wholedisk_boot_id(uint8_t ret_boot_id[16], struct err *err);

#endif
