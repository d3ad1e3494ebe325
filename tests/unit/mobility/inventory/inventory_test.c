/* SPDX-License-Identifier: Apache-2.0
 *
 * The inventory on real loop disks, and on a made-up sysfs for what this machine does not have (LVM, md, multipath).
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mobility/disksize.h"
#include "mobility/inventory.h"
#include "mobility/report.h"
#include "tests/unit/mobility/powerfail/fusedisk.h"
#include "tests/unit/mobility/track/loopdisk.h"
#include "transport/base/clock.h"
#include "transport/proto/wire.h"

#define MIB (1u << 20)

static const struct inventory_disk *by_device(const struct inventory *inv, const char *device)
{
    for (size_t i = 0; i < inv->disk_count; i++)
        if (strcmp(inv->disks[i].device, device) == 0)
            return &inv->disks[i];
    return NULL;
}

static void a_loop_disk_with_partitions_and_mounts(void **state)
{
    const struct inventory_disk *d;
    struct inventory_set below;
    struct inventory *inv;
    struct loopdisk disk;
    char dir[64], path[96], expected[128], key[160];

    (void)state;
    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices\n");
        skip();
    }
    temp_init(dir);
    snprintf(path, sizeof(path), "%s/disk", dir);
    must_run("truncate -s 300M %s && printf 'label: gpt\\nsize=100M\\nsize=120M\\n' | sfdisk -q %s", path, path);
    loopdisk_init(&disk, 300 * MIB, 512, open(path, O_RDWR));
    must_run("partx -d %s 2>/dev/null; partx -a %s", disk.path, disk.path);
    must_run("mkfs.ext4 -q -L one %sp1 && mkfs.btrfs -q %sp2 >/dev/null 2>&1", disk.path, disk.path);
    must_run("mkdir %s/m && mount %sp1 %s/m && mkdir %s/m/deep && mount %sp2 %s/m/deep", dir, disk.path, dir, dir,
        disk.path, dir);
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    d = by_device(inv, disk.path);
    assert_non_null(d);
    snprintf(key, sizeof(key), "loop:%s", path);
    assert_string_equal(d->key, key);
    assert_string_equal(d->table, "gpt");
    assert_true(d->trackable);
    assert_int_equal(d->size_bytes, 300 * MIB);
    assert_int_equal(d->volume_count, 2);
    assert_int_equal(d->volumes[0].start_bytes, MIB);
    assert_int_equal(d->volumes[0].length_bytes, 100 * MIB);
    assert_string_equal(d->volumes[0].fs_type, "ext4");
    assert_string_equal(d->volumes[0].label, "one");
    snprintf(expected, sizeof(expected), "%s/m", dir);
    assert_string_equal(d->volumes[0].mount_points[0], expected);
    assert_string_equal(d->volumes[1].fs_type, "btrfs");
    assert_int_equal(d->volumes[1].mount_count, 1);
    inventory_disks_below(inv, NULL, d, &below); /* the file lies on the disk of /tmp, if that is one */
    assert_false(inventory_set_has(&below, (size_t)(d - inv->disks)));
    snprintf(expected, sizeof(expected), "%s/m/deep", dir);
    inventory_disks_of_path(inv, NULL, expected, &below);
    assert_true(inventory_set_has(&below, (size_t)(d - inv->disks)));
    /* The deeper mount comes later: freezing goes in reverse. */
    assert_string_equal(inv->mounts[inv->mount_count - 1].path, expected);
    assert_ptr_equal(inventory_find(inv, key), d);
    inventory_free(inv);
    must_run("umount %s/m/deep %s/m", dir, dir);
    loopdisk_forget_partitions(&disk);
    loopdisk_done(&disk);
    temp_done(dir);
}

