/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens to a batch between the agent and the vault:
 *
 *   received -> QUEUED -> SEALING (any worker, several at once) -> SEALED -> APPENDING (the machine's lane, in order:
 *   set checks, spool) -> sent on from memory, or read back from the spool later -> its bytes given back to the agent
 *
 * and beside it, when a batch held marks, one fdatasync for all marks that have gathered, then Spooled. While the vault keeps
 * up it is put off: the vault's Committed is most often there first, and what it covers need not be durable here.
 *
 * The spool is bounded. A batch that does not fit waits, its bytes are not given back and the agent stops; that is no error.
 * It does not wait, though, when the vault has everything so far and keeps up: then the machine goes past the disk
 * (cut_through), because the spool would only be a detour, and a change set that is larger than the spool could never end.
 * Losing the vault in that state costs the agent's stream, which merges and begins again (P2). A first copy goes past the disk
 * in any case: what it would be spooled for lies on the source's disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/log/segment.h"
#include "transport/node/machine.h"
#include "transport/node/replymsg.h"

#define JOIN_BYTES_MAX (256u << 10)
/* Batches of all machines on their way to the spool: enough that no thread waits, not so many that one machine takes all. Jobs of other kinds do not
 * count: reads for many vaults that catch up would keep every batch waiting, and end without anybody looking at one again. */
#define BATCHES_PER_THREAD 4u

static void batch_free(struct batch *b)
{
    buf_done(&b->message);
    sealing_out_done(&b->out);
    if (b->sync_fd >= 0)
        (void)close(b->sync_fd);
    explicit_bzero(&b->order.key, sizeof(b->order.key));
    free(b);
}

/* What a batch may take in the spool: each record grows by a tag, none is shorter than its header; a segment may begin. */
static uint64_t room_for(size_t n)
{
    return n + n / (RECORD_HEADER_SIZE / RECORD_TAG_SIZE) + 2 * SEGMENT_HEADER_SIZE;
}

static size_t batch_len(const struct batch *b)
{
    return b->message.len - b->records_at;
}

static void admitted(struct batch *b)
{
    b->machine->node->admitted++;
    b->machine->node->admitted_bytes += room_for(batch_len(b));
}

static void arrived(struct batch *b)
{
    b->machine->node->admitted--;
    b->machine->node->admitted_bytes -= room_for(batch_len(b));
}

static bool is_current(const struct batch *b)
{
    return b->incarnation == b->machine->incarnation && !b->machine->node->stopping;
}

/* ---- syncing ---- */

struct sync_job {
    struct worker_job job;
    struct machine *machine;
    uint64_t incarnation;
    int fd;
    uint64_t sequence;
    int failed_errno;
};

static void sync_start(struct machine *m);

static bool vault_keeps_up(const struct machine *m)
{
    return m->link.state == LINK_OPEN && m->link.feed == FEED_LIVE && !m->link.blocked;
}

/* What waits for a vault that is away is read much later, if ever: its pages go back at once, and the next ones need not be
 * found among colder ones. Not the page that is still being filled, nor what is appended meanwhile, which is not durable yet. */
static void sync_run(struct worker_job *job)
{
    struct sync_job *j = (struct sync_job *)job;
    off_t page = (off_t)sysconf(_SC_PAGESIZE), end;
    struct stat st;
    end = fstat(j->fd, &st) == 0 ? st.st_size - st.st_size % page : 0;
    j->failed_errno = fdatasync(j->fd) < 0 ? errno : 0;
    if (j->failed_errno == 0 && end > 0) /* a length of 0 would mean all of it */
        (void)posix_fadvise(j->fd, 0, end, POSIX_FADV_DONTNEED);
}

