/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Marks what writes change. on_complete runs at block_rq_complete, in blk_update_request(): after the device has finished the
 * request (or this part of it) and before its submitter can see that. It sets one bit per granule of [__sector, nr_bytes), then
 * the bit of the line above, then counts a barrier if the request is one: in this order, which DESIGN.md builds on. on_issue runs
 * at block_rq_issue, before the device gets the request, and lists it as in flight until on_complete takes it off the list: the
 * kernel may skip a program for one event (recursion on a CPU), and what is on the list is read as if it had completed. A merged
 * discard has many ranges; while it is in flight they stand on a sheet of their own. on_submit counts flush and FUA bios before
 * the block layer drops their flags for disks without a volatile write cache.
 *
 * What cannot be recorded is counted in the disk's header as lost, beyond or passthrough; nothing is silent. Loops are bounded
 * for the verifier of 5.15, which has no bpf_loop.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "mobility/track/blocktrack_kernel.h"
#include "mobility/track/blocktrack_map.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct disk_map {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, BT_PAGE_BYTES);
};

/* bt_slot() of the kernel's number of a whole disk -> its array. A look-up here is a few instructions of the program itself; in a
 * hash of maps it took 46 ns. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, BT_SLOTS);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
    __array(values, struct disk_map);
} disks SEC(".maps");

static __always_inline void *page_of(void *map, __u64 page)
{
    __u32 key = (__u32)page;
    return bpf_map_lookup_elem(map, &key);
}

static __always_inline void set_word(__u64 *word, __u64 bits)
{
    /* The form that returns the old value is a full barrier; without it arm64 would be relaxed. */
    volatile __u64 old = __sync_fetch_and_or(word, bits);
    (void)old;
}

/* Sets bits [first, last] of one page (first <= last < BT_PAGE_BITS). */
static __always_inline void set_in_page(__u64 *words, __u64 first, __u64 last)
{
    __u64 word = first >> 6, last_word = last >> 6, bits = ~0ull << (first & 63);

#pragma clang loop unroll(disable)
    for (int i = 0; i < BT_SPAN_WORDS; i++) {
        if (word == last_word)
            bits &= ~0ull >> (63 - (last & 63));
        set_word(&words[word & (BT_PAGE_WORDS - 1)], bits);
        if (word == last_word)
            return;
        bits = ~0ull;
        word++;
    }
}

/* Sets bits [first, last] of the level that begins at page base; they lie in at most two pages. 0, or -1. */
static __always_inline int set_bits(void *map, __u64 base, __u64 first, __u64 last)
{
    __u64 page = first / BT_PAGE_BITS, end = last / BT_PAGE_BITS;
    __u64 *words = page_of(map, base + page);

    if (!words)
        return -1;
    set_in_page(words, first % BT_PAGE_BITS, page == end ? last % BT_PAGE_BITS : BT_PAGE_BITS - 1);
    if (page == end)
        return 0;
    words = page_of(map, base + end);
    if (!words)
        return -1;
    set_in_page(words, 0, last % BT_PAGE_BITS);
    return 0;
}

/* One bit of a level that is set already is left alone: then whoever clears it has yet to look at what is below, and what is
 * below was set before this look (set_word is a full barrier). */
static __always_inline int set_line(void *map, __u64 base, __u64 line)
{
    __u64 *words = page_of(map, base + line / BT_PAGE_BITS);
    __u64 bit = 1ull << (line & 63);

    if (!words)
        return -1;
    words += (line % BT_PAGE_BITS) >> 6;
    if (!(*(volatile __u64 *)words & bit))
        set_word(words, bit);
    return 0;
}

static __always_inline struct bt_header *header_of(void *map)
{
    return page_of(map, 0);
}

/* For counts that are rare. */
#define COUNT(map, counter)                                                                                            \
    do {                                                                                                               \
        struct bt_header *h_ = header_of(map);                                                                         \
        if (h_)                                                                                                        \
            __sync_fetch_and_add(&h_->counter, 1);                                                                     \
    } while (0)

static __always_inline int mark_granules(void *map, const struct bt_lane *lane, __u64 first, __u64 last)
{
    __u64 summary = lane->summary_pages, line = first >> BT_LINE_SHIFT, last_line = last >> BT_LINE_SHIFT;

    if (last - first < BT_FINE_MAX) {
        if (set_bits(map, BT_FIRST_LINE_PAGE + 2 * summary, first, last) < 0)
            return -1;
    } else {
        COUNT(map, wide);
        if (set_bits(map, BT_FIRST_LINE_PAGE + summary, line, last_line) < 0)
            return -1;
    }
    return line == last_line ? set_line(map, BT_FIRST_LINE_PAGE, line)
                             : set_bits(map, BT_FIRST_LINE_PAGE, line, last_line);
}

