/* SPDX-License-Identifier: Apache-2.0
 *
 * The memtable, see memtable.h. A part that is hidden goes to the history when a recovery point lies between its own change
 * set and the one that hides it.
 */
#include "transport/vault/memtable.h"

#include <stdlib.h>

struct hide {
    struct memtable *table;
    const struct pointlist *points;
    uint64_t dead;
    struct err *err;
    int failed;
};

int memtable_init(struct memtable *t, struct err *err)
{
    *t = (struct memtable){.map = extmap_new()};
    return t->map == NULL ? err_set(err, ERR_NOMEM, "no memory for an index") : 0;
}

void memtable_done(struct memtable *t)
{
    extmap_free(t->map);
    free(t->history);
    *t = (struct memtable){0};
}

void memtable_clear(struct memtable *t)
{
    extmap_clear(t->map);
    t->history_count = 0;
}

size_t memtable_count(const struct memtable *t)
{
    return extmap_count(t->map) + t->history_count;
}

static void on_hidden(void *arg, const struct extent *part)
{
    struct hide *h = arg;
    struct memtable *t = h->table;
    if (h->failed != 0 || !pointlist_any(h->points, part->sequence, h->dead))
        return;
    if (t->history_count == t->history_cap) {
        size_t cap = t->history_cap == 0 ? 256 : t->history_cap * 2;
        struct memtable_history *history = mem_resize(t->history, cap, sizeof(*history));
        if (history == NULL) {
            h->failed = err_set(h->err, ERR_NOMEM, "no memory for an index of %zu extents", cap);
            return;
        }
        t->history = history;
        t->history_cap = cap;
    }
    t->history[t->history_count++] = (struct memtable_history){*part, h->dead};
}

int memtable_insert(struct memtable *t, const struct extent *e, const struct pointlist *points, struct err *err)
{
    struct hide h = {.table = t, .points = points, .dead = e->sequence, .err = err};
    if (extmap_insert(t->map, e, on_hidden, &h, err) < 0)
        return -1;
    return h.failed;
}

static int compare_history(const void *left, const void *right)
{
    const struct memtable_history *a = left;
    const struct memtable_history *b = right;
    if (a->extent.key != b->extent.key)
        return a->extent.key < b->extent.key ? -1 : 1;
    return extent_compare_age(&a->extent, &b->extent);
}

int memtable_write(struct memtable *t, struct run_writer *w, struct err *err)
{
    struct extmap_cursor cursor = {0};
    struct extent e;
    while (extmap_next(t->map, &cursor, &e) > 0)
        if (run_writer_top(w, &e, err) < 0)
            return -1;
    if (t->history_count > 0)
        qsort(t->history, t->history_count, sizeof(t->history[0]), compare_history);
    for (size_t i = 0; i < t->history_count; i++)
        if (run_writer_history(w, &t->history[i].extent, t->history[i].dead, err) < 0)
            return -1;
    return 0;
}
