/* SPDX-License-Identifier: Apache-2.0
 *
 * Attributes and stacks of block devices as sysfs shows them. Whatever is not there reads as empty: devices
 * come and go while we look, and that is not an error. Source: Documentation/ABI/stable/sysfs-block,
 * testing/sysfs-class-bdi.
 */
#include "mobility/inventory_sys.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Deeper stacks than this do not exist; it ends a loop in a broken tree. */
#define STACK_DEPTH_MAX 16

struct inventory_source inventory_source_full(const struct inventory_source *source)
{
    struct inventory_source full = source ? *source : (struct inventory_source){0};

    if (!full.sys)
        full.sys = "/sys";
    if (!full.dev)
        full.dev = "/dev";
    if (!full.mountinfo)
        full.mountinfo = "/proc/self/mountinfo";
    return full;
}

static void trim(char *s)
{
    size_t n = strlen(s), skip = 0;

    while (n > 0 && isspace((unsigned char)s[n - 1]))
        s[--n] = '\0';
    while (isspace((unsigned char)s[skip]))
        skip++;
    if (skip > 0)
        memmove(s, s + skip, n - skip + 1);
}

void sys_read(const char *path, char *out, size_t out_size)
{
    int fd AUTO_CLOSE = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    out[0] = '\0';
    if (fd < 0)
        return;
    n = read(fd, out, out_size - 1);
    out[n > 0 ? n : 0] = '\0';
    for (char *p = out; *p; p++) /* names of devices come from the hardware: nothing unprintable goes further */
        if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
            *p = *p == '\n' ? ' ' : '?';
    trim(out);
}

void sys_attr(const struct inventory_source *src, const char *name, const char *attr, char *out, size_t out_size)
{
    char path[PATH_MAX];

    out[0] = '\0';
    if ((size_t)snprintf(path, sizeof(path), "%s/class/block/%s/%s", src->sys, name, attr) < sizeof(path))
        sys_read(path, out, out_size);
}

uint64_t sys_attr_u64(const struct inventory_source *src, const char *name, const char *attr)
{
    char text[32];
    char *end;

    sys_attr(src, name, attr, text, sizeof(text));
    if (!isdigit((unsigned char)text[0]))
        return 0;
    uint64_t v = strtoull(text, &end, 10);
    return *end == '\0' ? v : 0;
}

bool sys_attr_exists(const struct inventory_source *src, const char *name, const char *attr)
{
    char path[PATH_MAX];

    return (size_t)snprintf(path, sizeof(path), "%s/class/block/%s/%s", src->sys, name, attr) < sizeof(path) &&
           access(path, F_OK) == 0;
}

dev_t sys_devno(const struct inventory_source *src, const char *name)
{
    char text[32];
    unsigned major_no, minor_no;

    sys_attr(src, name, "dev", text, sizeof(text));
    return sscanf(text, "%u:%u", &major_no, &minor_no) == 2 ? makedev(major_no, minor_no) : 0;
}

/* Last component of where a link points to. */
static int link_base(const char *path, char out[SYS_NAME_MAX], int levels_up)
{
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof(target) - 1);

    if (n <= 0)
        return -1;
    target[n] = '\0';
    for (int i = 0; i < levels_up; i++) {
        char *slash = strrchr(target, '/');
        if (!slash)
            return -1;
        *slash = '\0';
    }
    const char *base = strrchr(target, '/') ? strrchr(target, '/') + 1 : target;
    if (!*base || strlen(base) >= SYS_NAME_MAX)
        return -1;
    strcpy(out, base);
    return 0;
}

int sys_name_of_devno(const struct inventory_source *src, dev_t devno, char out[SYS_NAME_MAX])
{
    char path[PATH_MAX];

    if ((size_t)snprintf(path, sizeof(path), "%s/dev/block/%u:%u", src->sys, major(devno), minor(devno)) >=
        sizeof(path))
        return -1;
    return link_base(path, out, 0);
}

