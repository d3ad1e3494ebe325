/* SPDX-License-Identifier: Apache-2.0
 *
 * The spool by itself: what is appended is read back from any set on, over segments, rewinds, deletions and restarts.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/log/mark.h"
#include "transport/log/seal.h"
#include "transport/log/segment.h"
#include "transport/node/spool.h"

#define SEGMENT_BYTES 20000u /* a few sets each */

struct fixture {
    char path[64];
    struct ident machine;
    struct seal_work *work;
    struct spool *spool;
    uint64_t epoch;
};

static void reopen(struct fixture *f)
{
    spool_close(f->spool);
    f->spool = NULL;
    assert_int_equal(spool_open(f->path, &f->machine, SEGMENT_BYTES, &f->spool, NULL), 0);
}

static int set_up(void **state)
{
    static struct fixture f;
    log_set_level(LOG_ERROR);
    f = (struct fixture){.epoch = 1, .work = seal_work_new()};
    (void)snprintf(f.path, sizeof(f.path), "/tmp/leeward-spool-XXXXXX");
    assert_non_null(mkdtemp(f.path));
    assert_int_equal(ident_random(&f.machine), 0);
    reopen(&f);
    assert_int_equal(spool_begin(f.spool, 1, 1, 1, NULL), 0);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    spool_close(f->spool);
    seal_work_free(f->work);
    (void)file_remove_tree(f->path, NULL);
    return 0;
}

static void data(struct fixture *f, uint64_t sequence, struct buf *b)
{
    uint8_t block[4096];
    struct record r;
    memset(block, (int)(sequence % 251) + 1, sizeof(block));
    assert_int_equal(seal_append_data(f->work, 0, sequence * 4096, block, sizeof(block), 0, b, &r, NULL), 0);
}

static void mark(struct fixture *f, uint64_t sequence, struct buf *b)
{
    struct mark m = {.kind = MARK_CRASH,
        .sequence = sequence,
        .generation = 1,
        .epoch = f->epoch,
        .machine = f->machine,
        .disk_count = 1,
        .record_count = 1,
        .changed_bytes = 4096};
    m.disks[0] = (struct mark_disk){.sector_bytes = 512, .size_bytes = 1 << 30, .name = "vda"};
    assert_int_equal(mark_append(&m, b, NULL), 0);
}

static int append_set(struct fixture *f, uint64_t sequence)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    data(f, sequence, &b);
    mark(f, sequence, &b);
    struct spool_mark m = {.sequence = sequence, .chunk = 0, .end = b.len};
    return spool_append(f->spool, &b, 1, 1, &m, 1, NULL);
}

static void append_open(struct fixture *f, uint64_t sequence)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    data(f, sequence, &b);
    assert_int_equal(spool_append(f->spool, &b, 1, 0, NULL, 0, NULL), 0);
}

/* Reads from a set to the end in small steps; the marks that come must be first..last. */
static void read_back(struct fixture *f, uint64_t first, uint64_t last)
{
    struct spool_pos pos, limit = spool_state(f->spool).tail;
    uint64_t next = first;
    assert_int_equal(spool_find(f->spool, first, &pos, NULL), 0);
    for (;;) {
        AUTO_BUF struct buf b = BUF_INIT(1 << 20);
        size_t offset = 0;
        struct record r;
        const uint8_t *payload;
        assert_int_equal(spool_read(f->spool, &pos, &limit, 6000, &b, NULL), 0);
        if (b.len == 0)
            break;
        while (record_next(b.data, b.len, &offset, &r, &payload, NULL) == 1) {
            struct mark m;
            if (r.kind == RECORD_DATA)
                assert_int_equal(r.start, next * 4096);
            else if (mark_decode(&r, payload, &m, NULL) == 0)
                assert_int_equal(m.sequence, next++);
        }
    }
    assert_int_equal(next, last + 1);
}

static unsigned files(const struct fixture *f)
{
    DIR *dir = opendir(f->path);
    struct dirent *e;
    unsigned n = 0;
    while ((e = readdir(dir)) != NULL)
        n += e->d_name[0] != '.';
    (void)closedir(dir);
    return n;
}

static void test_sets_are_read_back_from_anywhere(void **state)
{
    struct fixture *f = *state;
    for (uint64_t s = 1; s <= 30; s++)
        assert_int_equal(append_set(f, s), 0);
    assert_true(files(f) > 4);
    for (uint64_t s = 1; s <= 31; s++)
        read_back(f, s, 30);
    struct spool_pos pos;
    assert_int_equal(spool_find(f->spool, 0, &pos, NULL), -1);
    assert_int_equal(spool_find(f->spool, 32, &pos, NULL), -1);
}

