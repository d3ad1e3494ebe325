#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Jobs go on where they were when the hub or its PostgreSQL is killed in the middle of them.

A client asks for points, opens and closes them without a pause while hub and PostgreSQL are killed at random moments. In the end
every job that was accepted has succeeded and none is left over.
LEEWARD_ROUNDS sets the kills, LEEWARD_SEED repeats a run.
"""
import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from harness import MIB, CliError, Disk, Site, check, main, note, test, wait_until  # noqa: E402

KILLS = int(os.environ.get("LEEWARD_ROUNDS", "6"))
SEED = int(os.environ.get("LEEWARD_SEED", str(random.SystemRandom().randrange(1 << 32))))


class Client(threading.Thread):
    """Asks and asks. The command waits for a hub that comes back; what it gives up on is not counted against anybody."""

    def __init__(self, site):
        super().__init__(daemon=True)
        self.site, self.machine = site, site.machine()["name"]
        self.stopping = threading.Event()
        self.rounds = 0

    def run(self):
        while not self.stopping.is_set():
            try:
                self.site.cli("point", "create", self.machine, "--tag", "jobs")
                export = self.site.open()
                export.close()
                self.rounds += 1
            except (CliError, subprocess.TimeoutExpired, KeyError) as e:
                note("given up:", str(e).splitlines()[0][:160])
                wait_until(lambda: self.site.cli_result("status").returncode == 0, "the hub", 90, 0.3)


def unfinished(site):
    return [j for j in site.items("job", "list") if j["status"] not in ("succeeded", "failed", "cancelled")]


@test
def every_accepted_job_ends_well_though_its_hub_is_killed():
    print(f"seed {SEED}: LEEWARD_SEED={SEED} repeats it", flush=True)
    rng = random.Random(SEED)
    disk = Disk(96 * MIB)
    disk.make_fs("ext4")
    disk.mount()
    site = Site()
    site.protect(disk)
    client = Client(site)
    client.start()
    for number in range(KILLS):
        before = client.rounds
        wait_until(lambda: client.rounds > before, "a round of the client", 120)
        time.sleep(rng.random())  # the random moment
        victim = rng.choice(["hub", "hub", "postgres"])
        os.kill(site.postgres_pid() if victim == "postgres" else site.pid_of(victim), signal.SIGKILL)
        note(f"kill {number}: {victim} after {client.rounds} rounds")
    before = client.rounds
    wait_until(lambda: client.rounds > before, "a round after the last kill", 120)
    client.stopping.set()
    client.join(120)
    wait_until(lambda: not unfinished(site), "every job to end", 90)
    jobs = site.items("job", "list")
    failed = [(j["kind"], j["problem"]) for j in jobs if j["status"] != "succeeded"]
    check(not failed, f"jobs that did not succeed: {failed[:3]}")
    print(f"{client.rounds} rounds, {KILLS} kills, {len(jobs)} jobs", flush=True)


if __name__ == "__main__":
    main()
