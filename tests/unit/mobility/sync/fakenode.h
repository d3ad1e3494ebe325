/* SPDX-License-Identifier: Apache-2.0
 *
 * A process node and a vault in one, for tests of the agent: the real RPC on a plain unix socket. It checks every record and
 * digest and writes committed change sets into one image file per disk, so that a test can compare image and disk. It runs
 * on a loop and thread of its own. It can lose its connections, refuse, hold commits back and forget.
 */
#ifndef TESTS_UNIT_MOBILITY_SYNC_FAKENODE_H
#define TESTS_UNIT_MOBILITY_SYNC_FAKENODE_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/log/mark.h"

struct fakenode;

/* Serves on DIR/node.sock and keeps images DIR/<disk>.img and its numbers in memory. */
struct fakenode *fakenode_start(const char *dir);
void fakenode_stop(struct fakenode *n);
const char *fakenode_address(const struct fakenode *n);

struct fakenode_facts {
    uint64_t committed; /* sequence */
    uint64_t epoch;
    uint64_t points, progress;            /* marks */
    uint64_t first_points;                /* with MARK_FIRST */
    uint64_t kinds[MARK_APPLICATION + 1]; /* marks by kind */
    uint64_t opens;
    uint64_t records, record_bytes;
    uint64_t unreadable;
    uint64_t hash_calls;
    uint64_t held;       /* marks that were taken and not committed, ever */
    unsigned held_kinds; /* bits: their kinds */
    char fault[400];     /* the first broken rule: bad hash, digest, sequence; "" */
    struct mark last;    /* of the last committed point */
};
void fakenode_get(struct fakenode *n, struct fakenode_facts *ret_facts);
/* Waits until `points` recovery points are committed, 90 s at most; false when it took longer. */
bool fakenode_wait_points(struct fakenode *n, uint64_t points);
/* The same for any mark. */
bool fakenode_wait_committed(struct fakenode *n, uint64_t sequence);

/* From now on each recovery point is looked at: the images are those of the point until the call returns. On the node's thread,
 * before the point is counted; NULL ends it. */
typedef void (*fakenode_look)(void *arg, const struct mark *mark);
void fakenode_set_look(struct fakenode *n, fakenode_look look, void *arg);

/* Ends all streams, now. */
void fakenode_drop(struct fakenode *n);
/* With true, Open is answered with UNAVAILABLE. */
void fakenode_set_refusing(struct fakenode *n, bool refusing);
/* With true, change sets are taken and not committed, until false. Dropping a stream then loses them. */
void fakenode_set_holding(struct fakenode *n, bool holding);
/* With true, calls for hashes are answered from the images, otherwise with UNIMPLEMENTED. */
void fakenode_set_hashes(struct fakenode *n, bool has_hashes);
/* The block of 64 KiB from there on cannot be read, of any disk: it is named by the zero hash. UINT64_MAX: none. */
void fakenode_set_damaged(struct fakenode *n, uint64_t start);
/* From now on it says anything of what it has (seed: of what), and loses some of it; 0: it tells the truth. */
void fakenode_set_lying(struct fakenode *n, unsigned seed);
/* Forgets all that it ever committed, images included. */
void fakenode_forget(struct fakenode *n);
/* Somebody else has written under an epoch that is so much higher, as another agent of the same identity does, or the vault when it takes a replica's
 * changes over. Ends all streams. */
void fakenode_raise_epoch(struct fakenode *n, uint64_t by);
/* It has no more than it had at that sequence, as after it was restored from a backup; the images are the caller's. No stream may be open. */
void fakenode_fall_back(struct fakenode *n, uint64_t committed);

#endif
