# SPDX-License-Identifier: Apache-2.0
"""What the orchestration of a failover adds to the boot of the guest, and what a failback sends.

Overhead: from the request until the replica's disks are there, with a target that starts nothing; the boot comes on top. Failback: 1 % of a disk rewritten on
the replica in random 4 KiB blocks; all bytes that travel, hashes included, beside what differs and beside the disk that a full copy would send. How long the
machine is down is what the job's own steps say: from the replica's stop to the moment at which the original is the machine."""
import datetime
import random
import statistics

import harness
from figure import figure

DISK_BYTES = 1 << 30
BLOCK = 4096


def rewrite(uri, share, seed):
    """That share of the disk's blocks, each once; how many bytes."""
    rng = random.Random(seed)
    blocks = rng.sample(range(DISK_BYTES // BLOCK), int(DISK_BYTES // BLOCK * share))
    for at in range(0, len(blocks), 500):
        words = [w for b in blocks[at:at + 500] for w in ("-c", f"write -P {rng.randrange(1, 255)} {b * BLOCK} {BLOCK}")]
        harness.run("qemu-io", "-f", "raw", *words, "-c", "flush", uri)
    return len(blocks) * BLOCK


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def down_s(site):
    job = next(j for j in site.items("job", "list") if j["kind"] == "failover_failback")
    steps = {s["name"]: s for s in site.cli("job", "show", job["id"])["steps"]}
    return moment(steps["settle"]["finished_at"]) - moment(steps["stop"]["started_at"])


def fail_back(site, name, seed):
    failover = site.cli("failover", "unplanned", name)
    site.cli("failover", "commit", name)
    site.cli("failover", "reprotect", name)
    uri = next(b for b in site.items("branch", "list") if b["id"] == failover["branch_id"])["uri"]
    changed = rewrite(uri, 0.01, seed)
    moved = site.cli("failover", "failback", name, "--confirm", name, timeout=600)["result"]["failback"]
    return changed, moved, down_s(site)


def measure(options):
    disk = harness.Disk(DISK_BYTES)
    disk.fill_random(DISK_BYTES // BLOCK // 4)
    site = harness.Site()
    site.protect(disk)
    name = site.machine()["name"]
    site.settled_point()
    seconds = []
    for _ in range(max(options.rounds, 3)):
        drill = site.cli("failover", "test", name)
        seconds.append(drill["rto_seconds"])
        site.cli("failover", "cleanup", drill["id"])
    figure("failover.overhead", statistics.median(seconds), "s without guest boot", "<= 1", leeward={"rounds_s": seconds})
    changed, moved, down = fail_back(site, name, 1)
    allowed = 1.1 * changed + harness.MIB
    figure("failback.traffic", moved["traffic_bytes"] / allowed, "x (1.1 x bytes changed + 1 MiB)", "<= 1",
           peers={"full_copy_bytes": DISK_BYTES},
           leeward={"changed_bytes": changed, "traffic_bytes": moved["traffic_bytes"], "passes": moved["passes"], "down_s": round(down, 2)})
    site.stop()
