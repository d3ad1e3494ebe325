/* SPDX-License-Identifier: Apache-2.0
 *
 * The retention lock: how long each point of a machine is kept whatever anybody says, the hub included (P6). The policy names a
 * duration; from then on each new point is locked for that long from its commit, and points that are there already are locked
 * for at least that long too. A shorter duration is for points that come later: nothing that was locked becomes free earlier.
 *
 * Kept in the machine's file `locks`, durable before it is relied on. Pure but for loading and storing.
 */
#ifndef TRANSPORT_VAULT_STORELOCK_H
#define TRANSPORT_VAULT_STORELOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/vault/pointlist.h"

#define STORELOCK_SPANS_MAX 64u
#define STORELOCK_USEC_MAX (3653ULL * 86400 * 1000000) /* ten years */

/* Points from this sequence on, up to the next span. */
struct storelock_span {
    uint64_t from_sequence;
    uint64_t lock_usec;      /* from the commit; 0: not locked */
    uint64_t until_utc_usec; /* at least until then: when commit times were lost; 0: no such bound */
};

struct storelock {
    struct storelock_span spans[STORELOCK_SPANS_MAX]; /* ascending */
    size_t count;
    bool damaged; /* the file cannot be read: everything is locked */
};

/* The moment until which the point is locked; 0: it is not. */
uint64_t storelock_until(const struct storelock *l, const struct point *p);
/* The duration that holds for points to come. */
uint64_t storelock_current(const struct storelock *l);
/* The policy's duration, for points from next_sequence on and, where it is longer than theirs, for all before. True when that changed
 * anything. Too many changes: the spans of the oldest points are joined under the longer of their locks. */
bool storelock_apply(struct storelock *l, uint64_t lock_usec, uint64_t next_sequence);
/* Commit times are not known any more (the index was made again): whatever is locked counts as committed now. */
bool storelock_recount(struct storelock *l, uint64_t now_utc_usec);

/* 0 also without a file (nothing is locked) and with a damaged one. */
int storelock_load(const char *machine_dir, const struct ident *machine, struct storelock *ret_lock, struct err *err);
/* ERR_CORRUPT for a damaged one: it is not written over. */
int storelock_store(const char *machine_dir, const struct ident *machine, const struct storelock *l, struct err *err);

#endif
