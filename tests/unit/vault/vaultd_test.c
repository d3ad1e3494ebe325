/* SPDX-License-Identifier: Apache-2.0
 *
 * The vault's daemon over a real gRPC connection (a unix socket, so no certificates): replication, its refusals, reads,
 * and points opened through nbdkit.
 */
#include <setjmp.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/log/segment.h"
#include "transport/loop/loop.h"
#include "transport/proto/replication.pb-c.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/proto/wire.h"
#include "transport/rpc/rpc.h"
#include "transport/vault/bucketconf.h"
#include "transport/vault/opening_private.h"
#include "transport/vault/retentionclock.h"
#include "transport/vault/vaultd.h"
#include "transport/vault/vaultd_private.h"
#include "transport/vault/vaultheal.h"

#define WAIT_USEC (120 * USEC_PER_SEC)

/* One call: what came back. */
struct talk {
    struct rpc_call *call;
    bool ended;
    enum rpc_status status;
    unsigned messages;
    uint64_t committed;
    bool opened, refused;
    struct store_opened open;
    char refused_code[32];
    /* reads */
    struct buf data;
    unsigned points;
    uint64_t last_sequence;
    const ProtobufCMessageDescriptor *reply_type;
    uint64_t size_bytes; /* Changes */
    uint64_t damaged;    /* ListPoints */
    unsigned mended;     /* Mend */
    uint8_t *image;      /* Blocks: what is sent is written there */
};

struct fixture {
    struct model m; /* its writer and arrays; its store is not used, the daemon has one of its own */
    sd_event *loop;
    struct vaultd *d;
    struct rpc_channel *channel;
    char machine_text[IDENT_TEXT_SIZE];
    char data_dir[100];
    uint64_t generation;
    uint64_t reserve;
    uint64_t sequence;
    uint64_t keep_all_usec;
    uint64_t known_sequence;
    struct bucketconf bucket; /* url NULL: none */
};

/* ---- waiting ---- */

static void pump(struct fixture *f, const bool *until)
{
    uint64_t end = clock_mono_usec() + WAIT_USEC;
    while (!*until) {
        if (clock_mono_usec() > end)
            fail_msg("waited too long");
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
}

static void pump_committed(struct fixture *f, struct talk *t, uint64_t sequence)
{
    uint64_t end = clock_mono_usec() + WAIT_USEC;
    while (t->committed < sequence) {
        if (clock_mono_usec() > end || t->ended)
            fail_msg("change set %llu was not committed (%s)", (unsigned long long)sequence, t->refused_code);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
}

/* ---- talking ---- */

static void take_replicate(struct talk *t, const Leeward__Replication__V1__ReplicateReply *m)
{
    if (m->kind_case == LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_OPENED) {
        t->opened = true;
        t->open.expected_sequence = m->opened->expected_sequence;
        t->open.committed_sequence = m->opened->committed_sequence;
        t->open.epoch = m->opened->epoch;
        t->open.nonce_stream = m->opened->nonce_stream;
        assert_int_equal(m->opened->data_key.len, SEAL_KEY_SIZE);
        memcpy(t->open.data_key.bytes, m->opened->data_key.data, SEAL_KEY_SIZE);
    } else if (m->kind_case == LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_COMMITTED) {
        t->committed = m->committed->sequence;
    } else if (m->kind_case == LEEWARD__REPLICATION__V1__REPLICATE_REPLY__KIND_REFUSED) {
        t->refused = true;
        (void)snprintf(t->refused_code, sizeof(t->refused_code), "%s", m->refused->code);
    }
}

static void on_message(struct rpc_call *call, void *arg, struct buf *message)
{
    struct talk *t = arg;
    struct err err = ERR_INIT;
    ProtobufCMessage *m = NULL;
    (void)call;
    t->messages++;
    assert_int_equal(wire_unpack(t->reply_type, message->data, message->len, &m, &err), 0);
    if (t->reply_type == &leeward__replication__v1__replicate_reply__descriptor) {
        take_replicate(t, (void *)m);
    } else if (t->reply_type == &leeward__vault__v1__point__descriptor) {
        t->points++;
        t->last_sequence = ((Leeward__Vault__V1__Point *)m)->sequence;
        t->damaged = ((Leeward__Vault__V1__Point *)m)->damaged_records;
    } else if (t->reply_type == &leeward__vault__v1__range_chunk__descriptor) {
        const Leeward__Vault__V1__RangeChunk *c = (const void *)m;
        assert_int_equal(buf_append(&t->data, c->data.data, c->data.len, &err), 0);
        if (t->image != NULL && c->data.len > 0)
            memcpy(t->image + c->start, c->data.data, c->data.len);
        else if (t->image != NULL)
            memset(t->image + c->start, 0, c->zero_length);
    } else if (t->reply_type == &leeward__vault__v1__change_chunk__descriptor) {
        const Leeward__Vault__V1__ChangeChunk *c = (const void *)m;
        t->last_sequence = c->sequence;
        t->size_bytes = c->size_bytes;
        assert_int_equal(c->n_starts, c->n_lengths);
        for (size_t i = 0; i < c->n_starts; i++) {
            const uint64_t range[2] = {c->starts[i], c->lengths[i]};
            assert_int_equal(buf_append(&t->data, range, sizeof(range), &err), 0);
        }
    } else if (t->reply_type == &leeward__vault__v1__damaged_record__descriptor) {
        const Leeward__Vault__V1__DamagedRecord *r = (const void *)m;
        assert_true(r->hash.len == HASH_SIZE && r->length == 65536 && r->first_time_utc_usec > 0 &&
                    r->last_time_utc_usec == r->first_time_utc_usec);
    } else if (t->reply_type == &leeward__vault__v1__mend_reply__descriptor) {
        t->mended = ((Leeward__Vault__V1__MendReply *)m)->mended;
    } else {
        ProtobufCBinaryData *data = &((Leeward__Vault__V1__HashChunk *)m)->hashes;
        assert_int_equal(buf_append(&t->data, data->data, data->len, &err), 0);
    }
    wire_free(m);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct talk *t = arg;
    (void)call;
    (void)text;
    t->ended = true;
    t->status = status;
    t->call = NULL;
}

static const struct rpc_call_ops talk_ops = {.on_message = on_message, .on_end = on_end, .auto_consume = true};

static void talk_start(struct fixture *f, struct talk *t, const char *path, const ProtobufCMessageDescriptor *reply)
{
    struct err err = ERR_INIT;
    *t = (struct talk){.reply_type = reply};
    buf_init(&t->data, 16u << 20);
    assert_int_equal(rpc_call_start(f->channel, path, 0, true, &talk_ops, t, &t->call, &err), 0);
}

static void talk_send(struct talk *t, const ProtobufCMessage *m)
{
    struct buf out AUTO_BUF = BUF_INIT(1u << 20);
    struct err err = ERR_INIT;
    assert_int_equal(wire_pack(m, &out, &err), 0);
    assert_true(rpc_call_send(t->call, &out, &err) >= 0);
}

static void talk_done(struct fixture *f, struct talk *t)
{
    if (t->call != NULL)
        rpc_call_cancel(t->call);
    pump(f, &t->ended);
    buf_done(&t->data);
}

/* ---- replication ---- */

static void stream_start(struct fixture *f, struct talk *t, uint64_t epoch)
{
    Leeward__Replication__V1__Open open = LEEWARD__REPLICATION__V1__OPEN__INIT;
    Leeward__Replication__V1__ReplicateRequest q = LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__INIT;
    talk_start(
        f, t, "/leeward.replication.v1.Replication/Replicate", &leeward__replication__v1__replicate_reply__descriptor);
    open.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->m.conf.machine.bytes};
    open.generation = f->generation;
    open.epoch = epoch;
    q.kind_case = LEEWARD__REPLICATION__V1__REPLICATE_REQUEST__KIND_OPEN;
    q.open = &open;
    talk_send(t, &q.base);
}

static void stream_open(struct fixture *f, struct talk *t, uint64_t epoch)
{
    stream_start(f, t, epoch);
    pump(f, &t->opened);
    f->m.opened = t->open;
    f->m.epoch = epoch;
    f->m.nonce = 0;
    f->sequence = t->open.committed_sequence;
    t->committed = t->open.committed_sequence;
}

static void stream_batch(struct fixture *f, struct talk *t)
{
    uint8_t head[WIRE_BATCH_HEAD_MAX];
    struct buf start AUTO_BUF = BUF_INIT(64), body AUTO_BUF = BUF_INIT(64u << 20);
    struct err err = ERR_INIT;
    size_t n = wire_batch_head(f->m.batch.len, head);
    assert_int_equal(buf_append(&start, head, n, &err), 0);
    assert_int_equal(buf_append(&body, f->m.batch.data, f->m.batch.len, &err), 0);
    assert_true(rpc_call_send2(t->call, &start, &body, &err) >= 0);
    model_batch_reset(&f->m);
}

static void stream_commit(struct fixture *f, struct talk *t)
{
    model_mark_at(&f->m, MARK_CRASH, ++f->sequence, f->generation);
    stream_batch(f, t);
    pump_committed(f, t, f->sequence);
    model_keep_point(&f->m, f->sequence);
}

/* ---- fixture ---- */

static void apply(struct fixture *f)
{
    Leeward__Control__V1__VaultDesired desired = LEEWARD__CONTROL__V1__VAULT_DESIRED__INIT;
    Leeward__Control__V1__VaultMachine machine = LEEWARD__CONTROL__V1__VAULT_MACHINE__INIT;
    Leeward__Control__V1__VaultMachine *machines[] = {&machine};
    machine.machine_id = f->machine_text;
    machine.name = (char *)(uintptr_t) "db1";
    machine.generation = f->generation;
    machine.keep_all_usec = f->keep_all_usec;
    machine.known_sequence = f->known_sequence;
    desired.version = 1;
    desired.n_machines = 1;
    desired.machines = machines;
    vaultd_apply(f->d, &desired);
}

static void start(struct fixture *f)
{
    char address[140];
    struct err err = ERR_INIT;
    (void)snprintf(address, sizeof(address), "unix:%s/v.sock", f->m.dir);
    struct vaultd_conf conf = {.data_dir = f->data_dir,
        .listen = address,
        .plugin = VAULT_PLUGIN,
        .bucket = f->bucket.url == NULL ? NULL : &f->bucket,
        .cache_bytes = 4u << 20,
        .reserve_bytes = f->reserve,
        .threads = 2};
    if (vaultd_new(f->loop, &conf, &f->d, &err) < 0)
        fail_msg("%s", err.text);
    apply(f);
    assert_int_equal(rpc_channel_new(f->loop, address, NULL, NULL, NULL, NULL, &f->channel, &err), 0);
}

static void stop(struct fixture *f)
{
    rpc_channel_free(f->channel);
    vaultd_free(f->d);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    model_init(&f->m, 5);
    f->generation = 1;
    ident_to_text(&f->m.conf.machine, f->machine_text);
    (void)snprintf(f->data_dir, sizeof(f->data_dir), "%s/vault", f->m.dir);
    (void)snprintf(f->m.machine_dir, sizeof(f->m.machine_dir), "%s/vault/machines/%s", f->m.dir, f->machine_text);
    assert_int_equal(loop_new(NULL, NULL, &f->loop, &err), 0);
    start(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    stop(f);
    loop_free(f->loop);
    model_done(&f->m);
    free(f);
    return 0;
}

static void restart(struct fixture *f)
{
    stop(f);
    start(f);
}

/* ---- tests ---- */

/* A new machine has so many points. */
static void commit_points(struct fixture *f, unsigned count)
{
    struct talk t;
    stream_open(f, &t, 1);
    for (unsigned i = 0; i < count; i++) {
        model_random_write(&f->m);
        stream_commit(f, &t);
    }
    talk_done(f, &t);
}

static void a_stream_commits_points_that_survive_a_restart(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    stream_open(f, &t, 1);
    assert_int_equal(t.open.expected_sequence, 1);
    for (int i = 0; i < 5; i++) {
        model_random_write(&f->m);
        model_random_write(&f->m);
        stream_commit(f, &t);
    }
    talk_done(f, &t);
    restart(f);
    stream_open(f, &t, 2);
    assert_int_equal(t.open.committed_sequence, 5);
    model_random_write(&f->m);
    stream_commit(f, &t);
    talk_done(f, &t);
}

static void many_batches_in_flight_commit_in_order(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    stream_open(f, &t, 1);
    for (int i = 0; i < 100; i++) {
        model_random_write(&f->m);
        model_mark_at(&f->m, MARK_CRASH, ++f->sequence, 1);
        stream_batch(f, &t);
    }
    pump_committed(f, &t, 100);
    assert_int_equal(t.committed, 100);
    talk_done(f, &t);
}

static void a_newer_epoch_ends_the_older_stream(void **state)
{
    struct fixture *f = *state;
    struct talk old, new;
    stream_open(f, &old, 1);
    model_random_write(&f->m);
    stream_commit(f, &old);
    stream_open(f, &new, 2);
    pump(f, &old.ended);
    assert_true(old.refused);
    assert_int_equal(old.status, RPC_FAILED_PRECONDITION);
    assert_int_equal(new.open.committed_sequence, 1);
    talk_done(f, &old);
    stream_start(f, &old, 1);
    pump(f, &old.ended);
    assert_true(old.refused);
    assert_int_equal(old.status, RPC_FAILED_PRECONDITION);
    talk_done(f, &old);
    model_random_write(&f->m);
    stream_commit(f, &new);
    talk_done(f, &new);
}

static void a_stale_generation_is_refused_with_failed_precondition(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    stream_open(f, &t, 1);
    talk_done(f, &t);
    f->generation = 3;
    apply(f);
    f->generation = 2;
    stream_start(f, &t, 2);
    pump(f, &t.ended);
    assert_int_equal(t.status, RPC_FAILED_PRECONDITION);
    talk_done(f, &t);
}

static void an_unknown_machine_is_refused(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    f->m.conf.machine.bytes[5] = 77;
    stream_start(f, &t, 1);
    pump(f, &t.ended);
    assert_true(t.refused);
    assert_int_equal(t.status, RPC_UNAVAILABLE);
    talk_done(f, &t);
}

static unsigned points_listed(struct fixture *f, uint64_t *ret_last)
{
    struct talk t;
    Leeward__Vault__V1__ListPointsRequest list = LEEWARD__VAULT__V1__LIST_POINTS_REQUEST__INIT;
    talk_start(f, &t, "/leeward.vault.v1.Vault/ListPoints", &leeward__vault__v1__point__descriptor);
    list.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->m.conf.machine.bytes};
    talk_send(&t, &list.base);
    rpc_call_half_close(t.call);
    pump(f, &t.ended);
    unsigned points = t.points;
    *ret_last = t.last_sequence;
    talk_done(f, &t);
    return points;
}

/* A node has one connection for all of its machines. */
static void hundreds_of_streams_of_one_node_leave_room_for_more(void **state)
{
    struct fixture *f = *state;
    static struct talk streams[300];
    uint64_t last;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++)
        talk_start(f, &streams[i], "/leeward.replication.v1.Replication/Replicate",
            &leeward__replication__v1__replicate_reply__descriptor);
    assert_int_equal(points_listed(f, &last), 0); /* answered, although all of them are open */
    for (size_t i = 0; i < ARRAY_LEN(streams); i++)
        talk_done(f, &streams[i]);
}

