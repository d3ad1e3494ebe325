# SPDX-License-Identifier: Apache-2.0
"""Opening any of 86,400 points of a 1 TiB disk with a million extents, made by the vault's own write path (vault_history): from
the start of nbdkit to the answer of the first NBD client, read-only and as a branch, and the memory of nbdkit then."""
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import time

import harness
from figure import figure, percentile

POINTS = 86400
TRIES = 40


def history(folder, *arguments):
    subprocess.run([os.environ["LEEWARD_BIN"] + "/vault_history", folder, *map(str, arguments)], check=True,
                   stdout=subprocess.DEVNULL)


def folder():
    """In memory where there is room: the medium is not what is measured here."""
    place = "/dev/shm" if shutil.disk_usage("/dev/shm").free > 4 << 30 else None
    return tempfile.TemporaryDirectory(prefix="leeward-bench-", dir=place)


class Opened:
    """One nbdkit with our plugin. seconds: until a client was answered."""

    def __init__(self, where, sequence, branch=None, stream=0):
        self.socket = f"{where}/s"
        extra = [f"branch={branch}", f"nonce-stream={stream}"] if branch else []
        begin = time.monotonic()
        self.process = subprocess.Popen(["nbdkit", "-f", "-U", self.socket, os.environ["LEEWARD_BIN"] + "/leeward-vault-nbd.so",
                                         f"machine={where}/machine", f"key-file={where}/key", f"sequence={sequence}", *extra])
        harness.wait_until(lambda: os.path.exists(self.socket) or self.process.poll() is not None, "nbdkit to listen", 60, 0.001)
        subprocess.run(["nbdinfo", "--size", self.uri()], check=True, stdout=subprocess.DEVNULL)
        self.seconds = time.monotonic() - begin

    def uri(self):
        return f"nbd+unix:///?socket={self.socket}"

    def rss_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024

    def close(self):
        self.process.terminate()
        self.process.wait()
        pathlib.Path(self.socket).unlink(missing_ok=True)


def open_each(where, chosen, write):
    """Seconds of each opening, and the most memory."""
    seconds, memory = [], 0
    for number, sequence in enumerate(chosen):
        branch = f"{where}/branch-{sequence}" if write else None
        if write:
            subprocess.run([os.environ["LEEWARD_BIN"] + "/vault_branch", where, str(sequence)], check=True)
        point = Opened(where, sequence, branch, 1000 + number)
        seconds.append(point.seconds)
        memory = max(memory, point.rss_bytes())
        point.close()
    return seconds, memory


def measure(options):
    with folder() as where:
        history(where, 1024, POINTS, 12, 4096, 5)
        chosen = random.Random(7).sample(range(1, POINTS + 1), TRIES - 2) + [1, POINTS]
        seconds, memory = open_each(where, chosen, False)
        branch_seconds, branch_memory = open_each(where, chosen, True)
    for name, values in (("open.p99", seconds), ("open.branch_p99", branch_seconds)):
        what = "read-only" if values is seconds else "as a branch, read-write"
        figure(name, percentile(values, 0.99) * 1000, f"ms to open one of 86,400 points {what}", "<= 200",
               leeward={"p50_ms": round(percentile(values, 0.5) * 1000, 1), "tries": TRIES})
    figure("open.rss", max(memory, branch_memory) / (1 << 20), "MiB of nbdkit with a point open", "<= 256",
           leeward={"read_only_mib": round(memory / (1 << 20), 1), "branch_mib": round(branch_memory / (1 << 20), 1)})
