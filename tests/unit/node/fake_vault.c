/* SPDX-License-Identifier: Apache-2.0
 *
 * The vault of the node's tests.
 */
#include "tests/unit/node/fake_vault.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/log/mark.h"
#include "transport/proto/replication.pb-c.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/proto/wire.h"

static void broken(struct fake_vault *v, const char *what)
{
    (void)fprintf(stderr, "fake vault: %s\n", what);
    v->broken_rules++;
}

static void reply(struct rpc_call *call, Leeward__Replication__V1__ReplicateReply *r)
{
    AUTO_BUF struct buf b = BUF_INIT(4096);
    if (wire_pack(&r->base, &b, NULL) == 0)
        (void)rpc_call_send(call, &b, NULL);
}

static void refuse(struct fake_vault *v, const struct err *why)
{
    Leeward__Replication__V1__ReplicateReply r = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    Leeward__Replication__V1__Refused refused = LEEWARD__REPLICATION__V1__REFUSED__INIT;
    refused.code = (char *)err_code_name(why->code);
    refused.text = (char *)why->text;
    refused.expected_sequence = v->committed + 1;
    refused.generation = v->generation;
    refused.epoch = v->epoch;
    r.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_REFUSED;
    r.refused = &refused;
    reply(v->call, &r);
    rpc_call_fail(TAKE_PTR(v->call), why);
    buf_clear(&v->open);
    v->refused++;
}

static void take_open(struct fake_vault *v, struct rpc_call *call, const Leeward__Replication__V1__Open *open)
{
    Leeward__Replication__V1__ReplicateReply r = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    Leeward__Replication__V1__Opened o = LEEWARD__REPLICATION__V1__OPENED__INIT;
    v->opens++;
    buf_clear(&v->open);
    if (v->silent)
        return;
    if (v->not_given) {
        struct err err = ERR_INIT;
        (void)err_set(&err, ERR_UNAVAILABLE, "the hub has not given this machine to this vault");
        v->call = call;
        refuse(v, &err);
        return;
    }
    if (open->generation < v->generation) {
        struct err err = ERR_INIT;
        (void)err_set(&err, ERR_REFUSED, "generation %llu is over", (unsigned long long)open->generation);
        rpc_call_fail(call, &err);
        return;
    }
    v->generation = open->generation;
    if (open->epoch > v->epoch)
        v->epoch = open->epoch;
    v->call = call;
    o.expected_sequence = v->committed + 1;
    o.committed_sequence = v->committed;
    o.epoch = v->epoch;
    o.generation = v->generation;
    o.has_point = !v->no_point;
    o.data_key = (ProtobufCBinaryData){.len = SEAL_KEY_SIZE, .data = v->key.bytes};
    o.nonce_stream = ++v->nonce_stream;
    r.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_OPENED;
    r.opened = &o;
    reply(call, &r);
}

static void check_nonce(struct fake_vault *v, const struct record *r)
{
    bool later = r->nonce_stream > v->nonce_stream_seen ||
                 (r->nonce_stream == v->nonce_stream_seen && r->nonce_counter > v->nonce_counter_seen);
    if (r->kind == RECORD_DATA && r->cipher != RECORD_AES256GCM)
        broken(v, "record came unencrypted");
    if (r->kind == RECORD_DATA && !later && r->nonce_stream == v->nonce_stream)
        broken(v, "nonce came twice");
    if (r->kind == RECORD_DATA && later) {
        v->nonce_stream_seen = r->nonce_stream;
        v->nonce_counter_seen = r->nonce_counter;
    }
}

static int apply_record(struct fake_vault *v, const struct record *r, const uint8_t *payload, struct err *err)
{
    if (r->start + r->length > FAKE_DISK_BYTES)
        broken(v, "record is outside of the disk");
    else if (r->kind == RECORD_ZERO)
        memset(v->disk + r->start, 0, r->length);
    else
        return seal_open(v->work, r, payload, &v->key, v->disk + r->start, err);
    return 0;
}

static void commit(struct fake_vault *v, const struct mark *m)
{
    Leeward__Replication__V1__ReplicateReply r = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    Leeward__Replication__V1__Committed c = LEEWARD__REPLICATION__V1__COMMITTED__INIT;
    struct record record;
    const uint8_t *payload;
    size_t offset = 0;
    uint64_t count = 0;
    struct err err = ERR_INIT;
    while (record_next(v->open.data, v->open.len, &offset, &record, &payload, NULL) == 1) {
        if (apply_record(v, &record, payload, &err) < 0) {
            refuse(v, &err);
            return;
        }
        count++;
    }
    if (m->sequence != v->committed + 1 || m->epoch != v->epoch || m->generation != v->generation ||
        m->record_count != count)
        broken(v, "mark does not fit");
    buf_clear(&v->open);
    v->committed = m->sequence;
    c.sequence = m->sequence;
    c.committed_utc_usec = clock_utc_usec();
    r.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_COMMITTED;
    r.committed = &c;
    reply(v->call, &r);
}

