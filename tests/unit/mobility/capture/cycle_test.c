/* SPDX-License-Identifier: Apache-2.0
 *
 * The consistency engine over a world made of arrays: a disk of numbered blocks, a clock, and a script of what happens to them
 * at each drain, read and freeze. What a drain takes, what a window is and what each bound does can then be said exactly.
 */
#include "mobility/capture/cycle.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#define BLOCK 4096u
#define BLOCKS 64u

struct world {
    struct cycle *cycle;
    uint8_t disk[BLOCKS]; /* the content of a block is one byte, repeated */
    uint8_t image[BLOCKS];
    bool dirty[BLOCKS];
    unsigned deliveries[BLOCKS];
    uint64_t barriers, now;
    bool countable, is_frozen, drains_are_long;
    unsigned drains, reads, freezes, thaws;
    /* Behaviour of a writer outside: */
    void (*while_reading)(struct world *w);
    void (*before_drain)(struct world *w);
    bool stops_when_frozen;
    int freeze_result;
    bool gives_up;
    unsigned flushes, flushed_after; /* the flush is over at this ask, and wrote 20 blocks */
    uint64_t bad_block;              /* unreadable; BLOCKS: none */
    unsigned sink_fails_at, sunk;
    bool cancel;
    /* The other machines of a group: */
    unsigned asks, go_after; /* the freeze is ordered at this ask; 0: never */
    bool group_misses, nothing_to_freeze, others_fail;
    void (*until_frozen)(struct world *w);
    void (*while_held)(struct world *w);
};

static void change(struct world *w, unsigned block)
{
    w->disk[block]++;
    w->dirty[block] = true;
}

static bool is_writing(const struct world *w)
{
    return !(w->is_frozen && w->stops_when_frozen);
}

static int part_drain(void *arg, unsigned disk, struct dirty *round, uint64_t *ret_granules, struct err *err)
{
    struct world *w = arg;

    (void)disk;
    w->drains++;
    if (w->before_drain && is_writing(w))
        w->before_drain(w);
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (!w->dirty[i])
            continue;
        w->dirty[i] = false;
        ++*ret_granules;
        if (dirty_set(round, (uint64_t)i * BLOCK, BLOCK, err) < 0)
            return -1;
    }
    return 0;
}

static uint64_t part_barriers(void *arg)
{
    return ((struct world *)arg)->barriers;
}

static bool part_countable(void *arg)
{
    return ((struct world *)arg)->countable;
}

static bool part_drains_are_long(void *arg)
{
    return ((struct world *)arg)->drains_are_long;
}

static int part_read(
    void *arg, unsigned disk, const struct dirty *set, reader_sink sink, void *sink_arg, struct err *err)
{
    struct world *w = arg;
    uint64_t cursor = 0, start, length;
    uint8_t data[BLOCK];

    w->reads++;
    while (dirty_next(set, &cursor, BLOCK, &start, &length)) {
        struct reader_piece p = {.disk = disk, .start = start, .length = (uint32_t)length, .data = data};
        memset(data, w->disk[start / BLOCK], BLOCK);
        if (start / BLOCK == w->bad_block)
            p.data = NULL;
        w->now += 10;
        if (sink(sink_arg, &p, err) < 0)
            return -1;
    }
    if (w->while_reading && is_writing(w))
        w->while_reading(w);
    return 0;
}

static int part_flush(void *arg)
{
    struct world *w = arg;

    assert_false(w->is_frozen);
    if (++w->flushes < w->flushed_after)
        return 0;
    for (unsigned i = 0; i < 20; i++)
        change(w, i);
    return 1;
}

static int part_freeze(void *arg, struct err *err)
{
    struct world *w = arg;

    w->freezes++;
    if (w->freeze_result < 0)
        return err_set(err, ERR_TIMEOUT, "too slow");
    if (w->nothing_to_freeze)
        return 1;
    w->is_frozen = true;
    return 0;
}

static int part_thaw(void *arg, uint64_t *ret_usec, bool *ret_gave_up, struct err *err)
{
    struct world *w = arg;

    (void)err;
    w->thaws++;
    w->is_frozen = false;
    *ret_usec = 30000;
    *ret_gave_up = w->gives_up;
    return 0;
}

static uint64_t part_mono(void *arg)
{
    return ++((struct world *)arg)->now;
}

static uint64_t part_utc(void *arg)
{
    return 1000000000 + ((struct world *)arg)->now;
}

