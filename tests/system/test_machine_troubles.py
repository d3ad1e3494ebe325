#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Machines that are not as an agent needs them, through the whole of Leeward: a full /run, no BTF, no permission, a clock that is set, a disk that vanishes. The hub and the agent's log
say what is wrong and what to do, the source is never slowed, and once it is put right replication goes on without a new comparison."""
import os
import re
import shlex
import shutil
import time

from clock import Clock
from harness import (Disk, Failure, MIB, Site, check, defer, fresh, image_of, main, note, point_time, run, same_after_all, test, unmount,
                     wait_until, write_quickly)


def events(site, code):
    return [e for e in site.items("event", "list", "--limit", "300") if e["code"] == code]


def wait_trouble(site, cause, remedy):
    """Until the machine's health, an event and the agent's log tell this cause with this remedy."""
    seen = {}

    def told():
        machine = site.machine()
        seen.update({key: machine[key] for key in ("state", "agent_state", "online", "health", "cause", "remedy")})
        return machine if machine["health"] == "critical" and cause in machine["cause"] and remedy in machine["remedy"] else None
    try:
        machine = wait_until(told, f"the machine to say: {cause}", 60, 0.3)
    except Failure:
        note("it says", seen, [(e["code"], e["text"]) for e in site.items("event", "list", "--limit", "30")])
        raise
    note(machine["cause"], "/", machine["remedy"])
    wait_until(lambda: any(cause in e["text"] and remedy in e["remedy"] and e["severity"] == "error" for e in events(site, "error")),
               f"an event that says: {cause}", 30)
    with open(site.log, errors="replace") as f:
        check(any(" error engine_trouble " in line and cause in line and remedy in line for line in f), f"the log does not say: {cause}")


def fill_up(folder):
    """Takes all the room that is left there; the file that does."""
    path = os.path.join(folder, "filler")
    with open(path, "wb", buffering=0) as f:
        try:
            while f.write(bytes(65536)):
                pass
        except OSError:
            pass
    check(os.statvfs(folder).f_bavail == 0, f"{folder} has room left")
    return path


@test
def full_run_is_told_and_heals_without_a_comparison():
    folder = fresh("run")
    os.mkdir(folder)
    defer(unmount, folder)
    run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
    disk = Disk(64 * MIB)
    disk.fill_random(500)
    site = Site(daemon_options={"agent": ["--run-dir", folder]})
    site.protect(disk, wait=False)
    # Of a long path the end is cut off, and with it what the system said; the remedy says it.
    wait_trouble(site, "retained changes of disk 0: reserving", "free space in the file system of " + folder)
    run("mount", "-o", "remount,size=32m", folder)
    site.wait_protected()
    # Nothing has changed yet, so no room was taken for it.
    filler = fill_up(folder)
    write_quickly(disk, 2000, 3)
    wait_trouble(site, "keeping what changed under " + folder, "free space there (it is a tmpfs)")
    agent = site.kill("agent")
    wait_until(lambda: site.pid_of("agent") != agent and site.machine()["online"], "the agent to be started again", 60)
    write_quickly(disk, 500, 4)
    wait_until(lambda: site.machine()["agent_state"] == "error", "the agent to find no room either", 60)
    os.unlink(filler)
    same_after_all(site, disk)
    check(not events(site, "resync_started"), "the disk was compared")


@test
def without_btf_changes_are_found_by_reading():
    site = Site(daemon_starters={"agent": "unshare --mount sh -ec 'mount -t tmpfs none /sys/kernel/btf; exec \"$0\" \"$@\"'"})
    disk = Disk(32 * MIB)
    disk.fill_random(300)
    site.protect(disk)
    told = events(site, "tracking_by_scan")
    check(told and told[0]["severity"] == "warning" and "CONFIG_DEBUG_INFO_BTF" in told[0]["remedy"], f"it was not told: {told}")
    disk.fill_random(300, seed=2)
    same_after_all(site, disk)
    agent = site.kill("agent")
    disk.fill_random(300, seed=3)
    wait_until(lambda: site.pid_of("agent") != agent and site.machine()["online"], "the agent to be started again", 60)
    same_after_all(site, disk)
    check(not events(site, "resync_started"), "the disk was compared after the agent was killed")


@test
def without_permission_the_agent_says_what_it_needs():
    allowed = fresh("allowed")
    site = Site(daemon_starters={"agent": "unshare --mount sh -c '[ ! -e " + allowed + " ] || exec \"$0\" \"$@\"; umount -l /sys/fs/bpf 2>/dev/null; "
                                          "exec setpriv --bounding-set=-sys_admin,-bpf,-perfmon \"$0\" \"$@\"'"})
    disk = Disk(32 * MIB)
    disk.fill_random(300)
    site.protect(disk, wait=False)
    wait_trouble(site, "starting to track changes", "run the agent as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN")
    open(allowed, "w").close()
    site.kill("agent")
    site.wait_protected()
    same_after_all(site, disk)


def same_some_points_on(site, disk):
    """The points' times tell nothing now; their numbers do."""
    last = site.latest()["sequence"]
    point = wait_until(lambda: next((p for p in site.points() if p["sequence"] > last + 1), None), "two more points", 60, 0.3)
    export = site.open(point["sequence"])
    check(image_of(export.copy()) == image_of(disk.device), "the point is not the disk")
    export.close()
    return point


