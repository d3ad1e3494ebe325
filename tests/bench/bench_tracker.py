# SPDX-License-Identifier: Apache-2.0
"""What tracking takes: nanoseconds of the kernel for each write, the agent's memory with a disk of 1 TiB, and its share of a
core at 20 MB/s of churn with a point every second.

The programs' time is the kernel's own measure (kernel.bpf_stats_enabled), all of it divided by the writes to the protected disk: what
they spend on other disks' requests is counted against us. A program that does nothing runs on the same events in the same moment: what the
kernel says of that is the floor, the reading of its clock above all. The figure has it in; `above_floor_ns` is without."""
import json
import os
import subprocess
import sys
import time

import harness
from figure import figure

CHURN_MB_PER_S = 20
WRITERS = 2
BPFFS = "/sys/fs/bpf/leeward"


def fio(folder, seconds, *options):
    out = harness.fresh("fio.json")
    harness.run("fio", "--name=load", f"--directory={folder}", "--size=512m", "--direct=1", "--ioengine=libaio", "--time_based",
                f"--runtime={seconds}", "--output-format=json", f"--output={out}", *options, timeout=seconds + 120)
    with open(out) as f:
        return json.load(f)["jobs"][0]["write"]


def writes_of(device):
    with open(f"/sys/block/{os.path.basename(device)}/stat") as f:
        return int(f.read().split()[4])


def id_of(link):
    return json.loads(harness.run("bpftool", "-j", "link", "show", "pinned", link))["prog_id"]


def spent_by(ids):
    """(nanoseconds, runs) of these programs, in all."""
    programs = [json.loads(harness.run("bpftool", "-j", "prog", "show", "id", number)) for number in ids]
    return sum(p.get("run_time_ns", 0) for p in programs), sum(p.get("run_cnt", 0) for p in programs)


FLOOR = os.path.join(harness.BIN, "tracker_floor")
FLOOR_OBJECT = os.path.join(harness.BIN, "..", "tests", "tracker_floor.bpf.o")


def expect_floor():
    """A build without tests, as ./quickstart makes it, has no such program."""
    missing = [os.path.normpath(path) for path in (FLOOR, FLOOR_OBJECT) if not os.path.exists(path)]
    if missing:
        sys.exit(f"bench tracker: this build has no {' and no '.join(missing)}; it comes with the tests: run ./check --quick and give --build "
                 "build/check, or build with -DBUILD_TESTING=ON")


def attach_floor():
    """The process that keeps the programs that do nothing, and their ids."""
    process = subprocess.Popen([FLOOR, FLOOR_OBJECT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    entry = harness.defer(process.communicate)
    ids = process.stdout.read().split()
    harness.check(len(ids) == 2, "the programs that do nothing are not there")
    return entry, ids


def cost_of_a_write(site, disk, folder, seconds):
    before = harness.run("sysctl", "-n", "kernel.bpf_stats_enabled").strip()
    harness.run("sysctl", "-q", "-w", "kernel.bpf_stats_enabled=1")
    undo = harness.defer(harness.run, "sysctl", "-q", "-w", f"kernel.bpf_stats_enabled={before}")
    floor, floor_ids = attach_floor()
    programs = {name: [id_of(f"{BPFFS}/{site.instance}/{name}")] for name in ("complete", "issue")} | {"floor": floor_ids}
    began, writes = {name: spent_by(ids) for name, ids in programs.items()}, writes_of(disk.device)
    fio(folder, seconds, "--rw=randwrite", "--bs=4k", "--iodepth=8", f"--numjobs={WRITERS}", "--group_reporting")
    ended, writes = {name: spent_by(ids) for name, ids in programs.items()}, writes_of(disk.device) - writes
    harness.undo(floor)
    harness.undo(undo)
    spent = {name: ended[name][0] - began[name][0] for name in programs}
    runs = {name: ended[name][1] - began[name][1] for name in programs}
    total = spent["complete"] + spent["issue"]
    figure("tracker.per_write", total / writes, "ns", "<= 300",
           leeward={"writes": writes, "above_floor_ns": round((total - spent["floor"]) / writes)}
           | {f"{name}_ns_per_run": round(spent[name] / max(1, runs[name])) for name in programs})


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS:"))


def measure(options):
    expect_floor()
    # XFS, because of such a disk it uses little: the first copy is short.
    disk = harness.Disk(1 << 40, name="large")
    disk.make_fs("xfs")
    folder = disk.mount()
    site = harness.Site()
    site.protect(disk)
    agent = site.pid_of("agent")
    seconds = max(5, options.seconds // 3)
    cost_of_a_write(site, disk, folder, seconds)
    newest = site.wait_point_after(time.time())
    began, cpu = time.monotonic(), cpu_seconds(agent)
    load = fio(folder, seconds, "--rw=randwrite", "--bs=64k", "--iodepth=4", f"--rate={CHURN_MB_PER_S}m", "--fdatasync=64",
        "--refill_buffers", "--buffer_compress_percentage=50")
    share = (cpu_seconds(agent) - cpu) / (time.monotonic() - began)
    points = sum(p["sequence"] > newest["sequence"] for p in site.points())
    figure("tracker.agent_cpu", 100 * share, f"% of a core at {CHURN_MB_PER_S} MB/s", "<= 10",
           leeward={"points": points, "churn_mb_per_s": round(load["bw_bytes"] / 1e6, 1)})
    figure("tracker.agent_rss", rss_bytes(agent) / (1 << 20), "MiB with a 1 TiB disk", "<= 64")
    site.stop()
