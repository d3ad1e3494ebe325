# SPDX-License-Identifier: Apache-2.0
"""A real site for the browser's tests: hub with PostgreSQL, node, vault, agent, a loop disk that is really protected; and Node with
Playwright, which drives Debian's Chromium against it. What the browser's programs print (PASS, FAIL) is passed on."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
sys.path.insert(0, os.path.join(ROOT, "tests", "system"))

import harness  # noqa: E402
from vault_site import Vault  # noqa: E402
from harness import MIB, Disk, Site, check, defer, run, undo_all as undo_everything  # noqa: E402, F401

ARTEFACTS = os.environ.get("LEEWARD_ARTEFACTS", os.path.join(ROOT, "build", "artefacts", "console"))


def install_packages():
    """What only these tests need; quick when it is there."""
    run(os.path.join(ROOT, "cmake", "install-packages.sh"), os.path.join(HERE, "packages.txt"), timeout=1200)


def in_own_network():
    """Runs this program again in a network namespace of its own: Chromium gives up what it was fetching whenever an interface of the
    machine comes or goes, and nobody else's do here."""
    if os.environ.get("LEEWARD_OWN_NETWORK") != "1":
        os.environ["LEEWARD_OWN_NETWORK"] = "1"
        os.execvp("unshare", ["unshare", "--net", "--", sys.executable, "-B", *sys.argv])
    run("ip", "link", "set", "lo", "up")


def node():
    """The Node that the console is built with."""
    path = run(os.path.join(ROOT, "webui", "build.sh"), "--node").strip()
    check(os.access(path, os.X_OK), f"{path} is missing: build the console first")
    return path


def first_password(site):
    with open(os.path.join(site.data, "hub", "admin-password")) as f:
        return f.read().strip()


class BrowserSite(Site):
    """A site whose console a program of the browser looks at."""

    def browse(self, script, **environment):
        """Runs a program of the browser to its end; its verdicts become ours. A program that says nothing is a Failure."""
        env = dict(os.environ, LEEWARD_URL=self.env["LEEWARD_URL"], LEEWARD_ARTEFACTS=ARTEFACTS, LEEWARD_DATA=self.data, **environment)
        process = subprocess.Popen([node(), os.path.join(HERE, script), *sys.argv[1:]], stdout=subprocess.PIPE, text=True, env=env, cwd=harness.temp_dir(),
                                   preexec_fn=harness.die_with_parent)
        process.undo_entry = defer(harness.stop, process)
        verdicts, failed = 0, 0
        for line in process.stdout:
            print(line, end="", flush=True)
            verdicts += line.startswith(("PASS ", "FAIL "))
            failed += line.startswith("FAIL ")
        status = process.wait()
        harness.undo(process.undo_entry)
        check(verdicts > 0, f"{script} tested nothing")
        check(status == 0 or failed > 0, f"{script} ended with {status}")
        return status


class ConsoleSite(BrowserSite):
    """A site with one disk that is protected to a vault of its own, which can be lost, with a copy in the other one, and an administrator who has chosen a
    password."""
    USERNAME, PASSWORD = "admin", "correct horse battery"

    def __init__(self):
        super().__init__()
        self.disk = Disk(48 * MIB, name="console")
        self.disk.make_fs("ext4")
        self.mount_point = self.disk.mount()
        self.other = self.items("vault", "list")[0]
        self.own = Vault(self, "harbour")
        self.cli("machine", "protect", self.machine()["id"], "--disk", self.disk_key(self.disk), "--vault", "harbour", "--no-wait")
        self.wait_protected()
        self.cli("copy", "create", self.machine()["name"], self.other["name"])
