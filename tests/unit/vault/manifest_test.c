/* SPDX-License-Identifier: Apache-2.0
 *
 * A manifest that got its name, in a folder that could not be synced then: which of the two a power failure brings back is open, so nothing that one of
 * them names may be gone. And numbers of index files are never given twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vault/vaultmodel.h"
#include "transport/base/file.h"
#include "transport/vault/manifest.h"

/* ---- the folder of the machine cannot be synced, once ---- */

static ino_t failing;    /* 0: nothing fails */
static unsigned passing; /* so many syncs of it go well before */

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    struct stat st;
    if (failing == 0 || fstat(fd, &st) < 0 || st.st_ino != failing || passing-- > 0)
        return __real_fsync(fd);
    failing = 0;
    errno = EIO;
    return -1;
}

static void fail_sync(const struct model *m, unsigned before)
{
    struct stat st;
    assert_int_equal(stat(m->machine_dir, &st), 0);
    passing = before;
    failing = st.st_ino;
}

static void copy(const char *from, const char *to)
{
    char command[700];
    (void)snprintf(command, sizeof(command), "cp %s %s", from, to);
    assert_int_equal(system(command), 0);
}

static void reopen(struct model *m)
{
    model_crash(m);
    model_open(m);
}

/* ---- the two manifests ---- */

static void check_names(const struct model *m)
{
    struct manifest man AUTO_MANIFEST = {0};
    struct err err = ERR_INIT;
    char path[300], name[RUN_NAME_SIZE];
    assert_int_equal(manifest_load(m->machine_dir, &m->conf.machine, &man, &err), 0);
    for (size_t i = 0; i < man.run_count; i++) {
        run_name(man.runs[i].id, name);
        (void)snprintf(path, sizeof(path), "%s/runs/%s", m->machine_dir, name);
        if (access(path, F_OK) < 0)
            fail_msg("the manifest names %s, which is gone", name);
    }
    (void)snprintf(path, sizeof(path), "%s/points-%016llx", m->machine_dir, (unsigned long long)man.points_id);
    if (man.point_count > 0 && access(path, F_OK) < 0)
        fail_msg("the manifest names %s, which is gone", path);
}

/* Whichever of them is there after the power failure. */
static void check_both(const struct model *m, const char *before)
{
    char now[200], aside[200];
    (void)snprintf(now, sizeof(now), "%s/manifest", m->machine_dir);
    (void)snprintf(aside, sizeof(aside), "%s/manifest.now", m->dir);
    check_names(m);
    copy(now, aside);
    copy(before, now);
    check_names(m);
    copy(aside, now);
}

static void keep_manifest(const struct model *m, char out[200])
{
    char now[200];
    (void)snprintf(now, sizeof(now), "%s/manifest", m->machine_dir);
    (void)snprintf(out, 200, "%s/manifest.before", m->dir);
    copy(now, out);
}

static void begin(struct model *m, uint64_t seed)
{
    struct err err = ERR_INIT;
    model_init(m, seed);
    m->conf.flush_extents = 1u << 20;
    model_open(m);
    model_fill(m, 6, 3);
    assert_int_equal(store_flush(m->store, &err), 0);
    model_fill(m, 6, 3);
}

/* The store goes on when it is opened again, by the manifest that is there: nothing was rebuilt. */
static void end(struct model *m, uint64_t next_run_id)
{
    struct manifest man AUTO_MANIFEST = {0};
    assert_true(store_is_broken(m->store));
    reopen(m);
    model_check_all(m);
    assert_int_equal(manifest_load(m->machine_dir, &m->conf.machine, &man, NULL), 0);
    assert_true(man.next_run_id < next_run_id + 10); /* an index that is made again has other numbers */
    model_fill(m, 3, 3);
    model_check_all(m);
    model_done(m);
}

static uint64_t next_run_id(const struct model *m)
{
    struct manifest man AUTO_MANIFEST = {0};
    assert_int_equal(manifest_load(m->machine_dir, &m->conf.machine, &man, NULL), 0);
    return man.next_run_id;
}

static void a_flush_loses_no_run(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    char before[200];
    (void)state;
    begin(&m, 71);
    uint64_t next = next_run_id(&m);
    keep_manifest(&m, before);
    fail_sync(&m, 0);
    assert_int_equal(store_flush(m.store, &err), -1);
    assert_int_equal(failing, 0);
    check_both(&m, before);
    end(&m, next);
}

static void dropping_points_loses_no_list(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    char before[200];
    size_t dropped;
    (void)state;
    begin(&m, 72);
    assert_int_equal(store_flush(m.store, &err), 0);
    uint64_t next = next_run_id(&m), sequence = m.points[2].sequence;
    keep_manifest(&m, before);
    fail_sync(&m, 1); /* the new list comes before */
    assert_int_equal(store_drop_points(m.store, &sequence, 1, &dropped, &err), -1);
    assert_int_equal(failing, 0);
    check_both(&m, before);
    reopen(&m);
    for (unsigned i = 0; i < m.point_count; i++)
        if (m.points[i].sequence == sequence && store_points(m.store)->count < m.point_count)
            model_forget(&m, sequence);
    model_check_all(&m);
    assert_true(next_run_id(&m) < next + 10);
    model_done(&m);
}

