/* SPDX-License-Identifier: Apache-2.0
 *
 * Joining against a model. Random sets go into a spool of many small segments; the content of two disks at every point is noted, sector by
 * sector. After joining, wholly or broken off anywhere, and after a restart: the sets are consecutive and are what their marks say, every
 * mark that is still a point has the content that it had, the points with a purpose and the newest one are there, and what is kept of blocks that
 * are written again and again is little.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/log/mark.h"
#include "transport/log/segment.h"
#include "transport/node/covered.h"
#include "transport/node/setcheck.h"
#include "transport/node/spool.h"
#include "transport/node/spool_join.h"

#define SEGMENT_BYTES (96u << 10)
#define DISKS 2u
#define SECTORS 2048u /* of each disk */
#define SETS_MAX 120u

struct image {
    uint32_t sectors[DISKS][SECTORS]; /* number of the record that wrote it last; 0: none, or a zero record */
};

struct fixture {
    char path[64];
    struct ident machine;
    struct spool *spool;
    struct record_digest *digest;
    unsigned seed;
    uint32_t serial;
    unsigned sets;
    struct image now, at[SETS_MAX + 1];
    struct mark marks[SETS_MAX + 1];
};

static unsigned below(struct fixture *f, unsigned n)
{
    f->seed = f->seed * 1103515245u + 12345u;
    return (f->seed >> 8) % n;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    log_set_level(LOG_ERROR);
    f->digest = record_digest_new();
    f->seed = 1;
    (void)snprintf(f->path, sizeof(f->path), "/tmp/leeward-join-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    assert_int_equal(ident_random(&f->machine), 0);
    assert_int_equal(spool_open(f->path, &f->machine, SEGMENT_BYTES, &f->spool, NULL), 0);
    assert_int_equal(spool_begin(f->spool, 1, 1, 1, NULL), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    spool_close(f->spool);
    record_digest_free(f->digest);
    (void)file_remove_tree(f->path, NULL);
    free(f);
    return 0;
}

static void reopen(struct fixture *f)
{
    spool_close(f->spool);
    f->spool = NULL;
    assert_int_equal(spool_open(f->path, &f->machine, SEGMENT_BYTES, &f->spool, NULL), 0);
}

static void apply(struct image *image, const struct record *r, uint32_t content)
{
    for (uint64_t s = r->start / 512; s < (r->start + r->length) / 512; s++)
        image->sectors[r->disk][s] = r->kind == RECORD_ZERO ? 0 : content;
}

static void put_record(
    struct fixture *f, struct mark *m, struct buf *b, uint32_t disk, uint64_t sector, uint64_t count, bool zero)
{
    struct record r = {
        .kind = zero ? RECORD_ZERO : RECORD_DATA, .disk = disk, .start = sector * 512, .length = count * 512};
    r.stored = zero ? 0 : (uint32_t)r.length;
    f->serial++;
    memset(&r.hash, 0, sizeof(r.hash));
    if (!zero)
        memcpy(&r.hash, &f->serial, sizeof(f->serial));
    assert_int_equal(buf_reserve(b, RECORD_HEADER_SIZE + r.stored, NULL), 0);
    record_encode_header(&r, b->data + b->len);
    memset(b->data + b->len + RECORD_HEADER_SIZE, (int)f->serial, r.stored);
    b->len += RECORD_HEADER_SIZE + r.stored;
    record_digest_add(f->digest, &r);
    m->record_count++;
    m->changed_bytes += r.length;
    apply(&f->now, &r, f->serial);
}

static struct mark begin_set(struct fixture *f)
{
    struct mark m = {.kind = MARK_CRASH,
        .sequence = f->sets + 1,
        .generation = 1,
        .epoch = 1,
        .machine = f->machine,
        .disk_count = DISKS};
    for (unsigned i = 0; i < DISKS; i++)
        m.disks[i] = (struct mark_disk){.number = i, .sector_bytes = 512, .size_bytes = SECTORS * 512, .name = "vdx"};
    record_digest_reset(f->digest);
    return m;
}

static void end_set(struct fixture *f, struct mark *m, struct buf *b)
{
    record_digest_get(f->digest, &m->digest);
    assert_int_equal(mark_append(m, b, NULL), 0);
    struct spool_mark place = {.sequence = m->sequence, .chunk = 0, .end = b->len};
    assert_int_equal(spool_append(f->spool, b, 1, 1, &place, 1, NULL), 0);
    f->sets++;
    f->at[f->sets] = f->now;
    f->marks[f->sets] = *m;
}

static void random_record(struct fixture *f, struct mark *m, struct buf *b)
{
    uint32_t disk = below(f, DISKS);
    if (below(f, 10) == 0) {
        uint64_t sector = below(f, SECTORS - 1), most = SECTORS - sector;
        put_record(f, m, b, disk, sector, 1 + below(f, (unsigned)most), true);
        return;
    }
    uint64_t block = below(f, SECTORS / 128), first = below(f, 120);
    put_record(f, m, b, disk, block * 128 + first, 1 + below(f, (unsigned)(128 - first)), false);
}

static void random_purpose(struct fixture *f, struct mark *m)
{
    switch (below(f, 30)) {
    case 0:
        m->kind = MARK_FILESYSTEM;
        break;
    case 1:
        m->flags = MARK_FIRST;
        break;
    case 2:
        m->flags = MARK_ASKED | MARK_FROZEN;
        break;
    case 3:
        (void)snprintf(m->tag, sizeof(m->tag), "kept");
        break;
    case 4:
        m->group_point.bytes[3] = 1;
        break;
    case 5:
        m->kind = MARK_PROGRESS;
        break;
    default:
        break;
    }
}

static void random_sets(struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        AUTO_BUF struct buf b = BUF_INIT(4 << 20);
        struct mark m = begin_set(f);
        for (unsigned n = below(f, 8); n > 0; n--)
            random_record(f, &m, &b);
        random_purpose(f, &m);
        end_set(f, &m, &b);
    }
}

static bool has_purpose(const struct mark *m)
{
    return m->kind == MARK_FILESYSTEM || (m->flags & (MARK_FIRST | MARK_ASKED)) != 0 || m->tag[0] != '\0' ||
           m->group_point.bytes[3] != 0;
}

static void check_point(struct fixture *f, const struct mark *m, const struct image *image)
{
    const struct mark *was = &f->marks[m->sequence];
    if (m->kind == MARK_PROGRESS) {
        assert_true(was->kind == MARK_PROGRESS || (was->kind == MARK_CRASH && !has_purpose(was)));
        return;
    }
    assert_int_equal(m->kind, was->kind);
    assert_int_equal(m->flags, was->flags);
    assert_string_equal(m->tag, was->tag);
    assert_memory_equal(image, &f->at[m->sequence], sizeof(*image));
}

/* Reads everything back; the number of points. */
static unsigned read_back(struct fixture *f, size_t *ret_bytes)
{
    struct spool_pos pos, limit = spool_state(f->spool).tail;
    struct setcheck check;
    struct image *image = calloc(1, sizeof(*image));
    unsigned points = 0;
    *ret_bytes = 0;
    assert_int_equal(setcheck_init(&check, NULL), 0);
    setcheck_start(&check, &f->machine, 1, 1, 1);
    assert_int_equal(spool_find(f->spool, 1, &pos, NULL), 0);
    for (;;) {
        AUTO_BUF struct buf b = BUF_INIT(1 << 20);
        size_t offset = 0;
        struct record r;
        const uint8_t *payload;
        assert_int_equal(spool_read(f->spool, &pos, &limit, 6000, &b, NULL), 0);
        if (b.len == 0)
            break;
        *ret_bytes += b.len;
        while (record_next(b.data, b.len, &offset, &r, &payload, NULL) == 1) {
            struct mark m;
            uint32_t content;
            assert_true(setcheck_record(&check, &r, payload, NULL) >= 0);
            memcpy(&content, &r.hash, sizeof(content));
            if (r.kind != RECORD_MARK) {
                apply(image, &r, content);
                continue;
            }
            assert_int_equal(mark_decode(&r, payload, &m, NULL), 0);
            check_point(f, &m, image);
            points += m.kind != MARK_PROGRESS;
            if (m.sequence == f->sets)
                assert_int_equal(m.kind, f->marks[f->sets].kind);
        }
    }
    assert_int_equal(check.next_sequence, f->sets + 1);
    setcheck_done(&check);
    free(image);
    return points;
}

/* At most so many steps; the result. */
static struct spool_joined join(struct fixture *f, unsigned steps)
{
    struct spool_join *j AUTO_OF(spool_join) = NULL;
    struct err err = ERR_INIT;
    int more = spool_join_new(f->spool, &j, &err);
    while (more == 1 && steps-- > 0) {
        more = spool_join_step(j, f->spool, &err);
        if (more < 0)
            fail_msg("%s", err.text);
    }
    return j != NULL ? spool_join_result(j) : (struct spool_joined){0};
}

static void test_points_that_stay_have_what_they_had(void **state)
{
    struct fixture *f = *state;
    size_t before, after;
    for (unsigned round = 0; round < 12; round++) {
        f->seed = 77 + round;
        f->sets = 0;
        memset(&f->now, 0, sizeof(f->now));
        assert_int_equal(spool_begin(f->spool, 1, 1, 1, NULL), 0);
        random_sets(f, SETS_MAX);
        unsigned points = read_back(f, &before);
        struct spool_joined done = join(f, round < 6 ? UINT32_MAX : below(f, 40));
        assert_int_equal(read_back(f, &after), points - done.points);
        assert_int_equal(before - after, done.bytes);
        if (round < 6)
            if (!(done.points > 40 && done.bytes > before / 8))
                fail_msg("%zu of %zu points given up, %zu of %zu bytes", (size_t)done.points, (size_t)points,
                    (size_t)done.bytes, before);
        reopen(f);
        assert_int_equal(read_back(f, &after), points - done.points);
        assert_int_equal(before - after, done.bytes);
    }
}

static void hot_sets(struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        AUTO_BUF struct buf b = BUF_INIT(4 << 20);
        struct mark m = begin_set(f);
        for (unsigned n = 0; n < 4; n++)
            put_record(f, &m, &b, 0, n * 128, 128, false);
        end_set(f, &m, &b);
    }
}

