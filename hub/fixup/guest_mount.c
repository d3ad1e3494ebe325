/* SPDX-License-Identifier: Apache-2.0
 *
 * /sys/class/block names the devices, libblkid says what they hold. A root is a file system with /etc/fstab or /etc/os-release and a /usr or /bin, the
 * root disk's first. Mounting plays a file system's journal back, which is what the replica's kernel would do at its first mount.
 */
#include "hub/fixup/guest_mount.h"

#include <blkid/blkid.h>
#include <dirent.h>
#include <errno.h>
#include <libmount/libmount.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hub/fixup/guest_tree.h"
#include "transport/base/mem.h"

static const char *const kinds[] = {"ext4", "xfs", "btrfs", "ext3", "ext2", "vfat"};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the guest's disks");
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

/* ---- what there is ---- */

/* One line of a file below /sys/class/block/NAME; "" for none. */
static void sys_line(const char *name, const char *file, char *line, size_t size)
{
    char path[PATH_MAX];
    FILE *f;

    (void)snprintf(path, sizeof(path), "/sys/class/block/%s/%s", name, file);
    f = fopen(path, "re");
    if (!f || !fgets(line, (int)size, f))
        line[0] = '\0';
    if (f)
        (void)fclose(f);
    line[strcspn(line, "\n")] = '\0';
}

/* The name that the source had: its disk's, and the partition's number behind it ("p" between digits). */
static void source_name(const json_t *disks, const char *name, char *ret, size_t size)
{
    char serial[64], partition[16], disk[64];
    size_t n = strcspn(name, "0123456789");
    const json_t *one;
    size_t at;

    ret[0] = '\0';
    sys_line(name, "partition", partition, sizeof(partition));
    (void)snprintf(disk, sizeof(disk), "%.*s", partition[0] ? (int)(n < 60 ? n : 60) : 60, name);
    sys_line(disk, "serial", serial, sizeof(serial));
    json_array_foreach(disks, at, one)
    {
        char wanted[64];
        const char *device = text_of(one, "device");

        (void)snprintf(wanted, sizeof(wanted), GUEST_DISK_SERIAL "%lld",
            (long long)json_integer_value(json_object_get(one, "number")));
        if (strcmp(serial, wanted) != 0 || !device[0])
            continue;
        bool digit = device[strlen(device) - 1] >= '0' && device[strlen(device) - 1] <= '9';

        (void)snprintf(ret, size, "%s%s%s", device, partition[0] && digit ? "p" : "", partition);
    }
}

/* A label in another encoding than UTF-8 is as none. */
static json_t *value_of(blkid_probe probe, const char *key)
{
    const char *value = NULL;
    json_t *text = blkid_probe_lookup_value(probe, key, &value, NULL) == 0 && value ? json_string(value) : NULL;

    return text ? text : json_string("");
}

static json_t *probe_one(const json_t *disks, const char *name)
{
    char path[300], device[300];
    json_t *one = NULL;
    blkid_probe probe;

    (void)snprintf(path, sizeof(path), "/dev/%s", name);
    probe = blkid_new_probe_from_filename(path);
    if (!probe)
        return NULL;
    (void)blkid_probe_enable_partitions(probe, 1);
    (void)blkid_probe_set_partitions_flags(probe, BLKID_PARTS_ENTRY_DETAILS);
    if (blkid_do_safeprobe(probe) == 0) {
        source_name(disks, name, device, sizeof(device));
        one = json_pack("{s:s, s:o, s:o, s:o, s:o, s:s}", "name", name, "type", value_of(probe, "TYPE"), "uuid",
            value_of(probe, "UUID"), "label", value_of(probe, "LABEL"), "partuuid", value_of(probe, "PART_ENTRY_UUID"),
            "device", device);
        char mapped[128];

        sys_line(name, "dm/name", mapped, sizeof(mapped));
        if (one && mapped[0])
            json_object_set_new(one, "mapper", json_string(mapped));
    }
    blkid_free_probe(probe);
    return one;
}

