/* SPDX-License-Identifier: Apache-2.0
 *
 * The pace of copies: over time no more comes than the rate, of all together and of each; what a call did not take is given back; a bound that is gone
 * holds nobody up. Moments are numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "transport/base/clock.h"
#include "transport/vault/copypace.h"

#define MIB (1u << 20)
#define START (1000 * USEC_PER_SEC)

/* What comes in so many seconds when each machine asks as soon as it may, and each call takes `bytes`. */
static uint64_t comes(struct copypace *p, struct copyflow *flows, unsigned count, uint64_t bytes, unsigned seconds)
{
    uint64_t all = 0;
    for (uint64_t now = START; now < START + seconds * USEC_PER_SEC; now += USEC_PER_MSEC)
        for (unsigned i = 0; i < count; i++) {
            uint64_t grant = copypace_grant(p);
            if (!copypace_begin(p, &flows[i], grant, now)) {
                assert_true(copypace_due(p, &flows[i]) > now);
                continue;
            }
            copypace_settle(p, &flows[i], grant, bytes);
            all += bytes;
        }
    return all;
}

static void all_together_get_what_is_given(void **state)
{
    struct copypace p;
    struct copyflow flows[5] = {{0}};
    (void)state;
    copypace_init(&p);
    assert_true(copypace_set(&p, 8 * MIB, 0));
    assert_int_equal(copypace_grant(&p), 2 * MIB);
    static const uint64_t sizes[] = {4096, 2 * MIB, 16 * MIB}; /* less than was granted, as much, and more */
    for (unsigned i = 0; i < 3; i++) {
        copypace_set(&p, 0, 0);
        copypace_set(&p, 8 * MIB, 0);
        uint64_t all = comes(&p, flows, 5, sizes[i], 20);
        assert_true(all <= 160 * MIB + sizes[i]);
        assert_true(
            all >= (sizes[i] == 4096 ? 75u * MIB
                                     : 152u * MIB)); /* of the small ones one each millisecond and machine at most */
    }
    copypace_done(&p);
}

static void each_gets_its_own_and_no_more(void **state)
{
    struct copypace p;
    struct copyflow flows[3] = {{0}};
    (void)state;
    copypace_init(&p);
    copypace_set(&p, 0, MIB);
    assert_int_equal(copypace_grant(&p), MIB / 4);
    uint64_t all = comes(&p, flows, 3, MIB / 4, 10);
    assert_true(all <= 31 * MIB && all >= 29 * MIB);
    copypace_set(&p, MIB, MIB);
    all = comes(&p, flows, 3, MIB / 4, 30);
    assert_true(all <= 31 * MIB);
    copypace_done(&p);
}

static void a_bound_that_is_gone_holds_nobody(void **state)
{
    struct copypace p;
    struct copyflow flow = {0};
    (void)state;
    copypace_init(&p);
    assert_false(copypace_is_bound(&p));
    copypace_set(&p, 65536, 0);
    assert_true(copypace_is_bound(&p));
    assert_true(copypace_begin(&p, &flow, 65536, START));
    copypace_settle(&p, &flow, 65536, 64 * MIB); /* an answer that cannot be divided */
    assert_false(copypace_begin(&p, &flow, 65536, START + 1000 * USEC_PER_SEC));
    assert_false(copypace_set(&p, 65536, 0));
    assert_true(copypace_set(&p, 0, 0));
    assert_true(copypace_begin(&p, &flow, 65536, START));
    assert_true(copypace_set(&p, 65536, 0));
    assert_true(copypace_begin(&p, &flow, 65536, START));
    copypace_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_together_get_what_is_given),
        cmocka_unit_test(each_gets_its_own_and_no_more),
        cmocka_unit_test(a_bound_that_is_gone_holds_nobody),
    };
    return cmocka_run_group_tests_name("copypace", tests, NULL, NULL);
}
