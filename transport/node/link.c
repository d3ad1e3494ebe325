/* SPDX-License-Identifier: Apache-2.0
 *
 * The vault's side: Replicate as a client, one stream per machine, over the connection that all machines of that vault share.
 *
 * After Opened the stream is fed from the spool, from the set on that the vault expects; when everything in the spool was
 * sent, the pipeline feeds it from memory. A vault that is slower than the agent turns it back to the spool. Order is never
 * in question: both feeds are switched on the loop thread, at a position that both know.
 *
 * Failure modes: the vault is away, or takes the stream and does not answer Open -> tried again with growing pauses, while the spool takes what comes; the vault knows a
 * higher epoch or generation -> the spool is of no use to anybody and is dropped; the spool does not reach back to what the
 * vault expects -> it begins again there, and the agent sends what is missing; it cannot begin again (its disk is read-only, say) -> that is
 * tried again with pauses that grow, and the stream is closed meanwhile.
 */
#include <string.h>

#include "transport/base/backoff.h"
#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/node/machine.h"
#include "transport/node/replymsg.h"
#include "transport/proto/wire.h"

#define REPLICATE_PATH "/leeward.replication.v1.Replication/Replicate"
#define READ_BYTES (1u << 20)
#define READ_MAX (READ_BYTES + RECORD_HEADER_SIZE + RECORD_STORED_MAX)
#define READ_TRIES 5u /* of a spool whose disk fails, some seconds in all, before it is given up */
#define RETRY_FIRST_USEC 200000u
#define RETRY_DOUBLINGS_MAX 3u /* up to 1.6 s: each one costs RPO; nor does the connection pause longer (peer.c) */
#define SPOOL_DOUBLINGS_MAX                                                                                            \
    7u /* up to 26 s where the spool's disk is what fails: the vault is asked in vain each time */

/* The handle that the call knows. The machine may have turned to another call by the time it ends. */
struct link_call {
    struct machine *machine; /* NULL: given up */
};

static void link_start(struct machine *m, uint64_t generation, uint64_t epoch);

/* ---- losing the vault ---- */

static void forget_call(struct machine *m)
{
    struct link *link = &m->link;
    linkshape_leave(m);
    link->state = LINK_IDLE;
    link->serial++;
    link->call = NULL;
    link->blocked = false;
    link->reading = false;
    link->sent_open_set = false;
    if (!m->node->stopping)
        pipeline_sync(m, true);
}

/* Sets that went past the disk cannot be sent again from here. */
static void fail_unspooled(struct machine *m)
{
    struct err err = ERR_INIT;
    if (!m->cut_through || m->intake == NULL)
        return;
    if (m->first_copy) {
        (void)err_set(&err, ERR_UNAVAILABLE, "the vault went away during a first copy");
        (void)err_hint(&err, "Nothing is lost: the agent goes on where the vault was. Check that the vault runs.");
    } else {
        (void)err_set(&err, ERR_UNAVAILABLE, "the vault went away while the spool was full");
        (void)err_hint(&err, "Nothing is lost: the agent sends it again. Give the node a larger spool-bytes.");
    }
    intake_fail(m, &err, false);
}

void link_close(struct machine *m)
{
    struct rpc_call *call = m->link.call;
    struct link_call *handle = m->link.handle;
    if (call == NULL)
        return;
    handle->machine = NULL;
    m->link.handle = NULL;
    forget_call(m);
    rpc_call_cancel(call);
    fail_unspooled(m);
}

static bool link_is_wanted(const struct machine *m)
{
    return m->ready && m->spooled.epoch != 0 &&
           (machine_has_sets(m) || (m->intake != NULL && m->intake->state == INTAKE_OPEN));
}

static void on_retry(void *arg)
{
    struct machine *m = arg;
    m->link.retry_armed = false;
    link_resume(m);
}

/* Behind so many failures. Returns how long that is. */
static uint64_t retry_later(struct machine *m, unsigned failures, unsigned doublings_max)
{
    struct link *link = &m->link;
    unsigned doublings = failures < doublings_max ? failures : doublings_max;
    uint64_t delay = backoff_spread((uint64_t)RETRY_FIRST_USEC << doublings, clock_jitter_usec(UINT64_MAX));
    link->retry_armed = true;
    if (link->retry != NULL)
        loop_timer_set(link->retry, delay);
    else if (loop_timer_new(m->node->loop, delay, 0, on_retry, m, &link->retry, NULL) < 0)
        link->retry_armed = false;
    return delay;
}

