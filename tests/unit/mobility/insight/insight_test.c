/* SPDX-License-Identifier: Apache-2.0
 *
 * Classes of blocks, the profile, and the alarm with made-up seconds: what raises it and what does not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/insight/blockclass.h"
#include "mobility/insight/classmap.h"
#include "mobility/insight/insight.h"
#include "transport/base/file.h"

#define BLOCK 65536u
#define SEC 1000000ull
#define DAY (24ull * 3600 * SEC)
#define DISK_BYTES (256ull << 20)
#define START_UTC (1790000000ull * SEC) /* begins a minute */

static uint8_t text[BLOCK], noise[BLOCK], zeros[BLOCK], deflated[BLOCK];

static uint64_t random_state = 88172645463325252ull;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static int make_content(void **state)
{
    (void)state;
    for (size_t i = 0; i < BLOCK; i++) {
        text[i] = (uint8_t)("the quick brown fox jumps over the lazy dog, and again "[next_random() % 55]);
        noise[i] = (uint8_t)(next_random() >> 17);
        /* As deflate leaves it: nearly even, with some values a little more often. */
        deflated[i] = (uint8_t)(next_random() >> 21);
        if (next_random() % 16 == 0)
            deflated[i] &= 0x7f;
    }
    return 0;
}

static void pieces_are_told_apart(void **state)
{
    unsigned entropy;

    (void)state;
    assert_int_equal(blockclass_of(text, BLOCK, &entropy), BLOCK_LOW);
    assert_true(entropy > 3000 && entropy < 6000);
    assert_int_equal(blockclass_of(noise, BLOCK, &entropy), BLOCK_UNIFORM);
    assert_true(entropy > 7900);
    assert_int_equal(blockclass_of(deflated, BLOCK, NULL), BLOCK_HIGH);
    assert_int_equal(blockclass_of(zeros, BLOCK, &entropy), BLOCK_UNKNOWN);
    assert_int_equal(entropy, 0);
    assert_int_equal(blockclass_of(noise, 4096, NULL), BLOCK_HIGH); /* too short to be told */
    assert_int_equal(blockclass_of(text, 512, NULL), BLOCK_LOW);
}

static void a_sample_tells_low_from_high(void **state)
{
    (void)state;
    assert_int_equal(blockclass_sampled(text, BLOCK), BLOCK_LOW);
    assert_int_equal(blockclass_sampled(noise, BLOCK), BLOCK_HIGH);
    assert_int_equal(blockclass_sampled(deflated, BLOCK), BLOCK_HIGH);
    assert_int_equal(blockclass_sampled(zeros, BLOCK), BLOCK_UNKNOWN);
}

struct bench {
    char dir[64];
    struct insight *insight;
    uint64_t now;
    struct insight_point made, committed;
};

