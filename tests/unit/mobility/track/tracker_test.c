/* SPDX-License-Identifier: Apache-2.0
 *
 * P3 on real loop disks with the real program in the kernel: what changed on the disk is marked, whatever changed it, and
 * whether or not an agent is alive. A shadow copy says what changed.
 */
#include "mobility/track/tracker.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/mobility/track/trackrig.h"

#define DISK_BYTES (64u * MIB)

static int setup_with_sector(void **state, unsigned sector)
{
    struct trackrig *r = calloc(1, sizeof(*r));
    struct loopdisk disk;

    loopdisk_init(&disk, DISK_BYTES, sector, -1);
    trackrig_init(r, &disk);
    *state = r;
    return 0;
}

static int setup(void **state)
{
    return setup_with_sector(state, 512);
}

static int setup_4096(void **state)
{
    return setup_with_sector(state, 4096);
}

static int teardown(void **state)
{
    trackrig_done(*state);
    free(*state);
    return 0;
}

/* --- what is marked ---------------------------------------------------------------------------------------------------- */

static void test_one_write_marks_its_granules_and_no_others(void **state)
{
    struct trackrig *r = *state;
    uint8_t *data = random_bytes(3 * GRANULE);

    assert_int_equal(trackrig_drain(r), 0);
    loopdisk_write(&r->disk, 5 * GRANULE, data, 3 * GRANULE);
    assert_int_equal(trackrig_drain(r), 3);
    trackrig_expect_marked(r, 5 * GRANULE, 3 * GRANULE);
    assert_int_equal(trackrig_drain(r), 0);
    free(data);
}

static void test_one_sector_marks_its_granule(void **state)
{
    struct trackrig *r = *state;
    uint8_t *data = random_bytes(512);

    loopdisk_write(&r->disk, 7 * GRANULE + 512, data, 512);
    assert_int_equal(trackrig_drain(r), 1);
    trackrig_expect_marked(r, 7 * GRANULE, GRANULE);
    free(data);
}

static void test_nothing_that_fio_changes_is_missed(void **state)
{
    struct trackrig *r = *state;

    must_run("fio --name=t --filename=%s --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite --bsrange=4k-256k "
             "--size=64m --io_size=48m --refill_buffers --output=/dev/null",
        r->disk.path);
    assert_true(trackrig_drain(r) > 0);
    assert_true(trackrig_expect_superset(r) > 1000);
}

static void test_buffered_writes_are_seen_when_they_reach_the_disk(void **state)
{
    struct trackrig *r = *state;

    must_run("dd if=/dev/urandom of=%s bs=10000 count=500 seek=100 conv=fsync,notrunc status=none", r->disk.path);
    assert_true(trackrig_drain(r) > 0);
    assert_true(trackrig_expect_superset(r) > 1000);
}

static void test_a_partition_counts_on_its_disk(void **state)
{
    struct trackrig *r = *state;
    struct stat st;
    dev_t whole;
    char part[48];

    must_run("printf 'start=4096,size=32768\\nstart=40960\\n' | sfdisk -q %s >/dev/null 2>&1", r->disk.path);
    (void)snprintf(part, sizeof(part), "%sp2", r->disk.path);
    must_run("udevadm settle 2>/dev/null; i=0; while ! [ -b %s ] && [ $i -lt 50 ]; do "
             "partx -a %s 2>/dev/null; mknod %s b $(tr : ' ' < /sys/block/%s/%s/dev) 2>/dev/null; i=$((i+1)); done; [ "
             "-b %s ]",
        part, r->disk.path, part, r->disk.path + 5, part + 5, part);
    (void)trackrig_drain(r);
    trackrig_remember(r);
    must_run("dd if=/dev/urandom of=%s bs=4k count=10 seek=3 oflag=direct status=none", part);
    (void)trackrig_drain(r);
    trackrig_expect_marked(r, 40960 * 512 + 3 * GRANULE, 10 * GRANULE);
    assert_int_equal(trackrig_expect_superset(r), 10);
    assert_int_equal(tracker_whole_disk(part, &whole, NULL), 0);
    assert_int_equal(fstat(r->disk.fd, &st), 0);
    assert_int_equal(whole, st.st_rdev);
    assert_int_equal(stat(part, &st), 0);
    assert_int_equal(tracker_is_trackable(st.st_rdev, NULL), -1);
    loopdisk_forget_partitions(&r->disk);
    must_run("rm -f %sp1 %sp2", r->disk.path, r->disk.path);
}

static void test_discards_and_zeroes_are_marked(void **state)
{
    struct trackrig *r = *state;
    uint64_t small[2] = {2 * MIB, 64 * KIB}, large[2] = {4 * MIB, 40 * MIB};

    assert_int_equal(ioctl(r->disk.fd, BLKDISCARD, small), 0);
    assert_int_equal(trackrig_drain(r), 16);
    assert_int_equal(trackrig_expect_superset(r), 16);
    assert_int_equal(ioctl(r->disk.fd, BLKZEROOUT, large), 0);
    assert_int_equal(trackrig_drain(r), 40 * MIB / GRANULE);
    trackrig_expect_marked(r, 4 * MIB, 40 * MIB);
    assert_int_equal(trackrig_expect_superset(r), 12 * MIB / GRANULE);
    assert_int_equal(trackrig_drain(r), 0);
}

/* A limit of the loop device stays when that is used again. A process in a session of its own puts it back when what is returned is closed, as
 * it is when this one is killed. */
static FILE *keep_limit(const char *path)
{
    char command[200], value[32] = "";
    FILE *f = fopen(path, "re"), *keeper;

    assert_non_null(f);
    assert_non_null(fgets(value, sizeof(value), f));
    (void)fclose(f);
    value[strcspn(value, "\n")] = '\0';
    (void)snprintf(command, sizeof(command), "exec setsid sh -c 'read end; echo %s > %s'", value, path);
    keeper = popen(command, "we");
    assert_non_null(keeper);
    return keeper;
}