static void sync_done(struct worker_job *job)
{
    struct sync_job *j = (struct sync_job *)job;
    struct machine *m = j->machine;
    struct err err = ERR_INIT;
    m->jobs--;
    m->syncing = false;
    (void)close(j->fd);
    if (worker_job_was_run(job) && !m->node->stopping && j->incarnation == m->incarnation && m->intake != NULL) {
        if (j->failed_errno != 0) {
            (void)err_sys(&err, j->failed_errno, "syncing the spool");
            spooldisk_failed(m->node, &err);
            spooldisk_hint(&err);
            log_event(LOG_ERROR, "spool_failed", LOG_S("machine", m->text), LOG_E(&err));
            intake_fail(m, &err, false);
        } else if (replymsg_spooled(m->intake->call, j->sequence, &err) < 0) {
            intake_fail(m, &err, false);
        }
    }
    free(j);
    if (!m->node->stopping)
        pipeline_sync(m, false);
    machine_free(m);
}

static void sync_start(struct machine *m)
{
    if (m->syncing || m->sync_fd < 0)
        return;
    struct sync_job *j = mem_new(struct sync_job);
    if (j == NULL)
        return;
    *j = (struct sync_job){.job = {.run = sync_run, .done = sync_done},
        .machine = m,
        .incarnation = m->incarnation,
        .fd = m->sync_fd,
        .sequence = m->sync_sequence};
    if (worker_submit(m->node->pool, &j->job, NULL) < 0) {
        free(j);
        return;
    }
    m->sync_fd = -1;
    m->syncing = true;
    m->jobs++;
}

static void sync_want(struct machine *m, struct batch *b)
{
    if (b->sync_fd < 0)
        return;
    if (m->sync_fd >= 0)
        (void)close(m->sync_fd);
    m->sync_fd = TAKE_FD(b->sync_fd);
    m->sync_sequence = b->last_mark;
    pipeline_sync(m, false);
}

void pipeline_sync(struct machine *m, bool now)
{
    if (now || !vault_keeps_up(m))
        sync_start(m);
}

void pipeline_committed(struct machine *m)
{
    if (m->sync_fd >= 0 && m->sync_sequence <= m->committed)
        (void)close(TAKE_FD(m->sync_fd));
}

/* ---- appending ---- */

struct mark_list {
    struct spool_mark *marks;
    size_t count, cap;
};

static int add_mark(struct mark_list *l, const struct spool_mark *mark, struct err *err)
{
    if (l->count == l->cap) {
        size_t cap = l->cap == 0 ? 16 : l->cap * 2;
        struct spool_mark *bigger = mem_resize(l->marks, cap, sizeof(*bigger));
        if (bigger == NULL)
            return err_set(err, ERR_NOMEM, "no memory for the marks of a batch");
        l->marks = bigger;
        l->cap = cap;
    }
    l->marks[l->count++] = *mark;
    return 0;
}

static int check_chunk(struct batch *b, unsigned chunk, struct mark_list *l)
{
    const struct buf *data = &b->out.chunks[chunk];
    struct setcheck *check = &b->machine->check;
    size_t offset = 0;
    struct record r;
    const uint8_t *payload;
    int got;
    while ((got = record_next(data->data, data->len, &offset, &r, &payload, &b->err)) == 1) {
        int closed = setcheck_record(check, &r, payload, &b->err);
        if (closed < 0)
            return -1;
        struct spool_mark mark = {.sequence = check->next_sequence - 1, .chunk = chunk, .end = offset};
        if (closed == 1 && add_mark(l, &mark, &b->err) < 0)
            return -1;
    }
    return got;
}

static int check_sets(struct batch *b, struct mark_list *l)
{
    for (unsigned i = 0; i < b->out.chunk_count; i++) {
        if (check_chunk(b, i, l) < 0)
            return -1;
    }
    return 0;
}

static int store_sets(struct batch *b, const struct mark_list *l)
{
    struct machine *m = b->machine;
    if (!b->store) /* sets of this batch will not be in the spool, so none before them is of use */
        return spool_begin(m->spool, m->check.generation, m->check.epoch, m->check.next_sequence, &b->err);
    if (spool_append(m->spool, b->out.chunks, b->out.chunk_count, b->out.through_mark, l->marks, l->count, &b->err) < 0)
        return -1;
    if (l->count > 0)
        b->sync_fd = spool_sync_fd(m->spool);
    return 0;
}

