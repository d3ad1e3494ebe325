/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing a disk back, with a real loop disk and a vault over a real socket that answers well or badly: what it says wrongly is refused
 * before a byte of it is on the disk, and the calls of the waiting thread end whatever happens.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mobility/inventory.h"
#include "mobility/sync/receive_disk.h"
#include "tests/unit/mobility/sync/diskkey.h"
#include "tests/unit/mobility/track/loopdisk.h"
#include "transport/base/clock.h"
#include "transport/base/hash.h"
#include "transport/loop/loop.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/proto/wire.h"

#define SIZE ((1u << 20) + 8192u) /* the last block is not a whole one */
#define BLOCK 65536u
#define POINT 7

/* What the vault does wrong. */
enum wrong {
    RIGHT,
    CHANGES_NO_POINT,
    CHANGES_HALF_RANGE,
    CHANGES_BEHIND_DISK,
    CHANGES_WRAP,
    CHANGES_LARGER_DISK,
    CHANGES_RUBBISH,
    CHANGES_NOTHING,
    CHANGES_STATUS,
    HASHES_OTHER_BLOCKS,
    HASHES_OTHER_PLACE,
    HASHES_HALF_A_HASH,
    HASHES_TOO_FEW,
    HASHES_TOO_MANY,
    BLOCKS_OTHER_PLACE,
    BLOCKS_TOO_LONG,
    BLOCKS_HALF_A_SECTOR,
    BLOCKS_EMPTY,
    BLOCKS_ENDLESS_ZEROS,
    BLOCKS_RUBBISH,
    WRONG_COUNT
};

struct fixture {
    struct loopdisk loop_disk;
    struct receive_disk *disk;
    char key[256], dir[64], address[100];
    uint8_t *image;
    atomic_int wrong;
    atomic_bool stop, away; /* away: there is no channel */
    atomic_bool silent;     /* the vault gives no answer, and the one who asks is told to give up */
    atomic_bool cut_off;    /* its calls end as those whose channel was taken away */
    atomic_int given_up;    /* calls that were */
    pthread_t thread;
    sd_event *loop;
    struct loop_bell *bell;
    struct rpc_server *server;
    struct rpc_channel *channel;
    struct vaultask *ask;
    struct receive_figures figures;
    unsigned allowed; /* how often goes_on says yes */
    unsigned foreign; /* how often somebody else writes to the disk when it is asked */
};

/* ---- the vault ---- */

static void answer(struct rpc_call *call, const ProtobufCMessage *m)
{
    struct buf b AUTO_BUF = BUF_INIT(8u << 20);
    if (wire_pack(m, &b, NULL) == 0)
        (void)rpc_call_send(call, &b, NULL);
}

static void rubbish(struct rpc_call *call)
{
    static const uint8_t bytes[] = {0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3};
    struct buf b AUTO_BUF = BUF_INIT(100);
    if (buf_append(&b, bytes, sizeof(bytes), NULL) == 0)
        (void)rpc_call_send(call, &b, NULL);
}

static void on_changes(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fixture *f = arg;
    if (atomic_load(&f->cut_off)) {
        rpc_call_finish(call, RPC_CANCELLED, "the call is over");
        return;
    }
    Leeward__Vault__V1__ChangeChunk c = LEEWARD__VAULT__V1__CHANGE_CHUNK__INIT;
    int wrong = atomic_load(&f->wrong);
    uint64_t starts[] = {0, 3 * BLOCK + 512}, lengths[] = {BLOCK, 1024};
    uint32_t disks[] = {0, 3};
    ProtobufCMessage *m = NULL;
    if (wire_unpack(&leeward__vault__v1__changes_request__descriptor, message->data, message->len, &m, NULL) < 0) {
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, NULL);
        return;
    }
    bool ranges = ((Leeward__Vault__V1__ChangesRequest *)m)->after_sequence != UINT64_MAX;
    wire_free(m);
    c.sequence = wrong == CHANGES_NO_POINT ? 0 : POINT;
    c.size_bytes = wrong == CHANGES_LARGER_DISK ? SIZE + 512 : SIZE;
    c.starts = starts;
    c.lengths = lengths;
    c.n_starts = c.n_lengths = ranges ? 2 : 0;
    c.disks = disks;
    c.n_disks = 2;
    if (wrong == CHANGES_HALF_RANGE)
        c.n_starts = 1, c.n_lengths = 0;
    if (wrong == CHANGES_BEHIND_DISK)
        lengths[1] = SIZE;
    if (wrong == CHANGES_WRAP)
        starts[1] = 512, lengths[1] = UINT64_MAX - 511;
    if (wrong == CHANGES_RUBBISH)
        rubbish(call);
    else if (wrong != CHANGES_NOTHING && wrong != CHANGES_STATUS)
        answer(call, &c.base);
    rpc_call_finish(call, wrong == CHANGES_STATUS ? RPC_FAILED_PRECONDITION : RPC_OK, "as the test says");
}

