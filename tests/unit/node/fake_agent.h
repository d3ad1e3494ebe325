/* SPDX-License-Identifier: Apache-2.0
 *
 * An agent for the node's tests: the real Replicate client over TLS. It keeps the disk as it should become, and makes change
 * sets out of numbered blocks.
 */
#ifndef TESTS_UNIT_NODE_FAKE_AGENT_H
#define TESTS_UNIT_NODE_FAKE_AGENT_H

#include <stdbool.h>

#include "transport/log/mark.h"
#include "transport/log/seal.h"
#include "transport/rpc/rpc.h"

struct fake_agent {
    struct rpc_channel *channel;
    struct rpc_call *call; /* NULL: over */
    struct seal_work *work;
    struct ident machine;
    uint64_t generation, epoch;
    enum mark_kind kind; /* of the marks that it makes */
    uint8_t *disk; /* what the vault should hold when all is committed */
    /* what came back on the present stream */
    unsigned opened_count, refused_count;
    uint64_t expected, committed, opened_epoch, spooled;
    char refused_code[32];
    uint64_t refused_expected;
    bool ended;
    enum rpc_status status;
    char text[512];
};

struct fake_agent *fake_agent_new(sd_event *loop, const char *address, struct tls_context *tls,
    const struct ident *node_id, const struct ident *machine);
void fake_agent_free(struct fake_agent *a);
/* Starts a stream (the earlier one is cancelled) and sends Open. */
void fake_agent_open(struct fake_agent *a, uint64_t generation, uint64_t epoch, uint64_t next_sequence);
/* Makes the records of a change set: `blocks` 64 KiB blocks from block `first` on, their content made from the sequence; the
 * mark goes with it unless mark is false. The agent's own disk is changed too. */
void fake_agent_set(
    struct fake_agent *a, uint64_t sequence, unsigned first, unsigned blocks, bool mark, struct buf *out);
/* Sends bytes as batches of about 1 MiB, cut between records. Returns false when the queue is over its mark. */
bool fake_agent_send(struct fake_agent *a, const struct buf *records);
void fake_agent_send_set(struct fake_agent *a, uint64_t sequence, unsigned first, unsigned blocks);

#endif
