/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only OR BSD-2-Clause)
 *
 * The memory that the program in the kernel and the agent share: one BPF array per disk, its elements pages of 4 KiB.
 *
 *   page 0                  struct bt_header
 *   16 pages  lanes         requests that were issued and have not completed; the first place of each page is struct bt_lane
 *   64 pages  sheets        the ranges of those among them that are merged discards
 *   S pages   lines         one bit per line of 512 granules: something in the line is dirty
 *   S pages   wide          one bit per line: all of the line is dirty (requests longer than BT_FINE_MAX granules)
 *   the rest  granules      one bit per granule
 *
 * S is bt_summary_pages(granules). Bit n of a level is bit n % 64 of its 64-bit word n / 64. Sizes change only with BT_FORMAT.
 *
 * A write of some thousand instructions between its two events finds little of this in the processor's caches. Therefore what an
 * event needs lies together: a place is one cache line, with the counts of the writes that went through it, and each page of places has
 * the geometry at its beginning. The arrays of all disks are found in one table without a hash chain: bt_slot.
 */
#ifndef MOBILITY_TRACK_BLOCKTRACK_MAP_H
#define MOBILITY_TRACK_BLOCKTRACK_MAP_H

#define BT_MAGIC 0x31304b434152544cull /* "LTRACK01" */
#define BT_FORMAT 3
#define BT_PAGE_BYTES 4096
#define BT_PAGE_WORDS (BT_PAGE_BYTES / 8)
#define BT_PAGE_BITS (BT_PAGE_BYTES * 8)
#define BT_LINE_SHIFT 9
#define BT_LINE_GRANULES (1 << BT_LINE_SHIFT)
#define BT_LINE_WORDS (BT_LINE_GRANULES / 64)
/* Longest request that is recorded granule by granule: 16 MiB at 4 KiB. Longer ones are discards and write-zeroes, up to
 * 4 GiB; by lines they cost at most 33 words, and rounding them to 2 MiB adds little to what they are. */
#define BT_FINE_MAX 4096
/* Words of one level that one request can touch in one page. */
#define BT_SPAN_WORDS 66
/* Ranges of one merged discard that are followed: NVMe allows no more, and virtio's driver asks for no more. */
#define BT_DISCARD_RANGES 256
/* Slots of the table of disks. A disk's array is in one of BT_SLOT_PROBES of them, wherever there was room when it was added. */
#define BT_SLOTS 4096
#define BT_SLOT_PROBES 4
/* Places for requests in flight on one disk, pages' heads among them. A request is looked for in BT_PROBES places of one page. */
#define BT_FLIGHTS 1024
#define BT_PROBES 4
/* Merged discards in flight whose ranges are known one by one. Of more than these the list has all that lies between their ranges. */
#define BT_SHEETS 64

/* The first of the places for a request: of the lower half of its address. BT_FLIGHTS is 2^10. */
#define BT_PLACE(low) ((unsigned int)(low)*0x9e3779b1u >> 22)
/* Instead of an address: a place or a sheet that the agent fills, for a request that was in flight on the array before this one. */
#define BT_CARRIED 1

/* One cache line. Only the request that it is taken by changes it. */
struct bt_flight {
    unsigned long long request; /* the kernel's address of it; 0: free */
    unsigned long long start;
    unsigned long long bytes;
    unsigned int turn; /* grows with each use of the place */
    unsigned int is_flush;
    unsigned long long writes;  /* that completed here */
    unsigned long long written; /* bytes of them */
    unsigned int length;        /* of the request, where `bytes` has what lies between its ranges, too */
    unsigned int sheet; /* number of the sheet that has its ranges, from 1 on; 0: there is none, start and bytes tell */
    unsigned long long sector; /* where the request began when it was issued; `start` may be that of another of its ranges */
};

/* The ranges of one merged discard, which need not touch and are in no order. */
struct bt_sheet {
    unsigned long long request; /* whose they are; 0: free */
    unsigned int count;
    unsigned int reserved[13];
    unsigned long long start[BT_DISCARD_RANGES];
    unsigned int bytes[BT_DISCARD_RANGES];
    unsigned char rest[BT_PAGE_BYTES - 64 - BT_DISCARD_RANGES * 12];
};

/* The geometry once more, at the head of each page of places. */
struct bt_lane {
    unsigned long long
        owner; /* BT_OWNER and the kernel's number of the disk: where a place has a request, and never one */
    unsigned long long granules;
    unsigned long long size_bytes;
    unsigned long long granule_shift;
    unsigned long long summary_pages;
    unsigned long long reserved[3];
};

#define BT_OWNER (1ull << 32)
#define BT_FLIGHTS_PER_PAGE (BT_PAGE_BYTES / 64)
#define BT_LANES (BT_FLIGHTS / BT_FLIGHTS_PER_PAGE)
#define BT_FIRST_LANE_PAGE 1
#define BT_FIRST_SHEET_PAGE (BT_FIRST_LANE_PAGE + BT_LANES)
#define BT_FIRST_LINE_PAGE (BT_FIRST_SHEET_PAGE + BT_SHEETS)

struct bt_header {
    unsigned long long magic;
    unsigned long long format;
    unsigned long long granules;
    unsigned long long size_bytes;
    unsigned long long granule_shift;
    unsigned long long summary_pages;
    unsigned long long incarnation;
    unsigned long long disk_sequence; /* the kernel's diskseq: another device under the same number has another one */
    unsigned char boot_id[16];
    unsigned long long acknowledged; /* of `lost`, by the agent */
    unsigned long long reserved[5];
    /* Counters, from offset 128 on: the program adds, the agent reads. */
    unsigned long long writes; /* of requests that had no place */
    unsigned long long bytes;
    unsigned long long discards;
    unsigned long long barriers;
    unsigned long long wide;
    unsigned long long beyond;
    unsigned long long passthrough;
    unsigned long long lost;
    unsigned long long barriers_submitted; /* counted before the block layer may drop them */
    unsigned long long unlisted;           /* requests for which there was no place in flights */
    unsigned long long overtaken; /* requests whose completion was found missing when their memory was used again */
};

/* Where the array of a disk may be in the table: for i from 0 on. */
static inline unsigned int bt_slot(unsigned int dev, unsigned int i)
{
    return ((dev * 0x9e3779b1u >> 20) + i) % BT_SLOTS;
}

static inline unsigned long long bt_summary_pages(unsigned long long granules)
{
    unsigned long long lines = (granules + BT_LINE_GRANULES - 1) >> BT_LINE_SHIFT;
    return lines ? (lines + BT_PAGE_BITS - 1) / BT_PAGE_BITS : 1;
}

static inline unsigned long long bt_total_pages(unsigned long long granules)
{
    unsigned long long pages = (granules + BT_PAGE_BITS - 1) / BT_PAGE_BITS;
    return BT_FIRST_LINE_PAGE + 2 * bt_summary_pages(granules) + (pages ? pages : 1);
}

#endif
