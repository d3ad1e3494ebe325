/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of leeward.vault.v1 that a machine is written back with. Changes names what was written between two points, from the index alone: no data
 * is read. Blocks takes hashes of what the client has in pieces of 4 KiB, and answers with those pieces that the point holds otherwise. So what travels is
 * what differs, however it is strewn over the disk.
 */
#include <string.h>

#include "transport/base/bytes.h"
#include "transport/base/hash.h"
#include "transport/vault/vaultread_private.h"

#define PIECE_BYTES 4096u
#define PIECES_MAX (RECORD_BLOCK_SIZE / PIECE_BYTES)
#define HAVE_MAX 256u
#define BLOCKS_PER_STEP 16u
#define RANGES_PER_CHUNK 4096u
#define LOOKS_PER_STEP 65536u /* at the block map */

struct block_have {
    uint64_t start;
    uint32_t length;
    struct hash128 hashes[PIECES_MAX];
};

/* ---- Changes ---- */

static int changes_request(struct read_call *c, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__ChangesRequest *q = (const void *)m;
    c->sequence = q->sequence;
    c->after = q->after_sequence;
    c->disk = q->disk;
    return vaultread_machine(c, &q->machine_id, err);
}

static int changes_prepare(struct read_call *c, struct store *s, struct err *err)
{
    if (vaultread_open(c, s, false, err) < 0)
        return -1;
    const struct mark_disk *d = view_disk(c->view, c->disk);
    if (d == NULL)
        return err_set(err, ERR_NOT_FOUND, "the machine had no disk %u at that point", c->disk);
    c->sequence = view_mark(c->view)->sequence;
    c->end = d->size_bytes;
    return 0;
}

struct ranges {
    uint64_t starts[RANGES_PER_CHUNK], lengths[RANGES_PER_CHUNK];
    size_t count;
};

static void add_range(struct ranges *r, uint64_t start, uint64_t length)
{
    if (r->count > 0 && r->starts[r->count - 1] + r->lengths[r->count - 1] == start) {
        r->lengths[r->count - 1] += length;
        return;
    }
    r->starts[r->count] = start;
    r->lengths[r->count++] = length;
}

/* Where nothing was ever written nothing was written since. */
static int gather(struct read_call *c, struct ranges *r, struct err *err)
{
    uint64_t end = extent_key(c->disk, c->end);
    for (unsigned looks = 0; c->start < c->end && looks < LOOKS_PER_STEP && r->count < RANGES_PER_CHUNK; looks++) {
        struct piece p;
        if (view_piece(c->view, extent_key(c->disk, c->start), end, &p, err) < 0)
            return -1;
        uint64_t length = p.sectors * RECORD_SECTOR;
        if (p.kind != PIECE_HOLE && p.extent.sequence > c->after)
            add_range(r, c->start, length);
        c->start += length;
    }
    return 0;
}

/* Who writes some of a point's disks should know which others it has. */
static void name_disks(const struct mark *m, uint32_t numbers[MARK_DISKS_MAX], Leeward__Vault__V1__ChangeChunk *chunk)
{
    for (uint32_t i = 0; i < m->disk_count; i++)
        numbers[i] = m->disks[i].number;
    chunk->disks = numbers;
    chunk->n_disks = m->disk_count;
}

static int changes_step(struct read_call *c, struct err *err)
{
    Leeward__Vault__V1__ChangeChunk chunk = LEEWARD__VAULT__V1__CHANGE_CHUNK__INIT;
    struct ranges *r AUTO_FREE = mem_new(struct ranges);
    uint32_t numbers[MARK_DISKS_MAX];
    if (r == NULL)
        return err_set(err, ERR_NOMEM, "no memory to list changes");
    if (c->after >= c->sequence)
        c->start = c->end;
    else if (gather(c, r, err) < 0)
        return -1;
    chunk.sequence = c->sequence;
    chunk.size_bytes = view_disk(c->view, c->disk)->size_bytes;
    chunk.n_starts = chunk.n_lengths = r->count;
    chunk.starts = r->starts;
    chunk.lengths = r->lengths;
    if (!c->told)
        name_disks(view_mark(c->view), numbers, &chunk);
    if ((r->count > 0 || !c->told) && vaultread_put(c, &chunk.base, err) < 0)
        return -1;
    c->told = true;
    return c->start < c->end;
}

static const struct read_kind changes_kind = {.type = &leeward__vault__v1__changes_request__descriptor,
    .request = changes_request,
    .prepare = changes_prepare,
    .step = changes_step};

int vaultdiffer_accept_changes(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return vaultread_accept(call, server_arg, &changes_kind, ret_ops, ret_arg, err);
}

/* ---- Blocks ---- */

