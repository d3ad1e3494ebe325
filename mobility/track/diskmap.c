/* SPDX-License-Identifier: Apache-2.0
 *
 * Draining one disk's array. Requests in flight come first: the program takes one off the list after it has set its bits, so it
 * is found in one of the two. The program sets granule (or wide) bits first and the line's bit after; this side clears the
 * line's bit first and looks at what is below after, with full barriers between. So a bit that this drain misses has a line
 * bit for the next one. Each word is written to the caller's sets before it is cleared here, and only the bits that were
 * written are cleared: a kill at any instruction, and an error, leave every bit in at least one of the two places.
 */
#include "mobility/track/diskmap.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

/* How long a request is taken for one that may have completed unseen at every drain; later at growing intervals only, so that
 * a completion that was in fact missed does not have its blocks read again for ever. */
#define YOUNG_USEC (2 * USEC_PER_SEC)

struct flight_age {
    uint32_t turn;
    uint64_t first_usec, next_usec;
};

static_assert(sizeof(struct bt_flight) == BT_PAGE_BYTES / BT_FLIGHTS_PER_PAGE, "flights fill their pages");
static_assert(sizeof(struct bt_lane) == sizeof(struct bt_flight), "a lane's head takes one place");
static_assert(offsetof(struct bt_lane, owner) == offsetof(struct bt_flight, request), "a head is found taken");
static_assert(sizeof(struct bt_sheet) == BT_PAGE_BYTES, "a sheet is one page");
static_assert(sizeof(struct bt_header) <= BT_PAGE_BYTES, "the header is one page");
static_assert(offsetof(struct bt_header, writes) == 128, "counters do not share a cache line with the geometry");

static uint64_t granules_of(uint64_t size_bytes, unsigned shift)
{
    return (size_bytes >> shift) + ((size_bytes & ((1ull << shift) - 1)) != 0);
}

uint64_t diskmap_pages(uint64_t size_bytes, unsigned granule_shift)
{
    return bt_total_pages(granules_of(size_bytes, granule_shift));
}

static int map_pages(int fd, uint64_t pages, struct diskmap *m, struct err *err)
{
    size_t bytes = (size_t)pages * BT_PAGE_BYTES;
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (base == MAP_FAILED)
        return err_sys(err, errno, "mapping the tracker's bitmap (%zu bytes)", bytes);
    mem_keep_from_children(base, bytes);
    memset(m, 0, sizeof(*m));
    m->header = base;
    m->mapped = bytes;
    m->ages = mem_alloc(BT_FLIGHTS, sizeof(*m->ages));
    if (m->ages)
        return 0;
    diskmap_unmap(m);
    return err_set(err, ERR_NOMEM, "tracker");
}

static void place_levels(struct diskmap *m)
{
    uint64_t granules = m->header->granules, summary = bt_summary_pages(granules);

    m->flights = (struct bt_flight *)((uint8_t *)m->header + BT_FIRST_LANE_PAGE * BT_PAGE_BYTES);
    m->sheets = (struct bt_sheet *)((uint8_t *)m->header + BT_FIRST_SHEET_PAGE * BT_PAGE_BYTES);
    m->lines = (uint64_t *)m->header + BT_FIRST_LINE_PAGE * BT_PAGE_WORDS;
    m->wide = m->lines + summary * BT_PAGE_WORDS;
    m->granules = m->wide + summary * BT_PAGE_WORDS;
    m->granule_words = (granules + 63) / 64;
    m->line_words = (granules + BT_LINE_GRANULES * 64 - 1) / (BT_LINE_GRANULES * 64);
}

static bool is_head(unsigned i)
{
    return i % BT_FLIGHTS_PER_PAGE == 0;
}

static struct bt_lane *lane_of(const struct bt_header *h, unsigned lane)
{
    return (struct bt_lane *)((uintptr_t)h + (BT_FIRST_LANE_PAGE + lane) * BT_PAGE_BYTES);
}

