/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's view of one disk's shared array (blocktrack_map.h): mapped memory that the program in the kernel sets bits in
 * while this side takes them out. diskmap_drain is the reader's half of the race that DESIGN.md argues about.
 *
 * One thread at a time per map; the kernel needs no lock.
 */
#ifndef MOBILITY_TRACK_DISKMAP_H
#define MOBILITY_TRACK_DISKMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "mobility/track/blocktrack_map.h"
#include "mobility/track/dirty.h"
#include "transport/base/err.h"

struct diskmap {
    struct bt_header *header;  /* NULL: not mapped */
    struct bt_flight *flights; /* the heads of the lanes among them */
    struct bt_sheet *sheets;
    struct flight_age *ages; /* of each place in flights */
    uint64_t *lines, *wide, *granules;
    uint64_t line_words; /* of lines and of wide */
    uint64_t granule_words;
    size_t mapped;
    bool look_everywhere; /* the next drain does not trust `lines`: the drain before may have been killed half-way */
};

/* What a new array begins with. */
struct diskmap_geometry {
    uint32_t dev; /* the kernel's number of the disk */
    uint64_t size_bytes;
    unsigned granule_shift;
    uint64_t incarnation;
    uint64_t disk_sequence;
    uint8_t boot_id[16];
};

uint64_t diskmap_pages(uint64_t size_bytes, unsigned granule_shift);
/* Maps an array of `pages` pages from fd and writes its header. -1: nothing is mapped. */
int diskmap_create(int fd, const struct diskmap_geometry *g, struct diskmap *ret_map, struct err *err);
/* Maps an array that an earlier process made. ERR_UNSUPPORTED: not of this format; ERR_CORRUPT: its numbers do not fit
 * `pages`, which is how many elements the kernel says it has. */
int diskmap_adopt(int fd, uint64_t pages, struct diskmap *ret_map, struct err *err);
void diskmap_unmap(struct diskmap *m);

/* Marks [start, end of disk) here, as the program would. */
void diskmap_set_from(struct diskmap *m, uint64_t start_bytes);
/* Writes that completed since the array was made, and their bytes. */
void diskmap_count_writes(const struct diskmap *m, uint64_t *ret_writes, uint64_t *ret_bytes);
/* As tracker_drain. */
int diskmap_drain(
    struct diskmap *m, struct dirty *round, struct dirty *pending, uint64_t *ret_granules, struct err *err);
/* Marks in `to` all that is set in `from`, an array of the same granule that no program writes to any more, and lists what is in flight there: its
 * completion may be told to `to`, or to nobody. Repeated after a kill it does the same. */
void diskmap_merge(struct diskmap *to, const struct diskmap *from);

#endif
