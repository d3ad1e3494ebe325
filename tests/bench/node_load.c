/* SPDX-License-Identifier: Apache-2.0
 *
 * Many agents in one process, each with a certificate, a connection and a Replicate stream of its own, that offer a process node change
 * sets at a fixed rate, whatever it does with them: an open loop. A set that is due while the stream is held back is left out and
 * counted, as an agent would go on collecting. The payloads come from a file, so that others can be measured on the same bytes; they
 * go raw, since compressing is what the node is measured at.
 *
 *     node_load DIR DATA STREAMS MB_PER_S NODE_PORT VAULT_PORT
 *
 * First it makes DIR/node and DIR/vault (node_fleet.h) and prints {"made": STREAMS}. Then it takes commands, one a line, and answers each with
 * one JSON object:
 *     open          all streams, and a first recovery point of each, committed by the vault
 *     settle        {"settled": STREAMS} when the vault has committed all that was sent
 *     fill          {"filled": STREAMS} when no stream takes any more, for a second and a half
 *     load SECONDS  what was offered, sent, left out and acknowledged (spooled or committed), and how long that took
 * It ends with its standard input. A stream that the node ends is an error.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/epoll.h>

#include "tests/bench/node_fleet.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"
#include "transport/log/mark.h"
#include "transport/log/seal.h"
#include "transport/loop/loop.h"
#include "transport/proto/replication.pb-c.h"
#include "transport/proto/wire.h"
#include "transport/rpc/rpc.h"

#define PATH "/leeward.replication.v1.Replication/Replicate"
#define DISK_BYTES (64ULL << 30)
#define BATCH_MAX (2u << 20)
#define TICK_USEC 2000u
#define QUIET_USEC 1500000u
#define STREAMS_MAX 10000u

/* A change set of 1 MiB: what is written in one place, and what is written here and there. */
static const struct {
    unsigned count, bytes;
} shape[] = {{12, 64u << 10}, {8, 16u << 10}, {32, 4u << 10}};
#define SET_BYTES (1u << 20)

struct load;

struct stream {
    struct load *load;
    struct ident machine;
    struct tls_context *tls;
    struct rpc_channel *channel;
    struct rpc_call *call;
    struct record_digest *digest;
    uint64_t epoch, sequence, acknowledged, committed;
    uint64_t at;       /* in the data */
    uint64_t place;    /* on the disk */
    uint64_t due_usec; /* the next set */
    bool open, held;   /* batches may go; the queue is over its mark */
};

struct load {
    sd_event *loop;
    struct loop_timer *tick;
    struct node_fleet fleet;
    struct stream *streams;
    size_t count;
    struct seal_work *work;
    const uint8_t *data;
    uint64_t data_bytes, interval_usec;
    char command[64];
    uint64_t queued, quiet_usec; /* fill: bytes that wait, and since when that has been all */
    bool failed;
    uint64_t begun_usec, until_usec; /* of the load; 0: none */
    uint64_t sets, left_out, sent_bytes, marks_before;
};

static int fail(struct load *l, const char *what, const char *why)
{
    (void)fprintf(stderr, "node_load: %s: %s\n", what, why);
    l->failed = true;
    (void)sd_event_exit(l->loop, 1);
    return -1;
}

