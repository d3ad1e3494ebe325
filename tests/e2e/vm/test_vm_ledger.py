#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The whole way of a database server to the other site and back, with a ledger of its transactions kept outside of it: a Debian guest whose root disk,
with PostgreSQL on it, is protected by the agent inside; a test failover, a planned one and its rollback, a hard power-off with an unplanned one, a source that
returns and is fenced, work on the replica, and the way back to the original's disk. The ledger is held to what each of them holds. The tests build on each other, in this order.
"""
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest import BOOT_S, Guest, Image, install_packages  # noqa: E402
from hypervisor import Hypervisor  # noqa: E402
from lab import PROTECTED_S, GuestSite, Lab  # noqa: E402
from rescue import rescue_image  # noqa: E402
from transactions import PORT, Database, Transactions  # noqa: E402
from harness import MIB, check, fresh, main, note, point_time, run, test, undo, wait_until  # noqa: E402

REPLICA = ["--target", "kvm", "--network", "ledger", "--memory-mib", "512", "--cpus", "1", "--boot-serial", "login:", "--boot-timeout", "30m"]
LONG_S = 3000
LATE_S = 0.3
# What the replica does beside the ledger: some 30 MB of its disk, with the log of it.
WORK = """CREATE TABLE work AS SELECT n, repeat(md5(random()::text), 24) AS text FROM generate_series(1, 15000) AS n; CHECKPOINT"""
STOP = """#!/bin/sh -e
case $1 in
stop) systemctl stop postgresql ;;
start) systemctl start postgresql ;;
esac
"""


class LedgerSite(GuestSite):
    def machine(self):
        """The protected one; a machine in the rescue system may be there beside it."""
        return next(m for m in self.items("machine", "list") if m["name"] == "guest")


class LedgerLab(Lab):
    """The guest's disk is a raw file: what a hard power-off leaves in it is what the guest had written."""

    def __init__(self):
        install_packages()
        self.image = Image("database")
        self.rescue = rescue_image()
        self.host = Hypervisor("ledger")
        within = ["nsenter", "-t", self.host.process.pid, "-n"]
        run(*within, "ip", "address", "add", "10.0.2.2/24", "dev", "ledger")
        self.replica = Database("10.0.2.15", within=within)
        self.site = LedgerSite("--no-agent")
        self.site.cli("target", "create", "kvm", "libvirt", "--config", json.dumps({"uri": self.host.uri, "accelerate": False}))
        self.disk = fresh("root.img")
        run("cp", "--sparse=always", self.image.disk, self.disk, timeout=600)
        self.guest = Guest(self.image, "guest", [(self.disk, "format=raw,cache=unsafe")], ports=[PORT])
        self.power_on()
        # Debian's own logind takes the power button of a replica that is shut down; it is there from the replica's boot on.
        self.guest.ssh("systemctl unmask systemd-logind; systemctl enable --now postgresql; sync")
        self.source.wait()
        self.guest.put_text(STOP, "/etc/leeward/failover.d/10-database", "755")
        disks = self.enrol()
        begin = time.monotonic()
        self.protect(disks, ["/dev/vda"])
        note(f"protected after {time.monotonic() - begin:.0f} s")
        self.ledger = Transactions(self.source)  # not before: the copy makes way for work, and would take minutes

    def power_on(self):
        self.guest.boot()
        self.source = Database("127.0.0.1", self.guest.ports[PORT])

    def boot_rescue(self):
        """The original's hardware, with its disk, from the rescue image."""
        token = self.site.cli("enrol-token", "create", "--role", "agent")["token"]
        self.guest.power_on("-no-reboot", "-kernel", os.path.join(self.rescue, "vmlinuz"), "-initrd", os.path.join(self.rescue, "initrd"), "-append",
                            "console=ttyS0 quiet mitigations=off nokaslr no_timer_check random.trust_cpu=on "
                            f"leeward.hub=10.0.2.2:{self.site.port_base + 1} leeward.token={token} leeward.name=newbox")
        wait_until(self.rescue_is_there, "the rescue system to enrol", BOOT_S, 0.3)

    def rescue_is_there(self):
        if self.guest.process.poll() is not None:
            raise AssertionError(f"qemu ended: {self.guest.output()}")
        there = [m for m in self.site.items("machine", "list") if m["name"] == "newbox" and m["online"] and m["rescue"]]
        return there and self.site.items("disk", "list", "newbox")

    def failover(self, kind, *options):
        """Fails over, and waits for the replica's database."""
        failed = self.site.cli("failover", kind, "guest", *REPLICA, *options, timeout=LONG_S)
        note(f"{kind}: {failed['verdict_text']}; RTO {failed['rto_seconds']:.1f} s, loss {failed['data_loss_seconds']:.1f} s")
        check(failed["verdict"] == "passed", f"{failed['verdict_text']}: {failed['replica'].get('console')}")
        self.replica.wait()
        return failed


def time_of(failed):
    """Of the point that runs, in the guest's time."""
    return point_time({"time": failed["point_time"]})


lab = None


@test
def a_test_failover_holds_the_ledger_while_the_source_goes_on():
    lab.ledger.wait_more()
    drill = lab.failover("test")
    lost = lab.ledger.judge(lab.replica, time_of(drill))
    note(f"{lab.ledger.count()} transactions, {lost} of them after the point")
    lab.ledger.wait_more()
    check(lab.site.machine()["state"] == "protected", "the source is not what it was")
    lab.site.cli("failover", "cleanup", drill["id"], "--outcome", "passed", timeout=LONG_S)


