/* SPDX-License-Identifier: Apache-2.0
 *
 * What lies beside a machine's log in the bucket: the retention lock, damage and mended records, branches. A vault that is rebuilt from the
 * bucket has them, and the bucket has nothing of those that went.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/bucketworld.h"
#include "transport/base/file.h"
#include "transport/log/segment.h"
#include "transport/vault/mend.h"
#include "transport/vault/promote.h"
#include "transport/vault/quarantine.h"
#include "transport/vault/storelock.h"
#include "transport/vault/view.h"

#define DAY_USEC (86400ULL * 1000000)
#define ONE "5a2f6a1e-0000-4000-8000-00000000000b"
#define TWO "5a2f6a1e-0000-4000-8000-00000000000c"
#define BLOCK 65536u

/* ---- the retention lock ---- */

static struct storelock load_lock(const char *machine_dir, const struct world *w)
{
    struct storelock lock;
    struct err err = ERR_INIT;
    world_ok(storelock_load(machine_dir, &w->m.conf.machine, &lock, &err), &err);
    return lock;
}

static void lock_for(struct world *w, uint64_t usec)
{
    struct storelock lock = load_lock(w->m.machine_dir, w);
    struct err err = ERR_INIT;
    assert_true(storelock_apply(&lock, usec, store_committed(w->m.store) + 1));
    world_ok(storelock_store(w->m.machine_dir, &w->m.conf.machine, &lock, &err), &err);
}

/* Every point of a rebuilt vault is locked until the moment that it was locked until. */
static void check_lock_rebuilt(struct world *w, const struct storelock *wanted)
{
    char data[160], dir[160];
    struct err err = ERR_INIT;
    world_ok(store_flush(w->m.store, &err), &err); /* without an index commit times are lost: locks only grow then */
    world_bring(w);
    world_rebuild(w, data, dir);
    struct storelock lock = load_lock(dir, w);
    const struct pointlist *points = store_points(w->m.store);
    assert_false(lock.damaged);
    for (size_t i = 0; i < points->count; i++)
        assert_true(storelock_until(&lock, &points->items[i]) == storelock_until(wanted, &points->items[i]));
    assert_true(storelock_current(&lock) == storelock_current(wanted));
}

static void a_lock_is_not_shortened_by_losing_the_vault(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    (void)state;
    world_init(&w, 31);
    world_change(&w, 2);
    world_bring(&w);
    lock_for(&w, 30 * DAY_USEC);
    world_change(&w, 2);
    lock_for(&w, 7 * DAY_USEC);
    world_change(&w, 2);
    world_ok(store_flush(w.m.store, &err), &err);
    world_bring(&w);
    struct storelock lock = load_lock(w.m.machine_dir, &w);
    assert_int_equal(lock.count, 2);
    check_lock_rebuilt(&w, &lock);
    world_check_tidy(&w);
    world_done(&w);
}

/* With a log that takes many turns, the first mark has the lock. */
static void a_lock_is_there_before_the_log(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    (void)state;
    world_init(&w, 32);
    world_change(&w, 30);
    lock_for(&w, DAY_USEC);
    world_upload_anew(&w, 1);
    do
        world_ok(world_turn(&w, &err), &err);
    while (w.result.sequence == 0);
    assert_true(w.result.more);
    char data[160], dir[160];
    world_rebuild(&w, data, dir);
    struct storelock lock = load_lock(dir, &w);
    assert_true(storelock_current(&lock) == DAY_USEC);
    world_done(&w);
}

static void a_lock_that_was_damaged_or_taken_away_stays_in_the_bucket(void **state)
{
    struct world w;
    char path[200];
    (void)state;
    world_init(&w, 33);
    lock_for(&w, DAY_USEC);
    world_change(&w, 2);
    world_bring(&w);
    struct storelock good = load_lock(w.m.machine_dir, &w);
    (void)snprintf(path, sizeof(path), "%s/locks", w.m.machine_dir);
    world_flip(path, 40);
    assert_true(load_lock(w.m.machine_dir, &w).damaged);
    world_change(&w, 1);
    world_bring(&w);
    check_lock_rebuilt(&w, &good);
    assert_int_equal(unlink(path), 0);
    world_change(&w, 1);
    world_upload_again(&w);
    world_bring(&w);
    check_lock_rebuilt(&w, &good);
    world_done(&w);
}

