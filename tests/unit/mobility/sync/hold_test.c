/* SPDX-License-Identifier: Apache-2.0
 *
 * Holding the source still, with a real loop disk and real executables: what was stopped is started again, whatever goes wrong, by the
 * process that stopped it or by the next one, and a note that makes no sense hurts nobody.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mobility/inventory.h"
#include "mobility/sync/hold.h"
#include "mobility/sync/readonly.h"
#include "tests/unit/mobility/sync/diskkey.h"
#include "tests/unit/mobility/track/loopdisk.h"
#include "transport/base/buf.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"

#define ID "11111111-2222-3333-4444-555555555555"
#define WAIT_USEC (120 * USEC_PER_SEC)

/* Of the clock that people set: how far it is ahead of that of the kernel, which timed waits go by. */
static _Atomic time_t ahead_sec;

int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    int rc = __real_clock_gettime(clock, ret_time);

    if (clock == CLOCK_REALTIME)
        ret_time->tv_sec += ahead_sec;
    return rc;
}

/* The disk of the test counts as the one that the running system lies on. */
static _Atomic bool is_system;

const struct inventory_disk *__real_inventory_find(const struct inventory *inventory, const char *key);
const struct inventory_disk *__wrap_inventory_find(const struct inventory *inventory, const char *key);

const struct inventory_disk *__wrap_inventory_find(const struct inventory *inventory, const char *key)
{
    static struct inventory_disk changed;
    const struct inventory_disk *disk = __real_inventory_find(inventory, key);

    if (!is_system || disk == NULL)
        return disk;
    changed = *disk;
    changed.is_root = true;
    return &changed;
}

struct fixture {
    struct loopdisk loop_disk;
    char dir[64], scripts[100], note[100], log[100], key[256];
    sem_t news;
    struct hold *hold;
};

static void to_loop(void *arg)
{
    (void)sem_post(&((struct fixture *)arg)->news);
}

