/* SPDX-License-Identifier: Apache-2.0 */
#include "mobility/track/dirty.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/mobility/track/loopdisk.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static struct dirty *new_set(uint64_t size)
{
    struct dirty *d = NULL;
    struct err err = ERR_INIT;

    if (dirty_new(size, 12, &d, &err) < 0)
        fail_msg("%s", err.text);
    return d;
}

static void expect_next(const struct dirty *d, uint64_t *cursor, uint64_t max, uint64_t start, uint64_t length)
{
    uint64_t s, l;

    assert_int_equal(dirty_next(d, cursor, max, &s, &l), 1);
    assert_int_equal(s, start);
    assert_int_equal(l, length);
}

static void expect_end(const struct dirty *d, uint64_t *cursor, uint64_t max)
{
    uint64_t s, l;

    assert_int_equal(dirty_next(d, cursor, max, &s, &l), 0);
}

static void test_ranges_are_rounded_out_and_joined(void **state)
{
    struct dirty *d = new_set(GIB);
    uint64_t cursor = 0;

    (void)state;
    assert_int_equal(dirty_set(d, 4095, 2, NULL), 0);
    assert_int_equal(dirty_set(d, 8192, 1, NULL), 0);
    assert_int_equal(dirty_set(d, 512 * MIB - 1, 4098, NULL), 0);
    expect_next(d, &cursor, 0, 0, 12288);
    expect_next(d, &cursor, 0, 512 * MIB - 4096, 12288);
    expect_end(d, &cursor, 0);
    assert_int_equal(dirty_count(d), 6);
    dirty_close(d);
}

static void test_ranges_are_cut_at_multiples(void **state)
{
    struct dirty *d = new_set(GIB);
    uint64_t cursor = 0;

    (void)state;
    assert_int_equal(dirty_set(d, 60 * KIB, 80 * KIB, NULL), 0);
    expect_next(d, &cursor, 64 * KIB, 60 * KIB, 4 * KIB);
    expect_next(d, &cursor, 64 * KIB, 64 * KIB, 64 * KIB);
    expect_next(d, &cursor, 64 * KIB, 128 * KIB, 12 * KIB);
    expect_end(d, &cursor, 64 * KIB);
    dirty_close(d);
}

static void test_the_last_short_granule_counts_with_its_bytes(void **state)
{
    struct dirty *d = new_set(MIB + 1536);
    uint64_t cursor = MIB - 4096;

    (void)state;
    assert_int_equal(dirty_set(d, MIB - 4096, GIB, NULL), 0);
    assert_int_equal(dirty_count(d), 2);
    assert_int_equal(dirty_bytes(d), 4096 + 1536);
    expect_next(d, &cursor, 0, MIB - 4096, 4096 + 1536);
    dirty_clear(d, MIB, 1536);
    assert_int_equal(dirty_count(d), 1);
    assert_int_equal(dirty_set(d, MIB + 1536, 4096, NULL), 0); /* behind the end */
    assert_int_equal(dirty_count(d), 1);
    dirty_close(d);
}

static void test_clearing_takes_only_whole_granules(void **state)
{
    struct dirty *d = new_set(MIB);

    (void)state;
    assert_int_equal(dirty_set_all(d, NULL), 0);
    assert_int_equal(dirty_count(d), 256);
    dirty_clear(d, 4095, 8194); /* touches four, covers two */
    assert_int_equal(dirty_count(d), 254);
    assert_true(dirty_test(d, 0));
    assert_false(dirty_test(d, 4096));
    assert_false(dirty_test(d, 8192));
    assert_true(dirty_test(d, 12288));
    dirty_clear_all(d);
    assert_true(dirty_is_empty(d));
    dirty_close(d);
}

