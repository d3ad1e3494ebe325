/* SPDX-License-Identifier: Apache-2.0
 *
 * Segments: writing, sealing, reopening, reading beside the writer, and recovery of every torn tail.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/log/log_sample.h"
#include "transport/base/file.h"

struct fixture {
    char path[64];
    int dirfd;
    struct seal_work *work;
};

static int set_up(void **state)
{
    static struct fixture f;
    f.dirfd = sample_folder(f.path);
    f.work = seal_work_new();
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    close(f->dirfd);
    sample_folder_remove(f->path);
    seal_work_free(f->work);
    return 0;
}

static struct segment_info info(uint64_t number)
{
    return (struct segment_info){
        .machine = sample_machine, .number = number, .first_sequence = 1, .created_utc_usec = 1795000000000000ULL};
}

/* A segment of `sets` change sets of three blocks; ends[i] is the offset behind mark i + 1. */
static struct segment_writer *filled(struct fixture *f, unsigned sets, uint64_t *ends)
{
    struct segment_writer *w;
    struct segment_info i = info(1);
    assert_int_equal(segment_create(f->dirfd, &i, &w, NULL), 0);
    for (unsigned s = 0; s < sets; s++) {
        AUTO_BUF struct buf b = BUF_INIT(1 << 20);
        uint64_t offset;
        sample_change_set(f->work, s + 1, 3, true, &b);
        struct iovec iov[3] = {{b.data, 10}, {b.data + 10, 100}, {b.data + 110, b.len - 110}};
        assert_int_equal(segment_append(w, iov, 3, &offset, NULL), 0);
        ends[s] = segment_end(w);
        assert_int_equal(offset + b.len, ends[s]);
    }
    assert_int_equal(segment_sync(w, NULL), 0);
    return w;
}

struct seen {
    unsigned marks;
    uint64_t last_end;
};

static void on_mark(void *arg, const struct record *r, const uint8_t *payload, uint64_t end_bytes)
{
    struct seen *s = arg;
    struct mark m;
    assert_int_equal(mark_decode(r, payload, &m, NULL), 0);
    s->marks++;
    assert_int_equal(m.sequence, s->marks);
    s->last_end = end_bytes;
}

static int recover(struct fixture *f, struct seen *seen, uint64_t *end, bool *sealed, struct err *err)
{
    memset(seen, 0, sizeof(*seen));
    return segment_recover(f->dirfd, 1, on_mark, seen, end, sealed, err);
}

static void test_names(void **state)
{
    (void)state;
    char name[SEGMENT_NAME_SIZE];
    uint64_t number;
    segment_name(0xabc, name);
    assert_string_equal(name, "0000000000000abc.seg");
    assert_int_equal(segment_number_from_name(name, &number), 0);
    assert_int_equal(number, 0xabc);
    assert_int_equal(segment_number_from_name("0000000000000ABC.seg", &number), -1);
    assert_int_equal(segment_number_from_name("0000000000000abc.seg.new", &number), -1);
    assert_int_equal(segment_number_from_name("0000000000000000.seg", &number), -1);
    assert_int_equal(segment_number_from_name("x", &number), -1);
}

static void test_written_records_are_read_back(void **state)
{
    struct fixture *f = *state;
    uint64_t ends[3];
    struct segment_writer *w AUTO_OF(segment_writer) = filled(f, 3, ends);
    struct segment_reader *r AUTO_OF(segment_reader) = NULL;
    assert_int_equal(segment_open(f->dirfd, 1, &r, NULL), 0);
    assert_memory_equal(segment_reader_info(r)->machine.bytes, sample_machine.bytes, IDENT_SIZE);
    assert_int_equal(segment_reader_info(r)->first_sequence, 1);
    uint64_t offset = SEGMENT_HEADER_SIZE, at = offset;
    struct record record, again;
    const uint8_t *payload;
    unsigned data = 0, marks = 0;
    while (segment_read_next(r, &offset, &record, &payload, NULL) == 1) {
        static uint8_t copy[RECORD_STORED_MAX];
        assert_int_equal(segment_pread(r, at, &again, copy, sizeof(copy), NULL), 0);
        assert_memory_equal(copy, payload, record.stored);
        assert_int_equal(segment_pread(r, at, NULL, copy, record.stored, NULL), 0);
        assert_int_equal(segment_pread(r, at, &again, NULL, 0, NULL), 0);
        assert_int_equal(segment_pread(r, at, &again, copy, record.stored - 1, NULL), -1);
        at = offset;
        marks += record.kind == RECORD_MARK;
        data += record.kind == RECORD_DATA;
    }
    assert_int_equal(data, 9);
    assert_int_equal(marks, 3);
    assert_int_equal(offset, ends[2]);
    /* The reader sees what is appended later. */
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    sample_change_set(f->work, 4, 1, true, &b);
    struct iovec iov = {b.data, b.len};
    assert_int_equal(segment_append(w, &iov, 1, &at, NULL), 0);
    assert_int_equal(segment_read_next(r, &offset, &record, &payload, NULL), 1);
}

