/* SPDX-License-Identifier: Apache-2.0
 *
 * Who coordinates, with which settings, and what is left of a group point when somebody is gone: members over real TLS (groupring.h).
 */
#include "tests/unit/mobility/group/groupring.h"

#include <stdlib.h>
#include <string.h>

#include "transport/base/clock.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#define SECOND_USEC (1 * USEC_PER_SEC)
#define HOUR_USEC (3600 * USEC_PER_SEC)
#define SUCCESSION_USEC (6 * USEC_PER_SEC) /* group.c: of the first successor, beyond one and a half intervals */
#define COMMAND_TRIES 20u                  /* group.c */
#define COMMAND_PAUSE_USEC (500 * USEC_PER_MSEC)

/* Four minutes are enough for anything here. */
#define UNTIL(g, condition)                                                                                            \
    do {                                                                                                               \
        uint64_t until_end = clock_mono_usec() + 240 * USEC_PER_SEC;                                                   \
        while (!(condition)) {                                                                                         \
            if (clock_mono_usec() > until_end)                                                                         \
                fail_msg("not in four minutes: %s", #condition);                                                       \
            ring_turn(g);                                                                                              \
        }                                                                                                              \
    } while (0)

/* A ring whose settings are these from the beginning. */
static struct ring *ring_with(unsigned count, uint64_t interval_usec)
{
    struct ring *g = ring_new(count);

    pthread_mutex_lock(&g->lock);
    g->calm = true;
    pthread_mutex_unlock(&g->lock);
    ring_run_until(g, 1);
    g->wish->interval_usec = interval_usec;
    ring_tell(g, ring_everybody(g));
    return g;
}

/* New settings for the same members, as the hub tells them. */
static void set_all(struct ring *g)
{
    for (unsigned i = 0; i < g->count; i++)
        group_set(g->places[i].group, g->wish);
}

static uint64_t last_budget(struct ring *g, unsigned place)
{
    uint64_t usec;

    pthread_mutex_lock(&g->lock);
    usec = g->places[place].budget_usec;
    pthread_mutex_unlock(&g->lock);
    return usec;
}

static unsigned freezes(struct ring *g)
{
    unsigned n = 0;

    pthread_mutex_lock(&g->lock);
    for (unsigned i = 0; i < g->count; i++)
        n += g->places[i].freezes;
    pthread_mutex_unlock(&g->lock);
    return n;
}

static enum group_part_state state_of(struct place *p)
{
    struct group_part_view view;

    return group_part_look(p->part, &view);
}

/* ---- settings ---- */

static void test_a_new_budget_reaches_all_members(void **state)
{
    static const uint64_t budgets[] = {1500000, 700000, 0};
    struct ring *g = ring_with(3, 50 * USEC_PER_MSEC);

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        g->wish->budget_usec = budgets[i];
        set_all(g);
        UNTIL(g, last_budget(g, 0) == budgets[i] && last_budget(g, 1) == budgets[i] && last_budget(g, 2) == budgets[i]);
        ring_run_until(g, ring_complete(g) + 2);
    }
    /* Without one each member goes by its own; these have none, and so no time at all. */
    g->wish->budget_usec = budgets[2];
    set_all(g);
    UNTIL(g, last_budget(g, 0) == 0 && last_budget(g, 2) == 0);
    ring_free(g);
}

/* Nothing is made; returns how many there are. */
static unsigned assert_rests(struct ring *g)
{
    unsigned points = ring_complete(g);

    ring_run_for(g, 3 * SECOND_USEC);
    assert_int_equal(ring_complete(g), points);
    return points;
}

static void test_a_new_interval_is_followed_at_once(void **state)
{
    struct ring *g = ring_with(3, HOUR_USEC);
    unsigned points;

    (void)state;
    ring_run_until(g, ring_complete(g) + 1); /* the one that is due with each list */
    points = assert_rests(g);
    /* Shorter: from now on, not in an hour. */
    g->wish->interval_usec = 20 * USEC_PER_MSEC;
    set_all(g);
    ring_run_until(g, points + 10);
    assert_int_equal(g->places[1].took_over + g->places[2].took_over, 0); /* by who did them before */
    /* None: the one that is under way is the last. */
    g->wish->interval_usec = 0;
    set_all(g);
    ring_run_for(g, 2 * SECOND_USEC);
    for (unsigned i = 0; i < g->count; i++)
        UNTIL(g, state_of(&g->places[i]) == GROUP_PART_IDLE);
    points = assert_rests(g);
    /* And again. */
    g->wish->interval_usec = 20 * USEC_PER_MSEC;
    set_all(g);
    ring_run_until(g, points + 10);
    ring_free(g);
}

