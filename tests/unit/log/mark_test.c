/* SPDX-License-Identifier: Apache-2.0
 *
 * Marks: round trip with everything set, one form only, damage and foreign versions refused; the ranges that could not be read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/log/log_sample.h"
#include "transport/base/bytes.h"

static void full_mark(struct mark *m)
{
    sample_mark(42, m);
    m->kind = MARK_APPLICATION;
    m->flags = MARK_FROZEN | MARK_FIRST | MARK_ASKED;
    m->generation = 3;
    m->epoch = 5;
    memset(m->group_point.bytes, 0x5a, IDENT_SIZE);
    m->record_count = 1000;
    m->changed_bytes = 4096000;
    memset(m->digest.bytes, 0xd1, HASH_SIZE);
    m->unreadable_blocks = MARK_RANGES_MAX + 2;
    (void)snprintf(m->tag, sizeof(m->tag), "before the upgrade");
    m->disk_count = MARK_DISKS_MAX;
    memset(m->disks, 0, sizeof(m->disks));
    for (uint32_t i = 0; i < MARK_DISKS_MAX; i++) {
        m->disks[i].number = i * 3;
        m->disks[i].sector_bytes = i % 2 == 0 ? 512 : 4096;
        m->disks[i].size_bytes = 4096 * (uint64_t)(i + 1);
        (void)snprintf(m->disks[i].name, sizeof(m->disks[i].name), "%.*s%u", (int)(i % 58),
            "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghij", i);
    }
    m->range_count = MARK_RANGES_MAX;
    for (uint32_t i = 0; i < MARK_RANGES_MAX; i++) {
        m->ranges[i].disk = i * 3;
        m->ranges[i].start = 4096 * (uint64_t)(i / 2);
        m->ranges[i].length = 4096;
    }
}

static void add_range(struct mark *m, uint32_t disk, uint64_t start, uint64_t length)
{
    struct mark_range *r = &m->ranges[m->range_count++];
    r->disk = disk;
    r->start = start;
    r->length = length;
}

/* Disk 0 of 1 GiB, disk 5 whose end is no whole block; 2 blocks of the one, 2 of the other, 3 that are not listed. */
static void holed_mark(struct mark *m)
{
    sample_mark(1, m);
    m->disk_count = 2;
    m->disks[1].number = 5;
    m->disks[1].sector_bytes = 512;
    m->disks[1].size_bytes = 65536 + 512;
    (void)snprintf(m->disks[1].name, sizeof(m->disks[1].name), "vdb");
    m->unreadable_blocks = 7;
    add_range(m, 0, 8 << 20, 8192);
    add_range(m, 5, 0, 4096);
    add_range(m, 5, 65536, 512);
}

static int decode(const struct buf *b, struct mark *m, struct err *err)
{
    size_t offset = 0;
    struct record r;
    const uint8_t *payload;
    if (record_next(b->data, b->len, &offset, &r, &payload, err) != 1)
        return -1;
    return mark_decode(&r, payload, m, err);
}

static void test_round_trip(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct mark in, out;
    full_mark(&in);
    assert_int_equal(mark_append(&in, &b, NULL), 0);
    assert_int_equal(decode(&b, &out, NULL), 0);
    assert_memory_equal(&in, &out, sizeof(in));
    AUTO_BUF struct buf again = BUF_INIT(1 << 20);
    assert_int_equal(mark_append(&out, &again, NULL), 0);
    assert_int_equal(again.len, b.len);
    assert_memory_equal(again.data, b.data, b.len);
}

static void test_every_flipped_byte_is_refused(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct mark in, out;
    full_mark(&in);
    assert_int_equal(mark_append(&in, &b, NULL), 0);
    for (size_t i = 0; i < b.len; i++) {
        b.data[i] ^= 0x40;
        assert_int_equal(decode(&b, &out, NULL), -1);
        b.data[i] ^= 0x40;
    }
}

/* Changes payload bytes and makes hash and checksum fit again. */
static enum err_code decode_changed(size_t at, uint8_t value)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct mark m, out;
    struct record r;
    struct err err = ERR_INIT;
    size_t offset = 0;
    const uint8_t *payload;
    sample_mark(1, &m);
    (void)snprintf(m.tag, sizeof(m.tag), "tag");
    assert_int_equal(mark_append(&m, &b, NULL), 0);
    assert_int_equal(record_next(b.data, b.len, &offset, &r, &payload, NULL), 1);
    b.data[RECORD_HEADER_SIZE + at] = value;
    hash_128(payload, r.stored, &r.hash);
    return mark_decode(&r, payload, &out, &err) == 0 ? ERR_NONE : err.code;
}

