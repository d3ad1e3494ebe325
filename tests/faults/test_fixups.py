#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fix-ups that cannot be done, and a hub that is killed in the middle of them.

A planned failover finds out before it stops its source, an unplanned one starts its replica all the same. The machine that prepares the disks dies with its
hub, and the next one comes to the same end.
"""
import glob
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
sys.path.insert(0, os.path.join(HERE, "..", "e2e", "vm"))
from api_client import Api  # noqa: E402
from fixup_machine import FSTAB, is_alive, machines_below, make_system  # noqa: E402
from rescue import rescue_image  # noqa: E402
from harness import MIB, Disk, Site, check, main, note, test, wait_until  # noqa: E402

FIXUPS = {"fixups": {}}


class Drill:
    """A protected disk with a file system that holds no system."""

    def __init__(self):
        image = rescue_image()
        self.disk = Disk(48 * MIB)
        self.disk.make_fs("ext4")
        self.site = Site(daemon_options={"hub": ["--rescue-image", image, "--rescue-emulated"]})
        self.site.protect(self.disk)
        self.api = Api(self.site.env)
        self.name = self.site.machine()["name"]
        self.serial = 0

    def submit(self, path, body=None):
        self.serial += 1
        return self.api.done("POST", path, body, Idempotency_Key=f"k{self.serial}")

    def job(self, job):
        return self.api.done("GET", f"/jobs/{job['id']}")

    def finish(self, job):
        return self.api.ended(job)

    def failover(self, kind, **more):
        return self.submit("/failovers", {"machine": self.name, "target": "disks", "kind": kind, "options": FIXUPS, **more})

    def failovers(self):
        return self.api.done("GET", "/failovers")["items"]

    def machines_of_hub(self):
        return machines_below(self.site.pid_of("hub"))


def write(disk, name):
    with open(os.path.join(disk.mount(), name), "w") as f:
        f.write("x" * 5000)
    disk.unmount()


drill = None


@test
def what_the_host_cannot_run_is_refused_at_once():
    config = json.dumps({"uri": "test:///default", "emulator": "/nonexistent/qemu"})
    drill.site.cli("target", "create", "broken", "libvirt", "--config", config)
    ended = drill.finish(drill.failover("planned", target="broken"))
    check(ended["status"] == "failed" and "/nonexistent/qemu" in ended["problem"]["detail"], ended["problem"])
    check("qemu-system-x86" in ended["problem"]["correction"], ended["problem"])
    check(ended["steps"][1]["status"] in ("cancelled", "skipped"), f"something began: {ended['steps']}")
    check(drill.failovers() == [], "a failover was written down")


@test
def a_planned_failover_finds_out_before_it_stops_its_source():
    before = drill.site.latest()["sequence"]
    ended = drill.finish(drill.failover("planned"))
    check(ended["status"] == "failed" and "root file system" in ended["problem"]["detail"], ended["problem"])
    states = {step["name"]: step["status"] for step in ended["steps"]}
    check(states["rehearse"] == "failed" and states["begin"] == "cancelled" and states["hold"] == "cancelled", states)
    check(drill.failovers() == [], "a failover was written down")
    check(drill.site.machine()["state"] == "protected", drill.site.machine()["state"])
    write(drill.disk, "proof")
    wait_until(lambda: drill.site.latest()["sequence"] > before, "the source to go on", 120, 0.3)

    def closed():
        kept = glob.glob(os.path.join(drill.site.data, "vault", "exports", "*.json"))  # what the vault opens again when it starts
        return not kept and all(one["state"] in ("closed", "failed") for one in drill.api.done("GET", "/exports")["items"])
    wait_until(closed, "the point that was rehearsed on to be closed", 120, 0.3)


@test
def an_unplanned_failover_goes_on_with_the_disks_as_they_are():
    """Of a test it is the same; here nothing is fenced for it."""
    ended = drill.finish(drill.failover("test"))
    check(ended["status"] == "succeeded", ended["problem"])
    found = drill.failovers()[0]
    check(found["state"] == "running" and found["fixups"]["changes"] == [], found["fixups"])
    check("root file system" in found["fixups"]["failed"]["text"] and len(found["fixups"]["warnings"]) == 1, found["fixups"])
    events = drill.api.done("GET", "/events?limit=100")["items"]
    check(any(e["code"] == "failover_fixups" and e["severity"] == "error" for e in events), "nobody is told")
    drill.finish(drill.submit(f"/failovers/{found['id']}/cleanup", {"outcome": "failed"}))


@test
def a_killed_hub_takes_the_machine_with_it_and_the_next_one_ends_it():
    make_system(drill.disk)
    drill.site.settled_point()
    job = drill.failover("test")

    def works():
        now = drill.job(job)
        check(now["status"] in ("queued", "running"), f"it is {now['status']}: {now['problem']}")
        return drill.machines_of_hub()
    machines = wait_until(works, "the machine that does fix-ups", 300, 0.05)
    killed = drill.site.kill("hub")
    wait_until(lambda: not any(is_alive(pid) for pid in machines), "the machine to end with its hub", 60, 0.05)
    wait_until(lambda: drill.site.pid_of("hub") != killed, "the hub to be started again", 60)
    wait_until(lambda: drill.api.ask("GET", "/status")[0] == 200, "the hub to answer", 90)
    ended = drill.finish(job)
    check(ended["status"] == "succeeded", ended["problem"])
    found = drill.failovers()[0]
    paths = [one["path"] for one in found["fixups"]["changes"]]
    check("/etc/fstab" in paths and "/etc/leeward/replica" in paths, found["fixups"])
    note(f"fix-ups in {found['fixups']['seconds']:.0f} s")
    drill.finish(drill.submit(f"/failovers/{found['id']}/cleanup", {"outcome": "passed"}))


@test
def a_failback_takes_back_what_was_changed_for_the_replica():
    """What somebody has changed in the replica since stays, and what fix-ups changed does not come to the original."""
    site = drill.site
    ended = drill.finish(drill.failover("unplanned"))
    check(ended["status"] == "succeeded", ended["problem"])
    failover = ended["result"]["failover_id"]
    site.cli("failover", "commit", drill.name, timeout=300)
    site.cli("failover", "reprotect", drill.name, timeout=300)
    job = site.cli("failover", "failback", drill.name, "--confirm", drill.name, timeout=400)
    shown = drill.api.done("GET", f"/failovers/{failover}")
    check("taken_back" in shown["fixups"], f"nothing was taken back: {shown['fixups']} {job['steps']}")
    back = {one["path"]: one["action"] for one in shown["fixups"]["taken_back"]["changes"]}
    check(back["/etc/fstab"] == "restore" and back["/etc/leeward/replica"] == "remove", f"{shown['fixups']['taken_back']}")
    place = drill.disk.mount()
    with open(os.path.join(place, "etc", "fstab")) as f:
        check(f.read() == FSTAB, "the original's fstab is the replica's")
    check(not os.path.exists(os.path.join(place, "etc", "leeward", "replica")), "the original says that it is a replica")
    check(not os.path.exists(os.path.join(place, "var", "lib", "leeward", "replica", "original", failover)), "what was kept is left")
    drill.disk.unmount()


if __name__ == "__main__":
    drill = Drill()
    main()