/* ---- succession ---- */

/* The coordinator lives and is reached, but reaches nobody: a firewall of its own. It goes on trying. */
static void test_where_the_coordinator_reaches_nobody_the_next_one_makes_the_points(void **state)
{
    struct ring *g = ring_with(3, SECOND_USEC);
    struct group_wish *deaf = calloc(1, sizeof(*deaf));
    struct place *first = &g->places[0], *second = &g->places[1], *third = &g->places[2];
    uint64_t began, made;
    unsigned told[3];

    (void)state;
    UNTIL(g, first->news.made > 1);
    *deaf = *g->wish;
    strcpy(deaf->members[1].address, "m1");
    deaf->members[2].address[0] = '\0';
    group_set(first->group, deaf);
    began = clock_mono_usec();
    UNTIL(g, second->took_over > 0);
    assert_true(clock_mono_usec() - began >= SUCCESSION_USEC); /* not before its time, */
    assert_int_equal(third->took_over, 0);                     /* and in it, for the next one waits as long again */
    UNTIL(g, second->news.made >= 3);
    UNTIL(g, strcmp(first->news.cause, "the address that its agent gave: not an address: m1") == 0);
    assert_string_equal(first->news.remedy, "give its agent HOST:PORT as --group-advertise");
    assert_true(ident_equal(&first->news.culprit, &second->files.id));
    assert_int_equal(third->took_over, 0);
    assert_int_equal(ring_count_wrong(g), 0);

    /* The hub hears the latest word again, from whose it is. */
    told[0] = first->told;
    told[1] = second->told;
    told[2] = third->told;
    group_tell_again(third->group);
    group_tell_again(second->group);
    assert_int_equal(second->told, told[1] + 1);
    assert_int_equal(third->told, told[2]);

    /* It reaches them again: one coordinator, the one that the hub named. */
    group_set(first->group, g->wish);
    UNTIL(g, second->gave_back > 0);
    UNTIL(g, first->news.made >= 5);
    made = second->news.made;
    UNTIL(g, first->news.made >= 12);
    assert_int_equal(second->news.made, made);
    told[0] = first->told;
    told[1] = second->told;
    group_tell_again(second->group);
    group_tell_again(first->group);
    assert_int_equal(second->told, told[1]);
    assert_int_equal(first->told, told[0] + 1);
    assert_int_equal(second->took_over, 1);
    assert_int_equal(third->took_over, 0);
    assert_int_equal(ring_count_wrong(g), 0);
    free(deaf);
    ring_free(g);
}

/* Killed: its place is taken, nothing is frozen for it, and without it on the list the others go on. */
static void test_a_coordinator_that_is_killed_is_followed_and_comes_back(void **state)
{
    struct ring *g = ring_with(3, SECOND_USEC);
    struct place *first = &g->places[0], *second = &g->places[1], *third = &g->places[2];
    unsigned points, frozen;
    uint64_t began, made;

    (void)state;
    UNTIL(g, first->news.made > 1);
    ring_end(first);
    began = clock_mono_usec();
    frozen = freezes(g);
    points = ring_complete(g);
    UNTIL(g, second->took_over > 0);
    assert_true(clock_mono_usec() - began >= SUCCESSION_USEC);
    UNTIL(g, second->news.missed >= 3);
    assert_int_equal(second->took_over, 1);
    assert_true(ident_equal(&second->news.culprit, &first->files.id));
    assert_int_equal(freezes(g), frozen);
    assert_int_equal(ring_complete(g), points);

    ring_tell(g, ring_everybody(g) & ~UINT64_C(1));
    UNTIL(g, second->news.made >= 3);
    assert_true(ring_complete(g) >= points + 3);

    ring_begin(first);
    ring_tell(g, ring_everybody(g));
    ring_run_until_ports(g);
    ring_tell(g, ring_everybody(g));
    UNTIL(g, first->news.made >= 3);
    made = second->news.made;
    UNTIL(g, first->news.made >= 8);
    assert_int_equal(second->news.made, made);
    assert_int_equal(third->took_over, 0);
    assert_int_equal(ring_count_wrong(g), 0);
    ring_free(g);
}

/* ---- somebody is gone ---- */

