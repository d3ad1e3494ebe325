/* SPDX-License-Identifier: Apache-2.0
 *
 * A machine's part in group points, by the engine on a loop disk with a file system: how long it may be frozen, and what it does when the
 * coordinator falls silent or is gone after any of its words. The test is the loop that orders.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "mobility/capture/freeze.h"
#include "tests/unit/mobility/sync/syncrig.h"
#include "transport/base/clock.h"

#define MIB (1u << 20)
#define DAY_USEC (86400 * USEC_PER_SEC)
#define SHORT_USEC (500 * USEC_PER_MSEC) /* a freeze that a busy machine has time for, and a test, too */
#define TRIES 40u

/* What the engine asked for. Written by the capture thread, read by the test when the group point is over. */
static struct {
    uint64_t budget_usec, froze_usec; /* of the last freeze, and when it stood */
    uint64_t frozen_until_usec, held_until_usec;
    uint64_t frozen_said_usec;
} seen;

int __real_freeze_begin(struct freeze *f, uint64_t budget_usec, struct err *err);
int __wrap_freeze_begin(struct freeze *f, uint64_t budget_usec, struct err *err);
int __wrap_freeze_begin(struct freeze *f, uint64_t budget_usec, struct err *err)
{
    int r = __real_freeze_begin(f, budget_usec, err);

    seen.budget_usec = budget_usec;
    seen.froze_usec = clock_mono_usec();
    return r;
}

int __real_group_part_frozen(struct group_part *part, uint64_t until_usec);
int __wrap_group_part_frozen(struct group_part *part, uint64_t until_usec);
int __wrap_group_part_frozen(struct group_part *part, uint64_t until_usec)
{
    seen.frozen_said_usec = clock_mono_usec();
    seen.frozen_until_usec = until_usec;
    return __real_group_part_frozen(part, until_usec);
}

int __real_group_part_held(struct group_part *part, uint64_t until_usec);
int __wrap_group_part_held(struct group_part *part, uint64_t until_usec);
int __wrap_group_part_held(struct group_part *part, uint64_t until_usec)
{
    seen.held_until_usec = until_usec;
    return __real_group_part_held(part, until_usec);
}

static void rig_up(struct syncrig *rig)
{
    syncrig_init(rig, 1, 32 * MIB, 512);
    syncrig_mount(rig, 0);
    rig->wish.interval_usec = DAY_USEC; /* no cycle but those of the group */
    syncrig_start(rig);
    assert_true(syncrig_wait_phase(rig, PHASE_PROTECTED));
    assert_true(fakenode_wait_points(rig->node, 1)); /* the one that is due with the first copy */
}

static void rig_down(struct syncrig *rig)
{
    syncrig_unmount(rig, 0);
    syncrig_done(rig);
}

static void pause_a_little(void)
{
    const struct timespec t = {.tv_nsec = 500000};

    nanosleep(&t, NULL);
}

/* ---- orders ---- */

static const enum group_part_state said[] = {
    GROUP_PART_PREPARED, GROUP_PART_FROZEN, GROUP_PART_HELD, GROUP_PART_CAPTURED, GROUP_PART_DONE};
static const enum group_part_state orders[] = {
    GROUP_PART_FREEZING, GROUP_PART_READING, GROUP_PART_RELEASED, GROUP_PART_COMMITTING};

#define WORDS (sizeof(said) / sizeof(said[0]))

static enum group_part_state state_of(struct syncrig *rig, struct group_part_view *ret_view)
{
    return group_part_look(syncrig_part(rig), ret_view);
}

static bool is_over(enum group_part_state state)
{
    return state == GROUP_PART_DONE || state == GROUP_PART_FAILED;
}

/* Orders until it has said the word, or has ended before that. */
static bool bring_to(struct syncrig *rig, const struct group_part_ask *ask, unsigned word)
{
    struct group_part_view view;
    enum group_part_state now;

    assert_int_equal(group_part_begin(syncrig_part(rig), ask, NULL), 0);
    while ((now = state_of(rig, &view)) != said[word] && !is_over(now)) {
        for (unsigned i = 0; i < word; i++)
            if (said[i] == now)
                (void)group_part_order(syncrig_part(rig), orders[i], NULL);
        pause_a_little();
    }
    return now == said[word];
}

/* On a busy machine a freeze may end before the word was said: then once more. */
static void bring(struct syncrig *rig, const struct group_part_ask *ask, unsigned word)
{
    for (unsigned i = 0; i < TRIES; i++) {
        if (bring_to(rig, ask, word))
            return;
        group_part_collect(syncrig_part(rig));
    }
    fail_msg("%u times it ended before word %u", TRIES, word);
}

/* No other word comes. */
static void until_failed(struct syncrig *rig, struct group_part_view *ret_view)
{
    uint64_t end = clock_mono_usec() + 60 * USEC_PER_SEC;

    while (state_of(rig, ret_view) != GROUP_PART_FAILED) {
        if (clock_mono_usec() > end)
            fail_msg("it waits for a minute");
        pause_a_little();
    }
    group_part_collect(syncrig_part(rig));
}

