/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte order, hex, zero test, hashes (golden values of xxHash 0.8, made with xxhsum) and identifiers.
 */
#include "tests/unit/base/unit.h"

#include "transport/base/bytes.h"
#include "transport/base/hash.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"

static void getters_read_what_setters_wrote_at_any_address(void **state)
{
    uint8_t raw[9] = {0};

    (void)state;
    put_le64(raw + 1, 0x0102030405060708ULL);
    assert_int_equal(raw[1], 8);
    assert_int_equal(raw[8], 1);
    assert_true(get_le64(raw + 1) == 0x0102030405060708ULL);
    assert_int_equal(get_le32(raw + 1), 0x05060708);
    assert_int_equal(get_le16(raw + 1), 0x0708);
}

static void zero_test_sees_each_single_byte(void **state)
{
    uint8_t data[131] = {0};

    (void)state;
    assert_true(bytes_are_zero(data, 0));
    assert_true(bytes_are_zero(data, sizeof(data)));
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = 1;
        assert_false(bytes_are_zero(data, sizeof(data)));
        assert_true(bytes_are_zero(data, i));
        data[i] = 0;
    }
}

static void hex_is_read_only_in_full(void **state)
{
    uint8_t raw[3];
    char text[7];

    (void)state;
    assert_int_equal(bytes_from_hex("00aBff", raw, 3), 0);
    bytes_to_hex(raw, 3, text);
    assert_string_equal(text, "00abff");
    assert_int_equal(bytes_from_hex("00abf", raw, 3), -1);
    assert_int_equal(bytes_from_hex("00abff0", raw, 3), -1);
    assert_int_equal(bytes_from_hex("00abfg", raw, 3), -1);
    assert_int_equal(bytes_from_hex("", raw, 3), -1);
}

/* The bytes on disk are hash_128 of what stands before them, in its canonical form. */
static void a_sealed_file_is_whole_or_known_not_to_be(void **state)
{
    uint8_t file[40 + HASH_SIZE] = "LWXYZ\0\0\1";
    struct hash128 hash;

    (void)state;
    hash_seal(file, 40);
    hash_128(file, 40, &hash);
    assert_memory_equal(file + 40, hash.bytes, HASH_SIZE);
    assert_true(hash_is_sealed(file, sizeof(file)));
    for (size_t i = 0; i < sizeof(file); i++) {
        file[i] ^= 1;
        assert_false(hash_is_sealed(file, sizeof(file)));
        file[i] ^= 1;
        assert_false(hash_is_sealed(file, i)); /* cut off, too short for a hash at first */
    }
    hash_seal(file, 0);
    assert_true(hash_is_sealed(file, HASH_SIZE)); /* of nothing */
}

static void secret_comparison_compares(void **state)
{
    (void)state;
    assert_true(bytes_equal_ct("secret", "secret", 6));
    assert_false(bytes_equal_ct("secret", "secreT", 6));
    assert_true(bytes_equal_ct("a", "b", 0));
}

static void hash_values_are_golden(void **state)
{
    struct hash128 hash;
    char text[33];

    (void)state;
    hash_128("", 0, &hash);
    bytes_to_hex(hash.bytes, HASH_SIZE, text);
    assert_string_equal(text, "99aa06d3014798d86001c324468d497f");
    assert_true(hash_64("", 0) == 0x2d06800538d394c2ULL);
    assert_int_equal(hash_32("", 0), 0x38d394c2);
}

static void streamed_hash_equals_the_hash_of_the_whole(void **state)
{
    uint8_t data[5000];
    struct hash128 whole, streamed;

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    hash_128(data, sizeof(data), &whole);
    struct hash_stream *s = hash_stream_new();
    assert_non_null(s);
    for (size_t at = 0; at < sizeof(data); at += 333)
        hash_stream_add(s, data + at, at + 333 < sizeof(data) ? 333 : sizeof(data) - at);
    hash_stream_get(s, &streamed);
    assert_true(hash_equal(&whole, &streamed));
    hash_stream_add(s, "x", 1);
    hash_stream_get(s, &streamed);
    assert_false(hash_equal(&whole, &streamed));
    hash_stream_reset(s);
    hash_stream_add(s, data, sizeof(data));
    hash_stream_get(s, &streamed);
    assert_true(hash_equal(&whole, &streamed));
    hash_stream_free(s);
    hash_stream_free(NULL);
}

static void identifiers_are_version_4_and_read_back(void **state)
{
    struct ident id, back;
    char text[IDENT_TEXT_SIZE];

    (void)state;
    assert_int_equal(ident_random(&id), 0);
    assert_false(ident_is_zero(&id));
    ident_to_text(&id, text);
    assert_int_equal(strlen(text), 36);
    assert_int_equal(text[14], '4');
    assert_non_null(strchr("89ab", text[19]));
    assert_int_equal(ident_from_text(text, &back), 0);
    assert_true(ident_equal(&id, &back));
}

static void identifiers_are_refused_unless_exact(void **state)
{
    static const char *const wrong[] = {
        "",
        "x",
        "0123456789abcdef0123456789abcdef",
        "01234567-89ab-cdef-0123-456789abcde",
        "01234567-89ab-cdef-0123-456789abcdef0",
        "01234567-89ab-cdef-0123-456789abcdeg",
        "01234567089ab-cdef-0123-456789abcdef",
        "{1234567-89ab-cdef-0123-456789abcdef",
    };
    struct ident id;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(ident_from_text(wrong[i], &id), -1);
    assert_int_equal(ident_from_text("01234567-89AB-cdef-0123-456789abcdef", &id), 0);
}

/* Long inputs are hashed by code that was compiled for wider vectors, streams by the library: they must agree. */
static void hashes_of_all_lengths_are_those_of_a_stream(void **state)
{
    uint8_t data[5000];
    struct hash128 whole, streamed;
    struct hash_stream *s = hash_stream_new();

    (void)state;
    assert_non_null(s);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 167 + i / 251);
    for (size_t n = 0; n <= sizeof(data); n += n < 1100 ? 1 : 97) {
        hash_stream_reset(s);
        hash_stream_add(s, data, n);
        hash_stream_get(s, &streamed);
        hash_128(data, n, &whole);
        assert_true(hash_equal(&whole, &streamed));
    }
    hash_stream_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(getters_read_what_setters_wrote_at_any_address),
        cmocka_unit_test(hashes_of_all_lengths_are_those_of_a_stream),
        cmocka_unit_test(zero_test_sees_each_single_byte),
        cmocka_unit_test(hex_is_read_only_in_full),
        cmocka_unit_test(secret_comparison_compares),
        cmocka_unit_test(a_sealed_file_is_whole_or_known_not_to_be),
        cmocka_unit_test(hash_values_are_golden),
        cmocka_unit_test(streamed_hash_equals_the_hash_of_the_whole),
        cmocka_unit_test(identifiers_are_version_4_and_read_back),
        cmocka_unit_test(identifiers_are_refused_unless_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
