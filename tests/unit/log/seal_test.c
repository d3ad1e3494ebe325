/* SPDX-License-Identifier: Apache-2.0
 *
 * Sealing and unsealing: every codec and cipher, zero blocks, wrong keys, damage, limits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <zstd.h>

#include "tests/unit/log/log_sample.h"
#include "transport/base/bytes.h"

static struct seal_work *work;

static int set_up(void **state)
{
    (void)state;
    work = seal_work_new();
    return work == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    seal_work_free(work);
    return 0;
}

static const uint8_t *first(const struct buf *b, struct record *r)
{
    size_t offset = 0;
    const uint8_t *payload;
    assert_int_equal(record_next(b->data, b->len, &offset, r, &payload, NULL), 1);
    assert_int_equal(offset, b->len);
    return payload;
}

static void round_trip(uint32_t length, bool compressible, int level, int reseal_level, bool encrypt)
{
    static uint8_t data[RECORD_BLOCK_SIZE], back[RECORD_BLOCK_SIZE];
    AUTO_BUF struct buf sent = BUF_INIT(1 << 20), stored = BUF_INIT(1 << 20);
    struct record r, s;
    sample_block(length, compressible, data, length);
    assert_int_equal(seal_append_data(work, 2, 65536 * 5, data, length, level, &sent, &r, NULL), 0);
    const uint8_t *payload = first(&sent, &r);
    assert_int_equal(r.codec, level > 0 && compressible ? RECORD_ZSTD : RECORD_RAW);
    assert_int_equal(seal_open(work, &r, payload, NULL, back, NULL), 0);
    assert_memory_equal(back, data, length);
    assert_int_equal(seal_reseal(work, &r, payload, reseal_level, encrypt ? &sample_key : NULL, encrypt ? 4 : 0,
                         encrypt ? 77 : 0, &stored, &s, NULL),
        0);
    payload = first(&stored, &s);
    assert_int_equal(s.codec, (level > 0 || reseal_level > 0) && compressible ? RECORD_ZSTD : RECORD_RAW);
    assert_int_equal(s.cipher, encrypt ? RECORD_AES256GCM : RECORD_PLAIN);
    assert_memory_equal(s.hash.bytes, r.hash.bytes, HASH_SIZE);
    memset(back, 0, length);
    assert_int_equal(seal_open(work, &s, payload, encrypt ? &sample_key : NULL, back, NULL), 0);
    assert_memory_equal(back, data, length);
}

static void test_round_trips(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {512, 4096, 12288, 65536};
    for (unsigned i = 0; i < 4; i++)
        for (unsigned bits = 0; bits < 16; bits++)
            round_trip(lengths[i], bits & 1, bits & 2 ? 3 : 0, bits & 4 ? 1 : 0, bits & 8);
}

/* Words of five bytes between other bytes: too short for what zstd looks for by itself at level 1. */
static void test_level_one_finds_short_matches(void **state)
{
    (void)state;
    static uint8_t data[RECORD_BLOCK_SIZE], coded[2 * RECORD_BLOCK_SIZE];
    static const char words[4][6] = {"entry", "value", "table", "index"};
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct record r;
    sample_block(9, false, data, sizeof(data));
    for (size_t i = 0; i + 8 <= sizeof(data); i += 8)
        memcpy(data + i, words[data[i] % 4], 5);
    assert_int_equal(seal_append_data(work, 0, 0, data, sizeof(data), 1, &b, &r, NULL), 0);
    assert_int_equal(r.codec, RECORD_ZSTD);
    size_t usual = ZSTD_compress(coded, sizeof(coded), data, sizeof(data), 1);
    assert_true(r.stored < usual - usual / 16);
    /* Another level in between does not change what level 1 does. */
    uint32_t stored = r.stored;
    assert_int_equal(seal_append_data(work, 0, 0, data, sizeof(data), 3, &b, &r, NULL), 0);
    assert_int_equal(seal_append_data(work, 0, 0, data, sizeof(data), 1, &b, &r, NULL), 0);
    assert_int_equal(r.stored, stored);
}

static void test_zero_block_becomes_a_zero_record(void **state)
{
    (void)state;
    static const uint8_t zeros[8192];
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct record r;
    assert_int_equal(seal_append_data(work, 0, 0, zeros, sizeof(zeros), 3, &b, &r, NULL), 0);
    assert_int_equal(r.kind, RECORD_ZERO);
    assert_int_equal(r.length, sizeof(zeros));
    assert_true(bytes_are_zero(r.hash.bytes, HASH_SIZE));
    assert_int_equal(b.len, RECORD_HEADER_SIZE);
}

static void test_reseal_of_zeros_keeps_their_hash(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    static const uint8_t zeros[4096];
    struct record in = {.kind = RECORD_DATA, .length = 4096, .stored = 4096}, out;
    hash_128(zeros, sizeof(zeros), &in.hash);
    assert_int_equal(seal_reseal(work, &in, zeros, 3, &sample_key, 1, 1, &b, &out, NULL), 0);
    assert_int_equal(out.kind, RECORD_ZERO);
    assert_memory_equal(out.hash.bytes, in.hash.bytes, HASH_SIZE);
    assert_int_equal(b.len, RECORD_HEADER_SIZE);
}