static void a_damaged_batch_ends_the_stream_and_costs_nothing(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    stream_open(f, &t, 1);
    model_random_write(&f->m);
    stream_commit(f, &t);
    model_write(&f->m, 0, 0, 8192, false);
    f->m.batch.data[RECORD_HEADER_SIZE + 5] ^= 1;
    stream_batch(f, &t);
    pump(f, &t.ended);
    assert_true(t.refused);
    talk_done(f, &t);
    stream_open(f, &t, 2);
    assert_int_equal(t.open.committed_sequence, 1);
    talk_done(f, &t);
}

static void a_full_disk_is_resource_exhausted(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    stop(f);
    f->reserve = 1ULL << 60;
    start(f);
    stream_open(f, &t, 1);
    model_random_write(&f->m);
    model_mark_at(&f->m, MARK_CRASH, 1, 1);
    stream_batch(f, &t);
    pump(f, &t.ended);
    assert_true(t.refused);
    assert_string_equal(t.refused_code, err_code_name(ERR_NOSPACE));
    assert_int_equal(t.status, RPC_RESOURCE_EXHAUSTED);
    talk_done(f, &t);
}

/* As where there were no inodes left, or room came back before it was looked at: so many bytes may never come free behind that. */
static void a_disk_with_ample_room_is_not_full_for_ever(void **state)
{
    struct fixture *f = *state;
    struct statvfs vfs;
    assert_int_equal(statvfs(f->data_dir, &vfs), 0);
    if (vfs.f_bavail * vfs.f_frsize < 5ull << 30) {
        print_message("there are less than 5 GiB free here\n");
        skip();
    }
    vaultd_set_full(f->d, true);
    f->d->full_free_bytes = UINT64_MAX / 2;
    assert_false(vaultd_has_room(f->d));
    f->d->full_since_usec -= 60 * USEC_PER_SEC;
    assert_true(vaultd_has_room(f->d));
    f->d->conf.reserve_bytes = vfs.f_bavail * vfs.f_frsize - (1u << 30); /* not ample */
    assert_false(vaultd_has_room(f->d));
}