/* Before anybody is frozen all have to be there. */
static void test_nobody_is_frozen_for_a_member_that_is_down(void **state)
{
    struct ring *g = ring_with(4, 50 * USEC_PER_MSEC);
    unsigned frozen, points;
    uint64_t missed;

    (void)state;
    ring_run_until(g, ring_complete(g) + 3);
    ring_end(&g->places[2]);
    missed = g->places[0].news.missed;
    UNTIL(g, g->places[0].news.missed > missed);
    frozen = freezes(g);
    points = ring_complete(g);
    UNTIL(g, g->places[0].news.missed >= missed + 8);
    assert_int_equal(freezes(g), frozen);
    assert_int_equal(ring_complete(g), points);
    assert_true(ident_equal(&g->places[0].news.culprit, &g->places[2].files.id));

    ring_begin(&g->places[2]);
    ring_tell(g, ring_everybody(g));
    ring_run_until_ports(g);
    ring_tell(g, ring_everybody(g));
    ring_run_until(g, points + 5);
    assert_int_equal(ring_count_wrong(g), 0);
    ring_free(g);
}

/* The others wait for it as long as they may, and have their time for themselves before it is tried again: their own points, and a machine that
 * would coordinate as well. */
static void test_after_a_miss_there_is_a_pause_however_long_it_took(void **state)
{
    struct ring *g = ring_with(3, SECOND_USEC);
    struct place *first = &g->places[0], *second = &g->places[1], *slow = &g->places[2];
    uint64_t missed, began, over;
    unsigned frozen;

    (void)state;
    UNTIL(g, first->news.made > 1);
    began = clock_mono_usec();
    pthread_mutex_lock(&g->lock);
    slow->never_ready = true;
    pthread_mutex_unlock(&g->lock);
    missed = first->news.missed;
    frozen = freezes(g);
    for (unsigned i = 1; i <= 2; i++) {
        UNTIL(g, state_of(second) == GROUP_PART_PREPARED);
        UNTIL(g, first->news.missed == missed + i);
        over = first->news.over_usec;
        assert_true(over > began);
        began = over;
        assert_string_equal(first->news.cause, "it was not ready in time");
        assert_true(ident_equal(&first->news.culprit, &slow->files.id));
        UNTIL(g, state_of(second) == GROUP_PART_IDLE);
        UNTIL(g, state_of(second) != GROUP_PART_IDLE);
        assert_true(clock_mono_usec() - over >= SECOND_USEC * 9 / 10);
    }
    assert_int_equal(freezes(g), frozen); /* not before all are ready */
    pthread_mutex_lock(&g->lock);
    slow->never_ready = false;
    pthread_mutex_unlock(&g->lock);
    ring_run_until(g, ring_complete(g) + 2);
    ring_free(g);
}

/* All were held, one has said so, and nobody will tell it to close its point. */
static void test_a_coordinator_that_is_gone_before_it_commits_leaves_nothing(void **state)
{
    struct ring *g = ring_with(3, 0);
    struct place *second = &g->places[1], *slow = &g->places[2];
    char id[IDENT_TEXT_SIZE];
    unsigned points;

    (void)state;
    ring_run_for(g, 2 * SECOND_USEC);
    points = g->point_count;
    pthread_mutex_lock(&g->lock);
    slow->deliver_usec = SECOND_USEC;
    pthread_mutex_unlock(&g->lock);
    ident_to_text(&g->wish->id, id);
    assert_int_equal(group_make_point(g->places[0].group, "asked", id, NULL), 0);
    UNTIL(g, state_of(second) == GROUP_PART_CAPTURED);
    ring_end(&g->places[0]);
    UNTIL(g, state_of(second) == GROUP_PART_IDLE && state_of(slow) == GROUP_PART_IDLE); /* ready for the next one */
    pthread_mutex_lock(&g->lock);
    slow->deliver_usec = 0;
    assert_int_equal(g->point_count, points); /* no mark with its id anywhere */
    pthread_mutex_unlock(&g->lock);
    ring_free(g);
}

/* ---- what is asked for ---- */

/* Another group point is under way at the second place, for as long as the test wants. */
static void occupy(struct ring *g)
{
    const struct group_part_ask ask = {.budget_usec = RING_BUDGET_USEC};

    assert_int_equal(group_part_begin(g->places[1].part, &ask, NULL), 0);
}

