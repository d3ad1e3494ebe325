/* SPDX-License-Identifier: Apache-2.0
 *
 * P1, P3 and the barrier window: the agent's engine as it is (eBPF tracker, cycle, retained changes, RPC) protects loop disks on
 * FUSE files that delay and reorder, under a workload that stamps what it writes; it is killed again and again. Each point that
 * is committed is looked at before the next one: it has to be a state that a power failure could have left.
 *
 * Two controls must be found out: a tracker that counts no barriers, and (a program of its own) one that marks when a write is
 * queued. A third program stands for a kernel that does not tell of one completion in sixteen: nothing may be lost.
 *
 * LEEWARD_POINTS and LEEWARD_SEED: the long run; both are printed.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/track/tracker.h"
#include "tests/unit/mobility/powerfail/fusedisk.h"
#include "tests/unit/mobility/powerfail/stampload.h"
#include "tests/unit/mobility/sync/syncrig.h"
#include "transport/base/clock.h"

#define DISKS 2u
#define STAMPED_BYTES (1u << 20)
#define DISK_BYTES (6u << 20)
#define CONTROL_POINTS 4000u
#if defined(__SANITIZE_ADDRESS__)
#define POINTS 300u
#else
#define POINTS 2000u
#endif

struct proof {
    char dir[64];
    unsigned seed, points;
    struct fusedisk *fuse;
    struct syncrig rig;
    struct stampload *load;
    uint8_t *images[DISKS];
    /* Written by the node's thread. */
    bool begun;      /* the first whole copy is there */
    char first[200]; /* of the first violation; before the counters */
    atomic_uint checked, unordered, stale, invented;
    atomic_uint
        captured; /* of 1000 sectors that were written, those that are as new as they must be; at the last point */
};

static bool barriers_are_hidden;
uint64_t __real_tracker_barriers(const struct tracker *t);
uint64_t __wrap_tracker_barriers(const struct tracker *t);

/* The linker puts this in front of the tracker's own, in this program only. */
uint64_t __wrap_tracker_barriers(const struct tracker *t)
{
    return barriers_are_hidden ? 0 : __real_tracker_barriers(t);
}

static void read_image(struct proof *p, unsigned disk)
{
    char path[128];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%u.img", p->rig.dir, disk);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    memset(p->images[disk], 0, STAMPED_BYTES);
    if (fd < 0 || pread(fd, p->images[disk], STAMPED_BYTES, 0) < 0)
        abort();
    (void)close(fd);
}

static void look_at_point(void *arg, const struct mark *mark)
{
    struct proof *p = arg;
    struct stampload_verdict v;

    p->begun = p->begun || (mark->flags & MARK_FIRST) != 0;
    if (!p->begun)
        return;
    for (unsigned i = 0; i < DISKS; i++)
        read_image(p, i);
    stampload_check(p->load, (const uint8_t *const *)p->images, mark->time_utc_usec, &v);
    if (v.first[0] && !p->first[0])
        (void)snprintf(p->first, sizeof(p->first), "%s", v.first);
    atomic_store(&p->captured, v.stamped > v.stale ? 1000 * (v.stamped - v.stale) / v.stamped : 0);
    atomic_fetch_add(&p->unordered, v.unordered > 0);
    atomic_fetch_add(&p->stale, v.stale > 0);
    atomic_fetch_add(&p->invented, v.invented > 0);
    atomic_fetch_add(&p->checked, 1);
}

static unsigned violations(struct proof *p)
{
    return atomic_load(&p->unordered) + atomic_load(&p->stale) + atomic_load(&p->invented);
}

static unsigned from_environment(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);

    return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static int setup(void **state)
{
    struct proof *p = calloc(1, sizeof(*p));
    struct stampload_config c = {
        .disk_count = DISKS, .stamped_bytes = STAMPED_BYTES, .disk_bytes = DISK_BYTES, .pause_usec = 3000};
    int files[DISKS];

    p->seed = from_environment("LEEWARD_SEED", (unsigned)time(NULL));
    p->points = from_environment("LEEWARD_POINTS", POINTS);
    print_message("seed %u\n", p->seed);
    srandom(p->seed);
    temp_init(p->dir);
    p->fuse = fusedisk_start(p->dir, DISKS, DISK_BYTES, p->seed);
    for (unsigned i = 0; i < DISKS; i++) {
        files[i] = fusedisk_open(p->fuse, i);
        p->images[i] = calloc(1, STAMPED_BYTES);
    }
    syncrig_init_on(&p->rig, DISKS, DISK_BYTES, 512, files);
    p->rig.wish.interval_usec = 1000;
    p->rig.wish.may_freeze = false;
    p->rig.wish.max_rounds = 60;
    c.witness = p->fuse;
    c.seed = p->seed;
    for (unsigned i = 0; i < DISKS; i++)
        c.paths[i] = p->rig.disks[i].path;
    p->load = stampload_start(&c);
    fakenode_set_look(p->rig.node, look_at_point, p);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct proof *p = *state;

    barriers_are_hidden = false;
    stampload_stop(p->load);
    syncrig_kill_process(&p->rig);
    fakenode_set_look(p->rig.node, NULL, NULL);
    syncrig_done(&p->rig);
    stampload_free(p->load);
    fusedisk_stop(p->fuse);
    for (unsigned i = 0; i < DISKS; i++)
        free(p->images[i]);
    temp_done(p->dir);
    free(p);
    return 0;
}

