/* SPDX-License-Identifier: Apache-2.0
 *
 * That a disk is to be compared is not forgotten, whenever the agent is killed and whatever its folder has no room for. The agent is
 * killed before each of its saves in turn; the one that follows it has to make the vault's copy the same as the disks.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/sync/syncstate.h"
#include "mobility/track/tracker.h"
#include "tests/unit/mobility/sync/syncrig.h"

#define MIB (1u << 20)
#define SIZE (6 * MIB)
#define SAVES_MAX 12u /* more than any of this takes until points are made */

/* Shared with the agent that is killed. */
static struct knobs {
    pid_t tester;
    unsigned kill_before;                         /* the save of that number, of another process; 0: none */
    enum { ROOM, NO_ROOM_ON_DISK, NO_ROOM } room; /* on disk: in memory there is */
    bool spare_stays;                             /* what was saved in memory cannot be removed */
    bool lost[SYNCRIG_DISKS];                     /* the tracker says that it lost something of the disk */
    char paths[SYNCRIG_DISKS][32];
} * knobs;

int __real_syncstate_save(const char *path, const struct syncstate *state, struct err *err);
int __wrap_syncstate_save(const char *path, const struct syncstate *state, struct err *err);
bool __wrap_tracker_disk_is_unknown(const struct tracker_disk *disk);
void __wrap_tracker_disk_acknowledge(struct tracker_disk *disk);

int __wrap_syncstate_save(const char *path, const struct syncstate *state, struct err *err)
{
    if (getpid() != knobs->tester && knobs->kill_before > 0 && --knobs->kill_before == 0)
        (void)kill(getpid(), SIGKILL);
    if (knobs->room == NO_ROOM || (knobs->room == NO_ROOM_ON_DISK && !strstr(path, "/run/")))
        return err_sys(err, ENOSPC, "writing %s", path);
    return __real_syncstate_save(path, state, err);
}

int __real_unlink(const char *path);
int __wrap_unlink(const char *path);

int __wrap_unlink(const char *path)
{
    if (knobs->spare_stays && strstr(path, "/run/spare-state") && !strstr(path, ".tmp")) {
        errno = EPERM;
        return -1;
    }
    return __real_unlink(path);
}

static bool *lost_of(const struct tracker_disk *disk)
{
    return &knobs->lost[strcmp(tracker_disk_path(disk), knobs->paths[0]) == 0 ? 0 : 1];
}

bool __wrap_tracker_disk_is_unknown(const struct tracker_disk *disk)
{
    return *lost_of(disk);
}

void __wrap_tracker_disk_acknowledge(struct tracker_disk *disk)
{
    *lost_of(disk) = false;
}

static void scribble(struct loopdisk *l, uint64_t at)
{
    uint8_t *data = random_bytes(65536);

    loopdisk_write(l, at, data, 65536);
    free(data);
}

/* ---- what makes a comparison necessary; each while no agent runs ---- */

static void lose_pins_and_changes(struct syncrig *rig)
{
    must_run("rm -rf %s/run && rm -rf %s/leeward*", rig->dir, rig->bpf);
}

static void reboot(struct syncrig *rig)
{
    lose_pins_and_changes(rig);
    for (unsigned i = 0; i < rig->disk_count; i++)
        scribble(&rig->disks[i], 2 * MIB);
}

static void spoil_copies(struct syncrig *rig)
{
    for (unsigned i = 0; i < rig->disk_count; i++)
        must_run("dd if=/dev/urandom of=%s/%u.img bs=4096 count=3 seek=400 conv=notrunc status=none", rig->dir, i);
}

static void ask_for_it(struct syncrig *rig)
{
    spoil_copies(rig);
    rig->wish.version++;
    rig->wish.resync_request++;
}

static void lose_writes(struct syncrig *rig)
{
    spoil_copies(rig);
    for (unsigned i = 0; i < rig->disk_count; i++)
        knobs->lost[i] = true;
}

