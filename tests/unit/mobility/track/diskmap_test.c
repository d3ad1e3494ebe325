/* SPDX-License-Identifier: Apache-2.0
 *
 * The race between marking and draining, with the kernel's side played by threads in user space over the same memory: writers
 * change a value and then mark it, in the order in which blocktrack.bpf.c does; the reader drains and then looks. When the
 * writers have stopped and a last drain is done, the reader must have the present value of everything (P3).
 */
#include "mobility/track/diskmap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/mobility/track/loopdisk.h"

#define GRANULES 70000u /* more than one page of bits, more than two words of lines */
#define SIZE (GRANULES * 4096ull)
#define WRITERS 3u

struct rig {
    int fd;
    struct diskmap map;
    struct dirty *round, *pending;
    atomic_uint content[GRANULES]; /* the disk */
    unsigned image[GRANULES];      /* what the reader has */
    atomic_bool stop;
    unsigned marks_per_line; /* 1: mark by lines, as long requests are */
    bool mark_first;         /* the wrong order: before the content is there */
};

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct diskmap_geometry g = {.size_bytes = SIZE, .granule_shift = 12, .incarnation = 1};
    uint64_t pages = diskmap_pages(SIZE, 12);

    r->fd = memfd_create("array", MFD_CLOEXEC);
    assert_int_equal(ftruncate(r->fd, (off_t)pages * BT_PAGE_BYTES), 0);
    assert_int_equal(diskmap_create(r->fd, &g, &r->map, NULL), 0);
    assert_int_equal(dirty_new(SIZE, 12, &r->round, NULL), 0);
    assert_int_equal(dirty_new(SIZE, 12, &r->pending, NULL), 0);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;

    diskmap_unmap(&r->map);
    dirty_close(r->round);
    dirty_close(r->pending);
    (void)close(r->fd);
    free(r);
    return 0;
}

/* As mark_granules() of the program. */
static void mark(struct rig *r, unsigned granule)
{
    unsigned line = granule >> BT_LINE_SHIFT;
    uint64_t *lines = &r->map.lines[line / 64], bit = 1ull << (line % 64);

    if (r->marks_per_line)
        (void)__atomic_fetch_or(&r->map.wide[line / 64], bit, __ATOMIC_SEQ_CST);
    else
        (void)__atomic_fetch_or(&r->map.granules[granule / 64], 1ull << (granule % 64), __ATOMIC_SEQ_CST);
    if (!(__atomic_load_n(lines, __ATOMIC_SEQ_CST) & bit))
        (void)__atomic_fetch_or(lines, bit, __ATOMIC_SEQ_CST);
}

static void *run_writer(void *arg)
{
    struct rig *r = arg;
    unsigned seed = (unsigned)(uintptr_t)&seed;

    while (!atomic_load(&r->stop)) {
        unsigned granule = (unsigned)rand_r(&seed) % (rand_r(&seed) % 4 ? 300 : GRANULES);
        if (r->mark_first) {
            mark(r, granule);
            for (int i = 0; i < 50; i++)
                atomic_signal_fence(memory_order_seq_cst);
        }
        (void)atomic_fetch_add(&r->content[granule], 1);
        if (!r->mark_first)
            mark(r, granule);
    }
    return NULL;
}

static void drain_and_read(struct rig *r)
{
    uint64_t cursor = 0, start, length;

    dirty_clear_all(r->round);
    assert_int_equal(diskmap_drain(&r->map, r->round, r->pending, NULL, NULL), 0);
    while (dirty_next(r->round, &cursor, 4096, &start, &length)) {
        r->image[start >> 12] = atomic_load(&r->content[start >> 12]);
        assert_true(dirty_test(r->pending, start));
    }
}

