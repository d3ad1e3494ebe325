/* SPDX-License-Identifier: Apache-2.0
 *
 * P4: the freeze helper on a real ext4 on a loop disk. The file system is writable again in time whatever happens to whom.
 */
#include "mobility/capture/freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "mobility/track/dirty.h"
#include "tests/unit/mobility/capture/cgroup.h"
#include "tests/unit/mobility/track/loopdisk.h"
#include "transport/base/clock.h"

#define BUDGET_USEC 200000u          /* what a policy says where it says nothing */
#define LIMIT_USEC 300000u           /* P4: writable again within this */
#define FAR_USEC (20 * USEC_PER_SEC) /* a budget that cannot be what ended a freeze in time */
/* On a busy machine this process itself may come late to see it, in a try or two: the one in the middle of so many is judged. */
#define TRIES 7u
#define LONG_USEC (60 * USEC_PER_SEC) /* a budget that ends nothing here */
#define LONG_MSEC 60000

struct rig {
    char dir[64], mount[96], state[96];
    struct loopdisk disk;
};

static int setup(void **state)
{
    static struct rig r;

    temp_init(r.dir);
    (void)snprintf(r.mount, sizeof(r.mount), "%s/mnt", r.dir);
    (void)snprintf(r.state, sizeof(r.state), "%s/frozen", r.dir);
    loopdisk_init(&r.disk, 64u << 20, 512, -1);
    must_run("mkfs.ext4 -q -F -E lazy_itable_init=0 %s", r.disk.path);
    assert_int_equal(mkdir(r.mount, 0700), 0);
    assert_int_equal(mount(r.disk.path, r.mount, "ext4", 0, NULL), 0);
    *state = &r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    int fd = open(r->mount, O_RDONLY | O_DIRECTORY);

    (void)ioctl(fd, FITHAW, 0); /* if the test failed while it was frozen */
    (void)close(fd);
    (void)umount2(r->mount, MNT_DETACH);
    loopdisk_done(&r->disk);
    temp_done(r->dir);
    return 0;
}

/* A process that tries to create a file, and a descriptor that becomes readable when it could. */
struct writer {
    pid_t pid;
    int done_fd;
};

static struct writer start_writer(const struct rig *r)
{
    struct writer w;
    char path[128];
    int pair[2];

    (void)snprintf(path, sizeof(path), "%s/file-%d", r->mount, rand());
    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    w.pid = fork();
    assert_true(w.pid >= 0);
    if (w.pid == 0) {
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        _exit(fd >= 0 && write(pair[1], "x", 1) == 1 ? 0 : 1);
    }
    (void)close(pair[1]);
    w.done_fd = pair[0];
    return w;
}

static bool could_write(const struct writer *w, int wait_msec)
{
    struct pollfd p = {.fd = w->done_fd, .events = POLLIN};
    char c;

    return poll(&p, 1, wait_msec) > 0 && read(w->done_fd, &c, 1) == 1;
}

static void end_writer(struct writer *w)
{
    (void)close(w->done_fd);
    (void)waitpid(w->pid, NULL, 0);
}

static struct freeze *open_freeze(const struct rig *r)
{
    struct freeze_config config = {.state_path = r->state};
    const char *paths[] = {r->mount};
    struct freeze *f = NULL;
    struct err err = ERR_INIT;

    if (freeze_open(&config, &f, &err) < 0 || freeze_set_mounts(f, paths, 1, &err) < 0)
        fail_msg("%s", err.text);
    return f;
}

/* A freeze that is given up because the machine was busy just then is tried again. */
static int begin_patiently(struct freeze *f, uint64_t budget_usec, struct err *err)
{
    for (int i = 0; i < 50; i++) {
        if (freeze_begin(f, budget_usec, err) == 0)
            return 0;
        if (err->code != ERR_TIMEOUT)
            return -1;
    }
    return -1;
}

