#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of agent, node, vault, hub and PostgreSQL, at random moments under load.

After each round: points go on by themselves; no committed point is gone and those that were hashed earlier still hold the same
bytes; the file system of the source is not frozen; after an agent kill there was no resync. The ledger of the last point is
judged too. LEEWARD_ROUNDS sets the rounds (50 in the long run), LEEWARD_SEED repeats one.
"""
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from harness import MIB, Disk, Site, check, image_of, is_frozen, main, note, point_time, test, undo, wait_until  # noqa: E402
from ledger import Ledger  # noqa: E402

ROUNDS = int(os.environ.get("LEEWARD_ROUNDS", "20"))
SEED = int(os.environ.get("LEEWARD_SEED", str(random.SystemRandom().randrange(1 << 32))))
TIME_LIMIT_S = float(os.environ.get("LEEWARD_TIME_LIMIT", "330"))
VICTIMS = ["agent", "node", "vault", "hub", "postgres"]


class Rounds:
    def __init__(self):
        self.rng = random.Random(SEED)
        self.disk = Disk(192 * MIB)
        self.disk.make_fs("ext4")
        self.folder = self.disk.mount()
        self.ledger = Ledger([os.path.join(self.folder, "ledger")], 128, pause_s=0.003)
        self.site = Site()
        self.site.protect(self.disk)
        self.hashes = {}
        self.seen = set()
        self.resyncs = self.resync_count()

    def resync_count(self):
        events = self.site.items("event", "list", "--limit", "500")
        return sum(1 for e in events if "resync" in e["code"])

    def sample(self):
        """Hashes the newest point, to be compared later."""
        point = self.site.latest()
        self.hashes[point["sequence"]] = self.hash_of(point["sequence"])

    def hash_of(self, sequence):
        export = self.site.open(sequence)
        copy = export.copy()
        image = image_of(copy)
        os.unlink(copy)
        export.close()
        return image

    def one(self, number):
        victim = VICTIMS[number % len(VICTIMS)] if number < len(VICTIMS) else self.rng.choice(VICTIMS)
        wait_until(lambda: self.site.machine()["online"], "the agent to be online", 60)
        self.seen |= {p["sequence"] for p in self.site.points()}
        time.sleep(self.rng.random() * 1.2)  # the random moment
        moment = time.time()
        pid = self.site.postgres_pid() if victim == "postgres" else self.site.pid_of(victim)
        os.kill(pid, signal.SIGKILL)
        point = self.site.wait_point_after(moment, 90)
        note(f"round {number}: {victim} {pid} killed; point {point['sequence']} after {time.time() - moment:.1f} s")
        check(not is_frozen(self.folder), f"round {number}: the file system of the source is frozen")
        self.check_history(number, victim)

    def check_history(self, number, victim):
        listed = {p["sequence"] for p in self.site.points()}
        gone = {s for s in self.seen if s not in listed}
        check(not gone, f"round {number} ({victim}): points {sorted(gone)[:5]} are gone")
        check(self.site.machine()["state"] == "protected", f"round {number}: the machine is {self.site.machine()['state']}")
        if victim == "agent":
            check(self.resync_count() == self.resyncs, f"round {number}: a resync after an agent kill")

    def compare(self):
        for sequence, image in self.hashes.items():
            check(self.hash_of(sequence) == image, f"point {sequence} changed")

    def judge_last(self):
        point = self.site.latest()
        attached = self.site.open(point["sequence"], write=True).attach()
        folder = attached.mount()
        self.ledger.judge([os.path.join(folder, "ledger")], point_time(point))
        undo(attached._mount)
        attached._mount = None
        attached.detach()


@test
def killed_daemons_come_back_and_lose_nothing():
    print(f"seed {SEED}: LEEWARD_SEED={SEED} repeats it", flush=True)
    begin = time.monotonic()
    rounds = Rounds()
    done = 0
    for number in range(ROUNDS):
        if time.monotonic() - begin > TIME_LIMIT_S:
            break
        if number % 4 == 0:
            rounds.sample()
        rounds.one(number)
        done += 1
    rounds.compare()
    rounds.judge_last()
    print(f"{done} rounds in {time.monotonic() - begin:.0f} s", flush=True)
    check(done >= min(ROUNDS, len(VICTIMS)), f"only {done} rounds in {TIME_LIMIT_S:g} s")


if __name__ == "__main__":
    main()
