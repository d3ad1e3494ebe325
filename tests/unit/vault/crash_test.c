/* SPDX-License-Identifier: Apache-2.0
 *
 * Crashes and damage by schedule: random writes, points, progress marks, flushes, merges, dropped points and branches against
 * plain arrays, with the store killed, its files torn or changed in between. What is read always equals the model; what cannot
 * be read is an error.
 *
 * LEEWARD_SEED=N repeats one schedule, LEEWARD_ROUNDS=N runs more of them.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/file.h"
#include "transport/log/segment.h"
#include "transport/vault/verify.h"
#include "transport/vault/view.h"

#define ROUNDS 4
#define STEPS 120

static uint64_t number_from_env(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text == NULL ? fallback : strtoull(text, NULL, 10);
}

static void last_segment_path(const struct model *m, char *out, size_t n)
{
    char name[SEGMENT_NAME_SIZE];
    uint64_t number = 0;
    struct stat st;
    do {
        segment_name(++number, name);
        (void)snprintf(out, n, "%s/main/%s", m->machine_dir, name);
    } while (stat(out, &st) == 0);
    segment_name(number - 1, name);
    (void)snprintf(out, n, "%s/main/%s", m->machine_dir, name);
}

/* Restores the arrays to the last commit and opens the store again. */
static void come_back(struct model *m, uint8_t *const *committed)
{
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        memcpy(m->disks[i], committed[i], m->disk_bytes[i]);
    model_open(m);
}

static void keep(const struct model *m, uint8_t **committed)
{
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        memcpy(committed[i], m->disks[i], m->disk_bytes[i]);
}

/* Killed in the middle of a change set, with a tail that was cut anywhere or ends in rubbish. */
static void crash_with_torn_tail(struct model *m, uint8_t *const *committed)
{
    struct err err = ERR_INIT;
    uint64_t ignored;
    char path[400];
    struct stat before, after;
    last_segment_path(m, path, sizeof(path));
    assert_int_equal(stat(path, &before), 0);
    for (int i = 0; i < 3; i++)
        model_random_write(m);
    assert_int_equal(store_append(m->store, m->batch.data, m->batch.len, &ignored, &err), 0);
    model_crash(m);
    last_segment_path(m, path, sizeof(path));
    assert_int_equal(stat(path, &after), 0);
    off_t grown = after.st_size > before.st_size ? after.st_size - before.st_size : 0;
    if (grown > 0)
        assert_int_equal(truncate(path, after.st_size - (off_t)model_random(m, (uint64_t)grown)), 0);
    if (model_random(m, 2) == 0) {
        FILE *f = fopen(path, "a");
        for (uint64_t i = model_random(m, 700); i > 0; i--)
            (void)fputc((int)model_random(m, 256), f);
        assert_int_equal(fclose(f), 0);
    }
    come_back(m, committed);
}

static void merge_all(struct model *m)
{
    struct err err = ERR_INIT;
    struct store_merge *merge = NULL;
    while (store_merge_plan(m->store, &merge, &err) > 0) {
        assert_int_equal(store_merge_run(merge, &err), 0);
        assert_int_equal(store_merge_finish(m->store, merge, &err), 0);
        store_merge_free(merge);
        merge = NULL;
    }
}

static void drop_some(struct model *m)
{
    struct err err = ERR_INIT;
    static uint64_t drop[MODEL_POINTS_MAX];
    size_t count = 0, dropped = 0;
    for (unsigned i = 0; i + 1 < m->point_count; i++)
        if (model_random(m, 3) == 0)
            drop[count++] = m->points[i].sequence;
    assert_int_equal(store_drop_points(m->store, drop, count, &dropped, &err), 0);
    assert_int_equal(dropped, count);
    for (size_t i = 0; i < count; i++)
        model_forget(m, drop[i]);
}

/* Removes or damages what can be rebuilt, behind the store's back. */
static void lose_index(struct model *m)
{
    char path[400];
    (void)snprintf(path, sizeof(path), "%s/manifest", m->machine_dir);
    (void)unlink(path);
}

