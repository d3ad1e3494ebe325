# SPDX-License-Identifier: Apache-2.0
"""A second vault beside the one that `leeward up` runs."""
import os
import signal

from harness import BIN, check, fresh, free_port_base, start, stop, undo, wait_until


class Vault:
    """A vault of its own, which can be killed."""

    def __init__(self, site, name, *options):
        self.site, self.name, self.options = site, name, options
        self.data = fresh(name)
        self.log = self.data + ".log"
        self.address = f"127.0.0.1:{free_port_base(1)}"
        self.token = site.cli("enrol-token", "create", "--role", "vault")["token"]
        self.start()
        wait_until(self.named, f"vault {name} to be online", 60, 0.2)

    def named(self):
        """It enrols under the name of its host."""
        found = next((v for v in self.site.items("vault", "list") if v["endpoint"] == self.address and v["online"]), None)
        return found and self.site.cli("vault", "set", found["id"], "--name", self.name)

    def start(self):
        self.process = start([os.path.join(BIN, "leeward-vault"), "--data", self.data, "--hub", f"127.0.0.1:{self.site.port_base + 1}",
                              "--token", self.token, "--listen", self.address, "--advertise", self.address,
                              *self.options], log=self.log)

    def shown(self):
        return self.site.cli("vault", "show", self.name)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        undo(self.process.undo_entry)

    def stop(self):
        check(stop(self.process, grace_s=60) == 0, f"vault {self.name} did not end well")

    def restart(self):
        self.start()
        wait_until(lambda: self.shown()["online"], f"vault {self.name} to be back", 60, 0.2)

    def lines(self, event):
        with open(self.log, errors="replace") as f:
            return [line for line in f if f" {event} " in line]
