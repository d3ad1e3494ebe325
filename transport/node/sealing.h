/* SPDX-License-Identifier: Apache-2.0
 *
 * The work on one batch that needs a processor and nothing else: every record's hash checked, raw ones compressed, zero
 * blocks dropped, all encrypted. Batches are independent of each other, so several of one machine may be sealed at the
 * same time; what needs their order comes later (spool).
 */
#ifndef TRANSPORT_NODE_SEALING_H
#define TRANSPORT_NODE_SEALING_H

#include "transport/base/buf.h"
#include "transport/base/err.h"
#include "transport/log/seal.h"

#define SEALING_BATCH_MAX (4u << 20)   /* the longest batch that a peer may send (replication.proto) */
#define SEALING_CHUNK_BYTES (1u << 20) /* output is cut at the first record boundary behind this */
#define SEALING_CHUNK_MAX (SEALING_CHUNK_BYTES + RECORD_HEADER_SIZE + RECORD_STORED_MAX)
#define SEALING_CHUNKS_MAX 16u /* 4 MiB of the smallest records, each 16 bytes longer, and the cut behind a mark */

struct sealing_order {
    int level; /* of zstd, for records that came raw; 0: leave them */
    struct seal_key key;
    uint32_t nonce_stream;
    uint64_t nonce_counter; /* the first; at most sealing_nonces(len) are used */
};

/* The sealed batch: whole records, in as many pieces as are good to send. */
struct sealing_out {
    struct buf chunks[SEALING_CHUNKS_MAX];
    unsigned chunk_count;
    unsigned through_mark; /* the first so many chunks end with the last mark of the batch; 0: it has none */
};

struct sealing_pool; /* contexts of zstd and OpenSSL, one per thread at work; may be used from any thread */
struct sealing_pool *sealing_pool_new(void);
void sealing_pool_free(struct sealing_pool *p);

/* How many nonces a batch of n bytes may use. */
uint64_t sealing_nonces(size_t n);
/* Seals one batch. ERR_CORRUPT (framing, hash), ERR_INVALID (encrypted already), ERR_TOO_LARGE, ERR_NOMEM; *out is empty
 * then. Any thread. */
int sealing_run(struct sealing_pool *p, const struct sealing_order *order, const uint8_t *batch, size_t n,
    struct sealing_out *out, struct err *err);
void sealing_out_done(struct sealing_out *out);

#endif