static void restore_an_older_vault(struct syncrig *rig)
{
    struct fakenode_facts then, now;

    fakenode_get(rig->node, &then);
    must_run("cp --sparse=always %s/0.img %s/0.old && cp --sparse=always %s/1.img %s/1.old", rig->dir, rig->dir,
        rig->dir, rig->dir);
    syncrig_start(rig);
    for (unsigned i = 0; i < rig->disk_count; i++)
        scribble(&rig->disks[i], 3 * MIB);
    syncrig_assert_equal(rig);
    syncrig_stop(rig);
    fakenode_get(rig->node, &now);
    assert_true(now.committed > then.committed);
    must_run("cp %s/0.old %s/0.img && cp %s/1.old %s/1.img", rig->dir, rig->dir, rig->dir, rig->dir);
    fakenode_fall_back(rig->node, then.committed);
}

/* ---- the trial ---- */

static void protect(struct syncrig *rig)
{
    *knobs = (struct knobs){.tester = getpid()};
    syncrig_init(rig, 2, SIZE, 512);
    for (unsigned i = 0; i < rig->disk_count; i++) {
        snprintf(knobs->paths[i], sizeof(knobs->paths[i]), "%s", rig->disks[i].path);
        scribble(&rig->disks[i], MIB);
    }
    fakenode_set_hashes(rig->node, true);
    syncrig_start(rig);
    assert_true(syncrig_wait_phase(rig, PHASE_PROTECTED));
    syncrig_assert_equal(rig);
    syncrig_stop(rig);
}

/* False: it made points before so many saves. */
static bool run_until_save(struct syncrig *rig, unsigned save)
{
    struct fakenode_facts before, now;
    pid_t gone = 0;

    fakenode_get(rig->node, &before);
    knobs->kill_before = save;
    syncrig_start_process(rig);
    do {
        gone = waitpid(rig->child, NULL, WNOHANG);
        fakenode_get(rig->node, &now);
    } while (gone == 0 && now.points < before.points + 5 && usleep(1000) == 0);
    if (gone > 0)
        rig->child = 0;
    syncrig_kill_process(rig);
    knobs->kill_before = 0;
    return gone > 0;
}

/* Until it makes points before so many saves. */
static void try_at_each_save(void (*cause)(struct syncrig *rig))
{
    unsigned save = 0;
    struct syncrig rig;
    bool killed;

    protect(&rig);
    do {
        cause(&rig);
        killed = run_until_save(&rig, ++save);
        syncrig_start(&rig);
        syncrig_assert_equal(&rig);
        syncrig_stop(&rig);
    } while (killed);
    assert_in_range(save, 3, SAVES_MAX);
    syncrig_done(&rig);
}

static void after_a_reboot(void **state)
{
    (void)state;
    try_at_each_save(reboot);
}

static void when_it_is_asked_for(void **state)
{
    (void)state;
    try_at_each_save(ask_for_it);
}

static void when_the_tracker_lost_something(void **state)
{
    (void)state;
    try_at_each_save(lose_writes);
}

static void when_the_vault_has_less_than_before(void **state)
{
    (void)state;
    try_at_each_save(restore_an_older_vault);
}

/* The folder is full at the restart, and the agent is started again before somebody makes room. */
static void whatever_the_folder_has_no_room_for(void **state)
{
    static void (*const causes[])(struct syncrig * rig) = {reboot, ask_for_it, lose_writes, restore_an_older_vault};
    struct syncrig rig;

    (void)state;
    protect(&rig);
    for (size_t i = 0; i < 4; i++) {
        causes[i](&rig);
        knobs->room = NO_ROOM;
        syncrig_start(&rig);
        assert_true(syncrig_wait_phase(&rig, PHASE_ERROR));
        syncrig_stop(&rig);
        knobs->room = ROOM;
        syncrig_start(&rig);
        syncrig_assert_equal(&rig);
        syncrig_stop(&rig);
    }
    syncrig_done(&rig);
}

