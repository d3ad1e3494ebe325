#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Barrier windows on stacks and disks that only a machine of its own has: disks without a volatile write cache, whose flushes are
counted where they are submitted (fentry), logical volumes, a mirror, encrypted disks, and a disk below dm-log-writes, whose log judges
each point that the vault keeps. And what the tracker makes of merged discards and FUA writes, which an NVMe disk takes.

    LEEWARD_POINTS=20000     points of each run of the stamp checker (default 40)
    LEEWARD_LOGGED=600       points judged by the log (default 6)
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest import HERE, blank  # noqa: E402
from lab import Lab  # noqa: E402
from harness import BIN, MIB, Failure, check, main, note, run, test, wait_until  # noqa: E402
from writelog import BLOCK, WriteLog  # noqa: E402

PROGRAMS = os.path.join(BIN, "..", "tests")
CHECKER = os.path.join(PROGRAMS, "test_capture_window")
DISCARDS = {"test_track_discard": 6, "test_track_discard_untold": 4}
FUA = "test_track_fua"
UDEV = "systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd"
POINTS = os.environ.get("LEEWARD_POINTS", "40")
LOGGED = int(os.environ.get("LEEWARD_LOGGED", "6"))
LOGGED_MIB = 8
WRITE_THROUGH = "format=raw,cache=writethrough;write-cache=off"


class WindowLab(Lab):
    """vdb, vdc without a write cache; vdd for a volume; vde, vdf for a mirror; vdg below dm-log-writes, vdh its log; vdi for LUKS; an NVMe
    disk."""

    def __init__(self):
        self.log = blank(512, "log")
        raw = "format=raw"
        super().__init__([*((blank(64, name), WRITE_THROUGH) for name in "bc"), *((blank(64, name), raw) for name in "def"),
                          (blank(LOGGED_MIB, "logged"), raw), (self.log, raw), (blank(64, "i"), raw),
                          (blank(16, "nvme"), raw + ";nvme")])
        self.guest.put(CHECKER, "/root/checker/checker")
        for program in (*DISCARDS, FUA):
            self.guest.put(os.path.join(PROGRAMS, program), "/root/checker/" + program)
        for line in run("ldd", CHECKER).splitlines():
            library = re.search(r"=> (/\S+)", line)
            if library and not re.search(r"/lib(c|m|dl|pthread)\.so", line):
                self.guest.put(library.group(1), "/root/checker/" + os.path.basename(library.group(1)))

    def check_windows(self, places):
        """Runs the stamp checker over two places (UPPER,AT,LOWER,LOWER_AT[,KEY]); what it said."""
        said = self.guest.ssh(f"cd /root/checker; LD_LIBRARY_PATH=. TMPDIR=/run LEEWARD_WINDOW_DISKS='{places}' "
                              f"LEEWARD_POINTS={POINTS} ./checker 2>&1", timeout=1800, ok=None)
        note(re.sub(",[0-9a-f]{128}", ",KEY", places), "\n" + "\n".join(line for line in said.splitlines() if "points" in line))
        check("[  PASSED  ] 4 test(s)" in said, f"the checker over {places}: {said[-600:]}")
        return said


lab = None


@test
def windows_of_disks_without_write_cache():
    caches = lab.guest.ssh("cat /sys/block/vd[bc]/queue/write_cache").split("\n")[:2]
    check(caches == ["write through"] * 2, f"the disks' caches are {caches}")
    said = lab.check_windows("/dev/vdb,0,/dev/vdb,0 /dev/vdc,0,/dev/vdc,0")
    check("barriers counted" in said, "barriers were not counted at submission")


@test
def windows_over_a_volume_and_a_mirror():
    """The workload goes back and forth between a logical volume and an array, which is looked at on one leg."""
    lab.guest.ssh("lvm pvcreate -q -y /dev/vdd; lvm vgcreate -q group /dev/vdd; lvm lvcreate -q -y -Wn -l 100%FREE -n volume group;"
                  "mdadm --create /dev/md0 --run --quiet --assume-clean --level=1 --raid-devices=2 --bitmap=none /dev/vde /dev/vdf;"
                  "udevadm settle")
    volume = int(lab.guest.ssh("dmsetup table /dev/group/volume").split()[-1]) * 512
    leg = int(lab.guest.ssh("cat /sys/block/md0/md/dev-vdf/offset")) * 512
    lab.check_windows(f"/dev/group/volume,0,/dev/vdd,{volume} /dev/md0,0,/dev/vdf,{leg}")


@test
def merged_discards_are_followed_range_by_range():
    """With all completions told, and with those of the merged discards not told (discard_test.c). udev, which would look at the disk after each
    write to it, takes longer in emulation than all the rest, and rests meanwhile."""
    most = lab.guest.ssh("cat /sys/block/{nvme0n1,vdc}/queue/max_discard_segments").split()
    check(most == ["256", "1"], f"the disks take {most} ranges in a discard")
    lab.guest.ssh(f"systemctl stop {UDEV}")
    for program, tests in DISCARDS.items():
        said = lab.guest.ssh("cd /root/checker; LD_LIBRARY_PATH=. TMPDIR=/run LEEWARD_DISCARD_DISK=/dev/nvme0n1 LEEWARD_PLAIN_DISK=/dev/vdc "
                             f"./{program} 2>&1", timeout=600, ok=None)
        check(said.count("[       OK ]") == tests and "[  FAILED  ]" not in said, f"{program}: {said[-1500:]}")
    lab.guest.ssh(f"systemctl start {UDEV}")