/* ---- keys ---- */

/* Every point opens in a rebuilt vault, under whichever key it was written. */
static void the_older_keys_are_in_the_bucket(void **state)
{
    struct world w;
    (void)state;
    world_init(&w, 45);
    world_change(&w, 3);
    world_bring(&w);
    for (unsigned i = 0; i < 3; i++) {
        model_new_key(&w.m);
        if (i == 1)
            world_bring(&w); /* before anything was written under it */
        world_change(&w, 2);
        world_bring(&w);
        world_check_rebuilt(&w, w.m.points[w.m.point_count - 1].sequence);
    }
    world_upload_again(&w);
    world_bring(&w);
    world_check_tidy(&w);
    world_check_rebuilt(&w, w.m.points[w.m.point_count - 1].sequence);
    world_done(&w);
}

/* With a log that takes many turns, the first mark that needs them has them. */
static void the_keys_are_there_before_the_log(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    (void)state;
    world_init(&w, 46);
    world_change(&w, 15);
    model_new_key(&w.m);
    world_change(&w, 15);
    world_upload_anew(&w, 1);
    do {
        char data[160], dir[160];
        world_ok(world_turn(&w, &err), &err);
        if (w.result.sequence > 0)
            world_rebuild(&w, data, dir);
    } while (w.result.more);
    world_bring(&w);
    world_check_rebuilt(&w, w.m.points[w.m.point_count - 1].sequence);
    world_done(&w);
}

/* The vault does not notice a bit that flips in the file: it has the keys in memory. The bucket's copy is what is left of them then. */
static void damaged_keys_do_not_take_the_place_of_good_ones(void **state)
{
    struct world w;
    char path[200];
    (void)state;
    world_init(&w, 47);
    world_change(&w, 3);
    model_new_key(&w.m);
    world_change(&w, 3);
    world_bring(&w);
    (void)snprintf(path, sizeof(path), "%s/keys", w.m.machine_dir);
    world_flip(path, 40);
    world_change(&w, 3);
    world_bring(&w);
    world_check_rebuilt(&w, w.m.points[w.m.point_count - 1].sequence);
    world_flip(path, 40);
    world_done(&w);
}

/* ---- damage ---- */

/* The first data record of the log. */
static uint64_t first_record(const char *machine_dir, struct record *ret_record)
{
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    struct err err = ERR_INIT;
    const uint8_t *payload;
    uint64_t offset = SEGMENT_HEADER_SIZE, at;
    char path[200];
    (void)snprintf(path, sizeof(path), "%s/main", machine_dir);
    int fd AUTO_CLOSE = open(path, O_RDONLY | O_DIRECTORY);
    world_ok(segment_open(fd, 1, &reader, &err), &err);
    do {
        at = offset;
        assert_int_equal(segment_read_next(reader, &offset, ret_record, &payload, &err), 1);
    } while (ret_record->kind != RECORD_DATA);
    return at;
}

static void mend_first(struct world *w, struct record *ret_record, uint64_t *ret_at)
{
    struct err err = ERR_INIT;
    struct mend_nonce nonce = {0};
    uint8_t *plain = malloc(BLOCK);
    *ret_at = first_record(w->m.machine_dir, ret_record);
    struct view *v AUTO_OF(view) = NULL;
    world_ok(store_flush(w->m.store, &err), &err);
    world_ok(view_open(w->m.machine_dir, w->m.points[0].sequence, &w->m.opened.keys, 0, &v, &err), &err);
    world_ok(view_read(v, ret_record->disk, ret_record->start, ret_record->length, plain, &err), &err);
    world_ok(store_take_nonce_stream(w->m.store, &nonce.stream, &err), &err);
    world_ok(mend_store(w->m.machine_dir, 1, *ret_at, ret_record->disk, ret_record->start, plain,
                 (uint32_t)ret_record->length, &w->m.opened.keys, &nonce, &err),
        &err);
    free(plain);
}

