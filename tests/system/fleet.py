# SPDX-License-Identifier: Apache-2.0
"""Several machines on one: agents, each in a network namespace of its own on one bridge, each protecting a loop disk with an ext4
file system, with one hub, node and vault. What they write to their disks, and what their points hold of it, is the test's matter.
"""
import contextlib
import os
import random
import signal

import harness
from agent_site import HubSite
from harness import BIN, MIB, Disk, Failure, check, defer, fresh, free_port_base, run, start, undo, wait_until

DISK_BYTES = 24 * MIB


class GroupSite(HubSite):
    """Hub, node and vault without an agent, reached over the bridge."""

    def __init__(self, address, node_options=()):
        base = free_port_base()
        self.address = address
        harness_port_base = harness.free_port_base
        harness.free_port_base = lambda count=5: base
        try:
            super().__init__(daemon_options={
                "hub": ["--listen", f"0.0.0.0:{base + 1}"],
                "vault": ["--listen", f"{address}:{base + 3}", "--advertise", f"{address}:{base + 3}"],
                "node": ["--listen", f"{address}:{base + 2}", "--advertise", f"{address}:{base + 2}", *node_options]})
        finally:
            harness.free_port_base = harness_port_base


class Bridge:
    """Namespaces that reach each other and the test over one bridge. Removed by name at the end."""

    def __init__(self):
        self.tag = f"lw{os.getpid() % 100000}"
        for _ in range(50):
            self.net = f"10.{random.randrange(64, 250)}.{random.randrange(250)}"
            if self.net + "." not in run("ip", "-4", "addr"):
                break
        self.address = self.net + ".1"
        run("ip", "link", "add", self.tag, "type", "bridge")
        defer(run, "ip", "link", "del", self.tag)
        run("ip", "addr", "add", self.address + "/24", "dev", self.tag)
        run("ip", "link", "set", self.tag, "up")

    def namespace(self, number):
        """A namespace with the address .10 + number; its name and address."""
        name, inside, outside = f"{self.tag}n{number}", "eth0", f"{self.tag}v{number}"
        address = f"{self.net}.{10 + number}"
        run("ip", "netns", "add", name)
        defer(run, "ip", "netns", "del", name)
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
        run("ip", "link", "set", outside, "master", self.tag, "up")
        run("ip", "-n", name, "addr", "add", address + "/24", "dev", inside)
        run("ip", "-n", name, "link", "set", inside, "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        return name, address

    def cut(self, number, is_cut=True):
        """Takes the cable of a namespace away, or plugs it in again."""
        run("ip", "link", "set", f"{self.tag}v{number}", "down" if is_cut else "up")

    def silence_port(self, number, port, ends, is_cut=True):
        """What comes into a namespace for TCP connections of that port vanishes, without an answer to anybody. ends: "dport" for
        those that it accepts, "sport" for those that it makes."""
        name = f"{self.tag}n{number}"
        if "from all lookup local" in run("ip", "-n", name, "rule", "show", "pref", "0"):
            run("ip", "-n", name, "rule", "add", "pref", "100", "table", "local")  # behind the rules that are made here
            run("ip", "-n", name, "rule", "del", "pref", "0")
        for end in ends:
            run("ip", "-n", name, "rule", "add" if is_cut else "del", "pref", "10", "iif", "eth0", "ipproto", "tcp", end, port, "blackhole")


class Machine:
    """An agent with its disk."""

    def __init__(self, fleet, number, preload=None):
        self.fleet, self.number = fleet, number
        self.name = f"m{number}"
        self.preload = preload
        self.namespace, self.address = fleet.bridge.namespace(number)
        self.disk = Disk(DISK_BYTES, name=self.name)
        self.disk.make_fs("ext4")
        self.mount_point = self.disk.mount()
        self.data = fresh(self.name)
        self.instance = f"{fleet.bridge.tag}-{number}"
        self.log = self.data + ".log"
        self.token = fleet.site.cli("enrol-token", "create", "--role", "agent")["token"]
        self.process = None
        defer(run, os.path.join(BIN, "leeward-agent"), "--uninstall", "--instance", self.instance, "--data", self.data)
        self.start()

    def start(self):
        site = self.fleet.site
        environment = dict(os.environ, **({"LD_PRELOAD": self.preload} if self.preload else {}))
        self.process = start(
            ["nsenter", f"--net=/run/netns/{self.namespace}", os.path.join(BIN, "leeward-agent"), "--data", self.data, "--hub",
             f"{site.address}:{site.port_base + 1}", "--token", self.token, "--instance", self.instance, "--name", self.name,
             "--group-advertise", f"{self.address}:20004"], log=self.log, env=environment)

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()
            undo(self.process.undo_entry)

    def is_running(self):
        return self.process.poll() is None

    def shown(self):
        return self.fleet.site.cli("machine", "show", self.name)

    def protect(self, policy):
        def listed():
            disks = self.fleet.site.items("disk", "list", self.name)
            return next((d["key"] for d in disks if d["device"] == self.disk.device), None)
        key = wait_until(listed, f"the inventory of {self.name} to list its disk", 90, 0.5)
        self.fleet.site.cli("machine", "protect", self.name, "--disk", key, "--policy", policy, "--no-wait")

    def lines(self, event):
        """Log lines of that event, as dictionaries of their plain key=value pairs, and as a whole (text)."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            with open(self.log, errors="replace") as f:
                for line in f:
                    if f" {event} " in line:
                        found.append(dict((w.split("=", 1) for w in line.split() if "=" in w), text=line.strip()))
        return found


class Fleet:
    def __init__(self, count, policy_options=("--freeze-budget", "2s"), preload=None, node_options=()):
        """preload: {number: shared object} for agents that are started with it."""
        self.bridge = Bridge()
        self.site = GroupSite(self.bridge.address, node_options)
        self.site.cli("policy", "create", "fleet", "--interval", "1s", *policy_options)
        self.machines = [Machine(self, n, (preload or {}).get(n)) for n in range(count)]

    def protect(self):
        wait_until(lambda: len(self.site.items("machine", "list")) == len(self.machines), "all agents to enrol", 90, 0.3)
        for m in self.machines:
            m.protect("fleet")
        for m in self.machines:
            wait_until(lambda m=m: m.shown()["state"] == "protected", f"{m.name} to be protected", 180, 0.5)

    def create_group(self, name, machines, interval="1s"):
        words = [w for m in machines for w in ("--machine", m.name)]
        return self.site.cli("group", "create", name, "--interval", interval, *words)

    def hide(self, hidden, is_hidden=True):
        """The other machines have no way to one; the hub, the node and the vault do."""
        for m in self.machines:
            if m is not hidden:
                run("ip", "-n", m.namespace, "route", "add" if is_hidden else "del", "blackhole", f"{hidden.address}/32")

    def group(self, name):
        return self.site.cli("group", "show", name)

    def group_points(self, name):
        """Newest first."""
        return self.site.items("group", "points", name)

    def wait_group_points(self, name, count, known=(), timeout=120):
        """That many group points that are not among the known ids; newest first."""
        def there():
            fresh_ones = [p for p in self.group_points(name) if p["id"] not in known]
            return len(fresh_ones) >= count and fresh_ones
        try:
            return wait_until(there, f"{count} new group points of {name}", timeout, 0.5)
        except Failure as failure:
            shown = self.group(name)
            raise Failure(f"{failure}; health {shown['health']}, missed by {shown['culprit_name']}: {shown['cause']}") from None

    def image(self, machine, sequence):
        """The disk of a machine at one of its points, as a file."""
        answer = self.site.cli("point", "open", f"{machine.name}@{sequence}")
        try:
            path = fresh(f"{machine.name}.img")
            run("nbdcopy", answer["disks"][0]["uri"], path, timeout=120)
            return path
        finally:
            self.site.cli("point", "close", answer["id"])


def file_of(image, path, check_fs=True):
    """A file of an ext4 image, read without mounting; the image is removed."""
    target = fresh("file")
    if check_fs:
        run("e2fsck", "-fn", image, timeout=60)
    run("debugfs", "-R", f"dump {path} {target}", image, timeout=60)
    os.unlink(image)
    return target