static double cpu_seconds(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---- change sets ---- */

/* The place moves on by a step that has no factor in common with the disk: no place comes twice for long. */
static int add_record(struct stream *s, unsigned bytes, struct buf *out, struct err *err)
{
    struct load *l = s->load;
    struct record r;
    if (s->at + bytes > l->data_bytes)
        s->at = 0;
    s->place = (s->place + (RECORD_BLOCK_SIZE * 7919ULL)) % DISK_BYTES;
    if (seal_append_data(l->work, 0, s->place, l->data + s->at, bytes, 0, out, &r, err) < 0)
        return -1;
    record_digest_add(s->digest, &r);
    s->at += bytes;
    return 0;
}

static int make_set(struct stream *s, bool first, struct buf *out, struct err *err)
{
    struct mark m = {.kind = MARK_CRASH,
        .flags = first ? MARK_FIRST : 0,
        .sequence = s->sequence,
        .generation = 1,
        .epoch = s->epoch,
        .time_utc_usec = clock_utc_usec(),
        .machine = s->machine,
        .changed_bytes = SET_BYTES,
        .disk_count = 1,
        .disks[0] = {.sector_bytes = 512, .size_bytes = DISK_BYTES, .name = "vda"}};
    record_digest_reset(s->digest);
    for (size_t i = 0; i < ARRAY_LEN(shape); i++)
        for (unsigned n = 0; n < shape[i].count; n++, m.record_count++)
            if (add_record(s, shape[i].bytes, out, err) < 0)
                return -1;
    record_digest_get(s->digest, &m.digest);
    return mark_append(&m, out, err);
}

static void send_set(struct stream *s, bool first)
{
    AUTO_BUF struct buf head = BUF_INIT(WIRE_BATCH_HEAD_MAX), body = BUF_INIT(BATCH_MAX);
    uint8_t bytes[WIRE_BATCH_HEAD_MAX];
    struct err err = ERR_INIT;
    if (buf_reserve(&body, SET_BYTES + SET_BYTES / 16, &err) < 0 || make_set(s, first, &body, &err) < 0 ||
        buf_append(&head, bytes, wire_batch_head(body.len, bytes), &err) < 0) {
        (void)fail(s->load, "a change set", err.text);
        return;
    }
    s->load->sent_bytes += body.len;
    int sent = rpc_call_send2(s->call, &head, &body, &err);
    if (sent < 0)
        (void)fail(s->load, "sending", err.text);
    s->held = sent == 0;
    s->sequence++;
}

/* ---- streams ---- */

static int start_call(struct stream *s);

static void take_opened(struct stream *s, const Leeward__Replication__V1__Opened *o)
{
    if (o->epoch > s->epoch || s->epoch == 0) {
        s->epoch = o->epoch + 1;
        (void)start_call(s);
        return;
    }
    s->sequence = o->expected_sequence;
    s->acknowledged = s->committed = s->sequence - 1;
    s->open = true;
    send_set(s, true);
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct stream *s = arg;
    ProtobufCMessage *m = NULL;
    if (call != s->call ||
        wire_unpack(&leeward__replication__v1__replicate_reply__descriptor, message->data, message->len, &m, NULL) < 0)
        return;
    const Leeward__Replication__V1__ReplicateReply *r = (const Leeward__Replication__V1__ReplicateReply *)m;
    switch (r->kind_case) {
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_OPENED:
        take_opened(s, r->opened);
        break;
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_SPOOLED:
        s->acknowledged = r->spooled->sequence > s->acknowledged ? r->spooled->sequence : s->acknowledged;
        break;
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_COMMITTED:
        s->committed = r->committed->sequence;
        s->acknowledged = s->committed > s->acknowledged ? s->committed : s->acknowledged;
        break;
    case LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_REFUSED:
        (void)fail(s->load, "refused", r->refused->text);
        break;
    default:
        break;
    }
    wire_free(m);
}

static void on_writable(struct rpc_call *call, void *arg)
{
    struct stream *s = arg;
    if (call == s->call)
        s->held = false;
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct stream *s = arg;
    (void)status;
    if (call != s->call)
        return;
    s->call = NULL;
    s->open = false;
    (void)fail(s->load, "a stream ended", text);
}

static const struct rpc_call_ops ops = {
    .on_message = on_message, .on_writable = on_writable, .on_end = on_end, .auto_consume = true};

static int start_call(struct stream *s)
{
    Leeward__Replication__V1__ReplicateRequest r = LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__INIT;
    Leeward__Replication__V1__Open open = LEEWARD__REPLICATION__V1__OPEN__INIT;
    AUTO_BUF struct buf b = BUF_INIT(4096);
    struct rpc_call *old = TAKE_PTR(s->call);
    struct err err = ERR_INIT;
    if (old != NULL)
        rpc_call_cancel(old);
    open.machine_id = (ProtobufCBinaryData){.len = IDENT_SIZE, .data = s->machine.bytes};
    open.generation = 1;
    open.epoch = s->epoch;
    r.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__KIND_OPEN;
    r.open = &open;
    if (rpc_call_start(s->channel, PATH, 0, false, &ops, s, &s->call, &err) < 0 || wire_pack(&r.base, &b, &err) < 0 ||
        rpc_call_send(s->call, &b, &err) < 0)
        return fail(s->load, "opening a stream", err.text);
    return 0;
}

static int stream_init(struct load *l, size_t i, const char *node)
{
    struct stream *s = &l->streams[i];
    struct err err = ERR_INIT;
    *s = (struct stream){.load = l,
        .machine = l->fleet.machines[i].id,
        .digest = record_digest_new(),
        .at = l->data_bytes / l->count * i / 4096 * 4096,
        .place = i * RECORD_BLOCK_SIZE};
    if (s->digest == NULL || tls_client_new(&l->fleet.machines[i].files, NULL, &s->tls, &err) < 0 ||
        rpc_channel_new(l->loop, node, s->tls, "node", &l->fleet.node.id, NULL, &s->channel, &err) < 0)
        return fail(l, "a stream", err.text);
    return 0;
}

/* ---- commands ---- */

static uint64_t acknowledged(const struct load *l)
{
    uint64_t n = 0;
    for (size_t i = 0; i < l->count; i++)
        n += l->streams[i].acknowledged;
    return n;
}

static bool all_acknowledged(const struct load *l, bool by_vault)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct stream *s = &l->streams[i];
        if (!s->open || (by_vault ? s->committed : s->acknowledged) + 1 != s->sequence)
            return false;
    }
    return true;
}

