/* SPDX-License-Identifier: Apache-2.0
 *
 * A tracker of an instance of its own, drained every second. What changed is also gathered over minutes and over all, in two more
 * sets: the same block counts once in each. A few changed blocks a second are read and compressed, to know what they would
 * take.
 */
#include "mobility/measure.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "mobility/inventory.h"
#include "mobility/sync/plan.h"
#include "mobility/track/bpffs.h"
#include "mobility/track/tracker.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define SAMPLE_BYTES 65536u
#define SAMPLE_ALIGNMENT 4096u /* no disk's is larger */
#define SAMPLES_PER_SECOND 4u
#define LEVEL 1
#define MINUTE 60u

#define INSTANCE_PREFIX "measure-" /* of the process that measures */

struct measure {
    struct tracker *tracker;
    struct tracker_disk *disk;
    struct dirty *second, *minute, *all;
    int fd;
    uint8_t *plain, *packed;
    uint64_t sampled, left; /* bytes before and after compression */
    uint64_t seconds;
    json_t *per_second, *per_minute;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* What is pinned stays in the kernel when this process ends without a word: as when the line is lost over which it was started, or nobody reads any more. */
static void catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};

    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
    (void)sigaction(SIGHUP, &act, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL);
}

/* Of measurements that were killed. */
static void remove_left_over(const char *pin_root)
{
    DIR *d = opendir(pin_root ? pin_root : BPFFS_ROOT);

    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        const struct tracker_config left = {.pin_root = pin_root, .instance = e->d_name};
        int pid;

        if (sscanf(e->d_name, INSTANCE_PREFIX "%d", &pid) == 1 && pid > 0 && kill(pid, 0) < 0 && errno == ESRCH)
            (void)tracker_destroy(&left, NULL);
    }
    (void)closedir(d);
}

static void close_all(struct measure *m)
{
    dirty_close(m->second);
    dirty_close(m->minute);
    dirty_close(m->all);
    if (m->tracker && m->disk)
        (void)tracker_remove(m->tracker, m->disk, NULL);
    tracker_close(m->tracker);
    if (m->fd >= 0)
        close(m->fd);
    free(m->plain);
    free(m->packed);
    json_decref(m->per_second);
    json_decref(m->per_minute);
}