void link_pause(struct machine *m, const struct err *why)
{
    struct link *link = &m->link;
    link_close(m);
    link->cause = *why;
    if (link->retry_armed) /* the agent's stream that ends for it drops its open set, too */
        return;
    uint64_t delay = retry_later(m, link->start_failures++, SPOOL_DOUBLINGS_MAX);
    log_event(LOG_ERROR, "spool_not_begun", LOG_S("machine", m->text), LOG_U("attempt", link->start_failures),
        LOG_U("again_ms", delay / USEC_PER_MSEC), LOG_E(why));
}

/* Nothing in the spool will ever be taken by the vault. */
static void fenced(struct machine *m, const struct err *why)
{
    log_event(LOG_WARN, "spool_fenced", LOG_S("machine", m->text), LOG_U("epoch", m->spooled.epoch),
        LOG_U("vault_epoch", m->vault_epoch), LOG_U("generation", m->spooled.generation),
        LOG_U("vault_generation", m->vault_generation), LOG_E(why));
    machine_start_sets(m, true, 0, 0, 0);
    intake_fail(m, why, true);
}

/* What the vault cannot use it will not be able to use later either: the agent makes it again. */
static void drop_unfit(struct machine *m, const struct err *why)
{
    log_event(LOG_ERROR, "spool_unfit", LOG_S("machine", m->text), LOG_U("committed", m->committed), LOG_E(why));
    machine_start_sets(m, true, m->spooled.generation, m->spooled.epoch, m->committed + 1);
    m->spooled.next_sequence = m->committed + 1;
    intake_fail(m, why, true);
}

static void lost(struct machine *m, const struct err *why)
{
    if (m->link.cause.code != why->code)
        log_event(LOG_WARN, "vault_lost", LOG_S("machine", m->text),
            LOG_S("vault", m->peer != NULL ? m->peer->endpoint : ""), LOG_E(why));
    m->link.cause = *why;
    m->link.handle = NULL;
    forget_call(m);
    fail_unspooled(m);
    if (m->intake != NULL && m->intake->state == INTAKE_WAITING)
        intake_fail(m, why, why->code == ERR_REFUSED);
    (void)retry_later(m, m->link.failures++, RETRY_DOUBLINGS_MAX);
}

/* ---- what the vault says ---- */

static int take_key(struct machine *m, const Leeward__Replication__V1__Opened *o, struct err *err)
{
    if (o->data_key.len != SEAL_KEY_SIZE || o->nonce_stream == 0 || o->expected_sequence == 0 ||
        o->committed_sequence >= o->expected_sequence)
        return err_set(err, ERR_INVALID, "the vault's Opened has no key, no nonce stream or no sequence");
    memcpy(m->key.bytes, o->data_key.data, SEAL_KEY_SIZE);
    m->nonce_stream = o->nonce_stream;
    m->nonce_counter = 1;
    m->have_key = true;
    m->committed = o->committed_sequence;
    m->vault_expected = o->expected_sequence;
    m->vault_epoch = o->epoch;
    m->vault_generation = o->generation;
    m->has_point = o->has_point;
    m->first_copy = !o->has_point;
    return 0;
}

static void opened(struct machine *m)
{
    struct link *link = &m->link;
    struct err err = ERR_INIT;
    log_event(LOG_INFO, "vault_opened", LOG_S("machine", m->text), LOG_U("generation", m->vault_generation),
        LOG_U("epoch", m->vault_epoch), LOG_U("expected", m->vault_expected), LOG_U("committed", m->committed));
    link->state = LINK_OPEN;
    link->cause = (struct err)ERR_INIT;
    link->feed = FEED_SPOOL;
    link->seek_sequence = m->vault_expected;
    if (link->epoch == 0 || m->vault_epoch > link->epoch) {
        bool old_spool = m->spooled.epoch != 0 && m->spooled.epoch < m->vault_epoch;
        link_close(m);
        (void)err_set(&err, ERR_REFUSED, "the vault has taken change sets of a later epoch");
        if (old_spool)
            fenced(m, &err);
    }
    machine_trim(m, false);
    intake_advance(m);
    link_pump(m);
}

