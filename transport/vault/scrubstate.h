/* SPDX-License-Identifier: Apache-2.0
 *
 * How far a machine's store has been verified, in the file `scrub` (FORMAT.md): the pass that is under way, and the last one that
 * was finished. By it a pass goes on after a restart, and an incremental verification knows what it may leave out. Losing the file
 * costs a pass, nothing else.
 */
#ifndef TRANSPORT_VAULT_SCRUBSTATE_H
#define TRANSPORT_VAULT_SCRUBSTATE_H

#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"

struct scrubstate {
    uint64_t started_utc_usec;      /* of the pass under way; 0: none */
    uint64_t cursor;                /* it has verified all segments up to this number */
    uint64_t last_started_utc_usec; /* of the last full pass; 0: never */
    uint64_t last_finished_utc_usec;
    uint64_t through; /* the segments up to this number were verified at or after last_started, or when they were new */
};

/* A file that is missing or damaged is a state in which nothing was verified yet. */
int scrubstate_load(
    const char *machine_dir, const struct ident *machine, struct scrubstate *ret_state, struct err *err);
/* Durable when it returns. */
int scrubstate_store(
    const char *machine_dir, const struct ident *machine, const struct scrubstate *state, struct err *err);

/* The segments above this number were not verified since then; 0 for `since_utc_usec`: were never verified. */
uint64_t scrubstate_verified(const struct scrubstate *s, uint64_t since_utc_usec);
/* A pass over everything, begun at that time, has ended; it verified all segments up to that number. */
void scrubstate_finish(struct scrubstate *s, uint64_t started_utc_usec, uint64_t now_utc_usec, uint64_t through);

#endif
