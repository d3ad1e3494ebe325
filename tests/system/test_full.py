#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A full vault disk, a full spool, and PostgreSQL gone: the source goes on at full speed, somebody is told what to do, and when
there is room again nothing was lost."""
import errno
import os
import shutil
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


class SmallSpoolDisk:
    """A site whose node has its folder on a file system that is smaller than its spool may become."""

    def __init__(self, mount_options="size=96m"):
        self.folder = os.path.join(fresh("site"), "node")
        os.makedirs(self.folder)
        defer(unmount, self.folder)
        run("mount", "-t", "tmpfs", "-o", mount_options, "tmpfs", self.folder)
        self.site = Site(data=os.path.dirname(self.folder), daemon_options={"node": ["--spool-bytes", "1G"]})
        self.disk = Disk(192 * MIB)
        self.disk.fill_random(1000)
        self.seed = 80

    def protect(self):
        self.site.protect(self.disk)
        return self

    def write(self, blocks=4000):
        self.seed += 1
        write_quickly(self.disk, blocks, self.seed)

    def fill(self):
        """Not a byte is free."""
        with open(os.path.join(self.folder, "filler"), "ab", buffering=0) as f:
            try:
                while f.write(bytes(MIB if self.free() > MIB else 4096)):
                    continue
            except OSError as full:
                check(full.errno == errno.ENOSPC, str(full))

    def empty(self):
        os.unlink(os.path.join(self.folder, "filler"))

    def free(self):
        v = os.statvfs(self.folder)
        return v.f_bavail * v.f_frsize

    def says_full(self):
        node = self.site.items("node", "list")[0]
        return node if node["cause"].startswith("The file system of the spool is full") and node["remedy"] else None

    def wait_full(self, blocks=1500):
        """Writes until the node has met the end of its file system."""
        def met():
            self.write(blocks)
            return self.says_full()
        return wait_until(met, "the node to say that its file system is full", 90, 1.0)

    def judge(self):
        same_after_all(self.site, self.disk)
        check(self.site.machine()["state"] == "protected", f"the machine is {self.site.machine()['state']}")
        check(not [e for e in self.site.items("event", "list", "--limit", "300") if e["code"] == "resync_started"], "the disk was compared")


@test
def full_file_system_under_the_spool_stops_nothing_that_the_vault_takes():
    s = SmallSpoolDisk().protect()
    s.fill()
    node = s.wait_full()
    note("node:", node["cause"], "/", node["remedy"])
    s.judge()
    s.empty()
    wait_until(lambda: not s.says_full(), "the node to see that there is room", 60)
    s.write(500)
    s.judge()


@test
def full_file_system_under_the_spool_makes_agents_wait_and_loses_nothing():
    s = SmallSpoolDisk().protect()
    # The spool takes what there is room for, then agents wait; a node that is killed comes back to that.
    vault = s.site.pid_of("vault")
    os.kill(vault, signal.SIGSTOP)
    resume = defer(os.kill, vault, signal.SIGCONT)
    node = s.wait_full(8000)
    check(0 < int(node["spool_bytes"]) <= 96 * MIB, f"{node['spool_bytes']} bytes in the spool")
    check(s.site.machine()["online"], "the agent is not online")
    pid = s.site.kill("node")
    wait_until(lambda: s.site.pid_of("node") not in (None, pid), "the node to be started again", 60)
    s.write()
    undo(resume)
    s.judge()
    wait_until(lambda: not s.says_full(), "the node to have room when the vault has everything", 60)


@test
def a_spool_that_cannot_be_made_is_made_when_there_is_room():
    """The node's file system takes no file any more before the machine comes: neither its spool nor the desired state can be written."""
    s = SmallSpoolDisk("size=96m,nr_inodes=400")
    names = os.path.join(s.folder, "names")
    os.mkdir(names)
    use_up_inodes(names)
    s.site.protect(s.disk, wait=False)
    node = wait_until(s.says_full, "the node to say that its file system is full", 90)
    check("df -i" in node["remedy"], f"there is space, and the node says: {node['remedy']}")
    check(s.free() > 32 * MIB, "there is no space either")
    pid = s.site.kill("node")
    wait_until(lambda: s.site.pid_of("node") not in (None, pid), "the node to be started again", 60)
    wait_until(s.says_full, "the node to say so again", 90)
    check(s.site.machine()["state"] != "protected", "points without a spool")
    shutil.rmtree(names)
    s.site.wait_protected()
    wait_until(lambda: not s.says_full(), "the node to see that there is room", 60)
    s.write(500)
    same_after_all(s.site, s.disk)


def use_up_inodes(folder):
    for i in range(10000):
        try:
            open(os.path.join(folder, str(i)), "x").close()
        except OSError as full:
            check(full.errno == errno.ENOSPC, str(full))
            return
    raise Failure("a file system that does not count inodes")


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
