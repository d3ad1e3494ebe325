# SPDX-License-Identifier: Apache-2.0
"""What the disk's own users feel of an initial copy: latency of 4 KiB writes with fdatasync alone, beside a copy that yields (the
default policy), and beside one that does not. Ratios to the latency alone; how fast the copies went meanwhile stands beside them.

The disk serves one request after the other and takes a fixed time for each, as a disk with a head does (nbdkit), so that what is measured is
the queue before it and not how busy the processors are.
"""
import json
import os
import time

import harness
from figure import figure

MIB = 1 << 20
READ_MS, WRITE_MS = 4, 1  # each for 64 KiB
RAMP_S = 4  # from the first write on the copy has to find out that there is somebody


class QueueDisk(harness.Disk):
    """A loop disk over an NBD server whose requests wait for each other."""

    def __init__(self, size_bytes):
        folder, socket = harness.fresh("queue"), harness.fresh("queue.sock")
        os.mkdir(folder)
        harness.start(["nbdkit", "-f", "-U", socket, "--filter=blocksize", "--filter=noparallel", "--filter=delay", "memory", str(size_bytes),
                       "maxdata=64k", "serialize=all-requests", f"rdelay={READ_MS}ms", f"wdelay={WRITE_MS}ms"], log=socket + ".log")
        harness.wait_until(lambda: os.path.exists(socket), "nbdkit to serve", 20)
        self.path = os.path.join(folder, "disk")
        harness.start(["nbdfuse", self.path, f"nbd+unix:///?socket={socket}"], log=folder + ".log")
        harness.wait_until(lambda: os.path.exists(self.path) and os.path.getsize(self.path), "nbdfuse to serve it", 20)
        harness.defer(lambda: harness.run("fusermount3", "-u", folder, ok=None))
        self.device, _ = harness.attach_loop(self.path, "--direct-io=on")
        self.size_bytes, self.mount_point = size_bytes, None


def run_load(mount_point, seconds):
    """Mean and 99th percentile of a write with its sync, in milliseconds."""
    out = harness.fresh("fio.json")
    harness.run("fio", "--name=load", f"--filename={mount_point}/load", "--rw=randwrite", "--bs=4k", "--size=16m", "--overwrite=1",
                "--ioengine=psync", "--fdatasync=1", "--rate_iops=25", "--time_based", f"--ramp_time={RAMP_S}", f"--runtime={seconds}",
                "--output-format=json", f"--output={out}", timeout=seconds + 120)
    with open(out, encoding="utf-8") as f:
        job = json.load(f)["jobs"][0]
    sync, write = job["sync"]["lat_ns"], job["write"]["clat_ns"]
    return (sync["mean"] + write["mean"]) / 1e6, sync["percentile"]["99.000000"] / 1e6


def copied(site):
    return int(site.machine()["initial_done_bytes"])


def beside_copy(mount_point, disk, yields, seconds):
    site = harness.Site()
    site.cli("policy", "set", "default", "--yield", yields)
    site.protect(disk, wait=False)
    harness.wait_until(lambda: copied(site) > 8 * MIB, "the copy to be under way", 120, 0.2)
    before, began = copied(site), time.monotonic()
    measured = run_load(mount_point, seconds)
    speed = (copied(site) - before) / (time.monotonic() - began)
    harness.note(f"yield {yields}: {measured}, {before / MIB:.0f} to {copied(site) / MIB:.0f} MiB in {time.monotonic() - began:.1f} s")
    harness.check(not site.points(), "the copy was over before the load was")
    site.stop()
    return (*measured, speed / MIB)


def measure(options):
    seconds = min(options.seconds, 12)
    disk = QueueDisk(768 * MIB)
    disk.make_fs("ext4")
    mount_point = disk.mount()
    harness.run("sh", "-c", f"head -c {512 * MIB} /dev/urandom > {mount_point}/content; sync", timeout=300)
    harness.run("sh", "-c", f"head -c {16 * MIB} /dev/urandom > {mount_point}/load; sync", timeout=120)
    alone, alone_p99 = run_load(mount_point, seconds)
    kept, kept_p99, kept_speed = beside_copy(mount_point, disk, "yes", seconds)
    hurt, hurt_p99, hurt_speed = beside_copy(mount_point, disk, "no", seconds)
    ours = {"alone_ms": round(alone, 2), "alone_p99_ms": round(alone_p99, 2), "yielding_ms": round(kept, 2), "yielding_p99_ms": round(kept_p99, 2),
            "copy_mib_per_s": round(kept_speed, 1)}
    theirs = {"not_yielding_ms": round(hurt, 2), "not_yielding_p99_ms": round(hurt_p99, 2), "copy_mib_per_s": round(hurt_speed, 1)}
    figure("yield.latency_ratio", kept / alone, "x the workload alone", "<= 1.5", peers=theirs, leeward=ours)
    figure("yield.improvement", hurt / kept, "x less latency than without yielding", ">= 2", peers=theirs, leeward=ours)
    figure("yield.not_starved", kept_speed, "MiB/s of the copy meanwhile", ">= 0.2", peers=theirs, leeward=ours)
