#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Damaged history: a bit that flipped and a segment that was cut. Nobody is ever given wrong bytes; `vault verify` names the
points that are hit; replication goes on and heals."""
import glob
import os
import random

from harness import MIB, Disk, Failure, Site, check, image_of, main, note, test, wait_until


def prepared():
    disk = Disk(64 * MIB)
    disk.fill_random(2500)
    site = Site()
    site.protect(disk)
    held = {}
    for seed in range(3):
        disk.fill_random(400, seed=30 + seed)
        point = site.settled_point()
        held[point["sequence"]] = image_of(disk.device)
    return site, disk, held


def segments(site):
    found = glob.glob(os.path.join(site.data, "vault", "machines", "*", "main", "*.seg"))
    check(found, "the vault has no segments")
    return sorted(found, key=lambda p: (os.path.getsize(p), p))


def restart(site):
    site.stop()
    yield
    site.start()


def read_is_right_or_refused(site, sequence, image):
    """True: the right bytes. False: an error. Anything else is a Failure."""
    try:
        export = site.open(sequence)
        copy = export.copy()
    except Failure as refusal:
        note("point", sequence, "is refused:", str(refusal)[-160:])
        return False
    right = image_of(copy) == image
    export.close()
    check(right, f"point {sequence} was given with wrong bytes")
    return True


def verify(site):
    answer = site.cli_result("vault", "verify", "-o", "json", timeout=180)
    return answer.returncode, answer.stdout + answer.stderr


def same_after_all(site, disk):
    def same():
        point = site.settled_point()
        export = site.open(point["sequence"])
        copy = export.copy()
        equal = image_of(copy) == image_of(disk.device)
        export.close()
        os.unlink(copy)
        return equal
    wait_until(same, "a point that is the disk again", 120, 1)


@test
def sound_history_verifies():
    site, _, _ = prepared()
    status, said = verify(site)
    check(status == 0, f"verify of a sound vault ended with {status}: {said[-400:]}")


@test
def flipped_bit_is_found_and_never_given_out():
    site, disk, held = prepared()
    steps = restart(site)
    next(steps)
    path = segments(site)[-1]
    size = os.path.getsize(path)
    with open(path, "r+b") as f:
        for at in sorted(random.Random(4).sample(range(4096, size - 4096), 6)):
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 0x10]))
    for _ in steps:
        pass
    status, said = verify(site)
    note("verify:", status, said[-300:])
    check(status == 1 and '"segment"' in said, f"verify does not name the damage: {said[-300:]}")
    outcomes = [read_is_right_or_refused(site, sequence, image) for sequence, image in held.items()]
    note("points right:", outcomes)
    site.machine()


@test
def cut_segment_costs_the_newest_points_alone():
    site, disk, held = prepared()
    steps = restart(site)
    next(steps)
    path = max(segments(site), key=os.path.getmtime)
    os.truncate(path, os.path.getsize(path) - 300)
    for _ in steps:
        pass
    first = min(held)
    check(read_is_right_or_refused(site, first, held[first]), "an older point can no longer be read")
    for sequence, image in held.items():
        read_is_right_or_refused(site, sequence, image)
    disk.fill_random(100, seed=77)
    same_after_all(site, disk)


if __name__ == "__main__":
    main()
