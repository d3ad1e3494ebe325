/* SPDX-License-Identifier: Apache-2.0
 *
 * One mutex guards the facts and the wishes of the test; everything else belongs to the server's thread. A change set is
 * collected in memory and applied at its mark.
 */
#include "tests/unit/mobility/sync/fakenode.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "transport/base/buf.h"
#include "transport/base/mem.h"
#include "transport/log/seal.h"
#include "transport/loop/loop.h"
#include "transport/proto/replication.pb-c.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/proto/wire.h"
#include "transport/rpc/rpc.h"

#define WAIT_SEC 90
#define SET_MAX (1u << 30)
#define DISKS 64

struct held {
    struct held *next;
    struct buf set;
    struct mark mark;
};

struct fakenode {
    char dir[400], address[450];
    pthread_t thread;
    sd_event *loop;
    struct rpc_server *server;
    struct loop_bell *bell;
    struct seal_work *work;
    struct rpc_call *stream; /* the present one */
    uint64_t stream_epoch, expected;
    struct buf set;
    struct record_digest *digest;
    uint64_t set_records;
    struct held *held, **held_tail;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct fakenode_facts facts;
    uint64_t disk_sizes[DISKS];
    _Atomic uint64_t damaged; /* start of a block */
    bool stop, drop, refusing, holding, has_hashes, forget, lying;
    unsigned seed;    /* of lies */
    bool stream_lied; /* when it was opened: what comes over it may fit the lies when there are none any more */
    fakenode_look look;
    void *look_arg;
};

static void fault(struct fakenode *n, const char *what, const char *why)
{
    pthread_mutex_lock(&n->lock);
    if (!n->facts.fault[0])
        snprintf(n->facts.fault, sizeof(n->facts.fault), "%s: %s", what, why);
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
}

