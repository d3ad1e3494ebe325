/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward.vault.v1: the list of points, a range at a point, and block hashes for resynchronization. A call is prepared on the
 * machine's lane (points copied, or the index brought up to date and a view opened); then it works in steps beside the lane,
 * one message per step, and takes the next step when the client has taken what was sent.
 *
 * Hubs may call for any machine; a node calls for an agent, whose machine it has checked; another vault for machines of which it is to keep a
 * copy, as the hub says.
 */
#include <string.h>

#include "transport/base/hash.h"
#include "transport/base/log.h"
#include "transport/proto/wire.h"
#include "transport/vault/vaultheal.h"
#include "transport/vault/vaultread_private.h"

#define CHUNK_BYTES (1u << 20)
#define HASHES_PER_CHUNK (65536u / HASH_SIZE)
#define POINTS_PER_STEP 256u
#define BLOCK_BYTES RECORD_BLOCK_SIZE
#define CACHE_SMALL 1u /* bytes: the least there is; whole blocks are read, so nothing is gained by more */

/* ---- life ---- */

static void read_free(struct read_call *c)
{
    while (c->out != NULL) {
        struct read_message *m = c->out;
        c->out = m->next;
        buf_done(&m->bytes);
        free(m);
    }
    view_close(c->view);
    pointlist_done(&c->points);
    free(c->marks);
    free(c->have);
    quarantine_done(&c->damage);
    vaultheal_offers_free(c->offers);
    free(c);
}

static void step_next(struct read_call *c);

static void read_fail(struct read_call *c, const struct err *err)
{
    if (!c->ended)
        rpc_call_fail(c->call, err);
    c->ended = true;
}

static void send_all(struct read_call *c)
{
    struct err err = ERR_INIT;
    if (c->ended)
        return;
    while (c->out != NULL && !c->blocked) {
        struct read_message *m = c->out;
        int sent = rpc_call_send(c->call, &m->bytes, &err);
        c->out = m->next;
        buf_done(&m->bytes);
        free(m);
        if (sent < 0) {
            read_fail(c, &err);
            return;
        }
        c->blocked = sent == 0;
    }
    if (c->out != NULL)
        return;
    if (c->last) {
        c->ended = true;
        rpc_call_finish(c->call, RPC_OK, NULL);
    } else if (!c->blocked) {
        step_next(c);
    }
}

static void step_done(struct vaultjob *job)
{
    struct read_call *c = (struct read_call *)job;
    c->busy = false;
    if (c->call == NULL) {
        read_free(c);
        return;
    }
    if (job->result < 0) {
        read_fail(c, &job->err);
        return;
    }
    c->last = job->result == 0;
    send_all(c);
}

static int step_run(struct vaultjob *job, struct err *err)
{
    struct read_call *c = (struct read_call *)job;
    c->out_end = &c->out;
    return c->kind->step(c, err);
}

static void step_next(struct read_call *c)
{
    struct err err = ERR_INIT;
    c->job.run = step_run;
    c->job.done = step_done;
    if (vaultjob_pool(c->d, c->vm, &c->job, &err) < 0)
        read_fail(c, &err);
    else
        c->busy = true;
}

static int prepare_run(struct vaultjob *job, struct err *err)
{
    struct read_call *c = (struct read_call *)job;
    struct store *s;
    if (vmachine_store(job->vm, &s, err) < 0 || c->kind->prepare(c, s, err) < 0)
        return -1;
    return 1;
}

/* ---- the call's events ---- */

static int begin(struct read_call *c, const struct buf *message, struct err *err)
{
    ProtobufCMessage *m = NULL;
    if (c->asked)
        return err_set(err, ERR_INVALID, "the call takes one request");
    c->asked = true;
    if (wire_unpack(c->kind->type, message->data, message->len, &m, err) < 0)
        return -1;
    int result = c->kind->request(c, m, err);
    wire_free(m);
    if (result < 0)
        return -1;
    c->out_end = &c->out;
    c->job.run = prepare_run;
    c->job.done = step_done;
    c->busy = true; /* what is begun may be done at once */
    if ((c->kind->start != NULL ? c->kind->start(c, err) : vaultjob_lane(c->vm, &c->job, err)) == 0)
        return 0;
    c->busy = false;
    return -1;
}