static void append_run(struct worker_job *job)
{
    struct batch *b = (struct batch *)job;
    struct machine *m = b->machine;
    struct mark_list l = {0};
    if (m->sets_failed)
        b->result = err_set(&b->err, ERR_CANCELLED, "a batch before this one was refused");
    else if (check_sets(b, &l) < 0)
        b->result = -1;
    else if (store_sets(b, &l) < 0) {
        b->result = -1;
        b->not_stored = true;
        spooldisk_hint(&b->err);
    }
    m->sets_failed = b->result < 0;
    if (b->result == 0 && l.count > 0)
        b->last_mark = l.marks[l.count - 1].sequence;
    b->ends_in_mark = !setcheck_is_open(&m->check);
    b->saw_point = m->check.saw_point;
    b->after = spool_state(m->spool);
    free(l.marks);
}

static void send_on(struct machine *m, struct batch *b)
{
    struct link *link = &m->link;
    if (link->state != LINK_OPEN || link->feed != FEED_LIVE)
        return;
    /* The spool forgets it as soon as one behind it goes past the disk: then it goes from here, whether the vault keeps up or not. */
    if (b->store && !m->cut_through && (link->blocked || !linkshape_is_free(m))) {
        link->feed = FEED_SPOOL; /* the rest comes from the disk when the vault takes it, or it is the machine's turn */
        return;
    }
    for (unsigned i = 0; i < b->out.chunk_count; i++)
        link_send(m, &b->out.chunks[i]);
    link->sent = m->spooled.tail;
    link->sent_open_set = !b->ends_in_mark;
}

static bool spool_has_room(struct node *node, size_t n)
{
    return spooldisk_has_room(node) && node->spool_bytes + node->admitted_bytes + room_for(n) <= node->conf.spool_bytes;
}

/* At the end of a set, and when nothing behind it has gone past the disk already. */
static void use_spool_again(struct machine *m)
{
    if (m->first_copy || m->passing > 0 || !spool_has_room(m->node, SEALING_BATCH_MAX))
        return;
    m->cut_through = false;
    log_event(LOG_INFO, "spool_used_again", LOG_S("machine", m->text));
}

static void accepted(struct machine *m, struct batch *b)
{
    send_on(m, b);
    if (b->granted)
        linkshape_give_back(m, m->queue_head != NULL);
    if (m->intake == NULL)
        return; /* the vault went away under a set that is not in the spool */
    if (b->store && b->last_mark > 0)
        sync_want(m, b);
    m->first_copy &= !b->saw_point;
    if (m->cut_through && b->ends_in_mark)
        use_spool_again(m);
    rpc_call_consume(m->intake->call, b->received);
    link_pump(m);
}

static void refused(struct machine *m, const struct batch *b)
{
    bool disk = b->not_stored;
    spooldisk_failed(m->node, &b->err);
    log_event(disk ? LOG_ERROR : LOG_WARN, disk ? "spool_failed" : "batch_refused", LOG_S("machine", m->text),
        LOG_E(&b->err));
    intake_fail(m, &b->err, true);
}

/* A batch of an earlier stream may still have gone into the spool. The vault did not get it from memory, so it is read back
 * from there, if it is whole. */
static void late(struct machine *m)
{
    if (m->link.state == LINK_OPEN)
        m->link.feed = FEED_SPOOL;
}

