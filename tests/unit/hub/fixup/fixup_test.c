/* SPDX-License-Identifier: Apache-2.0
 *
 * Fix-ups on trees of files: what is listed is what is changed and nothing else; each way of configuring a network; links that lead out of the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/xattr.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/fixup/fixers.h"
#include "hub/fixup/fixup_spec.h"
#include "hub/fixup/take_back.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

#define MAC "52:54:00:01:02:03"
#define STATIC                                                                                                         \
    "{\"network\":{\"method\":\"static\",\"address\":\"192.0.2.77/"                                                    \
    "24\",\"gateway\":\"192.0.2.1\",\"dns\":[\"192.0.2.1\"]}}"

struct guest {
    char folder[64];
    struct guest_tree tree;
    bool root_is_known;
    int cards;      /* of the replica */
    json_t *report; /* of the last fix */
    bool unbootable;
    change_run *rebuilds; /* instead of noting what is run */
    const char *inside;   /* what the guest's tool finds in an initramfs */
    const char *fails;    /* programs with this word in their arguments fail */
    char ran[256];        /* programs that were run */
};

static struct guest *running;

static int setup(void **state)
{
    struct guest *g = mem_new(struct guest);

    snprintf(g->folder, sizeof(g->folder), "/tmp/leeward-fixup-XXXXXX");
    assert_non_null(mkdtemp(g->folder));
    assert_int_equal(guest_tree_open(g->folder, &g->tree, NULL), 0);
    /* Before anything is written: a tree that lets paths out would have the tests change the machine that they run on. */
    assert_false(guest_tree_has(&g->tree, "/proc/self"));
    *state = running = g;
    return 0;
}

static int teardown(void **state)
{
    struct guest *g = *state;

    guest_tree_close(&g->tree);
    (void)file_remove_tree(g->folder, NULL);
    json_decref(g->report);
    free(g);
    return 0;
}

static void put(struct guest *g, const char *path, const char *text)
{
    assert_int_equal(guest_tree_write(&g->tree, path, text, 0644, NULL), 0);
}

static const char *text_at(struct guest *g, const char *path)
{
    static char *texts[8];
    static unsigned at;
    char **slot = &texts[at++ % 8];

    free(TAKE_PTR(*slot));
    return guest_tree_read(&g->tree, path, slot, NULL) == 1 ? *slot : NULL;
}

static void expect(struct guest *g, const char *path, const char *part)
{
    const char *text = text_at(g, path);

    if (!text || !strstr(text, part))
        fail_msg("%s lacks \"%s\": %s", path, part, text ? text : "(absent)");
}

static int note_run(const struct guest_tree *tree, char *const *argv, struct err *err)
{
    (void)tree;
    for (size_t i = 0; argv[i]; i++) {
        if (running->fails && strcmp(argv[i], running->fails) == 0)
            return err_set(err, ERR_REFUSED, "%s failed with status 1: no space", argv[0]);
        strncat(running->ran, argv[i], sizeof(running->ran) - strlen(running->ran) - 2);
        strcat(running->ran, " ");
    }
    return 0;
}

/* A tool that finds ext4 in the initramfs, and no virtio. */
static int ask_tool(const struct guest_tree *tree, const char *const *argv, char **ret_text, struct err *err)
{
    (void)tree;
    (void)err;
    assert_true(strcmp(argv[0], "lsinitramfs") == 0 || strcmp(argv[0], "lsinitrd") == 0);
    *ret_text = mem_strdup(running->inside ? running->inside : "usr/lib/modules/6.1/kernel/fs/ext4/ext4.ko\n");
    return 0;
}

/* Lists what `fixups` changes, and makes it so if apply. */
static void fix(struct guest *g, const char *fixups_text, bool apply)
{
    struct change_list *list AUTO_OF(change_list) = change_list_new(&g->tree, "f-1");
    json_t *fixups = json_loads(fixups_text, 0, NULL);
    json_t *context = json_pack("{s:s, s:s, s:s, s:s, s:i}", "failover_id", "f-1", "machine_id", "m-1", "machine_name",
        "web1", "mac", MAC, "cards", g->cards);
    json_t *found =
        json_loads("[{\"device\":\"/dev/sda1\",\"uuid\":\"aaaa-1\"},{\"device\":\"/dev/sda2\",\"uuid\":\"aaaa-2\"},"
                   "{\"device\":\"/dev/sda3\",\"uuid\":\"\"}]",
            0, NULL);
    if (g->root_is_known)
        json_object_set_new(json_array_get(found, 0), "is_root", json_true());
    struct err err = ERR_INIT;
    const struct fixup_call call = {
        .list = list, .fixups = fixups, .context = context, .filesystems = found, .ask = ask_tool};

    assert_non_null(fixups);
    if (fixup_spec_check(fixups, &err) < 0 || fix_all(&call, &err) < 0)
        fail_msg("%s", err.text);
    json_decref(g->report);
    if (apply && change_list_apply(list, g->rebuilds ? g->rebuilds : note_run, &err) < 0)
        fail_msg("%s", err.text);
    g->report = change_list_report(list, &err);
    assert_non_null(g->report);
    g->unbootable = change_list_unbootable(list) != NULL;
    json_decref(fixups);
    json_decref(context);
    json_decref(found);
}

/* The change of a path in the last report; NULL: there is none. */
static const json_t *change_of(struct guest *g, const char *path)
{
    const json_t *one;
    size_t at;

    json_array_foreach(json_object_get(g->report, "changes"), at,
        one) if (strcmp(json_string_value(json_object_get(one, "path")), path) == 0) return one;
    return NULL;
}

static void expect_action(struct guest *g, const char *path, const char *action)
{
    const json_t *one = change_of(g, path);

    if (!one || strcmp(json_string_value(json_object_get(one, "action")), action) != 0)
        fail_msg("%s is not listed as %s", path, action);
}

