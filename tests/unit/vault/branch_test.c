/* SPDX-License-Identifier: Apache-2.0
 *
 * Branches: what was written reads back, what was flushed survives a crash, and the point below never changes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pthread.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/file.h"
#include "transport/vault/branchlist.h"

struct fixture {
    struct model m;
    char branch_dir[200];
    struct view *base;
    struct branch *branch;
    uint64_t reserve;
    uint8_t *disk; /* what disk 0 of the branch must hold */
};

static void open_branch(struct fixture *f)
{
    struct err err = ERR_INIT;
    uint32_t stream;
    struct branch_info info = {.machine = f->m.conf.machine, .base_sequence = f->m.points[0].sequence};
    info.id.bytes[3] = 9;
    assert_int_equal(store_take_nonce_stream(f->m.store, &stream, &err), 0);
    assert_int_equal(
        view_open(f->m.machine_dir, f->m.points[0].sequence, &f->m.opened.keys, 1u << 20, &f->base, &err), 0);
    assert_int_equal(branch_base_check(view_mark(f->base), &info.base_check, &err), 0);
    assert_int_equal(branch_create(f->branch_dir, &info, &err), 0);
    struct branch_conf conf = {.dir = f->branch_dir,
        .base = f->base,
        .keys = &f->m.opened.keys,
        .nonce_stream = stream,
        .cache_bytes = 1u << 20,
        .reserve_bytes = f->reserve};
    if (branch_open(&conf, &f->branch, &err) < 0)
        fail_msg("%s", err.text);
}

static void close_branch(struct fixture *f)
{
    branch_close(f->branch);
    view_close(f->base);
    f->branch = NULL;
    f->base = NULL;
}

/* As after kill -9: the folder as it is now, opened again. */
static void crash_branch(struct fixture *f)
{
    char command[800], copy[240];
    struct err err = ERR_INIT;
    (void)snprintf(copy, sizeof(copy), "%s.copy", f->branch_dir);
    (void)snprintf(command, sizeof(command), "cp -a %s %s", f->branch_dir, copy);
    assert_int_equal(system(command), 0);
    close_branch(f);
    assert_int_equal(file_remove_tree(f->branch_dir, &err), 0);
    assert_int_equal(rename(copy, f->branch_dir), 0);
    open_branch(f);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    model_init(&f->m, 4711);
    model_open(&f->m);
    for (int i = 0; i < 30; i++)
        model_random_write(&f->m);
    model_commit(&f->m, MARK_CRASH);
    for (int i = 0; i < 30; i++)
        model_random_write(&f->m);
    model_commit(&f->m, MARK_CRASH);
    assert_int_equal(store_flush(f->m.store, &err), 0);
    (void)snprintf(f->branch_dir, sizeof(f->branch_dir), "%s/branches/one", f->m.machine_dir);
    open_branch(f);
    f->disk = malloc(f->m.disk_bytes[0]);
    memcpy(f->disk, f->m.points[0].disks[0], f->m.disk_bytes[0]);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close_branch(f);
    free(f->disk);
    model_done(&f->m);
    free(f);
    return 0;
}

static void random_change(struct fixture *f)
{
    struct err err = ERR_INIT;
    uint64_t size = f->m.disk_bytes[0];
    uint64_t at = model_random(&f->m, size);
    uint64_t longest = size - at;
    uint64_t n = model_random(&f->m, longest < 150000 ? longest : 150000) + 1;
    if (model_random(&f->m, 5) == 0) {
        memset(f->disk + at, 0, n);
        assert_int_equal(branch_zero(f->branch, 0, at, n, &err), 0);
        return;
    }
    uint8_t fill = (uint8_t)model_random(&f->m, 256);
    for (uint64_t i = 0; i < n; i++)
        f->disk[at + i] = (uint8_t)(fill + i / 7);
    if (branch_write(f->branch, 0, at, n, f->disk + at, &err) < 0)
        fail_msg("%s", err.text);
}

