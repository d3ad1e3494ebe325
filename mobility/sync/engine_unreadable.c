/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks that the source could not read. The vault keeps their old content, so each point says how many of them its image has, and
 * which, until they can be read again: they stay in a set of the disk, are tried again now and then, and are put into each open slot of
 * the retained changes, so that an agent that takes over begins by reading them.
 *
 * Trying is bounded, because a failing disk can take seconds to say no: a few granules at a time, first after a second, then
 * at doubling intervals. Once some can be read (a path has come back, say) the others follow without a pause, in steps that keep no
 * point waiting for long. What could be read is closed by a progress mark: that is a step of its own, not part of a cycle, for nothing of
 * this may lengthen a freeze. A block that was written since is read with the next round anyway.
 */
#include "mobility/sync/engine_internal.h"

#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"

#define RETRY_FIRST_USEC (1 * USEC_PER_SEC)
#define RETRY_MAX_USEC (300 * USEC_PER_SEC)
#define RETRY_RANGES 16u
#define HEAL_RANGES 1024u
#define HEAL_USEC (2 * USEC_PER_SEC) /* one step, without what is being read then */
#define RETRY_RANGE_BYTES 65536u
/* Of the set: as much as is read at once. With the granules of a disk of more than 32 TiB nothing that is read would cover one. */
#define BAD_SHIFT_MAX 16u

static void tell_bad(struct engine *e, struct engine_disk *d, const struct reader_piece *p)
{
    engine_event(e, "error", "unreadable_blocks",
        "replace the disk; until then the copy keeps the old content of these blocks",
        "disk %s cannot be read at byte %llu: %s", d->key, (unsigned long long)p->start, strerror(p->sys_errno));
    d->bad_pause_usec = RETRY_FIRST_USEC;
    d->bad_retry_usec = clock_mono_usec() + d->bad_pause_usec;
    d->bad_cursor = 0;
    d->heals = false;
}

static int new_set(const struct engine_disk *d, struct dirty **ret_set, struct err *err)
{
    uint64_t size = tracker_disk_size_bytes(d->tracked);
    unsigned shift = tracker_disk_granule_shift(d->tracked);

    if (shift > BAD_SHIFT_MAX && dirty_new(size, BAD_SHIFT_MAX, ret_set, NULL) == 0) /* a disk may be too large */
        return 0;
    return dirty_new(size, shift, ret_set, err);
}

/* Of sets whose granules need not be the same. */
static int add_all(struct dirty *to, const struct dirty *from, struct err *err)
{
    uint64_t cursor = 0, start, length;

    while (dirty_next(from, &cursor, 0, &start, &length) > 0)
        if (dirty_set(to, start, length, err) < 0)
            return -1;
    return 0;
}

int engine_unreadable(struct engine *e, struct engine_disk *d, const struct reader_piece *p, struct err *err)
{
    if (!d->bad && new_set(d, &d->bad, err) < 0)
        return -1;
    if (dirty_is_empty(d->bad))
        tell_bad(e, d, p);
    if (dirty_set(d->bad, p->start, p->length, err) < 0)
        return -1;
    return dirty_set(retained_open_set(e->retained, engine_index(e, d)), p->start, p->length, err);
}

void engine_readable(struct engine *e, struct engine_disk *d, const struct reader_piece *p)
{
    if (!d->bad || dirty_is_empty(d->bad))
        return;
    dirty_clear(d->bad, p->start, p->length);
    if (dirty_is_empty(d->bad))
        engine_event(e, "info", "readable_again", "", "all blocks of disk %s could be read again", d->key);
}

static bool waits_for_retry(const struct engine_disk *d)
{
    return d->attached && d->swept && d->bad && !dirty_is_empty(d->bad);
}

uint64_t engine_unreadable_wake(const struct engine *e)
{
    uint64_t at = UINT64_MAX;

    for (unsigned i = 0; i < MARK_DISKS_MAX; i++)
        if (waits_for_retry(&e->disks[i]) && e->disks[i].bad_retry_usec < at)
            at = e->disks[i].bad_retry_usec;
    return at;
}

struct retry {
    struct engine *e;
    struct engine_disk *d;
    unsigned ranges;
    uint64_t deadline_usec;
};

static int next_range(void *arg, unsigned *ret_disk, uint64_t *ret_start, uint64_t *ret_length)
{
    struct retry *r = arg;

    if (r->ranges == 0 || clock_mono_usec() > r->deadline_usec)
        return 0;
    if (dirty_next(r->d->bad, &r->d->bad_cursor, RETRY_RANGE_BYTES, ret_start, ret_length) == 0) {
        r->d->bad_cursor = 0; /* the next turn */
        r->ranges = 0;
        return 0;
    }
    *ret_disk = engine_index(r->e, r->d);
    r->ranges--;
    return 1;
}

