/* SPDX-License-Identifier: Apache-2.0
 *
 * Compaction: gives back the space of history that retention has let go, by rewriting segments without the records
 * that no retained point needs (transport/log/segment_rewrite.h). What a point, a branch's base or the newest content needs stays, bit
 * for bit and at its place; index and point list do not change.
 *
 * Plan and finish on the machine's lane; look and rewrite on any thread beside it. What happens on the lane meanwhile (new change
 * sets, dropped points, merging) can only make more records needless, so what was found out stays safe to act on.
 */
#ifndef TRANSPORT_VAULT_STORE_COMPACT_H
#define TRANSPORT_VAULT_STORE_COMPACT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/mem.h"
#include "transport/vault/store.h"

struct store_compact;

struct compact_spec {
    unsigned start_percent; /* nothing is rewritten while garbage is less than this share of the log */
    unsigned least_percent; /* nor is a segment that has less than this share of garbage; >= 1 */
    size_t refs_max;        /* of the survey; 0: its own limit */
    _Atomic bool *cancelled;
    void (*pace)(void *arg,
        uint64_t bytes); /* while a segment is rewritten: so much more was read and written; may wait. NULL */
    void *pace_arg;
};

/* What the log of a machine holds. */
struct compact_space {
    uint64_t log_bytes;     /* of all segments */
    uint64_t live_bytes;    /* the newest content */
    uint64_t history_bytes; /* what only older points need, marks included */
    uint64_t garbage_bytes; /* what nobody needs */
    uint64_t index_bytes;   /* runs and point list */
    uint64_t segments;
};

/* Writes the index out and notes what is to be kept. 1 and *ret_compact; 0: there is no log yet. */
int store_compact_plan(
    struct store *s, const struct compact_spec *spec, struct store_compact **ret_compact, struct err *err);
/* Finds out what is needed, and which segments are worth rewriting. */
int store_compact_look(struct store_compact *c, struct err *err);
/* Good after store_compact_look. */
const struct compact_space *store_compact_space(const struct store_compact *c);
/* Lane, after store_compact_look: runs whose history is mostly needless will be written anew by merging. */
void store_compact_trim(struct store *s, struct store_compact *c);
/* Makes the next segment's new file. 1: store_compact_finish is to put it in place; 0: there is none left. What cannot be rewritten
 * (damage, no room) is passed over and logged. */
int store_compact_rewrite(struct store_compact *c, struct err *err);
int store_compact_finish(struct store *s, struct store_compact *c, struct err *err);
/* Bytes given back so far, and whether something was passed over for lack of room. */
uint64_t store_compact_freed(const struct store_compact *c);
bool store_compact_starved(const struct store_compact *c);
/* Segments that are still to be rewritten, and all that were chosen. */
void store_compact_progress(const struct store_compact *c, uint64_t *ret_done, uint64_t *ret_total);
void store_compact_free(struct store_compact *c);
DEFINE_AUTO(store_compact, store_compact_free)

#endif
