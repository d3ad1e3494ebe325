#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A point of a disk that stands still is the disk, byte for byte: whatever its size, sectors, partitions and content."""
import os
import random

from harness import MIB, Disk, Site, check, image_of, main, run, test


def same_as_disk(site, disk, number=None, sequence=None):
    point = site.settled_point()
    export = site.open(sequence or point["sequence"])
    copy = export.copy(number)
    check(os.path.getsize(copy) == disk.size_bytes,
          f"the point has {os.path.getsize(copy)} bytes and the disk {disk.size_bytes}")
    if image_of(copy) != image_of(disk.device):
        raise_first_difference(copy, disk.device)
    export.close()
    os.unlink(copy)


def raise_first_difference(copy, device):
    differences = run("bash", "-c", f"cmp -l '{copy}' '{device}' | head -3; cmp -l '{copy}' '{device}' | wc -l", ok=None)
    check(False, f"the point differs from {device} (byte, point, disk; count): {' | '.join(differences.split(chr(10)))}")


@test
def raw_disk_without_a_file_system_is_identical():
    disk = Disk(128 * MIB)
    disk.fill_random(3000)
    site = Site()
    site.protect(disk)
    same_as_disk(site, disk)
    # Changes, overwritten ones and zeroes among them, and a discard.
    disk.fill_random(2000, seed=2)
    disk.fill_random(300, seed=2)
    run("blkdiscard", "--offset", 16 * MIB, "--length", 8 * MIB, disk.device)
    run("blkdiscard", "--zeroout", "--offset", 40 * MIB, "--length", 4 * MIB, disk.device)
    same_as_disk(site, disk)


@test
def earlier_points_keep_what_the_disk_held_then():
    disk = Disk(64 * MIB)
    disk.fill_random(500)
    site = Site()
    site.protect(disk)
    held = []
    for seed in range(5):
        disk.fill_random(200, seed=100 + seed)
        point = site.settled_point()
        held.append((point["sequence"], image_of(disk.device)))
    for sequence, image in held:
        export = site.open(sequence)
        check(image_of(export.copy()) == image, f"point {sequence} is not what the disk held then")
        export.close()


@test
def disk_of_odd_size_is_identical_to_its_last_byte():
    disk = Disk(64 * MIB + 1024 + 512)
    check(disk.size_bytes % 4096 != 0, "the disk has a size of whole blocks")
    disk.fill_random(300)
    end = disk.size_bytes - 1536
    with open(disk.device, "r+b") as f:
        f.seek(end)
        f.write(random.Random(5).randbytes(1536))
        os.fsync(f)
    site = Site()
    site.protect(disk)
    same_as_disk(site, disk)
    with open(disk.device, "r+b") as f:
        f.seek(disk.size_bytes - 512)
        f.write(random.Random(6).randbytes(512))
        os.fsync(f)
    same_as_disk(site, disk)


@test
def disk_of_4096_byte_sectors_is_identical():
    disk = Disk(96 * MIB, sector=4096)
    disk.make_fs("ext4")
    folder = disk.mount()
    write_files(folder, 40)
    site = Site()
    site.protect(disk)
    write_files(folder, 40, seed=9)
    disk.unmount()
    same_as_disk(site, disk)


@test
def disk_of_several_partitions_is_identical():
    disk = Disk(256 * MIB, partitions=True)
    run("bash", "-c", "printf 'label: gpt\\nsize=60M\\nsize=120M\\nsize=40M\\n' | sfdisk --quiet --no-tell-kernel "
        f"--no-reread {disk.device} && partx --update {disk.device}")
    disk.make_fs("ext4", disk.device + "p1")
    disk.make_fs("btrfs", disk.device + "p2")
    folder = disk.mount(disk.device + "p1")
    site = Site()
    site.protect(disk)
    write_files(folder, 30)
    with open(disk.device + "p3", "r+b") as f:
        f.write(random.Random(7).randbytes(MIB))
        os.fsync(f)
    disk.unmount()
    same_as_disk(site, disk)


def write_files(folder, count, seed=8):
    rng = random.Random(seed)
    for n in range(count):
        with open(os.path.join(folder, f"file-{seed}-{n}"), "wb") as f:
            f.write(rng.randbytes(rng.randrange(200_000)))
            os.fsync(f)


if __name__ == "__main__":
    main()