static void points_and_ranges_can_be_read(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    Leeward__Vault__V1__ListPointsRequest list = LEEWARD__VAULT__V1__LIST_POINTS_REQUEST__INIT;
    Leeward__Vault__V1__ReadRangeRequest range = LEEWARD__VAULT__V1__READ_RANGE_REQUEST__INIT;
    commit_points(f, 3);
    talk_start(f, &t, "/leeward.vault.v1.Vault/ListPoints", &leeward__vault__v1__point__descriptor);
    list.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->m.conf.machine.bytes};
    list.after_sequence = 1;
    talk_send(&t, &list.base);
    rpc_call_half_close(t.call);
    pump(f, &t.ended);
    assert_int_equal(t.status, RPC_OK);
    assert_int_equal(t.points, 2);
    assert_int_equal(t.last_sequence, 3);
    talk_done(f, &t);
    for (uint64_t sequence = 1; sequence <= 3; sequence++) {
        talk_start(f, &t, "/leeward.vault.v1.Vault/ReadRange", &leeward__vault__v1__range_chunk__descriptor);
        range.machine_id = list.machine_id;
        range.sequence = sequence;
        range.length = f->m.disk_bytes[0];
        talk_send(&t, &range.base);
        rpc_call_half_close(t.call);
        pump(f, &t.ended);
        assert_int_equal(t.status, RPC_OK);
        assert_int_equal(t.data.len, f->m.disk_bytes[0]);
        assert_memory_equal(t.data.data, f->m.points[sequence - 1].disks[0], t.data.len);
        talk_done(f, &t);
    }
}

static void retention_drops_points_by_policy_and_keeps_the_newest(void **state)
{
    struct fixture *f = *state;
    uint64_t last, end = clock_mono_usec() + WAIT_USEC;
    commit_points(f, 6); /* their times are in 1970 */
    assert_int_equal(points_listed(f, &last), 6);
    f->keep_all_usec = 1;
    restart(f);
    while (points_listed(f, &last) > 1)
        assert_true(clock_mono_usec() < end);
    assert_int_equal(last, 6);
    restart(f);
    assert_int_equal(points_listed(f, &last), 1);
}

/* Its time is not in the list of points: after a restart it is read from the mark. */
static void group_points_are_thinned_by_the_time_in_their_ids_after_a_restart(void **state)
{
    const uint64_t hour = 3600 * USEC_PER_SEC, ended = (clock_utc_usec() / hour - 5) * hour;
    struct fixture *f = *state;
    struct talk t;
    uint64_t last, end = clock_mono_usec() + WAIT_USEC;
    f->m.began_utc_usec = ended - 3500000; /* by its own clock the hour ends behind point 3, */
    stream_open(f, &t, 1);
    for (uint64_t s = 1; s <= 7; s++) {
        f->m.group = (struct ident){0};
        if (s < 7) /* and by the coordinator's behind point 2 */
            model_group_id(ended + (s - 2) * USEC_PER_SEC - USEC_PER_SEC / 2, &f->m.group);
        model_random_write(&f->m);
        stream_commit(f, &t);
    }
    talk_done(f, &t);
    restart(f);
    assert_int_equal(points_listed(f, &last), 7);
    struct vmachine *vm = vaultd_machine(f->d, &f->m.conf.machine);
    vm->tiers.all_usec = 1;
    vm->tiers.hour_usec = 48 * hour;
    vaultupkeep_thin(vm);
    while (points_listed(f, &last) > 4)
        assert_true(clock_mono_usec() < end);
    static const uint64_t stay[] = {2, 3, 6, 7};
    assert_int_equal(points_listed(f, &last), 4);
    for (size_t i = 0; i < 4; i++)
        assert_non_null(pointlist_find(store_points(vm->store), stay[i]));
}

/* ---- a hub that hears what is told of points ---- */

static struct {
    bool is_up;
    unsigned dropped, added, complete, events;
} hub;

int __wrap_session_report(struct session *session, const Leeward__Control__V1__Report *report, struct err *err);
bool __wrap_session_is_up(const struct session *session);
uint64_t __wrap_session_status_interval_usec(const struct session *session);
void __wrap_session_event(struct session *session, const char *severity, const char *code, const char *machine_id,
    const char *remedy, const char *text);

int __wrap_session_report(struct session *session, const Leeward__Control__V1__Report *report, struct err *err)
{
    (void)session;
    (void)err;
    if (hub.is_up && report->kind_case == LEEWARD__CONTROL__V1__REPORT__KIND_POINTS) {
        hub.dropped += (unsigned)report->points->n_dropped;
        hub.added += (unsigned)report->points->n_added;
        hub.complete += report->points->complete != 0;
    }
    return hub.is_up;
}

bool __wrap_session_is_up(const struct session *session)
{
    (void)session;
    return hub.is_up;
}

uint64_t __wrap_session_status_interval_usec(const struct session *session)
{
    (void)session;
    return 5 * USEC_PER_SEC;
}

void __wrap_session_event(struct session *session, const char *severity, const char *code, const char *machine_id,
    const char *remedy, const char *text)
{
    (void)session;
    (void)severity;
    (void)code;
    (void)machine_id;
    (void)remedy;
    (void)text;
    hub.events++;
}

static struct vmachine *hub_connect(struct fixture *f)
{
    memset(&hub, 0, sizeof(hub));
    hub.is_up = true;
    vaultd_set_session(f->d, (struct session *)(void *)&hub);
    return vaultd_machine(f->d, &f->m.conf.machine);
}

/* Runs until everything that a session begins with was told. */
static void pump_told(struct fixture *f, const struct vmachine *vm)
{
    for (uint64_t end = clock_mono_usec() + WAIT_USEC; vm->dropped_untold || vm->syncing;) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
}

/* The hub was told so long ago, and the session goes on. */
static void pump_settled(struct fixture *f, struct vmachine *vm, uint64_t later_usec)
{
    vaultreport_settle(vm, clock_mono_usec() + later_usec);
    for (uint64_t end = clock_mono_usec() + WAIT_USEC; vm->dropped_kept;) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
}

/* The session, the vault or the hub may have ended before the hub had it; then it would list these points for ever. */
static void what_was_dropped_is_told_until_the_hub_has_it(void **state)
{
    struct fixture *f = *state;
    uint64_t last, end = clock_mono_usec() + WAIT_USEC;
    commit_points(f, 6);
    f->known_sequence = 6;
    struct vmachine *vm = hub_connect(f);
    pump_told(f, vm);
    hub.is_up = false;
    vm->tiers.all_usec = 1;
    vaultupkeep_thin(vm);
    while (points_listed(f, &last) > 1)
        assert_true(clock_mono_usec() < end);
    restart(f); /* nobody has heard of it */
    vm = hub_connect(f);
    pump_told(f, vm);
    assert_int_equal(hub.dropped, 5);
    assert_int_equal(hub.added + hub.complete, 0);
    vaultd_session_ops.on_down(f->d, NULL); /* what was sent may have been lost */
    pump_told(f, vm);
    assert_int_equal(hub.dropped, 10);
    vaultreport_settle(vm, clock_mono_usec() + 1800 * USEC_PER_SEC); /* not long enough */
    restart(f);
    vm = hub_connect(f);
    pump_told(f, vm);
    assert_int_equal(hub.dropped, 5);
    pump_settled(f, vm, 7200 * USEC_PER_SEC);
    restart(f);
    vm = hub_connect(f);
    pump_told(f, vm);
    assert_int_equal(hub.dropped + hub.added + hub.complete, 0);
}

static bool note_finds_no_room, drop_fails_behind, drop_finds_no_room;
int __real_droplog_store(
    const char *machine_dir, const struct ident *machine, const struct droplog *l, struct err *err);
int __wrap_droplog_store(
    const char *machine_dir, const struct ident *machine, const struct droplog *l, struct err *err);
int __real_store_drop_points(
    struct store *s, const uint64_t *sequences, size_t count, size_t *ret_dropped, struct err *err);
int __wrap_store_drop_points(
    struct store *s, const uint64_t *sequences, size_t count, size_t *ret_dropped, struct err *err);

int __wrap_droplog_store(const char *machine_dir, const struct ident *machine, const struct droplog *l, struct err *err)
{
    return note_finds_no_room ? err_set(err, ERR_NOSPACE, "the disk is full")
                              : __real_droplog_store(machine_dir, machine, l, err);
}

/* As where the new list stands, and its folder could not be synced; or where there is no room for a list. */
int __wrap_store_drop_points(
    struct store *s, const uint64_t *sequences, size_t count, size_t *ret_dropped, struct err *err)
{
    if (drop_finds_no_room)
        return err_set(err, ERR_NOSPACE, "the disk is full");
    int result = __real_store_drop_points(s, sequences, count, ret_dropped, err);
    return drop_fails_behind ? err_set(err, ERR_IO, "the folder cannot be synced") : result;
}

