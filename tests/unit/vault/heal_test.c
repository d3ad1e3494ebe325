/* SPDX-License-Identifier: Apache-2.0
 *
 * Damage in the log: which records and points it hits, healing from a header that has lost a bit, mended records in the place of
 * damaged ones, and the two small files that remember what was verified and what was found.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/mem.h"
#include "transport/log/segment.h"
#include "transport/vault/heal.h"
#include "transport/vault/scrubstate.h"
#include "transport/vault/store_compact.h"
#include "transport/vault/view.h"

#define BLOCK 65536u

/* Three points; the block at BLOCK is written at the first and again at the third, others each once. */
static void history(struct model *m, uint64_t seed)
{
    struct err err = ERR_INIT;
    model_init(m, seed);
    model_open(m);
    for (unsigned i = 0; i < 6; i++)
        model_write(m, 0, (uint64_t)i * BLOCK, BLOCK, true);
    model_commit(m, MARK_CRASH);
    model_write(m, 0, 8ull * BLOCK, BLOCK, true);
    model_commit(m, MARK_CRASH);
    model_write(m, 0, BLOCK, BLOCK, true);
    model_commit(m, MARK_CRASH);
    assert_int_equal(store_flush(m->store, &err), 0);
}

static void segment_path(const struct model *m, char *out, size_t n)
{
    (void)snprintf(out, n, "%s/main/0000000000000001.seg", m->machine_dir);
}

static void change(const struct model *m, uint64_t at, const uint8_t *bytes, size_t n, uint8_t flip)
{
    char path[300];
    segment_path(m, path, sizeof(path));
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    if (bytes != NULL) {
        assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
        assert_int_equal(fwrite(bytes, 1, n, f), n);
    } else {
        assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
        int c = fgetc(f);
        assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
        (void)fputc(c ^ flip, f);
    }
    assert_int_equal(fclose(f), 0);
}

/* Where the first record that covers that byte of disk 0 lies. */
static uint64_t place_of(const struct model *m, uint64_t start, struct record *ret_record)
{
    char path[300];
    struct err err = ERR_INIT;
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    const uint8_t *payload;
    uint64_t offset = SEGMENT_HEADER_SIZE, at;
    (void)snprintf(path, sizeof(path), "%s/main", m->machine_dir);
    int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(segment_open(dirfd, 1, &reader, &err), 0);
    do {
        at = offset;
        assert_int_equal(segment_read_next(reader, &offset, ret_record, &payload, &err), 1);
    } while (ret_record->kind != RECORD_DATA || ret_record->disk != 0 || ret_record->start != start);
    (void)close(dirfd);
    return at;
}

static void verify(const struct model *m, struct verify_result *r)
{
    struct err err = ERR_INIT;
    struct verify_spec spec = {.machine_dir = m->machine_dir,
        .machine = m->conf.machine,
        .keys = m->opened.keys,
        .until_sequence = store_committed(m->store)};
    if (verify_run(&spec, r, &err) < 0)
        fail_msg("%s", err.text);
}

static struct damagehit hit_of(const struct model *m)
{
    return (struct damagehit){.machine_dir = m->machine_dir,
        .machine = m->conf.machine,
        .keys = m->opened.keys,
        .points = *store_points(m->store),
        .newest = store_committed(m->store)};
}

/* Finds the damage there is; the list with the points that are hit. */
static void find(const struct model *m, struct quarantine *q)
{
    struct verify_result r;
    struct err err = ERR_INIT;
    struct damagehit h = hit_of(m);
    size_t added;
    verify(m, &r);
    *q = (struct quarantine){0};
    for (size_t i = 0; i < r.listed; i++)
        assert_int_equal(damagehit_items(&h, &r.damages[i], 1, q, &added, &err), 0);
    for (size_t i = 0; i < q->count; i++)
        assert_int_equal(damagehit_points(&h, &q->items[i], &err), 0);
    verify_result_done(&r);
}

static int read_block(const struct model *m, uint64_t sequence, uint64_t start, uint8_t *out)
{
    struct view *v AUTO_OF(view) = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(view_open(m->machine_dir, sequence, &m->opened.keys, 0, &v, &err), 0);
    return view_read(v, 0, start, BLOCK, out, NULL);
}

/* ---- tests ---- */

