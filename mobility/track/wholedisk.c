/* SPDX-License-Identifier: Apache-2.0
 *
 * Small reads below /sys/dev/block/MAJOR:MINOR. Sources: Documentation/ABI/stable/sysfs-block; `mq` exists for disks whose
 * driver takes requests (blk-mq); `partition` for partitions; `slaves` for stacked devices, `holders` for those on top; their uuid begins with
 * what they are for (Documentation/ABI/testing/sysfs-block-dm).
 */
#include "mobility/track/wholedisk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "transport/base/ident.h"
#include "transport/base/mem.h"

#define PATH_BYTES 160
#define HOLDER_LEVELS 8 /* of LVM, md and dm over each other that are looked through */

static void sys_path(dev_t dev, const char *leaf, char path[PATH_BYTES])
{
    (void)snprintf(path, PATH_BYTES, "/sys/dev/block/%u:%u%s%s", major(dev), minor(dev), *leaf ? "/" : "", leaf);
}

/* First line of a small file, without its newline. */
static int read_line(const char *path, char *out, size_t size)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);

    if (n < 0)
        return -1;
    out[n] = '\0';
    out[strcspn(out, "\n")] = '\0';
    return 0;
}

static int read_attribute(dev_t dev, const char *leaf, char *out, size_t size)
{
    char path[PATH_BYTES];

    sys_path(dev, leaf, path);
    return read_line(path, out, size);
}

static uint64_t read_number(dev_t dev, const char *leaf)
{
    char text[32];

    return read_attribute(dev, leaf, text, sizeof(text)) < 0 ? 0 : strtoull(text, NULL, 10);
}

static bool has_entry(dev_t dev, const char *leaf)
{
    char path[PATH_BYTES];

    sys_path(dev, leaf, path);
    return access(path, F_OK) == 0;
}

int wholedisk_of(dev_t dev, dev_t *ret_disk, struct err *err)
{
    char text[32];
    unsigned ma, mi;

    if (!has_entry(dev, ""))
        return err_set(err, ERR_NOT_FOUND, "there is no block device %u:%u", major(dev), minor(dev));
    if (!has_entry(dev, "partition")) {
        *ret_disk = dev;
        return 0;
    }
    if (read_attribute(dev, "../dev", text, sizeof(text)) < 0 || sscanf(text, "%u:%u", &ma, &mi) != 2)
        return err_set(err, ERR_NOT_FOUND, "the disk of partition %u:%u is gone", major(dev), minor(dev));
    *ret_disk = makedev(ma, mi);
    return 0;
}

int wholedisk_name(dev_t disk, char name[WHOLEDISK_NAME_MAX], struct err *err)
{
    char path[PATH_BYTES], target[512];
    const char *slash;
    ssize_t n;

    sys_path(disk, "", path);
    n = readlink(path, target, sizeof(target) - 1);
    if (n < 0)
        return err_set(err, ERR_NOT_FOUND, "there is no block device %u:%u", major(disk), minor(disk));
    target[n] = '\0';
    slash = strrchr(target, '/');
    (void)snprintf(name, WHOLEDISK_NAME_MAX, "%.*s", WHOLEDISK_NAME_MAX - 1, slash ? slash + 1 : target);
    return 0;
}

uint64_t wholedisk_size_bytes(dev_t disk)
{
    return read_number(disk, "size") * 512;
}

uint64_t wholedisk_sequence(dev_t disk)
{
    return read_number(disk, "diskseq");
}

bool wholedisk_has_write_cache(dev_t disk)
{
    char text[32];

    return read_attribute(disk, "queue/write_cache", text, sizeof(text)) == 0 && strcmp(text, "write back") == 0;
}

static dev_t dev_of_entry(dev_t dev, const char *entry)
{
    char leaf[PATH_BYTES], text[32];
    unsigned ma, mi;

    (void)snprintf(leaf, sizeof(leaf), "%s/dev", entry);
    return read_attribute(dev, leaf, text, sizeof(text)) == 0 && sscanf(text, "%u:%u", &ma, &mi) == 2 ? makedev(ma, mi)
                                                                                                      : 0;
}

