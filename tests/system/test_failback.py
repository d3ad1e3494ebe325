#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The way back: what a replica writes is protected, its original machine is fenced, gets what differs, and is the machine again."""
import contextlib
import os
import random
import signal
import stat
import threading
import time

from harness import (MIB, PG_BIN, CliError, Disk, Failure, Postgres, Site, attach_loop, check, defer, fresh, fs_check, image_of, main,
                     mount_device, note, point_time, run, test, undo, wait_until)


def refused(site, *command):
    try:
        site.cli(*command)
    except CliError as refusal:
        return refusal.text
    raise AssertionError(f"{command} was not refused")


def write(uri, byte, at="0", size="64k"):
    run("qemu-io", "-f", "raw", "-c", f"write -P {byte} {at} {size}", "-c", "flush", uri)


def image_of_uri(uri):
    copy = fresh("replica.img")
    run("nbdcopy", uri, copy)
    return image_of(copy)


def image_of_point(site, point):
    opened = site.open(point["sequence"])
    image = image_of_uri(opened.uri())
    opened.close()
    return image


def uri_of(site, failover):
    return next(b for b in site.items("branch", "list") if b["id"] == failover["branch_id"])["uri"]


def protected_site(size_bytes, blocks):
    """Its name, and a disk with random blocks of which there is a point."""
    disk = Disk(size_bytes)
    disk.fill_random(blocks)
    site = Site()
    site.protect(disk)
    return disk, site, site.machine()["name"], site.settled_point()


def committed_failover(site, name, point=None):
    failed = site.cli("failover", "unplanned", f"{name}@{point['sequence']}" if point else name)
    site.cli("failover", "commit", name)
    return failed


def reprotected_failover(site, name):
    failed = committed_failover(site, name)
    site.cli("failover", "reprotect", name)
    return failed


@test
def what_a_replica_writes_becomes_points_of_its_machine():
    disk, site, name, first = protected_site(64 * MIB, 200)
    site_machine = site.machine()["id"]
    before = image_of(disk.device)
    disk.fill_random(50, seed=2)
    lost = site.settled_point()
    after = image_of(disk.device)

    # To the older point: what came after it is not the machine's future, and stays in its history.
    failed = committed_failover(site, name, first)
    check("not possible" in refused(site, "failover", "failback", name, "--confirm", name), "a failback of an unprotected replica")
    uri = uri_of(site, failed)
    write(uri, 0x11)
    site.cli("failover", "reprotect", name)
    shown = site.cli("failover", "show", failed["id"])
    check(site.machine()["state"] == "reverse_protected" and shown["state"] == "reprotected", f"{site.machine()} {shown}")
    check("not possible" in refused(site, "failover", "reprotect", name), "reprotected twice")
    check("replica runs" in refused(site, "branch", "discard", failed["branch_id"]), "the branch was discarded")

    def follows():
        """The newest point holds what the replica does."""
        return image_of_point(site, site.latest()) == image_of_uri(uri)
    wait_until(follows, "a point of what the replica wrote", 60, 0.5)
    one = image_of_uri(uri)
    write(uri, 0x22, "32M", "3M")
    wait_until(follows, "a point of what it wrote later", 60, 0.5)
    check(image_of_uri(uri) != one, "nothing was written")
    check(image_of_point(site, first) == before and image_of_point(site, lost) == after, "the history is not what it was")

    # What would be taken back: from the older point on. What the source made after that is told as lost.
    told = site.cli("failover", "failback-preview", name)
    check(told["state"] == "reprotected" and told["sequence"] == first["sequence"] and told["changed_bytes"] >= 3 * MIB + 65536, f"{told}")
    check(told["lost_point_count"] >= 1 and told["lost_bytes"] >= 50 * 4096 and told["last_sequence"] > lost["sequence"], f"{told}")
    check([d["device"] for d in told["disks"]] == [disk.device] and told["compared_bytes"] == disk.size_bytes, f"{told}")
    check(told["since"] == shown["running_at"] and not told["fixup_count"], f"{told} {shown}")

    # The hub is away: points go on all the same, and it hears of them when it is back (P9).
    hub = site.pid_of("hub")
    os.kill(hub, signal.SIGSTOP)
    try:
        away = time.time()
        write(uri, 0x33, "48M", "1M")
        folder = os.path.join(site.data, "vault", "machines", site_machine, "branches", failed["branch_id"])
        noted = os.stat(os.path.join(folder, "followed")).st_mtime_ns
        wait_until(lambda: os.stat(os.path.join(folder, "followed")).st_mtime_ns > noted, "a point without the hub", 60)
        wait_until(lambda: os.stat(os.path.join(folder, "followed")).st_mtime_ns > noted + 2e9, "more of them", 60)
        back = time.time()
    finally:
        os.kill(hub, signal.SIGCONT)
    wait_until(lambda: any(away < point_time(p) < back for p in site.points()), "the points that were made without the hub", 60)
    wait_until(follows, "the newest point to hold what the replica does", 60, 0.5)

    drill = site.cli("failover", "test", name)
    check(image_of_uri(uri_of(site, drill)) == image_of_uri(uri), "a test of a protected replica does not hold what it does")
    site.cli("failover", "cleanup", drill["id"])