static void an_inventory_becomes_a_message(void **state)
{
    struct buf packed AUTO_BUF = BUF_INIT(1 << 20);
    struct report_inventory *r;
    struct inventory *inv;
    ProtobufCMessage *m;

    (void)state;
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    assert_int_equal(report_inventory_new(inv, "a-boot", &r, NULL), 0);
    assert_int_equal(wire_pack(&report_inventory_message(r)->base, &packed, NULL), 0);
    assert_int_equal(wire_unpack(&leeward__control__v1__inventory__descriptor, packed.data, packed.len, &m, NULL), 0);
    assert_int_equal(((Leeward__Control__V1__Inventory *)m)->n_disks, inv->disk_count);
    assert_string_equal(((Leeward__Control__V1__Inventory *)m)->boot_id, "a-boot");
    wire_free(m);
    report_inventory_free(r);
    inventory_free(inv);
}

/* ---- what does not answer ---- */

struct hanging {
    char dir[64];
    struct fusedisk *fuse;
    struct loopdisk sick, healthy;
};

/* A disk that hangs from now on, beside one with a file system that does not. Nothing of the first is in memory. */
static void hanging_init(struct hanging *h)
{
    temp_init(h->dir);
    h->fuse = fusedisk_start(h->dir, 1, 8 * MIB, 1);
    loopdisk_init(&h->sick, 8 * MIB, 512, fusedisk_open(h->fuse, 0));
    loopdisk_init(&h->healthy, 16 * MIB, 512, -1);
    must_run("mkfs.ext4 -q -L sound %s", h->healthy.path);
    fusedisk_hold(h->fuse, true);
    assert_int_equal(ioctl(h->sick.fd, BLKFLSBUF, 0), 0);
}

static void hanging_done(struct hanging *h)
{
    fusedisk_hold(h->fuse, false);
    loopdisk_done(&h->sick);
    loopdisk_done(&h->healthy);
    fusedisk_stop(h->fuse);
    temp_done(h->dir);
}

/* Waits until the questions that are open are answered. */
static bool answers_in_the_end(const char *device)
{
    for (unsigned i = 0; i < 600; i++) {
        struct inventory *inv;
        bool can;

        assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
        can = by_device(inv, device)->trackable && !inv->unanswered[0];
        inventory_free(inv);
        if (can)
            return true;
        usleep(50000);
    }
    return false;
}

static void a_disk_that_does_not_answer_hides_no_other(void **state)
{
    const struct inventory_disk *d;
    struct inventory *inv;
    struct hanging h;

    (void)state;
    if (!loopdisk_is_possible() || access("/dev/fuse", R_OK | W_OK) < 0) {
        print_message("needs root, loop devices and /dev/fuse\n");
        skip();
    }
    hanging_init(&h);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t began = clock_mono_usec();

        assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
        assert_string_equal(inv->unanswered, h.sick.path);
        assert_true((clock_mono_usec() - began >= 5 * USEC_PER_SEC) == (i == 0)); /* it is waited for once */
        d = by_device(inv, h.sick.path);
        assert_false(d->trackable);
        assert_non_null(strstr(d->reason, "does not answer"));
        d = by_device(inv, h.healthy.path);
        assert_true(d->trackable);
        assert_string_equal(d->volumes[0].label, "sound");
        inventory_free(inv);
    }
    fusedisk_hold(h.fuse, false);
    assert_true(answers_in_the_end(h.sick.path));
    hanging_done(&h);
}

/* The name of a disk that is gone, or is another's by now, says nothing of it. */
static void another_disk_under_the_name_is_noticed(void **state)
{
    struct inventory_disk seen;
    struct inventory *inv;
    struct loopdisk l;

    (void)state;
    if (!loopdisk_is_possible()) {
        print_message("needs root and loop devices\n");
        skip();
    }
    loopdisk_init(&l, MIB, 512, -1);
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    seen = *by_device(inv, l.path);
    assert_true(seen.sequence > 0);
    assert_true(inventory_disk_is_current(&seen));
    loopdisk_done(&l);
    while (inventory_disk_is_current(&seen)) /* somebody who looks at all disks may have it open for a moment */
        (void)usleep(10000);
    inventory_free(inv);
}