static void test_fields_out_of_bounds_are_refused(void **state)
{
    (void)state;
    assert_int_equal(decode_changed(4, 1), ERR_NONE);
    assert_int_equal(decode_changed(0, 3), ERR_UNSUPPORTED); /* version */
    assert_int_equal(decode_changed(2, 4), ERR_UNSUPPORTED); /* kind and flag of a later version */
    assert_int_equal(decode_changed(3, 8), ERR_UNSUPPORTED);
    static const struct {
        size_t at;
        uint8_t value;
    } rows[] = {
        {4, 0}, {4, 2}, {4, 65}, {7, 1},         /* disk count */
        {8, 0}, {16, 0}, {24, 0},                /* sequence, generation, epoch of zero */
        {112, 9}, {113, 1},                      /* tag length */
        {114, 1}, {119, 1},                      /* reserved */
        {121, 0}, {123, 1},                      /* tag with a NUL, padding */
        {129, 8},                                /* disk number 2048 */
        {132, 1}, {133, 0}, {133, 3},            /* sector size */
        {136, 1}, {143, 0x40},                   /* disk size */
        {144, 0}, {144, 2}, {144, 64}, {145, 1}, /* name length */
        {146, 1}, {155, 1},                      /* reserved, padding */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(decode_changed(rows[i].at, rows[i].value), ERR_CORRUPT);
}

#define RANGES_AT (120u + 2 * 32u) /* in the payload of a holed mark, whose disks have names of up to 8 bytes */

static void test_ranges_stand_behind_the_disks_in_version_2(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct mark m, out;
    holed_mark(&m);
    assert_int_equal(mark_append(&m, &b, NULL), 0);
    const uint8_t *p = b.data + RECORD_HEADER_SIZE;
    assert_int_equal(b.len, RECORD_HEADER_SIZE + RANGES_AT + 3 * 24);
    assert_int_equal(get_le16(p), 2);
    assert_int_equal(get_le16(p + 114), 3);
    assert_int_equal(get_le32(p + RANGES_AT), 0);
    assert_int_equal(get_le64(p + RANGES_AT + 8), 8 << 20);
    assert_int_equal(get_le64(p + RANGES_AT + 16), 8192);
    assert_int_equal(get_le32(p + RANGES_AT + 48), 5);
    assert_int_equal(decode(&b, &out, NULL), 0);
    assert_memory_equal(&out, &m, sizeof(m));
    assert_int_equal(mark_unlisted_blocks(&out), 3);
}

/* As programs wrote it that knew of no ranges, and read it. */
static void test_a_mark_without_ranges_stays_of_version_1(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct mark m, out;
    holed_mark(&m);
    m.range_count = 0;
    memset(m.ranges, 0, sizeof(m.ranges));
    assert_int_equal(mark_append(&m, &b, NULL), 0);
    const uint8_t *p = b.data + RECORD_HEADER_SIZE;
    assert_int_equal(b.len, RECORD_HEADER_SIZE + RANGES_AT);
    assert_int_equal(get_le16(p), 1);
    assert_int_equal(get_le64(p + 104), 7);
    assert_true(bytes_are_zero(p + 114, 6));
    assert_int_equal(decode(&b, &out, NULL), 0);
    assert_int_equal(mark_unlisted_blocks(&out), 7);
}

/* Hash and checksum fit; whoever wrote it did not mean well. */
static enum err_code decode_hostile(size_t at, unsigned width, uint64_t value)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct mark m, out;
    struct record r;
    struct err err = ERR_INIT;
    size_t offset = 0;
    const uint8_t *payload;
    holed_mark(&m);
    assert_int_equal(mark_append(&m, &b, NULL), 0);
    assert_int_equal(record_next(b.data, b.len, &offset, &r, &payload, NULL), 1);
    for (unsigned i = 0; i < width; i++)
        b.data[RECORD_HEADER_SIZE + at + i] = (uint8_t)(value >> 8 * i);
    hash_128(payload, r.stored, &r.hash);
    return mark_decode(&r, payload, &out, &err) == 0 ? ERR_NONE : err.code;
}

