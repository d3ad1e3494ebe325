# SPDX-License-Identifier: Apache-2.0
"""Several small protected machines on one host, for recovery plans: one hub, node and vault, an agent per machine with a loop disk of its own, and a target
whose program keeps one file per replica."""
import json
import os
import shutil
import stat

from agent_site import HubSite
from harness import BIN, MIB, Disk, check, defer, fresh, run, start, wait_until

PROGRAM = """#!/usr/bin/env python3
import json, os, sys
verb, call = sys.argv[1], json.load(sys.stdin)
folder = os.path.dirname(os.path.abspath(__file__))
spec = call["spec"]
path = os.path.join(folder, "replica-" + spec["failover_id"])
def listed(name):
    try:
        with open(os.path.join(folder, name)) as f:
            return spec["machine"]["name"] in f.read().split()
    except FileNotFoundError:
        return False
if verb == "check" and listed("refused"):
    sys.exit("there is no room for it")
if verb == "start":
    if listed("dead"):
        sys.exit("the rack is on fire")
    with open(path, "w") as f:
        json.dump(spec, f)
    print(json.dumps({"name": "replica of " + spec["machine"]["name"], "address": "127.0.0.1",
                      "verdict": "failed" if listed("broken") else "passed", "verdict_text": "as it was told"}))
elif verb == "stop" and os.path.exists(path):
    os.unlink(path)
"""
DISK_BYTES = 8 * MIB


class Target:
    def __init__(self, site, name="rack"):
        self.folder = fresh("target")
        os.mkdir(self.folder)
        program = os.path.join(self.folder, "program")
        with open(program, "w") as f:
            f.write(PROGRAM)
        os.chmod(program, stat.S_IRWXU)
        site.cli("target", "create", name, "command", "--config", json.dumps({"program": program, "timeout_seconds": 300}))

    def replicas(self):
        """What the adapter was told of each, by machine."""
        found = {}
        for name in os.listdir(self.folder):
            if name.startswith("replica-"):
                with open(os.path.join(self.folder, name)) as f:
                    spec = json.load(f)
                found[spec["machine"]["name"]] = spec
        return found

    def mark(self, word, *machines):
        """refused, dead or broken: these machines are from now on, and no others."""
        with open(os.path.join(self.folder, word), "w") as f:
            f.write(" ".join(machines))


class PlanSite(HubSite):
    """Machines m0, m1, ..., all protected."""

    def __init__(self, count, **options):
        self.names = [f"m{n}" for n in range(count)]
        super().__init__(**options)
        for name in self.names:
            self._start_agent(name)
        wait_until(lambda: sum(m["online"] for m in self.items("machine", "list")) == count, "all agents to enrol", 120, 0.3)
        for name in self.names:
            self._protect(name)
        wait_until(lambda: all(m["state"] == "protected" and self.items("point", "list", m["name"])
                               for m in self.items("machine", "list")), "all machines to be protected", 180, 0.5)
        self.target = Target(self)

    def _start_agent(self, name):
        disk = Disk(DISK_BYTES, name=name)
        disk.fill_random(64, seed=len(name))
        data, instance = fresh(name), f"{self.instance}-{name}"
        token = self.cli("enrol-token", "create", "--role", "agent")["token"]
        defer(run, os.path.join(BIN, "leeward-agent"), "--uninstall", "--instance", instance, "--data", data)
        start([os.path.join(BIN, "leeward-agent"), "--data", data, "--hub", f"127.0.0.1:{self.port_base + 1}", "--token", token,
               "--instance", instance, "--name", name], log=data + ".log")
        self.disks = getattr(self, "disks", {})
        self.disks[name] = disk

    def _protect(self, name):
        def listed():
            shown = self.items("disk", "list", name)
            return next((d["key"] for d in shown if d["device"] == self.disks[name].device), None)
        key = wait_until(listed, f"the inventory of {name} to list its disk", 90, 0.3)
        self.cli("machine", "protect", name, "--disk", key, "--no-wait")

    def plan_file(self, plan, name="plan.json"):
        path = fresh(name)
        with open(path, "w") as f:
            f.write(plan if isinstance(plan, str) else json.dumps(plan))
        return path

    def states(self):
        return {m["name"]: m["state"] for m in self.items("machine", "list")}


def scripts_folder(scripts):
    """A folder as --scripts-dir wants it, for which everybody may look inside."""
    folder = fresh("scripts")
    os.mkdir(folder, 0o755)
    os.chmod(folder, 0o755)
    for name, text in scripts.items():
        path = os.path.join(folder, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o755)
    defer(shutil.rmtree, folder, True)
    return folder
