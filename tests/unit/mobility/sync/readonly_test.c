/* SPDX-License-Identifier: Apache-2.0
 *
 * File systems that are made read-only as those of a running system are, with real ones on loop disks: all or none, never one that somebody
 * writes to, and who that is is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mobility/sync/readonly.h"
#include "tests/unit/mobility/track/loopdisk.h"
#include "transport/base/clock.h"

static void ok(int rc, const struct err *err)
{
    if (rc < 0)
        fail_msg("%s", err->text);
}

struct fixture {
    struct loopdisk disks[2];
    char dir[64], paths[2][80];
    char *list[2];
    struct freeze_mounts mounts;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    temp_init(f->dir);
    for (int i = 0; i < 2; i++) {
        loopdisk_init(&f->disks[i], 32u << 20, 512, -1);
        must_run("mkfs.ext4 -q -F -E lazy_itable_init=0 %s", f->disks[i].path);
        (void)snprintf(f->paths[i], sizeof(f->paths[i]), "%s/mnt%d", f->dir, i);
        assert_int_equal(mkdir(f->paths[i], 0700), 0);
        assert_int_equal(mount(f->disks[i].path, f->paths[i], "ext4", MS_NOSUID, NULL), 0);
        f->list[i] = f->paths[i];
    }
    f->mounts = (struct freeze_mounts){.paths = f->list, .count = 2};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 2; i++) {
        must_unmount(f->paths[i]);
        loopdisk_done(&f->disks[i]);
    }
    temp_done(f->dir);
    free(f);
    return 0;
}

/* errno, or 0. */
static int try_to_write(const struct fixture *f, int at)
{
    char path[100];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/file", f->paths[at]);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    assert_int_equal(write(fd, "x", 1), 1);
    (void)close(fd);
    return 0;
}

static void nobody_writes_until_they_are_given_back(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct stat st;
    char name[100];

    assert_int_equal(try_to_write(f, 0), 0);
    if (readonly_set(&f->mounts, 0, f->dir, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(try_to_write(f, 0), EROFS);
    assert_int_equal(try_to_write(f, 1), EROFS);
    (void)snprintf(name, sizeof(name), "%s/file", f->paths[0]);
    assert_int_equal(stat(name, &st), 0);
    /* What is on the disk needs no recovery. */
    must_run("dumpe2fs -h %s 2>/dev/null | grep -q 'Filesystem state: *clean'", f->disks[0].path);
    must_run("! dumpe2fs -h %s 2>/dev/null | grep -q needs_recovery", f->disks[0].path);
    assert_int_equal(readonly_set(&f->mounts, 0, f->dir, &err), 0); /* again, as a new process does */
    assert_int_equal(readonly_clear(&f->mounts, f->dir, &err), 0);
    assert_int_equal(try_to_write(f, 0), 0);
    assert_int_equal(try_to_write(f, 1), 0);
    must_run("grep ' %s ' /proc/self/mountinfo | grep -q nosuid", f->paths[0]);
}

static void one_that_is_written_to_leaves_all_as_they_were(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char path[100], self[40];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/ledger", f->paths[0]);
    (void)snprintf(self, sizeof(self), "(process %d)", getpid());
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(readonly_set(&f->mounts, 0, f->dir, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "ledger"));
    assert_non_null(strstr(err.text, "open for writing"));
    assert_non_null(strstr(err.text, self));
    assert_int_equal(try_to_write(f, 1), 0);
    assert_int_equal(write(fd, "x", 1), 1);
    (void)close(fd);
}

/* To look at a file whose server says nothing takes for ever. */
static void who_has_it_is_not_looked_for_for_ever(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char path[100], other[100];
    int fd, silent, lost;

    (void)snprintf(path, sizeof(path), "%s/ledger", f->paths[0]);
    (void)snprintf(other, sizeof(other), "%s/other", f->dir);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(mkdir(other, 0700), 0);
    silent = silent_mount(other);
    lost = open(other, O_PATH | O_CLOEXEC);
    assert_true(lost >= 0);
    assert_int_equal(readonly_set(&f->mounts, 0, f->dir, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    (void)close(lost);
    silent_unmount(silent, other);
    (void)close(fd);
}

static void a_deleted_file_that_is_used_is_told(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char path[100];
    int fd;

    assert_int_equal(try_to_write(f, 0), 0);
    (void)snprintf(path, sizeof(path), "%s/file", f->paths[0]);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(readonly_set(&f->mounts, 0, f->dir, &err), -1);
    assert_non_null(strstr(err.text, "uses the deleted file"));
    assert_non_null(strstr(err.correction, "Restart"));
    (void)close(fd);
    assert_int_equal(readonly_set(&f->mounts, 0, f->dir, &err), 0);
    assert_int_equal(readonly_clear(&f->mounts, f->dir, &err), 0);
}

static void *close_later(void *arg)
{
    const struct timespec moment = {.tv_nsec = 300 * 1000 * 1000};

    (void)nanosleep(&moment, NULL);
    (void)close(*(int *)arg);
    return NULL;
}

static void one_that_writes_for_a_moment_is_waited_for(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char path[100];
    pthread_t thread;
    int fd;

    (void)snprintf(path, sizeof(path), "%s/ledger", f->paths[0]);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pthread_create(&thread, NULL, close_later, &fd), 0);
    ok(readonly_set(&f->mounts, 120 * USEC_PER_SEC, f->dir, &err), &err);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(try_to_write(f, 0), EROFS);
    ok(readonly_clear(&f->mounts, f->dir, &err), &err);
}

/* As a table that is kept in a file, whose descriptor is closed. */
static void a_file_that_is_mapped_to_be_written_is_told(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char path[100];
    void *map;
    int fd;

    (void)snprintf(path, sizeof(path), "%s/table", f->paths[0]);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    (void)close(fd);
    assert_int_equal(readonly_set(&f->mounts, 0, f->dir, &err), -1);
    assert_non_null(strstr(err.text, "table"));
    assert_int_equal(munmap(map, 4096), 0);
    ok(readonly_set(&f->mounts, 0, f->dir, &err), &err);
    ok(readonly_clear(&f->mounts, f->dir, &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nobody_writes_until_they_are_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_is_written_to_leaves_all_as_they_were, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deleted_file_that_is_used_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(who_has_it_is_not_looked_for_for_ever, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_writes_for_a_moment_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_mapped_to_be_written_is_told, setup, teardown),
    };

    if (!loopdisk_is_possible())
        return 77;
    return cmocka_run_group_tests_name("readonly", tests, NULL, NULL);
}