static struct vmachine *six_points_of_a_hub_that_knows_them(struct fixture *f)
{
    commit_points(f, 6);
    f->known_sequence = 6;
    struct vmachine *vm = hub_connect(f);
    pump_told(f, vm);
    return vm;
}

/* What was told an hour ago is forgotten; not that something is not known since just now. */
static void not_to_know_what_was_dropped_is_forgotten_when_its_time_comes(void **state)
{
    struct droplog l = {0};
    uint64_t sequence = 1;
    (void)state;
    assert_int_equal(droplog_add(&l, &sequence, 1, 1000, NULL), 0);
    assert_int_equal(droplog_add(&l, &sequence, DROPLOG_ITEMS_MAX, 5000, NULL), 0); /* too many */
    assert_true(l.unsure);
    assert_false(droplog_forget(&l, 1000));
    assert_true(l.unsure);
    assert_int_equal(droplog_add(&l, &sequence, 1, 6000, NULL), 0);
    assert_true(droplog_forget(&l, 5000));
    assert_false(l.unsure);
    assert_int_equal(l.count, 1);
    assert_true(droplog_forget(&l, 6000));
    assert_int_equal(l.count, 0);
    droplog_done(&l);
}

/* Retention is what makes room, so it must not need any for its note. */
static void points_go_from_a_disk_that_has_no_room_to_note_it(void **state)
{
    struct fixture *f = *state;
    uint64_t last, end = clock_mono_usec() + WAIT_USEC;
    struct vmachine *vm = six_points_of_a_hub_that_knows_them(f);
    hub.is_up = false; /* it does not hear of it */
    note_finds_no_room = true;
    vm->tiers.all_usec = 1;
    vaultupkeep_thin(vm);
    for (unsigned i = 0; i < 50 && points_listed(f, &last) > 1; i++)
        assert_true(clock_mono_usec() < end);
    note_finds_no_room = false;
    assert_int_equal(points_listed(f, &last), 1);
    restart(f);
    vm = hub_connect(f);
    pump_told(f, vm);
    assert_int_equal(hub.complete, 1);
    assert_int_equal(hub.added, 1);
}

static void what_was_dropped_is_told_where_dropping_failed_behind_it(void **state)
{
    struct fixture *f = *state;
    uint64_t last, end = clock_mono_usec() + WAIT_USEC;
    struct vmachine *vm = six_points_of_a_hub_that_knows_them(f);
    drop_fails_behind = true;
    vm->tiers.all_usec = 1;
    vaultupkeep_thin(vm);
    while (points_listed(f, &last) > 1)
        assert_true(clock_mono_usec() < end);
    drop_fails_behind = false;
    for (unsigned i = 0; i < 100 && hub.dropped == 0; i++)
        assert_true(sd_event_run(f->loop, 50000) >= 0);
    assert_int_equal(hub.dropped, 5);
}

/* On a disk that stays full retention is tried each minute: the hub is not to read all points of all machines as often. */
static void nothing_is_told_where_there_was_no_room_to_drop(void **state)
{
    struct fixture *f = *state;
    uint64_t last;
    struct vmachine *vm = six_points_of_a_hub_that_knows_them(f);
    unsigned before = hub.added + hub.complete;
    note_finds_no_room = drop_finds_no_room = true;
    vm->tiers.all_usec = 1;
    vaultupkeep_thin(vm);
    for (unsigned i = 0; i < 20; i++)
        assert_true(sd_event_run(f->loop, 50000) >= 0);
    note_finds_no_room = drop_finds_no_room = false;
    assert_int_equal(points_listed(f, &last), 6);
    assert_false(vm->dropped_untold);
    assert_int_equal(hub.added + hub.complete, before);
}

/* The sync is tried again by itself, and the operator hears of it once. */
static void a_machine_that_cannot_be_opened_is_told_once(void **state)
{
    struct fixture *f = *state;
    char path[300], aside[300];
    struct talk t;
    stream_open(f, &t, 1);
    talk_done(f, &t);
    stop(f);
    (void)snprintf(path, sizeof(path), "%s/meta", f->m.machine_dir);
    (void)snprintf(aside, sizeof(aside), "%s/aside", f->m.machine_dir);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    start(f);
    struct vmachine *vm = hub_connect(f);
    for (int i = 0; i < 3; i++) {
        vm->sync_retry_usec = 0;
        for (uint64_t end = clock_mono_usec() + WAIT_USEC; vm->sync_retry_usec == 0;) {
            assert_true(clock_mono_usec() < end);
            assert_true(sd_event_run(f->loop, 100000) >= 0);
        }
        assert_true(vm->sync_retry_usec > clock_mono_usec() + 30 * USEC_PER_SEC);
        assert_int_equal(hub.events, 1);
    }
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(aside, path), 0);
    vm->sync_retry_usec = 1;
    pump_told(f, vm);
    assert_int_equal(vm->sync_retry_usec, 0);
}

/* As after an upgrade of a vault that did not note it, or where the note is damaged. */
static void without_the_note_of_what_was_dropped_the_full_list_is_told_once(void **state)
{
    struct fixture *f = *state;
    char path[300];
    commit_points(f, 3);
    f->known_sequence = 3;
    stop(f);
    (void)snprintf(path, sizeof(path), "%s/dropped", f->m.machine_dir);
    assert_int_equal(unlink(path), 0);
    start(f);
    struct vmachine *vm = hub_connect(f);
    pump_told(f, vm);
    assert_int_equal(hub.complete, 1);
    assert_int_equal(hub.added, 3);
    vaultreport_sync(vm);
    pump_told(f, vm);
    assert_int_equal(hub.complete, 1);
    pump_settled(f, vm, 7200 * USEC_PER_SEC);
    restart(f);
    vm = hub_connect(f);
    pump_told(f, vm);
    assert_int_equal(hub.complete, 0);
}

/* Another vault's copy stands on one point, and is just taking another one over. */
static void retention_leaves_a_copy_what_it_needs(void **state)
{
    struct fixture *f = *state;
    uint64_t last, end = clock_mono_usec() + WAIT_USEC;
    commit_points(f, 6);
    struct vmachine *vm = vaultd_machine(f->d, &f->m.conf.machine);
    vm->reader_count = 1;
    vm->tiers.all_usec = 1;
    vm->readers[0] = (struct copy_reader){.known_usec = clock_mono_usec()}; /* it has yet to say what it needs */
    vaultupkeep_thin(vm);
    for (int i = 0; i < 20; i++)
        assert_int_equal(points_listed(f, &last), 6);
    vm->readers[0] = (struct copy_reader){.held = 4, .taking = 2, .heard = true};
    vaultupkeep_thin(vm);
    while (points_listed(f, &last) > 3)
        assert_true(clock_mono_usec() < end);
    assert_int_equal(points_listed(f, &last), 3);
    vm->readers[0] = (struct copy_reader){.held = 4, .heard = true};
    vaultupkeep_thin(vm);
    while (points_listed(f, &last) > 2)
        assert_true(clock_mono_usec() < end);
    vm->reader_count = 0;
    vaultupkeep_thin(vm);
    while (points_listed(f, &last) > 1)
        assert_true(clock_mono_usec() < end);
    assert_int_equal(last, 6);
}

/* As of a vault whose machine's clock was set forward by so much. */
static void set_retention_clock_back(struct fixture *f, uint64_t behind_usec)
{
    struct retentionclock_machine machine;
    struct retentionclock c;
    struct err err = ERR_INIT;
    char path[140];
    (void)snprintf(path, sizeof(path), "%s/retention.clock", f->data_dir);
    (void)unlink(path);
    retentionclock_machine(&machine);
    machine.utc_usec -= behind_usec;
    assert_int_equal(retentionclock_open(&c, f->data_dir, &machine, &err), 0);
    assert_int_equal(retentionclock_save(&c, f->data_dir, &err), 0);
    retentionclock_close(&c);
}

/* By the machine's clock all but the newest of these points are over; by the retention clock those of ten days ago alone. */
static void retention_goes_by_its_own_clock(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    const uint64_t day = 86400 * USEC_PER_SEC, hour = 3600 * USEC_PER_SEC;
    uint64_t last, end = clock_mono_usec() + WAIT_USEC;
    stream_open(f, &t, 1);
    f->m.began_utc_usec = clock_utc_usec() - 20 * day;
    for (int i = 0; i < 6; i++) {
        if (i == 3)
            f->m.began_utc_usec = clock_utc_usec() - 2 * hour;
        model_random_write(&f->m);
        stream_commit(f, &t);
    }
    talk_done(f, &t);
    assert_int_equal(points_listed(f, &last), 6);
    f->keep_all_usec = hour;
    stop(f);
    set_retention_clock_back(f, 10 * day);
    start(f);
    while (points_listed(f, &last) > 3)
        assert_true(clock_mono_usec() < end);
    assert_int_equal(points_listed(f, &last), 3); /* one pass decides over all of them */
    assert_int_equal(last, 6);
    stop(f);
    set_retention_clock_back(f, 0); /* now it is time */
    start(f);
    while (points_listed(f, &last) > 1)
        assert_true(clock_mono_usec() < end);
    assert_int_equal(last, 6);
}

