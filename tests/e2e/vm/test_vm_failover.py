#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Replicas that really boot: a Debian system on a protected disk, failed over to a libvirt host of the test's own under qemu's emulation."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest import Image, install_packages  # noqa: E402
from hypervisor import Hypervisor  # noqa: E402
from harness import BIN, CliError, Disk, Site, check, main, note, run, start, fresh, test, wait_until  # noqa: E402

BOOT = ["--boot-serial", "login:", "--boot-timeout", "30m", "--memory-mib", "768", "--cpus", "1"]


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
        self.host = Hypervisor()
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
    check(lab.site.machine()["state"] == "protected", "the source is not what it was")
    check(lab.site.settled_point()["sequence"] > point["sequence"], "replication stood still")
    lab.site.cli("failover", "cleanup", drill["id"], "--outcome", "passed")
    check(not lab.host.domains() and not lab.site.items("branch", "list"), "the cleanup left something")


@test
def a_hub_killed_while_the_replica_boots_finds_it_again():
    waiting = start([os.path.join(BIN, "leeward"), "failover", "unplanned", lab.name, "--target", "kvm", *BOOT, "-o", "json"],
                    log=fresh("unplanned"), env=lab.site.env)
    wait_until(lambda: lab.host.domains(), "the replica to be started", 120)
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
