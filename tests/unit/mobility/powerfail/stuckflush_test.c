/* SPDX-License-Identifier: Apache-2.0
 *
 * A file system that does not get its writes to its disk holds the freeze helper in a syncfs that nothing can end. The agent does not wait
 * for it, starts no other one behind it, and freezes again when the disk has come back.
 */
#include "mobility/capture/freeze.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/mobility/powerfail/fusedisk.h"
#include "tests/unit/mobility/track/loopdisk.h"
#include "transport/base/clock.h"

#define MIB (1u << 20)
#define BUDGET_USEC (60 * USEC_PER_SEC) /* ends nothing here */
#define PATIENCE_USEC (60 * USEC_PER_SEC)

struct world {
    char dir[64], mount[96];
    struct fusedisk *fuse;
    struct loopdisk disk;
    struct freeze *freeze;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    const struct freeze_config config = {0};
    const char *paths[] = {w->mount};

    temp_init(w->dir);
    (void)snprintf(w->mount, sizeof(w->mount), "%s/mnt", w->dir);
    w->fuse = fusedisk_start(w->dir, 1, 32 * MIB, 1);
    assert_int_equal(freeze_open(&config, &w->freeze, NULL), 0);
    loopdisk_init(&w->disk, 32 * MIB, 512, fusedisk_open(w->fuse, 0));
    must_run("mkfs.ext4 -q -F -E lazy_itable_init=0 %s && mkdir %s", w->disk.path, w->mount);
    assert_int_equal(mount(w->disk.path, w->mount, "ext4", 0, NULL), 0);
    assert_int_equal(freeze_set_mounts(w->freeze, paths, 1, NULL), 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    fusedisk_hold(w->fuse, false);
    freeze_close(w->freeze);
    (void)umount2(w->mount, MNT_DETACH);
    loopdisk_done(&w->disk);
    fusedisk_stop(w->fuse);
    temp_done(w->dir);
    free(w);
    return 0;
}

static void write_into_memory(const struct world *w, const char *name)
{
    char path[128];
    uint8_t *data = random_bytes(MIB);
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s", w->mount, name);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, MIB), MIB);
    (void)close(fd);
    free(data);
}

static void test_a_flush_that_does_not_end_keeps_nobody_waiting(void **state)
{
    struct world *w = *state;
    const char *paths[] = {w->mount};
    uint64_t began = clock_mono_usec();
    struct freeze_result result;
    struct err err = ERR_INIT;
    pid_t helper = freeze_helper_pid(w->freeze);

    write_into_memory(w, "one");
    fusedisk_hold(w->fuse, true);
    assert_int_equal(freeze_begin(w->freeze, BUDGET_USEC, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    print_message("it was waited for for %u ms\n", (unsigned)((clock_mono_usec() - began) / 1000));
    assert_true(clock_mono_usec() - began < PATIENCE_USEC);
    /* Those who ask meanwhile are told at once, before anything is done to the applications. */
    assert_int_equal(freeze_set_mounts(w->freeze, paths, 1, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_int_equal(freeze_begin(w->freeze, BUDGET_USEC, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_int_equal(freeze_helper_pid(w->freeze), 0);
    fusedisk_hold(w->fuse, false);
    while (freeze_set_mounts(w->freeze, paths, 1, &err) < 0 && clock_mono_usec() - began < 2 * PATIENCE_USEC)
        (void)usleep(10000);
    assert_int_not_equal(freeze_helper_pid(w->freeze), helper);
    while (freeze_begin(w->freeze, BUDGET_USEC, &err) < 0 && clock_mono_usec() - began < 2 * PATIENCE_USEC) {
    }
    assert_int_equal(freeze_end(w->freeze, &result, &err), 0);
    assert_false(result.gave_up);
    write_into_memory(w, "two");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_flush_that_does_not_end_keeps_nobody_waiting, setup, teardown),
    };

    if (!loopdisk_is_possible() || access("/dev/fuse", R_OK | W_OK) < 0) {
        print_message("needs root, loop devices and FUSE: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