static int open_image(struct fakenode *n, uint32_t disk)
{
    char path[500];

    snprintf(path, sizeof(path), "%s/%u.img", n->dir, disk);
    return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static void apply_record(struct fakenode *n, const struct record *r, const uint8_t *payload)
{
    static uint8_t plain[RECORD_BLOCK_SIZE];
    int fd AUTO_CLOSE = open_image(n, r->disk);
    struct err err = ERR_INIT;

    if (r->kind == RECORD_ZERO)
        memset(plain, 0, sizeof(plain));
    else if (seal_open(n->work, r, payload, NULL, plain, &err) < 0)
        fault(n, "record", err.text);
    for (uint64_t done = 0; done < r->length;) {
        size_t part = r->length - done < sizeof(plain) ? (size_t)(r->length - done) : sizeof(plain);

        if (pwrite(fd, plain, part, (off_t)(r->start + done)) != (ssize_t)part)
            fault(n, "image", "write failed");
        done += part;
    }
}

static void reply(struct fakenode *n, const Leeward__Replication__V1__ReplicateReply *m)
{
    struct buf b AUTO_BUF = BUF_INIT(65536);

    if (n->stream && wire_pack(&m->base, &b, NULL) == 0)
        (void)rpc_call_send(n->stream, &b, NULL);
}

static void reply_committed(struct fakenode *n, uint64_t sequence)
{
    Leeward__Replication__V1__ReplicateReply m = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    Leeward__Replication__V1__Committed c = LEEWARD__REPLICATION__V1__COMMITTED__INIT;

    c.sequence = sequence;
    m.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_COMMITTED;
    m.committed = &c;
    reply(n, &m);
}

static void note_commit(struct fakenode *n, const struct mark *mark)
{
    pthread_mutex_lock(&n->lock);
    n->facts.committed = mark->sequence;
    n->facts.kinds[mark->kind]++;
    n->facts.unreadable += mark->unreadable_blocks;
    for (uint32_t i = 0; i < mark->disk_count; i++)
        n->disk_sizes[mark->disks[i].number] = mark->disks[i].size_bytes;
    if (mark_is_point(mark)) {
        n->facts.points++;
        n->facts.last = *mark;
    } else {
        n->facts.progress++;
    }
    n->facts.first_points += (mark->flags & MARK_FIRST) != 0;
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
}

static void let_look(struct fakenode *n, const struct mark *mark)
{
    fakenode_look look;
    void *arg;

    pthread_mutex_lock(&n->lock);
    look = n->look;
    arg = n->look_arg;
    pthread_mutex_unlock(&n->lock);
    if (look && mark_is_point(mark))
        look(arg, mark);
}

static bool is_lying(struct fakenode *n)
{
    bool lying;

    pthread_mutex_lock(&n->lock);
    lying = n->lying;
    pthread_mutex_unlock(&n->lock);
    return lying;
}

/* Something else, now and then; often close to it. */
static uint64_t lie(struct fakenode *n, uint64_t truth)
{
    const uint64_t close[] = {0, 1, truth + 1, truth + 2, truth + 50, truth - 1, truth - 2, truth / 2};
    const uint64_t far[] = {UINT64_MAX, (uint64_t)1 << 63, ((uint64_t)1 << 62) + (uint64_t)rand_r(&n->seed)};
    unsigned i = (unsigned)rand_r(&n->seed) % 24;

    if (i < ARRAY_LEN(close))
        return close[i];
    return rand_r(&n->seed) % 48 == 0 ? far[i % ARRAY_LEN(far)] : truth;
}

static void commit(struct fakenode *n, struct buf *set, const struct mark *mark)
{
    const uint8_t *payload;
    struct record r;
    size_t at = 0;

    if (is_lying(n) && rand_r(&n->seed) % 4 == 0) { /* said to be there, and lost */
        reply_committed(n, mark->sequence);
        if (n->stream)
            rpc_call_finish(n->stream, RPC_UNAVAILABLE, "the test has lost something");
        n->stream = NULL;
        n->expected = n->facts.committed + 1;
        return;
    }
    while (record_next(set->data, set->len, &at, &r, &payload, NULL) == 1)
        if (r.kind != RECORD_MARK)
            apply_record(n, &r, payload);
    let_look(n, mark);
    note_commit(n, mark);
    reply_committed(n, is_lying(n) ? lie(n, mark->sequence) : mark->sequence);
}

static void release_held(struct fakenode *n)
{
    while (n->held) {
        struct held *h = n->held;

        n->held = h->next;
        commit(n, &h->set, &h->mark);
        buf_done(&h->set);
        free(h);
    }
    n->held_tail = &n->held;
}

static void drop_held(struct fakenode *n)
{
    while (n->held) {
        struct held *h = n->held;

        n->held = h->next;
        buf_done(&h->set);
        free(h);
    }
    n->held_tail = &n->held;
}

static void take_mark(struct fakenode *n, const struct record *r, const uint8_t *payload)
{
    struct mark mark;
    struct hash128 digest;
    struct err err = ERR_INIT;
    bool holding;

    if (mark_decode(r, payload, &mark, &err) < 0)
        return fault(n, "mark", err.text);
    record_digest_get(n->digest, &digest);
    if (!hash_equal(&digest, &mark.digest) || mark.record_count != n->set_records)
        fault(n, "mark", "the digest does not fit the records");
    if ((is_lying(n) || n->stream_lied) &&
        (mark.sequence != n->expected || mark.epoch != n->stream_epoch || mark.epoch < n->facts.epoch)) {
        if (n->stream)
            rpc_call_cancel(n->stream);
        buf_clear(&n->set);
        n->set_records = 0;
        record_digest_reset(n->digest);
        return;
    }
    if (mark.sequence != n->expected || mark.epoch != n->stream_epoch)
        fault(n, "mark", "wrong sequence or epoch");
    n->expected = mark.sequence + 1;
    n->set_records = 0;
    record_digest_reset(n->digest);
    pthread_mutex_lock(&n->lock);
    holding = n->holding;
    pthread_mutex_unlock(&n->lock);
    if (holding || n->held) {
        struct held *h = mem_new(struct held);

        buf_init(&h->set, SET_MAX);
        buf_move(&h->set, &n->set);
        h->mark = mark;
        *n->held_tail = h;
        n->held_tail = &h->next;
        pthread_mutex_lock(&n->lock);
        n->facts.held++;
        n->facts.held_kinds |= 1u << mark.kind;
        pthread_mutex_unlock(&n->lock);
    } else {
        commit(n, &n->set, &mark);
    }
    buf_clear(&n->set);
}

static void take_batch(struct fakenode *n, const uint8_t *data, size_t len)
{
    const uint8_t *payload;
    struct err err = ERR_INIT;
    struct record r;
    size_t at = 0, before = 0;
    int more;

    while ((more = record_next(data, len, &at, &r, &payload, &err)) == 1) {
        if (r.kind == RECORD_MARK) {
            take_mark(n, &r, payload);
        } else {
            record_digest_add(n->digest, &r);
            n->set_records++;
            if (buf_append(&n->set, data + before, at - before, &err) < 0)
                fault(n, "set", err.text);
            pthread_mutex_lock(&n->lock);
            n->facts.records++;
            n->facts.record_bytes += r.length;
            pthread_mutex_unlock(&n->lock);
        }
        before = at;
    }
    if (more < 0)
        fault(n, "batch", err.text);
}

static void take_open(struct fakenode *n, struct rpc_call *call, const Leeward__Replication__V1__Open *o)
{
    Leeward__Replication__V1__ReplicateReply m = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    Leeward__Replication__V1__Opened opened = LEEWARD__REPLICATION__V1__OPENED__INIT;
    bool refusing;

    n->stream = call;
    n->stream_epoch = o->epoch;
    buf_clear(&n->set);
    n->set_records = 0;
    record_digest_reset(n->digest);
    pthread_mutex_lock(&n->lock);
    n->facts.opens++;
    refusing = n->refusing;
    if (o->epoch > n->facts.epoch) {
        drop_held(n);
        n->facts.epoch = o->epoch;
        n->expected = n->facts.committed + 1;
    }
    opened.expected_sequence = n->expected;
    opened.committed_sequence = n->facts.committed;
    opened.epoch = n->facts.epoch;
    opened.generation = o->generation;
    opened.has_point = n->facts.points > 0;
    n->stream_lied = n->lying;
    if (n->lying) {
        opened.expected_sequence = lie(n, opened.expected_sequence);
        opened.committed_sequence = lie(n, opened.committed_sequence);
        opened.epoch = lie(n, opened.epoch);
        opened.has_point = rand_r(&n->seed) % 2;
    }
    pthread_mutex_unlock(&n->lock);
    if (refusing) {
        rpc_call_finish(call, RPC_UNAVAILABLE, "the test says no");
        return;
    }
    m.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_OPENED;
    m.opened = &opened;
    reply(n, &m);
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fakenode *n = arg;
    const uint8_t *batch;
    size_t len;
    ProtobufCMessage *m;

    if (wire_peek_batch(message->data, message->len, &batch, &len)) {
        if (call == n->stream)
            take_batch(n, batch, len);
        return;
    }
    if (wire_unpack(&leeward__replication__v1__replicate_request__descriptor, message->data, message->len, &m, NULL) <
        0)
        return fault(n, "message", "cannot be unpacked");
    take_open(n, call, ((Leeward__Replication__V1__ReplicateRequest *)m)->open);
    wire_free(m);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct fakenode *n = arg;

    (void)status;
    (void)text;
    if (call == n->stream)
        n->stream = NULL;
}

static const struct rpc_call_ops stream_ops = {.on_message = on_message, .on_end = on_end, .auto_consume = true};

static int accept_stream(
    struct rpc_call *call, void *arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    (void)call;
    (void)err;
    *ret_ops = &stream_ops;
    *ret_arg = arg;
    return 0;
}

/* ---- hashes ---- */

/* Nothing was ever stored there: zeros. */
static bool is_hole(int fd, uint64_t at, size_t n)
{
    off_t data = lseek(fd, (off_t)at, SEEK_DATA);

    return data < 0 || (uint64_t)data >= at + n;
}

static void send_hashes(struct fakenode *n, struct rpc_call *call, const Leeward__Vault__V1__HashesRequest *q)
{
    Leeward__Vault__V1__HashChunk m = LEEWARD__VAULT__V1__HASH_CHUNK__INIT;
    static uint8_t block[65536], hashes[4096 * HASH_SIZE];
    int fd AUTO_CLOSE = open_image(n, q->disk);
    struct buf b AUTO_BUF = BUF_INIT(1 << 20);
    uint64_t size = n->disk_sizes[q->disk], count = 0;

    for (uint64_t at = q->start; at < size && at < q->start + q->length; at += sizeof(block), count++) {
        size_t part = size - at < sizeof(block) ? (size_t)(size - at) : sizeof(block);
        struct hash128 h = {0}; /* of what cannot be read */

        if (at != n->damaged) {
            memset(block, 0, sizeof(block));
            if (!is_hole(fd, at, part))
                (void)!pread(fd, block, part, (off_t)at);
            hash_128(block, part, &h);
        }
        memcpy(hashes + count * HASH_SIZE, h.bytes, HASH_SIZE);
    }
    m.start = q->start;
    m.block_bytes = 65536;
    m.hashes.data = hashes;
    m.hashes.len = count * HASH_SIZE;
    if (wire_pack(&m.base, &b, NULL) == 0)
        (void)rpc_call_send(call, &b, NULL);
    rpc_call_finish(call, RPC_OK, NULL);
}

/* As the vault says it. */
static bool reaches_out(const struct fakenode *n, const Leeward__Vault__V1__HashesRequest *q)
{
    uint64_t size = n->disk_sizes[q->disk];

    return q->start > size || q->length > size - q->start;
}

static void on_hash_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fakenode *n = arg;
    ProtobufCMessage *m;
    bool has;

    pthread_mutex_lock(&n->lock);
    has = n->has_hashes;
    n->facts.hash_calls++;
    pthread_mutex_unlock(&n->lock);
    if (!has ||
        wire_unpack(&leeward__vault__v1__hashes_request__descriptor, message->data, message->len, &m, NULL) < 0) {
        rpc_call_finish(call, RPC_UNIMPLEMENTED, "no hashes here");
        return;
    }
    if (reaches_out(n, (Leeward__Vault__V1__HashesRequest *)m))
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "the range reaches out of the disk");
    else
        send_hashes(n, call, (Leeward__Vault__V1__HashesRequest *)m);
    wire_free(m);
}

