/* SPDX-License-Identifier: Apache-2.0
 *
 * Damage that only the second copy can heal: what the source has overwritten since, what has no header any more, a segment that is
 * gone. Nothing is taken from the bucket that does not open under the machine's key and is not what stood there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/vault/bucketworld.h"
#include "transport/base/file.h"
#include "transport/log/segment.h"
#include "transport/vault/heal.h"
#include "transport/vault/secondcopy.h"
#include "transport/vault/store_compact.h"
#include "transport/vault/verify.h"
#include "transport/vault/view.h"

#define PAGE 4096u
#define POINTS 60u

struct fixture {
    struct world w;
    struct bucketconf conf;
    struct secondcopy *copy;
};

/* Points of a small disk, whose pages are overwritten again and again; all in the bucket. */
static void begin(struct fixture *f, uint64_t seed)
{
    memset(f, 0, sizeof(*f));
    world_init(&f->w, seed);
    for (unsigned p = 0; p < POINTS; p++) {
        for (unsigned i = 0; i < 8; i++)
            model_write(&f->w.m, 0, model_random(&f->w.m, 16) * PAGE, PAGE, false);
        model_commit(&f->w.m, MARK_CRASH);
    }
    world_bring(&f->w);
    f->conf.url = f->w.url;
}

static void end(struct fixture *f)
{
    secondcopy_free(f->copy);
    world_done(&f->w);
}

/* Another one, as each healing has. */
static struct heal_copy copy_of(struct fixture *f)
{
    struct err err = ERR_INIT;
    secondcopy_free(TAKE_PTR(f->copy));
    world_ok(secondcopy_new(&f->conf, NULL, f->w.m.machine_dir, &f->w.m.conf.machine, &f->copy, &err), &err);
    return (struct heal_copy){.read = secondcopy_read, .restore = secondcopy_restore, .arg = f->copy};
}

static void segment_path(const struct fixture *f, uint64_t number, char out[300])
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    (void)snprintf(out, 300, "%s/main/%s", f->w.m.machine_dir, name);
}

/* The nth data record of the segment: its place, and where it lies in the file. */
static uint64_t record_in(const struct fixture *f, uint64_t number, unsigned nth, uint64_t *ret_file_offset)
{
    char path[300];
    struct err err = ERR_INIT;
    struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
    struct record r;
    const uint8_t *payload;
    uint64_t offset = SEGMENT_HEADER_SIZE;
    (void)snprintf(path, sizeof(path), "%s/main", f->w.m.machine_dir);
    int fd AUTO_CLOSE = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    world_ok(segment_open(fd, number, &reader, &err), &err);
    do {
        if (ret_file_offset != NULL)
            *ret_file_offset = offset;
        if (segment_read_next(reader, &offset, &r, &payload, &err) != 1)
            fail_msg("segment %llu has no record %u", (unsigned long long)number, nth);
    } while (r.kind != RECORD_DATA || nth-- > 0);
    return segment_reader_place(reader);
}

static void overwrite(const char *path, uint64_t at, size_t n)
{
    static const uint8_t zeros[1024];
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(zeros, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static struct damagehit hit_of(const struct fixture *f)
{
    const struct model *m = &f->w.m;
    return (struct damagehit){.machine_dir = m->machine_dir,
        .machine = m->conf.machine,
        .keys = m->opened.keys,
        .points = *store_points(m->store),
        .newest = store_committed(m->store)};
}

static void find(const struct fixture *f, struct quarantine *q)
{
    const struct model *m = &f->w.m;
    struct verify_result r;
    struct err err = ERR_INIT;
    struct damagehit h = hit_of(f);
    size_t added;
    const struct verify_spec spec = {.machine_dir = m->machine_dir,
        .machine = m->conf.machine,
        .keys = m->opened.keys,
        .until_sequence = store_committed(m->store)};
    world_ok(store_flush(m->store, &err), &err);
    world_ok(verify_run(&spec, &r, &err), &err);
    *q = (struct quarantine){0};
    for (size_t i = 0; i < r.listed; i++)
        world_ok(damagehit_items(&h, &r.damages[i], 1, q, &added, &err), &err);
    for (size_t i = 0; i < q->count; i++)
        world_ok(damagehit_points(&h, &q->items[i], &err), &err);
    verify_result_done(&r);
}

/* How many of the list. */
static unsigned heal(struct fixture *f, struct quarantine *q, const struct heal_copy *copy)
{
    struct err err = ERR_INIT;
    struct mend_nonce nonce = {0};
    struct damagehit h = hit_of(f);
    unsigned healed = 0;
    world_ok(store_take_nonce_stream(f->w.m.store, &nonce.stream, &err), &err);
    for (size_t i = 0; i < q->count; i++) {
        int got = heal_item(&h, &q->items[i], copy, &nonce, &err);
        world_ok(got, &err);
        healed += got > 0;
    }
    return healed;
}

static bool has_leftovers(const struct fixture *f)
{
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/second", f->w.m.machine_dir);
    return access(path, F_OK) == 0;
}

/* ---- tests ---- */

static void what_the_source_has_overwritten_comes_from_the_bucket(void **state)
{
    struct fixture f;
    struct quarantine q;
    char path[300];
    uint64_t at;
    (void)state;
    begin(&f, 81);
    for (uint64_t number = 1; number <= 3; number++) {
        segment_path(&f, number, path);
        (void)record_in(&f, number, 2, &at);
        world_flip(path, (long)at + RECORD_HEADER_SIZE + 100); /* a payload */
        (void)record_in(&f, number, 7, &at);
        overwrite(path, at, RECORD_HEADER_SIZE + 40); /* header and all */
    }
    find(&f, &q);
    assert_true(q.count >= 6);
    struct quarantine again = {0};
    struct err err = ERR_INIT;
    world_ok(quarantine_copy(&q, &again, &err), &err);
    assert_int_equal(heal(&f, &again, NULL), 0); /* without a second copy */
    const struct heal_copy copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, &copy), q.count);
    for (size_t i = 0; i < q.count; i++)
        assert_true(q.items[i].state == QUARANTINE_HEALED && !q.items[i].now);
    model_check_all(&f.w.m);
    assert_null(secondcopy_failure(f.copy));
    assert_false(has_leftovers(&f));
    quarantine_done(&q);
    quarantine_done(&again);
    end(&f);
}

