/* SPDX-License-Identifier: Apache-2.0
 *
 * The shaper under machines that want to send more than they may. Time is made here: a second passes in microseconds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"
#include "transport/node/shaper.h"

#define MB 1000000ULL
#define FLOWS 12u

struct model {
    struct shaper s;
    struct shaper_flow flows[FLOWS];
    uint64_t backlog[FLOWS], sent[FLOWS];
    uint64_t piece[FLOWS]; /* what it takes per grant, however little that was for; 0: what it was granted */
    uint64_t now, total;
};

static struct model *model_new(uint64_t rate, uint64_t flow_rate)
{
    static struct model m;
    memset(&m, 0, sizeof(m));
    m.now = USEC_PER_SEC;
    shaper_set(&m.s, rate, flow_rate, m.now);
    return &m;
}

static void give(struct model *m, unsigned i, uint64_t bytes)
{
    m->backlog[i] += bytes;
    shaper_wait(&m->s, &m->flows[i]);
}

static void send(struct model *m, unsigned i, size_t granted)
{
    uint64_t n = m->piece[i] != 0 ? m->piece[i] : granted;
    if (n > m->backlog[i])
        n = m->backlog[i];
    m->backlog[i] -= n;
    m->sent[i] += n;
    m->total += n;
    shaper_charge(&m->s, &m->flows[i], n, m->now);
    shaper_settle(&m->s, &m->flows[i], granted, m->backlog[i] > 0);
    if (m->backlog[i] > 0)
        shaper_wait(&m->s, &m->flows[i]);
}

/* Everybody who may send does, until the moment. */
static void run_until(struct model *m, uint64_t until)
{
    while (m->now < until) {
        uint64_t delay;
        size_t bytes;
        struct shaper_flow *f = shaper_next(&m->s, m->now, &bytes, &delay);
        if (f != NULL) {
            assert_true(bytes > 0);
            send(m, (unsigned)(f - m->flows), bytes);
        } else {
            assert_true(delay > 0); /* else it would be asked for ever */
            m->now = delay < until - m->now ? m->now + delay : until;
        }
    }
}

static void the_rate_is_kept_whatever_a_grant_is_overdrawn(void **state)
{
    const uint64_t rates[] = {70000, 1 * MB, 30 * MB, 800 * MB};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
        struct model *m = model_new(rates[i], 0);
        m->piece[0] = 4u << 20;
        give(m, 0, UINT64_MAX / 4);
        run_until(m, 301 * USEC_PER_SEC);
        assert_true(m->total <= 300 * rates[i] + rates[i] / 4 + (4u << 20) + (64u << 10));
        assert_true(m->total + (1u << 20) >= 300 * rates[i]);
    }
}

static void those_who_always_have_something_get_equal_shares(void **state)
{
    struct model *m = model_new(10 * MB, 0);
    (void)state;
    for (unsigned i = 0; i < FLOWS; i++) {
        m->piece[i] = i % 3 == 0 ? 1u << 20 : i % 3 == 1 ? 100000 : 0;
        give(m, i, UINT64_MAX / 64);
    }
    run_until(m, 121 * USEC_PER_SEC);
    for (unsigned i = 0; i < FLOWS; i++) {
        assert_true(m->sent[i] > 120 * 10 * MB / FLOWS * 95 / 100);
        assert_true(m->sent[i] < 120 * 10 * MB / FLOWS * 105 / 100);
    }
}

/* A first copy with all it has against a machine that changes a twentieth of the line in each second. */
static void a_copy_leaves_others_their_points(void **state)
{
    struct model *m = model_new(1 * MB, 0);
    (void)state;
    m->piece[0] = 256u << 10;
    give(m, 0, UINT64_MAX / 4);
    for (uint64_t second = 2; second < 62; second++) {
        give(m, 1, 50000);
        run_until(m, (second + 1) * USEC_PER_SEC);
        assert_int_equal(m->backlog[1], 0); /* before its next point */
    }
    assert_int_equal(m->sent[1], 60 * 50000);
    assert_true(m->sent[0] > 60 * (MB - 50000) * 95 / 100); /* and the line stays full */
}

/* An hour in which it has the line for itself is no debt to those who come later. */
static void who_sent_while_nobody_waited_owes_nobody(void **state)
{
    struct model *m = model_new(1 * MB, 0);
    (void)state;
    for (uint64_t second = 2; second < 3602; second++) {
        m->now = second * USEC_PER_SEC;
        assert_true(shaper_is_free(&m->s, &m->flows[1], m->now));
        shaper_charge(&m->s, &m->flows[1], 50000, m->now);
    }
    give(m, 0, UINT64_MAX / 4);
    for (uint64_t second = 3602; second < 3622; second++) {
        give(m, 1, 50000);
        run_until(m, (second + 1) * USEC_PER_SEC);
        assert_int_equal(m->backlog[1], 0);
    }
}

static void each_machine_has_a_bound_of_its_own(void **state)
{
    struct model *m = model_new(10 * MB, 1 * MB);
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        give(m, i, UINT64_MAX / 8);
    run_until(m, 101 * USEC_PER_SEC);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(m->sent[i] <= 100 * MB + MB / 4 + (200u << 10));
        assert_true(m->sent[i] >= 99 * MB);
    }
}

