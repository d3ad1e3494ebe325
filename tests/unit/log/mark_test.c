/* SPDX-License-Identifier: Apache-2.0
 *
 * Marks: round trip with everything set, one form only, damage and foreign versions refused.
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
    m->unreadable_blocks = 2;
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
    assert_int_equal(decode_changed(0, 2), ERR_UNSUPPORTED); /* version */
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
        cmocka_unit_test(test_what_cannot_be_decoded_is_not_encoded),
        cmocka_unit_test(test_kind_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
