#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Replicas that really boot: a Debian system on a protected disk, failed over to a libvirt host of the test's own under qemu's emulation."""
import json
import os
import struct
import sys
import time
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest import Image, install_packages  # noqa: E402
from hypervisor import Hypervisor  # noqa: E402
from harness import BIN, CliError, Disk, Failure, Site, check, main, note, run, start, fresh, test, wait_until  # noqa: E402

BOOT_CHECK = ["--boot-serial", "login:", "--boot-timeout", "30m"]
BOOT = [*BOOT_CHECK, "--memory-mib", "768", "--cpus", "1"]


def pixels(png):
    """How many colours a picture has that is a whole PNG of 8-bit RGB; a screen with text on it has two or more."""
    check(png[:8] == b"\x89PNG\r\n\x1a\n", f"not a PNG: {png[:16]}")
    at, data = 8, b""
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at:at + 8])
        check(zlib.crc32(png[at + 4:at + 8 + size]) == struct.unpack(">I", png[at + 8 + size:at + 12 + size])[0], "a broken chunk")
        data += png[at + 8:at + 8 + size] if kind == b"IDAT" else b""
        at += 12 + size
    try:
        rows = zlib.decompress(data)
    except zlib.error as e:
        raise Failure(f"a broken PNG: {e}") from e
    check(width >= 320 and height >= 200 and (depth, colour) == (8, 2) and len(rows) == height * (1 + 3 * width), f"{width} x {height}, {len(rows)} bytes")
    return len({rows[i:i + 3] for row in range(height) for i in range(row * (1 + 3 * width) + 1, (row + 1) * (1 + 3 * width), 3)})


def screen(site, failover):
    path = fresh("screen.png")
    site.cli("failover", "screenshot", failover, path)
    with open(path, "rb") as f:
        return f.read()


def mapped(*options):
    return lab.site.cli("machine", "mapping", "set", lab.name, *options)


def refused(site, *command):
    try:
        site.cli(*command, timeout=300)
    except CliError as refusal:
        return refusal.text
    raise AssertionError(f"{command} was not refused")


class Lab:
    def __init__(self):
        install_packages()
        image = Image()
        self.host = Hypervisor(network="prod")
        self.disk = Disk(os.path.getsize(image.disk))
        run("cp", "--sparse=always", image.disk, self.disk.device, timeout=600)
        run("blockdev", "--flushbufs", self.disk.device)
        self.site = Site()
        self.site.protect(self.disk, timeout=600)
        self.name = self.site.machine()["name"]
        self.site.cli("target", "create", "kvm", "libvirt", "--config", json.dumps({"uri": self.host.uri, "accelerate": False}))


lab = None


@test
def a_point_boots_as_a_replica_beside_its_source():
    point = lab.site.settled_point()
    drill = lab.site.cli("failover", "test", f"{lab.name}@{point['sequence']}", "--target", "kvm", *BOOT, timeout=2400)
    note(f"{drill['verdict_text']}; RTO {drill['rto_seconds']:.1f} s")
    check(drill["verdict"] == "passed" and drill["state"] == "running", f"{drill['verdict_text']}: {drill['replica'].get('console')}")
    check("login:" in drill["replica"]["console"], "the end of the serial line was not kept")
    check(lab.host.domains() == [drill["id"]], f"domains: {lab.host.domains()}")
    wait_until(lambda: pixels(screen(lab.site, lab.name)) > 1, "something to be seen on the replica's screen", 300)
    check(lab.site.machine()["state"] == "protected", "the source is not what it was")
    check(lab.site.settled_point()["sequence"] > point["sequence"], "replication stood still")
    lab.site.cli("failover", "cleanup", drill["id"], "--outcome", "passed")
    check(not lab.host.domains() and not lab.site.items("branch", "list"), "the cleanup left something")
    check("does not run" in refused(lab.site, "failover", "screenshot", drill["id"], fresh("none.png")), "the screen of a replica that is gone")


@test
def a_hub_killed_while_the_replica_boots_finds_it_again():
    mapped("--cpus", "1", "--memory-mib", "769", "--network", "prod")
    waiting = start([os.path.join(BIN, "leeward"), "failover", "unplanned", lab.name, "--target", "kvm", *BOOT_CHECK, "-o", "json"],
                    log=fresh("unplanned"), env=lab.site.env)
    wait_until(lambda: lab.host.domains(), "the replica to be started", 120)
    xml = lab.host.virsh("dumpxml", lab.host.domains()[0])
    check("<source network='prod'" in xml and xml.count("<interface") == 1 and "<memory unit='KiB'>787456</memory>" in xml, f"not as the mapping says: {xml}")
    lab.site.kill("hub")
    wait_until(lambda: waiting.poll() is not None, "the failover to end", 2400)
    failover = lab.site.items("failover", "list")[0]
    check(failover["state"] == "running" and failover["verdict"] == "passed", f"{failover['state']}: {failover['verdict_text']}")
    check(lab.host.domains() == [failover["id"]], f"domains: {lab.host.domains()}")
    check(lab.site.machine()["state"] == "failed_over", "the machine did not fail over")
    lab.site.cli("failover", "rollback", lab.name, timeout=300)
    check(not lab.host.domains(), "the rollback left the replica running")
    lab.site.wait_point_after(time.time(), timeout=600)


@test
def a_test_gets_a_network_of_its_own_or_does_not_start():
    """prod is a bridge, which may lead anywhere."""
    for network, why in (("nowhere", "no active network nowhere"), ("prod", "not isolated")):
        mapped("--network", "", "--test-network", network)
        check(why in refused(lab.site, "failover", "test", lab.name, "--target", "kvm"), f"a test in {network}")
    check(not lab.host.domains(), "something was begun")
    lab.site.cli("machine", "mapping", "clear", lab.name)


@test
def what_does_not_come_up_is_a_verdict_and_what_cannot_be_is_refused():
    check("no active network" in refused(lab.site, "failover", "test", lab.name, "--target", "kvm", "--network", "nowhere"), "a network that is not there")
    said = refused(lab.site, "failover", "test", lab.name, "--target", "kvm", "--memory-mib", "9999999")
    check("of memory" in said, f"too much memory: {said}")
    drill = lab.site.cli("failover", "test", lab.name, "--target", "kvm", "--memory-mib", "256", "--boot-serial", "no such words", "--boot-timeout",
                         "1s", timeout=300)
    check(drill["verdict"] == "failed" and "not seen" in drill["verdict_text"], f"{drill['verdict']}: {drill['verdict_text']}")
    lab.site.cli("failover", "cleanup", drill["id"], "--outcome", "failed", timeout=300)
    lab.host.stop()
    check("cannot be reached" in refused(lab.site, "failover", "test", lab.name, "--target", "kvm"), "a host that is down")


if __name__ == "__main__":
    lab = Lab()
    main()