static void list_damage(struct world *w, const struct record *r, uint64_t at)
{
    struct quarantine q = {0};
    struct err err = ERR_INIT;
    const struct quarantine_item item = {.kind = VERIFY_PAYLOAD,
        .state = QUARANTINE_HEALED,
        .segment = 1,
        .offset = at,
        .end = at + RECORD_HEADER_SIZE + r->stored,
        .sequence = 1,
        .disk = r->disk,
        .start = r->start,
        .length = r->length,
        .text = "healed"};
    assert_int_equal(quarantine_put(&q, &item, &err), 1);
    world_ok(quarantine_store(w->m.machine_dir, &w->m.conf.machine, &q, &err), &err);
    quarantine_done(&q);
}

static void healed_damage_is_healed_in_a_rebuilt_vault(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    struct record r;
    struct quarantine q;
    char data[160], dir[160], path[300];
    uint64_t at;
    (void)state;
    world_init(&w, 34);
    world_change(&w, 6);
    world_bring(&w);
    mend_first(&w, &r, &at);
    list_damage(&w, &r, at);
    (void)snprintf(path, sizeof(path), "%s/main/%016x.seg", w.m.machine_dir, 1);
    world_bring(&w);
    world_rebuild(&w, data, dir);
    assert_true(mend_is_good(dir, 1, at, &w.m.opened.keys));
    world_ok(quarantine_load(dir, &w.m.conf.machine, &q, &err), &err);
    assert_int_equal(q.count, 1);
    assert_int_equal(q.items[0].offset, at);
    assert_int_equal(q.items[0].state, QUARANTINE_HEALED);
    quarantine_done(&q);
    char *mended = world_path(&w, "mend", true);
    assert_int_equal(access(mended, F_OK), 0);
    free(mended);
    /* the damage itself goes where the log goes: what is read is right all the same */
    (void)snprintf(path, sizeof(path), "%s/main/%016x.seg", dir, 1);
    world_flip(path, (long)(at + RECORD_HEADER_SIZE + 1));
    memcpy(path, w.m.machine_dir, sizeof(dir));
    memcpy(w.m.machine_dir, dir, sizeof(dir));
    model_check_point(&w.m, &w.m.points[0]);
    memcpy(w.m.machine_dir, path, sizeof(dir));
    world_done(&w);
}

static void what_is_not_damaged_any_more_goes_from_the_bucket(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    struct record r;
    char data[160], dir[160], path[300];
    uint64_t at;
    (void)state;
    world_init(&w, 35);
    world_change(&w, 3);
    mend_first(&w, &r, &at);
    list_damage(&w, &r, at);
    world_bring(&w);
    (void)snprintf(path, sizeof(path), "%s/quarantine", w.m.machine_dir);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof(path), "%s/mend", w.m.machine_dir);
    world_ok(file_remove_tree(path, &err), &err);
    world_upload_again(&w);
    world_bring(&w);
    world_check_tidy(&w);
    world_rebuild(&w, data, dir);
    (void)snprintf(path, sizeof(path), "%s/quarantine", dir);
    assert_int_equal(access(path, F_OK), -1);
    assert_false(mend_is_good(dir, 1, at, &w.m.opened.keys));
    world_done(&w);
}

/* ---- branches ---- */

struct line {
    char dir[300];
    struct view *base;
    struct branch *branch;
    uint8_t *disk; /* what disk 0 of the branch holds */
};

/* On the first point; a branch that is there is opened. */
static void line_open(struct world *w, const char *name, const char *machine_dir, struct line *l)
{
    struct err err = ERR_INIT;
    struct branch_info info = {.machine = w->m.conf.machine, .base_sequence = w->m.points[0].sequence};
    uint32_t stream;
    (void)snprintf(l->dir, sizeof(l->dir), "%s/branches/%s", machine_dir, name);
    assert_int_equal(ident_from_text(name, &info.id), 0);
    world_ok(store_flush(w->m.store, &err), &err);
    world_ok(store_take_nonce_stream(w->m.store, &stream, &err), &err);
    world_ok(view_open(machine_dir, info.base_sequence, &w->m.opened.keys, 0, &l->base, &err), &err);
    assert_int_equal(branch_base_check(view_mark(l->base), &info.base_check, &err), 0);
    world_ok(branch_create(l->dir, &info, &err), &err);
    struct branch_conf conf = {.dir = l->dir, .base = l->base, .keys = &w->m.opened.keys, .nonce_stream = stream};
    world_ok(branch_open(&conf, &l->branch, &err), &err);
}

