/* SPDX-License-Identifier: Apache-2.0
 *
 * Change sets that several threads compress are, byte by byte, those that one thread makes: same records, same order, same digest in the
 * mark.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mobility/sync/changeset.h"
#include "mobility/sync/sealpool.h"
#include "tests/unit/mobility/sync/runninglink.h"

#define PIECES 300
#define LINK_BYTES (256u << 20)

/* The i-th piece: text, random bytes, zeros, and short ones, from a generator that always gives the same. */
static uint32_t piece(unsigned i, uint8_t data[65536])
{
    uint32_t length = i % 5 == 4 ? 4096 : 65536, x = i * 2654435761u + 1;

    for (uint32_t at = 0; at < length; at++) {
        x = x * 1664525 + 1013904223;
        data[at] = i % 4 == 3 ? 0 : (uint8_t)(x >> (i % 4 == 2 ? 24 : 30));
    }
    return length;
}

static int add(struct changeset *s, unsigned i, struct err *err)
{
    static uint8_t data[65536];
    uint32_t length = piece(i, data);

    return changeset_add(s, 1 + i % 2, (uint64_t)i * 65536, data, length, err);
}

static int add_all(struct changeset *s, unsigned from, unsigned end, struct err *err)
{
    int r = 0;

    for (unsigned i = from; i < end && r == 0; i++)
        r = add(s, i, err);
    return r < 0 ? -1 : changeset_close(s, MARK_CRASH, 0, 1000000, "tag", NULL, err);
}

/* Everything on the link, one behind the other. */
static void take_batches(struct uplink *l, struct buf *all)
{
    struct err err = ERR_INIT;
    uint64_t closes;

    for (;;) {
        struct buf batch AUTO_BUF = BUF_INIT(0);
        if (uplink_pop(l, &batch, &closes) == 0)
            return;
        assert_true(batch.len <= CHANGESET_BATCH_BYTES + 2 * 65536);
        assert_int_equal(buf_append(all, batch.data, batch.len, &err), 0);
    }
}

struct made {
    struct uplink *link;
    struct changeset *set;
    struct buf bytes;
};

static void begin(struct made *m, unsigned threads)
{
    const struct mark frame = {.generation = 1,
        .epoch = 1,
        .disk_count = 1,
        .disks = {{.number = 1, .sector_bytes = 512, .size_bytes = 1u << 30, .name = "sda"}}};
    struct err err = ERR_INIT;

    *m = (struct made){.link = runninglink_new(LINK_BYTES)};
    buf_init(&m->bytes, LINK_BYTES);
    assert_int_equal(changeset_new(m->link, &m->set, &err), 0);
    changeset_set_frame(m->set, &frame);
    changeset_set_level(m->set, 1);
    changeset_set_threads(m->set, threads, 1);
}

static void end(struct made *m)
{
    changeset_free(m->set);
    uplink_free(m->link);
    buf_done(&m->bytes);
}

static void expect_same(struct made *one, struct made *several)
{
    take_batches(one->link, &one->bytes);
    take_batches(several->link, &several->bytes);
    assert_int_equal(one->bytes.len, several->bytes.len);
    assert_memory_equal(one->bytes.data, several->bytes.data, one->bytes.len);
}

static void several_threads_make_what_one_makes(void **state)
{
    static const unsigned threads[] = {1, 3, SEALPOOL_THREADS_MAX, 1000};
    struct err err = ERR_INIT;
    struct made one, several;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        begin(&one, 0);
        begin(&several, threads[i]);
        assert_int_equal(add_all(one.set, 0, PIECES, &err), 0);
        assert_int_equal(add_all(several.set, 0, PIECES, &err), 0);
        expect_same(&one, &several);
        assert_int_equal(changeset_changed_bytes(one.set), changeset_changed_bytes(several.set));
        end(&one);
        end(&several);
    }
}

