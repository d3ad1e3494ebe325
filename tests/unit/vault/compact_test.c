/* SPDX-License-Identifier: Apache-2.0
 *
 * Compaction: what retention has let go gives its space back, everything else stays as it was, whatever the index goes through
 * afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/crashpoint.h"
#include "transport/base/file.h"
#include "transport/log/segment.h"
#include "transport/vault/store_compact.h"
#include "transport/vault/view.h"

#define SEGMENT_BYTES (64u << 10)

static void ok(int result, const struct err *err)
{
    if (result < 0)
        fail_msg("%s", err->text);
}

static void merge_all(struct model *m)
{
    struct err err = ERR_INIT;
    struct store_merge *merge = NULL;
    int got;
    while ((got = store_merge_plan(m->store, &merge, &err)) > 0) {
        ok(store_merge_run(merge, &err), &err);
        ok(store_merge_finish(m->store, merge, &err), &err);
        store_merge_free(merge);
        merge = NULL;
    }
    ok(got, &err);
}

/* All of it, as the daemon does it in the background. Returns how many segments were rewritten. */
static unsigned compact_with(struct model *m, const struct compact_spec *spec, struct compact_space *ret_space)
{
    struct err err = ERR_INIT;
    struct store_compact *c AUTO_OF(store_compact) = NULL;
    unsigned rewritten = 0;
    int got = store_compact_plan(m->store, spec, &c, &err);
    ok(got, &err);
    if (got == 0)
        return 0;
    ok(store_compact_look(c, &err), &err);
    store_compact_trim(m->store, c);
    while ((got = store_compact_rewrite(c, &err)) > 0) {
        ok(store_compact_finish(m->store, c, &err), &err);
        rewritten++;
    }
    ok(got, &err);
    if (ret_space != NULL)
        *ret_space = *store_compact_space(c);
    merge_all(m);
    return rewritten;
}

static unsigned compact(struct model *m, struct compact_space *ret_space)
{
    return compact_with(m, &(struct compact_spec){.least_percent = 1}, ret_space);
}

static uint64_t folder_bytes(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    uint64_t sum = 0;
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char inner[400];
        struct stat st;
        (void)snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
        if (entry->d_name[0] == '.' || lstat(inner, &st) < 0)
            continue;
        sum += S_ISDIR(st.st_mode) ? folder_bytes(inner) : (uint64_t)st.st_size;
    }
    (void)closedir(dir);
    return sum;
}

static uint64_t log_bytes(const struct model *m)
{
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/main", m->machine_dir);
    return folder_bytes(path);
}

/* Points on a disk of which the same part is written again and again. */
static void churn(struct model *m, unsigned points, unsigned writes)
{
    for (unsigned p = 0; p < points; p++) {
        for (unsigned i = 0; i < writes; i++)
            model_write(m, 0, model_random(m, 128) * 4096, 4096, false);
        model_commit(m, MARK_CRASH);
        merge_all(m);
    }
}

/* Every point but each n-th and the newest. */
static void thin_to_each(struct model *m, unsigned n)
{
    static uint64_t drop[MODEL_POINTS_MAX];
    size_t count = 0;
    for (unsigned i = 0; i + 1 < m->point_count; i++)
        if (i % n != 0)
            drop[count++] = m->points[i].sequence;
    model_drop(m, drop, count);
}

static void begin(struct model *m, uint64_t seed)
{
    model_init_sized(m, seed, (512u << 10) + 1536, 64u << 10);
    m->conf.segment_bytes = SEGMENT_BYTES;
    m->conf.flush_extents = 200;
    model_open(m);
}

static void remove_index(const struct model *m)
{
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/manifest", m->machine_dir);
    assert_int_equal(unlink(path), 0);
}

