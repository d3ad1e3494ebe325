/* SPDX-License-Identifier: Apache-2.0
 *
 * A file system that is really full: a tmpfs of few megabytes, in a mount namespace of this test's own. Whatever is refused for want of room
 * is refused as that, takes nothing away, and works when there is room.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/log/segment.h"
#include "transport/vault/branch.h"
#include "transport/vault/branchlist.h"
#include "transport/vault/promote.h"
#include "transport/vault/store_compact.h"
#include "transport/vault/view.h"

#define SIZE_MIB 12u
#define SEGMENT_BYTES (256u << 10)
#define NAME "5a2f6a1e-0000-4000-8000-00000000000b"

struct small {
    struct model m;
    char filler[200];
};

static void ok(int result, const struct err *err)
{
    if (result < 0)
        fail_msg("%s: %s", err_code_name(err->code), err->text);
}

static int setup(void **state)
{
    struct small *f = calloc(1, sizeof(*f));
    char size[40];
    model_init(&f->m, 4242);
    f->m.conf.segment_bytes = SEGMENT_BYTES;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        fail_msg("a mount namespace of its own needs root: %s", strerror(errno));
    (void)snprintf(size, sizeof(size), "size=%um", SIZE_MIB);
    assert_int_equal(mount("tmpfs", f->m.dir, "tmpfs", 0, size), 0);
    (void)snprintf(f->filler, sizeof(f->filler), "%s/filler", f->m.dir);
    model_open(&f->m);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct small *f = *state;
    (void)unlink(f->filler);
    if (f->m.store != NULL)
        model_close(&f->m);
    assert_int_equal(umount2(f->m.dir, MNT_DETACH), 0);
    model_done(&f->m);
    free(f);
    return 0;
}

/* Takes all room but that many bytes. */
static void fill_up(struct small *f, uint64_t but)
{
    static const uint8_t page[4096] = {1};
    struct statvfs vfs;
    int fd = open(f->filler, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (statvfs(f->m.dir, &vfs) == 0 && vfs.f_bavail * vfs.f_frsize > but)
        if (write(fd, page, sizeof(page)) < 0) {
            assert_int_equal(errno, ENOSPC);
            break;
        }
    (void)close(fd);
}

static void make_room(struct small *f)
{
    assert_int_equal(unlink(f->filler), 0);
}

static void writes(struct small *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        model_write(&f->m, 0, model_random(&f->m, 15) * RECORD_BLOCK_SIZE, RECORD_BLOCK_SIZE, false);
}

static void is_refused(int result, const struct err *err)
{
    assert_int_equal(result, -1);
    if (err->code != ERR_NOSPACE)
        fail_msg("%s: %s", err_code_name(err->code), err->text);
}

/* What the disks held before writes that came to nothing. */
static uint8_t *disk_copy(const struct small *f)
{
    uint8_t *copy = malloc(f->m.disk_bytes[0]);
    memcpy(copy, f->m.disks[0], f->m.disk_bytes[0]);
    return copy;
}

static void disk_back(struct small *f, uint8_t *copy)
{
    memcpy(f->m.disks[0], copy, f->m.disk_bytes[0]);
    free(copy);
    model_batch_reset(&f->m);
}

/* As the daemon does after a failure: the stream opens anew. */
static void begin_again(struct small *f)
{
    struct err err = ERR_INIT;
    ok(store_begin(f->m.store, 1, ++f->m.epoch, &f->m.opened, &err), &err);
    f->m.nonce = 0;
}

/* ---- the main line ---- */

static void a_change_set_that_does_not_fit_leaves_nothing_behind(void **state)
{
    struct small *f = *state;
    struct err err = ERR_INIT;
    uint64_t committed;
    writes(f, 4);
    model_commit(&f->m, MARK_CRASH);
    for (uint64_t but = 0; but < 6; but++) { /* it breaks off in a record, in the header of a new segment, ... */
        fill_up(f, but * 32768);
        uint8_t *before = disk_copy(f);
        writes(f, 8);
        model_mark(&f->m, MARK_CRASH);
        is_refused(store_append(f->m.store, f->m.batch.data, f->m.batch.len, &committed, &err), &err);
        assert_int_equal(committed, store_committed(f->m.store));
        assert_false(store_is_broken(f->m.store));
        err_clear(&err);
        disk_back(f, before);
        make_room(f);
        begin_again(f);
        writes(f, 3);
        model_commit(&f->m, MARK_CRASH);
        model_check_all(&f->m);
    }
    model_crash(&f->m);
    model_open(&f->m);
    model_check_all(&f->m);
}

static void an_index_run_that_does_not_fit_is_written_later(void **state)
{
    struct small *f = *state;
    struct err err = ERR_INIT;
    for (unsigned round = 0; round < 4; round++) {
        writes(f, 6);
        model_commit(&f->m, MARK_CRASH);
        fill_up(f, round % 2 * 4096);
        is_refused(store_flush(f->m.store, &err), &err);
        err_clear(&err);
        assert_false(store_is_broken(f->m.store));
        if (round == 2) { /* a restart in the middle of it: nothing but reading is needed to open */
            store_close(TAKE_PTR(f->m.store));
            ok(store_open(&f->m.conf, &f->m.store, &err), &err);
        }
        make_room(f);
        ok(store_flush(f->m.store, &err), &err);
        model_check_all(&f->m);
        begin_again(f);
    }
}

static void points_stay_readable_while_nothing_fits(void **state)
{
    struct small *f = *state;
    struct err err = ERR_INIT;
    for (unsigned i = 0; i < 5; i++) {
        writes(f, 3);
        model_commit(&f->m, MARK_CRASH);
    }
    ok(store_flush(f->m.store, &err), &err);
    fill_up(f, 0);
    for (unsigned i = 0; i < f->m.point_count; i++)
        model_check_point(&f->m, &f->m.points[i]);
    store_close(TAKE_PTR(f->m.store));
    ok(store_open(&f->m.conf, &f->m.store, &err), &err);
    for (unsigned i = 0; i < f->m.point_count; i++)
        model_check_point(&f->m, &f->m.points[i]);
}

static void dropping_points_is_all_or_nothing(void **state)
{
    struct small *f = *state;
    struct err err = ERR_INIT;
    uint64_t drop[100];
    size_t count = 0, dropped;
    for (unsigned i = 0; i < 100; i++) { /* a list of more than a page */
        model_write(&f->m, 0, 512 * (i % 50), 512, true);
        model_commit(&f->m, MARK_CRASH);
    }
    ok(store_flush(f->m.store, &err), &err);
    for (unsigned i = 0; i < 20; i++)
        drop[count++] = f->m.points[i * 2].sequence;
    fill_up(f, 0);
    is_refused(store_drop_points(f->m.store, drop, count, &dropped, &err), &err);
    assert_int_equal(dropped, 0);
    assert_int_equal(store_points(f->m.store)->count, f->m.point_count);
    make_room(f);
    model_drop(&f->m, drop, count);
    model_check_all(&f->m);
}

static int merge_all(struct small *f, struct err *err)
{
    struct store_merge *merge = NULL;
    int got;
    while ((got = store_merge_plan(f->m.store, &merge, err)) > 0) {
        int result = store_merge_run(merge, err);
        if (store_merge_finish(f->m.store, merge, result < 0 ? NULL : err) < 0)
            result = -1;
        store_merge_free(TAKE_PTR(merge));
        if (result < 0)
            return -1;
    }
    return got;
}

static void a_merge_that_does_not_fit_is_done_later(void **state)
{
    struct small *f = *state;
    struct err err = ERR_INIT;
    for (unsigned i = 0; i < 40; i++) {
        for (unsigned k = 0; k < 30; k++)
            model_write(&f->m, 0, 512 * model_random(&f->m, 2000), 512, true);
        model_commit(&f->m, MARK_CRASH);
        ok(store_flush(f->m.store, &err), &err);
    }
    uint64_t drop[40];
    size_t count = 0;
    for (unsigned i = 0; i < 30; i++)
        drop[count++] = f->m.points[i].sequence;
    model_drop(&f->m, drop, count);
    fill_up(f, 0);
    is_refused(merge_all(f, &err), &err);
    assert_false(store_is_broken(f->m.store));
    for (unsigned i = 0; i < f->m.point_count; i++)
        model_check_point(&f->m, &f->m.points[i]);
    make_room(f);
    err_clear(&err);
    ok(merge_all(f, &err), &err);
    model_check_all(&f->m);
}

/* ---- compaction ---- */

static struct store_compact *look(struct small *f)
{
    struct store_compact *c = NULL;
    struct err err = ERR_INIT;
    ok(store_compact_plan(f->m.store, &(struct compact_spec){.least_percent = 1}, &c, &err), &err);
    assert_non_null(c);
    ok(store_compact_look(c, &err), &err);
    store_compact_trim(f->m.store, c);
    return c;
}

static unsigned rewrite_all(struct small *f, struct store_compact *c)
{
    struct err err = ERR_INIT;
    unsigned rewritten = 0;
    int got;
    while ((got = store_compact_rewrite(c, &err)) > 0) {
        ok(store_compact_finish(f->m.store, c, &err), &err);
        rewritten++;
    }
    ok(got, &err);
    return rewritten;
}

/* A log whose first segments are needed in part, and later ones not at all. */
static void churn(struct small *f)
{
    struct err err = ERR_INIT;
    uint64_t drop[100];
    size_t count = 0;
    for (unsigned i = 0; i < 30; i++) {
        writes(f, 3);
        model_commit(&f->m, MARK_CRASH);
    }
    ok(store_flush(f->m.store, &err), &err);
    for (unsigned i = 1; i < 29; i++)
        if (i % 7 != 0)
            drop[count++] = f->m.points[i].sequence;
    model_drop(&f->m, drop, count);
}

static void compaction_on_a_full_disk_makes_its_own_room(void **state)
{
    struct small *f = *state;
    churn(f);
    fill_up(f, 0);
    struct store_compact *c = look(f);
    unsigned first = rewrite_all(f, c);
    assert_true(store_compact_starved(c)); /* of some more stays than there is room for, at least at first */
    store_compact_free(c);
    for (unsigned i = 0; i < f->m.point_count; i++)
        model_check_point(&f->m, &f->m.points[i]);
    unsigned again = 0;
    for (unsigned round = 0; round < 6; round++) {
        c = look(f);
        again += rewrite_all(f, c);
        store_compact_free(c);
    }
    make_room(f);
    c = look(f);
    unsigned later = rewrite_all(f, c);
    assert_false(store_compact_starved(c));
    assert_true(first + again + later > 3);
    store_compact_free(c);
    begin_again(f);
    writes(f, 2);
    model_commit(&f->m, MARK_CRASH);
    model_check_all(&f->m);
    model_crash(&f->m);
    model_open(&f->m);
    model_check_all(&f->m);
}

/* ---- branches ---- */

struct line {
    char dir[300];
    struct view *base;
    struct branch *branch;
    uint8_t *disk;
};

static void line_open(struct small *f, struct line *l)
{
    struct err err = ERR_INIT;
    struct branch_info info = {.machine = f->m.conf.machine, .base_sequence = f->m.points[0].sequence};
    uint32_t stream;
    (void)snprintf(l->dir, sizeof(l->dir), "%s/branches/" NAME, f->m.machine_dir);
    assert_int_equal(ident_from_text(NAME, &info.id), 0);
    ok(store_flush(f->m.store, &err), &err);
    ok(store_take_nonce_stream(f->m.store, &stream, &err), &err);
    ok(view_open(f->m.machine_dir, info.base_sequence, &f->m.opened.keys, 0, &l->base, &err), &err);
    assert_int_equal(branch_base_check(view_mark(l->base), &info.base_check, &err), 0);
    ok(branch_create(l->dir, &info, &err), &err);
    struct branch_conf conf = {.dir = l->dir, .base = l->base, .keys = &f->m.opened.keys, .nonce_stream = stream};
    ok(branch_open(&conf, &l->branch, &err), &err);
    if (l->disk != NULL)
        return;
    l->disk = malloc(f->m.disk_bytes[0]);
    memcpy(l->disk, f->m.points[0].disks[0], f->m.disk_bytes[0]);
}

static void line_close(struct line *l)
{
    branch_close(l->branch);
    view_close(l->base);
    l->branch = NULL;
    l->base = NULL;
}

/* Block by block, so that what is written of it is known. -1: a block did not fit. */
static int line_write(struct small *f, struct line *l, unsigned blocks, struct err *err)
{
    uint8_t block[RECORD_BLOCK_SIZE];
    for (unsigned i = 0; i < blocks; i++) {
        uint64_t at = model_random(&f->m, 15) * RECORD_BLOCK_SIZE;
        for (size_t k = 0; k < sizeof(block); k++)
            block[k] = (uint8_t)model_random(&f->m, 256);
        if (branch_write(l->branch, 0, at, sizeof(block), block, err) < 0)
            return -1;
        memcpy(l->disk + at, block, sizeof(block));
    }
    return 0;
}

static void check_line(struct small *f, struct line *l)
{
    struct err err = ERR_INIT;
    uint8_t *got = malloc(f->m.disk_bytes[0]);
    ok(branch_read(l->branch, 0, 0, f->m.disk_bytes[0], got, &err), &err);
    assert_memory_equal(got, l->disk, f->m.disk_bytes[0]);
    free(got);
}

static void a_branch_that_has_no_room_goes_on_when_there_is_some(void **state)
{
    struct small *f = *state;
    struct line l = {0};
    struct err err = ERR_INIT;
    writes(f, 4);
    model_commit(&f->m, MARK_CRASH);
    line_open(f, &l);
    for (unsigned round = 0; round < 6; round++) {
        ok(line_write(f, &l, 2, &err), &err);
        fill_up(f, round * 20000);
        is_refused(line_write(f, &l, 20, &err), &err);
        err_clear(&err);
        check_line(f, &l);
        int flushed = branch_flush(l.branch, &err); /* its mark may fit behind the last record, or not */
        if (flushed < 0)
            is_refused(flushed, &err);
        err_clear(&err);
        make_room(f);
        ok(line_write(f, &l, 1, &err), &err);
        ok(branch_flush(l.branch, &err), &err);
        check_line(f, &l);
        if (round % 2 == 0) {
            line_close(&l);
            line_open(f, &l);
            check_line(f, &l);
        }
    }
    line_close(&l);
    free(l.disk);
}

static uint64_t free_bytes(const struct small *f)
{
    struct statvfs vfs;
    assert_int_equal(statvfs(f->m.dir, &vfs), 0);
    return vfs.f_bavail * vfs.f_frsize;
}

/* Writes until the file's last page has less room than a mark takes, so that a flush needs another one. */
static void a_flush_that_has_no_room_fails_and_works_later(void **state)
{
    struct small *f = *state;
    struct line l = {0};
    struct err err = ERR_INIT;
    unsigned refused = 0;
    uint8_t sector[512];
    writes(f, 4);
    model_commit(&f->m, MARK_CRASH);
    line_open(f, &l);
    for (unsigned round = 0; round < 40; round++) {
        for (size_t k = 0; k < sizeof(sector); k++)
            sector[k] = (uint8_t)model_random(&f->m, 256);
        uint64_t at = model_random(&f->m, 2000) * 512;
        ok(branch_write(l.branch, 0, at, sizeof(sector), sector, &err), &err);
        memcpy(l.disk + at, sector, sizeof(sector));
        fill_up(f, 0);
        assert_true(free_bytes(f) == 0);
        if (branch_flush(l.branch, &err) < 0) {
            is_refused(-1, &err);
            err_clear(&err);
            refused++;
            make_room(f);
            ok(branch_flush(l.branch, &err), &err);
        } else {
            make_room(f);
        }
        check_line(f, &l);
    }
    assert_true(refused > 0);
    line_close(&l);
    line_open(f, &l);
    check_line(f, &l);
    line_close(&l);
    free(l.disk);
}

static void a_promotion_that_has_no_room_is_finished_later(void **state)
{
    struct small *f = *state;
    struct line l = {0};
    struct err err = ERR_INIT;
    writes(f, 4);
    model_commit(&f->m, MARK_CRASH);
    line_open(f, &l);
    ok(line_write(f, &l, 8, &err), &err);
    line_close(&l);
    for (unsigned i = 0; i < 3; i++) { /* the main line goes on: promotion must take it back */
        writes(f, 4);
        model_commit(&f->m, MARK_CRASH);
    }
    ok(store_flush(f->m.store, &err), &err);
    uint64_t generation = 2;
    for (uint64_t but = 0; but < 8; but++) {
        fill_up(f, but * but * 4096);
        int prepared = promote_prepare(f->m.store, NAME, generation, &err);
        if (prepared < 0)
            is_refused(prepared, &err);
        err_clear(&err);
        store_close(TAKE_PTR(f->m.store));
        int opened = store_open(&f->m.conf, &f->m.store, &err);
        if (opened < 0)
            is_refused(opened, &err);
        err_clear(&err);
        make_room(f);
        if (opened < 0)
            ok(store_open(&f->m.conf, &f->m.store, &err), &err);
        model_check_all(&f->m);
        if (access(l.dir, F_OK) < 0)
            break;
        generation = store_generation(f->m.store) + 1; /* the hub gives a new one for each try */
    }
    if (access(l.dir, F_OK) == 0) {
        ok(promote_prepare(f->m.store, NAME, generation, &err), &err);
        store_close(TAKE_PTR(f->m.store));
        ok(store_open(&f->m.conf, &f->m.store, &err), &err);
    }
    memcpy(f->m.disks[0], l.disk, f->m.disk_bytes[0]);
    memcpy(f->m.disks[1], f->m.points[0].disks[1], f->m.disk_bytes[1]);
    const struct pointlist *points = store_points(f->m.store);
    model_keep_point(&f->m, points->items[points->count - 1].sequence);
    model_check_all(&f->m);
    free(l.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_change_set_that_does_not_fit_leaves_nothing_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(an_index_run_that_does_not_fit_is_written_later, setup, teardown),
        cmocka_unit_test_setup_teardown(points_stay_readable_while_nothing_fits, setup, teardown),
        cmocka_unit_test_setup_teardown(dropping_points_is_all_or_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_merge_that_does_not_fit_is_done_later, setup, teardown),
        cmocka_unit_test_setup_teardown(compaction_on_a_full_disk_makes_its_own_room, setup, teardown),
        cmocka_unit_test_setup_teardown(a_branch_that_has_no_room_goes_on_when_there_is_some, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flush_that_has_no_room_fails_and_works_later, setup, teardown),
        cmocka_unit_test_setup_teardown(a_promotion_that_has_no_room_is_finished_later, setup, teardown),
    };
    return cmocka_run_group_tests_name("full", tests, NULL, NULL);
}
