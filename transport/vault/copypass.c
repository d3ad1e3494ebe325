/* SPDX-License-Identifier: Apache-2.0
 *
 * Happy path: the next point of the other vault is looked up, and whether the one that is here is still the one of its number there; disk by disk
 * the blocks that have changed since, or all of it, are compared; sets are appended as they fill.
 * Failure modes: whatever fails ends the pass. What it made durable stays, as progress that is no point, and the next pass begins with the point before:
 * a block that came already is equal then. A point that retention drops there meanwhile costs the pass.
 */
#include "transport/vault/copypass.h"

#include <inttypes.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/crashpoint.h"
#include "transport/vault/copypass_private.h"
#include "transport/vault/extent.h"

#define SET_BYTES (16u << 20) /* of content in one change set */
#define BATCH_MAX (64u << 20) /* a set, what one more call brings, and its headers */
#define GATHER_USEC (5 * USEC_PER_SEC)
#define HASH_BLOCKS 4096u            /* of a disk, in one call */
#define ASK_BLOCKS_FIRST 16u         /* 1 MiB: a line of 10 kB/s brings it before the call is given up */
#define CACHE_SMALL 1u               /* bytes: the least there is; each block is read once */
#define NOTE_USEC (2 * USEC_PER_SEC) /* of what is counted a kill costs the last of it */

int copypass_new(const struct copypass_spec *spec, struct copypass **ret_pass, struct err *err)
{
    struct copypass *p AUTO_OF(copypass) = mem_new(struct copypass);
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a copy");
    p->spec = *spec;
    p->ask_blocks = ASK_BLOCKS_FIRST;
    p->plain = BUF_INIT(1u << 20);
    p->batch = BUF_INIT(BATCH_MAX);
    *ret_pass = TAKE_PTR(p);
    return 0;
}

/* The hashes stay, and what blocks have changed: both came over the line; and the blocks that are to be asked for. */
static void let_go(struct copypass *p)
{
    view_close(TAKE_PTR(p->own));
    if (p->have_count == 0)
        free(TAKE_PTR(p->asking));
    seal_work_free(TAKE_PTR(p->work));
    record_digest_free(TAKE_PTR(p->digest));
    free(TAKE_PTR(p->block));
    buf_done(&p->plain);
    buf_done(&p->batch);
}

void copypass_free(struct copypass *p)
{
    if (p == NULL)
        return;
    let_go(p);
    copy_offer_free(p->offer);
    free(p->asking);
    free(p->base);
    copyset_clear(&p->changed);
    free(p->hashes);
    explicit_bzero(&p->opened, sizeof(p->opened));
    free(p);
}

/* Since `held` was loaded. */
static struct copy_counts all_came(const struct copypass *p)
{
    return (struct copy_counts){
        p->spec.unnoted.taken_bytes + p->taken_bytes, p->spec.unnoted.traffic_bytes + p->traffic_bytes};
}

/* ---- begin ---- */

/* Most looks find nothing new, and need none of it. */
static int prepare(struct copypass *p, struct err *err)
{
    p->work = seal_work_new();
    p->digest = record_digest_new();
    p->block = mem_alloc(1, COPY_BLOCK);
    if (p->asking == NULL)
        p->asking = mem_new(struct copy_asking);
    return p->work == NULL || p->digest == NULL || p->block == NULL || p->asking == NULL
               ? err_set(err, ERR_NOMEM, "no memory for a copy")
               : 0;
}

static int open_own(struct copypass *p, struct store *s, struct err *err)
{
    if (store_last_mark(s) == NULL)
        return 0;
    return view_open_mark(store_dir(s), store_last_mark(s), &p->opened.keys, CACHE_SMALL, &p->own, err);
}

