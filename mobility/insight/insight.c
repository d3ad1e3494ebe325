/* SPDX-License-Identifier: Apache-2.0
 *
 * Buckets of a second, a ring of two minutes of them. A bucket remembers the last point that was closed before its first turned block,
 * so the alarm can name the one before the first of the attack. The habit is the average of turned blocks over the last hour.
 *
 * Where an attack begins is a change of rate, found as CUSUM does (Page, Continuous inspection schemes, 1954): everyday gzip has a few
 * blocks in a hundred that look random, and these must not date the attack back, where better points would be passed over. Each
 * second scores what turned beyond that part, and the beginning is where the sum up to now is highest.
 *
 * Blocks are seen when a point is made, all within a second or two. Where points are so far apart that a ring has less than three of them, what
 * was written between two is judged as a whole when the second one is closed, against a habit of its own.
 */
#include "mobility/insight/insight.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mobility/insight/blockclass.h"
#include "mobility/insight/classmap.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"

#define BUCKETS 120u
#define BUCKET_USEC USEC_PER_SEC
#define MINUTE_USEC (60 * USEC_PER_SEC)
#define HABIT_BUCKETS 3600.0

/* An attack: so many blocks (8 MiB) over so many seconds, this part of all that could be judged, and so much beyond the habit. */
#define TURNED_MIN 128u
#define SECONDS_MIN 3u
#define TURNED_PERCENT 30u
#define HABIT_FACTOR 8.0
/* Points that are further apart are not seen often enough for SECONDS_MIN. */
#define FAR_APART_USEC (BUCKETS * BUCKET_USEC / SECONDS_MIN)
/* What turns in some eight of them (HABIT_FACTOR) is a habit. */
#define HABIT_STRETCHES 60.0
/* So long without a turned block is before the attack. */
#define CALM_SECONDS 20u

/* As many of a hundred blocks may turn without an attack (blockclass.c). */
#define STRAY_PERCENT 10

struct bucket {
    uint64_t began_utc_usec;
    uint32_t judged, turned; /* blocks */
    /* Of the first block that turned. */
    uint64_t turned_utc_usec;
    struct insight_point point;
};

struct disk {
    bool used;
    uint32_t number;
    struct classmap *classes; /* NULL: not remembered */
    uint64_t saved_utc_usec;
    bool not_saved; /* said */
    struct bucket ring[BUCKETS];
    unsigned newest;
    double habit; /* turned blocks per bucket */
    /* What is written between two points. */
    struct insight_point after;
    struct bucket stretch, previous; /* since `after`, and before it */
    double stretch_habit;            /* turned blocks per stretch */
    struct insight_minute minute;
    uint64_t entropy_sum, entropy_count;
    bool minute_is_done;
    struct insight_minute done;
    bool alarmed, told;
    struct insight_alarm alarm;
    uint64_t last_attack_utc_usec; /* it looked like one then */
};

struct insight {
    char dir[400];
    uint64_t utc_usec;
    uint64_t interval_usec;
    struct insight_point made; /* the last one that was closed */
    struct disk *disks;        /* INSIGHT_DISKS_MAX */
};

int insight_new(const char *dir, struct insight **ret_insight, struct err *err)
{
    struct insight *i = mem_new(struct insight);

    if (i)
        i->disks = mem_alloc(INSIGHT_DISKS_MAX, sizeof(*i->disks));
    if (!i || !i->disks) {
        insight_free(i);
        return err_set(err, ERR_NOMEM, "no memory to look at what is written");
    }
    snprintf(i->dir, sizeof(i->dir), "%s", dir);
    *ret_insight = i;
    return 0;
}

void insight_free(struct insight *i)
{
    if (!i)
        return;
    for (unsigned n = 0; i->disks && n < INSIGHT_DISKS_MAX; n++)
        insight_clear_disk(i, n);
    free(i->disks);
    free(i);
}

void insight_set_disk(struct insight *i, unsigned index, uint32_t number, uint64_t size_bytes)
{
    struct disk *d = &i->disks[index];
    struct err err = ERR_INIT;
    char path[450];

    if (!d->used || d->number != number) {
        insight_clear_disk(i, index);
        d->used = true;
        d->number = d->minute.disk = number;
        d->after = i->made;
    }
    classmap_close(TAKE_PTR(d->classes));
    snprintf(path, sizeof(path), "%s/classes-%u", i->dir, number);
    if (classmap_open(path, size_bytes, &d->classes, &err) < 0)
        log_event(LOG_WARN, "classes_not_kept", LOG_E(&err));
}

void insight_clear_disk(struct insight *i, unsigned index)
{
    struct disk *d = &i->disks[index];

    classmap_close(d->classes);
    memset(d, 0, sizeof(*d));
}

static void profile(struct disk *d, uint32_t length, unsigned entropy, enum blockclass class)
{
    d->minute.changed_bytes += length;
    d->minute.incompressible_bytes += class >= BLOCK_HIGH ? length : 0;
    d->entropy_sum += (uint64_t)entropy * length / 512;
    d->entropy_count += length / 512;
}

