/* SPDX-License-Identifier: Apache-2.0
 *
 * Pauses: how they grow, and how a fleet that lost its hub comes back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "transport/base/backoff.h"

#define SEC 1000000ull
#define MIN_USEC (SEC / 4)
#define MAX_USEC (5 * SEC)
#define FLEET 10000u
#define AWAY_USEC (60 * SEC)
#define BIN_USEC (SEC / 4)
#define BINS 64u

static uint64_t state_of_chance = 1;

/* splitmix64 */
static uint64_t chance(void)
{
    uint64_t z = state_of_chance += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void pauses_double_up_to_the_longest(void **state)
{
    static const uint64_t wanted[] = {250000, 500000, 1000000, 2000000, 4000000, 5000000, 5000000};
    uint64_t usec = 0;
    (void)state;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        usec = backoff_longer(usec, MIN_USEC, MAX_USEC);
        assert_int_equal(usec, wanted[i]);
    }
    assert_int_equal(backoff_longer(UINT64_MAX, 1, UINT64_MAX), UINT64_MAX);
    assert_int_equal(backoff_longer(7, 3, 3), 3);
}

static void a_pause_lies_around_its_length(void **state)
{
    uint64_t sum = 0;
    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t wait = backoff_spread(SEC, chance());
        assert_in_range(wait, SEC / 2, SEC * 3 / 2 - 1);
        sum += wait;
    }
    assert_in_range(sum / 100000, SEC * 99 / 100, SEC * 101 / 100);
    assert_int_equal(backoff_spread(0, 5), 0);
    assert_int_equal(backoff_spread(1, UINT64_MAX), 0);
}

/* All lose their hub in the same microsecond, and it is back after a minute. */
static void a_fleet_does_not_come_back_in_step(void **state)
{
    unsigned bins[BINS] = {0}, most = 0, first_second = 0;
    (void)state;
    for (unsigned i = 0; i < FLEET; i++) {
        uint64_t at = 0, pause = 0;
        while (at < AWAY_USEC) {
            pause = backoff_longer(pause, MIN_USEC, MAX_USEC);
            at += backoff_spread(pause, chance());
        }
        uint64_t bin = (at - AWAY_USEC) / BIN_USEC;
        assert_true(bin < BINS);
        bins[bin]++;
    }
    for (unsigned i = 0; i < BINS; i++) {
        most = bins[i] > most ? bins[i] : most;
        first_second += i < 4 ? bins[i] : 0;
    }
    assert_true(most < FLEET * 7 / 100);          /* evenly over 5 s it would be 5 % in each quarter of a second */
    assert_true(first_second > FLEET * 15 / 100); /* and nobody waits for nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_double_up_to_the_longest),
        cmocka_unit_test(a_pause_lies_around_its_length),
        cmocka_unit_test(a_fleet_does_not_come_back_in_step),
    };
    return cmocka_run_group_tests_name("base/backoff", tests, NULL, NULL);
}