static void test_reseal_refuses_a_wrong_hash_and_appends_nothing(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    uint8_t data[4096];
    struct err err = ERR_INIT;
    struct record in = {.kind = RECORD_DATA, .length = 4096, .stored = 4096}, out;
    sample_block(1, false, data, sizeof(data));
    hash_128(data, sizeof(data), &in.hash);
    data[17] ^= 1;
    assert_int_equal(seal_reseal(work, &in, data, 3, &sample_key, 1, 1, &b, &out, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_int_equal(b.len, 0);
}

static void test_marks_and_zero_records_pass_unchanged(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
    struct mark m;
    struct record r, s;
    sample_mark(3, &m);
    assert_int_equal(mark_append(&m, &b, NULL), 0);
    const uint8_t *payload = first(&b, &r);
    assert_int_equal(seal_reseal(work, &r, payload, 3, &sample_key, 1, 1, &out, &s, NULL), 0);
    assert_int_equal(out.len, b.len);
    assert_memory_equal(out.data, b.data, b.len);
    buf_clear(&b);
    buf_clear(&out);
    assert_int_equal(seal_append_zero(4, 512, 1 << 30, &b, &r, NULL), 0);
    payload = first(&b, &r);
    assert_int_equal(seal_reseal(work, &r, payload, 3, &sample_key, 1, 1, &out, &s, NULL), 0);
    assert_memory_equal(out.data, b.data, b.len);
}

static void sealed_block(struct buf *b, struct record *r, const uint8_t **payload)
{
    AUTO_BUF struct buf plain = BUF_INIT(1 << 20);
    uint8_t data[4096];
    struct record in;
    sample_block(9, true, data, sizeof(data));
    assert_int_equal(seal_append_data(work, 0, 4096, data, sizeof(data), 3, &plain, &in, NULL), 0);
    const uint8_t *p = first(&plain, &in);
    assert_int_equal(seal_reseal(work, &in, p, 0, &sample_key, 2, 3, b, r, NULL), 0);
    *payload = first(b, r);
}

static void test_wrong_key_is_denied(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct record r;
    const uint8_t *payload;
    uint8_t out[4096];
    struct err err = ERR_INIT;
    struct seal_key other = sample_key;
    sealed_block(&b, &r, &payload);
    other.bytes[31] ^= 1;
    assert_int_equal(seal_open(work, &r, payload, &other, out, &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    assert_string_not_equal(err.correction, "");
    assert_int_equal(seal_open(work, &r, payload, NULL, out, &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    assert_int_equal(seal_open(work, &r, payload, &sample_key, out, &err), 0);
}

static void test_every_flipped_byte_of_a_sealed_record_is_found(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct record r;
    const uint8_t *payload;
    uint8_t out[65536];
    sealed_block(&b, &r, &payload);
    for (size_t i = RECORD_HEADER_SIZE; i < b.len; i++) {
        b.data[i] ^= 1;
        assert_int_equal(seal_open(work, &r, payload, &sample_key, out, NULL), -1);
        b.data[i] ^= 1;
    }
    /* The header is authenticated: a record that is moved elsewhere, checksum and all, does not open. */
    struct record moved = r;
    moved.start += 512;
    assert_int_equal(seal_open(work, &moved, payload, &sample_key, out, NULL), -1);
    moved = r;
    moved.disk = 1;
    assert_int_equal(seal_open(work, &moved, payload, &sample_key, out, NULL), -1);
    moved = r;
    moved.nonce_counter++;
    assert_int_equal(seal_open(work, &moved, payload, &sample_key, out, NULL), -1);
}

static void test_decompression_is_bounded(void **state)
{
    (void)state;
    static uint8_t data[65536], out[65536];
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct record r;
    struct err err = ERR_INIT;
    sample_block(1, true, data, sizeof(data));
    assert_int_equal(seal_append_data(work, 0, 0, data, sizeof(data), 3, &b, &r, NULL), 0);
    const uint8_t *payload = first(&b, &r);
    r.length = 32768; /* less than the frame holds */
    assert_int_equal(seal_open(work, &r, payload, NULL, out, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
}

static void test_limits(void **state)
{
    (void)state;
    uint8_t data[4096];
    struct record r;
    struct err err = ERR_INIT;
    AUTO_BUF struct buf small = BUF_INIT(1000), b = BUF_INIT(1 << 20);
    sample_block(1, false, data, sizeof(data));
    assert_int_equal(seal_append_data(work, 0, 0, data, sizeof(data), 0, &small, &r, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(small.len, 0);
    assert_int_equal(seal_append_data(work, 0, 100, data, 512, 0, &b, &r, &err), -1);
    assert_int_equal(seal_append_data(work, 0, 65536 - 512, data, 1024, 0, &b, &r, &err), -1);
    assert_int_equal(seal_append_data(work, 0, 0, data, 0, 0, &b, &r, &err), -1);
    assert_int_equal(seal_append_zero(0, 0, 100, &b, &r, &err), -1);
    assert_int_equal(b.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_level_one_finds_short_matches),
        cmocka_unit_test(test_zero_block_becomes_a_zero_record),
        cmocka_unit_test(test_reseal_of_zeros_keeps_their_hash),
        cmocka_unit_test(test_reseal_refuses_a_wrong_hash_and_appends_nothing),
        cmocka_unit_test(test_marks_and_zero_records_pass_unchanged),
        cmocka_unit_test(test_wrong_key_is_denied),
        cmocka_unit_test(test_every_flipped_byte_of_a_sealed_record_is_found),
        cmocka_unit_test(test_decompression_is_bounded),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
