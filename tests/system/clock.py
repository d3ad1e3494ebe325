# SPDX-License-Identifier: Apache-2.0
"""A clock of the day that is wrong for one daemon, by as much as a test says."""
import os
import struct

from harness import fresh, run


class Clock:
    """The clock of the day of the daemon that `starter` starts."""

    def __init__(self):
        self.file, self.library = fresh("clock"), fresh("clock_offset.so")
        self.set(0)
        run("cc", "-shared", "-fPIC", "-O2", "-o", self.library, os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock_offset.c"))
        self.starter = f"env LD_PRELOAD={self.library} LEEWARD_TEST_CLOCK={self.file}"

    def set(self, seconds):
        with open(self.file, "r+b" if os.path.exists(self.file) else "wb") as f:
            f.write(struct.pack("=q", seconds))