static void test_a_write_waits_for_the_thaw_and_no_longer(void **state)
{
    struct rig *r = *state;
    struct freeze *f = open_freeze(r);
    struct freeze_result result;
    struct err err = ERR_INIT;
    struct writer w;

    if (begin_patiently(f, LONG_USEC, &err) < 0)
        fail_msg("%s", err.text);
    w = start_writer(r);
    assert_false(could_write(&w, 50));
    assert_int_equal(freeze_end(f, &result, &err), 0);
    assert_true(could_write(&w, LONG_MSEC));
    end_writer(&w);
    assert_false(result.gave_up);
    assert_true(result.frozen_usec >= 50000 && result.frozen_usec < LONG_USEC);
    freeze_close(f);
}

static int compare_times(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void judge(uint64_t took_usec[TRIES], uint64_t limit_usec, const char *what)
{
    qsort(took_usec, TRIES, sizeof(*took_usec), compare_times);
    print_message("%s after %" PRIu64 " us, %" PRIu64 " at the most, of %u tries\n", what, took_usec[TRIES / 2],
        took_usec[TRIES - 1], TRIES);
    assert_true(took_usec[TRIES / 2] < limit_usec);
}

static uint64_t freeze_until_the_budget_ends(struct freeze *f, const struct rig *r)
{
    struct freeze_result result;
    struct err err = ERR_INIT;
    struct writer w;

    assert_int_equal(begin_patiently(f, BUDGET_USEC, &err), 0);
    w = start_writer(r);
    assert_true(could_write(&w, LONG_MSEC));
    end_writer(&w);
    assert_int_equal(freeze_end(f, &result, &err), 0);
    assert_true(result.gave_up);
    return result.frozen_usec;
}

static void test_the_budget_ends_a_freeze(void **state)
{
    struct freeze *f = open_freeze(*state);
    uint64_t frozen_usec[TRIES];

    for (unsigned i = 0; i < TRIES; i++)
        frozen_usec[i] = freeze_until_the_budget_ends(f, *state);
    judge(frozen_usec, LIMIT_USEC, "the budget ended a freeze");
    freeze_close(f);
}

/* A process like the agent: freezes, says so, and would hold on for longer than anybody should wait. With a control group it and its
 * helper live in that, and once frozen it takes memory until there is none. */
static pid_t start_freezer_in(const struct rig *r, const struct cgroup *group, uint64_t budget_usec, int *ret_frozen_fd)
{
    int pair[2];
    pid_t pid;

    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err err = ERR_INIT;
        struct freeze *f;
        if (group)
            cgroup_join(group);
        f = open_freeze(r);
        if (begin_patiently(f, budget_usec, &err) < 0 || write(pair[1], "x", 1) != 1)
            _exit(1);
        if (group)
            cgroup_exhaust(group);
        (void)pause();
        _exit(0);
    }
    (void)close(pair[1]);
    *ret_frozen_fd = pair[0];
    return pid;
}

/* The time from the harm until a write goes through, which had waited before. UINT64_MAX: it did not wait, for the budget was over. */
static uint64_t hurt_while_frozen(struct rig *r, int signal, uint64_t budget_usec)
{
    int frozen_fd;
    pid_t pid = start_freezer_in(r, NULL, budget_usec, &frozen_fd);
    uint64_t began, took;
    struct writer w;
    bool late;
    char c;

    assert_int_equal(read(frozen_fd, &c, 1), 1);
    w = start_writer(r);
    late = could_write(&w, 5);
    began = clock_mono_usec();
    assert_int_equal(kill(pid, signal), 0);
    assert_true(late || could_write(&w, LONG_MSEC));
    took = clock_mono_usec() - began;
    end_writer(&w);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    (void)close(frozen_fd);
    return late ? UINT64_MAX : took;
}

static void is_writable_in_time(struct rig *r, int signal, uint64_t budget_usec, const char *what)
{
    uint64_t took_usec[TRIES];

    for (unsigned i = 0; i < TRIES; i++)
        took_usec[i] = hurt_while_frozen(r, signal, budget_usec);
    judge(took_usec, LIMIT_USEC, what);
}

/* Only its death can end the freeze in time. */
static void test_a_killed_parent_leaves_nothing_frozen(void **state)
{
    is_writable_in_time(*state, SIGKILL, FAR_USEC, "writable with the parent killed");
}