/* ---- storage ---- */

static void disks_get_names_that_hold_in_any_machine(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/fstab",
        "# /dev/sda1 was the root\n/dev/sda1 / ext4 defaults 0 1\nLABEL=data /data xfs defaults 0 2\n/dev/sda2 none "
        "swap sw 0 0\n/dev/sdb1 /old ext4 ro 0 0\n/dev/mapper/vg-x /x ext4 ro 0 0\n"
        "/dev/sda3 /raw auto noauto 0 0\n");
    put(g, "/boot/grub/grub.cfg", "linux /boot/vmlinuz root=/dev/sda1 ro resume=/dev/sda2 quiet\n");
    put(g, "/boot/loader/entries/a.conf", "options root=/dev/sda1 ro\n");
    fix(g, "{}", false);
    expect_action(g, "/etc/fstab", "edit");
    expect(g, "/etc/fstab", "\n/dev/sda1 / ext4");
    fix(g, "{}", true);
    assert_string_equal(text_at(g, "/etc/fstab"),
        "# /dev/sda1 was the root\nUUID=aaaa-1 / ext4 defaults 0 1\nLABEL=data /data xfs defaults 0 2\nUUID=aaaa-2 "
        "none swap sw 0 0\n/dev/sdb1 /old ext4 ro 0 0\n/dev/mapper/vg-x /x ext4 ro 0 0\n"
        "/dev/sda3 /raw auto noauto 0 0\n"); /* without a file system it has no name that holds */
    assert_string_equal(
        text_at(g, "/boot/grub/grub.cfg"), "linux /boot/vmlinuz root=UUID=aaaa-1 ro resume=UUID=aaaa-2 quiet\n");
    assert_string_equal(text_at(g, "/boot/loader/entries/a.conf"), "options root=UUID=aaaa-1 ro\n");
    expect(g, GUEST_ORIGINALS "/f-1/etc/fstab", "\n/dev/sda1 / ext4");
    const char *warning = json_string_value(json_array_get(json_object_get(g->report, "warnings"), 0));

    assert_non_null(warning);
    assert_non_null(strstr(warning, "/dev/sdb1"));
}

static void the_root_is_known_whatever_its_disk_was_called(void **state)
{
    struct guest *g = *state;

    g->root_is_known = true;
    put(g, "/etc/fstab", "/dev/nvme0n1p1\t/\text4 defaults 0 1\n/dev/nvme0n1p2 /home ext4 defaults 0 2\n");
    put(g, "/boot/grub2/grub.cfg", "linux /vmlinuz root=/dev/nvme0n1p1 resume=/dev/nvme0n1p3\n");
    fix(g, "{}", true);
    assert_string_equal(
        text_at(g, "/etc/fstab"), "UUID=aaaa-1\t/\text4 defaults 0 1\n/dev/nvme0n1p2 /home ext4 defaults 0 2\n");
    assert_string_equal(text_at(g, "/boot/grub2/grub.cfg"), "linux /vmlinuz root=UUID=aaaa-1 resume=/dev/nvme0n1p3\n");
}

static void a_helper_that_comes_again_lists_the_whole_and_changes_nothing_more(void **state)
{
    struct guest *g = *state;
    AUTO_FREE char *first = NULL;

    put(g, "/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n");
    fix(g, "{}", true);
    json_object_del(g->report, "warnings");
    first = json_dumps(g->report, JSON_SORT_KEYS);
    fix(g, "{}", true);
    json_object_del(g->report, "warnings");
    AUTO_FREE char *second = json_dumps(g->report, JSON_SORT_KEYS);

    assert_string_equal(first, second);
    assert_string_equal(text_at(g, "/etc/fstab"), "UUID=aaaa-1 / ext4 defaults 0 1\n");
    assert_string_equal(text_at(g, GUEST_ORIGINALS "/f-1/etc/fstab"), "/dev/sda1 / ext4 defaults 0 1\n");
}

static void the_serial_line_is_added_once(void **state)
{
    struct guest *g = *state;

    put(g, "/boot/grub/grub.cfg",
        "set root=x\nlinux /vmlinuz root=UUID=1 ro\nlinux /other root=UUID=1 console=ttyS0\n");
    fix(g, "{\"serial_console\":true}", true);
    assert_string_equal(text_at(g, "/boot/grub/grub.cfg"),
        "set root=x\nlinux /vmlinuz root=UUID=1 ro console=tty0 "
        "console=ttyS0,115200\nlinux /other root=UUID=1 console=ttyS0\n");
    fix(g, "{\"serial_console\":true}", true);
    expect(g, "/boot/grub/grub.cfg", "ro console=tty0 console=ttyS0,115200\n");
}

/* ---- drivers ---- */

static void a_kernel_without_virtio_in_its_initramfs_gets_it(void **state)
{
    struct guest *g = *state;

    put(g, "/lib/modules/6.1/modules.builtin", "kernel/drivers/virtio/virtio.ko\n");
    put(g, "/lib/modules/6.1/modules.dep",
        "kernel/drivers/virtio/virtio_pci.ko: x\nkernel/drivers/block/virtio_blk.ko: y\n");
    put(g, "/boot/initrd.img-6.1", "packed");
    put(g, "/usr/sbin/update-initramfs", "#!/bin/sh\n");
    put(g, "/etc/initramfs-tools/modules", "# mine\nahci");
    fix(g, "{}", false);
    expect_action(g, "/boot/initrd.img-6.1", "run");
    assert_string_equal(g->ran, "");
    fix(g, "{}", true);
    assert_string_equal(g->ran, "update-initramfs -u -k 6.1 ");
    assert_string_equal(text_at(g, "/etc/initramfs-tools/modules"), "# mine\nahci\nvirtio_pci\nvirtio_blk\n");
}