static void note(const struct insight *i, struct bucket *b, bool turned)
{
    b->judged++;
    if (turned && b->turned++ == 0) {
        b->turned_utc_usec = i->utc_usec;
        b->point = i->made;
    }
}

void insight_add(struct insight *i, unsigned index, uint64_t start, const void *data, uint32_t length, bool first)
{
    struct disk *d = &i->disks[index];
    enum blockclass before, now;
    unsigned entropy = 0;
    bool turned;

    if (!d->used || length < 512)
        return;
    /* What counts about an old class is only whether it was low, and a copy has a whole disk of blocks to look at. */
    now = first ? blockclass_sampled(data, length) : blockclass_of(data, length, &entropy);
    if (!first)
        profile(d, length, entropy, now);
    if (!d->classes)
        return;
    before = classmap_get(d->classes, start);
    if (length >= BLOCKCLASS_MIN_BYTES || before == BLOCK_UNKNOWN)
        classmap_set(d->classes, start, now);
    if (first || length < BLOCKCLASS_MIN_BYTES || now == BLOCK_UNKNOWN)
        return;
    turned = before == BLOCK_LOW && now == BLOCK_UNIFORM;
    note(i, &d->ring[d->newest], turned);
    note(i, &d->stretch, turned);
    if (turned)
        d->minute.turned_bytes += length;
}

/* ---- time ---- */

/* Once a minute. A file system that is held still (sync/hold.h) takes it when it is given back. */
static void save_classes(struct disk *d, uint64_t utc_usec)
{
    struct err err = ERR_INIT;

    if (!d->classes || (utc_usec < d->saved_utc_usec + MINUTE_USEC && utc_usec >= d->saved_utc_usec))
        return;
    d->saved_utc_usec = utc_usec;
    if (classmap_save(d->classes, &err) == 0) {
        d->not_saved = false;
    } else if (err.sys_errno != EROFS && !d->not_saved) {
        d->not_saved = true;
        log_event(LOG_WARN, "classes_not_kept", LOG_E(&err));
    }
}

static void close_minute(struct disk *d, uint64_t minute_utc_usec)
{
    if (d->minute.minute_utc_usec == minute_utc_usec)
        return;
    if (d->minute.minute_utc_usec > 0 && d->minute.changed_bytes > 0) {
        d->minute.entropy_millibits = d->entropy_count ? (uint32_t)(d->entropy_sum / d->entropy_count) : 0;
        d->done = d->minute;
        d->minute_is_done = true;
    }
    d->minute = (struct insight_minute){.disk = d->number, .minute_utc_usec = minute_utc_usec};
    d->entropy_sum = d->entropy_count = 0;
}

/* Going back in time: the shortest stretch up to now that is one, at most two minutes. Before it may have been anything. */
static uint64_t find_attack(const struct disk *d)
{
    uint64_t judged = 0, turned = 0;
    unsigned seconds = 0;

    for (unsigned n = 0; n < BUCKETS; n++) {
        const struct bucket *b = &d->ring[(d->newest + BUCKETS - n) % BUCKETS];

        judged += b->judged;
        turned += b->turned;
        seconds += b->turned > 0;
        if (turned >= TURNED_MIN && seconds >= SECONDS_MIN && turned * 100 >= judged * TURNED_PERCENT &&
            (double)turned >= d->habit * (n + 1) * HABIT_FACTOR)
            return turned;
    }
    return 0;
}

/* The first second of it, no further back than where nothing turned for a while. */
static const struct bucket *find_beginning(const struct disk *d)
{
    const struct bucket *first = &d->ring[d->newest];
    unsigned calm = 0;
    int64_t score = 0, best = 0;

    for (unsigned n = 0; n < BUCKETS && calm < CALM_SECONDS; n++) {
        const struct bucket *b = &d->ring[(d->newest + BUCKETS - n) % BUCKETS];

        calm = b->turned > 0 ? 0 : calm + 1;
        score += (int64_t)b->turned * 100 - (int64_t)b->judged * STRAY_PERCENT;
        if (b->turned > 0 && score > best) {
            best = score;
            first = b;
        }
    }
    return first;
}

/* Points are committed in their order: if the one before the attack is not yet, the last one that is has nothing of it either. */
static void raise_alarm(struct disk *d, uint64_t turned, uint64_t began_utc_usec, const struct insight_point *before,
    const struct insight_point *committed)
{
    d->alarmed = true;
    d->told = false;
    d->alarm = (struct insight_alarm){.disk = d->number,
        .began_utc_usec = began_utc_usec,
        .turned_bytes = turned * 65536,
        .point = before->sequence < committed->sequence ? *before : *committed};
}

/* An alarm stands for as long as that goes on. Odd blocks now and then, as each disk has them, are no reason to say nothing of the next attack. */
static void judge(const struct insight *i, struct disk *d, const struct insight_point *committed)
{
    uint64_t turned = find_attack(d);
    const struct bucket *first;

    if (turned == 0)
        return;
    d->last_attack_utc_usec = i->utc_usec;
    if (d->alarmed)
        return;
    first = find_beginning(d);
    raise_alarm(d, turned, first->turned_utc_usec, &first->point, committed);
}

