# SPDX-License-Identifier: Apache-2.0
"""A daemon of a site that stays away for as long as a test wants: `Site(daemon_starters={"hub": gate.starter})`, and `site.kill("hub")`."""
import os

from harness import fresh


class Gate:
    """What it starts waits while the gate is shut."""

    def __init__(self):
        self.bar, self.starter = fresh("shut"), fresh("gate")
        with open(self.starter, "w") as f:
            f.write(f"#!/bin/sh\nwhile [ -e '{self.bar}' ]; do sleep 0.1; done\nexec \"$@\"\n")
        os.chmod(self.starter, 0o755)

    def shut(self):
        open(self.bar, "w").close()

    def open(self):
        os.unlink(self.bar)
