#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A full vault disk, a full spool, and PostgreSQL gone: the source goes on at full speed, somebody is told what to do, and when
there is room again nothing was lost."""
import os
import signal
import time

from harness import (CliError, Disk, Failure, MIB, Site, check, defer, fresh, image_of, main, note, point_time, run, same_after_all,
                     test, undo, unmount, wait_until, write_quickly)
from vault_points import Vault


@test
def full_vault_disk_stops_points_and_nothing_else():
    data = fresh("site")
    os.makedirs(os.path.join(data, "vault"))
    defer(unmount, os.path.join(data, "vault"))
    run("mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", os.path.join(data, "vault"))
    disk = Disk(128 * MIB)
    disk.fill_random(2000)
    site = Site(data=data, daemon_options={"vault": ["--reserve", "16M"]})
    site.protect(disk)
    before = site.settled_point()
    image = image_of(disk.device)
    seed = 50
    deadline = time.monotonic() + 360
    while vault_of(site)["accepting"]:
        check(time.monotonic() < deadline, "the vault never said that its disk is full")
        seed += 1
        write_quickly(disk, 1500, seed)
        time.sleep(0.5)
    vault = wait_until(lambda: told(vault_of(site)), "the vault to say what to do", 20)
    note("vault:", vault["cause"], "/", vault["remedy"])
    write_quickly(disk, 3000, 7)
    check(site.machine()["online"], "the agent is not online")
    # What was committed is still there and can be opened.
    export = site.open(before["sequence"])
    check(image_of(export.copy()) == image, "a committed point changed when the disk was full")
    export.close()
    run("mount", "-o", "remount,size=900m", os.path.join(data, "vault"))
    same_after_all(site, disk)


def told(vault):
    return vault if not vault["accepting"] and "full" in vault["cause"] and vault["remedy"] else None


def vault_of(site):
    return site.items("vault", "list")[0]


@test
def full_spool_pushes_back_and_catches_up():
    site = Site(daemon_options={"node": ["--spool-bytes", "32M"]})
    disk = Disk(192 * MIB)
    disk.fill_random(1000)
    site.protect(disk)
    pid = site.pid_of("vault")
    os.kill(pid, signal.SIGSTOP)
    resume = defer(os.kill, pid, signal.SIGCONT)
    for seed in range(4):
        write_quickly(disk, 4000, 60 + seed)
        time.sleep(1)
    node = site.items("node", "list")[0]
    note("spool:", node["spool_bytes"], "of", node["spool_limit_bytes"])
    check(node["spool_bytes"] <= node["spool_limit_bytes"], "the spool is over its limit")
    undo(resume)
    same_after_all(site, disk)
    check(site.machine()["state"] == "protected", f"the machine is {site.machine()['state']}")


@test
def points_go_on_while_postgresql_is_gone():
    site = Site()
    disk = Disk(64 * MIB)
    disk.fill_random(500)
    site.protect(disk)
    vault = Vault(site)
    folder = os.path.join(site.data, "hub", "postgres")
    pid = site.postgres_pid()
    os.chmod(folder, 0o000)  # it cannot come back
    restore = defer(os.chmod, folder, 0o700)
    os.kill(pid, signal.SIGKILL)
    gone = time.time()
    problem = wait_until(lambda: problem_of(site), "the API to say that it has no database", 40, 0.3)
    note("API:", problem)
    disk.fill_random(500, seed=3)
    wait_until(lambda: sum(t > gone + 1 for t in vault.points().values()) >= 3, "points without PostgreSQL", 60, 0.3)
    back = time.time()
    undo(restore)
    wait_until(lambda: site.machine(), "the hub to have its database again", 90)
    site.wait_point_after(back, 60)
    made = [p for p in site.points() if gone + 1 < point_time(p) < back]
    check(len(made) >= 2, f"{len(made)} points were made in {back - gone:.0f} s without PostgreSQL")
    same_after_all(site, disk)


def problem_of(site):
    """What the CLI says while the database is away; nothing while it answers."""
    try:
        site.cli("machine", "list", timeout=30)
    except CliError as refusal:
        if "database" in refusal.text.lower() or "postgres" in refusal.text.lower():
            return refusal.text
        raise Failure(refusal.text) from None
    return None


if __name__ == "__main__":
    main()