def change_bytes(before, after, block=4096):
    """How many bytes lie in blocks that differ between two raw images."""
    with open(before, "rb") as a, open(after, "rb") as b:
        return sum(block for x, y in zip(iter(lambda: a.read(block), b""), iter(lambda: b.read(block), b"")) if x != y)


@test
def a_machine_fails_back_to_its_own_disk_and_only_differences_travel():
    disk, site, name, _ = protected_site(128 * MIB, 4000)
    failed = committed_failover(site, name)
    uri = uri_of(site, failed)
    site.cli("failover", "reprotect", name)
    # The source goes on for a while, as one does that was only cut off. Nothing of it arrives.
    wait_until(lambda: site.machine()["agent_state"] != "protected", "the source to stop", 60)
    disk.fill_random(300, seed=3)
    os.sync()
    check("not protected" in refused(site, "point", "create", name), "a fenced source made a point")

    def says_why():
        machine = site.machine()
        return "nothing that the source sends is taken" in machine["cause"] and "failback" in machine["remedy"]
    wait_until(says_why, "the machine to say that its source is fenced", 60)
    # Meanwhile the replica works: blocks strewn over its disk, some zeros, some in a row.
    rng = random.Random(4)
    words = [word for _ in range(400) for word in ("-c", f"write -P {rng.randrange(1, 255)} {rng.randrange(32768) * 4096} 4k")]
    run("qemu-io", "-f", "raw", *words, "-c", "write -P 9 100M 1M", "-c", "write -z 40M 2M", "-c", "flush", uri)
    replica, source = fresh("replica.img"), fresh("source.img")
    run("nbdcopy", uri, replica)
    run("dd", f"if={disk.device}", f"of={source}", "bs=1M", "iflag=direct")
    differ = change_bytes(source, replica)

    # Else the first pass has an older point, and what changed again since travels again, as it must.
    wait_until(lambda: image_of_point(site, site.latest()) == image_of(replica), "a point of what the replica wrote", 60, 0.5)

    check("confirm" in refused(site, "failover", "failback", name), "a failback without the name")
    check("overwritten" in refused(site, "failover", "failback", name, "--confirm", "somebody"), "a failback of another name")
    fd = os.open(disk.device, os.O_RDONLY | os.O_EXCL)
    try:
        check("in use" in refused(site, "failover", "failback", name, "--confirm", name), "a disk that is in use was written")
    finally:
        os.close(fd)
    check(site.machine()["state"] == "reverse_protected", "a refused failback changed the machine")

    result = site.cli("failover", "failback", name, "--confirm", name, timeout=300)["result"]
    moved = result["failback"]
    note(f"differed {differ}, written {moved['written_bytes']}, traffic {moved['traffic_bytes']}, passes {moved['passes']}")
    check(moved["traffic_bytes"] <= 1.1 * differ + MIB, f"{moved['traffic_bytes']} bytes travelled for {differ} that differed")
    check(moved["written_bytes"] <= differ, f"{moved['written_bytes']} bytes were written for {differ} that differed")
    check(site.machine()["state"] == "protected", f"the machine is {site.machine()['state']}")
    check(site.cli("failover", "show", failed["id"])["state"] == "failed_back", "the failover is not over")
    check(not site.items("branch", "list"), "the branch is still there")
    check("failed_back" in refused(site, "failover", "failback-preview", failed["id"]), "a failback that is over is previewed")
    check(image_of(disk.device) == image_of(replica), "the original is not what the replica was")
    # It is the machine again: its writes arrive, on a history that has the replica's.
    again = site.settled_point()
    check(image_of_point(site, again) == image_of(disk.device), "the point after the failback is not the disk")
    disk.fill_random(100, seed=5)
    check(image_of_point(site, site.settled_point()) == image_of(disk.device), "the original's writes do not arrive")


