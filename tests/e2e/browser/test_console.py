#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The console in a real browser against a real site: pages.mjs has the tests."""
import json
import os
import sys
import traceback

from console_site import ConsoleSite, first_password, harness, in_own_network, install_packages, undo_everything
from harness import BIN, MIB, Disk, check, defer, fresh, run


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


def prepare_failover(site):
    """The replica of that run, with the list of changes that the fix-ups' own program would make on a root like a physical machine's (on virtual machines they are
    tests/e2e/vm's matter; here the list is looked at). Its id."""
    failover, root = site.items("failover", "list")[0]["id"], fresh("guest")
    os.makedirs(os.path.join(root, "etc", "network"))
    for name, text in (("os-release", 'ID=debian\nVERSION_ID="12"\n'), ("fstab", "/dev/sda1 / ext4 errors=remount-ro 0 1\n/dev/sda5 none swap sw 0 0\n"),
                       ("network/interfaces", "auto eno1\niface eno1 inet static\n  address 10.1.0.7/16\n  gateway 10.1.0.1\n")):
        with open(os.path.join(root, "etc", name), "w") as f:
            f.write(text)
    asked = {"apply": False, "fixups": {"serial_console": True, "network": {"method": "dhcp"}}, "disks": [],
             "context": {"failover_id": failover, "machine_id": site.machine()["id"], "machine_name": "vm", "mac": "52:54:00:12:34:56"}}
    path = fresh("asked.json")
    with open(path, "w") as f:
        json.dump(asked, f)
    with open(path) as f:
        report = json.loads(run(os.path.join(BIN, "leeward-fixup"), "--root", root, stdin=f))
    check(report["changes"], f"nothing was changed: {report}")
    kept = json.dumps(report).replace("'", "''")
    site.sql(f"UPDATE failovers SET fixups = '{kept}' WHERE id = '{failover}'")
    return failover


try:
    install_packages()
    in_own_network()
    site = ConsoleSite()
    site.cli("site", "create", "paris")
    run_id = plan_that_waits(site)
    failover = prepare_failover(site)
    second = Disk(24 * MIB, name="second")  # of a machine that comes while the browser looks on
    second.make_fs("ext4")
    third = Disk(16 * MIB, name="third")  # of the machine that is protected
    spare = Disk(32 * MIB, name="spare")  # of the machine that a lost one is restored to
    data, instance = fresh("agent"), f"console-{os.getpid()}"
    for name in ("second", "spare"):
        defer(run, os.path.join(BIN, "leeward-agent"), "--uninstall", "--instance", f"{instance}-{name}", "--data", f"{data}-{name}")
    status = site.browse("pages.mjs", LEEWARD_BIN=BIN, LEEWARD_SECOND_DISK=second.device, LEEWARD_THIRD_DISK=third.device, LEEWARD_SPARE_DISK=spare.device,
                         LEEWARD_AGENT_DATA=data, LEEWARD_AGENT_INSTANCE=instance, LEEWARD_USERNAME=site.USERNAME, LEEWARD_FIRST_PASSWORD=first_password(site),
                         LEEWARD_PASSWORD=site.PASSWORD, LEEWARD_MACHINE=json.dumps(site.machine()), LEEWARD_RUN=run_id,
                         LEEWARD_VAULTS=json.dumps({"own": site.own.shown(), "copy": site.other}), LEEWARD_OWN_VAULT_PID=str(site.own.process.pid), LEEWARD_FAILOVER=failover)
except Exception as problem:
    traceback.print_exc()
    print(f"FAIL console: {' '.join(str(problem).split())[:500]}", flush=True)
    status = 1
undo_everything()
sys.exit(status)
