#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Branches: things of their own that outlive being closed, a killed vault and a killed hub, and go only when they are discarded."""
import glob
import json
import os

from harness import MIB, CliError, Disk, Site, check, fresh, image_of, main, run, test, wait_until


def protected_site():
    disk = Disk(64 * MIB)
    disk.fill_random(300)
    site = Site()
    site.protect(disk)
    return site, disk, site.settled_point()


def write(uri, *patterns):
    """Writes and flushes: (byte, at, length)."""
    words = [w for p in patterns for w in ("-c", f"write -P {p[0]} {p[1]} {p[2]}")]
    run("qemu-io", "-f", "raw", *words, "-c", "flush", uri)


def holds(uri, byte, at, length):
    said = run("qemu-io", "-f", "raw", "-c", f"read -P {byte} {at} {length}", uri, ok=None)
    return "verification failed" not in said and f"read {length}/" in said


def folders(site):
    return glob.glob(os.path.join(site.data, "vault/machines/*/branches/*"))


def image_of_uri(uri):
    copy = fresh("branch.img")
    run("nbdcopy", uri, copy)
    return image_of(copy)


def branch_of(site, name):
    return next((b for b in site.items("branch", "list") if name in (b["name"], b["id"])), None)


@test
def branches_outlive_close_and_crashes_and_go_when_discarded():
    site, disk, point = protected_site()
    before = image_of(disk.device)
    target = f"{site.machine()['name']}@{point['sequence']}"
    drill = site.cli("branch", "create", target, "--name", "drill")
    other = site.cli("branch", "create", target)
    write(drill["uri"], (7, MIB, 65536))
    write(other["uri"], (9, MIB, 65536))

    # Closed and kept: not open, still there, still on its point.
    site.cli("branch", "close", "drill")
    kept = branch_of(site, "drill")
    check(kept["state"] == "kept" and kept["sequence"] == point["sequence"], f"after close: {kept}")
    check(branch_of(site, other["id"])["state"] == "open", "closing one branch closed another")

    # Vault and hub are killed: what is open is open again, under the same URI, with what was flushed.
    site.kill("vault")
    site.kill("hub")
    site.wait_ready()
    wait_until(lambda: holds(other["uri"], 9, MIB, 65536), "the open branch to be served again", 60)
    wait_until(lambda: branch_of(site, other["id"])["state"] == "open", "the hub to see it open", 60)
    check(branch_of(site, "drill")["state"] == "kept", "the kept branch changed its state")

    again = site.cli("branch", "open", "drill")
    check(again["id"] == drill["id"] and again["state"] == "open", f"opened again: {again}")
    check(holds(again["uri"], 7, MIB, 65536), "the branch lost what was written to it")
    check(holds(other["uri"], 9, MIB, 65536), "one branch sees another's writes")
    check(image_of(site.open(point["sequence"]).copy()) == before, "a branch changed its point")

    for name in ("drill", other["id"]):
        site.cli("branch", "discard", name)
    check(site.items("branch", "list") == [], "discarded branches are still listed")
    check(folders(site) == [], "discarded branches are still on the disk")
    try:
        site.cli("branch", "open", "drill")
        check(False, "a discarded branch was opened")
    except CliError as refusal:
        check(refusal.status == 3, f"exit status {refusal.status}: {refusal.text}")


@test
def a_branch_that_the_hub_has_forgotten_finds_its_way_back():
    site, _, point = protected_site()
    made = site.cli("branch", "create", f"{site.machine()['name']}@{point['sequence']}")
    write(made["uri"], (5, 0, 4096))
    site.cli("branch", "close", made["id"])
    site.sql(f"DELETE FROM exports WHERE id = '{made['id']}'")
    found = wait_until(lambda: branch_of(site, made["id"]), "the hub to hear of the branch", 90)
    check(found["state"] == "kept" and found["sequence"] == point["sequence"], json.dumps(found))
    check(holds(site.cli("branch", "open", made["id"])["uri"], 5, 0, 4096), "it lost what was written to it")


@test
def a_promoted_branch_is_the_main_line_and_history_stays():
    site, disk, point = protected_site()
    machine = site.machine()["id"]
    before = image_of(disk.device)
    made = site.cli("branch", "create", f"{machine}@{point['sequence']}")
    write(made["uri"], (7, MIB, 65536), (8, 40 * MIB, 4096))
    disk.fill_random(100, seed=9)  # the old line goes on behind the branch's point
    later = site.settled_point()
    after = image_of(disk.device)
    try:
        site.cli("branch", "promote", made["id"])
        check(False, "a machine that replicates was given another main line")
    except CliError as refusal:
        check(refusal.status == 4 and "unprotect" in refusal.text, refusal.text)
    site.cli("machine", "unprotect", machine)
    holding = image_of_uri(made["uri"])

    generation = site.machine()["generation"]
    job = site.cli("branch", "promote", made["id"])
    promoted = int(job["result"]["sequence"])
    points = {p["sequence"]: p for p in site.points()}
    check(points[promoted]["generation"] == generation + 1, f"the promoted point: {points[promoted]}")
    check(site.items("branch", "list") == [] and folders(site) == [], "the branch is still there")
    check(image_of(site.open(promoted).copy()) == holding, "the newest point is not what the branch held")
    check(image_of(site.open(point["sequence"]).copy()) == before, "the branch's point changed")
    check(image_of(site.open(later["sequence"]).copy()) == after, "a point of the old line behind it changed")
    check(site.cli("vault", "verify")["result"]["damage_count"] == 0, "verification found damage")

    # The source comes back in the new generation: its disk is compared with what the branch left.
    site.protect(disk)
    newest = site.settled_point()
    check(newest["generation"] == generation + 1 and image_of(site.open(newest["sequence"]).copy()) == after,
          "protected again, the vault does not hold the source's disk")


if __name__ == "__main__":
    main()
