/* SPDX-License-Identifier: Apache-2.0
 *
 * The dirty set of one disk: a bitmap with one bit per granule (a power of two, 4 KiB or more) and a summary
 * above it, so that finding, moving and clearing a few dirty granules of a large disk costs as much as those
 * few.
 *
 * It lies in memory, or in a memory-mapped file. The file form is for what was drained from the tracker but
 * is not yet committed by the vault (P2): every change is in the page cache before the call returns, so it
 * outlives a process that is killed at any instruction (not a reboot: the tag is for noticing that). Bits are
 * recorded so that a kill in the middle of an operation leaves a superset, never a loss. Storage is reserved
 * before it is touched, so a full /run is ERR_NOSPACE and not a SIGBUS.
 *
 * One thread at a time per set. Offsets and lengths are bytes of the disk.
 */
#ifndef MOBILITY_TRACK_DIRTY_H
#define MOBILITY_TRACK_DIRTY_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"

#define DIRTY_SHIFT_MIN 12u /* 4 KiB */
#define DIRTY_SHIFT_MAX 30u

struct dirty;

/* What a dirty file belongs to. The owner fills it (tracker_disk_tag does it for a tracked disk); a file
 * whose tag, size or granule differs is not continued. */
struct dirty_tag {
    uint8_t boot_id[16];
    uint64_t incarnation; /* of the tracker's own bitmap of this disk: both must have lived on together */
    uint64_t owner;       /* free for the caller, 0 if not needed */
};

/* A set in memory, empty. */
int dirty_new(uint64_t size_bytes, unsigned granule_shift, struct dirty **ret_dirty, struct err *err);
/* A set in the file at path (made if absent, mode 0600). *ret_resumed: the file was there, whole, with the
 * same size, granule and tag, and its bits are kept; otherwise it starts empty. The file is locked:
 * ERR_CONFLICT when another process has it open. */
int dirty_open(const char *path, uint64_t size_bytes, unsigned granule_shift, const struct dirty_tag *tag,
    struct dirty **ret_dirty, bool *ret_resumed, struct err *err);
void dirty_close(struct dirty *d); /* frees; a file stays where it is; NULL is allowed */
DEFINE_AUTO(dirty, dirty_close)

uint64_t dirty_size_bytes(const struct dirty *d);
unsigned dirty_granule_shift(const struct dirty *d);

/* Marks every granule that the range touches; what lies behind the end of the disk is ignored. Memory sets
 * never fail. */
int dirty_set(struct dirty *d, uint64_t start, uint64_t length, struct err *err);
int dirty_set_all(struct dirty *d, struct err *err);
/* Marks in `d` all that is dirty in `from` (same granule; granules behind the end of d are ignored). */
int dirty_or(struct dirty *d, const struct dirty *from, struct err *err);
/* Unmarks the granules that lie wholly inside the range (the last, short granule of the disk counts as
 * whole). */
void dirty_clear(struct dirty *d, uint64_t start, uint64_t length);
/* Unmarks in `d` all that is dirty in `what`. */
void dirty_subtract(struct dirty *d, const struct dirty *what);
void dirty_clear_all(struct dirty *d); /* storage is given back */
/* Changes the size of the disk. New granules are clean, those cut off are forgotten. */
int dirty_resize(struct dirty *d, uint64_t size_bytes, struct err *err);

bool dirty_is_empty(const struct dirty *d);
bool dirty_test(const struct dirty *d, uint64_t offset);
uint64_t dirty_count(const struct dirty *d); /* granules; O(dirty) */
uint64_t dirty_bytes(const struct dirty *d); /* their bytes, the last one cut at the end of the disk */

/* Walks the dirty ranges in ascending order, joined, at most max_length bytes each (0: no bound; else a
 * multiple of the granule). *cursor starts at 0 and is moved behind what was returned; ranges are cut where
 * they cross a multiple of max_length. Returns 1 with a range, 0 at the end. The set may change between
 * calls; bits set behind the cursor are then not seen. */
int dirty_next(const struct dirty *d, uint64_t *cursor, uint64_t max_length, uint64_t *ret_start, uint64_t *ret_length);

/* For the tracker: marks the 64 granules from number 64 * word on whose bits are set. */
int dirty_set_word(struct dirty *d, uint64_t word, uint64_t bits, struct err *err);

#endif
