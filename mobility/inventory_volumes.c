/* SPDX-License-Identifier: Apache-2.0
 *
 * What lies on the disks: partitions, stacked devices and file systems (libblkid), and where they are mounted
 * (libmount). Mounts keep the order of the mount table, in which a nested mount comes after the one below it:
 * freezing goes in reverse. A superblock that cannot be read leaves the type empty; that is no failure of the
 * inventory. What may wait in the kernel (opening and reading a device, asking a mount point for its room) is a question.
 */
#include "mobility/inventory_sys.h"

#include <blkid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libmount.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#define NAMES_MAX 8192 /* block devices that are looked at */

static void copy_value(blkid_probe probe, const char *name, char *out, size_t out_size)
{
    const char *value;

    if (blkid_probe_lookup_value(probe, name, &value, NULL) == 0 && value)
        snprintf(out, out_size, "%s", value);
}

struct probe_question {
    struct question q; /* first */
    char device[128];
    bool is_disk;
    struct inventory_volume volume; /* its type, UUID and label */
    char table[16];
    int problem;
};

static int probe_device(const char *device, struct inventory_volume *v, char *table, size_t table_size)
{
    int fd AUTO_CLOSE = open(device, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    blkid_probe probe;

    if (fd < 0)
        return errno;
    probe = blkid_new_probe();
    if (!probe)
        return ENOMEM;
    if (blkid_probe_set_device(probe, fd, 0, 0) == 0) {
        blkid_probe_enable_superblocks(probe, 1);
        blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID | BLKID_SUBLKS_LABEL);
        blkid_probe_enable_partitions(probe, table != NULL);
        if (blkid_do_safeprobe(probe) == 0) {
            copy_value(probe, "TYPE", v->fs_type, sizeof(v->fs_type));
            copy_value(probe, "UUID", v->fs_uuid, sizeof(v->fs_uuid));
            copy_value(probe, "LABEL", v->label, sizeof(v->label));
            if (table)
                copy_value(probe, "PTTYPE", table, table_size);
        }
    }
    blkid_free_probe(probe);
    return 0;
}

static void probe_asked(struct question *q)
{
    struct probe_question *p = (struct probe_question *)q;

    p->problem = probe_device(p->device, &p->volume, p->is_disk ? p->table : NULL, p->is_disk ? sizeof(p->table) : 0);
}

/* Looks what lies on v->device. d: it is a whole disk. 0; the errno when it cannot be opened; ETIMEDOUT when `whom`, the device or the disk
 * that it is a part of, does not answer. */
static int look(struct inventory *inv, const char *whom, struct inventory_volume *v, struct inventory_disk *d)
{
    struct probe_question *p = mem_new(struct probe_question);
    int problem;

    if (!p)
        return ENOMEM;
    p->q.ask = probe_asked;
    p->is_disk = d != NULL;
    snprintf(p->device, sizeof(p->device), "%s", v->device);
    if (!inventory_ask(inv, &p->q, whom))
        return ETIMEDOUT;
    memcpy(v->fs_type, p->volume.fs_type, sizeof(v->fs_type));
    memcpy(v->fs_uuid, p->volume.fs_uuid, sizeof(v->fs_uuid));
    memcpy(v->label, p->volume.label, sizeof(v->label));
    if (d)
        memcpy(d->table, p->table, sizeof(d->table));
    problem = p->problem;
    free(p);
    return problem;
}

static int add_volume(struct inventory_disk *d, const struct inventory_volume *v, struct err *err)
{
    struct inventory_volume *grown;

    if (d->volume_count == INVENTORY_VOLUMES_MAX)
        return 0;
    grown = mem_resize(d->volumes, d->volume_count + 1, sizeof(*grown));
    if (!grown)
        return err_set(err, ERR_NOMEM, "no memory for the volumes of %s", d->device);
    d->volumes = grown;
    d->volumes[d->volume_count++] = *v;
    return 0;
}

static int add_to_set(
    struct inventory *inv, const struct inventory_set *set, const struct inventory_volume *v, struct err *err)
{
    for (size_t i = 0; i < inv->disk_count; i++)
        if (inventory_set_has(set, i) && add_volume(&inv->disks[i], v, err) < 0)
            return -1;
    return 0;
}

static int add_whole_disk(struct inventory *inv, struct inventory_disk *d, struct err *err)
{
    struct inventory_volume v = {.devno = d->devno, .length_bytes = d->size_bytes};
    int problem;

    snprintf(v.device, sizeof(v.device), "%s", d->device);
    problem = look(inv, d->device, &v, d);
    if (problem != 0 && d->trackable) {
        d->trackable = false;
        if (problem == ETIMEDOUT)
            snprintf(d->reason, sizeof(d->reason), "%s does not answer when it is read", d->name);
        else
            snprintf(d->reason, sizeof(d->reason), "%s cannot be read: %s", d->name, strerror(problem));
    }
    return v.fs_type[0] ? add_volume(d, &v, err) : 0;
}