/* The kernel makes many requests of one that is larger than the disk takes; each completes by itself. */
static void test_a_write_that_is_split_is_marked_whole(void **state)
{
    struct trackrig *r = *state;
    uint8_t *data = random_bytes(2 * MIB);
    struct tracker_stats before, after;
    FILE *keeper;
    char limit[64];

    (void)snprintf(limit, sizeof(limit), "/sys/block/%s/queue/max_sectors_kb", r->disk.path + 5);
    keeper = keep_limit(limit);
    must_run("echo 16 > %s", limit);
    tracker_disk_stats(r->tracked, &before);
    loopdisk_write(&r->disk, 8 * MIB + GRANULE, data, 2 * MIB);
    tracker_disk_stats(r->tracked, &after);
    assert_int_equal(pclose(keeper), 0);
    assert_true(after.writes - before.writes >= 2 * MIB / (16 * KIB));
    assert_int_equal(after.bytes - before.bytes, 2 * MIB);
    assert_int_equal(trackrig_drain(r), 2 * MIB / GRANULE);
    trackrig_expect_marked(r, 8 * MIB + GRANULE, 2 * MIB);
    assert_int_equal(trackrig_expect_superset(r), 2 * MIB / GRANULE);
    free(data);
}

static void test_a_discard_of_the_whole_disk_is_marked(void **state)
{
    struct trackrig *r = *state;
    uint64_t all[2] = {0, DISK_BYTES};
    struct tracker_stats stats;

    assert_int_equal(ioctl(r->disk.fd, BLKDISCARD, all), 0);
    assert_int_equal(trackrig_drain(r), DISK_BYTES / GRANULE);
    (void)trackrig_expect_superset(r);
    tracker_disk_stats(r->tracked, &stats);
    assert_int_equal(stats.lost, 0);
    assert_true(stats.wide > 0 && stats.discards > 0);
}

static void test_a_file_system_at_work_is_followed(void **state)
{
    struct trackrig *r = *state;

    must_run("mkfs.ext4 -q -F %s && mkdir %s/mnt && mount %s %s/mnt", r->disk.path, r->dir, r->disk.path, r->dir);
    for (int i = 0; i < 5; i++) {
        must_run("cp -r /usr/include/linux %s/mnt/%d && rm -rf %s/mnt/%d && sync -f %s/mnt", r->dir, i, r->dir, i - 1,
            r->dir);
        (void)trackrig_drain(r);
        (void)trackrig_expect_superset(r);
    }
    must_run("fstrim %s/mnt; umount %s/mnt", r->dir, r->dir);
    (void)trackrig_drain(r);
    (void)trackrig_expect_superset(r);
}

/* --- barriers ----------------------------------------------------------------------------------------------------------- */

static void test_each_flush_counts_before_its_caller_knows(void **state)
{
    struct trackrig *r = *state;
    uint8_t *data = random_bytes(GRANULE);
    int fd = open(r->disk.path, O_RDWR | O_DIRECT | O_CLOEXEC);

    assert_true(tracker_barriers_are_countable(r->tracker, NULL));
    for (int i = 0; i < 50; i++) {
        uint64_t before = tracker_barriers(r->tracker);
        assert_int_equal(pwrite(fd, data, GRANULE, i * (off_t)GRANULE), GRANULE);
        assert_int_equal(tracker_barriers(r->tracker), before);
        assert_int_equal(fdatasync(fd), 0);
        assert_true(tracker_barriers(r->tracker) > before);
    }
    (void)close(fd);
    free(data);
}

