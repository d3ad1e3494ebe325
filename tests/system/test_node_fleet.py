#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Several nodes and agents in network namespaces: every node is drained once, nodes are killed, one is cut off while another is killed, one is
slow. Points of every machine keep coming, and what they hold is a moment of the source's history: a ledger says which. What the nodes
received while they were drained is held to what the vault's log has of that time: whatever was sent twice is too much.

    test_node_fleet.py                                              three nodes, four agents: as ./check runs it
    test_node_fleet.py --nodes 5 --agents 50 --kills 20 --seed 7    the whole fleet: see tests/README.md
The seed is printed; without --seed it is another one each time.
"""
import argparse
import os
import random
import signal
import struct
import sys
import time

import fleet
from fleet import Fleet
from harness import check, defer, main, note, point_time, run, test, undo, wait_until
from ledger import Ledger
from node_site import Node

OPTIONS = None
SEGMENT_HEADER, RECORD_HEADER = 4096, 64
HEADER = struct.Struct("<4xB7xI8xQ16s")  # kind, stored, length, hash
DATA, ZERO, SEAL = 1, 2, 4
SLOTS = 512
RECORDS_PER_SEC = 200  # of all machines together
STILL_BYTES = 64 << 10


def log_bytes(folder):
    """What agents that do not compress sent for the logs below a vault's folder, each change set once. FORMAT.md has the header."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            if os.path.basename(at) == "main" and name.endswith(".seg"):
                with open(os.path.join(at, name), "rb") as f:
                    total += segment_bytes(f.read())
    return total


def segment_bytes(data):
    total, place = 0, SEGMENT_HEADER
    while data[place:place + 4] == b"LWR1":
        kind, stored, length, digest = HEADER.unpack_from(data, place)
        place += RECORD_HEADER + stored
        if kind == SEAL:
            break
        was_data = kind == DATA or kind == ZERO and any(digest)  # the node makes zero records of data
        total += RECORD_HEADER + (length if was_data else stored)
    return total


class Nodes(Fleet):
    """A fleet whose nodes are in namespaces of their own, and the site's node drained away."""

    def __init__(self, options):
        super().__init__(options.agents, ("--freeze-budget", "2s", "--compress-at-agent", "no"))
        self.random = random.Random(options.seed)
        self.own = self.site.items("node", "list")[0]["name"]
        self.nodes, self.numbers = [], {}
        for i in range(options.nodes):
            number = 100 + i
            namespace, address = self.bridge.namespace(number)
            node = Node(self.site, f"n{i}", host=address, namespace=namespace, hub=f"{self.site.address}:{self.site.port_base + 1}")
            self.nodes.append(node)
            self.numbers[node.name] = number
        self.site.cli("node", "drain", self.own)
        self.protect()
        wait_until(lambda: not self.on(self.own), "the drained node of the site to be left", 120, 0.5)
        self.at_rest = self.counted()
        pause_s = max(0.02, options.agents / RECORDS_PER_SEC)
        self.ledgers = {m.name: Ledger([m.mount_point + "/ledger"], SLOTS, pause_s) for m in self.machines}

    def on(self, node):
        return [m["name"] for m in self.site.items("machine", "list") if m["node_name"] == node]

    def in_use(self):
        """Nodes that have machines."""
        machines = self.site.items("machine", "list")
        return [n for n in self.nodes if any(m["node_name"] == n.name for m in machines)]

    def points_of_all(self, why, timeout=120):
        """Each machine has a point of a moment after now."""
        moment = time.time()
        waiting = {m.name for m in self.machines}

        def all_there():
            for name in list(waiting):
                newest = self.site.items("point", "list", name, "--limit", "1")
                if newest and max(point_time(p) for p in newest) >= moment:
                    waiting.discard(name)
            check(not waiting, f"none of {sorted(waiting)}")
            return True
        wait_until(all_there, f"a point of every machine {why}", timeout, 0.3)

    def judge(self, machine):
        """The newest point of a machine against its ledger; the last record that it holds."""
        point = max(self.site.items("point", "list", machine.name, "--limit", "1"), key=lambda p: p["sequence"])
        image = self.image(machine, point["sequence"])
        run("e2fsck", "-fy", image, ok=(0, 1))  # as after a power failure: what the journal has is not in place yet
        held = fleet.file_of(image, "/ledger")
        return self.ledgers[machine.name].judge([held], point_time(point))

    def judge_one(self, why):
        self.points_of_all(why)
        machine = self.random.choice(self.machines)
        note(f"{why}: points of all, that of {machine.name} is the moment of record {self.judge(machine)}")

    def epochs(self):
        return sum(len(m.lines("epoch_raised")) for m in self.machines)

    def handovers(self):
        return [line for m in self.machines for line in m.lines("node_changed")]

    def hold(self, number):
        for ledger in self.ledgers.values():
            os.kill(ledger.pid, number)

    def counted(self):
        """What nodes received and what the vault's log has, once both stand still: nothing is being written."""
        seen = []

        def still():
            received = sum(int(n["received_bytes"]) for n in self.site.items("node", "list"))
            seen.append((received, log_bytes(os.path.join(self.site.data, "vault", "machines"))))
            last = seen[-4:]
            return len(last) == 4 and all(max(c) - min(c) < STILL_BYTES for c in zip(*last)) and last[-1]
        return wait_until(still, "nodes and vault to stand still", 120, 1.0)


