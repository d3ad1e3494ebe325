/* SPDX-License-Identifier: Apache-2.0
 *
 * The consistency engine: turns dirty blocks into an image that a power failure could have left
 * (ARCHITECTURE.md, section 4). It is an algorithm with injected parts, so that a test can put any
 * interleaving under it:
 *
 *   live rounds      drain, read, deliver; again, each over what the one before let become dirty
 *   barrier window   the round during which no barrier completed is the last one; nothing was frozen
 *   freeze           where one is asked for, or where no window was found within the tries: freeze, drain and
 * read the last set into memory, thaw, deliver
 *
 * A drain that finds nothing closes the image too: then it is simply the present content (unless drains are long). Why a window is right, and what each
 * part must promise for it, is in DESIGN.md.
 *
 * Blocks go to the sink round by round; a block may come several times, and the last one holds. Small rounds
 * (up to hold_bytes) are read into memory first and delivered after the window has closed, so that a slow
 * sink does not widen it; within what is held, only the last content of a block is delivered.
 *
 * One thread; cycle_run blocks.
 */
#ifndef MOBILITY_CAPTURE_CYCLE_H
#define MOBILITY_CAPTURE_CYCLE_H

#include <stdbool.h>
#include <stdint.h>

#include "mobility/capture/reader.h"
#include "mobility/track/dirty.h"
#include "transport/base/err.h"

#define CYCLE_DISKS_MAX 64u

enum cycle_want {
    CYCLE_CRASH,      /* window; freeze only if none is found and the policy allows it */
    CYCLE_FILESYSTEM, /* freezes; if that fails, a window is tried, and the result is not `frozen` */
    CYCLE_GROUP, /* freezes when all machines of a group do, and stays so until all have read; else as CYCLE_CRASH */
};

/* What a cycle asks of the group of machines that it takes part in (CYCLE_GROUP). Called on the cycle's thread. */
struct cycle_group {
    void *arg;
    /* After each live round that was small. 1: freeze now. 0: not yet (it has waited a little): another round. -1: there
     * will be no group point. */
    int (*may_freeze)(void *arg);
    /* Frozen, or nothing is there to freeze. Returns 0 when all machines have said that, and the last set may be read; -1: there
     * will be no group point. It must return before the freeze's budget is over, as must hold. */
    int (*frozen)(void *arg);
    /* Everything is read. Returns 0 at a moment at which all machines have said that; -1: there will be no group point. */
    int (*hold)(void *arg);
};

struct cycle_parts {
    void *arg; /* first argument of all calls */
    unsigned disk_count;
    /* Adds to `round` (of that disk) all that changed since the last drain, and clears it at its source
     * (tracker_drain). */
    int (*drain)(void *arg, unsigned disk, struct dirty *round, uint64_t *ret_granules, struct err *err);
    /* Barriers that completed so far on all disks; must count one before its submitter can see it complete.
     */
    uint64_t (*barriers)(void *arg);
    /* False: barriers cannot be counted; then a window is a round during which no write completed. */
    bool (*barriers_are_countable)(void *arg);
    /* A drain takes long, so one that finds nothing closes the image only if no barrier came meanwhile either; any completed write must count as
     * one (tracker_compares). */
    bool (*drains_are_long)(void *arg); /* NULL: they are not */
    /* Reads what is dirty in `set` of one disk: reader_run_dirty. */
    int (*read)(void *arg, unsigned disk, const struct dirty *set, reader_sink sink, void *sink_arg, struct err *err);
    /* Freezes all file systems on the disks / lets them go. freeze: 1: there is nothing to freeze, and no thaw will
     * follow (for CYCLE_GROUP only). thaw: *ret_usec measured by who froze; *ret_gave_up: it was thawed before it was
     * asked for. Both NULL: there is no freeze. */
    /* Before a freeze: whether what the file systems had not written is on the disks by now. 0: not yet, it has waited a little; 1: yes, or it
     * cannot be told. What a freeze has to flush would be read inside it. NULL: it is not asked. */
    int (*flush)(void *arg);
    int (*freeze)(void *arg, struct err *err);
    int (*thaw)(void *arg, uint64_t *ret_usec, bool *ret_gave_up, struct err *err);
    uint64_t (*mono_usec)(void *arg); /* NULL: clock_mono_usec */
    uint64_t (*utc_usec)(void *arg);  /* NULL: clock_utc_usec */
};

struct cycle_options {
    enum cycle_want want;
    bool may_freeze;              /* CYCLE_CRASH only: fall back to a freeze */
    unsigned tries;               /* rounds small enough to be a window that may fail before the fallback; 0: 12 */
    uint64_t small_bytes;         /* a round counts as a try when it has at most this; 0: 4 MiB */
    uint64_t live_usec;           /* live rounds stop converging after this long; 0: 10 s */
    uint64_t hold_bytes;          /* memory for held blocks; 0: 8 MiB */
    uint64_t freeze_bytes;        /* with more than this in the last set the freeze is given up; 0: hold_bytes */
    bool (*cancelled)(void *arg); /* polled between rounds and pieces; may be NULL */
    void *cancelled_arg;
    const struct cycle_group *group; /* CYCLE_GROUP only */
};

enum cycle_outcome {
    CYCLE_POINT,   /* the image is consistent: close the change set with a point */
    CYCLE_NO_POINT /* no window, and no freeze: what was delivered is right but fuzzy; go on with the next
                      cycle */
};

struct cycle_result {
    enum cycle_outcome outcome;
    bool frozen;          /* the point was taken inside a freeze: it is file-system-consistent */
    bool held;            /* CYCLE_GROUP: the image is that of a moment at which every machine of the group held */
    unsigned rounds;      /* drains followed by reading, all of them */
    unsigned tries;       /* windows that a barrier (or a write) spoiled */
    uint64_t window_usec; /* length of the last round, from before its drain to after its last read */
    uint64_t freeze_usec; /* as measured by the helper; 0: nothing was frozen */
    bool freeze_gave_up;
    uint64_t held_utc_usec;   /* the moment at which the content held: the start of the window */
    uint64_t bytes_read;      /* all rounds */
    uint64_t bytes_delivered; /* what the sink got */
    uint64_t unreadable_bytes;
    struct err freeze_error; /* code ERR_NONE: freezing and thawing did not fail */
    const char *reason;      /* CYCLE_NO_POINT, or why a freeze was given up: a fixed text; else NULL */
};

/* Of a `reason`: something writes that no freeze stops; or more is written than can be read in time. Both false: it is neither. */
bool cycle_reason_is_outside(const char *reason);
bool cycle_reason_is_load(const char *reason);

/* The engine keeps the rounds' bitmaps and the held blocks between cycles. */
struct cycle;
int cycle_new(const struct cycle_parts *parts, struct cycle **ret_cycle, struct err *err);
void cycle_free(struct cycle *c); /* NULL is allowed */
DEFINE_AUTO(cycle, cycle_free)
/* Gives (or changes) size and granule of one disk, before the first run and after each tracker_resize. */
int cycle_set_disk(struct cycle *c, unsigned disk, uint64_t size_bytes, unsigned granule_shift, struct err *err);
void cycle_clear_disk(struct cycle *c, unsigned disk); /* this number takes no part until it is set again */

/* Runs one cycle. Returns 0 with *ret_result; -1 when a part failed (the sink, the drain, memory) or it was
 * cancelled: what was drained is then still in the caller's pending set, and the change set must be dropped
 * or closed without a point. */
int cycle_run(struct cycle *c, const struct cycle_options *options, reader_sink sink, void *sink_arg,
    struct cycle_result *ret_result, struct err *err);

#endif
