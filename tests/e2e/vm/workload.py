#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: files whose loss or damage shows. File n goes to slot n % SLOTS of each folder, as `n length sha256` and random
bytes; it is synced, renamed into place and its folder synced before n is printed, so what was printed must be in any later point.

    workload.py write FOLDER... [--count N] [--pause S]    prints n after each round over all folders
    workload.py verify ACKNOWLEDGED FOLDER...               exit 1 and the reason when a file is damaged or older than it may be
"""
import hashlib
import os
import random
import sys
import time

SLOTS = 64


def write_file(folder, number, rng):
    data = rng.randbytes(rng.randrange(1, 48 << 10))
    name = os.path.join(folder, f"slot-{number % SLOTS}")
    fd = os.open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, f"{number} {len(data)} {hashlib.sha256(data).hexdigest()}\n".encode() + data)
    os.fsync(fd)
    os.close(fd)
    os.rename(name + ".new", name)
    fd = os.open(folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def write(folders, count, pause_s):
    rng = random.Random()
    number = first = next_number(folders[0])
    while count == 0 or number < first + count:
        for folder in folders:
            write_file(folder, number, rng)
        print(number, flush=True)
        number += 1
        time.sleep(pause_s)


def read_slot(folder, slot):
    """The number in a slot, -1 when it has none; ValueError when it is damaged."""
    try:
        with open(os.path.join(folder, f"slot-{slot}"), "rb") as f:
            head = f.readline().split()
            data = f.read()
    except FileNotFoundError:
        return -1
    if len(head) != 3 or int(head[1]) != len(data) or hashlib.sha256(data).hexdigest().encode() != head[2]:
        raise ValueError(f"{folder}/slot-{slot} is damaged")
    return int(head[0])


def next_number(folder):
    return max(read_slot(folder, slot) for slot in range(SLOTS)) + 1


def verify(folders, acknowledged):
    for folder in folders:
        numbers = [read_slot(folder, slot) for slot in range(SLOTS)]
        for slot, number in enumerate(numbers):
            wanted = acknowledged - (acknowledged - slot) % SLOTS
            if number < wanted:
                raise ValueError(f"{folder}/slot-{slot} holds {number}; {wanted} was synced before the point")
        print(folder, "up to", max(numbers))


def main(arguments):
    if arguments[0] == "verify":
        verify(arguments[2:], int(arguments[1]))
        return
    options = {"--count": "0", "--pause": "0.02"}
    for name in options:
        if name in arguments:
            at = arguments.index(name)
            options[name] = arguments[at + 1]
            del arguments[at:at + 2]
    write(arguments[1:], int(options["--count"]), float(options["--pause"]))


try:
    main(sys.argv[1:])
except ValueError as problem:
    print(problem, file=sys.stderr)
    sys.exit(1)