/* One that is stopped lives: only the budget can end the freeze. */
static void test_a_stopped_parent_leaves_nothing_frozen(void **state)
{
    is_writable_in_time(*state, SIGSTOP, BUDGET_USEC, "writable with the parent stopped");
}

/* The kernel kills the process for want of memory. The budget is far away: only its death can end the freeze. */
static uint64_t starve_while_frozen(struct rig *r, const struct cgroup *group)
{
    int frozen_fd, status;
    pid_t pid = start_freezer_in(r, group, FAR_USEC, &frozen_fd);
    uint64_t began, took;
    struct writer w;
    char c;

    assert_int_equal(read(frozen_fd, &c, 1), 1);
    began = clock_mono_usec();
    w = start_writer(r);
    assert_true(could_write(&w, LONG_MSEC));
    took = clock_mono_usec() - began;
    end_writer(&w);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    (void)close(frozen_fd);
    return took;
}

static void test_a_parent_killed_for_want_of_memory_leaves_nothing_frozen(void **state)
{
    uint64_t took_usec[TRIES];
    struct cgroup group;

    if (!cgroup_init(&group)) {
        print_message("no control group with a memory limit is to be had here\n");
        skip();
    }
    for (unsigned i = 0; i < TRIES; i++)
        took_usec[i] = starve_while_frozen(*state, &group);
    assert_int_equal(cgroup_kills(&group), TRIES);
    cgroup_done(&group);
    judge(took_usec, LIMIT_USEC, "writable with a parent that ran out of memory");
}

static void test_a_killed_helper_leaves_nothing_frozen(void **state)
{
    struct rig *r = *state;
    struct freeze *f = open_freeze(r);
    struct freeze_result result;
    struct err err = ERR_INIT;
    struct writer w;

    assert_int_equal(begin_patiently(f, LONG_USEC, &err), 0);
    assert_int_equal(kill(freeze_helper_pid(f), SIGKILL), 0);
    w = start_writer(r);
    assert_int_equal(freeze_end(f, &result, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_true(result.gave_up);
    assert_true(could_write(&w, LONG_MSEC));
    end_writer(&w);
    assert_int_equal(begin_patiently(f, LONG_USEC, &err), 0); /* another helper */
    assert_int_equal(freeze_end(f, &result, &err), 0);
    assert_false(result.gave_up);
    freeze_close(f);
}

static uint64_t locked_kib(pid_t pid)
{
    char path[64], line[128];
    uint64_t kib = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) && sscanf(line, "VmLck: %" SCNu64, &kib) != 1)
        ;
    (void)fclose(file);
    return kib;
}

/* It is forked from a process that has grown: the set of a disk of 4 TiB has 128 MiB, of which little is in memory. */
static void test_another_helper_locks_no_more_than_the_first(void **state)
{
    struct rig *r = *state;
    struct freeze *f = open_freeze(r);
    struct freeze_result result;
    struct err err = ERR_INIT;
    struct dirty *set;
    uint64_t first;

    assert_int_equal(begin_patiently(f, LONG_USEC, &err), 0);
    assert_int_equal(freeze_end(f, &result, &err), 0);
    first = locked_kib(freeze_helper_pid(f));
    if (first == 0) {
        freeze_close(f);
        print_message("sanitizers lock nothing in memory\n");
        skip();
    }
    assert_int_equal(dirty_new(1ull << 42, 12, &set, NULL), 0);
    assert_int_equal(kill(freeze_helper_pid(f), SIGKILL), 0);
    assert_int_equal(begin_patiently(f, LONG_USEC, &err), -1); /* it is found gone */
    assert_int_equal(begin_patiently(f, LONG_USEC, &err), 0);
    assert_in_range(locked_kib(freeze_helper_pid(f)), 1, first + 4096);
    assert_int_equal(freeze_end(f, &result, &err), 0);
    dirty_close(set);
    freeze_close(f);
}

/* The only child of a process, once it has one. */
static pid_t child_of(pid_t parent)
{
    uint64_t until = clock_mono_usec() + LONG_USEC;
    char path[64];
    int pid = 0, found = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
    while (found != 1 && clock_mono_usec() < until) {
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        found = fscanf(file, "%d", &pid);
        (void)fclose(file);
    }
    assert_int_equal(found, 1);
    return pid;
}