static void a_kernel_with_virtio_built_in_is_left_alone(void **state)
{
    struct guest *g = *state;

    put(g, "/lib/modules/6.1/modules.builtin",
        "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/block/virtio_blk.ko\n");
    put(g, "/boot/initramfs-6.1.img", "packed");
    put(g, "/usr/bin/dracut", "#!/bin/sh\n");
    fix(g, "{\"agent\":false}", true);
    assert_int_equal(json_array_size(json_object_get(g->report, "changes")), 0);
}

static void dracut_is_told_by_a_file_of_its_own(void **state)
{
    struct guest *g = *state;

    put(g, "/lib/modules/5.14/modules.dep",
        "kernel/drivers/virtio/virtio_pci.ko.xz: x\nkernel/drivers/block/virtio_blk.ko.xz: y\n");
    put(g, "/boot/initramfs-5.14.img", "packed");
    put(g, "/usr/bin/dracut", "#!/bin/sh\n");
    fix(g, "{}", true);
    expect(g, "/etc/dracut.conf.d/90-leeward-replica.conf", "virtio_blk");
    assert_string_equal(g->ran, "dracut --force /boot/initramfs-5.14.img 5.14 ");
}

/* ---- network ---- */

static void networkd_gets_the_new_address_and_keeps_the_name(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/systemd/network/lan.network", "[Match]\nName=eno1\n[Network]\nAddress=10.1.0.5/16\n");
    put(g, "/etc/systemd/network/br0.netdev", "[NetDev]\nName=br0\n");
    fix(g, STATIC, true);
    expect_action(g, "/etc/systemd/network/lan.network", "remove");
    assert_null(text_at(g, "/etc/systemd/network/lan.network"));
    expect(g, GUEST_ORIGINALS "/f-1/etc/systemd/network/lan.network", "10.1.0.5");
    expect(g, "/etc/systemd/network/10-leeward-replica.network",
        "MACAddress=" MAC "\n\n[Network]\nAddress=192.0.2.77/24\nGateway=192.0.2.1\nDNS=192.0.2.1\n");
    expect(g, "/etc/systemd/network/10-leeward-replica.link", "Name=eno1\n");
    expect(g, "/etc/systemd/network/br0.netdev", "br0");
}

static void ifupdown_gets_the_new_address(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/network/interfaces", "source /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n");
    put(g, "/etc/network/interfaces.d/lan", "auto enp3s0\niface enp3s0 inet static\n address 10.1.0.5/16\n");
    put(g, "/etc/resolv.conf", "nameserver 10.1.0.1\n");
    fix(g, STATIC, true);
    assert_null(text_at(g, "/etc/network/interfaces.d/lan"));
    expect(g, "/etc/network/interfaces",
        "auto enp3s0\niface enp3s0 inet static\n    address 192.0.2.77/24\n    gateway 192.0.2.1\n    dns-nameservers "
        "192.0.2.1\n");
    expect(g, "/etc/systemd/network/10-leeward-replica.link", "Name=enp3s0\n");
    assert_string_equal(text_at(g, "/etc/resolv.conf"), "nameserver 192.0.2.1\n");
}

static void netplan_gets_the_new_address_and_cloud_init_leaves_it(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/netplan/50-cloud-init.yaml",
        "network:\n    version: 2\n    ethernets:\n        # the one\n        \"ens3\":\n            dhcp4: true\n");
    put(g, "/etc/cloud/cloud.cfg", "users: []\n");
    fix(g, STATIC, true);
    assert_null(text_at(g, "/etc/netplan/50-cloud-init.yaml"));
    expect(g, "/etc/netplan/90-leeward-replica.yaml", "addresses: [\"192.0.2.77/24\"]");
    expect(g, "/etc/netplan/90-leeward-replica.yaml", "set-name: \"ens3\"");
    expect(g, "/etc/cloud/cloud.cfg.d/99-leeward-replica.cfg", "config: disabled");
}

/* ---- several cards ---- */

#define EACH                                                                                                           \
    "{\"network\":{\"method\":\"each\",\"nics\":[{\"name\":\"eno1\",\"method\":\"static\",\"address\":\"192.0.2.77/"   \
    "24\","                                                                                                            \
    "\"gateway\":\"192.0.2.1\"},{\"name\":\"eno2\",\"method\":\"dhcp\"}]}}"

/* The hardware address that the replica's second card has, within the text. */
static void expect_second(struct guest *g, const char *path, const char *form)
{
    AUTO_FREE char *text = NULL;
    char mac[18];

    fixup_nic_mac("f-1", 1, mac);
    assert_string_not_equal(mac, MAC);
    text = mem_printf("%s%s", form, mac);
    expect(g, path, text);
}

static void each_card_gets_its_own_address_by_networkd(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/systemd/network/lan.network", "[Match]\nName=eno1\n[Network]\nAddress=10.1.0.5/16\n");
    fix(g, EACH, true);
    assert_null(text_at(g, "/etc/systemd/network/lan.network"));
    expect(g, "/etc/systemd/network/10-leeward-replica.network",
        "MACAddress=" MAC "\n\n[Network]\nAddress=192.0.2.77/24\n");
    expect(g, "/etc/systemd/network/10-leeward-replica.link", "Name=eno1\n");
    expect_second(g, "/etc/systemd/network/10-leeward-replica-2.network", "MACAddress=");
    expect(g, "/etc/systemd/network/10-leeward-replica-2.network", "DHCP=yes\n");
    expect_second(g, "/etc/systemd/network/10-leeward-replica-2.link", "MACAddress=");
    expect(g, "/etc/systemd/network/10-leeward-replica-2.link", "Name=eno2\n");
}

static void each_card_gets_its_own_address_by_ifupdown(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/network/interfaces", "auto lo\niface lo inet loopback\nauto eno1\niface eno1 inet dhcp\n");
    fix(g, EACH, true);
    assert_string_equal(text_at(g, "/etc/network/interfaces"),
        "auto lo\niface lo inet loopback\n\nauto eno1\niface eno1 inet static\n    address 192.0.2.77/24\n    gateway "
        "192.0.2.1\n\nauto eno2\niface eno2 inet dhcp\n");
    expect(g, "/etc/systemd/network/10-leeward-replica-2.link", "Name=eno2\n");
}

