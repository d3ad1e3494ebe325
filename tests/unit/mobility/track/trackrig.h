/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk under the tracker, with the real program in the kernel and a bpffs of its own; and a shadow copy of the disk, which says what has
 * changed. Fails the running test where something does not work.
 */
#ifndef TESTS_UNIT_MOBILITY_TRACK_TRACKRIG_H
#define TESTS_UNIT_MOBILITY_TRACK_TRACKRIG_H

#include <stdint.h>

#include "mobility/track/blocktrack_map.h"
#include "mobility/track/tracker.h"
#include "tests/unit/mobility/track/loopdisk.h"

#define KIB 1024u
#define MIB (1024u * KIB)
#define GRANULE 4096u

struct trackrig {
    char dir[64], bpf[96];
    struct loopdisk disk;
    struct tracker_config config;
    struct tracker *tracker;
    struct tracker_disk *tracked;
    struct dirty *round;
    uint64_t disk_bytes;
    uint8_t *shadow, *now;
};

/* Over a disk that is there, which stays the rig's: random bytes at its begin, nothing marked, the shadow taken. */
void trackrig_init(struct trackrig *r, const struct loopdisk *disk);
void trackrig_done(struct trackrig *r);
/* Opens the tracker, as an agent that starts, and takes the disk. */
void trackrig_open(struct trackrig *r);
/* The shadow is the disk as it is now. */
void trackrig_remember(struct trackrig *r);
/* What is marked goes to `round` and is marked no longer. How many granules that were. */
uint64_t trackrig_drain(struct trackrig *r);
/* Every granule that differs from the shadow is in `round`; the shadow is taken anew. How many differ. */
unsigned trackrig_expect_superset(struct trackrig *r);
/* `round` has this range and nothing else. */
void trackrig_expect_marked(struct trackrig *r, uint64_t start, uint64_t length);

/* A descriptor of what is pinned under this name. */
int trackrig_pin(const struct trackrig *r, const char *name);
/* The kernel's number of a disk, as the tracker has it. */
uint32_t trackrig_key(const struct loopdisk *disk);
/* The array that the program and the agent share about a disk. */
int trackrig_array(const struct trackrig *r, const struct loopdisk *disk);

#endif