/* One life of the agent: some points on a disk of some temper, perhaps with the stream lost, and death at any moment after. */
static void live_and_die(struct proof *p, unsigned points)
{
    struct fakenode_facts facts;
    struct timespec t = {.tv_nsec = random() % 4000000};

    fusedisk_set_delays(p->fuse, 50 + (unsigned)random() % 200, 300 + (unsigned)random() % 2000);
    fakenode_get(p->rig.node, &facts);
    syncrig_start_process(&p->rig);
    if (random() % 4 == 0 && fakenode_wait_points(p->rig.node, facts.points + points / 2))
        fakenode_drop(p->rig.node);
    if (!fakenode_wait_points(p->rig.node, facts.points + points))
        fail_msg("%u points are not there in time", points);
    (void)nanosleep(&t, NULL);
    syncrig_kill_process(&p->rig);
}

static void report(struct proof *p, unsigned lives)
{
    struct stampload_counts w;
    struct fusedisk_counts d;

    stampload_get_counts(p->load, &w);
    fusedisk_get_counts(p->fuse, &d);
    print_message(
        "%u points in %u lives: %u unordered, %u stale, %u invented; at the last one %u of 1000 sectors are right\n",
        atomic_load(&p->checked), lives, atomic_load(&p->unordered), atomic_load(&p->stale), atomic_load(&p->invented),
        atomic_load(&p->captured));
    print_message("workload: %llu writes, %llu barriers, %llu FUA; disk: %llu writes, %llu flushes, %llu reads, %llu "
                  "overtaken, %u unwitnessed\n",
        (unsigned long long)w.writes, (unsigned long long)w.barriers, (unsigned long long)w.forced,
        (unsigned long long)d.writes, (unsigned long long)d.flushes, (unsigned long long)d.reads,
        (unsigned long long)d.overtaken, w.unwitnessed);
    if (p->first[0])
        print_message("first: %s\n", p->first);
}

static void prove(struct proof *p)
{
    struct fakenode_facts facts;
    struct stampload_counts counts;
    struct fusedisk_counts device;
    unsigned lives = 0;

    for (; atomic_load(&p->checked) < p->points && violations(p) == 0; lives++)
        live_and_die(p, 1 + (unsigned)random() % 160);
    report(p, lives);
    fakenode_get(p->rig.node, &facts);
    stampload_get_counts(p->load, &counts);
    fusedisk_get_counts(p->fuse, &device);
    assert_string_equal(facts.fault, "");
    assert_string_equal(p->first, "");
    assert_int_equal(violations(p), 0);
    /* It was a trial: much was written, the disk did reorder, and it did see what the workload believes. */
    assert_true(counts.writes > p->points && counts.barriers > p->points / 2 && counts.forced > 0);
    assert_true(device.overtaken > 0);
    assert_int_equal(counts.unwitnessed, 0);
}

static void every_point_is_a_state_a_power_failure_could_leave(void **state)
{
    prove(*state);
}

static void completions_that_the_kernel_does_not_tell_lose_nothing(void **state)
{
    struct proof *p = *state;

    p->points = from_environment("LEEWARD_POINTS", POINTS / 3);
    prove(p);
}

static void must_find_a_violation(struct proof *p)
{
    unsigned lives = 0;

    for (; atomic_load(&p->checked) < CONTROL_POINTS && violations(p) == 0; lives++)
        live_and_die(p, 20);
    report(p, lives);
    assert_true(violations(p) > 0);
    /* Not because nothing works: the control is a tracker that misses a little. */
    assert_int_equal(atomic_load(&p->invented), 0);
    assert_true(atomic_load(&p->captured) > 500);
}

static void a_window_that_counts_no_barriers_is_found_out(void **state)
{
    struct proof *p = *state;

    barriers_are_hidden = true;
    must_find_a_violation(p);
    assert_true(atomic_load(&p->unordered) > 0);
}

static void a_tracker_that_marks_when_a_write_is_queued_is_found_out(void **state)
{
    must_find_a_violation(*state);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest as_it_is[] = {
        TEST(every_point_is_a_state_a_power_failure_could_leave),
        TEST(a_window_that_counts_no_barriers_is_found_out),
    };
    const struct CMUnitTest queued[] = {TEST(a_tracker_that_marks_when_a_write_is_queued_is_found_out)};
    const struct CMUnitTest untold[] = {TEST(completions_that_the_kernel_does_not_tell_lose_nothing)};

    if (!loopdisk_is_possible() || access("/dev/fuse", R_OK | W_OK) < 0) {
        print_message("needs root, loop devices and FUSE: not run\n");
        return 77;
    }
    if (strcmp(TRACKER_VARIANT, "queued") == 0)
        return cmocka_run_group_tests(queued, NULL, NULL);
    if (strcmp(TRACKER_VARIANT, "untold") == 0)
        return cmocka_run_group_tests(untold, NULL, NULL);
    return cmocka_run_group_tests(as_it_is, NULL, NULL);
}