static void a_mount_point_that_does_not_answer_hides_no_disk(void **state)
{
    const struct inventory_disk *d;
    struct inventory *inv;
    struct loopdisk disk;
    char dir[64], path[96];
    int fd;

    (void)state;
    if (!loopdisk_is_possible() || access("/dev/fuse", R_OK | W_OK) < 0) {
        print_message("needs root, loop devices and /dev/fuse\n");
        skip();
    }
    temp_init(dir);
    loopdisk_init(&disk, 16 * MIB, 512, -1);
    must_run("mkfs.ext4 -q %s && mkdir %s/m && mount %s %s/m", disk.path, dir, disk.path, dir);
    snprintf(path, sizeof(path), "%s/m", dir);
    fd = silent_mount(path);
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    assert_string_equal(inv->unanswered, path);
    d = by_device(inv, disk.path);
    assert_true(d->trackable);
    assert_string_equal(d->volumes[0].mount_points[0], path);
    assert_int_equal(d->volumes[0].used_bytes, 0);
    inventory_free(inv);
    silent_unmount(fd, path);
    assert_true(answers_in_the_end(disk.path));
    must_unmount(path);
    loopdisk_done(&disk);
    temp_done(dir);
}

/* Thirteen of them would take 17 s with a second for each but the first. */
static void many_that_do_not_answer_are_not_waited_for_one_by_one(void **state)
{
    struct inventory *inv;
    struct loopdisk disk;
    uint64_t began;
    char dir[64], path[96];
    int fds[13];

    (void)state;
    if (!loopdisk_is_possible() || access("/dev/fuse", R_OK | W_OK) < 0) {
        print_message("needs root, loop devices and /dev/fuse\n");
        skip();
    }
    temp_init(dir);
    loopdisk_init(&disk, 16 * MIB, 512, -1);
    must_run("mkfs.ext4 -q %s", disk.path);
    for (unsigned i = 0; i < ARRAY_LEN(fds); i++) {
        must_run("mkdir %s/%u && mount %s %s/%u", dir, i, disk.path, dir, i);
        snprintf(path, sizeof(path), "%s/%u", dir, i);
        fds[i] = silent_mount(path);
    }
    began = clock_mono_usec();
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    assert_in_range(clock_mono_usec() - began, 8 * USEC_PER_SEC, 14 * USEC_PER_SEC);
    assert_int_equal(by_device(inv, disk.path)->volumes[0].mount_count, ARRAY_LEN(fds));
    inventory_free(inv);
    for (unsigned i = 0; i < ARRAY_LEN(fds); i++) {
        snprintf(path, sizeof(path), "%s/%u", dir, i);
        silent_unmount(fds[i], path);
        must_unmount(path);
    }
    loopdisk_done(&disk);
    temp_done(dir);
}

/* ---- a made-up sysfs ---- */

static void put(const char *root, const char *path, const char *text)
{
    must_run("mkdir -p $(dirname %s/%s) && printf '%%s\\n' '%s' > %s/%s", root, path, text, root, path);
}

static void device(const char *root, const char *name, const char *devno, const char *sectors)
{
    char path[200];

    snprintf(path, sizeof(path), "devices/%s/dev", name);
    put(root, path, devno);
    snprintf(path, sizeof(path), "devices/%s/size", name);
    put(root, path, sectors);
    must_run("mkdir -p %s/class/block %s/dev/block %s/block && ln -s ../../devices/%s %s/class/block/$(basename %s)",
        root, root, root, name, root, name);
    must_run("ln -s ../../devices/%s %s/dev/block/%s", name, root, devno);
}

static void whole(const char *root, const char *name, const char *devno, const char *sectors)
{
    device(root, name, devno, sectors);
    must_run("mkdir -p %s/devices/%s/mq/0 && ln -s ../devices/%s %s/block/%s", root, name, name, root, name);
}