@test
def a_fua_write_is_a_barrier():
    """One that no flush follows (fua_test.c)."""
    said = lab.guest.ssh("cat /sys/block/nvme0n1/queue/fua /sys/block/nvme0n1/queue/write_cache").split("\n")[:2]
    check(said == ["1", "write back"], f"the disk's FUA and cache are {said}")
    said = lab.guest.ssh(f"cd /root/checker; LD_LIBRARY_PATH=. TMPDIR=/run LEEWARD_FUA_DISK=/dev/nvme0n1 ./{FUA} 2>&1", timeout=600, ok=None)
    check("[  PASSED  ] 2 test(s)" in said, f"{FUA}: {said[-1500:]}")


def open_luks(device, name):
    """Makes it an encrypted disk and opens it; its volume key, and where on `device` the data begins. The passphrase is stretched little: the
    guest's processor is emulated."""
    lab.guest.ssh(f"echo -n secret >/run/key; cryptsetup luksFormat -q --type luks2 --cipher aes-xts-plain64 --key-size 512 --sector-size 512 "
                  f"--pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /run/key {device}; "
                  f"cryptsetup open --disable-keyring --key-file /run/key {device} {name}; udevadm settle")
    kind, cipher, key, _, _, begin = lab.guest.ssh(f"dmsetup table --showkeys {name}").split()[2:8]
    check((kind, cipher) == ("crypt", "aes-xts-plain64"), f"{device} is {kind} {cipher}")
    return key, int(begin) * 512


@test
def windows_over_encrypted_disks():
    """LUKS on a disk, and on a logical volume. The point holds what is below: it is decrypted with the volumes' keys to be judged."""
    volume = int(lab.guest.ssh("dmsetup table /dev/group/volume").split()[-1]) * 512
    key, begin = open_luks("/dev/vdi", "locked")
    key_on_volume, begin_on_volume = open_luks("/dev/group/volume", "locked-volume")
    lab.check_windows(f"/dev/mapper/locked,0,/dev/vdi,{begin},{key} "
                      f"/dev/mapper/locked-volume,0,/dev/vdd,{volume + begin_on_volume},{key_on_volume}")


@test
def each_point_is_a_state_that_the_log_of_writes_allows():
    size = LOGGED_MIB * MIB
    lab.guest.ssh("modprobe dm-log-writes")
    lab.protect(lab.enrol(), ["/dev/vdg"])
    lab.guest.ssh(f"dmsetup create logged --table '0 {size // 512} log-writes /dev/vdg /dev/vdh'")
    lab.guest.put(os.path.join(HERE, "stamps.py"), "/root/stamps.py")
    lab.guest.ssh(f"nohup python3 /root/stamps.py /dev/mapper/logged {size} >/root/stamps.log 2>&1 </dev/null &")
    first = lab.site.create_point()["sequence"]
    wait_until(lambda: lab.site.latest()["sequence"] >= first + LOGGED // 2, "points", 30 * LOGGED, 0.5)
    lab.kill_agent()
    last = lab.site.latest()["sequence"]
    wait_until(lambda: lab.site.latest()["sequence"] >= last + LOGGED // 2, "points of the next agent", 30 * LOGGED, 0.5)
    lab.guest.ssh("pkill -f '[s]tamps.py'; while pgrep -f '[s]tamps.py'; do sleep 0.2; done")
    final = lab.site.create_point()["sequence"]
    lab.guest.ssh("dmsetup remove logged; sync")
    log = WriteLog(lab.log, bytes(size))
    note(f"{log.writes} writes, {log.groups} flushes")
    images = judge_points(log, [p["sequence"] for p in lab.site.points() if first <= p["sequence"] <= final])
    check(any(s > last for s in images), "there is no point after the agent was killed")
    check(log.judge(images[final]) == newest_group(log), "the last point lacks writes")
    refuse_a_mixture(log, images)


def judge_points(log, sequences):
    """The images of these points, all of which the log allows."""
    images, newest = {}, {}
    for sequence in sequences:
        export = lab.site.open(sequence)
        path = export.copy()
        with open(path, "rb") as f:
            images[sequence] = f.read()
        os.unlink(path)
        export.close()
        try:
            newest[sequence] = log.judge(images[sequence])
        except ValueError as problem:
            raise Failure(f"point {sequence}: {problem}")
    note(f"{len(newest)} points; newest group of each: {sorted(newest.values())}")
    check(len(set(newest.values())) >= 5, f"only {len(set(newest.values()))} different points")
    return images


def newest_group(log):
    return max(versions[-1][0] for versions in log.versions)


def refuse_a_mixture(log, images):
    """Half of one point and half of another is what a capture without windows would make; the judge must not take it."""
    sequences = sorted(images)
    middle = len(images[sequences[0]]) // 2 // BLOCK * BLOCK
    refused = 0
    for older, newer in zip(sequences, sequences[3:]):
        try:
            log.judge(images[older][:middle] + images[newer][middle:])
        except ValueError:
            refused += 1
    check(refused > 0, "the judge took mixtures of two points")


if __name__ == "__main__":
    lab = WindowLab()
    main()