static void hashes_are_those_of_the_latest_content(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    Leeward__Vault__V1__HashesRequest q = LEEWARD__VAULT__V1__HASHES_REQUEST__INIT;
    stream_open(f, &t, 1);
    model_write(&f->m, 0, 0, 4 * 65536, false);
    model_write(&f->m, 0, 70000 / 512 * 512, 4096, true);
    model_mark_at(&f->m, MARK_PROGRESS, ++f->sequence, 1);
    stream_batch(f, &t);
    pump_committed(f, &t, 1);
    talk_done(f, &t);
    talk_start(f, &t, "/leeward.vault.v1.Vault/Hashes", &leeward__vault__v1__hash_chunk__descriptor);
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->m.conf.machine.bytes};
    q.block_bytes = 65536;
    talk_send(&t, &q.base);
    rpc_call_half_close(t.call);
    pump(f, &t.ended);
    assert_int_equal(t.status, RPC_OK);
    uint64_t size = f->m.disk_bytes[0];
    assert_int_equal(t.data.len, (size + 65535) / 65536 * HASH_SIZE);
    for (uint64_t at = 0; at < size; at += 65536) {
        struct hash128 hash;
        hash_128(f->m.disks[0] + at, size - at < 65536 ? size - at : 65536, &hash);
        assert_memory_equal(t.data.data + at / 65536 * HASH_SIZE, hash.bytes, HASH_SIZE);
    }
    talk_done(f, &t);
}

static void ask_changes(struct fixture *f, struct talk *t, uint64_t after)
{
    Leeward__Vault__V1__ChangesRequest q = LEEWARD__VAULT__V1__CHANGES_REQUEST__INIT;
    talk_start(f, t, "/leeward.vault.v1.Vault/Changes", &leeward__vault__v1__change_chunk__descriptor);
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->m.conf.machine.bytes};
    q.after_sequence = after;
    talk_send(t, &q.base);
    rpc_call_half_close(t->call);
    pump(f, &t->ended);
}

static void changes_name_what_was_written_between_two_points(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    stream_open(f, &t, 1);
    model_write(&f->m, 0, 0, 8 * 65536, false);
    stream_commit(f, &t);
    model_write(&f->m, 0, 65536, 4096, false);
    model_write(&f->m, 0, 65536 + 4096, 512, false);
    stream_commit(f, &t);
    model_zero(&f->m, 0, 4 * 65536, 65536);
    model_write(&f->m, 1, 0, 4096, false); /* of another disk */
    stream_commit(f, &t);
    talk_done(f, &t);
    ask_changes(f, &t, 1);
    const uint64_t expected[] = {65536, 4096 + 512, 4 * 65536, 65536};
    assert_int_equal(t.status, RPC_OK);
    assert_int_equal(t.last_sequence, 3);
    assert_int_equal(t.size_bytes, f->m.disk_bytes[0]);
    assert_int_equal(t.data.len, sizeof(expected));
    assert_memory_equal(t.data.data, expected, sizeof(expected));
    talk_done(f, &t);
    ask_changes(f, &t, 2);
    assert_int_equal(t.data.len, 16);
    assert_memory_equal(t.data.data, expected + 2, 16);
    talk_done(f, &t);
    ask_changes(f, &t, UINT64_MAX); /* only which point that is */
    assert_int_equal(t.last_sequence, 3);
    assert_int_equal(t.data.len, 0);
    talk_done(f, &t);
}

/* Asks with hashes of what `have` holds; what comes back makes it the disk of the point. */
static void ask_blocks(struct fixture *f, struct talk *t, uint8_t *have, uint64_t sequence)
{
    static struct hash128 hashes[256][16];
    static Leeward__Vault__V1__BlockHave blocks[256], *list[256];
    Leeward__Vault__V1__BlocksRequest q = LEEWARD__VAULT__V1__BLOCKS_REQUEST__INIT;
    uint64_t size = f->m.disk_bytes[0];
    q.have = list;
    for (uint64_t at = 0; at < size; at += 65536) {
        size_t n = q.n_have++, pieces = 0;
        blocks[n] = (Leeward__Vault__V1__BlockHave)LEEWARD__VAULT__V1__BLOCK_HAVE__INIT;
        blocks[n].start = at;
        blocks[n].length = size - at < 65536 ? (uint32_t)(size - at) : 65536;
        for (uint32_t p = 0; p < blocks[n].length; p += 4096)
            hash_128(have + at + p, blocks[n].length - p < 4096 ? blocks[n].length - p : 4096, &hashes[n][pieces++]);
        blocks[n].hashes = (ProtobufCBinaryData){pieces * HASH_SIZE, (uint8_t *)hashes[n]};
        list[n] = &blocks[n];
    }
    talk_start(f, t, "/leeward.vault.v1.Vault/Blocks", &leeward__vault__v1__range_chunk__descriptor);
    t->image = have;
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->m.conf.machine.bytes};
    q.sequence = sequence;
    talk_send(t, &q.base);
    rpc_call_half_close(t->call);
    pump(f, &t->ended);
}

static void blocks_send_what_differs_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    uint64_t size = f->m.disk_bytes[0];
    uint8_t *have AUTO_FREE = malloc(size);
    stream_open(f, &t, 1);
    for (int i = 0; i < 30; i++)
        model_random_write(&f->m);
    stream_commit(f, &t);
    talk_done(f, &t);
    memcpy(have, f->m.disks[0], size);
    ask_blocks(f, &t, have, 1);
    assert_int_equal(t.status, RPC_OK);
    assert_int_equal(t.messages, 0); /* it is the same */
    talk_done(f, &t);
    have[5000] ^= 1;             /* one piece */
    have[65536 * 2 + 4095] ^= 1; /* two neighbours */
    have[65536 * 2 + 4096] ^= 1;
    have[size - 1] ^= 1; /* the last one of the disk */
    ask_blocks(f, &t, have, 1);
    assert_int_equal(t.status, RPC_OK);
    assert_int_equal(t.messages, 3);
    assert_true(t.data.len <= 4 * 4096);
    assert_memory_equal(have, f->m.disks[0], size);
    talk_done(f, &t);
    memset(have, 0x5a, size);
    ask_blocks(f, &t, have, 1);
    assert_memory_equal(have, f->m.disks[0], size);
    talk_done(f, &t);
}

static void blocks_that_are_none_are_refused(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    static uint8_t hashes[16 * HASH_SIZE];
    static const struct {
        uint64_t start;
        uint32_t length;
        size_t hash_bytes;
    } bad[] = {{512, 4096, HASH_SIZE}, {0, 0, 0}, {0, 65537, 17 * HASH_SIZE}, {0, 4096, 2 * HASH_SIZE}, {0, 4096, 7},
        {UINT64_MAX - 65535, 65536, sizeof(hashes)}, {1ull << 40, 4096, HASH_SIZE}};
    commit_points(f, 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        Leeward__Vault__V1__BlocksRequest q = LEEWARD__VAULT__V1__BLOCKS_REQUEST__INIT;
        Leeward__Vault__V1__BlockHave have = LEEWARD__VAULT__V1__BLOCK_HAVE__INIT, *list[] = {&have};
        have.start = bad[i].start;
        have.length = bad[i].length;
        have.hashes =
            (ProtobufCBinaryData){bad[i].hash_bytes > sizeof(hashes) ? sizeof(hashes) : bad[i].hash_bytes, hashes};
        q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->m.conf.machine.bytes};
        q.sequence = 1;
        q.n_have = 1;
        q.have = list;
        talk_start(f, &t, "/leeward.vault.v1.Vault/Blocks", &leeward__vault__v1__range_chunk__descriptor);
        talk_send(&t, &q.base);
        rpc_call_half_close(t.call);
        pump(f, &t.ended);
        if (t.status != RPC_INVALID_ARGUMENT)
            fail_msg("block %zu: status %d", i, (int)t.status);
        talk_done(f, &t);
    }
}