static void test_joined_again_and_again_it_does_not_grow(void **state)
{
    struct fixture *f = *state;
    size_t bytes;
    for (unsigned round = 0; round < 10; round++) {
        hot_sets(f, 12);
        (void)join(f, UINT32_MAX);
        assert_int_equal(read_back(f, &bytes), 1);
        assert_true(bytes < (4 * 64u << 10) + f->sets * 512u);
    }
    hot_sets(f, 0);
    assert_int_equal(join(f, UINT32_MAX).bytes, 0); /* nothing more to gain */
}

/* What was written behind it is progress towards a point that is not there yet. */
static void test_the_newest_point_stays_behind_progress(void **state)
{
    struct fixture *f = *state;
    size_t bytes;
    hot_sets(f, 20);
    for (unsigned i = 0; i < 3; i++) {
        AUTO_BUF struct buf b = BUF_INIT(4 << 20);
        struct mark m = begin_set(f);
        m.kind = MARK_PROGRESS;
        for (unsigned n = 0; n < 4; n++)
            put_record(f, &m, &b, 0, n * 128, 128, false);
        end_set(f, &m, &b);
    }
    assert_int_equal(join(f, UINT32_MAX).points, 19);
    assert_int_equal(read_back(f, &bytes), 1);
}

static void cold_sets(struct fixture *f, unsigned count, uint64_t sector)
{
    for (unsigned i = 0; i < count; i++) {
        AUTO_BUF struct buf b = BUF_INIT(4 << 20);
        struct mark m = begin_set(f);
        put_record(f, &m, &b, 1, sector + i * 32, 32, false);
        end_set(f, &m, &b);
    }
}