static void line_begin(struct world *w, const char *name, struct line *l)
{
    line_open(w, name, w->m.machine_dir, l);
    l->disk = malloc(w->m.disk_bytes[0]);
    memcpy(l->disk, w->m.points[0].disks[0], w->m.disk_bytes[0]);
}

static void line_close(struct line *l)
{
    branch_close(l->branch);
    view_close(l->base);
    l->branch = NULL;
    l->base = NULL;
}

/* Incompressible, so that it takes room in the log. */
static void line_write(struct world *w, struct line *l, uint64_t n)
{
    struct err err = ERR_INIT;
    uint64_t at = model_random(&w->m, w->m.disk_bytes[0] - n + 1);
    for (uint64_t i = 0; i < n; i++)
        l->disk[at + i] = (uint8_t)model_random(&w->m, 256);
    world_ok(branch_write(l->branch, 0, at, n, l->disk + at, &err), &err);
}

static void line_flush(struct line *l)
{
    struct err err = ERR_INIT;
    world_ok(branch_flush(l->branch, &err), &err);
}

static void check_line(struct world *w, struct line *l, const uint8_t *wanted)
{
    struct err err = ERR_INIT;
    uint8_t *got = malloc(w->m.disk_bytes[0]);
    world_ok(branch_read(l->branch, 0, 0, w->m.disk_bytes[0], got, &err), &err);
    assert_memory_equal(got, wanted, w->m.disk_bytes[0]);
    free(got);
}

static void check_line_rebuilt(struct world *w, const char *name, const uint8_t *wanted)
{
    struct line again = {0};
    char data[160], dir[160];
    world_rebuild(w, data, dir);
    line_open(w, name, dir, &again);
    check_line(w, &again, wanted);
    line_close(&again);
}

static uint8_t *copy_of(const struct world *w, const struct line *l)
{
    uint8_t *copy = malloc(w->m.disk_bytes[0]);
    memcpy(copy, l->disk, w->m.disk_bytes[0]);
    return copy;
}

static void a_branch_is_in_the_bucket_as_at_its_last_flush(void **state)
{
    struct world w;
    struct line one = {0}, two = {0};
    (void)state;
    world_init(&w, 36);
    world_change(&w, 3);
    line_begin(&w, ONE, &one);
    line_begin(&w, TWO, &two);
    for (unsigned round = 0; round < 5; round++) {
        line_write(&w, &one, 20000);
        line_flush(&one);
        uint8_t *flushed = copy_of(&w, &one);
        line_write(&w, &one, 5000); /* not flushed: not there */
        line_write(&w, &two, 700);
        line_flush(&two);
        world_bring(&w);
        if (round % 2 == 0)
            check_line_rebuilt(&w, ONE, flushed);
        check_line_rebuilt(&w, TWO, two.disk);
        if (round == 2)
            world_upload_again(&w);
        free(flushed);
    }
    world_change(&w, 2);
    world_bring(&w);
    world_check_tidy(&w);
    line_close(&one);
    line_close(&two);
    free(one.disk);
    free(two.disk);
    world_done(&w);
}

static void nothing_new_of_a_branch_is_no_new_mark(void **state)
{
    struct world w;
    struct line one = {0};
    (void)state;
    world_init(&w, 37);
    world_change(&w, 1);
    line_begin(&w, ONE, &one);
    line_write(&w, &one, 3000);
    line_flush(&one);
    line_write(&w, &one, 3000);
    world_bring(&w);
    char *before = world_path(&w, "marks", true);
    for (int i = 0; i < 3; i++)
        world_bring(&w);
    world_upload_again(&w);
    world_bring(&w);
    char *after = world_path(&w, "marks", true);
    assert_string_equal(before, after);
    free(before);
    free(after);
    line_close(&one);
    free(one.disk);
    world_done(&w);
}