static void answer(struct load *l, const char *word)
{
    (void)printf("{\"%s\": %zu}\n", word, l->count);
    (void)fflush(stdout);
    l->command[0] = '\0';
}

static void answer_load(struct load *l, uint64_t now)
{
    double seconds = (double)(now - l->begun_usec) / 1e6;
    uint64_t sets = acknowledged(l) - l->marks_before;
    (void)printf(
        "{\"seconds\": %.3f, \"offered_mb\": %.1f, \"sent_mb\": %.1f, \"acknowledged_mb\": %.1f, \"sets\": %llu, "
        "\"left_out\": %llu, \"acknowledged\": %llu, \"cpu_s\": %.3f}\n",
        seconds, (double)(l->sets + l->left_out) * SET_BYTES / 1e6, (double)l->sent_bytes / 1e6,
        (double)sets * SET_BYTES / 1e6, (unsigned long long)l->sets, (unsigned long long)l->left_out,
        (unsigned long long)sets, cpu_seconds());
    (void)fflush(stdout);
    l->begun_usec = 0;
}

static void offer(struct load *l, uint64_t now)
{
    for (size_t i = 0; i < l->count && !l->failed; i++) {
        struct stream *s = &l->streams[i];
        if (s->due_usec > now)
            continue;
        s->due_usec += l->interval_usec;
        if (s->held) {
            l->left_out++;
            continue;
        }
        send_set(s, false);
        l->sets++;
    }
}

static void fill(struct load *l, uint64_t now)
{
    uint64_t queued = 0;
    bool all = true;
    for (size_t i = 0; i < l->count && !l->failed; i++) {
        struct stream *s = &l->streams[i];
        all = all && s->held;
        if (!s->held)
            send_set(s, false);
        else
            queued += rpc_call_queued(s->call);
    }
    if (!all || queued != l->queued)
        l->quiet_usec = now;
    l->queued = queued;
    if (now > l->quiet_usec + QUIET_USEC)
        answer(l, "filled");
}

static void on_tick(void *arg)
{
    struct load *l = arg;
    uint64_t now = clock_mono_usec();
    if (l->begun_usec != 0 && now < l->until_usec)
        offer(l, now);
    else if (l->begun_usec != 0 && all_acknowledged(l, false))
        answer_load(l, now);
    else if (strcmp(l->command, "fill") == 0)
        fill(l, now);
    else if (strcmp(l->command, "open") == 0 && all_acknowledged(l, true))
        answer(l, "open");
    else if (strcmp(l->command, "settle") == 0 && all_acknowledged(l, true))
        answer(l, "settled");
    loop_timer_set(l->tick, TICK_USEC);
}