static void partition(const char *root, const char *name, const char *devno, const char *start, const char *sectors)
{
    char path[200];

    device(root, name, devno, sectors);
    snprintf(path, sizeof(path), "devices/%s/partition", name);
    put(root, path, "1");
    snprintf(path, sizeof(path), "devices/%s/start", name);
    put(root, path, start);
}

static void stacked(const char *root, const char *name, const char *devno, const char *slaves)
{
    device(root, name, devno, "1000");
    must_run("for s in %s; do mkdir -p %s/devices/%s/slaves/$s; done; ln -s ../devices/%s %s/block/%s", slaves, root,
        name, name, root, name);
}

static struct inventory_source made_up(const char *root, char *mountinfo, size_t size)
{
    snprintf(mountinfo, size, "%s/mountinfo", root);
    return (struct inventory_source){.sys = root, .dev = "/nonexistent", .mountinfo = mountinfo};
}

static void lvm_over_md_is_found_on_the_disks_at_the_bottom(void **state)
{
    const struct inventory_disk *a, *b;
    struct inventory_source src;
    struct inventory *inv;
    char root[64], mountinfo[96];

    (void)state;
    temp_init(root);
    src = made_up(root, mountinfo, sizeof(mountinfo));
    whole(root, "sda", "8:0", "2000000");
    partition(root, "sda/sda1", "8:1", "2048", "1000000");
    whole(root, "sdb", "8:16", "2000000");
    whole(root, "sdc", "8:32", "2000000");
    stacked(root, "md0", "9:0", "sda1 sdb");
    stacked(root, "dm-0", "253:0", "md0");
    put(root, "devices/dm-0/dm/name", "vg-root");
    put(root, "devices/sda/device/wwid", "naa.5000c500a1b2c3d4");
    put(root, "devices/sdb/serial", "SER 42");
    put(root, "mountinfo", "30 1 253:0 / / rw,relatime - ext4 /dev/mapper/vg-root rw");
    assert_int_equal(inventory_scan(&src, &inv, NULL), 0);
    assert_int_equal(inv->disk_count, 3);
    a = inventory_find(inv, "wwid:naa.5000c500a1b2c3d4");
    b = inventory_find(inv, "serial:SER 42");
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(inventory_find(inv, "dev:sdc"));
    assert_true(a->is_root && b->is_root);
    assert_false(inventory_find(inv, "dev:sdc")->is_root);
    assert_int_equal(a->volume_count, 3); /* vg-root, md0, sda1 */
    assert_string_equal(a->volumes[0].device, "/nonexistent/mapper/vg-root");
    assert_int_equal(a->volumes[0].length_bytes, 0);
    assert_string_equal(a->volumes[0].mount_points[0], "/");
    assert_int_equal(a->volumes[2].start_bytes, 2048 * 512);
    assert_int_equal(b->volume_count, 2);
    assert_int_equal(inv->mount_count, 1);
    assert_true(inventory_set_has(&inv->mounts[0].disks, (size_t)(a - inv->disks)));
    assert_true(inventory_set_has(&inv->mounts[0].disks, (size_t)(b - inv->disks)));
    inventory_free(inv);
    temp_done(root);
}

static void disks_with_one_key_are_told_apart(void **state)
{
    struct inventory_source src;
    struct inventory *inv;
    char root[64], mountinfo[96];

    (void)state;
    temp_init(root);
    src = made_up(root, mountinfo, sizeof(mountinfo));
    whole(root, "sda", "8:0", "2000");
    whole(root, "sdb", "8:16", "2000");
    put(root, "devices/sda/serial", "same");
    put(root, "devices/sdb/serial", "same");
    put(root, "mountinfo", "");
    assert_int_equal(inventory_scan(&src, &inv, NULL), 0);
    assert_non_null(inventory_find(inv, "dev:sda"));
    assert_non_null(inventory_find(inv, "dev:sdb"));
    assert_null(inventory_find(inv, "serial:same"));
    inventory_free(inv);
    temp_done(root);
}