static void a_machine_at_its_bound_does_not_hold_up_others(void **state)
{
    struct model *m = model_new(0, 1 * MB);
    (void)state;
    give(m, 0, UINT64_MAX / 8);
    run_until(m, 10 * USEC_PER_SEC);
    give(m, 1, 1000);
    run_until(m, 10 * USEC_PER_SEC + 1000);
    assert_int_equal(m->backlog[1], 0);
}

static void nobody_saves_credit_while_it_has_nothing_to_send(void **state)
{
    struct model *m = model_new(1 * MB, 0);
    (void)state;
    give(m, 0, UINT64_MAX / 8);
    for (unsigned second = 2; second < 100; second++) { /* seen, but with next to nothing */
        give(m, 1, 1);
        run_until(m, second * USEC_PER_SEC);
    }
    uint64_t other = m->sent[0];
    give(m, 1, UINT64_MAX / 8);
    run_until(m, m->now + 10 * USEC_PER_SEC);
    assert_true(m->sent[0] - other > 10 * MB / 2 * 9 / 10);
}

static void without_a_bound_everybody_is_free(void **state)
{
    struct model *m = model_new(0, 0);
    (void)state;
    assert_false(shaper_is_bound(&m->s));
    assert_true(shaper_is_free(&m->s, &m->flows[0], m->now));
    shaper_charge(&m->s, &m->flows[0], 1u << 30, m->now);
    shaper_set(&m->s, 1 * MB, 0, m->now); /* what went out before the bound is not owed */
    m->now += 1000;
    assert_true(shaper_is_free(&m->s, &m->flows[0], m->now));
}

static void nobody_is_free_while_others_wait_or_something_is_owed(void **state)
{
    struct model *m = model_new(1 * MB, 0);
    (void)state;
    m->now += 1000;
    shaper_charge(&m->s, &m->flows[0], 3 * MB, m->now);
    assert_false(shaper_is_free(&m->s, &m->flows[1], m->now));
    m->now += 2 * USEC_PER_SEC;
    assert_false(shaper_is_free(&m->s, &m->flows[1], m->now));
    m->now += 2 * USEC_PER_SEC;
    assert_true(shaper_is_free(&m->s, &m->flows[1], m->now));
    shaper_wait(&m->s, &m->flows[0]);
    assert_false(shaper_is_free(&m->s, &m->flows[1], m->now));
    shaper_leave(&m->s, &m->flows[0]);
    assert_true(shaper_is_free(&m->s, &m->flows[1], m->now));
}

static void who_leaves_is_served_no_more_and_a_grant_that_was_not_used_costs_nothing(void **state)
{
    struct model *m = model_new(1 * MB, 0);
    uint64_t delay;
    size_t bytes;
    (void)state;
    m->now += USEC_PER_SEC;
    for (unsigned i = 0; i < 3; i++)
        shaper_wait(&m->s, &m->flows[i]);
    shaper_leave(&m->s, &m->flows[2]); /* the last */
    shaper_leave(&m->s, &m->flows[0]); /* the first */
    shaper_leave(&m->s, &m->flows[0]);
    for (unsigned i = 0; i < 1000; i++) {
        assert_ptr_equal(shaper_next(&m->s, m->now, &bytes, &delay), &m->flows[1]);
        shaper_settle(&m->s, &m->flows[1], bytes, true);
        shaper_wait(&m->s, &m->flows[1]);
    }
    shaper_leave(&m->s, &m->flows[1]);
    assert_null(shaper_next(&m->s, m->now, &bytes, &delay));
    assert_true(delay == UINT64_MAX);
}

static void a_bound_that_is_lifted_lets_all_go(void **state)
{
    struct model *m = model_new(64u << 10, 64u << 10);
    (void)state;
    for (unsigned i = 0; i < FLOWS; i++)
        give(m, i, 100 * MB);
    run_until(m, 10 * USEC_PER_SEC);
    shaper_set(&m->s, 0, 0, m->now);
    run_until(m, m->now + 1);
    for (unsigned i = 0; i < FLOWS; i++)
        assert_int_equal(m->backlog[i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rate_is_kept_whatever_a_grant_is_overdrawn),
        cmocka_unit_test(those_who_always_have_something_get_equal_shares),
        cmocka_unit_test(a_copy_leaves_others_their_points),
        cmocka_unit_test(who_sent_while_nobody_waited_owes_nobody),
        cmocka_unit_test(each_machine_has_a_bound_of_its_own),
        cmocka_unit_test(a_machine_at_its_bound_does_not_hold_up_others),
        cmocka_unit_test(nobody_saves_credit_while_it_has_nothing_to_send),
        cmocka_unit_test(without_a_bound_everybody_is_free),
        cmocka_unit_test(nobody_is_free_while_others_wait_or_something_is_owed),
        cmocka_unit_test(who_leaves_is_served_no_more_and_a_grant_that_was_not_used_costs_nothing),
        cmocka_unit_test(a_bound_that_is_lifted_lets_all_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
