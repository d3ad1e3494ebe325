#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Points under load on ext4, xfs and btrfs: each one is a state that the disk really held.

A ledger (every record durable before the next) runs beside fio, which writes blocks that carry their own checksums. Points are
opened while both go on: the file system must be clean after its journal was replayed, the ledger must be the prefix that was
durable at the point's moment, and at the end, when fio has finished, its own verification must pass on a point.
"""
import os
import random

from harness import Disk, Site, check, fresh, main, note, run, start, test, undo, wait_until
from judge import MOUNT, SIZE, judge_point
from ledger import Ledger

FIO = ["--name=load", "--filename_format=fio.$jobnum", "--rw=randwrite", "--bs=4k", "--size=48m", "--ioengine=psync", "--fdatasync=32",
       "--verify=crc32c", "--randrepeat=1", "--verify_state_save=0"]


def points_hold_on(kind):
    disk = Disk(SIZE[kind])
    disk.make_fs(kind)
    folder = disk.mount()
    site = Site()
    ledger = Ledger([os.path.join(folder, "ledger")], 256, pause_s=0.002)
    site.protect(disk)
    fio = start(["fio", "--thread", *FIO, f"--directory={folder}", "--do_verify=0", "--rate_iops=1500", "--loops=2"], log=fresh("fio.log"))
    rng = random.Random(11)
    judged = set()
    while fio.poll() is None and len(judged) < 4:
        newest = wait_until(lambda: [p for p in site.points() if p["sequence"] not in judged], "a new point", 60)
        point = rng.choice(newest[:5])
        judged.add(point["sequence"])
        judge_point(site, kind, point, ledger)
    check(fio.wait(120) == 0, "fio failed on the source")
    ledger.stop()
    machine = site.machine()
    note(kind, "points made", machine["points_made"], "frozen", machine["points_frozen"])
    point = site.settled_point()
    branch = site.open(point["sequence"], write=True).attach()
    copy = branch.mount(MOUNT[kind])
    run("fio", *FIO, f"--directory={copy}", "--verify_only", cwd=os.path.dirname(copy))
    branch.detach()
    undo(disk._unmount)


@test
def points_under_load_hold_on_ext4():
    points_hold_on("ext4")


@test
def points_under_load_hold_on_xfs():
    points_hold_on("xfs")


@test
def points_under_load_hold_on_btrfs():
    points_hold_on("btrfs")


if __name__ == "__main__":
    main()