@test
def a_clock_that_is_set_is_told_and_stops_nothing():
    clock = Clock()
    site = Site(daemon_starters={"agent": clock.starter})
    disk = Disk(32 * MIB)
    disk.fill_random(300)
    site.protect(disk)
    check(not events(site, "clock_jumped"), "a clock that nobody touched has jumped")
    clock.set(-7200)
    told = wait_until(lambda: events(site, "clock_jumped"), "the event of the clock", 30)[0]
    note(told["text"], "/", told["remedy"])
    check(told["severity"] == "warning" and "set back by 7" in told["text"] and "by their numbers" in told["remedy"], f"it says {told}")
    disk.fill_random(300, seed=2)
    before = same_some_points_on(site, disk)
    check(point_time(before) < time.time() - 3600, f"the point is of {before['time']}")
    clock.set(0)
    wait_until(lambda: len(events(site, "clock_jumped")) == 2, "the event of the clock that is right again", 30)
    disk.fill_random(300, seed=3)
    same_after_all(site, disk)
    check(site.machine()["state"] == "protected" and not events(site, "resync_started"), "the jump cost more than an event")
    with open(site.log, errors="replace") as f:
        check(sum(" warn clock_jumped " in line for line in f) == 2, "the log does not warn of it")


@test
def what_a_slow_clock_dates_is_told_by_the_hubs():
    clock = Clock()
    clock.set(-3000)
    began = time.time()
    site = Site(daemon_starters={"agent": clock.starter})
    disk = Disk(32 * MIB)
    disk.fill_random(300)
    site.protect(disk)
    said = wait_until(lambda: events(site, "protected"), "the agent to say that it protects", 30)[0]
    check(began - 60 < point_time({"time": said["at"]}) < time.time() + 60, f"it said so at {said['at']}")
    point = site.wait_point_after(0)
    check(point_time(point) < began - 2000, f"the agent's clock is right: {point['time']}")
    check(site.machine()["rpo_seconds"] < 600, f"its last point is {site.machine()['rpo_seconds']} s old")


def take_away(disk):
    """As a disk that was pulled looks to those who have it open. The file that has what it held."""
    kept = fresh("kept")
    run("blockdev", "--flushbufs", disk.device)
    shutil.copyfile(disk.path, kept)
    os.truncate(disk.path, 0)
    run("losetup", "--set-capacity", disk.device)
    return kept


def put_back(disk, kept):
    shutil.copyfile(kept, disk.path)
    run("losetup", "--set-capacity", disk.device)


def overwrite(path, offset, length):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(os.urandom(length))