@test
def a_disk_that_was_left_out_since_is_written_back_too():
    disks = [Disk(32 * MIB) for _ in range(2)]
    for number, disk in enumerate(disks):
        disk.fill_random(100, seed=number)
    site = Site()
    site.protect(*disks)
    name, both = site.machine()["name"], site.settled_point()
    number_of = {d["device"]: d["number"] for d in site.items("disk", "list", name)}  # loop devices do not come in any order
    site.cli("disk", "exclude", name, site.disk_key(disks[1]))
    site.settled_point()
    failed = committed_failover(site, name, both)
    branch = next(b for b in site.items("branch", "list") if b["id"] == failed["branch_id"])
    uris = {d["number"]: d["uri"] for d in branch["disks"]}
    check(len(uris) == 2, f"the replica has not both disks: {branch}")
    for number, uri in uris.items():
        write(uri, 0x40 + number, "5M", "1M")
    site.cli("failover", "reprotect", name)
    expected = [image_of_uri(uris[number_of[disk.device]]) for disk in disks]
    site.cli("failover", "failback", name, "--confirm", name, timeout=300)
    check([image_of(d.device) for d in disks] == expected, "a disk is not what the replica had")


def job_of(site, kind):
    return next(j for j in site.items("job", "list") if j["kind"] == kind)


@test
def agent_node_and_vault_may_be_killed_on_the_way_back():
    disk, site, name, _ = protected_site(256 * MIB, 4000)
    failed = reprotected_failover(site, name)
    uri = uri_of(site, failed)
    run("qemu-io", "-f", "raw", *[w for k in range(7) for w in ("-c", f"write -P {k + 1} {k * 32}M 32M")], "-c", "flush", uri)
    expected = image_of_uri(uri)
    check(expected != image_of(disk.device), "the replica wrote nothing")
    site.cli("failover", "failback", name, "--confirm", name, "--no-wait")

    def steps():
        return {s["name"]: s["status"] for s in site.cli("job", "show", job_of(site, "failover_failback")["id"])["steps"]}
    wait_until(lambda: steps()["check"] == "succeeded", "the disks to be written", 60, 0.01)
    os.kill(site.pid_of("agent"), signal.SIGSTOP)
    note("killed at", next((name for name, status in steps().items() if status != "succeeded"), "its end"))
    for role in ("agent", "vault", "node"):
        site.kill(role)

    def over():
        return site.cli("failover", "show", failed["id"])["state"] == "failed_back" and site.machine()["state"] == "protected"
    wait_until(over, "the failback to survive all three", 180, 0.3)
    wait_until(lambda: job_of(site, "failover_failback")["status"] == "succeeded", "its job to end", 60, 0.3)
    check(image_of(disk.device) == expected, "the original is not what the replica was")
    check(image_of_point(site, site.settled_point()) == expected, "the point after the failback is not the disk")