/* Appends a change set of that many blocks, and notes what the file must hold. */
static void append_expected(
    struct fixture *f, struct segment_writer *w, uint64_t sequence, unsigned blocks, bool much, struct buf *all)
{
    AUTO_BUF struct buf b = BUF_INIT(8 << 20);
    uint64_t offset;
    sample_change_set(f->work, sequence, blocks, true, &b);
    struct iovec iov[2] = {{b.data, b.len / 3}, {b.data + b.len / 3, b.len - b.len / 3}};
    assert_int_equal(segment_append(w, iov, 2, &offset, NULL), 0);
    assert_int_equal(offset, SEGMENT_HEADER_SIZE + all->len);
    assert_int_equal(buf_append(all, b.data, b.len, NULL), 0);
    assert_int_equal(segment_end(w), SEGMENT_HEADER_SIZE + all->len);
    segment_expect_more(w, much);
}

static void append_noted(
    struct fixture *f, struct segment_writer *w, uint64_t sequence, unsigned blocks, struct buf *all)
{
    append_expected(f, w, sequence, blocks, false, all);
}

static void assert_in_file(struct segment_writer *w, const struct buf *all)
{
    AUTO_BUF struct buf got = BUF_INIT(32 << 20);
    assert_int_equal(segment_sync(w, NULL), 0);
    assert_int_equal(buf_reserve(&got, all->len, NULL), 0);
    assert_int_equal(file_pread_all(segment_writer_fd(w), got.data, all->len, SEGMENT_HEADER_SIZE, "segment", NULL), 0);
    assert_memory_equal(got.data, all->data, all->len);
}

static void test_much_is_written_past_the_page_cache_and_nothing_else_changes(void **state)
{
    struct fixture *f = *state;
    struct segment_writer *w AUTO_OF(segment_writer) = NULL;
    AUTO_BUF struct buf all = BUF_INIT(32 << 20);
    struct segment_info i = info(1);
    struct seen seen;
    uint64_t end, sets = 0, half_sets = 0;
    size_t half = 0;
    bool sealed;
    assert_int_equal(segment_create(f->dirfd, &i, &w, NULL), 0);
    /* Twice much, and little in between: each time it begins in the middle of a block. */
    for (unsigned round = 1; round <= 2; round++) {
        while (all.len < round * (9u << 20)) {
            sets++;
            append_noted(f, w, sets, 20 + (unsigned)sets % 3, &all);
        }
        assert_in_file(w, &all);
        append_noted(f, w, ++sets, 1, &all);
        assert_in_file(w, &all);
        half = round == 1 ? all.len : half;
        half_sets = round == 1 ? sets : half_sets;
    }
    assert_int_equal(recover(f, &seen, &end, &sealed, NULL), 0);
    assert_int_equal(end, segment_end(w));
    assert_int_equal(seen.marks, sets);
    /* A rewind drops what was not synced, also what is not in the file yet; appending goes on behind it. */
    AUTO_BUF struct buf lost = BUF_INIT(32 << 20);
    assert_int_equal(buf_append(&lost, all.data, all.len, NULL), 0);
    while (lost.len < (27u << 20))
        append_noted(f, w, sets + 1, 20, &lost);
    assert_int_equal(segment_rewind(w, SEGMENT_HEADER_SIZE + half, NULL), 0);
    all.len = half;
    append_noted(f, w, half_sets + 1, 2, &all);
    assert_in_file(w, &all);
    assert_int_equal(segment_seal(w, NULL), 0);
    assert_int_equal(recover(f, &seen, &end, &sealed, NULL), 0);
    assert_true(sealed);
    assert_int_equal(end, SEGMENT_HEADER_SIZE + all.len);
}