static bool ends_flushes(dev_t upper)
{
    return !wholedisk_has_write_cache(upper) && read_number(upper, "ro") != 1;
}

static bool holders_end_flushes(dev_t dev, int levels, char name[WHOLEDISK_NAME_MAX])
{
    struct dirent *entry;
    char path[PATH_BYTES];
    bool found = false;
    DIR *dir;

    sys_path(dev, "holders", path);
    dir = opendir(path);
    while (dir && !found && (entry = readdir(dir)) != NULL) {
        char leaf[PATH_BYTES];
        dev_t upper;
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(leaf, sizeof(leaf), "holders/%.100s", entry->d_name);
        upper = dev_of_entry(dev, leaf);
        (void)snprintf(name, WHOLEDISK_NAME_MAX, "%.*s", WHOLEDISK_NAME_MAX - 1, entry->d_name);
        found = levels == 0 || ends_flushes(upper) || holders_end_flushes(upper, levels - 1, name);
    }
    if (dir)
        (void)closedir(dir);
    return found;
}

bool wholedisk_is_below_write_through(dev_t disk, char name[WHOLEDISK_NAME_MAX])
{
    bool found = holders_end_flushes(disk, HOLDER_LEVELS, name);
    struct dirent *entry;
    char path[PATH_BYTES];
    DIR *dir;

    sys_path(disk, "", path);
    dir = opendir(path);
    while (dir && !found && (entry = readdir(dir)) != NULL) {
        char leaf[PATH_BYTES];
        (void)snprintf(leaf, sizeof(leaf), "%.100s/partition", entry->d_name);
        if (entry->d_name[0] != '.' && has_entry(disk, leaf))
            found = holders_end_flushes(dev_of_entry(disk, entry->d_name), HOLDER_LEVELS, name);
    }
    if (dir)
        (void)closedir(dir);
    return found;
}

int wholedisk_writes_in_flight(dev_t disk)
{
    char text[64];
    unsigned writes;

    if (read_number(disk, "queue/iostats") == 0 || read_attribute(disk, "inflight", text, sizeof(text)) < 0 ||
        sscanf(text, "%*u %u", &writes) != 1)
        return -1;
    return writes > INT_MAX ? INT_MAX : (int)writes;
}

/* Documentation/block/stat.rst; those that a kernel does not have are 0. */
enum { STAT_WRITES = 4, STAT_WRITE_SECTORS = 6, STAT_DISCARDS = 11, STAT_DISCARD_SECTORS = 13, STAT_FIELDS };

static int read_stat(dev_t disk, uint64_t ret_fields[STAT_FIELDS])
{
    char text[512], *at = text, *end;

    if (read_number(disk, "queue/iostats") == 0 || read_attribute(disk, "stat", text, sizeof(text)) < 0)
        return -1;
    memset(ret_fields, 0, STAT_FIELDS * sizeof(*ret_fields));
    for (unsigned i = 0; i < STAT_FIELDS; i++, at = end) {
        ret_fields[i] = strtoull(at, &end, 10);
        if (end == at)
            return i > STAT_WRITE_SECTORS ? 0 : -1;
    }
    return 0;
}

int wholedisk_writes_completed(dev_t disk, uint64_t *ret_count)
{
    uint64_t fields[STAT_FIELDS];

    if (read_stat(disk, fields) < 0)
        return -1;
    *ret_count = fields[STAT_WRITES] + fields[STAT_DISCARDS];
    return 0;
}

int wholedisk_bytes_written(dev_t disk, uint64_t *ret_bytes)
{
    uint64_t fields[STAT_FIELDS];

    if (read_stat(disk, fields) < 0)
        return -1;
    *ret_bytes = (fields[STAT_WRITE_SECTORS] + fields[STAT_DISCARD_SECTORS]) * 512;
    return 0;
}

