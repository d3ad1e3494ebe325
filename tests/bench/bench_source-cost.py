# SPDX-License-Identifier: Apache-2.0
"""What protection costs the machine that is protected, with a point every second: fio at 4,000 random writes a second with
fdatasync, and pgbench with 8 clients, on a protected disk and on one that is not, in turns within one run; and how long a
writer is held up where a freeze is asked for.

On a real source only the agent runs. Here node, vault and hub would take their share of the processors too, so the load and the
agent get one half of them and everything else the other, in both kinds of rounds alike."""
import glob
import json
import os
import statistics
import threading
import time

import harness
from figure import figure, percentile

WRITES_PER_S = 4000
CLIENTS = 8
TURNS = 2  # of each kind in a round: from one turn to the next the flushes of a disk that others use too vary by a tenth
FREEZES = 12


def halves():
    cpus = sorted(os.sched_getaffinity(0))
    return (set(cpus[:(len(cpus) + 1) // 2]), set(cpus[(len(cpus) + 1) // 2:]) or set(cpus))


def pin(pid, cpus):
    for task in glob.glob(f"/proc/{pid}/task/*"):
        try:
            os.sched_setaffinity(int(os.path.basename(task)), cpus)
        except ProcessLookupError:
            pass


def pin_site(site, own, others):
    pin(site.process.pid, others)
    pin(site.postgres_pid(), others)
    for role in ("hub", "node", "vault"):
        pin(site.pid_of(role), others)
    pin(site.pid_of("agent"), own)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Place:
    """A disk with a file system, a file for fio and a database."""

    def __init__(self, name):
        self.disk = harness.Disk(3 << 30, name=name)
        self.disk.make_fs("ext4")
        self.folder = self.disk.mount()
        self.postgres = harness.Postgres(self.folder)
        self.postgres.start()
        harness.run(os.path.join(harness.PG_BIN, "pgbench"), "-i", "-q", "-s", "10", env=self.postgres.env)
        self.fill()

    def fill(self):
        """Each block of fio's file once: where the first write of a block also finds it a place, in this file system and in the one below the loop
        disk, a write takes three times as long, and the first rounds measured that."""
        harness.run("fio", "--name=load", f"--directory={self.folder}", "--rw=write", "--bs=1m", "--size=512m", "--ioengine=libaio",
                    "--iodepth=8", "--direct=1", "--end_fsync=1", "--output=/dev/null", timeout=300)

    def fio(self, seconds):
        out = harness.fresh("fio.json")
        harness.run("fio", "--name=load", f"--directory={self.folder}", "--rw=randwrite", "--bs=4k", "--size=512m",
                    "--ioengine=libaio", "--iodepth=8", "--direct=1", f"--rate_iops={WRITES_PER_S}", "--fdatasync=32",
                    "--time_based", f"--runtime={seconds}", "--refill_buffers", "--buffer_compress_percentage=50",
                    "--output-format=json", f"--output={out}", timeout=seconds + 120)
        with open(out) as f:
            write = json.load(f)["jobs"][0]["write"]
        return {"per_s": write["iops"], "p99_ms": write["clat_ns"]["percentile"]["99.000000"] / 1e6}

    def pgbench(self, seconds):
        prefix = harness.fresh("pgbench")
        process = self.postgres.pgbench("-c", CLIENTS, "-j", 2, "-T", seconds, "-n", "-l", f"--log-prefix={prefix}")
        harness.check(process.wait(seconds + 120) == 0, "pgbench failed")
        latencies = []
        for log in glob.glob(prefix + ".*"):
            with open(log) as f:
                latencies += [int(line.split()[2]) / 1000 for line in f]
            os.unlink(log)
        return {"per_s": len(latencies) / seconds, "p99_ms": percentile(latencies, 0.99)}


def compare(name, protected, bare, rounds, seconds, agent):
    """Medians over the turns; both kinds take theirs one after the other, in changing order."""
    found = {"protected": [], "bare": []}
    began, agent_began = time.monotonic(), cpu_seconds(agent)
    for number in range(TURNS * rounds):
        turns = [("protected", protected), ("bare", bare)]
        for kind, place in turns if number % 2 == 0 else reversed(turns):
            found[kind].append(getattr(place, name)(seconds))
    share = (cpu_seconds(agent) - agent_began) / (time.monotonic() - began)
    middle = {kind: {key: statistics.median(r[key] for r in results) for key in results[0]} for kind, results in found.items()}
    shown = {key: round(value, 3) for key, value in middle["protected"].items()} | {"agent_cores": round(share, 3)}
    peers = {key: round(value, 3) for key, value in middle["bare"].items()}
    figure(f"source_cost.{name}_throughput", middle["protected"]["per_s"] / middle["bare"]["per_s"], "x unprotected",
           ">= 0.97", peers=peers, leeward=shown)
    figure(f"source_cost.{name}_p99", middle["protected"]["p99_ms"] / middle["bare"]["p99_ms"], "x unprotected", "<= 1.2",
           peers=peers, leeward=shown)


class Probe(threading.Thread):
    """A writer that notes how long each of its writes took: what a freeze holds up."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.path = os.path.join(folder, "probe")
        self.taken = []
        self.ended = threading.Event()

    def run(self):
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        while not self.ended.wait(0.001):
            begin = time.monotonic()
            os.pwrite(fd, b"x", 0)
            self.taken.append((begin, time.monotonic() - begin))
        os.close(fd)

    def longest_between(self, begin, end):
        return max((took for at, took in self.taken if begin <= at <= end), default=0)


def freezes(site, place):
    """The longest wait of the probe around each point that was made in a freeze, under the load of fio."""
    probe = Probe(place.folder)
    load = harness.start(["fio", "--name=load", f"--directory={place.folder}", "--rw=randwrite", "--bs=4k", "--size=512m",
                          "--ioengine=libaio", "--iodepth=8", "--direct=1", f"--rate_iops={WRITES_PER_S}", "--fdatasync=32",
                          "--time_based", "--runtime=300", "--output=/dev/null"])
    probe.start()
    waits, missed = [], 0
    for _ in range(FREEZES):
        begin = time.monotonic()
        if site.cli_result("point", "create", site.machine()["id"], "--fs").returncode == 0:
            waits.append(1000 * probe.longest_between(begin, time.monotonic()))
        else:
            missed += 1
    harness.stop(load)
    probe.ended.set()
    probe.join()
    harness.check(waits, "no point was made in a freeze")
    figure("source_cost.freeze_p99", percentile(waits, 0.99), "ms that a writer waited", "<= 60",
           leeward={"points": len(waits), "given_up": missed, "median_ms": round(statistics.median(waits), 2)})


def measure(options):
    own, others = halves()
    os.sched_setaffinity(0, own)
    protected, bare = Place("protected"), Place("bare")
    site = harness.Site()
    site.protect(protected.disk)
    pin_site(site, own, others)
    agent = site.pid_of("agent")
    seconds = max(3, options.seconds // 6)
    crash_before = sum(p["frozen"] for p in site.points())
    compare("fio", protected, bare, options.rounds, seconds, agent)
    compare("pgbench", protected, bare, options.rounds, seconds, agent)
    figure("source_cost.freezes", sum(p["frozen"] for p in site.points()) - crash_before, "crash-consistent points frozen",
           "<= 0", leeward={"points": len(site.points())})
    freezes(site, protected)
    site.stop()
