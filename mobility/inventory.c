/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of whole disks. Happy path: walk sysfs' list of block devices, keep those that lie on nothing
 * else, give each a key that survives a reboot, decide whether its writes can be seen, then let
 * inventory_volumes.c add what lies on them. A disk that vanishes during the walk is left out.
 */
#include "mobility/inventory.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "mobility/inventory_sys.h"
#include "transport/base/clock.h"

/* A disk that is merely slow answers in this time (one that spins up does so later, and is found by the next scan). Once so long was waited
 * for one, the others get less: where many hang, as the disks of one array do, the rest must be known soon. An agent may be starting beside them. */
#define ANSWER_USEC (5 * USEC_PER_SEC)
#define NEXT_ANSWER_USEC (1 * USEC_PER_SEC)
#define LATER_ANSWER_USEC (100 * USEC_PER_MSEC)
#define PATIENCE_USEC (8 * USEC_PER_SEC) /* in all, before only the later answers' time is left */

/* Not disks of a machine: memory, optical and floppy drives; dm and md without slaves hold nothing. */
static const char *const not_disks[] = {"ram", "sr", "fd", "dm-", "md", "mtdblock"};

bool inventory_set_has(const struct inventory_set *set, size_t disk_index)
{
    return disk_index < INVENTORY_DISKS_MAX && (set->bits[disk_index / 64] >> (disk_index % 64) & 1) != 0;
}

void inventory_set_add(struct inventory_set *set, size_t disk_index)
{
    if (disk_index < INVENTORY_DISKS_MAX)
        set->bits[disk_index / 64] |= UINT64_C(1) << (disk_index % 64);
}

bool inventory_set_overlaps(const struct inventory_set *a, const struct inventory_set *b)
{
    for (size_t i = 0; i < ARRAY_LEN(a->bits); i++)
        if (a->bits[i] & b->bits[i])
            return true;
    return false;
}

static bool has_prefix(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_disk(const struct inventory_source *src, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(not_disks); i++)
        if (has_prefix(name, not_disks[i]))
            return false;
    return sys_attr_u64(src, name, "size") > 0 && !sys_attr_exists(src, name, "partition") &&
           sys_attr_u64(src, name, "hidden") == 0 && !sys_is_stacked(src, name);
}

/* ---- questions ---- */

static uint64_t patience_usec(const struct inventory *inv)
{
    if (!inv->unanswered[0])
        return ANSWER_USEC;
    return inv->waited_usec < PATIENCE_USEC ? NEXT_ANSWER_USEC : LATER_ANSWER_USEC;
}

bool inventory_ask(struct inventory *inv, struct question *q, const char *whom)
{
    uint64_t began = clock_mono_usec();

    if (question_put(q, whom, patience_usec(inv)))
        return true;
    inv->waited_usec += clock_mono_usec() - began; /* nothing where an earlier question is still open */
    if (!inv->unanswered[0])
        snprintf(inv->unanswered, sizeof(inv->unanswered), "%s", whom);
    return false;
}

struct attr_question {
    struct question q; /* first */
    char path[512], text[200];
};

static void read_asked(struct question *q)
{
    struct attr_question *a = (struct attr_question *)q;

    sys_read(a->path, a->text, sizeof(a->text));
}

/* As sys_attr. False: the device does not answer. */
static bool ask_attr(const struct inventory_source *src, struct inventory *inv, const struct inventory_disk *d,
    const char *attr, char *out, size_t out_size)
{
    struct attr_question *a;

    out[0] = '\0';
    if (!sys_attr_exists(src, d->name, attr) || !(a = mem_new(struct attr_question)))
        return true;
    a->q.ask = read_asked;
    snprintf(a->path, sizeof(a->path), "%s/class/block/%s/%s", src->sys, d->name, attr);
    if (!inventory_ask(inv, &a->q, d->device))
        return false;
    snprintf(out, out_size, "%s", a->text);
    free(a);
    return true;
}

/* ---- one disk ---- */

/* wwid and serial stay with the disk wherever it is plugged in; a loop disk is its backing file; the kernel's
 * name is the last resort (and right for the single virtual disk of a cloud machine). virtio asks the device for its serial
 * whenever it is read. */
static void make_key(const struct inventory_source *src, struct inventory *inv, struct inventory_disk *d)
{
    static const struct {
        const char *attr, *kind;
        bool asks;
    } rows[] = {{"wwid", "wwid", false}, {"device/wwid", "wwid", false}, {"serial", "serial", true},
        {"device/serial", "serial", false}};
    char text[200];

    if (d->is_loop) {
        snprintf(d->key, sizeof(d->key), "loop:%.*s", (int)sizeof(d->key) - 6, d->backing_file);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (!rows[i].asks)
            sys_attr(src, d->name, rows[i].attr, text, sizeof(text));
        else if (!ask_attr(src, inv, d, rows[i].attr, text, sizeof(text)))
            snprintf(d->reason, sizeof(d->reason), "%s does not tell its serial number", d->name);
        if (text[0]) {
            snprintf(d->key, sizeof(d->key), "%s:%s", rows[i].kind, text);
            return;
        }
    }
    snprintf(d->key, sizeof(d->key), "dev:%s", d->name);
}

