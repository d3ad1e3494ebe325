#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Machines that are not as an agent needs them, through the whole of Leeward: a full /run, no BTF, no permission, a clock that is set. The hub and the agent's log
say what is wrong and what to do, the source is never slowed, and once it is put right replication goes on without a new comparison."""
import os
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


if __name__ == "__main__":
    main()
