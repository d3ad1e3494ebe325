/* SPDX-License-Identifier: Apache-2.0
 *
 * The tracker's interface over its drivers: a table of them, the list of disks of one open tracker, and the checks that
 * do not depend on how writes are seen.
 */
#include "mobility/track/tracker.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <errno.h>

#include "mobility/track/tracker_driver.h"
#include "transport/base/mem.h"

static const struct tracker_driver *const drivers[] = {&tracker_ebpf_driver, &tracker_scan_driver}; /* by preference */

struct tracker {
    const struct tracker_driver *driver;
    void *state;
    struct tracker_disk *disks[TRACKER_DISKS_MAX];
    size_t disk_count;
    struct err refused; /* why the driver before this one does not work here */
};

static bool is_instance_name(const char *s)
{
    size_t n = strlen(s);

    return n >= 1 && n <= 32 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static int check_config(const struct tracker_config *in, struct tracker_config *out, struct err *err)
{
    *out = in ? *in : (struct tracker_config){0};
    if (!out->instance)
        out->instance = "agent";
    if (!out->state_dir)
        out->state_dir = "";
    if (!is_instance_name(out->instance)) {
        (void)err_set(err, ERR_INVALID, "\"%.40s\" is no name of a tracker", out->instance);
        return err_hint(err, "use 1 to 32 of a-z, 0-9 and -");
    }
    return 0;
}

static int open_driver(struct tracker *t, const struct tracker_config *c, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
        if (c->driver && strcmp(c->driver, drivers[i]->name) != 0)
            continue;
        t->driver = drivers[i];
        if (drivers[i]->open(c, &t->state, err) == 0)
            return 0;
        if (c->driver || err->code != ERR_UNSUPPORTED)
            return -1;
        err_copy(&t->refused, err);
    }
    return t->driver ? -1 : err_set(err, ERR_UNSUPPORTED, "there is no tracker named \"%.20s\"", c->driver);
}

void tracker_prepare(void)
{
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++)
        if (drivers[i]->prepare)
            drivers[i]->prepare();
}

int tracker_open(const struct tracker_config *config, struct tracker **ret_tracker, struct err *err)
{
    struct tracker *t AUTO_OF(tracker) = NULL;
    struct tracker_config c;
    struct err own = ERR_INIT;

    if (check_config(config, &c, err) < 0)
        return -1;
    t = mem_new(struct tracker);
    if (!t)
        return err_set(err, ERR_NOMEM, "tracker");
    t->refused = (struct err)ERR_INIT;
    if (open_driver(t, &c, &own) < 0) {
        if (err)
            err_copy(err, &own);
        return -1;
    }
    *ret_tracker = TAKE_PTR(t);
    return 0;
}

void tracker_close(struct tracker *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->disk_count; i++) {
        t->driver->release(t->state, t->disks[i]);
        free(t->disks[i]);
    }
    if (t->state)
        t->driver->close(t->state);
    free(t);
}

int tracker_destroy(const struct tracker_config *config, struct err *err)
{
    struct tracker_config c;

    if (check_config(config, &c, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
        if (c.driver && strcmp(c.driver, drivers[i]->name) != 0)
            continue;
        if (drivers[i]->destroy(&c, err) < 0)
            return -1;
    }
    return 0;
}

const char *tracker_driver_name(const struct tracker *t)
{
    return t->driver->name;
}

const struct err *tracker_refused(const struct tracker *t)
{
    return t->refused.code ? &t->refused : NULL;
}

/* --- disks --------------------------------------------------------------------------------------------------------- */

int tracker_whole_disk(const char *path, dev_t *ret_disk, struct err *err)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return err_sys(err, errno, "looking at %s", path);
    if (!S_ISBLK(st.st_mode))
        return err_set(err, ERR_INVALID, "%s is not a block device", path);
    return wholedisk_of(st.st_rdev, ret_disk, err);
}

int tracker_is_trackable(dev_t disk, struct err *err)
{
    return wholedisk_is_trackable(disk, err);
}

unsigned tracker_granule_shift(uint64_t size_bytes)
{
    unsigned shift = TRACKER_GRANULE_SHIFT_MIN;

    while (shift < DIRTY_SHIFT_MAX && size_bytes >> shift > (uint64_t)TRACKER_BITMAP_MAX_BYTES * 8)
        shift++;
    return shift;
}

static bool is_added(const struct tracker *t, dev_t dev)
{
    for (size_t i = 0; i < t->disk_count; i++)
        if (t->disks[i]->dev == dev)
            return true;
    return false;
}

static int describe_disk(const char *path, struct tracker_disk *disk, struct err *err)
{
    char name[WHOLEDISK_NAME_MAX];

    if (tracker_whole_disk(path, &disk->dev, err) < 0 || wholedisk_name(disk->dev, name, err) < 0)
        return -1;
    (void)snprintf(disk->path, sizeof(disk->path), "/dev/%s", name);
    for (char *c = disk->path + 5; *c; c++) /* the kernel writes a slash of a name so in sysfs: cciss!c0d0 */
        if (*c == '!')
            *c = '/';
    disk->size_bytes = wholedisk_size_bytes(disk->dev);
    disk->granule_shift = tracker_granule_shift(disk->size_bytes);
    disk->sequence = wholedisk_sequence(disk->dev);
    return 0;
}