static void test_restart_finds_whole_sets_and_drops_the_open_one(void **state)
{
    struct fixture *f = *state;
    for (uint64_t s = 1; s <= 12; s++)
        assert_int_equal(append_set(f, s), 0);
    append_open(f, 13);
    reopen(f);
    struct spool_state st = spool_state(f->spool);
    assert_int_equal(st.first_sequence, 1);
    assert_int_equal(st.next_sequence, 13);
    assert_int_equal(st.epoch, 1);
    read_back(f, 1, 12);
    for (uint64_t s = 13; s <= 20; s++)
        assert_int_equal(append_set(f, s), 0);
    read_back(f, 5, 20);
}

static void test_rewind_drops_the_open_set_only(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(append_set(f, 1), 0);
    append_open(f, 2);
    assert_int_equal(spool_rewind(f->spool, NULL), 0);
    assert_int_equal(append_set(f, 2), 0);
    read_back(f, 1, 2);
}

static int failing_reads;
static off_t failing_from; /* in a file; 0: also its header */
ssize_t __real_pread(int fd, void *bytes, size_t n, off_t offset);
ssize_t __wrap_pread(int fd, void *bytes, size_t n, off_t offset);

ssize_t __wrap_pread(int fd, void *bytes, size_t n, off_t offset)
{
    if (failing_reads == 0 || offset < failing_from)
        return __real_pread(fd, bytes, n, offset);
    failing_reads--;
    errno = EIO;
    return -1;
}

static void test_restart_reads_again_what_the_disk_refused(void **state)
{
    struct fixture *f = *state;
    for (uint64_t s = 1; s <= 12; s++)
        assert_int_equal(append_set(f, s), 0);
    failing_reads = 1;
    reopen(f);
    assert_int_equal(failing_reads, 0);
    read_back(f, 1, 12);
    failing_from = SEGMENT_HEADER_SIZE; /* longer than one reader asks */
    failing_reads = 6;
    reopen(f);
    assert_int_equal(failing_reads, 0);
    read_back(f, 1, 12);
    failing_from = 0;
    failing_reads = 1000; /* for good: then it is as if nothing were there */
    reopen(f);
    failing_reads = 0;
    assert_int_equal(spool_state(f->spool).next_sequence - spool_state(f->spool).first_sequence, 0);
}

static void test_restart_without_memory_drops_nothing(void **state)
{
    struct fixture *f = *state;
    int opened = -1;
    for (uint64_t s = 1; s <= 30; s++)
        assert_int_equal(append_set(f, s), 0);
    for (long n = 1; opened < 0; n++) {
        struct err err = ERR_INIT;
        spool_close(f->spool);
        f->spool = NULL;
        mem_fail_at(n);
        opened = spool_open(f->path, &f->machine, SEGMENT_BYTES, &f->spool, &err);
        mem_fail_at(0);
        assert_true(opened == 0 || err.code == ERR_NOMEM);
        assert_true(n < 10000);
    }
    read_back(f, 1, 30);
    reopen(f);
    read_back(f, 1, 30);
}

