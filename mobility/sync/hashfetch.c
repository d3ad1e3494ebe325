/* SPDX-License-Identifier: Apache-2.0
 *
 * One request at a time. The mutex guards the request and its result; `phase` says whose they are. A late end of a call whose
 * waiter has gone is told apart by the request's number.
 */
#include "mobility/sync/hashfetch.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/proto/wire.h"

#define HASHES_PATH "/leeward.vault.v1.Vault/Hashes"
#define WAIT_SEC 60

enum phase { FETCH_IDLE, FETCH_ASKED, FETCH_CALLING, FETCH_DONE };

struct hashfetch {
    struct ident machine;
    void (*to_loop)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t done;
    enum phase phase;
    bool stopped;
    uint64_t number; /* of the request */
    uint32_t disk;
    uint64_t start;
    size_t count, have;
    struct hash128 *hashes; /* of HASHFETCH_BLOCKS_MAX */
    struct err error;
    struct rpc_call *call; /* loop thread only */
    uint64_t call_number;
};

static void on_message(struct rpc_call *call, void *arg, struct buf *message);
static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text);
static const struct rpc_call_ops call_ops = {.on_message = on_message, .on_end = on_end, .auto_consume = true};

int hashfetch_new(
    const struct ident *machine, void (*to_loop)(void *arg), void *arg, struct hashfetch **ret_fetch, struct err *err)
{
    struct hashfetch *f = mem_new(struct hashfetch);
    pthread_condattr_t attr;

    if (f)
        f->hashes = mem_alloc(HASHFETCH_BLOCKS_MAX, sizeof(*f->hashes));
    if (!f || !f->hashes) {
        free(f);
        return err_set(err, ERR_NOMEM, "no memory for hashes");
    }
    f->machine = *machine;
    f->to_loop = to_loop;
    f->arg = arg;
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->done, &attr);
    pthread_condattr_destroy(&attr);
    *ret_fetch = f;
    return 0;
}

void hashfetch_free(struct hashfetch *f)
{
    if (!f)
        return;
    pthread_cond_destroy(&f->done);
    pthread_mutex_destroy(&f->lock);
    free(f->hashes);
    free(f);
}

static int wait_done(struct hashfetch *f, struct err *err)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_SEC;
    while (f->phase != FETCH_DONE && !f->stopped)
        if (pthread_cond_timedwait(&f->done, &f->lock, &until) == ETIMEDOUT)
            return err_set(err, ERR_TIMEOUT, "the vault gave no hashes within %d s", WAIT_SEC);
    if (f->stopped)
        return err_set(err, ERR_CANCELLED, "the agent is stopping");
    if (f->error.code != ERR_NONE) {
        err_copy(err, &f->error);
        return -1;
    }
    return 0;
}

int hashfetch_get(
    struct hashfetch *f, uint32_t disk, uint64_t start, size_t count, struct hash128 *ret_hashes, struct err *err)
{
    int r;

    if (count > HASHFETCH_BLOCKS_MAX)
        return err_set(err, ERR_TOO_LARGE, "too many hashes asked for at once");
    pthread_mutex_lock(&f->lock);
    f->phase = FETCH_ASKED;
    f->number++;
    f->disk = disk;
    f->start = start;
    f->count = count;
    f->have = 0;
    err_clear(&f->error);
    f->to_loop(f->arg);
    r = wait_done(f, err);
    if (r == 0)
        memcpy(ret_hashes, f->hashes, count * sizeof(*ret_hashes));
    f->phase = FETCH_IDLE;
    f->number++;
    pthread_mutex_unlock(&f->lock);
    return r;
}

static void finish(struct hashfetch *f, const struct err *error)
{
    f->phase = FETCH_DONE;
    if (error)
        err_copy(&f->error, error);
    pthread_cond_signal(&f->done);
}

