/* SPDX-License-Identifier: Apache-2.0
 *
 * The set of a disk's blocks that a copy compares: what was marked, in order and once, however large the disk is; and no more memory than it may have.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "transport/vault/copyset.h"

#define PAGE 32768u /* blocks in a page */

static void blocks_come_in_order_and_once(void **state)
{
    struct copyset s = {0};
    struct err err = ERR_INIT;
    static const uint64_t from[] = {PAGE - 3, 100, 0, 99, 5 * PAGE, (1ULL << 37) - 1},
                          to[] = {PAGE + 2, 103, 1, 101, 5 * PAGE, 1ULL << 37};
    static const uint64_t expected[] = {
        0, 99, 100, 101, 102, PAGE - 3, PAGE - 2, PAGE - 1, PAGE, PAGE + 1, (1ULL << 37) - 1};
    size_t n = 0;
    (void)state;
    assert_true(copyset_next(&s, 0) == UINT64_MAX);
    for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++)
        assert_int_equal(copyset_mark(&s, from[i], to[i], &err), 1);
    for (uint64_t at = copyset_next(&s, 0); at != UINT64_MAX; at = copyset_next(&s, at + 1)) {
        assert_true(n < sizeof(expected) / sizeof(expected[0]));
        assert_true(at == expected[n++]);
    }
    assert_int_equal(n, sizeof(expected) / sizeof(expected[0]));
    assert_int_equal(s.count, n);
    copyset_clear(&s);
    assert_true(s.pages == NULL && s.count == 0 && copyset_next(&s, 0) == UINT64_MAX);
}

static void no_more_is_marked_than_fits(void **state)
{
    struct copyset s = {0};
    struct err err = ERR_INIT;
    uint64_t page = 0;
    (void)state;
    while (copyset_mark(&s, page * PAGE, page * PAGE + 1, &err) == 1)
        page++;
    assert_int_equal(err.code, ERR_NONE);
    assert_int_equal(page, COPYSET_PAGES_MAX);
    assert_int_equal(copyset_mark(&s, 7, 8, &err), 1); /* where there is a page already */
    copyset_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_come_in_order_and_once),
        cmocka_unit_test(no_more_is_marked_than_fits),
    };
    return cmocka_run_group_tests_name("copyset", tests, NULL, NULL);
}