static void damage_names_the_points_that_show_it(void **state)
{
    static struct model m;
    static uint8_t block[BLOCK];
    struct quarantine q;
    struct record r;
    (void)state;
    history(&m, 71);
    change(&m, place_of(&m, BLOCK, &r) + RECORD_HEADER_SIZE + 3, NULL, 0, 8);     /* until the third point */
    change(&m, place_of(&m, 3 * BLOCK, &r) + RECORD_HEADER_SIZE + 3, NULL, 0, 8); /* to this day */
    find(&m, &q);
    assert_int_equal(q.count, 2);
    assert_int_equal(q.items[0].start, BLOCK);
    assert_int_equal(q.items[0].first_point, 1);
    assert_int_equal(q.items[0].last_point, 2);
    assert_int_equal(q.items[0].points, 2);
    assert_false(q.items[0].now);
    assert_int_equal(q.items[1].start, 3 * BLOCK);
    assert_int_equal(q.items[1].last_point, 3);
    assert_true(q.items[1].now);
    assert_int_equal(read_block(&m, 2, BLOCK, block), -1);
    assert_int_equal(read_block(&m, 3, BLOCK, block), 0);
    assert_int_equal(read_block(&m, 2, 4 * BLOCK, block), 0);
    quarantine_done(&q);
    model_done(&m);
}

static void a_header_that_lost_a_bit_heals_itself(void **state)
{
    static struct model m;
    (void)state;
    for (unsigned bit = 0; bit < RECORD_HEADER_SIZE * 8; bit += 37) {
        struct quarantine q;
        struct record r;
        struct err err = ERR_INIT;
        struct mend_nonce nonce = {.stream = 1000 + bit};
        history(&m, 72);
        uint64_t at = place_of(&m, 2 * BLOCK, &r);
        change(&m, at + bit / 8, NULL, 0, (uint8_t)(1u << (bit % 8)));
        find(&m, &q);
        assert_int_equal(q.count, 1);
        assert_int_equal(q.items[0].offset, at);
        assert_int_equal(q.items[0].start, 2 * BLOCK);
        assert_int_equal(q.items[0].length, BLOCK);
        struct damagehit h = hit_of(&m);
        assert_int_equal(heal_item(&h, &q.items[0], NULL, &nonce, &err), 1);
        assert_true(mend_is_good(m.machine_dir, 1, at, &m.opened.keys));
        model_check_all(&m);
        quarantine_done(&q);
        model_done(&m);
    }
}

static void content_that_comes_again_heals_the_history(void **state)
{
    static struct model m;
    static uint8_t block[BLOCK];
    struct quarantine q;
    struct record r;
    struct err err = ERR_INIT;
    struct mend_nonce nonce = {.stream = 3000};
    (void)state;
    history(&m, 76);
    change(&m, place_of(&m, 3 * BLOCK, &r) + RECORD_HEADER_SIZE + 3, NULL, 0, 8);
    change(&m, place_of(&m, 4 * BLOCK, &r) + RECORD_HEADER_SIZE + 3, NULL, 0, 8);
    memcpy(block, m.disks[0] + 3 * BLOCK, BLOCK);
    model_put(&m, 0, 3 * BLOCK, BLOCK, block);   /* the source still has it */
    model_write(&m, 0, 4 * BLOCK, BLOCK, false); /* and of this something else */
    model_commit(&m, MARK_CRASH);
    assert_int_equal(store_flush(m.store, &err), 0);
    find(&m, &q);
    assert_int_equal(q.count, 2);
    struct damagehit h = hit_of(&m);
    assert_false(q.items[0].now || q.items[1].now);
    assert_int_equal(heal_item(&h, &q.items[0], NULL, &nonce, &err), 1);
    assert_int_equal(heal_item(&h, &q.items[1], NULL, &nonce, &err), 0);
    assert_int_equal(q.items[0].state, QUARANTINE_HEALED);
    assert_int_equal(q.items[1].last_point, 3);
    assert_int_equal(read_block(&m, 1, 3 * BLOCK, block), 0);
    assert_memory_equal(block, m.disks[0] + 3 * BLOCK, BLOCK);
    assert_int_equal(read_block(&m, 3, 4 * BLOCK, block), -1);
    assert_int_equal(read_block(&m, 4, 4 * BLOCK, block), 0);
    quarantine_done(&q);
    model_done(&m);
}

