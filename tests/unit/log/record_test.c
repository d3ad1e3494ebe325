/* SPDX-License-Identifier: Apache-2.0
 *
 * Record headers: what is written is read back, and nothing else is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/unit/log/log_sample.h"
#include "transport/base/bytes.h"

static struct record good_data(void)
{
    struct record r = {.kind = RECORD_DATA,
        .codec = RECORD_ZSTD,
        .cipher = RECORD_AES256GCM,
        .disk = 3,
        .stored = 100,
        .start = 3 * 65536 + 4096,
        .length = 8192,
        .nonce_stream = 7,
        .nonce_counter = 9};
    memset(r.hash.bytes, 0xab, HASH_SIZE);
    return r;
}

static enum err_code decode(const struct record *r, struct record *ret)
{
    uint8_t header[RECORD_HEADER_SIZE];
    struct err err = ERR_INIT;
    record_encode_header(r, header);
    return record_decode_header(header, sizeof(header), ret, &err) == 0 ? ERR_NONE : err.code;
}

static void test_header_round_trip(void **state)
{
    (void)state;
    struct record in = good_data(), out;
    assert_int_equal(decode(&in, &out), ERR_NONE);
    assert_int_equal(out.kind, in.kind);
    assert_int_equal(out.codec, in.codec);
    assert_int_equal(out.cipher, in.cipher);
    assert_int_equal(out.disk, in.disk);
    assert_int_equal(out.stored, in.stored);
    assert_int_equal(out.start, in.start);
    assert_int_equal(out.length, in.length);
    assert_memory_equal(out.hash.bytes, in.hash.bytes, HASH_SIZE);
    assert_int_equal(out.nonce_stream, in.nonce_stream);
    assert_int_equal(out.nonce_counter, in.nonce_counter);
}

static void test_every_flipped_bit_of_a_header_is_refused(void **state)
{
    (void)state;
    struct record in = good_data(), out;
    uint8_t header[RECORD_HEADER_SIZE];
    record_encode_header(&in, header);
    for (unsigned bit = 0; bit < RECORD_HEADER_SIZE * 8; bit++) {
        header[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(record_decode_header(header, sizeof(header), &out, NULL), -1);
        header[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(record_decode_header(header, sizeof(header), &out, NULL), 0);
    for (size_t n = 0; n < RECORD_HEADER_SIZE; n++)
        assert_int_equal(record_decode_header(header, n, &out, NULL), -1);
}

static void test_another_version_is_told_from_damage(void **state)
{
    (void)state;
    struct record in = good_data(), out;
    uint8_t header[RECORD_HEADER_SIZE];
    struct err err = ERR_INIT;
    record_encode_header(&in, header);
    header[3] = '2';
    put_le32(header + 60, hash_32(header, 60));
    assert_int_equal(record_decode_header(header, sizeof(header), &out, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_string_not_equal(err.correction, "");
    header[20] ^= 1;
    assert_int_equal(record_decode_header(header, sizeof(header), &out, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
}

/* Each row makes one field wrong; the checksum fits. */
static void test_fields_out_of_bounds_are_refused(void **state)
{
    (void)state;
    struct record out, r;
#define REFUSED(change)                                                                                                \
    do {                                                                                                               \
        r = good_data();                                                                                               \
        change;                                                                                                        \
        assert_int_equal(decode(&r, &out), ERR_CORRUPT);                                                               \
    } while (0)
    REFUSED(r.kind = (enum record_kind)0);
    REFUSED(r.kind = (enum record_kind)5);
    REFUSED(r.codec = (enum record_codec)2);
    REFUSED(r.cipher = (enum record_cipher)2);
    REFUSED(r.disk = RECORD_DISK_MAX + 1);
    REFUSED(r.start = 513);
    REFUSED(r.length = 0);
    REFUSED(r.length = 511);
    REFUSED(r.length = 65536 + 512; r.start = 0);
    REFUSED(r.length = 65536); /* crosses, because start is inside a block */
    REFUSED(r.start = UINT64_MAX - 511);
    REFUSED(r.start = 1ULL << 62; r.length = 512);
    REFUSED(r.stored = 0);
    REFUSED(r.stored = RECORD_TAG_SIZE);
    REFUSED(r.stored = 8192 + RECORD_TAG_SIZE);
    REFUSED(r.codec = RECORD_RAW; r.stored = 8192);
    REFUSED(r.nonce_stream = 0);
    REFUSED(r.nonce_counter = 0);
    REFUSED(r.cipher = RECORD_PLAIN);
    REFUSED(r.kind = RECORD_ZERO);
    REFUSED(r.kind = RECORD_MARK);
    REFUSED(r.kind = RECORD_SEAL);
#undef REFUSED
}

static void test_zero_records_may_be_long(void **state)
{
    (void)state;
    struct record r = {.kind = RECORD_ZERO, .disk = 1, .start = 512, .length = 1ULL << 40}, out;
    assert_int_equal(decode(&r, &out), ERR_NONE);
    assert_int_equal(out.length, 1ULL << 40);
    r.length = (1ULL << 62) + 512;
    assert_int_equal(decode(&r, &out), ERR_CORRUPT);
}

static void test_batch_walk_stops_at_the_end_and_at_each_cut(void **state)
{
    (void)state;
    struct seal_work *w = seal_work_new();
    AUTO_BUF struct buf batch = BUF_INIT(1 << 20);
    sample_change_set(w, 1, 3, true, &batch);
    size_t offset = 0;
    struct record r;
    const uint8_t *payload;
    unsigned n = 0;
    while (record_next(batch.data, batch.len, &offset, &r, &payload, NULL) == 1)
        n++;
    assert_int_equal(n, 4);
    assert_int_equal(offset, batch.len);
    for (size_t cut = 1; cut < batch.len; cut += 7) {
        offset = 0;
        int got;
        while ((got = record_next(batch.data, cut, &offset, &r, &payload, NULL)) == 1)
            assert_true(payload + r.stored <= batch.data + cut);
        assert_true(got == -1 || offset == cut);
    }
    seal_work_free(w);
}

static void test_digest_does_not_depend_on_codec_and_cipher(void **state)
{
    (void)state;
    struct record_digest *a = record_digest_new(), *b = record_digest_new();
    struct hash128 x, y;
    struct record r = good_data();
    record_digest_add(a, &r);
    r.codec = RECORD_RAW;
    r.cipher = RECORD_PLAIN;
    r.kind = RECORD_ZERO;
    record_digest_add(b, &r);
    record_digest_get(a, &x);
    record_digest_get(b, &y);
    assert_memory_equal(x.bytes, y.bytes, HASH_SIZE);
    r.start += 512;
    record_digest_reset(b);
    record_digest_add(b, &r);
    record_digest_get(b, &y);
    assert_memory_not_equal(x.bytes, y.bytes, HASH_SIZE);
    record_digest_free(a);
    record_digest_free(b);
    record_digest_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_round_trip),
        cmocka_unit_test(test_every_flipped_bit_of_a_header_is_refused),
        cmocka_unit_test(test_another_version_is_told_from_damage),
        cmocka_unit_test(test_fields_out_of_bounds_are_refused),
        cmocka_unit_test(test_zero_records_may_be_long),
        cmocka_unit_test(test_batch_walk_stops_at_the_end_and_at_each_cut),
        cmocka_unit_test(test_digest_does_not_depend_on_codec_and_cipher),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
