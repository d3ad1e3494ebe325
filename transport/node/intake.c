/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's side: Replicate as a server. The stream begins with Open, which is answered when the spool was scanned and
 * the vault has said what it holds; or at once, when the agent goes on in the epoch that the spool is in and the node has
 * the machine's key (then the vault may be away).
 *
 * The answer to an Open of
 *   epoch 0 or a lower one than is known   what the vault holds; the agent opens again with a higher epoch
 *   the spool's epoch                      goes on behind the last set in the spool
 *   a higher epoch                         first the vault is opened with it, which fences all lower ones; then the
 *                                          spool begins again empty at the vault's next set
 */
#include <string.h>

#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/node/machine.h"
#include "transport/node/replymsg.h"
#include "transport/proto/wire.h"

#define EPOCH_MAX (1ULL << 62)        /* there must always be a higher one */
#define REPLIES_QUEUED_MAX (1u << 20) /* an agent that sends and never reads */

/* ---- ending ---- */

static void detach(struct intake *in)
{
    struct machine *m = in->machine;
    in->machine = NULL;
    in->state = INTAKE_OVER;
    if (m == NULL || m->intake != in)
        return;
    m->intake = NULL;
    pipeline_abandon(m);
}

static void end_call(struct intake *in, const struct err *err)
{
    struct rpc_call *call = in->call;
    if (in->state == INTAKE_OVER)
        return;
    log_event(LOG_INFO, "stream_ended", LOG_S("machine", in->machine != NULL ? in->machine->text : ""),
        LOG_S("peer", rpc_call_address(call)), LOG_E(err));
    detach(in);
    rpc_call_fail(call, err);
}

void intake_fail(struct machine *m, const struct err *err, bool refused)
{
    struct intake *in = m->intake;
    if (in == NULL)
        return;
    if (refused)
        (void)replymsg_refused(in->call, err, m->spooled.next_sequence,
            m->generation > m->vault_generation ? m->generation : m->vault_generation,
            m->vault_epoch > m->spooled.epoch ? m->vault_epoch : m->spooled.epoch, NULL);
    end_call(in, err);
}

/* ---- answering Open ---- */