/* Replication goes on; and who is started again while there is no room knows what the one before knew. */
static void a_folder_without_room_stops_nothing(void **state)
{
    static void (*const causes[])(struct syncrig * rig) = {reboot, ask_for_it, lose_writes, restore_an_older_vault};
    struct syncrig rig;

    (void)state;
    protect(&rig);
    for (size_t i = 0; i < 4; i++) {
        knobs->room = NO_ROOM_ON_DISK;
        for (int k = 0; k < 2; k++) {
            causes[i](&rig);
            syncrig_start(&rig);
            syncrig_assert_equal(&rig);
            syncrig_stop(&rig);
        }
        knobs->room = ROOM;
        causes[i](&rig);
        syncrig_start(&rig);
        syncrig_assert_equal(&rig);
        syncrig_stop(&rig);
    }
    syncrig_done(&rig);
}

/* Nothing goes over a stream of the epoch before, once the new one could not be saved. */
static void an_epoch_that_cannot_be_saved_is_not_used(void **state)
{
    struct fakenode_facts facts;
    struct syncrig rig;

    (void)state;
    protect(&rig);
    syncrig_start(&rig);
    syncrig_assert_equal(&rig);
    spoil_copies(&rig);
    knobs->room = NO_ROOM;
    fakenode_raise_epoch(rig.node, 1);
    assert_true(syncrig_wait_phase(&rig, PHASE_ERROR));
    knobs->room = ROOM;
    syncrig_assert_equal(&rig);
    fakenode_get(rig.node, &facts);
    assert_string_equal(facts.fault, "");
    syncrig_stop(&rig);
    syncrig_done(&rig);
}

/* A state in memory that is older, and stays, is not what the next process goes by. */
static void a_spare_state_that_stays_hides_nothing(void **state)
{
    struct fakenode_facts facts;
    struct syncrig rig;

    (void)state;
    protect(&rig);
    for (unsigned save = 2; save <= 3; save++) { /* the first one says that a disk is to be compared */
        knobs->room = NO_ROOM_ON_DISK;
        syncrig_start_process(&rig);
        fakenode_get(rig.node, &facts);
        assert_true(fakenode_wait_points(rig.node, facts.points + 2));
        knobs->room = ROOM;
        knobs->spare_stays = true;
        knobs->kill_before = save;
        lose_writes(&rig);
        assert_int_equal(waitpid(rig.child, NULL, 0), rig.child);
        rig.child = 0;
        knobs->kill_before = 0;
        syncrig_start(&rig);
        syncrig_assert_equal(&rig);
        knobs->spare_stays = false;
        syncrig_stop(&rig);
    }
    syncrig_done(&rig);
}

/* Nobody knows what it said: the disks are compared. */
static void a_spare_state_that_cannot_be_read_hides_nothing(void **state)
{
    struct syncrig rig;

    (void)state;
    protect(&rig);
    spoil_copies(&rig);
    must_run("head -c 100 %s/state >%s/run/spare-state", rig.dir, rig.dir);
    syncrig_start(&rig);
    syncrig_assert_equal(&rig);
    must_run("test ! -e %s/run/spare-state", rig.dir);
    syncrig_stop(&rig);
    syncrig_done(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_a_reboot),
        cmocka_unit_test(when_it_is_asked_for),
        cmocka_unit_test(when_the_tracker_lost_something),
        cmocka_unit_test(when_the_vault_has_less_than_before),
        cmocka_unit_test(whatever_the_folder_has_no_room_for),
        cmocka_unit_test(a_folder_without_room_stops_nothing),
        cmocka_unit_test(an_epoch_that_cannot_be_saved_is_not_used),
        cmocka_unit_test(a_spare_state_that_stays_hides_nothing),
        cmocka_unit_test(a_spare_state_that_cannot_be_read_hides_nothing),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    knobs = mmap(NULL, sizeof(*knobs), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(knobs != MAP_FAILED);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