static void write_lanes(struct bt_header *h, uint32_t dev)
{
    const struct bt_lane lane = {.owner = BT_OWNER | dev,
        .granules = h->granules,
        .size_bytes = h->size_bytes,
        .granule_shift = h->granule_shift,
        .summary_pages = h->summary_pages};

    for (unsigned i = 0; i < BT_LANES; i++)
        *lane_of(h, i) = lane;
}

int diskmap_create(int fd, const struct diskmap_geometry *g, struct diskmap *ret_map, struct err *err)
{
    uint64_t granules = granules_of(g->size_bytes, g->granule_shift);
    struct bt_header *h;

    if (map_pages(fd, bt_total_pages(granules), ret_map, err) < 0)
        return -1;
    h = ret_map->header;
    h->format = BT_FORMAT;
    h->granules = granules;
    h->size_bytes = g->size_bytes;
    h->granule_shift = g->granule_shift;
    h->summary_pages = bt_summary_pages(granules);
    h->incarnation = g->incarnation;
    h->disk_sequence = g->disk_sequence;
    memcpy(h->boot_id, g->boot_id, sizeof(h->boot_id));
    write_lanes(h, g->dev);
    __atomic_store_n(&h->magic, BT_MAGIC, __ATOMIC_RELEASE);
    place_levels(ret_map);
    return 0;
}

static int check_header(const struct bt_header *h, uint64_t pages, struct err *err)
{
    if (h->magic != BT_MAGIC || h->format != BT_FORMAT)
        return err_set(err, ERR_UNSUPPORTED, "a tracker's bitmap of another format");
    if (h->granule_shift < DIRTY_SHIFT_MIN || h->granule_shift > DIRTY_SHIFT_MAX ||
        h->granules != granules_of(h->size_bytes, (unsigned)h->granule_shift) ||
        h->summary_pages != bt_summary_pages(h->granules) || bt_total_pages(h->granules) != pages)
        return err_set(err, ERR_CORRUPT, "a tracker's bitmap whose size does not fit its header");
    for (unsigned i = 0; i < BT_LANES; i++) {
        const struct bt_lane *l = lane_of(h, i);
        if (l->owner != lane_of(h, 0)->owner || l->granules != h->granules || l->size_bytes != h->size_bytes ||
            l->granule_shift != h->granule_shift || l->summary_pages != h->summary_pages)
            return err_set(err, ERR_CORRUPT, "a tracker's bitmap whose parts do not fit together");
    }
    return 0;
}

int diskmap_adopt(int fd, uint64_t pages, struct diskmap *ret_map, struct err *err)
{
    if (pages < 1)
        return err_set(err, ERR_CORRUPT, "an empty tracker's bitmap");
    if (map_pages(fd, pages, ret_map, err) < 0)
        return -1;
    if (check_header(ret_map->header, pages, err) < 0) {
        diskmap_unmap(ret_map);
        return -1;
    }
    place_levels(ret_map);
    ret_map->look_everywhere = true;
    return 0;
}

void diskmap_unmap(struct diskmap *m)
{
    if (m->header)
        (void)munmap(m->header, m->mapped);
    free(m->ages);
    memset(m, 0, sizeof(*m));
}

/* --- draining ------------------------------------------------------------------------------------------------------ */

struct drain {
    struct diskmap *map;
    struct dirty *round, *pending;
    uint64_t granules;
};

static int hand_out(struct drain *x, uint64_t word, uint64_t bits, struct err *err)
{
    if (x->pending && dirty_set_word(x->pending, word, bits, err) < 0)
        return -1;
    if (x->round && dirty_set_word(x->round, word, bits, err) < 0)
        return -1;
    x->granules += (uint64_t)__builtin_popcountll(bits);
    return 0;
}

static uint64_t mask_of_last(const struct diskmap *m, uint64_t word)
{
    uint64_t rest = m->header->granules - word * 64;
    return rest >= 64 ? ~0ull : (1ull << rest) - 1;
}

static int take_word(struct drain *x, uint64_t word, bool whole, struct err *err)
{
    uint64_t *at = &x->map->granules[word], bits = __atomic_load_n(at, __ATOMIC_SEQ_CST);
    uint64_t out = whole ? mask_of_last(x->map, word) : bits;

    if (out && hand_out(x, word, out, err) < 0)
        return -1;
    if (bits)
        (void)__atomic_fetch_and(at, ~bits, __ATOMIC_SEQ_CST);
    return 0;
}