static void check(struct fixture *f)
{
    struct err err = ERR_INIT;
    uint8_t *got = malloc(f->m.disk_bytes[0]);
    if (branch_read(f->branch, 0, 0, f->m.disk_bytes[0], got, &err) < 0)
        fail_msg("%s", err.text);
    assert_memory_equal(got, f->disk, f->m.disk_bytes[0]);
    free(got);
}

static void what_is_written_reads_back(void **state)
{
    struct fixture *f = *state;
    check(f);
    for (int i = 0; i < 200; i++)
        random_change(f);
    check(f);
}

static void the_base_and_other_points_do_not_change(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 50; i++)
        random_change(f);
    model_check_all(&f->m);
}

static void what_was_flushed_survives_a_crash(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 20; i++)
            random_change(f);
        assert_int_equal(branch_flush(f->branch, &err), 0);
        uint8_t *flushed = malloc(f->m.disk_bytes[0]);
        memcpy(flushed, f->disk, f->m.disk_bytes[0]);
        for (int i = 0; i < 5; i++)
            random_change(f);
        crash_branch(f);
        memcpy(f->disk, flushed, f->m.disk_bytes[0]);
        free(flushed);
        check(f);
    }
}

static void closing_flushes(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 20; i++)
        random_change(f);
    close_branch(f);
    open_branch(f);
    check(f);
}

static void a_branch_is_open_once_only(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct branch *second = NULL;
    struct branch_conf conf = {.dir = f->branch_dir, .base = f->base, .keys = &f->m.opened.keys, .nonce_stream = 99};
    assert_int_equal(branch_open(&conf, &second, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
}

static void a_full_disk_fails_the_write_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint8_t data[4096] = {1};
    for (int i = 0; i < 5; i++)
        random_change(f);
    close_branch(f);
    f->reserve = 1ULL << 60;
    open_branch(f);
    assert_int_equal(branch_write(f->branch, 0, 0, sizeof(data), data, &err), -1);
    assert_int_equal(err.code, ERR_NOSPACE);
    assert_int_equal(branch_flush(f->branch, &err), 0);
    check(f);
    close_branch(f);
    f->reserve = 0;
    open_branch(f);
    for (int i = 0; i < 5; i++)
        random_change(f);
    check(f);
}

static void a_write_out_of_the_disk_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint8_t byte = 1;
    assert_int_equal(branch_write(f->branch, 0, f->m.disk_bytes[0], 1, &byte, &err), -1);
    assert_int_equal(branch_write(f->branch, 7, 0, 1, &byte, &err), -1);
    assert_int_equal(branch_zero(f->branch, 0, 512, UINT64_MAX, &err), -1);
}

