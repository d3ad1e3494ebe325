/* SPDX-License-Identifier: Apache-2.0
 *
 * Seeds: every byte of the files becomes content and none a point, a store that was killed goes on where it was, and nothing of it may come
 * in beside what is replicated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/file.h"
#include "transport/vault/seed.h"
#include "transport/vault/view.h"

#define DISK_0 (80ull << 20) /* more than two change sets */
#define DISK_1 (4ull << 20)
#define FILE_1 (DISK_1 - 123457) /* shorter than its disk, and no multiple of anything */

struct fixture {
    struct model m;
    char path[2][100];
    struct seed_disk disks[2];
};

static void fill(struct model *m, uint8_t *p, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        p[i] = (uint8_t)model_random(m, 256);
}

static void write_file(const char *path, const uint8_t *content, uint64_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (uint64_t at = 0; at < n; at += 65536) { /* with holes where nothing but zeros is */
        static const uint8_t zeros[65536];
        size_t part = n - at < 65536 ? (size_t)(n - at) : 65536;
        if (memcmp(content + at, zeros, part) == 0)
            continue;
        assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
        assert_int_equal(fwrite(content + at, 1, part, f), part);
    }
    assert_int_equal(fclose(f), 0);
    assert_int_equal(truncate(path, (off_t)n), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    model_init_sized(&f->m, 77, DISK_0, DISK_1);
    fill(&f->m, f->m.disks[0], 100000, 45u << 20);
    fill(&f->m, f->m.disks[0], 70u << 20, (70u << 20) + 5000);
    fill(&f->m, f->m.disks[1], 0, FILE_1);
    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(f->path[i], sizeof(f->path[i]), "%s/seed%u.img", f->m.dir, i);
        write_file(f->path[i], f->m.disks[i], i == 0 ? DISK_0 : FILE_1);
        f->disks[i] = (struct seed_disk){
            .number = i, .size_bytes = f->m.disk_bytes[i], .sector_bytes = 512, .name = "sda", .path = f->path[i]};
    }
    model_open(&f->m);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    model_done(&f->m);
    free(f);
    return 0;
}

static struct seed *open_it(struct fixture *f)
{
    struct seed *s = NULL;
    struct err err = ERR_INIT;
    if (seed_open(f->disks, 2, &s, &err) < 0)
        fail_msg("%s", err.text);
    return s;
}

static int steps(struct fixture *f, struct seed *s, unsigned at_most)
{
    struct err err = ERR_INIT;
    int r = 1;
    while (r > 0 && at_most-- > 0)
        r = seed_step(s, f->m.store, &err);
    if (r < 0)
        fail_msg("%s", err.text);
    return r;
}

static void check_content(struct fixture *f)
{
    struct view *v = NULL;
    struct err err = ERR_INIT;
    const struct mark *last = store_last_mark(f->m.store);
    assert_non_null(last);
    assert_int_equal(last->disk_count, 2);
    assert_int_equal(store_points(f->m.store)->count, 0);
    assert_int_equal(store_flush(f->m.store, &err), 0);
    if (view_open_mark(f->m.machine_dir, last, &f->m.opened.keys, 0, &v, &err) < 0)
        fail_msg("%s", err.text);
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t *content = malloc(f->m.disk_bytes[i]);
        if (view_read(v, i, 0, f->m.disk_bytes[i], content, &err) < 0)
            fail_msg("%s", err.text);
        assert_memory_equal(content, f->m.disks[i], f->m.disk_bytes[i]);
        free(content);
    }
    view_close(v);
}

static void every_byte_becomes_content_and_none_a_point(void **state)
{
    struct fixture *f = *state;
    struct seed *s = open_it(f);
    struct seed_progress p;
    assert_false(f->m.opened.has_point);
    assert_int_equal(steps(f, s, 1000), 0);
    seed_get_progress(s, &p);
    assert_int_equal(p.total_bytes, DISK_0 + FILE_1);
    assert_int_equal(p.at_bytes, p.total_bytes);
    assert_true(p.taken_bytes < (51u << 20) && p.taken_bytes > (48u << 20));
    assert_false(p.resumed);
    seed_free(s);
    check_content(f);
    model_close(&f->m);
    model_open(&f->m);
    assert_true(f->m.opened.has_point); /* the agent compares */
    check_content(f);
}

