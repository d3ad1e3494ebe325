/* SPDX-License-Identifier: Apache-2.0
 *
 * Plans as graphs: order, cycles by name, what may begin, forecasts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/core/plan_graph.h"

/* "db app:db web:app,db": names, each with what it waits for. */
static void build(struct plan_graph *g, char *text)
{
    char *save = NULL, *save_after = NULL;
    char *waits[PLAN_STEPS_MAX] = {0};
    struct err err = ERR_INIT;

    memset(g, 0, sizeof(*g));
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        char *colon = strchr(word, ':');
        int at;

        if (colon)
            *colon = '\0';
        at = plan_graph_add(g, word, &err);
        assert_true(at >= 0);
        waits[at] = colon ? colon + 1 : NULL;
    }
    for (size_t i = 0; i < g->count; i++)
        for (char *p = waits[i] ? strtok_r(waits[i], ",", &save_after) : NULL; p;
             p = strtok_r(NULL, ",", &save_after)) {
            assert_true(plan_graph_find(g, p) >= 0);
            plan_graph_wait(g, i, (size_t)plan_graph_find(g, p));
        }
}

static void an_order_puts_nobody_before_what_it_waits_for(void **state)
{
    char text[] = "web:app app:db,cache db cache:db mail";
    static const char *const wanted[] = {"db", "cache", "app", "web", "mail"};
    size_t order[PLAN_STEPS_MAX];
    struct err err = ERR_INIT;
    struct plan_graph g;

    (void)state;
    build(&g, text);
    assert_int_equal(plan_graph_order(&g, order, &err), 0);
    for (size_t i = 0; i < g.count; i++)
        assert_string_equal(g.names[order[i]], wanted[i]);
}