int copypass_begin(struct copypass *p, struct store *s, struct err *err)
{
    if (prepare(p, err) < 0)
        return -1;
    p->base = mem_new(struct mark);
    if (p->base == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a copy");
    if (store_begin(s, store_generation(s), store_epoch(s) + 1, &p->opened, err) < 0 || store_flush(s, err) < 0)
        return -1;
    p->begun = true;
    p->noted_usec = clock_mono_usec();
    /* The log may end with what a pass that did not come to its point has made durable: the point itself says how large the disks were. */
    const struct point *base = p->spec.held.known ? pointlist_find(store_points(s), p->spec.held.sequence) : NULL;
    p->spec.held.known = base != NULL;
    p->first = base == NULL;
    if (p->heals && base == NULL)
        return err_set(err, ERR_REFUSED, "the point that the copy stands on is not here any more");
    if (base != NULL && store_point_mark(s, base, p->base, err) < 0)
        return -1;
    return open_own(p, s, err);
}

void copypass_hurry(struct copypass *p)
{
    p->hurries = true;
}

bool copypass_park(struct copypass *p)
{
    if (p->records > 0)
        return false;
    let_go(p);
    return true;
}

/* What is compared from here on was not touched by the pass before. */
int copypass_return(struct copypass *p, struct store *s, struct err *err)
{
    if (!p->begun || store_epoch(s) != p->opened.epoch)
        return err_set(err, ERR_REFUSED, "another stream of the machine has begun");
    p->hurries = false;
    return prepare(p, err) < 0 || store_flush(s, err) < 0 ? -1 : open_own(p, s, err);
}

/* ---- gather ---- */

/* Blocks of start..end-1 are to be compared. More than can be kept: all are. */
static int mark(struct copypass *p, uint64_t start, uint64_t end, struct err *err)
{
    int result =
        p->too_many ? 0 : copyset_mark(&p->changed, start / COPY_BLOCK, (end + COPY_BLOCK - 1) / COPY_BLOCK, err);
    p->too_many = p->too_many || result == 0;
    return result < 0 ? -1 : 0;
}

static int take_ranges(void *arg, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__ChangeChunk *c = (const void *)m;
    struct copypass *p = arg;
    uint64_t size = p->target.disks[p->disk].size_bytes;
    if (c->n_starts != c->n_lengths || c->sequence != p->target_sequence || c->size_bytes != size)
        return err_set(err, ERR_CORRUPT, "the other vault answered about another point");
    for (size_t i = 0; i < c->n_starts; i++) {
        uint64_t start = c->starts[i];
        if (start > size || c->lengths[i] > size - start)
            return err_set(err, ERR_CORRUPT, "the other vault answered with a range that there cannot be");
        if (mark(p, start, start + c->lengths[i], err) < 0)
            return -1;
    }
    return 0;
}

/* What passes before have made durable behind the point that this one stands on need not be what the other vault has there now: its log may have been cut
 * behind that point, and gone on otherwise. */
static int mark_own(struct copypass *p, const struct mark_disk *d, struct err *err)
{
    uint64_t key = extent_key(d->number, 0), end = extent_key(d->number, d->size_bytes);
    if (p->own == NULL || view_mark(p->own)->sequence == p->base->sequence)
        return 0;
    while (key < end) {
        struct piece piece;
        if (view_piece(p->own, key, end, &piece, err) < 0)
            return -1;
        uint64_t at = extent_key_bytes(key), length = piece.sectors * RECORD_SECTOR;
        if (piece.kind != PIECE_HOLE && piece.extent.sequence > p->base->sequence && mark(p, at, at + length, err) < 0)
            return -1;
        key += piece.sectors;
    }
    return 0;
}

/* From where on all of the disk is compared: what was behind its end, or not there, at the point before need not be among what has changed since. */
static uint64_t sweep_from(const struct copypass *p, const struct mark_disk *d)
{
    for (uint32_t i = 0; p->spec.held.known && i < p->base->disk_count; i++)
        if (p->base->disks[i].number == d->number)
            return p->base->disks[i].size_bytes >= d->size_bytes
                       ? d->size_bytes
                       : p->base->disks[i].size_bytes / COPY_BLOCK * COPY_BLOCK;
    return 0;
}

/* An answer that does not fit is one of too many ranges. */
static int ask_changes(struct copypass *p, const struct mark_disk *d, struct err *err)
{
    Leeward__Vault__V1__ChangesRequest q = LEEWARD__VAULT__V1__CHANGES_REQUEST__INIT;
    struct err why = ERR_INIT;
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, p->spec.machine.bytes};
    q.sequence = p->target_sequence;
    q.after_sequence = p->spec.held.source_sequence;
    q.disk = d->number;
    if (vaultask_run(p->spec.ask, "/leeward.vault.v1.Vault/Changes", &q.base,
            &leeward__vault__v1__change_chunk__descriptor, take_ranges, p, &p->traffic_bytes, &why) == 0)
        return 0;
    if (why.code == ERR_TOO_LARGE || why.code == ERR_TIMEOUT) { /* for the line: what follows is asked for in pieces */
        p->too_many = true;
        return 0;
    }
    err_copy(err, &why);
    return -1;
}