def go_on(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


class HalfWayBack:
    """A failback in its first pass, and a vault that stands still: what was to be written is there in part, and the agent waits for the rest."""

    def __init__(self, site, name, disk, uri):
        self.site, self.name, self.disk, self.uri = site, name, disk, uri
        noise = fresh("noise")
        with open(noise, "wb") as f:
            f.write(os.urandom(32 * MIB))  # nothing that is short on its way
        run("qemu-io", "-f", "raw", *[w for k in range(7) for w in ("-c", f"write -s {noise} {k * 32}M 32M")], "-c", "flush", uri)
        self.expected, before, written = image_of_uri(uri), image_of(disk.device), disk.sectors_written()
        site.cli("failover", "failback", name, "--confirm", name, "--no-wait")
        self.id = job_of(site, "failover_failback")["id"]
        self.vault = site.pid_of("vault")
        wait_until(lambda: disk.sectors_written() > written + 4 * MIB // 512, "the disk to be written", 60, 0)
        os.kill(self.vault, signal.SIGSTOP)
        self.going_on = defer(go_on, self.vault)
        check(self.step("pass") == "running" and image_of(disk.device) not in (before, self.expected), "it was not stopped in the middle")

    def shown(self):
        return self.site.cli("job", "show", self.id)

    def step(self, name):
        return next(s["status"] for s in self.shown()["steps"] if s["name"] == name)

    def is_let_go(self):
        """Nobody holds the disk: the agent has it to itself while it is written."""
        try:
            os.close(os.open(self.disk.device, os.O_RDWR | os.O_EXCL))
            return True
        except OSError:
            return False


@test
def a_vault_that_is_away_on_the_way_back_is_waited_for():
    disk, gate = Disk(256 * MIB), fresh("gate")
    waits = fresh("waits.sh")
    with open(waits, "w") as f:
        f.write(f'while [ -e {gate} ]; do sleep 0.1; done\nexec "$@"\n')
    disk.fill_random(4000)
    site = Site(daemon_starters={"vault": f"sh {waits}"})
    site.protect(disk)
    name = site.machine()["name"]
    site.settled_point()
    half = HalfWayBack(site, name, disk, uri_of(site, reprotected_failover(site, name)))
    with open(gate, "w"):
        os.kill(half.vault, signal.SIGKILL)
    wait_until(lambda: not site.cli("status")["vaults"]["online"], "the hub to miss the vault", 60, 0.2)
    check(half.shown()["status"] == "running" and half.step("pass") == "running", f"it does not wait: {half.shown()}")
    check(site.machine()["state"] == "reverse_protected", f"the machine is {site.machine()['state']}")
    os.unlink(gate)
    wait_until(lambda: half.shown()["status"] == "succeeded", "the failback to go on", 180, 0.3)
    check(image_of(disk.device) == half.expected, "the original is not what the replica was")
    check(image_of_point(site, site.settled_point()) == half.expected, "the point after the failback is not the disk")


@test
def a_failback_that_is_cancelled_while_it_writes_is_begun_anew():
    disk, site, name, _ = protected_site(256 * MIB, 4000)
    failed = reprotected_failover(site, name)
    uri = uri_of(site, failed)
    half = HalfWayBack(site, name, disk, uri)
    site.cli("failover", "cancel", name)
    wait_until(lambda: half.shown()["status"] == "cancelled", "the failback to be cancelled, whatever the vault does", 60, 0.2)
    wait_until(half.is_let_go, "the agent to give its disk back", 60, 0.2)
    undo(half.going_on)
    check(image_of(disk.device) != half.expected, "all of it was written")
    # The replica runs on as if nothing had been tried, and nothing of the half-written disk becomes the machine's.
    check(site.machine()["state"] == "reverse_protected", f"the machine is {site.machine()['state']}")
    shown = site.cli("failover", "show", failed["id"])
    check(shown["state"] == "reprotected" and not shown["failback"], f"{shown}")
    check(image_of_uri(uri) == half.expected and uri_of(site, failed) == uri, "the replica is another one")
    write(uri, 0x66, "3M", "1M")
    expected = image_of_uri(uri)
    wait_until(lambda: image_of_point(site, site.latest()) == expected, "a point of what the replica wrote", 60, 0.5)
    site.cli("failover", "failback", name, "--confirm", name, timeout=300)
    check(image_of(disk.device) == expected, "the original is not what the replica was")
    check(site.machine()["state"] == "protected" and not site.items("branch", "list"), "the failover is not over")
    check(image_of_point(site, site.settled_point()) == expected, "the point after the failback is not the disk")


STOP = """#!/bin/sh
# Stops the database of this test, and lets go of its disk; or brings both back.
set -e
case $1 in
stop)
    setpriv --reuid=postgres --regid=postgres --init-groups {pg_bin}/pg_ctl -D {mount}/pg -m fast -w stop
    umount {mount} ;;
start)
    mount {device} {mount}
    setpriv --reuid=postgres --regid=postgres --init-groups {pg_bin}/pg_ctl -D {mount}/pg -w -l {log} -o "-k {socket} -c listen_addresses=" start ;;
esac
echo $1 >> {calls}
"""


class Ledger:
    """Transactions one after the other, each known here once the database has said that it is committed."""

    def __init__(self, postgres):
        self.postgres, self.committed, self.stopping = postgres, 0, False
        postgres.sql("CREATE TABLE ledger (id int PRIMARY KEY)")
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        while not self.stopping:
            try:
                self.postgres.sql(f"INSERT INTO ledger VALUES ({self.committed + 1})")
                self.committed += 1
            except Failure:
                return  # the database is stopped

    def end(self):
        self.stopping = True
        self.thread.join(120)

    @staticmethod
    def ids(postgres):
        return [int(line) for line in postgres.sql("SELECT id FROM ledger ORDER BY id").split()]


def scripts_for(disk, postgres):
    folder, calls = fresh("failover.d"), fresh("calls")
    os.mkdir(folder)
    path = os.path.join(folder, "10-database")
    with open(path, "w") as f:
        f.write(STOP.format(pg_bin=PG_BIN, mount=disk.mount_point, device=disk.device, socket=postgres.socket, calls=calls,
                            log=os.path.join(postgres.socket, "log")))
    os.chmod(path, stat.S_IRWXU)
    return folder, calls


def said(calls):
    with contextlib.suppress(FileNotFoundError):
        with open(calls) as f:
            return f.read().split()
    return []


@test
def a_planned_failover_loses_no_transaction():
    disk = Disk(256 * MIB)
    disk.make_fs("ext4")
    disk.mount()
    postgres = Postgres(disk.mount_point)
    postgres.start()
    folder, calls = scripts_for(disk, postgres)
    site = Site(daemon_options={"agent": ["--failover-dir", folder]})
    site.protect(disk)
    name = site.machine()["name"]
    ledger = Ledger(postgres)
    wait_until(lambda: ledger.committed >= 20, "transactions", 60)
    wait_until(lambda: site.machine()["agent_state"] == "protected", "the agent to make points", 60)
    check("last point" in refused(site, "failover", "planned", f"{name}@1"), "a planned failover to an older point")

    # A target that does not start it: the source goes on, with all that it had.
    site.cli("target", "create", "broken", "command", "--config", '{"program": "/bin/false"}')
    refused(site, "failover", "planned", name, "--target", "broken")
    check(said(calls) == [] and postgres.sql("SELECT 1") == "1", "the source was stopped for a target that refused")

    failed = site.cli("failover", "planned", name)
    ledger.end()
    check(said(calls) == ["stop"], f"the scripts were called as {said(calls)}")
    check(failed["kind"] == "planned" and failed["data_loss_seconds"] == 0, f"{failed}")
    note(f"{ledger.committed} transactions; RTO {failed['rto_seconds']:.1f} s")
    uri = uri_of(site, failed)
    raw = fresh("ledger.img")
    run("nbdcopy", uri, raw)
    device, detach = attach_loop(raw)
    fs_check("ext4", device)  # unmounted cleanly: without a journal to be replayed
    there = fresh("replica")
    mounted = mount_device(device, there)
    replica = Postgres(there, create=False)
    replica.start()
    ids = Ledger.ids(replica)
    replica.stop()
    undo(mounted)
    undo(detach)
    check(ids[:ledger.committed] == list(range(1, ledger.committed + 1)), f"{ledger.committed} were committed, {len(ids)} are there")

    # It was a mistake: the source is started again, with all that it had.
    site.cli("failover", "rollback", name)
    wait_until(lambda: said(calls) == ["stop", "start"], "the source to be started", 60)
    check(Ledger.ids(postgres)[:ledger.committed] == list(range(1, ledger.committed + 1)), "the source lost transactions")
    site.wait_point_after(time.time(), 120)  # before that the agent asks the file system what is in use, and it cannot be unmounted
    run("/bin/sh", os.path.join(folder, "10-database"), "stop")


@test
def a_source_that_is_still_in_use_is_not_failed_over():
    disk = Disk(64 * MIB)
    disk.make_fs("ext4")
    disk.mount()
    site = Site(daemon_options={"agent": ["--failover-dir", fresh("nothing.d")]})
    site.protect(disk)
    name = site.machine()["name"]
    wait_until(lambda: site.machine()["agent_state"] == "protected", "the agent to make points", 60)
    text = refused(site, "failover", "planned", name)
    check("in use" in text and "mounted on" in text, text)
    wait_until(lambda: [f["state"] for f in site.items("failover", "list")] == ["failed"], "the failure to be cleared away", 60)
    check(site.machine()["state"] == "protected", f"the machine is {site.machine()['state']}")
    check(site.settled_point(), "points do not go on")


@test
def an_agent_that_is_killed_while_it_stops_the_source_goes_on():
    disk = Disk(64 * MIB)
    disk.fill_random(100)
    folder, calls, go = fresh("failover.d"), fresh("calls"), fresh("go")
    os.mkdir(folder)
    path = os.path.join(folder, "10-slow")
    with open(path, "w") as f:
        f.write(f"#!/bin/sh\necho $1 >> {calls}\n[ $1 = start ] || while [ ! -e {go} ] && [ -e {calls} ]; do sleep 0.1; done\n")
    os.chmod(path, stat.S_IRWXU)
    site = Site(daemon_options={"agent": ["--failover-dir", folder]})
    site.protect(disk)
    name = site.machine()["name"]
    wait_until(lambda: site.machine()["agent_state"] == "protected", "the agent to make points", 60)
    site.cli("failover", "planned", name, "--no-wait")
    wait_until(lambda: said(calls) == ["stop"], "the source to be stopped", 60)
    site.kill("agent")
    wait_until(lambda: len(said(calls)) == 2, "the agent to stop it again", 60)
    # What is written until the source is still counts, too.
    disk.fill_random(20, seed=9)
    with open(go, "w"):
        pass
    failed = wait_until(lambda: next((f for f in site.items("failover", "list") if f["state"] == "running"), None), "the replica", 120, 0.3)
    check(said(calls) == ["stop", "stop"], f"the scripts were called as {said(calls)}")
    check(image_of_uri(uri_of(site, failed)) == image_of(disk.device), "the replica is not what the source was at its end")
    # Back again, right behind the reprotection; then the source is started.
    site.cli("failover", "commit", name)
    site.cli("failover", "reprotect", name)
    write(uri_of(site, failed), 0x44)
    expected = image_of_uri(uri_of(site, failed))
    site.cli("failover", "failback", name, "--confirm", name)
    check(image_of(disk.device) == expected, "the original is not what the replica was")
    wait_until(lambda: said(calls) == ["stop", "stop", "start"], "the source to be started", 60)


if __name__ == "__main__":
    main()
