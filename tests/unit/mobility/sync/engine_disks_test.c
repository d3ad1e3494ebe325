/* SPDX-License-Identifier: Apache-2.0
 *
 * Disks that come, go and change their size while the machine is replicated: what stays goes on with its points and is not compared,
 * what goes leaves nothing behind, what comes back is copied anew.
 */
#include <dirent.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/capture/reader.h"
#include "mobility/sync/retained.h"
#include "mobility/track/tracker.h"
#include "tests/unit/mobility/sync/syncrig.h"
#include "transport/base/clock.h"

#define MIB (1u << 20)
#define POINTS_MAX 2000u
#define DAY_USEC (24 * 3600 * USEC_PER_SEC)
#define SLOW_BYTES_PER_SEC (256u << 10) /* the copy of a disk of 16 MiB lasts until the test lets it go on */

static void fill(struct loopdisk *l, uint64_t from, uint64_t to)
{
    uint8_t *data = random_bytes(MIB);

    for (uint64_t at = from; at < to; at += MIB) {
        memcpy(data, &at, sizeof(at));
        loopdisk_write(l, at, data, MIB);
    }
    free(data);
}

static void wish_for(struct syncrig *rig, unsigned disks)
{
    rig->wish.version++;
    rig->wish.disk_count = disks;
    engine_set_wish(syncrig_engine(rig), &rig->wish);
}

/* Another point, of so many disks. */
static void wait_points_of(struct syncrig *rig, unsigned disks)
{
    struct fakenode_facts facts;

    for (unsigned i = 0; i < POINTS_MAX; i++) {
        fakenode_get(rig->node, &facts);
        assert_true(fakenode_wait_points(rig->node, facts.points + 1));
        fakenode_get(rig->node, &facts);
        if (facts.last.disk_count == disks)
            return;
    }
    fail_msg("none of %u points is of %u disks", POINTS_MAX, disks);
}

/* The tracker has so many disks: the wish was obeyed. */
static void wait_attached(struct syncrig *rig, unsigned disks)
{
    must_run(
        "for i in $(seq 900); do test $(ls %s/*/ 2>/dev/null | grep -c ^disk-) = %u && exit 0; sleep 0.1; done; exit 1",
        rig->bpf, disks);
}

static void protect_both(struct syncrig *rig)
{
    syncrig_init(rig, 2, 16 * MIB, 512);
    fill(&rig->disks[0], 0, 4 * MIB);
    fill(&rig->disks[1], 4 * MIB, 8 * MIB);
    syncrig_start(rig);
    wait_points_of(rig, 2);
}

static void a_disk_is_added_while_the_other_goes_on(void **state)
{
    static _Alignas(4096) const uint8_t some[4096] = {1};
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 2, 16 * MIB, 512);
    rig.wish.disk_count = 1;
    fill(&rig.disks[0], 0, 4 * MIB);
    fill(&rig.disks[1], 0, 16 * MIB);
    syncrig_start(&rig);
    wait_points_of(&rig, 1);
    rig.wish.pace.rate_bytes_per_sec = SLOW_BYTES_PER_SEC;
    wish_for(&rig, 2);
    wait_attached(&rig, 2);
    loopdisk_write(&rig.disks[0], 8 * MIB, some, sizeof(some));
    loopdisk_write(&rig.disks[1], 8 * MIB, some, sizeof(some));
    wait_points_of(&rig, 1);
    rig.wish.pace.rate_bytes_per_sec = 0;
    wish_for(&rig, 2);
    wait_points_of(&rig, 2);
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    syncrig_done(&rig);
}

static void an_excluded_disk_leaves_nothing_and_the_other_goes_on(void **state)
{
    struct fakenode_facts before, after;
    struct syncrig rig;

    (void)state;
    protect_both(&rig);
    wish_for(&rig, 1);
    wait_points_of(&rig, 1);
    wait_attached(&rig, 1);
    must_run("test -z \"$(ls %s/run/retained | grep ^1[.])\"", rig.dir);
    must_run("! grep -q '\"number\": 1' %s/state", rig.dir);
    fakenode_get(rig.node, &before);
    fill(&rig.disks[1], 0, 16 * MIB); /* nobody's business */
    fill(&rig.disks[0], 9 * MIB, 10 * MIB);
    rig.disk_count = 1;
    syncrig_assert_equal(&rig);
    fakenode_get(rig.node, &after);
    assert_true(after.record_bytes - before.record_bytes < 8 * MIB);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    rig.disk_count = 2;
    syncrig_done(&rig);
}

