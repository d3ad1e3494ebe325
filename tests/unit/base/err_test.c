/* SPDX-License-Identifier: Apache-2.0
 *
 * The error object: its table, wrapping, corrections and what happens to texts that do not fit.
 */
#include "tests/unit/base/unit.h"

#include <errno.h>

static void set_gives_code_and_text_and_fails(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(err_set(&err, ERR_NOT_FOUND, "no machine %s", "web1"), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_string_equal(err.text, "no machine web1");
    assert_string_equal(err.correction, "");
}

static void null_error_is_allowed(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_IO, "x"), -1);
    assert_int_equal(err_sys(NULL, EIO, "x"), -1);
    assert_int_equal(err_wrap(NULL, "x"), -1);
    assert_int_equal(err_hint(NULL, "x"), -1);
    err_clear(NULL);
    err_copy(NULL, NULL);
}

static void system_error_takes_code_from_errno(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    err_sys(&err, ENOSPC, "writing %s", "spool");
    assert_int_equal(err.code, ERR_NOSPACE);
    assert_int_equal(err.sys_errno, ENOSPC);
    assert_string_equal(err.text, "writing spool: No space left on device");
    err_sys(&err, EIO, "x");
    assert_int_equal(err.code, ERR_IO);
    err_sys(&err, 99999, "x");
    assert_int_equal(err.code, ERR_IO);
}

static void wrap_puts_context_in_front_and_keeps_the_rest(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    err_sys(&err, ENOENT, "opening a");
    err_hint(&err, "Make it.");
    assert_int_equal(err_wrap(&err, "starting %s", "b"), -1);
    assert_string_equal(err.text, "starting b: opening a: No such file or directory");
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_string_equal(err.correction, "Make it.");
}

static void long_text_is_cut_between_characters(void **state)
{
    struct err err = ERR_INIT;
    char text[400];

    (void)state;
    /* Two-byte characters from an odd offset: the cut at 319 bytes falls into the middle of one. */
    memset(text, 'a', 2);
    for (size_t i = 2; i + 2 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    text[sizeof(text) - 2] = '\0';
    err_set(&err, ERR_INVALID, "%s", text);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 2);
    assert_int_equal((unsigned char)err.text[strlen(err.text) - 1], 0xa9);
    err_wrap(&err, "%s", text);
    assert_true(strlen(err.text) < sizeof(err.text));
}

/* Cut by somebody else, or from a peer: an é that ends too soon, a lone byte, an overlong slash, a surrogate, and beyond Unicode. */
static void text_that_is_no_utf8_becomes_some(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    err_set(&err, ERR_INVALID, "caf\xc3");
    err_hint(&err, "%.4s", "abc\xf0\x9f\x98\x80");
    assert_string_equal(err.text, "caf");
    assert_string_equal(err.correction, "abc");
    err_set(&err, ERR_INVALID,
        "a\xff"
        "b\xc0\xaf"
        "c\xed\xa0\x80"
        "d\xf4\x90\x80\x80"
        "e\xe2\x82[\xc3\xa9\xf0\x9f\x98\x80");
    assert_string_equal(err.text, "a?b??c???d????e??[\xc3\xa9\xf0\x9f\x98\x80");
}

static void line_breaks_never_stay(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    err_set(&err, ERR_INVALID, "a\nb\r\nc");
    assert_string_equal(err.text, "a b  c");
}

static void text_may_be_its_own_argument(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    err_set(&err, ERR_IO, "first");
    err_set(&err, ERR_CORRUPT, "%s again", err.text);
    assert_string_equal(err.text, "first again");
}

static void every_code_has_its_row(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ERR_CODE_COUNT; i++) {
        enum err_code code = (enum err_code)i;
        assert_true(strlen(err_code_name(code)) > 0);
        assert_int_equal(err_code_from_name(err_code_name(code)), code);
        assert_in_range(err_http_status(code), 200, 599);
        assert_in_range(err_grpc_status(code), 0, 16);
        assert_true((err_http_status(code) == 200) == (code == ERR_NONE));
    }
    assert_string_equal(err_code_name((enum err_code)1000), "internal");
    assert_int_equal(err_code_from_name("nonsense"), ERR_INTERNAL);
    assert_int_equal(err_code_from_name(NULL), ERR_INTERNAL);
}

static void grpc_status_survives_the_way_there_and_back(void **state)
{
    (void)state;
    for (int status = 0; status <= 16; status++)
        if (status != 2) /* UNKNOWN is never sent by us */
            assert_int_equal(err_grpc_status(err_from_grpc_status(status)), status);
    assert_int_equal(err_from_grpc_status(-1), ERR_INTERNAL);
    assert_int_equal(err_from_grpc_status(17), ERR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_gives_code_and_text_and_fails),
        cmocka_unit_test(null_error_is_allowed),
        cmocka_unit_test(system_error_takes_code_from_errno),
        cmocka_unit_test(wrap_puts_context_in_front_and_keeps_the_rest),
        cmocka_unit_test(long_text_is_cut_between_characters),
        cmocka_unit_test(text_that_is_no_utf8_becomes_some),
        cmocka_unit_test(line_breaks_never_stay),
        cmocka_unit_test(text_may_be_its_own_argument),
        cmocka_unit_test(every_code_has_its_row),
        cmocka_unit_test(grpc_status_survives_the_way_there_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