static unsigned race(struct rig *r, unsigned drains)
{
    pthread_t writers[WRITERS];
    unsigned differ = 0;

    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, run_writer, r), 0);
    for (unsigned i = 0; i < drains; i++)
        drain_and_read(r);
    atomic_store(&r->stop, true);
    for (unsigned i = 0; i < WRITERS; i++)
        (void)pthread_join(writers[i], NULL);
    drain_and_read(r);
    for (unsigned i = 0; i < GRANULES; i++)
        differ += r->image[i] != atomic_load(&r->content[i]);
    return differ;
}

static void test_no_mark_is_lost_between_writers_and_drains(void **state)
{
    assert_int_equal(race(*state, 3000), 0);
}

static void test_no_wide_mark_is_lost_between_writers_and_drains(void **state)
{
    struct rig *r = *state;

    r->marks_per_line = 1;
    assert_int_equal(race(r, 300), 0);
}

static void test_the_race_shows_when_marks_come_before_the_write(void **state)
{
    struct rig *r = *state;
    unsigned differ = 0;

    r->mark_first = true;
    for (int i = 0; i < 200 && differ == 0; i++) {
        atomic_store(&r->stop, false);
        differ = race(r, 200);
    }
    assert_true(differ > 0);
}

/* --- requests in flight --------------------------------------------------------------------------------------------------- */

static struct bt_flight *flight(struct rig *r, unsigned i)
{
    return (struct bt_flight *)&r->map.flights[i];
}

static uint64_t drain(struct rig *r)
{
    uint64_t granules = 0;

    dirty_clear_all(r->round);
    assert_int_equal(diskmap_drain(&r->map, r->round, r->pending, &granules, NULL), 0);
    return granules;
}

static void test_requests_in_flight_are_handed_out_each_time(void **state)
{
    struct rig *r = *state;

    *flight(r, 700) = (struct bt_flight){.request = 0xffff888000001000, .start = 8192 + 512, .bytes = 8192, .turn = 1};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(drain(r), 3);
        assert_true(dirty_test(r->round, 8192) && dirty_test(r->round, 16384) && !dirty_test(r->round, 20480));
    }
    flight(r, 700)->request = 0;
    assert_int_equal(drain(r), 0);
}

static struct bt_sheet *sheet(struct rig *r, unsigned i)
{
    return (struct bt_sheet *)&r->map.sheets[i];
}

/* A merged discard in flight, of which the place itself has the first sector and the sum only. */
static void list_merged(struct rig *r)
{
    struct bt_sheet *s = sheet(r, 6);

    s->request = 0xffff888000001000;
    s->count = 3;
    for (unsigned i = 0; i < s->count; i++) {
        s->start[i] = (50 - i * 20) * 4096ull + 512 * i;
        s->bytes[i] = 4096;
    }
    *flight(r, 700) = (struct bt_flight){
        .request = s->request, .start = 50 * 4096, .bytes = 3 * 4096, .length = 3 * 4096, .sheet = 7, .turn = 1};
}

static void test_each_range_of_a_merged_discard_in_flight_is_handed_out(void **state)
{
    struct rig *r = *state;

    list_merged(r);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(drain(r), 1 + 2 + 2);
        assert_true(
            dirty_test(r->round, 50 * 4096) && dirty_test(r->round, 30 * 4096) && dirty_test(r->round, 31 * 4096));
        assert_true(dirty_test(r->pending, 10 * 4096) && dirty_test(r->pending, 11 * 4096));
    }
    flight(r, 700)->request = 0;
    assert_int_equal(drain(r), 0);
}

/* As when the disk grows: the rig has another array. The one before is the caller's. */
static struct diskmap next_array(struct rig *r)
{
    struct diskmap_geometry g = {.size_bytes = SIZE, .granule_shift = 12, .incarnation = 1};
    int fd = memfd_create("next", MFD_CLOEXEC);
    struct diskmap old = r->map;