/* Partitions and stacked devices; whole disks come through add_whole_disk. */
static int add_device(const struct inventory_source *src, struct inventory *inv, const char *name, struct err *err)
{
    bool stacked = sys_is_stacked(src, name), partition = sys_attr_exists(src, name, "partition");
    struct inventory_set set = {0};
    struct inventory_volume v = {0};
    char parent[SYS_NAME_MAX], whom[QUESTION_WHOM_MAX];

    if (!stacked && !partition)
        return 0;
    sys_bottom_disks(src, inv, name, &set);
    sys_parent(src, name, parent);
    if (partition && !sys_is_stacked(src, parent)) {
        v.start_bytes = sys_attr_u64(src, name, "start") * 512;
        v.length_bytes = sys_attr_u64(src, name, "size") * 512;
    }
    v.devno = sys_devno(src, name);
    sys_device_path(src, name, v.device, sizeof(v.device));
    sys_device_path(src, parent, whom, sizeof(whom));
    (void)look(inv, whom, &v, NULL);
    return add_to_set(inv, &set, &v, err);
}

static int by_version(const void *a, const void *b)
{
    return strverscmp((const char *)a, (const char *)b);
}

static int scan_devices(const struct inventory_source *src, struct inventory *inv, struct err *err)
{
    char(*names)[SYS_NAME_MAX] AUTO_FREE = mem_alloc(NAMES_MAX, SYS_NAME_MAX);
    char path[PATH_MAX];
    size_t count = 0;
    DIR *dir;

    if (!names)
        return err_set(err, ERR_NOMEM, "no memory for the names of block devices");
    snprintf(path, sizeof(path), "%s/class/block", src->sys);
    dir = opendir(path);
    if (!dir)
        return err_sys(err, errno, "listing %s", path);
    for (struct dirent *e; count < NAMES_MAX && (e = readdir(dir));)
        if (e->d_name[0] != '.' && strlen(e->d_name) < SYS_NAME_MAX)
            strcpy(names[count++], e->d_name);
    closedir(dir);
    qsort(names, count, SYS_NAME_MAX, by_version);
    for (size_t i = 0; i < inv->disk_count; i++)
        if (add_whole_disk(inv, &inv->disks[i], err) < 0)
            return -1;
    for (size_t i = 0; i < count; i++)
        if (add_device(src, inv, names[i], err) < 0)
            return -1;
    return 0;
}

/* ---- mounts ---- */

static bool volume_matches(const struct inventory_volume *v, dev_t devno, const char *btrfs_uuid)
{
    return v->devno == devno ||
           (btrfs_uuid[0] && strcmp(v->fs_type, "btrfs") == 0 && strcmp(v->fs_uuid, btrfs_uuid) == 0);
}

static int add_mount_point(struct inventory_volume *v, const char *path, uint64_t used, struct err *err)
{
    char **grown = mem_resize(v->mount_points, v->mount_count + 1, sizeof(*grown));

    if (!grown)
        return err_set(err, ERR_NOMEM, "no memory for mount points");
    v->mount_points = grown;
    v->mount_points[v->mount_count] = mem_strdup(path);
    if (!v->mount_points[v->mount_count])
        return err_set(err, ERR_NOMEM, "no memory for mount points");
    v->mount_count++;
    v->used_bytes = used;
    return 0;
}

/* Where the superblock could not be read, the mount table still knows what is mounted. */
static int add_unread_volume(struct inventory_disk *d, dev_t source, const char *type, struct err *err)
{
    struct inventory_volume v = {.devno = source, .length_bytes = d->size_bytes};

    for (size_t i = 0; i < d->volume_count; i++)
        if (d->volumes[i].devno == source) {
            struct inventory_volume *known = &d->volumes[i];
            if (!known->fs_type[0])
                snprintf(known->fs_type, sizeof(known->fs_type), "%s", type ? type : "");
            return 0;
        }
    if (d->devno != source)
        return 0;
    snprintf(v.device, sizeof(v.device), "%s", d->device);
    snprintf(v.fs_type, sizeof(v.fs_type), "%s", type ? type : "");
    return add_volume(d, &v, err);
}

/* A btrfs may lie on several devices, of which the mount table names one: all that carry its UUID belong to
 * it. */
static void btrfs_uuid_of(const struct inventory *inv, dev_t source, char *out, size_t out_size)
{
    out[0] = '\0';
    for (size_t i = 0; i < inv->disk_count; i++)
        for (size_t j = 0; j < inv->disks[i].volume_count; j++)
            if (inv->disks[i].volumes[j].devno == source) {
                snprintf(out, out_size, "%s", inv->disks[i].volumes[j].fs_uuid);
                return;
            }
}

struct room_question {
    struct question q; /* first */
    char path[PATH_MAX];
    uint64_t used_bytes;
};

static void room_asked(struct question *q)
{
    struct room_question *r = (struct room_question *)q;
    struct statvfs s;

    if (statvfs(r->path, &s) == 0 && s.f_blocks >= s.f_bfree)
        r->used_bytes = (uint64_t)(s.f_blocks - s.f_bfree) * s.f_frsize;
}

