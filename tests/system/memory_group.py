# SPDX-License-Identifier: Apache-2.0
"""A control group in which there can be too little memory (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst)."""
import contextlib
import os
import sys
import time

from harness import Skipped, defer, note, run

ROOTS = (("/sys/fs/cgroup", "memory.max", "memory.current", "memory.events", "max"),
         ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control", "-1"))


class MemoryGroup:
    """Empty at first; a process joins by `join()`, a command of the shell that is put in front of its own, or is taken in by `take()`. Skips
    the test where there is none to be had."""

    def __init__(self, name):
        for root, *names in ROOTS:
            self.path = os.path.join(root, f"leeward-{name}-{os.getpid()}")
            self.limit, self.usage, self.events, self.none = names
            with contextlib.suppress(OSError):
                os.mkdir(self.path)
            if os.path.exists(self._file(self.limit)):
                defer(self._remove)
                return
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
        raise Skipped("no control group with a limit of memory is to be had here")

    def join(self):
        return f"sh -c 'echo 1000 > /proc/self/oom_score_adj; echo $$ > {self.path}/cgroup.procs; exec \"$0\" \"$@\"'"

    def take(self, pid):
        """It alone, without its children: it is the one to be killed."""
        for path, text in ((f"/proc/{pid}/oom_score_adj", "1000"), (self._file("cgroup.procs"), str(pid))):
            with open(path, "w") as f:
                f.write(text)

    def allow(self, size_bytes):
        """The group may have so much memory, and what does not need it is let go to get there."""
        self._set(str(size_bytes))

    def used(self):
        with open(self._file(self.usage)) as f:
            return int(f.read())

    def kills(self):
        with open(self._file(self.events)) as f:
            return next(int(line.split()[1]) for line in f if line.startswith("oom_kill "))

    def exhaust(self):
        """Has the kernel kill the largest process that joined, for want of memory. True when it killed any."""
        before = self.kills()
        try:
            run(sys.executable, "-I", "-S", os.path.join(os.path.dirname(os.path.abspath(__file__)), "take_memory.py"), self.path,
                self.limit, self.usage, self.events, ok=None)
            return self.kills() > before
        finally:
            self._set(self.none)

    def _set(self, text):
        fd = os.open(self._file(self.limit), os.O_WRONLY)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def _file(self, name):
        return os.path.join(self.path, name)

    def _remove(self):
        """When all who were in it are gone."""
        for _ in range(200):
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
                return
            time.sleep(0.1)
        note("left:", self.path)