static void test_a_synchronous_write_counts(void **state)
{
    struct trackrig *r = *state;
    uint8_t *data = random_bytes(GRANULE);
    int fd = open(r->disk.path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
    uint64_t before = tracker_barriers(r->tracker);

    assert_int_equal(pwrite(fd, data, GRANULE, 0), GRANULE);
    assert_true(tracker_barriers(r->tracker) > before);
    (void)close(fd);
    free(data);
}

static void set_write_cache(const struct trackrig *r, const char *mode)
{
    must_run("echo '%s' > /sys/block/%s/queue/write_cache", mode, r->disk.path + 5);
}

/* Without a write cache flushes end before there is a request; on kernels that permit it they are counted at submission. */
static void test_a_disk_without_write_cache_is_told_apart(void **state)
{
    struct trackrig *r = *state;
    uint64_t before;
    bool countable;

    set_write_cache(r, "write through");
    countable = tracker_barriers_are_countable(r->tracker, NULL);
    before = tracker_barriers(r->tracker);
    must_run("dd if=/dev/zero of=%s bs=4k count=1 oflag=direct conv=fsync,notrunc status=none", r->disk.path);
    assert_int_equal(tracker_barriers(r->tracker) > before, countable);
    print_message("flushes of a write-through disk are %s on this kernel\n", countable ? "counted" : "not countable");
    set_write_cache(r, "write back");
    assert_true(tracker_barriers_are_countable(r->tracker, NULL));
}

/* What sysfs tells of the devices over a disk, made up; the test's own of those is where only it sees it. */
static void make_up_sysfs(const struct trackrig *r, const char *holders)
{
    struct stat st;

    assert_int_equal(fstat(r->disk.fd, &st), 0);
    assert_int_equal(unshare(CLONE_NEWNS), 0);
    must_run("mount --make-rprivate / && mount -t tmpfs made-up /sys/dev/block && cd /sys/dev/block && mkdir -p "
             "disk/queue disk/holders "
             "disk/part/holders && ln -s disk %u:%u && echo 'write back' > disk/queue/write_cache && echo 1 > "
             "disk/part/partition && "
             "echo 9:901 > disk/part/dev && ln -s disk/part 9:901",
        major(st.st_rdev), minor(st.st_rdev));
    must_run("cd /sys/dev/block && device() { mkdir -p $1/queue $1/holders && echo $2 > $1/dev && ln -s $1 $2 && echo "
             "\"$3\" > "
             "$1/queue/write_cache && echo $4 > $1/ro; } && over() { ln -s $PWD/$1 $2/holders/$1; } && %s",
        holders);
}

static bool is_countable_below(const struct trackrig *r, const char *holders)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct err why = ERR_INIT;
        make_up_sysfs(r, holders);
        if (tracker_barriers_are_countable(r->tracker, &why))
            _exit(0);
        _exit(strncmp(why.text, "dm-", 3) == 0 && strstr(why.text, r->disk.path) && why.correction[0] ? 1 : 2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    return WEXITSTATUS(status) == 0;
}

/* A volume takes from below that it has no cache, and then the block layer ends flushes before anybody below sees them. */
static void test_barriers_that_end_in_a_volume_above_are_not_countable(void **state)
{
    const struct trackrig *r = *state;

    assert_true(is_countable_below(r, "true"));
    assert_true(is_countable_below(r, "device dm-0 9:902 'write back' 0; over dm-0 disk"));
    assert_false(is_countable_below(r, "device dm-0 9:902 'write through' 0; over dm-0 disk"));
    assert_false(is_countable_below(r, "device dm-0 9:902 'write through' 0; over dm-0 disk/part"));
    assert_false(is_countable_below(r, "device dm-0 9:902 'write back' 0; over dm-0 disk/part; "
                                       "device dm-1 9:903 'write through' 0; over dm-1 dm-0"));
    assert_true(is_countable_below(r, "device dm-0 9:902 'write through' 1; over dm-0 disk")); /* nobody writes to it */
}

/* --- life of the pins ----------------------------------------------------------------------------------------------------- */

static void test_tracking_goes_on_while_the_agent_is_dead(void **state)
{
    struct trackrig *r = *state;
    uint8_t *data = random_bytes(GRANULE);
    struct dirty_tag before, after;
    pid_t pid;

    tracker_disk_tag(r->tracked, &before);
    tracker_close(r->tracker);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) { /* an agent that is killed */
        trackrig_open(r);
        (void)kill(getpid(), SIGKILL);
    }
    (void)waitpid(pid, NULL, 0);
    for (int i = 0; i < 100; i++)
        loopdisk_write(&r->disk, (uint64_t)i * 5 * GRANULE, data, GRANULE);
    trackrig_open(r);
    tracker_disk_tag(r->tracked, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(trackrig_drain(r), 100);
    assert_int_equal(trackrig_expect_superset(r), 100);
    free(data);
}

/* Writes in the background. The tracker is closed around the fork, so that the child does not hold its lock. */
static pid_t start_fio(struct trackrig *r)
{
    pid_t pid;

    tracker_close(r->tracker);
    pid = fork();
    if (pid == 0) {
        (void)execlp("fio", "fio", "--name=t", "--direct=1", "--rw=randwrite", "--bs=4k", "--size=64m", "--io_size=12m",
            "--refill_buffers", "--output=/dev/null", "--filename", r->disk.path, NULL);
        _exit(127);
    }
    assert_true(pid > 0);
    trackrig_open(r);
    return pid;
}

static void test_a_restart_under_load_misses_nothing(void **state)
{
    struct trackrig *r = *state;
    struct dirty *all = NULL;
    pid_t fio;

    assert_int_equal(dirty_new(DISK_BYTES, 12, &all, NULL), 0);
    fio = start_fio(r);
    while (waitpid(fio, NULL, WNOHANG) == 0) {
        assert_int_equal(tracker_drain(r->tracker, r->tracked, NULL, all, NULL, NULL), 0);
        tracker_close(r->tracker);
        trackrig_open(r);
    }
    assert_int_equal(tracker_drain(r->tracker, r->tracked, NULL, all, NULL, NULL), 0);
    dirty_close(r->round);
    r->round = all;
    assert_true(trackrig_expect_superset(r) > 1000);
}

/* The agent is killed when it has put an array to use. */
static bool killed_after_use;

int __real_bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags);
int __wrap_bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags);

int __wrap_bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags)
{
    int r = __real_bpf_map_update_elem(fd, key, value, flags);

    if (killed_after_use)
        (void)kill(getpid(), SIGKILL);
    return r;
}

/* What the program counted in the old array until then has not come to the new one yet. */
static void test_a_resize_that_was_cut_off_is_finished(void **state)
{
    struct trackrig *r = *state;
    uint8_t *data = random_bytes(GRANULE);
    struct bt_header *old;
    pid_t pid;
    int fd;

    loopdisk_write(&r->disk, 3 * GRANULE, data, GRANULE);
    tracker_close(r->tracker);
    fd = trackrig_array(r, &r->disk);
    loopdisk_resize(&r->disk, DISK_BYTES + MIB);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        trackrig_open(r);
        killed_after_use = true;
        (void)tracker_resize(r->tracker, r->tracked, NULL);
        _exit(0);
    }
    (void)waitpid(pid, NULL, 0);
    old = mmap(NULL, BT_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(old != MAP_FAILED);
    old->lost++;
    loopdisk_write(&r->disk, 7 * GRANULE, data, GRANULE);
    trackrig_open(r);
    assert_true(tracker_disk_is_unknown(r->tracked));
    assert_int_equal(tracker_disk_size_bytes(r->tracked), DISK_BYTES + MIB);
    assert_int_equal(dirty_resize(r->round, DISK_BYTES + MIB, NULL), 0);
    (void)trackrig_drain(r);
    assert_true(dirty_test(r->round, 3 * GRANULE) && dirty_test(r->round, 7 * GRANULE));
    assert_true(dirty_test(r->round, DISK_BYTES) && dirty_test(r->round, DISK_BYTES + MIB - 1));
    (void)munmap(old, BT_PAGE_BYTES);
    (void)close(fd);
    free(data);
}