    assert_int_equal(ftruncate(fd, (off_t)diskmap_pages(SIZE, 12) * BT_PAGE_BYTES), 0);
    assert_int_equal(diskmap_create(fd, &g, &r->map, NULL), 0);
    (void)close(fd);
    return old;
}

/* Where the program looks for the request; NULL: it would not find it. */
static struct bt_flight *listed(struct rig *r, unsigned long long request)
{
    unsigned place = BT_PLACE(request), first = place / BT_FLIGHTS_PER_PAGE * BT_FLIGHTS_PER_PAGE;

    for (unsigned i = 0; i < BT_PROBES; i++)
        if (flight(r, first + (place + i) % BT_FLIGHTS_PER_PAGE)->request == request)
            return flight(r, first + (place + i) % BT_FLIGHTS_PER_PAGE);
    return NULL;
}

/* What is in flight on the old array is marked in the new one, and stays listed until it completes there. */
static void test_merging_lists_each_range_of_a_merged_discard(void **state)
{
    struct rig *r = *state;
    struct bt_flight *f;
    struct diskmap old;

    list_merged(r);
    flight(r, 700)->sector = 50 * 8;
    old = next_array(r);
    diskmap_merge(&r->map, &old);
    diskmap_merge(&r->map, &old); /* as after a kill */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(drain(r), i == 0 ? 2 * (1 + 2 + 2) : 1 + 2 + 2);
        assert_true(
            dirty_test(r->round, 50 * 4096) && dirty_test(r->round, 30 * 4096) && dirty_test(r->round, 11 * 4096));
    }
    f = listed(r, 0xffff888000001000);
    assert_non_null(f);
    assert_true(f->sheet > 0 && sheet(r, f->sheet - 1)->request == f->request);
    assert_true(f->length == 3 * 4096 && f->sector == 50 * 8);
    f->request = 0;
    assert_int_equal(drain(r), 0);
    diskmap_unmap(&old);
}

static unsigned sheets_taken(struct rig *r)
{
    unsigned taken = 0;

    for (unsigned i = 0; i < BT_SHEETS; i++)
        taken += sheet(r, i)->request != 0;
    return taken;
}

static void test_merging_finds_a_sheet_or_lists_all_that_lies_between(void **state)
{
    const unsigned long long request = 0xffff888000001000;
    struct rig *r = *state;
    struct diskmap old;

    list_merged(r);
    old = next_array(r);
    diskmap_merge(&r->map, &old);
    /* A merge that was killed when it had taken both. */
    listed(r, request)->request = BT_CARRIED;
    diskmap_merge(&r->map, &old);
    assert_int_equal(drain(r), 2 * (1 + 2 + 2));
    assert_int_equal(sheets_taken(r), 1);
    *listed(r, request) = (struct bt_flight){0};
    for (unsigned i = 0; i < BT_SHEETS; i++)
        sheet(r, i)->request = 0xffff888000002000;
    diskmap_merge(&r->map, &old);
    assert_int_equal(listed(r, request)->sheet, 0);
    assert_int_equal(drain(r), 1 + 2 + 2 + 41); /* its bits, and the granules from 10 to 50 */
    assert_int_equal(drain(r), 41);
    diskmap_unmap(&old);
}

/* The program has just taken it for a request in the same memory, and has not listed that yet or has it on another place of this merge. */
static void test_merging_leaves_the_sheets_of_others_alone(void **state)
{
    struct rig *r = *state;
    struct bt_sheet *others;
    struct diskmap old;

    list_merged(r);
    old = next_array(r);
    others = sheet(r, 0);
    others->request = 0xffff888000001000;
    others->count = 1;
    others->start[0] = 70 * 4096;
    others->bytes[0] = 4096;
    diskmap_merge(&r->map, &old);
    assert_true(others->count == 1 && others->start[0] == 70 * 4096);
    assert_int_equal(listed(r, 0xffff888000001000)->sheet, 2);
    /* A merge that was killed when it had taken a sheet, and another one that had put it into its place as well. */
    listed(r, 0xffff888000001000)->request = BT_CARRIED;
    sheet(r, 5)->request = BT_CARRIED;
    diskmap_merge(&r->map, &old);
    assert_int_equal(sheets_taken(r), 2);
    diskmap_unmap(&old);
}