/* Whoever gives it: the hash decides, and nothing is written for what has another one. */
static void content_that_is_given_heals_what_has_its_hash(void **state)
{
    static struct model m;
    static uint8_t block[BLOCK], other[BLOCK];
    struct quarantine q;
    struct record r;
    struct err err = ERR_INIT;
    struct mend_nonce nonce = {.stream = 3000};
    char mend[300];
    (void)state;
    history(&m, 77);
    memcpy(block, m.disks[0] + 3 * BLOCK, BLOCK);
    memcpy(other, block, BLOCK);
    other[BLOCK - 1] ^= 1;
    change(&m, place_of(&m, 3 * BLOCK, &r) + RECORD_HEADER_SIZE + 3, NULL, 0, 8);
    find(&m, &q);
    assert_int_equal(q.count, 1);
    struct damagehit h = hit_of(&m);
    (void)snprintf(mend, sizeof(mend), "%s/mend", m.machine_dir);
    assert_true(heal_may_be_given(&q.items[0]));
    assert_int_equal(heal_with(&h, &q.items[0], other, BLOCK, &nonce, &err), 0);
    assert_int_equal(heal_with(&h, &q.items[0], block, BLOCK - 512, &nonce, &err), 0);
    assert_int_equal(access(mend, F_OK), -1);
    assert_int_equal(read_block(&m, 3, 3 * BLOCK, other), -1);
    assert_int_equal(heal_with(&h, &q.items[0], block, BLOCK, &nonce, &err), 1);
    assert_int_equal(q.items[0].state, QUARANTINE_HEALED);
    assert_false(q.items[0].now);
    assert_int_equal(read_block(&m, 3, 3 * BLOCK, other), 0);
    assert_memory_equal(block, other, BLOCK);
    assert_false(heal_may_be_given(&q.items[0]));
    assert_int_equal(heal_with(&h, &q.items[0], block, BLOCK, &nonce, &err), 0); /* it is not damaged any more */
    quarantine_done(&q);
    model_done(&m);
}

static void a_lost_sector_costs_what_lies_in_it(void **state)
{
    static struct model m;
    static uint8_t zeros[512], block[BLOCK];
    struct quarantine q;
    struct record r;
    (void)state;
    history(&m, 73);
    uint64_t at = place_of(&m, 4 * BLOCK, &r);
    change(&m, at, zeros, sizeof(zeros), 0);
    find(&m, &q);
    assert_int_equal(q.count, 1);
    assert_int_equal(q.items[0].kind, VERIFY_HEADERS);
    assert_int_equal(q.items[0].start, 4 * BLOCK);
    assert_true(q.items[0].now);
    assert_int_equal(read_block(&m, 3, 4 * BLOCK, block), -1);
    assert_int_equal(read_block(&m, 3, 5 * BLOCK, block), 0);
    assert_memory_equal(block, m.disks[0] + 5 * BLOCK, BLOCK);
    quarantine_done(&q);
    model_done(&m);
}

static void a_mended_record_must_have_the_content_of_the_damaged_one(void **state)
{
    static struct model m;
    static uint8_t block[BLOCK];
    struct record r;
    struct err err = ERR_INIT;
    struct mend_nonce nonce = {.stream = 2000};
    (void)state;
    history(&m, 74);
    uint64_t at = place_of(&m, 5 * BLOCK, &r);
    change(&m, at + RECORD_HEADER_SIZE + 9, NULL, 0, 2);
    assert_int_equal(read_block(&m, 3, 5 * BLOCK, block), -1);
    memset(block, 7, sizeof(block));
    assert_int_equal(mend_store(m.machine_dir, 1, at, 0, 5 * BLOCK, block, BLOCK, &m.opened.keys, &nonce, &err), 0);
    assert_int_equal(read_block(&m, 3, 5 * BLOCK, block), -1);
    assert_int_equal(
        mend_store(m.machine_dir, 1, at, 0, 5 * BLOCK, m.disks[0] + 5 * BLOCK, BLOCK, &m.opened.keys, &nonce, &err), 0);
    model_check_all(&m);
    model_done(&m);
}

/* Points on a small disk, most of them dropped, and the log rewritten without what nobody needs. */
static void rewritten_history(struct model *m)
{
    struct err err = ERR_INIT;
    struct store_compact *c AUTO_OF(store_compact) = NULL;
    static uint64_t drop[100];
    size_t count = 0;
    int got;
    model_init_sized(m, 77, 512u << 10, 64u << 10);
    m->conf.segment_bytes = 64u << 10;
    m->conf.flush_extents = 200;
    model_open(m);
    for (unsigned p = 0; p < 100; p++) {
        for (unsigned i = 0; i < 8; i++)
            model_write(m, 0, model_random(m, 128) * 4096, 4096, false);
        model_commit(m, MARK_CRASH);
        if (p % 20 != 0 && p < 99)
            drop[count++] = m->points[p].sequence;
    }
    model_drop(m, drop, count);
    assert_int_equal(store_compact_plan(m->store, &(struct compact_spec){.least_percent = 1}, &c, &err), 1);
    assert_int_equal(store_compact_look(c, &err), 0);
    while ((got = store_compact_rewrite(c, &err)) > 0)
        assert_int_equal(store_compact_finish(m->store, c, &err), 0);
    assert_int_equal(got, 0);
}