static __always_inline void mark(void *map, const struct bt_lane *lane, __u64 start, __u64 bytes)
{
    __u64 shift = lane->granule_shift & 63, granules = lane->granules;
    __u64 first = start >> shift, last = (start + bytes - 1) >> shift;

    if (start + bytes > lane->size_bytes)
        COUNT(map, beyond);
    if (first >= granules)
        return;
    if (last >= granules)
        last = granules - 1;
    if (mark_granules(map, lane, first, last) < 0)
        COUNT(map, lost);
}

/* The lane of an array, if that is the disk's. */
static __always_inline struct bt_lane *lane_of(void *map, __u32 lane, __u32 dev)
{
    struct bt_lane *l = page_of(map, BT_FIRST_LANE_PAGE + lane);

    return l && l->owner == (BT_OWNER | dev) ? l : 0;
}

/* The disk's array, and in it the lane of that number; NULL: not tracked. */
static __always_inline void *array_of(__u32 dev, __u32 lane, struct bt_lane **ret_lane)
{
#pragma clang loop unroll(full)
    for (__u32 i = 0; i < BT_SLOT_PROBES; i++) {
        __u32 slot = bt_slot(dev, i);
        void *map = bpf_map_lookup_elem(&disks, &slot);
        struct bt_lane *l = map ? lane_of(map, lane, dev) : 0;
        if (l) {
            *ret_lane = l;
            return map;
        }
    }
    return 0;
}

/* Not inlined and global: the verifier looks at it once, not once per range of the loop that calls it. */
__attribute__((noinline)) int mark_range(__u32 dev, __u64 start, __u64 bytes)
{
    struct bt_lane *lane = 0;
    void *map = array_of(dev, 0, &lane);

    if (map && lane && bytes)
        mark(map, lane, start, bytes);
    return 0;
}

/* A merged discard has ranges that need not touch; its own sector and length describe none of them. The kernel counts them where
 * it counts segments, and lets drivers rely on it. Discards that touch are one range, however many bios they come in. */
static __always_inline int is_merged_discard(__u32 op, struct request *rq)
{
    return op == OP_DISCARD && rq->nr_phys_segments > 1;
}

/* 0 when all were marked. */
static __always_inline int mark_each_bio(__u32 dev, struct bio *bio)
{
#pragma clang loop unroll(disable)
    for (int i = 0; i < BT_DISCARD_RANGES; i++) {
        if (!bio)
            return 0;
        mark_range(dev, bio->bi_iter.bi_sector << 9, bio->bi_iter.bi_size);
        bio = bio->bi_next;
    }
    return bio ? -1 : 0;
}

static __always_inline __u32 dev_of(struct gendisk *disk)
{
    return ((__u32)disk->major << 20) | (__u32)disk->first_minor;
}

static __always_inline __u32 barrier_flags(void)
{
    return (1u << bpf_core_enum_value(enum req_flag_bits, __REQ_FUA)) |
           (1u << bpf_core_enum_value(enum req_flag_bits, __REQ_PREFLUSH));
}

static __always_inline void count_write(void *map, struct bt_flight *f, __u64 bytes)
{
    struct bt_header *h;

    if (f) {
        f->writes++;
        f->written += bytes;
        return;
    }
    h = header_of(map);
    if (!h)
        return;
    __sync_fetch_and_add(&h->writes, 1);
    __sync_fetch_and_add(&h->bytes, bytes);
}

static __always_inline void mark_request(
    void *map, const struct bt_lane *lane, __u32 dev, __u32 op, struct request *rq, __u64 bytes)
{
    if (op != OP_WRITE) {
        if (op == OP_DISCARD || op == OP_SECURE_ERASE || op == OP_WRITE_ZEROES)
            COUNT(map, discards);
        if (is_merged_discard(op, rq)) {
            if (mark_each_bio(dev, rq->bio) < 0)
                COUNT(map, lost);
            return;
        }
    }
    if (bytes)
        mark(map, lane, rq->__sector << 9, bytes);
    else if (op > OP_WRITE_ZEROES)
        COUNT(map, lost); /* a zone command over the whole device */
}