/* Changes a byte of the payload of the n-th record of that kind of the log, from 1. */
static void damage_record(const struct fixture *f, enum record_kind kind, unsigned n)
{
    char path[400];
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    struct record r;
    const uint8_t *payload;
    uint64_t offset = SEGMENT_HEADER_SIZE, at = 0;
    (void)snprintf(path, sizeof(path), "%s/main", f->m.machine_dir);
    int dirfd AUTO_CLOSE = open(path, O_RDONLY | O_DIRECTORY);
    assert_int_equal(segment_open(dirfd, 1, &reader, NULL), 0);
    while (n > 0) {
        at = offset;
        assert_int_equal(segment_read_next(reader, &offset, &r, &payload, NULL), 1);
        n -= r.kind == kind;
    }
    (void)snprintf(path, sizeof(path), "%s/main/0000000000000001.seg", f->m.machine_dir);
    int fd AUTO_CLOSE = open(path, O_RDWR);
    uint8_t byte;
    off_t where = (off_t)(at + RECORD_HEADER_SIZE + 40);
    assert_int_equal(pread(fd, &byte, 1, where), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, where), 1);
}

/* A resynchronization over damage must bring the source's content, not fail. */
static void a_block_that_cannot_be_read_has_the_hash_of_none(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    Leeward__Vault__V1__HashesRequest q = LEEWARD__VAULT__V1__HASHES_REQUEST__INIT;
    static const uint8_t none[HASH_SIZE];
    stream_open(f, &t, 1);
    model_write(&f->m, 0, 0, 4 * 65536, false);
    model_write(&f->m, 0, 70000 / 512 * 512, 4096, true); /* so block 1 is not one whole record: it is read */
    model_mark_at(&f->m, MARK_PROGRESS, ++f->sequence, 1);
    stream_batch(f, &t);
    pump_committed(f, &t, 1);
    talk_done(f, &t);
    damage_record(f, RECORD_DATA, 2);
    talk_start(f, &t, "/leeward.vault.v1.Vault/Hashes", &leeward__vault__v1__hash_chunk__descriptor);
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->m.conf.machine.bytes};
    q.block_bytes = 65536;
    q.length = 4 * 65536;
    talk_send(&t, &q.base);
    rpc_call_half_close(t.call);
    pump(f, &t.ended);
    assert_int_equal(t.status, RPC_OK);
    assert_int_equal(t.data.len, 4 * HASH_SIZE);
    for (unsigned i = 0; i < 4; i++) {
        struct hash128 hash;
        hash_128(f->m.disks[0] + i * 65536, 65536, &hash);
        assert_memory_equal(t.data.data + i * HASH_SIZE, i == 1 ? none : hash.bytes, HASH_SIZE);
    }
    talk_done(f, &t);
}

/* A copy's vault tells by it what is lost there, too, from what it may ask for again. */
static void a_block_that_is_damaged_is_told_as_such(void **state)
{
    struct fixture *f = *state;
    struct talk t;
    uint8_t *have AUTO_FREE = malloc(f->m.disk_bytes[0]);
    stream_open(f, &t, 1);
    model_write(&f->m, 0, 0, 4 * 65536, false);
    model_write(&f->m, 0, 70000 / 512 * 512, 4096, true);
    stream_commit(f, &t);
    talk_done(f, &t);
    damage_record(f, RECORD_DATA, 2);
    memset(have, 0x5a, f->m.disk_bytes[0]);
    ask_blocks(f, &t, have, 1);
    assert_int_equal(t.status, RPC_DATA_LOSS);
    talk_done(f, &t);
}

static void a_damaged_mark_does_not_hide_the_other_points(void **state)
{
    struct fixture *f = *state;
    uint64_t last;
    commit_points(f, 3);
    assert_int_equal(points_listed(f, &last), 3);
    damage_record(f, RECORD_MARK, 2);
    assert_int_equal(points_listed(f, &last), 2);
    assert_int_equal(last, 3);
}

struct outcome {
    bool done;
    bool ok;
    char socket[120];
};

static void on_opened(void *arg, struct opening *o, const struct err *err)
{
    struct outcome *r = arg;
    r->done = true;
    r->ok = o != NULL;
    if (o != NULL)
        (void)snprintf(r->socket, sizeof(r->socket), "%s", opening_socket(o));
    else
        (void)fprintf(stderr, "not opened: %s\n", err->text);
}

static void on_closed(void *arg, const struct err *err)
{
    struct outcome *r = arg;
    r->done = true;
    r->ok = err == NULL;
}

static void check_served(struct fixture *f, const char *socket, const uint8_t *expected)
{
    char command[600], copy[100];
    struct buf got AUTO_BUF = BUF_INIT(16u << 20);
    struct err err = ERR_INIT;
    (void)snprintf(copy, sizeof(copy), "%s/copy", f->m.dir);
    (void)snprintf(command, sizeof(command), "nbdcopy 'nbd+unix:///0?socket=%s' %s", socket, copy);
    assert_int_equal(system(command), 0);
    assert_int_equal(file_read(copy, &got, &err), 0);
    assert_int_equal(got.len, f->m.disk_bytes[0]);
    assert_memory_equal(got.data, expected, got.len);
    (void)unlink(copy);
}

static pid_t child_of(const char *socket)
{
    char path[400];
    struct buf text AUTO_BUF = BUF_INIT(64);
    (void)snprintf(path, sizeof(path), "%s.pid", socket);
    return file_read(path, &text, NULL) < 0 ? 0 : (pid_t)strtol(buf_str(&text, NULL), NULL, 10);
}

static void a_killed_nbdkit_is_started_again(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct outcome r = {0};
    struct opening_spec spec = {
        .export_id = "00000000-0000-4000-8000-000000000002", .machine_id = f->machine_text, .socket = ""};
    uint64_t end = clock_mono_usec() + WAIT_USEC;
    if (!VAULT_SERVES) {
        print_message("nbdkit cannot load a plugin that is built with sanitizers\n");
        skip();
    }
    commit_points(f, 1);
    assert_int_equal(opening_open(f->d, &spec, on_opened, &r, &err), 0);
    pump(f, &r.done);
    assert_true(r.ok);
    pid_t first = child_of(r.socket);
    assert_true(first > 0);
    assert_int_equal(kill(first, SIGKILL), 0);
    for (pid_t now = first; now == first || now == 0; now = child_of(r.socket)) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 20000) >= 0);
    }
    check_served(f, r.socket, f->m.points[0].disks[0]);
}

/* Runs until the export serves again; *r: where. */
static void pump_open_again(struct fixture *f, const struct opening_spec *spec, struct outcome *r)
{
    uint64_t end = clock_mono_usec() + WAIT_USEC;
    struct err err = ERR_INIT;
    *r = (struct outcome){0};
    while (!r->ok && clock_mono_usec() < end) {
        r->done = false;
        if (opening_open(f->d, spec, on_opened, r, &err) == 0)
            pump(f, &r->done);
        else
            assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
    assert_true(r->ok);
}

static void an_open_point_is_served_and_opened_again_after_a_restart(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct outcome r = {0};
    struct opening_spec spec = {.export_id = "00000000-0000-4000-8000-000000000001",
        .machine_id = f->machine_text,
        .sequence = 2,
        .write = true,
        .socket = ""};
    if (!VAULT_SERVES) {
        print_message("nbdkit cannot load a plugin that is built with sanitizers\n");
        skip();
    }
    commit_points(f, 3);
    assert_int_equal(opening_open(f->d, &spec, on_opened, &r, &err), 0);
    pump(f, &r.done);
    assert_true(r.ok);
    check_served(f, r.socket, f->m.points[1].disks[0]);
    restart(f);
    struct outcome second;
    pump_open_again(f, &spec, &second);
    check_served(f, second.socket, f->m.points[1].disks[0]);
    r.done = false;
    assert_int_equal(opening_close(f->d, spec.export_id, true, on_closed, &r, &err), 0);
    pump(f, &r.done);
    assert_true(r.ok);
    assert_int_equal(access(r.socket, F_OK), -1);
}

/* What is open is a running machine's disk: trouble of the vault's disk when it starts must not end that. */
static void an_open_point_outlives_a_start_that_could_not_read_the_disk(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct outcome r = {0};
    char path[300], aside[300];
    struct opening_spec spec = {.export_id = "00000000-0000-4000-8000-000000000001",
        .machine_id = f->machine_text,
        .sequence = 1,
        .socket = ""};
    if (!VAULT_SERVES) {
        print_message("nbdkit cannot load a plugin that is built with sanitizers\n");
        skip();
    }
    commit_points(f, 1);
    assert_int_equal(opening_open(f->d, &spec, on_opened, &r, &err), 0);
    pump(f, &r.done);
    assert_true(r.ok);
    stop(f);
    (void)snprintf(path, sizeof(path), "%s/meta", f->m.machine_dir);
    (void)snprintf(aside, sizeof(aside), "%s/aside", f->m.machine_dir);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(mkdir(path, 0700), 0); /* reading it is an I/O error */
    start(f);
    for (uint64_t end = clock_mono_usec() + 3 * USEC_PER_SEC; clock_mono_usec() < end;)
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    for (uint64_t end = clock_mono_usec() + WAIT_USEC; f->d->openings->state != OPENING_WAITING;) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
    mem_fail_at(1);
    opening_again(f->d->openings); /* nor may want of memory */
    mem_fail_at(0);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(aside, path), 0);
    assert_non_null(f->d->openings);
    pump_open_again(f, &spec, &r);
    check_served(f, r.socket, f->m.points[0].disks[0]);
}

