/* SPDX-License-Identifier: Apache-2.0
 *
 * What branch.c and branch_write.c share and nobody else sees.
 */
#ifndef TRANSPORT_VAULT_BRANCH_PRIVATE_H
#define TRANSPORT_VAULT_BRANCH_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "transport/base/buf.h"
#include "transport/log/segment.h"
#include "transport/vault/branch.h"
#include "transport/vault/extmap.h"
#include "transport/vault/manifest.h"
#include "transport/vault/recordread.h"

/* What one thread needs while it seals what it writes. */
struct branch_bench {
    struct branch_bench *next;
    struct seal_work *work;
    struct buf plain;  /* records before encryption */
    struct buf sealed; /* records as they go to the log */
    uint8_t *sector;   /* RECORD_BLOCK_SIZE, for the edges of a write that is not aligned */
};

struct branch {
    struct branch_info info;
    char *dir;
    const struct view *base;
    struct seal_key key;
    uint32_t nonce_stream;
    uint64_t reserve_bytes;
    _Atomic uint64_t nonce_counter;
    int dirfd; /* holds the lock of the folder */
    struct recordread *records;
    pthread_rwlock_t map_lock; /* guards map alone; held for a look or an insertion */
    struct extmap *map;
    pthread_mutex_t write_lock; /* guards all below; taken before map_lock */
    struct segment_writer *writer;
    uint64_t segment;  /* number of the last segment, 0: none */
    uint64_t sequence; /* of the last mark, 0: none */
    struct record_digest *digest;
    uint64_t pending_records, pending_bytes; /* behind the last mark */
    struct branch_bench *benches;
    uint64_t snapshot_id; /* of the run that holds the map as it was; 0: none */
    size_t noted;         /* records that came since */
    bool broken;          /* nobody knows what the log holds: nothing more is taken */
};

/* branch.c */
int branch_check_range(const struct branch *b, uint32_t disk, uint64_t start, uint64_t n, struct err *err);

/* branch_write.c */
/* Puts a record at segment/offset into the block map. */
int branch_note(struct branch *b, const struct record *r, uint64_t segment, uint64_t offset, struct err *err);
void branch_benches_free(struct branch *b);
/* Is so much room left above the reserve? ERR_NOSPACE. */
int branch_check_room(const struct branch *b, size_t n, struct err *err);

/* branch_snapshot.c */
/* Directly behind a mark, with write_lock held: writes the map out if enough has come. What goes wrong is logged: it is a cache. */
void branch_snapshot_take(struct branch *b, bool closing);
/* Fills the empty map from the snapshot and says behind which mark replay begins: at the front when there is none that the log, which
 * ends at `end` of its last segment, still fits. */
void branch_snapshot_load(struct branch *b, uint64_t segments, uint64_t end, struct log_position *ret_position);

#endif
