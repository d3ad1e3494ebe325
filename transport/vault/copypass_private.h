/* SPDX-License-Identifier: Apache-2.0
 *
 * What copypass.c, copyblocks.c and copynote.c share and nobody else sees.
 */
#ifndef TRANSPORT_VAULT_COPYPASS_PRIVATE_H
#define TRANSPORT_VAULT_COPYPASS_PRIVATE_H

#include "transport/base/buf.h"
#include "transport/base/hash.h"
#include "transport/log/seal.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/vault/copypass.h"
#include "transport/vault/view.h"

#define COPY_BLOCK RECORD_BLOCK_SIZE
#define COPY_PIECE 4096u /* what is compared and sent for itself */
#define COPY_PIECES (COPY_BLOCK / COPY_PIECE)
#define COPY_ASK_BLOCKS 256u /* in one call */

struct copypass {
    struct copypass_spec spec; /* held: what the pass stands on */
    struct copy_held held;     /* once the point is there */
    struct mark target; /* as the other vault's, with its sequence and generation; then the frame of the change sets */
    uint64_t target_sequence, target_generation, target_changed_bytes;
    /* Of begin. */
    struct view *own;  /* what the log held when the pass began; NULL: nothing */
    struct mark *base; /* that of the point that the pass stands on */
    struct store_opened opened;
    bool begun, first; /* first: MARK_FIRST */
    /* How far it is: disk, and of it the ranges that have changed, then all from sweep_at on. */
    uint32_t disk;
    bool prepared;
    uint64_t *starts, *ends; /* whole blocks */
    size_t range_count, range_cap, range;
    uint64_t range_at, sweep_at;
    struct hash128 *hashes; /* of the other vault, from hashes_at on; NULL: none were asked for */
    uint64_t hashes_at;
    size_t hash_count;
    bool complete; /* all is gathered */
    /* The open change set. */
    struct seal_work *work;
    struct record_digest *digest;
    struct buf plain, batch;
    uint64_t records, bytes, nonce, taken_bytes, traffic_bytes;
    /* Blocks that are asked for. */
    uint8_t *block; /* COPY_BLOCK */
    struct copy_asking *asking;
    size_t have_count;
};

struct copy_asking {
    Leeward__Vault__V1__BlockHave have[COPY_ASK_BLOCKS], *list[COPY_ASK_BLOCKS];
    struct hash128 pieces[COPY_ASK_BLOCKS][COPY_PIECES];
};

/* copyblocks.c: on the thread that may wait */
/* Takes a block of the disk along that may differ. hash: what the other vault has there; NULL: it is asked in any case. */
int copy_compare_block(
    struct copypass *p, uint32_t disk, uint64_t start, uint32_t n, const struct hash128 *hash, struct err *err);
/* Asks for those that wait. */
int copy_flush(struct copypass *p, uint32_t disk, struct err *err);

/* copynote.c */
int copy_note_store(const struct store *s, const struct copy_held *h, struct err *err);
/* Of a change set that is no point yet: what its pass stands on. */
void copy_tag(const struct copy_held *base, char tag[MARK_TAG_MAX + 1]);

#endif
