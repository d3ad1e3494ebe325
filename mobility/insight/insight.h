/* SPDX-License-Identifier: Apache-2.0
 *
 * What is written to the protected disks, seen from the blocks that are sent anyway: how much by the minute, how compressible, and
 * whether it begins to look as if somebody encrypted the files.
 *
 * The class of each 64 KiB block is remembered (two bits, in memory and once a minute in a file of the agent's data folder, 4 MiB per TiB). A block that was
 * compressible and is now like random bytes has *turned*. Many such blocks within two minutes (or between two points, where these are
 * further apart than 40 s), beyond the disk's own habit and not among much else, are an alarm, with the last recovery point from before the
 * first of them. Which point that is, is told by the order of calls and not by clocks: insight_point when a point is closed, insight_add for what goes into the next one.
 *
 * The capture thread alone.
 */
#ifndef MOBILITY_INSIGHT_INSIGHT_H
#define MOBILITY_INSIGHT_INSIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/err.h"

#define INSIGHT_DISKS_MAX 64u

struct insight;

struct insight_minute {
    uint32_t disk; /* number in the machine's log */
    uint64_t minute_utc_usec;
    uint64_t changed_bytes;        /* sent: a block that was written twice between two points counts once */
    uint64_t incompressible_bytes; /* of them, by their looks */
    uint64_t turned_bytes;         /* of them: were compressible, are like random */
    uint32_t entropy_millibits;    /* per byte, average */
};

struct insight_point {
    uint64_t sequence, utc_usec; /* sequence 0: none */
};

struct insight_alarm {
    uint32_t disk;
    uint64_t began_utc_usec; /* not before the point; that of the point, where points are far apart */
    uint64_t turned_bytes;
    struct insight_point point; /* the last committed one without any of it; sequence 0: none */
};

/* dir: where the classes of blocks are kept. */
int insight_new(const char *dir, struct insight **ret_insight, struct err *err);
void insight_free(struct insight *i); /* NULL allowed */
/* A disk is protected from now on, or has another size. Without its file of classes the disk is still profiled. */
void insight_set_disk(struct insight *i, unsigned index, uint32_t number, uint64_t size_bytes);
void insight_clear_disk(struct insight *i, unsigned index);
/* A piece within one 64 KiB block. first: read by a first copy, or the same as in the vault, so it is no change; the class is learned. */
void insight_add(struct insight *i, unsigned index, uint64_t start, const void *data, uint32_t length, bool first);
/* Between points, as the policy wants them. Above 40 s three of them would not come within two minutes: what was written between two is judged
 * as a whole. */
void insight_set_interval(struct insight *i, uint64_t usec);
/* A point was closed; whether it will be committed is not known. What is added from now on is not in it. */
void insight_made_point(struct insight *i, const struct insight_point *made);
/* No point after that one is valid: its sequence will be given to another. */
void insight_lost_points(struct insight *i, const struct insight_point *last_valid);
/* Time goes on; the last committed point. At least once a second while changes come in, and after each point. */
void insight_tick(struct insight *i, uint64_t utc_usec, const struct insight_point *committed);
/* 1: a minute of a disk is complete; call again. 0: none. */
int insight_take_minute(struct insight *i, struct insight_minute *ret_minute);
/* 1: a new alarm, told once per attack; call again. 0: none. */
int insight_take_alarm(struct insight *i, struct insight_alarm *ret_alarm);
/* The alarm that stands: raised, and nothing like it for less than INSIGHT_QUIET_USEC since. NULL: none. Until the next call. */
const struct insight_alarm *insight_standing(const struct insight *i);

#define INSIGHT_QUIET_USEC (24ull * 3600 * 1000000)

#endif