/* Between `after` and `made`. A stretch is long for an outage, too: there the ring is enough, as it is without one. */
static bool is_far_apart(const struct insight *i, const struct disk *d)
{
    return i->interval_usec > FAR_APART_USEC && d->after.sequence > 0 &&
           i->made.utc_usec > d->after.utc_usec + FAR_APART_USEC;
}

/* An attack that began shortly before a point had too little in the stretch before it to be found there. */
static void judge_stretch(const struct insight *i, struct disk *d, const struct insight_point *committed)
{
    const struct bucket *s = &d->stretch, *first = s;

    if (!is_far_apart(i, d) || s->turned < TURNED_MIN ||
        (uint64_t)s->turned * 100 < (uint64_t)s->judged * TURNED_PERCENT || s->turned < d->stretch_habit * HABIT_FACTOR)
        return;
    d->last_attack_utc_usec = i->utc_usec;
    if (d->alarmed)
        return;
    if ((uint64_t)d->previous.turned * 100 > (uint64_t)d->previous.judged * STRAY_PERCENT)
        first = &d->previous;
    /* When it was written, nobody saw. */
    raise_alarm(d, s->turned, first->point.sequence > 0 ? first->point.utc_usec : first->turned_utc_usec, &first->point,
        committed);
}

static void next_stretch(const struct insight *i, struct disk *d)
{
    if (!d->alarmed)
        d->stretch_habit += ((double)d->stretch.turned - d->stretch_habit) / HABIT_STRETCHES;
    d->previous = d->stretch;
    d->stretch = (struct bucket){0};
    d->after = i->made;
}

static void next_bucket(struct disk *d, const struct bucket *fresh)
{
    /* While an attack goes on it must not become a habit. */
    if (!d->alarmed)
        d->habit += ((double)d->ring[d->newest].turned - d->habit) / HABIT_BUCKETS;
    d->newest = (d->newest + 1) % BUCKETS;
    d->ring[d->newest] = *fresh;
}

void insight_set_interval(struct insight *i, uint64_t usec)
{
    i->interval_usec = usec;
}

void insight_made_point(struct insight *i, const struct insight_point *made)
{
    i->made = *made;
}

static void go_back(struct insight_point *p, const struct insight_point *last_valid)
{
    if (p->sequence > last_valid->sequence)
        *p = *last_valid;
}

void insight_lost_points(struct insight *i, const struct insight_point *last_valid)
{
    i->made = *last_valid;
    for (unsigned n = 0; n < INSIGHT_DISKS_MAX; n++) {
        struct disk *d = &i->disks[n];

        for (unsigned b = 0; d->used && b < BUCKETS; b++)
            go_back(&d->ring[b].point, last_valid);
        go_back(&d->stretch.point, last_valid);
        go_back(&d->previous.point, last_valid);
        go_back(&d->after, last_valid);
    }
}

void insight_tick(struct insight *i, uint64_t utc_usec, const struct insight_point *committed)
{
    const struct bucket fresh = {.began_utc_usec = utc_usec};

    i->utc_usec = utc_usec;
    if (committed->sequence > i->made.sequence)
        i->made = *committed; /* of a process before this one */
    for (unsigned n = 0; n < INSIGHT_DISKS_MAX; n++) {
        struct disk *d = &i->disks[n];
        uint64_t began = d->ring[d->newest].began_utc_usec;

        if (!d->used)
            continue;
        close_minute(d, utc_usec / MINUTE_USEC * MINUTE_USEC);
        save_classes(d, utc_usec);
        if (utc_usec < began + BUCKET_USEC && utc_usec >= began)
            continue;
        if (d->ring[d->newest].turned > 0)
            judge(i, d, committed);
        if (d->after.sequence != i->made.sequence) {
            judge_stretch(i, d, committed);
            next_stretch(i, d);
        }
        next_bucket(d, &fresh);
        if (d->alarmed && utc_usec > d->last_attack_utc_usec + INSIGHT_QUIET_USEC)
            d->alarmed = false;
    }
}

int insight_take_minute(struct insight *i, struct insight_minute *ret_minute)
{
    for (unsigned n = 0; n < INSIGHT_DISKS_MAX; n++)
        if (i->disks[n].minute_is_done) {
            *ret_minute = i->disks[n].done;
            i->disks[n].minute_is_done = false;
            return 1;
        }
    return 0;
}

int insight_take_alarm(struct insight *i, struct insight_alarm *ret_alarm)
{
    for (unsigned n = 0; n < INSIGHT_DISKS_MAX; n++)
        if (i->disks[n].alarmed && !i->disks[n].told) {
            *ret_alarm = i->disks[n].alarm;
            i->disks[n].told = true;
            return 1;
        }
    return 0;
}

const struct insight_alarm *insight_standing(const struct insight *i)
{
    for (unsigned n = 0; n < INSIGHT_DISKS_MAX; n++)
        if (i->disks[n].alarmed)
            return &i->disks[n].alarm;
    return NULL;
}
