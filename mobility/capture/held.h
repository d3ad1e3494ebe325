/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks that were read but not delivered yet, in bounded memory: what the last rounds of a cycle found. A block that a later
 * round reads again is dropped, so that only its last content is delivered.
 *
 * One thread.
 */
#ifndef MOBILITY_CAPTURE_HELD_H
#define MOBILITY_CAPTURE_HELD_H

#include <stddef.h>
#include <stdint.h>

#include "mobility/capture/reader.h"
#include "mobility/track/dirty.h"
#include "transport/base/err.h"

struct held {
    uint8_t *memory;
    size_t used, room; /* room: mapped, touched as far as it was ever used */
    struct held_piece *pieces;
    size_t count, slots;
};

/* Room for max_bytes of blocks; keeps what it has if it is the same. Only when empty. */
int held_set_room(struct held *h, size_t max_bytes, struct err *err);
void held_done(struct held *h);
size_t held_free_bytes(const struct held *h);
/* Copies a piece (unreadable ones take no room). ERR_TOO_LARGE: it does not fit. */
int held_add(struct held *h, const struct reader_piece *piece, struct err *err);
/* Drops the pieces of this disk that lie wholly in dirty granules of `again`. */
void held_supersede(struct held *h, unsigned disk, const struct dirty *again);
/* Gives all to the sink, in the order in which they came, and is empty afterwards, also when the sink fails. */
int held_deliver(struct held *h, reader_sink sink, void *arg, struct err *err);
void held_clear(struct held *h);

#endif