static void start_load(struct load *l, uint64_t seconds)
{
    l->begun_usec = clock_mono_usec();
    l->until_usec = l->begun_usec + seconds * USEC_PER_SEC;
    l->sets = l->left_out = l->sent_bytes = 0;
    l->marks_before = acknowledged(l);
    for (size_t i = 0; i < l->count; i++)
        l->streams[i].due_usec = l->begun_usec + l->interval_usec * i / l->count;
}

/* Whole lines: who asks waits for the answer before it asks again. */
static int on_command(sd_event_source *source, int fd, uint32_t events, void *arg)
{
    struct load *l = arg;
    (void)source;
    (void)events;
    ssize_t n = read(fd, l->command, sizeof(l->command) - 1);
    if (n <= 0)
        return sd_event_exit(l->loop, 0);
    l->command[n] = '\0';
    l->command[strcspn(l->command, "\n")] = '\0';
    l->quiet_usec = clock_mono_usec();
    if (strncmp(l->command, "load ", 5) == 0)
        start_load(l, strtoull(l->command + 5, NULL, 10));
    for (size_t i = 0; i < l->count && strcmp(l->command, "open") == 0; i++)
        if (start_call(&l->streams[i]) < 0)
            break;
    return 0;
}

static int load_data(struct load *l, const char *path)
{
    struct buf b = BUF_INIT((size_t)1 << 30);
    struct err err = ERR_INIT;
    if (file_read(path, &b, &err) < 0 || b.len < SET_BYTES)
        return fail(l, path, err.code != ERR_NONE ? err.text : "it is too short");
    l->data = b.data;
    l->data_bytes = b.len / 4096 * 4096;
    return 0;
}

static int start(struct load *l, char **argv)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *node = mem_printf("127.0.0.1:%s", argv[5]);
    l->count = strtoul(argv[3], NULL, 10);
    l->interval_usec = (uint64_t)((double)l->count * SET_BYTES / strtod(argv[4], NULL));
    l->streams = mem_alloc(l->count, sizeof(*l->streams));
    l->work = seal_work_new();
    if (node == NULL || l->streams == NULL || l->work == NULL || loop_new(NULL, NULL, &l->loop, &err) < 0)
        return fail(l, "starting", "no memory");
    if (load_data(l, argv[2]) < 0)
        return -1;
    if (node_fleet_make(argv[1], l->count, (unsigned)strtoul(argv[6], NULL, 10), &l->fleet, &err) < 0 ||
        loop_timer_new(l->loop, TICK_USEC, 0, on_tick, l, &l->tick, &err) < 0)
        return fail(l, "starting", err.text);
    for (size_t i = 0; i < l->count; i++)
        if (stream_init(l, i, node) < 0)
            return -1;
    if (sd_event_add_io(l->loop, NULL, STDIN_FILENO, EPOLLIN, on_command, l) < 0)
        return fail(l, "standard input", "it cannot be polled: give a pipe");
    (void)printf("{\"made\": %zu}\n", l->count);
    (void)fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    static struct load l;
    struct err err = ERR_INIT;
    if (argc != 7 || strtoul(argv[3], NULL, 10) == 0 || strtoul(argv[3], NULL, 10) > STREAMS_MAX ||
        strtod(argv[4], NULL) <= 0) {
        (void)fprintf(stderr, "usage: node_load DIR DATA STREAMS MB_PER_S NODE_PORT VAULT_PORT\n");
        return 2;
    }
    int result = start(&l, argv) < 0 ? 1 : loop_run(l.loop, &err);
    for (size_t i = 0; i < l.count && l.streams != NULL; i++) {
        l.streams[i].call = NULL;
        rpc_channel_free(l.streams[i].channel);
        tls_context_free(l.streams[i].tls);
        record_digest_free(l.streams[i].digest);
    }
    loop_timer_free(l.tick);
    loop_free(l.loop);
    seal_work_free(l.work);
    node_fleet_done(&l.fleet);
    free(l.streams);
    free((void *)(uintptr_t)l.data);
    return result != 0 || l.failed;
}