/* True when what an agent finds, after this one has ended, is made anew once a bit of that word of the meta map is another. */
static bool is_made_anew(struct trackrig *r, unsigned word, uint64_t bit)
{
    uint64_t value[4] = {0};
    struct dirty_tag before, after;
    uint32_t key = 0;
    int fd;

    tracker_disk_tag(r->tracked, &before);
    tracker_close(r->tracker);
    fd = trackrig_pin(r, "meta");
    assert_int_equal(bpf_map_lookup_elem(fd, &key, value), 0);
    assert_int_equal(value[1], BT_FORMAT);
    value[word] ^= bit;
    assert_int_equal(bpf_map_update_elem(fd, &key, value, BPF_ANY), 0);
    (void)close(fd);
    trackrig_open(r);
    tracker_disk_tag(r->tracked, &after);
    return before.incarnation != after.incarnation;
}

static void test_pins_of_another_format_or_boot_are_refused(void **state)
{
    assert_false(is_made_anew(*state, 0, 0)); /* nothing is another */
    assert_true(is_made_anew(*state, 0, 1));  /* the word that says whose it is */
    assert_true(is_made_anew(*state, 1, 1));  /* the number of the format */
    assert_true(is_made_anew(*state, 2, 1));  /* the boot id, in two words */
    assert_true(is_made_anew(*state, 3, 1ull << 63));
}

static void test_another_device_under_the_same_number_starts_anew(void **state)
{
    struct trackrig *r = *state;
    struct dirty_tag before, after;
    struct stat a, b;

    tracker_disk_tag(r->tracked, &before);
    tracker_close(r->tracker);
    assert_int_equal(fstat(r->disk.fd, &a), 0);
    for (int i = 0; i < 20; i++) { /* others may take the number that was let go */
        loopdisk_done(&r->disk);
        loopdisk_init(&r->disk, DISK_BYTES, 512, -1);
        assert_int_equal(fstat(r->disk.fd, &b), 0);
        if (a.st_rdev == b.st_rdev)
            break;
    }
    trackrig_open(r);
    tracker_disk_tag(r->tracked, &after);
    assert_true(before.incarnation != after.incarnation);
}