/* What cannot be removed is not left to the next protection. */
static void an_end_that_fails_is_tried_again(void **state)
{
    struct syncrig rig;
    char in_use[100];

    (void)state;
    protect_both(&rig);
    (void)snprintf(in_use, sizeof(in_use), "%s/run/retained/in-use", rig.dir);
    must_run("mkdir %s && mount -t tmpfs none %s", in_use, in_use);
    rig.wish.protect = false;
    wish_for(&rig, 2);
    assert_true(syncrig_wait_phase(&rig, PHASE_ERROR));
    must_unmount(in_use);
    assert_true(syncrig_wait_event(&rig, "protection_ended"));
    must_run("test ! -e %s/run/retained", rig.dir);
    rig.wish.protect = true;
    wish_for(&rig, 2);
    wait_points_of(&rig, 2);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

static void a_disk_that_is_taken_in_again_is_copied_anew(void **state)
{
    struct syncrig rig;

    (void)state;
    protect_both(&rig);
    wish_for(&rig, 1);
    wait_points_of(&rig, 1);
    fill(&rig.disks[1], 2 * MIB, 6 * MIB); /* while nobody looks */
    wish_for(&rig, 2);
    wait_points_of(&rig, 2);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

static void a_disk_may_shrink_and_grow_again(void **state)
{
    struct fakenode_facts facts;
    struct syncrig rig;

    (void)state;
    protect_both(&rig);
    loopdisk_resize(&rig.disks[1], 6 * MIB);
    fill(&rig.disks[1], 5 * MIB, 6 * MIB);
    assert_true(syncrig_wait_event(&rig, "disk_resized"));
    syncrig_assert_equal(&rig);
    fakenode_get(rig.node, &facts);
    assert_int_equal(facts.last.disks[1].size_bytes, 6 * MIB);
    loopdisk_resize(&rig.disks[1], 20 * MIB); /* what was cut off reads as zeros now */
    syncrig_assert_equal(&rig);
    fakenode_get(rig.node, &facts);
    assert_int_equal(facts.last.disks[1].size_bytes, 20 * MIB);
    assert_int_equal(syncrig_events(&rig, "disk_resized"), 2);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    syncrig_done(&rig);
}

/* As when there is no memory for larger sets of changes at the moment. */
static _Atomic bool no_room;

int __real_retained_resize(struct retained *store, unsigned disk, uint64_t size_bytes, struct err *err);
int __wrap_retained_resize(struct retained *store, unsigned disk, uint64_t size_bytes, struct err *err);

int __wrap_retained_resize(struct retained *store, unsigned disk, uint64_t size_bytes, struct err *err)
{
    return no_room ? err_set(err, ERR_NOMEM, "growing a dirty set")
                   : __real_retained_resize(store, disk, size_bytes, err);
}

static void a_disk_that_grows_while_there_is_no_room_is_followed_later(void **state)
{
    struct fakenode_facts facts;
    struct syncrig rig;

    (void)state;
    protect_both(&rig);
    no_room = true;
    loopdisk_resize(&rig.disks[1], 20 * MIB);
    assert_true(syncrig_wait_phase(&rig, PHASE_ERROR));
    fill(&rig.disks[1], 15 * MIB, 20 * MIB);
    no_room = false;
    syncrig_assert_equal(&rig);
    fakenode_get(rig.node, &facts);
    assert_int_equal(facts.last.disks[1].size_bytes, 20 * MIB);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    syncrig_done(&rig);
}

static void a_disk_grows_during_its_first_copy(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    fill(&rig.disks[0], 0, 16 * MIB);
    rig.wish.pace.rate_bytes_per_sec = SLOW_BYTES_PER_SEC;
    syncrig_start(&rig);
    wait_attached(&rig, 1);
    loopdisk_resize(&rig.disks[0], 24 * MIB);
    fill(&rig.disks[0], 15 * MIB, 24 * MIB);
    assert_true(syncrig_wait_event(&rig, "disk_resized"));
    rig.wish.pace.rate_bytes_per_sec = 0;
    wish_for(&rig, 1);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

/* What the next reading of changes finds: a disk whose size is that of its first block, as a controller says of one that it looks for. */
static struct loopdisk *_Atomic away;
static _Atomic bool stays_away;

int __real_reader_run_dirty(
    struct reader *r, unsigned disk, const struct dirty *set, reader_sink sink, void *sink_arg, struct err *err);
int __wrap_reader_run_dirty(
    struct reader *r, unsigned disk, const struct dirty *set, reader_sink sink, void *sink_arg, struct err *err);

static void limit_size(const struct loopdisk *l, uint64_t bytes)
{
    struct loop_info64 info;

    assert_int_equal(ioctl(l->fd, LOOP_GET_STATUS64, &info), 0);
    info.lo_sizelimit = bytes;
    assert_int_equal(ioctl(l->fd, LOOP_SET_STATUS64, &info), 0);
}

/* What happens in the middle of a cycle, before the next reading of the disk's first block: that is written, and ... */
static struct loopdisk *_Atomic changing;
static _Atomic bool grows, loses; /* it is larger by then; the tracker has lost something */
static _Atomic bool lost, torn;
static _Alignas(4096) const uint8_t stamp[4096] = "written in the middle of a cycle";

bool __real_tracker_disk_is_unknown(const struct tracker_disk *disk);
bool __wrap_tracker_disk_is_unknown(const struct tracker_disk *disk);
void __real_tracker_disk_acknowledge(struct tracker_disk *disk);
void __wrap_tracker_disk_acknowledge(struct tracker_disk *disk);

bool __wrap_tracker_disk_is_unknown(const struct tracker_disk *disk)
{
    return lost || __real_tracker_disk_is_unknown(disk);
}

void __wrap_tracker_disk_acknowledge(struct tracker_disk *disk)
{
    lost = false;
    __real_tracker_disk_acknowledge(disk);
}

static void change(struct loopdisk *l)
{
    if (grows)
        loopdisk_resize(l, 20 * MIB);
    loopdisk_write(l, 0, stamp, sizeof(stamp));
    lost = loses;
    changing = NULL;
}

int __wrap_reader_run_dirty(
    struct reader *r, unsigned disk, const struct dirty *set, reader_sink sink, void *sink_arg, struct err *err)
{
    struct loopdisk *l = away;
    int result;

    if (changing && dirty_test(set, 0))
        change(changing);
    if (!l || dirty_is_empty(set))
        return __real_reader_run_dirty(r, disk, set, sink, sink_arg, err);
    if (!stays_away)
        away = NULL;
    limit_size(l, 4096);
    result = __real_reader_run_dirty(r, disk, set, sink, sink_arg, err);
    limit_size(l, 0);
    return result;
}

/* So often the device of a disk is another than when the disks were looked at. */
static _Atomic unsigned swapped, asked_who;

bool __real_inventory_disk_is_current(const struct inventory_disk *d);
bool __wrap_inventory_disk_is_current(const struct inventory_disk *d);

bool __wrap_inventory_disk_is_current(const struct inventory_disk *d)
{
    asked_who++;
    if (swapped == 0)
        return __real_inventory_disk_is_current(d);
    swapped--;
    return false;
}

/* One disk comes under protection, whatever stands in its way, and nobody is told of an error. */
static void expect_protected(void)
{
    struct syncrig rig;

    syncrig_init(&rig, 1, 16 * MIB, 512);
    fill(&rig.disks[0], 0, 4 * MIB);
    syncrig_start(&rig);
    wait_points_of(&rig, 1);
    assert_int_equal(syncrig_events(&rig, "error"), 0);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

/* As two that came back under each other's names: the content of the other one would be taken for this one's. */
static void a_device_that_is_another_by_now_is_not_taken(void **state)
{
    (void)state;
    swapped = 2;
    asked_who = 0;
    expect_protected();
    assert_int_equal(swapped, 0);
    assert_int_equal(asked_who, 3); /* each time with a new list, and no more often */
}

/* How long a look at the disks takes beyond what it takes, and how many there were. */
static _Atomic unsigned look_usec, looks;

int __real_inventory_scan(const struct inventory_source *source, struct inventory **ret_inventory, struct err *err);
int __wrap_inventory_scan(const struct inventory_source *source, struct inventory **ret_inventory, struct err *err);

int __wrap_inventory_scan(const struct inventory_source *source, struct inventory **ret_inventory, struct err *err)
{
    looks++;
    (void)usleep(look_usec);
    return __real_inventory_scan(source, ret_inventory, err);
}

/* Longer than is waited for one at a time, as with many disks that are busy: what has been asked for is waited for, and not asked for anew. */
static void looks_that_take_long_do_not_hold_up_a_copy_for_ever(void **state)
{
    (void)state;
    look_usec = 1500000;
    looks = 0;
    expect_protected();
    look_usec = 0;
    assert_true(looks >= 2 && looks <= 3);
}

/* Threads of this process that only compress. */
static unsigned sealing_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    unsigned count = 0;

    assert_non_null(tasks);
    for (struct dirent *e; (e = readdir(tasks));) {
        char path[300], name[32] = "";
        FILE *comm;
        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
        comm = fopen(path, "re");
        if (!comm)
            continue;
        count += fgets(name, sizeof(name), comm) && strcmp(name, "seal\n") == 0;
        fclose(comm);
    }
    closedir(tasks);
    return count;
}

static void wait_sealing(bool some)
{
    for (uint64_t end = clock_mono_usec() + 90 * USEC_PER_SEC; (sealing_threads() > 0) != some;) {
        assert_true(clock_mono_usec() < end);
        (void)usleep(10000);
    }
}

/* Their memory is not wanted by a machine that is protected, nor by one that is not any more. */
static void threads_that_compress_go_with_the_first_copy(void **state)
{
    struct syncrig rig;

    (void)state;
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        print_message("needs two processors\n");
        skip();
    }
    syncrig_init(&rig, 1, 16 * MIB, 512);
    fill(&rig.disks[0], 0, 16 * MIB);
    rig.wish.pace.rate_bytes_per_sec = SLOW_BYTES_PER_SEC;
    syncrig_start(&rig);
    wait_sealing(true);
    rig.wish.protect = false;
    wish_for(&rig, 0);
    wait_sealing(false);
    rig.wish.protect = true;
    wish_for(&rig, 1);
    wait_sealing(true);
    rig.wish.pace.rate_bytes_per_sec = 0;
    wish_for(&rig, 1);
    wait_points_of(&rig, 1);
    wait_sealing(false);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

static _Atomic unsigned prepared;

void __real_tracker_prepare(void);
void __wrap_tracker_prepare(void);

void __wrap_tracker_prepare(void)
{
    prepared++;
    __real_tracker_prepare();
}

/* Once while nothing is protected, and again when nothing is any more; a machine that is has no use for it. */
static void an_idle_agent_prepares_its_tracker(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    prepared = 0;
    rig.wish.protect = false;
    syncrig_start(&rig);
    while (prepared == 0)
        (void)usleep(1000);
    rig.wish.protect = true;
    wish_for(&rig, 1);
    wait_points_of(&rig, 1);
    assert_int_equal(prepared, 1);
    rig.wish.protect = false;
    wish_for(&rig, 0);
    while (prepared == 1)
        (void)usleep(1000);
    syncrig_done(&rig);
}

static void a_disk_that_is_away_for_a_moment_loses_nothing(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    fill(&rig.disks[0], 0, 4 * MIB);
    syncrig_start(&rig);
    wait_points_of(&rig, 1);
    away = &rig.disks[0];
    fill(&rig.disks[0], 6 * MIB, 7 * MIB);
    while (away)
        (void)usleep(1000);
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    syncrig_done(&rig);
}

static void a_disk_that_stays_away_is_the_cause(void **state)
{
    struct engine_status status = {0};
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    fill(&rig.disks[0], 0, 4 * MIB);
    syncrig_start(&rig);
    wait_points_of(&rig, 1);
    stays_away = true;
    away = &rig.disks[0];
    fill(&rig.disks[0], 6 * MIB, 7 * MIB);
    for (unsigned i = 0; i < 60000 && !status.cause[0]; i++) {
        engine_get_status(syncrig_engine(&rig), &status);
        (void)usleep(1000);
    }
    assert_non_null(strstr(status.cause, "the disk has 4096 bytes"));
    assert_non_null(strstr(status.remedy, "connected"));
    assert_int_equal(status.phase, PHASE_PROTECTED);
    stays_away = false;
    away = NULL;
    syncrig_assert_equal(&rig);
    engine_get_status(syncrig_engine(&rig), &status);
    assert_string_equal(status.cause, "");
    syncrig_done(&rig);
}

static void wish_for_interval(struct syncrig *rig, uint64_t usec)
{
    rig->wish.interval_usec = usec;
    wish_for(rig, rig->wish.disk_count);
}

/* An interval of a day is between points, not between a failure and the next try, nor before the first point, nor before the policy's next interval. */
static void a_long_interval_delays_no_point_that_is_missing(void **state)
{
    struct engine_status status = {0};
    struct fakenode_facts facts;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 2, 16 * MIB, 512);
    fill(&rig.disks[0], 0, 4 * MIB);
    fill(&rig.disks[1], 0, 4 * MIB);
    rig.wish.interval_usec = DAY_USEC;
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    stays_away = true;
    away = &rig.disks[0];
    fill(&rig.disks[0], 6 * MIB, 7 * MIB);
    wish_for_interval(&rig, 50 * USEC_PER_MSEC);
    for (unsigned i = 0; i < 60000 && !status.cause[0]; i++) {
        engine_get_status(syncrig_engine(&rig), &status);
        (void)usleep(1000);
    }
    assert_non_null(strstr(status.cause, "the disk has 4096 bytes"));
    wish_for_interval(&rig, DAY_USEC);
    (void)usleep(200 * USEC_PER_MSEC); /* the turn that was due by the old interval fails, too */
    fakenode_get(rig.node, &facts);
    stays_away = false;
    away = NULL;
    assert_true(fakenode_wait_points(rig.node, facts.points + 1));
    syncrig_done(&rig);
}

static void a_point_that_was_lost_on_its_way_is_made_again_at_once(void **state)
{
    struct fakenode_facts before, facts;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    fakenode_set_holding(rig.node, true);
    fakenode_get(rig.node, &before);
    fill(&rig.disks[0], 0, MIB);
    facts = before;
    for (unsigned i = 0; i < 60000 && facts.held == before.held; i++) {
        fakenode_get(rig.node, &facts);
        (void)usleep(1000);
    }
    assert_true(facts.held > before.held);
    wish_for_interval(&rig, DAY_USEC);
    (void)usleep(500 * USEC_PER_MSEC); /* what was due by the old interval is made, too */
    fakenode_get(rig.node, &facts);
    fakenode_drop(rig.node);
    fakenode_set_holding(rig.node, false);
    assert_true(fakenode_wait_points(rig.node, facts.points + 1));
    syncrig_done(&rig);
}

static void what_the_vault_lost_is_sent_at_once(void **state)
{
    const struct engine_resend resend = {
        .request = 1, .count = 1, .ranges = {{.disk = 0, .start = 0, .length = 65536}}};
    struct fakenode_facts facts;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    rig.wish.interval_usec = DAY_USEC;
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    fakenode_get(rig.node, &facts);
    engine_set_resend(syncrig_engine(&rig), &resend);
    assert_true(fakenode_wait_points(rig.node, facts.points + 1));
    syncrig_done(&rig);
}

/* The other one has had its point without this one, and would have the next in a day. */
static void a_disk_that_is_left_out_holds_up_no_first_point(void **state)
{
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 2, 16 * MIB, 512);
    fill(&rig.disks[1], 0, 8 * MIB);
    rig.wish.interval_usec = DAY_USEC;
    rig.wish.pace.rate_bytes_per_sec = SLOW_BYTES_PER_SEC; /* what is zero costs nothing */
    syncrig_start(&rig);
    wait_points_of(&rig, 1);
    wish_for(&rig, 1);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    syncrig_done(&rig);
}

/* One step of work at the low rate would take minutes. */
static void a_throttle_that_is_removed_is_gone_at_once(void **state)
{
    struct engine_status status = {0};
    struct fakenode_facts facts;
    struct syncrig rig;
    uint64_t began;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    rig.wish.pace.rate_bytes_per_sec = SLOW_BYTES_PER_SEC / 4;
    syncrig_start(&rig); /* what is zero costs nothing */
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    fill(&rig.disks[0], 0, 15 * MIB);
    sleep(1); /* the next turn is in the middle of it */
    engine_get_status(syncrig_engine(&rig), &status);
    assert_string_equal(status.slowed_by, "throttle");
    rig.wish.pace.rate_bytes_per_sec = 0;
    began = clock_mono_usec();
    wish_for(&rig, 1);
    fakenode_get(rig.node, &facts);
    assert_true(fakenode_wait_points(rig.node, facts.points + 1));
    assert_in_range(clock_mono_usec() - began, 0, 45 * USEC_PER_SEC);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

static uint64_t cpu_usec(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

/* The points of the other disk are due all the time. */
static void a_disk_that_is_not_there_costs_no_processor(void **state)
{
    struct syncrig rig;
    uint64_t used;

    (void)state;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    syncrig_start(&rig);
    wait_points_of(&rig, 1);
    snprintf(rig.wish.disks[1].key, sizeof(rig.wish.disks[1].key), "serial:nowhere");
    rig.wish.disks[1].number = 1;
    wish_for(&rig, 2);
    assert_true(syncrig_wait_phase(&rig, PHASE_ERROR));
    used = cpu_usec();
    sleep(2);
    assert_in_range(cpu_usec() - used, 0, 200 * USEC_PER_MSEC);
    wish_for(&rig, 1);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
}

/* A point that has what was written then has the disk's size of then, and everything that the tracker lost. */
static void look_for_stamp(void *arg, const struct mark *mark)
{
    struct syncrig *rig = arg;
    uint8_t block[sizeof(stamp)] = {0};
    char path[100];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/0.img", rig->dir);
    f = fopen(path, "re");
    if (!f || fread(block, sizeof(block), 1, f) != 1 || memcmp(block, stamp, sizeof(stamp)) != 0)
        block[0] = 0;
    if (f)
        (void)fclose(f);
    torn = torn || (block[0] && (lost || (grows && mark->disks[0].size_bytes != 20 * MIB)));
}

static void change_in_the_middle(bool grown, bool some_lost)
{
    struct engine_output o;
    struct err err = ERR_INIT;
    struct syncrig rig;

    grows = grown;
    loses = some_lost;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    fill(&rig.disks[0], 0, 4 * MIB);
    syncrig_start(&rig);
    wait_points_of(&rig, 1);
    fakenode_set_look(rig.node, look_for_stamp, &rig);
    changing = &rig.disks[0];
    fill(&rig.disks[0], 0, MIB);
    while (changing)
        (void)usleep(1000);
    assert_int_equal(engine_create_point(syncrig_engine(&rig), "asked", "crash", "", &err), 0);
    assert_true(syncrig_result(&rig, "asked", &o));
    assert_int_equal(o.error.code, ERR_NONE);
    syncrig_assert_equal(&rig);
    assert_false(torn);
    assert_int_equal(syncrig_events(&rig, "disk_resized"), grown);
    assert_int_equal(syncrig_events(&rig, "resync_started"), some_lost);
    fakenode_set_look(rig.node, NULL, NULL);
    syncrig_done(&rig);
}

static void a_disk_that_grows_in_a_cycle_is_in_no_point_with_its_old_size(void **state)
{
    (void)state;
    change_in_the_middle(true, false);
}

static void what_the_tracker_loses_in_a_cycle_makes_it_no_point(void **state)
{
    (void)state;
    change_in_the_middle(false, true);
}

/* Orders what a coordinator would whose other machines are always there already, until it has ended. */
static enum group_part_state make_group_point(struct group_part *part, struct group_part_view *ret_view)
{
    static const enum group_part_state orders[][2] = {{GROUP_PART_PREPARED, GROUP_PART_FREEZING},
        {GROUP_PART_FROZEN, GROUP_PART_READING}, {GROUP_PART_HELD, GROUP_PART_RELEASED},
        {GROUP_PART_CAPTURED, GROUP_PART_COMMITTING}};
    const struct group_part_ask ask = {.budget_usec = 30000000};
    enum group_part_state now;

    assert_int_equal(group_part_begin(part, &ask, NULL), 0);
    while ((now = group_part_look(part, ret_view)) != GROUP_PART_DONE && now != GROUP_PART_FAILED) {
        for (unsigned i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
            if (orders[i][0] == now)
                (void)group_part_order(part, orders[i][1], NULL);
        (void)usleep(1000);
    }
    return now;
}

static void a_group_point_without_a_disk_that_grew_asks_for_nothing(void **state)
{
    struct group_part_view view;
    struct syncrig rig;

    (void)state;
    grows = true;
    loses = false;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    rig.wish.interval_usec = DAY_USEC; /* no cycle but that of the group */
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    changing = &rig.disks[0];
    fill(&rig.disks[0], 0, MIB);
    assert_int_equal(make_group_point(syncrig_part(&rig), &view), GROUP_PART_FAILED);
    assert_non_null(strstr(view.why.text, "changed its size"));
    assert_non_null(strstr(view.why.correction, "nothing is to be done"));
    group_part_collect(syncrig_part(&rig));
    assert_true(syncrig_wait_event(&rig, "disk_resized"));
    assert_int_equal(make_group_point(syncrig_part(&rig), &view), GROUP_PART_DONE);
    group_part_collect(syncrig_part(&rig));
    syncrig_done(&rig);
}

/* The other machines do not wait for what takes longer than they do; sent in pieces it is not sent again by each try. */
static void a_backlog_is_sent_before_a_group_point(void **state)
{
    enum group_part_state made = GROUP_PART_FAILED;
    struct group_part_view view;
    struct syncrig rig;

    (void)state;
    grows = loses = false;
    syncrig_init(&rig, 1, 192 * MIB, 512);
    rig.wish.interval_usec = DAY_USEC;
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    fill(&rig.disks[0], 0, 144 * MIB);
    assert_int_equal(make_group_point(syncrig_part(&rig), &view), GROUP_PART_FAILED);
    assert_non_null(strstr(view.why.text, "catching up"));
    group_part_collect(syncrig_part(&rig));
    for (unsigned i = 0; i < 900 && made != GROUP_PART_DONE; i++) {
        (void)usleep(100 * USEC_PER_MSEC);
        made = make_group_point(syncrig_part(&rig), &view);
        group_part_collect(syncrig_part(&rig));
    }
    assert_int_equal(made, GROUP_PART_DONE);
    syncrig_done(&rig);
}

/* Each of them counts for one, and none for the ones after it. */
static void group_points_do_not_put_off_a_machines_own(void **state)
{
    struct group_part_view view;
    struct fakenode_facts facts;
    struct syncrig rig;

    (void)state;
    grows = loses = false;
    syncrig_init(&rig, 1, 16 * MIB, 512);
    rig.wish.interval_usec = 10 * USEC_PER_SEC;
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(make_group_point(syncrig_part(&rig), &view), GROUP_PART_DONE);
        group_part_collect(syncrig_part(&rig));
        assert_true(fakenode_wait_committed(rig.node, view.sequence));
    }
    fakenode_get(rig.node, &facts);
    assert_true(fakenode_wait_points(rig.node, facts.points + 1));
    syncrig_done(&rig);
}

/* What was frozen then is not all that is mounted. */
static void a_group_point_beside_a_hidden_file_system_is_crash_consistent(void **state)
{
    struct fakenode_facts before, after;
    struct group_part_view view;
    struct syncrig rig;

    (void)state;
    grows = loses = false;
    syncrig_init(&rig, 2, 16 * MIB, 512);
    syncrig_mount(&rig, 0);
    syncrig_mount(&rig, 1);
    rig.wish.interval_usec = DAY_USEC;
    syncrig_start(&rig);
    assert_true(syncrig_wait_phase(&rig, PHASE_PROTECTED));
    for (unsigned hidden = 0; hidden < 2; hidden++) {
        if (hidden)
            must_run("mount -t tmpfs over %s/mnt1", rig.dir);
        fakenode_get(rig.node, &before);
        assert_int_equal(make_group_point(syncrig_part(&rig), &view), GROUP_PART_DONE);
        group_part_collect(syncrig_part(&rig));
        assert_true(fakenode_wait_points(rig.node, before.points + 1));
        fakenode_get(rig.node, &after);
        assert_int_equal(after.kinds[MARK_FILESYSTEM] - before.kinds[MARK_FILESYSTEM], !hidden);
        assert_int_equal(after.kinds[MARK_CRASH] - before.kinds[MARK_CRASH], hidden);
    }
    must_run("umount %s/mnt1", rig.dir);
    syncrig_unmount(&rig, 1);
    syncrig_unmount(&rig, 0);
    syncrig_done(&rig);
}

/* A backlog is sent disk by disk; what of it is committed is forgotten, and the agent is killed before the rest is. */
static void what_a_backlog_could_not_read_is_known_to_the_next_process(void **state)
{
    const uint64_t size = 160ull * MIB;
    struct fakenode_facts before, now;
    struct syncrig rig;

    (void)state;
    syncrig_init(&rig, 2, size, 512);
    fill(&rig.disks[0], size - MIB, size);
    rig.wish.pace.rate_bytes_per_sec = 24 * MIB;
    syncrig_start_process(&rig);
    wait_points_of(&rig, 2);
    fakenode_set_refusing(rig.node, true);
    fakenode_drop(rig.node);
    fill(&rig.disks[0], size - 4 * MIB, size);
    fill(&rig.disks[1], 0, 140 * MIB);
    assert_int_equal(ftruncate(rig.disks[0].file_fd, (off_t)(size - MIB)), 0); /* read with EIO from there */
    fakenode_get(rig.node, &before);
    fakenode_set_refusing(rig.node, false);
    do
        fakenode_get(rig.node, &now);
    while (now.record_bytes < before.record_bytes + 90 * MIB && usleep(1000) == 0);
    assert_int_equal(now.points, before.points); /* still at it */
    syncrig_kill_process(&rig);
    assert_int_equal(ftruncate(rig.disks[0].file_fd, (off_t)size), 0);
    rig.wish.pace.rate_bytes_per_sec = 0;
    syncrig_start(&rig);
    syncrig_assert_equal(&rig);
    assert_int_equal(syncrig_events(&rig, "resync_started"), 0);
    syncrig_done(&rig);
}

/* What a disk's size is said to be when it is next asked for; 0: what it is. */
static _Atomic uint64_t pretended;

uint64_t __real_wholedisk_size_bytes(dev_t disk);
uint64_t __wrap_wholedisk_size_bytes(dev_t disk);

uint64_t __wrap_wholedisk_size_bytes(dev_t disk)
{
    uint64_t bytes = atomic_exchange(&pretended, 0);

    return bytes > 0 ? bytes : __real_wholedisk_size_bytes(disk);
}

/* The first that is written there cannot be read, until the disk is better; nothing else is written any more. */
static void is_read_again(uint64_t size, uint64_t at, uint32_t n)
{
    uint8_t *data = random_bytes(65536);
    struct syncrig rig;

    syncrig_init(&rig, 1, size, 512);
    fill(&rig.disks[0], 0, 4 * MIB);
    syncrig_start(&rig);
    wait_points_of(&rig, 1);
    fakenode_set_refusing(rig.node, true);
    fakenode_drop(rig.node);
    loopdisk_write(&rig.disks[0], at, data, n);
    assert_int_equal(ftruncate(rig.disks[0].file_fd, (off_t)at), 0);
    fakenode_set_refusing(rig.node, false);
    assert_true(syncrig_wait_event(&rig, "unreadable_blocks"));
    assert_int_equal(ftruncate(rig.disks[0].file_fd, (off_t)size), 0);
    assert_true(syncrig_wait_event(&rig, "readable_again"));
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
    free(data);
}

/* It keeps its granules when it gets smaller: they are larger than what is read at once. */
static void what_could_not_be_read_of_a_very_large_disk_is_read_again(void **state)
{
    (void)state;
    pretended = (uint64_t)40 << 40;
    is_read_again(16 * MIB, 12 * MIB, 65536);
    assert_int_equal(pretended, 0);
}

#define HOLES 100u

static bool has_counted(struct syncrig *rig, uint64_t blocks, struct mark *ret_last)
{
    struct fakenode_facts facts;

    for (unsigned i = 0; i < 100; i++) {
        fakenode_get(rig->node, &facts);
        *ret_last = facts.last;
        if (facts.last.unreadable_blocks == blocks)
            return true;
        assert_true(fakenode_wait_points(rig->node, facts.points + 1));
    }
    return false;
}

/* A failing disk with more holes than a mark has room for, and one with a single hole: none is lost from the count, nor the single one from the list. */
static void more_holes_than_a_mark_lists_do_not_hide_those_of_another_disk(void **state)
{
    uint8_t *data = random_bytes(4096);
    struct syncrig rig;
    struct mark m;

    (void)state;
    syncrig_init(&rig, 2, 16 * MIB, 512);
    for (unsigned i = 0; i < 2; i++)
        fill(&rig.disks[i], 0, 4 * MIB);
    syncrig_start(&rig);
    wait_points_of(&rig, 2);
    fakenode_set_refusing(rig.node, true);
    fakenode_drop(rig.node);
    for (unsigned i = 0; i < HOLES; i++)
        loopdisk_write(&rig.disks[0], 8 * MIB + i * 8192, data, 4096);
    loopdisk_write(&rig.disks[1], 12 * MIB, data, 4096);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(ftruncate(rig.disks[i].file_fd, 8 * MIB), 0);
    fakenode_set_refusing(rig.node, false);
    assert_true(has_counted(&rig, HOLES + 1, &m));
    assert_int_equal(m.range_count, MARK_RANGES_MAX);
    assert_int_equal(mark_unlisted_blocks(&m), HOLES + 1 - MARK_RANGES_MAX);
    for (unsigned i = 0; i < MARK_RANGES_MAX - 1; i++) {
        assert_int_equal(m.ranges[i].disk, m.disks[0].number);
        assert_int_equal(m.ranges[i].start, 8 * MIB + i * 8192);
        assert_int_equal(m.ranges[i].length, 4096);
    }
    assert_int_equal(m.ranges[MARK_RANGES_MAX - 1].disk, m.disks[1].number);
    assert_int_equal(m.ranges[MARK_RANGES_MAX - 1].start, 12 * MIB);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(ftruncate(rig.disks[i].file_fd, 16 * MIB), 0);
    assert_true(has_counted(&rig, 0, &m));
    assert_int_equal(m.range_count, 0);
    syncrig_assert_equal(&rig);
    syncrig_done(&rig);
    free(data);
}

static void an_end_of_less_than_a_granule_is_read_again(void **state)
{
    (void)state;
    is_read_again(16 * MIB + 512, 16 * MIB, 512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_is_added_while_the_other_goes_on),
        cmocka_unit_test(an_excluded_disk_leaves_nothing_and_the_other_goes_on),
        cmocka_unit_test(an_end_that_fails_is_tried_again),
        cmocka_unit_test(a_disk_that_is_taken_in_again_is_copied_anew),
        cmocka_unit_test(a_disk_may_shrink_and_grow_again),
        cmocka_unit_test(a_disk_that_grows_while_there_is_no_room_is_followed_later),
        cmocka_unit_test(a_disk_grows_during_its_first_copy),
        cmocka_unit_test(a_device_that_is_another_by_now_is_not_taken),
        cmocka_unit_test(looks_that_take_long_do_not_hold_up_a_copy_for_ever),
        cmocka_unit_test(threads_that_compress_go_with_the_first_copy),
        cmocka_unit_test(an_idle_agent_prepares_its_tracker),
        cmocka_unit_test(a_disk_that_is_away_for_a_moment_loses_nothing),
        cmocka_unit_test(a_disk_that_stays_away_is_the_cause),
        cmocka_unit_test(a_long_interval_delays_no_point_that_is_missing),
        cmocka_unit_test(a_point_that_was_lost_on_its_way_is_made_again_at_once),
        cmocka_unit_test(what_the_vault_lost_is_sent_at_once),
        cmocka_unit_test(a_disk_that_is_left_out_holds_up_no_first_point),
        cmocka_unit_test(a_throttle_that_is_removed_is_gone_at_once),
        cmocka_unit_test(a_disk_that_is_not_there_costs_no_processor),
        cmocka_unit_test(a_disk_that_grows_in_a_cycle_is_in_no_point_with_its_old_size),
        cmocka_unit_test(what_the_tracker_loses_in_a_cycle_makes_it_no_point),
        cmocka_unit_test(a_group_point_without_a_disk_that_grew_asks_for_nothing),
        cmocka_unit_test(a_backlog_is_sent_before_a_group_point),
        cmocka_unit_test(group_points_do_not_put_off_a_machines_own),
        cmocka_unit_test(a_group_point_beside_a_hidden_file_system_is_crash_consistent),
        cmocka_unit_test(what_a_backlog_could_not_read_is_known_to_the_next_process),
        cmocka_unit_test(what_could_not_be_read_of_a_very_large_disk_is_read_again),
        cmocka_unit_test(more_holes_than_a_mark_lists_do_not_hide_those_of_another_disk),
        cmocka_unit_test(an_end_of_less_than_a_granule_is_read_again),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    if (getenv("LEEWARD_TEST"))
        cmocka_set_test_filter(getenv("LEEWARD_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
