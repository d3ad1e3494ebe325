/* SPDX-License-Identifier: Apache-2.0
 *
 * Which file systems lie on which disks: /proc/self/mountinfo (proc(5)) gives mount points in the order of mounting with the
 * device of each superblock; sysfs leads from there down through `slaves` to the whole disks at the bottom. File systems with
 * a device number of their own (btrfs) are found by their source.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <errno.h>

#include "mobility/capture/freeze.h"
#include "mobility/mountpath.h"
#include "mobility/track/wholedisk.h"

#define STACK_MAX 8 /* levels of LVM, md and dm over each other */

struct mount_line {
    uint64_t id;
    dev_t superblock;
    char *path, *source;
    bool read_only;
    bool without_barriers;
};

/* Undoes the octal escapes of proc(5), in place. */
static void unescape(char *s)
{
    char *out = s;

    for (; *s; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
            *out++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *out++ = *s;
        }
    }
    *out = '\0';
}

/* One of a list of options that commas separate. */
static bool has_option(const char *options, const char *option)
{
    size_t length = strlen(option);

    for (const char *at = options, *comma; at; at = comma ? comma + 1 : NULL) {
        comma = strchr(at, ',');
        if (strncmp(at, option, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

/* As ext4, btrfs, nilfs2, gfs2; ocfs2 and ext3; reiserfs; f2fs tell it. */
static bool is_without_barriers(const char *options)
{
    static const char *const names[] = {"nobarrier", "barrier=0", "barrier=none", "fsync_mode=nobarrier"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (has_option(options, names[i]))
            return true;
    return false;
}

/* Splits one line: id parent maj:min root path options ... - type source super-options. False: not of this form. */
static bool parse_line(char *line, struct mount_line *m)
{
    char *field[6], *rest = NULL, *tail = strstr(line, " - "), *super;
    unsigned ma, mi;

    if (!tail)
        return false;
    *tail = '\0';
    for (int i = 0; i < 6; i++) {
        field[i] = strtok_r(i ? NULL : line, " ", &rest);
        if (!field[i])
            return false;
    }
    if (sscanf(field[2], "%u:%u", &ma, &mi) != 2 || !strtok_r(tail + 3, " ", &rest))
        return false;
    m->source = strtok_r(NULL, " ", &rest);
    super = strtok_r(NULL, " \n", &rest);
    if (!m->source || !super)
        return false;
    m->id = strtoull(field[0], NULL, 10);
    m->superblock = makedev(ma, mi);
    m->path = field[4];
    m->read_only = has_option(super, "ro");
    m->without_barriers = is_without_barriers(super);
    unescape(m->path);
    unescape(m->source);
    return true;
}

static bool is_one_of(dev_t disk, const dev_t *disks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (disks[i] == disk)
            return true;
    return false;
}

static dev_t dev_of_slave(const char *dir, const char *name)
{
    char path[600], text[32] = "";
    unsigned ma = 0, mi = 0;
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s/dev", dir, name);
    f = fopen(path, "re");
    if (!f)
        return 0;
    if (!fgets(text, sizeof(text), f) || sscanf(text, "%u:%u", &ma, &mi) != 2)
        ma = mi = 0;
    (void)fclose(f);
    return makedev(ma, mi);
}

/* True when dev, or a device below it, is one of the disks or a partition of one. */
static bool lies_on(dev_t dev, const dev_t *disks, size_t count, int levels)
{
    char dir[64];
    struct dirent *entry;
    bool found = false;
    dev_t disk;
    DIR *d;

    if (wholedisk_of(dev, &disk, NULL) < 0)
        return false;
    if (is_one_of(disk, disks, count))
        return true;
    (void)snprintf(dir, sizeof(dir), "/sys/dev/block/%u:%u/slaves", major(dev), minor(dev));
    d = levels > 0 ? opendir(dir) : NULL;
    if (!d)
        return false;
    while (!found && (entry = readdir(d)) != NULL)
        if (entry->d_name[0] != '.')
            found = lies_on(dev_of_slave(dir, entry->d_name), disks, count, levels - 1);
    (void)closedir(d);
    return found;
}

static dev_t device_of(const struct mount_line *m)
{
    struct stat st;

    if (major(m->superblock) != 0)
        return m->superblock;
    return strncmp(m->source, "/dev/", 5) == 0 && stat(m->source, &st) == 0 && S_ISBLK(st.st_mode) ? st.st_rdev : 0;
}

struct finder {
    const dev_t *disks;
    size_t disk_count;
    struct freeze_mounts *mounts;
    dev_t seen[FREEZE_MOUNTS_MAX]; /* devices of those in the list */
    bool any_hidden;
    char *without_barriers; /* the first mount point of such a file system */
};

static bool is_wanted(const struct finder *x, const struct mount_line *m, dev_t dev)
{
    return !m->read_only && dev != 0 && !is_one_of(dev, x->seen, x->mounts->count) &&
           lies_on(dev, x->disks, x->disk_count, STACK_MAX);
}

static int consider(struct finder *x, const struct mount_line *m, struct err *err)
{
    dev_t dev = device_of(m);
    struct freeze_mounts *out = x->mounts;

    if (!is_wanted(x, m, dev))
        return 0;
    if (!mountpath_leads_to_mount(m->path, m->id)) {
        x->any_hidden = true;
        return 0;
    }
    if (out->count == FREEZE_MOUNTS_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %u file systems on the protected disks", FREEZE_MOUNTS_MAX);
    x->seen[out->count] = dev;
    out->paths[out->count] = mem_strdup(m->path);
    if (!out->paths[out->count])
        return err_set(err, ERR_NOMEM, "mount points");
    out->count++;
    return 0;
}

/* Once all are known that a path leads to: it may be another one than the first. */
static int consider_hidden(struct finder *x, const struct mount_line *m, struct err *err)
{
    if (x->mounts->hidden || !is_wanted(x, m, device_of(m)))
        return 0;
    x->mounts->hidden = mem_strdup(m->path);
    return x->mounts->hidden ? 0 : err_set(err, ERR_NOMEM, "mount points");
}

static int for_each_mount(
    struct finder *x, int (*take)(struct finder *x, const struct mount_line *m, struct err *err), struct err *err)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    struct mount_line m;
    char *line = NULL;
    size_t room = 0;
    int result = 0;

    if (!f)
        return err_sys(err, errno, "reading /proc/self/mountinfo");
    while (result == 0 && getline(&line, &room, f) > 0)
        if (parse_line(line, &m))
            result = take(x, &m, err);
    free(line);
    (void)fclose(f);
    return result;
}

int freeze_find_mounts(const dev_t *disks, size_t disk_count, struct freeze_mounts *ret_mounts, struct err *err)
{
    struct finder x = {.disks = disks, .disk_count = disk_count, .mounts = ret_mounts};
    int result;

    *ret_mounts = (struct freeze_mounts){.paths = mem_alloc(FREEZE_MOUNTS_MAX, sizeof(char *))};
    if (!ret_mounts->paths)
        return err_set(err, ERR_NOMEM, "mount points");
    result = for_each_mount(&x, consider, err);
    if (result == 0 && x.any_hidden)
        result = for_each_mount(&x, consider_hidden, err);
    if (result < 0)
        freeze_mounts_free(ret_mounts);
    return result;
}

static int consider_barriers(struct finder *x, const struct mount_line *m, struct err *err)
{
    if (x->without_barriers || !m->without_barriers || !is_wanted(x, m, device_of(m)))
        return 0;
    x->without_barriers = mem_strdup(m->path);
    return x->without_barriers ? 0 : err_set(err, ERR_NOMEM, "mount points");
}

int freeze_find_without_barriers(const dev_t *disks, size_t disk_count, char **ret_path, struct err *err)
{
    struct freeze_mounts none = {0};
    struct finder x = {.disks = disks, .disk_count = disk_count, .mounts = &none};
    int result = for_each_mount(&x, consider_barriers, err);

    *ret_path = result == 0 ? x.without_barriers : NULL;
    if (result < 0)
        free(x.without_barriers);
    return result;
}

void freeze_mounts_free(struct freeze_mounts *mounts)
{
    for (size_t i = 0; i < mounts->count; i++)
        free(mounts->paths[i]);
    free(mounts->paths);
    free(mounts->hidden);
    *mounts = (struct freeze_mounts){0};
}
