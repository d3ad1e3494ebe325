/* SPDX-License-Identifier: Apache-2.0
 *
 * The store of one machine: its log, its index and its points in one folder (FORMAT.md):
 *     meta  manifest  points-*  main/NNN.seg  runs/NNN.run  branches/<id>/
 *
 * The log is the only truth. A recovery point exists when its mark is durable in it, and then everything before it is
 * complete (P1): store_append writes records as they come and makes a change set durable with one fdatasync when its mark
 * has come and fits. All else is rebuilt from the log when it is missing or damaged.
 *
 * A store is used by one thread at a time (the machine's lane). Readers do not use it: they open a view (view.h) of the
 * files, after store_flush has brought the index up to what they want to see.
 */
#ifndef TRANSPORT_VAULT_STORE_H
#define TRANSPORT_VAULT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"
#include "transport/log/mark.h"
#include "transport/vault/keyring.h"
#include "transport/vault/retentionclock.h"
#include "transport/vault/pointlist.h"
#include "transport/vault/vaultkeys.h"

struct store;

struct store_conf {
    const char *dir; /* of this machine */
    struct ident machine;
    struct vault_key vault_key;
    bool has_older_key; /* a rotation is under way: some machines are still wrapped by the key before */
    struct vault_key older_key;
    uint64_t reserve_bytes;       /* appends are refused when less than this would stay free on the file system */
    uint32_t flush_extents;       /* index entries in memory before a run is written; 0: 32768 */
    uint64_t segment_bytes;       /* a segment is sealed at the first mark behind this; 0: SEGMENT_TARGET_BYTES */
    struct retentionclock *clock; /* by which locks run out; outlives the store; NULL: the machine's clock */
};

/* Opens the machine's folder, makes it when it is not there, recovers the log to its last mark and the index to the log.
 * ERR_CORRUPT: damage that cannot be lived with; ERR_DENIED: wrong vault key. */
int store_open(const struct store_conf *conf, struct store **ret_store, struct err *err);
/* Drops an open change set, writes out the index so that the next start is quick, closes. NULL is allowed. */
void store_close(struct store *s);
DEFINE_AUTO(store, store_close)

/* Did recovery find that committed change sets are gone (the log was cut or damaged)? The source learns it by the epoch, which
 * went up; the points that went with them are off the list. */
bool store_lost_commits(const struct store *s);

struct store_opened {
    uint64_t expected_sequence;
    uint64_t committed_sequence;
    uint64_t epoch;
    uint64_t generation;
    bool has_point;           /* or a seed (seed.h): something to compare with */
    struct seal_key data_key; /* of nonce_stream */
    uint32_t nonce_stream;    /* never handed out before */
    struct keyring keys;      /* all that the machine has had */
};

/* The hub's generation; it never goes down. Durable when it returns. */
int store_set_generation(struct store *s, uint64_t generation, struct err *err);
/* A new stream: drops what an earlier one left without a mark, and from now on refuses lower epochs (durably). epoch 0: only
 * asks. ERR_REFUSED: lower epoch, or another generation; ERR_NOSPACE. */
int store_begin(struct store *s, uint64_t generation, uint64_t epoch, struct store_opened *ret_opened, struct err *err);
/* Takes whole records, marks among them. *ret_committed is the highest sequence that is durable now. On any failure the
 * change set that is not complete is dropped, and the sender must begin again: ERR_CORRUPT (header, hash, digest),
 * ERR_REFUSED (sequence, epoch, generation), ERR_INVALID (not encrypted, a seal), ERR_NOSPACE, ERR_TOO_LARGE, ERR_IO. */
int store_append(struct store *s, const uint8_t *batch, size_t n, uint64_t *ret_committed, struct err *err);
void store_drop_open(struct store *s);
/* Seals the last segment if nothing is under way in it, so that compaction may come to it once the next change set has begun another. Where it
 * cannot be sealed it stays as it was. */
