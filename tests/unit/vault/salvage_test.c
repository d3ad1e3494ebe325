/* SPDX-License-Identifier: Apache-2.0
 *
 * A log with a hole. With the index it opens, and what needs the hole is an error, never other data. Without it, the bucket gives back what is
 * missing; or the log is cut there on demand, and what stands before stays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/bucketworld.h"
#include "transport/base/file.h"
#include "transport/log/segment.h"
#include "transport/vault/mend.h"
#include "transport/vault/quarantine.h"
#include "transport/vault/salvage.h"
#include "transport/vault/storemeta.h"
#include "transport/vault/verify.h"
#include "transport/vault/view.h"

#define HOLE 3u

struct site {
    struct world w;
    char data[200]; /* the model's machine lies in data/machines/<id> */
};

static char *at(const struct site *s, const char *name)
{
    return mem_printf("%s/%s", s->w.m.machine_dir, name);
}

static char *segment(const struct site *s, uint64_t number)
{
    return mem_printf("%s/main/%016llx.seg", s->w.m.machine_dir, (unsigned long long)number);
}

/* A log of some segments, all of it in the bucket, and the store closed. */
static void site_init(struct site *s, uint64_t seed)
{
    struct err err = ERR_INIT;
    memset(s, 0, sizeof(*s));
    world_init(&s->w, seed);
    model_close(&s->w.m);
    (void)snprintf(s->data, sizeof(s->data), "%s/vault", s->w.m.dir);
    (void)snprintf(s->w.m.machine_dir, sizeof(s->w.m.machine_dir), "%.80s/machines/%.40s", s->data, s->w.id);
    world_ok(file_make_dirs(s->w.m.machine_dir, 0700, &err), &err);
    world_put_key(s->data, &s->w.m.conf.vault_key);
    model_open(&s->w.m);
    world_change(&s->w, 40);
    world_ok(store_flush(s->w.m.store, &err), &err);
    world_bring(&s->w);
    model_close(&s->w.m);
    char *later = segment(s, HOLE + 2);
    assert_int_equal(access(later, F_OK), 0);
    free(later);
}

static void site_done(struct site *s)
{
    world_done(&s->w);
}

static void lose_file(char *path)
{
    assert_int_equal(unlink(path), 0);
    free(path);
}

static int try_open(struct site *s, struct err *err)
{
    return store_open(&s->w.m.conf, &s->w.m.store, err);
}

static int salvage(struct site *s, bool with_bucket, bool cut, struct salvage_result *r, struct err *err)
{
    return salvage_run(s->data, &s->w.m.conf.machine, with_bucket ? s->w.objects : NULL, cut, r, err);
}

/* The first sequence of the segment. */
static uint64_t first_of(const struct site *s, uint64_t number)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    struct err err = ERR_INIT;
    char *path = at(s, "main");
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    world_ok(segment_open(fd, number, &reader, &err), &err);
    (void)close(fd);
    free(path);
    return segment_reader_info(reader)->first_sequence;
}

/* What can be read is what it was. How many sectors cannot; all of them when its mark is gone. */
static unsigned unreadable(struct site *s, const struct model_point *p)
{
    struct view *v AUTO_OF(view) = NULL;
    struct err err = ERR_INIT;
    unsigned bad = 0;
    uint8_t got[512];
    if (view_open(s->w.m.machine_dir, p->sequence, &s->w.m.opened.keys, 0, &v, &err) < 0) {
        assert_int_equal(err.code, ERR_CORRUPT);
        return (unsigned)((s->w.m.disk_bytes[0] + s->w.m.disk_bytes[1]) / sizeof(got));
    }
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        for (uint64_t where = 0; where < s->w.m.disk_bytes[i]; where += sizeof(got)) {
            if (view_read(v, i, where, sizeof(got), got, NULL) < 0)
                bad++;
            else
                assert_memory_equal(got, p->disks[i] + where, sizeof(got));
        }
    return bad;
}

static void with_its_index_a_missing_segment_is_an_error_and_nothing_else(void **state)
{
    struct site s;
    struct err err = ERR_INIT;
    struct salvage_result r;
    unsigned bad = 0;
    (void)state;
    site_init(&s, 61);
    uint64_t before = first_of(&s, HOLE);
    lose_file(segment(&s, HOLE));
    world_ok(try_open(&s, &err), &err);
    assert_false(store_lost_commits(s.w.m.store));
    for (unsigned i = 0; i < s.w.m.point_count; i++) {
        unsigned now = unreadable(&s, &s.w.m.points[i]);
        assert_true(now == 0 || s.w.m.points[i].sequence >= before);
        bad += now;
    }
    assert_true(bad > 0);
    struct verify_result found;
    struct verify_spec spec = {.machine_dir = s.w.m.machine_dir,
        .machine = s.w.m.conf.machine,
        .keys = s.w.m.opened.keys,
        .until_sequence = store_committed(s.w.m.store)};
    world_ok(verify_run(&spec, &found, &err), &err);
    assert_true(found.damage_count > 0);
    verify_result_done(&found);
    model_close(&s.w.m);
    world_ok(salvage(&s, false, true, &r, &err), &err); /* it opens: nothing is cut */
    assert_true(r.opens_as_it_is);
    assert_int_equal(r.hole, HOLE);
    assert_int_equal(r.moved, 0);
    world_ok(salvage(&s, true, true, &r, &err), &err);
    assert_true(r.opens_as_it_is && r.fetched_bytes > 0);
    model_open(&s.w.m);
    model_check_all(&s.w.m);
    site_done(&s);
}

