# SPDX-License-Identifier: Apache-2.0
"""Initial replication of a 4 GiB server image, TLS and durable, with agent, node and vault on this one machine, against
`zstd -1 -T2` of the same image. The image is in the page cache for all of them, and each ends in an fsync of its output."""
import datetime
import os
import pathlib
import statistics
import subprocess
import time

import harness
from figure import figure, timed

IMAGE = pathlib.Path(harness.ROOT) / "build/bench/server.img"


def zstd(threads, source, target):
    with open(target, "wb") as out:
        subprocess.run(["zstd", "-1", f"-T{threads}", "-q", "-c", str(source)], stdout=out, check=True)
        os.fsync(out.fileno())
    return os.path.getsize(target)


class CopyOfImage(harness.Disk):
    """A loop disk over a copy of the image, so that mounting it does not change the next round's input."""

    def __init__(self):
        self.path = harness.fresh("server.img")
        harness.run("cp", "--sparse=always", IMAGE, self.path, timeout=300)
        self.device = harness.run("losetup", "--find", "--show", self.path).strip()
        self._undo = harness.defer(self._detach)
        self.size_bytes = int(harness.run("blockdev", "--getsize64", self.device))


def stored_bytes(folder):
    return sum(p.stat().st_blocks * 512 for p in pathlib.Path(folder).rglob("*") if p.is_file())


def leeward_once():
    """Seconds from the request to the first durable recovery point, and the bytes in the vault then."""
    disk = CopyOfImage()
    disk.mount()
    site = harness.Site()
    key = site.disk_key(disk)
    os.sync()  # the copy of the image is at rest: its writeback is not part of what is measured

    begin = time.time()
    # Waits inside the hub: asking every few milliseconds would cost the processors that are being measured.
    site.cli("machine", "protect", site.machine()["id"], "--disk", key, timeout=300)
    first = harness.wait_until(lambda: site.points(), "the first point", 60)[-1]
    seconds = datetime.datetime.fromisoformat(first["committed_at"].replace("Z", "+00:00")).timestamp() - begin
    stored = stored_bytes(os.path.join(site.data, "vault"))
    site.stop()
    disk.unmount()
    disk.detach()
    return seconds, stored


def measure(options):
    if not IMAGE.exists():
        harness.run(os.path.join(os.path.dirname(os.path.abspath(__file__)), "make-server-image.sh"), IMAGE, timeout=600)
    subprocess.run(["dd", f"if={IMAGE}", "of=/dev/null", "bs=1M"], stderr=subprocess.DEVNULL, check=True)
    ours, peers = [], []
    stored = zstd_bytes = 0
    for round_number in range(options.rounds):
        os.sync()
        seconds, zstd_bytes = timed(zstd, 2, IMAGE, harness.fresh("image.zst"))
        peers.append(seconds)
        seconds, stored = leeward_once()
        ours.append(seconds)
        harness.note(f"round {round_number + 1}: zstd {peers[-1]:.2f} s, leeward {ours[-1]:.2f} s")
    ratio = statistics.median(a / b for a, b in zip(ours, peers))
    wall = {"wall_s": round(statistics.median(ours), 2), "stored_mb": round(stored / 1e6, 1)}
    reference = {"zstd_t2_s": round(statistics.median(peers), 2), "zstd_mb": round(zstd_bytes / 1e6, 1)}
    figure("initial.wall_ratio", ratio, "x zstd -1 -T2", "<= 1.25", reference, wall)
    figure("initial.stored_ratio", stored / zstd_bytes, "x zstd -1", "<= 1.02", reference, wall)