static void a_cycle_is_told_by_name(void **state)
{
    char three[] = "a b:d c:b d:c e:a", self[] = "x:x", big[8 * PLAN_STEPS_MAX];
    size_t order[PLAN_STEPS_MAX], n = 0;
    struct err err = ERR_INIT;
    struct plan_graph g;

    (void)state;
    build(&g, three);
    assert_int_equal(plan_graph_order(&g, order, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.text, "the steps wait for each other: b -> d -> c -> b");
    build(&g, self);
    assert_int_equal(plan_graph_order(&g, order, &err), -1);
    assert_string_equal(err.text, "the steps wait for each other: x -> x");
    /* The largest one there can be. */
    for (unsigned i = 0; i < PLAN_STEPS_MAX; i++)
        n += (size_t)snprintf(big + n, sizeof(big) - n, "s%u ", i);
    build(&g, big);
    for (size_t i = 0; i < PLAN_STEPS_MAX; i++)
        plan_graph_wait(&g, i, (i + 1) % PLAN_STEPS_MAX);
    assert_int_equal(plan_graph_order(&g, order, &err), -1);
    assert_non_null(strstr(err.text, "s0 -> s1"));
    assert_int_equal(plan_graph_add(&g, "one-more", &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

static void a_name_is_given_once(void **state)
{
    struct plan_graph g = {0};
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(plan_graph_add(&g, "db", &err), 0);
    assert_int_equal(plan_graph_add(&g, "db", &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static size_t ready_names(
    const struct plan_graph *g, const enum plan_step_state *states, size_t parallel, char *out, size_t size)
{
    bool ready[PLAN_STEPS_MAX];
    size_t used = 0;

    out[0] = '\0';
    assert_int_equal(plan_graph_look(g, states, false, parallel, ready), PLAN_GOES_ON);
    for (size_t i = 0; i < g->count; i++)
        if (ready[i])
            used += (size_t)snprintf(out + used, size - used, "%s ", g->names[i]);
    return used;
}

static void what_is_free_begins_and_only_so_much_at_once(void **state)
{
    char text[] = "a b c:a,b d:c e";
    enum plan_step_state s[5] = {0};
    struct plan_graph g;
    char names[64];

    (void)state;
    build(&g, text);
    ready_names(&g, s, 0, names, sizeof(names));
    assert_string_equal(names, "a b e ");
    ready_names(&g, s, 2, names, sizeof(names));
    assert_string_equal(names, "a b ");
    s[0] = PLAN_STEP_RUNNING;
    s[1] = PLAN_STEP_WAITING;
    ready_names(&g, s, 2, names, sizeof(names));
    assert_string_equal(names, "");
    s[0] = PLAN_STEP_SUCCEEDED;
    s[1] = PLAN_STEP_PASSED_OVER;
    s[4] = PLAN_STEP_SKIPPED;
    ready_names(&g, s, 0, names, sizeof(names));
    assert_string_equal(names, "c ");
}

static void a_failure_lets_run_what_runs_and_begins_nothing(void **state)
{
    char text[] = "a b c:a d";
    enum plan_step_state s[4] = {PLAN_STEP_FAILED, PLAN_STEP_RUNNING};
    bool ready[PLAN_STEPS_MAX];
    struct plan_graph g;

    (void)state;
    build(&g, text);
    assert_int_equal(plan_graph_look(&g, s, false, 0, ready), PLAN_GOES_ON);
    assert_false(ready[2] || ready[3]);
    s[1] = PLAN_STEP_SUCCEEDED;
    assert_int_equal(plan_graph_look(&g, s, false, 0, ready), PLAN_FAILED);
    s[0] = PLAN_STEP_SUCCEEDED;
    assert_int_equal(plan_graph_look(&g, s, true, 0, ready), PLAN_FAILED); /* asked to stop */
    s[2] = s[3] = PLAN_STEP_SUCCEEDED;
    assert_int_equal(plan_graph_look(&g, s, true, 0, ready), PLAN_DONE); /* asked too late */
}

static void a_forecast_is_the_longest_way(void **state)
{
    char text[] = "db cache app:db,cache web:app mail";
    const uint64_t takes[] = {30, 5, 10, 20, 40};
    struct plan_forecast f[5];
    struct plan_graph g;

    (void)state;
    build(&g, text);
    assert_int_equal(plan_graph_predict(&g, takes, 0, f), 60);
    assert_int_equal(f[2].begin_usec, 30);
    assert_true(f[0].critical && f[2].critical && f[3].critical);
    assert_false(f[1].critical || f[4].critical);
    /* One at a time: the sum. */
    assert_int_equal(plan_graph_predict(&g, takes, 1, f), 105);
    assert_true(f[1].critical && f[4].critical);
}

/* Against the definition, on graphs of all sorts. */
static void random_graphs_keep_their_order(void **state)
{
    static char names[40][8];

    (void)state;
    srandom(7);
    for (int round = 0; round < 200; round++) {
        size_t n = 2 + (size_t)random() % 38, order[PLAN_STEPS_MAX], place[40];
        uint64_t takes[40], longest = 0, end[40];
        struct plan_forecast f[40];
        struct plan_graph g = {0};
        struct err err = ERR_INIT;

        for (size_t i = 0; i < n; i++) {
            snprintf(names[i], sizeof(names[i]), "n%zu", i);
            assert_true(plan_graph_add(&g, names[i], &err) >= 0);
            takes[i] = (uint64_t)random() % 100;
        }
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < i; k++)
                if (random() % 5 == 0)
                    plan_graph_wait(&g, i, k);
        assert_int_equal(plan_graph_order(&g, order, &err), 0);
        for (size_t i = 0; i < n; i++)
            place[order[i]] = i;
        for (size_t i = 0; i < n; i++) {
            uint64_t begin = 0;

            for (size_t k = 0; k < i; k++)
                if (plan_graph_waits(&g, i, k)) {
                    assert_true(place[k] < place[i]);
                    begin = end[k] > begin ? end[k] : begin;
                }
            end[i] = begin + takes[i];
            longest = end[i] > longest ? end[i] : longest;
        }
        assert_int_equal(plan_graph_predict(&g, takes, 0, f), longest);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(f[i].end_usec, end[i]);
    }
}

static void the_median_is_not_moved_by_one_bad_day(void **state)
{
    uint64_t five[] = {9000, 10, 12, 11, 13}, two[] = {8, 4};

    (void)state;
    assert_int_equal(plan_median_usec(five, 5), 12);
    assert_int_equal(plan_median_usec(two, 2), 4);
    assert_int_equal(plan_median_usec(NULL, 0), 0);
}

static void states_have_names(void **state)
{
    (void)state;
    for (int i = 0; i < PLAN_STEP_STATE_COUNT; i++)
        assert_int_equal(plan_step_state_from_name(plan_step_state_name((enum plan_step_state)i)), i);
    assert_int_equal(plan_step_state_from_name("asleep"), -1);
    assert_false(plan_step_state_is_over(PLAN_STEP_WAITING));
    assert_true(plan_step_state_is_over(PLAN_STEP_SUCCEEDED));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_puts_nobody_before_what_it_waits_for),
        cmocka_unit_test(a_cycle_is_told_by_name),
        cmocka_unit_test(a_name_is_given_once),
        cmocka_unit_test(what_is_free_begins_and_only_so_much_at_once),
        cmocka_unit_test(a_failure_lets_run_what_runs_and_begins_nothing),
        cmocka_unit_test(a_forecast_is_the_longest_way),
        cmocka_unit_test(random_graphs_keep_their_order),
        cmocka_unit_test(the_median_is_not_moved_by_one_bad_day),
        cmocka_unit_test(states_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