static void on_hashes(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fixture *f = arg;
    Leeward__Vault__V1__HashChunk c = LEEWARD__VAULT__V1__HASH_CHUNK__INIT;
    static uint8_t hashes[HASH_SIZE * 8192];
    int wrong = atomic_load(&f->wrong);
    size_t n = 0;
    (void)message;
    if (atomic_load(&f->silent)) {
        vaultask_give_up(f->ask, true);
        return;
    }
    memset(hashes, 0, sizeof(hashes));
    for (uint64_t at = 0; at < SIZE; at += BLOCK, n++) {
        struct hash128 h;
        hash_128(f->image + at, SIZE - at < BLOCK ? SIZE - at : BLOCK, &h);
        memcpy(hashes + n * HASH_SIZE, h.bytes, HASH_SIZE);
    }
    c.block_bytes = wrong == HASHES_OTHER_BLOCKS ? 4096 : BLOCK;
    c.start = wrong == HASHES_OTHER_PLACE ? BLOCK : 0;
    n = wrong == HASHES_TOO_FEW ? n - 1 : wrong == HASHES_TOO_MANY ? 8192 : n;
    c.hashes = (ProtobufCBinaryData){n * HASH_SIZE - (wrong == HASHES_HALF_A_HASH ? 8 : 0), hashes};
    answer(call, &c.base);
    rpc_call_finish(call, RPC_OK, NULL);
}

static void send_block(struct fixture *f, struct rpc_call *call, const Leeward__Vault__V1__BlockHave *have)
{
    Leeward__Vault__V1__RangeChunk c = LEEWARD__VAULT__V1__RANGE_CHUNK__INIT;
    static uint8_t long_one[2 * BLOCK];
    int wrong = atomic_load(&f->wrong);
    memset(long_one, 0xee, sizeof(long_one));
    c.start = have->start;
    c.data = (ProtobufCBinaryData){have->length, f->image + have->start};
    if (wrong == BLOCKS_OTHER_PLACE)
        c.start = 5 * BLOCK, c.data.data = long_one; /* which nobody asked for */
    if (wrong == BLOCKS_TOO_LONG)
        c.data = (ProtobufCBinaryData){sizeof(long_one), long_one};
    if (wrong == BLOCKS_HALF_A_SECTOR)
        c.data = (ProtobufCBinaryData){700, long_one};
    if (wrong == BLOCKS_EMPTY || wrong == BLOCKS_ENDLESS_ZEROS)
        c.data.len = 0;
    if (wrong == BLOCKS_ENDLESS_ZEROS)
        c.zero_length = UINT64_MAX - 511;
    answer(call, &c.base);
}

static void on_blocks(struct rpc_call *call, void *arg, struct buf *message)
{
    struct fixture *f = arg;
    ProtobufCMessage *m = NULL;
    if (wire_unpack(&leeward__vault__v1__blocks_request__descriptor, message->data, message->len, &m, NULL) < 0) {
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, NULL);
        return;
    }
    const Leeward__Vault__V1__BlocksRequest *q = (const Leeward__Vault__V1__BlocksRequest *)m;
    if (atomic_load(&f->wrong) == BLOCKS_RUBBISH)
        rubbish(call);
    for (size_t i = 0; i < q->n_have && atomic_load(&f->wrong) != BLOCKS_RUBBISH; i++)
        send_block(f, call, q->have[i]);
    wire_free(m);
    rpc_call_finish(call, RPC_OK, NULL);
}

static void on_end(struct rpc_call *call, void *arg, enum rpc_status status, const char *text)
{
    struct fixture *f = arg;
    (void)call;
    (void)text;
    if (status == RPC_CANCELLED)
        atomic_fetch_add(&f->given_up, 1);
}

