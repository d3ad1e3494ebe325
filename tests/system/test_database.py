#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL under pgbench on a protected disk: started on a branch of any point it recovers, and no transaction that was
committed before the point is missing, while the load goes on and nothing is frozen."""
import os
import subprocess
import time

from harness import MIB, Disk, Postgres, Site, check, defer, main, note, point_time, test, undo


class Committer:
    """One client that inserts row after row and writes down when each commit was answered."""

    def __init__(self, database):
        self.answered = []
        self.process = subprocess.Popen(["psql", "-X", "-q", "-A", "-t"], env=database.env, text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._undo = defer(self._stop)

    def commit_until(self, condition, timeout=180):
        deadline = time.monotonic() + timeout
        while not condition():
            check(time.monotonic() < deadline, f"not within {timeout} s")
            self.process.stdin.write("INSERT INTO ledger DEFAULT VALUES RETURNING id;\n")
            self.answered.append((int(self.process.stdout.readline()), time.time()))
            time.sleep(0.001)  # leaves the processor to the others

    def before(self, moment):
        return {number for number, when in self.answered if when < moment}

    def _stop(self):
        self.process.stdin.close()
        self.process.wait(20)


@test
def no_committed_transaction_is_missing_in_a_point():
    disk = Disk(768 * MIB)
    disk.make_fs("ext4")
    folder = disk.mount()
    database = Postgres(folder)
    database.start()
    database.sql("CREATE TABLE ledger (id bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())")
    site = Site()
    site.protect(disk)
    database_init = database.pgbench("-i", "-q", "-s", "3")
    check(database_init.wait(360) == 0, "pgbench -i failed")
    database.pgbench("-c", "4", "-T", "600", "-R", "300")
    committer = Committer(database)
    for round_number in range(3):
        seen = site.latest()["sequence"]
        newer = Watch(site, seen + 2)
        committer.commit_until(newer)
        judge(site, newer.point, committer)
        note("round", round_number, "point", newer.point["sequence"], newer.point["kind"], len(committer.answered), "commits")
    machine = site.machine()
    note("points made", machine["points_made"], "frozen", machine["points_frozen"])


class Watch:
    """Asks every half second for a point of that sequence or later."""

    def __init__(self, site, sequence):
        self.site, self.sequence, self.next_look, self.point = site, sequence, 0.0, None

    def __call__(self):
        if time.monotonic() < self.next_look:
            return False
        self.next_look = time.monotonic() + 0.5
        latest = self.site.latest()
        self.point = latest if latest["sequence"] >= self.sequence else None
        return self.point


def judge(site, point, committer):
    export = site.open(point["sequence"], write=True)
    attached = export.attach()
    folder = attached.mount()
    pid_file = os.path.join(folder, "pg", "postmaster.pid")
    if os.path.exists(pid_file):
        os.unlink(pid_file)
    copy = Postgres(folder, create=False)
    copy.start()
    found = {int(n) for n in copy.sql("SELECT id FROM ledger").split()}
    lost = committer.before(point_time(point)) - found
    check(not lost, f"{len(lost)} transactions committed before the point are not in it, {sorted(lost)[:5]}")
    sums = copy.sql("SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)")
    check(sums == "t", "pgbench's accounts and its history do not add up")
    copy.sql("INSERT INTO ledger DEFAULT VALUES")
    copy.stop()
    undo(attached._mount)
    attached._mount = None
    attached.detach()
    export.close()


if __name__ == "__main__":
    main()
