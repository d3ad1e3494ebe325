/* SPDX-License-Identifier: Apache-2.0
 *
 * Asking disks for their size. Failure modes: a disk that vanishes while it is asked is one that is not there; a sandbox that keeps
 * sysfs read-only is said, with what to do.
 */
#include "mobility/disksize.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "transport/base/file.h"
#include "transport/base/ident.h"
#include "transport/loop/worker.h"

#define WAITING_MAX 16

/* ---- asking one disk ---- */

static int cannot_ask(const struct inventory_disk *disk, int problem, struct err *err)
{
    if (problem == ENOENT || problem == ENODEV || problem == ENXIO)
        return err_set(err, ERR_NOT_FOUND, "the disk %s has vanished", disk->key);
    err_sys(err, problem, "asking %s for its size", disk->device);
    return err_hint(err, "Have the kernel look by hand, as the disk's maker says; the agent follows by itself.");
}

static int ask_loop(const struct inventory_disk *disk, struct err *err)
{
    int fd AUTO_CLOSE = open(disk->device, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    return fd < 0 || ioctl(fd, LOOP_SET_CAPACITY, 0) < 0 ? cannot_ask(disk, errno, err) : 0;
}

/* 0 too where the disk has no such attribute: then the kernel hears of a new size by itself. */
static int ask_sysfs(const char *sys, const struct inventory_disk *disk, struct err *err)
{
    static const char *const attributes[] = {"rescan", "rescan_controller"};
    char path[512];

    for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
        snprintf(path, sizeof(path), "%s/class/block/%s/device/%s", sys, disk->name, attributes[i]);
        int fd AUTO_CLOSE = open(path, O_WRONLY | O_CLOEXEC);

        if (fd < 0 && errno == ENOENT)
            continue;
        return fd < 0 || write(fd, "1", 1) != 1 ? cannot_ask(disk, errno, err) : 0;
    }
    return 0;
}

static int ask(const char *sys, const struct inventory_disk *disk, struct err *err)
{
    return disk->is_loop ? ask_loop(disk, err) : ask_sysfs(sys, disk, err);
}

/* ---- all of them ---- */

static const struct inventory_disk *need(const struct inventory *inventory, const char *key, struct err *err)
{
    const struct inventory_disk *disk = inventory_find(inventory, key);

    if (!disk) {
        err_set(err, ERR_NOT_FOUND, "the disk %s is not there", key);
        err_hint(err, "Attach it again, or leave it out: leeward disk exclude MACHINE KEY");
    }
    return disk;
}

static int ask_all(const char *sys, const struct inventory *inventory, char *const *keys, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct inventory_disk *disk = need(inventory, keys[i], err);

        if (!disk || ask(sys, disk, err) < 0)
            return -1;
    }
    return 0;
}

static int add_row(json_t *rows, const struct inventory_disk *before, const struct inventory_disk *now, struct err *err)
{
    char old_size[24], size[24];

    snprintf(old_size, sizeof(old_size), "%" PRIu64, before->size_bytes);
    snprintf(size, sizeof(size), "%" PRIu64, now->size_bytes);
    return json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:s}", "key", now->key, "device", now->device,
                                           "before_bytes", old_size, "size_bytes", size)) < 0
               ? err_set(err, ERR_NOMEM, "no memory for sizes")
               : 0;
}

int disksize_look(
    const struct inventory_source *source, char *const *keys, size_t count, json_t **ret_answer, struct err *err)
{
    struct inventory *before AUTO_OF(inventory) = NULL;
    struct inventory *now AUTO_OF(inventory) = NULL;
    json_t *rows;

    if (inventory_scan(source, &before, err) < 0 ||
        ask_all(source && source->sys ? source->sys : "/sys", before, keys, count, err) < 0 ||
        inventory_scan(source, &now, err) < 0)
        return -1;
    rows = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct inventory_disk *disk = need(now, keys[i], err);

        if (!disk || add_row(rows, inventory_find(before, keys[i]), disk, err) < 0) {
            json_decref(rows);
            return -1;
        }
    }
    *ret_answer = json_pack("{s:o}", "disks", rows);
    return *ret_answer ? 0 : err_set(err, ERR_NOMEM, "no memory for sizes");
}

/* ---- requests ---- */

struct disksize {
    struct worker_pool *pool;
    disksize_done *done;
    void *arg;
    bool closing;
};

struct request {
    struct worker_job job; /* first */
    struct disksize *owner;
    char command_id[IDENT_TEXT_SIZE];
    char **keys;
    size_t count;
    char *answer;
    struct err err;
};

static void request_free(struct request *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->keys[i]);
    free(r->keys);
    free(r->answer);
    free(r);
}

static void request_run(struct worker_job *job)
{
    struct request *r = (struct request *)job;
    json_t *answer = NULL;

    if (disksize_look(NULL, r->keys, r->count, &answer, &r->err) < 0)
        return;
    r->answer = json_dumps(answer, JSON_COMPACT);
    json_decref(answer);
    if (!r->answer)
        (void)err_set(&r->err, ERR_NOMEM, "no memory for sizes");
}

static void request_done(struct worker_job *job)
{
    struct request *r = (struct request *)job;

    if (!r->owner->closing)
        r->owner->done(r->owner->arg, r->command_id, r->answer ? NULL : &r->err, r->answer);
    request_free(r);
}

int disksize_new(sd_event *loop, disksize_done *done, void *arg, struct disksize **ret_disksize, struct err *err)
{
    struct disksize *d = mem_new(struct disksize);

    if (!d)
        return err_set(err, ERR_NOMEM, "no memory for asking disks");
    d->done = done;
    d->arg = arg;
    if (worker_pool_new(loop, "disksize", 1, WAITING_MAX, &d->pool, err) < 0) {
        free(d);
        return -1;
    }
    *ret_disksize = d;
    return 0;
}

void disksize_free(struct disksize *d)
{
    if (!d)
        return;
    d->closing = true;
    worker_pool_free(d->pool);
    free(d);
}

int disksize_ask(struct disksize *d, const char *command_id, char *const *keys, size_t count, struct err *err)
{
    struct request *r;

    if (count == 0 || count > DISKSIZE_KEYS_MAX)
        return err_set(err, ERR_INVALID, "%zu disks cannot be asked for their size at once", count);
    r = mem_new(struct request);
    if (!r)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    r->job = (struct worker_job){.run = request_run, .done = request_done};
    r->owner = d;
    r->err = (struct err)ERR_INIT;
    snprintf(r->command_id, sizeof(r->command_id), "%s", command_id);
    r->keys = mem_alloc(count, sizeof(*r->keys));
    for (; r->keys && r->count < count && (r->keys[r->count] = mem_strdup(keys[r->count])); r->count++)
        ;
    if (r->count == count && worker_submit(d->pool, &r->job, err) == 0)
        return 0;
    if (r->count < count)
        (void)err_set(err, ERR_NOMEM, "no memory for a request");
    request_free(r);
    return -1;
}
