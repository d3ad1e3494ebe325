/* SPDX-License-Identifier: Apache-2.0
 *
 * Block map in memory, see extmap.h. Insertion first punches a hole for the new extent (cutting the first and last
 * neighbour, removing what lies between) and then puts it in; a full leaf is split in the middle. An empty leaf is
 * removed at once, so every leaf in the array holds at least one extent and its first key can be searched for.
 */
#include "transport/vault/extmap.h"

#include <string.h>

#define LEAF_MAX 64u

struct leaf {
    unsigned count;
    struct extent items[LEAF_MAX];
};

struct extmap {
    struct leaf **leaves;
    size_t leaf_count;
    size_t leaf_cap;
    size_t count;
};

struct place {
    size_t leaf;
    unsigned index;
};

struct extmap *extmap_new(void)
{
    return mem_new(struct extmap);
}

void extmap_clear(struct extmap *m)
{
    for (size_t i = 0; i < m->leaf_count; i++)
        free(m->leaves[i]);
    m->leaf_count = 0;
    m->count = 0;
}

void extmap_free(struct extmap *m)
{
    if (m == NULL)
        return;
    extmap_clear(m);
    free(m->leaves);
    free(m);
}

size_t extmap_count(const struct extmap *m)
{
    return m->count;
}

/* Index of the last leaf whose first key is <= key; 0 if there is none. */
static size_t leaf_for(const struct extmap *m, uint64_t key)
{
    size_t low = 0;
    size_t high = m->leaf_count;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (m->leaves[mid]->items[0].key <= key)
            low = mid;
        else
            high = mid;
    }
    return low;
}

