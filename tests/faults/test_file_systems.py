#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Points of ext4, xfs and btrfs while fio, pgbench and a ledger write to them and the agent is killed at random moments.

After each kill points go on by themselves and no disk is compared. Every LEEWARD_EACH rounds one of the last points is opened: the
file system has to be clean after its journal was replayed, the ledger has to end where it was at that moment, and the database has to start
with its sums right. LEEWARD_ROUNDS (of each file system), LEEWARD_SEED (printed) and LEEWARD_KINDS ("ext4 xfs btrfs") make it longer, repeat it and widen it.
"""
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from harness import Disk, Postgres, Site, check, fresh, main, note, start, stop, test, undo  # noqa: E402
from judge import SIZE, judge_point  # noqa: E402
from ledger import Ledger  # noqa: E402

ROUNDS = int(os.environ.get("LEEWARD_ROUNDS", "2"))
EACH = int(os.environ.get("LEEWARD_EACH", "2"))
SEED = int(os.environ.get("LEEWARD_SEED", str(random.SystemRandom().randrange(1 << 32))))
KINDS = os.environ.get("LEEWARD_KINDS", "xfs btrfs").split()  # test_kill.py has ext4
FIO = ["--name=load", "--rw=randwrite", "--bsrange=4k-64k", "--size=48m", "--ioengine=psync", "--fdatasync=32", "--rate_iops=400",
       "--time_based", "--runtime=1000000", "--refill_buffers"]
# What pgbench moves from one table to the next is the same in all of them.
SUMS = ("select count(distinct n) from (select sum(abalance) n from pgbench_accounts union all select sum(tbalance) from pgbench_tellers "
        "union all select sum(bbalance) from pgbench_branches union all select coalesce(sum(delta), 0) from pgbench_history) s")


class Source:
    """A protected file system, and what writes to it."""

    def __init__(self, kind):
        self.kind = kind
        self.disk = Disk(SIZE[kind])
        self.disk.make_fs(kind)
        self.folder = self.disk.mount()
        self.database = Postgres(self.folder)
        self.database.start()
        for name, size in (("min_wal_size", "32MB"), ("max_wal_size", "64MB")):  # the disk is small, and the run may be long
            self.database.sql(f"alter system set {name} = '{size}'")
        self.database.sql("select pg_reload_conf()")
        check(self.database.pgbench("-i", "-s", "1", "-q").wait(300) == 0, "pgbench could not make its tables")
        self.ledger = Ledger([os.path.join(self.folder, "ledger")], 256, pause_s=0.002)
        self.site = Site()
        self.site.protect(self.disk)
        self.load = start(["fio", "--thread", *FIO, f"--directory={self.folder}"], log=fresh("fio.log"))
        self.transactions = self.database.pgbench("-c", "2", "-T", "1000000", "-n")

    def compared(self):
        return sum(e["code"] == "resync_started" for e in self.site.items("event", "list", "--limit", "500"))

    def kill_agent(self):
        moment = time.time()
        self.site.kill("agent")
        point = self.site.wait_point_after(moment, 90)
        check(self.compared() == 0, "the disk was compared because the agent was killed")
        check(self.load.poll() is None and self.transactions.poll() is None, "what writes to the source has ended")
        return point

    def judge(self, point):
        judge_point(self.site, self.kind, point, self.ledger, self.judge_database)

    def judge_database(self, folder):
        """Starts what the point holds of the database, as after a power failure."""
        os.unlink(os.path.join(folder, "pg", "postmaster.pid"))
        copy = Postgres(folder, create=False)
        copy.start()
        different = copy.sql(SUMS)
        copy.stop()
        check(different == "1", f"the sums of the database are {different} different ones")

    def end(self):
        for process in (self.load, self.transactions):
            stop(process)
        self.ledger.stop()
        self.database.stop()
        self.site.stop()
        undo(self.disk._unmount)


def killed_at_random(kind):
    rng = random.Random(f"{SEED}-{kind}")
    source = Source(kind)
    for number in range(1, ROUNDS + 1):
        time.sleep(rng.random() * 1.5)  # the random moment
        newest = source.kill_agent()
        note(f"{kind}, round {number}: point {newest['sequence']} after the kill")
        if number % EACH == 0:
            source.judge(rng.choice(source.site.points()[:3]))
    source.end()


@test
def points_hold_whatever_happens_to_the_agent():
    print(f"seed {SEED}: LEEWARD_SEED={SEED} repeats it", flush=True)
    for kind in KINDS:
        killed_at_random(kind)


if __name__ == "__main__":
    main()