/* The source need not be asked for what the newest state lacks. */
static void the_newest_state_comes_from_the_bucket(void **state)
{
    struct fixture f;
    struct quarantine q;
    char path[300];
    uint64_t at;
    (void)state;
    begin(&f, 82);
    model_write(&f.w.m, 1, 0, PAGE, false); /* of disk 1 there is nothing else */
    model_commit(&f.w.m, MARK_CRASH);
    for (unsigned i = 0; i < 40; i++) { /* and its segment is sealed */
        model_write(&f.w.m, 0, (uint64_t)i % 16 * PAGE, PAGE, false);
        model_commit(&f.w.m, MARK_CRASH);
    }
    world_bring(&f.w);
    for (uint64_t number = 1, found = 0; !found; number++)
        for (unsigned nth = 0; nth < 8 && !found; nth++) {
            struct err err = ERR_INIT;
            struct segment_reader *reader AUTO_OF(segment_reader) = NULL;
            struct record r;
            uint64_t place = record_in(&f, number, nth, &at);
            segment_path(&f, number, path);
            char *folder AUTO_FREE = mem_printf("%s/main", f.w.m.machine_dir);
            int fd AUTO_CLOSE = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            world_ok(segment_open(fd, number, &reader, &err), &err);
            world_ok(segment_pread(reader, place, &r, NULL, 0, &err), &err);
            found = r.disk == 1;
        }
    world_flip(path, (long)at + RECORD_HEADER_SIZE + 9);
    find(&f, &q);
    assert_int_equal(q.count, 1);
    assert_true(q.items[0].now);
    const struct heal_copy copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, &copy), 1);
    assert_false(q.items[0].now);
    model_check_all(&f.w.m);
    quarantine_done(&q);
    end(&f);
}

static void a_segment_that_is_gone_comes_from_the_bucket(void **state)
{
    struct fixture f;
    struct quarantine q;
    char path[300];
    (void)state;
    begin(&f, 83);
    static const uint64_t missing[] = {1, 3, 4};
    for (size_t i = 0; i < 3; i++) {
        segment_path(&f, missing[i], path);
        assert_int_equal(unlink(path), 0);
    }
    model_write(&f.w.m, 0, 0, PAGE, false);
    model_commit(&f.w.m, MARK_CRASH);
    world_bring(&f.w); /* and stays there: the vault removes no segment */
    find(&f, &q);
    assert_int_equal(q.count, 2);
    assert_int_equal(q.items[0].kind, VERIFY_LOG);
    const struct heal_copy copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, NULL), 0);
    assert_int_equal(heal(&f, &q, &copy), 2);
    quarantine_done(&q);
    find(&f, &q);
    assert_int_equal(q.count, 0);
    model_check_all(&f.w.m);
    world_check_rebuilt(&f.w, store_committed(f.w.m.store));
    quarantine_done(&q);
    end(&f);
}

