# SPDX-License-Identifier: Apache-2.0
"""Joins a control group, leaves it little memory and takes that, until the kernel has killed somebody for it. Small itself, so that it is
not the one.     take_memory.py FOLDER LIMIT USAGE EVENTS    (names of files in the folder)"""
import mmap
import os
import sys

SPARE, PIECE = 1 << 20, 1 << 18
folder, limit, usage, events = sys.argv[1:]


def read(name):
    with open(os.path.join(folder, name)) as f:
        return f.read()


def write(name, text):
    fd = os.open(os.path.join(folder, name), os.O_WRONLY)
    os.write(fd, text.encode())
    os.close(fd)


def kills():
    return next(line for line in read(events).splitlines() if line.startswith("oom_kill "))


before, taken = kills(), []
write("cgroup.procs", "0")
for _ in range(20):
    try:
        write(limit, str(int(read(usage)) + SPARE))
        break
    except OSError:  # more was taken meanwhile
        continue
while kills() == before and len(taken) < 400:
    taken.append(mmap.mmap(-1, PIECE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    for at in range(0, PIECE, mmap.PAGESIZE):
        taken[-1][at] = 1