static void a_set_may_be_larger_than_all_lots_and_closes_itself(void **state)
{
    struct err err = ERR_INIT;
    struct made one, several;
    const unsigned count = 2 * CHANGESET_PROGRESS_BYTES / 65536;

    (void)state;
    begin(&one, 0);
    begin(&several, 2);
    assert_int_equal(add_all(one.set, 0, count, &err), 0);
    assert_int_equal(add_all(several.set, 0, count, &err), 0);
    assert_int_equal(changeset_next_sequence(several.set), changeset_next_sequence(one.set));
    assert_true(changeset_next_sequence(one.set) > 2);
    end(&one);
    end(&several);
}

/* What was to be a group's point then is lost with the rest. */
static void a_group_point_that_was_begun_before_a_restart_is_not_named_by_a_later_point(void **state)
{
    const struct ident group_point = {.bytes = {9}}, none = {0};
    struct err err = ERR_INIT;
    const uint8_t *payload;
    struct record r;
    struct made one;
    struct mark mark;
    size_t at = 0;

    (void)state;
    begin(&one, 0);
    changeset_set_group_point(one.set, &group_point);
    changeset_restart(one.set, 7);
    assert_int_equal(changeset_close(one.set, MARK_CRASH, 0, 1, NULL, NULL, &err), 0);
    take_batches(one.link, &one.bytes);
    assert_int_equal(record_next(one.bytes.data, one.bytes.len, &at, &r, &payload, &err), 1);
    assert_int_equal(mark_decode(&r, payload, &mark, &err), 0);
    assert_memory_equal(&mark.group_point, &none, sizeof(none));
    end(&one);
}

/* What was begun before a restart is in no set, whoever was compressing it. */
static void what_is_dropped_stays_away(void **state)
{
    struct err err = ERR_INIT;
    struct made one, several;

    (void)state;
    begin(&one, 0);
    begin(&several, 3);
    for (unsigned i = 0; i < 37; i++)
        assert_int_equal(add(several.set, i, &err), 0);
    changeset_restart(several.set, 7);
    assert_true(changeset_is_empty(several.set));
    take_batches(several.link, &several.bytes);
    buf_clear(&several.bytes);
    changeset_restart(one.set, 7);
    assert_int_equal(add_all(one.set, 50, 90, &err), 0);
    assert_int_equal(add_all(several.set, 50, 90, &err), 0);
    expect_same(&one, &several);
    end(&one);
    end(&several);
}

/* The CPU share may be used up in the middle of a set: what is stored raw from then on comes after what is being compressed. */
static void raw_pieces_keep_their_place(void **state)
{
    struct err err = ERR_INIT;
    struct made one, several;
    struct made *both[] = {&one, &several};

    (void)state;
    begin(&one, 0);
    begin(&several, 2);
    for (unsigned k = 0; k < 2; k++) {
        for (unsigned i = 0; i < 60; i++) {
            changeset_set_level(both[k]->set, i / 7 % 2 == 0 ? 1 : 0);
            assert_int_equal(add(both[k]->set, i, &err), 0);
        }
        assert_int_equal(changeset_close(both[k]->set, MARK_CRASH, 0, 1, NULL, NULL, &err), 0);
    }
    expect_same(&one, &several);
    end(&one);
    end(&several);
}