/* Places are those of the segment as it was written, whichever of its two forms the bucket has. */
static void a_rewritten_segment_is_healed(void **state)
{
    (void)state;
    for (int fresh_copy = 0; fresh_copy < 2; fresh_copy++) {
        struct fixture f;
        struct quarantine q;
        struct err err = ERR_INIT;
        struct store_compact *c AUTO_OF(store_compact) = NULL;
        uint64_t drop[POINTS], at;
        char path[300];
        size_t count = 0;
        begin(&f, 84);
        for (unsigned p = 0; p + 1 < POINTS; p++)
            if (p % 5 != 0)
                drop[count++] = f.w.m.points[p].sequence;
        model_drop(&f.w.m, drop, count);
        const struct compact_spec spec = {.least_percent = 1};
        assert_int_equal(store_compact_plan(f.w.m.store, &spec, &c, &err), 1);
        world_ok(store_compact_look(c, &err), &err);
        unsigned rewritten = 0;
        while (store_compact_rewrite(c, &err) > 0) {
            world_ok(store_compact_finish(f.w.m.store, c, &err), &err);
            rewritten++;
        }
        assert_true(rewritten > 1);
        if (fresh_copy)
            world_bring(&f.w);
        uint64_t number = 1, place = record_in(&f, 1, 0, &at);
        for (unsigned nth = 0; place == at && number < 4; number += place == at && nth == 5, nth = (nth + 1) % 6)
            place = record_in(&f, number, nth, &at);
        assert_int_not_equal(place, at);
        segment_path(&f, number, path);
        world_flip(path, (long)at + RECORD_HEADER_SIZE + 77);
        find(&f, &q);
        assert_int_equal(q.count, 1);
        assert_int_equal(q.items[0].offset, place);
        const struct heal_copy copy = copy_of(&f);
        assert_int_equal(heal(&f, &q, &copy), 1);
        model_check_all(&f.w.m);
        quarantine_done(&q);
        end(&f);
    }
}

static char *object_of(struct fixture *f)
{
    return world_path(&f->w, "main", false);
}

/* A copy that is damaged, too, or that is of something else, heals nothing. */
static void a_bad_copy_is_not_believed(void **state)
{
    struct fixture f;
    struct quarantine q;
    char path[300];
    uint64_t at;
    (void)state;
    begin(&f, 85);
    segment_path(&f, 1, path);
    (void)record_in(&f, 1, 2, &at);
    world_flip(path, (long)at + RECORD_HEADER_SIZE + 100);
    find(&f, &q);
    assert_int_equal(q.count, 1);
    char *object = object_of(&f);
    world_flip(object, (long)at + RECORD_HEADER_SIZE + 100); /* the piece is not what its name says */
    struct heal_copy copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, &copy), 0);
    assert_non_null(secondcopy_failure(f.copy));
    assert_int_equal(secondcopy_failure(f.copy)->code, ERR_CORRUPT);
    assert_false(has_leftovers(&f));
    world_flip(object, (long)at + RECORD_HEADER_SIZE + 100);
    /* right again, and it has what another record of the same range of the disk holds */
    q.items[0].has_hash = true;
    struct hash128 right = q.items[0].hash;
    q.items[0].hash.bytes[3] ^= 1;
    copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, &copy), 0);
    assert_null(secondcopy_failure(f.copy));
    q.items[0].hash = right;
    /* under another key */
    struct keyring keys = f.w.m.opened.keys;
    f.w.m.opened.keys.items[0].key.bytes[0] ^= 1;
    copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, &copy), 0);
    f.w.m.opened.keys = keys;
    copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, &copy), 1);
    model_check_all(&f.w.m);
    free(object);
    quarantine_done(&q);
    end(&f);
}

static void a_bucket_that_cannot_be_read_costs_nothing(void **state)
{
    struct fixture f;
    struct quarantine q;
    struct err err = ERR_INIT;
    struct record r;
    static uint8_t payload[RECORD_STORED_MAX];
    char path[300], bucket[200], aside[200];
    uint64_t at;
    (void)state;
    begin(&f, 86);
    segment_path(&f, 1, path);
    (void)record_in(&f, 1, 2, &at);
    world_flip(path, (long)at + RECORD_HEADER_SIZE + 100);
    find(&f, &q);
    (void)snprintf(bucket, sizeof(bucket), "%s/bucket", f.w.m.dir);
    (void)snprintf(aside, sizeof(aside), "%s/aside", f.w.m.dir);
    assert_int_equal(rename(bucket, aside), 0);
    FILE *file = fopen(bucket, "w"); /* no folder at all */
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    struct heal_copy copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, &copy), 0);
    assert_non_null(secondcopy_failure(f.copy));
    assert_int_equal(unlink(bucket), 0);
    assert_int_equal(rename(aside, bucket), 0);
    assert_int_equal(secondcopy_read(f.copy, 1, at, &r, payload, &err), -1); /* this one asks no more */
    copy = copy_of(&f);
    assert_int_equal(secondcopy_read(f.copy, 4711, 4096, &r, payload, &err), 0); /* no such segment */
    assert_int_equal(heal(&f, &q, &copy), 1);
    model_check_all(&f.w.m);
    quarantine_done(&q);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_source_has_overwritten_comes_from_the_bucket),
        cmocka_unit_test(the_newest_state_comes_from_the_bucket),
        cmocka_unit_test(a_segment_that_is_gone_comes_from_the_bucket),
        cmocka_unit_test(a_rewritten_segment_is_healed),
        cmocka_unit_test(a_bad_copy_is_not_believed),
        cmocka_unit_test(a_bucket_that_cannot_be_read_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