json_t *guest_mount_probe(const json_t *disks, struct err *err)
{
    json_t *names = json_array(), *found = json_array(), *path;
    struct guest_tree sys = {.fd = -1};
    size_t at;

    if (!names || !found || guest_tree_open("/", &sys, err) < 0 ||
        guest_tree_list(&sys, "/sys/class/block", "", names, err) < 0) {
        json_decref(names);
        json_decref(found);
        guest_tree_close(&sys);
        no_memory(err);
        return NULL;
    }
    guest_tree_close(&sys);
    json_array_foreach(names, at, path)
    {
        json_t *one = probe_one(disks, strrchr(json_string_value(path), '/') + 1);

        if (one)
            json_array_append_new(found, one);
    }
    json_decref(names);
    return found;
}

/* ---- mounting ---- */

static bool is_mountable(const json_t *one)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strcmp(text_of(one, "type"), kinds[i]) == 0)
            return true;
    return false;
}

static int mount_one(const json_t *one, const char *folder, const char *options)
{
    char path[300];

    (void)snprintf(path, sizeof(path), "/dev/%s", text_of(one, "name"));
    return mount(path, folder, text_of(one, "type"), MS_NOATIME | MS_NODEV | MS_NOSUID, options);
}

static bool is_root(const char *folder)
{
    struct guest_tree tree;
    bool root;

    if (guest_tree_open(folder, &tree, NULL) < 0)
        return false;
    root = (guest_tree_has(&tree, "/etc/fstab") || guest_tree_has(&tree, "/etc/os-release")) &&
           (guest_tree_has(&tree, "/usr") || guest_tree_has(&tree, "/bin"));
    guest_tree_close(&tree);
    return root;
}

/* The folder of the guest's as the guest would find it: no link of it leads out. -1 with errno. */
static int mount_in(const struct guest_tree *tree, const char *place, int (*mount_at)(const void *what, const char *at),
    const void *what)
{
    int fd AUTO_CLOSE = guest_tree_folder(tree, place);
    char at[40];

    (void)snprintf(at, sizeof(at), "/proc/self/fd/%d", fd);
    return fd < 0 ? -1 : mount_at(what, at);
}

/* Marks the one that it is. */
static int mount_root(const char *folder, json_t *found, struct err *err)
{
    static const char *const subvolumes[] = {NULL, "subvol=@", "subvol=root", "subvol=@/.snapshots/1/snapshot"};
    json_t *one;
    size_t at;

    json_array_foreach(found, at, one)
    {
        bool btrfs = strcmp(text_of(one, "type"), "btrfs") == 0;

        for (size_t i = 0; is_mountable(one) && i < (btrfs ? ARRAY_LEN(subvolumes) : 1); i++) {
            if (mount_one(one, folder, subvolumes[i]) < 0)
                continue;
            if (is_root(folder))
                return json_object_set_new(one, "is_root", json_true()) < 0 ? no_memory(err) : 0;
            (void)umount2(folder, 0);
        }
    }
    err_set(err, ERR_NOT_FOUND, "none of the replica's disks has a root file system that can be read");
    return err_hint(
        err, "Encrypted roots and others than ext4, xfs and btrfs cannot be fixed: fail over without fix-ups.");
}

/* The device that a word of fstab means. */
static const json_t *resolve(const json_t *found, const char *source)
{
    static const struct {
        const char *prefix, *key;
    } tags[] = {{"UUID=", "uuid"}, {"LABEL=", "label"}, {"PARTUUID=", "partuuid"}, {"/dev/disk/by-uuid/", "uuid"},
        {"/dev/disk/by-label/", "label"}, {"/dev/mapper/", "mapper"}, {"/dev/", "device"}};
    const json_t *one;
    size_t at;

    for (size_t i = 0; i < ARRAY_LEN(tags); i++)
        json_array_foreach(found, at, one)
        {
            size_t n = strlen(tags[i].prefix);
            const char *value = text_of(one, tags[i].key);

            if (strncmp(source, tags[i].prefix, n) == 0 && value[0] &&
                strcmp(strcmp(tags[i].key, "device") == 0 ? source : source + n, value) == 0)
                return one;
        }
    return NULL;
}

