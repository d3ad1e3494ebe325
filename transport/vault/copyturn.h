/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose turn it is: passes of copies share a few threads that wait for other vaults, a bounded number of places (what a pass under way holds in memory and
 * in open files), and what the line may bring. Of those that wait the one that has had least goes first, so a copy that is seconds behind does not stand
 * in line behind first copies that take days; who was idle meanwhile has little credit for it. A place is given up after some seconds when others wait
 * for one, and some are left to passes that are not known to be long. One other vault that does not answer never has all threads.
 *
 * Moments are arguments (monotonic). One thread.
 */
#ifndef TRANSPORT_VAULT_COPYTURN_H
#define TRANSPORT_VAULT_COPYTURN_H

#include <stdbool.h>
#include <stdint.h>

#define COPYTURN_PLACE_USEC 10000000ULL /* for so long a place is kept, however many wait */

enum copyturn_want { COPYTURN_LOOK, COPYTURN_PLACE, COPYTURN_GATHER };

/* Another vault. */
struct copyturn_source {
    unsigned running; /* threads that wait for it */
    bool away;        /* it did not answer: one at a time asks */
};

/* A pass; zeroed at first. It outlives the pass: what it had counts for the next one. */
struct copyturn {
    struct copyturn *next; /* of those that wait */
    struct copyturn_source *source;
    enum copyturn_want want;
    bool is_long; /* it has had its place for long already, or all of the disks are to be compared */
    uint64_t had_bytes;
    uint64_t since_usec; /* it waits, as long as it has got nothing */
    uint64_t due_usec;   /* not before */
    uint64_t place_usec; /* when it got its place; 0: it has none */
};

struct copyturns {
    unsigned threads, places, short_places; /* that there are; no long pass has the last ones */
    unsigned sources;                       /* other vaults */
    unsigned looking, gathering, placed;
    uint64_t credit_bytes; /* so much less than the others' a pass begins with at most that is not long */
    uint64_t level_bytes;  /* what the one had that went last */
    struct copyturn *waiting;
};

void copyturns_init(struct copyturns *ts, unsigned threads, unsigned places, unsigned short_places);
/* A pass begins. */
void copyturn_begin(const struct copyturns *ts, struct copyturn *t, struct copyturn_source *source);
/* It waits for a thread or for a place, not before due_usec. */
void copyturn_wait(
    struct copyturns *ts, struct copyturn *t, enum copyturn_want want, uint64_t due_usec, uint64_t now_usec);
/* The one whose turn it is, which waits no longer and has what it wanted; NULL: nobody's. *ret_due is when to look again then; UINT64_MAX: when
 * something is done. gathers: may anybody gather now? */
struct copyturn *copyturn_next(struct copyturns *ts, uint64_t now_usec, bool gathers, uint64_t *ret_due);
/* Its thread is free again, and so much has come for it. */
void copyturn_done(struct copyturns *ts, struct copyturn *t, uint64_t bytes);
/* Are others to have its place? It is a long one then. */
bool copyturn_yields(const struct copyturns *ts, struct copyturn *t, uint64_t now_usec);
/* It gives its place up, if it has one. */
void copyturn_leave(struct copyturns *ts, struct copyturn *t);
/* What it had is forgotten: it was under another bound. */
void copyturn_forgive(struct copyturn *t);
/* It waits no longer. */
void copyturn_forget(struct copyturns *ts, struct copyturn *t);

#endif
