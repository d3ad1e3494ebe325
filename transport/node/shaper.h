/* SPDX-License-Identifier: Apache-2.0
 *
 * Who may send to a vault now, under a bound on what the node sends in total and on what each machine does. Pure: moments are arguments.
 *
 * The bounds are token buckets that are paid afterwards: whoever has been let through may take more than it was granted (a record is not cut),
 * and what is over is owed, so over time no more goes out than the rate and the burst. Machines that wait are served by deficit round
 * robin: each gets a quantum per round, what it took above that counts against its next rounds, and one that has nothing to send keeps no
 * credit. So a first copy with gigabytes to send leaves as much of a narrow line to each of the others as they need for their points.
 *
 * A machine waits (shaper_wait), is granted bytes (shaper_next), sends and is charged for what went out (shaper_charge), and gives the grant
 * back (shaper_settle). What it sends while it is free, which is while nobody waits, takes nobody's turn: only the buckets are charged for it.
 */
#ifndef TRANSPORT_NODE_SHAPER_H
#define TRANSPORT_NODE_SHAPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shaper_bucket {
    int64_t tokens; /* bytes; below 0: owed */
    uint64_t at_usec;
};

/* One machine; zeroed at first. */
struct shaper_flow {
    struct shaper_flow *next; /* of those that wait */
    struct shaper_bucket bucket;
    int64_t deficit;
    bool waits;
    bool granted; /* what it sends counts against its turns */
};

struct shaper {
    uint64_t rate, flow_rate; /* bytes per second, of all together and of each; 0: no bound */
    struct shaper_bucket bucket;
    struct shaper_flow *first, *last; /* who waits, in the order in which they are served */
};

/* Changes the bounds. What is owed stays owed; no more than the new burst is kept. */
void shaper_set(struct shaper *s, uint64_t rate, uint64_t flow_rate, uint64_t now_usec);
bool shaper_is_bound(const struct shaper *s);
/* May this machine send at once, without waiting? Not while others wait for the same line. */
bool shaper_is_free(struct shaper *s, struct shaper_flow *f, uint64_t now_usec);
/* Puts it behind those that wait, or before them while it has credit left of its turn; nothing if it waits already. */
void shaper_wait(struct shaper *s, struct shaper_flow *f);
/* It waits no more; without that, nothing. */
void shaper_leave(struct shaper *s, struct shaper_flow *f);
/* The next one that may send now, and how many bytes; it waits no more. NULL: none may; then *ret_delay_usec is when to ask again,
 * UINT64_MAX: when somebody waits. */
struct shaper_flow *shaper_next(struct shaper *s, uint64_t now_usec, size_t *ret_bytes, uint64_t *ret_delay_usec);
void shaper_charge(struct shaper *s, struct shaper_flow *f, size_t bytes, uint64_t now_usec);
/* Gives back a grant of shaper_next; `more`: it has more to send (else its credit is gone). */
void shaper_settle(struct shaper *s, struct shaper_flow *f, size_t granted, bool more);

#endif