/* The machine's log lost its end and went on: the number of the base point means another point now. */
static void a_branch_does_not_open_over_another_point_of_the_same_number(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct branch_info info = {.machine = f->m.conf.machine, .base_sequence = f->m.points[0].sequence, .base_check = 5};
    struct branch *b = NULL;
    char dir[240];
    (void)snprintf(dir, sizeof(dir), "%s/branches/stale", f->m.machine_dir);
    assert_int_equal(branch_create(dir, &info, &err), 0);
    struct branch_conf conf = {.dir = dir, .base = f->base, .keys = &f->m.opened.keys, .nonce_stream = 99};
    assert_int_equal(branch_open(&conf, &b, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    info.base_check = 7; /* what is there now; as the vault asks when it opens it again */
    err_clear(&err);
    assert_int_equal(branch_create(dir, &info, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
}

static void a_list_has_what_is_a_branch_and_discarding_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct branch_list list AUTO_BRANCH_LIST = {0};
    char path[240], damaged[240];
    (void)snprintf(path, sizeof(path), "%s/branches/unborn", f->m.machine_dir);
    (void)snprintf(damaged, sizeof(damaged), "%s/branches/damaged/branch", f->m.machine_dir);
    assert_int_equal(file_make_dirs(path, 0700, &err), 0);
    (void)snprintf(path, sizeof(path), "%s/branches/.gone-x", f->m.machine_dir);
    assert_int_equal(file_make_dirs(path, 0700, &err), 0);
    (void)snprintf(path, sizeof(path), "%s/branches/damaged", f->m.machine_dir);
    assert_int_equal(file_make_dirs(path, 0700, &err), 0);
    assert_int_equal(file_replace(damaged, "nonsense", 8, 0600, &err), 0);
    assert_int_equal(branchlist_load(f->m.machine_dir, &list, &err), 0);
    assert_int_equal(list.count, 2);
    for (size_t i = 0; i < list.count; i++)
        assert_int_equal(list.items[i].damaged, strcmp(list.items[i].name, "damaged") == 0);
    assert_int_equal(branchlist_discard(f->m.machine_dir, "damaged", &err), 0);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(branchlist_sweep(f->m.machine_dir, &err), 0);
    (void)snprintf(path, sizeof(path), "%s/branches/.gone-x", f->m.machine_dir);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(branchlist_discard(f->m.machine_dir, "never", &err), 0);
}

static bool has_snapshot(const struct fixture *f)
{
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/manifest", f->branch_dir);
    return access(path, F_OK) == 0;
}

static void many_small_changes(struct fixture *f)
{
    struct err err = ERR_INIT;
    for (int i = 0; i < 1500; i++) {
        uint64_t at = model_random(&f->m, f->m.disk_bytes[0] / 512) * 512;
        memset(f->disk + at, (int)model_random(&f->m, 256), 512);
        assert_int_equal(branch_write(f->branch, 0, at, 512, f->disk + at, &err), 0);
    }
}

/* All of the log before the snapshot may be unreadable for the map: it is not looked at. */
static void opening_reads_the_log_behind_the_snapshot_only(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char path[300];
    many_small_changes(f);
    close_branch(f);
    assert_true(has_snapshot(f));
    open_branch(f);
    check(f);
    for (int i = 0; i < 20; i++)
        random_change(f);
    assert_int_equal(branch_flush(f->branch, &err), 0);
    crash_branch(f); /* takes none: too little has come */
    check(f);
    close_branch(f);
    (void)snprintf(path, sizeof(path), "%s/manifest", f->branch_dir);
    assert_int_equal(file_replace(path, "nonsense", 8, 0600, &err), 0);
    open_branch(f);
    check(f);
}

/* The log was cut behind an older mark: the snapshot knows more than there is. */
static void a_snapshot_that_the_log_does_not_reach_is_passed_over(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char path[300];
    for (int i = 0; i < 20; i++)
        random_change(f);
    assert_int_equal(branch_flush(f->branch, &err), 0);
    uint8_t *flushed = malloc(f->m.disk_bytes[0]);
    memcpy(flushed, f->disk, f->m.disk_bytes[0]);
    (void)snprintf(path, sizeof(path), "%s/0000000000000001.seg", f->branch_dir);
    FILE *file = fopen(path, "r");
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long end = ftell(file);
    assert_int_equal(fclose(file), 0);
    many_small_changes(f);
    close_branch(f);
    assert_true(has_snapshot(f));
    assert_int_equal(truncate(path, end), 0);
    open_branch(f);
    memcpy(f->disk, flushed, f->m.disk_bytes[0]);
    free(flushed);
    check(f);
    /* Nor is it believed when the log has grown past that place with other records. */
    for (int i = 0; i < 900; i++)
        random_change(f);
    assert_int_equal(branch_flush(f->branch, &err), 0);
    crash_branch(f);
    check(f);
}

#define THREADS 4

struct worker {
    struct fixture *f;
    pthread_t thread;
    uint64_t from, to; /* its own part of the disk */
    uint64_t random;
    int failures;
};

static uint64_t worker_random(struct worker *w, uint64_t below)
{
    w->random = w->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (w->random >> 33) % below;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct err err = ERR_INIT;
    static const uint64_t longest = 9000;
    uint8_t *got = malloc(longest);
    for (int i = 0; i < 150; i++) {
        uint64_t at = w->from + worker_random(w, w->to - w->from - longest);
        uint64_t n = worker_random(w, longest) + 1;
        if (i % 5 == 0) {
            w->failures += branch_read(w->f->branch, 0, at, n, got, &err) < 0 || memcmp(got, w->f->disk + at, n) != 0;
        } else if (i % 17 == 0) {
            w->failures += branch_flush(w->f->branch, &err) < 0;
        } else {
            memset(w->f->disk + at, (int)worker_random(w, 256), n);
            w->failures += branch_write(w->f->branch, 0, at, n, w->f->disk + at, &err) < 0;
        }
    }
    free(got);
    return NULL;
}

static void threads_do_not_disturb_each_other(void **state)
{
    struct fixture *f = *state;
    struct worker workers[THREADS] = {0};
    uint64_t share = f->m.disk_bytes[0] / THREADS / 65536 * 65536;
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.f = f, .from = i * share, .to = (i + 1) * share, .random = i + 1};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].failures, 0);
    }
    check(f);
    crash_branch(f);
}