static void answer(struct machine *m, struct intake *in, uint64_t expected, uint64_t epoch, bool go_on)
{
    Leeward__Replication__V1__Opened opened = LEEWARD__REPLICATION__V1__OPENED__INIT;
    struct err err = ERR_INIT;
    opened.expected_sequence = expected;
    opened.committed_sequence = m->committed;
    opened.epoch = epoch;
    opened.generation = m->vault_generation;
    opened.has_point = m->has_point;
    in->state = go_on ? INTAKE_OPEN : INTAKE_NEW;
    if (replymsg_opened(in->call, &opened, &err) < 0) {
        end_call(in, &err);
        return;
    }
    log_event(LOG_INFO, go_on ? "stream_opened" : "stream_to_reopen", LOG_S("machine", m->text),
        LOG_U("generation", in->generation), LOG_U("epoch", epoch), LOG_U("expected", expected),
        LOG_U("committed", m->committed), LOG_B("vault", m->link.state == LINK_OPEN));
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool known_epoch_is_higher(const struct machine *m, const struct intake *in)
{
    return in->epoch == 0 || in->epoch < max_u64(m->spooled.epoch, m->vault_epoch);
}

/* The vault is open in the agent's epoch: the spool begins in it. */
static void begin_epoch(struct machine *m, const struct intake *in)
{
    machine_start_sets(m, true, in->generation, in->epoch, m->vault_expected);
}

static int refuse_generation(uint64_t theirs, uint64_t ours, struct err *err)
{
    (void)err_set(err, ERR_REFUSED, "generation %llu is over: the machine was failed over, its generation is %llu",
        (unsigned long long)theirs, (unsigned long long)ours);
    return err_hint(err, "Reprotect the machine in the console to replicate from here again.");
}

static void fail_generation(struct machine *m, uint64_t theirs, uint64_t ours)
{
    struct err err = ERR_INIT;
    (void)refuse_generation(theirs, ours, &err);
    intake_fail(m, &err, true);
}

void intake_advance(struct machine *m)
{
    struct intake *in = m->intake;
    if (in == NULL || in->state != INTAKE_WAITING || !m->ready || m->starts > 0)
        return;
    if (m->have_key && m->spooled.epoch == in->epoch && m->spooled.generation == in->generation && in->epoch != 0 &&
        in->epoch >= m->vault_epoch) {
        answer(m, in, m->spooled.next_sequence, in->epoch, true);
        link_resume(m);
    } else if (m->have_key && in->generation < m->vault_generation) {
        fail_generation(m, in->generation, m->vault_generation);
    } else if (m->have_key && known_epoch_is_higher(m, in)) {
        answer(m, in, m->committed + 1, max_u64(m->spooled.epoch, m->vault_epoch), false);
    } else if (m->link.state == LINK_OPEN && m->link.generation == in->generation && m->link.epoch == in->epoch) {
        begin_epoch(m, in);
    } else if (in->epoch == 0 && machine_has_sets(m)) {
        link_want(m, m->spooled.generation, m->spooled.epoch);
    } else {
        link_want(m, in->generation, in->epoch);
    }
}

static int check_open(
    struct intake *in, const Leeward__Replication__V1__Open *open, struct machine **ret_machine, struct err *err)
{
    const struct ident *id = &rpc_call_peer(in->call)->id;
    struct machine *m = machine_find(in->node, id);
    if (open->machine_id.len != IDENT_SIZE || memcmp(open->machine_id.data, id->bytes, IDENT_SIZE) != 0) {
        (void)err_set(err, ERR_DENIED, "the certificate belongs to another machine than the stream");
        return err_hint(err, "Enrol each machine by itself; do not copy an agent's data folder.");
    }
    if (m == NULL || !m->wanted || m->peer == NULL) {
        (void)err_set(err, ERR_UNAVAILABLE, "this node does not serve that machine");
        return err_hint(err, "The hub assigns machines to nodes: wait, or move the machine in the console.");
    }
    if (open->epoch > EPOCH_MAX || open->generation > EPOCH_MAX)
        return err_set(err, ERR_INVALID, "epoch or generation is out of range");
    if (open->generation < m->generation)
        return refuse_generation(open->generation, m->generation, err);
    *ret_machine = m;
    return 0;
}

static void replace_older(struct machine *m, const struct intake *in)
{
    struct err err = ERR_INIT;
    if (m->intake == NULL || m->intake == in)
        return;
    (void)err_set(&err, ERR_CANCELLED, "the agent opened a newer stream");
    end_call(m->intake, &err);
}

static void take_open(struct intake *in, const Leeward__Replication__V1__Open *open)
{
    struct machine *m = NULL;
    struct err err = ERR_INIT;
    if (check_open(in, open, &m, &err) < 0) {
        end_call(in, &err);
        return;
    }
    replace_older(m, in);
    if (m->intake == in)
        pipeline_abandon(m); /* opened again on the same stream */
    m->intake = in;
    in->machine = m;
    in->generation = open->generation;
    in->epoch = open->epoch;
    in->next_sequence = open->next_sequence;
    in->state = INTAKE_WAITING;
    machine_start_sets(m, false, 0, 0, 0);
    intake_advance(m);
}

/* ---- messages ---- */

static void take_request(struct intake *in, const struct buf *message)
{
    ProtobufCMessage *base = NULL;
    struct err err = ERR_INIT;
    if (wire_unpack(
            &leeward__replication__v1__replicate_request__descriptor, message->data, message->len, &base, &err) < 0) {
        end_call(in, &err);
        return;
    }
    const Leeward__Replication__V1__ReplicateRequest *r = (const Leeward__Replication__V1__ReplicateRequest *)base;
    if (r->kind_case == LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__KIND_OPEN) {
        take_open(in, r->open);
    } else {
        (void)err_set(&err, ERR_INVALID, "a stream begins with Open");
        end_call(in, &err);
    }
    wire_free(base);
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct intake *in = arg;
    const uint8_t *records;
    size_t n, size = message->len;
    if (in->state == INTAKE_OVER) {
        rpc_call_consume(call, size);
        return;
    }
    bool batch = wire_peek_batch(message->data, size, &records, &n) == 1;
    if (batch && in->state == INTAKE_OPEN && rpc_call_queued(call) <= REPLIES_QUEUED_MAX) {
        in->node->received_bytes += size;
        pipeline_receive(in->machine, message, records, n);
        return;
    }
    rpc_call_consume(call, size);
    if (batch) {
        struct err err = ERR_INIT;
        (void)err_set(&err, ERR_REFUSED, "a batch came before the stream was open, or replies are not read");
        end_call(in, &err);
        return;
    }
    take_request(in, message);
}

static void finish(struct intake *in)
{
    detach(in);
    rpc_call_finish(in->call, RPC_OK, NULL);
}

void intake_finish_if_done(struct machine *m)
{
    if (m->intake != NULL && m->intake->half_closed && m->batches == 0)
        finish(m->intake);
}

static void on_half(struct rpc_call *call, void *arg)
{
    struct intake *in = arg;
    (void)call;
    in->half_closed = true;
    if (in->state != INTAKE_OVER && (in->machine == NULL || in->machine->batches == 0))
        finish(in);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct intake *in = arg;
    struct machine *m = in->machine;
    if (in->state != INTAKE_OVER)
        log_event(LOG_INFO, "stream_lost", LOG_S("machine", m != NULL ? m->text : ""),
            LOG_S("peer", rpc_call_address(call)), LOG_U("status", status), LOG_S("text", text != NULL ? text : ""));
    detach(in);
    free(in);
    if (m != NULL)
        machine_free(m);
}

const struct rpc_call_ops intake_ops = {.on_message = on_message, .on_half = on_half, .on_end = on_end};

int intake_accept(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    const struct tls_peer *peer = rpc_call_peer(call);
    if (strcmp(peer->role, "agent") != 0) {
        (void)err_set(err, ERR_DENIED, "only agents replicate to a node, not a %s", peer->role);
        return err_hint(err, "Connect with the certificate of an agent.");
    }
    struct intake *in = mem_new(struct intake);
    if (in == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a stream");
    in->node = server_arg;
    in->call = call;
    *ret_ops = &intake_ops;
    *ret_arg = in;
    return 0;
}
