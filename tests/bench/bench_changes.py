# SPDX-License-Identifier: Apache-2.0
"""What it takes to keep one change: 1 % of a disk rewritten in random 4 KiB blocks, every other one compressible, and the bytes that
the vault stores for it (records, marks and index); restic and borg beside it, on an image of the same disk before and after."""
import os
import random
import shutil

import harness
from backup_peers import Borg, Restic, stored_bytes
from figure import figure

SIZE = 256 << 20
BLOCK = 4096


def compressible(rng):
    line = b"%016x a line of a log that says much the same as the one before it\n" % rng.getrandbits(64)
    return (line * (BLOCK // len(line) + 1))[:BLOCK]


def block(rng, number):
    return rng.randbytes(BLOCK) if number % 2 else compressible(rng)


def write_blocks(device, rng, numbers):
    fd = os.open(device, os.O_WRONLY)
    for i, number in enumerate(numbers):
        os.pwrite(fd, block(rng, i), number * BLOCK)
    os.fsync(fd)
    os.close(fd)


def fill(device, rng):
    fd = os.open(device, os.O_WRONLY)
    for at in range(0, SIZE, 256 * BLOCK):
        os.pwrite(fd, b"".join(block(rng, i) for i in range(256)), at)
    os.fsync(fd)
    os.close(fd)


def copied(device, path):
    with open(device, "rb") as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return path


def measure(options):
    rng = random.Random(11)
    disk = harness.Disk(SIZE)
    fill(disk.device, rng)
    folder = harness.fresh("peers")
    os.makedirs(folder)
    image = copied(disk.device, os.path.join(folder, "disk.img"))
    peers = [Restic(folder), Borg(folder)]
    for peer in peers:
        peer.backup(image)
    before = {p.name: p.stored() for p in peers}

    site = harness.Site()
    site.protect(disk)
    site.open(site.settled_point()["sequence"]).close()  # which writes the index of the first copy out
    machines = os.path.join(site.data, "vault", "machines")
    stored = stored_bytes(machines)
    changed = rng.sample(range(SIZE // BLOCK), SIZE // BLOCK // 100)
    write_blocks(disk.device, rng, changed)
    site.settled_point()
    site.stop()  # which writes the index out
    ours = (stored_bytes(machines) - stored) / (len(changed) * BLOCK)

    copied(disk.device, image)
    seconds = {p.name: p.backup(image) for p in peers}
    theirs = {f"{p.name}_x": round((p.stored() - before[p.name]) / (len(changed) * BLOCK), 2) for p in peers}
    theirs.update({f"{name}_s": round(s, 2) for name, s in seconds.items()})
    figure("changes.stored_ratio", ours, "x bytes changed", "<= 0.56", theirs, {"changed_mb": round(len(changed) * BLOCK / 1e6, 2)})