/* --- submission --------------------------------------------------------------------------------------------------------- */

/* The first program of the object, and so the first that is loaded: a kernel that does not permit it says so before its verifier has
 * spent a tenth of a second on the others. */
SEC("fentry/submit_bio_noacct")
int BPF_PROG(on_submit, struct bio *bio)
{
    struct bt_lane *lane = 0;
    void *map;

    if (!(bio->bi_opf & barrier_flags()))
        return 0;
    map = array_of(dev_of(bio->bi_bdev->bd_disk), 0, &lane);
    if (map)
        COUNT(map, barriers_submitted);
    return 0;
}

/* --- requests in flight ---------------------------------------------------------------------------------------------- */

/* The verifier allows no arithmetic on the request's address itself, but a copy of its lower half is a number like any other; the
 * compiler must not put off that copy. What is compared and kept is the whole. */
static __always_inline __u32 place_of(struct request *rq)
{
    __u32 low;

    asm("%0 = %1" : "=w"(low) : "w"((__u32)(unsigned long)rq));
    return BT_PLACE(low);
}

static __always_inline struct bt_flight *probe(struct bt_lane *lane, __u32 place, __u32 i)
{
    return (struct bt_flight *)lane + ((place + i) & (BT_FLIGHTS_PER_PAGE - 1));
}

/* Where the request is listed, or NULL. The head of the lane is never taken for one. */
static __always_inline struct bt_flight *find_flight(struct bt_lane *lane, __u32 place, struct request *rq)
{
#pragma clang loop unroll(full)
    for (__u32 i = 0; i < BT_PROBES; i++) {
        struct bt_flight *f = probe(lane, place, i);
        if (*(volatile __u64 *)&f->request == (__u64)(unsigned long)rq)
            return f;
    }
    return 0;
}

static __always_inline struct bt_flight *claim_flight(struct bt_lane *lane, __u32 place, struct request *rq)
{
#pragma clang loop unroll(full)
    for (__u32 i = 0; i < BT_PROBES; i++) {
        struct bt_flight *f = probe(lane, place, i);
        if (__sync_val_compare_and_swap(&f->request, 0, (__u64)(unsigned long)rq) == 0)
            return f;
    }
    return 0;
}

static __always_inline struct bt_sheet *sheet_of(void *map, __u32 number)
{
    return page_of(map, BT_FIRST_SHEET_PAGE + (number - 1) % BT_SHEETS);
}

/* The number of a sheet that is the request's from now on; 0: there is none left. */
static __always_inline __u32 claim_sheet(void *map, struct request *rq, struct bt_sheet **ret_sheet)
{
#pragma clang loop unroll(disable)
    for (__u32 number = 1; number <= BT_SHEETS; number++) {
        struct bt_sheet *sheet = sheet_of(map, number);
        if (sheet && __sync_val_compare_and_swap(&sheet->request, 0, (__u64)(unsigned long)rq) == 0) {
            *ret_sheet = sheet;
            return number;
        }
    }
    return 0;
}

static __always_inline void release_sheet(void *map, struct bt_flight *f)
{
    struct bt_sheet *sheet = f->sheet ? sheet_of(map, f->sheet) : 0;

    if (sheet)
        (void)__sync_lock_test_and_set(&sheet->request, 0);
    f->sheet = 0;
}

/* 0 when all ranges are on it. */
static __always_inline int fill_sheet(struct bt_sheet *sheet, struct bio *bio)
{
    __u32 i;

#pragma clang loop unroll(disable)
    for (i = 0; i < BT_DISCARD_RANGES; i++) {
        if (!bio)
            break;
        sheet->start[i] = bio->bi_iter.bi_sector << 9;
        sheet->bytes[i] = bio->bi_iter.bi_size;
        bio = bio->bi_next;
    }
    sheet->count = i;
    return bio ? -1 : 0;
}

/* From the first of its ranges to the last one, and all that lies between. 0 when all ranges are in it. */
static __always_inline int list_hull(struct bt_flight *f, struct bio *bio)
{
    __u64 first = ~0ull, end = 0;

#pragma clang loop unroll(disable)
    for (int i = 0; i < BT_DISCARD_RANGES; i++) {
        __u64 start, stop;
        if (!bio)
            break;
        start = bio->bi_iter.bi_sector << 9;
        stop = start + bio->bi_iter.bi_size;
        first = start < first ? start : first;
        end = stop > end ? stop : end;
        bio = bio->bi_next;
    }
    f->start = first;
    f->bytes = end - first;
    return bio ? -1 : 0;
}