#define METHOD(name)                                                                                                   \
    static const struct rpc_call_ops name##_ops = {.on_message = on_##name, .on_end = on_end, .auto_consume = true};   \
    static int accept_##name(                                                                                          \
        struct rpc_call *call, void *arg, const struct rpc_call_ops **ret_ops, void **ret_arg, struct err *err)        \
    {                                                                                                                  \
        (void)call;                                                                                                    \
        (void)err;                                                                                                     \
        *ret_ops = &name##_ops;                                                                                        \
        *ret_arg = arg;                                                                                                \
        return 0;                                                                                                      \
    }
METHOD(changes)
METHOD(hashes)
METHOD(blocks)

static const struct rpc_method methods[] = {{.path = "/leeward.vault.v1.Vault/Changes", .accept = accept_changes},
    {.path = "/leeward.vault.v1.Vault/Hashes", .accept = accept_hashes},
    {.path = "/leeward.vault.v1.Vault/Blocks", .accept = accept_blocks}};

/* ---- the loop ---- */

static void on_bell(void *arg)
{
    struct fixture *f = arg;
    if (vaultask_wants_channel(f->ask))
        vaultask_kick(f->ask, atomic_load(&f->away) ? NULL : f->channel);
}

static void to_loop(void *arg)
{
    loop_bell_post(((struct fixture *)arg)->bell);
}

static void *run_loop(void *arg)
{
    struct fixture *f = arg;
    while (!atomic_load(&f->stop))
        (void)sd_event_run(f->loop, 20000);
    return NULL;
}

/* ---- fixture ---- */

static int set_up(void **state, uint64_t patience_usec)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    temp_init(f->dir);
    loopdisk_init(&f->loop_disk, SIZE, 512, -1);
    disk_key_of(f->loop_disk.path, f->key, sizeof(f->key));
    f->image = random_bytes(SIZE);
    memset(f->image + 5 * BLOCK, 0, BLOCK);
    (void)snprintf(f->address, sizeof(f->address), "unix:%s/v.sock", f->dir);
    assert_int_equal(loop_new(NULL, NULL, &f->loop, &err), 0);
    assert_int_equal(vaultask_new(to_loop, f, patience_usec, &f->ask, &err), 0);
    assert_int_equal(loop_bell_new(f->loop, on_bell, f, &f->bell, &err), 0);
    assert_int_equal(rpc_server_new(f->loop, f->address, NULL, methods, 3, f, NULL, &f->server, &err), 0);
    assert_int_equal(rpc_channel_new(f->loop, f->address, NULL, NULL, NULL, NULL, &f->channel, &err), 0);
    assert_int_equal(pthread_create(&f->thread, NULL, run_loop, f), 0);
    f->allowed = 1000;
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return set_up(state, 0);
}

static int setup_patient(void **state)
{
    return set_up(state, USEC_PER_SEC);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    receive_disk_close(f->disk);
    atomic_store(&f->stop, true);
    loop_bell_post(f->bell);
    (void)pthread_join(f->thread, NULL);
    rpc_channel_free(f->channel);
    rpc_server_free(f->server);
    loop_bell_free(f->bell);
    vaultask_free(f->ask);
    loop_free(f->loop);
    loopdisk_done(&f->loop_disk);
    temp_done(f->dir);
    free(f->image);
    free(f);
    return 0;
}

static bool goes_on(void *arg, uint64_t at_bytes, uint64_t size_bytes)
{
    struct fixture *f = arg;
    assert_true(at_bytes < size_bytes);
    if (f->foreign > 0) {
        uint8_t *data = random_bytes(4096);
        loopdisk_write(&f->loop_disk, at_bytes > 0 ? 0 : 7 * BLOCK, data, 4096);
        free(data);
        f->foreign--;
    }
    return f->allowed > 0 && f->allowed-- > 0;
}

static struct receive_pass pass_of(struct fixture *f, uint64_t after)
{
    return (struct receive_pass){.ask = f->ask,
        .machine = {{7}},
        .sequence = POINT,
        .after = after,
        .figures = &f->figures,
        .goes_on = goes_on,
        .arg = f};
}

static void open_disk(struct fixture *f)
{
    struct err err = ERR_INIT;
    if (receive_disk_open(f->key, 0, &f->disk, &err) < 0)
        fail_msg("%s", err.text);
}

static uint8_t *content(struct fixture *f)
{
    uint8_t *got = random_bytes(SIZE);
    loopdisk_read(&f->loop_disk, 0, got, SIZE);
    return got;
}

