#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A day without a link to the vault, compressed: a small spool and a source that rewrites the same blocks many times over. The spool never
passes its limit and the node's memory does not grow; points that nobody can keep are joined, and those that somebody asked for stay. When
the link is back the node sends what it has several times faster than the source writes, nothing is compared, and every point that the vault has is a moment of the
ledger that the source kept.
"""
import os
import random
import socket
import threading
import time

from harness import MIB, Disk, Site, check, defer, main, note, point_time, test, wait_until
from ledger import Ledger
from node_site import lines_of

SPOOL = 32 * MIB
HOT = 6 * MIB  # written again and again
AT = 8 * MIB   # where the ledger begins on the disk
SLOTS = 256
PIECE = 64 << 10
CHURN = 4 * MIB  # a second
OUTAGE_BYTES = 4 * SPOOL


class Churn:
    """Random pieces to random places of the first HOT bytes, at CHURN bytes a second, until stopped."""

    def __init__(self, device):
        self.device, self.written = device, 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        rng = random.Random(3)
        fd = os.open(self.device, os.O_WRONLY)
        try:
            begin = time.monotonic()
            while not self.stopped.wait(max(0.0, begin + self.written / CHURN - time.monotonic())):
                os.pwrite(fd, rng.randbytes(PIECE), rng.randrange(HOT // PIECE) * PIECE)
                os.fdatasync(fd)
                self.written += PIECE
        finally:
            os.close(fd)

    def stop(self):
        self.stopped.set()
        self.thread.join()


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


class Relay:
    """The link: what connects to its port reaches the vault, until it is cut."""

    def __init__(self):
        self.port, self.target = 0, None
        self.lock, self.sockets, self.listener = threading.Lock(), [], None
        self.mend()
        defer(self.cut)

    def mend(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        try:
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
                with self.lock:
                    self.sockets += [near, far]
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=self.pump, args=(a, b), daemon=True).start()
        except OSError:
            pass  # cut

    @staticmethod
    def pump(a, b):
        try:
            while data := a.recv(256 << 10):
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for s in self.sockets:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.sockets.clear()


class Outage:
    def __init__(self):
        self.disk = Disk(32 * MIB)
        self.link = Relay()
        self.site = Site(wait=False, daemon_options={"node": ["--spool-bytes", str(SPOOL)],
                                                     "vault": ["--advertise", f"127.0.0.1:{self.link.port}"]})
        self.link.target = self.site.port_base + 3
        self.site.wait_ready()
        self.site.protect(self.disk)
        self.ledger = Ledger([self.disk.device], SLOTS, 0.02, at=AT)
        self.churn = Churn(self.disk.device)
        self.node = self.site.pid_of("node")
        self.site.wait_point_after(time.time())

    def node_shown(self):
        return self.site.items("node", "list")[0]

    def forwarded(self):
        return int(self.node_shown()["forwarded_bytes"])

    def forwarded_at_rest(self):
        """Once the node has said the same, but for the ledger, several times in a row: it reports every second or so."""
        seen = []

        def still():
            seen.append(self.forwarded())
            return len(seen) >= 4 and seen[-1] - seen[-4] < MIB and seen[-1]
        return wait_until(still, "the node to have nothing left to send", 60, 1.0)

    def joins(self):
        return len(lines_of(self.site.log, "sets_joined"))

    def watch(self, until, seen):
        """Until a condition holds; what the node uses meanwhile."""
        def look():
            seen.append((int(self.node_shown()["spool_bytes"]), rss_kib(self.node)))
            return until()
        wait_until(look, "the outage to last", 180, 0.3)

    def judge(self, point):
        opened = self.site.open(point["sequence"])
        image = opened.copy()
        opened.close()
        last = self.ledger.judge([image], point_time(point))
        os.unlink(image)
        return last


@test
def an_outage_that_is_longer_than_the_spool_costs_points_and_nothing_else():
    o = Outage()
    site = o.site
    before = site.latest()
    o.link.cut()
    began, written = time.time(), o.churn.written
    first, later = [], []
    o.watch(lambda: o.joins() >= 1, first)
    asked = site.cli("point", "create", site.machine()["name"], "--no-wait")
    o.watch(lambda: o.churn.written - written > OUTAGE_BYTES and o.joins() >= 4, later)
    missed, forwarded = o.churn.written - written, o.forwarded()
    check(site.latest()["sequence"] <= before["sequence"] + 5, "the link was not cut: points went on")

    mended = time.time()
    o.link.mend()
    site.wait_point_after(mended, timeout=120)
    caught_up_s = time.time() - mended
    meanwhile = o.churn.written - written - missed
    o.churn.stop()
    site.wait_point_after(time.time())
    sent = o.forwarded_at_rest() - forwarded

    spool = max(s for s, _ in first + later)
    early, late = max(r for _, r in first), max(r for _, r in later)
    note(f"{mended - began:.0f} s without a link, {missed / MIB:.0f} MiB written, {o.joins()} joins, spool at most {spool / MIB:.1f} MiB; memory "
         f"{early} then {late} KiB; caught up in {caught_up_s:.1f} s with {sent / MIB:.0f} MiB beside {meanwhile / MIB:.0f} MiB of new changes: "
         f"{(missed + meanwhile) / caught_up_s / (missed / (mended - began)):.1f} x churn")
    check(spool <= SPOOL, f"{spool} bytes in a spool of at most {SPOOL}")
    check(late < early + (24 << 10), f"the node's memory grew from {early} to {late} KiB")
    check(sent - meanwhile < missed / 3, f"{sent} bytes were sent for {missed} that were written")

    job = site.cli("job", "wait", asked["id"])
    check(job["status"] == "succeeded", f"the point that was asked for: {job}")
    points = [p for p in site.points() if p["sequence"] > before["sequence"]]
    check(int(job["result"]["sequence"]) in [p["sequence"] for p in points], f"the point that was asked for is gone: {job['result']}")
    of_outage = [p for p in points if began < point_time(p) < mended]
    check(of_outage, "no point of the time without a link")
    records = [o.judge(p) for p in of_outage[:3] + of_outage[-3:] + points[:1]]
    note(f"{len(of_outage)} points of that time; moments of its history, up to records {records}")
    resyncs = [e for e in site.items("event", "list") if e["code"] == "machine_state" and "resynchronizing" in e["text"]]
    check(not resyncs and site.machine()["state"] == "protected", "there was a resynchronization")


if __name__ == "__main__":
    main()
