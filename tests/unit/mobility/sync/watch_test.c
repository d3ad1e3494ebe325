/* SPDX-License-Identifier: Apache-2.0
 *
 * A machine that is not as it should be: a clock that is set, no BTF, no permission, a full /run, commands that nobody can track.
 * Replication goes on where it can, heals where it could not, and each is told. What cannot be made to happen to a loop disk (the
 * clock of the whole machine, pass-through commands) is put in by the linker, in front of the real function.
 */
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/track/tracker.h"
#include "tests/unit/mobility/sync/syncrig.h"
#include "transport/base/clock.h"

#define MIB (1u << 20)

static _Atomic int64_t clock_is_off_usec;
uint64_t __real_clock_utc_usec(void);
uint64_t __wrap_clock_utc_usec(void);
uint64_t __wrap_clock_utc_usec(void)
{
    return __real_clock_utc_usec() + (uint64_t)atomic_load(&clock_is_off_usec);
}

static atomic_uint passed_through;
void __real_tracker_disk_stats(const struct tracker_disk *disk, struct tracker_stats *ret_stats);
void __wrap_tracker_disk_stats(const struct tracker_disk *disk, struct tracker_stats *ret_stats);
void __wrap_tracker_disk_stats(const struct tracker_disk *disk, struct tracker_stats *ret_stats)
{
    __real_tracker_disk_stats(disk, ret_stats);
    ret_stats->passthrough += atomic_load(&passed_through);
}

static void write_some(struct syncrig *rig)
{
    uint8_t *data = random_bytes(MIB);

    loopdisk_write(&rig->disks[0], 3 * MIB, data, MIB);
    free(data);
}

static void a_clock_that_is_set_is_told_and_stops_nothing(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    assert_int_equal(syncrig_events(&rig, "clock_jumped"), 0);
    atomic_store(&clock_is_off_usec, -(int64_t)(3600 * USEC_PER_SEC));
    assert_true(syncrig_wait_event(&rig, "clock_jumped"));
    write_some(&rig);
    syncrig_assert_equal(&rig);
    atomic_store(&clock_is_off_usec, (int64_t)(86400 * USEC_PER_SEC));
    write_some(&rig);
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "clock_jumped"), 2);
    atomic_store(&clock_is_off_usec, 0);
    syncrig_done(&rig);
}

static void commands_that_nobody_can_track_are_told(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    assert_int_equal(syncrig_events(&rig, "passthrough_commands"), 0);
    atomic_store(&passed_through, 3);
    assert_true(syncrig_wait_event(&rig, "passthrough_commands"));
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "passthrough_commands"), 1);
    atomic_store(&passed_through, 0);
    syncrig_done(&rig);
}

static void without_btf_changes_are_found_by_scan(void **state)
{
    struct syncrig rig;

    (void)state;
    if (mount("none", "/sys/kernel/btf", "tmpfs", 0, "size=4k") < 0) {
        print_message("nothing can be mounted over /sys/kernel/btf here\n");
        skip();
    }
    syncrig_init(&rig, 1, 16 * MIB, 512);
    syncrig_start(&rig);
    assert_true(syncrig_wait_event(&rig, "tracking_by_scan"));
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    write_some(&rig);
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "tracking_by_scan"), 1);
    syncrig_done(&rig);
    assert_int_equal(umount("/sys/kernel/btf"), 0);
}

/* Of this thread, and of those that it starts. */
static void set_capability(unsigned number, bool on)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    assert_int_equal(syscall(SYS_capget, &header, data), 0);
    if (on)
        data[number / 32].effective |= 1u << (number % 32);
    else
        data[number / 32].effective &= ~(1u << (number % 32));
    assert_int_equal(syscall(SYS_capset, &header, data), 0);
}

static void without_permission_the_agent_says_what_it_needs(void **state)
{
    static const unsigned needed[] = {CAP_SYS_ADMIN, CAP_BPF, CAP_PERFMON};
    struct engine_status status;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    for (unsigned i = 0; i < 3; i++)
        set_capability(needed[i], false);
    syncrig_start(&rig);
    for (unsigned i = 0; i < 3; i++)
        set_capability(needed[i], true);
    assert_true(syncrig_wait_phase(&rig, PHASE_ERROR));
    engine_get_status(syncrig_engine(&rig), &status);
    assert_non_null(strstr(status.cause, "does not let this process load the tracking program"));
    assert_non_null(strstr(status.remedy, "CAP_BPF"));
    syncrig_stop(&rig);
    syncrig_start(&rig); /* now it may */
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_done(&rig);
}

static void a_full_run_is_told_and_heals(void **state)
{
    struct engine_status status;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    must_run("mkdir %s/run && mount -t tmpfs -o size=1m none %s/run", rig.dir, rig.dir);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_ERROR));
    engine_get_status(syncrig_engine(&rig), &status);
    assert_non_null(strstr(status.cause, "No space left"));
    assert_non_null(strstr(status.remedy, "free space"));
    must_run("mount -o remount,size=32m %s/run", rig.dir);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    write_some(&rig);
    syncrig_assert_equal(&rig);
    syncrig_stop(&rig);
    must_run("umount %s/run", rig.dir);
    syncrig_done(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_that_is_set_is_told_and_stops_nothing),
        cmocka_unit_test(commands_that_nobody_can_track_are_told),
        cmocka_unit_test(without_btf_changes_are_found_by_scan),
        cmocka_unit_test(without_permission_the_agent_says_what_it_needs),
        cmocka_unit_test(a_full_run_is_told_and_heals),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
