# SPDX-License-Identifier: Apache-2.0
"""A site with several process nodes: `leeward up` and more nodes beside the one that it has."""
import os
import shutil
import signal

from harness import BIN, check, fresh, free_port_base, start, stop, undo, wait_until


class Node:
    """A process node of its own, which can be killed and lose its spool."""

    def __init__(self, site, name, *options, host="127.0.0.1", namespace=None, hub=None):
        self.site, self.name, self.options = site, name, options
        self.data = fresh(name)
        self.log = self.data + ".log"
        self.address = f"{host}:{free_port_base(1)}"
        self.namespace = namespace
        self.hub = hub or f"127.0.0.1:{site.port_base + 1}"
        self.token = site.cli("enrol-token", "create", "--role", "node")["token"]
        self.start()
        wait_until(lambda: self.shown()["online"], f"node {name} to be online", 60, 0.2)

    def start(self):
        inside = ["nsenter", f"--net=/run/netns/{self.namespace}"] if self.namespace else []
        self.process = start([*inside, os.path.join(BIN, "leeward-node"), "--data", self.data, "--hub", self.hub, "--token",
                              self.token, "--name", self.name, "--listen", self.address, "--advertise", self.address,
                              *self.options], log=self.log)

    def shown(self):
        return self.site.cli("node", "show", self.name)

    def machines(self):
        return [m["name"] for m in self.site.items("machine", "list") if m["node_name"] == self.name]

    def kill(self, lose_spool=False):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        undo(self.process.undo_entry)
        if lose_spool:
            shutil.rmtree(os.path.join(self.data, "spool"), ignore_errors=True)

    def stop(self):
        check(stop(self.process, grace_s=60) == 0, f"node {self.name} did not end well")

    def restart(self):
        self.start()
        wait_until(lambda: self.shown()["online"], f"node {self.name} to be back", 60, 0.2)


def lines_of(log, event):
    """Log lines of that event, as dictionaries of their plain key=value pairs and of when they were written (logged_at)."""
    found = []
    with open(log, errors="replace") as f:
        for line in f:
            if f" {event} " in line:
                found.append(dict((w.split("=", 1) for w in line.split() if "=" in w), logged_at=line.split(" ", 1)[0]))
    return found


def site_node(site):
    """The name of the node that `leeward up` runs."""
    return next(n["name"] for n in site.items("node", "list") if n["endpoint"].endswith(f":{site.port_base + 2}"))
