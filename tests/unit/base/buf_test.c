/* SPDX-License-Identifier: Apache-2.0
 *
 * The growable buffer and the allocator under it: maximum, failure of any allocation, moves.
 */
#include "tests/unit/base/unit.h"

#include "transport/base/buf.h"
#include "transport/base/mem.h"

static void appends_up_to_the_maximum_and_not_over_it(void **state)
{
    AUTO_BUF struct buf b = BUF_INIT(1000);
    struct err err = ERR_INIT;
    uint8_t piece[600] = {1};

    (void)state;
    assert_int_equal(buf_append(&b, piece, sizeof(piece), &err), 0);
    assert_int_equal(buf_append(&b, piece, 401, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(b.len, 600);
    assert_int_equal(buf_append(&b, piece, 400, &err), 0);
    assert_int_equal(b.len, 1000);
    assert_true(b.cap <= 1000);
    assert_int_equal(buf_reserve(&b, SIZE_MAX, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

static void who_asks_for_much_at_first_gets_just_that(void **state)
{
    AUTO_BUF struct buf b = BUF_INIT(4 << 20);
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(buf_reserve(&b, (1 << 20) + 100, &err), 0);
    assert_int_equal(b.cap, (1 << 20) + 100);
    b.len = b.cap;
    assert_int_equal(buf_append(&b, "x", 1, &err), 0);
    assert_true(b.cap >= 2 << 20); /* and from then on by doubling */
}

static void fitting_keeps_the_content_and_no_more(void **state)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct err err = ERR_INIT;

    (void)state;
    buf_fit(&b);
    assert_int_equal(buf_reserve(&b, 10000, &err), 0);
    assert_int_equal(buf_append_str(&b, "kept", &err), 0);
    mem_fail_at(1);
    buf_fit(&b); /* no memory for the copy: all stays */
    mem_fail_at(0);
    assert_int_equal(b.cap, 10000);
    buf_fit(&b);
    assert_int_equal(b.cap, 4);
    assert_memory_equal(b.data, "kept", 4);
    assert_int_equal(buf_append_str(&b, "on", &err), 0);
    assert_string_equal(buf_str(&b, &err), "kepton");
    buf_clear(&b);
    buf_fit(&b);
    assert_null(b.data);
    assert_int_equal(b.cap, 0);
    assert_int_equal(buf_reserve(&b, 1000, &err), 0);
    b.len = 800;
    memset(b.data, 1, b.len);
    buf_fit(&b); /* a fifth is not worth a copy */
    assert_int_equal(b.cap, 1000);
}

static void failed_allocation_leaves_content(void **state)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct err err = ERR_INIT;
    static const uint8_t large[4096];

    (void)state;
    assert_int_equal(buf_append_str(&b, "kept", &err), 0);
    mem_fail_at(1);
    assert_int_equal(buf_append(&b, large, sizeof(large), &err), -1);
    assert_int_equal(err.code, ERR_NOMEM);
    assert_string_equal(buf_str(&b, &err), "kept");
    assert_int_equal(buf_append(&b, large, sizeof(large), &err), 0);
}

static void every_allocation_of_printf_may_fail(void **state)
{
    char text[2000];
    bool failed = true;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (long n = 1; failed; n++) {
        AUTO_BUF struct buf b = BUF_INIT(1 << 20);
        struct err err = ERR_INIT;
        mem_fail_at(n);
        failed = buf_printf(&b, &err, "%s", text) < 0;
        mem_fail_at(0);
        assert_int_equal(b.len, failed ? 0 : 1999);
        assert_int_equal(err.code, failed ? ERR_NOMEM : ERR_NONE);
        assert_true(n < 10);
    }
}

static void text_ends_in_nul_even_when_full(void **state)
{
    AUTO_BUF struct buf b = BUF_INIT(4);
    AUTO_BUF struct buf empty = BUF_INIT(0);

    (void)state;
    assert_int_equal(buf_printf(&b, NULL, "%d", 1234), 0);
    assert_string_equal(buf_str(&b, NULL), "1234");
    assert_int_equal(b.len, 4);
    assert_int_equal(buf_append(&b, "5", 1, NULL), -1);
    assert_string_equal(buf_str(&empty, NULL), "");
    assert_int_equal(buf_append(&empty, "", 0, NULL), 0);
}

static void consume_takes_from_the_front(void **state)
{
    AUTO_BUF struct buf b = BUF_INIT(100);

    (void)state;
    buf_append_str(&b, "abcdef", NULL);
    buf_consume(&b, 2);
    assert_string_equal(buf_str(&b, NULL), "cdef");
    buf_consume(&b, 100);
    assert_int_equal(b.len, 0);
}

static void move_leaves_the_source_empty(void **state)
{
    AUTO_BUF struct buf from = BUF_INIT(100), to = BUF_INIT(7);

    (void)state;
    buf_append_str(&from, "content", NULL);
    buf_append_str(&to, "old", NULL);
    buf_move(&to, &from);
    assert_string_equal(buf_str(&to, NULL), "content");
    assert_int_equal(to.max, 100);
    assert_int_equal(from.len, 0);
    assert_null(from.data);
    assert_int_equal(buf_append_str(&from, "again", NULL), 0);
}

static void allocations_check_overflow(void **state)
{
    (void)state;
    /* Through a volatile, or the compiler sees the size and warns. */
    volatile size_t huge = SIZE_MAX / 2;
    assert_null(mem_alloc(huge, 3));
    assert_null(mem_resize(NULL, huge, 3));
    AUTO_FREE uint8_t *none = mem_alloc(0, 8);
    assert_non_null(none);
    AUTO_FREE char *text = mem_printf("%s-%d", "a", 7);
    assert_string_equal(text, "a-7");
    AUTO_FREE char *part = mem_strndup("abcdef", 3);
    assert_string_equal(part, "abc");
}

static void fail_at_fails_once(void **state)
{
    (void)state;
    mem_fail_at(2);
    AUTO_FREE void *first = mem_alloc(1, 1);
    AUTO_FREE void *second = mem_alloc(1, 1);
    AUTO_FREE void *third = mem_alloc(1, 1);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_up_to_the_maximum_and_not_over_it),
        cmocka_unit_test(who_asks_for_much_at_first_gets_just_that),
        cmocka_unit_test(fitting_keeps_the_content_and_no_more),
        cmocka_unit_test(failed_allocation_leaves_content),
        cmocka_unit_test(every_allocation_of_printf_may_fail),
        cmocka_unit_test(text_ends_in_nul_even_when_full),
        cmocka_unit_test(consume_takes_from_the_front),
        cmocka_unit_test(move_leaves_the_source_empty),
        cmocka_unit_test(allocations_check_overflow),
        cmocka_unit_test(fail_at_fails_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
