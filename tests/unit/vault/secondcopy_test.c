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
#include "transport/log/segment_rewrite.h"
#include "transport/vault/heal.h"
#include "transport/vault/manifest.h"
#include "transport/vault/secondcheck.h"
#include "transport/vault/secondcopy.h"
#include "transport/vault/store_compact.h"
#include "transport/vault/verify.h"
#include "transport/vault/view.h"

#define PAGE 4096u
#define POINTS 60u

struct fixture {
    struct world w;
    struct bucketconf conf;
    struct keyring keys;
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

static uint64_t writes_from(const struct fixture *f)
{
    struct log_position position;
    store_position(f->w.m.store, &position);
    return position.segment;
}

/* Another one, as each healing has. */
static struct heal_copy copy_of(struct fixture *f)
{
    struct err err = ERR_INIT;
    secondcopy_free(TAKE_PTR(f->copy));
    f->keys = f->w.m.opened.keys;
    const struct secondcopy_spec spec = {.bucket = &f->conf,
        .machine_dir = f->w.m.machine_dir,
        .machine = f->w.m.conf.machine,
        .keys = &f->keys,
        .points = store_points(f->w.m.store),
        .committed = store_committed(f->w.m.store),
        .writes_from = writes_from(f)};
    world_ok(secondcopy_new(&spec, &f->copy, &err), &err);
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

/* Byte `byte` of the payload of the nth record of a segment of the vault's; where that lies in the file. */
static long damage_payload(const struct fixture *f, uint64_t number, unsigned nth, unsigned byte)
{
    char path[300];
    uint64_t at;
    segment_path(f, number, path);
    (void)record_in(f, number, nth, &at);
    long place = (long)at + RECORD_HEADER_SIZE + (long)byte;
    world_flip(path, place);
    return place;
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
    const struct err *why;
    (void)state;
    begin(&f, 85);
    long place = damage_payload(&f, 1, 2, 100);
    find(&f, &q);
    assert_int_equal(q.count, 1);
    char *object = object_of(&f);
    world_flip(object, place); /* the piece is not what its name says */
    struct heal_copy copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, &copy), 0);
    assert_null(secondcopy_failure(f.copy));
    assert_int_equal(secondcopy_bad(f.copy, &why), 1);
    assert_int_equal(why->code, ERR_CORRUPT);
    assert_non_null(strstr(why->text, strrchr(object, '/'))); /* it is named */
    assert_false(has_leftovers(&f));
    world_flip(object, place);
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
    char bucket[200], aside[200];
    (void)state;
    begin(&f, 86);
    uint64_t at = (uint64_t)damage_payload(&f, 1, 2, 100) - RECORD_HEADER_SIZE - 100;
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

static void one_bad_object_costs_what_it_would_have_healed(void **state)
{
    struct fixture f;
    struct quarantine q;
    const struct err *why;
    char path[300];
    uint64_t at;
    (void)state;
    begin(&f, 87);
    for (uint64_t number = 1; number <= 3; number++) {
        segment_path(&f, number, path);
        (void)record_in(&f, number, 2, &at);
        world_flip(path, (long)at + RECORD_HEADER_SIZE + 100);
    }
    segment_path(&f, 4, path);
    assert_int_equal(unlink(path), 0);
    char *object = object_of(&f); /* of the first segment */
    world_flip(object, (long)at + RECORD_HEADER_SIZE + 100);
    find(&f, &q);
    assert_int_equal(q.count, 4);
    struct heal_copy copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, &copy), 3);
    assert_int_equal(q.items[0].state, QUARANTINE_DAMAGED);
    assert_null(secondcopy_failure(f.copy));
    assert_int_equal(secondcopy_bad(f.copy, &why), 1);
    assert_non_null(strstr(why->text, strrchr(object, '/')));
    world_flip(object, (long)at + RECORD_HEADER_SIZE + 100); /* somebody put it right */
    copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, &copy), 1);
    model_check_all(&f.w.m);
    free(object);
    quarantine_done(&q);
    end(&f);
}