static void take_batch(struct fake_vault *v, const uint8_t *records, size_t n)
{
    size_t offset = 0, before = 0;
    struct record r;
    const uint8_t *payload;
    int got;
    v->batches++;
    while ((got = record_next(records, n, &offset, &r, &payload, NULL)) == 1 && v->call != NULL) {
        struct mark m;
        check_nonce(v, &r);
        if (r.kind == RECORD_MARK && mark_decode(&r, payload, &m, NULL) == 0)
            commit(v, &m);
        else
            (void)buf_append(&v->open, records + before, offset - before, NULL);
        before = offset;
    }
    if (got < 0)
        broken(v, "batch is not whole records");
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fake_vault *v = arg;
    const uint8_t *records;
    size_t n, size = message->len;
    if (wire_peek_batch(message->data, message->len, &records, &n) == 1) {
        if (call == v->call)
            take_batch(v, records, n);
        else if (v->refused == 0)
            broken(v, "batch on an old stream");
    } else {
        ProtobufCMessage *m = NULL;
        if (wire_unpack(
                &leeward__replication__v1__replicate_request__descriptor, message->data, message->len, &m, NULL) == 0)
            take_open(v, call, ((Leeward__Replication__V1__ReplicateRequest *)m)->open);
        wire_free(m);
    }
    if (v->stalled)
        v->held_bytes += size;
    else
        rpc_call_consume(call, size);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct fake_vault *v = arg;
    (void)status;
    (void)text;
    if (v->call != call)
        return;
    v->call = NULL;
    v->held_bytes = 0;
    buf_clear(&v->open);
}

static int accept_replicate(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    static const struct rpc_call_ops ops = {.on_message = on_message, .on_end = on_end};
    if (strcmp(rpc_call_peer(call)->role, "node") != 0)
        return err_set(err, ERR_DENIED, "not a node");
    *ret_ops = &ops;
    *ret_arg = server_arg;
    return 0;
}

/* Answers with three chunks. */
static void on_hashes(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fake_vault *v = arg;
    (void)message;
    v->hashes_asked++;
    for (unsigned i = 0; i < 3; i++) {
        Leeward__Vault__V1__HashChunk chunk = LEEWARD__VAULT__V1__HASH_CHUNK__INIT;
        AUTO_BUF struct buf b = BUF_INIT(4096);
        uint8_t hash[16] = {(uint8_t)i};
        chunk.start = i * 65536;
        chunk.block_bytes = 65536;
        chunk.hashes = (ProtobufCBinaryData){.len = sizeof(hash), .data = hash};
        if (wire_pack(&chunk.base, &b, NULL) == 0)
            (void)rpc_call_send(call, &b, NULL);
    }
    rpc_call_finish(call, RPC_OK, NULL);
}

static int accept_hashes(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    static const struct rpc_call_ops ops = {.on_message = on_hashes, .auto_consume = true};
    (void)call;
    (void)err;
    *ret_ops = &ops;
    *ret_arg = server_arg;
    return 0;
}

static const struct rpc_method methods[] = {
    {.path = "/leeward.replication.v1.Replication/Replicate", .accept = accept_replicate},
    {.path = "/leeward.vault.v1.Vault/Hashes", .accept = accept_hashes},
};

struct fake_vault *fake_vault_new(void)
{
    struct fake_vault *v = mem_new(struct fake_vault);
    if (v == NULL)
        abort();
    v->work = seal_work_new();
    v->disk = mem_alloc(1, FAKE_DISK_BYTES);
    buf_init(&v->open, 256u << 20);
    memset(v->key.bytes, 0x6b, SEAL_KEY_SIZE);
    if (v->work == NULL || v->disk == NULL)
        abort();
    return v;
}

void fake_vault_serve(struct fake_vault *v, sd_event *loop, const char *address, struct tls_context *tls)
{
    struct err err = ERR_INIT;
    if (rpc_server_new(loop, address, tls, methods, ARRAY_LEN(methods), v, NULL, &v->server, &err) < 0) {
        (void)fprintf(stderr, "fake vault: %s\n", err.text);
        abort();
    }
}

void fake_vault_stop(struct fake_vault *v)
{
    rpc_server_free(v->server);
    v->server = NULL;
    v->call = NULL;
    v->held_bytes = 0;
    buf_clear(&v->open);
}

void fake_vault_go_on(struct fake_vault *v)
{
    v->stalled = false;
    if (v->call != NULL)
        rpc_call_consume(v->call, v->held_bytes);
    v->held_bytes = 0;
}

void fake_vault_free(struct fake_vault *v)
{
    if (v->server != NULL)
        rpc_server_free(v->server);
    seal_work_free(v->work);
    buf_done(&v->open);
    free(v->disk);
    free(v);
}
