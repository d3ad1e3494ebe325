#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The hub is killed in each step of jobs from a machine's protection to its end, with fix-ups of its replica on the way; each job goes on and ends well
(held_jobs.py says how; test_job_kinds.py and test_job_failovers.py have the other kinds)."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
sys.path.insert(0, os.path.join(HERE, "..", "e2e", "vm"))
from held_jobs import HeldJobs, restarted_at_once  # noqa: E402
from rescue import rescue_image  # noqa: E402
from harness import MIB, Disk, Site, check, fresh, main, test  # noqa: E402

KINDS = ("protect", "point_create", "point_open", "point_close", "export", "vault_verify", "vault_gc", "resync", "failover_preview", "failover", "unprotect",
         "erase")


def make_root(disk):
    """What fix-ups take for the system of a machine."""
    place = disk.mount()
    for folder in ("etc", "usr"):
        os.mkdir(os.path.join(place, folder))
    with open(os.path.join(place, "etc", "fstab"), "w") as f:
        f.write("/dev/sdx1 / ext4 defaults 0 1\n")
    disk.unmount()


class Worker(HeldJobs):
    """A site with a disk whose jobs can be held in the middle of a step."""

    def __init__(self):
        image = rescue_image()
        self.disk = Disk(48 * MIB)
        self.disk.make_fs("ext4")
        make_root(self.disk)
        super().__init__(Site(daemon_options={"hub": ["--rescue-image", image, "--rescue-emulated"]}, daemon_starters=restarted_at_once()))
        self.machine = self.site.machine()["name"]


@test
def jobs_go_on_in_each_step_of_each_kind():
    worker = Worker()
    machine = f"/machines/{worker.machine}"
    worker.through("protect", "POST", machine + "/protect", {"disks": [worker.site.disk_key(worker.disk)]})
    worker.through("point_create", "POST", machine + "/points", {"tag": "held"})
    points = worker.api.done("GET", machine + "/points?tag=held")["items"]
    check(len(points) == 1, f"one job made {len(points)} points")
    vault = worker.api.done("GET", "/vaults")["items"][0]["id"]
    target = fresh("disk.img")
    worker.all_through(
        ("point_open", "POST", "/exports", {"machine": worker.machine, "sequence": points[0]["sequence"]}),
        ("export", "POST", f"{machine}/points/{points[0]['sequence']}/export", {"disk": 0, "path": target, "format": "raw"}),
        ("vault_verify", "POST", f"/vaults/{vault}/verify", {}),
        ("resync", "POST", machine + "/resync"))
    check(os.path.getsize(target) == worker.disk.size_bytes, "the file that was exported is not the disk")
    opened = [e["id"] for e in worker.api.done("GET", "/exports")["items"] if e["state"] == "open"]
    check(len(opened) == 1, f"one job opened {len(opened)} points")
    request = {"machine": worker.machine, "target": "disks", "options": {"fixups": {}}}
    _, _, previewed = worker.all_through(
        ("point_close", "DELETE", f"/exports/{opened[0]}"),
        ("vault_gc", "POST", f"/vaults/{vault}/gc", {}),
        ("failover_preview", "POST", "/failovers/preview", request))
    listed = [one["path"] for one in previewed["result"]["fixups"]["changes"]]
    check("/etc/fstab" in listed, f"fix-ups: {previewed['result']}")
    worker.through("failover", "POST", "/failovers", {**request, "kind": "test"})
    failovers = worker.api.done("GET", "/failovers")["items"]
    check(len(failovers) == 1, f"one job made {len(failovers)} failovers")
    failover = failovers[0]
    check([one["path"] for one in failover["fixups"]["changes"]] == listed, f"what was changed is not what was listed: {failover['fixups']}")
    worker.do("POST", f"/failovers/{failover['id']}/cleanup", {"outcome": "passed"})
    worker.through("unprotect", "POST", machine + "/unprotect")
    worker.through("erase", "POST", machine + "/erase")
    worker.has_killed_in(KINDS)


if __name__ == "__main__":
    main()