def rows(site):
    return {d["key"]: d for d in site.items("disk", "list", site.machine()["name"])}


def wait_vanished(site, key, device, last):
    """Until all that a user looks at says which disk is missing and what to do; the command that leaves it out. No point is made meanwhile."""
    begin = time.monotonic()
    wait_trouble(site, f"no points are made: the protected disk {key} ({device}) is not there", f"leave it out: leeward disk exclude MACHINE '{key}'")
    note(f"told after {time.monotonic() - begin:.1f} s")
    machine = site.machine()
    check("attach it again (it is compared with the vault then)" in machine["remedy"], f"it says {machine['remedy']}")
    shown = site.cli_result("machine", "show", machine["name"]).stdout
    check(machine["cause"] in shown and machine["remedy"] in shown, f"the command shows {shown}")
    wait_until(lambda: rows(site)[key]["protected"] and not rows(site)[key]["present"], "the list of disks to say that it is not there", 60)
    check(key in site.cli_result("disk", "list", machine["name"]).stdout, "the list of disks leaves out what is to be found")
    check(sum(key in e["text"] and e["at"] > last["time"] for e in events(site, "error")) == 1, "the same is told more than once")
    check(site.latest()["sequence"] <= last["sequence"] + 1, "points are made that lack a disk")
    return shlex.split(re.search(r"leeward (disk exclude MACHINE .*)", machine["remedy"]).group(1).replace("MACHINE", machine["name"]))


def holds(site, *disks):
    """A settled point has these disks and no others, as they are."""
    export = site.open(site.settled_point()["sequence"])
    numbers = {next(d["number"] for d in rows(site).values() if d["device"] == disk.device): disk for disk in disks}
    check(set(export.uris) == set(numbers), f"the point has the disks {sorted(export.uris)}, not {sorted(numbers)}")
    for number, disk in numbers.items():
        check(image_of(export.copy(number)) == image_of(disk.device), f"the point does not hold {disk.path}")
    export.close()


@test
def a_disk_that_vanishes_is_named_with_the_way_out_and_taken_back():
    stays, goes = Disk(24 * MIB, name="stays"), Disk(24 * MIB, name="goes")
    stays.fill_random(400, seed=1)
    goes.fill_random(400, seed=2)
    site = Site()
    site.protect(stays, goes)
    key = site.disk_key(goes)
    # It comes back by itself, with what was written to it elsewhere.
    last = site.settled_point()
    kept = take_away(goes)
    wait_vanished(site, key, goes.device, last)
    write_quickly(stays, 100, 3)
    overwrite(kept, 4 * MIB, MIB)
    copied = len(events(site, "copy_complete"))
    put_back(goes, kept)
    wait_until(lambda: len(events(site, "copy_complete")) == copied + 1, "the disk that is back to be compared", 60, 0.3)
    site.wait_protected()
    holds(site, stays, goes)
    compared = events(site, "resync_started")
    check(len(compared) == 1 and key in compared[0]["text"], f"compared was {[e['text'] for e in compared]}")
    # It is gone for good: the command that is told makes points go on.
    last = site.settled_point()
    kept = take_away(goes)
    command = wait_vanished(site, key, goes.device, last)
    write_quickly(stays, 100, 4)
    site.cli(*command)
    site.wait_protected()
    holds(site, stays)
    # After all.
    overwrite(kept, 8 * MIB, MIB)
    put_back(goes, kept)
    wait_until(lambda: rows(site)[key]["present"], "the disk to be listed again", 60)
    check(not rows(site)[key]["protected"], "it is protected though it was left out")
    site.cli("disk", "add", site.machine()["name"], goes.device, timeout=400)
    holds(site, stays, goes)
    check(len(events(site, "resync_started")) == 1, "the disk that was there all the time was compared")
    wait_until(lambda: site.machine()["health"] == "healthy" and not site.machine()["cause"], "the machine to be healthy again", 120, 0.5)


if __name__ == "__main__":
    main()