static void check_content(struct fixture *f, const uint8_t *right)
{
    uint8_t *got = content(f);
    assert_memory_equal(got, right, SIZE);
    free(got);
}

/* ---- tests ---- */

static void what_differs_is_written_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint64_t sequence = 0;
    open_disk(f);
    struct receive_pass pass = pass_of(f, 0);
    assert_int_equal(receive_disk_look(f->disk, &pass, &sequence, &err), 0);
    assert_int_equal(sequence, POINT);
    if (receive_disk_pass(f->disk, &pass, &err) < 0)
        fail_msg("%s", err.text);
    check_content(f, f->image);
    assert_int_equal(f->figures.compared_bytes, SIZE);
    uint64_t written = f->figures.written_bytes;
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), 0);
    assert_int_equal(f->figures.written_bytes, written); /* it is the point already */
    /* A later pass looks only where the vault says that something changed. */
    f->image[10] ^= 1;
    f->image[3 * BLOCK + 600] ^= 1;
    struct receive_pass later = pass_of(f, POINT);
    assert_int_equal(receive_disk_pass(f->disk, &later, &err), 0);
    check_content(f, f->image);
    assert_int_equal(f->figures.compared_bytes, 2 * (uint64_t)SIZE + 2 * BLOCK);
}

/* Exclusively or not, whoever opened the device may write. */
static void what_others_wrote_between_two_passes_is_found(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint8_t *data = random_bytes(4096);
    open_disk(f);
    struct receive_pass pass = pass_of(f, 0), later = pass_of(f, POINT);
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), 0);
    loopdisk_write(&f->loop_disk, 7 * BLOCK, data, 4096); /* where nothing has changed in the vault */
    free(data);
    assert_int_equal(receive_disk_pass(f->disk, &later, &err), 0);
    check_content(f, f->image);
    uint64_t compared = f->figures.compared_bytes;
    assert_int_equal(receive_disk_pass(f->disk, &later, &err), 0); /* nobody else was there this time */
    assert_int_equal(f->figures.compared_bytes, compared + 2 * BLOCK);
}

/* It may be where the pass has been already, so the pass is made again; not for ever. */
static void what_others_write_into_a_pass_is_found(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    open_disk(f);
    struct receive_pass pass = pass_of(f, 0), later = pass_of(f, POINT);
    f->foreign = 2;
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), 0);
    assert_int_equal(f->foreign, 0);
    check_content(f, f->image);
    f->foreign = 1;
    assert_int_equal(receive_disk_pass(f->disk, &later, &err), 0);
    check_content(f, f->image);
    f->foreign = UINT_MAX;
    assert_int_equal(receive_disk_pass(f->disk, &later, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "somebody else writes"));
    assert_true(err.correction[0] != '\0');
    f->foreign = 0;
    err_clear(&err);
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), 0);
    check_content(f, f->image);
}

static void a_wrong_answer_is_refused_and_writes_nothing(void **state)
{
    struct fixture *f = *state;
    open_disk(f);
    uint8_t *before = content(f);
    for (int wrong = RIGHT + 1; wrong < WRONG_COUNT; wrong++) {
        struct err err = ERR_INIT;
        uint64_t sequence;
        bool of_ranges = wrong == CHANGES_BEHIND_DISK || wrong == CHANGES_WRAP || wrong == CHANGES_HALF_RANGE;
        struct receive_pass pass = pass_of(f, of_ranges ? 3 : 0);
        atomic_store(&f->wrong, wrong);
        int result = wrong == CHANGES_LARGER_DISK ? receive_disk_look(f->disk, &pass, &sequence, &err)
                                                  : receive_disk_pass(f->disk, &pass, &err);
        if (result == 0)
            fail_msg("answer %d was taken", wrong);
        bool refused = wrong == CHANGES_LARGER_DISK || wrong == CHANGES_STATUS;
        if (refused ? err.code != ERR_REFUSED : err.code != ERR_CORRUPT && err.code != ERR_INVALID)
            fail_msg("answer %d: %s (%s)", wrong, err.text, err_code_name(err.code));
        check_content(f, before);
    }
    atomic_store(&f->wrong, RIGHT);
    struct err err = ERR_INIT;
    struct receive_pass pass = pass_of(f, 0);
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), 0); /* and it goes on as if nothing had been */
    check_content(f, f->image);
    free(before);
}

