/* SPDX-License-Identifier: Apache-2.0
 *
 * Following a branch: each pass makes a point of the machine that holds what the branch held at its last flush, all points before stay as they were,
 * older generations are refused, and after a kill -9 at any step the next pass makes the same of it.
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
#include "transport/base/mem.h"
#include "transport/vault/branch.h"
#include "transport/vault/follow.h"

#define NAME "5a2f6a1e-0000-4000-8000-00000000000b"
#define GENERATION 2

struct fixture {
    struct model m;
    struct modelbranch r; /* open: the replica runs */
    uint64_t epoch;
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

static void reopen(struct fixture *f)
{
    struct err err = ERR_INIT;
    store_close(f->m.store);
    f->m.store = NULL;
    f->epoch = 0;
    if (store_open(&f->m.conf, &f->m.store, &err) < 0)
        fail_msg("%s", err.text);
}

/* A pass; its point must hold what the branch does. */
static struct follow_result pass(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct follow_result result;
    if (follow_branch(f->m.store, NAME, GENERATION, &f->epoch, &result, &err) < 0)
        fail_msg("%s", err.text);
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        memcpy(f->m.disks[i], f->r.disks[i], f->m.disk_bytes[i]);
    model_keep_point(&f->m, result.sequence);
    return result;
}