/* Each path tells its own requests alone: by a path that is protected most writes would be missed. */
static void a_path_of_a_multipath_disk_is_no_disk_to_protect(void **state)
{
    struct inventory_source src;
    struct inventory *inv;
    char root[64], mountinfo[96];

    (void)state;
    temp_init(root);
    src = made_up(root, mountinfo, sizeof(mountinfo));
    for (const char *name = "abc"; *name; name++) {
        char disk[8] = {'s', 'd', *name}, devno[8], path[48];

        snprintf(devno, sizeof(devno), "8:%d", (*name - 'a') * 16);
        whole(root, disk, devno, "2000");
        snprintf(path, sizeof(path), "devices/sd%c/device/wwid", *name);
        put(root, path, *name == 'c' ? "naa.2" : "naa.1");
    }
    stacked(root, "dm-0", "253:0", "sda sdb");
    put(root, "devices/dm-0/dm/name", "mpatha");
    put(root, "devices/dm-0/dm/uuid", "mpath-3600508b400105e21");
    stacked(root, "dm-1", "253:1", "sdc");
    put(root, "devices/dm-1/dm/uuid", "LVM-x");
    must_run("cd %s/devices && mkdir -p sda/holders/dm-0 sdb/holders/dm-0 sdc/holders/dm-1", root);
    put(root, "mountinfo", "");
    assert_int_equal(inventory_scan(&src, &inv, NULL), 0);
    assert_int_equal(inv->disk_count, 3);
    for (size_t i = 0; i < 2; i++) {
        assert_false(inv->disks[i].trackable);
        assert_non_null(strstr(inv->disks[i].reason, "one path of mpatha"));
    }
    assert_null(strstr(inventory_find(inv, "wwid:naa.2")->reason, "path")); /* LVM is on it */
    inventory_free(inv);
    temp_done(root);
}

/* snapd mounts one for each package, and takes it away with its next revision. */
static void a_read_only_loop_disk_comes_with_its_file(void **state)
{
    const struct inventory_disk *d;
    struct inventory *inv;
    struct loopdisk disk;
    int on = 1;

    (void)state;
    if (!loopdisk_is_possible())
        skip();
    loopdisk_init(&disk, 8 * MIB, 512, -1);
    assert_int_equal(ioctl(disk.fd, BLKROSET, &on), 0);
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    on = 0; /* first: whoever has the device next would have it as it is */
    assert_int_equal(ioctl(disk.fd, BLKROSET, &on), 0);
    d = by_device(inv, disk.path);
    assert_non_null(d);
    assert_false(d->trackable);
    assert_non_null(strstr(d->reason, "read-only"));
    inventory_free(inv);
    assert_int_equal(inventory_scan(NULL, &inv, NULL), 0);
    assert_true(by_device(inv, disk.path)->trackable);
    inventory_free(inv);
    loopdisk_done(&disk);
}

static void what_cannot_be_tracked_says_why(void **state)
{
    struct inventory_source src;
    struct inventory *inv;
    char root[64], mountinfo[96];

    (void)state;
    temp_init(root);
    src = made_up(root, mountinfo, sizeof(mountinfo));
    device(root, "pmem0", "259:0", "2000");
    must_run("ln -s ../devices/pmem0 %s/block/pmem0", root);
    whole(root, "sda", "8:0", "0"); /* an empty card reader */
    put(root, "mountinfo", "");
    assert_int_equal(inventory_scan(&src, &inv, NULL), 0);
    assert_int_equal(inv->disk_count, 1);
    assert_false(inv->disks[0].trackable);
    assert_non_null(strstr(inv->disks[0].reason, "pmem0"));
    inventory_free(inv);
    temp_done(root);
}