/* The last data record of the first rewritten segment: its place, and where its bytes lie in the file. */
static uint64_t rewritten_record(const struct model *m, uint64_t *ret_number, uint64_t *ret_file_offset)
{
    for (uint64_t number = 1;; number++) {
        char path[300];
        struct err err = ERR_INIT;
        struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
        const uint8_t *payload;
        struct record r;
        uint64_t offset = SEGMENT_HEADER_SIZE, place = 0;
        (void)snprintf(path, sizeof(path), "%s/main", m->machine_dir);
        int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int got = segment_open(dirfd, number, &reader, &err);
        (void)close(dirfd);
        assert_true(number < 1000);
        if (got < 0 || segment_reader_info(reader)->revision == 0)
            continue;
        while (segment_read_next(reader, &offset, &r, &payload, &err) > 0)
            if (r.kind == RECORD_DATA)
                place = segment_reader_place(reader);
        if (place == 0 || segment_reader_place_at(reader, place) == place)
            continue;
        *ret_number = number;
        for (uint64_t at = SEGMENT_HEADER_SIZE;; at++)
            if (segment_reader_place_at(reader, at) == place) {
                *ret_file_offset = at;
                return place;
            }
    }
}

static void damage_in_a_rewritten_segment_is_named_and_mended(void **state)
{
    static struct model m;
    static uint8_t plain[BLOCK];
    struct quarantine q;
    struct err err = ERR_INIT;
    struct mend_nonce nonce = {.stream = 4000};
    uint64_t number = 0, at = 0;
    char path[300];
    (void)state;
    rewritten_history(&m);
    uint64_t place = rewritten_record(&m, &number, &at);
    (void)snprintf(path, sizeof(path), "%s/main/%016llx.seg", m.machine_dir, (unsigned long long)number);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at + RECORD_HEADER_SIZE + 5, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    (void)fputc(c ^ 1, f);
    assert_int_equal(fclose(f), 0);
    find(&m, &q);
    assert_int_equal(q.count, 1);
    assert_int_equal(q.items[0].segment, number);
    assert_int_equal(q.items[0].offset, place);
    assert_true(q.items[0].points > 0);
    for (unsigned i = 0; i < m.point_count; i++)
        if (m.points[i].sequence == q.items[0].first_point)
            memcpy(plain, m.points[i].disks[0] + q.items[0].start, q.items[0].length);
    assert_int_equal(mend_store(m.machine_dir, number, place, 0, q.items[0].start, plain, (uint32_t)q.items[0].length,
                         &m.opened.keys, &nonce, &err),
        0);
    model_check_all(&m);
    quarantine_done(&q);
    model_done(&m);
}

static void a_damaged_list_is_an_empty_one(void **state)
{
    static struct model m;
    struct quarantine q = {0}, got;
    struct quarantine_item item = {.kind = VERIFY_PAYLOAD, .segment = 3, .offset = 70000, .length = 4096, .now = true};
    struct err err = ERR_INIT;
    char path[300];
    (void)state;
    model_init(&m, 75);
    model_open(&m);
    (void)snprintf(item.text, sizeof(item.text), "its tag does not fit");
    assert_int_equal(quarantine_put(&q, &item, &err), 1);
    item.segment = 2;
    assert_int_equal(quarantine_put(&q, &item, &err), 1);
    assert_int_equal(quarantine_put(&q, &item, &err), 0);
    assert_int_equal(quarantine_store(m.machine_dir, &m.conf.machine, &q, &err), 0);
    assert_int_equal(quarantine_load(m.machine_dir, &m.conf.machine, &got, &err), 0);
    assert_int_equal(got.count, 2);
    assert_int_equal(got.items[0].segment, 2);
    assert_string_equal(got.items[1].text, "its tag does not fit");
    assert_true(got.items[1].now);
    quarantine_done(&got);
    (void)snprintf(path, sizeof(path), "%s/quarantine", m.machine_dir);
    for (long at = 0; at < 2 * 192 + 48; at += 7) {
        FILE *f = fopen(path, "r+");
        assert_int_equal(fseek(f, at, SEEK_SET), 0);
        int c = fgetc(f);
        assert_int_equal(fseek(f, at, SEEK_SET), 0);
        (void)fputc(c ^ 0x40, f);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(quarantine_load(m.machine_dir, &m.conf.machine, &got, &err), 0);
        assert_int_equal(got.count, 0);
        quarantine_done(&got);
        assert_int_equal(quarantine_store(m.machine_dir, &m.conf.machine, &q, &err), 0);
    }
    quarantine_done(&q);
    model_done(&m);
}

