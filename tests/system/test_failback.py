#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The way back: what a replica writes is protected, its original machine is fenced, gets what differs, and is the machine again."""
from harness import MIB, CliError, Disk, Site, check, fresh, image_of, main, note, run, test, wait_until


def refused(site, *command):
    try:
        site.cli(*command)
    except CliError as refusal:
        return refusal.text
    raise AssertionError(f"{command} was not refused")


def write(uri, byte, at="0", size="64k"):
    run("qemu-io", "-f", "raw", "-c", f"write -P {byte} {at} {size}", "-c", "flush", uri)


def image_of_uri(uri):
    copy = fresh("replica.img")
    run("nbdcopy", uri, copy)
    return image_of(copy)


def image_of_point(site, point):
    opened = site.open(point["sequence"])
    image = image_of_uri(opened.uri())
    opened.close()
    return image


def uri_of(site, failover):
    return next(b for b in site.items("branch", "list") if b["id"] == failover["branch_id"])["uri"]


def committed_failover(site, name, point=None):
    failed = site.cli("failover", "unplanned", f"{name}@{point['sequence']}" if point else name)
    site.cli("failover", "commit", name)
    return failed


@test
def what_a_replica_writes_becomes_points_of_its_machine():
    disk = Disk(64 * MIB)
    disk.fill_random(200)
    site = Site()
    site.protect(disk)
    name = site.machine()["name"]
    first = site.settled_point()
    before = image_of(disk.device)
    disk.fill_random(50, seed=2)
    lost = site.settled_point()
    after = image_of(disk.device)

    # To the older point: what came after it is not the machine's future, and stays in its history.
    failed = committed_failover(site, name, first)
    check("not possible" in refused(site, "failover", "failback", name, "--confirm", name), "a failback of an unprotected replica")
    uri = uri_of(site, failed)
    write(uri, 0x11)
    site.cli("failover", "reprotect", name)
    shown = site.cli("failover", "show", failed["id"])
    check(site.machine()["state"] == "reverse_protected" and shown["state"] == "reprotected", f"{site.machine()} {shown}")
    check("not possible" in refused(site, "failover", "reprotect", name), "reprotected twice")
    check("replica runs" in refused(site, "branch", "discard", failed["branch_id"]), "the branch was discarded")

    def follows():
        """The newest point holds what the replica does."""
        return image_of_point(site, site.latest()) == image_of_uri(uri)
    wait_until(follows, "a point of what the replica wrote", 60, 0.5)
    one = image_of_uri(uri)
    write(uri, 0x22, "32M", "3M")
    wait_until(follows, "a point of what it wrote later", 60, 0.5)
    check(image_of_uri(uri) != one, "nothing was written")
    check(image_of_point(site, first) == before and image_of_point(site, lost) == after, "the history is not what it was")

    # Without the hub it goes on (P9); with a vault that is killed, too.
    drill = site.cli("failover", "test", name)
    check(image_of_uri(uri_of(site, drill)) == image_of_uri(uri), "a test of a protected replica does not hold what it does")
    site.cli("failover", "cleanup", drill["id"])


if __name__ == "__main__":
    main()