static void no_disk_of_the_point_is_left_out(void **state)
{
    static const uint32_t all[] = {3, 0};
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint64_t sequence;
    open_disk(f);
    struct receive_pass pass = pass_of(f, 0);
    pass.numbers = all;
    pass.number_count = 2;
    assert_int_equal(receive_disk_look(f->disk, &pass, &sequence, &err), 0);
    pass.numbers = all + 1;
    pass.number_count = 1;
    assert_int_equal(receive_disk_look(f->disk, &pass, &sequence, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "a disk 3,"));
}

static void it_ends_when_told_to(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    open_disk(f);
    struct receive_pass pass = pass_of(f, 0);
    f->allowed = 1;
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    f->allowed = 1000;
    atomic_store(&f->away, true);
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    atomic_store(&f->away, false);
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), 0);
    vaultask_stop(f->ask);
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
}

/* Whoever ordered it would take a cancellation for the end of all. */
static void a_vault_that_stays_away_is_unavailable_and_not_cancelled(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    open_disk(f);
    struct receive_pass pass = pass_of(f, 0);
    atomic_store(&f->cut_off, true);
    uint64_t begin = clock_mono_usec();
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "the call is over"));
    assert_true(clock_mono_usec() - begin >= USEC_PER_SEC); /* it was patient */
    atomic_store(&f->cut_off, false);
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), 0);
    check_content(f, f->image);
}

/* Also where the vault is there and says nothing: neither the order nor the one after it waits for that answer. */
static void a_call_that_is_given_up_holds_nobody_up(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    open_disk(f);
    struct receive_pass pass = pass_of(f, 0);
    atomic_store(&f->silent, true);
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), -1); /* until that is taken back */
    assert_int_equal(err.code, ERR_CANCELLED);
    atomic_store(&f->silent, false);
    vaultask_give_up(f->ask, false);
    assert_int_equal(receive_disk_pass(f->disk, &pass, &err), 0);
    assert_int_equal(atomic_load(&f->given_up), 1); /* ended by us, not by its deadline */
}

static void a_disk_is_taken_for_oneself_alone(void **state)
{
    struct fixture *f = *state;
    struct receive_disk *other = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(receive_disk_open("serial:of no disk", 0, &other, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    open_disk(f);
    assert_int_equal(receive_disk_open(f->key, 0, &other, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_true(err.correction[0] != '\0');
    receive_disk_close(TAKE_PTR(f->disk));
    open_disk(f);
    assert_int_equal(receive_disk_sync(f->disk, &err), 0);
}

int __real_inventory_scan(const struct inventory_source *source, struct inventory **ret_inventory, struct err *err);
int __wrap_inventory_scan(const struct inventory_source *source, struct inventory **ret_inventory, struct err *err);

/* Another device is behind each name by the time that the look is over. */
static bool names_change_hands;

int __wrap_inventory_scan(const struct inventory_source *source, struct inventory **ret_inventory, struct err *err)
{
    int r = __real_inventory_scan(source, ret_inventory, err);

    for (size_t i = 0; r == 0 && names_change_hands && i < (*ret_inventory)->disk_count; i++)
        (*ret_inventory)->disks[i].sequence--;
    return r;
}

static void another_disk_under_the_name_is_not_written(void **state)
{
    struct fixture *f = *state;
    struct receive_disk *other = NULL;
    struct err err = ERR_INIT;

    names_change_hands = true;
    assert_int_equal(receive_disk_open(f->key, 0, &other, &err), -1);
    names_change_hands = false;
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_true(err.correction[0] != '\0');
    open_disk(f); /* nobody holds it */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(what_differs_is_written_and_nothing_else),
        TEST(what_others_wrote_between_two_passes_is_found), TEST(what_others_write_into_a_pass_is_found),
        TEST(a_wrong_answer_is_refused_and_writes_nothing), TEST(no_disk_of_the_point_is_left_out),
        TEST(it_ends_when_told_to), TEST(a_call_that_is_given_up_holds_nobody_up),
        cmocka_unit_test_setup_teardown(
            a_vault_that_stays_away_is_unavailable_and_not_cancelled, setup_patient, teardown),
        TEST(a_disk_is_taken_for_oneself_alone), TEST(another_disk_under_the_name_is_not_written)};
    if (!loopdisk_is_possible())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
