/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the store (store.c, store_append.c, store_recover.c, store_tail.c, store_flush.c, store_merge.c) share and nobody else
 * sees.
 */
#ifndef TRANSPORT_VAULT_STORE_PRIVATE_H
#define TRANSPORT_VAULT_STORE_PRIVATE_H

#include "transport/log/seal.h"
#include "transport/log/segment.h"
#include "transport/vault/manifest.h"
#include "transport/vault/memtable.h"
#include "transport/vault/store.h"
#include "transport/vault/storelock.h"
#include "transport/vault/storemeta.h"

#define STORE_FLUSH_EXTENTS 32768u

/* The change set that is coming in and has no mark yet. */
struct store_pending {
    struct extent *items;
    size_t count;
    size_t cap;
    uint64_t records;
    uint64_t bytes;
    struct record_digest *digest;
};

#define STORE_TRIMS_MAX 64u

struct store {
    char *dir;
    int main_fd; /* main/ */
    int runs_fd; /* runs/ */
    struct ident machine;
    uint64_t reserve_bytes;
    struct retentionclock *clock; /* NULL: the machine's */
    uint32_t flush_extents;
    uint64_t segment_bytes;
    struct store_meta meta;
    struct keyring keys;
    struct manifest manifest;
    struct pointlist points;
    struct memtable memtable;
    struct log_position committed; /* behind the last mark */
    struct mark last_mark;         /* sequence 0: none */
    bool had_first;                /* a MARK_FIRST has come: marks of kind point are points */
    struct store_pending pending;
    uint64_t stream_epoch; /* of store_begin; 0: no stream */
    struct segment_writer *writer;
    uint64_t writer_number;
    bool much; /* the last change set was long, as those of a first copy are: the next one is most often, too */
    struct seal_work *work;
    uint8_t *scratch; /* RECORD_BLOCK_SIZE, for checking payloads */
    bool broken;
    bool merging;
    bool lost_commits; /* found at recovery */
    bool rebuilt;      /* the index was made again from the log */
    struct storelock lock;
    uint64_t
        instance; /* no two stores of a process have the same: what was planned for another one is not finished on this one */
    uint64_t trims[STORE_TRIMS_MAX]; /* runs that are to be written anew, most of their history is needless */
    size_t trim_count;
    struct segment_lost *lost; /* while the whole log is replayed: points that rewriting took away; ascending */
    size_t lost_count;
};

/* store_append.c */
int store_pending_add(struct store *s, const struct record *r, uint64_t segment, uint64_t offset, struct err *err);
void store_pending_clear(struct store *s);
/* Does the mark close what is pending? ERR_CORRUPT. */
int store_pending_check(struct store *s, const struct mark *m, struct err *err);
/* Takes over a change set whose mark is durable: index, points, position. */
int store_apply(struct store *s, const struct mark *m, uint64_t segment, uint64_t mark_offset, uint64_t end,
    uint64_t committed_utc_usec, struct err *err);

/* The same for what stands at the end of a rewritten segment without a mark: `sequence` was its last one. */
int store_apply_end(struct store *s, uint64_t sequence, uint64_t segment, uint64_t end, struct err *err);

/* store_tail.c */
/* segment_recover, and the payloads of the last change set opened: *ret_end is before it when they do not fit. */
int store_tail_recover(struct store *s, uint64_t number, uint64_t *ret_end, bool *ret_sealed, struct err *err);

/* store_merge.c */
/* Asks for this run to be written anew, alone. */
void store_trim(struct store *s, uint64_t run_id);

/* store_recover.c */
int store_recover(struct store *s, struct err *err);

#endif
