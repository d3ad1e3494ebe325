/* SPDX-License-Identifier: Apache-2.0
 *
 * Yielding on a disk: when a copy rests, for how long, and what it takes for the doing of others. The clock is the test's: it goes on while
 * the copy sleeps and where a test says so, so nothing here depends on how busy the machine is. The statistics are those of a real disk, or a file's that
 * looks like them where the kernel's could not be had at will.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/sync/yield.h"
#include "tests/unit/mobility/track/loopdisk.h"
#include "transport/base/clock.h"

#define KIB 1024u
#define MIB (1024u * KIB)

/* ---- the clock ---- */

static uint64_t now_usec = 1000 * USEC_PER_SEC, slept_usec;

uint64_t __wrap_clock_mono_usec(void);
uint64_t __wrap_clock_mono_usec(void)
{
    return now_usec;
}

int __wrap_nanosleep(const struct timespec *ts, struct timespec *rest);
int __wrap_nanosleep(const struct timespec *ts, struct timespec *rest)
{
    uint64_t usec = (uint64_t)ts->tv_sec * USEC_PER_SEC + (uint64_t)ts->tv_nsec / 1000;

    (void)rest;
    now_usec += usec;
    slept_usec += usec;
    return 0;
}

/* ---- a disk whose statistics are a file ---- */

struct paperdisk {
    struct yield y;
    uint64_t read_bytes, writes, write_msec;
    unsigned in_flight;
    void (*when_asked)(struct paperdisk *d); /* each time that the copy, at rest, asks whether to go on */
    unsigned asked;
    bool stops; /* the answer is no */
};

static void put(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(int fd, const char *format, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, format);
    int n = vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, text, (size_t)n, 0), n);
}

/* Fields as in Documentation/block/stat.rst. */
static void show(const struct paperdisk *d)
{
    put(d->y.fd, "%8u %8u %8llu %8u %8llu %8u %8u %8llu %8u %8u %8u\n", 1u, 0u,
        (unsigned long long)(d->read_bytes / 512), 7u, (unsigned long long)d->writes, 0u, 8u,
        (unsigned long long)d->write_msec, d->in_flight, 9u, 9u);
    put(d->y.inflight_fd, "%8u %8u\n", d->in_flight, 3u);
}

static void paperdisk_init(struct paperdisk *d)
{
    *d = (struct paperdisk){0};
    yield_init(&d->y.state);
    d->y.fd = memfd_create("stat", MFD_CLOEXEC);
    d->y.inflight_fd = memfd_create("inflight", MFD_CLOEXEC);
    assert_true(d->y.fd > 0 && d->y.inflight_fd > 0);
    show(d);
    slept_usec = 0;
}

static bool goes_on(void *arg)
{
    struct paperdisk *d = arg;

    d->asked++;
    if (d->when_asked != NULL)
        d->when_asked(d);
    return !d->stops;
}

/* The copy reads so much in so long, and shows what the disk counts then. */
static void copy(struct paperdisk *d, uint64_t bytes, uint64_t usec)
{
    yield_step(&d->y, bytes, goes_on, d);
    now_usec += usec;
    d->read_bytes += bytes;
    show(d);
}

/* ---- tests ---- */

static void a_disk_of_ones_own_costs_a_look_now_and_then(void **state)
{
    struct paperdisk d;
    uint64_t began = now_usec;

    (void)state;
    paperdisk_init(&d);
    for (unsigned i = 0; i < 10000; i++)
        copy(&d, MIB, 1 * USEC_PER_MSEC);
    assert_true(d.y.state.share >= 1);
    assert_false(d.y.state.foreground);
    assert_false(yield_is_slow(&d.y));
    assert_true(slept_usec > 0); /* it does look */
    assert_true(slept_usec * 20 < now_usec - began);
    yield_close(&d.y);
}

static void somebody_writes(struct paperdisk *d)
{
    d->writes += 10;
    d->write_msec += 10;
    show(d);
}

/* Each write takes 1 ms while the copy rests, and `msec` beside it. The part of the time that the copy rested. */
static double rested_beside_writes_of(struct paperdisk *d, unsigned msec, unsigned turns)
{
    uint64_t began = now_usec, slept = slept_usec;

    d->when_asked = somebody_writes;
    for (unsigned i = 0; i < turns * 10; i++) {
        d->writes += 10;
        d->write_msec += 10ull * msec;
        copy(d, MIB, 10 * USEC_PER_MSEC);
    }
    return (double)(slept_usec - slept) / (double)(now_usec - began);
}