/* The agent and its helper, the one killed and the other hurt in the same moment. UINT64_MAX: the budget was over before that. */
static uint64_t hurt_both(struct rig *r, int signal_of_helper, uint64_t budget_usec)
{
    int frozen_fd, status;
    pid_t pid = start_freezer_in(r, NULL, budget_usec, &frozen_fd), helper = 0;
    uint64_t began, took;
    struct writer w;
    bool late;
    char c;

    assert_int_equal(read(frozen_fd, &c, 1), 1);
    helper = child_of(pid);
    w = start_writer(r);
    late = could_write(&w, 1);
    began = clock_mono_usec();
    assert_int_equal(kill(helper, signal_of_helper), 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(late || could_write(&w, LONG_MSEC));
    took = clock_mono_usec() - began;
    end_writer(&w);
    if (signal_of_helper == SIGSTOP)
        (void)kill(helper, SIGKILL);
    (void)close(frozen_fd);
    return late ? UINT64_MAX : took;
}

static void is_writable_without_both(
    struct rig *r, int signal_of_helper, uint64_t budget_usec, uint64_t limit_usec, const char *what)
{
    uint64_t took_usec[TRIES];

    for (unsigned i = 0; i < TRIES; i++)
        took_usec[i] = hurt_both(r, signal_of_helper, budget_usec);
    judge(took_usec, limit_usec, what);
}

/* The guard sees the helper die; the end of the budget is far away. */
static void test_a_killed_parent_with_a_killed_helper_leaves_nothing_frozen(void **state)
{
    is_writable_without_both(*state, SIGKILL, FAR_USEC, LIMIT_USEC, "writable with the parent and the helper killed");
}

/* The helper lives and sees nothing: the guard waits until it has overrun the budget. */
static void test_a_killed_parent_with_a_stopped_helper_leaves_nothing_frozen(void **state)
{
    is_writable_without_both(
        *state, SIGSTOP, BUDGET_USEC, LIMIT_USEC + 100000, "writable with the parent killed and the helper stopped");
}

static void test_a_guard_that_is_gone_is_replaced(void **state)
{
    struct rig *r = *state;
    struct freeze *f = open_freeze(r);
    struct freeze_result result;
    struct err err = ERR_INIT;
    pid_t guard = child_of(freeze_helper_pid(f));
    struct pollfd gone = {.fd = (int)syscall(SYS_pidfd_open, guard, 0), .events = POLLIN};

    assert_int_equal(kill(guard, SIGKILL), 0);
    assert_int_equal(poll(&gone, 1, LONG_MSEC), 1);
    (void)close(gone.fd);
    if (begin_patiently(f, LONG_USEC, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_not_equal(child_of(freeze_helper_pid(f)), guard);
    assert_int_equal(freeze_end(f, &result, &err), 0);
    assert_false(result.gave_up);
    freeze_close(f);
}

static void test_what_all_left_frozen_is_thawed_at_the_next_start(void **state)
{
    struct rig *r = *state;
    int mount_fd = open(r->mount, O_RDONLY | O_DIRECTORY);
    struct freeze *f;
    struct writer w;
    FILE *file = fopen(r->state, "w");

    (void)fprintf(file, "%s\n", r->mount);
    (void)fclose(file);
    assert_int_equal(ioctl(mount_fd, FIFREEZE, 0), 0);
    (void)close(mount_fd);
    w = start_writer(r);
    f = open_freeze(r);
    assert_true(could_write(&w, LONG_MSEC));
    end_writer(&w);
    assert_int_equal(access(r->state, F_OK), -1);
    freeze_close(f);
}

static void test_a_file_system_frozen_by_another_is_left_so(void **state)
{
    struct rig *r = *state;
    int mount_fd = open(r->mount, O_RDONLY | O_DIRECTORY);
    struct freeze *f = open_freeze(r);
    struct err err = ERR_INIT;

    assert_int_equal(ioctl(mount_fd, FIFREEZE, 0), 0);
    assert_int_equal(freeze_begin(f, BUDGET_USEC, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(ioctl(mount_fd, FITHAW, 0), 0); /* still frozen until now */
    (void)close(mount_fd);
    freeze_close(f);
}

static void test_the_root_file_system_is_refused(void **state)
{
    struct rig *r = *state;
    struct freeze *f = open_freeze(r);
    const char *root[] = {"/"}, *below[] = {"/usr"};
    struct err err = ERR_INIT;
    struct stat a, b;

    assert_int_equal(freeze_set_mounts(f, root, 1, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    if (stat("/", &a) == 0 && stat("/usr", &b) == 0 && a.st_dev == b.st_dev)
        assert_int_equal(freeze_set_mounts(f, below, 1, &err), -1);
    freeze_close(f);
}

static void test_a_mount_point_can_be_unmounted_between_freezes(void **state)
{
    struct rig *r = *state;
    struct freeze *f = open_freeze(r);
    struct freeze_result result;
    struct err err = ERR_INIT;

    assert_int_equal(begin_patiently(f, LONG_USEC, &err), 0);
    assert_int_equal(freeze_end(f, &result, &err), 0);
    assert_int_equal(umount(r->mount), 0);
    assert_int_equal(mount(r->disk.path, r->mount, "ext4", 0, NULL), 0);
    freeze_close(f);
}

/* Another file system lies over one of its mount points, then over both. */
static void test_a_mount_point_that_is_hidden_is_told_unless_another_one_is_not(void **state)
{
    struct rig *r = *state;
    struct freeze_mounts mounts;
    struct stat st;
    char other[sizeof(r->dir) + 8];

    (void)snprintf(other, sizeof(other), "%s/other", r->dir);
    must_run("mkdir %s && mount --bind %s %s && mount -t tmpfs over %s", other, r->mount, other, r->mount);
    assert_int_equal(fstat(r->disk.fd, &st), 0);
    assert_int_equal(freeze_find_mounts(&st.st_rdev, 1, &mounts, NULL), 0);
    assert_int_equal(mounts.count, 1);
    assert_string_equal(mounts.paths[0], other);
    assert_null(mounts.hidden);
    freeze_mounts_free(&mounts);
    must_run("mount -t tmpfs over %s", other);
    assert_int_equal(freeze_find_mounts(&st.st_rdev, 1, &mounts, NULL), 0);
    assert_int_equal(mounts.count, 0);
    assert_string_equal(mounts.hidden, r->mount);
    freeze_mounts_free(&mounts);
    must_run("umount %s && umount %s && umount %s && rmdir %s", other, other, r->mount, other);
}

/* btrfs has no device number of its own by which it could be told from what lies over it. */
static void test_a_hidden_btrfs_is_told_too(void **state)
{
    struct rig *r = *state;
    struct freeze_mounts mounts;
    struct loopdisk disk;
    struct stat st;
    char path[sizeof(r->dir) + 8];
    int silent;

    (void)snprintf(path, sizeof(path), "%s/btrfs", r->dir);
    loopdisk_init(&disk, 128u << 20, 512, -1);
    must_run("mkfs.btrfs -q %s && mkdir %s && mount %s %s", disk.path, path, disk.path, path);
    assert_int_equal(fstat(disk.fd, &st), 0);
    assert_int_equal(freeze_find_mounts(&st.st_rdev, 1, &mounts, NULL), 0);
    assert_int_equal(mounts.count, 1);
    assert_null(mounts.hidden);
    freeze_mounts_free(&mounts);
    silent = silent_mount(path);
    assert_int_equal(freeze_find_mounts(&st.st_rdev, 1, &mounts, NULL), 0);
    assert_int_equal(mounts.count, 0);
    assert_string_equal(mounts.hidden, path);
    freeze_mounts_free(&mounts);
    silent_unmount(silent, path);
    must_run("umount %s && rmdir %s", path, path);
    loopdisk_done(&disk);
}

static void test_mounts_are_found_by_disk(void **state)
{
    struct rig *r = *state;
    struct freeze_mounts mounts;
    struct stat st;
    struct err err = ERR_INIT;
    dev_t none = 0;

    assert_int_equal(fstat(r->disk.fd, &st), 0);
    assert_int_equal(freeze_find_mounts(&st.st_rdev, 1, &mounts, &err), 0);
    assert_int_equal(mounts.count, 1);
    assert_string_equal(mounts.paths[0], r->mount);
    assert_null(mounts.hidden);
    freeze_mounts_free(&mounts);
    assert_int_equal(freeze_find_mounts(&none, 1, &mounts, &err), 0);
    assert_int_equal(mounts.count, 0);
    freeze_mounts_free(&mounts);
}

/* nobarrier is a word of the option that this file system was mounted with, and part of none of the others'. */
static void test_a_file_system_without_barriers_is_found(void **state)
{
    struct rig *r = *state;
    struct stat st;
    char *path = NULL;
    dev_t none = 0;

    assert_int_equal(fstat(r->disk.fd, &st), 0);
    assert_int_equal(freeze_find_without_barriers(&st.st_rdev, 1, &path, NULL), 0);
    assert_null(path);
    must_run("mount -o remount,nobarrier %s", r->mount);
    assert_int_equal(freeze_find_without_barriers(&none, 1, &path, NULL), 0);
    assert_null(path);
    assert_int_equal(freeze_find_without_barriers(&st.st_rdev, 1, &path, NULL), 0);
    assert_string_equal(path, r->mount);
    free(path);
    must_run("mount -o remount,ro %s", r->mount);
    assert_int_equal(freeze_find_without_barriers(&st.st_rdev, 1, &path, NULL), 0);
    assert_null(path);
    must_run("mount -o remount,rw,barrier %s", r->mount);
    assert_int_equal(freeze_find_without_barriers(&st.st_rdev, 1, &path, NULL), 0);
    assert_null(path);
}

/* One whose server never says a word lies over the mount point. */
static void test_a_file_system_that_does_not_answer_keeps_no_freeze_waiting(void **state)
{
    struct rig *r = *state;
    struct freeze_mounts mounts;
    struct stat st;
    int silent = silent_mount(r->mount);

    assert_int_equal(fstat(r->disk.fd, &st), 0);
    assert_int_equal(freeze_find_mounts(&st.st_rdev, 1, &mounts, NULL), 0);
    assert_int_equal(mounts.count, 0); /* nothing leads to the disk's own any more */
    assert_string_equal(mounts.hidden, r->mount);
    freeze_mounts_free(&mounts);
    silent_unmount(silent, r->mount);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_write_waits_for_the_thaw_and_no_longer),
        cmocka_unit_test(test_the_budget_ends_a_freeze),
        cmocka_unit_test(test_a_killed_parent_leaves_nothing_frozen),
        cmocka_unit_test(test_a_stopped_parent_leaves_nothing_frozen),
        cmocka_unit_test(test_a_parent_killed_for_want_of_memory_leaves_nothing_frozen),
        cmocka_unit_test(test_a_killed_helper_leaves_nothing_frozen),
        cmocka_unit_test(test_another_helper_locks_no_more_than_the_first),
        cmocka_unit_test(test_a_killed_parent_with_a_killed_helper_leaves_nothing_frozen),
        cmocka_unit_test(test_a_killed_parent_with_a_stopped_helper_leaves_nothing_frozen),
        cmocka_unit_test(test_a_guard_that_is_gone_is_replaced),
        cmocka_unit_test(test_what_all_left_frozen_is_thawed_at_the_next_start),
        cmocka_unit_test(test_a_file_system_frozen_by_another_is_left_so),
        cmocka_unit_test(test_the_root_file_system_is_refused),
        cmocka_unit_test(test_a_mount_point_can_be_unmounted_between_freezes),
        cmocka_unit_test(test_mounts_are_found_by_disk),
        cmocka_unit_test(test_a_file_system_without_barriers_is_found),
        cmocka_unit_test(test_a_mount_point_that_is_hidden_is_told_unless_another_one_is_not),
        cmocka_unit_test(test_a_hidden_btrfs_is_told_too),
        cmocka_unit_test(test_a_file_system_that_does_not_answer_keeps_no_freeze_waiting),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, setup, teardown);
}
