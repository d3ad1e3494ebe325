/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of 64 KiB that may differ are asked for with a hash of each 4 KiB that is here; what comes is what the other vault's point holds where it is
 * something else, and becomes records. What cannot be read here differs: it is damaged, and comes anew. Where damage is what a pass is for, blocks are
 * asked for one by one, and one that is damaged there, too, costs itself alone.
 */
#include <string.h>

#include "transport/base/bytes.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/vault/copypass_private.h"

#define LEVEL 1
#define QUICK_USEC USEC_PER_SEC      /* calls are made larger that take less, */
#define SLOW_USEC (4 * USEC_PER_SEC) /* and smaller that take more */

/* ---- what is here ---- */

/* Zeros where nothing was ever written. The index is asked, whatever the size of the disk was: what lies behind its end may come to light
 * when it grows. */
static int own_read(struct copypass *p, uint32_t disk, uint64_t start, uint32_t n, struct err *err)
{
    uint64_t key = extent_key(disk, start), end = extent_key(disk, start + n);
    memset(p->block, 0, n);
    while (p->own != NULL && key < end) {
        struct piece piece;
        if (view_piece(p->own, key, end, &piece, err) < 0)
            return -1;
        uint64_t at = extent_key_bytes(key);
        if (piece.kind == PIECE_DATA &&
            view_read_piece(p->own, &piece, at, piece.sectors * RECORD_SECTOR, p->block + (at - start), err) < 0)
            return -1;
        key += piece.sectors;
    }
    return 0;
}

/* Of a block that is one whole record it stands in the header. */
static int own_hash(
    struct copypass *p, uint32_t disk, uint64_t start, uint32_t n, struct hash128 *ret_hash, struct err *err)
{
    struct piece piece;
    struct record r;
    uint64_t key = extent_key(disk, start);
    if (p->own != NULL) {
        if (view_piece(p->own, key, key + n / RECORD_SECTOR, &piece, err) < 0)
            return -1;
        if (piece.kind == PIECE_DATA && piece.sectors == n / RECORD_SECTOR) {
            if (view_record(p->own, &piece, &r, err) < 0)
                return -1;
            if (r.start == start && r.length == n) {
                *ret_hash = r.hash;
                return 0;
            }
        }
    }
    if (own_read(p, disk, start, n, err) < 0)
        return -1;
    hash_128(p->block, n, ret_hash);
    return 0;
}

/* ---- records ---- */

static void added(struct copypass *p, const struct record *r)
{
    record_digest_add(p->digest, r);
    if (p->records++ == 0)
        p->set_since_usec = clock_mono_usec();
    p->bytes += r->length;
    p->taken_bytes += r->length;
}

static int add_data(struct copypass *p, uint32_t disk, uint64_t start, const uint8_t *data, uint32_t n, struct err *err)
{
    struct record r, sealed;
    buf_clear(&p->plain);
    if (seal_append_data(p->work, disk, start, data, n, 0, &p->plain, &r, err) < 0 ||
        seal_reseal(p->work, &r, p->plain.data + RECORD_HEADER_SIZE, LEVEL, &p->opened.data_key, p->opened.nonce_stream,
            ++p->nonce, &p->batch, &sealed, err) < 0)
        return -1;
    added(p, &sealed);
    return 0;
}

static int add_zero(struct copypass *p, uint32_t disk, uint64_t start, uint64_t n, struct err *err)
{
    struct record r;
    if (seal_append_zero(disk, start, n, &p->batch, &r, err) < 0)
        return -1;
    added(p, &r);
    return 0;
}

/* ---- asking ---- */

static bool was_asked(const struct copypass *p, uint64_t start, uint64_t length)
{
    for (size_t i = 0; i < p->have_count; i++)
        if (start >= p->asking->have[i].start && length <= p->asking->have[i].length &&
            start - p->asking->have[i].start <= p->asking->have[i].length - length)
            return true;
    return false;
}

struct taking {
    struct copypass *p;
    uint32_t disk;
};