static void thinned_points_give_their_space_back(void **state)
{
    static struct model m;
    struct compact_space space;
    (void)state;
    begin(&m, 1);
    churn(&m, 200, 8);
    uint64_t before = log_bytes(&m);
    assert_int_equal(compact(&m, &space), 0); /* nothing was thinned: nothing may go */
    thin_to_each(&m, 50);
    assert_true(compact(&m, &space) > 10);
    assert_true(space.garbage_bytes > before / 2);
    assert_true(space.log_bytes == space.live_bytes + space.history_bytes + space.garbage_bytes);
    assert_true(log_bytes(&m) < before / 2);
    model_check_all(&m);
    assert_int_equal(compact(&m, &space), 0); /* once is enough */
    churn(&m, 50, 8);
    thin_to_each(&m, 3); /* a second time, over what was rewritten */
    assert_true(compact(&m, &space) > 3);
    model_check_all(&m);
    model_close(&m);
    model_open(&m);
    model_check_all(&m);
    model_done(&m);
}

/* The same points in a store that never had the others: what an equal history without them takes. */
static uint64_t fresh_store_bytes(const struct model *m)
{
    static struct model fresh;
    model_init(&fresh, 9);
    fresh.conf.segment_bytes = m->conf.segment_bytes;
    model_open(&fresh);
    for (unsigned p = 0; p < m->point_count; p++) {
        for (unsigned d = 0; d < MODEL_DISKS; d++) {
            for (uint64_t at = 0; at < m->disk_bytes[d]; at += 4096) {
                uint64_t left = m->disk_bytes[d] - at;
                uint32_t n = left < 4096 ? (uint32_t)left : 4096;
                if (memcmp(fresh.disks[d] + at, m->points[p].disks[d] + at, n) != 0)
                    model_put(&fresh, d, at, n, m->points[p].disks[d] + at);
            }
        }
        model_commit(&fresh, MARK_CRASH);
        merge_all(&fresh);
    }
    model_close(&fresh);
    uint64_t bytes = folder_bytes(fresh.machine_dir);
    model_done(&fresh);
    return bytes;
}

static void a_thinned_store_is_as_small_as_a_fresh_one(void **state)
{
    static struct model m;
    (void)state;
    model_init(&m, 2);
    m.conf.segment_bytes = 1u << 20;
    m.conf.flush_extents = 1000;
    model_open(&m);
    churn(&m, 1200, 12);
    thin_to_each(&m, 60);
    (void)compact_with(&m, &(struct compact_spec){.start_percent = 10, .least_percent = 6}, NULL);
    model_check_all(&m);
    model_close(&m);
    uint64_t thinned = folder_bytes(m.machine_dir);
    uint64_t fresh = fresh_store_bytes(&m);
    print_message("thinned %llu bytes, fresh %llu: %.3f\n", (unsigned long long)thinned, (unsigned long long)fresh,
        (double)thinned / (double)fresh);
    assert_true(thinned * 100 <= fresh * 105);
    model_open(&m);
    model_done(&m);
}

static void the_log_alone_gives_every_retained_point(void **state)
{
    static struct model m;
    (void)state;
    begin(&m, 3);
    churn(&m, 120, 8);
    thin_to_each(&m, 10);
    assert_true(compact(&m, NULL) > 3);
    churn(&m, 30, 8);
    for (int round = 0; round < 2; round++) {
        model_close(&m);
        remove_index(&m);
        model_open(&m);
        model_check_all(&m);
        /* Dropped points may come back where all that they need is still there, and are then what they were; none comes back
         * with holes. */
        const struct pointlist *points = store_points(m.store);
        assert_true(points->count >= m.point_count);
        for (size_t i = 0; i < points->count; i++) {
            struct err err = ERR_INIT;
            struct view *v AUTO_OF(view) = NULL;
            uint8_t *all = malloc(m.disk_bytes[0]);
            ok(view_open(m.machine_dir, points->items[i].sequence, &m.opened.keys, 0, &v, &err), &err);
            ok(view_read(v, 0, 0, m.disk_bytes[0], all, &err), &err);
            free(all);
        }
        (void)compact(&m, NULL); /* and again, with an index that knows less of what was */
        model_check_all(&m);
    }
    model_done(&m);
}

/* The mark of a dropped point is still in the log, in a segment that was not worth rewriting; what the point needs was in another
 * one, and went. */
