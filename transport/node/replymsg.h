/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages of the Replicate stream that a node sends, from their parts.
 */
#ifndef TRANSPORT_NODE_REPLYMSG_H
#define TRANSPORT_NODE_REPLYMSG_H

#include "transport/proto/replication.pb-c.h"
#include "transport/rpc/rpc.h"

int replymsg_opened(struct rpc_call *call, const Leeward__Replication__V1__Opened *opened, struct err *err);
int replymsg_spooled(struct rpc_call *call, uint64_t sequence, struct err *err);
int replymsg_committed(struct rpc_call *call, uint64_t sequence, uint64_t committed_utc_usec, struct err *err);
int replymsg_refused(struct rpc_call *call, const struct err *why, uint64_t expected_sequence, uint64_t generation,
    uint64_t epoch, struct err *err);
/* The request that opens a stream to the vault. */
int replymsg_open(struct rpc_call *call, const struct ident *machine, uint64_t generation, uint64_t epoch,
    uint64_t next_sequence, struct err *err);
/* One batch without a copy; takes its memory. Returns as rpc_call_send. */
int replymsg_batch(struct rpc_call *call, struct buf *records, struct err *err);

#endif