static int read_some(struct engine *e, struct engine_disk *d, struct err *err)
{
    struct retry r = {.e = e,
        .d = d,
        .ranges = d->heals ? HEAL_RANGES : RETRY_RANGES,
        .deadline_usec = clock_mono_usec() + HEAL_USEC};

    engine_frame(e, true);
    changeset_set_level(e->set, engine_pace_level(e));
    if (reader_run(e->reader, next_range, &r, engine_take_change, e, err) < 0)
        return -1;
    engine_unreadable_say(e);
    return changeset_is_empty(e->set) ? 0
                                      : changeset_close(e->set, MARK_PROGRESS, 0, clock_utc_usec(), NULL, NULL, err);
}

static void plan_next_retry(struct engine_disk *d, bool heals)
{
    d->heals = heals;
    d->bad_pause_usec = heals                                    ? RETRY_FIRST_USEC
                        : 2 * d->bad_pause_usec < RETRY_MAX_USEC ? 2 * d->bad_pause_usec
                                                                 : RETRY_MAX_USEC;
    d->bad_retry_usec = clock_mono_usec() + (heals ? 0 : d->bad_pause_usec);
}

int engine_unreadable_retry(struct engine *e, struct err *err)
{
    uint64_t now = clock_mono_usec();

    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        struct engine_disk *d = &e->disks[i];
        uint64_t before;
        int r;

        if (!waits_for_retry(d) || now < d->bad_retry_usec)
            continue;
        before = dirty_bytes(d->bad);
        r = read_some(e, d, err);
        plan_next_retry(d, dirty_bytes(d->bad) < before);
        if (r < 0)
            d->resend = true; /* what could be read, and may not be on its way, is in the open slot still */
        else if (dirty_is_empty(d->bad))
            engine_point_now(e); /* one that has all of it, whatever the interval */
        return r < 0 ? -1 : 1;
    }
    return 0;
}

int engine_unreadable_keep(struct engine *e, struct err *err)
{
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        const struct engine_disk *d = &e->disks[i];

        if (d->attached && d->bad && add_all(retained_open_set(e->retained, i), d->bad, err) < 0)
            return -1;
    }
    return 0;
}

static bool has_bad(const struct engine_disk *d)
{
    return d && d->attached && d->bad && !dirty_is_empty(d->bad);
}

static uint64_t all_blocks(const struct engine *e, unsigned *ret_disks)
{
    uint64_t blocks = 0;

    *ret_disks = 0;
    for (unsigned i = 0; i < MARK_DISKS_MAX; i++) {
        if (!has_bad(&e->disks[i]))
            continue;
        blocks += (dirty_bytes(e->disks[i].bad) + MARK_BLOCK - 1) / MARK_BLOCK;
        (*ret_disks)++;
    }
    return blocks;
}

static uint32_t list_disk(const struct engine_disk *d, struct mark_range *ranges, uint32_t room)
{
    uint64_t cursor = 0, start, length;
    uint32_t count = 0;

    while (count < room && dirty_next(d->bad, &cursor, 0, &start, &length) > 0)
        ranges[count++] = (struct mark_range){.disk = d->number, .start = start, .length = length};
    return count;
}

/* Up to as many as a mark lists. */
static uint32_t count_ranges(const struct engine_disk *d)
{
    struct mark_range ranges[MARK_RANGES_MAX];

    return has_bad(d) ? list_disk(d, ranges, MARK_RANGES_MAX) : 0;
}

/* Of `left`, what the disks behind row i need, each at most its share: so that one that is full of holes does not hide the one
 * hole of another. */
static uint32_t reserved(const struct engine *e, uint32_t i, uint32_t left, unsigned disks)
{
    uint32_t sum = 0, share = left / disks;

    for (i++; disks > 1 && i < e->state.disk_count; i++) {
        uint32_t n = count_ranges(engine_disk_numbered(e, e->state.disks[i].number));

        sum += n < share ? n : share;
    }
    return sum;
}

void engine_unreadable_say(struct engine *e)
{
    struct mark_range ranges[MARK_RANGES_MAX];
    uint32_t count = 0, left;
    unsigned disks;
    uint64_t blocks = all_blocks(e, &disks);

    for (uint32_t i = 0; disks > 0 && i < e->state.disk_count; i++) { /* in order of number, as marks want them */
        const struct engine_disk *d = engine_disk_numbered(e, e->state.disks[i].number);

        if (!has_bad(d))
            continue;
        left = MARK_RANGES_MAX - count;
        count += list_disk(d, ranges + count, left - reserved(e, i, left, disks));
        disks--;
    }
    changeset_set_unreadable(e->set, blocks, ranges, count);
}

int engine_unreadable_resize(struct engine_disk *d, struct err *err)
{
    struct dirty *resized AUTO_OF(dirty) = NULL;

    if (!d->bad)
        return 0;
    if (new_set(d, &resized, err) < 0 || add_all(resized, d->bad, err) < 0)
        return -1;
    dirty_close(d->bad);
    d->bad = TAKE_PTR(resized);
    return 0;
}

void engine_unreadable_forget(struct engine_disk *d)
{
    dirty_close(TAKE_PTR(d->bad));
}