static void damage_run(struct model *m)
{
    char folder[200], path[600] = "";
    (void)snprintf(folder, sizeof(folder), "%s/runs", m->machine_dir);
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.')
            (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
    (void)closedir(dir);
    if (path[0] != '\0')
        assert_int_equal(truncate(path, 5000), 0);
}

static void step(struct model *m, uint8_t **committed)
{
    struct err err = ERR_INIT;
    uint64_t kind = model_random(m, 100);
    if (getenv("LEEWARD_TRACE") != NULL)
        (void)fprintf(stderr, "step %llu, committed %llu\n", (unsigned long long)kind,
            (unsigned long long)store_committed(m->store));
    if (kind < 70) {
        for (uint64_t i = model_random(m, 4) + 1; i > 0; i--)
            model_random_write(m);
        model_commit(m, kind < 15 ? MARK_PROGRESS : MARK_CRASH);
        keep(m, committed);
    } else if (kind < 76) {
        merge_all(m);
    } else if (kind < 80) {
        assert_int_equal(store_flush(m->store, &err), 0);
    } else if (kind < 90) {
        if (store_committed(m->store) > 0)
            crash_with_torn_tail(m, committed);
    } else if (kind < 94) {
        model_close(m);
        come_back(m, committed);
    } else if (kind < 96) {
        drop_some(m);
    } else if (m->point_count > 0) {
        struct model_point *p = &m->points[model_random(m, m->point_count)];
        assert_int_equal(store_flush(m->store, &err), 0);
        model_check_point(m, p);
    }
}

static void one_schedule(uint64_t seed)
{
    static struct model m;
    uint8_t *committed[MODEL_DISKS];
    model_init(&m, seed);
    m.conf.flush_extents = 8 + (uint32_t)(seed % 40);
    model_open(&m);
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        committed[i] = calloc(1, m.disk_bytes[i]);
    for (int i = 0; i < STEPS; i++) {
        step(&m, committed);
        if (getenv("LEEWARD_TRACE") != NULL)
            model_check_all(&m);
    }
    model_check_all(&m);
    model_close(&m);
    if (seed % 2 == 0)
        damage_run(&m);
    else
        lose_index(&m);
    size_t points = m.point_count;
    model_open(&m);
    assert_true(store_points(m.store)->count >= points); /* dropped ones come back with the log, none is lost */
    model_check_all(&m);
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        free(committed[i]);
    model_done(&m);
}

static void schedules_of_writes_crashes_and_upkeep_match_the_model(void **state)
{
    uint64_t rounds = number_from_env("LEEWARD_ROUNDS", ROUNDS);
    uint64_t first = number_from_env("LEEWARD_SEED", 1);
    (void)state;
    for (uint64_t i = 0; i < rounds; i++) {
        (void)fprintf(stderr, "seed %llu\n", (unsigned long long)(first + i));
        one_schedule(first + i);
    }
}

/* ---- a real process, really killed ---- */

/* Commits until it is killed; tells each committed sequence through the pipe after the store said so. */
static void writer_process(struct model *m, int told)
{
    for (;;) {
        model_random_write(m);
        model_random_write(m);
        model_commit(m, MARK_CRASH);
        uint64_t sequence = store_committed(m->store);
        if (write(told, &sequence, sizeof(sequence)) != sizeof(sequence))
            _exit(1);
    }
}

static void what_a_killed_process_had_committed_is_there(void **state)
{
    static struct model m;
    uint64_t told = 0;
    (void)state;
    model_init(&m, 77);
    m.conf.flush_extents = 50;
    for (int round = 0; round < 8; round++) {
        int fds[2];
        uint64_t sequence;
        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            m.point_count = 0;
            m.epoch = (uint64_t)round + 1;
            model_open(&m);
            writer_process(&m, fds[1]);
        }
        (void)close(fds[1]);
        uint64_t until = told + 5 + (uint64_t)round * 7;
        while (told < until && read(fds[0], &sequence, sizeof(sequence)) == sizeof(sequence))
            told = sequence;
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        while (read(fds[0], &sequence, sizeof(sequence)) == sizeof(sequence))
            told = sequence;
        (void)close(fds[0]);
        assert_true(told >= until);
        m.epoch = 100 + (uint64_t)round;
        m.conf.flush_extents = 50;
        struct store *s = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(store_open(&m.conf, &s, &err), 0);
        assert_true(store_committed(s) >= told);
        assert_true(store_committed(s) <= told + 1); /* one may have been durable and not yet told */
        told = store_committed(s);
        store_close(s);
    }
    model_done(&m);
}

