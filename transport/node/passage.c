/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls of the Vault service by an agent, passed on to the vault of its machine: an agent has no way to the vault but this one. The request
 * must name the machine of the certificate, or one that the hub has this machine's disks written with (NodeMachine.receiver_id). Content of points (Changes, Blocks) is for a machine that is written back, and the hub says which may be:
 * whoever gets hold of a source that was failed over learns nothing of what its replica writes. Replies go through one by one; the vault's window opens only as fast as the
 * agent reads.
 */
#include <string.h>

#include "transport/base/mem.h"
#include "transport/node/machine.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/proto/wire.h"

/* Which call; all requests begin with the machine's id. */
struct passage_kind {
    const char *path;
    const ProtobufCMessageDescriptor *type;
    bool reads; /* what the points hold */
    ProtobufCBinaryData (*machine_id)(const ProtobufCMessage *m);
};

struct passage {
    const struct passage_kind *kind;
    struct node *node;
    struct rpc_call *agent; /* NULL: over */
    struct rpc_call *vault; /* NULL: not begun, or over */
    size_t held_bytes;      /* received from the vault, not given back: the agent is behind */
};

static void free_if_over(struct passage *p)
{
    if (p->agent == NULL && p->vault == NULL)
        free(p);
}

/* ---- the vault's side ---- */

static void vault_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct passage *p = arg;
    size_t n = message->len;
    int sent = p->agent != NULL ? rpc_call_send(p->agent, message, NULL) : -1;
    if (sent < 0)
        rpc_call_cancel(call);
    else if (sent == 0)
        p->held_bytes += n;
    else
        rpc_call_consume(call, n);
}

static void vault_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct passage *p = arg;
    (void)call;
    p->vault = NULL;
    /* Whatever certificate it is about is the node's or the vault's; the agent has nothing to do but to wait until that is put right. */
    if (status == RPC_UNAUTHENTICATED)
        status = RPC_UNAVAILABLE;
    if (p->agent != NULL)
        rpc_call_finish(p->agent, status, text);
    free_if_over(p);
}

static const struct rpc_call_ops vault_ops = {.on_message = vault_message, .on_end = vault_end};

/* ---- the agent's side ---- */

static int check_request(struct passage *p, const struct buf *message, struct machine **ret_machine, struct err *err)
{
    ProtobufCMessage *base = NULL;
    const struct ident *id = &rpc_call_peer(p->agent)->id;
    if (wire_unpack(p->kind->type, message->data, message->len, &base, err) < 0)
        return -1;
    const ProtobufCBinaryData asked = p->kind->machine_id(base);
    struct ident about = {0};
    if (asked.len == IDENT_SIZE)
        memcpy(about.bytes, asked.data, IDENT_SIZE);
    wire_free(base);
    struct machine *m = machine_find(p->node, &about);
    bool own = ident_equal(&about, id), receiver = m != NULL && ident_equal(&m->receiver, id);
    if (!own && !receiver)
        return err_set(err, ERR_DENIED, "an agent may ask about its own machine only");
    if (m == NULL || m->peer == NULL)
        return err_set(err, ERR_UNAVAILABLE, "this node does not serve that machine");
    if (p->kind->reads && !receiver && !m->may_receive)
        return err_set(err, ERR_DENIED, "the hub does not let this machine be written back");
    *ret_machine = m;
    return 0;
}

static void agent_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct passage *p = arg;
    struct machine *m = NULL;
    struct err err = ERR_INIT;
    if (p->vault != NULL)
        (void)err_set(&err, ERR_INVALID, "the call takes one request");
    else if (check_request(p, message, &m, &err) == 0 &&
             rpc_call_start(m->peer->channel, p->kind->path, 0, true, &vault_ops, p, &p->vault, &err) == 0 &&
             (rpc_call_send(p->vault, message, &err) >= 0 || err.code == ERR_CANCELLED)) {
        /* The call to a vault that is away is over already, and vault_end is going to say why. */
        rpc_call_half_close(p->vault);
        return;
    }
    if (p->vault != NULL)
        rpc_call_cancel(p->vault);
    rpc_call_fail(call, &err);
}

static void agent_writable(struct rpc_call *call, void *arg)
{
    struct passage *p = arg;
    size_t n = p->held_bytes;
    (void)call;
    p->held_bytes = 0;
    if (p->vault != NULL && n > 0)
        rpc_call_consume(p->vault, n);
}

static void agent_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct passage *p = arg;
    (void)call;
    (void)status;
    (void)text;
    p->agent = NULL;
    if (p->vault != NULL)
        rpc_call_cancel(p->vault);
    else
        free(p);
}

static const struct rpc_call_ops agent_ops = {
    .on_message = agent_message, .on_writable = agent_writable, .on_end = agent_end, .auto_consume = true};

#define MACHINE_ID(name, Type)                                                                                         \
    static ProtobufCBinaryData name(const ProtobufCMessage *m)                                                         \
    {                                                                                                                  \
        return ((const Leeward__Vault__V1__##Type *)m)->machine_id;                                                    \
    }
MACHINE_ID(hashes_machine, HashesRequest)
MACHINE_ID(changes_machine, ChangesRequest)
MACHINE_ID(blocks_machine, BlocksRequest)
#undef MACHINE_ID

static const struct passage_kind hashes = {
    "/leeward.vault.v1.Vault/Hashes", &leeward__vault__v1__hashes_request__descriptor, false, hashes_machine};
static const struct passage_kind changes = {
    "/leeward.vault.v1.Vault/Changes", &leeward__vault__v1__changes_request__descriptor, true, changes_machine};
static const struct passage_kind blocks = {
    "/leeward.vault.v1.Vault/Blocks", &leeward__vault__v1__blocks_request__descriptor, true, blocks_machine};

static int accept_kind(struct rpc_call *call, void *server_arg, const struct passage_kind *kind,
    const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    if (strcmp(rpc_call_peer(call)->role, "agent") != 0)
        return err_set(err, ERR_DENIED, "a node passes on the calls of agents only");
    struct passage *p = mem_new(struct passage);
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a call");
    p->kind = kind;
    p->node = server_arg;
    p->agent = call;
    *ret_ops = &agent_ops;
    *ret_arg = p;
    return 0;
}

int passage_accept_hashes(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return accept_kind(call, server_arg, &hashes, ret_ops, ret_arg, err);
}

int passage_accept_changes(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return accept_kind(call, server_arg, &changes, ret_ops, ret_arg, err);
}

int passage_accept_blocks(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    return accept_kind(call, server_arg, &blocks, ret_ops, ret_arg, err);
}
