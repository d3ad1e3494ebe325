/* SPDX-License-Identifier: Apache-2.0
 *
 * The Replication service of a vault: a node's stream of one machine's change log. Open is answered when the machine's lane
 * has made epoch and nonce stream durable; batches go to the lane as they came, without a copy, and are given back to flow
 * control when they are written. A mark that became durable is answered with Committed.
 *
 * One stream per machine: a newer one that is let in ends the older. The lane knows the token of the stream that may append,
 * so that nothing of an older stream that still waits in its queue is taken.
 *
 * Failure modes: anything refused ends the stream with Refused and the status that fits; the node begins again with Open.
 */
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/proto/replication.pb-c.h"
#include "transport/proto/wire.h"
#include "transport/vault/vaultd_private.h"

typedef Leeward__Replication__V1__ReplicateReply Reply;

struct replicate {
    struct vaultd *d;
    struct vmachine *vm;   /* NULL before Open */
    struct rpc_call *call; /* NULL when it is over */
    uint64_t token;
    uint64_t epoch;
    uint64_t committed; /* last one told */
    unsigned jobs;      /* that still point here */
    bool opened;
    bool refused; /* nothing more is taken */
    bool half;    /* the node is done: finish when its batches are */
};

struct open_job {
    struct vaultjob job;
    struct replicate *stream;
    uint64_t token, generation, epoch;
    struct store_opened opened;
};

struct append_job {
    struct vaultjob job;
    struct replicate *stream;
    uint64_t token;
    struct buf message;
    const uint8_t *batch; /* into message */
    size_t batch_len;
    uint64_t committed;
    bool wants_flush;
    struct point_report *reports;
    size_t report_count;
};

struct drop_job {
    struct vaultjob job;
    uint64_t token;
};

static void stream_unref(struct replicate *r)
{
    if (r->call == NULL && r->jobs == 0)
        free(r);
}

/* ---- replies ---- */

static void reply(struct replicate *r, const Reply *m)
{
    struct buf out AUTO_BUF = BUF_INIT(64u << 10);
    struct err err = ERR_INIT;
    if (r->call == NULL)
        return;
    if (wire_pack(&m->base, &out, &err) < 0 || rpc_call_send(r->call, &out, &err) < 0)
        log_event(LOG_WARN, "reply_lost", LOG_S("machine", r->vm == NULL ? "" : r->vm->id_text), LOG_E(&err));
}

static void reply_opened(struct replicate *r, const struct store_opened *o)
{
    Leeward__Replication__V1__Opened opened = LEEWARD__REPLICATION__V1__OPENED__INIT;
    Reply m = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    opened.expected_sequence = o->expected_sequence;
    opened.committed_sequence = o->committed_sequence;
    opened.epoch = o->epoch;
    opened.generation = o->generation;
    opened.has_point = o->has_point;
    opened.data_key = (ProtobufCBinaryData){sizeof(o->data_key.bytes), (uint8_t *)(uintptr_t)o->data_key.bytes};
    opened.nonce_stream = o->nonce_stream;
    m.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_OPENED;
    m.opened = &opened;
    reply(r, &m);
}

static void reply_committed(struct replicate *r, uint64_t sequence, uint64_t committed_utc_usec)
{
    Leeward__Replication__V1__Committed committed = LEEWARD__REPLICATION__V1__COMMITTED__INIT;
    Reply m = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    committed.sequence = sequence;
    committed.committed_utc_usec = committed_utc_usec;
    m.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_COMMITTED;
    m.committed = &committed;
    reply(r, &m);
}

