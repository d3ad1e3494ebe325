#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""FORMAT.md is enough: a reader made from the two documents alone (vault_reader.py) opens points from copies of vault.key, meta, keys
and main/*.seg, and agrees byte for byte with nbdcopy of the same points. What was tampered with it refuses. Its three modules come
from PyPI, at exact versions, into a virtual environment in the build folder; this program runs on inside it."""
import glob
import os
import random
import shutil
import struct
import sys

from harness import BIN, MIB, Disk, Site, check, fresh, image_of, main, note, run, test

MODULES = ("cryptography==50.0.2", "xxhash==4.1.0", "zstandard==0.25.0")
VENV = os.path.join(os.path.dirname(BIN), "reader-venv")
if os.path.realpath(sys.prefix) != os.path.realpath(VENV):
    python, complete = os.path.join(VENV, "bin", "python3"), os.path.join(VENV, "complete")
    if not os.path.exists(complete) or open(complete).read().split() != list(MODULES):
        run(sys.executable, "-m", "venv", "--clear", VENV)
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *MODULES, timeout=600)
        with open(complete, "w") as f:
            f.write("\n".join(MODULES))
    os.execv(python, [python, "-B", *sys.argv])

import vault_reader
from vault_reader import Point, Refused

HEADER, BLOCK = vault_reader.HEADER, vault_reader.BLOCK
RANDOM_BYTES = 72 * MIB  # more than a segment holds, so that one is sealed


# ---- a disk with a history ----

def write(disk, at, data):
    fd = os.open(disk.device, os.O_WRONLY)
    try:
        check(os.pwrite(fd, data, at) == len(data), "a short write")
        os.fsync(fd)
    finally:
        os.close(fd)


def text_of(n, word):
    return (word * (n // len(word) + 1))[:n]


def first_content(disk):
    rng = random.Random(7)
    for at in range(0, RANDOM_BYTES, MIB):
        write(disk, at, rng.randbytes(MIB))
    write(disk, 80 * MIB, text_of(4 * MIB, b"leeward "))


def second_content(disk):
    """Blocks written anew, zeros written, a range discarded, a place that was empty."""
    rng = random.Random(8)
    for _ in range(200):
        write(disk, rng.randrange(RANDOM_BYTES // 4096) * 4096, rng.randbytes(4096))
    write(disk, 10 * MIB, bytes(MIB))
    write(disk, 81 * MIB + 512, bytes(3 * 512))
    run("blkdiscard", "--offset", 20 * MIB, "--length", 2 * MIB, disk.device)
    write(disk, 95 * MIB, rng.randbytes(MIB))


def third_content(disk):
    """Some of that again: over zeros, over what the second had written, and zeros over it."""
    rng = random.Random(9)
    write(disk, 10 * MIB + 8192, text_of(128 * 1024, b"again and "))
    write(disk, 21 * MIB + 512, rng.randbytes(70 * 1024))
    write(disk, 95 * MIB + 65536, bytes(65536))
    for _ in range(50):
        write(disk, rng.randrange(RANDOM_BYTES // 4096) * 4096, rng.randbytes(4096))


# ---- the vault's files ----

def copied_files(site):
    """vault.key, meta and the segments as they are now, in a folder that has nothing else. The vault goes on writing: segments
    first, since meta is durable before anything that relies on it stands in the log."""
    machine = site.machine()["id"]
    source, target = os.path.join(site.data, "vault"), fresh("files")
    folder = os.path.join("machines", machine)
    os.makedirs(os.path.join(target, folder, "main"))
    for path in sorted(glob.glob(os.path.join(source, folder, "main", "*.seg"))):
        shutil.copy(path, os.path.join(target, folder, "main"))
    for name in ("meta", "keys"):  # in this order: keys is durable before the meta that needs it
        if os.path.exists(os.path.join(source, folder, name)):
            shutil.copy(os.path.join(source, folder, name), os.path.join(target, folder))
    shutil.copy(os.path.join(source, "vault.key"), target)
    return target, machine


def segment_with_mark(files, machine, sequence):
    """The segment that has this mark, its data records up to there, and the record of the mark."""
    for path in sorted(glob.glob(os.path.join(files, "machines", machine, "main", "*.seg"))):
        data, at, in_segment = vault_reader.read_file(path), vault_reader.FIRST_RECORD, []
        while at < len(data):
            r = vault_reader.record_at(data, at)
            if r.kind == vault_reader.DATA:
                in_segment.append(r)
            if r.kind == vault_reader.MARK:
                if vault_reader.parse_mark(r.payload).sequence == sequence:
                    return path, in_segment, r
            at += HEADER + len(r.payload)
    check(False, f"no mark {sequence} in the copied files")


def refusal(files, machine, sequence):
    try:
        Point(files, machine, sequence)
    except Refused as refused:
        return str(refused)
    check(False, "the reader opened what was tampered with")


def with_bytes(path, at, data, question):
    """What `question` answers while the file has these bytes there."""
    with open(path, "r+b") as f:
        f.seek(at)
        before = f.read(len(data))
        f.seek(at)
        f.write(data)
        f.flush()
        answer = question()
        f.seek(at)
        f.write(before)
    return answer


def flipped(path, at, question):
    return with_bytes(path, at, bytes([vault_reader.read_file(path)[at] ^ 1]), question)


# ---- tests ----

@test
def reader_of_the_files_alone_agrees_with_nbdcopy():
    disk = Disk(96 * MIB)
    first_content(disk)
    site = Site()
    site.protect(disk)
    wanted = [(site.settled_point()["sequence"], image_of(disk.device))]
    for change in (second_content, third_content):
        site.cli("machine", "rotate-key", site.machine()["id"])
        change(disk)
        wanted.append((site.settled_point()["sequence"], image_of(disk.device)))
    check(len({image for _, image in wanted}) == 3, "the disk did not change between the points")
    files, machine = copied_files(site)
    for sequence, source in wanted:
        point = Point(files, machine, int(sequence))
        note(f"point {sequence}:", dict(point.seen))
        check(list(point.images) == [min(point.mark.disks)], f"disks {list(point.images)}")
        export = site.open(sequence)
        with open(export.copy(), "rb") as copy:
            check(bytes(next(iter(point.images.values()))) == copy.read(), f"point {sequence}: reader and nbdcopy differ")
        export.close()
        image = fresh("raw.img")
        run(sys.executable, "-B", vault_reader.__file__, files, machine, sequence, min(point.mark.disks), image)
        check(image_of(image) == source, f"point {sequence}: the raw image is not what the disk held")
    check(len(point.meta.keys) == 3, f"{len(point.meta.keys)} data keys")
    for what in ("seals", "zero records", "encrypted", "compressed", "rewritten", "under older keys"):
        check(point.seen[what], f"the log had no {what}: this test showed less than it says")
    check(point.seen["encrypted"] == point.seen["data records"], "a record was stored without encryption")
    tampering_is_refused(files, machine, int(wanted[1][0]))
    a_promoted_branch_is_in_the_log(site, wanted[0][0])


def a_promoted_branch_is_in_the_log(site, sequence):
    """Promotion makes a branch's segments those of the main line: the reader needs to know nothing of it."""
    machine = site.machine()["id"]
    branch = site.cli("branch", "create", f"{machine}@{sequence}")
    run("qemu-io", "-f", "raw", "-c", "write -P 7 3M 192k", "-c", "flush", "-c", "write -z 10M 64k", "-c", "flush", branch["uri"])
    site.cli("machine", "unprotect", machine)
    promoted = int(site.cli("branch", "promote", branch["id"])["result"]["sequence"])
    files, _ = copied_files(site)
    point = Point(files, machine, promoted)
    with open(site.open(promoted).copy(), "rb") as copy:
        check(bytes(next(iter(point.images.values()))) == copy.read(), "the promoted point: reader and nbdcopy differ")


def tampering_is_refused(files, machine, sequence):
    ask = lambda: refusal(files, machine, sequence)
    path, in_segment, mark = segment_with_mark(files, machine, sequence)
    r = in_segment[-1]
    said = flipped(path, r.at + HEADER + len(r.payload) // 2, ask)
    check("does not open" in said, f"a flipped payload byte: {said}")
    said = flipped(path, mark.at + HEADER + 100, ask)
    check("is damaged" in said, f"a flipped byte of a mark: {said}")
    said = flipped(path, r.at + 20, ask)
    check("header at" in said and "is damaged" in said, f"a flipped byte of a header: {said}")
    moved = moved_record(r)
    said = with_bytes(path, r.at, moved, ask)
    check("not the one" in said or "does not open" in said, f"a record that was moved: {said}")
    first = os.path.join(os.path.dirname(path), f"{1:016x}.seg")
    said = flipped(first, len(vault_reader.read_file(first)) - 1, ask)
    check("seal at" in said and "is damaged" in said, f"a flipped byte of a seal: {said}")
    keys_are_refused(files, machine, ask)
    os.rename(first, first + ".gone")
    said = ask()
    check("not the whole log" in said, f"a segment that is missing: {said}")
    os.rename(first + ".gone", first)
    said = refusal(files, machine, 1)
    check("not a recovery point" in said, f"a mark of the initial replication: {said}")
    Point(files, machine, sequence)  # all of it was put back: the refusals were for these reasons


@test
def reader_follows_rewritten_segments():
    """A history of 500 points, thinned to five, its segments rewritten by the vault's own code."""
    folder, machine = fresh("history"), "07000000-0000-0000-0000-000000000000"
    os.makedirs(os.path.join(folder, "machines"))
    os.symlink("../machine", os.path.join(folder, "machines", machine))
    with open(os.path.join(folder, "vault.key"), "w") as f:
        f.write("0" * 64 + "\n")
    run(os.path.join(BIN, "vault_history"), folder, "64M", 500, 120, 4096, 100, 4000, "thin", 100, timeout=120)
    for sequence in (100, 300, 500):
        point = Point(folder, machine, sequence)
        note(f"point {sequence}:", dict(point.seen))
        check(point.seen["rewritten segments"] >= 2, "nothing was rewritten: this test showed less than it says")
        check(bytes(point.images[0]) == copy_of_point(folder, sequence), f"point {sequence}: reader and nbdcopy differ")
    said = refusal(folder, machine, 250)
    check("was dropped" in said or "has no mark" in said, f"a dropped point: {said}")
    first = os.path.join(folder, "machine", "main", f"{1:016x}.seg")
    said = flipped(first, os.path.getsize(first) - 1, lambda: refusal(folder, machine, 500))
    check("damaged table" in said, f"a flipped byte of a table: {said}")
    said = flipped(first, 80, lambda: refusal(folder, machine, 500))
    check("damaged header" in said, f"a flipped byte of the header: {said}")


def copy_of_point(folder, sequence):
    """What the nbdkit plugin serves of disk 0."""
    image = fresh("point.img")
    run("nbdkit", "-U", "-", os.path.join(BIN, "leeward-vault-nbd.so"), f"machine={folder}/machine", f"key-file={folder}/key",
        f"sequence={sequence}", "--run", f"nbdcopy \"$uri\" {image}", timeout=120)
    with open(image, "rb") as f:
        return f.read()


def moved_record(r):
    """The header with another place and a check that fits: only the key tells."""
    header = bytearray(r.header)
    struct.pack_into("<Q", header, 16, r.start - BLOCK if r.start >= BLOCK else r.start + BLOCK)
    struct.pack_into("<I", header, 60, vault_reader.check32(bytes(header[:60])))
    return bytes(header)


def keys_are_refused(files, machine, ask):
    said = with_bytes(os.path.join(files, "vault.key"), 0, b"5a" * 32, ask)
    check("vault key does not fit" in said, f"a wrong vault key: {said}")
    said = flipped(os.path.join(files, "machines", machine, "meta"), 60, ask)
    check("meta is damaged" in said, f"a damaged meta: {said}")
    keys = os.path.join(files, "machines", machine, "keys")
    said = flipped(keys, 40, ask)
    check("keys is damaged" in said, f"damaged keys: {said}")


if __name__ == "__main__":
    main()
