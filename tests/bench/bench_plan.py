# SPDX-License-Identifier: Apache-2.0
"""A recovery plan of twenty machines in five groups, whose target's program (adapter `command`) does next to nothing: what is left is orchestration, from
the request until the last replica runs. Each machine is a real one, with an agent and a loop disk of its own. A test run, taken away by itself; the first
one warms up."""
import statistics
import sys

import harness
from figure import figure
from harness import undo_all
from plan_site import PlanSite

MACHINES, GROUPS = 20, 5


def plan_of(names):
    size = len(names) // GROUPS
    return {"name": "bench", "target": "rack",
            "groups": [{"name": f"group {g}", "steps": [{"name": n, "type": "machine", "machine": n} for n in names[g * size:(g + 1) * size]]}
                       for g in range(GROUPS)]}


def measure(options):
    try:
        site = PlanSite(MACHINES)
        site.cli("plan", "apply", site.plan_file(plan_of(site.names)))
        reports = []
        for n in range(options.rounds + 1):
            report = site.cli("plan", "run", "bench", "--cleanup", timeout=600)
            harness.check(report["state"] == "succeeded" and len(report["machines"]) == MACHINES, f"{report}")
            print(f"run {n}: {report['rto_seconds']:.2f} s", file=sys.stderr)
            reports.append(report)
        measured = [r["rto_seconds"] for r in reports[1:]]
        single = statistics.median(m["took_seconds"] for r in reports[1:] for m in r["steps"])
        figure("plan.twenty_machines_s", statistics.median(measured), "s", "<= 10",
               leeward={"rounds": measured, "one_machine_s": round(single, 3), "worst_rpo_s": max(r["rpo_seconds"] for r in reports[1:])})
    finally:
        undo_all()