/* A reader that was in a set that is gone now. Without an answer it would search for the end for ever. */
static void test_a_place_behind_the_end_is_none(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct err err = ERR_INIT;
    assert_int_equal(append_set(f, 1), 0);
    append_open(f, 2);
    struct spool_pos pos = spool_state(f->spool).tail;
    assert_int_equal(spool_rewind(f->spool, NULL), 0);
    struct spool_pos limit = spool_state(f->spool).tail;
    (void)alarm(20);
    assert_int_equal(spool_read(f->spool, &pos, &limit, 6000, &b, &err), -1);
    (void)alarm(0);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void test_trim_deletes_what_is_committed(void **state)
{
    struct fixture *f = *state;
    for (uint64_t s = 1; s <= 30; s++)
        assert_int_equal(append_set(f, s), 0);
    uint64_t before = spool_state(f->spool).bytes;
    assert_int_equal(spool_trim(f->spool, 17, false, NULL), 0);
    struct spool_state st = spool_state(f->spool);
    assert_true(st.bytes < before);
    assert_true(st.first_sequence > 10 && st.first_sequence <= 18);
    read_back(f, 18, 30);
    reopen(f);
    assert_int_equal(spool_state(f->spool).first_sequence, st.first_sequence);
    assert_int_equal(spool_trim(f->spool, 30, true, NULL), 0);
    assert_int_equal(files(f), 0);
    assert_int_equal(spool_state(f->spool).bytes, 0);
    assert_int_equal(spool_state(f->spool).next_sequence, 31);
    assert_int_equal(spool_state(f->spool).tail.offset, spool_state(f->spool).set_start); /* no set is open */
    assert_int_equal(append_set(f, 31), 0);
    read_back(f, 31, 31);
}

static void test_set_out_of_sequence_is_not_taken(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(append_set(f, 1), 0);
    assert_int_equal(append_set(f, 3), -1);
    assert_int_equal(append_set(f, 2), 0);
    read_back(f, 1, 2);
}

static void test_damage_shortens_the_spool(void **state)
{
    struct fixture *f = *state;
    for (uint64_t s = 1; s <= 30; s++)
        assert_int_equal(append_set(f, s), 0);
    char path[128], name[SEGMENT_NAME_SIZE];
    segment_name(3, name);
    (void)snprintf(path, sizeof(path), "%s/%s", f->path, name);
    int fd = open(path, O_RDWR);
    static const uint8_t noise[4400] = {1, 2, 3};
    assert_int_equal(file_pwrite_all(fd, noise, sizeof(noise), SEGMENT_HEADER_SIZE + 5000, "noise", NULL), 0);
    (void)close(fd);
    reopen(f);
    struct spool_state st = spool_state(f->spool);
    assert_int_equal(st.first_sequence, 1);
    assert_true(st.next_sequence > 5 && st.next_sequence < 30);
    read_back(f, 1, st.next_sequence - 1);
    assert_int_equal(append_set(f, st.next_sequence), 0);
    read_back(f, 1, st.next_sequence);
    reopen(f);
    read_back(f, 1, st.next_sequence);
}

/* A batch ends a segment, and what follows in it does not fit on the disk: the whole batch comes again, and nothing of its first half may be
 * in the way of that after a restart. */
static void test_a_batch_that_fails_behind_a_segment_comes_again(void **state)
{
    struct fixture *f = *state;
    struct rlimit limit, small;
    for (uint64_t s = 1; s <= 3; s++)
        assert_int_equal(append_set(f, s), 0);
    AUTO_BUF struct buf first = BUF_INIT(1 << 20), second = BUF_INIT(1 << 20);
    data(f, 4, &first);
    mark(f, 4, &first);
    for (uint64_t s = 5; s < 15; s++)
        data(f, s, &second);
    struct buf chunks[] = {first, second};
    struct spool_mark m = {.sequence = 4, .chunk = 0, .end = first.len};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = (struct rlimit){.rlim_cur = SEGMENT_BYTES + 5000, .rlim_max = limit.rlim_max};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int appended = spool_append(f->spool, chunks, 2, 1, &m, 1, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(appended, -1);
    assert_int_equal(spool_state(f->spool).next_sequence, 4);
    for (uint64_t s = 4; s <= 12; s++)
        assert_int_equal(append_set(f, s), 0);
    read_back(f, 1, 12);
    reopen(f);
    assert_int_equal(spool_state(f->spool).next_sequence, 13);
    read_back(f, 1, 12);
}

/* What a joining left that was broken off (spool_join.h) is not part of the spool, and takes room. */
static void test_leftovers_of_joining_go_at_the_start(void **state)
{
    struct fixture *f = *state;
    char folder[128], path[256], name[SEGMENT_NAME_SIZE];
    for (uint64_t s = 1; s <= 12; s++)
        assert_int_equal(append_set(f, s), 0);
    (void)snprintf(folder, sizeof(folder), "%s/.join", f->path);
    assert_int_equal(mkdir(folder, 0700), 0);
    segment_name(2, name);
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(file_replace(path, "half of it", 10, 0600, NULL), 0);
    reopen(f);
    assert_int_equal(access(folder, F_OK), -1);
    read_back(f, 1, 12);
}

static void test_new_epoch_begins_empty(void **state)
{
    struct fixture *f = *state;
    for (uint64_t s = 1; s <= 12; s++)
        assert_int_equal(append_set(f, s), 0);
    assert_int_equal(spool_begin(f->spool, 1, 2, 7, NULL), 0);
    assert_int_equal(files(f), 0);
    f->epoch = 2;
    assert_int_equal(append_set(f, 7), 0);
    reopen(f);
    assert_int_equal(spool_state(f->spool).epoch, 2);
    read_back(f, 7, 7);
}

int main(void)
{
#define SPOOL_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        SPOOL_TEST(test_sets_are_read_back_from_anywhere),
        SPOOL_TEST(test_restart_finds_whole_sets_and_drops_the_open_one),
        SPOOL_TEST(test_rewind_drops_the_open_set_only),
        SPOOL_TEST(test_restart_reads_again_what_the_disk_refused),
        SPOOL_TEST(test_restart_without_memory_drops_nothing),
        SPOOL_TEST(test_a_place_behind_the_end_is_none),
        SPOOL_TEST(test_trim_deletes_what_is_committed),
        SPOOL_TEST(test_set_out_of_sequence_is_not_taken),
        SPOOL_TEST(test_damage_shortens_the_spool),
        SPOOL_TEST(test_a_batch_that_fails_behind_a_segment_comes_again),
        SPOOL_TEST(test_leftovers_of_joining_go_at_the_start),
        SPOOL_TEST(test_new_epoch_begins_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
