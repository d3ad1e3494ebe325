# SPDX-License-Identifier: Apache-2.0
"""Age of the newest durable recovery point at an interval of one second, under 50 MB/s of churn: what an operator would find
at any moment, computed every 10 ms from the points' own records. Between two commits the newest point is the one committed
last; its age is the present moment less the moment at which its content held."""
import datetime

import harness
from figure import figure, percentile

CHURN_MB_PER_S = 50


def churn(mount_point, seconds):
    return harness.start(["fio", "--name=churn", f"--directory={mount_point}", "--rw=randwrite", "--bs=64k", "--size=512m",
                          "--ioengine=libaio", "--iodepth=4", "--direct=1", f"--rate={CHURN_MB_PER_S}m", "--fdatasync=64",
                          "--time_based", f"--runtime={seconds}", "--buffer_compress_percentage=50",
                          "--refill_buffers", "--output=/dev/null"])


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def ages_over_time(points):
    """Seconds, every 10 ms from the third commit (the load has started) to the last."""
    ages = []
    for newest, following in zip(points[2:], points[3:]):
        now = moment(newest["committed_at"])
        while now < moment(following["committed_at"]):
            ages.append(now - moment(newest["time"]))
            now += 0.01
    return ages


def measure(options):
    disk = harness.Disk(2 << 30)
    disk.make_fs("ext4")
    mount_point = disk.mount()
    site = harness.Site()
    site.protect(disk)
    load = churn(mount_point, options.seconds)
    load.wait(options.seconds + 60)
    points = sorted(site.points(), key=lambda p: int(p["sequence"]))
    ages = ages_over_time(points)
    harness.check(ages, f"only {len(points)} points in {options.seconds} s")
    shown = {"points": len(points), "frozen": sum(p["frozen"] for p in points), "worst_s": round(max(ages), 3)}
    figure("rpo.p50", percentile(ages, 0.5), f"s at {CHURN_MB_PER_S} MB/s", "<= 1", leeward=shown)
    figure("rpo.p99", percentile(ages, 0.99), f"s at {CHURN_MB_PER_S} MB/s", "<= 2", leeward=shown)
    site.stop()
