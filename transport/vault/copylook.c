/* SPDX-License-Identifier: Apache-2.0
 *
 * Which point of the other vault a pass takes over. Points that somebody asked for, now or with a schedule, are taken in their order; of those that
 * the clock makes the newest at each look. So a copy has fewer points than the other vault, and while it is behind what has changed coalesces, but
 * nothing that has a name, a state of its applications or a place in a group is lost.
 */
#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/vault/copypass_private.h"
#include "transport/vault/extent.h"

#define MARKED_MAX 256u /* points to choose from */
#define MINUTE_USEC (60 * USEC_PER_SEC)
#define GROUP_CLASS (-1)

static int take_disks(struct mark *m, const Leeward__Vault__V1__Point *point, struct err *err)
{
    if (point->n_disks == 0 || point->n_disks > MARK_DISKS_MAX)
        return err_set(err, ERR_CORRUPT, "the other vault names %zu disks of a point", point->n_disks);
    m->disk_count = (uint32_t)point->n_disks;
    for (uint32_t i = 0; i < m->disk_count; i++) {
        const Leeward__Vault__V1__Disk *d = point->disks[i];
        if (d->number > RECORD_DISK_MAX || d->size_bytes > EXTENT_DISK_BYTES_MAX ||
            d->size_bytes % RECORD_SECTOR != 0 || (i > 0 && d->number <= m->disks[i - 1].number) ||
            strlen(d->name) > MARK_NAME_MAX)
            return err_set(err, ERR_CORRUPT, "the other vault names a disk that there cannot be");
        m->disks[i] =
            (struct mark_disk){.number = d->number, .sector_bytes = d->sector_bytes, .size_bytes = d->size_bytes};
        (void)snprintf(m->disks[i].name, sizeof(m->disks[i].name), "%s", d->name);
    }
    return 0;
}

/* Behind its disks: whether they are ranges of those is seen with the mark that is made of them (mark_append). */
static int take_ranges(struct mark *m, const Leeward__Vault__V1__Point *point, struct err *err)
{
    if (point->n_unreadable > MARK_RANGES_MAX)
        return err_set(err, ERR_CORRUPT, "the other vault lists %zu unreadable ranges of a point", point->n_unreadable);
    m->range_count = (uint32_t)point->n_unreadable;
    for (uint32_t i = 0; i < m->range_count; i++) {
        const Leeward__Vault__V1__UnreadableRange *r = point->unreadable[i];
        m->ranges[i] = (struct mark_range){.disk = r->disk, .start = r->start, .length = r->length};
    }
    return 0;
}

struct found {
    struct copypass *p;
    unsigned count;
    uint64_t sequence, time_utc_usec, generation, changed_bytes;
};

static void note_point(struct found *f, const Leeward__Vault__V1__Point *point)
{
    f->count++;
    f->sequence = point->sequence;
    f->time_utc_usec = point->time_utc_usec;
    f->generation = point->generation;
    f->changed_bytes = point->changed_bytes;
}

static int take_target(void *arg, const ProtobufCMessage *message, struct err *err)
{
    const Leeward__Vault__V1__Point *point = (const void *)message;
    struct found *f = arg;
    struct mark *m = &f->p->target;
    int kind = mark_kind_from_name(point->kind);
    if (point->machine_id.len != IDENT_SIZE ||
        memcmp(point->machine_id.data, f->p->spec.machine.bytes, IDENT_SIZE) != 0 || point->sequence == 0 ||
        kind <= MARK_PROGRESS || strlen(point->tag) > MARK_TAG_MAX)
        return err_set(err, ERR_CORRUPT, "the other vault named something that is no point of this machine");
    *m = (struct mark){.kind = (enum mark_kind)kind,
        .flags = point->frozen ? MARK_FROZEN : 0,
        .time_utc_usec = point->time_utc_usec,
        .machine = f->p->spec.machine,
        .unreadable_blocks = point->unreadable_blocks};
    if (point->group_point_id.len == IDENT_SIZE)
        memcpy(m->group_point.bytes, point->group_point_id.data, IDENT_SIZE);
    (void)snprintf(m->tag, sizeof(m->tag), "%s", point->tag);
    if (point->damaged_records > 0)
        f->p->lacks_there = point->damaged_records;
    note_point(f, point);
    return take_disks(m, point, err) < 0 ? -1 : take_ranges(m, point, err);
}

static int take_any(void *arg, const ProtobufCMessage *message, struct err *err)
{
    (void)err;
    note_point(arg, (const void *)message);
    return 0;
}

enum points { POINTS_NEWEST, POINTS_MARKED, POINTS_ONE };

static int ask_points(struct copypass *p, uint64_t after, enum points which,
    int (*take)(void *arg, const ProtobufCMessage *m, struct err *err), void *arg, struct err *err)
{
    Leeward__Vault__V1__ListPointsRequest q = LEEWARD__VAULT__V1__LIST_POINTS_REQUEST__INIT;
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, p->spec.machine.bytes};
    q.after_sequence = after;
    q.newest = which == POINTS_NEWEST;
    q.marked = which == POINTS_MARKED;
    q.limit = q.newest   ? 0
              : q.marked ? MARKED_MAX
                         : 1; /* one that does not know `newest` tells all, and is found out */
    q.held_sequence = p->spec.held.known ? p->spec.held.source_sequence : 0;
    return vaultask_run(p->spec.ask, "/leeward.vault.v1.Vault/ListPoints", &q.base,
        &leeward__vault__v1__point__descriptor, take, arg, &p->traffic_bytes, err);
}