static void a_merge_loses_no_run(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    struct store_merge *merge AUTO_OF(store_merge) = NULL;
    char before[200];
    (void)state;
    begin(&m, 73);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(store_flush(m.store, &err), 0);
        model_fill(&m, 2, 3);
    }
    assert_int_equal(store_flush(m.store, &err), 0);
    assert_int_equal(store_merge_plan(m.store, &merge, &err), 1);
    assert_int_equal(store_merge_run(merge, &err), 0);
    uint64_t next = next_run_id(&m);
    keep_manifest(&m, before);
    fail_sync(&m, 0);
    assert_int_equal(store_merge_finish(m.store, merge, &err), -1);
    assert_int_equal(failing, 0);
    check_both(&m, before);
    end(&m, next);
}

/* ---- numbers ---- */

/* The bucket may still have other files under the numbers that there were. */
static void an_index_that_is_made_again_has_other_numbers(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    struct manifest man AUTO_MANIFEST = {0};
    char path[200];
    (void)state;
    begin(&m, 74);
    assert_int_equal(store_flush(m.store, &err), 0);
    uint64_t next = next_run_id(&m);
    store_discard_index(m.store);
    (void)snprintf(path, sizeof(path), "%s/runs", m.machine_dir);
    assert_int_equal(file_remove_tree(path, &err), 0);
    reopen(&m);
    assert_int_equal(store_flush(m.store, &err), 0);
    assert_int_equal(manifest_load(m.machine_dir, &m.conf.machine, &man, &err), 0);
    assert_true(man.run_count > 0);
    for (size_t i = 0; i < man.run_count; i++)
        assert_true(man.runs[i].id >= next + 1000);
    assert_true(man.points_id > 1000);
    model_check_all(&m);
    model_done(&m);
}

/* A run of the right number that is not the one that the manifest speaks of: as from a bucket that was written by somebody else. */
static void another_run_under_the_same_number_is_not_used(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    char from[300], to[300], name[RUN_NAME_SIZE];
    (void)state;
    begin(&m, 75);
    struct manifest man AUTO_MANIFEST = {0};
    assert_int_equal(manifest_load(m.machine_dir, &m.conf.machine, &man, &err), 0);
    run_name(man.runs[0].id, name);
    (void)snprintf(from, sizeof(from), "%s/runs/%s", m.machine_dir, name);
    (void)snprintf(to, sizeof(to), "%s/kept", m.dir);
    copy(from, to);
    store_discard_index(m.store);
    reopen(&m); /* the same log, in runs of other spans */
    assert_int_equal(store_flush(m.store, &err), 0);
    struct manifest again AUTO_MANIFEST = {0};
    assert_int_equal(manifest_load(m.machine_dir, &m.conf.machine, &again, &err), 0);
    model_close(&m);
    struct run_info old = man.runs[0];
    bool stands;
    old.last_sequence += 2; /* the manifest speaks of more than the run has */
    again.runs[0] = old;
    again.run_count = 1;
    run_name(old.id, name);
    (void)snprintf(from, sizeof(from), "%s/runs/%s", m.machine_dir, name);
    copy(to, from);
    assert_int_equal(manifest_store(m.machine_dir, &again, &stands, &err), 0);
    model_open(&m);
    assert_int_equal(store_flush(m.store, &err), 0);
    model_check_all(&m);
    model_done(&m);
}

static unsigned count_point_lists(const struct model *m)
{
    DIR *d = opendir(m->machine_dir);
    unsigned n = 0;
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        n += strncmp(e->d_name, "points-", 7) == 0;
    assert_int_equal(closedir(d), 0);
    return n;
}

/* A crash beside the switch to another list of points leaves the old one or the new one behind. */
static void point_lists_that_a_crash_left_are_swept(void **state)
{
    static struct model m;
    struct err err = ERR_INIT;
    struct manifest man AUTO_MANIFEST = {0};
    char from[300], to[300];
    (void)state;
    begin(&m, 76);
    assert_int_equal(store_flush(m.store, &err), 0);
    assert_int_equal(manifest_load(m.machine_dir, &m.conf.machine, &man, &err), 0);
    (void)snprintf(from, sizeof(from), "%s/points-%016llx", m.machine_dir, (unsigned long long)man.points_id);
    (void)snprintf(to, sizeof(to), "%s/points-%016llx", m.machine_dir, (unsigned long long)man.points_id + 1);
    copy(from, to);
    (void)snprintf(to, sizeof(to), "%s/points-%016llx", m.machine_dir, (unsigned long long)man.points_id - 1);
    copy(from, to);
    assert_int_equal(count_point_lists(&m), 3);
    reopen(&m);
    assert_int_equal(count_point_lists(&m), 1);
    model_check_all(&m);
    model_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flush_loses_no_run),
        cmocka_unit_test(dropping_points_loses_no_list),
        cmocka_unit_test(a_merge_loses_no_run),
        cmocka_unit_test(an_index_that_is_made_again_has_other_numbers),
        cmocka_unit_test(another_run_under_the_same_number_is_not_used),
        cmocka_unit_test(point_lists_that_a_crash_left_are_swept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