/* Between reading a sector and writing it back there is time for others to change it. */
static atomic_bool slow_reads;
int __real_branch_read(struct branch *b, uint32_t disk, uint64_t start, size_t n, uint8_t *out, struct err *err);
int __wrap_branch_read(struct branch *b, uint32_t disk, uint64_t start, size_t n, uint8_t *out, struct err *err);

int __wrap_branch_read(struct branch *b, uint32_t disk, uint64_t start, size_t n, uint8_t *out, struct err *err)
{
    int result = __real_branch_read(b, disk, start, n, out, err);
    if (atomic_load(&slow_reads))
        (void)usleep(50);
    return result;
}

/* Writes its own bytes of a sector that others write to at the same time, and what lies behind it up to another such sector. */
static void *work_in_a_sector(void *arg)
{
    struct worker *w = arg;
    struct err err = ERR_INIT;
    uint8_t got[4096];
    size_t n = (size_t)(w->to - w->from);
    for (int i = 0; i < 200; i++) {
        memset(w->f->disk + w->from, (int)worker_random(w, 256), n);
        w->failures += branch_write(w->f->branch, 0, w->from, n, w->f->disk + w->from, &err) < 0;
        w->failures += branch_read(w->f->branch, 0, w->from, n, got, &err) < 0;
        w->failures += memcmp(got, w->f->disk + w->from, n) != 0;
    }
    return NULL;
}

static void threads_share_a_sector(void **state)
{
    struct fixture *f = *state;
    static const uint64_t bounds[THREADS + 1] = {65536, 65536 + 100, 65536 + 101, 65536 + 1700, 65536 + 2000};
    struct worker workers[THREADS] = {0};
    atomic_store(&slow_reads, true);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.f = f, .from = bounds[i], .to = bounds[i + 1], .random = i + 1};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work_in_a_sector, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    atomic_store(&slow_reads, false);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(workers[i].failures, 0);
    check(f);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_reads_back),
        TEST(the_base_and_other_points_do_not_change),
        TEST(what_was_flushed_survives_a_crash),
        TEST(closing_flushes),
        TEST(opening_reads_the_log_behind_the_snapshot_only),
        TEST(a_snapshot_that_the_log_does_not_reach_is_passed_over),
        TEST(threads_do_not_disturb_each_other),
        TEST(threads_share_a_sector),
        TEST(a_branch_is_open_once_only),
        TEST(a_full_disk_fails_the_write_and_nothing_else),
        TEST(a_write_out_of_the_disk_is_refused),
        TEST(a_branch_does_not_open_over_another_point_of_the_same_number),
        TEST(a_list_has_what_is_a_branch_and_discarding_leaves_nothing),
    };
    return cmocka_run_group_tests_name("branch", tests, NULL, NULL);
}
