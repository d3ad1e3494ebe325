#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A lost machine gets other hardware: a point of it is written to the disks of another machine, which take the place of its own. The agents of both run here,
each with the loop disks that it is told; disks are always named, for the machine that runs the test has its own."""
import os
import signal

from agent_site import Agent, HubSite
from harness import MIB, CliError, Disk, check, fresh, image_of, main, note, run, test, undo, wait_until

SIZE = 48 * MIB


class Lab:
    """A protected machine `lost`, its agent stopped, and `spare`, which runs as the rescue system does."""

    def __init__(self):
        self.site = HubSite()
        self.disk = Disk(SIZE)
        self.disk.fill_random(600)
        self.lost = Agent(self.site, "lost")
        self.site.cli("machine", "protect", "lost", "--disk", self.lost.key(self.disk), "--no-wait")
        wait_until(lambda: self.lost.is_protected() and self.lost.points(), "the machine to be protected", 180, 0.3)
        self.spare = None

    def start_spare(self, disk):
        self.spare = Agent(self.site, f"spare{disk.size_bytes >> 20}", "--rescue")
        return self.spare

    def refused(self, *command):
        try:
            self.site.cli(*command, timeout=180)
        except CliError as refusal:
            return refusal.text
        raise AssertionError(f"{command} was not refused")

    def restarted(self):
        """The rescue system's agent ended with the word that its machine is to start from its disks."""
        process = self.spare.process
        wait_until(lambda: process.poll() is not None, "the rescue system to restart", 60, 0.2)
        check(process.returncode == 10, f"it ended with {process.returncode}")
        undo(process.undo_entry)


def first_part(disk):
    part = fresh("part.img")
    run("dd", f"if={disk.device}", f"of={part}", "bs=1M", f"count={SIZE // MIB}", "iflag=direct")
    return image_of(part)


def set_up():
    lab = Lab()
    large, small = Disk(SIZE + 8 * MIB), Disk(SIZE - 8 * MIB)
    spare = lab.start_spare(large)
    check(spare.shown()["rescue"] and not lab.lost.shown()["rescue"], "who is a rescue system")
    return lab, spare, large, small


@test
def a_lost_machine_goes_on_from_another_ones_disk():
    lab, spare, large, small = set_up()
    site, lost = lab.site, lab.lost
    point = lost.point_of(lab.disk)
    held = image_of(lab.disk.device)
    to = ["machine", "restore", "lost", "--to", spare.name, "--confirm", spare.name, "--disk"]
    check("rescue system" in lab.refused("machine", "protect", spare.name, "--disk", spare.key(large)), "a rescue system was protected")
    check("twice" in lab.refused(*to, f"0={spare.key(large)}"), "a machine that runs was restored")
    lost.stop()
    check("overwritten" in lab.refused("machine", "restore", "lost", "--to", spare.name, "--confirm", "lost", "--disk", f"0={spare.key(large)}"),
          "the wrong name was confirmed")
    check("missing" in lab.refused("machine", "restore", "lost", "--to", spare.name, "--disk", f"0={spare.key(large)}"), "nothing was confirmed")
    plain = Agent(site, "plain")
    check("does not run the rescue system" in lab.refused("machine", "restore", "lost", "--to", "plain", "--confirm", "plain"), "a disk was guessed")
    plain.stop()
    check("at least as large" in lab.refused(*to, f"0={spare.key(small)}"), "a disk that is too small")
    check("has no disk" in lab.refused(*to, "0=serial:nowhere"), "a disk that is not there")
    check("no disk 7 to be written" in lab.refused(*to, f"7={spare.key(large)}"), "a disk that the point has not")
    check("the machine itself" in lab.refused("machine", "restore", "lost", "--to", "lost", "--confirm", "lost"), "the machine itself")
    large.make_fs("ext4")
    large.mount()
    wait_until(lambda: "mounted on" in lab.refused(*to, f"0={spare.key(large)}"), "a mounted disk to be refused", 60, 0.5)
    large.unmount()
    fd = os.open(large.device, os.O_RDONLY | os.O_EXCL)
    try:
        wait_until(lambda: "is in use" in (said := lab.refused(*to, f"0={spare.key(large)}")) and "mounted" not in said, "a disk in use to be refused", 60, 0.5)
    finally:
        os.close(fd)
    check(lost.shown()["generation"] == 1 and first_part(large) != held, "a refused restore changed something")

    job = site.cli(*to, f"0={spare.key(large)}", timeout=300)
    note(job["result"]["restored"])
    check(first_part(large) == held, "the disk is not what the point holds")
    check(lost.shown()["generation"] == 2, "the generation is not another one")
    lab.restarted()
    numbered = {d["number"]: d["key"] for d in lost.disks() if d["number"] is not None}
    check(numbered == {0: spare.key(large)}, f"the machine's disks: {numbered}")

    # Its agent comes up on the other hardware, and goes on from there; what happens to the old disk is nobody's matter any more.
    lost.start()
    wait_until(lambda: lost.is_protected() and lost.points()[-1]["sequence"] > point["sequence"], "the machine to be protected again", 180, 0.3)
    large.fill_random(60, seed=7)
    lab.disk.fill_random(60, seed=8)
    after = lost.point_of(large)
    check(lost.image(point) == held, "the history is not what it was")

    # Back to the point from before, onto the same disk: only what differs is written.
    lost.stop()
    again = lab.start_spare(Disk(SIZE))
    job = site.cli("machine", "restore", f"lost@{point['sequence']}", "--to", again.name, "--confirm", again.name, "--disk",
                   f"0={again.key(large)}", timeout=300)
    moved = job["result"]["restored"]
    note(moved)
    check(first_part(large) == held, "the disk is not what the older point holds")
    check(0 < int(moved["written_bytes"]) <= 60 * 4096 and int(moved["traffic_bytes"]) <= 1.1 * 60 * 4096 + MIB, f"more than the differences: {moved}")
    check(after["sequence"] > point["sequence"], "no point of the new disk")