/* ---- verification ---- */

static void verify_into(struct model *m, struct verify_result *r)
{
    struct err err = ERR_INIT;
    struct verify_spec spec = {.machine_dir = m->machine_dir,
        .machine = m->conf.machine,
        .keys = m->opened.keys,
        .until_sequence = store_committed(m->store)};
    if (verify_run(&spec, r, &err) < 0)
        fail_msg("%s", err.text);
}

static void verification_finds_every_flipped_bit(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    struct verify_result r;
    char path[400];
    struct stat st;
    (void)state;
    model_init(&m, 31);
    model_open(&m);
    for (int i = 0; i < 10; i++) {
        model_write(&m, 0, model_random(&m, 200) * 4096, 4096, true);
        model_commit(&m, MARK_CRASH);
    }
    assert_int_equal(store_flush(m.store, &err), 0);
    verify_into(&m, &r);
    assert_int_equal(r.damage_count, 0);
    assert_int_equal(r.marks, 10);
    verify_result_done(&r);
    last_segment_path(&m, path, sizeof(path));
    assert_int_equal(stat(path, &st), 0);
    for (int i = 0; i < 60; i++) {
        long at = (long)(SEGMENT_HEADER_SIZE + model_random(&m, (uint64_t)st.st_size - SEGMENT_HEADER_SIZE));
        FILE *f = fopen(path, "r+");
        assert_int_equal(fseek(f, at, SEEK_SET), 0);
        int c = fgetc(f);
        assert_int_equal(fseek(f, at, SEEK_SET), 0);
        (void)fputc(c ^ (1 << model_random(&m, 8)), f);
        assert_int_equal(fclose(f), 0);
        verify_into(&m, &r);
        if (r.damage_count == 0)
            fail_msg("the bit at byte %ld was not noticed", at);
        assert_int_equal(r.damages[0].segment, 1);
        assert_true(r.damages[0].offset <= (uint64_t)at);
        assert_true(r.damages[0].points_from >= 1 && r.damages[0].points_from <= 10);
        verify_result_done(&r);
        f = fopen(path, "r+");
        assert_int_equal(fseek(f, at, SEEK_SET), 0);
        (void)fputc(c, f);
        assert_int_equal(fclose(f), 0);
    }
    model_done(&m);
}

static void a_flipped_bit_in_the_index_is_noticed(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    struct verify_result r;
    char path[400];
    (void)state;
    model_init(&m, 32);
    model_open(&m);
    model_random_write(&m);
    model_commit(&m, MARK_CRASH);
    assert_int_equal(store_flush(m.store, &err), 0);
    (void)snprintf(path, sizeof(path), "%s/runs/0000000000000001.run", m.machine_dir);
    FILE *f = fopen(path, "r+");
    assert_int_equal(fseek(f, 4096 + 20, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, 4096 + 20, SEEK_SET), 0);
    (void)fputc(c ^ 1, f);
    assert_int_equal(fclose(f), 0);
    verify_into(&m, &r);
    assert_true(r.index_damaged);
    verify_result_done(&r);
    store_discard_index(m.store);
    assert_true(store_is_broken(m.store));
    model_close(&m);
    model_open(&m);
    model_check_all(&m);
    model_done(&m);
}

/* ---- a log that lost what was committed ---- */