static void append_done(struct worker_job *job)
{
    struct batch *b = (struct batch *)job;
    struct machine *m = b->machine;
    struct node *node = m->node;
    m->jobs--;
    m->passing -= !b->store;
    arrived(b);
    if (worker_job_was_run(job)) {
        machine_take_state(m, &b->after);
        if (!is_current(b))
            late(m);
    }
    if (is_current(b)) {
        m->batches--;
        if (b->result < 0)
            refused(m, b);
        else
            accepted(m, b);
        intake_finish_if_done(m);
    }
    batch_free(b);
    if (!node->stopping) {
        joining_look(node);
        pipeline_kick_all(node);
    }
    machine_free(m);
}

/* Everything sealed at the front of the queue goes to the lane. */
static void append_sealed(struct machine *m)
{
    while (m->queue_head != NULL && m->queue_head->state == BATCH_SEALED) {
        struct batch *b = m->queue_head;
        m->queue_head = b->next;
        if (m->queue_head == NULL)
            m->queue_tail = NULL;
        b->state = BATCH_APPENDING;
        b->store = !m->cut_through;
        b->job = (struct worker_job){.run = append_run, .done = append_done};
        if (machine_submit(m, &b->job) == 0) {
            m->passing += !b->store;
            continue;
        }
        arrived(b);
        m->batches--;
        (void)err_set(&b->err, ERR_NOMEM, "the node is short of memory");
        intake_fail(m, &b->err, false);
        batch_free(b);
        return;
    }
}

/* ---- sealing ---- */

static void seal_run(struct worker_job *job)
{
    struct batch *b = (struct batch *)job;
    b->result = sealing_run(
        b->machine->node->sealing, &b->order, b->message.data + b->records_at, batch_len(b), &b->out, &b->err);
}

static void drop_unqueued(struct batch *b)
{
    arrived(b);
    batch_free(b);
}

static void seal_done(struct worker_job *job)
{
    struct batch *b = (struct batch *)job;
    struct machine *m = b->machine;
    struct node *node = m->node;
    m->jobs--;
    if (!is_current(b)) {
        drop_unqueued(b); /* pipeline_abandon took it off the queue */
    } else if (b->result < 0) {
        struct err err = b->err;
        b->state = BATCH_SEALED;
        log_event(LOG_WARN, "batch_refused", LOG_S("machine", m->text), LOG_E(&err));
        intake_fail(m, &err, true); /* frees b with the queue */
    } else {
        b->state = BATCH_SEALED;
        append_sealed(m);
    }
    if (!node->stopping)
        pipeline_kick_all(node);
    machine_free(m);
}

/* Past the disk: the vault takes it, and under a bound it is the machine's turn. */
static bool may_pass(struct machine *m, struct batch *b)
{
    if (!vault_keeps_up(m) || !linkshape_take(m))
        return false;
    b->granted = m->grant > 0;
    return true;
}

/* May this batch begin its way now? */
static bool admit(struct machine *m, struct batch *b)
{
    struct node *node = m->node;
    if (node->admitted >= BATCHES_PER_THREAD * node->conf.threads)
        return false;
    m->cut_through |= m->first_copy && vault_keeps_up(m);
    if (m->cut_through)
        return may_pass(m, b);
    if (spool_has_room(node, batch_len(b))) {
        m->full = false;
        return true;
    }
    if (vault_keeps_up(m)) {
        m->cut_through = true;
        log_event(LOG_WARN, "spool_passed_by", LOG_S("machine", m->text), LOG_U("spool_bytes", node->spool_bytes));
    } else if (!m->full) {
        m->full = true;
        log_event(LOG_WARN, "spool_full", LOG_S("machine", m->text), LOG_U("spool_bytes", node->spool_bytes));
    }
    return m->cut_through && may_pass(m, b);
}

static int submit_seal(struct machine *m, struct batch *b)
{
    b->order = (struct sealing_order){
        .level = m->level, .key = m->key, .nonce_stream = m->nonce_stream, .nonce_counter = m->nonce_counter};
    b->job = (struct worker_job){.run = seal_run, .done = seal_done};
    if (worker_submit(m->node->pool, &b->job, NULL) < 0)
        return -1;
    m->nonce_counter += sealing_nonces(batch_len(b));
    admitted(b);
    m->jobs++;
    b->state = BATCH_SEALING;
    return 0;
}

