/* SPDX-License-Identifier: Apache-2.0
 *
 * What does not come about is tried ever more seldom, and never given up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "transport/vault/healpace.h"

#define FIRST 3u
#define MOST 100u

static void pauses_double_up_to_their_bound(void **state)
{
    static const uint64_t pauses[] = {3, 6, 12, 24, 48, 96, 100, 100, 100};
    struct healpace p = {0};
    uint64_t now = 1000;
    (void)state;
    assert_false(healpace_is_due(&p, now)); /* never asked for */
    for (size_t i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++) {
        healpace_wait(&p, now, FIRST, MOST);
        assert_false(healpace_is_due(&p, now + pauses[i] - 1));
        assert_true(healpace_is_due(&p, now + pauses[i]));
        now += pauses[i] + 7;
    }
    healpace_rest(&p);
    assert_false(healpace_is_due(&p, UINT64_MAX));
    healpace_wait(&p, now, FIRST, MOST);
    assert_true(healpace_is_due(&p, now + FIRST));
}

static void a_bound_that_comes_down_holds_at_once(void **state)
{
    struct healpace p = {0};
    (void)state;
    for (int i = 0; i < 10; i++)
        healpace_wait(&p, 0, FIRST, MOST);
    healpace_wait(&p, 0, FIRST, 20);
    assert_int_equal(p.due_usec, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_double_up_to_their_bound),
        cmocka_unit_test(a_bound_that_comes_down_holds_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
