#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Space in a vault: what each machine takes is told, what no point needs is given back on demand, and the points that are left are what
they were."""
import os
import struct

from harness import MIB, Disk, Site, check, image_of, main, note, test, wait_until

SIZE = 128 * MIB


def overwrite(disk, rounds):
    for _ in range(rounds):
        with open(disk.device, "r+b", buffering=0) as f:
            for at in range(0, SIZE, MIB):
                f.seek(at)
                f.write(os.urandom(MIB))
            os.fsync(f.fileno())


def space(site):
    vault = site.cli("vault", "list")["items"][0]["id"]
    return vault, site.cli("vault", "stat", vault)


@test
def space_is_told_and_given_back_on_demand():
    disk = Disk(SIZE)
    overwrite(disk, 1)
    site = Site()
    site.protect(disk)
    first = site.settled_point()
    before = image_of(disk.device)
    overwrite(disk, 2)
    last = site.settled_point()
    vault, _ = space(site)
    job = site.cli("vault", "gc", vault)
    note(job["result"])
    check(job["status"] == "succeeded" and job["result"]["machines"] == 1, f"the job: {job}")
    told = wait_until(lambda: (s := space(site)[1])["machines"] and s, "the hub to know of the space", 60)
    note(told)
    machine = told["machines"][0]
    check(machine["name"] == site.machine()["name"], f"whose space: {machine}")
    check(abs(machine["live_bytes"] - SIZE) < SIZE // 8, f"the newest content of {SIZE} random bytes: {machine}")
    check(machine["history_bytes"] > SIZE // 2 and machine["garbage_bytes"] < machine["live_bytes"], f"the history: {machine}")
    for point, content in ((first, before), (last, image_of(disk.device))):
        export = site.open(point["sequence"])
        check(image_of(export.copy()) == content, f"point {point['sequence']} is not what it was")
        export.close()
    site.kill("vault")
    wait_until(lambda: site.cli_result("vault", "gc", vault).returncode == 0, "a second time, after a crash", 90)


def lock_spans(site):
    """What the vault holds to: (first sequence, seconds) per span."""
    path = os.path.join(site.data, "vault", "machines", site.machine()["id"], "locks")
    if not os.path.exists(path):
        return []
    with open(path, "rb") as f:
        data = f.read()
    check(data[:8] == b"LWLCK\0\0\1", "the file locks")
    return [(start, usec // 1000000) for start, usec, _ in struct.iter_unpack("<QQQ", data[32:-16])]


@test
def retention_lock_is_the_vaults_own_and_only_grows():
    site = Site()
    site.protect(Disk(16 * MIB))
    policy = next(p["id"] for p in site.cli("policy", "list")["items"] if p["is_default"])
    check(site.cli("policy", "show", policy)["lock_seconds"] == 0, "a lock that nobody asked for")
    shown = site.cli("policy", "set", policy, "--lock", "2h", "--keep-tagged", "30d")
    check(shown["lock_seconds"] == 7200 and shown["keep_tagged_seconds"] == 30 * 86400, f"the policy: {shown}")
    wait_until(lambda: lock_spans(site) == [(0, 7200)], "the vault to lock what is there", 60)
    site.settled_point()
    site.cli("policy", "set", policy, "--lock", "0")
    spans = wait_until(lambda: len(s := lock_spans(site)) == 2 and s, "the vault to leave later points free", 60)
    check(spans[0] == (0, 7200) and spans[1][0] > 1 and spans[1][1] == 0, f"what was locked stays so: {spans}")
    site.kill("vault")
    site.cli("policy", "set", policy, "--lock", "3h")
    wait_until(lambda: {lock for _, lock in lock_spans(site)} == {10800}, "a longer lock to hold for all points", 90)


if __name__ == "__main__":
    main()