static void on_hash_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    (void)call;
    (void)arg;
    (void)status;
    (void)text;
}

static const struct rpc_call_ops hash_ops = {
    .on_message = on_hash_message, .on_end = on_hash_end, .auto_consume = true};

static int accept_hashes(
    struct rpc_call *call, void *arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    (void)call;
    (void)err;
    *ret_ops = &hash_ops;
    *ret_arg = arg;
    return 0;
}

/* ---- thread ---- */

static void forget(struct fakenode *n)
{
    char path[500];

    pthread_mutex_lock(&n->lock);
    n->facts.committed = n->facts.points = n->facts.progress = n->facts.first_points = 0;
    n->expected = 1;
    pthread_mutex_unlock(&n->lock);
    for (int i = 0; i < DISKS; i++) {
        snprintf(path, sizeof(path), "%s/%d.img", n->dir, i);
        (void)unlink(path);
    }
}

static void on_bell(void *arg)
{
    struct fakenode *n = arg;
    bool stop, drop, holding, forgets;

    pthread_mutex_lock(&n->lock);
    stop = n->stop;
    drop = n->drop;
    holding = n->holding;
    forgets = n->forget;
    n->drop = n->forget = false;
    pthread_mutex_unlock(&n->lock);
    if (drop && n->stream)
        rpc_call_cancel(n->stream);
    if (drop) {
        drop_held(n);
        n->expected = n->facts.committed + 1;
    }
    if (forgets)
        forget(n);
    if (!holding)
        release_held(n);
    if (stop)
        sd_event_exit(n->loop, 0);
}