static void a_dropped_point_whose_data_went_does_not_come_back(void **state)
{
    static struct model m;
    (void)state;
    begin(&m, 12);
    for (unsigned i = 0; i < 17; i++)
        model_write(&m, 0, i * 4096, 4096, false);
    model_commit(&m, MARK_CRASH); /* point 1, fills segment 1 */
    for (unsigned i = 0; i < 17; i++) {
        model_write(&m, 0, i * 4096, 4096, false);
        model_commit(&m, MARK_CRASH); /* points 2 to 18, in segments 2 and 3 */
    }
    uint64_t drop[15];
    for (unsigned i = 0; i < 15; i++)
        drop[i] = i + 1;
    model_drop(&m, drop, 15);
    assert_int_equal(compact_with(&m, &(struct compact_spec){.least_percent = 60}, NULL), 1);
    model_close(&m);
    remove_index(&m);
    model_open(&m);
    model_check_all(&m);
    const struct pointlist *points = store_points(m.store);
    for (size_t i = 0; i < points->count; i++)
        assert_true(points->items[i].sequence >= 16);
    model_done(&m);
}

/* Segments that this process has open and that have no name any more. */
static unsigned replaced_files_open(void)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    unsigned count = 0;
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char path[300], target[400];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        count += strstr(target, ".seg (deleted)") != NULL;
    }
    (void)closedir(dir);
    return count;
}

static void who_reads_an_old_point_goes_on(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    struct view *v AUTO_OF(view) = NULL;
    (void)state;
    begin(&m, 4);
    churn(&m, 100, 8);
    const struct model_point *p = &m.points[50];
    ok(view_open(m.machine_dir, p->sequence, &m.opened.keys, 1, &v, &err), &err);
    uint8_t *got = malloc(m.disk_bytes[0]);
    ok(view_read(v, 0, 0, m.disk_bytes[0] / 2, got, &err), &err); /* some segments are open, some are not */
    thin_to_each(&m, 50);                                         /* it stays: it is open */
    assert_true(compact(&m, NULL) > 3);
    ok(view_read(v, 0, 0, m.disk_bytes[0], got, &err), &err);
    assert_memory_equal(got, m.points[1].disks[0], m.disk_bytes[0]);
    assert_true(replaced_files_open() > 0);
    for (uint64_t i = 0; i < 5000; i++) /* and lets go of the replaced files, or their space would not come back */
        ok(view_read(v, 0, i * 4096 % (512u << 10), 4096, got, &err), &err);
    assert_int_equal(replaced_files_open(), 0);
    free(got);
    model_done(&m);
}

static void a_dropped_point_that_is_still_open_gets_errors_never_other_data(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    struct view *v AUTO_OF(view) = NULL;
    (void)state;
    begin(&m, 5);
    churn(&m, 100, 8);
    ok(view_open(m.machine_dir, m.points[55].sequence, &m.opened.keys, 1, &v, &err), &err);
    uint8_t *was = malloc(m.disk_bytes[0]);
    memcpy(was, m.points[55].disks[0], m.disk_bytes[0]);
    thin_to_each(&m, 50);
    assert_true(compact(&m, NULL) > 3);
    unsigned failed = 0;
    for (uint64_t at = 0; at + 4096 <= m.disk_bytes[0]; at += 4096) {
        uint8_t block[4096];
        if (view_read(v, 0, at, sizeof(block), block, &err) < 0) {
            assert_int_equal(err.code, ERR_CORRUPT);
            failed++;
        } else {
            assert_memory_equal(block, was + at, sizeof(block));
        }
    }
    assert_true(failed > 0);
    free(was);
    model_done(&m);
}

static void a_survey_in_windows_finds_the_same(void **state)
{
    static struct model m;
    struct compact_space all, windows;
    (void)state;
    begin(&m, 6);
    churn(&m, 150, 8);
    thin_to_each(&m, 20);
    (void)compact_with(&m, &(struct compact_spec){.start_percent = 101, .least_percent = 1}, &all);
    (void)compact_with(&m, &(struct compact_spec){.start_percent = 101, .least_percent = 1, .refs_max = 64}, &windows);
    assert_int_equal(all.live_bytes, windows.live_bytes);
    assert_int_equal(all.history_bytes, windows.history_bytes);
    assert_int_equal(all.garbage_bytes, windows.garbage_bytes);
    assert_true(compact_with(&m, &(struct compact_spec){.least_percent = 1, .refs_max = 64}, NULL) > 3);
    model_check_all(&m);
    model_done(&m);
}