static void committed(struct machine *m, const Leeward__Replication__V1__Committed *c)
{
    struct err err = ERR_INIT;
    if (c->sequence <= m->committed || c->sequence >= m->spooled.next_sequence)
        return;
    m->committed = c->sequence;
    m->served_usec = clock_mono_usec();
    m->link.failures = 0;
    pipeline_committed(m);
    machine_trim(m, false);
    if (m->intake != NULL && m->intake->state == INTAKE_OPEN &&
        replymsg_committed(m->intake->call, c->sequence, c->committed_utc_usec, &err) < 0)
        intake_fail(m, &err, false);
}

static void refused(struct machine *m, const Leeward__Replication__V1__Refused *r)
{
    struct err err = ERR_INIT;
    uint64_t epoch = m->link.epoch, generation = m->link.generation;
    (void)err_set(&err, err_code_from_name(r->code), "vault: %s", r->text);
    if (r->correction[0] != '\0')
        (void)err_hint(&err, "%s", r->correction);
    m->vault_epoch = r->epoch > m->vault_epoch ? r->epoch : m->vault_epoch;
    m->vault_generation = r->generation > m->vault_generation ? r->generation : m->vault_generation;
    bool stale = epoch < m->vault_epoch || generation < m->vault_generation;
    bool unfit = err.code == ERR_CORRUPT || err.code == ERR_INVALID || err.code == ERR_UNSUPPORTED;
    link_close(m);
    if (stale && m->spooled.epoch != 0 && m->spooled.epoch == epoch)
        fenced(m, &err);
    else if (unfit && m->spooled.epoch == epoch)
        drop_unfit(m, &err);
    lost(m, &err);
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct link_call *handle = arg;
    struct machine *m = handle->machine;
    ProtobufCMessage *base = NULL;
    struct err err = ERR_INIT;
    (void)call;
    if (m == NULL)
        return;
    if (wire_unpack(&leeward__replication__v1__replicate_reply__descriptor, message->data, message->len, &base, &err) <
        0) {
        link_close(m);
        lost(m, &err);
        return;
    }
    const Leeward__Replication__V1__ReplicateReply *reply = (const Leeward__Replication__V1__ReplicateReply *)base;
    switch (reply->kind_case) {
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_OPENED:
        if (m->link.state != LINK_OPENING)
            break;
        if (take_key(m, reply->opened, &err) == 0) {
            opened(m);
        } else {
            link_close(m);
            lost(m, &err);
        }
        break;
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_COMMITTED:
        committed(m, reply->committed);
        break;
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_REFUSED:
        refused(m, reply->refused);
        break;
    default:
        break;
    }
    if (message->len > 0)
        explicit_bzero(message->data, message->len); /* Opened carries the key */
    if (reply->kind_case == LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_OPENED && reply->opened->data_key.len > 0)
        explicit_bzero(reply->opened->data_key.data, reply->opened->data_key.len);
    wire_free(base);
}

static void on_writable(struct rpc_call *call, void *arg)
{
    struct link_call *handle = arg;
    (void)call;
    if (handle->machine == NULL)
        return;
    handle->machine->link.blocked = false;
    link_pump(handle->machine);
    pipeline_kick(handle->machine);
}

/* What matters to the agent: is it refused for good, or is it a matter of time? */
static enum err_code code_of_end(enum rpc_status status)
{
    switch (status) {
    case RPC_FAILED_PRECONDITION:
    case RPC_PERMISSION_DENIED:
    case RPC_UNAUTHENTICATED:
    case RPC_RESOURCE_EXHAUSTED:
        return err_from_grpc_status((int)status);
    default:
        return ERR_UNAVAILABLE;
    }
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct link_call *handle = arg;
    struct machine *m = handle->machine;
    struct err err = ERR_INIT;
    (void)call;
    free(handle);
    if (m == NULL)
        return;
    (void)err_set(&err, code_of_end(status), "vault %s: %s", m->peer != NULL ? m->peer->endpoint : "",
        text != NULL && text[0] != '\0' ? text : "the stream ended");
    (void)err_hint(&err, "Check that the vault runs and that this node reaches it.");
    if (err.code == ERR_REFUSED && m->link.state == LINK_OPENING && m->spooled.epoch != 0 &&
        m->spooled.epoch == m->link.epoch)
        fenced(m, &err);
    lost(m, &err);
}

static const struct rpc_call_ops link_ops = {
    .on_message = on_message, .on_writable = on_writable, .on_end = on_end, .auto_consume = true};

/* ---- opening ---- */