static void each_card_gets_its_own_address_by_netplan(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/netplan/lan.yaml", "network:\n  ethernets:\n    eno1:\n      dhcp4: true\n");
    fix(g, EACH, true);
    assert_null(text_at(g, "/etc/netplan/lan.yaml"));
    expect(g, "/etc/netplan/90-leeward-replica.yaml",
        "network:\n  version: 2\n  ethernets:\n    replica0:\n      match:\n        macaddress: \"" MAC "\"\n");
    expect_second(g, "/etc/netplan/90-leeward-replica.yaml", "    replica1:\n      match:\n        macaddress: \"");
    expect(g, "/etc/netplan/90-leeward-replica.yaml", "set-name: \"eno2\"\n      dhcp4: true\n");
}

static void each_card_gets_its_own_address_by_networkmanager(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/NetworkManager/system-connections/lan.nmconnection",
        "[connection]\ntype=ethernet\ninterface-name=eno1\n");
    fix(g, EACH, true);
    expect(g, "/etc/NetworkManager/system-connections/leeward-replica.nmconnection", "id=leeward-replica\n");
    expect_second(g, "/etc/NetworkManager/system-connections/leeward-replica-2.nmconnection",
        "id=leeward-replica-2\ntype=ethernet\nautoconnect=true\n\n[ethernet]\nmac-address=");
}

/* What only root may read in the guest is not shown to those who may look at failovers; it is kept in the guest. */
static void what_root_alone_may_read_does_not_travel(void **state)
{
    struct guest *g = *state;

    assert_int_equal(
        guest_tree_write(&g->tree, "/etc/netplan/60-wifi.yaml",
            "network:\n    ethernets:\n        ens3:\n            auth:\n                password: s3same\n", 0600,
            NULL),
        0);
    fix(g, STATIC, true);
    AUTO_FREE char *report = json_dumps(g->report, 0);

    assert_null(text_at(g, "/etc/netplan/60-wifi.yaml"));
    expect_action(g, "/etc/netplan/60-wifi.yaml", "remove");
    assert_null(strstr(report, "s3same"));
    assert_non_null(strstr(report, "not shown"));
    expect(g, GUEST_ORIGINALS "/f-1/etc/netplan/60-wifi.yaml", "s3same");
}

static void networkmanager_gets_the_new_address_and_keeps_its_tunnels(void **state)
{
    struct guest *g = *state;
    struct stat st;

    put(g, "/etc/NetworkManager/system-connections/lan.nmconnection",
        "[connection]\ntype=ethernet\ninterface-name=em1\n[wifi-security]\npsk=secret\n");
    put(g, "/etc/NetworkManager/system-connections/vpn.nmconnection", "[connection]\ntype=vpn\n");
    put(g, "/etc/sysconfig/network-scripts/ifcfg-em1", "DEVICE=em1\nIPADDR=10.1.0.5\n");
    put(g, "/etc/sysconfig/network-scripts/ifcfg-lo", "DEVICE=lo\n");
    fix(g, "{\"network\":{\"method\":\"dhcp\"}}", true);
    assert_null(text_at(g, "/etc/NetworkManager/system-connections/lan.nmconnection"));
    assert_null(text_at(g, "/etc/sysconfig/network-scripts/ifcfg-em1"));
    assert_non_null(text_at(g, "/etc/sysconfig/network-scripts/ifcfg-lo"));
    assert_non_null(text_at(g, "/etc/NetworkManager/system-connections/vpn.nmconnection"));
    expect(g, "/etc/NetworkManager/system-connections/leeward-replica.nmconnection",
        "mac-address=" MAC "\n\n[ipv4]\nmethod=auto\n");
    expect(g, "/etc/systemd/network/10-leeward-replica.link", "Name=em1\n");
    assert_int_equal(
        fstatat(g->tree.fd, "etc/NetworkManager/system-connections/leeward-replica.nmconnection", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    AUTO_FREE char *told = json_dumps(g->report, 0);

    assert_null(strstr(told, "secret"));
}

static void addresses_are_translated_where_they_stand(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/systemd/network/lan.network",
        "[Match]\nMACAddress=AA:bb:cc:dd:ee:01\n[Network]\nAddress=10.1.0.5/16\nAddress=110.1.0.5/"
        "16\nGateway=10.1.255.254\nDNS=8.8.8.8\n# 10.1.0.5.6\n");
    put(g, "/etc/hosts", "10.1.0.5 web1\n127.0.0.1 localhost\n");
    fix(g, "{\"network\":{\"method\":\"translate\",\"map\":[{\"from\":\"10.1.0.0/16\",\"to\":\"10.9.0.0/16\"}]}}",
        true);
    assert_string_equal(text_at(g, "/etc/systemd/network/lan.network"),
        "[Match]\nMACAddress=" MAC
        "\n[Network]\nAddress=10.9.0.5/16\nAddress=110.1.0.5/16\nGateway=10.9.255.254\nDNS=8.8.8.8\n# 10.1.0.5.6\n");
    assert_string_equal(text_at(g, "/etc/hosts"), "10.9.0.5 web1\n127.0.0.1 localhost\n");
}

/* The warnings that say so. */
static size_t warned(const struct guest *g, const char *of)
{
    const json_t *one;
    size_t at, n = 0;

    json_array_foreach(json_object_get(g->report, "warnings"), at, one) n += strstr(json_string_value(one), of) != NULL;
    return n;
}

static void hardware_that_is_not_translated_is_told(void **state)
{
    static const char translation[] =
        "{\"network\":{\"method\":\"translate\",\"map\":[{\"from\":\"10.1.0.0/16\",\"to\":\"10.9.0.0/16\"}]}}";
    struct guest *g = *state;

    put(g, "/etc/systemd/network/a.network", "[Match]\nMACAddress=aa:bb:cc:dd:ee:01\n");
    put(g, "/etc/systemd/network/b.network", "[Match]\nMACAddress=aa:bb:cc:dd:ee:02\n[Network]\nAddress=10.1.0.5/16\n");
    put(g, "/etc/systemd/network/c.network", "[Match]\nMACAddress=aa:bb:cc:dd:ee:03\n");
    fix(g, translation, false);
    assert_int_equal(warned(g, "hardware address"), 0);
    g->cards = 2;
    fix(g, translation, true);
    assert_int_equal(warned(g, "hardware address aa:bb:cc:dd:ee:02 stays"), 1);
    assert_int_equal(warned(g, "hardware address"), 1);
    assert_string_equal(text_at(g, "/etc/systemd/network/b.network"),
        "[Match]\nMACAddress=aa:bb:cc:dd:ee:02\n[Network]\nAddress=10.9.0.5/16\n");
}

/* ---- role, limits, input ---- */

static void an_agent_in_a_replica_does_not_start(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/systemd/system/leeward-agent.service", "[Service]\n");
    fix(g, "{}", true);
    expect(g, "/etc/leeward/replica", "failover f-1\nmachine m-1 web1\n");
    expect(
        g, "/etc/systemd/system/leeward-agent.service.d/50-replica.conf", "ConditionPathExists=!/etc/leeward/replica");
}

static void links_do_not_lead_out_of_the_guest(void **state)
{
    struct guest *g = *state;
    char outside[] = "/tmp/leeward-fixup-outside-XXXXXX";
    int fd = mkstemp(outside);
    struct stat st;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "/dev/sda1 / ext4\n", 17), 17);
    assert_int_equal(mkdirat(g->tree.fd, "etc", 0755), 0);
    assert_int_equal(symlinkat(outside, g->tree.fd, "etc/fstab"), 0);
    assert_int_equal(symlinkat("/../../../../../tmp", g->tree.fd, "boot"), 0);
    assert_null(text_at(g, "/etc/fstab"));
    assert_int_equal(guest_tree_write(&g->tree, "/boot/x", "in", 0644, NULL), -1);
    assert_int_equal(guest_tree_write(&g->tree, "/etc/fstab", "new\n", 0644, NULL), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 17);
    assert_string_equal(text_at(g, "/etc/fstab"), "new\n");
    (void)close(fd);
    (void)unlink(outside);
}