static void begin(struct bench *b)
{
    struct err err = ERR_INIT;

    *b = (struct bench){.now = START_UTC};
    snprintf(b->dir, sizeof(b->dir), "/tmp/leeward-insight.XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    assert_int_equal(insight_new(b->dir, &b->insight, &err), 0);
    insight_set_disk(b->insight, 0, 7, DISK_BYTES);
    insight_tick(b->insight, b->now, &b->committed);
}

static void end(struct bench *b)
{
    insight_free(b->insight);
    assert_int_equal(file_remove_tree(b->dir, NULL), 0);
}

static void commit(struct bench *b)
{
    b->committed = b->made;
}

/* A point is closed, and committed later. */
static void second_uncommitted(struct bench *b)
{
    b->now += SEC;
    b->made = (struct insight_point){b->made.sequence + 1, b->now - SEC / 2};
    insight_made_point(b->insight, &b->made);
    insight_tick(b->insight, b->now, &b->committed);
}

static void second(struct bench *b)
{
    second_uncommitted(b);
    commit(b);
}

static void put(struct bench *b, unsigned from, unsigned count, const void *data, bool first)
{
    for (unsigned i = from; i < from + count; i++)
        insight_add(b->insight, 0, (uint64_t)i * BLOCK, data, BLOCK, first);
}

static void encrypting_what_was_there_is_an_alarm_once(void **state)
{
    struct insight_alarm a;
    struct bench b;

    (void)state;
    begin(&b);
    put(&b, 0, 1000, text, true);
    for (int i = 0; i < 30; i++)
        second(&b);
    for (unsigned i = 0; i < 10; i++) {
        put(&b, i * 40, 40, noise, false);
        second(&b);
    }
    assert_int_equal(insight_take_alarm(b.insight, &a), 1);
    assert_int_equal(a.disk, 7);
    assert_int_equal(a.began_utc_usec, START_UTC + 30 * SEC);
    assert_int_equal(a.point.sequence, 30);
    assert_int_equal(a.point.utc_usec, START_UTC + 30 * SEC - SEC / 2);
    assert_true(a.turned_bytes >= 128ull * BLOCK);
    assert_non_null(insight_standing(b.insight));
    for (unsigned i = 10; i < 20; i++) {
        put(&b, i * 40, 40, noise, false);
        second(&b);
    }
    assert_int_equal(insight_take_alarm(b.insight, &a), 0);
    for (unsigned i = 0; i < 25 * 60; i++) { /* a day later it is over */
        b.now += 59 * SEC;
        second(&b);
    }
    assert_null(insight_standing(b.insight));
    end(&b);
}

/* A false alarm, or one that was dealt with, and a disk on which a block looks odd every few hours, as with each archive that is downloaded. */
static void odd_blocks_after_an_alarm_do_not_silence_the_next(void **state)
{
    struct insight_alarm a;
    struct bench b;

    (void)state;
    begin(&b);
    put(&b, 0, 3000, text, true);
    for (unsigned i = 0; i < 10; i++) {
        put(&b, i * 40, 40, noise, false);
        second(&b);
    }
    assert_int_equal(insight_take_alarm(b.insight, &a), 1);
    for (unsigned i = 0; i < 20; i++) {
        b.now += DAY / 2;
        put(&b, 1000 + i, 1, noise, false);
        for (int n = 0; n < 150; n++)
            second(&b);
    }
    assert_null(insight_standing(b.insight));
    for (unsigned i = 0; i < 10; i++) {
        put(&b, 2000 + i * 40, 40, noise, false);
        second(&b);
    }
    assert_int_equal(insight_take_alarm(b.insight, &a), 1);
    end(&b);
}

/* Commits lag behind, and points are closed within a bucket of the ring: neither makes it an earlier one than it is. */
static void the_named_point_is_the_last_one_before(void **state)
{
    struct insight_alarm a;
    struct bench b;

    (void)state;
    begin(&b);
    put(&b, 0, 1000, text, true);
    for (int i = 0; i < 30; i++)
        second_uncommitted(&b);
    for (int i = 0; i < 3; i++) { /* three points in no time */
        b.made.sequence++;
        insight_made_point(b.insight, &b.made);
    }
    for (unsigned i = 0; i < 3; i++) {
        put(&b, i * 50, 50, noise, false);
        if (i == 2) {
            commit(&b);
            second(&b);
        } else {
            second_uncommitted(&b);
        }
    }
    assert_int_equal(insight_take_alarm(b.insight, &a), 1);
    assert_int_equal(a.point.sequence, 33);
    end(&b);
}

/* Nobody shall be sent to a point that does not exist. */
static void the_named_point_is_committed(void **state)
{
    struct insight_alarm a;
    struct bench b;

    (void)state;
    begin(&b);
    put(&b, 0, 1000, text, true);
    for (int i = 0; i < 20; i++)
        second(&b);
    for (int i = 0; i < 10; i++)
        second_uncommitted(&b);
    for (unsigned i = 0; i < 3; i++) {
        put(&b, i * 50, 50, noise, false);
        second_uncommitted(&b);
    }
    assert_int_equal(insight_take_alarm(b.insight, &a), 1);
    assert_int_equal(a.point.sequence, 20);
    end(&b);
}

/* Its sequence belongs to another one, which has the encrypted blocks in it. */
static void a_point_that_was_lost_is_not_named(void **state)
{
    struct insight_alarm a;
    struct bench b;

    (void)state;
    begin(&b);
    put(&b, 0, 1000, text, true);
    for (int i = 0; i < 20; i++)
        second(&b);
    for (int i = 0; i < 10; i++)
        second_uncommitted(&b);
    put(&b, 0, 50, noise, false);
    insight_lost_points(b.insight, &b.committed);
    b.made = b.committed;
    for (unsigned i = 1; i < 13; i++) {
        put(&b, i * 50, 50, noise, false);
        second(&b);
    }
    assert_int_equal(insight_take_alarm(b.insight, &a), 1);
    assert_int_equal(a.point.sequence, 20);
    end(&b);
}

/* An archive is written, of which some blocks look random; better points than those from before it must not be passed over. */
static void a_few_odd_blocks_do_not_date_an_attack_back(void **state)
{
    struct insight_alarm a;
    struct bench b;

    (void)state;
    begin(&b);
    put(&b, 0, 2000, text, true);
    for (unsigned i = 0; i < 15; i++) {
        put(&b, 1000 + i * 50, 3, noise, false);
        put(&b, 1003 + i * 50, 47, deflated, false);
        second(&b);
    }
    for (unsigned i = 0; i < 10; i++) {
        put(&b, i * 40, 40, noise, false);
        second(&b);
    }
    assert_int_equal(insight_take_alarm(b.insight, &a), 1);
    assert_int_equal(a.point.sequence, 15);
    end(&b);
}

/* From 0 to 1000 there was this; 40 blocks a second of that are written over it. */
static bool alarms(const void *before, const void *after)
{
    struct insight_alarm a;
    struct bench b;
    bool alarmed = false;

    begin(&b);
    put(&b, 0, 1000, before, true);
    for (unsigned i = 0; i < 25; i++) {
        put(&b, i * 40, 40, after, false);
        second(&b);
        alarmed = alarmed || insight_take_alarm(b.insight, &a);
    }
    end(&b);
    return alarmed;
}

static void everyday_writes_are_none(void **state)
{
    (void)state;
    assert_true(alarms(text, noise));
    assert_false(alarms(text, text));
    assert_false(alarms(text, deflated));
    assert_false(alarms(zeros, noise));
    assert_false(alarms(noise, noise));
    assert_false(alarms(deflated, noise)); /* media and archives were like that before */
}

static void a_few_among_much_else_are_none(void **state)
{
    struct insight_alarm a;
    struct bench b;

    (void)state;
    begin(&b);
    put(&b, 0, 2000, text, true);
    for (unsigned i = 0; i < 40; i++) {
        put(&b, i * 10, 10, noise, false);
        put(&b, 1000 + i * 20, 20, text, false);
        put(&b, 2000 + i * 20, 20, text, false);
        second(&b);
        assert_int_equal(insight_take_alarm(b.insight, &a), 0);
    }
    end(&b);
}

static void what_a_disk_does_all_day_is_its_habit(void **state)
{
    struct insight_alarm a;
    struct bench b;
    bool late = false;

    (void)state;
    begin(&b);
    /* A job that writes text and encrypts it a while later, slowly; in the end that is no news. */
    for (unsigned i = 0; i < 3600; i++) {
        put(&b, i % 2 * 500 + i % 500, 1, i / 500 % 2 ? (const void *)noise : text, false);
        second(&b);
        late = insight_take_alarm(b.insight, &a) && i > 1800;
        assert_false(late);
    }
    end(&b);
}

/* As long as that nothing is read, then all at once, and a point. */
static void stretch(struct bench *b, uint64_t seconds, unsigned from, unsigned count, const void *data)
{
    for (uint64_t n = 1; n < seconds; n++) {
        b->now += SEC;
        insight_tick(b->insight, b->now, &b->committed);
    }
    put(b, from, count, data, false);
    second(b);
}

static bool is_alarm(struct bench *b)
{
    struct insight_alarm a;

    return insight_take_alarm(b->insight, &a) == 1;
}

static void begin_far_apart(struct bench *b, uint64_t interval_usec)
{
    begin(b);
    insight_set_interval(b->insight, interval_usec);
    put(b, 0, 2000, text, true);
    second(b);
}

static void one_look_a_day_is_enough(void **state)
{
    struct insight_alarm a;
    struct bench b;
    uint64_t before_utc;

    (void)state;
    begin_far_apart(&b, DAY);
    stretch(&b, DAY / SEC, 0, 500, text);
    before_utc = b.made.utc_usec;
    stretch(&b, DAY / SEC, 0, 400, noise);
    assert_int_equal(insight_take_alarm(b.insight, &a), 1);
    assert_int_equal(a.point.sequence, 2);
    assert_int_equal(a.began_utc_usec, before_utc);
    assert_int_equal(a.turned_bytes, 400ull * BLOCK);
    assert_non_null(insight_standing(b.insight));
    end(&b);
}

static void a_minute_between_points_is_far_too(void **state)
{
    struct bench b;

    (void)state;
    begin_far_apart(&b, 60 * SEC);
    stretch(&b, 60, 0, 200, noise);
    assert_true(is_alarm(&b));
    end(&b);
}

/* With the second point the rest of it is read, and names the one that has nothing. */
static void an_attack_across_a_point_names_the_one_before(void **state)
{
    struct insight_alarm a;
    struct bench b;

    (void)state;
    begin_far_apart(&b, 3600 * SEC);
    stretch(&b, 3600, 1000, 500, text);
    stretch(&b, 3600, 0, 60, noise);
    assert_false(is_alarm(&b));
    stretch(&b, 3600, 60, 300, noise);
    assert_int_equal(insight_take_alarm(b.insight, &a), 1);
    assert_int_equal(a.point.sequence, 2);
    end(&b);
}

static void far_apart_little_or_among_much_else_is_none(void **state)
{
    struct bench b;

    (void)state;
    begin_far_apart(&b, 3600 * SEC);
    stretch(&b, 3600, 0, 120, noise);
    assert_false(is_alarm(&b));
    put(&b, 120, 150, noise, false);
    stretch(&b, 3600, 1000, 500, text);
    assert_false(is_alarm(&b));
    end(&b);
}

/* What is encrypted each hour among much else is no news in an hour without anything else. */
static void far_apart_there_is_a_habit_too(void **state)
{
    struct bench b;

    (void)state;
    begin_far_apart(&b, 3600 * SEC);
    for (int i = 0; i < 20; i++) {
        put(&b, 0, 700, text, false);
        stretch(&b, 3600, 0, 150, noise);
    }
    assert_false(is_alarm(&b));
    stretch(&b, 3600, 150, 150, noise);
    assert_false(is_alarm(&b));
    stretch(&b, 3600, 300, 400, noise);
    assert_true(is_alarm(&b));
    end(&b);
}

/* One burst is none where points are close together, or would be but for an outage. */
static void one_look_is_not_enough_at_short_intervals(void **state)
{
    struct bench b;

    (void)state;
    begin_far_apart(&b, SEC);
    stretch(&b, 600, 0, 400, noise);
    assert_false(is_alarm(&b));
    end(&b);
    begin_far_apart(&b, DAY);
    stretch(&b, 20, 0, 400, noise); /* asked for */
    assert_false(is_alarm(&b));
    end(&b);
}

static void classes_outlive_the_agent(void **state)
{
    struct err err = ERR_INIT;
    struct insight_alarm a;
    struct bench b;

    (void)state;
    begin(&b);
    put(&b, 0, 1000, text, true);
    insight_free(b.insight);
    assert_int_equal(insight_new(b.dir, &b.insight, &err), 0);
    insight_set_disk(b.insight, 0, 7, DISK_BYTES);
    for (unsigned i = 0; i < 10; i++) {
        put(&b, i * 40, 40, noise, false);
        second(&b);
    }
    assert_int_equal(insight_take_alarm(b.insight, &a), 1);
    end(&b);
}

static void a_minute_is_summed_up(void **state)
{
    struct insight_minute m;
    struct bench b;

    (void)state;
    begin(&b);
    put(&b, 0, 10, text, true);
    put(&b, 0, 5, text, false);
    put(&b, 5, 5, noise, false);
    assert_int_equal(insight_take_minute(b.insight, &m), 0);
    for (int i = 0; i < 60; i++)
        second(&b);
    assert_int_equal(insight_take_minute(b.insight, &m), 1);
    assert_int_equal(m.disk, 7);
    assert_int_equal(m.minute_utc_usec, START_UTC / (60 * SEC) * 60 * SEC);
    assert_int_equal(m.changed_bytes, 10 * BLOCK);
    assert_int_equal(m.incompressible_bytes, 5 * BLOCK);
    assert_int_equal(m.turned_bytes, 5 * BLOCK);
    assert_true(m.entropy_millibits > 5000 && m.entropy_millibits < 7500);
    assert_int_equal(insight_take_minute(b.insight, &m), 0);
    end(&b);
}

static void a_disk_may_grow(void **state)
{
    struct classmap *m;
    struct err err = ERR_INIT;
    char path[] = "/tmp/leeward-classes.XXXXXX";

    (void)state;
    close(mkstemp(path));
    assert_int_equal(classmap_open(path, BLOCK * 3 + 512, &m, &err), 0);
    classmap_set(m, BLOCK * 3, BLOCK_UNIFORM);
    classmap_set(m, BLOCK * 2, BLOCK_LOW);
    classmap_set(m, BLOCK * 4, BLOCK_HIGH); /* beyond the end */
    assert_int_equal(classmap_get(m, BLOCK * 4), BLOCK_UNKNOWN);
    classmap_close(m);
    assert_int_equal(classmap_open(path, BLOCK * 100, &m, &err), 0);
    assert_int_equal(classmap_get(m, BLOCK * 3 + 100), BLOCK_UNIFORM);
    assert_int_equal(classmap_get(m, BLOCK * 2), BLOCK_LOW);
    assert_int_equal(classmap_get(m, BLOCK * 99), BLOCK_UNKNOWN);
    assert_int_equal(classmap_get(m, UINT64_MAX), BLOCK_UNKNOWN);
    classmap_set(m, UINT64_MAX, BLOCK_LOW);
    classmap_close(m);
    unlink(path);
}

/* A file that is mapped or open for writing would keep its file system from being held still. */
static bool is_in_use(const char *path)
{
    char link[64], file[300];
    ssize_t n;
    bool found = false;
    FILE *f = fopen("/proc/self/maps", "re");

    while (f && fgets(file, sizeof(file), f))
        found = found || strstr(file, path);
    assert_non_null(f);
    (void)fclose(f);
    for (int fd = 0; fd < 64; fd++) {
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, file, sizeof(file) - 1);
        file[n > 0 ? n : 0] = '\0';
        found = found || strcmp(file, path) == 0;
    }
    return found;
}

