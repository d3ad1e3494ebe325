#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Machines move between process nodes: when asked to, when a node is drained, and when one is gone, spool and all.

The source writes each of its blocks exactly once, so that what the nodes received can be held to what was written: whatever was sent
twice is too much. What the last point holds is compared with the disk, and the agent's log says whether it ever began anew.
"""
import os
import signal
import threading

from harness import MIB, CliError, Disk, Site, check, image_of, main, note, point_time, test, wait_until
from node_site import Node, lines_of, site_node

PIECE = 64 << 10
DISK = 192 * MIB


class Once:
    """Writes random pieces to a raw disk, one after the other, each place once, until stopped or at the end of the disk."""

    def __init__(self, disk, pause_s=0.012):
        self.disk, self.pause_s = disk, pause_s
        self.written = 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        fd = os.open(self.disk.device, os.O_WRONLY)
        try:
            for at in range(0, self.disk.size_bytes, PIECE):
                os.pwrite(fd, os.urandom(PIECE), at)
                os.fdatasync(fd)
                self.written = at + PIECE
                if self.stopped.wait(self.pause_s):
                    return
        finally:
            os.close(fd)

    def stop(self):
        self.stopped.set()
        self.thread.join()
        check(self.written < self.disk.size_bytes, "the disk was too small for this machine: nothing was written at the end")


class Moving:
    """A site with three nodes, its machine protected and being written to."""

    def __init__(self):
        self.site = Site()
        self.site.cli("policy", "create", "moving", "--interval", "1s", "--compress-at-agent", "no")
        self.first = site_node(self.site)
        self.disk = Disk(DISK)
        key = self.site.disk_key(self.disk)
        self.site.cli("machine", "protect", self.site.machine()["id"], "--disk", key, "--policy", "moving", "--no-wait")
        self.site.wait_protected()
        self.nodes = {n.name: n for n in (Node(self.site, "second"), Node(self.site, "third"))}
        self.agent_log = self.site.log

    def name(self):
        return self.site.machine()["node_name"]

    def point_behind(self, sequence, why, timeout=60):
        wait_until(lambda: self.site.latest()["sequence"] > sequence, why, timeout, 0.2)

    def received_so_far(self):
        return sum(int(n["received_bytes"]) for n in self.site.items("node", "list"))

    def received(self):
        """What all nodes have received, once they say the same several times in a row (they report every few seconds)."""
        seen = []

        def still():
            seen.append(self.received_so_far())
            return len(seen) >= 8 and max(seen[-8:]) - min(seen[-8:]) < PIECE and seen[-1] + 1
        return wait_until(still, "the nodes to report the same", 90, 1.0) - 1

    def epochs(self):
        return len(lines_of(self.agent_log, "epoch_raised"))

    def judge(self):
        """The last point is the disk, and nothing was ever compared or copied again."""
        point = self.site.settled_point()
        opened = self.site.open(point["sequence"])
        check(image_of(opened.copy()) == image_of(self.disk.device), "the last point is not what the disk holds")
        opened.close()
        check(self.site.machine()["state"] == "protected" and not self.resyncs(), "there was a resynchronization")

    def resyncs(self):
        return [e for e in self.site.items("event", "list") if e["code"] == "machine_state" and "resynchronizing" in e["text"]]

    def longest_gap(self, since):
        times = sorted(point_time(p) for p in self.site.points() if p["sequence"] >= since)
        return max(b - a for a, b in zip(times, times[1:]))


@test
def a_planned_move_sends_nothing_twice_and_begins_nothing_anew():
    m = Moving()
    site = m.site
    epochs, received, sequence = m.epochs(), m.received(), site.latest()["sequence"]
    writer = Once(m.disk)
    m.point_behind(sequence + 1, "points of what is written")
    for target in ("second", "third", m.first, "third"):
        before = site.latest()["sequence"]
        job = site.cli("machine", "move", site.machine()["id"], "--node", target)
        check(job["status"] == "succeeded", f"the move ended as {job['status']}: {job['problem']}")
        check(m.name() == target, f"the machine is on {m.name()} instead of {target}")
        m.point_behind(before, f"points through {target}")
    writer.stop()
    m.judge()
    twice = (m.received() - received) / writer.written - 1
    note(f"{len(lines_of(m.agent_log, 'node_changed'))} moves, {writer.written / MIB:.0f} MiB written, "
         f"{100 * twice:.2f} % more received, longest gap between points {m.longest_gap(sequence):.2f} s")
    moves = lines_of(m.agent_log, "node_changed")
    check(len(moves) == 4, f"{len(moves)} handovers instead of 4")
    check(all(l["handed_over"] in ("true", "yes", "1") for l in moves), f"a stream was cut off: {moves}")
    check(m.epochs() == epochs, "the agent began anew with what was not committed")
    check(twice < 0.05, f"{100 * twice:.1f} % more was received than written")
    check([e["code"] for e in site.items("event", "list")].count("machine_moved") == 4, "no event for each move")


@test
def a_drained_node_and_one_that_is_gone_are_left_by_themselves():
    m = Moving()
    site, machine = m.site, m.site.machine()["id"]
    try:
        site.cli("machine", "move", machine, "--node", "nowhere")
        check(False, "moved to a node that is not there")
    except CliError as refusal:
        check(refusal.status == 3, f"exit {refusal.status} for a node that is not there")
    site.cli("machine", "move", machine, "--node", "second", "--pin")
    received = m.received()
    writer = Once(m.disk, 0.05)
    epochs = m.epochs()
    site.cli("node", "drain", "second")
    wait_until(lambda: m.name() != "second", "the drained node to be left", 60)
    try:
        site.cli("machine", "move", machine, "--node", "second")
        check(False, "moved to a node that is being drained")
    except CliError as refusal:
        check(refusal.status == 4 and "drained" in refusal.text, f"exit {refusal.status}: {refusal.text}")
    m.point_behind(site.latest()["sequence"], "a point after the draining")
    check(m.epochs() == epochs, "the agent began anew because of a drained node")
    site.cli("node", "undrain", "second")
    wait_until(lambda: m.name() == "second", "the machine to come back to where it is pinned", 60)
    m.point_behind(site.latest()["sequence"], "a point through the node that it is pinned to")

    vault = site.pid_of("vault")
    os.kill(vault, signal.SIGSTOP)  # so that the node has what the vault has not
    enough = received + writer.written + 8 * PIECE  # more than what was written until then: some of it the vault has not
    wait_until(lambda: m.received_so_far() > enough, "something that the vault has not", 60)
    lost = site.latest()["sequence"]
    m.nodes["second"].kill(lose_spool=True)
    os.kill(vault, signal.SIGKILL)  # with what waits in its sockets; it is started again
    wait_until(lambda: m.name() != "second", "the lost node to be left", 90)
    m.point_behind(lost + 1, "points after the loss")
    check(m.epochs() > epochs, "nothing of what the lost node had was sent again")
    writer.stop()
    m.judge()
    verified = site.cli("vault", "verify")
    check(verified["status"] == "succeeded" and verified["result"]["damage_count"] == 0, f"the log has a gap: {verified}")
    m.nodes["second"].restart()
    wait_until(lambda: m.name() == "second", "the machine to come back to the node that was lost", 120)
    m.point_behind(site.latest()["sequence"], "a point through it")
    m.judge()


if __name__ == "__main__":
    main()