@test
def a_planned_failover_of_the_running_system_loses_nothing():
    lab.ledger.wait_more()
    failed = lab.failover("planned")
    lab.ledger.end()
    check(failed["data_loss_seconds"] == 0, f"{failed}")
    console = failed["replica"]["console"]
    check("root: clean" in console and "recovering journal" not in console, f"the replica's root was not written to its end: {console}")
    lab.ledger.judge(lab.replica)
    note(f"{lab.ledger.count()} transactions, none lost")
    said = lab.guest.ssh("systemctl is-active postgresql; touch /root/written; grep ' / ' /proc/mounts", ok=None)
    check("inactive" in said and " ro," in said, f"the source does not stand still: {said}")
    # It was a mistake: the source goes on, with all that it had.
    lab.site.cli("failover", "rollback", "guest", timeout=LONG_S)
    lab.source.wait()
    lab.ledger.judge(lab.source)
    check("rw," in lab.guest.ssh("touch /root/written && grep ' / ' /proc/mounts"), "the source cannot write")
    lab.protected_again(lab.site.latest()["sequence"])


@test
def an_unplanned_failover_loses_no_more_than_it_says():
    lab.ledger.begin(lab.source)
    lab.ledger.wait_more()
    lab.guest.power_fails()
    lab.ledger.end()
    failed = lab.failover("unplanned")
    moment, shown = time_of(failed), failed["data_loss_seconds"]
    lost = lab.ledger.judge(lab.replica, moment)
    note(f"{lab.ledger.count()} transactions, {lost} lost; the newest was made {lab.ledger.newest() - moment:.1f} s after the point, {shown:.1f} s are shown")
    # What is shown takes what the guest's clock is off from its statuses, which come late and never early.
    check(0 < shown and lab.ledger.newest() - moment <= shown + LATE_S, f"{shown} s are shown, and more was lost")
    lab.site.cli("failover", "commit", "guest")


def differing_bytes(one, other, block=4096):
    """In blocks that two raw images have otherwise."""
    differ = 0
    with open(one, "rb") as a, open(other, "rb") as b:
        while x := a.read(MIB):
            y = b.read(MIB)
            if x != y:
                differ += sum(block for at in range(0, len(x), block) if x[at:at + block] != y[at:at + block])
    return differ


@test
def a_source_that_returns_is_fenced():
    """Its system knows nothing of a failover, and works as before. What it books is no line of the ledger: where it is found, something of it was taken."""
    newest = lab.site.latest()["sequence"]
    lab.guest.power_on()
    lab.ledger.begin(lab.replica)
    lab.ledger.wait_more()
    lab.guest.wait_ssh()
    lab.source = Database("127.0.0.1", lab.guest.ports[PORT])
    lab.source.wait()
    lab.source.sql("UPDATE account SET total = total + 1000000; CHECKPOINT")
    wait_until(lambda: lab.site.machine()["online"] and lab.site.machine()["agent_state"] != "protected", "the agent to hear that it is fenced", PROTECTED_S, 0.5)
    refused = lab.site.cli_result("point", "create", "guest")
    check(refused.returncode != 0 and "not protected" in refused.stderr, f"a fenced source made a point: {refused}")
    check(lab.site.latest()["sequence"] == newest, "a point of what the fenced source sent")
    check("nothing that the source sends is taken" in lab.site.machine()["cause"], f"nobody is told: {lab.site.machine()}")
    lab.site.cli("failover", "reprotect", "guest", timeout=LONG_S)
    told = wait_until(lambda: (m := lab.site.machine())["state"] == "reverse_protected" and "source is back" in m["cause"] and m, "the fenced source to be told of", 120, 0.3)
    check("nothing that the source sends is taken" in told["cause"] and "leeward failover failback" in told["remedy"], f"failback is not offered: {told}")
    lab.guest.power_fails()


@test
def the_original_boots_with_all_that_the_replica_wrote():
    lab.ledger.begin(lab.replica)
    lab.ledger.wait_more()
    lab.replica.sql(WORK)
    before = fresh("before.img")
    run("cp", "--sparse=always", lab.disk, before, timeout=600)
    lab.boot_rescue()
    moved = lab.site.cli("failover", "failback", "guest", "--to", "newbox", "--confirm", "newbox", timeout=LONG_S)["result"]["failback"]
    lab.ledger.end()
    wait_until(lambda: lab.guest.process.poll() is not None, "the original to start anew", BOOT_S, 0.2)
    undo(lab.guest.process.undo_entry)
    differ = differing_bytes(before, lab.disk)
    note(f"{differ} bytes were different, {moved['written_bytes']} written, {moved['traffic_bytes']} travelled in {moved['passes']} passes")
    # What was changed once more between two passes is written twice: the replica works until the last of them.
    check(MIB < differ < os.path.getsize(lab.disk) / 8, f"{differ} bytes that were different prove nothing")
    check(moved["written_bytes"] <= 2 * differ + 4 * MIB, f"{moved['written_bytes']} bytes were written for {differ} that were different")
    check(moved["traffic_bytes"] <= 1.1 * moved["written_bytes"] + MIB, f"{moved['traffic_bytes']} bytes travelled for {moved['written_bytes']}")
    os.unlink(before)
    lab.power_on()
    lab.source.wait()
    lab.ledger.judge(lab.source)
    note(f"{lab.ledger.count()} transactions, none lost")
    # It is the machine again, and goes on.
    lab.protected_again(lab.site.latest()["sequence"])
    lab.ledger.begin(lab.source)
    lab.ledger.wait_more()
    check(lab.site.machine()["agent_state"] == "protected", f"{lab.site.machine()}")


if __name__ == "__main__":
    lab = LedgerLab()
    main(chained=True)