static void a_save_is_what_a_killed_agent_leaves(void **state)
{
    struct classmap *m, *next;
    struct err err = ERR_INIT;
    char dir[] = "/tmp/leeward-classes.XXXXXX", away[40], path[40];

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/classes", dir);
    (void)snprintf(away, sizeof(away), "%s.away", dir);
    assert_int_equal(classmap_open(path, BLOCK * 100000ull, &m, &err), 0);
    assert_int_equal(classmap_save(m, &err), 0);
    assert_int_equal(access(path, F_OK), -1); /* nothing was to be written */
    classmap_set(m, 0, BLOCK_LOW);
    classmap_set(m, BLOCK * 99999ull, BLOCK_HIGH);
    assert_int_equal(rename(dir, away), 0);
    assert_int_equal(classmap_save(m, &err), -1);
    assert_int_equal(rename(away, dir), 0);
    assert_int_equal(classmap_save(m, &err), 0);
    classmap_set(m, 0, BLOCK_HIGH); /* after it */
    assert_false(is_in_use(path));
    assert_int_equal(classmap_open(path, BLOCK * 100000ull, &next, &err), 0);
    assert_int_equal(classmap_get(next, 0), BLOCK_LOW);
    assert_int_equal(classmap_get(next, BLOCK * 50000ull), BLOCK_UNKNOWN);
    assert_int_equal(classmap_get(next, BLOCK * 99999ull), BLOCK_HIGH);
    classmap_close(next);
    classmap_close(m);
    assert_int_equal(file_remove_tree(dir, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_told_apart),
        cmocka_unit_test(a_sample_tells_low_from_high),
        cmocka_unit_test(encrypting_what_was_there_is_an_alarm_once),
        cmocka_unit_test(odd_blocks_after_an_alarm_do_not_silence_the_next),
        cmocka_unit_test(the_named_point_is_the_last_one_before),
        cmocka_unit_test(the_named_point_is_committed),
        cmocka_unit_test(a_point_that_was_lost_is_not_named),
        cmocka_unit_test(a_few_odd_blocks_do_not_date_an_attack_back),
        cmocka_unit_test(everyday_writes_are_none),
        cmocka_unit_test(a_few_among_much_else_are_none),
        cmocka_unit_test(what_a_disk_does_all_day_is_its_habit),
        cmocka_unit_test(one_look_a_day_is_enough),
        cmocka_unit_test(a_minute_between_points_is_far_too),
        cmocka_unit_test(an_attack_across_a_point_names_the_one_before),
        cmocka_unit_test(far_apart_little_or_among_much_else_is_none),
        cmocka_unit_test(far_apart_there_is_a_habit_too),
        cmocka_unit_test(one_look_is_not_enough_at_short_intervals),
        cmocka_unit_test(classes_outlive_the_agent),
        cmocka_unit_test(a_minute_is_summed_up),
        cmocka_unit_test(a_disk_may_grow),
        cmocka_unit_test(a_save_is_what_a_killed_agent_leaves),
    };

    return cmocka_run_group_tests(tests, make_content, NULL);
}