static int sink(void *arg, const struct reader_piece *p, struct err *err)
{
    struct world *w = arg;

    assert_false(w->is_frozen); /* nothing waits for a sink in a freeze */
    if (w->sink_fails_at && ++w->sunk >= w->sink_fails_at)
        return err_set(err, ERR_NOSPACE, "full");
    if (!p->data)
        return 0;
    w->image[p->start / BLOCK] = *(const uint8_t *)p->data;
    w->deliveries[p->start / BLOCK]++;
    return 0;
}

static bool is_cancelled(void *arg)
{
    return ((struct world *)arg)->cancel;
}

static int group_may_freeze(void *arg)
{
    struct world *w = arg;

    w->now += 1000000;
    if (w->group_misses)
        return -1;
    return ++w->asks == w->go_after;
}

static int group_frozen(void *arg)
{
    struct world *w = arg;

    if (w->until_frozen && is_writing(w))
        w->until_frozen(w);
    return w->others_fail ? -1 : 0;
}

static int group_hold(void *arg)
{
    struct world *w = arg;

    if (w->while_held && is_writing(w))
        w->while_held(w);
    return 0;
}

static void begin(struct world *w, int (*flush)(void *arg))
{
    const struct cycle_parts parts = {.arg = w,
        .disk_count = 1,
        .drain = part_drain,
        .barriers = part_barriers,
        .barriers_are_countable = part_countable,
        .drains_are_long = part_drains_are_long,
        .read = part_read,
        .flush = flush,
        .freeze = part_freeze,
        .thaw = part_thaw,
        .mono_usec = part_mono,
        .utc_usec = part_utc};

    cycle_free(w->cycle);
    assert_int_equal(cycle_new(&parts, &w->cycle, NULL), 0);
    assert_int_equal(cycle_set_disk(w->cycle, 0, BLOCKS * BLOCK, 12, NULL), 0);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    w->countable = true;
    w->stops_when_frozen = true;
    w->bad_block = BLOCKS;
    begin(w, NULL);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    cycle_free(w->cycle);
    free(w);
    return 0;
}

static struct cycle_result run(struct world *w, struct cycle_options options)
{
    struct cycle_result result;
    struct err err = ERR_INIT;

    options.cancelled = is_cancelled;
    options.cancelled_arg = w;
    if (cycle_run(w->cycle, &options, sink, w, &result, &err) < 0)
        fail_msg("%s", err.text);
    return result;
}

static void expect_image(const struct world *w)
{
    assert_memory_equal(w->image, w->disk, BLOCKS);
}

/* --- windows ----------------------------------------------------------------------------------------------------------- */

static void test_nothing_changed_is_a_point(void **state)
{
    struct world *w = *state;
    struct cycle_result r = run(w, (struct cycle_options){.want = CYCLE_CRASH});

    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_int_equal(r.rounds, 0);
    assert_int_equal(w->reads, 0);
}

static void count_at_three_drains(struct world *w)
{
    w->barriers += w->drains <= 3;
}

/* What came and went while a long drain looked elsewhere is not in it, and the blocks that it found as they were read are of no one moment. */
static void test_a_long_drain_that_finds_nothing_is_a_point_only_if_nothing_was_written(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    w->drains_are_long = true;
    w->before_drain = count_at_three_drains;
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH});
    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_int_equal(w->drains, 4);
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH});
    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_int_equal(w->drains, 5);
    w->countable = false;
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH});
    assert_int_equal(r.outcome, CYCLE_NO_POINT);
}

static void test_a_round_without_a_barrier_is_the_last(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    change(w, 40);
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH});
    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_false(r.frozen);
    assert_int_equal(r.rounds, 1);
    assert_int_equal(r.bytes_read, 2 * BLOCK);
    assert_int_equal(r.bytes_delivered, 2 * BLOCK);
    assert_true(r.held_utc_usec >= 1000000000 && r.window_usec > 0);
    expect_image(w);
}

static void write_and_flush_twice(struct world *w)
{
    if (w->reads > 2)
        return;
    change(w, 7);
    w->barriers++;
}

static void test_a_barrier_in_a_round_asks_for_another(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    w->while_reading = write_and_flush_twice;
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH});
    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_int_equal(r.rounds, 3);
    assert_int_equal(r.tries, 2);
    assert_int_equal(w->freezes, 0);
    expect_image(w);
}

static void write_only(struct world *w)
{
    change(w, 9);
}

static void test_writes_without_barriers_do_not_spoil_a_window(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    w->while_reading = write_only;
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH});
    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_int_equal(r.rounds, 1);
    assert_true(w->dirty[9]); /* for the next point */
}