/* Sends the next batch of one machine on its way, if it may go. */
static bool kick_one(struct machine *m)
{
    struct batch *b = m->queue_head;
    while (b != NULL && b->state != BATCH_QUEUED)
        b = b->next;
    if (b == NULL || !admit(m, b))
        return false;
    if (submit_seal(m, b) == 0)
        return true;
    if (b->granted)
        linkshape_give_back(m, true);
    b->granted = false;
    return false;
}

void pipeline_kick(struct machine *m)
{
    while (kick_one(m))
        continue;
    pipeline_sync(m, false);
}

/* One batch each, beginning behind the machine that was served last: a busy one does not take the workers from the others. */
void pipeline_kick_all(struct node *node)
{
    struct machine *m = node->turn != NULL ? node->turn : node->machines;
    size_t idle = 0;
    while (m != NULL && idle <= node->machine_count) {
        idle = kick_one(m) ? 0 : idle + 1;
        m = m->next != NULL ? m->next : node->machines;
        if (idle == 0)
            node->turn = m;
    }
}

/* Small messages are joined while they wait, so that a sender of many cannot make the queue costly: whole records behind whole
 * records are a batch again. */
static bool join_last(struct machine *m, const struct buf *message, const uint8_t *records, size_t n)
{
    struct batch *last = m->queue_tail;
    if (last == NULL || last->state != BATCH_QUEUED || batch_len(last) + n > JOIN_BYTES_MAX ||
        buf_append(&last->message, records, n, NULL) < 0)
        return false;
    last->received += message->len;
    return true;
}

static struct batch *batch_new(struct machine *m, struct buf *message, const uint8_t *records)
{
    struct batch *b = mem_new(struct batch);
    if (b == NULL)
        return NULL;
    b->machine = m;
    b->incarnation = m->incarnation;
    b->sync_fd = -1;
    b->records_at = (size_t)(records - message->data);
    b->received = message->len;
    buf_move(&b->message, message);
    if (b->message.max < b->records_at + JOIN_BYTES_MAX) /* it came with room for itself alone */
        b->message.max = b->records_at + JOIN_BYTES_MAX;
    return b;
}

static void enqueue(struct machine *m, struct batch *b)
{
    if (m->queue_tail != NULL)
        m->queue_tail->next = b;
    else
        m->queue_head = b;
    m->queue_tail = b;
    m->batches++;
}

void pipeline_receive(struct machine *m, struct buf *message, const uint8_t *records, size_t n)
{
    m->received++;
    if (!join_last(m, message, records, n)) {
        struct batch *b = batch_new(m, message, records);
        if (b == NULL) {
            struct err err = ERR_INIT;
            (void)err_set(&err, ERR_NOMEM, "no memory for a batch");
            intake_fail(m, &err, false);
            return;
        }
        enqueue(m, b);
    }
    pipeline_kick(m);
}

void pipeline_abandon(struct machine *m)
{
    struct batch *next;
    for (struct batch *b = m->queue_head; b != NULL; b = next) {
        next = b->next;
        if (b->state == BATCH_SEALED)
            drop_unqueued(b);
        else if (b->state == BATCH_QUEUED)
            batch_free(b);
        /* one that is being sealed frees itself when that is done */
    }
    m->queue_head = m->queue_tail = NULL;
    m->batches = 0;
    m->incarnation++;
    m->full = false;
    m->cut_through = false;
    if (!m->link.reading)
        linkshape_leave(m); /* what it was for is dropped */
    if (m->sync_fd >= 0)
        (void)close(TAKE_FD(m->sync_fd));
    if (m->node->stopping)
        return;
    if (m->link.sent_open_set)
        link_close(m);                     /* the vault drops the open set when its stream ends */
    machine_start_sets(m, false, 0, 0, 0); /* and then the link goes on with what is in the spool */
}
