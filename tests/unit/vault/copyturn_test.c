/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose turn it is, in a world of its own clock: a line with a rate, threads, other vaults that answer or do not, and passes that want bytes. A copy that is
 * seconds behind has its point within seconds, however many first copies are under way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "transport/base/clock.h"
#include "transport/vault/copyturn.h"

#define MIB (1u << 20)
#define START (1000 * USEC_PER_SEC)
#define COPIES_MAX 300
#define HANGS_USEC (115 * USEC_PER_SEC)
#define LOOK_USEC (50 * USEC_PER_MSEC)

enum stage { STAGE_IDLE, STAGE_LOOK, STAGE_PLACE, STAGE_GATHER };

struct copy {
    struct copyturn turn; /* first */
    enum stage stage;
    bool runs;
    uint64_t left_bytes, ends_usec, brings_bytes, began_usec;
    uint64_t worst_usec; /* that a pass took, up to its end */
    unsigned passes, given_up;
};

struct world {
    struct copyturns ts;
    struct copyturn_source vaults[2];
    struct copy copies[COPIES_MAX];
    unsigned count;
    uint64_t now, rate, line_due_usec; /* rate 0: gathers take as long as they may */
};

static struct world *world_new(unsigned count, uint64_t rate)
{
    struct world *w = calloc(1, sizeof(*w));
    copyturns_init(&w->ts, 5, 64, 16);
    w->ts.sources = 1;
    w->ts.credit_bytes = rate > 0 ? rate : 16 * MIB;
    w->count = count;
    w->now = START;
    w->rate = rate;
    return w;
}

static void pass_begin(struct world *w, struct copy *c, struct copyturn_source *source, uint64_t bytes)
{
    c->left_bytes = bytes;
    c->began_usec = w->now;
    c->stage = STAGE_LOOK;
    copyturn_begin(&w->ts, &c->turn, source);
    copyturn_wait(&w->ts, &c->turn, COPYTURN_LOOK, 0, w->now);
}

static void pass_end(struct world *w, struct copy *c)
{
    c->stage = STAGE_IDLE;
    c->passes++;
    if (w->now - c->began_usec > c->worst_usec)
        c->worst_usec = w->now - c->began_usec;
    copyturn_leave(&w->ts, &c->turn);
}

static void wait_to_gather(struct world *w, struct copy *c)
{
    if (copyturn_yields(&w->ts, &c->turn, w->now)) {
        copyturn_leave(&w->ts, &c->turn);
        c->given_up++;
        c->stage = STAGE_PLACE;
        copyturn_wait(&w->ts, &c->turn, COPYTURN_PLACE, 0, w->now);
        return;
    }
    c->stage = STAGE_GATHER;
    copyturn_wait(&w->ts, &c->turn, COPYTURN_GATHER, w->line_due_usec, w->now);
}

/* A quarter of a second of the line, or what one of five seconds brings. */
static void gather(struct world *w, struct copy *c)
{
    uint64_t grant = w->rate > 0 ? w->rate / 4 : 8 * MIB;
    c->brings_bytes = c->left_bytes < grant ? c->left_bytes : grant;
    if (w->rate > 0 && w->line_due_usec > w->now) { /* somebody was faster */
        c->brings_bytes = 0;
        c->ends_usec = w->now;
        return;
    }
    if (w->rate > 0)
        w->line_due_usec = w->now + c->brings_bytes * USEC_PER_SEC / w->rate;
    c->ends_usec = w->now + (w->rate > 0 ? 10 * USEC_PER_MSEC : c->brings_bytes * 5 * USEC_PER_SEC / (8 * MIB));
}

static void turn_begins(struct world *w, struct copy *c)
{
    if (c->stage == STAGE_PLACE) {
        wait_to_gather(w, c);
        return;
    }
    c->runs = true;
    if (c->turn.source == &w->vaults[1])
        c->ends_usec = w->now + HANGS_USEC;
    else if (c->stage == STAGE_LOOK)
        c->ends_usec = w->now + LOOK_USEC;
    else
        gather(w, c);
}

static void turn_ends(struct world *w, struct copy *c)
{
    bool hung = c->turn.source == &w->vaults[1];
    c->runs = false;
    copyturn_done(&w->ts, &c->turn, c->stage == STAGE_LOOK ? 500 : c->brings_bytes);
    if (hung) {
        w->vaults[1].away = true;
        pass_end(w, c);
    } else if (c->stage == STAGE_LOOK && c->left_bytes > 0) {
        c->stage = STAGE_PLACE;
        copyturn_wait(&w->ts, &c->turn, COPYTURN_PLACE, 0, w->now);
    } else if (c->stage == STAGE_LOOK || (c->left_bytes -= c->brings_bytes) == 0) {
        pass_end(w, c);
    } else {
        wait_to_gather(w, c);
    }
}

static void step(struct world *w)
{
    struct copyturn *t;
    uint64_t due;
    for (unsigned i = 0; i < w->count; i++)
        if (w->copies[i].runs && w->copies[i].ends_usec <= w->now)
            turn_ends(w, &w->copies[i]);
    while ((t = copyturn_next(&w->ts, w->now, true, &due)) != NULL) {
        assert_true(w->ts.looking + w->ts.gathering <= w->ts.threads && w->ts.placed <= w->ts.places);
        turn_begins(w, (struct copy *)t);
    }
    w->now += 5 * USEC_PER_MSEC;
}