/* ---- another history ---- */

/* The vault is put back from an older copy of its folder, and takes in others than the bucket has. */
static void begin_apart(struct fixture *f, uint64_t seed, unsigned commits)
{
    struct err err = ERR_INIT;
    char copy[200];
    begin(f, seed);
    world_ok(store_flush(f->w.m.store, &err), &err);
    (void)snprintf(copy, sizeof(copy), "%s/copy", f->w.m.dir);
    model_copy_tree(f->w.m.machine_dir, copy);
    unsigned points = f->w.m.point_count;
    for (unsigned i = 0; i < commits; i++) {
        model_write(&f->w.m, 0, (uint64_t)i % 16 * PAGE, PAGE, false);
        model_commit(&f->w.m, MARK_CRASH);
    }
    world_bring(&f->w);
    model_close(&f->w.m);
    while (f->w.m.point_count > points)
        model_forget(&f->w.m, f->w.m.points[f->w.m.point_count - 1].sequence);
    world_ok(file_remove_tree(f->w.m.machine_dir, &err), &err);
    assert_int_equal(rename(copy, f->w.m.machine_dir), 0);
    model_open(&f->w.m);
    f->w.m.began_utc_usec += 7;
    for (unsigned i = 0; i < commits; i++) { /* the same places, the same lengths, other bytes */
        model_write(&f->w.m, 0, (uint64_t)i % 16 * PAGE, PAGE, false);
        model_commit(&f->w.m, MARK_CRASH);
    }
}

static void nothing_is_taken_from_another_history(void **state)
{
    struct fixture f;
    struct quarantine q;
    char path[300];
    uint64_t at;
    (void)state;
    begin_apart(&f, 88, 80);
    uint64_t last = writes_from(&f);
    segment_path(
        &f, last - 1, path); /* of which the bucket has another one: its header is gone, so its hash is not known */
    (void)record_in(&f, last - 1, 1, &at);
    overwrite(path, at, RECORD_HEADER_SIZE + 40);
    segment_path(&f, last - 2, path);
    assert_int_equal(unlink(path), 0);
    find(&f, &q);
    assert_true(q.count >= 2);
    struct heal_copy copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, &copy), 0);
    assert_non_null(secondcopy_failure(f.copy));
    assert_int_equal(secondcopy_failure(f.copy)->code, ERR_CONFLICT);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_false(has_leftovers(&f));
    quarantine_done(&q);
    end(&f);
}

/* What one segment alone tells, when the bucket as a whole could not be told apart. */
static int check_copy(struct fixture *f, const char *from_main, uint64_t number, bool whole, struct err *err)
{
    struct store_meta meta;
    char folder[300], command[1400], name[SEGMENT_NAME_SIZE];
    uint64_t end;
    segment_name(number, name);
    (void)snprintf(folder, sizeof(folder), "%s/second", f->w.m.machine_dir);
    (void)snprintf(command, sizeof(command), "rm -rf %s && mkdir -p %s/main && cp %s/%s %s/main", folder, folder,
        from_main, name, folder);
    assert_int_equal(system(command), 0);
    store_get_meta(f->w.m.store, &meta);
    const struct secondcheck check = {.machine_dir = f->w.m.machine_dir,
        .copy_dir = folder,
        .meta = &meta,
        .keys = &f->w.m.opened.keys,
        .points = store_points(f->w.m.store)};
    err_clear(err);
    int rc = whole ? secondcheck_whole(&check, number, err) : secondcheck_records(&check, number, &end, err);
    return rc < 0 ? -1 : whole ? 1 : end > SEGMENT_HEADER_SIZE;
}