@test
def an_older_point_is_restored_with_the_disks_that_it_has():
    lab, spare, large, _ = set_up()
    site, lost = lab.site, lab.lost
    before = lost.point_of(lab.disk)
    held = image_of(lab.disk.device)
    second, onto = Disk(16 * MIB), Disk(16 * MIB)
    second.fill_random(40, seed=3)
    for agent, disk in ((lost, second), (spare, onto)):
        wait_until(lambda: any(d["device"] == disk.device for d in agent.disks()), "the agent to report its disk", 120, 0.3)
    site.cli("disk", "add", "lost", second.device, timeout=240)
    site.cli("point", "create", "lost", timeout=240)
    after = lost.points()[-1]
    lost.stop()
    to = ["--to", spare.name, "--confirm", spare.name, "--disk"]
    one, both = f"0={spare.key(large)}", f"0={spare.key(large)},1={spare.key(onto)}"
    check("had no disk 1" in lab.refused("machine", "restore", f"lost@{before['sequence']}", *to, both), "a disk that the point has not")
    check("has a disk 1" in lab.refused("machine", "restore", f"lost@{after['sequence']}", *to, one), "a disk was left out")
    check(first_part(large) != held, "a refused restore wrote something")
    site.cli("machine", "restore", f"lost@{before['sequence']}", *to, one, timeout=300)
    check(first_part(large) == held, "the disk is not what the point holds")
    check({d["key"] for d in lost.disks() if d["number"] == 0} == {spare.key(large)}, "the machine's disks")


@test
def a_replica_fails_back_to_another_machine():
    lab, spare, large, _ = set_up()
    site, lost = lab.site, lab.lost
    lost.point_of(lab.disk)
    failed = site.cli("failover", "unplanned", "lost")
    site.cli("failover", "commit", "lost")
    site.cli("failover", "reprotect", "lost")
    branch = next(b for b in site.items("branch", "list") if b["id"] == failed["branch_id"])
    uri = branch["disks"][0]["uri"]
    run("qemu-io", "-f", "raw", "-c", "write -P 0x77 3M 1M", "-c", "flush", uri)
    copy = fresh("replica.img")
    run("nbdcopy", uri, copy)
    back = ["failover", "failback", "lost", "--to", spare.name, "--confirm", spare.name, "--disk", f"0={spare.key(large)}"]
    check("twice" in lab.refused(*back), "a failback to another machine beside the original")
    lost.stop()
    check("no point of it can be restored" in lab.refused("machine", "restore", "lost", "--to", spare.name, "--confirm", spare.name, "--disk",
                                                          f"0={spare.key(large)}"), "a machine with a replica was restored")

    # Given up while its agent does not answer: the replica runs on, and the other machine is let go.
    os.kill(spare.process.pid, signal.SIGSTOP)
    try:
        site.cli(*back, "--no-wait")
        job = wait_until(lambda: next((j for j in site.items("job", "list") if j["kind"] == "failover_failback"), None), "the job", 60)
        wait_until(lambda: next(s for s in site.cli("job", "show", job["id"])["steps"] if s["name"] == "check")["status"] == "running", "it to begin", 60)
        site.cli("failover", "cancel", "lost")
        wait_until(lambda: site.cli("job", "show", job["id"])["status"] == "cancelled", "the failback to be cancelled", 120)
    finally:
        os.kill(spare.process.pid, signal.SIGCONT)
    check(lost.shown()["state"] == "reverse_protected", "a cancelled failback changed the machine")

    def done():
        try:
            return site.cli(*back, timeout=300)
        except CliError as refusal:
            check("is not connected" in refusal.text or "being written" in refusal.text, f"it was refused: {refusal.text}")
            return None
    wait_until(done, "the failback", 300, 0.5)
    check(first_part(large) == image_of(copy), "the disk is not what the replica was")
    check(lost.shown()["state"] == "protected" and site.cli("failover", "show", failed["id"])["state"] == "failed_back", "the failover is not over")
    check(not site.items("branch", "list"), "the branch is still there")
    lab.restarted()
    lost.start()
    wait_until(lost.is_protected, "the machine to be protected again", 180, 0.3)
    large.fill_random(40, seed=9)
    lost.point_of(large)


if __name__ == "__main__":
    main()
