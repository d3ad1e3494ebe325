# SPDX-License-Identifier: Apache-2.0
"""How fast a vault verifies what it holds, against reading the same files from start to end past the page cache; and what a
background pass costs the changes that come in meanwhile (a site with and without one, in turn)."""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time

from figure import figure, timed

MIB = 1 << 20
POINTS, EXTENTS = 16, 1024  # of 64 KiB, half of it incompressible: a segment of its own each
CHANGE = 192 * MIB


def read_through(paths):
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            subprocess.run(["dd", "of=/dev/null", "bs=1M", "iflag=direct", "status=none"], stdin=fd, check=True)
        finally:
            os.close(fd)


def verify(where, threads):
    out = subprocess.run([os.environ["LEEWARD_BIN"] + "/vault_scrub", where, str(threads)], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def speed(options):
    with tempfile.TemporaryDirectory(prefix="leeward-bench-", dir=os.environ.get("TMPDIR")) as where:
        subprocess.run([os.environ["LEEWARD_BIN"] + "/vault_history", where, "4", str(POINTS), str(EXTENTS), "65536", "50"],
                       check=True, stdout=subprocess.DEVNULL)
        segments = sorted(glob.glob(where + "/machine/main/*.seg"))
        stored = sum(map(os.path.getsize, segments))
        os.sync()
        threads = os.cpu_count() or 2
        rounds = [(timed(read_through, segments)[0], verify(where, threads)) for _ in range(options.rounds)]
        one = min(verify(where, 1)["seconds"] for _ in range(options.rounds))
    read_s = min(r[0] for r in rounds)
    best = min((r[1] for r in rounds), key=lambda r: r["seconds"])
    figure("scrub.speed_ratio", read_s / best["seconds"], "x sequential reading of the same files", ">= 0.7",
           {"read_mb_s": round(stored / read_s / 1e6)},
           {"scrub_mb_s": round(best["bytes"] / best["seconds"] / 1e6), "threads": threads,
            "one_thread_mb_s": round(best["bytes"] / one / 1e6),
            "processor_s_per_gb": round((best["user_s"] + best["system_s"]) / best["bytes"] * 1e9, 3)})


def rewrite(disk):
    fd = os.open(disk.device, os.O_WRONLY)
    try:
        for at in range(0, CHANGE, MIB):
            os.pwrite(fd, os.urandom(MIB // 2) + bytes([at >> 20 & 255 or 1]) * (MIB // 2), at)
        os.fsync(fd)
    finally:
        os.close(fd)


class Vault:
    """The site's vault, started again with other options: `leeward up` starts what its folder of programs has."""

    def __init__(self, site):
        self.site = site
        self.program = os.path.join(site.bin, "leeward-vault")

    def restart(self, rate):
        with open(self.program, encoding="utf-8") as f:
            text = f.read()
        with open(self.program, "w", encoding="utf-8") as f:
            f.write(re.sub(r"--scrub-rate \S+", "--scrub-rate " + rate, text))
        self.site.kill("vault")
        self.site.settled_point()


def slowdown(options):
    import harness
    try:
        disk = harness.Disk(256 * MIB)
        site = harness.Site(daemon_options={"vault": ["--scrub-rate 0", "--scrub-every 1s"]})
        site.protect(disk)
        rewrite(disk)
        site.settled_point()
        vault = Vault(site)
        taken = {"0": [], "64M": []}
        for _ in range(options.rounds):
            for rate, times in taken.items():
                vault.restart(rate)
                seconds, _ = timed(lambda: (rewrite(disk), site.wait_point_after(time.time(), 120)))
                times.append(seconds)
                print(f"scrub at {rate}: {seconds:.2f} s", file=sys.stderr)
    finally:
        harness.undo_all()
    without, beside = (min(taken[k]) for k in ("0", "64M"))  # noise of the machine only ever slows down
    figure("scrub.ingest_slowdown", beside / without - 1, "of the time until changes are committed", "<= 0.1",
           {"without_s": round(without, 2)}, {"beside_a_pass_s": round(beside, 2), "changed_mib": CHANGE >> 20})


def measure(options):
    speed(options)
    slowdown(options)