/* Names of the devices a stacked one lies on, "sda2 sdb"; empty: it is not stacked. */
static void list_slaves(dev_t disk, char *out, size_t size)
{
    char path[PATH_BYTES];
    struct dirent *entry;
    DIR *dir;

    out[0] = '\0';
    sys_path(disk, "slaves", path);
    dir = opendir(path);
    if (!dir)
        return;
    while ((entry = readdir(dir)) != NULL) {
        size_t used = strlen(out);
        if (entry->d_name[0] != '.' && used + strlen(entry->d_name) + 2 < size)
            (void)stpcpy(stpcpy(out + used, used ? " " : ""), entry->d_name);
    }
    (void)closedir(dir);
}

static int refuse_bio_based(dev_t disk, const char *name, struct err *err)
{
    char slaves[128];

    list_slaves(disk, slaves, sizeof(slaves));
    if (slaves[0]) {
        (void)err_set(err, ERR_UNSUPPORTED, "%s is put together from other devices", name);
        return err_hint(err, "protect the disks below it: %s", slaves);
    }
    (void)err_set(err, ERR_UNSUPPORTED, "%s takes no block requests, so its writes cannot be seen", name);
    return err_hint(err, "use the scan tracker for this disk, or leave it out");
}

/* Requests go to whichever path is free, and each path's are told as its own. */
static bool is_path(dev_t disk)
{
    char path[PATH_BYTES], uuid[160];
    struct dirent *entry;
    bool found = false;
    DIR *dir;

    sys_path(disk, "holders", path);
    dir = opendir(path);
    while (dir && !found && (entry = readdir(dir)) != NULL)
        found = entry->d_name[0] != '.' &&
                (size_t)snprintf(path, sizeof(path), "/sys/class/block/%s/dm/uuid", entry->d_name) < sizeof(path) &&
                read_line(path, uuid, sizeof(uuid)) == 0 && strncmp(uuid, "mpath-", 6) == 0;
    if (dir)
        (void)closedir(dir);
    return found;
}

int wholedisk_is_trackable(dev_t disk, struct err *err)
{
    char name[WHOLEDISK_NAME_MAX], text[32];

    if (wholedisk_name(disk, name, err) < 0)
        return -1;
    if (has_entry(disk, "partition")) {
        (void)err_set(err, ERR_UNSUPPORTED, "%s is a partition", name);
        return err_hint(err, "protect the whole disk that it lies on");
    }
    if (!has_entry(disk, "mq"))
        return refuse_bio_based(disk, name, err);
    if (read_attribute(disk, "queue/zoned", text, sizeof(text)) == 0 && strcmp(text, "none") != 0) {
        (void)err_set(err, ERR_UNSUPPORTED, "%s is a zoned disk (%s)", name, text);
        return err_hint(err, "leave it out: zone commands change content without a range");
    }
    if (read_number(disk, "queue/dax") == 1) {
        (void)err_set(err, ERR_UNSUPPORTED, "%s can be written directly (DAX), past the block layer", name);
        return err_hint(err, "leave it out, or use the scan tracker");
    }
    if (is_path(disk)) {
        (void)err_set(err, ERR_UNSUPPORTED,
            "%s is one path of a multipath disk: writes by its other paths would not be seen", name);
        return err_hint(err, "leave it out");
    }
    if (wholedisk_size_bytes(disk) == 0)
        return err_set(err, ERR_UNSUPPORTED, "%s has no medium", name);
    return 0;
}

int wholedisk_boot_id(uint8_t ret_boot_id[16], struct err *err)
{
    struct ident id;
    char text[64];

    if (read_line("/proc/sys/kernel/random/boot_id", text, sizeof(text)) < 0 || ident_from_text(text, &id) < 0)
        return err_set(err, ERR_IO, "the kernel tells no boot id");
    memcpy(ret_boot_id, id.bytes, 16);
    return 0;
}
