/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemon with copies of many machines: one that is seconds behind goes on beside more first copies than have places, under a limit and without one, and
 * beside a vault that hangs. What the other vaults answer is computed: a disk whose first block is another one in each point.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/hash.h"
#include "transport/base/log.h"
#include "transport/base/mem.h"
#include "transport/loop/loop.h"
#include "transport/proto/vault.pb-c.h"
#include "transport/proto/vaultask.h"
#include "transport/vault/vaultd.h"
#include "transport/vault/vaultd_private.h"

#define BLOCK 65536u
#define PIECE 4096u
#define DISK_BLOCKS 64u /* 4 MiB */
#define FIRST_COPIES 90u
#define MIB (1u << 20)
#define WAIT_USEC (20 * USEC_PER_SEC)
#define HANGS_USEC (2 * USEC_PER_SEC)

#define GOOD_VAULT "33333333-0000-4000-8000-000000000001"
#define HANGING_VAULT "33333333-0000-4000-8000-000000000002"

/* ---- the other vaults ---- */

static _Atomic uint64_t newest = 1; /* point, which is the same for all machines but those of the vault that hangs */
static struct hash128 hashes[DISK_BLOCKS];
static atomic_bool ends; /* nobody hangs any longer */

static void content(uint64_t sequence, uint64_t block, uint8_t *out)
{
    uint64_t x = (block == 0 ? sequence : 1) * 0x9e3779b97f4a7c15u + block;
    for (size_t i = 0; i < BLOCK; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(out + i, &x, 8);
    }
}

typedef int (*take_fn)(void *arg, const ProtobufCMessage *m, struct err *err);

static int answer_points(const Leeward__Vault__V1__ListPointsRequest *q, take_fn take, void *arg, struct err *err)
{
    Leeward__Vault__V1__Point point = LEEWARD__VAULT__V1__POINT__INIT;
    Leeward__Vault__V1__Disk disk = LEEWARD__VAULT__V1__DISK__INIT, *disks = &disk;
    if (q->marked || (!q->newest && q->after_sequence >= newest))
        return 0;
    disk.size_bytes = DISK_BLOCKS * BLOCK;
    disk.sector_bytes = 512;
    disk.name = (char *)(uintptr_t) "sda";
    point.machine_id = q->machine_id;
    point.sequence = q->newest ? newest : q->after_sequence + 1;
    point.time_utc_usec = 1700000000 * USEC_PER_SEC + point.sequence;
    point.kind = (char *)(uintptr_t) "crash";
    point.generation = 1;
    point.n_disks = 1;
    point.disks = &disks;
    return take(arg, &point.base, err);
}

static int answer_changes(const Leeward__Vault__V1__ChangesRequest *q, take_fn take, void *arg, struct err *err)
{
    Leeward__Vault__V1__ChangeChunk chunk = LEEWARD__VAULT__V1__CHANGE_CHUNK__INIT;
    uint64_t start = 0, length = BLOCK;
    chunk.sequence = q->sequence;
    chunk.size_bytes = DISK_BLOCKS * BLOCK;
    chunk.n_starts = chunk.n_lengths = 1;
    chunk.starts = &start;
    chunk.lengths = &length;
    return take(arg, &chunk.base, err);
}

static int answer_hashes(const Leeward__Vault__V1__HashesRequest *q, take_fn take, void *arg, struct err *err)
{
    Leeward__Vault__V1__HashChunk chunk = LEEWARD__VAULT__V1__HASH_CHUNK__INIT;
    chunk.start = q->start;
    chunk.block_bytes = BLOCK;
    chunk.hashes = (ProtobufCBinaryData){q->length / BLOCK * HASH_SIZE, hashes[q->start / BLOCK].bytes};
    return take(arg, &chunk.base, err);
}