static void check_all(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct store_opened opened;
    model_check_all(&f->m);
    store_discard_index(f->m.store);
    reopen(f);
    assert_int_equal(store_points(f->m.store)->count, f->m.point_count);
    model_check_all(&f->m);
    assert_int_equal(store_generation(f->m.store), GENERATION);
    assert_int_equal(store_begin(f->m.store, GENERATION - 1, store_epoch(f->m.store) + 1, &opened, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
}

static void points_go_on_from_the_newest_point(void **state)
{
    struct fixture *f = *state;
    modelbranch_begin(&f->r, &f->m, NAME, 3);
    for (int i = 0; i < 4; i++) {
        modelbranch_work(&f->r, &f->m, 10);
        assert_true(pass(f).records > 0);
    }
    check_all(f);
}

static void points_go_on_from_an_older_point(void **state)
{
    struct fixture *f = *state;
    modelbranch_begin(&f->r, &f->m, NAME, 1);
    pass(f); /* nothing was written yet: the main line is taken back */
    for (int i = 0; i < 4; i++) {
        modelbranch_work(&f->r, &f->m, 10);
        pass(f);
    }
    check_all(f);
}

static void only_what_came_since_the_last_pass_is_taken(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    modelbranch_begin(&f->r, &f->m, NAME, 3);
    modelbranch_work(&f->r, &f->m, 50);
    assert_true(pass(f).records >= 50);
    assert_int_equal(pass(f).records, 0);
    memset(f->r.disks[0] + 4096, 0x5a, 4096);
    assert_int_equal(branch_write(f->r.b, 0, 4096, 4096, f->r.disks[0] + 4096, &err), 0);
    assert_int_equal(branch_flush(f->r.b, &err), 0);
    const struct follow_result one = pass(f);
    assert_int_equal(one.records, 1);
    assert_int_equal(one.bytes, 4096);
    check_all(f);
}

/* As after a power failure: what was not flushed is not there. */
static void what_was_not_flushed_waits(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint8_t unflushed[4096];
    modelbranch_begin(&f->r, &f->m, NAME, 3);
    modelbranch_work(&f->r, &f->m, 10);
    memset(unflushed, 0x77, sizeof(unflushed));
    assert_int_equal(branch_write(f->r.b, 1, 0, sizeof(unflushed), unflushed, &err), 0);
    pass(f);
    model_check_all(&f->m);
    memcpy(f->r.disks[1], unflushed, sizeof(unflushed));
    assert_int_equal(branch_flush(f->r.b, &err), 0);
    pass(f);
    check_all(f);
}

static void it_goes_over_several_segments_while_the_replica_writes(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char third[300];
    modelbranch_begin(&f->r, &f->m, NAME, 2);
    (void)snprintf(third, sizeof(third), "%s/0000000000000003.seg", f->r.dir);
    while (access(third, F_OK) < 0) {
        for (uint64_t at = 0; at < f->m.disk_bytes[1]; at += 8)
            memcpy(f->r.disks[1] + at, &(uint64_t){model_random(&f->m, UINT64_MAX)}, 8);
        for (int n = 0; n < 8; n++)
            assert_int_equal(branch_write(f->r.b, 1, 0, f->m.disk_bytes[1], f->r.disks[1], &err), 0);
        assert_int_equal(branch_flush(f->r.b, &err), 0);
        if (model_random(&f->m, 3) == 0)
            pass(f);
    }
    pass(f);
    check_all(f);
}

/* The replica's host was started again, or the vault: the log of the branch goes on, and so do the passes. */
static void it_goes_on_after_the_branch_and_the_store_were_closed(void **state)
{
    struct fixture *f = *state;
    modelbranch_begin(&f->r, &f->m, NAME, 1);
    modelbranch_work(&f->r, &f->m, 20);
    pass(f);
    modelbranch_work(&f->r, &f->m, 20);
    modelbranch_close(&f->r);
    reopen(f);
    modelbranch_open(&f->r, &f->m, NAME, 1);
    modelbranch_work(&f->r, &f->m, 20);
    const struct follow_result next = pass(f);
    assert_true(next.records > 0);
    check_all(f);
    assert_int_equal(pass(f).records, 0);
}

static void without_its_note_all_is_taken_again(void **state)
{
    struct fixture *f = *state;
    char path[300];
    modelbranch_begin(&f->r, &f->m, NAME, 1);
    modelbranch_work(&f->r, &f->m, 20);
    const struct follow_result first = pass(f);
    (void)snprintf(path, sizeof(path), "%s/followed", f->r.dir);
    FILE *file = fopen(path, "r+");
    assert_int_equal(fseek(file, 30, SEEK_SET), 0);
    (void)fputc(0xee, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(pass(f).records, first.records);
    check_all(f);
}

/* Whoever has a newer generation is the primary: nothing of the branch is taken any more. */
static void an_old_generation_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct follow_result result;
    modelbranch_begin(&f->r, &f->m, NAME, 3);
    modelbranch_work(&f->r, &f->m, 10);
    pass(f);
    assert_int_equal(store_set_generation(f->m.store, GENERATION + 1, &err), 0);
    modelbranch_work(&f->r, &f->m, 10);
    assert_int_equal(follow_branch(f->m.store, NAME, GENERATION, &f->epoch, &result, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    model_check_all(&f->m);
}

static void a_damaged_branch_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct follow_result result;
    char path[300];
    modelbranch_begin(&f->r, &f->m, NAME, 3);
    modelbranch_work(&f->r, &f->m, 30);
    (void)snprintf(path, sizeof(path), "%s/branch", f->r.dir);
    FILE *file = fopen(path, "r+");
    assert_int_equal(fseek(file, 44, SEEK_SET), 0);
    (void)fputc(0xee, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(follow_branch(f->m.store, NAME, GENERATION, &f->epoch, &result, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    model_check_all(&f->m);
}

/* ---- killed at each step ---- */

static int countdown;

static void kill_at(void *arg, const char *name)
{
    (void)arg;
    (void)name;
    if (countdown-- == 0)
        _exit(77);
}

/* A pass in a child that dies at the n-th step; false: there are not so many. */
static bool die_at(struct fixture *f, int n)
{
    struct err err = ERR_INIT;
    int status;
    store_close(f->m.store);
    f->m.store = NULL;
    pid_t child = fork();
    if (child == 0) {
        struct store *s = NULL;
        struct follow_result result;
        uint64_t epoch = 0;
        if (store_open(&f->m.conf, &s, &err) < 0)
            _exit(1);
        countdown = n;
        crashpoint_watch(kill_at, NULL);
        _exit(follow_branch(s, NAME, GENERATION, &epoch, &result, &err) < 0 ? 2 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 0);
    reopen(f);
    return WEXITSTATUS(status) == 77;
}

static void killed_anywhere_the_next_pass_makes_the_same_of_it(void **state)
{
    bool more = true;
    int deaths = 0;
    (void)state;
    for (int n = 0; more; n++) {
        struct fixture *f = NULL;
        assert_int_equal(setup((void **)&f), 0);
        modelbranch_begin(&f->r, &f->m, NAME, 1);
        modelbranch_work(&f->r, &f->m, 20);
        more = die_at(f, n);
        deaths += more;
        /* The dead one may have come to its point. */
        const struct pointlist *points = store_points(f->m.store);
        if (points->count > f->m.point_count) {
            for (unsigned i = 0; i < MODEL_DISKS; i++)
                memcpy(f->m.disks[i], f->r.disks[i], f->m.disk_bytes[i]);
            model_keep_point(&f->m, points->items[points->count - 1].sequence);
        }
        modelbranch_work(&f->r, &f->m, 5);
        pass(f);
        check_all(f);
        assert_int_equal(teardown((void **)&f), 0);
    }
    assert_true(deaths >= 5);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(points_go_on_from_the_newest_point),
        TEST(points_go_on_from_an_older_point),
        TEST(only_what_came_since_the_last_pass_is_taken),
        TEST(what_was_not_flushed_waits),
        TEST(it_goes_over_several_segments_while_the_replica_writes),
        TEST(it_goes_on_after_the_branch_and_the_store_were_closed),
        TEST(without_its_note_all_is_taken_again),
        TEST(an_old_generation_is_refused),
        TEST(a_damaged_branch_is_an_error),
        cmocka_unit_test(killed_anywhere_the_next_pass_makes_the_same_of_it),
    };
    return cmocka_run_group_tests_name("follow", tests, NULL, NULL);
}