static void a_damaged_segment_is_left_as_it_is(void **state)
{
    static struct model m;
    char path[300];
    (void)state;
    begin(&m, 7);
    churn(&m, 60, 8);
    thin_to_each(&m, 20);
    (void)snprintf(path, sizeof(path), "%s/main/0000000000000003.seg", m.machine_dir);
    FILE *f = fopen(path, "r+");
    assert_int_equal(fseek(f, 4096 + 10, SEEK_SET), 0); /* a header */
    assert_int_equal(fputc(0xEE, f), 0xEE);
    assert_int_equal(fclose(f), 0);
    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    assert_true(compact(&m, NULL) > 0); /* the others */
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    model_done(&m);
}

static void every_flipped_bit_of_a_rewritten_segment_is_an_error_or_no_matter(void **state)
{
    static struct model m;
    char path[300];
    struct stat st;
    (void)state;
    begin(&m, 8);
    churn(&m, 40, 8);
    thin_to_each(&m, 10);
    assert_true(compact(&m, NULL) > 0);
    (void)snprintf(path, sizeof(path), "%s/main/0000000000000001.seg", m.machine_dir);
    assert_int_equal(stat(path, &st), 0);
    unsigned errors = 0;
    for (int i = 0; i < 150; i++) {
        long at = (long)model_random(&m, (uint64_t)st.st_size);
        int bit = 1 << model_random(&m, 8);
        FILE *f = fopen(path, "r+");
        assert_int_equal(fseek(f, at, SEEK_SET), 0);
        int c = fgetc(f);
        assert_int_equal(fseek(f, at, SEEK_SET), 0);
        (void)fputc(c ^ bit, f);
        assert_int_equal(fclose(f), 0);
        for (unsigned p = 0; p < m.point_count; p++) {
            struct err err = ERR_INIT;
            struct view *v AUTO_OF(view) = NULL;
            uint8_t *all = malloc(m.disk_bytes[0]);
            if (view_open(m.machine_dir, m.points[p].sequence, &m.opened.keys, 1, &v, &err) < 0 ||
                view_read(v, 0, 0, m.disk_bytes[0], all, &err) < 0)
                errors++;
            else
                assert_memory_equal(all, m.points[p].disks[0], m.disk_bytes[0]);
            free(all);
        }
        f = fopen(path, "r+");
        assert_int_equal(fseek(f, at, SEEK_SET), 0);
        (void)fputc(c, f);
        assert_int_equal(fclose(f), 0);
    }
    assert_true(errors > 50);
    model_done(&m);
}

static void segments_of_a_change_of_generation_and_first_points_stay_readable(void **state)
{
    static struct model m;
    (void)state;
    begin(&m, 10);
    for (int i = 0; i < 20; i++) { /* an initial replication: progress marks, no points */
        for (int k = 0; k < 8; k++)
            model_write(&m, 0, model_random(&m, 128) * 4096, 4096, false);
        model_commit(&m, MARK_PROGRESS);
    }
    churn(&m, 60, 8);
    thin_to_each(&m, 1000); /* only the first and the newest */
    uint64_t first = m.points[0].sequence;
    model_drop(&m, &first, 1);
    assert_true(compact(&m, NULL) > 3);
    model_close(&m);
    remove_index(&m);
    model_open(&m); /* that points have begun must be known without any of the old ones */
    model_check_all(&m);
    churn(&m, 5, 2);
    model_check_all(&m);
    model_done(&m);
}

/* ---- killed at every named point ---- */

struct killer {
    struct model *m;
    char copy[200];
    unsigned countdown;
    char at[40];
};

static void on_crashpoint(void *arg, const char *name)
{
    struct killer *k = arg;
    if (k->countdown == 0 || --k->countdown > 0)
        return;
    (void)snprintf(k->at, sizeof(k->at), "%s", name);
    model_copy_tree(k->m->machine_dir, k->copy);
}