/* ---- how long ---- */

static void set_budget(struct syncrig *rig, uint64_t usec)
{
    struct engine_status s;

    rig->wish.version++;
    rig->wish.freeze_budget_usec = usec;
    engine_set_wish(syncrig_engine(rig), &rig->wish);
    do {
        pause_a_little();
        engine_get_status(syncrig_engine(rig), &s);
    } while (s.version != rig->wish.version);
}

/* Neither the group's word nor the policy's makes the other's longer, and without either it is 200 ms. */
static void the_shorter_of_policy_and_group_bounds_the_freeze(void **state)
{
    static const struct {
        uint64_t policy_usec, group_usec, usec;
    } cases[] = {{0, 0, 200000}, {0, 700000, 200000}, {0, 150000, 150000}, {900000, 0, 900000},
        {900000, 300000, 300000}, {300000, 900000, 300000}};
    struct syncrig rig;

    (void)state;
    rig_up(&rig);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct group_part_ask ask = {.budget_usec = cases[i].group_usec};
        set_budget(&rig, cases[i].policy_usec);
        bring(&rig, &ask, 4); /* DONE */
        group_part_collect(syncrig_part(&rig));
        assert_int_equal(seen.budget_usec, cases[i].usec);
        assert_true(seen.frozen_until_usec >= seen.froze_usec + cases[i].usec);
        assert_true(seen.frozen_until_usec <= seen.frozen_said_usec + cases[i].usec);
        assert_int_equal(seen.held_until_usec, seen.frozen_until_usec); /* both waits are in the one freeze */
    }
    rig_down(&rig);
}

/* ---- the coordinator is gone ---- */

static void assert_own_point(struct syncrig *rig, const struct fakenode_facts *before)
{
    struct fakenode_facts after;

    assert_true(fakenode_wait_points(rig->node, before->points + 1));
    fakenode_get(rig->node, &after);
    assert_string_equal(after.fault, "");
    assert_true(ident_is_zero(&after.last.group_point));
    must_run("timeout 60 touch %s/mnt0/written", rig->dir); /* nothing is frozen */
}

static const struct group_part_ask short_ask = {.point = {.bytes = {7, 7, 7}}, .budget_usec = SHORT_USEC};

static void silence_after_any_word_ends_by_itself(void **state)
{
    static const char *const why[] = {
        "the group point was given up", "its freeze was over", "its freeze was over", "the group point was given up"};
    struct group_part_view view;
    struct fakenode_facts before;
    struct syncrig rig;

    (void)state;
    rig_up(&rig);
    for (unsigned word = 0; word + 1 < WORDS; word++) {
        bring(&rig, &short_ask, word);
        fakenode_get(rig.node, &before);
        until_failed(&rig, &view);
        if (!strstr(view.why.text, why[word]))
            fail_msg("word %u: %s", word, view.why.text);
        assert_own_point(&rig, &before);
        assert_int_equal(group_part_order(syncrig_part(&rig), orders[word], NULL), -1); /* too late */
    }
    bring(&rig, &short_ask, 4);
    group_part_collect(syncrig_part(&rig));
    rig_down(&rig);
}

static void whoever_gives_it_up_after_any_word_is_heard_at_once(void **state)
{
    struct group_part_view view;
    struct fakenode_facts before;
    struct syncrig rig;

    (void)state;
    rig_up(&rig);
    for (unsigned word = 0; word + 1 < WORDS; word++) {
        uint64_t began;
        bring(&rig, &short_ask, word);
        fakenode_get(rig.node, &before);
        began = clock_mono_usec();
        group_part_abort(syncrig_part(&rig), "the coordinator was lost");
        until_failed(&rig, &view);
        assert_string_equal(view.why.text, "the coordinator was lost");
        assert_true(word == 1 || word == 2 || clock_mono_usec() - began < 5 * USEC_PER_SEC); /* not its own 6 s */
        assert_own_point(&rig, &before);
    }
    rig_down(&rig);
}

static void what_is_committed_carries_the_id(void **state)
{
    struct group_part_view view;
    struct fakenode_facts after;
    struct syncrig rig;

    (void)state;
    rig_up(&rig);
    bring(&rig, &short_ask, 4);
    (void)state_of(&rig, &view);
    group_part_collect(syncrig_part(&rig));
    assert_true(fakenode_wait_committed(rig.node, view.sequence));
    fakenode_get(rig.node, &after);
    assert_int_equal(after.last.sequence, view.sequence);
    assert_true(ident_equal(&after.last.group_point, &short_ask.point));
    assert_int_equal(after.last.kind, MARK_FILESYSTEM);
    rig_down(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shorter_of_policy_and_group_bounds_the_freeze),
        cmocka_unit_test(silence_after_any_word_ends_by_itself),
        cmocka_unit_test(whoever_gives_it_up_after_any_word_is_heard_at_once),
        cmocka_unit_test(what_is_committed_carries_the_id),
    };

    if (!loopdisk_is_possible())
        return 77;
    if (getenv("LEEWARD_TEST"))
        cmocka_set_test_filter(getenv("LEEWARD_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
