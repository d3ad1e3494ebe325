/* SPDX-License-Identifier: Apache-2.0
 *
 * The payload of a mark record: it closes a change set and commits everything before it. A mark of kind
 * MARK_PROGRESS makes what was sent durable (initial replication, resynchronization and large backlogs advance by it) but
 * is not a recovery point. The payload is never compressed nor encrypted; the record's hash covers it.
 *
 *   off size
 *     0   2  version       1; 2 with a list of what could not be read, and only then
 *     2   1  kind          enum mark_kind
 *     3   1  flags         MARK_FROZEN | MARK_FIRST | MARK_ASKED
 *     4   4  disk_count    1..MARK_DISKS_MAX
 *     8   8  sequence      >= 1
 *    16   8  generation    >= 1
 *    24   8  epoch         >= 1
 *    32   8  time          microseconds since 1970 UTC: the moment at which the content held
 *    40  16  machine id
 *    56  16  group point id, zero = none; of version 8 (as a UUID): mark_group_time reads its time
 *    72   8  record_count  data and zero records of the change set
 *    80   8  changed_bytes sum of their lengths
 *    88  16  digest        record_digest over them
 *   104   8  unreadable_blocks  blocks of 4 KiB that the source could not read (their old content stays)
 *   112   2  tag_length    0..MARK_TAG_MAX
 *   114   2  range_count   version 1: zero; version 2: 1..MARK_RANGES_MAX
 *   116   4  zero
 *   120   .  tag, UTF-8, padded with zeros to a multiple of 8
 *         .  disk_count times: u32 number, u32 sector_bytes, u64 size_bytes, u16 name_length, 6 zero bytes,
 *            name (1..MARK_NAME_MAX bytes, padded with zeros to a multiple of 8)
 *         .  range_count times: u32 number of a disk above, 4 zero bytes, u64 start, u64 length (struct mark_range)
 */
#ifndef TRANSPORT_LOG_MARK_H
#define TRANSPORT_LOG_MARK_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/base/hash.h"
#include "transport/base/ident.h"
#include "transport/log/record.h"

#define MARK_DISKS_MAX 64u
#define MARK_NAME_MAX 63u
#define MARK_TAG_MAX 255u
#define MARK_RANGES_MAX 64u
#define MARK_BLOCK 4096u /* in which unreadable blocks are counted */
#define MARK_PAYLOAD_MAX 16384u

enum mark_kind { MARK_PROGRESS = 0, MARK_CRASH = 1, MARK_FILESYSTEM = 2, MARK_APPLICATION = 3 };
#define MARK_FROZEN 1u /* file systems were frozen for it */
#define MARK_FIRST 2u  /* first point after an initial replication or a resynchronization */
#define MARK_ASKED 4u  /* somebody asked for this point: a node that joins change sets keeps it */

struct mark_disk {
    uint32_t number;
    uint32_t sector_bytes;
    uint64_t size_bytes;
    char name[MARK_NAME_MAX + 1];
};

/* Bytes of a disk that the source could not read. Whole blocks of MARK_BLOCK, but for the end of the disk. */
struct mark_range {
    uint32_t disk;
    uint64_t start;
    uint64_t length;
};

struct mark {
    enum mark_kind kind;
    unsigned flags;
    uint64_t sequence;
    uint64_t generation;
    uint64_t epoch;
    uint64_t time_utc_usec;
    struct ident machine;
    struct ident group_point;
    uint64_t record_count;
    uint64_t changed_bytes;
    struct hash128 digest;
    uint64_t unreadable_blocks;
    char tag[MARK_TAG_MAX + 1];
    uint32_t disk_count;
    struct mark_disk disks[MARK_DISKS_MAX]; /* ascending by number */
    /* Which blocks could not be read: ascending, apart from each other, within the disks above. Where there are more ranges than
     * fit, or the source is of a version that did not list them, they have fewer blocks than unreadable_blocks. */
    uint32_t range_count;
    struct mark_range ranges[MARK_RANGES_MAX];
};

/* Appends a whole mark record (header and payload) to b. */
int mark_append(const struct mark *m, struct buf *b, struct err *err);
/* Decodes the payload of a RECORD_MARK whose hash is checked here too. ERR_CORRUPT, ERR_UNSUPPORTED (version, or a
 * kind or flag that this version does not know). */
int mark_decode(const struct record *r, const uint8_t *payload, struct mark *ret_mark, struct err *err);
bool mark_is_point(const struct mark *m);
/* Those of `unreadable_blocks` that no range has. */
uint64_t mark_unlisted_blocks(const struct mark *m);
/* Takes ranges out that its disks do not have, and cuts what lies behind the end of one: a source may have found them before a disk
 * changed. */
void mark_fit_ranges(struct mark *m);
/* The time in the id of its group point: of the clock of the member that coordinated it, so the same in the marks of all members. Microseconds since 1970 UTC,
 * in steps of 4 ms. False: it is of no group point, or the id has no time. */
bool mark_group_time(const struct mark *m, uint64_t *ret_utc_usec);
/* "progress", "crash", "filesystem", "application". */
const char *mark_kind_name(enum mark_kind kind);
int mark_kind_from_name(const char *name); /* -1: unknown */

#endif