static void what_is_no_text_is_left_alone(void **state)
{
    struct guest *g = *state;

    assert_int_equal(mkdirat(g->tree.fd, "etc", 0755), 0);
    assert_int_equal(mkfifoat(g->tree.fd, "etc/fstab", 0600), 0);
    int fd = openat(g->tree.fd, "etc/crypttab", O_WRONLY | O_CREAT, 0600);

    assert_int_equal(write(fd, "/dev/sda1\0x", 11), 11);
    (void)close(fd);
    fix(g, "{\"agent\":false}", true);
    assert_int_equal(json_array_size(json_object_get(g->report, "changes")), 0);
}

/* Half a million lines, and a word for each of which there is a warning. */
static void a_long_and_strange_text_has_a_short_report(void **state)
{
    struct guest *g = *state;
    const size_t size = GUEST_TEXT_MAX;
    AUTO_FREE char *text = mem_alloc(size + 1, 1);

    for (size_t i = 0; i + 12 <= size; i += 12)
        memcpy(text + i, "/dev/sd\xff\x01 \n\n", 12);
    memcpy(text, "/dev/sda1 /\n", 12);
    text[size] = '\0';
    put(g, "/etc/fstab", text);
    fix(g, "{\"agent\":false}", true);
    expect_action(g, "/etc/fstab", "edit");
    expect(g, "/etc/fstab", "UUID=aaaa-1 /\n/dev/sd\xff");
    assert_int_equal(json_array_size(json_object_get(g->report, "warnings")), WARNINGS_MAX);
    AUTO_FREE char *told = json_dumps(g->report, 0);

    assert_non_null(told);
    assert_true(strlen(told) < 65536);
}

static void a_machine_may_become_a_replica_again(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n");
    put(g, GUEST_ORIGINALS "/f-0/etc/fstab", "UUID=aaaa-1 / ext4 defaults 0 1\n");
    fix(g, "{}", true);
    assert_string_equal(text_at(g, "/etc/fstab"), "UUID=aaaa-1 / ext4 defaults 0 1\n");
    expect(g, GUEST_ORIGINALS "/f-1/etc/fstab", "/dev/sda1 /");
}

