# SPDX-License-Identifier: Apache-2.0
"""What the disk's own users feel of an initial copy: latency of 4 KiB writes with fdatasync alone, beside a copy that yields (the
default policy), and beside one that does not. Ratios to the latency alone; how long the copies took stands beside them."""
import json
import threading
import time

import harness
from figure import figure

GIB = 1 << 30


def start_load(mount_point, out, seconds):
    return harness.start(["fio", "--name=load", f"--filename={mount_point}/load", "--rw=randwrite", "--bs=4k", "--size=64m",
                          "--ioengine=psync", "--fdatasync=1", "--rate_iops=400", "--time_based", f"--runtime={seconds}",
                          "--output-format=json", f"--output={out}"])


def latency(out):
    """Mean and 99th percentile of a write with its sync, in milliseconds."""
    with open(out, encoding="utf-8") as f:
        job = json.load(f)["jobs"][0]
    sync, write = job["sync"]["lat_ns"], job["write"]["clat_ns"]
    return (sync["mean"] + write["mean"]) / 1e6, sync["percentile"]["99.000000"] / 1e6


def beside_copy(mount_point, disk, yields, seconds):
    site = harness.Site()
    site.cli("policy", "set", "default", "--yield", yields)
    out = harness.fresh("fio.json")
    load = start_load(mount_point, out, seconds)
    time.sleep(1)
    took = []
    began = time.monotonic()
    site.protect(disk, wait=False)
    copy = threading.Thread(target=lambda: (site.wait_protected(300), took.append(time.monotonic() - began)))
    copy.start()
    load.wait(seconds + 60)
    copy.join()
    site.stop()
    return (*latency(out), took[0])


def measure(options):
    seconds = min(options.seconds, 12)
    disk = harness.Disk(3 * GIB)
    disk.make_fs("ext4")
    mount_point = disk.mount()
    harness.run("sh", "-c", f"head -c {2 * GIB} /dev/urandom > {mount_point}/content; sync")
    out = harness.fresh("fio.json")
    start_load(mount_point, out, 5).wait(60)
    alone, alone_p99 = latency(out)
    kept, kept_p99, kept_s = beside_copy(mount_point, disk, "yes", seconds)
    hurt, hurt_p99, hurt_s = beside_copy(mount_point, disk, "no", seconds)
    ours = {"alone_ms": round(alone, 3), "alone_p99_ms": round(alone_p99, 3), "yielding_ms": round(kept, 3), "yielding_p99_ms": round(kept_p99, 3),
            "copy_s": round(kept_s, 1)}
    theirs = {"not_yielding_ms": round(hurt, 3), "not_yielding_p99_ms": round(hurt_p99, 3), "copy_s": round(hurt_s, 1)}
    figure("yield.latency_ratio", kept / alone, "x the workload alone", "<= 1.5", peers=theirs, leeward=ours)
    figure("yield.improvement", hurt_p99 / kept_p99, "x less 99th percentile than without yielding", ">= 1.2", peers=theirs,
           leeward=ours)
    figure("yield.p99_ratio", kept_p99 / alone_p99, "x the workload alone", "<= 2", peers=theirs, leeward=ours)
