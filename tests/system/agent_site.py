# SPDX-License-Identifier: Apache-2.0
"""A site whose agents are started one by one, so that each can be stopped for good or be a rescue system. All of them see the disks of this machine: a test
names the disks that it means."""
import os

from harness import BIN, Site, check, defer, fresh, image_of, run, start, stop, wait_until


class HubSite(Site):
    """Hub, node and vault without an agent."""

    def __init__(self, **options):
        super().__init__("--no-agent", **options)

    def wait_ready(self, timeout=120):
        def ready():
            check(self.process.poll() is None, f"leeward up ended with {self.process.returncode}: {self.last_log()}")
            self.load_env()
            status = self.cli("status")
            return status["nodes"]["online"] and status["vaults"]["online"]
        wait_until(ready, "leeward up to be ready", timeout, 0.2)


class Agent:
    def __init__(self, site, name, *options):
        self.site, self.name, self.options = site, name, options
        self.data = fresh(name)
        self.log = self.data + ".log"
        self.instance = f"{name}-{os.getpid()}-{site.port_base}"
        self.token = site.cli("enrol-token", "create", "--role", "agent")["token"]
        defer(run, os.path.join(BIN, "leeward-agent"), "--uninstall", "--instance", self.instance, "--data", self.data)
        self.start()
        wait_until(lambda: self.disks(), f"the disks of {name}", 60, 0.2)

    def start(self):
        self.process = start([os.path.join(BIN, "leeward-agent"), "--data", self.data, "--hub", f"127.0.0.1:{self.site.port_base + 1}", "--token",
                              self.token, "--name", self.name, "--instance", self.instance, *self.options], log=self.log)
        wait_until(lambda: any(m["name"] == self.name and m["online"] for m in self.site.items("machine", "list")), f"{self.name} to be online", 60, 0.2)

    def stop(self):
        check(stop(self.process) == 0, f"the agent {self.name} did not end well")
        wait_until(lambda: not self.shown()["online"], f"{self.name} to be away", 60, 0.2)

    def shown(self):
        return self.site.cli("machine", "show", self.name)

    def disks(self):
        return self.site.items("disk", "list", self.name)

    def key(self, disk):
        return wait_until(lambda: next((d["key"] for d in self.disks() if d["device"] == disk.device), None), f"{disk.device} to be listed", 60, 0.3)

    def points(self):
        return sorted(self.site.items("point", "list", self.name), key=lambda p: p["sequence"])

    def is_protected(self):
        shown = self.shown()
        return shown["state"] == "protected" and shown["agent_state"] == "protected"

    def point_of(self, disk):
        """A point that holds what the disk does."""
        os.sync()
        def same():
            point = self.points()[-1]
            return point if self.image(point) == image_of(disk.device) else None
        return wait_until(same, f"a point of what {disk.device} holds", 120, 0.5)

    def image(self, point):
        answer = self.site.cli("point", "open", f"{self.name}@{point['sequence']}")
        copy = fresh("point.img")
        try:
            run("nbdcopy", answer["disks"][0]["uri"], copy)
        finally:
            self.site.cli("point", "close", answer["id"])
        return image_of(copy)