static void ask(struct ring *g, const char *command)
{
    char id[IDENT_TEXT_SIZE];
    struct err err = ERR_INIT;

    ident_to_text(&g->wish->id, id);
    if (group_make_point(g->places[0].group, command, id, &err) < 0)
        fail_msg("%s", err.text);
}

static void test_what_is_asked_for_waits_for_one_that_is_under_way_but_not_for_ever(void **state)
{
    struct ring *g = ring_with(3, 0);
    struct place *first = &g->places[0];
    struct err err = ERR_INIT;
    char id[IDENT_TEXT_SIZE];
    uint64_t began, missed;

    (void)state;
    ring_run_for(g, 2 * SECOND_USEC);
    occupy(g);
    missed = first->news.missed;
    began = clock_mono_usec();
    ask(g, "first");
    ask(g, "first"); /* the hub gives it again: it is the same one */
    ident_to_text(&g->wish->id, id);
    assert_int_equal(group_make_point(first->group, "other", id, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    UNTIL(g, first->commands == 1);
    assert_int_equal(first->news.missed - missed, COMMAND_TRIES);
    assert_true(clock_mono_usec() - began >= (COMMAND_TRIES - 1) * COMMAND_PAUSE_USEC / 2);
    assert_int_equal(first->command_error.code, ERR_CONFLICT);
    assert_non_null(strstr(first->command_error.text, "m1: another group point is under way"));

    ask(g, "second");
    missed = first->news.missed;
    UNTIL(g, first->news.missed >= missed + 3);
    assert_int_equal(first->commands, 1);
    group_part_abort(g->places[1].part, "enough");
    UNTIL(g, first->commands == 2);
    assert_int_equal(first->command_error.code, ERR_NONE);
    assert_true(ident_equal(&first->command_point, &first->news.point));
    ring_free(g);
}

/* Nor does it put off what is due: that is not tried twenty times, and is no reason to rest. */
static void test_what_was_asked_for_in_vain_puts_nothing_off(void **state)
{
    const uint64_t interval = 20 * SECOND_USEC;
    struct ring *g = ring_with(3, interval);
    struct place *first = &g->places[0];
    uint64_t last;

    (void)state;
    UNTIL(g, first->news.made > 1);
    last = first->news.made_usec;
    occupy(g);
    ask(g, "asked");
    UNTIL(g, first->commands == 1);
    assert_int_equal(first->command_error.code, ERR_CONFLICT);
    assert_true(clock_mono_usec() - last < interval);
    group_part_abort(g->places[1].part, "enough");
    UNTIL(g, first->news.made_usec != last);
    assert_true(first->news.made_usec - last >= interval / 2); /* it was not the trying that made it */
    assert_true(first->news.made_usec - last < interval + 7 * SECOND_USEC);
    ring_free(g);
}

/* Nothing else is worth a second try: whoever asked hears why. */
static void test_what_is_asked_for_and_refused_is_answered_at_once(void **state)
{
    struct ring *g = ring_with(3, 0);
    struct place *first = &g->places[0];

    (void)state;
    ring_run_for(g, 2 * SECOND_USEC);
    ring_end(&g->places[2]);
    ask(g, "asked");
    UNTIL(g, first->commands == 1);
    assert_int_equal(first->news.missed, 1);
    assert_int_not_equal(first->command_error.code, ERR_NONE);
    assert_int_equal(strncmp(first->command_error.text, "m2: ", 4), 0);
    ring_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_budget_reaches_all_members),
        cmocka_unit_test(test_a_new_interval_is_followed_at_once),
        cmocka_unit_test(test_where_the_coordinator_reaches_nobody_the_next_one_makes_the_points),
        cmocka_unit_test(test_a_coordinator_that_is_killed_is_followed_and_comes_back),
        cmocka_unit_test(test_nobody_is_frozen_for_a_member_that_is_down),
        cmocka_unit_test(test_after_a_miss_there_is_a_pause_however_long_it_took),
        cmocka_unit_test(test_a_coordinator_that_is_gone_before_it_commits_leaves_nothing),
        cmocka_unit_test(test_what_is_asked_for_waits_for_one_that_is_under_way_but_not_for_ever),
        cmocka_unit_test(test_what_was_asked_for_in_vain_puts_nothing_off),
        cmocka_unit_test(test_what_is_asked_for_and_refused_is_answered_at_once),
    };
    if (getenv("LEEWARD_TEST"))
        cmocka_set_test_filter(getenv("LEEWARD_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
