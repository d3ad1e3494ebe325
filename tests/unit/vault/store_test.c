/* SPDX-License-Identifier: Apache-2.0
 *
 * The store of a machine: what is committed is what every later open sees; what has no mark never was.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"
#include "transport/log/segment.h"
#include "transport/vault/manifest.h"
#include "transport/vault/verify.h"
#include "transport/vault/view.h"

/* A page of one file that the medium does not give back. */
static struct {
    ino_t file; /* 0: none */
    off_t page;
    unsigned times; /* then it does; 0: never */
} lost;

ssize_t __real_pread(int fd, void *out, size_t n, off_t offset);
ssize_t __wrap_pread(int fd, void *out, size_t n, off_t offset);

ssize_t __wrap_pread(int fd, void *out, size_t n, off_t offset)
{
    struct stat st;
    bool hit = lost.file != 0 && offset < lost.page + 4096 && offset + (off_t)n > lost.page;
    if (!hit || fstat(fd, &st) < 0 || st.st_ino != lost.file)
        return __real_pread(fd, out, n, offset);
    if (offset < lost.page) /* what stands before it comes first */
        return __real_pread(fd, out, (size_t)(lost.page - offset), offset);
    if (lost.times > 0 && --lost.times == 0)
        lost.file = 0;
    errno = EIO;
    return -1;
}

static int setup(void **state)
{
    struct model *m = malloc(sizeof(*m));
    model_init(m, 42);
    model_open(m);
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    lost.file = 0;
    model_done(*state);
    free(*state);
    return 0;
}

static void a_committed_point_reads_back(void **state)
{
    struct model *m = *state;
    model_write(m, 0, 0, 200 * 512, false);
    model_write(m, 1, 4096, 4096, true);
    model_commit(m, MARK_CRASH);
    model_check_all(m);
}

/* The list in the file has no room for it. */
static void the_time_of_a_group_point_is_learnt_from_its_mark(void **state)
{
    struct model *m = *state;
    struct err err = ERR_INIT;
    m->began_utc_usec = 500 * 3600 * USEC_PER_SEC;
    const uint64_t group_usec = m->began_utc_usec + 7 * 3600 * USEC_PER_SEC;
    model_group_id(group_usec, &m->group);
    for (int i = 0; i < 2; i++) {
        model_random_write(m);
        model_commit(m, MARK_CRASH);
    }
    assert_int_equal(point_group_time(&store_points(m->store)->items[1]), group_usec);
    assert_int_equal(store_flush(m->store, &err), 0);
    model_close(m);
    model_open(m);
    const struct point *p = store_points(m->store)->items;
    assert_int_equal(p[0].more, POINT_GROUPED);
    assert_int_equal(point_group_time(&p[0]), p[0].time_utc_usec);
    assert_int_equal(store_learn_group(m->store, 0, &err), 0);
    assert_int_equal(p[0].more, POINT_GROUPED | POINT_GROUP_TIME);
    assert_int_equal(point_group_time(&p[0]), group_usec);
    assert_int_equal(p[1].more, POINT_GROUPED);
    char *path AUTO_FREE = mem_printf("%s/main/%016x.seg", m->machine_dir, p[1].segment);
    int fd AUTO_CLOSE = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "?", 1, p[1].offset), 1);
    assert_int_equal(store_learn_group(m->store, 1, &err), 0); /* retention does not stop at one that cannot be read */
    assert_int_equal(p[1].more, POINT_GROUPED | POINT_GROUP_TIME);
    assert_int_equal(point_group_time(&p[1]), p[1].time_utc_usec);
}

static void each_of_many_points_shows_its_own_moment(void **state)
{
    struct model *m = *state;
    for (int i = 0; i < 60; i++) {
        for (int k = 0; k < 5; k++)
            model_random_write(m);
        model_commit(m, MARK_CRASH);
    }
    model_check_all(m);
}