/* First extent in the leaf that ends behind key; leaf->count if none does. */
static unsigned index_for(const struct leaf *leaf, uint64_t key)
{
    unsigned low = 0;
    unsigned high = leaf->count;
    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        if (extent_end(&leaf->items[mid]) <= key)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Place of the first extent that ends behind key. false: there is none. */
static bool place_of(const struct extmap *m, uint64_t key, struct place *ret_place)
{
    if (m->leaf_count == 0)
        return false;
    size_t l = leaf_for(m, key);
    unsigned i = index_for(m->leaves[l], key);
    if (i == m->leaves[l]->count) {
        l++;
        i = 0;
    }
    *ret_place = (struct place){l, i};
    return l < m->leaf_count;
}

static int leaf_insert_at(struct extmap *m, size_t at, struct leaf *leaf, struct err *err)
{
    if (m->leaf_count == m->leaf_cap) {
        size_t cap = m->leaf_cap == 0 ? 16 : m->leaf_cap * 2;
        struct leaf **leaves = mem_resize(m->leaves, cap, sizeof(*leaves));
        if (leaves == NULL)
            return err_set(err, ERR_NOMEM, "no memory for a block map of %zu leaves", cap);
        m->leaves = leaves;
        m->leaf_cap = cap;
    }
    memmove(&m->leaves[at + 1], &m->leaves[at], (m->leaf_count - at) * sizeof(m->leaves[0]));
    m->leaves[at] = leaf;
    m->leaf_count++;
    return 0;
}

static int leaf_add_new(struct extmap *m, size_t at, struct leaf **ret_leaf, struct err *err)
{
    struct leaf *leaf AUTO_FREE = mem_new(struct leaf);
    if (leaf == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a block map");
    if (leaf_insert_at(m, at, leaf, err) < 0)
        return -1;
    *ret_leaf = TAKE_PTR(leaf);
    return 0;
}

static int leaf_split(struct extmap *m, size_t l, struct err *err)
{
    struct leaf *right;
    if (leaf_add_new(m, l + 1, &right, err) < 0)
        return -1;
    struct leaf *left = m->leaves[l];
    unsigned half = left->count / 2;
    right->count = left->count - half;
    memcpy(right->items, &left->items[half], right->count * sizeof(right->items[0]));
    left->count = half;
    return 0;
}

/* Inserts e before everything that ends behind its key; the room must be free. */
static int put(struct extmap *m, const struct extent *e, struct err *err)
{
    if (m->leaf_count == 0) {
        struct leaf *first;
        if (leaf_add_new(m, 0, &first, err) < 0)
            return -1;
    }
    size_t l = leaf_for(m, e->key);
    if (m->leaves[l]->count == LEAF_MAX) {
        if (leaf_split(m, l, err) < 0)
            return -1;
        l = leaf_for(m, e->key);
    }
    struct leaf *leaf = m->leaves[l];
    unsigned i = index_for(leaf, e->key);
    memmove(&leaf->items[i + 1], &leaf->items[i], (leaf->count - i) * sizeof(leaf->items[0]));
    leaf->items[i] = *e;
    leaf->count++;
    m->count++;
    return 0;
}

/* Removes the items [from, to) of a leaf, and the leaf when nothing is left of it. */
static void leaf_remove(struct extmap *m, size_t l, unsigned from, unsigned to)
{
    struct leaf *leaf = m->leaves[l];
    memmove(&leaf->items[from], &leaf->items[to], (leaf->count - to) * sizeof(leaf->items[0]));
    leaf->count -= to - from;
    m->count -= to - from;
    if (leaf->count > 0)
        return;
    free(leaf);
    m->leaf_count--;
    memmove(&m->leaves[l], &m->leaves[l + 1], (m->leaf_count - l) * sizeof(m->leaves[0]));
}

static struct extent part_of(const struct extent *e, uint64_t from, uint64_t to)
{
    struct extent part = *e;
    part.key = from;
    part.sectors = (uint32_t)(to - from);
    return part;
}

static void tell(
    void (*hidden)(void *arg, const struct extent *part), void *arg, const struct extent *e, uint64_t from, uint64_t to)
{
    struct extent part = part_of(e, from, to);
    if (hidden != NULL)
        hidden(arg, &part);
}

/* An extent that begins before `from`: keeps its left part, and its right one where it reaches behind `to`. */
static int cut_left_neighbour(struct extmap *m, struct extent *item, uint64_t from, uint64_t to,
    void (*hidden)(void *arg, const struct extent *part), void *arg, struct err *err)
{
    uint64_t end = extent_end(item);
    struct extent right = part_of(item, to < end ? to : end, end);
    tell(hidden, arg, item, from, to < end ? to : end);
    item->sectors = (uint32_t)(from - item->key);
    return to < end ? put(m, &right, err) : 0;
}

/* Makes [from, to) free. */
static int punch(struct extmap *m, uint64_t from, uint64_t to, void (*hidden)(void *arg, const struct extent *part),
    void *arg, struct err *err)
{
    struct place p;
    if (!place_of(m, from, &p))
        return 0;
    struct extent *item = &m->leaves[p.leaf]->items[p.index];
    if (item->key < from && cut_left_neighbour(m, item, from, to, hidden, arg, err) < 0)
        return -1;
    while (place_of(m, from, &p)) {
        struct leaf *leaf = m->leaves[p.leaf];
        unsigned i = p.index;
        while (i < leaf->count && extent_end(&leaf->items[i]) <= to) {
            tell(hidden, arg, &leaf->items[i], leaf->items[i].key, extent_end(&leaf->items[i]));
            i++;
        }
        bool done = i < leaf->count;
        if (done && leaf->items[i].key < to) {
            item = &leaf->items[i];
            tell(hidden, arg, item, item->key, to);
            *item = part_of(item, to, extent_end(item));
        }
        if (i > p.index)
            leaf_remove(m, p.leaf, p.index, i);
        if (done)
            return 0;
    }
    return 0;
}

int extmap_insert(struct extmap *m, const struct extent *e, void (*hidden)(void *arg, const struct extent *part),
    void *arg, struct err *err)
{
    if (punch(m, e->key, extent_end(e), hidden, arg, err) < 0)
        return -1;
    return put(m, e, err);
}

int extmap_find(const struct extmap *m, uint64_t key, struct extent *ret_extent)
{
    struct place p;
    if (!place_of(m, key, &p))
        return 0;
    *ret_extent = m->leaves[p.leaf]->items[p.index];
    return 1;
}

int extmap_next(const struct extmap *m, struct extmap_cursor *cursor, struct extent *ret_extent)
{
    if (cursor->leaf >= m->leaf_count)
        return 0;
    const struct leaf *leaf = m->leaves[cursor->leaf];
    *ret_extent = leaf->items[cursor->index++];
    if (cursor->index == leaf->count) {
        cursor->leaf++;
        cursor->index = 0;
    }
    return 1;
}
