#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: batches of blocks to a raw disk, no two alike, each batch flushed before the next one. Ends on SIGTERM, between
two batches.     stamps.py DISK BYTES"""
import os
import random
import signal
import struct
import sys
import time

disk, size = sys.argv[1], int(sys.argv[2])
going = True


def end(*_):
    global going
    going = False


signal.signal(signal.SIGTERM, end)
rng = random.Random(1)
fd = os.open(disk, os.O_WRONLY)
number = 0
while going:
    for _ in range(rng.randrange(1, 8)):
        number += 1
        os.pwrite(fd, struct.pack("<Q", number) * 512, rng.randrange(size // 4096) * 4096)
    os.fdatasync(fd)
    time.sleep(0.002)
os.close(fd)
print(number)