static void an_open_point_that_is_gone_is_given_up(void **state)
{
    struct fixture *f = *state;
    char path[300];
    commit_points(f, 1);
    stop(f);
    (void)snprintf(path, sizeof(path), "%s/exports/00000000-0000-4000-8000-000000000001.json", f->data_dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file, "{\"machine_id\":\"%s\",\"sequence\":7,\"write\":false,\"socket\":\"%s/x.sock\"}",
        f->machine_text, f->m.dir);
    assert_int_equal(fclose(file), 0);
    start(f);
    for (uint64_t end = clock_mono_usec() + 20 * USEC_PER_SEC; f->d->openings != NULL;) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
    assert_int_equal(access(path, F_OK), -1);
}

static void a_second_vault_on_the_same_folder_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct vaultd *second = NULL;
    struct vaultd_conf conf = {.data_dir = f->data_dir, .listen = "unix:/nowhere", .plugin = "", .threads = 1};
    assert_int_equal(vaultd_new(f->loop, &conf, &second, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
}

/* ---- healing ---- */

static void pump_healed(struct fixture *f, const struct vmachine *vm)
{
    for (uint64_t end = clock_mono_usec() + WAIT_USEC; vm->healing;) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
}

/* Of the first record of the log, which later ones have overwritten. */
static void damage_history(struct fixture *f, const struct seal_key *key, struct verify_result *ret_found)
{
    struct err err = ERR_INIT;
    char path[300];
    uint8_t noise[64] = {1, 2, 3};
    (void)snprintf(path, sizeof(path), "%s/main/0000000000000001.seg", f->m.machine_dir);
    int fd AUTO_CLOSE = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, noise, sizeof(noise), SEGMENT_HEADER_SIZE + RECORD_HEADER_SIZE), sizeof(noise));
    struct verify_spec spec = {.machine_dir = f->m.machine_dir, .machine = f->m.conf.machine, .until_sequence = 3};
    keyring_init(&spec.keys, key);
    assert_int_equal(verify_run(&spec, ret_found, &err), 0);
    assert_true(ret_found->damage_count > 0);
}

static void what_cannot_be_healed_is_tried_ever_more_seldom(void **state)
{
    struct fixture *f = *state;
    struct verify_result found;
    struct talk t;
    char url[160];
    (void)snprintf(url, sizeof(url), "file://%s/bucket", f->m.dir);
    f->bucket = (struct bucketconf){.url = url};
    restart(f);
    assert_int_equal(file_remove_tree(url + strlen("file://"), NULL), 0);
    FILE *file = fopen(url + strlen("file://"), "w"); /* no folder: the bucket cannot be read */
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    stream_open(f, &t, 1);
    for (int i = 0; i < 3; i++) {
        model_write(&f->m, 0, 0, 65536, false);
        stream_commit(f, &t);
    }
    talk_done(f, &t);
    struct vmachine *vm = vaultd_machine(f->d, &f->m.conf.machine);
    damage_history(f, &t.open.data_key, &found);
    vaultheal_found(vm, 0, &found, NULL, NULL);
    verify_result_done(&found);
    pump_healed(f, vm);
    assert_true(vm->quarantine.count > 0);
    assert_int_not_equal(vm->copy_told, ERR_NONE);
    uint64_t pause = vm->heal_copy.pause_usec;
    assert_true(pause >= 60 * USEC_PER_SEC);
    for (int i = 0; i < 12; i++) {
        vaultheal_tick(vm, vm->heal_copy.due_usec - 1);
        assert_false(vm->healing);
        vaultheal_tick(vm, vm->heal_copy.due_usec);
        assert_true(vm->healing);
        pump_healed(f, vm);
        uint64_t next = vm->heal_copy.pause_usec;
        assert_true(i < 3 ? next >= pause * 2 : next >= pause);
        assert_true(next <= 6 * 3600 * USEC_PER_SEC);
        pause = next;
    }
    vaultheal_tick(vm, vm->heal_copy.due_usec + 3600 * USEC_PER_SEC);
    pump_healed(f, vm);
    assert_int_equal(vm->heal_copy.pause_usec, pause); /* its bound */
    f->bucket.url = NULL;
    restart(f);
}

static void ask_damage(struct fixture *f, struct talk *t, uint64_t after_segment, uint64_t after_offset)
{
    Leeward__Vault__V1__DamageRequest q = LEEWARD__VAULT__V1__DAMAGE_REQUEST__INIT;
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->m.conf.machine.bytes};
    q.after_segment = after_segment;
    q.after_offset = after_offset;
    talk_start(f, t, "/leeward.vault.v1.Vault/Damage", &leeward__vault__v1__damaged_record__descriptor);
    talk_send(t, &q.base);
    pump(f, &t->ended);
    assert_int_equal(t->status, RPC_OK);
}

static void ask_newest(struct fixture *f, struct talk *t)
{
    Leeward__Vault__V1__ListPointsRequest q = LEEWARD__VAULT__V1__LIST_POINTS_REQUEST__INIT;
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->m.conf.machine.bytes};
    q.newest = true;
    talk_start(f, t, "/leeward.vault.v1.Vault/ListPoints", &leeward__vault__v1__point__descriptor);
    talk_send(t, &q.base);
    pump(f, &t->ended);
    assert_int_equal(t->status, RPC_OK);
}

static void ask_first(struct fixture *f, struct talk *t)
{
    Leeward__Vault__V1__ReadRangeRequest q = LEEWARD__VAULT__V1__READ_RANGE_REQUEST__INIT;
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->m.conf.machine.bytes};
    q.sequence = 1;
    q.length = 65536;
    talk_start(f, t, "/leeward.vault.v1.Vault/ReadRange", &leeward__vault__v1__range_chunk__descriptor);
    talk_send(t, &q.base);
    pump(f, &t->ended);
    assert_int_equal(t->status, RPC_OK);
}

/* One call with the same record so many times. */
static enum rpc_status send_mend(
    struct fixture *f, struct talk *t, const struct quarantine_item *at, uint8_t *data, size_t n, size_t count)
{
    Leeward__Vault__V1__MendRequest q = LEEWARD__VAULT__V1__MEND_REQUEST__INIT;
    Leeward__Vault__V1__MendedRecord record = LEEWARD__VAULT__V1__MENDED_RECORD__INIT, *list[16];
    for (size_t i = 0; i < 16; i++)
        list[i] = &record;
    record.segment = at->segment;
    record.offset = at->offset;
    record.data = (ProtobufCBinaryData){n, data};
    q.machine_id = (ProtobufCBinaryData){IDENT_SIZE, f->m.conf.machine.bytes};
    q.n_records = count;
    q.records = list;
    talk_start(f, t, "/leeward.vault.v1.Vault/Mend", &leeward__vault__v1__mend_reply__descriptor);
    talk_send(t, &q.base);
    pump(f, &t->ended);
    enum rpc_status status = t->status;
    talk_done(f, t);
    return status;
}