/* It is not only the disk that may not answer: another file system may be mounted over the mount point, or hold it. */
static uint64_t used_bytes(struct inventory *inv, const char *path)
{
    struct room_question *r = mem_new(struct room_question);
    uint64_t used;

    if (!r)
        return 0;
    r->q.ask = room_asked;
    snprintf(r->path, sizeof(r->path), "%s", path);
    if (!inventory_ask(inv, &r->q, path))
        return 0;
    used = r->used_bytes;
    free(r);
    return used;
}

/* Adds the mount point to each volume that the file system lies on; *ret_disks tells which disks these are.
 */
static int mark_volumes(
    struct inventory *inv, struct libmnt_fs *fs, dev_t source, struct inventory_set *ret_disks, struct err *err)
{
    const char *target = mnt_fs_get_target(fs), *type = mnt_fs_get_fstype(fs);
    char uuid[64] = "";
    uint64_t used = 0;

    if (type && strcmp(type, "btrfs") == 0)
        btrfs_uuid_of(inv, source, uuid, sizeof(uuid));
    for (size_t i = 0; i < inv->disk_count; i++) {
        struct inventory_disk *d = &inv->disks[i];

        if (add_unread_volume(d, source, type, err) < 0)
            return -1;
        for (size_t j = 0; j < d->volume_count; j++) {
            if (!volume_matches(&d->volumes[j], source, uuid))
                continue;
            if (used == 0)
                used = used_bytes(inv, target);
            if (add_mount_point(&d->volumes[j], target, used, err) < 0)
                return -1;
            inventory_set_add(ret_disks, i);
            d->is_root = d->is_root || strcmp(target, "/") == 0;
        }
    }
    return 0;
}

static bool mount_is_known(const struct inventory *inv, dev_t devno)
{
    for (size_t i = 0; i < inv->mount_count; i++)
        if (inv->mounts[i].devno == devno)
            return true;
    return false;
}

static int add_mount(struct inventory *inv, struct libmnt_fs *fs, const struct inventory_set *disks, struct err *err)
{
    static const struct inventory_set none;
    struct inventory_mount *m;
    const char *type = mnt_fs_get_fstype(fs), *options = mnt_fs_get_fs_options(fs);

    if (memcmp(disks, &none, sizeof(none)) == 0 || inv->mount_count == INVENTORY_MOUNTS_MAX ||
        mount_is_known(inv, mnt_fs_get_devno(fs)))
        return 0;
    m = mem_resize(inv->mounts, inv->mount_count + 1, sizeof(*m));
    if (!m)
        return err_set(err, ERR_NOMEM, "no memory for the list of mounts");
    inv->mounts = m;
    m = &inv->mounts[inv->mount_count];
    *m = (struct inventory_mount){.devno = mnt_fs_get_devno(fs), .disks = *disks};
    m->path = mem_strdup(mnt_fs_get_target(fs));
    if (!m->path)
        return err_set(err, ERR_NOMEM, "no memory for the list of mounts");
    snprintf(m->fs_type, sizeof(m->fs_type), "%s", type ? type : "");
    m->read_only = options && mnt_optstr_get_option(options, "ro", NULL, NULL) == 0;
    inv->mount_count++;
    return 0;
}

/* The block device below a mount: its own number, or for file systems with an anonymous one (btrfs) that of
 * the source. What is not below /dev is no device, and may lie where nobody answers. */
static dev_t mount_source(const struct inventory_source *src, struct libmnt_fs *fs)
{
    const char *path = mnt_fs_get_srcpath(fs);
    dev_t devno = mnt_fs_get_devno(fs);
    size_t n = strlen(src->dev);
    struct stat st;

    if (major(devno) != 0)
        return devno;
    if (!path || strncmp(path, src->dev, n) != 0 || path[n] != '/')
        return 0;
    return stat(path, &st) == 0 && S_ISBLK(st.st_mode) ? st.st_rdev : 0;
}

static int scan_mounts(const struct inventory_source *src, struct inventory *inv, struct err *err)
{
    struct libmnt_table *table = mnt_new_table_from_file(src->mountinfo);
    struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
    struct libmnt_fs *fs;
    int r = 0;

    if (!table || !iter)
        r = err_set(err, ERR_IO, "reading the mount table %s", src->mountinfo);
    while (r == 0 && mnt_table_next_fs(table, iter, &fs) == 0) {
        struct inventory_set disks = {0};
        dev_t source = mount_source(src, fs);

        if (source == 0 || !mnt_fs_get_target(fs))
            continue;
        r = mark_volumes(inv, fs, source, &disks, err);
        if (r == 0)
            r = add_mount(inv, fs, &disks, err);
    }
    mnt_free_iter(iter);
    mnt_unref_table(table);
    return r;
}

int inventory_add_volumes(const struct inventory_source *src, struct inventory *inv, struct err *err)
{
    return scan_devices(src, inv, err) < 0 || scan_mounts(src, inv, err) < 0 ? -1 : 0;
}