static void a_segment_must_agree_with_what_is_left(void **state)
{
    struct fixture f;
    struct err err = ERR_INIT;
    char ours[300], theirs[300], path[300], name[SEGMENT_NAME_SIZE];
    (void)state;
    begin_apart(&f, 89, 80);
    uint64_t number = writes_from(&f) - 2;
    char data[160], machine_dir[160];
    world_rebuild(&f.w, data, machine_dir); /* what the bucket has */
    (void)snprintf(theirs, sizeof(theirs), "%s/main", machine_dir);
    (void)snprintf(ours, sizeof(ours), "%s/ours", f.w.m.dir);
    (void)snprintf(path, sizeof(path), "%s/main", f.w.m.machine_dir);
    model_copy_tree(path, ours);
    assert_int_equal(check_copy(&f, ours, number, true, &err), 1);
    assert_int_equal(check_copy(&f, ours, number, false, &err), 1);
    assert_int_equal(check_copy(&f, theirs, number, true, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(check_copy(&f, theirs, number, false, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    segment_path(&f, number, path);
    assert_int_equal(unlink(path), 0); /* only the neighbours and the points speak for it now */
    assert_int_equal(check_copy(&f, ours, number, true, &err), 1);
    assert_int_equal(check_copy(&f, theirs, number, true, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(check_copy(&f, theirs, number, false, &err), -1);
    /* a record of it is damaged, or it is cut off */
    char copy[340];
    segment_name(number, name);
    (void)snprintf(copy, sizeof(copy), "%s/%s", ours, name);
    world_flip(copy, SEGMENT_HEADER_SIZE + RECORD_HEADER_SIZE + 5);
    assert_int_equal(check_copy(&f, ours, number, true, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    world_flip(copy, SEGMENT_HEADER_SIZE + RECORD_HEADER_SIZE + 5);
    assert_int_equal(truncate(copy, SEGMENT_HEADER_SIZE), 0);
    assert_int_equal(check_copy(&f, ours, number, true, &err), -1);
    end(&f);
}

/* ---- segments as a whole ---- */

static uint64_t first_mark_in(const struct fixture *f, uint64_t number)
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
    do
        assert_int_equal(segment_read_next(reader, &offset, &r, &payload, &err), 1);
    while (r.kind != RECORD_MARK);
    return segment_reader_place(reader);
}

/* Damage that was there before the first upload: the object is what its mark says. */
static void a_segment_that_was_damaged_before_it_was_sent_is_not_put_back(void **state)
{
    struct fixture f;
    struct err err = ERR_INIT;
    const struct err *why;
    char path[300];
    (void)state;
    memset(&f, 0, sizeof(f));
    world_init(&f.w, 91);
    for (unsigned p = 0; p < POINTS; p++) {
        for (unsigned i = 0; i < 8; i++)
            model_write(&f.w.m, 0, model_random(&f.w.m, 16) * PAGE, PAGE, false);
        model_commit(&f.w.m, MARK_CRASH);
    }
    f.conf.url = f.w.url;
    segment_path(&f, 1, path);
    (void)damage_payload(&f, 1, 3, 50);
    world_bring(&f.w);
    assert_int_equal(unlink(path), 0);
    (void)copy_of(&f);
    assert_int_equal(secondcopy_restore(f.copy, 1, false, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_int_equal(secondcopy_bad(f.copy, &why), 1);
    assert_null(secondcopy_failure(f.copy));
    assert_int_not_equal(access(path, F_OK), 0);
    assert_false(has_leftovers(&f));
    assert_int_equal(secondcopy_restore(f.copy, 1, false, &err), -1); /* and not fetched again */
    assert_int_equal(secondcopy_bad(f.copy, &why), 1);
    end(&f);
}

/* A mark, and a segment of which nothing can be read, are put back; what is written to is left alone. */
static void marks_and_unreadable_segments_are_put_back(void **state)
{
    struct fixture f;
    struct quarantine q;
    struct err err = ERR_INIT;
    char path[300];
    (void)state;
    begin(&f, 90);
    segment_path(&f, 1, path);
    (void)damage_payload(&f, 1, 2, 100); /* a payload beside it */
    world_flip(path, (long)first_mark_in(&f, 1) + RECORD_HEADER_SIZE + 9);
    segment_path(&f, 2, path);
    overwrite(path, 0, 200);
    find(&f, &q);
    unsigned restored = 0;
    struct heal_copy copy = copy_of(&f);
    assert_int_equal(heal(&f, &q, &copy), q.count);
    for (size_t i = 0; i < q.count; i++)
        restored += q.items[i].restored;
    assert_true(restored >= 2);
    quarantine_done(&q);
    find(&f, &q);
    assert_int_equal(q.count, 0);
    model_check_all(&f.w.m);
    segment_path(&f, writes_from(&f), path);
    overwrite(path, 0, 200);
    copy = copy_of(&f);
    assert_int_equal(secondcopy_restore(f.copy, writes_from(&f), true, &err), 0);
    assert_int_equal(secondcopy_restore(f.copy, writes_from(&f), false, &err), 0);
    end(&f);
}

/* ---- beside uploads and compaction ---- */

/* What happens behind the back of whoever looks: the next time that a segment is recovered, or an object is read, a rewritten segment takes its place. */
static struct {
    int main_fd;
    uint64_t number; /* 0: nothing happens */
    bool at_recover; /* else when an object is read */
} behind;

static void happen(bool at_recover)
{
    struct err err = ERR_INIT;
    if (behind.number == 0 || behind.at_recover != at_recover)
        return;
    world_ok(segment_rewrite_commit(behind.main_fd, behind.number, &err), &err);
    assert_int_equal(close(behind.main_fd), 0);
    behind.number = 0;
}

typedef void mark_fn(void *arg, const struct record *r, const uint8_t *payload, uint64_t end_bytes);
int __real_segment_recover(int, uint64_t, mark_fn *, void *, uint64_t *, bool *, struct err *);
int __wrap_segment_recover(
    int dirfd, uint64_t number, mark_fn *on_mark, void *arg, uint64_t *ret_end, bool *ret_sealed, struct err *err);
int __wrap_segment_recover(
    int dirfd, uint64_t number, mark_fn *on_mark, void *arg, uint64_t *ret_end, bool *ret_sealed, struct err *err)
{
    happen(true);
    return __real_segment_recover(dirfd, number, on_mark, arg, ret_end, ret_sealed, err);
}

int __real_object_get(
    struct object_store *s, const char *name, uint64_t offset, uint64_t bytes, struct buf *out, struct err *err);
int __wrap_object_get(
    struct object_store *s, const char *name, uint64_t offset, uint64_t bytes, struct buf *out, struct err *err);
int __wrap_object_get(
    struct object_store *s, const char *name, uint64_t offset, uint64_t bytes, struct buf *out, struct err *err)
{
    if (strstr(name, "/main/") != NULL) /* a segment's */
        happen(false);
    return __real_object_get(s, name, offset, bytes, out, err);
}

static bool is_no_mark(void *arg, const struct record *r, const struct mark *m, uint64_t place)
{
    (void)arg;
    (void)r;
    (void)place;
    return m == NULL;
}

static uint64_t itself(void *arg, uint64_t sequence)
{
    (void)arg;
    return sequence;
}

/* Without its marks, which compaction drops with their points. The new file is ready, but not yet in its place. */
static void rewrite(const struct fixture *f, uint64_t number, bool at_recover)
{
    char path[300];
    struct err err = ERR_INIT;
    struct segment_rewritten rewritten;
    (void)snprintf(path, sizeof(path), "%s/main", f->w.m.machine_dir);
    behind.main_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(behind.main_fd >= 0);
    const struct segment_rewrite_spec spec = {
        .dirfd = behind.main_fd, .number = number, .stays = is_no_mark, .next_needed = itself};
    world_ok(segment_rewrite(&spec, &rewritten, &err), &err);
    behind.number = number;
    behind.at_recover = at_recover;
}

static void a_neighbour_that_is_rewritten_meanwhile_speaks_for_a_segment(void **state)
{
    struct fixture f;
    struct err err = ERR_INIT;
    char ours[300], path[300];
    (void)state;
    begin(&f, 92);
    (void)snprintf(ours, sizeof(ours), "%s/ours", f.w.m.dir);
    (void)snprintf(path, sizeof(path), "%s/main", f.w.m.machine_dir);
    model_copy_tree(path, ours);
    segment_path(&f, 2, path);
    assert_int_equal(unlink(path), 0);
    rewrite(&f, 1, true);
    if (check_copy(&f, ours, 2, true, &err) != 1)
        fail_msg("%s", err.text);
    assert_int_equal(behind.number, 0); /* it did happen */
    end(&f);
}

static void what_is_sent_after_a_healing_began_is_no_loss(void **state)
{
    struct fixture f;
    struct quarantine q;
    struct err err = ERR_INIT;
    (void)state;
    begin(&f, 93);
    (void)damage_payload(&f, 1, 2, 100);
    find(&f, &q);
    assert_int_equal(q.count, 1);
    const struct heal_copy copy = copy_of(&f);
    for (unsigned i = 0; i < 8; i++) {
        model_write(&f.w.m, 0, 0, PAGE, false);
        model_commit(&f.w.m, MARK_CRASH);
    }
    world_bring(&f.w); /* the bucket is ahead of what was noted when it began */
    world_ok(store_flush(f.w.m.store, &err), &err);
    assert_int_equal(heal(&f, &q, &copy), 1);
    assert_null(secondcopy_failure(f.copy));
    model_check_all(&f.w.m);
    quarantine_done(&q);
    end(&f);
}

/* The segment ends, and the index covers it. */
static void write_until_ended(struct fixture *f, uint64_t number)
{
    for (unsigned i = 0; writes_from(f) == number || i < 8; i++) {
        model_write(&f->w.m, 0, (uint64_t)i % 16 * PAGE, PAGE, false);
        model_commit(&f->w.m, MARK_CRASH);
    }
}

/* Everything is healed though another file takes the segment's place while the bucket is looked at. */
static void heal_beside_a_rewrite(
    struct fixture *f, struct quarantine *q, const struct heal_copy *copy, uint64_t number)
{
    rewrite(f, number, false);
    size_t healed = (size_t)heal(f, q, copy);
    assert_int_equal(behind.number, 0); /* it did happen */
    if (secondcopy_failure(f->copy) != NULL)
        fail_msg("%s", secondcopy_failure(f->copy)->text);
    assert_int_equal(healed, q->count);
}

/* The bucket's newest mark is damaged, so the last piece is compared; and there is another file in its place then. */
static void a_segment_that_is_rewritten_meanwhile_is_no_other_history(void **state)
{
    struct fixture f;
    struct quarantine q;
    (void)state;
    begin(&f, 94);
    uint64_t last = writes_from(&f);
    char *object = world_path(&f.w, "main", true);
    world_flip(object, -5);
    write_until_ended(&f, last);
    (void)damage_payload(&f, 1, 2, 100);
    find(&f, &q);
    assert_int_equal(q.count, 1);
    const struct heal_copy copy = copy_of(&f);
    heal_beside_a_rewrite(&f, &q, &copy, last);
    free(object);
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
        cmocka_unit_test(one_bad_object_costs_what_it_would_have_healed),
        cmocka_unit_test(nothing_is_taken_from_another_history),
        cmocka_unit_test(a_segment_must_agree_with_what_is_left),
        cmocka_unit_test(a_segment_that_was_damaged_before_it_was_sent_is_not_put_back),
        cmocka_unit_test(marks_and_unreadable_segments_are_put_back),
        cmocka_unit_test(a_neighbour_that_is_rewritten_meanwhile_speaks_for_a_segment),
        cmocka_unit_test(what_is_sent_after_a_healing_began_is_no_loss),
        cmocka_unit_test(a_segment_that_is_rewritten_meanwhile_is_no_other_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