/* Says why, and ends the stream. expected: what the sender may go on with. */
static void refuse(struct replicate *r, const struct err *err, const struct store_opened *now)
{
    Leeward__Replication__V1__Refused refused = LEEWARD__REPLICATION__V1__REFUSED__INIT;
    Reply m = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__INIT;
    if (r->call == NULL || r->refused)
        return;
    r->refused = true;
    refused.code = (char *)(uintptr_t)err_code_name(err->code);
    refused.text = (char *)(uintptr_t)err->text;
    refused.correction = (char *)(uintptr_t)err->correction;
    if (now != NULL) {
        refused.expected_sequence = now->expected_sequence;
        refused.generation = now->generation;
        refused.epoch = now->epoch;
    }
    m.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_REFUSED;
    m.refused = &refused;
    log_event(LOG_WARN, "stream_refused", LOG_S("machine", r->vm == NULL ? "" : r->vm->id_text),
        LOG_S("peer", rpc_call_address(r->call)), LOG_E(err));
    reply(r, &m);
    if (r->vm != NULL && r->vm->stream == r)
        r->vm->stream = NULL;
    rpc_call_fail(r->call, err);
}

void replicate_refuse(struct replicate *r, const struct err *err)
{
    refuse(r, err, NULL);
}

/* ---- Open ---- */

/* What the store holds now, for the reply to a refused stream. */
static void describe(struct store *s, struct store_opened *o)
{
    o->expected_sequence = store_committed(s) + 1;
    o->committed_sequence = store_committed(s);
    o->epoch = store_epoch(s);
    o->generation = store_generation(s);
}

static int open_run(struct vaultjob *job, struct err *err)
{
    struct open_job *j = (struct open_job *)job;
    struct vmachine *vm = job->vm;
    struct store *s;
    if (vmachine_store(vm, &s, err) < 0)
        return -1;
    describe(s, &j->opened);
    if (store_begin(s, j->generation, j->epoch, &j->opened, err) < 0)
        return -1;
    if (j->epoch != 0)
        vm->lane_token = j->token;
    return 0;
}

static void superseded(struct replicate *old)
{
    struct err err = ERR_INIT;
    (void)err_set(&err, ERR_REFUSED, "a newer stream of this machine was opened");
    refuse(old, &err, NULL);
}

static void open_done(struct vaultjob *job)
{
    struct open_job *j = (struct open_job *)job;
    struct replicate *r = j->stream;
    struct vmachine *vm = job->vm;
    r->jobs--;
    if (r->call == NULL) {
        stream_unref(r);
    } else if (job->result < 0) {
        if (job->err.code == ERR_NOSPACE)
            vaultd_set_full(vm->d, true);
        refuse(r, &job->err, &j->opened);
    } else {
        if (j->epoch != 0 && vm->stream != NULL && vm->stream != r)
            superseded(vm->stream);
        if (j->epoch != 0)
            vm->stream = r;
        r->opened = true;
        r->committed = j->opened.committed_sequence;
        log_event(LOG_INFO, "stream_opened", LOG_S("machine", vm->id_text), LOG_S("peer", rpc_call_address(r->call)),
            LOG_U("epoch", j->epoch), LOG_U("expected", j->opened.expected_sequence));
        reply_opened(r, &j->opened);
    }
    explicit_bzero(&j->opened, sizeof(j->opened)); /* the data key */
    free(j);
}

static struct vmachine *machine_for(struct vaultd *d, const Leeward__Replication__V1__Open *open, struct err *err)
{
    struct ident id;
    if (open->machine_id.len != IDENT_SIZE) {
        (void)err_set(err, ERR_INVALID, "the machine id must have %d bytes", IDENT_SIZE);
        return NULL;
    }
    memcpy(id.bytes, open->machine_id.data, IDENT_SIZE);
    struct vmachine *vm = vaultd_machine(d, &id);
    if (vm != NULL && vm->copy != NULL) { /* the hub may be about to say otherwise */
        (void)err_set(
            err, ERR_UNAVAILABLE, "this vault has a copy of the machine's points: it is replicated to another one");
        (void)err_hint(err, "try again when the hub has told the vault");
        return NULL;
    }
    if (vm != NULL && vm->desired)
        return vm;
    (void)err_set(err, ERR_UNAVAILABLE, "the hub has not given this machine to this vault");
    (void)err_hint(err, "try again when the hub has told the vault");
    return NULL;
}

