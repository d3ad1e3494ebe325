#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The agent in a whole machine of its own: a Debian guest whose root disk boots by itself, with LVM, md and LUKS beside it, protected
by hub, node and vault on the host. Its disks grow, one is plugged in and pulled, the agent is killed, replaced and restarted, the guest is
rebooted, the agent is taken away again, and at the end recovered disks are booted. The tests build on each other, in this order.

    LEEWARD_GUEST=backports|jammy    the same with another guest (see make-guest-image.sh)
"""
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest import HERE, Guest, blank  # noqa: E402
from lab import PROGRAMS, PROTECTED_S, TOKEN, Lab  # noqa: E402
from harness import MIB, attach_loop, check, fresh, image_of, main, note, run, stop, test, undo, wait_until  # noqa: E402

BELOW = ["/dev/vdb", "/dev/vdc", "/dev/vdd", "/dev/vde"]
DISKS = ["/dev/vda", *BELOW]
STACKS = ["/srv", "/md", "/locked"]
FOLDERS = "/var/work " + " ".join(place + "/work" for place in STACKS)
GROWS_MIB = 16


class StackLab(Lab):
    """A volume group on vdb, a mirror of vdc and vdd, LUKS on vde, and a workload on all four file systems."""

    def __init__(self):
        # The test reads these files while the guest stands still.
        self.files = [blank(48, "lvm"), blank(32, "mirror-a"), blank(32, "mirror-b"), blank(40, "luks")]
        super().__init__([(file, "format=raw,file.locking=off") for file in self.files])
        self.workload = self.log = self.last_point = self.last_acknowledged = None

    def build_stacks(self):
        self.guest.ssh("""set -e
            lvm pvcreate -q -y /dev/vdb; lvm vgcreate -q data /dev/vdb; lvm lvcreate -q -y -Wn -l 100%FREE -n srv data
            mdadm --create /dev/md0 --run --quiet --assume-clean --level=1 --raid-devices=2 --bitmap=none /dev/vdc /dev/vdd
            mdadm --detail --scan >> /etc/mdadm/mdadm.conf
            (umask 77; head -c 32 /dev/urandom >/root/luks.key)
            cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /root/luks.key /dev/vde
            cryptsetup open --key-file /root/luks.key /dev/vde locked
            # Small blocks would make the journal so small that 6.1 overruns it when the file system grows (jbd2_journal_next_log_block).
            for device in /dev/data/srv /dev/md0 /dev/mapper/locked; do mkfs.ext4 -q -b 4096 $device; done
            options=nofail,x-systemd.device-timeout=900
            echo "locked UUID=$(cryptsetup luksUUID /dev/vde) /root/luks.key luks,$options" >> /etc/crypttab
            echo "/dev/data/srv /srv ext4 $options 0 2" >> /etc/fstab
            echo "UUID=$(blkid -s UUID -o value /dev/md0) /md ext4 $options 0 2" >> /etc/fstab
            echo "/dev/mapper/locked /locked ext4 $options 0 2" >> /etc/fstab
            mkdir /md /locked; systemctl daemon-reload; mount /srv; mount /md; mount /locked; mkdir """ + FOLDERS + "; sync")

    def start_workload(self):
        """It ends with the test that started it; what that left in the guest ends here, or two would write the same files."""
        if self.workload:
            self.stop_workload()
        self.log = fresh("workload.log")
        self.workload = self.guest.ssh_start(f"python3 /root/workload.py write {FOLDERS}", self.log)
        wait_until(lambda: self.acknowledged() > 5, "the workload to write", 600)

    def stop_workload(self):
        stop(self.workload)
        # The brackets keep pkill from finding the shell that it is in.
        self.guest.ssh("pkill -f '[w]orkload.py'; while pgrep -f '[w]orkload.py'; do sleep 0.2; done")

    def acknowledged(self):
        with open(self.log) as f:
            numbers = [line for line in f if line.endswith("\n") and line.strip().isdigit()]
        return int(numbers[-1]) if numbers else -1

    def make_last_point(self):
        """A point in the middle of the workload, and what was synced before it."""
        self.start_workload()
        wait_until(lambda: self.acknowledged() > 40, "the workload to write", 600)
        self.last_acknowledged = self.acknowledged()
        self.last_point = self.site.create_point()["sequence"]
        wait_until(lambda: self.acknowledged() > self.last_acknowledged + 5, "the workload to write on", 600)


lab = None


def compare_stacks(lab):
    """The disks below LVM, md and LUKS are, at a point made while nothing writes to them, what they are."""
    stacks = " ".join(STACKS)
    lab.guest.ssh(f"for place in {stacks}; do until mountpoint -q $place; do sleep 0.2; done; done; sync; "
                  f"for place in {stacks}; do fsfreeze -f $place || exit 1; done; "
                  "until grep -q -e clean -e readonly /sys/block/md0/md/array_state; do sleep 0.1; done")
    try:
        point = lab.site.create_point()
        images = {device: image_of(file) for device, file in zip(BELOW, lab.files)}
    finally:
        lab.guest.ssh(f"for place in {stacks}; do fsfreeze -u $place; done")
    export = lab.site.open(point["sequence"])
    for device, wanted in images.items():
        found = image_of(export.copy(lab.disk_number(device)))
        check(found == wanted, f"{device} at point {point['sequence']} is not what the disk was")
    export.close()


@test
def root_disk_lvm_md_and_luks_are_protected():
    lab.build_stacks()
    lab.guest.put(os.path.join(HERE, "workload.py"), "/root/workload.py")
    disks = lab.enrol()
    check(sorted(disks) == DISKS, f"the inventory lists {sorted(disks)}")
    begin = time.monotonic()
    lab.protect(disks, DISKS)
    note(f"protected after {time.monotonic() - begin:.0f} s; {lab.site.stored_bytes() // MIB} MiB stored")
    lab.start_workload()
    compare_stacks(lab)


def rows(lab):
    return {d["device"]: d for d in lab.site.items("disk", "list", lab.site.machine()["id"])}


@test
def disks_grow_below_lvm_md_and_luks():
    """The workload goes on meanwhile, and nothing is compared. What was added is used."""
    lab.start_workload()
    compared = lab.site.count("resync_started")
    before = {device: row["size_bytes"] for device, row in rows(lab).items()}
    sizes = {device: before[device] + GROWS_MIB * MIB for device in BELOW}
    for number, device in enumerate(BELOW, 1):
        lab.guest.grow_disk(number, sizes[device])
    wait_until(lambda: all(rows(lab)[d]["size_bytes"] == size for d, size in sizes.items()), "the hub to know the new sizes", 300, 0.5)
    check(rows(lab)["/dev/vda"]["size_bytes"] == before["/dev/vda"], "the root disk has grown too")
    lab.guest.ssh("""set -e
        lvm pvresize -q /dev/vdb; lvm lvextend -q -l +100%FREE data/srv
        mdadm --grow --quiet /dev/md0 --size=max --assume-clean
        cryptsetup resize --key-file /root/luks.key locked
        for device in /dev/data/srv /dev/md0 /dev/mapper/locked; do resize2fs $device 2>/dev/null; done
        for place in """ + " ".join(STACKS) + """; do
            free=$(($(df --output=avail -BM $place | tail -n 1 | tr -d ' M') - 8))
            dd if=/dev/urandom of=$place/filled bs=1M count=$free conv=fsync status=none
        done""")
    for device, file in zip(BELOW, lab.files):
        with open(file, "rb") as f:
            f.seek(before[device])
            added = f.read()
        check(len(added) == GROWS_MIB * MIB and len(added) - added.count(0) > MIB, f"{device}: what was added is hardly used")
    since = lab.acknowledged()
    compare_stacks(lab)
    wait_until(lambda: lab.acknowledged() > since, "the workload to write on", 600)
    lab.guest.ssh("rm " + " ".join(place + "/filled" for place in STACKS))
    grown = [e["code"] for e in lab.site.items("event", "list", "--limit", "500")].count("disk_resized")
    check(grown == len(BELOW), f"{grown} events tell of disks that have grown")
    check(lab.site.count("resync_started") == compared, "a disk was compared because it has grown")


PLUGGED = "serial:guest-plugged"


def plugged_row(lab):
    return next((d for d in rows(lab).values() if d["key"] == PLUGGED and d["present"]), None)


def point_has_plugged(lab, file):
    """A point that is made now has the disk that was plugged in, as it is; nothing writes to it."""
    number = plugged_row(lab)["number"]
    export = lab.site.open(lab.site.create_point()["sequence"])
    check(number in export.uris, f"the point has the disks {sorted(export.uris)} without number {number}")
    check(image_of(export.copy(number)) == image_of(file), "the point does not hold the disk that was plugged in")
    export.close()
    return number


@test
def a_disk_is_plugged_in_pulled_and_plugged_in_again():
    """With nothing but the kernel to tell the agent. What happens to it while it is out is in the points from then on."""
    file, name = blank(24, "plugged"), lab.site.machine()["name"]
    compared, failed = lab.site.count("resync_started"), lab.site.count("error")
    lab.guest.plug_disk(file, "plugged")
    row = wait_until(lambda: plugged_row(lab), "the inventory to list the disk that was plugged in", 120, 0.5)
    check(row["trackable"] and not row["protected"], f"it is listed so: {row}")
    device = row["device"]
    lab.site.cli("disk", "add", name, device, timeout=600)
    lab.guest.ssh(f"mkfs.ext4 -q {device} && mkdir -p /plugged && mount {device} /plugged && python3 /root/workload.py write /plugged --count 10 --pause 0 && "
                  "umount /plugged")
    number = point_has_plugged(lab, file)
    lab.guest.pull_disk("plugged")
    told = wait_until(lambda: lab.site.machine() if PLUGGED in lab.site.machine()["cause"] else None, "the machine to say what is missing", 120, 0.5)
    note(told["cause"], "/", told["remedy"])
    check(f"no points are made: the protected disk {PLUGGED} ({device}) is not there" == told["cause"] and f"leeward disk exclude MACHINE '{PLUGGED}'" in
          told["remedy"] and lab.site.count("error") == failed + 1, f"it says {told['cause']} / {told['remedy']}")
    with open(file, "r+b") as f:
        f.seek(20 * MIB)
        f.write(os.urandom(MIB))
    copied = lab.site.count("copy_complete")
    lab.guest.plug_disk(file, "plugged")
    wait_until(lambda: lab.site.count("copy_complete") == copied + 1, "the disk that is back to be compared", 300, 0.5)
    lab.protected_again(lab.site.latest()["sequence"])
    check(point_has_plugged(lab, file) == number, "the disk has another number now")
    check(lab.site.count("resync_started") == compared + 1, "other disks were compared too")
    lab.site.cli("disk", "exclude", name, PLUGGED, timeout=600)
    lab.guest.pull_disk("plugged")
    lab.protected_again(lab.site.latest()["sequence"])
    check(lab.site.count("error") == failed + 1, "a disk that was left out is missed")


@test
def a_killed_agent_goes_on_without_resync():
    lab.start_workload()
    compared, pins = lab.site.count("resync_started"), lab.pins()
    lab.kill_agent()
    lab.protected_again(lab.site.latest()["sequence"])
    check(lab.site.count("resync_started") == compared, "a disk was compared because the agent was killed")
    check(lab.pins() == pins, "the tracker's maps were made anew")
    compare_stacks(lab)


@test
def an_upgrade_in_place_needs_no_resync():
    lab.start_workload()
    compared, pins = lab.site.count("resync_started"), lab.pins()
    lab.install_agent("2")
    lab.guest.ssh(f"systemctl daemon-reload; systemctl restart leeward-agent; rm -r {PROGRAMS}/1")
    running = lab.guest.ssh(f"readlink /proc/{lab.agent_pid()}/exe").strip()
    check(running == f"{PROGRAMS}/2/leeward-agent", f"after the upgrade {running} runs")
    lab.protected_again(lab.site.latest()["sequence"])
    check(lab.site.count("resync_started") == compared, "a disk was compared because the agent was upgraded")
    check(lab.pins() == pins, "the tracker's maps were made anew")
    compare_stacks(lab)


@test
def a_reboot_is_healed_by_what_differs():
    lab.stop_workload()
    # Nobody sees this file: it is written before the agent starts.
    lab.guest.put_text("[Unit]\nBefore=leeward-agent.service\nRequiresMountsFor=/srv\n[Service]\nType=oneshot\nExecStart=/bin/dd "
                       "if=/dev/urandom of=/srv/unseen bs=64k count=32 conv=fsync\n[Install]\nWantedBy=multi-user.target\n",
                       "/etc/systemd/system/unseen.service")
    lab.guest.ssh("systemctl enable unseen")
    compared, copied, pins = lab.site.count("resync_started"), lab.site.count("copy_complete"), lab.pins()
    lab.site.create_point()
    stored = lab.site.stored_bytes()
    lab.guest.reboot()
    wait_until(lambda: lab.site.count("resync_started") == compared + len(DISKS), "all disks to be compared", PROTECTED_S, 0.5)
    wait_until(lambda: lab.site.count("copy_complete") == copied + len(DISKS), "all disks to be the same again", PROTECTED_S, 0.5)
    lab.protected_again(lab.site.latest()["sequence"])
    travelled = lab.site.stored_bytes() - stored
    used = int(lab.guest.ssh("df --output=used -B1 / | tail -n 1"))
    note(f"after the reboot {travelled / MIB:.1f} MiB travelled; {used // MIB} MiB are used")
    check(2 * MIB <= travelled < used // 8, f"{travelled // MIB} MiB travelled after a reboot of a machine with {used // MIB} MiB")
    check(lab.pins() != pins, "maps of another boot were trusted")
    compare_stacks(lab)


@test
def an_uninstalled_agent_leaves_nothing():
    lab.make_last_point()
    lab.guest.ssh("systemctl disable --now leeward-agent unseen")
    # What one that was killed may leave besides.
    lab.guest.ssh("cd /var/lib/leeward/agent && touch events.pb events.pb.tmp desired.pb.tmp")
    left = lab.guest.ssh(f"{PROGRAMS}/2/leeward-agent --uninstall && rm -r {PROGRAMS} /etc/systemd/system/leeward-agent.service "
                         f"{TOKEN}; systemctl daemon-reload; find / -xdev -iname '*leeward*' -not -path '/var/log/*'; "
                         "find /run /sys/fs/bpf -iname '*leeward*'; pgrep -a leeward || true")
    check(not left.strip(), f"the agent left {left.split()}")
    lab.stop_workload()
    lab.guest.reboot()
    state = lab.guest.ssh(f"systemctl is-system-running --wait; ls -d {FOLDERS}", timeout=600, ok=None).split()
    check(state == ["running", *sorted(FOLDERS.split())], f"after the agent was removed, a boot ends {state}")


@test
def a_recovered_root_disk_boots():
    lab.guest.end()  # one guest at a time
    acknowledged = lab.last_acknowledged
    export = lab.site.open(lab.last_point, write=True)
    uris = [export.uri(lab.disk_number(device)) for device in DISKS]
    replica = Guest(lab.image, "replica", [(qemu_uri(uri), "format=raw") for uri in uris], isolated=True)
    replica.boot()
    wait_until(lambda: "login:" in replica.output(), "the login prompt", 300)
    boot = replica.output(20000)
    check("root: recovering journal" in boot or "root: clean" in boot, f"no check of the root file system: {boot[-600:]}")
    said = replica.ssh(f"systemctl is-system-running --wait; python3 /root/workload.py verify {acknowledged} {FOLDERS}; "
                       "cat /proc/mdstat; dmsetup status --target crypt", timeout=600, ok=None)
    note("the replica:", " ".join(said.split()))
    for folder in FOLDERS.split():
        check(f"{folder} up to" in said, f"{folder} is not what it was at the point: {said}")
    replica.power_off()
    check_file_systems(export)
    export.close()


def qemu_uri(uri):
    """nbd+unix:///NAME?socket=PATH in qemu's own spelling."""
    name, path = re.fullmatch(r"nbd\+unix:///(.*)\?socket=(.*)", uri).groups()
    return f"nbd:unix:{path}:exportname={name}"


def check_file_systems(export):
    """Clean after the guest has shut down: the recovery of its journals left nothing behind."""
    attached = export.attach(lab.disk_number("/dev/vda"))
    start = int(run("sfdisk", "-q", "-o", "START", "-l", attached.device).split()[-1]) * 512
    loop, entry = attach_loop(attached.device, "--read-only", "--offset", start)
    run("e2fsck", "-fn", loop, timeout=600)
    undo(entry)
    attached.detach()


if __name__ == "__main__":
    lab = StackLab()
    main(chained=True)
