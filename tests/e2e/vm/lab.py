# SPDX-License-Identifier: Apache-2.0
"""A guest under protection: hub, node and vault on the host, the agent as a service in the guest."""
import contextlib
import os

from guest import Guest, Image, install_packages
from harness import BIN, Site, check, note, wait_until, with_options

PROGRAMS = "/usr/local/lib/leeward"
TOKEN = "/root/token"
PROTECTED_S = 900
UNIT = """[Unit]
Description=Leeward agent
[Service]
Type=notify
ExecStart={program} --hub 10.0.2.2:{hub} --token-file {token} --name guest
Restart=always
RestartSec=1
TimeoutStartSec=300
[Install]
WantedBy=multi-user.target
"""


class GuestSite(Site):
    """Hub, node and vault on the host's loopback, which the guest knows as 10.0.2.2."""

    def start(self, wait=True):
        if self.process is None:
            self.bin = with_options({"node": ["--advertise", f"10.0.2.2:{self.port_base + 2}"]})
        super().start(wait)

    def wait_ready(self, timeout=180):
        def ready():
            check(self.process.poll() is None, f"leeward up ended with {self.process.returncode}: {self.last_log()}")
            self.load_env()
            status = self.cli("status")
            return status["nodes"]["online"] and status["vaults"]["online"]
        wait_until(ready, "leeward up to be ready", timeout, 0.5)

    def stored_bytes(self):
        """What the vault has taken on disk; all that travelled ends there."""
        total = 0
        for folder, _, files in os.walk(os.path.join(self.data, "vault")):
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    total += os.stat(os.path.join(folder, name)).st_blocks * 512
        return total

    def count(self, code):
        """How many events of this kind there were."""
        return sum(e["code"] == code for e in self.items("event", "list", "--limit", "500"))


class Lab:
    def __init__(self, disks):
        """Starts the site and a fresh guest with these disks beside its root disk."""
        install_packages()
        self.image = Image(os.environ.get("LEEWARD_GUEST", "bookworm"))
        self.site = GuestSite("--no-agent")
        self.guest = Guest.fresh_root(self.image, "guest", disks)
        self.guest.boot()
        note("the guest runs", self.guest.ssh("uname -r").strip())

    def install_agent(self, folder="1"):
        program = f"{PROGRAMS}/{folder}/leeward-agent"
        self.guest.put(os.path.join(BIN, "leeward-agent"), program)
        self.guest.put_text(UNIT.format(program=program, hub=self.site.port_base + 1, token=TOKEN),
                            "/etc/systemd/system/leeward-agent.service")

    def enrol(self):
        """Installs and starts the agent; the disks that it reports, by device."""
        self.install_agent()
        token = self.site.cli("enrol-token", "create", "--role", "agent")["token"]
        self.guest.put_text(token + "\n", TOKEN, "600")
        self.guest.ssh("systemctl daemon-reload; systemctl enable --now leeward-agent")
        wait_until(lambda: self.site.machine()["online"], "the agent to enrol", 600, 0.5)
        disks = wait_until(lambda: self.site.items("disk", "list", self.site.machine()["id"]), "the inventory", 120, 0.5)
        return {d["device"]: d for d in disks}

    def protect(self, disks, devices):
        arguments = [word for device in devices for word in ("--disk", disks[device]["key"])]
        self.site.cli("machine", "protect", self.site.machine()["id"], *arguments, "--no-wait")
        self.site.wait_protected(PROTECTED_S)

    def disk_number(self, device):
        disks = self.site.items("disk", "list", self.site.machine()["id"])
        return next(d["number"] for d in disks if d["device"] == device)

    def agent_pid(self):
        """0 while systemd has none running."""
        return int(self.guest.ssh("systemctl show -p MainPID --value leeward-agent", ok=None).strip() or 0)

    def kill_agent(self):
        pid = self.agent_pid()
        self.guest.ssh(f"kill -9 {pid}")
        wait_until(lambda: self.agent_pid() not in (0, pid), "systemd to start the agent again", 600, 0.5)

    def protected_again(self, since):
        """The machine is protected, and a point was made that is newer than sequence `since`."""
        def protected():
            return self.site.machine()["state"] == "protected" and self.site.latest()["sequence"] > since
        wait_until(protected, "points again", PROTECTED_S, 0.5)

    def pins(self):
        """The pinned maps of disks, by inode: the same ones, not others of the same name."""
        return self.guest.ssh("ls -i /sys/fs/bpf/leeward/default/ | grep disk-").split()
