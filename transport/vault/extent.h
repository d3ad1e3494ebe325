/* SPDX-License-Identifier: Apache-2.0
 *
 * An extent: where the content of a range of a disk lies in the log. Disk and sector are packed into one ordered number,
 * the key, so that the block map of all disks of a machine is one sorted sequence of extents.
 *
 *   key = disk (10 bits) << 54 | sector (54 bits, of 512 bytes)
 *
 * An extent never leaves its disk. The record it points to may begin before it and end after it; its header tells.
 */
#ifndef TRANSPORT_VAULT_EXTENT_H
#define TRANSPORT_VAULT_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/log/record.h"

#define EXTENT_SECTOR_BITS 54u
#define EXTENT_SECTOR_MASK ((1ULL << EXTENT_SECTOR_BITS) - 1)
/* No disk is larger: 2^53 bytes (8 PiB). Keeps every sum of two offsets far away from 2^64. */
#define EXTENT_DISK_BYTES_MAX (1ULL << 53)
#define EXTENT_SECTORS_MAX 0x80000000u /* longer zero records become several extents */

#define EXTENT_ZERO 1u /* a zero record: there is no payload to read */
#define EXTENT_STORED_SHIFT 2u
#define EXTENT_STORED_UNIT 16u /* bytes: bits 2..14 of flags are the payload's size, rounded up to these */

struct extent {
    uint64_t key;
    uint64_t sequence; /* of the change set */
    uint32_t sectors;  /* >= 1 */
    uint32_t segment;
    uint32_t offset; /* of the record's header within its segment */
    uint16_t flags;
};

static inline uint64_t extent_key(uint32_t disk, uint64_t start_bytes)
{
    return ((uint64_t)disk << EXTENT_SECTOR_BITS) | (start_bytes / RECORD_SECTOR);
}

static inline uint64_t extent_end(const struct extent *e)
{
    return e->key + e->sectors;
}

static inline uint64_t extent_key_bytes(uint64_t key)
{
    return (key & EXTENT_SECTOR_MASK) * RECORD_SECTOR;
}

static inline uint32_t extent_key_disk(uint64_t key)
{
    return (uint32_t)(key >> EXTENT_SECTOR_BITS);
}

/* How many bytes to read for the payload, a little more than it has. */
static inline uint32_t extent_stored_bytes(const struct extent *e)
{
    return (uint32_t)(e->flags >> EXTENT_STORED_SHIFT) * EXTENT_STORED_UNIT;
}

/* The extent of a whole record (or of its first EXTENT_SECTORS_MAX sectors) that lies at segment/offset. */
static inline struct extent extent_from_record(
    const struct record *r, uint64_t sequence, uint32_t segment, uint32_t offset)
{
    uint64_t sectors = r->length / RECORD_SECTOR;
    uint32_t units = (r->stored + EXTENT_STORED_UNIT - 1) / EXTENT_STORED_UNIT;
    return (struct extent){.key = extent_key(r->disk, r->start),
        .sequence = sequence,
        .sectors = sectors > EXTENT_SECTORS_MAX ? EXTENT_SECTORS_MAX : (uint32_t)sectors,
        .segment = segment,
        .offset = offset,
        .flags = (uint16_t)((units << EXTENT_STORED_SHIFT) | (r->kind == RECORD_ZERO ? EXTENT_ZERO : 0u))};
}

/* Do both point to the very same record? */
static inline bool extent_same_record(const struct extent *a, const struct extent *b)
{
    return a->segment == b->segment && a->offset == b->offset && a->sequence == b->sequence;
}

/* Order in the log: the later one wins where two cover the same sector. */
static inline int extent_compare_age(const struct extent *a, const struct extent *b)
{
    if (a->sequence != b->sequence)
        return a->sequence < b->sequence ? -1 : 1;
    if (a->segment != b->segment)
        return a->segment < b->segment ? -1 : 1;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return 0;
}

#endif
