#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The console in a real browser against a real site: pages.mjs has the tests."""
import json
import os
import sys
import traceback

from console_site import ConsoleSite, first_password, harness, in_own_network, install_packages, undo_everything
from harness import BIN, MIB, Disk, defer, fresh, run


def plan_that_waits(site):
    """A plan with a drill of it, and a run of it that asks somebody; its id."""
    steps = [{"name": "server", "type": "machine", "machine": site.machine()["name"]},
             {"name": "look", "type": "gate", "question": "Is the server well?", "after": ["server"]}]
    path = harness.fresh("plan.json")
    with open(path, "w") as f:
        json.dump({"name": "office", "description": "All that the office needs", "groups": [{"name": "first", "steps": steps}]}, f)
    site.cli("plan", "apply", path)
    site.cli("drill", "create", "office weekly", "--plan", "office", "--interval", "7d", "--enabled", "no")
    run_id = site.cli("plan", "run", "office", "--no-wait")["params"]["run_id"]
    harness.wait_until(lambda: "waiting_for_input" in [s["state"] for s in site.cli("plan", "report", run_id)["steps"]],
                       "the gate of the plan to ask", 120, 0.3)
    return run_id


try:
    install_packages()
    in_own_network()
    site = ConsoleSite()
    run_id = plan_that_waits(site)
    second = Disk(24 * MIB, name="second")  # of a machine that comes while the browser looks on
    second.make_fs("ext4")
    third = Disk(16 * MIB, name="third")  # of the machine that is protected
    data, instance = fresh("second"), f"console-{os.getpid()}"
    defer(run, os.path.join(BIN, "leeward-agent"), "--uninstall", "--instance", instance, "--data", data)
    status = site.browse("pages.mjs", LEEWARD_BIN=BIN, LEEWARD_SECOND_DISK=second.device, LEEWARD_THIRD_DISK=third.device, LEEWARD_SECOND_DATA=data,
                         LEEWARD_SECOND_INSTANCE=instance, LEEWARD_USERNAME=site.USERNAME, LEEWARD_FIRST_PASSWORD=first_password(site),
                         LEEWARD_PASSWORD=site.PASSWORD, LEEWARD_MACHINE=json.dumps(site.machine()), LEEWARD_RUN=run_id)
except Exception as problem:
    traceback.print_exc()
    print(f"FAIL console: {' '.join(str(problem).split())[:500]}", flush=True)
    status = 1
undo_everything()
sys.exit(status)
