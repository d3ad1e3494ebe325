/* SPDX-License-Identifier: Apache-2.0
 *
 * Promotion of a branch: the machine's newest point holds what the branch held, all points before it stay as they were, older
 * generations are refused, and a kill -9 at any step leaves either the machine as it was or, after the next start, the branch promoted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/modelbranch.h"
#include "transport/base/crashpoint.h"
#include "transport/base/file.h"
#include "transport/vault/branchlist.h"
#include "transport/vault/promote.h"
#include "transport/vault/verify.h"

#define NAME "5a2f6a1e-0000-4000-8000-00000000000b"
#define GENERATION 2

struct fixture {
    struct model m;
    struct modelbranch r;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    model_init(&f->m, 815);
    model_open(&f->m);
    model_fill(&f->m, 4, 25);
    modelbranch_init(&f->r, &f->m, NAME);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    modelbranch_done(&f->r);
    model_done(&f->m);
    free(f);
    return 0;
}

/* A branch over the point with some changes, flushed `flushes` times, and closed. */
static void make_branch(struct fixture *f, unsigned point, int flushes)
{
    modelbranch_begin(&f->r, &f->m, NAME, point);
    for (int n = 0; n < flushes; n++)
        modelbranch_work(&f->r, &f->m, 10);
    modelbranch_close(&f->r);
}

static void reopen(struct fixture *f)
{
    struct err err = ERR_INIT;
    store_close(f->m.store);
    f->m.store = NULL;
    if (store_open(&f->m.conf, &f->m.store, &err) < 0)
        fail_msg("%s", err.text);
}

static bool is_branch(const struct fixture *f)
{
    return access(f->r.dir, F_OK) == 0;
}