static int mark_damage(struct copypass *p, const struct mark_disk *d, struct err *err)
{
    for (size_t i = 0; i < p->spec.damage_count; i++) {
        const struct copy_damage *x = &p->spec.damage[i];
        if (x->disk == d->number && mark(p, x->start, x->start + x->length, err) < 0)
            return -1;
    }
    return 0;
}

static int prepare_disk(struct copypass *p, struct err *err)
{
    const struct mark_disk *d = &p->target.disks[p->disk];
    copyset_clear(&p->changed);
    p->too_many = false;
    p->hash_count = 0;
    p->block_at = p->done_blocks = 0;
    p->sweep_at = p->heals ? d->size_bytes : sweep_from(p, d);
    p->prepared = true;
    if (p->heals)
        return mark_damage(p, d, err);
    if (p->sweep_at == 0)
        return 0;
    if (ask_changes(p, d, err) < 0 || mark_own(p, d, err) < 0)
        return -1;
    if (p->too_many) {
        copyset_clear(&p->changed);
        p->sweep_at = 0;
    }
    return 0;
}

static uint32_t block_length(uint64_t at, uint64_t end)
{
    return end - at < COPY_BLOCK ? (uint32_t)(end - at) : COPY_BLOCK;
}

/* A few of those that have changed: until the other vault was asked, or enough was looked at. */
static int some_of_changed(struct copypass *p, const struct mark_disk *d, struct err *err)
{
    uint64_t traffic = p->traffic_bytes;
    for (unsigned i = 0; i < COPY_ASK_BLOCKS && p->traffic_bytes == traffic; i++) {
        uint64_t block = copyset_next(&p->changed, p->block_at), at = block * COPY_BLOCK;
        if (block == UINT64_MAX || at >= d->size_bytes) {
            copyset_clear(&p->changed);
            return 0;
        }
        if (copy_compare_block(p, d->number, at, block_length(at, d->size_bytes), NULL, err) < 0)
            return -1;
        p->block_at = block + 1;
        p->done_blocks++;
    }
    return 0;
}

static int take_hashes(void *arg, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__HashChunk *c = (const void *)m;
    struct copypass *p = arg;
    size_t n = c->hashes.len / HASH_SIZE;
    if (c->block_bytes != COPY_BLOCK || c->hashes.len % HASH_SIZE != 0 ||
        c->start != p->hashes_at + p->hash_count * COPY_BLOCK || n > HASH_BLOCKS - p->hash_count)
        return err_set(err, ERR_CORRUPT, "the other vault answered other hashes than those asked for");
    memcpy(p->hashes + p->hash_count, c->hashes.data, n * HASH_SIZE);
    p->hash_count += n;
    return 0;
}

static int fetch_hashes(struct copypass *p, const struct mark_disk *d, struct err *err)
{
    Leeward__Vault__V1__HashesRequest q = LEEWARD__VAULT__V1__HASHES_REQUEST__INIT;
    uint64_t length = (uint64_t)HASH_BLOCKS * COPY_BLOCK;
    if (p->hashes == NULL)
        p->hashes = mem_alloc(HASH_BLOCKS, sizeof(*p->hashes));
    if (p->hashes == NULL)
        return err_set(err, ERR_NOMEM, "no memory for hashes");
    p->hashes_at = p->sweep_at;
    p->hash_count = 0;
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, p->spec.machine.bytes};
    q.sequence = p->target_sequence;
    q.disk = d->number;
    q.start = p->sweep_at;
    q.length = d->size_bytes - p->sweep_at < length ? d->size_bytes - p->sweep_at : length;
    q.block_bytes = COPY_BLOCK;
    if (vaultask_run(p->spec.ask, "/leeward.vault.v1.Vault/Hashes", &q.base,
            &leeward__vault__v1__hash_chunk__descriptor, take_hashes, p, &p->traffic_bytes, err) < 0)
        return -1;
    if (p->hash_count == (q.length + COPY_BLOCK - 1) / COPY_BLOCK)
        return 0;
    return err_set(err, ERR_CORRUPT, "the other vault has no hashes for this part of the disk");
}

