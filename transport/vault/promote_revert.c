/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking the main line back to an older point: both are looked through side by side by their block maps; where they lead to the same
 * record nothing is read, elsewhere the older content is written again, as a node would, in change sets of bounded size.
 */
#include "transport/base/clock.h"
#include "transport/log/seal.h"
#include "transport/vault/promote_private.h"

#define BATCH_BYTES (2u << 20)
#define BATCH_MAX (8u << 20)
#define SET_BYTES (32u << 20) /* of content in one change set */
#define LEVEL 1

struct revert {
    struct store *s;
    const struct revert_spec *spec;
    struct seal_work *work;
    struct record_digest *digest;
    struct buf plain, batch;
    uint8_t *block; /* RECORD_BLOCK_SIZE */
    uint64_t records, bytes, nonce;
};

static int send(struct revert *v, struct err *err)
{
    uint64_t committed;
    int result = v->batch.len == 0 ? 0 : store_append(v->s, v->batch.data, v->batch.len, &committed, err);
    buf_clear(&v->batch);
    return result;
}

static int close_set(struct revert *v, enum mark_kind kind, struct err *err)
{
    struct mark *m AUTO_FREE = mem_new(struct mark);
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark");
    *m = *view_mark(v->spec->base); /* whose it is, and its disks */
    m->kind = kind;
    m->flags = 0;
    m->sequence = store_committed(v->s) + 1;
    m->generation = v->spec->generation;
    m->epoch = v->spec->epoch;
    m->time_utc_usec = clock_utc_usec();
    m->group_point = (struct ident){0};
    m->tag[0] = '\0';
    m->record_count = v->records;
    m->changed_bytes = v->bytes;
    record_digest_get(v->digest, &m->digest);
    v->records = v->bytes = 0;
    record_digest_reset(v->digest);
    if (mark_append(m, &v->batch, err) < 0 || send(v, err) < 0)
        return -1;
    return store_wants_flush(v->s) ? store_flush(v->s, err) : 0;
}

static int added(struct revert *v, const struct record *r, struct err *err)
{
    record_digest_add(v->digest, r);
    v->records++;
    v->bytes += r->length;
    if (v->batch.len < BATCH_BYTES)
        return 0;
    return v->bytes >= SET_BYTES ? close_set(v, MARK_PROGRESS, err) : send(v, err);
}

static int add_zero(struct revert *v, uint32_t disk, uint64_t start, uint64_t n, struct err *err)
{
    struct record r;
    return seal_append_zero(disk, start, n, &v->batch, &r, err) < 0 ? -1 : added(v, &r, err);
}

static int add_block(struct revert *v, uint32_t disk, uint64_t start, uint32_t n, struct err *err)
{
    struct record r, sealed;
    buf_clear(&v->plain);
    if (view_read(v->spec->base, disk, start, n, v->block, err) < 0 ||
        seal_append_data(v->work, disk, start, v->block, n, 0, &v->plain, &r, err) < 0)
        return -1;
    if (seal_reseal(v->work, &r, v->plain.data + RECORD_HEADER_SIZE, LEVEL, &v->spec->opened->data_key,
            v->spec->opened->nonce_stream, ++v->nonce, &v->batch, &sealed, err) < 0)
        return -1;
    return added(v, &sealed, err);
}

static int add_piece(
    struct revert *v, const struct piece *p, uint32_t disk, uint64_t start, uint64_t n, struct err *err)
{
    if (p->kind != PIECE_DATA)
        return add_zero(v, disk, start, n, err);
    while (n > 0) {
        uint64_t room = RECORD_BLOCK_SIZE - start % RECORD_BLOCK_SIZE;
        uint64_t part = n < room ? n : room;
        if (add_block(v, disk, start, (uint32_t)part, err) < 0)
            return -1;
        start += part;
        n -= part;
    }
    return 0;
}

static bool reads_alike(const struct piece *a, const struct piece *b)
{
    if (a->kind != PIECE_DATA || b->kind != PIECE_DATA)
        return a->kind != PIECE_DATA && b->kind != PIECE_DATA;
    return a->extent.segment == b->extent.segment && a->extent.offset == b->extent.offset;
}

static int revert_disk(struct revert *v, const struct view *now, const struct mark_disk *d, struct err *err)
{
    uint64_t key = extent_key(d->number, 0);
    uint64_t end = extent_key(d->number, d->size_bytes);
    while (key < end) {
        struct piece then, is;
        if (view_piece(v->spec->base, key, end, &then, err) < 0 || view_piece(now, key, end, &is, err) < 0)
            return -1;
        uint64_t sectors = then.sectors < is.sectors ? then.sectors : is.sectors;
        if (!reads_alike(&then, &is) &&
            add_piece(v, &then, d->number, extent_key_bytes(key), sectors * RECORD_SECTOR, err) < 0)
            return -1;
        key += sectors;
    }
    return 0;
}

static int revert_all(struct revert *v, struct err *err)
{
    struct view *now AUTO_OF(view) = NULL;
    const struct mark *base = view_mark(v->spec->base);
    if (store_last_mark(v->s)->sequence == base->sequence)
        return 0;
    if (view_open_mark(store_dir(v->s), store_last_mark(v->s), &v->spec->opened->keys, 0, &now, err) < 0)
        return -1;
    for (uint32_t i = 0; i < base->disk_count; i++)
        if (revert_disk(v, now, &base->disks[i], err) < 0)
            return -1;
    return 0;
}

int promote_revert(struct store *s, const struct revert_spec *spec, struct err *err)
{
    struct revert v = {.s = s, .spec = spec, .plain = BUF_INIT(1u << 20), .batch = BUF_INIT(BATCH_MAX)};
    v.work = seal_work_new();
    v.digest = record_digest_new();
    v.block = mem_alloc(1, RECORD_BLOCK_SIZE);
    int result = v.work == NULL || v.digest == NULL || v.block == NULL
                     ? err_set(err, ERR_NOMEM, "no memory to take a machine back to a point")
                     : revert_all(&v, err);
    if (result == 0 && (spec->as_point || v.records > 0))
        result = close_set(&v, spec->as_point ? MARK_CRASH : MARK_PROGRESS, err);
    seal_work_free(v.work);
    record_digest_free(v.digest);
    free(v.block);
    buf_done(&v.plain);
    buf_done(&v.batch);
    return result;
}