/* "1", or the empty line that was there: what was written into an attribute that asks. */
static void expect_asked(const char *root, const char *attribute, const char *expected)
{
    char path[200], got[8] = "";
    FILE *f;

    snprintf(path, sizeof(path), "%s/devices/%s", root, attribute);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_true(fgets(got, sizeof(got), f) != NULL);
    (void)fclose(f);
    assert_string_equal(got, expected);
}

static void disks_are_asked_for_their_size_in_their_own_way(void **state)
{
    char *all[] = {(char *)"dev:sda", (char *)"dev:nvme0n1", (char *)"dev:vda"}, *gone[] = {(char *)"dev:sdz"};
    struct inventory_source src;
    struct err err = ERR_INIT;
    json_t *answer = NULL;
    const json_t *row;
    char root[64], mountinfo[96];

    (void)state;
    temp_init(root);
    src = made_up(root, mountinfo, sizeof(mountinfo));
    whole(root, "sda", "8:0", "2000");
    whole(root, "sdb", "8:16", "2000");
    whole(root, "nvme0n1", "259:0", "4000");
    whole(root, "vda", "254:0", "6000");
    put(root, "devices/sda/device/rescan", "");
    put(root, "devices/sdb/device/rescan", "");
    put(root, "devices/nvme0n1/device/rescan_controller", "");
    put(root, "mountinfo", "");
    assert_int_equal(disksize_look(&src, all, 3, &answer, &err), 0);
    expect_asked(root, "sda/device/rescan", "1");
    expect_asked(root, "nvme0n1/device/rescan_controller", "1");
    expect_asked(root, "sdb/device/rescan", "\n"); /* nobody named it */
    row = json_array_get(json_object_get(answer, "disks"), 2);
    assert_string_equal(json_string_value(json_object_get(row, "key")), "dev:vda");
    assert_string_equal(json_string_value(json_object_get(row, "before_bytes")), "3072000");
    assert_string_equal(json_string_value(json_object_get(row, "size_bytes")), "3072000");
    json_decref(answer);
    assert_int_equal(disksize_look(&src, gone, 1, &answer, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "dev:sdz"));
    temp_done(root);
}

static void a_stack_that_bites_its_tail_ends(void **state)
{
    struct inventory_source src;
    struct inventory *inv;
    char root[64], mountinfo[96];

    (void)state;
    temp_init(root);
    src = made_up(root, mountinfo, sizeof(mountinfo));
    whole(root, "sda", "8:0", "2000");
    stacked(root, "dm-0", "253:0", "dm-1");
    stacked(root, "dm-1", "253:1", "dm-0");
    put(root, "mountinfo", "garbage\n30 1 253:0 / /x rw - ext4 /dev/x rw");
    assert_int_equal(inventory_scan(&src, &inv, NULL), 0);
    assert_int_equal(inv->disk_count, 1);
    assert_int_equal(inv->disks[0].volume_count, 0);
    inventory_free(inv);
    temp_done(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_disk_with_partitions_and_mounts),
        cmocka_unit_test(an_inventory_becomes_a_message),
        cmocka_unit_test(a_disk_that_does_not_answer_hides_no_other),
        cmocka_unit_test(another_disk_under_the_name_is_noticed),
        cmocka_unit_test(a_mount_point_that_does_not_answer_hides_no_disk),
        cmocka_unit_test(many_that_do_not_answer_are_not_waited_for_one_by_one),
        cmocka_unit_test(lvm_over_md_is_found_on_the_disks_at_the_bottom),
        cmocka_unit_test(disks_with_one_key_are_told_apart),
        cmocka_unit_test(a_path_of_a_multipath_disk_is_no_disk_to_protect),
        cmocka_unit_test(a_read_only_loop_disk_comes_with_its_file),
        cmocka_unit_test(what_cannot_be_tracked_says_why),
        cmocka_unit_test(disks_are_asked_for_their_size_in_their_own_way),
        cmocka_unit_test(a_stack_that_bites_its_tail_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
