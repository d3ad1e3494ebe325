/* SPDX-License-Identifier: Apache-2.0 */
#include "mobility/capture/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/mobility/track/loopdisk.h"

#define DISK_BYTES (4u << 20)

struct rig {
    struct loopdisk disk;
    struct reader *reader;
    uint8_t *content, *got;
    uint8_t *seen; /* one per sector of 512: 1 data, 2 unreadable */
    unsigned pieces;
    uint64_t data_bytes, bad_bytes;
    unsigned fail_after; /* pieces; 0: never */
};

static int setup_with(void **state, unsigned sector, uint64_t size)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err = ERR_INIT;

    loopdisk_init(&r->disk, size, sector, -1);
    r->content = random_bytes((uint32_t)size);
    r->got = calloc(1, size);
    r->seen = calloc(1, size / 512);
    assert_int_equal(pwrite(r->disk.fd, r->content, size, 0), size);
    assert_int_equal(fsync(r->disk.fd), 0);
    if (reader_new(8, &r->reader, &err) < 0 || reader_add_disk(r->reader, 3, r->disk.path, &err) < 0)
        fail_msg("%s", err.text);
    *state = r;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, 512, DISK_BYTES);
}

static int setup_4096(void **state)
{
    return setup_with(state, 4096, DISK_BYTES);
}

static int setup_odd(void **state)
{
    return setup_with(state, 512, DISK_BYTES + 5 * 512);
}

static int teardown(void **state)
{
    struct rig *r = *state;

    reader_free(r->reader);
    loopdisk_done(&r->disk);
    free(r->content);
    free(r->got);
    free(r->seen);
    free(r);
    return 0;
}

static int sink(void *arg, const struct reader_piece *p, struct err *err)
{
    struct rig *r = arg;

    assert_int_equal(p->disk, 3);
    assert_true(p->length > 0 && p->length <= READER_PIECE_BYTES && p->length % 512 == 0);
    assert_int_equal(p->start / READER_PIECE_BYTES, (p->start + p->length - 1) / READER_PIECE_BYTES);
    for (uint64_t s = p->start / 512; s < (p->start + p->length) / 512; s++) {
        assert_int_equal(r->seen[s], 0); /* never twice */
        r->seen[s] = p->data ? 1 : 2;
    }
    if (p->data)
        memcpy(r->got + p->start, p->data, p->length);
    else
        assert_int_equal(p->sys_errno, EIO);
    *(p->data ? &r->data_bytes : &r->bad_bytes) += p->length;
    r->pieces++;
    return r->fail_after && r->pieces >= r->fail_after ? err_set(err, ERR_CANCELLED, "enough") : 0;
}

static struct dirty *new_set(const struct rig *r)
{
    struct dirty *d = NULL;

    assert_int_equal(dirty_new(r->disk.size_bytes, 12, &d, NULL), 0);
    return d;
}

static void run(struct rig *r, const struct dirty *set)
{
    struct err err = ERR_INIT;

    if (reader_run_dirty(r->reader, 3, set, sink, r, &err) < 0)
        fail_msg("%s", err.text);
}

static void test_the_whole_disk_is_read_once(void **state)
{
    struct rig *r = *state;
    struct dirty *set = new_set(r);

    assert_int_equal(reader_disk_size_bytes(r->reader, 3), r->disk.size_bytes);
    assert_int_equal(dirty_set_all(set, NULL), 0);
    run(r, set);
    assert_int_equal(r->data_bytes, r->disk.size_bytes);
    assert_memory_equal(r->got, r->content, r->disk.size_bytes);
    dirty_close(set);
}