/* A few blocks of what is compared whole. */
static int some_of_all(struct copypass *p, const struct mark_disk *d, struct err *err)
{
    size_t at = p->hash_count == 0 ? 0 : (size_t)((p->sweep_at - p->hashes_at) / COPY_BLOCK);
    uint64_t traffic = p->traffic_bytes;
    if (at == p->hash_count)
        return fetch_hashes(p, d, err);
    for (unsigned i = 0; i < COPY_ASK_BLOCKS && at < p->hash_count && p->traffic_bytes == traffic; i++, at++) {
        uint32_t n = block_length(p->sweep_at, d->size_bytes);
        if (copy_compare_block(p, d->number, p->sweep_at, n, &p->hashes[at], err) < 0)
            return -1;
        p->sweep_at += n;
    }
    if (p->sweep_at == d->size_bytes)
        p->hash_count = 0;
    return 0;
}

static int some(struct copypass *p, struct err *err)
{
    const struct mark_disk *d = &p->target.disks[p->disk];
    if (!p->prepared)
        return prepare_disk(p, err);
    if (p->changed.count > 0)
        return some_of_changed(p, d, err);
    if (p->sweep_at < d->size_bytes)
        return some_of_all(p, d, err);
    if (copy_flush(p, d->number, err) < 0)
        return -1;
    p->disk++;
    p->prepared = false;
    return 0;
}

/* May the other vault be asked now? */
bool copy_may_ask(struct copypass *p)
{
    uint64_t now = clock_mono_usec(), grant;
    if (p->spec.pace == NULL || p->granted > 0 || !copypace_is_bound(p->spec.pace))
        return true;
    grant = copypace_grant(p->spec.pace);
    if (!copypace_begin(p->spec.pace, p->spec.flow, grant, now)) {
        p->rests_until_usec = copypace_due(p->spec.pace, p->spec.flow);
        return false;
    }
    p->granted = grant;
    if (p->ask_blocks > grant / COPY_BLOCK)
        p->ask_blocks = (unsigned)(grant / COPY_BLOCK);
    return true;
}

void copy_settle(struct copypass *p, uint64_t bytes)
{
    if (p->granted > 0)
        copypace_settle(p->spec.pace, p->spec.flow, p->granted, bytes);
    p->granted = 0;
}

static bool set_is_due(const struct copypass *p)
{
    return p->complete || p->bytes >= SET_BYTES ||
           (p->records > 0 && (p->hurries || clock_mono_usec() - p->set_since_usec >= GATHER_USEC));
}

int copypass_gather(struct copypass *p, struct err *err)
{
    uint64_t until = clock_mono_usec() + GATHER_USEC;
    int result = 0;
    p->rests_until_usec = 0;
    while (result == 0 && p->disk < p->target.disk_count && p->bytes < SET_BYTES && clock_mono_usec() < until &&
           copy_may_ask(p)) {
        uint64_t traffic = p->traffic_bytes;
        result = some(p, err);
        if (p->traffic_bytes != traffic)
            copy_settle(p, p->traffic_bytes - traffic);
    }
    copy_settle(p, 0);
    if (result == 0 && p->disk == p->target.disk_count && !p->complete)
        result = copy_target_stands(p, err);
    p->complete = p->disk == p->target.disk_count;
    return result < 0 ? -1 : set_is_due(p) || p->rests_until_usec == 0;
}

uint64_t copypass_rests_until(const struct copypass *p)
{
    return p->rests_until_usec;
}

/* ---- append ---- */

