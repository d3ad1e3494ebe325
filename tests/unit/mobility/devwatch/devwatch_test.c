/* SPDX-License-Identifier: Apache-2.0
 *
 * A real loop device and a real mount are noticed.
 */
#include "mobility/devwatch.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

static sd_event *loop;
static unsigned seen;

static void on_change(void *arg)
{
    (void)arg;
    seen++;
}

/* Turns the loop until a change came or the time is over. */
static bool change_comes(uint64_t usec)
{
    uint64_t end = clock_mono_usec() + usec;

    seen = 0;
    while (seen == 0 && clock_mono_usec() < end)
        assert_true(sd_event_run(loop, 50 * USEC_PER_MSEC) >= 0);
    return seen > 0;
}

static void settle(void)
{
    for (unsigned i = 0; i < 20 && change_comes(600 * USEC_PER_MSEC); i++)
        ;
}

static void a_loop_device_is_noticed(void **state)
{
    char path[] = "/tmp/leeward-devwatch.XXXXXX", name[32];
    int file AUTO_CLOSE = mkstemp(path), control AUTO_CLOSE = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int number, device AUTO_CLOSE = -1;

    (void)state;
    assert_true(file >= 0 && control >= 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ftruncate(file, 1 << 20), 0);
    do {
        number = ioctl(control, LOOP_CTL_GET_FREE);
        assert_true(number >= 0);
        snprintf(name, sizeof(name), "/dev/loop%d", number);
        if (device >= 0)
            close(device);
        device = open(name, O_RDWR | O_CLOEXEC);
        assert_true(device >= 0);
        settle();
    } while (ioctl(device, LOOP_SET_FD, file) < 0); /* somebody else may have taken it meanwhile */
    assert_true(change_comes(60 * USEC_PER_SEC));
    settle();
    assert_int_equal(ioctl(device, LOOP_CLR_FD, 0), 0);
    close(TAKE_FD(device));
    assert_true(change_comes(60 * USEC_PER_SEC));
}

static void a_mount_is_noticed(void **state)
{
    char path[] = "/tmp/leeward-devwatch.XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(path));
    settle();
    assert_int_equal(mount("none", path, "tmpfs", 0, "size=64k"), 0);
    bool mounted = change_comes(60 * USEC_PER_SEC);
    settle();
    assert_int_equal(umount(path), 0);
    bool unmounted = change_comes(60 * USEC_PER_SEC);
    assert_int_equal(rmdir(path), 0);
    assert_true(mounted);
    assert_true(unmounted);
}

static int make_watch(void **state)
{
    struct devwatch *w = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(sd_event_new(&loop), 0);
    if (devwatch_new(loop, on_change, NULL, &w, &err) < 0)
        fail_msg("%s", err.text);
    *state = w;
    return 0;
}

static int free_watch(void **state)
{
    devwatch_free(*state);
    loop = sd_event_unref(loop);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_loop_device_is_noticed, make_watch, free_watch),
        cmocka_unit_test_setup_teardown(a_mount_is_noticed, make_watch, free_watch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
