/* SPDX-License-Identifier: Apache-2.0
 *
 * A block map in memory: extents that do not overlap, sorted by key. Inserting one cuts away what it covers. It holds
 * what a vault has not yet written to a run, the whole index of a branch, and the part of a run that a point in its
 * middle sees.
 *
 * Two levels: an array of leaves of up to 64 extents. Inserting costs two binary searches and a move of at most one leaf.
 * Not locked: one writer, or any number of readers.
 */
#ifndef TRANSPORT_VAULT_EXTMAP_H
#define TRANSPORT_VAULT_EXTMAP_H

#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"
#include "transport/vault/extent.h"

struct extmap;

struct extmap *extmap_new(void); /* NULL: no memory */
void extmap_free(struct extmap *m);
DEFINE_AUTO(extmap, extmap_free)
void extmap_clear(struct extmap *m);
size_t extmap_count(const struct extmap *m);

/* Puts e in, newest wins. For each part that it hides `hidden` (NULL allowed) is called with the part as an extent; it
 * must not touch the map. ERR_NOMEM leaves a map that must be thrown away. */
int extmap_insert(struct extmap *m, const struct extent *e, void (*hidden)(void *arg, const struct extent *part),
    void *arg, struct err *err);

/* The extent that covers key or, if none does, the first one behind it. 1; 0: neither is there. */
int extmap_find(const struct extmap *m, uint64_t key, struct extent *ret_extent);

/* Walks all extents in order: start with a zeroed cursor. 1; 0 at the end. The map must not change in between. */
struct extmap_cursor {
    size_t leaf, index;
};
int extmap_next(const struct extmap *m, struct extmap_cursor *cursor, struct extent *ret_extent);

#endif
