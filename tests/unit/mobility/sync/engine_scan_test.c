/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine with the tracker that compares. A writer that is a step ahead of it changes blocks right before they are read and
 * puts them back right after, where a tracker that sees content only at its drains would never notice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mobility/capture/reader.h"
#include "mobility/track/tracker.h"
#include "tests/unit/mobility/sync/syncrig.h"

#define MIB (1u << 20)
#define BLOCK 65536u
#define VICTIM (5ull * MIB + BLOCK)

/* Which reading is caught next. */
enum trap { NONE, AT_SWEEP, AT_CYCLE };

static struct {
    _Atomic(enum trap) set;
    struct loopdisk *disk;
    uint8_t *before, *meanwhile; /* content of the victim */
} trap;

static bool spring(enum trap kind)
{
    enum trap expected = kind;

    if (!atomic_compare_exchange_strong(&trap.set, &expected, NONE))
        return false;
    loopdisk_write(trap.disk, VICTIM, trap.meanwhile, BLOCK);
    return true;
}

static void put_back(void)
{
    loopdisk_write(trap.disk, VICTIM, trap.before, BLOCK);
}

int __real_reader_run(
    struct reader *r, reader_source source, void *source_arg, reader_sink sink, void *sink_arg, struct err *err);
int __wrap_reader_run(
    struct reader *r, reader_source source, void *source_arg, reader_sink sink, void *sink_arg, struct err *err);
int __wrap_reader_run(
    struct reader *r, reader_source source, void *source_arg, reader_sink sink, void *sink_arg, struct err *err)
{
    bool caught = spring(AT_SWEEP);
    int result = __real_reader_run(r, source, source_arg, sink, sink_arg, err);

    if (caught)
        put_back();
    return result;
}

int __real_reader_run_dirty(
    struct reader *r, unsigned disk, const struct dirty *set, reader_sink sink, void *sink_arg, struct err *err);
int __wrap_reader_run_dirty(
    struct reader *r, unsigned disk, const struct dirty *set, reader_sink sink, void *sink_arg, struct err *err);
int __wrap_reader_run_dirty(
    struct reader *r, unsigned disk, const struct dirty *set, reader_sink sink, void *sink_arg, struct err *err)
{
    bool caught = dirty_test(set, VICTIM) && spring(AT_CYCLE);
    int result = __real_reader_run_dirty(r, disk, set, sink, sink_arg, err);

    if (caught)
        put_back();
    return result;
}

static void begin(struct syncrig *rig)
{
    syncrig_init(rig, 1, 16 * MIB + 1536, 512);
    rig->driver = "scan";
    trap.disk = &rig->disks[0];
    trap.before = random_bytes(BLOCK);
    trap.meanwhile = random_bytes(BLOCK);
    put_back();
}

static void end(struct syncrig *rig)
{
    syncrig_done(rig);
    free(trap.before);
    free(trap.meanwhile);
}

static void what_the_first_copy_read_in_between_is_read_again(void **state)
{
    struct syncrig rig;

    (void)state;
    begin(&rig);
    atomic_store(&trap.set, AT_SWEEP);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    assert_int_equal(trap.set, NONE);
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    end(&rig);
}

static void what_a_cycle_read_in_between_is_read_again(void **state)
{
    struct syncrig rig;

    (void)state;
    begin(&rig);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_assert_equal(&rig);
    for (unsigned i = 0; i < 3; i++) {
        trap.before[0]++;
        atomic_store(&trap.set, AT_CYCLE);
        put_back();
        syncrig_assert_equal(&rig);
        assert_int_equal(trap.set, NONE);
    }
    end(&rig);
}

/* Who compares content cannot see that what was free is written with what had lain there: a file that is deleted and comes back. */
static void free_space_is_in_the_copy(void **state)
{
    struct syncrig rig;

    (void)state;
    begin(&rig);
    syncrig_mount(&rig, 0);
    must_run("head -c 3M /dev/urandom > %s/mnt0/file && sync -f %s/mnt0 && rm %s/mnt0/file && sync -f %s/mnt0", rig.dir,
        rig.dir, rig.dir, rig.dir);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_unmount(&rig, 0);
    syncrig_assert_equal(&rig);
    end(&rig);
}

static void a_killed_agent_goes_on_where_it_was(void **state)
{
    struct syncrig rig;

    (void)state;
    begin(&rig);
    for (unsigned i = 0; i < 4; i++) {
        syncrig_start_process(&rig);
        assert_true(fakenode_wait_points(rig.node, i + 1));
        trap.before[1]++;
        put_back();
        syncrig_kill_process(&rig);
    }
    syncrig_start(&rig);
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_first_copy_read_in_between_is_read_again),
        cmocka_unit_test(what_a_cycle_read_in_between_is_read_again),
        cmocka_unit_test(free_space_is_in_the_copy),
        cmocka_unit_test(a_killed_agent_goes_on_where_it_was),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