static void test_scattered_ranges_and_nothing_else(void **state)
{
    struct rig *r = *state;
    struct dirty *set = new_set(r);
    unsigned seed = 5;

    for (int i = 0; i < 100; i++)
        assert_int_equal(
            dirty_set(set, (uint64_t)(rand_r(&seed) % 1024) * 4096, 4096 * (1 + (uint64_t)rand_r(&seed) % 3), NULL), 0);
    run(r, set);
    assert_int_equal(r->data_bytes, dirty_bytes(set));
    for (uint64_t at = 0; at < DISK_BYTES; at += 4096)
        if (dirty_test(set, at))
            assert_memory_equal(r->got + at, r->content + at, 4096);
        else
            assert_int_equal(r->seen[at / 512], 0);
    dirty_close(set);
}

struct one_range {
    uint64_t start, length;
    unsigned disk;
};

static int give_one(void *arg, unsigned *ret_disk, uint64_t *ret_start, uint64_t *ret_length)
{
    struct one_range *o = arg;

    *ret_disk = o->disk;
    *ret_start = o->start;
    *ret_length = o->length;
    o->length = 0;
    return *ret_length > 0;
}

static void test_ranges_are_grown_to_sectors_and_cut_at_the_end(void **state)
{
    struct rig *r = *state;
    struct one_range o = {.start = 4096 * 9 + 512, .length = 512, .disk = 3};
    uint32_t sector = reader_disk_sector_bytes(r->reader, 3);

    assert_int_equal(reader_run(r->reader, give_one, &o, sink, r, NULL), 0);
    assert_int_equal(r->data_bytes, sector);
    o = (struct one_range){.start = DISK_BYTES - sector, .length = ~0ull, .disk = 3};
    assert_int_equal(reader_run(r->reader, give_one, &o, sink, r, NULL), 0);
    assert_int_equal(r->data_bytes, 2 * sector);
}