static void *serve(void *arg)
{
    struct fakenode *n = arg;

    (void)loop_run(n->loop, NULL);
    return NULL;
}

struct fakenode *fakenode_start(const char *dir)
{
    static const struct rpc_method methods[] = {
        {.path = "/leeward.replication.v1.Replication/Replicate", .accept = accept_stream, .allow_anonymous = true},
        {.path = "/leeward.vault.v1.Vault/Hashes", .accept = accept_hashes, .allow_anonymous = true},
    };
    struct fakenode *n = mem_new(struct fakenode);
    struct err err = ERR_INIT;
    char listen[460];

    snprintf(n->dir, sizeof(n->dir), "%s", dir);
    snprintf(n->address, sizeof(n->address), "unix:%s/node.sock", dir);
    snprintf(listen, sizeof(listen), "%s", n->address);
    buf_init(&n->set, SET_MAX);
    n->work = seal_work_new();
    n->digest = record_digest_new();
    n->damaged = UINT64_MAX;
    n->expected = 1;
    n->held_tail = &n->held;
    pthread_mutex_init(&n->lock, NULL);
    pthread_cond_init(&n->changed, NULL);
    if (sd_event_new(&n->loop) < 0 || loop_bell_new(n->loop, on_bell, n, &n->bell, &err) < 0 ||
        rpc_server_new(n->loop, listen, NULL, methods, ARRAY_LEN(methods), n, NULL, &n->server, &err) < 0) {
        fprintf(stderr, "fake node: %s\n", err.text);
        abort();
    }
    if (pthread_create(&n->thread, NULL, serve, n) != 0)
        abort();
    return n;
}