static int open_all(struct measure *m, const char *device, const struct tracker_config *config, struct err *err)
{
    uint64_t size;
    unsigned shift;

    if (tracker_open(config, &m->tracker, err) < 0 || tracker_add(m->tracker, device, &m->disk, err) < 0)
        return -1;
    size = tracker_disk_size_bytes(m->disk);
    shift = tracker_disk_granule_shift(m->disk);
    if (dirty_new(size, shift, &m->second, err) < 0 || dirty_new(size, shift, &m->minute, err) < 0 ||
        dirty_new(size, shift, &m->all, err) < 0)
        return -1;
    /* What a file system has written since it was read once is not in the page cache of its disk. */
    m->fd = open(tracker_disk_path(m->disk), O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (m->fd < 0)
        return err_sys(err, errno, "opening %s", tracker_disk_path(m->disk));
    m->plain = aligned_alloc(SAMPLE_ALIGNMENT, SAMPLE_BYTES);
    m->packed = malloc(ZSTD_compressBound(SAMPLE_BYTES));
    m->per_second = json_array();
    m->per_minute = json_array();
    return m->plain && m->packed && m->per_second && m->per_minute ? 0
                                                                   : err_set(err, ERR_NOMEM, "no memory to measure");
}

static void take_sample(struct measure *m, uint64_t start, uint64_t length)
{
    ssize_t n = pread(m->fd, m->plain, (size_t)length, (off_t)start);
    size_t packed = n > 0 ? ZSTD_compress(m->packed, ZSTD_compressBound(SAMPLE_BYTES), m->plain, (size_t)n, LEVEL) : 0;

    if (n <= 0 || ZSTD_isError(packed))
        return;
    m->sampled += (uint64_t)n;
    m->left += packed < (size_t)n ? packed : (size_t)n;
}

/* Of blocks spread evenly over what changed, wherever that lies: the beginning of a disk, where file systems have their tables, is nothing like the rest. */
static void take_samples(struct measure *m)
{
    uint64_t step = dirty_bytes(m->second) / SAMPLES_PER_SECOND, due = step / 2, passed = 0, cursor = 0, start, length;

    while (step > 0 && dirty_next(m->second, &cursor, SAMPLE_BYTES, &start, &length) > 0) {
        passed += length;
        if (passed <= due)
            continue;
        take_sample(m, start, length);
        due += step;
    }
}

static int one_second(struct measure *m, struct err *err)
{
    dirty_clear_all(m->second);
    if (tracker_drain(m->tracker, m->disk, m->second, NULL, NULL, err) < 0 || dirty_or(m->minute, m->second, err) < 0 ||
        dirty_or(m->all, m->second, err) < 0)
        return -1;
    (void)json_array_append_new(m->per_second, json_integer((json_int_t)dirty_bytes(m->second)));
    take_samples(m);
    if (++m->seconds % MINUTE == 0) {
        (void)json_array_append_new(m->per_minute, json_integer((json_int_t)dirty_bytes(m->minute)));
        dirty_clear_all(m->minute);
    }
    return 0;
}

/* Also where file systems cannot say what is free: then all of it is used. */
static uint64_t used_bytes(const struct measure *m)
{
    struct inventory *inventory = NULL;
    uint64_t used = tracker_disk_size_bytes(m->disk);
    struct plan *plan = NULL;

    if (inventory_scan(NULL, &inventory, NULL) < 0)
        return used;
    for (size_t i = 0; i < inventory->disk_count; i++) {
        struct stat st;

        if (stat(inventory->disks[i].device, &st) == 0 && st.st_rdev == tracker_disk_dev(m->disk) &&
            plan_make(&inventory->disks[i], &plan, NULL) == 0)
            used = plan->used_bytes;
    }
    plan_free(plan);
    inventory_free(inventory);
    return used;
}

static int print(struct measure *m, FILE *out, struct err *err)
{
    struct tracker_stats stats;
    json_t *o;
    int r;

    tracker_disk_stats(m->disk, &stats);
    o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:O, s:O, s:I, s:I}", "device", tracker_disk_path(m->disk), "size_bytes",
        (json_int_t)tracker_disk_size_bytes(m->disk), "used_bytes", (json_int_t)used_bytes(m), "seconds",
        (json_int_t)m->seconds, "written_bytes", (json_int_t)stats.bytes, "changed_per_second", m->per_second,
        "changed_per_minute", m->per_minute, "changed_bytes", (json_int_t)dirty_bytes(m->all), "compressed_permille",
        (json_int_t)(m->sampled ? m->left * 1000 / m->sampled : 1000));
    r = o ? json_dumpf(o, out, JSON_INDENT(1)) : -1;
    json_decref(o);
    fputc('\n', out);
    return r < 0 || fflush(out) != 0 ? err_set(err, ERR_IO, "writing the measurement") : 0;
}

static int watch(struct measure *m, uint64_t usec, struct err *err)
{
    struct timespec next;

    clock_gettime(CLOCK_MONOTONIC, &next);
    while (!interrupted && m->seconds < usec / USEC_PER_SEC) {
        next.tv_sec++;
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) == EINTR && !interrupted)
            ;
        if (!interrupted && one_second(m, err) < 0)
            return -1;
    }
    return 0;
}

int measure_run(const struct measure_conf *conf, FILE *out, struct err *err)
{
    struct measure m = {.fd = -1};
    char instance[33];
    struct tracker_config config = {.pin_root = conf->pin_root, .instance = instance};
    int r;

    snprintf(instance, sizeof(instance), INSTANCE_PREFIX "%d", (int)getpid());
    remove_left_over(conf->pin_root);
    catch_signals();
    r = open_all(&m, conf->device, &config, err);
    if (r == 0)
        r = watch(&m, conf->usec, err);
    if (r == 0)
        r = print(&m, out, err);
    close_all(&m);
    (void)tracker_destroy(&config, NULL);
    return r;
}