static void a_killed_store_goes_on_where_it_was(void **state)
{
    struct fixture *f = *state;
    struct seed *s = open_it(f);
    struct seed_progress p;
    uint64_t taken;
    assert_int_equal(steps(f, s, 1), 1);
    seed_get_progress(s, &p);
    taken = p.taken_bytes;
    assert_true(taken >= (32u << 20) && taken < (40u << 20));
    seed_free(s);
    model_crash(&f->m);
    model_open(&f->m);
    s = open_it(f);
    assert_int_equal(steps(f, s, 1000), 0);
    seed_get_progress(s, &p);
    assert_true(p.resumed);
    assert_true(p.taken_bytes + taken < (51u << 20)); /* nothing twice */
    seed_free(s);
    check_content(f);
}

static void replicated_data_is_not_touched(void **state)
{
    struct fixture *f = *state;
    struct seed *s = open_it(f);
    struct err err = ERR_INIT;
    model_put(&f->m, 0, 0, 4096, f->m.disks[0] + 4096);
    model_commit(&f->m, MARK_PROGRESS);
    assert_int_equal(seed_step(s, f->m.store, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "holds replicated data"));
    assert_int_equal(store_committed(f->m.store), 1);
    seed_free(s);
}

static void an_agent_that_begins_ends_the_seed(void **state)
{
    struct fixture *f = *state;
    struct seed *s = open_it(f);
    struct err err = ERR_INIT;
    uint64_t committed;
    assert_int_equal(steps(f, s, 1), 1);
    committed = store_committed(f->m.store);
    assert_int_equal(store_begin(f->m.store, 1, store_epoch(f->m.store) + 1, &f->m.opened, &err), 0);
    assert_int_equal(seed_step(s, f->m.store, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_int_equal(store_committed(f->m.store), committed);
    seed_free(s);
}

static void refused(struct fixture *f, const char *path, const char *word)
{
    struct seed *s = NULL;
    struct err err = ERR_INIT;
    f->disks[0].path = path;
    assert_int_equal(seed_open(f->disks, 2, &s, &err), -1);
    assert_null(s);
    if (strstr(err.text, word) == NULL || strstr(err.text, path) == NULL)
        fail_msg("'%s' does not say '%s'", err.text, word);
}

static void what_is_no_seed_is_refused(void **state)
{
    struct fixture *f = *state;
    char path[120];
    static const uint8_t qcow2[512] = "QFI\xfb";
    uint8_t *vhd = calloc(1, 4096);
    (void)snprintf(path, sizeof(path), "%s/odd.img", f->m.dir);
    refused(f, path, "No such file");
    refused(f, "relative.img", "absolute");
    refused(f, f->m.dir, "neither a file nor a block device");
    write_file(path, NULL, 0);
    refused(f, path, "empty");
    write_file(path, qcow2, sizeof(qcow2));
    refused(f, path, "qcow2");
    memcpy(vhd + 4096 - 512, "conectix", 8);
    write_file(path, vhd, 4096);
    refused(f, path, "vhd");
    free(vhd);
    assert_int_equal(truncate(path, DISK_0 + 1), 0);
    refused(f, path, "bytes");
    f->disks[1].number = 0;
    f->disks[0].path = f->path[0];
    struct seed *s = NULL;
    assert_int_equal(seed_open(f->disks, 2, &s, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_byte_becomes_content_and_none_a_point, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_store_goes_on_where_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(replicated_data_is_not_touched, setup, teardown),
        cmocka_unit_test_setup_teardown(an_agent_that_begins_ends_the_seed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_seed_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