static void test_hostile_ranges_are_refused(void **state)
{
    (void)state;
    assert_int_equal(decode_hostile(RANGES_AT + 8, 8, 4 << 20), ERR_NONE);
    assert_int_equal(decode_hostile(0, 2, 3), ERR_UNSUPPORTED);
    static const struct {
        size_t at;
        unsigned width;
        uint64_t value;
    } rows[] = {
        {0, 2, 1},                                                 /* ranges in version 1 */
        {114, 2, 0}, {114, 2, 2}, {114, 2, 4},                     /* none in version 2, fewer, more than there are */
        {114, 2, 65}, {114, 2, 0xffff}, {116, 1, 1},               /* too many, reserved */
        {RANGES_AT, 4, 1}, {RANGES_AT, 4, 0xffffffff},             /* of no disk */
        {RANGES_AT, 4, 5},                                         /* not ascending by disk, nor within that one */
        {RANGES_AT + 4, 1, 1},                                     /* reserved */
        {RANGES_AT + 8, 8, 512},                                   /* no whole block */
        {RANGES_AT + 8, 8, 1 << 30},                               /* behind the end */
        {RANGES_AT + 8, 8, (1 << 30) - 4096},                      /* across it */
        {RANGES_AT + 8, 8, UINT64_MAX - 4095},                     /* start and length overflow */
        {RANGES_AT + 16, 8, 0}, {RANGES_AT + 16, 8, 512},          /* empty, no whole block */
        {RANGES_AT + 16, 8, UINT64_MAX - 4095},                    /* overflows */
        {RANGES_AT + 16, 8, 1 << 30},                              /* more than is counted, and across the end */
        {RANGES_AT + 24 + 16, 8, 65536},                           /* could be one range with the next */
        {RANGES_AT + 48 + 8, 8, 0}, {RANGES_AT + 48 + 8, 8, 4096}, /* the same place again, close to it */
        {104, 8, 3},                                               /* fewer blocks than are listed */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(decode_hostile(rows[i].at, rows[i].width, rows[i].value), ERR_CORRUPT);
}

static void test_ranges_are_cut_to_the_disks_of_the_mark(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct mark m;
    holed_mark(&m);
    m.disks[0].size_bytes = (8 << 20) + 4096;
    m.disks[1].number = 6;
    assert_int_equal(mark_append(&m, &b, NULL), -1);
    mark_fit_ranges(&m);
    assert_int_equal(mark_append(&m, &b, NULL), 0);
    assert_int_equal(m.range_count, 1);
    assert_int_equal(m.ranges[0].start, 8 << 20);
    assert_int_equal(m.ranges[0].length, 4096);
    assert_int_equal(mark_unlisted_blocks(&m), 6);
}

static void test_what_cannot_be_decoded_is_not_encoded(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct mark m;
    struct err err = ERR_INIT;
    sample_mark(0, &m);
    assert_int_equal(mark_append(&m, &b, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    sample_mark(1, &m);
    m.disk_count = 2;
    m.disks[1] = m.disks[0];
    assert_int_equal(mark_append(&m, &b, &err), -1);
    assert_int_equal(b.len, 0);
}

static void test_kind_names(void **state)
{
    (void)state;
    for (int k = MARK_PROGRESS; k <= MARK_APPLICATION; k++)
        assert_int_equal(mark_kind_from_name(mark_kind_name((enum mark_kind)k)), k);
    assert_int_equal(mark_kind_from_name("other"), -1);
    struct mark m = {.kind = MARK_PROGRESS};
    assert_false(mark_is_point(&m));
    m.kind = MARK_CRASH;
    assert_true(mark_is_point(&m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_flipped_byte_is_refused),
        cmocka_unit_test(test_fields_out_of_bounds_are_refused),
        cmocka_unit_test(test_ranges_stand_behind_the_disks_in_version_2),
        cmocka_unit_test(test_a_mark_without_ranges_stays_of_version_1),
        cmocka_unit_test(test_hostile_ranges_are_refused),
        cmocka_unit_test(test_ranges_are_cut_to_the_disks_of_the_mark),
        cmocka_unit_test(test_what_cannot_be_decoded_is_not_encoded),
        cmocka_unit_test(test_kind_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
