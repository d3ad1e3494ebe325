#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""225 agents send to a node whose spool is full and whose vault stands still, until none of them can send any more: what the node counts of what
it keeps is within its shares, and all of its memory within what a process node may take. When the vault goes on everything is committed, and
nothing waits any more."""
import contextlib
import os
import random
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
from bench_node import Senders, daemon, node_figures  # noqa: E402
from harness import MIB, Failure, check, defer, fresh, free_port_base, main, note, stop, test, undo, wait_until  # noqa: E402

STREAMS = 225
BATCH = 4 * MIB  # the longest that an agent may send: no window is smaller
RECEIVED_MAX, UNSENT_MAX = max(768 * MIB, STREAMS * (BATCH + 4096)), 384 * MIB + STREAMS * MIB  # transport/node/node.c; a queue ends in a piece
ENOUGH = 1024 * MIB  # less than what it comes to
GOAL = 2048 * MIB  # beside what is counted: connections, TLS, messages that are not whole yet, what the heap keeps


def rss(pid, key):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key)) * 1024


class Asleep:
    """A process that stands still, but for moments in which it answers who asks whether it is there: else it would be given up."""

    def __init__(self, pid):
        self.pid, self.over = pid, threading.Event()
        os.kill(pid, signal.SIGSTOP)
        self.entry = defer(self.wake)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def turns(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("voluntary_ctxt_switches"))

    def run(self):
        while not self.over.wait(8):
            before = self.turns()
            os.kill(self.pid, signal.SIGCONT)
            with contextlib.suppress(Failure):  # it was not heard of in time, and stands still again all the same
                wait_until(lambda: self.turns() > before + 2, "the process to have had its turn", 30, 0.005)
            os.kill(self.pid, signal.SIGSTOP)

    def wake(self):
        self.over.set()
        self.thread.join()
        os.kill(self.pid, signal.SIGCONT)


@test
def memory_is_bounded_by_what_is_counted():
    folder, data = fresh("fleet"), fresh("payload")
    os.mkdir(folder, 0o700)
    with open(data, "wb") as f:
        f.write(random.Random(5).randbytes(4 * MIB))  # nothing of it compresses: the worst that can wait
    base = free_port_base(3)
    senders = Senders(folder, data, base, base + 1)
    check(senders.answer()["made"] == STREAMS, "no fleet")
    vault = daemon("vault", folder + "/vault", base + 1)
    node = daemon("node", folder + "/node", base, "--spool-bytes", "64M", "--threads", "2", "--probe-listen", f"127.0.0.1:{base + 2}")
    senders.ask("open")
    idle = rss(node.pid, "VmRSS:")
    asleep = Asleep(vault.pid)

    def filled():
        for name, process in (("node_load", senders.process), ("node", node), ("vault", vault)):
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}")  # no Failure: there is nothing to wait for
        senders.ask("fill")  # it ends early where the node gets no turn for a while
        figures = node_figures(base + 2)
        return figures if figures["leeward_node_received_waiting_bytes"] + figures["leeward_node_unsent_waiting_bytes"] > ENOUGH else None
    figures = wait_until(filled, "the node to have all that it takes", 240)
    full, peak = rss(node.pid, "VmRSS:"), rss(node.pid, "VmHWM:")
    received, unsent = figures["leeward_node_received_waiting_bytes"], figures["leeward_node_unsent_waiting_bytes"]
    note(f"{idle / MIB:.0f} MiB with {STREAMS} streams at rest; full: {received / MIB:.0f} MiB received and {unsent / MIB:.0f} MiB unsent are counted, "
         f"{full / MIB:.0f} MiB resident, {peak / MIB:.0f} MiB at the most")
    check(figures["leeward_node_spool_bytes"] <= 64 * MIB, "the spool is over its limit")
    check(received <= RECEIVED_MAX, f"{received / MIB:.0f} MiB wait for the spool")
    check(unsent <= UNSENT_MAX, f"{unsent / MIB:.0f} MiB wait for the vault")
    check(peak < GOAL, f"{peak / MIB:.0f} MiB")
    undo(asleep.entry)
    check(senders.ask("settle")["settled"] == STREAMS, "not everything was committed")
    wait_until(lambda: sum(node_figures(base + 2)[f"leeward_node_{k}_waiting_bytes"] for k in ("received", "unsent")) == 0, "nothing to wait any more", 60)
    check(node.poll() is None, "the node ended")
    senders.process.stdin.close()
    senders.process.wait()
    stop(node)
    stop(vault)


if __name__ == "__main__":
    main()