static void tell(struct fakenode *n, bool *what, bool value)
{
    pthread_mutex_lock(&n->lock);
    *what = value;
    pthread_mutex_unlock(&n->lock);
    loop_bell_post(n->bell);
}

void fakenode_stop(struct fakenode *n)
{
    char path[500];

    if (!n)
        return;
    tell(n, &n->stop, true);
    pthread_join(n->thread, NULL);
    drop_held(n);
    forget(n);
    snprintf(path, sizeof(path), "%s/node.sock", n->dir);
    rpc_server_free(n->server);
    (void)unlink(path);
    loop_bell_free(n->bell);
    sd_event_unref(n->loop);
    seal_work_free(n->work);
    record_digest_free(n->digest);
    buf_done(&n->set);
    free(n);
}

const char *fakenode_address(const struct fakenode *n)
{
    return n->address;
}

void fakenode_get(struct fakenode *n, struct fakenode_facts *ret_facts)
{
    pthread_mutex_lock(&n->lock);
    *ret_facts = n->facts;
    pthread_mutex_unlock(&n->lock);
}

static bool wait_for(struct fakenode *n, const uint64_t *counter, uint64_t at_least)
{
    struct timespec until;
    bool ok;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SEC;
    pthread_mutex_lock(&n->lock);
    while (*counter < at_least && !n->facts.fault[0])
        if (pthread_cond_timedwait(&n->changed, &n->lock, &until) != 0)
            break;
    ok = *counter >= at_least;
    pthread_mutex_unlock(&n->lock);
    return ok;
}

bool fakenode_wait_points(struct fakenode *n, uint64_t points)
{
    return wait_for(n, &n->facts.points, points);
}

bool fakenode_wait_committed(struct fakenode *n, uint64_t sequence)
{
    return wait_for(n, &n->facts.committed, sequence);
}

void fakenode_set_look(struct fakenode *n, fakenode_look look, void *arg)
{
    pthread_mutex_lock(&n->lock);
    n->look = look;
    n->look_arg = arg;
    pthread_mutex_unlock(&n->lock);
}

void fakenode_drop(struct fakenode *n)
{
    tell(n, &n->drop, true);
}

void fakenode_set_refusing(struct fakenode *n, bool refusing)
{
    tell(n, &n->refusing, refusing);
}

void fakenode_set_holding(struct fakenode *n, bool holding)
{
    tell(n, &n->holding, holding);
}

void fakenode_set_hashes(struct fakenode *n, bool has_hashes)
{
    tell(n, &n->has_hashes, has_hashes);
}

void fakenode_forget(struct fakenode *n)
{
    tell(n, &n->forget, true);
}

void fakenode_set_damaged(struct fakenode *n, uint64_t start)
{
    n->damaged = start;
}

void fakenode_set_lying(struct fakenode *n, unsigned seed)
{
    pthread_mutex_lock(&n->lock);
    n->seed = seed;
    pthread_mutex_unlock(&n->lock);
    tell(n, &n->lying, seed > 0);
}

void fakenode_fall_back(struct fakenode *n, uint64_t committed)
{
    pthread_mutex_lock(&n->lock);
    n->facts.committed = committed;
    n->expected = committed + 1;
    pthread_mutex_unlock(&n->lock);
}

void fakenode_raise_epoch(struct fakenode *n, uint64_t by)
{
    pthread_mutex_lock(&n->lock);
    n->facts.epoch += by;
    pthread_mutex_unlock(&n->lock);
    fakenode_drop(n);
}