static void barrier_at_drain(struct world *w)
{
    if (w->drains == 1)
        w->barriers++;
}

static void test_the_count_is_taken_before_the_drain(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    w->before_drain = barrier_at_drain; /* after the count was read: this round must not pass */
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH});
    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_int_equal(w->drains, 2);
}

static void test_without_countable_barriers_a_quiet_round_is_needed(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    w->countable = false;
    change(w, 3);
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH});
    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_int_equal(w->drains, 2); /* the second one found nothing */
    expect_image(w);
}

static void test_without_countable_barriers_writes_spoil_every_round(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    w->countable = false;
    change(w, 3);
    w->while_reading = write_only;
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH, .tries = 5});
    assert_int_equal(r.outcome, CYCLE_NO_POINT);
    assert_non_null(r.reason);
    assert_int_equal(r.tries, 5);
}

/* --- bounds and fallbacks ------------------------------------------------------------------------------------------------ */

static void write_and_flush(struct world *w)
{
    change(w, 7);
    w->barriers++;
}

static void test_tries_are_bounded(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    w->while_reading = write_and_flush;
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH, .tries = 4});
    assert_int_equal(r.outcome, CYCLE_NO_POINT);
    assert_int_equal(r.rounds, 4);
    assert_int_equal(w->freezes, 0);
}

static void test_a_freeze_is_the_way_out_where_allowed(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    w->while_reading = write_and_flush;
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH, .tries = 4, .may_freeze = true});
    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_true(r.frozen);
    assert_int_equal(r.freeze_usec, 30000);
    assert_int_equal(w->thaws, 1);
    assert_null(r.reason);
    expect_image(w);
}

static void test_a_file_system_point_freezes(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    r = run(w, (struct cycle_options){.want = CYCLE_FILESYSTEM});
    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_true(r.frozen);
    assert_int_equal(w->freezes, 1);
    assert_int_equal(w->thaws, 1);
    expect_image(w);
}

static void test_a_freeze_that_fails_leaves_a_window(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    w->freeze_result = -1;
    r = run(w, (struct cycle_options){.want = CYCLE_FILESYSTEM});
    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_false(r.frozen);
    assert_non_null(r.reason);
    assert_int_equal(r.freeze_error.code, ERR_TIMEOUT);
    assert_int_equal(w->thaws, 0);
}

static void test_a_freeze_that_ran_out_is_not_called_frozen(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    w->gives_up = true;
    r = run(w, (struct cycle_options){.want = CYCLE_FILESYSTEM});
    assert_false(r.frozen);
    assert_true(r.freeze_gave_up);
    assert_non_null(r.reason);
}

static void many_at_drain(struct world *w)
{
    if (w->drains == 2) /* the drain inside the freeze */
        for (unsigned i = 0; i < 20; i++)
            change(w, i);
}

static void test_too_large_a_last_set_ends_the_freeze(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    w->stops_when_frozen = false;
    w->before_drain = many_at_drain;
    change(w, 3);
    r = run(w, (struct cycle_options){.want = CYCLE_FILESYSTEM, .freeze_bytes = 10 * BLOCK});
    assert_int_equal(w->thaws, 1);
    assert_false(r.frozen);
    assert_non_null(r.reason);
    assert_int_equal(r.outcome, CYCLE_POINT); /* by a window after it */
    expect_image(w);
}

/* What was in memory only would all be read inside the freeze. */
static void test_what_a_freeze_would_flush_is_read_before_it(void **state)
{
    static const enum cycle_want wants[] = {CYCLE_FILESYSTEM, CYCLE_CRASH};
    struct world *w = *state;

    begin(w, part_flush);
    for (unsigned i = 0; i < 2; i++) {
        struct cycle_result r;

        w->flushes = 0;
        w->flushed_after = 3;
        w->while_reading = wants[i] == CYCLE_CRASH ? write_and_flush : NULL;
        change(w, 30);
        r = run(
            w, (struct cycle_options){.want = wants[i], .may_freeze = true, .tries = 2, .freeze_bytes = 10 * BLOCK});
        assert_int_equal(w->flushes, 3);
        assert_true(r.outcome == CYCLE_POINT && r.frozen);
        assert_int_equal(w->freezes, i + 1);
        expect_image(w);
    }
}