void sys_parent(const struct inventory_source *src, const char *name, char out[SYS_NAME_MAX])
{
    char path[PATH_MAX];

    /* class/block/vda1 -> ../../devices/.../block/vda/vda1 */
    if (sys_attr_exists(src, name, "partition") &&
        (size_t)snprintf(path, sizeof(path), "%s/class/block/%s", src->sys, name) < sizeof(path) &&
        link_base(path, out, 1) == 0)
        return;
    snprintf(out, SYS_NAME_MAX, "%s", name);
}

static DIR *open_folder(const struct inventory_source *src, const char *name, const char *folder)
{
    char path[PATH_MAX];

    if ((size_t)snprintf(path, sizeof(path), "%s/class/block/%s/%s", src->sys, name, folder) >= sizeof(path))
        return NULL;
    return opendir(path);
}

static DIR *open_slaves(const struct inventory_source *src, const char *name)
{
    return open_folder(src, name, "slaves");
}

bool sys_is_stacked(const struct inventory_source *src, const char *name)
{
    DIR *dir = open_slaves(src, name);
    bool found = false;

    if (!dir)
        return false;
    for (struct dirent *e; !found && (e = readdir(dir));)
        found = e->d_name[0] != '.';
    closedir(dir);
    return found;
}

bool sys_is_path(const struct inventory_source *src, const char *name, char ret_map[SYS_NAME_MAX])
{
    DIR *dir = open_folder(src, name, "holders");
    bool found = false;

    for (struct dirent *e; dir && !found && (e = readdir(dir));) {
        char uuid[160];

        if (e->d_name[0] == '.' || strlen(e->d_name) >= SYS_NAME_MAX)
            continue;
        sys_attr(src, e->d_name, "dm/uuid", uuid, sizeof(uuid));
        found = strncmp(uuid, "mpath-", 6) == 0;
        if (found)
            sys_attr(src, e->d_name, "dm/name", ret_map, SYS_NAME_MAX);
    }
    if (dir)
        closedir(dir);
    return found;
}

static void bottom(const struct inventory_source *src, const struct inventory *inventory, const char *name,
    struct inventory_set *set, int depth)
{
    char disk[SYS_NAME_MAX];
    DIR *dir;

    if (depth > STACK_DEPTH_MAX)
        return;
    if (sys_is_stacked(src, name)) {
        dir = open_slaves(src, name);
        for (struct dirent *e; dir && (e = readdir(dir));)
            if (e->d_name[0] != '.' && strlen(e->d_name) < SYS_NAME_MAX)
                bottom(src, inventory, e->d_name, set, depth + 1);
        if (dir)
            closedir(dir);
        return;
    }
    sys_parent(src, name, disk);
    if (strcmp(disk, name) != 0 && sys_is_stacked(src, disk)) { /* a partition of an md device */
        bottom(src, inventory, disk, set, depth + 1);
        return;
    }
    for (size_t i = 0; i < inventory->disk_count; i++)
        if (strcmp(inventory->disks[i].name, disk) == 0)
            inventory_set_add(set, i);
}

void sys_bottom_disks(
    const struct inventory_source *src, const struct inventory *inventory, const char *name, struct inventory_set *set)
{
    bottom(src, inventory, name, set, 0);
}

void sys_device_path(const struct inventory_source *src, const char *name, char *out, size_t out_size)
{
    char dm_name[96];

    sys_attr(src, name, "dm/name", dm_name, sizeof(dm_name));
    if (dm_name[0] && !strchr(dm_name, '/')) {
        snprintf(out, out_size, "%s/mapper/%s", src->dev, dm_name);
        return;
    }
    snprintf(out, out_size, "%s/%s", src->dev, name);
    for (char *p = out + strlen(src->dev) + 1; *p; p++) /* sysfs writes '!' where the name has '/': cciss!c0d0 */
        if (*p == '!')
            *p = '/';
}
