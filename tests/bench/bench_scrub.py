# SPDX-License-Identifier: Apache-2.0
"""How fast a vault verifies what it holds, against reading the same files from start to end past the page cache; and what a
background pass and compaction together cost the changes that come in meanwhile (a site with and without them, in turn)."""
import glob
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

from figure import figure, timed

MIB = 1 << 20
POINTS, EXTENTS = 16, 1024  # of 64 KiB, half of it incompressible: a segment of its own each
CHANGE = 192 * MIB
KEEP_S = 60


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


def make_garbage(disk, site):
    """Content that no point needs a minute later: the policy keeps a point for that long, and the newest."""
    for _ in range(2):
        rewrite(disk)
        site.settled_point()
    time.sleep(KEEP_S + 15)  # retention runs some seconds after a point's time is over


def slowdown(options):
    """Rewriting a part of the disk until the point that has it is committed, with and without scrub and compaction at their default
    rates, in pairs."""
    import harness
    pairs, rewritten = [], 0
    try:
        disk = harness.Disk(256 * MIB)
        site = harness.Site(daemon_options={"vault": ["--scrub-rate 0", "--scrub-every 1s", "--compact-every 24h"]})
        site.cli("policy", "set", "default", "--keep-all", f"{KEEP_S}s", "--keep-minutely", "0", "--keep-hourly", "0", "--keep-daily", "0")
        site.protect(disk)
        vault = Vault(site)

        def committed():
            rewrite(disk)
            site.wait_point_after(time.time(), 120)

        for number in range(options.rounds):
            make_garbage(disk, site)
            seconds = {}
            for on in (False, True) if number % 2 == 0 else (True, False):  # what goes first meets a colder machine
                vault.restart(ON if on else OFF)
                before = vault.segments()
                seconds[on], _ = timed(committed)
                rewritten += on and len({name for name, _ in before - vault.segments()})
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