/* What is damaged is told with the newest point and by name; what has its hash heals it, and nothing else does anything. */
static void a_vault_with_a_copy_heals_what_is_damaged(void **state)
{
    struct fixture *f = *state;
    struct verify_result found;
    struct talk t;
    uint8_t *first = malloc(65536);
    stream_open(f, &t, 1);
    model_write(&f->m, 0, 0, 65536, false);
    memcpy(first, f->m.disks[0], 65536);
    stream_commit(f, &t);
    for (int i = 0; i < 2; i++) {
        model_write(&f->m, 0, 0, 65536, false);
        stream_commit(f, &t);
    }
    talk_done(f, &t);
    const struct seal_key key = t.open.data_key;
    struct vmachine *vm = vaultd_machine(f->d, &f->m.conf.machine);
    for (uint64_t end = clock_mono_usec() + WAIT_USEC; !vm->scrub_loaded;) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
    ask_damage(f, &t, 0, 0);
    assert_int_equal(t.messages, 0);
    talk_done(f, &t);
    damage_history(f, &key, &found);
    vaultheal_found(vm, 0, &found, NULL, NULL);
    verify_result_done(&found);
    pump_healed(f, vm);
    assert_int_equal(vm->quarantine.count, 1);
    const struct quarantine_item item = vm->quarantine.items[0];
    ask_newest(f, &t);
    assert_int_equal(t.damaged, 1);
    talk_done(f, &t);
    ask_damage(f, &t, 0, 0);
    assert_int_equal(t.messages, 1);
    talk_done(f, &t);
    ask_damage(f, &t, item.segment, item.offset);
    assert_int_equal(t.messages, 0);
    talk_done(f, &t);
    assert_int_equal(send_mend(f, &t, &item, first, 512, 16), RPC_INVALID_ARGUMENT);
    assert_int_equal(send_mend(f, &t, &item, first, 512, 0), RPC_INVALID_ARGUMENT);
    assert_int_equal(send_mend(f, &t, &item, first, 0, 1), RPC_INVALID_ARGUMENT);
    first[7] ^= 1;
    assert_int_equal(send_mend(f, &t, &item, first, 65536, 1), RPC_OK);
    assert_int_equal(t.mended, 0);
    assert_int_equal(vm->quarantine.items[0].state, QUARANTINE_DAMAGED);
    first[7] ^= 1;
    assert_int_equal(send_mend(f, &t, &(struct quarantine_item){.segment = 9}, first, 65536, 1), RPC_OK);
    assert_int_equal(t.mended, 0);
    assert_int_equal(send_mend(f, &t, &item, first, 65536, 2), RPC_OK);
    assert_int_equal(t.mended, 1);
    assert_int_equal(vm->quarantine.items[0].state, QUARANTINE_HEALED);
    assert_int_equal(vm->points_hit, 0);
    ask_newest(f, &t);
    assert_int_equal(t.damaged, 0);
    talk_done(f, &t);
    ask_first(f, &t);
    assert_int_equal(t.data.len, 65536);
    assert_memory_equal(t.data.data, first, 65536);
    talk_done(f, &t);
    free(first);
    restart(f); /* the list has it, too */
    struct quarantine q;
    struct err err = ERR_INIT;
    assert_int_equal(quarantine_load(f->m.machine_dir, &f->m.conf.machine, &q, &err), 0);
    assert_true(q.count == 1 && q.items[0].state == QUARANTINE_HEALED);
    quarantine_done(&q);
}

/* A first copy was checked as it came in, and reading it again would take from it what it needs itself. */
static void what_no_point_shows_is_not_verified_in_the_background(void **state)
{
    struct fixture *f = *state;
    struct vmachine *vm = vaultd_machine(f->d, &f->m.conf.machine);
    struct talk t;
    f->d->conf.scrub_rate = 64u << 20;
    f->d->conf.scrub_every_usec = 60 * USEC_PER_SEC;
    stream_open(f, &t, 1);
    model_write(&f->m, 0, 0, 65536, false);
    model_mark_at(&f->m, MARK_PROGRESS, ++f->sequence, 1);
    stream_batch(f, &t);
    pump_committed(f, &t, f->sequence);
    for (uint64_t end = clock_mono_usec() + WAIT_USEC; !vm->scrub_loaded;) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
    vaultscrub_tick(f->d);
    assert_null(f->d->scrubbing);
    assert_int_equal(vm->scrubbed.started_utc_usec, 0);
    assert_int_equal(vm->scrubbed.last_finished_utc_usec, 0);
    stream_commit(f, &t);
    for (uint64_t end = clock_mono_usec() + WAIT_USEC; vm->scrubbed.last_finished_utc_usec == 0;) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
    talk_done(f, &t);
}

/* Of a vault that was just started, and was asked what it lacks before that. */
static void what_is_offered_before_the_list_was_read_does_not_wipe_it(void **state)
{
    struct fixture *f = *state;
    struct verify_result found;
    struct talk t;
    struct quarantine q;
    struct err err = ERR_INIT;
    uint8_t *block = calloc(1, 65536);
    stream_open(f, &t, 1);
    for (int i = 0; i < 3; i++) {
        model_write(&f->m, 0, 0, 65536, false);
        stream_commit(f, &t);
    }
    talk_done(f, &t);
    const struct seal_key key = t.open.data_key;
    struct vmachine *vm = vaultd_machine(f->d, &f->m.conf.machine);
    damage_history(f, &key, &found);
    vaultheal_found(vm, 0, &found, NULL, NULL);
    verify_result_done(&found);
    pump_healed(f, vm);
    assert_int_equal(vm->quarantine.count, 1);
    const struct quarantine_item item = vm->quarantine.items[0];
    restart(f);
    vm = vaultd_machine(f->d, &f->m.conf.machine);
    vm->scrub_loading = true; /* it takes long */
    assert_int_equal(send_mend(f, &t, &item, block, 65536, 1), RPC_OK);
    assert_int_equal(t.mended, 0);
    assert_int_equal(quarantine_load(f->m.machine_dir, &f->m.conf.machine, &q, &err), 0);
    assert_int_equal(q.count, 1);
    quarantine_done(&q);
    vm->scrub_loading = false;
    free(block);
}

/* A job that heals writes into the machine's folder, and would make it again. */
static void an_erasure_waits_for_healing(void **state)
{
    struct fixture *f = *state;
    struct vmachine *vm = vaultd_machine(f->d, &f->m.conf.machine);
    struct talk t;
    uint64_t end;
    commit_points(f, 1);
    for (end = clock_mono_usec() + WAIT_USEC; vm->stream != NULL;) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
    assert_true(vm->last_point > 0);
    vm->healing = true;
    vaulterase_start(f->d, "0a0a0a0a-0000-4000-8000-000000000001", f->machine_text);
    for (int i = 0; i < 20; i++) {
        assert_true(sd_event_run(f->loop, 1000) >= 0);
        vaulterase_tick(vm, clock_mono_usec());
        assert_non_null(vm->erase);
        assert_int_equal(access(f->m.machine_dir, F_OK), 0);
    }
    vm->healing = false;
    vaulterase_tick(vm, clock_mono_usec());
    assert_null(vm->erase);
    for (end = clock_mono_usec() + WAIT_USEC; access(f->m.machine_dir, F_OK) == 0;) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
    for (end = clock_mono_usec() + WAIT_USEC; vm->last_point != 0;) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
    vaultupkeep_flush(vm); /* as compaction, verification or a call do that was under way */
    for (end = clock_mono_usec() + WAIT_USEC; vm->flushing;) {
        assert_true(clock_mono_usec() < end);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
    assert_int_equal(access(f->m.machine_dir, F_OK), -1);
    apply(f); /* the hub gives it again */
    stream_open(f, &t, 1);
    talk_done(f, &t);
    assert_int_equal(access(f->m.machine_dir, F_OK), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_stream_commits_points_that_survive_a_restart),
        TEST(many_batches_in_flight_commit_in_order),
        TEST(a_newer_epoch_ends_the_older_stream),
        TEST(a_stale_generation_is_refused_with_failed_precondition),
        TEST(an_unknown_machine_is_refused),
        TEST(hundreds_of_streams_of_one_node_leave_room_for_more),
        TEST(retention_leaves_a_copy_what_it_needs),
        TEST(a_damaged_batch_ends_the_stream_and_costs_nothing),
        TEST(a_full_disk_is_resource_exhausted),
        TEST(a_disk_with_ample_room_is_not_full_for_ever),
        TEST(points_and_ranges_can_be_read),
        TEST(retention_goes_by_its_own_clock),
        TEST(retention_drops_points_by_policy_and_keeps_the_newest),
        TEST(group_points_are_thinned_by_the_time_in_their_ids_after_a_restart),
        TEST(what_was_dropped_is_told_until_the_hub_has_it),
        TEST(not_to_know_what_was_dropped_is_forgotten_when_its_time_comes),
        TEST(points_go_from_a_disk_that_has_no_room_to_note_it),
        TEST(what_was_dropped_is_told_where_dropping_failed_behind_it),
        TEST(nothing_is_told_where_there_was_no_room_to_drop),
        TEST(a_machine_that_cannot_be_opened_is_told_once),
        TEST(without_the_note_of_what_was_dropped_the_full_list_is_told_once),
        TEST(hashes_are_those_of_the_latest_content),
        TEST(changes_name_what_was_written_between_two_points),
        TEST(blocks_send_what_differs_and_nothing_else),
        TEST(blocks_that_are_none_are_refused),
        TEST(a_block_that_cannot_be_read_has_the_hash_of_none),
        TEST(a_block_that_is_damaged_is_told_as_such),
        TEST(a_damaged_mark_does_not_hide_the_other_points),
        TEST(a_killed_nbdkit_is_started_again),
        TEST(an_open_point_is_served_and_opened_again_after_a_restart),
        TEST(an_open_point_outlives_a_start_that_could_not_read_the_disk),
        TEST(an_open_point_that_is_gone_is_given_up),
        TEST(what_cannot_be_healed_is_tried_ever_more_seldom),
        TEST(a_vault_with_a_copy_heals_what_is_damaged),
        TEST(what_no_point_shows_is_not_verified_in_the_background),
        TEST(what_is_offered_before_the_list_was_read_does_not_wipe_it),
        TEST(an_erasure_waits_for_healing),
        TEST(a_second_vault_on_the_same_folder_is_refused),
    };
    return cmocka_run_group_tests_name("vaultd", tests, NULL, NULL);
}