int tracker_add(struct tracker *t, const char *path, struct tracker_disk **ret_disk, struct err *err)
{
    AUTO_FREE struct tracker_disk *disk = mem_new(struct tracker_disk);

    if (!disk)
        return err_set(err, ERR_NOMEM, "tracker");
    disk->tracker = t;
    if (t->disk_count == TRACKER_DISKS_MAX)
        return err_set(err, ERR_NOMEM, "more than %u disks", TRACKER_DISKS_MAX);
    if (describe_disk(path, disk, err) < 0)
        return -1;
    if (is_added(t, disk->dev))
        return err_set(err, ERR_EXISTS, "%s is tracked already, as %s", path, disk->path);
    if (t->driver->add(t->state, disk, err) < 0)
        return err_wrap(err, "tracking %s", disk->path);
    *ret_disk = disk;
    t->disks[t->disk_count++] = TAKE_PTR(disk);
    return 0;
}

static int index_of(const struct tracker *t, const struct tracker_disk *disk)
{
    for (size_t i = 0; i < t->disk_count; i++)
        if (t->disks[i] == disk)
            return (int)i;
    return -1;
}

int tracker_remove(struct tracker *t, struct tracker_disk *disk, struct err *err)
{
    int i = index_of(t, disk);

    if (i < 0)
        return err_set(err, ERR_INTERNAL, "removing a disk that is not tracked");
    if (t->driver->remove(t->state, disk, err) < 0)
        return err_wrap(err, "ending to track %s", disk->path);
    t->driver->release(t->state, disk);
    free(disk);
    t->disks[i] = t->disks[--t->disk_count];
    return 0;
}

int tracker_forget_others(struct tracker *t, struct err *err)
{
    return t->driver->forget_others(t->state, t->disks, t->disk_count, err);
}

int tracker_resize(struct tracker *t, struct tracker_disk *disk, struct err *err)
{
    uint64_t now = tracker_disk_actual_bytes(disk);

    if (now == 0)
        return err_set(err, ERR_NOT_FOUND, "%s is gone", disk->path);
    if (now == disk->size_bytes)
        return 0;
    if (t->driver->resize(t->state, disk, now, err) < 0)
        return err_wrap(err, "following %s to its new size", disk->path);
    return 0;
}

dev_t tracker_disk_dev(const struct tracker_disk *disk)
{
    return disk->dev;
}

const char *tracker_disk_path(const struct tracker_disk *disk)
{
    return disk->path;
}

uint64_t tracker_disk_size_bytes(const struct tracker_disk *disk)
{
    return disk->size_bytes;
}

uint64_t tracker_disk_actual_bytes(const struct tracker_disk *disk)
{
    return wholedisk_sequence(disk->dev) == disk->sequence ? wholedisk_size_bytes(disk->dev) : 0;
}

unsigned tracker_disk_granule_shift(const struct tracker_disk *disk)
{
    return disk->granule_shift;
}

void tracker_disk_tag(const struct tracker_disk *disk, struct dirty_tag *ret_tag)
{
    *ret_tag = disk->tag;
}

/* --- draining and counting ------------------------------------------------------------------------------------------ */

static int check_set(const struct tracker_disk *disk, const struct dirty *set, struct err *err)
{
    if (set && (dirty_size_bytes(set) < disk->size_bytes || dirty_granule_shift(set) != disk->granule_shift))
        return err_set(err, ERR_INTERNAL, "a dirty set that does not fit %s", disk->path);
    return 0;
}

int tracker_drain(struct tracker *t, struct tracker_disk *disk, struct dirty *round, struct dirty *pending,
    uint64_t *ret_granules, struct err *err)
{
    if (check_set(disk, round, err) < 0 || check_set(disk, pending, err) < 0)
        return -1;
    return t->driver->drain(t->state, disk, round, pending, ret_granules, err);
}

void tracker_note_read(struct tracker *t, struct tracker_disk *disk, uint64_t start, uint32_t length, const void *data)
{
    if (!t->driver->note_read || start >= disk->size_bytes)
        return;
    if (length > disk->size_bytes - start)
        length = (uint32_t)(disk->size_bytes - start); /* it has grown, and is not followed yet */
    t->driver->note_read(t->state, disk, start, length, data);
}

bool tracker_compares(const struct tracker *t)
{
    return t->driver->compares;
}

uint64_t tracker_barriers(const struct tracker *t)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < t->disk_count; i++)
        sum += t->driver->barriers(t->state, t->disks[i]);
    return sum;
}

bool tracker_barriers_are_countable(const struct tracker *t, struct err *why)
{
    bool all = true;

    for (size_t i = 0; i < t->disk_count; i++)
        all = t->driver->countable(t->state, t->disks[i], all ? why : NULL) && all;
    return all;
}

void tracker_disk_stats(const struct tracker_disk *disk, struct tracker_stats *ret_stats)
{
    memset(ret_stats, 0, sizeof(*ret_stats));
    disk->tracker->driver->stats(disk->tracker->state, disk, ret_stats);
}

bool tracker_disk_is_unknown(const struct tracker_disk *disk)
{
    return disk->tracker->driver->is_unknown(disk->tracker->state, disk);
}

void tracker_disk_acknowledge(struct tracker_disk *disk)
{
    disk->tracker->driver->acknowledge(disk->tracker->state, disk);
}

uint64_t tracker_event_cost_nsec(const struct tracker *t, uint64_t *ret_events)
{
    return t->driver->event_cost_nsec(t->state, ret_events);
}
