/* SPDX-License-Identifier: Apache-2.0
 *
 * Disks whose every move is known: files of a FUSE file system of the test, to put loop disks on. A process of its own serves them
 * from memory that it shares with the test. It can delay each request (so that later ones overtake it), let a write land in
 * two parts, fail to read what it was told is bad, or do nothing at all for a while; it notes when each write and flush came, when its content was there,
 * and when it was answered.
 *
 * A process and not a thread: the kernel closes a killed test's /dev/fuse only after all its threads have ended, and one
 * that waits for its own disk never would. The server dies with the thread that started it.
 *
 * Functions may be called from any thread after fusedisk_start. All fail the running test (cmocka) when they cannot do their part.
 */
#ifndef TESTS_UNIT_MOBILITY_POWERFAIL_FUSEDISK_H
#define TESTS_UNIT_MOBILITY_POWERFAIL_FUSEDISK_H

#include <stdbool.h>
#include <stdint.h>

#define FUSEDISK_MAX 4u
#define FUSEDISK_BAD_MAX 8u

struct fusedisk;

/* Mounts below dir (which must exist) and serves `count` files of size_bytes, zeros. The seed is that of the delays. */
struct fusedisk *fusedisk_start(const char *dir, unsigned count, uint64_t size_bytes, unsigned seed);
/* Unmounts and ends the server. Descriptors and loop disks on it are to be closed before; requests still under way fail. */
void fusedisk_stop(struct fusedisk *f);
int fusedisk_open(struct fusedisk *f, unsigned disk); /* a descriptor for reading and writing; the caller's */

/* Of 1000 requests, `permille` are delayed by up to max_usec before they are done, half of these again before they are
 * answered. 0, 0 at the start. */
void fusedisk_set_delays(struct fusedisk *f, unsigned permille, unsigned max_usec);
/* Reads that touch the range fail with EIO. Slot 0..FUSEDISK_BAD_MAX - 1; length 0: healed. */
void fusedisk_set_bad(struct fusedisk *f, unsigned slot, unsigned disk, uint64_t start, uint64_t length);

/* While it is held, no request is done or answered, as by a disk whose path is lost. */
void fusedisk_hold(struct fusedisk *f, bool held);

struct fusedisk_counts {
    uint64_t reads, writes, flushes;
    uint64_t overtaken; /* requests that were answered after one that came later */
    uint64_t failed;    /* reads answered with EIO */
};
void fusedisk_get_counts(struct fusedisk *f, struct fusedisk_counts *ret_counts);

/* The content of the disk now, as the server has it. */
const uint8_t *fusedisk_content(const struct fusedisk *f, unsigned disk);
/* When the last write whose second 32-bit word was `tag` came and was answered (CLOCK_MONOTONIC); false: none is noted (any more).
 */
bool fusedisk_find_write(const struct fusedisk *f, uint32_t tag, uint64_t *ret_start_nsec, uint64_t *ret_end_nsec);
/* Whether a flush of this disk came after one moment and was answered before the other. */
bool fusedisk_has_flush(const struct fusedisk *f, unsigned disk, uint64_t after_nsec, uint64_t before_nsec);

#endif
