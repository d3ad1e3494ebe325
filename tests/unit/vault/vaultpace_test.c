/* SPDX-License-Identifier: Apache-2.0
 *
 * The pace of work in the background: it is kept over all threads, slower while data comes in, and nobody waits for it who is to end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <string.h>
#include <cmocka.h>

#include "transport/base/clock.h"
#include "transport/vault/vaultpace.h"

#define PIECE (1u << 20)

static struct {
    struct vaultpace pace;
    _Atomic uint64_t ingest_usec;
    _Atomic bool cancelled;
} at;

static int setup(void **state)
{
    (void)state;
    memset(&at, 0, sizeof(at));
    return 0;
}

/* How long so many pieces take; a busy machine only makes it longer. */
static uint64_t usec_for(unsigned pieces)
{
    uint64_t begin = clock_mono_usec();
    for (unsigned i = 0; i < pieces; i++)
        vaultpace_wait(&at.pace, &at.ingest_usec, PIECE, &at.cancelled);
    return clock_mono_usec() - begin;
}

static void the_rate_is_not_exceeded(void **state)
{
    (void)state;
    at.pace.rate = 64u << 20;
    assert_true(usec_for(8) >= 8 * USEC_PER_SEC / 64);
}

static void while_data_comes_in_it_is_a_quarter(void **state)
{
    (void)state;
    at.pace.rate = 64u << 20;
    at.ingest_usec = clock_mono_usec() + 3600 * USEC_PER_SEC; /* it comes in all the time */
    uint64_t before = clock_mono_usec();
    at.pace.due_usec = before;
    vaultpace_wait(&at.pace, &at.ingest_usec, PIECE, &at.cancelled);
    assert_true(at.pace.due_usec - before >= 4 * USEC_PER_SEC / 64 - 1000);
}

static void *take_some(void *arg)
{
    (void)arg;
    (void)usec_for(4);
    return NULL;
}

static void threads_share_one_pace(void **state)
{
    pthread_t threads[3];
    uint64_t begin = clock_mono_usec();
    (void)state;
    at.pace.rate = 64u << 20;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_some, NULL), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(clock_mono_usec() - begin >= 12 * USEC_PER_SEC / 64);
}

/* At this rate a piece takes 12 days. */
static void who_is_to_end_does_not_wait(void **state)
{
    (void)state;
    at.pace.rate = 1;
    at.cancelled = true;
    (void)usec_for(3);
}

static void without_a_rate_nobody_waits(void **state)
{
    (void)state;
    (void)usec_for(1000);
    assert_int_equal(at.pace.due_usec, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_rate_is_not_exceeded, setup),
        cmocka_unit_test_setup(while_data_comes_in_it_is_a_quarter, setup),
        cmocka_unit_test_setup(threads_share_one_pace, setup),
        cmocka_unit_test_setup(who_is_to_end_does_not_wait, setup),
        cmocka_unit_test_setup(without_a_rate_nobody_waits, setup),
    };
    return cmocka_run_group_tests_name("vaultpace", tests, NULL, NULL);
}