/* The first place of a page tells the geometry and is nobody's. */
static void test_merging_leaves_the_heads_alone(void **state)
{
    unsigned long long request = 0xffff888000001000;
    struct rig *r = *state;
    struct diskmap old;

    while (BT_PLACE(request) % BT_FLIGHTS_PER_PAGE != 0)
        request += 256;
    *flight(r, BT_PLACE(request) + 1) =
        (struct bt_flight){.request = request, .start = 8192, .bytes = 4096, .length = 4096, .turn = 1};
    old = next_array(r);
    diskmap_merge(&r->map, &old);
    assert_ptr_equal(listed(r, request), flight(r, BT_PLACE(request) + 1));
    assert_int_equal(drain(r), 2);
    diskmap_unmap(&old);
}

static void test_merging_keeps_what_the_new_array_has_listed_itself(void **state)
{
    struct rig *r = *state;
    const unsigned long long request = 0xffff888000001000;
    struct diskmap old;

    *flight(r, 700) = (struct bt_flight){.request = request, .start = 8192, .bytes = 4096, .length = 4096, .turn = 1};
    old = next_array(r);
    /* The same memory is another request's by now, and so are all the other places but one, which a merge took when it was killed. */
    for (unsigned i = 0; i < BT_FLIGHTS; i++)
        if (i % BT_FLIGHTS_PER_PAGE != 0)
            *flight(r, i) = (struct bt_flight){.request = i + 0xffff888000002000, .start = 0, .bytes = 4096, .turn = 1};
    diskmap_merge(&r->map, &old);
    assert_null(listed(r, request)); /* there is no room: its bits are all that there is of it */
    assert_true(drain(r) > 0 && dirty_test(r->round, 8192));
    for (unsigned i = 0; i < BT_FLIGHTS; i++)
        if (i % BT_FLIGHTS_PER_PAGE != 0)
            flight(r, i)->request = BT_CARRIED;
    diskmap_merge(&r->map, &old);
    assert_non_null(listed(r, request));
    assert_int_equal(drain(r), 2); /* marked and listed; nothing of the places that were taken by nobody */
    listed(r, request)->start = 40960;
    diskmap_merge(&r->map, &old);
    assert_int_equal(listed(r, request)->start, 40960);
    diskmap_unmap(&old);
}

static void test_nonsense_on_sheets_is_harmless(void **state)
{
    struct rig *r = *state;

    sheet(r, 0)->count = ~0u;
    sheet(r, 0)->start[3] = ~0ull;
    sheet(r, 0)->bytes[3] = ~0u;
    sheet(r, 0)->start[BT_DISCARD_RANGES - 1] = 9 * 4096;
    sheet(r, 0)->bytes[BT_DISCARD_RANGES - 1] = 4096;
    *flight(r, 1) = (struct bt_flight){.request = 1, .start = 0, .bytes = 4096, .sheet = 1, .turn = 1};
    *flight(r, 2) = (struct bt_flight){.request = 1, .start = 4096, .bytes = 4096, .sheet = BT_SHEETS + 1, .turn = 1};
    assert_int_equal(drain(r), 2);
    assert_true(dirty_test(r->round, 4096) && dirty_test(r->round, 9 * 4096));
}

static void test_flushes_and_nonsense_in_flight_hand_out_nothing(void **state)
{
    struct rig *r = *state;

    *flight(r, 0) = (struct bt_flight){.request = 1, .is_flush = 1, .turn = 1};
    *flight(r, 1) = (struct bt_flight){.request = 1, .start = ~0ull, .bytes = 4096, .turn = 1};
    *flight(r, 2) = (struct bt_flight){.request = 1, .start = SIZE, .bytes = 4096, .turn = 1};
    assert_int_equal(drain(r), 0);
}