static void a_stream_that_is_gone_ends_the_set(void **state)
{
    struct err err = ERR_INIT;
    struct made m;

    (void)state;
    begin(&m, 3);
    assert_int_equal(add(m.set, 0, &err), 0);
    uplink_lost(m.link);
    assert_int_equal(add_all(m.set, 1, PIECES, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    end(&m);
}

/* Its number goes to a mark that is none. */
static void a_point_that_was_not_sent_is_not_the_last_one(void **state)
{
    const struct uplink_opening again = {.generation = 1, .epoch = 1, .next_sequence = 1};
    struct uplink_answer answer = {.expected_sequence = 1, .epoch = 1};
    uint64_t sequence, time_utc_usec;
    struct err err = ERR_INIT;
    struct made m;

    (void)state;
    begin(&m, 0);
    assert_int_equal(add(m.set, 0, &err), 0);
    uplink_lost(m.link);
    assert_int_equal(changeset_close(m.set, MARK_CRASH, 0, 1000000, NULL, NULL, &err), -1);
    uplink_prepare(m.link, &again);
    uplink_opened(m.link, &answer);
    assert_int_equal(uplink_state(m.link, &answer), UPLINK_OPENED);
    uplink_go(m.link, &answer);
    assert_int_equal(changeset_close(m.set, MARK_PROGRESS, 0, 2000000, NULL, &sequence, &err), 0);
    assert_int_equal(sequence, 1);
    uplink_committed(m.link, sequence);
    uplink_last_point(m.link, &sequence, &time_utc_usec);
    assert_int_equal(sequence, 0);
    end(&m);
}

/* Each allocation fails once, and the piece is added again: nothing is in the set twice, and the mark counts what is there. A pool that
 * cannot be had is done without. */
static void what_fails_for_want_of_memory_leaves_the_set_whole(void **state)
{
    unsigned failed = 0;

    (void)state;
    for (long n = 1; n <= 60; n++) {
        struct made one, several;
        struct err err = ERR_INIT;

        begin(&one, 0);
        begin(&several, 2);
        assert_int_equal(add_all(one.set, 0, 60, &err), 0);
        mem_fail_at(n);
        for (unsigned i = 0; i < 60; i++)
            for (; add(several.set, i, &err) < 0; failed++)
                assert_int_equal(err.code, ERR_NOMEM);
        for (; changeset_close(several.set, MARK_CRASH, 0, 1000000, "tag", NULL, &err) < 0; failed++)
            assert_int_equal(err.code, ERR_NOMEM);
        mem_fail_at(0);
        expect_same(&one, &several);
        end(&one);
        end(&several);
    }
    assert_true(failed > 0);
}

/* ---- the pool alone ---- */

static void a_pool_without_threads_seals_when_it_is_asked(void **state)
{
    static uint8_t data[65536];
    struct sealpool_lot lot;
    struct sealpool *p;
    size_t records = 0, added = 0;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(sealpool_new(0, 0, &p, &err), 0);
    assert_true(sealpool_is_empty(p));
    for (; !sealpool_is_full(p); added++)
        sealpool_add(p, 1, added * 65536, data, piece((unsigned)added, data), 1);
    assert_int_equal(sealpool_oldest(p, false, &lot, &err), 0); /* nobody has sealed it */
    sealpool_close_lot(p);                                      /* nothing, while it is full */
    while (sealpool_oldest(p, true, &lot, &err) == 1) {
        for (size_t i = 0; i < lot.count; i++)
            assert_int_equal(lot.records[i].start, records++ * 65536);
        sealpool_release(p);
    }
    assert_int_equal(records, added);
    assert_true(sealpool_is_empty(p));
    sealpool_free(p);
}

static void a_pool_may_go_while_it_works(void **state)
{
    static uint8_t data[65536];
    struct err err = ERR_INIT;

    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        struct sealpool *p;
        assert_int_equal(sealpool_new(3, 1, &p, &err), 0);
        for (unsigned i = 0; i < round && !sealpool_is_full(p); i++)
            sealpool_add(p, 1, i * 65536ull, data, piece(1, data), 3);
        sealpool_free(p);
    }
    sealpool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_threads_make_what_one_makes),
        cmocka_unit_test(a_set_may_be_larger_than_all_lots_and_closes_itself),
        cmocka_unit_test(a_group_point_that_was_begun_before_a_restart_is_not_named_by_a_later_point),
        cmocka_unit_test(what_is_dropped_stays_away),
        cmocka_unit_test(raw_pieces_keep_their_place),
        cmocka_unit_test(a_stream_that_is_gone_ends_the_set),
        cmocka_unit_test(a_point_that_was_not_sent_is_not_the_last_one),
        cmocka_unit_test(what_fails_for_want_of_memory_leaves_the_set_whole),
        cmocka_unit_test(a_pool_without_threads_seals_when_it_is_asked),
        cmocka_unit_test(a_pool_may_go_while_it_works),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