/* Against a plain array of bytes. */
static void test_random_operations_agree_with_a_model(void **state)
{
    enum { GRANULES = 3000 };
    uint64_t size = GRANULES * 4096ull - 1024, s, l, cursor;
    struct dirty *a = new_set(size), *b = new_set(size);
    uint8_t model[2][GRANULES] = {{0}}, walked[GRANULES];
    unsigned seed = 1;

    (void)state;
    for (int round = 0; round < 4000; round++) {
        unsigned first = (unsigned)rand_r(&seed) % GRANULES, n = 1 + (unsigned)rand_r(&seed) % (round % 7 ? 9 : 900);
        unsigned end = first + n < GRANULES ? first + n : GRANULES;
        struct dirty *d = round & 1 ? a : b;
        uint8_t *m = model[!(round & 1)];
        switch (rand_r(&seed) % 6) {
        case 0:
        case 1:
            assert_int_equal(dirty_set(d, first * 4096ull, (end - first) * 4096ull, NULL), 0);
            memset(m + first, 1, end - first);
            break;
        case 2:
        case 3:
            dirty_clear(d, first * 4096ull, end == GRANULES ? size - first * 4096ull : (end - first) * 4096ull);
            memset(m + first, 0, end - first);
            break;
        case 4:
            assert_int_equal(dirty_or(a, b, NULL), 0);
            for (int i = 0; i < GRANULES; i++)
                model[0][i] |= model[1][i];
            break;
        default:
            dirty_subtract(a, b);
            for (int i = 0; i < GRANULES; i++)
                model[0][i] &= !model[1][i];
        }
        if (round % 50)
            continue;
        memset(walked, 0, sizeof(walked));
        for (cursor = 0; dirty_next(a, &cursor, 0, &s, &l);)
            memset(walked + s / 4096, 1, (l + 4095) / 4096);
        assert_memory_equal(walked, model[0], GRANULES);
    }
    dirty_close(a);
    dirty_close(b);
}

static void test_a_large_empty_disk_costs_little(void **state)
{
    struct dirty *d = new_set(2048 * GIB);
    uint64_t cursor = 0;

    (void)state;
    assert_int_equal(dirty_set(d, 2000 * GIB, 4096, NULL), 0);
    for (int i = 0; i < 1000; i++) {
        cursor = 0;
        expect_next(d, &cursor, 0, 2000 * GIB, 4096);
    }
    dirty_close(d);
}

static void test_growing_and_shrinking(void **state)
{
    struct dirty *d = new_set(MIB);

    (void)state;
    assert_int_equal(dirty_set_all(d, NULL), 0);
    assert_int_equal(dirty_resize(d, 100 * GIB, NULL), 0);
    assert_int_equal(dirty_count(d), 256);
    assert_int_equal(dirty_set(d, 100 * GIB - 1, 1, NULL), 0);
    assert_int_equal(dirty_count(d), 257);
    assert_int_equal(dirty_resize(d, 512 * KIB, NULL), 0);
    assert_int_equal(dirty_count(d), 128);
    assert_int_equal(dirty_resize(d, 100 * GIB, NULL), 0);
    assert_int_equal(dirty_count(d), 128);
    dirty_close(d);
}

/* --- files ------------------------------------------------------------------------------------------------------------ */

static const struct dirty_tag tag = {.boot_id = "boot", .incarnation = 77};

static int setup(void **state)
{
    static char dir[64];

    temp_init(dir);
    *state = dir;
    return 0;
}

static int teardown(void **state)
{
    temp_done(*state);
    return 0;
}

