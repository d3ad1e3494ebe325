/* SPDX-License-Identifier: Apache-2.0
 *
 * P2 at the agent: what was drained is kept until it is committed, whatever happens to the process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/sync/retained.h"
#include "tests/unit/mobility/track/loopdisk.h"

#define SIZE (256u << 20)
#define GRANULE 4096u

static const bool in[RETAINED_DISKS_MAX] = {true};
static const struct dirty_tag tag = {.boot_id = "a boot", .incarnation = 7};

static struct retained *open_store(const char *dir, const struct dirty_tag *t, bool *ret_resumed)
{
    struct retained *s;

    assert_int_equal(retained_new(dir, &s, NULL), 0);
    assert_int_equal(retained_add(s, 0, 5, SIZE, 12, t, ret_resumed, NULL), 0);
    assert_int_equal(retained_keep(s, 0, NULL), 0);
    return s;
}

static void drain(struct retained *s, uint64_t block)
{
    assert_int_equal(dirty_set(retained_open_set(s, 0), block * GRANULE, GRANULE, NULL), 0);
}

static bool is_open(struct retained *s, uint64_t block)
{
    return dirty_test(retained_open_set(s, 0), block * GRANULE);
}

static void only_committed_sets_are_forgotten(void **state)
{
    struct retained *s;
    bool resumed;
    char dir[64];

    (void)state;
    temp_init(dir);
    s = open_store(dir, &tag, &resumed);
    assert_false(resumed);
    drain(s, 1);
    assert_int_equal(retained_close(s, 10, in, NULL), 0);
    assert_false(is_open(s, 1));
    drain(s, 2);
    assert_int_equal(retained_close(s, 11, in, NULL), 0);
    drain(s, 3);
    assert_int_equal(retained_bytes(s), 3 * GRANULE);
    retained_commit(s, 10);
    assert_int_equal(retained_bytes(s), 2 * GRANULE);
    assert_int_equal(retained_reopen(s, NULL), 0);
    assert_false(is_open(s, 1));
    assert_true(is_open(s, 2));
    assert_true(is_open(s, 3));
    retained_free(s);
    temp_done(dir);
}

static void with_all_slots_taken_the_open_one_collects(void **state)
{
    struct retained *s;
    bool resumed;
    char dir[64];

    (void)state;
    temp_init(dir);
    s = open_store(dir, &tag, &resumed);
    for (uint64_t i = 1; i <= 20; i++) {
        drain(s, i);
        assert_int_equal(retained_close(s, i, in, NULL), 0);
    }
    retained_commit(s, 20); /* those that could not be closed are still held: more than needed, never less */
    assert_int_equal(retained_bytes(s), (20 - (RETAINED_SLOTS - 1)) * GRANULE);
    drain(s, 21);
    assert_int_equal(retained_close(s, 21, in, NULL), 0);
    retained_commit(s, 21);
    assert_int_equal(retained_bytes(s), 0);
    retained_free(s);
    temp_done(dir);
}

static void a_disk_that_takes_no_part_stays_open(void **state)
{
    struct retained *s;
    bool resumed;
    char dir[64];

    (void)state;
    temp_init(dir);
    s = open_store(dir, &tag, &resumed);
    assert_int_equal(retained_add(s, 1, 6, SIZE, 12, &tag, &resumed, NULL), 0);
    drain(s, 1);
    assert_int_equal(dirty_set(retained_open_set(s, 1), 0, GRANULE, NULL), 0);
    assert_int_equal(retained_close(s, 3, in, NULL), 0);
    retained_commit(s, 3);
    assert_int_equal(retained_bytes(s), GRANULE);
    assert_true(dirty_test(retained_open_set(s, 1), 0));
    assert_int_equal(retained_close(s, 4, in, NULL), 0);
    retained_commit(s, 4);
    assert_true(dirty_test(retained_open_set(s, 1), 0));
    retained_free(s);
    temp_done(dir);
}

