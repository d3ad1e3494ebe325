/* SPDX-License-Identifier: Apache-2.0
 *
 * A workload that stamps each sector it writes (disk, sector, number of the write, hash), and the proof that an image of its disks
 * is one that a power failure could have left. It writes down when each write and each barrier was issued and when it was known
 * to be complete. Then
 *
 *   v may depend on u    if a barrier was issued after u was known to be complete, and v was issued after that barrier was known
 *                        to be complete (the barrier may be of any disk)
 *   an image is right    if no u is missing on which something in it may depend,
 *                        and none that was known to be complete at the moment which the point names.
 *
 * The times are those of the one who writes, not of the device: a device answers before the block layer tells, so its log alone
 * would find dependencies that nobody could have built on. The device's log (fusedisk.h) is the witness: each write and each
 * barrier must lie between the two moments that were written down here.
 *
 * Writers own ranges of their own, so the writes to one sector have an order. The first `stamped_bytes` of each disk are
 * stamped, the rest is noise.
 */
#ifndef TESTS_UNIT_MOBILITY_POWERFAIL_STAMPLOAD_H
#define TESTS_UNIT_MOBILITY_POWERFAIL_STAMPLOAD_H

#include <stdint.h>

#include "tests/unit/mobility/powerfail/fusedisk.h"

struct stampload;

struct stampload_config {
    unsigned disk_count;
    const char *paths[FUSEDISK_MAX]; /* the loop disks */
    const struct fusedisk *witness;
    uint64_t stamped_bytes, disk_bytes;
    unsigned seed;
    unsigned pause_usec; /* between the batches of one writer, at most */
};

/* Starts the writers. Fails the running test (cmocka) if it cannot. */
struct stampload *stampload_start(const struct stampload_config *config);
void stampload_stop(struct stampload *s); /* the log stays, for checks */
void stampload_free(struct stampload *s); /* NULL is allowed */

struct stampload_verdict {
    unsigned unordered; /* sectors whose missing write was one that something in the image may depend on */
    unsigned stale;     /* sectors whose missing write was complete before the moment of the point */
    unsigned invented;  /* sectors that hold what was never written to them */
    unsigned stamped;   /* sectors that hold what was written to them some time */
    char first[200];    /* says more of the first one; "" if all is well */
};
/* Looks at the image of all disks (stamped_bytes of each) at a point of that time. Points must come in their order. */
void stampload_check(
    struct stampload *s, const uint8_t *const *images, uint64_t held_utc_usec, struct stampload_verdict *ret_verdict);

struct stampload_counts {
    uint64_t writes, barriers, forced; /* forced: FUA writes, counted in both */
    unsigned unwitnessed;              /* what the device's log does not confirm */
};
void stampload_get_counts(struct stampload *s, struct stampload_counts *ret_counts);

#endif
