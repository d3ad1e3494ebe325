/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads ranges of disks past the page cache, many at once. A request is cut into pieces that never cross a
 * multiple of 64 KiB; up to `depth` of them are in flight (kernel AIO on O_DIRECT descriptors; where that is
 * refused, one by one), each in a buffer of its own, so memory is depth x 64 KiB whatever is read. Pieces
 * arrive in the order in which they were read, not in that of the disk.
 *
 * What cannot be read is tried again in smaller steps down to one sector; what still fails is delivered as
 * unreadable, and the rest of the piece as data. A disk's last sectors, short of a granule, are read as they
 * are.
 *
 * One thread at a time per reader; calls block.
 */
#ifndef MOBILITY_CAPTURE_READER_H
#define MOBILITY_CAPTURE_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "mobility/track/dirty.h"
#include "transport/base/err.h"

#define READER_PIECE_BYTES 65536u
#define READER_DEPTH_MAX 256u

struct reader;

struct reader_piece {
    unsigned disk;    /* the number given to reader_add_disk */
    uint64_t start;   /* multiple of the sector */
    uint32_t length;  /* 1..READER_PIECE_BYTES, multiple of the sector, within one 64 KiB block */
    const void *data; /* aligned to 4096; good until the sink returns; NULL: unreadable */
    int sys_errno;    /* why, when data is NULL */
};
/* Takes one piece. -1 with err set ends the reading with that error. */
typedef int (*reader_sink)(void *arg, const struct reader_piece *piece, struct err *err);
/* Gives the next range to read (any length > 0, multiple of 512): 1, or 0 when there is no more. */
typedef int (*reader_source)(void *arg, unsigned *ret_disk, uint64_t *ret_start, uint64_t *ret_length);

/* depth 1..READER_DEPTH_MAX; 0: 32. */
int reader_new(unsigned depth, struct reader **ret_reader, struct err *err);
void reader_free(struct reader *r); /* NULL is allowed */
DEFINE_AUTO(reader, reader_free)

/* At most so many pieces are in flight from now on, also in a reading that goes on (from its source or sink); 0, or more than the reader was
 * made with: as many as that. */
void reader_set_depth(struct reader *r, unsigned depth);

/* Opens the block device (or file) read-only with O_DIRECT. ERR_EXISTS: the number is taken. */
int reader_add_disk(struct reader *r, unsigned disk, const char *path, struct err *err);
void reader_remove_disk(struct reader *r, unsigned disk);               /* unknown numbers are ignored */
uint64_t reader_disk_size_bytes(const struct reader *r, unsigned disk); /* as the device is now; 0: not added or gone */
uint32_t reader_disk_sector_bytes(const struct reader *r, unsigned disk); /* logical block size; 0: not added */

/* Reads all that the source gives (ranges are cut at the end of the disk). Returns 0 when all pieces were
 * delivered, unreadable ones included. -1: the sink's error, ERR_NOT_FOUND for a disk that was not added, or
 * ERR_UNAVAILABLE where a range lies behind the disk's end: it has shrunk, or is away (maybe for a moment only),
 * and not reading it is not the same as having read it.
 */
int reader_run(
    struct reader *r, reader_source source, void *source_arg, reader_sink sink, void *sink_arg, struct err *err);
/* The same for everything that is dirty in `set`. */
int reader_run_dirty(
    struct reader *r, unsigned disk, const struct dirty *set, reader_sink sink, void *sink_arg, struct err *err);

#endif
