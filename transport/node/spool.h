/* SPDX-License-Identifier: Apache-2.0
 *
 * The spool of one machine: the change sets that the vault has not committed yet, in segments of transport/log under
 * DATA/spool/MACHINE/. It is a cache, never the truth (P2): whatever is in doubt is dropped, and the agent sends it again.
 *
 * All sets in it are of one epoch and generation and have consecutive sequences. The part behind the last mark is the open
 * set; it is dropped by spool_rewind and by a crash.
 *
 * Blocking; used from one machine's lane only, one call at a time.
 */
#ifndef TRANSPORT_NODE_SPOOL_H
#define TRANSPORT_NODE_SPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"

struct spool;

/* A place between two records. */
struct spool_pos {
    uint64_t segment;
    uint64_t offset;
};

struct spool_state {
    uint64_t first_sequence; /* of the oldest whole set; equal to next_sequence when there is none */
    uint64_t next_sequence;  /* of the set that would come next; 0: never begun */
    uint64_t epoch;          /* 0: never begun */
    uint64_t generation;
    uint64_t bytes;        /* on disk */
    struct spool_pos tail; /* behind everything written, the open set included */
    uint64_t set_start;    /* offset behind the last mark, in the tail's segment; both are 0 where there is none */
};

/* Where a mark stands in the chunks of one append. */
struct spool_mark {
    uint64_t sequence;
    unsigned chunk;
    size_t end; /* offset behind it in that chunk */
};

/* Opens or makes the folder and scans what is in it. Damage shortens what is there and is logged, it is not an error. ERR_NOMEM (descriptors, too): the
 * files are as they were. */
int spool_open(
    const char *path, const struct ident *machine, uint64_t segment_bytes, struct spool **ret_spool, struct err *err);
void spool_close(struct spool *s); /* NULL is allowed; files stay */
DEFINE_AUTO(spool, spool_close)
struct spool_state spool_state(const struct spool *s);

/* Drops everything and begins again with this set. */
int spool_begin(struct spool *s, uint64_t generation, uint64_t epoch, uint64_t next_sequence, struct err *err);
/* Appends whole records; marks are those among them, in order, with consecutive sequences from next_sequence on. On failure
 * the spool is as it was behind its last mark before the call. ERR_NOSPACE, ERR_IO. */
int spool_append(struct spool *s, const struct buf *chunks, unsigned chunk_count, unsigned through_mark,
    const struct spool_mark *marks, size_t mark_count, struct err *err);
/* Drops the open set; after a spool_begin that failed all sets, for that comes first. */
int spool_rewind(struct spool *s, struct err *err);
/* A descriptor to fdatasync from another thread; it makes everything appended so far durable. -1: nothing to sync. The
 * caller closes it. Segments that were left behind are durable already. */
int spool_sync_fd(const struct spool *s);
/* Deletes the segments that hold nothing behind `committed`. With idle set, the one that grows too, when it is done with. */
int spool_trim(struct spool *s, uint64_t committed, bool idle, struct err *err);

/* Where set `sequence` begins (first_sequence..next_sequence). ERR_NOT_FOUND. */
int spool_find(const struct spool *s, uint64_t sequence, struct spool_pos *ret_pos, struct err *err);
/* Appends whole records from *pos on to out, at most up to limit and until out holds `enough` bytes, and moves *pos. Equal
 * positions mean the end; a *pos behind limit, in a set that was dropped, is ERR_NOT_FOUND. ERR_CORRUPT, ERR_IO. */
int spool_read(struct spool *s, struct spool_pos *pos, const struct spool_pos *limit, size_t enough, struct buf *out,
    struct err *err);

#endif