static struct dirty *open_set(
    const char *dir, uint64_t size, unsigned shift, const struct dirty_tag *t, bool expect_resumed)
{
    struct err err = ERR_INIT;
    struct dirty *d = NULL;
    char path[96];
    bool resumed;

    (void)snprintf(path, sizeof(path), "%s/set", dir);
    if (dirty_open(path, size, shift, t, &d, &resumed, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(resumed, expect_resumed);
    return d;
}

static void test_a_killed_process_loses_nothing(void **state)
{
    pid_t pid = fork();
    struct dirty *d;

    assert_true(pid >= 0);
    if (pid == 0) {
        d = open_set(*state, 64 * GIB, 12, &tag, false);
        for (uint64_t i = 0; i < 1000; i++)
            (void)dirty_set(d, i * 64 * MIB, 4096, NULL);
        (void)kill(getpid(), SIGKILL);
    }
    (void)waitpid(pid, NULL, 0);
    d = open_set(*state, 64 * GIB, 12, &tag, true);
    assert_int_equal(dirty_count(d), 1000);
    dirty_close(d);
}

static void test_a_file_of_another_tag_or_granule_starts_empty(void **state)
{
    struct dirty_tag other = tag;
    struct dirty *d = open_set(*state, GIB, 12, &tag, false);

    assert_int_equal(dirty_set_all(d, NULL), 0);
    dirty_close(d);
    other.incarnation++;
    d = open_set(*state, GIB, 12, &other, false);
    assert_true(dirty_is_empty(d));
    assert_int_equal(dirty_set_all(d, NULL), 0);
    dirty_close(d);
    d = open_set(*state, GIB, 13, &other, false);
    assert_true(dirty_is_empty(d));
    dirty_close(d);
}

static void test_a_file_follows_the_size_of_its_disk(void **state)
{
    struct dirty *d = open_set(*state, GIB, 12, &tag, false);

    assert_int_equal(dirty_set(d, GIB - 4096, 4096, NULL), 0);
    dirty_close(d);
    d = open_set(*state, 32 * GIB, 12, &tag, true);
    assert_int_equal(dirty_count(d), 1);
    assert_int_equal(dirty_set(d, 32 * GIB - 4096, 4096, NULL), 0);
    dirty_close(d);
    d = open_set(*state, 2 * GIB, 12, &tag, true);
    assert_int_equal(dirty_count(d), 1);
    dirty_close(d);
}

static void test_a_damaged_file_starts_empty(void **state)
{
    struct dirty *d = open_set(*state, GIB, 12, &tag, false);
    char path[96];
    unsigned seed = 3;

    assert_int_equal(dirty_set_all(d, NULL), 0);
    dirty_close(d);
    (void)snprintf(path, sizeof(path), "%s/set", (char *)*state);
    assert_int_equal(truncate(path, 5000), 0);
    d = open_set(*state, GIB, 12, &tag, false);
    assert_true(dirty_is_empty(d));
    dirty_close(d);
    for (int round = 0; round < 50; round++) {
        uint8_t junk[64];
        int fd = open(path, O_RDWR);
        bool resumed;
        for (unsigned i = 0; i < sizeof(junk); i++)
            junk[i] = (uint8_t)rand_r(&seed);
        assert_int_equal(pwrite(fd, junk, sizeof(junk), rand_r(&seed) % 64), sizeof(junk));
        (void)close(fd);
        assert_int_equal(dirty_open(path, GIB, 12, &tag, &d, &resumed, NULL), 0);
        assert_int_equal(dirty_set(d, GIB - 1, 1, NULL), 0);
        dirty_close(d);
    }
}

static void test_one_process_at_a_time(void **state)
{
    struct dirty *d = open_set(*state, GIB, 12, &tag, false), *again = NULL;
    struct err err = ERR_INIT;
    char path[96];
    bool resumed;

    (void)snprintf(path, sizeof(path), "%s/set", (char *)*state);
    assert_int_equal(dirty_open(path, GIB, 12, &tag, &again, &resumed, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    dirty_close(d);
}

static void test_a_full_file_system_is_an_error_and_no_crash(void **state)
{
    struct err err = ERR_INIT;
    struct dirty *d;
    uint64_t set = 0;

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices\n");
        skip();
    }
    assert_int_equal(mount("tmpfs", *state, "tmpfs", 0, "size=1m"), 0);
    d = open_set(*state, 1024 * GIB, 12, &tag, false);
    while (set < 1024 && dirty_set(d, set * GIB, 4096, &err) == 0)
        set++;
    assert_true(set > 0 && set < 1024);
    assert_int_equal(err.code, ERR_NOSPACE);
    assert_int_equal(dirty_count(d), set);
    dirty_clear_all(d);
    dirty_close(d);
    assert_int_equal(umount(*state), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges_are_rounded_out_and_joined),
        cmocka_unit_test(test_ranges_are_cut_at_multiples),
        cmocka_unit_test(test_the_last_short_granule_counts_with_its_bytes),
        cmocka_unit_test(test_clearing_takes_only_whole_granules),
        cmocka_unit_test(test_random_operations_agree_with_a_model),
        cmocka_unit_test(test_a_large_empty_disk_costs_little),
        cmocka_unit_test(test_growing_and_shrinking),
        cmocka_unit_test_setup_teardown(test_a_killed_process_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_of_another_tag_or_granule_starts_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_follows_the_size_of_its_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_damaged_file_starts_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_process_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_file_system_is_an_error_and_no_crash, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