static void begin(struct fixture *f)
{
    struct err err = ERR_INIT;
    const struct hold_conf conf = {
        .dir = f->scripts, .run_dir = f->dir, .data_dir = f->dir, .to_loop = to_loop, .arg = f};
    if (hold_new(&conf, &f->hold, &err) < 0)
        fail_msg("%s", err.text);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    temp_init(f->dir);
    loopdisk_init(&f->loop_disk, 1u << 20, 512, -1);
    disk_key_of(f->loop_disk.path, f->key, sizeof(f->key));
    (void)snprintf(f->scripts, sizeof(f->scripts), "%s/failover.d", f->dir);
    (void)snprintf(f->note, sizeof(f->note), "%s/held", f->dir);
    (void)snprintf(f->log, sizeof(f->log), "%s/log", f->dir);
    assert_int_equal(mkdir(f->scripts, 0755), 0);
    must_run("printf '#!/bin/sh\\necho $1 >> %s\\n' > %s/10-service && chmod 755 %s/10-service", f->log, f->scripts,
        f->scripts);
    assert_int_equal(sem_init(&f->news, 0, 0), 0);
    begin(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hold_free(f->hold);
    loopdisk_done(&f->loop_disk);
    temp_done(f->dir);
    (void)sem_destroy(&f->news);
    free(f);
    return 0;
}

static int command_as(
    struct fixture *f, const char *command_id, const char *id, bool release, const char *key, struct err *err)
{
    Leeward__Control__V1__HoldSource c = LEEWARD__CONTROL__V1__HOLD_SOURCE__INIT;
    Leeward__Control__V1__DesiredDisk disk = LEEWARD__CONTROL__V1__DESIRED_DISK__INIT, *disks[] = {&disk};
    c.hold_id = (char *)(uintptr_t)id;
    c.release = release;
    disk.key = (char *)(uintptr_t)(key == NULL ? "" : key);
    c.disks = disks;
    c.n_disks = key != NULL;
    return hold_command(f->hold, command_id, &c, err);
}

static int command(struct fixture *f, const char *id, bool release, const char *key, struct err *err)
{
    return command_as(f, release ? "the release" : "the command", id, release, key, err);
}

static struct hold_output next_output(struct fixture *f)
{
    struct hold_output o = {.held = false};
    struct timespec until;
    while (!hold_take(f->hold, &o)) {
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += (time_t)(WAIT_USEC / USEC_PER_SEC);
        while (sem_timedwait(&f->news, &until) < 0)
            if (errno != EINTR)
                fail_msg("waited too long for an answer");
    }
    return o;
}

static bool disk_is_held(const struct fixture *f)
{
    int fd = open(f->loop_disk.path, O_RDONLY | O_EXCL | O_CLOEXEC);
    if (fd >= 0)
        (void)close(fd);
    else
        assert_int_equal(errno, EBUSY);
    return fd < 0;
}

static void wait_for(struct fixture *f, bool (*is)(const struct fixture *f), bool want)
{
    uint64_t end = clock_mono_usec() + WAIT_USEC;
    while (is(f) != want) {
        if (clock_mono_usec() > end)
            fail_msg("waited too long");
        (void)usleep(2000);
    }
}

static bool has_note(const struct fixture *f)
{
    return access(f->note, F_OK) == 0;
}

static void check_log(const struct fixture *f, const char *right)
{
    struct buf text AUTO_BUF = BUF_INIT(4096);
    (void)file_read(f->log, &text, NULL);
    assert_int_equal(buf_append(&text, "", 1, NULL), 0);
    assert_string_equal((const char *)text.data, right);
}

static void hold(struct fixture *f)
{
    struct err err = ERR_INIT;
    assert_int_equal(command(f, ID, false, f->key, &err), 0);
    struct hold_output o = next_output(f);
    if (!o.held)
        fail_msg("not held: %s", o.error.text);
    assert_string_equal(o.command_id, "the command");
    assert_true(hold_begin_point(f->hold, "the command"));
}

/* ---- tests ---- */

static void a_held_source_is_stopped_and_its_disks_are_nobodys(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    hold(f);
    assert_true(disk_is_held(f));
    assert_true(has_note(f));
    check_log(f, "stop\n");
    assert_int_equal(command(f, ID, true, NULL, &err), 0);
    struct hold_output o = next_output(f);
    assert_false(o.held);
    assert_int_equal(o.error.code, ERR_NONE);
    assert_false(disk_is_held(f));
    assert_false(has_note(f));
    check_log(f, "stop\nstart\n");
}

static void a_disk_in_use_is_an_error_and_all_is_started_again(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    int fd = open(f->loop_disk.path, O_RDONLY | O_EXCL | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(command(f, ID, false, f->key, &err), 0);
    struct hold_output o = next_output(f);
    assert_false(o.held);
    assert_int_equal(o.error.code, ERR_REFUSED);
    assert_true(o.error.correction[0] != '\0');
    assert_false(has_note(f));
    check_log(f, "stop\nstart\n");
    (void)close(fd);
    hold(f);
}

/* Who opened the device itself is kept away by nothing. */
static void who_writes_to_the_held_device_is_noticed(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint8_t *data = random_bytes(4096);
    hold(f);
    assert_int_equal(hold_stood_still(f->hold, &err), 0);
    loopdisk_write(&f->loop_disk, 8192, data, 4096);
    free(data);
    assert_int_equal(hold_stood_still(f->hold, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, f->key));
    assert_int_equal(command(f, ID, true, NULL, &err), 0);
    (void)next_output(f);
    hold(f);
    assert_int_equal(hold_stood_still(f->hold, &err), 0);
}

/* A new process holds the disks at once, and then has the scripts stop what still runs. */
static void what_is_written_until_the_scripts_have_ended_counts_for_nothing(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    uint8_t *data = random_bytes(4096);
    hold(f);
    hold_free(f->hold);
    begin(f);
    while (!disk_is_held(f))
        (void)usleep(10000);
    loopdisk_write(&f->loop_disk, 8192, data, 4096);
    free(data);
    hold(f);
    assert_int_equal(hold_stood_still(f->hold, &err), 0);
}

static void a_new_process_holds_it_again_until_the_hub_says_otherwise(void **state)
{
    struct fixture *f = *state;
    hold_desired(f->hold, true, 4);
    hold(f);
    hold_free(f->hold);
    assert_false(disk_is_held(f));
    assert_true(has_note(f));
    begin(f);
    wait_for(f, disk_is_held, true);
    hold_desired(f->hold, true, 4); /* the same state as when it was stopped */
    hold_desired(f->hold, true, 5);
    wait_for(f, has_note, false);
    wait_for(f, disk_is_held, false);
    check_log(f, "stop\nstart\n");
}

static void a_command_that_makes_no_sense_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char long_key[400];
    memset(long_key, 'k', sizeof(long_key) - 1);
    long_key[sizeof(long_key) - 1] = '\0';
    const struct {
        const char *id, *key;
    } rows[] = {{"no id", f->key}, {"", f->key}, {ID, NULL}, {ID, "a\nb"}, {ID, long_key}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(command(f, rows[i].id, false, rows[i].key, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    assert_int_equal(command(f, ID, false, "serial:of no disk", &err), 0);
    assert_int_equal(next_output(f).error.code, ERR_NOT_FOUND);
    check_log(f, "stop\nstart\n");
}

/* It may be all that is left of a stopped source: what can be started is started, and the note goes. */
static void a_note_that_makes_no_sense_hurts_nobody(void **state)
{
    struct fixture *f = *state;
    static char notes[5][1000];
    char log[100] = "";
    memset(notes[1], '\n', 1000);
    (void)snprintf(notes[2], sizeof(notes[2]), "99999999999999999999999999\nloop:/no/such\n");
    for (size_t at = 0; at < 600; at += 2)
        memcpy(notes[3] + at, "7\n", 2); /* more lines than there may be disks */
    for (size_t at = 0; at < 500; at++)
        notes[4][at] = (char)(at * 37);
    const size_t sizes[5] = {0, 1000, strlen(notes[2]), 600, 500};
    for (size_t i = 0; i < 5; i++) {
        struct err err = ERR_INIT;
        hold_free(f->hold);
        assert_int_equal(file_replace(f->note, notes[i], sizes[i], 0600, &err), 0);
        begin(f);
        hold_desired(f->hold, true, 3);
        wait_for(f, has_note, false);
        (void)strcat(log, "start\n");
        check_log(f, log);
        assert_false(disk_is_held(f));
    }
    hold(f);
}

/* A release is sent until it is answered, so it may come long after its own failover, when another one holds the source. */
static void a_release_gives_back_what_its_own_hold_took(void **state)
{
    static const char other[] = "66666666-7777-8888-9999-aaaaaaaaaaaa";
    struct fixture *f = *state;
    struct err err = ERR_INIT;

    hold(f);
    assert_int_equal(command(f, other, true, NULL, &err), 0);
    assert_int_equal(next_output(f).error.code, ERR_NONE);
    assert_true(disk_is_held(f));
    hold_free(f->hold); /* the next process knows whose hold it is */
    begin(f);
    wait_for(f, disk_is_held, true);
    assert_int_equal(command(f, other, true, NULL, &err), 0);
    assert_int_equal(next_output(f).error.code, ERR_NONE);
    assert_true(disk_is_held(f));
    check_log(f, "stop\n");
    /* A process that did not see the scripts end runs them once more, and then no more. Of another failover: from the start. */
    hold(f);
    hold(f);
    check_log(f, "stop\nstop\n");
    assert_int_equal(command(f, other, false, f->key, &err), 0);
    assert_true(next_output(f).held);
    assert_true(hold_begin_point(f->hold, "the command"));
    check_log(f, "stop\nstop\nstart\nstop\n");
    assert_int_equal(command(f, ID, true, NULL, &err), 0);
    assert_int_equal(next_output(f).error.code, ERR_NONE);
    assert_true(disk_is_held(f));
    assert_int_equal(command(f, other, true, NULL, &err), 0);
    assert_int_equal(next_output(f).error.code, ERR_NONE);
    assert_false(disk_is_held(f));
    check_log(f, "stop\nstop\nstart\nstop\nstart\n");
}

/* After a restart of the agent an order may come before what the hub wants of the machine. */
static void a_hold_that_came_first_belongs_to_the_generation_that_is_told_then(void **state)
{
    struct fixture *f = *state;
    hold(f);
    hold_desired(f->hold, true, 4);
    hold(f); /* behind whatever that led to */
    check_log(f, "stop\n");
    hold_desired(f->hold, true, 5);
    wait_for(f, has_note, false);
    check_log(f, "stop\nstart\n");
}

/* Each is answered, also one that is overtaken before anybody has begun with it. */
static void no_command_goes_without_an_answer(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct hold_output o;
    unsigned held = 0, over = 0, releases = 0;

    must_run("printf '#!/bin/sh\\necho $1 >> %s\\nsleep 0.3\\n' > %s/10-service", f->log, f->scripts);
    assert_int_equal(command(f, ID, false, f->key, &err), 0);
    while (!has_note(f))
        (void)usleep(2000);
    assert_int_equal(command(f, ID, true, NULL, &err), 0); /* waits for the hold to end */
    assert_int_equal(command_as(f, "another release", ID, true, NULL, &err), 0);
    while (held + over + releases < 4) {
        o = next_output(f);
        held += o.held;
        over += !o.held && strcmp(o.command_id, "the command") == 0;
        releases += strcmp(o.command_id, "the release") == 0 || strcmp(o.command_id, "another release") == 0;
    }
    assert_int_equal(held, 1);
    assert_int_equal(over, 1); /* the source was given back before its last point */
    assert_int_equal(releases, 2);
    assert_false(disk_is_held(f));
    assert_false(has_note(f));
}

static void expect_over(struct fixture *f, const char *command_id)
{
    struct hold_output o = next_output(f);
    assert_false(o.held);
    assert_string_equal(o.command_id, command_id);
    assert_int_equal(o.error.code, ERR_CANCELLED);
    assert_false(hold_begin_point(f->hold, command_id));
}

/* The agent that was just started has nothing protected yet, so its last point cannot begin. */
static void a_hold_whose_last_point_has_not_begun_is_answered_when_another_one_comes(void **state)
{
    static const char other[] = "66666666-7777-8888-9999-aaaaaaaaaaaa";
    struct fixture *f = *state;
    struct err err = ERR_INIT;

    assert_int_equal(command_as(f, "first", ID, false, f->key, &err), 0);
    assert_true(next_output(f).held);
    assert_int_equal(command_as(f, "first", ID, false, f->key, &err), 0); /* the hub asks until it has an answer */
    assert_true(next_output(f).held);
    assert_int_equal(command_as(f, "second", ID, false, f->key, &err), 0);
    expect_over(f, "first");
    assert_true(next_output(f).held);
    assert_int_equal(command_as(f, "third", other, false, f->key, &err), 0);
    expect_over(f, "second");
    assert_true(next_output(f).held);
    assert_true(hold_begin_point(f->hold, "third"));
    assert_false(hold_begin_point(f->hold, "third"));
    check_log(f, "stop\nstart\nstop\n");
}

/* What was stopped runs again: a point that is made from then on is not the last one. */
static void no_last_point_begins_when_the_source_was_given_back(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;

    hold_desired(f->hold, true, 4);
    assert_int_equal(command_as(f, "first", ID, false, f->key, &err), 0);
    assert_true(next_output(f).held);
    assert_int_equal(command(f, ID, true, NULL, &err), 0);
    expect_over(f, "first");
    assert_string_equal(next_output(f).command_id, "the release");
    assert_int_equal(command_as(f, "second", ID, false, f->key, &err), 0);
    assert_true(next_output(f).held);
    hold_desired(f->hold, true, 5); /* protected anew: nobody waits for an answer to that */
    expect_over(f, "second");
    wait_for(f, has_note, false);
}

static bool is_writable(const struct fixture *f)
{
    char path[100];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/mnt/file", f->dir);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

/* Its clock is an hour ahead, and set right before the file system is tried again: nobody would write to it for an hour. */
static void what_stayed_read_only_is_tried_again_whatever_the_clock_says(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    char mounted[80], *list[] = {mounted};
    const struct freeze_mounts mounts = {.paths = list, .count = 1};

    hold_free(f->hold);
    (void)snprintf(mounted, sizeof(mounted), "%s/mnt", f->dir);
    must_run("mkfs.ext4 -q -F %s && mkdir %s && mount %s %s", f->loop_disk.path, mounted, f->loop_disk.path, mounted);
    assert_int_equal(readonly_set(&mounts, 0, f->dir, &err), 0);
    must_run("blockdev --setro %s", f->loop_disk.path);
    must_run("printf '1\\nhold-id " ID "\\nread-only %s\\n' > %s", mounted, f->note);
    begin(f);
    ahead_sec = 3600;
    assert_int_equal(command(f, ID, true, NULL, &err), 0);
    assert_int_not_equal(next_output(f).error.code, ERR_NONE);
    assert_false(is_writable(f));
    must_run("blockdev --setrw %s", f->loop_disk.path);
    wait_for(f, has_note, false);
    ahead_sec = 0;
    assert_true(is_writable(f));
    check_log(f, "start\n");
    must_run("umount %s", mounted);
}

/* Nothing can be unmounted there, so its file systems are made read-only: all of them, or none. */
static void the_file_systems_of_the_running_system_become_read_only(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;

    must_run(
        "mkfs.ext4 -q -F %s && mkdir %s/mnt && mount %s %s/mnt", f->loop_disk.path, f->dir, f->loop_disk.path, f->dir);
    is_system = true;
    must_run("mount -t tmpfs over %s/mnt", f->dir);
    assert_int_equal(command(f, ID, false, f->key, &err), 0);
    struct hold_output o = next_output(f);
    assert_false(o.held);
    assert_int_equal(o.error.code, ERR_REFUSED);
    assert_non_null(strstr(o.error.text, "another one is mounted over it"));
    assert_non_null(strstr(o.error.correction, "unmount the other one"));
    assert_false(has_note(f));
    check_log(f, "stop\nstart\n");
    must_run("umount %s/mnt", f->dir);
    assert_true(is_writable(f));
    hold(f);
    assert_false(is_writable(f));
    assert_int_equal(command(f, ID, true, NULL, &err), 0);
    assert_int_equal(next_output(f).error.code, ERR_NONE);
    assert_true(is_writable(f));
    is_system = false;
    must_run("umount %s/mnt", f->dir);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(a_held_source_is_stopped_and_its_disks_are_nobodys),
        TEST(a_disk_in_use_is_an_error_and_all_is_started_again), TEST(who_writes_to_the_held_device_is_noticed),
        TEST(what_is_written_until_the_scripts_have_ended_counts_for_nothing),
        TEST(a_new_process_holds_it_again_until_the_hub_says_otherwise), TEST(a_command_that_makes_no_sense_is_refused),
        TEST(a_note_that_makes_no_sense_hurts_nobody), TEST(a_release_gives_back_what_its_own_hold_took),
        TEST(a_hold_that_came_first_belongs_to_the_generation_that_is_told_then),
        TEST(no_command_goes_without_an_answer),
        TEST(a_hold_whose_last_point_has_not_begun_is_answered_when_another_one_comes),
        TEST(no_last_point_begins_when_the_source_was_given_back),
        TEST(what_stayed_read_only_is_tried_again_whatever_the_clock_says),
        TEST(the_file_systems_of_the_running_system_become_read_only)};
    if (!loopdisk_is_possible())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
