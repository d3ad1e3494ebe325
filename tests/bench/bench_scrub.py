# SPDX-License-Identifier: Apache-2.0
"""How fast a vault verifies what it holds, against reading the same files from start to end past the page cache; and what a
background pass and compaction together cost the changes that come in meanwhile (a site with and without them, in turn)."""
import glob
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

from figure import figure, timed

MIB = 1 << 20
POINTS, EXTENTS = 16, 1024  # of 64 KiB, half of it incompressible: a segment of its own each
DISK, CHANGE = 768 * MIB, 384 * MIB  # a commit takes longer than the cycle of a second, which would hide what it takes
KEEP_S = 60
WINDOW_S = 20


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
    """Other parts each time, so that what a segment holds dies bit by bit, and compaction has something to copy."""
    fd = os.open(disk.device, os.O_WRONLY)
    try:
        for at in sorted(random.sample(range(0, DISK, MIB), CHANGE // MIB)):
            os.pwrite(fd, os.urandom(MIB // 2) + bytes([at >> 20 & 255 or 1]) * (MIB // 2), at)
        os.fsync(fd)
    finally:
        os.close(fd)


OFF = {"scrub-rate": "0", "compact-every": "24h"}
ON = {"scrub-rate": "64M", "compact-every": "1s"}  # the default rates


class Vault:
    """The site's vault, started again with other options: `leeward up` starts what its folder of programs has."""

    def __init__(self, site):
        self.site = site
        self.program = os.path.join(site.bin, "leeward-vault")

    def restart(self, options):
        with open(self.program, encoding="utf-8") as f:
            text = f.read()
        for name, value in options.items():
            text = re.sub(rf"--{name} \S+", f"--{name} {value}", text)
        with open(self.program, "w", encoding="utf-8") as f:
            f.write(text)
        self.site.kill("vault")
        self.site.settled_point()

    def segments(self):
        """The files of the log: one that was rewritten is another file."""
        found = set()
        for path in glob.glob(os.path.join(self.site.data, "vault/machines/*/main/*.seg")):
            try:
                found.add((os.path.basename(path), os.stat(path).st_ino))
            except FileNotFoundError:
                pass
        return found


class Load:
    """Changes that are committed one after the other; the policy keeps their points for a while, so that garbage comes as they do."""

    def __init__(self, disk, site, vault):
        self.disk, self.site, self.vault = disk, site, vault

    def run(self, at_least_s):
        """Seconds for each commit, and how many segments went or were written anew meanwhile."""
        before, begin, commits = self.vault.segments(), time.monotonic(), 0
        while time.monotonic() < begin + at_least_s:
            rewrite(self.disk)
            self.site.wait_point_after(time.time(), 120)
            commits += 1
        seconds = (time.monotonic() - begin) / commits
        return seconds, len({name for name, _ in before - self.vault.segments()})


def slowdown(options):
    """What a commit takes with and without scrub and compaction at their default rates, in pairs, under a load that never pauses."""
    import harness
    pairs, rewritten = [], 0
    try:
        disk = harness.Disk(DISK)
        site = harness.Site(daemon_options={"vault": ["--scrub-rate 0", "--scrub-every 1s", "--compact-every 24h"]})
        site.cli("policy", "set", "default", "--keep-all", f"{KEEP_S}s", "--keep-minutely", "0", "--keep-hourly", "0", "--keep-daily", "0")
        site.protect(disk)
        vault = Vault(site)
        load = Load(disk, site, vault)
        load.run(KEEP_S + 20)  # from here on points are dropped as fast as they come
        for number in range(options.rounds):
            seconds = {}
            for on in (False, True) if number % 2 == 0 else (True, False):  # what goes first meets a colder machine
                vault.restart(ON if on else OFF)
                seconds[on], gone = load.run(WINDOW_S)
                rewritten += gone if on else 0
            without, beside = seconds[False], seconds[True]
            pairs.append((without, beside))
            print(f"without {without:.2f} s, beside scrub and compaction {beside:.2f} s", file=sys.stderr)
    finally:
        harness.undo_all()
    ratio = statistics.median(beside / without for without, beside in pairs)
    figure("scrub.ingest_slowdown", ratio - 1, "of the time until changes are committed, beside scrub and compaction", "<= 0.1",
           {"without_s": [round(p[0], 2) for p in pairs]},
           {"beside_s": [round(p[1], 2) for p in pairs], "changed_mib": CHANGE >> 20, "segments_rewritten": rewritten})


def measure(options):
    speed(options)
    slowdown(options)