static void a_progress_mark_is_durable_but_no_point(void **state)
{
    struct model *m = *state;
    struct view *v = NULL;
    struct err err = ERR_INIT;
    model_write(m, 0, 0, 4096, true);
    model_commit(m, MARK_PROGRESS);
    assert_int_equal(store_committed(m->store), 1);
    assert_int_equal(store_points(m->store)->count, 0);
    assert_int_equal(store_flush(m->store, &err), 0);
    assert_int_equal(view_open(m->machine_dir, 0, NULL, 0, &v, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void points_survive_close_and_crash(void **state)
{
    struct model *m = *state;
    for (int i = 0; i < 10; i++) {
        model_random_write(m);
        model_commit(m, MARK_CRASH);
    }
    model_close(m);
    model_open(m);
    model_check_all(m);
    for (int i = 0; i < 10; i++) {
        model_random_write(m);
        model_commit(m, MARK_FILESYSTEM);
    }
    model_crash(m);
    model_open(m);
    assert_int_equal(store_points(m->store)->count, 20);
    model_check_all(m);
}

static void what_has_no_mark_never_was(void **state)
{
    struct model *m = *state;
    struct err err = ERR_INIT;
    uint64_t committed;
    model_random_write(m);
    model_commit(m, MARK_CRASH);
    uint8_t *before = malloc(m->disk_bytes[0]);
    memcpy(before, m->disks[0], m->disk_bytes[0]);
    model_write(m, 0, 0, 65536, false);
    assert_int_equal(store_append(m->store, m->batch.data, m->batch.len, &committed, &err), 0);
    assert_int_equal(committed, 1);
    model_crash(m);
    memcpy(m->disks[0], before, m->disk_bytes[0]);
    free(before);
    model_open(m);
    assert_int_equal(m->opened.expected_sequence, 2);
    model_random_write(m);
    model_commit(m, MARK_CRASH);
    model_check_all(m);
}

static uint64_t last_segment_bytes(const struct model *m)
{
    char name[SEGMENT_NAME_SIZE], path[400];
    struct stat st;
    segment_name(1, name);
    (void)snprintf(path, sizeof(path), "%s/main/%s", m->machine_dir, name);
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

/* Half of a change set, and by how many bytes the segment grew. */
static uint64_t growth_by_half_a_set(struct model *m)
{
    uint64_t before = last_segment_bytes(m), committed;
    struct err err = ERR_INIT;
    model_write(m, 0, 0, 65536, false);
    assert_int_equal(store_append(m->store, m->batch.data, m->batch.len, &committed, &err), 0);
    m->batch.len = 0;
    return last_segment_bytes(m) - before;
}

/* Past the page cache whole buffers are written: half a set is not in the file yet. */
static void behind_a_long_change_set_the_next_one_goes_past_the_page_cache(void **state)
{
    struct model *m = *state;
    char path[400];
    (void)snprintf(path, sizeof(path), "%s/meta", m->machine_dir);
    AUTO_CLOSE int direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (direct < 0) {
        print_message("this file system takes no direct reads\n");
        skip();
    }
    model_write(m, 1, 0, 4096, true);
    model_commit(m, MARK_CRASH);
    assert_true(growth_by_half_a_set(m) > 65536);
    model_commit(m, MARK_CRASH);
    for (unsigned i = 0; i < 70; i++)
        model_write(m, 0, (uint64_t)(i % 8) * 65536, 65536, false);
    model_commit(m, MARK_CRASH);
    assert_int_equal(growth_by_half_a_set(m), 0);
    model_commit(m, MARK_CRASH);
    assert_true(growth_by_half_a_set(m) > 65536);
    model_commit(m, MARK_CRASH);
    model_check_all(m);
}

static void the_index_is_rebuilt_from_the_log(void **state)
{
    struct model *m = *state;
    char path[400];
    m->conf.flush_extents = 64;
    model_close(m);
    model_open(m);
    for (int i = 0; i < 40; i++) {
        model_random_write(m);
        model_random_write(m);
        model_commit(m, MARK_CRASH);
    }
    model_close(m);
    (void)snprintf(path, sizeof(path), "%s/manifest", m->machine_dir);
    assert_int_equal(unlink(path), 0);
    model_open(m);
    assert_int_equal(store_points(m->store)->count, 40);
    model_check_all(m);
    model_close(m);
    (void)snprintf(path, sizeof(path), "%s/manifest", m->machine_dir);
    assert_int_equal(truncate(path, 70), 0);
    model_open(m);
    model_check_all(m);
}

static void lose_a_page(struct model *m, uint64_t segment, off_t page)
{
    char name[SEGMENT_NAME_SIZE], path[400];
    struct stat st;
    segment_name(segment, name);
    (void)snprintf(path, sizeof(path), "%s/main/%s", m->machine_dir, name);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size > page + 8192);
    lost.page = page;
    lost.file = st.st_ino;
}

/* Returns a page with content of the second. */
static off_t commit_three(struct model *m)
{
    off_t page = 0;
    for (unsigned i = 0; i < 3; i++) {
        model_write(m, 0, 0, 32768, false);
        model_commit(m, MARK_CRASH);
        struct log_position end;
        store_position(m->store, &end);
        page = i == 0 ? (off_t)(end.offset / 4096 + 2) * 4096 : page;
    }
    return page;
}

static void a_page_that_cannot_be_read_leaves_what_the_index_knows(void **state)
{
    struct model *m = *state;
    off_t page = commit_three(m);
    model_close(m);
    lose_a_page(m, 1, page);
    model_open(m);
    assert_false(store_lost_commits(m->store));
    assert_int_equal(store_points(m->store)->count, 3);
    model_write(m, 0, 65536, 4096, false);
    model_commit(m, MARK_CRASH); /* in a segment of its own */
    struct log_position end;
    store_position(m->store, &end);
    assert_int_equal(end.segment, 2);
    lost.file = 0;
    model_check_all(m);
}

/* As of a disk whose path was away: nothing is given up for that. */
static void a_page_that_is_read_in_the_end_costs_nothing(void **state)
{
    struct model *m = *state;
    off_t page = commit_three(m);
    model_crash(m);
    lose_a_page(m, 1, page);
    lost.times = 15; /* each walk of the log asks six times */
    model_open(m);
    assert_int_equal(lost.file, 0);
    assert_false(store_lost_commits(m->store));
    assert_int_equal(store_points(m->store)->count, 3);
    model_write(m, 0, 65536, 4096, false);
    model_commit(m, MARK_CRASH);
    model_check_all(m);
}

static void a_page_that_cannot_be_read_ends_the_log_where_the_index_does_not_reach(void **state)
{
    struct model *m = *state;
    off_t page = commit_three(m);
    model_crash(m);
    lose_a_page(m, 1, page);
    model_open(m);
    assert_true(store_lost_commits(m->store));
    assert_int_equal(store_points(m->store)->count, 1);
    model_forget(m, 2);
    model_forget(m, 3);
    memcpy(m->disks[0], m->points[0].disks[0], m->disk_bytes[0]);
    model_write(m, 0, 65536, 4096, false);
    model_commit(m, MARK_CRASH);
    lost.file = 0;
    model_check_all(m);
}

/* The next segment says where the log went on, whoever reads the one before it later. */
static void a_page_that_is_read_after_it_was_given_up_does_not_count(void **state)
{
    struct model *m = *state;
    off_t page = commit_three(m);
    model_crash(m);
    lose_a_page(m, 1, page);
    model_open(m);
    assert_int_equal(store_points(m->store)->count, 1);
    model_forget(m, 2);
    model_forget(m, 3);
    memcpy(m->disks[0], m->points[0].disks[0], m->disk_bytes[0]);
    model_write(m, 0, 65536, 4096, false);
    model_commit(m, MARK_CRASH);
    lost.file = 0;
    store_discard_index(m->store);
    model_close(m);
    model_open(m);
    assert_int_equal(store_points(m->store)->count, 2);
    model_write(m, 0, 131072, 4096, false);
    model_commit(m, MARK_CRASH);
    model_check_all(m);
}

/* The same record twice, of the same length: headers and marks are good, and the mark is of another set. */
static void repeat_a_record(struct model *m, uint64_t from, uint64_t to, uint64_t length)
{
    char path[400], name[SEGMENT_NAME_SIZE];
    segment_name(1, name);
    (void)snprintf(path, sizeof(path), "%s/main/%s", m->machine_dir, name);
    int fd AUTO_CLOSE = open(path, O_RDWR | O_CLOEXEC);
    uint8_t *bytes AUTO_FREE = malloc(length);
    assert_int_equal(file_pread_all(fd, bytes, length, from, "segment", NULL), 0);
    assert_int_equal(file_pwrite_all(fd, bytes, length, to, "segment", NULL), 0);
}

/* What is committed behind a change set that does not fit its mark must not be given up with it at the next start. */
static void nothing_is_appended_behind_a_mark_that_does_not_count(void **state)
{
    struct model *m = *state;
    struct log_position end[3];
    for (unsigned i = 0; i < 3; i++) {
        model_write(m, 0, 0, 32768, false);
        model_commit(m, MARK_CRASH);
        store_position(m->store, &end[i]);
    }
    uint64_t set = end[1].offset - end[0].offset;
    assert_int_equal(end[2].offset - end[1].offset, set);
    repeat_a_record(m, end[1].offset, end[0].offset, RECORD_HEADER_SIZE + 32768);
    model_crash(m);
    model_open(m);
    assert_true(store_lost_commits(m->store));
    assert_int_equal(store_points(m->store)->count, 1);
    model_forget(m, 2);
    model_forget(m, 3);
    memcpy(m->disks[0], m->points[0].disks[0], m->disk_bytes[0]);
    model_write(m, 0, 65536, 4096, false);
    model_commit(m, MARK_CRASH);
    model_crash(m);
    model_open(m);
    assert_int_equal(store_points(m->store)->count, 2);
    model_check_all(m);
}

/* The pages before it come in a short read, which is not the end of the file. */
static void verification_goes_on_behind_a_page_that_cannot_be_read(void **state)
{
    struct model *m = *state;
    struct verify_result r;
    struct err err = ERR_INIT;
    off_t page = commit_three(m);
    struct verify_spec spec = {
        .machine_dir = m->machine_dir, .machine = m->conf.machine, .keys = m->opened.keys, .until_sequence = 3};
    lose_a_page(m, 1, page);
    assert_int_equal(verify_run(&spec, &r, &err), 0);
    lost.file = 0;
    assert_int_equal(r.damage_count, 1);
    assert_int_equal(r.damages[0].kind, VERIFY_PAYLOAD);
    assert_int_equal(r.marks, 3);
    verify_result_done(&r);
}

static void a_last_segment_of_which_nothing_can_be_read_is_left(void **state)
{
    struct model *m = *state;
    m->conf.segment_bytes = 20000;
    model_close(m);
    model_open(m);
    (void)commit_three(m);
    model_close(m);
    lose_a_page(m, 3, 0);
    model_open(m);
    assert_true(store_lost_commits(m->store)); /* what the index does not know of it */
    assert_int_equal(store_points(m->store)->count, 3);
    model_check_point(m, &m->points[1]);
    model_write(m, 0, 65536, 4096, false);
    model_commit(m, MARK_CRASH);
    lost.file = 0;
    model_check_all(m);
}

static void merging_changes_no_point(void **state)
{
    struct model *m = *state;
    m->conf.flush_extents = 16;
    model_close(m);
    model_open(m);
    unsigned merges = 0;
    for (int i = 0; i < 150; i++) {
        struct err err = ERR_INIT;
        struct store_merge *merge AUTO_OF(store_merge) = NULL;
        for (int k = 0; k < 4; k++)
            model_random_write(m);
        model_commit(m, i % 7 == 3 ? MARK_PROGRESS : MARK_CRASH);
        if (store_merge_plan(m->store, &merge, &err) > 0) {
            assert_int_equal(store_merge_run(merge, &err), 0);
            assert_int_equal(store_merge_finish(m->store, merge, &err), 0);
            merges++;
        }
    }
    assert_true(merges > 3);
    model_check_all(m);
    model_close(m);
    model_open(m);
    model_check_all(m);
}

/* The newest cumulative run (0: none), and how many runs lie behind it. */
static uint64_t newest_cumulative(const struct model *m, size_t *ret_behind)
{
    struct manifest list AUTO_MANIFEST = {0};
    struct err err = ERR_INIT;
    uint64_t id = 0;
    *ret_behind = 0;
    assert_int_equal(manifest_load(m->machine_dir, &m->conf.machine, &list, &err), 0);
    for (size_t i = 0; i < list.run_count; i++) {
        ++*ret_behind;
        if (list.runs[i].kind == RUN_CUMULATIVE) {
            id = list.runs[i].id;
            *ret_behind = 0;
        }
    }
    return id;
}

static void merge_all(struct model *m)
{
    struct err err = ERR_INIT;
    struct store_merge *merge = NULL;
    while (store_merge_plan(m->store, &merge, &err) > 0) {
        assert_int_equal(store_merge_run(merge, &err), 0);
        assert_int_equal(store_merge_finish(m->store, merge, &err), 0);
        store_merge_free(TAKE_PTR(merge));
    }
}

/* A large disk of which the same few blocks are written for days, every point kept: what the deltas show never comes to half of the disk. */
static void deltas_do_not_gather_over_a_large_disk(void **state)
{
    struct model *m = *state;
    size_t behind;
    model_done(m);
    model_init_sized(m, 43, 700 << 10, 64 << 10);
    m->conf.flush_extents = 1;
    model_open(m);
    for (unsigned i = 0; i < 1400; i++)
        model_write(m, 0, (uint64_t)i * 512, 512, false);
    model_commit(m, MARK_CRASH);
    merge_all(m);
    uint64_t before = newest_cumulative(m, &behind);
    assert_true(before != 0 && behind == 0);
    for (unsigned i = 0; i < 1200; i++) {
        model_write(m, 0, 512, 512, false);
        model_commit(m, MARK_CRASH);
        if (i % 100 != 50)
            model_forget(m, store_committed(m->store));
        merge_all(m);
        (void)newest_cumulative(m, &behind);
        assert_true(behind <= 257);
    }
    assert_true(newest_cumulative(m, &behind) != before);
    model_check_all(m);
}

static void dropped_points_go_and_the_others_stay(void **state)
{
    struct model *m = *state;
    uint64_t drop[100];
    size_t count = 0, dropped = 0;
    struct err err = ERR_INIT;
    m->conf.flush_extents = 16;
    model_close(m);
    model_open(m);
    for (int i = 0; i < 100; i++) {
        for (int k = 0; k < 3; k++)
            model_random_write(m);
        model_commit(m, MARK_CRASH);
    }
    for (uint64_t s = 1; s <= 100; s++)
        if (s % 10 != 0)
            drop[count++] = s;
    assert_int_equal(store_drop_points(m->store, drop, count, &dropped, &err), 0);
    assert_int_equal(dropped, 90);
    for (size_t i = 0; i < count; i++)
        model_forget(m, drop[i]);
    merge_all(m);
    model_check_all(m);
    model_crash(m);
    model_open(m);
    assert_int_equal(store_points(m->store)->count, 10);
    model_check_all(m);
}

static void a_lower_epoch_is_refused_after_a_higher_one(void **state)
{
    struct model *m = *state;
    struct store_opened opened;
    struct err err = ERR_INIT;
    assert_int_equal(store_begin(m->store, 1, 9, &opened, &err), 0);
    uint32_t stream = opened.nonce_stream;
    assert_int_equal(store_begin(m->store, 1, 8, &opened, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    model_crash(m);
    assert_int_equal(store_open(&m->conf, &m->store, &err), 0);
    assert_int_equal(store_begin(m->store, 1, 8, &opened, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_int_equal(store_begin(m->store, 1, 9, &opened, &err), 0);
    assert_true(opened.nonce_stream > stream);
}

/* A sender that counts wrongly must not leave the machine without epochs. */
static void an_epoch_out_of_all_proportion_is_refused(void **state)
{
    static const uint64_t far[] = {UINT64_MAX, 1ULL << 63, (1ULL << 62) + 1, 1ULL << 50};
    struct model *m = *state;
    struct store_opened opened;
    struct err err = ERR_INIT;
    uint64_t before = store_epoch(m->store);
    for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
        err_clear(&err);
        assert_int_equal(store_begin(m->store, 1, far[i], &opened, &err), -1);
        assert_int_equal(err.code, ERR_REFUSED);
        assert_int_equal(store_epoch(m->store), before);
    }
    assert_int_equal(store_begin(m->store, 1, before + (1ULL << 33), &opened, &err), 0); /* as after a rebuild */
}

static void a_stale_generation_is_refused(void **state)
{
    struct model *m = *state;
    struct store_opened opened;
    struct err err = ERR_INIT;
    assert_int_equal(store_set_generation(m->store, 5, &err), 0);
    assert_int_equal(store_begin(m->store, 4, 100, &opened, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_int_equal(store_begin(m->store, 6, 100, &opened, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
}

static void a_changed_byte_in_a_batch_is_refused(void **state)
{
    struct model *m = *state;
    struct err err = ERR_INIT;
    uint64_t committed;
    model_write(m, 0, 0, 4096, false);
    model_mark(m, MARK_CRASH);
    m->batch.data[RECORD_HEADER_SIZE + 100] ^= 1;
    assert_int_equal(store_append(m->store, m->batch.data, m->batch.len, &committed, &err), -1);
    assert_int_equal(committed, 0);
    assert_int_equal(store_committed(m->store), 0);
}

static void a_set_that_lost_a_record_is_refused(void **state)
{
    struct model *m = *state;
    struct err err = ERR_INIT;
    uint64_t committed;
    model_zero(m, 0, 0, 4096);
    size_t first = m->batch.len;
    model_zero(m, 0, 8192, 4096);
    model_mark(m, MARK_CRASH);
    assert_int_equal(store_append(m->store, m->batch.data + first, m->batch.len - first, &committed, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
}

static void a_skipped_sequence_is_refused(void **state)
{
    struct model *m = *state;
    struct err err = ERR_INIT;
    uint64_t committed;
    model_zero(m, 0, 0, 4096);
    model_mark(m, MARK_CRASH);
    assert_int_equal(store_append(m->store, m->batch.data, m->batch.len, &committed, &err), 0);
    assert_int_equal(store_append(m->store, m->batch.data, m->batch.len, &committed, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_int_equal(committed, 1);
}

static void a_wrong_vault_key_is_a_clear_error(void **state)
{
    struct model *m = *state;
    struct err err = ERR_INIT;
    struct store *s = NULL;
    model_close(m);
    m->conf.vault_key.bytes[0] ^= 1;
    assert_int_equal(store_open(&m->conf, &s, &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    assert_true(err.correction[0] != '\0');
    m->conf.vault_key.bytes[0] ^= 1;
    model_open(m);
}

static void a_full_disk_is_refused_before_it_is_full(void **state)
{
    struct model *m = *state;
    struct err err = ERR_INIT;
    uint64_t committed;
    model_random_write(m);
    model_commit(m, MARK_CRASH);
    model_close(m);
    m->conf.reserve_bytes = 1ULL << 60;
    model_open(m);
    model_random_write(m);
    model_mark(m, MARK_CRASH);
    assert_int_equal(store_append(m->store, m->batch.data, m->batch.len, &committed, &err), -1);
    assert_int_equal(err.code, ERR_NOSPACE);
    assert_true(err.correction[0] != '\0');
    assert_int_equal(committed, 1);
    model_check_all(m);
}

static void a_flipped_bit_in_a_segment_is_an_error_never_data(void **state)
{
    struct model *m = *state;
    struct err err = ERR_INIT;
    char path[400];
    struct view *v AUTO_OF(view) = NULL;
    uint8_t out[65536];
    model_write(m, 0, 0, 65536, false);
    model_commit(m, MARK_CRASH);
    model_write(m, 0, 65536, 65536, false);
    model_commit(m, MARK_CRASH);
    assert_int_equal(store_flush(m->store, &err), 0);
    (void)snprintf(path, sizeof(path), "%s/main/0000000000000001.seg", m->machine_dir);
    FILE *f = fopen(path, "r+");
    assert_int_equal(fseek(f, SEGMENT_HEADER_SIZE + RECORD_HEADER_SIZE + 1000, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    assert_int_equal(fputc(c ^ 4, f), c ^ 4);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(view_open(m->machine_dir, 2, &m->opened.keys, 0, &v, &err), 0);
    assert_int_equal(view_read(v, 0, 0, 4096, out, &err), -1);
    assert_int_equal(view_read(v, 0, 65536, 65536, out, &err), 0);
    assert_memory_equal(out, m->disks[0] + 65536, 65536);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_committed_point_reads_back),
        TEST(the_time_of_a_group_point_is_learnt_from_its_mark),
        TEST(each_of_many_points_shows_its_own_moment),
        TEST(a_progress_mark_is_durable_but_no_point),
        TEST(points_survive_close_and_crash),
        TEST(what_has_no_mark_never_was),
        TEST(behind_a_long_change_set_the_next_one_goes_past_the_page_cache),
        TEST(the_index_is_rebuilt_from_the_log),
        TEST(a_page_that_cannot_be_read_leaves_what_the_index_knows),
        TEST(a_page_that_is_read_in_the_end_costs_nothing),
        TEST(a_page_that_cannot_be_read_ends_the_log_where_the_index_does_not_reach),
        TEST(a_page_that_is_read_after_it_was_given_up_does_not_count),
        TEST(nothing_is_appended_behind_a_mark_that_does_not_count),
        TEST(verification_goes_on_behind_a_page_that_cannot_be_read),
        TEST(a_last_segment_of_which_nothing_can_be_read_is_left),
        TEST(merging_changes_no_point),
        TEST(deltas_do_not_gather_over_a_large_disk),
        TEST(dropped_points_go_and_the_others_stay),
        TEST(a_lower_epoch_is_refused_after_a_higher_one),
        TEST(an_epoch_out_of_all_proportion_is_refused),
        TEST(a_stale_generation_is_refused),
        TEST(a_changed_byte_in_a_batch_is_refused),
        TEST(a_set_that_lost_a_record_is_refused),
        TEST(a_skipped_sequence_is_refused),
        TEST(a_wrong_vault_key_is_a_clear_error),
        TEST(a_full_disk_is_refused_before_it_is_full),
        TEST(a_flipped_bit_in_a_segment_is_an_error_never_data),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