static void the_rests_are_as_long_as_the_share_says(void **state)
{
    struct paperdisk d;

    (void)state;
    paperdisk_init(&d);
    assert_true(rested_beside_writes_of(&d, 1, 40) < 0.25); /* not hurt: only looks */
    assert_true(d.y.state.foreground);
    (void)rested_beside_writes_of(&d, 30, 40);
    assert_true(d.y.state.share <= YIELD_SHARE_MIN * 1.01);
    assert_true(yield_is_slow(&d.y));
    double part = rested_beside_writes_of(&d, 30, 20);
    assert_true(part > 0.90 && part < 0.97); /* 1 - YIELD_SHARE_MIN, and what there is of grain */
    (void)rested_beside_writes_of(&d, 1, 80);
    assert_true(d.y.state.share >= 1);
    yield_close(&d.y);
}

static void a_read_lands(struct paperdisk *d)
{
    if (d->in_flight == 0)
        return;
    d->in_flight--;
    d->read_bytes += 4 * MIB; /* of the copy's own, counted when it is done */
    show(d);
}

/* Our own reads that are still in flight when the copy stops are nobody else's. */
static void a_rest_begins_when_no_read_is_in_flight(void **state)
{
    struct paperdisk d;

    (void)state;
    paperdisk_init(&d);
    d.when_asked = a_read_lands;
    for (unsigned i = 0; i < 40; i++) {
        d.in_flight = 6;
        for (unsigned k = 0; k < 25; k++)
            copy(&d, MIB, 100 * USEC_PER_MSEC);
        d.in_flight = 0;
    }
    assert_true(d.asked > 100);
    assert_true(d.y.state.share >= 1);
    assert_false(d.y.state.foreground);
    assert_true(d.y.state.rest_read_per_sec < 1);
    yield_close(&d.y);
}

static void somebody_reads(struct paperdisk *d)
{
    d->in_flight = 3;
    d->read_bytes += 256 * KIB;
    show(d);
}

/* Others who never stop are not waited for, and are seen. */
static void who_reads_all_the_time_is_seen_and_not_starved(void **state)
{
    struct paperdisk d;
    uint64_t began = now_usec;

    (void)state;
    paperdisk_init(&d);
    d.when_asked = somebody_reads; /* but nothing while the copy is at work */
    for (unsigned i = 0; i < 400; i++)
        copy(&d, MIB, 10 * USEC_PER_MSEC);
    assert_true(d.y.state.foreground);
    assert_true(d.y.state.share < 0.5);
    assert_true(slept_usec * 10 > (now_usec - began) * 5);
    yield_close(&d.y);
}

static void a_copy_that_is_to_stop_does_not_rest(void **state)
{
    struct paperdisk d;

    (void)state;
    paperdisk_init(&d);
    (void)rested_beside_writes_of(&d, 30, 60);
    assert_true(d.y.state.share <= YIELD_SHARE_MIN * 1.01);
    d.stops = true;
    slept_usec = 0;
    for (unsigned i = 0; i < 20; i++)
        copy(&d, MIB, 10 * USEC_PER_MSEC);
    assert_int_equal(slept_usec, 0);
    yield_close(&d.y);
}

/* What passed between two stretches of work was neither work nor rest. */
static void what_happens_in_a_pause_is_not_judged(void **state)
{
    struct paperdisk d;

    (void)state;
    paperdisk_init(&d);
    (void)rested_beside_writes_of(&d, 1, 40);
    double share = d.y.state.share;
    for (unsigned i = 0; i < 10; i++) {
        yield_pause(&d.y);
        d.writes += 1000;
        d.write_msec += 1000 * 500; /* a storm, while no copy was there */
        now_usec += USEC_PER_SEC;
        show(&d);
        (void)rested_beside_writes_of(&d, 1, 2);
    }
    assert_true(d.y.state.share >= share);
    yield_close(&d.y);
}