static int check_room(struct vaultd *d, struct err *err)
{
    if (d->full && vaultd_has_room(d))
        vaultd_set_full(d, false);
    if (!d->full)
        return 0;
    (void)err_set(err, ERR_NOSPACE, "the vault's disk is full");
    return err_hint(err, "make the vault's disk larger or shorten the retention; replication goes on by itself then");
}

static int take_open(struct replicate *r, const Leeward__Replication__V1__Open *open, struct err *err)
{
    r->vm = machine_for(r->d, open, err);
    if (r->vm == NULL || check_room(r->d, err) < 0)
        return -1;
    struct open_job *j = mem_new(struct open_job);
    if (j == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a stream");
    r->token = ++r->d->next_token;
    r->epoch = open->epoch;
    j->job.run = open_run;
    j->job.done = open_done;
    j->stream = r;
    j->token = r->token;
    j->generation = open->generation;
    j->epoch = open->epoch;
    if (vaultjob_lane(r->vm, &j->job, err) < 0) {
        free(j);
        return -1;
    }
    r->jobs++;
    return 0;
}

/* ---- batches ---- */

static int append_run(struct vaultjob *job, struct err *err)
{
    struct append_job *j = (struct append_job *)job;
    struct vmachine *vm = job->vm;
    struct store *s;
    if (vm->lane_token != j->token)
        return err_set(err, ERR_REFUSED, "the stream was ended by a newer one or by a refusal");
    if (vmachine_store(vm, &s, err) < 0)
        return -1;
    uint64_t points_before = store_points(s)->count;
    uint64_t last = points_before == 0 ? 0 : store_points(s)->items[points_before - 1].sequence;
    int result = store_append(s, j->batch, j->batch_len, &j->committed, err);
    if (result < 0)
        vm->lane_token = 0;
    if (store_points(s)->count > points_before)
        (void)vaultreport_collect(s, last, &j->reports, &j->report_count, NULL);
    j->wants_flush = store_wants_flush(s);
    return result;
}

static void append_result(struct append_job *j)
{
    struct replicate *r = j->stream;
    struct vmachine *vm = j->job.vm;
    if (j->report_count > 0)
        vaultreport_points(vm, j->reports, j->report_count);
    if (j->wants_flush)
        vaultupkeep_flush(vm);
    if (j->job.result < 0 && j->job.err.code == ERR_NOSPACE)
        vaultd_set_full(vm->d, true);
    if (r->call == NULL)
        return;
    rpc_call_consume(r->call, j->message.len);
    if (j->committed > r->committed) {
        r->committed = j->committed;
        reply_committed(
            r, j->committed, j->report_count > 0 ? j->reports[j->report_count - 1].point.committed_utc_usec : 0);
    }
    if (j->job.result < 0) {
        struct store_opened now = {
            .expected_sequence = r->committed + 1, .generation = vm->generation, .epoch = r->epoch};
        refuse(r, &j->job.err, &now);
    }
}

static void finish_if_done(struct replicate *r)
{
    if (r->call != NULL && r->half && r->jobs == 0 && !r->refused)
        rpc_call_finish(r->call, RPC_OK, NULL);
}

static void append_done(struct vaultjob *job)
{
    struct append_job *j = (struct append_job *)job;
    struct replicate *r = j->stream;
    append_result(j);
    r->jobs--;
    finish_if_done(r);
    stream_unref(r);
    vaultreport_free(j->reports, j->report_count);
    buf_done(&j->message);
    free(j);
}

static int take_batch(struct replicate *r, struct buf *message, const uint8_t *batch, size_t n, struct err *err)
{
    if (!r->opened || r->epoch == 0)
        return err_set(err, ERR_INVALID, "a batch came before the stream was opened with an epoch");
    struct append_job *j = mem_new(struct append_job);
    if (j == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a batch");
    size_t at = (size_t)(batch - message->data);
    buf_init(&j->message, message->max);
    buf_move(&j->message, message);
    j->job.run = append_run;
    j->job.done = append_done;
    j->stream = r;
    j->token = r->token;
    j->batch = j->message.data + at;
    j->batch_len = n;
    atomic_store_explicit(&r->vm->d->ingest_usec, clock_mono_usec(), memory_order_relaxed);
    if (vaultjob_lane(r->vm, &j->job, err) < 0) {
        buf_done(&j->message);
        free(j);
        return -1;
    }
    r->jobs++;
    return 0;
}

static int take_other(struct replicate *r, const struct buf *message, struct err *err)
{
    ProtobufCMessage *m = NULL;
    if (wire_unpack(&leeward__replication__v1__replicate_request__descriptor, message->data, message->len, &m, err) < 0)
        return -1;
    const Leeward__Replication__V1__ReplicateRequest *request = (void *)m;
    int result = -1;
    if (request->kind_case != LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__KIND_OPEN)
        (void)err_set(err, ERR_INVALID, "a message is neither Open nor a batch");
    else if (r->vm != NULL)
        (void)err_set(err, ERR_INVALID, "a stream can be opened only once");
    else
        result = take_open(r, request->open, err);
    wire_free(m);
    return result;
}

/* ---- the call ---- */

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct replicate *r = arg;
    struct err err = ERR_INIT;
    const uint8_t *batch;
    size_t n;
    int result;
    if (r->refused) {
        rpc_call_consume(call, message->len);
        return;
    }
    if (wire_peek_batch(message->data, message->len, &batch, &n) > 0) {
        result = take_batch(r, message, batch, n, &err);
    } else {
        rpc_call_consume(call, message->len);
        result = take_other(r, message, &err);
    }
    if (result < 0)
        refuse(r, &err, NULL);
}

static void on_half(struct rpc_call *call, void *arg)
{
    struct replicate *r = arg;
    (void)call;
    r->half = true;
    finish_if_done(r);
}

static int drop_run(struct vaultjob *job, struct err *err)
{
    const struct drop_job *j = (const struct drop_job *)job;
    struct vmachine *vm = job->vm;
    (void)err;
    if (vm->lane_token == j->token && vm->store != NULL) {
        vm->lane_token = 0;
        store_drop_open(vm->store);
    }
    return 0;
}

static void drop_done(struct vaultjob *job)
{
    free(job);
}

/* What came without a mark is dropped now, not when the next stream begins: it may be a long time. */
static void drop_open_set(struct replicate *r)
{
    struct drop_job *j = mem_new(struct drop_job);
    if (j == NULL)
        return;
    j->job.run = drop_run;
    j->job.done = drop_done;
    j->token = r->token;
    if (vaultjob_lane(r->vm, &j->job, NULL) < 0)
        free(j);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct replicate *r = arg;
    (void)call;
    log_event(LOG_INFO, "stream_ended", LOG_S("machine", r->vm == NULL ? "" : r->vm->id_text), LOG_U("status", status),
        LOG_S("text", text == NULL ? "" : text));
    r->call = NULL;
    r->d->streams--;
    if (r->vm != NULL) {
        if (r->vm->stream == r)
            r->vm->stream = NULL;
        if (!r->d->stopping)
            drop_open_set(r);
    }
    stream_unref(r);
}

static const struct rpc_call_ops replicate_ops = {.on_message = on_message, .on_half = on_half, .on_end = on_end};

int replicate_accept(
    struct rpc_call *call, void *server_arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)
{
    struct vaultd *d = server_arg;
    const struct tls_peer *peer = rpc_call_peer(call);
    if (d->conf.tls != NULL && strcmp(peer->role, "node") != 0)
        return err_set(err, ERR_DENIED, "only process nodes may replicate to a vault, not the role '%s'", peer->role);
    struct replicate *r = mem_new(struct replicate);
    if (r == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a stream");
    r->d = d;
    r->call = call;
    d->streams++;
    *ret_ops = &replicate_ops;
    *ret_arg = r;
    return 0;
}
