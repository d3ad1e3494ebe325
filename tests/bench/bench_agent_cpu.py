# SPDX-License-Identifier: Apache-2.0
"""CPU of the agent at 20 MB/s of churn, a point every second, in percent of one processor: with the default policy, where changes are
compressed on the agent only while the line is the bottleneck, and beside it with compression on the agent always."""
import os
import time

import harness
from figure import figure

CHURN_MB_PER_S = 20


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written_mb(device):
    with open(f"/sys/block/{os.path.basename(device)}/stat", encoding="ascii") as f:
        return int(f.read().split()[6]) * 512 / 1e6


def percent(site, disk, mount_point, seconds):
    """Of one processor, for 20 MB/s: a loaded machine may have written less."""
    load = harness.start(["fio", "--name=churn", f"--directory={mount_point}", "--rw=randwrite", "--bs=16k", "--size=256m",
                          "--ioengine=libaio", "--iodepth=4", "--direct=1", f"--rate={CHURN_MB_PER_S}m", "--fdatasync=64",
                          "--time_based", f"--runtime={seconds}", "--buffer_compress_percentage=50", "--refill_buffers",
                          "--output=/dev/null"])
    agent = site.pid_of("agent")
    at_first = written_mb(disk.device)
    harness.wait_until(lambda: written_mb(disk.device) > at_first + 2 * CHURN_MB_PER_S, "the load to be under way", 60)
    used, began, wrote = cpu_seconds(agent), time.monotonic(), written_mb(disk.device)
    time.sleep(max(seconds - 5, 5))
    used, passed, wrote = cpu_seconds(agent) - used, time.monotonic() - began, written_mb(disk.device) - wrote
    load.wait(seconds + 60)
    harness.note("wrote", round(wrote / passed, 1), "MB/s, agent", round(100 * used / passed, 2), "%")
    return 100 * used / passed * CHURN_MB_PER_S / (wrote / passed)


def measure(options):
    seconds = min(options.seconds, 20)
    disk = harness.Disk(1 << 30)
    disk.make_fs("ext4")
    mount_point = disk.mount()
    site = harness.Site()
    site.protect(disk)
    percent(site, disk, mount_point, 6)  # the files are there
    needed = percent(site, disk, mount_point, seconds)
    site.cli("policy", "set", "default", "--compress-level", "0")  # the node compresses nothing: the agent always does
    always = percent(site, disk, mount_point, seconds)
    site.cli("policy", "set", "default", "--compress-level", "1", "--compress-at-agent", "no")
    never = percent(site, disk, mount_point, seconds)
    figure("agent.cpu_percent", needed, f"% of a processor at {CHURN_MB_PER_S} MB/s", "<= 10",
           peers={"always_compressing": round(always, 2), "never_compressing": round(never, 2)})
    site.stop()
