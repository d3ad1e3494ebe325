/* SPDX-License-Identifier: Apache-2.0
 *
 * A row as text says what it says as a tree of values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/api/row_text.h"
#include "transport/base/mem.h"

struct row {
    const char *text;
    uint64_t number;
    int64_t signed_number;
    bool yes;
    const char *array, *object;
};

#define F(form, member)                                                                                                \
    {                                                                                                                  \
#form, form, offsetof(struct row, member)                                                                      \
    }
static const struct row_json_member members[] = {F(ROW_TEXT, text), F(ROW_TEXT_OR_NULL, text), F(ROW_NUMBER, number),
    F(ROW_SIGNED_OR_NULL, signed_number), F(ROW_DIGITS, number), F(ROW_ETAG, number), F(ROW_BOOL, yes),
    F(ROW_TIME, number), F(ROW_SECONDS, number), F(ROW_SIGNED_SECONDS, signed_number), F(ROW_PERCENT, number),
    F(ROW_ARRAY, array), F(ROW_OBJECT, object), F(ROW_OBJECT_OR_NULL, object)};
#undef F

static const char *const texts[] = {"", "web1", "a \"quoted\" word", "a \\ backslash", "two\nlines\ttab", "\x7f",
    "北京", "\xf0\x9f\x9a\xa2", "not \xff UTF-8", "</script>"};

static json_t *as_text(const struct row *row)
{
    AUTO_BUF struct buf out = BUF_INIT(64 * 1024);
    struct row_text t = row_text_begin(&out);
    json_t *value;

    row_text_members(&t, row, members, ARRAY_LEN(members));
    assert_int_equal(row_text_end(&t), 0);
    value = json_loadb((const char *)out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(value);
    return value;
}

static void assert_same(const struct row *row)
{
    json_t *text = as_text(row), *tree = row_json(row, members, ARRAY_LEN(members));
    const char *name;
    json_t *value;

    assert_int_equal(json_object_size(text), ARRAY_LEN(members));
    json_object_foreach(tree, name, value)
    {
        const json_t *other = json_object_get(text, name);

        if (json_is_number(value)) /* 1 and 1.0 are one number */
            assert_true(json_number_value(value) == json_number_value(other));
        else if (!json_equal(value, other))
            fail_msg("%s is another one", name);
    }
    json_decref(text);
    json_decref(tree);
}

static void text_and_tree_say_the_same(void **state)
{
    static const uint64_t numbers[] = {
        0, 1, 9, 10, 999, 1000000, 1000001, 1500000, 137769110, 1764429000123456, 1ULL << 52};
    static const int64_t signed_numbers[] = {0, -1, 1, -45599, 45599, -1000000, 86400000000, -(1LL << 52)};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        for (size_t n = 0; n < ARRAY_LEN(numbers); n++)
            for (size_t s = 0; s < ARRAY_LEN(signed_numbers); s++)
                assert_same(&(struct row){.text = texts[i],
                    .number = numbers[n],
                    .signed_number = signed_numbers[s],
                    .yes = n % 2,
                    .array = s % 2 ? "[]" : "[1, {\"a\": \"\\u00e5\"}]",
                    .object = s % 3 ? "{\"b\": [true, null]}" : "{}"});
}

static void what_is_not_there_has_its_form(void **state)
{
    struct row row = {.number = UINT64_MAX, .signed_number = INT64_MIN, .array = "{}", .object = "[]"};

    (void)state;
    assert_same(&(struct row){.signed_number = -1});
    json_t *text = as_text(&row);

    assert_int_equal(json_array_size(json_object_get(text, "ROW_ARRAY")), 0);
    assert_true(json_is_array(json_object_get(text, "ROW_ARRAY")));
    assert_true(json_is_object(json_object_get(text, "ROW_OBJECT")));
    assert_true(json_is_null(json_object_get(text, "ROW_OBJECT_OR_NULL")));
    assert_true(json_integer_value(json_object_get(text, "ROW_NUMBER")) == INT64_MAX);
    assert_string_equal(json_string_value(json_object_get(text, "ROW_DIGITS")), "18446744073709551615");
    assert_true(json_number_value(json_object_get(text, "ROW_SIGNED_SECONDS")) < -9223372036854.0);
    json_decref(text);
}

static void seconds_are_exact(void **state)
{
    AUTO_BUF struct buf out = BUF_INIT(1024);
    struct row_text t = row_text_begin(&out);
    const int64_t skew = -45599;
    const uint64_t whole = 3000000, rpo = 137769110, percent = 873;

    (void)state;
    row_text_member(&t, "skew", ROW_SIGNED_SECONDS, &skew);
    row_text_member(&t, "whole", ROW_SECONDS, &whole);
    row_text_member(&t, "rpo", ROW_SECONDS, &rpo);
    row_text_member(&t, "percent", ROW_PERCENT, &percent);
    assert_int_equal(row_text_end(&t), 0);
    assert_string_equal(buf_str(&out, NULL), "{\"skew\":-0.045599,\"whole\":3,\"rpo\":137.76911,\"percent\":87.3}");
}

static void what_finds_no_room_is_told_once(void **state)
{
    AUTO_BUF struct buf out = BUF_INIT(40);
    struct row_text t = row_text_begin(&out);
    const char *text = "longer than there is room for it here, by far";

    (void)state;
    row_text_member(&t, "text", ROW_TEXT, &text);
    row_text_member(&t, "short", ROW_BOOL, &(bool){true});
    assert_int_equal(row_text_end(&t), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_and_tree_say_the_same),
        cmocka_unit_test(what_is_not_there_has_its_form),
        cmocka_unit_test(seconds_are_exact),
        cmocka_unit_test(what_finds_no_room_is_told_once),
    };

    return cmocka_run_group_tests_name("hub_api_row_text", tests, NULL, NULL);
}
