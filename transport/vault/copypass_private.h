/* SPDX-License-Identifier: Apache-2.0
 *
 * What copypass.c, copylook.c, copyblocks.c and copynote.c share and nobody else sees.
 */
#ifndef TRANSPORT_VAULT_COPYPASS_PRIVATE_H
#define TRANSPORT_VAULT_COPYPASS_PRIVATE_H

#include "transport/base/buf.h"
#include "transport/base/hash.h"
#include "transport/log/seal.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/vault/copypass.h"
#include "transport/vault/copyset.h"
#include "transport/vault/view.h"

#define COPY_BLOCK RECORD_BLOCK_SIZE
#define COPY_PIECE 4096u /* what is compared and sent for itself */
#define COPY_PIECES (COPY_BLOCK / COPY_PIECE)
#define COPY_ASK_BLOCKS 256u /* in one call at most; on a slow line fewer, so that none takes long */

struct copypass {
    struct copypass_spec spec; /* held: what the pass stands on */
    struct copy_held held;     /* once the point is there */
    struct mark target; /* as the other vault's, with its sequence and generation; then the frame of the change sets */
    uint64_t lacks_there;     /* records that are damaged in the other vault, as it says */
    struct copy_offer *offer; /* what is sent for them; NULL: nothing is */
    uint64_t target_sequence, target_generation, target_changed_bytes, newest_sequence;
    /* Of begin. */
    struct view *own;  /* what the log held when the pass began; NULL: nothing */
    struct mark *base; /* that of the point that the pass stands on */
    struct store_opened opened;
    bool begun, first; /* first: MARK_FIRST */
    bool hurries;      /* what there is becomes a change set when it must rest */
    bool heals;        /* the target is the point that is here; its damage is asked for block by block */
    /* How far it is: disk, and of it the blocks that have changed, from block_at on, then all from sweep_at on. */
    uint32_t disk;
    bool prepared;
    struct copyset changed;
    uint64_t block_at, done_blocks, sweep_at;
    bool too_many;          /* blocks have changed to know which: all are compared */
    struct hash128 *hashes; /* of the other vault, from hashes_at on; NULL: none were asked for */
    uint64_t hashes_at;
    size_t hash_count;
    bool complete; /* all is gathered */
    /* The open change set. */
    struct seal_work *work;
    struct record_digest *digest;
    struct buf plain, batch;
    uint64_t records, bytes, nonce, taken_bytes, traffic_bytes;
    struct copy_counts noted;                  /* of these, and of spec.unnoted: what the file has */
    uint64_t noted_usec;                       /* monotonic */
    uint64_t set_since_usec, rests_until_usec; /* monotonic: when its first record came; when more may be asked for */
    uint64_t granted;                          /* bytes, of the pace; 0: none */
    /* Blocks that are asked for. */
    uint8_t *block; /* COPY_BLOCK */
    struct copy_asking *asking;
    size_t have_count;
    unsigned ask_blocks; /* in one call: follows how long they take */
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
/* copylook.c. Does the other vault still have the target? Its log may have been cut and gone on meanwhile, and all calls but the look name points by their
 * numbers alone. What was gathered may be of both logs then, and must not become a point. */
int copy_target_stands(struct copypass *p, struct err *err);

/* copypass.c: may the other vault be asked now? And what that took. */
bool copy_may_ask(struct copypass *p);
void copy_settle(struct copypass *p, uint64_t bytes);

/* copyoffer.c */
void copy_offer_free(struct copy_offer *o); /* NULL allowed */

/* copynote.c */
int copy_note_store(const struct store *s, const struct copy_held *h, struct err *err);
/* Of a change set that is no point yet: what its pass stands on. */
void copy_tag(const struct copy_held *base, char tag[MARK_TAG_MAX + 1]);

#endif