static void a_disk_without_statistics_is_no_error(void **state)
{
    struct yield y;

    (void)state;
    yield_open(&y, makedev(4095, 1048575));
    slept_usec = 0;
    for (unsigned i = 0; i < 100; i++, now_usec += USEC_PER_SEC)
        yield_step(&y, MIB, NULL, NULL); /* asks nobody */
    assert_int_equal(slept_usec, 0);
    yield_close(&y);
    yield_close(&y);
}

/* ---- the kernel's statistics ---- */

struct realdisk {
    struct loopdisk disk;
    struct yield y;
    uint8_t *data;
    uint32_t reads_bytes, writes_bytes; /* by somebody, whenever the copy at rest asks whether to go on */
};

static bool goes_on_beside_others(void *arg)
{
    struct realdisk *r = arg;

    for (uint32_t at = 0; at < r->writes_bytes; at += 4 * KIB)
        loopdisk_write(&r->disk, at, r->data, 4 * KIB);
    if (r->reads_bytes > 0)
        loopdisk_read(&r->disk, 0, r->data, r->reads_bytes);
    return true;
}

static void realdisk_init(struct realdisk *r)
{
    struct stat st;

    *r = (struct realdisk){.data = random_bytes(4 * MIB)};
    loopdisk_init(&r->disk, 16 * MIB, 512, -1);
    loopdisk_write(&r->disk, 0, r->data, 4 * MIB);
    assert_int_equal(fstat(r->disk.fd, &st), 0);
    yield_open(&r->y, st.st_rdev);
    assert_true(r->y.fd > 0);
    assert_true(r->y.inflight_fd > 0);
}

static void realdisk_done(struct realdisk *r)
{
    yield_close(&r->y);
    loopdisk_done(&r->disk);
    free(r->data);
}

/* Reads of the copy, four MiB in 50 ms of the test's clock. */
static void copy_really(struct realdisk *r, unsigned steps)
{
    for (unsigned i = 0; i < steps; i++) {
        yield_step(&r->y, 4 * MIB, goes_on_beside_others, r);
        loopdisk_read(&r->disk, 0, r->data, 4 * MIB);
        now_usec += 50 * USEC_PER_MSEC;
    }
}

static void the_copy_is_told_from_others_on_a_disk(void **state)
{
    struct realdisk r;

    (void)state;
    realdisk_init(&r);
    copy_really(&r, 200); /* 80 MiB/s of its own; who looks at new disks may have read some kilobytes */
    assert_true(r.y.state.share >= 1);
    assert_true(r.y.state.rest_read_per_sec < MIB);
    r.writes_bytes = 32 * KIB;
    copy_really(&r, 100);
    assert_true(r.y.state.foreground);
    assert_true(r.y.state.rest_write_usec >= 0); /* a rest had enough of them to tell */
    r.writes_bytes = 0;
    copy_really(&r, 200);
    assert_false(r.y.state.foreground);
    assert_true(r.y.state.share >= 1);
    realdisk_done(&r);
}

/* 1 MiB in each step of a rest, and nothing beside the copy, whose own reads are not to be taken for theirs. */
static void who_reads_less_beside_the_copy_is_given_way_to_on_a_disk(void **state)
{
    struct realdisk r;

    (void)state;
    realdisk_init(&r);
    r.reads_bytes = 1 * MIB;
    copy_really(&r, 100);
    assert_true(r.y.state.foreground);
    assert_true(r.y.state.share <= YIELD_SHARE_MIN * 1.01);
    assert_true(yield_is_slow(&r.y));
    assert_int_equal(yield_depth(&r.y.state, 32), 1);
    realdisk_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_of_ones_own_costs_a_look_now_and_then),
        cmocka_unit_test(the_rests_are_as_long_as_the_share_says),
        cmocka_unit_test(a_rest_begins_when_no_read_is_in_flight),
        cmocka_unit_test(who_reads_all_the_time_is_seen_and_not_starved),
        cmocka_unit_test(a_copy_that_is_to_stop_does_not_rest),
        cmocka_unit_test(what_happens_in_a_pause_is_not_judged),
        cmocka_unit_test(a_disk_without_statistics_is_no_error),
    };
    const struct CMUnitTest on_disks[] = {
        cmocka_unit_test(the_copy_is_told_from_others_on_a_disk),
        cmocka_unit_test(who_reads_less_beside_the_copy_is_given_way_to_on_a_disk),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    if (failed == 0 && !loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    return failed + cmocka_run_group_tests(on_disks, NULL, NULL);
}