static void another_tag_is_not_resumed(void **state)
{
    struct dirty_tag other = tag;
    struct retained *s;
    bool resumed;
    char dir[64];

    (void)state;
    temp_init(dir);
    s = open_store(dir, &tag, &resumed);
    drain(s, 1);
    retained_free(s);
    s = open_store(dir, &tag, &resumed);
    assert_true(resumed);
    assert_true(is_open(s, 1));
    retained_free(s);
    other.incarnation++;
    s = open_store(dir, &other, &resumed);
    assert_false(resumed);
    assert_false(is_open(s, 1));
    retained_free(s);
    temp_done(dir);
}

/* A process that died before it had noted that the disk is to be compared. */
static void what_was_not_kept_is_not_resumed(void **state)
{
    struct dirty_tag other = tag;
    struct retained *s;
    bool resumed;
    char dir[64];

    (void)state;
    temp_init(dir);
    s = open_store(dir, &tag, &resumed);
    retained_free(s);
    other.incarnation++;
    for (int lives = 0; lives < 3; lives++) {
        assert_int_equal(retained_new(dir, &s, NULL), 0);
        assert_int_equal(retained_add(s, 0, 5, SIZE, 12, &other, &resumed, NULL), 0);
        assert_false(resumed);
        drain(s, 1);
        retained_free(s);
    }
    s = open_store(dir, &other, &resumed);
    assert_false(resumed);
    drain(s, 2);
    retained_free(s);
    s = open_store(dir, &other, &resumed);
    assert_true(resumed);
    assert_true(is_open(s, 2));
    assert_false(is_open(s, 1));
    retained_remove(s, 0);
    must_run("! ls %s | grep -q '^5[.]'", dir);
    retained_free(s);
    temp_done(dir);
}

static void a_removed_disk_leaves_no_file(void **state)
{
    struct retained *s;
    bool resumed;
    char dir[64];

    (void)state;
    temp_init(dir);
    s = open_store(dir, &tag, &resumed);
    drain(s, 1);
    retained_remove(s, 0);
    must_run("! ls %s | grep -q dirty", dir);
    retained_free(s);
    temp_done(dir);
}

/* The child drains, closes and commits for ever and says in shared memory what it has drained and what is committed. */
static void work_until_killed(const char *dir, volatile uint64_t *drained, volatile uint64_t *committed)
{
    bool resumed;
    struct retained *s = open_store(dir, &tag, &resumed);

    for (uint64_t i = *drained;;) {
        for (int n = 0; n < 3; n++) {
            drain(s, i % (SIZE / GRANULE));
            *drained = ++i;
        }
        if (retained_close(s, i, in, NULL) < 0)
            _exit(1);
        if (i > 30) {
            *committed = i - 30;
            retained_commit(s, i - 30);
        }
    }
}

static void a_kill_at_any_moment_loses_nothing(void **state)
{
    volatile uint64_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char dir[64];

    (void)state;
    temp_init(dir);
    for (int round = 0; round < 20; round++) {
        struct retained *s;
        bool resumed;
        uint64_t before = shared[0];
        pid_t pid = fork();

        if (pid == 0)
            work_until_killed(dir, &shared[0], &shared[1]);
        while (shared[0] < before + 100 + (uint64_t)round * 37)
            usleep(100);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        s = open_store(dir, &tag, &resumed);
        assert_true(resumed || round == 0);
        retained_commit(s, shared[1]);
        assert_int_equal(retained_reopen(s, NULL), 0);
        for (uint64_t i = shared[1]; i < shared[0]; i++)
            if (!is_open(s, i % (SIZE / GRANULE)))
                fail_msg("block %llu was drained, is not committed, and is lost", (unsigned long long)i);
        retained_free(s);
    }
    munmap((void *)shared, 4096);
    temp_done(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_committed_sets_are_forgotten),
        cmocka_unit_test(with_all_slots_taken_the_open_one_collects),
        cmocka_unit_test(a_disk_that_takes_no_part_stays_open),
        cmocka_unit_test(another_tag_is_not_resumed),
        cmocka_unit_test(what_was_not_kept_is_not_resumed),
        cmocka_unit_test(a_removed_disk_leaves_no_file),
        cmocka_unit_test(a_kill_at_any_moment_loses_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
