/* SPDX-License-Identifier: Apache-2.0
 *
 * What has become of a file since must not take the place of the good copy in the bucket, which is what it can be put back from; and damage is no other
 * history, so the upload goes on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/bucketworld.h"
#include "transport/log/segment.h"
#include "transport/vault/manifest.h"
#include "transport/vault/storemeta.h"
#include "transport/vault/verify.h"

static uint64_t open_segment(const struct world *w)
{
    struct log_position position;
    store_position(w->m.store, &position);
    return position.segment;
}

static void segment_path(const struct world *w, uint64_t number, char out[300])
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    (void)snprintf(out, 300, "%s/main/%s", w->m.machine_dir, name);
}

/* Flips a bit in the payload of each data record. */
static void rot(const struct world *w, uint64_t number)
{
    struct err err = ERR_INIT;
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    struct record r;
    const uint8_t *payload;
    uint64_t offset = SEGMENT_HEADER_SIZE;
    char path[300], folder[200];
    (void)snprintf(folder, sizeof(folder), "%s/main", w->m.machine_dir);
    int fd AUTO_CLOSE = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    world_ok(segment_open(fd, number, &reader, &err), &err);
    segment_path(w, number, path);
    while (segment_read_next(reader, &offset, &r, &payload, &err) > 0)
        if (r.kind == RECORD_DATA)
            world_flip(path, (long)segment_reader_place(reader) + RECORD_HEADER_SIZE + 20);
}

static void check_all_is_there(struct world *w)
{
    world_check_tidy(w);
    world_check_rebuilt(w, store_committed(w->m.store));
}

/* The store has it in memory; a rebuilt vault would have nothing else. */
static void a_rotten_meta_does_not_reach_the_bucket(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    struct store_meta meta;
    char path[200];
    (void)state;
    world_init(&w, 61);
    world_change(&w, 3);
    world_bring(&w);
    (void)snprintf(path, sizeof(path), "%s/meta", w.m.machine_dir);
    world_flip(path, 60); /* in the wrapped key */
    world_change(&w, 3);
    world_bring(&w);
    check_all_is_there(&w);
    assert_int_equal(storemeta_load(w.m.machine_dir, &meta, NULL), -1);
    assert_int_equal(store_mend_meta(w.m.store, &err), 1);
    assert_int_equal(store_mend_meta(w.m.store, &err), 0);
    world_ok(storemeta_load(w.m.machine_dir, &meta, &err), &err);
    world_change(&w, 1);
    world_bring(&w);
    check_all_is_there(&w);
    world_done(&w);
}

static void a_cut_segment_does_not_take_the_place_of_a_whole_one(void **state)
{
    struct world w;
    char path[300];
    struct stat st;
    (void)state;
    world_init(&w, 62);
    world_change(&w, 30);
    world_bring(&w);
    assert_true(open_segment(&w) > 3);
    segment_path(&w, 2, path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size / 2), 0);
    for (int restarted = 0; restarted < 2; restarted++) {
        world_change(&w, 3);
        world_bring(&w);
        check_all_is_there(&w);
        world_upload_again(&w);
    }
    world_done(&w);
}

/* Found in the segment that is being written, at the restart of the vault; then that segment is sealed, and would become one object. */
static void rot_in_the_open_segment_stops_nothing_and_is_not_sent(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 63);
    world_change(&w, 30);
    world_bring(&w);
    world_change(&w, 1);
    world_bring(&w);
    uint64_t number = open_segment(&w);
    rot(&w, number); /* in each piece that the bucket has of it */
    world_upload_again(&w);
    world_change(&w, 1);
    world_bring(&w);
    world_change(&w, 30);
    assert_true(open_segment(&w) > number + 1);
    world_bring(&w);
    check_all_is_there(&w);
    world_upload_again(&w);
    world_bring(&w);
    check_all_is_there(&w);
    world_done(&w);
}

/* Is it rewritten and damaged? */
static bool is_rotten(const struct world *w, uint64_t number)
{
    struct err err = ERR_INIT;
    struct verify_span span;
    struct verify_result r = {0};
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    char folder[200];
    const struct verify_spec spec = {.machine_dir = w->m.machine_dir,
        .machine = w->m.conf.machine,
        .keys = w->m.opened.keys,
        .until_sequence = store_committed(w->m.store)};
    (void)snprintf(folder, sizeof(folder), "%s/main", w->m.machine_dir);
    int fd AUTO_CLOSE = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    world_ok(segment_open(fd, number, &reader, &err), &err);
    world_ok(verify_segment(&spec, number, false, &span, &r, &err), &err);
    bool damaged = r.damage_count > 0;
    verify_result_done(&r);
    return damaged && segment_reader_info(reader)->revision > 0;
}

static void a_rotten_segment_that_was_rewritten_is_not_sent(void **state)
{
    struct world w;
    unsigned rotten = 0;
    (void)state;
    world_init(&w, 64);
    world_change(&w, 30);
    world_bring(&w);
    for (uint64_t number = 1; number < open_segment(&w); number++)
        rot(&w, number);
    assert_true(world_thin_and_compact(&w, 3, 4) > 0);
    for (uint64_t number = 1; number < open_segment(&w); number++)
        rotten += is_rotten(&w, number);
    assert_true(rotten > 0);
    world_bring(&w);
    check_all_is_there(&w);
    world_upload_again(&w);
    world_change(&w, 1);
    world_bring(&w);
    check_all_is_there(&w);
    world_done(&w);
}

/* Somebody deleted an object: the upload goes on, and brings it again when that segment has become one. */
static void a_missing_object_of_the_open_segment_stops_nothing(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 65);
    world_change(&w, 30);
    world_bring(&w);
    world_change(&w, 1);
    world_bring(&w);
    char *object = world_path(&w, "main", true);
    assert_int_equal(unlink(object), 0);
    free(object);
    world_upload_again(&w);
    world_change(&w, 30);
    world_bring(&w);
    check_all_is_there(&w);
    world_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rotten_meta_does_not_reach_the_bucket),
        cmocka_unit_test(a_cut_segment_does_not_take_the_place_of_a_whole_one),
        cmocka_unit_test(rot_in_the_open_segment_stops_nothing_and_is_not_sent),
        cmocka_unit_test(a_missing_object_of_the_open_segment_stops_nothing),
        cmocka_unit_test(a_rotten_segment_that_was_rewritten_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