static void what_was_verified_when_is_known(void **state)
{
    struct scrubstate s = {0};
    (void)state;
    assert_int_equal(scrubstate_verified(&s, 0), 0);
    s.started_utc_usec = 100;
    s.cursor = 4;
    assert_int_equal(scrubstate_verified(&s, 0), 4);
    assert_int_equal(scrubstate_verified(&s, 101), 0);
    scrubstate_finish(&s, 100, 200, 9);
    assert_int_equal(scrubstate_verified(&s, 100), 9);
    assert_int_equal(scrubstate_verified(&s, 101), 0);
    s.started_utc_usec = 300;
    s.cursor = 2;
    assert_int_equal(scrubstate_verified(&s, 0), 9);
    assert_int_equal(scrubstate_verified(&s, 250), 2);
}

/* A verification of what is new alone finds segments missing behind what was verified before: only later points are named. */
static void a_gap_behind_what_was_left_out_hits_no_earlier_point(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    struct damagehit h;
    struct quarantine q = {0};
    struct verify_result r = {0};
    char path[300];
    size_t added;
    (void)state;
    model_init(&m, 47);
    m.conf.segment_bytes = 64u << 10;
    model_open(&m);
    for (int i = 0; i < 60; i++) {
        for (int k = 0; k < 8; k++)
            model_write(&m, 0, model_random(&m, 16) * 4096, 4096, false);
        model_commit(&m, MARK_CRASH);
    }
    assert_int_equal(store_flush(m.store, &err), 0);
    const struct point *last_of_2 = NULL;
    h = hit_of(&m);
    for (size_t i = 0; i < h.points.count; i++)
        last_of_2 = h.points.items[i].segment == 2 ? &h.points.items[i] : last_of_2;
    assert_non_null(last_of_2);
    (void)snprintf(path, sizeof(path), "%s/main/0000000000000003.seg", m.machine_dir);
    assert_int_equal(unlink(path), 0);
    const struct verify_spec spec = {.machine_dir = m.machine_dir,
        .machine = m.conf.machine,
        .keys = m.opened.keys,
        .after_segment = 2,
        .until_sequence = store_committed(m.store)};
    struct verify_span spans[64];
    size_t count = 0;
    uint64_t *numbers AUTO_FREE = NULL;
    size_t segments;
    assert_int_equal(verify_segments(m.machine_dir, &numbers, &segments, &err), 0);
    for (size_t i = 0; i < segments; i++)
        if (numbers[i] > spec.after_segment)
            assert_int_equal(verify_segment(&spec, numbers[i], false, &spans[count++], &r, &err), 0);
    assert_int_equal(r.damage_count, 0);
    assert_int_equal(verify_order(&spec, spans, count, &r, &err), 0);
    assert_int_equal(r.damage_count, 1);
    assert_int_equal(r.damages[0].segment, 3);
    assert_int_equal(r.damages[0].points_from, last_of_2->sequence + 1);
    assert_int_equal(damagehit_items(&h, &r.damages[0], 1, &q, &added, &err), 0);
    assert_int_equal(damagehit_points(&h, &q.items[0], &err), 0);
    assert_int_equal(q.items[0].first_point, last_of_2->sequence + 1);
    quarantine_done(&q);
    verify_result_done(&r);
    r = (struct verify_result){0};
    /* all behind is gone: that is found, too, and is not the whole log */
    assert_int_equal(verify_order(&spec, NULL, 0, &r, &err), 0);
    assert_int_equal(r.damage_count, 1);
    assert_int_equal(r.damages[0].points_from, last_of_2->sequence + 1);
    verify_result_done(&r);
    model_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gap_behind_what_was_left_out_hits_no_earlier_point),
        cmocka_unit_test(damage_names_the_points_that_show_it),
        cmocka_unit_test(a_header_that_lost_a_bit_heals_itself),
        cmocka_unit_test(content_that_comes_again_heals_the_history),
        cmocka_unit_test(content_that_is_given_heals_what_has_its_hash),
        cmocka_unit_test(a_lost_sector_costs_what_lies_in_it),
        cmocka_unit_test(a_mended_record_must_have_the_content_of_the_damaged_one),
        cmocka_unit_test(damage_in_a_rewritten_segment_is_named_and_mended),
        cmocka_unit_test(a_damaged_list_is_an_empty_one),
        cmocka_unit_test(what_was_verified_when_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