static void test_a_range_behind_the_end_is_no_range_that_was_read(void **state)
{
    struct rig *r = *state;
    struct one_range o = {.start = DISK_BYTES, .length = 4096, .disk = 3};
    struct dirty *set = new_set(r);
    struct err err = ERR_INIT;

    assert_int_equal(reader_run(r->reader, give_one, &o, sink, r, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    loopdisk_resize(&r->disk, 0); /* pulled */
    assert_int_equal(dirty_set(set, 0, 4096, NULL), 0);
    err_clear(&err);
    assert_int_equal(reader_run_dirty(r->reader, 3, set, sink, r, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_int_equal(r->pieces, 0);
    dirty_close(set);
}

/* Gives one piece after the other and notes how many were not delivered yet; narrows the reader in the middle. */
struct narrow_source {
    struct rig *rig;
    unsigned given, most_before, most_after;
};

static int next_of_narrow(void *arg, unsigned *ret_disk, uint64_t *ret_start, uint64_t *ret_length)
{
    struct narrow_source *s = arg;
    unsigned pieces = DISK_BYTES / READER_PIECE_BYTES, waiting = s->given - s->rig->pieces;
    unsigned *most = s->given <= pieces / 2 ? &s->most_before : &s->most_after;

    if (s->given == pieces / 2)
        reader_set_depth(s->rig->reader, 2);
    else if (waiting > *most)
        *most = waiting;
    if (s->given == pieces)
        return 0;
    *ret_disk = 3;
    *ret_start = (uint64_t)s->given++ * READER_PIECE_BYTES;
    *ret_length = READER_PIECE_BYTES;
    return 1;
}

static void test_no_more_is_in_flight_than_allowed(void **state)
{
    struct rig *r = *state;
    struct narrow_source s = {.rig = r};
    struct err err = ERR_INIT;

    if (reader_run(r->reader, next_of_narrow, &s, sink, r, &err) < 0)
        fail_msg("%s", err.text);
    assert_memory_equal(r->got, r->content, DISK_BYTES);
    assert_int_equal(s.most_before, 7); /* the eighth was being asked for */
    assert_true(s.most_after <= 7);
    memset(r->seen, 0, DISK_BYTES / 512);
    r->pieces = 0;
    s = (struct narrow_source){.rig = r};
    if (reader_run(r->reader, next_of_narrow, &s, sink, r, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(s.most_before, 1);
    assert_int_equal(s.most_after, 1);
}

static void test_an_unknown_disk_is_an_error(void **state)
{
    struct rig *r = *state;
    struct one_range o = {.length = 512, .disk = 4};
    struct err err = ERR_INIT;

    assert_int_equal(reader_run(r->reader, give_one, &o, sink, r, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(reader_add_disk(r->reader, 3, r->disk.path, &err), -1);
    assert_int_equal(err.code, ERR_EXISTS);
    reader_remove_disk(r->reader, 3);
    assert_int_equal(reader_disk_size_bytes(r->reader, 3), 0);
}

/* The loop driver answers reads behind the end of its file with EIO. */
static void expect_bad_from(struct rig *r, uint64_t good)
{
    struct dirty *set = new_set(r);

    assert_int_equal(ftruncate(r->disk.file_fd, (off_t)good), 0);
    assert_int_equal(dirty_set_all(set, NULL), 0);
    run(r, set);
    assert_int_equal(r->data_bytes, good);
    assert_int_equal(r->bad_bytes, DISK_BYTES - good);
    assert_memory_equal(r->got, r->content, good);
    dirty_close(set);
}

static void test_what_cannot_be_read_is_told_to_the_sector(void **state)
{
    expect_bad_from(*state, 3 * 65536 + 4096 + 3 * 512);
}

static void test_what_cannot_be_read_is_told_to_the_large_sector(void **state)
{
    expect_bad_from(*state, 3 * 65536 + 5 * 4096);
}

static void test_the_sink_can_end_it(void **state)
{
    struct rig *r = *state;
    struct dirty *set = new_set(r);
    struct err err = ERR_INIT;

    assert_int_equal(dirty_set_all(set, NULL), 0);
    r->fail_after = 5;
    assert_int_equal(reader_run_dirty(r->reader, 3, set, sink, r, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_int_equal(r->pieces, 5);
    memset(r->seen, 0, r->disk.size_bytes / 512);
    r->fail_after = 0;
    r->data_bytes = 0;
    run(r, set); /* and can be used again */
    assert_int_equal(r->data_bytes, DISK_BYTES);
    dirty_close(set);
}

static void forbid_aio(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(rules) / sizeof(rules[0]), .filter = rules};
    aio_context_t context = 0;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ||
        syscall(SYS_io_setup, 1, &context) == 0)
        _exit(2);
}

/* In a child, where the system call for an AIO context is refused. */
static void test_it_reads_without_aio_too(void **state)
{
    struct rig *r = *state;
    pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct dirty *set = new_set(r);
        forbid_aio();
        if (reader_new(8, &r->reader, NULL) < 0 || reader_add_disk(r->reader, 3, r->disk.path, NULL) < 0 ||
            dirty_set_all(set, NULL) < 0 || reader_run_dirty(r->reader, 3, set, sink, r, NULL) < 0)
            _exit(3);
        _exit(memcmp(r->got, r->content, DISK_BYTES) == 0 ? 0 : 4);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

#define TEST(name, with) cmocka_unit_test_setup_teardown(name, with, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_whole_disk_is_read_once, setup),
        TEST(test_the_whole_disk_is_read_once, setup_4096),
        TEST(test_the_whole_disk_is_read_once, setup_odd),
        TEST(test_scattered_ranges_and_nothing_else, setup),
        TEST(test_ranges_are_grown_to_sectors_and_cut_at_the_end, setup),
        TEST(test_ranges_are_grown_to_sectors_and_cut_at_the_end, setup_4096),
        TEST(test_a_range_behind_the_end_is_no_range_that_was_read, setup),
        TEST(test_no_more_is_in_flight_than_allowed, setup),
        TEST(test_an_unknown_disk_is_an_error, setup),
        TEST(test_what_cannot_be_read_is_told_to_the_sector, setup),
        TEST(test_what_cannot_be_read_is_told_to_the_large_sector, setup_4096),
        TEST(test_the_sink_can_end_it, setup),
        TEST(test_it_reads_without_aio_too, setup),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