static uint64_t file_bytes(struct segment_writer *w)
{
    struct stat st;
    assert_int_equal(fstat(segment_writer_fd(w), &st), 0);
    return (uint64_t)st.st_size;
}

static bool can_write_past_the_page_cache(struct segment_writer *w)
{
    char path[40];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", segment_writer_fd(w));
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    return fd >= 0;
}

/* What waits for a whole block, or for a long write, is not in the file yet. */
static void test_what_is_known_to_be_much_goes_past_the_page_cache_from_its_first_byte(void **state)
{
    struct fixture *f = *state;
    struct segment_writer *w AUTO_OF(segment_writer) = NULL;
    AUTO_BUF struct buf all = BUF_INIT(32 << 20);
    struct segment_info i = info(1);
    struct seen seen;
    uint64_t end, before;
    bool sealed;
    assert_int_equal(segment_create(f->dirfd, &i, &w, NULL), 0);
    if (!can_write_past_the_page_cache(w)) {
        print_message("this file system takes no direct writes\n");
        skip();
    }
    append_expected(f, w, 1, 1, false, &all);
    assert_int_equal(file_bytes(w), segment_end(w));
    assert_in_file(w, &all);
    segment_expect_more(w, true);
    before = file_bytes(w);
    append_expected(f, w, 2, 1, true, &all);
    assert_int_equal(file_bytes(w), before);
    assert_in_file(w, &all);
    /* One that turned out to be little is nothing to go by. */
    append_expected(f, w, 3, 1, false, &all);
    assert_int_equal(file_bytes(w), segment_end(w));
    assert_in_file(w, &all);
    assert_int_equal(segment_seal(w, NULL), 0);
    assert_int_equal(recover(f, &seen, &end, &sealed, NULL), 0);
    assert_int_equal(seen.marks, 3);
}

static void test_a_seal_and_a_rewind_to_what_was_not_synced_have_all_before_it(void **state)
{
    struct fixture *f = *state;
    struct segment_writer *w AUTO_OF(segment_writer) = NULL;
    AUTO_BUF struct buf all = BUF_INIT(32 << 20);
    struct segment_info i = info(1);
    struct seen seen;
    uint64_t end, sets = 0;
    bool sealed;
    assert_int_equal(segment_create(f->dirfd, &i, &w, NULL), 0);
    while (all.len < (6u << 20))
        append_noted(f, w, ++sets, 20, &all);
    uint64_t kept = segment_end(w);
    AUTO_BUF struct buf lost = BUF_INIT(32 << 20);
    assert_int_equal(buf_append(&lost, all.data, all.len, NULL), 0);
    append_noted(f, w, sets + 1, 3, &lost);
    assert_int_equal(segment_rewind(w, kept, NULL), 0);
    assert_in_file(w, &all);
    while (all.len < (14u << 20))
        append_noted(f, w, ++sets, 20, &all);
    assert_int_equal(segment_seal(w, NULL), 0);
    assert_int_equal(recover(f, &seen, &end, &sealed, NULL), 0);
    assert_true(sealed);
    assert_int_equal(end, SEGMENT_HEADER_SIZE + all.len);
    assert_int_equal(seen.marks, sets);
}