/* Blocks that are written again and again for a while, before and after times in which each block is written once. */
static void test_points_that_are_in_the_way_of_nothing_stay(void **state)
{
    struct fixture *f = *state;
    size_t before, after;
    cold_sets(f, 20, 0);
    hot_sets(f, 20);
    cold_sets(f, 20, 1024);
    assert_int_equal(read_back(f, &before), 60);
    struct spool_joined done = join(f, UINT32_MAX);
    assert_int_equal(done.points, 19); /* the last hot one is in the way of nothing either */
    assert_int_equal(read_back(f, &after), 41);
    assert_true(before - after > 19u * 4 * 65536);
    reopen(f);
    assert_int_equal(read_back(f, &after), 41);
}

/* ---- what goes wrong ---- */

static ino_t folder_that_does_not_sync; /* 0: none */

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    struct stat st;
    if (folder_that_does_not_sync != 0 && fstat(fd, &st) == 0 && st.st_ino == folder_that_does_not_sync) {
        errno = EIO;
        return -1;
    }
    return __real_fsync(fd);
}

/* A segment is in its place, but the folder cannot be made durable: what is read is what is there. */
static void test_a_folder_that_cannot_be_synced_leaves_the_spool_whole(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    struct spool_join *j AUTO_OF(spool_join) = NULL;
    struct err err = ERR_INIT;
    size_t before, after;
    hot_sets(f, 20);
    unsigned points = read_back(f, &before);
    assert_int_equal(stat(f->path, &st), 0);
    int more = spool_join_new(f->spool, &j, &err);
    folder_that_does_not_sync = st.st_ino;
    while (more == 1)
        more = spool_join_step(j, f->spool, &err);
    folder_that_does_not_sync = 0;
    assert_int_equal(more, -1);
    assert_int_equal(err.code, ERR_IO);
    struct spool_joined done = spool_join_result(j);
    assert_true(done.bytes > 0);
    assert_int_equal(read_back(f, &after), points - done.points);
    assert_int_equal(before - after, done.bytes);
    reopen(f);
    assert_int_equal(read_back(f, &after), points - done.points);
    hot_sets(f, 1);
    assert_int_equal(read_back(f, &after), points - done.points + 1);
}