/* The newest point is the branch's last content, and the others are as they were; also with an index made anew from the log. */
static void check_promoted(struct fixture *f)
{
    struct err err = ERR_INIT;
    assert_false(is_branch(f));
    const struct pointlist *points = store_points(f->m.store);
    assert_int_equal(points->count, f->m.point_count + 1);
    const struct point *last = &points->items[points->count - 1];
    assert_int_equal(last->generation, GENERATION);
    assert_int_equal(store_generation(f->m.store), GENERATION);
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        memcpy(f->m.disks[i], f->r.disks[i], f->m.disk_bytes[i]);
    model_keep_point(&f->m, last->sequence);
    model_check_all(&f->m);
    store_discard_index(f->m.store);
    reopen(f);
    assert_int_equal(store_points(f->m.store)->count, f->m.point_count);
    model_check_all(&f->m);
    assert_false(store_lost_commits(f->m.store));
    struct store_opened opened;
    assert_int_equal(store_begin(f->m.store, GENERATION - 1, 99, &opened, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
}

static void promote(struct fixture *f)
{
    struct err err = ERR_INIT;
    if (promote_prepare(f->m.store, NAME, GENERATION, &err) < 0)
        fail_msg("%s", err.text);
    reopen(f);
}

static void a_branch_of_the_newest_point_becomes_the_main_line(void **state)
{
    struct fixture *f = *state;
    make_branch(f, 3, 5);
    promote(f);
    check_promoted(f);
}

static void a_branch_of_an_older_point_takes_the_main_line_back_first(void **state)
{
    struct fixture *f = *state;
    make_branch(f, 1, 5);
    promote(f);
    check_promoted(f);
}

static void a_branch_that_was_never_written_to_takes_it_back_alone(void **state)
{
    struct fixture *f = *state;
    make_branch(f, 0, 0);
    promote(f);
    check_promoted(f);
}

static void replication_goes_on_behind_it_in_the_new_generation(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint64_t committed;
    make_branch(f, 1, 3);
    promote(f);
    check_promoted(f);
    f->m.epoch = store_epoch(f->m.store) + 1;
    assert_int_equal(store_begin(f->m.store, GENERATION, f->m.epoch, &f->m.opened, &err), 0);
    f->m.nonce = 0;
    for (int i = 0; i < 10; i++)
        model_random_write(&f->m);
    model_mark_at(&f->m, MARK_CRASH, store_committed(f->m.store) + 1, GENERATION);
    if (store_append(f->m.store, f->m.batch.data, f->m.batch.len, &committed, &err) < 0)
        fail_msg("%s", err.text);
    model_batch_reset(&f->m);
    model_keep_point(&f->m, committed);
    model_check_all(&f->m);
}

static void a_generation_that_has_points_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    make_branch(f, 1, 2);
    assert_int_equal(promote_prepare(f->m.store, NAME, 1, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_true(is_branch(f));
    model_check_all(&f->m);
}

static void a_damaged_branch_is_refused_and_nothing_happens(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char path[300];
    make_branch(f, 1, 4);
    (void)snprintf(path, sizeof(path), "%s/0000000000000001.seg", f->r.dir);
    FILE *file = fopen(path, "r+");
    assert_int_equal(fseek(file, 4096 + 20, SEEK_SET), 0);
    (void)fputc(0xee, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(promote_prepare(f->m.store, NAME, GENERATION, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    reopen(f);
    model_check_all(&f->m);
}

/* ---- killed at each step ---- */

static int countdown;

/* arg: the name of the steps that count; NULL: all. */
static void kill_at(void *arg, const char *name)
{
    if ((arg == NULL || strcmp(arg, name) == 0) && countdown-- == 0)
        _exit(77);
}

/* Promotes in a child that dies at the n-th step (of that name, if any). false: there are not so many. */
static bool die_at(struct fixture *f, int n, char *name)
{
    struct err err = ERR_INIT;
    int status;
    store_close(f->m.store);
    f->m.store = NULL;
    pid_t child = fork();
    if (child == 0) {
        struct store *s = NULL;
        if (store_open(&f->m.conf, &s, &err) < 0)
            _exit(1);
        countdown = n;
        crashpoint_watch(kill_at, name);
        if (promote_prepare(s, NAME, GENERATION, &err) < 0)
            _exit(2);
        store_close(s);
        s = NULL;
        _exit(store_open(&f->m.conf, &s, &err) < 0 ? 3 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 0);
    reopen(f);
    return WEXITSTATUS(status) == 77;
}

static void killed_anywhere_it_is_promoted_or_as_it_was(void **state)
{
    (void)state;
    bool more = true;
    int before = 0, after = 0;
    for (int n = 0; more; n++) {
        struct fixture *f = NULL;
        assert_int_equal(setup((void **)&f), 0);
        make_branch(f, 1, 3);
        more = die_at(f, n, NULL);
        if (is_branch(f)) {
            model_check_all(&f->m);
            assert_int_equal(store_points(f->m.store)->count, f->m.point_count);
            promote(f);
            before++;
        } else {
            after++;
        }
        check_promoted(f);
        assert_int_equal(teardown((void **)&f), 0);
    }
    assert_true(before > 2 && after > 2);
}

/* More than a segment: one of them is in the main line when it is killed, the other is not. */
static void killed_between_two_segments_it_goes_on_with_the_second(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char second[300];
    struct view *base;
    struct branch *b;
    uint32_t stream;
    make_branch(f, 1, 2);
    assert_int_equal(store_take_nonce_stream(f->m.store, &stream, &err), 0);
    assert_int_equal(view_open(f->m.machine_dir, f->m.points[1].sequence, &f->m.opened.keys, 0, &base, &err), 0);
    struct branch_conf conf = {.dir = f->r.dir, .base = base, .keys = &f->m.opened.keys, .nonce_stream = stream};
    assert_int_equal(branch_open(&conf, &b, &err), 0);
    (void)snprintf(second, sizeof(second), "%s/0000000000000002.seg", f->r.dir);
    for (int flush = 0; access(second, F_OK) < 0; flush++) {
        for (uint64_t at = 0; at < f->m.disk_bytes[1]; at += 8)
            memcpy(f->r.disks[1] + at, &(uint64_t){model_random(&f->m, UINT64_MAX)}, 8);
        assert_int_equal(branch_write(b, 1, 0, f->m.disk_bytes[1], f->r.disks[1], &err), 0);
        assert_int_equal(branch_flush(b, &err), 0);
    }
    branch_close(b);
    view_close(base);
    assert_true(die_at(f, 0, "promote.moved"));
    check_promoted(f);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_branch_of_the_newest_point_becomes_the_main_line),
        TEST(a_branch_of_an_older_point_takes_the_main_line_back_first),
        TEST(a_branch_that_was_never_written_to_takes_it_back_alone),
        TEST(replication_goes_on_behind_it_in_the_new_generation),
        TEST(a_generation_that_has_points_is_refused),
        TEST(a_damaged_branch_is_refused_and_nothing_happens),
        TEST(killed_between_two_segments_it_goes_on_with_the_second),
        cmocka_unit_test(killed_anywhere_it_is_promoted_or_as_it_was),
    };
    return cmocka_run_group_tests_name("promote", tests, NULL, NULL);
}