/* --- taking over ------------------------------------------------------------------------------------------------------------ */

static void test_a_take_over_looks_below_lines_that_are_clear(void **state)
{
    struct rig *r = *state;

    r->map.granules[900] = 1ull << 33; /* the drain before was killed after it had cleared the line */
    assert_int_equal(drain(r), 0);
    diskmap_unmap(&r->map);
    assert_int_equal(diskmap_adopt(r->fd, diskmap_pages(SIZE, 12), &r->map, NULL), 0);
    assert_int_equal(drain(r), 1);
    assert_true(dirty_test(r->round, (900 * 64 + 33) * 4096ull));
    assert_int_equal(drain(r), 0);
}

static void test_an_array_of_another_format_or_size_is_refused(void **state)
{
    struct rig *r = *state;
    struct diskmap other;
    struct err err = ERR_INIT;

    assert_int_equal(diskmap_adopt(r->fd, diskmap_pages(SIZE, 12) - 1, &other, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    r->map.header->format++;
    assert_int_equal(diskmap_adopt(r->fd, diskmap_pages(SIZE, 12), &other, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    r->map.header->format--;
    r->map.header->granule_shift = 60;
    assert_int_equal(diskmap_adopt(r->fd, diskmap_pages(SIZE, 12), &other, &err), -1);
    r->map.header->granule_shift = 12;
}

static void test_an_error_of_the_caller_loses_nothing(void **state)
{
    struct rig *r = *state;
    struct dirty_tag tag = {.incarnation = 1};
    struct dirty *small = NULL;
    char dir[64], path[96];
    struct err err = ERR_INIT;
    bool resumed;

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices\n");
        skip();
    }
    temp_init(dir);
    (void)snprintf(path, sizeof(path), "%s/set", dir);
    /* Room for the header and the summary of a set, but for none of its bits. */
    assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, "size=540k"), 0);
    assert_int_equal(dirty_open(path, SIZE, 12, &tag, &small, &resumed, NULL), 0);
    mark(r, 5);
    mark(r, 60000);
    dirty_clear_all(r->round);
    assert_int_equal(diskmap_drain(&r->map, r->round, small, NULL, &err), -1);
    assert_int_equal(err.code, ERR_NOSPACE);
    assert_int_equal(mount("tmpfs", dir, "tmpfs", MS_REMOUNT, "size=2m"), 0);
    assert_int_equal(diskmap_drain(&r->map, r->round, small, NULL, NULL), 0);
    assert_true(dirty_test(small, 5 * 4096) && dirty_test(small, 60000 * 4096ull));
    dirty_close(small);
    assert_int_equal(umount(dir), 0);
    temp_done(dir);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_no_mark_is_lost_between_writers_and_drains),
        TEST(test_no_wide_mark_is_lost_between_writers_and_drains),
        TEST(test_the_race_shows_when_marks_come_before_the_write),
        TEST(test_requests_in_flight_are_handed_out_each_time),
        TEST(test_each_range_of_a_merged_discard_in_flight_is_handed_out),
        TEST(test_merging_lists_each_range_of_a_merged_discard),
        TEST(test_merging_finds_a_sheet_or_lists_all_that_lies_between),
        TEST(test_merging_leaves_the_sheets_of_others_alone),
        TEST(test_merging_leaves_the_heads_alone),
        TEST(test_merging_keeps_what_the_new_array_has_listed_itself),
        TEST(test_nonsense_on_sheets_is_harmless),
        TEST(test_flushes_and_nonsense_in_flight_hand_out_nothing),
        TEST(test_a_take_over_looks_below_lines_that_are_clear),
        TEST(test_an_array_of_another_format_or_size_is_refused),
        TEST(test_an_error_of_the_caller_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