/* No room for the seal of the segment that grows: the next set goes in all the same. */
static void test_a_seal_that_fails_costs_nothing(void **state)
{
    struct fixture *f = *state;
    struct spool_join *j AUTO_OF(spool_join) = NULL;
    struct err err = ERR_INIT;
    struct rlimit limit, small;
    size_t bytes;
    cold_sets(f, 3, 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = (struct rlimit){.rlim_cur = spool_state(f->spool).tail.offset + 10, .rlim_max = limit.rlim_max};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int begun = spool_join_new(f->spool, &j, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(begun, -1);
    cold_sets(f, 1, 96); /* fails the test where it is not taken */
    assert_int_equal(read_back(f, &bytes), 4);
    reopen(f);
    assert_int_equal(read_back(f, &bytes), 4);
}

/* The file system is full when the first set after a join comes. */
static void test_an_append_that_fails_behind_it_takes_nothing_away(void **state)
{
    struct fixture *f = *state;
    struct rlimit limit, small;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    size_t bytes;
    hot_sets(f, 12);
    for (unsigned i = 0; i < 3;
         i++) { /* of the segment that still grows, and is the last one when it was written anew */
        AUTO_BUF struct buf few = BUF_INIT(1 << 20);
        struct mark m = begin_set(f);
        put_record(f, &m, &few, 0, 0, 8, false);
        end_set(f, &m, &few);
    }
    assert_true(join(f, UINT32_MAX).bytes > 0);
    struct mark m = begin_set(f);
    struct image now = f->now;
    put_record(f, &m, &b, 1, 0, 8, false);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = (struct rlimit){.rlim_cur = 1, .rlim_max = limit.rlim_max};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int appended = spool_append(f->spool, &b, 1, 0, NULL, 0, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(appended, -1);
    f->now = now;
    assert_int_equal(read_back(f, &bytes), 2); /* the newest, and the last hot one */
    hot_sets(f, 1);
    assert_int_equal(read_back(f, &bytes), 3);
}

static void test_without_gain_all_points_stay(void **state)
{
    struct fixture *f = *state;
    size_t bytes;
    for (unsigned i = 0; i < 30; i++) {
        AUTO_BUF struct buf b = BUF_INIT(4 << 20);
        struct mark m = begin_set(f);
        put_record(f, &m, &b, 0, i * 64, 64, false);
        end_set(f, &m, &b);
    }
    assert_int_equal(join(f, UINT32_MAX).points, 0);
    assert_int_equal(read_back(f, &bytes), 30);
}

static void test_a_spool_begun_anew_ends_it(void **state)
{
    struct fixture *f = *state;
    struct spool_join *j AUTO_OF(spool_join) = NULL;
    hot_sets(f, 20);
    assert_int_equal(spool_join_new(f->spool, &j, NULL), 1);
    assert_int_equal(spool_join_step(j, f->spool, NULL), 1);
    assert_int_equal(spool_begin(f->spool, 1, 2, 1, NULL), 0);
    assert_int_equal(spool_join_step(j, f->spool, NULL), 0);
}

static void test_an_open_set_ends_its_segment_with_its_mark(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct spool_join *j AUTO_OF(spool_join) = NULL;
    struct mark m = begin_set(f);
    put_record(f, &m, &b, 0, 0, 8, false);
    assert_int_equal(spool_append(f->spool, &b, 1, 0, NULL, 0, NULL), 0);
    assert_int_equal(spool_join_new(f->spool, &j, NULL), 0);
    b.len = 0;
    end_set(f, &m, &b);
    assert_int_equal(spool_join_new(f->spool, &j, NULL), 1);
}

static bool has(const struct covered *c, uint32_t disk, uint64_t start, uint64_t length)
{
    uint32_t set;
    return covered_has(c, disk, start, length, &set);
}

static void test_covered_is_exact_until_it_is_full(void **state)
{
    struct covered *c AUTO_OF(covered) = covered_new(4);
    (void)state;
    covered_add(c, 1, 512, 65536, 1);
    assert_true(has(c, 1, 512, 65536));
    assert_true(has(c, 1, 65536, 512));
    assert_false(has(c, 1, 0, 1024));
    assert_false(has(c, 1, 66048, 512));
    assert_false(has(c, 0, 512, 512));
    covered_add(c, 1, 1 << 20, 4 << 16, 1); /* two blocks more than there is room for */
    assert_true(has(c, 1, 1 << 20, 2 << 16));
    assert_false(has(c, 1, 1 << 20, 3 << 16));
    covered_reset(c);
    assert_false(has(c, 1, 512, 512));
    covered_add(c, 1023, (UINT64_C(1) << 62) - 512, 512, 1);
    assert_true(has(c, 1023, (UINT64_C(1) << 62) - 512, 512));
    covered_add(c, 2, 0, UINT64_C(1) << 40, 1); /* too long to be noted */
    assert_false(has(c, 2, 0, 512));
}

/* Which sets do without those behind them. */
static void test_covered_knows_the_set(void **state)
{
    struct covered *c AUTO_OF(covered) = covered_new(100);
    uint32_t set = 0;
    (void)state;
    covered_add(c, 0, 0, 4096, 1);
    covered_add(c, 0, 8192, 512, 2);
    assert_true(covered_has(c, 0, 0, 512, &set));
    assert_int_equal(set, 1);
    covered_add(c, 0, 0, 8704, 3); /* all of it again */
    assert_true(covered_has(c, 0, 0, 8704, &set));
    assert_int_equal(set, 3);
    covered_add(c, 0, 65536, 65536, 5);
    assert_true(covered_has(c, 0, 65536, 512, &set));
    assert_int_equal(set, 5);
    assert_true(covered_has(c, 0, 4096, 4096, &set));
    assert_int_equal(set, 3);
    covered_add(c, 0, 4096, 61440, 7);
    assert_true(covered_has(c, 0, 0, 131072, &set)); /* the one that lies farthest behind counts */
    assert_int_equal(set, 3);
}

static void test_covered_grows(void **state)
{
    struct covered *c AUTO_OF(covered) = covered_new(100000);
    (void)state;
    for (uint64_t i = 0; i < 50000; i++)
        covered_add(c, i % 7, i * 65536, 4096, 1);
    for (uint64_t i = 0; i < 50000; i++) {
        assert_true(has(c, i % 7, i * 65536, 4096));
        assert_false(has(c, (i + 1) % 7, i * 65536, 4096));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_points_that_stay_have_what_they_had, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_joined_again_and_again_it_does_not_grow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_newest_point_stays_behind_progress, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_points_that_are_in_the_way_of_nothing_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_folder_that_cannot_be_synced_leaves_the_spool_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_seal_that_fails_costs_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_append_that_fails_behind_it_takes_nothing_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_gain_all_points_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_spool_begun_anew_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_open_set_ends_its_segment_with_its_mark, set_up, tear_down),
        cmocka_unit_test(test_covered_is_exact_until_it_is_full),
        cmocka_unit_test(test_covered_knows_the_set),
        cmocka_unit_test(test_covered_grows),
    };
    return cmocka_run_group_tests_name("node/spool_join", tests, NULL, NULL);
}