/* Request events, by which changes are seen, exist for blk-mq queues only. A loop disk that cannot be written (each package that snapd mounts is one, and is
 * gone with its next revision) holds nothing that does not come along with its file. */
static void judge_trackable(const struct inventory_source *src, struct inventory_disk *d)
{
    char map[SYS_NAME_MAX];

    if (!sys_attr_exists(src, d->name, "mq")) {
        snprintf(
            d->reason, sizeof(d->reason), "%s has no request queue (blk-mq), so its writes cannot be seen", d->name);
        return;
    }
    if (sys_attr_u64(src, d->name, "queue/dax") != 0) {
        snprintf(d->reason, sizeof(d->reason), "%s can be written past the block layer (DAX)", d->name);
        return;
    }
    if (sys_is_path(src, d->name, map)) {
        snprintf(d->reason, sizeof(d->reason),
            "%.32s is one path of %.48s (multipath), and does not see what is written by the others", d->name, map);
        return;
    }
    if (d->is_loop && sys_attr_u64(src, d->name, "ro") != 0) {
        snprintf(d->reason, sizeof(d->reason),
            "%.32s is read-only: what it shows comes with the disk that its file lies on", d->name);
        return;
    }
    d->trackable = true;
}

static void fill_disk(
    const struct inventory_source *src, struct inventory *inv, const char *name, struct inventory_disk *d)
{
    char text[64];

    snprintf(d->name, sizeof(d->name), "%s", name);
    sys_device_path(src, name, d->device, sizeof(d->device));
    d->devno = sys_devno(src, name);
    d->sequence = sys_attr_u64(src, name, "diskseq"); /* first: what changes behind the name from here on is noticed */
    d->size_bytes = sys_attr_u64(src, name, "size") * 512;
    d->logical_sector_bytes = (uint32_t)sys_attr_u64(src, name, "queue/logical_block_size");
    d->physical_sector_bytes = (uint32_t)sys_attr_u64(src, name, "queue/physical_block_size");
    if (d->logical_sector_bytes == 0)
        d->logical_sector_bytes = 512;
    if (d->physical_sector_bytes == 0)
        d->physical_sector_bytes = d->logical_sector_bytes;
    sys_attr(src, name, "device/model", d->model, sizeof(d->model));
    sys_attr(src, name, "queue/write_cache", text, sizeof(text));
    d->volatile_cache = strcmp(text, "write back") == 0;
    sys_attr(src, name, "loop/backing_file", d->backing_file, sizeof(d->backing_file));
    d->is_loop = d->backing_file[0] != '\0';
    make_key(src, inv, d);
    if (!d->reason[0]) /* else the key is not its own */
        judge_trackable(src, d);
}

static int by_name(const void *a, const void *b)
{
    return strverscmp(((const struct inventory_disk *)a)->name, ((const struct inventory_disk *)b)->name);
}

static void key_by_name(struct inventory_disk *d)
{
    snprintf(d->key, sizeof(d->key), "dev:%s", d->name);
}

/* Two disks with one key (paths of a multipath disk, cheap serials) are told apart by name; of two loop disks
 * over one file the first keeps the key. */
static void split_twins(struct inventory *inv)
{
    for (size_t i = 0; i < inv->disk_count; i++) {
        bool twin = false;

        for (size_t j = i + 1; j < inv->disk_count; j++) {
            if (strcmp(inv->disks[i].key, inv->disks[j].key) != 0)
                continue;
            twin = true;
            key_by_name(&inv->disks[j]);
        }
        if (twin && !inv->disks[i].is_loop)
            key_by_name(&inv->disks[i]);
    }
}

static int scan_disks(const struct inventory_source *src, struct inventory *inv, struct err *err)
{
    char path[PATH_MAX];
    DIR *dir;

    snprintf(path, sizeof(path), "%s/block", src->sys);
    dir = opendir(path);
    if (!dir)
        return err_sys(err, errno, "listing %s", path);
    inv->disks = mem_alloc(INVENTORY_DISKS_MAX, sizeof(*inv->disks));
    for (struct dirent *e; inv->disks && (e = readdir(dir));) {
        if (e->d_name[0] == '.' || strlen(e->d_name) >= SYS_NAME_MAX || !is_disk(src, e->d_name))
            continue;
        if (inv->disk_count == INVENTORY_DISKS_MAX) {
            inv->truncated = true;
            break;
        }
        fill_disk(src, inv, e->d_name, &inv->disks[inv->disk_count++]);
    }
    closedir(dir);
    if (!inv->disks)
        return err_set(err, ERR_NOMEM, "no memory for the list of disks");
    qsort(inv->disks, inv->disk_count, sizeof(*inv->disks), by_name);
    split_twins(inv);
    return 0;
}

