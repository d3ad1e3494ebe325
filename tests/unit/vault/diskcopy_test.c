/* SPDX-License-Identifier: Apache-2.0
 *
 * Copying a disk to a file: it holds what the point holds, is sparse, goes on over whatever an earlier try left, and a target that
 * does not give back what was written is found out.
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

#include "tests/unit/vault/vaultmodel.h"
#include "transport/vault/diskcopy.h"

#define STEP 50000u

struct fixture {
    struct model m;
    struct view *view;
    char path[200];
    int fd;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    model_init(&f->m, 99);
    model_open(&f->m);
    for (int p = 0; p < 2; p++) {
        for (int i = 0; i < 40; i++)
            model_random_write(&f->m);
        model_commit(&f->m, MARK_CRASH);
    }
    assert_int_equal(store_flush(f->m.store, &err), 0);
    assert_int_equal(
        view_open(f->m.machine_dir, f->m.points[1].sequence, &f->m.opened.keys, 1u << 20, &f->view, &err), 0);
    (void)snprintf(f->path, sizeof(f->path), "%s/copy", f->m.dir);
    f->fd = open(f->path, O_RDWR | O_CREAT, 0600);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)close(f->fd);
    view_close(f->view);
    model_done(&f->m);
    free(f);
    return 0;
}

static struct diskcopy *begin(struct fixture *f, bool again, uint64_t from)
{
    struct diskcopy_spec spec = {.view = f->view, .disk = 0, .fd = f->fd, .again = again, .from = from};
    struct diskcopy *c = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(diskcopy_new(&spec, &c, &err), 0);
    return c;
}

static void run(struct diskcopy *c)
{
    struct err err = ERR_INIT;
    int got;
    while ((got = diskcopy_step(c, STEP, &err)) > 0)
        continue;
    if (got < 0)
        fail_msg("%s", err.text);
}

static void check(struct fixture *f)
{
    uint64_t size = f->m.disk_bytes[0];
    uint8_t *got = malloc(size);
    struct stat st;
    assert_int_equal(fstat(f->fd, &st), 0);
    assert_int_equal(st.st_size, size);
    assert_int_equal(pread(f->fd, got, size, 0), size);
    assert_memory_equal(got, f->m.points[1].disks[0], size);
    free(got);
}

static void a_copy_holds_what_the_point_holds(void **state)
{
    struct fixture *f = *state;
    struct diskcopy_progress p;
    struct diskcopy *c AUTO_OF(diskcopy) = begin(f, false, 0);
    run(c);
    check(f);
    diskcopy_progress(c, &p);
    assert_true(p.verifying);
    assert_int_equal(p.at, f->m.disk_bytes[0]);
    assert_int_equal(p.durable, f->m.disk_bytes[0]);
}

/* Whatever is there: rubbish, a part of it, all of it. Only what differs is written. */
static void a_copy_goes_on_over_what_is_there(void **state)
{
    struct fixture *f = *state;
    struct diskcopy_progress p;
    for (uint64_t at = 0; at < f->m.disk_bytes[0]; at += 3)
        assert_int_equal(pwrite(f->fd, "x", 1, (off_t)at), 1);
    struct diskcopy *first AUTO_OF(diskcopy) = begin(f, true, 0);
    run(first);
    check(f);
    struct diskcopy *second AUTO_OF(diskcopy) = begin(f, true, 0);
    run(second);
    diskcopy_progress(second, &p);
    assert_int_equal(p.written_bytes, 0);
    check(f);
}

static void a_copy_that_was_broken_off_goes_on_at_its_place(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct diskcopy_progress p;
    struct diskcopy *first = begin(f, false, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(diskcopy_step(first, STEP, &err), 1);
    diskcopy_progress(first, &p);
    diskcopy_free(first);
    assert_true(p.durable > 0 && p.durable < f->m.disk_bytes[0]);
    struct diskcopy *second AUTO_OF(diskcopy) = begin(f, true, p.durable);
    run(second);
    check(f);
}

static uint64_t a_place_with_data(const struct fixture *f)
{
    uint64_t at = 0;
    while (f->m.points[1].disks[0][at] == 0)
        at++;
    return at;
}

static void a_target_that_forgets_is_found_out(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct diskcopy_progress p;
    uint64_t places[] = {a_place_with_data(f), 0};
    while (f->m.points[1].disks[0][places[1]] != 0)
        places[1]++;
    for (size_t i = 0; i < 2; i++) {
        struct diskcopy *c AUTO_OF(diskcopy) = begin(f, i > 0, 0);
        do {
            assert_int_equal(diskcopy_step(c, STEP, &err), 1);
            diskcopy_progress(c, &p);
        } while (!p.verifying);
        uint8_t other = (uint8_t)(f->m.points[1].disks[0][places[i]] + 1);
        assert_int_equal(pwrite(f->fd, &other, 1, (off_t)places[i]), 1);
        int got;
        while ((got = diskcopy_step(c, STEP, &err)) > 0)
            continue;
        assert_int_equal(got, -1);
        assert_int_equal(err.code, ERR_CORRUPT);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_copy_holds_what_the_point_holds),
        TEST(a_copy_goes_on_over_what_is_there),
        TEST(a_copy_that_was_broken_off_goes_on_at_its_place),
        TEST(a_target_that_forgets_is_found_out),
    };
    return cmocka_run_group_tests_name("diskcopy", tests, NULL, NULL);
}