/* A log that was cut there may have given the number to another point. */
static bool is_held(const struct copypass *p, const struct found *f)
{
    const struct copy_held *h = &p->spec.held;
    return h->known && f->count > 0 && f->sequence == h->source_sequence && f->time_utc_usec == h->time_utc_usec &&
           f->generation == h->source_generation && f->changed_bytes == h->changed_bytes;
}

/* ---- which point ---- */

struct candidate {
    uint64_t sequence, minute;
    int class; /* enum mark_kind, or that of group points */
    bool tagged;
};

struct candidates {
    size_t count;
    struct candidate list[MARKED_MAX];
};

/* An older vault tells others, too. */
static int take_marked(void *arg, const ProtobufCMessage *message, struct err *err)
{
    const Leeward__Vault__V1__Point *point = (const void *)message;
    struct candidates *c = arg;
    int kind = mark_kind_from_name(point->kind);
    bool grouped = point->group_point_id.len > 0, tagged = point->tag[0] != '\0';
    (void)err;
    if (c->count < MARKED_MAX && (kind > MARK_CRASH || grouped || tagged))
        c->list[c->count++] = (struct candidate){.sequence = point->sequence,
            .minute = point->time_utc_usec / MINUTE_USEC,
            .class = grouped ? GROUP_CLASS : kind,
            .tagged = tagged};
    return 0;
}

/* One with a tag is never left out. Of the others of one class the last of its minute is enough, as for retention, so that a copy that is behind comes on. */
static bool is_wanted(const struct candidates *c, size_t at)
{
    const struct candidate *p = &c->list[at];
    for (size_t i = at + 1; !p->tagged && i < c->count && c->list[i].minute == p->minute; i++)
        if (c->list[i].class == p->class)
            return false;
    return true;
}

/* *f: what was found to be the newest; it is another point then, if one before it is wanted. */
static int choose_target(struct copypass *p, struct found *f, struct err *err)
{
    struct candidates *c AUTO_FREE = mem_new(struct candidates);
    size_t at = 0;
    if (c == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a copy");
    if (ask_points(p, p->spec.held.source_sequence, POINTS_MARKED, take_marked, c, err) < 0)
        return -1;
    while (at < c->count && !is_wanted(c, at))
        at++;
    if (at == c->count || c->list[at].sequence >= f->sequence)
        return 0;
    *f = (struct found){.p = p};
    if (ask_points(p, c->list[at].sequence - 1, POINTS_ONE, take_target, f, err) < 0)
        return -1;
    return f->count == 1 && f->sequence > p->spec.held.source_sequence
               ? 0
               : err_set(err, ERR_CORRUPT, "the other vault named a point that it has not");
}

/* The point that is here, of which the other vault may still have what is damaged here. */
static int target_held(struct copypass *p, struct err *err)
{
    struct found held = {.p = p};
    if (ask_points(p, p->spec.held.source_sequence - 1, POINTS_ONE, take_target, &held, err) < 0)
        return -1;
    p->heals = is_held(p, &held);
    if (!p->heals)
        return err_set(err, ERR_NOT_FOUND, "the other vault has dropped the point that the copy stands on");
    p->target_sequence = p->newest_sequence = held.sequence;
    p->target_generation = held.generation;
    p->target_changed_bytes = held.changed_bytes;
    return 1;
}

/* Were points of that vault taken up to one before the target? Also where that one cannot be built upon any more (it is dropped there, or its note was not
 * stored any more): everything is compared then, but what somebody asked for since is no less wanted. */
static bool goes_on(const struct copypass *p, const struct found *target)
{
    const struct copy_held *held = &p->spec.held;
    return held->source_sequence > 0 && ident_equal(&held->source, &p->spec.source) &&
           target->sequence > held->source_sequence;
}

int copypass_look(struct copypass *p, struct err *err)
{
    struct found target = {.p = p}, before = {.p = p};
    if (ask_points(p, 0, POINTS_NEWEST, take_target, &target, err) < 0)
        return -1;
    if (target.count > 1)
        return err_set(err, ERR_UNSUPPORTED, "the other vault does not know how to be copied from; upgrade it");
    if (target.count == 0 || (is_held(p, &target) && p->spec.damage_count == 0))
        return 0;
    if (p->spec.held.known && ask_points(p, p->spec.held.source_sequence - 1, POINTS_ONE, take_any, &before, err) < 0)
        return -1;
    if (is_held(p, &before) && p->spec.damage_count > 0)
        return target_held(p, err);
    p->spec.held.known = is_held(p, &before) && target.sequence > before.sequence;
    p->newest_sequence = target.sequence;
    if (goes_on(p, &target) && choose_target(p, &target, err) < 0)
        return -1;
    p->target_sequence = target.sequence;
    p->target_generation = target.generation;
    p->target_changed_bytes = target.changed_bytes;
    return 1;
}

int copy_target_stands(struct copypass *p, struct err *err)
{
    struct found f = {.p = p};
    if (ask_points(p, p->target_sequence - 1, POINTS_ONE, take_any, &f, err) < 0)
        return -1;
    if (f.count > 0 && f.sequence == p->target_sequence && f.time_utc_usec == p->target.time_utc_usec &&
        f.generation == p->target_generation && f.changed_bytes == p->target_changed_bytes)
        return 0;
    return err_set(err, ERR_NOT_FOUND, "the other vault does not have the point any more that was being copied");
}