static int start_call(struct hashfetch *f, struct rpc_channel *channel, struct err *err)
{
    Leeward__Vault__V1__HashesRequest request = LEEWARD__VAULT__V1__HASHES_REQUEST__INIT;
    struct buf b AUTO_BUF = BUF_INIT(4096);

    request.machine_id.data = f->machine.bytes;
    request.machine_id.len = IDENT_SIZE;
    request.disk = f->disk;
    request.start = f->start;
    request.length = f->count * (uint64_t)HASHFETCH_BLOCK_BYTES;
    request.block_bytes = HASHFETCH_BLOCK_BYTES;
    if (wire_pack(&request.base, &b, err) < 0 ||
        rpc_call_start(channel, HASHES_PATH, clock_mono_usec() + (WAIT_SEC - 5) * USEC_PER_SEC, true, &call_ops, f,
            &f->call, err) < 0)
        return -1;
    f->call_number = f->number;
    f->phase = FETCH_CALLING;
    if (rpc_call_send(f->call, &b, err) < 0)
        rpc_call_cancel(f->call);
    else
        rpc_call_half_close(f->call);
    return 0;
}

void hashfetch_kick(struct hashfetch *f, struct rpc_channel *channel)
{
    struct err err = ERR_INIT;

    pthread_mutex_lock(&f->lock);
    if (f->phase == FETCH_ASKED && !f->call) {
        if (!channel)
            err_set(&err, ERR_UNAVAILABLE, "there is no node to ask for hashes");
        else
            (void)start_call(f, channel, &err);
        if (err.code != ERR_NONE && f->phase == FETCH_ASKED)
            finish(f, &err);
    }
    pthread_mutex_unlock(&f->lock);
}

/* Chunks come in order; the last block of a disk counts like the others. */
static int take_chunk(struct hashfetch *f, const Leeward__Vault__V1__HashChunk *m, struct err *err)
{
    size_t n = m->hashes.len / HASH_SIZE;

    if (m->block_bytes != HASHFETCH_BLOCK_BYTES || m->hashes.len % HASH_SIZE != 0 ||
        m->start != f->start + (uint64_t)f->have * HASHFETCH_BLOCK_BYTES || n > f->count - f->have)
        return err_set(err, ERR_CORRUPT, "the vault answered other hashes than those asked for");
    memcpy(f->hashes + f->have, m->hashes.data, n * HASH_SIZE);
    f->have += n;
    return 0;
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct hashfetch *f = arg;
    struct err err = ERR_INIT;
    ProtobufCMessage *m = NULL;
    int r = wire_unpack(&leeward__vault__v1__hash_chunk__descriptor, message->data, message->len, &m, &err);

    pthread_mutex_lock(&f->lock);
    if (f->phase == FETCH_CALLING && f->call_number == f->number) {
        if (r == 0)
            r = take_chunk(f, (const Leeward__Vault__V1__HashChunk *)m, &err);
        if (r < 0)
            finish(f, &err);
    }
    pthread_mutex_unlock(&f->lock);
    wire_free(m);
    if (r < 0)
        rpc_call_cancel(call);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct hashfetch *f = arg;
    struct err err = ERR_INIT;

    (void)call;
    pthread_mutex_lock(&f->lock);
    f->call = NULL;
    if (f->phase == FETCH_CALLING && f->call_number == f->number) {
        if (status != RPC_OK)
            err_set(&err, err_from_grpc_status((int)status), "asking the vault for hashes: %s", text ? text : "");
        else if (f->have < f->count)
            err_set(&err, ERR_UNSUPPORTED, "the vault has no hashes for this part of the disk");
        finish(f, err.code == ERR_NONE ? NULL : &err);
    } else if (f->phase == FETCH_ASKED) {
        f->to_loop(f->arg);
    }
    pthread_mutex_unlock(&f->lock);
}

void hashfetch_stop(struct hashfetch *f)
{
    pthread_mutex_lock(&f->lock);
    f->stopped = true;
    pthread_cond_broadcast(&f->done);
    pthread_mutex_unlock(&f->lock);
}