static int take_have(struct block_have *have, const Leeward__Vault__V1__BlockHave *q, struct err *err)
{
    size_t pieces = (q->length + PIECE_BYTES - 1) / PIECE_BYTES;
    if (q->start % RECORD_BLOCK_SIZE != 0 || q->length == 0 || q->length > RECORD_BLOCK_SIZE ||
        q->hashes.len != pieces * HASH_SIZE)
        return err_set(err, ERR_INVALID,
            "a block has at most %u bytes from a multiple of that on, and a hash for each %u", RECORD_BLOCK_SIZE,
            PIECE_BYTES);
    have->start = q->start;
    have->length = q->length;
    memcpy(have->hashes, q->hashes.data, q->hashes.len);
    return 0;
}

static int blocks_request(struct read_call *c, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__BlocksRequest *q = (const void *)m;
    c->sequence = q->sequence;
    c->disk = q->disk;
    if (q->sequence == 0 || q->n_have == 0 || q->n_have > HAVE_MAX)
        return err_set(err, ERR_INVALID, "blocks are asked for at a point, at most %u at a time", HAVE_MAX);
    c->have = mem_alloc(q->n_have, sizeof(*c->have));
    if (c->have == NULL)
        return err_set(err, ERR_NOMEM, "no memory to compare blocks");
    for (; c->have_count < q->n_have; c->have_count++)
        if (take_have(&c->have[c->have_count], q->have[c->have_count], err) < 0)
            return -1;
    return vaultread_machine(c, &q->machine_id, err);
}

static int blocks_prepare(struct read_call *c, struct store *s, struct err *err)
{
    if (vaultread_open(c, s, false, err) < 0)
        return -1;
    const struct mark_disk *d = view_disk(c->view, c->disk);
    if (d == NULL)
        return err_set(err, ERR_NOT_FOUND, "the machine had no disk %u at that point", c->disk);
    for (size_t i = 0; i < c->have_count; i++)
        if (c->have[i].start > d->size_bytes || c->have[i].length > d->size_bytes - c->have[i].start)
            return err_set(err, ERR_INVALID, "a block reaches out of the disk");
    return 0;
}

static int put_run(struct read_call *c, uint64_t start, const uint8_t *data, size_t n, struct err *err)
{
    Leeward__Vault__V1__RangeChunk chunk = LEEWARD__VAULT__V1__RANGE_CHUNK__INIT;
    struct hash128 hash;
    chunk.start = start;
    if (bytes_are_zero(data, n)) {
        chunk.zero_length = n;
    } else {
        hash_128(data, n, &hash);
        chunk.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)data};
        chunk.hash = (ProtobufCBinaryData){HASH_SIZE, hash.bytes};
    }
    return vaultread_put(c, &chunk.base, err);
}

/* Neighbours that differ go together, zeros apart from data. */
static int answer_block(struct read_call *c, const struct block_have *have, const uint8_t *data, struct err *err)
{
    size_t from = 0;
    bool running = false, zero = false;
    for (size_t at = 0; at <= have->length; at += PIECE_BYTES) {
        size_t n = have->length - at < PIECE_BYTES ? have->length - at : PIECE_BYTES;
        struct hash128 hash;
        bool differs = false;
        if (n > 0) {
            hash_128(data + at, n, &hash);
            differs = !hash_equal(&hash, &have->hashes[at / PIECE_BYTES]);
        }
        bool is_zero = differs && bytes_are_zero(data + at, n);
        if (running && (!differs || is_zero != zero)) {
            if (put_run(c, have->start + from, data + from, at - from, err) < 0)
                return -1;
            running = false;
        }
        if (differs && !running) {
            running = true;
            zero = is_zero;
            from = at;
        }
        if (n < PIECE_BYTES && running)
            return put_run(c, have->start + from, data + from, have->length - from, err);
    }
    return 0;
}

static int blocks_step(struct read_call *c, struct err *err)
{
    uint8_t *data AUTO_FREE = mem_alloc(1, RECORD_BLOCK_SIZE);
    if (data == NULL)
        return err_set(err, ERR_NOMEM, "no memory to compare blocks");
    for (unsigned i = 0; i < BLOCKS_PER_STEP && c->have_at < c->have_count; i++) {
        const struct block_have *have = &c->have[c->have_at++];
        struct err why = ERR_INIT;
        if (view_read(c->view, c->disk, have->start, have->length, data, &why) < 0) {
            /* Under one code that arrives as it was sent, whatever is wrong with what is stored. */
            if (vaultread_is_damage(&why))
                return err_set(err, ERR_CORRUPT, "disk %u at %llu is damaged here: %s", (unsigned)c->disk,
                    (unsigned long long)have->start, why.text);
            err_copy(err, &why);
            return -1;
        }
        if (answer_block(c, have, data, err) < 0)
            return -1;
    }
    return c->have_at < c->have_count;
}

static const struct read_kind blocks_kind = {.type = &leeward__vault__v1__blocks_request__descriptor,
    .request = blocks_request,
    .prepare = blocks_prepare,
    .step = blocks_step};

int vaultdiffer_accept_blocks(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return vaultread_accept(call, server_arg, &blocks_kind, ret_ops, ret_arg, err);
}
