#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A recovery plan as machines are moved with it: planned to the other site, and back to their own disks, with the hub killed in the middle of each."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import check, fresh, image_of, main, note, run, test, wait_until  # noqa: E402
from plan_site import PlanSite  # noqa: E402

PLAN = """
name: move
target: rack
groups:
  - name: data
    steps:
      - {name: database, type: machine, machine: m0}
      - {name: look, type: gate, question: Is the data there?, after: [database]}
  - name: front
    steps:
      - {name: web, type: machine, machine: m1, retries: 1}
"""
OVER = {"planned": "failed_over", "failback": "protected"}


class Move:
    def __init__(self):
        self.site = PlanSite(2)
        self.site.cli("plan", "apply", self.site.plan_file(PLAN, "move.yaml"))

    def gate(self, run_id):
        report = self.site.cli("plan", "report", run_id)
        check(report["state"] in ("queued", "running"), f"the run is over: {report}")
        return next((s["job_id"] for s in report["steps"] if s["state"] == "waiting_for_input"), None)

    def run(self, kind):
        """The run's report. The hub is killed while the database is moved, and while somebody is asked."""
        job = self.site.cli("plan", "run", "move", "--kind", kind, "--no-wait")
        run_id = job["params"]["run_id"]

        def database_moves():
            report = self.site.cli("plan", "report", run_id)
            return next(s for s in report["steps"] if s["name"] == "database")["state"] not in ("pending", "waiting")
        wait_until(database_moves, "the database's step to begin", 120, 0.05)
        self.kill_hub()
        gate = wait_until(lambda: self.gate(run_id), "the gate to ask", 300, 0.3)
        states = self.site.states()
        check(states["m0"] == OVER[kind] and states["m1"] != OVER[kind], f"not one after the other: {states}")
        self.kill_hub()
        wait_until(lambda: self.site.cli("job", "show", gate)["status"] == "waiting_for_input", "the gate to ask again", 120, 0.3)
        self.site.cli("job", "answer", gate, "continue")
        ended = self.site.cli("job", "wait", job["id"], timeout=600)
        check(ended["status"] == "succeeded", f"{ended['problem']}")
        report = self.site.cli("plan", "report", run_id)
        steps = {s["name"]: (s["state"], s["attempts"]) for s in report["steps"]}
        check(report["state"] == "succeeded" and steps == dict.fromkeys(steps, ("succeeded", 1)), f"{report}")
        return report

    def kill_hub(self):
        killed = self.site.kill("hub")
        wait_until(lambda: self.site.pid_of("hub") != killed, "the hub to be started again", 60)
        self.site.wait_ready(120)

    def replica_uri(self, name):
        return self.site.target.replicas()[name]["disks"][0]["uri"]


move = None


@test
def a_plan_moves_its_machines_one_after_the_other_and_loses_nothing():
    sources = {name: image_of(disk.device) for name, disk in move.site.disks.items()}
    report = move.run("planned")
    check(set(move.site.states().values()) == {"failed_over"}, move.site.states())
    check(sorted(move.site.target.replicas()) == ["m0", "m1"], "not all replicas run")
    for name in move.site.names:
        copy = fresh("replica.img")
        run("nbdcopy", move.replica_uri(name), copy, timeout=120)
        check(image_of(copy) == sources[name], f"the replica of {name} is not what the source was")
        os.unlink(copy)
    # Measured: from the request until it ran, of each machine and of all; the source was stopped, so there is no loss but the time of its last point.
    machines = {m["machine"]: m for m in report["machines"]}
    check(all(m["rto_seconds"] > 0 and m["rpo_seconds"] >= 0 for m in machines.values()), f"{report}")
    check(report["rto_seconds"] >= max(m["rto_seconds"] for m in machines.values()), f"{report}")
    note(f"planned: RTO {report['rto_seconds']:.1f} s, RPO {report['rpo_seconds']:.1f} s")
    page = fresh("report.html")
    move.site.cli("plan", "report", report["run_id"], "--html", page)
    with open(page) as f:
        text = f.read()
    check("<h1>move</h1>" in text and "planned" in text and all(name in text for name in move.site.names), "the page")


@test
def the_same_plan_brings_them_back_with_what_the_replicas_wrote():
    site = move.site
    newest = site.items("plan", "runs")[0]
    site.cli("plan", "commit", newest["id"], timeout=300)
    for name in site.names:
        site.cli("failover", "reprotect", name, timeout=300)
        run("qemu-io", "-f", "raw", "-c", "write -P 0x5a 1M 64k", "-c", "flush", move.replica_uri(name), timeout=60)
    wait_until(lambda: set(site.states().values()) == {"reverse_protected"}, "all replicas to be protected", 120, 0.3)
    report = move.run("failback")
    check(not site.target.replicas(), "a replica still runs")
    for name, disk in site.disks.items():
        with open(disk.device, "rb") as f:
            f.seek(1 << 20)
            check(f.read(64 << 10) == b"\x5a" * (64 << 10), f"{name} lacks what its replica wrote")
    wait_until(lambda: set(site.states().values()) == {"protected"}, "all machines to be protected again", 180, 0.3)
    check(len(report["machines"]) == 2 and report["rto_seconds"] > 0, f"{report}")
    note(f"failback: RTO {report['rto_seconds']:.1f} s")
    page = fresh("report.html")
    site.cli("plan", "report", report["run_id"], "--html", page)
    with open(page) as f:
        check("failback" in f.read().lower(), "the page")


if __name__ == "__main__":
    move = Move()
    main()
