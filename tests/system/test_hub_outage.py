#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The hub and its PostgreSQL are gone for a while (P9). Replication goes on, also when agent and node are killed meanwhile: they start from what they have on
disk. The vault makes points all the time, and when the hub is back its list has every one of them."""
import os
import random
import signal
import time

from gate import Gate
from harness import MIB, Disk, Site, check, children_of, command_line, fresh, image_of, main, note, point_time, test, wait_until
from ledger import Ledger
from vault_points import Vault

SLOTS = 512
AT = 32 * MIB  # where the ledger begins on the disk; before it there is other content


def scribble(disk, blocks):
    fd = os.open(disk.device, os.O_WRONLY)
    try:
        for _ in range(blocks):
            os.pwrite(fd, os.urandom(4096), random.randrange(AT // 4096) * 4096)
        os.fsync(fd)
    finally:
        os.close(fd)


def restarted(site, role):
    pid = site.kill(role)
    wait_until(lambda: site.pid_of(role) != pid, f"the {role} to be started again", 60)
    return time.time()


@test
def points_go_on_without_hub_and_database_and_none_is_missing_afterwards():
    gate = Gate()
    site = Site(daemon_starters={"hub": gate.starter})
    disk = Disk(48 * MIB)
    scribble(disk, 300)
    site.protect(disk)
    ledger = Ledger([disk.device], SLOTS, 0.01, at=AT)
    site.wait_point_after(time.time())
    vault = Vault(site)
    known = {p["sequence"] for p in site.points()}

    gate.shut()
    database = site.postgres_pid()
    site.kill("hub")
    os.kill(database, signal.SIGKILL)
    gone = time.time()
    wait_until(lambda: not os.path.exists(f"/proc/{database}"), "PostgreSQL to be gone", 30)
    vault.wait_point_after(gone, "a point without the hub")
    scribble(disk, 2000)
    agent = restarted(site, "agent")
    after_agent = vault.wait_point_after(agent, "a point of the restarted agent")
    scribble(disk, 2000)
    node = restarted(site, "node")
    vault.wait_point_after(node, "a point through the restarted node")
    both = [restarted(site, role) for role in ("node", "agent")]
    last = vault.wait_point_after(max(both), "a point when both were restarted")
    check(not any(os.path.basename(command_line(pid)[0]) == "leeward-hub" for pid in children_of(site.process.pid)), "the hub was there all the time")
    made = vault.points()

    gate.open()
    back = time.time()
    wait_until(lambda: site.machine()["online"], "the hub to be back", 120, 0.3)
    site.wait_point_after(back)
    wait_until(lambda: set(made) <= {p["sequence"] for p in site.points()}, "the hub to have all points that the vault has", 60, 0.3)
    status = wait_until(lambda: (lambda s: s if s["nodes"]["online"] and s["vaults"]["online"] else None)(site.cli("status")), "all sessions", 60)
    note(f"{back - gone:.1f} s without hub and database; {len(set(made) - known)} points in that time; nodes {status['nodes']}, vaults {status['vaults']}")
    ledger.stop()
    shown = {p["sequence"]: p for p in site.points()}
    for sequence in (after_agent, last):
        export = site.open(sequence)
        record = ledger.judge([export.copy()], point_time(shown[sequence]))
        export.close()
        note(f"point {sequence} of the outage ends at record {record}")
    point = site.settled_point()
    export = site.open(point["sequence"])
    check(image_of(export.copy()) == image_of(disk.device), "the newest point is not the disk")
    export.close()
    events = site.items("event", "list", "--limit", "300")
    check(site.machine()["state"] == "protected" and not [e for e in events if e["code"] == "resync_started"], "the disk was compared")


if __name__ == "__main__":
    main()