static void the_bucket_gives_back_what_is_missing(void **state)
{
    struct site s;
    struct err err = ERR_INIT;
    struct salvage_result r;
    (void)state;
    site_init(&s, 62);
    lose_file(segment(&s, HOLE));
    lose_file(segment(&s, HOLE + 1));
    char *damaged = segment(&s, 1);
    world_flip(damaged, 30); /* of its file header */
    free(damaged);
    lose_file(at(&s, "manifest"));
    assert_int_equal(try_open(&s, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_non_null(strstr(err.correction, "salvage"));
    err_clear(&err);
    assert_int_equal(salvage(&s, false, false, &r, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_non_null(strstr(err.text, "segment 1 is damaged"));
    assert_non_null(strstr(err.correction, "--from"));
    err_clear(&err);
    world_ok(salvage(&s, true, false, &r, &err), &err);
    assert_true(r.opens_as_it_is);
    assert_int_equal(r.points, s.w.m.point_count);
    model_open(&s.w.m);
    assert_false(store_lost_commits(s.w.m.store));
    model_check_all(&s.w.m);
    model_close(&s.w.m);
    world_ok(salvage(&s, true, true, &r, &err), &err);
    assert_true(r.opens_as_it_is && r.hole == 0 && r.fetched_bytes == 0);
    site_done(&s);
}

static void forget_from(struct site *s, uint64_t sequence)
{
    while (s->w.m.point_count > 0 && s->w.m.points[s->w.m.point_count - 1].sequence >= sequence)
        model_forget(&s->w.m, s->w.m.points[s->w.m.point_count - 1].sequence);
}

/* Speaks of a place in a segment that goes, and of one that stays. */
static void note_places(struct site *s)
{
    struct err err = ERR_INIT;
    struct quarantine q = {0};
    struct mend_nonce nonce = {.stream = 1};
    static const uint8_t plain[512];
    for (uint64_t number = 1; number <= HOLE + 1; number += HOLE) {
        const struct quarantine_item item = {.kind = VERIFY_PAYLOAD, .segment = number, .offset = 4096, .end = 5000};
        assert_int_equal(quarantine_put(&q, &item, &err), 1);
        world_ok(
            mend_store(s->w.m.machine_dir, number, 4096, 0, 0, plain, sizeof(plain), &s->w.m.opened.keys, &nonce, &err),
            &err);
    }
    world_ok(quarantine_store(s->w.m.machine_dir, &s->w.m.conf.machine, &q, &err), &err);
    quarantine_done(&q);
}

static void check_places(struct site *s)
{
    struct err err = ERR_INIT;
    struct quarantine q;
    world_ok(quarantine_load(s->w.m.machine_dir, &s->w.m.conf.machine, &q, &err), &err);
    assert_int_equal(q.count, 1);
    assert_int_equal(q.items[0].segment, 1);
    quarantine_done(&q);
    assert_true(mend_is_good(s->w.m.machine_dir, 1, 4096, &s->w.m.opened.keys));
    assert_false(mend_is_good(s->w.m.machine_dir, HOLE + 1, 4096, &s->w.m.opened.keys));
}

/* After the cut the machine goes on: with new change sets, over a restart, and with an index that is made anew. */
static void check_goes_on(struct site *s, uint64_t epoch_before)
{
    struct err err = ERR_INIT;
    world_ok(try_open(s, &err), &err);
    assert_true(store_epoch(s->w.m.store) > epoch_before);
    s->w.m.epoch = store_epoch(s->w.m.store);
    model_close(&s->w.m);
    model_open(&s->w.m);
    const struct model_point *last = &s->w.m.points[s->w.m.point_count - 1];
    for (unsigned i = 0; i < MODEL_DISKS; i++)
        memcpy(s->w.m.disks[i], last->disks[i], s->w.m.disk_bytes[i]);
    model_check_all(&s->w.m);
    world_change(&s->w, 10);
    model_check_all(&s->w.m);
    store_discard_index(s->w.m.store);
    store_close(TAKE_PTR(s->w.m.store));
    model_open(&s->w.m);
    model_check_all(&s->w.m);
}

static void a_log_is_cut_at_a_missing_segment(void **state)
{
    struct site s;
    struct err err = ERR_INIT;
    struct salvage_result r;
    struct store_meta meta;
    (void)state;
    site_init(&s, 63);
    uint64_t from = first_of(&s, HOLE);
    lose_file(segment(&s, HOLE));
    lose_file(at(&s, "manifest"));
    note_places(&s);
    world_ok(storemeta_load(s.w.m.machine_dir, &meta, &err), &err);
    world_ok(salvage(&s, false, true, &r, &err), &err);
    assert_false(r.opens_as_it_is);
    assert_int_equal(r.hole, HOLE);
    assert_true(r.moved >= 2);
    assert_int_equal(r.sequence, from - 1);
    char *aside = at(&s, "lost-1/0000000000000004.seg");
    assert_int_equal(access(aside, F_OK), 0);
    free(aside);
    check_places(&s);
    forget_from(&s, from);
    assert_int_equal(r.points, s.w.m.point_count);
    check_goes_on(&s, meta.epoch);
    site_done(&s);
}

static void of_a_damaged_segment_what_stands_before_the_damage_stays(void **state)
{
    struct site s;
    struct err err = ERR_INIT;
    struct salvage_result r;
    struct store_meta meta;
    (void)state;
    site_init(&s, 64);
    uint64_t hole = 2; /* or later: one that has more than one change set */
    while (first_of(&s, hole + 1) == first_of(&s, hole) + 1)
        hole++;
    uint64_t from = first_of(&s, hole), behind = first_of(&s, hole + 1);
    char *damaged = segment(&s, hole);
    struct buf content AUTO_BUF = BUF_INIT(1 << 20);
    world_ok(file_read(damaged, &content, &err), &err);
    world_flip(damaged, (long)content.len - 300); /* in or near the last mark */
    world_flip(damaged, (long)content.len - 500);
    free(damaged);
    lose_file(at(&s, "manifest"));
    world_ok(storemeta_load(s.w.m.machine_dir, &meta, &err), &err);
    world_ok(salvage(&s, false, true, &r, &err), &err);
    assert_int_equal(r.hole, hole);
    assert_true(r.sequence >= from && r.sequence < behind);
    forget_from(&s, r.sequence + 1);
    assert_int_equal(r.points, s.w.m.point_count);
    check_goes_on(&s, meta.epoch);
    site_done(&s);
}

static void without_leave_nothing_is_cut(void **state)
{
    struct site s;
    struct err err = ERR_INIT;
    struct salvage_result r;
    struct ident other = {{42}};
    (void)state;
    site_init(&s, 65);
    lose_file(at(&s, "manifest"));
    lose_file(segment(&s, HOLE));
    assert_int_equal(salvage(&s, false, false, &r, &err), -1);
    assert_non_null(strstr(err.text, "segment 3 is missing"));
    char *behind = segment(&s, HOLE + 1);
    assert_int_equal(access(behind, F_OK), 0);
    free(behind);
    err_clear(&err);
    assert_int_equal(salvage_run(s.data, &other, NULL, true, &r, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    site_done(&s);
}

static uint64_t last_segment(const struct site *s)
{
    for (uint64_t number = 1;; number++) {
        char *path AUTO_FREE = segment(s, number);
        if (access(path, F_OK) < 0)
            return number - 1;
    }
}

static void lose_index(const struct site *s)
{
    lose_file(at(s, "manifest"));
}

/* Its end was given up when it could not be read, and the log went on in the next one. That it can be read after all makes no hole of it, where a cut would
 * take away all that came since. */
static void a_segment_that_was_left_is_no_hole_when_it_can_be_read_again(void **state)
{
    struct site s;
    struct err err = ERR_INIT;
    struct salvage_result r;
    char expected[60];
    static const uint8_t noise[RECORD_HEADER_SIZE];
    (void)state;
    site_init(&s, 67);
    uint64_t left = last_segment(&s);
    struct buf was AUTO_BUF = BUF_INIT(64u << 20);
    char *path AUTO_FREE = segment(&s, left);
    world_ok(file_read(path, &was, &err), &err);
    int fd AUTO_CLOSE = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, noise, sizeof(noise), SEGMENT_HEADER_SIZE), sizeof(noise));
    lose_index(&s);
    model_open(&s.w.m);
    assert_true(store_lost_commits(s.w.m.store));
    world_change(&s.w, 40);
    model_close(&s.w.m);
    assert_true(last_segment(&s) > left + 3);
    world_ok(file_pwrite_all(fd, was.data, was.len, 0, "segment", &err), &err);
    lose_index(&s);
    lose_file(segment(&s, left + 2));
    assert_int_equal(salvage(&s, false, false, &r, &err), -1);
    (void)snprintf(expected, sizeof(expected), "segment %llu is missing", (unsigned long long)left + 2);
    if (strstr(err.text, expected) == NULL)
        fail_msg("%s", err.text);
    site_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_that_was_left_is_no_hole_when_it_can_be_read_again),
        cmocka_unit_test(with_its_index_a_missing_segment_is_an_error_and_nothing_else),
        cmocka_unit_test(the_bucket_gives_back_what_is_missing),
        cmocka_unit_test(a_log_is_cut_at_a_missing_segment),
        cmocka_unit_test(of_a_damaged_segment_what_stands_before_the_damage_stays),
        cmocka_unit_test(without_leave_nothing_is_cut),
    };
    return cmocka_run_group_tests_name("salvage", tests, NULL, NULL);
}