/* Only what programs that make an initramfs or a boot loader's file need. */
static bool is_needed(const char *place)
{
    static const char *const places[] = {"/boot", "/boot/efi", "/efi", "/usr", "/var", "/etc", "/tmp"};

    for (size_t i = 0; place && i < ARRAY_LEN(places); i++)
        if (strcmp(place, places[i]) == 0)
            return true;
    return false;
}

struct filesystem {
    const json_t *device;
    const char *options;
};

static int mount_filesystem(const void *what, const char *at)
{
    const struct filesystem *fs = what;

    return mount_one(fs->device, at, fs->options);
}

/* A line of the guest's fstab. */
static void mount_line(const struct guest_tree *tree, struct libmnt_fs *fs, const json_t *found, json_t *warnings)
{
    const char *place = mnt_fs_get_target(fs), *source = mnt_fs_get_source(fs);
    const json_t *device = is_needed(place) && source ? resolve(found, source) : NULL;
    AUTO_FREE char *options = NULL;
    char *subvolume = NULL;
    size_t n;

    if (!device || !is_mountable(device))
        return;
    if (mnt_fs_get_option(fs, "subvol", &subvolume, &n) == 0 && subvolume)
        options = mem_printf("subvol=%.*s", (int)n, subvolume);
    if (mount_in(tree, place, mount_filesystem, &(struct filesystem){.device = device, .options = options}) == 0)
        return;
    AUTO_FREE char *text = mem_printf("%s could not be mounted: %s", place, strerror(errno));

    if (text)
        json_array_append_new(warnings, json_string(text));
}

static int mount_rest(const struct guest_tree *tree, const json_t *found, json_t *warnings, struct err *err)
{
    AUTO_FREE char *text = NULL;
    int rc = guest_tree_read(tree, "/etc/fstab", &text, err);
    FILE *stream = rc == 1 && text[0] ? fmemopen(text, strlen(text), "r") : NULL;
    struct libmnt_table *table = stream ? mnt_new_table() : NULL;
    struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
    struct libmnt_fs *fs;

    if (table)
        (void)mnt_table_parse_stream(table, stream, "fstab");
    while (table && iter && mnt_table_next_fs(table, iter, &fs) == 0)
        mount_line(tree, fs, found, warnings);
    mnt_free_iter(iter);
    mnt_unref_table(table);
    if (stream)
        (void)fclose(stream);
    return rc < 0 ? -1 : 0;
}

static int bind(const void *what, const char *at)
{
    return mount(what, at, NULL, MS_BIND, NULL);
}

static void mount_kernels(const struct guest_tree *tree)
{
    static const char *const places[] = {"/proc", "/sys", "/dev"};

    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        (void)mount_in(tree, places[i], bind, places[i]);
}

int guest_mount_all(const char *folder, json_t *found, json_t *warnings, struct err *err)
{
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "the folder of the guest, %s", folder);
    if (mount_root(folder, found, err) < 0)
        return -1;
    struct guest_tree tree = {.fd = -1};
    int rc = guest_tree_open(folder, &tree, err);

    if (rc == 0)
        rc = mount_rest(&tree, found, warnings, err);
    if (rc == 0)
        mount_kernels(&tree);
    guest_tree_close(&tree);
    return rc;
}

/* From the last that was mounted to the first. */
int guest_mount_end(const char *folder, struct err *err)
{
    size_t n = strlen(folder);

    sync();
    for (bool more = true; more;) {
        FILE *f = fopen("/proc/self/mounts", "re");
        char line[PATH_MAX * 2], place[PATH_MAX], last[PATH_MAX] = "";

        while (f && fgets(line, sizeof(line), f))
            if (sscanf(line, "%*s %4095s", place) == 1 && strncmp(place, folder, n) == 0 &&
                (place[n] == '/' || !place[n]))
                memcpy(last, place, strlen(place) + 1);
        if (f)
            (void)fclose(f);
        more = last[0] != '\0';
        if (more && umount2(last, 0) < 0)
            return err_sys(err, errno, "unmounting the guest's %s", last + n);
    }
    return 0;
}
