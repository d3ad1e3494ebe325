#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A source whose system knows nothing of virtual machines: its initramfs has no virtio, its boot loader and fstab name the disk that only its own
hardware has, and its network is the other site's. Its replica does not come up as it is, and does with fix-ups, which are listed before."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest import Image  # noqa: E402
from hypervisor import Hypervisor  # noqa: E402
from rescue import rescue_image  # noqa: E402
from harness import Disk, Site, check, fresh, main, note, run, test  # noqa: E402

SIZE = ["--memory-mib", "512", "--cpus", "1"]  # the source is this host, which may have less memory by now: a balloon takes it away
REPLICA = [*SIZE, "--boot-timeout", "30m"]
ADDRESS = ["--address", "192.0.2.77/24", "--gateway", "192.0.2.1"]
FILES = {"/etc/fstab", "/boot/grub/grub.cfg", "/etc/initramfs-tools/modules", "/etc/leeward/replica", "/etc/systemd/network/guest.network",
         "/etc/systemd/network/10-leeward-replica.network", "/etc/systemd/network/10-leeward-replica.link",
         "/etc/systemd/system/leeward-agent.service.d/50-replica.conf"}

# In a mount namespace of its own, which takes the mounts away with it. What the replica is to show of itself, it says on the serial line when it is up.
MAKE_PHYSICAL = r"""
mount "$1" "$2"
mount -t proc proc "$2/proc"
mount -t sysfs -o ro sys "$2/sys"
cd "$2"
printf '/dev/sda1 / ext4 defaults,errors=remount-ro 0 1\n' >etc/fstab
sed -i 's|root=LABEL=root|root=/dev/sda1|' boot/grub/grub.cfg
sed -i '/^virtio/d' etc/initramfs-tools/modules
printf '[Match]\nName=eno1\n[Network]\nAddress=198.51.100.7/24\nGateway=198.51.100.1\n' >etc/systemd/network/guest.network
cat >etc/systemd/system/tell.service <<'UNIT'
[Unit]
After=systemd-networkd.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'until ip -o -4 address show eno1 | grep -q .; do sleep 1; done; echo "eno1 is $(ip -o -4 address show eno1), root is $(findmnt -no SOURCE /), told" >/dev/ttyS0'
[Install]
WantedBy=multi-user.target
UNIT
ln -s /etc/systemd/system/tell.service etc/systemd/system/multi-user.target.wants/tell.service
chroot . update-initramfs -u -k all
chroot . sh -c 'lsinitramfs /boot/initrd.img-*'
cd /
umount "$2/proc" "$2/sys" "$2"
"""


def told(report):
    """Its changes, without what names the replica: a failover's id, and the hardware address that is made of it."""
    return re.sub(r"52:54:00(:[0-9a-f]{2}){3}|failover [0-9a-f-]{36}", "", json.dumps(report["changes"]))


class Lab:
    def __init__(self):
        folder = rescue_image()
        image = Image()
        self.host = Hypervisor("drill")
        self.disk = Disk(os.path.getsize(image.disk))
        run("cp", "--sparse=always", image.disk, self.disk.device, timeout=600)
        run("blockdev", "--flushbufs", self.disk.device)
        self.make_physical()
        self.site = Site(daemon_options={"hub": ["--rescue-image", folder, "--rescue-emulated"]})
        self.site.protect(self.disk, timeout=600)
        self.name = self.site.machine()["name"]
        self.site.cli("target", "create", "kvm", "libvirt", "--config", json.dumps({"uri": self.host.uri, "accelerate": False}))
        self.point = self.site.settled_point()["sequence"]

    def make_physical(self):
        place = fresh("root")
        os.mkdir(place)
        partition = run("losetup", "--find", "--show", "--offset", str(1 << 20), self.disk.device).strip()
        try:
            inside = run("unshare", "--mount", "--propagation", "private", "sh", "-euc", MAKE_PHYSICAL, "sh", partition, place, timeout=900)
        finally:
            run("losetup", "--detach", partition)
        check(".ko" in inside and "virtio" not in inside, "the source's initramfs still has virtio")
        run("blockdev", "--flushbufs", self.disk.device)

    def drill(self, *options):
        return self.site.cli("failover", "test", f"{self.name}@{self.point}", "--target", "kvm", *REPLICA, *options, timeout=2400)

    def clean(self, drill):
        self.site.cli("failover", "cleanup", drill["id"], "--outcome", drill["verdict"], timeout=300)


lab = None


@test
def a_physical_system_does_not_come_up_as_a_replica_as_it_is():
    drill = lab.drill("--boot-serial", "ALERT!")
    check(drill["verdict"] == "passed" and "/dev/sda1 does not exist" in drill["replica"]["console"], f"{drill['verdict_text']}: {drill['replica']['console']}")
    check(drill["fixups"] == {}, "fix-ups that nobody asked for")
    lab.clean(drill)


@test
def with_the_fix_ups_that_were_listed_before_it_does():
    listed = lab.site.cli("failover", "preview", f"{lab.name}@{lab.point}", "--target", "kvm", *SIZE, *ADDRESS, timeout=2400)
    note(f"listed in {listed['seconds']:.0f} s: {len(listed['changes'])} changes")
    run_of = [one["path"] for one in listed["changes"] if one["action"] == "run"]
    check({one["path"] for one in listed["changes"]} == FILES | set(run_of), [one["path"] for one in listed["changes"]])
    check(len(run_of) == 1 and run_of[0].startswith("/boot/initrd.img-"), f"not one initramfs is made anew: {run_of}")
    check(not listed["applied"] and listed["warnings"] == [], listed["warnings"])
    drill = lab.drill(*ADDRESS, "--network", "drill", "--boot-serial", ", told")
    console = drill["replica"]["console"]
    note(f"changed in {drill['fixups']['seconds']:.0f} s; {drill['verdict_text']}; RTO {drill['rto_seconds']:.0f} s")
    check(drill["verdict"] == "passed", f"{drill['verdict_text']}: {console}")
    check("192.0.2.77/24" in console and "root is /dev/vda1" in console, f"the replica is not what it should be: {console}")
    check(drill["fixups"]["applied"] and told(drill["fixups"]) == told(listed), "what was changed is not what was listed")
    lab.clean(drill)


@test
def the_point_is_as_it_was():
    opened = lab.site.open(lab.point)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", opened.uri(), lab.disk.device, timeout=900)
    opened.close()


if __name__ == "__main__":
    lab = Lab()
    main()