static void a_cut_log_keeps_its_older_points_and_raises_the_epoch(void **state)
{
    static struct model m;
    char path[400];
    struct stat st;
    uint64_t after_six = 0;
    (void)state;
    model_init(&m, 51);
    model_open(&m);
    for (int i = 0; i < 10; i++) {
        model_random_write(&m);
        model_commit(&m, MARK_CRASH);
        last_segment_path(&m, path, sizeof(path));
        if (i == 5 && stat(path, &st) == 0)
            after_six = (uint64_t)st.st_size;
    }
    model_close(&m);
    assert_int_equal(truncate(path, (off_t)after_six + 50), 0);
    struct err err = ERR_INIT;
    assert_int_equal(store_open(&m.conf, &m.store, &err), 0);
    assert_true(store_lost_commits(m.store));
    assert_int_equal(store_committed(m.store), 6);
    assert_true(store_begin(m.store, 1, m.epoch, &m.opened, &err) < 0); /* whoever streamed must learn it */
    assert_int_equal(err.code, ERR_REFUSED);
    for (uint64_t sequence = 7; sequence <= 10; sequence++)
        model_forget(&m, sequence);
    memcpy(m.disks[0], m.points[5].disks[0], m.disk_bytes[0]);
    memcpy(m.disks[1], m.points[5].disks[1], m.disk_bytes[1]);
    model_close(&m);
    m.epoch++;
    model_open(&m);
    assert_false(store_lost_commits(m.store)); /* it is told once */
    model_check_all(&m);
    model_random_write(&m);
    model_commit(&m, MARK_CRASH);
    model_check_all(&m);
    model_done(&m);
}

static void a_bad_header_costs_what_it_held_and_new_points_go_on(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    char path[400];
    struct stat st;
    uint64_t before = 0;
    (void)state;
    model_init(&m, 52);
    model_open(&m);
    for (int i = 0; i < 10; i++) {
        last_segment_path(&m, path, sizeof(path));
        if (i == 4 && stat(path, &st) == 0)
            before = (uint64_t)st.st_size;
        model_write(&m, 0, (uint64_t)i * 65536, 65536, true);
        model_commit(&m, MARK_CRASH);
    }
    model_close(&m);
    FILE *f = fopen(path, "r+");
    assert_int_equal(fseek(f, (long)before + 20, SEEK_SET), 0);
    assert_int_equal(fputc(0xEE, f), 0xEE);
    assert_int_equal(fclose(f), 0);
    model_open(&m);
    assert_false(store_lost_commits(m.store));
    assert_int_equal(store_committed(m.store), 10);
    for (unsigned i = 0; i < 4; i++)
        model_check_point(&m, &m.points[i]);
    struct view *v AUTO_OF(view) = NULL;
    uint8_t block[65536];
    assert_int_equal(view_open(m.machine_dir, 10, &m.opened.keys, 0, &v, &err), 0);
    assert_int_equal(view_read(v, 0, 4 * 65536, sizeof(block), block, &err), -1);
    assert_int_equal(view_read(v, 0, 5 * 65536, sizeof(block), block, &err), 0);
    assert_memory_equal(block, m.points[9].disks[0] + 5 * 65536, sizeof(block));
    model_write(&m, 0, 4 * 65536, 65536, true); /* the source writes it again: healed from here on */
    model_commit(&m, MARK_CRASH);
    model_crash(&m);
    model_open(&m);
    assert_int_equal(store_flush(m.store, &err), 0);
    model_check_point(&m, &m.points[10]);
    model_done(&m);
}

/* ---- a power failure between the last write and its fdatasync ---- */

static void flip_byte(const char *path, off_t offset)
{
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)offset, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, (long)offset, SEEK_SET), 0);
    assert_int_equal(fputc(c ^ 0x10, f), c ^ 0x10);
    assert_int_equal(fclose(f), 0);
}

/* Commits `sets` sets of one block each and crashes; *ret_begin is where the last one begins in the file. */
static void commit_and_crash(struct model *m, int sets, char path[400], off_t *ret_begin)
{
    struct stat st;
    for (int i = 0; i < sets; i++) {
        *ret_begin = SEGMENT_HEADER_SIZE;
        last_segment_path(m, path, 400);
        if (stat(path, &st) == 0)
            *ret_begin = st.st_size;
        model_write(m, 0, (uint64_t)i * 65536, 65536, true);
        model_commit(m, MARK_CRASH);
    }
    model_crash(m);
    last_segment_path(m, path, 400);
}