/* The connection may be good (its PINGs are answered, and other machines share it) and the machine's lane in the vault stand still. */
static void on_silence(void *arg)
{
    struct machine *m = arg;
    struct err err = ERR_INIT;
    const char *vault = m->peer != NULL ? m->peer->endpoint : "";
    uint64_t limit_ms = m->node->open_limit_usec / USEC_PER_MSEC;
    if (m->link.state != LINK_OPENING)
        return;
    (void)err_set(
        &err, ERR_UNAVAILABLE, "vault %s: did not answer Open for %llu ms", vault, (unsigned long long)limit_ms);
    (void)err_hint(&err, "Look at the vault's log and disk; the node tries again by itself.");
    log_event(LOG_WARN, "vault_silent", LOG_S("machine", m->text), LOG_S("vault", vault), LOG_U("after_ms", limit_ms));
    link_close(m);
    lost(m, &err);
}

static int expect_answer(struct machine *m, struct err *err)
{
    struct link *link = &m->link;
    if (link->patience == NULL)
        return loop_timer_new(m->node->loop, m->node->open_limit_usec, 0, on_silence, m, &link->patience, err);
    loop_timer_set(link->patience, m->node->open_limit_usec);
    return 0;
}

static int start_call(struct machine *m, uint64_t generation, uint64_t epoch, struct err *err)
{
    struct link *link = &m->link;
    if (m->peer == NULL)
        return err_set(err, ERR_UNAVAILABLE, "the hub has not assigned a vault to the machine");
    struct link_call *handle = mem_new(struct link_call);
    if (handle == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a stream");
    if (expect_answer(m, err) < 0) {
        free(handle);
        return -1;
    }
    if (rpc_call_start(m->peer->channel, REPLICATE_PATH, 0, true, &link_ops, handle, &link->call, err) < 0) {
        link->call = NULL;
        free(handle);
        return -1;
    }
    handle->machine = m;
    link->handle = handle;
    link->state = LINK_OPENING;
    link->generation = generation;
    link->epoch = epoch;
    uint64_t next = machine_has_sets(m) && m->spooled.epoch == epoch ? m->spooled.first_sequence : 0;
    if (replymsg_open(link->call, &m->id, generation, epoch, next, NULL) < 0)
        rpc_call_cancel(link->call); /* no memory, or over already: on_end says why */
    return 0;
}

static void link_start(struct machine *m, uint64_t generation, uint64_t epoch)
{
    struct err err = ERR_INIT;
    if (start_call(m, generation, epoch, &err) < 0)
        lost(m, &err);
}

void link_want(struct machine *m, uint64_t generation, uint64_t epoch)
{
    const struct link *link = &m->link;
    if (link->state != LINK_IDLE && link->generation == generation && link->epoch == epoch)
        return;
    link_close(m);
    link_start(m, generation, epoch);
}

void link_resume(struct machine *m)
{
    if (m->link.state == LINK_IDLE && !m->link.retry_armed && !m->node->stopping && m->starts == 0 && link_is_wanted(m))
        link_start(m, m->spooled.generation, m->spooled.epoch);
}

void link_done(struct machine *m)
{
    link_close(m);
    loop_timer_free(m->link.retry);
    loop_timer_free(m->link.patience);
    m->link.retry = m->link.patience = NULL;
}

/* ---- feeding ---- */

void link_send(struct machine *m, struct buf *chunk)
{
    struct link *link = &m->link;
    size_t n = chunk->len;
    if (link->state != LINK_OPEN)
        return;
    int sent = replymsg_batch(link->call, chunk, NULL);
    if (sent < 0) {
        link->feed = FEED_SPOOL; /* the end of the call is on its way */
        return;
    }
    m->node->forwarded_bytes += n;
    m->served_usec = clock_mono_usec();
    linkshape_sent(m, n);
    link->blocked = sent == 0;
}

struct read_job {
    struct worker_job job;
    struct machine *machine;
    uint64_t serial;
    uint64_t seek_sequence;
    struct spool_pos pos, limit;
    size_t enough; /* bytes */
    struct buf data;
    bool open_set; /* what was read reaches into the set that is not closed yet */
    int result;
    struct err err;
};

static void read_run(struct worker_job *job)
{
    struct read_job *j = (struct read_job *)job;
    struct spool *spool = j->machine->spool;
    struct spool_state state = spool_state(spool);
    j->limit = state.tail;
    if (j->seek_sequence != 0 && spool_find(spool, j->seek_sequence, &j->pos, &j->err) < 0)
        j->result = -1;
    else
        j->result = spool_read(spool, &j->pos, &j->limit, j->enough, &j->data, &j->err);
    j->open_set = j->pos.segment == state.tail.segment && j->pos.offset > state.set_start;
}

/* The spool cannot give what the vault needs next. */
static void spool_gap(struct machine *m, const struct err *why)
{
    struct err err = *why;
    uint64_t generation = m->link.generation, epoch = m->link.epoch, next = m->vault_expected;
    m->link.read_failures = 0;
    log_event(LOG_WARN, "spool_gap", LOG_S("machine", m->text), LOG_U("expected", next), LOG_E(&err));
    if (m->link.seek_sequence == 0) { /* damage after a good beginning: the vault has to say where it stands */
        next = m->committed + 1;
        link_close(m);
    }
    machine_start_sets(m, true, generation, epoch, next);
    m->spooled.next_sequence = next;
    (void)err_set(&err, ERR_REFUSED, "the node's spool does not hold what the vault needs next");
    if (m->intake != NULL && m->intake->state == INTAKE_OPEN)
        intake_fail(m, &err, true);
}

/* A disk that failed once, or no memory or descriptor: nothing says that what is there is bad. */
static void read_later(struct machine *m, struct err *why)
{
    m->link.read_failures++;
    spooldisk_hint(why);
    log_event(
        LOG_ERROR, "spool_not_read", LOG_S("machine", m->text), LOG_U("attempt", m->link.read_failures), LOG_E(why));
    link_close(m);
    m->link.cause = *why;
    (void)retry_later(m, m->link.failures++, RETRY_DOUBLINGS_MAX);
}

static void read_taken(struct machine *m, struct read_job *j)
{
    struct link *link = &m->link;
    link->reading = false;
    if (m->starts > 0) { /* the stream broke off meanwhile: what was read may hold the set that goes with it */
        linkshape_give_back(m, false);
        return;
    }
    if (j->result < 0) {
        linkshape_give_back(m, false);
        if (err_is_retryable(j->err.code) && (j->err.code != ERR_IO || link->read_failures < READ_TRIES))
            read_later(m, &j->err);
        else
            spool_gap(m, &j->err);
        return;
    }
    link->read_failures = 0;
    link->seek_sequence = 0;
    link->sent = j->pos;
    link->sent_open_set = j->open_set;
    if (j->data.len > 0) {
        bool more = j->pos.segment != m->spooled.tail.segment || j->pos.offset != m->spooled.tail.offset;
        link_send(m, &j->data);
        linkshape_give_back(m, more);
    }
    linkshape_give_back(m, false);
    link_pump(m);
}

static void read_done(struct worker_job *job)
{
    struct read_job *j = (struct read_job *)job;
    struct machine *m = j->machine;
    m->jobs--;
    if (worker_job_was_run(job) && !m->node->stopping && j->serial == m->link.serial)
        read_taken(m, j);
    buf_done(&j->data);
    free(j);
    machine_free(m);
}

static void start_reading(struct machine *m)
{
    struct read_job *j = mem_new(struct read_job);
    if (j == NULL) {
        linkshape_give_back(m, false);
        return;
    }
    *j = (struct read_job){.job = {.run = read_run, .done = read_done},
        .machine = m,
        .serial = m->link.serial,
        .seek_sequence = m->link.seek_sequence,
        .pos = m->link.sent,
        .enough = m->grant > 0 && m->grant < READ_BYTES ? m->grant : READ_BYTES,
        .data = BUF_INIT(READ_MAX)};
    if (machine_submit(m, &j->job) < 0) {
        linkshape_give_back(m, false);
        free(j);
        return;
    }
    m->link.reading = true;
}

void link_pump(struct machine *m)
{
    struct link *link = &m->link;
    if (link->state != LINK_OPEN || link->feed != FEED_SPOOL || link->blocked || link->reading || m->starts > 0 ||
        m->spooled.epoch != link->epoch || m->spooled.generation != link->generation)
        return;
    if (link->seek_sequence != 0 || link->sent.segment != m->spooled.tail.segment ||
        link->sent.offset != m->spooled.tail.offset) {
        if (linkshape_take(m))
            start_reading(m);
        return;
    }
    link->feed = FEED_LIVE;
    pipeline_kick(m);
}