/* Longer than a segment: the first one is sealed and becomes one piece. */
static void a_long_branch_comes_in_turns(void **state)
{
    struct world w;
    struct line one = {0};
    struct err err = ERR_INIT;
    unsigned turns = 0;
    (void)state;
    world_init(&w, 38);
    world_change(&w, 1);
    world_bring(&w);
    line_begin(&w, ONE, &one);
    for (uint64_t written = 0; written < SEGMENT_TARGET_BYTES + (4u << 20); written += 1u << 20) {
        line_write(&w, &one, 1u << 20);
        if (written < SEGMENT_TARGET_BYTES && written % (16u << 20) == 0) {
            line_flush(&one);
            world_bring(&w);
        }
    }
    line_flush(&one);
    world_upload_anew(&w, 1);
    for (w.result.more = true; w.result.more; turns++)
        world_ok(world_turn(&w, &err), &err);
    assert_true(turns > 1);
    world_check_tidy(&w);
    check_line_rebuilt(&w, ONE, one.disk);
    line_close(&one);
    free(one.disk);
    world_done(&w);
}

/* The vault came back from an older copy, and the branch went on from there: nothing of what was ahead stays in the bucket. */
static void a_branch_that_went_back_is_sent_anew(void **state)
{
    struct world w;
    struct line one = {0};
    struct err err = ERR_INIT;
    char copy[200];
    (void)state;
    world_init(&w, 39);
    world_change(&w, 1);
    line_begin(&w, ONE, &one);
    line_write(&w, &one, 9000);
    line_flush(&one);
    uint8_t *older = copy_of(&w, &one);
    (void)snprintf(copy, sizeof(copy), "%s/copy", w.m.dir);
    model_copy_tree(one.dir, copy);
    line_write(&w, &one, 9000);
    line_flush(&one);
    world_bring(&w);
    line_close(&one);
    world_ok(file_remove_tree(one.dir, &err), &err);
    assert_int_equal(rename(copy, one.dir), 0);
    line_open(&w, ONE, w.m.machine_dir, &one);
    memcpy(one.disk, older, w.m.disk_bytes[0]);
    line_write(&w, &one, 30000);
    line_flush(&one);
    world_upload_again(&w);
    world_bring(&w);
    world_check_tidy(&w);
    check_line_rebuilt(&w, ONE, one.disk);
    line_close(&one);
    free(one.disk);
    free(older);
    world_done(&w);
}

/* Discarded and made again under its id, between two turns. */
static void another_branch_of_the_same_id_is_another_one(void **state)
{
    struct world w;
    struct line one = {0};
    struct err err = ERR_INIT;
    (void)state;
    world_init(&w, 44);
    world_change(&w, 2);
    line_begin(&w, ONE, &one);
    line_write(&w, &one, 9000);
    line_flush(&one);
    world_bring(&w);
    line_close(&one);
    world_ok(branchlist_discard(w.m.machine_dir, ONE, &err), &err);
    free(one.disk);
    w.m.point_count--; /* the newest point is the base this time: so the file is another one */
    struct model_point first = w.m.points[0];
    w.m.points[0] = w.m.points[1];
    line_begin(&w, ONE, &one);
    line_write(&w, &one, 40000);
    line_flush(&one);
    world_bring(&w);
    world_check_tidy(&w);
    check_line_rebuilt(&w, ONE, one.disk);
    w.m.points[1] = w.m.points[0];
    w.m.points[0] = first;
    w.m.point_count++;
    line_close(&one);
    free(one.disk);
    world_done(&w);
}

static void discarded_branches_go_and_promoted_ones_are_the_main_line(void **state)
{
    struct world w;
    struct line one = {0}, two = {0};
    struct err err = ERR_INIT;
    char data[160], dir[160], path[300];
    (void)state;
    world_init(&w, 40);
    world_change(&w, 3);
    line_begin(&w, ONE, &one);
    line_begin(&w, TWO, &two);
    line_write(&w, &one, 4000);
    line_write(&w, &two, 4000);
    line_close(&one); /* flushes */
    line_close(&two);
    world_bring(&w);
    world_ok(branchlist_discard(w.m.machine_dir, TWO, &err), &err);
    world_bring(&w);
    world_check_tidy(&w);
    world_rebuild(&w, data, dir);
    (void)snprintf(path, sizeof(path), "%s/branches/" TWO, dir);
    assert_int_equal(access(path, F_OK), -1);
    world_ok(promote_prepare(w.m.store, ONE, 2, &err), &err);
    store_close(TAKE_PTR(w.m.store));
    world_ok(store_open(&w.m.conf, &w.m.store, &err), &err);
    world_bring(&w);
    world_check_tidy(&w);
    memcpy(w.m.disks[0], one.disk, w.m.disk_bytes[0]);
    memcpy(w.m.disks[1], w.m.points[0].disks[1], w.m.disk_bytes[1]);
    const struct pointlist *points = store_points(w.m.store);
    model_keep_point(&w.m, points->items[points->count - 1].sequence);
    world_check_rebuilt_at(&w, store_committed(w.m.store), 2);
    free(one.disk);
    free(two.disk);
    world_done(&w);
}