static int close_set(struct copypass *p, struct store *s, struct err *err)
{
    struct mark *m AUTO_FREE = mem_new(struct mark);
    uint64_t committed;
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mark");
    *m = p->target;
    m->sequence = store_committed(s) + 1;
    m->generation = p->opened.generation;
    m->epoch = p->opened.epoch;
    if (p->complete && !p->heals) {
        m->flags |= p->first ? MARK_FIRST : 0;
    } else {
        m->kind = MARK_PROGRESS;
        m->flags = 0;
        m->group_point = (struct ident){0};
        copy_tag(&p->spec.held, m->tag);
    }
    m->record_count = p->records;
    m->changed_bytes = p->bytes;
    record_digest_get(p->digest, &m->digest);
    p->records = p->bytes = 0;
    p->hurries = false; /* it may give way now, if others still wait */
    record_digest_reset(p->digest);
    int result =
        mark_append(m, &p->batch, err) < 0 ? -1 : store_append(s, p->batch.data, p->batch.len, &committed, err);
    buf_done(&p->batch); /* the next set may be long in coming */
    return result < 0 ? -1 : store_wants_flush(s) ? store_flush(s, err) : 0;
}

/* The file says what it said, and how much has come since. */
static int note_counts(struct copypass *p, struct store *s, struct err *err)
{
    struct copy_held held = p->spec.held;
    uint64_t now = clock_mono_usec();
    if (now - p->noted_usec < NOTE_USEC)
        return 0;
    held.counts = copypass_counts(p);
    if (copy_note_store(s, &held, err) < 0)
        return -1;
    p->noted = all_came(p);
    p->noted_usec = now;
    return 0;
}

/* The pass is over, and stands where it says. */
static int note_end(struct copypass *p, const struct store *s, struct err *err)
{
    p->held.counts = copypass_counts(p);
    if (copy_note_store(s, &p->held, err) < 0)
        return -1;
    p->noted = all_came(p);
    return 0;
}

int copypass_append(struct copypass *p, struct store *s, struct err *err)
{
    if (!p->begun || store_epoch(s) != p->opened.epoch)
        return err_set(err, ERR_REFUSED, "another stream of the machine has begun");
    if ((p->records > 0 || (p->complete && !p->heals)) && close_set(p, s, err) < 0)
        return -1;
    if (!p->complete)
        return note_counts(p, s, err) < 0 ? -1 : 1;
    crashpoint_pass("copy.committed");
    if (p->heals) {
        p->held = p->spec.held;
        return note_end(p, s, err);
    }
    p->held = (struct copy_held){.known = true,
        .source = p->spec.source,
        .source_sequence = p->target_sequence,
        .time_utc_usec = p->target.time_utc_usec,
        .source_generation = p->target_generation,
        .changed_bytes = p->target_changed_bytes,
        .sequence = store_committed(s),
        .epoch = p->opened.epoch};
    return note_end(p, s, err);
}

bool copypass_is_whole(const struct copypass *p)
{
    return !p->spec.held.known;
}

bool copypass_heals(const struct copypass *p)
{
    return p->heals;
}

const struct copy_held *copypass_held(const struct copypass *p)
{
    return &p->held;
}

bool copypass_is_behind(const struct copypass *p)
{
    return p->target_sequence < p->newest_sequence;
}

uint64_t copypass_traffic(const struct copypass *p)
{
    return p->traffic_bytes;
}

struct copy_counts copypass_counts(const struct copypass *p)
{
    struct copy_counts came = all_came(p), held = p->spec.held.counts;
    return (struct copy_counts){held.taken_bytes + came.taken_bytes, held.traffic_bytes + came.traffic_bytes};
}

struct copy_counts copypass_unnoted(const struct copypass *p)
{
    struct copy_counts came = all_came(p);
    return (struct copy_counts){came.taken_bytes - p->noted.taken_bytes, came.traffic_bytes - p->noted.traffic_bytes};
}

/* Where only some blocks have changed, those that were compared. */
static double done_of_disk(const struct copypass *p, double size)
{
    if (p->changed.count == 0)
        return (double)p->sweep_at;
    return size * (double)p->done_blocks / (double)p->changed.count;
}

unsigned copypass_permille(const struct copypass *p)
{
    double all = 0, done = 0;
    for (uint32_t i = 0; i < p->target.disk_count; i++) {
        double size = (double)p->target.disks[i].size_bytes;
        all += size;
        done += i < p->disk ? size : i == p->disk && p->prepared ? done_of_disk(p, size) : 0;
    }
    return all > 0 ? (unsigned)(done / all * 999.0) : 0;
}