static int take_line(struct drain *x, uint64_t line, bool whole, struct err *err)
{
    uint64_t word = line * BT_LINE_WORDS, end = word + BT_LINE_WORDS;

    for (; word < end && word < x->map->granule_words; word++)
        if (take_word(x, word, whole, err) < 0)
            return -1;
    if (whole)
        (void)__atomic_fetch_and(&x->map->wide[line / 64], ~(1ull << (line % 64)), __ATOMIC_SEQ_CST);
    return 0;
}

/* The 64 lines of one summary word. `wide` is loaded after the lines' bits are cleared: it is set before them. */
static int take_lines(struct drain *x, uint64_t i, struct err *err)
{
    uint64_t *at = &x->map->lines[i], lines = __atomic_load_n(at, __ATOMIC_RELAXED), wide, left;

    if (!lines && !x->map->look_everywhere)
        return 0;
    if (lines)
        (void)__atomic_fetch_and(at, ~lines, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wide = __atomic_load_n(&x->map->wide[i], __ATOMIC_SEQ_CST);
    left = x->map->look_everywhere ? ~0ull : lines | wide;
    for (; left; left &= left - 1) {
        unsigned bit = (unsigned)__builtin_ctzll(left);
        if (take_line(x, i * 64 + bit, wide >> bit & 1, err) < 0) {
            (void)__atomic_fetch_or(at, lines, __ATOMIC_SEQ_CST); /* for the next attempt */
            return -1;
        }
    }
    return 0;
}

/* True when the request in this place is to be handed out now. */
static bool flight_is_due(struct flight_age *age, uint32_t turn, uint64_t now)
{
    if (age->turn != turn || age->first_usec == 0) {
        *age = (struct flight_age){.turn = turn, .first_usec = now};
        return true;
    }
    if (now - age->first_usec < YOUNG_USEC)
        return true;
    if (now < age->next_usec)
        return false;
    age->next_usec = now + (now - age->first_usec);
    return true;
}

/* One range of a request in flight. 0, or -1. */
static int take_range(void *arg, uint64_t start, uint64_t bytes, struct err *err)
{
    struct drain *x = arg;
    unsigned shift = (unsigned)x->map->header->granule_shift;

    if (bytes == 0 || start >= x->map->header->size_bytes)
        return 0;
    if (x->pending && dirty_set(x->pending, start, bytes, err) < 0)
        return -1;
    if (x->round && dirty_set(x->round, start, bytes, err) < 0)
        return -1;
    x->granules += ((start + bytes - 1) >> shift) - (start >> shift) + 1;
    return 0;
}

typedef int range_fn(void *arg, uint64_t start, uint64_t bytes, struct err *err);

/* All ranges that are listed of a request, as long as `fn` returns 0. The program may put another request in their place meanwhile: then this
 * one has its bits set already. */
static int each_range(const struct diskmap *m, const struct bt_flight *f, range_fn *fn, void *arg, struct err *err)
{
    unsigned number = __atomic_load_n(&f->sheet, __ATOMIC_RELAXED), count;
    const struct bt_sheet *s;

    if (number == 0 || number > BT_SHEETS)
        return fn(arg, __atomic_load_n(&f->start, __ATOMIC_RELAXED), __atomic_load_n(&f->bytes, __ATOMIC_RELAXED), err);
    s = &m->sheets[number - 1];
    count = __atomic_load_n(&s->count, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < count && i < BT_DISCARD_RANGES; i++)
        if (fn(arg, __atomic_load_n(&s->start[i], __ATOMIC_RELAXED), __atomic_load_n(&s->bytes[i], __ATOMIC_RELAXED),
                err) < 0)
            return -1;
    return 0;
}

static int take_flights(struct drain *x, struct err *err)
{
    uint64_t now = clock_mono_usec();

    for (unsigned i = 0; i < BT_FLIGHTS; i++) {
        const struct bt_flight *f = &x->map->flights[i];
        if (is_head(i) || __atomic_load_n(&f->request, __ATOMIC_ACQUIRE) == 0)
            continue;
        if (flight_is_due(&x->map->ages[i], __atomic_load_n(&f->turn, __ATOMIC_RELAXED), now) &&
            each_range(x->map, f, take_range, x, err) < 0)
            return -1;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return 0;
}

int diskmap_drain(
    struct diskmap *m, struct dirty *round, struct dirty *pending, uint64_t *ret_granules, struct err *err)
{
    struct drain x = {.map = m, .round = round, .pending = pending};

    if (take_flights(&x, err) < 0)
        return -1;
    for (uint64_t i = 0; i < m->line_words; i++)
        if (take_lines(&x, i, err) < 0)
            return -1;
    m->look_everywhere = false;
    if (ret_granules)
        *ret_granules = x.granules;
    return 0;
}

/* --- setting from this side ---------------------------------------------------------------------------------------- */

static void set_bits(uint64_t *level, uint64_t first, uint64_t end)
{
    while (first < end) {
        uint64_t bits = ~0ull << (first % 64);
        if (first / 64 == (end - 1) / 64)
            bits &= ~0ull >> (63 - (end - 1) % 64);
        (void)__atomic_fetch_or(&level[first / 64], bits, __ATOMIC_SEQ_CST);
        first = (first / 64 + 1) * 64;
    }
}

static void set_range(struct diskmap *m, uint64_t first, uint64_t end)
{
    if (end > m->header->granules)
        end = m->header->granules;
    if (first >= end)
        return;
    set_bits(m->granules, first, end);
    set_bits(m->lines, first >> BT_LINE_SHIFT, ((end - 1) >> BT_LINE_SHIFT) + 1);
}

void diskmap_set_from(struct diskmap *m, uint64_t start_bytes)
{
    set_range(m, start_bytes >> m->header->granule_shift, m->header->granules);
}

static void merge_level(uint64_t *to, const uint64_t *from, uint64_t words)
{
    for (uint64_t i = 0; i < words; i++)
        if (from[i])
            (void)__atomic_fetch_or(&to[i], from[i], __ATOMIC_SEQ_CST);
}

static int set_listed(void *arg, uint64_t start, uint64_t bytes, struct err *err)
{
    struct diskmap *to = arg;
    unsigned shift = (unsigned)to->header->granule_shift;

    (void)err;
    if (bytes)
        set_range(to, start >> shift, ((start + bytes - 1) >> shift) + 1);
    return 0;
}

/* --- what is in flight, from one array to the next ------------------------------------------------------------------- */

static struct bt_flight *probe(const struct diskmap *m, uint64_t request, unsigned i)
{
    unsigned place = BT_PLACE(request), first = place & ~(BT_FLIGHTS_PER_PAGE - 1u);

    return &m->flights[first + ((place + i) & (BT_FLIGHTS_PER_PAGE - 1u))];
}

static bool is_listed(const struct diskmap *m, uint64_t request)
{
    for (unsigned i = 0; i < BT_PROBES; i++)
        if (__atomic_load_n(&probe(m, request, i)->request, __ATOMIC_ACQUIRE) == request)
            return true;
    return false;
}

/* Taken, so that the program leaves it alone, and nobody's yet, so that it is not looked at for a request. NULL: there is none. */
static struct bt_flight *claim(const struct diskmap *m, uint64_t request)
{
    for (unsigned i = 0; i < BT_PROBES; i++) {
        struct bt_flight *f = probe(m, request, i);
        unsigned long long none = 0;

        if (__atomic_compare_exchange_n(&f->request, &none, BT_CARRIED, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return f;
    }
    return NULL;
}

/* The number of a sheet with the same ranges, nobody's yet; 0: there is none left. One that has the request's number is another request's, whose
 * memory it is now. */
static unsigned carry_sheet(struct diskmap *to, const struct bt_sheet *from)
{
    for (unsigned number = 1; number <= BT_SHEETS; number++) {
        struct bt_sheet *s = &to->sheets[number - 1];
        unsigned long long none = 0;

        if (!__atomic_compare_exchange_n(&s->request, &none, BT_CARRIED, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            continue;
        memcpy(s->start, from->start, sizeof(s->start));
        memcpy(s->bytes, from->bytes, sizeof(s->bytes));
        __atomic_store_n(&s->count, from->count, __ATOMIC_RELEASE);
        return number;
    }
    return 0;
}

/* From the first of its ranges to the last one. */
static void list_hull(struct bt_flight *f, const struct bt_sheet *sheet)
{
    uint64_t first = UINT64_MAX, end = 0;

    for (unsigned i = 0; i < sheet->count && i < BT_DISCARD_RANGES; i++) {
        uint64_t stop = sheet->start[i] + sheet->bytes[i];

        first = sheet->start[i] < first ? sheet->start[i] : first;
        end = stop > end ? stop : end;
    }
    f->start = first;
    f->bytes = end > first ? end - first : 0;
}

/* It may complete meanwhile, or its memory be another request's that is listed too: then it is handed out for a while, and taken off by the next
 * completion in its memory. Where there is no place it has its bits set, as in the program. */
static void carry(struct diskmap *to, const struct diskmap *from, const struct bt_flight *old)
{
    const struct bt_sheet *sheet = old->sheet > 0 && old->sheet <= BT_SHEETS ? &from->sheets[old->sheet - 1] : NULL;
    struct bt_flight *f = is_listed(to, old->request) ? NULL : claim(to, old->request);

    if (!f)
        return;
    f->start = old->start;
    f->bytes = old->bytes;
    f->length = old->length;
    f->sector = old->sector;
    f->is_flush = old->is_flush;
    f->sheet = sheet ? carry_sheet(to, sheet) : 0;
    if (f->sheet > 0)
        __atomic_store_n(&to->sheets[f->sheet - 1].request, old->request, __ATOMIC_RELEASE);
    else if (sheet)
        list_hull(f, sheet);
    f->turn++;
    __atomic_store_n(&f->request, old->request, __ATOMIC_RELEASE);
}

/* Places and sheets that a merge took and was killed before it had filled them. */
static void free_carried(struct diskmap *m)
{
    for (unsigned i = 0; i < BT_FLIGHTS; i++) {
        struct bt_flight *f = &m->flights[i];

        if (is_head(i) || f->request != BT_CARRIED)
            continue;
        if (f->sheet > 0 && f->sheet <= BT_SHEETS)
            m->sheets[f->sheet - 1].request = BT_CARRIED;
        f->sheet = 0;
        __atomic_store_n(&f->request, 0, __ATOMIC_RELEASE);
    }
    for (unsigned i = 0; i < BT_SHEETS; i++)
        if (m->sheets[i].request == BT_CARRIED)
            __atomic_store_n(&m->sheets[i].request, 0, __ATOMIC_RELEASE);
}

void diskmap_merge(struct diskmap *to, const struct diskmap *from)
{
    uint64_t words = from->granule_words < to->granule_words ? from->granule_words : to->granule_words;
    uint64_t line_words = from->line_words < to->line_words ? from->line_words : to->line_words;

    free_carried(to);
    for (unsigned i = 0; i < BT_FLIGHTS; i++) {
        const struct bt_flight *f = &from->flights[i];
        if (is_head(i) || f->request == 0)
            continue;
        (void)each_range(from, f, set_listed, to, NULL);
        if (f->request != BT_CARRIED)
            carry(to, from, f);
    }
    merge_level(to->granules, from->granules, words);
    merge_level(to->wide, from->wide, line_words);
    to->look_everywhere = true;
}

void diskmap_count_writes(const struct diskmap *m, uint64_t *ret_writes, uint64_t *ret_bytes)
{
    *ret_writes = __atomic_load_n(&m->header->writes, __ATOMIC_SEQ_CST);
    *ret_bytes = __atomic_load_n(&m->header->bytes, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < BT_FLIGHTS; i++) {
        if (is_head(i))
            continue;
        *ret_writes += __atomic_load_n(&m->flights[i].writes, __ATOMIC_RELAXED);
        *ret_bytes += __atomic_load_n(&m->flights[i].written, __ATOMIC_RELAXED);
    }
}
