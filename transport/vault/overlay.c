/* SPDX-License-Identifier: Apache-2.0
 *
 * A sweep over the keys. At each step the newest layer that covers the position wins, up to its end or to where a newer
 * layer begins; older entries below that part are noted as hidden and told when the sweep leaves them. Neighbouring parts
 * of one record are joined again.
 */
#include "transport/vault/overlay.h"

struct layer {
    struct run *run;
    uint64_t next; /* index of the entry behind `now` */
    bool has;
    struct extent now; /* the entry at or behind the position */
    uint64_t dead;     /* highest sequence that hides a part of it; 0: none does */
};

struct overlay {
    int (*hidden)(void *arg, const struct extent *e, uint64_t dead, struct err *err);
    void *arg;
    uint64_t position;
    struct extent joined; /* sectors 0: nothing waits */
    size_t count;
    struct layer layers[];
};

static int layer_leave(struct overlay *o, struct layer *l, struct err *err)
{
    if (l->has && l->dead != 0 && o->hidden != NULL && o->hidden(o->arg, &l->now, l->dead, err) < 0)
        return -1;
    l->dead = 0;
    l->has = false;
    if (l->next >= run_get_info(l->run)->top_count)
        return 0;
    if (run_top_at(l->run, l->next, &l->now, err) < 0)
        return -1;
    l->next++;
    l->has = true;
    return 0;
}

int overlay_new(struct run *const *runs, size_t count,
    int (*hidden)(void *arg, const struct extent *e, uint64_t dead, struct err *err), void *arg,
    struct overlay **ret_overlay, struct err *err)
{
    struct overlay *o AUTO_OF(overlay) = mem_alloc(1, sizeof(*o) + count * sizeof(o->layers[0]));
    if (o == NULL)
        return err_set(err, ERR_NOMEM, "no memory to merge index runs");
    o->hidden = hidden;
    o->arg = arg;
    o->count = count;
    for (size_t i = 0; i < count; i++) {
        o->layers[i].run = runs[i];
        if (layer_leave(o, &o->layers[i], err) < 0)
            return -1;
    }
    *ret_overlay = TAKE_PTR(o);
    return 0;
}

void overlay_free(struct overlay *o)
{
    free(o);
}

static uint64_t key_from(const struct layer *l, uint64_t position)
{
    return l->now.key > position ? l->now.key : position;
}

/* The newest layer that covers the lowest key that any covers from the position on; NULL at the end. */
static struct layer *winner_at(struct overlay *o, uint64_t *ret_key)
{
    struct layer *winner = NULL;
    for (size_t i = 0; i < o->count; i++) {
        struct layer *l = &o->layers[i];
        if (l->has && (winner == NULL || key_from(l, o->position) < *ret_key)) {
            winner = l;
            *ret_key = key_from(l, o->position);
        }
    }
    return winner;
}

/* Where the winner's visible part ends: at its end, or where a newer layer begins. */
static uint64_t part_end(const struct overlay *o, const struct layer *winner)
{
    uint64_t end = extent_end(&winner->now);
    for (const struct layer *l = o->layers; l < winner; l++)
        if (l->has && l->now.key < end)
            end = l->now.key;
    return end;
}

/* Moves all layers behind [key, end), which the winner covers. Every older entry that reaches into it is hidden there, also
 * those that lie wholly within it. */
static int layers_advance(
    struct overlay *o, const struct layer *winner, uint64_t sequence, uint64_t end, struct err *err)
{
    o->position = end;
    for (struct layer *l = o->layers; l < o->layers + o->count; l++) {
        while (l->has && l->now.key < end) {
            if (l > winner && sequence > l->dead)
                l->dead = sequence;
            if (extent_end(&l->now) > end)
                break;
            if (layer_leave(o, l, err) < 0)
                return -1;
        }
    }
    return 0;
}

/* The next part, not joined. */
static int part_next(struct overlay *o, struct extent *ret_part, struct err *err)
{
    uint64_t key = 0;
    struct layer *winner = winner_at(o, &key);
    if (winner == NULL)
        return 0;
    uint64_t end = part_end(o, winner);
    *ret_part = winner->now;
    ret_part->key = key;
    ret_part->sectors = (uint32_t)(end - key);
    return layers_advance(o, winner, winner->now.sequence, end, err) < 0 ? -1 : 1;
}

static bool joins(const struct extent *a, const struct extent *b)
{
    return a->sectors != 0 && extent_end(a) == b->key && extent_same_record(a, b) &&
           (uint64_t)a->sectors + b->sectors <= EXTENT_SECTORS_MAX;
}

int overlay_next(struct overlay *o, struct extent *ret_extent, struct err *err)
{
    struct extent part;
    int got;
    while ((got = part_next(o, &part, err)) > 0) {
        if (joins(&o->joined, &part)) {
            o->joined.sectors += part.sectors;
            continue;
        }
        *ret_extent = o->joined;
        o->joined = part;
        if (ret_extent->sectors != 0)
            return 1;
    }
    if (got < 0 || o->joined.sectors == 0)
        return got;
    *ret_extent = o->joined;
    o->joined.sectors = 0;
    return 1;
}