int store_seal_quietly(struct store *s, struct err *err);
/* Seals the last segment, so that the next change set begins another one. *ret_number: of the last segment; 0: there is none. */
int store_seal_segment(struct store *s, uint64_t *ret_number, struct err *err);
/* True after a failure that only opening the store again can mend. */
bool store_is_broken(const struct store *s);

/* Writes the index in memory to a run, so that views can see everything that is committed. */
int store_flush(struct store *s, struct err *err);
bool store_wants_flush(const struct store *s);

struct store_meta;
/* What the file meta holds: as the store knows it, which is what was durable, whatever has become of the file since. */
void store_get_meta(const struct store *s, struct store_meta *ret_meta);
/* Writes that file anew when it is not that any more. 1: it was damaged and is right again; 0; -1. */
int store_mend_meta(struct store *s, struct err *err);

/* The index on disk is damaged: removes its manifest. The store must be opened again, which rebuilds it. NULL is allowed. */
void store_discard_index(struct store *s);

/* A nonce stream for a branch (durable when it returns), and the data keys. */
int store_take_nonce_stream(struct store *s, uint32_t *ret_stream, struct err *err);
void store_keys(const struct store *s, struct keyring *ret_ring);
/* A new data key for all nonce streams that are handed out from now on; what was written stays under the older ones. Streams that are open
 * keep theirs: the caller ends them. Durable when it returns. ERR_REFUSED: the machine has had KEYRING_MAX. */
int store_new_data_key(struct store *s, const struct vault_key *vault_key, struct err *err);
/* Wraps the data key by another vault key; nothing else changes. Durable when it returns. */
int store_rewrap(struct store *s, const struct vault_key *key, struct err *err);

void store_machine(const struct store *s, struct ident *ret_machine);
uint64_t store_committed(const struct store *s);
/* Behind the newest mark: what stands before it in the log never changes any more. */
struct log_position;
void store_position(const struct store *s, struct log_position *ret_position);
uint64_t store_generation(const struct store *s);
uint64_t store_epoch(const struct store *s);
const char *store_dir(const struct store *s);
/* The points; good until the next call that changes the store. */
const struct pointlist *store_points(const struct store *s);
/* Reads the time of the group point at this place of the list from its mark: a list that was loaded does not have it. A mark that cannot be read is logged and
 * counts as one without. -1: no memory. */
int store_learn_group(struct store *s, size_t at, struct err *err);
/* The newest mark, point or progress; NULL: nothing was ever committed. */
const struct mark *store_last_mark(const struct store *s);
/* The whole mark of a point, read from the log. */
int store_point_mark(const struct store *s, const struct point *p, struct mark *ret_mark, struct err *err);

/* ---- merging of runs, so that what a view must look through stays small ----
 * Plan on the lane, run on any thread, finish on the lane (or throw away with store_merge_free). One at a time. */
struct store_merge;
/* 1 and *ret_merge; 0: nothing to do. */
int store_merge_plan(struct store *s, struct store_merge **ret_merge, struct err *err);
int store_merge_run(struct store_merge *m, struct err *err);
int store_merge_finish(struct store *s, struct store_merge *m, struct err *err);
void store_merge_free(struct store_merge *m);
DEFINE_AUTO(store_merge, store_merge_free)

/* The retention lock of the policy (storelock.h): durable when it returns. Nothing that is locked becomes free earlier by it. */
int store_set_lock(struct store *s, uint64_t lock_usec, struct err *err);
/* The time to compare locks with. */
uint64_t store_lock_now(const struct store *s);
/* May nobody take the point off the list yet? */
bool store_point_is_locked(const struct store *s, const struct point *p, uint64_t now_utc_usec);
/* The moment before which something of the machine is locked, so that it must not be erased; 0: nothing is. */
uint64_t store_locked_until(const struct store *s);

/* Takes points off the list (sequences ascending; the newest point stays, and so do locked ones, whatever is asked). Durable when it
 * returns. *ret_dropped: how many went. */
int store_drop_points(struct store *s, const uint64_t *sequences, size_t count, size_t *ret_dropped, struct err *err);

#endif