int inventory_scan(const struct inventory_source *source, struct inventory **ret_inventory, struct err *err)
{
    struct inventory_source src = inventory_source_full(source);
    struct inventory *inv AUTO_OF(inventory) = mem_new(struct inventory);

    if (!inv)
        return err_set(err, ERR_NOMEM, "no memory for the inventory");
    atomic_init(&inv->references, 1);
    if (scan_disks(&src, inv, err) < 0 || inventory_add_volumes(&src, inv, err) < 0)
        return -1;
    *ret_inventory = TAKE_PTR(inv);
    return 0;
}

static void free_volumes(struct inventory_disk *d)
{
    for (size_t i = 0; i < d->volume_count; i++) {
        for (size_t j = 0; j < d->volumes[i].mount_count; j++)
            free(d->volumes[i].mount_points[j]);
        free(d->volumes[i].mount_points);
    }
    free(d->volumes);
}

struct inventory *inventory_ref(struct inventory *inv)
{
    (void)atomic_fetch_add(&inv->references, 1);
    return inv;
}

void inventory_free(struct inventory *inv)
{
    if (!inv || atomic_fetch_sub(&inv->references, 1) > 1)
        return;
    for (size_t i = 0; i < inv->disk_count; i++)
        free_volumes(&inv->disks[i]);
    free(inv->disks);
    for (size_t i = 0; i < inv->mount_count; i++)
        free(inv->mounts[i].path);
    free(inv->mounts);
    free(inv);
}

const struct inventory_disk *inventory_find(const struct inventory *inv, const char *key)
{
    for (size_t i = 0; inv && i < inv->disk_count; i++)
        if (strcmp(inv->disks[i].key, key) == 0)
            return &inv->disks[i];
    return NULL;
}

/* btrfs shows another device number in stat() than in the mount table: there the path itself decides. */
static const struct inventory_mount *mount_above(const struct inventory *inv, const char *path)
{
    const struct inventory_mount *best = NULL;
    char real[PATH_MAX];
    size_t best_length = 0;

    if (!realpath(path, real))
        return NULL;
    for (size_t i = 0; i < inv->mount_count; i++) {
        size_t n = strlen(inv->mounts[i].path);

        if (strncmp(real, inv->mounts[i].path, n) == 0 && (real[n] == '/' || real[n] == '\0') && n >= best_length) {
            best = &inv->mounts[i];
            best_length = n;
        }
    }
    return best;
}

void inventory_disks_of_path(
    const struct inventory *inv, const struct inventory_source *source, const char *path, struct inventory_set *ret_set)
{
    struct inventory_source src = inventory_source_full(source);
    const struct inventory_mount *above;
    char name[SYS_NAME_MAX];
    struct stat st;

    *ret_set = (struct inventory_set){0};
    if (stat(path, &st) < 0)
        return;
    for (size_t i = 0; i < inv->mount_count; i++)
        if (inv->mounts[i].devno == st.st_dev) {
            *ret_set = inv->mounts[i].disks;
            return;
        }
    above = major(st.st_dev) == 0 ? mount_above(inv, path) : NULL;
    if (above && strcmp(above->fs_type, "btrfs") == 0)
        *ret_set = above->disks;
    else if (sys_name_of_devno(&src, st.st_dev, name) == 0)
        sys_bottom_disks(&src, inv, name, ret_set);
}

void inventory_disks_below(const struct inventory *inv, const struct inventory_source *source,
    const struct inventory_disk *disk, struct inventory_set *ret_set)
{
    *ret_set = (struct inventory_set){0};
    if (disk->is_loop)
        inventory_disks_of_path(inv, source, disk->backing_file, ret_set);
}

static bool volume_equal(const struct inventory_volume *a, const struct inventory_volume *b)
{
    if (strcmp(a->device, b->device) != 0 || a->start_bytes != b->start_bytes || a->length_bytes != b->length_bytes ||
        strcmp(a->fs_type, b->fs_type) != 0 || strcmp(a->fs_uuid, b->fs_uuid) != 0 || strcmp(a->label, b->label) != 0 ||
        a->mount_count != b->mount_count)
        return false;
    for (size_t i = 0; i < a->mount_count; i++)
        if (strcmp(a->mount_points[i], b->mount_points[i]) != 0)
            return false;
    return true;
}

static bool disk_equal(const struct inventory_disk *a, const struct inventory_disk *b)
{
    if (strcmp(a->key, b->key) != 0 || strcmp(a->device, b->device) != 0 || a->size_bytes != b->size_bytes ||
        a->trackable != b->trackable || a->volatile_cache != b->volatile_cache || a->is_root != b->is_root ||
        strcmp(a->table, b->table) != 0 || a->volume_count != b->volume_count)
        return false;
    for (size_t i = 0; i < a->volume_count; i++)
        if (!volume_equal(&a->volumes[i], &b->volumes[i]))
            return false;
    return true;
}

bool inventory_disk_is_current(const struct inventory_disk *d)
{
    static const struct inventory_source real = {.sys = "/sys"};

    return sys_attr_u64(&real, d->name, "diskseq") == d->sequence;
}

bool inventory_equal(const struct inventory *a, const struct inventory *b)
{
    if (a->disk_count != b->disk_count)
        return false;
    for (size_t i = 0; i < a->disk_count; i++)
        if (!disk_equal(&a->disks[i], &b->disks[i]))
            return false;
    return true;
}