static void test_one_process_per_instance(void **state)
{
    struct trackrig *r = *state;
    struct tracker *again = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(tracker_open(&r->config, &again, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(tracker_destroy(&r->config, &err), -1);
}

static void test_destroy_leaves_nothing(void **state)
{
    struct trackrig *r = *state;
    char path[160];

    tracker_close(r->tracker);
    assert_int_equal(tracker_destroy(&r->config, NULL), 0);
    (void)snprintf(path, sizeof(path), "%s/test", r->bpf);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(tracker_destroy(&r->config, NULL), 0);
    trackrig_open(r);
}

static void test_an_unusable_name_is_refused(void **state)
{
    static const char *const names[] = {"", "Upper", "a/b", "..", "0123456789012345678901234567890123"};
    struct tracker *t = NULL;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct tracker_config c = {.instance = names[i]};
        struct err err = ERR_INIT;
        assert_int_equal(tracker_open(&c, &t, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_true(err.correction[0] != '\0');
    }
}

/* --- disks ------------------------------------------------------------------------------------------------------------------ */

static void test_a_removed_disk_is_forgotten(void **state)
{
    struct trackrig *r = *state;
    uint8_t *data = random_bytes(GRANULE);
    struct tracker_disk *again;
    struct err err = ERR_INIT;

    assert_int_equal(tracker_add(r->tracker, r->disk.path, &again, &err), -1);
    assert_int_equal(err.code, ERR_EXISTS);
    loopdisk_write(&r->disk, 0, data, GRANULE);
    assert_int_equal(tracker_remove(r->tracker, r->tracked, NULL), 0);
    loopdisk_write(&r->disk, GRANULE, data, GRANULE);
    assert_int_equal(tracker_add(r->tracker, r->disk.path, &r->tracked, NULL), 0);
    assert_int_equal(trackrig_drain(r), 0);
    loopdisk_write(&r->disk, 2 * GRANULE, data, GRANULE);
    assert_int_equal(trackrig_drain(r), 1);
    free(data);
}

static void test_disks_that_nobody_adds_are_forgotten(void **state)
{
    struct trackrig *r = *state;
    struct dirty_tag before, after;

    tracker_disk_tag(r->tracked, &before);
    tracker_close(r->tracker);
    assert_int_equal(tracker_open(&r->config, &r->tracker, NULL), 0);
    assert_int_equal(tracker_forget_others(r->tracker, NULL), 0);
    assert_int_equal(tracker_add(r->tracker, r->disk.path, &r->tracked, NULL), 0);
    tracker_disk_tag(r->tracked, &after);
    assert_true(before.incarnation != after.incarnation);
}

static void test_what_a_disk_grew_by_is_dirty(void **state)
{
    struct trackrig *r = *state;
    uint8_t *data = random_bytes(GRANULE);
    struct dirty_tag before, after;
    struct tracker_stats stats;

    tracker_disk_tag(r->tracked, &before);
    loopdisk_write(&r->disk, GRANULE, data, GRANULE);
    loopdisk_resize(&r->disk, DISK_BYTES + 16 * MIB);
    loopdisk_write(&r->disk, DISK_BYTES + MIB, data, GRANULE); /* before the tracker knows */
    tracker_disk_stats(r->tracked, &stats);
    assert_int_equal(stats.beyond, 1);
    assert_false(tracker_disk_is_unknown(r->tracked));
    assert_int_equal(tracker_disk_actual_bytes(r->tracked), DISK_BYTES + 16 * MIB);
    assert_int_equal(tracker_resize(r->tracker, r->tracked, NULL), 0);
    assert_int_equal(dirty_resize(r->round, DISK_BYTES + 16 * MIB, NULL), 0);
    assert_int_equal(trackrig_drain(r), 1 + 16 * MIB / GRANULE);
    assert_true(dirty_test(r->round, GRANULE));
    assert_true(dirty_test(r->round, DISK_BYTES + 16 * MIB - 1));
    loopdisk_write(&r->disk, DISK_BYTES + MIB, data, GRANULE);
    assert_int_equal(trackrig_drain(r), 1);
    tracker_disk_tag(r->tracked, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    tracker_close(r->tracker);
    loopdisk_write(&r->disk, 0, data, GRANULE);
    trackrig_open(r);
    assert_int_equal(tracker_disk_size_bytes(r->tracked), DISK_BYTES + 16 * MIB);
    assert_int_equal(trackrig_drain(r), 1);
    free(data);
}

static void test_resizing_under_load_misses_nothing(void **state)
{
    struct trackrig *r = *state;
    struct dirty *all = NULL;
    uint64_t size = DISK_BYTES;
    pid_t fio;

    assert_int_equal(dirty_new(DISK_BYTES, 12, &all, NULL), 0);
    fio = start_fio(r);
    while (waitpid(fio, NULL, WNOHANG) == 0) {
        size += 4 * MIB;
        loopdisk_resize(&r->disk, size);
        assert_int_equal(tracker_resize(r->tracker, r->tracked, NULL), 0);
        assert_int_equal(dirty_resize(all, size, NULL), 0);
        assert_int_equal(tracker_drain(r->tracker, r->tracked, NULL, all, NULL, NULL), 0);
    }
    assert_int_equal(tracker_drain(r->tracker, r->tracked, NULL, all, NULL, NULL), 0);
    dirty_close(r->round);
    r->round = all;
    assert_true(trackrig_expect_superset(r) > 1000);
}

static void test_a_vanished_disk_is_noticed(void **state)
{
    struct trackrig *r = *state;

    loopdisk_done(&r->disk);
    assert_int_equal(tracker_disk_actual_bytes(r->tracked), 0);
    assert_int_equal(tracker_resize(r->tracker, r->tracked, NULL), -1);
    assert_int_equal(trackrig_drain(r), 0);
    assert_int_equal(tracker_remove(r->tracker, r->tracked, NULL), 0);
    loopdisk_init(&r->disk, DISK_BYTES, 512, -1);
    assert_int_equal(tracker_add(r->tracker, r->disk.path, &r->tracked, NULL), 0);
}

static void test_what_cannot_be_tracked_is_refused_with_a_reason(void **state)
{
    struct trackrig *r = *state;
    struct tracker_disk *disk;
    struct err err = ERR_INIT;

    assert_int_equal(tracker_add(r->tracker, "/dev/null", &disk, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(tracker_add(r->tracker, "/dev/does-not-exist", &disk, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void test_a_disk_without_requests_is_refused_with_a_correction(void **state)
{
    struct trackrig *r = *state;
    struct tracker_disk *disk;
    struct err err = ERR_INIT;

    if (access("/dev/zram0", F_OK) != 0) {
        print_message("there is no /dev/zram0\n");
        skip();
    }
    assert_int_equal(tracker_add(r->tracker, "/dev/zram0", &disk, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_true(err.correction[0] != '\0');
}

static void test_a_full_table_refuses_one_more_disk_and_keeps_the_others(void **state)
{
    struct trackrig *r = *state;
    struct loopdisk more;
    struct tracker_disk *other;
    char disks_path[160], array_path[160];
    uint8_t *data = random_bytes(GRANULE);
    struct err err = ERR_INIT;
    int disks_fd, array_fd;
    uint32_t slot, first;

    (void)snprintf(disks_path, sizeof(disks_path), "%s/test/disks", r->bpf);
    (void)snprintf(array_path, sizeof(array_path), "%s/test/disk-%08x", r->bpf, trackrig_key(&r->disk));
    disks_fd = bpf_obj_get(disks_path);
    array_fd = bpf_obj_get(array_path);
    assert_true(disks_fd >= 0 && array_fd >= 0);
    loopdisk_init(&more, DISK_BYTES, 512, -1);
    first = bt_slot(trackrig_key(&more), 0);
    for (unsigned i = 0; i < BT_SLOT_PROBES; i++) {
        slot = bt_slot(trackrig_key(&more), i);
        assert_int_equal(bpf_map_update_elem(disks_fd, &slot, &array_fd, BPF_ANY), 0);
    }
    assert_int_equal(tracker_add(r->tracker, more.path, &other, &err), -1);
    assert_int_equal(err.code, ERR_NOMEM);
    assert_non_null(strstr(err.text, "table of disks is full"));
    loopdisk_write(&r->disk, 0, data, GRANULE);
    assert_int_equal(trackrig_drain(r), 1);
    loopdisk_write(&more, 0, data, GRANULE); /* what is not tracked is not taken for what stands in its slots */
    assert_int_equal(trackrig_drain(r), 0);
    assert_int_equal(bpf_map_delete_elem(disks_fd, &slot), 0); /* the last one that is looked at */
    assert_int_equal(tracker_add(r->tracker, more.path, &other, &err), 0);
    loopdisk_write(&more, 0, data, GRANULE);
    dirty_clear_all(r->round);
    assert_int_equal(tracker_drain(r->tracker, other, r->round, NULL, NULL, NULL), 0);
    assert_true(dirty_test(r->round, 0));
    /* A disk whose array is not in its first slot stays the same one when that becomes free. */
    assert_int_equal(bpf_map_delete_elem(disks_fd, &first), 0);
    tracker_close(r->tracker);
    trackrig_open(r);
    loopdisk_write(&more, 8 * GRANULE, data, GRANULE);
    assert_int_equal(tracker_add(r->tracker, more.path, &other, &err), 0);
    dirty_clear_all(r->round);
    assert_int_equal(tracker_drain(r->tracker, other, r->round, NULL, NULL, NULL), 0);
    assert_true(dirty_test(r->round, 8 * GRANULE));
    assert_int_equal(tracker_remove(r->tracker, other, NULL), 0);
    loopdisk_write(&more, 0, data, GRANULE);
    loopdisk_done(&more);
    (void)close(disks_fd);
    (void)close(array_fd);
    free(data);
}

/* --- when the tracker's table cannot be read --------------------------------------------------------------------------------- */

/* An array in the table of which nobody can tell whose it is: it ends before the place where that stands. */
static int make_short_array(void)
{
    LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
    int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "short", sizeof(uint32_t), BT_PAGE_BYTES, 1, &opts);

    assert_true(fd >= 0);
    return fd;
}

/* All places for requests in flight are taken by requests of nothing: the list is a second line of defence only. */
static void test_what_has_no_place_among_those_in_flight_is_marked(void **state)
{
    struct trackrig *r = *state;
    uint64_t bytes = (BT_FIRST_LANE_PAGE + BT_LANES) * (uint64_t)BT_PAGE_BYTES;
    int fd = trackrig_array(r, &r->disk);
    uint8_t *array = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *data = random_bytes(16 * GRANULE);
    struct bt_flight *flights = (struct bt_flight *)(array + BT_FIRST_LANE_PAGE * BT_PAGE_BYTES);
    struct tracker_stats before, after;

    assert_true(array != MAP_FAILED);
    for (unsigned i = 0; i < BT_FLIGHTS; i++)
        if (i % BT_FLIGHTS_PER_PAGE != 0)
            flights[i].request = 1;
    tracker_disk_stats(r->tracked, &before);
    loopdisk_write(&r->disk, 9 * GRANULE, data, 16 * GRANULE);
    assert_int_equal(fdatasync(r->disk.fd), 0);
    tracker_disk_stats(r->tracked, &after);
    assert_true(after.unlisted > before.unlisted);
    assert_int_equal(after.bytes - before.bytes, 16 * GRANULE);
    assert_int_equal(trackrig_drain(r), 16);
    trackrig_expect_marked(r, 9 * GRANULE, 16 * GRANULE);
    assert_int_equal(trackrig_expect_superset(r), 16);
    assert_false(tracker_disk_is_unknown(r->tracked));
    for (unsigned i = 0; i < BT_FLIGHTS; i++)
        if (i % BT_FLIGHTS_PER_PAGE != 0)
            flights[i].request = 0;
    before = after;
    loopdisk_write(&r->disk, 0, data, GRANULE);
    tracker_disk_stats(r->tracked, &after);
    assert_int_equal(after.unlisted, before.unlisted);
    assert_int_equal(trackrig_drain(r), 1);
    (void)munmap(array, bytes);
    (void)close(fd);
    free(data);
}

static void put_into_slot(int disks_fd, const struct loopdisk *disk, unsigned place, int array_fd)
{
    uint32_t slot = bt_slot(trackrig_key(disk), place);

    assert_int_equal(bpf_map_update_elem(disks_fd, &slot, &array_fd, BPF_ANY), 0);
}

static void expect_refusal(struct trackrig *r, const char *path, const char *text)
{
    struct tracker_disk *disk;
    struct err err = ERR_INIT;

    assert_int_equal(tracker_add(r->tracker, path, &disk, &err), -1);
    if (!strstr(err.text, text))
        fail_msg("refused, but with: %s", err.text);
}

/* The same disk as before: under its incarnation, with what was marked. */
static void expect_resumed(struct trackrig *r, const struct dirty_tag *before, uint64_t granules)
{
    struct dirty_tag after;

    tracker_disk_tag(r->tracked, &after);
    assert_memory_equal(before, &after, sizeof(after));
    assert_int_equal(trackrig_drain(r), granules);
}

static void test_a_disk_is_refused_while_it_cannot_be_told_whose_array_is_in_its_slot(void **state)
{
    struct trackrig *r = *state;
    int disks_fd = trackrig_pin(r, "disks"), short_fd = make_short_array();
    struct tracker_disk *other;
    struct loopdisk more;
    uint32_t slot;

    loopdisk_init(&more, DISK_BYTES, 512, -1);
    put_into_slot(disks_fd, &more, 0, short_fd);
    expect_refusal(r, more.path, "reading a bitmap that is in use");
    slot = bt_slot(trackrig_key(&more), 0);
    assert_int_equal(bpf_map_delete_elem(disks_fd, &slot), 0);
    assert_int_equal(tracker_add(r->tracker, more.path, &other, NULL), 0);
    put_into_slot(disks_fd, &more, 0, short_fd);
    assert_int_equal(tracker_remove(r->tracker, other, NULL), -1);
    assert_int_equal(tracker_resize(r->tracker, other, NULL), 0); /* no new size: nothing to be looked at */
    loopdisk_resize(&more, DISK_BYTES + MIB);
    assert_int_equal(tracker_resize(r->tracker, other, NULL), -1);
    assert_int_equal(tracker_disk_size_bytes(other), DISK_BYTES);
    assert_int_equal(bpf_map_delete_elem(disks_fd, &slot), 0);
    assert_int_equal(tracker_resize(r->tracker, other, NULL), 0);
    assert_int_equal(tracker_remove(r->tracker, other, NULL), 0);
    loopdisk_done(&more);
    (void)close(disks_fd);
    (void)close(short_fd);
}

/* Not knowing is no reason to begin anew, which would cost a comparison of the whole disk. */
static void test_what_was_tracked_stays_while_it_cannot_be_told_whose_array_it_is(void **state)
{
    struct trackrig *r = *state;
    int disks_fd = trackrig_pin(r, "disks"), array_fd = trackrig_array(r, &r->disk), short_fd = make_short_array();
    uint8_t *data = random_bytes(GRANULE);
    struct dirty_tag before;

    tracker_disk_tag(r->tracked, &before);
    loopdisk_write(&r->disk, 3 * GRANULE, data, GRANULE);
    tracker_close(r->tracker);
    put_into_slot(disks_fd, &r->disk, 1, array_fd);
    put_into_slot(disks_fd, &r->disk, 0, short_fd);
    assert_int_equal(tracker_open(&r->config, &r->tracker, NULL), 0);
    expect_refusal(r, r->disk.path, "reading a bitmap that is in use");
    loopdisk_write(&r->disk, 5 * GRANULE, data, GRANULE);
    put_into_slot(disks_fd, &r->disk, 0, array_fd);
    assert_int_equal(tracker_add(r->tracker, r->disk.path, &r->tracked, NULL), 0);
    expect_resumed(r, &before, 2);
    (void)close(disks_fd);
    (void)close(array_fd);
    (void)close(short_fd);
    free(data);
}

static void in_a_process(struct trackrig *r, void (*body)(struct trackrig *r))
{
    int status = -1;
    pid_t pid;

    tracker_close(r->tracker);
    r->tracker = NULL;
    pid = fork();
    if (pid == 0)
        body(r);
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void give_up_sys_admin(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &head, sets) < 0)
        _exit(2);
    sets[0].effective &= ~(1u << CAP_SYS_ADMIN);
    sets[0].permitted &= ~(1u << CAP_SYS_ADMIN);
    if (syscall(SYS_capset, &head, sets) < 0)
        _exit(3);
}

/* In a process of its own. */
static void add_without_sys_admin(struct trackrig *r)
{
    struct err err = ERR_INIT;

    give_up_sys_admin();
    if (tracker_open(&r->config, &r->tracker, &err) < 0)
        _exit(4);
    if (tracker_add(r->tracker, r->disk.path, &r->tracked, &err) == 0)
        _exit(5);
    _exit(err.code == ERR_DENIED && strstr(err.correction, "CAP_SYS_ADMIN") ? 0 : 6);
}

static void test_who_lacks_a_right_is_told_which_and_destroys_nothing(void **state)
{
    struct trackrig *r = *state;
    uint8_t *data = random_bytes(GRANULE);
    struct dirty_tag before;

    tracker_disk_tag(r->tracked, &before);
    loopdisk_write(&r->disk, 3 * GRANULE, data, GRANULE);
    in_a_process(r, add_without_sys_admin);
    loopdisk_write(&r->disk, 5 * GRANULE, data, GRANULE);
    trackrig_open(r);
    expect_resumed(r, &before, 2);
    free(data);
}

/* The descriptor of the table in this process, for a table that has got lost. */
static int descriptor_of_table(void)
{
    char path[64], text[512];

    for (int fd = 3; fd < 1024; fd++) {
        FILE *f;
        size_t n;
        (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        f = fopen(path, "r");
        if (!f)
            continue;
        n = fread(text, 1, sizeof(text) - 1, f);
        text[n] = '\0';
        (void)fclose(f);
        if (strstr(text, "map_type:\t12\n")) /* BPF_MAP_TYPE_ARRAY_OF_MAPS */
            return fd;
    }
    fail_msg("this process has no table of disks open");
    return -1;
}

static void test_a_table_that_cannot_be_looked_at_refuses_disks(void **state)
{
    struct trackrig *r = *state;
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct err err = ERR_INIT;
    struct dirty_tag before;
    struct loopdisk more;

    tracker_disk_tag(r->tracked, &before);
    loopdisk_init(&more, DISK_BYTES, 512, -1);
    assert_int_equal(dup2(nothing, descriptor_of_table()) >= 0, 1);
    expect_refusal(r, more.path, "looking at the tracker's table of disks");
    assert_int_equal(tracker_remove(r->tracker, r->tracked, &err), -1);
    assert_non_null(strstr(err.text, "looking at the tracker's table of disks"));
    tracker_close(r->tracker);
    trackrig_open(r);
    expect_resumed(r, &before, 0);
    loopdisk_done(&more);
    (void)close(nothing);
}

/* --- where the program cannot run ---------------------------------------------------------------------------------------------------- */

/* From here on the kernel does not take programs, as one that lacks what they need does not. */
static void refuse_programs(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_bpf, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, BPF_PROG_LOAD, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(filter), .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(2);
}

static void open_on_old_kernel(struct trackrig *r)
{
    const struct err *why;
    struct err err = ERR_INIT;

    refuse_programs();
    if (personality(UNAME26) < 0) /* uname(2) tells 2.6 */
        _exit(3);
    if (tracker_open(&r->config, &r->tracker, &err) < 0)
        _exit(4);
    why = tracker_refused(r->tracker);
    if (strcmp(tracker_driver_name(r->tracker), "scan") != 0 || !why || why->code != ERR_UNSUPPORTED)
        _exit(5);
    _exit(strstr(why->text, "this kernel (2.6.") && strstr(why->correction, "5.15 or later") ? 0 : 6);
}

/* What should work and does not is an error to be told, not a reason to read whole disks all the time. */
static void open_on_refusing_kernel(struct trackrig *r)
{
    struct err err = ERR_INIT;

    refuse_programs();
    if (tracker_open(&r->config, &r->tracker, &err) == 0)
        _exit(4);
    _exit(strstr(err.text, "loading the tracking program") && err.code != ERR_UNSUPPORTED ? 0 : 5);
}

static void test_an_old_kernel_is_served_by_scan_which_says_why(void **state)
{
    struct trackrig *r = *state;

    assert_null(tracker_refused(r->tracker));
    r->config.state_dir = r->dir;
    in_a_process(r, open_on_old_kernel);
}

static void test_a_program_that_a_new_kernel_refuses_is_an_error(void **state)
{
    in_a_process(*state, open_on_refusing_kernel);
}

/* What has been loaded needs no kernel that still takes programs; nothing is pinned before it is used, and it tracks. */
static void open_what_was_prepared(struct trackrig *r)
{
    static _Alignas(GRANULE) const uint8_t block[GRANULE] = {1};
    struct err err = ERR_INIT;
    char path[160];

    (void)snprintf(path, sizeof(path), "%s/test", r->bpf);
    if (tracker_destroy(&r->config, &err) < 0)
        _exit(4);
    tracker_prepare();
    tracker_prepare();
    refuse_programs();
    if (access(path, F_OK) == 0)
        _exit(5);
    if (tracker_open(&r->config, &r->tracker, &err) < 0 || tracker_add(r->tracker, r->disk.path, &r->tracked, &err) < 0)
        _exit(6);
    loopdisk_write(&r->disk, 8 * GRANULE, block, sizeof(block));
    if (dirty_new(r->disk_bytes, 12, &r->round, NULL) < 0) /* the rig's is kept from children */
        _exit(10);
    if (strcmp(tracker_driver_name(r->tracker), "ebpf") != 0 || trackrig_drain(r) != 1)
        _exit(7);
    tracker_close(r->tracker);
    if (tracker_destroy(&r->config, &err) < 0)
        _exit(8);
    _exit(tracker_open(&r->config, &r->tracker, &err) < 0 ? 0 : 9); /* it was used up */
}

static void test_what_was_prepared_is_not_loaded_again(void **state)
{
    in_a_process(*state, open_what_was_prepared);
}

static void test_a_loss_makes_the_disk_unknown_until_acknowledged(void **state)
{
    struct trackrig *r = *state;
    struct bt_header *h;
    struct stat st;
    char path[160];
    int fd;

    assert_int_equal(fstat(r->disk.fd, &st), 0);
    (void)snprintf(path, sizeof(path), "%s/test/disk-%08x", r->bpf, (major(st.st_rdev) << 20) | minor(st.st_rdev));
    fd = bpf_obj_get(path);
    assert_true(fd >= 0);
    h = mmap(NULL, BT_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(h != MAP_FAILED);
    assert_false(tracker_disk_is_unknown(r->tracked));
    h->lost++;
    assert_true(tracker_disk_is_unknown(r->tracked));
    tracker_close(r->tracker);
    trackrig_open(r);
    assert_true(tracker_disk_is_unknown(r->tracked));
    tracker_disk_acknowledge(r->tracked);
    assert_false(tracker_disk_is_unknown(r->tracked));
    (void)munmap(h, BT_PAGE_BYTES);
    (void)close(fd);
}

static void test_granules_grow_above_two_tebibytes(void **state)
{
    (void)state;
    assert_int_equal(tracker_granule_shift(1ull << 30), 12);
    assert_int_equal(tracker_granule_shift(1ull << 41), 12);
    assert_int_equal(tracker_granule_shift((1ull << 41) + 4096), 13);
    assert_int_equal(tracker_granule_shift(1ull << 43), 14);
}

static void test_the_cost_of_a_write(void **state)
{
    struct trackrig *r = *state;
    uint64_t events = 0, nsec;
    int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);

    if (stats < 0) {
        print_message("the kernel keeps no times of its programs here\n");
        skip();
    }
    must_run("fio --name=t --filename=%s --direct=1 --rw=randwrite --bs=4k --size=64m --io_size=64m --output=/dev/null",
        r->disk.path);
    nsec = tracker_event_cost_nsec(r->tracker, &events);
    (void)close(stats);
    print_message(
        "tracking took %llu ns per request (%llu requests)\n", (unsigned long long)nsec, (unsigned long long)events);
    assert_true(events > 10000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_4096(name) cmocka_unit_test_setup_teardown(name, setup_4096, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_write_marks_its_granules_and_no_others),
        TEST_4096(test_one_write_marks_its_granules_and_no_others),
        TEST(test_one_sector_marks_its_granule),
        TEST(test_nothing_that_fio_changes_is_missed),
        TEST_4096(test_nothing_that_fio_changes_is_missed),
        TEST(test_buffered_writes_are_seen_when_they_reach_the_disk),
        TEST(test_a_partition_counts_on_its_disk),
        TEST(test_discards_and_zeroes_are_marked),
        TEST_4096(test_discards_and_zeroes_are_marked),
        TEST(test_a_write_that_is_split_is_marked_whole),
        TEST_4096(test_a_write_that_is_split_is_marked_whole),
        TEST(test_what_has_no_place_among_those_in_flight_is_marked),
        TEST(test_a_discard_of_the_whole_disk_is_marked),
        TEST(test_a_file_system_at_work_is_followed),
        TEST(test_each_flush_counts_before_its_caller_knows),
        TEST(test_a_synchronous_write_counts),
        TEST(test_a_disk_without_write_cache_is_told_apart),
        TEST(test_barriers_that_end_in_a_volume_above_are_not_countable),
        TEST(test_tracking_goes_on_while_the_agent_is_dead),
        TEST(test_a_restart_under_load_misses_nothing),
        TEST(test_a_resize_that_was_cut_off_is_finished),
        TEST(test_pins_of_another_format_or_boot_are_refused),
        TEST(test_another_device_under_the_same_number_starts_anew),
        TEST(test_one_process_per_instance),
        TEST(test_destroy_leaves_nothing),
        TEST(test_an_unusable_name_is_refused),
        TEST(test_a_removed_disk_is_forgotten),
        TEST(test_disks_that_nobody_adds_are_forgotten),
        TEST(test_what_a_disk_grew_by_is_dirty),
        TEST(test_resizing_under_load_misses_nothing),
        TEST(test_a_vanished_disk_is_noticed),
        TEST(test_what_cannot_be_tracked_is_refused_with_a_reason),
        TEST(test_a_disk_without_requests_is_refused_with_a_correction),
        TEST(test_a_full_table_refuses_one_more_disk_and_keeps_the_others),
        TEST(test_a_disk_is_refused_while_it_cannot_be_told_whose_array_is_in_its_slot),
        TEST(test_what_was_tracked_stays_while_it_cannot_be_told_whose_array_it_is),
        TEST(test_who_lacks_a_right_is_told_which_and_destroys_nothing),
        TEST(test_a_table_that_cannot_be_looked_at_refuses_disks),
        TEST(test_an_old_kernel_is_served_by_scan_which_says_why),
        TEST(test_a_program_that_a_new_kernel_refuses_is_an_error),
        TEST(test_what_was_prepared_is_not_loaded_again),
        TEST(test_a_loss_makes_the_disk_unknown_until_acknowledged),
        TEST(test_granules_grow_above_two_tebibytes),
        TEST(test_the_cost_of_a_write),
    };

    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices: not run\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