/* A promotion that waits for something, and a branch on a point that the bucket does not reach yet, hold up nothing. */
static void a_branch_that_cannot_be_sent_now_stays_as_it_was(void **state)
{
    struct world w;
    struct line one = {0};
    char path[340];
    (void)state;
    world_init(&w, 41);
    world_change(&w, 1);
    line_begin(&w, ONE, &one);
    line_write(&w, &one, 4000);
    line_flush(&one);
    world_bring(&w);
    uint8_t *before = copy_of(&w, &one);
    (void)snprintf(path, sizeof(path), "%s/promotion", one.dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fclose(f);
    line_write(&w, &one, 4000);
    line_flush(&one);
    world_change(&w, 1);
    world_bring(&w);
    assert_int_equal(unlink(path), 0);
    check_line_rebuilt(&w, ONE, before);
    world_bring(&w);
    check_line_rebuilt(&w, ONE, one.disk);
    line_close(&one);
    free(one.disk);
    free(before);
    world_done(&w);
}

static void of_an_erased_machine_nothing_is_left(void **state)
{
    struct world w, other;
    struct err err = ERR_INIT;
    struct line one = {0};
    char path[300];
    (void)state;
    world_init(&w, 42);
    lock_for(&w, DAY_USEC);
    world_change(&w, 5);
    line_begin(&w, ONE, &one);
    line_write(&w, &one, 4000);
    line_close(&one);
    world_bring(&w);
    world_init(&other, 43);
    other.m.conf.machine.bytes[0] = 9;
    world_ok(upload_purge(&other.m.conf.machine, w.objects, &err), &err); /* another one's are left alone */
    world_check_tidy(&w);
    world_ok(upload_purge(&w.m.conf.machine, w.objects, &err), &err);
    (void)snprintf(path, sizeof(path), "test -z \"$(find %s/bucket -type f)\"", w.m.dir);
    assert_int_equal(system(path), 0);
    world_rebuild_fails(&w, ERR_NOT_FOUND, "no machine");
    free(one.disk);
    world_done(&other);
    world_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_older_keys_are_in_the_bucket),
        cmocka_unit_test(the_keys_are_there_before_the_log),
        cmocka_unit_test(damaged_keys_do_not_take_the_place_of_good_ones),
        cmocka_unit_test(a_lock_is_not_shortened_by_losing_the_vault),
        cmocka_unit_test(a_lock_is_there_before_the_log),
        cmocka_unit_test(a_lock_that_was_damaged_or_taken_away_stays_in_the_bucket),
        cmocka_unit_test(healed_damage_is_healed_in_a_rebuilt_vault),
        cmocka_unit_test(what_is_not_damaged_any_more_goes_from_the_bucket),
        cmocka_unit_test(a_branch_is_in_the_bucket_as_at_its_last_flush),
        cmocka_unit_test(nothing_new_of_a_branch_is_no_new_mark),
        cmocka_unit_test(a_long_branch_comes_in_turns),
        cmocka_unit_test(a_branch_that_went_back_is_sent_anew),
        cmocka_unit_test(another_branch_of_the_same_id_is_another_one),
        cmocka_unit_test(discarded_branches_go_and_promoted_ones_are_the_main_line),
        cmocka_unit_test(of_an_erased_machine_nothing_is_left),
        cmocka_unit_test(a_branch_that_cannot_be_sent_now_stays_as_it_was),
    };
    return cmocka_run_group_tests_name("bucket_side", tests, NULL, NULL);
}