static void killed_at_any_point_of_compaction_nothing_is_lost(void **state)
{
    static struct model m;
    struct killer k = {.m = &m};
    struct err err = ERR_INIT;
    unsigned named = 0;
    (void)state;
    for (unsigned nth = 1;; nth++) {
        begin(&m, 11);
        m.conf.segment_bytes = 24u << 10;
        churn(&m, 40, 4);
        thin_to_each(&m, 12);
        (void)snprintf(k.copy, sizeof(k.copy), "%s/copy", m.dir);
        k.countdown = nth;
        k.at[0] = '\0';
        crashpoint_watch(on_crashpoint, &k);
        (void)compact(&m, NULL);
        crashpoint_watch(NULL, NULL);
        if (k.at[0] == '\0')
            break;
        named++;
        model_close(&m);
        ok(file_remove_tree(m.machine_dir, &err), &err);
        assert_int_equal(rename(k.copy, m.machine_dir), 0);
        if (nth % 2 == 0)
            remove_index(&m);
        model_open(&m);
        model_check_all(&m);
        (void)compact(&m, NULL);
        model_check_all(&m);
        model_done(&m);
    }
    model_done(&m);
    assert_true(named > 12);
}

/* A machine that writes little has one segment for days, and retention thins what is in it. */
static void the_last_segment_gives_its_space_back_too(void **state)
{
    struct model m;
    (void)state;
    begin(&m, 77);
    m.conf.segment_bytes = 4u << 20;
    model_close(&m);
    model_open(&m);
    churn(&m, 60, 12);
    uint64_t before = log_bytes(&m);
    assert_true(before < m.conf.segment_bytes); /* all of it is in the last segment */
    assert_int_equal(compact(&m, NULL), 0);
    churn(&m, 1, 1);
    assert_int_equal(compact(&m, NULL), 0); /* it is needed, every point of it: it was not sealed */
    thin_to_each(&m, 1000);
    assert_int_equal(compact(&m, NULL), 0); /* sealed */
    assert_int_equal(compact(&m, NULL), 0); /* and still the last */
    churn(&m, 1, 1);
    assert_int_equal(compact(&m, NULL), 1);
    assert_true(log_bytes(&m) < before / 2);
    model_check_all(&m);
    model_crash(&m);
    model_open(&m);
    model_check_all(&m);
    model_done(&m);
}

/* In the middle of a change set nothing is sealed: it would be torn. */
static void a_change_set_under_way_is_not_torn_by_sealing(void **state)
{
    struct model m;
    struct err err = ERR_INIT;
    uint64_t committed;
    (void)state;
    begin(&m, 78);
    m.conf.segment_bytes = 4u << 20;
    model_close(&m);
    model_open(&m);
    churn(&m, 60, 12);
    thin_to_each(&m, 1000);
    model_write(&m, 0, 4096, 4096, false);
    ok(store_append(m.store, m.batch.data, m.batch.len, &committed, &err), &err);
    buf_clear(&m.batch);
    assert_int_equal(compact(&m, NULL), 0);
    model_commit(&m, MARK_CRASH);
    model_check_all(&m);
    model_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thinned_points_give_their_space_back),
        cmocka_unit_test(a_thinned_store_is_as_small_as_a_fresh_one),
        cmocka_unit_test(the_log_alone_gives_every_retained_point),
        cmocka_unit_test(a_dropped_point_whose_data_went_does_not_come_back),
        cmocka_unit_test(who_reads_an_old_point_goes_on),
        cmocka_unit_test(a_dropped_point_that_is_still_open_gets_errors_never_other_data),
        cmocka_unit_test(a_survey_in_windows_finds_the_same),
        cmocka_unit_test(a_damaged_segment_is_left_as_it_is),
        cmocka_unit_test(every_flipped_bit_of_a_rewritten_segment_is_an_error_or_no_matter),
        cmocka_unit_test(segments_of_a_change_of_generation_and_first_points_stay_readable),
        cmocka_unit_test(the_last_segment_gives_its_space_back_too),
        cmocka_unit_test(a_change_set_under_way_is_not_torn_by_sealing),
        cmocka_unit_test(killed_at_any_point_of_compaction_nothing_is_lost),
    };
    return cmocka_run_group_tests_name("compact", tests, NULL, NULL);
}