static int answer_blocks(
    const Leeward__Vault__V1__BlocksRequest *q, take_fn take, void *arg, uint64_t *traffic, struct err *err)
{
    uint8_t data[BLOCK];
    for (size_t i = 0; i < q->n_have; i++) {
        const Leeward__Vault__V1__BlockHave *have = q->have[i];
        content(q->sequence, have->start / BLOCK, data);
        for (size_t at = 0; at < BLOCK; at += PIECE) {
            Leeward__Vault__V1__RangeChunk chunk = LEEWARD__VAULT__V1__RANGE_CHUNK__INIT;
            struct hash128 hash;
            hash_128(data + at, PIECE, &hash);
            if (memcmp(hash.bytes, have->hashes.data + at / PIECE * HASH_SIZE, HASH_SIZE) == 0)
                continue;
            chunk.start = have->start + at;
            chunk.data = (ProtobufCBinaryData){PIECE, data + at};
            chunk.hash = (ProtobufCBinaryData){HASH_SIZE, hash.bytes};
            *traffic += PIECE;
            if (take(arg, &chunk.base, err) < 0)
                return -1;
        }
    }
    return 0;
}

/* Machines of the vault that hangs have another first byte in their ids. */
static int hang(struct err *err)
{
    for (uint64_t until = clock_mono_usec() + HANGS_USEC; !ends && clock_mono_usec() < until;)
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    return err_set(err, ERR_TIMEOUT, "the vault did not answer");
}

int __wrap_vaultask_run(struct vaultask *v, const char *path, const ProtobufCMessage *request,
    const ProtobufCMessageDescriptor *answer, take_fn take, void *arg, uint64_t *traffic, struct err *err);

int __wrap_vaultask_run(struct vaultask *v, const char *path, const ProtobufCMessage *request,
    const ProtobufCMessageDescriptor *answer, take_fn take, void *arg, uint64_t *traffic, struct err *err)
{
    const char *method = strrchr(path, '/') + 1;
    const void *q = request;
    (void)v;
    (void)answer;
    *traffic += 100;
    if (strcmp(method, "ListPoints") == 0)
        return ((const Leeward__Vault__V1__ListPointsRequest *)q)->machine_id.data[0] == 0xff
                   ? hang(err)
                   : answer_points(q, take, arg, err);
    if (strcmp(method, "Changes") == 0)
        return answer_changes(q, take, arg, err);
    if (strcmp(method, "Hashes") == 0)
        return answer_hashes(q, take, arg, err);
    return answer_blocks(q, take, arg, traffic, err);
}

/* ---- the vault ---- */

