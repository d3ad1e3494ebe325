#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The kernel kills the agent for want of memory: in a first copy, while it makes point after point, and around the freezes of
file-system-consistent points. It comes back by itself and goes on where it was; the source writes on. The agent and its freeze helper
live in a control group of the test, in which another process takes all the memory; the kernel kills the agent for it."""
import json
import os
import re
import threading
import time

from harness import MIB, ROOT, Disk, Site, check, image_of, main, note, point_time, run, same_after_all, test, wait_until
from ledger import Ledger
from memory_group import MemoryGroup

KILLS = 4
TIB = 1 << 40
UNIT = os.path.join(ROOT, "packaging", "systemd", "leeward-agent.service")


def count(site, code):
    return sum(e["code"] == code for e in site.items("event", "list", "--limit", "500"))


def saved_cursor(site):
    """Where a copy would go on, as far as an agent that is killed now has saved it; 0: at the beginning."""
    with open(os.path.join(site.data, "agent", "state")) as f:
        return next((disk["cursor"] for disk in json.load(f)["disks"]), 0)


def planned_from(site):
    """Where each agent that there was began to copy."""
    with open(site.log, errors="replace") as f:
        return [int(n) for n in re.findall(r" sweep_planned .*\bat=(\d+)", f.read())]


def kill_for_want_of_memory(site, group):
    before = site.pid_of("agent")
    check(group.exhaust(), "the agent was not killed")
    wait_until(lambda: site.pid_of("agent") != before, "the agent to be started again", 60)


@test
def a_first_copy_goes_on_where_it_was():
    group = MemoryGroup("copy")
    disk = Disk(160 * MIB)
    disk.fill_random(96, block_bytes=MIB)
    site = Site(daemon_starters={"agent": group.join()})
    site.cli("policy", "set", "default", "--throttle", 8 * MIB)
    site.protect(disk, wait=False)
    cursor = wait_until(lambda: saved_cursor(site), "a part of the copy to be committed", 60, 0.05)
    kill_for_want_of_memory(site, group)
    wait_until(lambda: len(planned_from(site)) > 1, "the copy to go on", 60)
    note("planned from", planned_from(site), "of", disk.size_bytes)
    check(planned_from(site)[-1] >= cursor, f"{cursor} bytes were copied, and it went on at {planned_from(site)[-1]}")
    site.cli("policy", "set", "default", "--throttle", 0)
    site.wait_protected(120)
    same_after_all(site, disk)
    check(count(site, "resync_started") == 0, "the disk was compared")


class Source:
    """A protected file system with a ledger on it that never pauses."""

    def __init__(self, group):
        self.disk = Disk(128 * MIB)
        self.disk.make_fs("ext4")
        self.place = os.path.join(self.disk.mount(), "ledger")
        self.ledger = Ledger([self.place], 2048, pause_s=0.0005)
        self.site = Site(daemon_starters={"agent": group.join()})
        self.site.protect(self.disk)

    def written(self):
        return self.ledger.durable_before(time.time())

    def writes_on(self, what):
        """How long the ledger's next record took to be durable."""
        begin, number = time.monotonic(), self.written()
        wait_until(lambda: self.written() > number, f"the ledger to go on {what}", 30, 0.002)
        return time.monotonic() - begin

    def judge(self):
        point = self.site.wait_point_after(time.time())
        attached = self.site.open(point["sequence"], write=True).attach()
        last = self.ledger.judge([os.path.join(attached.mount(), "ledger")], point_time(point))
        note("point", point["sequence"], "holds the ledger up to", last)
        attached.detach()


@test
def points_go_on_without_a_comparison():
    group = MemoryGroup("points")
    source = Source(group)
    name = source.site.machine()["name"]
    for number in range(KILLS):
        # Every other one while a point is being made for which the file system is frozen.
        asking = threading.Thread(target=source.site.cli_result, args=("point", "create", name, "--fs"), daemon=True)
        if number % 2:
            asking.start()
        kill_for_want_of_memory(source.site, group)
        note(f"kill {number}: the next record after {1000 * source.writes_on('after a kill'):.1f} ms")
        source.site.wait_point_after(time.time(), 90)
    source.judge()
    check(count(source.site, "resync_started") == 0, "the disk was compared")
    check(source.site.machine()["state"] == "protected", f"the machine is {source.site.machine()['state']}")


def shipped_limit():
    """What the packaged unit lets the agent have."""
    with open(UNIT) as f:
        number, unit = re.search(r"^MemoryMax=(\d+)([MG])$", f.read(), re.M).groups()
    return int(number) * {"M": MIB, "G": 1024 * MIB}[unit]


@test
def large_disks_fit_under_the_limit_of_the_unit():
    """Bits of changed blocks are 32 MiB per TiB and count as the agent's memory. Where there is too little of it, the cause says what to do; with what the
    packaged unit gives, 16 TiB are protected."""
    group = MemoryGroup("large")
    disks = [Disk(2 * TIB, name=f"large{i}") for i in range(8)]
    for disk in disks:
        run("mkfs.xfs", "-q", "-f", "-K", "-l", "size=64m", disk.device)
        disk.mount()  # what is free is not read
    site = Site(daemon_starters={"agent": group.join()})
    group.allow(256 * MIB)
    site.protect(*disks, wait=False)

    def told():
        return next((e for e in site.items("event", "list", "--limit", "100") if "MemoryMax" in json.dumps(e)), None)
    event = wait_until(told, "the agent to say what it needs", 120, 0.5)
    note(json.dumps(event))
    check("leeward-agent.service" in json.dumps(event) and "64 MiB" in json.dumps(event), f"the hint is {event}")
    check(group.kills() == 0, "the agent was killed")
    group.allow(shipped_limit())
    site.wait_protected(180)
    note("the group has", group.used() // MIB, "of", shipped_limit() // MIB, "MiB")
    site.wait_point_after(time.time())
    check(group.kills() == 0, "the agent was killed")


if __name__ == "__main__":
    main()