static void a_card_without_a_known_name_gets_one_with_ifupdown(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/network/interfaces", "source /etc/network/interfaces.d/*\n");
    put(g, "/etc/network/interfaces.d/lan", "# empty\n");
    fix(g, STATIC, true);
    expect(g, "/etc/network/interfaces", "auto eth0\niface eth0 inet static\n");
    expect(g, "/etc/systemd/network/10-leeward-replica.link", "Name=eth0\n");
}

static void wrong_fixups_are_refused_by_name(void **state)
{
    static const struct {
        const char *text, *member;
    } bad[] = {{"[]", "fixups"}, {"{\"driver\":true}", "fixups.driver"}, {"{\"agent\":1}", "fixups.agent"},
        {"{\"on_failure\":\"no\"}", "fixups.on_failure"}, {"{\"network\":{}}", "network.method"},
        {"{\"network\":{\"method\":\"x\"}}", "network.method"},
        {"{\"network\":{\"method\":\"dhcp\",\"address\":\"1.2.3.4/8\"}}", "network.address"},
        {"{\"network\":{\"method\":\"static\",\"address\":\"1.2.3.4\"}}", "network.address"},
        {"{\"network\":{\"method\":\"static\",\"address\":\"1.2.3.4/33\"}}", "network.address"},
        {"{\"network\":{\"method\":\"static\",\"address\":\"1.2.3.4/8\\nDNS=x\"}}", "network.address"},
        {"{\"network\":{\"method\":\"static\",\"address\":\"1.2.3.4/8\",\"gateway\":\"x\"}}", "network.gateway"},
        {"{\"network\":{\"method\":\"static\",\"address\":\"1.2.3.4/8\",\"dns\":[\"1.1.1.1;x\"]}}", "network.dns"},
        {"{\"network\":{\"method\":\"static\",\"name\":\"a\",\"address\":\"1.2.3.4/8\"}}", "network.name"},
        {"{\"network\":{\"method\":\"each\"}}", "network.nics"},
        {"{\"network\":{\"method\":\"each\",\"nics\":[]}}", "network.nics"},
        {"{\"network\":{\"method\":\"each\",\"nics\":[{\"method\":\"keep\"}]}}", "network.nics"},
        {"{\"network\":{\"method\":\"each\",\"nics\":[{\"method\":\"dhcp\",\"name\":\"a\\nb\"}]}}", "network.nics"},
        {"{\"network\":{\"method\":\"each\",\"nics\":[{\"method\":\"dhcp\",\"name\":\"lo\"}]}}", "network.nics"},
        {"{\"network\":{\"method\":\"each\",\"nics\":[{\"method\":\"dhcp\",\"name\":\"a\"},{\"method\":\"dhcp\"},{"
         "\"method\":\"dhcp\",\"name\":\"a\"}]}}",
            "network.nics"},
        {"{\"network\":{\"method\":\"each\",\"nics\":[{\"method\":\"static\",\"address\":\"1.2.3.4\"}]}}",
            "network.address"},
        {"{\"network\":{\"method\":\"translate\",\"map\":[]}}", "network.map"},
        {"{\"network\":{\"method\":\"translate\",\"map\":[{\"from\":\"10.0.0.0/8\",\"to\":\"10.0.0.0/16\"}]}}",
            "network.map"},
        {"{\"network\":{\"method\":\"translate\",\"map\":[{\"from\":\"10.0.0.1/8\",\"to\":\"11.0.0.0/8\"}]}}",
            "network.map"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        json_t *fixups = json_loads(bad[i].text, 0, NULL);
        struct err err = ERR_INIT;

        if (fixup_spec_check(fixups, &err) == 0 || err.code != ERR_INVALID || !strstr(err.text, bad[i].member))
            fail_msg("%s: %s", bad[i].text, err.text);
        json_decref(fixups);
    }
    assert_int_equal(fixup_spec_check(NULL, NULL), 0);
}

/* ---- what is kept ---- */

#define LABEL "security.selinux"

static int open_at(struct guest *g, const char *path, int flags)
{
    int fd = openat(g->tree.fd, path + 1, flags | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void label(struct guest *g, const char *path, const char *name, const char *value)
{
    int fd = open_at(g, path, O_RDONLY);

    assert_int_equal(fsetxattr(fd, name, value, strlen(value), 0), 0);
    (void)close(fd);
}

static void expect_label(struct guest *g, const char *path, const char *name, const char *value)
{
    int fd = open_at(g, path, O_RDONLY);
    char found[100] = "";

    assert_true(fgetxattr(fd, name, found, sizeof(found) - 1) >= 0);
    assert_string_equal(found, value);
    (void)close(fd);
}

/* As setcap(8) gives them. */
static const struct vfs_cap_data net_raw = {
    .magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE, .data[0].permitted = 1u << CAP_NET_RAW};

static void give_capabilities(struct guest *g, const char *path)
{
    int fd = open_at(g, path, O_RDONLY);

    assert_int_equal(fsetxattr(fd, XATTR_NAME_CAPS, &net_raw, sizeof(net_raw), 0), 0);
    (void)close(fd);
}

static void expect_capabilities(struct guest *g, const char *path)
{
    struct vfs_cap_data found;
    int fd = open_at(g, path, O_RDONLY);

    assert_int_equal(fgetxattr(fd, XATTR_NAME_CAPS, &found, sizeof(found)), sizeof(found));
    assert_memory_equal(&found, &net_raw, sizeof(found));
    (void)close(fd);
}

static void expect_owner(struct guest *g, const char *path, unsigned uid, unsigned gid, unsigned mode)
{
    int fd = open_at(g, path, O_RDONLY);
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_uid, uid);
    assert_int_equal(st.st_gid, gid);
    assert_int_equal(st.st_mode & 07777, mode);
    (void)close(fd);
}

static void a_file_keeps_its_owner_mode_and_attributes(void **state)
{
    struct guest *g = *state;

    put(g, "/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n");
    assert_int_equal(fchownat(g->tree.fd, "etc/fstab", 12, 34, 0), 0);
    assert_int_equal(fchmodat(g->tree.fd, "etc/fstab", 02640, 0), 0);
    label(g, "/etc/fstab", LABEL, "u:r:fstab_t:s0");
    label(g, "/etc/fstab", "user.note", "mine");
    give_capabilities(g, "/etc/fstab");
    label(g, "/etc", LABEL, "u:r:etc_t:s0");
    fix(g, "{}", true);
    expect(g, "/etc/fstab", "UUID=aaaa-1");
    for (int kept = 0; kept < 2; kept++) {
        const char *path = kept ? GUEST_ORIGINALS "/f-1/etc/fstab" : "/etc/fstab";

        expect_owner(g, path, 12, 34, 02640);
        expect_label(g, path, LABEL, "u:r:fstab_t:s0");
        expect_label(g, path, "user.note", "mine");
        expect_capabilities(g, path);
    }
    /* What is new is as if the guest's own kernel had made it: file and folders. */
    expect_label(g, "/etc/leeward", LABEL, "u:r:etc_t:s0");
    expect_label(g, "/etc/leeward/replica", LABEL, "u:r:etc_t:s0");
}

/* One change, made at once. */
static void change(struct guest *g, const char *path, const char *text)
{
    struct change_list *list AUTO_OF(change_list) = change_list_new(&g->tree, "f-1");
    struct err err = ERR_INIT;

    assert_int_equal(change_list_put(list, "network", path, text, 0644, "because", &err), 0);
    if (change_list_apply(list, note_run, &err) < 0)
        fail_msg("%s", err.text);
}

static void put_bytes(struct guest *g, const char *path, size_t size)
{
    AUTO_FREE char *data = mem_alloc(size, 1);
    int fd;

    put(g, path, "");
    for (size_t i = 0; i < size; i++)
        data[i] = (char)(i * 7);
    fd = open_at(g, path, O_WRONLY);
    assert_int_equal(file_write_all(fd, data, size, path, NULL), 0);
    (void)close(fd);
}

static void what_is_replaced_is_kept_whatever_it_is(void **state)
{
    static const char *const paths[] = {"/etc/large", "/etc/binary"};
    struct guest *g = *state;
    char before[GUEST_HASH_SIZE], after[GUEST_HASH_SIZE], target[64] = "";

    put_bytes(g, paths[0], GUEST_TEXT_MAX + 4097);
    put_bytes(g, paths[1], 11);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        AUTO_FREE char *kept = mem_printf(GUEST_ORIGINALS "/f-1%s", paths[i]);

        assert_int_equal(guest_tree_hash(&g->tree, paths[i], before, NULL), 1);
        change(g, paths[i], i == 0 ? NULL : "text\n");
        assert_int_equal(guest_tree_hash(&g->tree, kept, after, NULL), 1);
        assert_string_equal(before, after);
    }
    assert_int_equal(guest_tree_kind(&g->tree, paths[0]), GUEST_ABSENT);
    assert_string_equal(text_at(g, paths[1]), "text\n");
    /* A link is kept as what it is, and what it leads to stays. */
    put(g, "/run/made", "by a program\n");
    assert_int_equal(symlinkat("../run/made", g->tree.fd, "etc/linked"), 0);
    change(g, "/etc/linked", "new\n");
    assert_string_equal(text_at(g, "/etc/linked"), "new\n");
    assert_string_equal(text_at(g, "/run/made"), "by a program\n");
    assert_string_equal(text_at(g, GUEST_ORIGINALS "/f-1/etc/linked"), "by a program\n");
    assert_true(readlinkat(g->tree.fd, &GUEST_ORIGINALS "/f-1/etc/linked.was-link"[1], target, sizeof(target)) > 0);
    assert_string_equal(target, "../run/made");
}

static void put_kernel(struct guest *g, const char *version)
{
    AUTO_FREE char *dep = mem_printf("/lib/modules/%s/modules.dep", version);
    AUTO_FREE char *initramfs = mem_printf("/boot/initrd.img-%s", version);

    put(g, dep, "kernel/drivers/virtio/virtio_pci.ko: x\nkernel/drivers/block/virtio_blk.ko: y\n");
    put(g, initramfs, "packed");
    put(g, "/usr/sbin/update-initramfs", "#!/bin/sh\n");
}

/* Killed after the guest's program had run, and before anybody was told. */
static void what_a_killed_helper_had_changed_is_told_by_the_next(void **state)
{
    struct guest *g = *state;
    size_t first;

    put_kernel(g, "6.1");
    put(g, "/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n");
    fix(g, "{}", true);
    first = json_array_size(json_object_get(g->report, "changes"));
    expect_action(g, "/boot/initrd.img-6.1", "run");
    g->inside = "kernel/virtio_pci.ko\nkernel/virtio_blk.ko\n";
    fix(g, "{}", true);
    expect_action(g, "/boot/initrd.img-6.1", "run");
    expect_action(g, "/etc/initramfs-tools/modules", "create");
    expect_action(g, "/etc/fstab", "edit");
    assert_int_equal(json_array_size(json_object_get(g->report, "changes")), first);
    assert_false(g->unbootable);
}

static void a_program_that_fails_costs_its_own_change_alone(void **state)
{
    struct guest *g = *state;

    put_kernel(g, "6.1");
    put_kernel(g, "6.2");
    g->fails = "6.1";
    fix(g, "{}", true);
    assert_string_equal(g->ran, "update-initramfs -u -k update-initramfs -u -k 6.2 ");
    assert_false(g->unbootable);
    assert_non_null(json_object_get(change_of(g, "/boot/initrd.img-6.1"), "failure"));
    assert_null(json_object_get(change_of(g, "/boot/initrd.img-6.2"), "failure"));
    assert_int_equal(json_array_size(json_object_get(g->report, "warnings")), 1);
    expect(g, "/etc/leeward/replica", "failover f-1");
    /* None of them is left to boot with. */
    g->fails = "-u";
    fix(g, "{}", true);
    assert_true(g->unbootable);
    /* A third one needs nothing. */
    put(g, "/lib/modules/6.3/modules.builtin",
        "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/block/virtio_blk.ko\n");
    fix(g, "{}", true);
    assert_false(g->unbootable);
}

/* ---- the way back ---- */

static void go_back(struct guest *g, bool apply)
{
    struct err err = ERR_INIT;

    json_decref(g->report);
    g->report = NULL;
    if (take_back(&g->tree, "f-1", apply, &g->report, &err) < 0)
        fail_msg("%s", err.text);
}

static void put_source(struct guest *g)
{
    put_kernel(g, "6.1");
    put(g, "/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n");
    put(g, "/etc/systemd/network/lan.network", "[Match]\nName=eno1\n[Network]\nAddress=198.51.100.7/24\n");
    put(g, "/run/crypttab", "x /dev/sda2 none\n");
    assert_int_equal(symlinkat("/run/crypttab", g->tree.fd, "etc/crypttab"), 0);
    label(g, "/etc/fstab", LABEL, "u:r:fstab_t:s0");
}

static int rebuild(const struct guest_tree *tree, char *const *argv, struct err *err)
{
    (void)argv;
    return guest_tree_write(tree, "/boot/initrd.img-6.1", "packed anew", 0644, err);
}

static void what_was_changed_for_the_replica_is_taken_back(void **state)
{
    struct guest *g = *state;
    struct stat st;

    g->rebuilds = rebuild;
    put_source(g);
    fix(g, STATIC, true);
    assert_null(text_at(g, "/etc/systemd/network/lan.network"));
    assert_string_equal(text_at(g, "/boot/initrd.img-6.1"), "packed anew");
    go_back(g, false);
    expect_action(g, "/etc/fstab", "restore");
    expect_action(g, "/etc/leeward/replica", "remove");
    expect(g, "/etc/leeward/replica", "failover f-1");
    for (int again = 0; again < 2; again++) {
        go_back(g, true);
        assert_int_equal(json_array_size(json_object_get(g->report, "warnings")), 0);
        assert_string_equal(text_at(g, "/etc/fstab"), "/dev/sda1 / ext4 defaults 0 1\n");
        expect_label(g, "/etc/fstab", LABEL, "u:r:fstab_t:s0");
        expect(g, "/etc/systemd/network/lan.network", "Address=198.51.100.7/24");
        assert_string_equal(text_at(g, "/boot/initrd.img-6.1"), "packed");
        assert_null(text_at(g, "/etc/leeward/replica"));
        assert_null(text_at(g, "/etc/systemd/network/10-leeward-replica.network"));
        assert_int_equal(fstatat(g->tree.fd, "etc/crypttab", &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_true(S_ISLNK(st.st_mode));
        assert_int_equal(guest_tree_kind(&g->tree, GUEST_ORIGINALS "/f-1"), GUEST_ABSENT);
    }
}

static void what_was_changed_after_the_failover_stays(void **state)
{
    struct guest *g = *state;

    put_source(g);
    fix(g, STATIC, true);
    put(g, "/etc/fstab", "UUID=aaaa-1 / ext4 noatime 0 1\n");
    for (int again = 0; again < 2; again++) {
        go_back(g, true);
        assert_string_equal(text_at(g, "/etc/fstab"), "UUID=aaaa-1 / ext4 noatime 0 1\n");
        expect(g, GUEST_ORIGINALS "/f-1/etc/fstab", "/dev/sda1 /");
        assert_null(text_at(g, "/etc/leeward/replica"));
        assert_null(change_of(g, "/etc/fstab"));
        expect_action(g, "/etc/systemd/network/lan.network", "restore");
        const char *warning = json_string_value(json_array_get(json_object_get(g->report, "warnings"), 0));

        assert_non_null(warning);
        assert_non_null(strstr(warning, "/etc/fstab"));
    }
}

/* One that was made by a version that kept no list, and a machine that was never a replica. */
static void without_a_list_nothing_is_taken_back(void **state)
{
    struct guest *g = *state;

    put_source(g);
    go_back(g, true);
    assert_int_equal(json_array_size(json_object_get(g->report, "warnings")), 0);
    put(g, GUEST_ORIGINALS "/f-1/etc/fstab", "older\n");
    go_back(g, true);
    assert_int_equal(json_array_size(json_object_get(g->report, "warnings")), 1);
    expect(g, "/etc/fstab", "/dev/sda1 /");
    expect(g, GUEST_ORIGINALS "/f-1/etc/fstab", "older");
    put(g, "/var/lib/leeward/replica/changes/f-1.json", "{\"changes\":[7,{\"path\":\"x\"},{}]}");
    go_back(g, true);
    assert_int_equal(json_array_size(json_object_get(g->report, "changes")), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(disks_get_names_that_hold_in_any_machine),
        T(the_root_is_known_whatever_its_disk_was_called),
        T(a_helper_that_comes_again_lists_the_whole_and_changes_nothing_more),
        T(the_serial_line_is_added_once),
        T(a_kernel_without_virtio_in_its_initramfs_gets_it),
        T(a_kernel_with_virtio_built_in_is_left_alone),
        T(dracut_is_told_by_a_file_of_its_own),
        T(networkd_gets_the_new_address_and_keeps_the_name),
        T(each_card_gets_its_own_address_by_networkd),
        T(each_card_gets_its_own_address_by_ifupdown),
        T(each_card_gets_its_own_address_by_netplan),
        T(each_card_gets_its_own_address_by_networkmanager),
        T(ifupdown_gets_the_new_address),
        T(netplan_gets_the_new_address_and_cloud_init_leaves_it),
        T(what_root_alone_may_read_does_not_travel),
        T(networkmanager_gets_the_new_address_and_keeps_its_tunnels),
        T(addresses_are_translated_where_they_stand),
        T(hardware_that_is_not_translated_is_told),
        T(an_agent_in_a_replica_does_not_start),
        T(links_do_not_lead_out_of_the_guest),
        T(what_is_no_text_is_left_alone),
        T(a_long_and_strange_text_has_a_short_report),
        T(a_machine_may_become_a_replica_again),
        T(a_card_without_a_known_name_gets_one_with_ifupdown),
        T(wrong_fixups_are_refused_by_name),
        T(a_file_keeps_its_owner_mode_and_attributes),
        T(what_is_replaced_is_kept_whatever_it_is),
        T(what_a_killed_helper_had_changed_is_told_by_the_next),
        T(a_program_that_fails_costs_its_own_change_alone),
        T(what_was_changed_for_the_replica_is_taken_back),
        T(what_was_changed_after_the_failover_stays),
        T(without_a_list_nothing_is_taken_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