static int take_chunk(void *arg, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__RangeChunk *c = (const void *)m;
    struct taking *t = arg;
    struct hash128 hash;
    uint64_t length = c->data.len > 0 ? c->data.len : c->zero_length;
    if (length == 0 || length % RECORD_SECTOR != 0 || c->start % RECORD_SECTOR != 0 ||
        !was_asked(t->p, c->start, length))
        return err_set(err, ERR_CORRUPT, "the other vault answered another block than those asked for");
    if (c->data.len == 0)
        return add_zero(t->p, t->disk, c->start, length, err);
    hash_128(c->data.data, c->data.len, &hash);
    if (c->hash.len != HASH_SIZE || memcmp(c->hash.data, hash.bytes, HASH_SIZE) != 0) {
        (void)err_set(err, ERR_CORRUPT, "a block came from the other vault without its hash, or damaged");
        return err_hint(err, "see that it is not of an older version");
    }
    return add_data(t->p, t->disk, c->start, c->data.data, (uint32_t)c->data.len, err);
}

/* The next call is as large as the line brings in a few seconds: one that takes too long is given up, and would be again. */
static void adapt(struct copypass *p, size_t asked, uint64_t took_usec)
{
    if (took_usec > SLOW_USEC && p->ask_blocks > 1)
        p->ask_blocks /= 2;
    else if (took_usec < QUICK_USEC && asked == p->ask_blocks && p->ask_blocks < COPY_ASK_BLOCKS)
        p->ask_blocks = p->ask_blocks * 2 < COPY_ASK_BLOCKS ? p->ask_blocks * 2 : COPY_ASK_BLOCKS;
}

int copy_flush(struct copypass *p, uint32_t disk, struct err *err)
{
    Leeward__Vault__V1__BlocksRequest q = LEEWARD__VAULT__V1__BLOCKS_REQUEST__INIT;
    struct taking t = {.p = p, .disk = disk};
    struct err why = ERR_INIT;
    if (p->have_count == 0)
        return 0;
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, p->spec.machine.bytes};
    q.sequence = p->target_sequence;
    q.disk = disk;
    q.n_have = p->have_count;
    q.have = p->asking->list;
    uint64_t began = clock_mono_usec();
    int result = vaultask_run(p->spec.ask, "/leeward.vault.v1.Vault/Blocks", &q.base,
        &leeward__vault__v1__range_chunk__descriptor, take_chunk, &t, &p->traffic_bytes, &why);
    adapt(p, p->have_count, clock_mono_usec() - began);
    p->have_count = 0;
    if (result < 0 && p->heals && (why.code == ERR_CORRUPT || why.code == ERR_IO)) {
        log_event(
            LOG_WARN, "damage_there_too", LOG_U("disk", disk), LOG_U("start", p->asking->have[0].start), LOG_E(&why));
        return 0;
    }
    if (result < 0)
        err_copy(err, &why);
    return result;
}

static int add_have(struct copypass *p, uint32_t disk, uint64_t start, uint32_t n, struct err *err)
{
    Leeward__Vault__V1__BlockHave *have = &p->asking->have[p->have_count];
    struct hash128 *hashes = p->asking->pieces[p->have_count];
    size_t count = (n + COPY_PIECE - 1) / COPY_PIECE;
    struct err why = ERR_INIT;
    if (own_read(p, disk, start, n, &why) == 0) {
        for (size_t i = 0; i < count; i++)
            hash_128(p->block + i * COPY_PIECE, n - i * COPY_PIECE < COPY_PIECE ? n - i * COPY_PIECE : COPY_PIECE,
                &hashes[i]);
    } else if (why.code == ERR_NOMEM) {
        err_copy(err, &why);
        return -1;
    } else {
        memset(hashes, 0, count * sizeof(*hashes)); /* of nothing */
    }
    *have = (Leeward__Vault__V1__BlockHave)LEEWARD__VAULT__V1__BLOCK_HAVE__INIT;
    have->start = start;
    have->length = n;
    have->hashes = (ProtobufCBinaryData){count * HASH_SIZE, (uint8_t *)hashes};
    p->asking->list[p->have_count++] = have;
    return p->have_count >= (p->heals ? 1 : p->ask_blocks) ? copy_flush(p, disk, err) : 0;
}

int copy_compare_block(
    struct copypass *p, uint32_t disk, uint64_t start, uint32_t n, const struct hash128 *hash, struct err *err)
{
    struct hash128 ours;
    struct err why = ERR_INIT;
    if (hash != NULL) {
        if (own_hash(p, disk, start, n, &ours, &why) == 0 && hash_equal(hash, &ours))
            return 0;
        if (why.code == ERR_NOMEM) {
            err_copy(err, &why);
            return -1;
        }
    }
    return add_have(p, disk, start, n, err);
}