/* Copies from `first` on begin a pass of so many bytes each, as often as that, and come to its end each time. */
static void run_small(struct world *w, unsigned first, uint64_t bytes, uint64_t every_usec, unsigned seconds)
{
    for (uint64_t end = w->now + seconds * USEC_PER_SEC; w->now < end; step(w))
        for (unsigned i = first; i < w->count; i++) {
            struct copy *c = &w->copies[i];
            if (c->stage == STAGE_IDLE && w->now >= c->began_usec + every_usec)
                pass_begin(w, c, &w->vaults[0], bytes);
        }
}

static void begin_first_copies(struct world *w, unsigned count, struct copyturn_source *source)
{
    for (unsigned i = 0; i < count; i++) {
        pass_begin(w, &w->copies[i], source, 1ULL << 40);
        w->copies[i].turn.is_long = true;
    }
}

/* ---- the tests ---- */

/* Under a limit of 8 MiB/s, 100 machines that have just begun, and ten that are two seconds behind. */
static void what_is_short_does_not_wait_for_first_copies_under_a_limit(void **state)
{
    struct world *w = world_new(110, 8 * MIB);
    (void)state;
    begin_first_copies(w, 100, &w->vaults[0]);
    run_small(w, 100, 64u << 10, 2 * USEC_PER_SEC, 300);
    for (unsigned i = 100; i < 110; i++) {
        assert_true(w->copies[i].passes > 120);
        assert_true(w->copies[i].worst_usec < 5 * USEC_PER_SEC);
    }
    free(w);
}

static void nor_where_the_line_is_the_limit(void **state)
{
    struct world *w = world_new(110, 0);
    (void)state;
    begin_first_copies(w, 100, &w->vaults[0]);
    run_small(w, 100, 64u << 10, 2 * USEC_PER_SEC, 300);
    for (unsigned i = 100; i < 110; i++) {
        assert_true(w->copies[i].passes > 90);
        assert_true(w->copies[i].worst_usec < 8 * USEC_PER_SEC);
    }
    free(w);
}

/* First copies come on alike, those that had no place at first included; and what is short does not keep them from it. */
static void first_copies_share_what_there_is(void **state)
{
    struct world *w = world_new(110, 8 * MIB);
    uint64_t least = UINT64_MAX, most = 0, all = 0;
    (void)state;
    begin_first_copies(w, 100, &w->vaults[0]);
    run_small(w, 100, 64u << 10, 2 * USEC_PER_SEC, 600);
    for (unsigned i = 0; i < 100; i++) {
        uint64_t had = (1ULL << 40) - w->copies[i].left_bytes;
        least = had < least ? had : least;
        most = had > most ? had : most;
        all += had;
    }
    assert_true(all > 600ULL * 7 * MIB);
    assert_true(least > all / 100 / 2);
    assert_true(most < all / 100 * 2);
    free(w);
}

/* A machine that was quiet for long is not owed what the others had meanwhile. */
static void who_was_idle_has_no_credit(void **state)
{
    struct world *w = world_new(3, 8 * MIB);
    (void)state;
    begin_first_copies(w, 2, &w->vaults[0]);
    run_small(w, 3, 0, USEC_PER_SEC, 300);
    uint64_t before = w->copies[0].left_bytes + w->copies[1].left_bytes;
    pass_begin(w, &w->copies[2], &w->vaults[0], 1ULL << 40);
    run_small(w, 3, 0, USEC_PER_SEC, 30);
    uint64_t others = before - w->copies[0].left_bytes - w->copies[1].left_bytes;
    assert_true(others > 30ULL * 8 * MIB / 2);
    free(w);
}

/* Sixty passes ask a vault that takes two minutes to say nothing. */
static void a_vault_that_hangs_never_has_all_threads(void **state)
{
    struct world *w = world_new(70, 0);
    (void)state;
    w->ts.sources = 2;
    begin_first_copies(w, 60, &w->vaults[1]);
    run_small(w, 60, 64u << 10, 2 * USEC_PER_SEC, 600);
    for (unsigned i = 60; i < 70; i++)
        assert_true(w->copies[i].worst_usec < 4 * USEC_PER_SEC);
    assert_int_equal(w->vaults[1].running, 1); /* it is away: one asks */
    free(w);
}

static void a_pass_keeps_its_place_where_nobody_waits_for_one(void **state)
{
    struct world *w = world_new(48, 8 * MIB);
    (void)state;
    begin_first_copies(w, 48, &w->vaults[0]);
    run_small(w, 48, 0, USEC_PER_SEC, 120);
    for (unsigned i = 0; i < 48; i++)
        assert_true(w->copies[i].given_up == 0);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_short_does_not_wait_for_first_copies_under_a_limit),
        cmocka_unit_test(nor_where_the_line_is_the_limit),
        cmocka_unit_test(first_copies_share_what_there_is),
        cmocka_unit_test(who_was_idle_has_no_credit),
        cmocka_unit_test(a_vault_that_hangs_never_has_all_threads),
        cmocka_unit_test(a_pass_keeps_its_place_where_nobody_waits_for_one),
    };
    return cmocka_run_group_tests_name("copyturn", tests, NULL, NULL);
}