/* Not inlined, for it is rare: it would take registers from the writes. */
static __attribute__((noinline)) int list_ranges(void *map, struct bt_flight *f, struct request *rq)
{
    struct bt_sheet *sheet = 0;
    __u32 number = claim_sheet(map, rq, &sheet);

    f->sheet = number;
    return number && sheet ? fill_sheet(sheet, rq->bio) : list_hull(f, rq->bio);
}

/* Marks all that is listed of a request whose completion, or a part of it, was not told. */
static __attribute__((noinline)) int mark_listed(void *map, __u32 dev, struct bt_flight *f)
{
    struct bt_sheet *sheet = f->sheet ? sheet_of(map, f->sheet) : 0;

    if (!sheet)
        return mark_range(dev, f->start, f->bytes);
#pragma clang loop unroll(disable)
    for (__u32 i = 0; i < BT_DISCARD_RANGES; i++) {
        if (i >= sheet->count)
            break;
        mark_range(dev, sheet->start[i], sheet->bytes[i]);
    }
    return 0;
}

/* The turn changes when all is there: whoever finds it changed has all of it due for a while. */
static __always_inline void fill_flight(void *map, struct bt_flight *f, struct request *rq, __u32 op)
{
    f->sector = rq->__sector;
    f->start = f->sector << 9;
    f->length = op == OP_FLUSH ? 0 : rq->__data_len;
    f->bytes = f->length;
    f->is_flush = op == OP_FLUSH;
    if (is_merged_discard(op, rq) && list_ranges(map, f, rq) < 0)
        COUNT(map, lost);
    f->turn++;
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(on_issue, struct request *rq)
{
    __u32 op = rq->cmd_flags & OP_MASK, place, dev;
    struct bt_lane *lane = 0;
    struct bt_flight *f;
    void *map;

    if ((!(op & 1) && op != OP_FLUSH) || op == OP_DRV_OUT)
        return 0;
    dev = dev_of(rq->q->disk);
    place = place_of(rq);
    map = array_of(dev, place / BT_FLIGHTS_PER_PAGE, &lane);
    if (!map || !lane)
        return 0;
    if (op == OP_FLUSH)
        COUNT(map, barriers);
    f = find_flight(lane, place, rq);
    if (f) { /* it has completed, and that was not seen */
        COUNT(map, overtaken);
        mark_listed(map, dev, f);
        release_sheet(map, f);
    } else {
        f = claim_flight(lane, place, rq);
    }
    if (f)
        fill_flight(map, f, rq, op);
    else
        COUNT(map, unlisted);
    return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(on_complete, struct request *rq, int error, unsigned int bytes)
{
    __u32 flags = rq->cmd_flags, op = flags & OP_MASK, place, dev;
    struct bt_lane *lane = 0;
    struct bt_flight *f;
    void *map;

    if (!(op & 1) && op != OP_FLUSH)
        return 0;
    dev = dev_of(rq->q->disk);
    place = place_of(rq);
    map = array_of(dev, place / BT_FLIGHTS_PER_PAGE, &lane);
    if (!map || !lane)
        return 0;
    if (op == OP_DRV_OUT) {
        COUNT(map, passthrough);
        return 0;
    }
    f = find_flight(lane, place, rq);
    if (op != OP_FLUSH)
        mark_request(map, lane, dev, op, rq, bytes);
    if (op != OP_FLUSH && bytes) /* the end of a flush sequence completes the request once more, without bytes */
        count_write(map, f, bytes);
    /* A flush was counted when it was issued, which is as good; a FUA write counts after it was marked. */
    if (op == OP_FLUSH ? !f : flags & barrier_flags())
        COUNT(map, barriers);
    if (f && bytes >= rq->__data_len) {
        /* Something else is listed than this event is about: the end of a flush sequence, which comes without bytes; the last part of a request; or a request
         * that used this memory before, where both its completion and the issue of this one were not told. What was told of it before was marked then; if it was
         * not told, this is the last chance. Two merged discards may begin alike and be as long. */
        if (op != OP_FLUSH && (f->length != bytes || f->sector != rq->__sector || f->sheet))
            mark_listed(map, dev, f);
        if (f->sheet)
            release_sheet(map, f);
        (void)__sync_lock_test_and_set(&f->request, 0);
    }
    return 0;
}
