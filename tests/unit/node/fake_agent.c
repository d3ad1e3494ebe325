/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent of the node's tests.
 */
#include "tests/unit/node/fake_agent.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/node/fake_vault.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/proto/replication.pb-c.h"
#include "transport/proto/wire.h"

#define PATH "/leeward.replication.v1.Replication/Replicate"

/* Only the present call speaks for the agent. */
static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fake_agent *a = arg;
    ProtobufCMessage *m = NULL;
    if (call != a->call ||
        wire_unpack(&leeward__replication__v1__replicate_reply__descriptor, message->data, message->len, &m, NULL) < 0)
        return;
    const Leeward__Replication__V1__ReplicateReply *r = (const Leeward__Replication__V1__ReplicateReply *)m;
    switch (r->kind_case) {
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_OPENED:
        a->opened_count++;
        a->expected = r->opened->expected_sequence;
        a->committed = r->opened->committed_sequence;
        a->opened_epoch = r->opened->epoch;
        if (r->opened->data_key.len > 0)
            abort(); /* the key is for nodes only */
        break;
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_SPOOLED:
        a->spooled = r->spooled->sequence;
        break;
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_COMMITTED:
        a->committed = r->committed->sequence;
        break;
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_REFUSED:
        a->refused_count++;
        a->refused_expected = r->refused->expected_sequence;
        (void)snprintf(a->refused_code, sizeof(a->refused_code), "%s", r->refused->code);
        break;
    default:
        break;
    }
    wire_free(m);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct fake_agent *a = arg;
    if (call != a->call)
        return;
    a->call = NULL;
    a->ended = true;
    a->status = status;
    (void)snprintf(a->text, sizeof(a->text), "%s", text);
}

static const struct rpc_call_ops ops = {.on_message = on_message, .on_end = on_end, .auto_consume = true};

struct fake_agent *fake_agent_new(sd_event *loop, const char *address, struct tls_context *tls,
    const struct ident *node_id, const struct ident *machine)
{
    struct fake_agent *a = mem_new(struct fake_agent);
    if (a == NULL)
        abort();
    a->work = seal_work_new();
    a->disk = mem_alloc(1, FAKE_DISK_BYTES);
    a->machine = *machine;
    a->kind = MARK_CRASH;
    if (a->work == NULL || a->disk == NULL ||
        rpc_channel_new(loop, address, tls, "node", node_id, NULL, &a->channel, NULL) < 0)
        abort();
    return a;
}

void fake_agent_free(struct fake_agent *a)
{
    a->call = NULL;
    rpc_channel_free(a->channel);
    seal_work_free(a->work);
    free(a->disk);
    free(a);
}

void fake_agent_open(struct fake_agent *a, uint64_t generation, uint64_t epoch, uint64_t next_sequence)
{
    Leeward__Replication__V1__ReplicateRequest r = LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__INIT;
    Leeward__Replication__V1__Open open = LEEWARD__REPLICATION__V1__OPEN__INIT;
    AUTO_BUF struct buf b = BUF_INIT(4096);
    struct rpc_call *old = TAKE_PTR(a->call);
    if (old != NULL)
        rpc_call_cancel(old);
    a->generation = generation;
    a->epoch = epoch;
    a->opened_count = a->refused_count = 0;
    a->expected = a->spooled = 0;
    a->ended = false;
    if (rpc_call_start(a->channel, PATH, 0, false, &ops, a, &a->call, NULL) < 0)
        abort();
    open.machine_id = (ProtobufCBinaryData){.len = IDENT_SIZE, .data = a->machine.bytes};
    open.generation = generation;
    open.epoch = epoch;
    open.next_sequence = next_sequence;
    r.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__KIND_OPEN;
    r.open = &open;
    if (wire_pack(&r.base, &b, NULL) < 0 || rpc_call_send(a->call, &b, NULL) < 0)
        abort();
}

/* Every fourth block is zeros, every second one compresses. */
static void fill(uint64_t sequence, unsigned block, uint8_t *data)
{
    uint32_t x = (uint32_t)(sequence * 7919 + block) * 2654435761u;
    for (size_t i = 0; i < RECORD_BLOCK_SIZE; i++) {
        x = x * 1664525u + 1013904223u;
        data[i] = block % 4 == 3 ? 0 : block % 2 == 0 && i % 64 != 0 ? (uint8_t)sequence : (uint8_t)(x >> 24);
    }
}

void fake_agent_set(
    struct fake_agent *a, uint64_t sequence, unsigned first, unsigned blocks, bool mark, struct buf *out)
{
    struct record_digest *digest = record_digest_new();
    struct mark m = {.kind = a->kind,
        .sequence = sequence,
        .generation = a->generation,
        .epoch = a->epoch,
        .time_utc_usec = clock_utc_usec(),
        .machine = a->machine,
        .disk_count = 1};
    m.disks[0] = (struct mark_disk){.sector_bytes = 512, .size_bytes = FAKE_DISK_BYTES, .name = "vda"};
    for (unsigned i = 0; i < blocks; i++) {
        uint64_t start = (uint64_t)(first + i) * RECORD_BLOCK_SIZE % FAKE_DISK_BYTES;
        struct record r;
        fill(sequence, first + i, a->disk + start);
        if (seal_append_data(a->work, 0, start, a->disk + start, RECORD_BLOCK_SIZE, i % 3 == 0 ? 1 : 0, out, &r, NULL) <
            0)
            abort();
        record_digest_add(digest, &r);
        m.record_count++;
        m.changed_bytes += r.length;
    }
    record_digest_get(digest, &m.digest);
    record_digest_free(digest);
    if (mark && mark_append(&m, out, NULL) < 0)
        abort();
}

static int send_batch(struct fake_agent *a, const uint8_t *data, size_t n)
{
    AUTO_BUF struct buf head = BUF_INIT(WIRE_BATCH_HEAD_MAX), body = BUF_INIT(8u << 20);
    uint8_t bytes[WIRE_BATCH_HEAD_MAX];
    if (a->call == NULL)
        return 1;
    if (buf_append(&head, bytes, wire_batch_head(n, bytes), NULL) < 0 || buf_append(&body, data, n, NULL) < 0)
        abort();
    return rpc_call_send2(a->call, &head, &body, NULL);
}

bool fake_agent_send(struct fake_agent *a, const struct buf *records)
{
    size_t offset = 0, from = 0;
    struct record r;
    const uint8_t *payload;
    int queued = 1;
    while (record_next(records->data, records->len, &offset, &r, &payload, NULL) == 1) {
        if (offset - from < (1u << 20) && offset != records->len)
            continue;
        queued = send_batch(a, records->data + from, offset - from);
        from = offset;
    }
    return queued != 0;
}

void fake_agent_send_set(struct fake_agent *a, uint64_t sequence, unsigned first, unsigned blocks)
{
    AUTO_BUF struct buf b = BUF_INIT(256u << 20);
    fake_agent_set(a, sequence, first, blocks, true, &b);
    (void)fake_agent_send(a, &b);
}