void vaultread_done(struct read_call *c, const struct err *err)
{
    c->busy = false;
    if (c->call == NULL) {
        read_free(c);
    } else if (err != NULL) {
        read_fail(c, err);
    } else {
        c->last = true;
        send_all(c);
    }
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct read_call *c = arg;
    struct err err = ERR_INIT;
    (void)call;
    if (begin(c, message, &err) < 0)
        read_fail(c, &err);
}

static void on_half(struct rpc_call *call, void *arg)
{
    struct read_call *c = arg;
    if (!c->asked)
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "no request came");
}

static void on_writable(struct rpc_call *call, void *arg)
{
    struct read_call *c = arg;
    (void)call;
    c->blocked = false;
    if (!c->busy)
        send_all(c);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct read_call *c = arg;
    (void)call;
    (void)status;
    (void)text;
    c->call = NULL;
    if (!c->busy)
        read_free(c);
}

static const struct rpc_call_ops read_ops = {
    .on_message = on_message, .on_half = on_half, .on_writable = on_writable, .on_end = on_end, .auto_consume = true};

int vaultread_accept(struct rpc_call *call, struct vaultd *d, const struct read_kind *kind,
    const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    const struct tls_peer *peer = rpc_call_peer(call);
    if (d->conf.tls != NULL && strcmp(peer->role, "hub") != 0 && strcmp(peer->role, "node") != 0 &&
        strcmp(peer->role, "vault") != 0)
        return err_set(err, ERR_DENIED, "the role '%s' may not read a vault", peer->role);
    struct read_call *c = mem_new(struct read_call);
    if (c == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a call");
    c->d = d;
    c->kind = kind;
    c->call = call;
    *ret_ops = &read_ops;
    *ret_arg = c;
    return 0;
}

/* NULL: that vault keeps no copy of the machine. */
static struct copy_reader *find_reader(struct vmachine *vm, const struct ident *vault)
{
    for (unsigned i = 0; i < vm->reader_count; i++)
        if (ident_equal(&vm->readers[i].vault, vault))
            return &vm->readers[i];
    return NULL;
}

int vaultread_machine(struct read_call *c, const ProtobufCBinaryData *id, struct err *err)
{
    struct ident machine;
    if (id->len != IDENT_SIZE)
        return err_set(err, ERR_INVALID, "the machine id must have %d bytes", IDENT_SIZE);
    memcpy(machine.bytes, id->data, IDENT_SIZE);
    const struct tls_peer *peer = rpc_call_peer(c->call);
    c->vm = vaultd_machine(c->d, &machine);
    bool is_vault = c->d->conf.tls != NULL && strcmp(peer->role, "vault") == 0;
    struct copy_reader *reader = is_vault && c->vm != NULL ? find_reader(c->vm, &peer->id) : NULL;
    if (is_vault && reader == NULL) {
        (void)err_set(err, ERR_DENIED, "the hub has not told this vault that another one keeps a copy of that machine");
        return err_hint(err, "it goes on by itself when the hub has");
    }
    if (c->vm == NULL)
        return err_set(err, ERR_NOT_FOUND, "this vault does not hold that machine");
    if (reader != NULL && c->newest)
        *reader = (struct copy_reader){
            .vault = reader->vault, .held = c->held, .known_usec = reader->known_usec, .heard = true};
    else if (reader != NULL && c->sequence != 0)
        reader->taking = c->sequence;
    return 0;
}

int vaultread_put(struct read_call *c, const ProtobufCMessage *m, struct err *err)
{
    struct read_message *out = mem_new(struct read_message);
    if (out == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a reply");
    buf_init(&out->bytes, 2 * CHUNK_BYTES);
    if (wire_pack(m, &out->bytes, err) < 0) {
        buf_done(&out->bytes);
        free(out);
        return -1;
    }
    *c->out_end = out;
    c->out_end = &out->next;
    return 0;
}

bool vaultread_is_damage(const struct err *why)
{
    return why->code == ERR_CORRUPT || why->code == ERR_IO || why->code == ERR_DENIED;
}

/* ---- ListPoints ---- */

static int points_request(struct read_call *c, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__ListPointsRequest *q = (const void *)m;
    c->after = q->after_sequence;
    c->limit = q->limit;
    c->newest = q->newest;
    c->marked = q->marked;
    c->held = q->held_sequence;
    if (vaultread_machine(c, &q->machine_id, err) < 0)
        return -1;
    c->damaged = c->newest ? vaultmend_count(c->vm) : 0;
    return 0;
}

/* Somebody asked for it, now or with a schedule. */
static bool is_marked(const struct point *p)
{
    return p->kind > MARK_CRASH || p->more != 0;
}

static int points_prepare(struct read_call *c, struct store *s, struct err *err)
{
    const struct pointlist *points = store_points(s);
    size_t at = c->after == UINT64_MAX ? points->count : pointlist_at(points, c->after + 1);
    if (c->newest && at < points->count)
        at = points->count - 1;
    for (; at < points->count && (c->limit == 0 || c->points.count < c->limit); at++)
        if ((!c->marked || is_marked(&points->items[at])) && pointlist_add(&c->points, &points->items[at], err) < 0)
            return -1;
    c->marks = mem_new(struct mark);
    return c->marks == NULL ? err_set(err, ERR_NOMEM, "no memory to list points") : 0;
}

/* rows and list: MARK_RANGES_MAX each. */
static void put_ranges(const struct mark *m, Leeward__Vault__V1__UnreadableRange *rows,
    Leeward__Vault__V1__UnreadableRange **list, Leeward__Vault__V1__Point *point)
{
    for (uint32_t i = 0; i < m->range_count; i++) {
        leeward__vault__v1__unreadable_range__init(&rows[i]);
        rows[i].disk = m->ranges[i].disk;
        rows[i].start = m->ranges[i].start;
        rows[i].length = m->ranges[i].length;
        list[i] = &rows[i];
    }
    point->n_unreadable = m->range_count;
    point->unreadable = list;
}

static int put_point(struct read_call *c, const struct mark *m, struct err *err)
{
    Leeward__Vault__V1__UnreadableRange ranges[MARK_RANGES_MAX], *range_list[MARK_RANGES_MAX];
    Leeward__Vault__V1__Point point = LEEWARD__VAULT__V1__POINT__INIT;
    Leeward__Vault__V1__Disk disks[MARK_DISKS_MAX];
    Leeward__Vault__V1__Disk *list[MARK_DISKS_MAX];
    for (uint32_t i = 0; i < m->disk_count; i++) {
        leeward__vault__v1__disk__init(&disks[i]);
        disks[i].number = m->disks[i].number;
        disks[i].size_bytes = m->disks[i].size_bytes;
        disks[i].sector_bytes = m->disks[i].sector_bytes;
        disks[i].name = (char *)(uintptr_t)m->disks[i].name;
        list[i] = &disks[i];
    }
    point.machine_id = (ProtobufCBinaryData){IDENT_SIZE, (uint8_t *)(uintptr_t)m->machine.bytes};
    point.sequence = m->sequence;
    point.time_utc_usec = m->time_utc_usec;
    point.kind = (char *)(uintptr_t)mark_kind_name(m->kind);
    point.tag = (char *)(uintptr_t)m->tag;
    if (!ident_is_zero(&m->group_point))
        point.group_point_id = (ProtobufCBinaryData){IDENT_SIZE, (uint8_t *)(uintptr_t)m->group_point.bytes};
    point.generation = m->generation;
    point.changed_bytes = m->changed_bytes;
    point.n_disks = m->disk_count;
    point.disks = list;
    point.frozen = (m->flags & MARK_FROZEN) != 0;
    point.unreadable_blocks = m->unreadable_blocks;
    put_ranges(m, ranges, range_list, &point);
    point.damaged_records = c->damaged;
    return vaultread_put(c, &point.base, err);
}

/* One of which the mark cannot be read any more cannot be opened either: it is left out, and does not take the others with it. */
static int list_one(struct read_call *c, const struct point *p, struct err *err)
{
    struct err why = ERR_INIT;
    if (view_read_mark(c->vm->dir, p, c->marks, &why) == 0)
        return put_point(c, c->marks, err);
    if (vaultread_is_damage(&why)) {
        log_event(
            LOG_ERROR, "mark_damaged", LOG_S("machine", c->vm->id_text), LOG_U("sequence", p->sequence), LOG_E(&why));
        return 0;
    }
    err_copy(err, &why);
    return -1;
}

static int points_step(struct read_call *c, struct err *err)
{
    for (unsigned i = 0; i < POINTS_PER_STEP && c->point_at < c->points.count; i++, c->point_at++)
        if (list_one(c, &c->points.items[c->point_at], err) < 0)
            return -1;
    return c->point_at < c->points.count;
}

static const struct read_kind points_kind = {.type = &leeward__vault__v1__list_points_request__descriptor,
    .request = points_request,
    .prepare = points_prepare,
    .step = points_step};

int vaultread_accept_points(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return vaultread_accept(call, server_arg, &points_kind, ret_ops, ret_arg, err);
}

/* ---- ReadRange ---- */

int vaultread_open(struct read_call *c, struct store *s, bool progress_too, struct err *err)
{
    struct keyring keys;
    if (store_flush(s, err) < 0)
        return -1;
    store_keys(s, &keys);
    const struct mark *newest = store_last_mark(s);
    int result = c->sequence == 0 && progress_too && newest != NULL
                     ? view_open_mark(store_dir(s), newest, &keys, CACHE_SMALL, &c->view, err)
                     : view_open(store_dir(s), c->sequence, &keys, CACHE_SMALL, &c->view, err);
    keyring_cleanse(&keys);
    return result;
}

static int clip_range(struct read_call *c, struct err *err)
{
    const struct mark_disk *d = view_disk(c->view, c->disk);
    if (d == NULL)
        return err_set(err, ERR_NOT_FOUND, "the machine had no disk %u at that point", c->disk);
    if (c->to_end)
        c->end = d->size_bytes;
    if (c->start > d->size_bytes || c->end > d->size_bytes || c->end < c->start)
        return err_set(err, ERR_INVALID, "the range reaches out of the disk");
    return 0;
}

static int range_request(struct read_call *c, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__ReadRangeRequest *q = (const void *)m;
    c->sequence = q->sequence;
    c->disk = q->disk;
    c->start = q->start;
    c->end = q->length > UINT64_MAX - q->start ? UINT64_MAX : q->start + q->length;
    return vaultread_machine(c, &q->machine_id, err);
}

static int range_prepare(struct read_call *c, struct store *s, struct err *err)
{
    return vaultread_open(c, s, false, err) < 0 ? -1 : clip_range(c, err);
}

static int range_step(struct read_call *c, struct err *err)
{
    Leeward__Vault__V1__RangeChunk chunk = LEEWARD__VAULT__V1__RANGE_CHUNK__INIT;
    uint64_t left = c->end - c->start;
    size_t n = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
    uint8_t *data AUTO_FREE = mem_alloc(n + 1, 1);
    if (data == NULL)
        return err_set(err, ERR_NOMEM, "no memory to read a range");
    if (n == 0)
        return 0;
    if (view_read(c->view, c->disk, c->start, n, data, err) < 0)
        return -1;
    chunk.start = c->start;
    chunk.data = (ProtobufCBinaryData){n, data};
    c->start += n;
    return vaultread_put(c, &chunk.base, err) < 0 ? -1 : c->start < c->end;
}

static const struct read_kind range_kind = {.type = &leeward__vault__v1__read_range_request__descriptor,
    .request = range_request,
    .prepare = range_prepare,
    .step = range_step};

int vaultread_accept_range(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return vaultread_accept(call, server_arg, &range_kind, ret_ops, ret_arg, err);
}

/* ---- Hashes ---- */

static int hashes_request(struct read_call *c, const ProtobufCMessage *m, struct err *err)
{
    const Leeward__Vault__V1__HashesRequest *q = (const void *)m;
    if (q->block_bytes != BLOCK_BYTES || q->start % BLOCK_BYTES != 0)
        return err_set(err, ERR_INVALID, "hashes are of blocks of %u bytes, from a multiple of that on", BLOCK_BYTES);
    c->sequence = q->sequence;
    c->disk = q->disk;
    c->start = q->start;
    c->to_end = q->length == 0;
    c->end = q->length > UINT64_MAX - q->start ? UINT64_MAX : q->start + q->length;
    return vaultread_machine(c, &q->machine_id, err);
}

static int hashes_prepare(struct read_call *c, struct store *s, struct err *err)
{
    return vaultread_open(c, s, true, err) < 0 ? -1 : clip_range(c, err);
}

/* The hash of a block that is one whole record stands in its header; others are read and hashed. */
static int hash_block(
    struct read_call *c, uint64_t start, size_t n, uint8_t *scratch, struct hash128 *ret_hash, struct err *err)
{
    struct piece p;
    struct record r;
    uint64_t key = extent_key(c->disk, start);
    if (view_piece(c->view, key, key + n / RECORD_SECTOR, &p, err) < 0)
        return -1;
    if (p.kind == PIECE_DATA && p.sectors == n / RECORD_SECTOR) {
        if (view_record(c->view, &p, &r, err) < 0)
            return -1;
        if (r.start == start && r.length == n) {
            *ret_hash = r.hash;
            return 0;
        }
    }
    if (view_read(c->view, c->disk, start, n, scratch, err) < 0)
        return -1;
    hash_128(scratch, n, ret_hash);
    return 0;
}

/* What cannot be read is not what the source has, whatever that is: the zero hash makes it send the block, which heals the newest content. */
static int hash_or_none(struct read_call *c, size_t n, uint8_t *scratch, struct hash128 *ret_hash, struct err *err)
{
    struct err why = ERR_INIT;
    if (hash_block(c, c->start, n, scratch, ret_hash, &why) == 0)
        return 0;
    if (vaultread_is_damage(&why)) {
        log_event(LOG_WARN, "block_unreadable", LOG_S("machine", c->vm->id_text), LOG_U("disk", c->disk),
            LOG_U("start", c->start), LOG_E(&why));
        *ret_hash = (struct hash128){{0}};
        return 0;
    }
    err_copy(err, &why);
    return -1;
}

static int hashes_step(struct read_call *c, struct err *err)
{
    Leeward__Vault__V1__HashChunk chunk = LEEWARD__VAULT__V1__HASH_CHUNK__INIT;
    uint8_t *scratch AUTO_FREE = mem_alloc(1, BLOCK_BYTES);
    struct hash128 *hashes AUTO_FREE = mem_alloc(HASHES_PER_CHUNK, sizeof(*hashes));
    size_t count = 0;
    if (scratch == NULL || hashes == NULL)
        return err_set(err, ERR_NOMEM, "no memory for hashes");
    chunk.start = c->start;
    chunk.block_bytes = BLOCK_BYTES;
    for (; count < HASHES_PER_CHUNK && c->start < c->end; count++) {
        uint64_t left = c->end - c->start;
        size_t n = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
        if (hash_or_none(c, n, scratch, &hashes[count], err) < 0)
            return -1;
        c->start += n;
    }
    if (count == 0)
        return 0;
    chunk.hashes = (ProtobufCBinaryData){count * HASH_SIZE, (uint8_t *)hashes};
    return vaultread_put(c, &chunk.base, err) < 0 ? -1 : c->start < c->end;
}

static const struct read_kind hashes_kind = {.type = &leeward__vault__v1__hashes_request__descriptor,
    .request = hashes_request,
    .prepare = hashes_prepare,
    .step = hashes_step};

int vaultread_accept_hashes(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return vaultread_accept(call, server_arg, &hashes_kind, ret_ops, ret_arg, err);
}