/* Applications would be held still, and then wait for the flush with everybody else. */
static void test_nothing_is_frozen_before_the_flush_has_ended(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    begin(w, part_flush);
    w->flushed_after = UINT_MAX;
    change(w, 30);
    r = run(w, (struct cycle_options){.want = CYCLE_FILESYSTEM, .live_usec = 1000});
    assert_int_equal(w->freezes, 0);
    assert_true(r.outcome == CYCLE_POINT && !r.frozen); /* by a window after it */
    assert_string_equal(r.reason, "the file systems take too long to flush");
    expect_image(w);
    w->while_reading = write_and_flush;
    change(w, 30);
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH, .may_freeze = true, .tries = 2, .live_usec = 1000});
    assert_int_equal(w->freezes, 0);
    assert_int_equal(r.outcome, CYCLE_NO_POINT);
    assert_string_equal(r.reason, "the file systems take too long to flush");
}

static void change_much(struct world *w)
{
    for (unsigned i = 0; i < 20; i++)
        change(w, 20 + i);
    w->barriers++;
}

/* A disk whose rounds never get small is flushed before its freeze all the same. */
static void test_a_busy_disk_is_flushed_before_it_is_frozen(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    begin(w, part_flush);
    w->flushed_after = 3;
    w->while_reading = change_much;
    change_much(w);
    r = run(w, (struct cycle_options){.want = CYCLE_FILESYSTEM, .small_bytes = BLOCK, .live_usec = 1000});
    assert_int_equal(w->flushes, 3);
    assert_int_equal(w->freezes, 1);
    assert_true(r.outcome == CYCLE_POINT && r.frozen);
    expect_image(w);
}

static void test_raw_writers_are_noticed_in_a_freeze(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    w->stops_when_frozen = false;
    w->while_reading = write_and_flush;
    r = run(w, (struct cycle_options){.want = CYCLE_FILESYSTEM, .tries = 3});
    assert_false(r.frozen);
    assert_int_equal(r.outcome, CYCLE_NO_POINT);
    assert_int_equal(w->thaws, 1);
}

/* --- delivery ------------------------------------------------------------------------------------------------------------- */

static void test_only_the_last_content_of_a_held_block_is_delivered(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 7);
    w->while_reading = write_and_flush_twice;
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH});
    assert_int_equal(r.rounds, 3);
    assert_int_equal(r.bytes_read, 3 * BLOCK);
    assert_int_equal(w->deliveries[7], 1);
    expect_image(w);
}

static void test_a_round_that_does_not_fit_is_streamed(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    for (unsigned i = 0; i < BLOCKS; i++)
        change(w, i);
    w->while_reading = write_and_flush_twice;
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH, .hold_bytes = 8 * BLOCK});
    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_int_equal(w->deliveries[0], 1);
    assert_true(w->deliveries[7] >= 2);
    expect_image(w);
}

static void test_unreadable_blocks_are_counted_and_the_rest_is_a_point(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    change(w, 4);
    w->bad_block = 3;
    r = run(w, (struct cycle_options){.want = CYCLE_CRASH});
    assert_int_equal(r.outcome, CYCLE_POINT);
    assert_int_equal(r.unreadable_bytes, BLOCK);
    assert_int_equal(w->image[4], w->disk[4]);
}

static void test_a_failing_sink_ends_the_cycle_and_the_next_one_works(void **state)
{
    struct world *w = *state;
    struct cycle_options options = {.want = CYCLE_CRASH};
    struct cycle_result result;
    struct err err = ERR_INIT;

    change(w, 3);
    change(w, 4);
    w->sink_fails_at = 2;
    assert_int_equal(cycle_run(w->cycle, &options, sink, w, &result, &err), -1);
    assert_int_equal(err.code, ERR_NOSPACE);
    w->sink_fails_at = 0;
    w->dirty[3] = w->dirty[4] = true; /* the caller's pending set */
    (void)run(w, options);
    expect_image(w);
}

