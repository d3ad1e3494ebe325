/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing of the few messages that a node sends on Replicate streams.
 */
#include "transport/node/replymsg.h"

#include "transport/proto/wire.h"

#define REPLY_MAX 4096u

static int send_packed(struct rpc_call *call, const ProtobufCMessage *m, struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(REPLY_MAX);
    if (wire_pack(m, &b, err) < 0)
        return -1;
    return rpc_call_send(call, &b, err) < 0 ? -1 : 0;
}

int replymsg_opened(struct rpc_call *call, const Leeward__Replication__V1__Opened *opened, struct err *err)
{
    Leeward__Replication__V1__ReplicateReply reply = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    reply.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_OPENED;
    reply.opened = (Leeward__Replication__V1__Opened *)opened;
    return send_packed(call, &reply.base, err);
}

int replymsg_spooled(struct rpc_call *call, uint64_t sequence, struct err *err)
{
    Leeward__Replication__V1__Spooled spooled = LEEWARD__REPLICATION__V1__SPOOLED__INIT;
    Leeward__Replication__V1__ReplicateReply reply = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    spooled.sequence = sequence;
    reply.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_SPOOLED;
    reply.spooled = &spooled;
    return send_packed(call, &reply.base, err);
}

int replymsg_committed(struct rpc_call *call, uint64_t sequence, uint64_t committed_utc_usec, struct err *err)
{
    Leeward__Replication__V1__Committed committed = LEEWARD__REPLICATION__V1__COMMITTED__INIT;
    Leeward__Replication__V1__ReplicateReply reply = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    committed.sequence = sequence;
    committed.committed_utc_usec = committed_utc_usec;
    reply.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_COMMITTED;
    reply.committed = &committed;
    return send_packed(call, &reply.base, err);
}

int replymsg_refused(struct rpc_call *call, const struct err *why, uint64_t expected_sequence, uint64_t generation,
    uint64_t epoch, struct err *err)
{
    Leeward__Replication__V1__Refused refused = LEEWARD__REPLICATION__V1__REFUSED__INIT;
    Leeward__Replication__V1__ReplicateReply reply = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    refused.code = (char *)err_code_name(why->code);
    refused.text = (char *)why->text;
    refused.correction = (char *)why->correction;
    refused.expected_sequence = expected_sequence;
    refused.generation = generation;
    refused.epoch = epoch;
    reply.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_REFUSED;
    reply.refused = &refused;
    return send_packed(call, &reply.base, err);
}

int replymsg_open(struct rpc_call *call, const struct ident *machine, uint64_t generation, uint64_t epoch,
    uint64_t next_sequence, struct err *err)
{
    Leeward__Replication__V1__Open open = LEEWARD__REPLICATION__V1__OPEN__INIT;
    Leeward__Replication__V1__ReplicateRequest request = LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__INIT;
    open.machine_id = (ProtobufCBinaryData){.len = IDENT_SIZE, .data = (uint8_t *)machine->bytes};
    open.generation = generation;
    open.epoch = epoch;
    open.next_sequence = next_sequence;
    open.software = (char *)"leeward-node " LEEWARD_VERSION;
    request.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__KIND_OPEN;
    request.open = &open;
    return send_packed(call, &request.base, err);
}

int replymsg_batch(struct rpc_call *call, struct buf *records, struct err *err)
{
    uint8_t head[WIRE_BATCH_HEAD_MAX];
    AUTO_BUF struct buf b = BUF_INIT(WIRE_BATCH_HEAD_MAX);
    size_t n = wire_batch_head(records->len, head);
    if (buf_append(&b, head, n, err) < 0)
        return -1;
    return rpc_call_send2(call, &b, records, err);
}