def drained_one_after_the_other(f):
    f.points_of_all("at the beginning")
    epochs, before = f.epochs(), len(f.handovers())
    for node in f.nodes:
        f.site.cli("node", "drain", node.name)
        wait_until(lambda node=node: not f.on(node.name), f"{node.name} to be left", 120, 0.3)
        f.site.cli("node", "undrain", node.name)
    f.judge_one("after all nodes were drained")
    f.hold(signal.SIGSTOP)
    received, kept = (b - a for a, b in zip(f.at_rest, f.counted()))
    f.hold(signal.SIGCONT)
    moves = f.handovers()[before:]
    cut = [line for line in moves if line["handed_over"] != "true"]
    raised = f.epochs() - epochs
    note(f"{len(moves)} handovers, {len(cut)} cut off, {raised} new epochs; {received} bytes received, {kept} in the log: "
         f"{100 * (received / kept - 1):.2f} % more")
    check(len(moves) >= len(f.machines), f"{len(moves)} handovers of {len(f.machines)} machines")
    check(received > 0.99 * kept, f"{received} bytes received and {kept} in the log: this test does not count")
    check(raised <= len(cut), "something was sent twice though every stream was handed over")
    check(cut or received < 1.02 * kept, f"{received} bytes were received for {kept} in the log")


def killed_at_random(f, count):
    for _ in range(count):
        node = f.random.choice(f.in_use())
        lose = f.random.random() < 0.5
        note(f"killing {node.name}, which has {len(f.on(node.name))} machines{', and its spool' if lose else ''}")
        node.kill(lose_spool=lose)
        wait_until(lambda node=node: not f.on(node.name), f"{node.name} to be left", 120, 0.5)
        f.judge_one(f"without {node.name}")
        node.restart()


def one_cut_off_and_one_killed(f):
    node = f.random.choice(f.in_use())
    other = f.random.choice([n for n in f.nodes if n is not node])
    note(f"cutting off {node.name}, which has {len(f.on(node.name))} machines; {other.name} with {len(f.on(other.name))} loses its spool")
    f.bridge.cut(f.numbers[node.name])
    other.kill(lose_spool=True)
    wait_until(lambda: not f.on(node.name) and not f.on(other.name), "both to be left", 150, 0.5)
    f.judge_one(f"without {node.name} and {other.name}")
    f.bridge.cut(f.numbers[node.name], False)
    other.restart()
    wait_until(lambda: node.shown()["online"], f"{node.name} to be back", 150, 0.5)


def slowed_down(f):
    node = f.random.choice(f.in_use())
    name = f"{f.bridge.tag}n{f.numbers[node.name]}"
    run("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "2mbit", "burst", "32kbit", "latency", "400ms")
    fast_again = defer(run, "ip", "netns", "exec", name, "tc", "qdisc", "del", "dev", "eth0", "root")
    f.judge_one(f"with a slow {node.name}")
    undo(fast_again)


@test
def every_machines_points_keep_coming_whatever_happens_to_nodes():
    note(f"seed {OPTIONS.seed}, {OPTIONS.nodes} nodes, {OPTIONS.agents} agents")
    f = Nodes(OPTIONS)
    drained_one_after_the_other(f)
    killed_at_random(f, OPTIONS.kills)
    one_cut_off_and_one_killed(f)
    slowed_down(f)
    f.points_of_all("at the end")
    records = {machine.name: f.judge(machine) for machine in f.machines}
    note("moments of each one's history, up to records", records)
    resyncs = [e for e in f.site.items("event", "list") if e["code"] == "machine_state" and "resynchronizing" in e["text"]]
    check(not resyncs, f"{len(resyncs)} resynchronizations")


def parse():
    global OPTIONS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--kills", type=int, default=0, help="beside the one that every run has")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    OPTIONS, rest = parser.parse_known_args()
    sys.argv[1:] = rest


if __name__ == "__main__":
    parse()
    main()