static void test_it_can_be_cancelled(void **state)
{
    struct world *w = *state;
    struct cycle_options options = {.want = CYCLE_CRASH, .cancelled = is_cancelled, .cancelled_arg = w};
    struct cycle_result result;
    struct err err = ERR_INIT;

    w->cancel = true;
    assert_int_equal(cycle_run(w->cycle, &options, sink, w, &result, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
}

/* --- together with other machines --------------------------------------------------------------------------------------- */

static struct cycle_result run_group(struct world *w)
{
    const struct cycle_group group = {
        .arg = w, .may_freeze = group_may_freeze, .frozen = group_frozen, .hold = group_hold};

    return run(w, (struct cycle_options){.want = CYCLE_GROUP, .group = &group});
}

static void test_a_group_point_freezes_when_all_may(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    w->go_after = 4;
    w->before_drain = write_only;
    r = run_group(w);
    assert_true(r.held && r.frozen && r.outcome == CYCLE_POINT);
    assert_int_equal(w->freezes, 1);
    assert_int_equal(w->asks, 4);
    assert_int_equal(r.rounds, 5); /* it stayed small while it waited */
    expect_image(w);
}

static void test_without_a_word_of_the_group_nothing_is_frozen(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    w->before_drain = write_only;
    r = run_group(w);
    assert_int_equal(w->freezes, 0);
    assert_true(r.outcome == CYCLE_POINT && !r.held && !r.frozen);
}

static void test_a_missed_group_point_leaves_an_own_one(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    w->group_misses = true;
    w->before_drain = write_only;
    r = run_group(w);
    assert_int_equal(w->freezes, 0);
    assert_true(r.outcome == CYCLE_POINT && !r.held);
}

static void test_a_freeze_that_ran_out_is_not_held(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    w->go_after = 1;
    w->gives_up = true;
    r = run_group(w);
    assert_true(r.outcome == CYCLE_POINT && !r.held && !r.frozen);
}

static void test_raw_disks_are_held_by_their_window(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    w->go_after = 1;
    w->nothing_to_freeze = true;
    r = run_group(w);
    assert_true(r.held && !r.frozen);
    assert_int_equal(w->thaws, 0);
    expect_image(w);
}

static void test_what_comes_until_all_are_frozen_spoils_nothing(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    w->go_after = 1;
    w->nothing_to_freeze = true;
    w->until_frozen = write_and_flush;
    r = run_group(w);
    assert_true(r.held);
    expect_image(w);
}

static void test_a_machine_whose_group_did_not_freeze_keeps_its_own_point(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    w->go_after = 1;
    w->others_fail = true;
    r = run_group(w);
    assert_true(r.outcome == CYCLE_POINT && r.frozen && !r.held);
    expect_image(w);
}

static void test_a_barrier_before_all_have_read_spoils_a_raw_disk(void **state)
{
    struct world *w = *state;
    struct cycle_result r;

    change(w, 3);
    w->go_after = 1;
    w->nothing_to_freeze = true;
    w->while_held = write_and_flush; /* the image of another machine may know of it */
    r = run_group(w);
    assert_false(r.held);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_changed_is_a_point),
        TEST(test_a_long_drain_that_finds_nothing_is_a_point_only_if_nothing_was_written),
        TEST(test_a_round_without_a_barrier_is_the_last),
        TEST(test_a_barrier_in_a_round_asks_for_another),
        TEST(test_writes_without_barriers_do_not_spoil_a_window),
        TEST(test_the_count_is_taken_before_the_drain),
        TEST(test_without_countable_barriers_a_quiet_round_is_needed),
        TEST(test_without_countable_barriers_writes_spoil_every_round),
        TEST(test_tries_are_bounded),
        TEST(test_a_freeze_is_the_way_out_where_allowed),
        TEST(test_a_file_system_point_freezes),
        TEST(test_a_freeze_that_fails_leaves_a_window),
        TEST(test_a_freeze_that_ran_out_is_not_called_frozen),
        TEST(test_too_large_a_last_set_ends_the_freeze),
        TEST(test_what_a_freeze_would_flush_is_read_before_it),
        TEST(test_nothing_is_frozen_before_the_flush_has_ended),
        TEST(test_a_busy_disk_is_flushed_before_it_is_frozen),
        TEST(test_raw_writers_are_noticed_in_a_freeze),
        TEST(test_only_the_last_content_of_a_held_block_is_delivered),
        TEST(test_a_round_that_does_not_fit_is_streamed),
        TEST(test_unreadable_blocks_are_counted_and_the_rest_is_a_point),
        TEST(test_a_failing_sink_ends_the_cycle_and_the_next_one_works),
        TEST(test_it_can_be_cancelled),
        TEST(test_a_group_point_freezes_when_all_may),
        TEST(test_without_a_word_of_the_group_nothing_is_frozen),
        TEST(test_a_missed_group_point_leaves_an_own_one),
        TEST(test_a_freeze_that_ran_out_is_not_held),
        TEST(test_raw_disks_are_held_by_their_window),
        TEST(test_what_comes_until_all_are_frozen_spoils_nothing),
        TEST(test_a_machine_whose_group_did_not_freeze_keeps_its_own_point),
        TEST(test_a_barrier_before_all_have_read_spoils_a_raw_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
