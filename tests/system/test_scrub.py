#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Verification in the background and on demand: a pass goes on after a restart where it was, the hub tells how far it is, and an
incremental verification reads only what none has read before."""
import os
import re

from harness import MIB, Disk, Site, check, main, note, test, wait_until


def replicated(size_bytes, *vault_options):
    disk = Disk(size_bytes)
    with open(disk.device, "r+b", buffering=0) as f:
        for _ in range(size_bytes // MIB):
            f.write(os.urandom(MIB))
        os.fsync(f.fileno())
    site = Site(daemon_options={"vault": list(vault_options)})
    site.protect(disk)
    site.settled_point()
    return site, disk


def integrity(site):
    return site.cli("machine", "integrity", site.machine()["id"])


def logged(site, event):
    with open(site.log, errors="replace") as f:
        return [line for line in f if event in line]


@test
def pass_goes_on_where_it_was():
    site, _ = replicated(150 * MIB, "--scrub-rate 24M", "--scrub-every 1s")
    first = wait_until(lambda: (r := integrity(site))["pass_done_bytes"] > 70 * MIB and r, "a pass behind its first segment", 90)
    check(first["pass_started_at"] and first["pass_total_bytes"] > 140 * MIB, f"what a pass is told to be: {first}")
    wait_until(lambda: os.path.getsize(vault_file(site, "scrub")) and cursor(site) > 0, "the place to be noted", 60)
    site.kill("vault")
    wait_until(lambda: any(int(n) > 0 for line in logged(site, "scrub_resumed") for n in re.findall(r"after_segment=(\d+)", line)),
               "the pass to go on behind a segment", 60)
    done = wait_until(lambda: (r := integrity(site))["last_finished_at"] and r["last_finished_at"] > first["updated_at"] and r,
                      "the pass to end", 90)
    check(done["last_started_at"] <= first["pass_started_at"], f"the pass that ended is not the one that was begun: {first} {done}")
    check(done["damage_count"] == 0, f"a sound vault has damage: {done}")


def vault_file(site, name):
    machine = os.path.join(site.data, "vault", "machines", site.machine()["id"])
    return os.path.join(machine, name)


def cursor(site):
    with open(vault_file(site, "scrub"), "rb") as f:
        return int.from_bytes(f.read()[32:40], "little")


def verified_bytes(site, *options):
    result = site.cli("vault", "verify", *options)["result"]
    check(result["damage_count"] == 0, f"a sound vault has damage: {result}")
    return int(result["bytes"])


@test
def incremental_reads_what_is_new():
    site, disk = replicated(150 * MIB, "--scrub-rate 0")
    every = verified_bytes(site)
    check(every > 150 * MIB, f"all of it are only {every} bytes")
    wait_until(lambda: integrity(site)["last_finished_at"], "the full verification to be told", 30)
    new = verified_bytes(site, "--incremental")
    note("full", every, "incremental", new)
    check(new < 70 * MIB, f"{new} of {every} bytes were read again")
    check(verified_bytes(site, "--older-than", "1h") == new, "what was just verified counts as older than an hour")
    disk.fill_random(800, seed=9)
    site.settled_point()
    check(verified_bytes(site, "--incremental", "--machine", site.machine()["name"]) > new, "what is new was not read")


if __name__ == "__main__":
    main()
