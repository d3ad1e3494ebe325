/* SPDX-License-Identifier: Apache-2.0
 *
 * Yielding to the workload: copies (first copy, comparison, backlog) go on as fast as they can while the disk's other users do not
 * feel it, and slow down as soon as they do. What the others feel is measured in turns: for a while the copy reads, then it rests, and the
 * statistics of the disk are compared. Its writes are never ours, so their latency is taken as it is; reads are others' where they
 * go beyond what the copy read itself, so there the rate is compared.
 *
 * The baseline is the disk's own, while the copy rests, and follows the workload.
 */
#ifndef MOBILITY_SYNC_YIELD_H
#define MOBILITY_SYNC_YIELD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What happened on a disk in a stretch of time, without the copy's own reads. */
struct yield_stretch {
    uint64_t usec;
    uint64_t writes, write_usec; /* completed, and the sum of their times */
    uint64_t read_bytes;
};

struct yield_writes {
    uint64_t count, usec;
};

/* The judgement, apart from clocks and disks. */
struct yield_state {
    double share;                              /* of the time that the copy may use: YIELD_SHARE_MIN .. 1 */
    double rest_write_usec, rest_read_per_sec; /* averages while it rests; below 0: none yet */
    /* Not judged yet: who writes a little has something to tell only after some turns. */
    struct yield_writes at_work, at_rest;
    uint64_t quiet_usec; /* how long nobody else has used the disk */
    bool foreground;     /* others use it */
};

#define YIELD_SHARE_MIN 0.05

/* How many reads the copy may have in flight: what others wait for at worst, beside their own. 1..most */
unsigned yield_depth(const struct yield_state *y, unsigned most);

void yield_init(struct yield_state *y);
/* One turn: what others did while the copy worked, and while it rested after that. */
void yield_judge(struct yield_state *y, const struct yield_stretch *work, const struct yield_stretch *rest);

/* The same on a disk. */
struct yield {
    struct yield_state state;
    int fd;          /* of its statistics; 0: not opened; -1: there are none, and nothing is yielded */
    int inflight_fd; /* of its requests in flight; the same */
    bool working;
    uint64_t began_usec, own_bytes; /* of the present stretch of work */
    uint64_t rested_usec;           /* monotonic, of the last rest */
    struct yield_counters {
        uint64_t usec, writes, write_usec, read_bytes;
    } at_begin;
    uint64_t waited_usec; /* monotonic: until when it last rested longer than to measure; 0: never */
};

/* dev: the whole disk. One without statistics is no error. */
void yield_open(struct yield *y, dev_t dev);
void yield_close(struct yield *y); /* as if it were never opened */
/* The copy is about to read bytes of the disk. Sleeps when it is time to rest, for some seconds at most, while go_on(arg). */
void yield_step(struct yield *y, uint64_t bytes, bool (*go_on)(void *arg), void *arg);
/* A stretch without the copy has passed: what is measured begins anew. */
void yield_pause(struct yield *y);
bool yield_is_slow(const struct yield *y); /* it rested lately for the sake of others */

#endif