static void test_sealed_segment_is_whole_and_closed(void **state)
{
    struct fixture *f = *state;
    uint64_t ends[2], end;
    bool sealed;
    struct seen seen;
    struct segment_writer *w AUTO_OF(segment_writer) = filled(f, 2, ends);
    struct err err = ERR_INIT;
    assert_int_equal(segment_seal(w, NULL), 0);
    assert_int_equal(segment_seal(w, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_int_equal(recover(f, &seen, &end, &sealed, NULL), 0);
    assert_true(sealed);
    assert_int_equal(end, ends[1]);
    assert_int_equal(seen.marks, 2);
    struct segment_writer *again = NULL;
    assert_int_equal(segment_reopen(f->dirfd, 1, ends[1], &again, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    struct segment_reader *r AUTO_OF(segment_reader) = NULL;
    assert_int_equal(segment_open(f->dirfd, 1, &r, NULL), 0);
    uint64_t offset = ends[1];
    struct record record;
    const uint8_t *payload;
    assert_int_equal(segment_read_next(r, &offset, &record, &payload, NULL), 1);
    assert_int_equal(record.kind, RECORD_SEAL);
    assert_int_equal(segment_read_next(r, &offset, &record, &payload, NULL), 0);
}

static void test_existing_segment_is_not_overwritten(void **state)
{
    struct fixture *f = *state;
    uint64_t ends[1];
    struct segment_writer *w AUTO_OF(segment_writer) = filled(f, 1, ends);
    struct segment_writer *other = NULL;
    struct segment_info i = info(1);
    struct err err = ERR_INIT;
    assert_non_null(w);
    assert_int_equal(segment_create(f->dirfd, &i, &other, &err), -1);
    assert_int_equal(err.code, ERR_EXISTS);
    assert_int_equal(faccessat(f->dirfd, "0000000000000001.seg.new", F_OK, 0), -1);
}

static void test_rewind_and_reopen_seal_the_same_bytes(void **state)
{
    struct fixture *f = *state;
    uint64_t ends[3], end, offset;
    bool sealed;
    struct seen seen;
    struct segment_writer *w = filled(f, 3, ends);
    assert_int_equal(segment_rewind(w, ends[1], NULL), 0);
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    sample_change_set(f->work, 3, 5, true, &b);
    struct iovec iov = {b.data, b.len - 200};
    assert_int_equal(segment_append(w, &iov, 1, &offset, NULL), -1); /* cut off: nothing is written */
    iov.iov_len = b.len;
    assert_int_equal(segment_append(w, &iov, 1, &offset, NULL), 0);
    assert_int_equal(offset, ends[1]);
    segment_writer_close(w);
    assert_int_equal(recover(f, &seen, &end, &sealed, NULL), 0);
    assert_int_equal(segment_reopen(f->dirfd, 1, end, &w, NULL), 0);
    assert_int_equal(segment_seal(w, NULL), 0);
    segment_writer_close(w);
    assert_int_equal(recover(f, &seen, &end, &sealed, NULL), 0);
    assert_true(sealed);
    assert_int_equal(seen.marks, 3);
}

static void test_open_change_set_cannot_be_sealed(void **state)
{
    struct fixture *f = *state;
    uint64_t ends[1], offset;
    struct err err = ERR_INIT;
    struct segment_writer *w AUTO_OF(segment_writer) = filled(f, 1, ends);
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct record r;
    assert_int_equal(seal_append_zero(0, 0, 512, &b, &r, NULL), 0);
    struct iovec iov = {b.data, b.len};
    assert_int_equal(segment_append(w, &iov, 1, &offset, NULL), 0);
    assert_int_equal(segment_seal(w, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_int_equal(segment_rewind(w, ends[0], NULL), 0);
    assert_int_equal(segment_seal(w, &err), 0);
}

/* Whatever byte a crash cuts the file at, the log ends behind the last whole mark, and writing goes on there. */
static void test_every_torn_tail_ends_at_the_last_mark(void **state)
{
    struct fixture *f = *state;
    uint64_t ends[3], end;
    bool sealed;
    struct seen seen;
    segment_writer_close(filled(f, 3, ends));
    AUTO_CLOSE int fd = openat(f->dirfd, "0000000000000001.seg", O_RDWR);
    for (uint64_t cut = ends[2]; cut >= SEGMENT_HEADER_SIZE; cut -= cut > 37 ? 37 : cut) {
        assert_int_equal(ftruncate(fd, (off_t)cut), 0);
        unsigned whole = cut >= ends[2] ? 3 : cut >= ends[1] ? 2 : cut >= ends[0] ? 1 : 0;
        assert_int_equal(recover(f, &seen, &end, &sealed, NULL), 0);
        assert_false(sealed);
        assert_int_equal(seen.marks, whole);
        assert_int_equal(end, whole > 0 ? ends[whole - 1] : SEGMENT_HEADER_SIZE);
    }
    struct segment_writer *w AUTO_OF(segment_writer) = NULL;
    assert_int_equal(segment_reopen(f->dirfd, 1, end, &w, NULL), 0);
}

static void test_garbage_behind_the_last_mark_is_a_torn_tail(void **state)
{
    struct fixture *f = *state;
    uint64_t ends[2], end;
    bool sealed;
    struct seen seen;
    segment_writer_close(filled(f, 2, ends));
    static uint8_t noise[3 << 20];
    sample_block(5, false, noise, sizeof(noise));
    AUTO_CLOSE int fd = openat(f->dirfd, "0000000000000001.seg", O_RDWR);
    assert_int_equal(file_pwrite_all(fd, noise, sizeof(noise), ends[1], "noise", NULL), 0);
    assert_int_equal(recover(f, &seen, &end, &sealed, NULL), 0);
    assert_int_equal(end, ends[1]);
    memset(noise, 0, sizeof(noise));
    assert_int_equal(file_pwrite_all(fd, noise, sizeof(noise), ends[1], "zeros", NULL), 0);
    assert_int_equal(recover(f, &seen, &end, &sealed, NULL), 0);
    assert_int_equal(end, ends[1]);
}

static void test_damage_before_a_later_mark_is_not_a_torn_tail(void **state)
{
    struct fixture *f = *state;
    uint64_t ends[3], end;
    bool sealed;
    struct seen seen;
    segment_writer_close(filled(f, 3, ends));
    AUTO_CLOSE int fd = openat(f->dirfd, "0000000000000001.seg", O_RDWR);
    uint8_t byte = 0xff;
    assert_int_equal(file_pwrite_all(fd, &byte, 1, ends[0] + 9, "damage", NULL), 0);
    struct err err = ERR_INIT;
    assert_int_equal(recover(f, &seen, &end, &sealed, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_string_not_equal(err.correction, "");
    assert_int_equal(end, ends[0]);
    assert_int_equal(seen.marks, 1);
}

static void test_every_flipped_byte_of_the_file_header_is_refused(void **state)
{
    struct fixture *f = *state;
    uint64_t ends[1];
    segment_writer_close(filled(f, 1, ends));
    AUTO_CLOSE int fd = openat(f->dirfd, "0000000000000001.seg", O_RDWR);
    uint8_t header[SEGMENT_HEADER_SIZE];
    assert_int_equal(file_pread_all(fd, header, sizeof(header), 0, "header", NULL), 0);
    for (size_t i = 0; i < sizeof(header); i += i < 80 ? 1 : 97) {
        header[i] ^= 0x20;
        assert_int_equal(file_pwrite_all(fd, header, sizeof(header), 0, "header", NULL), 0);
        struct segment_reader *r = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(segment_open(f->dirfd, 1, &r, &err), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
        header[i] ^= 0x20;
    }
    header[7] = 9;
    uint32_t check = hash_32(header, 64);
    memcpy(header + 64, &check, 4);
    assert_int_equal(file_pwrite_all(fd, header, sizeof(header), 0, "header", NULL), 0);
    struct segment_reader *r = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(segment_open(f->dirfd, 1, &r, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
}

static void test_file_without_a_header_never_was_a_segment(void **state)
{
    struct fixture *f = *state;
    AUTO_CLOSE int fd = openat(f->dirfd, "0000000000000001.seg", O_RDWR | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, 100), 0);
    struct seen seen;
    uint64_t end;
    bool sealed;
    struct err err = ERR_INIT;
    assert_int_equal(recover(f, &seen, &end, &sealed, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

int main(void)
{
#define SEGMENT_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        SEGMENT_TEST(test_names),
        SEGMENT_TEST(test_written_records_are_read_back),
        SEGMENT_TEST(test_much_is_written_past_the_page_cache_and_nothing_else_changes),
        SEGMENT_TEST(test_what_is_known_to_be_much_goes_past_the_page_cache_from_its_first_byte),
        SEGMENT_TEST(test_a_seal_and_a_rewind_to_what_was_not_synced_have_all_before_it),
        SEGMENT_TEST(test_sealed_segment_is_whole_and_closed),
        SEGMENT_TEST(test_existing_segment_is_not_overwritten),
        SEGMENT_TEST(test_rewind_and_reopen_seal_the_same_bytes),
        SEGMENT_TEST(test_open_change_set_cannot_be_sealed),
        SEGMENT_TEST(test_every_torn_tail_ends_at_the_last_mark),
        SEGMENT_TEST(test_garbage_behind_the_last_mark_is_a_torn_tail),
        SEGMENT_TEST(test_damage_before_a_later_mark_is_not_a_torn_tail),
        SEGMENT_TEST(test_every_flipped_byte_of_the_file_header_is_refused),
        SEGMENT_TEST(test_file_without_a_header_never_was_a_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