static void a_mark_that_outran_its_data_never_was(void **state)
{
    static struct model m;
    char path[400];
    off_t begin;
    (void)state;
    model_init(&m, 53);
    model_open(&m);
    commit_and_crash(&m, 3, path, &begin);
    flip_byte(path, begin + RECORD_HEADER_SIZE + 5);
    model_forget(&m, 3);
    memcpy(m.disks[0], m.points[1].disks[0], m.disk_bytes[0]);
    model_open(&m);
    assert_int_equal(store_committed(m.store), 2);
    assert_false(store_lost_commits(m.store));
    model_check_all(&m);
    model_write(&m, 0, 2 * 65536, 65536, true); /* the agent sends it again */
    model_commit(&m, MARK_CRASH);
    model_crash(&m);
    model_open(&m);
    assert_int_equal(store_committed(m.store), 3);
    model_check_all(&m);
    model_done(&m);
}

static void damage_in_what_the_index_covers_is_not_cut_off(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    char path[400];
    off_t begin;
    (void)state;
    model_init(&m, 54);
    model_open(&m);
    commit_and_crash(&m, 3, path, &begin);
    model_open(&m);
    assert_int_equal(store_flush(m.store, &err), 0);
    model_crash(&m);
    flip_byte(path, begin + RECORD_HEADER_SIZE + 5);
    model_open(&m);
    assert_int_equal(store_committed(m.store), 3);
    model_check_point(&m, &m.points[1]);
    model_done(&m);
}

/* ---- a file system that is full ---- */

static void a_full_file_system_costs_only_the_open_change_set(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    char command[400];
    uint64_t committed = 0;
    int result = 0;
    (void)state;
    if (geteuid() != 0) {
        print_message("needs root\n");
        skip();
    }
    model_init(&m, 8);
    assert_int_equal(mkdir(m.machine_dir, 0700), 0);
    (void)snprintf(command, sizeof(command), "mount -t tmpfs -o size=6m tmpfs %s 2>/dev/null", m.machine_dir);
    if (system(command) != 0) {
        model_done(&m);
        print_message("no tmpfs can be mounted here\n");
        skip();
    }
    model_open(&m);
    while (result == 0) {
        for (int i = 0; i < 8; i++)
            model_write(&m, 0, model_random(&m, 200) * 4096, 65536, false);
        model_mark(&m, MARK_CRASH);
        result = store_append(m.store, m.batch.data, m.batch.len, &committed, &err);
        model_batch_reset(&m);
        if (result == 0)
            model_keep_point(&m, committed);
    }
    assert_int_equal(err.code, ERR_NOSPACE);
    assert_true(m.point_count > 2);
    assert_int_equal(store_committed(m.store), m.point_count);
    (void)snprintf(command, sizeof(command), "mount -o remount,size=64m %s", m.machine_dir);
    assert_int_equal(system(command), 0);
    if (store_is_broken(m.store)) {
        model_close(&m);
        model_open(&m);
    } else {
        m.epoch++;
        assert_int_equal(store_begin(m.store, 1, m.epoch, &m.opened, &err), 0);
        m.nonce = 0;
    }
    model_write(&m, 0, 0, (uint32_t)m.disk_bytes[0], false); /* what the lost change set had, and more */
    model_commit(&m, MARK_CRASH);
    model_check_all(&m);
    model_close(&m);
    (void)snprintf(command, sizeof(command), "umount %s", m.machine_dir);
    assert_int_equal(system(command), 0);
    model_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_of_writes_crashes_and_upkeep_match_the_model),
        cmocka_unit_test(what_a_killed_process_had_committed_is_there),
        cmocka_unit_test(verification_finds_every_flipped_bit),
        cmocka_unit_test(a_flipped_bit_in_the_index_is_noticed),
        cmocka_unit_test(a_cut_log_keeps_its_older_points_and_raises_the_epoch),
        cmocka_unit_test(a_bad_header_costs_what_it_held_and_new_points_go_on),
        cmocka_unit_test(a_mark_that_outran_its_data_never_was),
        cmocka_unit_test(damage_in_what_the_index_covers_is_not_cut_off),
        cmocka_unit_test(a_full_file_system_costs_only_the_open_change_set),
    };
    return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
