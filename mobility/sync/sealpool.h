/* SPDX-License-Identifier: Apache-2.0
 *
 * Hashes and compresses pieces of disks on several processors, and gives the records back in the order in which the pieces came:
 * a first copy is bounded by zstd, and one thread of it leaves the other processors idle.
 *
 * The owner adds pieces, which are collected in lots of SEALPOOL_LOT_BYTES, and takes sealed lots. Where it has to wait for the
 * oldest one it seals itself what nobody has begun, so that the pool works with no thread but the owner's, too. Memory is bounded:
 * (2 x threads + 3) lots of plaintext, and of sealed records as much at most.
 *
 * One thread at a time owns the pool and calls everything here.
 */
#ifndef MOBILITY_SYNC_SEALPOOL_H
#define MOBILITY_SYNC_SEALPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/base/mem.h"
#include "transport/log/record.h"

#define SEALPOOL_LOT_BYTES (512u << 10)
#define SEALPOOL_THREADS_MAX 8u
#define SEALPOOL_RECORDS_MAX 128u /* in a lot: pieces of 4 KiB and less are many */

struct sealpool;

/* One sealed lot. Both pointers are good until it is released. */
struct sealpool_lot {
    const struct buf *bytes;
    const struct record *records; /* as they stand in bytes */
    size_t count;
};

/* threads: beside the owner's, 0..SEALPOOL_THREADS_MAX, each with that nice value (see setpriority(2)). ERR_NOMEM; threads that
 * cannot be had are done without. */
int sealpool_new(unsigned threads, int nice, struct sealpool **ret_pool, struct err *err);
/* Waits for what is being sealed, and drops everything. NULL is allowed. */
void sealpool_free(struct sealpool *pool);
DEFINE_AUTO(sealpool, sealpool_free)

/* All lots are in use: one has to be released before the next piece can be added. */
bool sealpool_is_full(const struct sealpool *pool);
bool sealpool_is_empty(const struct sealpool *pool); /* everything that was added has been taken */
/* Copies one piece (at most 64 KiB, within one 64 KiB block; level as in seal_append_data) into a pool that is not full. */
void sealpool_add(struct sealpool *pool, uint32_t disk, uint64_t start, const void *data, uint32_t length, int level);
/* Nothing more is added to the lot that is being filled: it may be sealed as it is. */
void sealpool_close_lot(struct sealpool *pool);
/* The oldest lot that was closed: 1; 0 where there is none, or (wait false) it is not sealed yet; -1 with why it could not be
 * sealed, which is tried again with the next call. */
int sealpool_oldest(struct sealpool *pool, bool wait, struct sealpool_lot *ret_lot, struct err *err);
/* The lot that sealpool_oldest gave has been taken. */
void sealpool_release(struct sealpool *pool);
/* Forgets all that was added and not taken. */
void sealpool_drop(struct sealpool *pool);

#endif