struct fixture {
    sd_event *loop;
    struct vaultd *d;
    char dir[64], address[100];
    Leeward__Control__V1__VaultMachine machines[FIRST_COPIES + 2], *list[FIRST_COPIES + 2];
    char ids[FIRST_COPIES + 2][IDENT_TEXT_SIZE];
    size_t count;
    uint64_t rate;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    uint8_t data[BLOCK];
    log_set_level(LOG_ERROR);
    for (uint64_t i = 0; i < DISK_BLOCKS; i++) {
        content(1, i, data);
        hash_128(data, BLOCK, &hashes[i]);
    }
    newest = 1;
    ends = false;
    (void)snprintf(
        f->dir, sizeof(f->dir), "%s/leeward-copies-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->address, sizeof(f->address), "unix:%s/s", f->dir);
    char *data_dir = mem_printf("%s/vault", f->dir);
    const struct vaultd_conf conf = {.data_dir = data_dir, .listen = f->address, .plugin = "", .threads = 2};
    assert_int_equal(loop_new(NULL, NULL, &f->loop, &err), 0);
    if (vaultd_new(f->loop, &conf, &f->d, &err) < 0)
        fail_msg("%s", err.text);
    free(data_dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ends = true;
    vaultd_free(f->d);
    loop_free(f->loop);
    (void)file_remove_tree(f->dir, NULL);
    free(f);
    return 0;
}

static void apply(struct fixture *f)
{
    Leeward__Control__V1__VaultDesired desired = LEEWARD__CONTROL__V1__VAULT_DESIRED__INIT;
    desired.machines = f->list;
    desired.n_machines = f->count;
    desired.throttle_bytes_per_sec = f->rate;
    vaultd_apply(f->d, &desired);
}

static void add(struct fixture *f, unsigned count, bool hangs)
{
    for (unsigned i = 0; i < count; i++) {
        Leeward__Control__V1__VaultMachine *m = &f->machines[f->count];
        leeward__control__v1__vault_machine__init(m);
        (void)snprintf(
            f->ids[f->count], IDENT_TEXT_SIZE, "%s1111-0000-4000-8000-%012zu", hangs ? "ffff" : "1111", f->count);
        m->machine_id = f->ids[f->count];
        m->name = f->ids[f->count];
        m->generation = 1;
        m->copy_vault_id = (char *)(uintptr_t)(hangs ? HANGING_VAULT : GOOD_VAULT);
        m->copy_vault_endpoint = (char *)(uintptr_t)(hangs ? "unix:/nowhere/2" : "unix:/nowhere/1");
        m->copy_interval_usec = USEC_PER_SEC;
        f->list[f->count++] = m;
    }
}

static struct vmachine *machine(struct fixture *f, size_t at)
{
    struct ident id;
    assert_int_equal(ident_from_text(f->ids[at], &id), 0);
    return vaultd_machine(f->d, &id);
}

/* Until the machine's copy has one more point. How long that took. */
static uint64_t until_point(struct fixture *f, size_t at)
{
    uint64_t began = clock_mono_usec(), before = machine(f, at)->last_point;
    while (machine(f, at)->last_point == before) {
        if (clock_mono_usec() > began + WAIT_USEC)
            fail_msg("there was no point within %llu s", WAIT_USEC / USEC_PER_SEC);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
    return clock_mono_usec() - began;
}

static void run_for(struct fixture *f, uint64_t usec)
{
    for (uint64_t until = clock_mono_usec() + usec; clock_mono_usec() < until;)
        assert_true(sd_event_run(f->loop, 10000) >= 0);
}

/* How many first copies have come to their point. */
static unsigned count_done(struct fixture *f)
{
    unsigned count = 0;
    for (size_t i = 1; i < f->count; i++)
        count += machine(f, i)->last_point > 0;
    return count;
}

/* ---- the tests ---- */

static void a_copy_that_is_seconds_behind_goes_on_beside_first_copies(void **state)
{
    struct fixture *f = *state;
    add(f, 1, false);
    apply(f);
    (void)until_point(f, 0);
    f->rate = MIB;
    add(f, FIRST_COPIES, false); /* of 4 MiB each: six minutes */
    apply(f);
    run_for(f, 3 * USEC_PER_SEC);
    for (int i = 0; i < 3; i++) {
        newest++;
        assert_true(until_point(f, 0) < 8 * USEC_PER_SEC);
    }
    assert_int_equal(count_done(f), 0);
    f->rate = 0; /* and where there is no limit all of them come to their end, those first that had no place as well */
    apply(f);
    for (uint64_t until = clock_mono_usec() + 6 * WAIT_USEC; count_done(f) < FIRST_COPIES;) {
        assert_true(clock_mono_usec() < until);
        assert_true(sd_event_run(f->loop, 100000) >= 0);
    }
}

static void a_vault_that_hangs_does_not_keep_copies_of_another_one_waiting(void **state)
{
    struct fixture *f = *state;
    add(f, 1, false);
    apply(f);
    (void)until_point(f, 0);
    add(f, FIRST_COPIES, true);
    apply(f);
    run_for(f, 1500 * USEC_PER_MSEC); /* they all ask */
    for (int i = 0; i < 3; i++) {
        newest++;
        assert_true(until_point(f, 0) < 6 * USEC_PER_SEC);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_copy_that_is_seconds_behind_goes_on_beside_first_copies, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_vault_that_hangs_does_not_keep_copies_of_another_one_waiting, setup, teardown),
    };
    return cmocka_run_group_tests_name("vaultcopy", tests, NULL, NULL);
}
