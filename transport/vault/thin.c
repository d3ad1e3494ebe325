/* SPDX-License-Identifier: Apache-2.0
 *
 * Retention, see thin.h. The list is walked from the newest point to the oldest: of each minute, hour and day the first one
 * met, its last, is the one that stays. Buckets are those of UTC, so the same points stay whenever this is asked. Which bucket a group point
 * is in is told by the time in its id: by their own times, members whose clocks differ would each keep another one of a bucket.
 */
#include "transport/vault/thin.h"

#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define MINUTE (60 * USEC_PER_SEC)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

#define TIER_COUNT 3
#define LIST_SHORT 4096u /* points: a list of 256 KiB */
#define LOT_SHARE 64u    /* of a longer one */

struct tier {
    uint64_t bucket_usec;
    uint64_t keep_usec;
    uint64_t last_bucket;
    bool any;
};

static bool tier_keeps(struct tier *t, uint64_t age_usec, uint64_t time_usec)
{
    uint64_t bucket = time_usec / t->bucket_usec;
    bool first = !t->any || bucket != t->last_bucket;
    t->any = true;
    t->last_bucket = bucket;
    return first && t->keep_usec != 0 && age_usec <= t->keep_usec;
}

static uint64_t age_of(const struct point *p, uint64_t now)
{
    return p->time_utc_usec < now ? now - p->time_utc_usec : 0;
}

static bool is_pinned(const uint64_t *pinned, size_t count, uint64_t sequence)
{
    size_t low = 0;
    while (count > 0) {
        size_t half = count / 2;
        if (pinned[low + half] < sequence) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
            if (pinned[low + half] == sequence)
                return true;
        }
    }
    return false;
}

/* Asks each tier: all of them have to see the point. */
static bool a_tier_keeps(struct tier levels[TIER_COUNT], uint64_t age, uint64_t time_usec)
{
    bool keep = false;
    for (size_t i = 0; i < TIER_COUNT; i++)
        keep = tier_keeps(&levels[i], age, time_usec) || keep;
    return keep;
}

static bool stays(const struct point *p, const struct thin_tiers *tiers, struct tier levels[TIER_COUNT],
    struct tier group_levels[TIER_COUNT], uint64_t now)
{
    uint64_t age = age_of(p, now);
    bool tagged = (p->more & POINT_TAGGED) != 0 && (tiers->tagged_usec == 0 || age <= tiers->tagged_usec);
    bool keep = a_tier_keeps(levels, age, p->time_utc_usec);
    if ((p->more & POINT_GROUPED) != 0)
        keep = a_tier_keeps(group_levels, age, point_group_time(p)) || keep;
    return keep || tagged || age <= tiers->all_usec;
}

/* A group point's bucket matters where it may go, and where the next older one may: that one stays if it is in another. */
size_t thin_unknown(const struct pointlist *points, const struct thin_tiers *tiers, uint64_t now_utc_usec,
    size_t *ret_places, size_t max)
{
    size_t n = 0;
    bool older_may_go = false;
    for (size_t i = 0; i < points->count && n < max; i++) {
        const struct point *p = &points->items[i];
        if ((p->more & POINT_GROUPED) == 0)
            continue;
        bool may_go = age_of(p, now_utc_usec) > tiers->all_usec;
        if ((may_go || older_may_go) && (p->more & POINT_GROUP_TIME) == 0)
            ret_places[n++] = i;
        older_may_go = may_go;
    }
    return n;
}

int thin_plan(const struct pointlist *points, const struct thin_tiers *tiers, uint64_t now_utc_usec,
    const uint64_t *pinned, size_t pinned_count, uint64_t **ret_drop, size_t *ret_count, struct err *err)
{
    struct tier levels[TIER_COUNT] = {{.bucket_usec = MINUTE, .keep_usec = tiers->minute_usec},
        {.bucket_usec = HOUR, .keep_usec = tiers->hour_usec}, {.bucket_usec = DAY, .keep_usec = tiers->day_usec}};
    struct tier group_levels[TIER_COUNT];
    memcpy(group_levels, levels, sizeof(levels));
    uint64_t *drop AUTO_FREE = mem_alloc(points->count + 1, sizeof(*drop));
    if (drop == NULL)
        return err_set(err, ERR_NOMEM, "no memory for retention");
    size_t at = points->count; /* filled from the back, so that it ascends */
    for (size_t i = points->count; tiers->all_usec != 0 && i > 0; i--) {
        const struct point *p = &points->items[i - 1];
        bool keep = stays(p, tiers, levels, group_levels, now_utc_usec);
        if (!keep && i != points->count && !is_pinned(pinned, pinned_count, p->sequence))
            drop[--at] = p->sequence;
    }
    *ret_count = points->count - at;
    for (size_t i = 0; i < *ret_count; i++)
        drop[i] = drop[at + i];
    *ret_drop = TAKE_PTR(drop);
    return 0;
}

bool thin_is_worth_it(size_t count, size_t drop, uint64_t waited_usec)
{
    return drop > 0 && (count <= LIST_SHORT || drop >= count / LOT_SHARE || waited_usec >= HOUR);
}
